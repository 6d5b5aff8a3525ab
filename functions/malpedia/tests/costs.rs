//! What a hostile text may cost: for each construct of the bibliography, of families, actors and references, time that grows with
//! the text, memory in proportion to it, and documents that are no multiple of it.
//!
//! Each measurement is a process of its own, since the peak of memory is one of a process. `cargo test -p malpedia --test costs`
//! runs all; with the name of a construct behind `--`, that one.

#![expect(clippy::print_stdout, reason = "a test without a harness speaks for itself")]

use std::process::{Command, ExitCode};
use std::time::Duration;

use jiff::Timestamp;
use malpedia::library::{Stored, parse};
use malpedia::links::Links;
use malpedia::wire;
use serde_json::{Map, Value};
use url::Url;

/// The smaller text; the larger has four times as many bytes.
const SMALL: usize = 512 << 10;
const LARGE: usize = 4 * SMALL;

/// Time of the larger over that of the smaller at the most: 4 is linear, 16 quadratic.
const TIME_RATIO_MAX: f64 = 8.0;

/// Below this a ratio says more of the machine than of the parser.
const TIME_MIN: Duration = Duration::from_millis(40);

/// Memory above that of the text and the process: so many times the text, and so much more.
const MEMORY_RATIO_MAX: usize = 8;
const MEMORY_BASE: usize = 32 << 20;

/// Bytes of documents: so many times the text, and for each what all documents have.
const DOCUMENTS_RATIO_MAX: usize = 4;
const DOCUMENT_BASE: usize = 2_048;

/// What reads a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parser {
    Bibliography,
    Families,
    Actors,
    References,
}

/// A construct: its name, its parser, what stands before and behind, and the pieces that are repeated, `§` being a
/// number.
struct Construct(&'static str, Parser, &'static str, &'static [&'static str], &'static str);

use Parser::{Actors, Bibliography, Families, References};

#[rustfmt::skip]
const CONSTRUCTS: &[Construct] = &[
    Construct("bib entries", Bibliography, "", &["@a{b§}\n"], ""),
    Construct("bib entries of a library", Bibliography, "", &["@online{k§, author = {Jan §}, title = {{T §}}, date = {2019-08-06}, url = {https://e.org/§}}\n"], ""),
    Construct("bib one address", Bibliography, "", &["@a{k§,url={https://e.org/a}}\n"], ""),
    Construct("bib one key", Bibliography, "", &["@a{k,url={https://e.org/§}}\n"], ""),
    Construct("bib nested braces", Bibliography, "@a{k,title=", &["{"], ""),
    Construct("bib nested and closed", Bibliography, "@a{k,title={", &["{{", "}}"], "}}"),
    Construct("bib braces of entries", Bibliography, "", &["@a{k§,title={{{{{{{{x}}}}}}}}}\n"], ""),
    Construct("bib authors", Bibliography, "@a{k,author={", &["A§ and "], "B}}"),
    Construct("bib one author", Bibliography, "@a{k,author={", &["A and "], "B}}"),
    Construct("bib words and", Bibliography, "@a{k,author={", &["and "], "}}"),
    Construct("bib joined", Bibliography, "@a{k,title=", &["{x}#"], "{y}}"),
    Construct("bib joined empty", Bibliography, "@a{k,title=", &["{}#"], "{y}}"),
    Construct("bib macros", Bibliography, "", &["@string{a§={x}}\n"], ""),
    Construct("bib doubling macros", Bibliography, "@string{a={lol}}", &["@string{a=a#a}@b{k§,title=a,note=a,author=a}"], ""),
    Construct("bib uses of a macro", Bibliography, "@string{a={0123456789012345678901234567890123456789012345678901234567890123456789}}", &["@b{§,title=a}"], ""),
    Construct("bib fields", Bibliography, "@a{k", &[",f§=1"], "}"),
    Construct("bib one field", Bibliography, "@a{k", &[",a=1"], "}"),
    Construct("bib unclosed entries", Bibliography, "", &["\n@a{b,c={"], ""),
    Construct("bib unclosed on a line", Bibliography, "", &["@a{b,c={"], ""),
    Construct("bib unclosed quotes", Bibliography, "", &["\n@a{b,c=\""], ""),
    Construct("bib entries within values", Bibliography, "", &["@a{b§,t={\n@c{d}\n},u={v}}\n"], ""),
    Construct("bib nested entries within values", Bibliography, "", &["\n@a{b,t={", "\n@c{d}", "}, x\n"], ""),
    Construct("bib unclosed comments", Bibliography, "", &["\n@comment{"], ""),
    Construct("bib comments", Bibliography, "", &["@comment{x}"], ""),
    Construct("bib at signs", Bibliography, "", &["@"], ""),
    Construct("bib blanks", Bibliography, "@a{k,", &[" \n\t"], "}"),
    Construct("bib lines", Bibliography, "", &["\n@(\n"], ""),
    Construct("bib commas", Bibliography, "@a{k", &[","], "}"),
    Construct("bib a key", Bibliography, "@a{", &["k"], ",title={x}}"),
    Construct("bib a kind", Bibliography, "@", &["k"], "{a,title={x}}"),
    Construct("bib accents", Bibliography, "@a{k,title={", &["{\\\"u}", "{\\v{s}}", "{\\ss"], "}}}}"),
    Construct("bib dollars", Bibliography, "@a{k,title={", &["${"], ""),
    Construct("bib a month", Bibliography, "@a{k,year=2020,month={", &["1-"], "jan}}"),
    Construct("bib a year", Bibliography, "@a{k,month=jan,year={", &["x1"], "}}"),
    Construct("bib an address", Bibliography, "@a{k,url={https://e.org/?", &["a&"], "}}"),
    Construct("bib addresses", Bibliography, "", &["@a{k§,url={https://e.org/§?a&b&utm_c&d&e#f}}\n"], ""),
    Construct("bib preambles", Bibliography, "", &["@preamble{\"x\"#a#{y}}"], ""),
    Construct("bib mixed", Bibliography, "", &["@a{k§,", "t={", "}", "\"", "\n@b{", "# a ", "=", "and ", "\\", "@string{a=a#a}", ","], ""),
    Construct("families", Families, "{", &["\"win.f§\":{},"], "\"win.last\":{}}"),
    Construct("families with names", Families, "{", &["\"win.f§\":{\"common_name\":\"F §\",\"alt_names\":[\"A §\",\"B\"],\"description\":\"d\"},"], "\"win.last\":{}}"),
    Construct("families alike", Families, "{", &["\"win.f\":{},"], "\"win.last\":{}}"),
    Construct("families no objects", Families, "{", &["\"f§\":7,"], "\"win.last\":{}}"),
    Construct("family alt_names", Families, "{\"win.f\":{\"alt_names\":[", &["\"n§\","], "\"z\"]}}"),
    Construct("family alt_names alike", Families, "{\"win.f\":{\"alt_names\":[", &["\"n\","], "\"z\"]}}"),
    Construct("family names with commas", Families, "{\"win.f\":{\"alt_names\":\"", &["n§,"], "\"}}"),
    Construct("family long name", Families, "{\"win.f\":{\"name\":\"", &["n"], "\"}}"),
    Construct("family description", Families, "{\"win.f\":{\"description\":\"", &["d"], "\"}}"),
    Construct("family escapes", Families, "{\"win.f\":{\"description\":\"", &["\\n"], "\"}}"),
    Construct("family surrogates", Families, "{", &["\"win.f§\":{\"d\":\"\\ud800\"},"], "\"z\":{}}"),
    Construct("family references", Families, "{\"win.f\":{\"urls\":[", &["\"https://e.org/§\","], "\"z\"]}}"),
    Construct("family rules", Families, "{\"win.f\":{\"yara_rules\":[", &["\"a\","], "\"z\"]}}"),
    Construct("family rules of a file", Families, "{\"win.f\":{\"yara_rules\":{\"tlp_a_name_that_is_long_enough_to_be_repeated\":{\"another_such_name\":[", &["\"a\","], "\"z\"]}}}}"),
    Construct("families with many rules", Families, "{", &["\"win.f§\":{\"yara_rules\":{\"tlp_white\":{\"a.yar\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"]}}},"], "\"z\":{}}"),
    Construct("family deep", Families, "{\"win.f\":{\"x\":", &["["], ""),
    Construct("family deep and closed", Families, "{\"win.f\":{\"x\":", &["[[", "{\"a\":"], "}}"),
    Construct("family unknown keys", Families, "{\"win.f\":{", &["\"k§\":1,"], "\"z\":1}}"),
    Construct("family a number", Families, "{\"win.f\":{\"x\":", &["1"], "}}"),
    Construct("family a fraction", Families, "{\"win.f\":{\"x\":0.", &["1"], "}}"),
    Construct("family blanks", Families, "{", &[" \n"], "\"win.f\":{}}"),
    Construct("family an open string", Families, "{\"f", &["\\\\"], ""),
    Construct("families small lists", Families, "{", &["\"win.f§\":[1,1,1,1,1,1,1,1],"], "\"z\":{}}"),
    Construct("actors", Actors, "{", &["\"a§\":{\"value\":\"A §\"},"], "\"z\":{}}"),
    Construct("actor families", Actors, "{\"a\":{\"value\":\"A\",\"families\":{", &["\"f§\":{},"], "\"z\":{}}}}"),
    Construct("actor synonyms", Actors, "{\"a\":{\"value\":\"A\",\"meta\":{\"synonyms\":[", &["\"s§\","], "\"z\"]}}}"),
    Construct("actor countries", Actors, "{\"a\":{\"value\":\"A\",\"country\":[", &["\"Iran\","], "\"z\"]}}"),
    Construct("actor country", Actors, "{\"a\":{\"value\":\"A\",\"country\":\"", &["Iran,"], "\"}}"),
    Construct("actor extra", Actors, "{\"a\":{\"value\":\"A\",\"related\":[", &["{\"a\":\"§\"},"], "1]}}"),
    Construct("references", References, "{", &["\"https://e.org/§\":[{\"type\":\"family\",\"id\":\"f§\"}],"], "\"z\":[]}"),
    Construct("references of one family", References, "{", &["\"a§\":[{\"type\":\"actor\",\"id\":\"f\"}],"], "\"z\":[]}"),
    Construct("references of one address", References, "{", &["\"a\":[{\"type\":\"actor\",\"id\":\"f§\"}],"], "\"z\":[]}"),
    Construct("references many subjects", References, "{\"a\":[", &["{\"type\":\"actor\",\"id\":\"f§\"},"], "1]}"),
    Construct("references empty", References, "{", &["\"a§\":[],"], "\"z\":[]}"),
    Construct("references deep", References, "{\"a\":", &["["], ""),
];

impl Construct {
    fn text(&self, bytes: usize) -> String {
        let Self(_, _, before, pieces, behind) = self;
        let mut text = String::with_capacity(bytes + 256);
        text.push_str(before);
        let (mut random, mut number) = (1_u64, 0_usize);
        // In whole turns where they come in order: a text that ends elsewhere may cost twice as much, as its entries close.
        let is_amid = |number: usize| pieces.len() <= 3 && !number.is_multiple_of(pieces.len());
        while text.len() + behind.len() < bytes || is_amid(number) {
            // One after the other where there are few; of many, any.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let place = if pieces.len() > 3 { (random >> 33) as usize } else { number };
            let mut parts = pieces[place % pieces.len()].split('§');
            text.push_str(parts.next().unwrap_or_default());
            for part in parts {
                text.push_str(&number.to_string());
                text.push_str(part);
            }
            number += 1;
        }
        text.push_str(behind);
        text
    }

    /// Reads a text; gives how many documents that makes, and their bytes.
    fn read(&self, text: &str) -> (usize, usize) {
        let (mut documents, mut bytes) = (0, 0);
        let mut count = |fields: &Map<String, Value>| {
            documents += 1;
            let lengths = fields.iter().map(|(name, value)| name.len() + length(value));
            bytes += lengths.sum::<usize>();
        };
        match self.1 {
            Bibliography => {
                let base = Url::parse("https://malpedia.example").expect("a URL");
                let stored = Stored::default();
                parse(
                    text,
                    &base,
                    None,
                    &stored,
                    Timestamp::UNIX_EPOCH,
                    || false,
                    |batch| {
                        for write in &batch.writes {
                            count(&write.parts[0].fields);
                        }
                        true
                    },
                );
            }
            Families | Actors => {
                let read = if self.1 == Families { wire::family } else { wire::actor };
                wire::read_all(
                    read,
                    text.as_bytes(),
                    || false,
                    |batch| {
                        for (_, record) in batch.into_iter().flatten() {
                            if let Ok(record) = record {
                                count(&record.fields);
                            }
                        }
                        true
                    },
                );
            }
            References => {
                if let Ok(links) = Links::read(text.as_bytes()) {
                    count(&links.fields(Some("a"), &[]));
                }
            }
        }
        (documents, bytes)
    }
}

/// About the bytes of a value as JSON, without building them.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 3,
        Value::Array(items) => items.iter().map(length).sum::<usize>() + 2,
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + 4 + length(value)).sum::<usize>() + 2
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 5,
    }
}

/// What one reading of a text cost.
struct Cost {
    time: Duration,
    memory: usize,
    documents: usize,
    bytes: usize,
}

/// Memory of this process in bytes, by the kernel's word: `VmRSS` now, `VmHWM` at its peak.
fn memory(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kb.unwrap_or_default() << 10
}

/// Processor time of this thread, so that a busy machine does not count.
fn processor_micros() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok());
    nanos.unwrap_or_default() / 1_000
}

/// In a process of its own: the time, the peak above what the text took, and what was made.
fn measure(construct: &Construct, bytes: usize) {
    let text = construct.text(bytes);
    let before = memory("VmRSS");
    let began = processor_micros();
    let (documents, bytes) = construct.read(&text);
    let took = processor_micros() - began;
    let peak = memory("VmHWM").saturating_sub(before);
    println!("{took} {peak} {documents} {bytes}");
}

fn cost_of(construct: &Construct, bytes: usize) -> Cost {
    let this = std::env::current_exe().expect("this program has a path");
    let output = Command::new(this)
        .args(["--measure", construct.0, &bytes.to_string()])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [time, memory, documents, bytes] = numbers[..] else {
        panic!(
            "{}: {} {said} {}",
            construct.0,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let [memory, documents, bytes] = [memory, documents, bytes].map(|number| number as usize);
    Cost { time: Duration::from_micros(time), memory, documents, bytes }
}

/// What is too much of a construct.
fn faults(small: &Cost, large: &Cost) -> Vec<String> {
    let mut faults = Vec::new();
    let ratio = large.time.as_secs_f64() / small.time.max(TIME_MIN).as_secs_f64();
    if ratio > TIME_RATIO_MAX {
        faults.push(format!("four times the text takes {ratio:.1} times as long"));
    }
    for (cost, bytes) in [(small, SMALL), (large, LARGE)] {
        if cost.memory > MEMORY_RATIO_MAX * bytes + MEMORY_BASE {
            faults.push(format!("{} KiB of text take {} MiB", bytes >> 10, cost.memory >> 20));
        }
        if cost.bytes > DOCUMENTS_RATIO_MAX * bytes + DOCUMENT_BASE * cost.documents {
            faults.push(format!(
                "{} KiB of text make {} documents of {} MiB",
                bytes >> 10,
                cost.documents,
                cost.bytes >> 20
            ));
        }
    }
    faults
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let named = |name: &str| CONSTRUCTS.iter().find(|construct| construct.0 == name);
    if let [flag, name, bytes] = &words[..]
        && flag == "--measure"
    {
        let construct = named(name).expect("a construct of this name");
        measure(construct, bytes.parse().expect("a number of bytes"));
        return ExitCode::SUCCESS;
    }
    let filter = words.iter().find(|word| !word.starts_with('-'));
    let is_wanted =
        |construct: &&Construct| filter.is_none_or(|filter| construct.0.contains(filter));
    let mut failed = 0;
    for construct in CONSTRUCTS.iter().filter(is_wanted) {
        let (mut small, mut large) = (cost_of(construct, SMALL), cost_of(construct, LARGE));
        // A busy machine may be slow at either: the best of three counts.
        for _ in 1..3 {
            if faults(&small, &large).is_empty() {
                break;
            }
            small.time = small.time.min(cost_of(construct, SMALL).time);
            large.time = large.time.min(cost_of(construct, LARGE).time);
        }
        let faults = faults(&small, &large);
        println!(
            "{:36} {:6} ms {:7} ms {:5} MiB {:7} documents {:5} MiB  {}",
            construct.0,
            small.time.as_millis(),
            large.time.as_millis(),
            large.memory >> 20,
            large.documents,
            large.bytes >> 20,
            if faults.is_empty() { "ok".to_owned() } else { faults.join("; ") }
        );
        failed += usize::from(!faults.is_empty());
    }
    if failed > 0 {
        println!("{failed} constructs cost too much");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
