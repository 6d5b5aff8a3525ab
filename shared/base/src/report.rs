//! What a run did, as data: the Lambda answer, the log line, the run row, the dashboard row and the tests show this one struct.
//!
//! Its numbers must balance: each item that was found is counted exactly once under what became of it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Class, Error, Result};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Everything that was to be done is done.
    Complete,
    /// Some sources failed, or a continuation carries on.
    Partial,
    /// Nothing was tried, for a stated reason.
    Skipped,
    /// Nothing could be done.
    Failed,
}

impl Status {
    /// The name in reports and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// What came of a visit to one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Not known yet.
    #[default]
    #[serde(rename = "")]
    Pending,
    /// Something new or changed was stored.
    Stored,
    /// It was read, and all of it was stored before.
    Unchanged,
    /// It said that nothing changed.
    NotModified,
    /// Another run holds it.
    Busy,
    /// It asked not to be asked yet.
    Waiting,
    /// It said that it is gone for good, now or before.
    Gone,
    /// Time ran out; a continuation goes on.
    Deferred,
    /// Left out because of another source.
    Skipped,
    /// A setting of it is missing or wrong.
    Misconfigured,
    /// Its store refused what it gave.
    NotStored,
    /// Time ran out without a continuation.
    OutOfTime,
    /// Reading what it sent took much of a step of a run and brought nothing new: no continuation is tried.
    TooCostly,
    /// Every key for it has used up its budget, or is blocked.
    BudgetSpent,

    // What a request can come to.
    /// No connection could be made.
    Unreachable,
    /// An address that must not be reached.
    Blocked,
    /// The request itself is wrong.
    InvalidRequest,
    /// Its name has no address.
    Unresolved,
    /// The connection was refused.
    Refused,
    /// The connection broke.
    Reset,
    /// The body ended early.
    Truncated,
    /// TLS failed.
    Tls,
    /// It sent something that is no HTTP.
    Malformed,
    /// It took longer than a limit.
    TimedOut,
    /// The body is larger than its limit.
    TooLarge,
    /// The body's encoding is broken.
    Undecodable,
    /// It redirects without end.
    TooManyRedirects,
    /// It redirects in a circle.
    RedirectLoop,
    /// It redirects from https to http.
    Downgraded,
    /// An endpoint that the operator set redirects.
    Redirected,
    /// Status 401 or 403.
    Unauthorized,
    /// Status 404.
    NotFound,
    /// Status 429, or 503 with a wait.
    RateLimited,
    /// Another status that is no answer.
    Status,

    // What a body can turn out to be.
    /// Nothing, or nothing of what the source is for.
    Empty,
    /// Much less than it gave before, so that nothing is believed to have left.
    Shrunk,
    /// A page for people.
    WebPage,
    /// Something that is no feed.
    NotAFeed,
    /// A page in which nothing is found where its posts used to be.
    LayoutChanged,
    /// Nested deeper than a limit.
    TooDeep,
    /// Malformed, or mostly so.
    Unreadable,
    /// A word of another version.
    #[serde(other)]
    Other,
}

impl Outcome {
    /// The word in reports and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "",
            Self::Stored => "stored",
            Self::Unchanged => "unchanged",
            Self::NotModified => "not_modified",
            Self::Busy => "busy",
            Self::Waiting => "waiting",
            Self::Gone => "gone",
            Self::Deferred => "deferred",
            Self::Skipped => "skipped",
            Self::Misconfigured => "misconfigured",
            Self::NotStored => "not_stored",
            Self::OutOfTime => "out_of_time",
            Self::TooCostly => "too_costly",
            Self::BudgetSpent => "budget_spent",
            Self::Unreachable => "unreachable",
            Self::Blocked => "blocked",
            Self::InvalidRequest => "invalid_request",
            Self::Unresolved => "unresolved",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Truncated => "truncated",
            Self::Tls => "tls",
            Self::Malformed => "malformed",
            Self::TimedOut => "timed_out",
            Self::TooLarge => "too_large",
            Self::Undecodable => "undecodable",
            Self::TooManyRedirects => "too_many_redirects",
            Self::RedirectLoop => "redirect_loop",
            Self::Downgraded => "downgraded",
            Self::Redirected => "redirected",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::RateLimited => "rate_limited",
            Self::Status => "status",
            Self::Empty => "empty",
            Self::Shrunk => "shrunk",
            Self::WebPage => "web_page",
            Self::NotAFeed => "not_a_feed",
            Self::LayoutChanged => "layout_changed",
            Self::TooDeep => "too_deep",
            Self::Unreadable => "unreadable",
            Self::Other => "other",
        }
    }

    /// Whether the source was read, or said that there is nothing new to read.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Stored | Self::Unchanged | Self::NotModified)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What became of the items that were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Items that the source gave, readable or not.
    pub found: u64,
    /// Stored for the first time.
    pub new: u64,
    /// Stored before, and changed by this run.
    pub changed: u64,
    /// Stored before, and equal: not written.
    pub unchanged: u64,
    /// Went into another item's document.
    pub merged: u64,
    /// Left out by a rule.
    pub filtered: u64,
    /// Malformed, or refused by the store for good, with a reason in `rejects`.
    pub rejected: u64,
    /// Could not be stored this time; they are in the retry ledger.
    pub failed: u64,
    /// Left for the continuation.
    pub deferred: u64,
}

impl Counts {
    /// Items of which it is known what became of them.
    pub fn accounted_for(self) -> u64 {
        self.new
            + self.changed
            + self.unchanged
            + self.merged
            + self.filtered
            + self.rejected
            + self.failed
            + self.deferred
    }

    /// Refuses numbers that do not balance.
    ///
    /// # Errors
    /// `Format`: an item was lost or counted twice, which is a bug of the task.
    pub fn balanced(self) -> Result<Self> {
        let told = self.accounted_for();
        if told == self.found {
            return Ok(self);
        }
        Err(Error::format(format!(
            "balance a report: `{}` items found, `{told}` accounted for: {self:?}",
            self.found
        ))
        .hint("this is a bug of the task: every item must be counted once"))
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.found += other.found;
        self.new += other.new;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
        self.merged += other.merged;
        self.filtered += other.filtered;
        self.rejected += other.rejected;
        self.failed += other.failed;
        self.deferred += other.deferred;
    }
}

/// A malformed item, or one that the store refuses for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// The source that gave it.
    pub source: String,
    /// What is wrong with it, and its first characters.
    pub reason: String,
}

/// What an error leaves in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What happens next.
    pub class: Class,
    /// The sentence, causes included.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// A store that could not be asked at all.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unreachable: bool,
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        Self {
            class: error.class(),
            message: error.chain(),
            hint: error.hint_text().map(ToOwned::to_owned),
            unreachable: error.is_unreachable(),
        }
    }
}

/// How one source fared in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// The source's id.
    pub source: String,
    /// The index its items went to; of several the first.
    pub index: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What went wrong, when something did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// Things worth knowing that are no failure, such as a repair or a suspected gap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What became of its items.
    #[serde(flatten)]
    pub counts: Counts,
    /// The same by index, where its items went to several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_index: BTreeMap<String, Counts>,
    /// A visit that was cut off after it moved its cursor: the next one goes on there and does not find these items again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resumes: bool,
    /// Bytes that came over the wire.
    pub bytes: u64,
    /// Requests that were sent.
    pub requests: u64,
    /// Milliseconds it took.
    pub took_ms: u64,
}

impl SourceReport {
    /// A source of which nothing is known yet.
    pub fn new(source: impl Into<String>, index: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            index: index.into(),
            outcome: Outcome::Pending,
            problem: None,
            notes: Vec::new(),
            counts: Counts::default(),
            by_index: BTreeMap::new(),
            resumes: false,
            bytes: 0,
            requests: 0,
            took_ms: 0,
        }
    }
}

impl SourceReport {
    /// Adds what an earlier visit of the same run did, which this one went on from.
    fn add(&mut self, earlier: &Self) {
        let done = |counts: &Counts| Counts {
            found: counts.found - counts.deferred,
            deferred: 0,
            ..*counts
        };
        self.counts += done(&earlier.counts);
        for (index, counts) in &earlier.by_index {
            *self.by_index.entry(index.clone()).or_default() += done(counts);
        }
        if self.outcome == Outcome::Unchanged && self.counts.new + self.counts.changed > 0 {
            self.outcome = Outcome::Stored;
        }
        // It may not even have begun: the next one still goes on from the earlier one.
        self.resumes |= self.outcome == Outcome::Deferred;
        self.notes.splice(0..0, earlier.notes.iter().cloned());
        self.bytes += earlier.bytes;
        self.requests += earlier.requests;
        self.took_ms += earlier.took_ms;
    }
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The task's name.
    pub task: String,
    /// The run's id, the same over its continuations and attempts.
    pub run_id: String,
    /// The instant that the run was scheduled for; none for a run on demand.
    pub slot: Option<Timestamp>,
    /// Which try at the run this was, from 1.
    pub attempt: u32,
    /// How it ended.
    pub status: Status,
    /// Why it was skipped, or what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What became of all items.
    #[serde(flatten)]
    pub counts: Counts,
    /// Each source by itself.
    pub sources: Vec<SourceReport>,
    /// The first ten rejects.
    pub rejects: Vec<Reject>,
    /// The error of a failed run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// Bytes that came over the wire.
    pub bytes: u64,
    /// Requests that were sent.
    pub requests: u64,
    /// Milliseconds it took.
    pub took_ms: u64,
    /// The step of the continuation that was sent, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continues: Option<u32>,
    /// Documents deleted at the end, as they were older than their index keeps.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pruned: u64,
    /// What the task has to say beyond this.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

impl Report {
    /// Rejects that a report shows; all are counted.
    pub const REJECTS_SHOWN: usize = 10;

    fn blank(status: Status) -> Self {
        Self {
            task: String::new(),
            run_id: String::new(),
            slot: None,
            attempt: 0,
            status,
            reason: None,
            counts: Counts::default(),
            sources: Vec::new(),
            rejects: Vec::new(),
            error: None,
            bytes: 0,
            requests: 0,
            took_ms: 0,
            continues: None,
            pruned: 0,
            detail: Value::Null,
        }
    }

    /// Adds up how the sources fared. Nothing read, or a store that refuses what was read, fails the run; some failing makes it
    /// partial; nothing to be asked now, such as sources that another run holds, skips it.
    ///
    /// # Errors
    /// `Format` when the numbers of a source do not balance.
    pub fn of_sources(mut sources: Vec<SourceReport>, mut rejects: Vec<Reject>) -> Result<Self> {
        let mut report = Self::blank(Status::Complete);
        for source in &sources {
            report.counts += source.counts.balanced()?;
            report.bytes += source.bytes;
            report.requests += source.requests;
        }
        let offline = offline(&sources);
        if let Some(problem) = &offline {
            // Said once for all of them.
            for source in sources.iter_mut().filter(|one| one.outcome == Outcome::Unresolved) {
                source.problem = None;
            }
            report.status = Status::Partial;
            report.reason = Some(problem.message.clone());
        }
        let problems: Vec<&SourceReport> =
            sources.iter().filter(|source| source.problem.is_some()).collect();
        if !problems.is_empty() {
            report.status = Status::Partial;
            let failed = format!("{} of {} sources failed", problems.len(), sources.len());
            report.reason = Some(match report.reason {
                Some(reason) => format!("{reason}; {failed} otherwise"),
                None => failed,
            });
        }
        let is_of =
            |outcomes: &[Outcome]| sources.iter().any(|one| outcomes.contains(&one.outcome));
        let not_stored: Vec<&SourceReport> =
            problems.iter().copied().filter(|one| one.outcome == Outcome::NotStored).collect();
        if let (Some(reason), false) = (&mut report.reason, not_stored.is_empty()) {
            reason.push_str(&format!(": the store did not take what {} gave", not_stored.len()));
        }
        let is_read = sources.iter().any(|source| source.outcome.is_read());
        let goes_on = is_of(&[Outcome::Deferred]);
        let problem = if !not_stored.is_empty() {
            Some(all_failed(&not_stored, sources.len(), |count| {
                format!("store what {count} sources gave")
            }))
        } else if is_read || (goes_on && problems.is_empty() && offline.is_none()) {
            None
        } else if let Some(problem) = offline {
            Some(problem)
        } else if !problems.is_empty() && !goes_on {
            Some(all_failed(&problems, sources.len(), |count| format!("read {count} sources")))
        } else if is_of(&[Outcome::Gone]) && !goes_on {
            Some(gone(&sources))
        } else {
            None
        };
        if let Some(problem) = problem {
            report.status = Status::Failed;
            report.reason.get_or_insert_with(|| problem.message.clone());
            report.error = Some(problem);
        } else if !is_read && !goes_on && !sources.is_empty() {
            report.status = Status::Skipped;
            report.reason = Some(nothing_to_ask(&sources));
        }
        rejects.truncate(Self::REJECTS_SHOWN);
        report.rejects = rejects;
        report.sources = sources;
        Ok(report)
    }

    /// A run that was not tried.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..Self::blank(Status::Skipped) }
    }

    /// A run that an error ended.
    pub fn failed(error: &Error) -> Self {
        Self {
            error: Some(error.into()),
            reason: Some(error.to_string()),
            ..Self::blank(Status::Failed)
        }
    }

    /// An answer without items, such as statistics.
    pub fn of_detail(detail: Value) -> Self {
        Self { detail, ..Self::blank(Status::Complete) }
    }

    /// Adds what the task has to say beyond the numbers, beside what was said before.
    #[must_use]
    pub fn with_detail(mut self, detail: Value) -> Self {
        match (&mut self.detail, detail) {
            (Value::Object(told), Value::Object(more)) => told.extend(more),
            (told, detail) => *told = detail,
        }
        self
    }

    /// Adds what earlier steps of the same run did, so that the last report tells the whole run.
    ///
    /// A source's later visit replaces the earlier one that left it for this step; where it went on from the earlier one's
    /// cursor, both count.
    ///
    /// # Errors
    /// `Format` when the numbers do not balance.
    pub fn after(self, earlier: Self) -> Result<Self> {
        let mut sources = self.sources;
        for old in earlier.sources {
            match sources.iter_mut().find(|new| new.source == old.source) {
                Some(new) if old.resumes => new.add(&old),
                Some(_) => {}
                None => sources.push(old),
            }
        }
        sources.sort_by(|one, other| one.source.cmp(&other.source));
        let rejects = earlier.rejects.into_iter().chain(self.rejects).collect();
        let whole = Self::of_sources(sources, rejects)?;
        Ok(Self { took_ms: earlier.took_ms + self.took_ms, detail: self.detail, ..whole })
    }

    /// Whether anything was read: a source, or part of one.
    pub fn has_read(&self) -> bool {
        let counts = self.counts;
        self.sources.iter().any(|source| source.outcome.is_read())
            || counts.new + counts.changed + counts.unchanged > 0
    }

    /// Whether something is missing that was to be read: a source failed, is gone for good or was not reached in time.
    pub fn has_failures(&self) -> bool {
        let is_missing = |one: &SourceReport| {
            one.problem.is_some()
                || matches!(one.outcome, Outcome::Gone | Outcome::Unresolved | Outcome::Deferred)
        };
        self.status == Status::Failed || self.sources.iter().any(is_missing)
    }

    /// Sources by what came of them.
    pub fn outcomes(&self) -> BTreeMap<&str, u64> {
        let mut outcomes = BTreeMap::new();
        for source in &self.sources {
            *outcomes.entry(source.outcome.name()).or_default() += 1;
        }
        outcomes
    }

    /// Documents that this run wrote.
    pub fn writes(&self) -> u64 {
        self.counts.new + self.counts.changed
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One problem for a run whose sources failed: of one class if they agree, else the source's side is to blame.
fn all_failed(failed: &[&SourceReport], of: usize, tried: impl Fn(String) -> String) -> Problem {
    let problems: Vec<&Problem> = failed.iter().filter_map(|one| one.problem.as_ref()).collect();
    let first = problems[0];
    let one_class = problems.iter().all(|problem| problem.class == first.class);
    let message = match problems.as_slice() {
        [only] if of == 1 => only.message.clone(),
        many => {
            let count = if many.len() == of {
                format!("any of {of}")
            } else {
                format!("{} of {of}", many.len())
            };
            format!("{}; the first: {}", tried(count), first.message)
        }
    };
    Problem {
        class: if one_class { first.class } else { Class::Upstream },
        message,
        hint: first.hint.clone(),
        unreachable: problems.iter().all(|problem| problem.unreachable),
    }
}

/// Host names without an address that may be misspelled; more of them, and most of all, are a network that is down.
const MISSPELLED_MAX: usize = 1;

/// The problem of a machine without a network: most sources that were asked have a name that does not resolve.
pub fn offline(sources: &[SourceReport]) -> Option<Problem> {
    let is_asked = |outcome: Outcome| {
        !matches!(
            outcome,
            Outcome::Pending
                | Outcome::Busy
                | Outcome::Waiting
                | Outcome::Gone
                | Outcome::Deferred
                | Outcome::Skipped
                | Outcome::Misconfigured
                | Outcome::BudgetSpent
        )
    };
    let asked = sources.iter().filter(|source| is_asked(source.outcome)).count();
    let unresolved = sources.iter().filter(|source| source.outcome == Outcome::Unresolved).count();
    if unresolved <= MISSPELLED_MAX || unresolved * 2 <= asked {
        return None;
    }
    Some(Problem {
        class: Class::Upstream,
        message: format!(
            "read the sources: the network is down, or its DNS: {unresolved} of {asked} host names have no address"
        ),
        hint: Some(
            "check this machine's connection; no source is blamed, and the next run asks all of them again"
                .to_owned(),
        ),
        unreachable: false,
    })
}

/// The problem of a run whose sources said that they are gone, and of which nothing else was read.
fn gone(sources: &[SourceReport]) -> Problem {
    let count = sources.iter().filter(|one| one.outcome == Outcome::Gone).count();
    Problem {
        class: Class::Upstream,
        message: format!("read anything: {count} of {} sources are gone for good", sources.len()),
        hint: Some(
            "disable them, or look for their new addresses: `local-runner sources list --health gone`"
                .to_owned(),
        ),
        unreachable: false,
    }
}

/// Why no source was to be asked now.
fn nothing_to_ask(sources: &[SourceReport]) -> String {
    let because = |outcome: Outcome| match outcome {
        Outcome::Busy => "held by another run",
        Outcome::Waiting => "asked to be left alone for now",
        Outcome::BudgetSpent => "without a key that may be used now",
        _ => "left out",
    };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for source in sources {
        *counts.entry(because(source.outcome)).or_default() += 1;
    }
    let parts: Vec<String> = counts.iter().map(|(why, count)| format!("{count} {why}")).collect();
    format!("no source was to be asked: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, counts: Counts, problem: Option<&Error>) -> SourceReport {
        SourceReport {
            counts,
            outcome: if problem.is_some() { Outcome::Refused } else { Outcome::Stored },
            problem: problem.map(Problem::from),
            ..SourceReport::new(name, "rss_articles")
        }
    }

    #[test]
    fn refuses_numbers_that_do_not_balance() {
        let lost = Counts { found: 3, new: 2, ..Counts::default() };
        let error = Report::of_sources(vec![source("a", lost, None)], vec![]).unwrap_err();
        assert_eq!(error.class(), Class::Format);
    }

    #[test]
    fn one_bad_source_makes_it_partial_and_all_bad_ones_fail_it() {
        let good = || source("good", Counts { found: 1, new: 1, ..Counts::default() }, None);
        let bad =
            || source("bad", Counts::default(), Some(&Error::upstream("read `x`: status `500`")));
        assert_eq!(
            Report::of_sources(vec![good(), bad()], vec![]).unwrap().status,
            Status::Partial
        );
        let failed = Report::of_sources(vec![bad(), bad()], vec![]).unwrap();
        assert_eq!((failed.status, failed.error.unwrap().class), (Status::Failed, Class::Upstream));
    }

    fn with_outcome(name: &str, outcome: Outcome, problem: Option<&Error>) -> SourceReport {
        SourceReport { outcome, ..source(name, Counts::default(), problem) }
    }

    #[track_caller]
    fn check(outcomes: &[Outcome], status: Status, class: Option<Class>) -> Report {
        let problem = |outcome| match outcome {
            Outcome::NotStored => Some(Error::store("write to an index that is read-only")),
            Outcome::Refused | Outcome::Unresolved => Some(Error::upstream("read `x`: no")),
            Outcome::Misconfigured => Some(Error::config("read `x`: no key")),
            _ => None,
        };
        let sources = outcomes.iter().enumerate().map(|(number, outcome)| {
            with_outcome(&number.to_string(), *outcome, problem(*outcome).as_ref())
        });
        let report = Report::of_sources(sources.collect(), vec![]).unwrap();
        let found = (report.status, report.error.as_ref().map(|problem| problem.class));
        assert_eq!(found, (status, class), "{outcomes:?}: {report:?}");
        report
    }

    #[test]
    fn a_run_that_read_nothing_or_lost_what_it_read_failed() {
        use Outcome::{
            Busy, Deferred, Gone, Misconfigured, NotModified, NotStored, Refused, Skipped, Stored,
            Unchanged, Waiting,
        };
        let mut nearly_all = vec![NotStored; 58];
        nearly_all.extend([NotModified, Gone]);
        check(&nearly_all, Status::Failed, Some(Class::Store));
        check(&[NotStored, Stored, Unchanged], Status::Failed, Some(Class::Store));
        check(&[Refused, Gone, Busy, Waiting], Status::Failed, Some(Class::Upstream));
        check(&[Refused, Misconfigured], Status::Failed, Some(Class::Upstream));
        check(&[Misconfigured, Skipped], Status::Failed, Some(Class::Config));
        check(&[Gone, Gone], Status::Failed, Some(Class::Upstream));
        check(&[Gone, Waiting], Status::Failed, Some(Class::Upstream));
        check(&[Refused, NotModified], Status::Partial, None);
        check(&[Refused, Deferred], Status::Partial, None);
        check(&[Gone, Unchanged], Status::Complete, None);
        check(&[Busy, Waiting], Status::Skipped, None);
        check(&[Deferred], Status::Complete, None);
        check(&[], Status::Complete, None);
    }

    #[test]
    fn a_network_that_is_down_is_one_sentence() {
        use Outcome::{Gone, NotModified, Refused, Unresolved};
        let mut outcomes = vec![Unresolved; 59];
        outcomes.push(Gone);
        let report = check(&outcomes, Status::Failed, Some(Class::Upstream));
        assert!(report.reason.as_ref().unwrap().contains("59 of 59 host names"), "{report:?}");
        assert!(report.sources.iter().all(|source| source.problem.is_none()), "{report:?}");
        // As it is when a later step is added to it.
        let report = Report::of_sources(report.sources, vec![]).unwrap();
        assert_eq!(report.status, Status::Failed);
        let some = check(&[Unresolved, Unresolved, NotModified], Status::Partial, None);
        assert!(some.reason.unwrap().contains("2 of 3 host names") && some.error.is_none());
        let one = check(&[Unresolved], Status::Failed, Some(Class::Upstream));
        assert!(!one.reason.unwrap().contains("network"), "one name may be misspelled");
        check(&[Unresolved, NotModified, Refused, Refused], Status::Partial, None);
    }

    #[test]
    fn a_later_step_replaces_what_it_was_left() {
        let deferred = source("late", Counts { found: 2, deferred: 2, ..Counts::default() }, None);
        let stored = source("late", Counts { found: 2, new: 2, ..Counts::default() }, None);
        let early = Report::of_sources(vec![deferred], vec![]).unwrap();
        let whole = Report::of_sources(vec![stored], vec![]).unwrap().after(early).unwrap();
        assert_eq!((whole.counts.found, whole.counts.new, whole.counts.deferred), (2, 2, 0));
    }
}
