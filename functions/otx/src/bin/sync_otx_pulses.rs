use std::process::ExitCode;

fn main() -> ExitCode {
    otx::main_of("sync_otx_pulses")
}
