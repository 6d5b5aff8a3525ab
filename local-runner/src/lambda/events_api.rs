//! The event bus: `PutEvents` takes entries in the protocol `awsJson1_1`, checks each, and hands the good ones on.
//!
//! A bad entry is reported in its place among the results and does not keep the others back, as at AWS. Where entries
//! go is the caller's to decide.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::body::{self, BodyError};
use super::bus::Entry;
use super::shared::Shared;
use super::wire::{ERROR_TYPE, REQUEST_ID, text};

const MAX_ENTRIES: usize = 10;
/// All entries together, counted as AWS counts them.
const MAX_SIZE: usize = 1024 * 1024;
/// An entry's detail is JSON within JSON, which at most doubles it; beyond this nothing fits.
const MAX_BODY: usize = 2 * MAX_SIZE + 64 * 1024;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/", post(operation))
}

async fn operation(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Body) -> Response {
    let read = body::read(body, MAX_BODY, &shared.events_bodies).await;
    let result = match text(&headers, "x-amz-target") {
        Some("AWSEvents.PutEvents") => match read {
            Ok(read) => {
                let _turn = shared.events_turn.lock().await;
                put_events(&shared, &read.bytes).await
            }
            Err(BodyError::NoSpace) => Err(Fault {
                status: StatusCode::BAD_REQUEST,
                kind: "ThrottlingException",
                message: "Rate exceeded".to_owned(),
            }),
            Err(_) => Err(Fault::validation(
                "Total size of the entries in the request is over the limit.",
            )),
        },
        other => {
            let message = format!("the operation `{}` is unknown here", other.unwrap_or_default());
            Err(Fault {
                status: StatusCode::BAD_REQUEST,
                kind: "UnknownOperationException",
                message,
            })
        }
    };
    let (status, kind, body) = match result {
        Ok(body) => (StatusCode::OK, None, body),
        Err(Fault { status, kind, message }) => {
            (status, Some(kind), json!({"__type": kind, "message": message}))
        }
    };
    let content_type = HeaderValue::from_static("application/x-amz-json-1.1");
    let mut response = (status, [(CONTENT_TYPE, content_type)], body.to_string()).into_response();
    let out = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(uuid::Uuid::new_v4().to_string()) {
        out.insert(REQUEST_ID, id);
    }
    if let Some(kind) = kind {
        out.insert(ERROR_TYPE, HeaderValue::from_static(kind));
    }
    response
}

/// The whole call fails.
#[derive(Debug)]
struct Fault {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Fault {
    fn validation(message: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "ValidationException",
            message: message.to_owned(),
        }
    }
}

async fn put_events(shared: &Shared, body: &[u8]) -> Result<Value, Fault> {
    let results = parse(body)?;
    let good: Vec<Entry> =
        results.iter().filter_map(|result| result.as_ref().ok()).cloned().collect();
    let kept = match &shared.events {
        _ if good.is_empty() => Ok(()),
        Some(events) => events.put(&good).await,
        None => Err("this runner takes no events".to_owned()),
    };
    let mut failed = 0_usize;
    let mut entries = Vec::with_capacity(results.len());
    for result in results {
        let (code, message) = match (result, &kept) {
            (Ok(entry), Ok(())) => {
                entries.push(json!({"EventId": entry.id}));
                continue;
            }
            (Ok(_), Err(error)) => ("InternalFailure", error.clone()),
            (Err((code, message)), _) => (code, message),
        };
        failed += 1;
        entries.push(json!({"ErrorCode": code, "ErrorMessage": message}));
    }
    Ok(json!({"FailedEntryCount": failed, "Entries": entries}))
}

type CheckedEntry = Result<Entry, (&'static str, String)>;

fn parse(body: &[u8]) -> Result<Vec<CheckedEntry>, Fault> {
    let unreadable = |message: &str| Fault {
        status: StatusCode::BAD_REQUEST,
        kind: "SerializationException",
        message: message.to_owned(),
    };
    let body: Value =
        serde_json::from_slice(body).map_err(|error| unreadable(&error.to_string()))?;
    let Some(entries) = body["Entries"].as_array() else {
        return Err(unreadable("`Entries` is not a list"));
    };
    if entries.is_empty() || entries.len() > MAX_ENTRIES {
        let count = entries.len();
        return Err(Fault::validation(&format!(
            "1 validation error detected: Value of length {count} at 'entries' failed to satisfy constraint: \
             Member must have length between 1 and {MAX_ENTRIES}"
        )));
    }
    if entries.iter().map(size).sum::<usize>() > MAX_SIZE {
        return Err(Fault::validation(
            "Total size of the entries in the request is over the limit.",
        ));
    }
    Ok(entries.iter().map(entry).collect())
}

/// An entry's size by AWS's rule: 14 bytes for a time, and the bytes of source, kind, detail and resources.
fn size(entry: &Value) -> usize {
    let text = |name: &str| entry[name].as_str().map_or(0, str::len);
    let resources = entry["Resources"].as_array().map_or(&[][..], Vec::as_slice);
    let time = if entry["Time"].is_null() { 0 } else { 14 };
    time + text("Source")
        + text("DetailType")
        + text("Detail")
        + resources.iter().filter_map(Value::as_str).map(str::len).sum::<usize>()
}

fn entry(entry: &Value) -> CheckedEntry {
    let required = |name: &str| match entry[name].as_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => {
            let message =
                format!("Parameter {name} is not valid. Reason: {name} is a required argument.");
            Err(("InvalidArgument", message))
        }
    };
    let source = required("Source")?;
    let detail_type = required("DetailType")?;
    let detail = required("Detail")?;
    if source.starts_with("aws.") {
        return Err((
            "NotAuthorizedForSourceException",
            "Not authorized for the source.".to_owned(),
        ));
    }
    let detail = match serde_json::from_str::<Value>(&detail) {
        Ok(detail) if detail.is_object() => detail,
        _ => return Err(("MalformedDetail", "Detail is malformed.".to_owned())),
    };
    let texts = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect()
    };
    Ok(Entry {
        id: uuid::Uuid::new_v4().to_string(),
        source,
        detail_type,
        detail,
        time: time(&entry["Time"])?,
        resources: texts(&entry["Resources"]),
        bus: entry["EventBusName"].as_str().map(str::to_owned),
    })
}

/// The protocol writes a time as seconds since 1970, with or without a fraction.
fn time(value: &Value) -> Result<Option<Timestamp>, (&'static str, String)> {
    let seconds = match value {
        Value::Null => return Ok(None),
        Value::Number(seconds) => seconds.as_f64(),
        _ => None,
    };
    let time = seconds.and_then(|seconds| {
        let duration = jiff::SignedDuration::try_from_secs_f64(seconds).ok()?;
        Timestamp::from_duration(duration).ok()
    });
    time.map(Some).ok_or_else(|| ("InvalidArgument", "Parameter Time is not valid.".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &Value, expected: Result<(), &str>) {
        let result = entry(given);
        assert_eq!(result.as_ref().map(|_| ()).map_err(|(code, _)| *code), expected, "{result:?}");
    }

    #[test]
    fn each_entry_is_judged_by_itself() {
        let good = json!({"Source": "minerva", "DetailType": "t", "Detail": "{\"a\":1}"});
        let with = |name: &str, value: Value| {
            let mut entry = good.clone();
            entry[name] = value;
            entry
        };
        check(&good, Ok(()));
        check(&with("Time", json!(1_795_000_000.5)), Ok(()));
        check(&with("Source", Value::Null), Err("InvalidArgument"));
        check(&with("DetailType", json!("")), Err("InvalidArgument"));
        check(&with("Detail", json!("[1]")), Err("MalformedDetail"));
        check(&with("Detail", json!("{")), Err("MalformedDetail"));
        check(&with("Source", json!("aws.events")), Err("NotAuthorizedForSourceException"));
        check(&with("Time", json!("yesterday")), Err("InvalidArgument"));
    }

    #[test]
    fn an_envelope_has_eventbridges_form() {
        let given = json!({"Source": "minerva", "DetailType": "t", "Detail": "{\"a\":1}", "Time": 1_795_000_000});
        let entry = Entry { id: "e-1".to_owned(), ..entry(&given).unwrap() };
        let arrived = Timestamp::UNIX_EPOCH;
        assert_eq!(entry.envelope(arrived)["time"], "2026-11-18T11:06:40Z");
        assert_eq!(entry.envelope(arrived)["detail"]["a"], 1);
    }

    #[test]
    fn eleven_entries_or_none_fail_the_whole_call() {
        for count in [0, 11] {
            let body = json!({"Entries": vec![json!({}); count]}).to_string();
            assert_eq!(parse(body.as_bytes()).unwrap_err().kind, "ValidationException");
        }
    }
}
