//! The client against real servers on loopback, most of them hostile.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_compression::tokio::write::{
    BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder,
};
use async_compression::zstd::CParameter;
use base::Class;
use base::config::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

const NOW: &str = "2026-11-23T12:00:00Z";
const PAUSE: Duration = Duration::from_millis(5);

/// Limits that a loaded machine keeps and a broken client does not.
const SHORT: Limits = Limits {
    max_body: 2 << 20,
    head_timeout: Duration::from_secs(4),
    idle_timeout: Duration::from_secs(4),
    total_timeout: Duration::from_secs(8),
};

/// Limits so short that waiting for them to run out costs nothing.
const BRIEF: Limits = Limits {
    head_timeout: Duration::from_millis(150),
    idle_timeout: Duration::from_millis(150),
    ..SHORT
};

struct Server {
    url: Url,
    heads: Arc<Mutex<Vec<String>>>,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Server {
    /// Serves each connection with `answer`, which gets the request's number.
    async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(TcpStream, usize) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/feed", listener.local_addr().unwrap())).unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let (seen_heads, seen_bodies) = (Arc::clone(&heads), Arc::clone(&bodies));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = Arc::clone(&answer);
                let (heads, bodies) = (Arc::clone(&seen_heads), Arc::clone(&seen_bodies));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => break,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
                    let length = head.split("\r\ncontent-length: ").nth(1);
                    let length = length
                        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
                    let mut body = vec![0; length];
                    let _ = stream.read_exact(&mut body).await;
                    bodies.lock().unwrap().push(body);
                    let number = {
                        let mut heads = heads.lock().unwrap();
                        heads.push(head);
                        heads.len() - 1
                    };
                    answer(stream, number).await;
                });
            }
        });
        Self { url, heads, bodies }
    }

    /// Sends these answers in turn, the last one again and again, and closes each connection.
    async fn canned<B: Into<Vec<u8>>>(answers: impl IntoIterator<Item = B>) -> Self {
        let answers: Vec<Vec<u8>> = answers.into_iter().map(Into::into).collect();
        Self::start(move |mut stream, number| {
            let answer = answers[number.min(answers.len() - 1)].clone();
            async move {
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    /// Sends `first`, then `chunk` without end.
    async fn endless(first: &'static str, chunk: Vec<u8>) -> Self {
        let chunk = Arc::new(chunk);
        Self::start(move |mut stream, _| {
            let chunk = Arc::clone(&chunk);
            async move {
                let _ = stream.write_all(first.as_bytes()).await;
                while stream.write_all(&chunk).await.is_ok() {}
            }
        })
        .await
    }

    fn named(&self, host: &str) -> Url {
        let mut url = self.url.clone();
        url.set_host(Some(host)).unwrap();
        url
    }

    fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    fn head(&self, number: usize) -> String {
        self.heads.lock().unwrap()[number].clone()
    }

    fn body(&self, number: usize) -> Vec<u8> {
        self.bodies.lock().unwrap()[number].clone()
    }
}

fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{headers}\r\n").into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

fn redirect(code: u16, target: impl fmt::Display) -> Vec<u8> {
    status(&format!("{code} Moved\r\nlocation: {target}"))
}

/// A client for which every `*.test` name and `localhost` is 127.0.0.1.
fn http(allow: &str) -> Http {
    http_with(allow, |name| match name {
        "localhost" => vec![[127, 0, 0, 1].into()],
        name if name.ends_with(".test") => vec![[127, 0, 0, 1].into()],
        _ => Vec::new(),
    })
}

fn http_with(allow: &str, names: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static) -> Http {
    let network = Network { allow_nets: AllowNets::parse(allow).unwrap(), ..Network::default() };
    build(&network, Lookup::Table(Arc::new(names)))
}

fn build(network: &Network, lookup: Lookup) -> Http {
    let parts = Parts { lookup, gap: PAUSE, retry_pause: PAUSE, ..Parts::default() };
    Http::build(network, || NOW.parse().unwrap(), parts).unwrap()
}

fn loopback() -> Http {
    http("127.0.0.0/8")
}

async fn body_of(http: &Http, url: &Url) -> Response {
    match http.send(Request::get(url).limits(SHORT)).await.unwrap() {
        Fetched::Body(response) => response,
        Fetched::NotModified(_) | Fetched::Refused(_) => panic!("expected a body"),
    }
}

async fn failure_of(http: &Http, url: &Url) -> Failure {
    http.send(Request::get(url).limits(SHORT)).await.unwrap_err()
}

#[track_caller]
fn check(failure: &Failure, outcome: &str) {
    assert_eq!(failure.outcome().name(), outcome, "{failure}");
}

#[tokio::test]
async fn an_answer_brings_its_facts_and_the_request_is_honest() {
    let headers = "etag: W/\"a b\"\r\nlast-modified: Some Day\r\ncontent-type: text/xml; charset=x\r\n\
                   cache-control: max-age=60\r\nset-cookie: a=b\r\ncontent-length: 5\r\n";
    let server = Server::canned([ok(headers, b"<rss>")]).await;
    let network = Network {
        allow_nets: AllowNets::parse("127.0.0.1").unwrap(),
        contact: Some("https://soc.example/".into()),
        proxy: None,
    };
    let http = build(&network, Lookup::System);
    let mut url = server.url.clone();
    url.set_username("ana").unwrap();
    url.set_password(Some("x")).unwrap();
    let get = Request::get(&url).accept("application/rss+xml").header("X-Key", "abc");
    let Fetched::Body(response) = http.send(get).await.unwrap() else { panic!("a body came") };
    assert_eq!(
        (response.status, response.body.as_slice(), response.truncated),
        (200, &b"<rss>"[..], false)
    );
    assert_eq!(response.validators.etag.as_deref(), Some("W/\"a b\""));
    assert_eq!(response.validators.last_modified.as_deref(), Some("Some Day"));
    assert_eq!(response.content_type.as_deref(), Some("text/xml; charset=x"));
    assert_eq!((response.bytes_on_wire, response.requests, response.moved_to), (5, 1, None));
    let _ = http.send(Request::get(&url)).await.unwrap();
    let head = server.head(0);
    assert!(head.contains(&format!(
        "user-agent: minerva/{} (+https://soc.example/)",
        env!("CARGO_PKG_VERSION")
    )));
    assert!(head.contains("accept: application/rss+xml\r\n") && head.contains("x-key: abc\r\n"));
    assert!(head.contains("accept-encoding: gzip, deflate, br, zstd\r\n"));
    assert!(head.contains("authorization: basic "));
    assert!(!server.head(1).contains("cookie") && !server.head(1).contains("referer"));
}

#[tokio::test]
async fn validators_go_back_verbatim_and_304_is_a_success() {
    let server = Server::canned([status("304 Not Modified\r\netag: \"2\"")]).await;
    let validators =
        Validators { etag: Some("W/\"x\"".into()), last_modified: Some("not a date".into()) };
    let get = Request::get(&server.url).validators(&validators);
    let Fetched::NotModified(answer) = loopback().send(get).await.unwrap() else {
        panic!("304 is no body")
    };
    assert_eq!((answer.validators.etag.as_deref(), answer.requests), (Some("\"2\""), 1));
    let head = server.head(0);
    assert!(
        head.contains("if-none-match: w/\"x\"\r\n")
            && head.contains("if-modified-since: not a date\r\n")
    );
    check(&failure_of(&loopback(), &server.url).await, "status");
}

macro_rules! encoded {
    ($encoder:expr, $plain:expr) => {{
        let mut encoder = $encoder;
        encoder.write_all($plain).await.unwrap();
        encoder.shutdown().await.unwrap();
        encoder.into_inner()
    }};
}

#[tokio::test]
async fn every_encoding_is_read_announced_or_not() {
    let plain = b"<rss>some text, some text, some text</rss>".repeat(50);
    let gzip = encoded!(GzipEncoder::new(Vec::new()), &plain);
    let (one, two) = plain.split_at(100);
    let mut members = encoded!(GzipEncoder::new(Vec::new()), one);
    members.extend(encoded!(GzipEncoder::new(Vec::new()), two));
    let twice = encoded!(GzipEncoder::new(Vec::new()), &gzip);
    let mixed = encoded!(BrotliEncoder::new(Vec::new()), &gzip);
    let thrice = encoded!(ZstdEncoder::new(Vec::new()), &mixed);
    let http = loopback();
    for (header, body) in [
        ("content-encoding: gzip, gzip\r\n", twice.clone()),
        ("content-encoding: gzip\r\nContent-Encoding: gzip\r\n", twice),
        ("content-encoding: gzip, gzip\r\n", gzip.clone()),
        ("content-encoding: gzip, identity,, BR\r\n", mixed.clone()),
        ("content-encoding: gzip\r\ncontent-encoding: br , zstd\r\n", thrice),
        ("content-encoding: identity\r\n", plain.clone()),
        ("", plain.clone()),
        ("content-encoding: UTF-8\r\n", plain.clone()),
        ("content-encoding: gzip\r\n", plain.clone()),
        ("content-encoding: gzip\r\n", gzip.clone()),
        ("", gzip.clone()),
        ("content-encoding: X-GZIP\r\n", members),
        ("content-encoding: deflate\r\n", encoded!(ZlibEncoder::new(Vec::new()), &plain)),
        ("content-encoding: deflate\r\n", encoded!(DeflateEncoder::new(Vec::new()), &plain)),
        ("content-encoding: br\r\n", encoded!(BrotliEncoder::new(Vec::new()), &plain)),
        ("content-encoding: zstd\r\n", encoded!(ZstdEncoder::new(Vec::new()), &plain)),
    ] {
        let on_wire = body.len() as u64;
        let server = Server::canned([ok(header, &body)]).await;
        let response = body_of(&http, &server.url).await;
        assert!(response.body == plain && !response.truncated, "{header}");
        assert_eq!(response.bytes_on_wire, on_wire, "{header}");
    }
    let server = Server::canned([ok("content-encoding: gzip\r\n", b""), ok("", b"x")]).await;
    assert!(body_of(&http, &server.url).await.body.is_empty());
    assert_eq!(body_of(&http, &server.url).await.body, b"x");
}

#[tokio::test]
async fn a_bomb_ends_as_too_large_and_a_broken_encoding_as_itself() {
    let http = loopback();
    let member = encoded!(GzipEncoder::new(Vec::new()), &vec![0; 1 << 20]);
    assert!(member.len() < 1200, "about 1000:1");
    let zstd = encoded!(ZstdEncoder::new(Vec::new()), &vec![0; 4 << 20]);
    for (header, body, outcome) in [
        ("content-encoding: gzip\r\n", member.repeat(64), "too_large"),
        ("", member.repeat(64), "too_large"),
        ("content-encoding: zstd\r\n", zstd, "too_large"),
        ("content-encoding: br\r\n", b"\x11\x1eaaaa".to_vec(), "undecodable"),
        ("content-encoding: gzip, gzip, gzip, gzip, gzip, gzip\r\n", member.clone(), "undecodable"),
        (
            "content-encoding: gzip, gzip\r\n",
            encoded!(GzipEncoder::new(Vec::new()), &member.repeat(64)),
            "too_large",
        ),
        ("content-encoding: br\r\n", b"<rss>".to_vec(), "undecodable"),
        ("content-encoding: zstd\r\n", b"<rss>".to_vec(), "undecodable"),
        ("", b"\x1f\x8b<rss></rss>".to_vec(), "undecodable"),
        ("", b"\x1f\x8b".to_vec(), "undecodable"),
        ("content-length: 10000000000\r\n", Vec::new(), "too_large"),
    ] {
        let server = Server::canned([ok(header, &body)]).await;
        let failure = failure_of(&http, &server.url).await;
        assert_eq!(failure.outcome().name(), outcome, "{header}: {failure}");
        assert_eq!(http.inner.memory.free(), LARGE_BODIES);
    }
    let params = [CParameter::window_log(24)];
    let wide = ZstdEncoder::with_quality_and_params(
        Vec::new(),
        async_compression::Level::Fastest,
        &params,
    );
    let server =
        Server::canned([ok("content-encoding: zstd\r\n", &encoded!(wide, &vec![7; 9 << 20]))])
            .await;
    check(&failure_of(&http, &server.url).await, "undecodable");
}

#[tokio::test]
async fn an_endless_body_is_cut_off_in_every_form() {
    let zeros = vec![0; 64 << 10];
    let mut chunk = b"10000\r\n".to_vec();
    chunk.extend_from_slice(&zeros);
    chunk.extend_from_slice(b"\r\n");
    let name = vec![b'n'; 64 << 10]; // an endless file name in a gzip header gives no output at all
    for (first, chunk) in [
        ("HTTP/1.1 200 OK\r\n\r\n", zeros),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk),
        ("HTTP/1.1 200 OK\r\n\r\n\x1f\u{8b}", Vec::from(*b"n")),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n\x1f", name),
    ] {
        let server =
            Server::endless(first, chunk.repeat((64 << 10) / chunk.len().min(64 << 10))).await;
        check(&failure_of(&loopback(), &server.url).await, "too_large");
    }
    let server = Server::start(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\xff").await;
        while stream.write_all(&[b'n'; 64 << 10]).await.is_ok() {}
    })
    .await;
    check(&failure_of(&loopback(), &server.url).await, "too_large");
}

#[tokio::test]
async fn each_limit_on_time_says_which_it_is() {
    let http = loopback();
    let drip = Server::start(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        while stream.write_all(b"x").await.is_ok() {
            sleep_until(Instant::now() + Duration::from_millis(20)).await;
        }
    })
    .await;
    let failure = http.send(Request::get(&drip.url).limits(BRIEF)).await.unwrap_err();
    assert!(matches!(failure.reason, Reason::TimedOut { limit: Limit::Head, .. }), "{failure}");
    assert_eq!((failure.outcome().name(), drip.requests()), ("timed_out", 1));

    let stalled = Server::start(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await;
        let _ = stream.read_u8().await;
    })
    .await;
    let limits = Limits { head_timeout: SHORT.head_timeout, ..BRIEF };
    let failure = http.send(Request::get(&stalled.url).limits(limits)).await.unwrap_err();
    assert!(matches!(failure.reason, Reason::TimedOut { limit: Limit::Idle, .. }), "{failure}");

    let slow = Server::start(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            sleep_until(Instant::now() + Duration::from_millis(20)).await;
        }
    })
    .await;
    let limits = Limits { total_timeout: Duration::from_millis(300), ..SHORT };
    let failure = http.send(Request::get(&slow.url).limits(limits)).await.unwrap_err();
    let Reason::TimedOut { limit: Limit::Total(Phase::Body), after } = failure.reason else {
        panic!("{failure}");
    };
    assert_eq!(after, limits.total_timeout);
}

#[tokio::test]
async fn a_body_that_ends_early_is_kept_and_marked() {
    let http = loopback();
    let plain: Vec<u8> = (0..40_000u32).flat_map(u32::to_be_bytes).collect();
    let gzip = encoded!(GzipEncoder::new(Vec::new()), &plain);
    let half = &gzip[..gzip.len() / 2];
    let mut bad_sum = gzip.clone();
    let at = bad_sum.len() - 6;
    bad_sum[at] ^= 1;
    for (headers, body, least) in [
        ("content-length: 50\r\netag: \"1\"\r\n".to_owned(), b"<rss><item>".to_vec(), 11),
        ("transfer-encoding: chunked\r\n".to_owned(), b"5\r\n<rss>\r\n5\r\n<i".to_vec(), 5),
        (
            format!("content-encoding: gzip\r\ncontent-length: {}\r\n", gzip.len()),
            half.to_vec(),
            1000,
        ),
        ("content-encoding: gzip\r\n".to_owned(), half.to_vec(), 1000),
        (String::new(), bad_sum, plain.len()),
    ] {
        let server = Server::canned([ok(&headers, &body)]).await;
        let response = body_of(&http, &server.url).await;
        assert!(response.truncated && response.body.len() >= least, "{headers} {response:?}");
        assert!(response.validators.is_empty());
        check(&response.whole().unwrap_err(), "truncated");
    }
    // A length that is too short cuts the body there; nothing tells that there was more.
    let server = Server::canned([ok("content-length: 5\r\n", b"<rss></rss>")]).await;
    let response = body_of(&http, &server.url).await;
    assert_eq!((response.body.as_slice(), response.truncated), (&b"<rss>"[..], false));
}

#[tokio::test]
async fn redirects_are_followed_and_permanent_ones_recorded() {
    let end = Server::canned([ok("", b"end")]).await;
    let http = loopback();
    for (codes, moved) in
        [([301, 308], true), ([301, 302], false), ([307, 308], false), ([303, 302], false)]
    {
        let middle = Server::canned([redirect(codes[1], &end.url)]).await;
        let start = Server::canned([redirect(codes[0], format!("{}#top", middle.url))]).await;
        let response = body_of(&http, &start.url).await;
        assert_eq!((response.body.as_slice(), response.requests), (&b"end"[..], 3));
        assert_eq!(response.final_url, end.url);
        assert_eq!(response.moved_to, moved.then(|| end.url.clone()));
    }
    let relative = Server::canned([redirect(301, "/other?x=1"), ok("", b"")]).await;
    assert_eq!(
        body_of(&http, &relative.url).await.moved_to,
        Some(relative.url.join("/other?x=1").unwrap())
    );
}

#[tokio::test]
async fn redirects_that_lead_nowhere_are_named() {
    let http = loopback();
    for (answers, outcome, requests) in [
        (vec![redirect(302, "/a"), redirect(302, "/b"), redirect(302, "/a")], "redirect_loop", 3),
        (vec![redirect(302, "")], "malformed", 1),
        (vec![redirect(302, "http://[::bad/")], "malformed", 1),
        (vec![status("302 Found")], "malformed", 1),
        (vec![status("300 Choose")], "status", 1),
        (
            (0..9).map(|number| redirect(302, format!("/{number}"))).collect(),
            "too_many_redirects",
            6,
        ),
    ] {
        let server = Server::canned(answers).await;
        let failure = failure_of(&http, &server.url).await;
        check(&failure, outcome);
        assert_eq!(
            (failure.requests, server.requests()),
            (requests, requests as usize),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn a_redirect_into_private_space_is_blocked() {
    let target = Server::canned([ok("", b"secret")]).await;
    let port = target.url.port().unwrap();
    let http = loopback();
    for location in [
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("http://evil.test:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://localhost.:{port}/"),
        "http://[::1]/".to_owned(),
        "http://0/".to_owned(),
        "http://[fd00:ec2::254]/".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let server = Server::canned([redirect(302, &location)]).await;
        let failure = failure_of(&http, &server.url).await;
        check(&failure, "blocked");
        assert!(failure.to_string().contains("redirected to"), "{failure}");
    }
    assert_eq!(target.requests(), 0);

    let literal = Server::canned([redirect(302, &target.url)]).await;
    assert_eq!(
        body_of(&http, &literal.url).await.body,
        b"secret",
        "a listed literal is what the operator wrote"
    );
    let listed = self::http("127.0.0.0/8,mirror.test");
    let server = Server::canned([redirect(302, target.named("mirror.test"))]).await;
    assert_eq!(body_of(&listed, &server.url).await.body, b"secret", "so is a listed name");
}

#[tokio::test]
async fn a_configured_name_may_resolve_into_a_listed_network() {
    let server = Server::canned([redirect(302, "/next"), ok("", b"feed")]).await;
    let url = server.named("mirror.test");
    assert_eq!(
        body_of(&loopback(), &url).await.body,
        b"feed",
        "and a redirect to itself stays allowed"
    );
    check(&failure_of(&http(""), &url).await, "blocked");
    check(&failure_of(&http(""), &server.url).await, "blocked");
    check(&failure_of(&http("10.0.0.0/8"), &url).await, "blocked");
    check(&failure_of(&loopback(), &server.named("unknown.example")).await, "unresolved");

    let there = server.named("b.test");
    let back = Server::canned([redirect(302, &url)]).await;
    let away = Server::canned([redirect(302, &back.url)]).await;
    check(&failure_of(&loopback(), &away.named("b.test")).await, "blocked");
    assert_eq!(body_of(&http("b.test"), &there).await.body, b"feed");
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_only_what_was_checked_is_connected_to() {
    let server = Server::canned([ok("", b"feed")]).await;
    let looked_up = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&looked_up);
    // First an address that is allowed beside one that is not, then only the other.
    let http = http_with("127.0.0.1", move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => vec![[127, 0, 0, 2].into(), [127, 0, 0, 1].into()],
        _ => vec![[127, 0, 0, 2].into()],
    });
    let url = server.named("rebinding.test");
    assert_eq!(body_of(&http, &url).await.body, b"feed");
    assert_eq!(looked_up.load(Ordering::SeqCst), 1);
    check(&failure_of(&http, &url).await, "blocked");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_key_stays_with_its_origin() {
    let other = Server::canned([ok("", b"")]).await;
    let server = Server::canned([redirect(302, "/same"), redirect(302, &other.url)]).await;
    loopback().send(Request::get(&server.url).header("X-OTX-API-KEY", "s3cret")).await.unwrap();
    assert!(server.head(0).contains("s3cret") && server.head(1).contains("s3cret"));
    assert!(!other.head(0).contains("x-otx-api-key"));
    for (name, value) in [("X-Key", "a\r\nb: c"), ("X Key", "a")] {
        let failure =
            loopback().send(Request::get(&server.url).header(name, value)).await.unwrap_err();
        check(&failure, "invalid_request");
        assert_eq!((failure.class(), failure.requests), (Class::Config, 0));
    }
}

const JSON: &str = "application/json";

#[tokio::test]
async fn a_body_is_sent_once_unless_it_may_arrive_twice() {
    for first in [Vec::new(), status("503 Busy"), status("429 Slow\r\nretry-after: 0")] {
        let server = Server::canned([first, ok("", b"{}")]).await;
        let post = Request::post(&server.url, "{\"a\":1}", JSON).limits(SHORT);
        let failure = loopback().send(post.clone()).await.unwrap_err();
        assert_eq!((failure.requests, server.requests()), (1, 1), "{failure}");
        assert!(failure.to_string().starts_with("send to `http://127.0.0.1:"), "{failure}");
        assert_eq!(server.body(0), b"{\"a\":1}");
        let head = server.head(0);
        assert!(head.starts_with("post /feed http/1.1"), "{head}");
        assert!(head.contains("content-type: application/json\r\n"), "{head}");

        server.heads.lock().unwrap().clear();
        let response = loopback().send(post.idempotent()).await.unwrap().body().unwrap().unwrap();
        assert_eq!((response.body.as_slice(), response.requests), (&b"{}"[..], 2));
        assert_eq!(server.body(2), b"{\"a\":1}");
    }
    let server = Server::canned([status("503 Busy")]).await;
    let put = Request::method(Method::PUT, &server.url).body("x", "text/plain").limits(SHORT);
    assert_eq!(loopback().send(put).await.unwrap_err().requests, 2);
    let patch = Request::method(Method::PATCH, &server.url).limits(SHORT);
    assert_eq!(loopback().send(patch).await.unwrap_err().requests, 1);
}

#[tokio::test]
async fn a_body_is_redirected_only_whole_and_within_its_origin() {
    for code in [307, 308] {
        let server = Server::canned([redirect(code, "/next"), ok("", b"{}")]).await;
        let post = Request::post(&server.url, "{}", JSON).header("x-key", "s3cret");
        assert!(matches!(loopback().send(post).await, Ok(Fetched::Body(_))));
        let head = server.head(1);
        assert!(head.starts_with("post /next ") && head.contains("x-key: s3cret\r\n"), "{head}");
        assert!(head.contains("content-type: application/json\r\n"), "{head}");
        assert_eq!(server.body(1), b"{}");
    }
    let other = Server::canned([ok("", b"")]).await;
    for (code, target) in [
        (307, other.url.as_str()),
        (308, other.url.as_str()),
        (301, "/next"),
        (302, "/next"),
        (303, "/next"),
    ] {
        let server = Server::canned([redirect(code, target), ok("", b"{}")]).await;
        let post = Request::post(&server.url, "{}", JSON).limits(SHORT);
        let failure = loopback().send(post).await.unwrap_err();
        check(&failure, "redirected");
        assert!(failure.to_string().contains(server.url.join(target).unwrap().as_str()));
        assert_eq!((server.requests(), other.requests()), (1, 0));
    }
}

#[tokio::test]
async fn a_refusal_is_handed_back_with_its_headers_and_the_beginning_of_its_body() {
    let answer = |line: &str, headers: &str, body: &[u8]| {
        let mut answer = format!("HTTP/1.1 {line}\r\nconnection: close\r\n{headers}\r\n");
        answer.push_str(std::str::from_utf8(body).unwrap());
        answer.into_bytes()
    };
    let limits = answer("429 Slow", "X-Left: 0\r\nretry-after: 99\r\n", b"full");
    let mut gzipped = answer("422 No", "content-encoding: gzip\r\n", b"");
    gzipped.extend(encoded!(GzipEncoder::new(Vec::new()), b"why not"));
    let long = vec![b'x'; 2 * REFUSAL_MAX as usize];
    for (answer, code, body, is_whole, requests) in [
        (limits, 429, &b"full"[..], true, 1),
        (gzipped, 422, b"why not", true, 1),
        (answer("404 Lost", "", &long), 404, &long[..REFUSAL_MAX as usize], false, 1),
        (answer("404 Lost", "content-length: 9\r\n", b"part"), 404, b"part", false, 1),
        (answer("300 Choose", "", b"one"), 300, b"one", true, 1),
        (answer("503 Busy", "", b"later"), 503, b"later", true, 2),
    ] {
        let server = Server::canned([answer]).await;
        let asked = Request::get(&server.url).limits(SHORT).refusals();
        let Fetched::Refused(response) = loopback().send(asked.clone()).await.unwrap() else {
            panic!("{code} is no answer")
        };
        assert_eq!((response.status, response.requests), (code, requests));
        assert_eq!((response.body.as_slice(), response.truncated), (body, !is_whole));
        if code == 429 {
            assert_eq!(response.headers.get("x-left"), Some("0"));
            assert_eq!(response.headers.get("X-LEFT"), Some("0"));
            assert_eq!(response.headers.get("no such name"), None);
            assert_eq!(response.headers.all("connection").collect::<Vec<_>>(), ["close"]);
        }
        let failure = Fetched::Refused(response).body().unwrap_err();
        let without = failure_of(&loopback(), &server.url).await;
        assert_eq!((&failure.reason, failure.requests), (&without.reason, requests));
        assert_eq!(failure.to_string(), without.to_string());
    }
    let server = Server::canned([status("304 Unasked")]).await;
    check(&loopback().send(Request::get(&server.url).refusals()).await.unwrap_err(), "status");
    let server = Server::canned([redirect(302, "/next"), status("404 Lost")]).await;
    let fetched = loopback().send(Request::get(&server.url).refusals()).await.unwrap();
    let Fetched::Refused(response) = fetched else { panic!("404 is no answer") };
    assert_eq!(response.final_url.path(), "/next");
    let endless = Server::endless("HTTP/1.1 500 Oops\r\n\r\n", vec![b'x'; 64 << 10]).await;
    let fetched = loopback().send(Request::get(&endless.url).refusals()).await.unwrap();
    let Fetched::Refused(response) = fetched else { panic!("500 is no answer") };
    assert_eq!((response.body.len() as u64, response.truncated), (REFUSAL_MAX, true));
}

#[tokio::test]
async fn a_trusted_endpoint_may_be_anywhere_and_is_never_left() {
    let target = Server::canned([ok("", b"secret")]).await;
    let server = Server::canned([ok("", b"here")]).await;
    let parts = Parts {
        lookup: Lookup::Table(Arc::new(|_| vec![[127, 0, 0, 1].into()])),
        // A start that waited for this would be seen.
        gap: SHORT.total_timeout * 100,
        retry_pause: PAUSE,
        ..Parts::default()
    };
    let http = Http::build(&Network::default(), || NOW.parse().unwrap(), parts).unwrap();
    for url in [server.url.clone(), server.named("misp.internal"), server.url.clone()] {
        check(&failure_of(&http, &url).await, "blocked");
        let trusted = Request::get(&url).limits(SHORT).trusted();
        let response = http.send(trusted).await.unwrap().body().unwrap().unwrap();
        assert_eq!(response.body, b"here");
    }
    for code in [301, 302, 303, 307, 308] {
        let server = Server::canned([redirect(code, format!("{}?key=s3cret", target.url))]).await;
        for request in [Request::get(&server.url), Request::post(&server.url, "{}", JSON)] {
            let failure = http.send(request.trusted().refusals()).await.unwrap_err();
            check(&failure, "redirected");
            let message = failure.to_string();
            assert!(message.contains(&format!("{}?key=***", target.url)), "{message}");
            assert!(!message.contains("s3cret") && failure.hint().is_some(), "{message}");
        }
    }
    let server = Server::canned([redirect(302, "http://[::bad/")]).await;
    let failure = http.send(Request::get(&server.url).trusted()).await.unwrap_err();
    check(&failure, "malformed");
    let url = Url::parse("file:///etc/passwd").unwrap();
    check(&http.send(Request::get(&url).trusted()).await.unwrap_err(), "blocked");
    assert_eq!(target.requests(), 0);
}

#[tokio::test]
async fn a_request_that_is_counted_is_sent_once() {
    let http = loopback();
    for (answer, outcome) in [
        (Vec::new(), "reset"),
        (status("503 Busy"), "status"),
        (status("429 Slow\r\nretry-after: 0"), "rate_limited"),
        (redirect(302, "/next"), "redirected"),
    ] {
        let server = Server::canned([answer, ok("", b"second")]).await;
        let once = Request::get(&server.url).limits(SHORT).once().idempotent();
        let failure = http.send(once).await.unwrap_err();
        check(&failure, outcome);
        assert_eq!((failure.requests, server.requests()), (1, 1));
    }
}

#[tokio::test]
async fn a_key_is_in_no_failure() {
    let http = loopback();
    let away = Server::canned([ok("content-length: 50\r\n", b"part")]).await;
    for answer in [
        Vec::new(),
        status("401 Who"),
        status("429 Slow"),
        ok("content-encoding: br\r\n", b"<rss>"),
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(),
        redirect(302, &away.url),
        redirect(302, "http://10.0.0.1/"),
    ] {
        let server = Server::canned([answer]).await;
        for value in ["s3cret", "s3cret\r\nb: c"] {
            for request in [
                Request::get(&server.url),
                Request::get(&server.url).refusals(),
                Request::post(&server.url, "s3cret", JSON).trusted(),
            ] {
                let request = request.header("x-key", value).limits(SHORT);
                assert!(!format!("{request:?}").contains("s3cret"));
                match http.send(request).await {
                    Err(failure) => {
                        let text = format!("{failure} {failure:?}");
                        let text = format!("{text} {}", Error::from(failure).chain());
                        assert!(!text.contains("s3cret"), "{text}");
                    }
                    Ok(fetched) => assert!(!format!("{fetched:?}").contains("s3cret")),
                }
            }
        }
    }
    assert!((0..away.requests()).all(|number| !away.head(number).contains("s3cret")));
}

#[tokio::test]
async fn each_status_has_its_name_and_class() {
    let http = loopback();
    for (line, outcome, class, requests) in [
        ("401 Who", "unauthorized", Class::Config, 1),
        ("403 No", "unauthorized", Class::Config, 1),
        ("404 Lost", "not_found", Class::Upstream, 1),
        ("410 Gone", "gone", Class::Upstream, 1),
        ("418 Teapot", "status", Class::Upstream, 1),
        ("500 Oops", "status", Class::Upstream, 1),
        ("503 Busy", "status", Class::Upstream, 2),
        ("429 Slow", "rate_limited", Class::Upstream, 1),
    ] {
        let server = Server::canned([status(line)]).await;
        let failure = failure_of(&http, &server.url).await;
        check(&failure, outcome);
        assert_eq!((failure.class(), failure.requests), (class, requests), "{failure}");
        assert_eq!(server.requests(), requests as usize);
        assert_eq!(Error::from(failure).class(), class);
    }
}

#[tokio::test]
async fn retry_after_is_waited_for_when_short_and_handed_back_when_long() {
    let http = loopback();
    for asked in ["0", "Mon, 23 Nov 2026 12:00:00 GMT", "Mon, 23 Nov 2026 11:00:00 GMT"] {
        for code in [429, 503] {
            let first = status(&format!("{code} Slow\r\nretry-after: {asked}"));
            let server = Server::canned([first, ok("", b"feed")]).await;
            let response = body_of(&http, &server.url).await;
            assert_eq!((response.body.as_slice(), response.requests), (&b"feed"[..], 2));
        }
    }
    for asked in ["120", "Mon, 23 Nov 2026 12:02:00 GMT"] {
        let server = Server::canned([status(&format!("503 Slow\r\nretry-after: {asked}"))]).await;
        let failure = failure_of(&http, &server.url).await;
        let retry_after = Some(Duration::from_secs(120));
        assert_eq!(
            (&failure.reason, failure.requests),
            (&Reason::RateLimited { status: 503, retry_after }, 1)
        );
    }
    let server = Server::canned([status("429 Slow\r\nretry-after: 0")]).await;
    assert_eq!(failure_of(&http, &server.url).await.requests, 2, "once, not for ever");
    let server = Server::canned([status("429 Slow\r\nretry-after: 9")]).await;
    let failure = failure_of(&http, &server.url).await;
    assert_eq!(
        (failure.outcome().name(), failure.requests),
        ("rate_limited", 1),
        "no wait beyond the deadline"
    );
}

#[tokio::test]
async fn a_broken_connection_is_tried_twice() {
    let http = loopback();
    let server = Server::canned([Vec::new(), ok("", b"feed")]).await;
    let response = body_of(&http, &server.url).await;
    assert_eq!((response.body.as_slice(), response.requests), (&b"feed"[..], 2));
    let server = Server::canned([ok("content-length: 5\r\n", b"")]).await;
    let failure = failure_of(&http, &server.url).await;
    assert_eq!((failure.outcome().name(), failure.requests), ("reset", 2));

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", nobody.local_addr().unwrap())).unwrap();
    drop(nobody);
    let failure = failure_of(&http, &url).await;
    assert_eq!((failure.outcome().name(), failure.requests), ("refused", 2));
}

#[tokio::test]
async fn what_is_not_http_or_not_tls_is_named() {
    let http = loopback();
    let server = Server::canned(["SSH-2.0-OpenSSH_9.2\r\n\r\n"]).await;
    check(&failure_of(&http, &server.url).await, "malformed");
    let many: String = (0..200).map(|number| format!("h{number}: x\r\n")).collect();
    let server = Server::canned([ok(&many, b"")]).await;
    check(&failure_of(&http, &server.url).await, "malformed");
    let endless = Server::endless("HTTP/1.1 200 OK\r\nx: ", vec![b'x'; 64 << 10]).await;
    check(&failure_of(&http, &endless.url).await, "malformed");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    check(&failure_of(&http, &url).await, "tls");
}

#[tokio::test]
async fn one_host_sees_two_requests_at_once_or_as_few_as_one_caller_asks_for() {
    assert_eq!(most_at_once([None; 8]).await, 2);
    let alone = Some(Pace { gap: PAUSE, at_once: 1 });
    assert_eq!(most_at_once([alone; 4]).await, 1);
    assert_eq!(most_at_once([alone, None, None, None]).await, 1);
}

/// The most requests that a host saw at the same time.
async fn most_at_once<const N: usize>(paces: [Option<Pace>; N]) -> u32 {
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let kept = Arc::clone(&most);
    let server = Server::start(move |mut stream, _| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&kept));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\n<r")
                .await;
            sleep_until(Instant::now() + Duration::from_millis(30)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            let _ = stream.write_all(b"/>").await;
        }
    })
    .await;
    let http = loopback();
    let mut calls = JoinSet::new();
    for pace in paces {
        let (http, url) = (http.clone(), server.url.clone());
        calls.spawn(async move {
            let request = Request::get(&url).limits(SHORT);
            let request = pace.into_iter().fold(request, Request::pace);
            http.send(request).await.unwrap().body().unwrap().unwrap().body.len()
        });
    }
    assert_eq!(calls.join_all().await, [4; N]);
    assert_eq!(server.requests(), N);
    most.load(Ordering::SeqCst)
}

#[tokio::test]
async fn large_bodies_share_memory_and_waiting_for_it_is_not_idleness() {
    let body = vec![b'x'; 3 << 20];
    let length = format!("content-length: {}\r\n", body.len());
    let server = Server::canned([ok(&length, &body)]).await;
    let http = loopback();
    let limits = Limits { max_body: LARGE_BODIES, idle_timeout: BRIEF.idle_timeout, ..SHORT };
    let fetch = |limits| {
        let (http, url) = (http.clone(), server.url.clone());
        async move { http.send(Request::get(&url).limits(limits)).await }
    };
    let first = fetch(limits).await.unwrap();
    assert_eq!(
        http.inner.memory.free(),
        LARGE_BODIES - (3 << 20),
        "a known length takes no more than itself"
    );
    let rest = http.inner.memory.take(LARGE_BODIES - (4 << 20)).await;
    let failure =
        fetch(Limits { total_timeout: BRIEF.idle_timeout * 2, ..limits }).await.unwrap_err();
    assert!(
        matches!(failure.reason, Reason::TimedOut { limit: Limit::Total(Phase::Memory), .. }),
        "{failure}"
    );
    let small = Server::canned([ok("", b"small")]).await;
    assert_eq!(body_of(&http, &small.url).await.body, b"small", "small bodies do not wait");

    let second = tokio::spawn(fetch(limits));
    sleep_until(Instant::now() + BRIEF.idle_timeout * 2).await;
    assert!(!second.is_finished());
    drop(first);
    let Ok(Fetched::Body(second)) = second.await.unwrap() else {
        panic!("the wait was no failure")
    };
    assert_eq!(second.into_body().len(), 3 << 20);
    drop(rest);
    assert_eq!(http.inner.memory.free(), LARGE_BODIES);
    let unlimited = Limits { max_body: u64::MAX, ..SHORT };
    assert!(fetch(unlimited).await.is_ok(), "no room is set aside for what nobody sent");
    let all = http.inner.memory.take(u64::MAX).await;
    assert_eq!(http.inner.memory.free(), 0, "more than there is means all of it");
    drop(all);
}

/// Runs itself again in a process of its own, where nothing else is measured.
#[test]
fn sixty_sources_with_five_hostile_ones_take_less_than_100_mb() {
    let (_, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::sixty_sources_with_five_hostile_ones_take_less_than_100_mb");
    if !std::env::args().any(|argument| argument == "--exact") {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args([&name, "--exact", "--nocapture"]).output().unwrap();
        let [told, cause] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(output.status.success() && told.contains("1 passed"), "{told}{cause}");
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(sixty_sources());
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        println!("peak: {peak} kB");
        assert!(peak < 100_000, "{peak} kB, the servers included");
    }
}

async fn sixty_sources() {
    let member = encoded!(GzipEncoder::new(Vec::new()), &vec![0; 1 << 20]);
    let http = loopback();
    let mut calls = JoinSet::new();
    for number in 0..60 {
        let server = match number {
            0..3 => Server::endless("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 64 << 10]).await,
            3 => Server::endless("HTTP/1.1 200 OK\r\n\r\n", member.clone()).await,
            4 => Server::canned([ok("content-length: 10000000000\r\n", b"x")]).await,
            _ => Server::canned([ok("", &vec![b'x'; 100 << 10])]).await,
        };
        let http = http.clone();
        calls.spawn(async move {
            let outcome = match http.send(Request::get(&server.url)).await {
                Ok(_) => "a body".to_owned(),
                Err(failure) if failure.outcome().name() == "too_large" => "too large".to_owned(),
                Err(failure) => failure.to_string(),
            };
            (number, outcome)
        });
    }
    for (number, outcome) in calls.join_all().await {
        assert_eq!(outcome, if number < 5 { "too large" } else { "a body" }, "source {number}");
    }
}

#[tokio::test]
async fn behind_a_proxy_names_are_its_business_and_literals_are_ours() {
    let proxy = Server::canned([ok("", b"from the proxy")]).await;
    let direct = Server::canned([ok("", b"direct")]).await;
    let mut proxy_url = proxy.named("proxy.test");
    proxy_url.set_path("");
    proxy_url.set_username("ana").unwrap();
    proxy_url.set_password(Some("s3cret")).unwrap();
    let network = Network {
        allow_nets: AllowNets::parse("127.0.0.1").unwrap(),
        contact: None,
        proxy: Some(Secret::new(proxy_url)),
    };
    assert!(!format!("{network:?}").contains("s3cret"));
    let http = build(&network, Lookup::Table(Arc::new(|_| vec![[127, 0, 0, 1].into()])));
    let url = Url::parse("http://feeds.example/rss").unwrap();
    assert_eq!(body_of(&http, &url).await.body, b"from the proxy");
    assert!(
        proxy.head(0).starts_with("get http://feeds.example/rss http/1.1"),
        "{}",
        proxy.head(0)
    );
    assert!(proxy.head(0).contains("proxy-authorization: basic"), "{}", proxy.head(0));
    check(&failure_of(&http, &Url::parse("http://10.0.0.1/").unwrap()).await, "blocked");
    assert_eq!(
        body_of(&http, &direct.url).await.body,
        b"direct",
        "listed hosts are asked directly"
    );
    assert_eq!(proxy.requests(), 1);
}

#[test]
fn malformed_settings_are_refused() {
    let proxy = Some(Secret::new(Url::parse("socks5://ana:s3cret@127.0.0.1/").unwrap()));
    for network in [
        Network { contact: Some("a\nb".into()), ..Network::default() },
        Network { proxy, ..Network::default() },
    ] {
        let error = Http::new(&network, || NOW.parse().unwrap()).err().unwrap();
        assert_eq!(error.class(), Class::Config);
        assert!(!error.to_string().contains("s3cret"));
    }
}

#[test]
fn jitter_stays_within_its_bound() {
    for _ in 0..100 {
        assert!(jitter(PAUSE) <= PAUSE);
    }
    install_tls();
    install_tls();
}

/// A certificate for `secure.test`, signed by itself, valid until 2126, and its key; made with openssl for this test.
const CERTIFICATE: &str = "\
    308201973082013ea003020102021472271b2baab79f41b1c12e9db432a038c2a597e7300a06082a8648ce3d04030230\
    163114301206035504030c0b7365637572652e746573743020170d3236313132333136333331375a180f323132363130\
    33303136333331375a30163114301206035504030c0b7365637572652e746573743059301306072a8648ce3d02010608\
    2a8648ce3d03010703420004f9bbc1916521c919ab82c8b1b708937e22ca4f575595583a942ee5460d3ac9651fd0f801\
    b158c5efabb5de9b673b16af98e721fb130857a19d346fe938a87fa1a3683066301d0603551d0e041604140378a21701\
    82fa667ea84eb5a2522788c20e6012301f0603551d230418301680140378a2170182fa667ea84eb5a2522788c20e6012\
    30160603551d11040f300d820b7365637572652e74657374300c0603551d130101ff04023000300a06082a8648ce3d04\
    03020347003044022058e9339eb7be84c4717d7027dc935a10b9988cbc185cae9a788cd68d93702e1902205ebf88c15e\
    5a941ad570e4ea16b0490d66587a9d5b1709896a9bed9ccd4c7a69\
    ";
const KEY: &str = "\
    308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420f2e74c2f97c36fc28f0aa889\
    025567f67f3efec47eb5ae7835ed57dd70109612a14403420004f9bbc1916521c919ab82c8b1b708937e22ca4f575595\
    583a942ee5460d3ac9651fd0f801b158c5efabb5de9b673b16af98e721fb130857a19d346fe938a87fa1\
    ";

fn bytes_of(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

/// Serves TLS on threads of its own: HTTP/2 in its fewest frames, or HTTP/1.1 where `alpn` says so.
fn secure_server(alpn: &[u8]) -> Url {
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(bytes_of(KEY));
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![bytes_of(CERTIFICATE).into()], key.into())
            .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let (config, is_http2) = (Arc::new(config), alpn == b"h2");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://secure.test:{}/", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let stream = rustls::StreamOwned::new(connection, stream.unwrap());
            // An error is a client that refuses the certificate.
            std::thread::spawn(move || serve_secure(stream, is_http2));
        }
    });
    Url::parse(&url).unwrap()
}

fn serve_secure(mut stream: impl io::Read + io::Write, is_http2: bool) -> io::Result<()> {
    if !is_http2 {
        let _request = stream.read(&mut [0; 2048])?;
        return stream.write_all(&ok("content-length: 5\r\n", b"<rss>"));
    }
    stream.read_exact(&mut [0; 24])?; // the preface
    stream.write_all(b"\0\0\0\x04\0\0\0\0\0")?; // SETTINGS
    loop {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame)?;
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        stream.read_exact(&mut vec![0; length as usize])?;
        if frame[3] == 1 {
            stream.write_all(b"\0\0\x01\x01\x04\0\0\0\x01\x88")?; // HEADERS: status 200
            stream.write_all(b"\0\0\x05\0\x01\0\0\0\x01<rss>")?; // DATA, the last
        }
    }
}

#[tokio::test]
async fn certificates_are_verified_and_both_protocols_spoken() {
    let mut parts = Parts::default();
    parts.roots.add(bytes_of(CERTIFICATE).into()).unwrap();
    parts.lookup = Lookup::Table(Arc::new(|_| vec![[127, 0, 0, 1].into()]));
    let network =
        Network { allow_nets: AllowNets::parse("127.0.0.1").unwrap(), ..Network::default() };
    let trusting = Http::build(&network, || NOW.parse().unwrap(), parts).unwrap();
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let url = secure_server(alpn);
        assert_eq!(body_of(&trusting, &url).await.body, b"<rss>");
        let failure = failure_of(&loopback(), &url).await;
        check(&failure, "tls");
        assert!(failure.to_string().contains("UnknownIssuer"), "{failure}");
        let mut other = url.clone();
        other.set_host(Some("other.test")).unwrap();
        let failure = failure_of(&trusting, &other).await;
        check(&failure, "tls");
        assert!(failure.to_string().contains("not valid for"), "{failure}");
    }
}

#[tokio::test]
async fn a_slow_large_body_gives_way_only_when_others_wait() {
    let chunk = vec![b'x'; 16 << 10];
    let slow = move |chunks: usize| {
        let chunk = chunk.clone();
        Server::start(move |mut stream, _| {
            let chunk = chunk.clone();
            async move {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                let _ = stream.write_all(&chunk.repeat(33)).await;
                for _ in 0..chunks {
                    sleep_until(Instant::now() + Duration::from_millis(40)).await;
                    let _ = stream.write_all(&chunk).await;
                }
            }
        })
    };
    let network =
        Network { allow_nets: AllowNets::parse("127.0.0.1").unwrap(), ..Network::default() };
    let parts = Parts { slow_for: PAUSE, ..Parts::default() };
    let http = Http::build(&network, || NOW.parse().unwrap(), parts).unwrap();
    let server = slow(5).await;
    assert_eq!(body_of(&http, &server.url).await.body.len(), 38 * (16 << 10), "nobody waited");

    let server = slow(50).await;
    let (patient, url) = (http.clone(), server.url.clone());
    let call = tokio::spawn(async move { failure_of(&patient, &url).await });
    while http.inner.memory.free() == LARGE_BODIES && !call.is_finished() {
        tokio::task::yield_now().await;
    }
    let all = http.inner.memory.take(LARGE_BODIES).await;
    drop(all);
    let failure = call.await.unwrap();
    assert!(
        matches!(failure.reason, Reason::TimedOut { limit: Limit::LargeBody, .. }),
        "{failure}"
    );
}

async fn open(http: &Http, request: Request<'_>) -> Stream {
    match http.stream(request.limits(LONG)).await.unwrap() {
        Streamed::Open(stream) => stream,
        Streamed::NotModified(_) => panic!("expected a body"),
    }
}

/// A stream's limits, as short as a test's.
const LONG: Limits = Limits { max_body: 64 << 20, ..SHORT };

/// The lines of a stream to its end or failure, and its offset after each.
async fn lines_of(stream: &mut Stream) -> (Vec<(Vec<u8>, Line, u64)>, Option<Failure>) {
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    loop {
        match stream.line(&mut line).await {
            Ok(Some(kind)) => lines.push((line.clone(), kind, stream.offset())),
            Ok(None) => return (lines, None),
            Err(failure) => return (lines, Some(failure)),
        }
    }
}

#[tokio::test]
async fn a_stream_gives_its_head_and_its_chunks() {
    let body = b"0123456789".repeat(50_000);
    let headers = "etag: \"1\"\r\ncontent-type: text/csv\r\nx-total: 7\r\n";
    let server = Server::canned([redirect(301, "/next"), ok(headers, &body)]).await;
    let mut stream = open(&loopback(), Request::get(&server.url)).await;
    assert_eq!((stream.status(), stream.requests(), stream.starts_at()), (200, 2, 0));
    assert_eq!((stream.final_url().path(), stream.moved_to()), ("/next", Some(stream.final_url())));
    assert_eq!(stream.validators().etag.as_deref(), Some("\"1\""));
    assert_eq!(
        (stream.content_type(), stream.headers().get("X-Total")),
        (Some("text/csv"), Some("7"))
    );
    assert!(stream.is_plain());
    let mut read = Vec::new();
    stream.skip(5).await.unwrap();
    assert_eq!(stream.offset(), 5);
    while let Some(chunk) = stream.chunk().await.unwrap() {
        assert!(!chunk.is_empty() && chunk.len() <= CHUNK_BYTES_MAX);
        read.extend_from_slice(&chunk);
        assert_eq!(stream.offset(), 5 + read.len() as u64);
    }
    assert!(read == body[5..] && stream.bytes_on_wire() == body.len() as u64);
    assert_eq!(stream.chunk().await.unwrap(), None);
    check(&stream.skip(1).await.unwrap_err(), "truncated");
    check(&stream.chunk().await.unwrap_err(), "truncated");

    let server = Server::canned([status("304 Same\r\netag: \"1\"")]).await;
    let validators = Validators { etag: Some("\"1\"".into()), last_modified: None };
    let asked = Request::get(&server.url).validators(&validators);
    assert!(matches!(loopback().stream(asked).await, Ok(Streamed::NotModified(_))));
    let server = Server::canned([status("404 Lost")]).await;
    let failure = loopback().stream(Request::get(&server.url).refusals()).await.unwrap_err();
    check(&failure, "not_found");
    let server = Server::canned([Vec::new(), ok("", b"second")]).await;
    assert_eq!(open(&loopback(), Request::get(&server.url)).await.requests(), 2);
}

#[tokio::test]
async fn lines_come_without_their_ends_and_too_long_ones_are_cut() {
    let most = vec![b'm'; LINE_BYTES_MAX];
    let over = vec![b'o'; LINE_BYTES_MAX + 1];
    let far_over = vec![b'f'; 3 * LINE_BYTES_MAX + 7];
    let mut body = b"a\r\n\n\rb\r\r\n".to_vec();
    for (line, end) in
        [(&most, "\r\n"), (&over, "\n"), (&most, "\n"), (&far_over, "\r\n"), (&over, "\r\n")]
    {
        body.extend_from_slice(line);
        body.extend_from_slice(end.as_bytes());
    }
    body.extend_from_slice(b"last");
    let cut = |line: &[u8]| (line[..LINE_BYTES_MAX].to_vec(), Line::Cut);
    let whole = |line: &[u8]| (line.to_vec(), Line::Whole);
    let expected = [
        whole(b"a"),
        whole(b""),
        whole(b"\rb\r"),
        whole(&most),
        cut(&over),
        whole(&most),
        cut(&far_over),
        cut(&over),
        whole(b"last"),
    ];
    let gzip = encoded!(GzipEncoder::new(Vec::new()), &body);
    let zstd = encoded!(ZstdEncoder::new(Vec::new()), &body);
    for (headers, sent, is_plain) in [
        ("", &body, true),
        ("content-encoding: gzip\r\n", &gzip, false),
        ("", &gzip, false),
        ("content-encoding: zstd\r\n", &zstd, false),
    ] {
        let server = Server::canned([ok(headers, sent)]).await;
        let mut stream = open(&loopback(), Request::get(&server.url)).await;
        assert_eq!(stream.is_plain(), is_plain);
        let (lines, failure) = lines_of(&mut stream).await;
        assert!(failure.is_none());
        let offset = |number: usize| lines[number].2 as usize;
        assert_eq!(offset(lines.len() - 1), body.len());
        for number in 0..lines.len() - 1 {
            assert_eq!(body[offset(number) - 1], b'\n', "an offset is the beginning of a line");
        }
        let lines: Vec<_> = lines.into_iter().map(|(line, kind, _)| (line, kind)).collect();
        assert!(lines == expected);
        assert_eq!(stream.bytes_on_wire(), sent.len() as u64);
    }
    let server = Server::canned([ok("", &far_over)]).await;
    let mut stream = open(&loopback(), Request::get(&server.url)).await;
    let (lines, _) = lines_of(&mut stream).await;
    assert_eq!((lines.len(), lines[0].1, lines[0].2), (1, Line::Cut, far_over.len() as u64));
    let server = Server::canned([ok("", b"")]).await;
    assert!(lines_of(&mut open(&loopback(), Request::get(&server.url)).await).await.0.is_empty());
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_nothing() {
    let far_over = vec![b'f'; 2 * LINE_BYTES_MAX];
    let sent = far_over.clone();
    let server = Server::start(move |mut stream, _| {
        let sent = sent.clone();
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
            for part in [&b"whole\nha"[..], b"lf", b"\n", &sent, b"end\nlast"] {
                let _ = stream.write_all(part).await;
                sleep_until(Instant::now() + Duration::from_millis(20)).await;
            }
        }
    })
    .await;
    let mut stream = open(&loopback(), Request::get(&server.url)).await;
    let (mut lines, mut line, mut dropped) = (Vec::new(), Vec::new(), 0);
    loop {
        match timeout(Duration::from_millis(1), stream.line(&mut line)).await {
            Err(_) => dropped += 1,
            Ok(Ok(None)) => break,
            Ok(read) => lines.push((line.clone(), read.unwrap().unwrap(), stream.offset())),
        }
    }
    assert!(dropped > 0, "the server is slower than the reader");
    let cut = (far_over[..LINE_BYTES_MAX].to_vec(), Line::Cut, 11 + far_over.len() as u64 + 4);
    let last = (b"last".to_vec(), Line::Whole, cut.2 + 4);
    let expected =
        [(b"whole".to_vec(), Line::Whole, 6), (b"half".to_vec(), Line::Whole, 11), cut, last];
    assert!(lines == expected);
}

#[tokio::test]
async fn a_stream_that_breaks_fails_after_what_came() {
    let http = loopback();
    let gzip = encoded!(GzipEncoder::new(Vec::new()), &b"a line\n".repeat(50_000));
    let half = &gzip[..gzip.len() / 2];
    for (headers, body, outcome) in [
        ("content-length: 50\r\n", &b"one\ntwo\nthr"[..], "reset"),
        ("transfer-encoding: chunked\r\n", b"8\r\none\ntwo\n\r\n5\r\nt", "reset"),
        ("content-encoding: gzip\r\n", half, "undecodable"),
    ] {
        let server = Server::canned([ok(headers, body)]).await;
        let mut stream = open(&http, Request::get(&server.url)).await;
        let (lines, failure) = lines_of(&mut stream).await;
        check(&failure.unwrap(), outcome);
        assert!(lines.len() >= 2, "{headers}: {} lines", lines.len());
        assert_eq!(stream.offset(), lines.last().unwrap().2, "after the last whole line");
        check(&stream.chunk().await.unwrap_err(), outcome);
        assert_eq!(server.requests(), 1, "what was handed out is not asked for again");
    }
}

#[tokio::test]
async fn a_stream_ends_at_its_caps() {
    let http = loopback();
    let zeros = encoded!(GzipEncoder::new(Vec::new()), &vec![0; 1 << 20]);
    let line = b"x\n".repeat(32 << 10);
    let limits = Limits { max_body: 3 << 20, ..SHORT };
    for (first, chunk) in [
        ("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 64 << 10]),
        ("HTTP/1.1 200 OK\r\n\r\n", line),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n", zeros),
    ] {
        let server = Server::endless(first, chunk).await;
        let request = Request::get(&server.url).limits(limits);
        let Streamed::Open(mut stream) = http.stream(request).await.unwrap() else {
            panic!("a body comes")
        };
        let (_, failure) = lines_of(&mut stream).await;
        check(&failure.unwrap(), "too_large");
        assert!(stream.offset() <= limits.max_body);
        assert!(stream.buffer.capacity() < 8 * CHUNK_BYTES_MAX, "{}", stream.buffer.capacity());
        check(&stream.chunk().await.unwrap_err(), "too_large");
        assert_eq!(http.inner.memory.free(), LARGE_BODIES, "a stream takes no share");
    }
    let server = Server::canned([ok("content-length: 99999999\r\n", b"")]).await;
    check(&http.stream(Request::get(&server.url).limits(limits)).await.unwrap_err(), "too_large");

    // A body that always has more ready meets the deadline too.
    let endless = Server::endless("HTTP/1.1 200 OK\r\n\r\n", b"x\n".repeat(32 << 10)).await;
    let brief = Limits { max_body: u64::MAX, total_timeout: BRIEF.idle_timeout, ..SHORT };
    let Ok(Streamed::Open(mut stream)) =
        http.stream(Request::get(&endless.url).limits(brief)).await
    else {
        panic!("a body comes")
    };
    while stream.chunk().await.is_ok() {}
    let failure = stream.chunk().await.unwrap_err();
    let Reason::TimedOut { limit: Limit::Total(Phase::Body), .. } = failure.reason else {
        panic!("{failure}")
    };
    let stalled = Server::start(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab\nc").await;
        let _ = stream.read_u8().await;
    })
    .await;
    let idle = Limits { idle_timeout: BRIEF.idle_timeout, ..SHORT };
    let Ok(Streamed::Open(mut stream)) = http.stream(Request::get(&stalled.url).limits(idle)).await
    else {
        panic!("a body comes")
    };
    let (lines, failure) = lines_of(&mut stream).await;
    assert_eq!(lines, [(b"ab".to_vec(), Line::Whole, 3)]);
    let failure = failure.unwrap();
    assert!(matches!(failure.reason, Reason::TimedOut { limit: Limit::Idle, .. }), "{failure}");
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_server_and_holds_its_turn() {
    let sent = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&sent);
    let server = Server::start(move |mut stream, _| {
        let count = Arc::clone(&count);
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b'x'; 64 << 10]).await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let http = loopback();
    let mut first = open(&http, Request::get(&server.url)).await;
    let second = open(&http, Request::get(&server.url)).await;
    first.chunk().await.unwrap();
    let mut before = u32::MAX;
    while sent.load(Ordering::SeqCst) != before {
        before = sent.load(Ordering::SeqCst);
        sleep_until(Instant::now() + Duration::from_millis(100)).await;
    }
    assert!(before < 2 * (16 << 20) / (64 << 10), "{before} parts went into the system's buffers");
    let third = http.stream(Request::get(&server.url));
    assert!(timeout(BRIEF.idle_timeout, third).await.is_err(), "two are at this host");
    drop(second);
    open(&http, Request::get(&server.url)).await.chunk().await.unwrap();
}

#[tokio::test]
async fn a_range_goes_on_where_a_stream_ended() {
    let http = loopback();
    let part = |headers: &str, body: &[u8]| {
        let mut answer =
            format!("HTTP/1.1 206 Part\r\nconnection: close\r\n{headers}\r\n").into_bytes();
        answer.extend_from_slice(body);
        answer
    };
    // What a part begins with says nothing of its encoding.
    let right = part("etag: \"v\"\r\ncontent-range: bytes 4-10/11\r\n", b"\x1f\x8bo\nend");
    let server = Server::canned([right]).await;
    let mut stream = open(&http, Request::get(&server.url).range(4, "\"v\"")).await;
    assert_eq!((stream.status(), stream.starts_at(), stream.offset()), (206, 4, 0));
    let (lines, failure) = lines_of(&mut stream).await;
    assert_eq!((lines[0].0.as_slice(), lines[0].2), (&b"\x1f\x8bo"[..], 4));
    assert!(lines.len() == 2 && failure.is_none());
    let head = server.head(0);
    assert!(head.contains("range: bytes=4-\r\n") && head.contains("if-range: \"v\"\r\n"), "{head}");
    assert!(head.contains("accept-encoding: identity\r\n"), "{head}");

    let whole = Server::canned([ok("", b"one\ntwo\n")]).await;
    let mut stream = open(&http, Request::get(&whole.url).range(4, "\"old\"")).await;
    assert_eq!((stream.status(), stream.starts_at()), (200, 0));
    stream.skip(4).await.unwrap();
    assert_eq!(lines_of(&mut stream).await.0, [(b"two".to_vec(), Line::Whole, 8)]);

    for (headers, body, outcome) in [
        ("", &b"o\nend"[..], "malformed"),
        ("content-range: bytes 5-9/10\r\n", b"o\nend", "malformed"),
        ("content-range: bytes 0-9/10\r\n", b"o\nend", "malformed"),
        ("content-range: bytes 4-3/10\r\n", b"o\nend", "malformed"),
        ("content-range: bytes 4-9/9\r\n", b"o\nend", "malformed"),
        ("content-range: lines 4-9/10\r\n", b"o\nend", "malformed"),
        ("content-range: bytes 4-9/10\r\ncontent-length: 5\r\n", b"o\nen", "malformed"),
        ("content-range: bytes 4-9/10\r\netag: \"w\"\r\n", b"o\nend", "malformed"),
        ("content-range: bytes 4-9/10\r\ncontent-encoding: gzip\r\n", b"o\nend", "malformed"),
        ("content-range: bytes 4-9/99999999999\r\n", b"o\nend", "too_large"),
        // These are found out only where they end: too long, too short, and a part of what is left.
        ("content-range: bytes 4-9/10\r\n", b"o\nendless", "malformed"),
        ("content-range: bytes 4-9/10\r\n", b"o\nen", "truncated"),
        ("content-range: bytes 4-9/99\r\n", b"o\nend", "truncated"),
    ] {
        let server = Server::canned([part(headers, body)]).await;
        let request = Request::get(&server.url).limits(LONG).range(4, "\"v\"");
        let failure = match http.stream(request).await {
            Err(failure) => failure,
            Ok(Streamed::Open(mut stream)) => lines_of(&mut stream).await.1.expect(headers),
            Ok(Streamed::NotModified(_)) => panic!("{headers}"),
        };
        assert_eq!(failure.outcome().name(), outcome, "{headers}: {failure}");
    }

    // Nothing strong names the version, or all of it is wanted: no range is asked for, and none is taken.
    for (from, validator) in [(0, "\"v\""), (4, ""), (4, "W/\"v\"")] {
        let unasked = part("content-range: bytes 4-9/10\r\n", b"o\nend");
        let server = Server::canned([ok("", b"one\n"), unasked]).await;
        for outcome in [None, Some("malformed")] {
            let request = Request::get(&server.url).limits(LONG).range(from, validator);
            let failure = http.stream(request).await.err();
            assert_eq!(failure.map(|failure| failure.outcome().name()), outcome);
        }
        assert!(!server.head(0).contains("range:"), "{}", server.head(0));
        assert!(server.head(0).contains("accept-encoding: identity\r\n"));
        check(&failure_of(&http, &server.url).await, "malformed");
    }
    let request = Request::get(&server.url).range(4, "\"v\"");
    check(&http.send(request).await.unwrap_err(), "invalid_request");
    let validators = |etag: &str, last_modified: &str| Validators {
        etag: (!etag.is_empty()).then(|| etag.into()),
        last_modified: (!last_modified.is_empty()).then(|| last_modified.into()),
    };
    for (etag, last_modified, expected) in
        [("\"a\"", "b", "\"a\""), ("W/\"a\"", "b", "b"), ("W/\"a\"", "", ""), ("", "", "")]
    {
        assert_eq!(validators(etag, last_modified).for_range(), expected);
    }
}
