//! Reads all families or actors from the API in one answer, where its version grew.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use base::report::Outcome;
use base::{Error, Result};
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::{Value, json};
use task::{Stop, Visit};

use super::kind::{BATCH, Cursor, RecordKind, StoredRecord};
use crate::api::{Api, read_json};
use crate::wire::{Read, Record};

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
    let records = read_json(&url, answer, |body| read_object(kind.read, body)).await?;
    let mut reached = Cursor { version, ..Cursor::at(api.base.as_str()) };
    let (mut batch, mut taken) = (Vec::new(), HashSet::new());
    for (key, record) in records {
        visit.found(index, 1);
        match record {
            Err(reason) => visit.reject(index, format!("{key}: {reason}")),
            Ok(record) if !taken.insert(record.id.clone()) => visit.merged(index, 1),
            Ok(record) => {
                reached.rows.insert(key, StoredRecord::of(&record));
                batch.push(record);
            }
        }
        if batch.len() >= BATCH {
            kind.store(visit, kind.of_api, &mut batch).await?;
        }
    }
    kind.store(visit, kind.of_api, &mut batch).await?;
    let counts = visit.counts(index);
    if counts.found == counts.rejected {
        let error = format!("read `{url}`: each of its {} records is malformed", counts.found);
        return Err(Error::format(error).into());
    }
    let mut vanished = BTreeSet::new();
    // What could not be read this time is not gone.
    if counts.rejected == 0 {
        vanished = kind.retire(visit, kind.of_api, &before, &reached).await?;
    }
    visit.reach(json!(reached));
    Ok(vanished)
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
                read_json(&url, answer, |body| serde_json::from_slice::<Value>(body)).await?;
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

type Records = Vec<(String, Result<Record, &'static str>)>;

/// Reads `{id: record}` record by record, so that no tree of the whole is built.
fn read_object(read: Read, body: &[u8]) -> serde_json::Result<Records> {
    struct Each(Read);
    impl<'de> Visitor<'de> for Each {
        type Value = Records;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of records by id")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Records, A::Error> {
            let mut records = Vec::new();
            while let Some(key) = map.next_key::<String>()? {
                let record = match map.next_value::<Value>()? {
                    Value::Object(object) => (self.0)(&object, &key),
                    _ => Err("it is no object"),
                };
                records.push((key, record));
            }
            Ok(records)
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let records = reader.deserialize_map(Each(read))?;
    reader.end()?;
    Ok(records)
}
