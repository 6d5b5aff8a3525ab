//! Collects the named RSS sources into `rss_articles`.
//!
//! Reads   each named source, also a disabled one: who names it wants it; every enabled one when none is named.
//! Writes  `rss_articles`, as `collect_all_rss_feeds` does.
//! Twice   is harmless: equal items are counted as unchanged and not written.
//! Quirk   the predecessor called its input `source_ids`; that name is still understood.

use base::Result;
use base::report::Report;
use serde::Deserialize;
use task::{Ctx, Reaches, Task};

use crate::collect::collect;

pub(crate) struct CollectSpecificSources;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Input {
    #[serde(alias = "source_ids")]
    sources: Vec<String>,
}

impl Task for CollectSpecificSources {
    const NAME: &'static str = "collect_specific_sources";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = Input;

    async fn run(ctx: &Ctx, input: Input) -> Result<Report> {
        collect(ctx, |sources| sources.named(&input.sources)).await
    }
}
