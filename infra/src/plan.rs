//! What the cloud shall have: each row with its function, the rules or schedules that start it, and the rule that carries
//! its runs on. Pure: from the timetable alone.

use std::collections::BTreeSet;

use base::{Error, Result};
use schedule::{Row, Schedule, Timetable};
use serde_json::{Value, json};

use crate::families::{self, Family};
use crate::utc;

/// What starts the functions by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// EventBridge rules, which know UTC alone.
    Rules,
    /// EventBridge Scheduler, which knows zones.
    Scheduler,
}

/// The source of our own events, as `task::events` sends it.
pub const SOURCE: &str = "minerva";

/// The detail type of an event that carries a run on, as `task::events` sends it.
pub const CONTINUATION: &str = "Minerva Task Continuation";

/// What the rule of a continuation is for.
pub const GOES_ON: &str = "A run that goes on";

/// What every rule and schedule of ours is called first.
pub const PREFIX: &str = "minerva-";

/// EventBridge's limits: a rule's name, the rules of a bus.
const NAME_MAX: usize = 64;
const RULES_OF_A_BUS: usize = 300;

/// After so long the next tick is the retry: how long EventBridge and Lambda keep an event.
pub const EVENT_AGE_S: i64 = 3_600;

/// How often EventBridge tries to give an event to Lambda within that time.
pub const DELIVERY_TRIES: i64 = 20;

/// One task in the cloud.
pub struct Function<'a> {
    pub row: &'a Row,
    pub family: &'static Family,
    /// The zone that the row's times are local to.
    pub zone: String,
    pub starts: Vec<Start>,
    pub continuation: Rule,
}

/// What starts a function by time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub name: String,
    pub expression: String,
    /// The zone in which Scheduler reads the expression; none for a rule.
    pub zone: Option<String>,
}

/// A rule, of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub name: String,
    pub when: When,
    /// The task whose function it starts, and no other.
    pub task: String,
}

/// When a rule fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    At(String),
    On(Value),
}

/// Everything that a timetable comes to.
pub struct Plan<'a> {
    pub zone: String,
    pub functions: Vec<Function<'a>>,
}

impl<'a> Plan<'a> {
    /// Reads the timetable for a target.
    ///
    /// # Errors
    /// `Config`, where a row has no rules that fire with it, no family, or a name that is too long; all such rows at once.
    pub fn of(timetable: &'a Timetable, target: Target) -> Result<Self> {
        let zone = timetable.zone().iana_name().unwrap_or("UTC").to_owned();
        let (mut functions, mut problems) = (Vec::new(), Vec::new());
        for row in timetable.rows() {
            let Some(family) = families::of_task(&row.name) else {
                problems.push(format!(
                    "`{}` belongs to no family of `infra/src/families.rs`",
                    row.name
                ));
                continue;
            };
            match starts(row, timetable, &zone, target) {
                Ok(starts) => functions.push(Function {
                    row,
                    family,
                    zone: zone.clone(),
                    starts,
                    continuation: continuation(&row.name),
                }),
                Err(problem) => problems.push(problem),
            }
        }
        let plan = Self { zone, functions };
        problems.extend(plan.beyond_limits());
        if problems.is_empty() {
            return Ok(plan);
        }
        let error = Error::config(format!("render the timetable: {}", problems.join("; ")));
        Err(match target {
            Target::Rules => {
                error.hint("`--target scheduler` keeps the expression and the zone as they are")
            }
            Target::Scheduler => error,
        })
    }

    /// Every rule, by time and by pattern.
    pub fn rules(&self) -> Vec<Rule> {
        let of = |function: &Function<'_>| {
            let starts = function.starts.iter().filter(|start| start.zone.is_none());
            let timed = starts.map(|start| Rule {
                name: start.name.clone(),
                when: When::At(start.expression.clone()),
                task: function.row.name.clone(),
            });
            timed.chain([function.continuation.clone()]).collect::<Vec<_>>()
        };
        self.functions.iter().flat_map(of).collect()
    }

    fn beyond_limits(&self) -> Vec<String> {
        let rules = self.rules();
        let names =
            self.functions.iter().flat_map(|function| &function.starts).map(|start| &start.name);
        let names: Vec<&String> = names
            .chain(self.functions.iter().map(|function| &function.continuation.name))
            .collect();
        let mut problems: Vec<String> = names
            .iter()
            .filter(|name| name.len() > NAME_MAX)
            .map(|name| format!("the name `{name}` is longer than {NAME_MAX}"))
            .collect();
        if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
            problems.push("two rules would have one name".to_owned());
        }
        if rules.len() > RULES_OF_A_BUS {
            problems.push(format!("{} rules, and a bus holds {RULES_OF_A_BUS}", rules.len()));
        }
        problems
    }

    /// The timetable for other tools: rows, their rules, their functions.
    pub fn json(&self) -> Value {
        let rows = self.functions.iter().map(|function| {
            let row = function.row;
            json!({
                "task": row.name,
                "does": row.does,
                "family": function.family.name,
                "memory_mb": row.memory_mb,
                "timeout_s": row.timeout_s,
                "when": row.when.as_ref().map(Schedule::text),
                "rules": function.starts.iter().map(|start| json!({"name": start.name, "expression": start.expression})).collect::<Vec<_>>(),
                "continuation": {"name": function.continuation.name, "pattern": pattern(&row.name)},
            })
        });
        json!({"zone": self.zone, "tasks": rows.collect::<Vec<_>>()})
    }
}

fn starts(
    row: &Row,
    timetable: &Timetable,
    zone: &str,
    target: Target,
) -> std::result::Result<Vec<Start>, String> {
    let Some(when) = &row.when else { return Ok(Vec::new()) };
    let name = format!("{PREFIX}{}", row.name);
    if target == Target::Scheduler {
        let (expression, zone) = (when.text().to_owned(), Some(zone.to_owned()));
        return Ok(vec![Start { name, expression, zone }]);
    }
    let texts = utc::rules(when, timetable.zone()).map_err(|refused| {
        let first = refused
            .differs_at
            .map_or_else(String::new, |at| format!(" (the nearest rule differs first at {at})"));
        format!(
            "`{}`: no rule fires when `{when}` does in `{zone}`: {}{first}",
            row.name, refused.why
        )
    })?;
    let named = texts.into_iter().enumerate().map(|(n, expression)| {
        let name = if n == 0 { name.clone() } else { format!("{name}-{}", n + 1) };
        Start { name, expression, zone: None }
    });
    Ok(named.collect())
}

fn continuation(task: &str) -> Rule {
    let name = format!("{PREFIX}{task}-continuation");
    Rule { name, when: When::On(pattern(task)), task: task.to_owned() }
}

/// What matches the continuations of one task and of no other.
pub fn pattern(task: &str) -> Value {
    json!({"source": [SOURCE], "detail-type": [CONTINUATION], "detail": {"task": [task]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timetable(rows: &str) -> Timetable {
        let text = format!(
            "[defaults]\nmemory_mb = 256\ntimeout_s = 300\nzone = \"America/Sao_Paulo\"\n{rows}"
        );
        Timetable::parse(&text).expect("it is one")
    }

    fn refused(rows: &str, target: Target) -> String {
        Plan::of(&timetable(rows), target).err().map_or_else(String::new, |error| error.to_string())
    }

    const LAST_DAY: &str = "[sync_all_misp_feeds]\ndoes = \"x\"\nwhen = \"cron(0 22 L * ? *)\"\n";

    #[test]
    fn a_row_without_rules_is_named_with_the_first_instant_that_differs() {
        let said = refused(LAST_DAY, Target::Rules);
        assert!(
            said.contains("`sync_all_misp_feeds`") && said.contains("2026-01-01T01:00:00Z"),
            "{said}"
        );
    }

    #[test]
    fn scheduler_keeps_expression_and_zone() {
        let timetable = timetable(LAST_DAY);
        let plan = Plan::of(&timetable, Target::Scheduler).expect("Scheduler takes it");
        let start = &plan.functions[0].starts[0];
        assert_eq!(start.expression, "cron(0 22 L * ? *)");
        assert_eq!(start.zone.as_deref(), Some("America/Sao_Paulo"));
    }

    #[test]
    fn a_task_of_no_family_is_named() {
        let said = refused("[nobodys]\ndoes = \"x\"\n", Target::Rules);
        assert!(said.contains("`nobodys` belongs to no family"), "{said}");
    }

    #[test]
    fn names_and_rules_have_limits() {
        let timetable = timetable(LAST_DAY);
        let mut plan = Plan::of(&timetable, Target::Scheduler).expect("Scheduler takes it");
        assert!(plan.beyond_limits().is_empty());
        plan.functions[0].continuation.name = "n".repeat(NAME_MAX + 1);
        assert!(plan.beyond_limits()[0].contains("longer than 64"));
        plan.functions[0].continuation.name = plan.functions[0].starts[0].name.clone();
        assert_eq!(plan.beyond_limits(), ["two rules would have one name"]);
        let start = Start { name: "a".to_owned(), expression: "x".to_owned(), zone: None };
        plan.functions[0].starts = vec![start; RULES_OF_A_BUS];
        assert!(plan.beyond_limits().iter().any(|problem| problem.contains("301 rules")));
    }
}
