//! What a source answered, from the network or from the archive.

use std::sync::Arc;

use base::address::masked;
use base::validators::Validators;
use fetch::Response;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::archive::ArchivedResponse;

/// A response in hand; dropping it releases its share of the process's memory for large bodies.
pub enum Answer {
    /// As it came over the network, and the address it came from; one response may serve several visits of a run
    /// ([`Visit::get_shared`](crate::Visit::get_shared)).
    Fetched(Arc<Response>, String),
    /// As the archive holds it.
    Archived(ArchivedResponse),
}

impl Answer {
    /// The address it came from in the end, without user, password and secret keys: links are resolved against it and stored.
    pub fn url(&self) -> &str {
        match self {
            Self::Fetched(_, url) => url,
            Self::Archived(archived) => &archived.url,
        }
    }

    /// Its status; of what the archive holds, 200.
    pub fn status(&self) -> u16 {
        match self {
            Self::Fetched(response, _) => response.status,
            Self::Archived(_) => 200,
        }
    }

    /// A field of its header.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self {
            Self::Fetched(response, _) => response.headers.get(name),
            Self::Archived(_) => None,
        }
    }

    /// Its `Content-Type`.
    pub fn content_type(&self) -> Option<&str> {
        match self {
            Self::Fetched(response, _) => response.content_type.as_deref(),
            Self::Archived(archived) => archived.content_type.as_deref(),
        }
    }

    /// The body, decompressed.
    pub fn body(&self) -> &[u8] {
        match self {
            Self::Fetched(response, _) => &response.body,
            Self::Archived(archived) => &archived.body,
        }
    }

    /// Whether the connection ended before the body did.
    pub fn is_truncated(&self) -> bool {
        matches!(self, Self::Fetched(response, _) if response.truncated)
    }
}

/// By what an address is remembered in state and archive: itself without its secrets, and where it has some, a digest that
/// tells it from others.
pub(crate) fn remembered(url: &Url) -> String {
    let shown = masked(url);
    if shown == url.as_str() {
        return shown;
    }
    let digest = Sha256::digest(url.as_str().as_bytes());
    format!("{shown} {}", hex::encode(&digest[..8]))
}

/// The same of an address that a version before remembered as it was.
pub(crate) fn remembered_text(text: String) -> String {
    Url::parse(&text).ok().filter(|_| !text.contains(' ')).map_or(text, |url| remembered(&url))
}

/// What sources of one run share of an answer.
#[derive(Clone)]
pub(crate) enum SharedAnswer {
    /// This version is still the newest.
    Unchanged(Validators),
    /// This one.
    Body(Arc<Response>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_remembered_without_its_secrets_and_told_from_others() {
        let of = |text: &str| remembered(&Url::parse(text).unwrap());
        assert_eq!(of("https://h.example/f?page=2"), "https://h.example/f?page=2");
        let (one, other) = (of("https://h.example/f?key=one"), of("https://h.example/f?key=other"));
        assert!(one.starts_with("https://h.example/f?key=*** ") && one != other, "{one}");
        assert!(!of("https://ana:hunter2@h.example/f").contains("hunter2"));
        assert_eq!(remembered_text("https://h.example/f?key=one".to_owned()), one);
        assert_eq!(remembered_text(one.clone()), one);
    }
}
