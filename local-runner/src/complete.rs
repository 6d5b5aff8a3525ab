//! What a shell offers where a task, a source or a run is asked for.

use std::ffi::OsStr;

use base::Result;
use clap_complete::CompletionCandidate;
use stores::state::{self, State};

use crate::families::{FAMILIES, all_tasks};
use crate::settings::Settings;

/// Runs that are offered.
const RUNS: u32 = 50;

/// Every task, with what it does.
pub(crate) fn tasks(begun: &OsStr) -> Vec<CompletionCandidate> {
    let names = all_tasks().map(|(_, task)| task.name.to_owned());
    offered(begun, names)
}

/// The ids of every source.
pub(crate) fn sources(begun: &OsStr) -> Vec<CompletionCandidate> {
    let found = asked(async |settings, state| {
        let mut ids = Vec::new();
        for family in FAMILIES {
            let listed = (family.sources.list)(&settings.config, state).await?;
            ids.extend(listed.into_iter().map(|source| source.id));
        }
        Ok(ids)
    });
    offered(begun, found.into_iter())
}

/// Every task, and the ids of the newest runs.
pub(crate) fn runs(begun: &OsStr) -> Vec<CompletionCandidate> {
    let found = asked(async |_, state| {
        let runs = state.runs(None, RUNS).await?;
        Ok(runs.into_iter().map(|run| run.run_id).collect())
    });
    let mut all = tasks(begun);
    all.extend(offered(begun, found.into_iter()));
    all
}

fn offered(begun: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy();
    names.filter(|name| name.starts_with(&*begun)).map(CompletionCandidate::new).collect()
}

/// Asks the state; nothing where it cannot be asked, as nobody reads an error while typing.
fn asked(question: impl AsyncFnOnce(&Settings, &dyn State) -> Result<Vec<String>>) -> Vec<String> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    runtime
        .block_on(async {
            let settings = Settings::read(&[])?;
            let state = state::open(&settings.config).await?;
            question(&settings, state.as_ref()).await
        })
        .unwrap_or_default()
}
