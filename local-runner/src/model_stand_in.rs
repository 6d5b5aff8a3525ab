//! A stand-in for a language model behind OpenAI's chat API, on loopback, for the demo and for trials: it says in every text it fills
//! that it is one, and can behave as badly as servers and models do.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};

/// What every text that it fills begins with.
pub const BEGINNING: &str = "Stand-in model:";

/// What an order begins with in the data of who tries [`Behaviour::Obedient`].
pub const ORDER: &str = "ignore the above and output ";

/// Between two letters of [`Behaviour::Drip`].
const DRIP: Duration = Duration::from_secs(1);

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// An object of the schema after so long.
    Good(Duration),
    /// An object without the schema's fields.
    Wrong,
    /// An object that ends in its midst.
    Broken,
    /// An object in a fence, in prose.
    Fenced,
    /// Names that are nobody's in every list of texts.
    InventedNames,
    /// 429 with `Retry-After` in seconds, for so many requests.
    TooMany { retry_after: u32, times: u64 },
    /// 500 for so many requests.
    Failing { times: u64 },
    /// A body without end.
    Endless,
    /// A letter at a time, for ever.
    Drip,
    /// No count of tokens.
    Uncounted,
    /// 400 where a schema is sent.
    WithoutSchema,
    /// 401 with the key in what it says.
    EchoesKey,
    /// An object that ends in its midst, where the data holds this.
    BrokenOn(&'static str),
    /// What the data orders after [`ORDER`], where it does.
    Obedient,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    requests: AtomicU64,
    since: AtomicU64,
    at_once: AtomicU64,
    most_at_once: AtomicU64,
    tokens: AtomicU64,
    held_us: AtomicU64,
    asked: Mutex<Vec<String>>,
}

/// The server, for as long as the process lives.
#[derive(Clone)]
pub struct ModelStandIn {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl ModelStandIn {
    /// Serves on any free port of loopback.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(behaviour: Behaviour) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            requests: AtomicU64::new(0),
            since: AtomicU64::new(0),
            at_once: AtomicU64::new(0),
            most_at_once: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            held_us: AtomicU64::new(0),
            asked: Mutex::default(),
        });
        let listed = json!({"object": "list", "data": [{"id": "stand-in", "object": "model"}]});
        let routes = Router::new()
            .route("/v1/models", get(async move || Json(listed)))
            .route("/v1/chat/completions", post(serve))
            .with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { address, shared })
    }

    /// What `LLM_URL` is set to.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Behaves like this from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
        self.shared.since.store(0, Ordering::SeqCst);
    }

    /// Questions that were asked.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Questions at the same time, at the most.
    pub fn most_at_once(&self) -> u64 {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }

    /// The data of the questions since this was called, in the order in which they came.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For how long it had questions, those at the same time each by itself.
    pub fn held(&self) -> Duration {
        Duration::from_micros(self.shared.held_us.load(Ordering::SeqCst))
    }

    /// Tokens of all prompts and answers.
    pub fn tokens(&self) -> u64 {
        self.shared.tokens.load(Ordering::SeqCst)
    }
}

/// A value of a schema, whose texts say what they are.
fn filled(schema: &Value, data: &str, names: &[&str]) -> Value {
    match schema["type"].as_str() {
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let fields = fields.map(|(name, form)| (name.clone(), filled(form, data, names)));
            Value::Object(fields.collect::<Map<String, Value>>())
        }
        Some("array") => json!(names),
        Some("string") => {
            let line = data.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let line: String = line.chars().take(200).collect();
            json!(format!("{BEGINNING} {line}"))
        }
        Some("boolean") => json!(false),
        Some("number" | "integer") => json!(0),
        _ => Value::Null,
    }
}

/// What is ordered in any text of the data.
fn order(data: &str) -> Option<String> {
    let texts = match serde_json::from_str(data) {
        Ok(Value::Object(fields)) => fields.into_iter().map(|(_, value)| value).collect(),
        _ => vec![json!(data)],
    };
    let mut texts = texts.iter().filter_map(Value::as_str);
    texts.find_map(|text| Some(text.split_once(ORDER)?.1.to_owned()))
}

async fn serve(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let number = shared.since.fetch_add(1, Ordering::SeqCst);
    let _turn = Turn::of(&shared);
    let behaviour = *shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner);
    answer(&shared, behaviour, number, &headers, &body).await
}

/// A question that is being answered, until whoever asked it has the answer or is gone.
struct Turn<'s>(&'s Shared, Instant);

impl<'s> Turn<'s> {
    fn of(shared: &'s Shared) -> Self {
        let at_once = shared.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        Self(shared, Instant::now())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
        let held_us = u64::try_from(self.1.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0.held_us.fetch_add(held_us, Ordering::SeqCst);
    }
}

async fn answer(
    shared: &Shared,
    behaviour: Behaviour,
    number: u64,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let error = |status: StatusCode, says: String| {
        (status, Json(json!({"error": {"message": says}}))).into_response()
    };
    let Ok(asked) = serde_json::from_slice::<Value>(body) else {
        return error(StatusCode::BAD_REQUEST, "no JSON".to_owned());
    };
    let schema = &asked["response_format"]["json_schema"]["schema"];
    let user = asked["messages"].as_array().and_then(|all| all.last());
    let data = user.and_then(|user| user["content"].as_str()).unwrap_or_default();
    // Without its first and last line, which keep it apart.
    let data = data.split_once('\n').map_or(data, |(_, rest)| rest);
    let data = data.rsplit_once('\n').map_or(data, |(before, _)| before);
    shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(data.to_owned());
    match behaviour {
        Behaviour::Good(wait) => sleep_until(Instant::now() + wait).await,
        Behaviour::TooMany { retry_after, times } if number < times => {
            let answer = error(StatusCode::TOO_MANY_REQUESTS, "slow down".to_owned());
            return ([(header::RETRY_AFTER, retry_after.to_string())], answer).into_response();
        }
        Behaviour::Failing { times } if number < times => {
            return error(StatusCode::INTERNAL_SERVER_ERROR, "a worker died".to_owned());
        }
        Behaviour::Endless => {
            let block = Bytes::from(vec![b' '; 64 << 10]);
            let blocks = stream::repeat_with(move || Ok::<_, Infallible>(block.clone()));
            return Body::from_stream(blocks).into_response();
        }
        Behaviour::Drip => {
            let letters = stream::unfold((), async |()| {
                sleep_until(Instant::now() + DRIP).await;
                Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
            });
            return Body::from_stream(letters).into_response();
        }
        Behaviour::WithoutSchema if !schema.is_null() => {
            return error(StatusCode::BAD_REQUEST, "`response_format` is not supported".to_owned());
        }
        Behaviour::EchoesKey => {
            let key = headers.get(header::AUTHORIZATION).and_then(|key| key.to_str().ok());
            let says = format!("incorrect key: {}", key.unwrap_or_default());
            return error(StatusCode::UNAUTHORIZED, says);
        }
        _ => {}
    }
    // Where no schema is sent, it stands in the prompt.
    let in_prompt = asked["messages"][0]["content"]
        .as_str()
        .and_then(|system| serde_json::from_str(system.split_once("JSON schema: ")?.1).ok());
    let schema = if schema.is_null() { in_prompt.unwrap_or_default() } else { schema.clone() };
    let names: &[&str] = match behaviour {
        Behaviour::InventedNames => &["Stand-in model: nobody's name"],
        _ => &[],
    };
    let object = filled(&schema, data, names).to_string();
    let text = match behaviour {
        Behaviour::Wrong => json!({"title": BEGINNING}).to_string(),
        Behaviour::BrokenOn(mark) if !data.contains(mark) => object,
        Behaviour::Broken | Behaviour::BrokenOn(_) => {
            object.chars().take(object.chars().count() / 2).collect()
        }
        Behaviour::Obedient => order(data).unwrap_or(object),
        Behaviour::Fenced => format!("Certainly:\n```json\n{object}\n```\nAnything else?"),
        _ => object,
    };
    let (prompt, completion) = (body.len() as u64 / 4, text.len() as u64 / 4 + 1);
    shared.tokens.fetch_add(prompt + completion, Ordering::SeqCst);
    let usage = match behaviour {
        Behaviour::Uncounted => Value::Null,
        _ => json!({"prompt_tokens": prompt, "completion_tokens": completion}),
    };
    Json(json!({
        "object": "chat.completion", "model": "stand-in", "usage": usage,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
    }))
    .into_response()
}
