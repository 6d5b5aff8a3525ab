//! `tasks`, `scheduled`, `runs`: what there is, what comes, what was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::report::Status;
use base::{Class, Error, Result};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use stores::state::{AttemptRow, HistoryQuery, Missed, RunRow, SlotRow};
use task::function::now;

use crate::cli::{Cli, RunsArgs};
use crate::commands::run;
use crate::families::all_tasks;
use crate::home::{open_state, settings};
use crate::out::{self, Outcome};
use crate::runner;
use crate::settings::Settings;
use crate::when::{self, Moment};

/// `local-runner tasks`.
pub(crate) fn tasks(cli: &Cli) -> Outcome {
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let family =
        |name: &str| all_tasks().find(|(_, task)| task.name == name).map(|(family, _)| family);
    if cli.json {
        let rows = timetable.rows().iter().map(|row| {
            json!({
                "task": row.name,
                "family": family(&row.name),
                "does": row.does,
                "when": row.when.as_ref().map(ToString::to_string),
                "timeout_s": row.timeout_s,
                "memory_mb": row.memory_mb,
                "enabled": row.enabled,
            })
        });
        out::json(&rows.collect::<Vec<_>>());
        return Ok(out::DONE);
    }
    let rows = timetable
        .rows()
        .iter()
        .map(|row| vec![row.name.clone(), row.shown_when(), row.does.clone()]);
    let when = timetable
        .zone()
        .iana_name()
        .map_or_else(|| "WHEN".to_owned(), |zone| format!("WHEN ({zone})"));
    out::table(&["TASK", &when, "DOES"], rows.collect());
    Ok(out::DONE)
}

/// `local-runner scheduled`: what comes, and of each what came of it last.
pub(crate) async fn scheduled(cli: &Cli, count: usize) -> Outcome {
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let settings = settings(cli)?;
    let from = now(&settings.config);
    let to = from.saturating_add(SignedDuration::from_hours(24 * 366)).unwrap_or(from);
    let firings: Vec<_> = timetable.firings(from, to).take(count).collect();
    let names = firings.iter().map(|firing| firing.row.name.as_str());
    let last = last_slots(&settings, names).await?;
    if cli.json {
        let firings = firings.iter().map(|firing| {
            let last = last.get(firing.row.name.as_str());
            let last = last.map(|slot| json!({"at": slot.slot, "outcome": slot.outcome}));
            json!({"at": firing.at, "task": firing.row.name, "last": last})
        });
        out::json(&firings.collect::<Vec<_>>());
        return Ok(out::DONE);
    }
    let zone = timetable.zone();
    let rows = firings.iter().map(|firing| {
        let last = last.get(firing.row.name.as_str());
        vec![
            firing.at.to_zoned(zone.clone()).strftime("%a %d %b %H:%M").to_string(),
            firing.at.strftime("%Y-%m-%dT%H:%MZ").to_string(),
            until(firing.at, from),
            firing.row.name.clone(),
            last.map(|slot| when::slot(slot.slot, zone)).unwrap_or_default(),
            last.map(|slot| slot.outcome.clone()).unwrap_or_default(),
        ]
    });
    let name = zone.iana_name().unwrap_or("local");
    out::table(&[name, "UTC", "IN", "TASK", "LAST", "RESULT"], rows.collect());
    Ok(out::DONE)
}

/// The newest slot of each task. The timetable is shown also where the state cannot be asked, which is told.
async fn last_slots<'a>(
    settings: &Settings,
    tasks: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<&'a str, SlotRow>> {
    let mut last = BTreeMap::new();
    let state = match settings.look_at_state().await {
        Ok(state) => state,
        Err(error) if error.class() == Class::Store => {
            out::note(&format!("without last results: failed to {}", error.chain()));
            return Ok(last);
        }
        Err(error) => return Err(error),
    };
    for task in tasks.collect::<BTreeSet<_>>() {
        let query = HistoryQuery { task: Some(task), limit: 1, ..HistoryQuery::default() };
        last.extend(state.slots(&query).await?.pop().map(|slot| (task, slot)));
    }
    Ok(last)
}

/// How long it is until an instant.
pub(crate) fn until(instant: Timestamp, now: Timestamp) -> String {
    Duration::try_from(instant.duration_since(now)).map(seconds).unwrap_or_default()
}

/// Letters of a run's id that a list shows: enough to name it.
const ID_SHOWN: usize = 8;

/// Attempts of a run that are shown, the newest.
const ATTEMPTS_SHOWN: u32 = 20;

/// Runs that are named where several begin alike.
const ALIKE_SHOWN: u32 = 5;

/// `local-runner runs`: a list, or one run whole.
pub(crate) async fn runs(cli: &Cli, args: &RunsArgs) -> Outcome {
    let what = args.what.as_deref();
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let settings = settings(cli)?;
    let since = since(args.since.as_deref(), now(&settings.config))?;
    let zone = timetable.zone();
    if let Some(id) = what.filter(|what| is_id(what)) {
        let state = open_state(&settings).await?;
        let run = found(state.runs_named(id, ALIKE_SHOWN).await?, id)?;
        let query = HistoryQuery {
            run_id: Some(&run.run_id),
            limit: ATTEMPTS_SHOWN,
            ..HistoryQuery::default()
        };
        return one(cli, &run, &state.attempts(&query).await?, zone);
    }
    if let Some(task) = what {
        runner::row(&timetable, task)?;
    }
    let query = HistoryQuery {
        task: what,
        outcome: args.failed.then_some("failed"),
        since,
        limit: args.count,
        ..HistoryQuery::default()
    };
    let runs = open_state(&settings).await?.runs_of(&query).await?;
    let now = now(&settings.config);
    if cli.json {
        let rows = runs.iter().map(|run| {
            let mut row = json!(run);
            row["took_ms"] = json!(took(run, now).map(|took| took.as_millis()));
            row
        });
        out::json(&rows.collect::<Vec<_>>());
        return Ok(out::DONE);
    }
    if runs.is_empty() && (args.failed || since.is_some()) {
        out::line("no such run");
        return Ok(out::DONE);
    }
    if runs.is_empty() {
        out::line("nothing ran yet; `local-runner run collect_all_rss_feeds` is a beginning");
        return Ok(out::DONE);
    }
    let rows = runs.iter().map(|run| {
        let counts = run.report.as_ref().map(|report| report.counts).unwrap_or_default();
        let reason =
            run.report.as_ref().and_then(|report| report.reason.clone()).unwrap_or_default();
        vec![
            run.run_id.chars().take(ID_SHOWN).collect(),
            when::second(run.started, zone),
            took(run, now).map(seconds).unwrap_or_default(),
            run.task.clone(),
            run.slot.map_or_else(|| "on demand".to_owned(), |slot| when::slot(slot, zone)),
            status(run).to_owned(),
            run.attempt.to_string(),
            counts.found.to_string(),
            counts.new.to_string(),
            counts.changed.to_string(),
            reason,
        ]
    });
    out::table(
        &[
            "ID", "STARTED", "TOOK", "TASK", "SLOT", "STATUS", "TRY", "FOUND", "NEW", "CHANGED",
            "REASON",
        ],
        rows.collect(),
    );
    Ok(out::DONE)
}

/// Where a list begins.
fn since(typed: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>> {
    typed.map(|text| Moment::read(text, now).map(Moment::start)).transpose()
}

/// `local-runner slots`.
pub(crate) async fn slots(
    cli: &Cli,
    task: Option<&str>,
    is_missed: bool,
    typed_since: Option<&str>,
    count: u32,
) -> Outcome {
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let settings = settings(cli)?;
    if let Some(task) = task {
        runner::row(&timetable, task)?;
    }
    let query = HistoryQuery {
        task,
        outcome: is_missed.then_some("missed"),
        since: since(typed_since, now(&settings.config))?,
        limit: count,
        ..HistoryQuery::default()
    };
    let slots = open_state(&settings).await?.slots(&query).await?;
    if cli.json {
        out::json(&slots);
        return Ok(out::DONE);
    }
    if slots.is_empty() {
        out::line(
            "no such slot; `local-runner serve` runs the timetable, `local-runner scheduled` shows what comes",
        );
        return Ok(out::DONE);
    }
    let rows = slots.iter().map(|row| {
        vec![
            when::slot(row.slot, timetable.zone()),
            row.task.clone(),
            row.outcome.clone(),
            row.reason.as_deref().map(Missed::told).unwrap_or_default().to_owned(),
            row.request_id.clone(),
        ]
    });
    out::table(&["SLOT", "TASK", "OUTCOME", "WHY", "INVOCATION"], rows.collect());
    Ok(out::DONE)
}

/// Whether a text is a run's id or its beginning, and no task's name.
pub(crate) fn is_id(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-')
}

/// The one run that is meant.
pub(crate) fn found(mut runs: Vec<RunRow>, id: &str) -> Result<RunRow> {
    match runs.len() {
        1 => Ok(runs.remove(0)),
        0 => Err(Error::config(format!("find the run `{id}`"))
            .hint("`local-runner runs` lists them with their ids, `--json` with the whole ids")),
        _ => {
            let ids: Vec<&str> = runs.iter().map(|run| run.run_id.as_str()).collect();
            Err(Error::config(format!("find the run `{id}`: several begin like this"))
                .hint(format!("as {}", ids.join(", "))))
        }
    }
}

/// How a run ended, or that it goes on. The ledger counts a skipped run as complete: its slot needs no other.
fn status(run: &RunRow) -> &str {
    match &run.report {
        Some(report) if report.status == Status::Skipped && run.status == "complete" => "skipped",
        _ => &run.status,
    }
}

/// How long a run took, or has taken so far; nothing where nobody saw its end.
fn took(run: &RunRow, now: Timestamp) -> Option<Duration> {
    match (&run.report, run.status.as_str()) {
        (_, "interrupted") => None,
        (_, "running") => Duration::try_from(now.duration_since(run.started)).ok(),
        (Some(report), _) => Some(Duration::from_millis(report.took_ms)),
        (None, _) => Duration::try_from(run.finished?.duration_since(run.started)).ok(),
    }
}

pub(crate) fn seconds(took: Duration) -> String {
    match took.as_secs() {
        0..60 => format!("{:.1} s", took.as_secs_f64()),
        60..3_600 => format!("{} min {:02} s", took.as_secs() / 60, took.as_secs() % 60),
        long => format!("{} h {:02} min", long / 3_600, long % 3_600 / 60),
    }
}

/// One run whole.
fn one(cli: &Cli, run: &RunRow, attempts: &[AttemptRow], zone: &TimeZone) -> Outcome {
    if cli.json {
        let mut whole = json!(run);
        whole["attempts"] = json!(attempts);
        out::json(&whole);
        return Ok(out::DONE);
    }
    let slot = run.slot.map_or_else(|| "on demand".to_owned(), |slot| when::slot(slot, zone));
    let instant =
        |at: Option<Timestamp>| at.map_or_else(|| "not".to_owned(), |at| when::second(at, zone));
    out::line(&format!("run       {}", run.run_id));
    out::line(&format!("task      {}, {slot}", run.task));
    out::line(&format!("status    {}, try {}", status(run), run.attempt));
    out::line(&format!("started   {}", when::second(run.started, zone)));
    out::line(&format!("ended     {}", instant(run.finished)));
    if !run.input.is_null() {
        out::line(&format!("input     {}", run.input));
    }
    for attempt in attempts.iter().rev() {
        let took = attempt
            .ended
            .and_then(|end| Duration::try_from(end.duration_since(attempt.started)).ok());
        let took = took.map_or_else(String::new, |took| format!(" in {}", seconds(took)));
        let peak = attempt.peak_kb.filter(|kb| *kb > 0);
        let peak = peak.map_or_else(String::new, |kb| format!(", {} MiB", kb.div_ceil(1024)));
        let error = attempt.error.as_deref().map(|error| format!(": {}", out::one_line(error)));
        out::line(&format!(
            "attempt   {} {}, {}{took}{peak}{}",
            attempt.attempt,
            when::second(attempt.started, zone),
            attempt.outcome,
            error.unwrap_or_default()
        ));
    }
    if !attempts.is_empty() {
        out::line(&format!("log       local-runner logs {}", run.run_id));
    }
    let Some(report) = &run.report else {
        let is_running = run.status == "running";
        out::line(if is_running {
            "report    none yet"
        } else {
            "report    none: it did not come to its end"
        });
        return Ok(out::DONE);
    };
    run::show(report);
    let rows = report.sources.iter().map(|source| {
        let counts = source.counts;
        let numbers = [
            counts.found,
            counts.new,
            counts.changed,
            counts.unchanged,
            counts.merged,
            counts.filtered,
            counts.rejected,
            counts.failed,
            counts.deferred,
            source.requests,
            source.bytes,
        ];
        let words = [
            source.source.clone(),
            source.outcome.to_string(),
            seconds(Duration::from_millis(source.took_ms)),
        ];
        words.into_iter().chain(numbers.iter().map(ToString::to_string)).collect()
    });
    if !report.sources.is_empty() {
        out::table(
            &[
                "SOURCE",
                "OUTCOME",
                "TOOK",
                "FOUND",
                "NEW",
                "CHANGED",
                "UNCHANGED",
                "MERGED",
                "FILTERED",
                "REJECTED",
                "FAILED",
                "DEFERRED",
                "REQUESTS",
                "BYTES",
            ],
            rows.collect(),
        );
    }
    Ok(out::DONE)
}
