use std::process::ExitCode;

fn main() -> ExitCode {
    misp::main_of("sync_single_feed")
}
