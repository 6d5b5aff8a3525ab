//! Character references: the XML five, numbers, the HTML names, and what a document's own DOCTYPE declares.

use std::collections::HashMap;

use html_escape::NAMED_ENTITIES;

/// Longest name in the HTML list (`CounterClockwiseContourIntegral` has 31 bytes), with room for a document's own.
const NAME_MAX: usize = 40;
/// Bytes that a document's own entities may add in all: enough for any real feed, too few for "a billion laughs".
const EXPANSION_MAX: usize = 256 * 1024;
const DECLARED_MAX: usize = 512;
const NESTING_MAX: usize = 6;

/// The entities which a DOCTYPE declares inside the document. External ones are never fetched and stay as written.
#[derive(Debug, Default)]
pub(super) struct Declared {
    values: HashMap<String, String>,
    spent: usize,
    /// A `&` was met that starts no reference.
    pub(super) bare: bool,
}

impl Declared {
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Reads `<!ENTITY name "value">` out of a DOCTYPE; parameter entities and external ones are passed over.
    pub(super) fn read(&mut self, doctype: &str) {
        let mut rest = doctype;
        while let Some(at) = rest.find("<!ENTITY") {
            rest = rest[at + 8..].trim_start();
            if self.values.len() >= DECLARED_MAX {
                return;
            }
            let ends = |(_, c): &(usize, char)| c.is_whitespace() || matches!(c, '"' | '\'' | '>');
            let Some((name_end, _)) = rest.char_indices().take(NAME_MAX + 1).find(ends) else {
                continue;
            };
            let (name, after) = rest.split_at(name_end);
            let after = after.trim_start();
            let Some(quote) = after.chars().next().filter(|c| *c == '"' || *c == '\'') else {
                continue;
            };
            let Some(end) = after[1..].find(quote) else { return };
            if !name.is_empty() && name != "%" {
                self.values.entry(name.to_owned()).or_insert_with(|| after[1..=end].to_owned());
            }
            rest = &after[end + 2..];
        }
    }

    fn expand(&mut self, name: &str, out: &mut String, nesting: usize) -> bool {
        if nesting > NESTING_MAX || self.spent > EXPANSION_MAX {
            return false;
        }
        let Some(value) = self.values.get(name).cloned() else { return false };
        self.spent += value.len() + 16;
        let mut rest = value.as_str();
        while let Some(at) = memchr::memchr(b'&', rest.as_bytes()) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let (used, known) = match split(rest) {
                Some((inner, used))
                    if resolve(inner, out) || self.expand(inner, out, nesting + 1) =>
                {
                    (used, true)
                }
                _ => (1, false),
            };
            if !known {
                out.push('&');
            }
            rest = &rest[used..];
        }
        out.push_str(rest);
        true
    }
}

/// Appends `raw` with its references resolved; a `&` which starts none stays as it is.
pub(super) fn decode_into(raw: &str, declared: &mut Declared, out: &mut String) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'&', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match split(rest) {
            Some((name, used))
                if resolve(name, out)
                    || (!declared.is_empty() && declared.expand(name, out, 0)) =>
            {
                rest = &rest[used..];
            }
            found => {
                declared.bare |= found.is_none();
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
}

/// The name in `&name;` at the start of `text`, and the length of the whole.
pub(super) fn split(text: &str) -> Option<(&str, usize)> {
    let bytes = text.as_bytes();
    let mut end = 1;
    while let Some(byte) = bytes.get(end) {
        match byte {
            b';' if end > 1 => return Some((&text[1..end], end + 1)),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' if end <= NAME_MAX => {
                end += 1;
            }
            b'#' if end == 1 => end += 1,
            _ => return None,
        }
    }
    None
}

/// Appends what `name` (without `&` and `;`) stands for in XML or HTML; false if it stands for nothing.
pub(super) fn resolve(name: &str, out: &mut String) -> bool {
    let found = match name {
        "amp" => "&",
        "lt" => "<",
        "gt" => ">",
        "quot" => "\"",
        "apos" => "'",
        "nbsp" => "\u{a0}",
        _ => match name.strip_prefix('#') {
            Some(digits) => return number(digits).is_some_and(|c| append(c, out)),
            None => match NAMED_ENTITIES.binary_search_by(|(known, _)| known.cmp(&name.as_bytes()))
            {
                Ok(at) => NAMED_ENTITIES[at].1,
                Err(_) => return false,
            },
        },
    };
    out.push_str(found);
    true
}

fn append(character: char, out: &mut String) -> bool {
    // A reference to a control character (`&#0;`, `&#8;`) is noise that no field wants.
    if !character.is_control() || matches!(character, '\t' | '\n' | '\r') {
        out.push(character);
    }
    true
}

fn number(digits: &str) -> Option<char> {
    let code = match digits.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    match code {
        // Browsers read these as windows-1252, and so did whoever wrote `&#146;` for an apostrophe.
        0x80..=0x9f => Some(super::decode::WINDOWS_1252_HIGH[code as usize - 0x80]),
        _ => char::from_u32(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(doctype: &str, raw: &str, expected: &str) {
        let mut declared = Declared::default();
        declared.read(doctype);
        let mut out = String::new();
        decode_into(raw, &mut declared, &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn the_table_is_sorted_by_bytes() {
        assert!(NAMED_ENTITIES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn resolves_xml_html_and_numeric_references() {
        check("", "&lt;b&gt; &eacute;&hellip;&#65;&#x42;&#146;", "<b> é…AB’");
    }

    #[test]
    fn leaves_a_bare_ampersand_alone() {
        check(
            "",
            "AT&T & co?a=1&copy=2&amp;c=3 &unknown; &#xZZ; &",
            "AT&T & co?a=1&copy=2&c=3 &unknown; &#xZZ; &",
        );
    }

    #[test]
    fn expands_what_the_doctype_declares_but_nothing_external() {
        check(
            r#"<!DOCTYPE rss [<!ENTITY co "A &amp; B"><!ENTITY x SYSTEM "file:///etc/passwd">]>"#,
            "&co; &x;",
            "A & B &x;",
        );
    }

    #[test]
    fn a_billion_laughs_stay_small() {
        let mut doctype = String::from(r#"<!DOCTYPE x [<!ENTITY a0 "lollollollol">"#);
        for level in 1..12 {
            let inner = format!("&a{};", level - 1).repeat(10);
            doctype.push_str(&format!("<!ENTITY a{level} \"{inner}\">"));
        }
        let mut declared = Declared::default();
        declared.read(&doctype);
        let mut out = String::new();
        decode_into(&"&a11;&a6;&a5;".repeat(1000), &mut declared, &mut out);
        assert!(out.len() < 4 * EXPANSION_MAX, "{}", out.len());
    }
}
