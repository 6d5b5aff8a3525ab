//! The rows of slots and attempts as the queue writes them, and what is asked of them.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sqlx::AssertSqlSafe;

use super::db::{Arg, Transaction, args, places};

/// Rows that one statement writes: five values each.
const ROWS_AT_ONCE: usize = 500;

/// Why a slot was not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// No runner was on, and the row's policy is not to make up for it.
    Off,
    /// The one before was not done, and the row's policy is to skip.
    Overlapped,
    /// No runner was on for longer than the row makes up for.
    OutsideWindow,
    /// No runner was on, and a later slot stands for it.
    Folded,
    /// A person took it out of the queue.
    Revoked,
}

impl Missed {
    /// The word in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Overlapped => "overlapped",
            Self::OutsideWindow => "outside_window",
            Self::Folded => "folded",
            Self::Revoked => "revoked",
        }
    }

    /// What the word in the ledger means, for people.
    pub fn told(word: &str) -> &str {
        match word {
            "off" => "no runner was on",
            "overlapped" => "the one before was not done",
            "outside_window" => "no runner was on for longer than its row makes up for",
            "folded" => "no runner was on; a later slot stands for it",
            "revoked" => "it was taken out of the queue",
            other => other,
        }
    }
}

/// A slot that is not run.
#[derive(Clone, Debug, PartialEq)]
pub struct MissedSlot {
    /// What its invocation would be called.
    pub request_id: String,
    pub slot: Timestamp,
    pub reason: Missed,
}

/// Which rows are meant; the newest first.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery<'a> {
    pub task: Option<&'a str>,
    pub outcome: Option<&'a str>,
    pub run_id: Option<&'a str>,
    pub request_id: Option<&'a str>,
    /// At or after this instant.
    pub since: Option<Timestamp>,
    pub limit: u32,
}

/// The column of a run's id in `attempts`.
pub(super) const RUN_OF_ATTEMPT: &str = "attempts.run_id";

/// Notes an attempt `$1`, `$2` of the task `$3` at `$4`; one that waited for another's end begins anew.
pub(super) const BEGIN_ATTEMPT: &str = "INSERT INTO attempts (request_id, attempt, task, started_ms, outcome) VALUES ($1, $2, $3, $4, 'running')
     ON CONFLICT (request_id, attempt) DO UPDATE SET started_ms = excluded.started_ms, outcome = 'running', ended_ms = NULL";

/// Notes the attempt at an invocation that is taken within this transaction.
pub(super) async fn begin_attempt(
    transaction: &mut Transaction,
    (task, request_id, attempt): (&str, &str, u32),
    now: Timestamp,
) -> sqlx::Result<()> {
    let args = args![request_id, attempt, task, now];
    transaction.execute(BEGIN_ATTEMPT, args).await.map(drop)
}

/// Of an invocation: it does not have to wait for another of its task.
pub(super) const NOT_BESIDE: &str = "(alone = 0 OR NOT EXISTS
     (SELECT 1 FROM invocations AS other WHERE other.task = invocations.task AND other.state = 'running'))";

/// How long a runner may take to note that an attempt ended, and the process of one to claim its run.
pub(super) const NOTED_WITHIN: SignedDuration = SignedDuration::from_secs(60);

/// Attempts of which nothing is known but that they began, or whose run may be held by nobody: then `identity` names the run.
/// The queue knows of some that another attempt came after; of others the run ended, or had not begun, before `$1`.
pub(super) const PERHAPS_DEAD: &str = "SELECT attempts.request_id, attempts.attempt, attempts.task,
         CASE WHEN invocations.request_id IS NULL AND runs.status = 'running' THEN runs.identity END AS identity
     FROM attempts LEFT JOIN invocations ON invocations.request_id = attempts.request_id
         LEFT JOIN runs ON runs.request_id = attempts.request_id
     WHERE attempts.outcome = 'running'
         AND NOT COALESCE(invocations.state = 'running' AND invocations.attempts = attempts.attempt, FALSE)
         AND (invocations.request_id IS NOT NULL OR runs.status = 'running' OR COALESCE(runs.finished_ms, attempts.started_ms) < $1)";

/// Sets the outcome of the slot whose invocation `$1`, or that of a continuation of its run, came to the state `$2`.
pub(super) const SETTLE_SLOT: &str = "UPDATE slots SET outcome = CASE WHEN $2 = 'dead' THEN 'dead' WHEN $2 = 'queued' THEN 'queued'
         ELSE COALESCE((SELECT status FROM runs WHERE runs.task = slots.task AND runs.slot_ms = slots.slot_ms ORDER BY started_ms DESC LIMIT 1), 'complete') END
     WHERE outcome <> 'missed' AND (request_id = $1 OR request_id IN
         (SELECT other.request_id FROM runs JOIN slots AS other ON other.task = runs.task AND other.slot_ms = runs.slot_ms WHERE runs.request_id = $1))";

/// Writes slots that came to `outcome`; those that are known already are left as they are.
pub(super) async fn insert_slots(
    transaction: &mut Transaction,
    task: &str,
    slots: &[(&str, Timestamp, Option<Missed>)],
    now: Timestamp,
) -> sqlx::Result<()> {
    for slots in slots.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "INSERT INTO slots (request_id, task, slot_ms, outcome, reason, noted_ms) VALUES {} ON CONFLICT DO NOTHING",
            places(1, 6, slots.len())
        );
        let args = slots.iter().flat_map(|(request_id, slot, missed)| {
            let outcome = if missed.is_some() { "missed" } else { "queued" };
            args![*request_id, task, *slot, outcome, missed.map(Missed::name), now]
        });
        transaction.execute(AssertSqlSafe(sql), args.collect()).await?;
    }
    Ok(())
}

impl HistoryQuery<'_> {
    /// The conditions and their values: columns for task, outcome, run and request, and the one of the instant.
    pub(super) fn conditions(&self, columns: &[&str; 4], instant: &str) -> (String, Vec<Arg>) {
        let values = [self.task, self.outcome, self.run_id, self.request_id];
        let mut args = Vec::new();
        let mut parts: Vec<String> = Vec::new();
        for (column, value) in columns.iter().zip(values) {
            if let Some(value) = value {
                args.push(Arg::from(value));
                let place = args.len();
                parts.push(match *column {
                    // Of one that goes on only its run knows.
                    RUN_OF_ATTEMPT => format!(
                        "(run_id = ${place} OR request_id = (SELECT request_id FROM runs WHERE run_id = ${place}))"
                    ),
                    column => format!("{column} = ${place}"),
                });
            }
        }
        if let Some(since) = self.since {
            args.push(Arg::from(since));
            parts.push(format!("{instant} >= ${}", args.len()));
        }
        let asked =
            if parts.is_empty() { String::new() } else { format!("WHERE {}", parts.join(" AND ")) };
        (asked, args)
    }
}
