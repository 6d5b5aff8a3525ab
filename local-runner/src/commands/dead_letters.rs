//! `dead-letters`: invocations that failed for good.

use base::clock::Clock;
use base::{Error, Result};
use serde_json::json;
use stores::state::{HistoryQuery, QueueEntry, QueueState, State};

use crate::cli::{Cli, DeadLettersCommand};
use crate::home::{open_state, settings};
use crate::out::{self, Outcome};
use crate::runner;
use crate::when;

/// Dead letters that are looked through for one, or sent again; as many as are kept.
const ALL: u32 = stores::state::ENDED_MAX.rows;

/// Attempts that are shown of one.
const ATTEMPTS_SHOWN: u32 = 20;

/// `local-runner dead-letters`.
pub(crate) async fn dead_letters(cli: &Cli, command: &DeadLettersCommand) -> Outcome {
    let settings = settings(cli)?;
    let state = open_state(&settings).await?;
    let state = state.as_ref();
    match command {
        DeadLettersCommand::List { count } => list(cli, state, *count).await,
        DeadLettersCommand::Show { id } => show(cli, state, id).await,
        DeadLettersCommand::Retry { id, dry_run, .. } => {
            retry(cli, state, id.as_deref(), *dry_run).await
        }
    }
}

async fn list(cli: &Cli, state: &dyn State, count: u32) -> Outcome {
    let letters = state.queue(QueueState::Dead, count).await?;
    if cli.json {
        out::json(&letters);
        return Ok(out::DONE);
    }
    if letters.is_empty() {
        out::line("no dead letters");
        return Ok(out::DONE);
    }
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let rows = letters.iter().map(|letter| {
        vec![
            letter.request_id.clone(),
            letter.task.clone(),
            when::second(letter.due, timetable.zone()),
            letter.attempts.to_string(),
            letter.error.clone().unwrap_or_default(),
        ]
    });
    out::table(&["ID", "TASK", "WAS DUE", "TRIES", "ERROR"], rows.collect());
    Ok(out::DONE)
}

/// The one that is meant.
async fn named(state: &dyn State, id: &str) -> Result<QueueEntry> {
    let mut letters = state.queue(QueueState::Dead, ALL).await?;
    if let Some(place) = letters.iter().position(|letter| letter.request_id == id) {
        return Ok(letters.swap_remove(place));
    }
    let near = out::nearest(id, letters.iter().map(|letter| letter.request_id.as_str()));
    let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    Err(Error::config(format!("find the dead letter `{id}`"))
        .hint(format!("{near}`local-runner dead-letters list` shows them all")))
}

async fn show(cli: &Cli, state: &dyn State, id: &str) -> Outcome {
    let letter = named(state, id).await?;
    let query = HistoryQuery {
        request_id: Some(&letter.request_id),
        limit: ATTEMPTS_SHOWN,
        ..HistoryQuery::default()
    };
    let attempts = state.attempts(&query).await?;
    if cli.json {
        let mut whole = json!(letter);
        whole["history"] = json!(attempts);
        out::json(&whole);
        return Ok(out::DONE);
    }
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    out::line(&format!("id        {}", letter.request_id));
    out::line(&format!("task      {}", letter.task));
    out::line(&format!("event     {}", out::one_line(&letter.event.to_string())));
    for attempt in attempts.iter().rev() {
        out::line(&format!(
            "attempt   {} {}, {}: {}",
            attempt.attempt,
            when::second(attempt.started, timetable.zone()),
            attempt.outcome,
            out::one_line(attempt.error.as_deref().unwrap_or_default())
        ));
    }
    out::line(&format!("log       local-runner logs {}", letter.request_id));
    out::line(&format!("again     local-runner dead-letters retry {}", letter.request_id));
    Ok(out::DONE)
}

async fn retry(cli: &Cli, state: &dyn State, id: Option<&str>, is_dry: bool) -> Outcome {
    let letters = match id {
        Some(id) => vec![named(state, id).await?],
        None => state.queue(QueueState::Dead, ALL).await?,
    };
    let now = Clock::Machine.now(None);
    let mut sent = Vec::new();
    for letter in letters {
        if is_dry || state.redrive(&letter.request_id, now).await? {
            sent.push(letter);
        }
    }
    let is_served = state.runners(now).await?.iter().any(|runner| runner.is_on(now));
    if cli.json {
        let ids: Vec<&str> = sent.iter().map(|letter| letter.request_id.as_str()).collect();
        out::json(&json!({"sent": ids, "dry_run": is_dry, "runner_is_on": is_served}));
        return Ok(out::DONE);
    }
    let word = if is_dry { "would be sent" } else { "sent" };
    for letter in &sent {
        out::line(&format!("{word} again: {} ({})", letter.request_id, letter.task));
    }
    if sent.is_empty() {
        out::line("no dead letters");
    } else if !is_served && !is_dry {
        out::note("no runner is on: `local-runner serve` makes the attempts");
    }
    Ok(out::DONE)
}
