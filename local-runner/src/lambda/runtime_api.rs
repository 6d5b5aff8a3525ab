//! The Runtime API, which a function's process calls: `next`, `response`, `error`, `init/error`.
//!
//! The path names the instance (`/f/<function>/<instance>/2018-06-01/…`), so a call needs no other proof of who makes
//! it. `next` is never answered with anything but an event while the process lives: `lambda_runtime` panics at every
//! other answer.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::body::{self, BodyError};
use super::instance::{Event, Instance, InvocationResult, Refusal};
use super::shared::Shared;
use super::wire::{
    CLIENT_CONTEXT, COGNITO_IDENTITY, DEADLINE_MS, FunctionError, JSON, MAX_ERROR, MAX_RESPONSE,
    accepted, runtime_error, text,
};

const AWS_REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
const INVOCATION_ID: HeaderName = HeaderName::from_static("lambda-runtime-invocation-id");
const ARN: HeaderName = HeaderName::from_static("lambda-runtime-invoked-function-arn");
const TRACE_ID: HeaderName = HeaderName::from_static("lambda-runtime-trace-id");
/// Of the request on `/error`, and of the trailer after a stream that broke off.
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const ERROR_BODY: &str = "lambda-runtime-function-error-body";
const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";

pub(super) fn routes() -> Router<Arc<Shared>> {
    const RUNTIME: &str = "/f/{function}/{instance}/2018-06-01";
    Router::new()
        .route(&format!("{RUNTIME}/runtime/invocation/next"), get(next))
        .route(&format!("{RUNTIME}/runtime/invocation/{{request_id}}/response"), post(response))
        .route(&format!("{RUNTIME}/runtime/invocation/{{request_id}}/error"), post(error))
        .route(&format!("{RUNTIME}/runtime/init/error"), post(init_error))
        .route(&format!("{RUNTIME}/ping"), get(|| async { "pong" }))
}

/// The instance that a call comes from, or what to tell it: only a process that was given up calls on.
pub(super) fn caller(
    shared: &Shared,
    function: &str,
    instance: &str,
) -> Result<Arc<Instance>, Refusal> {
    shared.pool.find(function, instance).ok_or(Refusal::Gone)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::State(message) => {
                runtime_error(StatusCode::FORBIDDEN, "InvalidStateTransition", message)
            }
            Self::UnknownRequest => {
                runtime_error(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID")
            }
            Self::Gone => {
                runtime_error(StatusCode::GONE, "InvalidRequestID", "the invocation is over")
            }
        }
    }
}

type ApiResult = Result<Response, Refusal>;

type InstancePath = Path<(String, String)>;
type RequestPath = Path<(String, String, String)>;

async fn next(State(shared): State<Arc<Shared>>, Path((function, id)): InstancePath) -> ApiResult {
    let instance = caller(&shared, &function, &id)?;
    let event = instance.next()?;
    if let Ok(event) = event.await {
        return Ok(event_response(event));
    }
    // The process is being ended. An answer now would make its runtime panic before it handles SIGTERM.
    instance.reaped().await;
    Err(Refusal::Gone)
}

fn event_response(event: Event) -> Response {
    let mut response = Response::new(Body::from(event.payload));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(DEADLINE_MS, HeaderValue::from(event.deadline_ms));
    let mut set = |name, value: String| {
        // Values that no header can hold were refused when the invocation came in.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set(AWS_REQUEST_ID, event.request_id);
    set(INVOCATION_ID, event.invocation_id);
    set(ARN, event.arn);
    set(TRACE_ID, event.trace_id);
    if let Some(context) = event.client_context {
        set(CLIENT_CONTEXT, context);
    }
    if let Some(identity) = event.cognito_identity {
        set(COGNITO_IDENTITY, identity);
    }
    response
}

async fn response(
    State(shared): State<Arc<Shared>>,
    Path((function, id, request_id)): RequestPath,
    headers: HeaderMap,
    body: Body,
) -> ApiResult {
    let instance = caller(&shared, &function, &id)?;
    if let Some(mode) = text(&headers, RESPONSE_MODE).filter(|mode| *mode != "streaming") {
        let message = format!("the response mode `{mode}` is not `streaming`");
        let error = FunctionError::platform("Runtime.InvalidResponseModeHeader", &message);
        post_outcome(&instance, &request_id, &headers, Err(error))?;
        return Ok(runtime_error(StatusCode::BAD_REQUEST, "InvalidFunctionResponseMode", &message));
    }
    let read = body::read(body, MAX_RESPONSE, &instance.bodies).await;
    let too_large = matches!(read, Err(BodyError::TooLarge));
    let outcome = match read {
        Ok(read) => streamed_error(&read.trailers).map_or(Ok(read.bytes), Err),
        Err(BodyError::TooLarge) => Err(FunctionError::response_too_large()),
        Err(BodyError::Broken | BodyError::NoSpace) => {
            let message = format!("RequestId: {request_id} Error: the response broke off");
            Err(FunctionError::platform("Runtime.TruncatedResponse", &message))
        }
    };
    post_outcome(&instance, &request_id, &headers, outcome)?;
    if too_large {
        let message = format!("Exceeded maximum allowed payload size ({MAX_RESPONSE} bytes).");
        return Ok(runtime_error(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message));
    }
    Ok(accepted())
}

/// A streaming function that fails in the middle says so after its body.
fn streamed_error(trailers: &HeaderMap) -> Option<FunctionError> {
    let kind = text(trailers, ERROR_TYPE)?;
    let body =
        text(trailers, ERROR_BODY).and_then(|body| STANDARD.decode(body).ok()).unwrap_or_default();
    Some(FunctionError::reported(Some(kind), "Function", body.into()))
}

async fn error(
    State(shared): State<Arc<Shared>>,
    Path((function, id, request_id)): RequestPath,
    headers: HeaderMap,
    body: Body,
) -> ApiResult {
    let instance = caller(&shared, &function, &id)?;
    let error = reported(&instance, &headers, "Function", body).await;
    post_outcome(&instance, &request_id, &headers, Err(error))?;
    Ok(accepted())
}

async fn init_error(
    State(shared): State<Arc<Shared>>,
    Path((function, id)): InstancePath,
    headers: HeaderMap,
    body: Body,
) -> ApiResult {
    let instance = caller(&shared, &function, &id)?;
    let error = reported(&instance, &headers, "Runtime", body).await;
    instance.fail_to_start(error)?;
    Ok(accepted())
}

async fn reported(
    instance: &Instance,
    headers: &HeaderMap,
    family: &str,
    body: Body,
) -> FunctionError {
    let kind = text(headers, ERROR_TYPE);
    match body::read(body, MAX_ERROR, &instance.bodies).await {
        Ok(read) => FunctionError::reported(kind, family, read.bytes),
        Err(_) => {
            let message =
                format!("the function's error did not arrive whole within {MAX_ERROR} bytes");
            FunctionError::reported(kind, family, message.into())
        }
    }
}

fn post_outcome(
    instance: &Instance,
    request_id: &str,
    headers: &HeaderMap,
    outcome: InvocationResult,
) -> Result<(), Refusal> {
    instance.answer(request_id, text(headers, INVOCATION_ID.as_str()), outcome)
}
