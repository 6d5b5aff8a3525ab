//! The engine of the three RSS tasks: one feed on its way from its source to the store.

use std::collections::HashSet;
use std::fmt::Write as _;

use base::address::{masked, without_secrets};
use base::report::{Outcome, Report};
use base::{Error, Result};
use feed::{FeedError, Head, Hints, LinkedFeed};
use fetch::{Fetched, Limits, Request};
use jiff::Timestamp;
use stores::documents::{Index, Write};
use task::catalog::{Pending, Preview};
use task::function::{Home, now};
use task::{Answer, Chosen, Ctx, Cutoff, Stop, Visit};
use tokio::sync::mpsc;

use crate::adopt::AdoptedArticles;
use crate::article;
use crate::sources::{INDEX, Source, Sources};

/// Sources in progress at once. The pace at one host is the HTTP client's matter.
const SOURCES_AT_ONCE: usize = 16;

/// Articles that are written together: few enough to bound memory, enough to spare commits.
const BATCH: usize = 256;

/// Bytes of articles that are written together, whatever their number.
const BATCH_BYTES: usize = 1 << 20;

/// A note is made when a visit finds nothing it knew among this many items or more.
const GAP_ITEMS: u64 = 3;

const ACCEPT: &str = "application/rss+xml, application/atom+xml, application/feed+json, application/rdf+xml, application/xml;q=0.9, text/xml;q=0.9, */*;q=0.5";

/// Collects the sources that `choose` picks from the list.
pub async fn collect(
    ctx: &Ctx,
    choose: impl FnOnce(&Sources) -> Result<Vec<Source>>,
) -> Result<Report> {
    let sources = Sources::load(&ctx.config, ctx.ledger.as_ref()).await?;
    let chosen = choose(&sources)?.into_iter().map(|source| source.id);
    let chosen = Chosen::these(sources.into_all(), chosen);
    let index = Index::named(INDEX)?;
    ctx.each(chosen, SOURCES_AT_ONCE, async |visit, source| read(visit, source, index).await).await
}

/// Asks the source and stores what it gave.
async fn read(visit: &mut Visit<'_>, source: &Source, index: &'static Index) -> Result<(), Stop> {
    while let Some(answer) = visit.get(request(source)).await? {
        if answer.is_truncated() {
            visit.note("the connection ended early; what came is kept, and it is asked again");
        }
        store(visit, source, index, answer).await?;
    }
    Ok(())
}

fn request(source: &Source) -> Request<'_> {
    Request::get(&source.url).accept(ACCEPT).limits(Limits::FEED)
}

/// A part of a feed on its way from the parser to the store.
enum Part {
    Notes(Vec<String>),
    Batch(Batch),
    End(Result<(), FeedError>),
}

#[derive(Default)]
struct Batch {
    found: u64,
    merged: u64,
    rejected: u64,
    rejects: Vec<String>,
    dates: Vec<Timestamp>,
    writes: Vec<Write>,
    /// About how many bytes the writes have.
    bytes: usize,
}

/// Parses on a thread of its own, so that a large feed holds up no other source, and stores part by part.
async fn store(
    visit: &mut Visit<'_>,
    source: &Source,
    index: &'static Index,
    answer: Answer,
) -> Result<(), Stop> {
    let ctx = visit.ctx();
    let (sender, mut parts) = mpsc::channel(1);
    let (now, mut adopted) = (ctx.now(), AdoptedArticles::of(source, index));
    let (parsed_source, cutoff) = (source.clone(), visit.cutoff());
    tokio::task::spawn_blocking(move || {
        let end = parse(&parsed_source, &answer, now, &sender, &cutoff);
        // Nobody listens any more when the run has ended.
        let _ = sender.blocking_send(Part::End(end));
    });
    let was_first = visit.is_first();
    let mut dates = Vec::new();
    let before = visit.counts(index);
    let end = loop {
        match parts.recv().await {
            Some(Part::Notes(notes)) => notes.into_iter().for_each(|note| visit.note(note)),
            Some(Part::Batch(mut batch)) => {
                adopted.meet(ctx.documents.as_ref(), &mut batch.writes).await?;
                visit.found(index, batch.found);
                visit.merged(index, batch.merged);
                visit.rejected(index, batch.rejected);
                batch.rejects.into_iter().for_each(|reason| visit.show_reject(reason));
                dates.extend(batch.dates);
                visit.store(index, &batch.writes).await?;
            }
            Some(Part::End(end)) => break end,
            None => {
                return Err(Error::format("parse the feed: the parser panicked")
                    .hint("this is a bug: please report it with the feed")
                    .into());
            }
        }
    };
    end.map_err(|error| unreadable(source, &error))?;
    visit.learn_habit(dates);
    let counts = visit.counts(index);
    if counts.found == before.found {
        visit.note("the feed has no items");
    }
    if !was_first
        && counts.new >= GAP_ITEMS
        && counts.new + counts.merged + counts.rejected == counts.found
    {
        visit.note("no item was known from the last visit: some in between were probably missed");
    }
    if counts.rejected * 2 > counts.found {
        let error = Error::format(format!(
            "read `{}`: {} of {} items are malformed",
            masked(&source.url),
            counts.rejected,
            counts.found
        ))
        .hint("the feed may have changed its shape; the readable items are stored");
        return Err(Stop::new(Outcome::Unreadable, error));
    }
    Ok(())
}

/// Reads a feed part by part and hands each on; ends early when nobody takes them any more.
fn parse(
    source: &Source,
    answer: &Answer,
    now: Timestamp,
    parts: &mpsc::Sender<Part>,
    cutoff: &Cutoff,
) -> Result<(), FeedError> {
    let mut reader = feed::open(
        answer.body(),
        &Hints { content_type: answer.content_type(), url: answer.url() },
    )?;
    let mut seen = HashSet::new();
    let mut batch = Batch::default();
    while let Some(chunk) = reader.next_chunk()? {
        batch.add(source, reader.head(), chunk, now, &mut seen);
        if cutoff.is_over() {
            return Ok(());
        }
        if (batch.writes.len() >= BATCH || batch.bytes >= BATCH_BYTES)
            && parts.blocking_send(Part::Batch(std::mem::take(&mut batch))).is_err()
        {
            return Ok(());
        }
    }
    let notes = repaired(reader.head());
    let _ = parts
        .blocking_send(Part::Batch(batch))
        .and_then(|()| parts.blocking_send(Part::Notes(notes)));
    Ok(())
}

/// What had to be repaired, for the report.
fn repaired(head: &Head) -> Vec<String> {
    head.repairs.iter().map(|repair| format!("repaired: {}", repair.name())).collect()
}

/// A body that is no feed, under the name that reports show.
fn unreadable(source: &Source, error: &FeedError) -> Stop {
    let (outcome, hint) = match error {
        FeedError::Empty => (Outcome::Empty, "the source sends nothing: look at it in a browser"),
        FeedError::Html { .. } => (
            Outcome::WebPage,
            "the feed may have moved, or the source asks for a login or a challenge",
        ),
        FeedError::NotAFeed { .. } => (Outcome::NotAFeed, "look at the address in a browser"),
        FeedError::TooDeep { .. } => (
            Outcome::TooDeep,
            "no valid feed is nested this deeply; disable the source if it stays so",
        ),
    };
    Stop::new(outcome, Error::format(format!("read `{}`: {error}", masked(&source.url))).hint(hint))
}

impl Batch {
    fn add(
        &mut self,
        source: &Source,
        head: &Head,
        chunk: feed::Chunk,
        now: Timestamp,
        seen: &mut HashSet<String>,
    ) {
        self.found += (chunk.entries.len() + chunk.rejects.len()) as u64;
        self.rejected += chunk.rejects.len() as u64;
        for reject in chunk.rejects.into_iter().take(Report::REJECTS_SHOWN) {
            let reason = format!("item {}: {}: `{}`", reject.index + 1, reject.reason, reject.head);
            self.rejects.push(reason);
        }
        for entry in &chunk.entries {
            let write = article::write(source, head, entry, now);
            self.dates.extend(entry.published.or(entry.updated));
            // Feeds put the newest first, so of two items with one id the first is the later one.
            if seen.insert(write.id.clone()) {
                self.bytes += write.weight();
                self.writes.push(write);
            } else {
                self.merged += 1;
            }
        }
    }
}

/// The feeds that a page links to, for whoever gave the page's address.
fn offer(first: &LinkedFeed, feeds: &[LinkedFeed]) -> String {
    let mut offer = format!("the page links to a feed: `local-runner sources add '{}'`", first.url);
    for (place, feed) in feeds.iter().enumerate() {
        let title = if feed.title.is_empty() { "no title" } else { &feed.title };
        let and = if place == 0 { "it is" } else { "another is" };
        let _ = write!(offer, "\n  {and} {} ({title})", feed.url);
    }
    offer
}

/// Fetches a source once, without condition, and shows what would be stored.
pub(crate) fn preview(home: &Home, definition: serde_json::Value) -> Pending<'_, Preview> {
    Box::pin(async move {
        let source: Source = serde_json::from_value(definition)
            .map_err(|cause| Error::config("read the definition of a source").because(cause))?;
        let Fetched::Body(response) = home.http.send(request(&source)).await? else {
            return Err(Error::upstream(format!(
                "read `{}`: it answered that nothing changed, unasked",
                masked(&source.url)
            )));
        };
        let url = without_secrets(&response.final_url);
        let hints = Hints { content_type: response.content_type.as_deref(), url: url.as_str() };
        let unreadable = |error: FeedError| {
            let stopped = unreadable(&source, &error).error;
            match (error, feed::linked_feeds(&response.body, &hints).as_slice()) {
                (FeedError::Html { .. }, feeds @ [first, ..]) => stopped.hint(offer(first, feeds)),
                _ => stopped,
            }
        };
        let mut reader = feed::open(&response.body, &hints).map_err(unreadable)?;
        let (mut seen, mut batch) = (HashSet::new(), Batch::default());
        while let Some(chunk) = reader.next_chunk().map_err(unreadable)? {
            batch.add(&source, reader.head(), chunk, now(&home.config), &mut seen);
        }
        let head = reader.head();
        let documents = batch.writes.into_iter().flat_map(|write| write.parts);
        Ok(Preview {
            title: head.title.clone(),
            form: format!("{:?} {}", head.kind, head.version).trim().to_owned(),
            found: batch.found,
            notes: repaired(head),
            rejects: batch.rejects,
            documents: documents.map(|part| serde_json::Value::Object(part.fields)).collect(),
        })
    })
}
