//! Reads all families or actors from the API in one answer, where its version grew.

use std::collections::{BTreeSet, HashSet};

use base::json;
use base::report::Outcome;
use base::{Error, Result};
use serde_json::json;
use task::{Stop, Visit};
use tokio::sync::mpsc;

use super::kind::{Cursor, RECORDS_MAX, RecordKind, StoredRecord, note_cut};
use crate::api::{Api, not_what_malpedia_sends, panicked, read_json};
use crate::wire;

/// Bytes of a key that a reject shows.
const SHOWN_KEY: usize = 80;

pub(super) async fn read(
    visit: &mut Visit<'_>,
    kind: &'static RecordKind,
    api: &Api,
) -> Result<BTreeSet<String>, Stop> {
    let index = kind.source.index()?;
    let before = Cursor::of(visit, api.base.as_str());
    let version = version(visit, api).await?;
    if let Some(version) = version
        && before.version >= Some(version)
    {
        visit.note(format!("version {version} is stored already"));
        return Ok(BTreeSet::new());
    }
    let url = api.url(kind.source.path())?;
    let Some(answer) = visit.get(api.get_json(&url)).await? else { return Ok(BTreeSet::new()) };
    let mut reached = Cursor { version, ..Cursor::at(api.base.as_str()) };
    let (mut taken, mut cut, mut broken) = (HashSet::new(), 0, None);
    // Read on a thread of its own, batch by batch, while the store writes.
    let (sender, mut batches) = mpsc::channel(1);
    let length = answer.body().len();
    let is_truncated = answer.is_truncated();
    let cutoff = visit.cutoff();
    let reading = tokio::task::spawn_blocking(move || {
        let take = |batch| sender.blocking_send(batch).is_ok();
        wire::read_all(kind.read, answer.body(), || cutoff.is_over(), take)
    });
    while let Some(batch) = batches.recv().await {
        let mut records = Vec::with_capacity(batch.len());
        for item in batch {
            let (key, record) = match item {
                Ok(item) => item,
                Err(at) => {
                    broken = Some(at);
                    continue;
                }
            };
            visit.found(index, 1);
            let record = match record {
                _ if visit.counts(index).found > RECORDS_MAX as u64 => {
                    Err(format!("more than {RECORDS_MAX} records are not taken"))
                }
                record => record,
            };
            match record {
                Err(reason) => {
                    visit.reject(index, format!("{}: {reason}", shown(&key)));
                    // It is there still, and what it said before is not gone.
                    reached.keep(&key, before.rows.get(&key));
                }
                Ok(record) if !taken.insert(record.id.clone()) => visit.merged(index, 1),
                Ok(mut record) => {
                    cut += record.cut;
                    let page = page(api, kind.page, &record.id);
                    record.fields.insert("source_url".to_owned(), json!(page));
                    reached.rows.insert(key, StoredRecord::of(&record));
                    records.push(record);
                }
            }
        }
        kind.store(visit, kind.of_api, &mut records).await?;
    }
    let is_object = reading.await.map_err(|_| panicked(&url))?;
    if visit.is_cut_off() {
        return Ok(BTreeSet::new());
    }
    if !is_object {
        return Err(not_what_malpedia_sends(&url).into());
    }
    note_cut(visit, cut);
    let counts = visit.counts(index);
    if let Some(at) = broken.or_else(|| is_truncated.then_some(length)) {
        // What came is stored; the next visit reads all again.
        let error = format!(
            "read `{url}`: it is malformed or cut off at byte {at}: {} records before that are kept",
            counts.found
        );
        let error =
            Error::format(error).hint("nothing is marked as gone; the next run reads it again");
        return Err(Stop::new(Outcome::Truncated, error));
    }
    if counts.found == counts.rejected {
        let error = format!("read `{url}`: each of its {} records is malformed", counts.found);
        return Err(Error::format(error).into());
    }
    let vanished = kind.retire(visit, kind.of_api, &before, &reached).await?;
    visit.reach(json!(reached));
    Ok(vanished)
}

/// The page of a record.
fn page(api: &Api, page: &str, id: &str) -> Option<String> {
    let mut url = api.base.clone();
    url.path_segments_mut().ok()?.pop_if_empty().push(page).push(id);
    Some(url.into())
}

/// The version of all that Malpedia holds, which grows with every change.
async fn version(visit: &mut Visit<'_>, api: &Api) -> Result<Option<i64>, Stop> {
    // What an archive holds is read whatever is stored.
    if visit.ctx().config.behaviour.reparse.is_some() {
        return Ok(None);
    }
    let url = api.url("api/get/version")?;
    match visit.get_anyway(api.get(&url)).await {
        Ok(None) => Ok(None),
        Ok(Some(answer)) => {
            let body =
                read_json(&url, answer, |body| json::bounded(body).map(|(body, _)| body)).await?;
            Ok(body["version"].as_i64())
        }
        // A mirror without one is read each time.
        Err(stop) if stop.outcome == Outcome::NotFound => {
            visit.note(format!("`{url}` is not there: all is read"));
            Ok(None)
        }
        Err(stop) => Err(stop),
    }
}

/// The beginning of a key, for a reject.
fn shown(key: &str) -> &str {
    &key[..key.floor_char_boundary(SHOWN_KEY)]
}
