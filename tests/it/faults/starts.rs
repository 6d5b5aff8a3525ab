//! What happens when functions start: many at once on empty servers, by an API key, with an address that is dead.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use local_runner::families::all_tasks;
use local_runner::lambda::{Config, Function, Lambda, Limits, Options};
use serde_json::{Value, json};
use tests::services::search::Kind;
use url::Url;

use super::{Schema, complete, home_on, run_of, runtime, sequence};
use crate::documents::Place;
use crate::home::{ALL, CLOCK, Upstream, numbered};
use crate::servers::{Fault, before};

/// As many functions as there will be tasks.
const FUNCTIONS: usize = 27;

/// How long a start may take beside 26 others on a small machine.
const START_MAX: Duration = Duration::from_secs(60);

/// Each is a process of its own, on the real Runtime API, and opens both servers by itself; nobody was there before.
pub(super) fn all_at_once() {
    let upstream = Upstream::start(8);
    let sources: Vec<(String, String)> = (0..FUNCTIONS)
        .map(|number| {
            let id = format!("source-{number:02}");
            let url = upstream.body(&id, numbered(number, 5));
            (id, url)
        })
        .collect();
    let (place, schema) = (Place::new(Some(Kind::Elasticsearch8)), Schema::new());
    let home =
        home_on(&place, &sources).with("DATABASE_URL", schema.url()).with("MINERVA_CLOCK", CLOCK);
    let functions = all_tasks().map(|(_, task)| Function {
        args: vec!["function".to_owned(), task.name.to_owned()],
        env: home.settings(),
        timeout: START_MAX,
        ..Function::new(task.name, env!("CARGO_BIN_EXE_runner"))
    });
    let limits = Limits { per_function: FUNCTIONS, init: START_MAX, ..Limits::default() };
    let config = Config { limits, logs: Arc::new(|_| {}), ..Config::new(functions) };
    let reports = runtime().block_on(async {
        let lambda = Lambda::start(config).await.unwrap();
        let calls = sources.iter().map(|(id, _)| {
            let invoker = lambda.invoker();
            let payload = Bytes::from(json!({"sources": [id]}).to_string());
            tokio::spawn(async move {
                invoker.invoke("collect_specific_sources", payload, Options::default()).await
            })
        });
        let mut reports = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            let answer = call.await.unwrap().unwrap().outcome.expect("it answers");
            reports.push(serde_json::from_slice::<Value>(&answer).unwrap());
        }
        lambda.stop(Duration::from_secs(5)).await;
        reports
    });
    for report in &reports {
        assert_eq!(complete(report), [5, 5, 0, 0]);
    }
    assert_eq!(sequence(&place), 5 * 27);
    assert_eq!(schema.number("SELECT count(*) FROM minerva_schema"), 1);
    assert_eq!(schema.number("SELECT count(*) FROM runs WHERE status = 'complete'"), 27);
    let found = place.ask("GET", &format!("/{}", place.named("*")), &Value::Null);
    let names: Vec<&String> = found.as_object().unwrap().keys().collect();
    assert_eq!(names, [&place.named("rss_articles-v1")]);
}

/// A key goes out as the server expects it, in both forms that it is given to people; one that the server does not know is
/// a matter of the setting.
///
/// A key that opens is tried where the server can make one. The Elasticsearch that tests start cannot: the index of its keys
/// needs the module `analysis-common`, which is not in the parts that there are.
pub(super) fn api_key() {
    let upstream = Upstream::start(2);
    let sources = [("a".to_owned(), upstream.body("a", numbered(0, 20)))];
    let place = Place::new(Some(Kind::Elasticsearch9));
    let mut bare = address(&place);
    bare.set_username("").and_then(|()| bare.set_password(None)).unwrap();
    let sent = Arc::new(Mutex::new(BTreeSet::new()));
    let proxy = before(&bare, {
        let sent = Arc::clone(&sent);
        move |head| {
            let line = head.lines().find(|line| line.starts_with("authorization:"));
            sent.lock().unwrap().insert(line.unwrap_or_default().to_owned());
            Fault::None
        }
    });
    let keyed = |key: &str| {
        let home = home_on(&place, &sources).with("ES_API_KEY", key).with("ES_URL", proxy.as_str());
        home.run(&run_of(ALL, &[]))
    };
    let wrong = "key-of-nobody:that-opens-nothing";
    let encoded = STANDARD.encode(wrong);
    for key in [wrong, &encoded] {
        let ran = keyed(key);
        let report = ran.ends_with(2).json();
        assert_eq!(report["error"]["class"], "config", "{report}");
        assert!(report["error"]["message"].as_str().unwrap().contains("401"), "{report}");
        assert!(report["error"]["hint"].as_str().unwrap().contains("`ES_API_KEY`"), "{report}");
    }
    assert_eq!(upstream.asked("a"), 0, "a source is not asked in vain");
    let expected = format!("authorization: apikey {}", encoded.to_lowercase());
    assert_eq!(*sent.lock().unwrap(), BTreeSet::from([expected]));

    let made = place.ask("POST", "/_security/api_key", &json!({"name": place.named("key")}));
    let Some(id) = made["id"].as_str() else {
        assert!(made.to_string().contains("pattern_capture"), "{made}");
        return;
    };
    let key = made["api_key"].as_str().unwrap();
    for (key, new) in [(format!("{id}:{key}"), 20), (STANDARD.encode(format!("{id}:{key}")), 0)] {
        assert_eq!(complete(&keyed(&key).ends_with(0).json()), [20, new, 0, 0]);
    }
    place.ask("DELETE", "/_security/api_key", &json!({"ids": [id]}));
}

/// Whichever of them is dead.
pub(super) fn dead_address() {
    let upstream = Upstream::start(2);
    let sources = [("a".to_owned(), upstream.body("a", numbered(0, 20)))];
    let place = Place::new(Some(Kind::Elasticsearch8));
    let live = address(&place);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut dead = live.clone();
    dead.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    drop(listener);
    for (urls, new) in [(format!("{dead},{live}"), 20), (format!("{live}, {dead}"), 0)] {
        let report = home_on(&place, &sources).with("ES_URL", urls).report(&[ALL]);
        assert_eq!(complete(&report), [20, new, 0, 0], "{report}");
    }
    assert_eq!(sequence(&place), 20);
}

fn address(place: &Place) -> Url {
    place.stores.es_url.as_ref().unwrap().expose()[0].clone()
}
