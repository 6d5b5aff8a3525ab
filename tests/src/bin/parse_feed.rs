//! Reads one feed as a visit does, without a store, and prints what that took: `parse_feed FILE [CONTENT-TYPE]` gives
//! `{"ms", "items", "documents", "bytes", "peak_kb"}`. `ms` is of processor time.

#![expect(clippy::print_stdout, reason = "its answer is what it is for")]

use feed::Hints;
use jiff::Timestamp;
use rss::collect::parse;
use rss::identity::SharedIds;
use rss::sources::Source;
use serde_json::json;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("a file");
    let content_type = arguments.next();
    let body = std::fs::read(&path).expect("it can be read");
    let source = Source {
        id: "a".to_owned(),
        name: "A".to_owned(),
        url: "https://a.example/feed".parse().expect("a literal"),
        language: None,
        category: "news".to_owned(),
        enabled: true,
    };
    let hints = Hints { content_type: content_type.as_deref(), url: source.url.as_str() };
    let (mut items, mut documents, mut bytes) = (0, 0, 0);
    let before = processor_ms();
    let take = |batch: Option<rss::collect::Batch>| {
        let Some(batch) = batch else { return true };
        items += batch.found;
        documents += batch.writes.len();
        let parts = batch.writes.iter().flat_map(|write| &write.parts);
        bytes += parts.map(|part| json!(part.fields).to_string().len()).sum::<usize>();
        true
    };
    let done = parse(&source, &body, &hints, Timestamp::UNIX_EPOCH, SharedIds::default(), take);
    let ms = processor_ms() - before;
    let problem = done.err().map(|error| error.to_string());
    let peak_kb = status("VmHWM:");
    let shown = json!({"ms": ms, "items": items, "documents": documents, "bytes": bytes, "peak_kb": peak_kb, "problem": problem});
    println!("{shown}");
}

/// Processor time of this process so far; other processes on the machine do not count in it.
fn processor_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok());
    nanos.unwrap_or_default() / 1_000_000
}

fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
