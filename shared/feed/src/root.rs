//! Finds where in a document the feed begins, and says what the document is where there is none.

use super::entities::{Declared, decode_into};
use super::entry::{FeedError, Kind};
use super::names;
use super::scan::{Position, Scanner, Token, attributes};

pub(super) struct Root {
    pub(super) kind: Kind,
    pub(super) version: String,
    pub(super) position: Position,
    pub(super) junk_before: bool,
}

/// Elements that PHP and proxies print before the document they break.
const NOISE: [&str; 6] = ["br", "b", "p", "font", "i", "span"];

pub(super) fn find(text: &str, declared: &mut Declared) -> Result<Root, FeedError> {
    let mut scanner = Scanner::new(text);
    let mut first: Option<&str> = None;
    let mut page = false;
    let mut junk_before = false;
    loop {
        match scanner.next() {
            Token::Start(tag) => {
                let local = names::split(tag.name).1.to_ascii_lowercase();
                let has = |wanted: &str| {
                    attributes(tag.attributes).any(|(name, _)| name.eq_ignore_ascii_case(wanted))
                };
                let found = match local.as_str() {
                    "rss" => Some(Kind::Rss),
                    "rdf" => Some(Kind::Rdf),
                    "feed" => Some(Kind::Atom),
                    "entry" if first.is_none() => Some(Kind::Atom),
                    "item" if first.is_none() => Some(Kind::Rss),
                    "channel" if first.is_none() => {
                        let cdf = tag.name == "CHANNEL"
                            || ["href", "lastmod", "base"].into_iter().any(has);
                        Some(if cdf { Kind::Cdf } else { Kind::Rss })
                    }
                    _ => None,
                };
                // A page may have `<feed>` in a script; one that says its version or namespace is meant.
                // What a DOCTYPE says of the root itself is no matter.
                if let Some(kind) = found.filter(|_| {
                    first.is_none() || !page || tag.attributes.contains("xmlns") || has("version")
                }) {
                    let version = version(kind, tag.attributes);
                    return Ok(Root {
                        kind,
                        version,
                        position: Position::at(tag.from),
                        junk_before,
                    });
                }
                page |= local == "html"
                    || (first.is_none()
                        && matches!(local.as_str(), "head" | "body" | "script" | "title" | "meta"));
                if NOISE.contains(&local.as_str()) {
                    junk_before = true;
                } else {
                    first.get_or_insert(tag.name);
                }
            }
            Token::Doctype(doctype) => {
                declared.read(doctype);
                page |= doctype.get(9..).is_some_and(|rest| {
                    rest.trim_start().get(..4).is_some_and(|name| name.eq_ignore_ascii_case("html"))
                });
            }
            Token::Text(text) => {
                junk_before |=
                    !text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}').is_empty();
            }
            Token::Eof { .. } => break,
            _ => {}
        }
    }
    match first {
        _ if page => Err(FeedError::html(&title(text))),
        Some(root) => Err(FeedError::not_a_feed(&format!("<{root}>"))),
        None => Err(FeedError::not_a_feed(text.trim())),
    }
}

fn version(kind: Kind, written: &str) -> String {
    let value = |wanted: &str| {
        attributes(written)
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value.trim().to_owned())
    };
    match kind {
        Kind::Rdf if written.to_ascii_lowercase().contains("netscape.com/rdf/simple/0.9") => {
            "0.90".to_owned()
        }
        Kind::Rdf => "1.0".to_owned(),
        Kind::Atom => value("version").unwrap_or_else(|| {
            let modern = written.to_ascii_lowercase().contains("w3.org/2005/atom");
            if modern { "1.0".to_owned() } else { String::new() }
        }),
        Kind::Rss | Kind::Cdf | Kind::Json => value("version").unwrap_or_default(),
    }
}

/// The title of a web page.
fn title(page: &str) -> String {
    let mut scanner = Scanner::new(page);
    let mut inside = false;
    loop {
        match scanner.next() {
            Token::Start(tag) if tag.name.eq_ignore_ascii_case("title") => inside = true,
            Token::Text(text) if inside => {
                let mut title = String::new();
                decode_into(text, &mut Declared::default(), &mut title);
                return title;
            }
            Token::End(_) if inside => return String::new(),
            Token::Eof { .. } => return String::new(),
            _ => {}
        }
    }
}
