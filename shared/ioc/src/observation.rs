//! From what one contributor says of an indicator to the write of its document.

use base::date::seconds;
use indicator::{Indicator, IndicatorKind};
use jiff::Timestamp;
use serde_json::{Map, Value};
use stores::documents::{self, Body, Owner, Write};

use crate::derive::{DERIVED, derive};
use crate::tlp::Tlp;

/// Fields that every write sets; an owner's own stand beside them.
pub const FIELDS: &[&str] =
    &["source_family", "type", "value", "warninglist_hits", "warninglists", "content_hash"];
/// Lists to which every contributor adds.
pub const SHARED: &[&str] = &["sources"];

/// Who writes such documents under `name`, without fields of its own.
pub const fn owner(name: &'static str) -> Owner {
    Owner {
        fields: FIELDS,
        unhashed: &["warninglists", "content_hash"],
        insert_only: &["collected_at"],
        shared: SHARED,
        // When a source that gives no date had it first.
        kept: &[("first_seen", "collected_at")],
        derived: DERIVED,
        derive: Some(derive),
        ..Owner::named(name)
    }
}

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
    pub more: Vec<(&'static str, Value)>,
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
/// `observations` are all on the same type and value, of which `id` is the id: an event may name it several times. `own` are
/// fields of the owner's own, which is named as its family.
pub fn write(
    owner: &'static Owner,
    id: String,
    contributor: &str,
    observations: Vec<Observation>,
    warned: &[Warned],
    now: Timestamp,
    own: Body,
) -> Option<Write> {
    let first = observations.first()?;
    let Indicator { kind, value, .. } = &first.indicator;
    // In the order of a map, which is made faster in one piece than by its parts.
    let fields = [
        ("collected_at", seconds(now).into()),
        ("source_family", owner.name.into()),
        ("type", kind.as_str().into()),
        ("value", value.as_str().into()),
        ("warninglist_hits", names(warned)),
        ("warninglists", warned.iter().map(Warned::item).collect()),
        ("sources", observations.into_iter().map(contribution).collect()),
    ];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
    Some(Write::of(id, owner, fields.chain(own).collect()).by(contributor))
}

pub(crate) fn names(warned: &[Warned]) -> Value {
    warned.iter().map(|list| list.name.as_str()).collect()
}

impl Warned {
    /// An item of `warninglists`.
    pub(crate) fn item(&self) -> Map<String, Value> {
        let fields = [
            ("name", self.name.as_str().into()),
            ("version", self.version.into()),
            ("category", self.category.as_str().into()),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// An item of `sources`: what is said, without what says nothing.
fn contribution(of: Observation) -> Value {
    let Indicator { value, raw, .. } = of.indicator;
    let raw = raw.trim();
    let said = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
    };
    // A list first, as a map is made faster of it than field by field.
    let mut fields = Vec::with_capacity(32);
    let mut set = |name: &str, value: Value| {
        if said(&value) {
            fields.push((name.to_owned(), value));
        }
    };
    of.more.into_iter().for_each(|(name, value)| set(name, value));
    set("actors", of.actors.into());
    set("comment", of.comment.into());
    set("confidence", of.confidence.into());
    set("event", of.event.into());
    set("expires_at", of.expires_at.map(seconds).into());
    set("first_seen", of.first_seen.map(seconds).into());
    set("id", of.source.id.into());
    set("is_listed", of.is_listed.then_some(true).into());
    set("last_seen", of.last_seen.map(seconds).into());
    set("malware_families", of.malware_families.into());
    set("name", of.source.name.into());
    set("raw", if raw == value { Value::Null } else { raw.into() });
    set("reference", of.source.reference.into());
    set("references", of.references.into());
    set("tags", of.tags.into());
    set("tlp", of.tlp.map(Tlp::as_str).into());
    set("to_ids", of.to_ids.into());
    set("type", of.type_original.into());
    fields.into_iter().collect()
}
