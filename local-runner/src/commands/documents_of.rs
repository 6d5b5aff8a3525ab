//! `documents`: every document of an index, one JSON object a line, for scripts.

use base::shown;
use stores::documents::{Index, Pages, Scan};

use crate::cli::Cli;
use crate::home::{open_documents, settings};
use crate::out::{self, Outcome};

/// `local-runner documents`.
pub(crate) async fn documents(cli: &Cli, index: &str) -> Outcome {
    let index = Index::named(index)?;
    let store = open_documents(&settings(cli)?).await?;
    let mut pages = Pages::new(store.as_ref(), index, Scan::default());
    while let Some(page) = pages.next().await? {
        out::lines(
            page.iter()
                .map(|document| serde_json::to_string(document).expect("a document is JSON"))
                .map(|text| shown::json(&text)),
        );
    }
    Ok(out::DONE)
}
