//! What a shell offers where a task, a source, a run or another thing by its name is asked for.

use std::ffi::OsStr;

use base::Result;
use clap::CommandFactory as _;
use clap_complete::CompletionCandidate;
use stores::documents::Index;
use stores::state::{QueueState, State};

use crate::cli::Cli;
use crate::families::{FAMILIES, all_tasks};
use crate::settings::Settings;

/// Runs, or invocations, that are offered.
const NEWEST: u32 = 50;

/// Every task, with what it does.
pub(crate) fn tasks(begun: &OsStr) -> Vec<CompletionCandidate> {
    let names = all_tasks().map(|(_, task)| task.name.to_owned());
    offered(begun, names)
}

/// The ids of every source.
pub(crate) fn sources(begun: &OsStr) -> Vec<CompletionCandidate> {
    offered(begun, listed(false).into_iter())
}

/// Every source with its family before it.
pub(crate) fn qualified_sources(begun: &OsStr) -> Vec<CompletionCandidate> {
    offered(begun, listed(true).into_iter())
}

fn listed(is_qualified: bool) -> Vec<String> {
    asked(async |settings, state| {
        let mut ids = Vec::new();
        for family in FAMILIES {
            let listed = (family.sources.list)(&settings.config, state).await?;
            ids.extend(listed.into_iter().map(|source| match is_qualified {
                true => format!("{}/{}", family.name, source.id),
                false => source.id,
            }));
        }
        Ok(ids)
    })
}

/// Every task, and the ids of the newest runs.
pub(crate) fn runs(begun: &OsStr) -> Vec<CompletionCandidate> {
    let found = asked(async |_, state| {
        let runs = state.runs(None, NEWEST).await?;
        Ok(runs.into_iter().map(|run| run.run_id).collect())
    });
    let mut all = tasks(begun);
    all.extend(offered(begun, found.into_iter()));
    all
}

/// What waits in the queue.
pub(crate) fn waiting(begun: &OsStr) -> Vec<CompletionCandidate> {
    offered(begun, queue(QueueState::Queued).into_iter())
}

/// What failed for good.
pub(crate) fn dead_letters(begun: &OsStr) -> Vec<CompletionCandidate> {
    offered(begun, queue(QueueState::Dead).into_iter())
}

fn queue(state: QueueState) -> Vec<String> {
    asked(async |_, ledger| {
        let entries = ledger.queue(state, NEWEST).await?;
        Ok(entries.into_iter().map(|entry| entry.request_id).collect())
    })
}

/// Every index, and the names of several as one.
pub(crate) fn indices(begun: &OsStr) -> Vec<CompletionCandidate> {
    offered(begun, Index::names().map(ToOwned::to_owned))
}

/// What `help` tells of.
pub(crate) fn topics(begun: &OsStr) -> Vec<CompletionCandidate> {
    let command = Cli::command();
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let names = commands.map(|command| command.get_name().to_owned());
    offered(begun, names.chain(["settings".to_owned()]))
}

fn offered(begun: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy();
    names.filter(|name| name.starts_with(&*begun)).map(CompletionCandidate::new).collect()
}

/// Asks the state, and makes none; nothing where it cannot be asked, as nobody reads an error while typing.
fn asked(question: impl AsyncFnOnce(&Settings, &dyn State) -> Result<Vec<String>>) -> Vec<String> {
    // Settings that stand elsewhere are read as another thread goes on with the rest.
    let Ok(runtime) =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
    else {
        return Vec::new();
    };
    runtime
        .block_on(async {
            let settings = Settings::read(&[])?;
            let state = settings.look_at_state().await?;
            question(&settings, state.as_ref()).await
        })
        .unwrap_or_default()
}
