//! What the code of a family calls, and what its role in the cloud allows: the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use base::config;
use infra::families::Access;
use infra::plan::Target;
use infra::{families, plan, template};
use local_runner::families::FAMILIES;

use super::wiring::{INTERFACES, actions, statements};
use super::{read, rendered, root, timetable};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("families_are_as_they_declare", families_are_as_they_declare),
    ("a_role_allows_what_its_code_calls", a_role_allows_what_its_code_calls),
];

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
