//! `copy` between the embedded store and real servers: the other home goes on, a killed copy too, and nothing is lost.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::time::Duration;

use serde_json::{Value, json};
use stores::documents::{Documents as _, Embedded, Index, Written};
use tests::services::postgres;
use tests::services::search::Kind;
use uuid::Uuid;

use crate::documents::{Place, article, articles, block_on};
use crate::home::{ALL, Home, Ran, Upstream, eventually_within, feed, fixture, numbered};
use crate::runner::REAL;
use crate::state::World;

/// A trial between the embedded store and servers of a kind.
pub(crate) type Check = fn(&Servers);

pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("the_other_home_goes_on_and_so_does_the_way_back", the_other_home_goes_on),
    ("a_killed_copy_goes_on_where_it_was", a_killed_copy_goes_on),
    ("what_the_target_has_is_not_written_over_unasked", what_the_target_has),
    ("a_run_that_is_under_way_is_not_torn", a_run_that_is_under_way),
    ("a_half_without_a_server_is_said_and_can_be_left_out", a_half_without_a_server),
];

/// The document servers that are paired with PostgreSQL.
pub(crate) const KINDS: [Kind; 2] = [Kind::Elasticsearch8, Kind::OpenSearch2];

/// A document server and a schema of PostgreSQL, for one trial.
pub(crate) struct Servers {
    place: Place,
    world: World,
    schema: String,
}

impl Servers {
    pub(crate) fn new(kind: Kind) -> Self {
        let url = postgres::url().expect("this test is skipped where there is none");
        let schema = format!("minerva_test_{}", Uuid::new_v4().simple());
        let world = World::Postgres { url, schema: schema.clone() };
        block_on(world.execute(&format!("CREATE SCHEMA {schema}")));
        Self { place: Place::new(Some(kind)), world, schema }
    }

    fn documents(&self) -> Vec<(String, String)> {
        let stores = &self.place.stores;
        let url = stores.es_url.as_ref().unwrap().expose()[0].to_string();
        vec![
            ("ES_URL".to_owned(), url),
            ("ES_INDEX_PREFIX".to_owned(), stores.es_index_prefix.clone()),
        ]
    }

    /// The settings that name them, and the prefix of the trial's own indices.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        [self.documents(), vec![("DATABASE_URL".to_owned(), self.world.url())]].concat()
    }

    /// How many indices and tables there are.
    pub(crate) fn stored(&self) -> usize {
        let path = format!("/_cat/indices/{}?h=index&format=json", self.place.named("*"));
        let indices = self.place.ask("GET", &path, &Value::Null);
        let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()";
        let tables = block_on(self.world.number(tables));
        indices.as_array().unwrap().len() + usize::try_from(tables).unwrap()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        block_on(self.world.execute(&format!("DROP SCHEMA {} CASCADE", self.schema)));
    }
}

const THERE: &[&str] = &["copy", "--from", "embedded", "--to", "servers", "--json"];
const BACK: &[&str] = &["copy", "--from", "servers", "--to", "embedded", "--json"];

/// One part of what a copy says, after both sides were found equal.
#[track_caller]
fn part<'a>(said: &'a Value, name: &str) -> &'a Value {
    let parts = said["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["name"] == name);
    let part = part.unwrap_or_else(|| panic!("no `{name}`: {said}"));
    assert_eq!(part["source"], part["target"], "{name}: {said}");
    part
}

/// What a copy wrote in all.
fn written(said: &Value) -> u64 {
    let parts = said["parts"].as_array().unwrap();
    parts
        .iter()
        .flat_map(|part| {
            ["new", "changed", "removed"].map(|name| part["written"][name].as_u64().unwrap())
        })
        .sum()
}

fn outcome<'a>(report: &'a Value, source: &str) -> &'a Value {
    let sources = report["sources"].as_array().unwrap();
    sources.iter().find(|one| one["source"] == source).map_or(&Value::Null, |one| &one["outcome"])
}

fn the_other_home_goes_on(servers: &Servers) {
    let upstream = Upstream::start(2);
    let ids: Vec<String> = (0..REAL.len()).map(|number| format!("real-{number}")).collect();
    let mut sources: Vec<(&str, String)> = ids
        .iter()
        .zip(REAL)
        .enumerate()
        .map(|(number, (id, name))| match number % 2 {
            0 => (id.as_str(), upstream.tagged(id, "v1", fixture(name))),
            _ => (id.as_str(), upstream.body(id, fixture(name))),
        })
        .collect();
    sources.push(("own", upstream.body("own", feed(&[("a", "First", None)]))));
    let home = Home::of(&sources);
    let first = home.report(&[ALL]);
    let new = first["new"].as_u64().unwrap();
    assert!(new > 30, "{first}");
    home.run(&["sources", "disable", "real-1"]).ends_with(0);
    let run = |settings: &[(String, String)], clock: &str| {
        home.run_with(settings, &["run", ALL, "--json", "--clock", clock]).ends_with(0).json()
    };
    let stored = |settings: &[(String, String)]| {
        home.run_with(settings, &["documents", "rss_articles"]).ends_with(0).out.clone()
    };
    let there = servers.all();

    let copied = home.run_with(&there, THERE).ends_with(0).json();
    let count = &part(&copied, "rss_articles")["target"]["count"];
    assert_eq!((count.as_u64(), &part(&copied, "runs")["target"]["count"]), (Some(new), &json!(1)));
    for (table, rows) in [("sources", REAL.len() + 1), ("overrides", 1)] {
        assert_eq!(part(&copied, table)["target"]["count"], rows, "{copied}");
    }
    assert_eq!(written(&home.run_with(&there, THERE).ends_with(0).json()), 0, "a copy twice");
    assert_eq!(stored(&there), stored(&[]));

    let on_servers = run(&there, "2026-03-01T13:00:00Z");
    assert_eq!(
        (&on_servers["new"], &on_servers["changed"]),
        (&json!(0), &json!(0)),
        "{on_servers}"
    );
    assert_eq!(outcome(&on_servers, "real-0"), "not_modified", "its validators came along");
    assert_eq!(outcome(&on_servers, "real-3"), "unchanged");
    assert_eq!(outcome(&on_servers, "real-1"), &Value::Null, "it is disabled there too");
    let runs = home.run_with(&there, &["runs", "--json"]).json();
    assert_eq!(runs[1]["run_id"], first["run_id"], "{runs}");

    // The servers live on by themselves; then the way back.
    upstream.body("own", feed(&[("a", "Edited", None), ("b", "Second", None)]));
    let moved_on = run(&there, "2026-03-01T14:00:00Z");
    assert_eq!((&moved_on["new"], &moved_on["changed"]), (&json!(1), &json!(1)), "{moved_on}");
    let before = stored(&[]);
    let refused = home.run_with(&there, BACK);
    refused.ends_with(2).says(&["`rss_articles` holds 1 others", "`sources` holds", "--overwrite"]);
    assert_eq!(stored(&[]), before, "a refusal writes nothing");
    let back = home.run_with(&there, &[BACK, &["--overwrite"]].concat()).ends_with(0).json();
    assert_eq!(part(&back, "rss_articles")["written"]["new"], 1);
    assert_eq!(part(&back, "rss_articles")["written"]["changed"], 1);
    assert_eq!(part(&back, "runs")["target"]["count"], 3);
    assert_eq!(stored(&[]), stored(&there));
    let at_home = run(&[], "2026-03-01T15:00:00Z");
    assert_eq!((&at_home["new"], &at_home["changed"]), (&json!(0), &json!(0)), "{at_home}");
    assert_eq!(outcome(&at_home, "real-0"), "not_modified");
}

fn a_killed_copy_goes_on(servers: &Servers) {
    const COUNT: usize = 9_000;
    let home = Home::of(&[]);
    block_on(async {
        let store = Embedded::open(&home.path("data")).await.unwrap();
        let number =
            |number| article(&format!("id-{number:05}"), "x", "news", "2026-01-01T00:00:00Z");
        let writes: Vec<_> = (0..COUNT).map(number).collect();
        let outcomes = store.upsert(articles(), &writes).await.unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == Written::New));
    });
    let (there, arguments) = (servers.documents(), [THERE, &["--documents"]].concat());
    let mut copy = home.spawn_with(&there, &arguments);
    let told = copy.errors().find(|line| line.contains("written"));
    copy.kill();
    assert!(told.is_some(), "it ended before it was killed");
    drop(copy);

    let resumed = home.run_with(&there, &arguments).ends_with(0).json();
    let articles = part(&resumed, "rss_articles");
    let new = articles["written"]["new"].as_u64().unwrap();
    assert!(new > 0 && new <= COUNT as u64 - 2_000, "it went on: {resumed}");
    assert_eq!(articles["written"]["changed"], 0);
    assert_eq!(articles["target"]["count"], COUNT);
    let again = home.run_with(&there, &arguments).ends_with(0).json();
    assert_eq!(written(&again), 0, "{again}");
}

fn what_the_target_has(servers: &Servers) {
    let upstream = Upstream::start(1);
    let both = [("a", "Edition one", None), ("b", "Only here", None)];
    let home = Home::of(&[("own", upstream.body("own", feed(&both)))]);
    home.report(&[ALL]);
    upstream.body("own", feed(&[("a", "Edition two", None), ("c", "Only there", None)]));
    let there = servers.all();
    home.run_with(&there, &["run", ALL, "--json", "--clock", "2026-03-02T00:00:00Z"]).ends_with(0);
    let listed = |home: &Home| home.run_with(&there, &["documents", "rss_articles"]).out;
    let before = listed(&home);

    let refused: Ran = home.run_with(&there, THERE);
    refused.ends_with(2).says(&[
        "nothing was written",
        "`rss_articles` holds 1 others",
        "1 that the source has not",
        "`runs` holds 1 that the source has not",
        "hint:",
        "--overwrite",
    ]);
    assert_eq!(listed(&home), before);

    let said = home.run_with(&there, &[THERE, &["--overwrite"]].concat()).ends_with(0).json();
    let articles = part(&said, "rss_articles");
    assert_eq!(articles["written"], json!({"new": 1, "changed": 1, "removed": 0, "failed": 0}));
    assert_eq!(articles["differences"]["only_there"], 1, "a document is never taken away");
    assert_eq!(part(&said, "runs")["written"]["removed"], 1);
    let titles: Vec<Value> = listed(&home)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["title"].clone())
        .collect();
    for title in ["Edition one", "Only here", "Only there"] {
        assert!(titles.contains(&json!(title)), "{titles:?}");
    }
}

fn a_run_that_is_under_way(servers: &Servers) {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.slow("a", Duration::from_secs(60), numbered(0, 3)))]);
    let mut run = home.spawn(&["run", ALL]);
    assert!(eventually_within(Duration::from_secs(30), || upstream.asked("a") > 0));
    let there = servers.all();
    home.run_with(&there, THERE).ends_with(2).says(&["under way", ALL, "serve"]);
    run.kill();
    drop(run);
    assert!(eventually_within(Duration::from_secs(30), || home.processes().is_empty()));
    let said = home.run_with(&there, THERE).ends_with(0).json();
    assert_eq!(part(&said, "runs")["written"]["new"], 1, "the other home takes it over");
}

fn a_half_without_a_server(servers: &Servers) {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 3)))]);
    let there = servers.documents();
    let documents = [THERE, &["--documents"]].concat();
    home.run_with(&there, &documents).ends_with(2).says(&["`documents.db`", "MINERVA_DATA_DIR"]);
    assert!(!home.path("data").exists(), "a slip of the pen makes no store");
    home.report(&[ALL]);
    home.run_with(&[], THERE).ends_with(2).says(&["`ES_URL`", "`DATABASE_URL`"]);
    home.run_with(&there, THERE).ends_with(2).says(&["`DATABASE_URL` is not set", "`--documents`"]);
    let state = [THERE, &["--state"]].concat();
    home.run_with(&there, &state).ends_with(2).says(&["`DATABASE_URL` is not set"]);
    let to_itself = ["copy", "--from", "servers", "--to", "servers"];
    home.run_with(&there, &to_itself).ends_with(2).says(&["from servers to servers"]);
    let said = home.run_with(&there, &documents).ends_with(0).json();
    assert_eq!(said["parts"].as_array().map(Vec::len), Some(Index::all().len()), "{said}");
    assert_eq!(part(&said, "rss_articles")["written"]["new"], 3);
}
