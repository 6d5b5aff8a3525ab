//! What the APIs share: the functions, their processes, and who takes what is sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

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
}

/// What the APIs share.
pub(super) struct Shared {
    pub(super) functions: BTreeMap<String, Arc<Function>>,
    pub(super) pool: Arc<Pool>,
    pub(super) queue: Option<Arc<dyn Queue>>,
    pub(super) events: Option<Arc<dyn Events>>,
}

impl Shared {
    pub(super) async fn invoke(
        &self,
        function: &str,
        payload: Bytes,
        options: Options,
    ) -> Result<Invocation, Refused> {
        let Some(declared) = self.functions.get(function) else {
            return Err(Refused::UnknownFunction(function.to_owned()));
        };
        let permit = self.pool.permit(function, !options.refuse_when_busy).await?;
        let run =
            invocation::run(Arc::clone(&self.pool), Arc::clone(declared), payload, options, permit);
        // A task of its own: an invocation runs to its end even when whoever asked for it hangs up.
        tokio::spawn(run).await.map_err(|_| Refused::Stopping)
    }
}
