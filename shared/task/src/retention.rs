//! What a run deletes at its end: documents older than `MINERVA_KEEP_DAYS` allows for their index.

use std::collections::BTreeSet;
use std::time::Duration;

use base::report::{Report, Status};
use stores::documents::Index;
use stores::retention::{delete, limit};
use tokio::time::{Instant, timeout_at};

use crate::Ctx;

/// Documents that a run deletes at the most; the next one goes on.
const RUN_COUNT_MAX: u64 = 5_000;

/// How long a run deletes at the most. It is half of the time left, if that is less.
const RUN_TIME_MAX: Duration = Duration::from_secs(5);

/// Deletes, at the end of a run, what is too old in the indices that the run stored to. Never fails the run.
pub(crate) async fn after_run(ctx: &Ctx, report: Report) -> Report {
    let keep = &ctx.config.stores.keep_days;
    let time = RUN_TIME_MAX.min(ctx.deadline.left() / 2);
    if keep.is_nothing() || time.is_zero() || report.status == Status::Failed {
        return report;
    }
    let until = Instant::now() + time;
    let mut pruned = 0;
    let indices: BTreeSet<&str> =
        report.sources.iter().map(|source| source.index.as_str()).collect();
    for index in indices.into_iter().filter_map(|name| Index::named(name).ok()) {
        let Some(before) = limit(keep, index, ctx.now()) else { continue };
        while pruned < RUN_COUNT_MAX {
            // A page at a time, so that what was done is known when time is up.
            let one = delete(ctx.store.as_ref(), index, before, 1);
            match timeout_at(until, one).await {
                Ok(Ok(0)) => break,
                Ok(Ok(deleted)) => pruned += deleted,
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = error.chain(),
                        "delete what is too old; the next run does"
                    );
                    break;
                }
                Err(_late) => break,
            }
        }
    }
    Report { pruned, ..report }
}
