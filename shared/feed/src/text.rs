//! HTML to readable text in one pass: tags go, blocks become lines, white space is folded, references are resolved.
//!
//! The result is for reading and matching, not for showing in a browser: it is text again, `<` and all.

use std::borrow::Cow;

use memchr::{memchr, memchr3};

use super::decode::WINDOWS_1252_HIGH;
use super::entities;
use super::value::unwrapped_cdata;

/// An unclosed tag longer than this is taken for text, so that a stray `<a` does not cost the rest.
const UNCLOSED_TAG_MAX: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    None,
    Space,
    Line,
}

struct Folder {
    out: String,
    gap: Gap,
}

impl Folder {
    fn gap(&mut self, gap: Gap) {
        self.gap = self.gap.max(gap);
    }

    fn word(&mut self, word: &str) {
        if self.gap != Gap::None {
            if !self.out.is_empty() {
                self.out.push(if self.gap == Gap::Line { '\n' } else { ' ' });
            }
            self.gap = Gap::None;
        }
        self.out.push_str(word);
    }

    /// Appends a run without markup, folding its white space.
    fn run(&mut self, run: &str) {
        let bytes = run.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if is_space(bytes[at]) {
                self.gap(Gap::Space);
                at += 1;
                continue;
            }
            // Single blanks between words are kept as they are, so a line of prose is appended in one piece.
            let start = at;
            while at < bytes.len()
                && (!is_space(bytes[at])
                    || (bytes[at] == b' '
                        && bytes.get(at + 1).is_some_and(|next| !is_space(*next))))
            {
                at += 1;
            }
            self.word(&run[start..at]);
        }
    }
}

/// White space folded, no-break spaces and misread windows-1252 repaired, nothing else changed.
pub(super) fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    if memchr(0xc2, out.as_bytes()).is_none() {
        return out;
    }
    let repaired = |c: char| match u32::from(c) {
        high @ 0x80..=0x9f => WINDOWS_1252_HIGH[high as usize - 0x80],
        _ => c,
    };
    out.chars().map(repaired).collect()
}

pub(super) const CDATA_START: &str = "<![CDATA[";
pub(super) const CDATA_END: &str = "]]>";

/// Never fails and never looks at a byte more than a few times, whatever it is given.
///
/// The marks of a CDATA section that was written as references, or within another one, go; what it holds stays.
pub fn html_to_text(html: &str) -> String {
    let text = match memchr::memmem::find(html.as_bytes(), CDATA_START.as_bytes()) {
        None => without_tags(html),
        Some(_) => without_tags(&html.replace(CDATA_START, "").replace(CDATA_END, "")),
    };
    unwrapped_cdata(Cow::Owned(text)).into_owned()
}

fn without_tags(html: &str) -> String {
    let bytes = html.as_bytes();
    let mut folder = Folder { out: String::with_capacity(html.len()), gap: Gap::None };
    let mut missing = Missing::default();
    let mut at = 0;
    while let Some(found) = memchr3(b'<', b'&', 0xc2, &bytes[at..]) {
        let special = at + found;
        folder.run(&html[at..special]);
        at = match bytes[special] {
            b'<' => tag(html, special, &mut folder, &mut missing),
            b'&' => reference(html, special, &mut folder),
            // U+00A0, the no-break space, is white space here.
            _ if bytes.get(special + 1) == Some(&0xa0) => {
                folder.gap(Gap::Space);
                special + 2
            }
            _ => {
                // U+0080 to U+009F are windows-1252 that somebody took for latin-1.
                let end = special + 2;
                match bytes[special + 1] {
                    high @ 0x80..=0x9f => folder
                        .word(WINDOWS_1252_HIGH[usize::from(high) - 0x80].encode_utf8(&mut [0; 4])),
                    _ => folder.word(&html[special..end]),
                }
                end
            }
        };
    }
    folder.run(&html[at..]);
    folder.out
}

/// What has been searched for in vain, and so is not searched for again.
#[derive(Default)]
struct Missing {
    comment_end: bool,
    double_quote: bool,
    single_quote: bool,
    raw_end: bool,
    /// A tag's end with quotes heeded, and any `>` at all.
    tag_end: bool,
    greater: bool,
}

fn reference(html: &str, at: usize, folder: &mut Folder) -> usize {
    if let Some((name, length)) = entities::split(&html[at..]) {
        if matches!(name, "nbsp" | "#160" | "#xa0" | "#xA0" | "#32" | "#10" | "#13" | "#9") {
            folder.gap(Gap::Space);
            return at + length;
        }
        let mut value = String::new();
        if entities::resolve(name, &mut value) {
            folder.word(&value);
            return at + length;
        }
    }
    folder.word("&");
    at + 1
}

/// Handles the `<` at `at`; answers where reading goes on.
fn tag(html: &str, at: usize, folder: &mut Folder, missing: &mut Missing) -> usize {
    let bytes = html.as_bytes();
    let closing = bytes.get(at + 1) == Some(&b'/');
    let name_from = at + 1 + usize::from(closing);
    match bytes.get(name_from) {
        Some(first) if first.is_ascii_alphabetic() => {}
        Some(b'!') if html[name_from..].starts_with("!--") => {
            if !missing.comment_end {
                match memchr::memmem::find(&bytes[name_from + 3..], b"-->") {
                    Some(end) => return name_from + 3 + end + 3,
                    None => missing.comment_end = true,
                }
            }
            return memchr(b'>', &bytes[name_from..])
                .map_or(bytes.len(), |end| name_from + end + 1);
        }
        Some(b'!' | b'?') => {
            return memchr(b'>', &bytes[name_from..])
                .map_or(bytes.len(), |end| name_from + end + 1);
        }
        _ => {
            folder.word("<");
            return at + 1;
        }
    }
    let mut name_to = name_from;
    while bytes.get(name_to).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b':') {
        name_to += 1;
    }
    let Some(end) = tag_end(bytes, name_to, missing) else {
        if bytes.len() - at <= UNCLOSED_TAG_MAX {
            return bytes.len();
        }
        folder.word("<");
        return at + 1;
    };
    match meaning(&bytes[name_from..name_to]) {
        Meaning::Inline => {}
        Meaning::Cell => folder.gap(Gap::Space),
        Meaning::Block => folder.gap(Gap::Line),
        Meaning::Raw if closing || bytes[end - 2] == b'/' => {}
        Meaning::Raw => return raw_end(bytes, end, &bytes[name_from..name_to], missing),
    }
    end
}

/// Behind the `>` that ends a tag, quotes heeded.
fn tag_end(bytes: &[u8], from: usize, missing: &mut Missing) -> Option<usize> {
    if missing.greater {
        return None;
    }
    if missing.tag_end {
        let end = memchr(b'>', &bytes[from..]).map(|at| from + at + 1);
        missing.greater = end.is_none();
        return end;
    }
    let end = quoted_tag_end(bytes, from, missing);
    missing.tag_end = end.is_none();
    end
}

fn quoted_tag_end(bytes: &[u8], from: usize, missing: &mut Missing) -> Option<usize> {
    let mut at = from;
    loop {
        let found = at + memchr3(b'>', b'"', b'\'', &bytes[at..])?;
        let missing = match bytes[found] {
            b'>' => return Some(found + 1),
            b'"' => &mut missing.double_quote,
            _ => &mut missing.single_quote,
        };
        at = found + 1;
        // Only a quote right after `=` opens a value: `<a title=it's>`.
        if *missing || bytes[found - 1] != b'=' {
            continue;
        }
        match memchr(bytes[found], &bytes[at..]) {
            Some(end) => at += end + 1,
            None => *missing = true,
        }
    }
}

/// Behind the end tag of a `script` or `style`.
fn raw_end(bytes: &[u8], from: usize, name: &[u8], missing: &mut Missing) -> usize {
    if missing.raw_end {
        return from;
    }
    let mut at = from;
    while let Some(found) = memchr(b'<', &bytes[at..]) {
        at += found + 1;
        if bytes.get(at) == Some(&b'/')
            && bytes
                .get(at + 1..at + 1 + name.len())
                .is_some_and(|end| end.eq_ignore_ascii_case(name))
        {
            return memchr(b'>', &bytes[at..]).map_or(bytes.len(), |end| at + end + 1);
        }
    }
    missing.raw_end = true;
    bytes.len()
}

enum Meaning {
    Inline,
    Cell,
    Block,
    /// Its inside is code, not text.
    Raw,
}

fn meaning(name: &[u8]) -> Meaning {
    let mut buffer = [0; 10];
    let Some(lower) = buffer.get_mut(..name.len()) else { return Meaning::Inline };
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    match &*lower {
        b"p" | b"br" | b"div" | b"li" | b"ul" | b"ol" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5"
        | b"h6" | b"tr" | b"table" | b"blockquote" | b"pre" | b"hr" | b"section" | b"article"
        | b"header" | b"footer" | b"dd" | b"dt" | b"dl" | b"figure" | b"figcaption" | b"tbody"
        | b"thead" | b"form" | b"nav" | b"aside" | b"main" | b"center" | b"caption"
        | b"details" | b"summary" | b"option" | b"title" => Meaning::Block,
        b"td" | b"th" => Meaning::Cell,
        b"script" | b"style" | b"applet" => Meaning::Raw,
        _ => Meaning::Inline,
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\t' | b'\r' | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(html: &str, expected: &str) {
        assert_eq!(html_to_text(html), expected);
    }

    #[test]
    fn blocks_become_lines_and_white_space_is_folded() {
        check(
            "<p>Hello,\n  <b>wor</b>ld &amp;\u{a0} all</p><p>next<br/>line</p> ",
            "Hello, world & all\nnext\nline",
        );
        check("<table><tr><td>a</td><td>b</td></tr></table>", "a b");
    }

    #[test]
    fn scripts_styles_and_comments_are_dropped() {
        check(
            "a<script>if (1 < 2) { x('</p>') }</script>b<STYLE type='x'>p{}</style><!-- <p>c</p> -->d",
            "abd",
        );
        check("a<script>never closed <p>b</p>", "a");
        check("a<!-- never closed > b", "a b");
    }

    #[test]
    fn the_marks_of_a_cdata_section_go_and_its_text_stays() {
        check("<![CDATA[the <b>quay</b> is flooded]]>", "the quay is flooded");
        check("a <![CDATA[b <p>c]]></p> d", "a b\nc\nd");
        check("&lt;![CDATA[x &amp; y]]&gt;", "x & y");
        check("a[b[0]]> c", "a[b[0]]> c");
    }

    #[test]
    fn what_is_no_tag_stays() {
        check("1 < 2 && 3 > 2 <3 AT&T &bogus; &lt;b&gt;", "1 < 2 && 3 > 2 <3 AT&T &bogus; <b>");
        check(r#"<a title="1 > 0" href='x'>y</a><a title=it's>z</a> <img alt="cut"#, "yz");
        check("é ü ñ §\u{a0}1 it\u{92}s", "é ü ñ § 1 it’s");
    }

    #[test]
    fn hostile_input_takes_linear_time() {
        for piece in [
            "<", "<a", "<a \"", "<a b='", "<!--", "&", "&amp", "<script>", "</", "<a b=\">",
            "\u{c2}", " \n",
        ] {
            let html = piece.repeat(1_000_000 / piece.len());
            let started = std::time::Instant::now();
            html_to_text(&html);
            assert!(started.elapsed().as_secs() < 3, "{piece}");
        }
    }
}
