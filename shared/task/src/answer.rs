//! What a source answered, from the network or from the archive.

use std::sync::Arc;

use base::validators::Validators;
use fetch::Response;

use crate::archive::ArchivedResponse;

/// A response in hand; dropping it releases its share of the process's memory for large bodies.
pub enum Answer {
    /// As it came over the network; one response may serve several visits of a run ([`Visit::get_shared`](crate::Visit::get_shared)).
    Fetched(Arc<Response>),
    /// As the archive holds it.
    Archived(ArchivedResponse),
}

impl Answer {
    /// The address it came from in the end.
    pub fn url(&self) -> &str {
        match self {
            Self::Fetched(response) => response.final_url.as_str(),
            Self::Archived(archived) => &archived.url,
        }
    }

    /// Its `Content-Type`.
    pub fn content_type(&self) -> Option<&str> {
        match self {
            Self::Fetched(response) => response.content_type.as_deref(),
            Self::Archived(archived) => archived.content_type.as_deref(),
        }
    }

    /// The body, decompressed.
    pub fn body(&self) -> &[u8] {
        match self {
            Self::Fetched(response) => &response.body,
            Self::Archived(archived) => &archived.body,
        }
    }

    /// Whether the connection ended before the body did.
    pub fn is_truncated(&self) -> bool {
        matches!(self, Self::Fetched(response) if response.truncated)
    }
}

/// What sources of one run share of an answer.
#[derive(Clone)]
pub(crate) enum SharedAnswer {
    /// This version is still the newest.
    Unchanged(Validators),
    /// This one.
    Body(Arc<Response>),
}
