//! Indicators in real lists and reports: what is found in them, counted by kind; and what hostile ones cost.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base::config;
use expect_test::{Expect, expect};
use flate2::read::GzDecoder;
use indicator::warninglist::{self, Warninglists};
use indicator::{Indicator, IndicatorKind, extract, parse, refang};
use jiff::Timestamp;
use serde_json::Value;
use signature_base::indicator::Indicators;
use signature_base::iocs::{self, Layout};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("finds_the_indicators_of_published_reports", finds_the_indicators_of_published_reports),
    ("types_the_words_of_published_lists", types_the_words_of_published_lists),
    ("refangs_published_reports_once", refangs_published_reports_once),
    ("readers_are_linear_and_bounded", readers_are_linear_and_bounded),
    ("the_set_compiled_in_is_that_of_its_sources", the_set_compiled_in_is_that_of_its_sources),
];

/// The folder of the sources of the set of warninglists that is compiled in, where `MINERVA_CORPUS` has it.
fn warninglists() -> Option<PathBuf> {
    let folder = PathBuf::from(config::variable("MINERVA_CORPUS")?).join("misp-warninglists/lists");
    folder.is_dir().then_some(folder)
}

/// Why there are no sources here, if there are none.
pub(crate) fn no_warninglists() -> Option<String> {
    let reason = "MINERVA_CORPUS names no folder that holds `misp-warninglists`";
    warninglists().is_none().then(|| reason.to_owned())
}

/// Each list of the corpus is compiled in, entry by entry.
fn the_set_compiled_in_is_that_of_its_sources() {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/indicator/data/warninglists.jsonl.gz");
    let packed = fs::File::open(packed).expect("the set is there");
    let set = std::io::read_to_string(GzDecoder::new(packed)).expect("it is a gzip file");
    let set: BTreeMap<String, Value> = set
        .lines()
        .map(|line| serde_json::from_str(line).expect("a list a line"))
        .map(|list: Value| (list["name"].as_str().expect("a name").to_owned(), list))
        .collect();
    let folder = warninglists().expect("it is skipped where there is none");
    let mut compared = 0;
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path().join("list.json");
        let text = fs::read_to_string(&path).expect("a list");
        let mut list: Value = serde_json::from_str(&text).expect("it is JSON");
        list.as_object_mut().expect("an object").remove("description");
        let name = list["name"].as_str().expect("a name");
        assert_eq!(set.get(name), Some(&list), "{}", path.display());
        compared += 1;
    }
    assert!(compared >= 16, "{compared}");
}

/// Snapshot of the article policy: `SolarStorm` lists plain names, which an article does not mean as indicators, and
/// `diamondfox` is longer than the limit.
pub(crate) fn finds_the_indicators_of_published_reports() {
    let mut summary = String::new();
    for (name, text) in reports() {
        let found = extract(&text);
        for indicator in &found.indicators {
            assert!(
                text.contains(&indicator.raw),
                "{name}: `raw` of {indicator:?} is not in the text"
            );
            assert_stays(indicator);
        }
        summary += &line(&name, &found.indicators);
        summary += if found.cut { " (cut)\n" } else { "\n" };
    }
    check(
        &summary,
        &expect![[r#"
            Conti_IOCs.txt: ipv4 7, domain 3, sha256 44
            Egregor__EgregorIOCs: sha256 44
            IOCs_MaliciousJS.txt: domain 2, hostname 46, sha256 8
            Phobos_IOCs.text: sha256 50
            SolarStorm__IOCs: sha256 11
            TA551__2020-07-06-TA551-IOCs-for-Valak-with-IcedID.txt: ipv4 6, domain 6, sha256 46
            TA551__2020-07-07-TA551-IOCs-for-Ursnif-with-IcedID.txt: ipv4 8, domain 10, url 1, sha256 104
            diamondfox__diamondfox_panels.txt: url 512, md5 1, sha256 487 (cut)
        "#]],
    );
}

/// Snapshot of typing each cell of a list, where plain names count: every word of the file that has a kind.
pub(crate) fn types_the_words_of_published_lists() {
    let mut summary = String::new();
    for (name, text) in reports() {
        let mut found: Vec<Indicator> = Vec::new();
        for word in text
            .split(|letter: char| letter.is_whitespace() || matches!(letter, ',' | '<' | '>' | ';'))
        {
            let Ok(indicator) = parse(None, word) else { continue };
            assert_stays(&indicator);
            if !found
                .iter()
                .any(|known| (known.kind, &known.value) == (indicator.kind, &indicator.value))
            {
                found.push(indicator);
            }
        }
        summary += &line(&name, &found);
        summary.push('\n');
    }
    check(
        &summary,
        &expect![[r#"
            Conti_IOCs.txt: ipv4 7, domain 3, sha256 44
            Egregor__EgregorIOCs: sha256 44
            IOCs_MaliciousJS.txt: domain 2, hostname 46, sha256 8
            Phobos_IOCs.text: sha256 50
            SolarStorm__IOCs: domain 19, sha256 11
            TA551__2020-07-06-TA551-IOCs-for-Valak-with-IcedID.txt: ipv4 6, domain 6, sha256 46, filename 16
            TA551__2020-07-07-TA551-IOCs-for-Ursnif-with-IcedID.txt: ipv4 8, domain 10, url 1, sha256 104, filename 37
            diamondfox__diamondfox_panels.txt: url 889, sha256 842
        "#]],
    );
}

/// Whatever stands in a report, refanging it again changes nothing.
pub(crate) fn refangs_published_reports_once() {
    for (name, text) in reports() {
        let once = refang(&text);
        assert_eq!(refang(&once), once, "{name}");
        assert!(!once.contains("[.]") && !once.contains("hxxp"), "{name}");
    }
}

fn line(name: &str, indicators: &[Indicator]) -> String {
    let mut counts: BTreeMap<IndicatorKind, usize> = BTreeMap::new();
    for indicator in indicators {
        *counts.entry(indicator.kind).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    format!("{name}: {}", counts.join(", "))
}

#[track_caller]
fn assert_stays(indicator: &Indicator) {
    let again = parse(Some(indicator.kind), &indicator.value).expect("a normal form can be read");
    assert_eq!((again.kind, &again.value), (indicator.kind, &indicator.value));
}

#[track_caller]
fn check(actual: &str, expected: &Expect) {
    expected.assert_eq(actual);
}

/// Name and text of each report, sorted by name.
fn reports() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/indicator/unit42");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("a readable entry").path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name != "LICENSE"))
        .map(|path| {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            (name, fs::read_to_string(&path).expect("a readable fixture"))
        })
        .collect()
}

/// A reader, and how to write an input of about so many bytes that is hard on it.
struct Construct {
    reader: Reader,
    name: &'static str,
    input: fn(usize) -> Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Extract,
    Refang,
    Iocs(Layout),
    /// The input is the entries of a warninglist of this form, one a line.
    List(&'static str),
    /// The input is values of 16 KiB, which are held against lists.
    Asked,
}

/// Repeats a text to that length; `#` in it is a number that counts up.
macro_rules! repeated {
    ($($reader:expr => [$($text:literal),* $(,)?]),* $(,)?) => {
        [$($(Construct { reader: $reader, name: $text, input: |bytes| numbered($text, bytes) }),*),*]
    };
}

const LISTED: &[Construct] = &repeated! {
    Reader::Extract => [
        "[.]", "1.", "a", "0f", ":", "::", "[", "hxxp://", "1.1.1.1/", "(dot)", "a[.]", "\u{e9}[.]", "2001:", "cve-", "cve ",
        " [dot] ", " [.] ", "\\", "[[[.", ".]]]", ".)", "1((.", "@[.]a.com", "a[.]b@", "a[.]com@", "a+", "*", "*[.]a.com",
        "\u{2026}[.]", "a\u{200b}", "\u{200b}", "\u{ff45}", "a\u{ff0e}", "a\u{3002}", "1\u{3002}", "\u{ff08}", "\u{ff08}.\u{ff09}", "&#46;",
        "&amp;", "&", "%", "%5B", "%5B.%5D", "hxxp%3A%2F%2F", "hxxp%3A%2F%2Fa#.com ", "://", "ldap://", "a://[.]", "<at>a[.]com",
        "\\na[.]com", "e\u{301}[.]", "a#[.]com ", "a#[.]com\n", "a#[.]com,", "a#[.]zip ", "a#[.]b@c#[.]com ", "hxxp://a#.com/\u{e9} ",
        "hxxp://a#[.]com/b;", "hxxp://a.com:#/", "ldap://a#[.]com/x ", "a[.]com/# ", "45.9.#.3 ", "5.11.7.14 ", "5.11.7.14\n",
        "5.11.7.14, ", "8.8.8.8 and ", "version 1.2.3.4 ", "the server at 5.1.2.3 ", "1[.]2[.]3[.]4[:]# ", "2001:db8::# ",
        "2001[:]db8::# ", "[2001[:]db8::#]:1 ", "CVE-2024-1# ", "CVE 2024 ", "d41d8cd98f00b204e9800998e# ",
        "d41d8cd98f00b204e9800998ecf8427e-", "\u{4f7f}\u{7528}a#[.]com",
    ],
    Reader::Refang => [
        "[.]", "[", "]", "[[.", ".]", "[ dot ] ", "hxxp://", "h[tt]p", "\\.", "a\u{200b}", "&#46;", "%5B.%5D", "\u{ff0e}", "1((.",
        "a[.[.", "://", "[http://]", "a [.] b",
    ],
    Reader::Iocs(Layout::C2) => [
        "a#.com\n", "# word #\na#.com\n", "# word #\n", "#\n", "?\n", "?", "a#.com;#\n", "http://a.com/\u{e9}\u{e9}\u{e9}#\n", "same.com\n",
        "# http://a.com/#\nsame.com\n", "\u{fc}#.de\n", "\r", "))))", "((((\n", "a#.zip\n", "\"\n", "a.com\n\n",
    ],
    Reader::Iocs(Layout::Hash) => [
        "d41d8cd98f00b204e9800998#;\"\"\"\"\n", "d41d8cd98f00b204e9800998ecf8427e;comment #\n",
        "d41d8cd98f00b204e9800998ecf8427e;https://a.com/# https://b.com/#\n", ";", ";;\n", "# a;b;#\n",
    ],
    Reader::List("hostname") => ["a#.com\n", "a\n", "\n", "#.#.#.#.#.a\n", ".\n", "\u{fc}#.de\n", "a ", "same.com\n"],
    Reader::List("string") => ["a#\n", ":\n", "http://a#.com/\u{e9}\n", "2001:db8::#\n", "\u{e9}#\n", ".a#.com\n", "[.]#\n"],
    Reader::List("cidr") => ["10.#.0.0/16\n", "2001:db8::/32\n", "10.0.0.1\n", "10.0.0.0/8\n", "10.0.0.1\n10.0.0.3\n", "/\n"],
    Reader::List("substring") => ["a#b\n", "a\n", "ab#\n", "\u{e9}#\n"],
    Reader::List("regex") => ["/^a#\\.com$/i\n", "/(/\n", "a{#}\n", "/(?:a{100}){100}/\n", "(((((\n"],
    Reader::Asked => ["a.", "a", "0", "a@a.", "/", "://", "1.1.1.1", "[", "\u{e9}", "aaaaaaab", "."],
    Reader::Iocs(Layout::Filename) => [
        "\\\\svch#\\.exe;70;\\x\n", ";", "a;", "a;#;", "# a;70;#\n", "a#;70\n", "\u{1}#\n",
    ],
};

/// Inputs in which something stands once before or after what repeats.
const BUILT: &[Construct] = &[
    Construct {
        reader: Reader::Iocs(Layout::C2),
        name: "a megabyte of comment over indicators",
        input: |bytes| {
            let (comment, lines) =
                (numbered("# word #\n", bytes * 9 / 10), numbered("a#.com\n", bytes / 10));
            [comment, lines].concat()
        },
    },
    Construct {
        reader: Reader::Iocs(Layout::C2),
        name: "one long comment line over indicators",
        input: |bytes| {
            let comment = [b"# ".to_vec(), vec![b'"'; bytes / 2], b"\n".to_vec()].concat();
            [comment, numbered("a#.com\n", bytes / 2)].concat()
        },
    },
    Construct {
        reader: Reader::Iocs(Layout::C2),
        name: "a comment of the longest kind over ever so many indicators",
        input: |bytes| {
            let block =
                [b"# ".to_vec(), vec![b'x'; 4_000], b"\n".to_vec(), numbered("a#.com\n", 40_000)]
                    .concat();
            block.iter().copied().cycle().take(bytes).collect()
        },
    },
    Construct {
        reader: Reader::Iocs(Layout::Hash),
        name: "comments that are Latin-1",
        input: |bytes| {
            let line =
                [b"d41d8cd98f00b204e9800998ecf8427e;".to_vec(), vec![0xe9; 900], b"\n".to_vec()]
                    .concat();
            line.iter().copied().cycle().take(bytes).collect()
        },
    },
    Construct {
        reader: Reader::Iocs(Layout::Filename),
        name: "patterns of control letters",
        input: |bytes| numbered("\u{1}\u{2}\u{3}\u{4}#;70;\u{5}\u{6}\n", bytes),
    },
    Construct {
        reader: Reader::Extract,
        name: "one hidden letter at the end",
        input: |bytes| [numbered("a#[.]com 45.9.148.# ", bytes), "a\u{200b}b".into()].concat(),
    },
];

fn numbered(text: &str, bytes: usize) -> Vec<u8> {
    let mut made = String::with_capacity(bytes + text.len() + 8);
    let mut number = 1_000_000_u32;
    while made.len() < bytes {
        // A `#` at a line's start is one.
        let shown = number.to_string();
        let mut last = '\n';
        for letter in text.chars() {
            if letter == '#' && last != '\n' {
                made.push_str(&shown);
            } else {
                made.push(letter);
            }
            last = letter;
        }
        number += 1;
    }
    made.into_bytes()
}

/// What a reader gave, in bytes, and of how many documents with how many lines, where it makes documents.
#[derive(Default)]
struct Output {
    bytes: usize,
    documents: usize,
    lines: usize,
}

impl Construct {
    fn all() -> impl Iterator<Item = &'static Self> {
        LISTED.iter().chain(BUILT)
    }

    fn run(&self, input: &[u8]) -> Output {
        match self.reader {
            Reader::Extract => {
                let found = extract(std::str::from_utf8(input).expect("it is text"));
                let of = |indicator: &Indicator| indicator.value.len() + indicator.raw.len();
                let bytes = found.indicators.iter().map(of).sum::<usize>()
                    + found.cves.iter().map(String::len).sum::<usize>();
                Output { bytes, ..Output::default() }
            }
            Reader::Refang => {
                let text = std::str::from_utf8(input).expect("it is text");
                Output { bytes: refang(text).len(), ..Output::default() }
            }
            Reader::List(form) => {
                let text = std::str::from_utf8(input).expect("it is text");
                let mut json = format!(
                    r#"{{"name":"a","type":"{form}","matching_attributes":["domain","ip-src","url"],"list":["""#
                );
                for line in text.lines() {
                    json.push(',');
                    json.push_str(&serde_json::to_string(line).expect("it is text"));
                }
                json.push_str("]}");
                let mut reader = warninglist::Reader::default();
                reader.add("a", json.as_bytes());
                let read = reader.finish();
                let bytes = read.rejects.iter().map(String::len).sum();
                Output { bytes, ..Output::default() }
            }
            Reader::Asked => {
                let lists = hard_lists();
                let text = std::str::from_utf8(input).expect("it is text");
                let mut hits = 0;
                for value in text.as_bytes().chunks(16 << 10) {
                    let value = String::from_utf8_lossy(value);
                    for kind in [IndicatorKind::Url, IndicatorKind::Hostname, IndicatorKind::Email]
                    {
                        hits += lists.hits(kind, &value).len();
                    }
                }
                Output { bytes: hits, ..Output::default() }
            }
            Reader::Iocs(layout) => {
                let mut indicators = Indicators::default();
                let file: Arc<str> = Arc::from("iocs/file.txt");
                let parsed = iocs::parse(layout, input);
                let lines = parsed.lines.len();
                parsed.lines.into_iter().for_each(|line| indicators.add(&file, layout, line));
                let rejects: usize = parsed.rejects.iter().map(String::len).sum();
                let documents =
                    indicators.writes(Some("v"), 75, Timestamp::UNIX_EPOCH, |_| Vec::new());
                let json = documents.map(|(_, write)| serde_json::to_vec(&write.parts[0].fields));
                let bytes: usize = json.map(|json| json.expect("it is JSON").len()).sum();
                Output { bytes: bytes + rejects, documents: indicators.len(), lines }
            }
        }
    }
}

/// Lists that are hard to ask: all of whose texts begin alike, and patterns that could be read in many ways.
fn hard_lists() -> Warninglists {
    let alike: Vec<String> = (1..=400).map(|length| format!("{}b", "a".repeat(length))).collect();
    let names: Vec<String> =
        (1..=400).map(|length| format!("{}com", "a.".repeat(length))).collect();
    let patterns: Vec<String> =
        (10..40).map(|times| format!("/^(a?){{{times}}}a{{{times}}}(a|aa)+$/i")).collect();
    let mut reader = warninglist::Reader::default();
    for (form, list) in [("substring", alike), ("hostname", names), ("regex", patterns)] {
        let json = serde_json::json!({
            "list": list, "matching_attributes": ["url", "domain", "email-src"], "name": form, "type": form,
        });
        reader.add(form, json.to_string().as_bytes());
    }
    let read = reader.finish();
    assert_eq!(read.rejects, Vec::<String>::new());
    read.lists
}

/// What a document says in any case, and for each line that it names.
const DOCUMENT_BYTES: usize = 1_400;
const LINE_BYTES: usize = 110;

const COSTS: &str = "costs-of-reading";

/// Makes the allocator give back at once what is freed. It keeps that for a second otherwise, and a peak then says what was held
/// lately instead of what is held at once.
pub(crate) const PURGE_DELAY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "0");

/// What a construct costs at some length.
struct Cost {
    input: usize,
    output: Output,
    peak_kb: usize,
    /// Processor time.
    ns: u64,
}

/// Each construct in a process of its own, whose peak the kernel knows, at 0.5 and 2 MB.
pub(crate) fn readers_are_linear_and_bounded() {
    let all: Vec<&Construct> = Construct::all().collect();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(construct) = all.get(place) else { return };
            if let Some(reason) = excess(place) {
                wrong
                    .lock()
                    .expect("nobody panics")
                    .push(format!("{:?}: {reason}", construct.name));
            }
        }
    };
    std::thread::scope(|scope| {
        let workers = [(); 2].map(|()| scope.spawn(work));
        workers.into_iter().for_each(|worker| worker.join().expect("it ends"));
    });
    let wrong = wrong.into_inner().expect("nobody panics");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is wrong with the costs of a construct, if anything is.
fn excess(place: usize) -> Option<String> {
    const BYTES: usize = 500_000;
    /// Linear is 4, quadratic 16.
    const FACTOR: u64 = 8;
    /// A time below this is not told from none: 4 ms.
    const LEAST_NS: u64 = 4_000_000;
    const MORE_KB: usize = 32 << 10;
    const TRIES: usize = 3;
    let (mut once, mut four_times) = (u64::MAX, u64::MAX);
    for _ in 0..TRIES {
        let Cost { input, output, peak_kb, ns } = cost(place, 4 * BYTES);
        let Output { bytes, documents, lines } = output;
        let bytes_max = 4 * input + DOCUMENT_BYTES * documents + LINE_BYTES * lines;
        let peak_max = 8 * input / 1024 + MORE_KB;
        if bytes > bytes_max || peak_kb > peak_max {
            return Some(format!(
                "{bytes} of {bytes_max} bytes ({documents} documents), {peak_kb} of {peak_max} KiB"
            ));
        }
        four_times = four_times.min(ns);
        once = once.min(cost(place, BYTES).ns.max(LEAST_NS));
        if four_times <= FACTOR * once {
            return None;
        }
    }
    Some(format!("{once} ns, then {four_times} ns"))
}

fn cost(place: usize, bytes: usize) -> Cost {
    let output = Command::new(std::env::current_exe().expect("it is known"))
        .args([COSTS, &place.to_string(), &bytes.to_string()])
        .env(PURGE_DELAY.0, PURGE_DELAY.1)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{place}: {output:?}");
    let said = String::from_utf8(output.stdout).expect("it is text");
    let numbers: Vec<usize> =
        said.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    let [input, bytes, documents, lines, peak_kb, ns] = numbers[..] else { panic!("{said}") };
    Cost { input, output: Output { bytes, documents, lines }, peak_kb, ns: ns as u64 }
}

/// Be the process that reads, if the arguments say so: `costs-of-reading PLACE BYTES`.
#[expect(clippy::print_stdout, reason = "it is how a process answers")]
pub(crate) fn reading() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, word, place, bytes] = arguments.as_slice() else { return None };
    if word != COSTS {
        return None;
    }
    let construct = Construct::all().nth(place.parse().ok()?)?;
    let input = (construct.input)(bytes.parse().ok()?);
    // Forgets the peak so far; the input stands in memory and counts.
    fs::write("/proc/self/clear_refs", "5").ok()?;
    let resident = kb_of("VmRSS:")? - input.len() / 1024;
    let before = thread_ns()?;
    let Output { bytes, documents, lines } = construct.run(&input);
    let ns = thread_ns()? - before;
    let peak = kb_of("VmHWM:")?.saturating_sub(resident);
    println!("{} {bytes} {documents} {lines} {peak} {ns}", input.len());
    Some(ExitCode::SUCCESS)
}

/// Processor time of this thread, so that a busy machine does not count.
fn thread_ns() -> Option<u64> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split(' ').next()?.parse().ok()
}

fn kb_of(field: &str) -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(field))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}
