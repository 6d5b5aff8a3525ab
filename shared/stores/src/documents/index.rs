//! The indices: their names, their fields and types, read from the mappings that a server is given.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base::{Error, Result};
use serde_json::{Value, json};

/// The index of malware families, to which rules and reports are tied whatever source gave them.
pub const MALWARE_FAMILIES: &str = "malpedia_families";

/// What kind of value a field holds, as far as a store must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// Words to search.
    Text,
    /// An exact value.
    Keyword,
    /// An RFC 3339 instant.
    Date,
    /// A number, a truth value or an address.
    Plain,
    /// Another name of a field.
    Alias(String),
    /// Anything else: kept, and not searched by the embedded store.
    Other,
}

/// One index, or several that are searched as one and written to each by itself.
#[derive(Debug)]
pub struct Index {
    /// Its name, which on a server is an alias of a physical index, or of several.
    pub name: &'static str,
    /// The mapping as a server is given it; of several, their fields together.
    pub mapping: Value,
    /// Top-level fields by name.
    pub fields: BTreeMap<String, FieldType>,
    /// The date by which documents are sorted when nothing else is asked.
    pub newest_by: Option<String>,
    /// Whether its documents are looked up for as long as they are true, whatever their date: malware, rules.
    pub is_reference: bool,
    /// The names of the several it stands for; none when it is one.
    pub several: &'static [&'static str],
}

static INDICES: LazyLock<Vec<Index>> = LazyLock::new(|| {
    vec![
        Index::read("malpedia_families", include_str!("mappings/malpedia_families.json")),
        Index::read("malpedia_actors", include_str!("mappings/malpedia_actors.json")),
        Index::read("malpedia_library", include_str!("mappings/malpedia_library.json")),
        Index::read("cti_yara_rules", include_str!("mappings/cti_yara_rules.json")),
        Index::read("cti_misp_iocs", include_str!("mappings/cti_misp_iocs.json")),
        Index::read("otx_pulses", include_str!("mappings/otx_pulses.json")),
        Index::read("otx_indicators", include_str!("mappings/otx_indicators.json")),
        Index::read("rss_articles", include_str!("mappings/rss_articles.json")),
        Index::read("caveiratech_news", include_str!("mappings/caveiratech_news.json")),
        Index::read("signature_base_iocs", include_str!("mappings/signature_base_iocs.json")),
    ]
});

/// What the fields hold; a name means the same wherever it stands.
static ABOUT: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("mappings/about.json")).expect("a unit test reads it")
});

static GROUPS: LazyLock<Vec<Index>> = LazyLock::new(|| {
    vec![
        Index::group("minerva-articles", &["rss_articles", "malpedia_library", "caveiratech_news"]),
        Index::group(
            "minerva-indicators",
            &["cti_misp_iocs", "otx_indicators", "signature_base_iocs"],
        ),
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
        let is_reference = mapping["_meta"]["reference"] == true;
        Self { name, mapping, fields, newest_by, is_reference, several: &[] }
    }

    fn group(name: &'static str, several: &'static [&'static str]) -> Self {
        let members = INDICES.iter().filter(|index| several.contains(&index.name));
        let mut fields = BTreeMap::new();
        let mut mapping = json!({"properties": {}});
        let mut newest_by = None;
        for member in members {
            fields.extend(member.fields.clone());
            for (field, form) in member.mapping["properties"].as_object().into_iter().flatten() {
                mapping["properties"][field] = form.clone();
            }
            newest_by.clone_from(&member.newest_by);
        }
        Self { name, mapping, fields, newest_by, is_reference: false, several }
    }

    /// Every index that is written to.
    pub fn all() -> &'static [Self] {
        &INDICES
    }

    /// Every group of indices that is searched as one.
    pub fn groups() -> &'static [Self] {
        &GROUPS
    }

    /// The indices that it stands for: itself, when it is one.
    pub fn members(&'static self) -> Vec<&'static Self> {
        if self.several.is_empty() {
            return vec![self];
        }
        INDICES.iter().filter(|index| self.several.contains(&index.name)).collect()
    }

    /// The index, or the group of several, of that name.
    ///
    /// # Errors
    /// `Config` when there is none, with the names there are.
    pub fn named(name: &str) -> Result<&'static Self> {
        let mut all = INDICES.iter().chain(GROUPS.iter());
        all.find(|index| index.name == name).ok_or_else(|| {
            let names: Vec<_> =
                INDICES.iter().chain(GROUPS.iter()).map(|index| index.name).collect();
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
            FieldType::Text
            | FieldType::Keyword
            | FieldType::Date
            | FieldType::Plain
            | FieldType::Other => Some((name, kind)),
        });
        found.map(|(name, kind)| (name.as_str(), kind)).ok_or_else(|| {
            let known: Vec<&str> = self.fields.keys().map(String::as_str).collect();
            Error::config(format!("find field `{name}` in `{}`", self.name))
                .hint(format!("its fields: {}", known.join(", ")))
        })
    }

    /// What a field of that name holds, where its name does not say it all.
    pub fn about(field: &str) -> Option<&'static str> {
        ABOUT.get(field).map(String::as_str)
    }

    /// The field that holds the exact values of `name`, and how long they are at most: a text's are in its `.keyword`.
    ///
    /// # Errors
    /// `Config` when the mapping has no such field, or when it holds words to search and nothing else.
    pub fn exact(&self, name: &str) -> Result<(String, Option<u64>)> {
        let (field, kind) = self.field(name)?;
        let form = &self.mapping["properties"][field];
        if *kind != FieldType::Text {
            return Ok((field.to_owned(), form["ignore_above"].as_u64()));
        }
        let Some(keyword) = form["fields"].get("keyword") else {
            return Err(Error::config(format!("compare or sort by `{field}` of `{}`", self.name))
                .hint("it holds words to search; choose a field with exact values"));
        };
        Ok((format!("{field}.keyword"), keyword["ignore_above"].as_u64()))
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
        Some("boolean" | "integer" | "long" | "float" | "ip") => FieldType::Plain,
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
    fn what_is_said_of_fields_is_said_of_fields_there_are() {
        for name in ABOUT.keys() {
            assert!(Index::all().iter().any(|index| index.fields.contains_key(name)), "`{name}`");
        }
    }

    #[test]
    fn every_mapping_uses_only_what_all_servers_have() {
        fn check(index: &str, name: &str, form: &Value) {
            let kinds =
                ["keyword", "text", "date", "ip", "boolean", "integer", "long", "float", "alias"];
            match form["type"].as_str() {
                None => assert!(form["properties"].is_object(), "{index}: `{name}` has no type"),
                Some("object") => assert_eq!(form["enabled"], false, "{index}: `{name}`"),
                Some(kind) => assert!(kinds.contains(&kind), "{index}: `{name}` is `{kind}`"),
            }
            for part in ["properties", "fields"] {
                for (field, form) in form[part].as_object().into_iter().flatten() {
                    check(index, &format!("{name}.{field}"), form);
                }
            }
        }
        for index in Index::all() {
            for (field, form) in index.mapping["properties"].as_object().unwrap() {
                check(index.name, field, form);
            }
        }
    }

    #[test]
    fn what_is_searched_as_one_has_fields_of_one_type_and_one_date() {
        for group in Index::groups() {
            assert_eq!(group.members().len(), group.several.len(), "{}", group.name);
            for member in group.members() {
                assert_eq!(member.newest_by, group.newest_by, "{}", member.name);
                for (field, kind) in &member.fields {
                    assert_eq!(kind, &group.fields[field], "`{field}` of {}", member.name);
                    let has_keyword = |index: &Index| {
                        index.mapping["properties"][field]["fields"].get("keyword").is_some()
                    };
                    assert_eq!(
                        has_keyword(member),
                        has_keyword(group),
                        "`{field}` of {}",
                        member.name
                    );
                }
            }
        }
    }

    #[test]
    fn text_is_compared_by_its_keyword() {
        let index = Index::named("rss_articles").unwrap();
        assert_eq!(index.exact("title").unwrap(), ("title.keyword".to_owned(), Some(256)));
        assert_eq!(index.exact("feed_name.keyword").unwrap().0, "feed_name");
        assert_eq!(index.exact("created_at").unwrap().0, "collected_at");
        assert!(index.exact("content").is_err());
    }

    #[test]
    fn readers_may_ask_for_the_keyword_sub_field() {
        let articles = Index::named("rss_articles").unwrap();
        assert_eq!(articles.field("feed_name.keyword").unwrap().0, "feed_name");
        assert_eq!(articles.field("created_at").unwrap().0, "collected_at");
        assert!(articles.field("feedname").unwrap_err().hint_text().unwrap().contains("feed_name"));
    }
}
