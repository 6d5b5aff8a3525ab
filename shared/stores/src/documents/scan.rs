//! Reading a whole index, or what of it matches, in the order of ids: a page at a time, with no more fields than are wanted.

use std::collections::BTreeMap;
use std::fmt;

use base::Result;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Body, Document, DocumentReader, Filter, Index};

/// What a scan gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// Words to look for, as those of a [`Query`](super::Query).
    pub text: Option<String>,
    /// Conditions, all of which must hold.
    pub filters: Vec<Filter>,
    /// The fields of each document; those within objects by their path, as `owners.shared`. Whole documents when not set.
    pub fields: Option<Vec<String>>,
    /// The id after which it goes on.
    pub after: Option<String>,
    /// How many documents to give at the most; of [`Pages`], how many at once.
    pub limit: u32,
}

impl Scan {
    /// Documents read at once when nothing else is said.
    pub const PAGE: u32 = 500;

    /// These fields of every document, a page at a time.
    pub fn of(fields: &[&str]) -> Self {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        Self { fields: Some(fields), ..Self::default() }
    }
}

impl Default for Scan {
    /// Every document whole, a page at a time.
    fn default() -> Self {
        Self { text: None, filters: Vec::new(), fields: None, after: None, limit: Self::PAGE }
    }
}

/// A scan, page by page.
pub struct Pages<'a> {
    documents: &'a dyn DocumentReader,
    index: &'static Index,
    scan: Scan,
    is_over: bool,
}

impl<'a> Pages<'a> {
    /// Begins; `scan.limit` is the size of a page.
    pub fn new(documents: &'a dyn DocumentReader, index: &'static Index, scan: Scan) -> Self {
        Self { documents, index, scan, is_over: false }
    }

    /// The next page, which is never empty; `None` when all was given.
    ///
    /// # Errors
    /// `Store`, when it cannot be read; `Config`, when a filter names an unknown field.
    pub async fn next(&mut self) -> Result<Option<Vec<Document>>> {
        if self.is_over {
            return Ok(None);
        }
        let page = self.documents.scan(self.index, &self.scan).await?;
        self.is_over = page.len() < self.scan.limit as usize;
        self.scan.after = page.last().map(|last| last.id.clone());
        Ok(Some(page).filter(|page| !page.is_empty()))
    }
}

/// The parts of a document that are wanted: names, with the parts below them.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    below: BTreeMap<String, Selection>,
    is_whole: bool,
}

impl Selection {
    /// What these paths name.
    pub(super) fn of<'f>(fields: impl IntoIterator<Item = &'f str>) -> Self {
        let mut all = Self::default();
        for field in fields {
            let mut place = &mut all;
            for name in field.split('.') {
                place = place.below.entry(name.to_owned()).or_default();
            }
            place.is_whole = true;
        }
        all
    }

    /// Reads a document as it is stored and builds nothing that is not wanted.
    pub(super) fn read(&self, text: &str) -> serde_json::Result<Body> {
        let mut reader = serde_json::Deserializer::from_str(text);
        match self.deserialize(&mut reader)? {
            Some(Value::Object(body)) => Ok(body),
            _ => Ok(Body::new()),
        }
    }
}

/// Gives nothing for what holds nothing that is wanted, as servers do.
impl<'de> DeserializeSeed<'de> for &Selection {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        reader: D,
    ) -> std::result::Result<Self::Value, D::Error> {
        if self.is_whole {
            return serde::Deserialize::deserialize(reader).map(Some);
        }
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Selection {
    type Value = Option<Value>;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut map: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let mut found = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            match self.below.get(&name) {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(below) => {
                    if let Some(value) = map.next_value_seed(below)? {
                        found.insert(name, value);
                    }
                }
            }
        }
        Ok((!found.is_empty()).then_some(Value::Object(found)))
    }

    fn visit_seq<A: SeqAccess<'de>>(
        self,
        mut list: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            found.extend(value);
        }
        Ok((!found.is_empty()).then_some(Value::Array(found)))
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> std::result::Result<Self::Value, E> {
        Err(E::custom("JSON holds no bytes"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_but_what_is_named_is_read() {
        let body = json!({
            "title": "t", "tags": ["a"], "none": null, "places": [{"file": "f", "line": 1}, {"line": 2}, "x"],
            "owners": {"hashes": {"rss": "h"}, "shared": {"tags": {"rss": ["a"]}}},
        });
        let read = |fields: &[&str]| {
            Value::Object(Selection::of(fields.iter().copied()).read(&body.to_string()).unwrap())
        };
        assert_eq!(read(&["title", "none", "absent"]), json!({"title": "t", "none": null}));
        assert_eq!(
            read(&["owners.shared.tags", "owners.hashes"]),
            json!({"owners": {"hashes": {"rss": "h"}, "shared": {"tags": {"rss": ["a"]}}}})
        );
        assert_eq!(read(&["places.file", "title.below"]), json!({"places": [{"file": "f"}]}));
        assert_eq!(read(&["owners", "owners.hashes"])["owners"], body["owners"]);
        assert_eq!(read(&[]), json!({}));
        assert!(Selection::of(["title"]).read("{\"title\": \"t\"").is_err());
    }
}
