//! The demo on real servers: a day of the timetable over all six families, replayed on Elasticsearch or OpenSearch beside
//! PostgreSQL, gives what it gives on the embedded store.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::BTreeMap;

use serde_json::Value;

use crate::copy::{Check, Servers};
use crate::home::Home;

pub(crate) const CHECKS: &[(&str, Check)] = &[(
    "a_day_of_all_families_is_as_on_the_embedded_store_and_the_next_writes_nothing",
    a_day_of_all_families,
)];

/// What every run's items are told apart by.
const PARTS: [&str; 8] =
    ["new", "changed", "unchanged", "merged", "filtered", "rejected", "failed", "deferred"];
/// Runs of two days, those that fill the library included.
const RUNS: usize = 67;
/// Tasks of those, of all six families.
const TASKS: usize = 11;
/// What the sources' addresses begin with: their ports are others each time.
const LOOPBACK: &str = "127.0.0.1:";

fn a_day_of_all_families(servers: &Servers) {
    let home = Home::of(&[]);
    let there = servers.all();
    let demo = |name: &str, settings: &[(String, String)], further: &[&str]| {
        let folder = home.path(name);
        let arguments = ["demo", "--exit", "--json", "--data-dir", folder.to_str().unwrap()];
        home.run_with(settings, &[&arguments, further].concat())
    };
    let embedded = demo("embedded", &there, &[]).ends_with(0).json();
    assert_eq!(servers.stored(), 0, "nothing reaches a server unasked");
    let placed = demo("servers", &there, &["--servers"]).ends_with(0).json();
    for name in ["indices", "writes_first_day", "runs_executed", "runs_skipped", "sources"] {
        assert_eq!(placed[name], embedded[name], "{name}");
    }
    assert_eq!(placed["runs_executed"], RUNS);
    assert_eq!(placed["writes_second_day"], 0, "{placed}");
    assert!(!home.path("servers/documents.db").exists() && !home.path("servers/state.db").exists());

    let prefix = placed["es_index_prefix"].as_str().unwrap();
    let mut settings = there.clone();
    settings.push(("ES_INDEX_PREFIX".to_owned(), prefix.to_owned()));
    let folder = home.path("embedded");
    let at_home = ["--data-dir", folder.to_str().unwrap()];
    let runs = |settings: &[(String, String)], place: &[&str]| -> Vec<Value> {
        let count = (2 * RUNS).to_string();
        let ran = home.run_with(settings, &[place, &["runs", "--json", "-n", &count]].concat());
        let listed = ran.ends_with(0).json();
        listed.as_array().unwrap().iter().map(|run| run["report"].clone()).collect()
    };
    let placed_runs = runs(&settings, &[]);
    assert_eq!(placed_runs.len(), RUNS, "{placed_runs:?}");
    let mut by_task: BTreeMap<String, u64> = BTreeMap::new();
    for run in &placed_runs {
        let number = |name: &str| run[name].as_u64().unwrap_or_else(|| panic!("{name}: {run}"));
        assert_eq!(number("found"), PARTS.map(number).iter().sum::<u64>(), "{run}");
        assert!(run["status"] == "complete" || run["status"] == "partial", "{run}");
        *by_task.entry(run["task"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(by_task.len(), TASKS, "{by_task:?}");

    let documents = |settings: &[(String, String)], place: &[&str], index: &str| -> Vec<Value> {
        let ran = home.run_with(settings, &[place, &["documents", index]].concat());
        ran.ends_with(0).out.lines().map(without_ports).collect()
    };
    for (index, count) in embedded["indices"].as_object().unwrap() {
        let (here, there) = (documents(&[], &at_home, index), documents(&settings, &[], index));
        assert_eq!(here.len() as u64, count.as_u64().unwrap(), "{index}");
        for (here, there) in here.iter().zip(&there) {
            assert_eq!(here, there, "{index}");
        }
        assert_eq!(here.len(), there.len(), "{index}");
    }

    // What is in use already is left alone.
    let again = demo("again", &there, &["--servers"]);
    again.ends_with(2).says(&[&format!("`{prefix}"), "ES_INDEX_PREFIX"]);
}

/// A document without the ports of its sources, and without the hashes that are of those too.
fn without_ports(line: &str) -> Value {
    let mut parts = line.split(LOOPBACK);
    let first = parts.next().unwrap_or_default().to_owned();
    let is_digit = |one: char| one.is_ascii_digit();
    let plain = parts.fold(first, |all, part| all + LOOPBACK + part.trim_start_matches(is_digit));
    let mut document: Value = serde_json::from_str(&plain).unwrap();
    if plain.contains(LOOPBACK) {
        document["content_hash"] = Value::Null;
        document["owners"]["hashes"] = Value::Null;
    }
    document
}
