//! State on its way to another store: its rows as they are, in the order of their keys, alike in both databases.
//!
//! Holds stay behind. They belong to processes of one home, and the numbers that fence them are given by each database.

use std::fmt::Write as _;

use async_trait::async_trait;
use base::Result;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::db::{Arg, Row, args};
use super::sql::{Driver, Sql};
use crate::documents::{Body, Document};

/// A table that goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// What was run, and where an unfinished run goes on.
    Runs,
    /// Items that could not be stored.
    Retries,
    /// What people set for sources.
    Overrides,
    /// Validators, cursors and health.
    Sources,
    /// What waits to be run, what was, and dead letters.
    Invocations,
    /// How far the timetable has been queued.
    Marks,
    /// What the keys of a pool have spent.
    Budgets,
    /// Keys that may not be used for now.
    Blocks,
    /// When the timetable fired, and what came of it.
    Slots,
    /// What was tried, and what it logged.
    Attempts,
    /// What sources brought by day.
    SourceDays,
}

/// What a column holds; all JSON is text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
}

use Kind::{Number, Text};

impl Table {
    /// Every table, in the order in which they are copied: a cursor comes after what it stands for, a mark after what it
    /// has queued.
    pub const ALL: [Self; 11] = [
        Self::Runs,
        Self::Attempts,
        Self::SourceDays,
        Self::Retries,
        Self::Overrides,
        Self::Sources,
        Self::Budgets,
        Self::Blocks,
        Self::Slots,
        Self::Invocations,
        Self::Marks,
    ];

    /// Its name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Retries => "retries",
            Self::Overrides => "overrides",
            Self::Sources => "sources",
            Self::Invocations => "invocations",
            Self::Marks => "marks",
            Self::Budgets => "budgets",
            Self::Blocks => "blocks",
            Self::Slots => "slots",
            Self::Attempts => "attempts",
            Self::SourceDays => "source_days",
        }
    }

    /// Its columns, those of its key first, and how many these are.
    fn columns(self) -> (usize, &'static [(&'static str, Kind)]) {
        match self {
            Self::Runs => (
                1,
                &[
                    ("run_id", Text),
                    ("task", Text),
                    ("identity", Text),
                    ("slot_ms", Number),
                    ("request_id", Text),
                    ("input", Text),
                    ("status", Text),
                    ("fence", Number),
                    ("attempt", Number),
                    ("step", Number),
                    ("checkpoint", Text),
                    ("report", Text),
                    ("started_ms", Number),
                    ("finished_ms", Number),
                ],
            ),
            Self::Retries => (
                2,
                &[
                    ("source", Text),
                    ("id", Text),
                    ("reason", Text),
                    ("attempts", Number),
                    ("kind", Text),
                    ("at_ms", Number),
                ],
            ),
            Self::Overrides => (2, &[("family", Text), ("id", Text), ("word", Text)]),
            Self::Sources => (1, &[("name", Text), ("state", Text)]),
            Self::Invocations => (
                1,
                &[
                    ("request_id", Text),
                    ("task", Text),
                    ("event", Text),
                    ("due_ms", Number),
                    ("attempts", Number),
                    ("state", Text),
                    ("error", Text),
                    ("alone", Number),
                ],
            ),
            Self::Slots => (
                1,
                &[
                    ("request_id", Text),
                    ("task", Text),
                    ("slot_ms", Number),
                    ("outcome", Text),
                    ("reason", Text),
                    ("noted_ms", Number),
                ],
            ),
            Self::Attempts => (
                2,
                &[
                    ("request_id", Text),
                    ("attempt", Number),
                    ("task", Text),
                    ("run_id", Text),
                    ("started_ms", Number),
                    ("ended_ms", Number),
                    ("outcome", Text),
                    ("class", Text),
                    ("error", Text),
                    ("peak_kb", Number),
                    ("log", Text),
                    ("log_bytes", Number),
                ],
            ),
            Self::SourceDays => (
                2,
                &[
                    ("source", Text),
                    ("day", Text),
                    ("visits", Number),
                    ("failures", Number),
                    ("new", Number),
                    ("bytes", Number),
                ],
            ),
            Self::Marks => (1, &[("row_name", Text), ("until_ms", Number)]),
            Self::Budgets => (
                3,
                &[
                    ("pool", Text),
                    ("id", Text),
                    ("span", Text),
                    ("spent", Number),
                    ("used_ms", Number),
                ],
            ),
            Self::Blocks => {
                (2, &[("pool", Text), ("id", Text), ("until_ms", Number), ("reason", Text)])
            }
        }
    }

    /// Its key as one text; `collation` makes a database compare it by bytes, as the other does.
    fn key(self, collation: &str) -> String {
        let (keys, columns) = self.columns();
        let names: Vec<&str> = columns[..keys].iter().map(|(name, _)| *name).collect();
        format!("({}){collation}", names.join(" || '\u{1f}' || "))
    }

    /// Reads `$2` rows after the key `$1`.
    fn select(self, collation: &str) -> String {
        let key = self.key(collation);
        let names: Vec<&str> = self.columns().1.iter().map(|(name, _)| *name).collect();
        format!(
            "SELECT {key} AS row_key, {} FROM {} WHERE {key} > $1 ORDER BY {key} LIMIT $2",
            names.join(", "),
            self.name()
        )
    }

    /// Deletes the row of the key `$1`.
    fn delete(self, collation: &str) -> String {
        format!("DELETE FROM {} WHERE {} = $1", self.name(), self.key(collation))
    }

    /// Writes a row, its columns in order, in the place of one that has its key.
    fn insert(self) -> String {
        let (keys, columns) = self.columns();
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let places: Vec<String> = (1..=names.len()).map(|place| format!("${place}")).collect();
        let mut sql = format!(
            "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET ",
            self.name(),
            names.join(", "),
            places.join(", "),
            names[..keys].join(", ")
        );
        for (place, name) in names[keys..].iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            let _ = write!(sql, "{comma}{name} = excluded.{name}");
        }
        sql
    }

    /// A row as a document: its key, its columns.
    fn read(self, row: &Row) -> sqlx::Result<Document> {
        let mut body = Body::new();
        for (name, kind) in self.columns().1 {
            let value = match kind {
                // PostgreSQL has no place for NUL, so that nobody keeps one.
                Text => row
                    .text_or_null(name)?
                    .map_or(Value::Null, |text| json!(text.replace('\0', "\u{fffd}"))),
                Number => json!(row.number_or_null(name)?),
            };
            body.insert((*name).to_owned(), value);
        }
        Ok(Document { id: row.text("row_key")?, body })
    }
}

/// State as rows, for copying it.
#[async_trait]
pub trait Moving: Send + Sync {
    /// Rows in the order of their keys by bytes, `limit` at the most, after the given one; each as a document of its columns.
    async fn rows(&self, table: Table, after: Option<&str>, limit: u32) -> Result<Vec<Document>>;

    /// Takes the rows of these keys away and writes others as they are, in the place of those with their keys; together.
    async fn put_rows(&self, table: Table, gone: &[String], rows: &[Document]) -> Result<()>;

    /// Runs and invocations that a live process is at, for people.
    async fn under_way(&self) -> Result<Vec<String>>;
}

#[async_trait]
impl<D: Driver> Moving for Sql<D> {
    async fn rows(&self, table: Table, after: Option<&str>, limit: u32) -> Result<Vec<Document>> {
        let failed = D::failed("read rows of the state");
        let select = AssertSqlSafe(table.select(D::BY_BYTES));
        let found = self.pool.fetch(select, args![after.unwrap_or_default(), limit]).await;
        let found = found.map_err(&failed)?;
        found.iter().map(|row| table.read(row)).collect::<sqlx::Result<_>>().map_err(&failed)
    }

    async fn put_rows(&self, table: Table, gone: &[String], rows: &[Document]) -> Result<()> {
        let failed = D::failed("write rows of the state");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for key in gone {
            let delete = AssertSqlSafe(table.delete(D::BY_BYTES));
            transaction.execute(delete, args![key]).await.map_err(&failed)?;
        }
        for row in rows {
            let values = table.columns().1.iter().map(|(name, kind)| {
                let value = row.body.get(*name);
                match kind {
                    Text => Arg::from(value.and_then(Value::as_str)),
                    Number => Arg::from(value.and_then(Value::as_i64)),
                }
            });
            let insert = AssertSqlSafe(table.insert());
            transaction.execute(insert, values.collect()).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn under_way(&self) -> Result<Vec<String>> {
        self.driver.under_way(&self.pool).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_every_column_once_and_compare_whole_keys() {
        assert_eq!(
            Table::Overrides.select(""),
            "SELECT (family || '\u{1f}' || id) AS row_key, family, id, word FROM overrides \
             WHERE (family || '\u{1f}' || id) > $1 ORDER BY (family || '\u{1f}' || id) LIMIT $2"
        );
        assert_eq!(
            Table::Blocks.insert(),
            "INSERT INTO blocks (pool, id, until_ms, reason) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (pool, id) DO UPDATE SET until_ms = excluded.until_ms, reason = excluded.reason"
        );
        assert_eq!(
            Table::Marks.delete(" COLLATE \"C\""),
            "DELETE FROM marks WHERE (row_name) COLLATE \"C\" = $1"
        );
    }
}
