//! A function for the tests of the runner: does what its event says, on the real `lambda_runtime`.
//!
//! `{"do": "fail" | "panic" | "exit" | "kill" | "sleep" | "big" | "print" | "orphan" | "context" | "env"}`; anything
//! else is echoed. `ECHO_INIT` in its environment makes it fail, exit or hang before it asks for work.

use std::io::Write as _;
use std::process::{Command, ExitCode, exit};
use std::time::{Duration, Instant};

use lambda_runtime::{Diagnostic, LambdaEvent, Runtime, service_fn};
use serde_json::{Value, json};

/// An error with a type that the platform can tell apart.
#[derive(Debug)]
struct Failure(String);

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Self { error_type: "Function.Upstream".to_owned(), error_message: failure.0 }
    }
}

fn main() -> ExitCode {
    if let Some(code) = init() {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.expect("a runtime without threads starts").block_on(async {
        let state = std::cell::Cell::new(0_u64);
        let handler = service_fn(|event: LambdaEvent<Value>| {
            state.set(state.get() + 1);
            let count = state.get();
            async move { handle(event, count).await }
        });
        Runtime::new(handler).run().await
    });
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "this binary has no settings but its mode")]
fn init() -> Option<ExitCode> {
    match std::env::var("ECHO_INIT").unwrap_or_default().as_str() {
        "exit" => Some(ExitCode::from(7)),
        "hang" => {
            std::thread::sleep(Duration::from_secs(600));
            None
        }
        "error" => {
            let body = r#"{"errorType":"Function.Config","errorMessage":"`ES_URL` is not set"}"#;
            post(
                "/2018-06-01/runtime/init/error",
                "lambda-runtime-function-error-type: Runtime.Init\r\n",
                body,
            );
            Some(ExitCode::FAILURE)
        }
        "extension" => {
            post(
                "/2020-01-01/extension/register",
                "lambda-extension-name: echo\r\n",
                r#"{"events":[]}"#,
            );
            None
        }
        _ => None,
    }
}

/// One call of the Runtime or Extensions API by hand.
#[expect(clippy::disallowed_methods, reason = "the address that Lambda gives")]
fn post(path: &str, headers: &str, body: &str) {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API").expect("Lambda sets it");
    let (host, prefix) =
        api.trim_start_matches("http://").split_once('/').expect("the runner's path");
    let mut stream = std::net::TcpStream::connect(host).expect("the runner listens");
    let length = body.len();
    write!(
        stream,
        "POST /{prefix}{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
    .expect("the runner reads");
    std::io::read_to_string(stream).expect("the runner answers");
}

#[expect(clippy::exit, reason = "ending without a word is what is tested")]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the log is what is tested")]
async fn handle(event: LambdaEvent<Value>, count: u64) -> Result<Value, Failure> {
    let (payload, context) = (event.payload, event.context);
    match payload["do"].as_str().unwrap_or_default() {
        "fail" => Err(Failure("read `https://example.org`: status `503`".to_owned())),
        "panic" => panic!("this is a test of panics"),
        "exit" => exit(i32::try_from(payload["code"].as_i64().unwrap_or(3)).unwrap_or(3)),
        "kill" => {
            let _ = Command::new("kill").arg("-9").arg(std::process::id().to_string()).status();
            Ok(Value::Null)
        }
        "sleep" => {
            let until = Instant::now() + Duration::from_millis(payload["ms"].as_u64().unwrap_or(0));
            tokio::time::sleep_until(until.into()).await;
            Ok(json!({"slept": payload["ms"]}))
        }
        "big" => Ok(Value::String(
            "x".repeat(usize::try_from(payload["bytes"].as_u64().unwrap_or(0)).unwrap_or(0)),
        )),
        "print" => {
            println!("to standard output");
            eprintln!("to standard error");
            print!("without an end");
            std::io::stdout().flush().expect("the runner reads");
            Ok(Value::Null)
        }
        #[expect(
            clippy::zombie_processes,
            reason = "what a function leaves behind is what is tested"
        )]
        "orphan" => {
            let child = Command::new("sleep").arg("600").spawn().expect("sleep is there");
            Ok(json!({"pid": child.id(), "own": std::process::id()}))
        }
        "context" => Ok(json!({
            "request_id": context.request_id,
            "deadline": context.deadline,
            "arn": context.invoked_function_arn,
            "trace": context.xray_trace_id,
            "client_context": context.client_context,
            "pid": std::process::id(),
            "count": count,
        })),
        #[expect(clippy::disallowed_methods, reason = "shows what the runner passes on")]
        "env" => Ok(std::env::vars().map(|(name, value)| (name, Value::String(value))).collect()),
        _ => Ok(payload),
    }
}
