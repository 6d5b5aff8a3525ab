//! A query as SQL: which rows it is about, by the full-text indices and by the documents themselves, and what is counted of them.

use std::fmt::Write as _;

use base::Result;
use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::{FILTERED, read_body, token};
use crate::documents::scan::Selection;
use crate::documents::words::{Word, Words};
use crate::documents::{Aggregation, Document, Filter, Index, Per, Query, boost};

/// Values of one condition that are asked of the index; more are compared document by document.
const FILTER_VALUES: usize = 64;

/// The newest documents in which a page of so many is looked for first.
const NEWEST: u32 = 1_000;

/// The rows that a query is about, as a subquery, and the values it binds, all as text.
pub(super) struct Rows {
    pub(super) sql: String,
    /// How many they are, as an expression: each index is counted for itself.
    pub(super) count: String,
    values: Vec<String>,
}

/// How rows that hold a query's words are found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// By the words, the rows after them.
    Words,
    /// By the words, with their rank.
    Rank,
    /// By date, of which those are kept that hold the words.
    Date,
    /// As the one before, of the newest alone.
    Newest,
}

impl Rows {
    /// The rows of each index, with their `rank` when it is asked for: how well the text matches, the best lowest.
    pub(super) fn of(index: &'static Index, query: &Query, by: By) -> Result<Self> {
        let mut found = Self { sql: String::new(), count: String::new(), values: Vec::new() };
        let mut conditions = Conditions::default();
        for filter in &query.filters {
            found.filter(&mut conditions, index, filter)?;
        }
        let words = query.text.as_deref().and_then(Words::read);
        let mut bind = |words: &[Word]| {
            if words.is_empty() { String::new() } else { found.bind(any_of(words)) }
        };
        let matching = words
            .map(|words| Matching { wanted: bind(&words.wanted), unwanted: bind(&words.unwanted) });
        let (mut parts, mut counts) = (Vec::new(), Vec::new());
        for index in index.members() {
            let part = found_in(index, &conditions, matching.as_ref(), by);
            let counted = counted(index, &conditions, matching.as_ref());
            counts.push(format!("(SELECT COUNT(*) FROM ({}))", counted.as_ref().unwrap_or(&part)));
            parts.push(part);
        }
        found.sql = format!("({})", parts.join(" UNION ALL "));
        found.count = counts.join(" + ");
        Ok(found)
    }

    pub(super) fn bind(&mut self, value: String) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn filter(
        &mut self,
        conditions: &mut Conditions,
        index: &Index,
        filter: &Filter,
    ) -> Result<()> {
        let sql = &mut conditions.others;
        match filter {
            Filter::Terms(field, values) => {
                index.exact(field)?;
                let name = index.field(field)?.0;
                let values: Vec<String> =
                    values.iter().map(|value| index.value(field, value)).collect::<Result<_>>()?;
                if FILTERED.contains(&name) && (1..=FILTER_VALUES).contains(&values.len()) {
                    let tokens: Vec<String> =
                        values.iter().map(|value| token(name, value)).collect();
                    conditions.exact.push(self.bind(tokens.join(" OR ")));
                    return Ok(());
                }
                let each = each("body", name);
                let place =
                    self.bind(serde_json::to_string(&values).expect("a list of strings is JSON"));
                let _ = write!(
                    sql,
                    " AND EXISTS (SELECT 1 FROM {each} WHERE {SHOWN} IN (SELECT value FROM json_each({place})))"
                );
            }
            Filter::Range(field, from, to) => {
                let field = index.field(field)?.0;
                let mut within = String::new();
                // Of a field that is not in a list, as SQLite has an index on some of those.
                let value = if is_nested(field) {
                    "each.value".to_owned()
                } else {
                    format!("json_extract(body, '{}')", path(field))
                };
                for (limit, comparison) in [(from, ">="), (to, "<")] {
                    if let Some(limit) = limit {
                        let place = self.bind(limit.clone());
                        let _ = write!(within, " AND {value} {comparison} {place}");
                    }
                }
                if is_nested(field) && !within.is_empty() {
                    let each = each("body", field);
                    let _ = write!(sql, " AND EXISTS (SELECT 1 FROM {each} WHERE 1{within})");
                } else {
                    sql.push_str(&within);
                }
            }
            Filter::Exists(field) => {
                let _ = write!(sql, " AND {}", has_value(index.field(field)?.0));
            }
            Filter::Missing(field) => {
                let _ = write!(sql, " AND NOT {}", has_value(index.field(field)?.0));
            }
        }
        Ok(())
    }

    /// The documents that a statement about it gives; of each what is selected, or everything.
    pub(super) async fn select(
        self,
        pool: &SqlitePool,
        sql: String,
        selection: Option<&Selection>,
    ) -> sqlx::Result<Vec<Document>> {
        let mut statement = sqlx::query(AssertSqlSafe(sql));
        for value in self.values {
            statement = statement.bind(value);
        }
        // One text at a time is in memory, however little of it is wanted.
        let rows = statement.fetch(pool).map(|row| {
            let row = row?;
            let Some(selection) = selection else { return document(&row) };
            let body = selection.read(row.try_get("body")?);
            let body = body.map_err(|cause| sqlx::Error::Decode(cause.into()))?;
            Ok(Document { id: row.try_get("id")?, body })
        });
        rows.try_collect().await
    }

    /// Its values, bound to a statement about it.
    pub(super) async fn fetch(
        self,
        pool: &SqlitePool,
        sql: String,
    ) -> sqlx::Result<Vec<SqliteRow>> {
        let mut statement = sqlx::query(AssertSqlSafe(sql));
        for value in self.values {
            statement = statement.bind(value);
        }
        statement.fetch_all(pool).await
    }
}

/// A value of `json_each`, named `each`, as its document shows it: SQLite has numbers for truth values.
pub(super) const SHOWN: &str = "CASE each.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(each.value AS TEXT) END";

/// What documents must be beside holding words.
#[derive(Default)]
struct Conditions {
    /// Where the tokens are bound that the index of exact values is asked for, of each condition.
    exact: Vec<String>,
    /// Those that the documents themselves are asked for, each with ` AND ` before it.
    others: String,
}

/// Where the words to be found, and those not to be, are bound; empty where there are none.
struct Matching {
    wanted: String,
    unwanted: String,
}

/// The numbers of the rows that are meant, by the full-text indices alone; nothing where those do not tell.
fn counted(index: &Index, conditions: &Conditions, matching: Option<&Matching>) -> Option<String> {
    if !conditions.others.is_empty() {
        return None;
    }
    let of = |table: &str, place: &str| {
        let table = format!(r#""{}_{table}""#, index.name);
        format!("SELECT rowid FROM {table} WHERE {table} MATCH {place}")
    };
    let mut sets: Vec<String> = conditions.exact.iter().map(|place| of("exact", place)).collect();
    let mut without = String::new();
    if let Some(Matching { wanted, unwanted }) = matching {
        index.text_fields().next()?;
        if !wanted.is_empty() {
            sets.insert(0, of("text", wanted));
        }
        if !unwanted.is_empty() {
            without = format!(" AND rowid NOT IN ({})", of("text", unwanted));
        }
    }
    let (first, others) = sets.split_first()?;
    let others: String = others.iter().map(|set| format!(" AND rowid IN ({set})")).collect();
    Some(format!("{first}{others}{without}"))
}

/// The rows of one index.
fn found_in(index: &Index, conditions: &Conditions, matching: Option<&Matching>, by: By) -> String {
    let name = index.name;
    let is_in = |table: &str, place: &str| {
        let table = format!(r#""{name}_{table}""#);
        let said = format!("FROM {table} WHERE {table} MATCH {place}");
        match by {
            // A row at a time, of which there are few.
            By::Newest => format!(" AND EXISTS (SELECT 1 {said} AND rowid = n)"),
            // The sign keeps SQLite from going by these numbers.
            By::Date => format!(" AND +n IN (SELECT rowid {said})"),
            By::Words | By::Rank => format!(" AND n IN (SELECT rowid {said})"),
        }
    };
    let exact: String = conditions.exact.iter().map(|place| is_in("exact", place)).collect();
    let mut conditions = format!("{exact}{}", conditions.others);
    let rows = match (&index.newest_by, by) {
        (Some(date), By::Newest) => format!(
            r#"(SELECT n, id, body FROM "{name}" ORDER BY json_extract(body, '{}') DESC, id LIMIT {NEWEST})"#,
            path(date)
        ),
        _ => format!(r#""{name}""#),
    };
    let Some(Matching { wanted, unwanted }) = matching else {
        return format!("SELECT n, id, body FROM {rows} WHERE 1{conditions}");
    };
    let weights: Vec<String> = index.text_fields().map(|field| boost(field).to_string()).collect();
    if weights.is_empty() {
        // No word stands anywhere; the statement names what is bound for the others of a group.
        let (rank, bound) = (if by == By::Rank { ", 0 AS rank" } else { "" }, [wanted, unwanted]);
        let bound = bound.iter().filter(|place| !place.is_empty());
        let bound: String = bound.map(|place| format!(" AND {place} IS NOT NULL")).collect();
        let any = if wanted.is_empty() { "1" } else { "0" };
        return format!(r#"SELECT n, id, body{rank} FROM "{name}" WHERE {any}{bound}{conditions}"#);
    }
    if !unwanted.is_empty() {
        let _ = write!(
            conditions,
            r#" AND n NOT IN (SELECT rowid FROM "{name}_text" WHERE "{name}_text" MATCH {unwanted})"#
        );
    }
    if by == By::Rank {
        let (text, weights) = (format!(r#""{name}_text""#), weights.join(", "));
        return format!(
            r#"SELECT n, id, body, found.score AS rank FROM (SELECT rowid AS row, bm25({text}, {weights}) AS score FROM {text} WHERE {text} MATCH {wanted}) AS found CROSS JOIN "{name}" ON n = found.row WHERE 1{conditions}"#
        );
    }
    let matching = if wanted.is_empty() { String::new() } else { is_in("text", wanted) };
    format!("SELECT n, id, body FROM {rows} WHERE 1{matching}{conditions}")
}

/// A field's JSON path. Field names come from mappings, so they hold no quotes.
pub(super) fn path(field: &str) -> String {
    format!(r#"$."{field}""#)
}

/// Whether a field is within an object or a list of them.
pub(super) fn is_nested(field: &str) -> bool {
    field.contains('.')
}

/// Every value of a field of the document `body`, as rows named `each`: those of a list, and of all objects of a list.
pub(super) fn each(body: &str, field: &str) -> String {
    let mut names: Vec<&str> = field.split('.').collect();
    let last = names.pop().unwrap_or_default();
    let (mut rows, mut within) = (String::new(), body.to_owned());
    for (level, name) in names.iter().enumerate() {
        let objects = format!("{within} -> '{}'", path(name));
        // `json_each` takes an object apart; what is looked for is the object.
        let _ = write!(
            rows,
            "json_each(CASE json_type({objects}) WHEN 'array' THEN {objects} ELSE json_array(json({objects})) END) AS each{level}, "
        );
        within = format!("CASE each{level}.type WHEN 'object' THEN each{level}.value END");
    }
    format!("{rows}json_each({within}, '{}') AS each", path(last))
}

/// That a field has a value: an empty list is none.
fn has_value(field: &str) -> String {
    if is_nested(field) {
        return format!(
            "EXISTS (SELECT 1 FROM {} WHERE each.value IS NOT NULL)",
            each("body", field)
        );
    }
    format!("(coalesce(json_extract(body, '{}'), '[]') <> '[]')", path(field))
}

/// Any of these words, as an expression of SQLite's full-text search.
fn any_of(words: &[Word]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("\"{}\"{}", word.text, if word.is_prefix { "*" } else { "" }))
        .collect();
    quoted.join(" OR ")
}

/// Counts by value: a row for each that is given, then one without `shown` for all others.
pub(super) fn terms(index: &Index, found: &str, field: &str, size: u32) -> Result<String> {
    let each = each("found.body", index.field(field)?.0);
    let longest = index.exact(field)?.1.unwrap_or(u64::from(u32::MAX));
    Ok(format!(
        "WITH counted AS (
             SELECT value, shown, COUNT(*) AS count FROM (
                 SELECT DISTINCT found.id, each.value AS value, {SHOWN} AS shown
                 FROM {found} AS found, {each}
                 WHERE each.value IS NOT NULL AND length(each.value) <= {longest}
             ) GROUP BY value, shown
         ), placed AS (
             SELECT shown, count, row_number() OVER (ORDER BY count DESC, value) AS place FROM counted
         )
         SELECT CASE WHEN place <= {size} THEN shown END AS shown, SUM(count) AS count
         FROM placed GROUP BY min(place, {size} + 1) ORDER BY min(place, {size} + 1)"
    ))
}

/// Counts by a part of the calendar, with the first and the last instant of each.
///
/// What is no date is left out, as a server leaves it out; SQLite would take a bare number for a day of Julius Scaliger's.
pub(super) fn dates(index: &Index, found: &str, field: &str, per: Per) -> Result<String> {
    let each = each("found.body", index.field(field)?.0);
    let form = match per {
        Per::Day => "%Y-%m-%d",
        Per::Month => "%Y-%m",
        Per::Year => "%Y",
    };
    let most = Aggregation::DATES_MAX + 1;
    Ok(format!(
        "SELECT strftime('{form}', instant) AS shown, COUNT(*) AS count, min(instant) AS first, max(instant) AS last
         FROM (
             SELECT strftime('%Y-%m-%dT%H:%M:%SZ', each.value) AS instant
             FROM {found} AS found, {each}
             WHERE each.value GLOB '[0-9][0-9][0-9][0-9]-*'
         ) WHERE instant IS NOT NULL GROUP BY shown ORDER BY shown LIMIT {most}"
    ))
}

pub(super) fn document(row: &SqliteRow) -> sqlx::Result<Document> {
    Ok(Document { id: row.try_get("id")?, body: read_body(row.try_get("body")?)? })
}
