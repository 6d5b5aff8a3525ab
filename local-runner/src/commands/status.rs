//! `status`: whether all is well, in ten lines.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Result;
use base::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use schedule::Timetable;
use serde::Serialize;
use serde_json::json;
use stores::state::{Health, HistoryQuery, QueueState, SourceState, State};

use crate::cli::Cli;
use crate::home::{open_state, settings};
use crate::out::{self, Outcome};
use crate::runner;
use crate::watch::enabled_sources;
use crate::when;

/// What needs a person is told by name up to so many; the others are counted.
const NEEDS_SHOWN: usize = 4;

/// A source that failed fewer times, or for less long, is left to its next visits.
const FAILURES: u32 = 3;
const FAILING_FOR: SignedDuration = SignedDuration::from_hours(6);

/// What is told of the past.
const LOOKED_BACK: SignedDuration = SignedDuration::from_hours(24);

/// Something that needs a person.
#[derive(Serialize)]
struct Need {
    kind: &'static str,
    subject: String,
    says: String,
    /// The command that shows more, or mends it.
    command: String,
}

/// `local-runner status`.
pub(crate) async fn status(cli: &Cli) -> Outcome {
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let settings = settings(cli)?;
    let state = open_state(&settings).await?;
    let now = Clock::Machine.now(None);
    let sources = enabled_sources(&state, &Arc::new(settings.config.clone())).await?;
    let needs = needs(state.as_ref(), &timetable, &sources, now).await?;
    let runners = state.runners(now).await?;
    let on: Vec<_> = runners.iter().filter(|runner| runner.is_on(now)).collect();
    let since = now.checked_sub(LOOKED_BACK).unwrap_or(now);
    let slots = state.slot_counts(since).await?;
    let dead = state.queue_length(QueueState::Dead).await?;
    let queued = state.queue_length(QueueState::Queued).await?;
    let running = state.queue_length(QueueState::Running).await?;
    let next = timetable.firings(now, Timestamp::MAX).next();
    let mut health: BTreeMap<&str, u32> = BTreeMap::new();
    for (_, source) in &sources {
        *health.entry(source.health(now).name()).or_default() += 1;
    }
    let code = if needs.is_empty() { out::DONE } else { out::FAILED };
    if cli.json {
        out::json(&json!({
            "ok": needs.is_empty(), "needs": needs, "runners": on, "slots_24h": slots, "queued": queued, "running": running,
            "dead_letters": dead, "sources": health,
            "next": next.map(|next| json!({"at": next.at, "task": next.row.name})),
        }));
        return Ok(code);
    }
    match needs.len() {
        0 => out::line("nothing needs you"),
        1 => out::line("1 thing needs you"),
        count => out::line(&format!("{count} things need you")),
    }
    for need in needs.iter().take(NEEDS_SHOWN) {
        out::line(&format!(
            "! {}: {}  > {}",
            need.subject,
            out::one_line(&need.says),
            need.command
        ));
    }
    if needs.len() > NEEDS_SHOWN {
        out::line(&format!("! and {} more: --json lists them", needs.len() - NEEDS_SHOWN));
    }
    let runner = match on.as_slice() {
        [] => "none is on; `local-runner serve` starts one".to_owned(),
        on => {
            let names: Vec<&str> = on.iter().map(|runner| runner.name.as_str()).collect();
            let age = on.iter().map(|runner| now.duration_since(runner.ticked).as_secs()).min();
            format!("{}, ticked {} s ago", names.join("; "), age.unwrap_or_default())
        }
    };
    out::line(&format!("runner   {runner}"));
    out::line(&format!("last day {}", counted(&slots, "slots")));
    out::line(&format!("queue    {running} run, {queued} wait, {dead} dead letters"));
    out::line(&format!("sources  {}", counted(&health, "sources")));
    if let Some(next) = next {
        out::line(&format!(
            "next     {}, {}",
            when::slot(next.at, timetable.zone()),
            next.row.name
        ));
    }
    Ok(code)
}

/// `3 slots: 2 complete, 1 missed`.
fn counted<K: AsRef<str>>(counts: &BTreeMap<K, u32>, what: &str) -> String {
    let parts: Vec<String> =
        counts.iter().map(|(name, count)| format!("{count} {}", name.as_ref())).collect();
    let all: u32 = counts.values().sum();
    if parts.is_empty() {
        format!("no {what}")
    } else {
        format!("{all} {what}: {}", parts.join(", "))
    }
}

async fn needs(
    state: &dyn State,
    timetable: &Timetable,
    sources: &[(String, SourceState)],
    now: Timestamp,
) -> Result<Vec<Need>> {
    let mut needs = Vec::new();
    let runners = state.runners(now).await?;
    if let Some(last) = runners.first().filter(|last| !last.is_on(now)) {
        needs.push(Need {
            kind: "runner",
            subject: last.name.clone(),
            says: format!(
                "this runner died; it was last heard of at {}",
                when::second(last.ticked, timetable.zone())
            ),
            command: "local-runner serve".to_owned(),
        });
    }
    for letter in
        state.queue(QueueState::Dead, u32::try_from(NEEDS_SHOWN).unwrap_or(u32::MAX)).await?
    {
        needs.push(Need {
            kind: "dead_letter",
            subject: letter.task,
            says: letter.error.unwrap_or_else(|| "failed for good".to_owned()),
            command: format!("local-runner dead-letters show {}", letter.request_id),
        });
    }
    for row in timetable.rows().iter().filter(|row| row.when.is_some()) {
        let query = HistoryQuery { task: Some(&row.name), limit: 2, ..HistoryQuery::default() };
        let slots = state.slots(&query).await?;
        if slots.len() == 2 && slots.iter().all(|slot| slot.outcome == "failed") {
            needs.push(Need {
                kind: "task",
                subject: row.name.clone(),
                says: "its last two slots failed".to_owned(),
                command: format!("local-runner runs {} --failed", row.name),
            });
        }
    }
    for (name, source) in sources {
        let health = source.health(now);
        let since = source.since(now);
        let is_long = since.is_none_or(|since| now.duration_since(since) >= FAILING_FOR);
        let is_told = match health {
            Health::Gone | Health::Quiet => true,
            Health::Failing => source.failures >= FAILURES && is_long,
            Health::New | Health::Ok => false,
        };
        if is_told {
            let id = name.split_once('/').map_or(name.as_str(), |(_, id)| id);
            let since = since.map_or_else(String::new, |since| {
                format!(" since {}", when::minute(since, timetable.zone()))
            });
            let error = source.last_error.as_deref().filter(|_| health != Health::Quiet);
            let error = error.map_or_else(String::new, |error| format!(", {error}"));
            needs.push(Need {
                kind: "source",
                subject: name.clone(),
                says: format!("{}{since}{error}", health.name()),
                command: format!("local-runner sources show {id}"),
            });
        }
    }
    Ok(needs)
}
