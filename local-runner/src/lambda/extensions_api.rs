//! The Extensions API, as far as it goes without extensions that are processes of their own.
//!
//! `lambda_runtime`'s `spawn_graceful_shutdown_handler` registers an internal extension without events: that is how a
//! function asks for SIGTERM before SIGKILL. Internal extensions may also listen to INVOKE. Telemetry and log
//! subscriptions are accepted and nothing is sent.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde_json::{Value, json};

use super::body;
use super::lock::lock;
use super::runtime_api::caller;
use super::shared::Shared;
use super::wire::{ACCOUNT, HANDLER, JSON, VERSION, accepted, runtime_error, text};

const NAME: &str = "lambda-extension-name";
const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");
const EVENT_IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-event-identifier");
const ACCEPT_FEATURE: &str = "lambda-extension-accept-feature";
const MAX_BODY: usize = 64 * 1024;

pub(super) fn routes() -> Router<Arc<Shared>> {
    const INSTANCE: &str = "/f/{function}/{instance}";
    let ok = || async { "OK" };
    Router::new()
        .route(&format!("{INSTANCE}/2020-01-01/extension/register"), post(register))
        .route(&format!("{INSTANCE}/2020-01-01/extension/event/next"), get(event_next))
        .route(
            &format!("{INSTANCE}/2020-01-01/extension/init/error"),
            post(|| async { accepted() }),
        )
        .route(
            &format!("{INSTANCE}/2020-01-01/extension/exit/error"),
            post(|| async { accepted() }),
        )
        .route(&format!("{INSTANCE}/2022-07-01/telemetry"), put(ok))
        .route(&format!("{INSTANCE}/2020-08-15/logs"), put(ok))
}

fn forbidden(kind: &str, message: &str) -> Response {
    runtime_error(StatusCode::FORBIDDEN, kind, message)
}

async fn register(
    State(shared): State<Arc<Shared>>,
    Path((function, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let instance = match caller(&shared, &function, &id) {
        Ok(instance) => instance,
        Err(refusal) => return refusal.into_response(),
    };
    if text(&headers, NAME).is_none_or(str::is_empty) {
        return forbidden(
            "Extension.InvalidExtensionName",
            "the header `Lambda-Extension-Name` is missing",
        );
    }
    let wanted: Vec<String> = match body::read(body, MAX_BODY, &instance.bodies).await {
        Ok(read) => {
            let body: Value = serde_json::from_slice(&read.bytes).unwrap_or_default();
            let events = body["events"].as_array().cloned().unwrap_or_default();
            events.iter().filter_map(|event| event.as_str().map(str::to_owned)).collect()
        }
        Err(_) => {
            return runtime_error(
                StatusCode::BAD_REQUEST,
                "InvalidRequestFormat",
                "the body is unreadable",
            );
        }
    };
    if wanted.iter().any(|event| event == "SHUTDOWN") {
        let kind = "ShutdownEventNotSupportedForInternalExtension";
        return forbidden(kind, "internal extensions may register for INVOKE only");
    }
    if !instance.is_starting() {
        return forbidden(
            "Extension.InvalidExtensionState",
            "extensions register before the first `next`",
        );
    }
    let identifier = uuid::Uuid::new_v4().to_string();
    let invoke = wanted.iter().any(|event| event == "INVOKE");
    if !lock(&instance.extensions).add(&identifier, invoke) {
        return forbidden("Extension.TooManyExtensions", "Extension limit (10) reached");
    }
    let mut answer =
        json!({"functionName": function, "functionVersion": VERSION, "handler": HANDLER});
    if text(&headers, ACCEPT_FEATURE).is_some_and(|features| features.contains("accountId")) {
        answer["accountId"] = ACCOUNT.into();
    }
    with_header(&answer, IDENTIFIER, &identifier)
}

async fn event_next(
    State(shared): State<Arc<Shared>>,
    Path((function, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let instance = match caller(&shared, &function, &id) {
        Ok(instance) => instance,
        Err(refusal) => return refusal.into_response(),
    };
    let identifier = text(&headers, IDENTIFIER.as_str()).unwrap_or_default();
    let Some(queue) = lock(&instance.extensions).queue(identifier) else {
        return forbidden("Extension.UnknownExtensionIdentifier", "unknown extension identifier");
    };
    let event = tokio::select! {
        event = async { queue.lock().await.recv().await } => event,
        () = instance.reaped() => None,
    };
    match event {
        Some(event) => with_header(&event, EVENT_IDENTIFIER, &uuid::Uuid::new_v4().to_string()),
        None => runtime_error(
            StatusCode::GONE,
            "Extension.InvalidExtensionState",
            "the process is gone",
        ),
    }
}

fn with_header(body: &Value, name: HeaderName, value: &str) -> Response {
    let mut response = ([(CONTENT_TYPE, JSON)], body.to_string()).into_response();
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
    response
}
