//! Reads the files that are new or have another time or size, and tells of those that are gone.

use std::collections::HashMap;

use base::Error;
use serde_json::{Value, json};
use task::Ctx;
use task::files::{Files, Found};
use task::source::{Stop, Visit};

use super::{BATCH, Cursor, READER, Row, SHOWN, Seen, What, known, store, vanish};
use crate::wire::Record;

/// Bytes of files whose records are written together.
const BATCH_BYTES: usize = 16 << 20;

/// The largest file that is read; the largest known family has 784 references, far below.
const FILE_MAX: u64 = 16 << 20;

pub(super) async fn read(
    ctx: &Ctx,
    visit: &mut Visit<'_>,
    what: What,
    place: &str,
    seen: &mut Seen,
) -> Result<(), Stop> {
    let files = Files::at(place, &ctx.config)?;
    let mut listing = files.list(what.folder()).await?;
    listing.retain(|file| file.name.to_ascii_lowercase().ends_with(".json"));
    if listing.is_empty() {
        return Err(Error::config(format!(
            "find a `*.json` in `{}/{}`",
            files.place(),
            what.folder()
        ))
        .hint("check MALPEDIA_DIR; nothing that is stored was touched")
        .into());
    }
    let before = known(ctx, visit, what, place).await?;
    let mut holders: HashMap<&str, u32> = HashMap::new();
    for row in before.rows.values() {
        *holders.entry(row.i.as_str()).or_default() += 1;
    }
    let mut now = Cursor { reader: READER, place: place.to_owned(), ..Cursor::default() };
    let mut taken: HashMap<String, (i64, String)> = HashMap::new();
    let mut to_read: Vec<Found> = Vec::new();
    for file in listing {
        visit.report().counts.found += 1;
        let row = before.rows.get(&file.name);
        if file.size > FILE_MAX {
            seen.reject(
                visit,
                what,
                &format!(
                    "{}: it has {} bytes, more than the {FILE_MAX} that are read",
                    file.name, file.size
                ),
            );
            keep(&mut now, &file.name, row);
        } else if let Some(row) = row
            && (row.m, row.s) == (file.modified_ms, file.size)
            && holders.get(row.i.as_str()) == Some(&1)
        {
            visit.report().counts.unchanged += 1;
            taken.insert(row.i.clone(), (row.m, file.name.clone()));
            now.rows.insert(file.name, row.clone());
        } else {
            to_read.push(file);
        }
    }
    // Of two files with one name the later one wins: it comes first, and the other finds its place taken.
    to_read.sort_by(|one, other| {
        other.modified_ms.cmp(&one.modified_ms).then_with(|| one.name.cmp(&other.name))
    });
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for file in to_read {
        let row = before.rows.get(&file.name);
        let body = match files.read(what.folder(), &file.name, FILE_MAX).await {
            Ok(body) => body,
            Err(error) => {
                seen.reject(visit, what, &format!("{}: {}", file.name, error.chain()));
                keep(&mut now, &file.name, row);
                continue;
            }
        };
        match record(what, &body, &file.name) {
            Err(reason) => {
                seen.reject(visit, what, &format!("{}: {reason}", file.name));
                keep(&mut now, &file.name, row);
            }
            Ok(record) => {
                let row = Row {
                    m: file.modified_ms,
                    s: file.size,
                    i: record.id.clone(),
                    n: record.name.clone(),
                    l: record.links.clone(),
                };
                now.rows.insert(file.name.clone(), row);
                if let Some((_, other)) =
                    taken.get(&record.id).filter(|(at, _)| *at >= file.modified_ms)
                {
                    let counts = &mut visit.report().counts;
                    counts.merged += 1;
                    if counts.merged <= SHOWN as u64 {
                        let note = format!(
                            "`{}` and `{other}` are both `{}`: the later one is taken, `{other}`",
                            file.name, record.id
                        );
                        visit.report().notes.push(note);
                    }
                    continue;
                }
                taken.insert(record.id.clone(), (file.modified_ms, file.name));
                bytes += body.len();
                batch.push(record);
            }
        }
        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
            store(ctx, visit, what, false, &mut batch).await?;
            bytes = 0;
        }
    }
    store(ctx, visit, what, false, &mut batch).await?;
    let counts = visit.report().counts;
    if counts.rejected == counts.found {
        let error = Error::format(format!(
            "read `{}/{}`: none of {} files makes sense",
            files.place(),
            what.folder(),
            counts.found
        ));
        return Err(error.hint("the rejects say why; check MALPEDIA_DIR").into());
    }
    vanish(ctx, what, false, &before, &now, seen).await?;
    visit.reach(json!(now));
    Ok(())
}

/// A file that makes no sense now is there still: what it held before is not gone, and it is looked at again.
fn keep(now: &mut Cursor, name: &str, row: Option<&Row>) {
    if let Some(row) = row {
        now.rows.insert(name.to_owned(), Row { s: u64::MAX, ..row.clone() });
    }
}

/// Reads one file; where it is no JSON, the reason tells the byte.
fn record(what: What, body: &[u8], name: &str) -> Result<Record, String> {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let value: Value = serde_json::from_slice(text).map_err(|cause| {
        let lines =
            text.split_inclusive(|byte| *byte == b'\n').take(cause.line().saturating_sub(1));
        let place = lines.map(<[u8]>::len).sum::<usize>()
            + cause.column().saturating_sub(1)
            + (body.len() - text.len());
        format!("byte {place}: it is no JSON: {cause}")
    })?;
    let object = value.as_object().ok_or("byte 0: it is no JSON object")?;
    let stem = name.len().checked_sub(5).and_then(|end| name.get(..end)).unwrap_or(name);
    (what.read())(object, stem).map_err(ToOwned::to_owned)
}
