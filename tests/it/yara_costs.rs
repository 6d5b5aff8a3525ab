//! What hostile files of rules cost: time, memory and the size of documents, for each construct that a file can hold.
//!
//! Each construct is made at two sizes and read in a process of its own, which tells what it took: a reader that is linear
//! takes four times as long for four times as much, a quadratic one sixteen times.

use std::process::{Command, ExitCode};
use std::time::Duration;

use base::config::variable;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use yara::document::{self, RuleContext};
use yara::store::SourceClaims;
use yara::{KnownRules, RULE_TOKENS_MAX, split};

use crate::indicator::PURGE_DELAY;

pub(crate) const TRIALS: &[crate::Case] = &[(
    "a_hostile_file_of_rules_costs_no_more_than_its_size",
    a_hostile_file_costs_no_more_than_its_size,
)];

/// Bytes of the smaller input, unless `MINERVA_COST_BYTES` says another number; the larger one has four times as many.
const SMALL: usize = 64 << 10;
/// How much longer four times as much may take.
const TIMES: u32 = 8;
/// What is so short that a ratio says nothing.
const SHORT: Duration = Duration::from_millis(150);
/// What a document holds whatever its rule: ids, names of fields, the source.
const FIXED_BYTES: usize = 1_024;
const PEAK_BYTES: usize = 32 << 20;

/// What tells a process of this program to read one construct: its place in the list, and a size.
const VARIABLE: &str = "MINERVA_TEST_YARA_COST";

/// What reading a construct took.
#[derive(Debug, Deserialize, Serialize)]
struct Cost {
    micros: u64,
    input: usize,
    /// How much memory it took at most.
    peak: usize,
    documents: usize,
    /// Bytes of values in all documents.
    bytes: usize,
}

/// A kind of file, and how one of at least so many bytes is made.
type Construct = (&'static str, Box<dyn Fn(usize) -> Vec<u8>>);

/// The same text again and again.
fn again(text: &'static str) -> Box<dyn Fn(usize) -> Vec<u8>> {
    Box::new(move |size| text.as_bytes().repeat(size / text.len() + 1))
}

/// Rules with names of their own, `pieces` times `piece` in each; `#` in a piece is the number of the piece.
fn rules(
    head: &'static str,
    piece: &'static str,
    pieces: usize,
    tail: &'static str,
) -> Box<dyn Fn(usize) -> Vec<u8>> {
    Box::new(move |size| {
        let mut text = String::with_capacity(size + 1024);
        let mut rule = 0;
        while text.len() < size {
            rule += 1;
            text.push_str(&head.replace('№', &rule.to_string()));
            for number in 0..pieces {
                match piece.contains('№') {
                    true => text.push_str(&piece.replace('№', &number.to_string())),
                    false => text.push_str(piece),
                }
                if pieces == usize::MAX && text.len() >= size {
                    break;
                }
            }
            text.push_str(tail);
        }
        text.into_bytes()
    })
}

fn constructs() -> Vec<Construct> {
    let mut all: Vec<Construct> = Vec::new();
    let mut add = |name, make| all.push((name, make));
    // Statements that end nowhere, or are none.
    add("rules that are not closed", again("rule a { condition: true\n"));
    add(
        "rules whose texts are not closed",
        again("rule a { strings: $a = \"x\n condition: $a }\n"),
    );
    add(
        "rules whose expressions are not closed",
        again("rule a { strings: $a = /x\n condition: $a }\n"),
    );
    add("rules without a body", again("rule a "));
    add("the word rule", again("rule "));
    add("modifiers", again("private global "));
    add("words", again("any words of a page "));
    add("closing brackets", again("} ) ] "));
    add("opening brackets", again("{ ( [ "));
    add("a rule of opening brackets", rules("rule a {", "{", usize::MAX, ""));
    add("a rule of brackets", rules("rule a { condition: ", "(", usize::MAX, ""));
    add("quotes", again("\""));
    add("quotes of several lines", again("\"\"\" x"));
    add("slashes", again("/ "));
    add("comments that are not closed", again("/* "));
    add("comments of a line", again("// rule a { condition: true }\n"));
    add("backslashes", again("\\"));
    add("zeros", again("\0"));
    add("line ends", again("\r\n"));
    add("letters beyond ASCII", again("é中"));
    add("imports", rules("", "import \"m№\"\n", usize::MAX, ""));
    add("includes", rules("", "include \"m№\"\n", usize::MAX, ""));
    add("imports without a name", again("import "));
    add("random bytes", Box::new(random));
    add(
        "random bytes with rules",
        Box::new(|size| {
            let mut bytes = random(size);
            for at in (0..bytes.len().saturating_sub(64)).step_by(200) {
                bytes[at..at + 30].copy_from_slice(b"\nrule a { condition: \"\xe9\" == 1}");
            }
            bytes
        }),
    );
    add(
        "imports before rules",
        Box::new(|size| {
            let mut text: String =
                (0..size / 40).map(|at| format!("import \"module{at}\"\n")).collect();
            text.truncate(size / 2);
            let mut text = text.into_bytes();
            text.extend(rules("\nrule r№ { condition: true }", "", 0, "")(size / 2));
            text
        }),
    );
    // Rules, small and many, or as large as a rule may be; what makes high trees once more just below the limit.
    const SMALL: [&str; 7] =
        ["tags", "meta", "many authors", "and", "strings", "broken rules", "sets of rules"];
    for (pieces, size) in [(3, "small"), (100, "high"), (usize::MAX, "large")] {
        let mut each = |what: &str, head, piece: &'static str, tail| {
            let is_high = !piece.contains([' ', '№'])
                || piece.ends_with([' ', '(']) && piece.len() > 8
                || what == "not ";
            if (size == "small" && SMALL.contains(&what))
                || (size == "high" && is_high)
                || size == "large"
            {
                let name: &'static str = Box::leak(format!("{what}, {size}").into_boxed_str());
                let most = (RULE_TOKENS_MAX - tokens(head) - tokens(tail)) / tokens(piece);
                all.push((name, rules(head, piece, pieces.min(most), tail)));
            }
        };
        let condition = "rule r№ { strings: $a = \"abcd\" condition: ";
        for sign in [
            "1+",
            "1-",
            "1*",
            "1%1\\",
            "#a+#a-",
            "1&1|",
            "1<<",
            "1==",
            "not ",
            "-",
            "~",
            "defined ",
            "1-(1+2)*",
            "uint8(1)+",
        ] {
            each(sign, condition, sign, "1 }");
        }
        each("and", condition, "$a and ", "$a }\n");
        each("or with names", condition, "name№ or ", "$a }\n");
        each("brackets", condition, "(", "}\n");
        each("calls in calls", condition, "uint8(", "1}\n");
        each("places in lists", condition, "a[1]", "}\n");
        each("fields of fields", condition, "a.", "b }\n");
        each("loops in loops", condition, "for any i in (0..1) : (", "true }\n");
        each("loops over strings", condition, "for any of them : (", "true }\n");
        each("lists", "rule r№ { condition: for any i in (", "№,", "1) : (i == 1) }\n");
        each(
            "sets of strings",
            "rule r№ { strings: $a = \"abcd\" condition: any of (",
            "$a,",
            "$a) }\n",
        );
        each("sets of rules", "rule r№ { condition: any of (", "r№*,", "r*) }\n");
        each("strings", "rule r№ { strings: ", "$s№=\"abcd\" ", "condition: any of them }\n");
        each("modifiers", "rule r№ { strings: $a = \"abcd\" ", "wide ascii ", "condition: $a }\n");
        each(
            "hexadecimal",
            "rule r№ { strings: $a = { ",
            "4? [2-4] ~41 ",
            "41 } condition: $a }\n",
        );
        each(
            "hexadecimal branches",
            "rule r№ { strings: $a = { ",
            "(41|",
            "41 } condition: $a }\n",
        );
        each("groups", "rule r№ { strings: $a = /", "(a", "/ condition: $a }\n");
        each("branches", "rule r№ { strings: $a = /", "a|", "b/ condition: $a }\n");
        each("repetitions", "rule r№ { strings: $a = /", "(a{1,9})*", "b/ condition: $a }\n");
        each("classes", "rule r№ { strings: $a = /", "[^a-z\\w]", "b/ condition: $a }\n");
        each("tags", "rule r№ : a ", "t№ ", "{ condition: true }\n");
        each("meta", "rule r№ { meta: ", "a=1 ", "condition: true }\n");
        each("authors", "rule r№ { meta: author = \"", "a№, ", "\" condition: true }\n");
        each(
            "authors in brackets",
            "rule r№ { meta: author = \"(",
            "a, (",
            "\" condition: true }\n",
        );
        each("many authors", "rule r№ { meta: ", "author=\"a№ and b\" ", "condition: true }\n");
        each(
            "references",
            "rule r№ { meta: ",
            "reference№=\"https://a/№\" ",
            "condition: true }\n",
        );
        each(
            "hashes",
            "rule r№ { meta: h = \"",
            "d41d8cd98f00b204e9800998ecf8427e ",
            "\" condition: true }\n",
        );
        each("techniques", "rule r№ { meta: mitre = \"", "T1059 T1№ ", "\" condition: true }\n");
        each("families", "rule r№ { meta: ", "malware=\"family №\" ", "condition: true }\n");
        each(
            "descriptions",
            "rule r№ { meta: description = \"",
            "a long text é \\\"",
            "\" condition: true }\n",
        );
        each("comments", "rule r№ { condition: ", "/* c */ // d\n", "true }\n");
        each(
            "bytes beyond UTF-8",
            "rule r№ { meta: a = \"\\xff",
            "é\\xff",
            "\" condition: true }\n",
        );
        each("broken rules", "rule r№ { condition: ", "and or ", " }\n");
    }
    all
}

/// How many words and signs of a rule a text is, or a few more.
fn tokens(text: &str) -> usize {
    let is_word = |letter: char| letter.is_alphanumeric() || "_$#№".contains(letter);
    let mut before = ' ';
    let begins = |letter: &char| {
        let before = std::mem::replace(&mut before, *letter);
        !(letter.is_whitespace() || is_word(*letter) && is_word(before))
    };
    text.chars().filter(begins).count()
}

/// Bytes without a pattern, the same each time.
fn random(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// Reads one construct and tells what it took, if that is what this process is for.
pub(crate) fn reader() -> Option<ExitCode> {
    let wanted = variable(VARIABLE)?;
    let (place, size) = wanted.split_once(' ').expect("a place and a size");
    let all = constructs();
    let (_, make) = &all[place.parse::<usize>().expect("a place")];
    let input = make(size.parse().expect("a size"));
    // The program's own pages are there whatever the input.
    read(b"rule a { strings: $a = \"abcd\" condition: $a }");
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak is reset");
    let before = memory("VmRSS:");
    let before_it = processor_micros();
    let (documents, bytes) = read(&input);
    let micros = processor_micros() - before_it;
    let peak = memory("VmHWM:").saturating_sub(before);
    let cost = Cost { micros, input: input.len(), peak, documents, bytes };
    serde_json::to_writer(std::io::stdout(), &cost).expect("somebody listens");
    Some(ExitCode::SUCCESS)
}

/// Processor time of this thread, so that a busy machine does not count.
fn processor_micros() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel tells");
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok());
    nanos.expect("a number") / 1_000
}

/// Bytes that the kernel says of this process.
fn memory(what: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("it is there");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

/// Reads a file of rules into documents; gives their number, and the bytes of their values.
fn read(input: &[u8]) -> (usize, usize) {
    let split = split(input);
    let mut known = KnownRules::default();
    split.rules.iter().for_each(|rule| known.add("f", &rule.name));
    let (origin, claims) = (signature_base::sync::origin(None), SourceClaims::default());
    let bytes = split.rules.iter().map(|rule| {
        let context = RuleContext { file: "f", imports: &split.imports, claims: &claims };
        let verdict = ("compiles", None, String::new());
        let needs = known.needs("f", rule);
        let write = document::write(&origin, context, rule, &needs, verdict, Timestamp::UNIX_EPOCH);
        write.parts.iter().flat_map(|part| part.fields.values()).map(weight).sum::<usize>()
    });
    (split.rules.len(), bytes.sum())
}

/// Bytes of a value as it is meant.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(|value| weight(value) + 1).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + weight(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
    }
}

fn cost(place: usize, size: usize) -> Cost {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program)
        .env(VARIABLE, format!("{place} {size}"))
        .env(PURGE_DELAY.0, PURGE_DELAY.1)
        .output();
    let output = output.expect("it starts");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("it ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}

fn a_hostile_file_costs_no_more_than_its_size() {
    let mut wrong = Vec::new();
    let small_bytes = variable("MINERVA_COST_BYTES").and_then(|bytes| bytes.parse().ok());
    let small_bytes = small_bytes.unwrap_or(SMALL);
    let all = constructs();
    assert!(all.len() > 90, "{}", all.len());
    for (place, (name, _)) in all.iter().enumerate() {
        let (mut small, mut large) = (cost(place, small_bytes), cost(place, 4 * small_bytes));
        for _ in 0..2 {
            if large.micros <= u64::from(TIMES) * small.micros {
                break;
            }
            small.micros = small.micros.min(cost(place, small_bytes).micros);
            large.micros = large.micros.min(cost(place, 4 * small_bytes).micros);
        }
        let is_slow = Duration::from_micros(large.micros) > SHORT
            && large.micros > u64::from(TIMES) * small.micros;
        for cost in [&small, &large] {
            let is_large = cost.peak > 8 * cost.input + PEAK_BYTES;
            let is_wide = cost.bytes > 4 * cost.input + FIXED_BYTES * cost.documents;
            if is_slow || is_large || is_wide {
                wrong.push(format!("{name}: {small:?} {large:?}"));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
