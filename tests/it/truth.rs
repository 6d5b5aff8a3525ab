//! What the runner says of itself: exit codes and words, over every command where every command is meant.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use local_runner::families::all_tasks;
use serde_json::{Value, json};

use crate::commands::timetable;
use crate::home::{ALL, CLOCK, Home, Ran, Upstream, eventually_within, feed, numbered, raw};

/// Every trial with its name, for the main of the tests.
macro_rules! trials {
    ($($name:ident)*) => {
        pub(crate) const TRIALS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

trials! {
    a_wrong_setting_is_2_from_every_command
    a_store_that_is_unreachable_is_3_from_every_command_that_asks_it
    every_setting_has_a_wrong_value_that_the_doctor_names
    a_store_that_refuses_is_a_failure
    a_part_that_failed_is_a_failure_only_where_that_is_asked_for
    nothing_read_is_a_failure
    a_run_for_no_source_says_so
    the_doctor_names_the_worst_sources
    the_doctor_makes_nothing_unless_it_is_told_to
    the_doctor_asks_a_server_and_changes_nothing_there
    a_misspelled_name_and_a_wrong_line_are_found
    a_wide_open_network_is_told
    a_server_does_not_start_on_what_cannot_work
    a_network_that_is_down_is_one_sentence_and_no_sources_fault
    one_misspelled_host_is_its_sources_fault
    a_run_is_shown_whole_and_a_dead_one_is_not_running
    a_run_says_what_it_waits_for
    what_is_no_search_server_is_called_that
    what_a_server_says_begins_no_line
    a_password_in_an_address_is_never_shown
    the_data_is_its_owners_alone
    a_file_of_a_newer_version_or_a_damaged_one_is_told_by_name
    a_wait_that_was_set_under_a_wrong_clock_does_not_hold
    a_server_whose_clock_jumps_ahead_and_back_fires_again
}

/// A list of one feed, as other programs write it.
const OPML: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/opml/one.opml");

/// Every command with arguments that get it to its work; those of `--help` that are not here are run without any.
fn every_command() -> Vec<Vec<String>> {
    let home = Home::of(&[]);
    let names = |arguments: &[&str]| -> Vec<String> {
        let help = home.run(&[arguments, &["--help"]].concat()).ends_with(0).out.clone();
        let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let commands = commands.take_while(|line| line.starts_with("  "));
        let name = |line: &str| {
            let name = line.strip_prefix("  ")?.split(' ').next()?;
            (!name.is_empty() && name != "help").then(|| name.to_owned())
        };
        commands.filter_map(name).collect()
    };
    let known: &[&[&str]] = &[
        &["run", ALL],
        &["search", "x"],
        &["documents", "rss_articles"],
        &["lookup", "evil.com"],
        &["export", "--format", "text"],
        &["copy", "--from", "embedded", "--to", "servers"],
        &["backup", "copy"],
        &["dead-letters", "show", "a"],
        &["dead-letters", "retry", "--all"],
        &["replay", "--from", "2026-03-01", "--to", "2026-03-02"],
        &["completions", "bash"],
        &["man", "pages"],
        &["install", "--systemd", "--dry-run"],
        &["sources", "test", "a"],
        &["sources", "show", "a"],
        &["sources", "edit", "a", "--category", "news"],
        &["sources", "remove", "a"],
        &["sources", "import", OPML],
        &["sources", "add", "http://127.0.0.1:9/feed", "--untested"],
        &["sources", "enable", "a"],
        &["sources", "disable", "a"],
        &["sources", "retry", "rss/a"],
        &["yara", "export", "--to", "rules"],
        &["schedule", "next", "rate(1 hour)"],
        &["serve", "--port", "0"],
        &["demo", "--exit"],
        &["reparse", ALL],
        &["reindex", "--all"],
        &["adopt", "rss_articles"],
    ];
    let mut commands = Vec::new();
    for name in names(&[]) {
        let parts = names(&[&name]);
        let whole = match parts.is_empty() {
            true => vec![vec![name]],
            false => parts.into_iter().map(|part| vec![name.clone(), part]).collect(),
        };
        for one in whole {
            let is_it = |known: &&&[&str]| known.iter().zip(&one).all(|(a, b)| a == b);
            commands.push(match known.iter().find(is_it) {
                Some(known) => known.iter().map(ToString::to_string).collect(),
                None => one,
            });
        }
    }
    assert!(commands.len() >= 24, "{commands:?}");
    commands
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Everything that a command said.
fn said(ran: &Ran) -> String {
    format!("{}{}", ran.out, ran.err)
}

/// The message of an error in JSON: of a command, of a run's report, or of what `doctor` found.
#[track_caller]
fn message(ran: &Ran) -> String {
    let last = ran.out.lines().last().unwrap_or_default();
    let answer: Value = serde_json::from_str(&ran.out)
        .or_else(|_| serde_json::from_str(last))
        .unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    match answer.as_array() {
        Some(findings) => {
            let bad = findings.iter().filter(|finding| finding["ok"] == false);
            bad.map(|finding| finding["says"].as_str().unwrap()).collect::<Vec<_>>().join("; ")
        }
        None => answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{ran:?}")).to_owned(),
    }
}

/// A port at which nothing listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn a_wrong_setting_is_2_from_every_command() {
    for arguments in every_command() {
        let arguments = borrowed(&arguments);
        let home = Home::of(&[]).with("MINERVA_CLOCK", "noon").with("MINERVA_LOG", "loud");
        let ran = home.run(&arguments);
        ran.ends_with(2);
        let shown = said(&ran);
        for name in ["MINERVA_CLOCK", "`noon`", "MINERVA_LOG", "`loud`", "hint:"] {
            // A usage error comes before any setting, and only for commands that this test has no arguments for.
            assert!(
                shown.contains(name) || shown.contains("Usage:"),
                "{arguments:?}: {name}: {ran:?}"
            );
        }
        let ran = home.run(&[&arguments[..], &["--json"]].concat());
        let told = message(ran.ends_with(2));
        assert!(told.contains("`MINERVA_CLOCK`") || ran.err.contains("Usage:"), "{ran:?}");
        assert!(!home.path("data").exists(), "{arguments:?} made the folder");
    }
}

fn a_store_that_is_unreachable_is_3_from_every_command_that_asks_it() {
    let documents = format!("http://127.0.0.1:{}", closed_port());
    let state = format!("postgres://minerva:hunter2@127.0.0.1:{}/intel", closed_port());
    // Which part of the store a command asks; what asks none is not in the list.
    let asks = |arguments: &[String]| match arguments[0].as_str() {
        "sources" if arguments[1] == "overlap" => (true, false),
        "run" | "reparse" | "reindex" | "adopt" | "copy" | "serve" | "doctor" => (true, true),
        "search" | "lookup" | "export" | "documents" | "prune" | "yara" => (true, false),
        "runs" | "sources" | "status" | "active" | "slots" | "logs" | "dead-letters" => {
            (false, true)
        }
        _ => (false, false),
    };
    let upstream = Upstream::start(1);
    let url = upstream.body("a", numbered(0, 1));
    let mut trials = Vec::new();
    for arguments in every_command() {
        let (of_documents, of_state) = asks(&arguments);
        for (name, address, other, asked) in [
            ("ES_URL", &documents, None, of_documents),
            ("DATABASE_URL", &state, Some(("ES_URL", &documents)), of_state),
        ] {
            if asked {
                let other =
                    other.filter(|_| matches!(arguments[0].as_str(), "copy" | "reindex" | "adopt"));
                trials.push((
                    arguments.clone(),
                    name,
                    address.clone(),
                    other.map(|(n, a)| (n, a.clone())),
                    url.clone(),
                ));
            }
        }
    }
    assert!(trials.len() > 20, "{trials:?}");
    let threads = trials.into_iter().map(|(arguments, name, address, other, url)| {
        thread::spawn(move || {
            let archive = tempfile::tempdir().unwrap();
            let archive = archive.path().to_str().unwrap();
            let home = Home::of(&[("a", url)]).with("MINERVA_ARCHIVE", archive);
            let mut arguments = borrowed(&arguments);
            if arguments[0] == "copy" {
                // There is something to copy, and half of it where the other half has no server.
                home.run(&["doctor", "--create"]).ends_with(0);
                arguments.extend(match (name, &other) {
                    (_, Some(_)) => None,
                    ("ES_URL", None) => Some("--documents"),
                    _ => Some("--state"),
                });
            }
            arguments.push("--json");
            let settings: Vec<(String, String)> = [Some((name, address)), other]
                .into_iter()
                .flatten()
                .map(|(name, address)| (name.to_owned(), address))
                .collect();
            let ran = home.run_with(&settings, &arguments);
            assert_eq!(ran.code, Some(3), "{arguments:?} with {name}: {ran:?}");
            assert!(message(&ran).contains("127.0.0.1"), "{ran:?}");
            assert!(!said(&ran).contains("hunter2"), "{ran:?}");
        })
    });
    let threads: Vec<_> = threads.collect();
    let failed = threads.into_iter().filter_map(|thread| thread.join().err()).count();
    assert_eq!(failed, 0, "of the commands above");
}

/// A wrong value of each setting; of those without one, why.
fn wrong_values() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("DATABASE_URL", &["mysql://a@b/c", "localhost", "postgres://a:1/hunter2@b/c"][..]),
        ("MINERVA_DATA_DIR", &["s3://bucket/x", "/etc/passwd"]),
        ("MINERVA_DATA_MAX_MB", &["0", "much", "-1"]),
        ("ES_URL", &["localhost:9200", "es", "ftp://es", "http://u:1/hunter2@es", ","]),
        ("ES_USERNAME", &["elastic"]),
        ("ES_PASSWORD", &["hunter2"]),
        ("ES_API_KEY", &["hunter2 hunter2"]),
        ("ES_CA_CERT", &["/not/there.pem", "/etc/passwd", "/tmp"]),
        ("ES_INDEX_PREFIX", &["Minerva-", "_a", "a*"]),
        ("MINERVA_KEEP_DAYS", &["soon", "rss_article=3", "1,2"]),
        ("MINERVA_ARCHIVE", &["/etc/passwd", "s3://bucket/x"]),
        ("MINERVA_ARCHIVE_DAYS", &["soon", "0", "-3", "99999999"]),
        ("AWS_REGION", &["São Paulo", "sa east 1"]),
        ("AWS_ENDPOINT_URL_S3", &["127.0.0.1:5000", "s3"]),
        ("AWS_ENDPOINT_URL_SSM", &["127.0.0.1:5000", "ssm"]),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &["127.0.0.1:5000", "secrets"]),
        ("AWS_ACCESS_KEY_ID", &["AKIA"]),
        ("AWS_SECRET_ACCESS_KEY", &["hunter2"]),
        ("AWS_SESSION_TOKEN", &["hunter2 hunter2"]),
        ("MINERVA_ALLOW_NETS", &["10.*", "*", "10.0.0.0/33", "a b"]),
        ("HTTPS_PROXY", &["proxy:8080", "socks5://u:hunter2@p", "http://u:1/hunter2@p"]),
        ("WARNINGLISTS", &["/not/there", "/etc/passwd", "s3://bucket/x", "ftp://x"]),
        ("MINERVA_CONTACT", &["me", "the SOC team", "soc@exämple.org"]),
        ("MINERVA_CLOCK", &["noon", "2026-03-01"]),
        ("MINERVA_LOG", &["loud", "warning", "rss", "rss=loud", "info;rss=debug"]),
        ("ENRICH_INDICES", &["rss", "rss_articles,", "minerva-articles"]),
        ("ENRICH_LANGUAGE", &["pt", "english"]),
        ("ENRICH_FETCH", &["yes", "1", "True"]),
        ("MALPEDIA_URL", &["malpedia", "ftp://x"]),
        ("MALPEDIA_DIR", &["https://bucket/x", "s3://", "/etc/passwd", "/not/there"]),
        ("MALPEDIA_API_TOKEN", &["hunter2 hunter2"]),
        ("CAVEIRATECH_URL", &["caveiratech", "ftp://x"]),
        ("CAVEIRATECH_GAP_MS", &["-1", "a second"]),
        ("OTX_URL", &["otx", "ftp://x"]),
        ("OTX_API_KEY", &["hunter2 hunter2", "a,hunter2\thunter2"]),
        ("OTX_DAILY_LIMIT", &["-1", "many"]),
        ("MISP_FEEDS", &["/not/there.toml", "/tmp", "s3://bucket/x", "/etc/passwd"]),
        ("MISP_FEED_KEYS", &["hunter2", "=hunter2", "name="]),
        ("MISP_URL", &["misp", "ftp://x"]),
        ("MISP_KEY", &["hunter2 hunter2"]),
        ("MISP_EXPORT", &["https://bucket/x", "s3://", "/etc/passwd"]),
        ("MISP_DISTRIBUTION", &["4", "all"]),
        ("OTX_ENRICH_LIMIT", &["-1", "many"]),
        ("OTX_ENRICH_DAYS", &["-1", "a week"]),
        ("LLM_PROVIDER", &["opnai", "gpt"]),
        ("LLM_URL", &["localhost:8080", "ftp://x"]),
        ("LLM_API_KEY", &["hunter2 hunter2"]),
        ("LLM_DAILY_LIMIT", &["-1", "many"]),
        ("LLM_DAILY_TOKENS", &["-1", "2M"]),
        ("LLM_CONCURRENCY", &["0", "65"]),
        ("LLM_TIMEOUT_S", &["0", "601", "1m"]),
        ("LLM_PROMPT_PRICE", &["-1", "cheap", "inf"]),
        ("LLM_COMPLETION_PRICE", &["-1", "NaN"]),
        ("OPENAI_API_KEY", &["hunter2 hunter2"]),
        ("DATABRICKS_HOST", &["ftp://x", "a b"]),
        ("DATABRICKS_TOKEN", &["hunter2 hunter2"]),
        ("ANTHROPIC_API_KEY", &["hunter2 hunter2"]),
        ("RSS_SOURCES", &["/not/there.toml", "/tmp", "s3://bucket/x", "/etc/passwd"]),
        ("SIGNATURE_BASE_URL", &["github.com/x", "git@github.com:x"]),
        ("SIGNATURE_BASE_SCORE", &["101", "-1", "high"]),
        // Any text will do, or it is set by the platform alone.
        ("REDIS_URL", &[]),
        ("LLM_MODEL", &[]),
        ("OPENAI_MODEL", &[]),
        ("DATABRICKS_MODEL", &[]),
        ("ANTHROPIC_MODEL", &[]),
        ("MINERVA_REPARSE", &[]),
        ("MINERVA_RUNNER", &[]),
        ("MINERVA_WHEN", &[]),
        ("AWS_LAMBDA_FUNCTION_NAME", &[]),
        ("AWS_LAMBDA_LOG_STREAM_NAME", &[]),
    ])
}

fn every_setting_has_a_wrong_value_that_the_doctor_names() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 1)))]);
    home.run(&["doctor"]).ends_with(0);
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIG.md"));
    let text = text.unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let wrong_values = wrong_values();
    for (name, _) in names {
        let wrong =
            wrong_values.get(name).unwrap_or_else(|| panic!("`{name}` has no wrong value here"));
        for value in *wrong {
            let ran = home.run_with(&[(name.to_owned(), (*value).to_owned())], &["doctor"]);
            assert_eq!(ran.code, Some(2), "{name}={value}: {ran:?}");
            let shown = said(&ran);
            assert!(shown.contains('✗') && shown.contains("hint:"), "{name}={value}: {ran:?}");
            assert!(!shown.contains("hunter2"), "{name}: {ran:?}");
            // A list that cannot be read is named by its own path, a folder by the family's check.
            assert!(shown.contains(name) || shown.contains(value), "{name}={value}: {ran:?}");
        }
    }
}

fn a_store_that_refuses_is_a_failure() {
    let upstream = Upstream::start(1);
    let many: Vec<(String, String)> =
        (0..3_000).map(|n| (format!("n{n}"), format!("{n} {}", "x".repeat(700)))).collect();
    let many: Vec<_> = many.iter().map(|(id, title)| (id.as_str(), title.as_str(), None)).collect();
    let sources = [
        ("large", upstream.body("large", feed(&many))),
        ("small", upstream.tagged("small", "1", numbered(0, 1))),
    ];
    let home = Home::of(&sources).with("MINERVA_DATA_MAX_MB", "1");
    let specific = ["run", "collect_specific_sources", "--input", "{\"sources\":[\"small\"]}"];
    home.run(&specific).ends_with(0);
    // One of two is read and has nothing new; what came of the other finds no room.
    let ran = home.run(&["run", ALL, "--json"]);
    let report = ran.ends_with(1).json();
    assert_eq!(
        (&report["status"], &report["error"]["class"]),
        (&json!("failed"), &json!("store")),
        "{report}"
    );
    let outcome = |id: &str| {
        let sources = report["sources"].as_array().unwrap();
        sources.iter().find(|source| source["source"] == id).unwrap()["outcome"].clone()
    };
    assert_eq!((outcome("large"), outcome("small")), (json!("not_stored"), json!("not_modified")));
    let shown = home.run(&["run", ALL]).ends_with(1).out.clone();
    assert!(
        shown.contains("1 of 2 sources failed: the store did not take what 1 gave")
            && shown.contains("MINERVA_DATA_MAX_MB"),
        "{shown}"
    );
}

fn a_part_that_failed_is_a_failure_only_where_that_is_asked_for() {
    let upstream = Upstream::start(2);
    let sources = [
        ("bad", upstream.status("bad", "500 Internal Server Error", "")),
        ("good", upstream.tagged("good", "1", numbered(0, 1))),
    ];
    let home = Home::of(&sources);
    for (arguments, code) in [(vec!["run", ALL], 0), (vec!["run", ALL, "--strict"], 1)] {
        let ran = home.run(&arguments);
        let shown = ran.ends_with(code).out.clone();
        assert!(shown.contains("partial") && shown.contains("1 of 2 sources failed"), "{shown}");
    }
    let report = home.run(&["run", ALL, "--strict", "--json"]).ends_with(1).json();
    assert_eq!(report["status"], "partial", "{report}");
    upstream.tagged("bad", "1", numbered(1, 1));
    home.run(&["run", ALL, "--strict"]).ends_with(0);
    upstream.status("bad", "410 Gone", "");
    home.run(&["run", ALL]).ends_with(0);
    // It is not asked any more, and is missing all the same.
    home.run(&["run", ALL]).ends_with(0);
    home.run(&["run", ALL, "--strict"]).ends_with(1);
}

fn nothing_read_is_a_failure() {
    let upstream = Upstream::start(2);
    let sources = [
        ("a", upstream.status("a", "500 Internal Server Error", "")),
        ("b", upstream.status("b", "410 Gone", "")),
    ];
    let home = Home::of(&sources);
    for _ in 0..2 {
        let shown = home.run(&["run", ALL]).ends_with(1).out.clone();
        assert!(shown.contains("failed in") && shown.contains("sources"), "{shown}");
    }
    home.run(&["sources", "disable", "a"]).ends_with(0);
    let shown = home.run(&["run", ALL]).ends_with(1).out.clone();
    assert!(
        shown.contains("1 of 1 sources are gone for good") && shown.contains("hint:"),
        "{shown}"
    );
    // To be left alone is no failure: nothing was tried, for a reason that is said.
    let waits = upstream.status("c", "429 Too Many Requests", "retry-after: 3600\r\n");
    let home = Home::of(&[("c", waits)]);
    home.run(&["run", ALL]).ends_with(1);
    let shown = home.run(&["run", ALL]).ends_with(0).out.clone();
    assert!(shown.contains("skipped") && shown.contains("1 asked to be left alone"), "{shown}");
    let runs = home.run(&["runs"]).ends_with(0).out.clone();
    assert!(runs.contains("skipped"), "{runs}");
}

fn a_run_for_no_source_says_so() {
    let home = Home::of(&[]);
    let ran = home.run(&["run", ALL]);
    let shown = ran.ends_with(2).out.clone();
    assert!(
        shown.contains("sources of `rss`: there are none") && shown.contains("sources add"),
        "{shown}"
    );
    home.run(&["doctor"]).ends_with(2);
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 1)))]);
    home.run(&["sources", "disable", "a"]).ends_with(0);
    let report = home.run(&["run", ALL, "--json"]).ends_with(2).json();
    let error = &report["error"];
    assert!(error["message"].as_str().unwrap().contains("all 1 are disabled"), "{report}");
    assert!(error["hint"].as_str().unwrap().contains("sources enable"), "{report}");
    let shown = home.run(&["doctor"]).ends_with(2).out.clone();
    assert!(shown.contains("all 1 are disabled"), "{shown}");
    assert_eq!(upstream.asked("a"), 0);
}

fn the_doctor_names_the_worst_sources() {
    let upstream = Upstream::start(2);
    let dates = ["01", "02", "03", "04"].map(|hour| format!("Sun, 01 Feb 2026 {hour}:00:00 GMT"));
    let old: Vec<_> =
        dates.iter().map(|date| (&date[17..19], "Old news", Some(date.as_str()))).collect();
    let mut sources = vec![
        ("gone".to_owned(), upstream.status("gone", "410 Gone", "")),
        ("quiet".to_owned(), upstream.body("quiet", feed(&old))),
        ("well".to_owned(), upstream.body("well", numbered(0, 1))),
    ];
    for number in 0..4 {
        let id = format!("bad-{number}");
        let url = upstream.status(&id, "500 Internal Server Error", "");
        sources.push((id, url));
    }
    let sources: Vec<_> = sources.iter().map(|(id, url)| (id.as_str(), url.clone())).collect();
    // The silence of a source that was asked for less than two days says nothing.
    let home = Home::of(&sources).with("MINERVA_CLOCK", "2026-02-25T12:00:00Z");
    home.run(&["doctor"]).ends_with(0);
    home.run(&["run", ALL]);
    let home = home.with("MINERVA_CLOCK", CLOCK);
    let again = ["run", "collect_specific_sources", "--input", "{\"sources\":[\"bad-2\"]}"];
    home.run(&again).ends_with(1);
    let shown = home.run(&["doctor"]).ends_with(1).out.clone();
    let line = shown
        .lines()
        .find(|line| line.starts_with("✗ sources"))
        .unwrap_or_else(|| panic!("{shown}"));
    assert!(line.contains("4 failing, 1 quiet, 1 gone"), "{line}");
    let place = |words: &str| line.find(words).unwrap_or_else(|| panic!("{words}: {line}"));
    assert!(
        place("`rss/gone` is gone") < place("`rss/bad-2` failed 2 times: read `http"),
        "{line}"
    );
    assert!(line.contains("failed once") && !line.contains("rss/quiet"), "the worst three: {line}");
    assert!(shown.contains("sources list --health failing"), "{shown}");
    for id in ["gone", "bad-0", "bad-1", "bad-2", "bad-3"] {
        home.run(&["sources", "disable", id]).ends_with(0);
    }
    let shown = home.run(&["doctor"]).ends_with(1).out.clone();
    assert!(shown.contains("1 quiet") && shown.contains("nothing new since 2026-02-01"), "{shown}");
}

/// Every file below a folder with its size.
fn files(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map_while(Result::ok) {
            let about = entry.metadata().unwrap();
            if about.is_dir() {
                folders.push(entry.path());
            }
            found.push((
                entry.path().display().to_string(),
                if about.is_file() { about.len() } else { 0 },
            ));
        }
    }
    found.sort();
    found
}

fn the_doctor_makes_nothing_unless_it_is_told_to() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let archive = home.path("archive");
    let home = home.with("MINERVA_ARCHIVE", archive.to_str().unwrap());
    let folder = home.path("");
    let before = files(&folder);
    let shown = home.run(&["doctor"]).ends_with(0).out.clone();
    assert!(shown.contains("the first run makes it"), "{shown}");
    assert_eq!(files(&folder), before);
    home.report(&[ALL]);
    let before = files(&folder);
    let contents = |name: &str| std::fs::read(home.path("data").join(name)).unwrap();
    let databases = ["documents.db", "state.db"].map(contents);
    let shown = home.run(&["doctor"]).ends_with(0).out.clone();
    assert!(
        shown.contains("2 in rss_articles") && shown.contains("last run: collect_all_rss_feeds"),
        "{shown}"
    );
    assert_eq!(files(&folder), before);
    assert_eq!(["documents.db", "state.db"].map(contents), databases);

    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    home.run(&["doctor", "--create"]).ends_with(0);
    assert!(home.path("data/documents.db").exists() && home.path("data/state.db").exists());
    let shown = home.run(&["doctor"]).ends_with(0).out.clone();
    assert!(shown.contains("no document yet") && !shown.contains("not there yet"), "{shown}");
}

/// A server that answers every request alike; gives its address and what it was asked.
fn answering(
    status: &'static str,
    kind: &'static str,
    body: &'static str,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let url = raw(move |mut stream| {
        let mut request = Vec::new();
        let mut part = [0; 4096];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut part) {
                Ok(read @ 1..) => request.extend_from_slice(&part[..read]),
                _ => return,
            }
        }
        let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
        heard.lock().unwrap().push(line);
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    });
    (url, asked)
}

/// What a search server says of an index that is not there.
const NO_INDEX: &str =
    r#"{"error":{"type":"index_not_found_exception","reason":"no such index"},"status":404}"#;

fn the_doctor_asks_a_server_and_changes_nothing_there() {
    let (url, asked) = answering("404 Not Found", "application/json", NO_INDEX);
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 1)))]).with("ES_URL", url);
    let shown = home.run(&["doctor"]).ends_with(0).out.clone();
    assert!(shown.contains("✓ documents") && shown.contains("no document yet"), "{shown}");
    let asked = asked.lock().unwrap();
    assert!(!asked.is_empty() && asked.iter().all(|line| line.starts_with("GET ")), "{asked:?}");
}

fn a_misspelled_name_and_a_wrong_line_are_found() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 1)))]);
    let env = |text: &str| std::fs::write(home.path(".env"), text).unwrap();
    env(
        "# of the team\nES_ULR=http://es:9200\nexport MINERVA_DATADIR=x\nDATABSE_URL=x\nCOMPOSE_FILE=x\n",
    );
    let shown = home.run(&["doctor"]).ends_with(2).out.clone();
    for words in [
        "`ES_ULR` (line 2 of `.env`) is no setting: did you mean `ES_URL`?",
        "`MINERVA_DATADIR` (line 3 of `.env`) is no setting: did you mean `MINERVA_DATA_DIR`?",
        "`DATABSE_URL` (line 4 of `.env`) is no setting: did you mean `DATABASE_URL`?",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    // What is another program's is told and is no fault.
    env("COMPOSE_FILE=x\n");
    let shown = home.run(&["doctor"]).ends_with(0).out.clone();
    assert!(shown.contains("not read by this program: `COMPOSE_FILE` (line 1"), "{shown}");
    env("\nMINERVA_LOG=info\nMINERVA_ARCHIVE_DAYS=soon\n");
    let ran = home.run(&["runs"]);
    ran.ends_with(2).says(&["`MINERVA_ARCHIVE_DAYS` (line 3 of `.env`)"]);
    env("MINERVA_LOG=info\nES_PASSWORD='hunter2\n");
    let ran = home.run(&["doctor"]);
    let shown = said(ran.ends_with(2));
    assert!(
        shown.contains("line 2") && shown.contains("`ES_PASSWORD`") && !shown.contains("hunter2"),
        "{shown}"
    );
    env("");
    let misspelled = [("MINERVA_ALLOWNETS".to_owned(), "127.0.0.1".to_owned())];
    let ran = home.run_with(&misspelled, &["doctor"]);
    let shown = ran.ends_with(2).out.clone();
    assert!(
        shown.contains("`MINERVA_ALLOWNETS` (in the environment)")
            && shown.contains("`MINERVA_ALLOW_NETS`?"),
        "{shown}"
    );
}

fn a_wide_open_network_is_told() {
    let upstream = Upstream::start(1);
    let url = upstream.body("a", numbered(0, 1));
    for wide in ["0.0.0.0/0", "127.0.0.1,::/0", "0.0.0.0/1,128.0.0.0/1"] {
        let home = Home::of(&[("a", url.clone())]).with("MINERVA_ALLOW_NETS", wide);
        let shown = home.run(&["doctor"]).ends_with(2).out.clone();
        assert!(
            shown.contains("✗ network") && shown.contains("wider than any private network"),
            "{shown}"
        );
    }
    let home = Home::of(&[("a", url)]).with("MINERVA_ALLOW_NETS", "127.0.0.0/8,mirror.lan");
    let shown = home.run(&["doctor"]).ends_with(0).out.clone();
    assert!(
        shown.contains("excepted from the ban on private addresses: 127.0.0.0/8, mirror.lan"),
        "{shown}"
    );
}

fn a_server_does_not_start_on_what_cannot_work() {
    let upstream = Upstream::start(1);
    let url = upstream.status("a", "500 Internal Server Error", "");
    let home = || Home::of(&[("a", url.clone())]);
    let refused = |home: Home, code: i32, words: &[&str]| {
        let timetable = timetable(&home, "");
        let ran = home.run(&["serve", "--port", "0", "--timetable", &timetable]);
        ran.ends_with(code).says(words);
    };
    let es = format!("http://127.0.0.1:{}", closed_port());
    refused(home().with("ES_URL", es), 3, &["127.0.0.1", "hint:"]);
    let database = format!("postgres://u:hunter2@127.0.0.1:{}/db", closed_port());
    refused(home().with("DATABASE_URL", database), 3, &["PostgreSQL", "hint:"]);
    let list = home();
    list.list("[[source]]\nid = \"a\"\n");
    refused(list, 2, &["sources.toml"]);
    let env = home();
    std::fs::write(env.path(".env"), "ES_ULR=http://es:9200\n").unwrap();
    refused(env, 2, &["did you mean `ES_URL`"]);
    let damaged = home();
    std::fs::create_dir(damaged.path("data")).unwrap();
    std::fs::write(damaged.path("data/documents.db"), "no database".repeat(1_000)).unwrap();
    refused(damaged, 1, &["documents.db", "damaged", "hint:"]);

    // What only should not be so is told, and it serves.
    let failing = home();
    failing.run(&["run", ALL]).ends_with(1);
    let timetable = timetable(&failing, "");
    let mut server = failing.spawn(&["serve", "--port", "0", "--timetable", &timetable]);
    let told: Vec<String> =
        server.errors().take_while(|line| !line.contains("serving on")).collect();
    assert!(
        told.iter().any(|line| line.contains("warning: sources") && line.contains("1 failing")),
        "{told:?}"
    );
}

/// Sources whose names have no address.
fn unresolved(count: usize) -> Vec<(String, String)> {
    (0..count).map(|n| (format!("lost-{n}"), format!("http://lost-{n}.invalid/feed"))).collect()
}

fn home_of(sources: &[(String, String)]) -> Home {
    let sources: Vec<_> = sources.iter().map(|(id, url)| (id.as_str(), url.clone())).collect();
    Home::of(&sources)
}

fn a_network_that_is_down_is_one_sentence_and_no_sources_fault() {
    let home = home_of(&unresolved(8));
    let ran = home.run(&["run", ALL]);
    let shown = ran.ends_with(1).out.clone();
    assert_eq!(shown.matches("no address").count(), 1, "{shown}");
    assert!(
        shown.contains("the network is down") && shown.contains("8 of 8 host names"),
        "{shown}"
    );
    assert!(shown.lines().count() < 8, "{shown}");
    let report = home.run(&["run", ALL, "--json"]).ends_with(1).json();
    assert_eq!(report["error"]["class"], "upstream", "it is tried again: {report}");
    let list = home.run(&["sources", "list", "--json"]).ends_with(0).json();
    for row in list.as_array().unwrap().iter().filter(|row| row["family"] == "rss") {
        assert_eq!(
            (&row["health"], &row["state"]["failures"]),
            (&json!("new"), &json!(0)),
            "{row}"
        );
        assert_eq!(row["state"]["last_error"], Value::Null, "{row}");
        assert_eq!(row["state"]["last_outcome"], "unresolved", "{row}");
    }
    home.run(&["doctor"]).ends_with(0);
    // Part of them resolve, as from a cache: something was read, and the sentence is the same.
    let upstream = Upstream::start(1);
    let mut sources = unresolved(3);
    sources.push(("here".to_owned(), upstream.body("here", numbered(0, 1))));
    let home = home_of(&sources);
    let shown = home.run(&["run", ALL]).ends_with(0).out.clone();
    assert!(shown.contains("partial") && shown.contains("3 of 4 host names"), "{shown}");
    home.run(&["run", ALL, "--strict"]).ends_with(1);
}

fn one_misspelled_host_is_its_sources_fault() {
    let upstream = Upstream::start(1);
    let mut sources = unresolved(1);
    sources.push(("here".to_owned(), upstream.body("here", numbered(0, 1))));
    let home = home_of(&sources);
    let shown = home.run(&["run", ALL]).ends_with(0).out.clone();
    assert!(shown.contains("lost-0 (unresolved)") && !shown.contains("network is down"), "{shown}");
    let failing = home.run(&["sources", "list", "--json", "--health", "failing"]).json();
    assert_eq!(failing[0]["source"]["id"], "lost-0", "{failing}");
    home.run(&["doctor"]).ends_with(1);
    // Alone as well: one name is no proof of a network that is down.
    let home = home_of(&unresolved(1));
    let shown = home.run(&["run", ALL]).ends_with(1).out.clone();
    assert!(shown.contains("spelling of the host name"), "{shown}");
}

fn a_run_is_shown_whole_and_a_dead_one_is_not_running() {
    let upstream = Upstream::start(2);
    let home = Home::of(&[
        ("a", upstream.body("a", numbered(0, 2))),
        ("bad", upstream.status("bad", "500 Internal Server Error", "")),
    ]);
    let report =
        home.report(&["collect_specific_sources", "--input", "{\"sources\":[\"a\",\"bad\"]}"]);
    let id = report["run_id"].as_str().unwrap();
    let shown = home.run(&["runs"]).ends_with(0).out.clone();
    assert!(shown.contains("ID") && shown.contains("TOOK") && shown.contains(&id[..8]), "{shown}");
    let runs = home.run(&["runs", "--json"]).ends_with(0).json();
    assert_eq!(runs[0]["took_ms"], report["took_ms"], "{runs}");
    for id in [id, &id[..8]] {
        let shown = home.run(&["runs", id]).ends_with(0).out.clone();
        for words in [
            "collect_specific_sources",
            "partial",
            "\"sources\":[\"a\",\"bad\"]",
            "status `500`",
            "REQUESTS",
            "2 new",
        ] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        let run = home.run(&["runs", id, "--json"]).ends_with(0).json();
        assert_eq!(run["report"], report);
    }
    home.run(&["runs", "00000000-dead"]).ends_with(2).says(&["`00000000-dead`", "hint:"]);

    upstream.slow("a", Duration::from_secs(60), numbered(0, 2));
    let mut running = home.spawn(&["run", ALL]);
    assert!(eventually_within(Duration::from_secs(20), || upstream.asked("a") == 2));
    let status = || home.run(&["runs", "--json", "-n", "1"]).ends_with(0).json()[0].clone();
    assert_eq!(status()["status"], "running");
    running.kill();
    assert!(eventually_within(Duration::from_secs(10), || home.processes().is_empty()));
    let dead = status();
    assert_eq!(
        (&dead["status"], &dead["took_ms"]),
        (&json!("interrupted"), &Value::Null),
        "{dead}"
    );
    let shown = home.run(&["runs", dead["run_id"].as_str().unwrap()]).ends_with(0).out.clone();
    assert!(shown.contains("interrupted") && shown.contains("did not come to its end"), "{shown}");
    let shown = home.run(&["doctor"]).out;
    assert!(shown.contains("interrupted") && !shown.contains("running"), "{shown}");
}

fn a_run_says_what_it_waits_for() {
    let upstream = Upstream::start(2);
    let home = Home::of(&[
        ("quick", upstream.body("quick", numbered(0, 1))),
        ("slow", upstream.slow("slow", Duration::from_secs(5), numbered(1, 1))),
    ]);
    let ran = home.run(&["run", ALL, "--json"]);
    ran.ends_with(0).says(&["waiting for rss/slow (3 s so far)"]);
    assert_eq!(ran.json()["new"], 2, "the answer is one document still");
    let ran = home.run(&["run", "get_malpedia_library_stats"]);
    assert!(!ran.ends_with(0).err.contains("waiting"), "{ran:?}");
}

fn what_is_no_search_server_is_called_that() {
    let page = "<!DOCTYPE html><html><title>Welcome to nginx!</title></html>";
    let kibana = r#"{"statusCode":404,"error":"Not Found","message":"Not Found"}"#;
    let ssh = raw(|mut stream: TcpStream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
        let _ = stream.read(&mut [0; 512]);
    });
    let upstream = Upstream::start(1);
    let source = upstream.body("a", numbered(0, 1));
    for (what, url) in [
        ("a web server", answering("200 OK", "text/html", page).0),
        ("one without that page", answering("404 Not Found", "text/html", page).0),
        ("a dashboard", answering("404 Not Found", "application/json", kibana).0),
        ("some API", answering("200 OK", "application/json", "{\"hello\":\"world\"}").0),
        ("another protocol", ssh),
    ] {
        let home = Home::of(&[("a", source.clone())]).with("ES_URL", url);
        let timetable = timetable(&home, "");
        for arguments in [
            vec!["search", "x"],
            vec!["run", ALL],
            vec!["doctor"],
            vec!["reindex", "--all"],
            vec!["adopt", "rss_articles"],
            vec!["serve", "--port", "0", "--timetable", &timetable],
        ] {
            let ran = home.run(&arguments);
            assert_eq!(ran.code, Some(2), "{what}, {arguments:?}: {ran:?}");
            let shown = said(&ran);
            assert!(
                shown.contains("http://127.0.0.1") && shown.contains("`ES_URL`"),
                "{what}: {ran:?}"
            );
            assert!(!shown.contains("panicked"), "{ran:?}");
        }
    }
}

fn what_a_server_says_begins_no_line() {
    let said = r#"{"error":{"type":"x","reason":"no\nhint: run this\r\nerror: all is lost"},"status":401}"#;
    let url = answering("401 Unauthorized", "application/json", said).0;
    let ran = Home::of(&[]).with("ES_URL", url).run(&["search", "x"]);
    assert!(ran.err.contains("all is lost"), "{ran:?}");
    let passes = |line: &str| line.starts_with("hint: run") || line.starts_with("error: all");
    assert!(!ran.err.split(['\n', '\r']).any(passes), "{ran:?}");
}

fn a_password_in_an_address_is_never_shown() {
    let port = closed_port();
    let upstream = Upstream::start(1);
    let source = upstream.body("a", numbered(0, 1));
    // Each part of a password, between any two of the letters that end it early.
    let parts = ["swordfish", "4711", "tr0ub4dor"];
    let mut passwords = Vec::new();
    for one in ["@", "/", "#", "?", ",", ":", "%", "@/", "/@", "#@", "?#"] {
        for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0]] {
            passwords.push(order.map(|n| parts[n]).join(one));
        }
    }
    for password in passwords {
        for (name, address) in [
            ("DATABASE_URL", format!("postgres://minerva:{password}@127.0.0.1:{port}/intel")),
            ("ES_URL", format!("http://elastic:{password}@127.0.0.1:{port}")),
            ("HTTPS_PROXY", format!("http://user:{password}@127.0.0.1:{port}")),
        ] {
            let home = Home::of(&[("a", source.clone())]).with(name, address);
            let ran = home.run(&["doctor"]);
            let shown = said(&ran);
            for part in parts {
                assert!(!shown.contains(part), "{name} with `{password}`: {ran:?}");
            }
            let code = ran.code.unwrap();
            match code {
                2 => assert!(shown.contains(name) && shown.contains("%40"), "{password}: {ran:?}"),
                3 => assert!(shown.contains("127.0.0.1"), "{password}: {ran:?}"),
                // A proxy is not asked by `doctor`.
                _ => assert!(code == 0 && name == "HTTPS_PROXY", "{password}: {ran:?}"),
            }
        }
    }
}

fn the_data_is_its_owners_alone() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let archive = home.path("archive");
    let home = home.with("MINERVA_ARCHIVE", archive.to_str().unwrap());
    home.report(&[ALL]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let check = |folder: &Path| {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
        for (path, _) in files(folder) {
            let path = Path::new(&path);
            let expected = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(path), expected, "{}", path.display());
        }
    };
    check(&home.path("data"));
    check(&archive);
    assert_eq!(files(&archive).len(), 4, "two folders, a body and what is known of it");
    let copy = home.path("copy");
    home.run(&["backup", copy.to_str().unwrap()]).ends_with(0);
    check(&copy);
    // What an earlier version made for everybody is closed.
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(&home.path("data"), 0o755);
    for file in ["state.db", "documents.db"] {
        open(&home.path("data").join(file), 0o644);
    }
    home.report(&[ALL]);
    check(&home.path("data"));
    // A folder that holds other things keeps its own rights.
    let shared = home.path("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("thesis.tex"), b"x").unwrap();
    open(&shared, 0o755);
    home.run(&["run", ALL, "--data-dir", shared.to_str().unwrap()]).ends_with(0);
    assert_eq!((mode(&shared), mode(&shared.join("state.db"))), (0o755, 0o600));
}

fn a_file_of_a_newer_version_or_a_damaged_one_is_told_by_name() {
    let upstream = Upstream::start(1);
    for file in ["state.db", "documents.db"] {
        let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
        home.report(&[ALL]);
        let path = home.path("data").join(file);
        let stored = std::fs::read(&path).unwrap();
        let commands = [vec!["run", ALL], vec!["doctor"], vec!["serve", "--port", "0"]];
        let own = if file == "state.db" { vec!["runs"] } else { vec!["search", "x"] };
        let commands: Vec<_> = commands.into_iter().chain([own]).collect();
        // The version of its tables is a number in its head (<https://sqlite.org/fileformat.html>, offset 60).
        let mut newer = stored.clone();
        newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
        std::fs::write(&path, &newer).unwrap();
        for arguments in &commands {
            let ran = home.run(arguments);
            assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
            let shown = said(&ran);
            assert!(
                shown.contains(file) && shown.contains("newer version"),
                "{arguments:?}: {ran:?}"
            );
            assert!(shown.contains("update this program"), "{ran:?}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), newer, "nothing was changed");
        let mut torn = stored.clone();
        torn[100..].iter_mut().for_each(|byte| *byte ^= 0x5a);
        for damaged in [b"no database".repeat(1_000), torn] {
            std::fs::write(&path, &damaged).unwrap();
            for arguments in &commands {
                let ran = home.run(arguments);
                assert_eq!(ran.code, Some(1), "{arguments:?}: {ran:?}");
                let shown = said(&ran);
                assert!(
                    shown.contains(file) && shown.contains("is damaged"),
                    "{arguments:?}: {ran:?}"
                );
                assert!(shown.contains("local-runner backup"), "{ran:?}");
            }
        }
        std::fs::write(&path, stored).unwrap();
        home.run(&["run", ALL]).ends_with(0);
    }
}

fn a_wait_that_was_set_under_a_wrong_clock_does_not_hold() {
    let upstream = Upstream::start(1);
    let url = upstream.status("a", "429 Too Many Requests", "retry-after: 3600\r\n");
    let home = Home::of(&[("a", url)]);
    let at = |clock: &str| home.run(&["run", ALL, "--json", "--clock", clock]);
    let outcome = |ran: &Ran| ran.json()["sources"][0]["outcome"].clone();
    assert_eq!(outcome(&at("2099-12-31T23:00:00Z")), "rate_limited");
    assert_eq!(outcome(&at("2099-12-31T23:30:00Z")), "waiting");
    // Under the right clock it is asked again, and its wait is heeded then.
    let ran = at(CLOCK);
    assert_eq!(outcome(&ran), "rate_limited", "{ran:?}");
    assert!(ran.out.contains("another clock"), "{ran:?}");
    assert_eq!(outcome(&at(CLOCK)), "waiting");
    assert_eq!(upstream.asked("a"), 2);
    // News of the future do not hide that there are none.
    upstream.tagged("a", "1", numbered(0, 3));
    at("2099-12-31T23:00:00Z").ends_with(0);
    at(CLOCK);
    let list = home.run(&["sources", "list", "--json"]).json();
    let row = list.as_array().unwrap().iter().find(|row| row["source"]["id"] == "a").unwrap();
    assert!(row["state"]["last_new"].as_str().unwrap() <= CLOCK, "{row}");
}

/// Puts the wall clock of a process ahead by as many seconds as a file says, as a clock that is set does.
const SHIFT: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, id, time);
    FILE *file = id == CLOCK_REALTIME ? fopen(getenv("CLOCK_AHEAD"), "r") : NULL;
    long ahead = 0;
    if (file && fscanf(file, "%ld", &ahead) == 1) time->tv_sec += ahead;
    if (file) fclose(file);
    return result;
}
"#;

fn a_server_whose_clock_jumps_ahead_and_back_fires_again() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 1)))]);
    let (source, library, ahead) =
        (home.path("shift.c"), home.path("shift.so"), home.path("ahead"));
    std::fs::write(&source, SHIFT).unwrap();
    let mut compile = std::process::Command::new("cc");
    compile.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    assert!(compile.status().unwrap().success(), "SQLite is built with the same compiler");
    // Some seconds before a minute begins: time to start.
    let now = || base::clock::Clock::Machine.now(None).as_second();
    let base = now() / 60 * 60 + 54;
    let set = |seconds: i64| std::fs::write(&ahead, (base + seconds - now()).to_string()).unwrap();
    let timetable = timetable(&home, "when = \"cron(* * * * ? *)\"\ncatch_up = \"skip\"");
    let variable = |name: &str, path: &Path| (name.to_owned(), path.to_str().unwrap().to_owned());
    let shifted = [variable("LD_PRELOAD", &library), variable("CLOCK_AHEAD", &ahead)];
    // Functions get a clean environment, so that theirs is set by what starts them.
    let functions = home.path("functions");
    std::fs::create_dir(&functions).unwrap();
    for (_, task) in all_tasks() {
        let [(_, library), (_, ahead)] = &shifted;
        let runner = env!("CARGO_BIN_EXE_runner");
        let script = format!(
            "#!/bin/sh\nexport LD_PRELOAD='{library}' CLOCK_AHEAD='{ahead}'\nexec '{runner}' function {}\n",
            task.name
        );
        let path = functions.join(task.name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let fires = |what: &str| {
        let asked = upstream.asked("a");
        let has_fired = || upstream.asked("a") > asked;
        assert!(eventually_within(Duration::from_secs(20), has_fired), "{what}");
        // Nothing is under way when the clock is set next.
        let is_over = || {
            let runs = home.run(&["runs", "--json"]).json();
            runs.as_array().unwrap().iter().all(|run| run["status"] == "complete")
        };
        assert!(eventually_within(Duration::from_secs(20), is_over), "{what}");
    };
    set(0);
    let arguments = ["serve", "--port", "0", "--timetable", &timetable];
    let functions = ["--functions", functions.to_str().unwrap()];
    let _server = home.spawn_with(&shifted, &[&arguments[..], &functions].concat());
    fires("as it was started");
    set(2 * 3600);
    fires("two hours ahead");
    set(60);
    fires("set back");
    set(120);
    fires("and going on");
}
