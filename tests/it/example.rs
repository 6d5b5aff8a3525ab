//! What the contract promises of a visit, on the example family: each run in a process of its own, against an upstream that counts.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use stores::documents::{DocumentReader as _, Embedded, Index, Pages, Scan};
use tempfile::TempDir;
use tests::example::{INDICATORS, PULSES};

pub(crate) const TRIALS: &[crate::Case] = &[
    (
        "three_thousand_children_are_fetched_once_each",
        three_thousand_children_are_fetched_once_each,
    ),
    ("one_visit_stores_to_two_indices", one_visit_stores_to_two_indices),
    ("a_long_body_is_gone_on_with_after_a_kill", a_long_body_is_gone_on_with_after_a_kill),
    ("no_key_is_used_beyond_its_budget", no_key_is_used_beyond_its_budget),
    ("a_refused_key_leaves_the_others_alone", a_refused_key_leaves_the_others_alone),
];

const CHILDREN: u64 = 3_000;

/// Children at which the upstream falls silent once, until the run's time is out.
const SILENT_AT: [u64; 5] = [400, 900, 1_400, 1_900, 2_400];

/// The child at which the run is killed.
const KILLED_AT: u64 = 2_700;

/// Time that a run of the manifest gets: a third of it is work.
const RUN_MS: u64 = 6_000;

/// Megabytes of the long body without `MINERVA_STREAM_MB`, which asks for more.
const STREAM_MB: u64 = 96;

/// What a process may hold while it reads the long body.
const STREAM_MEMORY_MAX_KIB: u64 = 64 << 10;

/// What the upstream knows.
#[derive(Default)]
struct Served {
    /// Answers that were given, by path.
    delivered: BTreeMap<String, u32>,
    /// Paths at which it is silent once.
    silent: BTreeSet<String>,
    /// Uses of each key.
    keys: BTreeMap<String, u32>,
    /// A key that is refused from this use on.
    refused: Option<(&'static str, u32)>,
    /// Told when a silent path is asked for, or half of the long body is sent.
    told: Option<Sender<()>>,
    /// Where readings of the long body began.
    starts: Vec<u64>,
}

#[derive(Clone)]
struct Upstream {
    served: Arc<Mutex<Served>>,
    address: SocketAddr,
}

impl Upstream {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = Self { served: Arc::default(), address };
        let routes = Router::new().fallback(serve).with_state(upstream.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, routes).await.unwrap();
            });
        });
        upstream
    }

    /// A receiver that hears of the next silence.
    fn listen(&self) -> Receiver<()> {
        let (sender, receiver) = channel();
        self.served.lock().unwrap().told = Some(sender);
        receiver
    }

    fn silence(&self, paths: impl IntoIterator<Item = String>) {
        self.served.lock().unwrap().silent.extend(paths);
    }
}

async fn serve(State(upstream): State<Upstream>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/').to_owned();
    let is_silent = {
        let mut served = upstream.served.lock().unwrap();
        let is_silent = served.silent.remove(&path);
        if is_silent && let Some(told) = served.told.take() {
            let _ = told.send(());
        }
        if !is_silent {
            *served.delivered.entry(path.clone()).or_default() += 1;
        }
        is_silent
    };
    if is_silent {
        return std::future::pending().await;
    }
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["manifest"] => {
            let children: Vec<u64> = (1..=CHILDREN).collect();
            tagged(&headers, "\"manifest\"", json!(children).to_string())
        }
        ["child", number] => format!("child {number}").into_response(),
        ["page"] => tagged(&headers, "\"page\"", page(0, 3, Some("page/2"))),
        ["page", _] => tagged(&headers, "\"page/2\"", page(3, 2, None)),
        ["lines"] => lines(&upstream, &headers),
        ["keyed", ..] => keyed(&upstream, &headers),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A body with a tag, or 304 for whoever has it.
fn tagged(headers: &HeaderMap, tag: &'static str, body: String) -> Response {
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([(header::ETAG, tag)], body).into_response()
}

/// Pulses, each with two indicators of its own and one that all have.
fn page(from: u64, count: u64, next: Option<&str>) -> String {
    let pulses = (from..from + count).map(|number| {
        json!({"name": format!("pulse {number}"), "indicators": [format!("{number}.example"), format!("{number}.test")]})
    });
    json!({"pulses": pulses.collect::<Vec<_>>(), "next": next}).to_string()
}

fn keyed(upstream: &Upstream, headers: &HeaderMap) -> Response {
    let mut served = upstream.served.lock().unwrap();
    let key = headers.get("x-key").unwrap().to_str().unwrap().to_owned();
    let uses = served.keys.entry(key.clone()).or_default();
    *uses += 1;
    let uses = *uses;
    if served.refused.is_some_and(|(refused, from)| refused == key && uses >= from) {
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "86000")]).into_response();
    }
    "used".into_response()
}

#[expect(clippy::disallowed_methods, reason = "how thorough this test is, is no setting of ours")]
fn stream_bytes() -> u64 {
    std::env::var("MINERVA_STREAM_MB").map_or(STREAM_MB, |text| text.parse().unwrap()) << 20
}

/// A mebibyte of lines of 64 bytes.
fn block() -> Bytes {
    let line = |number: u64| format!("{number:063}\n");
    (0..1_u64 << 14).map(line).collect::<String>().into()
}

fn lines(upstream: &Upstream, headers: &HeaderMap) -> Response {
    let total = stream_bytes();
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_NONE_MATCH) == Some("\"lines\"") {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let range = text(header::RANGE).filter(|_| text(header::IF_RANGE) == Some("\"lines\""));
    let from =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from: u64 = from.unwrap_or(0);
    let is_first = {
        let mut served = upstream.served.lock().unwrap();
        served.starts.push(from);
        served.starts.len() == 1
    };
    let (block, told) = (block(), Arc::clone(&upstream.served));
    let size = block.len() as u64;
    let blocks = stream::unfold(from, move |at| {
        let (block, told) = (block.clone(), Arc::clone(&told));
        async move {
            if is_first && at >= total / 2 {
                // Half of it is out: the run is killed now, and hears no more.
                if let Some(told) = told.lock().unwrap().told.take() {
                    let _ = told.send(());
                }
                std::future::pending::<()>().await;
            }
            if at >= total {
                return None;
            }
            let piece = block.slice(usize::try_from(at % size).unwrap()..);
            let next = at + piece.len() as u64;
            Some((Ok::<_, std::convert::Infallible>(piece), next))
        }
    });
    let body = Body::from_stream(blocks);
    let tag = (header::ETAG, "\"lines\"".to_owned());
    match from {
        0 => ([tag], body).into_response(),
        _ => {
            let range = (header::CONTENT_RANGE, format!("bytes {from}-{}/{total}", total - 1));
            (StatusCode::PARTIAL_CONTENT, [tag, range], body).into_response()
        }
    }
}

/// A home for runs of the example family.
struct Home {
    folder: TempDir,
    upstream: Upstream,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), upstream: Upstream::start() }
    }

    fn start(&self, task: &str, ms: u64, event: &Value, request: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_example"))
            .args([task, &ms.to_string(), &event.to_string(), request])
            .env_clear()
            .env("MINERVA_DATA_DIR", self.folder.path())
            .env("MINERVA_ALLOW_NETS", "127.0.0.1")
            .env("EXAMPLE_URL", format!("http://{}/", self.upstream.address))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn run(&self, task: &str, ms: u64, event: &Value, request: &str) -> Value {
        printed(&self.start(task, ms, event, request).wait_with_output().unwrap())
    }

    /// Every document of an index, as the store has it.
    fn documents(&self, index: &str) -> Vec<stores::documents::Document> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Embedded::open(self.folder.path()).await.unwrap();
            let index = Index::named(index).unwrap();
            let mut pages = Pages::new(&store, index, Scan { limit: 1_000, ..Scan::default() });
            let mut all = Vec::new();
            while let Some(page) = pages.next().await.unwrap() {
                all.extend(page);
            }
            assert_eq!(store.count(index, &Default::default()).await.unwrap(), all.len() as u64);
            all
        })
    }
}

fn printed(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| {
        panic!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}

/// The event of the continuation that a run sent.
fn continuation(printed: &Value) -> Option<Value> {
    let detail = printed["continuations"].as_array()?.first()?;
    Some(json!({"source": "minerva", "detail-type": "Minerva Task Continuation", "detail": detail}))
}

fn three_thousand_children_are_fetched_once_each() {
    let home = Home::new();
    home.upstream.silence(SILENT_AT.map(|child| format!("child/{child}")));
    let (mut event, mut cuts, mut request) = (json!({}), 0, 0);
    let mut is_killed = false;
    let whole = loop {
        request += 1;
        let name = format!("request-{request}");
        let after_silences = home.upstream.served.lock().unwrap().silent.is_empty();
        if after_silences && !is_killed {
            home.upstream.silence([format!("child/{KILLED_AT}")]);
            let silent = home.upstream.listen();
            let mut child = home.start("read_manifest", 60_000, &event, &name);
            silent.recv_timeout(Duration::from_secs(60)).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            is_killed = true;
            // The platform delivers the same event again.
            continue;
        }
        let printed = home.run("read_manifest", RUN_MS, &event, &name);
        match continuation(&printed) {
            None => break printed["report"].clone(),
            Some(next) => {
                cuts += 1;
                assert_eq!(printed["report"]["status"], "partial", "{printed}");
                assert_eq!(printed["report"]["sources"][0]["outcome"], "deferred", "{printed}");
                event = next;
            }
        }
        assert!(request < 20, "it does not come to an end: {printed}");
    };
    assert!(cuts >= SILENT_AT.len() && is_killed, "{cuts} cuts");
    assert_eq!(whole["status"], "complete", "{whole}");
    // The killed attempt reported nothing, and what it stored stays stored.
    let found = whole["found"].as_u64().unwrap();
    assert!(found >= CHILDREN - (KILLED_AT - SILENT_AT[4]) && found <= CHILDREN, "{whole}");
    let documents = home.documents(PULSES);
    assert_eq!(documents.len() as u64, CHILDREN);
    assert!(documents.iter().all(|one| one.body["revision"] == 1), "none was written twice");
    let served = home.upstream.served.lock().unwrap();
    for child in 1..=CHILDREN {
        let fetched = served.delivered.get(&format!("child/{child}"));
        assert_eq!(fetched, Some(&1), "child {child}");
    }
    drop(served);
    let again = home.run("read_manifest", RUN_MS, &json!({}), "again");
    assert_eq!(again["report"]["sources"][0]["outcome"], "not_modified", "{again}");
    assert_eq!(again["report"]["requests"], 1);
}

fn one_visit_stores_to_two_indices() {
    let home = Home::new();
    let first = &home.run("read_two_indices", 60_000, &json!({}), "first")["report"];
    let source = &first["sources"][0];
    assert_eq!((&first["found"], &first["new"]), (&json!(15), &json!(15)), "{first}");
    assert_eq!(source["by_index"][PULSES]["new"], 5, "{source}");
    assert_eq!(source["by_index"][INDICATORS]["new"], 10, "{source}");
    assert_eq!((home.documents(PULSES).len(), home.documents(INDICATORS).len()), (5, 10));
    let second = &home.run("read_two_indices", 60_000, &json!({}), "second")["report"];
    assert_eq!((&second["new"], &second["requests"]), (&json!(0), &json!(1)), "{second}");
    // One of the two indices is emptied: all is read again, and only what is missing is written.
    for file in ["documents.db", "documents.db-wal", "documents.db-shm"] {
        let _ = std::fs::remove_file(home.folder.path().join(file));
    }
    let third = &home.run("read_two_indices", 60_000, &json!({}), "third")["report"];
    assert_eq!((&third["new"], &third["requests"]), (&json!(15), &json!(2)), "{third}");
}

/// The most memory that a process held, until it ends.
fn watch(child: &mut Child) -> u64 {
    let path = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        most = most.max(kib.unwrap_or(0));
        thread::sleep(Duration::from_millis(20));
    }
    most
}

#[expect(clippy::print_stdout, reason = "with `--nocapture` the figures are worth a look")]
fn a_long_body_is_gone_on_with_after_a_kill() {
    let home = Home::new();
    let half = home.upstream.listen();
    let began = Instant::now();
    let mut killed = home.start("read_lines", 900_000, &json!({}), "killed");
    let told = thread::spawn(move || half.recv_timeout(Duration::from_secs(600)));
    let pid = rustix::process::Pid::from_child(&killed);
    let killer = thread::spawn(move || {
        told.join().unwrap().unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    });
    let before = watch(&mut killed);
    killer.join().unwrap();
    let mut next = home.start("read_lines", 900_000, &json!({}), "next");
    let after = watch(&mut next);
    let report = printed(&next.wait_with_output().unwrap())["report"].clone();
    println!(
        "{} MiB in {:.1} s; {before} KiB before the kill, {after} KiB after it",
        stream_bytes() >> 20,
        began.elapsed().as_secs_f64()
    );
    assert_eq!(report["status"], "complete", "{report}");
    let starts = home.upstream.served.lock().unwrap().starts.clone();
    assert!(starts[0] == 0 && starts[1] > 0 && starts.len() == 2, "{starts:?}");
    let blocks = (stream_bytes() / 64).div_ceil(1 << 18);
    let documents = home.documents(PULSES);
    assert_eq!(documents.len() as u64, blocks, "{report}");
    assert!(documents.iter().all(|one| one.body["revision"] == 1), "none was written twice");
    // Whole blocks are equal, as their lines repeat; a lost or doubled line would make one differ.
    let texts: BTreeSet<_> = documents.iter().map(|one| one.body["description"].as_str()).collect();
    assert!(texts.len() <= 2, "{texts:?}");
    for memory in [before, after] {
        assert!(memory <= STREAM_MEMORY_MAX_KIB, "{memory} KiB");
    }
    let again = &home.run("read_lines", 60_000, &json!({}), "again")["report"];
    assert_eq!(again["sources"][0]["outcome"], "not_modified", "{again}");
}

/// Four processes that ask as often as they can; gives the uses of each key.
fn used(home: &Home, requests: u32) -> BTreeMap<String, u32> {
    let processes: Vec<Child> = (0..4)
        .map(|source| {
            let event = json!({"source": source, "requests": requests});
            home.start("use_keys", 120_000, &event, &format!("request-{source}"))
        })
        .collect();
    for process in processes {
        let report = &printed(&process.wait_with_output().unwrap())["report"];
        let outcome = report["sources"][0]["outcome"].as_str().unwrap();
        assert!(["unchanged", "budget_spent"].contains(&outcome), "{report}");
    }
    home.upstream.served.lock().unwrap().keys.clone()
}

fn no_key_is_used_beyond_its_budget() {
    let home = Home::new();
    // 320 are wanted, 200 are there.
    let used = used(&home, 80);
    assert_eq!(used, BTreeMap::from([("one".to_owned(), 100), ("two".to_owned(), 100)]));
}

fn a_refused_key_leaves_the_others_alone() {
    let home = Home::new();
    home.upstream.served.lock().unwrap().refused = Some(("one", 10));
    let used = used(&home, 60);
    assert_eq!(used["two"], 100, "the other is used up");
    // Requests that were under way when it was refused, one a process.
    assert!((10..14).contains(&used["one"]), "{used:?}");
}
