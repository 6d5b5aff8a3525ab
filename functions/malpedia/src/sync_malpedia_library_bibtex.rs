//! Syncs the whole of Malpedia's library, by its bibliography, into `malpedia_library`.
//!
//! Reads   `MALPEDIA_URL/library/download` and, for what each reference is about, `api/get/references`.
//! Writes  `malpedia_library`, one document a reference, id from its canonical address, else from its key.
//! Twice   is harmless: equal entries are counted as unchanged and not written.
//! Quirk   values are raw text, not TeX; a date may be a year or a month, and its precision is kept beside it.

use base::Result;
use base::report::Report;
use task::{Ctx, NoInput, Reaches, Task};

use crate::library::sync;
use crate::sources::Source;

pub(crate) struct SyncMalpediaLibraryBibtex;

impl Task for SyncMalpediaLibraryBibtex {
    const NAME: &'static str = "sync_malpedia_library_bibtex";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        sync(ctx, &[Source::References, Source::LibraryBibtex]).await
    }
}
