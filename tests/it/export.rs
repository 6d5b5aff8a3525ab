//! Indicators given out again: what goes out and what does not, the same bytes twice, and each form read by the program that
//! it is for.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use indicator::IndicatorKind;
use serde_json::{Value, json};
use stores::documents::{Document, Documents as _, Embedded, Index};

use crate::documents::{block_on, cache};
use crate::home::{CLOCK, Home, peak_kb};

/// Every trial with its name, for the main of the tests.
macro_rules! trials {
    ($($name:ident)*) => {
        pub(crate) const TRIALS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

trials! {
    what_goes_out_and_what_does_not_is_counted
    a_value_of_several_families_goes_to_machines_once
    equal_stores_give_equal_bytes
    no_cell_of_a_spreadsheet_is_a_formula
    a_slip_is_answered_with_what_was_meant
    a_large_store_goes_out_in_little_memory
    suricata_takes_every_rule
    readers_take_what_is_exported
}

/// The families with the index of each.
const FAMILIES: [(&str, &str); 3] = [
    ("misp", "cti_misp_iocs"),
    ("otx", "otx_indicators"),
    ("signature-base", "signature_base_iocs"),
];

/// A stored indicator, as every family's documents are; `more` stands above the usual.
#[expect(clippy::needless_pass_by_value, reason = "a literal is given at each call")]
pub(crate) fn document(family: &str, kind: IndicatorKind, value: &str, more: Value) -> Document {
    let id = ioc::id(family, kind, value);
    let mut body = json!({
        "id": id, "source_family": family, "type": kind, "value": value, "value_raw": value, "tlp": "clear",
        "active": true, "left_at": null, "expires_at": null, "collected_at": "2026-02-01T00:00:00Z",
        "first_seen": "2026-01-15T08:00:00Z", "last_seen": "2026-02-20T08:00:00Z", "revision": 1,
        "feed_name": ["A feed"], "sources": [{"id": "a-feed", "name": "A feed"}], "sources_count": 1,
        "confidence": "High", "to_ids": null, "tags": ["c2"], "warninglist_hits": [], "warninglists": [],
        "references": ["https://example.org/report"], "description": "Seen at work.",
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let Value::Object(body) = body else { unreachable!() };
    Document { id, body }
}

/// Puts documents into a home's store.
pub(crate) fn put(home: &Home, documents: &[Document]) {
    block_on(async {
        let store = Embedded::open(&home.path("data")).await.unwrap();
        for (family, index) in FAMILIES {
            let of_family = |one: &&Document| one.body["source_family"] == family;
            let some: Vec<Document> = documents.iter().filter(of_family).cloned().collect();
            for batch in some.chunks(1_000) {
                let written = store.restore(Index::named(index).unwrap(), batch).await.unwrap();
                let refused = written.iter().find_map(|one| one.refusal());
                assert_eq!(refused, None);
            }
        }
    });
}

pub(crate) fn home(documents: &[Document]) -> Home {
    let home = Home::of(&[]).with("MINERVA_CLOCK", CLOCK);
    put(&home, documents);
    home
}

/// One of each kind with values that mean something to those who read them, and one for each reason to stay.
fn documents() -> Vec<Document> {
    use IndicatorKind as K;
    let misp = |kind, value: &str, more: Value| document("misp", kind, value, more);
    let plain = || json!({});
    let mut all = vec![
        misp(K::Ipv4, "198.51.100.7", plain()),
        misp(K::Ipv6, "2001:db8::7", json!({"tlp": "green"})),
        misp(K::IpPort, "198.51.100.8:8443", json!({"revision": 4})),
        misp(K::IpPort, "[2001:db8::8]:443", plain()),
        misp(K::Cidr, "203.0.113.0/24", plain()),
        misp(
            K::Domain,
            "evil.com",
            json!({"tlp": "amber", "description": "=HYPERLINK(\"http://x\")"}),
        ),
        misp(K::Hostname, "xn--bcher-kva.evil.com", json!({"tlp": "amber+strict"})),
        misp(K::Url, "http://evil.com:8080/a;b\"c|d\\e?f='g'&h=%20", plain()),
        misp(K::Url, "evil.com/gate.php", json!({"tlp": null})),
        misp(K::Md5, &"a1".repeat(16), plain()),
        misp(K::Sha1, &"b2".repeat(20), plain()),
        misp(K::Sha224, &"c3".repeat(28), plain()),
        misp(
            K::Sha256,
            &"d4".repeat(32),
            json!({"malware_family": ["Emotet; \"x\""], "threat_actor": ["APT28"]}),
        ),
        misp(K::Sha384, &"e5".repeat(48), plain()),
        misp(K::Sha512, &"f6".repeat(64), plain()),
        misp(K::Filename, "C:\\it's here\\-cmd.exe", plain()),
        misp(K::FilenameRegex, r"\\Temp\\[a-z]{8}\.exe", plain()),
        misp(K::Email, "@evil.com", json!({"tags": ["=1+1", "+x"]})),
        misp(K::Mutex, "-Global\\{mutex}", plain()),
        misp(K::Regkey, "HKLM\\Software\\Run", plain()),
        misp(K::Cve, "CVE-2026-1234", plain()),
        misp(K::Yara, "rule a { condition: true }", plain()),
        misp(K::Btc, "1BoatSLRHtKNngkdXEeobR76b53LETtpyT", plain()),
        misp(K::Ssdeep, "3:AXGBicFlgVNhBGcL6wCrFQEv:AXGHsNhxLsr2C", plain()),
        misp(K::Imphash, &"0a".repeat(16), plain()),
        misp(K::Pehash, &"0b".repeat(20), plain()),
        misp(K::Ja3, &"0c".repeat(16), plain()),
        misp(K::Asn, "AS64496", plain()),
        misp(K::Other, "something, \"else\"\nof two lines", plain()),
    ];
    all.extend([
        document("signature-base", K::Ipv4, "198.51.100.7", json!({"reference": ["https://example.org/b"]})),
        document("otx", K::Domain, "otx-only.com", json!({"sources": [{"id": "p1", "name": "Pulse, one"}], "feed_name": ["AlienVault OTX"]})),
        document("otx", K::Domain, "left.com", json!({"active": false, "left_at": "2026-02-10T00:00:00Z"})),
        document("otx", K::Domain, "expired.com", json!({"expires_at": "2026-02-28T00:00:00Z"})),
        document("otx", K::Domain, "later.com", json!({"expires_at": "2026-06-01T00:00:00Z"})),
        document("otx", K::Domain, "secret.com", json!({"tlp": "red"})),
        document("otx", K::Ipv4, "8.8.8.8", json!({
            "warninglist_hits": ["Public DNS"],
            "warninglists": [{"name": "Public DNS", "version": 3, "category": "false_positive"}],
        })),
        document("otx", K::Ipv4, "192.0.2.66", json!({
            "warninglist_hits": ["Tor exits"],
            "warninglists": [{"name": "Tor exits", "version": 1, "category": "known"}],
        })),
        document("otx", K::Domain, "context.com", json!({"to_ids": false})),
    ]);
    all
}

/// What an export wrote to standard output, and what it said of it.
fn export(home: &Home, arguments: &[&str]) -> (String, Value) {
    let ran = home.run(&[&["export", "--json", "--format"], arguments].concat());
    ran.ends_with(0);
    (ran.out.clone(), serde_json::from_str(&ran.err).unwrap())
}

fn what_goes_out_and_what_does_not_is_counted() {
    let all = documents();
    let home = home(&all);
    for format in ["text", "csv", "stix", "suricata"] {
        for more in [
            &[][..],
            &["--all"],
            &["--tlp", "red", "--all"],
            &["--tlp", "clear"],
            &["--where", "source_family=otx"],
        ] {
            let (out, said) = export(&home, &[&[format], more].concat());
            let count = |value: &Value| value.as_u64().unwrap();
            let left_out: u64 = said["left_out"].as_object().unwrap().values().map(count).sum();
            let matching = if more.contains(&"source_family=otx") { 8 } else { all.len() as u64 };
            assert_eq!(count(&said["written"]) + left_out, matching, "{format} {more:?}: {said}");
            assert_eq!(out.contains("secret.com"), more.contains(&"red"), "{format} {more:?}");
            let is_all = more.contains(&"--all");
            assert_eq!(out.contains("expired.com"), is_all, "{format} {more:?}");
            assert_eq!(out.contains("left.com"), is_all, "{format} {more:?}");
            assert!(out.contains("later.com"), "{format} {more:?}");
            let is_for_people = ["csv", "stix"].contains(&format) || is_all;
            assert_eq!(out.contains("8.8.8.8"), is_for_people, "{format} {more:?}");
            assert_eq!(out.contains("context.com"), is_for_people, "{format} {more:?}");
            assert!(out.contains("192.0.2.66"), "a list that says what it is: {format} {more:?}");
            // One that says nothing of it counts as amber.
            let is_amber = !more.contains(&"clear") && !more.contains(&"source_family=otx");
            assert_eq!(
                out.contains("gate.php") || out.contains("gate|2e|php"),
                is_amber,
                "{format} {more:?}: {out}"
            );
        }
    }
    let ran = home.run(&["export", "--format", "csv"]);
    ran.ends_with(0).says(&[
        "35 indicators written",
        "1 left out: stricter than TLP:AMBER+STRICT",
        "1 left out: expired",
        "1 left out: no longer held",
        "warning: 1 of them are TLP:AMBER,",
        "warning: 1 of them are TLP:AMBER+STRICT,",
    ]);
    let (text, _) = export(&home, &["text", "--where", "type=ipv4", "--since", "2026-01-01"]);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["192.0.2.66", "198.51.100.7"]);
    // Words mean what they mean to a search.
    for words in
        [&["HYPERLINK"][..], &["emotet", "hyperlink"], &["hyperlink", "--without", "emotet"]]
    {
        let search = ["search", "--index", "minerva-indicators", "--json"];
        let found = home.run(&[&search, words].concat()).json()["total"].as_u64().unwrap();
        let (out, _) = export(&home, &[&["csv", "--all", "--tlp", "red"], words].concat());
        assert!(found > 0 && out.lines().count() as u64 == found + 1, "{words:?}: {found}\n{out}");
    }
    let none = home.run(&["export", "--format", "text", "--where", "value=nothing.com"]);
    assert_eq!(
        (none.ends_with(0).out.as_str(), none.err.lines().next()),
        ("", Some("0 indicators written"))
    );
}

fn a_value_of_several_families_goes_to_machines_once() {
    let home = home(&documents());
    let lines = |text: &str, what: &str| text.lines().filter(|line| line.contains(what)).count();
    let (text, said) = export(&home, &["text"]);
    assert_eq!((lines(&text, "198.51.100.7"), &said["left_out"]["repeated"]), (1, &json!(1)));
    assert_eq!(lines(&export(&home, &["suricata"]).0, "-> [198.51.100.7] any"), 1);
    assert_eq!(
        lines(&export(&home, &["csv"]).0, "198.51.100.7"),
        2,
        "each says something of its own"
    );
    // What the other family has does not go out, so this one does.
    let (text, _) = export(&home, &["text", "--where", "source_family=signature-base"]);
    assert_eq!(text, "198.51.100.7\n");
}

/// Every file below a folder with what it holds.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    all.sort();
    all
}

fn equal_stores_give_equal_bytes() {
    let mut all = documents();
    let one = home(&all);
    all.reverse();
    let mut other = Home::of(&[]).with("MINERVA_CLOCK", "2026-03-02T00:00:00Z");
    put(&other, &all);
    for format in ["text", "csv", "stix", "suricata"] {
        let (first, second) = (export(&one, &[format]).0, export(&other, &[format]).0);
        assert_eq!(first, second, "{format}");
        let file = one.path(format);
        one.run(&["export", "--format", format, "--out", file.to_str().unwrap()]).ends_with(0);
        assert_eq!(fs::read_to_string(&file).unwrap(), first, "{format}");
        assert!(!one.path(&format!("{format}.part")).exists());
    }
    let feed = |home: &Home| {
        let folder = home.path("feed");
        home.run(&["export", "--format", "misp-feed", "--out", folder.to_str().unwrap()])
            .ends_with(0);
        files(&folder)
    };
    let first = feed(&one);
    assert_eq!(feed(&other), first);
    assert_eq!(feed(&one), first, "again in the same folder");
    // An event that is gone from the store is gone from the feed, and nothing else of the folder is.
    fs::write(one.path("feed/notes.txt"), "mine").unwrap();
    let narrow = ["export", "--format", "misp-feed", "--where", "source_family=otx", "--out"];
    one.run(&[&narrow[..], &[one.path("feed").to_str().unwrap()]].concat()).ends_with(0);
    let names: Vec<String> = files(&one.path("feed")).into_iter().map(|(name, _)| name).collect();
    let manifest: Value =
        serde_json::from_slice(&fs::read(one.path("feed/manifest.json")).unwrap()).unwrap();
    assert_eq!(names.len(), manifest.as_object().unwrap().len() + 3, "{names:?}");
    // A change that moves no date makes a later version.
    let stamp = |manifest: &Value| {
        manifest
            .as_object()
            .unwrap()
            .values()
            .map(|one| one["timestamp"].as_i64().unwrap())
            .sum::<i64>()
    };
    let before = stamp(&manifest);
    other = one;
    put(
        &other,
        &[document(
            "otx",
            IndicatorKind::Domain,
            "otx-only.com",
            json!({"revision": 2, "tags": ["new"], "feed_name": ["AlienVault OTX"]}),
        )],
    );
    other.run(&[&narrow[..], &[other.path("feed").to_str().unwrap()]].concat()).ends_with(0);
    let manifest: Value =
        serde_json::from_slice(&fs::read(other.path("feed/manifest.json")).unwrap()).unwrap();
    assert!(stamp(&manifest) > before, "{manifest}");
}

/// The cells of a line as Python's `csv` reads them, which a script and a spreadsheet agree with.
const READ_CSV: &str = r#"
import csv, json, sys
print(json.dumps(list(csv.DictReader(open(sys.argv[1], newline="", encoding="utf-8")))))
"#;

fn no_cell_of_a_spreadsheet_is_a_formula() {
    let all = documents();
    let home = home(&all);
    let file = home.path("out.csv");
    let file = file.to_str().unwrap();
    home.run(&["export", "--format", "csv", "--all", "--tlp", "red", "--out", file]).ends_with(0);
    let output = Command::new("python3").args(["-c", READ_CSV, file]).output().unwrap();
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.len(), all.len());
    for row in &rows {
        for (name, cell) in row.as_object().unwrap() {
            let cell = cell.as_str().unwrap();
            assert!(
                !cell.trim_start().starts_with(['=', '+', '-', '@', '\t', '\r']),
                "{name}: {cell:?}"
            );
        }
    }
    let of = |value: &str| {
        rows.iter().find(|row| row["value"] == value).unwrap_or_else(|| panic!("{value}"))
    };
    assert_eq!(
        of("something, \"else\"\nof two lines")["type"],
        "other",
        "a value comes back as it is stored"
    );
    assert_eq!(of("'@evil.com")["tags"], "'=1+1 | +x");
    assert_eq!(of("evil.com")["description"], "'=HYPERLINK(\"http://x\")");
    assert_eq!(of("8.8.8.8")["warninglists"], "Public DNS");
}

fn a_slip_is_answered_with_what_was_meant() {
    let home = home(&documents());
    for (arguments, words) in [
        (&["export", "--format", "sticks"][..], &["stix"][..]),
        (&["export"], &["--format"]),
        (&["export", "--format", "text", "--tlp", "ambr"], &["amber"]),
        (&["export", "--format", "text", "--where", "valeu=x"], &["did you mean `value`?"]),
        (&["export", "--format", "text", "--where", "value"], &["FIELD=VALUE"]),
        (&["export", "--format", "text", "--since", "yesterday"], &["an age"]),
        (
            &["export", "--format", "text", "--index", "rss_articles"],
            &["holds no indicators", "minerva-indicators"],
        ),
        (
            &["export", "--format", "text", "--index", "otx_indicator"],
            &["did you mean `otx_indicators`?"],
        ),
        (&["export", "--format", "misp-feed"], &["--out FOLDER"]),
        (&["export", "--format", "text", "--out", "."], &["it is a folder"]),
        (&["export", "--format", "text", "--out", "no/such/folder/x"], &["no/such/folder/x"]),
    ] {
        home.run(arguments).ends_with(2).says(words);
    }
}

/// The peak of an export in KiB.
fn peak(home: &Home, format: &str) -> u64 {
    let out = home.path("peak");
    let mut running = home.spawn(&["export", "--format", format, "--out", out.to_str().unwrap()]);
    let mut peak = 0;
    while running.ended_within(Duration::ZERO).is_none() {
        peak = peak.max(peak_kb(running.pid()).unwrap_or_default());
        thread::sleep(Duration::from_millis(2));
    }
    assert!(fs::metadata(&out).unwrap().len() > 0);
    let _ = fs::remove_file(&out).or_else(|_| fs::remove_dir_all(&out));
    peak
}

fn a_large_store_goes_out_in_little_memory() {
    const MOST_KB: u64 = 96 << 10;
    let text = "a long description ".repeat(200);
    let of = |number: u32| {
        let value = format!("evil{number}.com");
        document("otx", IndicatorKind::Domain, &value, json!({ "description": text }))
    };
    let home = home(&(0..26_000).map(of).collect::<Vec<_>>());
    for format in ["csv", "stix", "suricata", "text", "misp-feed"] {
        // 110 MB of text, which in memory is more. What is held is a page of documents, or an event of 5,000 attributes at the
        // most: 55 to 68 MiB in all, of which 31 to 36 are pages of the program's own file and 14 what any command holds.
        let peak = peak(&home, format);
        assert!(peak < MOST_KB, "{format}: {peak} KiB");
    }
}

// Those who read it.

/// Why Suricata cannot be asked here, if it cannot.
pub(crate) fn no_suricata() -> Option<&'static str> {
    let found = Command::new("suricata").arg("-V").output();
    found.is_err().then_some("suricata is not installed")
}

fn suricata_takes_every_rule() {
    let mut all = documents();
    let hostile = [
        "http://evil.com/\"; sid:1; content:\"",
        "http://evil.com/a|41|b",
        "http://evil.com/a:b;c\\d",
        "http://evil.com/%22%3b",
        "https://198.51.100.9:8443/x?y=z#f",
        "http://[2001:db8::9]/a",
        "http://evil.com/ü",
    ];
    all.extend(hostile.map(|url| {
        document("otx", IndicatorKind::Url, url, json!({"feed_name": ["a \"feed\"; \\ of | ü"]}))
    }));
    let many = |number: u32| {
        document("otx", IndicatorKind::Hostname, &format!("h{number}.evil.com"), json!({}))
    };
    all.extend((0..2_000).map(many));
    let home = home(&all);
    let (rules, said) = export(&home, &["suricata"]);
    let file = home.path("minerva.rules");
    fs::write(&file, &rules).unwrap();
    let mut sids: Vec<&str> =
        rules.lines().filter_map(|line| line.split("sid:").nth(1)?.split(';').next()).collect();
    let count = rules.lines().filter(|line| line.starts_with("alert ")).count();
    sids.sort_unstable();
    sids.dedup();
    assert_eq!(sids.len(), count, "{said}");
    let log = home.path("log");
    fs::create_dir(&log).unwrap();
    let mut suricata = Command::new("suricata");
    suricata.arg("-T").arg("-v").arg("-S").arg(&file).arg("-l").arg(&log);
    let output = suricata.output().unwrap();
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains(&format!("{count} rules successfully loaded, 0 rules failed")),
        "{count}: {told}"
    );
}

/// The packages of the readers, with the versions that were tried.
const PACKAGES: [&str; 2] = ["pymisp==2.5.34.4", "stix2-validator==3.3.2"];

/// The Python that has the readers, or why there is none.
fn readers() -> Result<PathBuf, String> {
    tests::pypi::programs(cache(), &PACKAGES).map(|programs| programs.join("python"))
}

/// Why the readers cannot be had here, if they cannot.
pub(crate) fn unavailable() -> Option<String> {
    readers().err()
}

/// Reads a feed with `PyMISP` as MISP would, and gives what it read.
pub(crate) const READ_FEED: &str = r#"
import json, os, sys, pymisp
folder = sys.argv[1]
manifest = json.load(open(os.path.join(folder, "manifest.json")))
hashes, read, events = [], [], []
for uuid, entry in manifest.items():
    event = pymisp.MISPEvent()
    event.load_file(os.path.join(folder, uuid + ".json"), validate=False, metadata_only=False)
    assert event.uuid == uuid
    again = json.loads(event.to_json())
    feed = event.to_feed(with_meta=True)
    meta = feed["Event"].pop("_manifest")[uuid]
    for name in ("info", "date", "analysis", "threat_level_id", "timestamp"):
        assert str(meta[name]) == str(entry[name]), (name, meta[name], entry[name])
    assert meta["Orgc"] == entry["Orgc"], meta["Orgc"]
    assert sorted(tag["name"] for tag in meta["Tag"]) == sorted(tag["name"] for tag in entry["Tag"])
    hashes += [f"{one},{uuid}" for one in feed["Event"].pop("_hashes")]
    events.append({"info": event.info, "tags": [tag.name for tag in event.tags], "uuid": uuid, "timestamp": entry["timestamp"]})
    for one in event.attributes:
        read.append({"event": uuid, "type": one.type, "category": one.category, "value": one.value, "to_ids": one.to_ids,
                     "comment": one.get("comment", ""), "tags": [tag.name for tag in one.tags]})
written = open(os.path.join(folder, "hashes.csv")).read().split()
assert sorted(set(written)) == sorted(set(hashes)), set(written) ^ set(hashes)
print(json.dumps({"events": events, "attributes": read}))
"#;

/// What a Python program prints as JSON.
#[track_caller]
pub(crate) fn python(program: &str, arguments: &[&str]) -> Value {
    let python = readers().expect("this test is skipped where there is none");
    let output = Command::new(python)
        .args(["-W", "ignore", "-c", program])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Checks a bundle with OASIS's validator, and its patterns with the grammar.
const CHECK_STIX: &str = r#"
import json, sys
from stix2validator import validate_file, ValidationOptions
result = validate_file(sys.argv[1], ValidationOptions(version="2.1", strict=False))
errors = [str(error) for error in (result.object_results[0].errors if result.object_results else [])] if not result.is_valid else []
warnings = sorted({str(warning).split(":")[0][-40:] + str(warning) for one in result.object_results for warning in one.warnings})
if result.fatal:
    errors.append(str(result.fatal))
print(json.dumps({"valid": result.is_valid, "errors": errors, "warnings": warnings[:20]}))
"#;

fn readers_take_what_is_exported() {
    let all = documents();
    let home = home(&all);
    let path = |name: &str| home.path(name).to_str().unwrap().to_owned();
    let (feed, bundle) = (path("feed"), path("bundle.json"));
    home.run(&["export", "--format", "misp-feed", "--out", &feed]).ends_with(0);
    let read = python(READ_FEED, &[&feed]);
    let attributes = read["attributes"].as_array().unwrap();
    assert_eq!(attributes.len(), 35, "every one that may go out");
    let of = |value: &str| {
        attributes
            .iter()
            .find(|one| one["value"] == value)
            .unwrap_or_else(|| panic!("{value}: {read}"))
    };
    assert_eq!(of("2001:db8::8|443")["type"], "ip-dst|port");
    assert_eq!(of("CVE-2026-1234")["to_ids"], false);
    assert_eq!(of("context.com")["to_ids"], false);
    assert_eq!(of("8.8.8.8")["tags"], json!(["c2", "warninglist:Public DNS"]));
    for event in read["events"].as_array().unwrap() {
        let tags = event["tags"].as_array().unwrap();
        assert!(
            tags.len() <= 1 && !tags.contains(&json!("tlp:red")),
            "one marking an event: {event}"
        );
    }
    let with_tag = |tag: &str| {
        let events = read["events"].as_array().unwrap().iter();
        let ids: Vec<&Value> =
            events.filter(|one| one["tags"] == json!([tag])).map(|one| &one["uuid"]).collect();
        attributes
            .iter()
            .filter(|one| ids.contains(&&one["event"]))
            .map(|one| one["value"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(with_tag("tlp:amber"), ["evil.com"]);
    assert_eq!(with_tag("tlp:amber+strict"), ["xn--bcher-kva.evil.com"]);

    home.run(&["export", "--format", "stix", "--out", &bundle]).ends_with(0);
    let said = python(CHECK_STIX, &[&bundle]);
    assert_eq!(said["valid"], true, "{said}");
    let bundle: Value = serde_json::from_slice(&fs::read(&bundle).unwrap()).unwrap();
    let objects = bundle["objects"].as_array().unwrap();
    let count = |kind: &str| objects.iter().filter(|one| one["type"] == kind).count();
    assert_eq!((count("indicator"), count("vulnerability"), count("identity")), (30, 1, 1));
    assert_eq!(count("marking-definition"), 4, "those that are used");
}
