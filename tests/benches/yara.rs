//! Rule files to rules on one thread, against plyara 2.2.8 over the same bytes in turns; then the whole way: a tarball
//! from a loopback server into the embedded store, with verdicts.
//!
//! The files are those of `MINERVA_CORPUS`, or of the sample where that is not set. Ours ends with exact texts and hashes,
//! plyara with strings and conditions taken apart as well; `docs/BENCHMARKS.md` says more.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use base::config;
use local_runner::families::declared;
use serde_json::Value;
use task::tarball;
use task::testing::{TestHome, Upstream};
use yara::split;

mod rival;

use rival::{Rival, Spread};

const RIVAL: &str = "plyara==2.2.8";
/// Rounds; the rival takes seconds for each.
const ROUNDS: usize = 3;
/// Our rounds are short, so each takes this many passes.
const PASSES: usize = 5;

fn main() {
    let tarball = place();
    let body = std::fs::read(&tarball).expect("the tarball is there");
    let mut files = Vec::new();
    let outcome = tarball::read(
        &body,
        u64::MAX,
        |name| name.starts_with("yara/"),
        |_, bytes| files.push(bytes),
    );
    assert!(outcome.broken.is_none(), "{outcome:?}");
    let bytes: usize = files.iter().map(Vec::len).sum();
    let rules: usize = files.iter().map(|file| split(file).rules.len()).sum();
    println!("{} files, {:.1} MB, {rules} rules", files.len(), bytes as f64 / 1e6);

    let mut rival = match start(&files) {
        Ok(rival) => Some(rival),
        Err(why) => {
            println!("without rival: {why}");
            None
        }
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(round(&files));
        if let Some(rival) = &mut rival {
            let answer = rival.ask("parse").expect("the rival answered before");
            assert_eq!(answer["rules"], rules, "both read the same rules");
            theirs.push(rules as f64 / answer["s"].as_f64().expect("a number"));
        }
    }
    let ours = Spread::of(ours);
    println!("minerva  {:>9.0} rules/s ({:.0} to {:.0})", ours.median, ours.least, ours.greatest);
    if rival.is_some() {
        let theirs = Spread::of(theirs);
        let ratio = ours.median / theirs.median;
        println!(
            "plyara   {:>9.0} rules/s ({:.0} to {:.0})  ratio {ratio:.1}",
            theirs.median, theirs.least, theirs.greatest
        );
    }
    drop(rival);
    whole_way(body);
}

/// Rules a second.
fn round(files: &[Vec<u8>]) -> f64 {
    let began = Instant::now();
    let mut rules = 0;
    for _ in 0..PASSES {
        rules +=
            files.iter().map(|file| black_box(split(black_box(file))).rules.len()).sum::<usize>();
    }
    rules as f64 / began.elapsed().as_secs_f64()
}

fn start(files: &[Vec<u8>]) -> Result<Rival, String> {
    let programs = tests::pypi::programs(Path::new(env!("CARGO_TARGET_TMPDIR")), &[RIVAL])?;
    let folder = tempfile::tempdir().map_err(|cause| cause.to_string())?;
    for (place, body) in files.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{place:04}.yar")), body)
            .map_err(|cause| cause.to_string())?;
    }
    let mut rival = Rival::start(&programs.join("python"), "plyara_rival.py", folder.path())?;
    rival.ask("parse")?; // By now it has read the folder, and is warm.
    Ok(rival)
}

/// The tarball into the embedded store, new and then equal but sent again.
fn whole_way(body: Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let upstream = Upstream::start().await;
        upstream.put("/a.tar.gz", body);
        upstream.answer(task::testing::Answer::Unconditional);
        let url = format!("{}/a.tar.gz", upstream.origin());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = [("SIGNATURE_BASE_URL".to_owned(), url)];
        let home =
            TestHome::open(folder, &settings, &declared()).await.expect("the settings are right");
        let task = signature_base::FAMILY.tasks.iter().find(|task| task.name.ends_with("_all"));
        for way in ["new", "equal"] {
            let began = Instant::now();
            let report = home.run(task.expect("it is listed"), Value::Null).await;
            assert!(report.error.is_none(), "{report:?}");
            println!(
                "tarball to the embedded store, {way}: {:.2} s; {} items, {} written, {}; peak {}",
                began.elapsed().as_secs_f64(),
                report.counts.found,
                report.writes(),
                report.detail["rules"],
                peak()
            );
        }
    });
}

/// The most memory this process has held, in the kernel's words.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}

fn place() -> PathBuf {
    let corpus = config::variable("MINERVA_CORPUS").map(PathBuf::from);
    let whole = corpus.map(|folder| folder.join("signature-base/signature-base-master.tar.gz"));
    whole.filter(|path| path.exists()).unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/signature-base/sample.tar.gz")
    })
}
