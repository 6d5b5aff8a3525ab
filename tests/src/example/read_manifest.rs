//! Reads a manifest and every child that it names, one after the other.
//!
//! Reads   `manifest`, a JSON list of numbers, and `child/NUMBER` for each.
//! Writes  `otx_pulses`, one document a child.
//! Twice   is harmless: an unchanged manifest is one request, and a cut run goes on behind its last child.

use base::report::Report;
use base::{Error, Result};
use fetch::Request;
use serde_json::json;
use stores::documents::{self, Body, Index, Write};
use task::{Chosen, Ctx, NoInput, Reaches, Stop, Task, Visit};

use super::source::{NAME, Only, PULSE, PULSES, url};

pub(super) struct ReadManifest;

impl Task for ReadManifest {
    const NAME: &'static str = "read_manifest";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        let source = Only { id: "manifest", indices: &[PULSES] };
        ctx.each(Chosen::every(vec![source]), 1, async |visit, _| read(visit).await).await
    }
}

async fn read(visit: &mut Visit<'_>) -> Result<(), Stop> {
    let (ctx, index) = (visit.ctx(), Index::named(PULSES)?);
    let manifest = url(ctx, "manifest")?;
    // Whole while a run is cut: its validators stand for all of its children.
    let Some(answer) = visit.get(Request::get(&manifest)).await? else { return Ok(()) };
    let children: Vec<u64> = serde_json::from_slice(answer.body())
        .map_err(|cause| Error::format(format!("read `{manifest}`")).because(cause))?;
    let done = visit.cursor::<u64>();
    for child in children.into_iter().filter(|child| done.is_none_or(|done| *child > done)) {
        if visit.is_late() {
            return Ok(());
        }
        let address = url(ctx, &format!("child/{child}"))?;
        let Some(answer) = visit.get_anyway(Request::get(&address)).await? else { continue };
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        let fields = [("name", json!(text)), ("active", json!(true))];
        let fields = Body::from_iter(fields.map(|(name, value)| (name.to_owned(), value)));
        visit.found(index, 1);
        let id = documents::id(&[NAME, &child.to_string()]);
        visit.store(index, &[Write::of(id, &PULSE, fields)]).await?;
        visit.save(json!(child)).await?;
    }
    Ok(())
}
