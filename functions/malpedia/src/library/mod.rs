//! The engine of the library's tasks: the feed of what is new, and the whole bibliography with what its entries are about.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use base::report::{Outcome, Report};
use base::{Error, Result};
use feed::{FeedError, Hints, Repair};
use jiff::Timestamp;
use stores::documents::{Index, Write};
use task::{Answer, Chosen, Ctx, Stop, Visit};
use tokio::sync::mpsc;
use url::Url;

use crate::api::{Api, panicked, read_json};
use crate::bibtex::{Entry, Reader};
use crate::links::Links;
use crate::reference::{self, INDEX, LINKS};
use crate::sources::Source;

/// References that are written together.
const BATCH: usize = 500;

/// Entries that are read at most; the library has 17,600.
const ENTRIES_MAX: usize = 500_000;

/// Characters of an answer of another kind that an error shows, and the bytes in which they are looked for.
const HEAD_CHARS: usize = 60;
const HEAD_BYTES: usize = 240;

const ACCEPT_FEED: &str = "application/rss+xml, application/xml;q=0.9, */*;q=0.5";
const ACCEPT_BIBTEX: &str = "application/x-bibtex, text/plain;q=0.9, */*;q=0.5";

/// Syncs these sources of the library, one after the other.
pub(crate) async fn sync(ctx: &Ctx, sources: &[Source]) -> Result<Report> {
    let api = Api::of(&ctx.settings()?)?;
    let index = Index::named(INDEX)?;
    // Once the list of references was asked for, what it says, if it could be read.
    let links = RefCell::new(None::<Option<Links>>);
    let work = async |visit: &mut Visit<'_>, source: &Source| {
        let work = match source {
            Source::LibraryRss => read_latest(visit, &api, index).await,
            Source::References => {
                links.replace(Some(None));
                let read = read_references(visit, &api).await;
                read.map(|read| drop(links.replace(Some(read))))
            }
            _ => {
                let asked = links.take();
                read_bibliography(visit, &api, index, asked).await
            }
        };
        work.map_err(|stop| api.explain(stop))
    };
    ctx.each(Chosen::every(sources.to_vec()), 1, work).await
}

async fn read_latest(visit: &mut Visit<'_>, api: &Api, index: &'static Index) -> Result<(), Stop> {
    let url = api.url(Source::LibraryRss.path())?;
    while let Some(answer) = visit.get(api.get(&url).accept(ACCEPT_FEED)).await? {
        let (head, base, now) = (head_of(&answer), api.base.clone(), visit.ctx().now());
        let reading = tokio::task::spawn_blocking(move || parse_feed(&answer, &base, now));
        let latest = reading
            .await
            .map_err(|_| panicked(&url))?
            .map_err(|error| unreadable(&url, &format!("it is no RSS feed: {error}"), &head))?;
        for repair in latest.repairs {
            visit.note(format!("repaired: {}", repair.name()));
        }
        store(visit, index, latest.batch).await?;
        visit.learn_habit(latest.dates);
    }
    Ok(())
}

/// What the feed of new references holds.
struct LatestReferences {
    batch: Batch,
    dates: Vec<Timestamp>,
    repairs: Vec<Repair>,
}

fn parse_feed(answer: &Answer, base: &Url, now: Timestamp) -> Result<LatestReferences, FeedError> {
    let hints = Hints { content_type: answer.content_type(), url: answer.url() };
    let mut reader = feed::open(answer.body(), &hints)?;
    let (mut batch, mut dates, mut seen) = (Batch::default(), Vec::new(), HashSet::new());
    while let Some(chunk) = reader.next_chunk()? {
        batch.found += (chunk.entries.len() + chunk.rejects.len()) as u64;
        for reject in &chunk.rejects {
            batch.reject(format!(
                "item {}: {}: `{}`",
                reject.index + 1,
                reject.reason,
                reject.head
            ));
        }
        for entry in &chunk.entries {
            dates.extend(entry.published.or(entry.updated));
            match reference::of_item(base, entry, now) {
                None => batch.reject(format!(
                    "item {}: it has neither link nor id: `{}`",
                    entry.index + 1,
                    entry.title.as_deref().unwrap_or_default()
                )),
                Some(write) if !seen.insert(write.id.clone()) => batch.merged += 1,
                Some(write) => batch.writes.push(write),
            }
        }
    }
    Ok(LatestReferences { batch, dates, repairs: reader.head().repairs.clone() })
}

/// Malpedia's list of what each address is about, and what stored families say of it. Without it the bibliography is stored all
/// the same, and what is stored of links stays. It is read each time: entries that are new need it, though it did not change.
async fn read_references(visit: &mut Visit<'_>, api: &Api) -> Result<Option<Links>, Stop> {
    let url = api.url(Source::References.path())?;
    let mut links = None;
    while let Some(answer) = visit.get_anyway(api.get(&url)).await? {
        links = Some(read_json(&url, answer, Links::read).await?);
    }
    if let Some(links) = &mut links {
        links.add_stored(visit.ctx().documents.as_ref()).await?;
    }
    Ok(links)
}

/// A part of the library on its way to the store.
#[derive(Debug, Default)]
pub struct Batch {
    /// Entries, readable or not.
    pub found: u64,
    /// Entries that went into another's document.
    pub merged: u64,
    /// Malformed entries.
    pub rejected: u64,
    /// Why the first of those are.
    pub rejects: Vec<String>,
    /// Documents.
    pub writes: Vec<Write>,
}

impl Batch {
    fn reject(&mut self, reason: String) {
        self.rejected += 1;
        if self.rejects.len() < Report::REJECTS_SHOWN {
            self.rejects.push(reason);
        }
    }
}

async fn store(visit: &mut Visit<'_>, index: &'static Index, batch: Batch) -> Result<(), Stop> {
    visit.found(index, batch.found);
    visit.merged(index, batch.merged);
    visit.rejected(index, batch.rejected);
    batch.rejects.into_iter().for_each(|reason| visit.show_reject(reason));
    for writes in batch.writes.chunks(BATCH) {
        visit.store(index, writes).await?;
    }
    Ok(())
}

/// Stores the bibliography; `asked` is what the list of references says, if it was asked for in this step of the run.
async fn read_bibliography(
    visit: &mut Visit<'_>,
    api: &Api,
    index: &'static Index,
    asked: Option<Option<Links>>,
) -> Result<(), Stop> {
    // First, so that two large bodies are never held at once.
    let links = match asked {
        Some(links) => links,
        // A continuation, or the list is in another run's hands.
        None => read_references(visit, api).await?,
    };
    let links = links.map(Arc::new);
    let url = api.url(Source::LibraryBibtex.path())?;
    while let Some(answer) = visit.get(api.get(&url).accept(ACCEPT_BIBTEX)).await? {
        if answer.is_truncated() {
            visit.note("the connection ended early; what came is kept, and it is asked again");
        }
        // Read on a thread of its own, batch by batch, while the store writes.
        let (sender, mut batches) = mpsc::channel(1);
        let (base, now, known) = (api.base.clone(), visit.ctx().now(), links.clone());
        let head = head_of(&answer);
        let reading = tokio::task::spawn_blocking(move || {
            let text = String::from_utf8_lossy(answer.body());
            parse(&text, &base, known.as_deref(), now, |batch| sender.blocking_send(batch).is_ok())
        });
        while let Some(batch) = batches.recv().await {
            store(visit, index, batch).await?;
        }
        reading.await.map_err(|_| panicked(&url))??;
        let counts = visit.counts(index);
        if counts.found == 0 {
            return Err(unreadable(&url, "it holds no entry", &head));
        }
        if counts.rejected * 2 > counts.found {
            let error = Error::format(format!(
                "read `{url}`: {} of {} entries are malformed",
                counts.rejected, counts.found
            ))
            .hint("the library may have changed its shape; the readable entries are stored");
            return Err(Stop::new(Outcome::Unreadable, error));
        }
    }
    Ok(())
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
    let mut batch = Batch::default();
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for read in Reader::new(text) {
        batch.found += 1;
        match read {
            Ok(entry) => entries.push(entry),
            Err(reject) => {
                batch.reject(format!("line {}: {}: `{}`", reject.line, reject.reason, reject.head));
            }
        }
        if batch.found as usize > ENTRIES_MAX {
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
                batch.merged += 1;
                others.entry(*known).or_default().push(entry.key);
            }
            None => {
                places.insert(id.clone(), place);
                firsts.push((place, id));
            }
        }
    }
    drop(places);
    for (place, id) in firsts {
        let entry = &entries[place];
        let mut keys = vec![entry.key];
        keys.extend(others.get(&place).into_iter().flatten());
        keys.sort_unstable();
        keys.dedup();
        let about = links.map(|links| links.fields(entry.field("url"), &keys));
        let write = reference::of_entry(base, entry, &keys, id, now);
        batch.writes.push(match about {
            Some(about) => write.and(&LINKS, about),
            None => write,
        });
        if batch.writes.len() >= BATCH && !take(std::mem::take(&mut batch)) {
            return Ok(());
        }
    }
    take(batch);
    Ok(())
}

/// The beginning of a body, to be shown.
fn head_of(answer: &Answer) -> String {
    let body = answer.body();
    let text = String::from_utf8_lossy(&body[..body.len().min(HEAD_BYTES)]);
    let shown = text.chars().take(HEAD_CHARS);
    let shown: String =
        shown.map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    shown.trim().to_owned()
}

/// An answer of another kind than was asked for, such as a page that wants a login.
fn unreadable(url: &Url, why: &str, head: &str) -> Stop {
    let error = Error::format(format!("read `{url}`: {why}: `{head}`"))
        .hint("look at the address in a browser: it may want a login, or the service moved");
    Stop::new(Outcome::Unreadable, error)
}
