use std::process::ExitCode;

fn main() -> ExitCode {
    misp::main_of("quick_sync_all_feeds")
}
