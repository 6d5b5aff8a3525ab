//! What the store holds of the bibliography: so that a reference whose address changes keeps its document, and one that left is
//! marked.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use base::Result;
use serde_json::Value;
use stores::documents::{DocumentReader, Index, Pages, Scan};

/// Documents read at a time.
const PAGE: u32 = 2_000;

/// The references that are stored.
#[derive(Default)]
pub struct Stored {
    hasher: RandomState,
    documents: Vec<StoredReference>,
    /// Places of documents, by their ids and by the keys of their entries.
    by_id: HashMap<u64, u32>,
    by_key: HashMap<u64, u32>,
}

struct StoredReference {
    id: String,
    /// Whether the bibliography gave it: not the feed alone.
    is_entry: bool,
    is_active: bool,
}

impl Stored {
    /// Reads what is stored.
    ///
    /// # Errors
    /// `Store`, when it cannot be read.
    pub async fn read(documents: &dyn DocumentReader, index: &'static Index) -> Result<Self> {
        let mut stored = Self::default();
        let scan = Scan { limit: PAGE, ..Scan::of(&["bib_keys", "active"]) };
        let mut pages = Pages::new(documents, index, scan);
        while let Some(page) = pages.next().await? {
            for document in page {
                let keys = document.body.get("bib_keys").and_then(Value::as_array);
                let keys = keys.into_iter().flatten().filter_map(Value::as_str);
                let is_active = document.body.get("active") == Some(&Value::Bool(true));
                stored.add(document.id, keys, is_active);
            }
        }
        Ok(stored)
    }

    fn add<'k>(&mut self, id: String, keys: impl Iterator<Item = &'k str>, is_active: bool) {
        let Ok(place) = u32::try_from(self.documents.len()) else { return };
        let mut is_entry = false;
        for key in keys {
            is_entry = true;
            // Of two documents with one key the one that is there is meant.
            let slot = self.by_key.entry(self.hasher.hash_one(key)).or_insert(place);
            if is_active {
                *slot = place;
            }
        }
        self.by_id.insert(self.hasher.hash_one(id.as_str()), place);
        self.documents.push(StoredReference { id, is_entry, is_active });
    }

    fn place_of(&self, id: &str) -> Option<usize> {
        self.by_id.get(&self.hasher.hash_one(id)).map(|place| *place as usize)
    }

    fn place_of_key(&self, key: &str) -> Option<usize> {
        self.by_key.get(&self.hasher.hash_one(key)).map(|place| *place as usize)
    }
}

/// Which documents a bibliography is, found while it is read.
pub(super) struct Identities<'s> {
    stored: &'s Stored,
    /// The ids that references of this bibliography have of their own, numbered as they came.
    own: HashMap<u64, u32>,
    /// Of each stored document, whether it is there still.
    present: Vec<bool>,
    superseded: Vec<String>,
}

impl<'s> Identities<'s> {
    pub(super) fn among(stored: &'s Stored) -> Self {
        let present = vec![false; stored.documents.len()];
        Self { stored, own: HashMap::new(), present, superseded: Vec::new() }
    }

    /// Notes the id that a reference has by its address. Gives its number; a number that was not given before is a new one.
    pub(super) fn note(&mut self, id: &str) -> u32 {
        let next = u32::try_from(self.own.len()).unwrap_or(u32::MAX);
        *self.own.entry(self.stored.hasher.hash_one(id)).or_insert(next)
    }

    /// The document of a reference that has this id by its address, and these keys: that of its keys where its address is new and
    /// no other reference has the old one.
    pub(super) fn resolve(&mut self, id: String, keys: &[&str]) -> String {
        let documents = &self.stored.documents;
        let known = self.stored.place_of(&id);
        if let Some(place) = known.filter(|place| documents[*place].is_entry) {
            self.present[place] = true;
            return id;
        }
        let moved = keys.iter().filter_map(|key| self.stored.place_of_key(key)).find(|place| {
            let hash = self.stored.hasher.hash_one(documents[*place].id.as_str());
            !self.own.contains_key(&hash) && !self.present[*place]
        });
        let Some(place) = moved else { return id };
        self.present[place] = true;
        // The feed gave the new address before the bibliography did.
        if known.is_some_and(|known| documents[known].is_active) {
            self.superseded.push(id);
        }
        documents[place].id.clone()
    }

    /// Notes that an entry is there though it could not be read.
    pub(super) fn keep(&mut self, key: &str) {
        if let Some(place) = self.stored.place_of_key(key) {
            self.present[place] = true;
        }
    }

    /// The ids of documents that the bibliography gave once and does not now, and of those that became another's.
    pub(super) fn gone(self) -> Vec<String> {
        let documents = self.stored.documents.iter().zip(self.present);
        let left =
            documents.filter(|(one, is_present)| one.is_entry && one.is_active && !is_present);
        left.map(|(document, _)| document.id.clone()).chain(self.superseded).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored {
        let mut stored = Stored::default();
        stored.add("old".to_owned(), ["k:1"].into_iter(), true);
        stored.add("two".to_owned(), ["k:2"].into_iter(), true);
        stored.add("gone".to_owned(), ["k:3"].into_iter(), false);
        stored.add("feed".to_owned(), [].into_iter(), true);
        stored
    }

    #[test]
    fn a_reference_keeps_its_document_when_its_address_changes() {
        let stored = stored();
        let mut identities = Identities::among(&stored);
        let numbers = ["new", "two", "new", "feed"].map(|id| identities.note(id));
        assert_eq!(numbers, [0, 1, 0, 2]);
        assert_eq!(identities.resolve("new".to_owned(), &["k:1"]), "old");
        assert_eq!(identities.resolve("two".to_owned(), &["k:2"]), "two");
        // A second entry with the same key is another reference.
        assert_eq!(identities.resolve("feed".to_owned(), &["k:1"]), "feed");
        assert!(identities.gone().is_empty());
    }

    #[test]
    fn what_the_feed_stored_under_the_new_address_gives_way() {
        let stored = stored();
        let mut identities = Identities::among(&stored);
        identities.note("feed");
        assert_eq!(identities.resolve("feed".to_owned(), &["k:1"]), "old");
        assert_eq!(identities.gone(), ["two", "feed"]);
    }

    #[test]
    fn the_old_address_may_be_another_references() {
        let stored = stored();
        let mut identities = Identities::among(&stored);
        assert_eq!(["new", "old"].map(|id| identities.note(id)), [0, 1]);
        assert_eq!(identities.resolve("new".to_owned(), &["k:1"]), "new");
        assert_eq!(identities.resolve("old".to_owned(), &["k:9"]), "old");
        identities.keep("k:2");
        assert!(identities.gone().is_empty());
    }
}
