//! Lists of every form, read whole: real ones, packed ones, and some that take several steps.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::io::Write as _;
use std::time::Duration;

use axum::http::header;
use base::report::{Outcome, Status};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use stores::documents::Document;
use task::testing::Upstream;

use super::long::Lines;
use super::{
    check, continuation, documents, feed, fixture, home, index, of, sync, task, to_the_end,
};
use crate::documents::block_on;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("real_lists_are_read_whole", real_lists_are_read_whole),
    ("packed_lists_are_read_like_plain_ones", packed_lists_are_read_like_plain_ones),
    ("a_list_stops_in_time_and_its_rest_comes", a_list_stops_in_time_and_its_rest_comes),
    ("what_left_a_list_of_several_steps_is_marked", what_left_a_list_of_several_steps_is_marked),
];

/// Lines of a list that takes several steps: several batches before its half.
const LINES: u64 = 1_500;

fn real_lists_are_read_whole() {
    block_on(async {
        let upstream = Upstream::start().await;
        let mut feeds = String::new();
        let lists = [
            // File, format, settings, found, merged.
            (
                "csv_feeds/infoblox/vault_viper_20251016.csv",
                "csv",
                "settings.csv = { value = \"2\" }",
                42,
            ),
            (
                "csv_feeds/infoblox/hazy_hawk_20250520_iocs.csv",
                "csv",
                "settings.csv = { value = \"2\" }",
                186,
            ),
            ("csv_feeds/infoblox/emotet_cta_20221006_iocs.csv", "csv", "", 0),
            (
                "csv_feeds/ipsum/ipsum_head.txt",
                "csv",
                "settings.csv = { value = \"1\", delimiter = \"\\\\t\" }",
                2_993,
            ),
            ("freetext_feeds/ipsum/levels/7.txt", "freetext", "", 0),
            (
                "freetext_feeds/unit42/diamondfox__diamondfox_panels.txt",
                "csv",
                "settings.csv = { value = \"1,3\", more = { first_seen = 2 } }",
                1_778,
            ),
            (
                "freetext_feeds/unit42/TA551__2020-07-07-TA551-IOCs-for-Ursnif-with-IcedID.txt",
                "freetext",
                "",
                0,
            ),
        ];
        for (place, (file, format, settings, _)) in lists.iter().enumerate() {
            upstream.put(&format!("/{place}"), fixture(file));
            feeds += &feed(
                &format!("list-{place}"),
                &format!("{}/{place}", upstream.origin()),
                format,
                settings,
            );
        }
        let home = home(&feeds).await;
        let report = sync(&home).await;
        assert_eq!(report.status, Status::Complete, "{report:?}");
        for (place, (file, _, _, found)) in lists.iter().enumerate() {
            let counts = of(&report, &format!("list-{place}")).counts;
            // Where a panel was not seen in a sample, its third cell says `Submission`.
            let rejected = if place == 5 { 37 } else { 0 };
            assert_eq!(counts.rejected, rejected, "{file}: {counts:?}");
            if *found > 0 {
                assert_eq!(counts.found, *found, "{file}: {counts:?}");
            } else {
                assert!(counts.found > 0, "{file}: {counts:?}");
            }
        }
        let stored = documents(&home).await;
        stored.iter().for_each(check);
        let panels: Vec<&Document> = stored
            .iter()
            .filter(|one| one.body["feed_name"].to_string().contains("list-5"))
            .collect();
        assert!(panels.iter().any(|one| one.body["value"] == "http://00bot.asterios.ws/fox/"
            && one.body["first_seen"] == "2018-07-02T16:31:02Z"));
    });
}

/// An archive of one file, as `zip` makes it.
fn zipped(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    let packed = encoder.finish().unwrap();
    let mut archive = b"PK\x03\x04\x14\x00\x00\x00\x08\x00".to_vec();
    archive.extend([0; 8]);
    archive.extend((packed.len() as u32).to_le_bytes());
    archive.extend((content.len() as u32).to_le_bytes());
    archive.extend(b"\x05\x00\x00\x00a.txt");
    archive.extend(packed);
    archive.extend(b"PK\x05\x06");
    archive
}

fn packed_lists_are_read_like_plain_ones() {
    block_on(async {
        let upstream = Upstream::start().await;
        let list: String = (0..3_000).map(|n| format!("h{n}.evil.com\n")).collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(list.as_bytes()).unwrap();
        upstream.put("/plain", list.clone());
        upstream.put("/list.gz", encoder.finish().unwrap());
        upstream.put("/list.zip", zipped(list.as_bytes()));
        upstream.put("/cut.zip", zipped(list.as_bytes())[..2_000].to_vec());
        let mut feeds = String::new();
        for id in ["plain", "list.gz", "list.zip", "cut.zip"] {
            feeds += &feed(id, &format!("{}/{id}", upstream.origin()), "freetext", "");
        }
        let home = home(&feeds).await;
        let report = sync(&home).await;
        for id in ["plain", "list.gz", "list.zip"] {
            assert_eq!(of(&report, id).counts.found, 3_000, "{report:?}");
        }
        assert_eq!(of(&report, "cut.zip").outcome, Outcome::Unreadable);
        let stored = documents(&home).await;
        assert_eq!(stored.len(), 3_000);
        assert!(stored.iter().all(|one| one.body["sources_count"].as_u64().unwrap() >= 3));
    });
}

/// Lists of several steps, as their server hangs in the middle of the first.
fn a_list_stops_in_time_and_its_rest_comes() {
    block_on(async {
        let upstream = Upstream::start().await;
        let home =
            home(&feed("long", &format!("{}/list", upstream.origin()), "freetext", "")).await;
        let time = Duration::from_secs(4);
        let list = Lines::of(0..LINES, Some("one"));
        list.stall();
        list.serve_at(&upstream, "/list");
        let cut = home.run_within(task("sync_all_misp_feeds"), Value::Null, time).await;
        let source = of(&cut, "long");
        assert_eq!((cut.status, source.outcome), (Status::Partial, Outcome::Deferred), "{cut:?}");
        assert!(cut.counts.new > 0 && cut.counts.new < LINES, "{cut:?}");
        let whole = home.run(task("sync_all_misp_feeds"), continuation(&home)).await;
        assert_eq!((whole.status, whole.counts.new), (Status::Complete, LINES), "{whole:?}");
        // What was read of it is not asked for again.
        let headers = upstream.headers();
        let [_, rest] = &headers[..] else { panic!("{headers:?}") };
        assert!(rest.contains_key(header::RANGE), "{rest:?}");
        assert_eq!(of(&sync(&home).await, "long").outcome, Outcome::NotModified);
        let writes = home.home.documents.sequence(index()).await.unwrap();
        assert_eq!((documents(&home).await.len() as u64, writes), (LINES, LINES));
    });
}

/// With and without a name for the version that was read.
fn what_left_a_list_of_several_steps_is_marked() {
    for tags in [[Some("one"), Some("two"), Some("three")], [None; 3]] {
        block_on(async {
            let upstream = Upstream::start().await;
            let url = format!("{}/list", upstream.origin());
            let home = home(&feed("long", &url, "freetext", "")).await;
            let round = async |from: u64, tag: Option<&'static str>| {
                let list = Lines::of(from..from + LINES, tag);
                list.stall();
                list.serve_at(&upstream, "/list");
                upstream.asked();
                let report = to_the_end(&home, Duration::from_secs(4)).await;
                assert_eq!(report.status, Status::Complete, "{report:?}");
                (report, upstream.asked().len())
            };
            let (first, asked) = round(0, tags[0]).await;
            assert_eq!((first.counts.new, asked), (LINES, 2), "nothing can have left: {first:?}");
            let (second, asked) = round(100, tags[1]).await;
            assert_eq!((second.counts.new, asked), (100, 3), "{second:?}");
            let notes = &of(&second, "long").notes;
            assert!(notes.iter().any(|note| note == "100 left the list"), "{second:?}");
            let active = async || {
                documents(&home).await.iter().filter(|one| one.body["active"] == true).count()
            };
            assert_eq!(active().await as u64, LINES);
            // The same under another name: nothing left, so it is not read once more.
            let (third, asked) = round(100, tags[2]).await;
            assert_eq!((third.writes(), asked), (0, 2), "{third:?}");
        });
    }
}
