//! Documents onto a real Elasticsearch, new and unchanged, against a replay of the same bytes that looks nothing up, and
//! against elasticsearch-py's `parallel_bulk`, which does not either. And the memory that a stream of them takes.
//!
//! All fill indices of one mapping, made anew for each round, refreshed every 30 s; 2,500 documents a request.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use base::config::{Secret, Stores};
use serde_json::{Value, json};
use stores::documents::{
    DocumentReader as _, Documents as _, Elastic, FieldType, Index, Owner, Plan, Write, Written,
    plan,
};
use tests::services::{self, search};
use url::Url;

mod replay;
mod rival;

use replay::{Timer, Took, replay, server_process};
use rival::{Rival, Spread};

const RIVAL: &str = "elasticsearch==8.19.3";
const DOCUMENTS: usize = 200_000;
/// Documents handed to the store at once, as a task does that reads a long list.
const CHUNK: usize = 10_000;
/// Documents in one request of the replay, as in ours.
const BATCH: usize = 2_500;
/// A server just started is slow; this round is not counted.
const WARM_UP: usize = 1;
const ROUNDS: usize = 5;
/// Documents streamed while memory is watched.
const STREAMS: [usize; 2] = [200_000, 1_000_000];
const PREFIX: &str = "bench-";

const BENCH: Owner = Owner {
    fields: &[
        "type",
        "value",
        "category",
        "comment",
        "tags",
        "event_id",
        "to_ids",
        "first_seen",
        "tlp",
    ],
    insert_only: &["collected_at"],
    ..Owner::named("bench")
};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    if let [word, url, count] = words.as_slice()
        && word == "stream"
    {
        let count = count.parse().expect("a number of documents");
        return runtime.block_on(stream(&url.parse().expect("an address"), count));
    }
    match search::service(search::Kind::Elasticsearch8).url(Path::new(env!("CARGO_TARGET_TMPDIR")))
    {
        Ok(url) => Bench::new(url).run(&runtime),
        Err(why) => println!("without a server there is nothing to compare: {why}"),
    }
    services::stop();
}

struct Bench {
    url: Url,
    /// The server's process.
    server: String,
    index: &'static Index,
    writes: Vec<Write>,
    /// The requests that the replay sends.
    bodies: Vec<Vec<u8>>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(url: Url) -> Self {
        let writes: Vec<Write> = (0..DOCUMENTS).map(write).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut bodies, mut lines) = (Vec::new(), Vec::new());
        for writes in writes.chunks(BATCH) {
            let mut body = Vec::new();
            for write in writes {
                let Plan::Create(stored) = plan(None, write) else { continue };
                let action = json!({"create": {"_id": write.id}});
                let stored = Value::Object(stored);
                writeln!(body, "{action}\n{stored}").expect("memory takes it");
                writeln!(lines, "{}", json!([write.id, stored])).expect("memory takes it");
            }
            bodies.push(body);
        }
        fs::write(folder.path().join("documents.jsonl"), lines).expect("there is room");
        fs::write(folder.path().join("url"), url.as_str()).expect("there is room");
        Self { server: server_process(&url), url, index: index(), writes, bodies, folder }
    }

    fn run(&self, runtime: &tokio::runtime::Runtime) {
        let bytes: usize = self.bodies.iter().map(Vec::len).sum();
        println!("{DOCUMENTS} documents, {} bytes each in a request", bytes / DOCUMENTS);
        let mut rival = tests::pypi::programs(Path::new(env!("CARGO_TARGET_TMPDIR")), &[RIVAL])
            .and_then(|programs| {
                let python = programs.join("python");
                Rival::start(&python, "elasticsearch_rival.py", self.folder.path())
            })
            .inspect_err(|why| println!("without elasticsearch-py: {why}"))
            .ok();
        let names =
            ["new", "unchanged, at once", "unchanged, refreshed", "replay", "parallel_bulk"];
        let mut took: [Vec<Took>; 5] = Default::default();
        for round in 0..WARM_UP + ROUNDS {
            let mut note = |place: usize, one: Took| {
                if round >= WARM_UP {
                    took[place].push(one);
                }
            };
            // In turns, so that what goes before does not always go before the same.
            for step in 0..3 {
                match (round + step) % 3 {
                    0 => {
                        let passes = runtime.block_on(self.ours());
                        (0..).zip(passes).for_each(|(place, one)| note(place, one));
                    }
                    1 => note(3, self.replay(runtime)),
                    _ => {
                        if let Some(rival) = &mut rival {
                            note(4, self.theirs(runtime, rival));
                        }
                    }
                }
            }
        }
        let bar = Spread::of(took[3].iter().map(|one| one.s).collect()).median;
        for (name, took) in names.into_iter().zip(&took).filter(|(_, took)| !took.is_empty()) {
            let of = |what: fn(&Took) -> f64| Spread::of(took.iter().map(what).collect());
            let s = of(|one| one.s);
            println!(
                "  {name:<22} {:>7.0} documents/s  {:.2} s ({:.2} to {:.2}), processors: client {:.2} s, server {:.2} s  ratio to replay {:.2}",
                DOCUMENTS as f64 / s.median,
                s.median,
                s.least,
                s.greatest,
                of(|one| one.client_s).median,
                of(|one| one.server_s).median,
                bar / s.median,
            );
        }
        for count in STREAMS {
            let program = std::env::current_exe().expect("this program has a name");
            let mut child = Command::new(program);
            child.args(["stream", self.url.as_str(), &count.to_string()]);
            let status = child.status().expect("this program starts again");
            assert!(status.success(), "the stream of {count} documents failed");
        }
        self.take_away(&alias());
    }

    /// A new index, ready to be filled.
    async fn made(&self) -> Elastic {
        self.take_away(&alias());
        let store = store(&self.url);
        store.ensure(self.index).await.expect("the index is made");
        self.ask("PUT", "_settings", r#"{"index.refresh_interval": "30s"}"#);
        store
    }

    fn ask(&self, method: &str, what: &str, body: &str) -> Value {
        let path = format!("/{}/{what}", alias());
        let said = search::call(&self.url, method, &path, body).expect("the server answers");
        assert_eq!(said.status, 200, "{}", said.body);
        said.body
    }

    fn take_away(&self, alias: &str) {
        let _ = search::call(&self.url, "DELETE", &format!("/{alias}-v1"), "");
    }

    /// Everything new, then everything unchanged, right away and after a refresh.
    async fn ours(&self) -> [Took; 3] {
        let store = self.made().await;
        let mut passes = Vec::new();
        for pass in 0..3 {
            if pass == 2 {
                self.ask("POST", "_refresh", "");
            }
            let timer = Timer::start(&self.server);
            let expected = if pass == 0 { Written::New } else { Written::Unchanged };
            for writes in self.writes.chunks(CHUNK) {
                let written = store.upsert(self.index, writes).await.expect("they are stored");
                assert!(written.iter().all(|one| *one == expected), "{:?}", written[0]);
            }
            passes.push(timer.end());
            let count = store.sequence(self.index).await.expect("the server counts");
            assert_eq!(count, DOCUMENTS as u64, "each was written once");
        }
        passes.try_into().unwrap_or_else(|_| unreachable!("there are three"))
    }

    /// The same requests once more, ready-made, one after the other on one connection.
    fn replay(&self, runtime: &tokio::runtime::Runtime) -> Took {
        runtime.block_on(self.made());
        let timer = Timer::start(&self.server);
        replay(&self.url, &alias(), &self.bodies);
        timer.end()
    }

    fn theirs(&self, runtime: &tokio::runtime::Runtime, rival: &mut Rival) -> Took {
        runtime.block_on(self.made());
        let timer = Timer::start(&self.server);
        let answer = rival.ask(&alias()).expect("the rival does its part");
        let server_s = timer.end().server_s;
        let number = |name: &str| answer[name].as_f64().expect("a number");
        Took { s: number("s"), client_s: number("cpu_s"), server_s }
    }
}

/// Streams documents that are made on the way, and tells this process's peak of memory.
async fn stream(url: &Url, count: usize) {
    let _ = search::call(url, "DELETE", &format!("/{}-v1", alias()), "");
    let (store, index) = (store(url), index());
    let mut numbers = 0..count;
    loop {
        let writes: Vec<Write> = numbers.by_ref().take(CHUNK).map(write).collect();
        if writes.is_empty() {
            break;
        }
        let written = store.upsert(index, &writes).await.expect("they are stored");
        assert!(written.iter().all(|one| *one == Written::New), "{:?}", written[0]);
    }
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?");
    println!("  a stream of {count} documents, {CHUNK} at a time: peak of memory {}", peak.trim());
}

fn store(url: &Url) -> Elastic {
    let stores = Stores {
        es_url: Some(Secret::new(vec![url.clone()])),
        es_index_prefix: PREFIX.to_owned(),
        ..Stores::default()
    };
    Elastic::open(&stores).expect("the settings are right")
}

fn alias() -> String {
    format!("{PREFIX}{}", index().name)
}

/// An index of indicators; leaked once, as indices live as long as the program.
fn index() -> &'static Index {
    static INDEX: std::sync::LazyLock<Index> = std::sync::LazyLock::new(|| {
        let kinds = [
            ("id", "keyword"),
            ("type", "keyword"),
            ("value", "keyword"),
            ("category", "keyword"),
            ("comment", "text"),
            ("tags", "keyword"),
            ("event_id", "keyword"),
            ("to_ids", "boolean"),
            ("first_seen", "date"),
            ("collected_at", "date"),
            ("tlp", "keyword"),
            ("revision", "integer"),
        ];
        let mut properties = json!({"owners": {"type": "object", "enabled": false}});
        for (field, kind) in kinds {
            properties[field] = json!({"type": kind});
        }
        Index {
            name: "indicators",
            mapping: json!({"dynamic": false, "_meta": {"version": 1}, "properties": properties}),
            fields: [("comment".to_owned(), FieldType::Text)].into(),
            nested: [].into(),
            newest_by: None,
            is_reference: false,
            several: &[],
        }
    });
    &INDEX
}

/// An indicator as a feed of them has it.
fn write(n: usize) -> Write {
    // Ids are digests in life, so that neighbours in a batch are none in the index.
    let mixed = |salt: u64| (n as u64 ^ salt << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let id = format!("{:016x}{:016x}", mixed(1), mixed(2));
    let fields = json!({
        "type": "domain|ip",
        "value": format!("host-{n}.{:x}.example.org|198.51.{}.{}", mixed(3), n / 256 % 256, n % 256),
        "category": "Network activity",
        "comment": format!("command and control of campaign {}, seen by sensor {}", n / 1_000, n % 97),
        "tags": ["tlp:amber", "misp-galaxy:threat-actor=\"Example\"", format!("campaign:{}", n / 1_000)],
        "event_id": format!("{}", 40_000 + n / 500),
        "to_ids": true,
        "first_seen": format!("2026-10-{:02}T{:02}:{:02}:00Z", n % 28 + 1, n % 24, n % 60),
        "collected_at": "2026-11-01T00:00:00Z",
        "tlp": "amber",
    });
    Write::of(id, &BENCH, fields.as_object().cloned().unwrap_or_default())
}
