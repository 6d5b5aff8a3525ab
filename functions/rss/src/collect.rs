//! The engine of the three RSS tasks: many sources at once, each held, read and stored by itself.

use std::collections::HashSet;

use base::report::{Reject, Report, SourceReport};
use base::{Error, Result};
use feed::{FeedError, Head, Hints};
use fetch::{Fetched, Get, Http, Limits};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stores::documents::{Index, Write};
use stores::state::Health;
use task::Ctx;
use task::source::{Answer, Begun, Stop, Visit};
use tokio::sync::mpsc;

use crate::FAMILY;
use crate::adopt::Meeting;
use crate::article::{self, INDEX, OWNER};
use crate::sources::{Source, Sources};

/// Sources in progress at once. The pace at one host is the HTTP client's matter.
const SOURCES_AT_ONCE: usize = 16;

/// Articles that are written together: few enough to bound memory, enough to spare commits.
const BATCH: usize = 256;

/// A note is made when a visit finds nothing it knew among this many items or more.
const GAP_ITEMS: u64 = 3;

const ACCEPT: &str = "application/rss+xml, application/atom+xml, application/feed+json, application/rdf+xml, application/xml;q=0.9, text/xml;q=0.9, */*;q=0.5";

/// What a run leaves to its continuation.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    remaining: Vec<String>,
}

/// What came of one source.
enum Done {
    Visited(SourceReport, Vec<Reject>),
    /// Time ran out before or while it was read; nothing is lost, as its cursor did not move.
    Left(Source),
}

/// Collects the sources that `choose` picks from the list; a continuation collects what its run left.
pub async fn collect(
    ctx: &Ctx,
    choose: impl FnOnce(&Sources) -> Result<Vec<Source>>,
) -> Result<Report> {
    let sources = Sources::load(&ctx.config, ctx.state.as_ref()).await?;
    let chosen = order(ctx, &sources, choose)?;
    let index = Index::named(INDEX)?;
    // Before anything is fetched: a store that cannot be written is a matter of the run, not of sixty sources.
    ctx.documents.ensure(index).await?;

    let mut done = stream::iter(chosen)
        .map(|source| collect_or_leave(ctx, source, index))
        .buffer_unordered(SOURCES_AT_ONCE);
    let (mut reports, mut rejects, mut left) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(one) = done.next().await {
        match one? {
            Done::Visited(report, rejected) => {
                reports.push(report);
                rejects.extend(rejected);
            }
            Done::Left(source) => left.push(source),
        }
    }
    drop(done);
    if !left.is_empty() {
        let remaining = left.iter().map(|source| source.id.clone()).collect();
        ctx.leave(json!(Checkpoint { remaining })).await;
        reports.extend(left.into_iter().map(|source| SourceReport {
            outcome: "deferred".to_owned(),
            ..SourceReport::new(source.id, INDEX)
        }));
    }
    reports.sort_by(|one, other| one.source.cmp(&other.source));
    Ok(Report::of_sources(reports, rejects)?
        .with_detail(json!({ "quiet": quiet(ctx, &sources).await? })))
}

/// The sources of this step: all that were chosen, an orphan's first; in a continuation only what was left.
fn order(
    ctx: &Ctx,
    sources: &Sources,
    choose: impl FnOnce(&Sources) -> Result<Vec<Source>>,
) -> Result<Vec<Source>> {
    let checkpoint =
        ctx.run.checkpoint.clone().map(serde_json::from_value::<Checkpoint>).transpose();
    let remaining =
        checkpoint.map_err(|cause| Error::format("read the checkpoint of a run").because(cause))?;
    let remaining = remaining.map(|checkpoint| checkpoint.remaining).unwrap_or_default();
    if ctx.run.step > 0 {
        return Ok(sources
            .all()
            .iter()
            .filter(|source| remaining.contains(&source.id))
            .cloned()
            .collect());
    }
    let mut chosen = choose(sources)?;
    // Whoever adopts a checkpoint has its rest on its hands: nobody else will come for it.
    let adopted = sources.enabled().filter(|source| remaining.contains(&source.id));
    let adopted: Vec<Source> =
        adopted.filter(|source| chosen.iter().all(|known| known.id != source.id)).collect();
    chosen.extend(adopted);
    chosen.sort_by_key(|source| !remaining.contains(&source.id));
    Ok(chosen)
}

/// Sources that answer but have had nothing new for much longer than is usual for them.
async fn quiet(ctx: &Ctx, sources: &Sources) -> Result<Vec<serde_json::Value>> {
    let now = ctx.now();
    let known = ctx.state.sources(FAMILY.name).await?;
    let enabled: HashSet<String> = sources.enabled().map(|source| source.id).collect();
    let quiet = known
        .into_iter()
        .filter(|(id, state)| enabled.contains(id) && state.health(now) == Health::Quiet);
    Ok(quiet.map(|(id, state)| json!({"source": id, "last_new": state.last_new, "usual_gap_s": state.usual_gap_s})).collect())
}

async fn collect_or_leave(ctx: &Ctx, source: Source, index: &'static Index) -> Result<Done> {
    if ctx.deadline.is_past() {
        return Ok(Done::Left(source));
    }
    match tokio::time::timeout_at(
        ctx.deadline.soft_end().into(),
        Box::pin(visit(ctx, &source, index)),
    )
    .await
    {
        Ok(result) => result,
        Err(_late) => Ok(Done::Left(source)),
    }
}

async fn visit(ctx: &Ctx, source: &Source, index: &'static Index) -> Result<Done> {
    let mut visit = match Visit::begin(ctx, FAMILY.name, &source.id, index).await? {
        Begun::Visit(visit) => visit,
        Begun::Not(report) => return Ok(Done::Visited(*report, Vec::new())),
    };
    let mut rejects = Vec::new();
    let work = read(ctx, &mut visit, source, &mut rejects).await;
    Ok(Done::Visited(visit.end(work).await?, rejects))
}

/// Asks the source and stores what it gave.
async fn read(
    ctx: &Ctx,
    visit: &mut Visit<'_>,
    source: &Source,
    rejects: &mut Vec<Reject>,
) -> Result<(), Stop> {
    while let Some(answer) =
        visit.next(Get::new(&source.url).accept(ACCEPT).limits(Limits::FEED)).await?
    {
        if answer.is_truncated() {
            visit.report().notes.push(
                "the connection ended early; what came is kept, and it is asked again".to_owned(),
            );
        }
        store(ctx, visit, source, answer, rejects).await?;
    }
    Ok(())
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
    rejects: Vec<Reject>,
    dates: Vec<Timestamp>,
    writes: Vec<Write>,
}

/// Parses on a thread of its own, so that a large feed holds up no other source, and stores part by part.
async fn store(
    ctx: &Ctx,
    visit: &mut Visit<'_>,
    source: &Source,
    answer: Answer,
    rejects: &mut Vec<Reject>,
) -> Result<(), Stop> {
    let (sender, mut parts) = mpsc::channel(1);
    let (now, mut meeting) = (ctx.now(), Meeting::new(source)?);
    let parsed_source = source.clone();
    tokio::task::spawn_blocking(move || {
        let end = parse(&parsed_source, &answer, now, &sender);
        // Nobody listens any more when the run has ended.
        let _ = sender.blocking_send(Part::End(end));
    });
    let was_first = visit.is_first();
    let mut dates = Vec::new();
    let before = visit.report().counts;
    let end = loop {
        match parts.recv().await {
            Some(Part::Notes(notes)) => visit.report().notes.extend(notes),
            Some(Part::Batch(mut batch)) => {
                meeting.meet(ctx.documents.as_ref(), &mut batch.writes).await?;
                let counts = &mut visit.report().counts;
                counts.found += batch.found;
                counts.merged += batch.merged;
                counts.rejected += batch.rejected;
                rejects.extend(batch.rejects);
                rejects.truncate(Report::REJECTS_SHOWN);
                dates.extend(batch.dates);
                visit.store(&OWNER, &batch.writes).await?;
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
    let report = visit.report();
    let counts = report.counts;
    if counts.found == before.found {
        report.notes.push("the feed has no items".to_owned());
    }
    if !was_first
        && counts.new >= GAP_ITEMS
        && counts.new + counts.merged + counts.rejected == counts.found
    {
        report.notes.push(
            "no item was known from the last visit: some in between were probably missed"
                .to_owned(),
        );
    }
    if counts.rejected * 2 > counts.found {
        let error = Error::format(format!(
            "read `{}`: {} of {} items make no sense",
            source.url, counts.rejected, counts.found
        ))
        .hint("the feed may have changed its shape; the readable items are stored");
        return Err(Stop::new("unreadable", error));
    }
    Ok(())
}

/// Reads a feed part by part and hands each on; ends early when nobody takes them any more.
fn parse(
    source: &Source,
    answer: &Answer,
    now: Timestamp,
    parts: &mpsc::Sender<Part>,
) -> Result<(), FeedError> {
    let mut reader = feed::open(
        answer.body(),
        &Hints { content_type: answer.content_type(), url: answer.url() },
    )?;
    let mut seen = HashSet::new();
    let mut batch = Batch::default();
    while let Some(chunk) = reader.next_chunk()? {
        batch.add(source, reader.head(), chunk, now, &mut seen);
        if batch.writes.len() >= BATCH
            && parts.blocking_send(Part::Batch(std::mem::take(&mut batch))).is_err()
        {
            return Ok(());
        }
    }
    let notes = mended(reader.head());
    let _ = parts
        .blocking_send(Part::Batch(batch))
        .and_then(|()| parts.blocking_send(Part::Notes(notes)));
    Ok(())
}

/// What had to be mended, for the report.
fn mended(head: &Head) -> Vec<String> {
    head.repairs.iter().map(|repair| format!("mended: {}", repair.name())).collect()
}

/// A body that is no feed, under the name that reports show.
fn unreadable(source: &Source, error: &FeedError) -> Stop {
    let (outcome, hint) = match error {
        FeedError::Empty => ("empty", "the source sends nothing: look at it in a browser"),
        FeedError::Html { .. } => {
            ("web_page", "the feed may have moved, or the source asks for a login or a challenge")
        }
        FeedError::NotAFeed { .. } => ("not_a_feed", "look at the address in a browser"),
        FeedError::TooDeep { .. } => {
            ("too_deep", "no honest feed is nested like this; disable the source if it stays so")
        }
    };
    Stop::new(outcome, Error::format(format!("read `{}`: {error}", source.url)).hint(hint))
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
            let reason = reason.replace('\0', "");
            self.rejects.push(Reject { source: source.id.clone(), reason });
        }
        for entry in &chunk.entries {
            let write = article::write(source, head, entry, now);
            self.dates.extend(entry.published.or(entry.updated));
            // Feeds put the newest first, so of two items with one id the first is the later one.
            if seen.insert(write.id.clone()) {
                self.writes.push(write);
            } else {
                self.merged += 1;
            }
        }
    }
}

/// What a trial of a source shows.
#[derive(Debug)]
pub struct Preview {
    /// What the feed calls itself.
    pub title: Option<String>,
    /// Its form, as `Rss 2.0`.
    pub feed: String,
    /// Items that were found, readable or not.
    pub found: u64,
    /// Repairs and the like.
    pub notes: Vec<String>,
    /// Items that make no sense.
    pub rejects: Vec<String>,
    /// What would be stored.
    pub documents: Vec<serde_json::Value>,
}

/// Fetches a source once, without condition, and shows what would be stored.
///
/// # Errors
/// Why there is nothing to show.
pub async fn preview(http: &Http, source: &Source, now: Timestamp) -> Result<Preview, Stop> {
    let fetched = http
        .get(Get::new(&source.url).accept(ACCEPT).limits(Limits::FEED))
        .await
        .map_err(Error::from)?;
    let Fetched::Body(response) = fetched else {
        return Err(Error::upstream(format!(
            "read `{}`: it answered that nothing changed, unasked",
            source.url
        ))
        .into());
    };
    let hints =
        Hints { content_type: response.content_type.as_deref(), url: response.final_url.as_str() };
    let mut reader =
        feed::open(&response.body, &hints).map_err(|error| unreadable(source, &error))?;
    let (mut seen, mut batch) = (HashSet::new(), Batch::default());
    while let Some(chunk) = reader.next_chunk().map_err(|error| unreadable(source, &error))? {
        batch.add(source, reader.head(), chunk, now, &mut seen);
    }
    let head = reader.head();
    Ok(Preview {
        title: head.title.clone(),
        feed: format!("{:?} {}", head.kind, head.version).trim().to_owned(),
        found: batch.found,
        notes: mended(head),
        rejects: batch.rejects.into_iter().map(|reject| reject.reason).collect(),
        documents: batch
            .writes
            .into_iter()
            .map(|write| serde_json::Value::Object(write.fields))
            .collect(),
    })
}
