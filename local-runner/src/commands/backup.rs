//! `backup`: both embedded databases, copied while they are in use.

use std::path::Path;

use base::{Error, Result};
use serde_json::json;
use stores::folder::{self, CopiedFile};

use crate::cli::Cli;
use crate::home::settings;
use crate::out::{self, Outcome};
use crate::settings::Settings;

/// `local-runner backup`.
pub(crate) async fn backup(cli: &Cli, to: &Path) -> Outcome {
    let settings = settings(cli)?;
    refuse_servers(&settings)?;
    let copied = folder::backup(&settings.data_dir, to).await?;
    if cli.json {
        out::json(&json!({"from": settings.data_dir, "to": to, "files": copied}));
        return Ok(out::DONE);
    }
    let row = |one: &CopiedFile| vec![one.file.to_owned(), one.bytes.to_string()];
    out::table(&["FILE", "BYTES"], copied.iter().map(row).collect());
    out::line(&format!("a store of its own: `local-runner --data-dir {} runs`", to.display()));
    Ok(out::DONE)
}

/// Half a backup would look like a whole one.
fn refuse_servers(settings: &Settings) -> Result<()> {
    let stores = &settings.config.stores;
    let servers = [
        (stores.es_url.is_some(), "documents", "ES_URL", "a snapshot of that server"),
        (stores.database_url.is_some(), "state", "DATABASE_URL", "`pg_dump`"),
    ];
    let elsewhere: Vec<_> = servers.into_iter().filter(|(is_there, ..)| *is_there).collect();
    if elsewhere.is_empty() {
        return Ok(());
    }
    let problems: Vec<String> =
        elsewhere.iter().map(|(_, what, name, _)| format!("`{name}` holds the {what}")).collect();
    let tools: Vec<String> =
        elsewhere.iter().map(|(_, what, _, tool)| format!("the {what} with {tool}")).collect();
    Err(Error::config(format!("back up the embedded store: {}", problems.join(", ")))
        .hint(format!("back up {}", tools.join(" and "))))
}
