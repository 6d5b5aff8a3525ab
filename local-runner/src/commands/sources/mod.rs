//! `sources`: the list and its health; trying and changing it; what was not stored of them.

use std::cmp::Reverse;

use base::address::masked;
use base::{Error, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use stores::state::{Health, LedgerKind, SourceState, State};
use task::Family;
use task::catalog::{Preview, SourceEditor, SourceEntry};
use task::function::{Home, now};

use crate::cli::{Cli, DEFAULT_CATEGORY, SourcesCommand};
use crate::families::FAMILIES;
use crate::home::{open_state, settings};
use crate::out::{self, Outcome};
use crate::runner;
use crate::settings::Settings;
use crate::when;

mod edit;
mod opml;
mod overlap;
mod show;

/// What is shown for the health of a source that is not visited.
const DISABLED: &str = "disabled";

/// Documents that a trial shows.
const PREVIEWED: usize = 5;

/// Items of a ledger that are shown of one source.
const ITEMS_MAX: u32 = 1_000;

/// `local-runner sources`.
pub(crate) async fn sources(cli: &Cli, command: &SourcesCommand) -> Outcome {
    let settings = settings(cli)?;
    match command {
        SourcesCommand::List { health } => list(cli, &settings, health.as_deref()).await,
        SourcesCommand::Test { source } => test(cli, &settings, source).await,
        SourcesCommand::Enable { id } => edit::switch(cli, &settings, id, true).await,
        SourcesCommand::Disable { id } => edit::switch(cli, &settings, id, false).await,
        SourcesCommand::Rejects { source } => {
            ledger(cli, &settings, source.as_deref(), LedgerKind::Rejected).await
        }
        SourcesCommand::Failed { source } => {
            ledger(cli, &settings, source.as_deref(), LedgerKind::Failed).await
        }
        SourcesCommand::Retry { source } => retry(cli, &settings, source).await,
        SourcesCommand::Overlap => overlap::overlap(cli, &settings).await,
        SourcesCommand::Show { id } => show::show(cli, &settings, id).await,
        SourcesCommand::Add(args) => edit::add(cli, &settings, args).await,
        SourcesCommand::Edit(args) => edit::edit(cli, &settings, args).await,
        SourcesCommand::Remove { id } => edit::remove(cli, &settings, id).await,
        SourcesCommand::Import(args) => edit::import(cli, &settings, args).await,
        SourcesCommand::Export { to } => edit::export(cli, &settings, to.as_deref()).await,
    }
}

/// The sources of every family, in the order of their lists.
async fn all(
    settings: &Settings,
    state: &dyn State,
) -> Result<Vec<(&'static Family, SourceEntry)>> {
    let mut all = Vec::new();
    for family in FAMILIES {
        let entries = (family.sources.list)(&settings.config, state).await?;
        all.extend(entries.into_iter().map(|entry| (family, entry)));
    }
    Ok(all)
}

/// The source that is meant by `family/id`, or by an id that only one family has.
fn named<'a>(
    all: &'a [(&'static Family, SourceEntry)],
    what: &str,
) -> Result<&'a (&'static Family, SourceEntry)> {
    let is_meant = |(family, entry): &&(&Family, SourceEntry)| {
        entry.id == what
            || what.strip_prefix(family.name).and_then(|rest| rest.strip_prefix('/'))
                == Some(&entry.id)
    };
    let mut meant = all.iter().filter(is_meant);
    match (meant.next(), meant.next()) {
        (Some(one), None) => Ok(one),
        (Some((one, _)), Some((other, _))) => {
            Err(Error::config(format!("find the source `{what}`: several families have it"))
                .hint(format!("say `{}/{what}` or `{}/{what}`", one.name, other.name)))
        }
        (None, _) => {
            let id = what.rsplit('/').next().unwrap_or(what);
            let near = out::nearest(id, all.iter().map(|(_, entry)| entry.id.as_str()));
            let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            Err(Error::config(format!("find the source `{what}`"))
                .hint(format!("{near}`local-runner sources list` shows them all")))
        }
    }
}

/// The family whose list takes sources of a category: of one that no family has, the family of the default one.
fn editable(category: &str) -> Result<(&'static Family, SourceEditor)> {
    let editable = |family: &'static Family| Some((family, family.sources.edit?));
    let of = |category: &str| {
        let mut all = FAMILIES.iter().filter_map(editable);
        all.find(|(_, editor)| editor.categories.contains(&category))
    };
    of(category).or_else(|| of(DEFAULT_CATEGORY)).ok_or_else(|| {
        Error::config("change a list of sources: no family here has one that can be changed")
    })
}

/// The editor of a source's family.
fn editor(family: &Family, id: &str) -> Result<SourceEditor> {
    family.sources.edit.ok_or_else(|| {
        Error::config(format!("change or try the source `{}/{id}`", family.name)).hint(
            "the sources of this family are fixed; its tasks can be run by `local-runner run`",
        )
    })
}

async fn list(cli: &Cli, settings: &Settings, wanted: Option<&str>) -> Outcome {
    let known: Vec<&str> = Health::ALL.map(Health::name).into_iter().chain([DISABLED]).collect();
    if let Some(wrong) = wanted.filter(|wanted| !known.contains(wanted)) {
        return Err(Error::config(format!("list sources of health `{wrong}`"))
            .hint(format!("it is one of {}", known.join(", "))));
    }
    let state = open_state(settings).await?;
    let now = now(&settings.config);
    let mut rows = Vec::new();
    for (family, entry) in all(settings, state.as_ref()).await? {
        let row = SourceRow::read(state.as_ref(), family, entry, now).await?;
        if wanted.is_none_or(|wanted| wanted == row.health) {
            rows.push(row);
        }
    }
    let place = |row: &SourceRow| known.iter().position(|known| *known == row.health);
    rows.sort_by_key(|row| (place(row), Reverse(row.state.failures)));
    if cli.json {
        out::json(&rows.iter().map(SourceRow::json).collect::<Vec<_>>());
        return Ok(out::DONE);
    }
    if rows.is_empty() {
        out::line(&wanted.map_or_else(
            || "no sources".to_owned(),
            |health| format!("no source is of health `{health}`"),
        ));
        return Ok(out::DONE);
    }
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let zone = timetable.zone();
    let day = |instant: Option<Timestamp>| {
        instant.map(|instant| when::day(instant, zone)).unwrap_or_default()
    };
    let table = rows.iter().map(|row| {
        let SourceRow { entry, state, .. } = row;
        vec![
            row.name.clone(),
            row.health.to_owned(),
            day(row.since),
            Some(state.failures)
                .filter(|count| *count > 0)
                .map_or_else(String::new, |count| count.to_string()),
            entry.category.clone().unwrap_or_default(),
            entry.language.clone().unwrap_or_default(),
            day(state.last_new),
            state.usual_gap_s.map(gap).unwrap_or_default(),
            row.says(),
        ]
    });
    out::table(
        &[
            "SOURCE",
            "HEALTH",
            "SINCE",
            "FAILURES",
            "CATEGORY",
            "LANGUAGE",
            "LAST NEWS",
            "USUAL GAP",
            "ADDRESS OR ERROR",
        ],
        table.collect(),
    );
    let is_bad = |row: &&SourceRow| {
        [Health::Failing, Health::Gone].iter().any(|bad| bad.name() == row.health)
    };
    let bad = rows.iter().filter(is_bad).count();
    out::line(&format!("{} sources, {bad} of them failing or gone", rows.len()));
    Ok(out::DONE)
}

/// A source as lists show it.
struct SourceRow {
    /// `family/id`.
    name: String,
    family: &'static str,
    entry: SourceEntry,
    state: SourceState,
    health: &'static str,
    /// Since when, where it is bad.
    since: Option<Timestamp>,
}

impl SourceRow {
    async fn read(
        state: &dyn State,
        family: &'static Family,
        entry: SourceEntry,
        now: Timestamp,
    ) -> Result<Self> {
        let name = format!("{}/{}", family.name, entry.id);
        let known = state.source(&name).await?;
        let (health, since) = match entry.enabled {
            true => (known.health(now).name(), known.since(now)),
            false => (DISABLED, None),
        };
        Ok(Self { name, family: family.name, entry, state: known, health, since })
    }

    fn json(&self) -> Value {
        json!({
            "family": self.family, "source": self.entry, "health": self.health, "since": self.since, "state": self.state,
        })
    }

    /// What went wrong, where it has moved, or where it is.
    fn says(&self) -> String {
        let moved = self.state.moved_to.as_ref().map(|to| format!("moved for good to {to}"));
        let error = self.state.last_error.clone();
        let parts: Vec<String> = error.into_iter().chain(moved).collect();
        if parts.is_empty() { address(&self.entry) } else { parts.join("; ") }
    }
}

fn address(entry: &SourceEntry) -> String {
    entry.url.as_ref().map(masked).unwrap_or_default()
}

fn gap(seconds: i64) -> String {
    match seconds {
        ..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// What of one source, or of all, is not stored.
async fn ledger(cli: &Cli, settings: &Settings, source: Option<&str>, kind: LedgerKind) -> Outcome {
    let state = open_state(settings).await?;
    let wanted = match source {
        None => None,
        Some(what) => {
            let all = all(settings, state.as_ref()).await?;
            let (family, entry) = named(&all, what)?;
            Some(format!("{}/{}", family.name, entry.id))
        }
    };
    let mut items = Vec::new();
    let mut count = 0_u64;
    for (name, many) in state.ledgers(None, kind).await? {
        if wanted.as_ref().is_some_and(|wanted| *wanted != name) {
            continue;
        }
        count += u64::from(many);
        for item in state.ledger(&name, kind, ITEMS_MAX).await? {
            items.push((name.clone(), item));
        }
    }
    if cli.json {
        let rows = items.iter().map(|(name, item)| {
            json!({"source": name, "id": item.id, "reason": item.reason, "attempts": item.attempts, "at": item.at})
        });
        out::json(&json!({"count": count, "items": rows.collect::<Vec<_>>()}));
        return Ok(out::DONE);
    }
    let word = match kind {
        LedgerKind::Rejected => "refused for good",
        LedgerKind::Failed => "to be tried again",
    };
    if items.is_empty() {
        out::line(&format!("no document is {word}"));
        return Ok(out::DONE);
    }
    let table = items.iter().map(|(name, item)| {
        vec![name.clone(), item.id.clone(), item.attempts.to_string(), item.reason.clone()]
    });
    out::table(&["SOURCE", "DOCUMENT", "ATTEMPTS", "REASON"], table.collect());
    out::line(&format!("{count} documents are {word}"));
    Ok(out::DONE)
}

async fn retry(cli: &Cli, settings: &Settings, what: &str) -> Outcome {
    let state = open_state(settings).await?;
    let all = all(settings, state.as_ref()).await?;
    let (family, entry) = named(&all, what)?;
    let name = format!("{}/{}", family.name, entry.id);
    state.reset_source(&name).await?;
    let mut forgotten = 0;
    for kind in [LedgerKind::Rejected, LedgerKind::Failed] {
        forgotten += state.forget(&name, kind).await?;
    }
    if cli.json {
        out::json(&json!({"source": name, "forgotten": forgotten}));
    } else {
        out::line(&format!("{name}: read again from its beginning at its next run"));
    }
    Ok(out::DONE)
}

async fn test(cli: &Cli, settings: &Settings, what: &str) -> Outcome {
    let home = Home::open(settings.config.clone()).await?;
    let all = all(settings, home.state.as_ref()).await?;
    let (editor, entry) = match named(&all, what) {
        Ok((family, entry)) => (editor(family, &entry.id)?, entry.clone()),
        Err(_) if what.contains("://") => {
            let url = edit::read_url(what)?;
            let (_, editor) = editable(DEFAULT_CATEGORY)?;
            let id = edit::id_of(&url);
            let entry = SourceEntry {
                name: id.clone(),
                id,
                url: Some(url),
                category: None,
                language: None,
                enabled: true,
            };
            (editor, entry)
        }
        Err(error) => {
            return Err(error.hint("give an id of `local-runner sources list`, or an address"));
        }
    };
    let definition = (editor.define)(entry.clone())?;
    let preview = (editor.preview)(&home, definition.clone()).await?;
    show_trial(cli, &entry, &definition, &preview);
    Ok(out::DONE)
}

fn show_trial(cli: &Cli, entry: &SourceEntry, definition: &Value, preview: &Preview) {
    if cli.json {
        out::json(&json!({
            "source": definition, "feed": preview.form, "title": preview.title, "found": preview.found,
            "notes": preview.notes, "rejects": preview.rejects, "documents": preview.documents,
        }));
        return;
    }
    out::line(&format!(
        "{}: {} ({})",
        entry.id,
        out::one_line(preview.title.as_deref().unwrap_or("(no title)")),
        preview.form
    ));
    out::line(&format!(
        "  {} items found, {} documents would be stored",
        preview.found,
        preview.documents.len()
    ));
    for note in preview.notes.iter().chain(&preview.rejects) {
        out::line(&format!("  · {}", out::one_line(note)));
    }
    for document in preview.documents.iter().take(PREVIEWED) {
        let text = |name: &str| out::one_line(document[name].as_str().unwrap_or("(no date)"));
        out::line(&format!("  {}  {}\n      {}", text("published"), text("title"), text("link")));
    }
    if preview.documents.len() > PREVIEWED {
        out::line(&format!("  … and {} more", preview.documents.len() - PREVIEWED));
    }
}
