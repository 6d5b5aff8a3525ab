//! Documents into the embedded store, new and unchanged, against Python's `sqlite3` with the same bytes and settings.
//!
//! Both keep a body, an index by date and a full-text index, in WAL with `synchronous = FULL`, a thousand to a commit.
//! The rival is given bodies that are ready; ours are merged, hashed and compared field by field on the way.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::path::Path;
use std::time::Instant;

use rss::sources::INDEX;
use serde_json::{Value, json};
use stores::documents::{Body, Documents as _, Embedded, Index, Owner, Plan, Write, Written, plan};

mod rival;

use rival::{Rival, Spread};

const DOCUMENTS: usize = 10_000;
const ROUNDS: usize = 3;

/// An owner of few fields, so that a document is as large as what is in it.
const BENCH: Owner = Owner {
    fields: &["title", "summary", "content", "link", "guid", "published"],
    ..Owner::named("bench")
};

const WORDS: &str = "ransomware campaign phishing credential loader backdoor beacon exploit patch advisory \
    vulnerability botnet stealer domain payload macro persistence lateral movement exfiltration campanha órgãos \
    públicos instituições financeiras trojan bancário segurança atualização ataque resposta incidente the of and to \
    in that was with from through which attackers researchers observed several targets across sectors during";

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let index = Index::named(INDEX).expect("the index of articles");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kinds = [("text", text_document as fn(usize) -> Value), ("plain", plain_document)];
    let kinds = kinds.map(|(name, make)| (name, writes(make)));
    for (name, writes) in &kinds {
        hand_over(folder.path(), name, index, writes);
    }
    let fields: Vec<&str> = index.text_fields().collect();
    std::fs::write(folder.path().join("fields"), fields.join(" ")).expect("there is room");
    let mut rival = Rival::start(Path::new("python3"), "sqlite_rival.py", folder.path())
        .inspect_err(|why| println!("without rival: {why}"))
        .ok();

    for (name, writes) in &kinds {
        let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..ROUNDS {
            let rates = runtime.block_on(round(folder.path(), index, writes));
            for (all, rate) in ours.iter_mut().zip(rates) {
                all.push(rate);
            }
            for (all, what) in theirs.iter_mut().zip(["create", "again"]) {
                all.extend(rival.as_mut().map(|rival| rate(rival, &format!("{name} {what}"))));
            }
        }
        let bytes: usize = writes.iter().map(|write| stored(write).to_string().len()).sum();
        println!("{DOCUMENTS} documents `{name}`, {} bytes each as stored", bytes / DOCUMENTS);
        for ((what, ours), theirs) in ["new", "unchanged"].into_iter().zip(ours).zip(theirs) {
            let ours = Spread::of(ours);
            show(&format!("{what}, minerva"), &ours, &ours);
            if !theirs.is_empty() {
                show(&format!("{what}, Python sqlite3"), &Spread::of(theirs), &ours);
            }
        }
    }
}

fn show(name: &str, rate: &Spread, ours: &Spread) {
    let ratio = ours.median / rate.median;
    println!(
        "  {name:<28} {:>8.0} documents/s ({:.0} to {:.0})  ratio {ratio:.2}",
        rate.median, rate.least, rate.greatest
    );
}

fn rate(rival: &mut Rival, what: &str) -> f64 {
    let answer = rival.ask(what).expect("the rival does its part");
    answer["documents"].as_f64().expect("a number") / answer["s"].as_f64().expect("a number")
}

/// Documents a second, new and unchanged.
async fn round(folder: &Path, index: &'static Index, writes: &[Write]) -> [f64; 2] {
    let folder = tempfile::tempdir_in(folder).expect("a temporary folder");
    let store = Embedded::open(folder.path()).await.expect("a new store opens");
    store.ensure(index).await.expect("a new store has room");
    let mut rates = [0.0; 2];
    for (rate, expected) in rates.iter_mut().zip([Written::New, Written::Unchanged]) {
        let began = Instant::now();
        let written = store.upsert(index, writes).await.expect("documents are stored");
        *rate = writes.len() as f64 / began.elapsed().as_secs_f64();
        assert!(written.iter().all(|one| *one == expected));
    }
    rates
}

/// Writes what the rival stores: the very bodies that ours become.
fn hand_over(folder: &Path, name: &str, index: &Index, writes: &[Write]) {
    let lines = writes.iter().map(|write| {
        let body = stored(write);
        let texts: Vec<&Value> = index.text_fields().map(|field| &body[field]).collect();
        json!([write.id, body.to_string(), texts]).to_string()
    });
    let lines: Vec<String> = lines.collect();
    std::fs::write(folder.join(format!("{name}.jsonl")), lines.join("\n"))
        .expect("a temporary folder has room");
}

fn stored(write: &Write) -> Value {
    let Plan::Create(body) = plan(None, write) else { return Value::Null };
    Value::Object(body)
}

/// Some words, the same for the same number.
fn words(n: usize, count: usize) -> String {
    let all: Vec<&str> = WORDS.split_whitespace().collect();
    let mut seed = n as u64 + 1;
    let words = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        all[(seed >> 33) as usize % all.len()]
    });
    words.take(count).collect::<Vec<_>>().join(" ")
}

fn writes(make: fn(usize) -> Value) -> Vec<Write> {
    let published =
        |n| format!("2026-01-01T{:02}:{:02}:{:02}Z", n / 3600 % 24, n / 60 % 60, n % 60);
    let write = |n| {
        let mut fields: Body = make(n).as_object().cloned().unwrap_or_default();
        fields.insert("published".to_owned(), json!(published(n)));
        Write::of(format!("{n:064x}"), &BENCH, fields)
    };
    (0..DOCUMENTS).map(write).collect()
}

/// About 1 kB with words to search.
fn text_document(n: usize) -> Value {
    json!({
        "title": words(n, 8),
        "summary": words(n + DOCUMENTS, 25),
        "content": words(n + 2 * DOCUMENTS, 55),
        "link": format!("https://example.org/{n}"),
    })
}

/// About 300 bytes with nothing for the full-text index but an empty row.
fn plain_document(n: usize) -> Value {
    json!({"link": format!("https://example.org/{n}"), "guid": format!("{n:020}")})
}
