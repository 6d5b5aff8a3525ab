//! MISP events to documents, against `PyMISP` loading the same files; and free text to typed values, against `iocextract` and
//! `ioc-finder`, with how far all agree.
//!
//! `cargo bench --bench misp` installs the rivals from PyPI; `-- alone` goes without. `PyMISP` makes objects of attributes; ours are
//! whole documents with ids and normal forms. Of the texts, iocextract knows addresses, URLs, mail addresses and hashes;
//! ioc-finder also names of hosts and more; hashes and addresses are compared, which all three know.

#![expect(clippy::print_stdout, reason = "a benchmark speaks to people")]

mod rival;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use misp::event::Event;
use misp::feeds::{Feed, Feeds};
use misp::flat::{Found, Place, Reader};
use misp::indicators::{Batch, Seen, listed, of_event};
use misp::wire::{Part, parts};
use rival::{Rival, Spread};

const ROUNDS: usize = 5;
const EVENTS_RIVAL: &[&str] = &["pymisp==2.5.34.4"];
/// Those who find indicators in text, with their scripts and the part of the copies that they are asked to read: both take
/// minutes for all of them.
const TEXT_RIVALS: [(&[&str], &str, usize); 2] = [
    // It does not say that it needs requests; its time grows with the square of the text.
    (&["iocextract==1.16.1", "requests==2.32.5"], "iocextract_rival.py", 100),
    (&["ioc-finder==9.4.1"], "ioc_finder_rival.py", 20),
];
/// Our rounds over the events are short, so each takes this many passes.
const PASSES: usize = 5;
/// Copies of the real texts.
const COPIES: usize = 100;

fn main() {
    let now = Timestamp::from_second(1_790_000_000).expect("an instant");
    let feed = feed();
    let bodies = files(&["events", "feeds/infoblox"], "json");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (place, body) in bodies.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{place}.json")), body).expect("it is written");
    }
    let mut rival = start(EVENTS_RIVAL, "pymisp_rival.py", folder.path());
    let (mut ours, mut theirs, mut attributes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..PASSES {
            attributes = bodies.iter().map(|body| event(&feed, body, now)).sum::<u64>();
        }
        ours.push((PASSES as u64 * attributes) as f64 / began.elapsed().as_secs_f64());
        if let Some(rival) = &mut rival {
            let answer = rival.ask("read").expect("the rival answered before");
            assert_eq!(answer["attributes"], attributes, "the rival reads them all");
            theirs.push(attributes as f64 / answer["s"].as_f64().expect("a number"));
        }
    }
    println!("events: {} with {attributes} attributes", bodies.len());
    shown("attributes/s", EVENTS_RIVAL[0], ours, theirs);

    free_text(&feed, now);
}

fn free_text(feed: &Feed, now: Timestamp) {
    let texts = files(&["freetext_feeds/unit42"], "");
    let text: String = texts.iter().map(|text| String::from_utf8_lossy(text) + "\n").collect();
    let copies = text.repeat(COPIES);
    let mut found = vec![("minerva", values(feed, text.as_bytes()))];
    println!("free text: {:.1} MB", copies.len() as f64 / 1e6);
    for (packages, script, part) in TEXT_RIVALS {
        let package = packages[0];
        let theirs_read = text.repeat(COPIES / part);
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("copies.txt"), &theirs_read).expect("it is written");
        std::fs::write(folder.path().join("one.txt"), &text).expect("it is written");
        let mut rival = start(packages, script, folder.path());
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let began = Instant::now();
            black_box(list(feed, copies.as_bytes(), now));
            ours.push(copies.len() as f64 / 1e6 / began.elapsed().as_secs_f64());
            if let Some(rival) = &mut rival {
                let answer = rival.ask("copies").expect("the rival answered before");
                let took = answer["s"].as_f64().expect("a number");
                theirs.push(theirs_read.len() as f64 / 1e6 / took);
            }
        }
        shown("MB/s", package, ours, theirs);
        if let Some(rival) = &mut rival {
            let answer = rival.ask("one").expect("the rival answered before");
            let values = answer["values"].as_array().expect("a list").iter();
            found
                .push((package, values.filter_map(|one| Some(one.as_str()?.to_owned())).collect()));
        }
    }
    agreement(&found);
}

/// How many values all have, and what each pair has that the other has not.
fn agreement(found: &[(&str, BTreeSet<String>)]) {
    let mut all = found[0].1.clone();
    all.retain(|value| found.iter().all(|(_, values)| values.contains(value)));
    let counts: Vec<String> =
        found.iter().map(|(who, values)| format!("{who} {}", values.len())).collect();
    println!("hashes and addresses: all {}; {}", all.len(), counts.join(", "));
    for (who, values) in found {
        for (other, theirs) in found.iter().filter(|(other, _)| other != who) {
            let only: Vec<&String> = values.difference(theirs).collect();
            println!(
                "  {who} and not {other}: {}, as {:?}",
                only.len(),
                &only[..only.len().min(5)]
            );
        }
    }
}

fn shown(unit: &str, rival: &str, ours: Vec<f64>, theirs: Vec<f64>) {
    let ours = Spread::of(ours);
    println!("minerva {:>12.1} {unit} ({:.1} to {:.1})", ours.median, ours.least, ours.greatest);
    if !theirs.is_empty() {
        let theirs = Spread::of(theirs);
        println!(
            "{rival} {:>12.1} {unit} ({:.1} to {:.1})  ratio {:.1}",
            theirs.median,
            theirs.least,
            theirs.greatest,
            ours.median / theirs.median
        );
    }
}

fn feed() -> Feed {
    let text =
        "[[feed]]\nid = \"a\"\nname = \"A\"\nurl = \"https://e.org/\"\nformat = \"freetext\"\n";
    Feeds::parse(text, "a benchmark").expect("it is a list").into_all().remove(0)
}

/// What lies in these folders of the fixtures, but for manifests and licences.
fn files(folders: &[&str], ending: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/misp");
    let mut paths: Vec<_> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).expect("it is there"))
        .map(|entry| entry.expect("it is read").path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            path.is_file() && name.ends_with(ending) && name != "manifest.json" && name != "LICENSE"
        })
        .collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).expect("it is read")).collect()
}

/// Documents of an event; how many attributes it has.
fn event(feed: &Feed, body: &[u8], now: Timestamp) -> u64 {
    let event = Event::of(black_box(body)).expect("it is one");
    let take = |batch: Batch| {
        black_box(&batch.writes);
        true
    };
    of_event(feed, &event, false, None, now, None, take).expect("it is read").attributes
}

/// Documents of a list; how many.
fn list(feed: &Feed, body: &[u8], now: Timestamp) -> u64 {
    let (mut batch, mut seen, mut count) = (Batch::default(), Seen::default(), 0);
    let mut reader = Reader::new(feed, Place::default()).expect("its settings are right");
    for part in body.chunks(64 << 10) {
        reader.push(part, false, &mut |found| {
            if let Found::Typed(typed, facts) = found {
                count +=
                    listed(feed, &typed, &facts, None, now, &mut seen, &mut batch).len() as u64;
            }
        });
        black_box(&batch.writes);
        batch = Batch::default();
    }
    reader.push(&[], true, &mut |_| {});
    count
}

/// The distinct hashes and addresses of a text in their normal forms.
fn values(feed: &Feed, body: &[u8]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut reader = Reader::new(feed, Place::default()).expect("its settings are right");
    reader.push(body, true, &mut |found| {
        let Found::Typed(typed, _) = found else { return };
        for part in parts(typed.kind, typed.category(), true, &typed.value) {
            let Part::Indicator(found) = part else { continue };
            if matches!(found.kind.as_str(), "md5" | "sha1" | "sha256" | "sha512" | "ipv4" | "ipv6")
            {
                all.insert(found.value);
            }
        }
    });
    all
}

fn start(packages: &[&str], script: &str, folder: &Path) -> Option<Rival> {
    let started = || {
        if std::env::args().any(|word| word == "alone") {
            return Err("as was asked for".to_owned());
        }
        let programs = tests::pypi::programs(Path::new(env!("CARGO_TARGET_TMPDIR")), packages)?;
        let mut rival = Rival::start(&programs.join("python"), script, folder)?;
        rival.ask("warm")?; // By now it has read the files, and is warm.
        Ok(rival)
    };
    started().map_err(|why| println!("without {}: {why}", packages[0])).ok()
}
