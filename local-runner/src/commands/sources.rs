//! `sources`: the list and its health; trying, adding, switching on and off.

use base::{Error, Result};
use rss::collect::{Preview, preview};
use rss::sources::{Source, Sources};
use serde_json::{Value, json};
use stores::state::{Health, Override, SourceState};
use task::function::{Home, now};
use url::Url;

use super::{open_state, settings};
use crate::cli::{Cli, SourcesCommand};
use crate::out::{self, Outcome};
use crate::runner;
use crate::settings::Settings;
use crate::when;

/// Documents that a trial shows.
const SHOWN: usize = 5;

/// `local-runner sources`.
pub(crate) async fn sources(cli: &Cli, command: &SourcesCommand) -> Outcome {
    let settings = settings(cli)?;
    match command {
        SourcesCommand::List { health } => list(cli, &settings, health.as_deref()).await,
        SourcesCommand::Test { source } => test(cli, &settings, source).await,
        SourcesCommand::Enable { id } => switch(cli, &settings, id, true).await,
        SourcesCommand::Disable { id } => switch(cli, &settings, id, false).await,
        SourcesCommand::Add { url, id, name, category, language, untested } => {
            let url = read_url(url)?;
            let id = id.clone().unwrap_or_else(|| id_of(&url));
            let source = Source {
                name: name.clone().unwrap_or_else(|| id.clone()),
                id,
                url,
                language: language.clone(),
                category: category.clone(),
                enabled: true,
            };
            add(cli, &settings, source, name.is_none(), *untested).await
        }
    }
}

async fn list(cli: &Cli, settings: &Settings, wanted: Option<&str>) -> Outcome {
    let known = ["ok", "quiet", "failing", "gone", "unknown", "disabled"];
    if let Some(wrong) = wanted.filter(|wanted| !known.contains(wanted)) {
        return Err(Error::config(format!("list sources of health `{wrong}`"))
            .hint(format!("it is one of {}", known.join(", "))));
    }
    let state = open_state(settings).await?;
    let sources = Sources::load(&settings.config, state.as_ref()).await?;
    let mut states: std::collections::BTreeMap<String, SourceState> =
        state.sources(rss::FAMILY.name).await?.into_iter().collect();
    let now = now(&settings.config);
    let rows: Vec<(&Source, SourceState, &str)> = sources
        .all()
        .iter()
        .map(|source| {
            let state = states.remove(&source.id).unwrap_or_default();
            let health = if source.enabled { state.health(now).name() } else { "disabled" };
            (source, state, health)
        })
        .filter(|(_, _, health)| wanted.is_none_or(|wanted| wanted == *health))
        .collect();
    if cli.json {
        let rows = rows.iter().map(
            |(source, state, health)| json!({"source": source, "health": health, "state": state}),
        );
        out::json(&rows.collect::<Vec<_>>());
        return Ok(out::DONE);
    }
    let timetable = runner::timetable(None)?;
    let zone = timetable.zone();
    let table = rows.iter().map(|(source, state, health)| {
        vec![
            source.id.clone(),
            (*health).to_owned(),
            source.category.clone(),
            source.language.clone().unwrap_or_default(),
            state.last_new.map(|last| when::day(last, zone)).unwrap_or_default(),
            state.usual_gap_s.map(gap).unwrap_or_default(),
            state.last_error.clone().unwrap_or_else(|| source.url.to_string()),
        ]
    });
    out::table(
        &["SOURCE", "HEALTH", "CATEGORY", "LANGUAGE", "LAST NEWS", "USUAL GAP", "ADDRESS OR ERROR"],
        table.collect(),
    );
    let bad = rows
        .iter()
        .filter(|(_, state, _)| matches!(state.health(now), Health::Failing | Health::Gone))
        .count();
    out::line(&format!("{} sources, {bad} of them failing or gone", rows.len()));
    Ok(out::DONE)
}

fn gap(seconds: i64) -> String {
    match seconds {
        ..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

async fn test(cli: &Cli, settings: &Settings, what: &str) -> Outcome {
    let home = Home::open(settings.config.clone()).await?;
    let sources = Sources::load(&home.config, home.state.as_ref()).await?;
    let source = match sources.all().iter().find(|source| source.id == what) {
        Some(source) => source.clone(),
        None if what.contains("://") => {
            let url = read_url(what)?;
            Source {
                id: id_of(&url),
                name: id_of(&url),
                url,
                language: None,
                category: "news".to_owned(),
                enabled: true,
            }
        }
        None => {
            return Err(Error::config(format!("find the source `{what}`"))
                .hint("give an id of `local-runner sources list`, or an address"));
        }
    };
    let preview =
        preview(&home.http, &source, now(&home.config)).await.map_err(|stop| stop.error)?;
    show(cli, &source, &preview);
    Ok(out::DONE)
}

fn show(cli: &Cli, source: &Source, preview: &Preview) {
    if cli.json {
        let documents: Vec<&Value> = preview.documents.iter().collect();
        out::json(&json!({
            "source": source, "feed": preview.feed, "title": preview.title, "found": preview.found,
            "notes": preview.notes, "rejects": preview.rejects, "documents": documents,
        }));
        return;
    }
    out::line(&format!(
        "{}: {} ({})",
        source.id,
        preview.title.as_deref().unwrap_or("(no title)"),
        preview.feed
    ));
    out::line(&format!(
        "  {} items found, {} documents would be stored",
        preview.found,
        preview.documents.len()
    ));
    for note in preview.notes.iter().chain(&preview.rejects) {
        out::line(&format!("  · {note}"));
    }
    for document in preview.documents.iter().take(SHOWN) {
        let text = |name: &str| document[name].as_str().unwrap_or("(no date)").to_owned();
        out::line(&format!("  {}  {}\n      {}", text("published"), text("title"), text("link")));
    }
    if preview.documents.len() > SHOWN {
        out::line(&format!("  … and {} more", preview.documents.len() - SHOWN));
    }
}

async fn switch(cli: &Cli, settings: &Settings, id: &str, enabled: bool) -> Outcome {
    let state = open_state(settings).await?;
    let sources = Sources::load(&settings.config, state.as_ref()).await?;
    sources.named(&[id.to_owned()])?;
    let overrides = state.overrides(rss::FAMILY.name).await?;
    let known = overrides
        .into_iter()
        .find(|(known, _)| known == id)
        .map(|(_, word)| word)
        .unwrap_or_default();
    state.set_override(rss::FAMILY.name, id, &Override { enabled: Some(enabled), ..known }).await?;
    if enabled {
        forgive(state.as_ref(), id).await?;
    }
    told(cli, id, if enabled { "enabled" } else { "disabled" });
    Ok(out::DONE)
}

/// A source that is switched on again is asked again, whatever it said before.
async fn forgive(state: &dyn stores::state::State, id: &str) -> Result<()> {
    let name = format!("{}/{id}", rss::FAMILY.name);
    let known = state.source(&name).await?;
    if !known.gone && known.next_allowed.is_none() {
        return Ok(());
    }
    if let Some(lease) = state.lease(&name).await? {
        state
            .save_source(&lease, &SourceState { gone: false, next_allowed: None, ..known })
            .await?;
    }
    Ok(())
}

async fn add(
    cli: &Cli,
    settings: &Settings,
    mut source: Source,
    may_rename: bool,
    untested: bool,
) -> Outcome {
    let home = Home::open(settings.config.clone()).await?;
    let sources = Sources::load(&home.config, home.state.as_ref()).await?;
    if sources.all().iter().any(|known| known.id == source.id) {
        return Err(Error::config(format!(
            "add the source `{}`: there is one of that id",
            source.id
        ))
        .hint("choose another with `--id`"));
    }
    if let Some(same) = sources.all().iter().find(|known| known.url == source.url) {
        return Err(Error::config(format!(
            "add `{}`: `{}` has that address already",
            source.url, same.id
        )));
    }
    if !untested {
        let preview = preview(&home.http, &source, now(&home.config))
            .await
            .map_err(|stop| stop.error.hint("`--untested` adds it all the same"))?;
        if let (true, Some(title)) = (may_rename, &preview.title) {
            source.name.clone_from(title);
        }
        if !cli.json {
            show(cli, &source, &preview);
        }
    }
    let definition = serde_json::to_value(&source).expect("plain fields are JSON");
    let word = Override { enabled: Some(true), definition: Some(definition) };
    home.state.set_override(rss::FAMILY.name, &source.id, &word).await?;
    told(cli, &source.id, "added");
    Ok(out::DONE)
}

fn told(cli: &Cli, id: &str, what: &str) {
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
