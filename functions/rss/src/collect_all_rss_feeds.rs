//! Collects every enabled RSS source into `rss_articles`.
//!
//! Reads   each source of `RSS_SOURCES` (or the list compiled in) that is enabled, on condition that it changed.
//! Writes  `rss_articles`, one document an item, id from the source and the item's own id.
//! Twice   is harmless: equal items are counted as unchanged and not written.
//! Quirk   a feed is a window on the newest items; one that moved on by more than its length has lost some for us.

use base::Result;
use base::report::Report;
use task::{Ctx, NoInput, Reaches, Task};

use crate::collect::collect;

pub(crate) struct CollectAllRssFeeds;

impl Task for CollectAllRssFeeds {
    const NAME: &'static str = "collect_all_rss_feeds";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        collect(ctx, |sources| Ok(sources.enabled().collect())).await
    }
}
