//! The real clients against the runner: `cargo lambda invoke` and `aws lambda invoke`, installed from PyPI when they are
//! not there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use local_runner::lambda::{Config, Entry, Events, Function, Lambda, Queue};
use serde_json::Value;

use crate::documents::cache;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("cargo_lambda_invokes_the_runner", cargo_lambda_invokes_the_runner),
    ("aws_cli_invokes_the_runner", aws_cli_invokes_the_runner),
    (
        "every_answer_is_one_of_the_services_own_model",
        every_answer_is_one_of_the_services_own_model,
    ),
];

/// What both clients come from, with the versions that were tried.
const PACKAGES: [&str; 3] = ["cargo-lambda==1.9.2", "awscli>=1.40", "botocore>=1.40"];

/// Bytes that a synchronous invocation may carry.
const MAX_SYNC_PAYLOAD: usize = 6 * 1024 * 1024;

/// The folder with the clients' programs, or why there is none.
pub(crate) fn clients() -> Result<PathBuf, String> {
    tests::pypi::programs(cache(), &PACKAGES)
}

/// Why these tests cannot run here, if they cannot.
pub(crate) fn unavailable() -> Option<String> {
    clients().err()
}

/// Takes everything and does nothing with it.
struct Taker;

#[async_trait]
impl Queue for Taker {
    async fn enqueue(&self, _: &str, _: Bytes, _: &str) -> Result<(), String> {
        Ok(())
    }
}

#[async_trait]
impl Events for Taker {
    async fn put(&self, _: &[Entry]) -> Result<(), String> {
        Ok(())
    }
}

/// Starts a runner with an echo function, once as `echo` and once as `hasty`, which has a second; and does something with a
/// client, its programs on the path.
fn with_runner(what: impl Fn(&Path, &Lambda)) {
    let programs = clients().expect("this test is skipped where there is none");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let function = |name: &str, seconds| Function {
            timeout: Duration::from_secs(seconds),
            ..Function::new(name, env!("CARGO_BIN_EXE_echo"))
        };
        let config = Config {
            queue: Some(Arc::new(Taker)),
            events: Some(Arc::new(Taker)),
            ..Config::new([function("echo", 20), function("hasty", 1)])
        };
        let lambda = Lambda::start(config).await.expect("it starts");
        tokio::task::block_in_place(|| what(&programs, &lambda));
        lambda.stop(Duration::from_secs(1)).await;
    });
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file that holds a payload of a byte more than may be sent.
fn too_large(folder: &Path) -> String {
    let path = folder.join("large.json");
    std::fs::write(&path, format!("\"{}\"", "x".repeat(MAX_SYNC_PAYLOAD - 1)))
        .expect("it is written");
    path.to_str().expect("a plain path").to_owned()
}

fn cargo_lambda_invokes_the_runner() {
    with_runner(|programs, lambda| {
        let port = lambda.addresses()[0].port().to_string();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let large = too_large(folder.path());
        // What it is asked, whether it ends well, and what it says of it.
        for (arguments, is_well, says) in [
            (&["echo", "--data-ascii", r#"{"hello":"world"}"#][..], true, r#"{"hello":"world"}"#),
            (&["echo", "--data-ascii", r#"{"do":"big","bytes":40}"#], true, "xxxxxxxxxx"),
            (&["echo", "--data-ascii", r#"{"do":"fail"}"#], false, "Function.Upstream"),
            (&["echo", "--data-ascii", r#"{"do":"panic"}"#], false, "this is a test of panics"),
            (&["echo", "--data-ascii", r#"{"do":"exit"}"#], false, "Runtime.ExitError"),
            (&["hasty", "--data-ascii", r#"{"do":"sleep","ms":60000}"#], false, "Task timed out"),
            (
                &["echo", "--data-ascii", r#"{"do":"big","bytes":7000000}"#],
                false,
                "ResponseSizeTooLarge",
            ),
            (&["echo", "--data-file", &large], false, "RequestTooLargeException"),
            (&["no_such_function", "--data-ascii", "{}"], false, "Function not found"),
        ] {
            let ran = Command::new(programs.join("cargo-lambda"))
                .args(["lambda", "invoke", "--invoke-address", "127.0.0.1", "--invoke-port", &port])
                .args(arguments)
                .output()
                .expect("it starts");
            let said = text(if is_well { &ran.stdout } else { &ran.stderr });
            assert_eq!(ran.status.success(), is_well, "{arguments:?}: {said}");
            assert!(said.contains(says), "{arguments:?}: {said}");
        }
    });
}

fn aws_cli_invokes_the_runner() {
    with_runner(|programs, lambda| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("answer.json");
        let invoke = |arguments: &[&str]| -> Output {
            let _ = std::fs::remove_file(&out);
            Command::new(programs.join("aws"))
                .args(["lambda", "invoke", "--endpoint-url", lambda.origin()])
                .args(arguments)
                .arg(&out)
                .env("AWS_ACCESS_KEY_ID", "local")
                .env("AWS_SECRET_ACCESS_KEY", "local")
                .env("AWS_DEFAULT_REGION", "us-east-1")
                .env("AWS_MAX_ATTEMPTS", "1")
                .output()
                .expect("it starts")
        };
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:echo";
        // What it is asked, members of the answer that it shows, and what is in the payload.
        for (arguments, shown, payload) in [
            (
                &["--function-name", "echo", "--payload", r#"{"hello":"world"}"#][..],
                &[("StatusCode", "200"), ("ExecutedVersion", "$LATEST")][..],
                r#"{"hello":"world"}"#,
            ),
            (
                &["--function-name", arn, "--qualifier", "$LATEST", "--payload", "[1]"],
                &[("StatusCode", "200")],
                "[1]",
            ),
            (
                &["--function-name", "echo", "--invocation-type", "Event"],
                &[("StatusCode", "202")],
                "",
            ),
            (
                &["--function-name", "echo", "--invocation-type", "DryRun"],
                &[("StatusCode", "204")],
                "",
            ),
            (
                &["--function-name", "echo", "--log-type", "Tail", "--payload", r#"{"do":"fail"}"#],
                &[("FunctionError", "Unhandled"), ("LogResult", "")],
                "Function.Upstream",
            ),
            (
                &["--function-name", "hasty", "--payload", r#"{"do":"sleep","ms":60000}"#],
                &[("FunctionError", "Unhandled")],
                "Task timed out after 1.00 seconds",
            ),
            (
                &["--function-name", "echo", "--payload", r#"{"do":"big","bytes":7000000}"#],
                &[("FunctionError", "Unhandled")],
                "Function.ResponseSizeTooLarge",
            ),
        ] {
            let ran = invoke(arguments);
            assert!(ran.status.success(), "{arguments:?}: {}", text(&ran.stderr));
            let answer: Value = serde_json::from_slice(&ran.stdout).expect("it shows JSON");
            for (name, value) in shown {
                let member = match &answer[name] {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                assert!(
                    member != "null" && (member == *value || value.is_empty()),
                    "{name}: {answer}"
                );
            }
            let body = std::fs::read_to_string(&out).expect("an answer");
            assert!(body.contains(payload), "{arguments:?}: {body}");
        }
        let large = format!("file://{}", too_large(folder.path()));
        for (arguments, says) in [
            (&["--function-name", "no_such_function"][..], "ResourceNotFoundException"),
            (&["--function-name", "echo", "--payload", "{no"], "InvalidRequestContentException"),
            (&["--function-name", "echo", "--payload", &large], "RequestTooLargeException"),
        ] {
            let ran = invoke(arguments);
            let said = text(&ran.stderr);
            assert!(!ran.status.success() && said.contains(says), "{arguments:?}: {said}");
        }
    });
}

/// The model comes with the client's library: <https://github.com/boto/botocore/tree/develop/botocore/data>.
fn every_answer_is_one_of_the_services_own_model() {
    with_runner(|programs, lambda| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/clients.py");
        let ran = Command::new(programs.join("python")).arg(script).arg(lambda.origin()).output();
        let ran = ran.expect("it starts");
        assert!(ran.status.success(), "{}", text(&ran.stderr));
        let cases: Vec<String> = serde_json::from_slice(&ran.stdout).expect("it prints its cases");
        assert!(cases.len() > 25, "{cases:?}");
    });
}
