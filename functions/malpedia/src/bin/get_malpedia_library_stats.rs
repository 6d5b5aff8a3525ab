use std::process::ExitCode;

fn main() -> ExitCode {
    malpedia::main_of("get_malpedia_library_stats")
}
