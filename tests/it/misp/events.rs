//! Feeds in MISP's own format: real ones accounted for and held against `PyMISP`, and what of one is read again.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use base::report::{Outcome, Status};
use serde_json::{Value, json};
use task::testing::Upstream;

use super::{
    LATE, ONE, TWO, attribute, by_value, check, documents, event, feed, fixture, home, index,
    infoblox, infoblox_manifest, of, serve_events, sync, task,
};
use crate::documents::block_on;
use crate::documents::cache;

pub(crate) const TRIALS: &[crate::Case] = &[
    (
        "every_attribute_of_a_real_feed_is_accounted_for",
        every_attribute_of_a_real_feed_is_accounted_for,
    ),
    ("events_of_every_shape_are_read", events_of_every_shape_are_read),
    ("pymisp_reads_the_same_types_and_values", pymisp_reads_the_same_types_and_values),
    ("a_feed_twice_is_its_manifest_and_no_write", a_feed_twice_is_its_manifest_and_no_write),
    ("a_changed_event_is_its_own_writes_only", a_changed_event_is_its_own_writes_only),
    (
        "a_missing_event_is_asked_for_again_and_holds_up_none",
        a_missing_event_is_asked_for_again_and_holds_up_none,
    ),
];

/// The numbers of attributes of events as `serde_json` reads them: of the event and of its objects.
fn attributes(event: &Value) -> u64 {
    let event = event.get("response").unwrap_or(event);
    let event = event.as_array().map_or(event, |events| &events[0]);
    let event = event.get("Event").unwrap_or(event);
    let own = event["Attribute"].as_array().map_or(0, Vec::len);
    let objects = event["Object"].as_array().into_iter().flatten();
    let of_objects: usize =
        objects.map(|object| object["Attribute"].as_array().map_or(0, Vec::len)).sum();
    (own + of_objects) as u64
}

fn every_attribute_of_a_real_feed_is_accounted_for() {
    block_on(async {
        let upstream = Upstream::start().await;
        let events = infoblox(&upstream, true);
        let home =
            home(&feed("infoblox", &format!("{}/feed", upstream.origin()), "misp", "")).await;
        let report = sync(&home).await;
        assert_eq!(report.status, Status::Complete, "{report:?}");
        let source = of(&report, "infoblox");
        let attributes: usize = events
            .values()
            .map(|event| event["Event"]["Attribute"].as_array().unwrap().len())
            .sum();
        assert_eq!(attributes, 2_329);
        let counts = source.counts;
        assert_eq!(counts.found, 2_329, "{counts:?}");
        assert_eq!((counts.rejected, counts.filtered, counts.failed), (0, 0, 0), "{report:?}");
        let stored = documents(&home).await;
        assert_eq!(counts.new, stored.len() as u64);
        assert!(
            source.notes.iter().any(|note| note.contains("454d994e") && note.contains("404")),
            "{source:?}"
        );
        stored.iter().for_each(check);
        // Each value of each event, as it was given, is in the document of its type and value, under its event.
        let mut given: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for document in &stored {
            for source in document.body["sources"].as_array().unwrap() {
                let raw = source.get("raw").unwrap_or(&document.body["value"]);
                let event = source["event"].as_str().unwrap().to_owned();
                let uuids = given.entry((event, raw.as_str().unwrap().to_owned())).or_default();
                uuids.insert(source["attribute_uuid"].as_str().unwrap().to_owned());
            }
        }
        for (uuid, event) in &events {
            for attribute in event["Event"]["Attribute"].as_array().unwrap() {
                let key = (uuid.clone(), attribute["value"].as_str().unwrap().trim().to_owned());
                let uuids = given.get(&key).unwrap_or_else(|| panic!("{key:?} is not stored"));
                assert!(uuids.contains(attribute["uuid"].as_str().unwrap()), "{key:?}");
            }
        }
        let tlp: BTreeSet<&str> =
            stored.iter().filter_map(|one| one.body["tlp"].as_str()).collect();
        assert_eq!(tlp, BTreeSet::from(["clear"]), "`tlp:white` and `tlp:clear` are one");
        let wrong = by_value(&home, "https://hth-cn.com/").await;
        let raw = wrong["sources"].as_array().unwrap().iter().filter_map(|one| one["raw"].as_str());
        assert!(raw.into_iter().any(|raw| raw == "hxxps://hth-cn.com"), "{wrong}");
        assert_eq!(wrong["type"], "url");
    });
}

fn events_of_every_shape_are_read() {
    block_on(async {
        let upstream = Upstream::start().await;
        let mut manifest = serde_json::Map::new();
        let (mut expected, mut pairs) = (0, 0);
        for name in [
            "57c4445b-c548-4654-af0b-4be3950d210f",
            "existing_event",
            "HTML_event",
            "long_event",
            "sighting_1",
        ] {
            let body = fixture(&format!("events/{name}.json"));
            let event: Value = serde_json::from_slice(&body).unwrap();
            let text = String::from_utf8(body.clone()).unwrap();
            // The first `uuid` may be an organisation's or an attribute's: the event's is found as the family finds it.
            let read = misp::event::Event::of(&body).unwrap();
            assert_eq!(read.len() as u64, attributes(&event), "{name}");
            expected += attributes(&event);
            pairs += ["filename|", "malware-sample", "domain|ip"]
                .iter()
                .map(|kind| text.matches(&format!("\"type\": \"{kind}")).count())
                .sum::<usize>();
            manifest.insert(
                read.head.uuid.clone(),
                json!({"timestamp": read.head.timestamp.unwrap().to_string()}),
            );
            upstream.put(&format!("/events/{}.json", read.head.uuid), body);
        }
        upstream.put("/events/manifest.json", Value::Object(manifest).to_string());
        let home =
            home(&feed("circl", &format!("{}/events/", upstream.origin()), "misp", "")).await;
        let report = sync(&home).await;
        assert_eq!(report.status, Status::Complete, "{report:?}");
        let counts = of(&report, "circl").counts;
        assert_eq!(
            counts.found,
            expected + pairs as u64,
            "attributes and second parts: {counts:?}"
        );
        // A host under no top level, and three names of files that were entered as addresses.
        assert_eq!((counts.rejected, counts.failed), (4, 0), "{report:?}");
        for named in ["uyguhr.sov.te", "igfxtray.exe", "Data/dtl.dat", "Data/glp.uin"] {
            assert!(report.rejects.iter().any(|reject| reject.reason.contains(named)), "{named}");
        }
        let stored = documents(&home).await;
        stored.iter().for_each(check);
        assert_eq!(counts.new, stored.len() as u64);
        let kinds: BTreeSet<&str> =
            stored.iter().filter_map(|one| one.body["type"].as_str()).collect();
        for kind in [
            "domain", "filename", "hostname", "ipv4", "md5", "sha1", "sha256", "url", "cve",
            "yara", "btc", "regkey", "imphash",
        ] {
            assert!(kinds.contains(kind), "{kinds:?}");
        }
        // Attributes of objects, with what they are there; data of attachments nowhere.
        let of_object = stored.iter().flat_map(|one| one.body["sources"].as_array().unwrap());
        assert!(of_object.filter(|source| source.get("object").is_some()).count() > 50);
        assert!(
            stored
                .iter()
                .all(|one| !Value::Object(one.body.clone()).to_string().contains("UEsFBg"))
        );
    });
}

/// The Python with `PyMISP`, or why there is none.
fn python() -> Result<PathBuf, String> {
    tests::pypi::programs(cache(), &["pymisp==2.5.34.4"]).map(|programs| programs.join("python"))
}

/// Why `PyMISP` cannot be asked here, if it cannot.
pub(crate) fn unavailable() -> Option<String> {
    python().err()
}

fn pymisp_reads_the_same_types_and_values() {
    let python = python().expect("this test is skipped where there is none");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/misp");
    let files =
        ["events", "feeds/infoblox"].map(|name| std::fs::read_dir(folder.join(name)).unwrap());
    let is_event = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.ends_with(".json") && name != "manifest.json"
    };
    let files: Vec<PathBuf> =
        files.into_iter().flatten().map(|entry| entry.unwrap().path()).filter(is_event).collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/read_with_pymisp.py");
    let output = Command::new(python).arg(script).args(&files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Vec<(String, String, String, bool)> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut ours = Vec::new();
    for path in &files {
        let body = std::fs::read(path).unwrap();
        let event = misp::event::Event::of(&body).unwrap();
        for place in 0..event.len() {
            let read = event.attribute(place).unwrap();
            ours.push((path.to_string_lossy().into_owned(), read.kind, read.value, read.to_ids));
        }
    }
    let sorted = |mut list: Vec<(String, String, String, bool)>| {
        for one in &mut list {
            // PyMISP keeps a sample's hash beside its value.
            let value = if one.1 == "malware-sample" { one.2.split('|').next() } else { None };
            one.2 = value.unwrap_or(&one.2).trim().to_owned();
        }
        list.sort();
        list
    };
    let (ours, theirs) = (sorted(ours), sorted(theirs));
    assert_eq!(ours.len(), theirs.len());
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(our, their);
    }
}

fn a_feed_twice_is_its_manifest_and_no_write() {
    block_on(async {
        let upstream = Upstream::start().await;
        infoblox(&upstream, false);
        let home =
            home(&feed("infoblox", &format!("{}/feed/", upstream.origin()), "misp", "")).await;
        assert_eq!(sync(&home).await.status, Status::Complete);
        let asked = upstream.asked();
        assert_eq!(asked.len(), 17, "{asked:?}");
        // Those that were changed longest ago come first.
        let before = home.home.documents.sequence(index()).await.unwrap();
        let again = sync(&home).await;
        assert_eq!((of(&again, "infoblox").outcome, again.writes()), (Outcome::NotModified, 0));
        assert_eq!(upstream.asked(), ["/feed/manifest.json"]);
        // The same manifest in other words, numbers as texts: no event is asked for.
        let mut manifest = infoblox_manifest();
        manifest.retain(|uuid, _| asked.contains(&format!("/feed/{uuid}.json")));
        for entry in manifest.values_mut() {
            entry["timestamp"] = json!(entry["timestamp"].to_string().trim_matches('"'));
        }
        upstream.put("/feed/manifest.json", serde_json::to_string_pretty(&manifest).unwrap());
        let reworded = sync(&home).await;
        assert_eq!((of(&reworded, "infoblox").outcome, reworded.writes()), (Outcome::Unchanged, 0));
        assert_eq!(upstream.asked(), ["/feed/manifest.json"]);
        assert_eq!(home.home.documents.sequence(index()).await.unwrap(), before);
    });
}

fn a_changed_event_is_its_own_writes_only() {
    block_on(async {
        let upstream = Upstream::start().await;
        let plain = |value| attribute(value, &json!({}));
        let two = json!([plain("shared.com"), plain("two.com")]);
        serve_events(
            &upstream,
            &[
                (
                    ONE,
                    100,
                    json!([
                        plain("stays.com"),
                        plain("shared.com"),
                        plain("edited.com"),
                        plain("deleted.com"),
                        plain("vanishes.com")
                    ]),
                ),
                (TWO, 200, two.clone()),
            ],
        );
        let home = home(&feed("events", &format!("{}/feed", upstream.origin()), "misp", "")).await;
        assert_eq!(sync(&home).await.counts.new, 6);
        upstream.asked();
        // One is edited, one has a tombstone, one vanished, one is new; and an event was published late, with an old timestamp.
        serve_events(
            &upstream,
            &[
                (
                    ONE,
                    300,
                    json!([
                        plain("stays.com"),
                        attribute("edited.com", &json!({"comment": "C"})),
                        attribute("deleted.com", &json!({"deleted": "1"})),
                        plain("new.com")
                    ]),
                ),
                (TWO, 200, two),
                (LATE, 50, json!([plain("late.com")])),
            ],
        );
        let report = sync(&home).await;
        let asked = upstream.asked();
        assert_eq!(
            asked,
            [
                "/feed/manifest.json".to_owned(),
                format!("/feed/{LATE}.json"),
                format!("/feed/{ONE}.json")
            ]
        );
        let counts = of(&report, "events").counts;
        assert_eq!((counts.new, counts.changed), (2, 2), "{report:?}");
        let revisions: BTreeMap<String, i64> = documents(&home)
            .await
            .into_iter()
            .map(|one| {
                (
                    one.body["value"].as_str().unwrap().to_owned(),
                    one.body["revision"].as_i64().unwrap(),
                )
            })
            .collect();
        let expected = [
            ("deleted.com", 2),
            ("edited.com", 2),
            ("late.com", 1),
            ("new.com", 1),
            ("shared.com", 3),
            ("stays.com", 1),
            ("two.com", 1),
            ("vanishes.com", 2),
        ];
        assert_eq!(
            revisions,
            expected.map(|(value, revision)| (value.to_owned(), revision)).into()
        );
        for (value, active) in [
            ("deleted.com", false),
            ("vanishes.com", false),
            ("shared.com", true),
            ("stays.com", true),
        ] {
            assert_eq!(by_value(&home, value).await["active"], active, "{value}");
        }
        // An event that is gone takes its own back, and no other's.
        let manifest = json!({ONE: {"timestamp": 300}, LATE: {"timestamp": "50"}});
        upstream.put("/feed/manifest.json", manifest.to_string());
        sync(&home).await;
        assert_eq!(by_value(&home, "two.com").await["active"], false);
        assert_eq!(by_value(&home, "shared.com").await["active"], false);
        assert_eq!(by_value(&home, "stays.com").await["active"], true);
        let quiet = sync(&home).await;
        assert_eq!(quiet.writes(), 0, "{quiet:?}");
    });
}

fn a_missing_event_is_asked_for_again_and_holds_up_none() {
    block_on(async {
        let upstream = Upstream::start().await;
        let plain = |value| attribute(value, &json!({}));
        serve_events(
            &upstream,
            &[(ONE, 100, json!([plain("one.com")])), (TWO, 200, json!([plain("two.com")]))],
        );
        upstream.serve(&format!("/feed/{ONE}.json"), |_| StatusCode::GONE.into_response());
        let home = home(&feed("events", &format!("{}/feed", upstream.origin()), "misp", "")).await;
        let first = sync(&home).await;
        assert_eq!((first.status, first.counts.new), (Status::Complete, 1), "{first:?}");
        assert!(
            of(&first, "events")
                .notes
                .iter()
                .any(|note| note.contains(ONE) && note.contains("410"))
        );
        // Its manifest says that nothing changed, and still it is asked for.
        upstream.asked();
        let quick = home.run(task("quick_sync_all_feeds"), Value::Null).await;
        assert_eq!((upstream.asked().len(), quick.writes()), (1, 0), "quick does not");
        upstream.put(&format!("/feed/{ONE}.json"), event(ONE, 100, &json!([plain("one.com")])));
        let second = sync(&home).await;
        assert_eq!(second.counts.new, 1, "{second:?}");
        assert_eq!(upstream.asked().len(), 2);
        sync(&home).await;
        assert_eq!(upstream.asked(), ["/feed/manifest.json"]);
    });
}
