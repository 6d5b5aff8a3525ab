//! A post's own page: title, text, dates, authors, references, and what its pop-ups say of CVEs.
//!
//! Each value has a ladder of its own, from the markups that are known over JSON-LD and `OpenGraph` to what any page has.

use std::collections::HashSet;

use dom_query::{Document, Selection};
use jiff::Timestamp;
use page::{line, one_line};
use serde_json::Value;
use url::Url;

use crate::listing::{self, is_same_site};
use crate::marks::without_marks;
use crate::when::{self, When};

/// Outgoing links of a post, and bytes of one.
const REFERENCES_MAX: usize = 200;
const REFERENCE_BYTES_MAX: usize = 8191;
/// Pop-ups of a post that are read.
const TOOLTIPS_MAX: usize = 500;
/// Blocks of JSON-LD, and objects in them, that are looked at.
const JSON_LD_MAX: usize = 20;

/// What a page says of its post; what it does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Post {
    pub title: String,
    pub summary: String,
    pub content: String,
    pub published: Option<When>,
    pub updated: Option<Timestamp>,
    pub authors: Vec<String>,
    /// Links that lead to other sites, each once.
    pub references: Vec<String>,
    /// What pop-ups show: CVE numbers, scores and their descriptions.
    pub tooltips: String,
}

impl Post {
    /// A page in which neither title nor text is found is no post.
    pub(crate) fn is_empty(&self) -> bool {
        self.title.is_empty() || self.content.is_empty() && self.summary.is_empty()
    }
}

/// Reads the page of a post that came from `base`. The tree is used up: the readable part is cut out of it.
pub fn read(document: Document, base: &Url, now: Timestamp) -> Post {
    let about = JsonLd::of(&document);
    let first = |all: &[&str]| {
        all.iter().map(|of| without_marks(&text(&document, of))).find(|text| !text.is_empty())
    };
    let meta = |names: &[&str]| names.iter().find_map(|name| meta(&document, name));
    let title = first(&["h.post", "b.post", "h1.post", "h1"])
        .or_else(|| meta(&["og:title"]))
        .or_else(|| about.text("headline"))
        .or_else(|| first(&["title"]))
        .unwrap_or_default();
    let summary = first(&["p.summary_text"])
        .or_else(|| meta(&["og:description", "description"]))
        .or_else(|| about.text("description"))
        .unwrap_or_default();
    let marked = document.select("div.post");
    let around = match marked.nodes().first() {
        Some(node) => Selection::from(*node),
        None => document.select("article, main"),
    };
    let instant = |text: Option<String>| text.and_then(|text| when::read(&text, now));
    let published = stamped(&around, now)
        .or_else(|| instant(about.text("datePublished")))
        .or_else(|| instant(meta(&["article:published_time"])))
        .or_else(|| listing::date(&around, now));
    let edited = about.text("dateModified").or_else(|| meta(&["article:modified_time"]));
    let updated = instant(edited).map(|when| when.at);
    let authors = about.authors();
    let tooltips = tooltips(&document);
    // A text that is marked is the text; else what reads like one.
    let details = document.select("p.post_details");
    let (content, references) = if details.is_empty() {
        readable(document, base)
    } else {
        let texts = details.nodes().iter().map(line).filter(|text| !text.is_empty());
        (texts.collect::<Vec<_>>().join("\n\n"), references(&details.select("a[href]"), base))
    };
    Post { title, summary, content, published, updated, authors, references, tooltips }
}

fn text(document: &Document, of: &str) -> String {
    document.select(of).nodes().first().map(line).unwrap_or_default()
}

fn meta(document: &Document, name: &str) -> Option<String> {
    let all = document.select("meta[content]");
    let named = |node: &&dom_query::NodeRef<'_>| {
        let is = |attribute: &str| {
            node.attr(attribute).is_some_and(|value| value.eq_ignore_ascii_case(name))
        };
        is("property") || is("name")
    };
    let content = all.nodes().iter().find(named)?.attr("content")?;
    Some(without_marks(&content)).filter(|text| !text.is_empty())
}

fn stamped(around: &Selection<'_>, now: Timestamp) -> Option<When> {
    let all = around.select("time[datetime]");
    all.nodes().iter().find_map(|node| when::read(&node.attr("datetime")?, now))
}

fn tooltips(document: &Document) -> String {
    let all = document.select(".cve-tooltip");
    let texts = all.nodes().iter().take(TOOLTIPS_MAX).map(|node| {
        let html = node.attr("data-html").or_else(|| node.attr("data-content")).unwrap_or_default();
        format!("{} {}", line(node), feed::text::html_to_text(&html))
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// The readable part of a page, and where its links lead.
fn readable(document: Document, base: &Url) -> (String, Vec<String>) {
    let whole = one_line(&document.select("article, main, div.post").text());
    match page::readable(document, base) {
        Some(readable) => (readable.text, references(&readable.part.select("a[href]"), base)),
        None => (whole, Vec::new()),
    }
}

/// Links to other sites, without those that only share the post.
fn references(links: &Selection<'_>, base: &Url) -> Vec<String> {
    let mut seen = HashSet::new();
    let urls = links.nodes().iter().filter_map(|link| base.join(link.attr("href")?.trim()).ok());
    urls.filter(|url| matches!(url.scheme(), "http" | "https") && !is_same_site(base, url))
        .filter(|url| !shares(url))
        .map(String::from)
        .filter(|url| url.len() <= REFERENCE_BYTES_MAX && seen.insert(url.clone()))
        .take(REFERENCES_MAX)
        .collect()
}

/// Whether a link only gives this post to a social network.
fn shares(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches("www.");
    match host {
        "wa.me" | "api.whatsapp.com" => true,
        "facebook.com" => {
            url.path().starts_with("/sharer") || url.path().starts_with("/dialog/share")
        }
        "twitter.com" | "x.com" => {
            url.path().starts_with("/intent") || url.path().starts_with("/share")
        }
        "linkedin.com" => url.path().starts_with("/share") || url.path().contains("sharing"),
        "t.me" | "telegram.me" => url.path().starts_with("/share"),
        _ => false,
    }
}

/// The object of JSON-LD that is an article.
struct JsonLd(Option<Value>);

impl JsonLd {
    fn of(document: &Document) -> Self {
        let scripts = document.select("script[type=\"application/ld+json\"]");
        let values = scripts.nodes().iter().take(JSON_LD_MAX).filter_map(|node| {
            base::json::bounded(node.text().trim().as_bytes()).ok().map(|(value, _)| value)
        });
        Self(values.flat_map(objects).find(is_article))
    }

    fn text(&self, name: &str) -> Option<String> {
        let text = self.0.as_ref()?.get(name)?.as_str()?;
        Some(without_marks(text)).filter(|text| !text.is_empty())
    }

    fn authors(&self) -> Vec<String> {
        let Some(author) = self.0.as_ref().and_then(|article| article.get("author")) else {
            return Vec::new();
        };
        let all = match author {
            Value::Array(all) => all.as_slice(),
            one => std::slice::from_ref(one),
        };
        let name = |one: &Value| one.get("name").unwrap_or(one).as_str().map(without_marks);
        let mut names: Vec<String> =
            all.iter().filter_map(name).filter(|name| !name.is_empty()).collect();
        names.dedup();
        names
    }
}

/// An object itself, those of a list, and those of its `@graph`.
fn objects(value: Value) -> Vec<Value> {
    match value {
        Value::Array(all) => all.into_iter().take(JSON_LD_MAX).flat_map(objects).collect(),
        Value::Object(mut fields) => match fields.remove("@graph") {
            Some(Value::Array(all)) => all.into_iter().take(JSON_LD_MAX).collect(),
            _ => vec![Value::Object(fields)],
        },
        _ => Vec::new(),
    }
}

fn is_article(value: &Value) -> bool {
    let is = |kind: &Value| {
        kind.as_str().is_some_and(|kind| kind.ends_with("Article") || kind == "BlogPosting")
    };
    match &value["@type"] {
        Value::Array(kinds) => kinds.iter().any(is),
        kind => is(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(page: &str) -> Post {
        let base = Url::parse("https://caveiratech.com/post/um-1000001").unwrap();
        read(page::parse(page, || false).unwrap(), &base, "2025-03-13T15:00:00Z".parse().unwrap())
    }

    #[test]
    fn the_markup_of_2021_is_read() {
        let post = post(
            r#"<nav><a href="https://elsewhere.example">Menu</a></nav><div class="post"><b class="post">▪️ Falha</b>
            <span class="ui text grey">12/03/2021</span>
            <p class="post_details">A falha <span class="cve-tooltip" data-html="&lt;b&gt;CVE-2021-26855&lt;/b&gt; crítica" data-cvss="9.8">ProxyLogon</span> em 8.8.4[.]4,
            veja <a href="https://msrc.example/x?a=1&amp;b=2">aqui</a> ou <a href="/page/2">ali</a>.</p><p class="post_details">Fim.</p>
            <a href="https://wa.me/?text=x">Zap</a></div>"#,
        );
        assert_eq!(post.title, "Falha");
        assert_eq!(post.content, "A falha ProxyLogon em 8.8.4[.]4, veja aqui ou ali.\n\nFim.");
        assert_eq!(post.references, ["https://msrc.example/x?a=1&b=2"]);
        assert!(post.tooltips.contains("CVE-2021-26855"), "{}", post.tooltips);
        assert_eq!(post.published.unwrap().at.to_string(), "2021-03-12T03:00:00Z");
    }

    #[test]
    fn an_unknown_markup_is_read_by_json_ld_and_readability() {
        let text = "Um grupo explorou a falha em servidores expostos durante semanas, segundo a análise publicada. ".repeat(6);
        let post = post(&format!(
            r#"<head><meta property="og:title" content="Título"><meta property="og:description" content="Resumo">
            <script type="application/ld+json">{{"@graph":[{{"@type":"WebSite"}},{{"@type":"NewsArticle","headline":"H","datePublished":"2025-03-12T14:30:00-03:00","dateModified":"2025-03-13","author":{{"name":"Ana"}}}}]}}</script></head>
            <body><nav>Menu Sobre</nav><article><p>{text}</p><p>{text} <a href="https://blog.example/r">fonte</a></p></article><footer>Todos os direitos</footer></body>"#
        ));
        assert_eq!((post.title.as_str(), post.summary.as_str()), ("Título", "Resumo"));
        assert_eq!(post.published.unwrap().at.to_string(), "2025-03-12T17:30:00Z");
        assert_eq!(post.updated.unwrap().to_string(), "2025-03-13T03:00:00Z");
        assert_eq!(post.authors, ["Ana"]);
        assert_eq!(post.references, ["https://blog.example/r"]);
        assert!(post.content.contains("Um grupo") && !post.content.contains("Todos os direitos"));
    }

    #[test]
    fn a_challenge_page_is_no_post() {
        assert!(post("<title>Just a moment...</title><script>x</script>").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_page_makes_it_panic(page in "(<div class=post>|<a href=http://a>|</a>|</div>|<p class=post_details>|<table>|<br>|<script type=\"application/ld+json\">|</script>|[\\[\\]{}\":,@]|.){0,60}") {
            if let Ok(document) = page::parse(&page, || false) {
                let _ = read(document, &Url::parse("https://a.example/").unwrap(), Timestamp::UNIX_EPOCH);
            }
        }
    }
}
