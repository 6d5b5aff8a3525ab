//! Runs of a task from end to end: the runner's binary, its function as a child, feeds on loopback, the embedded store.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use expect_test::expect;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::home::{
    ALL, Home, Running, Upstream, eventually_within, feed, fixture, has_threads, numbered, respond,
    signal,
};

/// Every trial with its name, for the main of the tests.
macro_rules! trials {
    ($($name:ident)*) => {
        pub(crate) const TRIALS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

trials! {
    real_feeds_are_stored_and_a_second_run_writes_nothing
    an_article_has_every_field_of_its_record
    an_item_without_a_date_is_stored_once
    an_edited_item_changes_its_document_and_what_was_removed_is_null
    doubled_items_of_a_feed_are_merged
    a_run_in_which_every_source_fails_is_failed
    what_the_caller_got_wrong_is_usage_and_named
    a_slot_runs_once_however_often_it_is_delivered
    a_failed_slot_runs_again_when_it_is_delivered_again
    a_function_that_was_killed_may_be_tried_again
    a_source_is_visited_by_one_run_at_a_time
    what_time_did_not_allow_is_done_by_continuations
    a_source_that_fails_in_a_continuation_is_an_outcome_and_no_failed_run
    a_doubled_continuation_does_nothing
    a_new_run_takes_up_what_an_interrupted_one_left
    functions_built_apart_do_the_same
}

/// A scheduled event as EventBridge sends it.
fn event(time: &str) -> String {
    json!({
        "version": "0", "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "detail-type": "Scheduled Event",
        "source": "aws.events", "account": "123456789012", "time": time, "region": "sa-east-1",
        "resources": ["arn:aws:events:sa-east-1:123456789012:rule/collect"], "detail": {},
    })
    .to_string()
}

fn outcomes(report: &Value) -> Vec<(&str, &str)> {
    let sources = report["sources"].as_array().unwrap().iter();
    sources
        .map(|source| (source["source"].as_str().unwrap(), source["outcome"].as_str().unwrap()))
        .collect()
}

/// `found, new, changed, unchanged, merged` of a report.
#[track_caller]
fn counts(report: &Value) -> [u64; 5] {
    ["found", "new", "changed", "unchanged", "merged"]
        .map(|name| report[name].as_u64().unwrap_or_else(|| panic!("no `{name}`: {report}")))
}

fn article<'a>(articles: &'a [Value], guid: &str) -> &'a Value {
    articles.iter().find(|article| article["guid"] == guid).unwrap()
}

// What is stored.

/// Real feeds of every make.
pub(crate) const REAL: &[&str] = &[
    "feed-rs/rss2/rss_2.0_cloudflare.xml",
    "feed-rs/rss2/rss_2.0_spiegel.xml",
    "feed-rs/rss2/rss_2.0_element_io.xml",
    "feed-rs/rss1/rss_1.0_debian.xml",
    "feed-rs/rss0/rss_0.91_encoding_1.xml",
    "feed-rs/atom/atom_mediarss_reddit_1.xml",
    "feed-rs/atom/atom_example_2.xml",
    "feed-rs/jsonfeed/jsonfeed_example_1.json",
];

fn real_feeds_are_stored_and_a_second_run_writes_nothing() {
    let upstream = Upstream::start(2);
    let ids: Vec<String> = (0..REAL.len()).map(|number| format!("real-{number}")).collect();
    // Every other one has validators and is answered with 304; the rest is read and compared.
    let sources: Vec<(&str, String)> = ids
        .iter()
        .zip(REAL)
        .enumerate()
        .map(|(number, (id, name))| {
            let tagged = number % 2 == 0;
            let body = fixture(name);
            let url =
                if tagged { upstream.tagged(id, "v1", body) } else { upstream.body(id, body) };
            (id.as_str(), url)
        })
        .collect();
    let home = Home::of(&sources);

    let first = home.report(&[ALL]);
    assert_eq!(first["status"], "complete", "{first}");
    let [found, new, changed, unchanged, merged] = counts(&first);
    assert!(new > 30 && found == new + merged && changed + unchanged == 0, "{first}");
    let stored = home.documents();
    assert_eq!(stored.lines().count() as u64, new);

    let second = home.report(&[ALL]);
    assert_eq!(second["status"], "complete", "{second}");
    assert_eq!(counts(&second)[1..3], [0, 0], "{second}");
    for (id, outcome) in outcomes(&second) {
        let number: usize = id.trim_start_matches("real-").parse().unwrap();
        assert_eq!(
            outcome,
            if number.is_multiple_of(2) { "not_modified" } else { "unchanged" },
            "{id}"
        );
    }
    assert_eq!(home.documents(), stored, "the second run wrote something");
    assert_eq!(upstream.asked("real-0"), 2, "one request a visit");
}

fn an_article_has_every_field_of_its_record() {
    let upstream = Upstream::start(1);
    let url = upstream.body("spiegel", fixture("feed-rs/rss2/rss_2.0_spiegel.xml"));
    let host = url.trim_end_matches("/spiegel").to_owned();
    let home = Home::of(&[("spiegel", url)]);
    home.report(&[ALL]);
    let mut article = home.articles().swap_remove(0);
    // These depend on the address, whose port is another one each time.
    assert_eq!(article["content_hash"].as_str().unwrap().len(), 64);
    article["content_hash"] = json!("…");
    article["owners"]["hashes"]["rss"] = json!("…");
    let text = serde_json::to_string_pretty(&article).unwrap().replace(&host, "http://upstream");
    expect![[r#"
        {
          "@timestamp": "2021-02-06T23:01:00Z",
          "_id": "4ac76b8cac06655fb6949bfcfb521318de53f30736aa98e231a8a4d9cee5882d",
          "active": true,
          "author": "DER SPIEGEL",
          "authors": [
            "DER SPIEGEL"
          ],
          "category": "news",
          "collected_at": "2026-03-01T12:00:00Z",
          "content": "Die wichtigsten Nachrichten aus der SPIEGEL-Redaktion.\nSee omnystudio.com/listener for privacy information.",
          "content_hash": "…",
          "cves": [],
          "feed_description": "Die wichtigsten Nachrichten des Tages – ergänzt um Meinungen und Empfehlungen aus der SPIEGEL-Redaktion. Wochentags aktualisieren wir morgens, mittags und abends unsere Meldungen. Am Wochenende blicken wir zurück auf die vergangene Woche – und erklären, was in der nächsten Woche wichtig wird.",
          "feed_link": "https://www.spiegel.de/thema/spiegel-update/",
          "feed_name": "Source spiegel",
          "feed_title": "SPIEGEL Update – Die Nachrichten",
          "feed_url": "http://upstream/spiegel",
          "first_seen": "2026-03-01T12:00:00Z",
          "guid": "c7e3cca2-665e-4bc4-bcac-acc6011b9fa2",
          "id": "4ac76b8cac06655fb6949bfcfb521318de53f30736aa98e231a8a4d9cee5882d",
          "iocs": [],
          "language": "de",
          "last_seen": "2021-02-06T23:01:00Z",
          "link": "https://omny.fm/shows/spiegel-update-die-nachrichten/07-02-die-wochenvorschau-lockdown-verl-ngerung-kri",
          "link_canonical": "https://omny.fm/shows/spiegel-update-die-nachrichten/07-02-die-wochenvorschau-lockdown-verl-ngerung-kri",
          "media": [
            {
              "type": "audio/mpeg",
              "url": "https://traffic.omny.fm/d/clips/5ac1e950-45c7-4eb7-87c0-aa0f018441b8/bb17ca27-51f4-4349-bc1e-abc00102c975/c7e3cca2-665e-4bc4-bcac-acc6011b9fa2/audio.mp3?utm_source=Podcast&in_playlist=4c18e072-24d2-4d60-9a42-abc00102c97e&t=1612652510"
            },
            {
              "type": "image/jpeg",
              "url": "https://www.omnycontent.com/d/programs/5ac1e950-45c7-4eb7-87c0-aa0f018441b8/bb17ca27-51f4-4349-bc1e-abc00102c975/image.jpg?t=1589902935&size=Large"
            }
          ],
          "owners": {
            "hashes": {
              "rss": "…"
            },
            "shared": {
              "tags": {
                "rss": []
              }
            }
          },
          "published": "2021-02-06T23:01:00Z",
          "published_from": "source",
          "published_in_future": false,
          "published_raw": null,
          "revision": 1,
          "source_family": "rss",
          "source_id": "spiegel",
          "source_name": "Source spiegel",
          "source_type": "rss_feed",
          "source_url": "http://upstream/spiegel",
          "summary": "Die wichtigsten Nachrichten aus der SPIEGEL-Redaktion. See omnystudio.com/listener for privacy information.",
          "tags": [],
          "title": "07.02. – die Wochenvorschau: Lockdown-Verlängerung, Kriegsverbrecher vor Gericht, Super Bowl, Karneval",
          "tlp": "clear",
          "updated": null
        }"#]].assert_eq(&text);
}

fn an_item_without_a_date_is_stored_once() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("undated", upstream.body("undated", feed(&[("a", "No date", None)])))]);
    for (clock, new) in
        [("2026-03-01T00:00:00Z", 1), ("2026-03-02T00:00:00Z", 0), ("2026-03-03T00:00:00Z", 0)]
    {
        let ran = home.run(&["run", ALL, "--json", "--clock", clock]);
        assert_eq!(ran.ends_with(0).json()["new"], new, "{clock}: {ran:?}");
        assert_eq!(ran.json()["changed"], 0, "{clock}");
    }
    let articles = home.articles();
    assert_eq!(articles.len(), 1);
    assert_eq!(articles[0]["published"], "2026-03-01T00:00:00Z", "when it was first collected");
    assert_eq!(articles[0]["published_from"], "collected");
}

fn an_edited_item_changes_its_document_and_what_was_removed_is_null() {
    let upstream = Upstream::start(1);
    let item = |title: &str, rest: &str| {
        format!(
            "<rss version='2.0'><channel><title>T</title><item><guid>a</guid><title>{title}</title>{rest}</item></channel></rss>"
        )
    };
    let whole = item(
        "First",
        "<description>About CVE-2026-1234</description><author>ana@example.org</author><category>x</category><pubDate>Sun, 01 Mar 2026 08:00:00 GMT</pubDate>",
    );
    let home = Home::of(&[("edited", upstream.body("edited", whole))]);
    home.report(&[ALL]);
    let before = home.articles();
    assert_eq!(before[0]["cves"], json!(["CVE-2026-1234"]));

    upstream.body("edited", item("Second", "<pubDate>Sun, 01 Mar 2026 08:00:00 GMT</pubDate>"));
    let report = home.run(&["run", ALL, "--json", "--clock", "2026-03-02T00:00:00Z"]).json();
    assert_eq!(counts(&report), [1, 0, 1, 0, 0], "{report}");
    let after = home.articles();
    assert_eq!(after.len(), 1, "an edit is no second document");
    let article = &after[0];
    assert_eq!(article["title"], "Second");
    assert_eq!(article["author"], Value::Null);
    assert_eq!(article["cves"], json!([]));
    for kept in ["id", "first_seen", "collected_at", "published"] {
        assert_eq!(article[kept], before[0][kept], "{kept}");
    }
    assert_eq!(article["revision"], 2);
}

fn doubled_items_of_a_feed_are_merged() {
    let upstream = Upstream::start(1);
    // With another title it would be another item: `feed_items`.
    let items = [("a", "New", None), ("b", "Other", None), ("a", "New", None)];
    let home = Home::of(&[("doubled", upstream.body("doubled", feed(&items)))]);
    assert_eq!(counts(&home.report(&[ALL])), [3, 2, 0, 0, 1]);
    let articles = home.articles();
    assert_eq!(article(&articles, "a")["title"], "New");
    assert_eq!(counts(&home.report(&[ALL])), [3, 0, 0, 2, 1]);
}

// What fails, and how.

fn a_run_in_which_every_source_fails_is_failed() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[
        ("broken", upstream.status("broken", "500 Internal Server Error", "")),
        ("missing", upstream.status("missing", "404 Not Found", "")),
    ]);
    let ran = home.run(&["run", ALL, "--json"]);
    let report = ran.ends_with(1).json();
    assert_eq!(
        (&report["status"], &report["error"]["class"]),
        (&json!("failed"), &json!("upstream"))
    );
    assert_eq!(outcomes(&report), [("broken", "status"), ("missing", "not_found")]);
    assert_eq!(home.run(&["runs", "--json"]).json()[0]["status"], "failed");
}

fn what_the_caller_got_wrong_is_usage_and_named() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 1)))]);
    let check = |arguments: &[&str], words: &[&str]| {
        let ran = home.run(&[&["run"], arguments].concat());
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        for word in words {
            assert!(
                ran.err.contains(word) || ran.out.contains(word),
                "{arguments:?} should say {word}: {ran:?}"
            );
        }
    };
    check(
        &["collect_category", "--input", r#"{"categoris":["news"]}"#],
        &["categoris", "`categories`"],
    );
    check(&["collect_category", "--input", r#"{"categories":["nws"]}"#], &["`nws`", "news"]);
    check(
        &["collect_specific_sources", "--input", r#"{"sources":["b"]}"#],
        &["`b`", "sources list"],
    );
    check(&[ALL, "--input", r#"{"sources":["a"]}"#], &["sources"]);
    check(&["collect_category", "--input", "[]"], &["collect_category", "no JSON object"]);
    check(&[ALL, "--input", "categories=news"], &["categories=news", "JSON"]);
    check(
        &["colect_all_rss_feed"],
        &["colect_all_rss_feed", "did you mean `collect_all_rss_feeds`"],
    );
    check(&[ALL, "--clock", "noon"], &["noon", "MINERVA_CLOCK"]);
    check(&[ALL, "--functions", "/nowhere"], &["/nowhere", "cargo build"]);

    home.list("[[source]]\nid = \"a\"\nname = \"A\"\nurl = \"no address\"\ncategory = \"news\"\n");
    check(&[ALL], &["sources.toml", "url = \"no address\""]);
    home.list("[[source]\n");
    check(&[ALL], &["sources.toml"]);
    std::fs::remove_file(home.path("sources.toml")).unwrap();
    check(&[ALL], &["sources.toml", "RSS_SOURCES"]);
    assert_eq!(upstream.asked("a"), 0, "nothing was asked");
}

// Slots and continuations.

fn a_slot_runs_once_however_often_it_is_delivered() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.slow("a", Duration::from_millis(700), numbered(0, 3)))]);
    let input = event("2026-03-01T05:00:12Z");
    let arguments = ["run", ALL, "--json", "--input", &input];
    let both = [home.spawn(&arguments), home.spawn(&arguments)].map(Running::end);
    let mut statuses =
        both.each_ref().map(|ran| ran.ends_with(0).json()["status"].as_str().unwrap().to_owned());
    statuses.sort();
    assert_eq!(statuses, ["complete", "skipped"], "{both:?}");
    assert!(both.iter().all(|ran| ran.json()["slot"] == "2026-03-01T05:00:00Z"), "{both:?}");

    let third = home.run(&arguments).json();
    assert_eq!(third["status"], "skipped", "{third}");
    assert!(third["reason"].as_str().unwrap().contains("complete"), "{third}");
    assert_eq!(upstream.asked("a"), 1);
    let runs = home.run(&["runs", "--json"]).json();
    assert_eq!(runs.as_array().unwrap().len(), 1, "a slot is one run: {runs}");
}

fn a_failed_slot_runs_again_when_it_is_delivered_again() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.status("a", "500 Internal Server Error", ""))]);
    let input = event("2026-03-01T05:00:00Z");
    let arguments = ["run", ALL, "--json", "--input", &input];
    let first = home.run(&arguments).ends_with(1).json();
    upstream.body("a", numbered(0, 3));
    let second = home.run(&arguments).ends_with(0).json();
    assert_eq!(
        (&second["status"], &second["attempt"]),
        (&json!("complete"), &json!(2)),
        "{second}"
    );
    assert_eq!((&second["run_id"], &second["new"]), (&first["run_id"], &json!(3)));
}

fn a_function_that_was_killed_may_be_tried_again() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.slow("a", Duration::from_secs(10), numbered(0, 3)))]);
    let input = event("2026-03-01T05:00:00Z");
    let arguments = ["run", ALL, "--json", "--input", &input];
    let running = home.spawn(&arguments);
    assert!(eventually_within(Duration::from_secs(20), || upstream.asked("a") == 1));
    let function = home.processes().into_iter().find(|pid| *pid != running.pid()).unwrap();
    signal(function, Signal::KILL);
    assert!(eventually_within(Duration::from_secs(20), || !has_threads(function)));
    let report = running.end().ends_with(1).json();
    let class = serde_json::from_value::<base::Class>(report["error"]["class"].clone()).unwrap();
    assert!(class.is_retried(), "Lambda tries such a run again: {report}");
    upstream.body("a", numbered(0, 3));
    let second = home.run(&arguments).ends_with(0).json();
    assert_eq!(
        (&second["status"], &second["attempt"]),
        (&json!("complete"), &json!(2)),
        "{second}"
    );
}

fn a_source_is_visited_by_one_run_at_a_time() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[
        ("quick", upstream.body("quick", numbered(0, 3))),
        ("slow", upstream.slow("slow", Duration::from_millis(1500), numbered(1, 3))),
    ]);
    let first = home.spawn(&["run", ALL, "--json"]);
    assert!(eventually_within(Duration::from_secs(20), || upstream.asked("slow") == 1));
    let second = home.run(&["run", "collect_category", "--json"]).ends_with(0).json();
    assert_eq!(outcomes(&second)[1], ("slow", "busy"), "{second}");
    assert_eq!(second["status"], "complete", "who is at it does the work: {second}");
    assert_eq!(first.end().ends_with(0).json()["status"], "complete");
    assert_eq!((upstream.asked("slow"), home.articles().len()), (1, 6));
}

/// Kills the runner and its function, and waits until the kernel has taken back their locks.
fn kill_all(home: &Home) {
    let all = home.processes();
    all.iter().for_each(|pid| signal(*pid, Signal::KILL));
    let gone = || all.iter().all(|pid| !has_threads(*pid));
    assert!(eventually_within(Duration::from_secs(20), gone), "{all:?}");
}

/// Sources of which some answer at once and the others after `wait`.
fn slow_ones(
    upstream: &Upstream,
    quick: usize,
    slow: usize,
    wait: Duration,
) -> Vec<(String, String)> {
    (0..quick + slow)
        .map(|number| {
            let id = format!("s-{number:02}");
            let body = numbered(number, 4);
            let url = if number < quick {
                upstream.body(&id, body)
            } else {
                upstream.slow(&id, wait, body)
            };
            (id, url)
        })
        .collect()
}

fn borrowed(sources: &[(String, String)]) -> Vec<(&str, String)> {
    sources.iter().map(|(id, url)| (id.as_str(), url.clone())).collect()
}

fn what_time_did_not_allow_is_done_by_continuations() {
    // One port, on which two are answered at once: twelve slow sources take six turns of 400 ms, a step has about a second.
    let upstream = Upstream::start(1);
    let sources = slow_ones(&upstream, 2, 12, Duration::from_millis(400));
    let home = Home::of(&borrowed(&sources));
    let report = home.report(&[ALL, "--timeout", "2"]);
    assert_eq!(report["status"], "complete", "{report}");
    assert!(report["continues"].is_null(), "{report}");
    assert_eq!(outcomes(&report).len(), 14);
    assert!(outcomes(&report).iter().all(|(_, outcome)| *outcome == "stored"), "{report}");
    assert_eq!(counts(&report), [56, 56, 0, 0, 0], "{report}");
    assert!(report["attempt"].as_u64().unwrap() >= 2, "there was a continuation: {report}");
    assert_eq!(home.articles().len(), 56);
    let runs = home.run(&["runs", "--json"]).json();
    assert_eq!(runs.as_array().unwrap().len(), 1, "{runs}");
    assert_eq!(runs[0]["status"], "complete");
}

fn a_source_that_fails_in_a_continuation_is_an_outcome_and_no_failed_run() {
    let upstream = Upstream::start(2);
    let quick = upstream.body("quick", numbered(0, 4));
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let slow = upstream.serve("slow", move |_, stream| {
        if tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_secs(4));
        }
        respond(stream, "404 Not Found", "", b"");
    });
    let home = Home::of(&[("quick", quick), ("slow", slow)]);
    let ran = home.run(&["run", ALL, "--json", "--timeout", "2"]);
    let report = ran.ends_with(0).json();
    assert_eq!((&report["status"], &report["new"]), (&json!("partial"), &json!(4)), "{report}");
    assert_eq!(outcomes(&report), [("quick", "stored"), ("slow", "not_found")]);
}

fn a_doubled_continuation_does_nothing() {
    let upstream = Upstream::start(1);
    let sources = slow_ones(&upstream, 1, 10, Duration::from_millis(500));
    let home = Home::of(&borrowed(&sources));
    // The first step of a slot ends with a continuation; the runner is killed before that has ended.
    let input = event("2026-03-01T05:00:00Z");
    let running = home.spawn(&["run", ALL, "--json", "--timeout", "2", "--input", &input]);
    let continuing = || {
        let runs = home.run(&["runs", "--json"]).json();
        runs[0]["report"]["continues"] == 1
    };
    assert!(eventually_within(Duration::from_secs(20), continuing));
    kill_all(&home);
    drop(running);
    let run = home.run(&["runs", "--json"]).json()[0].clone();
    let continuation = json!({
        "source": "minerva", "detail-type": "Minerva Task Continuation",
        "detail": {"task": ALL, "run_id": run["run_id"], "step": 1},
    })
    .to_string();

    let arguments = ["run", ALL, "--json", "--input", &continuation];
    let both = [home.spawn(&arguments), home.spawn(&arguments)].map(Running::end);
    let mut statuses =
        both.each_ref().map(|ran| ran.ends_with(0).json()["status"].as_str().unwrap().to_owned());
    statuses.sort();
    assert_eq!(statuses, ["complete", "skipped"], "{both:?}");
    let stored = home.documents();
    assert_eq!(stored.lines().count(), 44, "all eleven sources");
    let again = home.run(&arguments).ends_with(0).json();
    assert_eq!(again["status"], "skipped", "{again}");
    let slot = home.run(&["run", ALL, "--json", "--input", &input]).ends_with(0).json();
    assert_eq!(slot["status"], "skipped", "the slot is complete now: {slot}");
    assert_eq!(home.documents(), stored);
}

fn a_new_run_takes_up_what_an_interrupted_one_left() {
    let upstream = Upstream::start(1);
    let home = Home::of(&borrowed(&slow_ones(&upstream, 1, 10, Duration::from_millis(500))));
    let all: Vec<String> = (0..11).map(|number| format!("s-{number:02}")).collect();
    let every = json!({"sources": all}).to_string();
    let one = json!({"sources": ["s-00"]}).to_string();
    let task = "collect_specific_sources";
    let running = home.spawn(&["run", task, "--timeout", "2", "--input", &every]);
    let continuing = || home.run(&["runs", "--json"]).json()[0]["report"]["continues"] == 1;
    assert!(eventually_within(Duration::from_secs(20), continuing));
    kill_all(&home);
    drop(running);
    // Asked for one source only, the next run has the orphan's rest on its hands too.
    let report = home.report(&[task, "--input", &one]);
    assert_eq!(report["status"], "complete", "{report}");
    assert_eq!(home.articles().len(), 44, "{report}");
    let runs = home.run(&["runs", "--json"]).json();
    let mut statuses: Vec<&str> =
        runs.as_array().unwrap().iter().map(|run| run["status"].as_str().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, ["complete", "partial"], "nothing is running any more: {runs}");
}

// Two ways to start a function.

const RING_LOOKS_AT: [&str; 8] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_PKG_NAME",
    "CARGO_PKG_VERSION",
    "CARGO_PKG_VERSION_MAJOR",
    "CARGO_PKG_VERSION_MINOR",
    "CARGO_PKG_VERSION_PATCH",
    "CARGO_PKG_VERSION_PRE",
];

/// The folder of every task's own binary: the one that `MINERVA_FUNCTIONS` names, or they are built when they are first
/// asked for.
pub(crate) fn built_apart() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let named = || base::config::variable("MINERVA_FUNCTIONS").map(PathBuf::from);
    BUILT.get_or_init(|| named().unwrap_or_else(build_apart)).clone()
}

fn build_apart() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_runner")).parent().unwrap();
    let profile = folder.file_name().unwrap().to_str().unwrap();
    // Together with the tests, or cargo chooses other features for the libraries; and without what cargo told this
    // process, which `ring` takes for a change: either compiles half of the libraries once more, and then again.
    let mut build = Command::new(env!("CARGO"));
    for name in RING_LOOKS_AT {
        build.env_remove(name);
    }
    let built = build
        .args(["build", "--quiet", "--workspace", "--bins"])
        .args(["--profile", if profile == "debug" { "dev" } else { profile }])
        .arg("--target-dir")
        .arg(folder.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.unwrap().success());
    folder.to_path_buf()
}

fn functions_built_apart_do_the_same() {
    let folder = built_apart();
    let upstream = Upstream::start(2);
    let ids: Vec<String> = (0..REAL.len()).map(|number| format!("real-{number}")).collect();
    let mut sources: Vec<(&str, String)> = ids
        .iter()
        .zip(REAL)
        .map(|(id, name)| (id.as_str(), upstream.body(id, fixture(name))))
        .collect();
    sources.push(("missing", upstream.status("missing", "404 Not Found", "")));
    let (own, apart) = (Home::of(&sources), Home::of(&sources));
    let reports =
        [own.report(&[ALL]), apart.report(&[ALL, "--functions", folder.to_str().unwrap()])];
    let [own_report, apart_report] = reports.map(without_volatile_numbers);
    assert_eq!(own_report, apart_report);
    assert_eq!(own.documents(), apart.documents());
}

/// A report without what differs from run to run: its id, and the time it took.
fn without_volatile_numbers(mut report: Value) -> Value {
    report["run_id"] = Value::Null;
    report["took_ms"] = Value::Null;
    for source in report["sources"].as_array_mut().unwrap() {
        source["took_ms"] = Value::Null;
    }
    report
}
