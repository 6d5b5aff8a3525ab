//! One file a command.

use base::Error;

use crate::cli::{Cli, Command, YaraCommand};
use crate::demo;
use crate::home::{settings, settle};
use crate::out::Outcome;

mod active;
mod backup;
mod copy;
mod dead_letters;
mod doctor;
mod documents_of;
mod export;
mod help;
mod indicators;
mod install;
mod listings;
mod logs;
mod lookup;
mod manual;
mod moves;
mod prune;
mod queue;
mod replay;
mod run;
mod schedule;
mod search;
mod selection;
mod serve;
mod sources;
mod status;
mod yara;

/// Carries out what was asked, and leaves the embedded store closed.
pub(crate) async fn run(cli: &Cli) -> Outcome {
    let outcome = carry_out(cli).await;
    // Settings that cannot be read were complained about, and opened nothing.
    let folder = match &cli.command {
        // It only looks.
        Command::Doctor { .. } => None,
        Command::Demo(_) => demo::own_folder(cli),
        Command::Replay { .. } => replay::own_folder(cli),
        Command::Help { .. }
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::Install { .. } => None,
        _ => settings(cli).ok().map(|settings| settings.data_dir),
    };
    if let Some(folder) = folder {
        settle(&folder).await;
    }
    outcome
}

async fn carry_out(cli: &Cli) -> Outcome {
    // A wrong setting is told by every command, also by one that would not come to it. `doctor` tells it in its own way.
    if !matches!(cli.command, Command::Doctor { .. }) {
        settings(cli)?;
    }
    match &cli.command {
        Command::Run(args) => run::run(cli, args).await,
        Command::Tasks => listings::tasks(cli),
        Command::Scheduled { count } => listings::scheduled(cli, *count).await,
        Command::Status => status::status(cli).await,
        Command::Active => active::active(cli).await,
        Command::Runs(args) => listings::runs(cli, args).await,
        Command::Slots { task, missed, since, count } => {
            listings::slots(cli, task.as_deref(), *missed, since.as_deref(), *count).await
        }
        Command::Logs { id, follow } => logs::logs(cli, id.as_deref(), *follow).await,
        Command::Queue { count } => queue::queue(cli, *count).await,
        Command::Revoke { id } => queue::revoke(cli, id).await,
        Command::DeadLetters(command) => dead_letters::dead_letters(cli, command).await,
        Command::Replay(args) => Box::pin(replay::replay(cli, args)).await,
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man { to } => manual::pages(cli, to),
        Command::Install(args) => install::install(cli, args),
        Command::Search(args) => search::search(cli, args).await,
        Command::Lookup { values } => lookup::lookup(cli, values).await,
        Command::Export(args) => export::export(cli, args).await,
        Command::Documents { index } => documents_of::documents(cli, index).await,
        Command::Prune { dry_run } => prune::prune(cli, *dry_run).await,
        Command::Copy(args) => Box::pin(copy::copy(cli, args)).await,
        Command::Backup { to } => backup::backup(cli, to).await,
        Command::Sources(command) => sources::sources(cli, command).await,
        Command::Yara(YaraCommand::Export(args)) => yara::export(cli, args).await,
        Command::Doctor { create } => doctor::doctor(cli, *create).await,
        Command::Schedule(command) => schedule::schedule(cli, command),
        Command::Serve(args) => serve::serve(cli, args).await,
        Command::Demo(args) => demo::demo(cli, args).await,
        Command::Reparse { task } => run::reparse(cli, task).await,
        Command::Reindex(args) => moves::reindex(cli, args).await,
        Command::Adopt(args) => moves::adopt(cli, args).await,
        Command::Help { topic } => help::help(cli, topic),
        Command::Function { .. } => {
            Err(Error::config("be a function here: that is decided before any command"))
        }
    }
}
