//! The list of feeds: our own, a TOML file, or MISP's own descriptions as JSON; and what a person changed of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use base::config::{Config, Secret, SettingValue};
use base::{Error, Result};
use ioc::Tlp;
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stores::documents::Filter;
use stores::state::StateReader;
use task::VisitLimits;
use task::catalog::SourceEntry;
use url::Url;

use crate::pcre;

/// The family's name, in ids of documents and sources too.
pub const NAME: &str = "misp";

/// The index that indicators go to.
pub const INDEX: &str = "cti_misp_iocs";

/// The list compiled in; its head says where its facts are from.
const DEFAULT: &str = include_str!("feeds.toml");

base::settings! {
    /// What the family is given.
    pub struct Settings {
        /// TOML file with the MISP feeds, or a JSON file of MISP's own feed descriptions; default: the list compiled in.
        feeds: Option<PathBuf> = "", "MISP_FEEDS", file;
        /// Keys that headers of feeds name as `secret:NAME`: `NAME=KEY`, several separated by commas.
        keys: FeedKeys = "", "MISP_FEED_KEYS";
    }
}

/// Keys by the names under which headers of feeds ask for them.
#[derive(Clone, Debug, Default)]
pub struct FeedKeys(BTreeMap<String, Secret<String>>);

impl SettingValue for FeedKeys {
    fn read(text: &str) -> std::result::Result<Self, String> {
        let mut keys = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, key) = pair.split_once('=').unwrap_or_default();
            if !is_slug(name.trim()) || key.trim().is_empty() || key.contains(char::is_control) {
                return Err("each key is `NAME=KEY`, several separated by commas".to_owned());
            }
            keys.insert(name.trim().to_owned(), Secret::new(key.trim().to_owned()));
        }
        Ok(Self(keys))
    }
}

/// How a feed is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A manifest, and a file for each event.
    Misp,
    /// Rows of cells.
    Csv,
    /// Any text.
    Freetext,
}

/// One feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// Its key: stable for ever, as documents and state are named after it.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Who gives it.
    #[serde(default)]
    pub provider: String,
    /// Where it is; of format `misp` the folder of its manifest.
    pub url: Url,
    pub format: Format,
    /// Under which terms it is given.
    #[serde(default, alias = "license", skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// A page about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Url>,
    /// Whether it is synced unless it is asked for by name.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Further headers of its requests, such as a key: the value itself, `file:` and the path of a file that holds it, or
    /// `secret:` and its name in `MISP_FEED_KEYS`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How far what it gives may be passed on, where it does not say so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tlp: Option<Tlp>,
    /// How sure it is, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<u8>,
    /// Tags of everything that it gives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// MISP's type of everything that it gives, where the values do not tell: `x509-fingerprint-sha1`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What a line begins with that is a remark; in a table it is `#` whatever stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comments: Option<String>,
    /// MISP's settings, in its own words: an object, or a text that holds one.
    #[serde(default, deserialize_with = "settings")]
    pub settings: FeedSettings,
    /// MISP's rules: which events are wanted.
    #[serde(default, deserialize_with = "rules", skip_serializing_if = "Rules::is_empty")]
    pub rules: Rules,
}

/// What MISP calls the settings of a feed, in its words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeedSettings {
    pub csv: CsvSettings,
    pub common: CommonSettings,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CsvSettings {
    /// The columns with indicators, counted from 1 and parted by commas; every column when empty.
    #[serde(deserialize_with = "columns")]
    pub value: Vec<usize>,
    /// What parts two cells; a comma when empty, `\t` is a tabulator.
    #[serde(deserialize_with = "text")]
    pub delimiter: String,
    /// Columns with more on an indicator, counted from 1.
    #[serde(skip_serializing_if = "MoreColumns::is_empty")]
    pub more: MoreColumns,
}

/// Columns that say more of the indicators of their row, counted from 1. MISP has no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MoreColumns {
    pub first_seen: Option<usize>,
    pub last_seen: Option<usize>,
    pub malware: Option<usize>,
    pub tags: Option<usize>,
    pub comment: Option<usize>,
    pub reference: Option<usize>,
    /// 0 to 100.
    pub confidence: Option<usize>,
    /// A port of the addresses of the row.
    pub port: Option<usize>,
}

impl MoreColumns {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommonSettings {
    /// What an indicator's text must not match, as PCRE writes it: `/^#/i`.
    #[serde(deserialize_with = "text")]
    pub excluderegex: String,
}

/// Which events of a feed are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    pub tags: Rule,
    pub orgs: Rule,
}

/// One of these, and none of those.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    #[serde(rename = "OR", deserialize_with = "texts")]
    pub any: Vec<String>,
    #[serde(rename = "NOT", deserialize_with = "texts")]
    pub none: Vec<String>,
}

impl Rules {
    /// Whether they leave nothing out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an event with these tags, of an organisation with one of these names, is wanted.
    pub fn take(&self, tags: &[String], organisation: [Option<&str>; 2]) -> bool {
        let has_tag = |wanted: &String| tags.contains(wanted);
        let is_organisation = |wanted: &String| {
            organisation.iter().flatten().any(|name| name.eq_ignore_ascii_case(wanted))
        };
        let fits = |rule: &Rule, has: &dyn Fn(&String) -> bool| {
            (rule.any.is_empty() || rule.any.iter().any(has)) && !rule.none.iter().any(has)
        };
        fits(&self.tags, &has_tag) && fits(&self.orgs, &is_organisation)
    }
}

impl Feed {
    /// The documents that it is a source of.
    pub(crate) fn documents(&self) -> Filter {
        Filter::Terms("sources.id".to_owned(), vec![self.id.clone()])
    }

    /// What parts two cells of its rows.
    pub fn delimiter(&self) -> &str {
        match self.settings.csv.delimiter.as_str() {
            "" => ",",
            "\\t" => "\t",
            other => other,
        }
    }

    /// What its indicators must not match.
    ///
    /// # Errors
    /// `Config`: it is no expression that is matched in linear time.
    pub fn excluded(&self) -> Result<Option<Regex>> {
        let text = &self.settings.common.excluderegex;
        if text.is_empty() {
            return Ok(None);
        }
        pcre::linear(text).map(Some).map_err(|why| {
            Error::config(format!("read `excluderegex` of the feed `{}`: {why}", self.id))
                .hint("an expression without look-around and back references does the same")
        })
    }

    /// Its headers, with what files and settings hold for them.
    ///
    /// # Errors
    /// `Config`: a file cannot be read, a key is unset, or there is no header in it.
    pub async fn headers(&self, keys: &FeedKeys) -> Result<Vec<(String, String)>> {
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let failed = || format!("read the header `{name}` of the feed `{}`", self.id);
            let value = if let Some(path) = value.strip_prefix("file:") {
                tokio::fs::read_to_string(path).await.map_err(|cause| {
                    Error::config(failed())
                        .because(cause)
                        .hint("`file:` and a path name a file with the header's value")
                })?
            } else if let Some(key) = value.strip_prefix("secret:") {
                let key = keys.0.get(key.trim()).ok_or_else(|| {
                    Error::config(format!("{}: there is no key `{}`", failed(), key.trim()))
                        .hint("`MISP_FEED_KEYS` has it, as `NAME=KEY`")
                })?;
                key.expose().clone()
            } else {
                value.clone()
            };
            let value = value.trim().to_owned();
            let is_name = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            if !is_name || value.is_empty() || value.contains(char::is_control) {
                return Err(Error::config(format!(
                    "use the header `{name}` of the feed `{}`: it has no value on one line",
                    self.id
                )));
            }
            headers.push((name.clone(), value));
        }
        Ok(headers)
    }

    fn check(&self) -> Result<(), String> {
        if !is_slug(&self.id) {
            return Err(format!("`{}` is no id", self.id.chars().take(60).collect::<String>()));
        }
        if !matches!(self.url.scheme(), "http" | "https") || !self.url.has_host() {
            return Err(format!("`{}` needs an http(s) url", self.id));
        }
        if self.confidence.is_some_and(|score| score > 100) {
            return Err(format!("`{}`: `confidence` is 0 to 100", self.id));
        }
        Ok(())
    }
}

impl task::Source for Feed {
    fn id(&self) -> &str {
        &self.id
    }

    fn indices(&self) -> &'static [&'static str] {
        &[INDEX]
    }

    /// As much as a step of a run takes: a long list goes on in the next.
    fn limits(&self) -> VisitLimits {
        task::STEP
    }

    fn is_enabled(&self) -> bool {
        self.enabled
    }
}

impl From<Feed> for SourceEntry {
    fn from(feed: Feed) -> Self {
        let category = match feed.format {
            Format::Misp => "misp",
            Format::Csv => "csv",
            Format::Freetext => "freetext",
        };
        Self {
            id: feed.id,
            name: feed.name,
            url: Some(feed.url),
            category: Some(category.to_owned()),
            language: None,
            enabled: feed.enabled,
        }
    }
}

fn yes() -> bool {
    true
}

/// What a person may call a feed: letters, digits, `-`, `_` and `.`.
fn is_slug(text: &str) -> bool {
    const SLUG_MAX: usize = 100;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= SLUG_MAX
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(allowed)
}

/// A value that may stand as a text in a text.
fn unwrapped(mut value: Value) -> Value {
    const TEXTS_MAX: usize = 3;
    for _ in 0..TEXTS_MAX {
        let Value::String(text) = &value else { break };
        if text.trim().is_empty() {
            return Value::Null;
        }
        let Ok(inner) = serde_json::from_str(text) else { break };
        value = inner;
    }
    value
}

fn wrapped<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::de::DeserializeOwned,
{
    match unwrapped(Value::deserialize(deserializer)?) {
        // PHP writes an empty object as an empty list.
        Value::Null => Ok(T::default()),
        Value::Array(list) if list.is_empty() => Ok(T::default()),
        value => serde_json::from_value(value).map_err(serde::de::Error::custom),
    }
}

fn settings<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<FeedSettings, D::Error> {
    wrapped(deserializer)
}

fn rules<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Rules, D::Error> {
    wrapped(deserializer)
}

fn columns<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<usize>, D::Error> {
    let text = match Value::deserialize(deserializer)? {
        Value::Array(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let parts = text.split(',').map(|part| part.trim().trim_matches('"'));
    let columns = parts.filter(|part| !part.is_empty()).map(str::parse::<usize>);
    let columns: Vec<usize> = columns.collect::<std::result::Result<_, _>>().map_err(|_| {
        serde::de::Error::custom(format!("`{text}` is no list of columns, as `1,3`"))
    })?;
    Ok(columns.into_iter().filter(|column| *column > 0).collect())
}

fn text<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

fn texts<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Array(list) => {
            list.iter().filter_map(|one| one.as_str().map(ToOwned::to_owned)).collect()
        }
        Value::String(one) => vec![one],
        _ => Vec::new(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    feed: Vec<Feed>,
}

/// The feeds, in the order of the list; added ones at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feeds(Vec<Feed>);

impl Feeds {
    /// Reads the list that the settings name.
    ///
    /// # Errors
    /// `Config`, when it cannot be read.
    async fn listed(config: &Config) -> Result<Self> {
        let Some(path) = config.of::<Settings>()?.feeds else {
            return Self::parse(DEFAULT, "the list compiled in");
        };
        let shown = path.display().to_string();
        let text = tokio::fs::read_to_string(path).await.map_err(|cause| {
            Error::config(format!("read the feeds `{shown}`"))
                .because(cause)
                .hint("`MISP_FEEDS` names a TOML file, or a JSON file of MISP's own descriptions")
        })?;
        Self::parse(&text, &shown)
    }

    /// The same, and what people changed of its feeds since.
    ///
    /// # Errors
    /// `Config`, when the list cannot be read; `Store`, when the overrides cannot.
    pub async fn load(config: &Config, state: &dyn StateReader) -> Result<Self> {
        let mut feeds = Self::listed(config).await?;
        for (id, change) in state.overrides(NAME).await? {
            let added = change.definition.map(serde_json::from_value::<Feed>).transpose();
            let added = added.map_err(|cause| {
                Error::config(format!("read the added feed `{id}`")).because(cause)
            })?;
            if change.removed {
                feeds.0.retain(|known| known.id != id);
                continue;
            }
            if let Some(feed) = added {
                match feeds.0.iter_mut().find(|known| known.id == id) {
                    Some(known) => *known = feed,
                    None => feeds.0.push(feed),
                }
            }
            if let (Some(enabled), Some(feed)) =
                (change.enabled, feeds.0.iter_mut().find(|feed| feed.id == id))
            {
                feed.enabled = enabled;
            }
        }
        Ok(feeds)
    }

    /// Reads a list in either form; `place` is named in errors.
    ///
    /// # Errors
    /// `Config`: neither form, an id twice, or an address that is not http.
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        let bare = text.trim_start_matches('\u{feff}').trim_start();
        let feeds = match bare.starts_with("[{") || bare.starts_with('{') || is_json_list(bare) {
            true => of_misp(bare).map_err(|why| {
                Error::config(format!("read the feeds of {place}: {why}"))
                    .hint("a JSON file has MISP's feed descriptions: `[{\"Feed\": {\"name\": …, \"url\": …, \"source_format\": …}}]`")
            })?,
            false => {
                let file: File = toml::from_str(text).map_err(|cause| {
                    Error::config(format!("read the feeds of {place}"))
                        .because(cause)
                        .hint("each is a `[[feed]]` with id, name, url, format and, if wanted, provider, licence, enabled and settings; `local-runner help sources` shows one")
                })?;
                file.feed
            }
        };
        let mut seen = BTreeSet::new();
        for feed in &feeds {
            feed.check()
                .map_err(|why| Error::config(format!("read the feeds of {place}: {why}")))?;
            if !seen.insert(&feed.id) {
                return Err(Error::config(format!(
                    "read the feeds of {place}: the id `{}` stands twice",
                    feed.id
                )));
            }
        }
        Ok(Self(feeds))
    }

    /// Every feed, disabled or not.
    pub fn all(&self) -> &[Feed] {
        &self.0
    }

    /// The same, to keep.
    pub fn into_all(self) -> Vec<Feed> {
        self.0
    }

    /// The feed that a person means by its id, its name or its address.
    ///
    /// # Errors
    /// `Config`: there is none, or it is not told which.
    pub fn named(&self, what: &str) -> Result<&Feed> {
        let what = what.trim();
        if what.is_empty() {
            return Err(Error::config("sync one feed: its input names none")
                .hint("`{\"feed\": \"ID\"}`; `local-runner sources list` shows the ids"));
        }
        let same = |text: &str| text.eq_ignore_ascii_case(what);
        let plain = |text: &str| text.trim_end_matches('/').to_owned();
        self.0
            .iter()
            .find(|feed| same(&feed.id))
            .or_else(|| self.0.iter().find(|feed| same(&feed.name)))
            .or_else(|| self.0.iter().find(|feed| plain(feed.url.as_str()) == plain(what)))
            .ok_or_else(|| {
                let shown: String = what.chars().take(60).collect();
                Error::config(format!("find the feed `{shown}`"))
                    .hint("`local-runner sources list` shows them all")
            })
    }
}

fn is_json_list(text: &str) -> bool {
    text.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with(['{', ']']))
}

/// What MISP writes of a feed.
#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    id: Value,
    name: String,
    #[serde(default)]
    provider: Option<String>,
    url: String,
    source_format: String,
    #[serde(default)]
    enabled: Value,
    #[serde(default)]
    input_source: Option<String>,
    #[serde(default)]
    headers: Option<String>,
    #[serde(default, deserialize_with = "settings")]
    settings: FeedSettings,
    #[serde(default, deserialize_with = "rules")]
    rules: Rules,
}

/// MISP's own list: `[{"Feed": {…}, "Tag": {…}}]`, or one of them.
fn of_misp(text: &str) -> Result<Vec<Feed>, String> {
    let list: Value = serde_json::from_str(text).map_err(|cause| cause.to_string())?;
    let list = match list {
        Value::Array(list) => list,
        Value::Object(mut one) => match one.remove("response") {
            Some(Value::Array(list)) => list,
            _ => vec![Value::Object(one)],
        },
        _ => return Err("it is no list".to_owned()),
    };
    let (mut feeds, mut ids) = (Vec::new(), BTreeSet::new());
    for (place, entry) in list.into_iter().enumerate() {
        let tag = entry.get("Tag").and_then(|tag| tag.get("name")?.as_str()).map(ToOwned::to_owned);
        let described = entry.get("Feed").cloned().unwrap_or(entry);
        let name = described.get("name").and_then(Value::as_str).unwrap_or("without a name");
        let wrong = |why: String| format!("entry {}, `{name}`: {why}", place + 1);
        let feed = feed(described.clone(), tag, &mut ids).map_err(wrong)?;
        feeds.push(feed);
    }
    Ok(feeds)
}

fn feed(value: Value, tag: Option<String>, ids: &mut BTreeSet<String>) -> Result<Feed, String> {
    let told: Described = serde_json::from_value(value).map_err(|cause| cause.to_string())?;
    let format = match told.source_format.as_str() {
        "misp" => Format::Misp,
        "csv" => Format::Csv,
        "freetext" => Format::Freetext,
        other => return Err(format!("`{other}` is no format")),
    };
    // Files of another machine are not read; the feed stays in the list as one that is disabled.
    let is_local = told.input_source.as_deref() == Some("local");
    let url = match Url::parse(told.url.trim()) {
        Ok(url) => url,
        Err(_) if is_local => Url::parse("http://localhost/").map_err(|cause| cause.to_string())?,
        Err(cause) => return Err(format!("`{}` is no address: {cause}", told.url)),
    };
    let is_enabled = match &told.enabled {
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !matches!(text.as_str(), "" | "0" | "false"),
        _ => false,
    };
    let headers = told.headers.unwrap_or_default();
    let headers = headers
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect();
    let tlp = tag.as_deref().filter(|tag| tag.starts_with("tlp:")).and_then(Tlp::read);
    Ok(Feed {
        id: unique(&told.name, &told.id, ids),
        name: told.name,
        provider: told.provider.unwrap_or_default(),
        url,
        format,
        licence: None,
        home: None,
        enabled: is_enabled && !is_local,
        headers,
        tlp,
        confidence: None,
        tags: tag.into_iter().collect(),
        kind: None,
        comments: None,
        settings: told.settings,
        rules: told.rules,
    })
}

/// An id out of a feed's name, as MISP's files name feeds by nothing else.
fn unique(name: &str, number: &Value, ids: &mut BTreeSet<String>) -> String {
    const LETTERS: usize = 60;
    let mut slug = String::new();
    for letter in name.chars().flat_map(char::to_lowercase) {
        match letter {
            'a'..='z' | '0'..='9' => slug.push(letter),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
        if slug.len() >= LETTERS {
            break;
        }
    }
    let mut slug = slug.trim_end_matches('-').to_owned();
    if slug.is_empty() {
        slug = match number {
            Value::String(number) if is_slug(number) => format!("feed-{number}"),
            Value::Number(number) => format!("feed-{number}"),
            _ => "feed".to_owned(),
        };
    }
    let mut id = slug.clone();
    let mut count = 1;
    while !ids.insert(id.clone()) {
        count += 1;
        id = format!("{slug}-{count}");
    }
    id
}

/// Looks whether each enabled feed of the list has what its requests and its reading need.
///
/// # Errors
/// `Config`: the first that has not.
pub(crate) async fn look(config: &Config) -> Result<Option<String>> {
    let feeds = Feeds::listed(config).await?;
    let keys = config.of::<Settings>()?.keys;
    let enabled: Vec<&Feed> = feeds.all().iter().filter(|feed| feed.enabled).collect();
    for feed in &enabled {
        feed.excluded()?;
        feed.headers(&keys).await?;
    }
    Ok(Some(format!("{} feeds, of which {} are enabled", feeds.all().len(), enabled.len())))
}

/// Every feed, for people.
pub(crate) async fn list(config: &Config, state: &dyn StateReader) -> Result<Vec<SourceEntry>> {
    let feeds = Feeds::load(config, state).await?;
    Ok(feeds.into_all().into_iter().map(SourceEntry::from).collect())
}

/// The form of the list, as a small one of it.
pub(crate) const FORM: &str = r##"# MISP_FEEDS=feeds.toml names the list that is synced instead of the one compiled in; a JSON
# file of MISP's own feed descriptions (its defaults.json, or an export of its feeds) does as well.

[[feed]]
id       = "my-list"              # its key: keep it, as documents and state are named after it
name     = "A list of addresses"
provider = "An organisation"
url      = "https://example.org/list.csv"
format   = "csv"                  # misp: the folder of a manifest.json; csv; freetext
licence  = "CC0-1.0"              # may be left out, as all that follows
home     = "https://example.org/"
enabled  = true
tlp      = "green"                # where the feed does not say itself
comments = "#"                    # what lines of free text begin with that are remarks
headers  = { Auth-Key = "secret:example" }   # its name in MISP_FEED_KEYS; or "file:/run/secrets/key"

[feed.settings.csv]
value     = "2,3"                 # the columns with indicators, from 1; all when left out
delimiter = ";"

[feed.settings.common]
excluderegex = "/^https:\\/\\/example\\.org/i"
"##;

/// Formats, which stand where other families have categories.
pub(crate) const FORMATS: &[&str] = &["misp", "csv", "freetext"];

/// Checks an entry that a person adds, or what of it a person changes.
///
/// # Errors
/// `Config`, when it has an id, format, name or address that is none.
pub(crate) fn check(entry: &SourceEntry) -> Result<()> {
    const NAME_MAX: usize = 200;
    const URL_MAX: usize = 2_000;
    let wrong = |what: &str, text: &str, form: &str| {
        let shown: String = text.chars().take(60).collect();
        Err(Error::config(format!("define a feed: `{shown}` is no {what}")).hint(form.to_owned()))
    };
    if !is_slug(&entry.id) {
        return wrong(
            "id",
            &entry.id,
            "it has ASCII letters, digits, `-`, `_` and `.`, at most 100",
        );
    }
    if let Some(format) = entry.category.as_ref().filter(|one| !FORMATS.contains(&one.as_str())) {
        return wrong("format", format, "it is `misp`, `csv` or `freetext`");
    }
    if let Some(language) = &entry.language {
        return wrong("setting of a feed", language, "feeds have no language");
    }
    let is_name = !entry.name.trim().is_empty()
        && entry.name.chars().count() <= NAME_MAX
        && !entry.name.contains(char::is_control);
    if !is_name {
        return wrong("name", &entry.name, "it is one line of at most 200 letters");
    }
    if let Some(url) = entry.url.as_ref().filter(|url| url.as_str().len() > URL_MAX) {
        return wrong("address", url.as_str(), "it is at most 2000 bytes long");
    }
    Ok(())
}

/// A feed as it is stored, of an entry that a person added or changed.
pub(crate) fn define(entry: SourceEntry) -> Result<Value> {
    let url = entry.url.ok_or_else(|| {
        Error::config(format!("define the feed `{}`: it has no address", entry.id))
    })?;
    let format = match entry.category.as_deref() {
        Some("misp") => Format::Misp,
        Some("csv") => Format::Csv,
        _ => Format::Freetext,
    };
    let feed = Feed {
        id: entry.id,
        name: entry.name,
        provider: url.host_str().unwrap_or_default().to_owned(),
        url,
        format,
        licence: None,
        home: None,
        enabled: entry.enabled,
        headers: BTreeMap::new(),
        tlp: None,
        confidence: None,
        tags: Vec::new(),
        kind: None,
        comments: None,
        settings: FeedSettings::default(),
        rules: Rules::default(),
    };
    serde_json::to_value(feed).map_err(|cause| Error::config("define a feed").because(cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_compiled_in_is_whole() {
        let feeds = Feeds::parse(DEFAULT, "the list compiled in").unwrap();
        for feed in feeds.all() {
            assert!(feed.home.is_some() && feed.licence.is_some(), "{}", feed.id);
            assert!(!feed.provider.is_empty() && feed.excluded().is_ok(), "{}", feed.id);
            check(&SourceEntry::from(feed.clone())).unwrap();
        }
        let enabled = feeds.all().iter().filter(|feed| feed.enabled).count();
        assert!(enabled >= 15 && enabled < feeds.all().len(), "{enabled}");
        // The predecessor's, by its keys.
        for id in [
            "circl_osint",
            "urlhaus",
            "botvrij",
            "threatfox",
            "openphish",
            "serpro",
            "sslbl",
            "diamondfox_c2",
        ] {
            assert_eq!(feeds.named(id).unwrap().id, id);
        }
    }

    #[test]
    fn the_form_that_is_shown_is_one_and_what_it_defines_is_defined() {
        let feeds = Feeds::parse(FORM, "the form").unwrap();
        let feed = &feeds.all()[0];
        assert_eq!((feed.delimiter(), feed.settings.csv.value.as_slice()), (";", &[2, 3][..]));
        assert!(feed.excluded().unwrap().unwrap().is_match("HTTPS://example.org/x"));
        let kept: Feed = serde_json::from_value(serde_json::to_value(feed).unwrap()).unwrap();
        assert_eq!(&kept, feed);
        let defined: Feed = serde_json::from_value(define(feed.clone().into()).unwrap()).unwrap();
        assert_eq!((defined.format, defined.url), (Format::Csv, feed.url.clone()));
    }

    #[test]
    fn misps_own_descriptions_are_read_however_they_are_wrapped() {
        let text = r##"[
            {"Feed": {"name": "A list", "provider": "p", "url": "http://e.org/a?x=1", "source_format": "csv", "enabled": true,
              "settings": "{\"csv\":{\"value\":\"3,4\",\"delimiter\":\"\\\\t\"},\"common\":{\"excluderegex\":\"\\/^#.*|Threatview.*\\/i\"}}",
              "headers": "Auth-Key: abc\nX-B: c: d", "distribution": "3"},
             "Tag": {"name": "tlp:amber", "colour": "#fff"}},
            {"Feed": {"name": "A list", "url": "https://e.org/b", "source_format": "freetext", "enabled": "0", "headers": null,
              "settings": "\"{\\\"csv\\\":{\\\"value\\\":\\\"\\\"}}\"", "rules": ""}},
            {"name": "", "id": "7", "url": "/var/feed", "source_format": "misp", "input_source": "local", "enabled": true,
              "settings": "[]", "rules": "{\"tags\":{\"OR\":[\"x\"],\"NOT\":[]},\"orgs\":{\"OR\":[],\"NOT\":[\"CIRCL\"]},\"url_params\":\"\"}"}
        ]"##;
        let feeds = Feeds::parse(text, "a test").unwrap();
        let [one, two, three] = feeds.all() else { panic!("{feeds:?}") };
        assert_eq!(
            (one.id.as_str(), two.id.as_str(), three.id.as_str()),
            ("a-list", "a-list-2", "feed-7")
        );
        assert_eq!((one.settings.csv.value.as_slice(), one.delimiter()), (&[3, 4][..], "\t"));
        assert!(one.excluded().unwrap().unwrap().is_match("by THREATVIEW.io"));
        assert_eq!(one.headers.get("X-B").map(String::as_str), Some("c: d"));
        assert_eq!((one.tlp, one.enabled), (Some(Tlp::Amber), true));
        assert!(!two.enabled && two.settings == FeedSettings::default());
        assert!(!three.enabled);
        let tags = ["x".to_owned()];
        assert!(three.rules.take(&tags, [Some("u"), Some("Other")]));
        assert!(
            !three.rules.take(&tags, [None, Some("circl")]) && !three.rules.take(&[], [None, None])
        );
        let error =
            Feeds::parse(r#"[{"Feed": {"name": "B", "url": "x", "source_format": "csv"}}]"#, "b");
        assert!(error.unwrap_err().to_string().contains("entry 1, `B`"));
    }

    #[test]
    fn headers_name_keys_that_stand_elsewhere() {
        let form = FORM.replace("secret:example", "secret:b");
        let feed = Feeds::parse(&form, "the form").unwrap().into_all().remove(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let keys = FeedKeys::read("a=1, b=hunter2=, ").unwrap();
        let headers = runtime.block_on(feed.headers(&keys)).unwrap();
        assert_eq!(headers, [("Auth-Key".to_owned(), "hunter2=".to_owned())]);
        let error = runtime.block_on(feed.headers(&FeedKeys::default())).unwrap_err();
        assert!(error.to_string().contains("there is no key `b`"), "{error}");
        assert!(!format!("{keys:?}").contains("hunter2"));
        for wrong in ["x", "=x", "x=", "x y=z"] {
            assert!(FeedKeys::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_slip_in_a_list_is_named() {
        let list = |more: &str| {
            format!(
                "[[feed]]\nid = \"a\"\nname = \"A\"\nurl = \"https://e.org/\"\nformat = \"csv\"\n{more}"
            )
        };
        for (text, named) in [
            (list(&list("")), "`a` stands twice"),
            (list("").replace("https", "ftp"), "`a` needs an http(s) url"),
            (list("confidence = 101"), "0 to 100"),
        ] {
            let error = Feeds::parse(&text, "x.toml").unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        for text in [
            list("enabld = true"),
            list("").replace("csv", "xml"),
            list("settings = { csv = { value = \"a\" } }"),
        ] {
            assert!(Feeds::parse(&text, "x.toml").is_err(), "{text}");
        }
        let feeds = Feeds::parse(&list(""), "x.toml").unwrap();
        assert!(feeds.named("A").is_ok() && feeds.named("https://e.org").is_ok());
        assert!(feeds.named("nope").is_err() && feeds.named(" ").is_err());
    }
}
