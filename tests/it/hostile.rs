//! Sources that are broken or mean harm, beside good ones, in one run of the real binary with its real limits.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::{ALL, CLOCK, Home, Ran, Running, Upstream, numbered, peak_kb, raw, respond};

pub(crate) const TRIALS: &[(&str, fn())] = &[
    (
        "each_hostile_source_is_an_outcome_and_the_good_ones_are_stored",
        each_hostile_source_is_an_outcome_and_the_good_ones_are_stored,
    ),
    (
        "a_body_that_breaks_off_is_kept_and_asked_for_again",
        a_body_that_breaks_off_is_kept_and_asked_for_again,
    ),
];

/// The most that the function and the runner may hold at once, each by its own peak, in KiB.
const MEMORY_KB: u64 = 100 << 10;

/// How long the slowest hostile source may take: the header's limit of 20 s and what a busy machine adds.
const TIME: Duration = Duration::from_secs(45);

/// Each hostile source and what a report calls it.
fn hostile(upstream: &Upstream) -> Vec<(&'static str, String, &'static str)> {
    let redirect = |to: &str| format!("location: {to}\r\n");
    let by_name = upstream.body("inside", numbered(90, 1)).replace("127.0.0.1", "localhost");
    let status = |path: &str, status, header: &str| upstream.status(path, status, header);
    vec![
        ("endless", upstream.serve("endless", |_, stream| endless(stream)), "too_large"),
        ("bomb", upstream.serve("bomb", |_, stream| bomb(stream)), "too_large"),
        ("nested", upstream.body("nested", nested(50_000)), "too_deep"),
        (
            "metadata",
            status("metadata", "302 Found", &redirect("http://169.254.169.254/latest/")),
            "blocked",
        ),
        ("inwards", status("inwards", "301 Moved Permanently", &redirect(&by_name)), "blocked"),
        ("circle", status("circle", "302 Found", &redirect("/circle")), "redirect_loop"),
        ("dripping", upstream.serve("dripping", |_, stream| drip(stream)), "timed_out"),
        // Closed with a request unread, which the kernel answers with a reset.
        ("reset", raw(|stream| drop((thread::sleep(Duration::from_millis(50)), stream))), "reset"),
        (
            "unlike-http",
            upstream.serve("unlike-http", |_, stream| {
                let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
            }),
            "malformed",
        ),
        ("broken", status("broken", "500 Internal Server Error", ""), "status"),
        ("missing", status("missing", "404 Not Found", ""), "not_found"),
        ("gone", status("gone", "410 Gone", ""), "gone"),
        ("forbidden", status("forbidden", "403 Forbidden", ""), "unauthorized"),
        ("busy", status("busy", "429 Too Many Requests", "retry-after: 3600\r\n"), "rate_limited"),
        (
            "page",
            upstream.body("page", "<!DOCTYPE html><html><head><title>Log in</title></head></html>"),
            "web_page",
        ),
        ("empty", upstream.body("empty", ""), "empty"),
        ("object", upstream.body("object", r#"{"error":"no such feed","code":17}"#), "not_a_feed"),
    ]
}

#[expect(clippy::print_stdout, reason = "with `--nocapture` the figures are worth a look")]
fn each_hostile_source_is_an_outcome_and_the_good_ones_are_stored() {
    let upstream = Upstream::start(12);
    let hostile = hostile(&upstream);
    let good: Vec<(String, String)> = (0..4)
        .map(|number| format!("good-{number}"))
        .map(|id| (id.clone(), upstream.body(&id, numbered(id.len(), 10))))
        .collect();
    let sources: Vec<(&str, String)> = hostile
        .iter()
        .map(|(id, url, _)| (*id, url.clone()))
        .chain(good.iter().map(|(id, url)| (id.as_str(), url.clone())))
        .collect();
    let home = Home::of(&sources);

    let began = Instant::now();
    let running = home.spawn(&["run", ALL, "--json", "--clock", CLOCK]);
    let (ran, peaks) = watch_memory(&home, running);
    assert!(began.elapsed() < TIME, "it took {:?}", began.elapsed());
    let report = ran.ends_with(0).json();
    assert_eq!(report["status"], "partial", "{report}");
    for (id, _, expected) in &hostile {
        let source = source(&report, id);
        assert_eq!(source["outcome"], *expected, "{source}");
        assert!(
            source["problem"]["message"].as_str().unwrap().starts_with("read `http"),
            "{source}"
        );
    }
    for (id, _) in &good {
        assert_eq!(source(&report, id)["outcome"], "stored", "{report}");
    }
    assert_eq!((&report["new"], home.articles().len()), (&json!(40), 40));
    assert_eq!(upstream.asked("inside"), 0, "a redirect led to an inner address by its name");
    assert!(
        peaks.values().all(|peak| *peak < MEMORY_KB) && peaks.len() == 2,
        "KiB by process: {peaks:?}"
    );
    println!("hostile sources: peak memory {peaks:?} KiB, {:?}", began.elapsed());

    // Who is gone, or asked for time, is left in peace by the next run.
    let asked = [upstream.asked("gone"), upstream.asked("busy")];
    let only = json!({"sources": ["gone", "busy", "good-0"]}).to_string();
    let next = home.report(&["collect_specific_sources", "--input", &only]);
    assert_eq!(source(&next, "gone")["outcome"], "gone", "{next}");
    assert_eq!(source(&next, "busy")["outcome"], "waiting", "{next}");
    assert_eq!(asked, [upstream.asked("gone"), upstream.asked("busy")], "they were asked again");

    // An hour later it may be asked again; what is gone stays so until a person enables it.
    upstream.body("busy", numbered(50, 1));
    upstream.body("gone", numbered(51, 1));
    home.run(&["sources", "enable", "gone"]).ends_with(0);
    let arguments = [
        "run",
        "collect_specific_sources",
        "--json",
        "--input",
        &only,
        "--clock",
        "2026-03-01T13:00:01Z",
    ];
    let later = home.run(&arguments).json();
    assert_eq!(source(&later, "busy")["outcome"], "stored", "{later}");
    assert_eq!(source(&later, "gone")["outcome"], "stored", "{later}");
}

fn a_body_that_breaks_off_is_kept_and_asked_for_again() {
    let upstream = Upstream::start(1);
    let whole = numbered(0, 20);
    let half = whole[..whole.len() / 2].to_vec();
    let length = whole.len();
    let url = upstream.serve("cut", move |_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\netag: \"v1\"\r\ncontent-length: {length}\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&half));
    });
    let home = Home::of(&[("cut", url)]);
    let first = home.report(&[ALL]);
    let stored = first["new"].as_u64().unwrap();
    assert!((8..20).contains(&stored), "{first}");
    assert!(source(&first, "cut")["notes"][0].as_str().unwrap().contains("ended early"), "{first}");
    upstream.tagged("cut", "v1", whole);
    let second = home.report(&[ALL]);
    assert_eq!(second["new"], 20 - stored, "the rest was not asked for: {second}");
}

fn source<'a>(report: &'a Value, id: &str) -> &'a Value {
    let sources = report["sources"].as_array().unwrap();
    sources
        .iter()
        .find(|source| source["source"] == id)
        .unwrap_or_else(|| panic!("no `{id}`: {report}"))
}

/// Looks at the runner and its function until they are gone; gives the peak of each.
fn watch_memory(home: &Home, running: Running) -> (Ran, BTreeMap<u32, u64>) {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peaks = BTreeMap::new();
            while !ended.load(Ordering::Relaxed) {
                peaks.extend(
                    home.processes().into_iter().filter_map(|pid| Some((pid, peak_kb(pid)?))),
                );
                thread::sleep(Duration::from_millis(50));
            }
            peaks
        });
        let ran = running.end();
        ended.store(true, Ordering::Relaxed);
        (ran, watch.join().unwrap())
    })
}

/// A body of 10 GB, or as much of it as is taken.
fn endless(stream: &mut TcpStream) {
    let part = vec![b' '; 1 << 20];
    let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<rss version='2.0'>";
    if stream.write_all(head).is_err() {
        return;
    }
    for _ in 0..10 << 10 {
        if stream.write_all(&part).is_err() {
            return;
        }
    }
}

/// 3.3 MB of gzip that become 500 MB.
fn bomb(stream: &mut TcpStream) {
    let mut body = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    // One block of deflate with its fixed code: a zero, then copies of the last 258 bytes, 13 bits each.
    let mut bits = Bits { bytes: &mut body, pending: 0, count: 0 };
    bits.push(0b011, 3);
    bits.push(reversed(0b0011_0000, 8), 8);
    for _ in 0..2_000_000 {
        bits.push(reversed(0b1100_0101, 8), 8);
        bits.push(0, 5);
    }
    respond(stream, "200 OK", "content-encoding: gzip\r\n", &body);
}

/// Writes bits as deflate wants them, the lowest first.
struct Bits<'a> {
    bytes: &'a mut Vec<u8>,
    pending: u32,
    count: u32,
}

impl Bits<'_> {
    fn push(&mut self, bits: u32, count: u32) {
        self.pending |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.pending.to_le_bytes()[0]);
            self.pending >>= 8;
            self.count -= 8;
        }
    }
}

/// A code of deflate, which comes with its highest bit first.
fn reversed(code: u32, length: u32) -> u32 {
    code.reverse_bits() >> (32 - length)
}

fn nested(depth: usize) -> Vec<u8> {
    format!("<rss version='2.0'><channel><item><title>{}", "<b>".repeat(depth)).into_bytes()
}

/// A header of one byte a second.
fn drip(stream: &mut TcpStream) {
    for byte in b"HTTP/1.1 200 OK\r\ncontent-type: application/rss+xml\r\n".iter().cycle() {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        thread::sleep(Duration::from_secs(1));
    }
}
