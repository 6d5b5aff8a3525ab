//! The keys of OTX: what each may be used for in a day, by however many at once, and what becomes of one that is refused.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base::report::{Outcome, Status};
use otx::pulse;
use serde_json::{Value, json};

use super::{Apart, Home, PROCESS_LIMIT, counts, many, notes};
use crate::documents::block_on;

pub(crate) const TRIALS: &[crate::Case] = &[
    (
        "processes_use_each_key_up_to_its_limit_and_never_beyond",
        processes_use_each_key_up_to_its_limit_and_never_beyond,
    ),
    (
        "processes_go_on_with_the_key_that_is_not_refused",
        processes_go_on_with_the_key_that_is_not_refused,
    ),
    (
        "a_key_that_is_refused_leaves_the_others_alone",
        a_key_that_is_refused_leaves_the_others_alone,
    ),
    (
        "no_key_is_used_beyond_its_limit_and_each_up_to_it",
        no_key_is_used_beyond_its_limit_and_each_up_to_it,
    ),
    ("a_reset_and_midnight_agree", a_reset_and_midnight_agree),
    ("the_keys_live_in_the_zone_of_the_timetable", the_keys_live_in_the_zone_of_the_timetable),
    ("a_test_names_each_key_by_its_digest", a_test_names_each_key_by_its_digest),
    ("without_a_key_the_setting_is_named", without_a_key_the_setting_is_named),
];

/// Runs of each worker, more than there are uses for.
const RUNS: usize = 30;

/// Uses of each key after four workers ran the family's tasks one after the other, each in a process of its own.
fn used_by_processes(otx: &Apart) -> BTreeMap<String, u32> {
    let home = &otx.home();
    let work = |task: &'static str| {
        move || {
            for _ in 0..RUNS {
                let ran = home.run(&["run", task, "--json", "--clock", crate::home::CLOCK]);
                assert!(matches!(ran.code, Some(0 | 1)), "{ran:?}");
            }
        }
    };
    std::thread::scope(|scope| {
        let tasks = ["sync_otx_pulses", "bulk_enrich_iocs"];
        let tests = ["test_otx_connection"; 2];
        let workers: Vec<_> =
            tasks.into_iter().chain(tests).map(|task| scope.spawn(work(task))).collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
    otx.server.set(|otx| otx.keys.clone())
}

/// Pulses that take more requests than both keys have.
fn costly() -> Vec<Value> {
    let mut pulses = many(250);
    pulses.iter_mut().for_each(|one| one["more_indicators"] = json!(true));
    pulses
}

fn processes_use_each_key_up_to_its_limit_and_never_beyond() {
    let otx = Apart::start(costly());
    let used = used_by_processes(&otx);
    let limit = |key: &str| (key.to_owned(), PROCESS_LIMIT);
    assert_eq!(used, BTreeMap::from(["one", "two"].map(limit)));
}

fn processes_go_on_with_the_key_that_is_not_refused() {
    const REFUSED_FROM: u32 = 10;
    let otx = Apart::start(costly());
    otx.server.set(|otx| otx.refused = Some(("one", 429, REFUSED_FROM)));
    let used = used_by_processes(&otx);
    assert_eq!(used["two"], PROCESS_LIMIT, "the other is used up");
    // Requests that were under way when it was refused, one a process.
    assert!((REFUSED_FROM..REFUSED_FROM + 4).contains(&used["one"]), "{used:?}");
}

fn a_key_that_is_refused_leaves_the_others_alone() {
    block_on(async {
        for status in [403, 429] {
            let home = Home::of(many(45)).await;
            home.server.set(|otx| otx.refused = Some(("one", status, 1)));
            let report = home.sync().await;
            assert_eq!(counts(&report, pulse::INDEX).new, 45);
            let told = notes(&report);
            assert!(told.contains("rests until") && !told.contains("key one"), "{told}");
            home.server.set(|otx| assert_eq!((otx.keys["one"], otx.keys["two"]), (1, 3)));
        }
        let home = Home::with(many(45), &[("OTX_API_KEY", "one")]).await;
        home.server.set(|otx| otx.refused = Some(("one", 429, 1)));
        let report = home.run("sync_otx_pulses").await;
        assert_eq!(report.sources[0].outcome, Outcome::BudgetSpent, "{report:?}");
        // It is not asked while its key rests.
        home.run("sync_otx_pulses").await;
        home.server.set(|otx| assert_eq!(otx.keys["one"], 1));
    });
}

fn no_key_is_used_beyond_its_limit_and_each_up_to_it() {
    block_on(async {
        let home = Home::with(Vec::new(), &[("OTX_DAILY_LIMIT", "5")]).await;
        let home = &home;
        let worker = async || {
            for _ in 0..2 {
                home.run("test_otx_connection").await;
            }
        };
        // Eight uses of each key are wanted.
        tokio::join!(worker(), worker(), worker(), worker());
        home.server.set(|otx| assert_eq!((otx.keys["one"], otx.keys["two"]), (5, 5)));
    });
}

fn a_reset_and_midnight_agree() {
    let limit = [("OTX_DAILY_LIMIT", "2"), ("OTX_API_KEY", "one")];
    // Midnight in São Paulo is 03:00 UTC.
    let at = |clock: &'static str| [limit[0], limit[1], ("MINERVA_CLOCK", clock)];
    let slot = |time: &str| json!({"source": "aws.events", "detail-type": "Scheduled Event", "time": time, "detail": {}});
    let spent = async |home: &Home| {
        let report = home.run("sync_otx_pulses").await;
        assert_eq!(report.sources[0].outcome, Outcome::BudgetSpent, "{report:?}");
    };
    block_on(async {
        let home = Home::with(many(3), &at("2026-03-01T12:00:00Z")).await;
        home.run("test_otx_connection").await;
        home.run("test_otx_connection").await;
        spent(&home).await;
        // However late it runs: the slot of the day on which they were used clears none of these uses.
        let late = home
            .run_within(
                "reset_otx_daily_usage",
                slot("2026-03-01T03:00:00Z"),
                Duration::from_secs(60),
            )
            .await;
        assert_eq!((&late.detail["day"], &late.detail["reset"]), (&json!("2026-03-01"), &json!(0)));
        spent(&home).await;
        // Still the same day; and a minute later another one, whoever resets or not.
        let home = home.reopened(&at("2026-03-02T02:59:00Z")).await;
        spent(&home).await;
        let home = home.reopened(&at("2026-03-02T03:00:00Z")).await;
        assert_eq!(counts(&home.sync().await, pulse::INDEX).new, 3);
        let reset = home
            .run_within(
                "reset_otx_daily_usage",
                slot("2026-03-02T03:00:00Z"),
                Duration::from_secs(60),
            )
            .await;
        assert_eq!(
            (&reset.detail["day"], &reset.detail["reset"]),
            (&json!("2026-03-02"), &json!(1))
        );
        assert_eq!(reset.detail["keys"][0]["spent"], 1, "today's stands: {reset:?}");
        home.run("test_otx_connection").await;
        spent(&home).await;
        // On demand it does.
        assert_eq!(home.run("reset_otx_daily_usage").await.detail["reset"], 1);
        home.sync().await;
        home.server.set(|otx| assert_eq!(otx.keys["one"], 2 + 2 + 2));
    });
}

/// The keys' days end when the timetable says that they are reset.
fn the_keys_live_in_the_zone_of_the_timetable() {
    let text = std::fs::read_to_string(
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../infra/schedule.toml"),
    );
    let timetable: toml::Table = text.unwrap().parse().unwrap();
    assert_eq!(timetable["defaults"]["zone"].as_str(), Some(otx::ZONE));
}

fn a_test_names_each_key_by_its_digest() {
    block_on(async {
        let home = Home::with(Vec::new(), &[("OTX_API_KEY", "first-secret,second-secret")]).await;
        home.server.set(|otx| otx.refused = Some(("second-secret", 403, 1)));
        let report = home.run("test_otx_connection").await;
        let keys = report.detail["keys"].as_array().unwrap();
        assert_eq!((&keys[0]["status"], &keys[0]["user"]), (&json!("valid"), &json!("analyst")));
        assert_eq!((&keys[1]["status"], &keys[1]["used_today"]), (&json!("refused"), &json!(1)));
        assert!(keys[1]["rests_until"].is_string(), "{report:?}");
        assert!(!serde_json::to_string(&report).unwrap().contains("secret"), "{report:?}");
        home.server.set(|otx| assert_eq!(otx.requests, ["users/me", "users/me"]));
    });
}

fn without_a_key_the_setting_is_named() {
    block_on(async {
        let home = Home::with(Vec::new(), &[("OTX_API_KEY", " ")]).await;
        for task in ["sync_otx_pulses", "test_otx_connection", "bulk_enrich_iocs"] {
            let report = home.run(task).await;
            let problem = report.error.as_ref().unwrap();
            assert_eq!(problem.class, base::Class::Config, "{report:?}");
            assert!(problem.message.contains("OTX_API_KEY"), "{report:?}");
        }
        assert_eq!(home.run("reset_otx_daily_usage").await.status, Status::Complete);
    });
}
