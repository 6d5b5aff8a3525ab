//! Stores that the version before wrote: they are opened, and the next runs write only what changed, in a source or in the form
//! of its documents.
//!
//! `tests/fixtures/stores/before/` holds them; `tests/compare/make_before.py` wrote them. The upstream answers with the same
//! bodies and other validators, so that everything is read and compared: what keeps it from being written is its hash
//! alone, in the form which that version gave it. Malpedia's folder is at another place, for the same reason.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::report::Status;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use local_runner::families::{all_tasks, declared};
use serde::Deserialize;
use serde_json::{Value, json};
use stores::documents::{Index, Query};
use task::testing::{TestHome, Upstream};
use tempfile::TempDir;

use crate::documents::{Check, Place, block_on};
use crate::servers::address;
use crate::state::{Test, World, by_name};

pub(crate) const TRIALS: &[(&str, fn())] = &[(NAME, on_files)];

/// On each document server; the state is the embedded one.
pub(crate) const SERVER_CHECKS: &[(&str, Check)] = &[(NAME, on_a_document_server)];

/// With the state in PostgreSQL; the documents are the embedded ones.
pub(crate) const ON_POSTGRES: &[(&str, Test)] =
    by_name![what_the_version_before_stored_is_not_written_again];

const NAME: &str = "what_the_version_before_stored_is_not_written_again";

/// An hour after the fixture's runs.
const LATER: &str = "2026-03-01T13:00:00Z";

/// The documents of the fixture, by index.
const STORED: &[(&str, u64)] = &[
    ("cti_yara_rules", 105),
    ("malpedia_actors", 4),
    ("malpedia_families", 16),
    ("malpedia_library", 22),
    ("rss_articles", 30),
    ("signature_base_iocs", 350),
];

/// Families whose first alias that version took for the name that people use, which it is not: they are named by their id now.
const RENAMED: u64 = 4;

/// Indicators: each was written anew once, as they became documents as those of the other families are. What that added:
const MOVED: u64 = 350;
const ADDED: &[&str] = &[
    "event_uuids",
    "expires_at",
    "feed_name",
    "first_source",
    "lead_days",
    "malware_family",
    "provider",
    "references",
    "sources_count",
    "threat_actor",
    "to_ids",
    "warninglist_hits",
    "warninglists",
];
/// What tells one writing from another.
const WRITTEN: &[&str] = &["content_hash", "owners", "revision"];

/// A file of rules of which no other rule makes use: with a rule, those that stand on it are written too.
const EDITED_RULES: &str = "yara/apt_apt27_rshell.yar";

/// Documents sent to a server at once.
const BATCH: usize = 200;

/// What the fixture's homes were set to.
#[derive(Deserialize)]
struct Before {
    es_index_prefix: String,
    settings: BTreeMap<String, String>,
    sources: String,
    tasks: Vec<String>,
    /// The file below `tests/fixtures` of each path.
    upstream: BTreeMap<String, String>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn read(name: &str) -> Vec<u8> {
    let path = fixtures().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn unpacked(name: &str) -> Vec<u8> {
    let packed = read(&format!("stores/before/{name}"));
    let mut content = Vec::new();
    GzDecoder::new(Cursor::new(packed)).read_to_end(&mut content).expect("it is a gzip file");
    content
}

fn before() -> Before {
    serde_json::from_slice(&read("stores/before/settings.json")).expect("the fixture's settings")
}

fn on_files() {
    block_on(goes_on(&[]));
}

async fn what_the_version_before_stored_is_not_written_again(world: Arc<World>) {
    let dump = String::from_utf8(unpacked("postgres.sql.gz")).expect("it is text");
    world.execute(&dump).await;
    assert_eq!(world.number("SELECT count(*) FROM runs").await, 4);
    goes_on(&[("DATABASE_URL", world.url())]).await;
    // The runs were added to those that were there.
    assert_eq!(world.number("SELECT count(*) FROM runs").await, 12);
}

fn on_a_document_server(place: &mut Place) {
    restore(place);
    block_on(goes_on(&[
        ("ES_URL", address(place).to_string()),
        ("ES_INDEX_PREFIX", place.stores.es_index_prefix.clone()),
    ]));
    // The same indices have taken over which values are passed over.
    for (name, _) in STORED {
        let said = place.ask("GET", &format!("/{}/_mapping", place.named(name)), &Value::Null);
        let mapping = &said[place.named(&format!("{name}-v1"))]["mappings"];
        let wanted = &Index::named(name).expect("it is there").mapping;
        for (field, setting) in
            [("source_family", "ignore_above"), ("collected_at", "ignore_malformed")]
        {
            let of = |mapping: &Value| mapping["properties"][field][setting].clone();
            assert!(!of(wanted).is_null());
            assert_eq!(of(mapping), of(wanted), "{name}: {field}");
        }
    }
}

/// Makes the fixture's indices anew, with their mappings and aliases, below this place's prefix.
fn restore(place: &Place) {
    let (prefix, ours) = (before().es_index_prefix, &place.stores.es_index_prefix);
    let renamed = |name: &str| name.replacen(&prefix, ours, 1);
    let content = String::from_utf8(unpacked("elasticsearch.jsonl.gz")).expect("it is text");
    let mut index = String::new();
    let mut batch = Vec::new();
    let send = |index: &str, batch: &mut Vec<String>| {
        if batch.is_empty() {
            return;
        }
        let path = format!("/{index}/_bulk?refresh=true");
        let said = place.ask_lines("POST", &path, &batch.concat());
        assert_eq!(said["errors"], false, "{said}");
        batch.clear();
    };
    for line in content.lines() {
        let mut line: Value = serde_json::from_str(line).expect("a line of JSON");
        if let Some(name) = line["index"].as_str() {
            send(&index, &mut batch);
            index = renamed(name);
            let aliases: serde_json::Map<String, Value> = line["aliases"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, alias)| (renamed(name), alias.clone()))
                .collect();
            let body = json!({
                "aliases": aliases, "mappings": line["mappings"].take(), "settings": {"index": line["settings"].take()},
            });
            let said = place.ask("PUT", &format!("/{index}"), &body);
            assert_eq!(said["acknowledged"], true, "{index}: {said}");
        } else {
            let action = json!({"create": {"_id": line["_id"]}});
            batch.push(format!("{action}\n{}\n", line["_source"]));
            if batch.len() == BATCH {
                send(&index, &mut batch);
            }
        }
    }
    send(&index, &mut batch);
}

/// Opens a copy of the fixture's embedded home with these settings above its own, and runs its tasks on it: nothing is
/// written for the same bodies, and for one changed item of each index that item alone.
async fn goes_on(stores: &[(&str, String)]) {
    let before = before();
    let upstream = Upstream::start().await;
    for (path, file) in &before.upstream {
        upstream.put(path, read(file));
    }
    let home = open(restored(&before), &before, &upstream, stores).await;
    for (name, stored) in STORED {
        let index = Index::named(name).expect("it is there");
        let count = home.home.documents.count(index, &Query::default()).await.expect("it counts");
        assert_eq!(count, *stored, "{name}");
    }

    let at_first = writes(&home).await;
    let iocs = Index::named("signature_base_iocs").expect("it is there");
    let iocs_before = home.documents(iocs).await.expect("they are read");
    for task in &before.tasks {
        let (counts, found) = run(&home, task).await;
        let changed = match task.as_str() {
            "sync_malpedia_all_to_es" => RENAMED,
            "sync_signature_base_all" => MOVED,
            _ => 0,
        };
        assert_eq!((counts, found > 0), ([0, changed], true), "{task}: new and changed");
    }
    let expected = BTreeMap::from([("malpedia_families", RENAMED), ("signature_base_iocs", MOVED)]);
    assert_eq!(added(&at_first, &writes(&home).await), expected, "the same bodies");
    let iocs_after = home.documents(iocs).await.expect("they are read");
    assert_eq!(iocs_before.len(), iocs_after.len());
    for (before, after) in iocs_before.iter().zip(&iocs_after) {
        assert_eq!(before.id, after.id);
        for (name, value) in &before.body {
            let is_kept = WRITTEN.contains(&name.as_str()) || holds(&after.body[name], value);
            assert!(is_kept, "`{name}` of {}: {value}, then {}", before.id, after.body[name]);
        }
        let is_known =
            |name: &&String| !before.body.contains_key(*name) && !ADDED.contains(&name.as_str());
        assert_eq!(after.body.keys().find(is_known), None);
    }

    let edit = |path: &str, from: &str, to: &str| {
        let body = read(&before.upstream[path]);
        upstream.put(path, replaced(&body, from, to));
    };
    edit("/feed/cloudflare", "Credential Checking", "Credential Checking, revised");
    edit("/library/download", "PAPERMILL FRAMEWORK", "PAPERMILL FRAMEWORK, revised");
    let tarball = read(&before.upstream["/signature-base.tar.gz"]);
    upstream.put("/signature-base.tar.gz", with_an_edited_rule(&tarball));
    let family = home.path().join("malpedia/families_enriched/family 4.json");
    let body = fs::read(&family).expect("it is read");
    fs::write(&family, replaced(&body, "com acentos", "com acentos e mais"))
        .expect("it is written");
    for task in &before.tasks {
        run(&home, task).await;
    }
    let once = ["cti_yara_rules", "malpedia_families", "malpedia_library", "rss_articles"];
    let mut expected: BTreeMap<_, _> = once.into_iter().map(|name| (name, 1)).collect();
    *expected.entry("malpedia_families").or_default() += RENAMED;
    expected.insert("signature_base_iocs", MOVED);
    assert_eq!(added(&at_first, &writes(&home).await), expected, "one item of each was edited");
}

/// Whether a value is there with all that an earlier one said.
fn holds(now: &Value, before: &Value) -> bool {
    match (now, before) {
        (Value::Object(now), Value::Object(before)) => before.iter().all(|(name, before)| {
            before.is_null() || now.get(name).is_some_and(|now| holds(now, before))
        }),
        // Two equal lines are one contribution now.
        (Value::Array(now), Value::Array(before)) => {
            before.iter().all(|before| now.iter().any(|now| holds(now, before)))
        }
        _ => now == before,
    }
}

/// A folder with the fixture's embedded stores, its list of sources, and its families and actors as files.
fn restored(before: &Before) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    tar::Archive::new(Cursor::new(unpacked("embedded.tar.gz"))).unpack(&data).expect("a tarball");
    fs::write(folder.path().join("sources.toml"), &before.sources).expect("it is written");
    copy(&fixtures().join("stores/before/malpedia"), &folder.path().join("malpedia"));
    folder
}

/// The upstream is a proxy, since addresses of the fixture name no port.
async fn open(
    folder: TempDir,
    before: &Before,
    upstream: &Upstream,
    further: &[(&str, String)],
) -> TestHome {
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let ours = [
        ("HTTPS_PROXY", upstream.origin().to_owned()),
        ("MINERVA_CLOCK", LATER.to_owned()),
        ("RSS_SOURCES", path("sources.toml")),
        ("MALPEDIA_DIR", path("malpedia")),
    ];
    let settings: BTreeMap<String, String> = before
        .settings
        .clone()
        .into_iter()
        .chain(
            [&ours[..], further].concat().into_iter().map(|(name, value)| (name.to_owned(), value)),
        )
        .collect();
    let settings: Vec<_> = settings.into_iter().collect();
    TestHome::open(folder, &settings, &declared())
        .await
        .unwrap_or_else(|error| panic!("{}", error.chain()))
}

/// What a task counts as new and changed, and what it found.
async fn run(home: &TestHome, name: &str) -> ([u64; 2], u64) {
    let (_, task) = all_tasks().find(|(_, task)| task.name == name).expect("it is listed");
    let report = home.run(task, Value::Null).await;
    assert_eq!(report.status, Status::Complete, "{report:?}");
    ([report.counts.new, report.counts.changed], report.counts.found)
}

/// How often each index was written to.
async fn writes(home: &TestHome) -> BTreeMap<&'static str, u64> {
    let mut all = BTreeMap::new();
    for (name, _) in STORED {
        let index = Index::named(name).expect("it is there");
        all.insert(*name, home.home.documents.sequence(index).await.expect("it counts"));
    }
    all
}

/// By how much each count rose, where it did.
fn added(
    before: &BTreeMap<&'static str, u64>,
    after: &BTreeMap<&'static str, u64>,
) -> BTreeMap<&'static str, u64> {
    let rose = after.iter().map(|(name, count)| (*name, count - before[name]));
    rose.filter(|(_, more)| *more > 0).collect()
}

fn replaced(body: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = body.windows(from.len()).position(|part| part == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no `{from}`"));
    [&body[..at], to.as_bytes(), &body[at + from.len()..]].concat()
}

/// The tarball with another description of one rule.
fn with_an_edited_rule(tarball: &[u8]) -> Vec<u8> {
    let mut old = tar::Archive::new(GzDecoder::new(tarball));
    let mut new = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut is_edited = false;
    for entry in old.entries().expect("a tarball") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("it is read");
        if path.ends_with(EDITED_RULES) {
            content = replaced(&content, "description = \"", "description = \"Revised: ");
            is_edited = true;
        }
        let mut header = entry.header().clone();
        header.set_size(content.len() as u64);
        new.append_data(&mut header, path, &content[..]).expect("it is written");
    }
    assert!(is_edited);
    new.into_inner().and_then(GzEncoder::finish).expect("it is written")
}

/// Copies the fixture's folder of families and actors, since a trial edits it.
fn copy(from: &Path, to: &Path) {
    for kind in ["families_enriched", "actors_enriched"] {
        fs::create_dir_all(to.join(kind)).expect("a folder");
        for entry in fs::read_dir(from.join(kind)).expect("a folder") {
            let entry = entry.expect("an entry");
            let target = to.join(kind).join(entry.file_name());
            fs::copy(entry.path(), target).expect("it is copied");
        }
    }
}
