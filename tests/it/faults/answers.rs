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

/// A term that no index takes whose mapping does not pass long ones over: Lucene's are shorter than 32 KiB.
fn refused() -> String {
    format!("<category>{}</category>", "x".repeat(40_000))
}

/// Every hundredth item is refused. The others are stored, these wait in the ledger until they are mended upstream.
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
    let term = json!({"type": "keyword", "ignore_above": i32::MAX});
    let mut tags = term.clone();
    tags["fields"]["keyword"] = term;
    let mapping = format!("/{}/_mapping", place.named("rss_articles-v1"));
    place.ask("PUT", &mapping, &json!({"properties": {"tags": tags}}));

    for attempts in [1, 2] {
        let report = home.report(&[ALL]);
        assert_eq!(report["status"], "partial", "{report}");
        let bad = &report["sources"][0];
        assert_eq!(
            (&bad["outcome"], &bad["failed"]),
            (&json!("not_stored"), &json!(3)),
            "{report}"
        );
        let (new, unchanged) = if attempts == 1 { (297, 0) } else { (0, 297) };
        assert_eq!((&bad["new"], &bad["unchanged"]), (&json!(new), &json!(unchanged)), "{report}");
        assert_eq!(bad["problem"]["class"], "store");
        let ledger = ledger(&home, "rss/bad");
        assert_eq!(ledger.len(), 3);
        for retry in &ledger {
            assert_eq!(retry.attempts, attempts);
            assert!(
                retry.reason.contains("[tags]") || retry.reason.contains("\"tags"),
                "{retry:?}"
            );
            assert!(retry.reason.contains("immense term"), "{retry:?}");
        }
        // OpenSearch counts what it refuses as well, each time that it does.
        let refused = if matches!(kind, Kind::OpenSearch2 | Kind::OpenSearch3) {
            3 * i64::from(attempts)
        } else {
            0
        };
        assert_eq!(sequence(&place), 299 + refused, "what is equal is no write");
    }
    // Its validators are not kept, or it would never be read again.
    assert_eq!(etag_of(&home, "bad"), Value::Null);

    // Away for a while, it has not been mended.
    upstream.status("bad", "404 Not Found", "");
    assert_eq!(home.report(&[ALL])["sources"][0]["outcome"], "not_found");
    assert_eq!(ledger(&home, "rss/bad").len(), 3);

    upstream.tagged("bad", "two", whole);
    assert_eq!(complete(&home.report(&[ALL])), [302, 3, 0, 0]);
    assert_eq!(ledger(&home, "rss/bad"), []);
    assert_eq!(etag_of(&home, "bad"), "\"two\"");
    let undisturbed = self::home(&sources);
    complete(&undisturbed.report(&[ALL]));
    assert!(home.articles() == undisturbed.articles(), "the stores differ");
}

fn ledger(home: &Home, source: &str) -> Vec<Retry> {
    runtime().block_on(async {
        Sqlite::open(&home.path("data"))
            .await
            .unwrap()
            .ledger(source, LedgerKind::Failed, u32::MAX >> 1)
            .await
            .unwrap()
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
