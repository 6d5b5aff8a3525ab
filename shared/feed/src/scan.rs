//! Markup into tokens, whatever its state: one pass, no recursion, each byte looked at a bounded number of times.
//!
//! Everything is a slice of the text. What is not markup by any reading is text, so nothing here fails.

use memchr::{memchr, memchr2, memmem};

/// More attributes than this on one tag are not read: real ones have a dozen.
const ATTRIBUTES_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag<'t> {
    pub(super) name: &'t str,
    pub(super) attributes: &'t str,
    pub(super) empty: bool,
    /// Where its `<` is, and where what follows begins.
    pub(super) from: usize,
    pub(super) to: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'t> {
    Start(Tag<'t>),
    End(Tag<'t>),
    Text(&'t str),
    Cdata {
        text: &'t str,
        closed: bool,
        from: usize,
    },
    Doctype(&'t str),
    /// A comment, a processing instruction, a stray closing.
    Nothing,
    /// The text ended; `true` if inside a tag.
    Eof {
        cut: bool,
    },
}

/// "There is none from here on", so that a missing terminator is searched for once and not once per opening.
#[derive(Debug, Clone, Copy)]
struct Absent {
    comment_end: usize,
    double_quote: usize,
    single_quote: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    at: usize,
    absent: Absent,
    /// The last search for the end of a CDATA section: from where, and what it found. Sections without an end of their own
    /// all find the same one.
    cdata: (usize, Option<usize>),
}

impl Position {
    pub(super) fn at(at: usize) -> Self {
        let never = usize::MAX;
        let absent = Absent { comment_end: never, double_quote: never, single_quote: never };
        Self { at, absent, cdata: (usize::MAX, None) }
    }

    pub(super) fn offset(&self) -> usize {
        self.at
    }
}

pub(super) struct Scanner<'t> {
    text: &'t str,
    position: Position,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self::resume(text, Position::at(0))
    }

    pub(super) fn resume(text: &'t str, position: Position) -> Self {
        Self { text, position }
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Goes on reading elsewhere; `to` must be a place where a token starts.
    pub(super) fn jump(&mut self, to: usize) {
        self.position.at = to;
    }

    pub(super) fn next(&mut self) -> Token<'t> {
        let bytes = self.text.as_bytes();
        let from = self.position.at;
        match (bytes.get(from), bytes.get(from + 1)) {
            (None, _) => Token::Eof { cut: false },
            (Some(b'<'), Some(b'!')) => self.declaration(from),
            (Some(b'<'), Some(b'?')) => {
                // An instruction is over at its first `>`: PHP code with a `>` in it is not worth the rest of a feed.
                let end = memchr(b'>', &bytes[from..]).map_or(bytes.len(), |at| from + at + 1);
                self.position.at = end;
                Token::Nothing
            }
            (Some(b'<'), Some(b'/')) => self.end_tag(from),
            (Some(b'<'), Some(first)) if starts_name(*first) => self.start_tag(from),
            _ => self.text(from),
        }
    }

    fn text(&mut self, from: usize) -> Token<'t> {
        let bytes = self.text.as_bytes();
        let mut at = from + usize::from(bytes[from] == b'<');
        while let Some(found) = memchr(b'<', &bytes[at..]) {
            at += found;
            if bytes
                .get(at + 1)
                .is_some_and(|next| starts_name(*next) || matches!(next, b'!' | b'?' | b'/'))
            {
                self.position.at = at;
                return Token::Text(&self.text[from..at]);
            }
            at += 1;
        }
        self.position.at = bytes.len();
        Token::Text(&self.text[from..])
    }

    fn declaration(&mut self, from: usize) -> Token<'t> {
        let rest = &self.text[from..];
        if rest.starts_with("<![CDATA[") {
            let start = from + 9;
            let (searched, found) = self.position.cdata;
            if start < searched || found.is_some_and(|end| end < start) {
                let found =
                    memmem::find(&self.text.as_bytes()[start..], b"]]>").map(|at| start + at);
                self.position.cdata = (start, found);
            }
            let end = self.position.cdata.1;
            let (text, closed) = match end {
                Some(end) => (&self.text[start..end], true),
                None => (&self.text[start..], false),
            };
            self.position.at = start + text.len() + if closed { 3 } else { 0 };
            return Token::Cdata { text, closed, from: start };
        }
        if rest.starts_with("<!--") {
            let start = from + 4;
            let end = absent_or(&mut self.position.absent.comment_end, start, || {
                memmem::find(&self.text.as_bytes()[start..], b"-->")
            });
            self.position.at = match end {
                Some(end) => end + 3,
                // A comment nobody closed is taken for its first line's worth, not for the rest of the feed.
                None => memchr(b'>', &self.text.as_bytes()[start..])
                    .map_or(self.text.len(), |at| start + at + 1),
            };
            return Token::Nothing;
        }
        if rest.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("<!doctype")) {
            let end = doctype_end(rest);
            self.position.at = from + end;
            return Token::Doctype(&rest[..end]);
        }
        if rest.as_bytes().get(2).is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'[') {
            self.position.at =
                memchr(b'>', rest.as_bytes()).map_or(self.text.len(), |at| from + at + 1);
            return Token::Nothing;
        }
        self.position.at = from + 2;
        Token::Text(&rest[..2])
    }

    fn end_tag(&mut self, from: usize) -> Token<'t> {
        let bytes = self.text.as_bytes();
        let name_from = from + 2;
        let mut name_to = name_from;
        while bytes.get(name_to).is_some_and(|byte| continues_name(*byte)) {
            name_to += 1;
        }
        if name_to == name_from {
            self.position.at = name_from;
            return Token::Text(&self.text[from..name_from]);
        }
        let mut to = name_to;
        loop {
            match bytes.get(to) {
                None => {
                    self.position.at = to;
                    return Token::Eof { cut: true };
                }
                Some(b'>') => {
                    to += 1;
                    break;
                }
                Some(b'<') => break,
                Some(_) => to += 1,
            }
        }
        self.position.at = to;
        Token::End(Tag {
            name: &self.text[name_from..name_to],
            attributes: "",
            empty: false,
            from,
            to,
        })
    }

    fn start_tag(&mut self, from: usize) -> Token<'t> {
        let bytes = self.text.as_bytes();
        let mut at = from + 1;
        while bytes.get(at).is_some_and(|byte| continues_name(*byte)) {
            at += 1;
        }
        let name = &self.text[from + 1..at];
        let attributes_from = at;
        loop {
            match bytes.get(at) {
                None => {
                    self.position.at = bytes.len();
                    return Token::Eof { cut: true };
                }
                Some(b'>') => break,
                Some(b'<') => return self.broken_tag(from, name, at),
                Some(quote @ (b'"' | b'\'')) if opens_value(&bytes[attributes_from..at]) => {
                    match self.value_end(*quote, at + 1) {
                        Some(end) => at = end,
                        None => at += 1,
                    }
                }
                Some(_) => at += 1,
            }
        }
        let inside = &self.text[attributes_from..at];
        let empty = inside.ends_with('/');
        self.position.at = at + 1;
        Token::Start(Tag {
            name,
            attributes: inside.strip_suffix('/').unwrap_or(inside),
            empty,
            from,
            to: at + 1,
        })
    }

    /// Where reading goes on after a value opened by `quote`: behind its end, or before the `>` of a tag that forgot it.
    fn value_end(&mut self, quote: u8, from: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let absent = match quote {
            b'"' => &mut self.position.absent.double_quote,
            _ => &mut self.position.absent.single_quote,
        };
        let end = absent_or(absent, from, || memchr(quote, &bytes[from..]))?;
        match memchr2(b'<', b'>', &bytes[from..end]) {
            // `title="a > b"` is fine, `href="x>text</a> <b c="y"` is a quote missing.
            Some(at)
                if bytes[from + at] == b'>' && memchr(b'<', &bytes[from + at..end]).is_some() =>
            {
                Some(from + at)
            }
            _ => Some(end + 1),
        }
    }

    /// A `<` where a tag should have ended: the tag of a feed is one all the same, other letters are text.
    fn broken_tag(&mut self, from: usize, name: &'t str, at: usize) -> Token<'t> {
        self.position.at = at;
        if super::names::is_structural(name) {
            let attributes = &self.text[from + 1 + name.len()..at];
            return Token::Start(Tag { name, attributes, empty: false, from, to: at });
        }
        Token::Text(&self.text[from..at])
    }
}

/// Searches unless it is known that nothing is there. `find` answers relative to `from`.
fn absent_or(
    absent_from: &mut usize,
    from: usize,
    find: impl FnOnce() -> Option<usize>,
) -> Option<usize> {
    if from >= *absent_from {
        return None;
    }
    let found = find().map(|at| from + at);
    if found.is_none() {
        *absent_from = from;
    }
    found
}

fn starts_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn continues_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'.') || byte >= 0x80
}

/// A quote opens a value after `=` only; elsewhere (`it's`) it is dirt.
fn opens_value(before: &[u8]) -> bool {
    before.iter().rev().take(16).find(|byte| !byte.is_ascii_whitespace()) == Some(&b'=')
}

/// The length of a DOCTYPE with its internal subset; declarations in it may hold `>` in quotes.
fn doctype_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let Some(close) = memchr(b'>', bytes) else { return text.len() };
    match memchr(b'[', &bytes[..close]) {
        None => close + 1,
        Some(open) => match memchr(b']', &bytes[open..]) {
            Some(at) => {
                memchr(b'>', &bytes[open + at..]).map_or(text.len(), |end| open + at + end + 1)
            }
            None => close + 1,
        },
    }
}

/// The attributes of a tag as written: name, and value with its references unresolved.
pub(super) fn attributes(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches(|c: char| {
                c.is_ascii_whitespace() || matches!(c, '/' | '"' | '\'' | ',')
            });
            if rest.is_empty() {
                return None;
            }
            let name_end =
                rest.find(|c: char| c.is_ascii_whitespace() || c == '=').unwrap_or(rest.len());
            let (name, after) = rest.split_at(name_end);
            let Some(value) = after.trim_start().strip_prefix('=').map(str::trim_start) else {
                rest = after;
                return Some((name, ""));
            };
            let quote = value.chars().next().filter(|c| *c == '"' || *c == '\'');
            let (value, after) = match quote {
                Some(quote) => {
                    let value = &value[1..];
                    match value.find(quote) {
                        Some(end) => (&value[..end], &value[end + 1..]),
                        None => (value, ""),
                    }
                }
                None => value
                    .split_at(value.find(|c: char| c.is_ascii_whitespace()).unwrap_or(value.len())),
            };
            rest = after;
            if !name.is_empty() {
                return Some((name, value));
            }
        }
    })
    .take(ATTRIBUTES_MAX)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "an Expect is written at the call")]
    fn check(text: &str, expected: Expect) {
        let mut scanner = Scanner::new(text);
        let mut seen = String::new();
        loop {
            let line = match scanner.next() {
                Token::Start(tag) => {
                    let values: Vec<_> = attributes(tag.attributes)
                        .map(|(name, value)| format!(" {name}={value}"))
                        .collect();
                    format!(
                        "<{}{}{}>",
                        tag.name,
                        values.concat(),
                        if tag.empty { " /" } else { "" }
                    )
                }
                Token::End(tag) => format!("</{}>", tag.name),
                Token::Text(text) => format!("{text:?}"),
                Token::Cdata { text, closed, .. } => format!("cdata {text:?} {closed}"),
                Token::Doctype(text) => format!("doctype {}", text.len()),
                Token::Nothing => "nothing".to_owned(),
                Token::Eof { cut } => {
                    seen.push_str(&format!("eof {cut}"));
                    break;
                }
            };
            seen.push_str(&line);
            seen.push('\n');
        }
        expected.assert_eq(&seen);
    }

    #[test]
    fn reads_well_formed_markup() {
        check(
            r#"<?xml version="1.0"?><!-- a > b --><a b="1 > 0" c='d"'>x &amp; y<![CDATA[<z>]]><e/></a>"#,
            expect![[r#"
                nothing
                nothing
                <a b=1 > 0 c=d">
                "x &amp; y"
                cdata "<z>" true
                <e />
                </a>
                eof false"#]],
        );
    }

    #[test]
    fn a_less_than_sign_in_text_is_text() {
        check(
            "<t>1 < 2 <3 x <- y <> z</t>",
            expect![[r#"
                <t>
                "1 < 2 <3 x <- y <> z"
                </t>
                eof false"#]],
        );
    }

    #[test]
    fn a_forgotten_quote_ends_with_its_tag() {
        check(
            r#"<a href="x>text</a> <b c="y">it's</b><i title=don't>"#,
            expect![[r#"
                <a href=x>
                "text"
                </a>
                " "
                <b c=y>
                "it's"
                </b>
                <i title=don't>
                eof false"#]],
        );
    }

    #[test]
    fn what_is_never_closed_ends_somewhere() {
        check(
            "<!-- a > b <c <item <t>x</t <![CDATA[y</t>",
            expect![[r#"
                nothing
                " b "
                "<c "
                <item>
                <t>
                "x"
                </t>
                cdata "y</t>" false
                eof false"#]],
        );
        check(
            "<a><b c='d",
            expect![[r#"
            <a>
            eof true"#]],
        );
    }

    #[test]
    fn a_doctype_ends_after_its_subset() {
        check(
            r#"<!DOCTYPE a [<!ENTITY b "c>d">]><a>"#,
            expect![[r#"
                doctype 32
                <a>
                eof false"#]],
        );
    }
}
