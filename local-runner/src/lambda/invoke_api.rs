//! The Invoke API, for `aws lambda invoke`, the SDKs, `cargo lambda invoke` and plain HTTP clients.
//!
//! A function that fails is a success of Lambda's: status 200 and `X-Amz-Function-Error`. `cargo lambda invoke` looks
//! at the status alone and would call that a success too, so callers who show no sign of AWS (neither `Authorization`
//! nor any `X-Amz-*` header: cargo lambda, plain curl) get 500 instead. AWS clients retry a 500, these do not.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::body::{self, BodyError};
use super::function::{Options, Refused};
use super::function_name;
use super::invocation::Invocation;
use super::shared::Shared;
use super::wire::{
    CLIENT_CONTEXT, COGNITO_IDENTITY, DEADLINE_MS, EXECUTED_VERSION, FUNCTION_ERROR, JSON,
    LOG_RESULT, MAX_ASYNC_PAYLOAD, MAX_CLIENT_CONTEXT, MAX_SYNC_PAYLOAD, REQUEST_ID, ServiceError,
    VERSION, function_arn, text,
};

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/2015-03-31/functions/{function}/invocations", post(invoke))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum InvocationType {
    RequestResponse,
    Event,
    DryRun,
}

async fn invoke(
    State(shared): State<Arc<Shared>>,
    function: Result<Path<String>, PathRejection>,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // What cannot be decoded is no function's name, and is refused with all others.
    let function = function.map_or_else(|_| String::new(), |Path(function)| function);
    let query = query.map_or_else(|_| HashMap::new(), |Query(query)| query);
    let request_id = uuid::Uuid::new_v4().to_string();
    let qualifier = query.get("Qualifier").map(String::as_str);
    let mut response =
        match answer(&shared, &request_id, &function, qualifier, &headers, body).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        };
    if let Ok(value) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

async fn answer(
    shared: &Arc<Shared>,
    request_id: &str,
    function: &str,
    qualifier: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ServiceError> {
    let kind = invocation_type(headers)?;
    // The body is read before anything is refused, so that a client which is still sending hears the reason.
    let limit = if kind == InvocationType::Event { MAX_ASYNC_PAYLOAD } else { MAX_SYNC_PAYLOAD };
    let payload = body::read(body, limit, &shared.callers_bodies).await;
    let name = function_name::parse(function, qualifier)?;
    if !shared.functions.contains_key(&name) {
        return Err(not_found(shared, &name));
    }
    // The space is held until the answer is known.
    let (payload, _space) = match payload {
        Ok(read) if read.bytes.is_empty() => (Bytes::from_static(b"{}"), None),
        Ok(read) => (read.bytes, read.space),
        Err(BodyError::TooLarge) => {
            let kind = if kind == InvocationType::Event { "Event" } else { "RequestResponse" };
            return Err(ServiceError::too_large(format!(
                "the payload is too large for the {kind} invocation type (limit {limit} bytes)"
            )));
        }
        Err(BodyError::NoSpace) => {
            return Err(ServiceError::too_many("ConcurrentInvocationLimitExceeded"));
        }
        Err(BodyError::Broken) => {
            return Err(ServiceError::content("the request's body broke off"));
        }
    };
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(&payload) {
        return Err(ServiceError::content(format!(
            "Could not parse request body into json: {error}"
        )));
    }
    match kind {
        InvocationType::DryRun => Ok(StatusCode::NO_CONTENT.into_response()),
        InvocationType::Event => {
            let Some(queue) = &shared.queue else {
                return Err(ServiceError::service(
                    "this runner has no queue for asynchronous invocations",
                ));
            };
            if !queue.has_room(payload.len()).await {
                return Err(ServiceError::too_many("ConcurrentInvocationLimitExceeded"));
            }
            let queued = queue.enqueue(&name, payload, request_id).await;
            queued
                .map_err(|error| ServiceError::service(format!("queue the invocation: {error}")))?;
            Ok(StatusCode::ACCEPTED.into_response())
        }
        InvocationType::RequestResponse => {
            let options = Options {
                request_id: Some(request_id.to_owned()),
                client_context: client_context(headers)?,
                cognito_identity: cognito_identity(headers)?,
                trace_id: text(headers, "x-amzn-trace-id").map(str::to_owned),
                refuse_when_busy: true,
                timeout: None,
            };
            let invocation =
                shared.call(&name, request_id, payload, options).await.map_err(|refused| {
                    match refused {
                        Refused::UnknownFunction(name) => not_found(shared, &name),
                        Refused::FunctionBusy => ServiceError::too_many(
                            "ReservedFunctionConcurrentInvocationLimitExceeded",
                        ),
                        Refused::Busy => {
                            ServiceError::too_many("ConcurrentInvocationLimitExceeded")
                        }
                        Refused::Stopping => ServiceError::service(refused.to_string()),
                    }
                })?;
            Ok(result(invocation, headers))
        }
    }
}

fn result(invocation: Invocation, headers: &HeaderMap) -> Response {
    let (status, failed, body) = match invocation.outcome {
        Ok(body) => (StatusCode::OK, false, body),
        Err(error) if is_aws_client(headers) => (StatusCode::OK, true, error.body),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, true, error.body),
    };
    let mut response = (status, [(CONTENT_TYPE, JSON)], body).into_response();
    let out = response.headers_mut();
    out.insert(EXECUTED_VERSION, HeaderValue::from_static(VERSION));
    if failed {
        out.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    }
    if text(headers, "x-amz-log-type") == Some("Tail")
        && let Ok(tail) = HeaderValue::try_from(STANDARD.encode(&invocation.log_tail))
    {
        out.insert(LOG_RESULT, tail);
    }
    response
}

fn is_aws_client(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION)
        || headers.keys().any(|name| name.as_str().starts_with("x-amz-"))
}

fn not_found(shared: &Shared, name: &str) -> ServiceError {
    let arn = function_arn(name);
    let names: Vec<_> = shared.functions.keys().map(String::as_str).collect();
    ServiceError::not_found(format!(
        "Function not found: {arn}:{VERSION}; the functions here are: {}",
        names.join(", ")
    ))
}

fn invocation_type(headers: &HeaderMap) -> Result<InvocationType, ServiceError> {
    match text(headers, "x-amz-invocation-type") {
        None | Some("" | "RequestResponse") => Ok(InvocationType::RequestResponse),
        Some("Event") => Ok(InvocationType::Event),
        Some("DryRun") => Ok(InvocationType::DryRun),
        Some(other) => Err(ServiceError::parameter(format!(
            "Value `{other}` at `invocationType` must be one of [Event, RequestResponse, DryRun]"
        ))),
    }
}

/// The client context, as a header can carry it on: AWS clients send base64, cargo lambda sends the JSON itself.
fn client_context(headers: &HeaderMap) -> Result<Option<String>, ServiceError> {
    let json = match (headers.get("x-amz-client-context"), headers.get(CLIENT_CONTEXT)) {
        (Some(encoded), _) if encoded.len() > MAX_CLIENT_CONTEXT => {
            return Err(ServiceError::parameter(format!(
                "the client context is over {MAX_CLIENT_CONTEXT} bytes"
            )));
        }
        (Some(encoded), _) => STANDARD.decode(encoded).unwrap_or_default(),
        (None, Some(raw)) => raw.as_bytes().to_vec(),
        (None, None) => return Ok(None),
    };
    carried(CLIENT_CONTEXT, &json).map(Some).map_err(|why| {
        ServiceError::content(format!(
            "Client context must be a valid Base64-encoded JSON object: {why}"
        ))
    })
}

fn cognito_identity(headers: &HeaderMap) -> Result<Option<String>, ServiceError> {
    let Some(raw) = headers.get(COGNITO_IDENTITY) else { return Ok(None) };
    carried(COGNITO_IDENTITY, raw.as_bytes()).map(Some).map_err(|why| {
        ServiceError::content(format!("the Cognito identity must be a valid JSON object: {why}"))
    })
}

/// A header's value as a function's process is sent it. What the runtime in that process cannot read is refused, by its
/// own reader: it would end the process.
fn carried(name: HeaderName, json: &[u8]) -> Result<String, String> {
    if json.len() > MAX_CLIENT_CONTEXT {
        return Err(format!("it is over {MAX_CLIENT_CONTEXT} bytes"));
    }
    let value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if !value.is_object() {
        return Err("it is no object".to_owned());
    }
    let text = ascii(&value.to_string());
    let mut sent = HeaderMap::new();
    sent.insert(DEADLINE_MS, HeaderValue::from(0));
    sent.insert(name, HeaderValue::try_from(&text).map_err(|error| error.to_string())?);
    lambda_runtime::Context::new("", Arc::default(), &sent).map_err(|error| error.to_string())?;
    Ok(text)
}

/// JSON text in ASCII alone, which is all that the function's HTTP client reads out of a header.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_context_is_carried_in_ascii() {
        let mut headers = HeaderMap::new();
        let encoded = STANDARD.encode("{\"custom\": {\"cidade\": \"São Paulo 🗺\"}}");
        headers.insert("x-amz-client-context", encoded.parse().unwrap());
        let context = client_context(&headers).unwrap().unwrap();
        assert_eq!(context, r#"{"custom":{"cidade":"S\u00e3o Paulo \ud83d\uddfa"}}"#);
        headers.insert("x-amz-client-context", "bm8=".parse().unwrap());
        assert!(client_context(&headers).is_err());
    }

    #[test]
    fn what_a_runtime_cannot_read_is_refused_to_its_caller() {
        let judge = |name: HeaderName, value: &[u8], is_good: bool| {
            let shown = format!("{name}: {}", String::from_utf8_lossy(value));
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_bytes(value).unwrap())]);
            let found = client_context(&headers).and(cognito_identity(&headers));
            assert_eq!(found.is_ok(), is_good, "{shown}");
        };
        let deep = "[".repeat(1_000);
        let long = format!("{{\"custom\":{{\"a\":\"{}\"}}}}", "a".repeat(MAX_CLIENT_CONTEXT));
        for value in ["", "{", "[]", "1", "null", "{} {}", "\"\"", &deep, &long] {
            judge(CLIENT_CONTEXT, value.as_bytes(), false);
            judge(COGNITO_IDENTITY, value.as_bytes(), false);
        }
        for value in [r#"{"custom":{"a":1}}"#, r#"{"custom":[]}"#, r#"{"client":{}}"#] {
            judge(CLIENT_CONTEXT, value.as_bytes(), false);
        }
        for value in ["{}", r#"{"custom":{"a":"ã"}}"#, r#"{"environment":{},"more":[{}]}"#] {
            judge(CLIENT_CONTEXT, value.as_bytes(), true);
        }
        for value in ["{}", r#"{"identityId":"a"}"#, r#"{"identityId":1,"identityPoolId":2}"#] {
            judge(COGNITO_IDENTITY, value.as_bytes(), false);
        }
        judge(COGNITO_IDENTITY, b"\xff{}", false);
        let both = br#"{"cognitoIdentityId":"a","cognitoIdentityPoolId":"b"}"#;
        judge(COGNITO_IDENTITY, both, true);
    }

    #[test]
    fn a_caller_is_known_as_awss_by_its_headers() {
        let mut headers = HeaderMap::new();
        assert!(!is_aws_client(&headers));
        headers.insert("x-amz-date", "20261123T000000Z".parse().unwrap());
        assert!(is_aws_client(&headers));
    }
}
