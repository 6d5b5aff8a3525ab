//! What is long: a generated list of any length, killed in the middle, and an event of 43,000 attributes; each in a process
//! of its own, whose memory is measured.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde_json::json;
use task::testing::Upstream;
use tests::misp::{Run, large_event};

use super::{ONE, feed, index};
use crate::documents::{Check, Place};
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
    let run = Run { program: env!("CARGO_BIN_EXE_example"), folder: folder.path(), settings: &[] };
    let began = Instant::now();
    let mut kills = 0;
    let (reports, first) = run.killed_when("first", || {
        let is_time = half.try_recv().is_ok();
        if is_time {
            kills += 1;
            // What is on its way is stored, or not: either must do.
            thread::sleep(Duration::from_millis(100));
        }
        is_time
    });
    println!(
        "{lines} lines in {:.1} s and {} steps, killed in the middle: {first:?} KiB",
        began.elapsed().as_secs_f64(),
        reports.len()
    );
    assert_eq!(kills, 1, "it reached the middle: {reports:?}");
    assert_eq!(reports.last().unwrap()["status"], "complete", "{reports:?}");
    let stored = || {
        runtime.block_on(async {
            use stores::documents::DocumentReader as _;
            let store = stores::documents::Embedded::open(folder.path()).await.unwrap();
            let count = store.count(index(), &Default::default()).await.unwrap();
            (count, store.sequence(index()).await.unwrap())
        })
    };
    assert_eq!(stored(), (lines, lines), "each once: {reports:?}");
    // Unchanged but for its tag.
    Lines::of(0..lines, Some("two")).serve_at(&upstream, "/list");
    let began = Instant::now();
    let (again, later) = run.to_its_end("again");
    println!(
        "read again in {:.1} s and {} steps: {later:?} KiB",
        began.elapsed().as_secs_f64(),
        again.len()
    );
    let unchanged = again.last().unwrap()["unchanged"].as_u64();
    assert_eq!((unchanged, stored()), (Some(lines), (lines, lines)), "{again:?}");
    for memory in [first, later] {
        assert!(memory.own <= LIST_KIB_MAX, "{memory:?} KiB");
    }
    let (quiet, _) = run.to_its_end("quiet");
    assert_eq!(quiet[0]["sources"][0]["outcome"], "not_modified", "{quiet:?}");
}

#[expect(clippy::print_stdout, reason = "with `--nocapture` the figures are worth a look")]
fn a_large_event_is_stored(place: &mut Place) {
    let attributes = so_many("MINERVA_EVENT_ATTRIBUTES", ATTRIBUTES);
    let folder = tempfile::tempdir().unwrap();
    let body = large_event(ONE, attributes);
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
    let run =
        Run { program: env!("CARGO_BIN_EXE_example"), folder: folder.path(), settings: &settings };
    let began = Instant::now();
    let (reports, memory) = run.to_its_end("large");
    println!(
        "{attributes} attributes in {} KiB: {:.1} s, {} KiB of memory",
        bytes >> 10,
        began.elapsed().as_secs_f64(),
        memory.own
    );
    // A name of a file and its hash are two.
    let found = attributes + attributes / 6;
    assert_eq!((&reports[0]["new"], reports.len()), (&json!(found), 1), "{reports:?}");
    let max = EVENT_KIB_MAX / 2 + EVENT_KIB_MAX / 2 * attributes / 43_000;
    assert!(memory.own <= max, "{memory:?} of {max} KiB");
}
