//! The cloud as `infra` makes it: the same instants as at home, a template that is whole and no more, rules that are kept
//! right through every interruption.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use base::config;
use infra::plan::{self, Plan, Target};
use infra::template::{self, Architecture};
use infra::{cost, utc};
use jiff::Timestamp;
use schedule::{Api, Schedule, Timetable, zone};
use serde_json::Value;

use crate::cron::{Random, setting};

pub(crate) mod moto;
pub(crate) mod roles;
pub(crate) mod wiring;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("every_row_fires_in_both_homes_at_once", every_row_fires_in_both_homes_at_once),
    (
        "a_zone_whose_clocks_change_is_kept_for_scheduler",
        a_zone_whose_clocks_change_is_kept_for_scheduler,
    ),
    ("any_row_is_equal_or_refused", any_row_is_equal_or_refused),
    ("what_is_rendered_is_fresh", what_is_rendered_is_fresh),
    ("a_month_costs_less_than_a_dollar", a_month_costs_less_than_a_dollar),
    ("the_command_line_tells_what_is_wrong", the_command_line_tells_what_is_wrong),
];

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace")
}

fn timetable() -> Timetable {
    Timetable::parse(infra::TIMETABLE).expect("the timetable can be read")
}

/// The template of a target, as a program reads it.
fn rendered(target: Target) -> Value {
    let timetable = timetable();
    let plan = Plan::of(&timetable, target).expect("every row has rules");
    template::template(&plan, target, Architecture::Arm64).json()
}

// Time

/// The next firings of several rules together.
fn fired(rules: &[Schedule], after: Timestamp, count: usize) -> Vec<Timestamp> {
    let first = utc::next_of(rules, after);
    std::iter::successors(first, |at| utc::next_of(rules, *at)).take(count).collect()
}

fn every_row_fires_in_both_homes_at_once() {
    let timetable = timetable();
    let plan = Plan::of(&timetable, Target::Rules).expect("every row has rules");
    let mut timed = 0;
    for function in &plan.functions {
        let Some(when) = &function.row.when else {
            assert!(function.starts.is_empty(), "`{}` runs on demand", function.row.name);
            continue;
        };
        let rules: Vec<Schedule> = function
            .starts
            .iter()
            .map(|start| Schedule::parse(&start.expression, Api::Rule).expect("a rule takes it"))
            .collect();
        for after in ["2026-11-29T00:00:00Z", "2028-02-27T12:00:00Z", "2040-12-31T23:59:59Z"] {
            let after: Timestamp = after.parse().expect("an instant");
            let local: Vec<Timestamp> =
                when.firings_after(after, timetable.zone()).take(1_000).collect();
            assert_eq!(local.len(), 1_000);
            assert_eq!(fired(&rules, after, 1_000), local, "`{}`", function.row.name);
        }
        timed += 1;
    }
    assert_eq!(timed, timetable.rows().iter().filter(|row| row.when.is_some()).count());
    assert_eq!(plan.functions.len(), 27);
}

/// The timetable's rows in another zone.
fn moved_to(zone: &str) -> Timetable {
    let text = infra::TIMETABLE.replace("America/Sao_Paulo", zone);
    Timetable::parse(&text).expect("the timetable can be read")
}

fn a_zone_whose_clocks_change_is_kept_for_scheduler() {
    let timetable = moved_to("America/New_York");
    let plan = Plan::of(&timetable, Target::Scheduler).expect("Scheduler takes any zone");
    let template = template::template(&plan, Target::Scheduler, Architecture::Arm64).json();
    let mut timed = 0;
    for resource in template["Resources"].as_object().expect("a map").values() {
        if resource["Type"] != "AWS::Scheduler::Schedule" {
            continue;
        }
        let of = |name: &str| resource["Properties"][name].as_str().expect("a text").to_owned();
        let schedule =
            Schedule::parse(&of("ScheduleExpression"), Api::Scheduler).expect("it takes it");
        let zone = zone(&of("ScheduleExpressionTimezone")).expect("there is one");
        let task = of("Name").replace(plan::PREFIX, "");
        let when = timetable.row(&task).and_then(|row| row.when.as_ref()).expect("a row");
        let after: Timestamp = "2026-11-29T00:00:00Z".parse().expect("an instant");
        let local: Vec<Timestamp> =
            when.firings_after(after, timetable.zone()).take(1_000).collect();
        assert_eq!(
            schedule.firings_after(after, &zone).take(1_000).collect::<Vec<_>>(),
            local,
            "`{task}`"
        );
        timed += 1;
    }
    assert_eq!(timed, 10);
    let error = Plan::of(&timetable, Target::Rules).err().expect("no rule has a zone").to_string();
    for row in timetable.rows().iter().filter(|row| row.when.is_some()) {
        assert!(error.contains(&format!("`{}`", row.name)), "{error}");
    }
    assert!(error.contains("differs first at 2026-03-08T"), "{error}");
}

/// Zones with no change, with halves and quarters of an hour, with changes, one that has its second pass at midnight.
const ZONES: [&str; 14] = [
    "America/Sao_Paulo",
    "UTC",
    "Asia/Tokyo",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "Pacific/Marquesas",
    "America/New_York",
    "Europe/Lisbon",
    "Australia/Lord_Howe",
    "America/Havana",
    "Africa/Casablanca",
    "Pacific/Chatham",
];

/// Random expressions in random zones: what is rendered fires when the row does, looked at from instants of this test's
/// own; what is refused names an instant at which both differ.
fn any_row_is_equal_or_refused() {
    let cases = setting("MINERVA_CLOUD_CASES", 300);
    let seed = setting("MINERVA_CLOUD_SEED", 20_261_129);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let (mut failures, mut equal) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    let stride = (first..cases).step_by(threads as usize);
                    stride.map(|case| compared(seed, case)).collect::<Vec<_>>()
                })
            })
            .collect();
        for result in workers.into_iter().flat_map(|worker| worker.join().expect("it only returns"))
        {
            match result {
                Ok(is_equal) => equal += u64::from(is_equal),
                Err(why) => failures.push(why),
            }
        }
    });
    assert!(failures.is_empty(), "with MINERVA_CLOUD_SEED={seed}:\n{}", failures.join("\n"));
    assert!(equal * 5 > cases, "{equal} of {cases} were rendered: all refused would prove nothing");
}

fn compared(seed: u64, case: u64) -> Result<bool, String> {
    let mut random = Random::of(seed, case);
    let text = format!("cron({})", random.expression());
    let name = ZONES[random.below(ZONES.len() as u64) as usize];
    let when =
        Schedule::parse(&text, Api::Rule).map_err(|error| format!("case {case}: {error}"))?;
    let zone = zone(name).expect("there is one");
    let said = |why: String| format!("case {case}: `{text}` in `{name}`: {why}");
    match utc::rules(&when, &zone) {
        Ok(texts) => {
            let rules: Vec<Schedule> = texts
                .iter()
                .map(|text| {
                    Schedule::parse(text, Api::Rule).map_err(|error| said(error.to_string()))
                })
                .collect::<Result<_, _>>()?;
            for _ in 0..6 {
                // From 2026, for 24 years.
                let second = 1_767_225_600 + random.below(757_382_400) as i64;
                let after = Timestamp::from_second(second).expect("it is in range");
                let coming = |at: &Timestamp| *at < utc::END;
                let local = when.firings_after(after, &zone).take_while(coming);
                let local: Vec<Timestamp> = local.take(20).collect();
                let mut rule = fired(&rules, after, 20);
                rule.retain(coming);
                if local != rule {
                    return Err(said(format!("{texts:?} after {after}: {rule:?}, not {local:?}")));
                }
            }
            Ok(true)
        }
        Err(refused) => {
            if refused.differs_at.is_none()
                && refused.why != "it never fires again"
                && refused.why.contains("rate")
            {
                return Err(said(refused.why));
            }
            Ok(false)
        }
    }
}

// What is rendered

fn what_is_rendered_is_fresh() {
    let mut stale = Vec::new();
    for target in [Target::Rules, Target::Scheduler] {
        let files = infra::files(&timetable(), target, Architecture::Arm64).expect("it renders");
        let again = infra::files(&timetable(), target, Architecture::Arm64).expect("it renders");
        assert_eq!(files, again, "rendering twice gives equal bytes");
        for (name, text) in files {
            let path = root().join("infra").join(name);
            if fs::read_to_string(&path).unwrap_or_default() == text {
                continue;
            }
            stale.push(name);
            if config::variable("CI").is_none() {
                fs::write(&path, text).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }
    let page = root().join("docs/CLOUD.md");
    let text = fs::read_to_string(&page).unwrap_or_default();
    let fresh = with_bill(&text);
    if fresh != text {
        stale.push("docs/CLOUD.md");
        if config::variable("CI").is_none() {
            fs::write(&page, fresh).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        }
    }
    assert!(
        stale.is_empty(),
        "{stale:?} were stale; `cargo test` has rewritten them (not in CI): look at the difference and commit it"
    );
}

const BILL_BEGINS: &str = "<!-- the bill: generated by `cargo test` -->\n";
const BILL_ENDS: &str = "<!-- the end of the bill -->\n";

/// The guide with the bill of today's timetable.
fn with_bill(page: &str) -> String {
    let (before, rest) = page.split_once(BILL_BEGINS).expect("the guide has a place for the bill");
    let (_, after) = rest.split_once(BILL_ENDS).expect("its end is marked");
    format!("{before}{BILL_BEGINS}{}{BILL_ENDS}{after}", bill(0).page())
}

/// The bill of the timetable, with so many alarms more than the template has.
fn bill(alarms: usize) -> cost::Bill {
    let timetable = timetable();
    let plan = Plan::of(&timetable, Target::Rules).expect("every row has rules");
    let mut template = template::template(&plan, Target::Rules, Architecture::Arm64);
    let infra::yaml::Node::Map(sections) = &mut template else { panic!("a template is a map") };
    let resources = sections.iter_mut().find(|(name, _)| name == "Resources");
    let Some((_, infra::yaml::Node::Map(resources))) = resources else {
        panic!("it has resources")
    };
    for n in 0..alarms {
        resources.push((
            format!("Planted{n}"),
            infra::yaml::map([("Type", "AWS::CloudWatch::Alarm".into())]),
        ));
    }
    cost::bill(&timetable, &template, Architecture::Arm64)
}

fn a_month_costs_less_than_a_dollar() {
    let planned = bill(0);
    assert!(planned.dollars < cost::LIMIT, "{}", planned.page());
    assert!(planned.dollars > 0.5, "a bill without alarms and metrics is none: {}", planned.page());
    assert_eq!(planned.rows.len(), 10);
    assert!(bill(27).dollars > cost::LIMIT, "27 alarms cost more than all the rest");
    for target in [Target::Rules, Target::Scheduler] {
        let template = rendered(target);
        let alarms = resources(&template, "AWS::CloudWatch::Alarm").len();
        assert!((1..=5).contains(&alarms), "{alarms} alarms");
    }
}

// The command

fn infra_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloud"));
    command.args(arguments).stdin(Stdio::null()).env_clear();
    command
}

fn the_command_line_tells_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("schedule.toml");
    let told = |arguments: &[&str]| {
        let output = infra_command(arguments).output().expect("it starts");
        (output.status.code(), said(&output))
    };
    let (code, text) = told(&["plam"]);
    assert!(code == Some(2) && text.contains("'plan'"), "{code:?} {text}");
    let (code, text) = told(&["--json", "plan", "--dead-leters", "x"]);
    assert!(code == Some(2) && text.contains("\"class\": \"config\""), "{code:?} {text}");
    // No Region, and nobody is asked.
    let (code, text) = told(&["plan"]);
    assert!(code == Some(2) && text.contains("AWS_REGION"), "{code:?} {text}");
    fs::write(&file, infra::TIMETABLE.replace("cron(0 3 * * ? *)", "cron(0 24 * * ? *)"))
        .expect("it is written");
    let path = file.to_str().expect("a text");
    let (code, text) = told(&["--timetable", path, "render", "--check"]);
    assert!(code == Some(2) && text.contains("`24` is not an hour"), "{code:?} {text}");
    fs::write(&file, infra::TIMETABLE.replace("cron(0 3 * * ? *)", "cron(0 22 15W * ? *)"))
        .expect("it is written");
    let out = folder.path().join("out");
    let out = out.to_str().expect("a text");
    let (code, text) = told(&["--timetable", path, "render", "--out", out]);
    assert!(
        code == Some(2)
            && text.contains("`bulk_enrich_iocs`")
            && text.contains("2026-01-15T01:00:00Z"),
        "{code:?} {text}"
    );
    assert!(text.contains("--target scheduler"), "{text}");
    let (code, _) = told(&["--timetable", path, "render", "--out", out, "--target", "scheduler"]);
    assert_eq!(code, Some(0));
    let (code, text) =
        told(&["--timetable", path, "render", "--out", out, "--target", "scheduler", "--check"]);
    assert!(code == Some(0) && text.contains("unchanged"), "{code:?} {text}");
    let (code, text) = told(&["render", "--out", out, "--target", "scheduler", "--check"]);
    assert!(code == Some(1) && text.contains("stale"), "{code:?} {text}");
    let wrong_zone = infra::TIMETABLE.replace("America/Sao_Paulo", "America/Sao Paulo");
    fs::write(&file, wrong_zone).expect("it is written");
    let (code, text) = told(&["--timetable", path, "render", "--target", "scheduler"]);
    assert!(code == Some(2) && text.contains("`America/Sao_Paulo`?"), "{code:?} {text}");
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// A program beside the tests, that answers each line of JSON with one, and ends with its input.
pub(crate) struct Script {
    process: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Script {
    /// Starts a script of this folder by the Python of these programs.
    pub(crate) fn start(programs: &Path, script: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it").join(script);
        let mut process = Command::new(programs.join("python"))
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let (to, from) =
            (process.stdin.take(), BufReader::new(process.stdout.take().expect("it is piped")));
        Self { process, to, from }
    }

    pub(crate) fn tell(&mut self, line: &Value) {
        writeln!(self.to.as_mut().expect("it is open"), "{line}").expect("it listens");
    }

    pub(crate) fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.from.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"))
    }

    #[expect(clippy::needless_pass_by_value, reason = "written where it is sent")]
    pub(crate) fn ask(&mut self, command: Value) -> Value {
        self.tell(&command);
        let answer = self.answer();
        assert!(answer["failed"].is_null(), "{command}: {}", answer["failed"]);
        answer
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.to.take());
        let _ = self.process.wait();
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn resources<'a>(template: &'a Value, kind: &str) -> Vec<(&'a String, &'a Value)> {
    let all = template["Resources"].as_object().expect("a map");
    all.iter().filter(|(_, resource)| resource["Type"] == kind).collect()
}
