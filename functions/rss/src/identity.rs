//! Which document an item is: by the id it gives itself, and where several items of one feed give the same, by more.
//!
//! An id that one fetch holds with another title or link was none (`N/A` on every item, one address for all): those items are
//! told apart by id, link and title together, then and ever after, as the source remembers such ids. Items with neither id
//! nor link are told apart by title and date, and where that is not enough by all they say.
//!
//! Nothing doubles when an id becomes wider, or its form changes: [`Identity::earlier`] are the ids under which an item may
//! have been stored before, and `known.rs` looks what stands there and leaves the item where it is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};

use feed::Entry;
use serde::{Deserialize, Serialize};
use stores::documents;
use url::Url;

use crate::sources::{NAME, Source};

/// Ids that a source remembers as shared; of more, the first.
const SHARED_MAX: usize = 256;

/// The letters of a shared id that a note shows.
const SHOWN: usize = 80;

/// What a source remembers between visits.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedIds {
    /// Hashes of the ids that several of its items gave.
    #[serde(default)]
    shared_ids: Vec<String>,
}

/// Where an item is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The document's id.
    pub id: String,
    /// Ids under which it may be stored already, by a version that had other ids or before its own turned out to be shared.
    pub earlier: Vec<String>,
    /// Its own id is shared by other items.
    pub is_widened: bool,
}

/// The ids of one feed's items, all of them met before the first is asked for.
#[derive(Default)]
pub(crate) struct Identities {
    /// Of the id that an item gives itself: what the first item with it says, and whether another says something else.
    met: HashMap<u64, (u64, bool)>,
    known: HashSet<String>,
    /// Shared ids of this fetch as they are shown, and how many items have them.
    shared: BTreeMap<String, u64>,
    learned: Vec<String>,
    hasher: RandomState,
}

impl Identities {
    pub(crate) fn new(known: SharedIds) -> Self {
        Self { known: known.shared_ids.into_iter().collect(), ..Self::default() }
    }

    /// Notes what an item says under its id.
    pub(crate) fn meet(&mut self, entry: &Entry) {
        let says = self.hasher.hash_one(telling(entry));
        let id = self.hasher.hash_one(natural(entry));
        let (first, is_shared) = self.met.entry(id).or_insert((says, false));
        *is_shared |= *first != says;
    }

    /// Where an item is stored.
    pub(crate) fn of(&mut self, source: &Source, entry: &Entry) -> Identity {
        let natural = natural(entry);
        let is_met =
            self.met.get(&self.hasher.hash_one(&natural)).is_some_and(|(_, shared)| *shared);
        let key = || documents::id(&[&natural])[..16].to_owned();
        let is_widened = is_met || (!self.known.is_empty() && self.known.contains(&key()));
        if is_met {
            if self.shared.len() < SHARED_MAX || self.shared.contains_key(&natural) {
                *self.shared.entry(natural.clone()).or_default() += 1;
            }
            if self.known.len() < SHARED_MAX && self.known.insert(key()) {
                self.learned.push(key());
            }
        }
        identity(source, entry, &natural, is_widened)
    }

    /// What the source is to remember, if there is more than it did.
    pub(crate) fn to_remember(&self) -> Option<SharedIds> {
        if self.learned.is_empty() {
            return None;
        }
        let mut shared_ids: Vec<String> = self.known.iter().cloned().collect();
        shared_ids.sort_unstable();
        Some(SharedIds { shared_ids })
    }

    /// What a report says of shared ids.
    pub(crate) fn note(&self) -> Option<String> {
        let (id, items) = self.shared.iter().max_by_key(|(_, items)| **items)?;
        let shown: String = id.chars().take(SHOWN).collect();
        let more = match self.shared.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more ids are shared"),
        };
        Some(format!(
            "the id `{shown}` is that of {items} items with other titles or links, which tell them apart{more}"
        ))
    }
}

/// Where an item is stored whose id no other one has.
pub fn of_alone(source: &Source, entry: &Entry) -> Identity {
    identity(source, entry, &natural(entry), false)
}

fn identity(source: &Source, entry: &Entry, natural: &str, is_widened: bool) -> Identity {
    let of = |natural: &str| documents::id(&[NAME, &source.id, natural]);
    let own = of(natural);
    let id = if is_widened { of(&telling(entry)) } else { own.clone() };
    let canonical = address(entry).map(canonical_link);
    let mut earlier = Vec::new();
    if is_widened {
        earlier.push(own);
    }
    // By its link alone an article is known that was adopted, and one without guid that an earlier version stored.
    if let Some(link) = canonical {
        earlier.push(of(&link));
    }
    earlier.retain(|earlier| *earlier != id);
    earlier.dedup();
    Identity { id, earlier, is_widened }
}

/// The id of an article that is known by its link only: one that was adopted, as the predecessor kept no guid.
pub fn id_of_link(source: &Source, link: &str) -> String {
    documents::id(&[NAME, &source.id, &canonical_link(link)])
}

/// Where the article really is: behind `FeedBurner`'s redirect, if it goes through one.
pub(crate) fn address(entry: &Entry) -> Option<&str> {
    entry.original_link.as_deref().or(entry.link.as_deref())
}

/// What the item itself gives for an id: its guid, else its link, else its title and date or whatever it has.
fn natural(entry: &Entry) -> String {
    match (&entry.guid, address(entry)) {
        (Some(guid), _) => guid.clone(),
        (None, Some(link)) => identifying_link(link),
        (None, None) => {
            let date = entry
                .published
                .map(|date| date.to_string())
                .or_else(|| entry.published_raw.clone())
                .unwrap_or_default();
            let title = entry.title.as_deref().unwrap_or_default();
            match title.is_empty() && date.is_empty() {
                true => whole(entry),
                false => documents::id(&[title, &date]),
            }
        }
    }
}

/// What tells an item from another one with the same id.
fn telling(entry: &Entry) -> String {
    let link = address(entry).map(identifying_link);
    let title = entry.title.as_deref().unwrap_or_default();
    match (&entry.guid, link) {
        (None, None) => documents::id(&[title, &format!("{:?}", entry.published), &whole(entry)]),
        (guid, link) => {
            let (guid, link) = (guid.as_deref().unwrap_or_default(), link.unwrap_or_default());
            documents::id(&[guid, &link, title])
        }
    }
}

/// All that an item says beside title and date.
fn whole(entry: &Entry) -> String {
    let mut rest = String::new();
    let _ = write!(
        rest,
        "{:?}{:?}{:?}{:?}{:?}{:?}",
        entry.summary_html,
        entry.content_html,
        entry.authors,
        entry.categories,
        entry.media,
        entry.updated
    );
    documents::id(&[&rest])
}

/// A link without what only tracks the reader, and nothing else: entries of a change log differ in their fragment alone.
fn identifying_link(link: &str) -> String {
    let Ok(mut url) = Url::parse(link) else { return link.trim().to_owned() };
    drop_from_query(&mut url, |name| {
        name.starts_with("utm_") || matches!(name, "fbclid" | "gclid")
    });
    url.into()
}

/// A link without its fragment and without what only tracks the reader or says where the reader came from.
pub fn canonical_link(link: &str) -> String {
    let Ok(mut url) = Url::parse(link) else { return link.trim().to_owned() };
    url.set_fragment(None);
    drop_from_query(&mut url, |name| {
        name.starts_with("utm_") || matches!(name, "fbclid" | "gclid" | "ref")
    });
    url.into()
}

fn drop_from_query(url: &mut Url, is_dropped: impl Fn(&str) -> bool) {
    if let Some(query) = url.query() {
        let is_kept = |pair: &&str| !is_dropped(pair.split('=').next().unwrap_or_default());
        let kept: Vec<&str> = query.split('&').filter(is_kept).collect();
        let kept = (!kept.is_empty()).then(|| kept.join("&"));
        url.set_query(kept.as_deref());
    }
}
