//! Lambda for one machine: functions as child processes, and the APIs around them on one loopback listener.
//!
//! | Path | Speaks | Called by |
//! |---|---|---|
//! | `/2015-03-31/functions/{name}/invocations` | Invoke API | `aws`, `cargo lambda invoke`, the command line |
//! | `/f/{function}/{instance}/2018-06-01/…` | Runtime API | the functions' processes |
//! | `/f/{function}/{instance}/2020-01-01/…` | Extensions API | the same |
//! | `POST /` with `X-Amz-Target` | the `PutEvents` of the event bus | the functions' AWS SDK |
//! | `/-/…` | whatever the caller passes in | the dashboard |
//!
//! A process works on one event at a time, as at AWS; more events at once mean more processes. What happens to an
//! asynchronous invocation, its retries and its dead letter, and where events are routed, is the caller's to decide.

mod body;
mod environment;
mod events_api;
mod extensions_api;
mod function_name;
mod instance;
mod invocation;
mod invoke_api;
mod listener;
mod log;
mod pool;
mod runtime_api;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use bytes::Bytes;

pub use self::events_api::{Entry, Events};
pub use self::instance::InstanceStatus;
pub use self::invocation::Invocation;
pub use self::log::{LogLine, LogSink, to_tracing};
pub use self::wire::FunctionError;

use self::listener::Servers;
use self::pool::Pool;

/// A function as its caller describes it.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its one name.
    pub name: String,
    /// The program that speaks the Runtime API.
    pub program: PathBuf,
    /// The program's arguments.
    pub args: Vec<String>,
    /// Its variables; nothing of the runner's own environment is added.
    pub env: Vec<(String, String)>,
    /// Reported to the function; not enforced.
    pub memory_mb: u32,
    /// How long one event may take.
    pub timeout: Duration,
}

impl Function {
    /// A function with Lambda's own defaults: 128 MB, three seconds.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        let (args, env) = (Vec::new(), Vec::new());
        let timeout = Duration::from_secs(3);
        Self { name: name.into(), program: program.into(), args, env, memory_mb: 128, timeout }
    }
}

/// How much at once, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Invocations of one function at once.
    pub per_function: usize,
    /// Invocations at once in all.
    pub total: usize,
    /// How long a process without work is kept.
    pub keep_warm: Duration,
    /// How long a process may take until it first asks for work.
    pub init: Duration,
}

impl Default for Limits {
    /// Room for every one of 27 tasks at once, four of one; a warm process costs 3 to 14 MB and a cold start 2 ms.
    fn default() -> Self {
        let (keep_warm, init) = (Duration::from_secs(60), Duration::from_secs(10));
        Self { per_function: 4, total: 32, keep_warm, init }
    }
}

/// Keeps asynchronous invocations until they are run.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Keeps one durably; the error is what its sender reads.
    async fn enqueue(&self, function: &str, payload: Bytes, request_id: &str)
    -> Result<(), String>;
}

/// What a Lambda is made of.
pub struct Config {
    /// Where to listen; loopback addresses only. Port 0 takes any free one.
    pub addresses: Vec<SocketAddr>,
    /// The functions, by name.
    pub functions: BTreeMap<String, Function>,
    /// How much at once, and how long.
    pub limits: Limits,
    /// Takes invocations of type Event; without one they are refused.
    pub queue: Option<Arc<dyn Queue>>,
    /// Takes the entries of `PutEvents`; without one they are refused.
    pub events: Option<Arc<dyn Events>>,
    /// Takes every line of log.
    pub logs: LogSink,
    /// Further routes, whose paths begin with `/-/` (and `GET /`, which is nobody's here).
    pub status: Router,
}

impl Config {
    /// The functions on any free port, without queue, events or status routes.
    pub fn new(functions: impl IntoIterator<Item = Function>) -> Self {
        Self {
            addresses: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)],
            functions: functions
                .into_iter()
                .map(|function| (function.name.clone(), function))
                .collect(),
            limits: Limits::default(),
            queue: None,
            events: None,
            logs: to_tracing(),
            status: Router::new(),
        }
    }
}

/// How to run one invocation; the default is Lambda's way, waiting for a free permit.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Lambda's id of the request, if it has one already, as a retry does.
    pub request_id: Option<String>,
    /// Replaces the function's timeout.
    pub timeout: Option<Duration>,
    /// JSON for the function's context; ASCII.
    pub client_context: Option<String>,
    /// JSON for the function's context; ASCII.
    pub cognito_identity: Option<String>,
    /// The trace to go on with.
    pub trace_id: Option<String>,
    /// Refuse at once, instead of waiting, where no permit is free.
    pub refuse_when_busy: bool,
}

impl Options {
    fn request_id(&self) -> String {
        self.request_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
    }
}

/// Why an invocation was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no function of this name.
    UnknownFunction(String),
    /// As many of this function are running as may.
    FunctionBusy,
    /// As many of all functions are running as may.
    Busy,
    /// The runner is stopping.
    Stopping,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFunction(name) => write!(f, "there is no function `{name}`"),
            Self::FunctionBusy => {
                f.write_str("as many invocations of this function are running as may")
            }
            Self::Busy => f.write_str("as many invocations are running as may"),
            Self::Stopping => f.write_str("the runner is stopping"),
        }
    }
}

impl std::error::Error for Refused {}

/// Why Lambda did not start.
#[derive(Debug)]
pub enum StartError {
    /// Other machines could reach this address.
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    Bind(SocketAddr, std::io::Error),
    /// No address was given.
    NoAddress,
    /// The machine has no thread left to start processes from.
    Thread(std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoopback(address) => {
                write!(f, "listen on `{address}`: only loopback addresses are served")
            }
            Self::Bind(address, _) => write!(f, "listen on `{address}`"),
            Self::NoAddress => f.write_str("listen: no address is given"),
            Self::Thread(_) => f.write_str("start the thread that starts processes"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(_, error) | Self::Thread(error) => Some(error),
            Self::NotLoopback(_) | Self::NoAddress => None,
        }
    }
}

/// What the APIs share.
struct Shared {
    functions: BTreeMap<String, Arc<Function>>,
    pool: Arc<Pool>,
    queue: Option<Arc<dyn Queue>>,
    events: Option<Arc<dyn Events>>,
}

impl Shared {
    async fn invoke(
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

/// A running Lambda. Dropping it ends every process at once; [`Lambda::stop`] does so in good order.
pub struct Lambda {
    shared: Arc<Shared>,
    servers: Servers,
    addresses: Vec<SocketAddr>,
    origin: String,
}

impl Lambda {
    /// Opens the listener and is ready; processes are started when they are first needed.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let listeners = listener::bind(&config.addresses).await?;
        let addresses: Vec<SocketAddr> =
            listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        // Children get the IPv4 address if there is one.
        let own = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        let origin = format!("http://{}", own.ok_or(StartError::NoAddress)?);
        let Config { functions, limits, queue, events, logs, status, .. } = config;
        let pool = Pool::new(limits, origin.clone(), logs, functions.keys())
            .map_err(StartError::Thread)?;
        let functions =
            functions.into_iter().map(|(name, function)| (name, Arc::new(function))).collect();
        let shared = Arc::new(Shared { functions, pool, queue, events });
        let servers = listener::serve(listeners, &shared, status);
        Ok(Self { shared, servers, addresses, origin })
    }

    /// The addresses it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What to give a client as endpoint, as `http://127.0.0.1:9000`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// A handle for those who only invoke.
    pub fn invoker(&self) -> Invoker {
        Invoker(Arc::clone(&self.shared))
    }

    /// Runs a function once; see [`Invoker::invoke`].
    pub async fn invoke(
        &self,
        function: &str,
        payload: Bytes,
        options: Options,
    ) -> Result<Invocation, Refused> {
        self.shared.invoke(function, payload, options).await
    }

    /// Takes no more invocations, gives those that run `grace` to end, then ends and reaps every process.
    pub async fn stop(mut self, grace: Duration) {
        self.shared.pool.stop(grace).await;
        self.servers.stop().await;
    }
}

impl Drop for Lambda {
    fn drop(&mut self) {
        self.shared.pool.kill_all();
    }
}

/// Invokes functions and looks at their processes; cheap to clone.
#[derive(Clone)]
pub struct Invoker(Arc<Shared>);

impl Invoker {
    /// Runs a function once. What the function makes of it is in [`Invocation::outcome`]; an error here means that it
    /// did not run.
    pub async fn invoke(
        &self,
        function: &str,
        payload: Bytes,
        options: Options,
    ) -> Result<Invocation, Refused> {
        self.0.invoke(function, payload, options).await
    }

    /// Every process there is.
    pub fn instances(&self) -> Vec<InstanceStatus> {
        self.0.pool.statuses()
    }

    /// The variables a function's process gets, but for those that differ from process to process.
    pub fn environment(&self, function: &str) -> Option<BTreeMap<String, String>> {
        self.0.functions.get(function).map(|function| self.0.pool.environment(function))
    }
}

/// A lock whose holders never leave its data half-changed: a panic elsewhere must not stop the runner.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The real time, also while a replay runs on a chosen clock: a function compares its deadline with its own clock.
#[expect(
    clippy::disallowed_methods,
    reason = "deadlines hold by the real clock, whatever the timetable's clock says"
)]
fn wall_clock() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
