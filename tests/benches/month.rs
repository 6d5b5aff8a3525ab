//! A month of the whole timetable through `local-runner replay`, as an operator would replay it: real processes over the
//! Runtime API, the embedded store in a fresh folder, and the demo's sources on loopback, which live through the first seconds.
//!
//! It prints what a month takes and where the time of its runs goes. `MINERVA_DAYS` asks for another stretch.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use base::config;
use jiff::{SignedDuration, Timestamp};
use local_runner::StandIns;
use serde_json::Value;

const FROM: &str = "2026-03-01T03:00:00Z";
const DAYS: i64 = 31;

/// The sources have lived through their day after so many steps.
const STEPS: usize = 12;
const STEP: Duration = Duration::from_millis(250);

fn main() {
    let days = config::variable("MINERVA_DAYS").map_or(DAYS, |text| text.parse().expect("days"));
    let from: Timestamp = FROM.parse().expect("an instant");
    let to = from + SignedDuration::from_hours(24 * days) - SignedDuration::from_secs(1);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let folder = tempfile::tempdir().expect("a folder");
    let stand_ins = runtime.block_on(StandIns::start(folder.path())).expect("loopback is free");
    let home = Home { folder: folder.path(), stand_ins: &stand_ins };
    let (first, last) = (from.to_string(), to.to_string());
    let replay = ["replay", "--from", &first, "--to", &last, "--data-dir", "month", "--json"];
    let began = Instant::now();
    let spent_before = children_s();
    let replayed = std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0..STEPS {
                stand_ins.advance(step);
                std::thread::park_timeout(STEP);
            }
        });
        home.run(&replay)
    });
    let took = began.elapsed().as_secs_f64();
    let spent = children_s() - spent_before;
    let report: Value = serde_json::from_slice(&replayed.stdout).expect("a report");
    println!("{days} days: {took:.1} s, of which {spent:.1} s on processors");
    println!("runs {}, slots {}", report["runs"], report["slots"]);

    let runs = home.run(&["runs", "--data-dir", "month", "-n", "100000", "--json"]);
    let runs: Vec<Value> = serde_json::from_slice(&runs.stdout).expect("runs");
    let mut by_task: BTreeMap<&str, (u64, u64, BTreeMap<&str, u64>)> = BTreeMap::new();
    for run in &runs {
        let (count, took_ms, statuses) =
            by_task.entry(run["task"].as_str().expect("a name")).or_default();
        *count += 1;
        *took_ms += run["report"]["took_ms"].as_u64().unwrap_or(0);
        *statuses.entry(run["status"].as_str().unwrap_or_default()).or_default() += 1;
    }
    for (task, (count, took_ms, statuses)) in &by_task {
        let mean = *took_ms as f64 / *count as f64;
        println!("{task:<28} {count:>4} runs  {mean:>7.1} ms each within the task  {statuses:?}");
    }
    let within: u64 = by_task.values().map(|(_, took_ms, _)| took_ms).sum();
    let outside = took * 1e3 - within as f64;
    println!(
        "within tasks {:.1} s; around them (queue, processes, answers) {:.1} ms a run",
        within as f64 / 1e3,
        outside / runs.len() as f64
    );
}

struct Home<'a> {
    folder: &'a Path,
    stand_ins: &'a StandIns,
}

impl Home<'_> {
    fn run(&self, arguments: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_runner"))
            .args(arguments)
            .current_dir(self.folder)
            .env_clear()
            .envs(self.stand_ins.settings().iter().map(|(name, value)| (name, value)))
            .env("MISP_EXPORT", self.folder.join("misp-export"))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output();
        let output = output.expect("the runner starts");
        assert!(output.status.success(), "{arguments:?}: {}", output.status);
        output
    }
}

/// Seconds on processors of the children that have ended, and of theirs; Linux counts in hundredths.
fn children_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the program's name, which may hold anything, these are the fourteenth and fifteenth.
    let times = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(13).take(2);
    times.filter_map(|time| time.parse::<f64>().ok()).sum::<f64>() / 100.0
}
