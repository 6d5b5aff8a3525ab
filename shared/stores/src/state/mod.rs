//! State: which runs there were, who holds what, how far each source has been stored, what waits to be run.
//!
//! A run is claimed before it starts and finished once; every write of its holder names a fencing number, so a holder that
//! was taken for dead cannot write over its successor.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use base::Result;
use base::config::Config;
use base::report::{Report, Status};
use base::validators::Validators;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

mod budgets;
mod db;
mod file_lock;
mod history;
mod ledger;
mod moving;
#[cfg(test)]
mod plans;
mod postgres;
mod queue;
mod slots;
mod sql;
mod sqlite;

pub use budgets::{BUDGETS_KEPT, BudgetKey, BudgetRow, Budgets, Reserve};
pub use history::{
    AttemptEnd, AttemptRow, HISTORY_KEPT, History, LOG_KEPT, LOG_MAX, Log, RUNNER_GONE, RunnerRow,
    SlotRow, SourceDay, VisitSum,
};
pub use ledger::{LEDGER_MAX, Ledger, LedgerItem, LedgerKind, Retry};
pub use moving::{Moving, Table};
pub use postgres::{About, Postgres, Timing};
pub use queue::{
    ClaimedInvocation, Due, ENDED_MAX, Firings, Overlap, Queue, QueueEntry, QueueLimit, QueueState,
};
pub use slots::{HistoryQuery, Missed, MissedSlot};
pub use sql::Sql;
pub use sqlite::Sqlite;

/// Opens the state that the settings name: PostgreSQL where `DATABASE_URL` is set, else a file of the data folder.
///
/// # Errors
/// `Config` or `Store`, when it cannot be opened.
pub async fn open(config: &Config) -> Result<Arc<dyn State>> {
    Ok(match &config.stores.database_url {
        Some(address) => {
            let log_stream = config.behaviour.log_stream.as_deref();
            Arc::new(Postgres::open_as(address, log_stream).await?)
        }
        None => {
            let (folder, max_mb) = (config.data_dir()?, config.stores.data_max_mb);
            Arc::new(Sqlite::open_within(&folder, max_mb).await?)
        }
    })
}

/// State that is looked at and not changed.
pub enum Looked<T> {
    /// It is there, to be read.
    Ready(T),
    /// Nothing is there yet: what opens it for writing makes it.
    Missing,
    /// It is of an older version: what opens it for writing brings it up to date.
    Older,
}

/// What makes two invocations the same run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A scheduled run: its slot. A second delivery, a retry and a redriven dead letter all carry it.
    Slot(Timestamp),
    /// A run on demand: its request id, which the platform keeps over retries.
    Request(String),
}

impl Identity {
    /// The key under which the run is stored.
    pub fn key(&self) -> String {
        match self {
            Self::Slot(slot) => format!("slot {slot}"),
            Self::Request(id) => format!("request {id}"),
        }
    }

    /// The slot, for a scheduled run.
    pub fn slot(&self) -> Option<Timestamp> {
        match self {
            Self::Slot(slot) => Some(*slot),
            Self::Request(_) => None,
        }
    }
}

/// Whether a run may start.
pub enum Claim {
    /// It may, and this is the hold on it.
    Run(Box<Hold>),
    /// It may not: it is done, or another attempt is running.
    Skip(String),
}

/// The hold on a run: while it lives, no other attempt at the run starts.
pub struct Hold {
    /// The run's id, the same over attempts and continuations.
    pub run_id: String,
    pub task: String,
    /// The slot, for a scheduled run.
    pub slot: Option<Timestamp>,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// How many continuations came before this step.
    pub step: u32,
    /// The fencing number.
    pub fence: i64,
    /// What the run's first attempt was asked for; null for nothing. An older row has none, and takes that of the attempt.
    pub input: Value,
    /// Where to go on: of this run's earlier step, or of an orphan of the same task.
    pub checkpoint: Option<Value>,
    /// What the earlier steps of this run did.
    pub earlier: Option<Report>,
    _lock: Held,
}

/// What keeps others away from a name; dropping it releases it.
#[expect(dead_code, reason = "a file lock is held for its drop alone")]
enum Held {
    /// By a file that the kernel unlocks when the process dies.
    File(file_lock::FileLock),
    /// By a row that expires when nobody prolongs it.
    Row(postgres::RowHold),
}

/// The hold on one source.
pub struct Lease {
    name: String,
    fence: i64,
    _lock: Held,
}

impl Lease {
    /// What is held: a source's family and id.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// How far a source has been stored, and how it fares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct SourceState {
    /// What tells the next version from the one that was stored whole, by address; a visit keeps 64.
    #[serde(default)]
    pub validators: BTreeMap<String, Validators>,
    /// Which document store the validators and the cursor belong to, by index.
    #[serde(default)]
    pub stores: BTreeMap<String, Value>,
    /// Where the source says it has moved for good.
    pub moved_to: Option<String>,
    /// How far a source with a cursor of its own has been stored.
    pub cursor: Option<Value>,
    /// The first time it answered as it should; of a source that older versions knew, not known.
    pub first_success: Option<Timestamp>,
    /// The last time it was asked.
    pub last_attempt: Option<Timestamp>,
    /// The last time it answered as it should.
    pub last_success: Option<Timestamp>,
    /// The last time it had something new.
    pub last_new: Option<Timestamp>,
    /// Seconds that usually lie between two of its items, learned from their dates.
    pub usual_gap_s: Option<i64>,
    /// Failures since the last success.
    pub failures: u32,
    /// When the first of those was; where older versions counted it, not known.
    pub failing_since: Option<Timestamp>,
    /// It is not asked before this instant.
    pub next_allowed: Option<Timestamp>,
    /// It said that it is gone for good (410).
    pub gone: bool,
    /// What came of the last attempt, in a word.
    pub last_outcome: Option<String>,
    /// What went wrong last, kept until it works again.
    pub last_error: Option<String>,
}

impl Serialize for SourceState {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for SourceState {
    /// Reads also the form of before, which had the validators of one address in three fields.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut fields = serde_json::Map::deserialize(deserializer)?;
        let mut text = |name: &str| match fields.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let before = Validators { etag: text("etag"), last_modified: text("last_modified") };
        let url = text("url");
        let mut state =
            Self::deserialize(Value::Object(fields)).map_err(serde::de::Error::custom)?;
        if let Some(url) = url.filter(|_| !before.is_empty()) {
            state.validators.insert(url, before);
        }
        Ok(state)
    }
}

/// How a source fares, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Never asked, or asked for so short a time that its silence says nothing.
    New,
    /// It answers, and has news as often as usual.
    Ok,
    /// It answers, but has had nothing new for much longer than usual.
    Quiet,
    /// The last attempts failed.
    Failing,
    /// It said that it is gone for good.
    Gone,
}

impl Health {
    /// Every one, the worst first.
    pub const ALL: [Self; 5] = [Self::Gone, Self::Failing, Self::Quiet, Self::New, Self::Ok];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Ok => "ok",
            Self::Quiet => "quiet",
            Self::Failing => "failing",
            Self::Gone => "gone",
        }
    }
}

impl SourceState {
    /// Quiet means no news for this many usual gaps …
    pub const QUIET_GAPS: i64 = 4;
    /// … and for this long at least.
    pub const QUIET_MIN_S: i64 = 48 * 3600;

    /// How the source fares at `now`.
    pub fn health(&self, now: Timestamp) -> Health {
        if self.gone {
            return Health::Gone;
        }
        if self.failures > 0 {
            return Health::Failing;
        }
        if self.last_success.is_none() {
            return Health::New;
        }
        let limit = self.usual_gap_s.map(|gap| (gap * Self::QUIET_GAPS).max(Self::QUIET_MIN_S));
        match (self.last_new, limit) {
            (Some(news), Some(limit)) if now.duration_since(news).as_secs() > limit => {
                // What it had before it was first asked was not missed by anybody here.
                let is_new = self
                    .first_success
                    .is_some_and(|first| now.duration_since(first).as_secs() <= Self::QUIET_MIN_S);
                if is_new { Health::New } else { Health::Quiet }
            }
            _ => Health::Ok,
        }
    }

    /// Since when it fares as it does, where that is known and bad.
    pub fn since(&self, now: Timestamp) -> Option<Timestamp> {
        match self.health(now) {
            Health::Gone => self.failing_since.or(self.last_attempt),
            Health::Failing => self.failing_since.or(self.last_success),
            Health::Quiet => self.last_new,
            Health::New | Health::Ok => None,
        }
    }
}

/// What a person set for a source, above what the list says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Enabled or disabled; as the list says when unset.
    pub enabled: Option<bool>,
    /// The whole definition of a source that was added or edited, in the form of its family's list.
    pub definition: Option<Value>,
    /// Taken out of the list, whatever the list says.
    #[serde(default)]
    pub removed: bool,
}

/// A run as the ledger has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRow {
    pub run_id: String,
    pub task: String,
    /// The slot, for a scheduled run.
    pub slot: Option<Timestamp>,
    /// `running`, `continuing`, `interrupted` (its process died in it; the next attempt goes on) or how it ended.
    pub status: String,
    /// Tries so far.
    pub attempt: u32,
    /// When the last try began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// What it was asked for; null for nothing.
    pub input: Value,
    /// What it did.
    pub report: Option<Report>,
}

/// What is known of runs and sources, to read only: for a task, a report, a list.
#[async_trait]
pub trait StateReader: Send + Sync {
    /// The runs of a task, or of all, newest first.
    async fn runs(&self, task: Option<&str>, limit: u32) -> Result<Vec<RunRow>>;

    /// The runs that are meant, newest first; an outcome is their status.
    async fn runs_of(&self, query: &HistoryQuery<'_>) -> Result<Vec<RunRow>>;

    /// The runs whose id begins like this, newest first.
    async fn runs_named(&self, id: &str, limit: u32) -> Result<Vec<RunRow>>;

    /// The run that the invocation of this request id was about.
    async fn run_of(&self, request_id: &str) -> Result<Option<RunRow>>;

    /// What is known of a source; the default for one that is new.
    async fn source(&self, source: &str) -> Result<SourceState>;

    /// Every known source of a family, by its id.
    async fn sources(&self, family: &str) -> Result<Vec<(String, SourceState)>>;

    /// A family's overrides, by source id.
    async fn overrides(&self, family: &str) -> Result<Vec<(String, Override)>>;
}

/// The state that tasks and the runner keep. Every call is safe beside other processes.
#[async_trait]
pub trait State: StateReader + Queue + Moving + Ledger + Budgets + History {
    /// Claims a run: a first attempt, which keeps `input` with the run, or a new one after a failure or a death.
    async fn begin(
        &self,
        task: &str,
        identity: &Identity,
        input: &Value,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Claim>;

    /// Claims the continuation of a run at `step`; a doubled event finds it claimed.
    async fn resume(
        &self,
        run_id: &str,
        step: u32,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Claim>;

    /// Whether a run is over: nobody will take it up again. One that is refused to an attempt and is not done is held by another,
    /// which may have died before it wrote the run's row.
    async fn is_done(&self, task: &str, identity: &Identity) -> Result<bool>;

    /// Whether a run is past `step`, or is unknown here.
    async fn is_step_done(&self, run_id: &str, step: u32) -> Result<bool>;

    /// Stores where to go on, and releases the run so that its continuation can claim it. Gives the next step.
    async fn suspend(
        &self,
        hold: Hold,
        checkpoint: &Value,
        report: &Report,
        now: Timestamp,
    ) -> Result<u32>;

    /// Stores how a run ended, and releases it.
    async fn finish(&self, hold: Hold, report: &Report, now: Timestamp) -> Result<()>;

    /// Frees what a function's process held that is known to be dead, by its log stream: what comes after it need not wait until
    /// its holds expire.
    async fn release_dead(&self, log_stream: &str) -> Result<()>;

    /// Takes hold of a source (`family/id`); `None` when another holds it.
    async fn lease(&self, source: &str) -> Result<Option<Lease>>;

    /// Which of these sources (`family/id`) are held now.
    async fn held(&self, sources: &[String]) -> Result<Vec<String>>;

    /// Stores what is known of the source that the lease holds.
    async fn save_source(&self, lease: &Lease, state: &SourceState) -> Result<()>;

    /// Forgets what was stored of a source, so that it is read again from its beginning and at once: its validators, its
    /// cursor, and until when it asked to be left alone. Refused while another holds it.
    async fn reset_source(&self, source: &str) -> Result<()>;

    /// Sets or, with the default, forgets an override.
    async fn set_override(&self, family: &str, id: &str, word: &Override) -> Result<()>;
}

/// The status of a finished run in the ledger.
fn ended(report: &Report) -> &'static str {
    match report.status {
        Status::Complete | Status::Skipped => "complete",
        Status::Partial => "partial",
        Status::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_quiet_only_against_its_own_habit() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let state = |gap: i64| SourceState {
            last_success: Some(at("2026-03-10T00:00:00Z")),
            last_new: Some(at("2026-03-01T00:00:00Z")),
            usual_gap_s: Some(gap),
            ..SourceState::default()
        };
        let now = at("2026-03-10T00:00:00Z");
        assert_eq!(
            state(6 * 3600).health(now),
            Health::Quiet,
            "six-hourly news, nine days of silence"
        );
        assert_eq!(
            state(7 * 86_400).health(now),
            Health::Ok,
            "a weekly is silent for nine days without harm"
        );
        assert_eq!(SourceState::default().health(now), Health::New);
        let seen = |first: &str| SourceState { first_success: Some(at(first)), ..state(6 * 3600) };
        assert_eq!(seen("2026-03-09T00:00:00Z").health(now), Health::New, "added yesterday");
        assert_eq!(seen("2026-03-05T00:00:00Z").health(now), Health::Quiet, "and last week");
        assert_eq!(seen("2026-03-05T00:00:00Z").since(now), Some(at("2026-03-01T00:00:00Z")));
    }
}
