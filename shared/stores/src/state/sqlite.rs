//! State in one SQLite file. Holds are file locks, which the kernel lets go of when a process dies; a fencing number is
//! kept beside each, so that writes by a former holder are refused.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base::report::Report;
use base::{Error, Result};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::sqlite::{SqlitePool, SqliteSynchronous};
use uuid::Uuid;

use super::file_lock::FileLock;
use super::moving::Kind;
use super::rows::{self, Found, fenced, instant, json, to_json};
use super::{
    Claim, Due, Held, Hold, Identity, Lease, Moving, Override, Queue, QueueEntry, QueueState,
    Retry, RunRow, SourceState, State, Table, Taken, ended,
};
use crate::documents::Document;
use crate::sqlite::{self, failed};

const MIGRATIONS: &[&str] = &[include_str!("migrations/sqlite/0001.sql")];

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
        Self::open_within(folder, None).await
    }

    /// As [`open`](Self::open), with a file that holds `max_mb` MiB at the most.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_within(folder: &Path, max_mb: Option<NonZeroU32>) -> Result<Self> {
        let synchronous = SqliteSynchronous::Normal;
        let pool = sqlite::open(folder, Self::FILE, synchronous, max_mb, MIGRATIONS).await?;
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

    /// Locks an invocation for the runner that runs it; `None` when a live one does.
    fn lock_invocation(&self, request_id: &str) -> Result<Option<FileLock>> {
        self.lock(&format!("invocation/{request_id}"))
    }
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
        let claimed = sqlx::query(rows::TAKE_OVER)
            .bind(&found.run_id)
            .bind(found.fence)
            .bind(now.as_millisecond())
            .bind(request_id)
            .bind(found.step)
            .execute(&self.pool)
            .await?;
        Ok((claimed.rows_affected() == 1).then(|| found.taken_over(Held::File(lock))))
    }

    /// Ends the runs of a task that lost their process or their continuation, and gives the newest checkpoint of theirs.
    async fn adopt_orphan(&self, task: &str, now: Timestamp) -> Result<Option<Value>> {
        let failed = failed("look for orphaned checkpoints");
        let orphans =
            sqlx::query(rows::ORPHANS).bind(task).fetch_all(&self.pool).await.map_err(&failed)?;
        let mut adopted = None;
        for orphan in &orphans {
            let identity = rows::text(orphan, "identity").map_err(&failed)?;
            let Some(_lock) = self.lock_run(task, &identity)? else { continue };
            let ended = sqlx::query(rows::ADOPT)
                .bind(rows::text(orphan, "run_id").map_err(&failed)?)
                .bind(rows::number(orphan, "fence").map_err(&failed)?)
                .bind(now.as_millisecond())
                .execute(&self.pool)
                .await
                .map_err(&failed)?;
            if ended.rows_affected() == 1 {
                adopted = json(orphan, "checkpoint").map_err(&failed)?.or(adopted);
            }
        }
        Ok(adopted)
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
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{} WHERE task = $1 AND identity = $2",
            rows::FOUND
        )))
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
        let inserted = sqlx::query(rows::FIRST)
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
        Ok(Claim::Run(Box::new(Hold::first(run_id, task, identity, checkpoint, Held::File(lock)))))
    }

    async fn resume(
        &self,
        run_id: &str,
        step: u32,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Claim> {
        let failed = failed("claim a continuation");
        let select = format!("{} WHERE run_id = $1", rows::FOUND);
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
        fenced(&format!("run {}", hold.run_id), updated.rows_affected())?;
        Ok(hold.step + 1)
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
        fenced(&format!("run {run_id}"), updated.rows_affected())
    }

    async fn runs(&self, task: Option<&str>, limit: u32) -> Result<Vec<RunRow>> {
        let failed = failed("read the runs");
        let rows = sqlx::query("SELECT * FROM runs WHERE $1 IS NULL OR task = $1 ORDER BY started_ms DESC, rowid DESC LIMIT $2")
            .bind(task)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        rows.iter().map(rows::run).collect::<sqlx::Result<_>>().map_err(&failed)
    }

    async fn run_of(&self, request_id: &str) -> Result<Option<RunRow>> {
        let failed = failed("read a run");
        let row = sqlx::query(rows::RUN_OF).bind(request_id).fetch_optional(&self.pool).await;
        row.map_err(&failed)?.as_ref().map(rows::run).transpose().map_err(&failed)
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
        Ok(Some(Lease { name: source.to_owned(), fence, _lock: Held::File(lock) }))
    }

    async fn source(&self, source: &str) -> Result<SourceState> {
        let failed = failed("read the state of a source");
        let row = sqlx::query(rows::SOURCE).bind(source).fetch_optional(&self.pool).await;
        let state =
            row.map_err(&failed)?.map(|row| json(&row, "state")).transpose().map_err(&failed)?;
        Ok(state.flatten().unwrap_or_default())
    }

    async fn sources(&self, family: &str) -> Result<Vec<(String, SourceState)>> {
        let failed = failed("read the states of sources");
        let rows =
            sqlx::query(rows::SOURCES).bind(family).fetch_all(&self.pool).await.map_err(&failed)?;
        rows.iter()
            .map(|row| rows::by_id(row, "state"))
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
        fenced(&lease.name, saved.rows_affected())
    }

    async fn overrides(&self, family: &str) -> Result<Vec<(String, Override)>> {
        let failed = failed("read the overrides of sources");
        let rows = sqlx::query(rows::OVERRIDES)
            .bind(family)
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        rows.iter()
            .map(|row| rows::by_id(row, "word"))
            .collect::<sqlx::Result<_>>()
            .map_err(&failed)
    }

    async fn set_override(&self, family: &str, id: &str, word: &Override) -> Result<()> {
        let forget = *word == Override::default();
        let statement =
            sqlx::query(if forget { rows::FORGET_OVERRIDE } else { rows::SET_OVERRIDE })
                .bind(family)
                .bind(id);
        let statement = if forget { statement } else { statement.bind(to_json(word)) };
        statement.execute(&self.pool).await.map_err(failed("store an override"))?;
        Ok(())
    }

    async fn note_failed(
        &self,
        lease: &Lease,
        items: &[(String, String)],
        is_whole: bool,
    ) -> Result<()> {
        let failed = failed("write the retry ledger");
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        let held = sqlx::query("SELECT fence FROM leases WHERE name = $1 AND fence = $2")
            .bind(&lease.name)
            .bind(lease.fence)
            .fetch_all(&mut *transaction)
            .await
            .map_err(&failed)?;
        fenced(&lease.name, held.len() as u64)?;
        let ids: Vec<&str> = items.iter().map(|(id, _)| id.as_str()).collect();
        sqlx::query(
            "DELETE FROM retries WHERE $3 AND source = $1 AND id NOT IN (SELECT value FROM json_each($2))",
        )
        .bind(&lease.name)
        .bind(to_json(&ids))
        .bind(is_whole)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        for (id, reason) in items {
            sqlx::query(rows::NOTE_FAILED)
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
        let rows =
            sqlx::query(rows::RETRIES).bind(source).fetch_all(&self.pool).await.map_err(&failed)?;
        rows.iter().map(rows::retry).collect::<sqlx::Result<_>>().map_err(&failed)
    }
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
        let moved = sqlx::query(rows::FIRE)
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
        let found = sqlx::query(rows::MARK).bind(row).fetch_optional(&self.pool).await;
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

    async fn take(&self, now: Timestamp) -> Result<Option<Taken>> {
        let failed = failed("take an invocation from the queue");
        // The lock is taken within the transaction: nobody sees the row as running and unlocked.
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        let row = sqlx::query(
            "UPDATE invocations SET state = 'running', attempts = attempts + 1 WHERE request_id =
                 (SELECT request_id FROM invocations WHERE state = 'queued' AND due_ms <= $1 ORDER BY due_ms, rowid LIMIT 1)
             RETURNING *",
        )
        .bind(now.as_millisecond())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(&failed)?;
        let Some(entry) = row.as_ref().map(rows::entry).transpose().map_err(&failed)? else {
            return Ok(None);
        };
        // Still locked is what another has queued again and is about to let go of: the next look finds it.
        let Some(lock) = self.lock_invocation(&entry.request_id)? else { return Ok(None) };
        transaction.commit().await.map_err(&failed)?;
        Ok(Some(Taken { entry, hold: Held::File(lock) }))
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        let failed = failed("read the queue");
        let row = sqlx::query(rows::NEXT_DUE).fetch_one(&self.pool).await;
        instant(&row.map_err(&failed)?, "due_ms").map_err(&failed)
    }

    async fn settle(
        &self,
        taken: Taken,
        state: QueueState,
        due: Option<Timestamp>,
        error: Option<&str>,
    ) -> Result<()> {
        let Taken { entry, hold: _hold } = taken;
        let settled = sqlx::query(rows::SETTLE)
            .bind(&entry.request_id)
            .bind(entry.attempts)
            .bind(state.name())
            .bind(due.map(Timestamp::as_millisecond))
            .bind(error)
            .execute(&self.pool)
            .await
            .map_err(failed("settle an invocation"))?;
        fenced(&format!("invocation `{}`", entry.request_id), settled.rows_affected())
    }

    async fn recover(&self, now: Timestamp) -> Result<u64> {
        let failed = failed("recover the queue");
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        let running = sqlx::query("SELECT request_id FROM invocations WHERE state = 'running'")
            .fetch_all(&mut *transaction)
            .await
            .map_err(&failed)?;
        let mut put_back = 0;
        for row in &running {
            let request_id = rows::text(row, "request_id").map_err(&failed)?;
            let Some(_lock) = self.lock_invocation(&request_id)? else { continue };
            let updated = sqlx::query(
                "UPDATE invocations SET state = 'queued', due_ms = $2 WHERE request_id = $1",
            )
            .bind(request_id)
            .bind(now.as_millisecond())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
            put_back += updated.rows_affected();
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(put_back)
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
        rows.iter().map(rows::entry).collect::<sqlx::Result<_>>().map_err(&failed)
    }
}

#[async_trait]
impl Moving for Sqlite {
    async fn rows(&self, table: Table, after: Option<&str>, limit: u32) -> Result<Vec<Document>> {
        let failed = failed("read rows of the state");
        let found = sqlx::query(sqlx::AssertSqlSafe(table.select("")))
            .bind(after.unwrap_or_default())
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        found.iter().map(|row| table.read(row)).collect::<sqlx::Result<_>>().map_err(&failed)
    }

    async fn put_rows(&self, table: Table, gone: &[String], rows: &[Document]) -> Result<()> {
        let failed = failed("write rows of the state");
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        for key in gone {
            let delete = sqlx::query(sqlx::AssertSqlSafe(table.delete(""))).bind(key);
            delete.execute(&mut *transaction).await.map_err(&failed)?;
        }
        for row in rows {
            let mut insert = sqlx::query(sqlx::AssertSqlSafe(table.insert()));
            for (name, kind) in table.columns().1 {
                let value = row.body.get(*name);
                insert = match kind {
                    Kind::Text => insert.bind(value.and_then(Value::as_str)),
                    Kind::Number => insert.bind(value.and_then(Value::as_i64)),
                };
            }
            insert.execute(&mut *transaction).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn under_way(&self) -> Result<Vec<String>> {
        let failed = failed("look for what is under way");
        let mut held = Vec::new();
        let runs = sqlx::query("SELECT task, identity FROM runs WHERE status = 'running'");
        for row in &runs.fetch_all(&self.pool).await.map_err(&failed)? {
            let task = rows::text(row, "task").map_err(&failed)?;
            let identity = rows::text(row, "identity").map_err(&failed)?;
            if self.lock_run(&task, &identity)?.is_none() {
                held.push(format!("{task}, {identity}"));
            }
        }
        let taken = sqlx::query("SELECT request_id, task FROM invocations WHERE state = 'running'");
        for row in &taken.fetch_all(&self.pool).await.map_err(&failed)? {
            let request_id = rows::text(row, "request_id").map_err(&failed)?;
            if self.lock_invocation(&request_id)?.is_none() {
                let task = rows::text(row, "task").map_err(&failed)?;
                held.push(format!("{task}, invocation {request_id}"));
            }
        }
        Ok(held)
    }
}

async fn insert(
    transaction: &mut sqlx::Transaction<'_, sqlx::Sqlite>,
    due: &Due,
) -> sqlx::Result<()> {
    sqlx::query(rows::ENQUEUE)
        .bind(&due.request_id)
        .bind(&due.task)
        .bind(to_json(&due.event))
        .bind(due.due.as_millisecond())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
