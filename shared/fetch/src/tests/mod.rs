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

mod secure;
mod sent;
mod stream;

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
use encoded;

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
