//! What can go wrong with a request: a name for reports, a sentence for people, never a secret.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use base::address::shown;
use base::report::Outcome;
use base::{Class, Error};
use url::Url;

use super::guard::Refusal;

/// Hops that are followed from one URL.
pub const MAX_REDIRECTS: usize = 5;

/// How far a call has come; outlives the call's future when time runs out.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) requests: u32,
    pub(crate) phase: Phase,
    pub(crate) last_url: Option<Url>,
}

/// A request that gave no answer worth reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub reason: Reason,
    /// Requests that were sent, redirects and second tries included.
    pub requests: u32,
    /// The URL that was asked for, fit to be shown.
    url: String,
    /// The URL that failed, where redirects led elsewhere.
    last_url: Option<String>,
    /// What was tried: `read`, or `send to`.
    action: &'static str,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The address may not be reached.
    Blocked { why: &'static str },
    /// The request itself is malformed, for example a header with a line break.
    InvalidRequest(String),
    /// DNS gave no address.
    Unresolved(String),
    /// The host refused the connection.
    Refused,
    /// No connection came about for another reason.
    Unreachable(String),
    /// The connection broke before any of the body came.
    Reset,
    /// The body ended early, and the caller wanted all of it.
    Truncated,
    /// No secure connection came about.
    Tls(String),
    /// The answer is not HTTP, or a redirect without a usable target.
    Malformed(String),
    /// A limit ran out.
    TimedOut { limit: Limit, after: Duration },
    /// The body is larger than its cap.
    TooLarge { cap: u64 },
    /// The content encoding is broken from its first byte on.
    Undecodable(String),
    /// More hops than [`MAX_REDIRECTS`].
    TooManyRedirects,
    /// A redirect to a URL that was already asked.
    RedirectLoop,
    /// A redirect from https to http.
    Downgraded,
    /// A redirect that this request does not follow, and where it leads, fit to be shown.
    Redirected { to: String },
    /// Status 401 or 403.
    Unauthorized(u16),
    /// Status 404.
    NotFound,
    /// Status 410: gone for good.
    Gone,
    /// Status 429, or 503 with `Retry-After`.
    RateLimited { status: u16, retry_after: Option<Duration> },
    /// Any other status that is not an answer.
    Status(u16),
}

/// The limits on time, by what they bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Until a connection stands.
    Connect,
    /// Until the header is complete.
    Head,
    /// Between two parts of the body.
    Idle,
    /// A large body that comes too slowly while others wait for its memory.
    LargeBody,
    /// The whole call, and what it was busy with when the time ran out.
    Total(Phase),
}

/// What a call is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for its turn at the host.
    #[default]
    Turn,
    /// Waiting for the header.
    Head,
    /// Reading the body.
    Body,
    /// Waiting for memory for a large body.
    Memory,
    /// Waiting before the second try.
    Pause,
}

impl Failure {
    pub(super) fn new(reason: Reason, requests: u32, url: &Url, last_url: Option<&Url>) -> Self {
        let last_url = last_url.filter(|last| *last != url).map(shown);
        Self { reason, requests, url: shown(url), last_url, action: "read" }
    }

    /// The failure of a request that brings something rather than asks for it.
    pub(super) fn of_sending(mut self) -> Self {
        self.action = "send to";
        self
    }

    /// What it makes of a visit.
    pub fn outcome(&self) -> Outcome {
        match self.reason {
            Reason::Blocked { .. } => Outcome::Blocked,
            Reason::InvalidRequest(_) => Outcome::InvalidRequest,
            Reason::Unresolved(_) => Outcome::Unresolved,
            Reason::Refused => Outcome::Refused,
            Reason::Unreachable(_) => Outcome::Unreachable,
            Reason::Reset => Outcome::Reset,
            Reason::Truncated => Outcome::Truncated,
            Reason::Tls(_) => Outcome::Tls,
            Reason::Malformed(_) => Outcome::Malformed,
            Reason::TimedOut { .. } => Outcome::TimedOut,
            Reason::TooLarge { .. } => Outcome::TooLarge,
            Reason::Undecodable(_) => Outcome::Undecodable,
            Reason::TooManyRedirects => Outcome::TooManyRedirects,
            Reason::RedirectLoop => Outcome::RedirectLoop,
            Reason::Downgraded => Outcome::Downgraded,
            Reason::Redirected { .. } => Outcome::Redirected,
            Reason::Unauthorized(_) => Outcome::Unauthorized,
            Reason::NotFound => Outcome::NotFound,
            Reason::Gone => Outcome::Gone,
            Reason::RateLimited { .. } => Outcome::RateLimited,
            Reason::Status(_) => Outcome::Status,
        }
    }

    /// What happens next: a wrong key or request is for a person, everything else for the next tick.
    pub fn class(&self) -> Class {
        match self.reason {
            Reason::Unauthorized(_) | Reason::InvalidRequest(_) => Class::Config,
            _ => Class::Upstream,
        }
    }

    /// What a person can do about it, where a person can.
    pub fn hint(&self) -> Option<&'static str> {
        match self.reason {
            Reason::Blocked { .. } if self.last_url.is_some() => Some(
                "the source redirects to a place that is not public; look at the source before excepting it",
            ),
            Reason::Blocked { .. } => {
                Some("if this place is meant, add its address or network to MINERVA_ALLOW_NETS")
            }
            Reason::Unresolved(_) => {
                Some("check the spelling of the host name, and whether DNS works here")
            }
            Reason::Tls(_) => {
                Some("the source's certificate has to be repaired; verification is never disabled")
            }
            Reason::Downgraded => Some("configure the http URL if the source has no other"),
            Reason::Redirected { .. } => {
                Some("set the address that it redirects to, if that is the right one")
            }
            Reason::Unauthorized(401) => Some("check the key or the credentials of this source"),
            Reason::Unauthorized(_) => Some(
                "check the key of this source; some also refuse unknown clients: set MINERVA_CONTACT",
            ),
            Reason::Gone => Some("the source is gone for good: disable it"),
            Reason::NotFound => Some("the source may have moved: look for its new URL"),
            Reason::TooLarge { .. } => Some("raise this source's limit if the size is right"),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`: ", self.action, self.url)?;
        if let Some(last_url) = &self.last_url {
            write!(f, "redirected to `{last_url}`: ")?;
        }
        write!(f, "{}", self.reason)?;
        if self.requests > 1 {
            write!(f, " after {} requests", self.requests)?;
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked { why } => write!(f, "blocked, it is {why}"),
            Self::InvalidRequest(cause) => write!(f, "the request is malformed: {cause}"),
            Self::Unresolved(cause) => write!(f, "the host name has no address: {cause}"),
            Self::Refused => f.write_str("the connection was refused"),
            Self::Unreachable(cause) => write!(f, "no connection: {cause}"),
            Self::Reset => f.write_str("the connection broke"),
            Self::Truncated => f.write_str("the body ended early"),
            Self::Tls(cause) => write!(f, "no secure connection: {cause}"),
            Self::Malformed(cause) => write!(f, "the answer is malformed: {cause}"),
            Self::TimedOut { limit, after } => {
                let limit = match limit {
                    Limit::Connect => "without a connection",
                    Limit::Head => "without a complete header",
                    Limit::Idle => "without a byte of the body",
                    Limit::LargeBody => "of a large body that came slowly while others waited",
                    Limit::Total(Phase::Turn) => "in all, waiting for a turn at the host",
                    Limit::Total(Phase::Head) => "in all, waiting for the header",
                    Limit::Total(Phase::Body) => "in all, reading the body",
                    Limit::Total(Phase::Memory) => "in all, waiting for memory for a large body",
                    Limit::Total(Phase::Pause) => "in all, before the second try",
                };
                write!(f, "timed out after `{after:?}` {limit}")
            }
            Self::TooLarge { cap } => write!(f, "the body is larger than `{cap}` bytes"),
            Self::Undecodable(cause) => write!(f, "the body's encoding is broken: {cause}"),
            Self::TooManyRedirects => write!(f, "more than `{MAX_REDIRECTS}` redirects"),
            Self::RedirectLoop => f.write_str("the redirects go in a circle"),
            Self::Downgraded => f.write_str("a redirect from https to http"),
            Self::Redirected { to } => write!(f, "a redirect to `{to}`, which is not followed"),
            Self::Unauthorized(status) | Self::Status(status) => write!(f, "status `{status}`"),
            Self::NotFound => f.write_str("status `404`"),
            Self::Gone => f.write_str("status `410`"),
            Self::RateLimited { status, retry_after: None } => write!(f, "status `{status}`"),
            Self::RateLimited { status, retry_after: Some(wait) } => {
                write!(f, "status `{status}`, to be asked again in `{wait:?}`")
            }
        }
    }
}

impl StdError for Failure {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        let error = match failure.class() {
            Class::Config => Self::config(message),
            _ => Self::upstream(message),
        };
        match failure.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

impl Reason {
    /// Reads the causes behind an error that came before a header did.
    pub(super) fn of(error: &reqwest::Error, connect_timeout: Duration) -> Self {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
        let mut last = String::new();
        while let Some(current) = cause {
            if let Some(refusal) = current.downcast_ref::<Refusal>() {
                return match refusal {
                    Refusal::Blocked(why) => Self::Blocked { why },
                    Refusal::Unresolved(cause) => Self::Unresolved(cause.clone()),
                };
            }
            if let Some(tls) = current.downcast_ref::<rustls::Error>() {
                return Self::Tls(tls.to_string());
            }
            if let Some(http) = current.downcast_ref::<hyper::Error>()
                && http.is_parse()
            {
                return Self::Malformed(http.to_string());
            }
            if let Some(kind) = current.downcast_ref::<io::Error>().map(io::Error::kind) {
                match kind {
                    ErrorKind::ConnectionRefused => return Self::Refused,
                    ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof => return Self::Reset,
                    _ => {}
                }
            }
            last = current.to_string();
            // An `io::Error` passes over what it holds: its `source` is the source of that.
            let held = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            cause = held.map(|held| held as &(dyn StdError + 'static)).or_else(|| current.source());
        }
        if error.is_timeout() {
            Self::TimedOut { limit: Limit::Connect, after: connect_timeout }
        } else if error.is_builder() {
            Self::InvalidRequest(last)
        } else if error.is_connect() {
            Self::Unreachable(last)
        } else {
            Self::Reset
        }
    }

    /// Whether the same request may fare better a moment later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Refused | Self::Reset | Self::Status(502..=504))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_a_fragment_and_becomes_the_projects_error() {
        let url = Url::parse("https://ana:hunter2@a.test/f?key=abc").unwrap();
        let other = Url::parse("http://169.254.169.254/latest").unwrap();
        let blocked = Reason::Blocked { why: "a link-local address" };
        let failure = Failure::new(blocked, 2, &url, Some(&other));
        let expected = "read `https://***@a.test/f?key=***`: redirected to `http://169.254.169.254/latest`: \
                        blocked, it is a link-local address after 2 requests";
        assert_eq!(failure.to_string(), expected);
        let error = Error::from(failure);
        assert_eq!((error.class(), error.to_string().as_str()), (Class::Upstream, expected));
        assert!(error.hint_text().is_some());

        let refused = Error::from(Failure::new(Reason::Unauthorized(403), 1, &url, None));
        assert_eq!(refused.class(), Class::Config);
        assert!(refused.chain().ends_with("status `403`"), "{}", refused.chain());
        assert!(!format!("{refused:?}").contains("hunter2"));
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(
            Reason::Refused.is_passing()
                && Reason::Reset.is_passing()
                && Reason::Status(503).is_passing()
        );
        for lasting in
            [Reason::Status(500), Reason::NotFound, Reason::Gone, Reason::Unauthorized(401)]
        {
            assert!(!lasting.is_passing());
        }
    }
}
