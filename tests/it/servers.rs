//! What can only go wrong with a server, on each kind of them: races at creation, mappings of another version, addresses
//! that are dead, connections that are cut, overload, bodies that are too large, logins that are wrong.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use base::Class;
use base::config::Secret;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use stores::documents::{
    Document, DocumentReader as _, Documents, Elastic, Index, Query, Write, Written,
};
use tests::services::search::{Kind, PASSWORD};
use url::Url;

use crate::documents::{Check, Place, all_of_them, article, articles, block_on};

pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("many_at_once_make_one_index", many_at_once_make_one_index),
    ("a_mapping_is_widened_and_a_changed_type_refused", a_mapping_is_widened),
    ("an_index_gets_the_aliases_that_it_lacks", an_index_gets_the_aliases_that_it_lacks),
    ("an_index_that_is_no_alias_is_left_alone", an_index_that_is_no_alias),
    ("one_dead_address_stops_nothing", one_dead_address_stops_nothing),
    ("a_cut_connection_neither_loses_nor_doubles", a_cut_connection),
    ("a_cut_connection_restores_and_deletes_once", a_cut_connection_restores),
    ("overload_is_waited_out", overload_is_waited_out),
    ("a_bulk_that_is_too_large_is_halved", a_bulk_that_is_too_large),
    ("an_own_authority_is_trusted_when_it_is_named", an_own_authority),
    ("what_is_wrong_is_said_without_passwords", what_is_wrong_is_said),
    ("a_source_that_did_not_change_costs_no_request", a_source_that_did_not_change),
];

pub(crate) fn elastic(place: &Place) -> Elastic {
    Elastic::open(&place.stores).expect("its settings are right")
}

pub(crate) fn address(place: &Place) -> Url {
    place.stores.es_url.as_ref().expect("it is a server").expose()[0].clone()
}

pub(crate) fn batch(count: usize) -> Vec<Write> {
    (0..count)
        .map(|number| article(&format!("{number:05}"), "x", "news", "2026-01-01T00:00:00Z"))
        .collect()
}

fn many_at_once_make_one_index(place: &mut Place) {
    block_on(async {
        let starts: Vec<_> = (0..27)
            .map(|number| {
                let store = elastic(place);
                tokio::spawn(async move {
                    let write = article(&format!("{number}"), "x", "news", "2026-01-01T00:00:00Z");
                    store.upsert(articles(), &[write]).await
                })
            })
            .collect();
        for start in starts {
            let written =
                start.await.expect("no panic").unwrap_or_else(|error| panic!("{}", error.chain()));
            assert_eq!(written, [Written::New]);
        }
        assert_eq!(elastic(place).sequence(articles()).await.expect("it counts"), 27);
        let found = place.ask("GET", &format!("/{}", place.named("*")), &serde_json::Value::Null);
        let names: Vec<&String> = found.as_object().expect("indices").keys().collect();
        assert_eq!(names, [&place.named("rss_articles-v1")]);
    });
}

/// The articles' index with its mapping changed; leaked, as indices live as long as the program.
pub(crate) fn changed(change: impl FnOnce(&mut serde_json::Value)) -> &'static Index {
    let mut mapping = articles().mapping.clone();
    change(&mut mapping);
    Box::leak(Box::new(Index {
        name: articles().name,
        mapping,
        fields: articles().fields.clone(),
        nested: articles().nested.clone(),
        newest_by: articles().newest_by.clone(),
        is_reference: false,
        several: &[],
    }))
}

fn a_mapping_is_widened(place: &mut Place) {
    block_on(async {
        let old = changed(|mapping| {
            mapping["properties"].as_object_mut().expect("fields").remove("tlp");
            mapping["_meta"]["version"] = json!(0);
        });
        elastic(place).upsert(old, &batch(1)).await.expect("it is written");
        let mapping = || {
            place.ask(
                "GET",
                &format!("/{}/_mapping", place.named("rss_articles-v1")),
                &serde_json::Value::Null,
            )
        };
        let of =
            |said: &serde_json::Value| said[place.named("rss_articles-v1")]["mappings"].clone();
        assert!(of(&mapping())["properties"].get("tlp").is_none());
        elastic(place).ensure(articles()).await.expect("it is widened");
        let widened = of(&mapping());
        assert_eq!(widened["properties"]["tlp"]["type"], "keyword");
        assert_eq!(widened["_meta"]["version"], articles().mapping["_meta"]["version"]);
        assert!(widened["_meta"]["folds_accents"].is_boolean());
        // A function of the version before may still be running.
        elastic(place).ensure(old).await.expect("what was added does not matter to it");
        assert_eq!(of(&mapping()), widened);

        let other = changed(|mapping| mapping["properties"]["category"]["type"] = json!("text"));
        let error = elastic(place).ensure(other).await.expect_err("it is refused");
        assert_eq!(error.class(), Class::Config);
        let told = format!("{} {}", error.chain(), error.hint_text().unwrap_or_default());
        for word in ["`category`", "`keyword`", "`text`", "local-runner reindex rss_articles"] {
            assert!(told.contains(word), "{told}");
        }
    });
}

fn an_index_gets_the_aliases_that_it_lacks(place: &mut Place) {
    block_on(async {
        elastic(place).upsert(articles(), &batch(1)).await.expect("it is written");
    });
    let physical = place.named("rss_articles-v1");
    let group = place.named("minerva-articles");
    let removed = json!({"actions": [{"remove": {"index": physical, "alias": group}}]});
    place.ask("POST", "/_aliases", &removed);
    let holders = |place: &Place| {
        let said = place.ask("GET", &format!("/_alias/{group}"), &serde_json::Value::Null);
        said.get(&physical).is_some()
    };
    assert!(!holders(place));
    block_on(async { elastic(place).ensure(articles()).await }).expect("it is repaired");
    assert!(holders(place));
}

fn an_index_that_is_no_alias(place: &mut Place) {
    let path = format!("/{}", place.named("rss_articles"));
    place.ask("PUT", &path, &json!({}));
    block_on(async {
        let error = elastic(place).upsert(articles(), &batch(1)).await.expect_err("it is refused");
        assert!(
            error.hint_text().unwrap_or_default().contains("local-runner adopt"),
            "{}",
            error.chain()
        );
    });
}

fn one_dead_address_stops_nothing(place: &mut Place) {
    let live = address(place);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let mut dead = live.clone();
    dead.set_port(Some(listener.local_addr().expect("it is bound").port())).expect("it has ports");
    drop(listener);
    place.stores.es_url = Some(Secret::new(vec![dead, live]));
    block_on(async {
        let store = elastic(place);
        let written = store.upsert(articles(), &batch(3)).await.expect("it is written");
        assert_eq!(written, [Written::New, Written::New, Written::New]);
        let said = store.describe().await.expect("it is well");
        assert!(said.contains("one address does not answer"), "{said}");
    });
}

/// Puts a proxy before the server that notes each request's first line.
fn noted(place: &mut Place) -> impl Fn() -> Vec<String> + use<> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let lock = |asked: &Mutex<Vec<String>>| {
        std::mem::take(&mut *asked.lock().unwrap_or_else(PoisonError::into_inner))
    };
    let proxy = before(&address(place), move |head| {
        let line = head.lines().next().unwrap_or_default().to_owned();
        notes.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        Fault::None
    });
    place.stores.es_url = Some(Secret::new(vec![proxy]));
    move || lock(&asked)
}

fn a_source_that_did_not_change(place: &mut Place) {
    let asked = noted(place);
    let settings = [
        ("ES_INDEX_PREFIX".to_owned(), place.stores.es_index_prefix.clone()),
        ("ES_URL".to_owned(), address(place).to_string()),
    ];
    block_on(crate::contract::told_that_nothing_changed(&settings, asked));
}

/// What a proxy does to a request.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// None.
    None,
    /// The server takes it, and its answer never arrives.
    Cut,
    /// The proxy answers in the server's stead.
    Status(&'static str),
    /// The connection ends, and the server hears nothing of it.
    Gone,
}

/// A proxy before the server that spoils the first `count` bulk requests; gives what is left of them.
fn spoiled(place: &mut Place, fault: Fault, count: u32) -> Arc<AtomicU32> {
    let left = Arc::new(AtomicU32::new(count));
    let spoils = Arc::clone(&left);
    let proxy = before(&address(place), move |head| {
        if head.contains("/_bulk") && takes(&spoils) { fault } else { Fault::None }
    });
    place.stores.es_url = Some(Secret::new(vec![proxy]));
    left
}

/// Counts down, until nothing is left.
pub(crate) fn takes(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}

/// The address of a proxy before a server, which asks what to do with each request; it is shown the request's head, in lower
/// case.
pub(crate) fn before(server: &Url, fault: impl Fn(&str) -> Fault + Send + Sync + 'static) -> Url {
    relayed(server, move |mut client, server| pass(&mut client, server, &fault))
}

/// The address of a proxy before a server, which does this with each connection.
fn relayed(server: &Url, with: impl Fn(TcpStream, &TcpStream) + Send + Sync + 'static) -> Url {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let mut proxy = server.clone();
    proxy.set_port(Some(listener.local_addr().expect("it is bound").port())).expect("it has ports");
    let with = Arc::new(with);
    let host = server.host_str().unwrap_or_default().to_owned();
    let port = server.port().unwrap_or(80);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (host, with) = (host.clone(), Arc::clone(&with));
            thread::spawn(move || {
                // A server that is down is one more that hangs up.
                let Ok(server) = TcpStream::connect((host, port)) else { return };
                with(client, &server);
            });
        }
    });
    proxy
}

/// Passes requests one at a time, as the client sends them on one connection.
fn pass(
    client: &mut (impl io::Read + io::Write),
    mut server: &TcpStream,
    fault: &dyn Fn(&str) -> Fault,
) {
    while let Some((head, request)) = message(client) {
        let fault = fault(&head);
        match fault {
            Fault::Gone => return,
            Fault::Status(status) => {
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                let _ = client.write_all(answer.as_bytes());
            }
            Fault::None | Fault::Cut => {
                if server.write_all(&request).is_err() {
                    return;
                }
                let Some((_, answer)) = message(&mut server) else { return };
                if matches!(fault, Fault::Cut) || client.write_all(&answer).is_err() {
                    return;
                }
            }
        }
        let _ = client.flush();
    }
}

/// One HTTP message with its body: its head as text, and all of it.
fn message(stream: &mut impl io::Read) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let head_end =
            bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|place| place + 4);
        if let Some(end) = head_end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| {
                line.strip_prefix("content-length:")?.trim().parse::<usize>().ok()
            });
            let is_whole = match length {
                Some(length) => bytes.len() >= end + length,
                None if head.contains("transfer-encoding: chunked") => {
                    bytes.ends_with(b"0\r\n\r\n")
                }
                None => true,
            };
            if is_whole {
                return Some((head, bytes));
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

fn a_cut_connection(place: &mut Place) {
    let whole = Place::new(place.kind);
    let left = spoiled(place, Fault::Cut, 2);
    block_on(async {
        let (store, undisturbed) = (elastic(place), elastic(&whole));
        // More than one request, so that some are cut and some are not.
        let writes = batch(6_000);
        let written = store.upsert(articles(), &writes).await.expect("it is written");
        assert_eq!(left.load(Ordering::SeqCst), 0, "both were cut");
        assert!(
            written.iter().all(|written| *written == Written::New),
            "what was cut counts as written"
        );
        assert_eq!(
            store.sequence(articles()).await.expect("it counts"),
            6_000,
            "nothing was written twice"
        );
        undisturbed.upsert(articles(), &writes).await.expect("it is written");
        let all = store.scan(articles(), &all_of_them()).await.expect("it is scanned");
        assert_eq!(all, undisturbed.scan(articles(), &all_of_them()).await.expect("it is scanned"));
    });
}

fn a_cut_connection_restores(place: &mut Place) {
    let left = spoiled(place, Fault::Cut, 1);
    block_on(async {
        let store = elastic(place);
        let document = |number: usize| {
            let id = format!("{number:05}");
            let body = json!({"id": id, "title": "x", "revision": 3});
            Document { id, body: body.as_object().expect("it is an object").clone() }
        };
        let documents: Vec<Document> = (0..3_000).map(document).collect();
        let written = store.restore(articles(), &documents).await.expect("it is written");
        assert!(written.iter().all(|written| *written == Written::New));
        assert_eq!(store.sequence(articles()).await.expect("it counts"), 3_000);
        assert_eq!(left.swap(1, Ordering::SeqCst), 0, "it was cut");
        let ids: Vec<String> = documents.into_iter().map(|document| document.id).collect();
        assert_eq!(store.delete(articles(), &ids).await.expect("they are deleted"), 3_000);
        assert_eq!(left.load(Ordering::SeqCst), 0, "it was cut");
        assert_eq!(store.sequence(articles()).await.expect("it counts"), 6_000);
    });
}

fn overload_is_waited_out(place: &mut Place) {
    let left = spoiled(place, Fault::Status("429 Too Many Requests"), 3);
    block_on(async {
        let store = elastic(place);
        let written = store.upsert(articles(), &batch(10)).await.expect("it is written");
        assert_eq!(left.load(Ordering::SeqCst), 0);
        assert_eq!(written, vec![Written::New; 10]);
        assert_eq!(store.sequence(articles()).await.expect("it counts"), 10);
    });
}

fn a_bulk_that_is_too_large(place: &mut Place) {
    // The whole, its first half, and that half's first document.
    let left = spoiled(place, Fault::Status("413 Payload Too Large"), 3);
    block_on(async {
        let store = elastic(place);
        let written = store.upsert(articles(), &batch(4)).await.expect("it is written");
        assert_eq!(left.load(Ordering::SeqCst), 0);
        assert!(
            matches!(&written[0], Written::Rejected(why) if why.contains("larger than the server takes")),
            "{written:?}"
        );
        assert_eq!(written[1..], [Written::New, Written::New, Written::New]);
        assert_eq!(store.count(articles(), &Query::default()).await.expect("it counts"), 3);
    });
}

/// Behind TLS with a certificate that no public authority signed.
fn an_own_authority(place: &mut Place) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls");
    let certificate =
        CertificateDer::from_pem_file(fixtures.join("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(fixtures.join("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("it has some")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they fit");
    let config = Arc::new(config);
    let mut url = relayed(&address(place), move |client, server| {
        let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
        pass(&mut StreamOwned::new(connection, client), server, &|_| Fault::None);
    });
    url.set_scheme("https").expect("it has another");
    place.stores.es_url = Some(Secret::new(vec![url]));
    block_on(async {
        let error = elastic(place).upsert(articles(), &batch(1)).await.expect_err("it is unknown");
        assert_eq!(error.class(), Class::Config, "{}", error.chain());
        assert!(
            error.hint_text().unwrap_or_default().contains("`ES_CA_CERT`"),
            "{}",
            error.chain()
        );
        place.stores.es_ca_cert = Some(fixtures.join("ca.pem"));
        let written = elastic(place).upsert(articles(), &batch(3)).await.expect("it is trusted");
        assert_eq!(written, vec![Written::New; 3]);
        place.stores.es_ca_cert = Some(fixtures.join("no-such-file.pem"));
        let error = Elastic::open(&place.stores).err().expect("it is refused");
        assert!(error.chain().contains("no-such-file.pem"), "{}", error.chain());
    });
}

/// What `doctor` shows: the message and the hint, and never a password.
fn what_is_wrong_is_said(place: &mut Place) {
    let live = address(place);
    let told = |place: &Place| {
        let error =
            block_on(async { elastic(place).describe().await }).expect_err("something is wrong");
        let told =
            format!("{} hint: {} {error:?}", error.chain(), error.hint_text().unwrap_or_default());
        assert!(!told.contains(PASSWORD) && !told.contains("hunter2"), "{told}");
        told
    };

    let with_password = |url: &mut Url| {
        let _ = url.set_username("elastic").and_then(|()| url.set_password(Some("hunter2")));
    };
    let mut closed = live.clone();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let _ = closed.set_port(listener.local_addr().ok().map(|address| address.port()));
    drop(listener);
    with_password(&mut closed);
    place.stores.es_url = Some(Secret::new(vec![closed]));
    let said = told(place);
    assert!(said.contains("refused") && said.contains("is the server running"), "{said}");

    let mut tls = live.clone();
    tls.set_scheme("https").expect("it has another");
    with_password(&mut tls);
    place.stores.es_url = Some(Secret::new(vec![tls]));
    let said = told(place);
    assert!(said.contains("`https` against `http`"), "{said}");

    if place.kind == Some(Kind::Elasticsearch9) {
        let mut wrong = live.clone();
        with_password(&mut wrong);
        place.stores.es_url = Some(Secret::new(vec![wrong]));
        let said = told(place);
        assert!(said.contains("`ES_PASSWORD`") && said.contains("401"), "{said}");
    }

    place.stores.es_url = Some(Secret::new(vec![live]));
    block_on(async { elastic(place).ensure(articles()).await }).expect("it is made");
    let settings = format!("/{}/_settings", place.named("rss_articles-v1"));
    place.ask("PUT", &settings, &json!({"index.blocks.read_only_allow_delete": true}));
    let said = told(place);
    assert!(said.contains("read-only") && said.contains("disk"), "{said}");
    let error = block_on(async { elastic(place).upsert(articles(), &batch(1)).await });
    let error = error.expect_err("it takes no writes");
    assert!(error.chain().contains("read-only"), "{}", error.chain());
    place.ask("PUT", &settings, &json!({"index.blocks.read_only_allow_delete": null}));
}
