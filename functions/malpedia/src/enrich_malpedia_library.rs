//! Adds to each entry of the library a summary by a language model, and the families and actors that it means.
//!
//! Reads   `malpedia_library` and the indices that `ENRICH_INDICES` names beside it; the names of stored families and actors;
//!         with `ENRICH_FETCH` the pages of entries that have little text.
//! Writes  `enriched_summary`, `actors_mentioned`, `families_mentioned` and how they came about, into the same documents.
//! Twice   is harmless: an entry is asked for again only when its text, the question or `ENRICH_LANGUAGE` changed.
//! Quirk   without a language model in the settings it is skipped, and says which to set.

use base::Result;
use base::report::Report;
use llm::Model;
use task::{Chosen, Ctx, NoInput, Reaches, Task};

use crate::enrichment::{Enrichment, PageReader, enrich};
use crate::settings::Settings;

pub(crate) struct EnrichMalpediaLibrary;

impl Task for EnrichMalpediaLibrary {
    const NAME: &'static str = "enrich_malpedia_library";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        let settings: Settings = ctx.settings()?;
        let Some(model) = Model::of(&ctx.config)? else {
            let reason =
                "no language model is set: set `LLM_PROVIDER`, and `LLM_API_KEY` or `LLM_URL`";
            return Ok(Report::skipped(reason));
        };
        let pages = settings.enrich_fetch.then(PageReader::new);
        let source = Enrichment { model, settings, pages };
        ctx.each(Chosen::every(vec![source]), 1, enrich).await
    }
}
