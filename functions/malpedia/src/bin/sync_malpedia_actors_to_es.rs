use std::process::ExitCode;

fn main() -> ExitCode {
    malpedia::main_of("sync_malpedia_actors_to_es")
}
