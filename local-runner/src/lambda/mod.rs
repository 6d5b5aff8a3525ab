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
mod bus;
mod connections;
mod environment;
mod events_api;
mod extensions;
mod extensions_api;
mod function;
mod function_name;
mod instance;
mod invocation;
mod invoke_api;
mod listener;
mod lock;
mod log;
mod peer;
mod pool;
mod runtime_api;
mod shared;
mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;

pub use self::bus::{Entry, Events};
pub use self::function::{Function, Limits, Options, Refused, StartError};
pub use self::instance::InstanceStatus;
pub use self::invocation::Invocation;
pub use self::log::{LogLine, LogSink, to_tracing};
pub use self::shared::{Account, Queue, Running};
pub use self::wire::FunctionError;

use self::listener::Servers;
use self::pool::Pool;
use self::shared::Shared;

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
    /// Notes invocations whose callers wait; without one they leave no trace but their log.
    pub account: Option<Arc<dyn Account>>,
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
            account: None,
            events: None,
            logs: to_tracing(),
            status: Router::new(),
        }
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
        let Config { functions, limits, queue, account, events, logs, status, .. } = config;
        let pool = Pool::new(limits, origin.clone(), logs, functions.keys())
            .map_err(StartError::Thread)?;
        let functions =
            functions.into_iter().map(|(name, function)| (name, Arc::new(function))).collect();
        let shared = Arc::new(Shared::new(functions, pool, queue, account, events));
        let servers = listener::serve(listeners, &shared, status)?;
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
