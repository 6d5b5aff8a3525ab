//! `sources show`: all that is known of one source.

use serde_json::json;
use stores::state::LedgerKind;
use task::function::now;

use super::{SourceRow, all, gap, named};
use crate::cli::Cli;
use crate::home::open_state;
use crate::out::{self, Outcome};
use crate::runner;
use crate::settings::Settings;
use crate::when;

pub(super) async fn show(cli: &Cli, settings: &Settings, what: &str) -> Outcome {
    let state = open_state(settings).await?;
    let all = all(settings, state.as_ref()).await?;
    let (family, entry) = named(&all, what)?;
    let row = SourceRow::read(state.as_ref(), family, entry.clone(), now(&settings.config)).await?;
    let mut left = Vec::new();
    for kind in [LedgerKind::Rejected, LedgerKind::Failed] {
        let counts = state.ledgers(None, kind).await?;
        left.push(counts.iter().find(|(name, _)| *name == row.name).map_or(0, |(_, many)| *many));
    }
    let changes = state.overrides(family.name).await?;
    let change = changes.into_iter().find(|(id, _)| *id == entry.id).map(|(_, change)| change);
    if cli.json {
        let mut shown = row.json();
        shown["rejects"] = json!(left[0]);
        shown["failed"] = json!(left[1]);
        shown["changed_here"] = json!(change);
        out::json(&shown);
        return Ok(out::DONE);
    }
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let minute = |instant| when::minute(instant, timetable.zone());
    let known = &row.state;
    let health = match row.since {
        Some(since) => format!("{} since {}", row.health, minute(since)),
        None => row.health.to_owned(),
    };
    let count = |count: u32| Some(count.to_string()).filter(|_| count > 0);
    let set = change.map(|change| match (change.definition, change.enabled) {
        (Some(_), _) => "added or edited by `sources`; what the list says of it does not count",
        (None, Some(true)) => "enabled by `sources`",
        (None, Some(false)) => "disabled by `sources`",
        (None, None) => "nothing",
    });
    let facts = [
        ("source", Some(row.name.clone())),
        ("name", Some(entry.name.clone())),
        ("address", entry.url.as_ref().map(ToString::to_string)),
        ("category", entry.category.clone()),
        ("language", entry.language.clone()),
        ("health", Some(health)),
        ("failures", count(known.failures)),
        ("last error", known.last_error.clone()),
        ("moved for good to", known.moved_to.clone()),
        ("not asked before", known.next_allowed.map(minute)),
        ("last asked", Some(known.last_attempt.map_or_else(|| "never".to_owned(), minute))),
        ("last answered", known.last_success.map(minute)),
        ("last outcome", known.last_outcome.clone()),
        ("last news", known.last_new.map(minute)),
        ("usual gap", known.usual_gap_s.map(gap)),
        ("refused for good", count(left[0])),
        ("to be tried again", count(left[1])),
        ("changed here", set.map(ToOwned::to_owned)),
    ];
    for (name, fact) in facts {
        if let Some(fact) = fact {
            out::line(&format!("{name:<18} {}", out::one_line(&fact)));
        }
    }
    if known.moved_to.is_some() {
        out::line(&format!(
            "hint: `local-runner sources edit {} --url ADDRESS` follows it",
            entry.id
        ));
    }
    Ok(out::DONE)
}
