//! Which families and actors a reference is about: from Malpedia's list of addresses, and from the keys that stored families
//! name.

use std::collections::{BTreeMap, HashMap};

use base::Result;
use serde_json::{Map, Value, json};
use stores::documents::{Body, DocumentReader, Pages, Scan};

use crate::reference::canonical;
use crate::sources::Source;

/// Documents read at a time.
const PAGE: u32 = 1_000;

/// What one reference is about: ids with names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subjects {
    families: BTreeMap<String, String>,
    actors: BTreeMap<String, String>,
}

/// What all references are about.
#[derive(Debug, Default)]
pub struct Links {
    by_address: HashMap<String, Subjects>,
    by_key: HashMap<String, Subjects>,
}

impl Links {
    /// Reads `{address: [{type, id, common_name, …}]}`.
    ///
    /// # Errors
    /// Why it is no such object.
    pub fn read(body: &[u8]) -> serde_json::Result<Self> {
        let list: Map<String, Value> = serde_json::from_slice(body)?;
        let mut links = Self::default();
        for (address, cited) in list {
            let about = links.by_address.entry(canonical(&address)).or_default();
            // A malformed value says nothing, and the others count all the same.
            for one in cited.as_array().into_iter().flatten() {
                let text = |name: &str| one.get(name).and_then(Value::as_str);
                about.add(
                    text("type").unwrap_or_default(),
                    text("id").unwrap_or_default(),
                    text("common_name"),
                );
            }
        }
        Ok(links)
    }

    /// Adds what stored families say of the entries they cite.
    ///
    /// # Errors
    /// `Store`, when they cannot be read.
    pub async fn add_stored(&mut self, documents: &dyn DocumentReader) -> Result<()> {
        let scan =
            Scan { limit: PAGE, ..Scan::of(&["family_id", "common_name", "library_entries"]) };
        let mut pages = Pages::new(documents, Source::Families.index()?, scan);
        while let Some(page) = pages.next().await? {
            for family in &page {
                let text = |name: &str| family.body.get(name).and_then(Value::as_str);
                let Some(id) = text("family_id") else { continue };
                let keys = family.body.get("library_entries").and_then(Value::as_array);
                for key in keys.into_iter().flatten().filter_map(Value::as_str) {
                    let about = self.by_key.entry(key.to_owned()).or_default();
                    about.add("family", id, text("common_name"));
                }
            }
        }
        Ok(())
    }

    /// What a reference that has this address and these keys is about.
    pub fn fields(&self, address: Option<&str>, keys: &[&str]) -> Body {
        let mut about = address
            .and_then(|address| self.by_address.get(&canonical(address)))
            .cloned()
            .unwrap_or_default();
        for more in keys.iter().filter_map(|key| self.by_key.get(*key)) {
            about.families.extend(more.families.clone());
            about.actors.extend(more.actors.clone());
        }
        let names = |of: &BTreeMap<String, String>| {
            let mut names: Vec<&str> = of.values().map(String::as_str).collect();
            names.sort_unstable();
            names.dedup();
            json!(names)
        };
        let ids = |of: &BTreeMap<String, String>| json!(of.keys().collect::<Vec<_>>());
        let fields = [
            ("family_ids", ids(&about.families)),
            ("family_names", names(&about.families)),
            ("actor_ids", ids(&about.actors)),
            ("actor_names", names(&about.actors)),
        ];
        fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }
}

impl Subjects {
    fn add(&mut self, kind: &str, id: &str, name: Option<&str>) {
        let place = match kind {
            "family" => &mut self.families,
            "actor" => &mut self.actors,
            _ => return,
        };
        if !id.is_empty() {
            let name = name.filter(|name| !name.is_empty()).unwrap_or(id);
            place.insert(id.to_owned(), name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_found_under_any_form_of_its_address() {
        let links = Links::read(
            br#"{"http://e.org/a/": [{"type":"family","id":"win.x","common_name":"X \u00e9","alt_names":[],"url":"u"},
                {"type":"actor","id":"apt1","common_name":null}, {"type":"other","id":"z"}], "https://e.org/b": []}"#,
        )
        .unwrap();
        let fields = links.fields(Some("https://e.org/a"), &["k"]);
        assert_eq!(
            Value::Object(fields),
            json!({"family_ids": ["win.x"], "family_names": ["X é"], "actor_ids": ["apt1"], "actor_names": ["apt1"]})
        );
        assert_eq!(links.fields(None, &[])["family_ids"], json!([]));
        assert!(Links::read(b"<html>").is_err());
    }

    #[test]
    fn an_odd_value_costs_itself() {
        let family = r#"{"type":"family","id":"win.x"}"#;
        for odd in ["null", "{}", r#""x""#, "[null]", r#"[{"type":"family","id":null}]"#, "[3]"] {
            let body =
                format!(r#"{{"https://e.org/odd": {odd}, "https://e.org/a": [{family}, 5]}}"#);
            let links = Links::read(body.as_bytes()).unwrap();
            let of = |url: &str| links.fields(Some(url), &[])["family_ids"].clone();
            assert_eq!(of("https://e.org/a"), json!(["win.x"]), "{odd}");
            assert_eq!(of("https://e.org/odd"), json!([]), "{odd}");
        }
    }
}
