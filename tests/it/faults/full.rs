//! An embedded store that is full: it says so and what to do, nothing is lost, and with more room the next run repairs it.

use serde_json::json;
use stores::state::{Override, Sqlite, State};

use super::answers::{etag_of, numbered_sources};
use super::{complete, home, run_of, runtime};
use crate::home::{ALL, Upstream};

/// What the store may hold at first, in MiB.
const LITTLE: &str = "1";

pub(super) fn documents() {
    let upstream = Upstream::start(8);
    let sources = numbered_sources(&upstream, 200);
    let undisturbed = home(&sources);
    complete(&undisturbed.report(&[ALL]));

    let full = home(&sources).with("MINERVA_DATA_MAX_MB", LITTLE);
    let report = full.report(&[ALL]);
    let status = &report["status"];
    assert!(*status == "failed" || *status == "partial", "{report}");
    let size = std::fs::metadata(full.path("data/documents.db")).unwrap().len();
    assert!(size <= 1 << 20, "it holds {size} bytes");
    let stored = full.articles();
    let mut failed = 0;
    for source in report["sources"].as_array().unwrap() {
        let id = source["source"].as_str().unwrap();
        let count = stored.iter().filter(|article| article["source_id"] == id).count();
        let etag = &etag_of(&full, id);
        if source["problem"].is_null() {
            assert_eq!((count, etag), (200, &json!("\"one\"")), "{source}");
            continue;
        }
        failed += 1;
        assert_eq!((&source["outcome"], etag), (&json!("not_stored"), &json!(null)), "{source}");
        assert_eq!(source["problem"]["class"], "store");
        let hint = source["problem"]["hint"].as_str().unwrap_or_else(|| panic!("{source}"));
        assert!(
            hint.contains("`MINERVA_DATA_MAX_MB`") && hint.contains("free some space"),
            "{hint}"
        );
    }
    assert!(failed > 0, "everything found room: {report}");
    // What a person sees who asks for it the plain way.
    let told = full.run(&["run", ALL]).out;
    assert_eq!(told.matches("hint:").count(), 1, "{told}");
    assert!(told.contains("is full") && told.contains("`MINERVA_DATA_MAX_MB`"), "{told}");

    let more = full.with("MINERVA_DATA_MAX_MB", "64");
    complete(&more.report(&[ALL]));
    assert!(more.articles() == undisturbed.articles(), "the stores differ");
}

/// Without room for the state a run fails, and no slot is taken for done.
pub(super) fn state() {
    let upstream = Upstream::start(2);
    let sources = [("a".to_owned(), upstream.tagged("a", "one", crate::home::numbered(0, 20)))];
    let undisturbed = home(&sources);
    complete(&undisturbed.report(&[ALL]));

    let full = home(&sources);
    runtime().block_on(async {
        let state = Sqlite::open(&full.path("data")).await.unwrap();
        let definition = Some(json!({"filler": "x".repeat(2 << 20)}));
        let word = Override { definition, ..Override::default() };
        state.set_override("filler", "a", &word).await.unwrap();
    });
    let full = full.with("MINERVA_DATA_MAX_MB", LITTLE);
    // The last pages of the file may still take some runs.
    let mut reports = (0..100).map(|_| full.run(&run_of(ALL, &[])).json());
    let report = reports.find(|report| report["status"] != "complete").expect("it is full one day");
    assert_eq!(
        (&report["status"], &report["error"]["class"]),
        (&json!("failed"), &json!("store")),
        "{report}"
    );
    let hint = report["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("`MINERVA_DATA_MAX_MB`"), "{report}");

    let more = full.with("MINERVA_DATA_MAX_MB", "64");
    complete(&more.report(&[ALL]));
    assert!(more.articles() == undisturbed.articles(), "the stores differ");
}
