//! The engine of families and actors: from files that an enrichment wrote, or straight from the API.
//!
//! The cursor holds, for each file, its time and size, and what links it to others. So an unchanged file is not opened, one
//! that is gone is known by its absence from a complete listing, and links both ways need no second reading.

mod from_api;
mod from_files;
mod kinship;
mod owners;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use base::Result;
use base::report::{Counts, Outcome, Report};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use stores::documents::{Body, Owner, Write};
use task::files::{Files, Found};
use task::{Chosen, Ctx, Stop, Visit};
use tokio::time::timeout_at;
use yara::link as rule_link;

use crate::api::Api;
use crate::reference::{id, seconds};
use crate::rules;
use crate::settings::Settings;
use crate::sources::Source;
use crate::wire::{self, Read, Record};

/// Records that are written together.
const BATCH: usize = 250;

/// Raised when files must be read again because they are read in another way.
const READER: u32 = 1;

/// Vanished and doubled records that a report names; all are counted.
const SHOWN: usize = 10;

/// One kind of records.
pub(crate) struct RecordKind {
    pub(crate) source: Source,
    pub(crate) index: &'static str,
    /// Where its files are, below `MALPEDIA_DIR`.
    pub(crate) folder: &'static str,
    read: Read,
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
    index: "malpedia_families",
    folder: "families_enriched",
    read: wire::family,
    of_files: &owners::FAMILIES,
    of_api: &owners::FAMILIES_API,
    of_text: &owners::TEXT_OF_FAMILY,
    of_links: &owners::LINKS_OF_FAMILY,
};

/// Their actors.
pub(crate) const ACTORS: RecordKind = RecordKind {
    source: Source::Actors,
    index: "malpedia_actors",
    folder: "actors_enriched",
    read: wire::actor,
    of_files: &owners::ACTORS,
    of_api: &owners::ACTORS_API,
    of_text: &owners::TEXT_OF_ACTOR,
    of_links: &owners::LINKS_OF_ACTOR,
};

/// Where records come from.
pub(crate) enum CatalogueOrigin {
    /// A folder or bucket.
    Files(String),
    Api(Api),
}

impl CatalogueOrigin {
    fn of(settings: Settings) -> Result<Self> {
        Ok(match settings.dir {
            Some(place) => Self::Files(place),
            None => Self::Api(Api::of(&settings)?),
        })
    }
}

/// How far a place was stored.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Cursor {
    reader: u32,
    place: String,
    version: Option<i64>,
    /// By file, or by id where the API gave it.
    rows: BTreeMap<String, StoredRecord>,
}

/// A record that is stored: its file's time and size, its id and name, and whom it names. The aliases are those of cursors of
/// before 2026-12.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct StoredRecord {
    #[serde(alias = "m")]
    modified_ms: i64,
    #[serde(alias = "s")]
    size: u64,
    #[serde(alias = "i")]
    id: String,
    #[serde(alias = "n")]
    name: String,
    #[serde(alias = "l")]
    links: Vec<String>,
}

impl StoredRecord {
    fn of(record: &Record) -> Self {
        let (id, name, links) = (record.id.clone(), record.name.clone(), record.links.clone());
        Self { id, name, links, ..Self::default() }
    }
}

/// Syncs these sources, one after the other, and then links the records to each other and to rules.
pub(crate) async fn sync(ctx: &Ctx, sources: &[Source]) -> Result<Report> {
    let origin = CatalogueOrigin::of(ctx.settings()?)?;
    let detail = RefCell::new(Map::new());
    let work = async |visit: &mut Visit<'_>, source: &Source| {
        let (told, work) = match source {
            Source::Rules => match rules::read(visit, &origin).await {
                Ok(told) => (told, Ok(())),
                Err(stop) => (None, Err(stop)),
            },
            Source::Families => read(visit, &FAMILIES, &origin).await,
            _ => read(visit, &ACTORS, &origin).await,
        };
        detail.borrow_mut().extend(told.map(|told| (task::Source::id(source).to_owned(), told)));
        match &origin {
            CatalogueOrigin::Api(api) => work.map_err(|stop| api.explain(stop)),
            CatalogueOrigin::Files(_) => work,
        }
    };
    let report = ctx.each(Chosen::every(sources.to_vec()), 1, work).await?;
    let mut detail = detail.into_inner();
    if report.sources.iter().all(|source| source.outcome != Outcome::Deferred) {
        // What time does not suffice for is linked by the next sync.
        let end = ctx.deadline.soft_end().into();
        let late = |_| Ok(json!(Outcome::Deferred));
        let linked = timeout_at(end, Box::pin(kinship::link(ctx))).await.unwrap_or_else(late)?;
        detail.insert("linked".to_owned(), linked);
        if sources.contains(&Source::Families) {
            let linked =
                timeout_at(end, Box::pin(rule_link::link(ctx))).await.unwrap_or_else(late)?;
            detail.insert("linked_rules".to_owned(), linked);
        }
    }
    Ok(report.with_detail(Value::Object(detail)))
}

/// Reads one kind of records; gives what a report tells of it, however it ends.
async fn read(
    visit: &mut Visit<'_>,
    kind: &'static RecordKind,
    origin: &CatalogueOrigin,
) -> (Option<Value>, Result<(), Stop>) {
    let read = match origin {
        CatalogueOrigin::Files(place) => from_files::read(visit, kind, place).await,
        CatalogueOrigin::Api(api) => from_api::read(visit, kind, api).await,
    };
    let counts = kind.source.index().map(|index| visit.counts(index)).unwrap_or_default();
    let (vanished, work) = match read {
        Ok(vanished) => (vanished, Ok(())),
        Err(stop) => (BTreeSet::new(), Err(stop)),
    };
    (Some(figures(counts, &vanished)), work)
}

fn figures(counts: Counts, vanished: &BTreeSet<String>) -> Value {
    json!({
        "files": counts.found, "already_there": counts.unchanged, "sent": counts.new + counts.changed, "new": counts.new,
        "changed": counts.changed, "doubled": counts.merged, "errors": counts.rejected + counts.failed,
        "vanished": vanished.len(), "gone": vanished.iter().take(SHOWN).collect::<Vec<_>>(),
    })
}

impl Cursor {
    /// What is stored of a place, read as it is read now.
    fn of(visit: &Visit<'_>, place: &str) -> Self {
        let stored = visit.cursor::<Self>();
        stored.filter(|one| one.reader == READER && one.place == place).unwrap_or_default()
    }

    /// Nothing of a place yet.
    fn at(place: &str) -> Self {
        Self { reader: READER, place: place.to_owned(), ..Self::default() }
    }

    fn ids(&self) -> BTreeSet<&str> {
        self.rows.values().map(|row| row.id.as_str()).collect()
    }
}

impl RecordKind {
    /// Its files, whatever else lies beside them.
    pub(crate) async fn list(&self, files: &Files) -> Result<Vec<Found>> {
        let mut listing = files.list(self.folder).await?;
        listing.retain(|file| file.name.to_ascii_lowercase().ends_with(".json"));
        Ok(listing)
    }

    async fn store(
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

    fn write(&self, owner: &'static Owner, record: Record, now: Timestamp) -> Write {
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
    async fn retire(
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
