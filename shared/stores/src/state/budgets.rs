//! Budgets of API keys: how often each key of a pool was used in a window of time, counted across all processes.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use base::Result;
use base::clock::WAIT_MAX;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sqlx::AssertSqlSafe;

use super::db::{Row, Transaction, args, places};
use super::sql::{Driver, Sql};

/// For how long the count of another window than the present one is kept after its last use: processes whose clocks
/// disagree on the window count each in its own.
pub const BUDGETS_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A key and how often it may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetKey {
    /// A reference to the key, such as its hash; never the key.
    pub id: String,
    /// Uses in one window at the most.
    pub limit: u32,
}

/// How a key of a pool stands in one window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetRow {
    /// The reference to the key.
    pub id: String,
    /// The window; none for a key that is blocked and was not used.
    pub window: Option<String>,
    /// Its uses in that window.
    pub spent: u32,
    /// Not used before this instant, which may have passed.
    pub blocked_until: Option<Timestamp>,
    /// Why not.
    pub reason: Option<String>,
}

impl BudgetRow {
    fn read(row: &Row) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.text("id")?,
            window: row.text_or_null("span")?,
            spent: row.count("spent")?,
            blocked_until: row.instant("until_ms")?,
            reason: row.text_or_null("reason")?,
        })
    }
}

/// A part of a budget that is taken before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve<'a> {
    /// What is counted, such as `tokens`.
    pub id: &'a str,
    /// How much is taken.
    pub amount: u32,
    /// How much all of one window may take.
    pub limit: u32,
}

/// The budgets of pools of keys.
#[async_trait]
pub trait Budgets: Send + Sync {
    /// Counts one use of the least used key that is neither spent nor blocked, the first of several, and gives its place
    /// among `keys`; `None` when there is none. `window` names the span of time that is counted, such as a local date: a new
    /// name starts at zero.
    async fn spend(
        &self,
        pool: &str,
        window: &str,
        keys: &[BudgetKey],
        now: Timestamp,
    ) -> Result<Option<usize>>;

    /// Takes all of these parts, or none: gives the id of one whose limit the part would pass.
    async fn reserve(
        &self,
        pool: &str,
        window: &str,
        parts: &[Reserve<'_>],
        now: Timestamp,
    ) -> Result<Option<String>>;

    /// Corrects what was reserved by what was used; a count does not fall below zero.
    async fn correct(&self, pool: &str, window: &str, id: &str, difference: i64) -> Result<()>;

    /// Keeps a key from being used before an instant.
    async fn block(&self, pool: &str, id: &str, until: Timestamp, reason: &str) -> Result<()>;

    /// How the keys of a pool stand, by key and window.
    async fn budgets(&self, pool: &str) -> Result<Vec<BudgetRow>>;

    /// Sets the counts of a pool in a window to zero; what is blocked stays so. Gives how many keys that were.
    async fn reset_budgets(&self, pool: &str, window: &str) -> Result<u64>;
}

#[async_trait]
impl<D: Driver> Budgets for Sql<D> {
    async fn spend(
        &self,
        pool: &str,
        window: &str,
        keys: &[BudgetKey],
        now: Timestamp,
    ) -> Result<Option<usize>> {
        let failed = D::failed("spend from a budget");
        if keys.is_empty() {
            return Ok(None);
        }
        let ids = keys.iter().map(|key| key.id.as_str()).collect();
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let spent = touch(&mut transaction, pool, window, &ids, now).await.map_err(&failed)?;
        let blocked = transaction
            .fetch(
                "SELECT id FROM blocks WHERE pool = $1 AND until_ms > $2 AND until_ms <= $3",
                args![pool, now, now.checked_add(WAIT_MAX).unwrap_or(Timestamp::MAX)],
            )
            .await
            .map_err(&failed)?;
        let blocked: sqlx::Result<Vec<String>> = blocked.iter().map(|row| row.text("id")).collect();
        let blocked = blocked.map_err(&failed)?;
        let of = |key: &BudgetKey| spent.get(&key.id).copied().unwrap_or(u32::MAX);
        let chosen = keys
            .iter()
            .enumerate()
            .filter(|(_, key)| of(key) < key.limit && !blocked.contains(&key.id))
            .min_by_key(|(_, key)| of(key));
        if let Some((_, key)) = chosen {
            let count =
                "UPDATE budgets SET spent = spent + 1 WHERE pool = $1 AND id = $2 AND span = $3";
            transaction.execute(count, args![pool, &key.id, window]).await.map_err(&failed)?;
        }
        if chosen.is_some_and(|(_, key)| of(key) == 0) {
            purge(&mut transaction, pool, window, now).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(chosen.map(|(place, _)| place))
    }

    async fn reserve(
        &self,
        pool: &str,
        window: &str,
        parts: &[Reserve<'_>],
        now: Timestamp,
    ) -> Result<Option<String>> {
        let failed = D::failed("reserve a part of a budget");
        if parts.is_empty() {
            return Ok(None);
        }
        let ids = parts.iter().map(|part| part.id).collect();
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let spent = touch(&mut transaction, pool, window, &ids, now).await.map_err(&failed)?;
        let of = |part: &Reserve<'_>| spent.get(part.id).copied().unwrap_or(u32::MAX);
        let is_beyond = |part: &&Reserve<'_>| {
            u64::from(of(part)) + u64::from(part.amount) > u64::from(part.limit)
        };
        if let Some(beyond) = parts.iter().find(is_beyond) {
            return Ok(Some(beyond.id.to_owned()));
        }
        for part in parts {
            let count =
                "UPDATE budgets SET spent = spent + $4 WHERE pool = $1 AND id = $2 AND span = $3";
            let args = args![pool, part.id, window, part.amount];
            transaction.execute(count, args).await.map_err(&failed)?;
        }
        if parts.iter().any(|part| of(part) == 0) {
            purge(&mut transaction, pool, window, now).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(None)
    }

    async fn correct(&self, pool: &str, window: &str, id: &str, difference: i64) -> Result<()> {
        let sql = "UPDATE budgets SET spent = CASE WHEN spent + $4 < 0 THEN 0 ELSE spent + $4 END
             WHERE pool = $1 AND id = $2 AND span = $3";
        let args = args![pool, id, window, difference];
        self.execute("settle a part of a budget", sql, args).await.map(drop)
    }

    async fn block(&self, pool: &str, id: &str, until: Timestamp, reason: &str) -> Result<()> {
        let sql = "INSERT INTO blocks (pool, id, until_ms, reason) VALUES ($1, $2, $3, $4)
             ON CONFLICT (pool, id) DO UPDATE SET until_ms = excluded.until_ms, reason = excluded.reason";
        self.execute("block a key", sql, args![pool, id, until, reason]).await.map(drop)
    }

    async fn budgets(&self, pool: &str) -> Result<Vec<BudgetRow>> {
        let sql = format!(
            "SELECT COALESCE(budgets.id, blocks.id) AS id, span, spent, until_ms, reason FROM budgets
             FULL JOIN blocks ON blocks.pool = budgets.pool AND blocks.id = budgets.id
             WHERE COALESCE(budgets.pool, blocks.pool) = $1
             ORDER BY COALESCE(budgets.id, blocks.id){order}, span{order}",
            order = D::BY_BYTES
        );
        self.fetch("read the budgets", AssertSqlSafe(sql), args![pool], BudgetRow::read).await
    }

    async fn reset_budgets(&self, pool: &str, window: &str) -> Result<u64> {
        let sql = "DELETE FROM budgets WHERE pool = $1 AND span = $2";
        self.execute("reset a budget", sql, args![pool, window]).await
    }
}

/// Writes the row of each id, so that it is this transaction's until it ends, and gives what is in it then.
async fn touch(
    transaction: &mut Transaction,
    pool: &str,
    window: &str,
    // In one order and once each, so that two processes never wait for each other.
    ids: &BTreeSet<&str>,
    now: Timestamp,
) -> sqlx::Result<BTreeMap<String, u32>> {
    let touch = format!(
        "INSERT INTO budgets (pool, id, span, spent, used_ms) VALUES {}
         ON CONFLICT (pool, id, span) DO UPDATE SET used_ms = excluded.used_ms RETURNING id, spent",
        places(1, 5, ids.len())
    );
    let args = ids.iter().flat_map(|id| args![pool, *id, window, 0_i64, now]);
    let rows = transaction.fetch(AssertSqlSafe(touch), args.collect()).await?;
    rows.iter().map(|row| Ok((row.text("id")?, row.count("spent")?))).collect()
}

/// Forgets counts of other windows that nobody has used for long.
async fn purge(
    transaction: &mut Transaction,
    pool: &str,
    window: &str,
    now: Timestamp,
) -> sqlx::Result<()> {
    let old = now.checked_sub(BUDGETS_KEPT).unwrap_or(Timestamp::MIN);
    let purge = "DELETE FROM budgets WHERE pool = $1 AND span <> $2 AND used_ms < $3";
    transaction.execute(purge, args![pool, window, old]).await.map(drop)
}
