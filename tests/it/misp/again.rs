//! What feeds gave before, read again though they send nothing new: by other warninglists, and from the archive.

use std::path::Path;

use base::report::Status;
use serde_json::{Value, json};
use stores::documents::Document;
use task::testing::{TestHome, Upstream};

use super::{
    ONE, attribute, by_value, clock, continuation, documents, feed, home_with, serve_events, sync,
    task,
};
use crate::documents::block_on;

pub(crate) const TRIALS: &[crate::Case] = &[
    (
        "other_warninglists_tag_what_is_stored_though_no_feed_changed",
        other_warninglists_tag_what_is_stored_though_no_feed_changed,
    ),
    ("lists_and_events_are_read_again_from_the_archive", all_is_read_again_from_the_archive),
];

/// A list, a table and two events, at `/list.txt`, `/rows.csv` and `/feed`.
async fn served() -> (Upstream, String) {
    let upstream = Upstream::start().await;
    upstream.put("/list.txt", "both.evil.com\nlisted.evil.com\n192.0.2.7\n");
    upstream.put("/rows.csv", "row.evil.com,a\n");
    let attributes = [attribute("both.evil.com", &json!({})), attribute("e.evil.com", &json!({}))];
    serve_events(&upstream, &[(ONE, 100, json!(attributes))]);
    let at = |path: &str| format!("{}/{path}", upstream.origin());
    let feeds = feed("list", &at("list.txt"), "freetext", "")
        + &feed("rows", &at("rows.csv"), "csv", "")
        + &feed("events", &at("feed"), "misp", "");
    (upstream, feeds)
}

/// A folder of warninglists, of which the one holds these names and addresses.
pub(crate) fn warn(folder: &Path, names: &[&str]) {
    let list = json!({"name": "Known", "version": 1, "type": "string", "list": names,
        "matching_attributes": ["domain", "hostname", "ip-dst"]});
    std::fs::create_dir_all(folder.join("known")).unwrap();
    std::fs::write(folder.join("known/list.json"), list.to_string()).unwrap();
}

/// Documents without how often each was written.
async fn shown(home: &TestHome) -> Vec<Document> {
    let mut all = documents(home).await;
    all.iter_mut().for_each(|one| drop(one.body.remove("revision")));
    all
}

fn other_warninglists_tag_what_is_stored_though_no_feed_changed() {
    block_on(async {
        let (upstream, feeds) = served().await;
        let folder = tempfile::tempdir().unwrap();
        let settings = || {
            let place = folder.path().to_str().unwrap().to_owned();
            [clock("2026-11-23T12:00:00Z"), ("WARNINGLISTS".to_owned(), place)]
        };
        warn(folder.path(), &["listed.evil.com"]);
        let home = home_with(&feeds, settings()).await;
        assert_eq!(sync(&home).await.counts.new, 5);
        upstream.asked();

        // Of the same version, as those who keep lists of their own may have it.
        warn(folder.path(), &["both.evil.com", "e.evil.com", "row.evil.com"]);
        let report = sync(&home).await;
        assert_eq!((report.counts.changed, report.writes()), (4, 4), "{report:?}");
        assert_eq!(upstream.asked().len(), 3, "each feed was asked once: nothing changed");
        for (value, hits) in [
            ("both.evil.com", json!(["Known"])),
            ("e.evil.com", json!(["Known"])),
            ("row.evil.com", json!(["Known"])),
            ("listed.evil.com", json!([])),
            ("192.0.2.7", json!([])),
        ] {
            let stored = by_value(&home, value).await;
            assert_eq!(stored["warninglist_hits"], hits, "{value}");
            let version = stored["warninglists"].get(0).map(|list| &list["version"]);
            assert_eq!(version, Some(&json!(1)).filter(|_| hits != json!([])), "{value}");
        }
        let fresh = home_with(&feeds, settings()).await;
        sync(&fresh).await;
        assert_eq!(shown(&home).await, shown(&fresh).await, "as if they had always been these");
        assert_eq!(sync(&home).await.writes(), 0);

        // A look that time cuts off goes on.
        warn(folder.path(), &["192.0.2.7"]);
        let task = task("sync_all_misp_feeds");
        let mut last = home.run_within(task, Value::Null, std::time::Duration::ZERO).await;
        while last.continues.is_some() {
            last = home.run(task, continuation(&home)).await;
        }
        assert_eq!(sync(&home).await.status, Status::Complete, "{last:?}");
        let hits: Vec<Value> = documents(&home)
            .await
            .into_iter()
            .filter(|one| one.body["warninglist_hits"] != json!([]))
            .map(|one| one.body["value"].clone())
            .collect();
        assert_eq!(hits, [json!("192.0.2.7")]);
    });
}

fn all_is_read_again_from_the_archive() {
    block_on(async {
        let (upstream, feeds) = served().await;
        let archive = tempfile::tempdir().unwrap();
        let place = archive.path().to_str().unwrap().to_owned();
        let clock = || clock("2026-11-23T12:00:00Z");
        let settings = [clock(), ("MINERVA_ARCHIVE".to_owned(), place.clone())];
        let home = home_with(&feeds, settings).await;
        assert_eq!(sync(&home).await.counts.new, 5);
        upstream.put("/list.txt", "both.evil.com\nlater.evil.com\n");
        assert_eq!(sync(&home).await.counts.new, 1);
        upstream.asked();

        let settings = || [clock(), ("MINERVA_REPARSE".to_owned(), place.clone())];
        let again = home_with(&feeds, settings()).await;
        let report = sync(&again).await;
        assert_eq!((report.status, report.counts.new), (Status::Complete, 4), "{report:?}");
        assert_eq!(sync(&again).await.writes(), 0);
        assert_eq!(upstream.asked(), [""; 0], "nobody was asked");
        let stored = shown(&home).await;
        // What left the list before is not in its last version.
        let active = stored.into_iter().filter(|one| one.body["active"] == true);
        assert_eq!(active.collect::<Vec<_>>(), shown(&again).await);
    });
}
