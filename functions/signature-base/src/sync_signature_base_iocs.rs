//! Syncs Neo23x0's indicators into `signature_base_iocs`: command servers, hashes, patterns of file names.
//!
//! Reads   the tarball at `SIGNATURE_BASE_URL`, on condition that it changed: the files of `iocs/` for `c2`, `hash`, `filename`.
//! Writes  `signature_base_iocs`, one document a value of a type; lines with equal values meet in it, with all their comments.
//! Twice   is harmless: equal indicators are counted as unchanged and not written.
//! Quirk   file names are patterns and stay patterns; a comment line describes every value below it.

use base::Result;
use base::report::Report;
use task::{Ctx, NoInput, Reaches, Task};

use crate::sync::{Part, sync};

pub(crate) struct SyncSignatureBaseIocs;

impl Task for SyncSignatureBaseIocs {
    const NAME: &'static str = "sync_signature_base_iocs";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        sync(ctx, &[Part::Iocs]).await
    }
}
