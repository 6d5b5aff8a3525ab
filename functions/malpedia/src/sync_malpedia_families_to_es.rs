//! Mirrors Malpedia's enriched families from disk, bucket or API into `malpedia_families`.
//!
//! Reads   every `*.json` below `MALPEDIA_DIR` (`families_enriched`) that is new or has another time or size; Malpedia's API when unset.
//! Writes  `malpedia_families`, one document a record, id from Malpedia's own id, else from the name; `cti_yara_rules`, the rules of families.
//! Twice   is harmless: an unchanged file is not opened, an equal record is not written.
//! Quirk   a file that vanished leaves its document, marked `active: false`; a record without a description blanks none.

use base::Result;
use base::report::Report;
use task::{Ctx, NoInput, Reaches, Task};

use crate::catalogue::sync;
use crate::sources::Source;

pub(crate) struct SyncMalpediaFamiliesToEs;

impl Task for SyncMalpediaFamiliesToEs {
    const NAME: &'static str = "sync_malpedia_families_to_es";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Files, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        sync(ctx, &[Source::Families, Source::Rules]).await
    }
}
