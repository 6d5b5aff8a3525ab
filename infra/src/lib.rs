//! The cloud as the timetable says: a template of the whole stack, or rules bound to functions that are there already.
//!
//! Depends on the timetable alone and on no family: what it says of them is held against them by `tests/it/cloud/roles.rs`.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use base::report::Problem;
use base::{Class, Error, Result, shown};
use clap::Parser as _;
use schedule::Timetable;
use serde::Serialize;
use serde_json::{Value, json};

mod aws;
mod cli;
pub mod cost;
pub mod families;
pub mod package;
pub mod plan;
pub mod reconcile;
pub mod template;
pub mod utc;
pub mod yaml;

use cli::{Arch, Cli, Command, PackageArgs, RenderArgs, RulesArgs};
use plan::{Plan, Target};
use reconcile::{Change, Changes};
use template::Architecture;

/// The timetable that is compiled in.
pub const TIMETABLE: &str = include_str!("../schedule.toml");

const DONE: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;

/// The whole program, with this process's arguments.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Help that was asked for is no error.
            if error.use_stderr() && arguments.iter().any(|argument| argument == "--json") {
                let said = error.render().to_string();
                let first = said.lines().next().unwrap_or_default().trim_start_matches("error: ");
                let error =
                    Error::config(first.trim()).hint("`infra --help` shows what can be asked");
                let _ = say_json(&json!({"error": Problem::from(&error)}));
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    let done = run(&cli);
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => complain(&cli, &error),
    }
}

fn complain(cli: &Cli, error: &Error) -> ExitCode {
    if cli.json {
        let _ = say_json(&json!({"error": Problem::from(error)}));
    }
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "error: failed to {}", shown::indented(&error.chain()));
    if let Some(hint) = error.hint_text().filter(|hint| !hint.is_empty()) {
        let _ = writeln!(err, "hint: {}", shown::indented(hint));
    }
    ExitCode::from(match error.class() {
        Class::Config => USAGE,
        Class::Store if error.is_unreachable() => UNREACHABLE,
        Class::Store | Class::Upstream | Class::Format | Class::Deadline => FAILED,
    })
}

/// Writes lines for people or a program; a reader that went away is no failure.
fn say(text: &str) -> Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::config("write to standard output").because(cause))
        }
        _ => Ok(()),
    }
}

fn say_json(value: &impl Serialize) -> Result<()> {
    say(&serde_json::to_string_pretty(value).unwrap_or_default())
}

fn run(cli: &Cli) -> Result<u8> {
    let text = match &cli.timetable {
        None => TIMETABLE.to_owned(),
        Some(file) => std::fs::read_to_string(file)
            .map_err(|cause| Error::config(format!("read `{}`", file.display())).because(cause))?,
    };
    let timetable = Timetable::parse(&text).map_err(|cause| Error::config(cause.to_string()))?;
    match &cli.command {
        Command::Render(args) => render(cli, &timetable, args),
        Command::Package(args) => packaged(cli, &timetable, args),
        Command::Cost { arch } => {
            let architecture = architecture(*arch);
            let plan = Plan::of(&timetable, Target::Scheduler)?;
            let template = template::template(&plan, Target::Scheduler, architecture);
            let bill = cost::bill(&timetable, &template, architecture);
            if cli.json {
                say_json(&bill)?;
            } else {
                say(bill.page().trim_end())?;
            }
            Ok(DONE)
        }
        Command::Plan(args) => with_cloud(async |cloud| {
            let changes = wanted(cloud, &timetable, args).await?;
            show(cli, &changes)?;
            Ok(DONE)
        }),
        Command::Apply(args) => with_cloud(async |cloud| {
            let changes = wanted(cloud, &timetable, args).await?;
            show(cli, &changes)?;
            make(cloud, &changes.changes).await
        }),
        Command::Destroy { yes } => with_cloud(async |cloud| {
            let tasks: Vec<&str> = timetable.rows().iter().map(|row| row.name.as_str()).collect();
            let changes = reconcile::destruction(&cloud.look(&tasks).await?);
            show(cli, &changes)?;
            if changes.changes.is_empty() || *yes || asked(&changes)? {
                return make(cloud, &changes.changes).await;
            }
            let _ = writeln!(io::stderr().lock(), "nothing was changed");
            Ok(FAILED)
        }),
    }
}

fn architecture(arch: Arch) -> Architecture {
    match arch {
        Arch::Arm64 => Architecture::Arm64,
        Arch::X86 => Architecture::X86,
    }
}

/// The files that a target comes to: their names and texts.
///
/// # Errors
/// As [`Plan::of`].
pub fn files(
    timetable: &Timetable,
    target: Target,
    architecture: Architecture,
) -> Result<Vec<(&'static str, String)>> {
    let plan = Plan::of(timetable, target)?;
    let head = "# Generated by `cargo run -p infra -- render` from infra/schedule.toml: change that, and render again.\n";
    let template = format!("{head}{}", template::template(&plan, target, architecture).yaml());
    Ok(match target {
        Target::Rules => {
            let json = serde_json::to_string_pretty(&plan.json()).unwrap_or_default() + "\n";
            vec![("template.yaml", template), ("timetable.json", json)]
        }
        Target::Scheduler => vec![("template-scheduler.yaml", template)],
    })
}

fn render(cli: &Cli, timetable: &Timetable, args: &RenderArgs) -> Result<u8> {
    let target = match args.target {
        cli::Target::Rules => Target::Rules,
        cli::Target::Scheduler => Target::Scheduler,
    };
    let mut told: Vec<Value> = Vec::new();
    let mut is_stale = false;
    for (name, text) in files(timetable, target, architecture(args.arch))? {
        let path = args.out.join(name);
        let is_fresh = std::fs::read_to_string(&path).is_ok_and(|stored| stored == text);
        is_stale |= !is_fresh;
        if !is_fresh && !args.check {
            write(&path, &text)?;
        }
        let state = match (is_fresh, args.check) {
            (true, _) => "unchanged",
            (false, true) => "stale",
            (false, false) => "written",
        };
        told.push(json!({"file": path.display().to_string(), "state": state}));
    }
    if cli.json {
        say_json(&told)?;
    } else {
        for file in &told {
            say(&format!(
                "{} {}",
                file["file"].as_str().unwrap_or_default(),
                file["state"].as_str().unwrap_or_default()
            ))?;
        }
    }
    Ok(if args.check && is_stale { FAILED } else { DONE })
}

fn packaged(cli: &Cli, timetable: &Timetable, args: &PackageArgs) -> Result<u8> {
    let architecture = architecture(args.arch);
    if !args.no_build {
        package::build(architecture, &args.from)?;
    }
    let tasks: Vec<&str> = timetable.rows().iter().map(|row| row.name.as_str()).collect();
    let artefacts = package::package(&tasks, architecture, &args.from, &args.out)?;
    if cli.json {
        say_json(&artefacts)?;
    } else {
        for artefact in &artefacts {
            let [size, zipped] =
                [artefact.bytes, artefact.zipped_bytes].map(|bytes| bytes as f64 / 1e6);
            let task = &artefact.task;
            say(&format!("{task:<34} {size:5.1} MB, zipped {zipped:4.1} MB"))?;
        }
        say(&format!("{} functions in `{}`", artefacts.len(), args.out.display()))?;
    }
    Ok(DONE)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|cause| Error::config(format!("write `{}`", path.display())).because(cause))
}

fn with_cloud(what: impl AsyncFnOnce(&aws::Cloud) -> Result<u8>) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::config("start the async runtime").because(cause))?;
    runtime.block_on(async { what(&aws::Cloud::connect().await?).await })
}

/// What `apply` would do.
async fn wanted(cloud: &aws::Cloud, timetable: &Timetable, args: &RulesArgs) -> Result<Changes> {
    let plan = Plan::of(timetable, Target::Rules)?;
    let tasks: Vec<&str> = timetable.rows().iter().map(|row| row.name.as_str()).collect();
    let found = cloud.look(&tasks).await?;
    reconcile::changes(
        &plan.rules(),
        &found,
        &aws::descriptions(&plan),
        args.dead_letters.as_deref(),
    )
}

fn show(cli: &Cli, changes: &Changes) -> Result<()> {
    if cli.json {
        return say_json(changes);
    }
    for change in &changes.changes {
        say(&shown::one_line(&change.to_string()))?;
    }
    for rule in &changes.stopped {
        say(&format!("  rule {}: stopped by a person, stays so", shown::one_line(rule)))?;
    }
    for rule in &changes.foreign {
        say(&format!("  rule {}: carries no tag of ours, stays", shown::one_line(rule)))?;
    }
    match changes.changes.len() {
        0 => say("nothing to change"),
        1 => say("1 change"),
        count => say(&format!("{count} changes")),
    }
}

async fn make(cloud: &aws::Cloud, changes: &[Change]) -> Result<u8> {
    for change in changes {
        cloud.make(change).await?;
    }
    Ok(DONE)
}

/// Asks the person at the terminal.
fn asked(changes: &Changes) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Error::config("ask whether to go on: there is no terminal")
            .hint("`--yes` goes on without asking"));
    }
    let mut err = io::stderr().lock();
    let _ = write!(err, "make these {} changes? Only `yes` goes on: ", changes.changes.len());
    let _ = err.flush();
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|cause| Error::config("read the answer").because(cause))?;
    Ok(answer.trim() == "yes")
}
