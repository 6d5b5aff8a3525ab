//! Families, actors and references of the predecessor, and how they meet what is collected.
//!
//! It stored a family as the file has it, under a hash. So an adopted document is read as a file would be, and gets the id
//! that the next sync gives to the same thing: Malpedia's own, from the last part of its address, else the name. A reference
//! gets that of its address, else of its citation key. What an enrichment added then stands where the sync writes.

use serde_json::Value;
use stores::documents::{Adopter, Body, Identify};
use url::Url;

use crate::reference::{INDEX, canonical, id};
use crate::settings::Settings;
use crate::wire;

/// How the family knows its malware families.
pub(crate) const FAMILIES: Adopter = Adopter {
    index: "malpedia_families",
    shared: &["actors"],
    open: |_, _| Box::pin(async { Ok(identify(|body| Some(wire::family(body, "").ok()?.id))) }),
};

/// How it knows its actors.
pub(crate) const ACTORS: Adopter = Adopter {
    index: "malpedia_actors",
    shared: &["families", "familias_relacionadas"],
    open: |_, _| Box::pin(async { Ok(identify(|body| Some(wire::actor(body, "").ok()?.id))) }),
};

/// How it knows its references.
pub(crate) const LIBRARY: Adopter = Adopter {
    index: INDEX,
    shared: &["bib_keys"],
    open: |config, _| {
        Box::pin(async move {
            let library = config.of::<Settings>()?.url.as_ref().map(library_of);
            Ok(identify(move |body| reference(body, library.as_deref())))
        })
    },
};

fn identify(natural: impl Fn(&Body) -> Option<String> + Send + Sync + 'static) -> Identify {
    Box::new(move |body| natural(body).map(|natural| id(&natural)))
}

/// The page that the predecessor gave as the address of what has none.
fn library_of(base: &Url) -> String {
    canonical(&format!("{}/library", base.as_str().trim_end_matches('/')))
}

fn reference(body: &Body, library: Option<&str>) -> Option<String> {
    let text = |name: &str| {
        body.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
    };
    let address = ["link_canonical", "link"].into_iter().find_map(text).map(canonical);
    address
        .filter(|address| Some(address.as_str()) != library)
        .or_else(|| ["bibtex_key", "guid"].into_iter().find_map(text).map(ToOwned::to_owned))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(value: &Value) -> Body {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_reference_is_its_address_and_without_one_its_key() {
        let library = library_of(&Url::parse("https://malpedia.example/").unwrap());
        let of = |value: &Value| reference(&body(value), Some(&library));
        let address = Some("https://e.org/a".to_owned());
        assert_eq!(of(&json!({"link": "http://e.org/a/", "bibtex_key": "k:1"})), address);
        assert_eq!(of(&json!({"link": "https://e.org/a?utm_source=x"})), address);
        let page = "https://malpedia.example/library";
        assert_eq!(of(&json!({"link": page, "bibtex_key": "k:1"})), Some("k:1".to_owned()));
        assert_eq!(of(&json!({"link": " ", "bibtex_key": "k:1"})), Some("k:1".to_owned()));
        assert_eq!(of(&json!({"link": page})), None);
        assert_eq!(of(&json!({"link": 7, "bibtex_key": null})), None);
    }
}
