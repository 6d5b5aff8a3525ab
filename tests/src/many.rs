//! An embedded home in which much happened: rows written by SQL in the tables that the program made.

use std::net::Ipv4Addr;
use std::path::Path;

use base::report::{Counts, Outcome, Report, SourceReport};
use indicator::IndicatorKind;
use jiff::{SignedDuration, Timestamp};
use local_runner::families::all_tasks;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _};
use stores::documents::{Documents as _, Embedded, Index};
use stores::state::Sqlite;

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Runs, each with its slot, its attempt and its log.
    pub runs: u32,
    /// Documents: seven of ten indicators of MISP's feeds, two of OTX, one article.
    pub documents: u32,
}

/// Minutes between two runs.
const APART_MIN: u32 = 8;

/// Sources in a report, and of which days are kept.
const SOURCES: u32 = 60;

/// Days of sources that are kept.
const DAYS: u32 = 400;

/// Dead letters among the runs.
const DEAD: u32 = 200;

/// Bytes of an attempt's log.
const LOG: usize = 4_096;

/// Documents that one statement writes.
const AT_ONCE: usize = 1_000;

/// What documents are about.
const FAMILIES: [&str; 6] = ["emotet", "qakbot", "lokibot", "remcos", "agenttesla", "mirai"];
const CATEGORIES: [&str; 4] = ["news", "malware", "vulnerabilities", "research"];

/// Fills the stores in `folder` up to `now`.
///
/// # Errors
/// What SQLite says.
pub async fn fill(
    folder: &Path,
    size: Size,
    now: Timestamp,
) -> Result<(), Box<dyn std::error::Error>> {
    drop(Sqlite::open(folder).await?);
    history(&mut open(folder, Sqlite::FILE).await?, size.runs, now).await?;
    let documents = Embedded::open(folder).await?;
    let shares = [("cti_misp_iocs", 7), ("otx_indicators", 2), ("rss_articles", 1)];
    for (name, tenths) in shares {
        let index = Index::named(name)?;
        documents.ensure(index).await?;
        let mut file = open(folder, Embedded::FILE).await?;
        documents_of(&mut file, index, size.documents / 10 * tenths, now).await?;
        Embedded::open(folder).await?.ensure(index).await?;
    }
    Ok(())
}

async fn open(folder: &Path, file: &str) -> sqlx::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(folder.join(file))
        .pragma("synchronous", "OFF")
        .pragma("cache_size", "-200000");
    SqliteConnection::connect_with(&options).await
}

/// Numbers from 0 below `$1`, as `n`.
const NUMBERS: &str = "WITH RECURSIVE numbers (n) AS (SELECT 0 WHERE $1 > 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < $1)";

/// The columns that runs, attempts and slots share: `at` in milliseconds, the newest first; `task`, `run_id`, `request_id`,
/// and how it ended: one of 40 failed.
const EACH: &str = "SELECT n, $2 - n * $3 AS at, $4 ->> (n % json_array_length($4)) AS task,
    printf('%08x-0000-4000-8000-%012x', (n * 2654435761) & 4294967295, n) AS run_id,
    printf('request-%d', n) AS request_id,
    CASE WHEN n % 40 = 7 THEN 'failed' ELSE 'complete' END AS status FROM numbers";

async fn history(
    file: &mut SqliteConnection,
    runs: u32,
    now: Timestamp,
) -> Result<(), Box<dyn std::error::Error>> {
    let names: Vec<&str> = all_tasks().map(|(_, task)| task.name).collect();
    let names = serde_json::to_string(&names)?;
    let log = "2026-03-01T12:00:00Z INFO a line of a log\n".repeat(LOG / 42);
    let report = serde_json::to_string(&report()?)?;
    for insert in [
        "INSERT INTO runs (run_id, task, identity, slot_ms, request_id, status, fence, attempt, step, report, started_ms, finished_ms)
         SELECT run_id, task, 'slot ' || at, at, request_id, status, 1, 1, 0,
             json_set($5, '$.task', task, '$.run_id', run_id, '$.status', status), at, at + 1500 FROM each WHERE length($6) > 0",
        "INSERT INTO attempts (request_id, attempt, task, run_id, started_ms, ended_ms, outcome, class, error, peak_kb, log, log_bytes)
         SELECT request_id, 1, task, run_id, at, at + 1500, status, CASE status WHEN 'failed' THEN 'upstream' END,
             CASE status WHEN 'failed' THEN 'status `503`' END, 9000, CASE WHEN at > $2 - 604800000 THEN $6 END, length($6)
         FROM each WHERE length($5) > 0",
        "INSERT INTO slots (request_id, task, slot_ms, outcome, reason, noted_ms)
         SELECT request_id, task, at, CASE WHEN n % 50 = 3 THEN 'missed' ELSE status END, CASE WHEN n % 50 = 3 THEN 'off' END, at
         FROM each WHERE length($5) + length($6) > 0",
        "INSERT INTO invocations (request_id, task, event, due_ms, attempts, state, error)
         SELECT request_id, task, '{}', at, 1, CASE WHEN n % 50 = 0 THEN 'dead' ELSE 'done' END, CASE WHEN n % 50 = 0 THEN 'status `503`' END
         FROM each WHERE n < 50 * $7 AND length($5) + length($6) > 0",
    ] {
        sqlx::query(AssertSqlSafe(format!("{NUMBERS}, each AS ({EACH}) {insert}")))
            .bind(runs)
            .bind(now.as_millisecond())
            .bind(i64::from(APART_MIN) * 60_000)
            .bind(&names)
            .bind(&report)
            .bind(&log)
            .bind(DEAD)
            .execute(&mut *file)
            .await?;
    }
    let days = format!(
        "{NUMBERS} INSERT INTO source_days (source, day, visits, failures, new, bytes)
         SELECT printf('rss/source-%d', n % $2), date($3 / 1000, 'unixepoch', printf('-%d days', n / $2)), 12, n % 7 = 0, n % 5, 100000 FROM numbers"
    );
    let query = sqlx::query(AssertSqlSafe(days)).bind(SOURCES * DAYS).bind(SOURCES);
    query.bind(now.as_millisecond()).execute(&mut *file).await?;
    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(file).await?;
    Ok(())
}

/// A report of many sources, as a run of feeds leaves.
fn report() -> base::Result<Report> {
    let sources = (0..SOURCES).map(|number| {
        let counts = Counts { found: 25, new: 2, unchanged: 23, ..Counts::default() };
        SourceReport {
            counts,
            outcome: Outcome::Stored,
            ..SourceReport::new(format!("source-{number}"), "rss_articles")
        }
    });
    Report::of_sources(sources.collect(), Vec::new())
}

/// A document of an index, with the fields that commands read, by its number.
fn document(index: &Index, number: u32, now: Timestamp) -> (String, Value) {
    let at = now.saturating_sub(SignedDuration::from_secs(i64::from(number) * 20)).unwrap_or(now);
    let at = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let feed = number % SOURCES;
    let tags = [
        FAMILIES[number as usize % FAMILIES.len()],
        FAMILIES[number as usize / 7 % FAMILIES.len()],
    ];
    if index.name == "rss_articles" {
        let id = format!("{number:064x}");
        let title = format!("{} campaign {number} seen in {}", tags[0], number % 997);
        let body = json!({
            "id": id, "title": title, "summary": format!("{title}; researchers observed {} beside it", tags[1]),
            "link": format!("https://example.org/{number}"), "feed_name": format!("Feed {feed}"), "category": CATEGORIES[number as usize % CATEGORIES.len()],
            "source_family": "rss", "source_id": format!("source-{feed}"), "published": at, "collected_at": at,
            "tags": tags, "cves": [format!("CVE-2026-{}", number % 5_000)], "tlp": "clear", "language": "en",
        });
        return (id, body);
    }
    let family = if index.name == "otx_indicators" { "otx" } else { "misp" };
    let value = address(number);
    let id = ioc::id(family, IndicatorKind::Ipv4, &value);
    let body = json!({
        "id": id, "type": "ipv4", "value": value, "feed_name": [format!("Feed {feed}")], "source_family": family,
        "source_id": format!("source-{feed}"), "category": CATEGORIES[number as usize % CATEGORIES.len()], "tags": tags, "tlp": "clear", "active": !number.is_multiple_of(9),
        "to_ids": true, "first_seen": at, "last_seen": at, "collected_at": at, "sources_count": number % 4 + 1,
        "malware_family": [tags[0]], "title": format!("{} infrastructure", tags[0]),
        "sources": [{"id": format!("source-{feed}"), "name": format!("Feed {feed}"), "first_seen": at}],
    });
    (id, body)
}

/// The value of an indicator by its number.
pub fn address(number: u32) -> String {
    Ipv4Addr::from(0x0100_0000 + number).to_string()
}

async fn documents_of(
    file: &mut SqliteConnection,
    index: &Index,
    count: u32,
    now: Timestamp,
) -> sqlx::Result<()> {
    let name = index.name;
    let insert = format!(
        r#"INSERT INTO "{name}" (id, body) SELECT value ->> 0, value ->> 1 FROM json_each($1)"#
    );
    sqlx::raw_sql("BEGIN").execute(&mut *file).await?;
    for first in (0..count).step_by(AT_ONCE) {
        let numbers = first..count.min(first + AT_ONCE as u32);
        let rows = numbers.map(|number| {
            let (id, body) = document(index, number, now);
            json!([id, body.to_string()])
        });
        let rows = Value::from_iter(rows).to_string();
        sqlx::query(AssertSqlSafe(insert.clone())).bind(rows).execute(&mut *file).await?;
    }
    // What is indexed beside the documents the program itself makes anew, as for a store of an earlier version.
    let rest = format!(
        r#"DROP TABLE "{name}_text"; DROP TABLE "{name}_exact";
           INSERT INTO sequences (index_name, writes) VALUES ('{name}', {count}) ON CONFLICT DO UPDATE SET writes = excluded.writes;
           COMMIT; PRAGMA wal_checkpoint(TRUNCATE)"#
    );
    sqlx::raw_sql(AssertSqlSafe(rest)).execute(file).await.map(drop)
}

/// The id of a run by its number, the newest 0, as the rows have it.
pub fn run_id(number: u32) -> String {
    format!("{:08x}-0000-4000-8000-{number:012x}", number.wrapping_mul(2_654_435_761))
}
