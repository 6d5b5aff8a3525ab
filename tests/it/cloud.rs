//! The cloud as `infra` makes it: the same instants as at home, a template that is whole and no more, rules that are kept
//! right through every interruption.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use base::config;
use infra::families::{self, Access};
use infra::plan::{self, Plan, Target};
use infra::template::{self, Architecture};
use infra::{cost, utc};
use jiff::Timestamp;
use local_runner::families::FAMILIES;
use schedule::{Api, Schedule, Timetable, zone};
use serde_json::{Value, json};

use crate::cron::{Random, setting};
use crate::documents::cache;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("every_row_fires_in_both_homes_at_once", every_row_fires_in_both_homes_at_once),
    (
        "a_zone_whose_clocks_change_is_kept_for_scheduler",
        a_zone_whose_clocks_change_is_kept_for_scheduler,
    ),
    ("any_row_is_equal_or_refused", any_row_is_equal_or_refused),
    ("what_is_rendered_is_fresh", what_is_rendered_is_fresh),
    ("families_are_as_they_declare", families_are_as_they_declare),
    ("a_role_allows_what_its_code_calls", a_role_allows_what_its_code_calls),
    ("nothing_can_be_cut_from_the_template_unseen", nothing_can_be_cut_from_the_template_unseen),
    ("a_month_costs_less_than_a_dollar", a_month_costs_less_than_a_dollar),
    ("the_command_line_tells_what_is_wrong", the_command_line_tells_what_is_wrong),
    ("lint_finds_nothing_in_either_template", lint_finds_nothing_in_either_template),
    ("lint_finds_nothing_in_any_role", lint_finds_nothing_in_any_role),
    ("moto_takes_the_timetable_once", moto_takes_the_timetable_once),
    ("moto_sees_one_write_for_one_change", moto_sees_one_write_for_one_change),
    ("moto_is_the_same_after_any_interruption", moto_is_the_same_after_any_interruption),
    ("moto_pages_and_fails_in_between", moto_pages_and_fails_in_between),
    ("moto_keeps_what_is_not_ours", moto_keeps_what_is_not_ours),
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

// Families

fn families_are_as_they_declare() {
    assert_eq!(plan::SOURCE, task::events::SOURCE);
    assert_eq!(plan::CONTINUATION, task::events::CONTINUATION);
    let telemetry = read(&root().join("shared/task/src/telemetry.rs"));
    assert!(
        telemetry.contains("\"run failed\"") && template::FAILED_RUN.contains("\"run failed\"")
    );
    let timetable = timetable();
    let listed: Vec<&str> =
        families::FAMILIES.iter().flat_map(|family| family.tasks).copied().collect();
    let rows: BTreeSet<&str> = timetable.rows().iter().map(|row| row.name.as_str()).collect();
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), rows);
    assert_eq!(listed.len(), rows.len(), "a task stands in two families");
    let general: BTreeSet<&str> = config::all()
        .into_iter()
        .flat_map(|(_, settings)| settings)
        .map(|setting| setting.name)
        .collect();
    for name in
        families::STORES.iter().chain(families::SHARED_SECRETS).chain(families::SHARED_PLAIN)
    {
        assert!(general.contains(name), "there is no setting `{name}`");
    }
    for family in FAMILIES {
        let ours = families::FAMILIES.iter().find(|ours| ours.name == family.name);
        let ours = ours.unwrap_or_else(|| panic!("`{}` is no family in infra", family.name));
        for task in family.tasks {
            assert!(ours.tasks.contains(&task.name), "`{}` is not of `{}`", task.name, family.name);
        }
        let declared: BTreeSet<&str> =
            family.settings.list.iter().map(|setting| setting.name).collect();
        let is_secret =
            |name: &&&str| ["_KEY", "_TOKEN", "_PASSWORD"].iter().any(|end| name.ends_with(end));
        let secret: BTreeSet<&str> = declared.iter().filter(is_secret).copied().collect();
        let given: BTreeSet<&str> = ours.secrets.iter().copied().collect();
        assert!(
            given.is_superset(&secret),
            "`{}` declares {secret:?}, and is given {given:?}",
            family.name
        );
        for name in ours.secrets.iter().chain(ours.plain) {
            assert!(
                declared.contains(name) || general.contains(name),
                "`{}` declares no `{name}`",
                family.name
            );
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every line of code of a crate, tests left out.
fn code_of(folder: &Path) -> String {
    let mut all = String::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = read(&path);
                all.push_str(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
            }
        }
    }
    all
}

/// What the functions of each family call in AWS, from what their code names: places of files, and what is asked of them.
fn calls_of(family: &str) -> BTreeSet<&'static str> {
    let code = code_of(&root().join("functions").join(family).join("src"));
    let places = read(&root().join("shared/task/src/files.rs"));
    // Each call of the object store, and the action that it needs.
    let needs = |call: &str, action: &'static str| places.contains(call).then_some(action);
    let secrets = read(&root().join("shared/task/src/secrets.rs"));
    let events = read(&root().join("shared/task/src/events.rs"));
    // Lambda itself, in the function's role: its logs, and what failed three times.
    let mut calls =
        BTreeSet::from(["logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage"]);
    let of_all = [
        (&secrets, "\"AmazonSSM.GetParametersByPath\"", "ssm:GetParametersByPath"),
        (&secrets, "\"secretsmanager.GetSecretValue\"", "secretsmanager:GetSecretValue"),
        (&events, ".put_events()", "events:PutEvents"),
    ];
    calls.extend(
        of_all.iter().filter(|(code, call, _)| code.contains(call)).map(|(.., action)| *action),
    );
    let (reads, writes) = (code.contains("Files::at("), code.contains("Outbox::at("));
    if reads || writes {
        calls.extend(needs("store.get(", "s3:GetObject"));
        calls.insert("s3:ListBucket");
    }
    if writes {
        calls.extend(needs("store.put(", "s3:PutObject"));
        calls.extend(needs("store.delete(", "s3:DeleteObject"));
    }
    calls
}

fn a_role_allows_what_its_code_calls() {
    let template = rendered(Target::Rules);
    for family in FAMILIES {
        let id = format!("{}Role", template::logical(family.name));
        let role = &template["Resources"][&id];
        let allowed: BTreeSet<String> = statements(role)
            .iter()
            .filter(|(_, statement)| statement["Sid"] != template::STAR_REASON)
            .flat_map(|(_, statement)| actions(statement))
            .collect();
        let of_vpc = statements(role).into_iter().filter(|(under, _)| under == "InVpc");
        let of_vpc: Vec<String> = of_vpc.flat_map(|(_, statement)| actions(&statement)).collect();
        assert_eq!(of_vpc, INTERFACES.map(|action| format!("ec2:{action}")), "`{}`", family.name);
        let called: BTreeSet<String> =
            calls_of(family.name).into_iter().map(ToOwned::to_owned).collect();
        assert_eq!(allowed, called, "what `{}` may do beside what its code calls", family.name);
        // A setting that may be a bucket is one of the role's, and the other way round.
        let code = code_of(&root().join("functions").join(family.name).join("src"));
        let before: Vec<&str> = code.split("\", folder_or_bucket;").collect();
        let (_, before) = before.split_last().expect("it has a part at least");
        let places: BTreeSet<&str> =
            before.iter().filter_map(|text| text.rsplit('"').next()).collect();
        let ours =
            families::FAMILIES.iter().find(|ours| ours.name == family.name).expect("it is there");
        assert_eq!(
            places,
            ours.buckets.iter().map(|bucket| bucket.setting).collect(),
            "buckets of `{}`",
            family.name
        );
    }
    let writes = families::FAMILIES
        .iter()
        .flat_map(|family| family.buckets)
        .filter(|bucket| bucket.access == Access::Write);
    assert_eq!(writes.count(), 1);
}

/// What Lambda does with a VPC's interfaces, in the function's role.
const INTERFACES: [&str; 6] = [
    "AssignPrivateIpAddresses",
    "CreateNetworkInterface",
    "DeleteNetworkInterface",
    "DescribeNetworkInterfaces",
    "DescribeSubnets",
    "UnassignPrivateIpAddresses",
];

// The template's wiring

fn resources<'a>(template: &'a Value, kind: &str) -> Vec<(&'a String, &'a Value)> {
    let all = template["Resources"].as_object().expect("a map");
    all.iter().filter(|(_, resource)| resource["Type"] == kind).collect()
}

/// A role's statements, each with the condition under which it is there.
fn statements(role: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for policy in role["Properties"]["Policies"].as_array().into_iter().flatten() {
        let (condition, policy) = match policy.get("Fn::If") {
            Some(branches) => (branches[0].as_str().unwrap_or_default().to_owned(), &branches[1]),
            None => (String::new(), policy),
        };
        for statement in policy["PolicyDocument"]["Statement"].as_array().into_iter().flatten() {
            all.push((condition.clone(), statement.clone()));
        }
    }
    all
}

fn actions(statement: &Value) -> Vec<String> {
    let texts = statement["Action"].as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.map(ToOwned::to_owned).collect()
}

fn is_about_all(resource: &Value) -> bool {
    resource == "*" || resource.as_array().is_some_and(|all| all.iter().any(|one| one == "*"))
}

fn arn_of(id: &str) -> Value {
    json!({"Fn::GetAtt": [id, "Arn"]})
}

/// Whether a role allows an action on a resource, where a condition of the template holds or always.
fn allows(role: &Value, condition: &str, action: &str, resource: &Value, test: &Value) -> bool {
    statements(role).iter().any(|(under, statement)| {
        let is_about = match &statement["Resource"] {
            Value::Array(several) => several.contains(resource),
            one => one == resource,
        };
        under == condition
            && statement["Effect"] == "Allow"
            && actions(statement).iter().any(|one| one == action)
            && is_about
            && &statement["Condition"] == test
    })
}

/// Everything that is not wired as it must be: who starts what, who may, where the rest goes.
fn unwired(template: &Value) -> Vec<String> {
    let timetable = timetable();
    let mut wrong = Vec::new();
    let all = &template["Resources"];
    let queue = arn_of("DeadLetters");
    let mut need = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    let of_queue = &all["DeadLetters"]["Properties"];
    need(
        of_queue["SqsManagedSseEnabled"] == true,
        "the queue is not encrypted by its own service".to_owned(),
    );
    need(
        of_queue["KmsMasterKeyId"].is_null() && of_queue["FifoQueue"].is_null(),
        "the queue takes nothing from EventBridge".to_owned(),
    );
    let takes = resources(template, "AWS::SQS::QueuePolicy").iter().any(|(_, policy)| {
        let properties = &policy["Properties"];
        let statements = properties["PolicyDocument"]["Statement"].as_array();
        properties["Queues"] == json!([{"Ref": "DeadLetters"}])
            && statements.into_iter().flatten().any(|statement| {
                let from = statement["Condition"]["ArnLike"]["aws:SourceArn"]["Fn::Sub"].as_str();
                statement["Effect"] == "Allow"
                    && statement["Principal"]["Service"] == "events.amazonaws.com"
                    && actions(statement).contains(&"sqs:SendMessage".to_owned())
                    && statement["Resource"] == queue
                    && from.is_some_and(|from| from.ends_with(&format!(":rule/{}*", plan::PREFIX)))
            })
    });
    need(takes, "the queue takes no dead letters of the rules".to_owned());
    let own = |service: &str, rest: &str| json!({"Fn::Sub": format!("arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{rest}")});
    let none = Value::Null;
    let globals = &template["Globals"]["Function"];
    need(
        globals["LoggingConfig"]["LogGroup"] == json!({"Ref": "Logs"}),
        "functions log elsewhere".to_owned(),
    );
    let invoke = &globals["EventInvokeConfig"];
    need(
        invoke["MaximumEventAgeInSeconds"] == plan::EVENT_AGE_S,
        "Lambda keeps events for another time".to_owned(),
    );
    need(
        invoke["DestinationConfig"]["OnFailure"] == json!({"Type": "SQS", "Destination": queue}),
        "what failed goes nowhere".to_owned(),
    );
    need(
        globals["ReservedConcurrentExecutions"]["Fn::If"][0] == "WithReserve"
            && template["Parameters"]["ReserveConcurrency"]["Default"] == "false",
        "concurrency is reserved by default".to_owned(),
    );
    let groups = resources(template, "AWS::Logs::LogGroup");
    need(
        groups.iter().any(|(id, group)| {
            *id == "Logs"
                && group["Properties"]["LogGroupName"] == template::LOG_GROUP
                && !group["Properties"]["RetentionInDays"].is_null()
        }),
        "logs are kept for ever".to_owned(),
    );
    // Functions and their roles.
    let functions = resources(template, "AWS::Serverless::Function");
    need(functions.len() == 27, format!("{} functions", functions.len()));
    for (id, function) in &functions {
        let properties = &function["Properties"];
        let name = properties["FunctionName"].as_str().unwrap_or_default();
        need(
            properties["CodeUri"] == format!("dist/arm64/{name}")
                && function["Metadata"]["SkipBuild"] == true,
            format!("{id} is not what was built"),
        );
        let role = &all[properties["Role"]["Fn::GetAtt"][0].as_str().unwrap_or_default()];
        let trusted = &role["Properties"]["AssumeRolePolicyDocument"]["Statement"][0];
        need(
            trusted["Principal"]["Service"] == "lambda.amazonaws.com"
                && trusted["Action"] == "sts:AssumeRole",
            format!("{id} may not be its role"),
        );
        let logs = own("logs", &format!("log-group:{}:*", template::LOG_GROUP));
        for action in ["logs:CreateLogStream", "logs:PutLogEvents"] {
            need(allows(role, "", action, &logs, &none), format!("{id} lacks {action}"));
        }
        let ours = json!({"StringEquals": {"events:source": plan::SOURCE, "events:detail-type": plan::CONTINUATION}});
        need(
            allows(role, "", "events:PutEvents", &own("events", "event-bus/default"), &ours),
            format!("{id} cannot go on"),
        );
        need(allows(role, "", "sqs:SendMessage", &queue, &none), format!("{id} cannot give up"));
        need(
            allows(
                role,
                "WithSecret",
                "secretsmanager:GetSecretValue",
                &json!({"Ref": "DatabaseUrlSecretArn"}),
                &none,
            ),
            format!("{id} cannot read its secret"),
        );
        for action in INTERFACES {
            need(
                allows(role, "InVpc", &format!("ec2:{action}"), &json!("*"), &none),
                format!("{id} lacks {action}"),
            );
        }
        let environment = properties["Environment"]["Variables"].as_object();
        let environment = environment.into_iter().flatten();
        let mut paths = 0;
        for (setting, value) in environment {
            let (condition, value) = match value.get("Fn::If") {
                Some(branches) if branches[2].get("Fn::Sub").is_some() => {
                    let secret = json!({"Fn::Sub": "aws-secretsmanager:${DatabaseUrlSecretArn}"});
                    need(branches[1] == secret, format!("{id} reads {setting} elsewhere"));
                    ("", &branches[2])
                }
                Some(branches) => (branches[0].as_str().unwrap_or_default(), &branches[1]),
                None => ("", value),
            };
            let text = value["Fn::Sub"].as_str().unwrap_or_default();
            if let Some(path) = text.strip_prefix("ssm:${SettingsPath}") {
                paths += 1;
                let folder = path.strip_suffix(&format!("/{setting}")).unwrap_or_default();
                let place = own("ssm", &format!("parameter${{SettingsPath}}{folder}"));
                need(
                    allows(role, "", "ssm:GetParametersByPath", &place, &none),
                    format!("{id} cannot read {text}"),
                );
            }
            if let Some(place) = text.strip_prefix("s3://") {
                let bucket = place.split('/').next().unwrap_or_default();
                let prefix = place.split('/').nth(1).unwrap_or_default();
                let objects = json!({"Fn::Sub": format!("arn:${{AWS::Partition}}:s3:::{place}/*")});
                let whole = json!({"Fn::Sub": format!("arn:${{AWS::Partition}}:s3:::{bucket}")});
                let below = json!({"s3:prefix": [{"Fn::Sub": format!("{prefix}/*")}]});
                let writes = setting == "MISP_EXPORT";
                let test = if writes { "StringLikeIfExists" } else { "StringLike" };
                need(
                    allows(role, condition, "s3:GetObject", &objects, &none),
                    format!("{id} cannot read {text}"),
                );
                need(
                    allows(role, condition, "s3:ListBucket", &whole, &json!({test: below})),
                    format!("{id} cannot list {text}"),
                );
                for action in ["s3:PutObject", "s3:DeleteObject"].iter().filter(|_| writes) {
                    need(
                        allows(role, condition, action, &objects, &none),
                        format!("{id} lacks {action}"),
                    );
                }
            }
        }
        need(paths >= 2, format!("{id} has no stores"));
        let row = timetable.row(name).and_then(|row| row.when.as_ref());
        let told = properties["Environment"]["Variables"]["MINERVA_WHEN"].as_str();
        let when = row.map(|when| format!("America/Sao_Paulo {when}"));
        need(told.map(ToOwned::to_owned) == when, format!("{id} does not know its row"));
    }
    let starts_of = |id: &str| -> Vec<(&String, &Value)> {
        let rules = resources(template, "AWS::Events::Rule");
        rules
            .into_iter()
            .filter(|(_, rule)| rule["Properties"]["Targets"][0]["Arn"] == arn_of(id))
            .collect()
    };
    let retry = json!({"MaximumEventAgeInSeconds": plan::EVENT_AGE_S, "MaximumRetryAttempts": plan::DELIVERY_TRIES});
    for (id, function) in &functions {
        let name = function["Properties"]["FunctionName"].as_str().unwrap_or_default();
        let patterns: Vec<&Value> = starts_of(id)
            .iter()
            .map(|(_, rule)| &rule["Properties"]["EventPattern"])
            .filter(|pattern| !pattern.is_null())
            .collect();
        need(patterns == [&plan::pattern(name)], format!("continuations of {id} go elsewhere"));
    }
    for (id, rule) in resources(template, "AWS::Events::Rule") {
        let properties = &rule["Properties"];
        let target = &properties["Targets"][0];
        need(
            properties["Targets"].as_array().is_some_and(|targets| targets.len() == 1),
            format!("{id} starts several"),
        );
        need(
            properties["Name"].as_str().is_some_and(|name| name.starts_with(plan::PREFIX)),
            format!("{id} is not named as ours"),
        );
        need(target["RetryPolicy"] == retry, format!("{id} tries for another time"));
        need(
            target["DeadLetterConfig"]["Arn"] == queue,
            format!("{id} has no queue for what is not delivered"),
        );
        let function = target["Arn"]["Fn::GetAtt"][0].as_str().unwrap_or_default();
        need(functions.iter().any(|(known, _)| *known == function), format!("{id} starts nothing"));
        let may = resources(template, "AWS::Lambda::Permission").iter().any(|(_, permission)| {
            permission["Properties"]
                == json!({
                    "Action": "lambda:InvokeFunction",
                    "FunctionName": {"Ref": function},
                    "Principal": "events.amazonaws.com",
                    "SourceArn": arn_of(id),
                })
        });
        need(may, format!("{id} may not start {function}"));
    }
    for (id, schedule) in resources(template, "AWS::Scheduler::Schedule") {
        let target = &schedule["Properties"]["Target"];
        need(
            target["RetryPolicy"] == retry && target["DeadLetterConfig"]["Arn"] == queue,
            format!("{id} loses what is not delivered"),
        );
        need(target["Input"] == template::SCHEDULE_INPUT, format!("{id} sends something else"));
        need(
            schedule["Properties"]["GroupName"] == json!({"Ref": "Schedules"})
                && !all["Schedules"].is_null(),
            format!("{id} has no group"),
        );
        let role = &all[target["RoleArn"]["Fn::GetAtt"][0].as_str().unwrap_or_default()];
        let trusted = &role["Properties"]["AssumeRolePolicyDocument"]["Statement"][0];
        need(
            trusted["Principal"]["Service"] == "scheduler.amazonaws.com",
            format!("{id} may not be its role"),
        );
        need(
            trusted["Condition"]["StringEquals"]["aws:SourceAccount"]
                == json!({"Ref": "AWS::AccountId"}),
            format!("{id}'s role is open to other accounts"),
        );
        need(
            allows(role, "", "lambda:InvokeFunction", &target["Arn"], &none),
            format!("{id} may not start its function"),
        );
        need(allows(role, "", "sqs:SendMessage", &queue, &none), format!("{id} may not give up"));
    }
    // Each timed row is started.
    for row in timetable.rows().iter().filter(|row| row.when.is_some()) {
        let id = template::logical(&row.name);
        let by_rule = starts_of(&id)
            .iter()
            .any(|(_, rule)| !rule["Properties"]["ScheduleExpression"].is_null());
        let by_schedule = resources(template, "AWS::Scheduler::Schedule")
            .iter()
            .any(|(_, one)| one["Properties"]["Target"]["Arn"] == arn_of(&id));
        need(by_rule != by_schedule, format!("`{}` is started by nothing, or twice", row.name));
    }
    // Alarms look at what is there.
    let (namespace, metric) = template::METRIC;
    let filter = &all["FailedRuns"]["Properties"];
    need(
        filter["LogGroupName"] == json!({"Ref": "Logs"})
            && filter["FilterPattern"] == template::FAILED_RUN
            && filter["MetricTransformations"][0]["MetricName"] == metric,
        "failed runs are not counted".to_owned(),
    );
    let alarm = |id: &str| &all[id]["Properties"];
    need(
        alarm("FailedRunsAlarm")["MetricName"] == metric
            && alarm("FailedRunsAlarm")["Namespace"] == namespace,
        "no alarm for failed runs".to_owned(),
    );
    need(
        alarm("DeadLettersAlarm")["Dimensions"][0]["Value"]
            == json!({"Fn::GetAtt": ["DeadLetters", "QueueName"]}),
        "no alarm for dead letters".to_owned(),
    );
    need(
        alarm("SilenceAlarm")["TreatMissingData"] == "breaching"
            && alarm("SilenceAlarm")["Dimensions"][0]["Value"] == json!({"Ref": "Logs"}),
        "no alarm for silence".to_owned(),
    );
    // Nothing is about everything but with a reason.
    for (id, role) in resources(template, "AWS::IAM::Role") {
        for (_, statement) in statements(role) {
            need(
                actions(&statement).iter().all(|action| !action.contains('*')),
                format!("{id} allows actions by `*`"),
            );
            need(
                !is_about_all(&statement["Resource"]) || statement["Sid"] == template::STAR_REASON,
                format!("{id} is about `*` without a reason"),
            );
        }
    }
    wrong
}

/// Every way to take one thing out: a resource that grants something, a statement, an action, a queue of a target.
fn cuts(template: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut cut = |what: String, change: &dyn Fn(&mut Value)| {
        let mut changed = template.clone();
        change(&mut changed);
        assert_ne!(&changed, template, "{what} changes nothing");
        all.push((what, changed));
    };
    let is_grant = |kind: &Value| {
        [
            "AWS::Lambda::Permission",
            "AWS::SQS::QueuePolicy",
            "AWS::Logs::LogGroup",
            "AWS::Events::Rule",
            "AWS::Scheduler::Schedule",
            "AWS::Serverless::Function",
            "AWS::Logs::MetricFilter",
            "AWS::CloudWatch::Alarm",
            "AWS::IAM::Role",
            "AWS::Scheduler::ScheduleGroup",
        ]
        .iter()
        .any(|grant| kind == grant)
    };
    for (id, resource) in template["Resources"].as_object().expect("a map") {
        if is_grant(&resource["Type"]) {
            cut(format!("without {id}"), &|changed| {
                changed["Resources"].as_object_mut().expect("a map").remove(id);
            });
        }
        for (place, target) in
            [("/Properties/Targets/0", "a rule's"), ("/Properties/Target", "a schedule's")]
        {
            if let Some(found) = resource.pointer(place) {
                for key in found.as_object().expect("a map").keys().filter(|key| *key != "Id") {
                    cut(format!("{id} without {target} {key}"), &|changed| {
                        let target =
                            changed["Resources"][id].pointer_mut(place).expect("it is there");
                        target.as_object_mut().expect("a map").remove(key);
                    });
                }
            }
        }
        let policies = resource["Properties"]["Policies"].as_array().map_or(0, Vec::len);
        for at in 0..policies {
            let policy = &resource["Properties"]["Policies"][at];
            let inside = if policy.get("Fn::If").is_some() { "/Fn::If/1" } else { "" };
            let place = format!(
                "/Resources/{id}/Properties/Policies/{at}{inside}/PolicyDocument/Statement"
            );
            let statements =
                template.pointer(&place).and_then(Value::as_array).expect("statements");
            for (n, statement) in statements.iter().enumerate() {
                cut(format!("{id} without {}", statement["Action"]), &|changed| {
                    changed
                        .pointer_mut(&place)
                        .and_then(Value::as_array_mut)
                        .expect("a list")
                        .remove(n);
                });
                for a in 0..actions(statement).len() {
                    cut(format!("{id} without {}", statement["Action"][a]), &|changed| {
                        let statement =
                            changed.pointer_mut(&format!("{place}/{n}")).expect("it is there");
                        statement["Action"].as_array_mut().expect("a list").remove(a);
                    });
                }
                if !statement["Condition"].is_null() {
                    cut(format!("{id}: {} on no condition", statement["Action"]), &|changed| {
                        let statement =
                            changed.pointer_mut(&format!("{place}/{n}")).expect("it is there");
                        statement.as_object_mut().expect("a map").remove("Condition");
                    });
                }
                if statement["Resource"] != "*" {
                    cut(format!("{id}: {} on all", statement["Action"]), &|changed| {
                        let statement =
                            changed.pointer_mut(&format!("{place}/{n}")).expect("it is there");
                        statement["Resource"] = json!(["*"]);
                    });
                }
            }
        }
    }
    for key in ["LoggingConfig", "EventInvokeConfig", "ReservedConcurrentExecutions"] {
        cut(format!("functions without {key}"), &|changed| {
            changed["Globals"]["Function"].as_object_mut().expect("a map").remove(key);
        });
    }
    cut("the queue with a key".to_owned(), &|changed| {
        changed["Resources"]["DeadLetters"]["Properties"]["KmsMasterKeyId"] =
            json!("alias/aws/sqs");
    });
    cut("two functions' continuations crossed".to_owned(), &|changed| {
        changed["Resources"]["CollectCategoryContinuationRule"]["Properties"]["EventPattern"]["detail"]
            ["task"] = json!(["collect_all_rss_feeds"]);
    });
    cut("a pattern's leaf that is no list".to_owned(), &|changed| {
        changed["Resources"]["CollectCategoryContinuationRule"]["Properties"]["EventPattern"]["source"] =
            json!("minerva");
    });
    all
}

fn nothing_can_be_cut_from_the_template_unseen() {
    for target in [Target::Rules, Target::Scheduler] {
        let template = rendered(target);
        assert_eq!(unwired(&template), Vec::<String>::new());
        let cuts = cuts(&template);
        assert!(cuts.len() > 200, "{} cuts", cuts.len());
        let unseen: Vec<&String> =
            cuts.iter().filter(|(_, cut)| unwired(cut).is_empty()).map(|(what, _)| what).collect();
        assert!(
            unseen.is_empty(),
            "{} of {} cuts are not seen: {unseen:?}",
            unseen.len(),
            cuts.len()
        );
    }
}

// Validators

const VALIDATORS: [&str; 2] = ["cfn-lint==1.58.0", "parliament==1.6.4"];

fn validators() -> Result<PathBuf, String> {
    tests::pypi::programs(cache(), &VALIDATORS)
}

/// Why there are none, if there are none.
pub(crate) fn no_validators() -> Option<String> {
    validators().err()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn lint_finds_nothing_in_either_template() {
    let programs = validators().expect("this test is skipped where there are none");
    let lint = |file: &Path| {
        Command::new(programs.join("cfn-lint"))
            .args(["-r", "sa-east-1", "us-east-1", "-t"])
            .arg(file)
            .output()
            .expect("it starts")
    };
    for name in ["template.yaml", "template-scheduler.yaml"] {
        let file = root().join("infra").join(name);
        let output = lint(&file);
        assert!(output.status.success() && said(&output).is_empty(), "{name}: {}", said(&output));
    }
    // That it says something of what is wrong.
    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("template.yaml");
    let text = read(&root().join("infra/template.yaml"));
    fs::write(
        &broken,
        text.replace("MaximumEventAgeInSeconds: 3600", "MaximumEventAgeInSeconds: 30"),
    )
    .expect("it is written");
    assert!(!lint(&broken).status.success());
}

fn lint_finds_nothing_in_any_role() {
    let programs = validators().expect("this test is skipped where there are none");
    let judge = |documents: &BTreeMap<String, Value>| {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, document) in documents {
            fs::write(folder.path().join(format!("{name}.json")), document.to_string())
                .expect("it is written");
        }
        let output = Command::new(programs.join("python"))
            .args([
                "-W",
                "ignore",
                "-m",
                "parliament.cli",
                "--include-community-auditors",
                "--directory",
            ])
            .arg(folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        said(&output)
    };
    let mut documents = BTreeMap::new();
    for target in [Target::Rules, Target::Scheduler] {
        for (id, role) in resources(&rendered(target), "AWS::IAM::Role") {
            for (n, (_, statement)) in statements(role).into_iter().enumerate() {
                // The one statement about `*` is known, and its reason stands in it.
                if statement["Sid"] != template::STAR_REASON {
                    let document =
                        json!({"Version": "2012-10-17", "Statement": [resolved(&statement)]});
                    documents.insert(format!("{id}-{n}"), document);
                }
            }
        }
    }
    assert!(documents.len() > 20);
    assert_eq!(judge(&documents).trim(), "");
    let misspelt = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:GetObjekt"], "Resource": ["arn:aws:s3:::a/b"]}]});
    assert!(!judge(&BTreeMap::from([("misspelt".to_owned(), misspelt)])).trim().is_empty());
}

/// A statement with names in the place of what the stack would know.
fn resolved(value: &Value) -> Value {
    match value {
        Value::Object(map) => match (
            map.get("Fn::Sub").and_then(Value::as_str),
            map.get("Ref"),
            map.get("Fn::GetAtt"),
        ) {
            (Some(text), ..) => {
                let known = [
                    ("AWS::Partition", "aws"),
                    ("AWS::Region", "sa-east-1"),
                    ("AWS::AccountId", "123456789012"),
                    ("SettingsPath", "/minerva"),
                ];
                let text = known.iter().fold(text.to_owned(), |text, (name, value)| {
                    text.replace(&format!("${{{name}}}"), value)
                });
                let text = text.replace("${", "").replace('}', "");
                json!(if text.contains(":s3:::") || text.ends_with("/*") {
                    text.to_lowercase()
                } else {
                    text
                })
            }
            (None, Some(Value::String(name)), _) if name == "DatabaseUrlSecretArn" => {
                json!("arn:aws:secretsmanager:sa-east-1:123456789012:secret:minerva-abcdef")
            }
            (None, Some(name), _) => json!(format!("{name}")),
            (None, None, Some(path)) if path[0] == "DeadLetters" => {
                json!("arn:aws:sqs:sa-east-1:123456789012:dead-letters")
            }
            (None, None, Some(path)) => json!(format!(
                "arn:aws:lambda:sa-east-1:123456789012:function:{}",
                path[0].as_str().unwrap_or_default()
            )),
            (None, None, None) => map
                .iter()
                .map(|(key, value)| (key.clone(), resolved(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        },
        Value::Array(list) => list.iter().map(resolved).collect(),
        other => other.clone(),
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

// Rules in the cloud

const MOTO: &str = "moto[server,events,awslambda,iam]==5.2.5";

fn moto() -> Result<PathBuf, String> {
    tests::pypi::programs(cache(), &[MOTO])
}

/// Why there is none, if there is none.
pub(crate) fn no_moto() -> Option<String> {
    moto().err()
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
