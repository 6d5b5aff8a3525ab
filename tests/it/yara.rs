//! The splitter against real rules and what libyara and plyara say of them; the store's life of a rule.
//!
//! The sample is always there; the whole data set where `MINERVA_CORPUS` names the folder that holds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use base::config;
use base::report::{Report, Status};
use local_runner::families::declared;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use signature_base::iocs::{self, Layout};
use signature_base::tarball;
use stores::documents::{Body, Index};
use task::testing::{TestHome, Upstream};
use yara::{Meta, Rule, Split, split};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("the_sample_agrees_with_libyara", the_sample_agrees_with_libyara),
    ("the_whole_agrees_with_libyara_from_files_and_tarball", the_whole_agrees_with_libyara),
    ("every_indicator_of_the_whole_is_read", every_indicator_of_the_whole_is_read),
    ("a_rule_that_left_is_kept_and_marked", a_rule_that_left_is_kept_and_marked),
    ("one_request_serves_rules_and_indicators", one_request_serves_rules_and_indicators),
    ("a_tarball_that_is_cut_off_marks_nothing", a_tarball_that_is_cut_off_marks_nothing),
    ("yara_and_yara_x_take_what_is_exported", yara_and_yara_x_take_what_is_exported),
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
            sha256: hex::encode(digest),
        };
        assert_eq!(found.sha256, rule.hash, "`{}`", rule.name);
        found
    }
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/signature-base")
}

/// Why there is no whole data set here, if there is none.
pub(crate) fn no_corpus() -> Option<String> {
    let reason = "MINERVA_CORPUS names no folder that holds the whole data set";
    corpus().is_none().then(|| reason.to_owned())
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

fn the_whole_agrees_with_libyara() {
    let folder = corpus().expect("it is skipped where there is none");
    let list = folder.join("expected/rules.jsonl");
    let from_files = agree(&list, |name| {
        std::fs::read(folder.join("yara").join(name)).expect("the file is there")
    });
    let files = rules_in(&folder.join("signature-base-master.tar.gz"));
    let from_tarball = agree(&list, |name| files[name].clone());
    assert_eq!((from_files, from_tarball), (4312, 4312));
}

fn every_indicator_of_the_whole_is_read() {
    let folder = corpus().expect("it is skipped where there is none");
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

/// A home whose upstream serves a tarball.
struct Home {
    home: TestHome,
    upstream: Upstream,
}

const TARBALL: &str = "/any/name.tar.gz";

impl Home {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// A home that reads Malpedia's families from a folder.
    async fn beside(families: &Path) -> Self {
        let place = families.to_string_lossy().into_owned();
        Self::with(&[("MALPEDIA_DIR".to_owned(), place)]).await
    }

    async fn with(more: &[(String, String)]) -> Self {
        let upstream = Upstream::start().await;
        let url = format!("{}{TARBALL}", upstream.origin());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = [&[("SIGNATURE_BASE_URL".to_owned(), url)], more].concat();
        let home =
            TestHome::open(folder, &settings, &declared()).await.expect("the settings are right");
        Self { home, upstream }
    }

    async fn run(&self, task: &str) -> Report {
        let task = signature_base::FAMILY.tasks.iter().find(|known| known.name == task);
        self.home.run(task.expect("a listed task"), Value::Null).await
    }

    /// Runs the sync of rules over these files.
    async fn rules(&self, files: &[(&str, &str)]) -> Report {
        self.upstream.put(TARBALL, tarball_of(files));
        self.run("sync_signature_base_yara").await
    }

    async fn stored(&self) -> BTreeMap<String, Body> {
        let index = Index::named("cti_yara_rules").expect("it is listed");
        let documents = self.home.documents(index).await.expect("the store can be read");
        let name = |body: &Body| body["name"].as_str().unwrap_or_default().to_owned();
        documents.into_iter().map(|one| (name(&one.body), one.body)).collect()
    }
}

/// A tarball as a forge sends it: a folder at the top, gzip around it.
pub(crate) fn tarball_of(files: &[(&str, &str)]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(gzip);
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(
                &mut header,
                format!("Some-Owner-repository-1a2b3c4/{name}"),
                text.as_bytes(),
            )
            .expect("memory can be written");
    }
    builder.into_inner().and_then(flate2::write::GzEncoder::finish).expect("memory can be written")
}

fn within(what: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(what());
}

fn a_rule_that_left_is_kept_and_marked() {
    within(async || {
        let home = Home::new().await;
        let one = ("yara/apt_a.yar", "rule One { condition: true }\nrule Two { condition: One }");
        let first = home.rules(&[one, ("yara/gen_b.yara", "rule Three { condition: true }")]).await;
        assert_eq!((first.status, first.counts.new), (Status::Complete, 3), "{first:?}");
        assert_eq!(first.detail["rules"], json!({"compiled": 3, "left": 0, "broken": 0}));
        let stored = home.stored().await;
        assert_eq!(stored["Two"]["verdict"], "compiles_with_rules");
        assert_eq!(stored["Two"]["depends_on"], json!(["One"]));
        assert_eq!(stored["Three"]["category"], "generic");

        // Moved, broken and gone: only what is gone has left. What is equal is not compiled again.
        let broken = ("yara/apt_a.yar", "rule One { condition: }\nrule Two { condition: true }");
        let second = home.rules(&[broken]).await;
        assert_eq!(
            second.detail["rules"],
            json!({"compiled": 1, "left": 1, "broken": 0}),
            "{second:?}"
        );
        assert_eq!((second.counts.changed, second.counts.rejected), (1, 1));
        assert!(second.rejects[0].reason.contains("yara/apt_a.yar: line 1"), "{second:?}");
        let stored = home.stored().await;
        let active = |name: &str| stored[name]["active"] == true;
        assert_eq!((active("One"), active("Two"), active("Three")), (true, true, false));
        assert!(
            stored["Three"]["left_at"].is_string() && stored["Three"]["rule_content"].is_string()
        );

        let moved = ("yara/crime_c.yar", "rule Three { condition: true }");
        let third = home.rules(&[one, moved]).await;
        assert_eq!(
            third.detail["rules"],
            json!({"compiled": 1, "left": 0, "broken": 0}),
            "{third:?}"
        );
        let stored = home.stored().await;
        assert_eq!(stored["Three"]["active"], true);
        assert_eq!(
            (&stored["Three"]["left_at"], &stored["Three"]["category"]),
            (&Value::Null, &json!("crime"))
        );
        assert_eq!(home.rules(&[]).await.status, Status::Failed, "nothing leaves an empty tarball");
        assert_eq!(home.stored().await, stored);
    });
}

fn a_tarball_that_is_cut_off_marks_nothing() {
    within(async || {
        let home = Home::new().await;
        let one = ("yara/a.yar", "rule One { condition: true }");
        home.rules(&[one, ("yara/b.yar", "rule Two { condition: true }")]).await;
        let whole = tarball_of(&[one]);
        home.upstream.put(TARBALL, whole[..whole.len() - 6].to_vec());
        let report = home.run("sync_signature_base_yara").await;
        assert_eq!((report.status, report.writes()), (Status::Failed, 0), "{report:?}");
        assert!(home.stored().await.values().all(|rule| rule["active"] == true));
    });
}

fn one_request_serves_rules_and_indicators() {
    within(async || {
        let home = Home::new().await;
        let body = std::fs::read(sample().join("sample.tar.gz")).expect("the sample is there");
        home.upstream.put(TARBALL, body);
        let first = home.run("sync_signature_base_all").await;
        assert_eq!((first.status, first.requests), (Status::Complete, 1), "{first:?}");
        assert!(first.sources.iter().all(|source| source.counts.new > 700), "{first:?}");
        assert_eq!(first.detail["rules"]["broken"], 0, "{:?}", first.detail);
        let second = home.run("sync_signature_base_all").await;
        assert!(
            second.sources.iter().all(|source| source.outcome.name() == "not_modified"),
            "{second:?}"
        );
        assert_eq!(home.upstream.requests().len(), 2);
        let single = home.run("sync_signature_base_iocs").await;
        assert_eq!(
            single.sources[0].outcome.name(),
            "not_modified",
            "the cursor is that of both tasks"
        );

        let stats = home.run("get_signature_base_stats").await.detail;
        let sum = |counts: &Value| -> u64 {
            counts.as_object().expect("counts").values().filter_map(Value::as_u64).sum()
        };
        for by in ["by_category", "by_year", "by_license", "by_verdict", "by_score"] {
            assert_eq!(json!(sum(&stats["rules"][by])), stats["rules"]["active"], "{by}");
        }
        assert_eq!(json!(sum(&stats["iocs"]["by_type"])), stats["iocs"]["active"]);
        assert!(stats["iocs"]["by_type"]["filename-regex"].as_u64() > Some(100), "{stats}");
    });
}

/// The compilers as they come from PyPI.
const COMPILERS: [&str; 2] = ["yara-python==4.5.4", "yara-x==1.23.0"];

/// Compiles each file with both, variables defined where a JSON file follows it, and counts rules.
const COMPILE: &str = r#"
import json, sys, yara, yara_x
for path, variables in zip(sys.argv[1::2], sys.argv[2::2]):
    text = open(path, encoding="utf-8").read()
    variables = json.load(open(variables)) if variables != "-" else {}
    rules = yara.compile(source=text, externals=variables)
    compiler = yara_x.Compiler()
    for name, value in variables.items():
        compiler.define_global(name, value)
    compiler.add_source(text)
    assert not compiler.errors(), compiler.errors()[:3]
    compiler.build()
    print(sum(1 for rule in rules))
"#;

/// The Python that has both compilers, or why there is none.
fn compilers() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("yara-compilers");
    let (python, whole) = (folder.join("bin/python"), folder.join("whole"));
    if whole.exists() {
        return Ok(python);
    }
    let run = |command: &mut Command| {
        let output = command.output().map_err(|cause| cause.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(COMPILERS))?;
    std::fs::write(whole, COMPILERS.join(" ")).map_err(|cause| cause.to_string())?;
    Ok(python)
}

/// Why the compilers cannot be had here, if they cannot.
pub(crate) fn unavailable() -> Option<String> {
    compilers().err()
}

fn yara_and_yara_x_take_what_is_exported() {
    let python = compilers().expect("it is skipped where there is none");
    within(async || {
        let place = tempfile::tempdir().expect("a folder");
        let home = Home::beside(place.path()).await;
        let whole = corpus().map(|folder| folder.join("signature-base-master.tar.gz"));
        let tarball = whole.unwrap_or_else(|| sample().join("sample.tar.gz"));
        home.upstream.put(TARBALL, std::fs::read(tarball).expect("the tarball is there"));
        let report = home.run("sync_signature_base_yara").await;
        assert_eq!(report.status, Status::Complete, "{report:?}");
        let stored = home.stored().await;
        let (equal, first) =
            stored.iter().find(|(_, rule)| rule["verdict"] == "compiles").expect("one");
        // Malpedia has a rule of the same name, one that needs it, and a name that is free only at first sight.
        let rules = json!([
            format!("rule {equal} {{ condition: true }}"),
            format!("rule uses_it {{ condition: {equal} }}"),
            format!("rule {equal}_signature_base {{ condition: false }}"),
        ]);
        let family = json!({"name": "win.x", "yara_rules": rules}).to_string();
        let families = place.path().join("families_enriched");
        std::fs::create_dir(&families).expect("a folder");
        std::fs::write(families.join("win.x.json"), family).expect("it is written");
        let task = crate::malpedia::task("sync_malpedia_families_to_es");
        let report = home.home.run(task, Value::Null).await;
        assert_eq!((report.status, report.counts.new), (Status::Complete, 4), "{report:?}");
        assert_eq!(first["source"], "signature_base");
        let to = home.home.path().join("out");
        let export = |arguments: &[&str]| {
            Command::new(env!("CARGO_BIN_EXE_runner"))
                .args(["yara", "export", "--json", "--to"])
                .arg(&to)
                .args(arguments)
                .arg("--data-dir")
                .arg(home.home.path().join("data"))
                .output()
                .expect("it starts")
        };
        let run = |arguments: &[&str]| -> Value {
            let output = export(arguments);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice(&output.stdout).expect("one JSON document")
        };
        let number = |answer: &Value, name: &str| answer[name].as_u64().expect("a number");
        // All of them first: what is narrower leaves nothing of it behind.
        for arguments in [&[][..], &["--category", "apt", "--score", "70"]] {
            let answer = run(arguments);
            assert_eq!(
                number(&answer, "exported") + number(&answer, "withheld"),
                number(&answer, "active")
            );
            let with_variables = ["rules-with-variables.yar", "rules-externals.json"];
            // There only where a rule needs some: of the category asked for, none does.
            let is_there = with_variables.map(|name| to.join(name).exists());
            assert_eq!(is_there, [arguments.is_empty(); 2], "{answer}");
            let mut python = Command::new(&python);
            python.args(["-c", COMPILE]).args([to.join("rules.yar").as_os_str(), "-".as_ref()]);
            if arguments.is_empty() {
                python.args(with_variables.map(|name| to.join(name)));
            }
            let output = python.output().expect("it starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let compiled = String::from_utf8_lossy(&output.stdout);
            let compiled: u64 =
                compiled.split_whitespace().filter_map(|text| text.parse::<u64>().ok()).sum();
            assert!(compiled >= number(&answer, "exported"), "{compiled}: {answer}");
        }
        let all = run(&[]);
        assert_eq!(number(&all, "withheld"), 0, "every rule of both sources goes out: {all}");
        assert_eq!(number(&all, "active"), stored.len() as u64 + 3);
        let new_name = format!("{equal}_signature_base_2");
        assert_eq!(all["renamed"], json!([["signature_base", equal, new_name]]), "{all}");
        let of_family = run(&["--family", "win.x"]);
        assert_eq!(number(&of_family, "exported"), 3, "{of_family}");

        // A slip of the hand is told, not answered with an empty file alone.
        let told = |arguments: &[&str]| {
            let output = export(arguments);
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (code, said) = told(&["--category", "webshel", "--family", "win.y"]);
        assert!(code == Some(0) && said.contains("`webshel`; there are: "), "{said}");
        assert!(said.contains("`win.y`") && !said.contains("`win.x`"), "{said}");
        assert_eq!(told(&["--verdict", "compile"]).0, Some(2));
        assert_eq!(told(&["--score", "101"]).0, Some(2));
    });
}
