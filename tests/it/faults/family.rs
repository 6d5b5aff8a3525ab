//! The RSS family on servers, with nothing changed but the two settings that name them; a prefix and a schema keep the
//! tests of one server apart.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tests::services::search::Kind;

use super::{Schema, complete, home, home_on, sequence, slot};
use crate::documents::Place;
use crate::home::{ALL, Upstream};

/// Every bundled real feed, by a name of its own.
fn feeds() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/feeds/feed-rs");
    let mut paths: Vec<PathBuf> = ["atom", "jsonfeed", "rss0", "rss1", "rss2"]
        .iter()
        .flat_map(|kind| fs::read_dir(folder.join(kind)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let feeds = paths
        .iter()
        .enumerate()
        .map(|(number, path)| (format!("feed-{number:02}"), fs::read(path).unwrap()));
    feeds.collect()
}

pub(super) fn two_settings(kind: Kind) {
    let upstream = Upstream::start(8);
    let feeds = feeds();
    let serve = |has_tag: bool| -> Vec<(String, String)> {
        let one = |(id, body): &(String, Vec<u8>)| {
            let url = if has_tag {
                upstream.tagged(id, "one", body.as_slice())
            } else {
                upstream.body(id, body.as_slice())
            };
            (id.clone(), url)
        };
        feeds.iter().map(one).collect()
    };
    let sources = serve(true);
    let (place, schema) = (Place::new(Some(kind)), Schema::new());
    let embedded = home(&sources);
    let placed = home_on(&place, &sources).with("DATABASE_URL", schema.url());

    let mut first = Vec::new();
    for home in [&embedded, &placed] {
        let report = home.report(&[ALL, "--input", &slot("2026-03-01T12:00:00Z")]);
        // Some of the feeds are there because no reader can make sense of them.
        assert!(report["status"] == "complete" || report["status"] == "partial", "{report}");
        first.push(
            ["found", "new", "changed", "unchanged", "rejected"].map(|name| report[name].clone()),
        );
    }
    assert_eq!(first[0], first[1]);
    let stored = placed.articles();
    assert!(stored.len() > 100, "{}", stored.len());
    assert!(stored == embedded.articles(), "the stores differ");
    let writes = sequence(&place);
    let told = first[1][1].as_u64().unwrap() + first[1][2].as_u64().unwrap();
    assert_eq!(writes, i64::try_from(told).unwrap());

    let ids: Vec<&str> = sources.iter().map(|(id, _)| id.as_str()).collect();
    let runs = [
        (ALL, slot("2026-03-01T10:00:00Z")),
        ("collect_category", json!({"categories": ["news"]}).to_string()),
        ("collect_specific_sources", json!({"sources": ids}).to_string()),
    ];
    for has_tag in [true, false] {
        serve(has_tag);
        for (task, input) in &runs {
            // A slot of its own for the second round.
            let input = input.replace("T10", if has_tag { "T10" } else { "T11" });
            let report = placed.report(&[task, "--input", &input]);
            let numbers = ["found", "new", "changed", "failed"].map(|name| report[name].as_u64());
            let found = if has_tag { numbers[0] } else { first[1][0].as_u64() };
            assert_eq!(numbers, [found, Some(0), Some(0), Some(0)], "{task}: {report}");
            assert_eq!(sequence(&place), writes, "{task} wrote again");
        }
    }
    assert!(placed.articles() == stored);

    assert_eq!(
        schema.number("SELECT count(*) FROM runs WHERE status IN ('complete', 'partial')"),
        7
    );
    for file in ["documents.db", "state.db"] {
        assert!(!placed.path("data").join(file).exists(), "there is a {file} as well");
    }
    let whole = complete(&placed.report(&[
        "collect_specific_sources",
        "--input",
        &json!({"sources": [ids[0]]}).to_string(),
    ]));
    assert_eq!(whole[1..], [0, 0, 0]);
}
