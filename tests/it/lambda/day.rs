//! One day of the timetable in both homes: local-runner's replay on the embedded store, and AWS, where the rendered rules fire
//! and functions that were built apart store in Elasticsearch and PostgreSQL. Both end in equal documents.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use infra::plan::{Plan, Target, When};
use infra::utc;
use jiff::{SignedDuration, Timestamp};
use schedule::{Api, Schedule};
use serde_json::{Value, json};
use stores::documents::Index;
use tests::services::search::Kind;

use super::platform::Platform;
use super::sources::Sources;
use super::tasks::{balanced, rule_event, timetable};
use crate::copy::Servers;
use crate::home::{ALL, Home, Upstream, numbered};
use crate::runner::built_apart;

pub(crate) const TRIALS: &[crate::Case] =
    &[("the_same_day_ends_in_equal_stores", the_same_day_ends_in_equal_stores)];

/// Nine in the morning in São Paulo: pulses come before what enriches and exports them at night.
const MORNING: &str = "2026-03-01T12:00:00Z";

/// The sources live on in each of these.
const STRETCH: SignedDuration = SignedDuration::from_hours(2);

/// What fills the library that is enriched at night; no row of the timetable does.
const BEFORE: [&str; 2] = ["sync_malpedia_library_bibtex", "sync_malpedia_all_to_es"];

/// Feeds that take so long that the first run cannot visit all in the time it is given.
const SLOW_FEEDS: usize = 16;
const SLOW: Duration = Duration::from_millis(600);
const SHORT: Duration = Duration::from_secs(4);

/// The rules, fired and matched as EventBridge does, and the functions behind them.
struct Cloud {
    platform: Platform,
    /// By task its timed rules, the pattern of its continuations, and its limit.
    rules: BTreeMap<String, (Vec<Schedule>, Value, Duration)>,
    continuations: usize,
    figures: BTreeMap<String, Figures>,
}

/// What the runs of a task took.
#[derive(Default)]
struct Figures {
    runs: u32,
    longest_ms: u64,
    most_processor: Duration,
    peak_kb: u64,
}

impl Cloud {
    fn start(settings: &[(String, String)]) -> Self {
        let timetable = timetable();
        let plan = Plan::of(&timetable, Target::Rules).unwrap();
        let rules = plan.functions.iter().map(|function| {
            let timed = function.starts.iter();
            let timed = timed.map(|start| Schedule::parse(&start.expression, Api::Rule).unwrap());
            let When::On(pattern) = function.continuation.when.clone() else {
                panic!("a continuation comes at no time")
            };
            let limit = Duration::from_secs(u64::from(function.row.timeout_s));
            (function.row.name.clone(), (timed.collect(), pattern, limit))
        });
        Self {
            platform: Platform::start(&built_apart(), settings),
            rules: rules.collect(),
            continuations: 0,
            figures: BTreeMap::new(),
        }
    }

    /// What fires in a stretch, in order.
    fn firings(&self, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, String)> {
        let mut all = Vec::new();
        for (task, (timed, _, _)) in &self.rules {
            let first = utc::next_of(timed, from - SignedDuration::from_secs(1));
            let firings = std::iter::successors(first, |at| utc::next_of(timed, *at));
            all.extend(firings.take_while(|at| *at < to).map(|at| (at, task.clone())));
        }
        all.sort();
        all
    }

    /// Delivers an event as EventBridge may, twice; then the continuations, each to whom its pattern names.
    fn deliver(&mut self, task: &str, event: &Value, limit: Option<Duration>) {
        let limit = limit.unwrap_or(self.rules[task].2);
        self.once(task, event, limit);
        let mut put = self.platform.take_put();
        while !put.is_empty() {
            for event in std::mem::take(&mut put) {
                let meant: Vec<String> = self
                    .rules
                    .iter()
                    .filter(|(_, (_, pattern, _))| matches(pattern, &event))
                    .map(|(task, _)| task.clone())
                    .collect();
                assert_eq!(meant, [task], "{event}");
                self.continuations += 1;
                self.once(task, &event, limit);
                put.extend(self.platform.take_put());
                self.is_done(task, &event, limit);
            }
        }
        self.is_done(task, event, limit);
    }

    fn once(&mut self, task: &str, event: &Value, limit: Duration) {
        self.platform.warm(task);
        let before = self.platform.processor(task);
        let answer = self.platform.deliver(task, event, limit);
        let report =
            answer.unwrap_or_else(|error| panic!("{task}: {error}\n{}", self.platform.log(task)));
        balanced(&report);
        assert_ne!(report["status"], "skipped", "{report}");
        let figures = self.figures.entry(task.to_owned()).or_default();
        figures.runs += 1;
        figures.longest_ms = figures.longest_ms.max(report["took_ms"].as_u64().unwrap());
        // A process that was ended and replaced begins anew.
        let processor = self.platform.processor(task).saturating_sub(before);
        figures.most_processor = figures.most_processor.max(processor);
        figures.peak_kb = figures.peak_kb.max(self.platform.peak_kb(task).unwrap_or_default());
    }

    fn is_done(&self, task: &str, event: &Value, limit: Duration) {
        let again = self.platform.invoke(task, event, limit).unwrap();
        assert_eq!(again["status"], "skipped", "{again}");
    }
}

/// Whether an event fits a pattern of lists of values.
fn matches(pattern: &Value, event: &Value) -> bool {
    match pattern {
        Value::Object(fields) => fields.iter().all(|(name, part)| matches(part, &event[name])),
        Value::Array(values) => values.contains(event),
        other => panic!("{other} is no pattern"),
    }
}

/// Every file below a folder, by its name there.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let read = |path: &Path| std::fs::read(path).unwrap();
    entries
        .filter(|entry| entry.path().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), read(&entry.path())))
        .collect()
}

#[expect(clippy::print_stdout, reason = "the figures are what one runs it for")]
fn the_same_day_ends_in_equal_stores() {
    let sources = Sources::start();
    let upstream = Upstream::start(1);
    let slow: Vec<(String, String)> = (0..SLOW_FEEDS)
        .map(|number| {
            let id = format!("slow-{number:02}");
            let url = upstream.slow(&id, SLOW, numbered(number, 3));
            (id, url)
        })
        .collect();
    sources.add_feeds(&slow);
    let clock = ("MINERVA_CLOCK".to_owned(), "slot".to_owned());
    let with = |home: Home, settings: Vec<(String, String)>| {
        settings.into_iter().fold(home, |home, (name, value)| home.with(&name, value))
    };
    let local = Home::of(&[]);
    let settings = sources.settings(&local.path("export"), std::slice::from_ref(&clock));
    let local = with(local, settings);
    let store = local.path("replay");
    let store = ["--data-dir", store.to_str().unwrap()];

    let servers = Servers::new(Kind::Elasticsearch8);
    let own = [servers.all(), vec![clock]].concat();
    let remote = with(Home::of(&[]), own.clone());
    let mut cloud = Cloud::start(&sources.settings(&remote.path("export"), &own));

    let morning: Timestamp = MORNING.parse().unwrap();
    let mut runs = 0;
    for slot in 0..12 {
        sources.advance(slot);
        let from = morning + STRETCH * i32::try_from(slot).unwrap();
        let to = from + STRETCH;
        let [first, last] = [from, to - SignedDuration::from_secs(1)].map(|at| at.to_string());
        let replay = ["replay", "--json", "--from", &first, "--to", &last];
        let replayed = local.run(&[&replay[..], &store].concat());
        let replayed = replayed.ends_with(0).json()["runs"].clone();
        let firings = cloud.firings(from, to);
        let local_runs: u64 =
            replayed.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(local_runs, firings.len() as u64, "{from}: {replayed}, {firings:?}");
        runs += firings.len();
        for (at, task) in &firings {
            let event = rule_event(task, *at + SignedDuration::from_secs(7));
            let is_short = slot == 0 && task == ALL;
            cloud.deliver(task, &event, is_short.then_some(SHORT));
        }
        if slot == 0 {
            for task in BEFORE {
                let event = rule_event(task, from);
                let input = event.to_string();
                let run = ["run", task, "--json", "--input", &input];
                let ran = local.run(&[&run[..], &store].concat());
                assert_eq!(ran.ends_with(0).json()["status"], "complete", "{ran:?}");
                cloud.deliver(task, &event, None);
            }
        }
    }
    println!("{runs} runs, {} continuations", cloud.continuations);
    for (task, Figures { runs, longest_ms, most_processor, peak_kb }) in &cloud.figures {
        println!(
            "{task:<30} {runs:>3} runs, at most {longest_ms:>6} ms, {:>6} ms of a processor, {:>4} MB",
            most_processor.as_millis(),
            peak_kb / 1024
        );
    }
    assert!(cloud.continuations > 0, "every run had time enough");

    let mut stored = BTreeMap::new();
    for index in Index::all() {
        let ours = local.run(&[&["documents", index.name][..], &store].concat());
        let ours = ours.ends_with(0).out.clone();
        let theirs = remote.documents_of(index.name);
        let mut pairs = ours.lines().zip(theirs.lines());
        if let Some((ours, theirs)) = pairs.find(|(ours, theirs)| ours != theirs) {
            panic!("{}: at home\n{ours}\nand in the cloud\n{theirs}", index.name);
        }
        assert_eq!(ours.lines().count(), theirs.lines().count(), "{}", index.name);
        stored.insert(index.name, ours.lines().count());
    }
    println!("{}", json!(stored));
    assert!(stored.values().all(|count| *count > 0), "{stored:?}");
    let export = files(&local.path("export"));
    assert!(export.len() > 2 && export == files(&remote.path("export")), "{:?}", export.keys());
}
