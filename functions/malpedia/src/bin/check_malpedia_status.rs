use std::process::ExitCode;

fn main() -> ExitCode {
    malpedia::main_of("check_malpedia_status")
}
