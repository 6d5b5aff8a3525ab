//! Settings that name where their value stands: files, and AWS's stores of secrets as moto plays them, keys and all.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use local_runner::lambda::{Config, Function, Lambda, Options};
use serde_json::{Value, json};

use crate::documents::{block_on, cache};
use crate::home::{ALL, Home, Upstream, numbered, raw, respond};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("a_function_reads_a_path_once", a_function_reads_a_path_once),
    ("a_failure_names_the_path_in_time", a_failure_names_the_path_in_time),
    ("the_runner_reads_files_and_parameters", the_runner_reads_files_and_parameters),
];

/// What the server comes from, with the version that was tried.
const PACKAGE: &str = "moto[server,ssm,secretsmanager]==5.2.5";

const TOKEN: &str = "hunter2-from-the-store";

/// Why these tests cannot run here, if they cannot.
pub(crate) fn unavailable() -> Option<String> {
    tests::pypi::programs(cache(), &[PACKAGE]).err()
}

/// Both stores; they end with their input, however the test ends.
struct Vault {
    process: Child,
    out: BufReader<ChildStdout>,
    told: Value,
}

impl Vault {
    fn with(parameters: &Value) -> Self {
        let programs = tests::pypi::programs(cache(), &[PACKAGE]);
        let python = programs.expect("this test is skipped where there is none").join("python");
        let mut process = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("it/vault.py"))
            .arg(parameters.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let told = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        Self { process, out, told }
    }

    /// What reaches it, by the key of one of its users.
    fn settings(&self, user: &str) -> Vec<(String, String)> {
        let (endpoint, key) = (&self.told["endpoint"], &self.told["keys"][user]);
        [
            ("AWS_ENDPOINT_URL_SSM", endpoint),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint),
            ("AWS_ACCESS_KEY_ID", &key[0]),
            ("AWS_SECRET_ACCESS_KEY", &key[1]),
        ]
        .map(|(name, value)| (name.to_owned(), value.as_str().unwrap().to_owned()))
        .into_iter()
        .chain([("AWS_REGION".to_owned(), "us-east-1".to_owned())])
        .collect()
    }

    /// The calls it had from its users.
    fn calls(mut self) -> Vec<String> {
        drop(self.process.stdin.take());
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"))
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// A real function called twice over the real Runtime API, its answers, and all that it logged.
fn call_twice(task: &str, env: Vec<(String, String)>) -> (Vec<Result<Value, Value>>, String) {
    block_on(async {
        let function = Function {
            args: vec!["function".to_owned(), task.to_owned()],
            env,
            timeout: Duration::from_secs(30),
            ..Function::new(task, env!("CARGO_BIN_EXE_runner"))
        };
        let log = Arc::new(Mutex::new(String::new()));
        let lines = Arc::clone(&log);
        let config = Config {
            logs: Arc::new(move |line| {
                let mut log = lines.lock().unwrap();
                log.push_str(line.text);
                log.push('\n');
            }),
            ..Config::new([function])
        };
        let lambda = Lambda::start(config).await.unwrap();
        let mut answers = Vec::new();
        for _ in 0..2 {
            let ran = lambda.invoke(task, Bytes::from_static(b"{}"), Options::default()).await;
            let json = |bytes: &Bytes| serde_json::from_slice::<Value>(bytes).unwrap();
            answers.push(match ran.unwrap().outcome {
                Ok(answer) => Ok(json(&answer)),
                Err(error) => Err(json(&error.body)),
            });
        }
        lambda.stop(Duration::from_secs(1)).await;
        let log = log.lock().unwrap().clone();
        (answers, log)
    })
}

/// The task that uses a secret and says whether it was right.
const TASK: &str = "check_malpedia_status";

fn base(folder: &Path, upstream: &Upstream) -> Vec<(String, String)> {
    [
        ("MINERVA_DATA_DIR", folder.to_str().unwrap().to_owned()),
        ("MINERVA_ALLOW_NETS", "127.0.0.0/8".to_owned()),
        ("MALPEDIA_URL", upstream.origin()),
        ("MALPEDIA_API_TOKEN", "ssm:/minerva/malpedia/MALPEDIA_API_TOKEN".to_owned()),
        ("MINERVA_LOG", "debug".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn a_function_reads_a_path_once() {
    // More than one page of parameters, and neighbours that are not ours.
    let mut parameters = json!({"/minerva/malpedia/MALPEDIA_API_TOKEN": TOKEN, "/minerva/x": "x"});
    for n in 0..8 {
        parameters[format!("/minerva/malpedia/A{n}")] = json!("other");
    }
    let vault = Vault::with(&parameters);
    let upstream = Upstream::start(1);
    let headers = Arc::new(Mutex::new(String::new()));
    for path in ["api/get/version", "api/check/apikey"] {
        let headers = Arc::clone(&headers);
        upstream.serve(path, move |asked, stream| {
            headers.lock().unwrap().push_str(&asked.header);
            respond(stream, "200 OK", "content-type: application/json\r\n", b"{}");
        });
    }
    let folder = tempfile::tempdir().unwrap();
    let mut env = base(folder.path(), &upstream);
    env.extend(vault.settings("reader"));
    let arn = vault.told["arn"].as_str().unwrap();
    env.push(("MINERVA_CONTACT".to_owned(), format!("aws-secretsmanager:{arn}")));
    let (answers, log) = call_twice(TASK, env);
    for answer in answers {
        let report = answer.unwrap();
        assert_eq!(report["status"], "complete", "{report}");
        assert!(!report.to_string().contains(TOKEN));
    }
    assert!(!log.contains(TOKEN) && !log.contains("soc@example.org"), "{log}");
    let headers = headers.lock().unwrap();
    assert!(headers.contains(&format!("apitoken {TOKEN}")), "{headers}");
    assert!(headers.contains("soc@example.org"), "{headers}");
    // Once for two invocations.
    assert_eq!(vault.calls(), ["AmazonSSM.GetParametersByPath", "secretsmanager.GetSecretValue"]);
}

fn a_failure_names_the_path_in_time() {
    let vault = Vault::with(&json!({"/minerva/malpedia/OTHER": TOKEN}));
    let upstream = Upstream::start(1);
    let silent = raw(|stream| {
        std::thread::sleep(Duration::from_secs(60));
        drop(stream);
    });
    let set = |mut env: Vec<(String, String)>, name: &str, value: &str| {
        env.push((name.to_owned(), value.to_owned()));
        env
    };
    let cases = [
        ("there is none", "Function.Config", vault.settings("reader")),
        ("ssm:GetParametersByPath", "Function.Config", vault.settings("stranger")),
        (
            "403 Forbidden",
            "Function.Config",
            set(vault.settings("reader"), "AWS_SECRET_ACCESS_KEY", "wrong"),
        ),
        (
            "no answer in",
            "Function.Upstream",
            set(vault.settings("reader"), "AWS_ENDPOINT_URL_SSM", &silent),
        ),
        (
            "ssm:/minerva/malpedia/",
            "Function.Upstream",
            set(vault.settings("reader"), "AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:1"),
        ),
    ];
    for (word, class, further) in cases {
        let folder = tempfile::tempdir().unwrap();
        let mut env = base(folder.path(), &upstream);
        env.extend(further);
        let started = Instant::now();
        let (answers, log) = call_twice(TASK, env);
        let took = started.elapsed();
        let error = answers[0].as_ref().unwrap_err();
        assert_eq!(error["errorType"], class, "{error}");
        let said = error["errorMessage"].as_str().unwrap();
        assert!(said.contains(word) && said.contains("/minerva/malpedia"), "{word}: {said}");
        assert!(!log.contains(TOKEN) && !log.contains("wrong"), "{log}");
        // Its start and two invocations, each with a limit of its own.
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}

fn the_runner_reads_files_and_parameters() {
    let vault = Vault::with(&json!({"/minerva/contact": "soc@example.org"}));
    let upstream = Upstream::start(1);
    let header = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&header);
    let url = upstream.serve("a", move |asked, stream| {
        *heard.lock().unwrap() = asked.header.clone();
        respond(stream, "200 OK", "", &numbered(0, 1));
    });
    let mut home = Home::of(&[("a", url)]).with("MINERVA_CONTACT", "ssm:/minerva/contact");
    for (name, value) in vault.settings("reader") {
        let value = if name == "AWS_SECRET_ACCESS_KEY" {
            std::fs::write(home.path("key"), value + "\n").unwrap();
            format!("file:{}", home.path("key").display())
        } else {
            value
        };
        home = home.with(&name, value);
    }
    home.run(&["run", ALL]).ends_with(0);
    assert!(header.lock().unwrap().contains("soc@example.org"), "{header:?}");
    let missing = Home::of(&[]).with("ES_PASSWORD", "file:/not/there");
    missing.run(&["run", ALL]).ends_with(2).says(&["ES_PASSWORD", "/not/there", "hint:"]);
    let wrong = Home::of(&[]).with("ES_PASSWORD", "ssm:minerva/x");
    wrong.run(&["run", ALL]).ends_with(2).says(&["ES_PASSWORD", "ssm:/minerva"]);
}
