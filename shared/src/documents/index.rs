//! The indices: their names, their fields and types, read from the mappings that a server is given.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use crate::error::{Error, Result};

/// What kind of value a field holds, as far as a store must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// Words to search.
    Text,
    /// An exact value.
    Keyword,
    /// An RFC 3339 instant.
    Date,
    /// Another name of a field.
    Alias(String),
    /// Anything else: kept, and not searched by the embedded store.
    Other,
}

/// One index.
#[derive(Debug)]
pub struct Index {
    /// Its name, which on a server is an alias of a physical index.
    pub name: &'static str,
    /// The mapping as a server is given it.
    pub mapping: Value,
    /// Top-level fields by name.
    pub fields: BTreeMap<String, FieldType>,
    /// The date by which documents are sorted when nothing else is asked.
    pub newest_by: Option<String>,
}

static INDICES: LazyLock<Vec<Index>> = LazyLock::new(|| {
    vec![
        Index::read("malpedia_families", include_str!("mappings/malpedia_families.json")),
        Index::read("malpedia_actors", include_str!("mappings/malpedia_actors.json")),
        Index::read("malpedia_library", include_str!("mappings/malpedia_library.json")),
        Index::read("cti_yara_rules", include_str!("mappings/cti_yara_rules.json")),
        Index::read("rss_articles", include_str!("mappings/rss_articles.json")),
        Index::read("signature_base_iocs", include_str!("mappings/signature_base_iocs.json")),
    ]
});

impl Index {
    fn read(name: &'static str, mapping: &str) -> Self {
        let mapping: Value =
            serde_json::from_str(mapping).expect("a unit test reads every mapping");
        let fields = mapping["properties"]
            .as_object()
            .map(|fields| {
                fields.iter().map(|(field, form)| (field.clone(), field_type(form))).collect()
            })
            .unwrap_or_default();
        let newest_by = mapping["_meta"]["newest_by"].as_str().map(ToOwned::to_owned);
        Self { name, mapping, fields, newest_by }
    }

    /// Every index there is.
    pub fn all() -> &'static [Self] {
        &INDICES
    }

    /// The index of that name.
    ///
    /// # Errors
    /// `Config` when there is none, with the names there are.
    pub fn named(name: &str) -> Result<&'static Self> {
        INDICES.iter().find(|index| index.name == name).ok_or_else(|| {
            let names: Vec<_> = INDICES.iter().map(|index| index.name).collect();
            Error::config(format!("find index `{name}`"))
                .hint(format!("there is: {}", names.join(", ")))
        })
    }

    /// The field that `name` stands for: `.keyword` sub-fields and aliases lead to the field itself.
    ///
    /// # Errors
    /// `Config` when the mapping has no such field.
    pub fn field(&self, name: &str) -> Result<(&str, &FieldType)> {
        let plain = name.strip_suffix(".keyword").unwrap_or(name);
        let found = self.fields.get_key_value(plain).and_then(|(name, kind)| match kind {
            FieldType::Alias(target) => self.fields.get_key_value(target),
            FieldType::Text | FieldType::Keyword | FieldType::Date | FieldType::Other => {
                Some((name, kind))
            }
        });
        found.map(|(name, kind)| (name.as_str(), kind)).ok_or_else(|| {
            let known: Vec<&str> = self.fields.keys().map(String::as_str).collect();
            Error::config(format!("find field `{name}` in `{}`", self.name))
                .hint(format!("its fields: {}", known.join(", ")))
        })
    }

    /// The text fields, in the order of their names.
    pub fn text_fields(&self) -> impl Iterator<Item = &str> {
        self.fields
            .iter()
            .filter(|(_, kind)| **kind == FieldType::Text)
            .map(|(name, _)| name.as_str())
    }
}

fn field_type(form: &Value) -> FieldType {
    match form["type"].as_str() {
        Some("text") => FieldType::Text,
        Some("keyword") => FieldType::Keyword,
        Some("date") => FieldType::Date,
        Some("alias") => FieldType::Alias(form["path"].as_str().unwrap_or_default().to_owned()),
        _ => FieldType::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mapping_is_closed_versioned_and_its_aliases_lead_somewhere() {
        for index in Index::all() {
            assert_eq!(index.mapping["dynamic"], false, "{}", index.name);
            assert!(index.mapping["_meta"]["version"].is_u64(), "{}", index.name);
            for name in index.fields.keys() {
                index.field(name).unwrap();
            }
            if let Some(date) = &index.newest_by {
                assert_eq!(index.field(date).unwrap().1, &FieldType::Date, "{}", index.name);
            }
        }
    }

    #[test]
    fn readers_may_ask_for_the_keyword_sub_field() {
        let articles = Index::named("rss_articles").unwrap();
        assert_eq!(articles.field("feed_name.keyword").unwrap().0, "feed_name");
        assert_eq!(articles.field("created_at").unwrap().0, "collected_at");
        assert!(articles.field("feedname").unwrap_err().hint_text().unwrap().contains("feed_name"));
    }
}
