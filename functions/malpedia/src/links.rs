//! Which families and actors a reference is about: from Malpedia's list of addresses, and from the keys that stored families
//! name.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};

use base::Result;
use base::json::{Records, bounded};
use serde::de::Error as _;
use serde_json::{Value, json};
use stores::documents::{self, Body, DocumentReader, Pages, Scan};

use crate::reference::canonical;
use crate::sources::Source;
use crate::wire::NAME_MAX;

/// Documents read at a time.
const PAGE: u32 = 1_000;

/// Families and actors of one reference; the most cited in one are some 60.
pub const SUBJECTS_MAX: usize = 1_000;

/// A family or an actor.
#[derive(Debug)]
struct Subject {
    is_actor: bool,
    id: String,
    name: String,
}

/// What all references are about. Each subject is held once, and addresses and keys as their hashes: a list of them may be as
/// large as a body can be.
#[derive(Debug, Default)]
pub struct Links {
    hasher: RandomState,
    subjects: Vec<Subject>,
    /// The place of each subject.
    places: HashMap<u64, u32>,
    by_address: HashMap<u64, Vec<u32>>,
    by_key: HashMap<u64, Vec<u32>>,
    digest: u128,
}

impl Links {
    /// Reads `{address: [{type, id, common_name, …}]}`. A malformed record or value says nothing, and the others count all the
    /// same.
    ///
    /// # Errors
    /// Why it is no whole object.
    pub fn read(body: &[u8]) -> serde_json::Result<Self> {
        let mut links = Self::default();
        for raw in Records::of(body).ok_or_else(|| serde_json::Error::custom("it is no object"))? {
            let raw = raw.map_err(|broken| {
                serde_json::Error::custom(format!(
                    "it is malformed or cut off at byte {}",
                    broken.at
                ))
            })?;
            let Ok((Value::Array(cited), _)) = bounded(raw.text) else { continue };
            let address = canonical(&raw.key);
            for one in cited.iter().take(SUBJECTS_MAX) {
                let text = |name: &str| one.get(name).and_then(Value::as_str);
                let is_actor = match text("type") {
                    Some("family") => false,
                    Some("actor") => true,
                    _ => continue,
                };
                if let Some(place) = links.subject(is_actor, text("id"), text("common_name")) {
                    links.note(&address, place);
                    let key = links.hasher.hash_one(&address);
                    links.by_address.entry(key).or_default().push(place);
                }
            }
        }
        Ok(links)
    }

    /// The place of a subject.
    fn subject(&mut self, is_actor: bool, id: Option<&str>, name: Option<&str>) -> Option<u32> {
        let cut = |text: &str| text[..text.floor_char_boundary(NAME_MAX)].to_owned();
        let id = cut(id.filter(|id| !id.is_empty())?);
        let name = name.filter(|name| !name.is_empty()).map_or_else(|| id.clone(), cut);
        let key = self.hasher.hash_one((is_actor, &id, &name));
        let next = u32::try_from(self.subjects.len()).ok()?;
        let place = *self.places.entry(key).or_insert(next);
        if place == next {
            self.subjects.push(Subject { is_actor, id, name });
        }
        Some(place)
    }

    /// Takes a link into the digest, which does not depend on their order.
    fn note(&mut self, of: &str, place: u32) {
        let Some(Subject { is_actor, id, name }) = self.subjects.get(place as usize) else {
            return;
        };
        let kind = if *is_actor { "actor" } else { "family" };
        let hex = documents::id(&[of, kind, id, name]);
        let number = hex.get(..32).and_then(|hex| u128::from_str_radix(hex, 16).ok());
        self.digest = self.digest.wrapping_add(number.unwrap_or_default());
    }

    /// Tells one list of links from another.
    pub fn digest(&self) -> String {
        format!("{:032x}", self.digest)
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
                let Some(place) = self.subject(false, Some(id), text("common_name")) else {
                    continue;
                };
                for key in keys.into_iter().flatten().filter_map(Value::as_str) {
                    self.note(key, place);
                    let key = self.hasher.hash_one(key);
                    self.by_key.entry(key).or_default().push(place);
                }
            }
        }
        Ok(())
    }

    /// What a reference that has this address and these keys is about.
    pub fn fields(&self, address: Option<&str>, keys: &[&str]) -> Body {
        let by_address = address
            .and_then(|address| self.by_address.get(&self.hasher.hash_one(canonical(address))));
        let by_key = keys.iter().filter_map(|key| self.by_key.get(&self.hasher.hash_one(*key)));
        let (mut families, mut actors) = (BTreeMap::new(), BTreeMap::new());
        for place in by_address.into_iter().chain(by_key).flatten() {
            let Some(Subject { is_actor, id, name }) = self.subjects.get(*place as usize) else {
                continue;
            };
            let side = if *is_actor { &mut actors } else { &mut families };
            if side.len() < SUBJECTS_MAX {
                side.insert(id.as_str(), name.as_str());
            }
        }
        let names = |of: &BTreeMap<&str, &str>| {
            let mut names: Vec<&str> = of.values().copied().collect();
            names.sort_unstable();
            names.dedup();
            json!(names)
        };
        let ids = |of: &BTreeMap<&str, &str>| json!(of.keys().collect::<Vec<_>>());
        let fields = [
            ("family_ids", ids(&families)),
            ("family_names", names(&families)),
            ("actor_ids", ids(&actors)),
            ("actor_names", names(&actors)),
        ];
        fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
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
    fn the_digest_tells_links_apart_and_not_their_order() {
        let digest = |body: &str| Links::read(body.as_bytes()).unwrap().digest();
        let (a, b) = (
            r#""https://e.org/a":[{"type":"family","id":"x"}]"#,
            r#""https://e.org/b":[{"type":"actor","id":"x"}]"#,
        );
        let both = digest(&format!("{{{a},{b}}}"));
        assert_eq!(both, digest(&format!("{{{b},{a}}}")));
        assert_ne!(both, digest(&format!("{{{a}}}")));
        assert_ne!(both, digest(&format!("{{{a},{}}}", b.replace("actor", "family"))));
    }

    #[test]
    fn an_odd_value_costs_itself() {
        let family = r#"{"type":"family","id":"win.x"}"#;
        for odd in [
            "null",
            "{}",
            r#""x""#,
            "[null]",
            r#"[{"type":"family","id":null}]"#,
            "[3]",
            r#"[{"type":"family","id":"\ud800"}]"#,
            "1E400",
        ] {
            let body =
                format!(r#"{{"https://e.org/odd": {odd}, "https://e.org/a": [{family}, 5]}}"#);
            let links = Links::read(body.as_bytes()).unwrap();
            let of = |url: &str| links.fields(Some(url), &[])["family_ids"].clone();
            assert_eq!(of("https://e.org/a"), json!(["win.x"]), "{odd}");
            assert_eq!(of("https://e.org/odd"), json!([]), "{odd}");
        }
    }
}
