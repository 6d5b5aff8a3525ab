//! A family's sources as people list, try and change them, and what `doctor` asks of a family; for code that serves every family
//! without knowing one.

use std::pin::Pin;

use base::Result;
use base::address::masked;
use base::config::Config;
use serde::{Serialize, Serializer};
use serde_json::Value;
use stores::state::StateReader;
use url::Url;

use crate::function::Home;

/// What an async function pointer gives.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// One source, in the fields that any family can fill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceEntry {
    /// Its id within the family.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Where it is, if it has one address; shown without its secrets.
    #[serde(serialize_with = "shown")]
    pub url: Option<Url>,
    /// Under which heading it belongs.
    pub category: Option<String>,
    /// What language it is written in (BCP 47).
    pub language: Option<String>,
    /// Whether it is visited unless asked for by name.
    pub enabled: bool,
}

fn shown<S: Serializer>(url: &Option<Url>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    url.as_ref().map(masked).serialize(serializer)
}

/// What a trial of a source shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Preview {
    /// What the source calls itself.
    pub title: Option<String>,
    /// Its form, as `Rss 2.0`.
    pub form: String,
    /// Items that were found, readable or not.
    pub found: u64,
    /// Repairs and the like.
    pub notes: Vec<String>,
    /// Malformed items.
    pub rejects: Vec<String>,
    /// What would be stored.
    pub documents: Vec<Value>,
}

/// What a family lets people do with its sources.
#[derive(Clone, Copy)]
pub struct SourceCatalog {
    /// Every source, enabled or not, in the order of the list.
    pub list: for<'a> fn(&'a Config, &'a dyn StateReader) -> Pending<'a, Vec<SourceEntry>>,
    /// How its list can be changed and tried; nothing where the sources are fixed.
    pub edit: Option<SourceEditor>,
}

/// How a family's list is changed and tried.
#[derive(Clone, Copy)]
pub struct SourceEditor {
    /// Refuses what is no id, name, address, category or language of one that is new; a list may hold others.
    pub check: fn(&SourceEntry) -> Result<()>,
    /// The definition of a source in the form of the family's list.
    pub define: fn(SourceEntry) -> Result<Value>,
    /// Fetches a source once and shows what would be stored, without storing it.
    pub preview: for<'a> fn(&'a Home, Value) -> Pending<'a, Preview>,
    /// Categories that there are whatever the list says.
    pub categories: &'static [&'static str],
    /// The form of the list, as a small one of it.
    pub form: &'static str,
}

impl SourceCatalog {
    /// A family without sources.
    pub const NONE: Self = Self { list: |_, _| Box::pin(async { Ok(Vec::new()) }), edit: None };
}

/// One question that `doctor` asks of a family: what it is about, and a sentence on what was found.
#[derive(Clone, Copy)]
pub struct Check {
    /// What is looked at, as `Malpedia's files`.
    pub about: &'static str,
    /// Looks, and changes nothing; `None` where there is nothing to look at under these settings.
    pub look: for<'a> fn(&'a Config) -> Pending<'a, Option<String>>,
}
