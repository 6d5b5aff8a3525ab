//! Lambda's own words on the wire: header names, limits, and the two shapes of an error.
//!
//! A *service error* says that Lambda itself refused (no such function, too many at once). Its body carries `Type` and
//! `Message` for the AWS clients, and `errorType` and `errorMessage` for `cargo lambda invoke`, which otherwise fails
//! with "invalid error payload". A *function error* says that the function ran and failed; the body is the function's own.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

/// The account and region of every ARN here. Neither exists at AWS, so that a local ARN cannot be taken for a real one.
pub(super) const ACCOUNT: &str = "000000000000";
pub(super) const REGION: &str = "local";
/// There are no versions on one machine.
pub(super) const VERSION: &str = "$LATEST";
/// What the Runtime and Extensions API call the handler of a compiled function.
pub(super) const HANDLER: &str = "bootstrap";

/// A synchronous invocation's payload.
pub(super) const MAX_SYNC_PAYLOAD: usize = 6 * 1024 * 1024;
/// An asynchronous invocation's payload.
pub(super) const MAX_ASYNC_PAYLOAD: usize = 1024 * 1024;
/// A function's answer: 6 MiB and 100 bytes, as AWS and its emulator have it.
pub(super) const MAX_RESPONSE: usize = 6_291_556;
/// An error that a function reports; AWS names no figure, a stack trace fits easily.
pub(super) const MAX_ERROR: usize = 256 * 1024;
/// The client context, as base64.
pub(super) const MAX_CLIENT_CONTEXT: usize = 3_583;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
pub(super) const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
pub(super) const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
pub(super) const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
pub(super) const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");

/// Of the Runtime API's `next`; `cargo lambda invoke` sends the last two itself.
pub(super) const DEADLINE_MS: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
pub(super) const CLIENT_CONTEXT: HeaderName =
    HeaderName::from_static("lambda-runtime-client-context");
pub(super) const COGNITO_IDENTITY: HeaderName =
    HeaderName::from_static("lambda-runtime-cognito-identity");

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The one form of a function's ARN.
pub(super) fn function_arn(name: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")
}

/// A header as text, if it is there and is text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A request that Lambda itself refuses.
#[derive(Debug)]
pub(super) struct ServiceError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    reason: Option<&'static str>,
}

impl ServiceError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), reason: None }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
    }

    pub(super) fn content(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequestContentException", message)
    }

    pub(super) fn parameter(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidParameterValueException", message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", message)
    }

    pub(super) fn too_many(reason: &'static str) -> Self {
        let message = "Rate Exceeded.";
        Self {
            reason: Some(reason),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", message)
        }
    }

    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDeniedException", message)
    }

    pub(super) fn service(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", message)
    }
}

impl ServiceError {
    /// The body, for every kind of client.
    fn body(&self) -> String {
        let owner = if self.status.is_server_error() { "Service" } else { "User" };
        let mut body = json!({
            "Type": owner, "Message": self.message, "message": self.message,
            "errorType": self.kind, "errorMessage": self.message,
        });
        if let Some(reason) = self.reason {
            body["Reason"] = reason.into();
        }
        body.to_string()
    }

    /// The whole answer as it is sent to who is not let in.
    pub(super) fn whole_answer(&self) -> String {
        let (status, kind, body) = (self.status, self.kind, self.body());
        format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\n{ERROR_TYPE}: {kind}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let mut response = (self.status, [(CONTENT_TYPE, JSON)], self.body()).into_response();
        let headers = response.headers_mut();
        headers.insert(ERROR_TYPE, HeaderValue::from_static(self.kind));
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// An answer of the Runtime or Extensions API that is not the good one: `{"errorMessage", "errorType"}`.
pub(super) fn runtime_error(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = json!({"errorMessage": message, "errorType": kind}).to_string();
    (status, [(CONTENT_TYPE, JSON)], body).into_response()
}

/// The good answer of the Runtime and Extensions API to something posted.
pub(super) fn accepted() -> Response {
    (StatusCode::ACCEPTED, [(CONTENT_TYPE, JSON)], r#"{"status":"OK"}"#).into_response()
}

/// A function that ran and failed, or was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionError {
    /// Lambda's word for it: `Sandbox.Timedout`, `Runtime.ExitError`, or what the function said, as `Function.Config`.
    pub error_type: String,
    /// What the caller is sent: JSON with `errorType` and `errorMessage`.
    pub body: Bytes,
}

impl FunctionError {
    /// An error of the platform's, not of the function's own making.
    pub(super) fn platform(error_type: &str, message: &str) -> Self {
        let body = json!({"errorType": error_type, "errorMessage": message}).to_string();
        Self { error_type: error_type.to_owned(), body: body.into() }
    }

    pub(super) fn timed_out(request_id: &str, what: &str, seconds: f64) -> Self {
        let message =
            format!("RequestId: {request_id} Error: {what} timed out after {seconds:.2} seconds");
        Self::platform("Sandbox.Timedout", &message)
    }

    pub(super) fn response_too_large() -> Self {
        let message = format!(
            "Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
        );
        Self::platform("Function.ResponseSizeTooLarge", &message)
    }

    /// What a function posted to `/error`. The body's `errorType` is the function's own word; the header's is the
    /// runtime's, and `lambda_runtime` sends `unhandled` there, which the emulator of AWS turns into `Function.Unknown`.
    pub(super) fn reported(header: Option<&str>, family: &str, body: Bytes) -> Self {
        let fallback = header
            .filter(|kind| is_error_type(kind))
            .map_or_else(|| format!("{family}.Unknown"), str::to_owned);
        let parsed = serde_json::from_slice::<Value>(&body).ok().filter(Value::is_object);
        let Some(parsed) = parsed else {
            return Self::platform(&fallback, &String::from_utf8_lossy(&body));
        };
        match parsed["errorType"].as_str().filter(|kind| !kind.is_empty()) {
            Some(kind) => Self { error_type: kind.to_owned(), body },
            None => Self { error_type: fallback, body },
        }
    }

    /// Whether the process ended before it answered.
    pub fn is_exit(&self) -> bool {
        self.error_type == "Runtime.ExitError"
    }

    /// The message inside the body, for a log line.
    pub fn message(&self) -> String {
        let parsed = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        parsed["errorMessage"].as_str().unwrap_or_default().to_owned()
    }
}

/// Whether a header names an error as Lambda wants it: `(Runtime|Function)\.[A-Z][a-zA-Z]+`.
fn is_error_type(kind: &str) -> bool {
    let Some((family, name)) = kind.split_once('.') else { return false };
    matches!(family, "Runtime" | "Function")
        && name.len() > 1
        && name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|letter| letter.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: Option<&str>, body: &'static str, expected: &str) {
        assert_eq!(
            FunctionError::reported(header, "Function", Bytes::from_static(body.as_bytes()))
                .error_type,
            expected
        );
    }

    #[test]
    fn the_functions_own_word_wins_over_the_runtimes() {
        check(
            Some("unhandled"),
            r#"{"errorType":"Function.Config","errorMessage":"m"}"#,
            "Function.Config",
        );
        check(Some("Function.Config"), r#"{"errorMessage":"m"}"#, "Function.Config");
        check(Some("unhandled"), r#"{"errorMessage":"m"}"#, "Function.Unknown");
        check(None, "[]", "Function.Unknown");
    }

    #[test]
    fn an_error_that_is_not_json_is_wrapped() {
        let error = FunctionError::reported(
            Some("Runtime.Odd"),
            "Function",
            Bytes::from_static(b"it \"broke\""),
        );
        assert_eq!(error.error_type, "Runtime.Odd");
        assert_eq!(error.message(), "it \"broke\"");
    }
}
