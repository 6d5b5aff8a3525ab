//! Reads all families or actors from the API in one answer, where its version grew.

use std::collections::HashSet;
use std::fmt;

use base::{Error, Result};
use fetch::{Fetched, Reason};
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::{Value, json};
use task::Ctx;
use task::source::{Stop, Visit};

use super::{BATCH, Cursor, READER, Row, Seen, What, known, store, vanish};
use crate::api::Api;
use crate::wire::Record;

pub(super) async fn read(
    ctx: &Ctx,
    api: &Api,
    visit: &mut Visit<'_>,
    what: What,
    seen: &mut Seen,
) -> Result<(), Stop> {
    let place = api.base.as_str().to_owned();
    let before = known(ctx, visit, what, &place).await?;
    let version = version(ctx, api, visit).await?;
    if version.is_some() && before.version >= version {
        visit
            .report()
            .notes
            .push(format!("version {} is stored already", version.unwrap_or_default()));
        return Ok(());
    }
    let url = api.url(&format!("api/get/{}", what.name()))?;
    let Some(answer) = visit.next(api.get(&url).accept("application/json")).await? else {
        return Ok(());
    };
    if answer.is_truncated() {
        return Err(Error::upstream(format!("read `{url}`: the body ended early")).into());
    }
    let read = tokio::task::spawn_blocking(move || read_object(what, answer.body()));
    let records =
        read.await.map_err(|_| Error::format(format!("read `{url}`: the reader panicked")))?;
    let records = records.map_err(|cause| {
        Error::format(format!("read `{url}`: it is not what Malpedia sends"))
            .because(cause)
            .hint("look at the address in a browser")
    })?;
    let mut now = Cursor { reader: READER, place, version, ..Cursor::default() };
    let (mut batch, mut taken) = (Vec::new(), HashSet::new());
    for (key, record) in records {
        visit.report().counts.found += 1;
        match record {
            Err(reason) => seen.reject(visit, what, &format!("{key}: {reason}")),
            Ok(record) if !taken.insert(record.id.clone()) => visit.report().counts.merged += 1,
            Ok(record) => {
                let row = Row {
                    i: record.id.clone(),
                    n: record.name.clone(),
                    l: record.links.clone(),
                    ..Row::default()
                };
                now.rows.insert(key, row);
                batch.push(record);
            }
        }
        if batch.len() >= BATCH {
            store(ctx, visit, what, true, &mut batch).await?;
        }
    }
    store(ctx, visit, what, true, &mut batch).await?;
    let counts = visit.report().counts;
    if counts.found == counts.rejected {
        return Err(Error::format(format!(
            "read `{url}`: none of its {} records makes sense",
            counts.found
        ))
        .into());
    }
    // What could not be read this time is not gone.
    if counts.rejected == 0 {
        vanish(ctx, what, true, &before, &now, seen).await?;
    }
    visit.reach(json!(now));
    Ok(())
}

/// The version of all that Malpedia holds, which grows with every change.
async fn version(ctx: &Ctx, api: &Api, visit: &mut Visit<'_>) -> Result<Option<i64>, Stop> {
    if ctx.config.behaviour.reparse.is_some() {
        return Ok(None);
    }
    let url = api.url("api/get/version")?;
    let fetched = match ctx.http.send(api.get(&url)).await {
        Ok(fetched) => fetched,
        Err(failure) => {
            visit.report().requests += u64::from(failure.requests);
            // A mirror without one is read each time.
            if failure.reason == Reason::NotFound {
                visit.report().notes.push(format!("`{url}` is not there: all is read"));
                return Ok(None);
            }
            let error = Error::from(failure);
            return Err(api.refused(&error).unwrap_or(error).into());
        }
    };
    let Fetched::Body(response) = fetched else { return Ok(None) };
    visit.report().requests += u64::from(response.requests);
    visit.report().bytes += response.bytes_on_wire;
    let body: Value = serde_json::from_slice(&response.body).map_err(|cause| {
        Error::format(format!("read `{url}`: it is no JSON"))
            .because(cause)
            .hint("look at the address in a browser")
    })?;
    Ok(body["version"].as_i64())
}

type Records = Vec<(String, Result<Record, &'static str>)>;

/// Reads `{id: record}` record by record, so that no tree of the whole is built.
fn read_object(what: What, body: &[u8]) -> serde_json::Result<Records> {
    struct Each(What);
    impl<'de> Visitor<'de> for Each {
        type Value = Records;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of records by id")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Records, A::Error> {
            let mut records = Vec::new();
            while let Some(key) = map.next_key::<String>()? {
                let record = match map.next_value::<Value>()? {
                    Value::Object(object) => (self.0.read())(&object, &key),
                    _ => Err("it is no object"),
                };
                records.push((key, record));
            }
            Ok(records)
        }
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut reader = serde_json::Deserializer::from_slice(body);
    let records = reader.deserialize_map(Each(what))?;
    reader.end()?;
    Ok(records)
}
