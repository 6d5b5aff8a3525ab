//! `sources`: the list and its health; trying, adding, enabling and disabling; what was not stored of them.

use base::{Error, Result};
use serde_json::{Value, json};
use stores::state::{Health, LedgerKind, Override, SourceState, State};
use task::Family;
use task::catalog::{Preview, SourceEditor, SourceEntry};
use task::function::{Home, now};
use url::Url;

use crate::cli::{Cli, SourcesCommand};
use crate::families::FAMILIES;
use crate::home::{open_state, settings};
use crate::out::{self, Outcome};
use crate::runner;
use crate::settings::Settings;
use crate::when;

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
        SourcesCommand::Enable { id } => switch(cli, &settings, id, true).await,
        SourcesCommand::Disable { id } => switch(cli, &settings, id, false).await,
        SourcesCommand::Rejects { source } => {
            ledger(cli, &settings, source.as_deref(), LedgerKind::Rejected).await
        }
        SourcesCommand::Failed { source } => {
            ledger(cli, &settings, source.as_deref(), LedgerKind::Failed).await
        }
        SourcesCommand::Retry { source } => retry(cli, &settings, source).await,
        SourcesCommand::Add { url, id, name, category, language, untested } => {
            let url = read_url(url)?;
            let id = id.clone().unwrap_or_else(|| id_of(&url));
            let entry = SourceEntry {
                name: name.clone().unwrap_or_else(|| id.clone()),
                id,
                url: Some(url),
                language: language.clone(),
                category: Some(category.clone()),
                enabled: true,
            };
            add(cli, &settings, entry, name.is_none(), *untested).await
        }
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
        (None, _) => Err(Error::config(format!("find the source `{what}`"))
            .hint("`local-runner sources list` shows them all")),
    }
}

/// The family whose list people can change.
fn editable() -> Result<(&'static Family, SourceEditor)> {
    let editable = |family: &'static Family| Some((family, family.sources.edit?));
    FAMILIES.iter().find_map(editable).ok_or_else(|| {
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
    let known = ["ok", "quiet", "failing", "gone", "unknown", "disabled"];
    if let Some(wrong) = wanted.filter(|wanted| !known.contains(wanted)) {
        return Err(Error::config(format!("list sources of health `{wrong}`"))
            .hint(format!("it is one of {}", known.join(", "))));
    }
    let state = open_state(settings).await?;
    let now = now(&settings.config);
    let mut rows: Vec<(&Family, SourceEntry, SourceState, &str)> = Vec::new();
    for (family, entry) in all(settings, state.as_ref()).await? {
        let known = state.source(&format!("{}/{}", family.name, entry.id)).await?;
        let health = if entry.enabled { known.health(now).name() } else { "disabled" };
        if wanted.is_none_or(|wanted| wanted == health) {
            rows.push((family, entry, known, health));
        }
    }
    if cli.json {
        let rows = rows.iter().map(|(family, entry, state, health)| {
            json!({"family": family.name, "source": entry, "health": health, "state": state})
        });
        out::json(&rows.collect::<Vec<_>>());
        return Ok(out::DONE);
    }
    let timetable = runner::timetable(None)?;
    let zone = timetable.zone();
    let table = rows.iter().map(|(family, entry, state, health)| {
        vec![
            format!("{}/{}", family.name, entry.id),
            (*health).to_owned(),
            entry.category.clone().unwrap_or_default(),
            entry.language.clone().unwrap_or_default(),
            state.last_new.map(|last| when::day(last, zone)).unwrap_or_default(),
            state.usual_gap_s.map(gap).unwrap_or_default(),
            state.last_error.clone().unwrap_or_else(|| address(entry)),
        ]
    });
    out::table(
        &["SOURCE", "HEALTH", "CATEGORY", "LANGUAGE", "LAST NEWS", "USUAL GAP", "ADDRESS OR ERROR"],
        table.collect(),
    );
    let is_bad = |state: &SourceState| matches!(state.health(now), Health::Failing | Health::Gone);
    let bad = rows.iter().filter(|(_, _, state, _)| is_bad(state)).count();
    out::line(&format!("{} sources, {bad} of them failing or gone", rows.len()));
    Ok(out::DONE)
}

fn address(entry: &SourceEntry) -> String {
    entry.url.as_ref().map(ToString::to_string).unwrap_or_default()
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
            let url = read_url(what)?;
            let (_, editor) = editable()?;
            let id = id_of(&url);
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
    show(cli, &entry, &definition, &preview);
    Ok(out::DONE)
}

fn show(cli: &Cli, entry: &SourceEntry, definition: &Value, preview: &Preview) {
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
        preview.title.as_deref().unwrap_or("(no title)"),
        preview.form
    ));
    out::line(&format!(
        "  {} items found, {} documents would be stored",
        preview.found,
        preview.documents.len()
    ));
    for note in preview.notes.iter().chain(&preview.rejects) {
        out::line(&format!("  · {note}"));
    }
    for document in preview.documents.iter().take(PREVIEWED) {
        let text = |name: &str| document[name].as_str().unwrap_or("(no date)").to_owned();
        out::line(&format!("  {}  {}\n      {}", text("published"), text("title"), text("link")));
    }
    if preview.documents.len() > PREVIEWED {
        out::line(&format!("  … and {} more", preview.documents.len() - PREVIEWED));
    }
}

async fn switch(cli: &Cli, settings: &Settings, what: &str, enabled: bool) -> Outcome {
    let state = open_state(settings).await?;
    let all = all(settings, state.as_ref()).await?;
    let (family, entry) = named(&all, what)?;
    editor(family, &entry.id)?;
    let overrides = state.overrides(family.name).await?;
    let known = overrides.into_iter().find(|(known, _)| *known == entry.id);
    let known = known.map(|(_, change)| change).unwrap_or_default();
    let change = Override { enabled: Some(enabled), ..known };
    state.set_override(family.name, &entry.id, &change).await?;
    if enabled {
        ask_again(state.as_ref(), &format!("{}/{}", family.name, entry.id)).await?;
    }
    changed(cli, &entry.id, if enabled { "enabled" } else { "disabled" });
    Ok(out::DONE)
}

/// A source that is enabled again is asked again, whatever it said before.
async fn ask_again(state: &dyn State, name: &str) -> Result<()> {
    let known = state.source(name).await?;
    if !known.gone && known.next_allowed.is_none() {
        return Ok(());
    }
    if let Some(lease) = state.lease(name).await? {
        let asked = SourceState { gone: false, next_allowed: None, ..known };
        state.save_source(&lease, &asked).await?;
    }
    Ok(())
}

async fn add(
    cli: &Cli,
    settings: &Settings,
    mut entry: SourceEntry,
    may_rename: bool,
    untested: bool,
) -> Outcome {
    let home = Home::open(settings.config.clone()).await?;
    let (family, editor) = editable()?;
    let known = (family.sources.list)(&settings.config, home.state.as_ref()).await?;
    if known.iter().any(|known| known.id == entry.id) {
        return Err(Error::config(format!(
            "add the source `{}`: there is one of that id",
            entry.id
        ))
        .hint("choose another with `--id`"));
    }
    if let Some(same) = known.iter().find(|known| known.url == entry.url) {
        return Err(Error::config(format!(
            "add `{}`: `{}` has that address already",
            address(&entry),
            same.id
        )));
    }
    if !untested {
        let definition = (editor.define)(entry.clone())?;
        let preview = (editor.preview)(&home, definition.clone())
            .await
            .map_err(|error| error.hint("`--untested` adds it all the same"))?;
        if let (true, Some(title)) = (may_rename, &preview.title) {
            entry.name.clone_from(title);
        }
        if !cli.json {
            show(cli, &entry, &definition, &preview);
        }
    }
    let definition = (editor.define)(entry.clone())?;
    let change = Override { enabled: Some(true), definition: Some(definition) };
    home.state.set_override(family.name, &entry.id, &change).await?;
    changed(cli, &entry.id, "added");
    Ok(out::DONE)
}

fn changed(cli: &Cli, id: &str, what: &str) {
    if cli.json {
        out::json(&json!({"source": id, "state": what}));
    } else {
        out::line(&format!("{id}: {what}"));
    }
}

fn read_url(text: &str) -> Result<Url> {
    let url = Url::parse(text)
        .map_err(|cause| Error::config(format!("read the address `{text}`")).because(cause))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::config(format!(
            "read the address `{text}`: it is neither http nor https"
        )));
    }
    Ok(url)
}

/// A key made of the host's name, as `blog-example-org`.
fn id_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("source").trim_start_matches("www.");
    host.chars()
        .map(
            |letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' },
        )
        .collect()
}
