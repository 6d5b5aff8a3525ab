//! Articles of the predecessor: each gets the id that its link gives, under which `known.rs` meets it again.

use serde_json::Value;
use stores::documents::{Adopter, Body, Identify};
use url::Url;

use crate::identity::id_of_link;
use crate::sources::{INDEX, Source, Sources};

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
}
