//! An event of the event bus, and who takes it.

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::wire::{ACCOUNT, REGION};

/// Takes the events that functions put.
#[async_trait]
pub trait Events: Send + Sync {
    /// Keeps all of the entries or none; the error is what their sender reads.
    async fn put(&self, entries: &[Entry]) -> Result<(), String>;
}

/// One event, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The id that its sender gets.
    pub id: String,
    /// Who sends it, as `minerva`.
    pub source: String,
    /// What kind of event it is.
    pub detail_type: String,
    /// The event itself, a JSON object.
    pub detail: Value,
    /// The sender's time of the event; without one it is the time of arrival.
    pub time: Option<Timestamp>,
    /// ARNs it is about.
    pub resources: Vec<String>,
    /// The bus, by name or ARN; without one it is the default bus.
    pub bus: Option<String>,
}

impl Entry {
    /// The event as a function receives it.
    pub fn envelope(&self, arrived: Timestamp) -> Value {
        json!({
            "version": "0",
            "id": self.id,
            "detail-type": self.detail_type,
            "source": self.source,
            "account": ACCOUNT,
            "time": format!("{:.0}", self.time.unwrap_or(arrived)),
            "region": REGION,
            "resources": self.resources,
            "detail": self.detail,
        })
    }
}
