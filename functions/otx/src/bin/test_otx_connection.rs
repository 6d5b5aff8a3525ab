use std::process::ExitCode;

fn main() -> ExitCode {
    otx::main_of("test_otx_connection")
}
