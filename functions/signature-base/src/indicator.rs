//! From lines with one value to the document that `signature_base_iocs` holds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use indicator::{Indicator, IndicatorKind};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use stores::documents::{self, Body, Owner, Write};

use crate::iocs::{Layout, Line};
use crate::settings;

/// The index that indicators go to.
pub const INDEX: &str = "signature_base_iocs";

/// What the family writes into an indicator.
pub const OWNER: Owner = Owner {
    fields: &[
        "source_family",
        "source_name",
        "source_url",
        "source_file",
        "source_version",
        "type",
        "type_original",
        "hash_type",
        "value",
        "value_raw",
        "false_positives",
        "description",
        "comments",
        "reference",
        "score",
        "score_from",
        "confidence",
        "sources",
        "event",
        "threat",
        "tags",
        "tlp",
        "last_seen",
        "active",
        "left_at",
        "content_hash",
    ],
    unhashed: &["source_version", "left_at", "content_hash"],
    insert_only: &["collected_at", "first_seen"],
    ..Owner::named("signature-base")
};

/// Indicators of a visit; today there are 8,537.
pub const INDICATORS_MAX: usize = 50_000;
/// Bytes of the texts of a visit, each comment counted for each line that it describes; today there are 1.2 MB.
pub const TEXT_BYTES_MAX: usize = 16 << 20;
/// Lines that a document names.
pub const SOURCES_MAX: usize = 64;
/// Addresses from comments that a document names.
pub const REFERENCES_MAX: usize = 64;

const NAME: &str = "Neo23x0/signature-base";
const FILES_URL: &str = "https://github.com/Neo23x0/signature-base/blob/master/";

/// All lines with one value.
#[derive(Debug)]
pub struct Gathered {
    indicator: Indicator,
    layout: Layout,
    places: Vec<(Arc<str>, Line)>,
}

/// The indicators of all files, each with every line that names it, in the order of their first lines.
#[derive(Debug, Default)]
pub struct Indicators {
    all: Vec<Gathered>,
    places: HashMap<(IndicatorKind, String), usize>,
    /// Lines that met in another's document.
    pub merged: u64,
    /// Lines beyond [`INDICATORS_MAX`] or [`TEXT_BYTES_MAX`].
    pub left_out: u64,
    /// Lines of those that met which their document does not name, for [`SOURCES_MAX`].
    pub unnamed: u64,
    text_bytes: usize,
}

impl Indicators {
    /// Adds a line of `file`.
    pub fn add(&mut self, file: &Arc<str>, layout: Layout, line: Line) {
        let key = (line.indicator.kind, line.indicator.value.clone());
        let is_full = self.all.len() == INDICATORS_MAX;
        let known = self.places.get(&key).and_then(|place| self.all.get_mut(*place));
        if let Some(known) = &known
            && known.places.len() >= SOURCES_MAX
        {
            self.merged += 1;
            self.unnamed += 1;
            return;
        }
        let bytes = line.text_bytes();
        if self.text_bytes + bytes > TEXT_BYTES_MAX || (known.is_none() && is_full) {
            self.left_out += 1;
            return;
        }
        self.text_bytes += bytes;
        if let Some(known) = known {
            self.merged += 1;
            known.places.push((Arc::clone(file), line));
            return;
        }
        self.places.insert(key, self.all.len());
        let indicator = line.indicator.clone();
        self.all.push(Gathered { indicator, layout, places: vec![(Arc::clone(file), line)] });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The document of each, with about how many bytes its texts have.
    pub fn writes(
        &self,
        version: Option<&str>,
        default_score: u32,
        now: Timestamp,
    ) -> impl Iterator<Item = (usize, Write)> {
        self.all.iter().map(move |gathered| {
            let bytes = gathered.places.iter().map(|(_, line)| line.text_bytes()).sum();
            (bytes, write(gathered, version, default_score, now))
        })
    }
}

/// The document's id: the family, the type and the value.
pub fn id(kind: IndicatorKind, value: &str) -> String {
    documents::id(&[settings::NAME, kind.as_str(), value])
}

fn write(gathered: &Gathered, version: Option<&str>, default_score: u32, now: Timestamp) -> Write {
    let Gathered { indicator, layout, places } = gathered;
    let comments = distinct(places.iter().filter_map(|(_, line)| line.comment.as_deref()));
    let false_positives =
        distinct(places.iter().filter_map(|(_, line)| line.false_positive.as_deref()));
    let mut references: Vec<String> = distinct(comments.iter().flat_map(|comment| urls(comment)));
    references.truncate(REFERENCES_MAX);
    let own_score = places.iter().filter_map(|(_, line)| line.score).max();
    let score = own_score.unwrap_or(default_score);
    let file = places.first().map_or("", |(file, _)| file);
    let sources = places.iter().map(|(file, line)| {
        json!({ "file": file.as_ref(), "comment": line.comment.as_deref(), "score": line.score, "false_positive": line.false_positive })
    });
    let description = comments.join("\n");
    let is_hash = *layout == Layout::Hash;
    let at = json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());

    let mut fields = Body::new();
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    set("source_family", json!(settings::NAME));
    set("source_name", json!(NAME));
    set("source_url", json!(format!("{FILES_URL}{file}")));
    set("source_file", json!(file));
    set("source_version", json!(version));
    set("type", json!(indicator.kind));
    set("type_original", json!(layout.name()));
    set("hash_type", json!(is_hash.then_some(indicator.kind)));
    set("value", json!(indicator.value));
    set("value_raw", json!(indicator.raw.trim()));
    set("false_positives", json!(false_positives));
    set("description", json!((!description.is_empty()).then_some(&description)));
    set("comments", json!(comments));
    set("reference", json!(references));
    set("score", json!(score));
    set("score_from", json!(if own_score.is_some() { "source" } else { "default" }));
    set("confidence", json!(confidence(score)));
    set("sources", Value::Array(sources.collect()));
    set("event", json!({ "kind": "enrichment", "category": ["threat"], "type": ["indicator"] }));
    set("threat", threat(indicator, score, &description, references.first()));
    set("tags", json!([layout.name()]));
    set("tlp", json!("clear"));
    set("last_seen", Value::Null);
    set("active", json!(true));
    set("left_at", Value::Null);
    set("collected_at", at.clone());
    set("first_seen", at);
    Write::of(id(indicator.kind, &indicator.value), &OWNER, fields)
}

/// The indicator in the words of the Elastic Common Schema. A pattern is no name, so it stands in none of its fields.
fn threat(
    indicator: &Indicator,
    score: u32,
    description: &str,
    reference: Option<&String>,
) -> Value {
    let value = indicator.value.as_str();
    let mut of = Map::new();
    let kind = match indicator.kind {
        IndicatorKind::Ipv4 | IndicatorKind::Ipv6 => {
            of.insert("ip".to_owned(), json!(value));
            if indicator.kind == IndicatorKind::Ipv4 { "ipv4-addr" } else { "ipv6-addr" }
        }
        IndicatorKind::IpPort => {
            let (ip, port) = value.rsplit_once(':').unwrap_or((value, ""));
            let ip = ip.trim_matches(['[', ']']);
            of.insert("ip".to_owned(), json!(ip));
            of.insert("port".to_owned(), json!(port.parse::<u16>().ok()));
            if ip.contains(':') { "ipv6-addr" } else { "ipv4-addr" }
        }
        IndicatorKind::Domain | IndicatorKind::Hostname => {
            of.insert("url".to_owned(), json!({ "domain": value }));
            "domain-name"
        }
        IndicatorKind::Url => {
            of.insert("url".to_owned(), json!({ "full": value }));
            "url"
        }
        IndicatorKind::Md5
        | IndicatorKind::Sha1
        | IndicatorKind::Sha224
        | IndicatorKind::Sha256
        | IndicatorKind::Sha384
        | IndicatorKind::Sha512 => {
            let mut hash = Map::new();
            hash.insert(indicator.kind.as_str().to_owned(), json!(value));
            of.insert("file".to_owned(), json!({ "hash": hash }));
            "file"
        }
        IndicatorKind::FilenameRegex => "file",
        _ => "unknown",
    };
    of.insert("type".to_owned(), json!(kind));
    of.insert("provider".to_owned(), json!(NAME));
    of.insert("confidence".to_owned(), json!(confidence(score)));
    of.insert("marking".to_owned(), json!({ "tlp": "CLEAR" }));
    if let Some(reference) = reference {
        of.insert("reference".to_owned(), json!(reference));
    }
    if !description.is_empty() {
        of.insert("description".to_owned(), json!(description));
    }
    json!({ "feed": { "name": NAME }, "indicator": of })
}

/// The schema's three words.
fn confidence(score: u32) -> &'static str {
    match score {
        0..50 => "Low",
        50..75 => "Medium",
        _ => "High",
    }
}

fn distinct<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<String> {
    let mut seen = HashSet::new();
    texts.filter(|text| seen.insert(*text)).map(ToOwned::to_owned).collect()
}

/// The addresses in a comment, mostly at its end.
fn urls(comment: &str) -> impl Iterator<Item = &str> {
    comment.split_whitespace().filter_map(|word| {
        let from = word.find("http://").or_else(|| word.find("https://"))?;
        let url = word.get(from..)?.trim_end_matches(['.', ',', ';', ')', ']', '"', '\'']);
        url::Url::parse(url).is_ok().then_some(url)
    })
}
