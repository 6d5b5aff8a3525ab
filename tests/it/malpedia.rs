//! The Malpedia family as a whole: the library both ways, families and actors from disk, bucket and API.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use base::config;
use base::report::{Outcome, Report, Status};
use malpedia::FAMILY;
use malpedia::reference::INDEX;
use serde_json::{Value, json};
use stores::documents::{Body, Index, Owner, Write};
use task::Registered;
use task::testing::{Answer, TestHome, Upstream};
use tests::library;

use crate::documents::block_on;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("the_real_sample_is_read_whole", the_real_sample_is_read_whole),
    ("every_oddity_of_a_bibliography_is_read", every_oddity_of_a_bibliography_is_read),
    ("a_library_of_17_600_is_stored_once", a_library_of_17_600_is_stored_once),
    ("enrichment_survives_every_sync", enrichment_survives_every_sync),
    (
        "both_ways_in_either_order_meet_in_one_document",
        both_ways_in_either_order_meet_in_one_document,
    ),
    (
        "an_unbalanced_entry_is_told_and_the_rest_stored",
        an_unbalanced_entry_is_told_and_the_rest_stored,
    ),
    (
        "a_missing_list_of_references_loses_no_entry_and_no_link",
        a_missing_list_of_references_loses_no_entry_and_no_link,
    ),
    ("a_wait_in_the_body_is_honoured", a_wait_in_the_body_is_honoured),
    ("a_wrong_token_is_named", a_wrong_token_is_named),
];

pub(crate) const BIB: &str = "/library/download";
pub(crate) const REFERENCES: &str = "/api/get/references";
pub(crate) const LATEST: &str = "/feeds/rss/latest";

/// What the enrichment by a language model owns.
const ENRICHMENT: Owner = Owner {
    fields: &[
        "enriched_summary",
        "enriched_at",
        "actors_mentioned",
        "families_mentioned",
        "enrichment_version",
    ],
    unhashed: &["enriched_at"],
    ..Owner::named("malpedia_enrichment")
};

pub(crate) fn task(name: &str) -> &'static Registered {
    FAMILY.tasks.iter().find(|task| task.name == name).expect("it is listed")
}

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/malpedia").join(name);
    std::fs::read(path).expect("a fixture")
}

fn index() -> &'static Index {
    Index::named(INDEX).expect("it is there")
}

/// A home whose Malpedia is `upstream`.
pub(crate) async fn home(upstream: &str, more: &[(&str, &str)]) -> TestHome {
    let mut settings = vec![("MALPEDIA_URL".to_owned(), upstream.to_owned())];
    settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let folder = tempfile::tempdir().expect("a folder");
    TestHome::open(folder, &settings, &[FAMILY.settings]).await.expect("it opens")
}

pub(crate) async fn malpedia(bib: impl Into<Vec<u8>>) -> (Upstream, TestHome) {
    let upstream = Upstream::start().await;
    upstream.answer(Answer::Unconditional);
    upstream.put(BIB, bib.into());
    upstream.put(REFERENCES, fixture("references.json"));
    upstream.put(LATEST, fixture("latest.xml"));
    let home = home(upstream.origin(), &[]).await;
    (upstream, home)
}

pub(crate) async fn run(home: &TestHome, name: &str) -> Report {
    home.run(task(name), Value::Null).await
}

async fn by_key(home: &TestHome, key: &str) -> Body {
    let documents = home.documents(index()).await.expect("it is read");
    let found = documents
        .into_iter()
        .find(|document| document.body.get("bibtex_key").is_some_and(|known| known == key));
    found.unwrap_or_else(|| panic!("no `{key}`")).body
}

/// The folder of the real sample, or why there is none.
fn corpus() -> Result<PathBuf, &'static str> {
    let folder = config::variable("MINERVA_CORPUS").ok_or("`MINERVA_CORPUS` is not set")?;
    let inside = PathBuf::from(folder).join("malpedia/malpedia_sample.bib");
    if inside.exists() {
        Ok(inside)
    } else {
        Err("`MINERVA_CORPUS` holds no `malpedia/malpedia_sample.bib`")
    }
}

/// Why the trial on real entries cannot run here, if it cannot.
pub(crate) fn unavailable() -> Option<&'static str> {
    corpus().err()
}

/// What holds for every reference, whatever it says.
async fn check_references(home: &TestHome) {
    for document in &home.documents(index()).await.expect("it is read") {
        let text = |field: &str| document.body[field].as_str().unwrap_or_default();
        assert!(!text("title").is_empty() && !text("title").contains(['{', '}']), "{document:?}");
        assert!(!text("title").contains("  "), "{document:?}");
        assert!(
            text("published").starts_with(text("date")) && !text("date").is_empty(),
            "{document:?}"
        );
        let authors = document.body["authors"].as_array().expect("a list");
        assert!(!authors.is_empty() && !authors.contains(&json!("")), "{document:?}");
    }
}

#[track_caller]
fn check_fields(body: &Body, expected: &[(&str, Value)]) {
    for (field, value) in expected {
        assert_eq!(&body[*field], value, "{field} of {body:?}");
    }
}

fn the_real_sample_is_read_whole() {
    block_on(async {
        let sample = std::fs::read(corpus().expect("else this is skipped")).expect("a file");
        let (_upstream, home) = malpedia(sample).await;
        let report = run(&home, "sync_malpedia_library_bibtex").await;
        let counts = report.counts;
        assert_eq!((report.status, counts.new), (Status::Complete, 40), "{report:?}");
        check_references(&home).await;
        let body = by_key(&home, "bnn:20230904:certlv:bfc1b15").await;
        check_fields(&body, &[("authors", json!(["BNN"]))]);
        let body = by_key(&home, "blueliv:2022:jester:f41226f").await;
        check_fields(
            &body,
            &[
                ("date", json!("2022")),
                ("date_precision", json!("year")),
                ("kind", json!("report")),
            ],
        );
        let body = by_key(&home, "0xffff0800:20190302:opjerusalm:4743e08").await;
        check_fields(&body, &[("kind", json!("tweet"))]);
        let body = by_key(&home, "0x0d4y:20250326:ffdgf:5d00548").await;
        check_fields(&body, &[("language", json!("pt"))]);
    });
}

fn every_oddity_of_a_bibliography_is_read() {
    block_on(async {
        let (_upstream, home) = malpedia(fixture("library.bib")).await;
        let report = run(&home, "sync_malpedia_library_bibtex").await;
        let counts = report.counts;
        assert_eq!(
            (report.status, counts.found, counts.new, counts.merged, counts.rejected),
            (Status::Complete, 22, 21, 1, 0),
            "{report:?}"
        );
        check_references(&home).await;
        let expected: &[(&str, &[(&str, Value)])] = &[
            (
                "quill:20190320:papermill:1a2b3c4",
                &[
                    ("authors", json!(["@quill"])),
                    ("kind", json!("code")),
                    ("actor_names", json!(["Paper Falcon"])),
                    ("family_ids", json!(["win.papermill"])),
                    ("revision", json!(1)),
                    ("feed_name", json!("Malpedia Library")),
                    ("category", json!("malware_research")),
                    ("source_type", json!("malpedia_library")),
                ],
            ),
            ("0quill:20221225:brassstealer:2b3c4d5", &[("family_names", json!(["Brass Stealer"]))]),
            (
                "glck:20210306:zero:3c4d5e6",
                &[
                    ("author", json!("Jörg Glöck")),
                    (
                        "title",
                        json!(
                            "Zero Day’s on the mail server – Mitigations, 100% “Detections”… & more"
                        ),
                    ),
                    ("link", json!("https://lantern.example/mail%20server/zero-days")),
                ],
            ),
            (
                "0v3r:20190708:unpacking:4d5e6f7",
                &[
                    ("author", json!("0v3r_")),
                    ("title", json!("Unpacking $VAR_1 and #2 with ~/tools ^ Part 1")),
                    ("kind", json!("video")),
                ],
            ),
            (
                "0v3r:20190708:unpacking:5e6f7a8",
                &[
                    ("title", json!("Unpacking DeadLantern \\ Brass ransomware, Part 2")),
                    ("link_canonical", json!("https://0v3r.example/unpacking-part-2")),
                ],
            ),
            (
                "0x0ak:20181020:dropbin:6f7a8b9",
                &[("organization", Value::Null), ("kind", json!("code"))],
            ),
            (
                "0x0ak:20240621:0001:7a8b9c0",
                &[("title", json!("[0001] AmberHeron -> QuartzOwl -> BrassStealer"))],
            ),
            (
                "otter:20190302:opharbor:8b9c0d1",
                &[("title", json!("Tweet on #OpHarbor Ransomware")), ("kind", json!("tweet"))],
            ),
            (
                "otter:20231208:naming:9c0d1e2",
                &[
                    ("kind", json!("tweet")),
                    ("link_canonical", json!("https://twitter.com/otter_0x_example/status/1002")),
                ],
            ),
            (
                "0x0ak:20250326:ffdgf:a0b1c2d",
                &[
                    ("authors", json!(["0x0ak", "Inês Rocha"])),
                    ("language", json!("pt")),
                    ("language_name", json!("Portuguese")),
                ],
            ),
            (
                "lanternlabs:201609:chasing:b1c2d3e",
                &[
                    ("date", json!("2016-09")),
                    ("date_precision", json!("month")),
                    ("published", json!("2016-09-01T00:00:00Z")),
                ],
            ),
            (
                "lanternlabs:2022:jackal:c2d3e4f",
                &[
                    ("title", json!("Jackal Stealer Malware Research 2022")),
                    ("date", json!("2022")),
                    ("date_precision", json!("year")),
                    ("organization", json!("Lantern Labs")),
                    ("kind", json!("report")),
                    ("bibtex_type", json!("techreport")),
                    ("year", json!("2022")),
                ],
            ),
            (
                "bnd:20230904:activist:d3e4f5a",
                &[
                    ("authors", json!(["BND"])),
                    (
                        "title",
                        json!("Activist groups attack — again — the institutions of a state"),
                    ),
                ],
            ),
            (
                "tidewater:201707:operationgilded:e4f5a6b",
                &[("title", json!("OperationGilded Tulip"))],
            ),
            (
                "tidewater:20240104:nopardon:f5a6b7c",
                &[("title", json!("No-Pardon Wiper - Wiper attack by an APT)"))],
            ),
            (
                "bell02:20220419:metaheron:a6b7c8d",
                &[
                    ("organization", json!("Bell's R&D")),
                    ("link", json!("https://bell.example/blog/MetaHeron-Redfern's-Double/")),
                ],
            ),
            (
                "boreas:20210630:ransomwarecve:b7c8d9e",
                &[
                    (
                        "authors",
                        json!(["Yelena Boreas", "Brando Rudd", "Gale Security & Development Team"]),
                    ),
                    ("title", json!("Ransomware-&-CVE: Insights Into \"High-Value\" Targets")),
                    ("kind", json!("blog")),
                ],
            ),
            // Cited twice, by http and with a slash the second time.
            (
                "boreas:20211120:corporate:c8d9e0f",
                &[
                    ("title", json!("Corporate Loader \"Heron\": History of \"X\" Project")),
                    (
                        "bib_keys",
                        json!([
                            "boreas:20211120:corporate:c8d9e0f",
                            "kram:20211121:corporate:d9e0f1a"
                        ]),
                    ),
                ],
            ),
            (
                "hart:20200924:path:f1a2b3c",
                &[
                    ("authors", json!(["Matt | HartSecurity"])),
                    ("title", json!("50% of $PATH_ENTRIES are writable & nobody looks")),
                    ("urldate", json!("2020-10-13")),
                ],
            ),
            (
                "climentgarca:20240403:willow:a2b3c4d",
                &[("authors", json!(["Alicia Climent-García"]))],
            ),
        ];
        for (key, fields) in expected {
            check_fields(&by_key(&home, key).await, fields);
        }
    });
}

fn a_library_of_17_600_is_stored_once() {
    block_on(async {
        let made = library::generate(17_600);
        let (upstream, home) = malpedia(made.text.clone()).await;
        let sync = task("sync_malpedia_library_bibtex");
        let first = home.run_within(sync, Value::Null, Duration::from_secs(300)).await;
        assert_eq!(first.status, Status::Complete, "{:?}", first.error);
        assert_eq!(first.counts.found, 17_600);
        assert_eq!(
            (first.counts.new, first.counts.merged),
            (made.references, 17_600 - made.references)
        );
        let documents = home.documents(index()).await.expect("it is read");
        let mut precisions = std::collections::BTreeMap::new();
        for document in &documents {
            let text = |field: &str| document.body[field].as_str().unwrap_or_default();
            let expected = &made.entries[text("bibtex_key")];
            assert_eq!(text("title"), expected.title);
            assert_eq!(
                (text("date"), text("date_precision")),
                (expected.date.as_str(), expected.precision)
            );
            assert_eq!(document.body["authors"], json!(expected.authors));
            *precisions.entry(expected.precision).or_insert(0) += 1;
        }
        assert_eq!(precisions.len(), 3, "{precisions:?}");
        let writes = home.home.documents.sequence(index()).await.expect("it counts");
        // Malpedia looked at every address again: that is no change.
        upstream.put(BIB, made.text.replace("urldate = {2020", "urldate = {2026"));
        let second = home.run_within(sync, Value::Null, Duration::from_secs(300)).await;
        assert_eq!((second.status, second.writes()), (Status::Complete, 0));
        assert_eq!(second.counts.unchanged, made.references);
        assert_eq!(home.home.documents.sequence(index()).await.expect("it counts"), writes);
    });
}

fn enrichment_survives_every_sync() {
    block_on(async {
        let (upstream, home) = malpedia(fixture("library.bib")).await;
        run(&home, "sync_malpedia_library_full").await;
        let key = "climentgarca:20240403:willow:a2b3c4d";
        let id = by_key(&home, key).await["id"].as_str().expect("an id").to_owned();
        let by_hand = json!({
            "enriched_summary": "a summary", "enriched_at": "2026-01-01T00:00:00Z", "actors_mentioned": ["A"],
            "families_mentioned": ["Willow Wren"], "enrichment_version": "1.0",
        });
        let fields = by_hand.as_object().expect("an object").clone();
        let write = Write::of(id, &ENRICHMENT, fields.clone());
        home.home.documents.upsert(index(), &[write]).await.expect("it is written");
        // Upstream changes title and summary, so that each sync really writes.
        let changed = String::from_utf8(fixture("library.bib"))
            .expect("UTF-8")
            .replace("anti-emulation trick}}", "trick}}");
        upstream.put(BIB, changed);
        let feed =
            String::from_utf8(fixture("latest.xml")).expect("UTF-8").replace("HarborLab on", "On");
        upstream.put(LATEST, feed);
        for name in [
            "sync_malpedia_library_rss",
            "sync_malpedia_library_bibtex",
            "sync_malpedia_library_full",
        ] {
            let report = run(&home, name).await;
            assert_eq!(report.status, Status::Complete, "{report:?}");
            assert_eq!(report.writes(), u64::from(name != "sync_malpedia_library_full"), "{name}");
            let body = by_key(&home, key).await;
            for (field, value) in &fields {
                assert_eq!(&body[field], value, "{name}: {field}");
            }
        }
        let body = by_key(&home, key).await;
        assert_eq!(body["title"], "Willow Wren and its new trick");
        assert_eq!(body["summary"], "On Willow Wren & its tricks");
    });
}

fn both_ways_in_either_order_meet_in_one_document() {
    block_on(async {
        let mut ends = Vec::new();
        for order in [["rss", "bibtex"], ["bibtex", "rss"]] {
            let (_upstream, home) = malpedia(fixture("library.bib")).await;
            let settings =
                [("MINERVA_CLOCK", "2026-11-23T12:00:00Z"), ("MALPEDIA_URL", _upstream.origin())];
            let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let home =
                TestHome::open(home.folder, &settings, &[FAMILY.settings]).await.expect("it opens");
            for way in order {
                let report = run(&home, &format!("sync_malpedia_library_{way}")).await;
                assert_eq!(report.status, Status::Complete, "{report:?}");
            }
            let mut documents = home.documents(index()).await.expect("it is read");
            assert_eq!(documents.len(), 22, "one of the feed's two is in the bibliography");
            for document in &mut documents {
                // What each wrote stands there whole; how often and with which origin is another matter.
                for volatile in ["revision", "owners", "source_url", "feed_link"] {
                    document.body.remove(volatile);
                }
            }
            ends.push(documents);
        }
        assert_eq!(ends[0], ends[1]);
    });
}

fn an_unbalanced_entry_is_told_and_the_rest_stored() {
    block_on(async {
        let bib = String::from_utf8(fixture("library.bib")).expect("UTF-8");
        let broken = bib
            .replace("title = {{BrassStealer}}", "title = {{BrassStealer}")
            .replace("title = {{ffdgf}}", "title = {{ffdgf }}}");
        let (_upstream, home) = malpedia(broken).await;
        let report = run(&home, "sync_malpedia_library_bibtex").await;
        assert_eq!(
            (report.counts.found, report.counts.new, report.counts.rejected),
            (22, 19, 2),
            "{report:?}"
        );
        assert!(report.rejects[0].reason.starts_with("line 11: "), "{:?}", report.rejects);
        assert_eq!(report.status, Status::Complete);
    });
}

fn a_missing_list_of_references_loses_no_entry_and_no_link() {
    block_on(async {
        let (upstream, home) = malpedia(fixture("library.bib")).await;
        run(&home, "sync_malpedia_library_bibtex").await;
        upstream.put(REFERENCES, "<html>not now</html>");
        let changed = String::from_utf8(fixture("library.bib"))
            .expect("UTF-8")
            .replace("PAPERMILL FRAMEWORK", "PAPERMILL");
        upstream.put(BIB, changed);
        let report = run(&home, "sync_malpedia_library_bibtex").await;
        assert_eq!((report.status, report.counts.changed), (Status::Partial, 1), "{report:?}");
        let body = by_key(&home, "quill:20190320:papermill:1a2b3c4").await;
        assert_eq!(
            (&body["title"], &body["actor_ids"]),
            (&json!("PAPERMILL"), &json!(["paper_falcon"]))
        );
    });
}

/// Answers each request with these in turn, the last one again and again: a status and a body.
pub(crate) async fn canned(answers: Vec<(u16, String)>) -> String {
    use axum::http::StatusCode;
    let listener =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let origin = format!("http://{}", listener.local_addr().expect("it is bound"));
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let routes = axum::Router::new().fallback(move || {
        let number = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let (status, body) = answers[number.min(answers.len() - 1)].clone();
        async move { (StatusCode::from_u16(status).expect("a status"), body) }
    });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    origin
}

fn a_wait_in_the_body_is_honoured() {
    block_on(async {
        let throttled = |wait: &str| {
            (429, format!(r#"{{"detail":"Request was throttled.","available_in":"{wait}"}}"#))
        };
        let feed = String::from_utf8(fixture("latest.xml")).expect("UTF-8");
        // A short one is waited for.
        let origin = canned(vec![throttled("2 seconds"), (200, feed.clone())]).await;
        let short = home(&origin, &[]).await;
        let began = Instant::now();
        let report = run(&short, "sync_malpedia_library_rss").await;
        assert_eq!(
            (report.status, report.counts.new, report.requests),
            (Status::Complete, 2, 2),
            "{report:?}"
        );
        assert!(began.elapsed() >= Duration::from_secs(2));
        // A long one is for the next run, which does not ask before.
        let origin = canned(vec![throttled("90 seconds"), (200, feed)]).await;
        let long = home(&origin, &[]).await;
        let report = run(&long, "sync_malpedia_library_rss").await;
        assert_eq!(
            (report.status, report.sources[0].outcome),
            (Status::Failed, Outcome::RateLimited),
            "{report:?}"
        );
        assert!(report.error.expect("it failed").message.contains("90s"));
        let report = run(&long, "sync_malpedia_library_rss").await;
        assert_eq!(
            (report.sources[0].outcome, report.requests),
            (Outcome::Waiting, 0),
            "{report:?}"
        );
    });
}

fn a_wrong_token_is_named() {
    block_on(async {
        let origin = canned(vec![(403, r#"{"detail":"Invalid token."}"#.to_owned())]).await;
        let home = home(&origin, &[("MALPEDIA_API_TOKEN", "wrong-one")]).await;
        for name in ["sync_malpedia_library_rss", "sync_malpedia_library_bibtex"] {
            let report = run(&home, name).await;
            let problem = report.error.clone().expect("it failed");
            assert_eq!(problem.class, base::Class::Config, "{problem:?}");
            assert!(problem.hint.expect("a hint").contains("unset MALPEDIA_API_TOKEN"));
            assert!(!format!("{:?}", report.error).contains("wrong-one"));
        }
    });
}
