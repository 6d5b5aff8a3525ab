//! Reads pages of pulses, each with its indicators, and stores both in one visit.
//!
//! Reads   `page`, and whatever each page names as its `next`.
//! Writes  `otx_pulses` and `otx_indicators`.
//! Twice   is harmless: equal documents are counted as unchanged and not written.

use base::report::Report;
use base::{Error, Result};
use fetch::Request;
use serde::Deserialize;
use serde_json::json;
use stores::documents::{self, Body, Index, Owner, Write};
use task::{Chosen, Ctx, NoInput, Reaches, Stop, Task, Visit};

use super::source::{INDICATOR, INDICATORS, NAME, Only, PULSE, PULSES, url};

#[derive(Deserialize)]
struct Page {
    pulses: Vec<Pulse>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Pulse {
    name: String,
    indicators: Vec<String>,
}

pub(super) struct ReadTwoIndices;

impl Task for ReadTwoIndices {
    const NAME: &'static str = "read_two_indices";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        let source = Only { id: "pulses", indices: &[PULSES, INDICATORS] };
        ctx.each(Chosen::every(vec![source]), 1, async |visit, _| read(visit).await).await
    }
}

async fn read(visit: &mut Visit<'_>) -> Result<(), Stop> {
    let (pulses, indicators) = (Index::named(PULSES)?, Index::named(INDICATORS)?);
    let mut next = Some("page".to_owned());
    while let Some(path) = next.take() {
        let address = url(visit.ctx(), &path)?;
        let Some(answer) = visit.get(Request::get(&address)).await? else { break };
        let page: Page = serde_json::from_slice(answer.body())
            .map_err(|cause| Error::format(format!("read `{address}`")).because(cause))?;
        for pulse in &page.pulses {
            visit.found(pulses, 1);
            visit.store(pulses, &[write(&PULSE, "name", &pulse.name)]).await?;
            visit.found(indicators, pulse.indicators.len() as u64);
            let writes: Vec<Write> =
                pulse.indicators.iter().map(|value| write(&INDICATOR, "value", value)).collect();
            visit.store(indicators, &writes).await?;
        }
        next = page.next;
    }
    Ok(())
}

fn write(owner: &'static Owner, field: &str, value: &str) -> Write {
    let fields = [(field, json!(value)), ("active", json!(true))];
    let fields = Body::from_iter(fields.map(|(name, value)| (name.to_owned(), value)));
    Write::of(documents::id(&[NAME, owner.name, value]), owner, fields)
}
