//! Syncs every enabled MISP feed into `cti_misp_iocs`.
//!
//! Reads   each feed of `MISP_FEEDS` (or the list compiled in) that is enabled: of events those that its manifest calls new or
//!         changed, of lists all, both on condition that they changed.
//! Writes  `cti_misp_iocs`, one document for each type and value, to which every feed adds what it says.
//! Twice   is harmless: an unchanged feed is one request, and equal indicators are not written.
//! Quirk   an event whose file is missing is asked for again by every run, and a list that shrinks to a tenth is told, not
//!         believed.

use base::Result;
use base::report::Report;
use task::{Ctx, NoInput, Reaches, Task};

use crate::sync::{How, enabled, sync};

pub(crate) struct SyncAllMispFeeds;

impl Task for SyncAllMispFeeds {
    const NAME: &'static str = "sync_all_misp_feeds";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        sync(ctx, How::default(), enabled).await
    }
}
