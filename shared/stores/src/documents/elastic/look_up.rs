//! Documents by their ids, as they are now: such a read sees what was written a moment ago, refreshed or not.

use base::Result;
use elasticsearch::http::Method;
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Elastic;
use super::ensure::refused;
use crate::documents::Body;

/// What is answered for a document that will be readable in a moment: its shard is starting, or the server has too much to
/// do. An index that another process has just created is in that state.
const PASSING: &[&str] = &[
    "no_shard_available_action_exception",
    "unavailable_shards_exception",
    "illegal_index_shard_state_exception",
    "es_rejected_execution_exception",
    "rejected_execution_exception",
    "circuit_breaking_exception",
];

/// One document, or its absence.
#[derive(Deserialize)]
pub(super) struct Found {
    #[serde(default)]
    found: bool,
    /// With `primary_term`, which version this is.
    #[serde(rename = "_seq_no", default)]
    pub(super) seq_no: u64,
    #[serde(rename = "_primary_term", default)]
    pub(super) primary_term: u64,
    /// The fields asked for, nothing when there is no such document.
    #[serde(rename = "_source")]
    pub(super) source: Option<Body>,
    error: Option<Value>,
}

impl Found {
    /// What is known of a document that is not there.
    pub(super) const fn nothing() -> Self {
        Self { found: false, seq_no: 0, primary_term: 0, source: None, error: None }
    }
}

#[derive(Serialize)]
struct LookUpRequest<'a> {
    ids: &'a [&'a str],
}

#[derive(Deserialize)]
struct LookUpAnswer {
    docs: Vec<Found>,
}

impl Elastic {
    /// The documents of these ids, in order: the given fields of each, or everything.
    pub(super) async fn look_up(
        &self,
        alias: &str,
        ids: &[&str],
        fields: Option<&str>,
    ) -> Result<Vec<Found>> {
        let query = [("_source_includes", fields.unwrap_or_default())];
        let query = if fields.is_some() { &query[..] } else { &[] };
        let path = format!("/{alias}/_mget");
        let body = serde_json::to_vec(&LookUpRequest { ids }).expect("JSON is written to memory");
        let body = Bytes::from(body);
        let failed = |said: &Value| refused(&format!("read documents of `{alias}`"), said);
        let mut patience = self.client.patience();
        loop {
            let answer = self.client.ask(Method::Post, &path, query, Some(body.clone())).await?;
            let read = serde_json::from_slice::<LookUpAnswer>(&answer.body);
            let mut answered = match read {
                Ok(answered) if answer.is_good() => answered,
                _ if !answer.is_json() => return Err(self.client.no_search_server(&answer)),
                Err(cause) if answer.is_good() => return Err(failed(&Value::Null).because(cause)),
                _ => return Err(failed(&answer.json())),
            };
            let error = answered.docs.iter_mut().find_map(|found| found.error.take());
            let Some(error) = error else {
                if answered.docs.len() != ids.len() {
                    return Err(failed(&json!({"error": "not as many answers as questions"})));
                }
                // With nothing of the wanted fields in it, a document may come without its source.
                for found in &mut answered.docs {
                    found.source = found.found.then(|| found.source.take().unwrap_or_default());
                }
                return Ok(answered.docs);
            };
            let passes = error["type"].as_str().is_some_and(|kind| PASSING.contains(&kind));
            if !passes || !patience.wait(None).await {
                return Err(failed(&json!({"error": error})));
            }
        }
    }
}
