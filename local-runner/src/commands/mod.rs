//! One file a command.

use std::path::Path;
use std::sync::Arc;

use base::{Error, Result};
use stores::documents::{self, Documents};
use stores::folder;
use stores::state::{self, State};

use crate::cli::{Cli, Command, YaraCommand};
use crate::demo;
use crate::out::Outcome;
use crate::settings::Settings;

mod backup;
mod copy;
mod doctor;
mod documents_of;
mod listings;
mod moves;
mod prune;
mod run;
mod schedule;
mod search;
mod serve;
mod sources;
mod yara;

pub(crate) use run::{interrupted, log_sink};

/// Carries out what was asked, and leaves the embedded store closed.
pub(crate) async fn run(cli: &Cli) -> Outcome {
    let outcome = carry_out(cli).await;
    // Settings that cannot be read were complained about, and opened nothing.
    let folder = match &cli.command {
        Command::Demo { .. } => demo::own_folder(cli),
        _ => settings(cli).ok().map(|settings| settings.data_dir),
    };
    if let Some(folder) = folder {
        settle(&folder).await;
    }
    outcome
}

async fn carry_out(cli: &Cli) -> Outcome {
    match &cli.command {
        Command::Run(args) => run::run(cli, args).await,
        Command::Tasks => listings::tasks(cli),
        Command::Scheduled { count } => listings::scheduled(cli, *count),
        Command::Runs { task, count } => listings::runs(cli, task.as_deref(), *count).await,
        Command::Search(args) => search::search(cli, args).await,
        Command::Documents { index } => documents_of::documents(cli, index).await,
        Command::Prune { dry_run } => prune::prune(cli, *dry_run).await,
        Command::Copy(args) => Box::pin(copy::copy(cli, args)).await,
        Command::Backup { to } => backup::backup(cli, to).await,
        Command::Sources(command) => sources::sources(cli, command).await,
        Command::Yara(YaraCommand::Export(args)) => yara::export(cli, args).await,
        Command::Doctor => doctor::doctor(cli).await,
        Command::Schedule(command) => schedule::schedule(cli, command),
        Command::Serve(args) => serve::serve(cli, args).await,
        Command::Demo { exit, port } => demo::demo(cli, *exit, *port).await,
        Command::Reparse { task } => run::reparse(cli, task).await,
        Command::Reindex(args) => moves::reindex(cli, args).await,
        Command::Adopt(args) => moves::adopt(cli, args).await,
        Command::Function { .. } => {
            Err(Error::config("be a function here: that is decided before any command"))
        }
    }
}

/// The settings, with the command line's word above the environment's.
pub(crate) fn settings(cli: &Cli) -> Result<Settings> {
    settings_with(cli, Vec::new())
}

/// As [`settings`], with further variables of the command's own.
pub(crate) fn settings_with(cli: &Cli, mut overrides: Vec<(&str, String)>) -> Result<Settings> {
    if let Some(folder) = &cli.data_dir {
        overrides.push(("MINERVA_DATA_DIR", folder.to_string_lossy().into_owned()));
    }
    Settings::read(&overrides)
}

/// Leaves what is stored in the databases of a folder and not in logs beside them: the functions, which wrote it, are
/// killed when they are done.
pub(crate) async fn settle(folder: &Path) {
    if let Err(error) = folder::settle(folder).await {
        tracing::warn!(error = error.chain(), "the embedded store stays open");
    }
}

/// Opens the state that the functions use.
pub(crate) async fn open_state(settings: &Settings) -> Result<Arc<dyn State>> {
    state::open(&settings.config).await
}

/// Opens the documents that the functions write.
pub(crate) async fn open_documents(settings: &Settings) -> Result<Arc<dyn Documents>> {
    documents::open(&settings.config).await
}
