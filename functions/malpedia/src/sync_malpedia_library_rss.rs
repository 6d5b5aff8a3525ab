//! Syncs what is new in Malpedia's library, by its feed, into `malpedia_library`.
//!
//! Reads   `MALPEDIA_URL/feeds/rss/latest`, on condition that it changed.
//! Writes  `malpedia_library`, one document a reference, id from its canonical address.
//! Twice   is harmless: equal items are counted as unchanged and not written.
//! Quirk   the feed knows little of a reference; what the bibliography says of it stays, and replaces the rest when it comes.

use base::Result;
use base::report::Report;
use task::{Ctx, NoInput, Reaches, Task};

use crate::library::sync;
use crate::sources::Source;

pub(crate) struct SyncMalpediaLibraryRss;

impl Task for SyncMalpediaLibraryRss {
    const NAME: &'static str = "sync_malpedia_library_rss";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        sync(ctx, &[Source::LibraryRss]).await
    }
}
