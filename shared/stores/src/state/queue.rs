//! The runner's queue: what is due, what is being run, what failed for good (dead letters).

use async_trait::async_trait;
use base::Result;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::db::{Arg, Row, args, to_json};
use super::slots::{self, Missed, MissedSlot, SETTLE_SLOT};
use super::sql::{Driver, Sql, fenced};
use super::{Held, History as _};

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
    pub task: String,
    /// The event it is invoked with.
    pub event: Value,
    /// Not before this instant.
    pub due: Timestamp,
}

/// What becomes of a firing while the one before is queued or run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// It is missed.
    Skip,
    /// It waits for the other's end.
    #[default]
    Queue,
    /// Both are run.
    Allow,
}

/// What a row of the timetable comes to: slots that are run, and slots that are not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Firings {
    /// In the order of their instants, which are their slots.
    pub queued: Vec<Due>,
    pub missed: Vec<MissedSlot>,
    pub overlap: Overlap,
}

impl Firings {
    /// Slots that are all run.
    pub fn of(queued: &[Due]) -> Self {
        Self { queued: queued.to_vec(), ..Self::default() }
    }

    /// Whether nothing fell due.
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.missed.is_empty()
    }
}

/// An invocation in the queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueueEntry {
    /// Its id, the same over all attempts.
    pub request_id: String,
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
pub struct ClaimedInvocation {
    /// The invocation.
    pub entry: QueueEntry,
    pub(super) hold: Held,
}

/// How much may wait in the queue or be run from it at once.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimit {
    /// Invocations.
    pub rows: u32,
    /// Bytes of their events.
    pub bytes: u32,
}

/// How much of what ended is kept, of answered invocations and of dead letters each; the oldest beyond it is deleted.
pub const ENDED_MAX: QueueLimit = QueueLimit { rows: 10_000, bytes: 64 * 1024 * 1024 };

/// The queue and the timetable's marks.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Advances a row's mark from `seen` to `until`, notes its slots and queues those that are run, together; `false` when
    /// another runner was first. A mark never goes back.
    async fn fire(
        &self,
        row: &str,
        seen: Option<Timestamp>,
        until: Timestamp,
        firings: &Firings,
    ) -> Result<bool>;

    /// How far a row's firings have been queued; `None` for a row that was never seen.
    async fn mark(&self, row: &str) -> Result<Option<Timestamp>>;

    /// Takes back a mark that is ahead of `now`, where it still is `mark`, and what was fired for slots that are still to come:
    /// the clock was wrong. Those slots fire when they are due; the runs that there were of them stay, under another identity.
    async fn distrust(&self, row: &str, mark: Timestamp, now: Timestamp) -> Result<bool>;

    /// Queues one invocation; a request id that is known already is left as it is.
    async fn enqueue(&self, due: &Due) -> Result<()>;

    /// As [`enqueue`](Self::enqueue), unless that would be more than `limit`: then `false`, and nothing is queued.
    async fn enqueue_within(&self, due: &Due, limit: QueueLimit) -> Result<bool>;

    /// Whether one more, with so many bytes of event, would be within `limit`.
    async fn has_room(&self, bytes: usize, limit: QueueLimit) -> Result<bool>;

    /// Takes the oldest invocation that is due, as running.
    async fn take(&self, now: Timestamp) -> Result<Option<ClaimedInvocation>>;

    /// Notes what came of an attempt: done, dead, or queued again for `due`. Refused when a later attempt has begun.
    async fn settle(
        &self,
        taken: ClaimedInvocation,
        state: QueueState,
        due: Option<Timestamp>,
        error: Option<&str>,
    ) -> Result<()>;

    /// Puts back what was being run by runners that died, in its place before what fell due later; gives how many. What a live
    /// runner holds stays.
    async fn recover(&self, now: Timestamp) -> Result<u64>;

    /// Puts back an invocation that another attempt keeps from its work, for `due`; this attempt does not count.
    async fn put_back(&self, taken: ClaimedInvocation, due: Timestamp) -> Result<()>;

    /// Queues a dead letter again, for one more attempt; `false` where it is none.
    async fn redrive(&self, request_id: &str, now: Timestamp) -> Result<bool>;

    /// Takes an invocation that waits out of the queue, its slot missed for that reason; `false` where it does not wait.
    async fn revoke(&self, request_id: &str) -> Result<bool>;

    /// When the next of those that wait for their time is due.
    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>>;

    /// How many invocations are in a state.
    async fn queue_length(&self, state: QueueState) -> Result<u32>;

    /// The queue by state, newest first.
    async fn queue(&self, state: QueueState, limit: u32) -> Result<Vec<QueueEntry>>;
}

#[async_trait]
impl<D: Driver> Queue for Sql<D> {
    async fn fire(
        &self,
        row: &str,
        seen: Option<Timestamp>,
        until: Timestamp,
        firings: &Firings,
    ) -> Result<bool> {
        let failed = D::failed("advance the timetable");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        // On a server the condition is on the row as it is when it is locked, so of several schedulers one moves it.
        let moved = transaction
            .execute(
                "INSERT INTO marks (row_name, until_ms)
                 SELECT $1, $3 WHERE $2 IS NULL OR EXISTS (SELECT 1 FROM marks WHERE row_name = $1)
                 ON CONFLICT (row_name) DO UPDATE SET until_ms = excluded.until_ms
                     WHERE marks.until_ms = $2 AND excluded.until_ms > marks.until_ms",
                args![row, seen, until],
            )
            .await
            .map_err(&failed)?;
        if moved == 0 {
            return Ok(false);
        }
        let mut is_busy = false;
        if firings.overlap == Overlap::Skip && !firings.queued.is_empty() {
            let waits = "SELECT request_id FROM invocations WHERE task = $1 AND state IN ('queued', 'running') LIMIT 1";
            is_busy = !transaction.fetch(waits, args![row]).await.map_err(&failed)?.is_empty();
        }
        let missed = firings.missed.iter();
        let mut fired: Vec<_> =
            missed.map(|one| (one.request_id.as_str(), one.slot, Some(one.reason))).collect();
        for due in &firings.queued {
            fired.push((&due.request_id, due.due, is_busy.then_some(Missed::Overlapped)));
            if !is_busy {
                let mut args = due.args();
                args.push(i64::from(firings.overlap == Overlap::Queue).into());
                transaction.execute(ENQUEUE, args).await.map_err(&failed)?;
            }
            is_busy |= firings.overlap == Overlap::Skip;
        }
        slots::insert_slots(&mut transaction, row, &fired, until).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(true)
    }

    async fn mark(&self, row: &str) -> Result<Option<Timestamp>> {
        let sql = "SELECT until_ms FROM marks WHERE row_name = $1";
        let found = self
            .fetch("read the timetable's mark", sql, args![row], |row| row.instant("until_ms"))
            .await?;
        Ok(found.into_iter().next().flatten())
    }

    async fn distrust(&self, row: &str, mark: Timestamp, now: Timestamp) -> Result<bool> {
        let failed = D::failed("set the timetable's mark back");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let moved = transaction
            .execute(
                "UPDATE marks SET until_ms = $3 WHERE row_name = $1 AND until_ms = $2",
                args![row, mark, now],
            )
            .await
            .map_err(&failed)?;
        if moved == 0 {
            return Ok(false);
        }
        for statement in [
            "UPDATE runs SET identity = identity || ', before its time, ' || run_id
             WHERE task = $1 AND slot_ms > $2 AND status IN ('complete', 'partial', 'failed')",
            "DELETE FROM invocations WHERE task = $1 AND due_ms > $2 AND state <> 'running' AND substr(request_id, 1, length($1) + 1) = $1 || '-'",
            "DELETE FROM slots WHERE task = $1 AND slot_ms > $2",
        ] {
            transaction.execute(statement, args![row, now]).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(true)
    }

    async fn enqueue(&self, due: &Due) -> Result<()> {
        let mut args = due.args();
        args.push(0_i64.into());
        self.execute("queue an invocation", ENQUEUE, args).await.map(drop)
    }

    async fn enqueue_within(&self, due: &Due, limit: QueueLimit) -> Result<bool> {
        let what = "queue an invocation";
        let sql = format!(
            "INSERT INTO invocations (request_id, task, event, due_ms, attempts, state)
             SELECT $4, $5, $6, $7, 0, 'queued' WHERE {HAS_ROOM} ON CONFLICT DO NOTHING"
        );
        let values = due.args();
        let args = limit.args(to_json(&due.event).len()).into_iter().chain(values).collect();
        if self.execute(what, AssertSqlSafe(sql), args).await? > 0 {
            return Ok(true);
        }
        let known = "SELECT state FROM invocations WHERE request_id = $1";
        let known =
            self.fetch(what, known, args![&due.request_id], |row| row.text("state")).await?;
        Ok(!known.is_empty())
    }

    async fn has_room(&self, bytes: usize, limit: QueueLimit) -> Result<bool> {
        let sql = format!("SELECT 'yes' AS answer WHERE {HAS_ROOM}");
        let found = self
            .fetch("read the queue", AssertSqlSafe(sql), limit.args(bytes), |row| {
                row.text("answer")
            })
            .await?;
        Ok(!found.is_empty())
    }

    async fn take(&self, now: Timestamp) -> Result<Option<ClaimedInvocation>> {
        self.driver.take(&self.pool, now).await
    }

    async fn settle(
        &self,
        taken: ClaimedInvocation,
        state: QueueState,
        due: Option<Timestamp>,
        error: Option<&str>,
    ) -> Result<()> {
        let failed = D::failed("settle an invocation");
        let ClaimedInvocation { entry, hold } = taken;
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let settled = transaction
            .execute(
                "UPDATE invocations SET state = $3, due_ms = COALESCE($4, due_ms), error = $5 WHERE request_id = $1 AND attempts = $2",
                args![&entry.request_id, entry.attempts, state.name(), due, error],
            )
            .await
            .map_err(&failed)?;
        if settled == 1 {
            let args = args![&entry.request_id, state.name()];
            transaction.execute(SETTLE_SLOT, args).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        if matches!(state, QueueState::Done | QueueState::Dead) {
            self.trim(state).await?;
        }
        drop(hold);
        self.driver.release().await;
        fenced(&format!("invocation `{}`", entry.request_id), settled)
    }

    async fn recover(&self, now: Timestamp) -> Result<u64> {
        self.driver.release().await;
        let put_back = self.driver.recover(&self.pool, now).await?;
        self.end_interrupted(now).await?;
        Ok(put_back)
    }

    async fn put_back(&self, taken: ClaimedInvocation, due: Timestamp) -> Result<()> {
        let ClaimedInvocation { entry, hold } = taken;
        let sql = "UPDATE invocations SET state = 'queued', due_ms = $3, attempts = attempts - 1 WHERE request_id = $1 AND attempts = $2";
        let args = args![&entry.request_id, entry.attempts, due];
        let put_back = self.execute("put an invocation back", sql, args).await?;
        drop(hold);
        self.driver.release().await;
        fenced(&format!("invocation `{}`", entry.request_id), put_back)
    }

    async fn redrive(&self, request_id: &str, now: Timestamp) -> Result<bool> {
        let failed = D::failed("send a dead letter again");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let sql = "UPDATE invocations SET state = 'queued', due_ms = $2 WHERE request_id = $1 AND state = 'dead'";
        let sent = transaction.execute(sql, args![request_id, now]).await.map_err(&failed)?;
        if sent == 1 {
            let args = args![request_id, QueueState::Queued.name()];
            transaction.execute(SETTLE_SLOT, args).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(sent == 1)
    }

    async fn revoke(&self, request_id: &str) -> Result<bool> {
        let failed = D::failed("revoke an invocation");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let sql = "DELETE FROM invocations WHERE request_id = $1 AND state = 'queued'";
        let revoked = transaction.execute(sql, args![request_id]).await.map_err(&failed)?;
        if revoked == 1 {
            let sql = "UPDATE slots SET outcome = 'missed', reason = $2 WHERE request_id = $1";
            let args = args![request_id, Missed::Revoked.name()];
            transaction.execute(sql, args).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(revoked == 1)
    }

    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let sql =
            "SELECT MIN(due_ms) AS due_ms FROM invocations WHERE state = 'queued' AND due_ms > $1";
        let found = self.fetch("read the queue", sql, args![now], |row| row.instant("due_ms"));
        Ok(found.await?.into_iter().next().flatten())
    }

    async fn queue_length(&self, state: QueueState) -> Result<u32> {
        let sql = "SELECT COUNT(*) AS length FROM invocations WHERE state = $1";
        let args = args![state.name()];
        let found = self.fetch("count the queue", sql, args, |row| row.count("length")).await?;
        Ok(found.first().copied().unwrap_or_default())
    }

    async fn queue(&self, state: QueueState, limit: u32) -> Result<Vec<QueueEntry>> {
        let sql = format!(
            "SELECT request_id, task, event, due_ms, attempts, state, error FROM invocations WHERE state = $1 ORDER BY due_ms DESC, {} DESC LIMIT $2",
            D::INSERTED
        );
        let args = args![state.name(), limit];
        self.fetch("read the queue", AssertSqlSafe(sql), args, QueueEntry::read).await
    }
}

/// Queues an invocation that is not known yet.
const ENQUEUE: &str = "INSERT INTO invocations (request_id, task, event, due_ms, attempts, state, alone) VALUES ($1, $2, $3, $4, 0, 'queued', $5)
     ON CONFLICT DO NOTHING";

/// Whether `$1` more bytes and their row are within `$2` rows and `$3` bytes.
const HAS_ROOM: &str = "(SELECT COUNT(*) < $2 AND COALESCE(SUM(octet_length(event)), 0) + $1 <= $3
     FROM invocations WHERE state IN ('queued', 'running'))";

impl QueueLimit {
    fn args(self, bytes: usize) -> Vec<Arg> {
        args![u32::try_from(bytes).unwrap_or(u32::MAX), self.rows, self.bytes]
    }
}

#[expect(private_bounds, reason = "this is a part of the public calls")]
impl<D: Driver> Sql<D> {
    /// Deletes what ended like this beyond [`ENDED_MAX`].
    async fn trim(&self, state: QueueState) -> Result<()> {
        let sql = format!(
            "DELETE FROM invocations WHERE request_id IN (SELECT request_id FROM
                 (SELECT request_id, ROW_NUMBER() OVER newest AS place, SUM(octet_length(event)) OVER newest AS bytes
                  FROM invocations WHERE state = $1 WINDOW newest AS (ORDER BY {} DESC)) AS ended
             WHERE place > $2 OR bytes > $3)",
            D::INSERTED
        );
        let args = args![state.name(), ENDED_MAX.rows, ENDED_MAX.bytes];
        let deleted = self.execute("trim the queue", AssertSqlSafe(sql), args).await?;
        if deleted > 0 && state == QueueState::Dead {
            tracing::warn!(
                deleted,
                "the oldest dead letters are deleted: there are more than are kept"
            );
        }
        Ok(())
    }
}

impl Due {
    fn args(&self) -> Vec<Arg> {
        args![&self.request_id, &self.task, to_json(&self.event), self.due]
    }
}

impl QueueEntry {
    pub(super) fn read(row: &Row) -> sqlx::Result<Self> {
        Ok(Self {
            request_id: row.text("request_id")?,
            task: row.text("task")?,
            event: row.json("event")?.unwrap_or_default(),
            due: row.instant("due_ms")?.unwrap_or_default(),
            attempts: row.count("attempts")?,
            state: QueueState::named(&row.text("state")?),
            error: row.text_or_null("error")?,
        })
    }
}
