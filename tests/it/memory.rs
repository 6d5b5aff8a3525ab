//! How much memory a run takes, by the `REPORT` line of Lambda, beside what the timetable declares.
//!
//! `cargo test -p tests --test it -- memory:: --nocapture` prints the peak and the time of every task that the timetable runs;
//! of a release build, where `MINERVA_FUNCTIONS` names its folder.

#![expect(clippy::print_stdout, reason = "the figures are what the command is for")]

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;

use local_runner::families::all_tasks;
use schedule::Timetable;

use crate::contract::{Fixture, fixture};
use crate::home::{ALL, Home, Ran, Upstream};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("every_scheduled_task_stays_within_its_memory", every_scheduled_task_stays_within),
    ("sixteen_large_feeds_at_once_stay_within_the_memory", sixteen_large_feeds_at_once),
];

/// The most memory that any step of a run took, and what it may take, in MB.
pub(crate) fn peak_and_limit(ran: &Ran) -> Option<(u64, u64)> {
    let figure = |line: &str, name: &str| figure(line, name, " MB")?.parse().ok();
    report_lines(ran)
        .map(|line| Some((figure(line, "Max Memory Used:")?, figure(line, "Memory Size:")?)))
        .max()?
}

/// How long all steps of a run took together, in ms.
fn took_ms(ran: &Ran) -> Option<f64> {
    let duration = |line| figure(line, "\tDuration:", " ms")?.parse::<f64>().ok();
    report_lines(ran).map(duration).sum()
}

fn report_lines(ran: &Ran) -> impl Iterator<Item = &str> {
    ran.err.lines().filter(|line| line.starts_with("REPORT RequestId: "))
}

fn figure<'a>(line: &'a str, name: &str, unit: &str) -> Option<&'a str> {
    Some(line.split_once(name)?.1.split_once(unit)?.0.trim())
}

/// On what its fixture serves: a file of `memory/` where there is one, which is larger, else that of the contract.
fn every_scheduled_task_stays_within() {
    let timetable = include_str!("../../infra/schedule.toml");
    let timetable = Timetable::parse(timetable).expect("it is right");
    let scheduled = timetable.rows().iter().filter(|row| row.when.is_some());
    let corpus = base::config::variable("MINERVA_CORPUS");
    let built = base::config::variable("MINERVA_FUNCTIONS");
    let mut over = Vec::new();
    let mut measured = 0;
    for row in scheduled {
        assert!(all_tasks().any(|(_, task)| task.name == row.name), "`{}` is linked", row.name);
        let upstream = Upstream::start(1);
        let mut home = Home::of(&[]);
        let large = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("fixtures/memory/{}.toml", row.name));
        let fixture = Fixture::read(&if large.exists() { large } else { fixture(&row.name) });
        for (path, body) in fixture.bodies() {
            let larger = fixture.corpus.get(path).zip(corpus.as_ref());
            let body = larger.map_or(body, |(file, corpus)| {
                std::fs::read(Path::new(corpus).join(file)).expect("the corpus holds it")
            });
            upstream.body(path.trim_start_matches('/'), body);
        }
        for (name, value) in fixture.set_up(&upstream.origin(), &home.path("")) {
            home = home.with(&name, value);
        }
        for before in &fixture.after {
            home.run(&["run", before]).ends_with(0);
        }
        let functions =
            built.as_deref().map_or_else(Vec::new, |folder| vec!["--functions", folder]);
        let ran = home.run(&[&["run", &row.name, "--json", "-v"][..], &functions].concat());
        assert_eq!(ran.json()["status"], "complete", "{ran:?}");
        let (peak, limit) = peak_and_limit(&ran).expect("Lambda reports it");
        assert!(peak > 0, "{ran:?}");
        assert_eq!(limit, u64::from(row.memory_mb));
        let took_ms = took_ms(&ran).expect("Lambda reports it");
        println!("{:<28} {peak:>5} MB of {limit} MB, {took_ms:>8.0} ms", row.name);
        measured += 1;
        if peak > limit {
            over.push(format!("{}: {peak} MB of {limit} MB", row.name));
        }
    }
    assert!(measured > 0 && over.is_empty(), "{measured} tasks; {}", over.join("; "));
}

/// Sources that a run visits at once.
const SOURCES: usize = 16;
/// About the largest body that is read.
const FEED_BYTES: usize = (20 << 20) - 4_096;

/// What a large feed is made of, from the id of an item.
const ITEMS: [fn(&str) -> String; 4] = [
    |id| format!("<item><guid>{id}</guid></item>"),
    |id| {
        format!(
            "<item><guid>{id}</guid><link>https://e.org/{id}</link><description>{}</description></item>",
            "hxxp://1.2.3[.]4/a CVE-2024-1234 ".repeat(30)
        )
    },
    |id| {
        format!(
            "<item><guid>{id}</guid><title>{id}</title><description>{}</description></item>",
            "&lt;p&gt;text &amp;amp; more&lt;/p&gt; ".repeat(30_000)
        )
    },
    |id| format!("<item><guid>{id}</guid>{}</item>", "<category>c</category>".repeat(1_000)),
];

fn send_feed(stream: &mut TcpStream, source: usize) {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/rss+xml\r\n\r\n\
                <rss version='2.0'><channel><title>T</title>";
    let mut sent = head.len();
    let mut out = std::io::BufWriter::with_capacity(1 << 20, stream);
    // Who hangs up has read enough.
    let _ = out.write_all(head.as_bytes());
    for number in 0.. {
        let item = ITEMS[source % ITEMS.len()](&format!("{source}-{number}"));
        if sent + item.len() > FEED_BYTES || out.write_all(item.as_bytes()).is_err() {
            break;
        }
        sent += item.len();
    }
    let _ = out.write_all(b"</channel></rss>").and_then(|()| out.flush());
}

fn sixteen_large_feeds_at_once() {
    let upstream = Upstream::start(SOURCES);
    let sources: Vec<(String, String)> = (0..SOURCES)
        .map(|source| {
            let url =
                upstream.serve(&format!("f{source}"), move |_, stream| send_feed(stream, source));
            (format!("f{source}"), url)
        })
        .collect();
    let sources: Vec<(&str, String)> =
        sources.iter().map(|(id, url)| (id.as_str(), url.clone())).collect();
    let home = Home::of(&sources);
    let ran = home.run(&["run", ALL, "--json", "-v"]);
    let report = ran.json();
    let (peak, limit) = peak_and_limit(&ran).expect("Lambda reports it");
    println!(
        "{SOURCES} feeds of {} MiB: {peak} MB of {limit} MB, {}",
        FEED_BYTES >> 20,
        report["new"]
    );
    // Large bodies take turns at the memory; those whose turn does not come in time are asked at the next run.
    let outcomes = report["sources"].as_array().expect("a list");
    let stored = outcomes.iter().filter(|source| source["outcome"] == "stored").count();
    let waited = outcomes.iter().filter(|source| source["outcome"] == "timed_out").count();
    assert!(stored > 3 && stored + waited == SOURCES, "{report}");
    assert!(peak > 0 && peak <= limit, "{peak} MB of {limit} MB: {report}");
}
