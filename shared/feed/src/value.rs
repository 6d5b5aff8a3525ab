//! From an element as written to the value it stands for: references, CDATA, escaping modes, base64, inline XHTML.

use std::borrow::Cow;

use url::Url;

use super::entities::{Declared, decode_into};
use super::names;
use super::scan::{Scanner, Token, attributes};
use super::text::{CDATA_END, CDATA_START};
use super::walk::Raw;

/// A text and whether it is HTML.
#[derive(Debug)]
pub(super) struct Markup<'t> {
    pub(super) text: Cow<'t, str>,
    pub(super) html: bool,
}

/// What to take a text for when its element does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untyped {
    Html,
    Text,
    /// RSS titles: text by the letter, often HTML in fact.
    Guess,
}

/// The value of a plain field, also where its CDATA section is written as references.
pub(super) fn text<'t>(raw: &Raw<'t>, declared: &mut Declared) -> Cow<'t, str> {
    unwrapped_cdata(plain(raw, declared))
}

/// The inside of a text that is a CDATA section by its letters: written as references, or within another one.
pub(super) fn unwrapped_cdata(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.strip_prefix(CDATA_START) {
        None => text,
        Some(inside) => {
            let inside = inside.strip_suffix(CDATA_END).unwrap_or(inside);
            Cow::Owned(inside.trim().to_owned())
        }
    }
}

/// The value of a plain field; tags inside it are dropped, and elements of feeds whole.
pub(super) fn plain<'t>(raw: &Raw<'t>, declared: &mut Declared) -> Cow<'t, str> {
    if !raw.mixed && !raw.markup {
        return decoded(raw.text, declared);
    }
    if let Some(inside) = sole_cdata(raw.text) {
        return Cow::Borrowed(inside.trim());
    }
    let mut out = String::with_capacity(raw.text.len());
    // An element that is left out, and how many of its name are open.
    let mut left_out: Option<(&str, usize)> = None;
    each(raw.text, |token| match (token, &mut left_out) {
        (Token::Start(tag), Some((name, open))) if tag.name == *name && !tag.empty => *open += 1,
        (Token::Start(tag), None) if !tag.empty && names::is_of_feeds(tag.name) => {
            left_out = Some((tag.name, 1));
        }
        (Token::End(tag), Some((name, open))) if tag.name == *name => {
            *open -= 1;
            if *open == 0 {
                left_out = None;
            }
        }
        (Token::Text(text), None) => {
            decode_into(text, declared, &mut out);
        }
        (Token::Cdata { text, .. }, None) => out.push_str(text),
        _ => {}
    });
    trimmed(Cow::Owned(out))
}

/// The value of a title, a summary or a content.
pub(super) fn markup<'t>(raw: &Raw<'t>, untyped: Untyped, declared: &mut Declared) -> Markup<'t> {
    let mut kind = Cow::Borrowed("");
    let mut mode = "";
    for (name, value) in attributes(raw.attributes) {
        match name {
            "type" | "TYPE" => kind = Cow::Borrowed(value.trim()),
            "mode" => mode = value.trim(),
            _ => {}
        }
    }
    if kind.bytes().any(|byte| byte.is_ascii_uppercase()) {
        kind = Cow::Owned(kind.to_ascii_lowercase());
    }
    let kind = kind.split(';').next().unwrap_or_default().trim_end();
    if raw.markup {
        return Markup { text: Cow::Owned(inline(raw.text, declared)), html: true };
    }
    let text = plain(raw, declared);
    let html = match kind {
        "html" | "text/html" | "xhtml" | "application/xhtml+xml" | "application/html+xml" => true,
        "text" | "text/plain" | "plain" => false,
        "" => match untyped {
            Untyped::Html => true,
            Untyped::Text => false,
            Untyped::Guess => looks_like_html(&text),
        },
        other => other.ends_with("xml"),
    };
    let binary = !matches!(kind, "" | "text" | "html" | "xhtml" | "plain")
        && !kind.starts_with("text/")
        && !kind.ends_with("xml");
    if (mode == "base64" || (binary && kind.contains('/')))
        && let Some(text) = base64(&text)
    {
        let html = html || (mode == "base64" && (kind.is_empty() || kind.contains("html")));
        return Markup { text: trimmed(Cow::Owned(text)), html };
    }
    Markup { text, html }
}

/// An end tag or a character reference, as feedparser has it: a lone `<` is no evidence.
pub(super) fn looks_like_html(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(at) = memchr::memchr2(b'<', b'&', &bytes[from..]) {
        let at = from + at;
        match (bytes[at], bytes.get(at + 1)) {
            (b'<', Some(b'/')) if bytes.get(at + 2).is_some_and(u8::is_ascii_alphabetic) => {
                return true;
            }
            (b'&', Some(_)) => {
                let mut unused = String::new();
                if super::entities::split(&text[at..])
                    .is_some_and(|(name, _)| super::entities::resolve(name, &mut unused))
                {
                    return true;
                }
            }
            _ => {}
        }
        from = at + 1;
    }
    false
}

fn decoded<'t>(text: &'t str, declared: &mut Declared) -> Cow<'t, str> {
    if memchr::memchr(b'&', text.as_bytes()).is_none() {
        return Cow::Borrowed(text.trim());
    }
    let mut out = String::with_capacity(text.len());
    decode_into(text, declared, &mut out);
    trimmed(Cow::Owned(out))
}

/// An attribute's value.
pub(super) fn attribute<'t>(text: &'t str, declared: &mut Declared) -> Cow<'t, str> {
    decoded(text, declared)
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(mut text) => {
            text.truncate(text.trim_end().len());
            let start = text.len() - text.trim_start().len();
            if start > 0 {
                text.drain(..start);
            }
            Cow::Owned(text)
        }
    }
}

/// The inside of a CDATA section that is all there is.
fn sole_cdata(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("<![CDATA[")?;
    let end = memchr::memmem::find(inside.as_bytes(), b"]]>")?;
    (end + 3 == inside.len()).then(|| &inside[..end])
}

fn each<'t>(text: &'t str, mut take: impl FnMut(Token<'t>)) {
    let mut scanner = Scanner::new(text);
    loop {
        match scanner.next() {
            Token::Eof { .. } => return,
            token => take(token),
        }
    }
}

/// Elements inside a field as HTML: prefixes and namespaces go, references stay, one `div` around everything goes.
fn inline(text: &str, declared: &mut Declared) -> String {
    let mut out = String::with_capacity(text.len());
    each(text, |token| match token {
        Token::Text(text) if declared.is_empty() => out.push_str(text),
        Token::Text(text) => {
            let mut value = String::new();
            decode_into(text, declared, &mut value);
            escape_into(&value, &mut out);
        }
        Token::Cdata { text, .. } => escape_into(text, &mut out),
        Token::Start(tag) => {
            out.push('<');
            out.push_str(names::split(tag.name).1);
            for (name, value) in
                attributes(tag.attributes).filter(|(name, _)| !name.starts_with("xmlns"))
            {
                out.push(' ');
                out.push_str(name);
                out.push_str("=\"");
                out.push_str(&value.replace('"', "&quot;"));
                out.push('"');
            }
            out.push_str(if tag.empty { "/>" } else { ">" });
        }
        Token::End(tag) => {
            out.push_str("</");
            out.push_str(names::split(tag.name).1);
            out.push('>');
        }
        _ => {}
    });
    unwrapped(out.trim()).unwrap_or_else(|| trimmed(Cow::Owned(out)).into_owned())
}

fn unwrapped(html: &str) -> Option<String> {
    let inside = html.strip_prefix("<div")?.strip_suffix("</div>")?;
    let inside = match inside.split_once('>') {
        Some((attributes, inside)) if !attributes.contains('<') && !attributes.ends_with('/') => {
            inside
        }
        _ => return None,
    };
    // Two `div`s side by side are not one around everything.
    (!inside.contains("<div")).then(|| inside.trim().to_owned())
}

pub(super) fn escape_into(text: &str, out: &mut String) {
    for piece in text.split_inclusive(['&', '<', '>']) {
        let (plain, special) = match piece.chars().next_back() {
            Some('&') => (&piece[..piece.len() - 1], "&amp;"),
            Some('<') => (&piece[..piece.len() - 1], "&lt;"),
            Some('>') => (&piece[..piece.len() - 1], "&gt;"),
            _ => (piece, ""),
        };
        out.push_str(plain);
        out.push_str(special);
    }
}

fn base64(text: &str) -> Option<String> {
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0_u32);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ if byte.is_ascii_whitespace() => continue,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    String::from_utf8(bytes)
        .ok()
        .map(|text| super::decode::without_controls(text.into()).into_owned())
}

/// A link made absolute where there is a base to do it with; whatever cannot be resolved stays as it is.
pub(super) fn resolved<'t>(link: Cow<'t, str>, base: Option<&Url>) -> Cow<'t, str> {
    if is_absolute(&link) || link.is_empty() {
        return link;
    }
    match base.and_then(|base| base.join(&link).ok()) {
        Some(url) => Cow::Owned(url.into()),
        None => link,
    }
}

fn is_absolute(link: &str) -> bool {
    let scheme_end = link
        .bytes()
        .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')));
    scheme_end.is_some_and(|end| end > 0 && link.as_bytes()[end] == b':')
        && link.as_bytes()[0].is_ascii_alphabetic()
}

/// The name in `a@b.example (Name)`, `Name <a@b.example>` or an Atom person.
pub(super) fn author<'t>(raw: &Raw<'t>, declared: &mut Declared) -> Cow<'t, str> {
    if raw.markup {
        let (mut name, mut email, mut within) = (String::new(), String::new(), "");
        each(raw.text, |token| match token {
            Token::Start(tag) if !tag.empty => within = names::split(tag.name).1,
            Token::Start(_) | Token::End(_) => within = "",
            Token::Text(text) if within.eq_ignore_ascii_case("name") => {
                decode_into(text, declared, &mut name);
            }
            Token::Text(text) if within.eq_ignore_ascii_case("email") => {
                decode_into(text, declared, &mut email);
            }
            Token::Cdata { text, .. } if within.eq_ignore_ascii_case("name") => name.push_str(text),
            _ => {}
        });
        let found = if name.trim().is_empty() { email } else { name };
        if !found.trim().is_empty() {
            return trimmed(Cow::Owned(found));
        }
    }
    person(text(raw, declared))
}

/// The name of `a@b.example (Name)`, `Name (a@b.example)` or `Name <a@b.example>`; else the whole.
pub(super) fn person(text: Cow<'_, str>) -> Cow<'_, str> {
    let name = match (text.find('('), text.find('<')) {
        (Some(open), _) if text.ends_with(')') => {
            let (before, inside) = (&text[..open], &text[open + 1..text.len() - 1]);
            match () {
                () if before.contains('@') => inside,
                () if is_mail(inside) => before,
                () => return text,
            }
        }
        (None, Some(open)) if text[open..].contains('@') && open > 0 => &text[..open],
        _ => return text,
    };
    match name.trim() {
        "" => text,
        name => Cow::Owned(name.to_owned()),
    }
}

fn is_mail(text: &str) -> bool {
    let text = text.trim();
    text.split_once('@').is_some_and(|(local, host)| {
        !local.is_empty() && host.contains('.') && !text.contains(char::is_whitespace)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_white_space_in_it() {
        assert_eq!(base64("RXhhbXBs\n ZSA8Yj4=").as_deref(), Some("Example <b>"));
        assert_eq!(base64("not base64!"), None);
    }

    #[test]
    fn a_name_is_parted_from_its_mail_address() {
        for (written, name) in [
            ("jane@a.example (Jane)", "Jane"),
            ("Jane (jane@a.example)", "Jane"),
            ("Jane Doe <jane@a.example>", "Jane Doe"),
            ("Jane (the editor)", "Jane (the editor)"),
            ("(jane@a.example)", "(jane@a.example)"),
            ("jane@a.example", "jane@a.example"),
        ] {
            assert_eq!(person(Cow::Borrowed(written)), name);
        }
    }

    #[test]
    fn a_title_is_html_on_evidence_only() {
        assert!(looks_like_html("a <b>c</b>") && looks_like_html("a &amp; b"));
        assert!(!looks_like_html("Vec<String> & 5 < 6 AT&T;"));
    }

    #[test]
    fn links_are_resolved_where_they_are_relative() {
        let base = Url::parse("http://a.example/b/c").expect("a literal");
        for (link, expected) in [
            ("d?e", "http://a.example/b/d?e"),
            ("//x.example/y", "http://x.example/y"),
            ("mailto:a@b", "mailto:a@b"),
            ("http://x/", "http://x/"),
        ] {
            assert_eq!(resolved(Cow::Borrowed(link), Some(&base)), expected);
        }
        assert_eq!(resolved(Cow::Borrowed("d"), None), "d");
    }
}
