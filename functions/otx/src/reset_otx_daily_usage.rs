//! Resets the daily usage of OTX's keys.
//!
//! Reads   the keys' uses in the state.
//! Writes  that state, no documents.
//! Twice   is harmless: the second time there is nothing to reset.
//! Quirk   a day ends at local midnight by itself. A scheduled run clears the days before that of its slot and nothing of
//!         its own day, however late it comes, so no key is used beyond its limit; on demand today's uses are cleared too.

use base::Result;
use base::report::Report;
use serde_json::json;
use task::{Ctx, NoInput, Reaches, Task};

use crate::settings::Settings;

pub(crate) struct ResetOtxDailyUsage;

impl Task for ResetOtxDailyUsage {
    const NAME: &'static str = "reset_otx_daily_usage";
    const REACHES: &'static [Reaches] = &[];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        let pool = ctx.settings::<Settings>()?.pool()?;
        let (day, _) = pool.day(ctx.run.slot.unwrap_or(ctx.now()))?;
        let reset = pool.reset(ctx, |window| match ctx.run.slot {
            Some(_) => window < day.as_str(),
            None => window <= day.as_str(),
        });
        let reset = reset.await?;
        Ok(Report::of_detail(
            json!({ "day": day, "reset": reset, "keys": pool.standing(ctx).await? }),
        ))
    }
}
