//! All 27 functions, each built apart and started as AWS starts it: what they are invoked with, what they refuse to work on,
//! and how soon they ask for work.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::time::Duration;

use infra::template::SCHEDULE_INPUT;
use jiff::{SignedDuration, Timestamp};
use schedule::{Row, Timetable};
use serde_json::{Value, json};

use super::platform::{Answer, Platform};
use super::sources::{FEED, Sources};
use crate::runner::built_apart;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("every_task_answers_every_kind_of_event", every_task_answers_every_kind_of_event),
    ("no_function_works_on_a_disk_that_vanishes", no_function_works_on_a_disk_that_vanishes),
    ("every_function_soon_asks_for_work", every_function_soon_asks_for_work),
];

/// A row's own limit, and more than any run on stand-ins takes.
const TIMEOUT: Duration = Duration::from_secs(300);

pub(crate) fn timetable() -> Timetable {
    Timetable::parse(infra::TIMETABLE).unwrap()
}

/// A timed rule's event. The form is that of `aws_lambda_events`' fixture for scheduled events.
pub(crate) fn rule_event(task: &str, time: Timestamp) -> Value {
    json!({
        "version": "0", "id": uuid::Uuid::new_v4().to_string(), "detail-type": "Scheduled Event",
        "source": "aws.events", "account": "123456789012", "time": format!("{time:.0}"), "region": "sa-east-1",
        "resources": [format!("arn:aws:events:sa-east-1:123456789012:rule/minerva-{task}")], "detail": {},
    })
}

/// The input of the timetable's own run; one task needs to be told its feed.
pub(crate) fn bare_input(task: &str) -> Value {
    if task == "sync_single_feed" { json!({ "feed": FEED }) } else { json!({}) }
}

/// Every found item went somewhere, in the whole and in each source.
#[track_caller]
pub(crate) fn balanced(report: &Value) {
    let parts =
        ["new", "changed", "unchanged", "merged", "filtered", "rejected", "failed", "deferred"];
    let sources = report["sources"].as_array().unwrap_or_else(|| panic!("{report}"));
    for counts in sources.iter().chain([report]) {
        let number =
            |name: &str| counts[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}"));
        assert_eq!(number("found"), parts.map(number).iter().sum::<u64>(), "{report}");
    }
}

/// The row's last two firings before noon; for a task on demand two instants.
fn slots(row: &Row, timetable: &Timetable) -> [Timestamp; 2] {
    let noon: Timestamp = "2026-03-01T15:00:00Z".parse().unwrap();
    let second = SignedDuration::from_secs(1);
    match &row.when {
        Some(when) => {
            let last = when.last_at_or_before(noon, timetable.zone()).unwrap();
            [when.last_at_or_before(last - second, timetable.zone()).unwrap(), last]
        }
        None => [noon - SignedDuration::from_hours(1), noon],
    }
}

fn every_task_answers_every_kind_of_event() {
    let sources = Sources::start();
    let home = tempfile::tempdir().unwrap();
    let own = [
        ("MINERVA_DATA_DIR", home.path().join("data").to_str().unwrap()),
        ("MINERVA_CLOCK", "slot"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = sources.settings(&home.path().join("export"), &own);
    let platform = Platform::start(&built_apart(), &settings);
    let timetable = timetable();
    for row in timetable.rows() {
        let task = row.name.as_str();
        let check = |event: &Value, slot: Option<Timestamp>, statuses: &[&str]| {
            let answer: Answer = platform.invoke(task, event, TIMEOUT);
            let report =
                answer.unwrap_or_else(|error| panic!("{event}: {error}\n{}", platform.log(task)));
            balanced(&report);
            let status = report["status"].as_str().unwrap();
            assert!(statuses.contains(&status), "{event}: {report}");
            assert_eq!(
                (&report["task"], &report["slot"]),
                (&json!(task), &json!(slot)),
                "{report}"
            );
        };
        let [first, second] = slots(row, &timetable);
        // A rule's event may come late; Scheduler says the instant it meant.
        let rule = rule_event(task, first + SignedDuration::from_secs(20));
        let scheduler: Value = serde_json::from_str(
            &SCHEDULE_INPUT.replace("<aws.scheduler.scheduled-time>", &second.to_string()),
        )
        .unwrap();
        if bare_input(task) == json!({}) {
            check(&rule, Some(first), &["complete"]);
            check(&rule, Some(first), &["skipped"]);
            check(&scheduler, Some(second), &["complete"]);
        } else {
            // Nothing starts it by time, and it says what it needs.
            for event in [&rule, &scheduler] {
                let error = platform.invoke(task, event, TIMEOUT).unwrap_err();
                assert_eq!(error["errorType"], "Function.Config", "{error}");
                assert!(error["errorMessage"].as_str().unwrap().contains("one feed"), "{error}");
            }
        }
        for meant in [task, "another_task"] {
            let continuation = json!({
                "version": "0", "id": "x", "source": "minerva", "detail-type": "Minerva Task Continuation",
                "detail": {"task": meant, "run_id": uuid::Uuid::new_v4().to_string(), "step": 1},
            });
            check(&continuation, None, &["skipped"]);
        }
        check(&bare_input(task), None, &["complete"]);
    }
    assert_eq!(timetable.rows().len(), 27);
}

fn no_function_works_on_a_disk_that_vanishes() {
    let sources = Sources::start();
    let home = tempfile::tempdir().unwrap();
    let noon: Timestamp = "2026-03-01T15:00:00Z".parse().unwrap();
    let elasticsearch = ("ES_URL".to_owned(), "http://127.0.0.1:1".to_owned());
    for (own, unset) in
        [(vec![], "no `ES_URL` and `DATABASE_URL`"), (vec![elasticsearch], "no `DATABASE_URL`")]
    {
        let settings = sources.settings(&home.path().join("export"), &own);
        let platform = Platform::start(&built_apart(), &settings);
        for row in timetable().rows() {
            let error = platform.invoke(&row.name, &rule_event(&row.name, noon), TIMEOUT);
            let error = error.expect_err("it works on what vanishes");
            let said = error["errorMessage"].as_str().unwrap();
            assert_eq!(error["errorType"], "Function.Config", "{}, {own:?}: {error}", row.name);
            assert!(said.contains(unset), "{}, {own:?}: {said}", row.name);
        }
        let left = std::fs::read_dir(platform.task_root()).unwrap().count();
        assert_eq!(left, 0, "something was stored beside the functions");
    }
}

/// The bar of a release build is 40 ms: `cargo bench -p tests --bench runner` holds it, and `artefacts_` in CI.
#[expect(clippy::print_stdout, reason = "the figures are what one runs it for")]
fn every_function_soon_asks_for_work() {
    let platform = Platform::start(&built_apart(), &[]);
    for row in timetable().rows() {
        let figures = [(); 3].map(|()| platform.cold(&row.name));
        // The fastest of three, since the machine may be busy with something else.
        let fastest = figures.into_iter().min().unwrap();
        let mb = platform.peak_kb(&row.name).unwrap() / 1024;
        println!("{:<30} {:>6.1} ms, {mb} MB", row.name, fastest.as_secs_f64() * 1e3);
        assert!(fastest < Duration::from_secs(1), "{}: {figures:?}", row.name);
    }
}
