//! Opening SQLite the way both embedded stores need it: several processes at once, and `kill -9` at any moment.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
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

/// Pages that a connection keeps, in KiB below nought. Each comes to hold as much; what they read again the system has in its own
/// cache: with 4 MB for each, reading a list of 200,000 lines again took 83 MiB instead of 58 and was no faster.
const CACHE: &str = "-1000";

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
    let _lock = lock_folder(folder).map_err(|cause| unusable(&path, cause))?;
    private_file(&path).map_err(|cause| unusable(&path, cause))?;
    let mut options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", CACHE)
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
        .map_err(|cause| unopened(&path, cause))?;
    known_version(&pool, &path, migrations).await?;
    migrate(&pool, migrations).await.map_err(|cause| unopened(&path, cause))?;
    Ok(pool)
}

/// A database in memory, up to date and empty.
///
/// # Errors
/// `Store`, when SQLite cannot be used.
pub(crate) async fn in_memory(migrations: &[&'static str]) -> Result<SqlitePool> {
    let failed = failed("make a database in memory");
    let options = SqliteConnectOptions::new().in_memory(true);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await
        .map_err(&failed)?;
    migrate(&pool, migrations).await.map_err(&failed)?;
    Ok(pool)
}

/// A database that is looked at and not changed.
pub(crate) struct LookedAtFile {
    pub(crate) pool: SqlitePool,
    /// Whether this version's migrations were all made.
    pub(crate) is_up_to_date: bool,
}

/// Opens `folder/name` for reading, where it is there; makes nothing.
///
/// # Errors
/// What would keep a task from using it, also where it is not there yet.
pub(crate) async fn look(
    folder: &Path,
    name: &str,
    migrations: &[&'static str],
) -> Result<Option<LookedAtFile>> {
    let path = folder.join(name);
    can_be_written(folder).map_err(|cause| unusable(&path, cause))?;
    let is_there = match fs::metadata(&path) {
        // Another process makes a file before it writes to it.
        Ok(file) => file.len() > 0,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => false,
        Err(cause) => return Err(unusable(&path, cause)),
    };
    if !is_there {
        return Ok(None);
    }
    // Without a log nobody has it open, and a reader would make one.
    let is_closed = !log_of(&path).exists();
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .read_only(true)
        .immutable(is_closed)
        .busy_timeout(BUSY_TIMEOUT);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
    let pool = pool.map_err(|cause| unopened(&path, cause))?;
    let version = known_version(&pool, &path, migrations).await?;
    Ok(Some(LookedAtFile { pool, is_up_to_date: version == migrations.len() }))
}

/// Whether the nearest folder that is there could take what is to be made in it.
pub(crate) fn can_be_written(folder: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(folder)?;
    for ancestor in absolute.ancestors() {
        match fs::metadata(ancestor) {
            Ok(found) if !found.is_dir() => {
                let why = format!("`{}` is no folder", ancestor.display());
                return Err(io::Error::new(io::ErrorKind::NotADirectory, why));
            }
            Ok(_) => {
                let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
                return rustix::fs::access(ancestor, access).map_err(|cause| {
                    let why = format!("`{}` cannot be written: {cause}", ancestor.display());
                    io::Error::new(io::Error::from(cause).kind(), why)
                });
            }
            Err(cause)
                if matches!(
                    cause.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

/// The error of a folder or a file that cannot be used at all.
fn unusable(path: &Path, cause: io::Error) -> Error {
    Error::unreachable(format!("open the embedded store `{}`", path.display()))
        .because(cause)
        .hint("check that the folder of `MINERVA_DATA_DIR` exists, is writable and has space left")
}

/// The error of a file that SQLite does not open.
fn unopened(path: &Path, cause: sqlx::Error) -> Error {
    let shown = path.display();
    if is_damaged(&cause) {
        return damaged(
            Error::store(format!("open the embedded store: `{shown}` is damaged")),
            path,
        )
        .because(cause);
    }
    let error = Error::unreachable(format!("open the embedded store `{shown}`"));
    let hint = if is_full(&cause) {
        FULL
    } else {
        "check that the folder of `MINERVA_DATA_DIR` exists, is writable and has space left"
    };
    error.because(cause).hint(hint)
}

/// What to do about a file that is no intact database.
fn damaged(error: Error, path: &Path) -> Error {
    let kept = if path.ends_with("documents.db") {
        "without it the next runs read every source again"
    } else {
        "without it every source is read again, and overrides, runs and the queue are gone"
    };
    error.hint(format!(
        "put back a copy that `local-runner backup` made, or move the file away with its `-wal` and `-shm`: {kept}"
    ))
}

/// How many migrations a database has had.
///
/// # Errors
/// `Config`, when a newer version of this program made some that this one does not know; `Store`, when it cannot be read.
async fn known_version(
    pool: &SqlitePool,
    path: &Path,
    migrations: &[&'static str],
) -> Result<usize> {
    let version = version(pool).await.map_err(|cause| unopened(path, cause))?;
    let (shown, known) = (path.display(), migrations.len());
    if version > known {
        return Err(Error::config(format!(
            "open the embedded store: `{shown}` is of a newer version of this program (its tables have version {version}, this one knows {known})"
        ))
        .hint("update this program, or name another folder with `MINERVA_DATA_DIR`; nothing was changed"));
    }
    Ok(version)
}

async fn version(pool: &SqlitePool) -> sqlx::Result<usize> {
    // The schema is read too, which finds a file that is no database.
    sqlx::query("SELECT count(*) FROM sqlite_schema").fetch_one(pool).await?;
    let (done,): (i64,) = sqlx::query_as("PRAGMA user_version").fetch_one(pool).await?;
    Ok(usize::try_from(done).unwrap_or(0))
}

/// Letters and numbers of a folder that only its owner may enter, and of a file that only they may read.
const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// What a data folder holds of ours, by the beginnings of names.
const OURS: [&str; 4] = ["state.db", "documents.db", "open.lock", "locks"];

/// Makes a folder for its owner alone, where there is none.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(folder)
}

/// As [`make_private`]; one that is there and holds nothing but ours is closed to others.
pub(crate) fn private_folder(folder: &Path) -> io::Result<()> {
    make_private(folder)?;
    let is_ours = fs::read_dir(folder)?.all(|entry| {
        let name = entry.map(|entry| entry.file_name()).unwrap_or_default();
        let name = name.to_string_lossy();
        OURS.iter().any(|ours| name.starts_with(ours))
    });
    if is_ours { restrict(folder, PRIVATE_FOLDER) } else { Ok(()) }
}

/// Makes a file for its owner alone; SQLite gives its logs the same rights.
pub(crate) fn private_file(path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(PRIVATE_FILE).open(path)?;
    restrict(path, PRIVATE_FILE)?;
    for log in [log_of(path), with_end(path, "-shm")] {
        if log.exists() {
            restrict(&log, PRIVATE_FILE)?;
        }
    }
    Ok(())
}

/// Takes from others the rights that `mode` does not give; what belongs to somebody else stays as it is.
fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    let has = fs::metadata(path)?.permissions().mode() & 0o777;
    if has & !mode == 0 {
        return Ok(());
    }
    match fs::set_permissions(path, Permissions::from_mode(has & mode)) {
        Err(cause) if cause.kind() != io::ErrorKind::PermissionDenied => Err(cause),
        _ => Ok(()),
    }
}

/// The write-ahead log of a database.
pub(crate) fn log_of(path: &Path) -> std::path::PathBuf {
    with_end(path, "-wal")
}

fn with_end(path: &Path, end: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Holds off other processes while one makes and migrates the files; the kernel releases it when a process dies.
fn lock_folder(folder: &Path) -> io::Result<File> {
    private_folder(folder)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(PRIVATE_FILE)
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
    if !fs::metadata(log_of(path)).is_ok_and(|log| log.len() > 0) {
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
    restrict(copy, PRIVATE_FILE)?;
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

/// Whether SQLite says that the file is no intact database: corrupt, or not a database at all.
fn is_damaged(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let primary = code.and_then(|code| code.parse::<i32>().ok()).map(|code| code & 0xff);
    matches!(primary, Some(11 | 26))
}

/// A store's error from SQLite's, saying what was tried.
pub(crate) fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> Error + Send + Sync {
    move |cause| {
        let (full, damaged) = (is_full(&cause), is_damaged(&cause));
        let error = Error::store(what).because(cause);
        match (full, damaged) {
            (true, _) => error.hint(FULL),
            (_, true) => error.hint("a file of the embedded store is damaged: `local-runner doctor` says which, and what to do"),
            _ => error,
        }
    }
}
