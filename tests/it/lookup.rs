//! Indicators asked for by value: alone, in a list, in a report; by the thousand.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use indicator::IndicatorKind;
use serde_json::{Value, json};

use crate::export::{document, home};
use crate::home::{Home, Ran};

/// Every trial with its name, for the main of the tests.
macro_rules! trials {
    ($($name:ident)*) => {
        pub(crate) const TRIALS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

trials! {
    a_value_is_told_with_where_it_is_from_and_whether_it_holds
    a_list_and_a_report_are_read_from_standard_input
    wrong_usage_is_told
    ten_thousand_values_are_quick
    feeds_are_compared_by_the_store
    unknown_values_are_held_against_the_lists_that_are_set
}

fn stored() -> Home {
    home(&[
        document(
            "misp",
            IndicatorKind::Domain,
            "evil.com",
            json!({
                "sources": [{"id": "a", "name": "Feed A"}, {"id": "b", "name": "Feed B", "event": "e-1"}], "sources_count": 2,
                "feed_name": ["Feed A", "Feed B"], "tlp": "amber",
            }),
        ),
        document(
            "otx",
            IndicatorKind::Domain,
            "evil.com",
            json!({"feed_name": ["AlienVault OTX"], "sources": []}),
        ),
        document(
            "signature-base",
            IndicatorKind::Imphash,
            &"0a".repeat(16),
            json!({"feed_name": null, "source_name": "Neo23x0/signature-base", "sources": [{"file": "x"}]}),
        ),
        document(
            "misp",
            IndicatorKind::Ipv4,
            "198.51.100.7",
            json!({"active": false, "left_at": "2026-02-10T00:00:00Z"}),
        ),
        document(
            "misp",
            IndicatorKind::Ipv4,
            "8.8.8.8",
            json!({"warninglist_hits": ["Public DNS"], "expires_at": "2026-02-28T00:00:00Z"}),
        ),
        document("misp", IndicatorKind::Cve, "CVE-2026-1234", json!({})),
    ])
}

/// Looks up what standard input holds.
fn piped(home: &Home, arguments: &[&str], input: &str) -> Ran {
    let mut command = home.command(&[&["lookup", "-"], arguments].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Each value with whether it is known.
fn told(answer: &Value) -> String {
    let rows = answer["values"].as_array().unwrap().iter();
    rows.map(|row| format!("{} {}", row["value"].as_str().unwrap(), row["known"]))
        .collect::<Vec<_>>()
        .join(", ")
}

fn a_value_is_told_with_where_it_is_from_and_whether_it_holds() {
    let home = stored();
    let ran = home.run(&["lookup", "--json", "hxxp://evil[.]com/gate", "EVIL[.]com"]);
    let answer = ran.ends_with(1).json();
    assert_eq!(told(&answer), "http://evil.com/gate false, evil.com true");
    assert_eq!(answer["values"][0]["known_part"], json!({"type": "domain", "value": "evil.com"}));
    assert_eq!((&answer["known"], &answer["unknown"]), (&json!(1), &json!(1)));
    let unknown = home.run(&["lookup", "1.1.1.1"]);
    assert!(
        unknown.ends_with(1).out.contains("DNS"),
        "a list knows what no document has: {unknown:?}"
    );
    let known = answer["values"][1]["documents"].as_array().unwrap();
    assert_eq!(known.len(), 2, "{answer}");
    assert_eq!(known[0]["sources"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&known[0]["tlp"], &known[0]["first_seen"]),
        (&json!("amber"), &json!("2026-01-15T08:00:00Z"))
    );
    assert_eq!(
        (&known[1]["feed"], &known[1]["index"]),
        (&json!("AlienVault OTX"), &json!("otx_indicators"))
    );

    let all = ["evil.com", "198.51.100.7", "8.8.8.8", "cve-2026-1234", &"0A".repeat(16)];
    let shown = home.run(&[&["lookup"][..], &all].concat());
    let line = |what: &str| {
        shown.ends_with(0).out.lines().find(|line| line.starts_with(what)).unwrap().to_owned()
    };
    for (value, words) in [
        ("evil.com", &["yes", "Feed A, Feed B", "2026-01-15", "amber"][..]),
        ("198.51.100.7", &["left 2026-02-10"]),
        ("8.8.8.8", &["expired 2026-02-28", "Public DNS"]),
        (&"0a".repeat(16), &["imphash", "Neo23x0/signature-base"]),
    ] {
        let line = line(value);
        words.iter().for_each(|word| assert!(line.contains(word), "{word}: {line}"));
    }
    assert!(shown.out.contains("5 of 5 known"), "{shown:?}");
    let ran = home.run(&["lookup", "http://evil.com/x", "not an indicator"]);
    assert!(ran.ends_with(1).out.contains("no, but evil.com"), "{ran:?}");
    assert!(ran.out.contains("no indicator: not an indicator"), "{ran:?}");
}

fn a_list_and_a_report_are_read_from_standard_input() {
    let home = stored();
    let list = "\u{feff}evil.com\r\n\r\n198.51.100.7, 8.8.8.8\n\"CVE-2026-1234\"\nevil.com\n";
    let answer = piped(&home, &["--json"], list).ends_with(0).json();
    assert_eq!(told(&answer), "evil.com true, 198.51.100.7 true, 8.8.8.8 true, CVE-2026-1234 true");
    let report = "The group (see https://example.org/report) used evil[.]com and 203[.]0[.]113[.]9.\n\
        It exploits CVE-2026-1234.\n\nIndicators:\n8.8.8.8\n";
    let ran = piped(&home, &["--json"], report);
    let mut found: Vec<String> =
        told(&ran.ends_with(1).json()).split(", ").map(str::to_owned).collect();
    found.sort_unstable();
    assert_eq!(found, ["203.0.113.9 false", "8.8.8.8 true", "CVE-2026-1234 true", "evil.com true"]);
}

fn wrong_usage_is_told() {
    let home = stored();
    home.run(&["lookup"]).ends_with(2).says(&["VALUE"]);
    home.run(&["lookpu", "x"]).ends_with(2).says(&["lookup"]);
    piped(&home, &[], "").ends_with(2).says(&["no indicator is in what was given"]);
    piped(&home, &[], "nothing of interest\n").ends_with(2).says(&["no indicator"]);
    home.run(&["lookup", "--help"]).ends_with(0);
}

fn ten_thousand_values_are_quick() {
    const VALUES: u32 = 10_000;
    let name = |number: u32| format!("evil{number}.com");
    let of = |number| document("otx", IndicatorKind::Domain, &name(number), json!({}));
    let home = home(&(0..VALUES).step_by(2).map(of).collect::<Vec<_>>());
    let list: String = (0..VALUES).map(|number| name(number) + "\n").collect();
    let begun = Instant::now();
    let answer = piped(&home, &["--json"], &list).ends_with(1).json();
    let took = begun.elapsed();
    assert_eq!((&answer["known"], &answer["unknown"]), (&json!(VALUES / 2), &json!(VALUES / 2)));
    // Unoptimised on a busy machine; a search a value takes minutes.
    assert!(took < Duration::from_secs(20), "{took:?}");
}

fn unknown_values_are_held_against_the_lists_that_are_set() {
    let lists = |home: &Home, value: &str| {
        let ran = home.run(&["lookup", "--json", value]);
        ran.ends_with(1).json()["values"][0]["warninglists"].clone()
    };
    let home = home(&[]);
    let list = r#"{"list":["names-of-ours.net"],"matching_attributes":["domain","hostname"],"name":"Our names","type":"hostname","version":1}"#;
    let folder = home.path("warninglists/ours");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("list.json"), list).unwrap();
    assert_eq!(lists(&home, "names-of-ours.net"), json!([]), "the set compiled in");
    assert_ne!(lists(&home, "8.8.8.8"), json!([]));
    let place = home.path("warninglists").to_str().unwrap().to_owned();
    let home = home.with("WARNINGLISTS", place);
    assert_eq!(lists(&home, "names-of-ours.net"), json!(["Our names"]));
    assert_eq!(lists(&home, "8.8.8.8"), json!([]), "and no other");
    // Where their address does not answer, what is stored is told all the same.
    let home = home.with("WARNINGLISTS", "http://127.0.0.1:1/lists.tar.gz");
    let ran = home.run(&["lookup", "names-of-ours.net"]);
    ran.ends_with(1).says(&["no warninglist"]);
    let home = home.with("WARNINGLISTS", "/nowhere");
    home.run(&["lookup", "names-of-ours.net"]).ends_with(2).says(&["WARNINGLISTS"]);
}

fn feeds_are_compared_by_the_store() {
    let of = |value: &str, feeds: &[&str], first: &str, lead: Option<u32>, warned: &[&str]| {
        let sources: Vec<Value> = feeds.iter().map(|id| json!({"id": id, "name": id})).collect();
        document(
            "misp",
            IndicatorKind::Domain,
            value,
            json!({
                "sources": sources, "sources_count": feeds.len(), "first_source": first, "lead_days": lead,
                "warninglist_hits": warned,
            }),
        )
    };
    let home = home(&[
        of("a1.com", &["a"], "a", None, &[]),
        of("a2.com", &["a"], "a", None, &["Top sites"]),
        of("ab1.com", &["a", "b"], "b", Some(11), &[]),
        of("ab2.com", &["a", "b"], "b", Some(9), &[]),
        of("abc.com", &["a", "b", "c"], "a", Some(0), &["Top sites"]),
        document(
            "otx",
            IndicatorKind::Domain,
            "a1.com",
            json!({"sources": [{"id": "otx"}], "first_source": "otx"}),
        ),
    ]);
    let answer = home.run(&["sources", "overlap", "--json"]).ends_with(0).json();
    let row = |feed: &str| {
        let rows = answer["feeds"].as_array().unwrap();
        rows.iter()
            .find(|row| row["feed"] == feed)
            .unwrap_or_else(|| panic!("{feed}: {answer}"))
            .clone()
    };
    assert_eq!(
        row("a"),
        json!({
            "feed": "a", "indicators": 5, "only_here": 2, "shared": 3, "first_of_shared": 1, "median_lead_days": 0,
            "warninglisted": 2,
            "shared_with": {"b": 3, "c": 1},
        })
    );
    assert_eq!(
        row("b"),
        json!({
            "feed": "b", "indicators": 3, "only_here": 0, "shared": 3, "first_of_shared": 2, "median_lead_days": 9,
            "warninglisted": 1,
            "shared_with": {"a": 3, "c": 1},
        })
    );
    assert_eq!((&row("c")["first_of_shared"], &row("otx")["only_here"]), (&json!(0), &json!(1)));
    let shown = home.run(&["sources", "overlap"]);
    for words in ["2 (40 %)", "2 (median 9 d)"] {
        assert!(shown.ends_with(0).out.contains(words), "{shown:?}");
    }
    let empty = self::home(&[]).run(&["sources", "overlap"]);
    assert!(empty.ends_with(0).out.contains("no feed of indicators is stored yet"), "{empty:?}");
}
