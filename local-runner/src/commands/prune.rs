//! `prune`: deletes documents that are older than their index keeps, and says by which date.

use stores::documents::Index;
use stores::retention::{self, Pruned};
use task::function::now;

use crate::cli::Cli;
use crate::home::{open_documents, settings};
use crate::out::{self, Outcome};

/// `local-runner prune`.
pub(crate) async fn prune(cli: &Cli, is_trial: bool) -> Outcome {
    let settings = settings(cli)?;
    let keep = &settings.config.stores.keep_days;
    let store = open_documents(&settings).await?;
    let mut pruned: Vec<Pruned> = Vec::new();
    for index in Index::all() {
        let now = now(&settings.config);
        pruned.push(retention::prune(store.as_ref(), keep, index, now, is_trial).await?);
    }
    if cli.json {
        out::json(&pruned);
        return Ok(out::DONE);
    }
    let rows = pruned.iter().map(|one| {
        vec![
            one.index.to_owned(),
            one.days.map_or_else(|| "all".to_owned(), |days| format!("{days} days")),
            one.before.map_or_else(String::new, |before| before.strftime("%Y-%m-%d").to_string()),
            one.by.join(", else "),
            one.kept.to_string(),
            one.deleted.to_string(),
        ]
    });
    let deleted = if is_trial { "WOULD DELETE" } else { "DELETED" };
    out::table(&["INDEX", "KEEPS", "FROM", "BY", "KEPT", deleted], rows.collect());
    if pruned.iter().all(|one| one.days.is_none()) {
        out::note("`MINERVA_KEEP_DAYS` is not set: everything is kept");
    }
    Ok(out::DONE)
}
