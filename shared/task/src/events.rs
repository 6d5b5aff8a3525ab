//! What a function is invoked with, and the events it sends: EventBridge, in the cloud and at home alike.

use aws_config::BehaviorVersion;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use base::{Error, Result, date};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// The source of our own events.
pub const SOURCE: &str = "minerva";

/// The detail type of an event that carries a run on.
pub const CONTINUATION: &str = "Minerva Task Continuation";

/// What makes a continuation: claimed by compare-and-set, so that a doubled event does nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continuation {
    pub task: String,
    /// The run it carries on.
    pub run_id: String,
    /// The step that is to run.
    pub step: u32,
}

/// How a function was invoked.
#[derive(Clone, Debug, PartialEq)]
pub enum Invocation {
    /// By the timetable, for this slot.
    Scheduled(Timestamp),
    /// By an earlier step of the same run.
    Continued(Continuation),
    /// By a person, with this input.
    OnDemand(Value),
}

impl Invocation {
    /// Tells an EventBridge event from a bare input.
    ///
    /// # Errors
    /// `Config`, when it is an event that no rule of ours sends.
    pub fn read(payload: Value) -> Result<Self> {
        let text = |name: &str| payload.get(name).and_then(Value::as_str);
        match (text("source"), text("detail-type")) {
            (Some("aws.events" | "aws.scheduler"), _) => slot(text("time")).map(Self::Scheduled),
            (Some(SOURCE), Some(CONTINUATION)) => {
                serde_json::from_value(payload["detail"].clone()).map(Self::Continued).map_err(
                    |cause| Error::config("read the detail of a continuation event").because(cause),
                )
            }
            (Some(source), Some(_)) => Err(Error::config(format!("read an event from `{source}`"))
                .hint(
                    "a function takes scheduled events, its own continuations, or its bare input",
                )),
            _ => Ok(Self::OnDemand(payload)),
        }
    }
}

/// The slot of a scheduled event: its `time`, cut to the minute.
fn slot(time: Option<&str>) -> Result<Timestamp> {
    let time = time.ok_or_else(|| {
        Error::config("find the `time` of a scheduled event")
            .hint("let the rule send the event itself, not a constant input")
    })?;
    let instant: Timestamp = time.parse().map_err(|cause: jiff::Error| {
        Error::config(format!("read the `time` `{time}` of a scheduled event")).because(cause)
    })?;
    let second = instant.as_second();
    Timestamp::from_second(second - second.rem_euclid(60))
        .map_err(|cause| Error::config(format!("cut `{time}` to the minute")).because(cause))
}

/// A scheduled event in EventBridge's form, as a rule named after its task sends it.
///
/// The form is that of `aws_lambda_events`' fixture for scheduled events.
pub fn scheduled(task: &str, id: &str, slot: Timestamp) -> Value {
    json!({
        "version": "0",
        "id": id,
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": date::seconds(slot),
        "region": "local",
        "resources": [format!("arn:aws:events:local:000000000000:rule/{task}")],
        "detail": {},
    })
}

/// The event bus.
pub struct Events(Bus);

enum Bus {
    /// EventBridge, or the runner that stands in for it; nothing is loaded before the first event.
    Bridge(OnceCell<Client>),
    /// A test's: what is sent is kept.
    #[cfg(feature = "testing")]
    Recorded(std::sync::Mutex<Vec<Continuation>>),
}

impl Default for Events {
    fn default() -> Self {
        Self(Bus::Bridge(OnceCell::new()))
    }
}

impl Events {
    /// Sends an event that carries a run on.
    ///
    /// # Errors
    /// `Upstream`, when the bus does not take it.
    pub async fn send(&self, continuation: &Continuation) -> Result<()> {
        let client = match &self.0 {
            Bus::Bridge(client) => client.get_or_init(connect).await,
            #[cfg(feature = "testing")]
            Bus::Recorded(kept) => {
                kept.lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .push(continuation.clone());
                return Ok(());
            }
        };
        let detail = serde_json::to_string(continuation).expect("three plain fields are JSON");
        let entry = PutEventsRequestEntry::builder()
            .source(SOURCE)
            .detail_type(CONTINUATION)
            .detail(detail)
            .build();
        let answer = client.put_events().entries(entry).send().await;
        let answer = answer.map_err(|cause| {
            Error::upstream("send the continuation event")
                .because(aws_sdk_eventbridge::Error::from(cause))
        })?;
        match answer.entries().first().and_then(|entry| entry.error_message()) {
            None => Ok(()),
            Some(refusal) => {
                Err(Error::upstream(format!("send the continuation event: `{refusal}`")))
            }
        }
    }

    /// A bus that keeps what is sent.
    #[cfg(feature = "testing")]
    pub fn kept() -> Self {
        Self(Bus::Recorded(std::sync::Mutex::default()))
    }

    /// What was sent to a bus that keeps it.
    #[cfg(feature = "testing")]
    pub fn sent(&self) -> Vec<Continuation> {
        match &self.0 {
            Bus::Bridge(_) => Vec::new(),
            Bus::Recorded(kept) => {
                kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
            }
        }
    }
}

async fn connect() -> Client {
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    Client::new(&aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_of_an_event_is_its_time_cut_to_the_minute() {
        let event = json!({"source": "aws.events", "detail-type": "Scheduled Event", "time": "2026-03-01T05:00:42Z", "detail": {}});
        assert_eq!(
            Invocation::read(event).unwrap(),
            Invocation::Scheduled("2026-03-01T05:00:00Z".parse().unwrap())
        );
    }

    #[test]
    fn what_we_send_we_can_read() {
        let slot = "2026-03-01T05:00:00Z".parse().unwrap();
        assert_eq!(
            Invocation::read(scheduled("collect_all_rss_feeds", "1", slot)).unwrap(),
            Invocation::Scheduled(slot)
        );
        let continuation = Continuation { task: "t".to_owned(), run_id: "r".to_owned(), step: 2 };
        let event = json!({"source": SOURCE, "detail-type": CONTINUATION, "detail": continuation});
        assert_eq!(Invocation::read(event).unwrap(), Invocation::Continued(continuation));
    }

    #[test]
    fn anything_else_is_an_input_but_for_a_foreign_event() {
        let input = json!({"categories": ["malware"]});
        assert_eq!(Invocation::read(input.clone()).unwrap(), Invocation::OnDemand(input));
        assert!(
            Invocation::read(json!({"source": "aws.s3", "detail-type": "Object Created"})).is_err()
        );
        assert!(
            Invocation::read(json!({"source": "aws.events", "time": "noon"}))
                .unwrap_err()
                .to_string()
                .contains("`noon`")
        );
    }
}
