//! What the APIs share: the functions, their processes, and who takes what is sent.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::body::BodySpace;
use super::bus::Events;
use super::function::{Function, Options, Refused};
use super::invocation::{self, Invocation};
use super::pool::Pool;

/// Keeps asynchronous invocations until they are run.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Keeps one durably; the error is what its sender reads.
    async fn enqueue(&self, function: &str, payload: Bytes, request_id: &str)
    -> Result<(), String>;

    /// Whether one with so many bytes of payload would be taken now; who is told no may come again later.
    async fn has_room(&self, _payload: usize) -> bool {
        true
    }
}

/// An invocation under way.
pub type Running = Pin<Box<dyn Future<Output = Invocation> + Send>>;

/// Keeps account of the invocations whose callers wait for the answer.
#[async_trait]
pub trait Account: Send + Sync {
    /// Makes one, and notes it before and after; it goes on when its caller hangs up.
    async fn make(&self, function: &str, request_id: &str, run: Running) -> Invocation;
}

/// The bodies of all callers of the Invoke API together.
const MAX_CALLERS_BODIES: usize = 64 * 1024 * 1024;
/// Those of all senders of events together; apart, as functions send continuations.
const MAX_EVENTS_BODIES: usize = 16 * 1024 * 1024;

/// What the APIs share.
pub(super) struct Shared {
    pub(super) functions: BTreeMap<String, Arc<Function>>,
    pub(super) pool: Arc<Pool>,
    pub(super) queue: Option<Arc<dyn Queue>>,
    pub(super) account: Option<Arc<dyn Account>>,
    pub(super) events: Option<Arc<dyn Events>>,
    pub(super) callers_bodies: BodySpace,
    pub(super) events_bodies: BodySpace,
    /// Held while entries are read and kept: as values they take many times their bytes.
    pub(super) events_turn: Mutex<()>,
}

impl Shared {
    pub(super) fn new(
        functions: BTreeMap<String, Arc<Function>>,
        pool: Arc<Pool>,
        queue: Option<Arc<dyn Queue>>,
        account: Option<Arc<dyn Account>>,
        events: Option<Arc<dyn Events>>,
    ) -> Self {
        Self {
            functions,
            pool,
            queue,
            account,
            events,
            callers_bodies: BodySpace::of(MAX_CALLERS_BODIES),
            events_bodies: BodySpace::of(MAX_EVENTS_BODIES),
            events_turn: Mutex::default(),
        }
    }

    pub(super) async fn invoke(
        &self,
        function: &str,
        payload: Bytes,
        options: Options,
    ) -> Result<Invocation, Refused> {
        let run = self.prepare(function, payload, options).await?;
        to_its_end(run).await
    }

    /// Runs a function for a caller of the Invoke API, and keeps account of it.
    pub(super) async fn call(
        &self,
        function: &str,
        request_id: &str,
        payload: Bytes,
        options: Options,
    ) -> Result<Invocation, Refused> {
        let run = self.prepare(function, payload, options).await?;
        let Some(account) = self.account.clone() else { return to_its_end(run).await };
        let (function, request_id) = (function.to_owned(), request_id.to_owned());
        to_its_end(async move { account.make(&function, &request_id, Box::pin(run)).await }).await
    }

    /// An invocation that has its place.
    async fn prepare(
        &self,
        function: &str,
        payload: Bytes,
        options: Options,
    ) -> Result<impl Future<Output = Invocation> + Send + use<>, Refused> {
        let Some(declared) = self.functions.get(function) else {
            return Err(Refused::UnknownFunction(function.to_owned()));
        };
        let permit = self.pool.permit(function, !options.refuse_when_busy).await?;
        let (pool, declared) = (Arc::clone(&self.pool), Arc::clone(declared));
        Ok(invocation::run(pool, declared, payload, options, permit))
    }
}

/// A task of its own: an invocation runs to its end even when whoever asked for it hangs up.
async fn to_its_end(
    run: impl Future<Output = Invocation> + Send + 'static,
) -> Result<Invocation, Refused> {
    tokio::spawn(run).await.map_err(|_| Refused::Stopping)
}
