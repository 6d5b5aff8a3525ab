//! The splitter against real rules and what libyara and plyara say of them; the store's life of a rule.
//!
//! The sample is always there; the whole data set where `MINERVA_CORPUS` names the folder that holds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::config;
use shared::yara::{Meta, Rule, Split, split};
use signature_base::iocs::{self, Layout};
use signature_base::tarball;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("the_sample_agrees_with_libyara", the_sample_agrees_with_libyara),
    ("the_whole_agrees_with_libyara_from_files_and_tarball", the_whole_agrees_with_libyara),
    ("every_indicator_of_the_whole_is_read", every_indicator_of_the_whole_is_read),
];

/// What a file holds, by the oracle.
#[derive(Deserialize)]
struct Expected {
    file: String,
    imports: Vec<String>,
    rules: Vec<ExpectedRule>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct ExpectedRule {
    name: String,
    modifiers: Vec<String>,
    tags: Vec<String>,
    meta: Vec<(String, Value)>,
    string_count: usize,
    line: usize,
    end_line: usize,
    bytes: usize,
    sha256: String,
}

impl ExpectedRule {
    fn of(rule: &Rule) -> Self {
        let value = |value: &Meta| match value {
            Meta::Text(text) => json!(text),
            Meta::Integer(number) => json!(number),
            Meta::Float(number) => json!(number),
            Meta::Bool(value) => json!(value),
        };
        let bytes = rule.bytes();
        let digest = Sha256::digest(&bytes);
        let found = Self {
            name: rule.name.clone(),
            modifiers: rule.modifiers.iter().map(|modifier| (*modifier).to_owned()).collect(),
            tags: rule.tags.clone(),
            meta: rule.meta.iter().map(|(key, meta)| (key.clone(), value(meta))).collect(),
            string_count: rule.strings,
            line: rule.line,
            end_line: rule.end_line,
            bytes: bytes.len(),
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        assert_eq!(found.sha256, rule.hash, "`{}`", rule.name);
        found
    }
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/signature-base")
}

/// The folder of the whole data set, if there is one.
fn corpus() -> Option<PathBuf> {
    let folder = PathBuf::from(config::variable("MINERVA_CORPUS")?);
    let inside = folder.join("signature-base");
    [inside, folder].into_iter().find(|folder| folder.join("expected/rules.jsonl").exists())
}

/// Every file of rules in a tarball, by its name without folders.
fn rules_in(tarball: &Path) -> BTreeMap<String, Vec<u8>> {
    let body = std::fs::read(tarball).expect("the tarball is there");
    let mut files = BTreeMap::new();
    let outcome = tarball::read(
        &body,
        |name| name.starts_with("yara/"),
        |name, bytes| {
            files.insert(name.trim_start_matches("yara/").to_owned(), bytes);
        },
    );
    assert_eq!((outcome.broken, outcome.rejects), (None, vec![]));
    assert!(outcome.version.is_some_and(|version| version.starts_with("8a89b3bf")));
    files
}

/// Holds every file against the oracle; gives the number of rules.
fn agree(list: &Path, file: impl Fn(&str) -> Vec<u8>) -> usize {
    let list = std::fs::read_to_string(list).expect("the oracle is there");
    let mut rules = 0;
    for line in list.lines() {
        let expected: Expected = serde_json::from_str(line).expect("one object a line");
        let found: Split = split(&file(&expected.file));
        let name = &expected.file;
        assert_eq!(found.rejects, [], "{name}");
        let mut imports = expected.imports;
        imports.dedup();
        assert_eq!(found.imports, imports, "{name}");
        let ours: Vec<ExpectedRule> = found.rules.iter().map(ExpectedRule::of).collect();
        assert_eq!(ours.len(), expected.rules.len(), "{name}");
        for (ours, theirs) in ours.iter().zip(&expected.rules) {
            assert_eq!(ours, theirs, "{name}");
        }
        rules += ours.len();
    }
    rules
}

fn the_sample_agrees_with_libyara() {
    let files = rules_in(&sample().join("sample.tar.gz"));
    let rules = agree(&sample().join("rules.jsonl"), |name| files[name].clone());
    assert_eq!((files.len(), rules), (209, 725));
}

#[expect(clippy::print_stdout, reason = "who runs it without the data set should know")]
fn the_whole_agrees_with_libyara() {
    let Some(folder) = corpus() else {
        println!("without MINERVA_CORPUS there is nothing to compare");
        return;
    };
    let list = folder.join("expected/rules.jsonl");
    let from_files = agree(&list, |name| {
        std::fs::read(folder.join("yara").join(name)).expect("the file is there")
    });
    let files = rules_in(&folder.join("signature-base-master.tar.gz"));
    let from_tarball = agree(&list, |name| files[name].clone());
    assert_eq!((from_files, from_tarball), (4312, 4312));
}

#[expect(clippy::print_stdout, reason = "who runs it without the data set should know")]
fn every_indicator_of_the_whole_is_read() {
    let Some(folder) = corpus() else {
        println!("without MINERVA_CORPUS there is nothing to read");
        return;
    };
    let read = |name: &str| {
        let body = std::fs::read(folder.join("iocs").join(name)).expect("the file is there");
        let layout = Layout::of(&format!("iocs/{name}")).expect("it holds indicators");
        let parsed = iocs::parse(layout, &body);
        assert_eq!(parsed.rejects, Vec::<String>::new(), "{name}");
        let mut values: Vec<_> =
            parsed.lines.iter().map(|line| line.indicator.value.clone()).collect();
        values.sort_unstable();
        values.dedup();
        let scored = parsed.lines.iter().filter(|line| line.score.is_some()).count();
        (parsed.lines.len(), values.len(), scored)
    };
    assert_eq!(read("c2-iocs.txt"), (1844, 1773, 6));
    assert_eq!(read("hash-iocs.txt"), (3224, 3053, 430));
    assert_eq!(read("filename-iocs.txt"), (3828, 3711, 3828));
    assert_eq!(Layout::of("iocs/keywords.txt"), None);
}
