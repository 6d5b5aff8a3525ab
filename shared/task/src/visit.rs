//! One visit to one source: the hold on it, every request to it, every document from it, and how far it is stored.
//!
//! The order is the promise that nothing is lost, so it lives here and not in each task: what a server said to tell the
//! next version apart, and the cursor, are kept back until everything that they stand for is stored. The end always runs,
//! also when time ran out in the middle, so health, counts and cursor are true.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::clock::{SKEW_MAX, WAIT_MAX, is_believed};
use base::keep_days::KeepDays;
use base::report::{Counts, Outcome, Problem, Reject, Report, SourceReport};
use base::secrets::hidden;
use base::validators::Validators;
use base::{Error, Result};
use fetch::Request;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stores::documents::{Documents, Fitted, Identity, Index, Misfit, Misfits, Write, Written, fit};
use stores::retention;
use stores::state::{
    LEDGER_MAX as LEDGER_ROWS, Lease, LedgerItem, LedgerKind, Retry, SourceState, VisitSum,
};
use tokio::task::{JoinError, JoinSet};

use crate::answer::remembered_text;
use crate::archive::Archive;
use crate::contract::Ctx;
use crate::limits::{Cutoff, STEP, Used, VisitLimits};
use crate::stop::Stop;

/// Requests whose validators a source keeps; of more, the first of this visit.
pub(super) const VALIDATORS_MAX: usize = 64;

/// Documents that are amended together.
const AMEND_BATCH: usize = 256;

/// Secrets of one visit's requests that are looked for in what it says; a source has one or two.
const SECRETS_MAX: usize = 64;

/// Notes of one visit that the report shows.
const NOTES_MAX: usize = 50;

/// Letters of a reject's reason that the report shows.
const REASON_LETTERS: usize = 500;

/// Items of one visit that the ledger names; all are counted.
const LEDGER_MAX: usize = 1_000;

/// Whether a source can be visited now.
pub(crate) enum Begun<'a> {
    /// It can.
    Visit(Box<Visit<'a>>),
    /// It is left alone this time, for the reason that the report gives.
    Not(Box<SourceReport>),
}

/// A source that is held.
pub struct Visit<'a> {
    ctx: &'a Ctx,
    pub(super) lease: Lease,
    /// Which stores its indices are in, and how much those hold.
    identities: BTreeMap<&'static str, Identity>,
    pub(super) state: SourceState,
    pub(super) report: SourceReport,
    counts: BTreeMap<&'static str, Counts>,
    rejects: Vec<String>,
    ledger: Vec<LedgerItem>,
    /// What fields did not take as it came, by index and field.
    misfits: BTreeMap<(&'static str, String), Misfit>,
    limits: VisitLimits,
    given: Used,
    /// Items that were not stored, as a limit was reached.
    beyond: u64,
    /// What a source could repeat of our requests, in each form in which it was sent.
    secrets: BTreeSet<String>,
    /// Lives as long as the visit.
    alive: Arc<()>,
    /// Writes that may succeed another time; while there is one, the cursor stays.
    failed: u64,
    started: Instant,
    /// Digests of the addresses that were asked in this visit: 16 bytes each, however long they are.
    pub(super) answered: HashSet<[u8; 16]>,
    pub(super) not_modified: u64,
    /// Bodies that came.
    pub(super) bodies: u64,
    /// When the last of them came, unless another is asked for.
    pub(super) reading_since: Option<Instant>,
    /// What tells the next version of an address from this one, once this one is stored.
    pub(super) pending: Vec<(String, Validators)>,
    /// How far the source is stored when this visit ends well.
    reached: Option<Value>,
    has_saved: bool,
    was_late: bool,
    pub(super) replay: Option<HashMap<String, VecDeque<PathBuf>>>,
}

/// Documents on their way to the store while their visit goes on. Dropped, what is not sent of it is not.
#[must_use = "nothing of it is counted before it is handed to `Visit::stored`"]
pub struct Storing {
    index: &'static Index,
    /// Documents that are not stored, as a limit was reached.
    beyond: usize,
    writing: JoinSet<Result<Stored>>,
    /// What came of it, once it is over.
    came: Option<std::result::Result<Result<Stored>, JoinError>>,
}

impl Storing {
    /// Waits until it is over. It may be dropped before and asked for again.
    pub async fn over(&mut self) {
        if self.came.is_none() {
            self.came = self.writing.join_next().await;
        }
    }
}

/// What became of documents.
struct Stored {
    writes: Vec<Write>,
    written: Vec<Written>,
    bytes: u64,
    misfits: Misfits,
}

/// Documents as their index takes them, by form and by age.
struct FittedWrites<'w> {
    writes: Cow<'w, [Write]>,
    /// Those that are beyond the age that is kept.
    is_old: Vec<bool>,
    bytes: u64,
    misfits: Misfits,
}

impl<'w> FittedWrites<'w> {
    fn of(index: &Index, writes: &'w [Write], keep: &KeepDays, now: Timestamp) -> Self {
        let Fitted { writes, misfits, bytes } = fit(index, writes);
        let is_old = writes.iter().map(|write| retention::is_too_old(keep, index, write, now));
        let is_old = is_old.collect();
        Self { writes, is_old, bytes, misfits }
    }

    async fn write(&self, store: &dyn Documents, index: &'static Index) -> Result<Vec<Written>> {
        if !self.is_old.contains(&true) {
            return store.upsert(index, &self.writes).await;
        }
        let kept = self.writes.iter().zip(&self.is_old).filter(|(_, is_old)| !**is_old);
        let kept: Vec<Write> = kept.map(|(write, _)| write.clone()).collect();
        let mut written = store.upsert(index, &kept).await?.into_iter();
        let one = |is_old: &bool| match is_old {
            true => Some(Written::Filtered),
            false => written.next(),
        };
        Ok(self.is_old.iter().filter_map(one).collect())
    }
}

impl<'a> Visit<'a> {
    /// Takes hold of a source by its name, `family/id`, unless another run holds it, it asked for time, or it is gone for good.
    /// `indices` are those that the source is stored in: where one of them was emptied or replaced, nothing that was known of the
    /// source holds.
    ///
    /// # Errors
    /// `Store`, when its state cannot be read.
    pub(crate) async fn begin(
        ctx: &'a Ctx,
        name: &str,
        indices: Vec<&'static Index>,
    ) -> Result<Begun<'a>> {
        let id = name.split_once('/').map_or(name, |(_, id)| id);
        let index = indices.first().map(|index| index.name).unwrap_or_default();
        let mut report = SourceReport::new(id, index);
        let mut left_alone = |outcome: Outcome, why: String| {
            report.outcome = outcome;
            report.notes.push(why);
            Ok(Begun::Not(Box::new(report.clone())))
        };
        let Some(lease) = ctx.state.lease(name).await? else {
            return left_alone(Outcome::Busy, "another run holds it".to_owned());
        };
        let replay = match &ctx.config.behaviour.reparse {
            Some(folder) => Some(Archive::at(folder).by_address(name)?),
            None => None,
        };
        let mut state = ctx.state.source(name).await?;
        // Versions before kept addresses as they were.
        let validators = std::mem::take(&mut state.validators);
        state.validators =
            validators.into_iter().map(|(url, one)| (remembered_text(url), one)).collect();
        if replay.is_none() && state.gone {
            let why = "it said that it is gone for good; enable it again if it is back";
            return left_alone(Outcome::Gone, why.to_owned());
        }
        let now = ctx.now();
        let waits = state.next_allowed.filter(|allowed| now < *allowed);
        if let (None, Some(allowed)) = (&replay, waits) {
            if is_believed(allowed, now, WAIT_MAX) {
                let why = format!("it asked not to be asked before {allowed}");
                return left_alone(Outcome::Waiting, why);
            }
            let why = format!("its wait until {allowed} was set under another clock, and ends now");
            report.notes.push(why);
            state.next_allowed = None;
        }
        // News of the future would hide for long that there are none.
        if state.last_new.is_some_and(|news| !is_believed(news, now, SKEW_MAX)) {
            state.last_new = Some(now);
        }
        let (mut lost, mut identities) = (Vec::new(), BTreeMap::new());
        for index in &indices {
            let earlier = state.stores.get(index.name).cloned();
            let earlier =
                earlier.and_then(|earlier| serde_json::from_value::<Identity>(earlier).ok());
            let (identity, is_lost) = ctx.identity(index, earlier.as_ref()).await?;
            if is_lost {
                lost.push(index.name);
            }
            identities.insert(index.name, identity);
        }
        if !lost.is_empty() {
            state.validators.clear();
            state.cursor = None;
            report.notes.push(format!(
                "`{}` was emptied or replaced since the last visit: all is read again",
                lost.join("`, `")
            ));
        }
        Ok(Begun::Visit(Box::new(Visit {
            ctx,
            lease,
            identities,
            state,
            report,
            counts: BTreeMap::new(),
            rejects: Vec::new(),
            ledger: Vec::new(),
            misfits: BTreeMap::new(),
            limits: VisitLimits::DEFAULT,
            given: Used::default(),
            beyond: 0,
            secrets: BTreeSet::new(),
            alive: Arc::new(()),
            failed: 0,
            started: Instant::now(),
            answered: HashSet::new(),
            not_modified: 0,
            bodies: 0,
            reading_since: None,
            pending: Vec::new(),
            reached: None,
            has_saved: false,
            was_late: false,
            replay,
        })))
    }

    /// The run's context.
    pub fn ctx(&self) -> &'a Ctx {
        self.ctx
    }

    /// Stores documents, and counts each by what became of it; one outcome for each, in order. What the store refuses for good
    /// is a reject and holds nothing up; what failed keeps the cursor where it is. Beyond the [limits](VisitLimits) of the visit
    /// and of the run nothing is stored: it counts as filtered, and the report says so.
    ///
    /// # Errors
    /// `Store`, when none of the batch could be written.
    pub async fn store(
        &mut self,
        index: &'static Index,
        writes: &[Write],
    ) -> Result<Vec<Written>, Stop> {
        if !self.takes(index, writes.len()) {
            return Ok(vec![Written::Filtered; writes.len()]);
        }
        let written = self.write(index, writes).await?;
        self.count(index, writes, &written);
        Ok(written)
    }

    /// Begins to store documents as [`store`](Self::store) does, while the visit goes on; what became of them is told to
    /// [`stored`](Self::stored), without which nothing of it is counted.
    pub fn begin_to_store(&mut self, index: &'static Index, writes: Vec<Write>) -> Storing {
        let mut writing = JoinSet::new();
        let beyond = match self.takes(index, writes.len()) {
            false => writes.len(),
            true => {
                let (store, now) = (Arc::clone(&self.ctx.store), self.ctx.now());
                let keep = self.ctx.config.stores.keep_days.clone();
                writing.spawn(async move {
                    let asked = FittedWrites::of(index, &writes, &keep, now);
                    let written = asked.write(store.as_ref(), index).await?;
                    let FittedWrites { bytes, misfits, .. } = asked;
                    Ok(Stored { writes, written, bytes, misfits })
                });
                0
            }
        };
        Storing { index, beyond, writing, came: None }
    }

    /// Waits until documents are stored, and counts each by what became of it.
    ///
    /// # Errors
    /// `Store`, when none of them could be written.
    pub async fn stored(&mut self, mut storing: Storing) -> Result<Vec<Written>, Stop> {
        storing.over().await;
        let Storing { index, came, .. } = storing;
        let Some(stored) = came else {
            return Ok(vec![Written::Filtered; storing.beyond]);
        };
        let stored = stored
            .map_err(|cause| Error::store(format!("write to `{}`", index.name)).because(cause))?;
        let Stored { writes, written, bytes, misfits } = stored?;
        self.note_fit(index, bytes, misfits);
        self.keep_ledger(index, &writes, &written);
        self.count(index, &writes, &written);
        Ok(written)
    }

    /// Whether so many more items are within the limits; else they count as filtered.
    fn takes(&mut self, index: &'static Index, items: usize) -> bool {
        let items = items as u64;
        if self.is_full() {
            self.beyond += items;
            self.counts.entry(index.name).or_default().filtered += items;
            return false;
        }
        self.given.add(items, 0);
        self.ctx.given.add(items, 0);
        true
    }

    fn count(&mut self, index: &'static Index, writes: &[Write], written: &[Written]) {
        for (write, outcome) in writes.iter().zip(written) {
            let counts = self.counts.entry(index.name).or_default();
            match outcome {
                Written::New => counts.new += 1,
                Written::Changed => counts.changed += 1,
                Written::Unchanged => counts.unchanged += 1,
                Written::Filtered => counts.filtered += 1,
                Written::Failed(_) => counts.failed += 1,
                Written::Rejected(reason) => {
                    counts.rejected += 1;
                    self.show_reject(format!("document {}: {reason}", write.id));
                }
            }
        }
    }

    /// Adds to documents that are there already, beside the items that were found: links between them, for one. Nothing is
    /// counted; gives how many were written.
    ///
    /// # Errors
    /// `Store`, when one could not be written.
    pub async fn amend(&mut self, index: &'static Index, writes: &[Write]) -> Result<u64, Stop> {
        let mut count = 0;
        for batch in writes.chunks(AMEND_BATCH) {
            for outcome in self.write(index, batch).await? {
                match outcome {
                    Written::New | Written::Changed => count += 1,
                    Written::Unchanged | Written::Filtered => {}
                    Written::Failed(reason) | Written::Rejected(reason) => {
                        let error =
                            Error::store(format!("amend documents of `{}`: {reason}", index.name));
                        return Err(error.hint("the next run does it again").into());
                    }
                }
            }
        }
        Ok(count)
    }

    /// Writes what its index takes, by form and by age, and keeps the ledger.
    async fn write(&mut self, index: &'static Index, writes: &[Write]) -> Result<Vec<Written>> {
        let asked =
            FittedWrites::of(index, writes, &self.ctx.config.stores.keep_days, self.ctx.now());
        let written = asked.write(self.ctx.store.as_ref(), index).await;
        let FittedWrites { bytes, misfits, .. } = asked;
        self.note_fit(index, bytes, misfits);
        let written = written?;
        self.keep_ledger(index, writes, &written);
        Ok(written)
    }

    /// Takes note of how large items were, and of what their fields did not take.
    fn note_fit(&mut self, index: &'static Index, bytes: u64, misfits: Misfits) {
        self.given.add(0, bytes);
        self.ctx.given.add(0, bytes);
        for (field, misfit) in misfits {
            let all = self.misfits.entry((index.name, field)).or_default();
            all.too_large += misfit.too_large;
            all.wrong_type += misfit.wrong_type;
        }
    }

    fn keep_ledger(&mut self, index: &'static Index, writes: &[Write], written: &[Written]) {
        for (write, outcome) in writes.iter().zip(written) {
            let (kind, reason) = match outcome {
                Written::Failed(reason) => (LedgerKind::Failed, reason),
                Written::Rejected(reason) => (LedgerKind::Rejected, reason),
                Written::New | Written::Changed => {
                    // The store is at least this far from now on: an older state of it is told by that.
                    if let Some(identity) = self.identities.get_mut(index.name) {
                        identity.sequence += 1;
                        identity.documents += u64::from(*outcome == Written::New);
                    }
                    continue;
                }
                Written::Unchanged | Written::Filtered => continue,
            };
            self.failed += u64::from(kind == LedgerKind::Failed);
            if self.ledger.len() < LEDGER_MAX {
                let (id, reason) = (write.id.clone(), self.hidden(reason));
                self.ledger.push(LedgerItem { id, reason, kind });
            }
        }
    }

    /// How far the source was stored by earlier visits, as its family wrote it; nothing where it cannot be read as such.
    pub fn cursor<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_value(self.state.cursor.clone()?).ok()
    }

    /// Moves the cursor now: all that it stands for is stored. While an item of this visit failed it stays where it was, so
    /// that the item is read again. A run that is cut off or killed after this goes on from here.
    ///
    /// # Errors
    /// `Store`, when the state cannot be written, or a later attempt holds the source.
    pub async fn save(&mut self, cursor: Value) -> Result<(), Stop> {
        if self.failed > 0 || self.replay.is_some() {
            return Ok(());
        }
        self.state.cursor = Some(cursor);
        self.has_saved = true;
        Ok(self.save_state().await?)
    }

    async fn save_state(&mut self) -> Result<()> {
        let stores =
            self.identities.iter().map(|(index, identity)| ((*index).to_owned(), json!(identity)));
        self.state.stores.extend(stores);
        self.ctx.state.save_source(&self.lease, &self.state).await
    }

    /// How far the source is stored when this visit ends well; nothing is written before.
    pub fn reach(&mut self, cursor: Value) {
        self.reached = Some(cursor);
    }

    /// Whether it is time to stop, or a limit of the visit or the run is reached: what is not begun now is for the continuation.
    pub fn is_late(&mut self) -> bool {
        self.was_late |= self.is_full();
        self.is_cut_off()
    }

    /// Whether time ran out, so that what a parser gave may be no whole: nothing is concluded from what is missing in it.
    pub fn is_cut_off(&mut self) -> bool {
        self.was_late |= self.ctx.deadline.is_past();
        self.was_late
    }

    fn is_full(&self) -> bool {
        self.given.is_full(self.limits) || self.ctx.is_full()
    }

    pub(crate) fn limit_to(&mut self, limits: VisitLimits) {
        self.limits = limits;
    }

    /// What a parser on a thread of its own asks between its steps.
    pub fn cutoff(&self) -> Cutoff {
        Cutoff::new(self.ctx.deadline, &self.alive)
    }

    /// Whether this visit brought its source any further.
    pub(crate) fn has_progressed(&self) -> bool {
        self.has_saved || self.counts.values().any(|counts| counts.new + counts.changed > 0)
    }

    /// For how long it has been at what came last; nothing while it waits for the source.
    pub(crate) fn has_read_for(&self) -> Option<Duration> {
        self.reading_since.map(|came| came.elapsed())
    }

    /// Counts items that the source gave for this index, readable or not.
    pub fn found(&mut self, index: &'static Index, items: u64) {
        self.counts.entry(index.name).or_default().found += items;
    }

    /// Counts items that went into another item's document.
    pub fn merged(&mut self, index: &'static Index, items: u64) {
        self.counts.entry(index.name).or_default().merged += items;
    }

    /// Counts items that a rule leaves out.
    pub fn filtered(&mut self, index: &'static Index, items: u64) {
        self.counts.entry(index.name).or_default().filtered += items;
    }

    /// Counts items that are known to be stored and equal without being written again.
    pub fn unchanged(&mut self, index: &'static Index, items: u64) {
        self.counts.entry(index.name).or_default().unchanged += items;
    }

    /// Counts an item that is malformed; the first of them stand in the report.
    pub fn reject(&mut self, index: &'static Index, reason: impl Into<String>) {
        self.rejected(index, 1);
        self.show_reject(reason);
    }

    /// Counts malformed items whose reasons are shown by [`show_reject`](Self::show_reject), or not at all.
    pub fn rejected(&mut self, index: &'static Index, items: u64) {
        self.counts.entry(index.name).or_default().rejected += items;
    }

    /// Shows the reason of a reject that is counted elsewhere.
    pub fn show_reject(&mut self, reason: impl Into<String>) {
        if self.rejects.len() < Report::REJECTS_SHOWN {
            let reason: String = reason.into();
            let reason = self.hidden(&reason);
            let shown = reason.chars().filter(|letter| *letter != '\0').take(REASON_LETTERS);
            self.rejects.push(shown.collect());
        }
    }

    /// Items that visits noted as refused, with how often.
    ///
    /// # Errors
    /// `Store`, when the ledger cannot be read.
    pub async fn noted(&self) -> Result<Vec<Retry>> {
        let most = u32::try_from(LEDGER_ROWS).unwrap_or(u32::MAX);
        self.ctx.state.ledger(self.lease.name(), LedgerKind::Rejected, most).await
    }

    /// Notes now that an item could not be done, so that it is known also when the run is killed; counts one try.
    ///
    /// # Errors
    /// `Store`, when the ledger cannot be written, or a later attempt holds the source.
    pub async fn note_refused(&self, id: String, reason: String) -> Result<()> {
        let item = LedgerItem { id, reason: self.hidden(&reason), kind: LedgerKind::Rejected };
        self.ctx.state.note_items(&self.lease, &[item], false, self.ctx.now()).await
    }

    /// What became of the items of an index so far.
    pub fn counts(&self, index: &'static Index) -> Counts {
        self.counts.get(index.name).copied().unwrap_or_default()
    }

    /// Takes over what an earlier visit counted, where nothing changed since.
    pub fn recount(&mut self, index: &'static Index, counts: Counts) {
        self.counts.insert(index.name, counts);
    }

    /// The reasons of rejects that are shown so far.
    pub fn rejects(&self) -> &[String] {
        &self.rejects
    }

    /// Notes something worth knowing that is no failure, once.
    pub fn note(&mut self, note: impl Into<String>) {
        let note: String = note.into();
        let note = self.hidden(&note);
        if self.report.notes.len() < NOTES_MAX && !self.report.notes.contains(&note) {
            self.report.notes.push(note);
        }
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
    pub(crate) async fn end(mut self: Box<Self>, work: Result<(), Stop>) -> Result<Ended> {
        let now = self.ctx.now();
        let before = (self.state.failures, self.state.last_error.clone());
        let found: u64 = self.counts.values().map(|counts| counts.found).sum();
        // What was not tried again has not been repaired: where the source was not read to its end, or only from its cursor on.
        let is_read = work.is_ok() && found > 0;
        let is_whole = is_read && self.state.cursor.is_none() && self.reached.is_none();
        // The cursor stood still for what failed, so all of that was tried again.
        let is_repaired = is_read && !is_whole && self.failed == 0 && self.state.failures > 0;
        let first_failed = self.ledger.iter().find(|item| item.kind == LedgerKind::Failed);
        let work = work.and_then(|()| match first_failed {
            None => Ok(()),
            Some(item) => Err(Stop::from(
                Error::store(format!("store {} of {found} items: {}", self.failed, item.reason))
                    .hint("they are in the retry ledger, and the source is read again next time"),
            )),
        });
        self.tell_what_is_not_whole();
        let work = match self.secrets.is_empty() {
            true => work,
            false => work.map_err(|stop| stop.reworded(|text| self.hidden(text))),
        };
        self.state.last_attempt = Some(now);
        match work {
            Ok(()) => self.succeed(now),
            Err(stop) if stop.outcome == Outcome::Deferred => self.report.outcome = stop.outcome,
            Err(stop) if stop.outcome == Outcome::Skipped => {
                self.report.outcome = stop.outcome;
                self.report.notes.push(stop.error.to_string());
            }
            Err(stop) => self.fail(now, &stop),
        }
        // A failure between reading an item and storing it must not lose the count of it.
        let is_cut = self.report.problem.is_some() || self.report.outcome == Outcome::Deferred;
        for counts in self.counts.values_mut() {
            let accounted = counts.accounted_for();
            if is_cut && accounted < counts.found {
                counts.deferred += counts.found - accounted;
            }
            self.report.counts += counts.balanced()?;
        }
        if self.counts.len() > 1 {
            let by_index = self.counts.iter().map(|(name, counts)| ((*name).to_owned(), *counts));
            self.report.by_index = by_index.collect();
        }
        self.report.resumes = self.has_saved && self.report.outcome == Outcome::Deferred;
        self.report.took_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.state.last_outcome = Some(self.report.outcome.name().to_owned());
        let mut unsettled = None;
        if self.replay.is_none() {
            self.ctx.state.note_items(&self.lease, &self.ledger, is_whole, now).await?;
            let (new, bytes) = (self.report.counts.new, self.report.bytes);
            let sum = VisitSum { failed: self.report.problem.is_some(), new, bytes };
            self.ctx.state.note_visit(self.lease.name(), sum, now).await?;
            if is_repaired {
                self.ctx.state.forget(self.lease.name(), LedgerKind::Failed).await?;
            }
            if self.report.outcome == Outcome::Unresolved {
                unsettled = Some(Unsettled { lease: self.lease, state: self.state, before });
            } else {
                self.save_state().await?;
            }
        }
        let source = self.report.source.clone();
        let rejects = self.rejects.into_iter();
        let rejects = rejects.map(|reason| Reject { source: source.clone(), reason }).collect();
        Ok(Ended { report: self.report, rejects, unsettled })
    }

    /// Remembers what a request holds that nobody may see, whatever the source makes of it.
    pub(super) fn note_secrets(&mut self, request: &Request<'_>) {
        if self.secrets.len() < SECRETS_MAX {
            self.secrets.extend(request.secrets());
        }
    }

    fn hidden(&self, text: &str) -> String {
        hidden(text, self.secrets.iter().map(String::as_str))
    }

    /// Notes what was not stored as it came.
    fn tell_what_is_not_whole(&mut self) {
        if self.beyond > 0 {
            let VisitLimits { items, bytes } =
                if self.given.is_full(self.limits) { self.limits } else { STEP };
            self.note(format!(
                "the last {} items are not stored: the limit is {items} items or {} MiB, and those before them reached it",
                self.beyond,
                bytes >> 20
            ));
        }
        for ((_, field), misfit) in std::mem::take(&mut self.misfits) {
            let mut told = |count: u64, what: &str| {
                if count > 0 {
                    self.note(format!("`{field}` {what} in {count} of the items"));
                }
            };
            told(misfit.too_large, "was longer than its limit and is not whole");
            told(misfit.wrong_type, "had a value of another type, which is left out,");
        }
    }

    fn succeed(&mut self, now: Timestamp) {
        let sum = |of: fn(&Counts) -> u64| self.counts.values().map(of).sum::<u64>();
        let (new, changed) = (sum(|counts| counts.new), sum(|counts| counts.changed));
        // On the first visit everything is new, and only the items' own dates say how fresh it is.
        if new > 0 && (self.state.last_success.is_some() || self.state.last_new.is_none()) {
            self.state.last_new = Some(now);
        }
        self.report.outcome = if new + changed > 0 {
            Outcome::Stored
        } else if self.not_modified > 0 && self.bodies == 0 {
            Outcome::NotModified
        } else {
            Outcome::Unchanged
        };
        self.keep_validators();
        if let Some(cursor) = self.reached.take() {
            self.state.cursor = Some(cursor);
        }
        if self.state.last_success.is_none() {
            self.state.first_success = Some(now);
        }
        self.state.last_success = Some(now);
        self.state.failing_since = None;
        self.state.last_error = None;
        self.state.failures = 0;
        self.state.next_allowed = None;
    }

    /// Those of this visit, the first before the later ones, and of those before as many as are kept.
    fn keep_validators(&mut self) {
        let before = std::mem::take(&mut self.state.validators);
        let pending = std::mem::take(&mut self.pending);
        let is_new = |url: &String| pending.iter().any(|(new, _)| new == url);
        let (unchanged, others): (Vec<_>, Vec<_>) = before
            .into_iter()
            .filter(|(url, _)| !is_new(url))
            .partition(|(url, _)| self.answered.contains(&digest(url)));
        let all = unchanged.into_iter().chain(pending).chain(others);
        let named = all.filter(|(_, validators)| !validators.is_empty());
        self.state.validators = named.take(VALIDATORS_MAX).collect();
    }

    fn fail(&mut self, now: Timestamp, stop: &Stop) {
        self.report.outcome = stop.outcome;
        self.report.problem = Some(Problem::from(&stop.error));
        if self.state.failures == 0 {
            self.state.failing_since = Some(now);
        }
        self.state.failures += 1;
        self.state.last_error = Some(stop.error.chain());
        self.state.next_allowed = stop.wait().and_then(|wait| now.checked_add(wait).ok());
    }
}

/// What an address is remembered by within a visit: the first half of its SHA-256.
pub(super) fn digest(url: &str) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(url.as_bytes())[..16]);
    half
}

/// A visit that is over.
pub(crate) struct Ended {
    pub(crate) report: SourceReport,
    pub(crate) rejects: Vec<Reject>,
    /// How the source fares, where that is not for its visit to say.
    pub(crate) unsettled: Option<Unsettled>,
}

impl Ended {
    /// A visit that was not begun.
    pub(crate) fn unbegun(report: SourceReport) -> Self {
        Self { report, rejects: Vec::new(), unsettled: None }
    }
}

/// A source whose name has no address: it may be misspelled, or the network is down, which the run knows at its end.
pub(crate) struct Unsettled {
    lease: Lease,
    state: SourceState,
    /// Its failures and its last error before this visit.
    before: (u32, Option<String>),
}

impl Unsettled {
    /// Notes how the source fares; while the network is down, that is as before.
    ///
    /// # Errors
    /// `Store`, when the state cannot be written.
    pub(crate) async fn settle(mut self, ctx: &Ctx, is_offline: bool) -> Result<()> {
        if is_offline {
            (self.state.failures, self.state.last_error) = self.before;
        }
        ctx.state.save_source(&self.lease, &self.state).await
    }
}
