//! Changes of the list: `add`, `edit`, `remove`, `enable`, `disable`, and lists in and out as OPML.
//!
//! The list itself, with its comments, is never written to: what changes stands above it in the state, where every home reads it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use base::{Error, Result};
use serde_json::{Value, json};
use stores::state::{LedgerKind, Override, SourceState, State};
use task::Family;
use task::catalog::{SourceEditor, SourceEntry};
use task::function::Home;
use url::Url;

use super::opml::{self, Outline};
use super::{address, all, editable, editor, named, show_trial};
use crate::cli::{AddArgs, Cli, DEFAULT_CATEGORY, EditArgs, ImportArgs};
use crate::families::FAMILIES;
use crate::home::open_state;
use crate::out::{self, Outcome};
use crate::settings::Settings;

/// Letters of an id that is made of a host's name.
const ID_MAX: usize = 80;

/// Letters of a name that is taken from a feed.
const NAME_MAX: usize = 200;

/// What an import did not take that is told one by one.
const SKIPPED_SHOWN: usize = 20;

pub(super) async fn add(cli: &Cli, settings: &Settings, args: &AddArgs) -> Outcome {
    let url = read_url(&args.url)?;
    let home = Home::open(settings.config.clone()).await?;
    let (family, editor) = editable(&args.category)?;
    let known = (family.sources.list)(&settings.config, home.state.as_ref()).await?;
    let mut taken = TakenNames::of(&editor, &known);
    if let Some(same) = taken.urls.get(url.as_str()) {
        return Err(Error::config(format!("add `{url}`: `{same}` has that address already"))
            .hint(format!("`local-runner sources show {same}` shows it")));
    }
    let id = args.id.clone().unwrap_or_else(|| taken.free_id(&id_of(&url)));
    let mut entry = SourceEntry {
        name: args.name.clone().unwrap_or_else(|| id.clone()),
        id,
        url: Some(url),
        language: args.language.clone(),
        category: Some(args.category.clone()),
        enabled: true,
    };
    // What is wrong with it is told before anything is fetched.
    (editor.check)(&entry)?;
    is_category(&editor, &known, &args.category, args.new_category)?;
    if taken.ids.contains(&entry.id) {
        return Err(Error::config(format!(
            "add the source `{}`: there is one of that id",
            entry.id
        ))
        .hint(format!("`--id {}` is free", taken.free_id(&entry.id))));
    }
    if !args.untested {
        tried(cli, &home, &editor, &mut entry, args.name.is_none()).await?;
    }
    put(home.state.as_ref(), family, &editor, &entry).await?;
    changed(cli, &entry.id, "added");
    Ok(out::DONE)
}

pub(super) async fn edit(cli: &Cli, settings: &Settings, args: &EditArgs) -> Outcome {
    let home = Home::open(settings.config.clone()).await?;
    let all = all(settings, home.state.as_ref()).await?;
    let (family, before) = named(&all, &args.id)?;
    let editor = editor(family, &before.id)?;
    let known: Vec<SourceEntry> = all
        .iter()
        .filter(|(other, _)| other.name == family.name)
        .map(|(_, entry)| entry.clone())
        .collect();
    let mut entry = before.clone();
    if let Some(url) = &args.url {
        let url = read_url(url)?;
        let other = |known: &&SourceEntry| known.url.as_ref() == Some(&url) && known.id != entry.id;
        if let Some(same) = known.iter().find(other) {
            return Err(Error::config(format!(
                "move `{}` to `{url}`: `{}` is there",
                entry.id, same.id
            )));
        }
        entry.url = Some(url);
    }
    if let Some(category) = &args.category {
        is_category(&editor, &known, category, args.new_category)?;
        entry.category = Some(category.clone());
    }
    entry.name = args.name.clone().unwrap_or(entry.name);
    entry.language = args.language.clone().or(entry.language);
    // What the list says is as it is; what is new must be right.
    (editor.check)(&SourceEntry {
        id: "source".to_owned(),
        name: args.name.clone().unwrap_or_else(|| "source".to_owned()),
        url: entry.url.clone(),
        category: args.category.clone(),
        language: args.language.clone(),
        enabled: true,
    })?;
    if entry == *before {
        return Err(Error::config(format!("edit `{}`: nothing changes", entry.id))
            .hint("give `--url`, `--name`, `--category` or `--language` another value"));
    }
    let is_moved = entry.url != before.url;
    if is_moved && !args.untested {
        tried(cli, &home, &editor, &mut entry, false).await?;
    }
    let definition = (editor.define)(entry.clone())?;
    let change = change_of(home.state.as_ref(), family, &entry.id).await?;
    let change = Override { definition: Some(definition), ..change };
    home.state.set_override(family.name, &entry.id, &change).await?;
    if is_moved {
        ask_again(home.state.as_ref(), &format!("{}/{}", family.name, entry.id), true).await?;
    }
    changed(cli, &entry.id, "edited");
    Ok(out::DONE)
}

/// Takes a source out of the list. What is stored of it stays.
pub(super) async fn remove(cli: &Cli, settings: &Settings, what: &str) -> Outcome {
    let state = open_state(settings).await?;
    let all = all(settings, state.as_ref()).await?;
    let (family, entry) = named(&all, what)?;
    editor(family, &entry.id)?;
    let change = change_of(state.as_ref(), family, &entry.id).await?;
    state.set_override(family.name, &entry.id, &Override { removed: true, ..change }).await?;
    changed(cli, &entry.id, "removed");
    if !cli.json {
        out::line(&format!(
            "  what is stored of it stays; `local-runner sources enable {}` brings it back",
            entry.id
        ));
    }
    Ok(out::DONE)
}

pub(super) async fn switch(cli: &Cli, settings: &Settings, what: &str, enabled: bool) -> Outcome {
    let state = open_state(settings).await?;
    if enabled {
        bring_back(state.as_ref(), what).await?;
    }
    let all = all(settings, state.as_ref()).await?;
    let (family, entry) = named(&all, what)?;
    editor(family, &entry.id)?;
    let change = change_of(state.as_ref(), family, &entry.id).await?;
    let change = Override { enabled: Some(enabled), ..change };
    state.set_override(family.name, &entry.id, &change).await?;
    if enabled {
        ask_again(state.as_ref(), &format!("{}/{}", family.name, entry.id), false).await?;
    }
    changed(cli, &entry.id, if enabled { "enabled" } else { "disabled" });
    Ok(out::DONE)
}

/// Puts a source that was removed into its list again; any other stays as it is.
async fn bring_back(state: &dyn State, what: &str) -> Result<()> {
    for family in FAMILIES.iter().filter(|family| family.sources.edit.is_some()) {
        let own = what.strip_prefix(family.name).and_then(|rest| rest.strip_prefix('/'));
        let id = own.unwrap_or(what);
        let change = change_of(state, family, id).await?;
        if change.removed {
            let change = Override { removed: false, ..change };
            return state.set_override(family.name, id, &change).await;
        }
    }
    Ok(())
}

/// What was changed of a source so far.
async fn change_of(state: &dyn State, family: &Family, id: &str) -> Result<Override> {
    let changes = state.overrides(family.name).await?;
    let change = changes.into_iter().find(|(known, _)| known == id);
    Ok(change.map(|(_, change)| change).unwrap_or_default())
}

/// A source that is enabled again, or has another address, is asked again, whatever it said before.
async fn ask_again(state: &dyn State, name: &str, is_moved: bool) -> Result<()> {
    let known = state.source(name).await?;
    let moved_to = known.moved_to.clone().filter(|_| !is_moved);
    let asked = SourceState { gone: false, next_allowed: None, moved_to, ..known.clone() };
    if asked != known
        && let Some(lease) = state.lease(name).await?
    {
        state.save_source(&lease, &asked).await?;
    }
    Ok(())
}

/// Tries a source, shows what came, and takes the feed's own name where none was given.
async fn tried(
    cli: &Cli,
    home: &Home,
    editor: &SourceEditor,
    entry: &mut SourceEntry,
    may_rename: bool,
) -> Result<()> {
    let definition = (editor.define)(entry.clone())?;
    let preview = (editor.preview)(home, definition.clone()).await.map_err(|error| {
        let offer = error.hint_text().filter(|hint| hint.contains("links to a feed"));
        let offer = offer.map_or_else(String::new, |offer| format!("{offer}\n  "));
        error.hint(format!("{offer}`--untested` takes it all the same"))
    })?;
    if let (true, Some(title)) = (may_rename, &preview.title) {
        let title: String = title.replace(char::is_control, " ");
        let title: String = title.trim().chars().take(NAME_MAX).collect();
        if !title.is_empty() {
            entry.name = title;
        }
    }
    if !cli.json {
        show_trial(cli, entry, &definition, &preview);
    }
    Ok(())
}

/// Stores a source that is new, and forgets what is known of an earlier one of its id.
async fn put(
    state: &dyn State,
    family: &Family,
    editor: &SourceEditor,
    entry: &SourceEntry,
) -> Result<()> {
    let definition = (editor.define)(entry.clone())?;
    let change =
        Override { enabled: Some(entry.enabled), definition: Some(definition), removed: false };
    let name = format!("{}/{}", family.name, entry.id);
    if state.source(&name).await? != SourceState::default()
        && let Some(lease) = state.lease(&name).await?
    {
        state.save_source(&lease, &SourceState::default()).await?;
        drop(lease);
        for kind in [LedgerKind::Rejected, LedgerKind::Failed] {
            state.forget(&name, kind).await?;
        }
    }
    state.set_override(family.name, &entry.id, &change).await
}

/// Refuses a category that no source has, unless a new one is meant.
fn is_category(
    editor: &SourceEditor,
    known: &[SourceEntry],
    category: &str,
    is_new: bool,
) -> Result<()> {
    let all = categories(editor, known);
    if is_new || all.contains(&category) {
        return Ok(());
    }
    let near = out::nearest(category, all.iter().copied());
    let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    Err(Error::config(format!("find the category `{category}`"))
        .hint(format!("{near}there is: {}; `--new-category` makes one", all.join(", "))))
}

/// The categories that there are.
fn categories<'a>(editor: &SourceEditor, known: &'a [SourceEntry]) -> Vec<&'a str> {
    let mut all: Vec<&str> = editor.categories.to_vec();
    for category in known.iter().filter_map(|entry| entry.category.as_deref()) {
        if !all.contains(&category) {
            all.push(category);
        }
    }
    all
}

/// What becomes of the feeds of a file.
#[derive(Default)]
struct Imported {
    added: Vec<SourceEntry>,
    /// Feeds that are in the list, by the ids they have there.
    known: Vec<(String, String)>,
    skipped: Vec<(String, String)>,
}

/// What sources have already, looked up once for each feed of a file.
struct TakenNames {
    ids: HashSet<String>,
    /// Ids by address.
    urls: HashMap<String, String>,
    categories: HashSet<String>,
    /// The last number that was tried behind an id, so that a file full of one host is read once.
    numbers: HashMap<String, u32>,
}

impl TakenNames {
    fn of(editor: &SourceEditor, known: &[SourceEntry]) -> Self {
        let categories = categories(editor, known).into_iter().map(ToOwned::to_owned).collect();
        let (ids, urls, numbers) = (HashSet::new(), HashMap::new(), HashMap::new());
        let mut taken = Self { ids, urls, categories, numbers };
        known.iter().for_each(|entry| taken.take(entry));
        taken
    }

    fn take(&mut self, entry: &SourceEntry) {
        self.ids.insert(entry.id.clone());
        self.urls.entry(address(entry)).or_insert_with(|| entry.id.clone());
        self.categories.extend(entry.category.clone());
    }

    /// The id, or the first of its numbered ones that no source has: a host may have several feeds.
    fn free_id(&mut self, id: &str) -> String {
        if !self.ids.contains(id) {
            return id.to_owned();
        }
        let number = self.numbers.entry(id.to_owned()).or_insert(1);
        loop {
            *number += 1;
            let numbered = format!("{id}-{number}");
            if !self.ids.contains(&numbered) {
                return numbered;
            }
        }
    }
}

pub(super) async fn import(cli: &Cli, settings: &Settings, args: &ImportArgs) -> Outcome {
    let outlines = opml::read(&file(&args.file)?)?;
    if outlines.is_empty() {
        return Err(Error::config(format!(
            "import `{}`: there is no feed in it",
            args.file.display()
        ))
        .hint("a feed is an outline with an `xmlUrl`"));
    }
    let state = open_state(settings).await?;
    let (family, editor) = editable(&args.category)?;
    let known = (family.sources.list)(&settings.config, state.as_ref()).await?;
    is_category(&editor, &known, &args.category, args.new_category)?;
    let mut taken = TakenNames::of(&editor, &known);
    let mut imported = Imported::default();
    for outline in outlines {
        match entry_of(&outline, args, &editor, &mut taken) {
            Err(error) => imported.skipped.push((outline.url, error.chain())),
            Ok(entry) => match taken.urls.get(&address(&entry)) {
                Some(same) => imported.known.push((same.clone(), address(&entry))),
                None => {
                    taken.take(&entry);
                    imported.added.push(entry);
                }
            },
        }
    }
    if !args.dry_run {
        for entry in &imported.added {
            put(state.as_ref(), family, &editor, entry).await?;
        }
    }
    show_import(cli, args, &imported);
    let is_nothing = imported.added.is_empty() && imported.known.is_empty();
    Ok(if is_nothing { out::USAGE } else { out::DONE })
}

fn show_import(cli: &Cli, args: &ImportArgs, imported: &Imported) {
    if cli.json {
        let pair = |(name, value): &(String, String), names: [&str; 2]| json!({names[0]: name, names[1]: value});
        let known: Vec<Value> =
            imported.known.iter().map(|one| pair(one, ["source", "url"])).collect();
        let skipped: Vec<Value> =
            imported.skipped.iter().map(|one| pair(one, ["url", "reason"])).collect();
        out::json(&json!({
            "added": imported.added, "known": known, "skipped": skipped, "dry_run": args.dry_run,
        }));
        return;
    }
    let rows = imported.added.iter().map(|entry| {
        vec![entry.id.clone(), entry.category.clone().unwrap_or_default(), address(entry)]
    });
    if !imported.added.is_empty() {
        out::table(&["SOURCE", "CATEGORY", "ADDRESS"], rows.collect());
    }
    for (url, why) in imported.skipped.iter().take(SKIPPED_SHOWN) {
        out::line(&out::one_line(&format!("skipped `{url}`: {why}")));
    }
    if imported.skipped.len() > SKIPPED_SHOWN {
        out::line(&format!("… and {} more", imported.skipped.len() - SKIPPED_SHOWN));
    }
    let (added, known, skipped) =
        (imported.added.len(), imported.known.len(), imported.skipped.len());
    let verb = if args.dry_run { "would be added" } else { "added, untested" };
    out::line(&format!("{added} {verb}, {known} there already, {skipped} skipped"));
}

/// The bytes of a file, or of standard input where it is called `-`.
fn file(path: &Path) -> Result<Vec<u8>> {
    let failed = |cause: io::Error| {
        Error::config(format!("read the OPML `{}`", path.display())).because(cause)
    };
    let mut bytes = Vec::new();
    let most = opml::BYTES_MAX + 1;
    if path == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    }
    .map_err(failed)?;
    if bytes.len() as u64 > opml::BYTES_MAX {
        return Err(Error::config(format!(
            "read the OPML `{}`: it is larger than {} MiB",
            path.display(),
            opml::BYTES_MAX >> 20
        )));
    }
    Ok(bytes)
}

/// The source that an outline stands for: an id that is free, and a category that there is.
fn entry_of(
    outline: &Outline,
    args: &ImportArgs,
    editor: &SourceEditor,
    taken: &mut TakenNames,
) -> Result<SourceEntry> {
    let plain = outline.url.strip_prefix("feed:").unwrap_or(&outline.url);
    let plain = if plain.starts_with("//") { format!("http:{plain}") } else { plain.to_owned() };
    let url = read_url(&plain)?;
    let folders: Vec<String> = outline.folders.iter().map(|folder| slug(folder)).collect();
    let category = folders
        .iter()
        .find(|folder| taken.categories.contains(*folder))
        .or_else(|| folders.first().filter(|folder| args.new_category && !folder.is_empty()))
        .unwrap_or(&args.category);
    let id = outline.id.as_ref().filter(|id| !taken.ids.contains(*id));
    let id = id.cloned().unwrap_or_else(|| taken.free_id(&id_of(&url)));
    let name: String = outline.name.replace(char::is_control, " ");
    let name: String = name.trim().chars().take(NAME_MAX).collect();
    let entry = SourceEntry {
        name: if name.is_empty() { id.clone() } else { name },
        id,
        url: Some(url),
        category: Some(category.clone()),
        language: outline.language.clone(),
        enabled: !outline.is_disabled,
    };
    (editor.check)(&entry)?;
    Ok(entry)
}

/// Writes the list, with what was changed of it, as OPML.
pub(super) async fn export(cli: &Cli, settings: &Settings, to: Option<&Path>) -> Outcome {
    let state = open_state(settings).await?;
    let (family, _) = editable(DEFAULT_CATEGORY)?;
    let entries = (family.sources.list)(&settings.config, state.as_ref()).await?;
    let text = opml::write(&entries);
    match to {
        None if cli.json => out::json(&entries),
        None => out::line(text.trim_end()),
        Some(path) => {
            std::fs::write(path, text).map_err(|cause| {
                Error::config(format!("write `{}`", path.display())).because(cause)
            })?;
            if cli.json {
                out::json(&json!({"sources": entries.len(), "file": path}));
            } else {
                out::line(&format!("{} sources are in `{}`", entries.len(), path.display()));
            }
        }
    }
    Ok(out::DONE)
}

fn changed(cli: &Cli, id: &str, what: &str) {
    if cli.json {
        out::json(&json!({"source": id, "state": what}));
    } else {
        out::line(&format!("{id}: {what}"));
    }
}

/// An address as it was typed.
pub(super) fn read_url(text: &str) -> Result<Url> {
    let wrong = || Error::config(format!("read the address `{text}`"));
    let url = Url::parse(text).map_err(|cause| {
        let whole = format!("https://{text}");
        match Url::parse(&whole).ok().filter(|_| text.contains('.') && !text.contains("://")) {
            Some(_) => wrong().because(cause).hint(format!("did you mean `{whole}`?")),
            None => wrong().because(cause),
        }
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::config(format!(
            "read the address `{text}`: it is neither http nor https"
        )));
    }
    Ok(url)
}

/// A key made of the host's name, as `blog-example-org`.
pub(super) fn id_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let id = slug(host.strip_prefix("www.").unwrap_or(host));
    if id.is_empty() { "source".to_owned() } else { id }
}

/// Small ASCII letters and digits, all else as one `-`.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for letter in text.chars() {
        match letter.to_ascii_lowercase() {
            letter if letter.is_ascii_alphanumeric() => slug.push(letter),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    slug.truncate(ID_MAX);
    slug.trim_end_matches('-').to_owned()
}
