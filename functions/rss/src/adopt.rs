//! Articles of the predecessor, and how they meet their feeds again.
//!
//! It kept the link and no guid, and named an article after its title and date. So an adopted article gets the id that its
//! link would give it, and an item of a feed that comes with a guid takes over what stands there if it is the same article.

use std::collections::HashSet;

use base::Result;
use jiff::Timestamp;
use serde_json::Value;
use stores::documents::{Adopter, Body, DocumentReader, Identify, Index, Part, Write};
use url::Url;

use crate::article::id_of_link;
use crate::sources::{INDEX, Source, Sources};

/// What tells whether an adopted article is the one of an item.
const TELLING: &[&str] = &["guid", "title", "published"];

/// How the family knows its own.
pub(crate) const ADOPTER: Adopter = Adopter {
    index: INDEX,
    shared: &[],
    open: |config, state| {
        Box::pin(async move {
            let sources = Sources::load(config, state).await?;
            let identify: Identify = Box::new(move |body| identify(sources.all(), body));
            Ok(identify)
        })
    },
};

/// The id under which an article will be collected again, if its feed is one of ours.
fn identify(sources: &[Source], body: &Body) -> Option<String> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().trim();
    // What other collectors stored beside the feeds is theirs, wherever it links to.
    if !matches!(text("source_type"), "" | "rss_feed") {
        return None;
    }
    let link = Url::parse(text("link")).ok().filter(Url::has_host)?;
    let has_address = |source: &&Source| {
        ["feed_link", "feed_url", "source_url"].iter().any(|name| text(name) == source.url.as_str())
    };
    let name = plain(text("feed_name"));
    let has_name = |source: &&Source| !name.is_empty() && plain(&source.name) == name;
    let has_host = |source: &&Source| host(&source.url) == host(&link);
    let source = only(sources.iter().filter(has_address))
        .or_else(|| only(sources.iter().filter(has_name)))
        .or_else(|| only(sources.iter().filter(has_host)))?;
    Some(id_of_link(source, text("link")))
}

/// The one there is; of several none.
fn only<'a>(mut sources: impl Iterator<Item = &'a Source>) -> Option<&'a Source> {
    sources.next().filter(|_| sources.next().is_none())
}

/// A name as people say it, whatever stands between its words.
fn plain(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn host(url: &Url) -> &str {
    let host = url.host_str().unwrap_or_default();
    host.strip_prefix("www.").unwrap_or(host)
}

/// The adopted articles that one visit's items may be.
pub(crate) struct AdoptedArticles<'a> {
    source: &'a Source,
    index: &'static Index,
    /// Ids that this visit writes: a link that several items share tells none of them.
    written: HashSet<String>,
}

impl<'a> AdoptedArticles<'a> {
    pub(crate) fn of(source: &'a Source, index: &'static Index) -> Self {
        Self { source, index, written: HashSet::new() }
    }

    /// Gives items that are adopted articles the ids that these have.
    pub(crate) async fn meet(
        &mut self,
        documents: &dyn DocumentReader,
        writes: &mut [Write],
    ) -> Result<()> {
        self.written.extend(writes.iter().map(|write| write.id.clone()));
        let mut asked: Vec<(usize, String)> = Vec::new();
        for (place, write) in writes.iter().enumerate() {
            let Some(Part { fields, .. }) = write.parts.first() else { continue };
            let link = fields.get("link_canonical").and_then(Value::as_str);
            if let (Some(link), Some(Value::String(_))) = (link, fields.get("guid")) {
                let id = id_of_link(self.source, link);
                if !self.written.contains(&id) {
                    asked.push((place, id));
                }
            }
        }
        let mut once: HashSet<&str> = HashSet::new();
        let ids: Vec<&str> =
            asked.iter().map(|(_, id)| id.as_str()).filter(|id| once.insert(id)).collect();
        let found = documents.fields_of(self.index, &ids, TELLING).await?;
        let known: std::collections::HashMap<&str, Option<Body>> =
            ids.into_iter().zip(found).collect();
        for (place, id) in &asked {
            let write = &mut writes[*place];
            let Some(Part { fields, .. }) = write.parts.first_mut() else { continue };
            let is_same = known
                .get(id.as_str())
                .and_then(Option::as_ref)
                .is_some_and(|stored| is_same(stored, fields));
            if is_same && self.written.insert(id.clone()) {
                write.id.clone_from(id);
                fields.insert("id".to_owned(), Value::String(id.clone()));
            }
        }
        Ok(())
    }
}

/// Whether an article that was stored by its link is this item: by the guid that it got from it, before that by its title
/// or its date.
fn is_same(stored: &Body, item: &Body) -> bool {
    let text = |body: &Body, name: &str| -> Option<String> {
        body.get(name)?.as_str().map(|text| text.trim().to_lowercase())
    };
    let date = |body: &Body| -> Option<Timestamp> { body.get("published")?.as_str()?.parse().ok() };
    match text(stored, "guid") {
        Some(_) => stored.get("guid") == item.get("guid"),
        None => {
            text(stored, "title").is_some_and(|title| Some(title) == text(item, "title"))
                || date(stored).is_some_and(|day| Some(day) == date(item))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sources() -> Sources {
        let text = r#"
            [[source]]
            id = "a"
            name = "Blog: A"
            url = "https://www.a.example/feed/"
            category = "news"
            [[source]]
            id = "b"
            name = "B"
            url = "https://b.example/one.xml"
            category = "news"
            [[source]]
            id = "c"
            name = "C"
            url = "https://b.example/two.xml"
            category = "news"
        "#;
        Sources::parse(text, "a test").unwrap()
    }

    fn identified(body: &Value) -> Option<String> {
        identify(sources().all(), body.as_object().unwrap())
    }

    #[test]
    fn an_article_is_known_by_its_feeds_address_or_name_or_by_a_host_that_is_one_feeds_only() {
        let of = |place: usize, link: &str| Some(id_of_link(&sources().all()[place], link));
        let link = "https://a.example/1?utm_source=x";
        assert_eq!(
            identified(&json!({"link": link, "feed_name": "blog a"})),
            of(0, "https://a.example/1")
        );
        assert_eq!(identified(&json!({"link": link})), of(0, link));
        let on_two = "https://b.example/1";
        assert_eq!(identified(&json!({"link": on_two})), None);
        assert_eq!(
            identified(&json!({"link": on_two, "feed_link": "https://b.example/two.xml"})),
            of(2, on_two)
        );
        assert_eq!(identified(&json!({"link": link, "source_type": "malpedia_library"})), None);
        assert_eq!(identified(&json!({"link": "no address", "feed_name": "B"})), None);
        assert_eq!(identified(&json!({"link": 7})), None);
    }

    #[test]
    fn a_guid_once_known_decides_and_before_that_the_title_or_the_date() {
        let same = |stored: &Value, item: &Value| {
            is_same(stored.as_object().unwrap(), item.as_object().unwrap())
        };
        let item = json!({"guid": "g", "title": "One", "published": "2026-03-01T08:00:00Z"});
        assert!(same(&json!({"guid": "g", "title": "Other"}), &item));
        assert!(!same(&json!({"guid": "h", "title": "One"}), &item));
        assert!(same(&json!({"title": " one"}), &item));
        assert!(same(&json!({"title": "Edited", "published": "2026-03-01T09:00:00+01:00"}), &item));
        assert!(!same(&json!({"title": "Other"}), &item));
    }
}
