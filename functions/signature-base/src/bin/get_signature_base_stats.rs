use std::process::ExitCode;

fn main() -> ExitCode {
    signature_base::main_of("get_signature_base_stats")
}
