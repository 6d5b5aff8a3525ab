//! The feeds that a web page says are its own: `<link rel="alternate" type="application/rss+xml" href="…">`.

use url::Url;

use super::Hints;
use super::decode::decode;
use super::entities::{Declared, decode_into};
use super::scan::{Scanner, Token, attributes};

/// Feeds of one page at most: real ones have one for articles, one for comments, a few for languages.
const FEEDS_MAX: usize = 20;

/// Bytes of a page that are looked at: links stand in its head.
const PAGE_MAX: usize = 1024 * 1024;

/// What feeds call themselves; `application/json` is also what interfaces of blogs' makers have there.
const TYPES: [&str; 5] = [
    "application/rss+xml",
    "application/atom+xml",
    "application/feed+json",
    "application/rdf+xml",
    "text/xml",
];

/// A feed that a page links to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedFeed {
    pub url: Url,
    /// What the page calls it; may be empty.
    pub title: String,
}

/// The feeds that a page links to, in its order, each once; only addresses of http and https.
pub fn linked_feeds(body: &[u8], hints: &Hints<'_>) -> Vec<LinkedFeed> {
    let body = &body[..body.len().min(PAGE_MAX)];
    let decoded = decode(body, hints.content_type);
    let mut base = Url::parse(hints.url).ok();
    let mut feeds: Vec<LinkedFeed> = Vec::new();
    let mut scanner = Scanner::new(&decoded.text);
    while feeds.len() < FEEDS_MAX {
        let tag = match scanner.next() {
            Token::Start(tag) => tag,
            Token::Eof { .. } => break,
            _ => continue,
        };
        let value = |wanted: &str| {
            let (_, raw) =
                attributes(tag.attributes).find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
            let mut value = String::new();
            decode_into(raw, &mut Declared::default(), &mut value);
            Some(value.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        let address = |base: &Option<Url>| {
            let href = value("href").filter(|href| !href.is_empty())?;
            match base {
                Some(base) => base.join(&href).ok(),
                None => Url::parse(&href).ok(),
            }
        };
        if tag.name.eq_ignore_ascii_case("base") {
            base = address(&base).or(base);
        }
        if !tag.name.eq_ignore_ascii_case("link") {
            continue;
        }
        let is = |name: &str, wanted: &dyn Fn(&str) -> bool| {
            value(name).is_some_and(|value| value.split(char::is_whitespace).any(wanted))
        };
        let is_feed = is("rel", &|word| word.eq_ignore_ascii_case("alternate"))
            && is("type", &|word| {
                TYPES.iter().any(|kind| word.trim_end_matches(';').eq_ignore_ascii_case(kind))
            });
        let url = address(&base).filter(|url| is_feed && matches!(url.scheme(), "http" | "https"));
        if let Some(url) = url.filter(|url| feeds.iter().all(|feed| feed.url != *url)) {
            feeds.push(LinkedFeed { url, title: value("title").unwrap_or_default() });
        }
    }
    feeds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked(page: &str) -> Vec<String> {
        let hints = Hints { content_type: None, url: "https://example.org/blog/index.html" };
        let feeds = linked_feeds(page.as_bytes(), &hints).into_iter();
        feeds.map(|feed| format!("{} {}", feed.url, feed.title).trim().to_owned()).collect()
    }

    #[test]
    fn a_page_links_to_its_feeds() {
        let page = r#"<!DOCTYPE html><html><head><title>B</title>
            <link rel="stylesheet" type="text/css" href="/s.css">
            <link rel=alternate type=application/rss+xml href=feed.xml title="A &amp; B">
            <LINK REL="home Alternate" TYPE="application/atom+xml; charset=utf-8" HREF='/atom?a=1&amp;b=2'/>
            <link rel="alternate" type="application/feed+json" href="//cdn.example.org/feed.json">
            <link rel="alternate" type="application/rss+xml" href="feed.xml">
            <link rel="alternate" hreflang="de" href="/de/">
            <link rel="alternate" type="application/json+oembed" href="/oembed">
            <link rel="alternate" type="application/rss+xml" href="javascript:alert(1)">
            <link rel="alternate" type="application/rss+xml">
            <!-- <link rel="alternate" type="application/rss+xml" href="/old"> -->
            <base href="/other/"><link rel="alternate" type="text/xml" href="last">"#;
        assert_eq!(
            linked(page),
            [
                "https://example.org/blog/feed.xml A & B",
                "https://example.org/atom?a=1&b=2",
                "https://cdn.example.org/feed.json",
                "https://example.org/other/last",
            ]
        );
        assert!(linked("no page at all").is_empty());
    }

    #[test]
    fn a_hostile_page_is_bounded() {
        let link = |n: usize| format!("<link rel=alternate type=application/rss+xml href=/{n}>");
        assert_eq!(linked(&(0..5_000).map(link).collect::<String>()).len(), FEEDS_MAX);
        for unit in ["<link ", "<link rel=\"", "<link rel=alternate href=", "<!--", "<"] {
            linked(&unit.repeat(PAGE_MAX / unit.len()));
        }
    }
}
