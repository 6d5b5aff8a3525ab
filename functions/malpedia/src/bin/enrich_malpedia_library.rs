use std::process::ExitCode;

fn main() -> ExitCode {
    malpedia::main_of("enrich_malpedia_library")
}
