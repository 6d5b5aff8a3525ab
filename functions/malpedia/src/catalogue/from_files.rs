//! Reads the files that are new or have another time or size, and tells of those that are gone.

use std::collections::{BTreeSet, HashMap};

use base::Error;
use base::json;
use serde_json::json;
use task::files::{Files, Found};
use task::{Stop, Visit};

use super::kind::{Cursor, RECORDS_MAX, RecordKind, SHOWN, StoredRecord, note_cut};
use crate::wire::{BATCH, BATCH_BYTES, Read, Record};

/// The largest file that is read; the largest known family has 784 references, far below.
const FILE_MAX: u64 = 16 << 20;

pub(super) async fn read(
    visit: &mut Visit<'_>,
    kind: &'static RecordKind,
    place: &str,
) -> Result<BTreeSet<String>, Stop> {
    let index = kind.source.index()?;
    let files = Files::at(place, &visit.ctx().config)?;
    let shown = format!("{}/{}", files.place(), kind.folder);
    let listing = kind.source.files(&files).await?;
    if listing.is_empty() {
        return Err(Error::config(format!("find a `*.json` in `{shown}`"))
            .hint("check MALPEDIA_DIR; nothing that is stored was touched")
            .into());
    }
    let before = Cursor::of(visit, place);
    let mut holders: HashMap<&str, u32> = HashMap::new();
    for row in before.rows.values() {
        *holders.entry(&row.id).or_default() += 1;
    }
    let mut reached = Cursor::at(place);
    let mut taken: HashMap<String, (i64, String)> = HashMap::new();
    let mut to_read: Vec<Found> = Vec::new();
    for (place, file) in listing.into_iter().enumerate() {
        visit.found(index, 1);
        let row = before.rows.get(&file.name);
        if place >= RECORDS_MAX {
            visit.reject(
                index,
                format!("{}: more than {RECORDS_MAX} files are not read", file.name),
            );
            reached.keep(&file.name, row);
        } else if file.size > FILE_MAX {
            let size =
                format!("it has {} bytes, more than the {FILE_MAX} that are read", file.size);
            visit.reject(index, format!("{}: {size}", file.name));
            reached.keep(&file.name, row);
        } else if let Some(row) = row
            && (row.modified_ms, row.size) == (file.modified_ms, file.size)
            && holders.get(row.id.as_str()) == Some(&1)
        {
            visit.unchanged(index, 1);
            taken.insert(row.id.clone(), (row.modified_ms, file.name.clone()));
            reached.rows.insert(file.name, row.clone());
        } else {
            to_read.push(file);
        }
    }
    // Of two files with one name the later one wins: it comes first, and the other finds its place taken.
    to_read.sort_by(|one, other| {
        other.modified_ms.cmp(&one.modified_ms).then_with(|| one.name.cmp(&other.name))
    });
    let (mut batch, mut bytes, mut cut) = (Vec::new(), 0, 0);
    for Found { name, size, modified_ms } in to_read {
        let body = files.read(kind.folder, &name, FILE_MAX).await;
        let body = body.map_err(|error| error.chain());
        match body.and_then(|body| Ok((record(kind.read, &body, &name)?, body.len()))) {
            Err(reason) => {
                visit.reject(index, format!("{name}: {reason}"));
                reached.keep(&name, before.rows.get(&name));
            }
            Ok((record, length)) => {
                cut += record.cut;
                let row = StoredRecord { modified_ms, size, ..StoredRecord::of(&record) };
                reached.rows.insert(name.clone(), row);
                match taken.get(&record.id) {
                    Some((at, other)) if *at >= modified_ms => {
                        if visit.counts(index).merged < SHOWN as u64 {
                            visit.note(format!(
                                "`{name}` and `{other}` are both `{}`: the later one is taken, `{other}`",
                                record.id
                            ));
                        }
                        visit.merged(index, 1);
                    }
                    _ => {
                        taken.insert(record.id.clone(), (modified_ms, name));
                        bytes += length;
                        batch.push(record);
                    }
                }
            }
        }
        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
            kind.store(visit, kind.of_files, &mut batch).await?;
            bytes = 0;
        }
    }
    kind.store(visit, kind.of_files, &mut batch).await?;
    note_cut(visit, cut);
    let counts = visit.counts(index);
    if counts.rejected == counts.found {
        let error =
            Error::format(format!("read `{shown}`: each of {} files is malformed", counts.found));
        return Err(error.hint("the rejects say why; check MALPEDIA_DIR").into());
    }
    let vanished = kind.retire(visit, kind.of_files, &before, &reached).await?;
    visit.reach(json!(reached));
    Ok(vanished)
}

/// Reads one file; where it is no JSON, the reason tells the byte.
fn record(read: Read, body: &[u8], name: &str) -> Result<Record, String> {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let (value, cut) = json::bounded(text).map_err(|cause| {
        let lines =
            text.split_inclusive(|byte| *byte == b'\n').take(cause.line().saturating_sub(1));
        let place = lines.map(<[u8]>::len).sum::<usize>()
            + cause.column().saturating_sub(1)
            + (body.len() - text.len());
        format!("byte {place}: it is no JSON: {cause}")
    })?;
    let object = value.as_object().ok_or("byte 0: it is no JSON object")?;
    let stem = name.len().checked_sub(5).and_then(|end| name.get(..end)).unwrap_or(name);
    let mut record = read(object, stem)?;
    record.cut += cut;
    Ok(record)
}
