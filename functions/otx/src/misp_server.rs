//! A MISP server as one that is given events: added, or edited where they are there already.
//!
//! What it does was read in its source and seen of 2.4 and 2.5. An event whose UUID it has answers 404 with a `Location`; an edit
//! that is not newer than what stands there is refused; of an event with malformed attributes the others are kept, and `errors`
//! tells of those; a UUID on its blocklist, and whatever it cannot validate, is a 403 with `saved`, `name`, `message` and `errors`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use base::config::Secret;
use base::report::Outcome;
use base::{Error, Result};
use fetch::{Fetched, Limits, Request, Response};
use ioc::misp_feed::{Attribute, Event};
use serde_json::{Value, json};
use task::{Ctx, Stop};
use url::Url;
use uuid::Uuid;

/// An event of 50,000 attributes takes a server minutes, and comes back whole.
const LIMITS: Limits = Limits {
    max_body: 128 << 20,
    head_timeout: Duration::from_secs(280),
    idle_timeout: Duration::from_secs(60),
    total_timeout: Duration::from_secs(300),
};
/// How often an event is sent that is refused for its attributes, each time without those.
const TRIES: u32 = 3;
/// Letters of what a server says that are repeated.
const SAID_MAX: usize = 300;
/// Refused attributes of an event that are named.
pub(crate) const REFUSED_SHOWN: usize = 20;

/// An event that the server has.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Attributes that the server refused, each with why.
    pub(crate) refused: Vec<String>,
}

/// Why an event is not there.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// The server does not take this one, for this reason; others it may.
    Refused(String),
    /// It failed over this one, and may take it another time.
    Failed(Stop),
    /// It takes none.
    Stop(Stop),
}

/// A server and the key to it.
pub(crate) struct Server {
    base: Url,
    key: Secret<String>,
}

impl Server {
    pub(crate) fn new(base: Url, key: Secret<String>) -> Self {
        Self { base, key }
    }

    /// What tells it from another server.
    pub(crate) fn name(&self) -> String {
        let path = self.base.path().trim_end_matches('/');
        format!("{}{path}", self.base.origin().ascii_serialization())
    }

    /// Adds an event, or edits the one of its UUID. One that is refused for some of its attributes is sent without them.
    pub(crate) async fn send(&self, ctx: &Ctx, event: &Event) -> Result<Sent, Unsent> {
        let mut event = Cow::Borrowed(event);
        let mut refused = Vec::new();
        for tries_left in (0..TRIES).rev() {
            let answer = self.give(ctx, &event).await?;
            if answer.is_ok() {
                refused.extend(answer.refused(&event)?);
                return Ok(Sent { refused });
            }
            let malformed = answer.malformed(&event);
            if malformed.is_empty() || tries_left == 0 {
                return Err(answer.refusal(self));
            }
            let mut place = 0;
            event.to_mut().attributes.retain(|_| {
                place += 1;
                !malformed.contains_key(&(place - 1))
            });
            refused.extend(malformed.into_values());
        }
        Err(Unsent::Refused(format!("`{}` refuses it", self.name())))
    }

    /// Sends an event once and gives what was answered in the end, whatever that is.
    async fn give(&self, ctx: &Ctx, event: &Event) -> Result<Answered, Unsent> {
        let body = event.json().to_string();
        let answer = self.post(ctx, "events/add", &body).await?;
        if !answer.says_that_it_is_there() {
            return Ok(answer);
        }
        let edited = self.post(ctx, &format!("events/edit/{}", event.uuid), &body).await?;
        if edited.is_ok() || !edited.malformed(event).is_empty() {
            return Ok(edited);
        }
        // A run that was killed before it noted what it had sent sends the same version again.
        match self.version(ctx, event.uuid).await {
            Some(there) if there == event.timestamp => Ok(Answered::nothing()),
            Some(there) if there > event.timestamp => Err(Unsent::Refused(format!(
                "the server's event is newer ({there}, and the pulse is of {}): somebody edited it there",
                event.timestamp
            ))),
            _ => Ok(edited),
        }
    }

    /// The version of an event that is there, in seconds.
    async fn version(&self, ctx: &Ctx, event: Uuid) -> Option<i64> {
        let url = self.address(&format!("events/view/{event}")).ok()?;
        let request = Request::get(&url).header("authorization", self.key.expose());
        let answer = self.ask(ctx, request).await.ok()?;
        let timestamp = &answer.json?["Event"]["timestamp"];
        timestamp.as_i64().or_else(|| timestamp.as_str()?.parse().ok())
    }

    async fn post(&self, ctx: &Ctx, path: &str, body: &str) -> Result<Answered, Unsent> {
        let url = self.address(path).map_err(|error| Unsent::Stop(error.into()))?;
        let request = Request::post(&url, body.to_owned(), "application/json")
            .header("authorization", self.key.expose());
        self.ask(ctx, request).await
    }

    async fn ask(&self, ctx: &Ctx, request: Request<'_>) -> Result<Answered, Unsent> {
        let request = request.accept("application/json").limits(LIMITS).trusted().refusals();
        match ctx.http.send(request).await {
            Ok(Fetched::Body(response) | Fetched::Refused(response)) => {
                let answer = Answered::read(&response, self.key.expose());
                match answer.stops(&self.base) {
                    Some(stop) => Err(Unsent::Stop(stop)),
                    None if answer.status >= 500 => Err(Unsent::Failed(answer.failure(&self.base))),
                    None => Ok(answer),
                }
            }
            Ok(Fetched::NotModified(_)) => {
                let error = Error::format("give MISP an event: it answers as to a question");
                Err(Unsent::Stop(error.into()))
            }
            Err(failure) => {
                let stop = Stop::from(failure);
                // The server as a whole is away, or asks for a rest.
                let is_away = !matches!(stop.outcome, Outcome::Status | Outcome::TimedOut);
                Err(if is_away { Unsent::Stop(stop) } else { Unsent::Failed(stop) })
            }
        }
    }

    fn address(&self, path: &str) -> Result<Url> {
        let text = format!("{}/{path}", self.base.as_str().trim_end_matches('/'));
        Url::parse(&text)
            .map_err(|cause| Error::config(format!("build the address `{text}`")).because(cause))
    }
}

/// What the server answered.
struct Answered {
    status: u16,
    has_location: bool,
    json: Option<Value>,
    /// Its words, without our key and within bounds.
    said: String,
}

impl Answered {
    fn read(response: &Response, key: &str) -> Self {
        let json: Option<Value> = serde_json::from_slice(&response.body).ok();
        let said = match &json {
            Some(json) => words(json),
            None => String::from_utf8_lossy(&response.body).into_owned(),
        };
        let said = said.replace(key, "***");
        Self {
            status: response.status,
            has_location: response.headers.get("location").is_some(),
            json,
            said: said.chars().take(SAID_MAX).collect(),
        }
    }

    fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn says_that_it_is_there(&self) -> bool {
        self.status == 404
            && (self.has_location || self.said.to_lowercase().contains("already exists"))
    }

    /// Why nothing at all can be sent: a wrong key, or what is no MISP.
    fn stops(&self, base: &Url) -> Option<Stop> {
        const OF_KEYS: [&str; 3] = ["authentication", "api key", "authkey"];
        if self.says_that_it_is_there() {
            return None;
        }
        let what =
            format!("give `{}` an event: status `{}`", base::address::shown(base), self.status);
        let said = self.said.to_lowercase();
        let is_of_key = OF_KEYS.iter().any(|word| said.contains(word));
        if self.status == 401 || (self.status == 403 && is_of_key) {
            let error = Error::config(format!("{what}: {}", self.said));
            return Some(
                error.hint("check `MISP_KEY`: it is a key of a user who may add events").into(),
            );
        }
        if self.json.is_none() && (self.is_ok() || self.status == 404) {
            let error = Error::format(format!("{what}, and no JSON: `{}`", self.said));
            let hint =
                "check `MISP_URL`: it is the address of MISP itself, without a path of its API";
            return Some(error.hint(hint).into());
        }
        None
    }

    fn failure(&self, base: &Url) -> Stop {
        let error = Error::upstream(format!(
            "give `{}` an event: status `{}`: {}",
            base::address::shown(base),
            self.status,
            self.said
        ));
        Stop::new(Outcome::Status, error)
    }

    fn refusal(&self, server: &Server) -> Unsent {
        Unsent::Refused(format!(
            "`{}` refuses it with status `{}`: {}",
            server.name(),
            self.status,
            self.said
        ))
    }

    /// An answer that tells of no attribute.
    fn nothing() -> Self {
        Self { status: 200, has_location: false, json: Some(json!({})), said: String::new() }
    }

    /// The places of attributes that it tells errors of, each with which and why.
    fn malformed(&self, event: &Event) -> BTreeMap<usize, String> {
        let errors = self.json.as_ref().map(attribute_errors).unwrap_or_default();
        let named = errors.into_iter().filter_map(|(key, why)| {
            let is_meant = |one: &Attribute| one.uuid.to_string() == key || one.value == key;
            let place = key.parse().ok().or_else(|| event.attributes.iter().position(is_meant))?;
            let one = event.attributes.get(place)?;
            Some((place, format!("{} `{}`: {}", one.kind, head(&one.value), head(&why))))
        });
        named.collect()
    }

    /// The attributes of an event that was taken which were not.
    fn refused(&self, event: &Event) -> Result<Vec<String>, Unsent> {
        let json = self.json.as_ref().filter(|json| json.is_object());
        let json = json.ok_or_else(|| {
            Unsent::Stop(Error::format("read what MISP says of an event: it is no object").into())
        })?;
        let mut refused = self.malformed(event);
        // Whatever it says, what does not come back is not there.
        if let Some(kept) = json["Event"]["Attribute"].as_array().filter(|kept| !kept.is_empty()) {
            let ids: HashSet<&str> = kept.iter().filter_map(|one| one["uuid"].as_str()).collect();
            let same: HashSet<(&str, &str)> = kept
                .iter()
                .filter_map(|one| Some((one["type"].as_str()?, one["value"].as_str()?)))
                .collect();
            for (place, one) in event.attributes.iter().enumerate() {
                let id = one.uuid.to_string();
                let is_there = ids.contains(id.as_str()) || same.contains(&(one.kind, &one.value));
                if !is_there {
                    refused.entry(place).or_insert_with(|| {
                        format!("{} `{}`: not kept", one.kind, head(&one.value))
                    });
                }
            }
        }
        Ok(refused.into_values().collect())
    }
}

/// `errors` of attributes, by their places or whatever stands for them.
fn attribute_errors(json: &Value) -> Vec<(String, String)> {
    let of = |errors: &Value| match &errors["Attribute"] {
        Value::Object(all) => {
            all.iter().map(|(key, why)| (key.clone(), words(why))).collect::<Vec<_>>()
        }
        Value::Array(all) => {
            let all = all.iter().enumerate().filter(|(_, why)| !why.is_null());
            all.map(|(place, why)| (place.to_string(), words(why))).collect()
        }
        _ => Vec::new(),
    };
    [&json["errors"], &json["Event"]["errors"], &json["errors"]["Event"]]
        .into_iter()
        .flat_map(of)
        .collect()
}

/// All texts of an answer, in their order, each once: what is told where differs by version.
fn words(json: &Value) -> String {
    fn gather<'j>(json: &'j Value, all: &mut Vec<&'j str>) {
        match json {
            Value::String(text) if !text.is_empty() && !all.contains(&text.as_str()) => {
                all.push(text);
            }
            Value::Array(list) => list.iter().for_each(|one| gather(one, all)),
            Value::Object(object) => object
                .iter()
                .filter(|(name, _)| {
                    !["Event", "url", "saved"].contains(&name.as_str()) || object.len() == 1
                })
                .for_each(|(_, one)| gather(one, all)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    gather(json, &mut all);
    all.join("; ")
}

fn head(text: &str) -> String {
    text.chars().take(SAID_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_found_wherever_it_stands() {
        for (answer, expected) in [
            (
                json!({"saved": false, "name": "Could not add Event", "message": "Could not add Event", "url": "/events/add", "errors": {"uuid": ["Blocked by the blocklist."]}}),
                "Blocked by the blocklist.; Could not add Event",
            ),
            (
                json!({"errors": [403, "Event could not be saved: Event in the request not newer than the local copy."]}),
                "Event could not be saved: Event in the request not newer than the local copy.",
            ),
            (json!({"message": ""}), ""),
        ] {
            assert_eq!(words(&answer), expected);
        }
    }

    #[test]
    fn errors_of_attributes_are_read_in_each_form() {
        let value = json!({"value": ["IP address has an invalid format."]});
        for answer in [
            json!({"errors": {"Attribute": {"1": value}}}),
            json!({"errors": {"Attribute": [null, value]}}),
            json!({"errors": {"Event": {"Attribute": {"1": value}}}}),
        ] {
            assert_eq!(
                attribute_errors(&answer),
                [("1".to_owned(), "IP address has an invalid format.".to_owned())]
            );
        }
    }
}
