//! `infra`, built beside the tests that start it.

use std::process::ExitCode;

fn main() -> ExitCode {
    infra::main()
}
