//! Bodies of any length: chunks, lines, caps and ranges.

use super::*;

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
