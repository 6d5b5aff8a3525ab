//! What is long: a generated list of any length, killed in the middle, and an event of 43,000 attributes; each in a process
//! of its own, whose memory is measured.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde_json::{Value, json};
use task::testing::Upstream;

use super::{ONE, event, feed, index};
use crate::documents::{Check, Place};
use crate::home::own_kb;
use crate::servers::address;

pub(crate) const TRIALS: &[crate::Case] =
    &[("a_long_list_is_gone_on_with_after_a_kill", a_long_list_is_gone_on_with_after_a_kill)];

pub(crate) const SERVER_CHECKS: &[(&str, Check)] =
    &[("misp_a_large_event_is_stored_within_its_memory", a_large_event_is_stored)];

/// Lines of the long list without `MINERVA_LIST_LINES`, which asks for more.
const LIST_LINES: u64 = 30_000;

/// What a release build's executable takes of the memory that a process may have.
const EXECUTABLE_KIB: u64 = 16 << 10;

/// The most memory of its own of a process that reads the long list.
const LIST_KIB_MAX: u64 = (64 << 10) - EXECUTABLE_KIB;

/// Attributes of the large event without `MINERVA_EVENT_ATTRIBUTES`, which asks for more.
const ATTRIBUTES: u64 = 4_300;

/// The most memory of its own of a process that stores an event of 43,000 attributes; half of it is there before the event is.
const EVENT_KIB_MAX: u64 = (128 << 10) - EXECUTABLE_KIB;

#[expect(clippy::disallowed_methods, reason = "how thorough this test is, is no setting of ours")]
fn so_many(variable: &str, usually: u64) -> u64 {
    std::env::var(variable).map_or(usually, |text| text.parse().unwrap())
}

/// A generated list, with ranges where it has a tag.
#[derive(Clone)]
pub(super) struct Lines {
    from: u64,
    to: u64,
    tag: Option<&'static str>,
    /// Who is told when half of it is out; that request hears no more.
    half: Arc<Mutex<Option<Sender<()>>>>,
}

impl Lines {
    /// Bytes of a line.
    const LINE: u64 = 32;

    /// The lines of these numbers.
    pub(super) fn of(lines: std::ops::Range<u64>, tag: Option<&'static str>) -> Self {
        Self { from: lines.start, to: lines.end, tag, half: Arc::default() }
    }

    /// Hangs once, in the middle, and says so.
    pub(super) fn stall(&self) -> std::sync::mpsc::Receiver<()> {
        let (told, half) = std::sync::mpsc::channel();
        *self.half.lock().unwrap() = Some(told);
        half
    }

    pub(super) fn serve_at(&self, upstream: &Upstream, path: &str) {
        let list = self.clone();
        upstream.serve(path, move |headers| list.answer(headers));
    }

    /// A line: an address in prose, each once.
    fn line(number: u64) -> String {
        let [_, a, b, c] = (u32::try_from(number).unwrap()).to_be_bytes();
        format!("{:>27}.com\n", format!("c2 at h{a:x}-{b:x}-{c:x}-{}.evil", number >> 24))
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let text = |name: header::HeaderName| headers.get(name)?.to_str().ok();
        let tag = self.tag.map(|tag| format!("\"{tag}\""));
        if tag.is_some() && text(header::IF_NONE_MATCH) == tag.as_deref() {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        let is_same = tag.is_some() && text(header::IF_RANGE) == tag.as_deref();
        let range = text(header::RANGE).filter(|_| is_same);
        let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let (from, total) =
            (from.map(|from| from.parse().unwrap()), (self.to - self.from) * Self::LINE);
        let list = self.clone();
        let blocks = stream::unfold(from.unwrap_or(0), move |at| {
            let list = list.clone();
            async move {
                if at >= total / 2 {
                    let told = list.half.lock().unwrap().take();
                    if let Some(told) = told {
                        let _ = told.send(());
                        std::future::pending::<()>().await;
                    }
                }
                let first = list.from + at / Self::LINE;
                let block: String = (first..list.to.min(first + 1_000)).map(Self::line).collect();
                let block = Bytes::from(block);
                let skip = usize::try_from(at % Self::LINE).unwrap();
                let block = (block.len() > skip).then(|| block.slice(skip..))?;
                let next = at + block.len() as u64;
                Some((Ok::<_, std::convert::Infallible>(block), next))
            }
        });
        let mut response = Body::from_stream(blocks).into_response();
        let mut set =
            |name, value: String| response.headers_mut().insert(name, value.parse().unwrap());
        if let Some(tag) = tag {
            set(header::ETAG, tag);
        }
        if let Some(from) = from {
            set(header::CONTENT_RANGE, format!("bytes {from}-{}/{total}", total - 1));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        response
    }
}

/// A run in a process of its own, in a folder with a list of one feed.
struct Run<'a> {
    folder: &'a Path,
    settings: &'a [(&'static str, String)],
}

impl Run<'_> {
    fn start(&self, event: &Value, request: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_example"))
            .args(["sync_all_misp_feeds", "870000", &event.to_string(), request])
            .env_clear()
            .env("MINERVA_DATA_DIR", self.folder)
            .env("MINERVA_ALLOW_NETS", "127.0.0.1")
            .env("MISP_FEEDS", self.folder.join("feeds.toml"))
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// A run with its continuations: its last report, how many there were, and the most memory that any process held, in KiB.
    fn to_its_end(&self, name: &str) -> (Value, u32, u64) {
        let (mut event, mut steps, mut most) = (json!({}), 0, 0);
        loop {
            let mut child = self.start(&event, &format!("{name}-{steps}"));
            most = most.max(watch(&mut child));
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let printed: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
                .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
            let Some(sent) = printed["continuations"].as_array().and_then(|sent| sent.last())
            else {
                return (printed["report"].clone(), steps, most);
            };
            event = json!({"source": "minerva", "detail-type": "Minerva Task Continuation", "detail": sent});
            steps += 1;
        }
    }
}

/// The most memory of its own that a process held until it ended, in KiB.
fn watch(child: &mut Child) -> u64 {
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(own_kb(child.id()).unwrap_or(0));
        thread::sleep(Duration::from_millis(10));
    }
    most
}

/// An upstream for other processes.
fn served(set_up: impl FnOnce(&Upstream)) -> (tokio::runtime::Runtime, Upstream) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let upstream = runtime.block_on(Upstream::start());
    set_up(&upstream);
    (runtime, upstream)
}

#[expect(clippy::print_stdout, reason = "with `--nocapture` the figures are worth a look")]
fn a_long_list_is_gone_on_with_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let lines = so_many("MINERVA_LIST_LINES", LIST_LINES);
    let list = Lines::of(0..lines, Some("one"));
    let half = list.stall();
    let (runtime, upstream) = served(|upstream| list.serve_at(upstream, "/list"));
    let feeds = feed("long", &format!("{}/list", upstream.origin()), "freetext", "");
    std::fs::write(folder.path().join("feeds.toml"), feeds).unwrap();
    let run = Run { folder: folder.path(), settings: &[] };
    let began = Instant::now();
    let mut killed = run.start(&json!({}), "killed");
    let pid = rustix::process::Pid::from_child(&killed);
    let killer = thread::spawn(move || {
        half.recv_timeout(Duration::from_secs(3_000)).unwrap();
        // What is on its way is stored, or not: either must do.
        thread::sleep(Duration::from_millis(100));
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    });
    let before = watch(&mut killed);
    killer.join().unwrap();
    let (report, steps, after) = run.to_its_end("step");
    println!(
        "{lines} lines in {:.1} s and {steps} continuations; {before} KiB before the kill, {after} KiB after it",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(report["status"], "complete", "{report}");
    let stored = || {
        runtime.block_on(async {
            use stores::documents::DocumentReader as _;
            let store = stores::documents::Embedded::open(folder.path()).await.unwrap();
            let count = store.count(index(), &Default::default()).await.unwrap();
            (count, store.sequence(index()).await.unwrap())
        })
    };
    assert_eq!(stored(), (lines, lines), "each once: {report}");
    // Unchanged but for its tag.
    Lines::of(0..lines, Some("two")).serve_at(&upstream, "/list");
    let (again, _, later) = run.to_its_end("again");
    assert_eq!((&again["unchanged"], stored()), (&json!(lines), (lines, lines)), "{again}");
    for memory in [before, after, later] {
        assert!(memory <= LIST_KIB_MAX, "{memory} KiB");
    }
    let (quiet, ..) = run.to_its_end("quiet");
    assert_eq!(quiet["sources"][0]["outcome"], "not_modified", "{quiet}");
}

/// An event as a large public one: hashes, names of files, hosts, addresses and links, some of objects, with tags of their own.
fn large_event(attributes: u64) -> String {
    let attribute = |number: u64| {
        let hash =
            |length: usize| format!("{:0>length$x}", u128::from(number) * 0x9e37_79b9_7f4a_7c15);
        let (kind, category, value) = match number % 6 {
            0 => ("sha256", "Payload delivery", hash(64)),
            1 => ("md5", "Payload delivery", hash(32)),
            2 => ("domain", "Network activity", format!("host-{number}.evil.com")),
            3 => (
                "ip-dst",
                "Network activity",
                format!("203.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255),
            ),
            4 => (
                "url",
                "Network activity",
                format!("http://evil-{number}.com/gate.php?id={}", hash(40)),
            ),
            _ => (
                "filename|sha1",
                "Payload installation",
                format!("dropper-{number}.exe|{}", hash(40)),
            ),
        };
        json!({
            "uuid": format!("00000000-0000-4000-8000-{number:012x}"), "type": kind, "category": category, "value": value,
            "to_ids": true, "timestamp": "1735689600", "comment": "Found in the second wave of the campaign, by its loader",
            "first_seen": null, "last_seen": null, "disable_correlation": false, "deleted": false, "sharing_group_id": "0",
            "Tag": [{"name": "kill-chain:command-and-control", "colour": "#004646", "exportable": true, "local": false}],
        })
    };
    event(ONE, 100, &Value::Array((0..attributes).map(attribute).collect()))
}

#[expect(clippy::print_stdout, reason = "with `--nocapture` the figures are worth a look")]
fn a_large_event_is_stored(place: &mut Place) {
    let attributes = so_many("MINERVA_EVENT_ATTRIBUTES", ATTRIBUTES);
    let folder = tempfile::tempdir().unwrap();
    let body = large_event(attributes);
    let bytes = body.len();
    let (_runtime, upstream) = served(|upstream| {
        upstream.put("/feed/manifest.json", json!({ONE: {"timestamp": 100}}).to_string());
        upstream.put(&format!("/feed/{ONE}.json"), body);
    });
    let feeds = feed("large", &format!("{}/feed", upstream.origin()), "misp", "");
    std::fs::write(folder.path().join("feeds.toml"), feeds).unwrap();
    let settings = [
        ("ES_URL", address(place).to_string()),
        ("ES_INDEX_PREFIX", place.stores.es_index_prefix.clone()),
    ];
    let run = Run { folder: folder.path(), settings: &settings };
    let began = Instant::now();
    let (report, steps, memory) = run.to_its_end("large");
    println!(
        "{attributes} attributes in {} KiB: {:.1} s, {memory} KiB of memory",
        bytes >> 10,
        began.elapsed().as_secs_f64()
    );
    // A name of a file and its hash are two.
    let found = attributes + attributes / 6;
    assert_eq!((&report["new"], steps), (&json!(found), 0), "{report}");
    let max = EVENT_KIB_MAX / 2 + EVENT_KIB_MAX / 2 * attributes / 43_000;
    assert!(memory <= max, "{memory} KiB of {max} KiB");
}
