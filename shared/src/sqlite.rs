//! Opening SQLite the way both embedded stores need it: several processes at once, and `kill -9` at any moment.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::error::{Error, Result};

/// How long a writer waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections a process holds to one file at the most: one writes while the others read.
const CONNECTIONS_MAX: u32 = 4;

/// Opens or creates `folder/name` and brings it to the newest of `migrations`, each of which runs once, in order.
///
/// # Errors
/// `Store`, when the folder or the file cannot be made, read or brought up to date.
pub(crate) async fn open(
    folder: &Path,
    name: &str,
    synchronous: SqliteSynchronous,
    migrations: &[&'static str],
) -> Result<SqlitePool> {
    let path = folder.join(name);
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::store(format!("open the embedded store `{}`", path.display())).because(cause).hint(
            "check that the folder of `MINERVA_DATA_DIR` exists, is writable and has space left",
        )
    };
    let _lock = lock_folder(folder).map_err(|cause| failed(cause.into()))?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", "-16000")
        .pragma("journal_size_limit", "67108864");
    let pool = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
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

/// A store's error from SQLite's, saying what was tried.
pub(crate) fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |cause| {
        let full = cause
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .is_some_and(|code| code == "13");
        let error = Error::store(what).because(cause);
        if full {
            error.hint("the disk is full: free some space; nothing was lost, the next run goes on")
        } else {
            error
        }
    }
}
