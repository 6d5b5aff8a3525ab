//! What is asked for and what comes back: plain data, so that `parse` can be tested without a network.

use std::fmt;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::conditional::Validators;
use super::failure::{Failure, Reason, shown};

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
}

impl Default for Limits {
    fn default() -> Self {
        Self::FEED
    }
}

/// A request to be made: [`Get::new`] and what differs from the usual.
#[derive(Clone)]
pub struct Get<'a> {
    pub(super) url: &'a Url,
    pub(super) accept: &'a str,
    pub(super) limits: Limits,
    pub(super) validators: Option<&'a Validators>,
    pub(super) headers: Vec<(&'a str, &'a str)>,
    pub(super) wait_in_body: Option<WaitInBody>,
}

/// Reads from the body of a refusal for how long it asks to be left alone.
pub type WaitInBody = fn(&[u8]) -> Option<Duration>;

impl<'a> Get<'a> {
    /// Asks for anything at the URL, within [`Limits::FEED`].
    pub fn new(url: &'a Url) -> Self {
        Self {
            url,
            accept: "*/*",
            limits: Limits::FEED,
            validators: None,
            headers: Vec::new(),
            wait_in_body: None,
        }
    }

    /// What is asked for.
    pub fn url(&self) -> &'a Url {
        self.url
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

    /// What was kept of the last body: if the server still has that one, the answer is [`Fetched::NotModified`].
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
}

/// An answer.
#[derive(Debug)]
pub enum Fetched {
    /// The server still has what the validators name.
    NotModified(NotModified),
    /// A body came.
    Body(Response),
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
    /// A status of the 2xx range.
    pub status: u16,
    /// The URL that answered, against which relative links are resolved.
    pub final_url: Url,
    /// The URL to use from now on, when every hop was permanent (301 or 308).
    pub moved_to: Option<Url>,
    /// What names this version; empty when the body is truncated, or the missing rest would never be asked for.
    pub validators: Validators,
    /// `Content-Type` as it came.
    pub content_type: Option<String>,
    /// The body, decompressed.
    pub body: Vec<u8>,
    /// The body ended early or its encoding broke: this is its beginning. See [`Response::whole`].
    pub truncated: bool,
    /// Bytes of the body before decompression.
    pub bytes_on_wire: u64,
    /// Requests that were sent, redirects and second tries included.
    pub requests: u32,
    pub(super) share: Option<OwnedSemaphorePermit>,
}

impl Response {
    /// The body alone; from here on its memory is no longer counted among [`LARGE_BODIES`](super::LARGE_BODIES).
    pub fn into_body(self) -> Vec<u8> {
        self.body
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
