//! `s3://` for `MALPEDIA_DIR`, against `moto_server`, a server that speaks S3 and looks at keys, installed from PyPI when it
//! is not there.

use local_runner::families::declared;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base::Class;
use base::report::{Report, Status};
use serde_json::{Value, json};
use stores::documents::{Document, Index};
use task::files::Files;
use task::testing::TestHome;

use crate::documents::block_on;
use crate::documents::cache;
use crate::home::Home;
use crate::malpedia::task;
use crate::malpedia_catalogue::{actor, family, write};
use crate::misp_export;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("a_folder_and_a_bucket_give_the_same", a_folder_and_a_bucket_give_the_same),
    ("a_wrong_key_and_a_missing_bucket_are_named", a_wrong_key_and_a_missing_bucket_are_named),
    ("the_runner_hands_its_functions_the_keys", the_runner_hands_its_functions_the_keys),
    ("pulses_become_a_feed_in_a_bucket", pulses_become_a_feed_in_a_bucket),
];

/// What the server comes from, with the version that was tried.
const PACKAGE: &str = "moto[server,s3]==5.2.5";

const INDICES: [&str; 3] = ["malpedia_families", "malpedia_actors", "cti_yara_rules"];

/// The folder of the server's Python, or why there is none.
fn programs() -> Result<PathBuf, String> {
    tests::pypi::programs(cache(), &[PACKAGE])
}

/// Why these tests cannot run here, if they cannot.
pub(crate) fn unavailable() -> Option<String> {
    programs().err()
}

/// A server with the bucket `intel`; it ends with its input, however the test ends.
struct Bucket {
    process: Child,
    endpoint: String,
    id: String,
    secret: String,
}

impl Bucket {
    /// One that holds a folder's files.
    fn of(folder: &Path) -> Self {
        let python = programs().expect("this test is skipped where there is none").join("python");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/bucket.py");
        let mut process = Command::new(python)
            .arg(script)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let out = process.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("it tells where it is");
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        let text = |name: &str| told[name].as_str().expect("it is told").to_owned();
        Self { endpoint: text("endpoint"), id: text("id"), secret: text("secret"), process }
    }

    fn settings(&self) -> Vec<(String, String)> {
        [
            ("MALPEDIA_DIR", "s3://intel/malpedia"),
            ("AWS_ENDPOINT_URL_S3", &self.endpoint),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", &self.id),
            ("AWS_SECRET_ACCESS_KEY", &self.secret),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Files of every shape, and with names that an address must escape.
fn folder() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a folder");
    let (families, actors) =
        (place.path().join("families_enriched"), place.path().join("actors_enriched"));
    for n in 0..20 {
        let name = ["family", "família [x]", "100%20 of+", "a#b&c?d=~"][n % 4];
        write(&families, &format!("{name} {n}.json"), &family(n));
    }
    for n in 0..5 {
        write(&actors, &format!("Actor «{n}».json"), &actor(n));
    }
    write(&families, "broken.json", "{\"name\": oops}");
    write(&families, ".hidden.json", "{");
    write(&families, "notes.txt", "no family");
    write(&families.join("deeper"), "win.no.json", r#"{"name": "win.no"}"#);
    place
}

async fn home(mut settings: Vec<(String, String)>) -> TestHome {
    settings.push(("MINERVA_CLOCK".to_owned(), "2026-11-23T12:00:00Z".to_owned()));
    TestHome::open(tempfile::tempdir().expect("a folder"), &settings, &declared())
        .await
        .expect("it opens")
}

async fn run(home: &TestHome, name: &str) -> Report {
    home.run(task(name), Value::Null).await
}

async fn everything(home: &TestHome) -> Vec<Document> {
    let mut all = Vec::new();
    for name in INDICES {
        let index = Index::named(name).expect("it is there");
        all.extend(home.documents(index).await.expect("it is read"));
    }
    all
}

/// What a report says beside times.
fn said(report: &Report) -> Value {
    let mut value = json!(report);
    for source in value["sources"].as_array_mut().expect("a list") {
        source.as_object_mut().expect("an object").remove("took_ms");
    }
    json!([
        value["status"],
        report.counts,
        value["sources"],
        value["rejects"],
        value["detail"],
        value["error"],
    ])
}

fn a_folder_and_a_bucket_give_the_same() {
    let files = folder();
    let bucket = Bucket::of(files.path());
    block_on(async {
        let place = files.path().to_string_lossy().into_owned();
        let from_folder = home(vec![("MALPEDIA_DIR".to_owned(), place)]).await;
        let from_bucket = home(bucket.settings()).await;
        for round in 0..2 {
            let ours = run(&from_folder, "sync_malpedia_all_to_es").await;
            let theirs = run(&from_bucket, "sync_malpedia_all_to_es").await;
            assert_eq!(said(&theirs), said(&ours), "round {round}");
            // 20 families with a rule each other time, a file that is none, and 5 actors.
            assert_eq!(
                (theirs.status, theirs.counts.rejected),
                (Status::Complete, 1),
                "{theirs:?}"
            );
            let counts = theirs.sources.iter().map(|source| {
                let counts = source.counts;
                (source.source.as_str(), counts.found, counts.new, counts.unchanged)
            });
            assert_eq!(
                counts.collect::<Vec<_>>(),
                if round == 0 {
                    [("families", 21, 20, 0), ("rules", 10, 10, 0), ("actors", 5, 5, 0)]
                } else {
                    [("families", 21, 0, 20), ("rules", 10, 0, 10), ("actors", 5, 0, 5)]
                },
                "{theirs:?}"
            );
            assert!(!format!("{theirs:?}").contains(&bucket.secret));
        }
        let (ours, theirs) = (everything(&from_folder).await, everything(&from_bucket).await);
        assert_eq!((ours.len(), &theirs), (35, &ours));
    });
}

fn a_wrong_key_and_a_missing_bucket_are_named() {
    let files = folder();
    let bucket = Bucket::of(files.path());
    block_on(async {
        for (name, value, says) in [
            ("AWS_ACCESS_KEY_ID", "AKIAWRONG", "AWS_…"),
            ("AWS_SECRET_ACCESS_KEY", "not-the-secret", "AWS_…"),
            ("MALPEDIA_DIR", "s3://no-such-bucket/malpedia", "the bucket's name"),
            ("MALPEDIA_DIR", "s3://intel/no/such/prefix", "MALPEDIA_DIR"),
        ] {
            let mut settings = bucket.settings();
            settings.retain(|(known, _)| known != name);
            settings.push((name.to_owned(), value.to_owned()));
            let home = home(settings).await;
            let report = run(&home, "sync_malpedia_families_to_es").await;
            let problem = report.error.clone().unwrap_or_else(|| panic!("{name}: {report:?}"));
            assert_eq!(problem.class, Class::Config, "{name}: {problem:?}");
            assert!(problem.message.contains("s3://"), "{name}: {problem:?}");
            let hint = problem.hint.unwrap_or_else(|| panic!("{name}: {report:?}"));
            assert!(hint.contains(says), "{name}: {hint}");
            for secret in [bucket.secret.as_str(), "not-the-secret"] {
                assert!(!format!("{report:?}{}", json!(report)).contains(secret), "{name}");
            }
            assert!(everything(&home).await.is_empty());
        }
    });
}

fn the_runner_hands_its_functions_the_keys() {
    let files = folder();
    let bucket = Bucket::of(files.path());
    let home = bucket
        .settings()
        .into_iter()
        .fold(Home::of(&[]), |home, (name, value)| home.with(&name, value));
    let ran = home.run(&["run", "--json", "sync_malpedia_families_to_es"]);
    assert_eq!(ran.ends_with(0).json()["sources"][0]["new"], 20, "{ran:?}");
    assert!(!format!("{}{}", ran.out, ran.err).contains(&bucket.secret));
    let refused = home.with("AWS_SECRET_ACCESS_KEY", "not-the-secret");
    let ran = refused.run(&["run", "--json", "sync_malpedia_families_to_es"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("AWS_…"), "{ran:?}");
    for secret in [bucket.secret.as_str(), "not-the-secret"] {
        assert!(!format!("{}{}", ran.out, ran.err).contains(secret), "{ran:?}");
    }
}

fn pulses_become_a_feed_in_a_bucket() {
    let files = folder();
    let bucket = Bucket::of(files.path());
    let mut settings = bucket.settings();
    settings.retain(|(name, _)| name != "MALPEDIA_DIR");
    settings.push(("MISP_EXPORT".to_owned(), "s3://intel/feeds/otx".to_owned()));
    let home = settings
        .iter()
        .fold(misp_export::home(None, false), |home, (name, value)| home.with(name, value));
    let one = |tlp: &str| misp_export::a_pulse(1, json!({"tlp": tlp}), &[("domain", "evil.com")]);
    let other = misp_export::a_pulse(2, json!({}), &[("domain", "other.com")]);
    misp_export::sync(&home, &[one("green"), other]);
    let listed = || {
        block_on(async {
            let reader = self::home(settings.clone()).await;
            let files = Files::at("s3://intel/feeds", &reader.home.config).expect("a bucket");
            let found = files.list("otx").await.expect("it is listed");
            found.into_iter().map(|file| file.name).collect::<Vec<_>>()
        })
    };
    for changed in [2, 0] {
        let report = home.report(&["export_pulses_to_misp"]);
        assert_eq!(report["changed"], changed, "{report}");
        assert_eq!(listed().len(), 4, "two events and what lists them: {:?}", listed());
    }
    misp_export::sync(&home, &[one("red")]);
    let report = home.report(&["export_pulses_to_misp"]);
    assert_eq!(listed().len(), 3, "the red one is gone: {:?} {report}", listed());
    let refused = home.with("AWS_SECRET_ACCESS_KEY", "not-the-secret");
    let report = refused.report(&["export_pulses_to_misp"]).to_string();
    assert!(
        report.contains("s3://intel/feeds/otx") && !report.contains("not-the-secret"),
        "{report}"
    );
}
