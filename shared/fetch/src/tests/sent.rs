//! What a request carries: bodies and keys, sent no oftener and no further than they may be.

use super::*;

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
