//! `queue` and `revoke`: what waits, and what shall not be run after all.

use base::Error;
use serde_json::json;
use stores::state::{QueueState, State};
use task::function::now;

use crate::cli::Cli;
use crate::commands::listings::until;
use crate::home::{open_state, settings};
use crate::out::{self, Outcome};
use crate::runner;
use crate::when;

/// Invocations that are looked through for one that was meant.
const LOOKED_AT: u32 = 1_000;

/// `local-runner queue`.
pub(crate) async fn queue(cli: &Cli, count: u32) -> Outcome {
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let settings = settings(cli)?;
    let waiting = settings.look_at_state().await?.queue(QueueState::Queued, count).await?;
    if cli.json {
        out::json(&waiting);
        return Ok(out::DONE);
    }
    if waiting.is_empty() {
        out::line("nothing waits; `local-runner scheduled` shows what comes");
        return Ok(out::DONE);
    }
    let now = now(&settings.config);
    // What is next comes first; the store gives the newest first.
    let rows = waiting.iter().rev().map(|entry| {
        vec![
            entry.request_id.clone(),
            entry.task.clone(),
            when::second(entry.due, timetable.zone()),
            if entry.due > now { until(entry.due, now) } else { "a free place".to_owned() },
            (entry.attempts + 1).to_string(),
            entry.error.clone().unwrap_or_default(),
        ]
    });
    out::table(&["ID", "TASK", "DUE", "WAITS FOR", "TRY", "LAST ERROR"], rows.collect());
    Ok(out::DONE)
}

/// `local-runner revoke`.
pub(crate) async fn revoke(cli: &Cli, id: &str) -> Outcome {
    let state = open_state(&settings(cli)?).await?;
    if !state.revoke(id).await? {
        return Err(not_waiting(state.as_ref(), id).await);
    }
    if cli.json {
        out::json(&json!({"revoked": id}));
    } else {
        out::line(&format!("revoked: {id}; it is not run"));
    }
    Ok(out::DONE)
}

/// Why there is nothing to be revoked.
async fn not_waiting(state: &dyn State, id: &str) -> Error {
    let error = Error::config(format!("revoke `{id}`: it does not wait"));
    let running = state.queue(QueueState::Running, LOOKED_AT).await.unwrap_or_default();
    if running.iter().any(|entry| entry.request_id == id) {
        return error.hint(
            "it runs, and ends by itself or at its time limit; `local-runner active` shows it",
        );
    }
    let waiting = state.queue(QueueState::Queued, LOOKED_AT).await.unwrap_or_default();
    let near = out::nearest(id, waiting.iter().map(|entry| entry.request_id.as_str()));
    let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    error.hint(format!("{near}`local-runner queue` shows what waits"))
}
