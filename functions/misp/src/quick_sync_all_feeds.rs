//! Syncs of every enabled MISP feed only what is called new, into `cti_misp_iocs`.
//!
//! Reads   each enabled feed on condition that it changed; no list whose server does not tell that, and no missing event again.
//! Writes  `cti_misp_iocs`, as `sync_all_misp_feeds` does.
//! Twice   is harmless: an unchanged feed is one request.
//! Quirk   a feed that it leaves out is `skipped` in the report, with the reason.

use base::Result;
use base::report::Report;
use task::{Ctx, NoInput, Reaches, Task};

use crate::sync::{How, enabled, sync};

pub(crate) struct QuickSyncAllFeeds;

impl Task for QuickSyncAllFeeds {
    const NAME: &'static str = "quick_sync_all_feeds";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        sync(ctx, How { is_quick: true, ..How::default() }, enabled).await
    }
}
