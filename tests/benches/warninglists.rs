//! Checks of indicators against the warninglists that are compiled in, on one thread, against `PyMISPWarningLists` with its own lists
//! of the same kinds, in turns in one run.
//!
//! `cargo bench --bench warninglists` installs the rival from PyPI; `-- alone` goes without. Ours are 50,000 indicators: the
//! lines of the fixtures' reports, and made ones of every kind that lists are asked for, a tenth of them on some list.

#![expect(clippy::print_stdout, reason = "a benchmark speaks to people")]

mod rival;

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use indicator::warninglist::Warninglists;
use indicator::{Indicator, parse};
use rival::{Rival, Spread};

const INDICATORS: u32 = 50_000;
const ROUNDS: usize = 5;
const RIVAL: &str = "pymispwarninglists==1.7.0";
/// Values that the rival is asked in a round: it goes through every list for each.
const RIVAL_INDICATORS: usize = 500;

fn main() {
    let began = Instant::now();
    let read = Warninglists::built_in();
    let took = began.elapsed();
    assert_eq!(read.rejected, 0);
    let lists = read.lists;
    let entries: usize = lists.lists().map(|list| list.entries).sum();
    println!(
        "{} lists, {entries} entries, read in {:.0} ms",
        lists.lists().len(),
        took.as_secs_f64() * 1e3
    );
    let indicators: Vec<Indicator> = (0..INDICATORS).map(made).collect();
    let mut rival = match start(&indicators) {
        Ok(rival) => Some(rival),
        Err(why) => {
            println!("without rival: {why}");
            None
        }
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut hits = 0;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        hits = 0;
        for indicator in &indicators {
            hits +=
                usize::from(!black_box(lists.hits(indicator.kind, &indicator.value)).is_empty());
        }
        ours.push(indicators.len() as f64 / began.elapsed().as_secs_f64());
        if let Some(rival) = &mut rival {
            let answer = rival.ask("check").expect("the rival answered before");
            theirs.push(RIVAL_INDICATORS as f64 / answer["s"].as_f64().expect("a number"));
        }
    }
    let ours = Spread::of(ours);
    println!(
        "minerva {:>12.0} checks/s ({:.0} to {:.0}), {hits} of {INDICATORS} on a list",
        ours.median, ours.least, ours.greatest
    );
    if !theirs.is_empty() {
        let theirs = Spread::of(theirs);
        println!(
            "{RIVAL} {:>6.0} checks/s ({:.0} to {:.0})  ratio {:.0}",
            theirs.median,
            theirs.least,
            theirs.greatest,
            ours.median / theirs.median
        );
    }
}

/// An indicator, of another kind each time.
fn made(number: u32) -> Indicator {
    let mixed = number.wrapping_mul(2_654_435_761);
    let [a, b, c, d] = mixed.to_be_bytes();
    let text = match number % 10 {
        0 => format!("{a}.{b}.{c}.{d}"),
        1 => format!("{a}.{b}.{c}.{d}:443"),
        2 => format!("c{mixed:x}.example{a}.com"),
        3 => format!("www.mail{b}.example{mixed:x}.co.uk"),
        4 => format!("https://cdn.example{mixed:x}.net/gate{b}.php?id={c}"),
        5 => format!("http://{a}.{b}.{c}.{d}:8080/a"),
        6 => format!("{mixed:032x}"),
        7 => format!("{mixed:064x}"),
        8 => format!("user{c}@mail{mixed:x}.org"),
        _ => [
            "8.8.8.8",
            "https://docs.google.com/forms/x",
            "192.168.1.1:80",
            "bit.ly",
            "d41d8cd98f00b204e9800998ecf8427e",
        ][number as usize / 10 % 5]
            .to_owned(),
    };
    parse(None, &text).expect("it is one")
}

fn start(indicators: &[Indicator]) -> Result<Rival, String> {
    if std::env::args().any(|word| word == "alone") {
        return Err("as was asked for".to_owned());
    }
    let programs = tests::pypi::programs(Path::new(env!("CARGO_TARGET_TMPDIR")), &[RIVAL])?;
    let folder = tempfile::tempdir().map_err(|cause| cause.to_string())?;
    let values = indicators.iter().take(RIVAL_INDICATORS).map(|one| one.value.as_str());
    let values = values.collect::<Vec<_>>().join("\n");
    std::fs::write(folder.path().join("values.txt"), values).map_err(|cause| cause.to_string())?;
    let mut rival = Rival::start(&programs.join("python"), "warninglists_rival.py", folder.path())?;
    rival.ask("check")?; // By now it has read its lists, and is warm.
    Ok(rival)
}
