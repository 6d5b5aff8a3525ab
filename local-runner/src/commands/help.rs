//! `help`: what the documents beside the code say, for who has the binary alone: settings, tasks, the form of sources.
//!
//! Settings come from where they are declared, as docs/CONFIG.md does; tasks from docs/TASKS.md, which is compiled in and
//! itself made of the timetable and each task's own file.

use base::Error;
use base::config::{self, Setting};
use clap::CommandFactory as _;
use serde_json::{Value, json};

use crate::cli::Cli;
use crate::families::FAMILIES;
use crate::out::{self, Outcome};
use crate::runner;

/// What each task reads, writes and takes.
const TASKS: &str = include_str!("../../../docs/TASKS.md");

/// The topic that is no command; `tasks` and `sources` are both.
const SETTINGS: &str = "settings";

/// `local-runner help`.
pub(crate) fn help(cli: &Cli, topic: &[String]) -> Outcome {
    let topic: Vec<&str> = topic.iter().map(String::as_str).collect();
    match topic.as_slice() {
        [SETTINGS] => settings(cli, None),
        [SETTINGS, name] => settings(cli, Some(name)),
        ["tasks"] => tasks(cli, None),
        ["tasks", name] => tasks(cli, Some(name)),
        ["sources"] => sources(cli),
        path => command(path),
    }
}

/// The help of a command, or of all.
fn command(path: &[&str]) -> Outcome {
    let mut command = Cli::command();
    command.build();
    for (depth, name) in path.iter().enumerate() {
        let known: Vec<String> = command
            .get_subcommands()
            .filter(|known| !known.is_hide_set())
            .map(|known| known.get_name().to_owned())
            .collect();
        let Some(found) = command.find_subcommand(name).cloned() else {
            let mut all: Vec<&str> = known.iter().map(String::as_str).collect();
            if depth == 0 {
                all.insert(0, SETTINGS);
            }
            return Err(unknown("help on", name, &all));
        };
        command = found;
    }
    out::line(command.render_long_help().to_string().trim_end());
    Ok(out::DONE)
}

fn unknown(what: &str, name: &str, known: &[&str]) -> Error {
    let near = out::nearest(name, known.iter().copied());
    let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    Error::config(format!("find {what} `{name}`"))
        .hint(format!("{near}there is: {}", known.join(", ")))
}

/// Every setting by concern, as docs/CONFIG.md lists them.
fn all_settings() -> Vec<(String, &'static [Setting])> {
    let general = config::all().into_iter().map(|(concern, list)| (concern.to_owned(), list));
    let families =
        FAMILIES.iter().map(|family| (format!("Family `{}`", family.name), family.settings.list));
    general.chain(families).filter(|(_, list)| !list.is_empty()).collect()
}

fn settings(cli: &Cli, name: Option<&str>) -> Outcome {
    let mut all = all_settings();
    if let Some(name) = name {
        let known: Vec<&str> =
            all.iter().flat_map(|(_, list)| *list).map(|setting| setting.name).collect();
        let is_known = known.iter().any(|known| known.eq_ignore_ascii_case(name));
        if !is_known {
            return Err(unknown("the setting", name, &known));
        }
        all.retain(|(_, list)| list.iter().any(|known| known.name.eq_ignore_ascii_case(name)));
    }
    let is_asked =
        |setting: &&Setting| name.is_none_or(|name| setting.name.eq_ignore_ascii_case(name));
    if cli.json {
        let rows = all.iter().flat_map(|(concern, list)| {
            list.iter().filter(is_asked).map(move |setting| {
                let default = Some(setting.default).filter(|default| !default.is_empty());
                json!({"name": setting.name, "default": default, "about": setting.about.trim(), "concern": concern})
            })
        });
        out::json(&rows.collect::<Vec<_>>());
        return Ok(out::DONE);
    }
    if name.is_none() {
        out::line(
            "Settings are variables of the environment, and below them lines NAME=value of a `.env` file in the\n\
             folder where `local-runner` starts. `local-runner doctor` checks them. A value may stand elsewhere:\n\
             `file:PATH`, `ssm:/PATH/NAME` or `aws-secretsmanager:ARN`.",
        );
    }
    for (concern, list) in all {
        out::line(&format!("\n{concern}"));
        for setting in list.iter().filter(is_asked) {
            let default = match setting.default {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            out::line(&format!("  {}{default}\n      {}", setting.name, setting.about.trim()));
        }
    }
    Ok(out::DONE)
}

/// What docs/TASKS.md says of a task, a line each.
fn told(task: &str) -> Vec<String> {
    let heading = format!("## {task}");
    TASKS
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| !line.is_empty())
        .map(|line| line.strip_prefix("- ").unwrap_or(line).replace("**", ""))
        .collect()
}

fn tasks(cli: &Cli, name: Option<&str>) -> Outcome {
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let known: Vec<&str> = timetable.rows().iter().map(|row| row.name.as_str()).collect();
    if let Some(name) = name.filter(|name| !known.contains(name)) {
        return Err(unknown("the task", name, &known));
    }
    let rows = timetable.rows().iter().filter(|row| name.is_none_or(|name| row.name == name));
    if cli.json {
        let rows: Vec<Value> = rows
            .map(|row| {
                let about = told(&row.name);
                let of = |word: &str| {
                    let line = about.iter().find_map(|line| line.strip_prefix(word));
                    line.map(|line| line.trim().to_owned())
                };
                json!({
                    "task": row.name, "does": row.does, "when": row.when.as_ref().map(ToString::to_string),
                    "about": about.first(), "reads": of("Reads "), "writes": of("Writes "),
                    "twice": of("Twice "), "quirk": of("Quirk "), "input": of("Input "),
                })
            })
            .collect();
        out::json(&rows);
        return Ok(out::DONE);
    }
    for (place, row) in rows.enumerate() {
        let gap = if place == 0 { "" } else { "\n" };
        out::line(&format!("{gap}{}  ({})", row.name, row.shown_when()));
        let about = told(&row.name);
        if about.is_empty() {
            out::line(&format!("  {}", row.does));
        }
        about.iter().for_each(|line| out::line(&format!("  {line}")));
    }
    if name.is_none() {
        out::line(
            "\nAn input is JSON: `local-runner run collect_category --input '{\"categories\":[\"malware\"]}'`.\n\
             An hour is changed by `--timetable FILE`: `[collect_category]` and below it `when = \"cron(0 6 * * ? *)\"`,\n\
             or `enabled = false`; `local-runner schedule check FILE` shows what comes of it.",
        );
    }
    Ok(out::DONE)
}

fn sources(cli: &Cli) -> Outcome {
    let forms = FAMILIES.iter().filter_map(|family| Some((family.name, family.sources.edit?)));
    if cli.json {
        let forms = forms.map(|(family, editor)| {
            json!({"family": family, "form": editor.form, "categories": editor.categories})
        });
        out::json(&forms.collect::<Vec<_>>());
        return Ok(out::DONE);
    }
    for (family, editor) in forms {
        out::line(&format!("The list of family `{family}` is a TOML file of this form:\n"));
        for line in editor.form.lines() {
            out::line(format!("    {line}").trim_end());
        }
    }
    out::line(
        "\nThe list is never written to. What `local-runner sources add | edit | remove | enable | disable` change stands\n\
         above it in the state, where every process reads it. `sources import FILE` adds the feeds of an OPML file,\n\
         `sources export` writes one; `sources test ADDRESS` shows what would be stored. The sources of other families are\n\
         fixed: `local-runner help settings` names where they are asked. `local-runner sources --help` lists the commands.",
    );
    Ok(out::DONE)
}

#[cfg(test)]
mod tests {
    use crate::families::all_tasks;

    use super::*;

    #[test]
    fn every_task_is_told_with_its_input() {
        for (_, task) in all_tasks() {
            let about = told(task.name);
            for word in ["Reads ", "Writes ", "Twice ", "Quirk ", "Input "] {
                let found = about.iter().any(|line| line.starts_with(word));
                assert!(found, "{}: {word}: {about:?}", task.name);
            }
        }
        assert!(told("sync_otx_pulse").is_empty());
    }

    #[test]
    fn no_topic_is_lost_to_a_command_that_has_none() {
        let command = Cli::command();
        for topic in ["tasks", "sources"] {
            assert!(command.find_subcommand(topic).is_some(), "`help {topic}` tells of it");
        }
    }
}
