use std::process::ExitCode;

fn main() -> ExitCode {
    otx::main_of("export_pulses_to_misp")
}
