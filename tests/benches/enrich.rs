//! The enrichment of a library of Malpedia's size by a stand-in that answers in 10 ms: what it costs beyond what the model takes.
//!
//! The stand-in is in the same process, on the same processors, and its timer is one of milliseconds. So two references stand
//! beside the run: what the model was told to take, and a bare loop that asks the same stand-in as many questions of the same size
//! by as many hands, and does nothing with the answers. What the task takes beyond the bare loop is its own.
//! `MINERVA_ENRICH_ENTRIES` asks for other sizes.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base::report::{Report, Status};
use local_runner::model_stand_in::{Behaviour, ModelStandIn};
use malpedia::FAMILY;
use serde_json::{Value, json};
use task::testing::{TestHome, Upstream};
use tests::library;

/// References of Malpedia's library in 2025.
const ENTRIES: usize = 17_600;
/// What the model takes.
const ANSWER: Duration = Duration::from_millis(10);
const CONCURRENCY: [u32; 2] = [4, 16];
/// What a run may take.
const WITHIN: Duration = Duration::from_secs(3_600);

#[expect(clippy::disallowed_methods, reason = "how large the bench is, is no setting of ours")]
fn entries() -> usize {
    let given = std::env::var("MINERVA_ENRICH_ENTRIES");
    given.map_or(ENTRIES, |text| text.parse().expect("a number"))
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    for concurrency in CONCURRENCY {
        runtime.block_on(measure(entries(), concurrency));
    }
}

async fn measure(entries: usize, concurrency: u32) {
    let made = library::generate(entries);
    let upstream = Upstream::start().await;
    upstream.put("/library/download", made.text.into_bytes());
    upstream.put("/api/get/references", "{}");
    upstream.put("/api/get/version", r#"{"version": 1, "date": "2026-03-01"}"#);
    let model = ModelStandIn::start(Behaviour::Good(ANSWER)).await.expect("a port is free");
    let settings = [
        ("MALPEDIA_URL", upstream.origin().to_owned()),
        ("LLM_URL", model.url()),
        ("LLM_MODEL", "stand-in".to_owned()),
        ("LLM_CONCURRENCY", concurrency.to_string()),
        ("LLM_DAILY_LIMIT", u32::MAX.to_string()),
        ("LLM_DAILY_TOKENS", u32::MAX.to_string()),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = TestHome::open(folder, &settings, &[FAMILY.settings]).await.expect("it opens");
    let filled = run(&home, "sync_malpedia_library_bibtex").await;
    assert_eq!(filled.status, Status::Complete, "{filled:?}");

    let (began, spent) = (Instant::now(), processor_s());
    let report = run(&home, "enrich_malpedia_library").await;
    let (took, spent) = (began.elapsed(), processor_s() - spent);
    assert_eq!((report.status, report.counts.changed), (Status::Complete, made.references));
    let (held, peak_mb) = (model.held() / concurrency, peak_mb());
    let asked = model.take_asked();
    let (began, bare_spent) = (Instant::now(), processor_s());
    bare(&model.url(), asked, concurrency).await;
    let (bare, bare_spent) = (began.elapsed(), processor_s() - bare_spent);
    let bare_held = model.held() / concurrency - held;
    let told = ANSWER * u32::try_from(made.references).expect("it fits") / concurrency;
    let own = |of: Duration| (took.as_secs_f64() / of.as_secs_f64() - 1.0) * 100.0;
    println!("{} entries, {concurrency} at once; peak {peak_mb} MB", made.references);
    println!("    task         {:>6.2} s, processors {spent:.1} s", took.as_secs_f64());
    for (name, of, beside) in [
        ("model as told", told, String::new()),
        ("model as it was", held, format!(", for the bare loop {:.2} s", bare_held.as_secs_f64())),
        ("bare loop", bare, format!(", processors {bare_spent:.1} s")),
    ] {
        println!("    {name:<15} {:>6.2} s{beside}: own {:.1} %", of.as_secs_f64(), own(of));
    }

    let (began, asked) = (Instant::now(), model.requests());
    let again = run(&home, "enrich_malpedia_library").await;
    assert_eq!((again.writes(), model.requests()), (0, asked));
    println!("    again: {:.2} s, no question", began.elapsed().as_secs_f64());
}

/// A question about `data` as the task asks it, near enough.
fn question(data: &str) -> String {
    let list = json!({"type": "array", "items": {"type": "string"}});
    let mark = "0123456789abcdef";
    json!({
        "model": "stand-in", "stream": false, "temperature": 0.1, "max_tokens": 900,
        "messages": [
            {"role": "system", "content": "You are an analyst of cyber threats. ".repeat(25)},
            {"role": "user", "content": format!("BEGIN {mark}\n{data}\nEND {mark}")},
        ],
        "response_format": {"type": "json_schema", "json_schema": {
            "name": "enrichment", "strict": true,
            "schema": {"type": "object", "additionalProperties": false,
                "properties": {"summary": {"type": "string"}, "actors_mentioned": list, "families_mentioned": list}},
        }},
    })
    .to_string()
}

/// Asks about all of it, `at_once` at a time.
async fn bare(url: &str, all: Vec<String>, at_once: u32) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client is made");
    let (url, all) = (format!("{url}/chat/completions"), Arc::new(Mutex::new(all.into_iter())));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        let (client, url, all) = (client.clone(), url.clone(), Arc::clone(&all));
        asking.spawn(async move {
            loop {
                let next = all.lock().expect("nobody panics").next();
                let Some(data) = next else { return };
                let asked = client.post(&url).header("content-type", "application/json");
                let sent = asked.body(question(&data)).send().await;
                let mut answer = sent.expect("the stand-in answers");
                while let Some(part) = answer.chunk().await.expect("the answer comes whole") {
                    black_box(part);
                }
            }
        });
    }
    asking.join_all().await;
}

/// Seconds that this process has had of processors.
fn processor_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ')).into_iter().flatten();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Memory of this process at the most, with upstream and model in it.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kb.unwrap_or_default() / 1024
}

async fn run(home: &TestHome, name: &str) -> Report {
    let task = FAMILY.tasks.iter().find(|task| task.name == name).expect("it is listed");
    home.run_within(task, Value::Null, WITHIN).await
}
