//! The MISP family as a whole: what its trials stand on, the feeds of every format beside each other, and the same on servers.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use base::report::{Outcome, Report, SourceReport, Status};
use futures_util::stream;
use misp::FAMILY;
use misp::feeds::INDEX;
use serde_json::{Value, json};
use stores::documents::{Body as Fields, Document, Index};
use task::Registered;
use task::testing::{TestHome, Upstream};

use crate::documents::block_on;
use crate::documents::{Check, Place};
use crate::malpedia_stores::everything;
use crate::servers::address;

pub(crate) mod again;
pub(crate) mod events;
pub(crate) mod kills;
pub(crate) mod lists;
pub(crate) mod long;

pub(crate) const TRIALS: &[crate::Case] = &[
    (
        "ten_feeds_of_which_four_are_broken_are_each_named",
        ten_feeds_of_which_four_are_broken_are_each_named,
    ),
    ("two_feeds_corroborate_one_value", two_feeds_corroborate_one_value),
    (
        "what_left_a_list_is_marked_and_a_list_that_shrinks_is_not_believed",
        what_left_a_list_is_marked_and_a_list_that_shrinks_is_not_believed,
    ),
    (
        "a_limit_bounds_and_quick_asks_only_what_is_new",
        a_limit_bounds_and_quick_asks_only_what_is_new,
    ),
    ("no_header_of_a_request_is_stored", no_header_of_a_request_is_stored),
];

pub(crate) const SERVER_CHECKS: &[(&str, Check)] =
    &[("misp_feeds_are_stored_as_in_the_embedded_store", feeds_are_stored_alike)];

const ONE: &str = "11111111-1111-4111-8111-111111111111";
const TWO: &str = "22222222-2222-4222-8222-222222222222";
const LATE: &str = "33333333-3333-4333-8333-333333333333";

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/misp").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn index() -> &'static Index {
    Index::named(INDEX).expect("it is there")
}

/// A feed of the trial's list.
fn feed(id: &str, url: &str, format: &str, more: &str) -> String {
    format!(
        "[[feed]]\nid = \"{id}\"\nname = \"The feed {id}\"\nurl = \"{url}\"\nformat = \"{format}\"\n{more}\n"
    )
}

async fn home(feeds: &str) -> TestHome {
    home_with(feeds, []).await
}

fn clock(instant: &str) -> (String, String) {
    ("MINERVA_CLOCK".to_owned(), instant.to_owned())
}

async fn home_with(feeds: &str, more: impl IntoIterator<Item = (String, String)>) -> TestHome {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("feeds.toml");
    std::fs::write(&path, feeds).expect("it is written");
    let mut settings = vec![("MISP_FEEDS".to_owned(), path.to_string_lossy().into_owned())];
    settings.extend(more);
    TestHome::open(folder, &settings, &[FAMILY.settings]).await.expect("it opens")
}

fn task(name: &str) -> &'static Registered {
    FAMILY.tasks.iter().find(|task| task.name == name).expect("it is listed")
}

async fn sync(home: &TestHome) -> Report {
    home.run(task("sync_all_misp_feeds"), Value::Null).await
}

/// The event that continues a run, by the last that was sent.
fn continuation(home: &TestHome) -> Value {
    let sent = home.continuations();
    json!({
        "source": "minerva", "detail-type": "Minerva Task Continuation", "detail": sent.last().unwrap(),
    })
}

/// A run and its continuations to their end, of which the first has `time`; the last report.
async fn to_the_end(home: &TestHome, time: Duration) -> Report {
    let task = task("sync_all_misp_feeds");
    let mut report = home.run_within(task, Value::Null, time).await;
    while report.continues.is_some() {
        report = home.run(task, continuation(home)).await;
    }
    report
}

async fn documents(home: &TestHome) -> Vec<Document> {
    home.documents(index()).await.expect("it is read")
}

async fn by_value(home: &TestHome, value: &str) -> Value {
    let found = documents(home).await.into_iter().find(|one| one.body["value"] == value);
    Value::Object(found.unwrap_or_else(|| panic!("no `{value}`")).body)
}

fn of<'r>(report: &'r Report, id: &str) -> &'r SourceReport {
    report.sources.iter().find(|source| source.source == id).unwrap_or_else(|| panic!("no {id}"))
}

/// Events, a table and a text, one value of them changed between two rounds.
fn feeds_are_stored_alike(place: &mut Place) {
    block_on(async {
        let upstream = Upstream::start().await;
        infoblox(&upstream, false);
        let csv = String::from_utf8(fixture("csv_feeds/infoblox/hazy_hawk_20250520_iocs.csv"));
        let csv = csv.expect("it is text");
        upstream.put("/rows.csv", csv.clone());
        upstream.put("/text.txt", fixture("freetext_feeds/unit42/Conti_IOCs.txt"));
        let at = |path: &str| format!("{}/{path}", upstream.origin());
        let feeds = feed("events", &at("feed"), "misp", "")
            + &feed("rows", &at("rows.csv"), "csv", "")
            + &feed("text", &at("text.txt"), "freetext", "");
        let clock = clock("2026-11-23T12:00:00Z");
        let server = [
            ("ES_URL".to_owned(), address(place).to_string()),
            ("ES_INDEX_PREFIX".to_owned(), place.stores.es_index_prefix.clone()),
            clock.clone(),
        ];
        let (embedded, server) =
            (home_with(&feeds, [clock]).await, home_with(&feeds, server).await);
        for round in 0..3 {
            if round == 2 {
                // A line less, and one more.
                let rest = csv.trim_end().rsplit_once('\n').expect("it has lines").0;
                upstream
                    .put("/rows.csv", format!("{rest}\ndomain,new[.]example[.]org,x,2026-01-01\n"));
            }
            let (ours, theirs) = (sync(&embedded).await, sync(&server).await);
            assert_eq!((theirs.status, theirs.counts), (Status::Complete, ours.counts));
            assert_eq!((theirs.counts.rejected, theirs.counts.failed), (0, 0), "{theirs:?}");
            let (ours, all) =
                (everything(&embedded, &[INDEX]).await, everything(&server, &[INDEX]).await);
            assert_eq!(all[INDEX].1.len(), ours[INDEX].1.len(), "round {round}");
            for (theirs, ours) in all[INDEX].1.iter().zip(&ours[INDEX].1) {
                assert_eq!(theirs, ours, "round {round}");
            }
            match round {
                0 => assert!(theirs.writes() > 2_000, "{theirs:?}"),
                1 => assert_eq!(theirs.writes(), 0, "{theirs:?}"),
                _ => assert_eq!(theirs.counts.new, 1, "{theirs:?}"),
            }
        }
        // The event gives it still, so it stays; the table does not.
        let has_left = |one: &&Fields| {
            let mut sources = one["sources"].as_array().into_iter().flatten();
            sources.any(|source| source["left_at"].is_string())
        };
        let all = everything(&server, &[INDEX]).await;
        assert_eq!(all[INDEX].1.iter().filter(has_left).count(), 1);
    });
}

/// The manifest of the real feed, which names 17 events, of which one has no file.
fn infoblox_manifest() -> serde_json::Map<String, Value> {
    serde_json::from_slice(&fixture("feeds/infoblox/manifest.json")).unwrap()
}

/// Serves the real feed, with what its manifest names and has no file only `with_missing`; its events.
fn infoblox(upstream: &Upstream, with_missing: bool) -> BTreeMap<String, Value> {
    let mut manifest = infoblox_manifest();
    let mut events = BTreeMap::new();
    manifest.retain(|uuid, _| {
        let path = format!("feeds/infoblox/{uuid}.json");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/misp").join(&path);
        if !file.exists() {
            upstream.lack(&format!("/feed/{uuid}.json"));
            return with_missing;
        }
        let body = fixture(&path);
        events.insert(uuid.clone(), serde_json::from_slice(&body).unwrap());
        upstream.put(&format!("/feed/{uuid}.json"), body);
        true
    });
    upstream.put("/feed/manifest.json", Value::Object(manifest).to_string());
    events
}

/// What holds of every document, wherever it is from.
fn check(document: &Document) {
    let body = &document.body;
    let (value, kind) = (body["value"].as_str().unwrap(), body["type"].as_str().unwrap());
    assert!(!value.contains("hxxp") && !value.contains("[.]") && value.trim() == value, "{body:?}");
    assert!(!value.starts_with('"') && !value.ends_with('"'), "{body:?}");
    if kind == "other" {
        let found = indicator::parse(None, value).map(|found| found.kind.as_str());
        let is_one = found
            .is_ok_and(|kind| !matches!(kind, "filename" | "regkey" | "md5" | "sha1" | "sha256"));
        assert!(!is_one, "it has a type: {body:?}");
    }
    assert!(!body["sources"].as_array().unwrap().is_empty(), "{body:?}");
    assert_eq!(body["event"]["kind"], "enrichment");
}

/// A small event.
fn event(uuid: &str, timestamp: u32, attributes: &Value) -> String {
    json!({"Event": {"uuid": uuid, "info": "X", "date": "2025-01-01", "timestamp": timestamp.to_string(),
        "Tag": [{"name": "tlp:green"}], "Attribute": attributes}})
    .to_string()
}

fn attribute(value: &str, more: &Value) -> Value {
    let mut attribute = json!({"uuid": format!("u-{value}"), "type": "domain", "value": value, "to_ids": true,
        "category": "Network activity", "timestamp": "1735689600", "comment": ""});
    for (key, value) in more.as_object().unwrap() {
        attribute[key] = value.clone();
    }
    attribute
}

/// Serves events under `/feed`, and the manifest that names them.
fn serve_events(upstream: &Upstream, events: &[(&str, u32, Value)]) {
    let mut manifest = serde_json::Map::new();
    for (uuid, timestamp, attributes) in events {
        manifest.insert((*uuid).to_owned(), json!({"timestamp": timestamp, "info": "X"}));
        upstream.put(&format!("/feed/{uuid}.json"), event(uuid, *timestamp, attributes));
    }
    upstream.put("/feed/manifest.json", Value::Object(manifest).to_string());
}

/// A body that comes a byte now and then, for ever.
fn dripping() -> Response {
    let drops = stream::unfold((), |()| async {
        tokio::time::timeout(Duration::from_millis(300), std::future::pending::<()>()).await.ok();
        Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(b" ")), ()))
    });
    Body::from_stream(drops).into_response()
}

fn ten_feeds_of_which_four_are_broken_are_each_named() {
    block_on(async {
        let upstream = Upstream::start().await;
        let at = |path: &str| format!("{}{path}", upstream.origin());
        let mut feeds = String::new();
        for place in 0..6 {
            upstream.put(&format!("/good/{place}"), format!("192.0.2.{place} good-{place}.com\n"));
            feeds +=
                &feed(&format!("good-{place}"), &at(&format!("/good/{place}")), "freetext", "");
        }
        upstream.put(
            "/html",
            "<!DOCTYPE html>\n<html><body>Log in to http://login.example.com/</body></html>",
        );
        feeds += &feed("html", &at("/html"), "freetext", "");
        feeds += &feed("not-found", &at("/nothing"), "csv", "");
        upstream.serve("/drip", |_| dripping());
        upstream.lack("/nothing");
        feeds += &feed("dripping", &at("/drip"), "freetext", "");
        // A manifest that lies: a file that is another event, one that is none, a name that is a path, a digest of something else.
        let plain = |value| attribute(value, &json!({}));
        let manifest = json!({
            ONE: {"timestamp": 1}, TWO: {"timestamp": 2}, "../../secret": {"timestamp": 3},
            LATE: {"timestamp": 4_000_000_000_u32, "integrity:sha256": "00"},
        });
        upstream.put("/feed/manifest.json", manifest.to_string());
        upstream.put(&format!("/feed/{ONE}.json"), event(TWO, 1, &json!([plain("another.com")])));
        upstream.put(&format!("/feed/{TWO}.json"), "<html>gone</html>");
        upstream.put(&format!("/feed/{LATE}.json"), event(LATE, 5, &json!([plain("late.com")])));
        feeds += &feed("lying", &at("/feed"), "misp", "");
        let home = home(&feeds).await;
        let report = home
            .run_within(task("sync_all_misp_feeds"), Value::Null, Duration::from_secs(12))
            .await;
        for place in 0..6 {
            let source = of(&report, &format!("good-{place}"));
            assert_eq!((source.outcome, source.counts.new), (Outcome::Stored, 2), "{source:?}");
        }
        assert_eq!(of(&report, "html").outcome, Outcome::WebPage);
        assert_eq!(of(&report, "not-found").outcome, Outcome::NotFound);
        assert!(
            matches!(of(&report, "dripping").outcome, Outcome::Deferred | Outcome::TimedOut),
            "{report:?}"
        );
        let lying = of(&report, "lying");
        assert_eq!((lying.outcome, lying.counts.new), (Outcome::Stored, 1), "{lying:?}");
        for named in [ONE, TWO, "../../secret", LATE] {
            assert!(lying.notes.iter().any(|note| note.contains(named)), "{named}: {lying:?}");
        }
        let values: BTreeSet<String> = documents(&home)
            .await
            .iter()
            .map(|one| one.body["value"].as_str().unwrap().to_owned())
            .collect();
        assert!(
            values.contains("late.com")
                && !values.contains("another.com")
                && !values.contains("login.example.com")
        );
        assert_eq!(values.len(), 13);
    });
}

fn two_feeds_corroborate_one_value() {
    block_on(async {
        let upstream = Upstream::start().await;
        serve_events(
            &upstream,
            &[(
                ONE,
                100,
                json!([
                    attribute(
                        "evil.com",
                        &json!({"first_seen": "2024-12-31T00:00:00.000000+00:00", "Tag": [{"name": "tlp:amber"}]})
                    ),
                    attribute("evil.com ", &json!({"uuid": "second"})),
                ]),
            )],
        );
        upstream.put("/list", "# head\nEVIL[.]com\n");
        let feeds = feed("events", &format!("{}/feed", upstream.origin()), "misp", "")
            + &feed(
                "list",
                &format!("{}/list", upstream.origin()),
                "freetext",
                "tlp = \"clear\"\ntags = [\"x\"]\nconfidence = 80",
            );
        let home = home_with(&feeds, [clock("2025-03-01T00:00:00Z")]).await;
        let report = sync(&home).await;
        assert_eq!(of(&report, "events").counts.merged, 1);
        let [document] = &documents(&home).await[..] else { panic!("one document") };
        let body = &document.body;
        assert_eq!(
            (&body["sources_count"], &body["tlp"], &body["active"]),
            (&json!(2), &json!("amber"), &json!(true))
        );
        let sources = body["sources"].as_array().unwrap();
        assert_eq!(sources.len(), 3);
        let list = sources.iter().find(|source| source["id"] == "list").unwrap();
        assert_eq!(
            (&list["raw"], &list["tlp"], &list["first_seen"]),
            (&json!("EVIL[.]com"), &json!("clear"), &json!("2025-03-01T00:00:00Z"))
        );
        assert_eq!(body["first_seen"], "2024-12-31T00:00:00Z");
        assert_eq!(body["threat"]["indicator"]["marking"]["tlp"], "AMBER");
        assert_eq!(sync(&home).await.writes(), 0);
    });
}

fn what_left_a_list_is_marked_and_a_list_that_shrinks_is_not_believed() {
    block_on(async {
        let upstream = Upstream::start().await;
        let list =
            |from: u32, to: u32| (from..to).map(|n| format!("192.0.2.{n}\n")).collect::<String>();
        upstream.put("/list", list(0, 40));
        let home =
            home(&feed("list", &format!("{}/list", upstream.origin()), "freetext", "")).await;
        assert_eq!(sync(&home).await.counts.new, 40);
        // Ten left, and ten came.
        upstream.put("/list", list(10, 50));
        let report = sync(&home).await;
        assert_eq!(report.counts.new, 10, "{report:?}");
        assert!(
            of(&report, "list").notes.iter().any(|note| note.contains("10 left")),
            "{report:?}"
        );
        let left = by_value(&home, "192.0.2.3").await;
        assert!(
            left["active"] == false && !left["left_at"].is_null() && !left["expires_at"].is_null()
        );
        let active =
            async || documents(&home).await.iter().filter(|one| one.body["active"] == true).count();
        assert_eq!(active().await, 40);
        for (body, outcome) in [
            (String::new(), Outcome::Empty),
            ("# nothing today\n".to_owned(), Outcome::Empty),
            (list(10, 14), Outcome::Shrunk),
        ] {
            upstream.put("/list", body.clone());
            let report = sync(&home).await;
            let source = of(&report, "list");
            assert_eq!((source.outcome, report.writes()), (outcome, 0), "{source:?}");
            assert!(source.problem.as_ref().unwrap().message.contains("had 40"), "{source:?}");
            assert_eq!(active().await, 40, "{body}");
        }
        // Back again: nothing to write. One comes back: that one.
        upstream.put("/list", list(10, 50));
        assert_eq!(sync(&home).await.writes(), 0);
        upstream.put("/list", list(9, 49));
        sync(&home).await;
        assert_eq!(by_value(&home, "192.0.2.9").await["active"], true);
        assert_eq!(by_value(&home, "192.0.2.49").await["active"], false);
    });
    // A feed of events alike.
    block_on(async {
        let upstream = Upstream::start().await;
        let plain = |value| attribute(value, &json!({}));
        serve_events(
            &upstream,
            &[(ONE, 100, json!([plain("one.com")])), (TWO, 200, json!([plain("two.com")]))],
        );
        let home = home(&feed("events", &format!("{}/feed", upstream.origin()), "misp", "")).await;
        assert_eq!(sync(&home).await.counts.new, 2);
        upstream.put("/feed/manifest.json", "{}");
        for _ in 0..2 {
            let report = sync(&home).await;
            assert_eq!(
                (of(&report, "events").outcome, report.writes()),
                (Outcome::Empty, 0),
                "{report:?}"
            );
        }
        assert_eq!(by_value(&home, "one.com").await["active"], true);
    });
}

fn a_limit_bounds_and_quick_asks_only_what_is_new() {
    block_on(async {
        let upstream = Upstream::start().await;
        let plain = |value| attribute(value, &json!({}));
        serve_events(
            &upstream,
            &[
                (ONE, 300, json!([plain("one.com")])),
                (TWO, 200, json!([plain("two.com")])),
                (LATE, 100, json!([plain("late.com")])),
            ],
        );
        let list: String = (0..100).map(|n| format!("h{n}.evil.com\n")).collect();
        let list = Bytes::from(list);
        upstream.serve("/list", move |_| list.clone().into_response());
        let feeds = feed("events", &format!("{}/feed", upstream.origin()), "misp", "")
            + &feed("list", &format!("{}/list", upstream.origin()), "freetext", "enabled = true");
        let home = home(&feeds).await;
        let single = async |input: Value| home.run(task("sync_single_feed"), input).await;
        // The next ones come, those that were changed longest ago first.
        let values = async || {
            documents(&home)
                .await
                .iter()
                .map(|one| one.body["value"].as_str().unwrap().to_owned())
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(single(json!({"feed": "events", "limit": 2})).await.counts.new, 2);
        assert_eq!(values().await, ["late.com", "two.com"].map(ToOwned::to_owned).into());
        assert_eq!(single(json!({"feed_type": "events", "limit": 2})).await.counts.new, 1);
        assert_eq!(single(json!({"feed": "The feed list", "limit": 10})).await.counts.new, 10);
        assert_eq!(single(json!({"feed": "list", "limit": 10})).await.writes(), 0);
        assert_eq!(sync(&home).await.counts.new, 90);
        upstream.asked();
        let quick = home.run(task("quick_sync_all_feeds"), Value::Null).await;
        assert_eq!(upstream.asked(), ["/feed/manifest.json"], "{quick:?}");
        assert_eq!(
            (of(&quick, "list").outcome, of(&quick, "events").outcome),
            (Outcome::Skipped, Outcome::NotModified)
        );
        for wrong in [json!({}), json!({"feed": "nope"})] {
            let report = single(wrong).await;
            assert_eq!(report.error.unwrap().class, base::Class::Config);
        }
    });
}

fn no_header_of_a_request_is_stored() {
    block_on(async {
        let upstream = Upstream::start().await;
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "hunter2-secret\n").unwrap();
        upstream.put("/list", "evil.com hunter2-other.com\n");
        serve_events(&upstream, &[(ONE, 1, json!([attribute("one.com", &json!({}))]))]);
        let headers = format!("headers = {{ Auth-Key = \"file:{}\" }}", key.display());
        let feeds = feed("list", &format!("{}/list", upstream.origin()), "freetext", &headers)
            + &feed("events", &format!("{}/feed", upstream.origin()), "misp", &headers)
            + &feed(
                "secret",
                &format!("{}/list", upstream.origin()),
                "freetext",
                "headers = { auth-key = \"secret:none\" }",
            )
            + &feed(
                "no-file",
                &format!("{}/list", upstream.origin()),
                "misp",
                "headers = { K = \"file:/not/there\" }",
            );
        let home = home(&feeds).await;
        let report = sync(&home).await;
        assert_eq!(report.counts.new, 3, "{report:?}");
        assert_eq!(of(&report, "no-file").outcome, Outcome::Misconfigured);
        assert_eq!(of(&report, "secret").outcome, Outcome::Misconfigured);
        assert!(upstream.headers().iter().all(|headers| headers["auth-key"] == "hunter2-secret"));
        let shown = serde_json::to_string(&report).unwrap();
        let stored = documents(&home).await;
        let stored: String =
            stored.into_iter().map(|one| Value::Object(one.body).to_string()).collect();
        assert!(!stored.contains("hunter2-secret") && !shown.contains("hunter2-secret"));
    });
}
