//! The list of RSS sources: the file, and what a person changed of it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use base::config::Config;
use base::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stores::state::StateReader;
use task::catalog::SourceEntry;
use url::Url;

/// The family's name, in ids of documents and sources too.
pub(crate) const NAME: &str = "rss";

/// The index that articles go to.
pub const INDEX: &str = "rss_articles";

/// The list compiled in; its head says where each address was found.
const DEFAULT: &str = include_str!("sources.toml");

base::settings! {
    /// What the family is given.
    pub struct Settings {
        /// TOML file with the RSS sources; default: the list compiled in.
        sources: Option<PathBuf> = "", "RSS_SOURCES", file;
    }
}

/// One feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its key: stable for ever, as documents and state are named after it.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Where it is.
    pub url: Url,
    /// What language it is written in (BCP 47).
    #[serde(default)]
    pub language: Option<String>,
    /// Under which heading it belongs.
    pub category: String,
    /// Whether it is collected.
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl task::Source for Source {
    fn id(&self) -> &str {
        &self.id
    }

    fn indices(&self) -> &'static [&'static str] {
        &[INDEX]
    }

    fn is_enabled(&self) -> bool {
        self.enabled
    }
}

impl From<Source> for SourceEntry {
    fn from(source: Source) -> Self {
        Self {
            id: source.id,
            name: source.name,
            url: Some(source.url),
            category: Some(source.category),
            language: source.language,
            enabled: source.enabled,
        }
    }
}

/// The list for those who serve every family.
pub(crate) async fn list(config: &Config, state: &dyn StateReader) -> Result<Vec<SourceEntry>> {
    let sources = Sources::load(config, state).await?;
    Ok(sources.into_all().into_iter().map(SourceEntry::from).collect())
}

/// The categories of the list compiled in.
pub(crate) const CATEGORIES: &[&str] = &[
    "news",
    "blogs",
    "malware",
    "vendor-research",
    "vulnerabilities",
    "exploits",
    "government-cert",
    "brazil",
];

/// The form of a list, for people.
pub(crate) const FORM: &str = r#"# RSS_SOURCES=sources.toml names the list that is collected instead of the one compiled in.
# Each feed is a [[source]]; unknown fields are errors.

[[source]]
id       = "krebs-on-security"    # stable for ever: documents and state are named after it
name     = "Krebs on Security"    # for people
url      = "https://krebsonsecurity.com/feed/"
category = "blogs"                # news, blogs, malware, vendor-research, vulnerabilities, exploits, government-cert,
                                  # brazil, or one of your own
language = "en"                   # BCP 47; may be left out: then what the feed says
enabled  = true                   # may be left out: true
"#;

/// Letters of an id or a category that is added, at most.
const SLUG_MAX: usize = 100;

/// Letters of a name that is added, at most.
const NAME_MAX: usize = 200;

/// Bytes of an address that is added, at most.
const URL_MAX: usize = 2_000;

/// Whether a text can be an id or a category: documents, state and files are named after it, and it is typed at a prompt.
fn is_slug(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= SLUG_MAX
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(allowed)
}

/// Whether a text has the form of a language's tag (BCP 47): `en`, `pt-BR`, `zh-Hant-TW`.
fn is_language(text: &str) -> bool {
    let mut parts = text.split('-');
    let is_part = |part: &str, most: usize| {
        (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    parts.next().is_some_and(|first| {
        first.len() >= 2 && is_part(first, 3) && first.bytes().all(|b| b.is_ascii_alphabetic())
    }) && parts.all(|part| is_part(part, 8))
}

/// Checks an entry that a person adds, or what of it a person changes.
///
/// # Errors
/// `Config`, when it has an id, category, language, name or address that is none.
pub(crate) fn check(entry: &SourceEntry) -> Result<()> {
    let wrong = |what: &str, text: &str, form: String| {
        let shown: String = text.chars().take(60).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        Err(Error::config(format!("define a source: `{shown}{more}` is no {what}")).hint(form))
    };
    let slug = format!(
        "it has ASCII letters, digits, `-`, `_` and `.`, begins with a letter or digit, and is at most {SLUG_MAX} long"
    );
    if !is_slug(&entry.id) {
        return wrong("id", &entry.id, slug);
    }
    if let Some(category) = entry.category.as_ref().filter(|category| !is_slug(category)) {
        return wrong("category", category, slug);
    }
    if let Some(language) = entry.language.as_ref().filter(|language| !is_language(language)) {
        return wrong("language", language, "it is a tag of BCP 47, as `en` or `pt-BR`".to_owned());
    }
    let is_name = !entry.name.trim().is_empty()
        && entry.name.chars().count() <= NAME_MAX
        && !entry.name.contains(char::is_control);
    if !is_name {
        let form = format!("it is one line of at most {NAME_MAX} letters; `--name` gives one");
        return wrong("name", &entry.name, form);
    }
    if let Some(url) = entry.url.as_ref().filter(|url| url.as_str().len() > URL_MAX) {
        return wrong("address", url.as_str(), format!("it is at most {URL_MAX} bytes long"));
    }
    Ok(())
}

/// A source as it is stored, of an entry that a person added or changed.
pub(crate) fn define(entry: SourceEntry) -> Result<Value> {
    let url = entry.url.ok_or_else(|| {
        Error::config(format!("define the source `{}`: it has no address", entry.id))
    })?;
    let source = Source {
        id: entry.id,
        name: entry.name,
        url,
        language: entry.language,
        category: entry.category.unwrap_or_else(|| CATEGORIES[0].to_owned()),
        enabled: entry.enabled,
    };
    serde_json::to_value(source).map_err(|cause| Error::config("define a source").because(cause))
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    source: Vec<Source>,
}

/// The sources, in the order of the list; added ones at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Reads the list that the settings name, and what people changed of its sources since.
    ///
    /// # Errors
    /// `Config`, when the list cannot be read; `Store`, when the overrides cannot.
    pub async fn load(config: &Config, state: &dyn StateReader) -> Result<Self> {
        let (text, place) = match &config.of::<Settings>()?.sources {
            None => (DEFAULT.to_owned(), "the list compiled in".to_owned()),
            Some(path) => {
                let shown = path.display().to_string();
                let text = tokio::fs::read_to_string(path).await.map_err(|cause| {
                    Error::config(format!("read the sources `{shown}`"))
                        .because(cause)
                        .hint("`RSS_SOURCES` names a TOML file")
                })?;
                (text, shown)
            }
        };
        let mut sources = Self::parse(&text, &place)?;
        for (id, change) in state.overrides(NAME).await? {
            let added = change.definition.map(serde_json::from_value::<Source>).transpose();
            let added = added.map_err(|cause| {
                Error::config(format!("read the added source `{id}`")).because(cause)
            })?;
            if change.removed {
                sources.0.retain(|known| known.id != id);
                continue;
            }
            if let Some(source) = added {
                match sources.0.iter_mut().find(|known| known.id == id) {
                    Some(known) => *known = source,
                    None => sources.0.push(source),
                }
            }
            if let (Some(enabled), Some(source)) =
                (change.enabled, sources.0.iter_mut().find(|source| source.id == id))
            {
                source.enabled = enabled;
            }
        }
        Ok(sources)
    }

    /// Reads a list in the form of `sources.toml`; `place` is named in errors.
    ///
    /// # Errors
    /// `Config`: no such form, an id twice, or an address that is not http.
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|cause| {
            Error::config(format!("read the sources of {place}"))
                .because(cause)
                .hint("each is a `[[source]]` with id, name, url, category and, if wanted, language and enabled; `local-runner help sources` shows one")
        })?;
        let mut seen = BTreeSet::new();
        for source in &file.source {
            if !seen.insert(&source.id) {
                return Err(Error::config(format!(
                    "read the sources of {place}: the id `{}` stands twice",
                    source.id
                )));
            }
            if source.id.is_empty() || !matches!(source.url.scheme(), "http" | "https") {
                return Err(Error::config(format!(
                    "read the sources of {place}: `{}` needs an id and an http(s) url",
                    source.name
                )));
            }
        }
        Ok(Self(file.source))
    }

    /// Every source, disabled or not.
    pub fn all(&self) -> &[Source] {
        &self.0
    }

    /// The same, to keep.
    pub fn into_all(self) -> Vec<Source> {
        self.0
    }

    /// Those that are collected.
    pub fn enabled(&self) -> impl Iterator<Item = Source> {
        self.0.iter().filter(|source| source.enabled).cloned()
    }

    /// The enabled sources of these categories; of all when none is given.
    ///
    /// # Errors
    /// `Config`, naming a category that no source has and those there are.
    pub fn in_categories(&self, categories: &[String]) -> Result<Vec<Source>> {
        let known: BTreeSet<&str> = self.0.iter().map(|source| source.category.as_str()).collect();
        if let Some(unknown) = categories.iter().find(|category| !known.contains(category.as_str()))
        {
            let known: Vec<&str> = known.into_iter().collect();
            return Err(Error::config(format!("find the category `{unknown}`"))
                .hint(format!("there is: {}", known.join(", "))));
        }
        Ok(self
            .enabled()
            .filter(|source| categories.is_empty() || categories.contains(&source.category))
            .collect())
    }

    /// The sources of these ids, disabled or not; every enabled one when none is given.
    ///
    /// # Errors
    /// `Config`, naming an id that no source has.
    pub fn named(&self, ids: &[String]) -> Result<Vec<Source>> {
        if ids.is_empty() {
            return Ok(self.enabled().collect());
        }
        if let Some(unknown) = ids.iter().find(|id| self.0.iter().all(|source| source.id != **id)) {
            return Err(Error::config(format!("find the source `{unknown}`"))
                .hint("`local-runner sources list` shows them all"));
        }
        Ok(self.0.iter().filter(|source| ids.contains(&source.id)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_compiled_in_is_whole() {
        let sources = Sources::parse(DEFAULT, "the list compiled in").unwrap();
        let categories: BTreeSet<&str> =
            sources.all().iter().map(|source| source.category.as_str()).collect();
        assert_eq!(sources.all().len(), 60);
        assert!(categories.iter().all(|category| CATEGORIES.contains(category)));
        assert!(categories.len() >= 5, "{categories:?}");
        assert!(
            sources
                .all()
                .iter()
                .filter(|source| source.language.as_deref() == Some("pt-BR"))
                .count()
                >= 5
        );
    }

    #[test]
    fn the_form_that_is_shown_is_one_and_what_it_defines_is_defined() {
        let sources = Sources::parse(FORM, "the form").unwrap();
        let source = sources.all()[0].clone();
        assert_eq!(define(source.clone().into()).unwrap(), serde_json::to_value(&source).unwrap());
        for source in Sources::parse(DEFAULT, "the list compiled in").unwrap().into_all() {
            check(&source.into()).unwrap();
        }
    }

    #[test]
    fn what_is_no_id_category_language_or_name_is_refused() {
        let entry = |id: &str, category: &str, language: &str, name: &str| SourceEntry {
            id: id.to_owned(),
            name: name.to_owned(),
            url: Some("https://example.org/feed".parse().unwrap()),
            category: Some(category.to_owned()),
            language: Some(language.to_owned()),
            enabled: true,
        };
        assert!(check(&entry("a.b_c-1", "my-own", "zh-Hant-TW", "A name — of any kind")).is_ok());
        let long = "x".repeat(300);
        for id in ["", "a b", "-a", "../a", "a/b", "é", "a\n", "a\u{202e}", long.as_str()] {
            let error = check(&entry(id, "news", "en", "A")).unwrap_err();
            assert!(error.to_string().contains("no id") && error.to_string().len() < 300);
            assert!(
                check(&entry("a", id, "en", "A")).unwrap_err().to_string().contains("no category")
            );
        }
        for language in ["", "e", "english", "pt_BR", "pt-", "pt-BR\n", "12"] {
            let error = check(&entry("a", "news", language, "A")).unwrap_err();
            assert!(error.to_string().contains("no language"), "{language}");
        }
        for name in ["", "  ", "a\nb", "a\u{9b}b", "n".repeat(201).as_str()] {
            assert!(
                check(&entry("a", "news", "en", name)).unwrap_err().to_string().contains("no name")
            );
        }
    }

    #[test]
    fn a_slip_in_a_list_is_named() {
        let twice = r#"
            [[source]]
            id = "a"
            name = "A"
            url = "https://example.org/"
            category = "news"
            [[source]]
            id = "a"
            name = "B"
            url = "https://example.net/"
            category = "news"
        "#;
        assert!(
            Sources::parse(twice, "x.toml").unwrap_err().to_string().contains("`a` stands twice")
        );
        let sources = Sources::parse(DEFAULT, "x.toml").unwrap();
        assert!(
            sources
                .in_categories(&["malwar".to_owned()])
                .unwrap_err()
                .hint_text()
                .unwrap()
                .contains("malware")
        );
        assert!(sources.named(&["nope".to_owned()]).is_err());
    }
}
