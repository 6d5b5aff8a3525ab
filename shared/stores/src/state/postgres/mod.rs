//! State in PostgreSQL, for homes without a lasting disk or with several machines. Holds are rows that expire (`holds`),
//! every write is compare-and-set, and every instant that decides who may hold what is the server's.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::address::Address;
use base::clock::Clock;
use base::report::Report;
use base::{Error, Result};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};
use tokio::time::timeout;
use uuid::Uuid;

use self::holds::Holds;
use super::moving::Kind;
use super::rows::{self, Found, fenced, instant, json, to_json};
use super::{
    Claim, Due, Held, Hold, Identity, Lease, Moving, Override, Queue, QueueEntry, QueueState,
    Retry, RunRow, SourceState, State, Table, Taken, ended,
};
use crate::documents::Document;

mod holds;

pub(crate) use holds::RowHold;
pub use holds::Timing;

const MIGRATIONS: &[&str] = &[include_str!("../migrations/postgres/0001.sql")];

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

/// State in one schema of a PostgreSQL database.
pub struct Postgres {
    pool: PgPool,
    holds: Arc<Holds>,
    timing: Timing,
}

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
        Self::open_with(address, Timing::default()).await
    }

    /// As [`open`](Self::open), with a heartbeat of one's own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(address: &Address, timing: Timing) -> Result<Self> {
        let options = address.options().expose().clone();
        // Not from the pool: that would wait out every refusal and tell none.
        let first = async {
            let mut connection = options.connect().await?;
            migrate(&mut connection).await?;
            connection.close().await
        };
        match timeout(CONNECT_TIMEOUT, first).await {
            Ok(done) => done.map_err(|cause| refused(address, cause))?,
            Err(_) => {
                return Err(Error::store(format!(
                    "open PostgreSQL at `{}`: no answer in {} s",
                    address.shown(),
                    CONNECT_TIMEOUT.as_secs()
                ))
                .hint(
                    "check host and port in `DATABASE_URL`, and that a firewall lets it through",
                ));
            }
        }
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
        let holds = Holds::new(pool.clone(), timing);
        Ok(Self { pool, holds, timing })
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
        .fetch_one(&self.pool)
        .await
        .map_err(&failed)?;
        let before = Clock::Machine.now(None);
        let (theirs,): (i64,) =
            sqlx::query_as("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
                .fetch_one(&self.pool)
                .await
                .map_err(&failed)?;
        let after = Clock::Machine.now(None);
        let ours = before.as_millisecond().midpoint(after.as_millisecond());
        let ahead = SignedDuration::from_millis(theirs - ours);
        Ok(About { server, schema, version, is_encrypted, ahead })
    }

    async fn hold_run(&self, task: &str, identity: &str) -> sqlx::Result<Option<RowHold>> {
        self.holds.take(format!("run/{task}/{identity}")).await
    }

    /// Lets go of what was dropped before an answer is given; what cannot be let go of now is tried again, and expires.
    async fn let_go(&self) {
        if let Err(cause) = self.holds.let_go().await {
            tracing::warn!(error = %cause, "let go of holds");
        }
    }

    /// Takes over a run that was found and is held: one more attempt under a higher fencing number.
    async fn take_over(
        &self,
        found: Found,
        hold: RowHold,
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
        Ok((claimed.rows_affected() == 1).then(|| found.taken_over(Held::Row(hold))))
    }

    /// Makes the first attempt's row and, in the same transaction, ends the runs of the task that lost their process or
    /// their continuation; gives the newest checkpoint of theirs. `None` when another was first.
    async fn first(
        &self,
        run_id: &str,
        task: &str,
        identity: &Identity,
        request_id: &str,
        now: Timestamp,
    ) -> sqlx::Result<Option<Option<Value>>> {
        let found = sqlx::query(rows::ORPHANS).bind(task).fetch_all(&self.pool).await?;
        // Held before the transaction begins, whose connection would else be one of three that all wait for a fourth.
        let mut orphans = Vec::new();
        for orphan in &found {
            if let Some(hold) = self.hold_run(task, &rows::text(orphan, "identity")?).await? {
                orphans.push((orphan, hold));
            }
        }
        let mut transaction = self.pool.begin().await?;
        let mut checkpoint = None;
        for (orphan, _hold) in &orphans {
            let ended = sqlx::query(rows::ADOPT)
                .bind(rows::text(*orphan, "run_id")?)
                .bind(rows::number(*orphan, "fence")?)
                .bind(now.as_millisecond())
                .execute(&mut *transaction)
                .await?;
            if ended.rows_affected() == 1 {
                checkpoint = json::<Value>(*orphan, "checkpoint")?.or(checkpoint);
            }
        }
        let inserted = sqlx::query(rows::FIRST)
            .bind(run_id)
            .bind(task)
            .bind(identity.key())
            .bind(identity.slot().map(Timestamp::as_millisecond))
            .bind(checkpoint.as_ref().map(to_json))
            .bind(now.as_millisecond())
            .bind(request_id)
            .execute(&mut *transaction)
            .await?;
        if inserted.rows_affected() == 0 {
            return Ok(None);
        }
        transaction.commit().await?;
        Ok(Some(checkpoint))
    }
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
    let done_before = usize::try_from(done.unwrap_or(0)).unwrap_or(usize::MAX);
    if done_before > MIGRATIONS.len() {
        return Err(sqlx::Error::Configuration(
            format!("its schema has version {done_before}, this program knows {newest}").into(),
        ));
    }
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

/// The cause within the driver's own error, which repeats it.
fn inner(error: sqlx::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        sqlx::Error::Io(cause) => cause.into(),
        sqlx::Error::Tls(cause) | sqlx::Error::Configuration(cause) => cause,
        sqlx::Error::Database(cause) => cause.into_error(),
        other => other.into(),
    }
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
            "3F000" => (true, "create the schema that `search_path` names: `CREATE SCHEMA …`"),
            "42501" => (true, "the user may not create tables there: `GRANT CREATE ON SCHEMA …`"),
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
    let error = if is_config { Error::config(what) } else { Error::store(what) };
    error.because(inner(cause)).hint(hint)
}

/// A store's error from PostgreSQL's, saying what was tried.
fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> Error {
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
        let error = Error::store(what).because(inner(cause));
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// Compares text by bytes, as SQLite does, whatever the database was made with.
const BY_BYTES: &str = r#" COLLATE "C""#;

/// Text that PostgreSQL can keep: it has no place for NUL.
fn keepable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[async_trait]
impl State for Postgres {
    async fn begin(
        &self,
        task: &str,
        identity: &Identity,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Claim> {
        let failed = failed("claim a run");
        let key = identity.key();
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
        // What was read may have changed before it is held: the statements below compare before they set.
        let hold = self.hold_run(task, &key).await.map_err(&failed)?;
        let Some(hold) = hold else {
            return Ok(Claim::Skip(format!("another attempt at {key} is running")));
        };
        let claimed = if let Some(found) = found {
            self.take_over(found, hold, request_id, now).await.map_err(&failed)?
        } else {
            let run_id = Uuid::new_v4().to_string();
            let first = self.first(&run_id, task, identity, request_id, now).await;
            first
                .map_err(&failed)?
                .map(|checkpoint| Hold::first(run_id, task, identity, checkpoint, Held::Row(hold)))
        };
        Ok(match claimed {
            Some(hold) => Claim::Run(Box::new(hold)),
            None => Claim::Skip(format!("another attempt at {key} was first")),
        })
    }

    async fn resume(
        &self,
        run_id: &str,
        step: u32,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Claim> {
        let failed = failed("claim a continuation");
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{} WHERE run_id = $1", rows::FOUND)))
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
        let hold = self.hold_run(&found.task, &found.identity).await.map_err(&failed)?;
        let Some(hold) = hold else {
            return Ok(Claim::Skip(format!("step {step} of run {run_id} is running")));
        };
        Ok(match self.take_over(found, hold, request_id, now).await.map_err(&failed)? {
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
        let next = hold.step + 1;
        let updated = sqlx::query(
            "UPDATE runs SET status = 'continuing', step = $3, checkpoint = $4, report = $5, finished_ms = $6
             WHERE run_id = $1 AND fence = $2",
        )
        .bind(&hold.run_id)
        .bind(hold.fence)
        .bind(i64::from(next))
        .bind(to_json(checkpoint))
        .bind(to_json(report))
        .bind(now.as_millisecond())
        .execute(&self.pool)
        .await
        .map_err(failed("store a checkpoint"))?;
        fenced(&format!("run {}", hold.run_id), updated.rows_affected())?;
        drop(hold);
        self.let_go().await;
        Ok(next)
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
        self.let_go().await;
        fenced(&format!("run {run_id}"), updated.rows_affected())
    }

    async fn runs(&self, task: Option<&str>, limit: u32) -> Result<Vec<RunRow>> {
        let failed = failed("read the runs");
        let found = sqlx::query("SELECT * FROM runs WHERE $1 IS NULL OR task = $1 ORDER BY started_ms DESC, number DESC LIMIT $2")
            .bind(task)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        found.iter().map(rows::run).collect::<sqlx::Result<_>>().map_err(&failed)
    }

    async fn run_of(&self, request_id: &str) -> Result<Option<RunRow>> {
        let failed = failed("read a run");
        let row = sqlx::query(rows::RUN_OF).bind(request_id).fetch_optional(&self.pool).await;
        row.map_err(&failed)?.as_ref().map(rows::run).transpose().map_err(&failed)
    }

    async fn lease(&self, source: &str) -> Result<Option<Lease>> {
        let hold = self.holds.take(format!("source/{source}")).await;
        let hold = hold.map_err(failed("take hold of a source"))?;
        Ok(hold.map(|hold| Lease {
            name: source.to_owned(),
            fence: hold.fence,
            _lock: Held::Row(hold),
        }))
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
        let found = sqlx::query(rows::SOURCES).bind(family).fetch_all(&self.pool).await;
        let found = found.map_err(&failed)?;
        found
            .iter()
            .map(|row| rows::by_id(row, "state"))
            .collect::<sqlx::Result<_>>()
            .map_err(&failed)
    }

    async fn save_source(&self, lease: &Lease, state: &SourceState) -> Result<()> {
        // The hold's row is locked until the state is written: a successor's own write comes after it.
        let saved = sqlx::query(
            "WITH held AS (SELECT 1 FROM holds WHERE name = 'source/' || $1 AND fence = $3 FOR SHARE)
             INSERT INTO sources (name, state) SELECT $1, $2 FROM held
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
        let found = sqlx::query(rows::OVERRIDES).bind(family).fetch_all(&self.pool).await;
        let found = found.map_err(&failed)?;
        found
            .iter()
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
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let held = sqlx::query(
            "SELECT 1 FROM holds WHERE name = 'source/' || $1 AND fence = $2 FOR SHARE",
        )
        .bind(&lease.name)
        .bind(lease.fence)
        .fetch_all(&mut *transaction)
        .await
        .map_err(&failed)?;
        fenced(&lease.name, held.len() as u64)?;
        let ids: Vec<String> = items.iter().map(|(id, _)| keepable(id)).collect();
        sqlx::query("DELETE FROM retries WHERE $3 AND source = $1 AND NOT id = ANY($2)")
            .bind(&lease.name)
            .bind(&ids)
            .bind(is_whole)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        for (id, (_, reason)) in ids.iter().zip(items) {
            sqlx::query(rows::NOTE_FAILED)
                .bind(&lease.name)
                .bind(id)
                .bind(keepable(reason))
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn retries(&self, source: &str) -> Result<Vec<Retry>> {
        let failed = failed("read the retry ledger");
        let found = sqlx::query(rows::RETRIES).bind(source).fetch_all(&self.pool).await;
        found
            .map_err(&failed)?
            .iter()
            .map(rows::retry)
            .collect::<sqlx::Result<_>>()
            .map_err(&failed)
    }
}

#[async_trait]
impl Moving for Postgres {
    async fn rows(&self, table: Table, after: Option<&str>, limit: u32) -> Result<Vec<Document>> {
        let failed = failed("read rows of the state");
        let found = sqlx::query(sqlx::AssertSqlSafe(table.select(BY_BYTES)))
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        found.iter().map(|row| table.read(row)).collect::<sqlx::Result<_>>().map_err(&failed)
    }

    async fn put_rows(&self, table: Table, gone: &[String], rows: &[Document]) -> Result<()> {
        let failed = failed("write rows of the state");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for key in gone {
            let delete = sqlx::query(sqlx::AssertSqlSafe(table.delete(BY_BYTES))).bind(key);
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
        let held = sqlx::query(
            "SELECT name || ', ' || holder AS held FROM holds WHERE expires > clock_timestamp() ORDER BY name",
        );
        let held = held.fetch_all(&self.pool).await.map_err(&failed)?;
        held.iter().map(|row| rows::text(row, "held")).collect::<sqlx::Result<_>>().map_err(&failed)
    }
}

#[async_trait]
impl Queue for Postgres {
    async fn fire(
        &self,
        row: &str,
        seen: Option<Timestamp>,
        until: Timestamp,
        firings: &[Due],
    ) -> Result<bool> {
        let failed = failed("advance the timetable");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
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
            enqueue(&mut transaction, due).await.map_err(&failed)?;
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
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        enqueue(&mut connection, due).await.map_err(&failed)
    }

    async fn take(&self, now: Timestamp) -> Result<Option<Taken>> {
        let failed = failed("take an invocation from the queue");
        // One statement: nobody sees the row as running and not held. A hold of an earlier attempt ends here.
        let row = sqlx::query(
            "WITH next AS (SELECT request_id FROM invocations WHERE state = 'queued' AND due_ms <= $1
                 ORDER BY due_ms, number LIMIT 1 FOR UPDATE SKIP LOCKED),
             taken AS (UPDATE invocations SET state = 'running', attempts = attempts + 1 FROM next
                 WHERE invocations.request_id = next.request_id RETURNING invocations.*),
             held AS (INSERT INTO holds (name, fence, holder, expires)
                 SELECT 'invocation/' || request_id, nextval('fences'), $2, clock_timestamp() + $3 * interval '1 millisecond' FROM taken
                 ON CONFLICT (name) DO UPDATE SET fence = excluded.fence, holder = excluded.holder, expires = excluded.expires
                 RETURNING fence)
             SELECT taken.*, held.fence FROM taken, held",
        )
        .bind(now.as_millisecond())
        .bind(&self.holds.holder)
        .bind(self.timing.expiry_ms())
        .fetch_optional(&self.pool)
        .await
        .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let entry = rows::entry(&row).map_err(&failed)?;
        let fence = rows::number(&row, "fence").map_err(&failed)?;
        let hold = self.holds.taken(format!("invocation/{}", entry.request_id), fence);
        Ok(Some(Taken { entry, hold: Held::Row(hold) }))
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
        let Taken { entry, hold } = taken;
        let settled = sqlx::query(rows::SETTLE)
            .bind(&entry.request_id)
            .bind(i64::from(entry.attempts))
            .bind(state.name())
            .bind(due.map(Timestamp::as_millisecond))
            .bind(error.map(keepable))
            .execute(&self.pool)
            .await
            .map_err(failed("settle an invocation"))?;
        drop(hold);
        self.let_go().await;
        fenced(&format!("invocation `{}`", entry.request_id), settled.rows_affected())
    }

    async fn recover(&self, now: Timestamp) -> Result<u64> {
        self.let_go().await;
        let put_back = sqlx::query(
            "UPDATE invocations SET state = 'queued', due_ms = $1 WHERE state = 'running' AND NOT EXISTS
                 (SELECT 1 FROM holds WHERE name = 'invocation/' || request_id AND expires > clock_timestamp())",
        )
        .bind(now.as_millisecond())
        .execute(&self.pool)
        .await
        .map_err(failed("recover the queue"))?;
        Ok(put_back.rows_affected())
    }

    async fn queue(&self, state: QueueState, limit: u32) -> Result<Vec<QueueEntry>> {
        let failed = failed("read the queue");
        let found = sqlx::query(
            "SELECT * FROM invocations WHERE state = $1 ORDER BY due_ms DESC, number DESC LIMIT $2",
        )
        .bind(state.name())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(&failed)?;
        found.iter().map(rows::entry).collect::<sqlx::Result<_>>().map_err(&failed)
    }
}

async fn enqueue(connection: &mut PgConnection, due: &Due) -> sqlx::Result<()> {
    sqlx::query(rows::ENQUEUE)
        .bind(&due.request_id)
        .bind(&due.task)
        .bind(to_json(&due.event))
        .bind(due.due.as_millisecond())
        .execute(connection)
        .await?;
    Ok(())
}
