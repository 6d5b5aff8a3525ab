//! Reads a body that its parser never comes to the end of, beside one that is read at once.
//!
//! Reads   `costly` and `neighbour`.
//! Writes  `otx_pulses`, one document of the neighbour.
//! Twice   is harmless.
//! Quirk   `first_ms` is how long the neighbour takes, which is then visited before the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base::report::Report;
use base::{Error, Result};
use fetch::Request;
use serde::Deserialize;
use serde_json::json;
use stores::documents::{self, Body, Index, Write};
use task::{Chosen, Ctx, Reaches, Stop, Task, Visit};

use super::source::{NAME, Only, PULSE, PULSES, url};

/// Parsers that are at work in this process.
pub static PARSING: AtomicUsize = AtomicUsize::new(0);

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Input {
    first_ms: u64,
}

pub(super) struct ReadCostly;

impl Task for ReadCostly {
    const NAME: &'static str = "read_costly";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = Input;

    async fn run(ctx: &Ctx, input: Input) -> Result<Report> {
        let sources = ["neighbour", "costly"].map(|id| Only { id, indices: &[PULSES] });
        let at_once = if input.first_ms == 0 { 2 } else { 1 };
        let first = Duration::from_millis(input.first_ms);
        let read = async |visit: &mut Visit<'_>, source: &Only| read(visit, source.id, first).await;
        ctx.each(Chosen::every(sources.to_vec()), at_once, read).await
    }
}

async fn read(visit: &mut Visit<'_>, id: &str, first: Duration) -> Result<(), Stop> {
    let address = url(visit.ctx(), id)?;
    let Some(answer) = visit.get(Request::get(&address)).await? else { return Ok(()) };
    let (cutoff, is_costly) = (visit.cutoff(), id == "costly");
    let parsing = tokio::task::spawn_blocking(move || {
        PARSING.fetch_add(1, Ordering::SeqCst);
        let end = Instant::now() + first;
        while (is_costly || Instant::now() < end) && !cutoff.is_over() {
            std::hint::spin_loop();
        }
        PARSING.fetch_sub(1, Ordering::SeqCst);
        String::from_utf8_lossy(answer.body()).into_owned()
    });
    let text = parsing.await.map_err(|_| Error::format("parse: it panicked"))?;
    let index = Index::named(PULSES)?;
    if visit.is_late() {
        return Ok(());
    }
    visit.found(index, 1);
    let fields = [("name", json!(text)), ("active", json!(true))];
    let fields = Body::from_iter(fields.map(|(name, value)| (name.to_owned(), value)));
    visit.store(index, &[Write::of(documents::id(&[NAME, id]), &PULSE, fields)]).await?;
    Ok(())
}
