//! The integration tests, in one binary: the standard harness cannot skip at run time, this one can, by name.

use libtest_mimic::{Arguments, Trial};

mod contract;
mod cron;
mod feeds;
mod indicator;
mod lambda;
mod owners;
mod tidy;

/// A test: its name and what it does; a panic is its failure.
type Case = (&'static str, fn());

/// Every module and its tests.
const MODULES: &[(&str, &[Case])] = &[
    ("contract", contract::TRIALS),
    ("cron", cron::TRIALS),
    ("feeds", feeds::TRIALS),
    ("indicator", indicator::TRIALS),
    ("lambda", lambda::TRIALS),
    ("owners", owners::TRIALS),
    ("tidy", tidy::TRIALS),
];

fn main() {
    let arguments = Arguments::from_args();
    let trials = MODULES.iter().flat_map(|(module, cases)| {
        cases.iter().map(move |(name, case)| {
            Trial::test(format!("{module}::{name}"), move || {
                case();
                Ok(())
            })
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
