//! The integration tests, in one binary: the standard harness cannot skip at run time, this one can, by name.

use std::io::Write as _;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use shared::config;

mod clients;
mod commands;
mod contract;
mod cron;
mod feeds;
mod home;
mod hostile;
mod indicator;
mod kills;
mod lambda;
mod owners;
mod page;
mod runner;
mod tidy;

/// A test: its name and what it does; a panic is its failure.
type Case = (&'static str, fn());

/// Every module and its tests.
const MODULES: &[(&str, &[Case])] = &[
    ("clients", clients::TRIALS),
    ("commands", commands::TRIALS),
    ("contract", contract::TRIALS),
    ("cron", cron::TRIALS),
    ("feeds", feeds::TRIALS),
    ("hostile", hostile::TRIALS),
    ("indicator", indicator::TRIALS),
    ("kills", kills::TRIALS),
    ("lambda", lambda::TRIALS),
    ("owners", owners::TRIALS),
    ("page", page::TRIALS),
    ("runner", runner::TRIALS),
    ("tidy", tidy::TRIALS),
];

/// Why something from outside is not there, if it is not.
type Missing = fn() -> Option<&'static str>;

/// Modules that need what this workspace does not build, and why it is not there, if it is not.
const OUTER_PARTS: &[(&str, Missing)] =
    &[("clients::", clients::unavailable), ("page::", page::unavailable)];

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
    if !arguments.list && config::variable("CI").is_none() {
        trials = skip_what_cannot_be_had(&arguments, trials);
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Marks the tests of a module whose outer parts are missing, and says what they are. Not in CI: there they run and fail.
fn skip_what_cannot_be_had(arguments: &Arguments, mut trials: Vec<Trial>) -> Vec<Trial> {
    let filter = arguments.filter.as_deref().unwrap_or_default();
    for (module, unavailable) in OUTER_PARTS {
        let is_theirs = |trial: &Trial| trial.name().starts_with(module);
        // Looked for only where they are wanted, as looking may install them.
        if !trials.iter().any(|trial| is_theirs(trial) && trial.name().contains(filter)) {
            continue;
        }
        if let Some(reason) = unavailable() {
            let _ = writeln!(std::io::stderr(), "skipped: {module}*: {reason}");
            let skip = |trial: Trial| {
                let is_skipped = is_theirs(&trial) || trial.has_ignored_flag();
                trial.with_ignored_flag(is_skipped)
            };
            trials = trials.into_iter().map(skip).collect();
        }
    }
    trials
}
