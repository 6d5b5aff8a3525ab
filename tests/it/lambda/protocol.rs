//! The Runtime and Extensions API, spoken by hand.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::io::BufRead as _;
use std::time::{Duration, Instant};

use local_runner::lambda::{Function, Limits};
use serde_json::json;

use super::{Http, Runner, eventually, is_alive, puppet, trials};

trials! {
    a_response_is_taken_for_the_attempt_at_hand_only
    a_stream_that_breaks_off_is_a_failure
    only_a_process_with_an_extension_is_warned_of_its_end
    an_extension_hears_of_each_event
}

pub(crate) fn a_response_is_taken_for_the_attempt_at_hand_only() {
    let function = Function { timeout: Duration::from_millis(1_500), ..puppet("puppet") };
    let runner = Runner::of([function], Limits::default());
    let (caller, api) = runner.puppet(r#"{"n":1}"#);
    let mut runtime = runner.http();
    let event = runtime.call("GET", &format!("{api}/invocation/next"), &[], b"");
    assert_eq!((event.status, event.json()), (200, json!({"n": 1})));
    let id = event.header("lambda-runtime-aws-request-id").unwrap().to_owned();
    let fence = event.header("lambda-runtime-invocation-id").unwrap().to_owned();
    let respond = |http: &mut Http, id: &str, fence: &str| {
        let headers = [("lambda-runtime-invocation-id", fence)];
        let answer =
            http.call("POST", &format!("{api}/invocation/{id}/response"), &headers, b"\"done\"");
        (answer.status, answer.error_type())
    };
    assert_eq!(
        runtime.call("GET", &format!("{api}/invocation/next"), &[], b"").status,
        403,
        "busy"
    );
    assert_eq!(
        runtime.call("POST", &format!("{api}/init/error"), &[], b"{}").status,
        403,
        "not starting"
    );
    assert_eq!(respond(&mut runtime, "another", &fence), (400, "InvalidRequestID".to_owned()));
    assert_eq!(respond(&mut runtime, &id, "an older attempt").0, 410);
    assert_eq!(respond(&mut runtime, &id, &fence).0, 202);
    assert_eq!(respond(&mut runtime, &id, &fence).0, 410, "once is enough");
    runtime.send("GET", &format!("{api}/invocation/next"), &[], b"");
    assert_eq!(caller.join().unwrap().json(), "done");

    // The same process is handed the next event, and sits on it until it is too late.
    let mut late = runner.http();
    late.send("POST", "/2015-03-31/functions/puppet/invocations", &[("x-amz-date", "x")], b"2");
    let event = runtime.receive();
    let id = event.header("lambda-runtime-aws-request-id").unwrap().to_owned();
    let fence = event.header("lambda-runtime-invocation-id").unwrap().to_owned();
    assert_eq!(late.receive().error_type(), "Sandbox.Timedout");
    assert_eq!(respond(&mut runtime, &id, &fence).0, 410);
    eventually(|| runner.pids().is_empty());
    assert_eq!(runtime.call("GET", &format!("{api}/invocation/next"), &[], b"").status, 410);
}

pub(crate) fn a_stream_that_breaks_off_is_a_failure() {
    let runner = Runner::of([puppet("puppet")], Limits::default());
    let chunked =
        [("transfer-encoding", "chunked"), ("lambda-runtime-function-response-mode", "streaming")];
    let (caller, api) = runner.puppet("1");
    let mut runtime = runner.http();
    let event = runtime.call("GET", &format!("{api}/invocation/next"), &[], b"");
    let id = event.header("lambda-runtime-aws-request-id").unwrap().to_owned();
    let trailer = "trailer: lambda-runtime-function-error-type, lambda-runtime-function-error-body";
    let headers = [chunked[0], chunked[1], trailer.split_once(": ").unwrap()];
    // {"errorType":"Function.Format","errorMessage":"m"}
    let body = "5\r\n\"half\r\n0\r\nlambda-runtime-function-error-type: Function.Format\r\nlambda-runtime-function-error-body: \
                eyJlcnJvclR5cGUiOiJGdW5jdGlvbi5Gb3JtYXQiLCJlcnJvck1lc3NhZ2UiOiJtIn0=\r\n\r\n";
    let taken =
        runtime.call("POST", &format!("{api}/invocation/{id}/response"), &headers, body.as_bytes());
    assert_eq!(taken.status, 202);
    runtime.send("GET", &format!("{api}/invocation/next"), &[], b"");
    assert_eq!(caller.join().unwrap().error_type(), "Function.Format");

    let mut whole = runner.http();
    whole.send("POST", "/2015-03-31/functions/puppet/invocations", &[], b"2");
    let event = runtime.receive();
    let id = event.header("lambda-runtime-aws-request-id").unwrap().to_owned();
    runtime.send(
        "POST",
        &format!("{api}/invocation/{id}/response"),
        &chunked,
        b"3\r\n\"ab\r\n2\r\nc\"\r\n0\r\n\r\n",
    );
    assert_eq!(runtime.receive().status, 202);
    runtime.send("GET", &format!("{api}/invocation/next"), &[], b"");
    assert_eq!(whole.receive().json(), "abc", "a stream is collected");

    whole.send("POST", "/2015-03-31/functions/puppet/invocations", &[], b"3");
    let event = runtime.receive();
    let id = event.header("lambda-runtime-aws-request-id").unwrap().to_owned();
    let odd = [("lambda-runtime-function-response-mode", "odd")];
    let path = format!("{api}/invocation/{id}/response");
    assert_eq!(runtime.call("POST", &path, &odd, b"1").error_type(), "InvalidFunctionResponseMode");
    assert_eq!(whole.receive().error_type(), "Runtime.InvalidResponseModeHeader");
}

pub(crate) fn only_a_process_with_an_extension_is_warned_of_its_end() {
    // Of one that asks for work only once its end has begun, the question waits as well.
    for (extension, grace, late) in [(true, 0, 0), (false, 0, 0), (true, 600, 0), (true, 600, 100)]
    {
        let script = if grace == 0 {
            "trap 'echo warned; exit 0' TERM; while :; do /bin/sleep 0.02; done"
        } else {
            "trap 'echo warned' TERM; while :; do /bin/sleep 0.02; done"
        };
        let args = vec!["-c".to_owned(), script.to_owned()];
        let mut runner = Runner::of(
            [Function { args, ..Function::new("puppet", "/bin/sh") }],
            Limits::default(),
        );
        let (caller, api) = runner.puppet("1");
        if extension {
            let path = api.replace("2018-06-01/runtime", "2020-01-01/extension/register");
            let headers =
                [("lambda-extension-name", "e"), ("lambda-extension-accept-feature", "accountId")];
            let answer = runner.http().call("POST", &path, &headers, br#"{"events":[]}"#);
            assert_eq!(
                (answer.status, answer.json()["functionName"].as_str()),
                (200, Some("puppet"))
            );
            assert_eq!(answer.json()["accountId"], "000000000000");
            let shutdown =
                runner.http().call("POST", &path, &headers, br#"{"events":["SHUTDOWN"]}"#);
            assert_eq!(shutdown.status, 403);
        }
        let mut runtime = runner.http();
        let event = runtime.call("GET", &format!("{api}/invocation/next"), &[], b"");
        let id = event.header("lambda-runtime-aws-request-id").unwrap().to_owned();
        runtime.call("POST", &format!("{api}/invocation/{id}/response"), &[], b"1");
        caller.join().unwrap();
        let pid = runner.pids()[0];
        let next = format!("{api}/invocation/next");
        if late == 0 {
            runtime.send("GET", &next, &[], b"");
        }
        let began = Instant::now();
        let answered = std::thread::spawn(move || {
            if late > 0 {
                std::thread::sleep(Duration::from_millis(late));
                runtime.send("GET", &next, &[], b"");
            }
            let first = runtime.stream.fill_buf().map(<[u8]>::len);
            first.is_ok_and(|length| length > 0).then(Instant::now)
        });
        runner.runtime.block_on(runner.lambda.take().unwrap().stop(Duration::ZERO));
        // lambda_runtime panics at any answer to `next` but an event, and would never come to the warning.
        let answered = answered.join().unwrap();
        assert!(grace == 0 || answered.is_none_or(|at| at - began >= Duration::from_millis(500)));
        let took = began.elapsed();
        assert!(!is_alive(pid));
        let warned = runner.told.lines.lock().unwrap().iter().any(|(_, text)| text == "warned");
        assert_eq!(warned, extension);
        // One that ignores the warning is ended after half a second.
        assert_eq!(took >= Duration::from_millis(500), grace > 0, "{took:?}");
        assert!(took < Duration::from_millis(1_500), "{took:?}");
    }
}

pub(crate) fn an_extension_hears_of_each_event() {
    let runner = Runner::of([puppet("puppet")], Limits::default());
    let (caller, api) = runner.puppet("1");
    let extension = api.replace("2018-06-01/runtime", "2020-01-01/extension");
    let name = [("lambda-extension-name", "e")];
    let registered = runner.http().call(
        "POST",
        &format!("{extension}/register"),
        &name,
        br#"{"events":["INVOKE"]}"#,
    );
    let identifier = registered.header("lambda-extension-identifier").unwrap();
    let mut listener = runner.http();
    listener.send(
        "GET",
        &format!("{extension}/event/next"),
        &[("lambda-extension-identifier", identifier)],
        b"",
    );
    let mut runtime = runner.http();
    let event = runtime.call("GET", &format!("{api}/invocation/next"), &[], b"");
    let id = event.header("lambda-runtime-aws-request-id").unwrap().to_owned();
    let heard = listener.receive().json();
    assert_eq!(
        (heard["eventType"].as_str(), heard["requestId"].as_str()),
        (Some("INVOKE"), Some(id.as_str()))
    );
    let late =
        runner.http().call("POST", &format!("{extension}/register"), &name, br#"{"events":[]}"#);
    assert_eq!(late.status, 403, "extensions register before the first `next`");
    let telemetry = api.replace("2018-06-01/runtime", "2022-07-01/telemetry");
    assert_eq!(runner.http().call("PUT", &telemetry, &[], b"{}").status, 200);
    runtime.call("POST", &format!("{api}/invocation/{id}/response"), &[], b"1");
    runtime.send("GET", &format!("{api}/invocation/next"), &[], b"");
    assert_eq!(caller.join().unwrap().status, 200);
}
