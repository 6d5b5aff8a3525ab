//! The whole stack at MiniStack, which runs functions as processes of this machine; and docs/CLOUD.md, command by command.
//!
//! What MiniStack does not do as AWS does, and what is done about it here and never in the template: it tells a function no
//! endpoint (it and every function get one in their environment), knows one architecture (the one of this machine is
//! rendered), and does not hold a call against the function's role (`cloud::a_role_allows_what_its_code_calls` does).

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use base::clock::Clock;
use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tests::services::postgres;
use tests::services::search::{Kind, service};

use crate::cloud::{Script, said};
use crate::copy::Servers;
use crate::documents::cache;
use crate::home::{ALL, Home, Upstream, eventually_within, numbered};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("what_is_deployed_runs_at_its_minute_and_goes_on", what_is_deployed_runs_at_its_minute),
    ("every_command_of_the_guide_is_run", every_command_of_the_guide_is_run),
];

const MINISTACK: [&str; 2] = ["ministack==1.5.33", "aws-sam-translator==1.115.0"];

/// Apart from MiniStack, whose own clients are of another version.
const CLIENTS: [&str; 2] = ["aws-sam-cli==1.170.0", "awscli==1.46.3"];

/// The document server that the functions write to.
const SERVER: Kind = Kind::Elasticsearch8;

/// As the functions are built here.
const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

/// A deployment, a minute to wait for, a run of two steps: each on a machine that is busy with others.
const PATIENCE: Duration = Duration::from_secs(240);

/// Sources of the timed run, each of which takes so long that two at once do not all fit in `TIMEOUT_S`.
const SOURCES: usize = 12;
const SLOW: Duration = Duration::from_secs(5);
const TIMEOUT_S: u32 = 30;
const ITEMS: usize = 3;

/// Why these trials cannot run here, if they cannot.
pub(crate) fn unavailable() -> Option<String> {
    let programs =
        || tests::pypi::programs(cache(), &MINISTACK).and(tests::pypi::programs(cache(), &CLIENTS));
    let is_here = |name: &str| Command::new(name).arg("--version").output().err();
    ["git", "strip"]
        .into_iter()
        .find_map(|name| is_here(name).map(|cause| format!("`{name}`: {cause}")))
        .or_else(|| programs().err())
        .or_else(|| postgres::url().err().map(ToOwned::to_owned))
        .or_else(|| service(SERVER).unavailable(cache()))
}

/// AWS, its two clients and a folder in which they work; the stores are apart.
struct Cloud {
    script: Script,
    endpoint: String,
    servers: Servers,
    folder: tempfile::TempDir,
}

impl Cloud {
    /// Starts it, with functions that collect from these sources.
    fn start(sources: &[(String, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("sources.toml");
        let rows = sources.iter().map(|(id, url)| {
            format!(
                "[[source]]\nid = {id:?}\nname = {id:?}\nurl = {url:?}\ncategory = \"malware\"\n\n"
            )
        });
        fs::write(&list, rows.collect::<String>()).unwrap();
        // The two that every person has, so that neither of ours is read.
        fs::create_dir(folder.path().join(".aws")).unwrap();
        // Version 1 of the AWS CLI, the one that PyPI has, would fetch a value that is an address.
        fs::write(folder.path().join(".aws/config"), "[default]\ncli_follow_urlparam = false\n")
            .unwrap();
        let programs = tests::pypi::programs(cache(), &MINISTACK)
            .expect("this test is skipped where there is none");
        let mut script = Script::start(&programs, "ministack.py");
        script.tell(&json!({
            "HOME": folder.path(), "TMPDIR": folder.path(),
            "RSS_SOURCES": list, "MINERVA_ALLOW_NETS": "127.0.0.0/8",
        }));
        let endpoint = script.answer()["endpoint"].as_str().unwrap().to_owned();
        Self { script, endpoint, servers: Servers::new(SERVER), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ask(&mut self, command: Value) -> Value {
        self.script.ask(command)
    }

    /// All that there is in the Region of the guide.
    fn seen(&mut self) -> Value {
        self.ask(json!({"do": "seen"}))
    }

    /// What each invocation of any function logged, as lists of lines.
    fn invocations(&mut self) -> Value {
        self.ask(json!({"do": "invocations", "group": "/minerva"}))
    }

    /// A program in the folder, with the clients on its path and nothing of this process's environment.
    fn command(&self, program: &str) -> Command {
        let clients = tests::pypi::programs(cache(), &CLIENTS)
            .expect("this test is skipped where there is none");
        let path = format!("{}:{}:/usr/bin:/bin", self.path("bin").display(), clients.display());
        let mut command = Command::new("/usr/bin/env");
        command.arg(program).current_dir(self.folder.path()).stdin(Stdio::null()).env_clear().envs(
            [
                ("PATH", path.as_str()),
                ("HOME", self.folder.path().to_str().unwrap()),
                ("AWS_ENDPOINT_URL", &self.endpoint),
                ("AWS_ACCESS_KEY_ID", ACCOUNT),
                ("AWS_SECRET_ACCESS_KEY", "test"),
                ("SAM_CLI_TELEMETRY", "0"),
            ],
        );
        command.envs(self.servers.all());
        command
    }

    /// Runs `sam` in the Region of the guide; what it said.
    #[track_caller]
    fn sam(&self, arguments: &[&str]) -> String {
        let output = self
            .command("sam")
            .args(arguments)
            .env("AWS_DEFAULT_REGION", "sa-east-1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    /// Deploys the template of the folder.
    #[track_caller]
    fn deploy(&self) -> String {
        let settings = self.servers.all();
        let (_, prefix) = settings.iter().find(|(name, _)| name == "ES_INDEX_PREFIX").unwrap();
        self.sam(&[
            "deploy",
            "-t",
            "infra/template.yaml",
            "--stack-name",
            "minerva",
            "--resolve-s3",
            "--capabilities",
            "CAPABILITY_IAM",
            "--no-fail-on-empty-changeset",
            "--parameter-overrides",
            &format!("EsIndexPrefix={prefix}"),
        ])
    }

    /// What the functions are made of: these are what they are, but for debugging symbols; each other ends at once and so
    /// fails, should anything ever reach it.
    fn build(&self, real: &[&str]) {
        let bootstrap = self.path("bootstrap");
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(&bootstrap).arg(env!("CARGO_BIN_EXE_bootstrap"));
        assert!(strip.status().unwrap().success());
        for task in tasks(infra::TIMETABLE) {
            let folder = self.path("built").join(&task);
            fs::create_dir_all(&folder).unwrap();
            let is_real = real.contains(&task.as_str());
            let from = if is_real { bootstrap.as_path() } else { Path::new("/bin/true") };
            fs::copy(from, folder.join("bootstrap")).unwrap();
        }
    }

    /// The runner on the functions' stores.
    fn home(&self) -> Home {
        let mut home = Home::of(&[]);
        for (name, value) in self.servers.all() {
            home = home.with(&name, value);
        }
        home
    }
}

/// The tasks of a timetable.
fn tasks(timetable: &str) -> Vec<String> {
    let table: toml::Table = timetable.parse().unwrap();
    table.keys().filter(|name| *name != "defaults").cloned().collect()
}

/// Where two values differ, as paths.
fn differences(left: &Value, right: &Value) -> BTreeSet<String> {
    fn walk(left: &Value, right: &Value, path: &str, found: &mut BTreeSet<String>) {
        if let (Value::Object(a), Value::Object(b)) = (left, right) {
            for key in a.keys().chain(b.keys()) {
                walk(&left[key], &right[key], &format!("{path}/{key}"), found);
            }
        } else if left != right {
            found.insert(path.to_owned());
        }
    }
    let mut found = BTreeSet::new();
    walk(left, right, "", &mut found);
    found
}

/// Every rule starts one function, which lets it, and every function is as its row says.
fn is_whole(seen: &Value, timetable: &Value) {
    let list = |value: &Value| value.as_array().unwrap().clone();
    let rows = list(&timetable["tasks"]);
    let functions = seen["functions"].as_object().unwrap();
    assert_eq!((functions.len(), rows.len()), (27, 27));
    let mut expected = BTreeSet::new();
    for row in &rows {
        let task = row["task"].as_str().unwrap();
        let function = &functions[task];
        let told = ["Timeout", "MemorySize", "Runtime"].map(|key| &function[key]);
        let runtime = json!("provided.al2023");
        assert_eq!(told, [&row["timeout_s"], &row["memory_mb"], &runtime], "{task}");
        assert_eq!(function["LoggingConfig"]["LogGroup"], "/minerva", "{task}");
        assert_eq!(function["Architectures"], json!([ARCH]), "{task}");
        let family = infra::template::logical(row["family"].as_str().unwrap());
        let role = function["Role"].as_str().unwrap().rsplit_once('/').unwrap().1;
        assert!(role.starts_with(&format!("minerva-{family}Role-")), "{task}: {role}");
        let policies = &seen["roles"][role]["Policies"];
        assert!(policies["runs"].is_object(), "{role}: {policies}");
        let mut callers: Vec<&str> = function["Policy"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                assert_eq!(one["Principal"]["Service"], "events.amazonaws.com", "{task}: {one}");
                one["Condition"]["ArnLike"]["AWS:SourceArn"]
                    .as_str()
                    .unwrap()
                    .rsplit_once('/')
                    .unwrap()
                    .1
            })
            .collect();
        callers.sort_unstable();
        let mut rules: Vec<&Value> = row["rules"].as_array().unwrap().iter().collect();
        rules.push(&row["continuation"]);
        let mut names: Vec<&str> =
            rules.iter().map(|rule| rule["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(callers, names, "{task}");
        for row in rules {
            let name = row["name"].as_str().unwrap();
            let rule = &seen["rules"][name];
            let stored = rule["EventPattern"]
                .as_str()
                .map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
            let when = (&rule["ScheduleExpression"], &stored);
            assert_eq!(when, (&row["expression"], &row["pattern"]), "{name}");
            let targets = rule["Targets"].as_array().unwrap();
            let arn = targets[0]["Arn"].as_str().unwrap();
            assert!(targets.len() == 1 && arn.ends_with(&format!(":function:{task}")), "{rule}");
            expected.insert(name.to_owned());
        }
    }
    let rules: BTreeSet<String> = seen["rules"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(rules, expected);
    let sizes =
        ["roles", "queues", "alarms", "filters"].map(|kind| seen[kind].as_object().unwrap().len());
    assert_eq!(sizes, [6, 1, 3, 1], "{seen}");
    assert_eq!(seen["log_groups"], json!({"/minerva": 30}));
    let queue = seen["queues"].as_object().unwrap().values().next().unwrap();
    assert!(
        queue.as_str().is_some_and(|policy| policy.contains("events.amazonaws.com")),
        "{queue}"
    );
}

/// What is left of the Region once the stack is gone: SAM's own bucket, and no more.
fn is_empty(seen: &Value) {
    let mut expected = json!({"stacks": ["aws-sam-cli-managed-default"]});
    for kind in ["rules", "functions", "roles", "log_groups", "filters", "queues", "alarms"] {
        expected[kind] = json!({});
    }
    assert_eq!(*seen, expected);
}

/// Writes a timetable and what is rendered from it into a folder; the list of rows.
fn render(cloud: &Cloud, folder: &str, timetable: &str) -> Value {
    let folder = cloud.path(folder);
    let infra = folder.join("infra");
    fs::create_dir_all(&infra).unwrap();
    fs::write(infra.join("schedule.toml"), timetable).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cloud"))
        .args(["--timetable", "infra/schedule.toml", "render", "--arch", ARCH])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&fs::read(infra.join("timetable.json")).unwrap()).unwrap()
}

/// How often any function was invoked: of all, the one of `ALL` alone was.
#[track_caller]
fn invoked(cloud: &mut Cloud) -> u64 {
    let all = cloud.invocations();
    let all = all.as_array().unwrap();
    let task = format!("\"task\":\"{ALL}\"");
    for lines in all {
        let text = lines.as_array().unwrap().iter().filter_map(Value::as_str).collect::<String>();
        assert!(text.contains("START RequestId") && text.contains(&task), "{lines}");
    }
    all.len() as u64
}

/// Statements 17, 18 and 19 of what the cloud owes.
fn what_is_deployed_runs_at_its_minute() {
    let upstream = Upstream::start(1);
    let sources: Vec<(String, String)> = (0..SOURCES)
        .map(|number| {
            let id = format!("s-{number:02}");
            let url = upstream.slow(&id, SLOW, numbered(number, ITEMS));
            (id, url)
        })
        .collect();
    let mut cloud = Cloud::start(&sources);
    let row = format!("[{ALL}]\n");
    // No row is due while this goes on but the one that is meant to be.
    let minute = (Clock::Machine.now(None).to_zoned(TimeZone::UTC).minute() + 30) % 60;
    let timetable = infra::TIMETABLE
        .replace(&row, &format!("{row}timeout_s = {TIMEOUT_S}\n"))
        .replace("cron(0 ", &format!("cron({minute} "))
        .replace("cron(30 ", &format!("cron({minute} "));
    cloud.build(&rss::FAMILY.tasks.iter().map(|task| task.name).collect::<Vec<_>>());
    let rows = render(&cloud, ".", &timetable);
    let packaged = Command::new(env!("CARGO_BIN_EXE_cloud"))
        .args(["package", "--no-build", "--from", "built", "--arch", ARCH])
        .current_dir(cloud.folder.path())
        .output()
        .unwrap();
    assert!(packaged.status.success(), "{}", said(&packaged));
    for (name, value) in cloud.servers.all() {
        cloud.ask(json!({"do": "call", "service": "ssm", "operation": "put_parameter", "with": {
            "Name": format!("/minerva/rss/{name}"), "Type": "SecureString", "Value": value,
        }}));
    }

    cloud.deploy();
    let first = cloud.seen();
    is_whole(&first, &rows);
    let again = cloud.deploy();
    assert!(again.contains("No changes to deploy"), "{again}");
    assert_eq!(cloud.seen(), first);

    // One cron changed: to a minute that comes soon, as a clock in São Paulo shows it.
    let zone = TimeZone::get("America/Sao_Paulo").unwrap();
    let soon = Clock::Machine.now(None).to_zoned(zone) + 80.seconds();
    let slot = soon
        .round(jiff::ZonedRound::new().smallest(jiff::Unit::Minute).mode(jiff::RoundMode::Ceil))
        .unwrap();
    let when = format!("cron({} {} * * ? *)", slot.minute(), slot.hour());
    let (before, after) = timetable.split_once(&row).unwrap();
    let changed = format!(
        "{before}{row}{}",
        after.replacen(&format!("cron({minute} 0/2 * * ? *)"), &when, 1)
    );
    let rows = render(&cloud, ".", &changed);
    cloud.deploy();
    let second = cloud.seen();
    is_whole(&second, &rows);
    let paths = [
        format!("/functions/{ALL}/Environment/Variables/MINERVA_WHEN"),
        format!("/rules/minerva-{ALL}/ScheduleExpression"),
    ];
    assert_eq!(differences(&first, &second), BTreeSet::from(paths));
    let slot = slot.timestamp();

    // Its minute comes, its time runs out on real stores, and the rest comes back to it.
    let tap = cloud.ask(json!({"do": "tap"}));
    let home = cloud.home();
    let runs = || home.run(&["runs", "--json"]);
    let is_complete = || {
        let ran = runs();
        ran.code == Some(0) && ran.json()[0]["status"] == "complete"
    };
    if !eventually_within(PATIENCE, || {
        std::thread::sleep(Duration::from_millis(500));
        is_complete()
    }) {
        panic!("{:?} {}", runs(), cloud.invocations());
    }
    let ran = runs().json();
    assert_eq!(ran.as_array().unwrap().len(), 1, "{ran}");
    let run = &ran[0];
    assert_eq!((&run["task"], &run["slot"]), (&json!(ALL), &json!(slot.to_string())), "{run}");
    // What a step had stored of a source when its time ran out, the next one finds unchanged.
    assert_eq!(run["report"]["found"], json!(SOURCES * ITEMS), "{run}");
    assert_eq!(home.documents().lines().count(), SOURCES * ITEMS);
    let events = cloud.ask(json!({"do": "tapped", "url": tap}));
    let sent = events.as_array().unwrap();
    let first_of = &sent[0]["detail"];
    let expected = json!({"task": ALL, "run_id": run["run_id"], "step": 1});
    assert_eq!(*first_of, expected, "{events}");
    // The platform's own lines come last.
    let steps = 1 + sent.len() as u64;
    assert!(eventually_within(PATIENCE, || invoked(&mut cloud) >= steps), "{run}");
    let steps = invoked(&mut cloud);

    // Doubled, it is delivered, and does nothing.
    let (asked, stored) = (upstream.asked("s-00"), home.documents());
    let entry = json!({"Source": "minerva", "DetailType": sent[0]["detail-type"], "Detail": first_of.to_string()});
    cloud.ask(json!({"do": "call", "service": "events", "operation": "put_events", "with": {"Entries": [entry, entry]}}));
    assert!(eventually_within(PATIENCE, || {
        std::thread::sleep(Duration::from_millis(200));
        invoked(&mut cloud) == steps + 2
    }));
    assert_eq!(runs().json(), ran);
    assert_eq!((upstream.asked("s-00"), home.documents()), (asked, stored));

    let logged = cloud.invocations().to_string();
    assert!(logged.contains(run["run_id"].as_str().unwrap()), "{logged}");
    let secret = postgres::PASSWORD.replace('/', "%2F");
    assert!(!logged.contains(&secret) && !logged.contains(postgres::PASSWORD), "{logged}");

    cloud.ask(json!({"do": "untap", "url": tap}));
    cloud.sam(&["delete", "--stack-name", "minerva", "--no-prompts"]);
    is_empty(&cloud.seen());
}

/// A `cargo` for the guide: `infra` and the functions are built already.
///
/// `infra` reads the timetable of the folder, and the functions differ with its version. MiniStack runs them on this machine,
/// so that they are for its architecture.
const CARGO: &str = r#"#!/bin/sh
set -eu
case "$*" in
"run -p infra -- "*)
    shift 4
    case "$*" in
    *--arch*) ;;
    package* | render*) set -- "$@" --arch ARCH ;;
    # There is no terminal to ask on.
    destroy) set -- "$@" --yes ;;
    esac
    exec INFRA --timetable infra/schedule.toml "$@"
    ;;
"lambda build --profile lambda --target "*)
    while [ "$1" != --lambda-dir ]; do shift; done
    for built in BUILT/*; do
        to="$2/$(basename "$built")"
        mkdir -p "$to"
        cat "$built/bootstrap" VERSION >"$to/bootstrap"
    done
    ;;
*)
    echo "cargo $*" >&2
    exit 1
    ;;
esac
"#;

/// A `sam` for the guide, whose functions keep to indices of this trial's own.
const SAM: &str = r#"#!/bin/sh
if [ "$1" = deploy ]; then set -- "$@" "EsIndexPrefix=$ES_INDEX_PREFIX"; fi
exec CLIENTS/sam "$@"
"#;

/// A key of twelve digits is an account of its own.
const ACCOUNT: &str = "000000000000";

/// Where functions are that CloudFormation knows nothing of.
const OTHER_ACCOUNT: &str = "222222222222";

/// The shell blocks of a document, each with the heading that it stands under.
fn blocks(text: &str) -> Vec<(&str, String)> {
    let (mut found, mut heading, mut block): (Vec<(&str, String)>, _, _) = (Vec::new(), "", None);
    for line in text.lines() {
        let bare = line.trim_start();
        match (&mut block, bare.strip_prefix("```")) {
            (None, Some("sh")) => block = Some(String::new()),
            (Some(_), Some(_)) => found.extend(block.take().map(|block| (heading, block))),
            (Some(block), None) => *block += &format!("{line}\n"),
            (None, _) => heading = line.strip_prefix("## ").unwrap_or(heading),
        }
    }
    found
}

/// A repository of two versions, of which the second comes later: one row's hour, and all functions.
fn versions(cloud: &Cloud) -> [Value; 2] {
    let git = |folder: &str, arguments: &[&str]| {
        let output = cloud
            .command("git")
            .current_dir(cloud.path(folder))
            .args(["-c", "user.name=it", "-c", "user.email=it@example.org"])
            .args(["-c", "init.defaultBranch=main"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    };
    let write = |version: u32, timetable: &str| {
        let rows = render(cloud, "origin", timetable);
        fs::write(cloud.path("origin/VERSION"), format!("{version}\n")).unwrap();
        git("origin", &["add", "."]);
        git("origin", &["commit", "-q", "-m", "a version"]);
        git("origin", &["tag", &format!("v{version}")]);
        rows
    };
    fs::create_dir(cloud.path("origin")).unwrap();
    git("origin", &["init", "-q"]);
    fs::write(cloud.path("origin/.gitignore"), "/infra/dist\n/infra/template-*\n/target\n")
        .unwrap();
    let first = write(1, infra::TIMETABLE);
    git(".", &["clone", "-q", "origin", "work"]);
    let row = "[reset_otx_daily_usage]";
    let (before, after) = infra::TIMETABLE.split_once(row).unwrap();
    let after = after.replacen("cron(0 0 * * ? *)", "cron(0 6 * * ? *)", 1);
    [first, write(2, &format!("{before}{row}{after}"))]
}

/// Statement 25.
fn every_command_of_the_guide_is_run() {
    let upstream = Upstream::start(1);
    let source = ("s-00".to_owned(), upstream.body("s-00", numbered(0, ITEMS)));
    let mut cloud = Cloud::start(&[source]);
    let names = tasks(infra::TIMETABLE);
    cloud.build(&["collect_category"]);
    fs::create_dir(cloud.path("bin")).unwrap();
    let clients = tests::pypi::programs(cache(), &CLIENTS).unwrap();
    for (name, script) in [("cargo", CARGO), ("sam", SAM)] {
        let path = cloud.path("bin").join(name);
        let script = script
            .replace("ARCH", ARCH)
            .replace("INFRA", env!("CARGO_BIN_EXE_cloud"))
            .replace("BUILT", cloud.path("built").to_str().unwrap())
            .replace("CLIENTS", clients.to_str().unwrap());
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let [rows_before, rows] = versions(&cloud);
    let queue = cloud
        .ask(json!({"do": "make_functions", "names": names, "account": OTHER_ACCOUNT}))
        .as_str()
        .unwrap()
        .to_owned();
    fs::write(cloud.path("environment"), "").unwrap();

    let text = include_str!("../../docs/CLOUD.md");
    let all = blocks(text);
    assert!(all.len() >= 13, "{all:?}");
    let home = cloud.home();
    let mut first = Value::Null;
    for (heading, block) in all {
        // What only the other machine can do.
        if block.contains("--arch x86_64") && ARCH != "x86_64" {
            continue;
        }
        if block.contains("git pull") {
            cloud.ask(
                json!({"do": "call", "service": "events", "operation": "disable_rule", "with": {
                    "Name": "minerva-sync_otx_pulses",
                }}),
            );
        }
        // What a block exports, the next has.
        let account = if heading == "Without CloudFormation" { OTHER_ACCOUNT } else { ACCOUNT };
        let script = format!(
            "set -eu\n. ../environment\nexport AWS_ACCESS_KEY_ID={account}\n{block}\nexport -p >../environment\n"
        );
        fs::write(cloud.path("answers"), "y\ny\n").unwrap();
        let output: Output = cloud
            .command("sh")
            .args(["-c", &script])
            .current_dir(cloud.path("work"))
            .stdin(fs::File::open(cloud.path("answers")).unwrap())
            .envs([
                ("OTX_API_KEY", "a-key"),
                ("QUEUE_ARN", queue.as_str()),
                ("VERSION_BEFORE", "v1"),
            ])
            .output()
            .unwrap();
        let told = said(&output);
        assert!(output.status.success(), "{heading}: {block}{told}");

        let has = |command: &str| block.contains(command);
        if has("sam remote invoke") {
            let answers = serde_json::Deserializer::from_slice(&output.stdout);
            let report: Value = answers.into_iter().next().unwrap().unwrap();
            assert_eq!(report["status"], "complete", "{told}");
            assert!(
                told.contains("REPORT RequestId") && told.contains("collect_category"),
                "{told}"
            );
            assert_eq!(home.documents().lines().count(), ITEMS, "{told}");
        } else if has("infra -- apply") || has("infra -- destroy") {
            let seen = cloud.ask(json!({"do": "seen", "account": OTHER_ACCOUNT}));
            let rules = seen["rules"].as_object().unwrap().len();
            let expected = if has("infra -- apply") { rules_of(&rows_before) } else { 0 };
            assert_eq!(rules, expected, "{told}");
        } else if has("git pull") {
            let second = cloud.seen();
            let mut paths: BTreeSet<String> =
                names.iter().map(|name| format!("/functions/{name}/CodeSha256")).collect();
            let row = "reset_otx_daily_usage";
            paths.insert(format!("/functions/{row}/Environment/Variables/MINERVA_WHEN"));
            paths.insert(format!("/rules/minerva-{row}/ScheduleExpression"));
            paths.insert("/rules/minerva-sync_otx_pulses/State".to_owned());
            assert_eq!(differences(&first, &second), paths, "{told}");
            assert_eq!(second["rules"]["minerva-sync_otx_pulses"]["State"], "DISABLED");
            is_whole(&second, &rows);
        } else if has("git checkout") {
            assert_eq!(differences(&first, &cloud.seen()), BTreeSet::new(), "{told}");
        } else if has("sam deploy") {
            first = cloud.seen();
            is_whole(&first, &rows_before);
        } else if has("sam delete") {
            is_empty(&cloud.seen());
            let left = cloud.ask(json!({"do": "call", "service": "ssm", "operation": "get_parameters_by_path", "with": {
                "Path": "/minerva", "Recursive": true,
            }}));
            assert_eq!(left["Parameters"], json!([]), "{told}");
        }
    }
    assert!(first.is_object(), "nothing was deployed");
}

/// How many rules these rows have, with that of each row's continuation.
fn rules_of(rows: &Value) -> usize {
    let rows = rows["tasks"].as_array().unwrap();
    rows.iter().map(|row| 1 + row["rules"].as_array().unwrap().len()).sum()
}
