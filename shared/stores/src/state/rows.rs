//! What both SQL stores share: how their rows become ours, and the statements that both read alike.
//!
//! Each store still writes its own fifteen calls: one locks a file and a database with a single writer, the other compares
//! and sets in rows, and code generic over both would need six bounds a function to save a dozen short bodies.

use base::report::Report;
use base::{Error, Result};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use super::{Held, Hold, QueueEntry, QueueState, Retry, RunRow};

/// A run's row, as far as claiming it needs.
pub(super) const FOUND: &str = "SELECT run_id, task, identity, slot_ms, status, fence, attempt, step, checkpoint, report FROM runs";

/// The runs of a task that lost their process or their continuation, if nobody holds them; the newest last.
pub(super) const ORPHANS: &str =
    "SELECT identity, run_id, fence, checkpoint FROM runs WHERE task = $1
     AND status IN ('running', 'continuing') ORDER BY started_ms";

/// Ends such a run, unless it moved on.
pub(super) const ADOPT: &str =
    "UPDATE runs SET status = CASE WHEN checkpoint IS NULL THEN 'failed' ELSE 'partial' END,
     fence = fence + 1, checkpoint = NULL, finished_ms = $3
     WHERE run_id = $1 AND fence = $2 AND status IN ('running', 'continuing')";

/// One more attempt at a run under a higher fencing number, unless another was first, or it is done, or it went a step
/// further after it was read.
pub(super) const TAKE_OVER: &str = "UPDATE runs SET status = 'running', fence = fence + 1, attempt = attempt + 1, started_ms = $3, finished_ms = NULL, request_id = $4
     WHERE run_id = $1 AND fence = $2 AND step = $5 AND status NOT IN ('complete', 'partial')";

/// The first attempt at a run, unless another was first.
pub(super) const FIRST: &str = "INSERT INTO runs (run_id, task, identity, slot_ms, status, fence, attempt, step, checkpoint, started_ms, request_id)
     VALUES ($1, $2, $3, $4, 'running', 1, 1, 0, $5, $6, $7) ON CONFLICT DO NOTHING";

/// The run of an invocation.
pub(super) const RUN_OF: &str =
    "SELECT * FROM runs WHERE request_id = $1 ORDER BY started_ms DESC LIMIT 1";

/// The state of one source.
pub(super) const SOURCE: &str = "SELECT state FROM sources WHERE name = $1";

/// The states of a family's sources.
pub(super) const SOURCES: &str = "SELECT substr(name, length($1) + 2) AS id, state FROM sources WHERE name LIKE $1 || '/%' ORDER BY name";

/// A family's overrides.
pub(super) const OVERRIDES: &str = "SELECT id, word FROM overrides WHERE family = $1 ORDER BY id";

/// Forgets an override; the third value is not needed.
pub(super) const FORGET_OVERRIDE: &str = "DELETE FROM overrides WHERE family = $1 AND id = $2";

/// Sets an override.
pub(super) const SET_OVERRIDE: &str = "INSERT INTO overrides (family, id, word) VALUES ($1, $2, $3)
     ON CONFLICT (family, id) DO UPDATE SET word = excluded.word";

/// One item that failed, once more.
pub(super) const NOTE_FAILED: &str = "INSERT INTO retries (source, id, reason, attempts) VALUES ($1, $2, $3, 1)
     ON CONFLICT (source, id) DO UPDATE SET reason = excluded.reason, attempts = retries.attempts + 1";

/// The retry ledger of a source.
pub(super) const RETRIES: &str =
    "SELECT id, reason, attempts FROM retries WHERE source = $1 ORDER BY id";

/// Moves a mark from what was seen to a later instant; on PostgreSQL the condition is on the row as it is when it is locked,
/// so of several schedulers one moves it.
pub(super) const FIRE: &str = "INSERT INTO marks (row_name, until_ms)
     SELECT $1, $3 WHERE $2 IS NULL OR EXISTS (SELECT 1 FROM marks WHERE row_name = $1)
     ON CONFLICT (row_name) DO UPDATE SET until_ms = excluded.until_ms WHERE marks.until_ms = $2 AND excluded.until_ms > marks.until_ms";

/// How far a row's firings have been queued.
pub(super) const MARK: &str = "SELECT until_ms FROM marks WHERE row_name = $1";

/// Queues an invocation that is not known yet.
pub(super) const ENQUEUE: &str = "INSERT INTO invocations (request_id, task, event, due_ms, attempts, state) VALUES ($1, $2, $3, $4, 0, 'queued')
     ON CONFLICT DO NOTHING";

/// When the next invocation is due.
pub(super) const NEXT_DUE: &str =
    "SELECT MIN(due_ms) AS due_ms FROM invocations WHERE state = 'queued'";

/// What came of the attempt with this number.
pub(super) const SETTLE: &str = "UPDATE invocations SET state = $3, due_ms = COALESCE($4, due_ms), error = $5 WHERE request_id = $1 AND attempts = $2";

/// A row that gives text and numbers by name; both drivers' do.
pub(super) trait Columns {
    fn text(&self, column: &str) -> sqlx::Result<Option<String>>;
    fn number(&self, column: &str) -> sqlx::Result<Option<i64>>;
}

impl Columns for SqliteRow {
    fn text(&self, column: &str) -> sqlx::Result<Option<String>> {
        self.try_get(column)
    }

    fn number(&self, column: &str) -> sqlx::Result<Option<i64>> {
        self.try_get(column)
    }
}

impl Columns for PgRow {
    fn text(&self, column: &str) -> sqlx::Result<Option<String>> {
        self.try_get(column)
    }

    fn number(&self, column: &str) -> sqlx::Result<Option<i64>> {
        self.try_get(column)
    }
}

/// A run's row, as far as claiming it needs.
pub(super) struct Found {
    pub(super) run_id: String,
    pub(super) task: String,
    pub(super) identity: String,
    pub(super) slot: Option<Timestamp>,
    pub(super) status: String,
    pub(super) fence: i64,
    pub(super) attempt: i64,
    pub(super) step: i64,
    pub(super) checkpoint: Option<Value>,
    pub(super) report: Option<Report>,
}

impl Found {
    pub(super) fn read(row: &impl Columns) -> sqlx::Result<Self> {
        Ok(Self {
            run_id: text(row, "run_id")?,
            task: text(row, "task")?,
            identity: text(row, "identity")?,
            slot: instant(row, "slot_ms")?,
            status: text(row, "status")?,
            fence: number(row, "fence")?,
            attempt: number(row, "attempt")?,
            step: number(row, "step")?,
            checkpoint: json(row, "checkpoint")?,
            report: json(row, "report")?,
        })
    }

    /// The hold of the attempt that has taken the run over.
    pub(super) fn taken_over(self, lock: Held) -> Hold {
        Hold {
            run_id: self.run_id,
            task: self.task,
            slot: self.slot,
            attempt: small(self.attempt + 1),
            step: small(self.step),
            fence: self.fence + 1,
            earlier: if self.checkpoint.is_some() { self.report } else { None },
            checkpoint: self.checkpoint,
            _lock: lock,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.status.as_str(), "complete" | "partial")
    }
}

pub(super) fn run(row: &impl Columns) -> sqlx::Result<RunRow> {
    Ok(RunRow {
        run_id: text(row, "run_id")?,
        task: text(row, "task")?,
        slot: instant(row, "slot_ms")?,
        status: text(row, "status")?,
        attempt: small(number(row, "attempt")?),
        started: instant(row, "started_ms")?.unwrap_or_default(),
        finished: instant(row, "finished_ms")?,
        report: json(row, "report")?,
    })
}

pub(super) fn entry(row: &impl Columns) -> sqlx::Result<QueueEntry> {
    Ok(QueueEntry {
        request_id: text(row, "request_id")?,
        task: text(row, "task")?,
        event: json(row, "event")?.unwrap_or_default(),
        due: instant(row, "due_ms")?.unwrap_or_default(),
        attempts: small(number(row, "attempts")?),
        state: QueueState::named(&text(row, "state")?),
        error: row.text("error")?,
    })
}

pub(super) fn retry(row: &impl Columns) -> sqlx::Result<Retry> {
    Ok(Retry {
        id: text(row, "id")?,
        reason: text(row, "reason")?,
        attempts: small(number(row, "attempts")?),
    })
}

/// A row of an id and a JSON value, such as a source and its state.
pub(super) fn by_id<T: serde::de::DeserializeOwned + Default>(
    row: &impl Columns,
    column: &str,
) -> sqlx::Result<(String, T)> {
    Ok((text(row, "id")?, json(row, column)?.unwrap_or_default()))
}

pub(super) fn text(row: &impl Columns, column: &str) -> sqlx::Result<String> {
    Ok(row.text(column)?.unwrap_or_default())
}

pub(super) fn number(row: &impl Columns, column: &str) -> sqlx::Result<i64> {
    Ok(row.number(column)?.unwrap_or_default())
}

pub(super) fn instant(row: &impl Columns, column: &str) -> sqlx::Result<Option<Timestamp>> {
    row.number(column)?
        .map(Timestamp::from_millisecond)
        .transpose()
        .map_err(|cause| sqlx::Error::Decode(cause.into()))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(
    row: &impl Columns,
    column: &str,
) -> sqlx::Result<Option<T>> {
    row.text(column)?
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|cause| sqlx::Error::Decode(cause.into()))
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own types are JSON")
}

pub(super) fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Refuses a write whose holder has been succeeded.
pub(super) fn fenced(what: &str, rows: u64) -> Result<()> {
    if rows == 1 {
        return Ok(());
    }
    Err(Error::store(format!("write the state of {what}: a later attempt has taken it over"))
        .hint("nothing to do: the later attempt does the work"))
}
