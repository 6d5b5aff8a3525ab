//! A list on its way from its feed to the store, as a stream of any length: a killed or cut run goes on behind what it stored,
//! and a complete reading marks what left. One that took several runs is followed by another that stores nothing and takes
//! one, unless it came to what the last one came to.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::{Duration, Instant};

use base::address::masked;
use base::report::Outcome;
use base::{Error, Result};
use bytes::Bytes;
use fetch::{Limits, Request};
use futures_util::future::{Either, select};
use ioc::{Lists, Renewed, Tagged};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stores::documents::Index;
use task::{BodyStream, Position, Present, Stop, Storing, Visit};

use crate::feeds::{Feed, INDEX};
use crate::flat::{Found, HEAD, Place, Reader, is_web_page};
use crate::indicators::{BATCH, Batch, OWNER, SeenKeys, ids, key, listed};
use crate::sync::How;
use crate::unzip::{MAGIC, Unzip};

const ACCEPT: &str =
    "text/plain, text/csv, application/json, application/zip, application/gzip, */*;q=0.5";

/// Bytes without an indicator after which a body is none of a list.
const BARREN_BYTES_MAX: u64 = 64 << 20;

/// Bytes of a list that are read at a time: hundreds of indicators, whose documents are held until they are stored.
const STEP: usize = 8 << 10;

/// Bytes of an archive that are unpacked at a time: each may become a thousand.
const PACKED: usize = 1 << 10;

/// A body that comes more slowly than this, in bytes a second, after so long a wait, is given up.
const LEAST_RATE: u64 = 256;
const SLOW_FOR: Duration = Duration::from_secs(60);

/// For how long a list that shrank is not believed.
pub(crate) const SHRUNK_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Batches that are on their way to the store at the same time: while one is written, the next is planned.
const BATCHES_AHEAD: usize = 4;

/// Runs that try to read a list once more in one piece; after them, what left it stays as it is.
const SWEEPS_MAX: u32 = 3;

/// A list this small may lose nine tenths without that being a sign of anything.
pub(crate) const SHRUNK_FROM: u64 = 10;

/// How far a list is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Cursor {
    /// A reading that did not come to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    reading: Option<Reading>,
    /// Indicators of the last complete reading, and the sum of their keys.
    listed: Option<u64>,
    sum: Option<u64>,
    /// Whether its server tells one version from another.
    is_versioned: Option<bool>,
    /// Since when it gives much less than it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    shrunk_since: Option<Timestamp>,
    tagged: Tagged,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Reading {
    position: Position,
    place: Place,
    /// Whether the body is an archive, so that `place` is one in its file.
    is_packed: bool,
    /// Indicators up to here.
    #[serde(flatten)]
    listed: Listed,
    /// Whether nothing of the list was stored before, so that nothing can have left it.
    #[serde(default)]
    is_first: bool,
    /// Whether all is stored, and what is left is to see what left.
    is_read: bool,
    /// Runs that began to see that.
    #[serde(default)]
    sweeps: u32,
}

/// What a reading came to. Of two that came to the same, the list had the same values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    #[serde(rename = "listed")]
    count: u64,
    /// The sum of the values' keys, which does not depend on their order.
    #[serde(default)]
    sum: u64,
}

impl Listed {
    fn add(&mut self, id: &str) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(key(id) as u64);
    }
}

impl Cursor {
    /// Whether the last complete reading came to the same, so that nothing left.
    fn came_to(&self, total: Listed) -> bool {
        (self.listed, self.sum) == (Some(total.count), Some(total.sum))
    }
}

/// Whether so many of so many before are too few to be believed.
pub(crate) fn has_shrunk(before: u64, now: u64) -> bool {
    before > 0 && (now == 0 || (before >= SHRUNK_FROM && now * 10 <= before))
}

/// What a body turns out to be, on its way through.
struct Body<'f> {
    stream: BodyStream,
    reader: Reader<'f>,
    /// What is unpacked; nothing where the body is no archive.
    unzip: Option<Unzip>,
    /// Bytes that were read before and come again.
    skip: u64,
    head: Vec<u8>,
    is_begun: bool,
    /// What came and was not read yet.
    pending: Bytes,
    bytes: u64,
    waited: Duration,
}

impl<'f> Body<'f> {
    fn new(stream: BodyStream, feed: &'f Feed, from: Option<&Reading>) -> Result<Self> {
        let is_packed = from.is_some_and(|from| from.is_packed);
        let place = from.map(|from| from.place).unwrap_or_default();
        let mut reader = Reader::new(feed, place)?;
        if from.is_some_and(|from| from.position.version.is_empty()) {
            reader.begin_ragged();
        }
        let skip = reader.place().offset - if is_packed { 0 } else { stream.position().offset };
        Ok(Self {
            stream,
            reader,
            unzip: is_packed.then(Unzip::default),
            skip,
            head: Vec::new(),
            is_begun: from.is_some(),
            pending: Bytes::new(),
            bytes: 0,
            waited: Duration::ZERO,
        })
    }

    /// Reads the next part; false at the end of the body.
    async fn next(&mut self, feed: &Feed, take: &mut impl FnMut(Found)) -> Result<bool, Stop> {
        let mut is_end = false;
        if self.pending.is_empty() {
            match self.come(feed).await? {
                Some(part) => self.pending = part,
                None => is_end = true,
            }
        }
        let step = if self.unzip.is_some() { PACKED } else { STEP };
        let mut part = self.pending.split_to(step.min(self.pending.len()));
        if !self.is_begun {
            self.head.extend_from_slice(&part);
            if self.head.len() < HEAD && !is_end {
                return Ok(true);
            }
            self.is_begun = true;
            part = std::mem::take(&mut self.head).into();
            self.judge(feed, &part)?;
        }
        let Some(unzip) = &mut self.unzip else {
            let passed_over = part.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= passed_over as u64;
            self.reader.push(&part[passed_over..], is_end, take);
            return Ok(!is_end);
        };
        let mut unpacked = Vec::new();
        for packed in part.chunks(PACKED) {
            if !unzip.is_over() {
                unzip.push(packed, &mut unpacked).map_err(|why| unreadable(feed, &why))?;
            }
        }
        let passed_over = unpacked.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        self.skip -= passed_over as u64;
        self.reader.push(&unpacked[passed_over..], false, take);
        if is_end {
            if !unzip.is_over() {
                return Err(unreadable(feed, "the archive is cut off"));
            }
            self.reader.push(&[], true, take);
        }
        Ok(!is_end)
    }

    /// Waits for what comes next.
    async fn come(&mut self, feed: &Feed) -> Result<Option<Bytes>, Stop> {
        let asked = Instant::now();
        let part = self.stream.chunk().await?;
        self.waited += asked.elapsed();
        self.bytes += part.as_ref().map_or(0, |part| part.len() as u64);
        if self.waited > SLOW_FOR && self.bytes < self.waited.as_secs() * LEAST_RATE {
            let error = Error::upstream(format!(
                "read `{}`: `{}` bytes came in {} s",
                masked(&feed.url),
                self.bytes,
                self.waited.as_secs()
            ));
            return Err(Stop::new(Outcome::TimedOut, error));
        }
        Ok(part)
    }

    /// Tells by what a body begins with what it is.
    fn judge(&mut self, feed: &Feed, head: &[u8]) -> Result<(), Stop> {
        if head.starts_with(&MAGIC) {
            self.unzip = Some(Unzip::default());
        } else if is_web_page(head) {
            return Err(web_page(feed));
        }
        Ok(())
    }

    /// Where to go on: behind everything that was handed out.
    fn reading(&self, listed: Listed, is_first: bool) -> Reading {
        let is_packed = self.unzip.is_some();
        let place = self.reader.place();
        let position = self.stream.position();
        let offset = if is_packed { 0 } else { place.offset };
        Reading {
            position: Position { offset, ..position },
            place,
            is_packed,
            listed,
            is_first,
            is_read: false,
            sweeps: 0,
        }
    }
}

pub(crate) fn web_page(feed: &Feed) -> Stop {
    let error = Error::format(format!("read `{}`: it is a page for people", masked(&feed.url)))
        .hint("the feed may have moved, or its server asks for a login or a challenge");
    Stop::new(Outcome::WebPage, error)
}

pub(crate) fn unreadable(feed: &Feed, why: &str) -> Stop {
    let error = Error::format(format!("read `{}`: {why}", masked(&feed.url)));
    Stop::new(Outcome::Unreadable, error)
}

/// The alarm of a feed that gives much less than it did; nothing of it is marked as having left.
pub(crate) fn shrunk(feed: &Feed, what: &str, before: u64, now: u64) -> Stop {
    let error = Error::format(format!(
        "read `{}`: it has {now} {what} and had {before}",
        masked(&feed.url)
    ))
    .hint("nothing is marked as having left; if it stays so for 7 days, that is believed");
    Stop::new(if now == 0 { Outcome::Empty } else { Outcome::Shrunk }, error)
}

/// A request with the feed's headers.
pub(crate) fn with_headers<'r>(
    request: Request<'r>,
    headers: &'r [(String, String)],
) -> Request<'r> {
    headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// Reads a list and stores what it gives.
pub(crate) async fn read(visit: &mut Visit<'_>, feed: &Feed, how: &How) -> Result<(), Stop> {
    let index = Index::named(INDEX)?;
    let headers = feed.headers(&how.keys).await?;
    let request =
        || with_headers(Request::get(&feed.url).accept(ACCEPT).limits(Limits::STREAM), &headers);
    // A replay of the archive reads again what is stored, and marks nothing: the archive may not hold the last version.
    let is_replay = visit.ctx().config.behaviour.reparse.is_some();
    let mut cursor: Cursor =
        if is_replay { Cursor::default() } else { visit.cursor().unwrap_or_default() };
    let is_begun = cursor.reading.is_some() || cursor.listed.is_some();
    let of_feed = vec![feed.documents()];
    let renewed = cursor.tagged.renew(visit, &OWNER, index, of_feed, is_begun).await?;
    if renewed != Renewed::Nothing {
        visit.save(json!(cursor)).await?;
    }
    if renewed == Renewed::Cut {
        return Ok(());
    }
    if how.is_quick && cursor.reading.is_none() && cursor.is_versioned == Some(false) {
        let why = "its server does not tell whether it changed; `sync_all_misp_feeds` reads it";
        return Err(Stop::skipped(why));
    }
    let from = cursor.reading.take();
    let resumes = from.as_ref().filter(|from| !from.is_read && !from.is_packed);
    let stream = match visit.stream(request(), resumes.map(|from| &from.position)).await {
        Ok(None) => return Ok(()),
        Ok(Some(stream)) => stream,
        Err(stop) => {
            if resumes.is_some() {
                // What cannot be read on is read anew.
                visit.save(json!(cursor)).await?;
            }
            return Err(stop);
        }
    };
    let at = stream.position();
    // Of another version everything is read, from its first byte. Where versions are not told apart, a long list would never
    // come to its end, so it is read on behind what was read; the JSON of one may have become another.
    let from = from.filter(|from| match from.position.version.is_empty() {
        true => at.version.is_empty() && (from.is_read || !from.place.is_json),
        false => {
            from.position.version == at.version
                && (from.is_read || from.is_packed || from.position.offset == at.offset)
        }
    });
    let is_first = from.as_ref().map_or(!is_begun, |from| from.is_first);
    // What an earlier run read of it is not known here, and of what was never stored nothing left.
    let mut present = (from.is_none() && !is_first).then(Present::default);
    let mut total = from.as_ref().map_or_else(Listed::default, |from| from.listed);
    let mut sweeping = None;
    if let Some(read) = from.as_ref().filter(|from| from.is_read) {
        sweeping = Some((stream, read.clone()));
    } else {
        let lists = Lists::of_visit(visit).await?;
        let mut body = Body::new(stream, feed, from.as_ref())?;
        if from.is_none() && body.stream.position().offset > 0 {
            return Err(unreadable(feed, "its server gave a part that was not asked for"));
        }
        let (mut seen, mut batch, mut barren_from) = (SeenKeys::default(), Batch::default(), 0);
        let now = visit.ctx().now();
        let mut left = how.limit.unwrap_or(u64::MAX);
        let mut ahead = Ahead::default();
        let reading = async {
            loop {
                let mut failed = None;
                let mut take = |found| {
                    if left == 0 {
                        return;
                    }
                    match found {
                        Found::Typed(typed, facts) => {
                            let ids = listed(
                                feed,
                                &typed,
                                &facts,
                                Some(&lists),
                                now,
                                &mut seen,
                                &mut batch,
                            );
                            left = left.saturating_sub(ids.len() as u64);
                            for id in ids {
                                total.add(&id);
                                let added = present.as_mut().map(|present| present.add(&id));
                                failed = added.and_then(Result::err).or(failed.take());
                            }
                        }
                        Found::Excluded => {
                            batch.found += 1;
                            batch.filtered += 1;
                        }
                        Found::Untyped(cell) => {
                            batch.found += 1;
                            batch.reject(|| format!("`{cell}` is no indicator"));
                        }
                    }
                };
                let next = body.next(feed, &mut take);
                let goes_on = ahead.meanwhile(visit, next).await??;
                if let Some(error) = failed {
                    return Err(error.into());
                }
                if batch.found > 0 {
                    barren_from = body.bytes;
                } else if body.bytes - barren_from > BARREN_BYTES_MAX {
                    let error = Error::upstream(format!(
                        "read `{}`: no indicator in {} MiB",
                        masked(&feed.url),
                        BARREN_BYTES_MAX >> 20
                    ));
                    return Err(Stop::new(Outcome::TooLarge, error));
                }
                let is_over = !goes_on || left == 0;
                let is_due = batch.is_full() || (batch.is_enough() && ahead.has_room());
                if is_due || (is_over && batch.found > 0) {
                    let reading = Reading { is_read: is_over, ..body.reading(total, is_first) };
                    let so_far = Cursor { reading: Some(reading), ..cursor.clone() };
                    let so_far = how.limit.is_none().then(|| json!(so_far));
                    let batch = std::mem::take(&mut batch);
                    if !ahead.store(visit, index, batch, so_far).await?
                        || (!is_over && visit.is_late())
                    {
                        return Ok(false);
                    }
                }
                if is_over {
                    return Ok::<_, Stop>(true);
                }
            }
        };
        let read = reading.await;
        ahead.finish(visit).await?;
        if !read? {
            return Ok(());
        }
        if left == 0 {
            visit.note(format!(
                "only its first indicators are read, as `limit` says: {}",
                how.limit.unwrap_or(0)
            ));
            return Ok(());
        }
        let before = cursor.listed.unwrap_or(0);
        if let Err(stop) = judge(visit, feed, &body, index, before, total.count) {
            visit.save(json!(cursor)).await?;
            return Err(stop);
        }
        let version = body.stream.position().version;
        cursor.is_versioned = Some(!version.is_empty());
        let read = Reading { is_read: true, ..body.reading(total, is_first) };
        visit.close(body.stream)?;
        if present.is_none()
            && !is_first
            && !cursor.came_to(total)
            && let Some(stream) = visit.stream_again(request()).await?
            && stream.position().version == version
        {
            sweeping = Some((stream, read));
        }
    }
    if let Some((stream, read)) = sweeping {
        if read.sweeps >= SWEEPS_MAX {
            visit.note(
                "what left the list is not marked: to read it once more takes more than a run",
            );
            visit.close(stream)?;
        } else {
            let is_late = visit.is_late();
            let begun = Reading { sweeps: read.sweeps + u32::from(!is_late), ..read };
            visit.save(json!(Cursor { reading: Some(begun), ..cursor.clone() })).await?;
            let swept = if is_late { None } else { sweep(visit, feed, stream).await? };
            let Some((all, came_to)) = swept else { return Ok(()) };
            (present, total) = (Some(all), came_to);
        }
    }
    conclude(visit, feed, index, cursor, present, total).await
}

/// Batches on their way to the store, the oldest first, while what follows is read.
#[derive(Default)]
pub(crate) struct Ahead(VecDeque<(Storing, Option<Value>)>);

impl Ahead {
    /// Begins to store what is gathered; false when time or a limit ended it before all of it was. The cursor is saved once
    /// all up to it is stored.
    pub(crate) async fn store(
        &mut self,
        visit: &mut Visit<'_>,
        index: &'static Index,
        batch: Batch,
        cursor: Option<Value>,
    ) -> Result<bool, Stop> {
        visit.found(index, batch.found);
        visit.merged(index, batch.merged);
        visit.filtered(index, batch.filtered);
        visit.rejected(index, batch.rejected);
        batch.rejects.into_iter().for_each(|reason| visit.show_reject(reason));
        let mut writes = batch.writes;
        loop {
            if visit.is_late() {
                return Ok(false);
            }
            while !self.has_room() {
                self.finish_first(visit).await?;
            }
            let rest = writes.split_off(writes.len().min(BATCH));
            let storing = visit.begin_to_store(index, writes);
            if rest.is_empty() {
                self.0.push_back((storing, cursor));
                return Ok(true);
            }
            self.0.push_back((storing, None));
            writes = rest;
        }
    }

    /// Whether another batch may be on its way.
    pub(crate) fn has_room(&self) -> bool {
        self.0.len() < BATCHES_AHEAD
    }

    /// Waits for what comes next; the cursor of what is stored meanwhile is saved at once.
    pub(crate) async fn meanwhile<T>(
        &mut self,
        visit: &mut Visit<'_>,
        next: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let mut next = pin!(next);
        loop {
            let first = async {
                match self.0.front_mut() {
                    Some((storing, _)) => storing.over().await,
                    None => std::future::pending().await,
                }
            };
            let came = match select(pin!(first), next.as_mut()).await {
                Either::Left(_) => None,
                Either::Right((came, _)) => Some(came),
            };
            match came {
                Some(came) => return Ok(came),
                None => self.finish_first(visit).await?,
            }
        }
    }

    /// Waits until all is stored.
    pub(crate) async fn finish(&mut self, visit: &mut Visit<'_>) -> Result<(), Stop> {
        while !self.0.is_empty() {
            self.finish_first(visit).await?;
        }
        Ok(())
    }

    async fn finish_first(&mut self, visit: &mut Visit<'_>) -> Result<(), Stop> {
        let Some((storing, cursor)) = self.0.pop_front() else { return Ok(()) };
        visit.stored(storing).await?;
        match cursor {
            Some(cursor) => visit.save(cursor).await,
            None => Ok(()),
        }
    }
}

/// Whether a body that was read to its end was a list.
fn judge(
    visit: &mut Visit<'_>,
    feed: &Feed,
    body: &Body<'_>,
    index: &'static Index,
    before: u64,
    listed: u64,
) -> Result<(), Stop> {
    let counts = visit.counts(index);
    if counts.rejected * 2 > counts.found {
        let why = format!("{} of {} cells are no indicators", counts.rejected, counts.found);
        return Err(unreadable(feed, &why));
    }
    if listed > 0 || before > 0 {
        return Ok(());
    }
    let told = |outcome, what: &str| {
        let error = Error::format(format!("read `{}`: {what}", masked(&feed.url)));
        Err(Stop::new(outcome, error.hint("look at the address in a browser")))
    };
    if body.bytes == 0 {
        return told(Outcome::Empty, "it is empty");
    }
    if body.reader.has_text() && counts.found == 0 {
        return told(Outcome::NotAFeed, "no word of it is an indicator");
    }
    visit.note("the list has no indicators today");
    Ok(())
}

/// The ids of everything in a list that is stored, in bounded memory, and what they come to; nothing when time ran out.
async fn sweep(
    visit: &mut Visit<'_>,
    feed: &Feed,
    stream: BodyStream,
) -> Result<Option<(Present, Listed)>, Stop> {
    let mut body = Body::new(stream, feed, None)?;
    let (mut present, mut total, mut seen) =
        (Present::default(), Listed::default(), SeenKeys::default());
    loop {
        let mut failed = None;
        let goes_on = body
            .next(feed, &mut |found| {
                let Found::Typed(typed, _) = found else { return };
                for id in ids(feed, &typed).filter(|id| seen.is_first(key(id))) {
                    total.add(&id);
                    failed = present.add(&id).err().or(failed.take());
                }
            })
            .await?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if visit.is_late() {
            return Ok(None);
        }
        if !goes_on {
            visit.close(body.stream)?;
            return Ok(Some((present, total)));
        }
    }
}

/// Marks what left a list of which all that is `present` is known, and moves the cursor.
async fn conclude(
    visit: &mut Visit<'_>,
    feed: &Feed,
    index: &'static Index,
    mut cursor: Cursor,
    present: Option<Present>,
    total: Listed,
) -> Result<(), Stop> {
    let (before, listed) = (cursor.listed.unwrap_or(0), total.count);
    let now = visit.ctx().now();
    if has_shrunk(before, listed) {
        let since = *cursor.shrunk_since.get_or_insert(now);
        if now.duration_since(since) < SHRUNK_FOR {
            visit.save(json!(cursor)).await?;
            return Err(shrunk(feed, "indicators", before, listed));
        }
    }
    cursor.shrunk_since = None;
    if let Some(present) = present.filter(|_| !cursor.came_to(total)) {
        let of_feed = vec![feed.documents()];
        let retired = visit.retire(index, &OWNER, Some(&feed.id), of_feed, present).await?;
        if retired.count > 0 {
            visit.note(format!("{} left the list", retired.count));
        }
    }
    (cursor.listed, cursor.sum) = (Some(listed), Some(total.sum));
    visit.reach(json!(cursor));
    Ok(())
}
