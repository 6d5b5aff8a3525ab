//! Drives Lambda on one machine through its HTTP APIs, with real processes behind it.
//!
//! The function is `tests/src/bin/echo.rs`, on the real `lambda_runtime`. Where the runtime itself must misbehave, the
//! process is `/bin/sleep` and the test speaks the Runtime API in its place.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use local_runner::lambda::{
    Config, Entry, Events, Function, Invoker, Lambda, Limits, Options, Queue, Refused, StartError,
};
use serde_json::{Value, json};

pub(crate) mod artefacts;
pub(crate) mod day;
pub(crate) mod ends;
pub(crate) mod invoked;
mod platform;
pub(crate) mod protocol;
mod sources;
pub(crate) mod tasks;

/// Every trial with its name, for the main of the tests.
macro_rules! trials {
    ($($name:ident)*) => {
        pub(crate) const TRIALS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}
use trials;

trials! {
    an_event_comes_back_by_every_name_of_its_function
    a_function_learns_its_context
    a_failure_is_told_to_each_client_in_its_way
    a_crash_is_answered_at_once_and_the_next_event_gets_a_new_process
    a_timeout_ends_the_whole_process_group
    what_a_function_leaves_running_ends_with_it
    a_process_that_cannot_start_fails_the_invocation_that_started_it
    an_answer_over_the_limit_is_an_error_and_the_process_lives_on
    the_log_tail_holds_what_was_printed_before_the_answer
    an_event_invocation_goes_to_the_queue_and_a_dry_run_nowhere
    what_cannot_be_invoked_is_refused_in_words_both_clients_read
    no_more_run_at_once_than_may
    every_caller_gets_its_own_answer
    a_process_without_work_grows_cold
    a_program_that_was_built_again_is_started_again
    a_function_that_never_stops_printing_is_answered_all_the_same
    a_process_sees_nothing_of_the_runners_environment
    a_page_of_another_origin_is_refused
    only_loopback_is_listened_on
    put_events_answers_for_each_entry
}

// What the tests stand on.

/// A Lambda with its own runtime, and all that it told its caller.
pub(crate) struct Runner {
    lambda: Option<Lambda>,
    pub(crate) invoker: Invoker,
    pub(crate) address: SocketAddr,
    pub(crate) told: Arc<CallerLog>,
    runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
pub(crate) struct CallerLog {
    pub(crate) lines: Mutex<Vec<(String, String)>>,
    pub(crate) queued: Mutex<Vec<(String, Bytes, String)>>,
    entries: Mutex<Vec<Entry>>,
}

#[async_trait]
impl Queue for CallerLog {
    async fn enqueue(
        &self,
        function: &str,
        payload: Bytes,
        request_id: &str,
    ) -> Result<(), String> {
        self.queued.lock().unwrap().push((function.to_owned(), payload, request_id.to_owned()));
        Ok(())
    }
}

#[async_trait]
impl Events for CallerLog {
    async fn put(&self, entries: &[Entry]) -> Result<(), String> {
        if entries.iter().any(|entry| entry.detail_type == "refuse") {
            return Err("the queue is full".to_owned());
        }
        self.entries.lock().unwrap().extend_from_slice(entries);
        Ok(())
    }
}

pub(crate) fn echo(name: &str) -> Function {
    Function { timeout: Duration::from_secs(20), ..Function::new(name, env!("CARGO_BIN_EXE_echo")) }
}

fn echo_with(name: &str, init: &str) -> Function {
    Function { env: vec![("ECHO_INIT".to_owned(), init.to_owned())], ..echo(name) }
}

/// A process that does nothing, for a test that is the runtime itself.
pub(crate) fn puppet(name: &str) -> Function {
    let args = vec!["600".to_owned()];
    Function { args, timeout: Duration::from_secs(20), ..Function::new(name, "/bin/sleep") }
}

impl Runner {
    pub(crate) fn of(functions: impl IntoIterator<Item = Function>, limits: Limits) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let told = Arc::new(CallerLog::default());
        let lines = Arc::clone(&told);
        let config = Config {
            limits,
            queue: Some(Arc::clone(&told) as Arc<dyn Queue>),
            events: Some(Arc::clone(&told) as Arc<dyn Events>),
            logs: Arc::new(move |line| {
                let mut lines = lines.lines.lock().unwrap();
                // One function here never stops printing.
                if lines.len() < 10_000 {
                    lines.push((line.request_id.to_owned(), line.text.to_owned()));
                }
            }),
            status: axum::Router::new().route("/-/health", axum::routing::get(|| async { "well" })),
            ..Config::new(functions)
        };
        let lambda = runtime.block_on(Lambda::start(config)).unwrap();
        Self {
            invoker: lambda.invoker(),
            address: lambda.addresses()[0],
            lambda: Some(lambda),
            told,
            runtime,
        }
    }

    pub(crate) fn echo() -> Self {
        Self::of([echo("echo")], Limits::default())
    }

    pub(crate) fn http(&self) -> Http {
        Http::connect(self.address)
    }

    /// Invokes as an AWS client would.
    fn invoke(&self, function: &str, payload: &Value) -> Answer {
        self.http().invoke(function, &[("x-amz-log-type", "None")], payload.to_string().as_bytes())
    }

    /// Waits until every process asks for its next event: one that has answered does so a moment later.
    fn rests(&self) {
        eventually(|| self.invoker.instances().iter().all(|instance| instance.state == "idle"));
    }

    pub(crate) fn pids(&self) -> Vec<i32> {
        self.invoker.instances().iter().filter_map(|instance| instance.pid).collect()
    }

    /// Starts an invocation of a puppet and gives the path of its Runtime API.
    pub(crate) fn puppet(
        &self,
        payload: &'static str,
    ) -> (std::thread::JoinHandle<Answer>, String) {
        let address = self.address;
        let caller = std::thread::spawn(move || {
            Http::connect(address).invoke(
                "puppet",
                &[("x-amz-log-type", "Tail")],
                payload.as_bytes(),
            )
        });
        eventually(|| self.invoker.instances().iter().any(|instance| instance.state == "starting"));
        let id = self
            .invoker
            .instances()
            .into_iter()
            .find(|instance| instance.state == "starting")
            .unwrap()
            .id;
        (caller, format!("/f/puppet/{id}/2018-06-01/runtime"))
    }
}

/// One connection, kept alive.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    host: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn error_type(&self) -> String {
        self.json()["errorType"].as_str().unwrap_or_default().to_owned()
    }

    fn error_message(&self) -> String {
        self.json()["errorMessage"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn tail(&self) -> String {
        String::from_utf8(base64(self.header("x-amz-log-result").expect("a tail"))).unwrap()
    }
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { stream: BufReader::new(stream), host: address.to_string() }
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            head.push_str(&format!("host: {}\r\n", self.host));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !headers.iter().any(|(name, _)| *name == "transfer-encoding") {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        let request = [head.as_bytes(), b"\r\n", body].concat();
        self.stream.get_mut().write_all(&request).unwrap();
    }

    pub(crate) fn receive(&mut self) -> Answer {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(
                self.stream.read_line(&mut line).unwrap() > 0,
                "the connection closed after {lines:?}"
            );
            if line == "\r\n" {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .map_or(0, |(_, text)| text.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        Answer { status, headers, body }
    }

    pub(crate) fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.send(method, path, headers, body);
        self.receive()
    }

    pub(crate) fn invoke(
        &mut self,
        function: &str,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) -> Answer {
        self.call(
            "POST",
            &format!("/2015-03-31/functions/{function}/invocations"),
            headers,
            payload,
        )
    }
}

fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text.bytes().filter(|&letter| letter != b'=') {
        let value = LETTERS.iter().position(|&other| other == letter).expect("base64");
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}

/// Waits until something holds that another thread or process brings about.
#[track_caller]
pub(crate) fn eventually(holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "it did not come about within 10 s");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Whether a process is there and not only waiting to be reaped by a parent that is not ours.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn pid_of(answer: &Answer, name: &str) -> i32 {
    i32::try_from(answer.json()[name].as_i64().expect("a process id")).unwrap()
}

// Invoking.

pub(crate) fn an_event_comes_back_by_every_name_of_its_function() {
    let runner = Runner::echo();
    let event = json!({"feed": "ônibus", "n": 1});
    for name in [
        "echo",
        "echo:live",
        "echo?Qualifier=live",
        "arn%3Aaws%3Alambda%3Alocal%3A000000000000%3Afunction%3Aecho",
        "arn:aws:lambda:us-east-1:000000000000:function:echo:$LATEST",
        "000000000000:function:echo",
    ] {
        let path = match name.split_once('?') {
            Some((name, query)) => format!("/2015-03-31/functions/{name}/invocations?{query}"),
            None => format!("/2015-03-31/functions/{name}/invocations"),
        };
        let answer = runner.http().call("POST", &path, &[], event.to_string().as_bytes());
        assert_eq!((answer.status, answer.json()), (200, event.clone()), "{name}");
        assert_eq!(answer.header("x-amz-executed-version"), Some("$LATEST"));
        assert_eq!(answer.header("x-amz-function-error"), None);
        assert_eq!(answer.header("x-amzn-requestid").map(str::len), Some(36));
        runner.rests();
    }
    assert_eq!(
        runner.http().invoke("echo", &[], b"").json(),
        json!({}),
        "no payload is an empty object"
    );
    runner.rests();
    assert_eq!(runner.http().invoke("echo", &[], b"null").body, b"null");
    assert_eq!(runner.pids().len(), 1, "calls one after another need one process");
    assert_eq!(runner.http().call("GET", "/-/health", &[], b"").body, b"well");
}

pub(crate) fn a_function_learns_its_context() {
    let runner = Runner::echo();
    let event = json!({"do": "context"});
    // {"custom":{"cidade":"São Paulo"}}
    let encoded = "eyJjdXN0b20iOnsiY2lkYWRlIjoiU8OjbyBQYXVsbyJ9fQ==";
    let before = now_ms();
    let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
    let headers = [("x-amz-client-context", encoded), ("x-amzn-trace-id", trace)];
    let answer = runner.http().invoke("echo", &headers, event.to_string().as_bytes());
    let context = answer.json();
    assert_eq!(context["request_id"].as_str(), answer.header("x-amzn-requestid"));
    assert_eq!(context["arn"], "arn:aws:lambda:local:000000000000:function:echo");
    assert_eq!(context["client_context"]["custom"]["cidade"], "São Paulo");
    assert_eq!(context["trace"], trace);
    let deadline = context["deadline"].as_u64().unwrap();
    assert!((before + 20_000..=now_ms() + 20_000).contains(&deadline), "{deadline}");

    let raw = [("lambda-runtime-client-context", r#"{"custom":{"by":"cargo lambda"}}"#)];
    let context = runner.http().invoke("echo", &raw, event.to_string().as_bytes()).json();
    assert_eq!(context["client_context"]["custom"]["by"], "cargo lambda");
    let bad = runner.http().invoke("echo", &[("x-amz-client-context", "bm8=")], b"{}");
    assert_eq!((bad.status, bad.error_type().as_str()), (400, "InvalidRequestContentException"));
}

#[expect(clippy::disallowed_methods, reason = "what is tested is the real deadline")]
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

pub(crate) fn a_failure_is_told_to_each_client_in_its_way() {
    let runner = Runner::echo();
    for (headers, status) in [
        (&[("authorization", "AWS4-HMAC-SHA256 Credential=x")][..], 200),
        (&[("x-amz-date", "20261123T000000Z")][..], 200),
        (&[][..], 500),
    ] {
        let answer = runner.http().invoke("echo", headers, br#"{"do":"fail"}"#);
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-amz-function-error"), Some("Unhandled"));
        assert_eq!(answer.error_type(), "Function.Upstream");
        assert_eq!(answer.error_message(), "read `https://example.org`: status `503`");
        runner.rests();
    }
    let panic = runner.invoke("echo", &json!({"do": "panic"}));
    assert_eq!(panic.status, 200);
    assert!(panic.error_message().contains("this is a test of panics"), "{panic:?}");
    assert_eq!(runner.pids().len(), 1, "a failure leaves the process as it is");

    let options = Options::default();
    let payload = Bytes::from_static(br#"{"do":"fail"}"#);
    let invocation =
        runner.runtime.block_on(runner.invoker.invoke("echo", payload, options)).unwrap();
    assert_eq!(invocation.outcome.unwrap_err().error_type, "Function.Upstream");
}

pub(crate) fn a_crash_is_answered_at_once_and_the_next_event_gets_a_new_process() {
    let runner = Runner::echo();
    let mut fastest = Duration::MAX;
    for (event, words) in [
        (json!({"do": "exit", "code": 3}), "Runtime exited with error: exit status 3"),
        (json!({"do": "exit", "code": 0}), "Runtime exited without providing a reason"),
        (json!({"do": "kill"}), "Runtime exited with error: signal: killed"),
    ] {
        let before = runner.invoke("echo", &json!({"do": "context"}));
        let began = Instant::now();
        let answer = runner.invoke("echo", &event);
        fastest = fastest.min(began.elapsed());
        assert_eq!((answer.status, answer.error_type().as_str()), (200, "Runtime.ExitError"));
        let request_id = answer.header("x-amzn-requestid").unwrap();
        assert_eq!(answer.error_message(), format!("RequestId: {request_id} Error: {words}"));
        let after = runner.invoke("echo", &json!({"do": "context"}));
        assert_ne!(pid_of(&before, "pid"), pid_of(&after, "pid"));
    }
    assert_eq!(runner.pids().len(), 1);
    // The fastest of three, since the machine may be busy with something else.
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
}

pub(crate) fn a_timeout_ends_the_whole_process_group() {
    let runner = Runner::of(
        [Function { timeout: Duration::from_millis(500), ..echo("echo") }],
        Limits::default(),
    );
    let orphan = runner.invoke("echo", &json!({"do": "orphan"}));
    let began = Instant::now();
    let answer = runner.http().invoke(
        "echo",
        &[("x-amz-log-type", "Tail")],
        br#"{"do":"sleep","ms":60000}"#,
    );
    let took = began.elapsed();
    let request_id = answer.header("x-amzn-requestid").unwrap();
    assert_eq!((answer.status, answer.error_type().as_str()), (200, "Sandbox.Timedout"));
    assert_eq!(
        answer.error_message(),
        format!("RequestId: {request_id} Error: Task timed out after 0.50 seconds")
    );
    assert!(took >= Duration::from_millis(500), "{took:?}");
    assert!(
        answer.tail().contains(&format!("{request_id} Task timed out after 0.50 seconds\n")),
        "{}",
        answer.tail()
    );
    assert!(answer.tail().contains("\tStatus: timeout\n"), "{}", answer.tail());
    for name in ["own", "pid"] {
        eventually(|| !is_alive(pid_of(&orphan, name)));
    }
    let next = runner.invoke("echo", &json!({"do": "context"}));
    assert_eq!(next.json()["count"], 1, "a fresh process");

    // The fastest of three, since the machine may be busy with something else.
    let mut fastest = took - Duration::from_millis(500);
    for _ in 0..2 {
        let options = Options { timeout: Some(Duration::from_millis(60)), ..Options::default() };
        let payload = Bytes::from_static(br#"{"do":"sleep","ms":60000}"#);
        let began = Instant::now();
        let invocation = runner.runtime.block_on(runner.invoker.invoke("echo", payload, options));
        fastest = fastest.min(began.elapsed().saturating_sub(Duration::from_millis(60)));
        let invocation = invocation.unwrap();
        assert_eq!(invocation.outcome.unwrap_err().error_type, "Sandbox.Timedout");
        assert!(invocation.max_memory_kb > 500, "{}", invocation.max_memory_kb);
    }
    assert!(fastest < Duration::from_millis(100), "{fastest:?} after the deadline");
}

pub(crate) fn what_a_function_leaves_running_ends_with_it() {
    let runner = Runner::echo();
    let orphan = runner.invoke("echo", &json!({"do": "orphan"}));
    assert!(is_alive(pid_of(&orphan, "pid")));
    runner.invoke("echo", &json!({"do": "exit"}));
    eventually(|| !is_alive(pid_of(&orphan, "pid")));
}

pub(crate) fn a_process_that_cannot_start_fails_the_invocation_that_started_it() {
    let missing = Function::new("missing", "/nowhere/bootstrap");
    let functions = [
        echo_with("error", "error"),
        echo_with("exit", "exit"),
        echo_with("hang", "hang"),
        missing,
        echo("echo"),
    ];
    let limits = Limits { init: Duration::from_millis(400), ..Limits::default() };
    let runner = Runner::of(functions, limits);
    for (function, kind, words) in [
        ("error", "Function.Config", "`ES_URL` is not set"),
        ("exit", "Runtime.ExitError", "Error: Runtime exited with error: exit status 7"),
        ("hang", "Sandbox.Timedout", "Error: Initialization timed out after 0.40 seconds"),
        ("missing", "Runtime.InvalidEntrypoint", "fork/exec /nowhere/bootstrap: No such file"),
    ] {
        let answer = runner.invoke(function, &json!({}));
        assert_eq!((answer.status, answer.error_type().as_str()), (200, kind), "{answer:?}");
        assert!(answer.error_message().contains(words), "{}", answer.error_message());
        assert_eq!(runner.invoke("echo", &json!(1)).json(), json!(1), "others are not touched");
    }
    eventually(|| runner.pids().len() == 1);
}

pub(crate) fn an_answer_over_the_limit_is_an_error_and_the_process_lives_on() {
    let runner = Runner::echo();
    // A JSON string is two bytes longer than its text.
    let largest = runner.invoke("echo", &json!({"do": "big", "bytes": 6_291_554}));
    assert_eq!((largest.status, largest.body.len()), (200, 6_291_556));
    assert_eq!(largest.header("x-amz-function-error"), None);
    for bytes in [6_291_555, 20_000_000] {
        let answer = runner.invoke("echo", &json!({"do": "big", "bytes": bytes}));
        assert_eq!(
            (answer.status, answer.error_type().as_str()),
            (200, "Function.ResponseSizeTooLarge")
        );
        let words = "Response payload size exceeded maximum allowed payload size (6291556 bytes).";
        assert_eq!(answer.error_message(), words);
    }
    let context = runner.invoke("echo", &json!({"do": "context"}));
    assert_eq!(context.json()["count"], 4, "still the first process");
}

pub(crate) fn the_log_tail_holds_what_was_printed_before_the_answer() {
    let runner = Runner::echo();
    for cold in [true, false] {
        let answer =
            runner.http().invoke("echo", &[("x-amz-log-type", "Tail")], br#"{"do":"print"}"#);
        let id = answer.header("x-amzn-requestid").unwrap();
        let tail = answer.tail();
        let lines: Vec<&str> = tail.lines().collect();
        let printed = ["to standard output", "to standard error", "without an end"];
        assert_eq!(lines[0], format!("START RequestId: {id} Version: $LATEST"));
        assert_eq!(lines[1..4], printed);
        assert_eq!(lines[4], format!("END RequestId: {id}"));
        assert!(
            lines[5].starts_with(&format!("REPORT RequestId: {id}\tDuration: ")),
            "{}",
            lines[5]
        );
        assert!(lines[5].contains("\tMemory Size: 128 MB\tMax Memory Used: "), "{}", lines[5]);
        assert_eq!(lines[5].contains("\tInit Duration: "), cold, "{}", lines[5]);
        let told = runner.told.lines.lock().unwrap();
        let sunk: Vec<&str> = told
            .iter()
            .filter(|(request, _)| request == id)
            .map(|(_, text)| text.as_str())
            .collect();
        assert_eq!(sunk, lines, "the sink got the same lines");
    }
    let none = runner.invoke("echo", &json!({}));
    assert_eq!(none.header("x-amz-log-result"), None);
}

pub(crate) fn an_event_invocation_goes_to_the_queue_and_a_dry_run_nowhere() {
    let runner = Runner::echo();
    let answer = runner.http().invoke("echo", &[("x-amz-invocation-type", "Event")], br#"{"n":1}"#);
    assert_eq!((answer.status, answer.body.len()), (202, 0));
    let request_id = answer.header("x-amzn-requestid").unwrap().to_owned();
    let expected = ("echo".to_owned(), Bytes::from_static(br#"{"n":1}"#), request_id);
    assert_eq!(*runner.told.queued.lock().unwrap(), [expected]);

    let answer = runner.http().invoke("echo", &[("x-amz-invocation-type", "DryRun")], b"{}");
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(runner.told.queued.lock().unwrap().len(), 1);
    assert!(runner.pids().is_empty(), "neither needs a process");
}

pub(crate) fn what_cannot_be_invoked_is_refused_in_words_both_clients_read() {
    let runner = Runner::of([echo("echo"), echo("other")], Limits::default());
    let event = [("x-amz-invocation-type", "Event")];
    let megabytes = |count: usize| format!("\"{}\"", "x".repeat(count * 1024 * 1024));
    #[track_caller]
    fn check(answer: &Answer, status: u16, kind: &str, words: &str) {
        assert_eq!(
            (answer.status, answer.header("x-amzn-errortype")),
            (status, Some(kind)),
            "{answer:?}"
        );
        let body = answer.json();
        assert_eq!((body["errorType"].as_str(), body["Type"].as_str()), (Some(kind), Some("User")));
        for name in ["Message", "message", "errorMessage"] {
            assert!(body[name].as_str().is_some_and(|text| text.contains(words)), "{name}: {body}");
        }
    }
    let mut http = runner.http();
    check(
        &http.invoke("_", &[], b"{}"),
        404,
        "ResourceNotFoundException",
        "the functions here are: echo, other",
    );
    check(
        &http.invoke("nope", &event, b"{}"),
        404,
        "ResourceNotFoundException",
        "function:nope:$LATEST",
    );
    check(
        &http.invoke("echo", &[], b"{no"),
        400,
        "InvalidRequestContentException",
        "Could not parse request body into json",
    );
    check(
        &http.invoke("echo%FF", &[], b"{}"),
        400,
        "InvalidParameterValueException",
        "functionName",
    );
    check(&http.invoke("echo%20x", &[], b"{}"), 400, "InvalidParameterValueException", "echo x");
    check(
        &http.invoke("echo", &[("x-amz-invocation-type", "Maybe")], b"{}"),
        400,
        "InvalidParameterValueException",
        "Maybe",
    );
    check(
        &http.invoke("echo", &[], megabytes(6).as_bytes()),
        413,
        "RequestTooLargeException",
        "6291456",
    );
    check(
        &http.invoke("echo", &event, megabytes(1).as_bytes()),
        413,
        "RequestTooLargeException",
        "1048576",
    );
    check(
        &http.call("POST", "/2014-01-01/nothing", &[], b""),
        404,
        "ResourceNotFoundException",
        "/2014-01-01/nothing",
    );
    assert_eq!(http.invoke("echo", &[], b"1").status, 200, "the connection is still good");
    assert_eq!(http.invoke("echo", &[], &megabytes(6).as_bytes()[2..]).status, 400);
}

pub(crate) fn no_more_run_at_once_than_may() {
    let limits = Limits { per_function: 2, total: 3, ..Limits::default() };
    let runner = Runner::of([echo("one"), echo("two")], limits);
    let slow = br#"{"do":"sleep","ms":400}"#;
    let mut running: Vec<Http> = ["one", "one", "two"]
        .into_iter()
        .map(|function| {
            let mut http = runner.http();
            http.send("POST", &format!("/2015-03-31/functions/{function}/invocations"), &[], slow);
            http
        })
        .collect();
    eventually(|| {
        runner.invoker.instances().iter().filter(|instance| instance.state == "busy").count() == 3
    });
    for (function, reason) in [
        ("one", "ReservedFunctionConcurrentInvocationLimitExceeded"),
        ("two", "ConcurrentInvocationLimitExceeded"),
    ] {
        let answer = runner.http().invoke(function, &[], b"{}");
        assert_eq!(
            (answer.status, answer.error_type().as_str()),
            (429, "TooManyRequestsException")
        );
        assert_eq!(answer.json()["Reason"], reason);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    let refuse = Options { refuse_when_busy: true, ..Options::default() };
    let refused =
        runner.runtime.block_on(runner.invoker.invoke("one", Bytes::from_static(b"{}"), refuse));
    assert_eq!(refused.unwrap_err(), Refused::FunctionBusy);
    let waited = runner.runtime.block_on(runner.invoker.invoke(
        "one",
        Bytes::from_static(b"1"),
        Options::default(),
    ));
    assert_eq!(waited.unwrap().outcome.unwrap(), "1", "the runner's own calls wait for a place");
    for http in &mut running {
        assert_eq!(http.receive().status, 200);
    }
    assert_eq!(runner.pids().len(), 3);
}

pub(crate) fn every_caller_gets_its_own_answer() {
    let short = |name: &str| Function { timeout: Duration::from_millis(250), ..echo(name) };
    let keep_warm = Duration::from_millis(30);
    let limits = Limits { per_function: 3, total: 5, keep_warm, ..Limits::default() };
    let runner = Runner::of([short("a"), short("b")], limits);
    let call = &|caller: usize, turn: usize| {
        let function = if (caller + turn).is_multiple_of(2) { "a" } else { "b" };
        let (event, expected) = match (caller * 7 + turn) % 23 {
            3 => (json!({"do": "exit"}), "Runtime.ExitError"),
            7 => (json!({"do": "sleep", "ms": 60_000}), "Sandbox.Timedout"),
            11 => (json!({"do": "fail"}), "Function.Upstream"),
            _ => (json!({"caller": caller, "turn": turn}), "an answer"),
        };
        let payload = Bytes::from(event.to_string());
        let request_id = format!("{caller}-{turn}");
        let options = Options { request_id: Some(request_id.clone()), ..Options::default() };
        let run = runner.invoker.invoke(function, payload, options);
        let invocation = runner.runtime.block_on(run).unwrap();
        assert_eq!(invocation.request_id, request_id);
        match invocation.outcome {
            Ok(answer) => assert_eq!(serde_json::from_slice::<Value>(&answer).unwrap(), event),
            Err(error) => assert_eq!(error.error_type, expected, "{event}: {}", error.message()),
        }
        let tail = String::from_utf8(invocation.log_tail.to_vec()).unwrap();
        assert!(tail.contains(&format!("END RequestId: {request_id}\n")), "{tail}");
        assert_eq!(tail.matches("START ").count(), 1, "{tail}");
    };
    std::thread::scope(|scope| {
        for caller in 0..8 {
            scope.spawn(move || (0..40).for_each(|turn| call(caller, turn)));
        }
    });
    eventually(|| runner.pids().is_empty());
}

pub(crate) fn a_process_without_work_grows_cold() {
    let limits = Limits { keep_warm: Duration::from_millis(150), ..Limits::default() };
    let runner = Runner::of([echo("echo")], limits);
    runner.invoke("echo", &json!(1));
    let pids = runner.pids();
    eventually(|| runner.pids().is_empty());
    assert!(!is_alive(pids[0]));
    assert_eq!(runner.invoke("echo", &json!(2)).json(), 2);
}

pub(crate) fn a_program_that_was_built_again_is_started_again() {
    let folder = std::env::temp_dir().join(format!("minerva-lambda-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("bootstrap");
    let _ = std::fs::remove_file(&program);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_echo"), &program).unwrap();
    let runner =
        Runner::of([Function { program: program.clone(), ..echo("echo") }], Limits::default());
    assert_eq!(runner.invoke("echo", &json!({"do": "context"})).json()["count"], 1);
    assert_eq!(runner.invoke("echo", &json!({"do": "context"})).json()["count"], 2);
    // The new program is one that ends at once, as nobody tells it how long to sleep.
    std::fs::remove_file(&program).unwrap();
    std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
    let answer = runner.http().invoke("echo", &[("x-amz-log-type", "Tail")], b"{}");
    assert_eq!(answer.error_type(), "Runtime.ExitError");
    assert!(answer.tail().contains("missing operand"), "{}", answer.tail());
    eventually(|| runner.pids().is_empty());
    std::fs::remove_dir_all(&folder).unwrap();
}

pub(crate) fn a_function_that_never_stops_printing_is_answered_all_the_same() {
    let args = vec!["-c".to_owned(), "exec yes não".to_owned()];
    let function =
        Function { args, timeout: Duration::from_secs(20), ..Function::new("puppet", "/bin/sh") };
    let runner = Runner::of([function], Limits::default());
    let (caller, api) = runner.puppet("1");
    let mut runtime = runner.http();
    let event = runtime.call("GET", &format!("{api}/invocation/next"), &[], b"");
    eventually(|| runner.told.lines.lock().unwrap().iter().any(|(_, text)| text == "não"));
    let id = event.header("lambda-runtime-aws-request-id").unwrap().to_owned();
    assert_eq!(
        runtime.call("POST", &format!("{api}/invocation/{id}/response"), &[], b"1").status,
        202
    );
    runtime.send("GET", &format!("{api}/invocation/next"), &[], b"");
    let answer = caller.join().unwrap();
    assert_eq!(answer.json(), 1);
    assert!((4_000..=4_096).contains(&answer.tail().len()), "{}", answer.tail().len());
    assert!(answer.tail().contains("END RequestId: "));
}

// The process's surroundings.

pub(crate) fn a_process_sees_nothing_of_the_runners_environment() {
    let env = vec![
        ("ES_URL".to_owned(), "http://localhost:9200".to_owned()),
        ("TZ".to_owned(), "UTC".to_owned()),
    ];
    let runner = Runner::of([Function { env, memory_mb: 256, ..echo("echo") }], Limits::default());
    let seen = runner.invoke("echo", &json!({"do": "env"})).json();
    let seen = seen.as_object().unwrap();
    let declared = runner.invoker.environment("echo").unwrap();
    let names: Vec<&String> = seen.keys().filter(|name| *name != "_X_AMZN_TRACE_ID").collect();
    assert_eq!(names, declared.keys().collect::<Vec<_>>(), "what is shown is what there is");
    for (name, value) in [
        ("ES_URL", "http://localhost:9200"),
        ("TZ", "UTC"),
        ("AWS_LAMBDA_FUNCTION_NAME", "echo"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("MINERVA_RUNNER", "1"),
    ] {
        assert_eq!(seen[name], value, "{name}");
    }
    assert_eq!(seen["AWS_ENDPOINT_URL_EVENTBRIDGE"], format!("http://{}", runner.address));
    assert!(!seen.contains_key("HOME") && !seen.contains_key("CARGO"));
}

pub(crate) fn a_page_of_another_origin_is_refused() {
    let runner = Runner::echo();
    let own = format!("http://{}", runner.address);
    let port = runner.address.port();
    let rebound = format!("evil.example:{port}");
    for (headers, status) in [
        (&[("origin", own.as_str())][..], 200),
        (&[("origin", "https://evil.example")][..], 403),
        (&[("origin", "null")][..], 403),
        (&[("host", rebound.as_str())][..], 403),
        (&[("host", "localhost")][..], 200),
    ] {
        assert_eq!(runner.http().invoke("echo", headers, b"1").status, status, "{headers:?}");
        assert_eq!(
            runner.http().call("GET", "/-/health", headers, b"").status,
            status,
            "{headers:?}"
        );
    }
}

pub(crate) fn only_loopback_is_listened_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let started = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        runtime.block_on(Lambda::start(Config { addresses, ..Config::new([echo("echo")]) }))
    };
    assert!(matches!(started(&["0.0.0.0:0"]), Err(StartError::NotLoopback(_))));
    assert!(matches!(started(&["127.0.0.1:0", "[::]:0"]), Err(StartError::NotLoopback(_))));
    assert!(matches!(started(&[]), Err(StartError::NoAddress)));
    let both = started(&["127.0.0.1:0", "[::1]:0"]).unwrap();
    assert!(both.origin().starts_with("http://127.0.0.1:"));
    let taken = both.addresses()[0].to_string();
    assert!(matches!(started(&[&taken]), Err(StartError::Bind(..))));
}

pub(crate) fn put_events_answers_for_each_entry() {
    let runner = Runner::echo();
    let put = |target: &str, body: &Value| {
        let headers = [("x-amz-target", target), ("content-type", "application/x-amz-json-1.1")];
        runner.http().call("POST", "/", &headers, body.to_string().as_bytes())
    };
    let good = json!({"Source": "minerva", "DetailType": "t", "Detail": "{\"n\":1}", "Resources": ["arn:x"]});
    let bad = json!({"Source": "minerva", "DetailType": "t", "Detail": "no"});
    let answer = put("AWSEvents.PutEvents", &json!({"Entries": [good, bad, good]}));
    let body = answer.json();
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/x-amz-json-1.1"))
    );
    assert_eq!(body["FailedEntryCount"], 1);
    assert_eq!(body["Entries"][1]["ErrorCode"], "MalformedDetail");
    {
        let entries = runner.told.entries.lock().unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(body["Entries"][0]["EventId"], entries[0].id);
        assert_eq!(body["Entries"][2]["EventId"], entries[1].id);
        assert_eq!(
            (entries[0].detail["n"].as_i64(), entries[0].resources[0].as_str()),
            (Some(1), "arn:x")
        );
    }
    let refused = json!({"Source": "minerva", "DetailType": "refuse", "Detail": "{}"});
    let body = put("AWSEvents.PutEvents", &json!({"Entries": [refused]})).json();
    assert_eq!(
        (body["FailedEntryCount"].as_i64(), body["Entries"][0]["ErrorCode"].as_str()),
        (Some(1), Some("InternalFailure"))
    );
    assert_eq!(body["Entries"][0]["ErrorMessage"], "the queue is full");

    let half = json!({"Source": "minerva", "DetailType": "t", "Detail": json!({"x": "x".repeat(600_000)}).to_string()});
    for (target, body, kind) in [
        ("AWSEvents.PutEvents", json!({"Entries": vec![&good; 11]}), "ValidationException"),
        ("AWSEvents.PutEvents", json!({"Entries": [half, half]}), "ValidationException"),
        ("AWSEvents.PutEvents", json!({"Entries": 1}), "SerializationException"),
        ("AWSEvents.PutRule", json!({}), "UnknownOperationException"),
    ] {
        let answer = put(target, &body);
        assert_eq!((answer.status, answer.json()["__type"].as_str()), (400, Some(kind)));
    }
    assert_eq!(runner.told.entries.lock().unwrap().len(), 2);
}
