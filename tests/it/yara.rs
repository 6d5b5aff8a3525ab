//! The splitter against real rules and what libyara and plyara say of them; the store's life of a rule.
//!
//! The sample is always there; the whole data set where `MINERVA_CORPUS` names the folder that holds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use base::config;
use base::report::{Report, Status};
use local_runner::families::declared;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use signature_base::iocs::{self, Layout};
use stores::documents::{Body, Index};
use task::tarball;
use task::testing::{TestHome, Upstream};
use tests::misp::status_of;
use yara::{Meta, Rule, Split, split};

use crate::documents::cache;
use crate::home::eventually_within;
use crate::misp::again::warn;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("the_sample_agrees_with_libyara", the_sample_agrees_with_libyara),
    ("the_whole_agrees_with_libyara_from_files_and_tarball", the_whole_agrees_with_libyara),
    ("every_indicator_of_the_whole_is_read", every_indicator_of_the_whole_is_read),
    ("a_rule_that_left_is_kept_and_marked", a_rule_that_left_is_kept_and_marked),
    ("one_request_serves_rules_and_indicators", one_request_serves_rules_and_indicators),
    ("other_warninglists_tag_what_is_stored", other_warninglists_tag_what_is_stored),
    ("a_tarball_that_is_cut_off_marks_nothing", a_tarball_that_is_cut_off_marks_nothing),
    ("yara_and_yara_x_take_what_is_exported", yara_and_yara_x_take_what_is_exported),
    ("yara_and_yara_x_need_not_be_asked_of_known_ways", yara_and_yara_x_need_not_be_asked),
    ("what_the_known_ways_leave_out_the_compilers_find", the_compilers_find_the_rest),
    ("a_rule_that_only_yara_reads_is_kept", a_rule_that_only_yara_reads_is_kept),
    ("poisoned_rules_cost_themselves_beside_5000_good_ones", poisoned_rules_cost_themselves),
    ("the_compiler_maps_no_more_than_it_may_write_to", the_compiler_maps_no_more),
    ("rules_in_a_long_chain_are_compiled_once_each", rules_in_a_long_chain_are_compiled_once),
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
        u64::MAX,
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

impl Home {
    /// Exports with the compilers in `folder`.
    fn export(&self, to: &Path, folder: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
        command.args(["yara", "export", "--json", "--to"]).arg(to).args(arguments);
        command.arg("--compilers").arg(folder);
        command.arg("--data-dir").arg(self.home.path().join("data")).output().expect("it starts")
    }

    /// Exports all; gives the exit code, the manifest and the reasons of what was withheld, by name.
    fn exported(&self, to: &Path, folder: &Path) -> (Option<i32>, Value, BTreeMap<String, String>) {
        let output = self.export(to, folder, &[]);
        let manifest: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
        let read = |name: &str| std::fs::read(to.join(name)).expect("it is written");
        let written: Value = serde_json::from_slice(&read("rules-manifest.json")).expect("JSON");
        assert_eq!(written, manifest);
        let withheld: Vec<BTreeMap<String, String>> =
            serde_json::from_slice(&read("rules-withheld.json")).expect("JSON");
        let withheld = withheld.into_iter().map(|one| (one["name"].clone(), one["reason"].clone()));
        (output.status.code(), manifest, withheld.collect())
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

fn other_warninglists_tag_what_is_stored() {
    within(async || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let lists =
            [("WARNINGLISTS".to_owned(), folder.path().to_str().expect("plain").to_owned())];
        let files = [(
            "iocs/c2-iocs.txt",
            "# Of one https://example.org/a\nlisted.evil.com\n# Of two\nother.evil.com\n",
        )];
        let stored = async |home: &Home| {
            let index = Index::named("signature_base_iocs").expect("it is listed");
            let mut all = home.home.documents(index).await.expect("the store can be read");
            all.iter_mut().for_each(|one| drop(one.body.remove("revision")));
            all
        };
        warn(folder.path(), &["listed.evil.com"]);
        let [home, fresh] = [Home::with(&lists).await, Home::with(&lists).await];
        home.upstream.put(TARBALL, tarball_of(&files));
        fresh.upstream.put(TARBALL, tarball_of(&files));
        let report = home.run("sync_signature_base_iocs").await;
        assert_eq!(report.counts.new, 2, "{report:?}");

        warn(folder.path(), &["other.evil.com"]);
        let report = home.run("sync_signature_base_iocs").await;
        assert_eq!((report.counts.changed, report.writes()), (2, 2), "{report:?}");
        assert_eq!((report.requests, report.bytes), (1, 0), "nothing else changed: {report:?}");
        fresh.run("sync_signature_base_iocs").await;
        assert_eq!(stored(&home).await, stored(&fresh).await, "as if they had always been these");
        assert_eq!(home.run("sync_signature_base_iocs").await.writes(), 0);
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
    tests::pypi::programs(cache(), &COMPILERS).map(|programs| programs.join("python"))
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
        let folder = python.parent().expect("a folder of programs");
        let export = |arguments: &[&str]| home.export(&to, folder, arguments);
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
        let renamed = all["renamed"].as_array().expect("a list");
        assert!(renamed.contains(&json!(["signature_base", equal, new_name])), "{all}");
        // The others are copies for the rules that need variables, and these name them so.
        let text = std::fs::read_to_string(to.join("rules-with-variables.yar")).expect("a file");
        let is_copied =
            |name: &Value| text.contains(&format!("rule {}", name.as_str().expect("a name")));
        assert_eq!(
            renamed.iter().filter(|one| is_copied(&one[2])).count(),
            renamed.len() - 1,
            "{all}"
        );
        assert_eq!(
            (&all["proved_by"], &all["unproved"]),
            (&json!(["YARA 4.5.4", "YARA-X 1.23.0"]), &Value::Null)
        );
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

/// Rules of the list of ways in which a compiler refuses a rule that ours takes.
fn ways() -> Vec<String> {
    let list = include_str!("../fixtures/yara/one_compiler_refuses.txt");
    let lengths = [129, 8_191];
    let long = |line: &str| {
        lengths.iter().fold(line.to_owned(), |line, length| {
            line.replace(&format!("{{{length}}}"), &"x".repeat(*length))
        })
    };
    list.lines().filter(|line| !line.starts_with('#')).map(long).collect()
}

fn yara_and_yara_x_need_not_be_asked() {
    let python = compilers().expect("it is skipped where there is none");
    within(async || {
        let home = Home::new().await;
        let imports = "import \"pe\"\nimport \"elf\"\nimport \"math\"\nimport \"macho\"\n";
        let ways = ways();
        assert!(ways.len() >= 50, "{}", ways.len());
        let good = "rule Good { strings: $a = \"good one\" condition: $a }";
        let text = format!("{imports}{good}\n{}", ways.join("\n"));
        home.rules(&[("yara/ways.yar", &text)]).await;
        // Whether one of the two refuses a rule is theirs to say; macho is in no YARA as it is installed.
        let refused = |rule: &String| {
            let place = home.home.path().join("one.yar");
            std::fs::write(&place, format!("{imports}{rule}").replace("import \"macho\"\n", ""))
                .expect("it is written");
            let mut command = Command::new(&python);
            !command
                .args(["-c", COMPILE])
                .arg(&place)
                .arg("-")
                .output()
                .expect("it starts")
                .status
                .success()
        };
        assert_eq!(
            ways.iter().filter(|rule| !refused(rule)).collect::<Vec<_>>(),
            Vec::<&String>::new()
        );
        let to = home.home.path().join("out");
        let nothing = tempfile::tempdir().expect("a folder");
        for (folder, is_proven) in
            [(nothing.path(), false), (python.parent().expect("a folder"), true)]
        {
            let (code, manifest, withheld) = home.exported(&to, folder);
            assert_eq!(
                (code, &manifest["exported"]),
                (Some(0), &json!(1)),
                "{manifest} {withheld:?}"
            );
            assert_eq!(manifest["withheld"], json!(home.stored().await.len() - 1));
            assert!(withheld.values().all(|reason| !reason.is_empty()));
            let proved = if is_proven { json!(["YARA 4.5.4", "YARA-X 1.23.0"]) } else { json!([]) };
            assert_eq!(
                (&manifest["proved_by"], manifest["unproved"].is_null()),
                (&proved, is_proven)
            );
        }
    });
}

/// Puts a program into a folder that stands for a compiler: `answer` is what the shell does with the rules in `$rules`.
fn compiler(folder: &Path, name: &str, version: &str, answer: &str) {
    use std::os::unix::fs::PermissionsExt;
    let text = format!(
        "#!/bin/sh\nfor one; do case $one in --version) echo {version}; exit;; */.rules-*) rules=$one;; esac; done\n{answer}\n"
    );
    let path = folder.join(name);
    std::fs::write(&path, text).expect("it is written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("its mode is set");
}

fn the_compilers_find_the_rest() {
    within(async || {
        let home = Home::new().await;
        let rules: String = (0..300)
            .map(|at| format!("rule R{at} {{ condition: true }}\n"))
            .chain(["rule User { condition: R77 }\n".to_owned()])
            .collect();
        home.rules(&[("yara/many.yar", &rules)]).await;
        let (to, folder) = (home.home.path().join("out"), tempfile::tempdir().expect("a folder"));
        let folder = folder.path();
        // One says no, the other dies of a rule.
        let no = "if grep -q 'rule R77 ' $rules; then echo \"error: rule R77 in $rules(3): no\" >&2; exit 1; fi";
        compiler(folder, "yarac", "4.9.9", no);
        compiler(
            folder,
            "yr",
            "yara-x-cli 1.99.0",
            "if grep -q 'rule R200 ' $rules; then kill -SEGV $$; fi",
        );
        let (code, manifest, withheld) = home.exported(&to, folder);
        assert_eq!((code, &manifest["exported"]), (Some(0), &json!(298)), "{manifest}");
        assert_eq!(manifest["proved_by"], json!(["YARA 4.9.9", "YARA-X 1.99.0"]));
        assert_eq!(withheld["R77"], "YARA 4.9.9 refuses it: error: rule R77 in line (3): no");
        assert!(withheld["User"].starts_with("it needs `R77`: YARA 4.9.9"), "{withheld:?}");
        assert!(
            withheld["R200"].starts_with("YARA-X 1.99.0 refuses it: it ends it: signal: 11"),
            "{withheld:?}"
        );
        let left: Vec<_> = std::fs::read_dir(&to).expect("a folder").flatten().collect();
        assert_eq!(left.len(), 3, "what the compilers read is gone: {left:?}");

        // What is refused only as a whole is not proven, and the exit code says so.
        compiler(folder, "yarac", "4.9.9", "test $(grep -c '^rule ' $rules) -lt 200");
        let (code, manifest, _) = home.exported(&to, folder);
        assert_eq!((code, &manifest["proved_by"]), (Some(1), &json!([])), "{manifest}");
        assert!(manifest["unproved"].as_str().is_some_and(|why| why.contains("all together")));

        // One compiler alone proves for itself.
        std::fs::remove_file(folder.join("yarac")).expect("it is there");
        let (code, manifest, _) = home.exported(&to, folder);
        assert_eq!((code, &manifest["proved_by"]), (Some(0), &json!(["YARA-X 1.99.0"])));
        assert!(
            manifest["unproved"].as_str().is_some_and(|why| why.starts_with("YARA was not found"))
        );
    });
}

fn a_rule_that_only_yara_reads_is_kept() {
    within(async || {
        let home = Home::new().await;
        let alphabet = r#"rule BC_B64 { strings: $a = "quay one" base64 $b = "quay two" base64wide $c = "quay three" base64("\x09!#$%&()*+,-.:;<=>?@[]^_{|}~abcdefghijklmnopqrstuvwxyzABCDEFGHIJ") condition: any of them }
rule BC_After_B64 { condition: true }"#;
        let sets = "rule BC_Part_A { condition: true }\nrule BC_Part_B { condition: true }\n\
            rule BC_Set_Any { condition: any of (BC_Part_*) }\n\
            rule BC_Set_Two { condition: 2 of (BC_Part_A, BC_Part_B) }\nrule BC_Set_After { condition: true }";
        let with = "rule with { condition: true }\nrule Tagged : with b { meta: with = \"it\" author = \"A\" condition: with }";
        let report = home
            .rules(&[
                ("yara/alphabet.yar", alphabet),
                ("yara/sets.yar", sets),
                ("yara/with.yar", with),
            ])
            .await;
        assert_eq!(
            (report.status, report.counts.new, report.counts.rejected),
            (Status::Complete, 9, 0),
            "{report:?}"
        );
        let stored = home.stored().await;
        let only = ["BC_B64", "BC_Set_Any", "Tagged", "with"];
        for (name, rule) in &stored {
            let verdict = rule["verdict"].as_str().unwrap_or_default();
            assert!(verdict.starts_with("compiles"), "{name}: {rule:?}");
            let said = rule["verdict_error"].as_str().unwrap_or_default();
            assert_eq!(
                said.starts_with("YARA-X "),
                only.contains(&name.as_str()),
                "{name}: {said}"
            );
        }
        assert_eq!(stored["BC_Set_Any"]["depends_on"], json!(["BC_Part_*"]));
        assert_eq!(stored["BC_Set_Two"]["depends_on"], json!(["BC_Part_A", "BC_Part_B"]));
        assert_eq!(stored["BC_B64"]["strings_count"], 3);
        assert_eq!(
            (&stored["Tagged"]["tags"], &stored["Tagged"]["author"]),
            (&json!(["with", "b"]), &json!("A"))
        );
        assert_eq!(stored["Tagged"]["depends_on"], json!(["with"]));
    });
}

/// Conditions that are as deep as they are long.
fn poison() -> Vec<String> {
    let signs = [
        "1+", "1-", "1*", "1%", "1\\\\", "1|", "1<<", "1==", "#a+#a-", "not ", "-", "~",
        "defined ", "(", "1+(", "a[1].",
    ];
    let loops = ["for any i in (0..1) : (", "for any of them : (", "with a = 1 : ("];
    let conditions =
        signs.iter().chain(&loops).map(|piece| piece.repeat(62_800 / piece.len()) + "1");
    let groups =
        ["(", "(a|", "(a)+"].map(|piece| format!("\"a\" matches /{}/", piece.repeat(15_000)));
    conditions.chain(groups).collect()
}

fn poisoned_rules_cost_themselves() {
    within(async || {
        let home = Home::new().await;
        let poison = poison();
        let mut files: Vec<(String, String)> = (0..50)
            .map(|file| {
                let rule = |at| {
                    format!(
                        "rule Good_{file}_{at} {{ strings: $a = \"good {at}\" condition: $a }}\n"
                    )
                };
                (format!("yara/f{file}.yar"), (0..100).map(rule).collect())
            })
            .collect();
        for (at, condition) in poison.iter().enumerate() {
            let rule =
                format!("rule Poison_{at} {{ strings: $a = \"abcd\" condition: {condition} }}\n");
            files[at].1.insert_str(0, &rule);
        }
        // No tree is high, but the compiler makes 260 MB of it.
        let strings: String =
            (0..1_000).map(|at| format!("$s{at} = /(abc{at}|[a-z]{{1,100}}){{1,50}}x/ ")).collect();
        let heavy = format!("rule Poison_heavy {{ strings: {strings} condition: any of them }}\n");
        files[49].1.insert_str(0, &heavy);
        let files: Vec<(&str, &str)> =
            files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let mut before = 0;
        for more in ["", "rule Good_more { condition: true }"] {
            let files: Vec<_> = files.iter().copied().chain([("yara/more.yar", more)]).collect();
            let report = home.rules(&files).await;
            assert_eq!(report.status, Status::Complete, "{report:?}");
            let stored = home.stored().await;
            let good = stored.iter().filter(|(name, _)| name.starts_with("Good_"));
            let good = good.filter(|(_, rule)| rule["verdict"] == "compiles").count();
            assert_eq!(good, 5_000 + usize::from(!more.is_empty()));
            // Each of the others is a reject, or is stored and compiles or does not.
            let kept = stored.len() - good;
            assert_eq!(report.counts.rejected as usize + kept, poison.len() + 1, "{report:?}");
            let error = stored["Poison_heavy"]["verdict_error"].as_str().unwrap_or_default();
            assert!(error.starts_with("it ends the compiler: signal"), "{error}");
            let named = format!("yara/f49.yar: line 1: `Poison_heavy`: {error}");
            assert_eq!(report.sources[0].notes.contains(&named), more.is_empty(), "{report:?}");
            assert!(report.rejects[0].reason.contains("yara/f0.yar: line 1"), "{report:?}");
            // What was compiled once is not compiled again, however it ended.
            let new = stored.len() - before;
            assert_eq!((report.counts.new, report.counts.changed), (new as u64, 0), "{report:?}");
            before = stored.len();
        }
    });
}

/// The limit of its memory counts what is mapped to be written to: an allocator that maps a gigabyte at once, and does so before
/// the limit is set, would have nothing left. So a compiler is started once more as it was, without a limit.
fn the_compiler_maps_no_more() {
    let watch = std::thread::spawn(|| {
        let until = Instant::now() + Duration::from_secs(60);
        let compiler =
            || running_compilers().find_map(|path| std::fs::read(path.join("environ")).ok());
        std::iter::repeat_with(compiler).find(|found| found.is_some() || Instant::now() > until)
    });
    within(async || {
        let home = Home::new().await;
        let rules: String = (0..2_000)
            .map(|at| format!("rule R{at} {{ strings: $a = \"good {at}\" condition: $a }}\n"))
            .collect();
        let report = home.rules(&[("yara/a.yar", &rules)]).await;
        assert_eq!((report.status, report.counts.new), (Status::Complete, 2_000), "{report:?}");
    });
    let environment = watch.join().expect("it reads").flatten().expect("a compiler was seen");
    let environment = String::from_utf8(environment).expect("it is text");
    let variables = environment.split('\0').filter_map(|variable| variable.split_once('='));
    let mut compiler = Command::new(std::env::current_exe().expect("it has a name"));
    compiler.arg("compile-rules-of-standard-input").env_clear().envs(variables);
    let mut compiler = compiler.stdin(Stdio::piped()).spawn().expect("it starts");
    // The thread that compiles is there.
    let is_up = || status_of(compiler.id(), "Threads:") == Some(2);
    assert!(eventually_within(Duration::from_secs(20), is_up));
    let mapped = status_of(compiler.id(), "VmData:").expect("it waits for a rule");
    compiler.kill().expect("it is there");
    compiler.wait().expect("it ends");
    assert!(mapped < 128 << 10, "{mapped} KiB");
}

/// The processes of this one that compile.
fn running_compilers() -> impl Iterator<Item = PathBuf> {
    let own = u64::from(std::process::id());
    let processes = std::fs::read_dir("/proc").expect("Linux has it").flatten();
    processes.map(|process| process.path()).filter(move |path| {
        let id = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        let arguments = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        arguments.contains("compile-rules") && id.and_then(|id| status_of(id, "PPid:")) == Some(own)
    })
}

fn rules_in_a_long_chain_are_compiled_once() {
    within(async || {
        let mut took = Vec::new();
        for count in [1_000, 4_000] {
            let home = Home::new().await;
            // Each stands on the one before it, and on the three before that.
            let rule = |at: usize| match at {
                0 => "rule R0 { condition: true }\n".to_owned(),
                at => {
                    let needed: Vec<String> =
                        (at.saturating_sub(4)..at).map(|at| format!("R{at}")).collect();
                    format!("rule R{at} {{ condition: {} }}\n", needed.join(" and "))
                }
            };
            // The last ones first, so that each is needed before it is read.
            let text: String = (0..count).rev().map(rule).collect();
            let started = Instant::now();
            let report = home.rules(&[("yara/chain.yar", &text)]).await;
            took.push(started.elapsed());
            let expected = json!({"compiled": count, "left": 0, "broken": 0});
            assert_eq!(report.detail["rules"], expected, "{report:?}");
            let stored = home.stored().await;
            assert_eq!(stored["R0"]["verdict"], "compiles");
            assert!(
                stored
                    .iter()
                    .all(|(name, rule)| name == "R0" || rule["verdict"] == "compiles_with_rules")
            );
        }
        assert!(took[1] < took[0] * 8, "{took:?}");
    });
}
