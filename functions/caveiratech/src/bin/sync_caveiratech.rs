use std::process::ExitCode;

fn main() -> ExitCode {
    caveiratech::main_of("sync_caveiratech")
}
