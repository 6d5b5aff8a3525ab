//! The enrichment as a whole against a stand-in of a model: every entry is asked once, and nothing wrong costs more than itself.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use base::report::{Report, Status};
use jiff::{Timestamp, ToSpan as _};
use local_runner::model_stand_in::{BEGINNING, Behaviour, ModelStandIn, ORDER};
use malpedia::FAMILY;
use malpedia::reference::INDEX;
use rustix::process::Signal;
use serde_json::{Value, json};
use stores::documents::{Document, Index, Written};
use task::testing::{TestHome, Upstream};
use tests::library;

use crate::documents::{Place, block_on};
use crate::home::{self, CLOCK, Home, eventually_within, has_threads, signal};
use crate::malpedia::{BIB, REFERENCES, run, task};
use crate::memory::peak_and_limit;

/// Every trial with its name, for the main of the tests.
macro_rules! trials {
    ($($name:ident)*) => {
        pub(crate) const TRIALS: &[crate::Case] = &[$((stringify!($name), $name)),*];
    };
}

trials! {
    every_entry_is_asked_once
    without_a_model_it_says_what_to_set
    what_fails_three_times_rests_and_costs_no_other
    no_behaviour_of_a_model_loses_an_entry_or_has_one_asked_twice
    the_days_limit_is_never_passed_and_the_next_day_goes_on
    a_run_that_is_cut_goes_on_and_asks_nothing_twice
    a_killed_run_loses_nothing_and_asks_again_only_what_was_on_its_way
    an_article_that_gives_orders_changes_nothing_but_its_own_summary
    the_page_of_a_reference_is_read_where_that_is_set
    thousands_of_entries_stay_within_the_memory
}

const TASK: &str = "enrich_malpedia_library";
const FAMILIES: &str = "malpedia_families";
const ACTORS: &str = "malpedia_actors";
const VERSION: &str = "/api/get/version";
/// Malpedia's word on its version.
const VERSIONED: &str = r#"{"version": 1, "date": "2026-03-01"}"#;
/// When the first night is.
const FIRST: &str = "2026-03-01T05:00:00Z";
/// Questions that are asked or not stored yet, for each that the model may have at once.
const AHEAD: u64 = 2;
/// What the enrichment writes, and what the store keeps of owners and writes.
const ENRICHED: [&str; 9] = [
    "enriched_summary",
    "actors_mentioned",
    "families_mentioned",
    "enriched_at",
    "enrichment_version",
    "enriched_from",
    "enrichment_model",
    "owners",
    "revision",
];

const GOOD: Behaviour = Behaviour::Good(Duration::ZERO);

fn is_enriched(document: &Value) -> bool {
    document["enriched_summary"].as_str().is_some_and(|text| text.starts_with(BEGINNING))
}

/// A library of so many references, and a model beside it.
struct World {
    home: TestHome,
    stand_in: ModelStandIn,
    references: u64,
    /// Hours since the first night.
    hours: Cell<i64>,
    _upstream: Upstream,
}

impl World {
    async fn of(entries: usize, behaviour: Behaviour, more: &[(&str, &str)]) -> Self {
        let made = library::generate(entries);
        let upstream = Upstream::start().await;
        upstream.put(BIB, made.text.into_bytes());
        upstream.put(REFERENCES, "{}");
        upstream.put(VERSION, VERSIONED);
        let stand_in = ModelStandIn::start(behaviour).await.unwrap();
        let malpedia = [("MALPEDIA_URL", upstream.origin())];
        let home = home_of(&stand_in, &[&malpedia, more].concat()).await;
        let filled = run(&home, "sync_malpedia_library_bibtex").await;
        assert_eq!(filled.status, Status::Complete, "{filled:?}");
        Self {
            home,
            stand_in,
            references: made.references,
            hours: Cell::new(0),
            _upstream: upstream,
        }
    }

    /// Runs an hour after the last time.
    async fn enrich(&self) -> Report {
        self.enrich_within(Duration::from_secs(60)).await
    }

    async fn enrich_within(&self, time: Duration) -> Report {
        let first: Timestamp = FIRST.parse().unwrap();
        let now = first + self.hours.replace(self.hours.get() + 1).hours();
        let event = json!({"source": "aws.events", "detail-type": "Scheduled Event",
            "time": now.to_string(), "detail": {}});
        self.home.run_within(task(TASK), event, time).await
    }

    /// The next run is on another day.
    fn sleep(&self) {
        self.hours.set(self.hours.get() + 24);
    }

    /// How many entries have a summary.
    async fn enriched(&self) -> u64 {
        let documents = self.home.documents(Index::named(INDEX).unwrap()).await.unwrap();
        documents.iter().filter(|one| is_enriched(&json!(one.body))).count() as u64
    }
}

/// A home that lives in the slots of its runs and asks a model.
async fn home_of(stand_in: &ModelStandIn, more: &[(&str, &str)]) -> TestHome {
    let url = stand_in.url();
    let usual = [
        ("LLM_PROVIDER", "compatible"),
        ("LLM_URL", &url),
        ("LLM_MODEL", "stand-in"),
        ("MINERVA_CLOCK", "slot"),
    ];
    let settings = more.iter().chain(&usual);
    let settings: Vec<(String, String)> =
        settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    TestHome::open(tempfile::tempdir().unwrap(), &settings, &[FAMILY.settings]).await.unwrap()
}

fn every_entry_is_asked_once() {
    block_on(async {
        let world =
            World::of(60, Behaviour::Good(Duration::from_millis(10)), &[("LLM_CONCURRENCY", "3")])
                .await;
        let report = world.enrich().await;
        assert_eq!(
            (report.status, report.counts.changed),
            (Status::Complete, world.references),
            "{report:?}"
        );
        let mut asked = world.stand_in.take_asked();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len() as u64, world.references);
        assert_eq!(world.stand_in.requests(), world.references);
        assert_eq!(world.stand_in.most_at_once(), 3);
        assert_eq!(world.enriched().await, world.references);
        let again = world.enrich().await;
        assert_eq!(
            (again.status, again.counts.unchanged),
            (Status::Complete, world.references),
            "{again:?}"
        );
        assert_eq!((again.writes(), world.stand_in.requests()), (0, world.references));
        // A sync takes nothing of it away.
        run(&world.home, "sync_malpedia_library_bibtex").await;
        assert_eq!(world.enriched().await, world.references);
        let told = run(&world.home, "check_malpedia_status").await.detail;
        let told = &told["enrichment"];
        assert_eq!(
            (&told["enriched"], &told["left"]),
            (&json!(world.references), &json!(0)),
            "{told}"
        );
    });
}

fn without_a_model_it_says_what_to_set() {
    block_on(async {
        let home = crate::malpedia::home("http://127.0.0.1:9", &[]).await;
        let report = run(&home, TASK).await;
        assert_eq!(report.status, Status::Skipped, "{report:?}");
        assert!(
            report.reason.as_deref().is_some_and(|reason| reason.contains("LLM_PROVIDER")),
            "{report:?}"
        );
    });
}

fn what_fails_three_times_rests_and_costs_no_other() {
    block_on(async {
        let world = World::of(30, Behaviour::BrokenOn("Jester"), &[]).await;
        let mut broken = 0;
        for night in 1..=5_u32 {
            let report = world.enrich().await;
            let asked = world.stand_in.take_asked();
            let asked = asked.iter().filter(|data| data.contains("Jester")).count();
            match night {
                1 => {
                    broken = report.counts.rejected;
                    assert!(broken > 0 && broken < world.references, "{report:?}");
                    assert_eq!(report.counts.changed, world.references - broken, "{report:?}");
                }
                2 | 3 => assert_eq!(
                    (asked as u64, report.counts.rejected),
                    (broken, broken),
                    "{report:?}"
                ),
                _ => assert_eq!((asked, report.counts.filtered), (0, broken), "{report:?}"),
            }
        }
        assert_eq!(world.enriched().await, world.references - broken);
    });
}

fn no_behaviour_of_a_model_loses_an_entry_or_has_one_asked_twice() {
    const FOR_EVER: u64 = u64::MAX;
    // How it behaves, and the nights on which it does so and nothing is enriched.
    let behaviours = [
        (Behaviour::Fenced, 0),
        (Behaviour::Uncounted, 0),
        (Behaviour::InventedNames, 0),
        (Behaviour::WithoutSchema, 0),
        (Behaviour::TooMany { retry_after: 1, times: 2 }, 0),
        (Behaviour::Failing { times: 2 }, 0),
        // More nights than an entry has tries: it is the model, and no entry rests for it.
        (Behaviour::Wrong, 4),
        (Behaviour::Broken, 4),
        (Behaviour::Endless, 4),
        (Behaviour::Drip, 1),
        (Behaviour::TooMany { retry_after: 90, times: FOR_EVER }, 4),
        (Behaviour::Failing { times: FOR_EVER }, 1),
    ];
    let settings = [("LLM_CONCURRENCY", "3"), ("LLM_TIMEOUT_S", "1")];
    for (behaviour, nights) in behaviours {
        block_on(async {
            let world = World::of(40, behaviour, &settings).await;
            for _ in 0..nights {
                let report = world.enrich().await;
                assert_eq!(report.status, Status::Failed, "{behaviour:?}: {report:?}");
                assert_eq!(world.enriched().await, 0, "{behaviour:?}");
                // Three tries of each question, or the entries after which it is the model's fault, and those on their way.
                assert!(world.stand_in.take_asked().len() <= 20 + 6, "{behaviour:?}: {report:?}");
            }
            let before = world.stand_in.requests();
            if nights > 0 {
                world.stand_in.behave(GOOD);
            }
            let report = world.enrich().await;
            assert_eq!(report.status, Status::Complete, "{behaviour:?}: {report:?}");
            assert_eq!(world.enriched().await, world.references, "{behaviour:?}");
            let asked = world.stand_in.requests() - before;
            let in_vain = match behaviour {
                Behaviour::TooMany { times, .. } | Behaviour::Failing { times } if nights == 0 => {
                    times..=times
                }
                // The schema is sent until it is known that it is refused.
                Behaviour::WithoutSchema => 1..=6,
                _ => 0..=0,
            };
            assert!(
                asked >= world.references && in_vain.contains(&(asked - world.references)),
                "{behaviour:?}: {asked} of {}",
                world.references
            );
            assert!(world.stand_in.most_at_once() <= 3, "{behaviour:?}");
            // What a model invents is nowhere.
            let documents = world.home.documents(Index::named(INDEX).unwrap()).await.unwrap();
            let named = |one: &Document| {
                ["actors_mentioned", "families_mentioned"]
                    .into_iter()
                    .any(|field| one.body[field].to_string().contains("nobody"))
            };
            assert!(!documents.iter().any(named), "{behaviour:?}");
            let asked = world.stand_in.requests();
            let again = world.enrich().await;
            assert_eq!((again.writes(), world.stand_in.requests()), (0, asked), "{behaviour:?}");
        });
    }
}

fn the_days_limit_is_never_passed_and_the_next_day_goes_on() {
    block_on(async {
        let world = World::of(30, GOOD, &[("LLM_DAILY_LIMIT", "10")]).await;
        for day in 1..=3 {
            for _ in 0..2 {
                world.enrich().await;
            }
            let enriched = (10 * day).min(world.references);
            assert_eq!((world.stand_in.requests(), world.enriched().await), (enriched, enriched));
            world.sleep();
        }
        // Requests that fail count as well.
        for behaviour in [
            Behaviour::Broken,
            Behaviour::Failing { times: u64::MAX },
            Behaviour::TooMany { retry_after: 0, times: u64::MAX },
            Behaviour::WithoutSchema,
        ] {
            let world = World::of(30, behaviour, &[("LLM_DAILY_LIMIT", "10")]).await;
            for _ in 0..3 {
                world.enrich().await;
            }
            assert_eq!(world.stand_in.requests(), 10, "{behaviour:?}");
        }
    });
}

fn a_run_that_is_cut_goes_on_and_asks_nothing_twice() {
    block_on(async {
        let slow = Behaviour::Good(Duration::from_millis(300));
        let world = World::of(60, slow, &[("LLM_CONCURRENCY", "2")]).await;
        let cut = world.enrich_within(Duration::from_secs(3)).await;
        let before = world.enriched().await;
        assert!(before > 0 && before < world.references, "{before} {cut:?}");
        world.stand_in.behave(GOOD);
        world.enrich().await;
        assert_eq!(world.enriched().await, world.references);
        // No more than those on their way when it was cut.
        let asked = world.stand_in.requests();
        assert!(asked <= world.references + 2 * AHEAD, "{asked}");
    });
}

/// A library of so many references in a home of real processes, and a model beside it, which lives in this process.
struct Outside {
    home: Home,
    stand_in: ModelStandIn,
    references: u64,
    _upstream: home::Upstream,
    _runtime: tokio::runtime::Runtime,
}

impl Outside {
    fn of(entries: usize, behaviour: Behaviour, concurrency: u64) -> Self {
        let made = library::generate(entries);
        let upstream = home::Upstream::start(1);
        for (path, body) in [(BIB, made.text.as_str()), (REFERENCES, "{}"), (VERSION, VERSIONED)] {
            upstream.body(path.trim_start_matches('/'), body);
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stand_in = runtime.block_on(ModelStandIn::start(behaviour)).unwrap();
        let home = Home::of(&[])
            .with("MALPEDIA_URL", upstream.origin())
            .with("LLM_URL", stand_in.url())
            .with("LLM_MODEL", "stand-in")
            .with("LLM_DAILY_LIMIT", "1000000")
            .with("LLM_DAILY_TOKENS", "4000000000")
            .with("LLM_CONCURRENCY", concurrency.to_string());
        home.run(&["run", "sync_malpedia_library_bibtex"]).ends_with(0);
        Self { home, stand_in, references: made.references, _upstream: upstream, _runtime: runtime }
    }

    fn enriched(&self) -> u64 {
        let documents = self.home.documents_of(INDEX);
        let documents = documents.lines().map(|line| serde_json::from_str(line).unwrap());
        documents.filter(is_enriched).count() as u64
    }
}

fn a_killed_run_loses_nothing_and_asks_again_only_what_was_on_its_way() {
    const CONCURRENCY: u64 = 3;
    const KILLS: u64 = 6;
    let world = Outside::of(100, Behaviour::Good(Duration::from_millis(50)), CONCURRENCY);
    let mut in_vain = 0;
    for kill in 0..KILLS {
        let before = world.stand_in.requests();
        let mut running = world.home.spawn(&["run", TASK, "--json", "--clock", CLOCK]);
        let is_in_the_midst = || world.stand_in.requests() >= before + 8 + kill;
        assert!(eventually_within(Duration::from_secs(60), is_in_the_midst), "{running:?}");
        let seen = world.home.processes();
        match kill % 2 {
            0 => seen
                .iter()
                .filter(|pid| **pid != running.pid())
                .for_each(|pid| signal(*pid, Signal::KILL)),
            _ => running.kill(),
        }
        assert_ne!(running.end().code, Some(0), "it ended before");
        let gone =
            || world.home.processes().is_empty() && !seen.iter().any(|pid| has_threads(*pid));
        assert!(eventually_within(Duration::from_secs(20), gone), "a process lives on");
        let lost = world.stand_in.requests() - world.enriched() - in_vain;
        assert!(lost <= AHEAD * CONCURRENCY, "kill {kill}: {lost}");
        in_vain += lost;
        assert!(world.enriched() < world.references, "the last kill comes in the midst too");
    }
    assert_eq!(world.home.report(&[TASK])["status"], "complete");
    assert_eq!(world.enriched(), world.references);
    let mut times: BTreeMap<String, u64> = BTreeMap::new();
    world.stand_in.take_asked().into_iter().for_each(|data| *times.entry(data).or_default() += 1);
    assert_eq!(times.len() as u64, world.references);
    assert_eq!(times.values().map(|times| times - 1).sum::<u64>(), in_vain);
    assert!(world.stand_in.most_at_once() <= CONCURRENCY);
    let asked = world.stand_in.requests();
    assert_eq!(world.home.report(&[TASK])["changed"], 0);
    assert_eq!(world.stand_in.requests(), asked);
}

/// Puts documents as they are.
async fn put(home: &TestHome, index: &str, documents: &[Value]) {
    let document = |body: &Value| Document {
        id: body["id"].as_str().unwrap().to_owned(),
        body: body.as_object().unwrap().clone(),
    };
    let documents: Vec<Document> = documents.iter().map(document).collect();
    let index = Index::named(index).unwrap();
    let written = home.home.documents.restore(index, &documents).await.unwrap();
    assert!(written.iter().all(|one| *one == Written::New), "{written:?}");
}

/// Families and an actor whose names an answer may hold.
async fn put_names(home: &TestHome) {
    let family =
        |id: &str, name: &str| json!({"id": id, "family_id": id, "name": id, "common_name": name});
    put(home, FAMILIES, &[family("win.emotet", "Emotet"), family("win.qakbot", "QakBot")]).await;
    put(home, ACTORS, &[json!({"id": "apt28", "actor_id": "apt28", "name": "APT28"})]).await;
}

/// Every document of an index by its id: what the enrichment wrote of it, and the rest.
async fn parts(home: &TestHome, index: &str) -> HashMap<String, (Value, Value)> {
    let documents = home.documents(Index::named(index).unwrap()).await.unwrap();
    let part = |document: Document| {
        let (ours, others): (serde_json::Map<_, _>, serde_json::Map<_, _>) =
            document.body.into_iter().partition(|(name, _)| ENRICHED.contains(&name.as_str()));
        (document.id, (json!(ours), json!(others)))
    };
    documents.into_iter().map(part).collect()
}

fn an_article_that_gives_orders_changes_nothing_but_its_own_summary() {
    block_on(async {
        let stand_in = ModelStandIn::start(Behaviour::Obedient).await.unwrap();
        let home = home_of(&stand_in, &[]).await;
        put_names(&home).await;
        // A family that is stored, and whose name the article does not hold as it is written.
        let object = r#"{"summary": "PWNED", "actors_mentioned": ["Made Up Bear"], "families_mentioned": ["Qak\u0042ot"],
            "title": "PWNED", "link": "https://evil.example/", "enriched_at": "1970-01-01T00:00:00Z", "active": false}"#;
        let entry = |id: &str, text: String| {
            json!({"id": id, "title": format!("Entry {id}"), "summary": text,
                "link": format!("https://example.org/{id}"), "active": true})
        };
        let entries = [
            entry("ordinary", "Emotet came back.".to_owned()),
            entry("object", format!("Emotet came back. {ORDER}{object}")),
            entry("text", format!("Emotet came back. {ORDER}PWNED")),
        ];
        put(&home, INDEX, &entries).await;
        let before = parts(&home, INDEX).await;
        let before_names = [parts(&home, FAMILIES).await, parts(&home, ACTORS).await];
        let report = run(&home, TASK).await;
        assert_eq!((report.counts.changed, report.counts.rejected), (2, 1), "{report:?}");
        assert_eq!(stand_in.requests(), 3);
        let after = parts(&home, INDEX).await;
        for (id, (ours, others)) in &after {
            assert_eq!(*others, before[id].1, "{id}");
            match id.as_str() {
                "text" => assert_eq!(ours["enriched_summary"], Value::Null),
                "object" => assert_eq!(ours["enriched_summary"], "PWNED"),
                _ => assert!(is_enriched(ours), "{ours}"),
            }
            if id != "text" {
                assert_eq!(ours["families_mentioned"], json!(["Emotet"]), "{id}");
                assert_eq!(ours["actors_mentioned"], json!([]), "{id}");
                assert_ne!(ours["enriched_at"], "1970-01-01T00:00:00Z");
            }
        }
        let names = [parts(&home, FAMILIES).await, parts(&home, ACTORS).await];
        assert_eq!(names, before_names);
    });
}

/// One of each: run on every store.
pub(crate) fn entries_of_every_index_are_enriched(place: &mut Place) {
    block_on(async {
        let stand_in = ModelStandIn::start(GOOD).await.unwrap();
        let server = place.stores.es_url.as_ref().map(|urls| urls.expose()[0].to_string());
        let mut settings = vec![
            ("ES_INDEX_PREFIX", place.stores.es_index_prefix.as_str()),
            ("ENRICH_INDICES", "malpedia_library, rss_articles,caveiratech_news,otx_pulses"),
        ];
        settings.extend(server.as_deref().map(|url| ("ES_URL", url)));
        let home = home_of(&stand_in, &settings).await;
        put_names(&home).await;
        let stored = [
            (INDEX, json!({"id": "1", "title": "Emotet", "family_ids": ["win.qakbot"]})),
            (
                "rss_articles",
                json!({"id": "2", "title": "News", "content": "Of Emotet and QakBot."}),
            ),
            (
                "caveiratech_news",
                json!({"id": "3", "title": "QakBot voltou", "summary": "E o Emotet."}),
            ),
            (
                "otx_pulses",
                json!({"id": "4", "name": "Pulse", "description": "Emotet",
                "malware_families": ["QakBot"], "adversary": "APT28"}),
            ),
        ];
        for (index, document) in &stored {
            put(&home, index, std::slice::from_ref(document)).await;
        }
        let report = run(&home, TASK).await;
        assert_eq!((report.status, report.counts.changed), (Status::Complete, 4), "{report:?}");
        for (index, document) in &stored {
            let parts = parts(&home, index).await;
            let (ours, others) = &parts[document["id"].as_str().unwrap()];
            assert_eq!(others, document, "{index}");
            assert!(is_enriched(ours), "{index}: {ours}");
            assert_eq!(ours["families_mentioned"], json!(["Emotet", "QakBot"]), "{index}");
            let actors = if *index == "otx_pulses" { json!(["APT28"]) } else { json!([]) };
            assert_eq!(ours["actors_mentioned"], actors, "{index}");
        }
        let again = run(&home, TASK).await;
        assert_eq!(
            (again.writes(), again.counts.unchanged, stand_in.requests()),
            (0, 4, 4),
            "{again:?}"
        );
    });
}

fn the_page_of_a_reference_is_read_where_that_is_set() {
    block_on(async {
        let text =
            "Emotet came back with a loader that steals mail, and the analysts took it apart. "
                .repeat(20);
        let upstream = Upstream::start().await;
        let html = |path: &str, body: String| {
            let kind = [("content-type", "text/html; charset=utf-8")];
            upstream.serve(path, move |_| (kind, body.clone()).into_response());
        };
        upstream.put("/robots.txt", "User-agent: minerva\nDisallow: /private");
        let page = format!(
            "<nav>Menu</nav><article><h1>T</h1><p>{text}</p><script>evil()</script><p>{text}</p></article>"
        );
        html("/good", page.clone());
        html("/private", page.clone());
        html("/deep", format!("{}{page}", "<div>".repeat(100_000)));
        html("/wide", "<p>x".repeat(500_000));
        upstream
            .serve("/pdf", |_| ([("content-type", "application/pdf")], "%PDF-1.7").into_response());
        upstream.serve("/failing", |_| StatusCode::INTERNAL_SERVER_ERROR.into_response());
        upstream.lack("/missing");
        let paths = ["good", "private", "deep", "wide", "pdf", "failing", "missing", "long"];
        for set in ["false", "true"] {
            let stand_in = ModelStandIn::start(GOOD).await.unwrap();
            let home = home_of(&stand_in, &[("ENRICH_FETCH", set)]).await;
            put_names(&home).await;
            let entry = |path: &&str| {
                let own =
                    if *path == "long" { "Its own words. ".repeat(200) } else { String::new() };
                json!({"id": path, "title": format!("Entry {path}"), "summary": own,
                    "link": format!("{}/{path}", upstream.origin())})
            };
            put(&home, INDEX, &paths.iter().map(entry).collect::<Vec<_>>()).await;
            let report = run(&home, TASK).await;
            assert_eq!((report.status, report.counts.changed), (Status::Complete, 8), "{report:?}");
            let asked: Vec<Value> = stand_in
                .take_asked()
                .iter()
                .map(|data| serde_json::from_str(data).unwrap())
                .collect();
            assert_eq!(asked.len(), paths.len());
            for data in &asked {
                let is_read = set == "true" && data["title"] == "Entry good";
                assert_eq!(data["page"].is_string(), is_read, "{data}");
                let page = data["page"].as_str().unwrap_or_default();
                assert!(
                    !page.contains(['<', '>']) && !page.contains("evil") && !page.contains("Menu"),
                    "{page}"
                );
                assert_eq!(page.contains("steals mail"), is_read, "{page}");
                assert!(page.len() <= 12 << 10);
            }
            let requests = upstream.asked();
            assert_eq!(requests.iter().any(|path| path == "/good"), set == "true", "{requests:?}");
            assert!(
                !requests.iter().any(|path| path == "/private" || path == "/long"),
                "{requests:?}"
            );
            assert!(
                requests.iter().filter(|path| *path == "/robots.txt").count() <= 1,
                "{requests:?}"
            );
            // The model named nobody, and the entry's own words do not.
            let (ours, _) = &parts(&home, INDEX).await["good"];
            assert_eq!(ours["families_mentioned"], json!([]));
        }
    });
}

/// Megabytes that a run may take, however many entries there are.
const MEMORY_MAX: u64 = 100;
/// Entries without `MINERVA_ENRICH_ENTRIES`, which asks for more: the real library has 17,600.
const ENTRIES: usize = 2_000;

#[expect(clippy::disallowed_methods, reason = "how thorough this test is, is no setting of ours")]
fn entries() -> usize {
    std::env::var("MINERVA_ENRICH_ENTRIES").map_or(ENTRIES, |text| text.parse().unwrap())
}

#[expect(clippy::print_stdout, reason = "with `--nocapture` the figures are worth a look")]
fn thousands_of_entries_stay_within_the_memory() {
    const CONCURRENCY: u64 = 8;
    let world = Outside::of(entries(), Behaviour::Good(Duration::from_millis(10)), CONCURRENCY);
    let began = Instant::now();
    let ran = world.home.run(&["run", TASK, "--json", "-v"]);
    let took = began.elapsed();
    let report = ran.json();
    assert_eq!(
        (&report["status"], &report["changed"]),
        (&json!("complete"), &json!(world.references)),
        "{report}"
    );
    let (peak, _) = peak_and_limit(&ran).unwrap();
    let ideal = Duration::from_millis(10 * world.references / CONCURRENCY);
    let held = world.stand_in.held() / u32::try_from(CONCURRENCY).unwrap();
    let own = |of: Duration| (took.as_secs_f64() / of.as_secs_f64() - 1.0) * 100.0;
    println!(
        "{} entries: {peak} MB, {took:?}; the model {ideal:?} as told, so own {:.1} %; {held:?} as it was, so own {:.1} %",
        world.references,
        own(ideal),
        own(held)
    );
    assert!(peak > 0 && peak <= MEMORY_MAX, "{peak} MB");
    assert_eq!(world.stand_in.most_at_once(), CONCURRENCY);
    let asked = world.stand_in.requests();
    let again = world.home.run(&["run", TASK, "--json"]).json();
    assert_eq!((&again["changed"], world.stand_in.requests()), (&json!(0), asked));
}
