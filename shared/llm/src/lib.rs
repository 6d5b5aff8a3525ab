//! Language models: a question with data and a schema goes in, an answer of that schema comes out, within the day's limits.
//!
//! Servers with OpenAI's chat API, Anthropic's and Databricks's are asked alike. What comes from a model is as hostile as the
//! data that it was given: it can fill the schema, and nothing else.

mod form;
mod look;
mod repair;
mod settings;
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::config::{Config, LanguageModel};
use base::secrets::hidden;
use base::{Error, Result, shown};
use fetch::{Fetched, Limits, Request, Response, retry_after};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use task::{Allowance, Ctx};
use tokio::sync::Semaphore;

pub use look::CHECK;
use settings::{Endpoint, Provider};
use wire::{ModelAnswer, Refusals};

/// The zone whose midnight begins a day of the limits: that of the timetable.
const ZONE: &str = "America/Sao_Paulo";
/// The pool of the limits in the state.
const POOL: &str = "language_model";

/// Bytes of an answer. One of 4,000 tokens has about 20,000.
const ANSWER_BYTES: u64 = 1 << 20;
/// Requests for one question that fail in passing: its rate, an error of the server, a broken connection.
const TRIES: u32 = 3;
/// The wait before another try where the server names none; twice as long before the next.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest wait that is waited within a question.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Letters that are kept of what a server or a model said.
const SAID_MAX: usize = 300;
/// Bytes that a token has at least on average, in any language and in code; OpenAI counts 4 for English.
const BYTES_A_TOKEN: usize = 2;
/// Tokens of what a server puts around messages.
const AROUND: usize = 64;

/// What a model is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// What to do: ours alone.
    pub system: String,
    /// What to do it with: never an instruction. It is kept apart in the prompt, between lines that it cannot hold.
    pub data: String,
    /// What the schema is called: letters, digits, `_` and `-`.
    pub schema_name: &'static str,
    /// JSON schema of an object, of `type`, `properties`, `required`, `items`, `enum`, `maxLength` and `maxItems`.
    pub schema: Value,
    /// Tokens of the answer at the most.
    pub max_tokens: u32,
}

/// What a model answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// An object of the schema: other fields are dropped, texts and lists cut at its lengths.
    pub value: Value,
    /// Whether it had to be found in other text, or repaired.
    pub is_repaired: bool,
    /// Tokens of every request that the question took, as the server counts them, else as estimated.
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// Why there is no answer, by what to do next. No key is in it.
#[derive(Debug)]
pub enum Refusal {
    /// Stop: the day's requests or tokens are used up until then.
    Budget { used_up: String, until: Timestamp },
    /// Go on after this wait, which the server asked for.
    Busy { retry_after: Duration, reason: String },
    /// Count it against the document and try it again another time: what came is no answer of the schema.
    Malformed { reason: String, prompt_tokens: u64, completion_tokens: u64 },
    /// Count it against the document: the server or the model does not want this one.
    Refused { reason: String },
    /// Stop, or stop after some in a row: the server cannot be reached, does not know the key or the model, or failed; or the state
    /// cannot be written (class `Store`).
    Unreachable { error: Error },
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Unreachable { error }
    }
}

/// A model that the settings name.
pub struct Model {
    endpoint: Endpoint,
    settings: LanguageModel,
    allowance: Allowance,
    at_once: Semaphore,
    refused: Mutex<Refusals>,
    /// When the server may be asked again.
    quiet_until: Mutex<Option<Instant>>,
}

/// What one request came to.
enum Came {
    Answer(ModelAnswer),
    /// Something that is no answer; its tokens may have been used.
    Malformed(String),
    /// A wish about the request's form, or no wish to answer it.
    Refused(String),
    /// Something that passes.
    Passing {
        wait: Option<Duration>,
        is_rate: bool,
        is_used: bool,
        reason: String,
    },
    Unreachable(Error),
}

impl Model {
    /// The model that the settings name; `None` where they name none.
    ///
    /// # Errors
    /// `Config`, naming what is missing.
    pub fn of(config: &Config) -> Result<Option<Self>> {
        let settings = config.language_model.clone();
        let Some(endpoint) = Endpoint::of(&settings)? else { return Ok(None) };
        let zone = TimeZone::get(ZONE)
            .map_err(|cause| Error::config(format!("find the zone `{ZONE}`")).because(cause))?;
        let allowance = Allowance::new(POOL, settings.daily_limit, settings.daily_tokens, zone);
        let at_once = Semaphore::new(settings.concurrency.max(1) as usize);
        Ok(Some(Self {
            endpoint,
            settings,
            allowance,
            at_once,
            refused: Mutex::default(),
            quiet_until: Mutex::default(),
        }))
    }

    /// Questions that are worth asking at the same time.
    pub fn concurrency(&self) -> usize {
        self.settings.concurrency.max(1) as usize
    }

    /// The model's name at its server.
    pub fn name(&self) -> &str {
        &self.endpoint.model
    }

    /// What so many tokens cost, where both prices are set.
    pub fn cost(&self, prompt: u64, completion: u64) -> Option<f64> {
        let (of_prompts, of_answers) =
            self.settings.prompt_price.zip(self.settings.completion_price)?;
        Some((prompt as f64 * of_prompts + completion as f64 * of_answers) / 1e6)
    }

    /// Requests and tokens that today has taken, of how many.
    ///
    /// # Errors
    /// `Store`, when the state cannot be read.
    pub async fn used(&self, ctx: &Ctx) -> Result<((u32, u32), (u32, u32))> {
        let (requests, tokens) = self.allowance.used(ctx).await?;
        let (requests_max, tokens_max) = self.allowance.limits();
        Ok(((requests, requests_max), (tokens, tokens_max)))
    }

    /// Gives back what is reserved of the day and not used: whoever asks no more, as others may.
    ///
    /// # Errors
    /// `Store`, when the state cannot be written.
    pub async fn hand_back(&self, ctx: &Ctx) -> Result<()> {
        self.allowance.hand_back(ctx).await
    }

    /// Asks, waits for as long as the server wants it where that is short, and tries again what passes.
    ///
    /// Each request is counted before it is sent: what it may take of the day's tokens is reserved, and corrected by what it took.
    /// Its turn among the [concurrent](Self::concurrency) ones is taken for no longer than the server has it: whoever asks more
    /// questions than that at the same time never leaves the server waiting for the state.
    ///
    /// # Errors
    /// Why there is no answer, by what to do next.
    pub async fn ask(&self, ctx: &Ctx, question: &Question) -> Result<Answer, Refusal> {
        let (mut prompt_tokens, mut completion_tokens) = (0, 0);
        let mut tries = 0;
        loop {
            self.wait(ctx).await?;
            let refused = *locked(&self.refused);
            let body =
                wire::body(self.endpoint.provider, self.name(), question, refused).to_string();
            let estimate = estimate(&body) + AROUND as u64;
            let most = estimate.saturating_add(question.max_tokens.into());
            let most = u32::try_from(most).unwrap_or(u32::MAX);
            let reservation = match self.allowance.reserve(ctx, most).await? {
                Ok(reservation) => reservation,
                Err((used_up, until)) => return Err(Refusal::Budget { used_up, until }),
            };
            let turn = self.at_once.acquire().await.expect("the semaphore is never closed");
            if let Err(refusal) = self.wait(ctx).await {
                self.allowance.release(ctx, reservation).await?;
                return Err(refusal);
            }
            let came = self.send(ctx, body).await;
            drop(turn);
            let (of_prompt, of_answer) = match &came {
                Came::Answer(said) => said.usage.unwrap_or((estimate, estimate_of(&said.text))),
                // What was sent and not answered may be charged all the same.
                Came::Malformed(_) | Came::Passing { is_used: true, .. } => {
                    (estimate, question.max_tokens.into())
                }
                Came::Passing { .. } | Came::Refused(_) | Came::Unreachable(_) => (0, 0),
            };
            self.allowance.settle(ctx, reservation, of_prompt.saturating_add(of_answer)).await?;
            prompt_tokens += of_prompt;
            completion_tokens += of_answer;
            let malformed =
                |reason| Refusal::Malformed { reason, prompt_tokens, completion_tokens };
            match came {
                Came::Answer(said) => {
                    let read = self.read(question, &said);
                    return match read {
                        Ok((value, is_repaired)) => {
                            Ok(Answer { value, is_repaired, prompt_tokens, completion_tokens })
                        }
                        Err(reason) => Err(malformed(reason)),
                    };
                }
                Came::Malformed(reason) => return Err(malformed(reason)),
                Came::Unreachable(error) => return Err(Refusal::Unreachable { error }),
                Came::Refused(reason) => {
                    let mut known = locked(&self.refused);
                    // Another question may have learned it meanwhile.
                    if *known == refused {
                        match refused.after(&reason) {
                            Some(next) => *known = next,
                            None => return Err(Refusal::Refused { reason }),
                        }
                    }
                }
                Came::Passing { wait, is_rate, reason, .. } => {
                    tries += 1;
                    let wait = wait.unwrap_or(PAUSE * tries);
                    let is_late = Instant::now() + wait >= ctx.deadline.soft_end();
                    if tries >= TRIES || wait > WAIT_MAX || is_late {
                        let reason = format!("{reason}, after `{tries}` tries");
                        return Err(if is_rate {
                            Refusal::Busy { retry_after: wait, reason }
                        } else {
                            Refusal::Unreachable {
                                error: Error::upstream(format!("ask the language model: {reason}")),
                            }
                        });
                    }
                    let mut quiet = locked(&self.quiet_until);
                    *quiet = (*quiet).max(Some(Instant::now() + wait));
                }
            }
        }
    }

    /// Waits until the server may be asked; not beyond the end of the run.
    async fn wait(&self, ctx: &Ctx) -> Result<(), Refusal> {
        loop {
            let until = *locked(&self.quiet_until);
            let Some(until) = until.filter(|until| *until > Instant::now()) else { return Ok(()) };
            if until >= ctx.deadline.soft_end() {
                let retry_after = until.saturating_duration_since(Instant::now());
                let reason = "the server wants to be left alone".to_owned();
                return Err(Refusal::Busy { retry_after, reason });
            }
            tokio::time::sleep_until(until.into()).await;
        }
    }

    async fn send(&self, ctx: &Ctx, body: String) -> Came {
        let url = self.endpoint.url.clone();
        let bearer = self.endpoint.bearer();
        let timeout = Duration::from_secs(self.settings.timeout_s.max(1).into());
        // The head comes with the answer, so it may take as long.
        let limits = Limits {
            max_body: ANSWER_BYTES,
            head_timeout: timeout,
            idle_timeout: timeout,
            total_timeout: timeout,
        };
        let request = Request::post(&url, body, "application/json").limits(limits);
        let request = self.endpoint.keyed(request, &bearer).once().unpaced().refusals();
        match ctx.http.send(request).await {
            Ok(Fetched::Body(response)) => self.answered(response),
            Ok(Fetched::Refused(response)) => self.refused(&response, ctx.now()),
            Ok(Fetched::NotModified(_)) => Came::Malformed("status `304`".to_owned()),
            Err(failure) => self.failed(failure),
        }
    }

    fn answered(&self, response: Response) -> Came {
        if response.truncated {
            return Came::Malformed("the answer broke off".to_owned());
        }
        match wire::answer(self.endpoint.provider, &response.into_body()) {
            Ok(said) => Came::Answer(said),
            Err(reason) => Came::Malformed(self.shown(&reason)),
        }
    }

    /// What a status outside 2xx means.
    fn refused(&self, response: &Response, now: Timestamp) -> Came {
        let status = response.status;
        let reason = self.endpoint.says(status, &response.body);
        let wait = response.headers.get("retry-after").and_then(|value| retry_after(value, now));
        match status {
            401 | 403 => Came::Unreachable(
                Error::config(format!("ask the language model: {reason}"))
                    .hint("check `LLM_API_KEY`"),
            ),
            404 | 405 | 410 => Came::Unreachable(
                Error::config(format!("ask the language model: {reason}"))
                    .hint("check `LLM_URL` and `LLM_MODEL`"),
            ),
            // llama-cpp-python calls a form that it does not know its own error.
            500 if reason.contains("response_format") => Came::Refused(reason),
            429 => Came::Passing { wait, is_rate: true, is_used: false, reason },
            // 529: Anthropic is overloaded.
            503 | 529 => Came::Passing { wait, is_rate: wait.is_some(), is_used: false, reason },
            408 | 500..=599 => Came::Passing { wait, is_rate: false, is_used: true, reason },
            _ => Came::Refused(reason),
        }
    }

    fn failed(&self, failure: fetch::Failure) -> Came {
        let reason = self.shown(&Error::from(failure.clone()).chain());
        match failure.reason {
            fetch::Reason::TooLarge { .. } | fetch::Reason::Undecodable(_) => {
                Came::Malformed(reason)
            }
            // A second one would take as long; the caller tries it another time.
            fetch::Reason::TimedOut { limit, .. } if limit != fetch::Limit::Connect => {
                Came::Malformed(reason)
            }
            fetch::Reason::Reset | fetch::Reason::Truncated => {
                Came::Passing { wait: None, is_rate: false, is_used: true, reason }
            }
            _ => Came::Unreachable(Error::from(failure).reworded(|text| self.hidden(text))),
        }
    }

    /// The object of an answer in its schema's form, and whether it was repaired.
    fn read(&self, question: &Question, said: &ModelAnswer) -> Result<(Value, bool), String> {
        let shown = |why: &str| format!("{why}: {}", self.shown(&said.text));
        if let Some(cut) = &said.cut {
            return Err(shown(&self.shown(cut)));
        }
        let fields = question.schema["properties"].as_object();
        let is_it = |object: &serde_json::Map<String, Value>| {
            fields.is_some_and(|fields| fields.keys().any(|name| object.contains_key(name)))
        };
        let (value, is_repaired) =
            repair::object(&said.text, is_it).ok_or_else(|| shown("no JSON object"))?;
        let value = form::fit(&question.schema, value, &|text| self.hidden(text))
            .map_err(|why| shown(&why))?;
        Ok((value, is_repaired))
    }

    fn hidden(&self, text: &str) -> String {
        self.endpoint.hidden(text)
    }

    fn shown(&self, text: &str) -> String {
        self.endpoint.shown(text)
    }
}

impl Endpoint {
    fn bearer(&self) -> String {
        let key = self.key.as_ref().map(|key| key.expose().as_str()).unwrap_or_default();
        if self.provider == Provider::Anthropic { key.to_owned() } else { format!("Bearer {key}") }
    }

    fn keyed<'r>(&self, request: Request<'r>, bearer: &'r str) -> Request<'r> {
        let request = request.accept("application/json").trusted();
        let request = match self.provider {
            Provider::Anthropic => request.header("anthropic-version", "2023-06-01"),
            _ => request,
        };
        match (&self.key, self.provider) {
            (None, _) => request,
            (Some(_), Provider::Anthropic) => request.header("x-api-key", bearer),
            (Some(_), _) => request.header("authorization", bearer),
        }
    }

    /// The text without the key, and without what the address holds of secrets.
    fn hidden(&self, text: &str) -> String {
        let of_address = base::address::secrets_of(&self.url);
        let key = self.key.as_ref().map(|key| key.expose().as_str());
        hidden(text, of_address.iter().map(String::as_str).chain(key))
    }

    /// A refusal's status, and what it says.
    fn says(&self, status: u16, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let says = serde_json::from_str(&text).ok().and_then(|body| wire::error_of(&body));
        format!("status `{status}`: {}", self.shown(says.as_deref().unwrap_or(&text)))
    }

    /// The begin of what a stranger says, without the key, on one line.
    fn shown(&self, text: &str) -> String {
        let line = shown::one_line(&self.hidden(text));
        let line = line.trim();
        match line.char_indices().nth(SAID_MAX) {
            None => line.to_owned(),
            Some((end, _)) => format!("{}…", &line[..end]),
        }
    }
}

fn estimate(text: &str) -> u64 {
    text.len().div_ceil(BYTES_A_TOKEN) as u64
}

fn estimate_of(text: &str) -> u64 {
    estimate(text).max(1)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
