//! A list page in any markup: the posts that it links to, each with what stands around its link.
//!
//! The ladder: `div.post` blocks that hold a link to a post, as both known markups have them; else every link to a post, in the
//! largest block around it that links to no other one. Classes of both markups say what is title, summary and date; without them
//! it is the nearest heading or the link's text, a paragraph, and whatever reads as a date.

use std::collections::{HashMap, HashSet};

use dom_query::{Document, NodeId, NodeRef, Selection};
use jiff::Timestamp;
use page::{line, one_line};
use stores::documents;
use url::Url;

use crate::marks::without_marks;
use crate::when::{self, When};

/// Links of one page that are looked at.
const LINKS_MAX: usize = 5_000;
/// Posts of one page.
pub const POSTS_MAX: usize = 500;
/// Digits of a post's id: 7 as known; fewer than 5 are a year or a number in a title.
const ID_DIGITS: std::ops::RangeInclusive<usize> = 5..=18;

/// What is looked for, for whoever has to repair it.
pub(crate) const LOOKED_FOR: &str = "`div.post a[href*=\"/post/\"]`, then any `a[href*=\"/post/\"]` whose address ends in an id of digits";

/// What a list says of a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Teaser {
    /// The digits at the end of its address.
    pub id: u64,
    pub link: Url,
    /// May be empty, as may be the summary.
    pub title: String,
    pub summary: String,
    pub date: Option<When>,
    /// When the list says that it was last edited.
    pub edited: Option<Timestamp>,
}

impl Teaser {
    /// By what a later list tells that nothing changed: what is said from now on (`há 2 horas`) is no part of it.
    pub(crate) fn fingerprint(&self) -> String {
        let date = self.date.filter(|when| !when.is_relative).map(|when| when.at.to_string());
        let edited = self.edited.map(|edited| edited.to_string());
        let mut all = documents::id(&[
            self.link.path(),
            &self.title,
            &self.summary,
            &date.unwrap_or_default(),
            &edited.unwrap_or_default(),
        ]);
        all.truncate(8);
        all
    }
}

/// A list page.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub posts: Vec<Teaser>,
    /// The highest number that a link to a page of the list shows.
    pub last_page: Option<u32>,
    /// The page's own title.
    pub title: String,
}

/// The id and the address of a post that a link at `base` leads to; nothing where it leads elsewhere.
pub fn post_address(base: &Url, href: &str) -> Option<(u64, Url)> {
    let mut url = base.join(href.trim()).ok()?;
    if !matches!(url.scheme(), "http" | "https") || !is_same_site(base, &url) {
        return None;
    }
    let (_, slug) = url.path().rsplit_once("/post/")?;
    let slug = slug.trim_end_matches('/');
    let slug = slug.rsplit('/').next()?;
    let digits = slug.len() - slug.trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
    let (before, id) = slug.split_at(slug.len() - digits);
    if !ID_DIGITS.contains(&digits) || !(before.is_empty() || before.ends_with('-')) {
        return None;
    }
    let id = id.parse().ok()?;
    url.set_fragment(None);
    url.set_query(None);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some((id, url))
}

/// Whether both are the same site: `www.` makes no difference.
pub(crate) fn is_same_site(one: &Url, other: &Url) -> bool {
    let host = |url: &Url| {
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        host.strip_prefix("www.").map(str::to_owned).unwrap_or(host)
    };
    host(one) == host(other) && one.port_or_known_default() == other.port_or_known_default()
        || host(one) == host(other) && one.port().is_none() && other.port().is_none()
}

/// Reads a list page that came from `base`.
pub fn read(document: &Document, base: &Url, now: Timestamp) -> Listing {
    let blocks = blocks(document, base);
    let posts = blocks.into_iter().take(POSTS_MAX).map(|block| block.teaser(now)).collect();
    Listing { posts, last_page: last_page(document), title: line_of(&document.select("title")) }
}

/// The highest number of the links to pages, whose text is `[n]`.
fn last_page(document: &Document) -> Option<u32> {
    let links = document.select("a[href*=\"/page/\"]");
    let numbers = links.nodes().iter().take(LINKS_MAX).filter_map(|link| {
        let text = line(link);
        text.trim_matches(['[', ']', ' ']).parse::<u32>().ok()
    });
    numbers.max()
}

fn line_of(selection: &Selection<'_>) -> String {
    selection.nodes().first().map(line).unwrap_or_default()
}

/// A post's links and what is around them.
struct Block<'d> {
    id: u64,
    link: Url,
    links: Vec<NodeRef<'d>>,
    around: NodeRef<'d>,
}

fn blocks<'d>(document: &'d Document, base: &Url) -> Vec<Block<'d>> {
    let all = document.select("a[href*=\"/post/\"]");
    let links = all.nodes().iter().take(LINKS_MAX).filter_map(|node| {
        let (id, url) = post_address(base, &node.attr("href")?)?;
        Some((id, url, *node))
    });
    let mut places: HashMap<u64, usize> = HashMap::new();
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for (id, link, node) in links {
        match places.get(&id) {
            Some(place) => blocks[*place].links.push(node),
            None => {
                places.insert(id, blocks.len());
                blocks.push(Block { id, link, links: vec![node], around: node });
            }
        }
    }
    // Which ancestors hold links to one post only.
    let mut holds: HashMap<NodeId, Option<u64>> = HashMap::new();
    for block in &blocks {
        for node in block.links.iter().flat_map(|link| link.ancestors_it(None)) {
            let held = holds.entry(node.id).or_insert(Some(block.id));
            if *held != Some(block.id) {
                *held = None;
            }
        }
    }
    let mut are_marked = false;
    for block in &mut blocks {
        let own = block.links[0].ancestors_it(None).take_while(|node| {
            holds.get(&node.id) == Some(&Some(block.id))
                && !node.has_name("body")
                && !node.has_name("html")
        });
        let mut widest = block.links[0];
        for node in own {
            widest = node;
            if is_post(&node) {
                are_marked = true;
                break;
            }
        }
        block.around = widest;
    }
    // Where the page marks its posts, others beside them are those of a sidebar.
    if are_marked {
        blocks.retain(|block| is_post(&block.around));
    }
    blocks
}

fn is_post(node: &NodeRef<'_>) -> bool {
    node.has_name("div") && node.has_class("post")
}

impl Block<'_> {
    fn teaser(self, now: Timestamp) -> Teaser {
        let around = Selection::from(self.around);
        let titles = ["h.post", "b.post", "h1", "h2", "h3", "h4"];
        let title = titles.iter().map(|of| without_marks(&line_of(&around.select(of))));
        let linked = self.links.iter().map(|link| without_marks(&line(link)));
        let title = title.chain(linked).find(|title| !title.is_empty()).unwrap_or_default();
        let summary = summary(&around, &title);
        let date = date(&around, now);
        Teaser { id: self.id, link: self.link, title, summary, date, edited: None }
    }
}

/// `p.summary_text`, else the first paragraph that is neither title nor date.
fn summary(around: &Selection<'_>, title: &str) -> String {
    let marked = without_marks(&line_of(&around.select("p.summary_text")));
    if !marked.is_empty() {
        return marked;
    }
    let paragraphs = around.select("p");
    let mut texts = paragraphs
        .nodes()
        .iter()
        .filter(|node| !is_date(node))
        .map(|node| without_marks(&line(node)));
    texts
        .find(|text| {
            !text.is_empty() && text != title && when::read(text, Timestamp::UNIX_EPOCH).is_none()
        })
        .unwrap_or_default()
}

fn is_date(node: &NodeRef<'_>) -> bool {
    node.class().is_some_and(|class| {
        class
            .split_whitespace()
            .any(|one| one.contains("date") || matches!(one, "data" | "grey" | "time"))
    })
}

/// `time[datetime]`, then elements that call themselves a date, then a whole date in any short text beside title and paragraphs.
pub(crate) fn date(around: &Selection<'_>, now: Timestamp) -> Option<When> {
    let stamped = around.select("time[datetime]");
    let stamped =
        stamped.nodes().iter().filter_map(|node| when::read(&node.attr("datetime")?, now));
    if let Some(date) = stamped.into_iter().next() {
        return Some(date);
    }
    let named = around.select("time, .date, .data, span.ui.text.grey, [class*=\"date\"]");
    if let Some(date) = named.nodes().iter().find_map(|node| when::find(&line(node), now)) {
        return Some(date);
    }
    let own: HashSet<NodeId> = around.nodes().iter().map(|node| node.id).collect();
    let short = around.select("span, small, em, i, div, li, td, p, b");
    short
        .nodes()
        .iter()
        .filter(|node| !own.contains(&node.id) && !node.has_class("summary_text"))
        .find_map(|node| when::find(&one_line(&node.immediate_text()), now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::parse("https://caveiratech.com/").unwrap()
    }

    fn posts(page: &str) -> Vec<Teaser> {
        let document = page::parse(page, || false).unwrap();
        read(&document, &base(), "2025-03-13T15:00:00Z".parse().unwrap()).posts
    }

    #[track_caller]
    fn check(page: &str, expected: &[(u64, &str, &str, Option<&str>)]) {
        let found: Vec<_> = posts(page)
            .into_iter()
            .map(|post| {
                (post.id, post.title, post.summary, post.date.map(|when| when.at.to_string()))
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(id, title, summary, date)| {
                (*id, (*title).to_owned(), (*summary).to_owned(), date.map(str::to_owned))
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn an_address_of_a_post_ends_in_its_id() {
        let of = |href: &str| post_address(&base(), href).map(|(id, url)| (id, url.to_string()));
        let link = "https://caveiratech.com/post/malware-burla-antivirus-6715616";
        assert_eq!(of(link), Some((6_715_616, link.to_owned())));
        assert_eq!(of("/post/malware-burla-antivirus-6715616/?utm_source=x#topo"), of(link));
        assert_eq!(
            of("https://www.caveiratech.com/post/6715616").map(|(id, _)| id),
            Some(6_715_616)
        );
        for other in [
            "/post/retrospectiva-2025",
            "/post/",
            "/page/2",
            "/posts/x-6715616",
            "https://evil.example/post/x-6715616",
            "javascript:alert(1)//post/x-6715616",
            "/post/x6715616",
            "/post/x-99999999999999999999999",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn the_markup_of_2025_is_read() {
        let page = r#"<div class="post"><div class="date">2025-03-12</div><a href="/post/um-1000001"><h class="post">🔹 Um</h></a>
            <p class="summary_text">🔸 Resumo de ontem</p></div>
            <div class="post"><div class="date">sem data</div><a href="/post/dois-1000002"><h class="post"></h></a></div>
            <aside><a href="/post/velho-1000000">Mais lido</a></aside><a href="/page/300">[300]</a>"#;
        check(
            page,
            &[
                (1_000_001, "Um", "Resumo de ontem", Some("2025-03-12T03:00:00Z")),
                (1_000_002, "", "", None),
            ],
        );
        let document = page::parse(page, || false).unwrap();
        assert_eq!(read(&document, &base(), Timestamp::UNIX_EPOCH).last_page, Some(300));
    }

    #[test]
    fn the_markup_of_2021_is_read() {
        check(
            r#"<div class="post"><b class="post"><a href="/post/um-1000001">Um</a></b><span class="ui text grey">12/03/2021</span><p>Resumo</p></div>"#,
            &[(1_000_001, "Um", "Resumo", Some("2021-03-12T03:00:00Z"))],
        );
    }

    #[test]
    fn an_unknown_markup_is_read_by_its_links() {
        check(
            r#"<main><article><h2><a href="/post/um-1000001">Um</a></h2><p class="meta"><small>12 de março de 2025</small></p><p>Resumo</p>
               <a href="/post/um-1000001#c">ler mais</a></article>
               <article><h2><a href="/post/dois-1000002">Dois</a></h2><small>há 2 horas</small></article></main>"#,
            &[
                (1_000_001, "Um", "Resumo", Some("2025-03-12T03:00:00Z")),
                (1_000_002, "Dois", "", Some("2025-03-13T13:00:00Z")),
            ],
        );
    }

    #[test]
    fn what_is_said_from_now_on_is_no_change() {
        let of = |date: &str| {
            posts(&format!(
                r#"<div class=post><a href="/post/a-1000001">A</a><i class=date>{date}</i></div>"#
            ))
        };
        assert_eq!(of("há 2 horas")[0].fingerprint(), of("há 3 horas")[0].fingerprint());
        assert_ne!(of("2025-03-12")[0].fingerprint(), of("2025-03-11")[0].fingerprint());
    }

    proptest::proptest! {
        #[test]
        fn no_page_makes_it_panic(page in "(<div class=post>|<a href=\"/post/a-1000001\">|</a>|</div>|<p>|<table>|<time datetime=x>|.){0,60}") {
            if let Ok(document) = page::parse(&page, || false) {
                let _ = read(&document, &base(), Timestamp::UNIX_EPOCH);
            }
        }
    }
}
