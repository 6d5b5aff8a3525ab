//! A feed in MISP's own format on its way to the store: its manifest beside the marks of what is stored, and the files of the
//! events that are new or changed, those that were changed longest ago first.
//!
//! A mark moves when its event is stored, so a killed run goes on behind it. An event whose file is missing is asked for again by
//! every later run and holds up no other. What a changed event no longer gives, and what was given by events that are gone, is
//! found by one look at the store for all of them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use base::address::masked;
use base::report::Outcome;
use base::{Error, Result};
use fetch::{Limits, Request, Response, retry_after};
use ioc::{Lists, Renewed, Tagged};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stores::documents::{Filter, Index, Pages, Scan, Write};
use task::{Answer, Stop, Visit};
use tokio::sync::mpsc;
use url::Url;
use uuid::Uuid;

use crate::event::{Event, NoEvent};
use crate::feeds::{Feed, INDEX};
use crate::flat::is_web_page;
use crate::indicators::{Batch, EventDone, OWNER, contributor, key, of_event};
use crate::lists::{Ahead, SHRUNK_FOR, has_shrunk, shrunk, unreadable, web_page, with_headers};
use crate::manifest::{Entry, Manifest, Marks, NoManifest};
use crate::sync::How;
use crate::unzip::{MAGIC, unzip};

const ACCEPT: &str = "application/json, text/plain, text/*, application/zip;q=0.5";

/// What a manifest or an event may take; the largest public event has some 25 MB.
const LIMITS: Limits = Limits {
    max_body: 64 << 20,
    total_timeout: std::time::Duration::from_secs(180),
    ..Limits::FEED
};

/// Events in a row that fail for the server's sake, after which it is left alone.
const FAILURES_MAX: u32 = 3;

/// For how long a server is left alone that says it is asked too often, and not for how long.
const RATE_LIMITED_FOR: SignedDuration = SignedDuration::from_mins(15);

/// Events that are missing and named in the cursor; a manifest that changes names the others again.
const MISSING_MAX: usize = 1_000;

/// Bytes of a cursor up to which it is kept after every event; a larger one as often as that many bytes come together.
const CURSOR_BYTES: usize = 64 << 10;

/// Documents of changed events that are held until a look at the store.
const PRESENT_MAX: usize = 200_000;

/// Events that the store is asked for together.
const EVENTS_AT_ONCE: usize = 500;

/// Stored documents that are looked at together.
const PAGE: u32 = 1_000;

/// How far a feed is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Cursor {
    marks: Marks,
    /// Events that the manifest names and whose files were not there, with their timestamps there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    missing: BTreeMap<String, u32>,
    /// Whether events of the manifest that was read last are left to read.
    is_behind: bool,
    /// Since when it names much less than it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    shrunk_since: Option<Timestamp>,
    tagged: Tagged,
}

/// Events that were stored before, and what they hold now, until the store was looked at for what they no longer hold.
#[derive(Default)]
struct Changed {
    events: Vec<(Uuid, u32)>,
    present: HashSet<(Uuid, u128)>,
}

/// Reads a feed and stores what is new and changed.
pub(crate) async fn read(visit: &mut Visit<'_>, feed: &Feed, how: &How) -> Result<(), Stop> {
    let index = Index::named(INDEX)?;
    let feed = Arc::new(feed.clone());
    let headers = feed.headers(&how.keys).await?;
    let folder = folder(&feed.url);
    // A replay of the archive reads again what is stored.
    let is_replay = visit.ctx().config.behaviour.reparse.is_some();
    let mut cursor: Cursor =
        if is_replay { Cursor::default() } else { visit.cursor().unwrap_or_default() };
    let is_begun = !cursor.marks.is_empty();
    let of_feed = vec![feed.documents()];
    let renewed = cursor.tagged.renew(visit, &OWNER, index, of_feed, is_begun).await?;
    if renewed != Renewed::Nothing {
        visit.save(json!(cursor)).await?;
    }
    if renewed == Renewed::Cut {
        return Ok(());
    }
    let place = address(&feed, &folder, "manifest.json")?;
    let request = with_headers(Request::get(&place).accept(ACCEPT).limits(LIMITS), &headers);
    // Where events are left to read, its validators may be those of before.
    let answer = newest(visit, request, !cursor.is_behind, is_replay).await?;
    let (mut todo, mut gone, mut alarm) = (Vec::new(), Vec::new(), None);
    match answer {
        Some(answer) => {
            let manifest = manifest(visit, &feed, &answer)?;
            let (before, named) = (cursor.marks.len() as u64, manifest.entries.len() as u64);
            todo = cursor.marks.new_in(&manifest, visit.ctx().now());
            gone = cursor.marks.gone_from(&manifest);
            let named_now: HashSet<&str> = todo.iter().map(|entry| entry.name.as_str()).collect();
            cursor.missing.retain(|name, _| named_now.contains(name.as_str()));
            let dates = manifest.entries.iter();
            let dates =
                dates.filter_map(|entry| Timestamp::from_second(entry.timestamp.into()).ok());
            visit.learn_habit(dates.collect());
            if has_shrunk(before, named) {
                let now = visit.ctx().now();
                let since = *cursor.shrunk_since.get_or_insert(now);
                if now.duration_since(since) < SHRUNK_FOR {
                    alarm = Some(shrunk(&feed, "events", before, named));
                    gone.clear();
                }
            } else {
                cursor.shrunk_since = None;
            }
            if named == 0 && before == 0 {
                visit.note("its manifest names no event");
            }
        }
        None if how.is_quick => {}
        None => {
            let again = cursor.missing.iter().filter_map(|(name, timestamp)| {
                let uuid = Uuid::try_parse(name).ok()?;
                Some(Entry { uuid, name: name.clone(), timestamp: *timestamp, sha256: None })
            });
            todo.extend(again);
        }
    }
    let limit = usize::try_from(how.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    cursor.is_behind = todo.len() > limit;
    if cursor.is_behind {
        visit.note(format!("{} of {} events are read, as `limit` says", limit, todo.len()));
        todo.truncate(limit);
    }
    let (mut changed, mut failures, mut unsaved) = (Changed::default(), 0, 0_usize);
    let mut read = [0_u64; 3];
    let many = todo.len();
    let was_behind = cursor.is_behind;
    for (place, entry) in todo.into_iter().enumerate() {
        if visit.is_late() {
            cursor.is_behind = true;
            break;
        }
        let is_known = is_replay || cursor.marks.of(&entry.uuid).is_some();
        match one(visit, &feed, &folder, &headers, &entry, is_known, index).await? {
            One::Done(done) => {
                failures = 0;
                if done.differs {
                    let name = &entry.name;
                    visit.note(format!(
                        "event `{name}` is not the one whose digest the manifest has"
                    ));
                }
                cursor.missing.remove(&entry.name);
                read = [read[0] + 1, read[1] + done.attributes, read[2] + done.parts];
                if is_known {
                    let keys = done.keys.into_iter().map(|key| (entry.uuid, key));
                    changed.present.extend(keys);
                    changed.events.push((entry.uuid, entry.timestamp));
                } else {
                    cursor.marks.set(entry.uuid, entry.timestamp);
                }
            }
            One::Late => {
                cursor.is_behind = true;
                break;
            }
            One::Missed(missed) => {
                let name = &entry.name;
                visit.note(format!(
                    "event `{name}` is missing, and asked for again: {}",
                    missed.why
                ));
                if cursor.missing.len() < MISSING_MAX {
                    cursor.missing.insert(entry.name, entry.timestamp);
                }
                failures = if missed.is_servers { failures + 1 } else { 0 };
                let is_too_much =
                    |stop: &Stop| failures >= FAILURES_MAX || stop.outcome == Outcome::RateLimited;
                if let Some(stop) = missed.stop.filter(|stop| is_too_much(stop)) {
                    cursor.is_behind |= place + 1 < many;
                    settle(visit, &feed, index, &mut cursor, &mut changed, &[]).await?;
                    visit.save(json!(cursor)).await?;
                    return Err(*stop);
                }
            }
        }
        if changed.present.len() >= PRESENT_MAX {
            settle(visit, &feed, index, &mut cursor, &mut changed, &[]).await?;
        }
        unsaved += CURSOR_BYTES;
        if place + 1 < many && unsaved >= cursor.marks.len() * 27 {
            unsaved = 0;
            let so_far = Cursor { is_behind: true, ..cursor.clone() };
            visit.save(json!(so_far)).await?;
        }
    }
    let [events, attributes, parts] = read;
    if events > 0 {
        let composite = if parts == 0 { String::new() } else { format!(", {parts} composite") };
        visit.note(format!("events read: {events}; attributes: {attributes}{composite}"));
    }
    let is_cut = cursor.is_behind && !was_behind;
    settle(visit, &feed, index, &mut cursor, &mut changed, if is_cut { &[] } else { &gone })
        .await?;
    if is_cut {
        return visit.save(json!(cursor)).await;
    }
    if let Some(alarm) = alarm {
        visit.save(json!(cursor)).await?;
        return Err(alarm);
    }
    visit.reach(json!(cursor));
    Ok(())
}

/// The answer of an address; of those that an archive has, the last.
async fn newest(
    visit: &mut Visit<'_>,
    request: Request<'_>,
    is_conditional: bool,
    is_replay: bool,
) -> Result<Option<Answer>, Stop> {
    let mut newest = None;
    loop {
        let answer = match is_conditional {
            true => visit.get(request.clone()).await?,
            false => visit.get_anyway(request.clone()).await?,
        };
        match answer {
            Some(answer) if is_replay => newest = Some(answer),
            Some(answer) => return Ok(Some(answer)),
            None => return Ok(newest),
        }
    }
}

/// The folder of a feed: its address with a slash at its end, without the name of its manifest.
fn folder(url: &Url) -> Url {
    let mut folder = url.clone();
    let path = url.path();
    let path = path.strip_suffix("manifest.json").unwrap_or(path);
    folder.set_path(&format!("{}/", path.trim_end_matches('/')));
    folder
}

/// The address of a file of a feed; what asks for more, as a key, stays behind it.
fn address(feed: &Feed, folder: &Url, name: &str) -> Result<Url> {
    let mut address = folder.join(name).map_err(|cause| {
        Error::config(format!("build the address of `{name}` of the feed `{}`", feed.id))
            .because(cause)
    })?;
    address.set_query(folder.query());
    Ok(address)
}

/// The body of an answer, unpacked where it is an archive.
fn body(answer: &Answer) -> Result<std::borrow::Cow<'_, [u8]>, String> {
    let body = answer.body();
    if !body.starts_with(&MAGIC) {
        return Ok(body.into());
    }
    let max = usize::try_from(LIMITS.max_body).unwrap_or(usize::MAX);
    Ok(unzip(body, max)?.into())
}

fn manifest(visit: &mut Visit<'_>, feed: &Feed, answer: &Answer) -> Result<Manifest, Stop> {
    let place = answer.url().to_owned();
    let told =
        |outcome, what: &str| Stop::new(outcome, Error::format(format!("read `{place}`: {what}")));
    if answer.is_truncated() {
        return Err(told(Outcome::Truncated, "the connection ended early"));
    }
    let body = body(answer).map_err(|why| told(Outcome::Unreadable, &why))?;
    let manifest = Manifest::read(&body, &feed.rules).map_err(|why| match why {
        NoManifest::Other if body.trim_ascii().is_empty() => told(Outcome::Empty, "it is empty"),
        NoManifest::Other if is_web_page(&body) => web_page(feed),
        NoManifest::Other => told(Outcome::NotAFeed, "it is no manifest of events"),
        NoManifest::Broken(at) => {
            told(Outcome::Unreadable, &format!("the manifest is malformed at byte {at}"))
        }
    })?;
    let Manifest { entries, unwanted, rejects, left_out } = &manifest;
    if entries.is_empty() && *unwanted == 0 && !rejects.is_empty() {
        return Err(told(Outcome::NotAFeed, &format!("it names no event: {}", rejects[0])));
    }
    rejects.iter().for_each(|reason| visit.note(reason.as_str()));
    if *unwanted > 0 {
        visit.note(format!("{unwanted} events are left out by the feed's rules"));
    }
    if *left_out > 0 {
        visit.note(format!("{left_out} events beyond the limit of a feed are left out"));
    }
    Ok(manifest)
}

/// Why an event could not be read.
struct Missed {
    why: String,
    /// Whether it is the server that fails, and not this event.
    is_servers: bool,
    /// What ends the visit if it goes on like this.
    stop: Option<Box<Stop>>,
}

impl Missed {
    fn event(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_servers: false, stop: None }
    }
}

/// What came of an event.
enum One {
    /// All of it is stored.
    Done(EventDone),
    /// Time ran out, or a limit was reached, before all of it was stored.
    Late,
    Missed(Missed),
}

/// A part of an event on its way to the store.
enum Parsed {
    Batch(Batch),
    End(Box<Result<EventDone, Missed>>),
}

/// Reads and stores an event.
async fn one(
    visit: &mut Visit<'_>,
    feed: &Arc<Feed>,
    folder: &Url,
    headers: &[(String, String)],
    entry: &Entry,
    is_known: bool,
    index: &'static Index,
) -> Result<One, Stop> {
    let missed = |why: &str| Ok(One::Missed(Missed::event(why)));
    let place = address(feed, folder, &format!("{}.json", entry.name))?;
    let request = with_headers(Request::get(&place).accept(ACCEPT).limits(LIMITS), headers);
    let is_replay = visit.ctx().config.behaviour.reparse.is_some();
    let answer = match newest(visit, request.refusals(), false, is_replay).await {
        Ok(Some(answer)) => answer,
        // Asked for already in this visit, or not in the archive that is replayed.
        Ok(None) => return missed("there is no answer"),
        Err(stop) => {
            let why = stop.error.to_string();
            return Ok(One::Missed(Missed { why, is_servers: true, stop: Some(Box::new(stop)) }));
        }
    };
    if let Answer::Fetched(response, _) = &answer
        && !(200..300).contains(&response.status)
    {
        return Ok(One::Missed(refused(&place, response, visit.ctx().now())));
    }
    if answer.is_truncated() {
        return missed("the connection ended early");
    }
    let (sender, mut parts) = mpsc::channel(1);
    let (feed, entry, lists) = (Arc::clone(feed), entry.clone(), Lists::of_visit(visit).await?);
    let (now, cutoff) = (visit.ctx().now(), visit.cutoff());
    // On a thread of its own, so that a large event holds up no other feed.
    tokio::task::spawn_blocking(move || {
        let take = |batch| sender.blocking_send(Parsed::Batch(batch)).is_ok();
        let parsed = parse(&feed, &entry, is_known, &answer, &lists, now, &cutoff, take);
        // Nobody listens any more when the run has ended.
        let _ = sender.blocking_send(Parsed::End(Box::new(parsed)));
    });
    let mut ahead = Ahead::default();
    loop {
        match ahead.meanwhile(visit, parts.recv()).await? {
            Some(Parsed::Batch(batch)) => {
                if !ahead.store(visit, index, batch, None).await? {
                    ahead.finish(visit).await?;
                    return Ok(One::Late);
                }
            }
            Some(Parsed::End(done)) => {
                ahead.finish(visit).await?;
                return Ok(match *done {
                    Ok(_) if visit.ctx().deadline.is_past() => One::Late,
                    Ok(done) => One::Done(done),
                    Err(missed) => One::Missed(missed),
                });
            }
            None => {
                return missed(
                    "its parser panicked: this is a bug, please report it with the event",
                );
            }
        }
    }
}

/// What a status says of an event, and of its server.
fn refused(place: &Url, response: &Response, now: Timestamp) -> Missed {
    let status = response.status;
    let error = Error::upstream(format!("read `{}`: status `{status}`", masked(place)));
    match status {
        429 | 503 => {
            let wait = response.headers.get("retry-after").and_then(|text| retry_after(text, now));
            let wait = wait.and_then(|wait| SignedDuration::try_from(wait).ok());
            let wait = wait.unwrap_or(RATE_LIMITED_FOR);
            let stop = Stop::new(Outcome::RateLimited, error).retry_after(wait);
            Missed { why: format!("status {status}"), is_servers: true, stop: Some(Box::new(stop)) }
        }
        401 | 403 => {
            let stop = Stop::new(Outcome::Unauthorized, error);
            Missed { why: format!("status {status}"), is_servers: true, stop: Some(Box::new(stop)) }
        }
        500.. => {
            let stop = Stop::new(Outcome::Status, error);
            Missed { why: format!("status {status}"), is_servers: true, stop: Some(Box::new(stop)) }
        }
        _ => Missed::event(format!("status {status}")),
    }
}

/// Makes documents of an event's body.
#[expect(clippy::too_many_arguments, reason = "all of it goes to another thread")]
fn parse(
    feed: &Feed,
    entry: &Entry,
    is_known: bool,
    answer: &Answer,
    lists: &Lists,
    now: Timestamp,
    cutoff: &task::Cutoff,
    take: impl FnMut(Batch) -> bool,
) -> Result<EventDone, Missed> {
    let body = body(answer).map_err(Missed::event)?;
    let mut event = Event::of(&body).map_err(|why| match why {
        NoEvent::Broken(at) => Missed::event(format!("it is malformed at byte {at}")),
        NoEvent::Other if is_web_page(&body) => Missed::event("it is a page for people"),
        NoEvent::Other => Missed::event("it is no event"),
    })?;
    let uuid = entry.uuid.to_string();
    if event.head.uuid.is_empty() {
        event.head.uuid.clone_from(&uuid);
    }
    // It would stand in the documents of another event, and take them back.
    if event.head.uuid != uuid {
        return Err(Missed::event(format!("it is the event `{}`", event.head.uuid)));
    }
    if event.head.is_deleted {
        return Ok(EventDone::default());
    }
    let mut done = of_event(feed, &event, is_known, Some(lists), now, Some(cutoff), take)
        .map_err(|error| Missed::event(error.to_string()))?;
    let differs = |digest: &String| hex(&Sha256::digest(&body)) != *digest;
    done.differs = entry.sha256.as_ref().is_some_and(differs);
    Ok(done)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Marks what changed events no longer give, and all that gone ones gave; then moves their marks.
async fn settle(
    visit: &mut Visit<'_>,
    feed: &Feed,
    index: &'static Index,
    cursor: &mut Cursor,
    changed: &mut Changed,
    gone: &[Uuid],
) -> Result<(), Stop> {
    let changed = std::mem::take(changed);
    let events: Vec<Uuid> =
        changed.events.iter().map(|(uuid, _)| *uuid).chain(gone.iter().copied()).collect();
    let mut left = 0;
    for events in events.chunks(EVENTS_AT_ONCE) {
        left += look(visit, feed, index, events, &changed.present).await?;
    }
    if left > 0 {
        visit.note(format!("{left} indicators are no longer in their events"));
    }
    changed.events.iter().for_each(|(uuid, timestamp)| cursor.marks.set(*uuid, *timestamp));
    gone.iter().for_each(|uuid| cursor.marks.forget(uuid));
    if !gone.is_empty() {
        visit.note(format!("{} events are gone from the manifest", gone.len()));
    }
    Ok(())
}

/// Walks over the documents that these events gave something to, and takes out what is not `present`; how many.
async fn look(
    visit: &mut Visit<'_>,
    feed: &Feed,
    index: &'static Index,
    events: &[Uuid],
    present: &HashSet<(Uuid, u128)>,
) -> Result<u64, Stop> {
    let ctx = visit.ctx();
    let names: Vec<String> = events.iter().map(Uuid::to_string).collect();
    let scan = Scan {
        filters: vec![Filter::Terms("event_uuids".to_owned(), names)],
        fields: Some(vec!["sources".to_owned()]),
        limit: PAGE,
        ..Scan::default()
    };
    let mut pages = Pages::new(ctx.documents.as_ref(), index, scan);
    let mut left = 0;
    loop {
        let page = pages.next().await?;
        let is_last = page.is_none();
        // A document may lose several events, and each is a write of its own.
        let mut rounds: Vec<Vec<Write>> = Vec::new();
        for document in page.unwrap_or_default() {
            let given = given_by(document.body.get("sources"), &feed.id);
            let is_lost = |event: &Uuid| {
                events.contains(event) && !present.contains(&(*event, key(&document.id)))
            };
            for (round, event) in given.into_iter().filter(is_lost).enumerate() {
                let by = Some(contributor(feed, &event.to_string()));
                let write = Write::retire(document.id.clone(), &OWNER, by, ctx.now());
                match rounds.get_mut(round) {
                    Some(round) => round.push(write),
                    None => rounds.push(vec![write]),
                }
            }
        }
        for round in rounds {
            left += visit.amend(index, &round).await?;
        }
        if is_last {
            return Ok(left);
        }
    }
}

/// The events of a feed that still give a document, by its `sources`.
fn given_by(sources: Option<&Value>, feed: &str) -> Vec<Uuid> {
    let mut events = Vec::new();
    for source in sources.and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| source.get(name).and_then(Value::as_str);
        let has_left = source.get("left_at").is_some_and(|at| !at.is_null());
        if let (Some(id), Some(event), false) = (text("id"), text("event"), has_left)
            && id == feed
            && let Ok(event) = Uuid::try_parse(event)
            && !events.contains(&event)
        {
            events.push(event);
        }
    }
    events
}

/// What a person sees of a feed that is tried: its manifest's newest event.
pub(crate) fn newest_event(feed: &Feed, body: &[u8]) -> Result<(Manifest, Option<Url>)> {
    let manifest = Manifest::read(body, &feed.rules)
        .map_err(|_| unreadable(feed, "it is no manifest of events").error)?;
    let newest = manifest.entries.iter().max_by_key(|entry| entry.timestamp);
    let place =
        newest.map(|entry| address(feed, &folder(&feed.url), &format!("{}.json", entry.name)));
    let place = place.transpose()?;
    Ok((manifest, place))
}

/// The address of a feed's manifest.
pub(crate) fn manifest_of(feed: &Feed) -> Result<Url> {
    address(feed, &folder(&feed.url), "manifest.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_found_with_and_without_its_slash_and_query() {
        for url in ["https://e.org/feed", "https://e.org/feed/", "https://e.org/feed/manifest.json"]
        {
            assert_eq!(folder(&Url::parse(url).unwrap()).as_str(), "https://e.org/feed/");
        }
        let folder = folder(&Url::parse("https://e.org/a%20b?key=1").unwrap());
        assert_eq!(folder.as_str(), "https://e.org/a%20b/?key=1");
    }
}
