//! What is asked for and what comes back: plain data, so that `parse` can be tested without a network.

use std::fmt;
use std::time::Duration;

use base::address::{is_secret, secrets_of, shown};
use base::validators::Validators;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::failure::{Failure, Reason};
use super::pace::Pace;
use super::range::Range;

/// What one call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the body after decompression.
    pub max_body: u64,
    /// From the start of a request until its header is complete, DNS and TLS included; each hop anew.
    pub head_timeout: Duration,
    /// Between two parts of the body.
    pub idle_timeout: Duration,
    /// The whole call from its first turn at the host: redirects, a second try, and the wait for memory included.
    pub total_timeout: Duration,
}

impl Limits {
    /// For a feed: 20 MiB, 20 s, 15 s, 60 s.
    pub const FEED: Self = Self {
        max_body: 20 << 20,
        head_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(15),
        total_timeout: Duration::from_secs(60),
    };

    /// For an archive of many files: 64 MiB once it is decompressed, 20 s, 15 s, 240 s.
    pub const ARCHIVE: Self = Self {
        max_body: 64 << 20,
        head_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(15),
        total_timeout: Duration::from_secs(240),
    };

    /// For a stream: 16 GiB once it is decompressed, 20 s, 30 s, 15 min; the caller's own deadline comes before.
    pub const STREAM: Self = Self {
        max_body: 16 << 30,
        head_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(30),
        total_timeout: Duration::from_secs(15 * 60),
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::FEED
    }
}

/// A request to be made: [`Request::get`], [`Request::post`] or [`Request::method`], and what differs from the usual.
#[derive(Clone)]
pub struct Request<'a> {
    pub(super) url: &'a Url,
    pub(super) method: Method,
    pub(super) body: Option<RequestBody<'a>>,
    pub(super) accept: &'a str,
    pub(super) limits: Limits,
    pub(super) validators: Option<&'a Validators>,
    pub(super) headers: Vec<(&'a str, &'a str)>,
    pub(super) wait_in_body: Option<WaitInBody>,
    pub(super) hands_back_refusals: bool,
    pub(super) is_trusted: bool,
    pub(super) is_once: bool,
    pub(super) is_unpaced: bool,
    pub(super) is_idempotent: bool,
    pub(super) pace: Option<Pace>,
    pub(super) range: Option<Range<'a>>,
}

/// What a request carries.
#[derive(Clone)]
pub(super) struct RequestBody<'a> {
    pub(super) bytes: Bytes,
    pub(super) content_type: &'a str,
}

/// Reads from the body of a refusal for how long it asks to be left alone.
pub type WaitInBody = fn(&[u8]) -> Option<Duration>;

impl<'a> Request<'a> {
    /// Asks for anything at the URL, within [`Limits::FEED`].
    pub fn get(url: &'a Url) -> Self {
        Self::method(Method::GET, url)
    }

    /// Sends a body to the URL; at most once, unless it is [`Request::idempotent`].
    pub fn post(url: &'a Url, body: impl Into<Bytes>, content_type: &'a str) -> Self {
        Self::method(Method::POST, url).body(body, content_type)
    }

    /// A request with any method, without a body.
    pub fn method(method: Method, url: &'a Url) -> Self {
        Self {
            url,
            is_idempotent: method.is_idempotent(),
            method,
            body: None,
            accept: "*/*",
            limits: Limits::FEED,
            validators: None,
            headers: Vec::new(),
            wait_in_body: None,
            hands_back_refusals: false,
            is_trusted: false,
            is_once: false,
            is_unpaced: false,
            pace: None,
            range: None,
        }
    }

    /// What is asked for.
    pub fn url(&self) -> &'a Url {
        self.url
    }

    /// What a server that repeats the request in its answer would show: the secrets of its address and its headers, in each
    /// form in which they are sent.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets = secrets_of(self.url);
        for (_, value) in self.headers.iter().filter(|(name, _)| is_secret(name)) {
            // `Bearer` and the like stand before the key.
            secrets.extend(value.rsplit(' ').next().map(ToOwned::to_owned));
        }
        secrets
    }

    /// The body to send and its media type; a redirect takes it along only within its origin.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>, content_type: &'a str) -> Self {
        self.body = Some(RequestBody { bytes: body.into(), content_type });
        self
    }

    /// The media types that are wanted.
    #[must_use]
    pub fn accept(mut self, accept: &'a str) -> Self {
        self.accept = accept;
        self
    }

    /// What the call may take.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The validators of the last body: if the server still has that one, the answer is [`Fetched::NotModified`].
    #[must_use]
    pub fn validators(mut self, validators: &'a Validators) -> Self {
        self.validators = Some(validators);
        self
    }

    /// A further header, such as a key; it is not sent on to another origin.
    #[must_use]
    pub fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Where a status 429 comes without `Retry-After`, its body is read for the wait, for sources that say it there.
    #[must_use]
    pub fn wait_in_body(mut self, read: WaitInBody) -> Self {
        self.wait_in_body = Some(read);
        self
    }

    /// Hands a status outside 2xx and 304 back as [`Fetched::Refused`] instead of a [`Failure`].
    ///
    /// Redirects are followed and passing failures tried again as without it. A stream's refusal stays a failure.
    #[must_use]
    pub fn refusals(mut self) -> Self {
        self.hands_back_refusals = true;
        self
    }

    /// An endpoint that the operator set: it may have any address, no redirect is followed, and starts are not spaced.
    #[must_use]
    pub fn trusted(mut self) -> Self {
        self.is_trusted = true;
        self
    }

    /// Waits for no turn at a trusted host: for callers who bound their requests at the same time themselves.
    #[must_use]
    pub fn unpaced(mut self) -> Self {
        self.is_unpaced = true;
        self
    }

    /// Sends one request at most, without a second try or a redirect: for requests that are counted against a budget.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.is_once = true;
        self
    }

    /// The request does no harm when it arrives twice, whatever its method: it gets a second try as a GET does.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.is_idempotent = true;
        self
    }

    /// Asks each host more seldom than the usual; the strictest of what concurrent callers ask for holds for a host.
    #[must_use]
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = Some(pace);
        self
    }

    /// Asks for the body without compression, from its byte `from` on: for [`Http::stream`](super::Http::stream) only.
    ///
    /// The validator names the version that the bytes before belong to ([`Validators::for_range`]): of another one, and
    /// wherever the server gives no ranges, all comes, as [`Stream::starts_at`](super::Stream::starts_at) says. So it does
    /// from byte 0 on, and with a validator that is empty or weak. Not to be sent with [`Request::validators`].
    #[must_use]
    pub fn range(mut self, from: u64, validator: &'a str) -> Self {
        self.range = Some(Range { from, validator });
        self
    }

    /// Whether a redirect by 301, 302 or 303, after which the method and the body are lost, still means the same.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD) && self.body.is_none()
    }

    pub(super) fn follows_redirects(&self) -> bool {
        !self.is_trusted && !self.is_once
    }

    pub(super) fn has_second_try(&self) -> bool {
        self.is_idempotent && !self.is_once
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &shown(self.url))
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}

/// The header fields of an answer, as many as hyper takes. `Debug` shows their names only.
#[derive(Clone, Default)]
pub struct Headers(pub(super) HeaderMap);

impl Headers {
    /// The first value under a name of any case, if it is UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.0.get(name)?.as_bytes()).ok()
    }

    /// Every value under a name of any case that is UTF-8, in order.
    pub fn all<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h str> {
        let values = self.0.get_all(name).into_iter();
        values.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// An answer.
#[derive(Debug)]
pub enum Fetched {
    /// The server still has what the validators name.
    NotModified(NotModified),
    /// A status of the 2xx range, and its body.
    Body(Response),
    /// Another status, which only [`Request::refusals`] asks to see; the body is cut at [`REFUSAL_MAX`](super::REFUSAL_MAX).
    Refused(Response),
}

impl Fetched {
    /// The body, `None` when nothing changed.
    ///
    /// # Errors
    /// A refusal, as it is without [`Request::refusals`].
    pub fn body(self) -> Result<Option<Response>, Failure> {
        match self {
            Self::Body(response) => Ok(Some(response)),
            Self::NotModified(_) => Ok(None),
            Self::Refused(response) => Err(response.refused()),
        }
    }
}

/// Status 304: a success with nothing new.
#[derive(Debug)]
pub struct NotModified {
    /// The URL that answered.
    pub final_url: Url,
    /// The URL to use from now on, when every hop was permanent.
    pub moved_to: Option<Url>,
    /// The validators as they are now; those that were not repeated are absent.
    pub validators: Validators,
    /// Requests that were sent, redirects and second tries included.
    pub requests: u32,
}

/// A body and what came with it. Drop it, or call [`Response::into_body`], before the next call that may bring a large one.
pub struct Response {
    /// A status of the 2xx range; any other but a redirect's in [`Fetched::Refused`].
    pub status: u16,
    /// The URL that answered, against which relative links are resolved.
    pub final_url: Url,
    /// The URL to use from now on, when every hop was permanent (301 or 308).
    pub moved_to: Option<Url>,
    /// What names this version; empty when the body is truncated, or the missing rest would never be asked for.
    pub validators: Validators,
    /// `Content-Type` as it came.
    pub content_type: Option<String>,
    /// Every header field.
    pub headers: Headers,
    /// The body, decompressed.
    pub body: Vec<u8>,
    /// The body ended early, was cut or its encoding broke: this is its beginning. See [`Response::whole`].
    pub truncated: bool,
    /// Bytes of the body before decompression.
    pub bytes_on_wire: u64,
    /// Requests that were sent, redirects and second tries included.
    pub requests: u32,
    /// What the status means, in [`Fetched::Refused`].
    pub(super) refusal: Option<Reason>,
    pub(super) share: Option<OwnedSemaphorePermit>,
}

impl Response {
    /// The body alone; from here on its memory is no longer counted among [`LARGE_BODIES`](super::LARGE_BODIES).
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The failure that a refusal is where nobody asks to see it.
    pub(super) fn refused(&self) -> Failure {
        let reason = self.refusal.clone().unwrap_or(Reason::Status(self.status));
        Failure::new(reason, self.requests, &self.final_url, None)
    }

    /// Refuses a truncated body, for formats of which a part is worth nothing.
    pub fn whole(self) -> Result<Self, Failure> {
        if self.truncated {
            return Err(Failure::new(Reason::Truncated, self.requests, &self.final_url, None));
        }
        Ok(self)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("final_url", &shown(&self.final_url))
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("truncated", &self.truncated)
            .field("counted", &self.share.is_some())
            .finish_non_exhaustive()
    }
}
