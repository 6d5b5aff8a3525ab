//! Syncs the pulses that the keys' accounts are subscribed to, with their indicators.
//!
//! Reads   `api/v1/pulses/subscribed` since the last pulse that is stored, `pulses/events` for those that were deleted,
//!         `pulses/<id>/indicators` where a pulse came without all of its own, and `pulses/activity` where `subscribed` fails.
//! Writes  `otx_pulses`, one document a pulse; `otx_indicators`, one a value of a type, with all pulses that name it.
//! Twice   is harmless: equal documents are counted as unchanged and not written.
//! Quirk   `subscribed` answers 504 for days at a time: pages get smaller, and after that `activity` is read; the cursor then
//!         stays where it is, until `subscribed` answers again.

use base::Result;
use base::report::Report;
use task::{Chosen, Ctx, NoInput, Reaches, Task};

use crate::sync::{Pulses, read};

pub(crate) struct SyncOtxPulses;

impl Task for SyncOtxPulses {
    const NAME: &'static str = "sync_otx_pulses";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        let pulses = Pulses::of(ctx).await?;
        ctx.each(Chosen::every(vec![pulses]), 1, read).await
    }
}
