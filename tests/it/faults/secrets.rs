//! No password in anything that a person reads: logs at their fullest, errors, reports, the doctor's words, tables of the
//! state. With settings that are right, and with each that is wrong in one way.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rustix::process::Signal;
use serde_json::json;
use tests::services::postgres::{self, Server};
use tests::services::search::{Kind, USER};

use super::{Schema, complete, home_on, run_of};
use crate::documents::Place;
use crate::home::{ALL, Home, Upstream, eventually_within, numbered, signal};

/// Wrong passwords, whose signs are written differently in an address.
const WRONG: &str = "wr0ng/es@pass%w";
const WRONG_PG: &str = "wr0ng/pg#pass";
const KEY_ID: &str = "k3y-id-of-nobody";
const KEY: &str = "k3y-that-opens-nothing";
const PROXY: &str = "pr0xy-password";

/// Homes that are tried beside each other.
const LANES: usize = 4;

/// How long a command may take to say what it has to say.
const SAID: Duration = Duration::from_secs(60);

/// A secret in every form in which it could slip out.
fn forms(secret: &str) -> Vec<String> {
    let encoded = |digits: fn(u8) -> String| -> String {
        secret.bytes().fold(String::new(), |mut text, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    text.push(char::from(byte));
                }
                _ => text.push_str(&digits(byte)),
            }
            text
        })
    };
    let mut forms = vec![
        secret.to_owned(),
        encoded(|byte| format!("%{byte:02X}")),
        encoded(|byte| format!("%{byte:02x}")),
        in_address(secret),
    ];
    for pair in [
        secret.to_owned(),
        format!("{USER}:{secret}"),
        format!("minerva:{secret}"),
        format!("{KEY_ID}:{secret}"),
    ] {
        // Without the end, which depends on what follows.
        forms.push(STANDARD_NO_PAD.encode(&pair));
        forms.push(URL_SAFE_NO_PAD.encode(&pair));
    }
    // As a Rust or JSON string shows it.
    forms.push(format!("{secret:?}").trim_matches('"').to_owned());
    forms
}

/// As it is written in an address.
fn in_address(secret: &str) -> String {
    let mut url: url::Url = "http://host".parse().unwrap();
    url.set_username(USER).and_then(|()| url.set_password(Some(secret))).unwrap();
    url.password().unwrap().to_owned()
}

/// The first secret that stands in a text, with what is around it.
fn leak(text: &str, secrets: &[String]) -> Option<String> {
    secrets.iter().find_map(|secret| {
        let place = text.find(secret.as_str())?;
        let around = text[..place].char_indices().rev().nth(80).map_or(0, |(start, _)| start);
        Some(format!("`{secret}` behind `{}`", &text[around..place]))
    })
}

#[track_caller]
fn check(what: &str, text: &str, secrets: &[String]) {
    if let Some(found) = leak(text, secrets) {
        panic!("{what} shows {found}");
    }
}

/// A home with one thing wrong: its name, its settings above the right ones, a line of its `.env`.
struct Variant {
    name: &'static str,
    settings: Vec<(&'static str, String)>,
    file: Option<String>,
}

pub(super) fn none_is_shown() {
    let upstream = Upstream::start(2);
    let sources = [("a".to_owned(), upstream.body("a", numbered(0, 3)))];
    let place = Place::new(Some(Kind::Elasticsearch9));
    let database = Server::start().unwrap();
    let schema = Schema::on(database.url());
    let live = place.stores.es_url.as_ref().unwrap().expose()[0].clone();
    let password = live.password().unwrap().to_owned();
    let secrets: Vec<String> = [password.as_str(), WRONG, WRONG_PG, KEY, PROXY, postgres::PASSWORD]
        .into_iter()
        .flat_map(forms)
        .collect();
    assert!(
        leak(&format!("Basic {}", STANDARD.encode(format!("{USER}:{WRONG}"))), &secrets).is_some()
    );
    assert!(leak("postgres://minerva:correct%2Fhorse@host", &secrets).is_some());

    let right = || {
        home_on(&place, &sources).with("DATABASE_URL", schema.url()).with("MINERVA_LOG", "trace")
    };
    let home = right();
    complete(&home.report(&[ALL]));
    for arguments in [
        &["doctor"][..],
        &["doctor", "--json", "-v"],
        &["run", ALL, "--json", "-v"],
        &["run", ALL, "-v"],
        &["runs", "--json"],
        &["sources", "list", "--json", "-v"],
        &["sources", "test", "a", "-v"],
        &["search", "item", "-v"],
    ] {
        let ran = home.run(arguments);
        ran.ends_with(0);
        check(&format!("{arguments:?}"), &format!("{}{}", ran.out, ran.err), &secrets);
    }
    check("serve", &served(&home), &secrets);

    let variants = variants(&live, &schema.url());
    thread::scope(|scope| {
        let lanes: Vec<_> = variants
            .chunks(variants.len().div_ceil(LANES))
            .map(|lane| {
                let (right, secrets) = (&right, &secrets);
                scope.spawn(move || {
                    for variant in lane {
                        let mut home = right();
                        for (name, value) in &variant.settings {
                            home = home.with(name, value);
                        }
                        try_variant(variant, &home, secrets);
                    }
                })
            })
            .collect();
        for lane in lanes {
            lane.join().expect("told by the lane");
        }
    });
    check("the state", &schema.text(), &secrets);
}

fn try_variant(variant: &Variant, home: &Home, secrets: &[String]) {
    if let Some(text) = &variant.file {
        fs::write(home.path(".env"), text).unwrap();
    }
    let mut codes = Vec::new();
    for arguments in [&["doctor", "--json", "-v"][..], &run_of(ALL, &["-v"])] {
        let ran = home.run(arguments);
        let text = format!("{}{}", ran.out, ran.err);
        assert!(!text.trim().is_empty(), "{}: {arguments:?} says nothing", variant.name);
        check(&format!("{}: {arguments:?}", variant.name), &text, secrets);
        codes.push(ran.code);
    }
    assert!(codes.iter().any(|code| *code != Some(0)), "{}: nothing was wrong", variant.name);
    check(&format!("{}: serve", variant.name), &served(home), secrets);
}

/// Everything that a server says which is asked for a run and told to end.
fn served(home: &Home) -> String {
    let (out, err) = (home.path("out.txt"), home.path("err.txt"));
    let mut command = home.command(&["serve", "--port", "0", "-v"]);
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut server = command.spawn().unwrap();
    let said =
        || format!("{}{}", fs::read_to_string(&out).unwrap(), fs::read_to_string(&err).unwrap());
    let mut has_ended = false;
    let speaks = || {
        has_ended = server.try_wait().unwrap().is_some();
        has_ended || said().contains("serving on http://")
    };
    assert!(eventually_within(SAID, speaks), "{}", said());
    let mut answer = String::new();
    if !has_ended {
        let text = said();
        let (_, address) = text.split_once("serving on http://").unwrap();
        let address = address.split(['`', ',', ' ']).next().unwrap().trim_end_matches(':');
        for request in [
            format!(
                "POST /2015-03-31/functions/{ALL}/invocations HTTP/1.1\r\nhost: {address}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
            ),
            format!("GET / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"),
        ] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(SAID)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream.read_to_string(&mut answer).unwrap();
        }
        signal(server.id(), Signal::TERM);
        assert!(eventually_within(SAID, || server.try_wait().unwrap().is_some()), "{}", said());
    }
    let mut text = said();
    let _ = write!(text, "{answer}");
    text
}

fn variants(live: &url::Url, database: &str) -> Vec<Variant> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let closed = listener.local_addr().unwrap().port();
    drop(listener);
    let (host, port) = (live.host_str().unwrap(), live.port().unwrap_or(9200));
    let bare = format!("http://{host}:{port}");
    let wrong = in_address(WRONG);
    let one = |name, setting, value: String| Variant {
        name,
        settings: vec![(setting, value)],
        file: None,
    };
    let es = |name, value: String| one(name, "ES_URL", value);
    let mut pg: url::Url = database.parse().unwrap();
    pg.set_password(Some(WRONG_PG)).unwrap();
    let mut refused = pg.clone();
    refused.set_port(Some(closed)).unwrap();
    let mut no_tls: url::Url = database.parse().unwrap();
    no_tls.query_pairs_mut().append_pair("sslmode", "require");
    let mut no_option = pg.clone();
    no_option.query_pairs_mut().append_pair("sslmodus", "require");
    let database = |name, value: String| one(name, "DATABASE_URL", value);
    let keyed = |name, key: String| Variant {
        name,
        settings: vec![("ES_URL", bare.clone()), ("ES_API_KEY", key)],
        file: None,
    };
    vec![
        es("a wrong password in the address", format!("http://{USER}:{wrong}@{host}:{port}")),
        es("a server that is down", format!("http://{USER}:{wrong}@{host}:{closed}")),
        es("TLS where there is none", format!("https://{USER}:{wrong}@{host}:{port}")),
        es("an address without scheme", format!("{USER}:{wrong}@{host}:{port}")),
        es("an address of another scheme", format!("ftp://{USER}:{wrong}@{host}:{port}")),
        es("a password as it is", format!("http://{USER}:{WRONG}@{host}:{port}")),
        es("a port that is none", format!("http://{USER}:{wrong}@{host}:port")),
        es("one wrong address of two", format!("{live},http://{USER}:{wrong}@:")),
        Variant {
            name: "a wrong password in its setting",
            settings: vec![
                ("ES_URL", bare.clone()),
                ("ES_USERNAME", USER.to_owned()),
                ("ES_PASSWORD", WRONG.to_owned()),
            ],
            file: None,
        },
        Variant {
            name: "a password without a user",
            settings: vec![("ES_URL", bare.clone()), ("ES_PASSWORD", WRONG.to_owned())],
            file: None,
        },
        keyed("a wrong key", format!("{KEY_ID}:{KEY}")),
        keyed("a wrong key, encoded", STANDARD.encode(format!("{KEY_ID}:{KEY}"))),
        keyed("a key with a space", format!("{KEY} {KEY}")),
        database("a wrong password of the database", pg.to_string()),
        database("a database that is down", refused.to_string()),
        database("a database without TLS", no_tls.to_string()),
        database("a database's option that is none", no_option.to_string()),
        database(
            "a database's password as it is",
            format!("postgres://minerva:{WRONG_PG}@{host}:{port}/x"),
        ),
        database(
            "a database's password with a question",
            format!("postgres://minerva:1?{WRONG_PG}@{host}/x"),
        ),
        database("another database", format!("mysql://minerva:{}@{host}/x", in_address(WRONG_PG))),
        Variant {
            name: "a proxy that is down",
            settings: vec![
                ("HTTPS_PROXY", format!("http://user:{PROXY}@127.0.0.1:{closed}")),
                ("ES_URL", "http://127.0.0.1:1".to_owned()),
            ],
            file: None,
        },
        one("a proxy that is none", "HTTPS_PROXY", format!("user:{PROXY}@127.0.0.1:port")),
        Variant {
            name: "a file that cannot be read",
            settings: Vec::new(),
            file: Some(format!("ES_PASSWORD=\"{WRONG}\nOTHER='{WRONG_PG}\n")),
        },
        Variant {
            name: "a line that is none",
            settings: Vec::new(),
            file: Some(format!("ES_PASSWORD = {KEY} {PROXY}\n{WRONG}\n")),
        },
        Variant {
            name: "numbers that are none",
            settings: vec![("MINERVA_ARCHIVE_DAYS", json!([1]).to_string())],
            file: Some(format!("ES_PASSWORD={KEY}\nES_USERNAME={USER}\n")),
        },
    ]
}
