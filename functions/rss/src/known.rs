//! Articles that an item meets again under an id that it has no more: adopted ones, and those of earlier versions.
//!
//! The predecessor kept the link and no guid, and named an article after its title and date. So an adopted article has the id
//! that its link gives, and an item that comes with a guid takes over what stands there if it is the same article. In the same
//! way an item whose own id turned out to be shared, or whose link is told from others by its fragment, goes on in the
//! document that it has.

use std::collections::{HashMap, HashSet};

use base::Result;
use jiff::Timestamp;
use serde_json::Value;
use stores::documents::{Body, DocumentReader, Index, Part, Write};

use crate::identity::Identity;

/// What tells whether a stored article is the one of an item.
const TELLING: &[&str] = &["guid", "link", "title", "published", "summary"];

/// The stored articles that one visit's items may be.
pub(crate) struct KnownArticles {
    index: &'static Index,
    /// Ids that this visit writes: one that several items share tells none of them.
    written: HashSet<String>,
}

/// How sure it is that a stored article is an item; less is surer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    Same,
    /// Its link, under another title: it was edited, unless several items have that link.
    Link,
    /// Its title or its date.
    Title,
}

impl KnownArticles {
    pub(crate) fn of(index: &'static Index) -> Self {
        Self { index, written: HashSet::new() }
    }

    /// Gives items that are stored under an earlier id of theirs that id; `identities` are those of `writes`, in order.
    pub(crate) async fn meet(
        &mut self,
        documents: &dyn DocumentReader,
        writes: &mut [Write],
        identities: &[Identity],
    ) -> Result<()> {
        self.written.extend(writes.iter().map(|write| write.id.clone()));
        let mut asked: Vec<&str> = Vec::new();
        let mut claimants: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, identity) in identities.iter().enumerate() {
            for id in identity.earlier.iter().filter(|id| !self.written.contains(*id)) {
                let places = claimants.entry(id).or_default();
                if places.is_empty() {
                    asked.push(id);
                }
                places.push(place);
            }
        }
        let found = documents.fields_of(self.index, &asked, TELLING).await?;
        let mut moved: HashSet<usize> = HashSet::new();
        for (id, stored) in asked.into_iter().zip(found) {
            let Some(stored) = stored else { continue };
            let likenesses =
                claimants[id].iter().filter(|place| !moved.contains(place)).filter_map(|place| {
                    let item = &writes[*place].parts.first()?.fields;
                    Some((likeness(&stored, item, identities[*place].is_widened)?, *place))
                });
            let likenesses: Vec<(Likeness, usize)> = likenesses.collect();
            let Some((best, place)) = likenesses.iter().copied().min() else { continue };
            let equally = likenesses.iter().filter(|(likeness, _)| *likeness == best).count();
            if best == Likeness::Link && equally > 1 {
                continue;
            }
            let write = &mut writes[place];
            let Some(Part { fields, .. }) = write.parts.first_mut() else { continue };
            id.clone_into(&mut write.id);
            fields.insert("id".to_owned(), Value::String(id.to_owned()));
            self.written.insert(id.to_owned());
            moved.insert(place);
        }
        Ok(())
    }
}

/// Whether an article that is stored under an earlier id is this item: by the guid that it got from it, unless other items
/// have the same; else by its link, its title or its date.
fn likeness(stored: &Body, item: &Body, is_widened: bool) -> Option<Likeness> {
    let text = |body: &Body, name: &str| -> Option<String> {
        body.get(name)?.as_str().map(|text| text.trim().to_lowercase())
    };
    let equal = |name: &str| {
        stored.get(name).unwrap_or(&Value::Null) == item.get(name).unwrap_or(&Value::Null)
    };
    let has = |name: &str| text(item, name).is_some_and(|text| !text.is_empty());
    let date = |body: &Body| -> Option<Timestamp> { body.get("published")?.as_str()?.parse().ok() };
    let same_title =
        || text(stored, "title").is_some_and(|title| Some(title) == text(item, "title"));
    match (text(stored, "guid"), text(item, "guid")) {
        (None, Some(_)) => (same_title()
            || date(stored).is_some_and(|day| Some(day) == date(item)))
        .then_some(Likeness::Title),
        _ if !equal("guid") => None,
        (Some(_), _) if !is_widened => Some(Likeness::Same),
        (None, _) if !has("link") => (same_title() && equal("summary")).then_some(Likeness::Same),
        _ if equal("link") && equal("title") => Some(Likeness::Same),
        _ if equal("link") => Some(Likeness::Link),
        _ => same_title().then_some(Likeness::Title),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(stored: &Value, item: &Value, is_widened: bool, expected: Option<Likeness>) {
        let of = |value: &Value| value.as_object().unwrap().clone();
        assert_eq!(likeness(&of(stored), &of(item), is_widened), expected, "{stored}");
    }

    #[test]
    fn a_guid_once_known_decides_and_before_that_the_title_or_the_date() {
        let item = json!({"guid": "g", "title": "One", "published": "2026-03-01T08:00:00Z"});
        check(&json!({"guid": "g", "title": "Other"}), &item, false, Some(Likeness::Same));
        check(&json!({"guid": "h", "title": "One"}), &item, false, None);
        check(&json!({"title": " one"}), &item, false, Some(Likeness::Title));
        let edited = json!({"title": "Edited", "published": "2026-03-01T09:00:00+01:00"});
        check(&edited, &item, false, Some(Likeness::Title));
        check(&json!({"title": "Other"}), &item, false, None);
    }

    #[test]
    fn of_a_shared_guid_link_and_title_decide() {
        let item = json!({"guid": "N/A", "title": "One", "link": "https://a.example/1"});
        let stored = |title: &str, link: &str| json!({"guid": "N/A", "title": title, "link": link});
        check(&stored("One", "https://a.example/1"), &item, true, Some(Likeness::Same));
        check(&stored("Edited", "https://a.example/1"), &item, true, Some(Likeness::Link));
        check(&stored("One", "https://a.example/2"), &item, true, Some(Likeness::Title));
        check(&stored("Two", "https://a.example/2"), &item, true, None);
    }

    #[test]
    fn without_guid_and_link_the_text_decides() {
        let item = json!({"title": "One", "link": "", "summary": "a"});
        check(
            &json!({"title": "One", "link": "", "summary": "a"}),
            &item,
            true,
            Some(Likeness::Same),
        );
        check(&json!({"title": "One", "link": "", "summary": "b"}), &item, true, None);
    }
}
