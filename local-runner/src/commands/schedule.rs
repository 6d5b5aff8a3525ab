//! `schedule`: expressions and the timetable, checked and unfolded.

use std::path::PathBuf;

use base::date::seconds;
use base::{Error, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use schedule::{Api, Schedule, zone};
use serde_json::json;

use crate::cli::{Cli, ScheduleCommand};
use crate::out::{self, Outcome};
use crate::runner;

/// `local-runner schedule`.
pub(crate) fn schedule(cli: &Cli, command: &ScheduleCommand) -> Outcome {
    match command {
        ScheduleCommand::Next { expression, zone, from, count, api } => {
            next(cli, expression, zone, from.as_deref(), *count, api)
        }
        ScheduleCommand::Check { file } => check(cli, file.as_ref().or(cli.timetable.as_ref())),
    }
}

fn next(
    cli: &Cli,
    expression: &str,
    zone_name: &str,
    from: Option<&str>,
    count: usize,
    api: &str,
) -> Outcome {
    let api = if api == "rule" { Api::Rule } else { Api::Scheduler };
    let from = match from {
        None => base::clock::Clock::Machine.now(None),
        Some(text) => instant(text)?,
    };
    let wrong =
        |cause: schedule::ScheduleError| Error::config("understand the schedule").because(cause);
    let schedule = Schedule::parse(expression, api).map_err(wrong)?;
    let zone = zone(zone_name).map_err(wrong)?;
    let firings: Vec<Timestamp> = schedule.firings_after(from, &zone).take(count).collect();
    if cli.json {
        out::json(&firings.iter().copied().map(seconds).collect::<Vec<_>>());
        return Ok(out::DONE);
    }
    if firings.is_empty() {
        out::line("it never fires again");
    }
    let rows = firings.iter().map(|firing| vec![local(*firing, &zone), seconds(*firing)]);
    out::table(&[zone_name, "UTC"], rows.collect());
    Ok(out::DONE)
}

fn instant(text: &str) -> Result<Timestamp> {
    text.parse().map_err(|_| {
        Error::config(format!("read the instant `{text}`"))
            .hint("it is RFC 3339 with a zone, as 2026-03-01T12:00:00Z")
    })
}

fn local(instant: Timestamp, zone: &TimeZone) -> String {
    instant.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string()
}

fn check(cli: &Cli, file: Option<&PathBuf>) -> Outcome {
    let timetable = runner::timetable(file.map(PathBuf::as_path))?;
    let from = base::clock::Clock::Machine.now(None);
    let rows: Vec<_> = timetable
        .rows()
        .iter()
        .map(|row| {
            (
                row,
                row.when.as_ref().map(|when| {
                    when.firings_after(from, timetable.zone()).take(3).collect::<Vec<_>>()
                }),
            )
        })
        .collect();
    if cli.json {
        let rows = rows.iter().map(|(row, next)| {
            json!({"task": row.name, "when": row.when.as_ref().map(ToString::to_string), "next": next, "enabled": row.enabled})
        });
        out::json(&rows.collect::<Vec<_>>());
        return Ok(out::DONE);
    }
    let rows = rows.iter().map(|(row, next)| {
        let when = row.shown_when();
        let next = next
            .iter()
            .flatten()
            .map(|firing| local(*firing, timetable.zone()))
            .collect::<Vec<_>>()
            .join(", ");
        vec![row.name.clone(), when, next]
    });
    out::table(&["TASK", "WHEN", "NEXT"], rows.collect());
    Ok(out::DONE)
}
