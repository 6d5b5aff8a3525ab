use std::process::ExitCode;

fn main() -> ExitCode {
    malpedia::main_of("sync_malpedia_families_to_es")
}
