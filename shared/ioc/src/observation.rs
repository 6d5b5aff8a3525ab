//! From what one contributor says of an indicator to the write of its document.

use base::date::seconds;
use indicator::{Indicator, IndicatorKind};
use jiff::Timestamp;
use serde_json::{Value, json};
use stores::documents::{self, Body, Owner, Write};

use crate::tlp::Tlp;

/// Fields that every write sets; an owner's own stand beside them.
pub const FIELDS: &[&str] =
    &["source_family", "type", "value", "warninglist_hits", "warninglists", "content_hash"];
/// Those of [`FIELDS`] that may differ without the document counting as changed.
pub const UNHASHED: &[&str] = &["warninglists", "content_hash"];
/// Fields that the first write sets for good.
pub const INSERT_ONLY: &[&str] = &["collected_at", "value_raw", "type_original"];
/// Lists to which every contributor adds.
pub const SHARED: &[&str] = &["sources"];
/// Keys of `sources` that stay as they stand while a source says nothing of them.
pub const KEPT: &[(&str, &str)] = &[("first_seen", "collected_at")];

/// Who says something of an indicator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceName {
    /// Its id within the family, stable for ever.
    pub id: String,
    /// Its name for people, also the schema's provider and feed.
    pub name: String,
    /// A page on it.
    pub reference: Option<String>,
}

/// What one contributor says of one indicator. Instants are the source's word, never those of a fetch.
#[derive(Clone, Debug)]
pub struct Observation {
    /// What it is: type, normal form, and as it was given.
    pub indicator: Indicator,
    /// The source's word for its type.
    pub type_original: String,
    pub source: SourceName,
    /// What it stands in: the UUID of an event, the id of a pulse, a file.
    pub event: Option<String>,
    pub first_seen: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    /// How far it may be passed on, where the source says so.
    pub tlp: Option<Tlp>,
    /// How sure the source is, 0 to 100.
    pub confidence: Option<u8>,
    /// Until when it holds, where the source says so.
    pub expires_at: Option<Timestamp>,
    /// Whether it stands in a list that is alive: it holds while it is listed, and ages from when it left. What stands in a dated
    /// report ages from its last date.
    pub is_listed: bool,
    /// Whether the source means it for detection.
    pub to_ids: Option<bool>,
    pub tags: Vec<String>,
    pub references: Vec<String>,
    pub malware_families: Vec<String>,
    pub actors: Vec<String>,
    pub comment: Option<String>,
    /// The family's own keys of `sources`, each named in its mapping.
    pub more: Body,
}

/// A list of known values that an indicator stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warned {
    /// The list's name.
    pub name: String,
    pub version: u64,
    /// What a hit means: `false_positive`, or `known`.
    pub category: String,
}

/// The id of an indicator's document: the family, the type and the value.
pub fn id(family: &str, kind: IndicatorKind, value: &str) -> String {
    documents::id(&[family, kind.as_str(), value])
}

/// What `contributor` says of one indicator, as a write; nothing where it says nothing.
///
/// `observations` are all on the same type and value: an event may name it several times. `own` are fields of the owner's own.
pub fn write(
    owner: &'static Owner,
    family: &str,
    contributor: &str,
    observations: &[Observation],
    warned: &[Warned],
    now: Timestamp,
    own: Body,
) -> Option<Write> {
    let first = observations.first()?;
    let Indicator { kind, value, raw } = &first.indicator;
    let lists = warned.iter().map(
        |list| json!({ "name": list.name, "version": list.version, "category": list.category }),
    );
    let names: Vec<&str> = warned.iter().map(|list| list.name.as_str()).collect();
    let mut fields = own;
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    set("source_family", json!(family));
    set("type", json!(kind));
    set("value", json!(value));
    set("warninglist_hits", json!(names));
    set("warninglists", Value::Array(lists.collect()));
    set("value_raw", json!(raw.trim()));
    set("type_original", json!(first.type_original));
    set("collected_at", json!(seconds(now)));
    set("sources", Value::Array(observations.iter().map(contribution).collect()));
    Some(Write::of(id(family, *kind, value), owner, fields).by(contributor))
}

/// An item of `sources`.
fn contribution(of: &Observation) -> Value {
    let mut item = of.more.clone();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() && value != json!([]) && value != json!("") {
            item.insert(name.to_owned(), value);
        }
    };
    set("id", json!(of.source.id));
    set("name", json!(of.source.name));
    set("reference", json!(of.source.reference));
    set("event", json!(of.event));
    set("type", json!(of.type_original));
    set("raw", json!(Some(of.indicator.raw.trim()).filter(|raw| *raw != of.indicator.value)));
    set("first_seen", json!(of.first_seen.map(seconds)));
    set("last_seen", json!(of.last_seen.map(seconds)));
    set("tlp", json!(of.tlp));
    set("confidence", json!(of.confidence));
    set("expires_at", json!(of.expires_at.map(seconds)));
    set("is_listed", json!(of.is_listed.then_some(true)));
    set("to_ids", json!(of.to_ids));
    set("tags", json!(of.tags));
    set("references", json!(of.references));
    set("malware_families", json!(of.malware_families));
    set("actors", json!(of.actors));
    set("comment", json!(of.comment));
    Value::Object(item)
}
