//! A document server that is away in the middle of a run: overloaded, unreachable, killed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use base::Class;
use base::config::{Secret, Stores};
use serde_json::{Value, json};
use stores::documents::{DocumentReader as _, Documents, Elastic, Embedded, Write, Written};
use tests::services::search::{Kind, Server, call, service};
use url::Url;

use super::answers::{etag_of, numbered_sources};
use super::{complete, home, home_on, runtime, sequence, sequence_of};
use crate::documents::{Place, all_of_them, article, articles, cache};
use crate::home::{ALL, Home, Upstream};
use crate::servers::{Fault, before};

/// How long the server has too much to do.
const OVERLOAD: Duration = Duration::from_secs(30);

/// Bulk requests that get through before the server is away.
const BEFORE: u32 = 3;

/// Documents of the test that writes them by itself, in eight requests.
const MANY: usize = 20_000;

/// Documents that a run collects beside it.
const RUN: usize = 4_800;

/// What the indices of those two begin with.
const PREFIXES: [&str; 2] = ["alone-", "collected-"];

/// How long it may take until both writers are at work on a busy machine.
const MEETING: Duration = Duration::from_secs(180);

/// Runs until the server must be back.
const TRIES: usize = 4;

/// Both ways of waiting, beside each other, as they are mostly waiting.
pub(super) fn patience() {
    thread::scope(|scope| {
        let waits = [scope.spawn(overloaded), scope.spawn(away)];
        for wait in waits {
            wait.join().expect("told by the thread");
        }
    });
}

/// Puts a proxy before a place's server.
fn behind(place: &mut Place, fault: impl Fn(&str) -> Fault + Send + Sync + 'static) {
    let server = place.stores.es_url.as_ref().unwrap().expose()[0].clone();
    place.stores.es_url = Some(Secret::new(vec![before(&server, fault)]));
}

/// Status 429 to everything for half a minute from the first write on: the run takes as long, and is complete.
fn overloaded() {
    let upstream = Upstream::start(8);
    let sources = numbered_sources(&upstream, 30);
    let mut place = Place::new(Some(Kind::Elasticsearch8));
    let first = std::sync::OnceLock::new();
    behind(&mut place, move |head| {
        let began = head.contains("/_bulk").then(|| first.get_or_init(Instant::now));
        match began.or(first.get()) {
            Some(began) if began.elapsed() < OVERLOAD => Fault::Status("429 Too Many Requests"),
            _ => Fault::None,
        }
    });
    let home = home_on(&place, &sources);
    let began = Instant::now();
    assert_eq!(complete(&home.report(&[ALL])), [240, 240, 0, 0]);
    assert!(began.elapsed() >= OVERLOAD, "{:?}", began.elapsed());
    assert_eq!(sequence(&place), 240);
}

/// Away for longer than anybody waits: the run tells it, no cursor has passed what is not stored, and the next run makes
/// the store the undisturbed one.
fn away() {
    let upstream = Upstream::start(8);
    let sources = numbered_sources(&upstream, 600);
    let undisturbed = home(&sources);
    complete(&undisturbed.report(&[ALL]));
    let mut place = Place::new(Some(Kind::Elasticsearch8));
    let (is_away, bulks) = (Arc::new(AtomicBool::new(false)), AtomicU32::new(0));
    behind(&mut place, {
        let is_away = Arc::clone(&is_away);
        move |head| {
            let is_bulk = head.contains("/_bulk");
            if is_bulk && bulks.fetch_add(1, Ordering::SeqCst) == BEFORE {
                is_away.store(true, Ordering::SeqCst);
            }
            if is_away.load(Ordering::SeqCst) { Fault::Gone } else { Fault::None }
        }
    });
    let home = home_on(&place, &sources);
    let report = home.report(&[ALL]);
    assert!(report["status"] == "failed" || report["status"] == "partial", "{report}");
    for source in report["sources"].as_array().unwrap() {
        let problem = &source["problem"];
        assert!(problem.is_null() || problem["class"] == "store", "{source}");
    }
    is_away.store(false, Ordering::SeqCst);
    check_cursors(&home, 600);
    assert!(home.articles().len() < 8 * 600, "some were not stored");

    complete(&home.report(&[ALL]));
    assert!(home.articles() == undisturbed.articles(), "the stores differ");
    assert_eq!(sequence(&place), 8 * 600, "nothing was written twice");
    check_cursors(&home, 600);
}

/// Where a source is asked on condition that it changed, everything that it gave is stored.
#[track_caller]
fn check_cursors(home: &Home, items: usize) {
    let stored = home.articles();
    for number in 0..8 {
        let id = format!("source-{number}");
        let count = stored.iter().filter(|article| article["source_id"] == id.as_str()).count();
        let has_passed = !etag_of(home, &id).is_null();
        assert!(!has_passed || count == items, "{id}: {count} of {items} are stored");
    }
}

/// Killed while it works on bulks of a caller that writes by itself and of a run, and started again.
pub(super) fn killed() {
    let server = service(Kind::Elasticsearch8).start(cache()).unwrap();
    let (strikes, struck) = mpsc::channel();
    let bulks = PREFIXES.map(|_| AtomicU32::new(0));
    let both = Barrier::new(PREFIXES.len());
    let proxy = before(&server.url(), move |head| {
        let writer = PREFIXES.iter().position(|prefix| head.contains(&format!("/{prefix}")));
        let Some(bulks) = writer.filter(|_| head.contains("/_bulk")).map(|place| &bulks[place])
        else {
            return Fault::None;
        };
        // Told while the requests are on their way, so that the server dies with them in hand.
        if bulks.fetch_add(1, Ordering::SeqCst) == BEFORE && both.wait().is_leader() {
            let _ = strikes.send(());
        }
        Fault::None
    });
    thread::scope(|scope| {
        let writers =
            [scope.spawn(|| written_by_itself(&proxy)), scope.spawn(|| collected(&proxy))];
        struck.recv_timeout(MEETING).expect("both writers send bulk requests");
        server.kill();
        server.run().unwrap();
        for writer in writers {
            writer.join().expect("told by the writer");
        }
    });
    for (prefix, count) in PREFIXES.iter().zip([MANY, RUN]) {
        check_versions(&server, &format!("{prefix}rss_articles"), count);
    }
}

fn written_by_itself(proxy: &Url) {
    let folder = tempfile::tempdir().unwrap();
    let batch: Vec<Write> = (0..MANY)
        .map(|number| article(&format!("{number:05}"), "x", "news", "2026-01-01T00:00:00Z"))
        .collect();
    runtime().block_on(async {
        let stores = Stores {
            es_url: Some(Secret::new(vec![proxy.clone()])),
            es_index_prefix: PREFIXES[0].to_owned(),
            ..Stores::default()
        };
        let store = Elastic::open(&stores).unwrap();
        // A machine may be so busy that the server takes longer than anybody waits; then the next try finds it.
        let written = loop {
            match store.upsert(articles(), &batch).await {
                Ok(written) => break written,
                Err(error) => assert_eq!(error.class(), Class::Store, "{}", error.chain()),
            }
        };
        assert!(!written.iter().any(|one| matches!(one, Written::Changed | Written::Failed(_))));
        let undisturbed = Embedded::open(folder.path()).await.unwrap();
        undisturbed.upsert(articles(), &batch).await.unwrap();
        let all = store.scan(articles(), &all_of_them()).await.unwrap();
        assert_eq!(all.len(), MANY);
        assert!(all == undisturbed.scan(articles(), &all_of_them()).await.unwrap());
    });
}

fn collected(proxy: &Url) {
    let upstream = Upstream::start(8);
    let sources = numbered_sources(&upstream, RUN / 8);
    let undisturbed = home(&sources);
    complete(&undisturbed.report(&[ALL]));
    let home = home(&sources).with("ES_URL", proxy.as_str()).with("ES_INDEX_PREFIX", PREFIXES[1]);
    let mut runs = (0..TRIES).map(|_| home.report(&[ALL]));
    let is_complete = |report: &Value| {
        // One that did not wait long enough says so, and what it did not store is not passed over.
        check_cursors(&home, RUN / 8);
        report["status"] == "complete"
    };
    runs.find(is_complete).expect("the server is back");
    assert!(home.articles() == undisturbed.articles(), "the stores differ");
    assert_eq!(complete(&home.report(&[ALL])), [0, 0, 0, 0], "nothing changed");
}

/// Each document was written once. The server's count may be higher: numbers that it gave out before it died are filled in.
fn check_versions(server: &Server, index: &str, count: usize) {
    let mut after = Value::Null;
    let mut seen = BTreeSet::new();
    while seen.len() < count {
        let mut body = json!({"size": 5_000, "sort": ["id"], "version": true, "_source": false});
        if !after.is_null() {
            body["search_after"] = after;
        }
        let path = format!("/{index}/_search?filter_path=hits.hits");
        let page = call(&server.url(), "POST", &path, &body.to_string()).unwrap().body;
        let hits = page["hits"]["hits"].as_array().expect("all of them are found");
        for hit in hits {
            assert_eq!(hit["_version"], 1, "{hit}");
            seen.insert(hit["_id"].as_str().unwrap().to_owned());
        }
        after = hits.last().unwrap()["sort"].clone();
    }
    let stats = call(&server.url(), "GET", &format!("/{index}/_stats?level=shards"), "").unwrap();
    assert!(sequence_of(&stats.body) >= i64::try_from(count).unwrap(), "{}", stats.body);
}
