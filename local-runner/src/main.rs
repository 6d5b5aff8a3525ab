use std::process::ExitCode;

fn main() -> ExitCode {
    local_runner::main()
}
