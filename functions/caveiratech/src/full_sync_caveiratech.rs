//! Syncs every post of CaveiraTech, and goes on where it was when it is cut off or killed.
//!
//! Reads   what `sync_caveiratech` reads, to the end of the list: over 300 pages at a second each, and each post that is not
//!         stored yet.
//! Writes  `caveiratech_news`, as `sync_caveiratech` does.
//! Twice   is harmless: posts that are known and unchanged are not asked for again; their list is.
//! Quirk   posts move between pages while they are read: the first page is read again at the end, and where more moved up than
//!         down the whole list is.

use base::Result;
use base::report::Report;
use task::{Ctx, NoInput, Reaches, Task};

use crate::crawl::{Depth, crawl};

pub(crate) struct FullSyncCaveiratech;

impl Task for FullSyncCaveiratech {
    const NAME: &'static str = "full_sync_caveiratech";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        crawl(ctx, Depth::Whole).await
    }
}
