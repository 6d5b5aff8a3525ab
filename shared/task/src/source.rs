//! One visit to one source: hold it, ask it, store what it gave, and only then move its cursor.
//!
//! The order is the promise that nothing is lost, so it lives here and not in each task: what a server said to tell the
//! next version apart is kept back until everything of this version is stored.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Instant;

use base::report::{Problem, Report, SourceReport};
use base::{Class, Error, Result};
use fetch::{Fetched, Reason, Request, Response, Validators};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use stores::documents::{Index, Write, Written};
use stores::retention::is_too_old;
use stores::state::{Lease, SourceState};

use crate::Ctx;
use crate::archive::{Archive, Kept};

/// Why a source gave nothing: a name for the report, and the error.
#[derive(Debug)]
pub struct Stop {
    /// The outcome in a word.
    pub outcome: &'static str,
    /// What went wrong.
    pub error: Error,
    retry_after: Option<SignedDuration>,
}

impl Stop {
    /// A source whose answer makes no sense, under a name of the family's own.
    pub fn new(outcome: &'static str, error: Error) -> Self {
        Self { outcome, error, retry_after: None }
    }

    /// The same for another source that the same answer was for.
    #[must_use]
    pub fn again(&self) -> Self {
        let error = self.error.again();
        Self { outcome: self.outcome, error, retry_after: self.retry_after }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        let outcome = match error.class() {
            Class::Config => "misconfigured",
            Class::Upstream => "unreachable",
            Class::Format => "unreadable",
            Class::Store => "not_stored",
            Class::Deadline => "out_of_time",
        };
        Self::new(outcome, error)
    }
}

/// A response in hand; dropping it gives back its share of the process's memory for large bodies.
pub enum Answer {
    /// As it came over the network.
    Fetched(Box<Response>),
    /// As the archive kept it.
    Kept(Kept),
}

impl Answer {
    /// The address it came from in the end.
    pub fn url(&self) -> &str {
        match self {
            Self::Fetched(response) => response.final_url.as_str(),
            Self::Kept(kept) => &kept.url,
        }
    }

    /// Its `Content-Type`.
    pub fn content_type(&self) -> Option<&str> {
        match self {
            Self::Fetched(response) => response.content_type.as_deref(),
            Self::Kept(kept) => kept.content_type.as_deref(),
        }
    }

    /// The body, decompressed.
    pub fn body(&self) -> &[u8] {
        match self {
            Self::Fetched(response) => &response.body,
            Self::Kept(kept) => &kept.body,
        }
    }

    /// Whether the connection ended before the body did.
    pub fn is_truncated(&self) -> bool {
        matches!(self, Self::Fetched(response) if response.truncated)
    }
}

/// A source that is held.
pub struct Visit<'a> {
    ctx: &'a Ctx,
    lease: Lease,
    index: &'static Index,
    state: SourceState,
    report: SourceReport,
    started: Instant,
    /// What will tell the next version from this one, once this one is stored.
    pending: Option<(String, Validators)>,
    /// How far this visit has come, for a source with a cursor of its own.
    reached: Option<Value>,
    replay: Option<VecDeque<PathBuf>>,
    asked: bool,
    /// What it knows is not told to the source, so that a body comes in any case.
    unconditional: bool,
    failed: Vec<(String, String)>,
}

/// Whether a source can be visited now.
pub enum Begun<'a> {
    /// It can.
    Visit(Box<Visit<'a>>),
    /// It is left alone this time, for the reason that the report gives.
    Not(Box<SourceReport>),
}

impl<'a> Visit<'a> {
    /// Takes hold of `family/id`, unless another run holds it, it asked for time, or it is gone for good.
    ///
    /// # Errors
    /// `Store`, when its state cannot be read.
    pub async fn begin(
        ctx: &'a Ctx,
        family: &str,
        id: &str,
        index: &'static Index,
    ) -> Result<Begun<'a>> {
        let name = format!("{family}/{id}");
        let mut report = SourceReport::new(id, index.name);
        let Some(lease) = ctx.state.lease(&name).await? else {
            "busy".clone_into(&mut report.outcome);
            report.notes.push("another run is at it".to_owned());
            return Ok(Begun::Not(Box::new(report)));
        };
        let replay = match &ctx.config.behaviour.reparse {
            Some(folder) => Some(Archive::at(folder).kept(&name)?.into()),
            None => None,
        };
        let state = ctx.state.source(&name).await?;
        let waits = state.next_allowed.filter(|allowed| ctx.now() < *allowed);
        if replay.is_none() && state.gone {
            "gone".clone_into(&mut report.outcome);
            report
                .notes
                .push("it said that it is gone for good; enable it again if it is back".to_owned());
            return Ok(Begun::Not(Box::new(report)));
        }
        if let (None, Some(allowed)) = (&replay, waits) {
            "waiting".clone_into(&mut report.outcome);
            report.notes.push(format!("it asked not to be asked before {allowed}"));
            return Ok(Begun::Not(Box::new(report)));
        }
        let started = Instant::now();
        let visit = Visit {
            ctx,
            lease,
            index,
            state,
            report,
            started,
            pending: None,
            reached: None,
            replay,
            asked: false,
            unconditional: false,
            failed: Vec::new(),
        };
        Ok(Begun::Visit(Box::new(visit)))
    }

    /// Asks the source once, on condition that it changed; then, and when it did not change, gives nothing. In a
    /// replay of the archive it gives each kept response instead.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn next(&mut self, get: Request<'_>) -> Result<Option<Answer>, Stop> {
        if let Some(kept) = &mut self.replay {
            let Some(path) = kept.pop_front() else { return Ok(None) };
            let kept = Archive::read(&path)?;
            self.report.bytes += kept.body.len() as u64;
            return Ok(Some(Answer::Kept(kept)));
        }
        if std::mem::replace(&mut self.asked, true) {
            return Ok(None);
        }
        let url = get.url().to_string();
        let validators = Validators {
            etag: self.state.etag.clone(),
            last_modified: self.state.last_modified.clone(),
        };
        let known = self.state.url.as_deref() == Some(&url)
            && !validators.is_empty()
            && !self.unconditional;
        let get = if known { get.validators(&validators) } else { get };
        let fetched = self.ctx.http.send(get).await;
        if let Ok(Fetched::NotModified(answer)) = &fetched {
            self.report.requests += u64::from(answer.requests);
            "not_modified".clone_into(&mut self.report.outcome);
        }
        let response = match fetched.and_then(Fetched::body) {
            Ok(Some(response)) => response,
            Ok(None) => return Ok(None),
            Err(failure) => {
                self.report.requests += u64::from(failure.requests);
                self.state.gone = failure.reason == Reason::Gone;
                let retry_after = match failure.reason {
                    Reason::RateLimited { retry_after, .. } => {
                        retry_after.and_then(|wait| wait.try_into().ok())
                    }
                    _ => None,
                };
                return Err(Stop {
                    outcome: failure.outcome(),
                    error: failure.into(),
                    retry_after,
                });
            }
        };
        self.report.requests += u64::from(response.requests);
        self.report.bytes += response.bytes_on_wire;
        self.state.moved_to = response.moved_to.as_ref().map(ToString::to_string);
        if let Some(moved) = &self.state.moved_to {
            self.report.notes.push(format!("it has moved for good to `{moved}`"));
        }
        // What was cut off must be asked for again.
        self.pending = (!response.truncated).then(|| (url, response.validators.clone()));
        let about = Kept {
            url: response.final_url.to_string(),
            content_type: response.content_type.clone(),
            fetched: self.ctx.now(),
            body: Vec::new(),
        };
        self.ctx.archive.keep(self.lease.name(), &about, &response.body)?;
        Ok(Some(Answer::Fetched(Box::new(response))))
    }

    /// As [`Visit::next`] for two sources that are parts of one answer: it is asked for once, and on condition only when
    /// both have stored the same version.
    ///
    /// # Errors
    /// Why there is no answer, which holds for both.
    pub async fn next_with(
        &mut self,
        other: &mut Visit<'_>,
        get: Request<'_>,
    ) -> Result<Option<Answer>, Stop> {
        let version = |state: &SourceState| {
            (state.url.clone(), state.etag.clone(), state.last_modified.clone())
        };
        self.unconditional = version(&self.state) != version(&other.state);
        let answer = self.next(get).await?;
        other.asked = true;
        other.replay = other.replay.take().map(|_| VecDeque::new());
        match &answer {
            None => other.report.outcome.clone_from(&self.report.outcome),
            Some(Answer::Kept(_)) => {}
            Some(Answer::Fetched(response)) => {
                other.pending.clone_from(&self.pending);
                other.state.moved_to.clone_from(&self.state.moved_to);
                let about = Kept {
                    url: response.final_url.to_string(),
                    content_type: response.content_type.clone(),
                    fetched: other.ctx.now(),
                    body: Vec::new(),
                };
                other.ctx.archive.keep(other.lease.name(), &about, &response.body)?;
            }
        }
        Ok(answer)
    }

    /// Stores documents and counts what came of each; what is older than its index keeps is not written. Documents that
    /// the store will never take are named in the report's notes.
    ///
    /// # Errors
    /// `Store`, when none of the batch could be written.
    pub async fn store(&mut self, writes: &[Write]) -> Result<()> {
        let (keep, now) = (&self.ctx.config.stores.keep_days, self.ctx.now());
        let is_kept = |write: &&Write| !is_too_old(keep, self.index, write, now);
        let kept: Cow<'_, [Write]> = if writes.iter().all(|write| is_kept(&write)) {
            writes.into()
        } else {
            writes.iter().filter(is_kept).cloned().collect()
        };
        for _ in kept.len()..writes.len() {
            Written::Filtered.count(&mut self.report.counts);
        }
        let outcomes = self.ctx.documents.upsert(self.index, &kept).await?;
        for (write, outcome) in kept.iter().zip(&outcomes) {
            outcome.count(&mut self.report.counts);
            match outcome {
                Written::Failed(reason) => self.failed.push((write.id.clone(), reason.clone())),
                Written::Rejected(reason) if self.report.notes.len() < Report::REJECTS_SHOWN => {
                    self.report
                        .notes
                        .push(format!("document `{}` is rejected: {reason}", write.id));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// How far the source was stored by earlier visits, in its family's own words.
    pub fn cursor(&self) -> Option<&Value> {
        self.state.cursor.as_ref()
    }

    /// How far it is stored when this visit ends well.
    pub fn reach(&mut self, cursor: Value) {
        self.reached = Some(cursor);
    }

    /// The report so far, for counting what was found, merged or rejected.
    pub fn report(&mut self) -> &mut SourceReport {
        &mut self.report
    }

    /// Whether the source has ever been stored.
    pub fn is_first(&self) -> bool {
        self.state.last_success.is_none()
    }

    /// Learns from the dates of a source's items how often it has news.
    pub fn learn_habit(&mut self, mut dates: Vec<Timestamp>) {
        let now = self.ctx.now();
        dates.retain(|date| *date <= now);
        dates.sort_unstable();
        if let Some(newest) = dates.last() {
            self.state.last_new = self.state.last_new.max(Some(*newest));
        }
        let mut gaps: Vec<i64> =
            dates.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).collect();
        gaps.retain(|gap| *gap > 0);
        if gaps.len() < 2 {
            return;
        }
        gaps.sort_unstable();
        let median = gaps[gaps.len() / 2];
        // Half of what was known, half of what is seen: one odd week does not change a habit.
        self.state.usual_gap_s =
            Some(self.state.usual_gap_s.map_or(median, |known| i64::midpoint(known, median)));
    }

    /// Ends the visit: moves the cursor if everything is stored, and notes how the source fares.
    ///
    /// # Errors
    /// `Store`, when the state cannot be written; `Format`, when the numbers do not balance.
    pub async fn end(mut self: Box<Self>, work: Result<(), Stop>) -> Result<SourceReport> {
        let now = self.ctx.now();
        // What was not tried again, as the source did not answer, has not been mended.
        let is_whole = work.is_ok();
        let work = work.and_then(|()| match self.failed.first() {
            None => Ok(()),
            Some((_, reason)) => Err(Stop::from(
                Error::store(format!(
                    "store {} of {} items: {reason}",
                    self.failed.len(),
                    self.report.counts.found
                ))
                .hint("they are in the retry ledger, and the source is read again next time"),
            )),
        });
        self.state.last_attempt = Some(now);
        match work {
            Ok(()) => self.succeed(now),
            Err(stop) => self.fail(now, &stop),
        }
        // A failure between reading an item and storing it must not lose the count of it.
        let counts = &mut self.report.counts;
        let told = counts.new
            + counts.changed
            + counts.unchanged
            + counts.merged
            + counts.filtered
            + counts.rejected
            + counts.failed;
        if self.report.problem.is_some() && told < counts.found {
            counts.deferred += counts.found - told - counts.deferred;
        }
        counts.balanced()?;
        self.report.took_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.state.last_outcome = Some(self.report.outcome.clone());
        if self.replay.is_none() {
            self.ctx.state.note_failed(&self.lease, &self.failed, is_whole).await?;
            self.ctx.state.save_source(&self.lease, &self.state).await?;
        }
        Ok(self.report)
    }

    fn succeed(&mut self, now: Timestamp) {
        let counts = &self.report.counts;
        // On the first visit everything is new, and only the items' own dates say how fresh it is.
        if counts.new > 0 && (self.state.last_success.is_some() || self.state.last_new.is_none()) {
            self.state.last_new = Some(now);
        }
        if self.report.outcome.is_empty() {
            let outcome = if counts.new + counts.changed > 0 { "stored" } else { "unchanged" };
            outcome.clone_into(&mut self.report.outcome);
        }
        if let Some((url, validators)) = self.pending.take() {
            self.state.etag = validators.etag;
            self.state.last_modified = validators.last_modified;
            self.state.url = Some(url);
        }
        if let Some(cursor) = self.reached.take() {
            self.state.cursor = Some(cursor);
        }
        self.state.last_success = Some(now);
        self.state.last_error = None;
        self.state.failures = 0;
        self.state.next_allowed = None;
    }

    fn fail(&mut self, now: Timestamp, stop: &Stop) {
        stop.outcome.clone_into(&mut self.report.outcome);
        self.report.problem = Some(Problem::from(&stop.error));
        self.state.failures += 1;
        self.state.last_error = Some(stop.error.chain());
        self.state.next_allowed = stop.retry_after.and_then(|wait| now.checked_add(wait).ok());
    }
}
