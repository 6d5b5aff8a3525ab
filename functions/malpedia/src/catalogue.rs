//! The engine of families and actors: from files that an enrichment wrote, or straight from the API.
//!
//! The cursor holds, for each file, its time and size, and what links it to others. So an unchanged file is not opened, one
//! that is gone is known by its absence from a complete listing, and links both ways need no second reading.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer as _, Serialize};
use serde_json::{Map, Value, json};
use shared::documents::{Body, Index, Owner, Query, Write, hash};
use shared::files::{Files, Found};
use shared::http::Fetched;
use shared::report::{Reject, Report, SourceReport};
use shared::source::{Begun, Stop, Visit};
use shared::task::Ctx;
use shared::yara::link as rule_link;
use shared::{Error, Result};

use crate::FAMILY;
use crate::api::Api;
use crate::reference::{id, seconds};
use crate::rules;
use crate::wire::{self, Read, Record};

/// Records that are written together, and bytes of files behind them.
const BATCH: usize = 250;
const BATCH_BYTES: usize = 16 << 20;

/// The largest file that is read; the largest known family has 784 references, far below.
const FILE_MAX: u64 = 16 << 20;

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

/// What a record says, whether a file or the API gives it.
const FAMILIES: Owner = Owner {
    name: "malpedia_family",
    fields: &[
        "source_family",
        "source_type",
        "source_name",
        "family_id",
        "name",
        "common_name",
        "names",
        "url",
        "os",
        "aka",
        "description",
        "referencias",
        "library_entries",
        "uuid",
        "notes",
        "status",
        "update",
        "yara_names",
        "yara_rules",
        "tlp",
        "active",
        "content_hash",
    ],
    unhashed: &["content_hash"],
    insert_only: &["collected_at", "first_seen"],
    fallback: &[("descricao", "description")],
    shared: &["actors"],
};

/// The API knows neither rules nor the state of samples: what files gave of them stays.
const FAMILIES_API: Owner = Owner {
    name: "malpedia_family_api",
    fields: &[
        "source_family",
        "source_type",
        "source_name",
        "family_id",
        "name",
        "common_name",
        "names",
        "url",
        "os",
        "aka",
        "description",
        "referencias",
        "library_entries",
        "uuid",
        "notes",
        "update",
        "tlp",
        "active",
        "content_hash",
    ],
    ..FAMILIES
};

const ACTORS: Owner = Owner {
    name: "malpedia_actor",
    fields: &[
        "source_family",
        "source_type",
        "source_name",
        "actor_id",
        "name",
        "names",
        "url",
        "urls",
        "country",
        "aka",
        "description",
        "referencias",
        "uuid",
        "state_sponsor",
        "victims",
        "target_category",
        "incident_type",
        "attribution_confidence",
        "erro",
        "tlp",
        "active",
        "content_hash",
    ],
    unhashed: &["content_hash"],
    insert_only: &["collected_at", "first_seen"],
    fallback: &[("explicacao", "description")],
    shared: &["families", "familias_relacionadas"],
};

const ACTORS_API: Owner = Owner { name: "malpedia_actor_api", ..ACTORS };

/// What is told of a family; written only where something is told, so that nothing blanks it.
const TOLD_OF_FAMILY: Owner = told("descricao", &["descricao"]);
const TOLD_OF_ACTOR: Owner = told("explicacao", &["explicacao"]);

/// What the other side says: actors of a family, families of an actor by id and name.
const LINKS_OF_FAMILY: Owner =
    Owner { name: "malpedia_links", fields: &["actor_ids"], shared: &["actors"], ..TOLD_OF_FAMILY };
const LINKS_OF_ACTOR: Owner = Owner {
    name: "malpedia_links",
    fields: &["family_names"],
    shared: &["families", "familias_relacionadas"],
    ..TOLD_OF_FAMILY
};

const fn told(name: &'static str, fields: &'static [&'static str]) -> Owner {
    Owner { name, fields, unhashed: &[], insert_only: &[], fallback: &[], shared: &[] }
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
    if remaining.is_empty() {
        detail.insert("linked".to_owned(), link(ctx).await?);
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
        Some(place) => read_files(ctx, &mut visit, what, place, &mut seen).await,
        None => {
            let api = Api::of(&ctx.config)?;
            read_api(ctx, &api, &mut visit, what, &mut seen).await.map_err(|stop| api.explain(stop))
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

async fn read_files(
    ctx: &Ctx,
    visit: &mut Visit<'_>,
    what: What,
    place: &str,
    seen: &mut Seen,
) -> Result<(), Stop> {
    let files = Files::at(place, &ctx.config)?;
    let mut listing = files.list(what.folder()).await?;
    listing.retain(|file| file.name.to_ascii_lowercase().ends_with(".json"));
    if listing.is_empty() {
        return Err(Error::config(format!(
            "find a `*.json` in `{}/{}`",
            files.place(),
            what.folder()
        ))
        .hint("check MALPEDIA_DIR; nothing that is stored was touched")
        .into());
    }
    let before = known(ctx, visit, what, place).await?;
    let mut holders: HashMap<&str, u32> = HashMap::new();
    for row in before.rows.values() {
        *holders.entry(row.i.as_str()).or_default() += 1;
    }
    let mut now = Cursor { reader: READER, place: place.to_owned(), ..Cursor::default() };
    let mut taken: HashMap<String, (i64, String)> = HashMap::new();
    let mut to_read: Vec<Found> = Vec::new();
    for file in listing {
        visit.report().counts.found += 1;
        let row = before.rows.get(&file.name);
        if file.size > FILE_MAX {
            seen.reject(
                visit,
                what,
                &format!(
                    "{}: it has {} bytes, more than the {FILE_MAX} that are read",
                    file.name, file.size
                ),
            );
            keep(&mut now, &file.name, row);
        } else if let Some(row) = row
            && (row.m, row.s) == (file.modified_ms, file.size)
            && holders.get(row.i.as_str()) == Some(&1)
        {
            visit.report().counts.unchanged += 1;
            taken.insert(row.i.clone(), (row.m, file.name.clone()));
            now.rows.insert(file.name, row.clone());
        } else {
            to_read.push(file);
        }
    }
    // Of two files with one name the later one wins: it comes first, and the other finds its place taken.
    to_read.sort_by(|one, other| {
        other.modified_ms.cmp(&one.modified_ms).then_with(|| one.name.cmp(&other.name))
    });
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for file in to_read {
        let row = before.rows.get(&file.name);
        let body = match files.read(what.folder(), &file.name, FILE_MAX).await {
            Ok(body) => body,
            Err(error) => {
                seen.reject(visit, what, &format!("{}: {}", file.name, error.chain()));
                keep(&mut now, &file.name, row);
                continue;
            }
        };
        match record(what, &body, &file.name) {
            Err(reason) => {
                seen.reject(visit, what, &format!("{}: {reason}", file.name));
                keep(&mut now, &file.name, row);
            }
            Ok(record) => {
                let row = Row {
                    m: file.modified_ms,
                    s: file.size,
                    i: record.id.clone(),
                    n: record.name.clone(),
                    l: record.links.clone(),
                };
                now.rows.insert(file.name.clone(), row);
                if let Some((_, other)) =
                    taken.get(&record.id).filter(|(at, _)| *at >= file.modified_ms)
                {
                    let counts = &mut visit.report().counts;
                    counts.merged += 1;
                    if counts.merged <= SHOWN as u64 {
                        let note = format!(
                            "`{}` and `{other}` are both `{}`: the later one is taken, `{other}`",
                            file.name, record.id
                        );
                        visit.report().notes.push(note);
                    }
                    continue;
                }
                taken.insert(record.id.clone(), (file.modified_ms, file.name));
                bytes += body.len();
                batch.push(record);
            }
        }
        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
            store(ctx, visit, what, false, &mut batch).await?;
            bytes = 0;
        }
    }
    store(ctx, visit, what, false, &mut batch).await?;
    let counts = visit.report().counts;
    if counts.rejected == counts.found {
        let error = Error::format(format!(
            "read `{}/{}`: none of {} files makes sense",
            files.place(),
            what.folder(),
            counts.found
        ));
        return Err(error.hint("the rejects say why; check MALPEDIA_DIR").into());
    }
    vanish(ctx, what, false, &before, &now, seen).await?;
    visit.reach(json!(now));
    Ok(())
}

/// A file that makes no sense now is there still: what it held before is not gone, and it is looked at again.
fn keep(now: &mut Cursor, name: &str, row: Option<&Row>) {
    if let Some(row) = row {
        now.rows.insert(name.to_owned(), Row { s: u64::MAX, ..row.clone() });
    }
}

/// Reads one file; where it is no JSON, the reason tells the byte.
fn record(what: What, body: &[u8], name: &str) -> Result<Record, String> {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let value: Value = serde_json::from_slice(text).map_err(|cause| {
        let lines =
            text.split_inclusive(|byte| *byte == b'\n').take(cause.line().saturating_sub(1));
        let place = lines.map(<[u8]>::len).sum::<usize>()
            + cause.column().saturating_sub(1)
            + (body.len() - text.len());
        format!("byte {place}: it is no JSON: {cause}")
    })?;
    let object = value.as_object().ok_or("byte 0: it is no JSON object")?;
    let stem = name.len().checked_sub(5).and_then(|end| name.get(..end)).unwrap_or(name);
    (what.read())(object, stem).map_err(ToOwned::to_owned)
}

async fn store(
    ctx: &Ctx,
    visit: &mut Visit<'_>,
    what: What,
    is_api: bool,
    batch: &mut Vec<Record>,
) -> Result<()> {
    let owner = what.owner(is_api);
    let (mut writes, mut told) = (Vec::with_capacity(batch.len()), Vec::new());
    for record in batch.drain(..) {
        let id = id(&record.id);
        let mut fields = record.fields;
        fields.insert("collected_at".to_owned(), json!(seconds(ctx.now())));
        fields.insert("first_seen".to_owned(), json!(seconds(ctx.now())));
        let content_hash = hash(owner, &fields);
        fields.insert("content_hash".to_owned(), json!(content_hash));
        if let Some(text) = record.told.filter(|_| !is_api) {
            let field = Body::from_iter([(what.told().fields[0].to_owned(), json!(text))]);
            told.push(Write { id: id.clone(), contributor: None, fields: field });
        }
        writes.push(Write { id, contributor: None, fields });
    }
    visit.store_parts([(owner, writes), (what.told(), told)]).await
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
    for natural in gone {
        let id = id(natural);
        let Some(stored) = ctx.documents.get(index, &id).await? else { continue };
        let mut fields: Body = owner
            .fields
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), stored.get(*name)?.clone())))
            .collect();
        for name in owner.shared {
            // Its own contribution stays its own.
            let part = &stored["owners"]["shared"][*name][owner.name];
            fields.insert((*name).to_owned(), part.clone());
        }
        fields.insert("active".to_owned(), json!(false));
        ctx.documents.upsert(index, owner, &[Write { id, contributor: None, fields }]).await?;
        seen.vanished.insert(natural.to_owned());
    }
    Ok(())
}

async fn read_api(
    ctx: &Ctx,
    api: &Api,
    visit: &mut Visit<'_>,
    what: What,
    seen: &mut Seen,
) -> Result<(), Stop> {
    let place = api.base.as_str().to_owned();
    let before = known(ctx, visit, what, &place).await?;
    let version = version(ctx, api, visit).await?;
    if version.is_some() && before.version >= version {
        visit
            .report()
            .notes
            .push(format!("version {} is stored already", version.unwrap_or_default()));
        return Ok(());
    }
    let url = api.url(&format!("api/get/{}", what.name()))?;
    let Some(answer) = visit.next(api.get(&url).accept("application/json")).await? else {
        return Ok(());
    };
    if answer.is_truncated() {
        return Err(Error::upstream(format!("read `{url}`: the body ended early")).into());
    }
    let read = tokio::task::spawn_blocking(move || read_object(what, answer.body()));
    let records =
        read.await.map_err(|_| Error::format(format!("read `{url}`: the reader panicked")))?;
    let records = records.map_err(|cause| {
        Error::format(format!("read `{url}`: it is not what Malpedia sends"))
            .because(cause)
            .hint("look at the address in a browser")
    })?;
    let mut now = Cursor { reader: READER, place, version, ..Cursor::default() };
    let (mut batch, mut taken) = (Vec::new(), HashSet::new());
    for (key, record) in records {
        visit.report().counts.found += 1;
        match record {
            Err(reason) => seen.reject(visit, what, &format!("{key}: {reason}")),
            Ok(record) if !taken.insert(record.id.clone()) => visit.report().counts.merged += 1,
            Ok(record) => {
                let row = Row {
                    i: record.id.clone(),
                    n: record.name.clone(),
                    l: record.links.clone(),
                    ..Row::default()
                };
                now.rows.insert(key, row);
                batch.push(record);
            }
        }
        if batch.len() >= BATCH {
            store(ctx, visit, what, true, &mut batch).await?;
        }
    }
    store(ctx, visit, what, true, &mut batch).await?;
    let counts = visit.report().counts;
    if counts.found == counts.rejected {
        return Err(Error::format(format!(
            "read `{url}`: none of its {} records makes sense",
            counts.found
        ))
        .into());
    }
    // What could not be read this time is not gone.
    if counts.rejected == 0 {
        vanish(ctx, what, true, &before, &now, seen).await?;
    }
    visit.reach(json!(now));
    Ok(())
}

/// The version of all that Malpedia holds, which grows with every change.
async fn version(ctx: &Ctx, api: &Api, visit: &mut Visit<'_>) -> Result<Option<i64>, Stop> {
    if ctx.config.behaviour.reparse.is_some() {
        return Ok(None);
    }
    let url = api.url("api/get/version")?;
    let fetched = ctx.http.get(api.get(&url)).await.map_err(|failure| {
        visit.report().requests += u64::from(failure.requests);
        let error = Error::from(failure);
        api.refused(&error).unwrap_or(error)
    })?;
    let Fetched::Body(response) = fetched else { return Ok(None) };
    visit.report().requests += u64::from(response.requests);
    visit.report().bytes += response.bytes_on_wire;
    let body: Value = serde_json::from_slice(&response.body).map_err(|cause| {
        Error::format(format!("read `{url}`: it is no JSON"))
            .because(cause)
            .hint("look at the address in a browser")
    })?;
    Ok(body["version"].as_i64())
}

type Records = Vec<(String, Result<Record, &'static str>)>;

/// Reads `{id: record}` record by record, so that no tree of the whole is built.
fn read_object(what: What, body: &[u8]) -> serde_json::Result<Records> {
    struct Each(What);
    impl<'de> Visitor<'de> for Each {
        type Value = Records;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of records by id")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Records, A::Error> {
            let mut records = Vec::new();
            while let Some(key) = map.next_key::<String>()? {
                let record = match map.next_value::<Value>()? {
                    Value::Object(object) => (self.0.read())(&object, &key),
                    _ => Err("it is no object"),
                };
                records.push((key, record));
            }
            Ok(records)
        }
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut reader = serde_json::Deserializer::from_slice(body);
    let records = reader.deserialize_map(Each(what))?;
    reader.end()?;
    Ok(records)
}

/// How far the links were written.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Linked {
    digest: String,
    families: BTreeSet<String>,
    actors: BTreeSet<String>,
}

/// Writes each side's links to the other, from what both cursors say; nothing where neither changed.
async fn link(ctx: &Ctx) -> Result<Value> {
    let rows = async |what: What| -> Result<Vec<Row>> {
        let state = ctx.state.source(&format!("{}/{}", FAMILY.name, what.name())).await?;
        let cursor: Option<Cursor> =
            state.cursor.and_then(|cursor| serde_json::from_value(cursor).ok());
        Ok(cursor.map(|cursor| cursor.rows.into_values().collect()).unwrap_or_default())
    };
    let (families, actors) = (rows(What::Families).await?, rows(What::Actors).await?);
    let (of_families, of_actors) = links(&families, &actors);
    let digest = id(&json!([of_families, of_actors]).to_string());
    let mut visit = match Visit::begin(ctx, FAMILY.name, "links", What::Families.index()?).await? {
        Begun::Visit(visit) => visit,
        Begun::Not(report) => return Ok(json!(report.outcome)),
    };
    let before: Linked = visit
        .cursor()
        .and_then(|cursor| serde_json::from_value(cursor.clone()).ok())
        .unwrap_or_default();
    let mut written = 0;
    if before.digest != digest {
        let now = Linked {
            digest,
            families: of_families.keys().cloned().collect(),
            actors: of_actors.keys().cloned().collect(),
        };
        // What had links before and has none now is written too, without any.
        let sides = [
            (What::Families, &LINKS_OF_FAMILY, of_families, before.families),
            (What::Actors, &LINKS_OF_ACTOR, of_actors, before.actors),
        ];
        for (what, owner, mut links, once) in sides {
            for natural in once {
                links.entry(natural).or_default();
            }
            let index = what.index()?;
            ctx.documents.ensure(index).await?;
            let writes: Vec<Write> = links
                .into_iter()
                .map(|(natural, fields)| Write { id: id(&natural), contributor: None, fields })
                .collect();
            for batch in writes.chunks(BATCH) {
                let outcomes = ctx.documents.upsert(index, owner, batch).await?;
                written += outcomes
                    .iter()
                    .filter(|outcome| !matches!(outcome, shared::documents::Written::Unchanged))
                    .count();
            }
        }
        visit.reach(json!(now));
    }
    visit.end(Ok(())).await?;
    Ok(json!(written))
}

type Sides = BTreeMap<String, Body>;

/// The links of families and of actors that are there, purely.
fn links(families: &[Row], actors: &[Row]) -> (Sides, Sides) {
    let names: HashMap<&str, &str> =
        families.iter().map(|row| (row.i.as_str(), row.n.as_str())).collect();
    let mut by_name: HashMap<String, BTreeSet<&str>> = HashMap::new();
    for actor in actors {
        by_name.entry(actor.n.to_lowercase()).or_default().insert(&actor.i);
    }
    let actor_names: HashMap<&str, &str> =
        actors.iter().map(|row| (row.i.as_str(), row.n.as_str())).collect();
    // Pairs of family and actor, whichever side names the other.
    let mut pairs: BTreeSet<(&str, &str)> = BTreeSet::new();
    for actor in actors {
        pairs.extend(
            actor
                .l
                .iter()
                .filter(|family| names.contains_key(family.as_str()))
                .map(|family| (family.as_str(), actor.i.as_str())),
        );
    }
    for family in families {
        let named = family.l.iter().filter_map(|name| by_name.get(&name.to_lowercase())).flatten();
        pairs.extend(named.map(|actor| (family.i.as_str(), *actor)));
    }
    let mut of_families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut of_actors: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (family, actor) in pairs {
        of_families.entry(family).or_default().push(actor);
        of_actors.entry(actor).or_default().push(family);
    }
    let family_side = of_families.into_iter().map(|(family, actors)| {
        let shown: Vec<&str> = actors.iter().map(|actor| actor_names[actor]).collect();
        let fields = [("actor_ids", json!(actors)), ("actors", json!(shown))];
        (
            family.to_owned(),
            fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        )
    });
    let actor_side = of_actors.into_iter().map(|(actor, families)| {
        let shown: Vec<&str> = families.iter().map(|family| names[family]).collect();
        let both: Vec<&str> = families.iter().chain(&shown).copied().collect();
        let fields = [
            ("family_names", json!(shown)),
            ("families", json!(families)),
            ("familias_relacionadas", json!(both)),
        ];
        (
            actor.to_owned(),
            fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        )
    });
    (family_side.collect(), actor_side.collect())
}
