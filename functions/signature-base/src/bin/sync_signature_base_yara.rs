use std::process::ExitCode;

fn main() -> ExitCode {
    signature_base::main_of("sync_signature_base_yara")
}
