//! Opening SQLite the way both embedded stores need it: several processes at once, and `kill -9` at any moment.

use std::fs::{File, OpenOptions};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use base::{Error, Result};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

/// How long a writer waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long emptying the write-ahead log waits for other processes: a short command must not hold up a server.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(250);

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

/// Holds off other processes while one makes and migrates the files; the kernel releases it when a process dies.
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
    // On one connection: another that has read the tables before they change would give rows of the old columns, on which
    // sqlx's worker panics and answers with none.
    let mut connection = pool.acquire().await?;
    let (done,): (i64,) = sqlx::query_as("PRAGMA user_version").fetch_one(&mut *connection).await?;
    let done = usize::try_from(done).unwrap_or(0);
    for (number, migration) in migrations.iter().enumerate().skip(done) {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA user_version = {}", number + 1)))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// Moves what the write-ahead log of the database `path` holds into its file, and empties the log. Without a log it does
/// nothing; where another process is reading or writing, some of it may stay in the log.
///
/// # Errors
/// SQLite's, when the file cannot be opened or written.
pub(crate) async fn settle(path: &Path) -> sqlx::Result<()> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if !std::fs::metadata(log).is_ok_and(|log| log.len() > 0) {
        return Ok(());
    }
    let mut connection = connect(path, SETTLE_TIMEOUT).await?;
    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
    connection.close().await
}

/// Writes the database `path`, as one transaction sees it, to the new file `copy`; others may write meanwhile. The copy
/// is on disk and checked when this returns.
///
/// # Errors
/// SQLite's, or `Protocol` when the copy is not intact.
pub(crate) async fn copy_into(path: &Path, copy: &Path) -> sqlx::Result<()> {
    let mut connection = connect(path, BUSY_TIMEOUT).await?;
    let target =
        copy.to_str().ok_or_else(|| sqlx::Error::Protocol("its path is not UTF-8".into()))?;
    sqlx::query("VACUUM INTO $1").bind(target).execute(&mut connection).await?;
    connection.close().await?;
    File::open(copy)?.sync_all()?;
    let mut connection = connect(copy, BUSY_TIMEOUT).await?;
    let (says,): (String,) =
        sqlx::query_as("PRAGMA quick_check").fetch_one(&mut connection).await?;
    connection.close().await?;
    match says.as_str() {
        "ok" => Ok(()),
        fault => Err(sqlx::Error::Protocol(format!("the copy is not intact: {fault}"))),
    }
}

/// One connection to a file that is there, as it is: nothing is created or migrated.
pub(crate) async fn connect(path: &Path, wait: Duration) -> sqlx::Result<SqliteConnection> {
    SqliteConnectOptions::new().filename(path).busy_timeout(wait).connect().await
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
