//! Documents in one SQLite file: a table and a full-text index for each index, safe for several processes.
//!
//! A batch is one transaction: it is stored whole or not at all, whatever kills the process. Commits reach the disk
//! before they are answered, as a cursor in `state.db` moves on the strength of that answer.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde_json::Value;
use sqlx::sqlite::{SqlitePool, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction};
use tokio::sync::Mutex;

use super::plan::{Plan, plan};
use super::words::{Word, Words};
use super::{
    Body, Document, Documents, Filter, Index, Owner, Page, Query, Sort, Write, Written, distinct,
};
use crate::error::{Error, Result};
use crate::sqlite::{self, failed};

const MIGRATIONS: &[&str] = &[
    "CREATE TABLE sequences (index_name TEXT PRIMARY KEY, writes INTEGER NOT NULL) WITHOUT ROWID",
];

/// Documents written in one transaction at the most, so that other writers get their turn.
const BATCH: usize = 1_000;

/// The embedded document store.
pub struct Embedded {
    folder: PathBuf,
    pool: SqlitePool,
    ensured: Mutex<HashSet<&'static str>>,
}

impl Embedded {
    /// The file within the data folder.
    pub const FILE: &str = "documents.db";

    /// Opens or creates the store in `folder`.
    ///
    /// # Errors
    /// `Store`, when the folder cannot be used.
    pub async fn open(folder: &Path) -> Result<Self> {
        let pool = sqlite::open(folder, Self::FILE, SqliteSynchronous::Full, MIGRATIONS).await?;
        Ok(Self { folder: folder.to_owned(), pool, ensured: Mutex::default() })
    }

    async fn write_batch(
        &self,
        index: &'static Index,
        owner: &Owner,
        writes: &[Write],
    ) -> sqlx::Result<Vec<Written>> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let stored = stored(&mut transaction, index, writes).await?;
        let mut outcomes = Vec::with_capacity(writes.len());
        let mut written = 0_i64;
        for write in writes {
            let known = stored.get(&write.id);
            let outcome = match plan(known.map(|(_, body)| body), owner, write) {
                Plan::Unchanged => Written::Unchanged,
                Plan::Create(body) => {
                    let sql = format!(r#"INSERT INTO "{}" (id, body) VALUES ($1, $2)"#, index.name);
                    let body_text = text_of(&body);
                    let row = sqlx::query(AssertSqlSafe(sql))
                        .bind(&write.id)
                        .bind(body_text)
                        .execute(&mut *transaction)
                        .await?;
                    index_text(&mut transaction, index, row.last_insert_rowid(), &body).await?;
                    Written::New
                }
                Plan::Update(body) => {
                    let number = known.map_or(0, |(number, _)| *number);
                    let sql = format!(r#"UPDATE "{}" SET body = $2 WHERE n = $1"#, index.name);
                    sqlx::query(AssertSqlSafe(sql))
                        .bind(number)
                        .bind(text_of(&body))
                        .execute(&mut *transaction)
                        .await?;
                    let sql = format!(r#"DELETE FROM "{}_text" WHERE rowid = $1"#, index.name);
                    sqlx::query(AssertSqlSafe(sql)).bind(number).execute(&mut *transaction).await?;
                    index_text(&mut transaction, index, number, &body).await?;
                    Written::Changed
                }
            };
            written += i64::from(outcome != Written::Unchanged);
            outcomes.push(outcome);
        }
        if written == 0 {
            transaction.rollback().await?;
            return Ok(outcomes);
        }
        sqlx::query(
            "INSERT INTO sequences (index_name, writes) VALUES ($1, $2)
             ON CONFLICT (index_name) DO UPDATE SET writes = writes + excluded.writes",
        )
        .bind(index.name)
        .bind(written)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(outcomes)
    }
}

/// The stored documents of a batch, by id, with their row numbers.
async fn stored(
    transaction: &mut Transaction<'_, Sqlite>,
    index: &Index,
    writes: &[Write],
) -> sqlx::Result<HashMap<String, (i64, Body)>> {
    let ids: Vec<&str> = writes.iter().map(|write| write.id.as_str()).collect();
    let sql = format!(
        r#"SELECT id, n, body FROM "{}" WHERE id IN (SELECT value FROM json_each($1))"#,
        index.name
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(serde_json::to_string(&ids).expect("a list of strings is JSON"))
        .fetch_all(&mut **transaction)
        .await?;
    rows.into_iter()
        .map(|row| Ok((row.try_get("id")?, (row.try_get("n")?, read_body(row.try_get("body")?)?))))
        .collect()
}

async fn index_text(
    transaction: &mut Transaction<'_, Sqlite>,
    index: &Index,
    number: i64,
    body: &Body,
) -> sqlx::Result<()> {
    let fields: Vec<&str> = index.text_fields().collect();
    if fields.is_empty() {
        return Ok(());
    }
    let mut sql = format!(
        r#"INSERT INTO "{}_text" (rowid, "{}") VALUES ($1"#,
        index.name,
        fields.join(r#"", ""#)
    );
    for place in 0..fields.len() {
        let _ = write!(sql, ", ${}", place + 2);
    }
    sql.push(')');
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(number);
    for field in fields {
        query = query.bind(words_of(body.get(field)));
    }
    query.execute(&mut **transaction).await?;
    Ok(())
}

/// What is searched of a text field: its text, or those of a list one after the other.
fn words_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Array(texts) => {
            Some(texts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

fn text_of(body: &Body) -> String {
    serde_json::to_string(body).expect("a map of JSON values is JSON")
}

fn read_body(text: &str) -> sqlx::Result<Body> {
    serde_json::from_str(text).map_err(|cause| sqlx::Error::Decode(cause.into()))
}

/// The `WHERE` of a query and the values it binds, all as text.
struct Conditions {
    sql: String,
    values: Vec<String>,
}

impl Conditions {
    fn of(index: &Index, query: &Query) -> Result<Self> {
        let mut conditions = Self { sql: String::from("1"), values: Vec::new() };
        for filter in &query.filters {
            conditions.filter(index, filter)?;
        }
        if let Some(matching) = query.text.as_deref().and_then(fts_expression) {
            let place = conditions.bind(matching);
            let _ = write!(
                conditions.sql,
                r#" AND n IN (SELECT rowid FROM "{0}_text" WHERE "{0}_text" MATCH {place})"#,
                index.name
            );
        }
        Ok(conditions)
    }

    fn bind(&mut self, value: String) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn filter(&mut self, index: &Index, filter: &Filter) -> Result<()> {
        match filter {
            Filter::Terms(field, values) => {
                let path = path(index.field(field)?.0);
                let place =
                    self.bind(serde_json::to_string(values).expect("a list of strings is JSON"));
                let _ = write!(
                    self.sql,
                    " AND EXISTS (SELECT 1 FROM json_each(body, '{path}') WHERE value IN (SELECT value FROM json_each({place})))"
                );
            }
            Filter::Range(field, from, to) => {
                let path = path(index.field(field)?.0);
                for (limit, comparison) in [(from, ">="), (to, "<")] {
                    if let Some(limit) = limit {
                        let place = self.bind(limit.clone());
                        let _ = write!(
                            self.sql,
                            " AND json_extract(body, '{path}') {comparison} {place}"
                        );
                    }
                }
            }
            Filter::Exists(field) => {
                let path = path(index.field(field)?.0);
                let _ =
                    write!(self.sql, " AND coalesce(json_extract(body, '{path}'), '[]') <> '[]'");
            }
        }
        Ok(())
    }
}

/// A field's JSON path. Field names come from mappings, so they hold no quotes.
fn path(field: &str) -> String {
    format!(r#"$."{field}""#)
}

/// What a person typed, as an expression of SQLite's full-text search.
fn fts_expression(text: &str) -> Option<String> {
    let words = Words::read(text)?;
    let any_of = |words: &[Word]| {
        let quoted: Vec<String> = words
            .iter()
            .map(|word| format!("\"{}\"{}", word.text, if word.is_prefix { "*" } else { "" }))
            .collect();
        quoted.join(" OR ")
    };
    let wanted = any_of(&words.wanted);
    Some(if words.unwanted.is_empty() {
        wanted
    } else {
        format!("({wanted}) NOT ({})", any_of(&words.unwanted))
    })
}

#[async_trait]
impl Documents for Embedded {
    async fn ensure(&self, index: &'static Index) -> Result<()> {
        let mut ensured = self.ensured.lock().await;
        if ensured.contains(index.name) {
            return Ok(());
        }
        let name = index.name;
        let mut sql = format!(
            r#"CREATE TABLE IF NOT EXISTS "{name}" (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL);"#
        );
        let fields: Vec<&str> = index.text_fields().collect();
        if !fields.is_empty() {
            let _ = write!(
                sql,
                r#"CREATE VIRTUAL TABLE IF NOT EXISTS "{name}_text" USING fts5("{}", content='', contentless_delete=1, tokenize="unicode61 remove_diacritics 2");"#,
                fields.join(r#"", ""#)
            );
        }
        if let Some(date) = &index.newest_by {
            let path = path(date);
            let _ = write!(
                sql,
                r#"CREATE INDEX IF NOT EXISTS "{name}_newest" ON "{name}" (json_extract(body, '{path}') DESC, id);"#
            );
        }
        let failed = failed("create the tables of an index");
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        ensured.insert(name);
        Ok(())
    }

    async fn upsert(
        &self,
        index: &'static Index,
        owner: &Owner,
        writes: &[Write],
    ) -> Result<Vec<Written>> {
        distinct(writes)?;
        self.ensure(index).await?;
        let mut outcomes = Vec::with_capacity(writes.len());
        for batch in writes.chunks(BATCH) {
            outcomes.extend(
                self.write_batch(index, owner, batch).await.map_err(failed("write documents"))?,
            );
        }
        Ok(outcomes)
    }

    async fn get(&self, index: &'static Index, id: &str) -> Result<Option<Body>> {
        self.ensure(index).await?;
        let sql = format!(r#"SELECT body FROM "{}" WHERE id = $1"#, index.name);
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("read a document"))?;
        row.map(|row| read_body(row.get("body"))).transpose().map_err(failed("read a document"))
    }

    async fn count(&self, index: &'static Index, query: &Query) -> Result<u64> {
        self.ensure(index).await?;
        let conditions = Conditions::of(index, query)?;
        let sql =
            format!(r#"SELECT COUNT(*) AS total FROM "{}" WHERE {}"#, index.name, conditions.sql);
        let mut statement = sqlx::query(AssertSqlSafe(sql));
        for value in conditions.values {
            statement = statement.bind(value);
        }
        let row = statement.fetch_one(&self.pool).await.map_err(failed("count documents"))?;
        Ok(row.get::<i64, _>("total").cast_unsigned())
    }

    async fn search(&self, index: &'static Index, query: &Query) -> Result<Page> {
        if query.limit > Query::LIMIT_MAX {
            return Err(Error::config(format!("search for `{}` documents at once", query.limit))
                .hint(format!("ask for at most {}", Query::LIMIT_MAX)));
        }
        let total = self.count(index, query).await?;
        let mut conditions = Conditions::of(index, query)?;
        let name = index.name;
        let order = match (
            &query.sort,
            &index.newest_by,
            query.text.as_deref().and_then(fts_expression),
        ) {
            (Some(Sort::Field { name, descending }), ..) => {
                let direction = if *descending { "DESC" } else { "ASC" };
                format!(
                    "json_extract(body, '{}') {direction} NULLS LAST, id",
                    path(index.field(name)?.0)
                )
            }
            (Some(Sort::Relevance), _, Some(matching)) => {
                let place = conditions.bind(matching);
                let found = format!(
                    r#"SELECT rank FROM "{name}_text" WHERE "{name}_text" MATCH {place} AND rowid = n"#
                );
                format!("({found}), id")
            }
            (_, Some(date), _) => format!("json_extract(body, '{}') DESC, id", path(date)),
            _ => "id".to_owned(),
        };
        let sql = format!(
            r#"SELECT id, body FROM "{name}" WHERE {} ORDER BY {order} LIMIT {} OFFSET {}"#,
            conditions.sql, query.limit, query.offset
        );
        let mut statement = sqlx::query(AssertSqlSafe(sql));
        for value in conditions.values {
            statement = statement.bind(value);
        }
        let rows = statement.fetch_all(&self.pool).await.map_err(failed("search documents"))?;
        let documents = rows
            .iter()
            .map(document)
            .collect::<sqlx::Result<_>>()
            .map_err(failed("search documents"))?;
        Ok(Page { total, documents })
    }

    async fn scan(
        &self,
        index: &'static Index,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>> {
        self.ensure(index).await?;
        let sql = format!(
            r#"SELECT id, body FROM "{}" WHERE id > $1 ORDER BY id LIMIT {limit}"#,
            index.name
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(after.unwrap_or_default())
            .fetch_all(&self.pool)
            .await
            .map_err(failed("scan documents"))?;
        rows.iter().map(document).collect::<sqlx::Result<_>>().map_err(failed("scan documents"))
    }

    async fn sequence(&self, index: &'static Index) -> Result<u64> {
        let row: Option<(i64,)> =
            sqlx::query_as("SELECT writes FROM sequences WHERE index_name = $1")
                .bind(index.name)
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("read the store's count of writes"))?;
        Ok(row.map_or(0, |(writes,)| writes.cast_unsigned()))
    }

    async fn describe(&self) -> Result<String> {
        Ok(format!("embedded, in {}", self.folder.display()))
    }
}

fn document(row: &sqlx::sqlite::SqliteRow) -> sqlx::Result<Document> {
    Ok(Document { id: row.try_get("id")?, body: read_body(row.try_get("body")?)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sqlite_is_new_enough_for_several_writers() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(folder.path()).await.unwrap();
        let (version,): (String,) =
            sqlx::query_as("SELECT sqlite_version()").fetch_one(&store.pool).await.unwrap();
        let numbers: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
        assert!(
            numbers >= vec![3, 51, 3],
            "SQLite {version} can corrupt a WAL that several processes checkpoint"
        );
    }
}
