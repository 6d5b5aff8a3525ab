//! Syncs Neo23x0's YARA rules into `cti_yara_rules`.
//!
//! Reads   the tarball at `SIGNATURE_BASE_URL`, on condition that it changed: every `.yar` and `.yara` file in it.
//! Writes  `cti_yara_rules`, one document a rule, id from the family and the rule's name.
//! Twice   is harmless: equal rules are counted as unchanged, not written, and not compiled again.
//! Quirk   a rule that is no longer there stays and becomes inactive; this needs a tarball that was read to its end.

use base::Result;
use base::report::Report;
use task::{Ctx, NoInput, Reaches, Task};

use crate::sync::{Part, sync};

pub(crate) struct SyncSignatureBaseYara;

impl Task for SyncSignatureBaseYara {
    const NAME: &'static str = "sync_signature_base_yara";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        sync(ctx, &[Part::Rules]).await
    }
}
