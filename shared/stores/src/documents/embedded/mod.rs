//! Documents in one SQLite file: a table and a full-text index for each index, safe for several processes.
//!
//! A batch is one transaction: it is stored whole or not at all, whatever kills the process. Commits reach the disk
//! before they are answered, as a cursor in `state.db` moves on the strength of that answer.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base::{Error, Result};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::{SqlitePool, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction};
use tokio::sync::Mutex;

use super::batches::batches;
use super::plan::{Intent, Plan};
use super::scan::Selection;
use super::words::Words;
use super::{
    Aggregation, Body, Bucket, Counts, Document, DocumentReader, Documents, Identity, Index,
    LookedAt, Page, Query, Scan, Sort, Write, Written, countable, deleted, nothings, parts,
    too_large, wholes, within_reach, writable,
};
use crate::sqlite::{self, failed};

use self::query::{By, Rows, dates, document, each, is_nested, path, terms};

mod query;

const MIGRATIONS: &[&str] = &[
    "CREATE TABLE sequences (index_name TEXT PRIMARY KEY, writes INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE identities (index_name TEXT PRIMARY KEY, store TEXT NOT NULL) WITHOUT ROWID",
    // From here on a table `_exact` goes with each index. A program that does not know it would not keep it: it refuses a store
    // of this version.
    "SELECT 1",
];

/// Fields by whose values documents are asked for: each has a place in the index `_exact`. Others are compared document by
/// document. A change of this list needs a migration that drops those tables, to be made anew.
const FILTERED: [&str; 12] = [
    "category",
    "cves",
    "feed_name",
    "iocs.value",
    "malware_family",
    "source_id",
    "tags",
    "threat_actor",
    "tlp",
    "type",
    "value",
    "warninglist_hits",
];

/// Documents that a query is about, from which on its page is looked for among all by date: to fetch and sort so many takes
/// longer.
const MANY: u64 = 5_000;

/// Documents written in one transaction at the most, so that other writers get their turn.
const BATCH: usize = 1_000;

/// Bytes of documents written in one transaction; a single larger one is written alone.
const BATCH_BYTES: usize = 8 << 20;

/// Rows that one statement adds: each statement is a way to SQLite's thread and back. A rest takes the smaller ones, so that few
/// statements are prepared.
const ROWS: [usize; 4] = [32, 8, 2, 1];

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
        Self::open_within(folder, None).await
    }

    /// As [`open`](Self::open), with a file that holds `max_mb` MiB at the most.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_within(folder: &Path, max_mb: Option<NonZeroU32>) -> Result<Self> {
        let synchronous = SqliteSynchronous::Full;
        let pool = sqlite::open(folder, Self::FILE, synchronous, max_mb, MIGRATIONS).await?;
        Ok(Self { folder: folder.to_owned(), pool, ensured: Mutex::default() })
    }

    /// What the store in `folder` holds; nothing is made.
    ///
    /// # Errors
    /// What would keep a task from using it.
    pub async fn look(folder: &Path) -> Result<LookedAt> {
        let none = || Index::all().iter().map(|index| (index.name, None)).collect();
        let Some(looked) = sqlite::look(folder, Self::FILE, MIGRATIONS).await? else {
            let place = format!("embedded; the first run makes it in {}", folder.display());
            return Ok(LookedAt { place, counts: none() });
        };
        let place = format!("embedded, in {}", folder.display());
        let failed = failed("count what is stored");
        let mut counts = Vec::new();
        for index in Index::all() {
            let sql = format!(r#"SELECT COUNT(*) FROM "{}""#, index.name);
            let count = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&looked.pool).await;
            counts.push((
                index.name,
                match count {
                    Ok((count,)) => Some(i64::cast_unsigned(count)),
                    Err(error) if is_missing_table(&error) => None,
                    Err(error) => return Err(failed(error)),
                },
            ));
        }
        looked.pool.close().await;
        Ok(LookedAt { place, counts })
    }

    /// Creates the tables of an index, and an identity for one that is new.
    async fn make(&self, index: &Index) -> Result<()> {
        let name = index.name;
        let mut sql = format!(
            r#"CREATE TABLE IF NOT EXISTS "{name}" (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL);"#
        );
        if let Some(date) = &index.newest_by {
            let path = path(date);
            let _ = write!(
                sql,
                r#"CREATE INDEX IF NOT EXISTS "{name}_newest" ON "{name}" (json_extract(body, '{path}') DESC, id);"#
            );
        }
        let failed = failed("create the tables of an index");
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        // An index that was stored by a version before identities gets its first one, and stays what it is.
        sqlx::query(
            "INSERT INTO identities (index_name, store) VALUES ($1, lower(hex(randomblob(16))))
             ON CONFLICT (index_name) DO UPDATE SET store = excluded.store
             WHERE NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = $1)",
        )
        .bind(name)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.map_err(&failed)?;
        make_text(&mut transaction, index).await.map_err(&failed)?;
        make_exact(&mut transaction, index).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(())
    }

    async fn write(
        &self,
        index: &'static Index,
        intents: &[Intent<'_>],
        failed: impl Fn(sqlx::Error) -> Error,
    ) -> Result<Vec<Written>> {
        writable(index)?;
        self.ensure(index).await?;
        let mut outcomes = Vec::with_capacity(intents.len());
        for batch in batches(intents, Intent::weight, BATCH, BATCH_BYTES) {
            outcomes.extend(self.write_batch(index, batch).await.map_err(&failed)?);
        }
        Ok(outcomes)
    }

    /// Another name for the index, unless another process has given it one.
    async fn rename(&self, index: &'static Index, lost: &Identity) -> sqlx::Result<()> {
        sqlx::query(
            "UPDATE identities SET store = lower(hex(randomblob(16))) WHERE index_name = $1 AND store = $2",
        )
        .bind(index.name)
        .bind(&lost.store)
        .execute(&self.pool)
        .await
        .map(drop)
    }

    async fn read_identity(&self, index: &'static Index) -> sqlx::Result<Identity> {
        let mut identity = Identity { store: String::new(), sequence: 0, documents: 0 };
        for index in index.members() {
            let sql = format!(
                r#"SELECT store, coalesce((SELECT writes FROM sequences WHERE index_name = $1), 0), (SELECT COUNT(*) FROM "{}")
                   FROM identities WHERE index_name = $1"#,
                index.name
            );
            let (store, writes, documents): (String, i64, i64) =
                sqlx::query_as(AssertSqlSafe(sql)).bind(index.name).fetch_one(&self.pool).await?;
            if !identity.store.is_empty() {
                identity.store.push(',');
            }
            identity.store.push_str(&store);
            identity.sequence += writes.cast_unsigned();
            identity.documents += documents.cast_unsigned();
        }
        Ok(identity)
    }

    async fn write_batch(
        &self,
        index: &'static Index,
        batch: &[Intent<'_>],
    ) -> sqlx::Result<Vec<Written>> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let sizes = sizes(&mut transaction, index, batch).await?;
        // What is stored may be much more than what is written.
        let weigh = |intent: &Intent<'_>| sizes.get(intent.id()).copied().unwrap_or(0);
        let mut outcomes = Vec::with_capacity(batch.len());
        for part in batches(batch, weigh, BATCH, BATCH_BYTES) {
            outcomes.extend(write_part(&mut transaction, index, part).await?);
        }
        let is_written = |outcome: &&Written| matches!(outcome, Written::New | Written::Changed);
        let written = outcomes.iter().filter(is_written).count();
        if written == 0 {
            transaction.rollback().await?;
            return Ok(outcomes);
        }
        sqlx::query(
            "INSERT INTO sequences (index_name, writes) VALUES ($1, $2)
             ON CONFLICT (index_name) DO UPDATE SET writes = writes + excluded.writes",
        )
        .bind(index.name)
        .bind(i64::try_from(written).unwrap_or(i64::MAX))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(outcomes)
    }
}

/// Plans and writes a part of a batch within its transaction.
async fn write_part(
    transaction: &mut Transaction<'_, Sqlite>,
    index: &'static Index,
    batch: &[Intent<'_>],
) -> sqlx::Result<Vec<Written>> {
    let stored = stored(transaction, index, batch).await?;
    let mut outcomes = Vec::with_capacity(batch.len());
    let (mut created, mut updated) = (Vec::new(), Vec::new());
    for intent in batch {
        let known = stored.get(intent.id());
        let outcome = match intent.plan(known.map(|(_, body)| body)) {
            Plan::Unchanged => Written::Unchanged,
            Plan::Create(body) => {
                let text = text_of(&body);
                if let Some(why) = too_large(text.len(), &body) {
                    outcomes.push(Written::Rejected(why));
                    continue;
                }
                created.push((intent.id(), text, body));
                if created.len() == ROWS[0] {
                    create(transaction, index, std::mem::take(&mut created)).await?;
                }
                Written::New
            }
            Plan::Update(body) => {
                let text = text_of(&body);
                if let Some(why) = too_large(text.len(), &body) {
                    outcomes.push(Written::Rejected(why));
                    continue;
                }
                updated.push((known.map_or(0, |(number, _)| *number), text, body));
                if updated.len() == ROWS[0] {
                    update(transaction, index, std::mem::take(&mut updated)).await?;
                }
                Written::Changed
            }
            Plan::Delete => {
                let number = known.map_or(0, |(number, _)| *number);
                let sql = format!(r#"DELETE FROM "{}" WHERE n = $1"#, index.name);
                sqlx::query(AssertSqlSafe(sql)).bind(number).execute(&mut **transaction).await?;
                forget(transaction, index, &[number]).await?;
                Written::Changed
            }
        };
        outcomes.push(outcome);
    }
    create(transaction, index, created).await?;
    update(transaction, index, updated).await?;
    Ok(outcomes)
}

/// Replaces documents that are stored: rows, texts and bodies.
async fn update(
    transaction: &mut Transaction<'_, Sqlite>,
    index: &Index,
    updated: Vec<(i64, String, Body)>,
) -> sqlx::Result<()> {
    for rows in runs(&updated) {
        let sql = format!(
            r#"UPDATE "{}" SET body = changed.column2 FROM (VALUES {}) AS changed WHERE n = changed.column1"#,
            index.name,
            places(rows.len(), 2)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (number, text, _) in rows {
            query = query.bind(*number).bind(text);
        }
        query.execute(&mut **transaction).await?;
    }
    let numbers: Vec<i64> = updated.iter().map(|(number, ..)| *number).collect();
    forget(transaction, index, &numbers).await?;
    let bodies: Vec<_> = updated.iter().map(|(number, _, body)| (*number, body)).collect();
    index_text(transaction, index, &bodies).await?;
    index_exact(transaction, index, &bodies).await
}

/// Adds documents that are not stored: ids, texts and bodies.
async fn create(
    transaction: &mut Transaction<'_, Sqlite>,
    index: &Index,
    created: Vec<(&str, String, Body)>,
) -> sqlx::Result<()> {
    if created.is_empty() {
        return Ok(());
    }
    // Nobody else writes while this transaction lasts.
    let sql = format!(r#"SELECT coalesce(max(n), 0) FROM "{}""#, index.name);
    let (last,): (i64,) = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut **transaction).await?;
    let rows: Vec<_> = (last + 1..).zip(&created).collect();
    for rows in runs(&rows) {
        let sql = format!(
            r#"INSERT INTO "{}" (n, id, body) VALUES {}"#,
            index.name,
            places(rows.len(), 3)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (number, (id, text, _)) in rows {
            query = query.bind(*number).bind(*id).bind(text);
        }
        query.execute(&mut **transaction).await?;
    }
    let bodies: Vec<_> = rows.iter().map(|(number, (_, _, body))| (*number, body)).collect();
    index_text(transaction, index, &bodies).await?;
    index_exact(transaction, index, &bodies).await
}

/// Rows as they go into statements, by [`ROWS`].
fn runs<T>(mut rest: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = ROWS.into_iter().find(|size| *size <= rest.len())?;
        let (run, others) = rest.split_at(size);
        rest = others;
        Some(run)
    })
}

/// Where the values of so many rows are bound.
fn places(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    vec![row.as_str(); rows].join(", ")
}

/// How many bytes the stored documents of a batch have, by id.
async fn sizes(
    transaction: &mut Transaction<'_, Sqlite>,
    index: &Index,
    batch: &[Intent<'_>],
) -> sqlx::Result<HashMap<String, usize>> {
    let ids: Vec<&str> = batch.iter().map(Intent::id).collect();
    let sql = format!(
        r#"SELECT id, octet_length(body) FROM "{}" WHERE id IN (SELECT value FROM json_each($1))"#,
        index.name
    );
    let rows: Vec<(String, i64)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(serde_json::to_string(&ids).expect("a list of strings is JSON"))
        .fetch_all(&mut **transaction)
        .await?;
    Ok(rows.into_iter().map(|(id, size)| (id, usize::try_from(size).unwrap_or(0))).collect())
}

/// Creates the full-text index of an index, anew where another version gave it other fields.
async fn make_text(transaction: &mut Transaction<'_, Sqlite>, index: &Index) -> sqlx::Result<()> {
    let name = index.name;
    let fields: Vec<&str> = index.text_fields().collect();
    let stored: Vec<(String,)> =
        sqlx::query_as("SELECT name FROM pragma_table_info($1) ORDER BY cid")
            .bind(format!("{name}_text"))
            .fetch_all(&mut **transaction)
            .await?;
    if stored.iter().map(|(field,)| field).eq(&fields) {
        return Ok(());
    }
    let mut sql = format!(r#"DROP TABLE IF EXISTS "{name}_text";"#);
    if !fields.is_empty() {
        let _ = write!(
            sql,
            r#"CREATE VIRTUAL TABLE "{name}_text" USING fts5("{}", content='', contentless_delete=1, tokenize="unicode61 remove_diacritics 2");"#,
            fields.join(r#"", ""#)
        );
    }
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **transaction).await?;
    let mut rest = Bodies::of(index);
    loop {
        let rows = rest.next(transaction).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = rows.iter().map(|(number, body)| (*number, body)).collect();
        index_text(transaction, index, &rows).await?;
    }
}

/// Creates the index of exact values of an index, and fills it from what is stored.
async fn make_exact(transaction: &mut Transaction<'_, Sqlite>, index: &Index) -> sqlx::Result<()> {
    let name = index.name;
    let known: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM sqlite_schema WHERE name = $1")
        .bind(format!("{name}_exact"))
        .fetch_optional(&mut **transaction)
        .await?;
    if known.is_some() {
        return Ok(());
    }
    let sql = format!(
        r#"CREATE VIRTUAL TABLE "{name}_exact" USING fts5(tokens, content='', contentless_delete=1, detail=none, tokenize=ascii);"#
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **transaction).await?;
    let mut rest = Bodies::of(index);
    loop {
        let rows = rest.next(transaction).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = rows.iter().map(|(number, body)| (*number, body)).collect();
        index_exact(transaction, index, &rows).await?;
    }
}

/// All documents of an index, batch by batch.
struct Bodies {
    sql: String,
    last: i64,
}

impl Bodies {
    fn of(index: &Index) -> Self {
        let name = index.name;
        let sql = format!(r#"SELECT n, body FROM "{name}" WHERE n > $1 ORDER BY n LIMIT {BATCH}"#);
        Self { sql, last: 0 }
    }

    async fn next(
        &mut self,
        transaction: &mut Transaction<'_, Sqlite>,
    ) -> sqlx::Result<Vec<(i64, Body)>> {
        let query = sqlx::query(AssertSqlSafe(self.sql.clone())).bind(self.last);
        let rows = query.fetch_all(&mut **transaction).await?;
        let rows = rows.iter().map(|row| Ok((row.try_get("n")?, read_body(row.try_get("body")?)?)));
        let rows: Vec<(i64, Body)> = rows.collect::<sqlx::Result<_>>()?;
        self.last = rows.last().map_or(self.last, |(number, _)| *number);
        Ok(rows)
    }
}

/// The stored documents of a batch, by id, with their row numbers.
async fn stored(
    transaction: &mut Transaction<'_, Sqlite>,
    index: &Index,
    batch: &[Intent<'_>],
) -> sqlx::Result<HashMap<String, (i64, Body)>> {
    let ids: Vec<&str> = batch.iter().map(Intent::id).collect();
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

/// Takes rows out of the indices beside their table.
async fn forget(
    transaction: &mut Transaction<'_, Sqlite>,
    index: &Index,
    numbers: &[i64],
) -> sqlx::Result<()> {
    let has_text = index.text_fields().next().is_some();
    for table in ["text", "exact"].into_iter().skip(usize::from(!has_text)) {
        for numbers in runs(numbers) {
            let sql = format!(
                r#"DELETE FROM "{}_{table}" WHERE rowid IN ({})"#,
                index.name,
                vec!["?"; numbers.len()].join(", ")
            );
            let query = numbers
                .iter()
                .fold(sqlx::query(AssertSqlSafe(sql)), |query, number| query.bind(*number));
            query.execute(&mut **transaction).await?;
        }
    }
    Ok(())
}

async fn index_exact(
    transaction: &mut Transaction<'_, Sqlite>,
    index: &Index,
    rows: &[(i64, &Body)],
) -> sqlx::Result<()> {
    for rows in runs(rows) {
        let sql = format!(
            r#"INSERT INTO "{}_exact" (rowid, tokens) VALUES {}"#,
            index.name,
            places(rows.len(), 2)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (number, body) in rows {
            query = query.bind(*number).bind(tokens(body));
        }
        query.execute(&mut **transaction).await?;
    }
    Ok(())
}

/// The values of all [`FILTERED`] fields, a token each.
fn tokens(body: &Body) -> String {
    let mut tokens = Vec::new();
    for field in FILTERED {
        let mut values = Vec::new();
        values_at(body, field, &mut values);
        tokens.extend(values.iter().map(|value| token(field, value)));
    }
    tokens.join(" ")
}

/// Every value of a field, as [`each`] and [`query::SHOWN`] give them.
fn values_at(body: &Body, field: &str, values: &mut Vec<String>) {
    if let Some((object, rest)) = field.split_once('.') {
        let objects = match body.get(object) {
            Some(Value::Array(objects)) => objects.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        for object in objects.iter().filter_map(Value::as_object) {
            values_at(object, rest, values);
        }
        return;
    }
    let all = match body.get(field) {
        Some(Value::Array(all)) => all.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    values.extend(all.iter().filter_map(|value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }));
}

/// A field's value as one word of an index: 64 bits of their hash, which no two of a store's values are expected to share.
fn token(field: &str, value: &str) -> String {
    let hash = Sha256::new().chain_update(field).chain_update([0]).chain_update(value).finalize();
    format!("v{}", hex::encode(&hash[..8]))
}

async fn index_text(
    transaction: &mut Transaction<'_, Sqlite>,
    index: &Index,
    rows: &[(i64, &Body)],
) -> sqlx::Result<()> {
    let fields: Vec<&str> = index.text_fields().collect();
    if fields.is_empty() {
        return Ok(());
    }
    for rows in runs(rows) {
        let sql = format!(
            r#"INSERT INTO "{}_text" (rowid, "{}") VALUES {}"#,
            index.name,
            fields.join(r#"", ""#),
            places(rows.len(), fields.len() + 1)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (number, body) in rows {
            query = query.bind(*number);
            for field in &fields {
                query = query.bind(words_of(body.get(*field)));
            }
        }
        query.execute(&mut **transaction).await?;
    }
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

#[async_trait]
impl Documents for Embedded {
    async fn ensure(&self, index: &'static Index) -> Result<()> {
        let mut ensured = self.ensured.lock().await;
        for index in index.members() {
            if !ensured.contains(index.name) {
                self.make(index).await?;
                ensured.insert(index.name);
            }
        }
        Ok(())
    }

    async fn upsert(&self, index: &'static Index, writes: &[Write]) -> Result<Vec<Written>> {
        self.write(index, &parts(writes)?, failed("write documents")).await
    }

    async fn restore(&self, index: &'static Index, documents: &[Document]) -> Result<Vec<Written>> {
        self.write(index, &wholes(documents)?, failed("restore documents")).await
    }

    async fn renew(&self, index: &'static Index, lost: Identity) -> Result<Identity> {
        self.rename(index, &lost).await.map_err(failed("note that documents were lost"))?;
        self.identity(index).await
    }

    async fn delete(&self, index: &'static Index, ids: &[String]) -> Result<u64> {
        let outcomes = self.write(index, &nothings(ids)?, failed("delete documents")).await?;
        Ok(deleted(&outcomes))
    }
}

#[async_trait]
impl DocumentReader for Embedded {
    async fn get(&self, index: &'static Index, id: &str) -> Result<Option<Body>> {
        self.ensure(index).await?;
        let mut found = Rows::of(index, &Query::default(), By::Words)?;
        let place = found.bind(id.to_owned());
        let sql = format!("SELECT id, body FROM {} WHERE id = {place}", found.sql);
        let failed = failed("read a document");
        let rows = found.fetch(&self.pool, sql).await.map_err(&failed)?;
        let found = rows.first().map(document).transpose().map_err(&failed)?;
        Ok(found.map(|document| document.body))
    }

    async fn fields_of(
        &self,
        index: &'static Index,
        ids: &[&str],
        fields: &[&str],
    ) -> Result<Vec<Option<Body>>> {
        self.ensure(index).await?;
        let mut found = Rows::of(index, &Query::default(), By::Words)?;
        let place = found.bind(serde_json::to_string(ids).expect("a list of strings is JSON"));
        let sql = format!(
            "SELECT id, body FROM {} WHERE id IN (SELECT value FROM json_each({place}))",
            found.sql
        );
        let selection = Selection::of(fields.iter().copied());
        let failed = failed("read fields of documents");
        let found = found.select(&self.pool, sql, Some(&selection)).await.map_err(&failed)?;
        let found: HashMap<String, Body> =
            found.into_iter().map(|document| (document.id, document.body)).collect();
        Ok(ids.iter().map(|id| found.get(*id).cloned()).collect())
    }

    async fn count(&self, index: &'static Index, query: &Query) -> Result<u64> {
        self.ensure(index).await?;
        let found = Rows::of(index, query, By::Words)?;
        let sql = format!("SELECT {} AS total", found.count);
        let rows = found.fetch(&self.pool, sql).await.map_err(failed("count documents"))?;
        Ok(rows.first().map_or(0, |row| row.get::<i64, _>("total").cast_unsigned()))
    }

    async fn search(&self, index: &'static Index, query: &Query) -> Result<Page> {
        within_reach(query)?;
        let total = self.count(index, query).await?;
        let is_ranked = query.sort == Some(Sort::Relevance)
            && query
                .text
                .as_deref()
                .and_then(Words::read)
                .is_some_and(|words| !words.wanted.is_empty());
        let is_newest = !is_ranked && !matches!(query.sort, Some(Sort::Field { .. }));
        // As a column: so several indices are merged by their dates, and none is read through.
        let (key, order) = match (&query.sort, &index.newest_by) {
            (Some(Sort::Field { name, descending }), _) => {
                let (direction, edge) = if *descending { ("DESC", "max") } else { ("ASC", "min") };
                let field = index.field(name)?.0;
                let value = if is_nested(field) {
                    format!("(SELECT {edge}(each.value) FROM {})", each("body", field))
                } else {
                    format!("json_extract(body, '{}')", path(field))
                };
                (value, format!("{direction} NULLS LAST, id"))
            }
            _ if is_ranked => ("rank".to_owned(), ", id".to_owned()),
            (_, Some(date)) => {
                (format!("json_extract(body, '{}')", path(date)), "DESC, id".to_owned())
            }
            _ => ("id".to_owned(), String::new()),
        };
        let is_of_many = is_newest && total > MANY && index.newest_by.is_some();
        let ways: &[By] = match (is_ranked, is_of_many) {
            (true, _) => &[By::Rank],
            (false, true) if index.several.is_empty() => &[By::Newest, By::Date],
            (false, true) => &[By::Date],
            (false, false) => &[By::Words],
        };
        let failed = failed("search documents");
        let mut rows = Vec::new();
        for by in ways {
            let found = Rows::of(index, query, *by)?;
            let sql = format!(
                "SELECT id, body, {key} AS sorted_by FROM {} ORDER BY sorted_by {order} LIMIT {} OFFSET {}",
                found.sql, query.limit, query.offset
            );
            rows = found.fetch(&self.pool, sql).await.map_err(&failed)?;
            if rows.len() as u64 == u64::from(query.limit) {
                break;
            }
        }
        let documents = rows.iter().map(document).collect::<sqlx::Result<_>>().map_err(&failed)?;
        Ok(Page { total, documents })
    }

    async fn aggregate(
        &self,
        index: &'static Index,
        query: &Query,
        aggregation: &Aggregation,
    ) -> Result<Counts> {
        countable(index, aggregation)?;
        self.ensure(index).await?;
        let found = Rows::of(index, query, By::Words)?;
        let sql = match aggregation {
            Aggregation::Terms { field, size } => terms(index, &found.sql, field, *size)?,
            Aggregation::Dates { field, per } => dates(index, &found.sql, field, *per)?,
        };
        let failed = failed("count documents");
        let rows = found.fetch(&self.pool, sql).await.map_err(&failed)?;
        let mut counts = Counts::default();
        for row in &rows {
            let count = row.try_get::<i64, _>("count").map_err(&failed)?.cast_unsigned();
            match row.try_get("shown").map_err(&failed)? {
                Some(key) => counts.buckets.push(Bucket { key, count }),
                None => counts.others = count,
            }
        }
        if let Aggregation::Dates { .. } = aggregation {
            if counts.buckets.len() > Aggregation::DATES_MAX {
                let count = counts.buckets.len();
                return Err(Error::store(format!("count documents of `{count}` dates"))
                    .hint("count them by month or year, or narrow the search"));
            }
            let edge = |row: Option<&SqliteRow>, name| row.map(|row| row.try_get(name)).transpose();
            counts.first = edge(rows.first(), "first").map_err(&failed)?;
            counts.last = edge(rows.last(), "last").map_err(&failed)?;
        }
        Ok(counts)
    }

    async fn scan(&self, index: &'static Index, scan: &Scan) -> Result<Vec<Document>> {
        self.ensure(index).await?;
        let query =
            Query { text: scan.text.clone(), filters: scan.filters.clone(), ..Query::default() };
        let mut found = Rows::of(index, &query, By::Words)?;
        let place = found.bind(scan.after.clone().unwrap_or_default());
        let fields = scan.fields.as_ref();
        // Ids alone stand in their index.
        let body = if fields.is_some_and(Vec::is_empty) { "'{}' AS body" } else { "body" };
        let sql = format!(
            "SELECT id, {body} FROM {} WHERE id > {place} ORDER BY id LIMIT {}",
            found.sql, scan.limit
        );
        let selection = fields.map(|fields| Selection::of(fields.iter().map(String::as_str)));
        let found = found.select(&self.pool, sql, selection.as_ref()).await;
        found.map_err(failed("scan documents"))
    }

    async fn sequence(&self, index: &'static Index) -> Result<u64> {
        let names: Vec<&str> = index.members().iter().map(|index| index.name).collect();
        let (writes,): (i64,) = sqlx::query_as(
            "SELECT coalesce(sum(writes), 0) FROM sequences
             WHERE index_name IN (SELECT value FROM json_each($1))",
        )
        .bind(serde_json::to_string(&names).expect("a list of strings is JSON"))
        .fetch_one(&self.pool)
        .await
        .map_err(failed("read the store's count of writes"))?;
        Ok(writes.cast_unsigned())
    }

    async fn identity(&self, index: &'static Index) -> Result<Identity> {
        self.ensure(index).await?;
        let mut identity = self.read_identity(index).await;
        if identity.as_ref().is_err_and(is_missing_table) {
            // Something else took the tables away.
            let mut ensured = self.ensured.lock().await;
            ensured.retain(|name| index.members().iter().all(|member| member.name != *name));
            drop(ensured);
            self.ensure(index).await?;
            identity = self.read_identity(index).await;
        }
        identity.map_err(failed("read which store this is"))
    }

    async fn describe(&self) -> Result<String> {
        Ok(format!("embedded, in {}", self.folder.display()))
    }
}

/// Whether a statement is about a table that is not there.
fn is_missing_table(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::RowNotFound)
        || error.as_database_error().is_some_and(|error| error.message().contains("no such table"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Owner;

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
    #[tokio::test]
    async fn a_version_with_other_text_fields_finds_what_an_older_one_stored() {
        const OWNER: Owner = Owner { fields: &["title", "summary"], ..Owner::named("rss") };
        let index = Index::named("rss_articles").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let old = Embedded::open(folder.path()).await.unwrap();
        let fields = serde_json::json!({"title": "old", "summary": "quiet heron"});
        let fields = fields.as_object().unwrap().clone();
        old.upsert(index, &[Write::of("a", &OWNER, fields)]).await.unwrap();
        sqlx::raw_sql(
            r#"DROP TABLE rss_articles_text;
               CREATE VIRTUAL TABLE rss_articles_text USING fts5(title, content='', contentless_delete=1);"#,
        )
        .execute(&old.pool)
        .await
        .unwrap();
        let new = Embedded::open(folder.path()).await.unwrap();
        let query = Query { text: Some("heron".to_owned()), ..Query::default() };
        assert_eq!(new.count(index, &query).await.unwrap(), 1);
    }
}
