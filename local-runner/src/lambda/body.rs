//! Reads a request's body under a limit, to its end.
//!
//! A body over the limit is read on and thrown away: a client that is cut off in the middle of sending sees a broken
//! connection instead of the answer that says why (`lambda_runtime` then ends the whole process).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How much beyond its limit a body is read before the connection is dropped after all.
const MAX_THROWN_AWAY: usize = 256 * 1024 * 1024;
/// What every body may have beside the common space, so that a few large ones do not keep the usual ones out.
const SMALL: usize = 64 * 1024;
/// How long a body may take; both ends are on this machine.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The memory in which bodies of some senders lie together, while they arrive and until they are dealt with.
pub(super) struct BodySpace(Arc<Semaphore>);

impl BodySpace {
    pub(super) fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

/// A body, and the trailers that a streaming runtime sends after it.
pub(super) struct Read {
    pub(super) bytes: Bytes,
    pub(super) trailers: HeaderMap,
    /// The space it takes, until this is dropped.
    pub(super) space: Option<OwnedSemaphorePermit>,
}

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is longer than the limit.
    TooLarge,
    /// Too many others are on the way.
    NoSpace,
    /// The connection broke, or the sender sent nothing for too long.
    Broken,
}

/// Reads all of `body`, of which at most `limit` bytes are kept, in `space`.
pub(super) async fn read(body: Body, limit: usize, space: &BodySpace) -> Result<Read, BodyError> {
    timeout(BODY_TIME, collect(body, limit, space)).await.unwrap_or(Err(BodyError::Broken))
}

async fn collect(mut body: Body, limit: usize, space: &BodySpace) -> Result<Read, BodyError> {
    // What has been kept, and its space; or why nothing is kept any more.
    let mut kept = Ok((BytesMut::new(), None::<OwnedSemaphorePermit>));
    let mut length = 0_usize;
    let mut trailers = HeaderMap::new();
    while let Some(frame) =
        std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        let frame = match frame.map_err(|_| BodyError::Broken)?.into_data() {
            Ok(data) => {
                length += data.len();
                if length > limit + MAX_THROWN_AWAY {
                    break;
                }
                kept = kept.and_then(|(mut bytes, taken)| {
                    if length > limit {
                        return Err(BodyError::TooLarge);
                    }
                    let beyond = length.saturating_sub(SMALL).min(data.len());
                    let mut more = space.take(beyond).ok_or(BodyError::NoSpace)?;
                    if let Some(taken) = taken {
                        more.merge(taken);
                    }
                    bytes.extend_from_slice(&data);
                    Ok((bytes, Some(more)))
                });
                continue;
            }
            Err(frame) => frame,
        };
        if let Ok(found) = frame.into_trailers() {
            trailers = found;
        }
    }
    kept.map(|(bytes, space)| Read { bytes: bytes.freeze(), trailers, space })
}
