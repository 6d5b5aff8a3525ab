//! Syncs one MISP feed into `cti_misp_iocs`, also one that is disabled.
//!
//! Reads   the feed of that id, name or address; with `limit` so many of its new events, or the first so many indicators of a list.
//! Writes  `cti_misp_iocs`, as `sync_all_misp_feeds` does.
//! Twice   is harmless: with a limit the next events come, or the same first indicators are unchanged.
//! Quirk   the predecessor called its input `feed_type`; that name is still understood.

use base::Result;
use base::report::Report;
use serde::Deserialize;
use task::{Ctx, Reaches, Task};

use crate::sync::{How, sync};

pub(crate) struct SyncSingleFeed;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Input {
    #[serde(alias = "feed_type", alias = "feed_id")]
    feed: String,
    limit: Option<std::num::NonZeroU64>,
}

impl Task for SyncSingleFeed {
    const NAME: &'static str = "sync_single_feed";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = Input;

    async fn run(ctx: &Ctx, input: Input) -> Result<Report> {
        let how = How { limit: input.limit.map(Into::into), ..How::default() };
        sync(ctx, how, |feeds| Ok(vec![feeds.named(&input.feed)?.id.clone()])).await
    }
}
