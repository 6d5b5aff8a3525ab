//! `logs`: what an attempt logged, and what it logs.

use std::time::Duration;

use base::{Error, Result};
use serde_json::json;
use stores::state::{AttemptRow, HistoryQuery, Log, QueueEntry, QueueState, State};
use tokio::time::interval;

use crate::cli::Cli;
use crate::commands::listings;
use crate::families::all_tasks;
use crate::home::{open_state, settings};
use crate::out::{self, Outcome};

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Invocations that are looked through for the one that is meant.
const LOOKED_AT: u32 = 1_000;

/// Runs that may begin like what was typed.
const ALIKE: u32 = 5;

/// `local-runner logs`.
pub(crate) async fn logs(cli: &Cli, id: Option<&str>, is_followed: bool) -> Outcome {
    let settings = settings(cli)?;
    let state = open_state(&settings).await?;
    let state = state.as_ref();
    let mut looks = interval(LOOK);
    let mut attempt = loop {
        looks.tick().await;
        match meant(state, id).await {
            Ok(attempt) => break attempt,
            Err(_) => match waiting(state, id).await? {
                // What was left to a runner that serves is followed from before its beginning.
                Some(_) if is_followed => {}
                Some(entry) => return Err(not_begun(&entry)),
                // It may have begun between the two.
                None => break meant(state, id).await?,
            },
        }
    };
    // With `-f` the answer is a stream from its first line on.
    let mut shown = is_followed.then_some(0);
    loop {
        // Read before the log: what is logged between the two is shown by the next look.
        attempt = again(state, &attempt).await?.unwrap_or(attempt);
        let is_over = attempt.outcome != "running";
        let log = state.log(&attempt.request_id, attempt.attempt).await?;
        if !is_followed || is_over {
            return end(cli, &attempt, log.as_ref(), shown);
        }
        if let Some(log) = log {
            shown = Some(show_news(cli, &log, shown.unwrap_or_default()));
        }
        looks.tick().await;
    }
}

/// The invocation of that id, where it waits in the queue.
async fn waiting(state: &dyn State, id: Option<&str>) -> Result<Option<QueueEntry>> {
    let Some(id) = id else { return Ok(None) };
    let waiting = state.queue(QueueState::Queued, LOOKED_AT).await?;
    Ok(waiting.into_iter().find(|entry| entry.request_id == id))
}

fn not_begun(entry: &QueueEntry) -> Error {
    let id = &entry.request_id;
    Error::config(format!("find an attempt of `{id}`: it waits in the queue")).hint(format!(
        "`local-runner logs {id} -f` waits for it; `local-runner queue` shows what is before it"
    ))
}

/// The attempt that is meant: the newest of a run, an invocation, a task, or of all.
async fn meant(state: &dyn State, id: Option<&str>) -> Result<AttemptRow> {
    let newest = async |query: HistoryQuery<'_>| -> Result<Option<AttemptRow>> {
        Ok(state.attempts(&HistoryQuery { limit: 1, ..query }).await?.into_iter().next())
    };
    let Some(id) = id else {
        return newest(HistoryQuery::default()).await?.ok_or_else(|| {
            Error::config("find a log: nothing ran yet")
                .hint("`local-runner run collect_all_rss_feeds` is a beginning")
        });
    };
    let found = if all_tasks().any(|(_, task)| task.name == id) {
        newest(HistoryQuery { task: Some(id), ..HistoryQuery::default() }).await?
    } else {
        match newest(HistoryQuery { request_id: Some(id), ..HistoryQuery::default() }).await? {
            None if listings::is_id(id) => {
                let run = listings::found(state.runs_named(id, ALIKE).await?, id)?;
                newest(HistoryQuery { run_id: Some(&run.run_id), ..HistoryQuery::default() })
                    .await?
            }
            found => found,
        }
    };
    found.ok_or_else(|| {
        let near = out::nearest(id, all_tasks().map(|(_, task)| task.name));
        let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        Error::config(format!("find an attempt of `{id}`"))
            .hint(format!("{near}`local-runner runs` lists runs with their ids"))
    })
}

/// The same attempt as it is now.
async fn again(state: &dyn State, attempt: &AttemptRow) -> Result<Option<AttemptRow>> {
    let query = HistoryQuery {
        request_id: Some(&attempt.request_id),
        limit: u32::MAX,
        ..HistoryQuery::default()
    };
    let all = state.attempts(&query).await?;
    Ok(all.into_iter().find(|one| one.attempt == attempt.attempt))
}

/// Shows what came after so many bytes, as an object a piece where JSON is asked for; gives how many there are now.
fn show_news(cli: &Cli, log: &Log, shown: u32) -> u32 {
    let new = usize::try_from(log.bytes.saturating_sub(shown)).unwrap_or(usize::MAX);
    let start = log.text.len().saturating_sub(new);
    let start = (start..=log.text.len()).find(|at| log.text.is_char_boundary(*at));
    let news = &log.text[start.unwrap_or_default()..];
    if !news.is_empty() && cli.json {
        out::json_line(&json!({"log": news}));
    } else if !news.is_empty() {
        out::line(news.trim_end_matches('\n'));
    }
    log.bytes
}

fn end(cli: &Cli, attempt: &AttemptRow, log: Option<&Log>, shown: Option<u32>) -> Outcome {
    if cli.json && shown.is_none() {
        let mut whole = json!(attempt);
        whole["log"] = json!(log.map(|log| &log.text));
        out::json(&whole);
    } else if cli.json {
        // The last line of a stream: what became of it.
        if let Some(log) = log {
            show_news(cli, log, shown.unwrap_or_default());
        }
        out::json_line(attempt);
    } else {
        match log {
            Some(log) => {
                show_news(cli, log, shown.unwrap_or_default());
            }
            None => out::note("its log is no longer kept: that is for 7 days"),
        }
        let error = attempt.error.as_deref().map(|error| format!(": {}", out::one_line(error)));
        let number = attempt.attempt;
        out::note(&format!(
            "{} attempt {number}: {}{}",
            attempt.task,
            attempt.outcome,
            error.unwrap_or_default()
        ));
    }
    let has_failed = matches!(attempt.outcome.as_str(), "failed" | "interrupted");
    Ok(if has_failed { out::FAILED } else { out::DONE })
}
