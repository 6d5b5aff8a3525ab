//! What a function is, how it is invoked, and why it is not.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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

/// How to run one invocation; the default is Lambda's way, waiting for a free place.
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
    /// Refuse at once, instead of waiting, where no place is free.
    pub refuse_when_busy: bool,
}

impl Options {
    pub(super) fn request_id(&self) -> String {
        self.request_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
    }
}

/// Why an invocation did not take place.
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
    /// The kernel does not tell whose a connection is.
    UnknownPeers,
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
            Self::UnknownPeers => f.write_str(
                "listen: neither netlink's `sock_diag` nor `/proc/net/tcp` tells whose a connection is",
            ),
            Self::Thread(_) => f.write_str("start the thread that starts processes"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(_, error) | Self::Thread(error) => Some(error),
            Self::NotLoopback(_) | Self::NoAddress | Self::UnknownPeers => None,
        }
    }
}
