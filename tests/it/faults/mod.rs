//! Whole runs on real servers while something breaks: a server is killed, a connection is cut, a disk is full, a password
//! is wrong. Afterwards the store is the undisturbed one, no cursor has passed an item that is not stored, and nobody has
//! read a secret.
//!
//! The runner is the real binary. Tests wait for what they need to see, never for a time.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use base::config::Secret;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::services::postgres;
use tests::services::search::Kind;
use tokio::runtime::Runtime;

use crate::documents::Place;
use crate::home::{CLOCK, Home};
use crate::state::World;
use crate::trial::trial;

mod answers;
mod family;
mod full;
mod outages;
mod restarts;
mod secrets;
mod starts;
mod writers;

pub(crate) use writers::writer;

type OnServer = fn(Kind);

/// Tests on each kind of document server.
const ON_EACH: &[(&str, OnServer)] = &[
    ("cut_answers_lose_and_double_nothing", answers::cut_answers),
    ("what_the_server_refuses_waits_in_the_ledger", answers::refused_items),
    ("two_processes_in_one_document_lose_nothing", writers::on_server),
];

/// The other tests: what they need, their name, the test.
const FURTHER: &[(&str, &str, fn())] = &[
    ("embedded", "two_processes_in_one_document_lose_nothing", writers::on_files),
    ("embedded", "full_documents_are_told_and_lose_nothing", full::documents),
    ("embedded", "a_full_state_is_told_and_loses_nothing", full::state),
    ("elasticsearch8", "a_server_that_stays_away_is_waited_for_with_a_limit", outages::patience),
    ("elasticsearch8_started", "a_killed_server_loses_nothing", outages::killed),
    ("elasticsearch8_postgres", "twenty_seven_functions_start_at_once", starts::all_at_once),
    ("elasticsearch9", "an_api_key_is_sent_and_a_wrong_one_is_told", starts::api_key),
    ("elasticsearch8", "one_dead_address_of_several_stops_no_run", starts::dead_address),
    ("elasticsearch9_postgres_started", "no_secret_is_shown", secrets::none_is_shown),
    ("postgres_started", "a_run_outlasts_a_restart", restarts::short),
    ("postgres_started", "a_run_that_cannot_be_concluded_is_run_again", restarts::long),
];

/// Every test of this module. What each needs stands in its name's second part.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for kind in Kind::ALL {
        for (name, test) in ON_EACH {
            trials.push(trial(format!("faults::{}::{name}", kind.name()), move || test(kind)));
        }
        let name = format!("faults::{}_postgres::two_settings_move_the_rss_family", kind.name());
        trials.push(trial(name, move || family::two_settings(kind)));
    }
    for (needs, name, test) in FURTHER {
        trials.push(trial(format!("faults::{needs}::{name}"), *test));
    }
    trials
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A schema of one test's own, gone at its end.
struct Schema {
    world: World,
    name: String,
    runtime: Runtime,
}

impl Schema {
    /// On the tests' server.
    fn new() -> Self {
        Self::on(postgres::url().unwrap())
    }

    fn on(url: String) -> Self {
        let name = format!("minerva_test_{}", uuid::Uuid::new_v4().simple());
        let world = World::Postgres { url, schema: name.clone() };
        let runtime = runtime();
        runtime.block_on(world.execute(&format!("CREATE SCHEMA {name}")));
        Self { world, name, runtime }
    }

    fn url(&self) -> String {
        self.world.url()
    }

    fn number(&self, query: &str) -> i64 {
        self.runtime.block_on(self.world.number(query))
    }

    /// Every row of every table, as text.
    fn text(&self) -> String {
        self.runtime.block_on(async {
            use sqlx::Connection as _;
            let mut connection = sqlx::PgConnection::connect(&self.url()).await.unwrap();
            let tables =
                "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";
            let tables: Vec<(String,)> =
                sqlx::query_as(tables).fetch_all(&mut connection).await.unwrap();
            let mut text = String::new();
            for (table,) in tables {
                let rows = format!("SELECT row_to_json(t)::text FROM {table} t");
                let rows: Vec<(String,)> = sqlx::query_as(sqlx::AssertSqlSafe(rows))
                    .fetch_all(&mut connection)
                    .await
                    .unwrap();
                text.extend(rows.into_iter().map(|(row,)| row + "\n"));
            }
            text
        })
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let statement = format!("DROP SCHEMA {} CASCADE", self.name);
        // A server that the test ended for good has no schema to leave behind.
        let dropped = std::panic::AssertUnwindSafe(|| {
            self.runtime.block_on(self.world.execute(&statement));
        });
        let _ = std::panic::catch_unwind(dropped);
    }
}

/// A home whose documents are in that place on a server.
fn home_on(place: &Place, sources: &[(String, String)]) -> Home {
    let url = place.stores.es_url.as_ref().map(Secret::expose).unwrap()[0].to_string();
    home(sources).with("ES_URL", url).with("ES_INDEX_PREFIX", &place.stores.es_index_prefix)
}

fn home(sources: &[(String, String)]) -> Home {
    let sources: Vec<_> = sources.iter().map(|(id, url)| (id.as_str(), url.clone())).collect();
    Home::of(&sources)
}

/// How many writes the articles' index has seen, as the server itself counts them.
fn sequence(place: &Place) -> i64 {
    sequence_of(&place.ask(
        "GET",
        &format!("/{}/_stats?level=shards", place.named("rss_articles")),
        &Value::Null,
    ))
}

/// The last write's number of each primary shard, which begin at 0, added up.
fn sequence_of(stats: &Value) -> i64 {
    let shards = stats["indices"].as_object().into_iter().flatten();
    let shards = shards.flat_map(|(_, index)| index["shards"].as_object().into_iter().flatten());
    let copies = shards.flat_map(|(_, copies)| copies.as_array().into_iter().flatten());
    let primaries = copies.filter(|copy| copy["routing"]["primary"] == true);
    primaries.map(|copy| copy["seq_no"]["max_seq_no"].as_i64().unwrap() + 1).sum()
}

/// The event of a slot, as the timetable sends it.
fn slot(time: &str) -> String {
    json!({"source": "aws.events", "detail-type": "Scheduled Event", "time": time, "detail": {}})
        .to_string()
}

/// Numbers of a report that is complete.
#[track_caller]
fn complete(report: &Value) -> [u64; 4] {
    assert_eq!(report["status"], "complete", "{report}");
    ["found", "new", "changed", "failed"].map(|name| report[name].as_u64().unwrap())
}

/// The arguments of a run under the clock.
fn run_of<'a>(task: &'a str, further: &[&'a str]) -> Vec<&'a str> {
    [&["run", task, "--json", "--clock", CLOCK], further].concat()
}
