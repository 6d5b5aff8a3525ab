//! Reads a source that gives more than a visit may store.
//!
//! Reads   `endless`, or what its input names, a number: how many items it gives.
//! Writes  `otx_pulses`, one document an item, as far as the limit goes.
//! Twice   is harmless.

use base::report::Report;
use base::{Error, Result};
use fetch::Request;
use serde::Deserialize;
use serde_json::json;
use stores::documents::{self, Body, Index, Write};
use task::{Chosen, Ctx, Reaches, Source, Stop, Task, Visit, VisitLimits};

use super::source::{NAME, PULSE, PULSES, url};

/// Items of one visit.
pub const ITEMS_MAX: u64 = 1_000;

/// Items that are stored together.
const BATCH: usize = 100;

pub(super) struct ReadEndless;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Endless {
    name: String,
}

impl Default for Endless {
    fn default() -> Self {
        Self { name: "endless".to_owned() }
    }
}

impl Source for Endless {
    fn id(&self) -> &str {
        &self.name
    }

    fn indices(&self) -> &'static [&'static str] {
        &[PULSES]
    }

    fn limits(&self) -> VisitLimits {
        VisitLimits { items: ITEMS_MAX, ..VisitLimits::DEFAULT }
    }
}

impl Task for ReadEndless {
    const NAME: &'static str = "read_endless";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = Endless;

    async fn run(ctx: &Ctx, source: Endless) -> Result<Report> {
        let read = async |visit: &mut Visit<'_>, source: &Endless| read(visit, &source.name).await;
        ctx.each(Chosen::every(vec![source]), 1, read).await
    }
}

async fn read(visit: &mut Visit<'_>, name: &str) -> Result<(), Stop> {
    let address = url(visit.ctx(), name)?;
    let Some(answer) = visit.get(Request::get(&address)).await? else { return Ok(()) };
    let count: u64 = serde_json::from_slice(answer.body())
        .map_err(|cause| Error::format(format!("read `{address}`")).because(cause))?;
    let index = Index::named(PULSES)?;
    let numbers: Vec<u64> = (0..count).collect();
    for batch in numbers.chunks(BATCH) {
        let writes: Vec<Write> = batch.iter().map(|number| write(name, *number)).collect();
        visit.found(index, writes.len() as u64);
        visit.store(index, &writes).await?;
    }
    Ok(())
}

/// A name that is longer than its field takes, and a truth value that is none.
fn write(source: &str, number: u64) -> Write {
    let name = format!("item {number} {}", "x".repeat(100_000 * usize::from(number == 0)));
    let active = if number == 1 { json!("perhaps") } else { json!(true) };
    let fields = [("name", json!(name)), ("active", active)];
    let fields = Body::from_iter(fields.map(|(name, value)| (name.to_owned(), value)));
    Write::of(documents::id(&[NAME, source, &number.to_string()]), &PULSE, fields)
}
