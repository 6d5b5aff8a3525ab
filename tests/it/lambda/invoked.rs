//! All 27 tasks by the real clients, `cargo lambda invoke` and `aws lambda invoke`, in two homes that are not AWS: local-runner
//! and `cargo lambda watch`. Both stand on real stores and on stand-ins for every source.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use serde_json::{Value, json};
use tests::services::search::Kind;
use tests::watch::Watch;

use super::sources::Sources;
use super::tasks::{balanced, bare_input, timetable};
use crate::clients;
use crate::copy::Servers;
use crate::home::Home;
use crate::runner::built_apart;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("invoked_by_real_clients_under_local_runner", under_local_runner),
    ("invoked_by_real_clients_under_cargo_lambda_watch", under_cargo_lambda_watch),
];

/// A home with its own stores on the servers.
fn home(sources: &Sources, servers: &Servers) -> Home {
    let home = Home::of(&[]);
    let settings = sources.settings(&home.path("export"), &servers.all());
    settings.into_iter().fold(home, |home, (name, value)| home.with(&name, value))
}

fn under_local_runner() {
    let (sources, servers) = (Sources::start(), Servers::new(Kind::Elasticsearch8));
    let home = home(&sources, &servers);
    let folder = built_apart();
    let mut serve = home.spawn(&["serve", "--port", "0", "--functions", folder.to_str().unwrap()]);
    let mut errors = serve.errors();
    let line = errors.find(|line| line.contains("serving on http://")).expect("it serves");
    let origin = line.split_once("http://").unwrap().1.split(':').take(2).collect::<Vec<_>>();
    let origin = origin.join(":");
    // It goes on to say things, and must not wait for a reader.
    thread::spawn(move || errors.for_each(drop));
    all_are_invoked(&origin);
    serve.terminate();
}

fn under_cargo_lambda_watch() {
    let (sources, servers) = (Sources::start(), Servers::new(Kind::Elasticsearch8));
    let home = home(&sources, &servers);
    let programs = clients::clients().expect("this test is skipped where there is none");
    let mut watch = Watch::start(&programs).unwrap();
    for row in timetable().rows() {
        let mut function = Command::new(built_apart().join(&row.name));
        function.env_clear().envs(home.settings()).env("AWS_REGION", "sa-east-1");
        watch.add(&row.name, &mut function).unwrap();
    }
    all_are_invoked(&watch.address.to_string());
}

/// Invokes every task at `address` with its default input, once by each client.
fn all_are_invoked(address: &str) {
    let programs = clients::clients().expect("this test is skipped where there is none");
    let (host, port) = address.split_once(':').unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("answer.json");
    let mut reports = 0;
    for row in timetable().rows() {
        let (task, input) = (row.name.as_str(), bare_input(&row.name).to_string());
        let cargo = ["lambda", "invoke", "--invoke-address", host, "--invoke-port", port];
        let answered = run(Command::new(programs.join("cargo-lambda")).args(cargo).args([
            task,
            "--data-ascii",
            &input,
        ]));
        check(task, &answered.stdout, &answered);
        let endpoint = format!("http://{address}");
        let aws = ["lambda", "invoke", "--endpoint-url", &endpoint, "--function-name", task];
        let answered = run(Command::new(programs.join("aws"))
            .args(aws)
            .args(["--cli-read-timeout", "300", "--payload", &input])
            .arg(&out)
            .env("AWS_ACCESS_KEY_ID", "local")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .env("AWS_DEFAULT_REGION", "us-east-1"));
        check(task, &read(&out), &answered);
        reports += 2;
    }
    assert_eq!(reports, 54);
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// The answer is the report of a complete run, and its numbers are right.
#[track_caller]
fn check(task: &str, answer: &[u8], said: &Output) {
    assert!(said.status.success(), "{task}: {}", String::from_utf8_lossy(&said.stderr));
    let report: Value = serde_json::from_slice(answer)
        .unwrap_or_else(|error| panic!("{task}: {error}: {}", String::from_utf8_lossy(answer)));
    balanced(&report);
    assert_eq!(
        (&report["task"], &report["status"]),
        (&json!(task), &json!("complete")),
        "{report}"
    );
}
