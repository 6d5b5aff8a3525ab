//! `active`: what runs now.

use std::time::Duration;

use base::Result;
use base::clock::Clock;
use serde_json::json;
use stores::state::{HistoryQuery, State};

use crate::cli::Cli;
use crate::commands::listings::seconds;
use crate::commands::run::sources_at_hand;
use crate::home::{open_state, settings};
use crate::out::{self, Outcome};
use crate::runner;
use crate::when;

/// Runs that are looked at for those that go on; more than can be at once.
const LOOKED_AT: u32 = 200;

/// Attempts by which the usual time is told.
const USUAL_OF: u32 = 20;

/// `local-runner active`.
pub(crate) async fn active(cli: &Cli) -> Outcome {
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let settings = settings(cli)?;
    let state = open_state(&settings).await?;
    let query =
        HistoryQuery { outcome: Some("running"), limit: LOOKED_AT, ..HistoryQuery::default() };
    let mut runs = state.runs_of(&query).await?;
    // One whose process died is no longer called that.
    runs.retain(|run| run.status == "running");
    let now = Clock::Machine.now(None);
    let mut rows = Vec::new();
    for run in &runs {
        let at_hand = sources_at_hand(&settings, state.as_ref(), &run.task).await?;
        rows.push((run, usual(state.as_ref(), &run.task).await?, at_hand));
    }
    if cli.json {
        let rows = rows.iter().map(|(run, usual, at_hand)| {
            json!({
                "run_id": run.run_id, "task": run.task, "slot": run.slot, "attempt": run.attempt, "started": run.started,
                "so_far_s": now.duration_since(run.started).as_secs(), "usual_ms": usual.map(|usual| usual.as_millis()),
                "sources": at_hand,
            })
        });
        out::json(&rows.collect::<Vec<_>>());
        return Ok(out::DONE);
    }
    if rows.is_empty() {
        out::line("nothing runs now; `local-runner scheduled` shows what comes");
        return Ok(out::DONE);
    }
    let rows = rows.into_iter().map(|(run, usual, at_hand)| {
        let so_far = Duration::try_from(now.duration_since(run.started)).unwrap_or_default();
        vec![
            run.task.clone(),
            when::second(run.started, timetable.zone()),
            seconds(so_far),
            usual.map(seconds).unwrap_or_default(),
            run.attempt.to_string(),
            at_hand.join(", "),
            run.run_id.clone(),
        ]
    });
    out::table(&["TASK", "SINCE", "SO FAR", "USUAL", "TRY", "SOURCES", "RUN"], rows.collect());
    Ok(out::DONE)
}

/// What attempts at the task usually take: the middle one of the last that ended well.
async fn usual(state: &dyn State, task: &str) -> Result<Option<Duration>> {
    let query = HistoryQuery {
        task: Some(task),
        outcome: Some("complete"),
        limit: USUAL_OF,
        ..HistoryQuery::default()
    };
    let attempts = state.attempts(&query).await?;
    let took = attempts
        .iter()
        .filter_map(|one| Duration::try_from(one.ended?.duration_since(one.started)).ok());
    let mut took: Vec<Duration> = took.collect();
    took.sort();
    Ok(took.get(took.len() / 2).copied())
}
