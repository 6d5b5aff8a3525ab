//! The integration tests, in one binary: the standard harness cannot skip at run time, this one can, by name.

use std::io::Write as _;
use std::process::ExitCode;

use base::config;
use libtest_mimic::{Arguments, Trial};
use tests::services::search::{self, Kind};
use tests::services::{self, postgres};

use crate::trial::{is_steady, trial};

mod adopt;
mod bounds;
mod bucket;
mod caveiratech;
mod clients;
mod cloud;
mod commands;
mod contract;
mod copy;
mod cron;
mod demo;
mod documents;
mod ecs;
mod enrich;
mod example;
mod export;
mod faults;
mod feed_costs;
mod feed_items;
mod feeds;
mod folder;
mod home;
mod hostile;
mod indicator;
mod kills;
mod lambda;
mod listener;
mod llm;
mod lookup;
mod malpedia;
mod malpedia_catalogue;
mod malpedia_rules;
mod malpedia_stats;
mod malpedia_stores;
mod malpedia_values;
mod memory;
mod ministack;
mod misp;
mod misp_export;
mod operations;
mod operator;
mod otx;
mod owners;
mod packaging;
mod page;
mod readers;
mod retention;
mod runner;
mod secrets;
mod servers;
mod slots;
mod state;
mod state_postgres;
mod tidy;
mod trial;
mod truth;
mod upgrade;
mod yara;
mod yara_costs;

/// A test: its name and what it does; a panic is its failure.
type Case = (&'static str, fn());

/// Every module and its tests.
const MODULES: &[(&str, &[Case])] = &[
    ("bounds", bounds::TRIALS),
    ("bucket", bucket::TRIALS),
    ("caveiratech", caveiratech::TRIALS),
    ("clients", clients::TRIALS),
    ("cloud", cloud::TRIALS),
    ("cloud", cloud::moto::TRIALS),
    ("cloud", cloud::roles::TRIALS),
    ("cloud", cloud::wiring::TRIALS),
    ("commands", commands::TRIALS),
    ("contract", contract::TRIALS),
    ("cron", cron::TRIALS),
    ("ecs", ecs::TRIALS),
    ("enrich", enrich::TRIALS),
    ("example", example::TRIALS),
    ("export", export::TRIALS),
    ("feed_costs", feed_costs::TRIALS),
    ("feed_items", feed_items::TRIALS),
    ("feeds", feeds::TRIALS),
    ("folder", folder::TRIALS),
    ("hostile", hostile::TRIALS),
    ("indicator", indicator::TRIALS),
    ("kills", kills::TRIALS),
    ("lambda", lambda::TRIALS),
    ("lambda", lambda::protocol::TRIALS),
    ("lambda", lambda::ends::TRIALS),
    ("lambda", lambda::artefacts::TRIALS),
    ("lambda", lambda::day::TRIALS),
    ("lambda", lambda::invoked::TRIALS),
    ("lambda", lambda::tasks::TRIALS),
    ("listener", listener::TRIALS),
    ("llm", llm::TRIALS),
    ("lookup", lookup::TRIALS),
    ("malpedia", malpedia::TRIALS),
    ("malpedia_catalogue", malpedia_catalogue::TRIALS),
    ("malpedia_stats", malpedia_stats::TRIALS),
    ("malpedia_values", malpedia_values::TRIALS),
    ("misp", misp::TRIALS),
    ("misp", misp::again::TRIALS),
    ("misp", misp::events::TRIALS),
    ("misp", misp::kills::TRIALS),
    ("misp", misp::lists::TRIALS),
    ("misp", misp::long::TRIALS),
    ("malpedia_rules", malpedia_rules::TRIALS),
    ("misp_export", misp_export::TRIALS),
    ("memory", memory::TRIALS),
    ("ministack", ministack::TRIALS),
    ("operations", operations::TRIALS),
    ("operator", operator::TRIALS),
    ("otx", otx::TRIALS),
    ("otx", otx::keys::TRIALS),
    ("otx", otx::known::TRIALS),
    ("owners", owners::TRIALS),
    ("packaging", packaging::TRIALS),
    ("page", page::TRIALS),
    ("retention", retention::TRIALS),
    ("runner", runner::TRIALS),
    ("slots", slots::TRIALS),
    ("tidy", tidy::TRIALS),
    ("secrets", secrets::TRIALS),
    ("truth", truth::TRIALS),
    ("upgrade", upgrade::TRIALS),
    ("yara", yara::TRIALS),
    ("yara_costs", yara_costs::TRIALS),
];

fn main() -> ExitCode {
    if let Some(code) = ::yara::apart::serve()
        .or_else(yara_costs::reader)
        .or_else(faults::writer)
        .or_else(state::contended::claimer)
        .or_else(indicator::reading)
        .or_else(llm::asker)
    {
        return code;
    }
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = MODULES
        .iter()
        .flat_map(|(module, cases)| {
            cases.iter().map(move |(name, case)| trial(format!("{module}::{name}"), *case))
        })
        .collect();
    trials.extend(state::trials());
    trials.extend(on_each_document_store());
    trials.extend(faults::trials());
    trials.extend(between_homes());

    let known = |reason: Option<&'static str>| reason.map(ToOwned::to_owned);
    let mut skip = |prefix: &str, is_optional, unavailable: &dyn Fn() -> Option<String>| {
        skip(&arguments, &mut trials, prefix, is_optional, unavailable);
    };
    skip("bucket::", false, &bucket::unavailable);
    skip("clients::", false, &clients::unavailable);
    skip("lambda::artefacts_", true, &lambda::artefacts::unavailable);
    let no_servers = || {
        let elasticsearch = search::service(Kind::Elasticsearch8).unavailable(documents::cache());
        known(postgres::url().err()).or(elasticsearch)
    };
    skip("lambda::the_same_day", false, &no_servers);
    skip("lambda::invoked_", false, &|| no_servers().or_else(clients::unavailable));
    skip("secrets::", false, &secrets::unavailable);
    skip("cloud::lint_", false, &cloud::wiring::no_validators);
    skip("cloud::moto_", false, &cloud::moto::no_moto);
    skip("listener::another_user", true, &|| known(listener::unavailable()));
    skip("export::readers_", false, &export::unavailable);
    skip("misp_export::readers_", false, &export::unavailable);
    skip("export::suricata_", true, &|| known(export::no_suricata()));
    skip("operations::metrics_are_read", false, &operations::no_prometheus);
    skip("operations::what_celery_answers", false, &operations::no_celery);
    skip("packaging::debian_", true, &packaging::no_packages);
    skip("packaging::image_", false, &packaging::no_hadolint);
    skip("page::", false, &|| known(page::unavailable()));
    skip("indicator::the_set_compiled_in", true, &indicator::no_warninglists);
    skip("llm::a_real_small_model", true, &llm::unavailable);
    skip("malpedia::the_real_sample", true, &|| known(malpedia::unavailable()));
    skip("ministack::", false, &ministack::unavailable);
    skip("misp::pymisp", false, &misp::events::unavailable);
    skip("otx::real_pulses_", true, &otx::no_corpus);
    skip("yara::yara_and_yara_x", false, &yara::unavailable);
    skip("yara::the_whole_agrees", true, &yara::no_corpus);
    skip("yara::every_indicator_of_the_whole", true, &yara::no_corpus);
    skip("state::postgres::", false, &|| known(postgres::url().err()));
    skip("state::postgres_server::", false, &|| known(postgres::server().err()));
    for kind in Kind::ALL {
        let unavailable = || search::service(kind).unavailable(documents::cache());
        skip(&format!("documents::{}::", kind.name()), kind.is_optional(), &unavailable);
        // What a trial of whole runs needs stands in its name: this server, and some the others too.
        let (name, is_optional) = (format!("faults::{}", kind.name()), kind.is_optional());
        skip(&format!("{name}::"), is_optional, &unavailable);
        let no_postgres = || known(postgres::url().err());
        skip(&format!("{name}_postgres::"), is_optional, &|| unavailable().or_else(no_postgres));
        let cannot_start = || search::service(kind).cannot_start(documents::cache());
        skip(&format!("{name}_started::"), is_optional, &cannot_start);
        let no_own_postgres = || known(postgres::server().err());
        skip(&format!("{name}_postgres_started::"), is_optional, &|| {
            unavailable().or_else(no_own_postgres)
        });
        let one_of_both = || known(postgres::url().err()).or_else(unavailable);
        for module in ["copy", "demo"] {
            skip(&format!("{module}::{}::", kind.name()), kind.is_optional(), &one_of_both);
        }
    }
    skip("faults::postgres_started::", false, &|| known(postgres::server().err()));
    let conclusion = libtest_mimic::run(&arguments, trials);
    services::stop();
    if is_steady() { conclusion.exit_code() } else { ExitCode::FAILURE }
}

/// The conformance suite on every document store, and on servers their faults.
fn on_each_document_store() -> Vec<Trial> {
    let mut trials = Vec::new();
    for kind in [None].into_iter().chain(Kind::ALL.map(Some)) {
        let store = kind.map_or("embedded", Kind::name);
        let of_servers: &[&[(&str, documents::Check)]] = match kind {
            Some(_) => &[
                servers::CHECKS,
                adopt::CHECKS,
                readers::SERVER_CHECKS,
                malpedia_stores::SERVER_CHECKS,
                caveiratech::SERVER_CHECKS,
                misp::SERVER_CHECKS,
                otx::SERVER_CHECKS,
                upgrade::SERVER_CHECKS,
            ],
            None => &[],
        };
        // What it costs the family is the same with each server.
        let of_one: &[&[(&str, documents::Check)]] = match kind {
            Some(Kind::Elasticsearch8) => &[misp::long::SERVER_CHECKS],
            _ => &[],
        };
        let of_all = [documents::CHECKS, operator::CHECKS, readers::CHECKS];
        for (name, check) in of_all.iter().chain(of_servers).chain(of_one).copied().flatten() {
            trials.push(trial(format!("documents::{store}::{name}"), move || {
                check(&mut documents::Place::new(kind));
            }));
        }
    }
    trials
}

/// `copy` and `demo`, on the embedded store and on each pair of servers.
fn between_homes() -> Vec<Trial> {
    let mut trials = Vec::new();
    for kind in copy::KINDS {
        for (module, checks) in [("copy", copy::CHECKS), ("demo", demo::CHECKS)] {
            for (name, check) in checks {
                trials.push(trial(format!("{module}::{}::{name}", kind.name()), move || {
                    check(&copy::Servers::new(kind));
                }));
            }
        }
    }
    trials
}

/// Marks the tests of that beginning as ignored where what they need cannot be had.
///
/// It is looked for only where they are wanted, as looking installs it. In CI nothing may be missing but what is optional:
/// there the tests run and fail.
fn skip(
    arguments: &Arguments,
    trials: &mut Vec<Trial>,
    prefix: &str,
    is_optional: bool,
    unavailable: &dyn Fn() -> Option<String>,
) {
    let filter = |trial: &Trial| {
        let is_match = |filter: &str| {
            if arguments.exact { trial.name() == filter } else { trial.name().contains(filter) }
        };
        arguments.filter.as_deref().is_none_or(is_match)
            && !arguments.skip.iter().any(|skipped| is_match(skipped))
    };
    if arguments.list
        || (config::variable("CI").is_some() && !is_optional)
        || !trials.iter().any(|trial| trial.name().starts_with(prefix) && filter(trial))
    {
        return;
    }
    let Some(reason) = unavailable() else { return };
    let _ = writeln!(std::io::stderr(), "skipped: {prefix}*: {reason}");
    let marked = std::mem::take(trials).into_iter().map(|trial| {
        let is_skipped = trial.name().starts_with(prefix);
        let ignored = is_skipped || trial.has_ignored_flag();
        trial.with_ignored_flag(ignored)
    });
    *trials = marked.collect();
}
