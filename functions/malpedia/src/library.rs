//! The engine of the library's tasks: the feed of what is new, and the whole bibliography with what its entries are about.

use std::collections::HashMap;
use std::time::Instant;

use base::report::{Problem, Reject, Report, SourceReport};
use base::{Class, Error, Result};
use feed::{FeedError, Hints};
use fetch::Fetched;
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
use crate::links::Links;
use crate::reference::{self, INDEX, LATEST, LINKS, OWNER};

/// References that are written together.
const BATCH: usize = 500;

/// Items of the feed that are read at most; it has a few dozen.
const ITEMS_MAX: usize = 10_000;

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
        let hints = Hints { content_type: answer.content_type(), url: answer.url() };
        let latest = latest(answer.body(), &hints)
            .map_err(|error| unreadable(format!("read `{url}`: {error}")))?;
        let report = visit.report();
        report.notes.extend(latest.notes);
        report.counts.found += (latest.items.len() + latest.rejects.len()) as u64;
        report.counts.rejected += latest.rejects.len() as u64;
        for item in latest.rejects {
            let reason = format!("item {}: {}: `{}`", item.index + 1, item.reason, item.head);
            reject(rejects, Way::Rss, &reason);
        }
        let mut writes: Vec<Write> = Vec::with_capacity(latest.items.len());
        for item in &latest.items {
            match reference::of_item(&api.base, item, ctx.now()) {
                None => {
                    report.counts.rejected += 1;
                    let title = item.title.as_deref().unwrap_or_default();
                    let place = item.index + 1;
                    let reason = format!("item {place}: it has neither link nor id: `{title}`");
                    reject(rejects, Way::Rss, &reason);
                }
                Some(write) if writes.iter().any(|known| known.id == write.id) => {
                    report.counts.merged += 1;
                }
                Some(write) => writes.push(write),
            }
        }
        visit.store(&LATEST, &writes).await?;
        visit.learn_habit(latest.items.iter().filter_map(|item| item.published).collect());
    }
    Ok(())
}

/// The feed of what is new, read.
#[derive(Debug, Default)]
struct Latest {
    items: Vec<feed::Entry>,
    rejects: Vec<feed::Reject>,
    notes: Vec<String>,
}

/// Reads the feed to its end, or up to [`ITEMS_MAX`] items.
fn latest(body: &[u8], hints: &Hints<'_>) -> std::result::Result<Latest, FeedError> {
    let mut reader = feed::open(body, hints)?;
    let mut latest = Latest::default();
    while let Some(chunk) = reader.next_chunk()? {
        latest.items.extend(chunk.entries);
        latest.rejects.extend(chunk.rejects);
        if latest.items.len() + latest.rejects.len() >= ITEMS_MAX {
            latest
                .notes
                .push(format!("the feed has {ITEMS_MAX} items or more: the rest is skipped"));
            break;
        }
    }
    let repairs = reader.head().repairs.iter();
    latest.notes.extend(repairs.map(|repair| format!("repaired: {}", repair.name())));
    Ok(latest)
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
    let fetched = ctx.http.get(api.get(&url)).await.and_then(|fetched| match fetched {
        Fetched::Body(response) => response.whole().map(Some),
        Fetched::NotModified(_) => Ok(None),
    });
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
    /// What they are about, where that is known.
    pub links: Vec<Write>,
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
            visit.store_parts([(&OWNER, batch.writes), (&LINKS, batch.links)]).await?;
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
        if let Some(links) = links {
            batch.links.push(links.write(&id, entry.field("url"), &keys));
        }
        batch.writes.push(reference::of_entry(base, entry, &keys, id, now));
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
    unreadable(format!("read `{url}`: {why}: `{}`", head.trim()))
}

fn unreadable(message: String) -> Stop {
    let hint = "look at the address in a browser: it may want a login, or the service moved";
    Stop::new("unreadable", Error::format(message).hint(hint))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HINTS: Hints<'_> =
        Hints { content_type: None, url: "https://malpedia.test/feeds/rss/latest" };

    #[test]
    fn a_feed_is_read_with_its_small_faults() {
        let latest = latest(
            "\u{feff}<?xml version=\"1.0\"?><rss version=\"2.0\"><channel><title>Malpedia</title>\
             <item><title>A &amp; B & C &#8211; <![CDATA[<D>]]></title><link> https://e.org/?a=1&b=2 </link>\
             <description>&lt;p&gt;one&lt;/p&gt; 1 &lt; 2</description><pubDate>Mon, 23 Nov 2026 00:00:00 +0000</pubDate>\
             <guid>g:1</guid></item><item><title>cut"
                .as_bytes(),
            &HINTS,
        )
        .unwrap();
        assert_eq!((latest.items.len(), latest.rejects.len()), (1, 1));
        assert_eq!(latest.notes, ["repaired: bare ampersands", "repaired: truncated"]);
        let base = Url::parse("https://malpedia.test/").unwrap();
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let fields = reference::of_item(&base, &latest.items[0], now).unwrap().fields;
        for (name, expected) in [
            ("title", "A & B & C – <D>"),
            ("link", "https://e.org/?a=1&b=2"),
            ("guid", "g:1"),
            ("summary", "one 1 < 2"),
            ("published", "2026-11-23T00:00:00Z"),
        ] {
            assert_eq!(fields[name], expected, "{name}");
        }
        assert!(latest(b"<html><body>no</body></html>", &HINTS).is_err());
        assert!(latest(b"", &HINTS).is_err());
    }

    /// The documents as they were stored before this feed was read by the same reader as any other.
    #[test]
    fn the_documents_of_the_fixture_stay_what_they_were() {
        let fixture =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/malpedia/latest.xml");
        let body = std::fs::read(fixture).unwrap();
        let base = Url::parse("https://malpedia.test/").unwrap();
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let latest = latest(&body, &HINTS).unwrap();
        let documents = latest.items.iter().map(|item| {
            let write = reference::of_item(&base, item, now).unwrap();
            format!("{} {}\n", write.id, serde_json::to_string(&write.fields).unwrap())
        });
        expect_test::expect![[r#"
            5fea53f0496ad2ae939ec93330ef836a85146ab96a5ac65ae1ab70e829ad49d6 {"@timestamp":"2024-04-08T00:00:00Z","active":true,"category":"malware_research","collected_at":"2026-11-24T12:00:00Z","content_hash":"ef3aa2a3b2c1bb205c62b6b682739d1e22b5c9cd57596e39a7d07dd41efea169","feed_description":"References on malware and its actors, collected by Malpedia","feed_link":"https://malpedia.test/library","feed_name":"Malpedia Library","feed_title":"Malpedia Library","first_seen":"2026-11-24T12:00:00Z","guid":"climentgarca:20240403:willow:a2b3c4d","kind":"blog","link":"https://harborlab.example/en/inside/willow-wren-and-its-new-anti-emulation-trick","link_canonical":"https://harborlab.example/en/inside/willow-wren-and-its-new-anti-emulation-trick","published":"2024-04-08T00:00:00Z","published_from":"source","source_family":"malpedia","source_id":"library","source_name":"Malpedia Library","source_type":"malpedia_library","source_url":"https://malpedia.test/library","summary":"HarborLab on Willow Wren & its tricks","tags":["malpedia","malware","research","academic"],"title":"Willow Wren and its new anti-emulation trick","tlp":"clear"}
            649b3ebc7747935e2ffe956952a80b0343053029d5b82750e578169af016ffc6 {"@timestamp":"2024-04-09T10:00:00Z","active":true,"category":"malware_research","collected_at":"2026-11-24T12:00:00Z","content_hash":"85a7c513f895fbf65bbea14b8d577e70b71f17f8c72c0e74a4c8e8befee30560","feed_description":"References on malware and its actors, collected by Malpedia","feed_link":"https://malpedia.test/library","feed_name":"Malpedia Library","feed_title":"Malpedia Library","first_seen":"2026-11-24T12:00:00Z","guid":"vendor:20240409:an:0000001","kind":"blog","link":"https://vendor.example/new?a=1&b=2","link_canonical":"https://vendor.example/new?a=1&b=2","published":"2024-04-09T10:00:00Z","published_from":"source","source_family":"malpedia","source_id":"library","source_name":"Malpedia Library","source_type":"malpedia_library","source_url":"https://malpedia.test/library","summary":null,"tags":["malpedia","malware","research","academic"],"title":"An item that the bibliography does not have yet","tlp":"clear"}
        "#]].assert_eq(&documents.collect::<String>());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(<|>|/|item|title|rss|link|&|;|#|x|!\\[CDATA\\[| ){0,80}") {
            drop(latest(text.as_bytes(), &HINTS));
        }
    }
}
