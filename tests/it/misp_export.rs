//! Pulses given to MISP: a stand-in on loopback that does what SOURCES §4.5 of its behaviour says and is strict about what it is
//! sent, and a feed in a folder, which `PyMISP` reads.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use otx::{indicators, pulse, wire};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use stores::documents::{Documents as _, Embedded, Index, Write};

use crate::documents::block_on;
use crate::export::{READ_FEED, python};
use crate::home::{CLOCK, Home, respond};

/// Every trial with its name, for the main of the tests.
macro_rules! trials {
    ($($name:ident)*) => {
        pub(crate) const TRIALS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

trials! {
    twice_in_a_row_leaves_one_event_a_pulse
    what_a_server_refuses_is_told_and_the_rest_arrives
    an_event_that_is_refused_for_its_attributes_arrives_without_them
    what_is_private_or_red_never_leaves
    a_server_that_is_away_or_is_none_is_told
    readers_take_the_feed_of_pulses
}

const TASK: &str = "export_pulses_to_misp";
const KEY: &str = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5bC7d";

// The stand-in.

#[derive(Default)]
struct StandInState {
    /// Events by UUID, as they stand.
    events: BTreeMap<String, Value>,
    blocked: HashSet<String>,
    /// Each request, as `POST events/add`.
    asked: Vec<String>,
    /// Whether an event with a malformed attribute is refused as a whole.
    is_strict: bool,
    /// Status that every request gets, where set.
    broken: Option<&'static str>,
}

pub(crate) struct Misp {
    url: String,
    held: Arc<Mutex<StandInState>>,
}

impl Misp {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/misp/", listener.local_addr().unwrap());
        let held = Arc::new(Mutex::new(StandInState::default()));
        let shared = Arc::clone(&held);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serve(&mut shared.lock().unwrap(), stream);
            }
        });
        Self { url, held }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.held.lock().unwrap().asked)
    }

    /// An event as it stands.
    #[track_caller]
    fn event(&self, uuid: &str) -> Value {
        self.held.lock().unwrap().events[uuid].clone()
    }

    fn count(&self) -> usize {
        self.held.lock().unwrap().events.len()
    }
}

fn serve(held: &mut StandInState, mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or_default() == 0 || line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let Some(first) = head.first().cloned() else { return };
    let header = |name: &str| {
        let found = head.iter().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        });
        found.unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or_default()];
    reader.read_exact(&mut body).unwrap();
    let mut parts = first.split(' ');
    let (method, path) = (parts.next().unwrap(), parts.next().unwrap_or_default());
    let path = path.strip_prefix("/misp/").unwrap_or(path);
    held.asked.push(format!("{method} {path}"));
    if let Some(status) = held.broken {
        return respond(&mut stream, status, "", b"<html>maintenance</html>");
    }
    let (status, further, answer) = if header("authorization") != KEY {
        let said = "Authentication failed. Please make sure you pass the API key of an API enabled user along in the Authorization header.";
        ("403 Forbidden", String::new(), json!({"name": said, "message": said, "url": path}))
    } else {
        assert_eq!(header("accept"), "application/json");
        answer(held, method, path, &body)
    };
    let header = format!("content-type: application/json\r\n{further}");
    respond(&mut stream, status, &header, answer.to_string().as_bytes());
}

#[expect(clippy::needless_pass_by_value, reason = "a literal is given at each call")]
fn refusal(what: &str, errors: Value) -> (&'static str, String, Value) {
    let name = format!("Could not {what} Event");
    (
        "403 Forbidden",
        String::new(),
        json!({"saved": false, "name": name, "message": name, "url": "/events", "errors": errors}),
    )
}

fn answer(
    held: &mut StandInState,
    method: &str,
    path: &str,
    body: &[u8],
) -> (&'static str, String, Value) {
    let ok = |event: &Value, errors: Value| {
        let mut answer = json!({"Event": event});
        if errors.as_object().is_some_and(|errors| !errors.is_empty()) {
            answer["errors"] = json!({"Attribute": errors});
        }
        ("200 OK", String::new(), answer)
    };
    if let ("GET", Some(uuid)) = (method, path.strip_prefix("events/view/")) {
        return match held.events.get(uuid) {
            Some(event) => ok(event, Value::Null),
            None => (
                "404 Not Found",
                String::new(),
                json!({"name": "Invalid event", "message": "Invalid event"}),
            ),
        };
    }
    assert_eq!(method, "POST", "{path}");
    let sent: Value = serde_json::from_slice(body).unwrap();
    let event = &sent["Event"];
    let uuid = event["uuid"].as_str().unwrap().to_owned();
    for name in ["info", "date", "timestamp", "threat_level_id", "analysis", "distribution"] {
        if event[name].as_str().is_none_or(str::is_empty) {
            return refusal("add", json!({name: ["is malformed"]}));
        }
    }
    let timestamp = |event: &Value| event["timestamp"].as_str().unwrap().parse::<i64>().unwrap();
    match path {
        "events/add" => {
            if held.blocked.contains(&uuid) {
                return refusal("add", json!("Event blocked by local blocklist."));
            }
            if held.events.contains_key(&uuid) {
                let said = "Event already exists, if you would like to edit it, use the url in the location header.";
                let further = format!("location: http://elsewhere.example/events/edit/{uuid}\r\n");
                return (
                    "404 Not Found",
                    further,
                    json!({"name": said, "message": said, "url": "/events/add"}),
                );
            }
            let (mut kept, mut errors) = (event.clone(), serde_json::Map::new());
            kept["Attribute"] = json!([]);
            take(&mut kept, event, &mut errors);
            if held.is_strict && !errors.is_empty() {
                return refusal("add", json!({"Attribute": errors}));
            }
            held.events.insert(uuid, kept.clone());
            ok(&kept, Value::Object(errors))
        }
        _ => {
            assert_eq!(path, format!("events/edit/{uuid}"));
            let Some(stands) = held.events.get_mut(&uuid) else {
                return ("404 Not Found", String::new(), json!({"message": "Invalid event"}));
            };
            if timestamp(event) <= timestamp(stands) {
                return refusal(
                    "edit",
                    json!(
                        "Event could not be saved: Event in the request not newer than the local copy."
                    ),
                );
            }
            for name in ["info", "timestamp", "Tag"] {
                stands[name] = event[name].clone();
            }
            let mut errors = serde_json::Map::new();
            take(stands, event, &mut errors);
            let stands = stands.clone();
            ok(&stands, Value::Object(errors))
        }
    }
}

/// Adds and edits the attributes that are well-formed.
fn take(stands: &mut Value, event: &Value, errors: &mut serde_json::Map<String, Value>) {
    for (place, one) in event["Attribute"].as_array().unwrap().iter().enumerate() {
        let text = |name: &str| one[name].as_str().unwrap();
        let value = text("value");
        let is_right = match text("type") {
            "ip-dst" => value.split('/').next().unwrap().parse::<std::net::IpAddr>().is_ok(),
            "md5" => value.len() == 32,
            "sha256" => value.len() == 64,
            "link" => value.starts_with("http") && value.contains("://"),
            "domain" | "hostname" => value.contains('.') && !value.contains("refused"),
            "url" | "mutex" | "filename" | "email-src" | "vulnerability" | "yara" | "comment"
            | "text" | "other" | "sha1" => true,
            unknown => panic!("{unknown}: no type of MISP that this trial knows"),
        };
        assert!(
            one["to_ids"].is_boolean() && !text("category").is_empty() && text("uuid").len() == 36
        );
        let all = stands["Attribute"].as_array_mut().unwrap();
        let is_same = |known: &&mut Value| {
            ["type", "category", "value"].iter().all(|name| known[*name] == one[*name])
        };
        if !is_right {
            errors.insert(
                place.to_string(),
                json!({"value": [format!("`{value}` has an invalid format")]}),
            );
        } else if let Some(known) = all.iter_mut().find(|known| known["uuid"] == one["uuid"]) {
            *known = one.clone();
        } else if all.iter_mut().any(|mut known| is_same(&mut known)) {
            errors.insert(
                place.to_string(),
                json!({"value": ["A similar attribute already exists for this event."]}),
            );
        } else {
            all.push(one.clone());
        }
    }
}

// Pulses.

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

/// A pulse with these indicators, as OTX gives it; `more` stands above the usual.
#[expect(clippy::needless_pass_by_value, reason = "a literal is given at each call")]
pub(crate) fn a_pulse(number: u8, more: Value, indicators: &[(&str, &str)]) -> Value {
    let listed = indicators.iter().map(|(kind, value)| {
        json!({"id": 1, "type": kind, "indicator": value, "created": "2026-01-10T08:00:00", "title": "", "description": "", "content": "", "is_active": 1})
    });
    let mut pulse = json!({
        "id": format!("{number:024x}"), "name": format!("Pulse {number}"), "description": "What was seen.", "author_name": "ana",
        "created": "2026-01-10T08:00:00.123000", "modified": "2026-01-11T08:00:00.456000", "revision": 1, "public": 1,
        "tlp": "green", "tags": ["loader"], "references": ["https://example.org/report"], "adversary": "",
        "industries": [], "targeted_countries": [], "malware_families": [], "attack_ids": [],
        "indicators": listed.collect::<Vec<_>>(),
    });
    for (name, value) in more.as_object().unwrap() {
        pulse[name] = value.clone();
    }
    pulse
}

/// Stores pulses as the sync does.
pub(crate) fn sync(home: &Home, pulses: &[Value]) {
    let now = CLOCK.parse().unwrap();
    block_on(async {
        let store = Embedded::open(&home.path("data")).await.unwrap();
        for one in pulses {
            let text = raw(one);
            let (pulse, listed) = wire::pulse(&text).unwrap();
            let tlp = pulse.tlp.as_deref().and_then(ioc::Tlp::read);
            let mut summary = pulse::Summary::default();
            let mut writes: Vec<Write> = Vec::new();
            for indicator in listed.unwrap() {
                let indicator = wire::pulse_indicator(indicator).unwrap();
                summary.add(&indicator);
                let write = indicators::write(&pulse, tlp, &[indicator], &[], now).unwrap();
                if !writes.iter().any(|known| known.id == write.id) {
                    writes.push(write);
                }
            }
            let of = |name| Index::named(name).unwrap();
            let whole = pulse::write(&pulse, &summary, tlp.map(ioc::Tlp::as_str), now);
            for (index, writes) in [(indicators::INDEX, writes), (pulse::INDEX, vec![whole])] {
                for written in store.upsert(of(index), &writes).await.unwrap() {
                    assert_eq!(written.refusal(), None);
                }
            }
        }
    });
}

pub(crate) fn home(misp: Option<&Misp>, feed: bool) -> Home {
    let mut home = Home::of(&[]).with("MINERVA_CLOCK", CLOCK);
    if let Some(misp) = misp {
        home = home.with("MISP_URL", misp.url.as_str()).with("MISP_KEY", KEY);
    }
    if feed {
        let place = home.path("feed").to_str().unwrap().to_owned();
        home = home.with("MISP_EXPORT", place);
    }
    home
}

/// The event of a pulse.
fn uuid(number: u8) -> String {
    ioc::misp_feed::id(&["otx", &format!("{number:024x}")]).to_string()
}

fn exported(home: &Home) -> Vec<Value> {
    let out = home.run(&["documents", "otx_pulses"]).ends_with(0).out.clone();
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn counts(report: &Value) -> String {
    let names = ["found", "changed", "unchanged", "filtered", "rejected", "failed"];
    names.map(|name| format!("{name} {}", report[name])).join(", ")
}

fn twice_in_a_row_leaves_one_event_a_pulse() {
    let misp = Misp::start();
    let home = home(Some(&misp), true);
    let mut pulses = vec![
        a_pulse(
            1,
            json!({}),
            &[("IPv4", "198.51.100.7"), ("domain", "evil.com"), ("FileHash-MD5", &"a1".repeat(16))],
        ),
        a_pulse(
            2,
            json!({"tlp": "white"}),
            &[("URL", "http://evil.com/a"), ("domain", "evil.com"), ("CVE", "CVE-2026-1234")],
        ),
    ];
    sync(&home, &pulses);
    let report = home.report(&[TASK]);
    assert_eq!(
        counts(&report),
        "found 2, changed 2, unchanged 0, filtered 0, rejected 0, failed 0",
        "{report}"
    );
    assert_eq!(misp.asked(), ["POST events/add"; 2]);
    let event = misp.event(&uuid(2));
    assert_eq!(
        (&event["info"], &event["published"], &event["date"]),
        (&json!("Pulse 2"), &json!(false), &json!("2026-01-10"))
    );
    assert_eq!(event["Tag"][0]["name"], "tlp:clear");
    for one in exported(&home) {
        assert_eq!(
            (&one["exported_to_misp"], &one["exported_revision"]),
            (&json!(true), &json!(1)),
            "{one}"
        );
        assert!(
            misp.held.lock().unwrap().events.contains_key(one["misp_event_uuid"].as_str().unwrap())
        );
    }
    let again = home.report(&[TASK]);
    assert_eq!(
        counts(&again),
        "found 2, changed 0, unchanged 2, filtered 0, rejected 0, failed 0",
        "{again}"
    );
    assert_eq!(misp.asked(), [""; 0], "nothing is asked for what is there");

    // A run that was killed before it noted anything: the server has this version already.
    let other = self::home(Some(&misp), false);
    sync(&other, &pulses);
    let report = other.report(&[TASK]);
    assert_eq!(
        counts(&report),
        "found 2, changed 2, unchanged 0, filtered 0, rejected 0, failed 0",
        "{report}"
    );
    assert_eq!(misp.count(), 2);
    misp.asked();

    // An edited pulse is an edited event.
    pulses[0] = a_pulse(
        1,
        json!({"modified": "2026-01-12T08:00:00", "revision": 2, "name": "Pulse\tone"}),
        &[("IPv4", "198.51.100.7"), ("domain", "evil.com"), ("domain", "new.com")],
    );
    sync(&home, &pulses[..1]);
    let report = home.report(&[TASK]);
    assert_eq!(
        counts(&report),
        "found 2, changed 1, unchanged 1, filtered 0, rejected 0, failed 0",
        "{report}"
    );
    assert_eq!(
        misp.asked(),
        ["POST events/add".to_owned(), format!("POST events/edit/{}", uuid(1))]
    );
    let event = misp.event(&uuid(1));
    assert_eq!((misp.count(), &event["info"]), (2, &json!("Pulse one")));
    assert!(event["Attribute"].to_string().contains("new.com"));
    let manifest = std::fs::read_to_string(home.path("feed/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest[uuid(1)]["timestamp"].to_string(), event["timestamp"].as_str().unwrap());
}

fn what_a_server_refuses_is_told_and_the_rest_arrives() {
    let misp = Misp::start();
    let home = home(Some(&misp), false);
    sync(
        &home,
        &[
            a_pulse(
                1,
                json!({}),
                &[
                    ("domain", "refused1.com"),
                    ("domain", "refused2.com"),
                    ("hostname", "a.refused.com"),
                    ("domain", "fine.com"),
                ],
            ),
            a_pulse(2, json!({}), &[("domain", "blocked.com")]),
            a_pulse(3, json!({}), &[("domain", "older.com")]),
            a_pulse(4, json!({}), &[("domain", "good.com"), ("domain", "good.com")]),
        ],
    );
    {
        let mut held = misp.held.lock().unwrap();
        held.blocked.insert(uuid(2));
        let newer = json!({"uuid": uuid(3), "timestamp": "1900000000", "info": "edited by hand", "Attribute": []});
        held.events.insert(uuid(3), newer);
    }
    let ran = home.run(&["run", TASK, "--json"]);
    let report = ran.json();
    assert_eq!(
        counts(&report),
        "found 4, changed 2, unchanged 0, filtered 0, rejected 2, failed 0",
        "{report}"
    );
    let rejects = report["rejects"].to_string();
    for words in [
        "refused1.com",
        "refused2.com",
        "a.refused.com",
        "Event blocked by local blocklist.",
        "the server's event is newer",
    ] {
        assert!(rejects.contains(words), "{words}: {rejects}");
    }
    assert!(report.to_string().contains("MISP refused 3 of"), "{report}");
    assert_eq!(misp.event(&uuid(3))["info"], "edited by hand");
    let values = misp.event(&uuid(1))["Attribute"].to_string();
    assert!(values.contains("fine.com") && !values.contains("refused1.com"), "{values}");
    assert!(misp.event(&uuid(4))["Attribute"].to_string().contains("good.com"));
    assert!(!report.to_string().contains(KEY));
    let noted: Vec<Value> =
        exported(&home).into_iter().filter(|one| one["exported_to_misp"] == true).collect();
    assert_eq!(noted.len(), 2, "what did not arrive is not noted as if it had");
}

fn an_event_that_is_refused_for_its_attributes_arrives_without_them() {
    let misp = Misp::start();
    misp.held.lock().unwrap().is_strict = true;
    let home = home(Some(&misp), false);
    let values = ["refused1.com", "fine.com", "refused2.com", "refused3.com"];
    sync(&home, &[a_pulse(1, json!({}), &values.map(|value| ("domain", value)))]);
    let report = home.report(&[TASK]);
    assert_eq!((&report["changed"], &report["rejected"]), (&json!(1), &json!(0)), "{report}");
    let (told, kept) =
        (report["rejects"].to_string(), misp.event(&uuid(1))["Attribute"].to_string());
    for value in values {
        assert_eq!(kept.contains(value), value == "fine.com", "{value}: {kept}");
        assert_eq!(told.contains(value), value != "fine.com", "{value}: {told}");
    }
}

fn what_is_private_or_red_never_leaves() {
    let misp = Misp::start();
    let home = home(Some(&misp), true);
    let public =
        a_pulse(1, json!({"tlp": "amber"}), &[("domain", "shared.com"), ("domain", "evil.com")]);
    let secret = |number, more: Value| {
        let mut one = a_pulse(number, more, &[("domain", "shared.com"), ("domain", "hidden.com")]);
        one["indicators"][0]["description"] = json!("a secret of ours");
        one
    };
    sync(
        &home,
        &[
            public.clone(),
            secret(2, json!({"public": 0})),
            secret(3, json!({"tlp": "red"})),
            secret(4, json!({"tlp": "purple"})),
        ],
    );
    // What no one knows counts as red by the sync; this store has it as it came.
    let report = home.report(&[TASK]);
    assert_eq!(report["filtered"], 2, "{report}");
    assert!(misp.event(&uuid(1))["Tag"].to_string().contains("tlp:amber"));
    let everything =
        format!("{:?} {}", misp.held.lock().unwrap().events, folder(&home.path("feed")));
    assert!(!everything.contains("tlp:red"), "{everything}");
    for number in [2, 3] {
        assert!(!everything.contains(&uuid(number)), "{number}");
    }
    let event = misp.event(&uuid(1)).to_string();
    assert!(event.contains("shared.com") && !event.contains("secret of ours"), "{event}");
    // It becomes red: the feed loses it, and what a server has is named.
    let mut red = public;
    red["tlp"] = json!("red");
    red["modified"] = json!("2026-02-01T00:00:00");
    sync(&home, &[red]);
    let report = home.report(&[TASK]);
    let held = folder(&home.path("feed"));
    assert!(!held.contains(&uuid(1)) && !held.contains("evil.com"), "{held}");
    assert!(report.to_string().contains("delete it there"), "{report}");
}

/// The names and the contents of a folder.
fn folder(path: &Path) -> String {
    let files = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| format!("{} {}\n", path.display(), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

fn a_server_that_is_away_or_is_none_is_told() {
    let pulses: Vec<Value> =
        (1..=6).map(|n| a_pulse(n, json!({}), &[("domain", "evil.com")])).collect();
    let misp = Misp::start();
    let run = |home: &Home| {
        sync(home, &pulses);
        let ran = home.run(&["run", TASK, "--json"]);
        (ran.code, ran.json())
    };
    let (code, report) = run(&home(None, false));
    assert_eq!((code, report["error"]["class"].as_str()), (Some(2), Some("config")), "{report}");
    assert!(report.to_string().contains("MISP_EXPORT"), "{report}");
    let (_, report) = run(&home(Some(&misp), false).with("MISP_KEY", "wrong"));
    assert!(report.to_string().contains("check `MISP_KEY`"), "{report}");
    assert_eq!(misp.asked().len(), 1, "a wrong key is not tried on every pulse");
    misp.held.lock().unwrap().broken = Some("502 Bad Gateway");
    let with_feed = home(Some(&misp), true);
    let (_, report) = run(&with_feed);
    assert_eq!(report["failed"], 6, "{report}");
    assert!(misp.asked().len() <= 3, "it is left alone after some failures");
    assert_eq!(
        folder(&with_feed.path("feed")).lines().filter(|line| line.contains("\"Event\"")).count(),
        6,
        "the feed is whole"
    );
    misp.held.lock().unwrap().broken = Some("200 OK");
    let (_, report) = run(&home(Some(&misp), false));
    assert!(report.to_string().contains("check `MISP_URL`"), "{report}");
    misp.held.lock().unwrap().broken = None;
    let report = with_feed.report(&[TASK]);
    assert_eq!((&report["changed"], misp.count()), (&json!(6), 6), "{report}");
}

fn readers_take_the_feed_of_pulses() {
    let home = home(None, true);
    sync(
        &home,
        &[
            a_pulse(
                1,
                json!({
                    "adversary": "Nobody \"known\"", "attack_ids": [{"id": "T1059", "name": "Command and Scripting Interpreter", "display_name": "T1059 - Command and Scripting Interpreter"}, {"id": "T9999"}],
                    "malware_families": ["WHIRLPOOL"], "tags": ["tlp:white", "Loader"], "industries": ["Energy"],
                }),
                &[
                    ("IPv4", "198.51.100.7"),
                    ("IPv6", "2001:db8::1"),
                    ("CIDR", "203.0.113.0/24"),
                    ("domain", "evil.com"),
                    ("hostname", "www.evil.com"),
                    ("URL", "http://evil.com/a?b=c"),
                    ("URI", "http://evil.com/d"),
                    ("FileHash-MD5", &"a1".repeat(16)),
                    ("FileHash-SHA1", &"b2".repeat(20)),
                    ("FileHash-SHA256", &"c3".repeat(32)),
                    ("FileHash-IMPHASH", &"d4".repeat(16)),
                    ("FileHash-PEHASH", &"e5".repeat(20)),
                    ("email", "a@evil.com"),
                    ("Mutex", "Global\\x"),
                    ("FilePath", "C:\\x.exe"),
                    ("CVE", "CVE-2026-1234"),
                    ("BitcoinAddress", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT"),
                    ("SSLCertFingerprint", "aa:bb:cc"),
                ],
            ),
            a_pulse(2, json!({}), &[("domain", "evil.com")]),
        ],
    );
    home.report(&[TASK]);
    let feed = home.path("feed");
    let read = python(READ_FEED, &[feed.to_str().unwrap()]);
    let of: Vec<&Value> = read["attributes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["event"] == json!(uuid(1)))
        .collect();
    let has =
        |kind: &str, value: &str| of.iter().any(|one| one["type"] == kind && one["value"] == value);
    for (kind, value) in [
        ("ip-dst", "198.51.100.7"),
        ("ip-dst", "2001:db8::1"),
        ("ip-dst", "203.0.113.0/24"),
        ("domain", "evil.com"),
        ("hostname", "www.evil.com"),
        ("url", "http://evil.com/d"),
        ("imphash", &"d4".repeat(16)),
        ("pehash", &"e5".repeat(20)),
        ("email-src", "a@evil.com"),
        ("mutex", "Global\\x"),
        ("filename", "C:\\x.exe"),
        ("vulnerability", "CVE-2026-1234"),
        ("btc", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT"),
        ("other", "aa:bb:cc"),
        ("link", "https://example.org/report"),
        ("comment", "What was seen."),
    ] {
        assert!(has(kind, value), "{kind} {value}: {of:?}");
    }
    assert_eq!(of.len(), 18 + 3, "no more than the indicators, two links and the description");
    let tags = &read["events"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["uuid"] == json!(uuid(1)))
        .unwrap()["tags"];
    assert_eq!(
        tags,
        &json!([
            "tlp:green",
            "otx:adversary=\"Nobody 'known'\"",
            "otx:malware-family=\"WHIRLPOOL\"",
            "misp-galaxy:mitre-attack-pattern=\"Command and Scripting Interpreter - T1059\"",
            "otx:attack-id=\"T9999\"",
            "otx:industry=\"Energy\"",
            "otx:tlp:white",
            "otx:Loader",
        ])
    );
    let before = folder(&feed);
    home.report(&[TASK]);
    assert_eq!(folder(&feed), before, "again, nothing is written");
}
