use std::process::ExitCode;

fn main() -> ExitCode {
    otx::main_of("bulk_enrich_iocs")
}
