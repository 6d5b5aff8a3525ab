//! MISP events to documents, against `PyMISP` loading the same files; and free text to typed values, against `iocextract` and
//! `ioc-finder`, with how far all agree.
//!
//! `cargo bench --bench misp` installs the rivals from PyPI; `-- alone` goes without. `PyMISP` makes objects of attributes; ours are
//! whole documents with ids and normal forms. Of the texts all that is found is compared, kind by kind and in our normal
//! forms, with why one has what the other has not; iocextract knows no names of hosts and no CVEs.

#![expect(clippy::print_stdout, reason = "a benchmark speaks to people")]

mod rival;

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use indicator::IndicatorKind;
use jiff::Timestamp;
use misp::event::Event;
use misp::feeds::{Feed, Feeds};
use misp::flat::{Found, Place, Reader};
use misp::indicators::{Batch, SeenKeys, listed, of_event};
use misp::wire::{Part, parts};
use rival::{Rival, Spread};

const ROUNDS: usize = 5;
const EVENTS_RIVAL: &[&str] = &["pymisp==2.5.34.4"];
/// Those who find indicators in text, with their scripts and the part of the copies that they are asked to read: both take
/// minutes for all of them.
const TEXT_RIVALS: [(&[&str], &str, usize); 2] = [
    // It does not say that it needs requests.
    (&["iocextract==1.16.1", "requests==2.32.5"], "iocextract_rival.py", 100),
    (&["ioc-finder==9.4.1"], "ioc_finder_rival.py", 20),
];
/// Threads that read events: the task reads those of eight feeds at the same time, each event on a thread of its own.
const THREADS: [usize; 2] = [1, 2];
/// Our rounds over the events are short, so each takes this many passes.
const PASSES: usize = 5;
/// Rounds over the texts, for which the rivals take minutes.
const TEXT_ROUNDS: usize = 3;
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
    let attributes: u64 = bodies.iter().map(|body| event(&feed, body, now)).sum();
    let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], Vec::new());
    for _ in 0..ROUNDS {
        for (threads, ours) in THREADS.into_iter().zip(&mut ours) {
            let began = Instant::now();
            let read = events(&feed, &bodies, now, threads);
            assert_eq!(read, PASSES as u64 * attributes, "each is read once in each pass");
            ours.push(read as f64 / began.elapsed().as_secs_f64());
        }
        if let Some(rival) = &mut rival {
            let answer = rival.ask("read").expect("the rival answered before");
            assert_eq!(answer["attributes"], attributes, "the rival reads them all");
            theirs.push(attributes as f64 / answer["s"].as_f64().expect("a number"));
        }
    }
    println!("events: {} with {attributes} attributes", bodies.len());
    for (threads, ours) in THREADS.into_iter().zip(ours) {
        println!("on {threads} threads:");
        shown("attributes/s", EVENTS_RIVAL[0], ours, theirs.clone());
    }

    free_text(&feed, now);
}

fn free_text(feed: &Feed, now: Timestamp) {
    let texts = files(&["freetext_feeds/unit42"], "");
    let text: String = texts.iter().map(|text| String::from_utf8_lossy(text) + "\n").collect();
    let copies = text.repeat(COPIES);
    let mut found = Vec::new();
    println!("free text: {:.1} MB", copies.len() as f64 / 1e6);
    for (packages, script, part) in TEXT_RIVALS {
        let package = packages[0];
        let theirs_read = text.repeat(COPIES / part);
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("copies.txt"), &theirs_read).expect("it is written");
        std::fs::write(folder.path().join("one.txt"), &text).expect("it is written");
        let mut rival = start(packages, script, folder.path());
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..TEXT_ROUNDS {
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
            let pairs = serde_json::from_value(answer["values"].clone()).expect("pairs of texts");
            found.push((package, normal(pairs)));
        }
    }
    let ours = values(feed, text.as_bytes());
    for (package, theirs) in found {
        agreement(&ours, package, &theirs);
    }
}

/// Values by their kinds; names of hosts are of one kind.
type Values = BTreeSet<(&'static str, String)>;

fn of_kind(kind: IndicatorKind) -> &'static str {
    match kind {
        IndicatorKind::Domain | IndicatorKind::Hostname => "name",
        kind => kind.as_str(),
    }
}

/// A rival's values in our normal forms; those that have none as they are.
fn normal(pairs: Vec<(String, String)>) -> Values {
    let pairs = pairs.into_iter().filter_map(|(kind, value)| {
        let kind = kind.parse().ok()?;
        Some(match indicator::parse(Some(kind), &value) {
            Ok(found) => (of_kind(found.kind), found.value),
            Err(_) => (of_kind(kind), value),
        })
    });
    pairs.collect()
}

/// A table of how many values both have and one alone, by kind, and why.
fn agreement(ours: &Values, rival: &str, theirs: &Values) {
    println!("\n| kind | minerva and {rival} | minerva alone | {rival} alone |\n|---|---|---|---|");
    let kinds: BTreeSet<&str> = ours.union(theirs).map(|(kind, _)| *kind).collect();
    for kind in kinds {
        let both = ours.intersection(theirs).filter(|(of, _)| *of == kind).count();
        let alone = |mine: &Values, other: &Values| {
            let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for (_, value) in mine.difference(other).filter(|(of, _)| *of == kind) {
                reasons.entry(reason(kind, value, other)).or_default().push(value);
            }
            let count: usize = reasons.values().map(Vec::len).sum();
            let reasons: Vec<String> = reasons
                .iter()
                .map(|(reason, values)| format!("{} {reason} (`{}`)", values.len(), values[0]))
                .collect();
            format!("{count}{}{}", if count > 0 { ": " } else { "" }, reasons.join("; "))
        };
        println!("| {kind} | {both} | {} | {} |", alone(ours, theirs), alone(theirs, ours));
    }
}

/// Why one has a value that the other has not, as far as the other's values tell.
fn reason(kind: &str, value: &str, others: &Values) -> &'static str {
    let parsed = kind.parse().ok().or((kind == "name").then_some(IndicatorKind::Domain));
    if parsed.is_some_and(|kind| indicator::parse(Some(kind), value).is_err()) {
        return "that are none by our check";
    }
    let is_host = |url: &str| {
        let host = indicator::host_of_url(url).unwrap_or(url);
        host == value || host.split(':').next() == Some(value)
    };
    for (of, other) in others {
        if *of == "url" && is_host(other) {
            return "that are hosts of the other's URLs";
        }
    }
    if others.iter().any(|(of, other)| *of != kind && other == value) {
        return "under another kind there";
    }
    if others.iter().any(|(_, other)| other.contains(value)) {
        return "that are parts of longer ones there";
    }
    if others.iter().any(|(of, other)| *of == kind && value.contains(other.as_str())) {
        return "of which the other has a part";
    }
    "not found there"
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

/// Documents of all events in each pass, on so many threads; how many attributes were read.
fn events(feed: &Feed, bodies: &[Vec<u8>], now: Timestamp, threads: usize) -> u64 {
    let next = AtomicUsize::new(0);
    let work = || {
        let turns = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let turns = turns.take_while(|turn| *turn < PASSES * bodies.len());
        turns.map(|turn| event(feed, &bodies[turn % bodies.len()], now)).sum::<u64>()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let others = others.into_iter().map(|other| other.join().expect("it reads"));
        work() + others.sum::<u64>()
    })
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
    let (mut batch, mut seen, mut count) = (Batch::default(), SeenKeys::default(), 0);
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

/// The distinct indicators of a text in their normal forms.
fn values(feed: &Feed, body: &[u8]) -> Values {
    let mut all = BTreeSet::new();
    let mut reader = Reader::new(feed, Place::default()).expect("its settings are right");
    reader.push(body, true, &mut |found| {
        let Found::Typed(typed, _) = found else { return };
        let parts = parts(typed.kind, typed.category(), true, &typed.value).into_iter();
        all.extend(parts.filter_map(|part| match part {
            Part::Indicator(found) => Some((of_kind(found.kind), found.value)),
            Part::Filtered(_) | Part::Rejected(_) => None,
        }));
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
