//! The enrichment of a library of Malpedia's size by a stand-in that answers in 10 ms: what it costs beyond what the model takes.
//!
//! The stand-in is in the same process and its timer is one of milliseconds, so it has questions for longer than it is told to:
//! the figure is given by what it was told, and by what it took. `MINERVA_ENRICH_ENTRIES` asks for other sizes.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::time::{Duration, Instant};

use base::report::{Report, Status};
use local_runner::model_stand_in::{Behaviour, ModelStandIn};
use malpedia::FAMILY;
use serde_json::Value;
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

    let began = Instant::now();
    let report = run(&home, "enrich_malpedia_library").await;
    let took = began.elapsed();
    assert_eq!((report.status, report.counts.changed), (Status::Complete, made.references));
    let of_model = ANSWER * u32::try_from(made.references).expect("it fits") / concurrency;
    let held = model.held() / concurrency;
    let own = |of: Duration| (took.as_secs_f64() / of.as_secs_f64() - 1.0) * 100.0;
    println!(
        "{} entries, {concurrency} at once: {:.1} s; the model {:.1} s as told, so own {:.1} %; {:.1} s as it was, so own {:.1} %; peak {} MB",
        made.references,
        took.as_secs_f64(),
        of_model.as_secs_f64(),
        own(of_model),
        held.as_secs_f64(),
        own(held),
        peak_mb(),
    );

    let began = Instant::now();
    let again = run(&home, "enrich_malpedia_library").await;
    assert_eq!((again.writes(), model.requests()), (0, made.references));
    println!("    again: {:.2} s, no question", began.elapsed().as_secs_f64());
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
