//! State in one SQLite file. Holds are file locks, which the kernel lets go of when a process dies; a fencing number is
//! kept beside each, so that writes by a former holder are refused.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow, SqliteSynchronous};
use uuid::Uuid;

use super::file_lock::FileLock;
use super::{
    Claim, Due, Hold, Identity, Lease, Override, Queue, QueueEntry, QueueState, Retry, RunRow,
    SourceState, State, ended,
};
use crate::error::{Error, Result};
use crate::report::Report;
use crate::sqlite::{self, failed};

const MIGRATIONS: &[&str] = &[include_str!("migrations/0001.sql")];

/// State in `state.db`.
pub struct Sqlite {
    pool: SqlitePool,
    locks: PathBuf,
}

impl Sqlite {
    /// The file within the data folder; apart from the documents, so that a bulk write never blocks it.
    pub const FILE: &str = "state.db";

    /// Opens or creates the state in `folder`.
    ///
    /// # Errors
    /// `Store`, when the folder cannot be used.
    pub async fn open(folder: &Path) -> Result<Self> {
        let pool = sqlite::open(folder, Self::FILE, SqliteSynchronous::Normal, MIGRATIONS).await?;
        Ok(Self { pool, locks: folder.join("locks") })
    }

    fn lock(&self, name: &str) -> Result<Option<FileLock>> {
        FileLock::take(&self.locks, name).map_err(|cause| {
            Error::store(format!("lock `{name}` in `{}`", self.locks.display())).because(cause)
        })
    }

    /// Locks a run by its task and identity; `None` when a live attempt holds it.
    fn lock_run(&self, task: &str, identity: &str) -> Result<Option<FileLock>> {
        self.lock(&format!("run/{task}/{identity}"))
    }
}

/// A run's row, as far as claiming it needs.
struct Found {
    run_id: String,
    task: String,
    identity: String,
    slot: Option<Timestamp>,
    status: String,
    fence: i64,
    attempt: i64,
    step: i64,
    checkpoint: Option<Value>,
    report: Option<Report>,
}

const FOUND: &str = "SELECT run_id, task, identity, slot_ms, status, fence, attempt, step, checkpoint, report FROM runs";

impl Found {
    fn read(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            run_id: row.try_get("run_id")?,
            task: row.try_get("task")?,
            identity: row.try_get("identity")?,
            slot: instant(row, "slot_ms")?,
            status: row.try_get("status")?,
            fence: row.try_get("fence")?,
            attempt: row.try_get("attempt")?,
            step: row.try_get("step")?,
            checkpoint: json(row, "checkpoint")?,
            report: json(row, "report")?,
        })
    }

    fn is_done(&self) -> bool {
        matches!(self.status.as_str(), "complete" | "partial")
    }
}

fn instant(row: &SqliteRow, column: &str) -> sqlx::Result<Option<Timestamp>> {
    let value: Option<i64> = row.try_get(column)?;
    value
        .map(Timestamp::from_millisecond)
        .transpose()
        .map_err(|cause| sqlx::Error::Decode(cause.into()))
}

fn json<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &str) -> sqlx::Result<Option<T>> {
    let value: Option<String> = row.try_get(column)?;
    value
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|cause| sqlx::Error::Decode(cause.into()))
}

fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own types are JSON")
}

fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Sqlite {
    /// Takes over a run that was found and whose lock is held: one more attempt under a higher fencing number.
    async fn take_over(
        &self,
        found: Found,
        lock: FileLock,
        request_id: &str,
        now: Timestamp,
    ) -> sqlx::Result<Option<Hold>> {
        let claimed = sqlx::query(
            "UPDATE runs SET status = 'running', fence = fence + 1, attempt = attempt + 1, started_ms = $3, finished_ms = NULL, request_id = $4
             WHERE run_id = $1 AND fence = $2 AND status NOT IN ('complete', 'partial')",
        )
        .bind(&found.run_id)
        .bind(found.fence)
        .bind(now.as_millisecond())
        .bind(request_id)
        .execute(&self.pool)
        .await?;
        if claimed.rows_affected() == 0 {
            return Ok(None);
        }
        Ok(Some(Hold {
            run_id: found.run_id,
            task: found.task,
            slot: found.slot,
            attempt: small(found.attempt + 1),
            step: small(found.step),
            fence: found.fence + 1,
            earlier: if found.checkpoint.is_some() { found.report } else { None },
            checkpoint: found.checkpoint,
            lock,
        }))
    }

    /// Ends the runs of a task that lost their process or their continuation, and gives the newest checkpoint of theirs.
    async fn adopt_orphan(&self, task: &str, now: Timestamp) -> Result<Option<Value>> {
        let failed = failed("look for orphaned checkpoints");
        let rows = sqlx::query(
            "SELECT identity, run_id, fence, checkpoint FROM runs WHERE task = $1
             AND status IN ('running', 'continuing') ORDER BY started_ms",
        )
        .bind(task)
        .fetch_all(&self.pool)
        .await
        .map_err(&failed)?;
        let mut adopted = None;
        for row in rows {
            let Some(_lock) = self.lock_run(task, row.get("identity"))? else { continue };
            let ended = sqlx::query("UPDATE runs SET status = CASE WHEN checkpoint IS NULL THEN 'failed' ELSE 'partial' END,
                 fence = fence + 1, checkpoint = NULL, finished_ms = $3
                 WHERE run_id = $1 AND fence = $2 AND status IN ('running', 'continuing')")
                .bind(row.get::<String, _>("run_id"))
                .bind(row.get::<i64, _>("fence"))
                .bind(now.as_millisecond())
                .execute(&self.pool)
                .await
                .map_err(&failed)?;
            if ended.rows_affected() == 1 {
                adopted = json(&row, "checkpoint").map_err(&failed)?.or(adopted);
            }
        }
        Ok(adopted)
    }

    /// Refuses a write whose holder has been succeeded.
    fn fenced(&self, what: &str, rows: u64) -> Result<()> {
        if rows == 1 {
            return Ok(());
        }
        Err(Error::store(format!("write the state of {what}: a later attempt has taken it over"))
            .hint("nothing to do: the later attempt does the work"))
    }
}

#[async_trait]
impl State for Sqlite {
    async fn begin(
        &self,
        task: &str,
        identity: &Identity,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Claim> {
        let failed = failed("claim a run");
        let key = identity.key();
        let lock = self.lock_run(task, &key)?;
        let row =
            sqlx::query(sqlx::AssertSqlSafe(format!("{FOUND} WHERE task = $1 AND identity = $2")))
                .bind(task)
                .bind(&key)
                .fetch_optional(&self.pool)
                .await
                .map_err(&failed)?;
        let found = row.as_ref().map(Found::read).transpose().map_err(&failed)?;
        if let Some(done) = found.as_ref().filter(|found| found.is_done()) {
            return Ok(Claim::Skip(format!(
                "{key} is {} already (run {})",
                done.status, done.run_id
            )));
        }
        let Some(lock) = lock else {
            return Ok(Claim::Skip(format!("another attempt at {key} is running")));
        };
        if let Some(found) = found {
            return Ok(
                match self.take_over(found, lock, request_id, now).await.map_err(&failed)? {
                    Some(hold) => Claim::Run(Box::new(hold)),
                    None => Claim::Skip(format!("another attempt at {key} was first")),
                },
            );
        }
        let checkpoint = self.adopt_orphan(task, now).await?;
        let run_id = Uuid::new_v4().to_string();
        let inserted = sqlx::query(
            "INSERT INTO runs (run_id, task, identity, slot_ms, status, fence, attempt, step, checkpoint, started_ms, request_id)
             VALUES ($1, $2, $3, $4, 'running', 1, 1, 0, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(&run_id)
        .bind(task)
        .bind(&key)
        .bind(identity.slot().map(Timestamp::as_millisecond))
        .bind(checkpoint.as_ref().map(to_json))
        .bind(now.as_millisecond())
        .bind(request_id)
        .execute(&self.pool)
        .await
        .map_err(&failed)?;
        if inserted.rows_affected() == 0 {
            return Ok(Claim::Skip(format!("another attempt at {key} was first")));
        }
        Ok(Claim::Run(Box::new(Hold {
            run_id,
            task: task.to_owned(),
            slot: identity.slot(),
            attempt: 1,
            step: 0,
            fence: 1,
            checkpoint,
            earlier: None,
            lock,
        })))
    }

    async fn resume(
        &self,
        run_id: &str,
        step: u32,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Claim> {
        let failed = failed("claim a continuation");
        let select = format!("{FOUND} WHERE run_id = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(select))
            .bind(run_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(&failed)?;
        let Some(found) = row.as_ref().map(Found::read).transpose().map_err(&failed)? else {
            return Ok(Claim::Skip(format!("run {run_id} is unknown here")));
        };
        if found.is_done() || found.step != i64::from(step) {
            return Ok(Claim::Skip(format!("step {step} of run {run_id} is done already")));
        }
        let Some(lock) = self.lock_run(&found.task, &found.identity)? else {
            return Ok(Claim::Skip(format!("step {step} of run {run_id} is running")));
        };
        Ok(match self.take_over(found, lock, request_id, now).await.map_err(&failed)? {
            Some(hold) => Claim::Run(Box::new(hold)),
            None => Claim::Skip(format!("step {step} of run {run_id} was claimed by another")),
        })
    }

    async fn suspend(
        &self,
        hold: Hold,
        checkpoint: &Value,
        report: &Report,
        now: Timestamp,
    ) -> Result<u32> {
        let updated = sqlx::query(
            "UPDATE runs SET status = 'continuing', step = step + 1, checkpoint = $3, report = $4, finished_ms = $5
             WHERE run_id = $1 AND fence = $2",
        )
        .bind(&hold.run_id)
        .bind(hold.fence)
        .bind(to_json(checkpoint))
        .bind(to_json(report))
        .bind(now.as_millisecond())
        .execute(&self.pool)
        .await
        .map_err(failed("store a checkpoint"))?;
        self.fenced(&format!("run {}", hold.run_id), updated.rows_affected())?;
        let Hold { step, lock, .. } = hold;
        drop(lock);
        Ok(step + 1)
    }

    async fn finish(&self, hold: Hold, report: &Report, now: Timestamp) -> Result<()> {
        // A failed run keeps its checkpoint: the next attempt goes on from there.
        let updated = sqlx::query(
            "UPDATE runs SET status = $3, report = $4, finished_ms = $5,
                 checkpoint = CASE WHEN $3 = 'failed' THEN checkpoint ELSE NULL END
             WHERE run_id = $1 AND fence = $2",
        )
        .bind(&hold.run_id)
        .bind(hold.fence)
        .bind(ended(report))
        .bind(to_json(report))
        .bind(now.as_millisecond())
        .execute(&self.pool)
        .await
        .map_err(failed("store how a run ended"))?;
        let run_id = hold.run_id.clone();
        drop(hold);
        self.fenced(&format!("run {run_id}"), updated.rows_affected())
    }

    async fn runs(&self, task: Option<&str>, limit: u32) -> Result<Vec<RunRow>> {
        let failed = failed("read the runs");
        let rows = sqlx::query("SELECT * FROM runs WHERE $1 IS NULL OR task = $1 ORDER BY started_ms DESC, rowid DESC LIMIT $2")
            .bind(task)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        rows.iter().map(run_row).collect::<sqlx::Result<_>>().map_err(&failed)
    }

    async fn run_of(&self, request_id: &str) -> Result<Option<RunRow>> {
        let failed = failed("read a run");
        let row = sqlx::query(
            "SELECT * FROM runs WHERE request_id = $1 ORDER BY started_ms DESC LIMIT 1",
        )
        .bind(request_id)
        .fetch_optional(&self.pool)
        .await;
        row.map_err(&failed)?.as_ref().map(run_row).transpose().map_err(&failed)
    }

    async fn lease(&self, source: &str) -> Result<Option<Lease>> {
        let Some(lock) = self.lock(&format!("source/{source}"))? else { return Ok(None) };
        let (fence,): (i64,) = sqlx::query_as(
            "INSERT INTO leases (name, fence) VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET fence = fence + 1 RETURNING fence",
        )
        .bind(source)
        .fetch_one(&self.pool)
        .await
        .map_err(failed("take hold of a source"))?;
        Ok(Some(Lease { name: source.to_owned(), fence, _lock: lock }))
    }

    async fn source(&self, source: &str) -> Result<SourceState> {
        let failed = failed("read the state of a source");
        let row = sqlx::query("SELECT state FROM sources WHERE name = $1")
            .bind(source)
            .fetch_optional(&self.pool)
            .await;
        let state =
            row.map_err(&failed)?.map(|row| json(&row, "state")).transpose().map_err(&failed)?;
        Ok(state.flatten().unwrap_or_default())
    }

    async fn sources(&self, family: &str) -> Result<Vec<(String, SourceState)>> {
        let failed = failed("read the states of sources");
        let rows = sqlx::query("SELECT substr(name, length($1) + 2) AS id, state FROM sources WHERE name LIKE $1 || '/%' ORDER BY name")
            .bind(family)
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        rows.iter()
            .map(|row| Ok((row.try_get("id")?, json(row, "state")?.unwrap_or_default())))
            .collect::<sqlx::Result<_>>()
            .map_err(&failed)
    }

    async fn save_source(&self, lease: &Lease, state: &SourceState) -> Result<()> {
        let saved = sqlx::query(
            "INSERT INTO sources (name, state) SELECT $1, $2 WHERE (SELECT fence FROM leases WHERE name = $1) = $3
             ON CONFLICT (name) DO UPDATE SET state = excluded.state",
        )
        .bind(&lease.name)
        .bind(to_json(state))
        .bind(lease.fence)
        .execute(&self.pool)
        .await
        .map_err(failed("store the state of a source"))?;
        self.fenced(&lease.name, saved.rows_affected())
    }

    async fn overrides(&self, family: &str) -> Result<Vec<(String, Override)>> {
        let failed = failed("read the overrides of sources");
        let rows = sqlx::query("SELECT id, word FROM overrides WHERE family = $1 ORDER BY id")
            .bind(family)
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        rows.iter()
            .map(|row| Ok((row.try_get("id")?, json(row, "word")?.unwrap_or_default())))
            .collect::<sqlx::Result<_>>()
            .map_err(&failed)
    }

    async fn set_override(&self, family: &str, id: &str, word: &Override) -> Result<()> {
        let statement = if *word == Override::default() {
            sqlx::query("DELETE FROM overrides WHERE family = $1 AND id = $2")
        } else {
            sqlx::query(
                "INSERT INTO overrides (family, id, word) VALUES ($1, $2, $3) ON CONFLICT DO UPDATE SET word = excluded.word",
            )
        };
        let word = to_json(word);
        let statement = statement.bind(family).bind(id).bind(word);
        statement.execute(&self.pool).await.map_err(failed("store an override"))?;
        Ok(())
    }

    async fn note_failed(&self, lease: &Lease, items: &[(String, String)]) -> Result<()> {
        let failed = failed("write the retry ledger");
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        let ids: Vec<&str> = items.iter().map(|(id, _)| id.as_str()).collect();
        sqlx::query(
            "DELETE FROM retries WHERE source = $1 AND id NOT IN (SELECT value FROM json_each($2))",
        )
        .bind(&lease.name)
        .bind(to_json(&ids))
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        for (id, reason) in items {
            sqlx::query(
                "INSERT INTO retries (source, id, reason, attempts) VALUES ($1, $2, $3, 1)
                 ON CONFLICT DO UPDATE SET reason = excluded.reason, attempts = attempts + 1",
            )
            .bind(&lease.name)
            .bind(id)
            .bind(reason)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn retries(&self, source: &str) -> Result<Vec<Retry>> {
        let failed = failed("read the retry ledger");
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT id, reason, attempts FROM retries WHERE source = $1 ORDER BY id",
        )
        .bind(source)
        .fetch_all(&self.pool)
        .await
        .map_err(&failed)?;
        Ok(rows
            .into_iter()
            .map(|(id, reason, attempts)| Retry { id, reason, attempts: small(attempts) })
            .collect())
    }
}

fn run_row(row: &SqliteRow) -> sqlx::Result<RunRow> {
    Ok(RunRow {
        run_id: row.try_get("run_id")?,
        task: row.try_get("task")?,
        slot: instant(row, "slot_ms")?,
        status: row.try_get("status")?,
        attempt: small(row.try_get("attempt")?),
        started: instant(row, "started_ms")?.unwrap_or_default(),
        finished: instant(row, "finished_ms")?,
        report: json(row, "report")?,
    })
}

#[async_trait]
impl Queue for Sqlite {
    async fn fire(
        &self,
        row: &str,
        seen: Option<Timestamp>,
        until: Timestamp,
        firings: &[Due],
    ) -> Result<bool> {
        let failed = failed("advance the timetable");
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        let moved = sqlx::query(
            "INSERT INTO marks (row_name, until_ms) SELECT $1, $3 WHERE $2 IS (SELECT until_ms FROM marks WHERE row_name = $1)
             ON CONFLICT (row_name) DO UPDATE SET until_ms = excluded.until_ms WHERE excluded.until_ms > until_ms",
        )
        .bind(row)
        .bind(seen.map(Timestamp::as_millisecond))
        .bind(until.as_millisecond())
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
        for due in firings {
            insert(&mut transaction, due).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(true)
    }

    async fn mark(&self, row: &str) -> Result<Option<Timestamp>> {
        let failed = failed("read the timetable's mark");
        let found = sqlx::query("SELECT until_ms FROM marks WHERE row_name = $1")
            .bind(row)
            .fetch_optional(&self.pool)
            .await;
        Ok(found
            .map_err(&failed)?
            .map(|row| instant(&row, "until_ms"))
            .transpose()
            .map_err(&failed)?
            .flatten())
    }

    async fn enqueue(&self, due: &Due) -> Result<()> {
        let failed = failed("queue an invocation");
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        insert(&mut transaction, due).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
    }

    async fn take(&self, now: Timestamp) -> Result<Option<QueueEntry>> {
        let failed = failed("take an invocation from the queue");
        let row = sqlx::query(
            "UPDATE invocations SET state = 'running', attempts = attempts + 1 WHERE request_id =
                 (SELECT request_id FROM invocations WHERE state = 'queued' AND due_ms <= $1 ORDER BY due_ms, rowid LIMIT 1)
             RETURNING *",
        )
        .bind(now.as_millisecond())
        .fetch_optional(&self.pool)
        .await
        .map_err(&failed)?;
        row.as_ref().map(entry).transpose().map_err(&failed)
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        let failed = failed("read the queue");
        let row =
            sqlx::query("SELECT MIN(due_ms) AS due_ms FROM invocations WHERE state = 'queued'")
                .fetch_one(&self.pool)
                .await;
        instant(&row.map_err(&failed)?, "due_ms").map_err(&failed)
    }

    async fn settle(
        &self,
        request_id: &str,
        state: QueueState,
        due: Option<Timestamp>,
        error: Option<&str>,
    ) -> Result<()> {
        sqlx::query("UPDATE invocations SET state = $2, due_ms = COALESCE($3, due_ms), error = $4 WHERE request_id = $1")
            .bind(request_id)
            .bind(state.name())
            .bind(due.map(Timestamp::as_millisecond))
            .bind(error)
            .execute(&self.pool)
            .await
            .map_err(failed("settle an invocation"))?;
        Ok(())
    }

    async fn recover(&self, now: Timestamp) -> Result<u64> {
        let put_back = sqlx::query(
            "UPDATE invocations SET state = 'queued', due_ms = $1 WHERE state = 'running'",
        )
        .bind(now.as_millisecond())
        .execute(&self.pool)
        .await
        .map_err(failed("recover the queue"))?;
        Ok(put_back.rows_affected())
    }

    async fn queue(&self, state: QueueState, limit: u32) -> Result<Vec<QueueEntry>> {
        let failed = failed("read the queue");
        let rows = sqlx::query(
            "SELECT * FROM invocations WHERE state = $1 ORDER BY due_ms DESC, rowid DESC LIMIT $2",
        )
        .bind(state.name())
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(&failed)?;
        rows.iter().map(entry).collect::<sqlx::Result<_>>().map_err(&failed)
    }
}

async fn insert(
    transaction: &mut sqlx::Transaction<'_, sqlx::Sqlite>,
    due: &Due,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO invocations (request_id, task, event, due_ms, attempts, state) VALUES ($1, $2, $3, $4, 0, 'queued')
         ON CONFLICT DO NOTHING",
    )
    .bind(&due.request_id)
    .bind(&due.task)
    .bind(to_json(&due.event))
    .bind(due.due.as_millisecond())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn entry(row: &SqliteRow) -> sqlx::Result<QueueEntry> {
    Ok(QueueEntry {
        request_id: row.try_get("request_id")?,
        task: row.try_get("task")?,
        event: json(row, "event")?.unwrap_or_default(),
        due: instant(row, "due_ms")?.unwrap_or_default(),
        attempts: small(row.try_get("attempts")?),
        state: QueueState::named(row.try_get::<String, _>("state")?.as_str()),
        error: row.try_get("error")?,
    })
}
