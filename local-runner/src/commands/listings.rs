//! `tasks`, `scheduled`, `runs`: what there is, what comes, what was.

use jiff::SignedDuration;
use serde_json::json;
use task::function::now;

use crate::cli::Cli;
use crate::families::all_tasks;
use crate::home::{open_state, settings};
use crate::out::{self, Outcome};
use crate::runner;
use crate::when;

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
                "built": row.built,
                "enabled": row.enabled,
            })
        });
        out::json(&rows.collect::<Vec<_>>());
        return Ok(out::DONE);
    }
    let rows = timetable.rows().iter().map(|row| {
        let does =
            if row.built { row.does.clone() } else { format!("{} (not built yet)", row.does) };
        vec![row.name.clone(), row.shown_when(), does]
    });
    let when = timetable
        .zone()
        .iana_name()
        .map_or_else(|| "WHEN".to_owned(), |zone| format!("WHEN ({zone})"));
    out::table(&["TASK", &when, "DOES"], rows.collect());
    Ok(out::DONE)
}

/// `local-runner scheduled`.
pub(crate) fn scheduled(cli: &Cli, count: usize) -> Outcome {
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let from = now(&settings(cli)?.config);
    let to = from.saturating_add(SignedDuration::from_hours(24 * 366)).unwrap_or(from);
    let firings: Vec<_> = timetable.firings(from, to).take(count).collect();
    if cli.json {
        let firings =
            firings.iter().map(|firing| json!({"at": firing.at, "task": firing.row.name}));
        out::json(&firings.collect::<Vec<_>>());
        return Ok(out::DONE);
    }
    let rows = firings.iter().map(|firing| {
        let local = firing.at.to_zoned(timetable.zone().clone());
        vec![
            local.strftime("%a %d %b %H:%M").to_string(),
            firing.at.strftime("%Y-%m-%dT%H:%MZ").to_string(),
            firing.row.name.clone(),
        ]
    });
    let zone = timetable.zone().iana_name().unwrap_or("local");
    out::table(&[zone, "UTC", "TASK"], rows.collect());
    Ok(out::DONE)
}

/// `local-runner runs`.
pub(crate) async fn runs(cli: &Cli, task: Option<&str>, count: u32) -> Outcome {
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    if let Some(task) = task {
        runner::row(&timetable, task)?;
    }
    let zone = timetable.zone();
    let runs = open_state(&settings(cli)?).await?.runs(task, count).await?;
    if cli.json {
        out::json(&runs);
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
            when::second(run.started, zone),
            run.task.clone(),
            run.slot.map_or_else(|| "on demand".to_owned(), |slot| when::slot(slot, zone)),
            run.status.clone(),
            run.attempt.to_string(),
            counts.found.to_string(),
            counts.new.to_string(),
            counts.changed.to_string(),
            reason,
        ]
    });
    out::table(
        &["STARTED", "TASK", "SLOT", "STATUS", "TRY", "FOUND", "NEW", "CHANGED", "REASON"],
        rows.collect(),
    );
    Ok(out::DONE)
}
