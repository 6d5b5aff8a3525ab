//! The engine of the three RSS tasks: one feed on its way from its source to the store.

use std::collections::HashSet;
use std::fmt::Write as _;

use base::address::{masked, without_secrets};
use base::report::{Outcome, Report};
use base::{Error, Result};
use feed::{FeedError, Head, Hints, LinkedFeed};
use fetch::{Fetched, Limits, Request};
use jiff::Timestamp;
use serde_json::{Value, json};
use stores::documents::{Index, Part, Write};
use task::catalog::{Pending, Preview};
use task::function::{Home, now};
use task::{Answer, Chosen, Ctx, Stop, Visit};
use tokio::sync::mpsc;

use crate::article::{self, Cuts};
use crate::identity::{Identities, Identity, SharedIds};
use crate::known::KnownArticles;
use crate::sources::{INDEX, Source, Sources};

/// Sources in progress at once. The pace at one host is the HTTP client's matter.
const SOURCES_AT_ONCE: usize = 16;

/// Articles that are written together: few enough to bound memory, enough to spare commits.
const BATCH: usize = 256;

/// Parts of a batch, in bytes with what they cost in memory: few enough to bound it with 16 sources in progress.
const BATCH_BYTES: usize = 512 << 10;

/// What one value of a document costs beside its text.
const VALUE_BYTES: usize = 16;

/// Items of one visit at most; the rest is counted and told.
const ITEMS_MAX: u64 = 10_000;

/// What the articles of one visit hold at most, in bytes for each byte of its body, and beside that.
const BYTES_PER_BYTE: usize = 4;
const BYTES_MAX: usize = 4 << 20;

/// A body up to this size is parsed once and its entries held; a larger one is parsed twice.
const HELD_BYTES: usize = 512 << 10;

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
enum Parsed {
    Batch(Batch),
    End(Result<Done, FeedError>),
}

/// What is known of a feed that was read to its end.
pub struct Done {
    pub head: Head,
    pub notes: Vec<String>,
    pub remembers: Option<SharedIds>,
    /// Items beyond the limits of a visit.
    pub left_out: u64,
}

/// What making articles of a feed's entries needs, and what it leaves to be told.
struct Visited<'a> {
    source: &'a Source,
    head: &'a Head,
    now: Timestamp,
    identities: Identities,
    /// Ids that an article has already.
    seen: HashSet<String>,
    cuts: Cuts,
}

/// Articles that are stored together, and what was counted on the way to them.
#[derive(Default)]
pub struct Batch {
    pub found: u64,
    merged: u64,
    rejected: u64,
    rejects: Vec<String>,
    dates: Vec<Timestamp>,
    pub writes: Vec<Write>,
    bytes: usize,
    /// Those of `writes`, in order.
    identities: Vec<Identity>,
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
    let (now, mut known) = (ctx.now(), KnownArticles::of(index));
    let remembered = visit.cursor::<SharedIds>().unwrap_or_default();
    let (parsed_source, cutoff) = (source.clone(), visit.cutoff());
    tokio::task::spawn_blocking(move || {
        let hints = Hints { content_type: answer.content_type(), url: answer.url() };
        // Nobody listens any more when the run has ended.
        let take = |batch| {
            let is_taken = match batch {
                Some(batch) => sender.blocking_send(Parsed::Batch(batch)).is_ok(),
                None => !sender.is_closed(),
            };
            is_taken && !cutoff.is_over()
        };
        let end = parse(&parsed_source, answer.body(), &hints, now, remembered, take);
        let _ = sender.blocking_send(Parsed::End(end));
    });
    let was_first = visit.is_first();
    let mut dates = Vec::new();
    let before = visit.counts(index);
    let end = loop {
        match parts.recv().await {
            Some(Parsed::Batch(mut batch)) => {
                let documents = ctx.documents.as_ref();
                known.meet(documents, &mut batch.writes, &batch.identities).await?;
                visit.found(index, batch.found);
                visit.merged(index, batch.merged);
                visit.rejected(index, batch.rejected);
                batch.rejects.into_iter().for_each(|reason| visit.show_reject(reason));
                dates.extend(batch.dates);
                visit.store(index, &batch.writes).await?;
            }
            Some(Parsed::End(end)) => break end,
            None => {
                return Err(Error::format("parse the feed: the parser panicked")
                    .hint("this is a bug: please report it with the feed")
                    .into());
            }
        }
    };
    let done = end.map_err(|error| unreadable(source, &error))?;
    done.notes.into_iter().for_each(|note| visit.note(note));
    visit.found(index, done.left_out);
    visit.rejected(index, done.left_out);
    if let Some(remembers) = done.remembers {
        visit.reach(json!(remembers));
    }
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
    let (rejected, found) = (counts.rejected - done.left_out, counts.found - done.left_out);
    if rejected * 2 > found {
        let error = Error::format(format!(
            "read `{}`: {rejected} of {found} items are malformed",
            masked(&source.url)
        ))
        .hint("the feed may have changed its shape; the readable items are stored");
        return Err(Stop::new(Outcome::Unreadable, error));
    }
    Ok(())
}

/// Reads a feed part by part and hands each on; ends early when `take` wants no more, which is also asked without a part.
///
/// Every entry is seen before the first one is handed on: only then is it known whose ids are shared.
pub fn parse(
    source: &Source,
    body: &[u8],
    hints: &Hints<'_>,
    now: Timestamp,
    remembered: SharedIds,
    mut take: impl FnMut(Option<Batch>) -> bool,
) -> Result<Done, FeedError> {
    let mut identities = Identities::new(remembered);
    let mut reader = feed::open(body, hints)?;
    let (mut held, is_held) = (Vec::new(), body.len() <= HELD_BYTES);
    let (mut found, mut is_wanted) = (0, true);
    while let Some(chunk) = reader.next_chunk()? {
        let is_taken = found < ITEMS_MAX;
        found += chunk.items();
        if is_taken {
            chunk.entries.iter().for_each(|entry| identities.meet(entry));
            if is_held {
                held.push(chunk);
            }
        }
        is_wanted = take(None);
        if !is_wanted {
            break;
        }
    }
    let head = reader.head().clone();
    drop(reader);
    let (mut held, mut again) = (held.into_iter(), None);
    if !is_held {
        again = Some(feed::open(body, hints)?);
    }
    let mut batch = Batch::default();
    let (seen, cuts) = (HashSet::new(), Cuts::default());
    let mut visited = Visited { source, head: &head, now, identities, seen, cuts };
    let mut bytes_left = BYTES_MAX + body.len().saturating_mul(BYTES_PER_BYTE);
    let mut read = 0;
    while is_wanted {
        let chunk = match &mut again {
            Some(reader) => reader.next_chunk()?,
            None => held.next(),
        };
        let Some(chunk) = chunk else { break };
        if read >= ITEMS_MAX || bytes_left == 0 {
            break;
        }
        read += chunk.items();
        let bytes = batch.bytes;
        batch.add(chunk, &mut visited);
        bytes_left = bytes_left.saturating_sub(batch.bytes - bytes);
        let is_full = batch.writes.len() >= BATCH || batch.bytes >= BATCH_BYTES;
        is_wanted = match is_full {
            true => take(Some(std::mem::take(&mut batch))),
            false => take(None),
        };
    }
    take(Some(batch));
    let Visited { identities, cuts, .. } = visited;
    let left_out = if is_wanted { found - read } else { 0 };
    let mut notes = repaired(&head);
    notes.extend(identities.note());
    notes.extend(cuts.note());
    if left_out > 0 {
        notes.push(format!(
            "the feed has more than one visit takes: {read} of {found} items were read, {left_out} left out"
        ));
    }
    Ok(Done { head, notes, remembers: identities.to_remember(), left_out })
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
    let error = Error::format(format!("read `{}`: {error}", masked(&source.url))).hint(hint);
    Stop::new(outcome, error)
}

impl Batch {
    fn add(&mut self, chunk: feed::Chunk, visited: &mut Visited<'_>) {
        let Visited { source, head, now, identities, seen, cuts } = visited;
        self.found += chunk.items();
        self.rejected += chunk.rejects.len() as u64;
        for reject in chunk.rejects.into_iter().take(Report::REJECTS_SHOWN) {
            let reason = format!("item {}: {}: `{}`", reject.index + 1, reject.reason, reject.head);
            self.rejects.push(reason);
        }
        for entry in &chunk.entries {
            let identity = identities.of(source, entry);
            self.dates.extend(entry.published.or(entry.updated));
            // Feeds put the newest first, so of two items with one id the first is the later one.
            if seen.insert(identity.id.clone()) {
                let id = identity.id.clone();
                let write = article::write_as(id, source, head, entry, *now, cuts);
                self.bytes += write.parts.iter().map(size_of_part).sum::<usize>();
                self.writes.push(write);
                self.identities.push(identity);
            } else {
                self.merged += 1;
            }
        }
    }
}

/// What a document takes: its text, and for each value what it costs beside it.
fn size_of_part(part: &Part) -> usize {
    fn size(value: &Value) -> usize {
        VALUE_BYTES
            + match value {
                Value::String(text) => text.len(),
                Value::Array(list) => list.iter().map(size).sum(),
                Value::Object(fields) => fields.values().map(size).sum(),
                Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            }
    }
    part.fields.values().map(size).sum()
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
pub(crate) fn preview(home: &Home, definition: Value) -> Pending<'_, Preview> {
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
        let mut batches: Vec<Batch> = Vec::new();
        let take = |batch| {
            batches.extend(batch);
            true
        };
        let body = &response.body;
        let done = parse(&source, body, &hints, now(&home.config), SharedIds::default(), take)
            .map_err(unreadable)?;
        let head = done.head;
        let found: u64 = batches.iter().map(|batch| batch.found).sum();
        let rejects = batches.iter_mut().flat_map(|batch| std::mem::take(&mut batch.rejects));
        let rejects = rejects.collect();
        let writes = batches.into_iter().flat_map(|batch| batch.writes);
        let documents = writes.flat_map(|write| write.parts);
        Ok(Preview {
            title: head.title.clone(),
            form: format!("{:?} {}", head.kind, head.version).trim().to_owned(),
            found: found + done.left_out,
            notes: done.notes,
            rejects,
            documents: documents.map(|part| Value::Object(part.fields)).collect(),
        })
    })
}
