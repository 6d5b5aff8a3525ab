//! The internal extensions of a process, and the events that wait for them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use super::instance::Event;

/// Extensions of one process; AWS's limit.
const MAX_EXTENSIONS: usize = 10;
/// Events an extension may leave lying; one more is dropped.
const MAX_WAITING: usize = 16;

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
    /// Registers one more, if there may be one.
    pub(super) fn add(&mut self, identifier: &str, invoke: bool) -> bool {
        if self.0.len() >= MAX_EXTENSIONS {
            return false;
        }
        let (events, queue) = mpsc::channel(MAX_WAITING);
        let extension = Extension { events, queue: Arc::new(Mutex::new(queue)), invoke };
        self.0.insert(identifier.to_owned(), extension);
        true
    }

    /// Where the events of one arrive.
    pub(super) fn queue(&self, identifier: &str) -> Option<Arc<Mutex<mpsc::Receiver<Value>>>> {
        self.0.get(identifier).map(|extension| Arc::clone(&extension.queue))
    }

    /// Whether the process is to be warned before its end.
    pub(super) fn is_registered(&self) -> bool {
        !self.0.is_empty()
    }

    /// Tells those who asked that an event was handed over.
    pub(super) fn invoked(&self, event: &Event) {
        for extension in self.0.values().filter(|extension| extension.invoke) {
            let told = json!({
                "eventType": "INVOKE",
                "deadlineMs": event.deadline_ms,
                "requestId": event.request_id,
                "invokedFunctionArn": event.arn,
                "tracing": {"type": "X-Amzn-Trace-Id", "value": event.trace_id},
            });
            // An extension that does not read its events loses them.
            let _ = extension.events.try_send(told);
        }
    }
}
