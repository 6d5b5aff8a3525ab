//! Opening SQLite the way both embedded stores need it: several processes at once, and `kill -9` at any moment.

use std::fs::{File, OpenOptions};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use base::{Error, Result};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Connection as _};

/// How long a writer waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections a process holds to one file at the most: one writes while the others read.
const CONNECTIONS_MAX: u32 = 4;

/// Bytes of a page, by which SQLite limits a file.
const PAGE: u32 = 4096;

/// Opens or creates `folder/name`, which may hold `max_mb` MiB at the most, and brings it to the newest of `migrations`, each of which runs once, in order.
///
/// # Errors
/// `Store`, when the folder or the file cannot be made, read or brought up to date.
pub(crate) async fn open(
    folder: &Path,
    name: &str,
    synchronous: SqliteSynchronous,
    max_mb: Option<NonZeroU32>,
    migrations: &[&'static str],
) -> Result<SqlitePool> {
    let path = folder.join(name);
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
        let full = cause.downcast_ref().is_some_and(is_full);
        let hint = if full {
            FULL
        } else {
            "check that the folder of `MINERVA_DATA_DIR` exists, is writable and has space left"
        };
        Error::store(format!("open the embedded store `{}`", path.display()))
            .because(cause)
            .hint(hint)
    };
    let _lock = lock_folder(folder).map_err(|cause| failed(cause.into()))?;
    let mut options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", "-16000")
        .pragma("journal_size_limit", "67108864")
        .page_size(PAGE);
    if let Some(max_mb) = max_mb {
        // It holds for a connection, so each gets it. A file that is larger already only grows no more.
        let pages = u64::from(max_mb.get()) * (1 << 20) / u64::from(PAGE);
        // The number of a page has 32 bits; the last one is SQLite's own.
        options = options.pragma("max_page_count", pages.min(u64::from(u32::MAX - 1)).to_string());
    }
    let pool = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_release(|connection, _| {
            Box::pin(async move {
                // A transaction that finds no room is rolled back by SQLite itself, which sqlx does not notice: it would
                // refuse to begin another. The answer comes when every rollback that is under way is done.
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
        .connect_with(options)
        .await
        .map_err(|cause| failed(cause.into()))?;
    migrate(&pool, migrations).await.map_err(|cause| failed(cause.into()))?;
    Ok(pool)
}

/// Holds off other processes while one makes and migrates the files; the kernel lets go when a process dies.
fn lock_folder(folder: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join("open.lock"))?;
    file.lock()?;
    Ok(file)
}

async fn migrate(pool: &SqlitePool, migrations: &[&'static str]) -> sqlx::Result<()> {
    let (done,): (i64,) = sqlx::query_as("PRAGMA user_version").fetch_one(pool).await?;
    let done = usize::try_from(done).unwrap_or(0);
    for (number, migration) in migrations.iter().enumerate().skip(done) {
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA user_version = {}", number + 1)))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// What to do about a file that cannot grow.
const FULL: &str = "the disk is full, or the store holds what `MINERVA_DATA_MAX_MB` allows: free some space or raise the \
     setting; nothing was lost, the next run goes on";

/// Whether SQLite says that there is no room left.
fn is_full(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "13")
}

/// A store's error from SQLite's, saying what was tried.
pub(crate) fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> Error + Send + Sync {
    move |cause| {
        let full = is_full(&cause);
        let error = Error::store(what).because(cause);
        if full { error.hint(FULL) } else { error }
    }
}
