//! Answers of a document server that a run must not misread: one that never arrives, one that refuses single items.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base::config::Secret;
use serde_json::{Value, json};
use stores::state::{Ledger as _, LedgerKind, Retry, Sqlite};
use tests::services::search::Kind;

use super::{complete, home, home_on, runtime, sequence};
use crate::documents::{Place, articles};
use crate::home::{ALL, Home, Upstream, numbered};
use crate::servers::{Fault, before, takes};

const SOURCES: usize = 8;
const ITEMS: usize = 300;

/// Sources of so many items each.
pub(super) fn numbered_sources(upstream: &Upstream, items: usize) -> Vec<(String, String)> {
    let one = |number| {
        let id = format!("source-{number}");
        let url = upstream.tagged(&id, "one", numbered(number, items));
        (id, url)
    };
    (0..SOURCES).map(one).collect()
}

/// The server takes a bulk and its answer is lost: for every second one, until six were.
pub(super) fn cut_answers(kind: Kind) {
    let upstream = Upstream::start(SOURCES);
    let sources = numbered_sources(&upstream, ITEMS);
    let mut place = Place::new(Some(kind));
    let undisturbed = home(&sources);
    complete(&undisturbed.report(&[ALL]));

    let server = place.stores.es_url.as_ref().unwrap().expose()[0].clone();
    let (left, seen) = (Arc::new(AtomicU32::new(6)), AtomicU32::new(0));
    let cuts = Arc::clone(&left);
    let proxy = before(&server, move |head| {
        let is_second = || seen.fetch_add(1, Ordering::SeqCst) % 2 == 0;
        if head.contains("/_bulk") && is_second() && takes(&cuts) {
            Fault::Cut
        } else {
            Fault::None
        }
    });
    place.stores.es_url = Some(Secret::new(vec![proxy]));
    let home = home_on(&place, &sources);
    let all = (SOURCES * ITEMS) as u64;
    assert_eq!(complete(&home.report(&[ALL])), [all, all, 0, 0], "each counts as new, once");
    assert_eq!(left.load(Ordering::SeqCst), 0, "six were cut");
    assert!(home.articles() == undisturbed.articles(), "the stores differ");
    assert_eq!(sequence(&place), i64::try_from(all).unwrap(), "nothing was written twice");
}

/// A term that no field takes which does not pass long ones over: Lucene's are shorter than 32 KiB.
fn refused() -> String {
    format!("<description>{}</description>", "x".repeat(40_000))
}

/// Every hundredth item is refused for good: counted and named, the others stored, and the source read no more often for
/// it. Repaired upstream they are stored.
pub(super) fn refused_items(kind: Kind) {
    let upstream = Upstream::start(2);
    let whole = String::from_utf8(numbered(0, ITEMS)).unwrap();
    let mut spoiled = whole.clone();
    for number in (0..ITEMS).step_by(100) {
        let guid = format!("<guid>0-{number}</guid>");
        spoiled = spoiled.replace(&guid, &format!("{guid}{}", refused()));
    }
    let bad = upstream.tagged("bad", "one", spoiled);
    let sources =
        [("bad".to_owned(), bad), ("good".to_owned(), upstream.body("good", numbered(1, 2)))];
    let place = Place::new(Some(kind));
    let home = home_on(&place, &sources);
    runtime().block_on(async { place.store().await.ensure(articles()).await }).expect("it is made");
    let mut summary = articles().mapping["properties"]["summary"].clone();
    summary["fields"]["strict"] = json!({"type": "keyword", "ignore_above": i32::MAX});
    let mapping = format!("/{}/_mapping", place.named("rss_articles-v1"));
    place.ask("PUT", &mapping, &json!({"properties": {"summary": summary}}));

    let report = home.report(&[ALL]);
    assert_eq!(report["status"], "complete", "{report}");
    let bad = &report["sources"][0];
    assert_eq!(
        (&bad["new"], &bad["rejected"], &bad["failed"]),
        (&json!(297), &json!(3), &json!(0))
    );
    let rejects = report["rejects"].as_array().unwrap();
    assert_eq!(rejects.len(), 3, "{report}");
    for reason in rejects.iter().filter_map(|reject| reject["reason"].as_str()) {
        assert!(reason.contains("summary.strict"), "{reason}");
        assert!(reason.contains("immense term"), "{reason}");
    }
    assert_eq!(ledger(&home, "rss/bad"), [], "trying again would not help");
    assert_eq!(rejects_of(&home, "rss/bad"), 3);
    // OpenSearch counts what it refuses as well.
    let refused = if matches!(kind, Kind::OpenSearch2 | Kind::OpenSearch3) { 3 } else { 0 };
    assert_eq!(sequence(&place), 299 + refused);
    assert_eq!(etag_of(&home, "bad"), "\"one\"", "the cursor moves on");
    assert_eq!(home.report(&[ALL])["sources"][0]["outcome"], "not_modified");
    assert_eq!(rejects_of(&home, "rss/bad"), 3, "an unchanged source was not read again");

    upstream.tagged("bad", "two", whole);
    assert_eq!(complete(&home.report(&[ALL])), [302, 3, 0, 0]);
    assert_eq!(ledger(&home, "rss/bad"), []);
    assert_eq!(rejects_of(&home, "rss/bad"), 0);
    assert_eq!(etag_of(&home, "bad"), "\"two\"");
    let undisturbed = self::home(&sources);
    complete(&undisturbed.report(&[ALL]));
    assert!(home.articles() == undisturbed.articles(), "the stores differ");
}

/// How many documents of a source the command line lists as refused for good.
fn rejects_of(home: &Home, source: &str) -> u64 {
    let listed = home.run(&["sources", "rejects", source, "--json"]).ends_with(0).json();
    let items = listed["items"].as_array().unwrap();
    assert!(items.iter().all(|item| item["reason"].as_str().unwrap().contains("immense term")));
    assert_eq!(listed["count"], items.len());
    items.len() as u64
}

fn ledger(home: &Home, source: &str) -> Vec<Retry> {
    runtime().block_on(async {
        let state = Sqlite::open(&home.path("data")).await.unwrap();
        state.ledger(source, LedgerKind::Failed, u32::MAX >> 1).await.unwrap()
    })
}

/// The `ETag` of the only address whose validators a source has.
pub(super) fn etag_of(home: &Home, id: &str) -> Value {
    let state = state_of(home, id);
    let validators = state["validators"].as_object().unwrap();
    validators.values().next().map_or(Value::Null, |one| one["etag"].clone())
}

/// What is known of a source.
pub(super) fn state_of(home: &Home, id: &str) -> Value {
    let listed = home.run(&["sources", "list", "--json"]).ends_with(0).json();
    let found = listed.as_array().unwrap().iter().find(|row| row["source"]["id"] == id);
    found.unwrap()["state"].clone()
}
