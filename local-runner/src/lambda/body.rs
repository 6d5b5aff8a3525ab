//! Reads a request's body under a limit, to its end.
//!
//! A body over the limit is read on and thrown away: a client that is cut off in the middle of sending sees a broken
//! connection instead of the answer that says why (`lambda_runtime` then ends the whole process).

use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

/// How much beyond its limit a body is read before the connection is dropped after all.
const MAX_THROWN_AWAY: usize = 256 * 1024 * 1024;
/// How long a body may take; both ends are on this machine.
const BODY_TIME: Duration = Duration::from_secs(30);

/// A body, and the trailers that a streaming runtime sends after it.
pub(super) struct Read {
    pub(super) bytes: Bytes,
    pub(super) trailers: HeaderMap,
}

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is longer than the limit.
    TooLarge,
    /// The connection broke, or the sender sent nothing for too long.
    Broken,
}

/// Reads all of `body`, of which at most `limit` bytes are kept.
pub(super) async fn read(body: Body, limit: usize) -> Result<Read, BodyError> {
    timeout(BODY_TIME, collect(body, limit)).await.unwrap_or(Err(BodyError::Broken))
}

async fn collect(mut body: Body, limit: usize) -> Result<Read, BodyError> {
    let mut kept = BytesMut::new();
    let mut length = 0_usize;
    let mut trailers = HeaderMap::new();
    while let Some(frame) =
        std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        let frame = match frame.map_err(|_| BodyError::Broken)?.into_data() {
            Ok(data) => {
                length += data.len();
                if length <= limit {
                    kept.extend_from_slice(&data);
                } else if length > limit + MAX_THROWN_AWAY {
                    break;
                }
                continue;
            }
            Err(frame) => frame,
        };
        if let Ok(found) = frame.into_trailers() {
            trailers = found;
        }
    }
    if length > limit {
        Err(BodyError::TooLarge)
    } else {
        Ok(Read { bytes: kept.freeze(), trailers })
    }
}
