//! What a stranger gets of the runner's listener: another user of the machine, a caller who sends half of something, one
//! who holds thousands of connections, one who fills the queue.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use local_runner::lambda::{Function, Limits};
use rustix::process::{Pid, Resource, Rlimit, geteuid, getrlimit, prlimit, setrlimit};
use serde_json::{Value, json};

use crate::commands::{INVOKE, post, serve, timetable};
use crate::home::{ALL, Home, Upstream, eventually_within, numbered, peak_kb};
use crate::lambda::{Http, Runner, eventually, puppet};

/// Every trial with its name, for the main of the tests.
macro_rules! trials {
    ($($name:ident)*) => {
        pub(crate) const TRIALS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

trials! {
    another_user_of_the_machine_gets_nothing
    malformed_and_misdirected_requests_are_refused
    what_is_half_sent_is_closed_in_time
    unfinished_bodies_take_no_more_than_their_space
    five_thousand_idle_connections_do_not_stop_the_timetable
    a_future_slot_is_not_claimed_by_a_caller
    the_queue_takes_no_more_than_its_limit
    an_input_has_a_limit
    a_context_that_no_runtime_can_read_ends_nothing
    what_steers_a_terminal_is_in_no_line_of_log
}

/// The user that owns nothing.
const NOBODY: u32 = 65_534;

/// Why a trial cannot be another user, if it cannot.
pub(crate) fn unavailable() -> Option<&'static str> {
    let has_bash = std::path::Path::new("/bin/bash").exists();
    (!geteuid().is_root() || !has_bash).then_some("only root can be another user, by `bash`")
}

/// The whole answer to a request as it stands; empty when the connection was closed without one.
fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // Who refuses early may close while this is still writing.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..length]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The same, sent by another user.
fn as_nobody(address: SocketAddr, request: &str) -> String {
    // It is told before it has sent everything, and must live to read it.
    let script = r#"trap '' PIPE; exec 3<>"/dev/tcp/$0/$1"; printf %s "$2" >&3; cat <&3"#;
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let output = Command::new("/bin/bash")
        .args(["-c", script, &ip, &port, request])
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn request(method: &str, path: &str, address: SocketAddr, header: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{header}\r\n{body}"
    )
}

fn another_user_of_the_machine_gets_nothing() {
    let runner = Runner::of([puppet("puppet")], Limits::default());
    let address = runner.address;
    let (caller, api) = runner.puppet(r#"{"secret":1}"#);
    let invoke = "/2015-03-31/functions/puppet/invocations";
    let event = "x-amz-invocation-type: Event\r\n";
    let put = "x-amz-target: AWSEvents.PutEvents\r\n";
    let entries = json!({"Entries": [{"Source": "minerva", "DetailType": "t", "Detail": "{}"}]});
    for request in [
        request("POST", invoke, address, "", "{}"),
        request("POST", invoke, address, event, "{}"),
        request("POST", "/", address, put, &entries.to_string()),
        request("GET", "/-/health", address, "", ""),
        // The very path of a process that is waited for.
        request("GET", &format!("{api}/invocation/next"), address, "", ""),
        request("POST", &format!("{api}/init/error"), address, "", "{}"),
    ] {
        let answer = as_nobody(address, &request);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{request}\n{answer}");
        assert!(answer.contains("AccessDeniedException") && !answer.contains("secret"), "{answer}");
    }
    // Who sends and hangs up at once is nobody the kernel can tell of.
    for _ in 0..20 {
        let script = r#"trap '' PIPE; printf %s "$2" >"/dev/tcp/$0/$1""#;
        let arguments = [&address.ip().to_string(), &address.port().to_string()];
        // It may have been refused before it has sent everything.
        let sent = Command::new("/bin/bash")
            .args(["-c", script, arguments[0], arguments[1]])
            .arg(request("POST", invoke, address, event, "{}"))
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir("/")
            .stderr(Stdio::null())
            .status();
        assert!(sent.is_ok());
    }
    // The process itself, which is ours, gets its event.
    let mut runtime = runner.http();
    let event = runtime.call("GET", &format!("{api}/invocation/next"), &[], b"");
    assert_eq!(event.json(), json!({"secret": 1}));
    let id = event.header("lambda-runtime-aws-request-id").unwrap().to_owned();
    let answer = format!("{api}/invocation/{id}/response");
    let forged = as_nobody(address, &request("POST", &answer, address, "", "\"forged\""));
    assert!(forged.starts_with("HTTP/1.1 403 "), "{forged}");
    assert_eq!(runtime.call("POST", &answer, &[], b"\"ours\"").status, 202);
    runtime.send("GET", &format!("{api}/invocation/next"), &[], b"");
    assert_eq!(caller.join().unwrap().json(), "ours");
    assert!(runner.told.queued.lock().unwrap().is_empty(), "nothing was queued");
    assert_eq!(runner.pids().len(), 1, "and nothing was started");
}

fn malformed_and_misdirected_requests_are_refused() {
    let runner = Runner::echo();
    let address = runner.address;
    let path = "/2015-03-31/functions/echo/invocations";
    let own = format!("host: {address}\r\nconnection: close\r\n");
    let status = |request: &str| {
        let answer = raw(address, request.as_bytes());
        answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok())
    };
    let whole = |line: &str, header: &str, body: &str| format!("{line}\r\n{header}\r\n{body}");
    let chunked = format!("{own}transfer-encoding: chunked\r\n");
    let post = format!("POST {path} HTTP/1.1");

    // What is good, in every form that HTTP/1 has for it.
    for (request, good) in [
        (whole(&post, &format!("{own}content-length: 2\r\n"), "{}"), 200),
        (whole(&post, &chunked, "2;x=y\r\n{}\r\n0\r\n\r\n"), 200),
        (
            whole(&format!("POST {path} HTTP/1.0"), &format!("{own}content-length: 2\r\n"), "{}"),
            200,
        ),
        (
            whole(
                &format!("POST http://{address}{path} HTTP/1.1"),
                &format!("{own}content-length: 2\r\n"),
                "{}",
            ),
            200,
        ),
    ] {
        assert_eq!(status(&request), Some(good), "{request}");
    }

    let many = "x: y\r\n".repeat(200);
    let long = format!("x: {}\r\n", "y".repeat(200_000));
    let refused = [
        // Where it is for.
        (whole("GET / HTTP/1.0", "", ""), 403),
        (whole("GET / HTTP/1.1", "connection: close\r\n", ""), 403),
        (whole("GET / HTTP/1.1", &format!("{own}host: {address}\r\n"), ""), 403),
        (whole("GET / HTTP/1.1", "host: evil.example\r\nconnection: close\r\n", ""), 403),
        (whole("GET http://evil.example/ HTTP/1.1", &own, ""), 403),
        (whole(&format!("GET http://evil.example@{address}/ HTTP/1.1"), &own, ""), 403),
        (whole("CONNECT evil.example:443 HTTP/1.1", &own, ""), 403),
        // Whom it is from.
        (
            whole(
                &format!("OPTIONS {path} HTTP/1.1"),
                &format!(
                    "{own}origin: https://evil.example\r\naccess-control-request-method: POST\r\n"
                ),
                "",
            ),
            403,
        ),
        (
            whole(
                "GET / HTTP/1.1",
                &format!("{own}sec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n"),
                "",
            ),
            403,
        ),
        (whole(&post, &format!("{own}origin: null\r\ncontent-length: 2\r\n"), "{}"), 403),
        // How it is written.
        (whole(&post, &chunked, "zz\r\n{}\r\n0\r\n\r\n"), 400),
        (whole(&post, &chunked, "ffffffffffffffffff\r\n{}\r\n0\r\n\r\n"), 400),
        (whole(&post, &chunked, "-2\r\n{}\r\n0\r\n\r\n"), 400),
        (whole(&post, &format!("{own}content-length: -1\r\n"), ""), 400),
        (whole(&post, &format!("{own}content-length: 1\r\ncontent-length: 2\r\n"), "{}"), 400),
        (whole("GET / HTTP/1.1", &format!("{own}{many}"), ""), 431),
        (whole("GET / HTTP/1.1", &format!("{own}{long}"), ""), 431),
        (whole("GET / HTTP/9.9", &own, ""), 400),
        ("\0\x01\x02 nothing\r\n\r\n".to_owned(), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
    ];
    for (request, expected) in refused {
        let shown: String = request.chars().take(200).collect();
        let answer = raw(address, request.as_bytes());
        let found = answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        // A connection may be closed without a word where no answer is owed.
        assert!(
            found == Some(expected) || (expected == 400 && found.is_none()),
            "{shown}\n{answer}"
        );
        assert!(!answer.to_lowercase().contains("access-control-allow"), "{answer}");
    }

    // Requests sent without waiting are answered one after another.
    let one = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 1\r\n\r\n1");
    let last = whole(&post, &format!("{own}content-length: 1\r\n"), "2");
    let answers = raw(address, (one.repeat(50) + &last).as_bytes());
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 51);
    assert_eq!(runner.pids().len(), 1, "one process was enough, and it is still there");
}

/// Whether a connection was closed by its other end.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut part = [0; 256];
    loop {
        match (&mut &*stream).read(&mut part) {
            Ok(0) => return true,
            // An answer that says so.
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

fn what_is_half_sent_is_closed_in_time() {
    let runner = Runner::echo();
    let address = runner.address;
    let body = |header: &str, body: &str| {
        format!(
            "POST /2015-03-31/functions/echo/invocations HTTP/1.1\r\nhost: {address}\r\n{header}\r\n{body}"
        )
    };
    let big = request(
        "POST",
        "/2015-03-31/functions/echo/invocations",
        address,
        "",
        &json!("x".repeat(6_000_000)).to_string(),
    )
    .replace("connection: close\r\n", "");
    let begun = Instant::now();
    // Megabytes of answer that are never fetched.
    let mut unfetched: Vec<TcpStream> =
        (0..2).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in &mut unfetched {
        stream.write_all(big.as_bytes()).unwrap();
    }
    let mut half = Vec::new();
    for (many, text) in [
        (100, String::new()),
        (100, format!("GET /-/health HTTP/1.1\r\nhost: {address}\r\n")),
        (10, body("content-length: 1000\r\n", "{")),
        (10, body("transfer-encoding: chunked\r\n", "ff\r\n{")),
    ] {
        for _ in 0..many {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            half.push(stream);
        }
    }
    // One goes on sending a letter at a time.
    let mut slow = TcpStream::connect(address).unwrap();
    let _ = slow.write_all(format!("GET /-/health HTTP/1.1\r\nhost: {address}\r\nx: ").as_bytes());
    // One has said that nothing more follows.
    let ended = TcpStream::connect(address).unwrap();
    ended.shutdown(Shutdown::Write).unwrap();
    half.push(ended);
    let served = eventually_within(Duration::from_secs(60), || {
        let _ = slow.write_all(b"y");
        std::thread::sleep(Duration::from_millis(250));
        assert_eq!(runner.http().call("GET", "/-/health", &[], b"").status, 200);
        half.retain(|stream| !is_closed(stream));
        unfetched.retain_mut(|stream| stream.write_all(b" ").is_ok());
        half.is_empty() && unfetched.is_empty() && is_closed(&slow)
    });
    assert!(served, "{} and {} are open still", half.len(), unfetched.len());
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(10) && took < Duration::from_secs(45), "{took:?}");
}

fn unfinished_bodies_take_no_more_than_their_space() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let timetable = timetable(&home, "");
    let (server, address, _lines) = serve(&home, &timetable);
    let before = peak_kb(server.pid()).unwrap();
    const BODY: usize = 5 * 1024 * 1024;
    let part = vec![b' '; BODY];
    let mut unfinished = Vec::new();
    for _ in 0..140 {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = BODY + 1;
        let head = format!(
            "POST {INVOKE} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&part)).unwrap();
        unfinished.push(stream);
    }
    // An invocation of the usual size has room beside them.
    assert_eq!(post(&address, INVOKE, "", "{}").0, 200);
    let grown = (peak_kb(server.pid()).unwrap() - before) / 1024;
    assert!(grown < 192, "{grown} MiB for {} MiB of bodies", 140 * BODY / 1024 / 1024);
    // Who was too many hears so when the body ends.
    let mut statuses = Vec::new();
    for stream in &mut unfinished {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = stream.write_all(b" ");
        let mut answer = [0; 12];
        statuses.push(
            stream
                .read_exact(&mut answer)
                .map(|()| String::from_utf8_lossy(&answer[9..]).into_owned()),
        );
    }
    assert!(
        statuses.iter().any(|status| status.as_deref().is_ok_and(|status| status == "429")),
        "{statuses:?}"
    );
}

fn five_thousand_idle_connections_do_not_stop_the_timetable() {
    const CONNECTIONS: u64 = 5_000;
    const FILES: u64 = 1_024;
    let own = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: own.maximum, maximum: own.maximum }).unwrap();
    // The other trials need some too.
    let most = own.maximum.unwrap_or(u64::MAX).saturating_sub(1_000);
    let connections = CONNECTIONS.min(most);
    assert!(connections > 2 * FILES, "this process may open too few files: {most}");

    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let every_minute = timetable(&home, "when = \"cron(* * * * ? *)\"\n");
    let (server, address, _lines) = serve(&home, &every_minute);
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let limit = Rlimit { current: Some(FILES), maximum: Some(FILES) };
    prlimit(pid, Resource::Nofile, limit).unwrap();
    // Runs of minutes that began before all were open prove nothing.
    let hold = || -> Vec<TcpStream> {
        (0..connections).map(|_| TcpStream::connect(&address).unwrap()).collect()
    };
    let mut idle = hold();
    let begun = base::clock::Clock::Machine.now(None);
    let fired = || {
        let runs = home.run(&["runs", "--json"]).json();
        runs.as_array().unwrap().iter().any(|run| {
            let slot = run["slot"].as_str().map(|slot| slot.parse::<jiff::Timestamp>().unwrap());
            run["status"] == "complete" && slot.is_some_and(|slot| slot > begun)
        })
    };
    let mut slowest = Duration::ZERO;
    let has_fired = eventually_within(Duration::from_secs(90), || {
        // Those that were closed come again.
        std::thread::sleep(Duration::from_millis(500));
        for stream in idle.iter_mut().filter(|stream| is_closed(stream)).take(500) {
            *stream = TcpStream::connect(&address).unwrap();
        }
        let asked = Instant::now();
        let mut caller = Http::connect(address.parse().unwrap());
        assert_eq!(caller.call("GET", "/nothing", &[], b"").status, 404);
        slowest = slowest.max(asked.elapsed());
        let files = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
        assert!(files < usize::try_from(FILES / 2).unwrap(), "{files} files are open");
        fired()
    });
    assert!(has_fired, "{}", home.run(&["runs", "--json"]).out);
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

fn a_future_slot_is_not_claimed_by_a_caller() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let timetable = timetable(&home, "when = \"cron(0 12 1 1 ? 2100)\"\n");
    let (server, address, _lines) = serve(&home, &timetable);
    let now = base::clock::Clock::Machine.now(None);
    let slot = "2100-01-01T12:00:00Z";
    // A minute or two ahead is as much in the future.
    let next = now.checked_add(SignedDuration::from_secs(120)).unwrap().to_string();
    let event = |time: &str| {
        json!({"source": "aws.events", "detail-type": "Scheduled Event", "time": time, "detail": {}}).to_string()
    };
    for time in [slot, &next, "2100-01-01T09:00:00-03:00"] {
        for source in ["aws.events", "aws.scheduler"] {
            let event = event(time).replace("aws.events", source);
            let (status, body) = post(&address, INVOKE, "", &event);
            assert_eq!(status, 500, "{body}");
            assert!(body.contains("future"), "{body}");
            assert_eq!(post(&address, INVOKE, "x-amz-invocation-type: Event\r\n", &event).0, 202);
        }
    }
    // Nor by the name of what will be queued for it.
    let detail = json!({"task": ALL, "run_id": ALL, "step": "21000101T1200Z"}).to_string();
    let entry =
        json!({"Source": "minerva", "DetailType": "Minerva Task Continuation", "Detail": detail});
    let put = "x-amz-target: AWSEvents.PutEvents\r\n";
    let (_, answer) = post(&address, "/", put, &json!({"Entries": [entry]}).to_string());
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["FailedEntryCount"], 1, "{answer}");
    // The queue is empty once this has been run.
    assert_eq!(post(&address, INVOKE, "x-amz-invocation-type: Event\r\n", "{}").0, 202);
    let runs = || home.run(&["runs", "--json"]).json();
    let all_ran = || runs()[0]["status"] == "complete";
    assert!(eventually_within(Duration::from_secs(20), all_ran), "{}", runs());
    assert_eq!(runs().as_array().unwrap().len(), 1, "{}", runs());
    drop(server);
    // When its time has come, the slot is there to be run.
    let due = home.run(&["run", ALL, "--json", "--clock", slot, "--input", &event(slot)]);
    assert_eq!(due.ends_with(0).json()["status"], "complete");
}

fn the_queue_takes_no_more_than_its_limit() {
    // Each of the four workers waits for a slow source; when it gives up, it waits for the next, so that a slow machine has the
    // time for all that is posted.
    let upstream = Upstream::start(12);
    let sources = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"]
        .map(|id| (id, upstream.slow(id, Duration::from_secs(120), "")));
    let home = Home::of(&sources);
    let timetable = timetable(&home, "");
    let (server, address, _lines) = serve(&home, &timetable);
    let event = "x-amz-invocation-type: Event\r\n";
    let of_sources = INVOKE.replace(ALL, "collect_specific_sources");
    for (id, _) in &sources {
        let input = json!({"sources": [id]}).to_string();
        assert_eq!(post(&address, &of_sources, event, &input).0, 202);
    }
    let busy = || sources.iter().filter(|(id, _)| upstream.asked(id) > 0).count() >= 4;
    assert!(eventually_within(Duration::from_secs(20), busy));
    let before = peak_kb(server.pid()).unwrap();
    // As values, these take many times their bytes.
    let event_body = format!("[{}0]", "0,".repeat(500_000));
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..80 {
        match post(&address, INVOKE, event, &event_body) {
            (202, _) => taken += event_body.len(),
            (429, body) => {
                assert!(body.contains("TooManyRequestsException"), "{body}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        refused > 0 && taken > 48 << 20 && taken <= 64 << 20,
        "{taken} bytes, {refused} refused"
    );
    let grown = (peak_kb(server.pid()).unwrap() - before) / 1024;
    assert!(grown < 192, "{grown} MiB");
    // By rows too.
    let statuses: Vec<u16> = (0..1_100).map(|_| post(&address, INVOKE, event, "{}").0).collect();
    let taken = statuses.iter().filter(|status| **status == 202).count();
    assert!(taken > 800 && taken < 1_000 && statuses.ends_with(&[429]), "{taken} rows");
    // What functions and people ask at once is still answered.
    assert_eq!(post(&address, INVOKE, "x-amz-invocation-type: DryRun\r\n", "{}").0, 204);
}

fn an_input_has_a_limit() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let timetable = timetable(&home, "");
    let (_server, address, _lines) = serve(&home, &timetable);
    let of_categories = INVOKE.replace(ALL, "collect_category");
    let ask = |bytes: usize| {
        let input = json!({"categories": ["x".repeat(bytes)]}).to_string();
        post(&address, &of_categories, "", &input).1
    };
    assert!(ask(300 * 1024).contains("at most 262144"));
    // One that is within it is looked at: there is no such category.
    assert!(!ask(200 * 1024).contains("at most 262144"));
    let runs = home.run(&["runs", "--json"]).json();
    assert!(runs.as_array().unwrap().len() <= 1, "nothing is kept of what was refused: {runs}");
}

fn a_context_that_no_runtime_can_read_ends_nothing() {
    let runner = Runner::echo();
    let mut http = runner.http();
    assert_eq!(http.invoke("echo", &[], b"1").status, 200);
    let pids = runner.pids();
    for value in
        ["", "{", "[1]", "\"x\"", "{\"identityId\":1}", "{\"identityId\":\"a\"}", "null", "{}}"]
    {
        let bad = http.invoke("echo", &[("lambda-runtime-cognito-identity", value)], b"1");
        assert_eq!(
            (bad.status, bad.error_type().as_str()),
            (400, "InvalidRequestContentException"),
            "{value}"
        );
    }
    for value in ["{", "[1]", "{\"custom\":{\"a\":1}}", "{\"client\":{}}", "{\"custom\":null}"] {
        let bad = http.invoke("echo", &[("lambda-runtime-client-context", value)], b"1");
        assert_eq!(
            (bad.status, bad.error_type().as_str()),
            (400, "InvalidRequestContentException"),
            "{value}"
        );
    }
    let good = "{\"cognitoIdentityId\":\"a\",\"cognitoIdentityPoolId\":\"b\"}";
    for value in [good, &good.replace("cognitoIdentity", "identity")] {
        let good = http.invoke("echo", &[("lambda-runtime-cognito-identity", value)], b"1");
        assert_eq!(good.status, 200, "{value}");
    }
    // A trace is any text.
    assert_eq!(
        http.invoke("echo", &[("x-amzn-trace-id", "no trace = at, all;")], b"1").status,
        200
    );
    assert_eq!(runner.pids(), pids, "the process lives on");
}

fn what_steers_a_terminal_is_in_no_line_of_log() {
    // Escapes, C1 in UTF-8 and raw, DEL, a right-to-left mark, a line separator.
    let script =
        r"printf 'a\033[2Jb\007c\302\205d\205e\177f\342\200\256g\342\200\250h\rSTART i\n'; exit 1";
    let args = vec!["-c".to_owned(), script.to_owned()];
    let runner =
        Runner::of([Function { args, ..Function::new("noisy", "/bin/sh") }], Limits::default());
    let answer = runner.http().invoke("noisy", &[("x-amz-log-type", "Tail")], b"{}");
    assert_eq!(answer.error_type(), "Runtime.ExitError");
    let printed = |text: &str| text.starts_with('a') && text.ends_with("START i");
    eventually(|| runner.told.lines.lock().unwrap().iter().any(|(_, text)| printed(text)));
    let lines = runner.told.lines.lock().unwrap().clone();
    for (_, text) in &lines {
        let steering = text.chars().find(|letter| {
            (letter.is_control() && *letter != '\t') || matches!(letter, '\u{202e}' | '\u{2028}')
        });
        assert_eq!(steering, None, "{text:?}");
    }
    let told = answer.tail();
    assert!(
        told.contains("START i") && !told.contains(['\u{1b}', '\u{7f}', '\u{202e}']),
        "{told:?}"
    );
}
