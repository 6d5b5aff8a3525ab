//! A list of indicators from a loopback server onto a real Elasticsearch, by the task itself, against a replay of the same documents
//! that reads no list, knows no State and looks nothing up.
//!
//! Both fill `cti_misp_iocs`, made anew for each round and refreshed every 30 s; 2,500 documents a request. Then an event of
//! 43,000 attributes by the task in a process of its own: its time and its memory.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use base::config::{Secret, Stores};
use local_runner::families::declared;
use serde_json::{Value, json};
use stores::documents::{DocumentReader as _, Documents as _, Elastic, Index, Pages, Scan};
use task::testing::{Answer, TestHome, Upstream};
use tests::misp::{Run, large_event};
use tests::services::{self, search};
use url::Url;

mod replay;
#[expect(dead_code, reason = "no rival in Python takes part")]
mod rival;

use replay::{Timer, Took, replay, server_process};
use rival::Spread;

const LINES: u32 = 200_000;
/// Documents in one request of the replay, as in ours.
const BATCH: usize = 2_500;
/// A server just started is slow; this round is not counted.
const WARM_UP: usize = 1;
const ROUNDS: usize = 5;
const PREFIX: &str = "bench-lines-";
const INDEX: &str = "cti_misp_iocs";
const ATTRIBUTES: u64 = 43_000;
const EVENT: &str = "11111111-1111-4111-8111-111111111111";
/// For a run that shares its processors with others.
const TIME: Duration = Duration::from_secs(600);

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    match search::service(search::Kind::Elasticsearch8).url(cache) {
        Ok(url) => runtime.block_on(run(&url)),
        Err(why) => println!("without a server there is nothing to compare: {why}"),
    }
    services::stop();
}

async fn run(url: &Url) {
    let upstream = Upstream::start().await;
    let list: String = (0..LINES).fold(String::new(), |mut list, number| {
        let _ = writeln!(list, "{}", line(number));
        list
    });
    println!("{LINES} lines, {:.1} MB", list.len() as f64 / 1e6);
    upstream.put("/list.txt", list);
    upstream.answer(Answer::Unconditional);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let feeds = folder.path().join("feeds.toml");
    let feed = format!(
        "[[feed]]\nid = \"list\"\nname = \"List\"\nurl = \"{}/list.txt\"\nformat = \"freetext\"\n",
        upstream.origin()
    );
    std::fs::write(&feeds, feed).expect("it is written");
    let server = server_process(url);
    let mut bodies = Vec::new();
    let (mut ours, mut replayed): (Vec<Took>, Vec<Took>) = Default::default();
    for round in 0..WARM_UP + ROUNDS {
        // Ours goes first in the first round, as its documents are what is replayed.
        for is_ours in [round % 2 == 0, round % 2 != 0] {
            let store = made(url).await;
            let took = if is_ours {
                let took = sync(url, &feeds, &server).await;
                if bodies.is_empty() {
                    ask(url, "POST", "_refresh", "");
                    bodies = requests(&store).await;
                }
                took
            } else {
                let timer = Timer::start(&server);
                replay(url, &alias(), &bodies);
                timer.end()
            };
            ask(url, "POST", "_refresh", "");
            let count = store.sequence(index()).await.expect("the server counts");
            assert_eq!(count, u64::from(LINES), "each was written once");
            if round >= WARM_UP {
                if is_ours { &mut ours } else { &mut replayed }.push(took);
            }
        }
    }
    let bar = Spread::of(replayed.iter().map(|one| one.s).collect()).median;
    for (name, took) in [("task", &ours), ("replay", &replayed)] {
        let of = |what: fn(&Took) -> f64| Spread::of(took.iter().map(what).collect());
        let s = of(|one| one.s);
        println!(
            "  {name:<8} {:>7.0} lines/s  {:.2} s ({:.2} to {:.2}), processors: client {:.2} s, server {:.2} s  ratio to replay {:.2}",
            f64::from(LINES) / s.median,
            s.median,
            s.least,
            s.greatest,
            of(|one| one.client_s).median,
            of(|one| one.server_s).median,
            bar / s.median,
        );
    }
    large_event_is_stored(url, &upstream).await;
    take_away(url);
}

/// The large event, each time into a new index.
async fn large_event_is_stored(url: &Url, upstream: &Upstream) {
    let body = large_event(EVENT, ATTRIBUTES);
    println!("an event of {ATTRIBUTES} attributes, {:.1} MB", body.len() as f64 / 1e6);
    upstream.put("/feed/manifest.json", json!({EVENT: {"timestamp": 100}}).to_string());
    upstream.put(&format!("/feed/{EVENT}.json"), body);
    let settings = [("ES_URL", url.as_str().to_owned()), ("ES_INDEX_PREFIX", PREFIX.to_owned())];
    let (mut took_s, mut most_mib) = (Vec::new(), 0.0_f64);
    for _ in 0..ROUNDS {
        let store = made(url).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let feeds = format!(
            "[[feed]]\nid = \"events\"\nname = \"Events\"\nurl = \"{}/feed\"\nformat = \"misp\"\n",
            upstream.origin()
        );
        std::fs::write(folder.path().join("feeds.toml"), feeds).expect("it is written");
        let run = Run {
            program: env!("CARGO_BIN_EXE_example"),
            folder: folder.path(),
            settings: &settings,
        };
        let began = Instant::now();
        let (reports, memory) = tokio::task::block_in_place(|| run.to_its_end("event"));
        most_mib = most_mib.max(memory.whole as f64 / 1024.0);
        took_s.push(began.elapsed().as_secs_f64());
        ask(url, "POST", "_refresh", "");
        let count = store.sequence(index()).await.expect("the server counts");
        assert_eq!(json!(count), reports[0]["new"], "{reports:?}");
    }
    let s = Spread::of(took_s);
    println!(
        "  {:.1} s ({:.1} to {:.1}), start of the process included; {most_mib:.0} MiB at the most",
        s.median, s.least, s.greatest
    );
}

/// The task over the list, by a home that knows nothing of it yet.
async fn sync(url: &Url, feeds: &Path, server: &str) -> Took {
    let settings = [
        ("ES_URL", url.as_str()),
        ("ES_INDEX_PREFIX", PREFIX),
        ("MISP_FEEDS", feeds.to_str().expect("a path of ours")),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home =
        TestHome::open(folder, &settings, &declared()).await.expect("the settings are right");
    let task = misp::FAMILY.tasks.iter().find(|task| task.name == "sync_single_feed");
    let task = task.expect("it is listed");
    let timer = Timer::start(server);
    let report = home.run_within(task, json!({"feed": "list"}), TIME).await;
    let took = timer.end();
    assert_eq!(report.counts.new, u64::from(LINES), "{report:?}");
    took
}

/// What is stored, as the requests that would store it.
async fn requests(store: &Elastic) -> Vec<Vec<u8>> {
    let (mut bodies, mut body, mut count) = (Vec::new(), Vec::new(), 0);
    let mut pages = Pages::new(store, index(), Scan::default());
    while let Some(page) = pages.next().await.expect("the server gives them") {
        for one in page {
            let action = json!({"create": {"_id": one.id}});
            let stored = Value::Object(one.body);
            writeln!(body, "{action}\n{stored}").expect("memory takes it");
            count += 1;
            if count % BATCH == 0 {
                bodies.push(std::mem::take(&mut body));
            }
        }
    }
    bodies.extend(Some(body).filter(|body| !body.is_empty()));
    println!(
        "{count} documents, {} bytes each",
        bodies.iter().map(Vec::len).sum::<usize>() / count
    );
    bodies
}

/// A new index, ready to be filled.
async fn made(url: &Url) -> Elastic {
    take_away(url);
    let stores = Stores {
        es_url: Some(Secret::new(vec![url.clone()])),
        es_index_prefix: PREFIX.to_owned(),
        ..Stores::default()
    };
    let store = Elastic::open(&stores).expect("the settings are right");
    store.ensure(index()).await.expect("the index is made");
    ask(url, "PUT", "_settings", r#"{"index.refresh_interval": "30s"}"#);
    store
}

fn take_away(url: &Url) {
    let said = search::call(url, "GET", &format!("/_alias/{}", alias()), "");
    let body = said.expect("the server answers").body;
    for name in body.as_object().into_iter().flat_map(|names| names.keys()) {
        let _ = search::call(url, "DELETE", &format!("/{name}"), "");
    }
}

fn ask(url: &Url, method: &str, what: &str, body: &str) {
    let path = format!("/{}/{what}", alias());
    let said = search::call(url, method, &path, body).expect("the server answers");
    assert_eq!(said.status, 200, "{}", said.body);
}

fn index() -> &'static Index {
    Index::named(INDEX).expect("it is one of ours")
}

fn alias() -> String {
    format!("{PREFIX}{INDEX}")
}

/// A line of the list, of another kind each time.
fn line(number: u32) -> String {
    let mixed = number.wrapping_mul(2_654_435_761);
    let [a, b, c, d] = number.to_be_bytes();
    match number % 5 {
        0 => format!("{}.{b}.{c}.{d}", 11 + a),
        1 => format!("c{mixed:08x}.example{}.com", number % 97),
        2 => format!("https://cdn{mixed:08x}.net/gate.php?id={number}"),
        3 => format!("{mixed:032x}"),
        _ => format!("{mixed:08x}{number:056x}"),
    }
}
