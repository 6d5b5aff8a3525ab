//! The indices: their names, their fields and types, read from the mappings that a server is given.

use std::collections::BTreeMap;
use std::net::IpAddr;
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
    /// Fields within objects, or within lists of objects, that can be asked for, by their path: `iocs.value`.
    pub nested: BTreeMap<String, FieldType>,
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

/// Longer values of a keyword are kept and not indexed, in UTF-16 units: Lucene refuses a document for a term above 32,766
/// bytes, and no unit has more than four.
const IGNORE_ABOVE: u64 = 8_191;

/// Gives each field within a mapping what keeps a value from costing its document, where the mapping says nothing else.
fn tolerate(form: &mut Value) {
    let setting = match form["type"].as_str() {
        Some("keyword") => Some(("ignore_above", json!(IGNORE_ABOVE))),
        Some("date" | "integer" | "long" | "float" | "ip") => {
            Some(("ignore_malformed", json!(true)))
        }
        // A malformed truth value is left out before (`fit.rs`): not all servers can be told to pass it over.
        _ => None,
    };
    if let (Some((name, value)), Some(form)) = (setting, form.as_object_mut()) {
        form.entry(name).or_insert(value);
    }
    for part in ["properties", "fields"] {
        for within in form.get_mut(part).and_then(Value::as_object_mut).into_iter().flatten() {
            tolerate(within.1);
        }
    }
}

impl Index {
    fn read(name: &'static str, mapping: &str) -> Self {
        let mut mapping: Value =
            serde_json::from_str(mapping).expect("a unit test reads every mapping");
        tolerate(&mut mapping);
        let fields = mapping["properties"]
            .as_object()
            .map(|fields| {
                fields.iter().map(|(field, form)| (field.clone(), field_type(form))).collect()
            })
            .unwrap_or_default();
        let newest_by = mapping["_meta"]["newest_by"].as_str().map(ToOwned::to_owned);
        let is_reference = mapping["_meta"]["reference"] == true;
        let mut nested = BTreeMap::new();
        add_nested(&mut nested, "", &mapping);
        Self { name, mapping, fields, nested, newest_by, is_reference, several: &[] }
    }

    fn group(name: &'static str, several: &'static [&'static str]) -> Self {
        let members = INDICES.iter().filter(|index| several.contains(&index.name));
        let (mut fields, mut nested) = (BTreeMap::new(), BTreeMap::new());
        let mut mapping = json!({"properties": {}});
        let mut newest_by = None;
        for member in members {
            fields.extend(member.fields.clone());
            nested.extend(member.nested.clone());
            for (field, form) in member.mapping["properties"].as_object().into_iter().flatten() {
                mapping["properties"][field] = form.clone();
            }
            newest_by.clone_from(&member.newest_by);
        }
        Self { name, mapping, fields, nested, newest_by, is_reference: false, several }
    }

    /// Every index that is written to.
    pub fn all() -> &'static [Self] {
        &INDICES
    }

    /// Every group of indices that is searched as one.
    pub fn groups() -> &'static [Self] {
        &GROUPS
    }

    /// The names that [`named`](Self::named) knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        INDICES.iter().chain(GROUPS.iter()).map(|index| index.name)
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
            let names: Vec<_> = Self::names().collect();
            let near = nearest(name, names.iter().copied());
            Error::config(format!("find index `{name}`"))
                .hint(format!("{near}there is: {}", names.join(", ")))
        })
    }

    /// The field that `name` stands for, a path where it is within an object: `.keyword` sub-fields and aliases lead to the
    /// field itself.
    ///
    /// # Errors
    /// `Config` when the mapping has no such field.
    pub fn field(&self, name: &str) -> Result<(&str, &FieldType)> {
        let plain = name.strip_suffix(".keyword").unwrap_or(name);
        let known = self.fields.get_key_value(plain).or_else(|| self.nested.get_key_value(plain));
        let found = known.and_then(|(name, kind)| match kind {
            FieldType::Alias(target) => self.fields.get_key_value(target),
            FieldType::Text
            | FieldType::Keyword
            | FieldType::Date
            | FieldType::Plain
            | FieldType::Other => Some((name, kind)),
        });
        found.map(|(name, kind)| (name.as_str(), kind)).ok_or_else(|| {
            let all = self.fields.keys().chain(self.nested.keys()).map(String::as_str);
            let known: Vec<&str> = match plain.split_once('.') {
                // Of an object that is there, what it holds; a document as a whole has a hundred more.
                Some((object, _)) if self.fields.contains_key(object) => {
                    let within = format!("{object}.");
                    self.nested
                        .keys()
                        .map(String::as_str)
                        .filter(|path| path.starts_with(&within))
                        .collect()
                }
                _ => self.fields.keys().map(String::as_str).collect(),
            };
            let near = nearest(plain, all);
            let known = match known.as_slice() {
                [] => "it holds nothing that can be asked for".to_owned(),
                known => format!("its fields: {}", known.join(", ")),
            };
            Error::config(format!("find field `{name}` in `{}`", self.name))
                .hint(format!("{near}{known}"))
        })
    }

    /// What the mapping says of a field, a path where it is within an object.
    fn form(&self, field: &str) -> &Value {
        field.split('.').fold(&self.mapping, |form, name| &form["properties"][name])
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
        let form = self.form(field);
        if *kind == FieldType::Other {
            let within = format!("{field}.");
            let within = self.nested.keys().filter(|path| path.starts_with(&within));
            let within = within.map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
            return Err(Error::config(format!("compare or sort by `{field}` of `{}`", self.name))
                .hint(match within.as_str() {
                    "" => "it is kept and not indexed".to_owned(),
                    within => format!("it is an object; ask for {within}"),
                }));
        }
        if *kind != FieldType::Text {
            return Ok((field.to_owned(), form["ignore_above"].as_u64()));
        }
        let Some(keyword) = form["fields"].get("keyword") else {
            return Err(Error::config(format!("compare or sort by `{field}` of `{}`", self.name))
                .hint("it holds words to search; choose a field with exact values"));
        };
        Ok((format!("{field}.keyword"), keyword["ignore_above"].as_u64()))
    }

    /// A value that was typed for a field, in the form in which stores compare it.
    ///
    /// # Errors
    /// `Config` when the field has exact values of a kind that this is none of: servers refuse to look for it, and no document
    /// has it.
    pub fn value(&self, field: &str, typed: &str) -> Result<String> {
        let (field, _) = self.field(field)?;
        let read = match self.form(field)["type"].as_str() {
            Some("boolean") => {
                ["true", "false"].contains(&typed).then(|| typed.to_owned()).ok_or("true or false")
            }
            Some("integer" | "long") => {
                typed.parse::<i64>().map(|number| number.to_string()).map_err(|_| "a whole number")
            }
            Some("float") => {
                let number = typed.parse::<f64>().ok().filter(|number| number.is_finite());
                number.map(|_| typed.to_owned()).ok_or("a number")
            }
            Some("ip") => typed
                .parse::<IpAddr>()
                .map(|address| address.to_string())
                .map_err(|_| "one IP address"),
            _ => Ok(typed.to_owned()),
        };
        read.map_err(|wanted| {
            Error::config(format!("look for `{typed}` in `{field}` of `{}`", self.name))
                .hint(format!("that field holds {wanted}"))
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

/// A question whether a name was meant that is near to the one that was typed; empty where none is.
fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|known| (strsim::levenshtein(known, typed), known))
        .min()
        .filter(|(edits, _)| *edits <= 2)
        .map_or_else(String::new, |(_, near)| format!("did you mean `{near}`? "))
}

/// Adds what objects hold, however deep, that is indexed.
fn add_nested(nested: &mut BTreeMap<String, FieldType>, path: &str, form: &Value) {
    for (name, form) in form["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        add_nested(nested, &path, form);
        let kind = field_type(form);
        if path.contains('.') && kind != FieldType::Other {
            nested.insert(path, kind);
        }
    }
}

fn field_type(form: &Value) -> FieldType {
    match form["type"].as_str() {
        _ if form["index"] == false => FieldType::Other,
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
    fn no_keyword_number_date_or_address_costs_its_document() {
        fn check(name: &str, form: &Value) {
            match form["type"].as_str() {
                Some("keyword") => {
                    let most = form["ignore_above"].as_u64();
                    assert!(most.is_some_and(|most| most <= IGNORE_ABOVE), "`{name}`: {most:?}");
                }
                Some("date" | "integer" | "long" | "float" | "ip") => {
                    assert_eq!(form["ignore_malformed"], true, "`{name}`");
                }
                _ => {}
            }
            for part in ["properties", "fields"] {
                for (field, form) in form[part].as_object().into_iter().flatten() {
                    check(&format!("{name}.{field}"), form);
                }
            }
        }
        for index in Index::all() {
            check(index.name, &index.mapping);
        }
    }

    #[test]
    fn what_is_searched_as_one_has_fields_of_one_type_and_one_date() {
        for group in Index::groups() {
            assert_eq!(group.members().len(), group.several.len(), "{}", group.name);
            for member in group.members() {
                assert_eq!(member.newest_by, group.newest_by, "{}", member.name);
                let fields = member.fields.iter().chain(&member.nested);
                for (field, kind) in fields {
                    assert_eq!(
                        kind,
                        group.fields.get(field).unwrap_or_else(|| &group.nested[field]),
                        "`{field}` of {}",
                        member.name
                    );
                    let has_keyword =
                        |index: &Index| index.form(field)["fields"].get("keyword").is_some();
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
    fn what_is_within_objects_has_a_path_where_it_is_indexed() {
        let articles = Index::named("rss_articles").unwrap();
        assert_eq!(articles.field("iocs.value").unwrap(), ("iocs.value", &FieldType::Keyword));
        assert_eq!(articles.exact("iocs.type.keyword").unwrap().0, "iocs.type");
        let hint = |name: &str| {
            let error = articles.exact(name).unwrap_err();
            error.hint_text().unwrap().to_owned()
        };
        assert!(hint("iocs").contains("`iocs.type`, `iocs.value`"), "{}", hint("iocs"));
        assert!(hint("iocs.raw").contains("its fields: iocs.type, iocs.value"));
        assert!(hint("iocs.valeu").contains("did you mean `iocs.value`?"));
        assert!(hint("categoy").contains("did you mean `category`?"));
        assert!(hint("media.url").contains("nothing that can be asked for"));
        let indicators = Index::named("minerva-indicators").unwrap();
        assert_eq!(indicators.field("threat.indicator.ip").unwrap().1, &FieldType::Plain);
        assert_eq!(indicators.value("threat.indicator.ip", "2001:DB8::1").unwrap(), "2001:db8::1");
        for (field, typed) in
            [("threat.indicator.ip", "10.0.0"), ("revision", "two"), ("active", "yes")]
        {
            assert!(indicators.value(field, typed).is_err(), "{field}={typed}");
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
