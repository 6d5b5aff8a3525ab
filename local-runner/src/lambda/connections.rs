//! The connections of callers that may be open at once: few enough to leave runs the files they need.
//!
//! When all places are taken, a new connection gets that of the one which has waited longest for a whole request: who
//! sends a request at once is served, however many others only hold connections open. A request that is being answered
//! keeps its place. A function's own connections take none; they end with its process.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use rustix::process::{Resource, getrlimit};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::lock::lock;

/// Places, where the process may open 1,024 files or more.
const MAX_CONNECTIONS: usize = 256;
/// With fewer files, the part of them that connections may take.
const SHARE_OF_FILES: u64 = 4;
/// How long a connection may be without the whole head of a request, between two requests as well; and how long an
/// answer may wait to be fetched.
const IDLE_TIME: Duration = Duration::from_secs(15);

/// The open connections.
pub(super) struct Connections {
    limit: usize,
    open: Mutex<Vec<Arc<Connection>>>,
}

/// One connection, and what it is waited for.
pub(super) struct Connection {
    phase: Mutex<Phase>,
    displaced: Notify,
}

#[derive(Clone, Copy)]
enum Phase {
    /// For a request's head, or for the last answer to be fetched, since then.
    Idle(Instant),
    /// For the rest of a request's body, since its head.
    Receiving(Instant),
    Answering,
    /// It is a function's.
    Exempt,
}

impl Connections {
    pub(super) fn new() -> Arc<Self> {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let share = usize::try_from(files / SHARE_OF_FILES).unwrap_or(usize::MAX);
        Self::of(share.clamp(1, MAX_CONNECTIONS))
    }

    fn of(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, open: Mutex::default() })
    }

    /// A place for a new connection; `None` while every one is being answered.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Place> {
        let mut open = lock(&self.open);
        let (mut taken, mut longest) = (0, None::<(Instant, usize)>);
        for (at, connection) in open.iter().enumerate() {
            match *lock(&connection.phase) {
                Phase::Exempt => continue,
                Phase::Answering => {}
                Phase::Idle(since) | Phase::Receiving(since) => {
                    if longest.is_none_or(|(earliest, _)| since < earliest) {
                        longest = Some((since, at));
                    }
                }
            }
            taken += 1;
        }
        if taken >= self.limit {
            let (_, at) = longest?;
            open.swap_remove(at).displaced.notify_one();
        }
        let phase = Mutex::new(Phase::Idle(Instant::now()));
        let connection = Arc::new(Connection { phase, displaced: Notify::new() });
        open.push(Arc::clone(&connection));
        Some(Place { connections: Arc::clone(self), connection })
    }
}

/// Holds a connection's place while it lives.
pub(super) struct Place {
    connections: Arc<Connections>,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.connections.open).retain(|other| !Arc::ptr_eq(other, &self.connection));
    }
}

impl Connection {
    fn step(&self, next: Phase) {
        let mut phase = lock(&self.phase);
        if !matches!(*phase, Phase::Exempt) {
            *phase = next;
        }
    }

    /// It is known as a function's.
    pub(super) fn exempt(&self) {
        self.step(Phase::Exempt);
    }

    /// The answer is on its way.
    pub(super) fn answered(&self) {
        self.step(Phase::Idle(Instant::now()));
    }

    /// Waits until it is to be closed: its place was given away, or it was idle for too long.
    pub(super) async fn closes(&self) {
        loop {
            let now = Instant::now();
            let until = match *lock(&self.phase) {
                Phase::Idle(since) => since + IDLE_TIME,
                // Bodies have a time of their own, and so do invocations. Looked at again when it may be idle.
                Phase::Receiving(_) | Phase::Answering | Phase::Exempt => now + IDLE_TIME,
            };
            if until <= now || timeout_at(until, self.displaced.notified()).await.is_ok() {
                return;
            }
        }
    }
}

/// A request's body, whose end its connection learns of.
pub(super) struct RequestBody {
    body: Incoming,
    connection: Arc<Connection>,
}

impl RequestBody {
    /// Called when a request's head has arrived.
    pub(super) fn new(body: Incoming, connection: Arc<Connection>) -> Self {
        let is_whole = body.is_end_stream();
        connection.step(if is_whole { Phase::Answering } else { Phase::Receiving(Instant::now()) });
        Self { body, connection }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() {
            self.connection.step(Phase::Answering);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a connection was displaced.
    fn is_closed(place: &Place) -> bool {
        let closes = std::pin::pin!(place.connection.closes());
        closes.poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn who_waited_longest_makes_room_and_who_is_answered_does_not() {
        let connections = Connections::of(3);
        let now = Instant::now();
        let later = |seconds| Phase::Idle(now + Duration::from_secs(seconds));
        let places: Vec<Place> = (0..3).map(|_| connections.admit().unwrap()).collect();
        let phases = [Phase::Answering, later(2), later(1)];
        places.iter().zip(phases).for_each(|(place, phase)| place.connection.step(phase));
        let fourth = connections.admit().unwrap();
        let closed: Vec<bool> = places.iter().map(is_closed).collect();
        assert_eq!(closed, [false, false, true]);
        // All that are left are being answered.
        places.iter().chain([&fourth]).for_each(|place| place.connection.step(Phase::Answering));
        assert!(connections.admit().is_none());
        // A function's takes no place, and never becomes idle.
        fourth.connection.exempt();
        let fifth = connections.admit().unwrap();
        for place in [&fourth, &fifth] {
            place.connection.step(Phase::Idle(now.checked_sub(IDLE_TIME).unwrap()));
        }
        assert!(is_closed(&fifth) && !is_closed(&fourth));
        drop(fifth);
        assert_eq!(lock(&connections.open).len(), 3);
    }
}
