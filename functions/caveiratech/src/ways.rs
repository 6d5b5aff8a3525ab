//! The ways to a list of posts beside its pages: a feed, a sitemap, WordPress's interface. Bytes in, posts out.

use base::Result;
use feed::Hints;
use feed::text::html_to_text;
use jiff::Timestamp;
use page::text;
use quick_xml::events::Event;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::listing::{Teaser, post_address};
use crate::marks::without_marks;
use crate::when::{self, When};

/// Posts of one answer: as many as a sitemap may have addresses.
const POSTS_MAX: usize = 50_000;
/// Bytes of an address or a date in a sitemap.
const VALUE_MAX: usize = 8 << 10;
/// Sitemaps that an index of them may name.
const SITEMAPS_MAX: usize = 200;

/// How posts are listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// A feed, which holds the newest.
    Feed(Url),
    /// A sitemap, or an index of them.
    Sitemap(Url),
    /// WordPress's interface, at this address.
    WordPress(Url),
    /// Pages for people.
    Pages,
}

impl Way {
    /// Whether it lists all posts there are.
    pub(crate) fn is_whole(&self) -> bool {
        !matches!(self, Self::Feed(_))
    }

    /// As reports name it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Feed(url) => format!("the feed `{}`", base::address::masked(url)),
            Self::Sitemap(url) => format!("the sitemap `{}`", base::address::masked(url)),
            Self::WordPress(url) => {
                format!("WordPress's interface `{}`", base::address::masked(url))
            }
            Self::Pages => "its pages".to_owned(),
        }
    }
}

/// The posts of a feed, in its order; nothing where it is no feed.
pub fn of_feed(
    body: &[u8],
    content_type: Option<&str>,
    url: &Url,
    home: &Url,
) -> Option<Vec<Teaser>> {
    let hints = Hints { content_type, url: url.as_str() };
    let mut reader = feed::open(body, &hints).ok()?;
    let mut posts = Vec::new();
    while let Ok(Some(chunk)) = reader.next_chunk() {
        for entry in chunk.entries {
            let link =
                entry.original_link.as_deref().or(entry.link.as_deref()).or(entry.guid.as_deref());
            let Some((id, link)) = link.and_then(|link| post_address(home, link)) else { continue };
            let when = |at: Timestamp| When { at, is_relative: false };
            posts.push(Teaser {
                id,
                link,
                title: without_marks(&entry.title.unwrap_or_default()),
                summary: without_marks(
                    &entry.summary_html.as_deref().map(html_to_text).unwrap_or_default(),
                ),
                date: entry.published.or(entry.updated).map(when),
                edited: entry.updated,
            });
        }
        if posts.len() >= POSTS_MAX {
            break;
        }
    }
    Some(posts)
}

/// What a sitemap holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sitemap {
    /// Newest first where it says when each was edited; else those with the highest ids.
    pub posts: Vec<Teaser>,
    /// Further sitemaps, the last edited first.
    pub further: Vec<Url>,
}

/// Reads a sitemap or an index of them; nothing where it is neither. No entity but XML's own five is known, and nothing is kept
/// of what is nested, so neither makes it larger.
pub fn of_sitemap(
    body: &[u8],
    content_type: Option<&str>,
    url: &Url,
    home: &Url,
) -> Option<Sitemap> {
    let decoded = text(body, content_type);
    let mut reader = quick_xml::Reader::from_str(&decoded);
    reader.config_mut().check_end_names = false;
    let (mut posts, mut further) = (Vec::new(), Vec::new());
    let (mut is_sitemap, mut is_index) = (false, false);
    let (mut loc, mut edited, mut value) = (String::new(), String::new(), String::new());
    while posts.len() < POSTS_MAX {
        match reader.read_event() {
            Ok(Event::Start(tag)) => {
                value.clear();
                match word(tag.local_name().as_ref()) {
                    "urlset" => is_sitemap = true,
                    "sitemapindex" => is_index = true,
                    "url" | "sitemap" => {
                        loc.clear();
                        edited.clear();
                    }
                    _ => {}
                }
            }
            Ok(Event::Text(part)) => push(&mut value, word(&part)),
            Ok(Event::CData(part)) => push(&mut value, word(&part)),
            Ok(Event::GeneralRef(name)) => {
                let letter = match word(&name) {
                    "amp" => "&",
                    "lt" => "<",
                    "gt" => ">",
                    "quot" => "\"",
                    "apos" => "'",
                    _ => "",
                };
                push(&mut value, letter);
            }
            Ok(Event::End(tag)) => match word(tag.local_name().as_ref()) {
                "loc" => loc = value.trim().to_owned(),
                "lastmod" => edited = value.trim().to_owned(),
                "url" => {
                    if let Some((id, link)) = post_address(home, &loc) {
                        let edited =
                            when::utc(&edited).or_else(|| base::date::parse(&edited, None));
                        let (title, summary) = (String::new(), String::new());
                        posts.push(Teaser { id, link, title, summary, date: None, edited });
                    }
                }
                "sitemap" => {
                    if let Ok(url) = url.join(&loc)
                        && further.len() < SITEMAPS_MAX
                        && crate::listing::is_same_site(home, &url)
                    {
                        further.push((base::date::parse(&edited, None), url));
                    }
                }
                _ => {}
            },
            Ok(Event::Eof) | Err(_) => break,
            Ok(_) => {}
        }
    }
    posts.sort_by_key(|post| std::cmp::Reverse((post.edited, post.id)));
    // Without dates the last one has the newest posts.
    further.reverse();
    further.sort_by(|(one, _), (other, _)| other.cmp(one));
    let names_posts = |url: &Url| url.path().contains("post");
    if further.iter().any(|(_, url)| names_posts(url)) {
        further.retain(|(_, url)| names_posts(url));
    }
    let further = further.into_iter().map(|(_, url)| url).collect();
    (is_sitemap || is_index).then_some(Sitemap { posts, further })
}

fn word(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn push(value: &mut String, part: &str) {
    if value.len() + part.len() <= VALUE_MAX {
        value.push_str(part);
    }
}

/// The fields that WordPress is asked for.
pub(crate) const WORDPRESS_FIELDS: &str = "id,date_gmt,modified_gmt,link,title,excerpt";

#[derive(Deserialize)]
struct Item {
    link: String,
    date_gmt: Option<String>,
    modified_gmt: Option<String>,
    title: Option<Rendered>,
    excerpt: Option<Rendered>,
}

#[derive(Deserialize)]
struct Rendered {
    #[serde(default)]
    rendered: String,
}

/// The posts of a page of WordPress's interface; nothing where it is none.
pub fn of_wordpress(body: &[u8], home: &Url) -> Option<Vec<Teaser>> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let (serde_json::Value::Array(items), _) = base::json::bounded(body).ok()? else { return None };
    let plain = |part: Option<Rendered>| {
        without_marks(&part.map(|part| html_to_text(&part.rendered)).unwrap_or_default())
    };
    let items = items.into_iter().filter_map(|item| serde_json::from_value::<Item>(item).ok());
    let posts = items.filter_map(|item| {
        let (id, link) = post_address(home, &item.link)?;
        let at = item.date_gmt.as_deref().and_then(when::utc);
        Some(Teaser {
            id,
            link,
            title: plain(item.title),
            summary: plain(item.excerpt),
            date: at.map(|at| When { at, is_relative: false }),
            edited: item.modified_gmt.as_deref().and_then(when::utc),
        })
    });
    Some(posts.collect())
}

/// The address of a page of WordPress's interface.
///
/// # Errors
/// `Config`, where the home page's address takes no path.
pub(crate) fn wordpress(home: &Url) -> Result<Url> {
    home.join("wp-json/wp/v2/posts").map_err(|cause| {
        base::Error::config(format!("build an address below `{}`", base::address::masked(home)))
            .because(cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Url {
        Url::parse("https://caveiratech.com/").unwrap()
    }

    #[test]
    fn a_sitemap_gives_the_newest_first() {
        let body = br#"<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>
            <urlset><url><loc>https://caveiratech.com/post/a-1000001</loc><lastmod>2025-03-01</lastmod></url>
            <url><loc> https://caveiratech.com/post/b&amp;c-1000002&b; </loc><lastmod>2025-03-02T10:00:00Z</lastmod></url>
            <url><loc>https://caveiratech.com/sobre</loc></url><url><loc>https://evil.example/post/x-1000009</loc></url>"#;
        let sitemap = of_sitemap(body, None, &home(), &home()).unwrap();
        let ids: Vec<u64> = sitemap.posts.iter().map(|post| post.id).collect();
        assert_eq!(ids, [1_000_002, 1_000_001]);
        assert_eq!(sitemap.posts[0].link.path(), "/post/b&c-1000002");
    }

    #[test]
    fn an_index_gives_those_of_posts_the_last_edited_first() {
        let body = b"<sitemapindex><sitemap><loc>/wp-sitemap-posts-1.xml</loc></sitemap><sitemap><loc>/wp-sitemap-posts-2.xml</loc></sitemap>
            <sitemap><loc>/wp-sitemap-users-1.xml</loc></sitemap><sitemap><loc>https://evil.example/posts.xml</loc></sitemap></sitemapindex>";
        let further = of_sitemap(body, None, &home(), &home()).unwrap().further;
        let paths: Vec<&str> = further.iter().map(Url::path).collect();
        assert_eq!(paths, ["/wp-sitemap-posts-2.xml", "/wp-sitemap-posts-1.xml"]);
        assert_eq!(of_sitemap(b"<html><body>x", None, &home(), &home()), None);
    }

    #[test]
    fn wordpress_gives_posts_with_their_dates() {
        let body = br#"[{"id":1,"link":"https://caveiratech.com/post/a-1000001/","date_gmt":"2025-03-12T10:00:00","modified_gmt":"2025-03-13T10:00:00",
            "title":{"rendered":"A &amp; B"},"excerpt":{"rendered":"<p>Resumo</p>"}},{"id":2,"link":"https://caveiratech.com/pagina"},7]"#;
        let posts = of_wordpress(body, &home()).unwrap();
        assert_eq!(posts.len(), 1);
        assert_eq!((posts[0].title.as_str(), posts[0].summary.as_str()), ("A & B", "Resumo"));
        assert_eq!(posts[0].date.unwrap().at.to_string(), "2025-03-12T10:00:00Z");
        assert_eq!(of_wordpress(br#"{"code":"rest_no_route"}"#, &home()), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_them_panic(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
            xml in "(<urlset>|<url>|<loc>|</loc>|<lastmod>|</url>|&[a-z]*;|<!\\[CDATA\\[|\\]\\]>|.){0,60}") {
            let _ = of_sitemap(&body, None, &home(), &home());
            let _ = of_sitemap(xml.as_bytes(), None, &home(), &home());
            let _ = of_feed(&body, None, &home(), &home());
            let _ = of_wordpress(&body, &home());
        }
    }
}
