//! Rules kept right at moto, which is asked over HTTP: once, after a change, through every interruption, beside what is not ours.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Script, infra_command, root, said, timetable};
use crate::documents::cache;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("moto_takes_the_timetable_once", moto_takes_the_timetable_once),
    ("moto_sees_one_write_for_one_change", moto_sees_one_write_for_one_change),
    ("moto_is_the_same_after_any_interruption", moto_is_the_same_after_any_interruption),
    ("moto_pages_and_fails_in_between", moto_pages_and_fails_in_between),
    ("moto_keeps_what_is_not_ours", moto_keeps_what_is_not_ours),
];

const MOTO: &str = "moto[server,events,awslambda,iam]==5.2.5";

fn moto() -> Result<PathBuf, String> {
    tests::pypi::programs(cache(), &[MOTO])
}

/// Why there is none, if there is none.
pub(crate) fn no_moto() -> Option<String> {
    moto().err()
}

/// EventBridge and Lambda on loopback, behind a door that counts and breaks.
struct Moto {
    script: Script,
    endpoint: String,
    folder: tempfile::TempDir,
}

impl Moto {
    fn start() -> Self {
        let programs = moto().expect("this test is skipped where there is none");
        let mut script = Script::start(&programs, "cloud.py");
        let endpoint =
            script.answer()["endpoint"].as_str().expect("it says where it is").to_owned();
        Self { script, endpoint, folder: tempfile::tempdir().expect("a folder") }
    }

    fn ask(&mut self, command: Value) -> Value {
        self.script.ask(command)
    }

    fn fresh(&mut self, functions: &[&str]) {
        self.ask(json!({"do": "fresh", "functions": functions}));
        self.ask(json!({"do": "arm"}));
    }

    /// What was asked since the last call, all of it right by the services' model.
    fn told(&mut self) -> Value {
        let told = self.ask(json!({"do": "told"}));
        assert_eq!(told["wrong"], json!([]), "{}", told["requests"]);
        self.ask(json!({"do": "arm"}));
        told
    }

    fn command(&self, timetable: &Path, arguments: &[&str]) -> Command {
        let mut command = infra_command(&["--json", "--timetable"]);
        command.arg(timetable).args(arguments).envs([
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "x"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
        ]);
        command
    }

    /// Runs it to its end; its answer.
    #[track_caller]
    fn run(&self, timetable: &Path, arguments: &[&str]) -> Value {
        let output = self.command(timetable, arguments).output().expect("it starts");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
    }

    /// Runs it, and kills it before its request of that number; whether it came so far.
    fn run_killed_at(&mut self, n: usize, timetable: &Path, arguments: &[&str]) -> bool {
        let (reached, gone) = (self.folder.path().join("reached"), self.folder.path().join("gone"));
        let _ = (fs::remove_file(&reached), fs::remove_file(&gone));
        self.ask(json!({"do": "arm", "stop_at": n, "folder": self.folder.path()}));
        let mut child = self
            .command(timetable, arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        loop {
            if child.try_wait().expect("it is ours").is_some() {
                self.ask(json!({"do": "arm"}));
                return false;
            }
            if reached.exists() {
                child.kill().expect("it is ours");
                child.wait().expect("it is ours");
                fs::write(&gone, "").expect("it is written");
                self.ask(json!({"do": "arm"}));
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A timetable of these rows in a file, by name and expression; none for a row on demand.
fn small(folder: &Path, name: &str, rows: &[(&str, Option<&str>)]) -> PathBuf {
    let mut text =
        "[defaults]\nmemory_mb = 256\ntimeout_s = 300\nzone = \"America/Sao_Paulo\"\n".to_owned();
    for (row, when) in rows {
        let when = when.map_or_else(String::new, |when| format!("when = \"{when}\"\n"));
        text.push_str(&format!("[{row}]\ndoes = \"A task\"\n{when}"));
    }
    let file = folder.join(name);
    fs::write(&file, text).expect("it is written");
    file
}

const TASKS: [&str; 2] = ["sync_otx_pulses", "test_otx_connection"];

fn moto_takes_the_timetable_once() {
    let mut moto = Moto::start();
    let table = timetable();
    let functions: Vec<&str> = table.rows().iter().map(|row| row.name.as_str()).collect();
    moto.fresh(&functions);
    let file = root().join("infra/schedule.toml");
    let planned = moto.run(&file, &["plan"]);
    assert_eq!(moto.told()["writes"], json!([]), "a plan changes nothing");
    moto.run(&file, &["apply", "--dead-letters", "arn:aws:sqs:us-east-1:123456789012:dead"]);
    let rules: usize = table.rows().iter().map(|row| 1 + usize::from(row.when.is_some())).sum();
    let writes = moto.told()["writes"].as_array().expect("a list").len();
    assert_eq!(writes, rules * 3, "a rule, a permission and a target each");
    assert_eq!(planned["changes"].as_array().expect("a list").len(), rules * 3);
    let dump = moto.ask(json!({"do": "dump"}));
    assert_eq!(dump["rules"].as_object().expect("a map").len(), rules);
    let rule = &dump["rules"]["minerva-collect_all_rss_feeds"];
    assert_eq!(rule["ScheduleExpression"], "cron(0 1/2 * * ? *)");
    assert_eq!(rule["tags"], json!([{"Key": "managed-by", "Value": "minerva-infra"}]));
    assert_eq!(rule["targets"][0]["RetryPolicy"]["MaximumEventAgeInSeconds"], 3600);
    let again =
        moto.run(&file, &["apply", "--dead-letters", "arn:aws:sqs:us-east-1:123456789012:dead"]);
    assert_eq!(again["changes"], json!([]));
    assert_eq!(moto.told()["writes"], json!([]), "applied twice, written once");
    // That the model is asked at all.
    for (operation, value) in [
        ("PutRule", json!({"Name": "bad name!"})),
        ("PutRule", json!({"Name": "a", "State": "ON"})),
        (
            "PutTargets",
            json!({"Rule": "a", "Targets": [{"Id": "1", "Arn": "a", "RetryPolicy": {"MaximumRetryAttempts": 186}}]}),
        ),
    ] {
        let wrong = moto.ask(json!({"do": "check", "operation": operation, "value": value}));
        assert_eq!(wrong.as_array().map(Vec::len), Some(1), "{operation}: {wrong}");
    }
}

fn moto_sees_one_write_for_one_change() {
    let mut moto = Moto::start();
    let folder = tempfile::tempdir().expect("a folder");
    let first = small(
        folder.path(),
        "a.toml",
        &[(TASKS[0], Some("cron(0 9 * * ? *)")), (TASKS[1], Some("cron(0 10 * * ? *)"))],
    );
    moto.fresh(&TASKS);
    moto.run(&first, &["apply"]);
    moto.told();
    // A person stops one; the other's hour changes.
    moto.ask(json!({"do": "disable", "rule": "minerva-sync_otx_pulses"}));
    let second = small(
        folder.path(),
        "b.toml",
        &[(TASKS[0], Some("cron(0 9 * * ? *)")), (TASKS[1], Some("cron(0 11 * * ? *)"))],
    );
    let planned = moto.run(&second, &["plan"]);
    assert_eq!(planned["stopped"], json!(["minerva-sync_otx_pulses"]));
    moto.run(&second, &["apply"]);
    assert_eq!(moto.told()["writes"], json!(["PutRule"]));
    // The stopped one's hour changes too, and it stays stopped.
    let third = small(
        folder.path(),
        "c.toml",
        &[(TASKS[0], Some("cron(0 12 * * ? *)")), (TASKS[1], Some("cron(0 11 * * ? *)"))],
    );
    moto.run(&third, &["apply"]);
    assert_eq!(moto.told()["writes"], json!(["PutRule"]));
    let dump = moto.ask(json!({"do": "dump"}));
    let of = |name: &str, key: &str| dump["rules"][name][key].clone();
    assert_eq!(of("minerva-sync_otx_pulses", "State"), "DISABLED");
    assert_eq!(of("minerva-sync_otx_pulses", "ScheduleExpression"), "cron(0 15 * * ? *)");
    assert_eq!(of("minerva-test_otx_connection", "State"), "ENABLED");
    // A row that is gone takes all of its own with it.
    let fourth = small(folder.path(), "d.toml", &[(TASKS[0], Some("cron(0 12 * * ? *)"))]);
    moto.run(&fourth, &["apply"]);
    let writes = moto.told()["writes"].clone();
    let one = ["RemovePermission", "RemoveTargets", "DeleteRule"];
    assert_eq!(writes, json!([one, one].concat()));
    let dump = moto.ask(json!({"do": "dump"}));
    assert_eq!(dump["rules"].as_object().map(serde_json::Map::len), Some(2));
    assert!(dump["permissions"][TASKS[1]].is_null(), "{}", dump["permissions"]);
}

fn moto_is_the_same_after_any_interruption() {
    let mut moto = Moto::start();
    let folder = tempfile::tempdir().expect("a folder");
    let first =
        small(folder.path(), "a.toml", &[(TASKS[0], Some("cron(0 9 * * ? *)")), (TASKS[1], None)]);
    let second = small(folder.path(), "b.toml", &[(TASKS[0], Some("cron(0 22 * * ? *)"))]);
    // From nothing, from one timetable to another, and to nothing.
    let ways: [(Option<&Path>, &Path, &[&str]); 3] = [
        (None, &first, &["apply"]),
        (Some(&first), &second, &["apply"]),
        (Some(&first), &first, &["destroy", "--yes"]),
    ];
    for (from, to, arguments) in ways {
        moto.fresh(&TASKS);
        if let Some(from) = from {
            moto.run(from, &["apply"]);
        }
        moto.run(to, arguments);
        let wanted = moto.ask(json!({"do": "dump"}));
        let mut n = 1;
        loop {
            moto.fresh(&TASKS);
            if let Some(from) = from {
                moto.run(from, &["apply"]);
            }
            if !moto.run_killed_at(n, to, arguments) {
                break;
            }
            moto.run(to, arguments);
            assert_eq!(
                moto.ask(json!({"do": "dump"})),
                wanted,
                "killed before request {n} of {arguments:?}"
            );
            moto.told();
            n += 1;
        }
        assert!(n > 8, "{n} requests: it was never interrupted where it writes");
    }
}

fn moto_pages_and_fails_in_between() {
    let mut moto = Moto::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file =
        small(folder.path(), "a.toml", &[(TASKS[0], Some("cron(0 9 * * ? *)")), (TASKS[1], None)]);
    moto.fresh(&TASKS);
    moto.run(&file, &["apply"]);
    let wanted = moto.ask(json!({"do": "dump"}));
    let requests = moto.told()["count"].as_u64().expect("a number");
    moto.fresh(&TASKS);
    moto.ask(json!({"do": "arm", "answers": {"1": 429, "4": 500, "6": 429, "7": 500, "10": 429, "12": 500}}));
    moto.run(&file, &["apply"]);
    assert_eq!(moto.ask(json!({"do": "dump"})), wanted);
    assert_eq!(moto.told()["count"], requests + 6, "each failure costs one more request");
    // A service that fails for good is given up, after a bounded number of tries.
    moto.fresh(&TASKS);
    let always: BTreeMap<String, u32> = (1..100).map(|n| (n.to_string(), 500)).collect();
    moto.ask(json!({"do": "arm", "answers": always}));
    let output = moto.command(&file, &["apply"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(moto.told()["count"], 5);
    // Nobody there.
    let output = moto
        .command(&file, &["plan"])
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
}

fn moto_keeps_what_is_not_ours() {
    let mut moto = Moto::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file =
        small(folder.path(), "a.toml", &[(TASKS[0], Some("cron(0 9 * * ? *)")), (TASKS[1], None)]);
    let foreign: Vec<String> = (0..120)
        .map(|n| if n % 3 == 0 { format!("other-{n}") } else { format!("minerva-their-{n}") })
        .collect();
    moto.ask(json!({"do": "fresh", "functions": TASKS, "foreign": foreign}));
    moto.ask(json!({"do": "arm"}));
    let of_others = |dump: &Value| -> BTreeMap<String, Value> {
        let rules = dump["rules"].as_object().expect("a map");
        rules
            .iter()
            .filter(|(name, _)| foreign.contains(name))
            .map(|(name, rule)| (name.clone(), rule.clone()))
            .collect()
    };
    let before = moto.ask(json!({"do": "dump"}));
    assert_eq!(of_others(&before).len(), 120);
    moto.run(&file, &["apply"]);
    // Nobody at the terminal: nothing goes.
    let output = moto.command(&file, &["destroy"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("--yes"), "{}", said(&output));
    assert_eq!(
        moto.ask(json!({"do": "dump"}))["rules"].as_object().map(serde_json::Map::len),
        Some(123)
    );
    let gone = moto.run(&file, &["destroy", "--yes"]);
    assert_eq!(gone["foreign"].as_array().map(Vec::len), Some(80));
    assert_eq!(moto.ask(json!({"do": "dump"})), before, "as it was before anything of ours");
    // A foreign rule that has a name of ours is never taken.
    moto.ask(json!({"do": "fresh", "functions": TASKS, "foreign": ["minerva-sync_otx_pulses"]}));
    moto.ask(json!({"do": "arm"}));
    let output = moto.command(&file, &["apply"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(moto.told()["writes"], json!([]));
    // Nor is anything begun where a function is missing.
    moto.fresh(&TASKS[..1]);
    let output = moto.command(&file, &["apply"]).output().expect("it starts");
    assert!(
        output.status.code() == Some(2) && said(&output).contains("`test_otx_connection`"),
        "{}",
        said(&output)
    );
    assert_eq!(moto.told()["writes"], json!([]));
}
