//! `documents`: every document of an index, one JSON object a line, for scripts.

use stores::documents::Index;

use super::{open_documents, settings};
use crate::cli::Cli;
use crate::out::{self, Outcome};

/// Documents read at once.
const PAGE: u32 = 500;

/// `local-runner documents`.
pub(crate) async fn documents(cli: &Cli, index: &str) -> Outcome {
    let index = Index::named(index)?;
    let store = open_documents(&settings(cli)?).await?;
    let mut after: Option<String> = None;
    loop {
        let page = store.scan(index, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(out::DONE) };
        after = Some(last.id.clone());
        out::lines(
            page.iter()
                .map(|document| serde_json::to_string(document).expect("a document is JSON")),
        );
    }
}
