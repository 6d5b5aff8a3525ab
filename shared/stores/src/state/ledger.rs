//! The ledger of a source: items that could not be stored, because the store failed or because it will never take them.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use base::Result;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use super::Lease;
use super::db::{Arg, Row, args, places};
use super::sql::{Driver, Sql};

/// The most rows that are kept of one source; what comes beyond is only counted, in the report of its run.
pub const LEDGER_MAX: usize = 10_000;

/// Rows that one statement writes: six values each, of the 32,766 that SQLite takes.
const ROWS_AT_ONCE: usize = 500;

/// Why an item is in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LedgerKind {
    /// The store failed; the item is tried again.
    Failed,
    /// The store will never take the item as it is.
    Rejected,
}

impl LedgerKind {
    /// The name in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }

    fn named(name: &str) -> Self {
        if name == "rejected" { Self::Rejected } else { Self::Failed }
    }
}

/// An item that was not stored now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerItem {
    /// The item's document id.
    pub id: String,
    /// Why the store refused it.
    pub reason: String,
    /// Whether it is tried again.
    pub kind: LedgerKind,
}

/// An item that could not be stored, and how often that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// The item's document id.
    pub id: String,
    /// Why the store refused it.
    pub reason: String,
    /// How often.
    pub attempts: u32,
    /// Whether it is tried again.
    pub kind: LedgerKind,
    /// When it was noted last; unknown for what was noted before that was kept.
    pub at: Option<Timestamp>,
}

impl Retry {
    fn read(row: &Row) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.text("id")?,
            reason: row.text("reason")?,
            attempts: row.count("attempts")?,
            kind: LedgerKind::named(&row.text("kind")?),
            at: row.instant("at_ms")?,
        })
    }
}

/// The ledgers of all sources.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Notes in the ledger of a source the items that were not stored now, up to [`LEDGER_MAX`] in all. When `is_whole`, all
    /// its items were tried, and those not among `items` are forgotten: they are stored, or come no longer.
    async fn note_items(
        &self,
        lease: &Lease,
        items: &[LedgerItem],
        is_whole: bool,
        now: Timestamp,
    ) -> Result<()>;

    /// The ledger of a source (`family/id`), by item, `limit` rows at the most.
    async fn ledger(&self, source: &str, kind: LedgerKind, limit: u32) -> Result<Vec<Retry>>;

    /// The sources of a family, or of all, that have a ledger, and how many items each has.
    async fn ledgers(&self, family: Option<&str>, kind: LedgerKind) -> Result<Vec<(String, u32)>>;

    /// Forgets the items of a source; gives how many.
    async fn forget(&self, source: &str, kind: LedgerKind) -> Result<u64>;
}

#[async_trait]
impl<D: Driver> Ledger for Sql<D> {
    async fn note_items(
        &self,
        lease: &Lease,
        items: &[LedgerItem],
        is_whole: bool,
        now: Timestamp,
    ) -> Result<()> {
        const WHAT: &str = "write the retry ledger";
        let failed = D::failed(WHAT);
        let mut transaction = self.begin_held(WHAT, lease).await?;
        let rows = transaction
            .fetch("SELECT id FROM retries WHERE source = $1", args![&lease.name])
            .await
            .map_err(&failed)?;
        let known: sqlx::Result<BTreeSet<String>> = rows.iter().map(|row| row.text("id")).collect();
        let mut known = known.map_err(&failed)?;
        // Once each, as one statement writes several, and under the id that the database knows.
        let items: BTreeMap<String, &LedgerItem> =
            items.iter().map(|item| (D::keepable(&item.id), item)).collect();
        if is_whole {
            let gone: Vec<&String> = known.iter().filter(|id| !items.contains_key(*id)).collect();
            for ids in gone.chunks(ROWS_AT_ONCE) {
                let delete = format!(
                    "DELETE FROM retries WHERE source = $1 AND id IN {}",
                    places(2, 1, ids.len())
                );
                let mut args = args![&lease.name];
                args.extend(ids.iter().map(|id| Arg::from(*id)));
                transaction.execute(AssertSqlSafe(delete), args).await.map_err(&failed)?;
            }
            known.retain(|id| items.contains_key(id));
        }
        // What is tried again comes first where there is no room for all.
        let room = LEDGER_MAX.saturating_sub(known.len());
        let mut added: Vec<_> = items.iter().filter(|(id, _)| !known.contains(*id)).collect();
        added.sort_by_key(|(_, item)| item.kind);
        added.truncate(room);
        let mut noted: Vec<_> = items.iter().filter(|(id, _)| known.contains(*id)).collect();
        noted.extend(added);
        for noted in noted.chunks(ROWS_AT_ONCE) {
            let insert = format!(
                "INSERT INTO retries (source, id, reason, attempts, kind, at_ms) VALUES {}
                 ON CONFLICT (source, id) DO UPDATE SET reason = excluded.reason, attempts = retries.attempts + 1,
                     kind = excluded.kind, at_ms = excluded.at_ms",
                places(1, 6, noted.len())
            );
            let args = noted.iter().flat_map(|(id, item)| {
                args![&lease.name, *id, &item.reason, 1_i64, item.kind.name(), now]
            });
            transaction.execute(AssertSqlSafe(insert), args.collect()).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn ledger(&self, source: &str, kind: LedgerKind, limit: u32) -> Result<Vec<Retry>> {
        let sql = "SELECT id, reason, attempts, kind, at_ms FROM retries WHERE source = $1 AND kind = $2 ORDER BY id LIMIT $3";
        let args = args![source, kind.name(), limit];
        self.fetch("read the retry ledger", sql, args, Retry::read).await
    }

    async fn ledgers(&self, family: Option<&str>, kind: LedgerKind) -> Result<Vec<(String, u32)>> {
        let sql = format!(
            "SELECT source, COUNT(*) AS items FROM retries
             WHERE kind = $2 AND ($1 IS NULL OR source LIKE $1 || '/%') GROUP BY source ORDER BY source{}",
            D::BY_BYTES
        );
        let args = args![family, kind.name()];
        self.fetch("read the retry ledgers", AssertSqlSafe(sql), args, |row| {
            Ok((row.text("source")?, row.count("items")?))
        })
        .await
    }

    async fn forget(&self, source: &str, kind: LedgerKind) -> Result<u64> {
        let sql = "DELETE FROM retries WHERE source = $1 AND kind = $2";
        self.execute("write the retry ledger", sql, args![source, kind.name()]).await
    }
}
