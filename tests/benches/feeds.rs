//! Feeds to articles on one thread, against feedparser 6.0.14 over the same bytes in turns.
//!
//! 40 feeds of 50 items, made from real ones under `tests/fixtures`. Ours are full records as the store gets them: ids,
//! links, text, CVEs and indicators, hash. `docs/BENCHMARKS.md` says what the rival does less or more; with the word
//! `alone` there is none, as for a profiler.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use feed::Hints;
use jiff::Timestamp;
use rss::article;
use rss::sources::Source;
use serde_json::Value;
use stores::documents::Write;

mod rival;

use rival::{Rival, Spread};

const RIVAL: &str = "feedparser==6.0.14";
const ITEMS: usize = 50;
const ROUNDS: usize = 7;
/// Our rounds are short, so each takes this many passes.
const PASSES: usize = 5;

/// The real feeds, and how many of the 40 are made from each.
const SHAPES: [(&str, usize); 9] = [
    ("rss2/rss_2.0_cloudflare.xml", 3),
    ("rss2/rss_2.0_wirecutter.xml", 5),
    ("rss2/rss_2.0_element_io.xml", 5),
    ("rss2/rss_2.0_ghost_2.xml", 5),
    ("rss2/rss_2.0_rps.xml", 5),
    ("atom/atom_mediarss_reddit_1.xml", 7),
    ("atom/atom_example_7.xml", 4),
    ("rss1/rss_1.0_biorxiv.xml", 3),
    ("rss1/rss_1.0_iso8859.xml", 3),
];

/// Reports with defanged indicators, a few lines of which go into every fourth item.
const INDICATORS: [&str; 3] = [
    "TA551__2020-07-06-TA551-IOCs-for-Valak-with-IcedID.txt",
    "IOCs_MaliciousJS.txt",
    "Conti_IOCs.txt",
];

const PORTUGUESE: &str = "<p>A campanha atinge órgãos públicos e instituições financeiras no Brasil: o anexo \
    malicioso é distribuído por e-mail e, após a execução, o trojan bancário coleta credenciais e códigos de \
    autenticação. Recomenda-se aplicar as atualizações de segurança e bloquear os endereços abaixo.</p>";

fn main() {
    let bodies = corpus();
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    let articles: Vec<Write> = bodies.iter().flat_map(|body| read(body)).collect();
    let items = articles.len();
    let count = |field: &str| -> usize {
        articles
            .iter()
            .filter_map(|article| article.parts[0].fields[field].as_array())
            .map(Vec::len)
            .sum()
    };
    println!(
        "feeds: {} of {ITEMS} items, {:.1} MB, {:.1} kB an item; read: {items} articles, {} indicators, {} CVEs",
        bodies.len(),
        bytes as f64 / 1e6,
        bytes as f64 / 1e3 / items as f64,
        count("iocs"),
        count("cves"),
    );

    let mut rival = match rival(&bodies) {
        Ok(rival) => Some(rival),
        Err(why) => {
            println!("without rival: {why}");
            None
        }
    };
    if let Some(rival) = &mut rival {
        compare(rival, &articles);
    }
    let (mut ours, mut default, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(round(&bodies));
        if let Some(rival) = &mut rival {
            default.push(rate(rival, "default"));
            bare.push(rate(rival, "bare"));
        }
    }
    let ours = Spread::of(ours);
    let show = |name: &str, rate: &Spread| {
        println!(
            "{name:<28} {:>8.0} items/s ({:.0} to {:.0}) {:>7.1} MB/s  ratio {:.1}",
            rate.median,
            rate.least,
            rate.greatest,
            rate.median * bytes as f64 / items as f64 / 1e6,
            ours.median / rate.median
        );
    };
    show("minerva", &ours);
    if rival.is_some() {
        show("feedparser 6.0.14", &Spread::of(default));
        show("feedparser, no sanitising", &Spread::of(bare));
    }
}

/// Items a second.
fn round(bodies: &[Vec<u8>]) -> f64 {
    let began = Instant::now();
    let mut items = 0;
    for _ in 0..PASSES {
        for body in bodies {
            items += black_box(read(black_box(body))).len();
        }
    }
    items as f64 / began.elapsed().as_secs_f64()
}

fn rate(rival: &mut Rival, way: &str) -> f64 {
    let answer = rival.ask(way).expect("the rival answered before");
    answer["items"].as_f64().expect("a number") / answer["s"].as_f64().expect("a number")
}

/// What the task does between the answer of a source and the store.
fn read(body: &[u8]) -> Vec<Write> {
    let source = Source {
        id: "bench".to_owned(),
        name: "Bench".to_owned(),
        url: "https://example.org/feed".parse().expect("a URL"),
        language: None,
        category: "news".to_owned(),
        enabled: true,
    };
    let now = Timestamp::from_second(1_790_000_000).expect("an instant");
    let hints = Hints { content_type: None, url: source.url.as_str() };
    let mut reader = feed::open(body, &hints).expect("a feed");
    let mut articles = Vec::new();
    while let Some(chunk) = reader.next_chunk().expect("a feed") {
        assert!(chunk.rejects.is_empty(), "{:?}", chunk.rejects);
        articles.extend(
            chunk.entries.iter().map(|entry| article::write(&source, reader.head(), entry, now)),
        );
    }
    articles
}

fn rival(bodies: &[Vec<u8>]) -> Result<Rival, String> {
    if std::env::args().any(|word| word == "alone") {
        return Err("as was asked for".to_owned());
    }
    let programs = tests::pypi::programs(Path::new(env!("CARGO_TARGET_TMPDIR")), &[RIVAL])?;
    let folder = tempfile::tempdir().map_err(|cause| cause.to_string())?;
    for (place, body) in bodies.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{place:02}.xml")), body)
            .map_err(|cause| cause.to_string())?;
    }
    let mut rival = Rival::start(&programs.join("python"), "feedparser_rival.py", folder.path())?;
    rival.ask("bare")?; // By now it has read the folder, and is warm.
    Ok(rival)
}

/// Shows that both read the same, white space apart. Where an entry has no link, feedparser gives its id as one.
fn compare(rival: &mut Rival, articles: &[Write]) {
    let answer = rival.ask("entries").expect("the rival answered before");
    let entries = answer.as_array().expect("a list");
    let equal = |place: usize, field: &str| {
        let pairs = entries.iter().zip(articles);
        pairs
            .filter(|(entry, article)| same(&entry[place], &article.parts[0].fields[field]))
            .count()
    };
    println!(
        "the rival reads {} entries; equal: ids {}, titles {}, links {}",
        entries.len(),
        equal(0, "guid"),
        equal(1, "title"),
        equal(2, "link")
    );
}

fn same(theirs: &Value, ours: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    text(theirs).split_whitespace().eq(text(ours).split_whitespace())
}

// The input.

fn corpus() -> Vec<Vec<u8>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let reports: String = INDICATORS
        .iter()
        .map(|name| fixtures.join("indicator/unit42").join(name))
        .map(|path| std::fs::read_to_string(path).expect("a fixture"))
        .collect();
    let indicators: Vec<&str> =
        reports.lines().map(str::trim).filter(|line| line.len() > 8).collect();
    let shapes = SHAPES.into_iter().flat_map(|(name, times)| std::iter::repeat_n(name, times));
    shapes
        .enumerate()
        .map(|(number, name)| {
            let path = fixtures.join("feeds/feed-rs").join(name);
            let bytes = std::fs::read(path).expect("a fixture");
            let is_latin = bytes.windows(10).any(|window| window == b"ISO-8859-1");
            let real = if is_latin {
                bytes.into_iter().map(char::from).collect()
            } else {
                String::from_utf8(bytes).expect("UTF-8")
            };
            let feed = multiply(&real, number, &indicators);
            if is_latin {
                feed.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect()
            } else {
                feed.into_bytes()
            }
        })
        .collect()
}

/// The feed with its items repeated to 50, each with an id, a link, a title and a text of its own.
fn multiply(feed: &str, number: usize, indicators: &[&str]) -> String {
    let tag = if feed.contains("<entry") { "entry" } else { "item" };
    let (open, close) = (format!("<{tag}"), format!("</{tag}>"));
    let first = feed
        .match_indices(&open)
        .map(|(at, _)| at)
        .find(|at| !feed[at + open.len()..].starts_with('s'))
        .expect("an item");
    let end = feed.rfind(&close).expect("an item") + close.len();
    let items: Vec<&str> = feed[first..end].split_inclusive(&close).collect();
    let mut made = feed[..first].to_owned();
    for (n, item) in items.iter().cycle().take(ITEMS).enumerate() {
        made.push_str(&vary(item, number, n, indicators));
    }
    made.push_str(&feed[end..]);
    made
}

fn vary(item: &str, number: usize, n: usize, indicators: &[&str]) -> String {
    let mut item = item.to_owned();
    let suffix = format!("-{number}-{n}");
    for (open, close) in
        [("<guid", "</guid>"), ("<id>", "</id>"), ("<link>", "</link>"), ("<link href=\"", "\"")]
    {
        let Some(from) = item.find(open).map(|at| at + open.len()) else { continue };
        let Some(to) = item[from..].find(close).map(|at| from + at) else { continue };
        item.insert_str(from + item[from..to].trim_end().len(), &suffix);
    }
    let title = item.find("</title>").expect("a title");
    item.insert_str(title, &format!(" ({n})"));
    add_text(&mut item, &text(n, number, indicators));
    item
}

/// What is added to an item's text, as HTML.
fn text(n: usize, number: usize, indicators: &[&str]) -> String {
    let mut html = String::new();
    if n.is_multiple_of(3) {
        html.push_str(PORTUGUESE);
    }
    if n % 4 == 1 {
        let from = (n * 7 + number * 13) % indicators.len();
        let lines = indicators.iter().cycle().skip(from).take(10);
        html.extend(lines.map(|line| {
            format!(
                "<p>{}</p>",
                line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
            )
        }));
    }
    if n % 5 == 2 {
        html.push_str(&format!(
            "<p>The actors exploit CVE-2021-44228 and CVE-2023-{}.</p>",
            20_000 + number * 100 + n
        ));
    }
    html
}

/// Puts HTML at the end of an item's longest text, in the way the text itself is written.
fn add_text(item: &mut String, html: &str) {
    let end = ["</content:encoded>", "</content>", "</description>"]
        .into_iter()
        .find_map(|close| item.rfind(close))
        .expect("a text");
    let end = item[..end].trim_end().len();
    if let Some(inside) =
        ["]]>", "</div>"].into_iter().find_map(|close| item[..end].strip_suffix(close))
    {
        let at = inside.len();
        item.insert_str(at, html);
    } else {
        item.insert_str(end, &html.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"));
    }
}
