//! The engine of families and actors: from files that an enrichment wrote, or straight from the API.
//!
//! The cursor holds, for each file, its time and size, and what links it to others. So an unchanged file is not opened, one
//! that is gone is known by its absence from a complete listing, and links both ways need no second reading.

mod from_api;
mod from_files;
mod kinship;
mod owners;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use base::report::{Reject, Report, SourceReport};
use base::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use stores::documents::{Body, Index, Owner, Query, Write, Written};
use task::Ctx;
use task::source::{Begun, Visit};
use yara::link as rule_link;

use self::owners::{ACTORS, ACTORS_API, FAMILIES, FAMILIES_API, TOLD_OF_ACTOR, TOLD_OF_FAMILY};
use crate::FAMILY;
use crate::api::Api;
use crate::reference::{id, seconds};
use crate::rules;
use crate::wire::{self, Read, Record};

/// Records that are written together.
const BATCH: usize = 250;

/// Raised when files must be read again because they are read in another way.
const READER: u32 = 1;

/// Vanished and doubled records that a report names; all are counted.
const SHOWN: usize = 10;

/// Families or actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Malware families.
    Families,
    /// Their actors.
    Actors,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Families => "families",
            Self::Actors => "actors",
        }
    }

    fn index(self) -> Result<&'static Index> {
        Index::named(match self {
            Self::Families => "malpedia_families",
            Self::Actors => "malpedia_actors",
        })
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Families => "families_enriched",
            Self::Actors => "actors_enriched",
        }
    }

    fn read(self) -> Read {
        match self {
            Self::Families => wire::family,
            Self::Actors => wire::actor,
        }
    }

    fn owner(self, is_api: bool) -> &'static Owner {
        match (self, is_api) {
            (Self::Families, false) => &FAMILIES,
            (Self::Families, true) => &FAMILIES_API,
            (Self::Actors, false) => &ACTORS,
            (Self::Actors, true) => &ACTORS_API,
        }
    }

    fn told(self) -> &'static Owner {
        match self {
            Self::Families => &TOLD_OF_FAMILY,
            Self::Actors => &TOLD_OF_ACTOR,
        }
    }
}

/// How far a place was stored.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Cursor {
    reader: u32,
    place: String,
    version: Option<i64>,
    /// By file, or by id where the API gave it.
    rows: BTreeMap<String, Row>,
}

/// One file: time, size, the record's id and name, and whom it names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Row {
    m: i64,
    s: u64,
    i: String,
    n: String,
    l: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    remaining: Vec<What>,
}

/// Syncs these, one after the other, and then links them to each other.
pub async fn sync(ctx: &Ctx, what: &[What]) -> Result<Report> {
    let mut remaining: Vec<What> = match (&ctx.run.checkpoint, ctx.run.step) {
        (Some(checkpoint), 1..) => {
            serde_json::from_value::<Checkpoint>(checkpoint.clone())
                .map_err(|cause| Error::format("read the checkpoint of a run").because(cause))?
                .remaining
        }
        _ => what.to_vec(),
    };
    let (mut reports, mut rejects, mut detail) = (Vec::new(), Vec::new(), Map::new());
    while let Some(one) = remaining.first().copied() {
        let work = Box::pin(visit_all_of(ctx, one, &mut rejects, &mut detail));
        match tokio::time::timeout_at(ctx.deadline.soft_end().into(), work).await {
            Ok(done) => reports.extend(done?),
            Err(_late) => break,
        }
        remaining.remove(0);
    }
    for one in &remaining {
        let outcome = "deferred".to_owned();
        reports.push(SourceReport { outcome, ..SourceReport::new(one.name(), one.index()?.name) });
    }
    let has_new = reports.iter().any(|report| report.counts.new > 0);
    if remaining.is_empty() {
        detail.insert("linked".to_owned(), kinship::link(ctx, has_new).await?);
        if what.contains(&What::Families) {
            let work = Box::pin(rule_link::link(ctx));
            let end = ctx.deadline.soft_end().into();
            // What time does not suffice for is linked by the next sync.
            let linked = match tokio::time::timeout_at(end, work).await {
                Ok(linked) => linked?,
                Err(_late) => json!("deferred"),
            };
            detail.insert("linked_rules".to_owned(), linked);
        }
    } else {
        ctx.leave(json!(Checkpoint { remaining })).await;
    }
    Ok(Report::of_sources(reports, rejects)?.with_detail(Value::Object(detail)))
}

/// One kind of records, and of families their rules too, once they are stored.
async fn visit_all_of(
    ctx: &Ctx,
    what: What,
    rejects: &mut Vec<Reject>,
    detail: &mut Map<String, Value>,
) -> Result<Vec<SourceReport>> {
    let report = visit(ctx, what, rejects, detail).await?;
    let is_read = matches!(report.outcome.as_str(), "stored" | "unchanged" | "not_modified");
    let mut reports = vec![report];
    if what == What::Families && is_read {
        let state = ctx.state.source(&format!("{}/{}", FAMILY.name, what.name())).await?;
        reports.push(rules::visit(ctx, state.cursor, rejects, detail).await?);
    }
    Ok(reports)
}

async fn visit(
    ctx: &Ctx,
    what: What,
    rejects: &mut Vec<Reject>,
    detail: &mut Map<String, Value>,
) -> Result<SourceReport> {
    let index = what.index()?;
    ctx.documents.ensure(index).await?;
    let mut visit = match Visit::begin(ctx, FAMILY.name, what.name(), index).await? {
        Begun::Visit(visit) => visit,
        Begun::Not(report) => return Ok(*report),
    };
    let mut seen = Seen::default();
    let work = match &ctx.config.sources.malpedia_dir {
        Some(place) => from_files::read(ctx, &mut visit, what, place, &mut seen).await,
        None => {
            let api = Api::of(&ctx.config)?;
            from_api::read(ctx, &api, &mut visit, what, &mut seen)
                .await
                .map_err(|stop| api.explain(stop))
        }
    };
    let report = visit.end(work).await?;
    let counts = report.counts;
    detail.insert(
        what.name().to_owned(),
        json!({
            "files": counts.found, "already_there": counts.unchanged, "sent": counts.new + counts.changed, "new": counts.new,
            "changed": counts.changed, "doubled": counts.merged, "errors": counts.rejected + counts.failed,
            "vanished": seen.vanished.len(), "gone": seen.vanished.iter().take(SHOWN).collect::<Vec<_>>(),
        }),
    );
    rejects.extend(seen.rejects);
    Ok(report)
}

/// What a visit came across beside its documents.
#[derive(Default)]
struct Seen {
    rejects: Vec<Reject>,
    vanished: BTreeSet<String>,
}

impl Seen {
    fn reject(&mut self, visit: &mut Visit<'_>, what: What, reason: &str) {
        visit.report().counts.rejected += 1;
        if self.rejects.len() < Report::REJECTS_SHOWN {
            self.rejects
                .push(Reject { source: what.name().to_owned(), reason: reason.replace('\0', "") });
        }
    }
}

/// What is known of a place. Where the store holds less than that, it is another store, and nothing is known.
async fn known(ctx: &Ctx, visit: &Visit<'_>, what: What, place: &str) -> Result<Cursor> {
    let stored: Option<Cursor> =
        visit.cursor().and_then(|cursor| serde_json::from_value(cursor.clone()).ok());
    let Some(cursor) = stored.filter(|cursor| cursor.reader == READER && cursor.place == place)
    else {
        return Ok(Cursor::default());
    };
    let ids: HashSet<&str> = cursor.rows.values().map(|row| row.i.as_str()).collect();
    let held = ctx.documents.count(what.index()?, &Query::default()).await?;
    Ok(if held < ids.len() as u64 { Cursor::default() } else { cursor })
}

async fn store(
    ctx: &Ctx,
    visit: &mut Visit<'_>,
    what: What,
    is_api: bool,
    batch: &mut Vec<Record>,
) -> Result<()> {
    let owner = what.owner(is_api);
    let mut writes = Vec::with_capacity(batch.len());
    for record in batch.drain(..) {
        let id = id(&record.id);
        let mut fields = record.fields;
        fields.insert("collected_at".to_owned(), json!(seconds(ctx.now())));
        fields.insert("first_seen".to_owned(), json!(seconds(ctx.now())));
        let mut write = Write::of(id, owner, fields);
        if let Some(text) = record.told.filter(|_| !is_api) {
            let field = Body::from_iter([(what.told().fields[0].to_owned(), json!(text))]);
            write = write.and(what.told(), field);
        }
        writes.push(write);
    }
    visit.store(&writes).await
}

/// Marks what was there before and is not now; nothing is deleted.
async fn vanish(
    ctx: &Ctx,
    what: What,
    is_api: bool,
    before: &Cursor,
    now: &Cursor,
    seen: &mut Seen,
) -> Result<()> {
    let there: HashSet<&str> = now.rows.values().map(|row| row.i.as_str()).collect();
    let (index, owner) = (what.index()?, what.owner(is_api));
    let gone: BTreeSet<&str> =
        before.rows.values().map(|row| row.i.as_str()).filter(|id| !there.contains(id)).collect();
    let gone: Vec<&str> = gone.into_iter().collect();
    for batch in gone.chunks(BATCH) {
        let writes: Vec<Write> = batch
            .iter()
            .map(|natural| Write::retire(id(natural), owner, None, ctx.now()))
            .collect();
        let outcomes = ctx.documents.upsert(index, &writes).await?;
        for (natural, outcome) in batch.iter().zip(outcomes) {
            if let Some(reason) = outcome.refusal() {
                return Err(Error::store(format!("mark `{natural}`, which is gone: {reason}"))
                    .hint("the source is read again next time"));
            }
            if outcome == Written::Changed {
                seen.vanished.insert((*natural).to_owned());
            }
        }
    }
    Ok(())
}
