//! State in PostgreSQL, for homes without a lasting disk or with several machines. Holds are rows that expire (`holds`),
//! every write is compare-and-set, and every instant that decides who may hold what is the server's.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::address::Address;
use base::clock::Clock;
use base::{Error, Result};
use jiff::{SignedDuration, Timestamp};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::time::timeout;

use self::holds::Holds;
use super::db::{Pool, args, keepable, to_json};
use super::slots::{NOT_BESIDE, begin_attempt};
use super::sql::{Driver, Sql, horizon};
use super::{ClaimedInvocation, Held, Lease, Looked, QueueEntry};

mod holds;

pub(crate) use holds::RowHold;
pub use holds::Timing;

const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/postgres/0001.sql"),
    include_str!("../migrations/0002.sql"),
    include_str!("../migrations/0003.sql"),
    include_str!("../migrations/0004.sql"),
];

/// Connections a process holds at the most: 27 functions stay below a server's usual hundred.
const CONNECTIONS_MAX: u32 = 3;

/// How long a call waits for a connection; a server that starts again takes a few seconds.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that was idle for longer is closed: Lambda freezes processes for hours.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Expired holds are kept for this long, for people who look for what died.
const EXPIRED_KEPT: &str = "1 day";

/// Waits for the turn to take an invocation, where one is due that may not be run beside others of its task.
const TAKE_TURN: &str = "SELECT 1 AS turn FROM (SELECT pg_advisory_xact_lock(hashtextextended('minerva take ' || current_schema(), 0))
     WHERE EXISTS (SELECT 1 FROM invocations WHERE state = 'queued' AND alone = 1 AND due_ms <= $1)) AS taken";

/// State in one schema of a PostgreSQL database.
pub type Postgres = Sql<Server>;

/// What `local-runner doctor` tells of the server.
#[derive(Clone, Debug)]
pub struct About {
    /// Its version.
    pub server: String,
    /// The schema that holds our tables.
    pub schema: String,
    /// How many migrations have been made.
    pub version: i64,
    /// Whether the connection is encrypted.
    pub is_encrypted: bool,
    /// How far its clock is ahead of ours.
    pub ahead: SignedDuration,
}

impl Postgres {
    /// Connects and brings the schema to the newest version.
    ///
    /// # Errors
    /// `Config`, when the address, the user or the rights are wrong; `Store`, when the server cannot be reached.
    pub async fn open(address: &Address) -> Result<Self> {
        Self::open_as(address, None).await
    }

    /// As [`open`](Self::open), for the process that logs to this stream: what it holds can be released when it is known to be
    /// dead.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_as(address: &Address, log_stream: Option<&str>) -> Result<Self> {
        Self::opened(address, Timing::default(), log_stream).await
    }

    /// As [`open`](Self::open), with a heartbeat of one's own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(address: &Address, timing: Timing) -> Result<Self> {
        Self::opened(address, timing, None).await
    }

    async fn opened(address: &Address, timing: Timing, log_stream: Option<&str>) -> Result<Self> {
        let options = options(address).map_err(|cause| refused(address, cause))?;
        first(address, &options, async |connection| migrate(connection).await).await?;
        Ok(Self::connected(options, timing, log_stream))
    }

    /// Opens the state for reading, and makes nothing there.
    ///
    /// # Errors
    /// What would keep a task from using it.
    pub async fn look(address: &Address) -> Result<Looked<Self>> {
        let options = options(address).map_err(|cause| refused(address, cause))?;
        let (found, schema, may_create) = first(address, &options, async |connection| {
            let found = version(&mut *connection).await?;
            let (schema, may_create): (Option<String>, Option<bool>) = sqlx::query_as(
                "SELECT current_schema()::text, has_schema_privilege(current_schema(), 'CREATE')",
            )
            .fetch_one(connection)
            .await?;
            Ok((found, schema, may_create == Some(true)))
        })
        .await?;
        let what = format!("open PostgreSQL at `{}`", address.shown());
        let known = found.map(known).transpose().map_err(|cause| refused(address, cause))?;
        match (known, schema) {
            (Some(done), _) if done < MIGRATIONS.len() => Ok(Looked::Older),
            (Some(_), _) => Ok(Looked::Ready(Self::connected(options, Timing::default(), None))),
            (None, None) => {
                let why = "there is no schema of those that `search_path` names";
                Err(Error::config(what).because(why).hint(NO_SCHEMA))
            }
            (None, Some(_)) if may_create => Ok(Looked::Missing),
            (None, Some(schema)) => {
                let why = format!("the user may not make tables in the schema `{schema}`");
                Err(Error::config(what).because(why).hint(NO_RIGHT))
            }
        }
    }

    fn connected(options: PgConnectOptions, timing: Timing, log_stream: Option<&str>) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql("SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'")
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .connect_lazy_with(options);
        let holds = Holds::new(pool.clone(), timing, log_stream);
        Self { pool: Pool::Postgres(pool.clone()), driver: Server { pool, holds } }
    }

    /// What the server is.
    ///
    /// # Errors
    /// `Store`, when it cannot be asked.
    pub async fn about(&self) -> Result<About> {
        let failed = failed("ask the server what it is");
        // A first round opens the connection, so that the second one's clock is read without that delay.
        let (server, schema, version, is_encrypted): (String, String, i64, bool) = sqlx::query_as(
            "SELECT current_setting('server_version'), current_schema()::text, (SELECT version FROM minerva_schema),
                 (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())",
        )
        .fetch_one(&self.driver.pool)
        .await
        .map_err(&failed)?;
        let before = Clock::Machine.now(None);
        let (theirs,): (i64,) =
            sqlx::query_as("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
                .fetch_one(&self.driver.pool)
                .await
                .map_err(&failed)?;
        let after = Clock::Machine.now(None);
        let ours = before.as_millisecond().midpoint(after.as_millisecond());
        let ahead = SignedDuration::from_millis(theirs - ours);
        Ok(About { server, schema, version, is_encrypted, ahead })
    }
}

/// Holds as rows of the server.
pub struct Server {
    pool: PgPool,
    holds: Arc<Holds>,
}

/// Does something on the first connection, within [`CONNECT_TIMEOUT`].
async fn first<T>(
    address: &Address,
    options: &PgConnectOptions,
    work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
) -> Result<T> {
    // Not from the pool: that would wait out every refusal and tell none.
    let first = async {
        let mut connection = options.connect().await?;
        let done = work(&mut connection).await?;
        connection.close().await.map(|()| done)
    };
    match timeout(CONNECT_TIMEOUT, first).await {
        Ok(done) => done.map_err(|cause| refused(address, cause)),
        Err(_) => Err(Error::unreachable(format!(
            "open PostgreSQL at `{}`: no answer in {} s",
            address.shown(),
            CONNECT_TIMEOUT.as_secs()
        ))
        .hint("check host and port in `DATABASE_URL`, and that a firewall lets it through")),
    }
}

/// The number of migrations made, as this program can count them.
fn known(version: i64) -> sqlx::Result<usize> {
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done <= MIGRATIONS.len() {
        return Ok(done);
    }
    let newest = MIGRATIONS.len();
    Err(sqlx::Error::Configuration(
        format!("its schema has version {done}, this program knows {newest}").into(),
    ))
}

/// Brings the schema to the newest version, once however many start at the same time.
async fn migrate(connection: &mut PgConnection) -> sqlx::Result<()> {
    let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if version(&mut *connection).await? == Some(newest) {
        return purge(connection).await;
    }
    let mut transaction = connection.begin().await?;
    sqlx::query(
        "SELECT pg_advisory_xact_lock(hashtextextended('minerva ' || current_schema(), 0))",
    )
    .execute(&mut *transaction)
    .await?;
    // Read again: another may have done it while this one waited.
    let done = version(&mut transaction).await?;
    let done_before = known(done.unwrap_or(0))?;
    if done.is_none() {
        sqlx::raw_sql(
            "CREATE TABLE minerva_schema (version BIGINT NOT NULL); INSERT INTO minerva_schema VALUES (0)",
        )
        .execute(&mut *transaction)
        .await?;
    }
    for migration in MIGRATIONS.iter().skip(done_before) {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    sqlx::query("UPDATE minerva_schema SET version = $1")
        .bind(newest)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// The schema's version; `None` for an empty one.
async fn version(connection: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    // Not `to_regclass`: it may answer from a cache that is older than the lock this connection waited for.
    let (is_there,): (bool,) = sqlx::query_as(
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = 'minerva_schema')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !is_there {
        return Ok(None);
    }
    let (version,): (i64,) =
        sqlx::query_as("SELECT version FROM minerva_schema").fetch_one(connection).await?;
    Ok(Some(version))
}

/// Forgets what died long ago.
async fn purge(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM holds WHERE expires < clock_timestamp() - $1::interval")
        .bind(EXPIRED_KEPT)
        .execute(connection)
        .await?;
    Ok(())
}

/// What to do when one side wants TLS in a way that the other has not.
const DISAGREE: &str = "the server and `sslmode` in `DATABASE_URL` do not agree: `prefer` takes what there is, `verify-full` needs a \
     certificate that `sslrootcert` or this machine trusts";

/// What to do about a schema that is not there, and one that is another's.
const NO_SCHEMA: &str = "create the schema that `search_path` names: `CREATE SCHEMA …`";
const NO_RIGHT: &str = "the user may not create tables there: `GRANT CREATE ON SCHEMA …`";

/// The cause within the driver's own error, which repeats it.
fn inner(error: sqlx::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        sqlx::Error::Io(cause) => cause.into(),
        sqlx::Error::Tls(cause) | sqlx::Error::Configuration(cause) => cause,
        sqlx::Error::Database(cause) => cause.into_error(),
        other => other.into(),
    }
}

/// What the driver connects with.
fn options(address: &Address) -> sqlx::Result<PgConnectOptions> {
    let options = PgConnectOptions::from_url(address.url().expose())?;
    Ok(match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("minerva"),
    })
}

/// Why the store could not be opened, and what to do about it.
fn refused(address: &Address, cause: sqlx::Error) -> Error {
    let what = format!("open PostgreSQL at `{}`", address.shown());
    let (is_config, hint) = match &cause {
        sqlx::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => (
            false,
            "nothing listens there: start PostgreSQL, or mend host and port in `DATABASE_URL`",
        ),
        // A certificate that is not trusted comes as an error of the stream.
        sqlx::Error::Io(io) if io.kind() == ErrorKind::InvalidData => (true, DISAGREE),
        sqlx::Error::Io(_) => (false, "check host and port in `DATABASE_URL`, and the network"),
        sqlx::Error::Tls(_) => (true, DISAGREE),
        sqlx::Error::Configuration(_) => (
            true,
            "`DATABASE_URL` names a database of a newer version, or a file that cannot be read",
        ),
        sqlx::Error::Database(error) => match error.code().as_deref().unwrap_or_default() {
            "28P01" => (true, "check user and password in `DATABASE_URL`"),
            "28000" => (
                true,
                "the server does not let this user in from here, or not without TLS: see its pg_hba.conf, and `sslmode` in `DATABASE_URL`",
            ),
            "3D000" => (true, "create it with `createdb`, or mend the name in `DATABASE_URL`"),
            "3F000" => (true, NO_SCHEMA),
            "42501" => (true, NO_RIGHT),
            "42P07" => (
                true,
                "the schema holds tables of another program: give these one of their own, with `?options=-csearch_path%3Dminerva` in `DATABASE_URL`",
            ),
            "53300" => (false, "raise the server's `max_connections`, or run less at once"),
            "57P03" => (false, "the server is starting: the next run finds it"),
            _ => (false, "see the server's log"),
        },
        _ => (false, "is it PostgreSQL that listens there?"),
    };
    let error = if is_config { Error::config(what) } else { Error::unreachable(what) };
    error.because(inner(cause)).hint(hint)
}

/// A store's error from PostgreSQL's, saying what was tried.
fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> Error + Send + Sync {
    move |cause| {
        let hint = match &cause {
            sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => Some(
                "PostgreSQL does not answer: what was stored is safe, and the next run goes on",
            ),
            sqlx::Error::Database(error) => match error.code().as_deref().unwrap_or_default() {
                "53100" => Some(
                    "the server's disk is full: free some space; nothing was lost, the next run goes on",
                ),
                "25006" => Some("the server is read-only: `DATABASE_URL` must name the primary"),
                "57P01" | "57P02" | "57P03" => {
                    Some("the server is being restarted: the next run goes on")
                }
                _ => None,
            },
            _ => None,
        };
        let is_lost = match &cause {
            sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => true,
            sqlx::Error::Database(error) => {
                matches!(error.code().as_deref(), Some("57P01" | "57P02" | "57P03"))
            }
            _ => false,
        };
        let error = if is_lost { Error::unreachable(what) } else { Error::store(what) };
        let error = error.because(inner(cause));
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

#[async_trait]
impl Driver for Server {
    const BY_BYTES: &'static str = r#" COLLATE "C""#;
    const INSERTED: &'static str = "number";
    const HELD: &'static str =
        "SELECT 1 AS held FROM holds WHERE name = 'source/' || $1 AND fence = $2 FOR SHARE";

    fn keepable(text: &str) -> String {
        keepable(text)
    }

    fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> Error + Send + Sync {
        failed(what)
    }

    async fn hold(&self, what: &'static str, name: String) -> Result<Option<Held>> {
        Ok(self.holds.take(name).await.map_err(failed(what))?.map(Held::Row))
    }

    /// What cannot be released now is tried again, and expires.
    async fn release(&self) {
        if let Err(cause) = self.holds.release().await {
            tracing::warn!(error = %cause, "release holds");
        }
    }

    async fn release_dead(&self, log_stream: &str) -> Result<()> {
        self.holds
            .release_dead(log_stream)
            .await
            .map_err(failed("release what a dead process held"))
    }

    async fn lease(&self, _: &Pool, source: &str) -> Result<Option<Lease>> {
        let hold = self.holds.take(format!("source/{source}")).await;
        let hold = hold.map_err(failed("take hold of a source"))?;
        Ok(hold.map(|hold| Lease {
            name: source.to_owned(),
            fence: hold.fence,
            _lock: Held::Row(hold),
        }))
    }

    async fn take(&self, pool: &Pool, now: Timestamp) -> Result<Option<ClaimedInvocation>> {
        let failed = failed("take an invocation from the queue");
        let mut transaction = pool.begin().await.map_err(&failed)?;
        // Of two that may not be run beside each other, another runner must not take one while this takes the other.
        transaction.fetch(TAKE_TURN, args![now]).await.map_err(&failed)?;
        // One statement: nobody sees the row as running and not held. A hold of an earlier attempt ends here.
        let rows = transaction
            .fetch(
                AssertSqlSafe(format!("WITH next AS (SELECT request_id FROM invocations WHERE state = 'queued' AND (due_ms <= $1 OR due_ms > $4) AND {NOT_BESIDE}
                     ORDER BY due_ms, number LIMIT 1 FOR UPDATE SKIP LOCKED),
                 taken AS (UPDATE invocations SET state = 'running', attempts = attempts + 1 FROM next
                     WHERE invocations.request_id = next.request_id RETURNING invocations.*),
                 held AS (INSERT INTO holds (name, fence, holder, expires)
                     SELECT 'invocation/' || request_id, nextval('fences'), $2, clock_timestamp() + $3 * interval '1 millisecond' FROM taken
                     ON CONFLICT (name) DO UPDATE SET fence = excluded.fence, holder = excluded.holder, expires = excluded.expires
                     RETURNING fence)
                 SELECT taken.*, held.fence FROM taken, held")),
                args![now, &self.holds.holder, self.holds.expiry_ms(), horizon(now)],
            )
            .await
            .map_err(&failed)?;
        let Some(row) = rows.first() else { return Ok(None) };
        let entry = QueueEntry::read(row).map_err(&failed)?;
        let fence = row.number("fence").map_err(&failed)?;
        let attempt = (entry.task.as_str(), entry.request_id.as_str(), entry.attempts);
        begin_attempt(&mut transaction, attempt, now).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        let hold = self.holds.taken(format!("invocation/{}", entry.request_id), fence);
        Ok(Some(ClaimedInvocation { entry, hold: Held::Row(hold) }))
    }

    async fn recover(&self, pool: &Pool, now: Timestamp) -> Result<u64> {
        // The hold of a function that died with its runner may last a moment longer: taken before that, it would find its run
        // held and have to wait in line again.
        pool.execute(
            "UPDATE invocations SET state = 'queued', due_ms = LEAST(due_ms, $1) WHERE state = 'running' AND NOT EXISTS
                 (SELECT 1 FROM holds WHERE name = 'invocation/' || request_id AND expires > clock_timestamp())
             AND NOT EXISTS (SELECT 1 FROM runs JOIN holds ON holds.name = 'run/' || runs.task || '/' || runs.identity
                 WHERE runs.request_id = invocations.request_id AND runs.status = 'running' AND holds.expires > clock_timestamp())",
            args![now],
        )
        .await
        .map_err(failed("recover the queue"))
    }

    async fn held(&self, pool: &Pool, names: &[String]) -> Result<Vec<String>> {
        let failed = failed("look for what is held");
        let held = pool
            .fetch(
                "SELECT name FROM holds WHERE expires > clock_timestamp()
                     AND name IN (SELECT json_array_elements_text($1::json))",
                args![to_json(&names)],
            )
            .await
            .map_err(&failed)?;
        held.iter().map(|row| row.text("name")).collect::<sqlx::Result<_>>().map_err(&failed)
    }

    async fn under_way(&self, pool: &Pool) -> Result<Vec<String>> {
        let failed = failed("look for what is under way");
        let held = pool
            .fetch(
                "SELECT name || ', ' || holder AS held FROM holds WHERE expires > clock_timestamp() ORDER BY name",
                args![],
            )
            .await
            .map_err(&failed)?;
        held.iter().map(|row| row.text("held")).collect::<sqlx::Result<_>>().map_err(&failed)
    }
}
