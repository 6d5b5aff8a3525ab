//! Every command that reads, as a process of its own, over 50,000 runs and 1,000,000 documents in an embedded home.
//!
//! Printed is the whole of it, from the start of the program to its end; `--version` shows what a start alone costs.
//! `MINERVA_BENCH_RUNS` and `MINERVA_BENCH_DOCUMENTS` set other sizes.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base::clock::Clock;
use tests::many::{self, Size};

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

/// A command that pages and takes longer is marked.
const LIMIT: Duration = Duration::from_millis(100);

const ROUNDS: usize = 9;

/// What is asked; `{address}` stands for an indicator that is stored, `{run}` for a run's id.
const COMMANDS: &[&str] = &[
    "--version",
    "status",
    "tasks",
    "scheduled",
    "active",
    "runs",
    "runs collect_all_rss_feeds",
    "runs --failed",
    "runs --failed --since 2d",
    "runs {run}",
    "slots",
    "slots --missed",
    "slots sync_otx_pulses --since 30d",
    "logs",
    "logs {run}",
    "logs sync_otx_pulses",
    "dead-letters list",
    "dead-letters show request-0",
    "sources list",
    "sources show krebs-on-security",
    "lookup {address}",
    "search --index rss_articles",
    "search --index rss_articles campaign",
    "search --index rss_articles 345",
    "search --index rss_articles -f category=malware",
    "search --index rss_articles --since 7d",
    "search --index rss_articles emotet --relevance",
    "search --index cti_misp_iocs",
    "search --index cti_misp_iocs emotet",
    "search --index cti_misp_iocs -f value={address}",
    "search --index cti_misp_iocs -f type=ipv4",
    "search --index minerva-indicators",
    "search --index minerva-articles",
];

fn main() {
    let size = Size {
        runs: number("MINERVA_BENCH_RUNS", 50_000),
        documents: number("MINERVA_BENCH_DOCUMENTS", 1_000_000),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let began = Instant::now();
    runtime
        .block_on(many::fill(folder.path(), size, Clock::Machine.now(None)))
        .expect("there is room for it");
    println!("{size:?} in {:.0} s", began.elapsed().as_secs_f64());
    let run = many::run_id(1);
    println!("{:<58} {:>8} {:>8} {:>8}", "command", "p50 ms", "max ms", "json p50");
    for command in COMMANDS {
        let command = command.replace("{address}", &many::address(4_321)).replace("{run}", &run);
        let (median, longest) = timed(folder.path(), &command);
        let json = format!("{command} --json");
        let (as_json, _) = timed(folder.path(), &json);
        let mark = if median > LIMIT { "  slow" } else { "" };
        println!(
            "{command:<58} {:>8.1} {:>8.1} {:>8.1}{mark}",
            median.as_secs_f64() * 1e3,
            longest.as_secs_f64() * 1e3,
            as_json.as_secs_f64() * 1e3
        );
    }
}

/// The middle and the longest of some calls.
fn timed(folder: &Path, command: &str) -> (Duration, Duration) {
    let mut took: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            let ran = Command::new(RUNNER)
                .args(command.split(' '))
                .env_clear()
                .env("MINERVA_DATA_DIR", folder)
                .current_dir(folder)
                .stdin(Stdio::null())
                .output()
                .expect("the program starts");
            let took = began.elapsed();
            assert!(
                matches!(ran.status.code(), Some(0 | 1)),
                "{command}: {}",
                String::from_utf8_lossy(&ran.stderr)
            );
            took
        })
        .collect();
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() - 1])
}

#[expect(clippy::disallowed_methods, reason = "the size of a measurement is no setting of ours")]
fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
