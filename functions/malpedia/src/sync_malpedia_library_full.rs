//! Syncs Malpedia's library by its feed and then by its bibliography into `malpedia_library`.
//!
//! Reads   what `sync_malpedia_library_rss` and `sync_malpedia_library_bibtex` read.
//! Writes  `malpedia_library`, as they do.
//! Twice   is harmless: equal references are counted as unchanged and not written.
//! Quirk   a reference that comes both ways is found twice and stored once: first new, then changed.

use base::Result;
use base::report::Report;
use task::{Ctx, NoInput, Reaches, Task};

use crate::library::sync;
use crate::sources::Source;

pub(crate) struct SyncMalpediaLibraryFull;

impl Task for SyncMalpediaLibraryFull {
    const NAME: &'static str = "sync_malpedia_library_full";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        sync(ctx, &[Source::LibraryRss, Source::References, Source::LibraryBibtex]).await
    }
}
