//! BibTeX to documents, against `bibtexparser`, on one bibliography of 17,600 entries in one run; and our peak memory.
//!
//! `cargo bench --bench bibtex` installs the rival from PyPI; `-- alone` goes without. The rival reads entries; ours are
//! whole documents with ids, dates, authors and hashes.

#![expect(clippy::print_stdout, reason = "a benchmark speaks to people")]

mod rival;

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use malpedia::library::{Stored, parse};
use rival::{Rival, Spread};
use tests::library::generate;
use url::Url;

const ENTRIES: usize = 17_600;
const ROUNDS: usize = 3;
const RIVAL: &str = "bibtexparser==1.4.3";

fn main() {
    let text = generate(ENTRIES).text;
    let mut rival = match start(&text) {
        Ok(rival) => Some(rival),
        Err(why) => {
            println!("without rival: {why}");
            None
        }
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(round(&text));
        if let Some(rival) = &mut rival {
            let answer = rival.ask("read").expect("the rival answered before");
            assert_eq!(answer["entries"], ENTRIES, "the rival reads them all");
            theirs.push(ENTRIES as f64 / answer["s"].as_f64().expect("a number"));
        }
    }
    let ours = Spread::of(ours);
    println!("library: {ENTRIES} entries, {:.1} MB", text.len() as f64 / 1e6);
    println!(
        "minerva       {:>9.0} entries/s ({:.0} to {:.0}), documents with ids and hashes",
        ours.median, ours.least, ours.greatest
    );
    if !theirs.is_empty() {
        let theirs = Spread::of(theirs);
        println!(
            "{RIVAL} {:>9.0} entries/s ({:.0} to {:.0})  ratio {:.1}",
            theirs.median,
            theirs.least,
            theirs.greatest,
            ours.median / theirs.median
        );
    }
    println!("peak memory of this process: {:.0} MB", peak_mb());
}

/// Entries a second, batch by batch as the task does it.
fn round(text: &str) -> f64 {
    let base = Url::parse("https://malpedia.example").expect("a URL");
    let now = Timestamp::from_second(1_790_000_000).expect("an instant");
    let began = Instant::now();
    let (mut found, mut written, mut merged) = (0, 0, 0);
    let take = |batch: malpedia::library::Batch| {
        found += batch.found;
        merged += batch.merged;
        written += black_box(&batch.writes).len() as u64;
        true
    };
    let read = parse(black_box(text), &base, None, &Stored::default(), now, || false, take);
    assert!(read.is_whole, "nothing is malformed");
    assert_eq!((found, written + merged), (ENTRIES as u64, ENTRIES as u64));
    ENTRIES as f64 / began.elapsed().as_secs_f64()
}

fn start(text: &str) -> Result<Rival, String> {
    if std::env::args().any(|word| word == "alone") {
        return Err("as was asked for".to_owned());
    }
    let programs = tests::pypi::programs(Path::new(env!("CARGO_TARGET_TMPDIR")), &[RIVAL])?;
    let folder = tempfile::tempdir().map_err(|cause| cause.to_string())?;
    std::fs::write(folder.path().join("library.bib"), text).map_err(|cause| cause.to_string())?;
    let mut rival = Rival::start(&programs.join("python"), "bibtex_rival.py", folder.path())?;
    rival.ask("read")?; // By now it has read the file, and is warm.
    Ok(rival)
}

fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1e3
}
