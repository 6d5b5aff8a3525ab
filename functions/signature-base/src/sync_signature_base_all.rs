//! Syncs Neo23x0's YARA rules and indicators in one go.
//!
//! Reads   the tarball at `SIGNATURE_BASE_URL`, once for both, on condition that it changed for either.
//! Writes  `cti_yara_rules` and `signature_base_iocs`, as the two single tasks do.
//! Twice   is harmless: equal rules and indicators are counted as unchanged and not written.
//! Quirk   rules and indicators are two sources with a cursor each, so one can fail without the other.

use base::Result;
use base::report::Report;
use task::{Ctx, NoInput, Reaches, Task};

use crate::sync::{Part, sync};

pub(crate) struct SyncSignatureBaseAll;

impl Task for SyncSignatureBaseAll {
    const NAME: &'static str = "sync_signature_base_all";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        sync(ctx, &Part::ALL).await
    }
}
