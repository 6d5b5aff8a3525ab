//! The engine of the library's tasks: the feed of what is new, and the whole bibliography with what its entries are about.

use std::collections::HashMap;
use std::time::Instant;

use base::report::{Problem, Reject, Report, SourceReport};
use base::{Class, Error, Result};
use fetch::{Fetched, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stores::documents::{Index, Write};
use task::Ctx;
use task::source::{Answer, Begun, Stop, Visit};
use tokio::sync::mpsc;
use url::Url;

use crate::FAMILY;
use crate::api::Api;
use crate::bibtex::{Entry, Reader};
use crate::latest;
use crate::links::Links;
use crate::reference::{self, INDEX, LINKS};

/// References that are written together.
const BATCH: usize = 500;

/// Entries that are read at most; the library has 17,600.
const ENTRIES_MAX: usize = 500_000;

/// A way to the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The feed: what is new.
    Rss,
    /// The bibliography: all of it.
    Bibtex,
}

impl Way {
    fn source(self) -> &'static str {
        match self {
            Self::Rss => "library_rss",
            Self::Bibtex => "library_bibtex",
        }
    }
}

/// What a run leaves to its continuation. Everything stored so far is found unchanged by it.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    remaining: Vec<Way>,
}

/// Syncs the library in these ways, one after the other.
pub async fn sync(ctx: &Ctx, ways: &[Way]) -> Result<Report> {
    let api = Api::of(&ctx.config)?;
    let index = Index::named(INDEX)?;
    ctx.documents.ensure(index).await?;
    let mut remaining: Vec<Way> = match (&ctx.run.checkpoint, ctx.run.step) {
        (Some(checkpoint), 1..) => {
            serde_json::from_value::<Checkpoint>(checkpoint.clone())
                .map_err(|cause| Error::format("read the checkpoint of a run").because(cause))?
                .remaining
        }
        _ => ways.to_vec(),
    };
    let (mut reports, mut rejects) = (Vec::new(), Vec::new());
    while let Some(way) = remaining.first().copied() {
        let work = Box::pin(visit(ctx, &api, way, index, &mut rejects));
        match tokio::time::timeout_at(ctx.deadline.soft_end().into(), work).await {
            Ok(done) => reports.extend(done?),
            Err(_late) => break,
        }
        remaining.remove(0);
    }
    for way in &remaining {
        let outcome = "deferred".to_owned();
        reports.push(SourceReport { outcome, ..SourceReport::new(way.source(), INDEX) });
    }
    if !remaining.is_empty() {
        ctx.leave(json!(Checkpoint { remaining })).await;
    }
    Report::of_sources(reports, rejects)
}

async fn visit(
    ctx: &Ctx,
    api: &Api,
    way: Way,
    index: &'static Index,
    rejects: &mut Vec<Reject>,
) -> Result<Vec<SourceReport>> {
    let mut visit = match Visit::begin(ctx, FAMILY.name, way.source(), index).await? {
        Begun::Visit(visit) => visit,
        Begun::Not(report) => return Ok(vec![*report]),
    };
    let mut reports = Vec::new();
    let work = match way {
        Way::Rss => read_latest(ctx, api, &mut visit, rejects).await,
        Way::Bibtex => {
            // First, so that two large bodies are never held at once.
            let (links, report) = references(ctx, api).await?;
            reports.extend(report);
            read_bibliography(ctx, api, &mut visit, links, rejects).await
        }
    };
    reports.push(visit.end(work.map_err(|stop| api.explain(stop))).await?);
    Ok(reports)
}

async fn read_latest(
    ctx: &Ctx,
    api: &Api,
    visit: &mut Visit<'_>,
    rejects: &mut Vec<Reject>,
) -> Result<(), Stop> {
    let url = api.url("feeds/rss/latest")?;
    while let Some(answer) = visit
        .next(api.get(&url).accept("application/rss+xml, application/xml;q=0.9, */*;q=0.5"))
        .await?
    {
        let body = String::from_utf8_lossy(answer.body());
        let Some((items, broken)) = latest::read(&body) else {
            return Err(no_sense(&url, "it is no RSS feed", &body));
        };
        let report = visit.report();
        report.notes.extend(
            broken.map(|why| format!("the feed is broken, what comes before is kept: {why}")),
        );
        report.counts.found += items.len() as u64;
        let mut writes: Vec<Write> = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            match reference::of_item(&api.base, item, ctx.now()) {
                None => {
                    report.counts.rejected += 1;
                    reject(
                        rejects,
                        Way::Rss,
                        &format!(
                            "item {}: it has neither link nor id: `{}`",
                            place + 1,
                            item.title
                        ),
                    );
                }
                Some(write) if writes.iter().any(|known| known.id == write.id) => {
                    report.counts.merged += 1;
                }
                Some(write) => writes.push(write),
            }
        }
        visit.store(&writes).await?;
        visit.learn_habit(items.iter().filter_map(latest::Item::published).collect());
    }
    Ok(())
}

/// Malpedia's list of what each address is about. Without it the bibliography is stored all the same, and what is stored of
/// links stays; the report says so. It is not asked for when an archive is read again.
async fn references(ctx: &Ctx, api: &Api) -> Result<(Option<Links>, Option<SourceReport>)> {
    if ctx.config.behaviour.reparse.is_some() {
        return Ok((None, None));
    }
    let mut report = SourceReport::new("references", INDEX);
    let began = Instant::now();
    let links = match read_references(ctx, api, &mut report).await {
        Ok(links) => {
            "read".clone_into(&mut report.outcome);
            Some(links)
        }
        Err(error) if error.class() == Class::Store => return Err(error),
        Err(error) => {
            "unreadable".clone_into(&mut report.outcome);
            report.problem = Some(Problem::from(&error));
            None
        }
    };
    report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok((links, Some(report)))
}

async fn read_references(ctx: &Ctx, api: &Api, report: &mut SourceReport) -> Result<Links> {
    let url = api.url("api/get/references")?;
    let fetched = ctx.http.send(api.get(&url)).await.and_then(Fetched::body);
    let fetched = fetched.and_then(|response| response.map(Response::whole).transpose());
    let response = match fetched {
        Ok(response) => response,
        Err(failure) => {
            report.requests += u64::from(failure.requests);
            let error = Error::from(failure);
            return Err(api.refused(&error).unwrap_or(error));
        }
    };
    let response = response.ok_or_else(|| {
        Error::upstream(format!("read `{url}`: it answered that nothing changed, unasked"))
    })?;
    report.requests += u64::from(response.requests);
    report.bytes += response.bytes_on_wire;
    let body = response.into_body();
    let mut links = tokio::task::spawn_blocking(move || Links::read(&body))
        .await
        .map_err(|_| Error::format("read the list of references: the reader panicked"))??;
    links.add_stored(ctx.documents.as_ref()).await?;
    Ok(links)
}

/// A part of the bibliography on its way to the store.
#[derive(Debug, Default)]
pub struct Batch {
    /// Entries, readable or not.
    pub found: u64,
    /// Entries that went into another's document.
    pub merged: u64,
    /// Entries that make no sense.
    pub rejected: u64,
    /// The first of those.
    pub rejects: Vec<String>,
    /// Documents.
    pub writes: Vec<Write>,
}

async fn read_bibliography(
    ctx: &Ctx,
    api: &Api,
    visit: &mut Visit<'_>,
    links: Option<Links>,
    rejects: &mut Vec<Reject>,
) -> Result<(), Stop> {
    let url = api.url("library/download")?;
    let mut links = links;
    while let Some(answer) = visit
        .next(api.get(&url).accept("application/x-bibtex, text/plain;q=0.9, */*;q=0.5"))
        .await?
    {
        if answer.is_truncated() {
            visit.report().notes.push(
                "the connection ended early; what came is kept, and it is asked again".to_owned(),
            );
        }
        // Read on a thread of its own, batch by batch, while the store writes.
        let (sender, mut batches) = mpsc::channel(1);
        let (base, now, known) = (api.base.clone(), ctx.now(), links.take());
        let reading = tokio::task::spawn_blocking(move || {
            let known_links = known.as_ref();
            let read = parse(&text_of(&answer), &base, known_links, now, |batch| {
                sender.blocking_send(batch).is_ok()
            });
            (
                read,
                known,
                String::from_utf8_lossy(&answer.body()[..answer.body().len().min(200)])
                    .into_owned(),
            )
        });
        while let Some(batch) = batches.recv().await {
            let counts = &mut visit.report().counts;
            counts.found += batch.found;
            counts.merged += batch.merged;
            counts.rejected += batch.rejected;
            for reason in batch.rejects {
                reject(rejects, Way::Bibtex, &reason);
            }
            visit.store(&batch.writes).await?;
        }
        let (read, known, head) = reading.await.map_err(|_| {
            Error::format("read the bibliography: the reader panicked")
                .hint("this is a bug: please report it with the file")
        })?;
        links = known;
        read?;
        let counts = visit.report().counts;
        if counts.found == 0 {
            return Err(no_sense(&url, "it holds no entry", &head));
        }
        if counts.rejected * 2 > counts.found {
            let error = Error::format(format!(
                "read `{url}`: {} of {} entries make no sense",
                counts.rejected, counts.found
            ))
            .hint("the library may have changed its shape; the readable entries are stored");
            return Err(Stop::new("unreadable", error));
        }
    }
    Ok(())
}

fn text_of(answer: &Answer) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(answer.body())
}

/// Reads a bibliography into documents, batch by batch, until `take` says that nobody wants more.
///
/// # Errors
/// `Format`, when it has more entries than any library.
pub fn parse(
    text: &str,
    base: &Url,
    links: Option<&Links>,
    now: Timestamp,
    mut take: impl FnMut(Batch) -> bool,
) -> Result<()> {
    let mut first = Batch::default();
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for read in Reader::new(text) {
        first.found += 1;
        match read {
            Ok(entry) => entries.push(entry),
            Err(reject) => {
                first.rejected += 1;
                if first.rejects.len() < Report::REJECTS_SHOWN {
                    first.rejects.push(format!(
                        "line {}: {}: `{}`",
                        reject.line, reject.reason, reject.head
                    ));
                }
            }
        }
        if first.found as usize > ENTRIES_MAX {
            return Err(Error::format(format!(
                "read the bibliography: it has more than {ENTRIES_MAX} entries"
            ))
            .hint("this is no bibliography of Malpedia; check MALPEDIA_URL"));
        }
    }
    // Entries of one reference meet in the document of the first; the file is in the order of its keys.
    let mut places: HashMap<String, usize> = HashMap::with_capacity(entries.len());
    let mut others: HashMap<usize, Vec<&str>> = HashMap::new();
    let mut firsts: Vec<(usize, String)> = Vec::with_capacity(entries.len());
    for (place, entry) in entries.iter().enumerate() {
        let id = reference::id(&reference::natural(entry));
        match places.get(&id) {
            Some(known) => {
                first.merged += 1;
                others.entry(*known).or_default().push(entry.key);
            }
            None => {
                places.insert(id.clone(), place);
                firsts.push((place, id));
            }
        }
    }
    drop(places);
    let mut batch = first;
    for (place, id) in firsts {
        let entry = &entries[place];
        let mut keys = vec![entry.key];
        keys.extend(others.get(&place).into_iter().flatten());
        keys.sort_unstable();
        keys.dedup();
        let mut write = reference::of_entry(base, entry, &keys, id, now);
        if let Some(links) = links {
            write = write.and(&LINKS, links.about(entry.field("url"), &keys));
        }
        batch.writes.push(write);
        if batch.writes.len() >= BATCH && !take(std::mem::take(&mut batch)) {
            return Ok(());
        }
    }
    take(batch);
    Ok(())
}

fn reject(rejects: &mut Vec<Reject>, way: Way, reason: &str) {
    if rejects.len() < Report::REJECTS_SHOWN {
        rejects.push(Reject { source: way.source().to_owned(), reason: reason.replace('\0', "") });
    }
}

/// An answer of another kind than was asked for, such as a page that wants a login.
fn no_sense(url: &Url, why: &str, body: &str) -> Stop {
    let head: String = body
        .chars()
        .take(60)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    let error = Error::format(format!("read `{url}`: {why}: `{}`", head.trim()))
        .hint("look at the address in a browser: it may want a login, or the service moved");
    Stop::new("unreadable", error)
}
