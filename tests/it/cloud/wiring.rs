//! The template: whole, wired, and nothing of it too much; by a reading of our own and by validators.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use infra::plan::Target;
use infra::{plan, template};
use serde_json::{Value, json};

use super::{read, rendered, resources, root, said, timetable};
use crate::documents::cache;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("nothing_can_be_cut_from_the_template_unseen", nothing_can_be_cut_from_the_template_unseen),
    ("lint_finds_nothing_in_either_template", lint_finds_nothing_in_either_template),
    ("lint_finds_nothing_in_any_role", lint_finds_nothing_in_any_role),
];

/// What Lambda does with a VPC's interfaces, in the function's role.
pub(super) const INTERFACES: [&str; 6] = [
    "AssignPrivateIpAddresses",
    "CreateNetworkInterface",
    "DeleteNetworkInterface",
    "DescribeNetworkInterfaces",
    "DescribeSubnets",
    "UnassignPrivateIpAddresses",
];

/// A role's statements, each with the condition under which it is there.
pub(super) fn statements(role: &Value) -> Vec<(String, Value)> {
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

pub(super) fn actions(statement: &Value) -> Vec<String> {
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

const VALIDATORS: [&str; 2] = ["cfn-lint==1.58.0", "parliament==1.6.4"];

fn validators() -> Result<PathBuf, String> {
    tests::pypi::programs(cache(), &VALIDATORS)
}

/// Why there are none, if there are none.
pub(crate) fn no_validators() -> Option<String> {
    validators().err()
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
