//! What has to be done so that the cloud is as the timetable says: decided purely, before anything is touched.
//!
//! A rule is ours by its tag alone. Each change is safe to find half done: a rule is made with its tag in one request, and
//! what takes one away begins with what is found through it. So a run that was cut off anywhere is carried on by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use crate::plan::{DELIVERY_TRIES, EVENT_AGE_S, PREFIX, Rule, When};

/// The tag that says whose a rule is.
pub const TAG: (&str, &str) = ("managed-by", "minerva-infra");

/// The one target of a rule.
pub const TARGET_ID: &str = "function";

/// The state of a rule that fires.
pub const ENABLED: &str = "ENABLED";

/// The state of one that a person stopped.
const DISABLED: &str = "DISABLED";

/// A rule as it is in the cloud.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundRule {
    pub name: String,
    pub expression: Option<String>,
    pub pattern: Option<Value>,
    pub description: Option<String>,
    pub state: String,
    /// Whether it carries our tag.
    pub is_ours: bool,
    pub targets: Vec<FoundTarget>,
}

/// A target as it is in the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTarget {
    pub id: String,
    pub arn: String,
    pub event_age_s: Option<i64>,
    pub tries: Option<i64>,
    pub dead_letters: Option<String>,
    /// Whether it sends something else than the event itself.
    pub has_input: bool,
}

/// A permission of a function's policy: which rule may start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPermission {
    pub sid: String,
    pub source_arn: Option<String>,
}

/// Everything that was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub rules: Vec<FoundRule>,
    /// The ARN of each function that is there.
    pub functions: BTreeMap<String, String>,
    /// By function.
    pub permissions: BTreeMap<String, Vec<FoundPermission>>,
}

/// One request that changes something.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Change {
    PutRule {
        rule: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        expression: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pattern: Option<Value>,
        description: String,
        state: String,
        /// Only a new rule gets its tag with it.
        is_new: bool,
        /// What it was before.
        #[serde(skip_serializing_if = "Option::is_none")]
        was: Option<String>,
    },
    AddPermission {
        function: String,
        sid: String,
        source_arn: String,
    },
    RemovePermission {
        function: String,
        sid: String,
    },
    PutTargets {
        rule: String,
        arn: String,
        dead_letters: Option<String>,
    },
    RemoveTargets {
        rule: String,
        ids: Vec<String>,
    },
    DeleteRule {
        rule: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutRule { rule, expression, is_new, was, .. } => {
                let when = expression.as_deref().unwrap_or("by its events");
                match (is_new, was) {
                    (true, _) => write!(f, "+ rule {rule}: {when}"),
                    (false, Some(was)) => write!(f, "~ rule {rule}: {was} -> {when}"),
                    (false, None) => write!(f, "~ rule {rule}: its description"),
                }
            }
            Self::AddPermission { function, sid, .. } => {
                write!(f, "+ permission of {sid} to start {function}")
            }
            Self::RemovePermission { function, sid } => {
                write!(f, "- permission of {sid} to start {function}")
            }
            Self::PutTargets { rule, arn, .. } => write!(f, "~ target of {rule}: {arn}"),
            Self::RemoveTargets { rule, ids } => {
                write!(f, "- targets of {rule}: {}", ids.join(", "))
            }
            Self::DeleteRule { rule } => write!(f, "- rule {rule}"),
        }
    }
}

/// What shall be done, in order, and what is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Changes {
    pub changes: Vec<Change>,
    /// Rules of ours that a person stopped; they stay stopped.
    pub stopped: Vec<String>,
    /// Rules that are named as ours and carry no tag of ours; they stay.
    pub foreign: Vec<String>,
}

/// What `apply` does.
///
/// # Errors
/// `Config`, where a function is not there or a rule of somebody else's has a name of ours; all of them at once.
pub fn changes(
    wanted: &[Rule],
    found: &Found,
    about: &BTreeMap<String, String>,
    dead_letters: Option<&str>,
) -> Result<Changes> {
    let absent: BTreeSet<&str> = wanted
        .iter()
        .map(|rule| rule.task.as_str())
        .filter(|task| !found.functions.contains_key(*task))
        .collect();
    if !absent.is_empty() {
        let absent: Vec<String> = absent.iter().map(|task| format!("`{task}`")).collect();
        return Err(Error::config(format!("find the functions {}", absent.join(", ")))
            .hint("deploy them first: a rule needs the function that it starts"));
    }
    let taken: Vec<String> = wanted
        .iter()
        .filter(|rule| found.rules.iter().any(|one| one.name == rule.name && !one.is_ours))
        .map(|rule| format!("`{}`", rule.name))
        .collect();
    if !taken.is_empty() {
        return Err(Error::config(format!(
            "take the names {}: rules of somebody else have them",
            taken.join(", ")
        ))
        .hint(format!("only rules with the tag `{}={}` are changed here", TAG.0, TAG.1)));
    }
    let mut all = Changes::default();
    for rule in wanted {
        let now = found.rules.iter().find(|one| one.name == rule.name);
        let description = about.get(&rule.name).cloned().unwrap_or_default();
        all.changes.extend(put_rule(rule, now, description));
        let function = &found.functions[&rule.task];
        let source_arn = rule_arn(function, &rule.name);
        all.changes.extend(permit(rule, found, &source_arn));
        let targets = now.map_or(&[][..], |now| &now.targets);
        // A queue that is not named again is kept.
        let kept = targets.iter().find(|target| target.id == TARGET_ID);
        let queue = dead_letters.or(kept.and_then(|target| target.dead_letters.as_deref()));
        let aim = wanted_target(function, queue);
        let others = targets.iter().filter(|target| target.id != TARGET_ID);
        let ids: Vec<String> = others.map(|target| target.id.clone()).collect();
        if !ids.is_empty() {
            all.changes.push(Change::RemoveTargets { rule: rule.name.clone(), ids });
        }
        if !targets.contains(&aim) {
            all.changes.push(Change::PutTargets {
                rule: rule.name.clone(),
                arn: aim.arn,
                dead_letters: aim.dead_letters,
            });
        }
        if now.is_some_and(|now| now.state == DISABLED) {
            all.stopped.push(rule.name.clone());
        }
    }
    let is_wanted = |name: &str| wanted.iter().any(|rule| rule.name == name);
    for rule in found.rules.iter().filter(|rule| !is_wanted(&rule.name)) {
        match rule.is_ours {
            true => all.changes.extend(removal(rule, found)),
            false => all.foreign.push(rule.name.clone()),
        }
    }
    all.changes.extend(orphans(found, &|sid| is_wanted(sid)));
    drop_repeated(&mut all.changes);
    Ok(all)
}

/// What `destroy` does: everything that is ours goes.
pub fn destruction(found: &Found) -> Changes {
    let mut all = Changes::default();
    for rule in &found.rules {
        match rule.is_ours {
            true => all.changes.extend(removal(rule, found)),
            false => all.foreign.push(rule.name.clone()),
        }
    }
    let foreign = all.foreign.clone();
    all.changes.extend(orphans(found, &|sid| foreign.iter().any(|name| name == sid)));
    drop_repeated(&mut all.changes);
    all
}

fn put_rule(rule: &Rule, now: Option<&FoundRule>, description: String) -> Option<Change> {
    let (expression, pattern) = match &rule.when {
        When::At(expression) => (Some(expression.clone()), None),
        When::On(pattern) => (None, Some(pattern.clone())),
    };
    let is_same_time =
        now.is_some_and(|now| now.expression == expression && now.pattern == pattern);
    if is_same_time && now.is_some_and(|now| now.description.as_deref() == Some(&description)) {
        return None;
    }
    let was = now
        .filter(|_| !is_same_time)
        .map(|now| now.expression.clone().unwrap_or_else(|| "by its events".to_owned()));
    // A request replaces the whole rule: without the state that was found it would start one that a person stopped.
    let state = now.map_or(ENABLED, |now| &now.state).to_owned();
    Some(Change::PutRule {
        rule: rule.name.clone(),
        expression,
        pattern,
        description,
        state,
        is_new: now.is_none(),
        was,
    })
}

fn permit(rule: &Rule, found: &Found, source_arn: &str) -> Vec<Change> {
    let now =
        found.permissions.get(&rule.task).into_iter().flatten().find(|one| one.sid == rule.name);
    let add = Change::AddPermission {
        function: rule.task.clone(),
        sid: rule.name.clone(),
        source_arn: source_arn.to_owned(),
    };
    match now {
        Some(now) if now.source_arn.as_deref() == Some(source_arn) => Vec::new(),
        Some(_) => {
            vec![
                Change::RemovePermission { function: rule.task.clone(), sid: rule.name.clone() },
                add,
            ]
        }
        None => vec![add],
    }
}

/// What takes a rule away: first what is found through it, itself last.
fn removal(rule: &FoundRule, found: &Found) -> Vec<Change> {
    let mut all = Vec::new();
    for (function, permissions) in &found.permissions {
        if permissions.iter().any(|permission| permission.sid == rule.name) {
            all.push(Change::RemovePermission {
                function: function.clone(),
                sid: rule.name.clone(),
            });
        }
    }
    let ids: Vec<String> = rule.targets.iter().map(|target| target.id.clone()).collect();
    if !ids.is_empty() {
        all.push(Change::RemoveTargets { rule: rule.name.clone(), ids });
    }
    all.push(Change::DeleteRule { rule: rule.name.clone() });
    all
}

/// Permissions that are named as ours and whose rule is not there.
fn orphans(found: &Found, keep: &dyn Fn(&str) -> bool) -> Vec<Change> {
    let mut all = Vec::new();
    for (function, permissions) in &found.permissions {
        for permission in permissions {
            let sid = &permission.sid;
            let has_rule = found.rules.iter().any(|rule| &rule.name == sid);
            if sid.starts_with(PREFIX) && !has_rule && !keep(sid) {
                all.push(Change::RemovePermission { function: function.clone(), sid: sid.clone() });
            }
        }
    }
    all
}

fn drop_repeated(changes: &mut Vec<Change>) {
    let mut seen: Vec<Change> = Vec::new();
    changes.retain(|change| {
        let is_new = !seen.contains(change);
        if is_new {
            seen.push(change.clone());
        }
        is_new
    });
}

fn wanted_target(function: &str, dead_letters: Option<&str>) -> FoundTarget {
    FoundTarget {
        id: TARGET_ID.to_owned(),
        arn: function.to_owned(),
        event_age_s: Some(EVENT_AGE_S),
        tries: Some(DELIVERY_TRIES),
        dead_letters: dead_letters.map(ToOwned::to_owned),
        has_input: false,
    }
}

/// The ARN of a rule beside a function: same partition, Region and account.
fn rule_arn(function: &str, rule: &str) -> String {
    let mut parts = function.split(':');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let (arn, partition, _, region, account) = (next(), next(), next(), next(), next());
    format!("{arn}:{partition}:events:{region}:{account}:rule/{rule}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTION: &str = "arn:aws:lambda:sa-east-1:1:function:collect_category";

    fn wanted() -> [Rule; 1] {
        let when = When::At("cron(0 12 * * ? *)".to_owned());
        [Rule {
            name: "minerva-collect_category".to_owned(),
            when,
            task: "collect_category".to_owned(),
        }]
    }

    fn about() -> BTreeMap<String, String> {
        BTreeMap::from([("minerva-collect_category".to_owned(), "A task".to_owned())])
    }

    /// The rule as an `apply` leaves it.
    fn applied() -> Found {
        let name = "minerva-collect_category".to_owned();
        let permission =
            FoundPermission { sid: name.clone(), source_arn: Some(rule_arn(FUNCTION, &name)) };
        Found {
            rules: vec![FoundRule {
                name,
                expression: Some("cron(0 12 * * ? *)".to_owned()),
                pattern: None,
                description: Some("A task".to_owned()),
                state: ENABLED.to_owned(),
                is_ours: true,
                targets: vec![wanted_target(FUNCTION, Some("arn:queue"))],
            }],
            functions: BTreeMap::from([("collect_category".to_owned(), FUNCTION.to_owned())]),
            permissions: BTreeMap::from([("collect_category".to_owned(), vec![permission])]),
        }
    }

    fn done(found: &Found, queue: Option<&str>) -> Vec<String> {
        let changes = changes(&wanted(), found, &about(), queue).expect("it can be done").changes;
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_as_it_shall_be_is_left_alone_and_a_queue_is_kept() {
        assert!(done(&applied(), None).is_empty());
        assert!(done(&applied(), Some("arn:queue")).is_empty());
        assert_eq!(
            done(&applied(), Some("arn:other")),
            [format!("~ target of minerva-collect_category: {FUNCTION}")]
        );
    }

    #[test]
    fn what_a_person_changed_is_put_right_but_for_the_state() {
        let mut found = applied();
        let rule = &mut found.rules[0];
        rule.state = DISABLED.to_owned();
        rule.targets[0].tries = None;
        rule.targets.push(FoundTarget { id: "another".to_owned(), ..rule.targets[0].clone() });
        found.permissions.clear();
        let changes = changes(&wanted(), &found, &about(), None).expect("it can be done");
        assert_eq!(changes.stopped, ["minerva-collect_category"]);
        let done: Vec<String> = changes.changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            done,
            [
                "+ permission of minerva-collect_category to start collect_category".to_owned(),
                "- targets of minerva-collect_category: another".to_owned(),
                format!("~ target of minerva-collect_category: {FUNCTION}"),
            ]
        );
    }
}
