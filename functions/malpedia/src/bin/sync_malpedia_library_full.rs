use std::process::ExitCode;

fn main() -> ExitCode {
    malpedia::main_of("sync_malpedia_library_full")
}
