use std::process::ExitCode;

fn main() -> ExitCode {
    caveiratech::main_of("full_sync_caveiratech")
}
