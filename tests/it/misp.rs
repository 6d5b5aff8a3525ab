//! The MISP family as a whole: real events, tables and texts on a loopback upstream into the embedded store.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base::report::{Outcome, Report, SourceReport, Status};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use misp::FAMILY;
use misp::feeds::INDEX;
use serde_json::{Value, json};
use stores::documents::{Body as Fields, Document, Index};
use task::Registered;
use task::testing::TestHome;

use crate::documents::{Check, Place, cache};
use crate::malpedia::block_on;
use crate::malpedia_stores::everything;
use crate::servers::address;

pub(crate) const TRIALS: &[crate::Case] = &[
    (
        "every_attribute_of_a_real_feed_is_accounted_for",
        every_attribute_of_a_real_feed_is_accounted_for,
    ),
    ("events_of_every_shape_are_read", events_of_every_shape_are_read),
    ("pymisp_reads_the_same_types_and_values", pymisp_reads_the_same_types_and_values),
    ("real_lists_are_read_whole", real_lists_are_read_whole),
    ("a_feed_twice_is_its_manifest_and_no_write", a_feed_twice_is_its_manifest_and_no_write),
    ("a_changed_event_is_its_own_writes_only", a_changed_event_is_its_own_writes_only),
    (
        "a_missing_event_is_asked_for_again_and_holds_up_none",
        a_missing_event_is_asked_for_again_and_holds_up_none,
    ),
    (
        "ten_feeds_of_which_four_are_broken_are_each_named",
        ten_feeds_of_which_four_are_broken_are_each_named,
    ),
    ("two_feeds_corroborate_one_value", two_feeds_corroborate_one_value),
    (
        "what_left_a_list_is_marked_and_a_list_that_shrinks_is_not_believed",
        what_left_a_list_is_marked_and_a_list_that_shrinks_is_not_believed,
    ),
    ("packed_lists_are_read_like_plain_ones", packed_lists_are_read_like_plain_ones),
    (
        "a_limit_bounds_and_quick_asks_only_what_is_new",
        a_limit_bounds_and_quick_asks_only_what_is_new,
    ),
    ("no_header_of_a_request_is_stored", no_header_of_a_request_is_stored),
    ("a_list_stops_in_time_and_its_rest_comes", a_list_stops_in_time_and_its_rest_comes),
    ("a_long_list_is_gone_on_with_after_a_kill", a_long_list_is_gone_on_with_after_a_kill),
];

pub(crate) const SERVER_CHECKS: &[(&str, Check)] =
    &[("misp_feeds_are_stored_as_in_the_embedded_store", feeds_are_stored_alike)];

/// Lines of the long list without `MINERVA_LIST_LINES`, which asks for more.
const LIST_LINES: u64 = 30_000;

/// The most memory of a process that reads the long list.
const LIST_MEMORY_MAX_KIB: u64 = 64 << 10;

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/misp").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn index() -> &'static Index {
    Index::named(INDEX).expect("it is there")
}

/// How a path answers.
#[derive(Clone)]
enum Served {
    /// With this body and a tag, or 304 for whoever has it.
    Body(Bytes),
    /// The same without a tag.
    Untagged(Bytes),
    Status(u16),
    /// A byte now and then.
    Dripping,
    /// So many lines, generated, with ranges; the first request hears no more after half of them.
    Lines(u64),
}

/// A loopback upstream that remembers what it was asked.
#[derive(Clone, Default)]
struct Upstream {
    paths: Arc<Mutex<BTreeMap<String, Served>>>,
    requests: Arc<Mutex<Vec<String>>>,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
    half: Arc<Mutex<Option<std::sync::mpsc::Sender<()>>>>,
    origin: String,
}

impl Upstream {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("it is bound"));
        let upstream = Self { origin, ..Self::default() };
        let routes = Router::new().fallback(serve).with_state(upstream.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        upstream
    }

    fn put(&self, path: &str, body: impl Into<Bytes>) {
        self.set(path, Served::Body(body.into()));
    }

    fn set(&self, path: &str, served: Served) {
        self.paths.lock().unwrap().insert(path.to_owned(), served);
    }

    /// What it was asked since it was last asked this.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

async fn serve(State(upstream): State<Upstream>, uri: Uri, headers: HeaderMap) -> Response {
    upstream.requests.lock().unwrap().push(uri.path().to_owned());
    upstream.headers.lock().unwrap().push(headers.clone());
    let served = upstream.paths.lock().unwrap().get(uri.path()).cloned();
    let body = match served {
        None => return StatusCode::NOT_FOUND.into_response(),
        Some(Served::Status(status)) => {
            return StatusCode::from_u16(status).unwrap().into_response();
        }
        Some(Served::Dripping) => {
            let drops = stream::unfold((), |()| async {
                tokio::time::timeout(Duration::from_millis(300), std::future::pending::<()>())
                    .await
                    .ok();
                Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(b" ")), ()))
            });
            return Body::from_stream(drops).into_response();
        }
        Some(Served::Lines(lines)) => return generated(&upstream, lines, &headers),
        Some(Served::Untagged(body)) => return body.into_response(),
        Some(Served::Body(body)) => body,
    };
    let sum = body.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
    let tag = format!("\"{sum:x}\"");
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([(header::ETAG, tag)], body).into_response()
}

/// A line of 32 bytes: an address in prose, each once.
fn line(number: u64) -> String {
    let [_, a, b, c] = (u32::try_from(number).unwrap()).to_be_bytes();
    format!("{:>27}.com\n", format!("c2 at h{a:x}-{b:x}-{c:x}-{}.evil", number >> 24))
}

/// The generated list.
fn generated(upstream: &Upstream, lines: u64, headers: &HeaderMap) -> Response {
    const LINE: u64 = 32;
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_NONE_MATCH) == Some("\"list\"") {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let range = text(header::RANGE).filter(|_| text(header::IF_RANGE) == Some("\"list\""));
    let from =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let (from, half) = (from.unwrap_or(0_u64), Arc::clone(&upstream.half));
    let blocks = stream::unfold(from, move |at| {
        let half = Arc::clone(&half);
        async move {
            if at >= lines * LINE / 2 {
                let told = half.lock().unwrap().take();
                if let Some(told) = told {
                    // Half of it is out: the run is killed now, and hears no more.
                    let _ = told.send(());
                    std::future::pending::<()>().await;
                }
            }
            let first = at / LINE;
            let block: String = (first..lines.min(first + 1_000)).map(line).collect();
            let skip = usize::try_from(at % LINE).unwrap();
            let block = Bytes::from(block).slice_ref_from(skip)?;
            let next = at + block.len() as u64;
            Some((Ok::<_, std::convert::Infallible>(block), next))
        }
    });
    let tag = (header::ETAG, "\"list\"".to_owned());
    match from {
        0 => ([tag], Body::from_stream(blocks)).into_response(),
        _ => {
            let total = lines * LINE;
            let range = (header::CONTENT_RANGE, format!("bytes {from}-{}/{total}", total - 1));
            (StatusCode::PARTIAL_CONTENT, [tag, range], Body::from_stream(blocks)).into_response()
        }
    }
}

trait SliceFrom: Sized {
    /// Without its first bytes; nothing when nothing is left.
    fn slice_ref_from(self, skip: usize) -> Option<Self>;
}

impl SliceFrom for Bytes {
    fn slice_ref_from(self, skip: usize) -> Option<Self> {
        (self.len() > skip).then(|| self.slice(skip..))
    }
}

/// A feed of the trial's list.
fn feed(id: &str, url: &str, format: &str, more: &str) -> String {
    format!(
        "[[feed]]\nid = \"{id}\"\nname = \"The feed {id}\"\nurl = \"{url}\"\nformat = \"{format}\"\n{more}\n"
    )
}

async fn home(feeds: &str) -> TestHome {
    home_at(feeds, None).await
}

async fn home_at(feeds: &str, clock: Option<&str>) -> TestHome {
    let clock = clock.map(|clock| ("MINERVA_CLOCK".to_owned(), clock.to_owned()));
    home_with(feeds, clock).await
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

/// Runs a task and its continuations to their end; the last report.
async fn to_the_end(home: &TestHome, name: &str, input: Value) -> Report {
    let mut report = home.run(task(name), input).await;
    while report.continues.is_some() {
        let sent = home.continuations();
        let event = json!({
            "source": "minerva", "detail-type": "Minerva Task Continuation", "detail": sent.last().unwrap(),
        });
        report = home.run(task(name), event).await;
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
        infoblox(&upstream, false).await;
        let csv = String::from_utf8(fixture("csv_feeds/infoblox/hazy_hawk_20250520_iocs.csv"));
        let csv = csv.expect("it is text");
        upstream.put("/rows.csv", csv.clone());
        upstream.put("/text.txt", fixture("freetext_feeds/unit42/Conti_IOCs.txt"));
        let at = |path: &str| format!("{}/{path}", upstream.origin);
        let feeds = feed("events", &at("feed"), "misp", "")
            + &feed("rows", &at("rows.csv"), "csv", "")
            + &feed("text", &at("text.txt"), "freetext", "");
        let clock = ("MINERVA_CLOCK".to_owned(), "2026-11-23T12:00:00Z".to_owned());
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

/// The real feed: its manifest names 17 events, of which one has no file.
async fn infoblox(upstream: &Upstream, with_missing: bool) -> BTreeMap<String, Value> {
    let mut manifest: Value =
        serde_json::from_slice(&fixture("feeds/infoblox/manifest.json")).unwrap();
    let mut events = BTreeMap::new();
    manifest.as_object_mut().unwrap().retain(|uuid, _| {
        let path = format!("feeds/infoblox/{uuid}.json");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/misp").join(&path);
        if file.exists() {
            let body = fixture(&path);
            events.insert(uuid.clone(), serde_json::from_slice(&body).unwrap());
            upstream.put(&format!("/feed/{uuid}.json"), body);
        }
        file.exists() || with_missing
    });
    upstream.put("/feed/manifest.json", manifest.to_string());
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

fn every_attribute_of_a_real_feed_is_accounted_for() {
    block_on(async {
        let upstream = Upstream::start().await;
        let events = infoblox(&upstream, true).await;
        let home = home(&feed("infoblox", &format!("{}/feed", upstream.origin), "misp", "")).await;
        let report = to_the_end(&home, "sync_all_misp_feeds", Value::Null).await;
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
        let home = home(&feed("circl", &format!("{}/events/", upstream.origin), "misp", "")).await;
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
                &format!("{}/{place}", upstream.origin),
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

fn a_feed_twice_is_its_manifest_and_no_write() {
    block_on(async {
        let upstream = Upstream::start().await;
        infoblox(&upstream, false).await;
        let home = home(&feed("infoblox", &format!("{}/feed/", upstream.origin), "misp", "")).await;
        assert_eq!(
            to_the_end(&home, "sync_all_misp_feeds", Value::Null).await.status,
            Status::Complete
        );
        let asked = upstream.asked();
        assert_eq!(asked.len(), 17, "{asked:?}");
        // Those that were changed longest ago come first.
        let before = home.home.documents.sequence(index()).await.unwrap();
        let again = sync(&home).await;
        assert_eq!((of(&again, "infoblox").outcome, again.writes()), (Outcome::NotModified, 0));
        assert_eq!(upstream.asked(), ["/feed/manifest.json"]);
        // The same manifest in other words, numbers as texts: no event is asked for.
        let Some(Served::Body(manifest)) =
            upstream.paths.lock().unwrap().get("/feed/manifest.json").cloned()
        else {
            panic!()
        };
        let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
        for entry in manifest.as_object_mut().unwrap().values_mut() {
            entry["timestamp"] = json!(entry["timestamp"].to_string().trim_matches('"'));
        }
        upstream.put("/feed/manifest.json", serde_json::to_string_pretty(&manifest).unwrap());
        let reworded = sync(&home).await;
        assert_eq!((of(&reworded, "infoblox").outcome, reworded.writes()), (Outcome::Unchanged, 0));
        assert_eq!(upstream.asked(), ["/feed/manifest.json"]);
        assert_eq!(home.home.documents.sequence(index()).await.unwrap(), before);
    });
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

const ONE: &str = "11111111-1111-4111-8111-111111111111";
const TWO: &str = "22222222-2222-4222-8222-222222222222";
const LATE: &str = "33333333-3333-4333-8333-333333333333";

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
        let home = home(&feed("events", &format!("{}/feed", upstream.origin), "misp", "")).await;
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
        upstream.set(&format!("/feed/{ONE}.json"), Served::Status(410));
        let home = home(&feed("events", &format!("{}/feed", upstream.origin), "misp", "")).await;
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

fn ten_feeds_of_which_four_are_broken_are_each_named() {
    block_on(async {
        let upstream = Upstream::start().await;
        let at = |path: &str| format!("{}{path}", upstream.origin);
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
        upstream.set("/drip", Served::Dripping);
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
        let feeds = feed("events", &format!("{}/feed", upstream.origin), "misp", "")
            + &feed(
                "list",
                &format!("{}/list", upstream.origin),
                "freetext",
                "tlp = \"clear\"\ntags = [\"x\"]\nconfidence = 80",
            );
        let home = home_at(&feeds, Some("2025-03-01T00:00:00Z")).await;
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
        let home = home(&feed("list", &format!("{}/list", upstream.origin), "freetext", "")).await;
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
        let home = home(&feed("events", &format!("{}/feed", upstream.origin), "misp", "")).await;
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
            feeds += &feed(id, &format!("{}/{id}", upstream.origin), "freetext", "");
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
        upstream.set("/list", Served::Untagged(list.into()));
        let feeds = feed("events", &format!("{}/feed", upstream.origin), "misp", "")
            + &feed("list", &format!("{}/list", upstream.origin), "freetext", "enabled = true");
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
        let feeds = feed("list", &format!("{}/list", upstream.origin), "freetext", &headers)
            + &feed("events", &format!("{}/feed", upstream.origin), "misp", &headers)
            + &feed(
                "secret",
                &format!("{}/list", upstream.origin),
                "freetext",
                "headers = { auth-key = \"secret:none\" }",
            )
            + &feed(
                "no-file",
                &format!("{}/list", upstream.origin),
                "misp",
                "headers = { K = \"file:/not/there\" }",
            );
        let home = home(&feeds).await;
        let report = sync(&home).await;
        assert_eq!(report.counts.new, 3, "{report:?}");
        assert_eq!(of(&report, "no-file").outcome, Outcome::Misconfigured);
        assert_eq!(of(&report, "secret").outcome, Outcome::Misconfigured);
        assert!(
            upstream
                .headers
                .lock()
                .unwrap()
                .iter()
                .all(|headers| headers["auth-key"] == "hunter2-secret")
        );
        let shown = serde_json::to_string(&report).unwrap();
        let stored = documents(&home).await;
        let stored: String =
            stored.into_iter().map(|one| Value::Object(one.body).to_string()).collect();
        assert!(!stored.contains("hunter2-secret") && !shown.contains("hunter2-secret"));
    });
}

fn a_list_stops_in_time_and_its_rest_comes() {
    const LINES: u64 = 20_000;
    block_on(async {
        let upstream = Upstream::start().await;
        upstream.set("/list", Served::Lines(LINES));
        let home = home(&feed("long", &format!("{}/list", upstream.origin), "freetext", "")).await;
        let (name, mut time) = ("sync_all_misp_feeds", Duration::from_secs(3));
        let mut report = home.run_within(task(name), Value::Null, time).await;
        let cut = of(&report, "long").clone();
        assert_eq!((report.status, cut.outcome), (Status::Partial, Outcome::Deferred), "{cut:?}");
        while report.continues.is_some() {
            time += Duration::from_secs(5);
            let sent = home.continuations();
            let event = json!({
                "source": "minerva", "detail-type": "Minerva Task Continuation", "detail": sent.last().unwrap(),
            });
            report = home.run_within(task(name), event, time).await;
        }
        assert_eq!(report.status, Status::Complete, "{report:?}");
        // What was read of it is not asked for again, but once at its end, to see what left.
        let ranges = upstream
            .headers
            .lock()
            .unwrap()
            .iter()
            .filter(|one| one.contains_key(header::RANGE))
            .count();
        assert!(ranges >= 1, "{ranges}");
        let writes = home.home.documents.sequence(index()).await.unwrap();
        assert_eq!((documents(&home).await.len() as u64, writes), (LINES, LINES));
        assert_eq!(of(&sync(&home).await, "long").outcome, Outcome::NotModified);
    });
}

#[expect(clippy::disallowed_methods, reason = "how thorough this test is, is no setting of ours")]
fn list_lines() -> u64 {
    std::env::var("MINERVA_LIST_LINES").map_or(LIST_LINES, |text| text.parse().unwrap())
}

/// The most memory that a process held, until it ends.
fn watch(child: &mut Child) -> u64 {
    let path = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        most = most.max(kib.unwrap_or(0));
        thread::sleep(Duration::from_millis(20));
    }
    most
}

#[expect(clippy::print_stdout, reason = "with `--nocapture` the figures are worth a look")]
fn a_long_list_is_gone_on_with_after_a_kill() {
    let (lines, folder) = (list_lines(), tempfile::tempdir().unwrap());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let upstream = runtime.block_on(Upstream::start());
    upstream.set("/list", Served::Lines(lines));
    let (told, half) = std::sync::mpsc::channel();
    *upstream.half.lock().unwrap() = Some(told);
    let list = folder.path().join("feeds.toml");
    std::fs::write(&list, feed("long", &format!("{}/list", upstream.origin), "freetext", ""))
        .unwrap();
    let start = |event: &Value, request: &str| {
        Command::new(env!("CARGO_BIN_EXE_example"))
            .args(["sync_all_misp_feeds", "870000", &event.to_string(), request])
            .env_clear()
            .env("MINERVA_DATA_DIR", folder.path())
            .env("MINERVA_ALLOW_NETS", "127.0.0.1")
            .env("MISP_FEEDS", &list)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let began = Instant::now();
    let mut killed = start(&json!({}), "killed");
    let pid = rustix::process::Pid::from_child(&killed);
    let killer = thread::spawn(move || {
        half.recv_timeout(Duration::from_secs(3_000)).unwrap();
        // What is on its way is stored, or not: either must do.
        thread::sleep(Duration::from_millis(100));
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    });
    let before = watch(&mut killed);
    killer.join().unwrap();
    let (mut after, mut event, mut steps) = (0, json!({}), 0);
    let report = loop {
        let mut child = start(&event, &format!("step-{steps}"));
        after = after.max(watch(&mut child));
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let printed: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
            .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        let Some(sent) = printed["continuations"].as_array().and_then(|sent| sent.last()) else {
            break printed["report"].clone();
        };
        event = json!({"source": "minerva", "detail-type": "Minerva Task Continuation", "detail": sent});
        steps += 1;
    };
    println!(
        "{lines} lines in {:.1} s and {steps} continuations; {before} KiB before the kill, {after} KiB after it",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(report["status"], "complete", "{report}");
    runtime.block_on(async {
        let store = stores::documents::Embedded::open(folder.path()).await.unwrap();
        let count = stores::documents::DocumentReader::count(&store, index(), &Default::default())
            .await
            .unwrap();
        let writes = stores::documents::DocumentReader::sequence(&store, index()).await.unwrap();
        assert_eq!((count, writes), (lines, lines), "each once: {report}");
    });
    for memory in [before, after] {
        assert!(memory <= LIST_MEMORY_MAX_KIB, "{memory} KiB");
    }
    // Unchanged but for its tag.
    let again = start(&json!({}), "again").wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    let again: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(again["report"]["sources"][0]["outcome"], "not_modified", "{again}");
}
