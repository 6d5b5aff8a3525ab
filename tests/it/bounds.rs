//! The bounds of a visit and of a run, on the example family: what one source costs its run, and how much of it is stored.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base::clock::Deadline;
use base::report::{Outcome, Report, SourceReport, Status};
use local_runner::families::{all_tasks, declared};
use serde_json::{Value, json};
use stores::documents::{Index, Query};
use task::Registered;
use task::function::invoke;
use task::testing::{TestHome, Upstream};
use tempfile::TempDir;
use tests::example::{FAMILY, ITEMS_MAX, PARSING, PULSES};
use uuid::Uuid;

use crate::documents::block_on;
use crate::home::{ALL, Home};
use crate::yara::tarball_of;

pub(crate) const TRIALS: &[crate::Case] = &[
    (
        "a_parser_that_brings_nothing_is_cut_off_and_gets_no_continuation",
        a_parser_that_brings_nothing_is_cut_off,
    ),
    ("every_parser_stops_with_its_run", every_parser_stops_with_its_run),
    (
        "a_source_that_begins_late_gets_one_whole_step",
        a_source_that_begins_late_gets_one_whole_step,
    ),
    ("a_store_of_before_is_filled_again_by_every_source", a_store_of_before_is_filled_again),
    ("no_secret_of_an_address_is_shown_or_kept", no_secret_of_an_address),
    ("beyond_the_limit_of_a_visit_the_rest_is_counted_and_told", beyond_the_limit_of_a_visit),
];

/// Time that a run gets; a second of it is kept back.
const RUN: Duration = Duration::from_secs(3);

async fn home(upstream: &Upstream) -> TestHome {
    reopened(upstream, tempfile::tempdir().expect("a folder")).await
}

fn task(name: &str) -> &'static Registered {
    FAMILY.tasks.iter().find(|task| task.name == name).expect("it is listed")
}

fn source<'r>(report: &'r Report, id: &str) -> &'r SourceReport {
    report.sources.iter().find(|source| source.source == id).expect("it is reported")
}

/// Its thread ends with its time, and it is named; its neighbour is stored, and nothing is left to a continuation.
fn a_parser_that_brings_nothing_is_cut_off() {
    block_on(async {
        let upstream = Upstream::start().await;
        upstream.put("/costly", "c");
        upstream.put("/neighbour", "n");
        let home = home(&upstream).await;
        let report = home.run_within(task("read_costly"), Value::Null, RUN).await;
        let costly = source(&report, "costly");
        assert_eq!(costly.outcome, Outcome::TooCostly, "{report:?}");
        assert_eq!(source(&report, "neighbour").outcome, Outcome::Stored, "{report:?}");
        assert_eq!((report.status, report.counts.new), (Status::Partial, 1));
        assert_eq!((report.continues, home.continuations().len()), (None, 0));
        wait_for_no_parser().await;
        // The next run leaves it alone for a day.
        let report = home.run_within(task("read_costly"), Value::Null, RUN).await;
        assert_eq!(source(&report, "costly").outcome, Outcome::Waiting, "{report:?}");
        assert_eq!(upstream.requests().iter().filter(|path| *path == "/costly").count(), 1);
        let state = home.home.state.source("example/costly").await.expect("its state");
        assert_eq!((state.failures, state.last_outcome.as_deref()), (1, Some("too_costly")));
    });
}

async fn wait_for_no_parser() {
    for _ in 0..500 {
        if PARSING.load(Ordering::SeqCst) == 0 {
            return;
        }
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(20)))
            .await
            .expect("it sleeps");
    }
    panic!("{} parsers run on", PARSING.load(Ordering::SeqCst));
}

/// How long a parser may go on when the run is over: one file of a tarball, or a batch.
const STOPS: Duration = Duration::from_secs(3);

/// Threads that read for a family end with the run: a runtime that is dropped waits for them.
fn every_parser_stops_with_its_run() {
    let tarball = |folder: &str, name: &str, text: &str| {
        let files: Vec<String> = (0..40).map(|number| format!("{folder}/{number}{name}")).collect();
        let text = text.repeat((1 << 20) / text.len());
        let files: Vec<_> = files.iter().map(|file| (file.as_str(), text.as_str())).collect();
        tarball_of(&files)
    };
    let records = (0..1_500_000).map(|number| format!("\"f{number}\":7,")).collect::<String>();
    let item =
        "<item><guid>№</guid><description>&lt;a href='https://e.org/'&gt;x</description></item>";
    let items: String = (0..200_000).map(|at| item.replace('№', &at.to_string())).collect();
    let feed = format!("<rss version='2.0'><channel><title>T</title>{items}</channel></rss>");
    let base = ("SIGNATURE_BASE_URL", "s.tar.gz", "/s.tar.gz");
    let api = |path| ("MALPEDIA_URL", "", path);
    for (name, (setting, rest, path), body) in [
        ("sync_signature_base_yara", base, tarball("yara", ".yar", "rule a { condition: true\n")),
        ("sync_signature_base_iocs", base, tarball("iocs", "hash.txt", "no hash;and why\n")),
        (
            "sync_malpedia_families_to_es",
            api("/api/get/families"),
            format!("{{{records}\"z\":7}}").into_bytes(),
        ),
        ("sync_malpedia_library_rss", api("/feeds/rss/latest"), feed.into_bytes()),
    ] {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let ended = runtime.block_on(async {
            let upstream = Upstream::start().await;
            upstream.put(path, body);
            upstream.put("/api/get/version", r#"{"version":1}"#);
            upstream.put("/api/get/yara/after/1970-01-01", "{}");
            let settings = [(setting.to_owned(), format!("{}/{rest}", upstream.origin()))];
            let folder = tempfile::tempdir().expect("a folder");
            let home = TestHome::open(folder, &settings, &declared()).await.expect("it opens");
            let (_, task) = all_tasks().find(|(_, task)| task.name == name).expect("it is listed");
            let report = home.run_within(task, Value::Null, RUN).await;
            assert!(upstream.requests().iter().any(|asked| asked == path), "{report:?}");
            assert_ne!(report.status, Status::Complete, "time ran out on it: {report:?}");
            Instant::now()
        });
        drop(runtime);
        let took = ended.elapsed();
        assert!(took < STOPS, "{name}: its parser went on for {took:?}");
    }
}

/// It was left little time, so a continuation reads it once more, and no other one does.
fn a_source_that_begins_late_gets_one_whole_step() {
    block_on(async {
        let upstream = Upstream::start().await;
        upstream.put("/costly", "c");
        upstream.put("/neighbour", "n");
        let home = home(&upstream).await;
        let first = home.run_within(task("read_costly"), json!({"first_ms": 1_400}), RUN).await;
        assert_eq!(source(&first, "costly").outcome, Outcome::Deferred, "{first:?}");
        let sent = home.continuations();
        let [next] = &sent[..] else { panic!("{sent:?}") };
        let event = serde_json::to_value(next).expect("it is JSON");
        let event = json!({"source": "minerva", "detail-type": "Minerva Task Continuation", "detail": event});
        let second = home.run_within(task("read_costly"), event, RUN).await;
        assert_eq!(source(&second, "costly").outcome, Outcome::TooCostly, "{second:?}");
        assert_eq!((second.continues, home.continuations().len()), (None, 1));
        assert_eq!(upstream.requests().iter().filter(|path| *path == "/costly").count(), 2);
        wait_for_no_parser().await;
    });
}

/// What came within the limit is stored, and so is an item that one of its fields does not take; all of it is told.
fn beyond_the_limit_of_a_visit() {
    block_on(async {
        let upstream = Upstream::start().await;
        upstream.put("/endless", (3 * ITEMS_MAX).to_string());
        let home = home(&upstream).await;
        let report = home.run(task("read_endless"), Value::Null).await;
        let endless = source(&report, "endless");
        assert_eq!(
            (report.status, endless.outcome),
            (Status::Complete, Outcome::Stored),
            "{report:?}"
        );
        let counts = endless.counts;
        assert_eq!(
            (counts.found, counts.new, counts.filtered),
            (3 * ITEMS_MAX, ITEMS_MAX, 2 * ITEMS_MAX)
        );
        let notes = endless.notes.join("\n");
        for told in [
            "the last 2000 items are not stored",
            "1000 items",
            "`name` was longer",
            "`active` had a value of another type",
        ] {
            assert!(notes.contains(told), "{notes}");
        }
        let index = Index::named(PULSES).expect("it is there");
        let there = home.home.documents.count(index, &Query::default()).await.expect("it counts");
        assert_eq!(there, ITEMS_MAX);
        let again = home.run(task("read_endless"), Value::Null).await;
        assert_eq!(source(&again, "endless").outcome, Outcome::NotModified, "{again:?}");
    });
}

/// What stands in addresses of sources and of where they lead.
const SECRETS: [&str; 4] =
    ["pa55-of-a-source", "k3y-of-a-source", "pa55-of-a-target", "t0ken-of-a-target"];

/// After runs of sources that answer, move, fail and send something else, with logs at their fullest and the archive on, no
/// output and no file holds a secret of an address but the list of sources.
fn no_secret_of_an_address() {
    let upstream = crate::home::Upstream::start(1);
    let login = |url: &str, login: &str| url.replacen("http://", &format!("http://{login}@"), 1);
    let ours = |url: &str| login(url, "ana:pa55-of-a-source");
    let key = "api_key=k3y-of-a-source";
    let item = |number| {
        format!(
            "<item><guid>{number}</guid><title>Item {number}</title><link>/item/{number}</link></item>"
        )
    };
    let feed = format!(
        "<rss version='2.0'><channel><title>T</title>{}{}</channel></rss>",
        item(1),
        item(2)
    );
    let good = upstream.tagged(&format!("good?{key}"), "one", feed.clone());
    let target = upstream.tagged("target?token=t0ken-of-a-target", "two", feed);
    let to = format!("location: {}\r\n", login(&target, "bob:pa55-of-a-target"));
    let moved = upstream.status(&format!("moved?{key}"), "301 Moved Permanently", &to);
    let broken = upstream.status(&format!("broken?{key}"), "500 Internal Server Error", "");
    let page = upstream.body(&format!("page?{key}"), "<!DOCTYPE html><html><title>x</title>");
    let echo = upstream.serve(&format!("echo?{key}"), |asked, stream| {
        let body = format!("<!DOCTYPE html><html><title>{}</title>", asked.header);
        crate::home::respond(stream, "200 OK", "", body.as_bytes());
    });
    let sources =
        [("good", good), ("moved", moved), ("broken", broken), ("page", page), ("echo", echo)];
    let home = Home::of(&sources.map(|(id, url)| (id, ours(&url)))).with("MINERVA_LOG", "trace");
    let archive = home.path("archive");
    let home = home.with("MINERVA_ARCHIVE", archive.to_str().expect("a path"));

    let check = |what: &str, bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        for secret in SECRETS {
            if let Some(place) = text.find(secret) {
                let start = text.floor_char_boundary(place.saturating_sub(80));
                panic!("{what} shows `{secret}` behind `{}`", &text[start..place]);
            }
        }
    };
    for arguments in [
        &["run", ALL, "--json", "-v"][..],
        &["run", ALL, "-v"],
        &["runs", "--json"],
        &["sources", "list"],
        &["sources", "list", "--json"],
        &["sources", "test", "good", "-v"],
        &["sources", "test", "page", "-v"],
        &["sources", "rejects", "echo"],
        &["doctor", "-v"],
        &["search", "item", "--json", "-v"],
        &["documents", "rss_articles"],
    ] {
        let ran = home.run(arguments);
        check(&format!("{arguments:?}"), format!("{}{}", ran.out, ran.err).as_bytes());
    }
    let articles = home.articles();
    assert_eq!(articles.len(), 4, "both feeds are stored");
    let link = articles[0]["link"].as_str().expect("a link");
    assert!(
        link.starts_with("http://127.0.0.1:"),
        "resolved against an address without login: {link}"
    );
    let mut files = 0;
    for folder in ["data", "archive"] {
        for path in files_below(&home.path(folder)) {
            check(&path.display().to_string(), &std::fs::read(&path).expect("it is read"));
            files += 1;
        }
    }
    assert!(files > 6, "databases and archived answers: {files}");
    let reparsed = home.run(&["reparse", ALL, "--json"]);
    check("reparse", format!("{}{}", reparsed.out, reparsed.err).as_bytes());
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

/// The documents are brought back as they were before either of two sources was read. The first that is read again writes so
/// much that the store looks as far as it was; the second learns of the loss all the same.
fn a_store_of_before_is_filled_again() {
    block_on(async {
        let upstream = Upstream::start().await;
        upstream.put("/one", "200");
        upstream.put("/other", "20");
        upstream.put("/before", "5");
        let run = async |home: &TestHome, name: &str| {
            // A request of its own, also in a process of its own.
            let (request, end) =
                (Uuid::new_v4().to_string(), Deadline::after(Duration::from_secs(60)));
            let input = json!({"name": name});
            let report =
                Box::pin(invoke(&home.home, task("read_endless"), input, &request, end)).await;
            assert_eq!(report.status, Status::Complete, "{report:?}");
            (source(&report, name).outcome, report.counts.new)
        };
        let first = home(&upstream).await;
        assert_eq!(run(&first, "before").await, (Outcome::Stored, 5));
        let folder = closed(first).await;
        let older = tempfile::tempdir().expect("a folder");
        copy_documents(&folder.path().join("data"), older.path());
        let second = reopened(&upstream, folder).await;
        assert_eq!(run(&second, "other").await, (Outcome::Stored, 20));
        assert_eq!(run(&second, "one").await, (Outcome::Stored, 200));
        assert_eq!(run(&second, "other").await, (Outcome::NotModified, 0));
        let folder = closed(second).await;
        copy_documents(older.path(), &folder.path().join("data"));
        let third = reopened(&upstream, folder).await;
        assert_eq!(run(&third, "one").await, (Outcome::Stored, 200));
        assert_eq!(run(&third, "other").await, (Outcome::Stored, 20));
        for name in ["one", "other", "before"] {
            assert_ne!(run(&third, name).await.0, Outcome::Stored, "{name}");
        }
        let index = Index::named(PULSES).expect("it is there");
        let there = third.home.documents.count(index, &Query::default()).await.expect("it counts");
        assert_eq!(there, 225);
    });
}

/// What is left of a home when its process has ended.
async fn closed(home: TestHome) -> TempDir {
    let TestHome { home, folder, .. } = home;
    drop(home);
    let is_open = || {
        let files = std::fs::read_dir("/proc/self/fd").expect("Linux").flatten();
        files
            .flat_map(|file| std::fs::read_link(file.path()))
            .any(|file| file.starts_with(folder.path()))
    };
    while is_open() {
        tokio::task::yield_now().await;
    }
    folder
}

async fn reopened(upstream: &Upstream, folder: TempDir) -> TestHome {
    let settings = [("EXAMPLE_URL".to_owned(), format!("{}/", upstream.origin()))];
    TestHome::open(folder, &settings, &[FAMILY.settings]).await.expect("it opens")
}

/// Puts a copy of the documents in the place of others.
fn copy_documents(from: &Path, to: &Path) {
    for file in ["documents.db", "documents.db-wal", "documents.db-shm"] {
        let _ = std::fs::remove_file(to.join(file));
        if from.join(file).exists() {
            std::fs::copy(from.join(file), to.join(file)).expect("it is copied");
        }
    }
}
