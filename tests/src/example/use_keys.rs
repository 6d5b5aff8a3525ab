//! Asks as often as its input says, with keys that have a budget.
//!
//! Reads   `keyed/NUMBER`, with a key of the pool.
//! Writes  nothing.
//! Twice   asks twice.

use base::Result;
use base::config::Secret;
use base::report::Report;
use fetch::Request;
use jiff::tz::TimeZone;
use serde::Deserialize;
use task::{Chosen, Ctx, KeyPool, Reaches, Task};

use super::source::{Only, PULSES, url};

/// Uses of a key in a day.
const PER_DAY: u32 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Input {
    /// The source: each process asks as one of its own.
    source: u32,
    /// Requests.
    requests: u32,
}

pub(super) struct UseKeys;

impl Task for UseKeys {
    const NAME: &'static str = "use_keys";
    const REACHES: &'static [Reaches] = &[Reaches::Network];
    type Input = Input;

    async fn run(ctx: &Ctx, input: Input) -> Result<Report> {
        let secrets = ["one", "two"].map(|key| Secret::new(key.to_owned()));
        let pool = KeyPool::new("example", "x-key", secrets.into(), PER_DAY, TimeZone::UTC);
        let ids = ["keyed-0", "keyed-1", "keyed-2", "keyed-3"];
        let source = Only { id: ids[input.source as usize % ids.len()], indices: &[PULSES] };
        let work = async |visit: &mut task::Visit<'_>, source: &Only| {
            for number in 0..input.requests {
                let address = url(ctx, &format!("keyed/{}/{number}", source.id))?;
                visit.get_with_key(&pool, Request::get(&address)).await?;
            }
            Ok(())
        };
        ctx.each(Chosen::every(vec![source]), 1, work).await
    }
}
