//! `local-runner`, built beside the tests that start it.

use std::process::ExitCode;

fn main() -> ExitCode {
    local_runner::main()
}
