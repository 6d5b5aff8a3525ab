//! A page as a tree, within limits, and its readable part: the only place that parses HTML.
//!
//! `html5ever` takes a time for each tag that grows with the depth, builds open formatting elements anew in each paragraph, and
//! compares each attribute with those before it. So a page is given to it in pieces, and what has become of it is looked at
//! between them: nodes, depth, and time have limits, whatever the page tries. There are no entities but those of HTML.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use dom_query::{Document, NodeId, NodeRef};
use dom_smoothie::{Config, Readability, TextMode};
use html5ever::tendril::{StrTendril, TendrilSink as _};
use html5ever::tree_builder::TreeBuilderOpts;
use html5ever::{ParseOpts, parse_document};
use url::Url;

/// Bytes of a page.
pub const PAGE_MAX: u64 = 4 << 20;
/// Nodes of a page's tree; real ones have a few thousand.
pub const NODES_MAX: usize = 200_000;
/// Elements within each other; real pages have about thirty.
pub const DEPTH_MAX: usize = 256;
/// How long a page may take; real ones take milliseconds.
pub const TIME_MAX: Duration = Duration::from_secs(5);
/// Elements beyond which the readable part is not looked for.
const ELEMENTS_MAX: usize = 20_000;
/// The name that groups of `robots.txt` know us by; the `User-Agent` begins with it.
pub const ROBOT: &str = "minerva";
/// Bytes between two looks at what has become of the page.
const PIECE: usize = 2 << 10;

/// Why a page was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Nested more than [`DEPTH_MAX`] deep.
    TooDeep,
    /// More than [`NODES_MAX`] nodes.
    TooManyNodes,
    /// It took [`TIME_MAX`], or the run's time is over.
    TooSlow,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep => write!(f, "the page is nested more than {DEPTH_MAX} deep"),
            Self::TooManyNodes => write!(f, "the page has more than {NODES_MAX} nodes"),
            Self::TooSlow => write!(f, "the page takes more than {} s", TIME_MAX.as_secs()),
        }
    }
}

/// Parses a page; `is_over` is asked between its pieces.
///
/// # Errors
/// Which limit it passed.
pub fn parse(html: &str, is_over: impl Fn() -> bool) -> Result<Document, Unread> {
    let options = ParseOpts {
        tree_builder: TreeBuilderOpts { scripting_enabled: false, ..TreeBuilderOpts::default() },
        ..ParseOpts::default()
    };
    let mut parser = parse_document(Document::default(), options);
    let (began, mut rest) = (Instant::now(), html);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE.min(rest.len())));
        parser.process(StrTendril::from_slice(piece));
        rest = after;
        let document = &parser.tokenizer.sink.sink;
        document.errors.borrow_mut().clear();
        if document.tree.len() > NODES_MAX {
            return Err(Unread::TooManyNodes);
        }
        if open_depth(document) > DEPTH_MAX {
            return Err(Unread::TooDeep);
        }
        if began.elapsed() > TIME_MAX || is_over() {
            return Err(Unread::TooSlow);
        }
    }
    let document = parser.finish();
    if depth(&document) > DEPTH_MAX {
        return Err(Unread::TooDeep);
    }
    Ok(document)
}

/// How deep the parser is, as far as the last children tell.
fn open_depth(document: &Document) -> usize {
    let mut node = Some(document.root());
    let mut depth = 0;
    while let Some(last) = node {
        node = last.last_child();
        depth += 1;
        if depth > DEPTH_MAX {
            break;
        }
    }
    depth
}

/// The depth of the deepest node.
fn depth(document: &Document) -> usize {
    let mut depths: HashMap<NodeId, usize> = HashMap::new();
    let mut deepest = 0;
    for node in document.root().descendants_it() {
        let above = node.parent().and_then(|parent| depths.get(&parent.id).copied());
        let own = above.unwrap_or_default() + 1;
        deepest = deepest.max(own);
        depths.insert(node.id, own);
    }
    deepest
}

/// What of a page is worth reading, beside menus and footers.
pub struct Readable {
    /// Its text, a paragraph a line.
    pub text: String,
    /// Its tree.
    pub part: Document,
}

/// The readable part of a page that came from `base`; nothing where there is none, or more than is looked through.
pub fn readable(document: Document, base: &Url) -> Option<Readable> {
    let config = Config {
        max_elements_to_parse: ELEMENTS_MAX,
        disable_json_ld: true,
        text_mode: TextMode::Formatted,
        ..Config::default()
    };
    let reader = Readability::with_document(document, Some(base.as_str()), Some(config));
    let article = reader.and_then(|mut reader| reader.parse()).ok()?;
    let lines = article.text_content.lines().map(one_line).filter(|line| !line.is_empty());
    let text = lines.collect::<Vec<_>>().join("\n");
    // The part is as deep and as large as the page that it was cut from, so it needs no limits of its own.
    Some(Readable { text, part: Document::fragment(article.content) })
}

/// A node's text in one line.
pub fn line(node: &NodeRef<'_>) -> String {
    one_line(&node.text())
}

/// A text in one line: runs of white space, no-break spaces too, are one blank.
pub fn one_line(text: &str) -> String {
    text.split(|letter: char| letter.is_whitespace() || letter == '\u{a0}')
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The body of an answer as text.
pub fn text<'a>(body: &'a [u8], content_type: Option<&str>) -> Cow<'a, str> {
    feed::decode_text(body, content_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(html: &str) -> Result<usize, Unread> {
        parse(html, || false).map(|document| document.tree.len())
    }

    #[test]
    fn a_page_that_is_nested_too_deeply_is_refused_at_once() {
        let began = Instant::now();
        for open in ["<div>", "<b>", "<ul><li>", "<svg>", "<blockquote><p>"] {
            assert_eq!(read(&open.repeat(100_000)).unwrap_err(), Unread::TooDeep, "{open}");
        }
        // What stands before a table in the tree is no last child: nodes are counted as well.
        for open in ["<table><tr><div>", "<a href=x><table>"] {
            assert!(read(&open.repeat(100_000)).is_err(), "{open}");
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        assert!(read(&format!("{}x{}", "<div>".repeat(100), "</div>".repeat(100))).is_ok());
    }

    #[test]
    fn formatting_that_is_never_closed_does_not_multiply_without_end() {
        let bold: String = (0..200).map(|n| format!("<b id={n}>")).collect();
        let html = format!("{bold}{}", "<p>x".repeat(500_000));
        assert!(matches!(read(&html), Err(Unread::TooManyNodes | Unread::TooDeep)));
    }

    #[test]
    fn a_tag_of_endless_attributes_ends_in_time() {
        let attributes: String = (0..300_000).map(|n| format!("a{n} ")).collect();
        let began = Instant::now();
        let _ = read(&format!("<div {attributes}>"));
        assert!(began.elapsed() < TIME_MAX * 3, "{:?}", began.elapsed());
    }

    #[test]
    fn an_entity_is_one_of_html_and_nothing_grows() {
        let html = "<!DOCTYPE html [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]><p>&b;&eacute;&nbsp;x";
        let document = parse(html, || false).unwrap();
        assert!(document.select("p").text().contains('é'));
        assert!(!document.text().contains("aaaaaaaaaaaaaaaaaaaa"));
    }

    #[test]
    fn a_run_that_is_over_reads_no_further() {
        assert_eq!(parse("<p>x", || true).err(), Some(Unread::TooSlow));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(html in "(<[a-z/!]{0,4}|[ \"'=>a-z&;#]|<table>|<b id=|<p>|.){0,200}") {
            let _ = parse(&html, || false);
        }
    }
}
