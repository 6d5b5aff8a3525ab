//! What commands know of stored indicators: where they are, and what every family's documents of them share.

use indicator::IndicatorKind;
use ioc::Tlp;
use jiff::Timestamp;
use serde_json::Value;
use stores::documents::Body;

/// The indices of indicators as one.
pub(super) const GROUP: &str = "minerva-indicators";

/// Each index of indicators, and the family by whose name its documents have their ids.
pub(super) const HOMES: [(&str, &str); 3] = [
    ("cti_misp_iocs", "misp"),
    ("otx_indicators", "otx"),
    ("signature_base_iocs", "signature-base"),
];

/// What every command reads of a stored indicator.
pub(super) const FIELDS: &[&str] = &[
    "source_family",
    "source_name",
    "feed_name",
    "type",
    "value",
    "tlp",
    "confidence",
    "to_ids",
    "active",
    "left_at",
    "expires_at",
    "first_seen",
    "last_seen",
    "sources_count",
    "sources.id",
    "sources.name",
    "malware_family",
    "threat_actor",
    "tags",
    "warninglist_hits",
];

/// A stored indicator.
#[derive(Clone, Copy)]
pub(super) struct Stored<'d> {
    pub(super) id: &'d str,
    body: &'d Body,
}

impl<'d> Stored<'d> {
    pub(super) fn of(id: &'d str, body: &'d Body) -> Self {
        Self { id, body }
    }

    /// What it is; a word that is none of ours is `other`.
    pub(super) fn kind(&self) -> IndicatorKind {
        self.text("type").parse().unwrap_or(IndicatorKind::Other)
    }

    pub(super) fn value(&self) -> &'d str {
        self.text("value")
    }

    /// How far it may be passed on, where a source says so.
    pub(super) fn tlp(&self) -> Option<Tlp> {
        Tlp::read(self.text("tlp"))
    }

    /// The text of a field; empty where it has none.
    pub(super) fn text(&self, name: &str) -> &'d str {
        self.body.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The texts of a field that holds one or a list.
    pub(super) fn list(&self, name: &str) -> Vec<&'d str> {
        match self.body.get(name) {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(text)) if !text.is_empty() => vec![text],
            _ => Vec::new(),
        }
    }

    pub(super) fn instant(&self, name: &str) -> Option<Timestamp> {
        self.text(name).parse().ok()
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.body.get(name).and_then(Value::as_bool)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.body.get(name).and_then(Value::as_u64)
    }

    /// What its sources are called, each once.
    pub(super) fn sources(&self) -> Vec<&'d str> {
        let mut names = Vec::new();
        for source in self.body.get("sources").and_then(Value::as_array).into_iter().flatten() {
            let name = ["name", "id"].iter().find_map(|name| source[*name].as_str());
            names.extend(name.filter(|name| !name.is_empty() && !names.contains(name)));
        }
        if names.is_empty() {
            names.extend(Some(self.feed()).filter(|feed| !feed.is_empty()));
        }
        names
    }

    /// The feed that it is told by.
    pub(super) fn feed(&self) -> &'d str {
        let names = ["feed_name", "source_name", "source_family"];
        names.into_iter().find_map(|name| self.list(name).first().copied()).unwrap_or_default()
    }

    /// Whether its sources still hold it.
    pub(super) fn is_active(&self) -> bool {
        self.flag("active") != Some(false)
    }

    /// Whether it was true up to an instant that is over.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.instant("expires_at").is_some_and(|end| end <= now)
    }

    /// The names of the warninglists that know it.
    pub(super) fn warnings(&self) -> Vec<&'d str> {
        self.list("warninglist_hits")
    }

    /// Whether a list that knows it lists what is harmless; others say what a thing is, as an exit of Tor.
    pub(super) fn is_likely_harmless(&self) -> bool {
        let lists = self.body.get("warninglists").and_then(Value::as_array);
        match lists.filter(|lists| !lists.is_empty()) {
            Some(lists) => lists.iter().any(|list| list["category"] != "known"),
            None => !self.warnings().is_empty(),
        }
    }
}
