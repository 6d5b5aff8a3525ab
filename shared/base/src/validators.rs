//! What names the version of a body that was read: sent back with the next request, and kept with the state of its source.

use serde::{Deserialize, Serialize};

/// What a server said to tell the next version from this one, verbatim.
///
/// Keep them only after the body was parsed and stored: a crash in between would lose the update for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`, sent back as `If-None-Match`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`, sent back as `If-Modified-Since`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl Validators {
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// What the rest of this version is asked for with (`If-Range`); empty when nothing is strong enough.
    pub fn for_range(&self) -> &str {
        let strong = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        strong.or(self.last_modified.as_deref()).unwrap_or_default()
    }
}
