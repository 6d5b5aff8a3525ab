//! The commands around a run, as a person or a script uses them, and `serve` with its APIs.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::{Value, json};
use stores::state::{Firings, Queue as _, Sqlite};

use crate::home::{
    ALL, CLOCK, Home, Running, Upstream, eventually_within, feed, numbered, respond,
};

/// Every trial with its name, for the main of the tests.
macro_rules! trials {
    ($($name:ident)*) => {
        pub(crate) const TRIALS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

trials! {
    what_is_stored_is_found_without_its_accents
    what_ran_and_what_comes_is_listed
    a_schedule_is_unfolded_to_utc_and_a_wrong_field_is_named
    a_source_is_tried_added_and_switched
    the_doctor_says_what_is_wrong
    the_archive_is_read_again_after_a_parser_was_repaired
    what_a_feed_says_does_not_steer_the_terminal
    a_person_is_told_what_the_json_holds
    the_demo_writes_nothing_on_its_second_day
    nothing_is_left_of_a_run_that_is_interrupted
    a_server_answers_at_once_and_from_its_queue_and_ends_when_told
    a_server_makes_up_for_what_it_missed
}

fn strings<'a>(rows: &'a Value, name: &str) -> Vec<&'a str> {
    rows.as_array().unwrap().iter().map(|row| row[name].as_str().unwrap()).collect()
}

fn what_is_stored_is_found_without_its_accents() {
    let upstream = Upstream::start(1);
    let items = [
        ("a", "Falha de segurança explorada", Some("Sun, 01 Mar 2026 08:00:00 GMT")),
        ("b", "A flaw called CVE-2026-1234", Some("Sat, 28 Feb 2026 08:00:00 GMT")),
    ];
    let home = Home::of(&[("a", upstream.body("a", feed(&items)))]);
    home.report(&[ALL]);
    let found = |arguments: &[&str]| {
        let page = home.run(&[&["search", "--json"], arguments].concat()).ends_with(0).json();
        let titles = strings(&page["documents"], "title").join("|");
        (page["total"].as_u64().unwrap(), titles)
    };
    let portuguese = (1, "Falha de segurança explorada".to_owned());
    assert_eq!(found(&["seguranca"]), portuguese);
    assert_eq!(found(&["SEGURANÇA"]), portuguese);
    assert_eq!(found(&["\"falha de seguranca\""]), portuguese);
    assert_eq!(found(&["explor*", "--where", "category=news"]), portuguese);
    assert_eq!(found(&["--since", "2026-03-01"]), portuguese);
    assert_eq!(found(&["--where", "cves=CVE-2026-1234"]).0, 1);
    assert_eq!(
        found(&[]),
        (2, "Falha de segurança explorada|A flaw called CVE-2026-1234".to_owned())
    );
    assert_eq!(found(&["nothing-of-the-kind"]), (0, String::new()));
    let counted = |arguments: &[&str]| {
        home.run(&[&["search", "--json"], arguments].concat()).ends_with(0).json()["buckets"]
            .clone()
    };
    assert_eq!(counted(&["--by", "category"]), json!([{"key": "news", "count": 2}]));
    assert_eq!(
        counted(&["--per", "month", "--index", "minerva-articles"]),
        json!([{"key": "2026-02", "count": 1}, {"key": "2026-03", "count": 1}])
    );
    let shown = home.run(&["search", "--per", "day", "seguranca"]).ends_with(0).out.clone();
    assert!(shown.contains("1          2026-03-01"), "{shown}");
    assert!(shown.contains("from 2026-03-01T08:00:00Z to 2026-03-01T08:00:00Z"), "{shown}");
    home.run(&["search", "--by", "content"]).ends_with(2).says(&["content"]);
    home.run(&["search", "--by", "category", "--per", "day"]).ends_with(2).says(&["--per"]);
    for hostile in ["\"", "(", "a AND", "*", "title:", "-", "NEAR(a b", "'; DROP TABLE x; --"] {
        // As one word, so that the shell of the command line does not take it for an option.
        home.run(&["search", "--json", "--", hostile]).ends_with(0).json();
    }
    for (wrong, word) in [
        (["search", "--where", "category"], "FIELD=VALUE"),
        (["search", "--since", "yesterday"], "2026-03-01"),
        (["search", "--index", "rss_article"], "rss_article"),
    ] {
        home.run(&wrong).ends_with(2).says(&[word]);
    }
    home.run(&["documents", "nothing"]).ends_with(2).says(&["`nothing`", "rss_articles"]);
    assert_eq!(home.articles().len(), 2);
}

fn what_ran_and_what_comes_is_listed() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    assert_eq!(home.run(&["runs", "--json"]).ends_with(0).json(), json!([]));
    let report = home.report(&[ALL]);
    let runs = home.run(&["runs", "--json"]).ends_with(0).json();
    assert_eq!(runs.as_array().unwrap().len(), 1);
    assert_eq!((&runs[0]["run_id"], &runs[0]["report"]), (&report["run_id"], &report));
    assert_eq!(home.run(&["runs", "--json", "collect_category"]).ends_with(0).json(), json!([]));
    home.run(&["runs", "collect_categry"]).ends_with(2).says(&["collect_category"]);
    assert!(home.run(&["runs"]).ends_with(0).out.contains("complete"));
    let slot = json!({"source": "aws.events", "detail-type": "Scheduled Event", "time": "2026-03-01T05:00:00Z", "detail": {}});
    home.report(&[ALL, "--input", &slot.to_string()]);
    let shown = home.run(&["runs"]).ends_with(0).out.clone();
    assert!(shown.contains("01 Mar 02:00 -03 (05:00Z)"), "the timetable's zone: {shown}");
    let runs = home.run(&["runs", "--json"]).ends_with(0).json();
    assert!(strings(&runs, "started")[0].ends_with('Z'), "UTC for scripts: {runs}");
    assert_eq!(runs[0]["slot"], "2026-03-01T05:00:00Z");

    let shown = home.run(&["tasks"]).ends_with(0).out.clone();
    assert!(shown.contains("WHEN (America/Sao_Paulo)"), "{shown}");
    let tasks = home.run(&["tasks", "--json"]).ends_with(0).json();
    let tasks = tasks.as_array().unwrap();
    assert_eq!(tasks.len(), 27, "the card's tasks");
    assert!(tasks.iter().any(|task| task["task"] == ALL && task["when"] == "cron(0 0/2 * * ? *)"));

    let scheduled = home.run(&["scheduled", "--json", "-n", "3"]).ends_with(0).json();
    assert_eq!(scheduled.as_array().unwrap().len(), 3, "{scheduled}");
    assert!(strings(&scheduled, "at").is_sorted());
}

fn a_schedule_is_unfolded_to_utc_and_a_wrong_field_is_named() {
    let home = Home::of(&[]);
    let next = |expression: &str, zone: &str, from: &str| {
        let arguments = [
            "schedule", "next", expression, "--zone", zone, "--from", from, "--count", "3",
            "--json",
        ];
        home.run(&arguments).ends_with(0).json()
    };
    assert_eq!(
        next("cron(0 0/2 * * ? *)", "America/Sao_Paulo", "2026-03-01T00:00:00Z"),
        json!(["2026-03-01T01:00:00Z", "2026-03-01T03:00:00Z", "2026-03-01T05:00:00Z"])
    );
    assert_eq!(
        next("cron(0 10 ? * 6L *)", "UTC", "2026-03-01T00:00:00Z")[0],
        "2026-03-27T10:00:00Z"
    );
    assert_eq!(next("at(2020-01-01T00:00:00)", "UTC", "2026-03-01T00:00:00Z"), json!([]));
    for (expression, words) in [
        ("cron(61 0 * * ? *)", ["61", "minute"]),
        ("cron(0 25 * * ? *)", ["25", "hour"]),
        ("cron(0 0 * * * *)", ["day", "?"]),
        ("cron(0 0 1 FOO ? *)", ["FOO", "month"]),
        ("0 0 * * *", ["0 0 * * *", "cron("]),
    ] {
        home.run(&["schedule", "next", expression, "--json"]).ends_with(2).says(&words);
    }
    home.run(&["schedule", "next", "rate(1 hour)", "--zone", "Brazil/Nowhere"])
        .ends_with(2)
        .says(&["Brazil/Nowhere"]);
    home.run(&["schedule", "next", "rate(1 hour)", "--from", "noon"]).ends_with(2).says(&["noon"]);
    home.run(&["schedule", "check"]).ends_with(0);
}

fn a_source_is_tried_added_and_switched() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let tried = home.run(&["sources", "test", "a", "--json"]).ends_with(0).json();
    assert_eq!((&tried["found"], tried["documents"].as_array().unwrap().len()), (&json!(2), 2));
    assert_eq!(home.articles().len(), 0, "a trial stores nothing");
    home.run(&["sources", "test", "b"]).ends_with(2).says(&["`b`", "sources list"]);

    let page = upstream.body("page", "<!DOCTYPE html><html></html>");
    let ran = home.run(&["sources", "test", &page]);
    ran.ends_with(1).says(&["web page without a title", "hint:"]);
    let ran = home.run(&["sources", "add", &page]);
    ran.ends_with(1).says(&["--untested"]);
    home.run(&["sources", "add", "example.org/feed"]).ends_with(2).says(&["example.org/feed"]);
    home.run(&["sources", "add", "ftp://example.org/feed"]).ends_with(2).says(&["http"]);

    let second = upstream.body("second", numbered(1, 3));
    home.run(&["sources", "add", &second, "--id", "second", "--category", "blogs"]).ends_with(0);
    home.run(&["sources", "add", &second, "--id", "second"]).ends_with(2).says(&["`second`"]);
    home.run(&["sources", "add", &second, "--id", "third"]).ends_with(2).says(&["`second`"]);
    assert_eq!(home.report(&[ALL])["new"], 5, "the added source is collected");

    home.run(&["sources", "disable", "a"]).ends_with(0);
    home.run(&["sources", "disable", "no-such"]).ends_with(2).says(&["no-such"]);
    assert_eq!(strings(&home.report(&[ALL])["sources"], "source"), ["second"]);
    let list = home.run(&["sources", "list", "--json"]).ends_with(0).json();
    let health: Vec<(&str, &str)> = list
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["family"] == "rss")
        .map(|row| (row["source"]["id"].as_str().unwrap(), row["health"].as_str().unwrap()))
        .collect();
    assert_eq!(health, [("second", "ok"), ("a", "disabled")], "the worst first");
    home.run(&["sources", "enable", "a"]).ends_with(0);
    assert_eq!(strings(&home.report(&[ALL])["sources"], "source"), ["a", "second"]);

    upstream.status("a", "500 Internal Server Error", "");
    home.report(&[ALL]);
    let failing = home.run(&["sources", "list", "--json", "--health", "failing"]).json();
    assert_eq!(failing[0]["source"]["id"], "a");
    assert!(failing[0]["state"]["last_error"].as_str().unwrap().contains("500"), "{failing}");
    home.run(&["sources", "list", "--health", "bad"]).ends_with(2).says(&["failing"]);
}

fn the_doctor_says_what_is_wrong() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 1)))]);
    let well = home.run(&["doctor", "--json"]).ends_with(0).json();
    assert!(well.as_array().unwrap().iter().all(|check| check["ok"] == true), "{well}");

    // A file where the folder should be: unlike permissions, that stops root too.
    std::fs::write(home.path("file"), b"").unwrap();
    let folder = home.path("file/data");
    let unwritable = ["doctor", "--json", "--data-dir", folder.to_str().unwrap()];
    let checks = home.run(&unwritable).ends_with(3).json();
    let documents = checks.as_array().unwrap().iter().find(|check| check["name"] == "documents");
    let documents = documents.unwrap();
    assert_eq!(documents["ok"], false, "{checks}");
    assert!(documents["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{checks}");
    let run = home.run(&["run", ALL, "--data-dir", folder.to_str().unwrap()]);
    run.ends_with(3).says(&["file/data"]);

    home.list("[[source]]\nid = \"a\"\n");
    home.run(&["doctor"]).ends_with(2);
    let home = Home::of(&[]).with("MINERVA_CLOCK", "noon").with("MINERVA_ARCHIVE_DAYS", "soon");
    let ran = home.run(&["doctor"]);
    ran.ends_with(2);
    assert!(
        ran.out.contains("MINERVA_CLOCK") && ran.out.contains("MINERVA_ARCHIVE_DAYS"),
        "all at once: {ran:?}"
    );
    let home = Home::of(&[]);
    std::fs::write(home.path(".env"), "MINERVA_ARCHIVE_DAYS=soon\n").unwrap();
    let ran = home.run(&["doctor"]);
    assert!(ran.ends_with(2).out.contains("MINERVA_ARCHIVE_DAYS"), "`.env` is read: {ran:?}");
}

fn the_archive_is_read_again_after_a_parser_was_repaired() {
    let upstream = Upstream::start(1);
    let url = upstream.body("a", numbered(0, 2));
    let home = Home::of(&[("a", url.clone())]);
    home.run(&["reparse", ALL]).ends_with(2).says(&["MINERVA_ARCHIVE"]);
    let archive = home.path("archive");
    let home = home.with("MINERVA_ARCHIVE", archive.to_str().unwrap());
    home.report(&[ALL]);
    let asked = upstream.asked("a");
    let stored = home.documents();
    // A new store, filled from the archive alone.
    let fresh = home.path("fresh");
    let fresh = fresh.to_str().unwrap();
    let report = home.run(&["reparse", ALL, "--json", "--data-dir", fresh]).ends_with(0).json();
    assert_eq!((&report["status"], &report["new"]), (&json!("complete"), &json!(2)), "{report}");
    assert_eq!(upstream.asked("a"), asked, "the network was used");
    let again =
        home.run(&["documents", "rss_articles", "--data-dir", fresh]).ends_with(0).out.clone();
    let ids = |lines: &str| -> Vec<Value> {
        lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["_id"].clone())
            .collect()
    };
    assert_eq!(ids(&again), ids(&stored));
    let second = home.run(&["reparse", ALL, "--json"]).ends_with(0).json();
    assert_eq!((&second["new"], &second["changed"]), (&json!(0), &json!(0)), "{second}");
}

fn what_a_feed_says_does_not_steer_the_terminal() {
    let upstream = Upstream::start(1);
    let hostile = json!({
        "version": "https://jsonfeed.org/version/1.1", "title": "T\u{1b}]0;name\u{7}",
        "items": [{"id": "1", "title": "clear\u{1b}[2J red\u{9b}31m turned\u{202e}gnp.exe", "tags": ["\u{1b}c"]}],
    });
    let page = "<!DOCTYPE html><html><head><title>\u{1b}[31m</title></head></html>";
    let home = Home::of(&[
        ("feed", upstream.body("feed", hostile.to_string())),
        ("page", upstream.body("page", page)),
    ]);
    let run = home.run(&["run", ALL]);
    let other = [
        vec!["search"],
        vec!["search", "clear"],
        vec!["sources", "test", "feed"],
        vec!["sources", "test", "page"],
        vec!["sources", "list"],
        vec!["runs"],
    ];
    for ran in other.iter().map(|arguments| home.run(arguments)).chain([run]) {
        let steers =
            |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!ran.out.contains(steers) && !ran.err.contains(steers), "{ran:?}");
    }
    let page = home.run(&["search", "--json"]).json();
    let title = page["documents"][0]["title"].as_str().unwrap();
    // No text has control letters, so the reader of feeds takes them out; a mark of direction is the text's own.
    assert_eq!(title, "clear[2J red\u{203a}31m turned\u{202e}gnp.exe");
}

fn a_person_is_told_what_the_json_holds() {
    let folder = tempfile::tempdir().unwrap();
    let families = folder.path().join("families_enriched");
    std::fs::create_dir_all(&families).unwrap();
    std::fs::create_dir_all(folder.path().join("actors_enriched")).unwrap();
    for name in ["win.one", "win.two"] {
        let file = families.join(format!("{name}.json"));
        std::fs::write(file, json!({ "name": name }).to_string()).unwrap();
    }
    let home = Home::of(&[]).with("MALPEDIA_DIR", folder.path().to_string_lossy());
    let sync = || home.run(&["run", "sync_malpedia_families_to_es"]).ends_with(0).out.clone();
    let first = sync();
    assert!(first.contains("families: already_there (0)") && first.contains("new (2)"), "{first}");
    std::fs::remove_file(families.join("win.two.json")).unwrap();
    let second = sync();
    assert!(second.contains("vanished (1)") && second.contains("gone: win.two"), "{second}");
    let figures = home.run(&["run", "get_malpedia_library_stats"]).ends_with(0).out.clone();
    assert!(
        figures.contains("total_articles: 0") && !figures.contains("nothing to store"),
        "{figures}"
    );
}

fn the_demo_writes_nothing_on_its_second_day() {
    let home = Home::of(&[]);
    let demo = home.path("demo");
    let arguments = ["demo", "--exit", "--json", "--data-dir", demo.to_str().unwrap()];
    let summary = home.run(&arguments).ends_with(0).json();
    for (name, expected) in [("writes_second_day", 0), ("runs_executed", 67), ("runs_skipped", 0)] {
        assert_eq!(summary[name], expected, "{name}: {summary}");
    }
    assert!(summary["documents_stored"].as_u64().unwrap() > 30, "{summary}");
    assert!(summary["writes_first_day"].as_u64() > summary["documents_stored"].as_u64(), "edits");
    assert!(summary["sources"].is_object() && summary["seconds"].as_f64().unwrap() < 30.0);
    // Again over its own folder, but never over someone else's.
    home.run(&arguments).ends_with(0);
    let taken = home.path("");
    home.run(&["demo", "--exit", "--data-dir", taken.to_str().unwrap()]).ends_with(2);
    assert!(home.path("sources.toml").exists());
}

fn nothing_is_left_of_a_run_that_is_interrupted() {
    let upstream = Upstream::start(1);
    let home =
        Home::of(&[("slow", upstream.slow("slow", Duration::from_secs(30), numbered(0, 1)))]);
    let running = home.spawn(&["run", ALL, "--json", "--clock", CLOCK]);
    assert!(eventually_within(Duration::from_secs(20), || upstream.asked("slow") == 1));
    running.interrupt();
    let began = Instant::now();
    let ran = running.end();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let error = ran.json()["error"].clone();
    assert_eq!(error["message"], "finish: interrupted");
    assert!(error["hint"].as_str().unwrap().contains("nothing is lost"), "{error}");
    assert!(eventually_within(Duration::from_secs(1), || home.processes().is_empty()));
}

// The server.

/// A timetable in which nothing falls due by itself, but for what is given of the RSS feeds.
pub(crate) fn timetable(home: &Home, when: &str) -> String {
    let when = if when.is_empty() { "enabled = false\n" } else { when };
    let all = schedule::Timetable::parse(include_str!("../../infra/schedule.toml")).unwrap();
    // What else there is would ask real sources.
    let others = all.rows().iter().filter(|row| row.when.is_some());
    let others = others.filter(|row| row.name != "collect_all_rss_feeds");
    let off: String = others.map(|row| format!("[{}]\nenabled = false\n", row.name)).collect();
    let text = format!(
        "[defaults]\ntimeout_s = 60\nzone = \"UTC\"\n\n[collect_all_rss_feeds]\n{when}\n{off}"
    );
    let path = home.path("schedule.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A server and where it listens; it says so on standard error.
pub(crate) fn serve(
    home: &Home,
    timetable: &str,
) -> (Running, String, std::sync::mpsc::Receiver<String>) {
    let mut running = home.spawn(&["serve", "--port", "0", "--timetable", timetable]);
    let (sender, lines) = std::sync::mpsc::channel();
    let errors = running.errors();
    std::thread::spawn(move || errors.for_each(|line| drop(sender.send(line))));
    let mut said = Vec::new();
    loop {
        let Ok(line) = lines.recv_timeout(Duration::from_secs(20)) else {
            panic!("it never said where it serves: {said:?}");
        };
        if let Some((_, rest)) = line.split_once("http://") {
            let address =
                rest.split([':', ' ', '`', ',', ';']).take(2).collect::<Vec<_>>().join(":");
            return (running, address, lines);
        }
        said.push(line);
    }
}

/// One request; the status and the body of its answer.
pub(crate) fn post(address: &str, path: &str, header: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{header}\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Where a task is invoked.
pub(crate) const INVOKE: &str = "/2015-03-31/functions/collect_all_rss_feeds/invocations";

fn a_server_answers_at_once_and_from_its_queue_and_ends_when_told() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let timetable = timetable(&home, "");
    let (mut server, address, _lines) = serve(&home, &timetable);

    let (status, body) = post(&address, INVOKE, "", "{}");
    let report: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &report["status"], &report["new"]), (200, &json!("complete"), &json!(2)));

    let event = "x-amz-invocation-type: Event\r\n";
    assert_eq!(post(&address, INVOKE, event, "{}").0, 202);
    let runs = || home.run(&["runs", "--json"]).json();
    let ran_twice = || {
        let runs = runs();
        let runs = runs.as_array().unwrap();
        runs.len() == 2 && runs.iter().all(|run| run["status"] == "complete")
    };
    assert!(eventually_within(Duration::from_secs(20), ran_twice), "the queue: {}", runs());

    // The same slot over both ways of asking is one run.
    let slot = json!({"source": "aws.events", "detail-type": "Scheduled Event", "time": "2026-03-01T05:00:00Z", "detail": {}})
        .to_string();
    let asked = upstream.asked("a");
    assert_eq!(post(&address, INVOKE, event, &slot).0, 202);
    let ran_thrice =
        || runs()[0]["slot"] == "2026-03-01T05:00:00Z" && runs()[0]["status"] == "complete";
    assert!(eventually_within(Duration::from_secs(20), ran_thrice), "{}", runs());
    let (_, body) = post(&address, INVOKE, "", &slot);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["status"], "skipped", "{body}");
    assert_eq!(upstream.asked("a"), asked + 1);

    let second = home.run(&["serve", "--port", "0", "--timetable", &timetable]);
    second.ends_with(2).says(&["another runner", "--data-dir"]);

    // It ends while a source keeps it waiting.
    upstream.slow("a", Duration::from_secs(60), numbered(0, 2));
    assert_eq!(post(&address, INVOKE, event, "{}").0, 202);
    assert!(eventually_within(Duration::from_secs(20), || upstream.asked("a") == asked + 2));
    server.terminate();
    let ended = server.ended_within(Duration::from_secs(10));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    assert!(eventually_within(Duration::from_secs(1), || home.processes().is_empty()));

    // What it did not finish goes on with the next start.
    upstream.serve("a", |_, stream| respond(stream, "200 OK", "", &numbered(0, 3)));
    let (_server, _, lines) = serve(&home, &timetable);
    let all_there = || home.articles().len() == 3;
    let said: Vec<String> = lines.try_iter().collect();
    assert!(eventually_within(Duration::from_secs(20), all_there), "{said:?} {}", runs());
}

fn a_server_makes_up_for_what_it_missed() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    // The next minute is too far for a test, but the hours since a server last looked are there at once.
    let now = base::clock::Clock::Machine.now(None);
    let mark = now.checked_sub(SignedDuration::from_hours(3)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let state = Sqlite::open(&home.path("data")).await.unwrap();
        assert!(state.fire(ALL, None, mark, &Firings::default()).await.unwrap());
    });
    let timetable = timetable(&home, "when = \"cron(0 * * * ? *)\"\ncatch_up = \"once\"\n");
    let (_server, _, _lines) = serve(&home, &timetable);
    assert!(eventually_within(Duration::from_secs(20), || home.articles().len() == 2));
    let runs = home.run(&["runs", "--json"]).json();
    assert!(runs[0]["slot"].as_str().unwrap().ends_with(":00:00Z"), "{runs}");
    // Twice, should the hour have struck meanwhile.
    assert!(runs.as_array().unwrap().len() <= 2, "`once` is once: {runs}");
}
