use std::process::ExitCode;

fn main() -> ExitCode {
    otx::main_of("reset_otx_daily_usage")
}
