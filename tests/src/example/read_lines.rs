//! Reads a body of any length line by line, and stores a document for every block of lines.
//!
//! Reads   `lines`, as a stream.
//! Writes  `otx_pulses`, one document for each [`BLOCK`] of lines: how many there were and a checksum over them.
//! Twice   is harmless: a killed or cut run goes on behind its last block, and an unchanged body is one request.

use base::Result;
use base::report::Report;
use fetch::{Limits, Request};
use serde::{Deserialize, Serialize};
use serde_json::json;
use stores::documents::{self, Body, Index, Write};
use task::{Chosen, Ctx, NoInput, Position, Reaches, Stop, Task, Visit};

use super::source::{NAME, Only, PULSE, PULSES, url};

/// Lines of a block: 64 KiB to 16 MiB of text.
pub(super) const BLOCK: u64 = 1 << 18;

/// Where a run goes on.
#[derive(Default, Serialize, Deserialize)]
struct Cursor {
    position: Position,
    blocks: u64,
}

pub(super) struct ReadLines;

impl Task for ReadLines {
    const NAME: &'static str = "read_lines";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        let source = Only { id: "lines", indices: &[PULSES] };
        ctx.each(Chosen::every(vec![source]), 1, async |visit, _| read(visit).await).await
    }
}

async fn read(visit: &mut Visit<'_>) -> Result<(), Stop> {
    let address = url(visit.ctx(), "lines")?;
    let cursor = visit.cursor::<Cursor>().unwrap_or_default();
    let request = Request::get(&address).limits(Limits::STREAM);
    let Some(mut body) = visit.stream(request, Some(&cursor.position)).await? else {
        return Ok(());
    };
    // Of another version everything is read, from its first block.
    let mut block =
        if body.position().offset == cursor.position.offset { cursor.blocks } else { 0 };
    let (mut line, mut lines, mut sum) = (Vec::new(), 0_u64, 0_u64);
    loop {
        let is_end = body.line(&mut line).await?.is_none();
        if !is_end {
            lines += 1;
            let text = line.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
            sum = sum.wrapping_add(text);
        }
        if lines == BLOCK || (is_end && lines > 0) {
            store(visit, block, lines, sum).await?;
            block += 1;
            (lines, sum) = (0, 0);
            visit.save(json!(Cursor { position: body.position(), blocks: block })).await?;
            if visit.is_late() {
                return Ok(());
            }
        }
        if is_end {
            visit.close(body)?;
            // Read to its end: another version begins anew.
            visit.save(json!(Cursor::default())).await?;
            return Ok(());
        }
    }
}

async fn store(visit: &mut Visit<'_>, block: u64, lines: u64, sum: u64) -> Result<(), Stop> {
    let index = Index::named(PULSES)?;
    visit.found(index, 1);
    let (name, text) = (format!("block {block}"), format!("{lines} lines, {sum}"));
    let fields = [("name", json!(name)), ("description", json!(text)), ("active", json!(true))];
    let fields = Body::from_iter(fields.map(|(name, value)| (name.to_owned(), value)));
    let id = documents::id(&[NAME, "block", &block.to_string()]);
    visit.store(index, &[Write::of(id, &PULSE, fields)]).await?;
    Ok(())
}
