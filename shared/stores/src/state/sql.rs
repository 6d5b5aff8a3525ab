//! State in a SQL database: each call once. What differs between databases is behind [`Driver`].

use std::collections::BTreeMap;

use async_trait::async_trait;
use base::report::Report;
use base::{Error, Result};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sqlx::{AssertSqlSafe, SqlSafeStr};
use uuid::Uuid;

use super::db::{Arg, Pool, Row, Transaction, args, to_json};
use super::{
    Claim, ClaimedInvocation, Held, HistoryQuery, Hold, Identity, Lease, Override, RunRow,
    SourceState, State, StateReader, ended,
};

/// What differs between databases: who holds what, what errors mean, and a few words of SQL.
#[async_trait]
pub(super) trait Driver: Send + Sync {
    /// Behind an expression, makes its text compared by bytes.
    const BY_BYTES: &'static str;

    /// The column by which rows of `runs` and `invocations` are in the order in which they came.
    const INSERTED: &'static str;

    /// Gives a row while the source `$1` is held under the number `$2`, and keeps it so until the transaction ends.
    const HELD: &'static str;

    /// Text as the database keeps it.
    fn keepable(text: &str) -> String {
        text.to_owned()
    }

    /// The store's error from the database's, saying what was tried.
    fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> Error + Send + Sync;

    /// Holds a name among all processes; `None` when another does.
    async fn hold(&self, what: &'static str, name: String) -> Result<Option<Held>>;

    /// Makes names that were dropped free for others before a call answers.
    async fn release(&self) {}

    /// Makes free what a process held that is dead; a kernel does that by itself.
    async fn release_dead(&self, _log_stream: &str) -> Result<()> {
        Ok(())
    }

    /// Holds a source under a number that none of its holders had before.
    async fn lease(&self, pool: &Pool, source: &str) -> Result<Option<Lease>>;

    /// Takes the oldest invocation that is due, as running and held.
    async fn take(&self, pool: &Pool, now: Timestamp) -> Result<Option<ClaimedInvocation>>;

    /// Queues again what is running and not held; gives how many.
    async fn recover(&self, pool: &Pool, now: Timestamp) -> Result<u64>;

    /// Which of these names are held now.
    async fn held(&self, pool: &Pool, names: &[String]) -> Result<Vec<String>>;

    /// Runs and invocations that are held, for people.
    async fn under_way(&self, pool: &Pool) -> Result<Vec<String>>;
}

/// State in a SQL database.
pub struct Sql<D> {
    pub(super) pool: Pool,
    pub(super) driver: D,
}

/// The furthest that an invocation may be due ahead: no retry waits for so long. One that is due later was queued under another
/// clock, and is due at once.
const DUE_AHEAD_MAX: SignedDuration = SignedDuration::from_hours(3);

/// The instant behind which nothing that is due is believed.
pub(super) fn horizon(now: Timestamp) -> Timestamp {
    now.checked_add(DUE_AHEAD_MAX).unwrap_or(Timestamp::MAX)
}

/// The name of the hold on a run.
pub(super) fn run_name(task: &str, identity: &str) -> String {
    format!("run/{task}/{identity}")
}

/// Refuses a write whose holder has been succeeded.
pub(super) fn fenced(what: &str, rows: u64) -> Result<()> {
    if rows == 1 {
        return Ok(());
    }
    Err(Error::store(format!("write the state of {what}: a later attempt has taken it over"))
        .hint("nothing to do: the later attempt does the work"))
}

#[expect(private_bounds, reason = "these are the parts of the public calls")]
impl<D: Driver> Sql<D> {
    /// Reads rows.
    pub(super) async fn fetch<T>(
        &self,
        what: &'static str,
        sql: impl SqlSafeStr + Send,
        args: Vec<Arg>,
        read: fn(&Row) -> sqlx::Result<T>,
    ) -> Result<Vec<T>> {
        let failed = D::failed(what);
        let rows = self.pool.fetch(sql, args).await.map_err(&failed)?;
        rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(&failed)
    }

    /// Writes, and gives how many rows that were.
    pub(super) async fn execute(
        &self,
        what: &'static str,
        sql: impl SqlSafeStr + Send,
        args: Vec<Arg>,
    ) -> Result<u64> {
        self.pool.execute(sql, args).await.map_err(D::failed(what))
    }

    /// Begins a transaction in which a source is held by this lease, and by nobody else until it ends.
    pub(super) async fn begin_held(
        &self,
        what: &'static str,
        lease: &Lease,
    ) -> Result<Transaction> {
        let mut transaction = self.pool.begin().await.map_err(D::failed(what))?;
        let args = args![&lease.name, lease.fence];
        let held = transaction.fetch(D::HELD, args).await.map_err(D::failed(what))?;
        fenced(&lease.name, held.len() as u64)?;
        Ok(transaction)
    }

    /// Tells runs whose process died from those that are running: nobody holds them.
    async fn told_alive(&self, found: Vec<ListedRun>) -> Result<Vec<RunRow>> {
        let is_running = |run: &&ListedRun| run.row.status == RUNNING;
        let names: Vec<String> = found.iter().filter(is_running).map(ListedRun::hold).collect();
        let held =
            if names.is_empty() { names } else { self.driver.held(&self.pool, &names).await? };
        let rows = found.into_iter().map(|mut run| {
            if run.row.status == RUNNING && !held.contains(&run.hold()) {
                INTERRUPTED.clone_into(&mut run.row.status);
            }
            run.row
        });
        Ok(rows.collect())
    }

    /// Takes over a run that was found and is held: one more attempt under a higher fencing number, unless another was
    /// first, or it is done, or it went a step further after it was read.
    async fn take_over(
        &self,
        found: FoundRun,
        lock: Held,
        request_id: &str,
        now: Timestamp,
    ) -> sqlx::Result<Option<Hold>> {
        let claimed = self
            .pool
            .execute(
                "UPDATE runs SET status = 'running', fence = fence + 1, attempt = attempt + 1, started_ms = $3, finished_ms = NULL, request_id = $4,
                     input = COALESCE(input, $6)
                 WHERE run_id = $1 AND fence = $2 AND step = $5 AND status NOT IN ('complete', 'partial')",
                args![
                    &found.run_id,
                    found.fence,
                    now,
                    request_id,
                    found.step,
                    found.input.as_ref().and_then(input_json)
                ],
            )
            .await?;
        Ok((claimed == 1).then(|| found.taken_over(lock)))
    }

    /// Makes the first attempt's row and, in the same transaction, ends the runs of the task that lost their process or
    /// their continuation; goes on from the newest checkpoint of theirs. `None` when another was first.
    ///
    /// Such a run is looked at and not held: its own next attempt, which may come at this moment, must find it free. Whichever
    /// comes first raises the fence, and the other is refused by it.
    async fn first(
        &self,
        task: &str,
        identity: &Identity,
        input: &Value,
        request_id: &str,
        now: Timestamp,
        lock: Held,
    ) -> Result<Option<Hold>> {
        let failed = D::failed(CLAIM);
        let found = self
            .fetch(
                CLAIM,
                // Sorted by a value: the order of an index would be bought by reading all runs of the task.
                "SELECT identity, run_id, fence, checkpoint
                 FROM runs WHERE task = $1 AND status IN ('running', 'continuing') ORDER BY started_ms + 0",
                args![task],
                Orphan::read,
            )
            .await?;
        let name = |orphan: &Orphan| run_name(task, &orphan.identity);
        let names: Vec<String> = found.iter().map(name).collect();
        let held =
            if names.is_empty() { names } else { self.driver.held(&self.pool, &names).await? };
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let mut checkpoint = None;
        for orphan in found.iter().filter(|orphan| !held.contains(&name(orphan))) {
            let adopted = transaction
                .execute(
                    "UPDATE runs SET status = CASE WHEN checkpoint IS NULL THEN 'failed' ELSE 'partial' END,
                         fence = fence + 1, checkpoint = NULL, finished_ms = $3
                     WHERE run_id = $1 AND fence = $2 AND status IN ('running', 'continuing')",
                    args![&orphan.run_id, orphan.fence, now],
                )
                .await
                .map_err(&failed)?;
            if adopted == 1 && orphan.checkpoint.is_some() {
                checkpoint.clone_from(&orphan.checkpoint);
            }
        }
        let run_id = Uuid::new_v4().to_string();
        let inserted = transaction
            .execute(
                "INSERT INTO runs (run_id, task, identity, slot_ms, input, status, fence, attempt, step, checkpoint, started_ms, request_id)
                 VALUES ($1, $2, $3, $4, $5, 'running', 1, 1, 0, $6, $7, $8) ON CONFLICT DO NOTHING",
                args![
                    &run_id,
                    task,
                    identity.key(),
                    identity.slot(),
                    input_json(input),
                    checkpoint.as_ref().map(to_json),
                    now,
                    request_id,
                ],
            )
            .await
            .map_err(&failed)?;
        if inserted == 0 {
            return Ok(None);
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(Some(Hold {
            run_id,
            task: task.to_owned(),
            slot: identity.slot(),
            attempt: 1,
            step: 0,
            fence: 1,
            input: input.clone(),
            checkpoint,
            earlier: None,
            _lock: lock,
        }))
    }
}

/// An input as it is stored: nothing is NULL.
fn input_json(input: &Value) -> Option<String> {
    (!input.is_null()).then(|| to_json(input))
}

/// Whether no further attempt at a run of this status is made.
fn is_over(status: &str) -> bool {
    matches!(status, "complete" | "partial")
}

/// How often a run is looked at that changed before it was claimed: it changes once where it is ended as nobody's.
const CLAIM_LOOKS: u32 = 3;

/// The columns of a run, by name: `*` is other columns while a newer version of this program adds some.
const RUN: &str = "run_id, task, identity, slot_ms, status, fence, attempt, step, input, checkpoint, report, started_ms, finished_ms";

/// What `begin` tries, in its errors.
const CLAIM: &str = "claim a run";

#[async_trait]
impl<D: Driver> StateReader for Sql<D> {
    async fn runs(&self, task: Option<&str>, limit: u32) -> Result<Vec<RunRow>> {
        self.runs_of(&HistoryQuery { task, limit, ..HistoryQuery::default() }).await
    }

    async fn runs_of(&self, query: &HistoryQuery<'_>) -> Result<Vec<RunRow>> {
        let (asked, args) =
            query.conditions(&["task", "status", "run_id", "request_id"], "started_ms");
        let sql = format!(
            "SELECT {RUN} FROM runs {asked} ORDER BY started_ms DESC, {} DESC LIMIT {}",
            D::INSERTED,
            query.limit
        );
        let found = self.fetch("read the runs", AssertSqlSafe(sql), args, ListedRun::read).await?;
        self.told_alive(found).await
    }

    async fn runs_named(&self, id: &str, limit: u32) -> Result<Vec<RunRow>> {
        // An id is of hexadecimal digits, and `g` comes after them by any language's rules.
        let sql = format!(
            "SELECT {RUN} FROM runs WHERE run_id >= $1 AND run_id <= $1 || 'g' AND substr(run_id, 1, length($1)) = $1
             ORDER BY started_ms + 0 DESC LIMIT $2"
        );
        let found =
            self.fetch("read a run", AssertSqlSafe(sql), args![id, limit], ListedRun::read).await?;
        self.told_alive(found).await
    }

    async fn run_of(&self, request_id: &str) -> Result<Option<RunRow>> {
        let sql = format!(
            "SELECT {RUN} FROM runs WHERE request_id = $1 ORDER BY started_ms DESC LIMIT 1"
        );
        let args = args![request_id];
        Ok(self.fetch("read a run", AssertSqlSafe(sql), args, RunRow::read).await?.pop())
    }

    async fn source(&self, source: &str) -> Result<SourceState> {
        let sql = "SELECT state FROM sources WHERE name = $1";
        let found = self
            .fetch("read the state of a source", sql, args![source], |row| row.json("state"))
            .await?;
        Ok(found.into_iter().next().flatten().unwrap_or_default())
    }

    async fn sources(&self, family: &str) -> Result<Vec<(String, SourceState)>> {
        self.fetch(
            "read the states of sources",
            "SELECT substr(name, length($1) + 2) AS id, state FROM sources WHERE name LIKE $1 || '/%' ORDER BY name",
            args![family],
            |row| Ok((row.text("id")?, row.json("state")?.unwrap_or_default())),
        )
        .await
    }

    async fn overrides(&self, family: &str) -> Result<Vec<(String, Override)>> {
        self.fetch(
            "read the overrides of sources",
            "SELECT id, word FROM overrides WHERE family = $1 ORDER BY id",
            args![family],
            |row| Ok((row.text("id")?, row.json("word")?.unwrap_or_default())),
        )
        .await
    }
}

#[async_trait]
impl<D: Driver> State for Sql<D> {
    async fn begin(
        &self,
        task: &str,
        identity: &Identity,
        input: &Value,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Claim> {
        let key = identity.key();
        for _ in 0..CLAIM_LOOKS {
            let found = self
                .fetch(
                    CLAIM,
                    AssertSqlSafe(format!(
                        "SELECT {RUN} FROM runs WHERE task = $1 AND identity = $2"
                    )),
                    args![task, &key],
                    FoundRun::read,
                )
                .await?
                .pop();
            if let Some(done) = found.as_ref().filter(|found| is_over(&found.status)) {
                return Ok(Claim::Skip(format!(
                    "{key} is {} already (run {})",
                    done.status, done.run_id
                )));
            }
            // What was read may have changed before it is held: the statements below compare before they set.
            let Some(lock) = self.driver.hold(CLAIM, run_name(task, &key)).await? else {
                return Ok(Claim::Skip(format!("another attempt at {key} is running")));
            };
            let claimed = match found {
                Some(mut found) => {
                    found.input.get_or_insert_with(|| input.clone());
                    self.take_over(found, lock, request_id, now).await.map_err(D::failed(CLAIM))?
                }
                None => self.first(task, identity, input, request_id, now, lock).await?,
            };
            if let Some(hold) = claimed {
                return Ok(Claim::Run(Box::new(hold)));
            }
            // Another run of the task took it for one that nobody goes on with, and ended it as failed.
        }
        Ok(Claim::Skip(format!("another attempt at {key} was first")))
    }

    async fn is_done(&self, task: &str, identity: &Identity) -> Result<bool> {
        let sql = "SELECT status FROM runs WHERE task = $1 AND identity = $2";
        let args = args![task, identity.key()];
        let found = self.fetch("look who runs it", sql, args, |row| row.text("status")).await?;
        Ok(found.iter().any(|status| is_over(status)))
    }

    async fn is_step_done(&self, run_id: &str, step: u32) -> Result<bool> {
        let sql = "SELECT status, step FROM runs WHERE run_id = $1";
        let found = self.fetch("look who runs it", sql, args![run_id], |row| {
            Ok((row.text("status")?, row.count("step")?))
        });
        Ok(found.await?.iter().all(|(status, at)| is_over(status) || *at != step))
    }

    async fn release_dead(&self, log_stream: &str) -> Result<()> {
        self.driver.release_dead(log_stream).await
    }

    async fn resume(
        &self,
        run_id: &str,
        step: u32,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Claim> {
        const WHAT: &str = "claim a continuation";
        let found = self
            .fetch(
                WHAT,
                AssertSqlSafe(format!("SELECT {RUN} FROM runs WHERE run_id = $1")),
                args![run_id],
                FoundRun::read,
            )
            .await?;
        let Some(found) = found.into_iter().next() else {
            return Ok(Claim::Skip(format!("run {run_id} is unknown here")));
        };
        if is_over(&found.status) || found.step != step {
            return Ok(Claim::Skip(format!("step {step} of run {run_id} is done already")));
        }
        let name = run_name(&found.task, &found.identity);
        let Some(lock) = self.driver.hold(WHAT, name).await? else {
            return Ok(Claim::Skip(format!("step {step} of run {run_id} is running")));
        };
        let claimed = self.take_over(found, lock, request_id, now).await;
        Ok(match claimed.map_err(D::failed(WHAT))? {
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
        let updated = self
            .execute(
                "store a checkpoint",
                "UPDATE runs SET status = 'continuing', step = $3, checkpoint = $4, report = $5, finished_ms = $6
                 WHERE run_id = $1 AND fence = $2",
                args![&hold.run_id, hold.fence, next, to_json(checkpoint), to_json(report), now],
            )
            .await?;
        fenced(&format!("run {}", hold.run_id), updated)?;
        drop(hold);
        self.driver.release().await;
        Ok(next)
    }

    async fn finish(&self, hold: Hold, report: &Report, now: Timestamp) -> Result<()> {
        // A failed run keeps its checkpoint: the next attempt goes on from there.
        let updated = self
            .execute(
                "store how a run ended",
                "UPDATE runs SET status = $3, report = $4, finished_ms = $5,
                     checkpoint = CASE WHEN $3 = 'failed' THEN checkpoint ELSE NULL END
                 WHERE run_id = $1 AND fence = $2",
                args![&hold.run_id, hold.fence, ended(report), to_json(report), now],
            )
            .await?;
        let run_id = hold.run_id.clone();
        drop(hold);
        self.driver.release().await;
        fenced(&format!("run {run_id}"), updated)
    }

    async fn lease(&self, source: &str) -> Result<Option<Lease>> {
        self.driver.lease(&self.pool, source).await
    }

    async fn held(&self, sources: &[String]) -> Result<Vec<String>> {
        let names: Vec<String> = sources.iter().map(|source| format!("source/{source}")).collect();
        let held = self.driver.held(&self.pool, &names).await?;
        Ok(held.iter().filter_map(|name| Some(name.strip_prefix("source/")?.to_owned())).collect())
    }

    async fn save_source(&self, lease: &Lease, state: &SourceState) -> Result<()> {
        // On a server the hold's row is locked until the state is written: a successor's own write comes after it.
        let sql = format!(
            "WITH held AS ({}) INSERT INTO sources (name, state) SELECT $1, $3 FROM held WHERE TRUE
             ON CONFLICT (name) DO UPDATE SET state = excluded.state",
            D::HELD
        );
        let args = args![&lease.name, lease.fence, to_json(state)];
        let saved = self.execute("store the state of a source", AssertSqlSafe(sql), args).await?;
        fenced(&lease.name, saved)
    }

    async fn reset_source(&self, source: &str) -> Result<()> {
        let Some(lease) = self.lease(source).await? else {
            return Err(Error::store(format!("reset the source `{source}`: a run holds it"))
                .hint("try again when that run has ended"));
        };
        let known = self.source(source).await?;
        if known != SourceState::default() {
            let reset = SourceState {
                validators: BTreeMap::new(),
                cursor: None,
                next_allowed: None,
                ..known
            };
            self.save_source(&lease, &reset).await?;
        }
        drop(lease);
        self.driver.release().await;
        Ok(())
    }

    async fn set_override(&self, family: &str, id: &str, word: &Override) -> Result<()> {
        const WHAT: &str = "store an override";
        if *word == Override::default() {
            let sql = "DELETE FROM overrides WHERE family = $1 AND id = $2";
            return self.execute(WHAT, sql, args![family, id]).await.map(drop);
        }
        let sql = "INSERT INTO overrides (family, id, word) VALUES ($1, $2, $3)
             ON CONFLICT (family, id) DO UPDATE SET word = excluded.word";
        self.execute(WHAT, sql, args![family, id, to_json(word)]).await.map(drop)
    }
}

/// A run that lost its process or its continuation, unless somebody holds it.
struct Orphan {
    identity: String,
    run_id: String,
    fence: i64,
    checkpoint: Option<Value>,
}

impl Orphan {
    fn read(row: &Row) -> sqlx::Result<Self> {
        Ok(Self {
            identity: row.text("identity")?,
            run_id: row.text("run_id")?,
            fence: row.number("fence")?,
            checkpoint: row.json("checkpoint")?,
        })
    }
}

/// A run's row, as far as claiming it needs.
struct FoundRun {
    run_id: String,
    task: String,
    identity: String,
    slot: Option<Timestamp>,
    status: String,
    fence: i64,
    attempt: u32,
    step: u32,
    input: Option<Value>,
    checkpoint: Option<Value>,
    report: Option<Report>,
}

impl FoundRun {
    fn read(row: &Row) -> sqlx::Result<Self> {
        Ok(Self {
            run_id: row.text("run_id")?,
            task: row.text("task")?,
            identity: row.text("identity")?,
            slot: row.instant("slot_ms")?,
            status: row.text("status")?,
            fence: row.number("fence")?,
            attempt: row.count("attempt")?,
            step: row.count("step")?,
            input: row.json("input")?,
            checkpoint: row.json("checkpoint")?,
            report: row.json("report")?,
        })
    }

    /// The hold of the attempt that has taken the run over.
    fn taken_over(self, lock: Held) -> Hold {
        Hold {
            run_id: self.run_id,
            task: self.task,
            slot: self.slot,
            attempt: self.attempt.saturating_add(1),
            step: self.step,
            fence: self.fence + 1,
            input: self.input.unwrap_or_default(),
            earlier: if self.checkpoint.is_some() { self.report } else { None },
            checkpoint: self.checkpoint,
            _lock: lock,
        }
    }
}

/// The status of a run in progress, and how one is shown whose process died in it.
pub(super) const RUNNING: &str = "running";
pub(super) const INTERRUPTED: &str = "interrupted";

/// A run that is listed, and what it is held by while it runs.
struct ListedRun {
    row: RunRow,
    identity: String,
}

impl ListedRun {
    fn read(row: &Row) -> sqlx::Result<Self> {
        Ok(Self { row: RunRow::read(row)?, identity: row.text("identity")? })
    }

    fn hold(&self) -> String {
        run_name(&self.row.task, &self.identity)
    }
}

impl RunRow {
    fn read(row: &Row) -> sqlx::Result<Self> {
        Ok(Self {
            run_id: row.text("run_id")?,
            task: row.text("task")?,
            slot: row.instant("slot_ms")?,
            status: row.text("status")?,
            attempt: row.count("attempt")?,
            started: row.instant("started_ms")?.unwrap_or_default(),
            finished: row.instant("finished_ms")?,
            input: row.json("input")?.unwrap_or_default(),
            report: row.json("report")?,
        })
    }
}
