//! From lines with one value to the document that `signature_base_iocs` holds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use indicator::{Indicator, IndicatorKind};
use ioc::{Observation, SourceName, Tlp, Warned};
use jiff::Timestamp;
use serde_json::{Value, json};
use stores::documents::{Body, Owner, Write};

use crate::iocs::{Layout, Line};

/// The index that indicators go to.
pub const INDEX: &str = "signature_base_iocs";

/// What the family writes into an indicator: what `ioc` sets, and its own.
pub const OWNER: Owner = Owner {
    fields: &[
        "source_family",
        "type",
        "value",
        "warninglist_hits",
        "warninglists",
        "content_hash",
        "source_name",
        "source_url",
        "source_file",
        "source_version",
        "hash_type",
        "false_positives",
        "comments",
        "reference",
        "score",
        "score_from",
    ],
    unhashed: &["warninglists", "content_hash", "source_version"],
    ..ioc::owner("signature-base")
};

/// The same owner in documents of before `sources` was a list of contributions: what their leaving sets.
pub const BEFORE: Owner = Owner { fields: &["active", "left_at"], ..Owner::named(OWNER.name) };

/// A field that those documents do not have, and all others do.
pub const SINCE: &str = "sources_count";

/// Indicators of a visit; today there are 8,537.
pub const INDICATORS_MAX: usize = 50_000;
/// Bytes of the texts of a visit, each comment counted for each line that it describes; today there are 1.2 MB.
pub const TEXT_BYTES_MAX: usize = 16 << 20;
/// Lines that a document names.
pub const SOURCES_MAX: usize = 64;
/// Addresses from comments that a document names.
pub const REFERENCES_MAX: usize = 64;

const NAME: &str = "Neo23x0/signature-base";
const PAGE_URL: &str = "https://github.com/Neo23x0/signature-base";
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

    /// The document of each, with about how many bytes its texts have. `warned` tells the warninglists that one is on.
    pub fn writes(
        &self,
        version: Option<&str>,
        default_score: u32,
        now: Timestamp,
        warned: impl Fn(&Indicator) -> Vec<Warned>,
    ) -> impl Iterator<Item = (usize, Write)> {
        self.all.iter().filter_map(move |gathered| {
            let bytes = gathered.places.iter().map(|(_, line)| line.text_bytes()).sum();
            let warned = warned(&gathered.indicator);
            Some((bytes, write(gathered, version, default_score, now, &warned)?))
        })
    }
}

fn write(
    gathered: &Gathered,
    version: Option<&str>,
    default_score: u32,
    now: Timestamp,
    warned: &[Warned],
) -> Option<Write> {
    let Gathered { indicator, layout, places } = gathered;
    let comments = distinct(places.iter().filter_map(|(_, line)| line.comment.as_deref()));
    let false_positives =
        distinct(places.iter().filter_map(|(_, line)| line.false_positive.as_deref()));
    let mut references: Vec<String> = distinct(comments.iter().flat_map(|comment| urls(comment)));
    references.truncate(REFERENCES_MAX);
    let own_score = places.iter().filter_map(|(_, line)| line.score).max();
    let score = own_score.unwrap_or(default_score);
    let file = places.first().map_or("", |(file, _)| file);
    let is_hash = *layout == Layout::Hash;

    let mut own = Body::new();
    let mut set = |name: &str, value: Value| {
        own.insert(name.to_owned(), value);
    };
    set("source_name", json!(NAME));
    set("source_url", json!(format!("{FILES_URL}{file}")));
    set("source_file", json!(file));
    set("source_version", json!(version));
    set("hash_type", json!(is_hash.then_some(indicator.kind)));
    set("false_positives", json!(false_positives));
    set("comments", json!(comments));
    set("reference", json!(references));
    set("score", json!(score));
    set("score_from", json!(if own_score.is_some() { "source" } else { "default" }));

    let default = own_score.is_none().then_some(default_score);
    let observations = places.iter().map(|(file, line)| {
        // What all lines refer to stands with the first.
        let references = std::mem::take(&mut references);
        let confidence = line.score.or(default).and_then(|score| score.try_into().ok());
        let more = vec![
            ("file", json!(file.as_ref())),
            ("score", json!(line.score)),
            ("false_positive", json!(line.false_positive)),
        ];
        Observation {
            indicator: indicator.clone(),
            type_original: layout.name().to_owned(),
            source: SourceName {
                id: OWNER.name.to_owned(),
                name: NAME.to_owned(),
                reference: Some(PAGE_URL.to_owned()),
            },
            event: None,
            first_seen: None,
            last_seen: None,
            tlp: Some(Tlp::Clear),
            confidence,
            expires_at: None,
            is_listed: true,
            to_ids: None,
            tags: vec![layout.name().to_owned()],
            references,
            malware_families: Vec::new(),
            actors: Vec::new(),
            comment: line.comment.as_deref().map(ToOwned::to_owned),
            more,
        }
    });
    let observations: Vec<Observation> = observations.collect();
    let id = ioc::id(OWNER.name, indicator.kind, &indicator.value);
    ioc::write(&OWNER, id, OWNER.name, observations, warned, now, own)
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
