//! State in one SQLite file. Holds are file locks, which the kernel releases when a process dies; a fencing number is kept
//! beside that of a source, so that writes by a former holder are refused.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base::{Error, Result};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteSynchronous;

use super::db::{Pool, args};
use super::file_lock::{self, FileLock};
use super::slots::{NOT_BESIDE, begin_attempt};
use super::sql::{Driver, Sql, horizon, run_name};
use super::{ClaimedInvocation, Held, Lease, Looked, QueueEntry};
use crate::sqlite;

const MIGRATIONS: &[&str] = &[
    include_str!("migrations/sqlite/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
];

/// State in `state.db`.
pub type Sqlite = Sql<Files>;

impl Sqlite {
    /// The file within the data folder; apart from the documents, so that a bulk write never blocks it.
    pub const FILE: &str = "state.db";

    /// The file that grows, or is written anew, with whatever a process writes to the state in `folder`.
    pub fn log_in(folder: &Path) -> PathBuf {
        sqlite::log_of(&folder.join(Self::FILE))
    }

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
        Ok(Self { pool: Pool::Sqlite(pool), driver: Files { locks: folder.join("locks") } })
    }

    /// The state of a home where nothing is stored yet, in memory.
    ///
    /// # Errors
    /// `Store`, when SQLite cannot be used.
    pub async fn empty() -> Result<Self> {
        let pool = sqlite::in_memory(MIGRATIONS).await?;
        Ok(Self { pool: Pool::Sqlite(pool), driver: Files { locks: PathBuf::new() } })
    }

    /// Opens the state in `folder` for reading, and makes nothing there.
    ///
    /// # Errors
    /// What would keep a task from using it.
    pub async fn look(folder: &Path) -> Result<Looked<Self>> {
        Ok(match sqlite::look(folder, Self::FILE, MIGRATIONS).await? {
            None => Looked::Missing,
            Some(looked) if !looked.is_up_to_date => Looked::Older,
            Some(looked) => {
                let driver = Files { locks: folder.join("locks") };
                Looked::Ready(Self { pool: Pool::Sqlite(looked.pool), driver })
            }
        })
    }
}

/// Holds as locked files of one folder.
pub struct Files {
    locks: PathBuf,
}

impl Files {
    fn lock(&self, name: &str) -> Result<Option<FileLock>> {
        FileLock::take(&self.locks, name).map_err(|cause| {
            Error::store(format!("lock `{name}` in `{}`", self.locks.display())).because(cause)
        })
    }

    /// Locks an invocation for the runner that runs it; `None` when a live one does.
    fn lock_invocation(&self, request_id: &str) -> Result<Option<FileLock>> {
        self.lock(&format!("invocation/{request_id}"))
    }
}

#[async_trait]
impl Driver for Files {
    const BY_BYTES: &'static str = "";
    const INSERTED: &'static str = "rowid";
    const HELD: &'static str = "SELECT 1 AS held FROM leases WHERE name = $1 AND fence = $2";

    fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> Error + Send + Sync {
        sqlite::failed(what)
    }

    async fn hold(&self, _: &'static str, name: String) -> Result<Option<Held>> {
        Ok(self.lock(&name)?.map(Held::File))
    }

    async fn lease(&self, pool: &Pool, source: &str) -> Result<Option<Lease>> {
        let failed = Self::failed("take hold of a source");
        let Some(lock) = self.lock(&format!("source/{source}"))? else { return Ok(None) };
        let rows = pool
            .fetch(
                "INSERT INTO leases (name, fence) VALUES ($1, 1)
                 ON CONFLICT (name) DO UPDATE SET fence = fence + 1 RETURNING fence",
                args![source],
            )
            .await
            .map_err(&failed)?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound).map_err(&failed)?;
        let fence = row.number("fence").map_err(&failed)?;
        Ok(Some(Lease { name: source.to_owned(), fence, _lock: Held::File(lock) }))
    }

    async fn take(&self, pool: &Pool, now: Timestamp) -> Result<Option<ClaimedInvocation>> {
        let failed = Self::failed("take an invocation from the queue");
        // The lock is taken within the transaction: nobody sees the row as running and unlocked.
        let mut transaction = pool.begin().await.map_err(&failed)?;
        let rows = transaction
            .fetch(
                AssertSqlSafe(format!(
                    "UPDATE invocations SET state = 'running', attempts = attempts + 1 WHERE request_id =
                         (SELECT request_id FROM invocations WHERE state = 'queued' AND (due_ms <= $1 OR due_ms > $2) AND {NOT_BESIDE}
                          ORDER BY due_ms, rowid LIMIT 1)
                     RETURNING request_id, task, event, due_ms, attempts, state, error"
                )),
                args![now, horizon(now)],
            )
            .await
            .map_err(&failed)?;
        let Some(row) = rows.first() else { return Ok(None) };
        let entry = QueueEntry::read(row).map_err(&failed)?;
        // Still locked is what another has queued again and is about to release: the next look finds it.
        let Some(lock) = self.lock_invocation(&entry.request_id)? else { return Ok(None) };
        let attempt = (entry.task.as_str(), entry.request_id.as_str(), entry.attempts);
        begin_attempt(&mut transaction, attempt, now).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(Some(ClaimedInvocation { entry, hold: Held::File(lock) }))
    }

    async fn recover(&self, pool: &Pool, now: Timestamp) -> Result<u64> {
        let failed = Self::failed("recover the queue");
        let mut transaction = pool.begin().await.map_err(&failed)?;
        let running = transaction
            .fetch("SELECT request_id FROM invocations WHERE state = 'running'", args![])
            .await
            .map_err(&failed)?;
        let mut put_back = 0;
        for row in &running {
            let request_id = row.text("request_id").map_err(&failed)?;
            let Some(_lock) = self.lock_invocation(&request_id)? else { continue };
            put_back += transaction
                .execute(
                    "UPDATE invocations SET state = 'queued', due_ms = MIN(due_ms, $2) WHERE request_id = $1",
                    args![request_id, now],
                )
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(put_back)
    }

    async fn held(&self, _: &Pool, names: &[String]) -> Result<Vec<String>> {
        let mut held = Vec::new();
        for name in names {
            let is_held = file_lock::is_held(&self.locks, name).map_err(|cause| {
                Error::store(format!("look at the locks in `{}`", self.locks.display()))
                    .because(cause)
            })?;
            if is_held {
                held.push(name.clone());
            }
        }
        Ok(held)
    }

    async fn under_way(&self, pool: &Pool) -> Result<Vec<String>> {
        let failed = Self::failed("look for what is under way");
        let mut held = Vec::new();
        let runs = "SELECT task, identity FROM runs WHERE status = 'running'";
        for row in &pool.fetch(runs, args![]).await.map_err(&failed)? {
            let task = row.text("task").map_err(&failed)?;
            let identity = row.text("identity").map_err(&failed)?;
            if self.lock(&run_name(&task, &identity))?.is_none() {
                held.push(format!("{task}, {identity}"));
            }
        }
        let taken = "SELECT request_id, task FROM invocations WHERE state = 'running'";
        for row in &pool.fetch(taken, args![]).await.map_err(&failed)? {
            let request_id = row.text("request_id").map_err(&failed)?;
            if self.lock_invocation(&request_id)?.is_none() {
                let task = row.text("task").map_err(&failed)?;
                held.push(format!("{task}, invocation {request_id}"));
            }
        }
        Ok(held)
    }
}
