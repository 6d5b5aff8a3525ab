//! The OTX family's tasks on the embedded store, against an upstream that behaves as OTX does, and as it does on bad days.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base::clock::Deadline;
use base::config;
use base::report::{Counts, Outcome, Report, Status};
use otx::{FAMILY, indicators, pulse};
use serde_json::{Value, json};
use stores::documents::{Body, Index};
use task::testing::TestHome;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::documents::{Check, Place, block_on};
use crate::kills::{self, Subject};
use crate::malpedia_stores::everything;
use crate::servers::address;

pub(crate) mod keys;
pub(crate) mod known;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("pulses_become_one_document_for_each_value", pulses_become_one_document_for_each_value),
    ("real_pulses_are_accounted_for", real_pulses_are_accounted_for),
    ("a_second_run_asks_from_the_cursor_on", a_second_run_asks_from_the_cursor_on),
    ("pages_get_smaller_when_it_times_out", pages_get_smaller_when_it_times_out),
    ("activity_is_the_way_out_and_keeps_the_cursor", activity_is_the_way_out_and_keeps_the_cursor),
    ("next_is_a_hint_and_no_address", next_is_a_hint_and_no_address),
    ("a_cut_run_goes_on_at_its_page", a_cut_run_goes_on_at_its_page),
    (
        "a_pulse_that_left_while_it_was_read_hides_none",
        a_pulse_that_left_while_it_was_read_hides_none,
    ),
    ("further_indicators_are_fetched_by_pages", further_indicators_are_fetched_by_pages),
    ("what_an_edited_pulse_dropped_is_marked", what_an_edited_pulse_dropped_is_marked),
    (
        "a_deleted_pulse_is_marked_with_its_part_of_each_indicator",
        a_deleted_pulse_is_marked_with_its_part_of_each_indicator,
    ),
    ("a_subscription_that_ends_or_begins_is_heeded", a_subscription_that_ends_or_begins_is_heeded),
    ("a_kill_at_any_moment_loses_nothing", a_kill_at_any_moment_loses_nothing),
];

/// What OTX holds, and how it behaves.
#[derive(Default)]
struct Otx {
    /// The newest first, as it gives them.
    pulses: Vec<Value>,
    /// Indicators of pulses that come without them.
    further: BTreeMap<String, Vec<Value>>,
    events: Vec<Value>,
    /// Requests as `path?query`, in order, and uses by key.
    requests: Vec<String>,
    keys: BTreeMap<String, u32>,
    /// A key that is refused with this status, from this use on.
    refused: Option<(&'static str, u16, u32)>,
    /// How often `subscribed` still answers 504.
    failures: u32,
    /// Pages above this size are a 504.
    size_max: Option<usize>,
    /// What `next` says instead of the address of the next page.
    next: Option<fn(&str) -> String>,
    /// A page that is empty though more follow.
    empty_page: Option<usize>,
    /// Every page is the first, and says that there are more.
    repeats: bool,
    /// Falls silent at this request.
    silent_at: Option<usize>,
    /// Loses its first pulse after this many requests.
    loses_after: Option<usize>,
    /// What it knows of single values, by `type/value/section`; nothing of others. A number is a status.
    known: BTreeMap<String, Value>,
}

pub(crate) const SERVER_CHECKS: &[(&str, Check)] =
    &[("pulses_are_stored_as_in_the_embedded_store", pulses_are_stored_alike)];

/// A server that is one.
struct Server {
    origin: String,
    otx: Arc<Mutex<Otx>>,
}

impl Server {
    async fn start(pulses: Vec<Value>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let otx = Arc::new(Mutex::new(Otx { pulses, ..Otx::default() }));
        let routes = Router::new().fallback(answer).with_state((origin.clone(), Arc::clone(&otx)));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { origin, otx }
    }

    fn set<T>(&self, change: impl FnOnce(&mut Otx) -> T) -> T {
        change(&mut self.otx.lock().unwrap())
    }

    /// The requests since the last question, without the paths' common beginning.
    fn asked(&self) -> Vec<String> {
        self.set(|otx| std::mem::take(&mut otx.requests))
    }
}

type Shared = (String, Arc<Mutex<Otx>>);

async fn answer(State((origin, shared)): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches("/api/v1/").to_owned();
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let is_silent = {
        let mut otx = shared.lock().unwrap();
        otx.requests.push(uri.path_and_query().unwrap().as_str().replace("/api/v1/", ""));
        if otx.loses_after.is_some_and(|count| otx.requests.len() > count) {
            otx.loses_after = None;
            otx.pulses.remove(0);
        }
        let count = otx.requests.len();
        otx.silent_at.take_if(|at| *at == count).is_some()
    };
    if is_silent {
        return std::future::pending().await;
    }
    let mut otx = shared.lock().unwrap();
    let key = headers.get("x-otx-api-key").map(|key| key.to_str().unwrap().to_owned());
    let Some(key) = key else { return StatusCode::FORBIDDEN.into_response() };
    let uses = otx.keys.entry(key.clone()).or_default();
    *uses += 1;
    let uses = *uses;
    if let Some((refused, status, from)) = otx.refused
        && refused == key
        && uses >= from
    {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let (limit, page) = (number("limit").unwrap_or(50), number("page").unwrap_or(1));
    let all: Vec<Value> = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["users", "me"] => return json(&json!({"username": "analyst"})),
        ["pulses", "subscribed"] => {
            if otx.failures > 0 {
                otx.failures -= 1;
                return StatusCode::GATEWAY_TIMEOUT.into_response();
            }
            if otx.size_max.is_some_and(|most| limit > most) {
                return StatusCode::GATEWAY_TIMEOUT.into_response();
            }
            // A plus sign that was not escaped is a space here.
            let since = query.get("modified_since").map(|text| {
                assert!(text.ends_with("+00:00"), "{text}");
                text.parse::<jiff::Timestamp>().unwrap()
            });
            let is_wanted = |pulse: &&Value| {
                let modified = base::date::instant(pulse["modified"].as_str().unwrap()).unwrap();
                since.is_none_or(|since| modified >= since)
                    && query.get("author_name").is_none_or(|name| pulse["author_name"] == **name)
            };
            otx.pulses.iter().filter(is_wanted).cloned().collect()
        }
        ["indicators", rest @ ..] => {
            return match otx.known.get(&rest.join("/")) {
                Some(Value::Number(status)) => {
                    StatusCode::from_u16(u16::try_from(status.as_u64().unwrap()).unwrap())
                        .unwrap()
                        .into_response()
                }
                Some(known) => json(known),
                None => StatusCode::NOT_FOUND.into_response(),
            };
        }
        ["pulses", "activity"] => otx.pulses.clone(),
        ["pulses", "events"] => otx.events.clone(),
        ["pulses", id, "indicators"] => otx.further.get(*id).cloned().unwrap_or_default(),
        ["pulses", id] => {
            let pulse = otx.pulses.iter().find(|pulse| pulse["id"] == **id);
            return pulse.map_or_else(|| StatusCode::NOT_FOUND.into_response(), json);
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    // The empty page stands between others and takes the place of none.
    let empty_before = usize::from(otx.empty_page.is_some_and(|empty| empty < page));
    let from = if otx.repeats { 0 } else { (page - 1 - empty_before) * limit };
    let is_empty = otx.empty_page == Some(page);
    let results: Vec<&Value> =
        all.iter().skip(from).take(if is_empty { 0 } else { limit }).collect();
    let has_more = from + limit < all.len() || otx.repeats;
    let mut next = uri.path().to_owned() + "?page=" + &(page + 1).to_string();
    next = format!("{origin}{next}&limit={limit}");
    if let Some(other) = otx.next {
        next = other(&next);
    }
    json(
        &json!({"count": all.len(), "next": has_more.then_some(next), "previous": null, "t": 0.1, "results": results}),
    )
}

fn json(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

static REQUESTS: AtomicU32 = AtomicU32::new(0);

/// A home of the family.
struct Home {
    home: TestHome,
    server: Server,
}

const NOW: &str = "2026-03-01T12:00:00Z";

impl Home {
    async fn of(pulses: Vec<Value>) -> Self {
        Self::with(pulses, &[]).await
    }

    async fn with(pulses: Vec<Value>, more: &[(&str, &str)]) -> Self {
        let server = Server::start(pulses).await;
        Self::open(tempfile::tempdir().unwrap(), server, more).await
    }

    async fn open(folder: TempDir, server: Server, more: &[(&str, &str)]) -> Self {
        let settings = [
            ("OTX_URL", server.origin.as_str()),
            ("OTX_API_KEY", "one, two"),
            ("MINERVA_CLOCK", NOW),
        ];
        // The first of a name holds.
        let settings: Vec<(String, String)> = more
            .iter()
            .chain(&settings)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let home = TestHome::open(folder, &settings, &[FAMILY.settings]).await.unwrap();
        Self { home, server }
    }

    /// The same folder and server under other settings.
    async fn reopened(self, more: &[(&str, &str)]) -> Self {
        let Self { home: TestHome { home, folder, .. }, server } = self;
        drop(home);
        Self::open(folder, server, more).await
    }

    async fn run(&self, task: &str) -> Report {
        self.run_within(task, Value::Null, Duration::from_secs(120)).await
    }

    async fn run_within(&self, task: &str, event: Value, time: Duration) -> Report {
        let task = FAMILY.tasks.iter().find(|known| known.name == task).unwrap();
        // Of its own over all homes on one folder: the same request is the same run.
        let request = format!("trial-{}", REQUESTS.fetch_add(1, Ordering::Relaxed));
        let deadline = Deadline::after(time);
        Box::pin(task::function::invoke(&self.home.home, task, event, &request, deadline)).await
    }

    async fn sync(&self) -> Report {
        let report = self.run("sync_otx_pulses").await;
        assert_eq!(report.status, Status::Complete, "{report:?}");
        report
    }

    async fn stored(&self, index: &str) -> Vec<Body> {
        let documents = self.home.documents(Index::named(index).unwrap()).await.unwrap();
        documents.into_iter().map(|one| one.body).collect()
    }

    async fn indicators(&self) -> BTreeMap<String, Body> {
        let all = self.stored(indicators::INDEX).await.into_iter();
        all.map(|body| (body["value"].as_str().unwrap().to_owned(), body)).collect()
    }

    async fn pulses(&self) -> BTreeMap<String, Body> {
        let all = self.stored(pulse::INDEX).await.into_iter();
        all.map(|body| (body["pulse_id"].as_str().unwrap().to_owned(), body)).collect()
    }
}

fn fixture() -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/otx/subscribed.json");
    let page: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    page["results"].as_array().unwrap().clone()
}

fn id(number: usize) -> String {
    format!("{number:024x}")
}

/// A pulse with these addresses; a higher number is newer.
fn numbered(number: usize, values: &[&str]) -> Value {
    let indicators: Vec<Value> = values
        .iter()
        .map(|value| json!({"id": 1, "indicator": value, "type": "IPv4", "created": "2026-02-01T00:00:00"}))
        .collect();
    let modified = format!(
        "2026-02-{:02}T{:02}:{:02}:00.123456",
        1 + number / 1440,
        number / 60 % 24,
        number % 60
    );
    json!({
        "id": id(number), "name": format!("pulse {number}"), "author_name": "analyst", "created": modified, "modified": modified,
        "tlp": "green", "public": 1, "revision": 1, "tags": [], "references": [], "more_indicators": false, "indicators": indicators,
    })
}

/// So many pulses, the newest first, each with an address of its own and one that all have.
fn many(count: usize) -> Vec<Value> {
    (0..count)
        .rev()
        .map(|number| {
            numbered(
                number,
                &[&format!("203.0.{}.{}", number / 250, 1 + number % 250), "198.51.100.1"],
            )
        })
        .collect()
}

fn counts(report: &Report, index: &str) -> Counts {
    report.sources[0].by_index[index]
}

fn notes(report: &Report) -> String {
    report.sources[0].notes.join("\n")
}

fn pulses_become_one_document_for_each_value() {
    block_on(async {
        let home = Home::of(fixture()).await;
        let report = home.sync().await;
        let (pulses, values) = (counts(&report, pulse::INDEX), counts(&report, indicators::INDEX));
        assert_eq!((pulses.found, pulses.new), (3, 3));
        assert_eq!(values.found, 45, "as many as the pulses hold");
        // One is no address; one stands in three pulses and one in two.
        assert_eq!((values.rejected, values.merged, values.new), (1, 3, 41), "{values:?}");
        assert!(report.rejects[0].reason.contains("not an address"), "{report:?}");
        let all = home.indicators().await;
        let shared = &all["203.0.113.5"];
        assert_eq!(shared["pulses_count"], 3);
        assert_eq!(shared["pulses"].as_array().unwrap().len(), 3);
        assert_eq!(shared["sources_count"], 1);
        assert_eq!(shared["tlp"], "amber", "the strictest");
        let tlp = |place: usize| shared["pulses"][place]["tlp"].as_str().unwrap();
        assert_eq!([tlp(0), tlp(1), tlp(2)], ["green", "clear", "amber"]);
        assert_eq!(shared["pulses"][2]["public"], false, "a private one is kept and marked");
        assert_eq!(shared["threat_actor"], json!(["Example Panda"]));
        assert_eq!(shared["malware_family"], json!(["ExampleLoader"]));
        assert_eq!(shared["attack_ids"], json!(["T1566"]));
        assert_eq!(shared["threat"]["indicator"]["ip"], "203.0.113.5");
        assert_eq!(shared["threat"]["indicator"]["marking"]["tlp"], "AMBER");
        let kind = |value: &str| all[value]["type"].as_str().unwrap().to_owned();
        assert_eq!(kind("2001:db8::5"), "ipv6");
        assert_eq!(kind("/a/b.php?x=1"), "other");
        assert_eq!(kind(&"x".repeat(600)), "mutex");
        let rule = &all["rule invoice { strings: $a = \"invoice\" condition: $a }"];
        assert_eq!((&rule["type"], &rule["content"]), (&json!("yara"), &rule["value"]));
        let inactive = &all["198.51.100.7"];
        assert_eq!(inactive["active"], false, "OTX says that it no longer holds");
        assert_eq!(all["192.168.113.98"]["expires_at"], "2026-02-25T00:00:00Z");
        let stored = home.pulses().await;
        let details = &stored["65f0000000000000000000a2"];
        assert_eq!(
            (&details["author_name"], &details["author_id"]),
            (&json!("researcher"), &json!("77"))
        );
        assert_eq!(
            (&details["tlp"], &details["cves"]),
            (&json!("clear"), &json!(["CVE-2026-0001"]))
        );
        assert_eq!(stored["65f0000000000000000000a3"]["public"], false);
        assert_eq!(stored["65f0000000000000000000a1"]["indicator_count"], 21);
    });
}

/// Pulses as OTX gave them in July 2018, where `MINERVA_CORPUS` has them.
fn corpus() -> Option<PathBuf> {
    let file = PathBuf::from(config::variable("MINERVA_CORPUS")?).join("otx/pulses_2018.json");
    file.exists().then_some(file)
}

/// Why there are none here, if there are none.
pub(crate) fn no_corpus() -> Option<String> {
    let reason = "MINERVA_CORPUS names no folder that holds `otx/pulses_2018.json`";
    corpus().is_none().then(|| reason.to_owned())
}

fn real_pulses_are_accounted_for() {
    let text = std::fs::read(corpus().expect("it is skipped where there are none")).unwrap();
    let pulses: Vec<Value> = serde_json::from_slice(&text).unwrap();
    block_on(async {
        let mut given: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        let mut count = 0;
        for pulse in &pulses {
            for one in pulse["indicators"].as_array().unwrap() {
                count += 1;
                let text = |name: &str| one[name].as_str().unwrap();
                // Addresses that differ in how they name their host, and values that differ in case, are one.
                let value = match text("type") {
                    "URL" => url::Url::parse(text("indicator")).unwrap().to_string(),
                    _ => text("indicator").to_lowercase(),
                };
                let pulses = given.entry((text("type").to_owned(), value)).or_default();
                pulses.insert(pulse["id"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(count, 8_331);
        let home = Home::of(pulses.clone()).await;
        let report = home.sync().await;
        let values = counts(&report, indicators::INDEX);
        assert_eq!((values.found, values.rejected), (count, 0), "{:?}", report.rejects);
        let all = home.stored(indicators::INDEX).await;
        assert_eq!(all.len(), given.len());
        let count = |body: &Body| usize::try_from(body["pulses_count"].as_u64().unwrap()).unwrap();
        let named: usize = all.iter().map(count).sum();
        assert_eq!(named, given.values().map(BTreeSet::len).sum::<usize>(), "each with its pulses");
        let in_several = given.values().filter(|pulses| pulses.len() > 1).count();
        assert_eq!(all.iter().filter(|body| count(body) > 1).count(), in_several);
        assert!(all.iter().all(|body| body["type"] != "other"));
        let stored = home.pulses().await;
        for pulse in &pulses {
            let tlp = match pulse["tlp"].as_str().unwrap() {
                "white" => "clear",
                other => other,
            };
            assert_eq!(stored[pulse["id"].as_str().unwrap()]["tlp"], tlp);
        }
        assert_eq!(home.sync().await.writes(), 0);
    });
}

fn a_second_run_asks_from_the_cursor_on() {
    block_on(async {
        let home = Home::of(many(45)).await;
        let first = home.sync().await;
        assert_eq!(
            (counts(&first, pulse::INDEX).new, counts(&first, indicators::INDEX).new),
            (45, 46)
        );
        let asked = home.server.asked();
        assert_eq!(asked.len(), 3, "{asked:?}");
        let second = home.sync().await;
        assert_eq!((second.writes(), second.sources[0].outcome), (0, Outcome::Unchanged));
        let asked = home.server.asked();
        // Ten minutes before the newest pulse; the sign of the zone is escaped.
        let since = "2026-02-01T00%3A34%3A00.123456%2B00%3A00";
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert!(asked[0].starts_with("pulses/events?") && asked[0].contains("%2B00"), "{asked:?}");
        assert_eq!(asked[1], format!("pulses/subscribed?limit=20&page=1&modified_since={since}"));
        home.server.set(|otx| otx.pulses.insert(0, numbered(27 * 1440, &["192.0.2.60"])));
        let third = home.sync().await;
        assert_eq!((counts(&third, pulse::INDEX).new, third.writes()), (1, 2));
    });
}

fn pages_get_smaller_when_it_times_out() {
    block_on(async {
        let home = Home::of(many(45)).await;
        home.server.set(|otx| otx.failures = 3);
        let report = home.sync().await;
        assert_eq!(counts(&report, pulse::INDEX).new, 45);
        assert!(notes(&report).contains("after 3 failures, on pages of 5"), "{report:?}");
        let asked = home.server.asked();
        let limits: Vec<&str> =
            asked.iter().map(|one| one.split(['=', '&']).nth(1).unwrap()).take(5).collect();
        assert_eq!(limits, ["20", "10", "5", "5", "5"], "{asked:?}");
        // In the middle of a list the place stays the same.
        let home = Home::of(many(45)).await;
        home.server.set(|otx| otx.size_max = Some(10));
        let report = home.sync().await;
        assert_eq!(counts(&report, pulse::INDEX).new, 45, "{report:?}");
        assert!(home.server.asked().len() <= 6);
    });
}

fn activity_is_the_way_out_and_keeps_the_cursor() {
    block_on(async {
        let home = Home::of(many(12)).await;
        home.server.set(|otx| otx.failures = u32::MAX);
        let report = home.sync().await;
        assert_eq!(counts(&report, pulse::INDEX).new, 12);
        let told = notes(&report);
        assert!(
            told.contains("`pulses/activity` is read instead") && told.contains("504"),
            "{told}"
        );
        home.server.asked();
        assert_eq!(home.sync().await.writes(), 0, "twice");
        home.server.asked();
        // It answers again: everything is read by it, and nothing of that is new.
        home.server.set(|otx| otx.failures = 0);
        let back = home.sync().await;
        assert_eq!((back.writes(), counts(&back, pulse::INDEX).unchanged), (0, 12));
        let asked = home.server.asked();
        assert!(asked.iter().all(|one| !one.contains("modified_since")), "{asked:?}");
    });
}

fn next_is_a_hint_and_no_address() {
    block_on(async {
        for next in [
            (|_| "http://192.0.2.1/api/v1/pulses/subscribed?page=2".to_owned())
                as fn(&str) -> String,
            |own| own.replace("page=", "page=1&was="),
            |_| "pulses".to_owned(),
        ] {
            let home = Home::of(many(45)).await;
            home.server.set(|otx| otx.next = Some(next));
            let report = home.sync().await;
            assert_eq!(counts(&report, pulse::INDEX).new, 45, "{report:?}");
            let is_foreign = next("x").contains("192.0.2.1");
            assert_eq!(notes(&report).contains("another host"), is_foreign, "{report:?}");
            assert_eq!(home.server.asked().len(), 3);
        }
        let home = Home::of(many(45)).await;
        home.server.set(|otx| otx.empty_page = Some(2));
        let report = home.sync().await;
        assert_eq!(counts(&report, pulse::INDEX).new, 45, "{report:?}");
        assert!(home.server.asked().len() <= 5, "it ends");
        let home = Home::of(many(45)).await;
        home.server.set(|otx| otx.repeats = true);
        let report = home.sync().await;
        assert_eq!(counts(&report, pulse::INDEX).new, 20, "{report:?}");
        assert!(home.server.asked().len() <= 4, "it ends");
        assert!(notes(&report).contains("gave 20 and then nothing new"), "{report:?}");
    });
}

fn pulses_are_stored_alike(place: &mut Place) {
    let (url, prefix) = (address(place).to_string(), place.stores.es_index_prefix.clone());
    block_on(async {
        let server = [("ES_URL", url.as_str()), ("ES_INDEX_PREFIX", prefix.as_str())];
        let pulses = || fixture().into_iter().chain(many(45)).collect::<Vec<_>>();
        let (embedded, server) = (Home::of(pulses()).await, Home::with(pulses(), &server).await);
        let names = [pulse::INDEX, indicators::INDEX];
        let all = async |home: &Home| {
            let origin = home.server.origin.clone();
            let all = everything(&home.home, &names).await.into_values();
            let bodies = all
                .flat_map(|(_, bodies)| bodies)
                .map(move |body| serde_json::to_string(&body).unwrap().replace(&origin, "OTX"));
            bodies.collect::<Vec<String>>()
        };
        for round in 0..3 {
            if round == 2 {
                // One comes, on the last day of the month, and names an address that is new.
                for home in [&embedded, &server] {
                    home.server
                        .set(|otx| otx.pulses.insert(0, numbered(27 * 1440, &["203.0.113.200"])));
                }
            }
            let (ours, theirs) = (embedded.sync().await, server.sync().await);
            assert_eq!(theirs.counts, ours.counts, "{theirs:?}");
            assert_eq!(round == 1, theirs.writes() == 0, "{theirs:?}");
            let (ours, theirs) = (all(&embedded).await, all(&server).await);
            assert!(ours.len() > 90, "{}", ours.len());
            assert_eq!(theirs.len(), ours.len(), "round {round}");
            for (theirs, ours) in theirs.iter().zip(&ours) {
                assert_eq!(theirs, ours, "round {round}");
            }
        }
    });
}

fn a_cut_run_goes_on_at_its_page() {
    block_on(async {
        let home = Home::of(many(70)).await;
        home.server.set(|otx| otx.silent_at = Some(3));
        let time = Duration::from_secs(8);
        let cut = home.run_within("sync_otx_pulses", Value::Null, time).await;
        assert_eq!((cut.status, cut.continues), (Status::Partial, Some(1)), "{cut:?}");
        assert_eq!(home.pulses().await.len(), 40);
        home.server.asked();
        let sent = home.home.continuations().pop().unwrap();
        let event = serde_json::to_value(&sent).unwrap();
        let done =
            home.run_within("sync_otx_pulses", event_of(&event), Duration::from_secs(60)).await;
        assert_eq!(done.status, Status::Complete, "{done:?}");
        let asked = home.server.asked();
        assert!(asked[0].contains("page=3"), "{asked:?}");
        assert_eq!((home.pulses().await.len(), home.indicators().await.len()), (70, 71));
        assert_eq!(home.sync().await.writes(), 0);
    });
}

/// A continuation as EventBridge delivers it.
fn event_of(sent: &Value) -> Value {
    json!({
        "id": "continuation", "source": "minerva", "detail-type": "Minerva Task Continuation", "time": NOW, "detail": sent,
    })
}

fn a_pulse_that_left_while_it_was_read_hides_none() {
    block_on(async {
        let home = Home::of(many(45)).await;
        home.server.set(|otx| otx.loses_after = Some(1));
        let report = home.sync().await;
        // The one at the edge of two pages moved up.
        assert_eq!(home.pulses().await.len(), 44, "{report:?}");
        assert!(notes(&report).contains("read again next time"), "{report:?}");
        home.sync().await;
        assert_eq!(home.pulses().await.len(), 45);
    });
}

fn further_indicators_are_fetched_by_pages() {
    block_on(async {
        let mut pulse = numbered(1, &["203.0.113.1"]);
        pulse["more_indicators"] = json!(true);
        let home = Home::of(vec![pulse]).await;
        let one = |number: usize| json!({"id": number, "indicator": format!("198.51.{}.{}", 100 + number / 250, number % 250), "type": "IPv4", "created": "2026-02-01T00:00:00"});
        let first = numbered(1, &["203.0.113.1"])["indicators"][0].clone();
        let further: Vec<Value> = std::iter::once(first).chain((1..1_500).map(one)).collect();
        home.server.set(|otx| otx.further.insert(id(1), further));
        let report = home.sync().await;
        let values = counts(&report, indicators::INDEX);
        assert_eq!((values.found, values.new, values.merged), (1_501, 1_500, 1), "{values:?}");
        assert_eq!(home.pulses().await[&id(1)]["indicator_count"], 1_500);
        let asked = home.server.asked();
        let pages = asked.iter().filter(|one| one.contains("/indicators?limit=1000")).count();
        assert_eq!(pages, 2, "{asked:?}");
        assert_eq!(home.sync().await.writes(), 0);
    });
}

fn what_an_edited_pulse_dropped_is_marked() {
    block_on(async {
        let (one, other) = (
            numbered(1, &["203.0.113.1", "203.0.113.2"]),
            numbered(2, &["203.0.113.1", "203.0.113.3"]),
        );
        let home = Home::of(vec![other.clone(), one]).await;
        home.sync().await;
        let mut edited = numbered(30, &["203.0.113.2"]);
        edited["id"] = json!(id(1));
        home.server.set(|otx| otx.pulses = vec![edited, other]);
        home.sync().await;
        let all = home.indicators().await;
        let both = &all["203.0.113.1"];
        assert_eq!((&both["active"], &both["pulse_ids"]), (&json!(true), &json!([id(2)])));
        assert_eq!(both["pulses"][0]["left_at"], NOW, "the pulse that dropped it");
        assert_eq!(home.sync().await.writes(), 0);
        let mut empty = numbered(60, &[]);
        empty["id"] = json!(id(2));
        home.server.set(|otx| otx.pulses[1] = empty);
        home.sync().await;
        let all = home.indicators().await;
        assert_eq!(
            (&all["203.0.113.1"]["active"], &all["203.0.113.1"]["left_at"]),
            (&json!(false), &json!(NOW))
        );
        assert_eq!(all["203.0.113.2"]["active"], true);
        assert_eq!(home.pulses().await[&id(2)]["active"], true, "it is there, without indicators");
    });
}

fn a_deleted_pulse_is_marked_with_its_part_of_each_indicator() {
    block_on(async {
        let home = Home::of(vec![
            numbered(2, &["203.0.113.1", "203.0.113.3"]),
            numbered(1, &["203.0.113.1"]),
        ])
        .await;
        home.sync().await;
        home.server.set(|otx| {
            otx.pulses.remove(0);
            let event = |action: &str, at: &str| json!({"id": 1, "action": action, "object_type": "pulse", "object_id": id(2), "created": at});
            otx.events = vec![event("subscribe", "2026-02-28T00:00:00"), event("delete", "2026-03-01T00:00:00")];
        });
        let report = home.sync().await;
        assert!(notes(&report).contains("its part of 2 indicators"), "{report:?}");
        let gone = &home.pulses().await[&id(2)];
        assert_eq!((&gone["active"], &gone["left_at"]), (&json!(false), &json!(NOW)));
        let all = home.indicators().await;
        assert_eq!(all["203.0.113.1"]["active"], true, "another pulse names it");
        assert_eq!(all["203.0.113.1"]["pulses_count"], 1);
        assert_eq!(all["203.0.113.3"]["active"], false);
        assert_eq!(home.sync().await.writes(), 0);
    });
}

fn a_subscription_that_ends_or_begins_is_heeded() {
    block_on(async {
        let of_other = |number: usize, values: &[&str]| {
            let mut pulse = numbered(number, values);
            pulse["author_name"] = json!("other");
            pulse
        };
        let home = Home::of(vec![
            of_other(3, &["203.0.113.3", "203.0.113.1"]),
            of_other(2, &["203.0.113.2"]),
            numbered(1, &["203.0.113.1"]),
        ])
        .await;
        home.sync().await;
        let happens = |kind: &str, action: &str, of: &str, minute: u32| {
            let at = format!("2026-02-28T00:{minute:02}:00");
            json!({"id": 1, "action": action, "object_type": kind, "object_id": of, "created": at})
        };
        let active = async |home: &Home| -> (Vec<bool>, Vec<bool>) {
            let is_active = |body: Body| body["active"].as_bool().unwrap();
            let (pulses, values) = (home.pulses().await, home.indicators().await);
            (
                pulses.into_values().map(is_active).collect(),
                values.into_values().map(is_active).collect(),
            )
        };
        // A pulse that is no longer subscribed to; another pulse names its indicator too.
        let all = home.server.set(|otx| std::mem::take(&mut otx.pulses));
        home.server.set(|otx| {
            otx.pulses = all[..2].to_vec();
            otx.events = vec![happens("pulse", "unsubscribe", &id(1), 1)];
        });
        home.sync().await;
        assert_eq!(active(&home).await, (vec![false, true, true], vec![true, true, true]));
        // It is again, with a date that no window holds any more: it is asked for by itself.
        home.server.asked();
        home.server.set(|otx| {
            otx.pulses.clone_from(&all);
            otx.events.push(happens("pulse", "subscribe", &id(1), 2));
        });
        home.sync().await;
        assert!(home.server.asked().contains(&format!("pulses/{}", id(1))));
        assert_eq!(active(&home).await, (vec![true, true, true], vec![true, true, true]));
        // An author who is no longer subscribed to takes all of theirs along, and brings all of them back.
        home.server.set(|otx| {
            otx.pulses = all[2..].to_vec();
            otx.events.push(happens("user", "unsubscribe", "other", 3));
        });
        home.sync().await;
        assert_eq!(active(&home).await, (vec![true, false, false], vec![true, false, false]));
        home.server.asked();
        home.server.set(|otx| {
            otx.pulses.clone_from(&all);
            otx.events.push(happens("user", "subscribe", "other", 4));
        });
        home.sync().await;
        let asked = home.server.asked();
        assert!(asked.iter().any(|one| one.contains("author_name=other")), "{asked:?}");
        assert_eq!(active(&home).await, (vec![true, true, true], vec![true, true, true]));
        assert_eq!(home.sync().await.writes(), 0, "what was heeded is not heeded again");
    });
}

/// The stand-in on threads of its own, for trials that start processes.
struct Apart {
    server: Server,
    _runtime: Runtime,
}

impl Apart {
    fn start(pulses: Vec<Value>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let server = runtime.block_on(Server::start(pulses));
        Self { server, _runtime: runtime }
    }

    /// A home of the runner's own processes.
    fn home(&self) -> crate::home::Home {
        crate::home::Home::of(&[])
            .with("OTX_URL", &self.server.origin)
            .with("OTX_API_KEY", "one,two")
            .with("OTX_DAILY_LIMIT", PROCESS_LIMIT.to_string())
    }
}

/// Pulses in three pages, some with indicators to be fetched; then with new ones, edited ones and one that was deleted.
struct KilledPulses(Apart);

impl Subject for KilledPulses {
    const TASK: &'static str = "sync_otx_pulses";
    const INDICES: &'static [&'static str] = &[pulse::INDEX, indicators::INDEX];

    fn start() -> Self {
        let subject = Self(Apart::start(Vec::new()));
        subject.serve(0);
        subject
    }

    fn serve(&self, edition: usize) {
        let mut pulses = many(45);
        for one in pulses.iter_mut().step_by(4) {
            one["more_indicators"] = json!(true);
        }
        if edition == 1 {
            let mut edited = numbered(100, &["203.0.0.200", "198.51.100.1"]);
            edited["id"] = json!(id(5));
            pulses.retain(|one| one["id"] != id(5) && one["id"] != id(7));
            pulses.insert(0, edited);
            let new = (110..135).map(|number| numbered(number, &["203.0.1.1", "198.51.100.1"]));
            pulses.splice(0..0, new.rev());
        }
        let deleted = json!({"id": 1, "action": "delete", "object_type": "pulse", "object_id": id(7), "created": "2026-02-28T00:00:00"});
        self.0.server.set(|otx| {
            otx.further = pulses.iter().map(further).collect();
            otx.pulses = pulses;
            otx.events = if edition == 1 { vec![deleted] } else { Vec::new() };
        });
    }

    fn home(&self) -> crate::home::Home {
        self.0.home().with("OTX_DAILY_LIMIT", "100000")
    }

    fn check(&self, stored: &[String; 2]) {
        assert_eq!(stored[0].lines().count(), 45 + 46 + 12);
        assert_eq!(stored[1].lines().count(), 45 + 25 + 46 + 12 + 2);
    }
}

/// The indicators of a pulse that come by pages: its own, and one more.
fn further(pulse: &Value) -> (String, Vec<Value>) {
    let id = pulse["id"].as_str().unwrap();
    let mut all = pulse["indicators"].as_array().unwrap().clone();
    let value = format!("{id}.example.com");
    all.push(
        json!({"id": 9, "indicator": value, "type": "domain", "created": "2026-02-01T00:00:00"}),
    );
    (id.to_owned(), all)
}

fn a_kill_at_any_moment_loses_nothing() {
    kills::kill_often::<KilledPulses>();
}

/// Uses of each key in a day, of trials with processes.
const PROCESS_LIMIT: u32 = 100;
