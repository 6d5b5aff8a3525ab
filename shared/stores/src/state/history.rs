//! What was: every slot of the timetable, every attempt with its log, what each source brought by day, who runs the timetable.
//!
//! Every question is answered by an index; nobody reads reports to count.

use std::collections::BTreeMap;

use async_trait::async_trait;
use base::Result;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sqlx::AssertSqlSafe;

use super::db::{Row, args};
use super::slots::{BEGIN_ATTEMPT, HistoryQuery, NOTED_WITHIN, PERHAPS_DEAD, RUN_OF_ATTEMPT};
use super::sql::{Driver, INTERRUPTED, RUNNING, Sql, run_name};

/// How long the log of an attempt is kept.
pub const LOG_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How long slots, attempts and the days of sources are kept.
pub const HISTORY_KEPT: SignedDuration = SignedDuration::from_hours(400 * 24);

/// Bytes of an attempt's log that are kept, its last.
pub const LOG_MAX: usize = 64 * 1024;

/// A runner that has not looked at the timetable for so long is gone.
pub const RUNNER_GONE: SignedDuration = SignedDuration::from_secs(60);

/// A slot as the ledger has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlotRow {
    pub request_id: String,
    pub task: String,
    pub slot: Timestamp,
    /// `queued`, `running`, `continuing`, `missed`, or how it ended: `complete`, `partial`, `failed`, `dead`.
    pub outcome: String,
    /// Why it was missed.
    pub reason: Option<String>,
}

/// An attempt as the ledger has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptRow {
    pub request_id: String,
    pub attempt: u32,
    pub task: String,
    pub run_id: Option<String>,
    pub started: Timestamp,
    pub ended: Option<Timestamp>,
    /// `running`, `interrupted` (its runner died), or the status of its report.
    pub outcome: String,
    /// Of what kind its error was.
    pub class: Option<String>,
    pub error: Option<String>,
    /// The process's peak of resident memory, KiB.
    pub peak_kb: Option<u32>,
    /// Bytes that it logged.
    pub log_bytes: u32,
}

/// How an attempt ended.
#[derive(Clone, Debug, Default)]
pub struct AttemptEnd {
    pub run_id: Option<String>,
    pub outcome: String,
    pub class: Option<String>,
    pub error: Option<String>,
    pub peak_kb: u32,
    pub log: Log,
}

/// The last of what an attempt logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// At the most [`LOG_MAX`] bytes.
    pub text: String,
    /// Bytes that were logged in all.
    pub bytes: u32,
}

/// What a visit brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct VisitSum {
    pub failed: bool,
    pub new: u64,
    pub bytes: u64,
}

/// What the visits of one day brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceDay {
    /// Family and id.
    pub source: String,
    /// The day in UTC, as `2026-03-01`.
    pub day: String,
    pub visits: u32,
    pub failures: u32,
    pub new: u32,
    pub bytes: i64,
}

/// Who runs the timetable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunnerRow {
    /// Host and process id.
    pub name: String,
    /// Its program's version.
    pub version: String,
    /// Runs at once.
    pub workers: u32,
    pub started: Timestamp,
    /// When it last looked at the timetable.
    pub ticked: Timestamp,
}

/// The history of runs and sources.
#[async_trait]
pub trait History: Send + Sync {
    /// Slots, by their instants.
    async fn slots(&self, query: &HistoryQuery<'_>) -> Result<Vec<SlotRow>>;

    /// Attempts, by when they began.
    async fn attempts(&self, query: &HistoryQuery<'_>) -> Result<Vec<AttemptRow>>;

    /// How many slots since an instant came to what; only outcomes that there are.
    async fn slot_counts(&self, since: Timestamp) -> Result<BTreeMap<String, u32>>;

    /// Notes an attempt before its process starts.
    async fn begin_attempt(
        &self,
        task: &str,
        request_id: &str,
        attempt: u32,
        now: Timestamp,
    ) -> Result<()>;

    /// Keeps what a running attempt has logged so far.
    async fn keep_log(&self, request_id: &str, attempt: u32, log: &Log) -> Result<()>;

    /// Notes how an attempt ended.
    async fn end_attempt(
        &self,
        request_id: &str,
        attempt: u32,
        end: &AttemptEnd,
        now: Timestamp,
    ) -> Result<()>;

    /// Ends the attempts that died with their runner, as interrupted.
    async fn end_interrupted(&self, now: Timestamp) -> Result<()>;

    /// What an attempt logged; `None` where it is no longer kept.
    async fn log(&self, request_id: &str, attempt: u32) -> Result<Option<Log>>;

    /// Adds a visit to its source's day.
    async fn note_visit(&self, source: &str, sum: VisitSum, now: Timestamp) -> Result<()>;

    /// The days of a source (`family/id`), or of all, from a day on, in the order of source and day.
    async fn source_days(&self, source: Option<&str>, since: Timestamp) -> Result<Vec<SourceDay>>;

    /// Says that a runner lives and has looked at the timetable.
    async fn beat(&self, runner: &RunnerRow) -> Result<()>;

    /// Forgets a runner that ends.
    async fn leave(&self, name: &str) -> Result<()>;

    /// The runners that were heard of within [`RUNNER_GONE`], and the one that was heard of last.
    async fn runners(&self, now: Timestamp) -> Result<Vec<RunnerRow>>;

    /// Deletes what is older than it is kept.
    async fn trim_history(&self, now: Timestamp) -> Result<()>;
}

#[async_trait]
impl<D: Driver> History for Sql<D> {
    async fn slots(&self, query: &HistoryQuery<'_>) -> Result<Vec<SlotRow>> {
        let (asked, args) =
            query.conditions(&["slots.task", "slots.outcome", "", "slots.request_id"], "slot_ms");
        let sql = format!(
            "SELECT slots.request_id, slots.task, slot_ms, reason,
                 CASE WHEN invocations.state = 'running' THEN 'running' ELSE outcome END AS outcome
             FROM slots LEFT JOIN invocations ON slots.outcome = 'queued' AND invocations.request_id = slots.request_id
             {asked} ORDER BY slot_ms DESC, slots.task LIMIT {}",
            query.limit
        );
        self.fetch("read the slots", AssertSqlSafe(sql), args, SlotRow::read).await
    }

    async fn attempts(&self, query: &HistoryQuery<'_>) -> Result<Vec<AttemptRow>> {
        let (asked, args) =
            query.conditions(&["task", "outcome", RUN_OF_ATTEMPT, "request_id"], "started_ms");
        let sql = format!(
            "SELECT request_id, attempt, task, run_id, started_ms, ended_ms, outcome, class, error, peak_kb, log_bytes
             FROM attempts {asked} ORDER BY started_ms DESC, attempt DESC LIMIT {}",
            query.limit
        );
        let read = self.fetch("read the attempts", AssertSqlSafe(sql), args, AttemptRow::read);
        let mut rows = read.await?;
        if rows.iter().any(|row| row.outcome == RUNNING) {
            for (request_id, attempt) in self.dead_attempts(Timestamp::MIN).await? {
                let is_it =
                    |row: &&mut AttemptRow| row.request_id == request_id && row.attempt == attempt;
                if let Some(row) = rows.iter_mut().find(is_it) {
                    INTERRUPTED.clone_into(&mut row.outcome);
                }
            }
            rows.retain(|row| query.outcome.is_none_or(|outcome| row.outcome == outcome));
        }
        Ok(rows)
    }

    async fn slot_counts(&self, since: Timestamp) -> Result<BTreeMap<String, u32>> {
        // By a value: to have the outcomes in their order, SQLite would read the whole index of those.
        let sql = "SELECT outcome, COUNT(*) AS slots FROM (SELECT outcome || '' AS outcome FROM slots WHERE slot_ms >= $1) AS since
             GROUP BY outcome";
        let rows = self
            .fetch("count the slots", sql, args![since], |row| {
                Ok((row.text("outcome")?, row.count("slots")?))
            })
            .await?;
        Ok(rows.into_iter().collect())
    }

    async fn begin_attempt(
        &self,
        task: &str,
        request_id: &str,
        attempt: u32,
        now: Timestamp,
    ) -> Result<()> {
        let args = args![request_id, attempt, task, now];
        self.execute("note an attempt", BEGIN_ATTEMPT, args).await.map(drop)
    }

    async fn keep_log(&self, request_id: &str, attempt: u32, log: &Log) -> Result<()> {
        let sql = "UPDATE attempts SET log = $3, log_bytes = $4 WHERE request_id = $1 AND attempt = $2 AND outcome = 'running'";
        let args = args![request_id, attempt, &log.text, log.bytes];
        self.execute("keep the log of an attempt", sql, args).await.map(drop)
    }

    async fn end_attempt(
        &self,
        request_id: &str,
        attempt: u32,
        end: &AttemptEnd,
        now: Timestamp,
    ) -> Result<()> {
        let sql = "UPDATE attempts SET ended_ms = $3, outcome = $4, run_id = $5, class = $6, error = $7, peak_kb = $8, log = $9, log_bytes = $10
             WHERE request_id = $1 AND attempt = $2";
        let args = args![
            request_id,
            attempt,
            now,
            &end.outcome,
            end.run_id.clone(),
            end.class.clone(),
            end.error.clone(),
            end.peak_kb,
            &end.log.text,
            end.log.bytes,
        ];
        self.execute("note how an attempt ended", sql, args).await.map(drop)
    }

    async fn end_interrupted(&self, now: Timestamp) -> Result<()> {
        let before = now.checked_sub(NOTED_WITHIN).unwrap_or(Timestamp::MIN);
        for (request_id, attempt) in self.dead_attempts(before).await? {
            let sql = "UPDATE attempts SET outcome = $4, ended_ms = $3 WHERE request_id = $1 AND attempt = $2 AND outcome = 'running'";
            let args = args![&request_id, attempt, now, INTERRUPTED];
            self.execute("end what died with its runner", sql, args).await?;
        }
        Ok(())
    }

    async fn log(&self, request_id: &str, attempt: u32) -> Result<Option<Log>> {
        let sql = "SELECT log, log_bytes FROM attempts WHERE request_id = $1 AND attempt = $2 AND log IS NOT NULL";
        let found = self
            .fetch("read the log of an attempt", sql, args![request_id, attempt], |row| {
                Ok(Log { text: row.text("log")?, bytes: row.count("log_bytes")? })
            })
            .await?;
        Ok(found.into_iter().next())
    }

    async fn note_visit(&self, source: &str, sum: VisitSum, now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO source_days (source, day, visits, failures, new, bytes) VALUES ($1, $2, 1, $3, $4, $5)
             ON CONFLICT (source, day) DO UPDATE SET visits = source_days.visits + 1,
                 failures = source_days.failures + excluded.failures, new = source_days.new + excluded.new,
                 bytes = source_days.bytes + excluded.bytes";
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let args =
            args![source, day(now), i64::from(sum.failed), number(sum.new), number(sum.bytes)];
        self.execute("note a visit", sql, args).await.map(drop)
    }

    async fn source_days(&self, source: Option<&str>, since: Timestamp) -> Result<Vec<SourceDay>> {
        let (asked, args) = match source {
            Some(source) => ("day >= $1 AND source = $2", args![day(since), source]),
            None => ("day >= $1", args![day(since)]),
        };
        let sql = format!(
            "SELECT source, day, visits, failures, new, bytes FROM source_days WHERE {asked} ORDER BY source{} || '', day",
            D::BY_BYTES
        );
        self.fetch("read the days of sources", AssertSqlSafe(sql), args, |row| {
            Ok(SourceDay {
                source: row.text("source")?,
                day: row.text("day")?,
                visits: row.count("visits")?,
                failures: row.count("failures")?,
                new: row.count("new")?,
                bytes: row.number("bytes")?,
            })
        })
        .await
    }

    async fn beat(&self, runner: &RunnerRow) -> Result<()> {
        let sql = "INSERT INTO runners (name, version, workers, started_ms, ticked_ms) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (name) DO UPDATE SET version = excluded.version, workers = excluded.workers,
                 started_ms = excluded.started_ms, ticked_ms = excluded.ticked_ms";
        let RunnerRow { name, version, workers, started, ticked } = runner;
        let args = args![name, version, *workers, *started, *ticked];
        self.execute("say that this runner lives", sql, args).await.map(drop)
    }

    async fn leave(&self, name: &str) -> Result<()> {
        let sql = "DELETE FROM runners WHERE name = $1";
        self.execute("say that this runner ends", sql, args![name]).await.map(drop)
    }

    async fn runners(&self, now: Timestamp) -> Result<Vec<RunnerRow>> {
        let sql = "SELECT name, version, workers, started_ms, ticked_ms FROM runners ORDER BY ticked_ms DESC, name LIMIT 100";
        let mut rows = self
            .fetch("read the runners", sql, args![], |row| {
                Ok(RunnerRow {
                    name: row.text("name")?,
                    version: row.text("version")?,
                    workers: row.count("workers")?,
                    started: row.instant("started_ms")?.unwrap_or_default(),
                    ticked: row.instant("ticked_ms")?.unwrap_or_default(),
                })
            })
            .await?;
        let mut place = 0;
        rows.retain(|row| {
            place += 1;
            place == 1 || row.is_on(now)
        });
        Ok(rows)
    }

    async fn trim_history(&self, now: Timestamp) -> Result<()> {
        const WHAT: &str = "trim the history";
        let before = |kept: SignedDuration| now.checked_sub(kept).unwrap_or(Timestamp::MIN);
        let old = before(HISTORY_KEPT);
        let logs = "UPDATE attempts SET log = NULL WHERE log IS NOT NULL AND started_ms < $1";
        self.execute(WHAT, logs, args![before(LOG_KEPT)]).await?;
        for delete in [
            "DELETE FROM attempts WHERE started_ms < $1",
            "DELETE FROM slots WHERE slot_ms < $1",
            "DELETE FROM runners WHERE ticked_ms < $1",
        ] {
            self.execute(WHAT, delete, args![old]).await?;
        }
        self.execute(WHAT, "DELETE FROM source_days WHERE day < $1", args![day(old)]).await?;
        Ok(())
    }
}

#[expect(private_bounds, reason = "this is a part of the public calls")]
impl<D: Driver> Sql<D> {
    /// The attempts that are noted as running and died with their runner: request id and number. Those that came to nothing
    /// before `late` did.
    async fn dead_attempts(&self, late: Timestamp) -> Result<Vec<(String, u32)>> {
        const WHAT: &str = "look for attempts that died";
        let found = self
            .fetch(WHAT, PERHAPS_DEAD, args![late], |row| {
                let run = row.text_or_null("identity")?;
                let task = row.text("task")?;
                let run = run.map(|identity| run_name(&task, &identity));
                Ok((row.text("request_id")?, row.count("attempt")?, run))
            })
            .await?;
        let names: Vec<String> = found.iter().filter_map(|(.., run)| run.clone()).collect();
        let held =
            if names.is_empty() { names } else { self.driver.held(&self.pool, &names).await? };
        let is_dead = |run: &Option<String>| run.as_ref().is_none_or(|name| !held.contains(name));
        let dead = found.into_iter().filter(|(.., run)| is_dead(run));
        Ok(dead.map(|(request_id, attempt, _)| (request_id, attempt)).collect())
    }
}

/// The day in UTC.
fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

impl RunnerRow {
    /// Whether it was heard of a moment ago.
    pub fn is_on(&self, now: Timestamp) -> bool {
        now.duration_since(self.ticked) <= RUNNER_GONE
    }
}

impl SlotRow {
    fn read(row: &Row) -> sqlx::Result<Self> {
        Ok(Self {
            request_id: row.text("request_id")?,
            task: row.text("task")?,
            slot: row.instant("slot_ms")?.unwrap_or_default(),
            outcome: row.text("outcome")?,
            reason: row.text_or_null("reason")?,
        })
    }
}

impl AttemptRow {
    fn read(row: &Row) -> sqlx::Result<Self> {
        Ok(Self {
            request_id: row.text("request_id")?,
            attempt: row.count("attempt")?,
            task: row.text("task")?,
            run_id: row.text_or_null("run_id")?,
            started: row.instant("started_ms")?.unwrap_or_default(),
            ended: row.instant("ended_ms")?,
            outcome: row.text("outcome")?,
            class: row.text_or_null("class")?,
            error: row.text_or_null("error")?,
            peak_kb: row.number_or_null("peak_kb")?.and_then(|kb| u32::try_from(kb).ok()),
            log_bytes: row.count("log_bytes")?,
        })
    }
}
