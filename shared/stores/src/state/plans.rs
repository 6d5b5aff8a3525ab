//! How SQLite answers what commands and runners ask: by an index, never by reading a history through.

use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use super::db::args;
use super::db::asked::ASKED;
use super::{
    Due, Firings, History as _, HistoryQuery, Identity, Queue as _, QueueState, Sqlite, State as _,
    StateReader as _,
};

/// Tables that grow as long as a home lives.
const GROWING: [&str; 5] = ["runs", "attempts", "slots", "invocations", "source_days"];

const TASK: &str = "collect_all_rss_feeds";

/// The plans of all statements that some work asks, each with its statement.
async fn plans(state: &Sqlite, work: impl AsyncFnOnce(&Sqlite)) -> Vec<(String, Vec<String>)> {
    ASKED.take();
    work(state).await;
    let mut plans = Vec::new();
    for sql in ASKED.take() {
        let explained = format!("EXPLAIN QUERY PLAN {sql}");
        let rows = state.pool.fetch(AssertSqlSafe(explained), args![]).await.unwrap();
        plans.push((sql, rows.iter().map(|row| row.text("detail").unwrap()).collect()));
    }
    plans
}

/// Whether a step of a plan reads a growing table from one end to the other. A list without conditions may, as it ends with
/// its limit.
fn reads_through(sql: &str, step: &str) -> bool {
    let mut words = step.split(' ');
    let is_scan = words.next() == Some("SCAN");
    let is_growing = words.next().is_some_and(|table| GROWING.contains(&table));
    let is_page = step.contains("USING INDEX") && sql.contains("LIMIT") && !sql.contains("WHERE");
    is_scan && is_growing && !is_page
}

#[tokio::test]
async fn what_is_asked_of_the_history_is_answered_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let state = Sqlite::open(folder.path()).await.unwrap();
    let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    let words = [None, Some("failed")];
    let queries = [None, Some(TASK)].into_iter().flat_map(|task| {
        words.into_iter().flat_map(move |outcome| {
            [None, Some(now)].map(|since| HistoryQuery {
                task,
                outcome,
                since,
                limit: 20,
                ..HistoryQuery::default()
            })
        })
    });
    for query in queries {
        let asked = async |state: &Sqlite| {
            state.runs_of(&query).await.unwrap();
            state.attempts(&query).await.unwrap();
            state.slots(&query).await.unwrap();
        };
        let found = plans(&state, asked).await;
        assert_eq!(found.len(), 3);
        for (sql, steps) in found {
            assert!(!steps.iter().any(|step| reads_through(&sql, step)), "{sql}: {steps:?}");
            // Each word that is asked for leads the index to its rows.
            let outcome = if sql.contains("FROM runs") { "status=?" } else { "outcome=?" };
            for (word, is_asked) in
                [("task=?", query.task.is_some()), (outcome, query.outcome.is_some())]
            {
                assert!(!is_asked || steps[0].contains(word), "{word} of {sql}: {steps:?}");
            }
        }
    }
    let others = async |state: &Sqlite| {
        for id in [("run_id", "1a"), ("request_id", "r")] {
            let query = HistoryQuery { limit: 20, ..HistoryQuery::default() };
            let query = match id {
                ("run_id", id) => HistoryQuery { run_id: Some(id), ..query },
                (_, id) => HistoryQuery { request_id: Some(id), ..query },
            };
            state.attempts(&query).await.unwrap();
            state.runs_of(&query).await.unwrap();
        }
        state.runs_named("1a2b", 5).await.unwrap();
        state.run_of("r").await.unwrap();
        state.log("r", 1).await.unwrap();
        state.slot_counts(now).await.unwrap();
        state.source_days(None, now).await.unwrap();
        state.source_days(Some("rss/a"), now).await.unwrap();
        state.queue(QueueState::Dead, 20).await.unwrap();
        state.queue_length(QueueState::Queued).await.unwrap();
        state.is_done(TASK, &Identity::Slot(now)).await.unwrap();
        state.is_step_done("1a2b", 1).await.unwrap();
        state.trim_history(now).await.unwrap();
        // What a runner asks at each look, and a run as it begins and ends.
        let due = Due {
            request_id: "r".to_owned(),
            task: TASK.to_owned(),
            event: serde_json::Value::Null,
            due: now,
        };
        state.fire(TASK, None, now, &Firings::of(&[due])).await.unwrap();
        state.recover(now).await.unwrap();
        let taken = state.take(now).await.unwrap().unwrap();
        let identity = Identity::Slot(now);
        let claim = state.begin(TASK, &identity, &serde_json::Value::Null, "r", now).await;
        let super::Claim::Run(hold) = claim.unwrap() else { panic!("nobody else runs it") };
        let report = base::report::Report::of_sources(Vec::new(), Vec::new()).unwrap();
        state.finish(*hold, &report, now).await.unwrap();
        state.settle(taken, QueueState::Done, None, None).await.unwrap();
    };
    let found = plans(&state, others).await;
    assert!(found.len() > 25, "{}", found.len());
    for (sql, steps) in found {
        assert!(!steps.iter().any(|step| reads_through(&sql, step)), "{sql}: {steps:?}");
    }
}
