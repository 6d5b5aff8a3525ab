use std::process::ExitCode;

fn main() -> ExitCode {
    caveiratech::main_of("get_caveiratech_stats")
}
