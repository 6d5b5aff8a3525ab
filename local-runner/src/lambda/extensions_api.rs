//! The Extensions API, as far as it goes without extensions that are processes of their own.
//!
//! `lambda_runtime`'s `spawn_graceful_shutdown_handler` registers an internal extension without events: that is how a
//! function asks for SIGTERM before SIGKILL. Internal extensions may also listen to INVOKE. Telemetry and log
//! subscriptions are accepted and nothing is sent.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use super::instance::Event;
use super::runtime_api::caller;
use super::wire::{ACCOUNT, HANDLER, JSON, VERSION, accepted, runtime_error, text};
use super::{Shared, body, lock};

const NAME: &str = "lambda-extension-name";
const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");
const EVENT_IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-event-identifier");
const ACCEPT_FEATURE: &str = "lambda-extension-accept-feature";
/// Extensions of one process; AWS's limit.
const MAX_EXTENSIONS: usize = 10;
/// Events an extension may leave lying; one more is dropped.
const MAX_WAITING: usize = 16;
const MAX_BODY: usize = 64 * 1024;

/// The extensions of one process, by identifier.
#[derive(Default)]
pub(super) struct Extensions(HashMap<String, Extension>);

struct Extension {
    /// Kept even when the extension wants no events: its `event/next` then waits for ever, as at AWS.
    events: mpsc::Sender<Value>,
    queue: Arc<Mutex<mpsc::Receiver<Value>>>,
    invoke: bool,
}

impl Extensions {
    /// Whether the process is to be warned before its end.
    pub(super) fn is_registered(&self) -> bool {
        !self.0.is_empty()
    }

    /// Tells those who asked that an event was handed over.
    pub(super) fn invoked(&self, event: &Event) {
        for extension in self.0.values().filter(|extension| extension.invoke) {
            let message = json!({
                "eventType": "INVOKE",
                "deadlineMs": event.deadline_ms,
                "requestId": event.request_id,
                "invokedFunctionArn": event.arn,
                "tracing": {"type": "X-Amzn-Trace-Id", "value": event.trace_id},
            });
            // An extension that does not read its events loses them.
            let _ = extension.events.try_send(message);
        }
    }
}

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
    let wanted: Vec<String> = match body::read(body, MAX_BODY).await {
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
    {
        let mut extensions = lock(&instance.extensions);
        if extensions.0.len() >= MAX_EXTENSIONS {
            return forbidden("Extension.TooManyExtensions", "Extension limit (10) reached");
        }
        let (events, queue) = mpsc::channel(MAX_WAITING);
        let invoke = wanted.iter().any(|event| event == "INVOKE");
        let extension = Extension { events, queue: Arc::new(Mutex::new(queue)), invoke };
        extensions.0.insert(identifier.clone(), extension);
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
    let queue =
        lock(&instance.extensions).0.get(identifier).map(|extension| Arc::clone(&extension.queue));
    let Some(queue) = queue else {
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
