//! What a task's tests stand on: the whole task on embedded stores, with a chosen clock and a loopback upstream that
//! serves what the test says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base::Result;
use base::clock::Deadline;
use base::config::{Config, DeclaredSettings};
use base::report::Report;
use futures_util::stream;
use serde_json::Value;
use stores::documents::{Document, Index, Scan};
use tokio::net::TcpListener;

use crate::Registered;
use crate::events::{Continuation, Events};
use crate::function::{Home, invoke};

/// What an upstream answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The body of its path, with validators: a repeated visit is a 304.
    Good,
    /// The body of its path, without validators.
    Unconditional,
    /// 200 and nothing.
    Empty,
    /// A status and nothing.
    Status(u16),
    /// 200 and bytes that mean nothing.
    Garbage,
    /// No answer, ever.
    Silence,
    /// A body without end.
    Endless,
}

type Handler = Arc<dyn Fn(&HeaderMap) -> Response + Send + Sync>;

#[derive(Default)]
struct Served {
    bodies: BTreeMap<String, Bytes>,
    handlers: BTreeMap<String, Handler>,
    lacking: BTreeSet<String>,
    answer: Option<Answer>,
    /// The request from which on there is no answer.
    silent_from: Option<usize>,
    requests: Vec<String>,
    headers: Vec<HeaderMap>,
    /// Requests that `asked` has told of.
    told: usize,
    unexpected: Vec<String>,
}

/// A loopback server. A request for a path that no test gave a body fails the test when this is dropped.
pub struct Upstream {
    origin: String,
    served: Arc<Mutex<Served>>,
}

impl Upstream {
    /// Listens on any free port.
    ///
    /// # Panics
    /// When loopback cannot be listened on.
    pub async fn start() -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has free ports");
        let origin = format!("http://{}", listener.local_addr().expect("it is bound"));
        let served = Arc::new(Mutex::new(Served::default()));
        let routes = Router::new().fallback(serve).with_state(Arc::clone(&served));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { origin, served }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Serves `body` at `path`.
    pub fn put(&self, path: &str, body: impl Into<Bytes>) {
        let mut served = lock(&self.served);
        served.handlers.remove(path);
        served.bodies.insert(path.to_owned(), body.into());
    }

    /// Lets `path` answer as `handler` says to a request's headers.
    pub fn serve(
        &self,
        path: &str,
        handler: impl Fn(&HeaderMap) -> Response + Send + Sync + 'static,
    ) {
        lock(&self.served).handlers.insert(path.to_owned(), Arc::new(handler));
    }

    /// Answers 404 at `path`, which a test expects to be asked for.
    pub fn lack(&self, path: &str) {
        lock(&self.served).lacking.insert(path.to_owned());
    }

    /// From now on every path answers like this.
    pub fn answer(&self, answer: Answer) {
        let mut served = lock(&self.served);
        served.answer = Some(answer);
        served.silent_from = None;
    }

    /// Answers so many further requests well, and then none any more.
    pub fn answer_then_fall_silent(&self, requests: usize) {
        let mut served = lock(&self.served);
        served.answer = None;
        served.silent_from = Some(served.requests.len() + requests);
    }

    /// The paths that were asked for, in order.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.served).requests.clone()
    }

    /// Those since this was asked last.
    pub fn asked(&self) -> Vec<String> {
        let mut served = lock(&self.served);
        let asked = served.requests[served.told..].to_vec();
        served.told = served.requests.len();
        asked
    }

    /// The headers of every request, in order.
    pub fn headers(&self) -> Vec<HeaderMap> {
        lock(&self.served).headers.clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let unexpected = std::mem::take(&mut lock(&self.served).unexpected);
        assert!(
            std::thread::panicking() || unexpected.is_empty(),
            "requests that no test expected: {unexpected:?}"
        );
    }
}

fn lock(served: &Mutex<Served>) -> std::sync::MutexGuard<'_, Served> {
    served.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(State(served): State<Arc<Mutex<Served>>>, uri: Uri, headers: HeaderMap) -> Response {
    let (answer, body) = {
        let mut served = lock(&served);
        served.requests.push(uri.path().to_owned());
        served.headers.push(headers.clone());
        if let Some(handler) = served.handlers.get(uri.path()).cloned() {
            drop(served);
            return handler(&headers);
        }
        let Some(body) = served.bodies.get(uri.path()).cloned() else {
            if !served.lacking.contains(uri.path()) {
                served.unexpected.push(uri.to_string());
            }
            return StatusCode::NOT_FOUND.into_response();
        };
        let is_silent = served.silent_from.is_some_and(|from| served.requests.len() > from);
        let answer = served.answer.clone().unwrap_or(Answer::Good);
        (if is_silent { Answer::Silence } else { answer }, body)
    };
    match answer {
        Answer::Good => {
            let etag = format!(
                "\"{:x}\"",
                body.iter()
                    .fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
            );
            if headers
                .get(header::IF_NONE_MATCH)
                .is_some_and(|known| known.as_bytes() == etag.as_bytes())
            {
                return StatusCode::NOT_MODIFIED.into_response();
            }
            ([(header::ETAG, etag)], body).into_response()
        }
        Answer::Unconditional => body.into_response(),
        Answer::Empty => StatusCode::OK.into_response(),
        Answer::Status(status) => StatusCode::from_u16(status)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response(),
        Answer::Garbage => {
            Bytes::from_static(b"\x00\x01\xfe\xffnothing that means anything\x80\x81")
                .into_response()
        }
        Answer::Silence => std::future::pending().await,
        Answer::Endless => {
            let block = Bytes::from(vec![b' '; 64 << 10]);
            Body::from_stream(stream::repeat_with(move || {
                Ok::<_, std::convert::Infallible>(block.clone())
            }))
            .into_response()
        }
    }
}

/// A home for tasks in a temporary folder.
pub struct TestHome {
    /// What is open.
    pub home: Home,
    /// The temporary folder.
    pub folder: tempfile::TempDir,
    requests: Mutex<u32>,
}

impl TestHome {
    /// Opens embedded stores, with loopback excepted from the ban on private addresses; `settings` go above that, and are
    /// read as `families` declare them.
    ///
    /// # Errors
    /// What [`Home::open`] says.
    ///
    /// # Panics
    /// When there is no temporary folder to be had.
    pub async fn open(
        folder: tempfile::TempDir,
        settings: &[(String, String)],
        families: &[DeclaredSettings],
    ) -> Result<Self> {
        let data = folder.path().join("data").to_string_lossy().into_owned();
        let given = |name: &str| match settings.iter().find(|(key, _)| key == name) {
            Some((_, value)) => Some(value.clone()),
            None if name == "MINERVA_DATA_DIR" => Some(data.clone()),
            None if name == "MINERVA_ALLOW_NETS" => Some("127.0.0.0/8".to_owned()),
            None => None,
        };
        let home = Home {
            events: Events::kept(),
            ..Home::open(Config::from_lookup(&given, families)?).await?
        };
        Ok(Self { home, folder, requests: Mutex::default() })
    }

    /// Invokes a task, each time as a request of its own, with a minute to go.
    pub async fn run(&self, task: &Registered, event: Value) -> Report {
        self.run_within(task, event, Duration::from_secs(60)).await
    }

    /// Invokes a task that has `time` to go.
    pub async fn run_within(&self, task: &Registered, event: Value, time: Duration) -> Report {
        let id = {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            *requests += 1;
            format!("request-{requests}")
        };
        Box::pin(invoke(&self.home, task, event, &id, Deadline::after(time))).await
    }

    /// Every document of an index.
    ///
    /// # Errors
    /// What the store says.
    pub async fn documents(&self, index: &'static Index) -> Result<Vec<Document>> {
        self.home.documents.scan(index, &Scan { limit: u32::MAX >> 1, ..Scan::default() }).await
    }

    /// Continuations that were sent.
    pub fn continuations(&self) -> Vec<Continuation> {
        self.home.events.sent()
    }

    /// The temporary folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}
