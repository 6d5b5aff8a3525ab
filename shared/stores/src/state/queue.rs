//! The runner's queue: what is due, what is being run, what failed for good (dead letters).

use async_trait::async_trait;
use base::Result;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::Held;

/// Where a queued invocation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueState {
    /// Waits for its time.
    Queued,
    /// Is being run.
    Running,
    /// Was answered.
    Done,
    /// Failed for good.
    Dead,
}

impl QueueState {
    /// The name in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }

    /// The state behind a name of the ledger.
    pub fn named(name: &str) -> Self {
        match name {
            "running" => Self::Running,
            "done" => Self::Done,
            "dead" => Self::Dead,
            _ => Self::Queued,
        }
    }
}

/// An invocation to be queued.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Its id, the same over all attempts.
    pub request_id: String,
    /// The task.
    pub task: String,
    /// The event it is invoked with.
    pub event: Value,
    /// Not before this instant.
    pub due: Timestamp,
}

/// An invocation in the queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueueEntry {
    /// Its id, the same over all attempts.
    pub request_id: String,
    /// The task.
    pub task: String,
    /// The event it is invoked with.
    pub event: Value,
    /// Not before this instant.
    pub due: Timestamp,
    /// Attempts that have begun.
    pub attempts: u32,
    /// Where it stands.
    pub state: QueueState,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// An invocation that was taken: nobody else runs it while this lives.
pub struct Taken {
    /// The invocation.
    pub entry: QueueEntry,
    pub(super) hold: Held,
}

/// The queue and the timetable's marks.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Advances a row's mark from `seen` to `until` and queues its firings, together; `false` when another runner was
    /// first. A mark never goes back.
    async fn fire(
        &self,
        row: &str,
        seen: Option<Timestamp>,
        until: Timestamp,
        firings: &[Due],
    ) -> Result<bool>;

    /// How far a row's firings have been queued; `None` for a row that was never seen.
    async fn mark(&self, row: &str) -> Result<Option<Timestamp>>;

    /// Queues one invocation; a request id that is known already is left as it is.
    async fn enqueue(&self, due: &Due) -> Result<()>;

    /// Takes the oldest invocation that is due, as running.
    async fn take(&self, now: Timestamp) -> Result<Option<Taken>>;

    /// When the next queued invocation is due.
    async fn next_due(&self) -> Result<Option<Timestamp>>;

    /// Notes what came of an attempt: done, dead, or queued again for `due`. Refused when a later attempt has begun.
    async fn settle(
        &self,
        taken: Taken,
        state: QueueState,
        due: Option<Timestamp>,
        error: Option<&str>,
    ) -> Result<()>;

    /// Puts back what was being run by runners that died; gives how many. What a live runner holds stays.
    async fn recover(&self, now: Timestamp) -> Result<u64>;

    /// The queue by state, newest first.
    async fn queue(&self, state: QueueState, limit: u32) -> Result<Vec<QueueEntry>>;
}
