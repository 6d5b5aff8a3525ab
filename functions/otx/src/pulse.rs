//! A pulse as the document that `otx_pulses` holds.

use std::collections::{BTreeMap, BTreeSet};

use base::date::seconds;
use jiff::Timestamp;
use serde_json::{Value, json};
use stores::documents::{self, Body, Owner, Write};

use indicator::IndicatorKind;

use crate::settings::{FEED, NAME};
use crate::wire::{Pulse, PulseIndicator};

/// The index that pulses go to.
pub const INDEX: &str = "otx_pulses";

/// What the sync writes into a pulse.
pub const OWNER: Owner = Owner {
    fields: &[
        "source_family",
        "source_type",
        "source_id",
        "source_name",
        "source_url",
        "pulse_id",
        "name",
        "description",
        "author_name",
        "author_id",
        "created",
        "modified",
        "pulse_revision",
        "public",
        "adversary",
        "targeted_countries",
        "industries",
        "references",
        "attack_ids",
        "malware_families",
        "groups",
        "indicator_count",
        "indicator_types",
        "cves",
        "more_indicators",
        "tags",
        "tlp",
        "last_seen",
        "active",
        "left_at",
        "raw",
        "@timestamp",
        "content_hash",
    ],
    unhashed: &["raw", "left_at", "content_hash"],
    insert_only: &["collected_at", "first_seen"],
    ..Owner::named("otx_pulse")
};

/// The page of a pulse for people.
const PAGE: &str = "https://otx.alienvault.com/pulse/";

/// The document's id: the family and OTX's id of the pulse.
pub fn id(pulse_id: &str) -> String {
    documents::id(&[NAME, pulse_id])
}

/// The address of a pulse's page.
pub(crate) fn page(pulse_id: &str) -> String {
    format!("{PAGE}{pulse_id}")
}

/// An instant to the millisecond, as far as a store tells instants apart.
fn millis(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// What the indicators of a pulse amount to, gathered while they are read.
#[derive(Debug, Default)]
pub struct Summary {
    count: u64,
    by_type: BTreeMap<String, u64>,
    cves: BTreeSet<String>,
}

impl Summary {
    /// Adds an indicator.
    pub fn add(&mut self, one: &PulseIndicator) {
        self.count += 1;
        *self.by_type.entry(one.type_original.clone()).or_default() += 1;
        if one.indicator.kind == IndicatorKind::Cve {
            self.cves.insert(one.indicator.value.clone());
        }
    }
}

/// The document of a pulse that is stored with all its indicators.
pub fn write(pulse: &Pulse, summary: &Summary, tlp: Option<&str>, now: Timestamp) -> Write {
    let types = summary.by_type.iter().map(|(name, count)| json!({"type": name, "count": count}));
    let at = pulse.modified.or(pulse.created);
    let fields = [
        ("source_family", json!(NAME)),
        ("source_type", json!("pulse")),
        ("source_id", json!(NAME)),
        ("source_name", json!(FEED)),
        ("source_url", json!(page(&pulse.id))),
        ("pulse_id", json!(pulse.id)),
        ("name", json!(pulse.name)),
        ("description", json!(pulse.description)),
        ("author_name", json!(pulse.author_name)),
        ("author_id", json!(pulse.author_id)),
        ("created", json!(pulse.created.map(millis))),
        ("modified", json!(pulse.modified.map(millis))),
        ("pulse_revision", json!(pulse.revision)),
        ("public", json!(pulse.public)),
        ("adversary", json!(pulse.adversary)),
        ("targeted_countries", json!(pulse.targeted_countries)),
        ("industries", json!(pulse.industries)),
        ("references", json!(pulse.references)),
        ("attack_ids", json!(pulse.attack_ids)),
        ("malware_families", json!(pulse.malware_families)),
        ("groups", json!(pulse.groups)),
        ("indicator_count", json!(summary.count)),
        ("indicator_types", Value::Array(types.collect())),
        ("cves", json!(summary.cves)),
        ("more_indicators", json!(pulse.more_indicators)),
        ("tags", json!(pulse.tags)),
        ("tlp", json!(tlp)),
        ("last_seen", json!(at.map(seconds))),
        ("active", json!(true)),
        ("left_at", Value::Null),
        ("raw", Value::Object(pulse.raw.clone())),
        ("@timestamp", json!(at.map(millis))),
        ("collected_at", json!(seconds(now))),
        ("first_seen", json!(seconds(pulse.created.unwrap_or(now)))),
    ];
    let fields: Body = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Write::of(id(&pulse.id), &OWNER, fields)
}
