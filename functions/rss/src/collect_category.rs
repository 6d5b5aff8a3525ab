//! Collects the RSS sources of the given categories into `rss_articles`.
//!
//! Reads   each enabled source of those categories; of all categories when none is given.
//! Writes  `rss_articles`, as `collect_all_rss_feeds` does.
//! Twice   is harmless: equal items are counted as unchanged and not written.
//! Quirk   the predecessor called its input `category_ids`; that name is still understood.

use base::Result;
use base::report::Report;
use serde::Deserialize;
use task::{Ctx, Reaches, Task};

use crate::collect::collect;

pub(crate) struct CollectCategory;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Input {
    #[serde(alias = "category_ids")]
    categories: Vec<String>,
}

impl Task for CollectCategory {
    const NAME: &'static str = "collect_category";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = Input;

    async fn run(ctx: &Ctx, input: Input) -> Result<Report> {
        collect(ctx, |sources| sources.in_categories(&input.categories)).await
    }
}
