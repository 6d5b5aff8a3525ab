use std::process::ExitCode;

fn main() -> ExitCode {
    misp::main_of("sync_all_misp_feeds")
}
