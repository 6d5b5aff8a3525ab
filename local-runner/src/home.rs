//! What commands read, open and leave: settings, stores, the log of functions, the signal to end.

use std::path::Path;
use std::sync::Arc;

use base::Result;
use stores::documents::{self, Documents};
use stores::folder;
use stores::state::{self, State};

use crate::cli::Cli;
use crate::lambda::LogSink;
use crate::out;
use crate::settings::Settings;

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

/// Waits for Ctrl-C, a polite request to end, or the end of the terminal.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// Shows the functions' log, or keeps it to themselves.
pub(crate) fn log_sink(verbose: bool) -> LogSink {
    Arc::new(move |line| {
        if verbose {
            out::note(line.text);
        }
    })
}
