//! The two kinds of records, and how far each is stored.

use std::collections::{BTreeMap, BTreeSet};

use base::date::seconds;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stores::documents::{Body, MALWARE_FAMILIES, Owner, Write};
use task::{Stop, Visit};

use super::owners;
use crate::reference::id;
use crate::sources::{self, ACTORS_FOLDER, FAMILIES_FOLDER, Source};
use crate::wire::{self, Read, Record};

/// Records that are taken of one place; Malpedia has 3,700 families. What is above is counted and not stored.
pub(super) const RECORDS_MAX: usize = 50_000;

/// Raised when files must be read again because they are read in another way.
pub(super) const READER: u32 = 2;

/// Vanished and doubled records that a report names; all are counted.
pub(super) const SHOWN: usize = 10;

/// One kind of records.
pub(crate) struct RecordKind {
    pub(crate) source: Source,
    pub(crate) index: &'static str,
    /// Where its files are, below `MALPEDIA_DIR`.
    pub(super) folder: &'static str,
    pub(super) read: Read,
    /// Where its page is, below `MALPEDIA_URL`.
    pub(super) page: &'static str,
    /// Who writes what files say.
    pub(crate) of_files: &'static Owner,
    /// Who writes what the API says.
    pub(crate) of_api: &'static Owner,
    /// Who writes the one field of the text that an enrichment added.
    pub(crate) of_text: &'static Owner,
    /// Who writes what the other kind says.
    pub(crate) of_links: &'static Owner,
}

/// Malware families.
pub(crate) const FAMILIES: RecordKind = RecordKind {
    source: Source::Families,
    index: MALWARE_FAMILIES,
    folder: FAMILIES_FOLDER,
    read: wire::family,
    page: "details",
    of_files: &owners::FAMILIES,
    of_api: &owners::FAMILIES_API,
    of_text: &owners::TEXT_OF_FAMILY,
    of_links: &owners::LINKS_OF_FAMILY,
};

/// Their actors.
pub(crate) const ACTORS: RecordKind = RecordKind {
    source: Source::Actors,
    index: sources::ACTORS,
    folder: ACTORS_FOLDER,
    read: wire::actor,
    page: "actor",
    of_files: &owners::ACTORS,
    of_api: &owners::ACTORS_API,
    of_text: &owners::TEXT_OF_ACTOR,
    of_links: &owners::LINKS_OF_ACTOR,
};

/// How far a place was stored.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Cursor {
    pub(super) reader: u32,
    pub(super) place: String,
    pub(super) version: Option<i64>,
    /// By file, or by id where the API gave it.
    pub(super) rows: BTreeMap<String, StoredRecord>,
}

/// A record that is stored: its file's time and size, its id and name, and whom it names. The aliases are those of cursors of
/// before 2026-12.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredRecord {
    #[serde(alias = "m")]
    pub(super) modified_ms: i64,
    #[serde(alias = "s")]
    pub(super) size: u64,
    #[serde(alias = "i")]
    pub(super) id: String,
    #[serde(alias = "n")]
    pub(super) name: String,
    #[serde(alias = "l")]
    pub(super) links: Vec<String>,
}

impl StoredRecord {
    pub(super) fn of(record: &Record) -> Self {
        let (id, name, links) = (record.id.clone(), record.name.clone(), record.links.clone());
        Self { id, name, links, ..Self::default() }
    }
}

impl Cursor {
    /// What is stored of a place. What was read in another way is read again.
    pub(super) fn of(visit: &Visit<'_>, place: &str) -> Self {
        let stored = visit.cursor::<Self>().filter(|one| one.place == place);
        let mut stored = stored.unwrap_or_default();
        if stored.reader != READER {
            stored.version = None;
            stored.rows.values_mut().for_each(|row| row.size = u64::MAX);
        }
        stored
    }

    /// Nothing of a place yet.
    pub(super) fn at(place: &str) -> Self {
        Self { reader: READER, place: place.to_owned(), ..Self::default() }
    }

    /// A record that is malformed now is there still: what it held before is not gone, and it is looked at again.
    pub(super) fn keep(&mut self, name: &str, row: Option<&StoredRecord>) {
        self.rows.extend(
            row.map(|row| (name.to_owned(), StoredRecord { size: u64::MAX, ..row.clone() })),
        );
    }

    pub(super) fn ids(&self) -> BTreeSet<&str> {
        self.rows.values().map(|row| row.id.as_str()).collect()
    }
}

impl RecordKind {
    pub(super) async fn store(
        &self,
        visit: &mut Visit<'_>,
        owner: &'static Owner,
        batch: &mut Vec<Record>,
    ) -> Result<(), Stop> {
        let (declared, now) = (owner.declared(), visit.ctx().now());
        let write = |mut record: Record| {
            // The API says nothing of rules and of samples: what files gave of them stays.
            record.fields.retain(|name, _| declared.contains(name.as_str()));
            self.write(owner, record, now)
        };
        let writes: Vec<Write> = batch.drain(..).map(write).collect();
        visit.store(self.source.index()?, &writes).await?;
        Ok(())
    }

    pub(super) fn write(&self, owner: &'static Owner, record: Record, now: Timestamp) -> Write {
        let mut fields = record.fields;
        for name in ["collected_at", "first_seen"] {
            fields.insert(name.to_owned(), json!(seconds(now)));
        }
        let write = Write::of(id(&record.id), owner, fields);
        match record.text.filter(|_| owner.name == self.of_files.name) {
            Some(text) => {
                let field = self.of_text.fields[0].to_owned();
                write.and(self.of_text, Body::from_iter([(field, json!(text))]))
            }
            None => write,
        }
    }

    /// Marks what was there before and is not now; nothing is deleted. Gives whom.
    pub(super) async fn retire(
        &self,
        visit: &mut Visit<'_>,
        owner: &'static Owner,
        before: &Cursor,
        reached: &Cursor,
    ) -> Result<BTreeSet<String>, Stop> {
        let now = visit.ctx().now();
        let gone: BTreeSet<&str> = &before.ids() - &reached.ids();
        let writes = gone.iter().map(|natural| Write::retire(id(natural), owner, None, now));
        visit.amend(self.source.index()?, &writes.collect::<Vec<_>>()).await?;
        Ok(gone.into_iter().map(ToOwned::to_owned).collect())
    }
}

/// Tells of texts and lists that were cut.
pub(crate) fn note_cut(visit: &mut Visit<'_>, cut: u64) {
    if cut > 0 {
        visit.note(format!("{cut} texts and lists were longer than their limits and are cut"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_with_short_keys_is_read_still() {
        let old = json!({"reader": 1, "place": "p", "version": null,
            "rows": {"a.json": {"m": 5, "s": 7, "i": "win.a", "n": "A", "l": ["b"]}}});
        let cursor: Cursor = serde_json::from_value(old).unwrap();
        let row = StoredRecord {
            modified_ms: 5,
            size: 7,
            id: "win.a".to_owned(),
            name: "A".to_owned(),
            links: vec!["b".to_owned()],
        };
        assert_eq!((cursor.reader, &cursor.rows["a.json"]), (1, &row));
        assert_eq!(json!(row)["modified_ms"], 5);
    }
}
