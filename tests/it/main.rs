//! The integration tests, in one binary: the standard harness cannot skip at run time, this one can, by name.

use std::io::Write as _;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use shared::config;

mod clients;
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
    ("clients", clients::TRIALS),
    ("contract", contract::TRIALS),
    ("cron", cron::TRIALS),
    ("feeds", feeds::TRIALS),
    ("indicator", indicator::TRIALS),
    ("lambda", lambda::TRIALS),
    ("owners", owners::TRIALS),
    ("tidy", tidy::TRIALS),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = MODULES
        .iter()
        .flat_map(|(module, cases)| {
            cases.iter().map(move |(name, case)| {
                Trial::test(format!("{module}::{name}"), move || {
                    case();
                    Ok(())
                })
            })
        })
        .collect();
    let wanted = |trial: &Trial| {
        let filter = arguments.filter.as_deref().unwrap_or_default();
        trial.name().starts_with("clients::") && trial.name().contains(filter)
    };
    // Looked for only where they are wanted, as looking installs them. In CI nothing may be missing: there the tests run
    // and fail.
    if !arguments.list
        && config::variable("CI").is_none()
        && trials.iter().any(wanted)
        && let Some(reason) = clients::unavailable()
    {
        let _ = writeln!(std::io::stderr(), "skipped: clients::*: {reason}");
        let skip = |trial: Trial| {
            let is_skipped = trial.name().starts_with("clients::");
            trial.with_ignored_flag(is_skipped)
        };
        trials = trials.into_iter().map(skip).collect();
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
