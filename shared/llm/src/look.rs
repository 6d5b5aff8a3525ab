//! What `doctor` asks: whether the model's server knows the key and the model. Where its list does not say so, the model is asked one
//! small question, as not every server lists what it answers for.

use std::time::Duration;

use base::config::Config;
use base::{Error, Result};
use fetch::{Fetched, Http, Limits, Request};
use serde_json::json;
use task::catalog::Check;

use crate::settings::Endpoint;
use crate::wire::{self, Refusals};
use crate::{ANSWER_BYTES, Question};

/// What `doctor` asks.
pub const CHECK: Check =
    Check { about: "the language model", look: |config| Box::pin(look(config)) };

/// What the listing of a server may take.
const LISTING: Limits = Limits {
    max_body: 4 << 20,
    head_timeout: Duration::from_secs(5),
    idle_timeout: Duration::from_secs(5),
    total_timeout: Duration::from_secs(8),
};
/// What a small question may take: a server of one's own may have to load its model.
const ANSWERING: Limits = Limits {
    max_body: ANSWER_BYTES,
    head_timeout: Duration::from_secs(30),
    idle_timeout: Duration::from_secs(30),
    total_timeout: Duration::from_secs(30),
};
/// Tokens of its answer.
const ANSWER_TOKENS: u32 = 16;
/// Models that are shown where the one that is set is not among them.
const MODELS_SHOWN: usize = 5;
/// Forms of the question that are tried: without each of what a server may refuse.
const FORMS_MAX: usize = 5;

async fn look(config: &Config) -> Result<Option<String>> {
    let settings = &config.language_model;
    let Some(endpoint) = Endpoint::of(settings)? else { return Ok(None) };
    let clock = config.behaviour.clock;
    let http = Http::new(&config.network, move || clock.now(None))?;
    let about = format!(
        "`{}` at `{}`, {} requests and {} tokens a day",
        endpoint.shown(&endpoint.model),
        base::address::shown(&endpoint.url),
        settings.daily_limit,
        settings.daily_tokens
    );
    let listed = listed(&http, &endpoint).await?;
    if listed.contains(&endpoint.model) {
        return Ok(Some(about));
    }
    ask(&http, &endpoint, &listed).await?;
    Ok(Some(match listed.is_empty() {
        true => format!("{about}; it answers, and its server does not list its models"),
        false => format!("{about}; it answers, though its server does not list it"),
    }))
}

/// The models that the server lists; none where it lists none.
async fn listed(http: &Http, endpoint: &Endpoint) -> Result<Vec<String>> {
    let (url, bearer) = (endpoint.listing()?, endpoint.bearer());
    let request = endpoint.keyed(Request::get(&url).limits(LISTING), &bearer).once().refusals();
    let hide = |error: Error| error.reworded(|text| endpoint.hidden(text));
    match http.send(request).await.map_err(|failure| hide(failure.into()))? {
        Fetched::Body(response) => Ok(wire::models(&response.into_body())),
        Fetched::NotModified(_) => Ok(Vec::new()),
        // Not every server lists its models, and not to every key.
        Fetched::Refused(response) if matches!(response.status, 403 | 404 | 405 | 501) => {
            Ok(Vec::new())
        }
        Fetched::Refused(response) => {
            let error = format!(
                "ask the language model: {}",
                endpoint.says(response.status, &response.body)
            );
            Err(Error::upstream(error).hint("check `LLM_API_KEY` and `LLM_URL`"))
        }
    }
}

/// Asks the model one small question; any answer will do.
async fn ask(http: &Http, endpoint: &Endpoint, listed: &[String]) -> Result<()> {
    let question = Question {
        system: "Answer with one word.".to_owned(),
        data: "Are you there?".to_owned(),
        schema_name: "answer",
        schema: json!({"type": "object", "properties": {"answer": {"type": "string"}}}),
        max_tokens: ANSWER_TOKENS,
    };
    let bearer = endpoint.bearer();
    let mut refused = Refusals { schema: true, ..Refusals::default() };
    let mut reason = String::new();
    for _ in 0..FORMS_MAX {
        let body = wire::body(endpoint.provider, &endpoint.model, &question, refused).to_string();
        let request = Request::post(&endpoint.url, body, "application/json").limits(ANSWERING);
        let request = endpoint.keyed(request, &bearer).once().unpaced().refusals();
        let came = http
            .send(request)
            .await
            .map_err(|failure| Error::from(failure).reworded(|text| endpoint.hidden(text)))?;
        let Fetched::Refused(response) = came else { return Ok(()) };
        reason = endpoint.says(response.status, &response.body);
        match refused.after(&reason) {
            Some(next) => refused = next,
            None => break,
        }
    }
    let shown: Vec<String> = listed
        .iter()
        .take(MODELS_SHOWN)
        .map(|name| format!("`{}`", endpoint.shown(name)))
        .collect();
    let hint = match shown.is_empty() {
        true => "check `LLM_MODEL` and `LLM_URL`".to_owned(),
        false => format!("check `LLM_MODEL`: its server lists {}", shown.join(", ")),
    };
    let name = endpoint.shown(&endpoint.model);
    Err(Error::upstream(format!("ask the language model `{name}`: {reason}")).hint(hint))
}
