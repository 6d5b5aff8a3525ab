//! What every request to Malpedia has in common: its address, the token, the limits, the wait that a refusal asks for.

use std::time::Duration;

use base::json;
use base::report::Outcome;
use base::{Class, Error, Result};
use fetch::{Limits, Request};
use serde_json::Value;
use task::{Answer, Stop};
use url::Url;

use crate::settings::Settings;

/// For a whole list: 64 MiB. The largest seen, the library, has 6.4 MB.
const LIMITS: Limits = Limits {
    max_body: 64 << 20,
    head_timeout: Duration::from_secs(60),
    idle_timeout: Duration::from_secs(30),
    total_timeout: Duration::from_secs(240),
};

/// Malpedia as the settings name it.
pub(crate) struct Api {
    /// Where it is.
    pub(crate) base: Url,
    /// The whole `Authorization` header, where a token is set: a wrong one is refused even where none is needed.
    authorization: Option<String>,
}

impl Api {
    pub(crate) fn of(settings: &Settings) -> Result<Self> {
        let base = settings.url.clone().ok_or_else(|| {
            Error::config("find Malpedia: `MALPEDIA_URL` is empty")
                .hint("leave it unset for the public one")
        })?;
        let token = settings.token.as_ref().map(|token| token.expose().trim());
        let authorization =
            token.filter(|token| !token.is_empty()).map(|token| format!("apitoken {token}"));
        Ok(Self { base, authorization })
    }

    pub(crate) fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// The address of a path below the base.
    pub(crate) fn url(&self, path: &str) -> Result<Url> {
        let text = format!("{}/{path}", self.base.as_str().trim_end_matches('/'));
        Url::parse(&text)
            .map_err(|cause| Error::config(format!("build the address `{text}`")).because(cause))
    }

    /// A request with everything that Malpedia wants.
    pub(crate) fn get<'a>(&'a self, url: &'a Url) -> Request<'a> {
        let request = self.get_openly(url);
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    /// As [`get`](Self::get), for JSON.
    pub(crate) fn get_json<'a>(&'a self, url: &'a Url) -> Request<'a> {
        self.get(url).accept("application/json")
    }

    /// A request without the token.
    pub(crate) fn get_openly<'a>(&'a self, url: &'a Url) -> Request<'a> {
        Request::get(url).limits(LIMITS).wait_in_body(available_in)
    }

    /// Says of a refusal what a person can do: where a token was sent, it is the token.
    pub(crate) fn explain(&self, mut stop: Stop) -> Stop {
        if stop.outcome == Outcome::Unauthorized
            && self.has_token()
            && stop.error.class() == Class::Config
        {
            stop.error = Error::config(format!("{}: the token is refused", stop.error.chain()))
                .hint("unset MALPEDIA_API_TOKEN, or correct it: nothing here needs one, and a wrong one is refused everywhere");
        }
        stop
    }
}

/// Reads a whole JSON body on a thread of its own.
pub(crate) async fn read_json<T: Send + 'static>(
    url: &Url,
    answer: Answer,
    read: impl FnOnce(&[u8]) -> serde_json::Result<T> + Send + 'static,
) -> Result<T> {
    if answer.is_truncated() {
        return Err(Error::upstream(format!("read `{url}`: the body ended early")));
    }
    let reading = tokio::task::spawn_blocking(move || {
        let body = answer.body();
        read(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body))
    });
    let read = reading.await.map_err(|_| panicked(url))?;
    read.map_err(|cause| not_what_malpedia_sends(url).because(cause))
}

/// The error of a body of another shape.
pub(crate) fn not_what_malpedia_sends(url: &Url) -> Error {
    Error::format(format!("read `{url}`: it is not what Malpedia sends"))
        .hint("look at the address in a browser")
}

/// The error of a body that a parser panicked on.
pub(crate) fn panicked(url: &Url) -> Error {
    Error::format(format!("read `{url}`: the parser panicked"))
        .hint("this is a bug: please report it with the body")
}

/// Reads `{"detail": …, "available_in": "16 seconds"}`.
fn available_in(body: &[u8]) -> Option<Duration> {
    let (body, _) = json::bounded(body).ok()?;
    let wait = match &body["available_in"] {
        Value::String(text) => {
            let text = text.trim();
            let unit = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
            let (number, unit) = text.split_at(unit.unwrap_or(text.len()));
            let unit = match unit.trim_start().chars().next() {
                Some('m') => 60.0,
                Some('h') => 3600.0,
                _ => 1.0,
            };
            number.parse::<f64>().ok()? * unit
        }
        number => number.as_f64()?,
    };
    Duration::try_from_secs_f64(wait.ceil()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_read_from_the_body() {
        let wait = |body: &str| available_in(body.as_bytes()).map(|wait| wait.as_secs());
        assert_eq!(
            wait(r#"{"detail":"Request was throttled.","available_in":"16 seconds"}"#),
            Some(16)
        );
        assert_eq!(wait(r#"{"available_in":"2 minutes"}"#), Some(120));
        assert_eq!(wait(r#"{"available_in":30}"#), Some(30));
        assert_eq!(wait(r#"{"available_in":"1s"}"#), Some(1));
        assert_eq!(wait(r#"{"available_in":"1.5 seconds"}"#), Some(2));
        for other in
            ["", "{}", r#"{"available_in":"soon"}"#, r#"{"available_in":-1}"#, "[]", "<html>"]
        {
            assert_eq!(wait(other), None, "{other}");
        }
    }
}
