//! A stored document.

use serde::Serialize;
use serde_json::{Map, Value};

/// Where the store keeps each owner's hash and contributions within a document.
pub(super) const OWNERS: &str = "owners";

/// A stored document: its fields by name.
pub type Body = Map<String, Value>;

/// A document with its id.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Document {
    /// The document's id.
    #[serde(rename = "_id")]
    pub id: String,
    /// Its fields.
    #[serde(flatten)]
    pub body: Body,
}
