//! From what a feed gives to the documents of `cti_misp_iocs`: a row or word of a list, or an event's attributes.

use std::collections::HashSet;
use std::rc::Rc;

use base::Result;
use indicator::Indicator;
use ioc::{Lists, Observation, SourceName, Tlp, Warned};
use jiff::Timestamp;
use stores::documents::{Body, Owner, Write};
use task::Cutoff;

use crate::event::{Attribute, Event, Head, Labels};
use crate::feeds::{Feed, NAME};
use crate::flat::Facts;
use crate::freetext::Typed;
use crate::wire::{Part, parts};

/// What the family writes into an indicator.
pub const OWNER: Owner = ioc::owner(NAME);

/// Documents that are written together at the most.
pub const BATCH: usize = 192;
/// So many are enough where the store waits for them.
const ENOUGH: usize = BATCH / 2;
/// Bytes of what is written together.
const BATCH_BYTES: usize = 1 << 20;
/// Times that an event may name one value in its document; the rest is counted.
const NAMED_MAX: usize = 50;
/// Bytes of an event's attributes that are held as they were read, until their documents are made.
const HELD_BYTES: usize = 8 << 20;
/// Addresses of reports that an event's indicators name.
const REFERENCES_MAX: usize = 20;
/// Reasons of rejects that are handed on of one event.
const REJECTS_MAX: usize = 20;

/// The first half of a document's id.
pub fn key(id: &str) -> u128 {
    id.get(..32).and_then(|half| u128::from_str_radix(half, 16).ok()).unwrap_or_default()
}

/// The lists of known values that an indicator is on.
fn warned(lists: Option<&Lists>, indicator: &Indicator) -> Vec<Warned> {
    lists.map(|lists| lists.hits(indicator.kind, &indicator.value)).unwrap_or_default()
}

/// Documents on their way to the store, and what was counted on the way to them.
#[derive(Debug, Default)]
pub struct Batch {
    pub found: u64,
    pub merged: u64,
    pub filtered: u64,
    pub rejected: u64,
    pub rejects: Vec<String>,
    pub writes: Vec<Write>,
    bytes: usize,
}

impl Batch {
    /// Whether it is large enough to be written.
    pub fn is_full(&self) -> bool {
        self.writes.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    /// Whether it is worth a request to a store that has nothing else to do.
    pub fn is_enough(&self) -> bool {
        self.writes.len() >= ENOUGH || self.is_full()
    }

    /// Adds a document of about so many bytes.
    fn add(&mut self, write: Option<Write>, bytes: usize) {
        self.bytes += bytes;
        self.writes.extend(write);
    }

    /// Takes over another's.
    pub fn join(&mut self, other: Self) {
        self.found += other.found;
        self.merged += other.merged;
        self.filtered += other.filtered;
        self.rejected += other.rejected;
        self.rejects.extend(other.rejects);
        self.writes.extend(other.writes);
    }

    /// Counts something that is malformed.
    pub fn reject(&mut self, reason: impl FnOnce() -> String) {
        self.rejected += 1;
        if self.rejects.len() < REJECTS_MAX {
            self.rejects.push(reason());
        }
    }
}

/// Who gives what a feed gives.
fn source(feed: &Feed) -> SourceName {
    let reference = feed.home.as_ref().map(|home| home.as_str().to_owned());
    SourceName { id: feed.id.clone(), name: feed.name.clone(), reference }
}

/// The contributor of an event's indicators.
pub fn contributor(feed: &Feed, event: &str) -> String {
    format!("{}/{event}", feed.id)
}

/// What a list has given lately, so that of two rows with one value the first holds.
///
/// Two generations of so many bound it: a value that comes again after `EACH` others is written again, and if its row says the same it is unchanged.
#[derive(Default)]
pub struct SeenKeys {
    young: HashSet<u128>,
    old: HashSet<u128>,
}

impl SeenKeys {
    const EACH: usize = 1 << 15;

    /// Whether it is there for the first time.
    pub fn is_first(&mut self, key: u128) -> bool {
        if self.old.contains(&key) || !self.young.insert(key) {
            return false;
        }
        if self.young.len() >= Self::EACH {
            self.old = std::mem::take(&mut self.young);
        }
        true
    }
}

/// The ids of the documents that a word or a cell of a list gives something to.
pub fn ids(feed: &Feed, typed: &Typed) -> impl Iterator<Item = String> {
    let kind = feed.kind.as_deref().unwrap_or(typed.kind);
    let parts = parts(kind, typed.category(), typed.to_ids(), &typed.value);
    parts.into_iter().filter_map(|part| match part {
        Part::Indicator(found) => Some(ioc::id(NAME, found.kind, &found.value)),
        Part::Filtered(_) | Part::Rejected(_) => None,
    })
}

/// A word or a cell of a list as indicators, one or two; what they become is added to `batch`. Gives the ids of those that are
/// there for the first time.
pub fn listed(
    feed: &Feed,
    typed: &Typed,
    facts: &Facts,
    lists: Option<&Lists>,
    now: Timestamp,
    seen: &mut SeenKeys,
    batch: &mut Batch,
) -> Vec<String> {
    let kind = feed.kind.as_deref().unwrap_or(typed.kind);
    let mut ids = Vec::new();
    let parts = parts(kind, typed.category(), typed.to_ids(), &typed.value);
    let is_one = parts.len() == 1;
    for part in parts {
        batch.found += 1;
        let indicator = match part {
            // As the list has it, which was refanged to find its type.
            Part::Indicator(found) if is_one => Indicator { raw: facts.raw.clone(), ..found },
            Part::Indicator(found) => found,
            Part::Filtered(_) => {
                batch.filtered += 1;
                continue;
            }
            Part::Rejected(reason) => {
                batch.reject(|| reason);
                continue;
            }
        };
        let id = ioc::id(NAME, indicator.kind, &indicator.value);
        if !seen.is_first(key(&id)) {
            batch.merged += 1;
            continue;
        }
        ids.push(id.clone());
        let warned = warned(lists, &indicator);
        let mut tags = feed.tags.clone();
        tags.extend(facts.tags.iter().filter(|tag| !feed.tags.contains(tag)).cloned());
        let observation = Observation {
            indicator,
            type_original: kind.to_owned(),
            source: source(feed),
            event: None,
            first_seen: facts.first_seen,
            last_seen: facts.last_seen,
            tlp: strictest(&facts.tags).or(feed.tlp),
            confidence: facts.confidence.or(feed.confidence),
            expires_at: None,
            is_listed: true,
            to_ids: Some(typed.to_ids()),
            tags,
            references: facts.reference.iter().cloned().collect(),
            malware_families: facts.malware.iter().cloned().collect(),
            actors: Vec::new(),
            comment: facts.comment.clone(),
            more: vec![("category", typed.category().into()), ("port", facts.port.into())],
        };
        let observations = vec![observation];
        let write = ioc::write(&OWNER, id, &feed.id, observations, &warned, now, Body::new());
        let bytes = write.as_ref().map_or(0, Write::weight);
        batch.add(write, bytes);
    }
    ids
}

/// The strictest marking among tags.
fn strictest(tags: &[String]) -> Option<Tlp> {
    let is_marking =
        |tag: &&String| tag.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("tlp:"));
    tags.iter().filter(is_marking).filter_map(|tag| Tlp::read(tag)).max()
}

/// How sure tags say that one is, 0 to 100, by the taxonomies of MISP that say so.
fn surest(tags: &[String]) -> Option<u8> {
    let of = |tag: &String| {
        let (predicate, value) = tag.split_once('=')?;
        let value = value.trim().trim_matches('"');
        match predicate {
            "misp:confidence-level" => match value {
                "completely-confident" => Some(100),
                "usually-confident" => Some(75),
                "fairly-confident" => Some(50),
                "rarely-confident" => Some(25),
                "unconfident" => Some(0),
                _ => None,
            },
            "estimative-language:confidence-in-analytic-judgment" => match value {
                "high" => Some(85),
                "moderate" => Some(60),
                "low" => Some(30),
                _ => None,
            },
            "osint:certainty" => value.parse().ok().filter(|score| *score <= 100),
            _ => None,
        }
    };
    tags.iter().filter_map(of).max()
}

/// What stands where in an event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// The document that it belongs to.
    key: u128,
    /// How many were found before it.
    number: u32,
    /// The attribute's place.
    place: u32,
    /// Which of its parts.
    part: u8,
    is_deleted: bool,
}

/// What was read of an entry.
struct Found {
    attribute: Rc<Attribute>,
    indicator: Indicator,
    /// The document's id.
    id: String,
}

/// What an event came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventDone {
    /// Attributes, those of objects with them.
    pub attributes: u64,
    /// Second parts of composites, which are indicators of their own.
    pub parts: u64,
    /// The documents that it gives something to.
    pub keys: Vec<u128>,
    /// Whether its file is another than the manifest's digest is of.
    pub differs: bool,
}

/// An event's attributes as documents, one a value however often it stands there, part by part to `take`, which says whether to
/// go on. With `is_known`, what was taken back is marked so.
///
/// Of what is found beyond `HELD_BYTES` nothing is held but 32 bytes: it is read twice.
///
/// # Errors
/// Never today; a store's error would be.
pub fn of_event(
    feed: &Feed,
    event: &Event<'_>,
    is_known: bool,
    lists: Option<&Lists>,
    now: Timestamp,
    cutoff: Option<&Cutoff>,
    mut take: impl FnMut(Batch) -> bool,
) -> Result<EventDone> {
    let (mut batch, mut done) = (Batch::default(), EventDone::default());
    let mut entries: Vec<Entry> = Vec::new();
    let mut said = EventContext::of(feed, event);
    let (mut held, mut held_bytes): (Vec<Option<Found>>, usize) = Default::default();
    done.attributes = event.len() as u64;
    for place in 0..event.len() {
        let attribute = match event.attribute(place) {
            Ok(attribute) => Rc::new(attribute),
            Err(reason) => {
                batch.found += 1;
                batch.reject(|| format!("attribute {}: {reason}", place + 1));
                continue;
            }
        };
        said.refer(&attribute);
        for (part, found) in parts_of(&attribute).into_iter().enumerate() {
            batch.found += 1;
            done.parts += u64::from(part > 0);
            match found {
                Part::Indicator(indicator) => {
                    let id = ioc::id(NAME, indicator.kind, &indicator.value);
                    entries.push(Entry {
                        key: key(&id),
                        number: entries.len() as u32,
                        place: place as u32,
                        part: part as u8,
                        is_deleted: attribute.is_deleted,
                    });
                    held_bytes += event.weight(place);
                    if held_bytes <= HELD_BYTES {
                        let attribute = Rc::clone(&attribute);
                        held.push(Some(Found { attribute, indicator, id }));
                    }
                }
                Part::Filtered(_) => batch.filtered += 1,
                Part::Rejected(_) if attribute.is_deleted => batch.filtered += 1,
                Part::Rejected(reason) => {
                    let kind = &attribute.kind;
                    batch.reject(|| format!("attribute {} (`{kind}`): {reason}", place + 1));
                }
            }
        }
    }
    entries.sort_unstable();
    let mut read = |entry: Entry| {
        let held = held.get_mut(entry.number as usize).and_then(Option::take);
        held.or_else(|| read(event, entry))
    };
    let contributor = contributor(feed, &event.head.uuid);
    let said_bytes = said.bytes();
    let mut rest = entries.as_slice();
    while let Some(first) = rest.first() {
        let length = rest.iter().take_while(|entry| entry.key == first.key).count();
        let (group, others) = rest.split_at(length);
        rest = others;
        let named = group.iter().filter(|entry| !entry.is_deleted).take(NAMED_MAX);
        let mut bytes = 0;
        let mut named = named.filter_map(|entry| {
            bytes += said_bytes + event.weight(entry.place as usize);
            read(*entry)
        });
        if let Some(mut first) = named.next() {
            let warned = warned(lists, &first.indicator);
            let id = std::mem::take(&mut first.id);
            let all = std::iter::once(first).chain(named);
            let observations = all.map(|found| said.observation(found)).collect();
            let own = Body::new();
            let write = ioc::write(&OWNER, id, &contributor, observations, &warned, now, own);
            batch.add(write, bytes);
            batch.merged += length as u64 - 1;
            done.keys.push(group[0].key);
        } else if is_known && let Some(Found { id, .. }) = read(group[0]) {
            let write = Write::retire(id, &OWNER, Some(contributor.clone()), now);
            let bytes = write.weight();
            batch.add(Some(write), bytes);
            batch.merged += length as u64 - 1;
        } else {
            batch.filtered += length as u64;
        }
        if batch.is_full() && !take(std::mem::take(&mut batch)) {
            return Ok(done);
        }
        if cutoff.is_some_and(Cutoff::is_over) {
            return Ok(done);
        }
    }
    take(batch);
    Ok(done)
}

/// The indicators of an attribute.
fn parts_of(attribute: &Attribute) -> Vec<Part> {
    let Attribute { kind, category, to_ids, value, .. } = attribute;
    parts(kind, category, *to_ids, value)
}

/// Reads an entry's attribute again, and the part of it that the entry is.
fn read(event: &Event<'_>, entry: Entry) -> Option<Found> {
    let attribute = event.attribute(entry.place as usize).ok()?;
    match parts_of(&attribute).into_iter().nth(entry.part.into())? {
        Part::Indicator(indicator) => {
            let id = ioc::id(NAME, indicator.kind, &indicator.value);
            Some(Found { attribute: Rc::new(attribute), indicator, id })
        }
        Part::Filtered(_) | Part::Rejected(_) => None,
    }
}

/// What a feed and an event say of each of the event's indicators.
struct EventContext<'a> {
    feed: &'a Feed,
    head: &'a Head,
    source: SourceName,
    labels: Labels,
    /// What the labels say to an attribute that has none of its own.
    tlp: Option<Tlp>,
    confidence: Option<u8>,
    /// Addresses of reports among its attributes.
    references: Vec<String>,
}

impl<'a> EventContext<'a> {
    fn of(feed: &'a Feed, event: &'a Event<'_>) -> Self {
        let mut labels = Labels::default();
        feed.tags.iter().for_each(|tag| labels.tag(tag));
        labels.join(&event.head.labels);
        let (tlp, confidence) = (strictest(&labels.tags), surest(&labels.tags));
        let references = Vec::new();
        Self { feed, head: &event.head, source: source(feed), labels, tlp, confidence, references }
    }

    /// Takes note of an attribute that is the address of a report.
    fn refer(&mut self, attribute: &Attribute) {
        let is_link = attribute.kind == "link" && !attribute.to_ids && !attribute.is_deleted;
        let references = &mut self.references;
        if is_link && references.len() < REFERENCES_MAX && !references.contains(&attribute.value) {
            references.push(attribute.value.trim().to_owned());
        }
    }

    /// About how many bytes it adds to each.
    fn bytes(&self) -> usize {
        let Labels { tags, actors, malware_families, attack_ids } = &self.labels;
        let lists = [tags, actors, malware_families, attack_ids, &self.references];
        self.head.info.len() + lists.into_iter().flatten().map(String::len).sum::<usize>()
    }

    fn observation(&self, Found { attribute, indicator, .. }: Found) -> Observation {
        let attribute = Rc::unwrap_or_clone(attribute);
        let Self { feed, head, .. } = *self;
        let mut labels = self.labels.clone();
        let (mut tlp, mut confidence) = (self.tlp, self.confidence);
        if attribute.labels != Labels::default() {
            labels.join(&attribute.labels);
            (tlp, confidence) = (strictest(&labels.tags), surest(&labels.tags));
        }
        let last_seen = attribute.last_seen.max(attribute.sighted_at).or(attribute.timestamp);
        let first_seen = attribute.first_seen.or(head.date);
        // An event may be dated after its attributes.
        let first_seen = match (first_seen, last_seen) {
            (Some(first), Some(last)) => Some(first.min(last)),
            (first, _) => first,
        };
        let is_host_and_port = attribute.kind == "hostname|port";
        let port = attribute.value.rsplit_once('|').filter(|_| is_host_and_port);
        let port = port.and_then(|(_, port)| port.trim().parse::<u16>().ok());
        let more = vec![
            ("attack_ids", labels.attack_ids.into()),
            ("attribute_uuid", attribute.uuid.into()),
            ("category", attribute.category.into()),
            ("event_info", head.info.as_str().into()),
            ("object", attribute.object.into()),
            ("organisation", head.organisation.as_deref().into()),
            ("port", port.into()),
            ("relation", attribute.relation.into()),
            ("threat_level", head.threat_level.into()),
        ];
        Observation {
            indicator,
            type_original: attribute.kind,
            source: self.source.clone(),
            event: Some(head.uuid.clone()),
            first_seen,
            last_seen,
            tlp: tlp.or(feed.tlp),
            confidence: confidence.or(feed.confidence),
            expires_at: attribute.expires_at,
            is_listed: false,
            to_ids: Some(attribute.to_ids),
            tags: labels.tags,
            references: self.references.clone(),
            malware_families: labels.malware_families,
            actors: labels.actors,
            comment: Some(attribute.comment).filter(|comment| !comment.is_empty()),
            more,
        }
    }
}
