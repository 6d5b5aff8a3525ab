//! One run of a task of the example family, in a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    tests::example::main()
}
