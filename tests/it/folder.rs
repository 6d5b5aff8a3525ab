//! The folder of the embedded store: what is left in it when a command has ended, and copies of it made during writes.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection as _, SqliteConnection};

use crate::commands::{INVOKE, post, serve, timetable};
use crate::home::{ALL, CLOCK, Home, Upstream, eventually_within, numbered};

/// Every trial with its name, for the main of the tests.
macro_rules! trials {
    ($($name:ident)*) => {
        pub(crate) const TRIALS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

trials! {
    what_a_command_stored_is_in_the_databases_when_it_has_ended
    what_a_server_stored_is_in_the_databases_when_it_was_told_to_end
    a_copy_made_during_writes_is_a_store_that_ends_like_an_undisturbed_one
    a_backup_says_what_it_copied_and_refuses_what_it_cannot
}

const DATABASES: [&str; 2] = ["documents.db", "state.db"];

/// Nothing is left in a log, and the databases alone hold everything.
#[track_caller]
fn is_closed(home: &Home, folder: &Path, documents: &str) {
    let alone = home.path("alone");
    fs::create_dir_all(&alone).unwrap();
    for name in DATABASES {
        let log = fs::metadata(folder.join(format!("{name}-wal"))).map_or(0, |log| log.len());
        assert_eq!(log, 0, "{name}");
        fs::copy(folder.join(name), alone.join(name)).unwrap();
    }
    let runs = |folder: &Path| in_folder(home, folder, &["runs", "--json"]);
    assert_eq!(in_folder(home, &alone, &["documents", "rss_articles"]), documents);
    assert_eq!(runs(&alone), runs(folder));
    assert_ne!(runs(&alone).trim(), "[]");
    fs::remove_dir_all(alone).unwrap();
}

/// What a command says of another folder than the home's.
#[track_caller]
fn in_folder(home: &Home, folder: &Path, arguments: &[&str]) -> String {
    let arguments = [&["--data-dir", folder.to_str().unwrap()], arguments].concat();
    home.run(&arguments).ends_with(0).out.clone()
}

fn what_a_command_stored_is_in_the_databases_when_it_has_ended() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 40)))]);
    assert_eq!(home.report(&[ALL])["new"], 40);
    // Before anything else opens the store.
    let size = fs::metadata(home.path("data/documents.db")).unwrap().len();
    assert!(size > 40 * 1_024, "{size}");
    let documents = home.documents();
    is_closed(&home, &home.path("data"), &documents);

    let demo = home.path("demo");
    in_folder(&home, &demo, &["demo", "--exit"]);
    let size = fs::metadata(demo.join("documents.db")).unwrap().len();
    assert!(size > 40 * 1_024, "{size}");
    let documents = in_folder(&home, &demo, &["documents", "rss_articles"]);
    is_closed(&home, &demo, &documents);
}

fn what_a_server_stored_is_in_the_databases_when_it_was_told_to_end() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 40)))]);
    let (mut server, address, _lines) = serve(&home, &timetable(&home, ""));
    let (status, body) = post(&address, INVOKE, "", "{}");
    assert_eq!(status, 200, "{body}");
    server.terminate();
    let ended = server.ended_within(Duration::from_secs(10));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    for name in DATABASES {
        let log = home.path(&format!("data/{name}-wal"));
        assert_eq!(fs::metadata(log).map_or(0, |log| log.len()), 0, "{name}");
    }
    let documents = home.documents();
    assert_eq!(documents.lines().count(), 40);
    is_closed(&home, &home.path("data"), &documents);
}

fn a_copy_made_during_writes_is_a_store_that_ends_like_an_undisturbed_one() {
    const SOURCES: usize = 16;
    const COPIES: usize = 6;
    let upstream = Upstream::start(8);
    let names: Vec<String> = (0..SOURCES).map(|number| format!("s{number:02}")).collect();
    let sources: Vec<(&str, String)> = names
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let wait = Duration::from_millis(60 * u64::try_from(number).unwrap());
            (name.as_str(), upstream.slow(name, wait, numbered(number, 60)))
        })
        .collect();
    let home = Home::of(&sources);
    let undisturbed = home.path("undisturbed");
    let run = ["run", ALL, "--json", "--clock", CLOCK];
    in_folder(&home, &undisturbed, &run);
    let expected = in_folder(&home, &undisturbed, &["documents", "rss_articles"]);
    assert_eq!(expected.lines().count(), SOURCES * 60);

    let mut running = home.spawn(&run);
    let documents = home.path("data/documents.db");
    assert!(eventually_within(Duration::from_secs(20), || documents.exists()));
    let copy = |number: usize| home.path(&format!("copy-{number}"));
    let mut copies = 0;
    while copies < COPIES && running.ended_within(Duration::from_millis(50)).is_none() {
        in_folder(&home, &home.path("data"), &["backup", copy(copies).to_str().unwrap()]);
        copies += 1;
    }
    let ran = running.end();
    let report = ran.ends_with(0).json();
    assert_eq!(report["new"], SOURCES * 60, "it was not disturbed: {report}");

    let mut unfinished = 0;
    for copy in (0..copies).map(copy) {
        for name in DATABASES {
            assert_eq!(integrity(&copy.join(name)), "ok", "{name} in {}", copy.display());
        }
        let before = in_folder(&home, &copy, &["documents", "rss_articles"]).lines().count();
        unfinished += usize::from(before < SOURCES * 60);
        let report: Value = serde_json::from_str(&in_folder(&home, &copy, &run)).unwrap();
        // A cursor stands for documents that are there: what is missing is found, and only that.
        assert_eq!(report["new"], SOURCES * 60 - before, "{report}");
        assert_eq!(in_folder(&home, &copy, &["documents", "rss_articles"]), expected);
    }
    assert!(unfinished > 1, "copies during the run: {unfinished} of {copies}");
}

/// What SQLite says of a whole database.
fn integrity(path: &Path) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite://{}", path.display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        let (says,): (String,) =
            sqlx::query_as("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        says
    })
}

fn a_backup_says_what_it_copied_and_refuses_what_it_cannot() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 3)))]);
    home.run(&["backup", "copy"]).ends_with(2).says(&["documents.db", "MINERVA_DATA_DIR"]);
    home.report(&[ALL]);
    let told = home.run(&["backup", "copy", "--json"]).ends_with(0).json();
    let files = told["files"].as_array().unwrap();
    let mut names: Vec<&str> = files.iter().map(|file| file["file"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, DATABASES);
    for file in files {
        let path = home.path("copy").join(file["file"].as_str().unwrap());
        assert_eq!(file["bytes"], fs::metadata(path).unwrap().len());
    }
    assert_eq!(fs::read_dir(home.path("copy")).unwrap().count(), 2, "nothing else is left there");
    home.run(&["backup", "copy"]).ends_with(2).says(&["not empty"]);
    home.run(&["backup", "data"]).ends_with(2).says(&["not empty"]);
    let shown = home.run(&["backup", "second"]).ends_with(0).out.clone();
    assert!(shown.contains("documents.db") && shown.contains("--data-dir second"), "{shown}");

    let with = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    home.run_with(&with("ES_URL", "http://127.0.0.1:9"), &["backup", "third"])
        .ends_with(2)
        .says(&["`ES_URL`", "documents", "snapshot"]);
    home.run_with(&with("DATABASE_URL", "postgresql://127.0.0.1:9/x"), &["backup", "third"])
        .ends_with(2)
        .says(&["`DATABASE_URL`", "state", "pg_dump"]);
    assert!(!home.path("third").exists());
}
