//! The little that is needed of a SQL driver: statements with `$1` go in, rows of text and numbers come out.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Database, Encode, Row as _, SqlSafeStr, Type};

/// A value of a statement.
pub(super) enum Arg {
    Text(Option<String>),
    Number(Option<i64>),
}

/// The values of a statement, in the order of their numbers.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::state::db::Arg::from($value)),*] };
}
pub(super) use args;

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<&String> for Arg {
    fn from(text: &String) -> Self {
        Self::Text(Some(text.clone()))
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Arg {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<Option<&str>> for Arg {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<i64> for Arg {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<u32> for Arg {
    fn from(number: u32) -> Self {
        Self::Number(Some(number.into()))
    }
}

impl From<Option<i64>> for Arg {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl From<Timestamp> for Arg {
    fn from(instant: Timestamp) -> Self {
        Self::Number(Some(instant.as_millisecond()))
    }
}

impl From<Option<Timestamp>> for Arg {
    fn from(instant: Option<Timestamp>) -> Self {
        Self::Number(instant.map(Timestamp::as_millisecond))
    }
}

/// A row, whose columns are read by name. NULL is the default of what is asked for.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(super) fn text_or_null(&self, column: &str) -> sqlx::Result<Option<String>> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }

    pub(super) fn number_or_null(&self, column: &str) -> sqlx::Result<Option<i64>> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }

    pub(super) fn text(&self, column: &str) -> sqlx::Result<String> {
        Ok(self.text_or_null(column)?.unwrap_or_default())
    }

    pub(super) fn number(&self, column: &str) -> sqlx::Result<i64> {
        Ok(self.number_or_null(column)?.unwrap_or_default())
    }

    /// A number that is small and not negative.
    pub(super) fn count(&self, column: &str) -> sqlx::Result<u32> {
        Ok(u32::try_from(self.number(column)?).unwrap_or(u32::MAX))
    }

    pub(super) fn instant(&self, column: &str) -> sqlx::Result<Option<Timestamp>> {
        self.number_or_null(column)?
            .map(Timestamp::from_millisecond)
            .transpose()
            .map_err(|cause| sqlx::Error::Decode(cause.into()))
    }

    pub(super) fn json<T: DeserializeOwned>(&self, column: &str) -> sqlx::Result<Option<T>> {
        self.text_or_null(column)?
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|cause| sqlx::Error::Decode(cause.into()))
    }
}

pub(super) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own types are JSON")
}

/// The statement with its values, for either driver.
fn query<D: Database>(
    sql: impl SqlSafeStr,
    args: Vec<Arg>,
) -> Query<'static, D, <D as Database>::Arguments>
where
    Option<String>: for<'q> Encode<'q, D> + Type<D>,
    Option<i64>: for<'q> Encode<'q, D> + Type<D>,
{
    let sql = sql.into_sql_str();
    #[cfg(test)]
    asked::ASKED.with_borrow_mut(|asked| asked.insert(sql.as_str().to_owned()));
    args.into_iter().fold(sqlx::query(sql), |query, arg| match arg {
        Arg::Text(text) => query.bind(text),
        Arg::Number(number) => query.bind(number),
    })
}

/// Text that PostgreSQL can keep: it has no place for NUL.
pub(super) fn keepable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The statement with its values as PostgreSQL can keep them.
fn keepable_query(
    sql: impl SqlSafeStr,
    mut args: Vec<Arg>,
) -> Query<'static, sqlx::Postgres, PgArguments> {
    for arg in &mut args {
        if let Arg::Text(Some(text)) = arg
            && text.contains('\0')
        {
            *text = keepable(text);
        }
    }
    query(sql, args)
}

/// The connections of a process to one database.
#[derive(Clone)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    pub(super) async fn fetch(
        &self,
        sql: impl SqlSafeStr + Send,
        args: Vec<Arg>,
    ) -> sqlx::Result<Vec<Row>> {
        Ok(match self {
            Self::Sqlite(pool) => {
                query(sql, args).fetch_all(pool).await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(pool) => {
                let rows = keepable_query(sql, args).fetch_all(pool).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Gives how many rows were written.
    pub(super) async fn execute(
        &self,
        sql: impl SqlSafeStr + Send,
        args: Vec<Arg>,
    ) -> sqlx::Result<u64> {
        Ok(match self {
            Self::Sqlite(pool) => query(sql, args).execute(pool).await?.rows_affected(),
            Self::Postgres(pool) => keepable_query(sql, args).execute(pool).await?.rows_affected(),
        })
    }

    /// Begins to write. What is dropped without [`Transaction::commit`] was never written.
    pub(super) async fn begin(&self) -> sqlx::Result<Transaction> {
        Ok(match self {
            // As the one writer from the start: what read first could not become it beside another.
            Self::Sqlite(pool) => Transaction::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Transaction::Postgres(pool.begin().await?),
        })
    }
}

/// Statements that count together.
pub(super) enum Transaction {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

impl Transaction {
    pub(super) async fn fetch(
        &mut self,
        sql: impl SqlSafeStr + Send,
        args: Vec<Arg>,
    ) -> sqlx::Result<Vec<Row>> {
        Ok(match self {
            Self::Sqlite(at) => {
                let rows = query(sql, args).fetch_all(&mut **at).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(at) => {
                let rows = keepable_query(sql, args).fetch_all(&mut **at).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Gives how many rows were written.
    pub(super) async fn execute(
        &mut self,
        sql: impl SqlSafeStr + Send,
        args: Vec<Arg>,
    ) -> sqlx::Result<u64> {
        Ok(match self {
            Self::Sqlite(at) => query(sql, args).execute(&mut **at).await?.rows_affected(),
            Self::Postgres(at) => {
                keepable_query(sql, args).execute(&mut **at).await?.rows_affected()
            }
        })
    }

    pub(super) async fn commit(self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }
}

/// The places of `rows` rows of `width` values, from `$first` on: each row in brackets, or single values in one list.
pub(super) fn places(first: usize, width: usize, rows: usize) -> String {
    let mut text = String::new();
    for row in 0..rows {
        text.push_str(if row > 0 { ", " } else { "" });
        for column in 0..width {
            let before = if column > 0 {
                ", "
            } else if width > 1 {
                "("
            } else {
                ""
            };
            let _ = write!(text, "{before}${}", first + row * width + column);
        }
        text.push_str(if width > 1 { ")" } else { "" });
    }
    if width > 1 { text } else { format!("({text})") }
}

/// What a test asks of a database.
#[cfg(test)]
pub(super) mod asked {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        /// The statements of this thread.
        pub(crate) static ASKED: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_numbered_through() {
        assert_eq!(places(1, 2, 2), "($1, $2), ($3, $4)");
        assert_eq!(places(2, 1, 3), "($2, $3, $4)");
    }
}
