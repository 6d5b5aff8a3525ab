//! The real clients against the runner: `cargo lambda invoke` and `aws lambda invoke`, installed from PyPI when they are
//! not there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use local_runner::lambda::{Config, Function, Lambda};
use serde_json::Value;

use crate::documents::cache;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("cargo_lambda_invokes_the_runner", cargo_lambda_invokes_the_runner),
    ("aws_cli_invokes_the_runner", aws_cli_invokes_the_runner),
];

/// What both clients come from, with the versions that were tried.
const PACKAGES: [&str; 2] = ["cargo-lambda==1.9.2", "awscli>=1.40"];

/// The folder with the clients' programs, or why there is none.
pub(crate) fn clients() -> Result<PathBuf, String> {
    tests::pypi::programs(cache(), &PACKAGES)
}

/// Why these tests cannot run here, if they cannot.
pub(crate) fn unavailable() -> Option<String> {
    clients().err()
}

/// Starts a runner with an echo function and does something with a client, its programs on the path.
fn with_runner(what: impl Fn(&Path, &Lambda)) {
    let programs = clients().expect("this test is skipped where there is none");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let function = Function {
            timeout: std::time::Duration::from_secs(20),
            ..Function::new("echo", env!("CARGO_BIN_EXE_echo"))
        };
        let lambda = Lambda::start(Config::new([function])).await.expect("it starts");
        tokio::task::block_in_place(|| what(&programs, &lambda));
        lambda.stop(std::time::Duration::from_secs(1)).await;
    });
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn cargo_lambda_invokes_the_runner() {
    with_runner(|programs, lambda| {
        let port = lambda.addresses()[0].port().to_string();
        let invoke = |arguments: &[&str]| -> Output {
            Command::new(programs.join("cargo-lambda"))
                .args(["lambda", "invoke", "--invoke-address", "127.0.0.1", "--invoke-port", &port])
                .args(arguments)
                .output()
                .expect("it starts")
        };
        let answer = invoke(&["echo", "--data-ascii", r#"{"hello":"world"}"#]);
        assert!(answer.status.success(), "{}", text(&answer.stderr));
        assert_eq!(
            serde_json::from_slice::<Value>(&answer.stdout).expect("it is JSON")["hello"],
            "world"
        );

        let failure = invoke(&["echo", "--data-ascii", r#"{"do":"fail"}"#]);
        assert!(!failure.status.success());
        assert!(text(&failure.stderr).contains("Function.Upstream"), "{}", text(&failure.stderr));

        let unknown = invoke(&["no_such_function", "--data-ascii", "{}"]);
        assert!(
            !unknown.status.success() && text(&unknown.stderr).contains("Function not found"),
            "{}",
            text(&unknown.stderr)
        );
    });
}

fn aws_cli_invokes_the_runner() {
    with_runner(|programs, lambda| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("answer.json");
        let invoke = |arguments: &[&str]| -> Output {
            Command::new(programs.join("aws"))
                .args(["lambda", "invoke", "--endpoint-url", lambda.origin()])
                .args(arguments)
                .arg(&out)
                .env("AWS_ACCESS_KEY_ID", "local")
                .env("AWS_SECRET_ACCESS_KEY", "local")
                .env("AWS_DEFAULT_REGION", "us-east-1")
                .output()
                .expect("it starts")
        };
        let answer = invoke(&["--function-name", "echo", "--payload", r#"{"hello":"world"}"#]);
        assert!(answer.status.success(), "{}", text(&answer.stderr));
        let body: Value =
            serde_json::from_slice(&std::fs::read(&out).expect("an answer")).expect("it is JSON");
        assert_eq!(body["hello"], "world");

        let failure = invoke(&["--function-name", "echo", "--payload", r#"{"do":"fail"}"#]);
        assert!(text(&failure.stdout).contains("Unhandled"), "{}", text(&failure.stdout));
        let dry = invoke(&["--function-name", "echo", "--invocation-type", "DryRun"]);
        assert!(text(&dry.stdout).contains("204"), "{}", text(&dry.stdout));
        let unknown = invoke(&["--function-name", "no_such_function"]);
        assert!(
            text(&unknown.stderr).contains("ResourceNotFoundException"),
            "{}",
            text(&unknown.stderr)
        );
    });
}
