//! A list of any length, part by part: rows of cells, free text, or the texts of a JSON document, and what in it has a type.
//!
//! Between two parts nothing is held but the line or row that is not whole yet, within [`PIECE_MAX`]. The `csv` crate knows
//! neither parting texts of several letters, nor a space before a quote, nor what to do with a quote that is never closed.

use base::date;
use jiff::Timestamp;
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::event::short;
use crate::feeds::{Feed, Format, MoreColumns};
use crate::freetext::{Typed, resolve, words};

/// Bytes of a line, a row or a text: what is longer is read in pieces, or passed over where it has no end of a word.
pub const PIECE_MAX: usize = 64 << 10;
/// Bytes that tell what a body is.
pub const HEAD: usize = 512;
/// Tags of a cell.
const TAGS_MAX: usize = 50;

/// Where a list is read on, to be kept in a cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Bytes of the body that were read: everything before them was handed out.
    pub offset: u64,
    /// Whether the body is a JSON document.
    pub is_json: bool,
    /// Whether the rest of a piece without an end is passed over.
    pub is_skipping: bool,
}

/// What a list turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Rows,
    Text,
    Json,
}

/// One thing that a list gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Something with a type, and what else its row says of it.
    Typed(Typed, Box<Facts>),
    /// Something with a type that the feed's settings exclude.
    Excluded,
    /// A cell that should have a type and has none.
    Untyped(String),
}

/// What a list says of an indicator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The word or cell as it stands there.
    pub raw: String,
    pub first_seen: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    pub malware: Option<String>,
    pub tags: Vec<String>,
    pub comment: Option<String>,
    pub reference: Option<String>,
    pub confidence: Option<u8>,
    pub port: Option<u16>,
}

/// Reads a list.
pub struct Reader<'f> {
    feed: &'f Feed,
    excluded: Option<Regex>,
    form: Option<Form>,
    buffer: Vec<u8>,
    place: Place,
    is_first_row: bool,
    has_text: bool,
    has_remarks: bool,
    /// Whether the beginning may be the end of something else.
    is_ragged: bool,
}

impl<'f> Reader<'f> {
    /// Reads a list of this feed from a place in its body on.
    ///
    /// # Errors
    /// `Config`: the feed's settings cannot be used.
    pub fn new(feed: &'f Feed, place: Place) -> base::Result<Self> {
        let form = match (place.offset, feed.format, place.is_json) {
            (0, ..) => None,
            (_, Format::Csv, _) => Some(Form::Rows),
            (.., true) => Some(Form::Json),
            _ => Some(Form::Text),
        };
        Ok(Self {
            feed,
            excluded: feed.excluded()?,
            form,
            buffer: Vec::new(),
            place,
            is_first_row: place.offset == 0,
            has_text: place.offset > 0,
            has_remarks: false,
            is_ragged: false,
        })
    }

    /// Reads on in what may be another version, so that the place may be in the middle of something: up to the next line, or word,
    /// nothing is read. What comes next is the byte before the place.
    pub fn begin_ragged(&mut self) {
        self.is_ragged = true;
        self.place.offset = self.place.offset.saturating_sub(1);
    }

    /// Where in the body to go on.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Whether anything came that is no remark, white space or header below a remark.
    pub fn has_text(&self) -> bool {
        self.has_text
    }

    /// Takes the next part of the body, and hands out what is whole; at the end of the body everything.
    pub fn push(&mut self, part: &[u8], is_end: bool, take: &mut impl FnMut(Found)) {
        self.buffer.extend_from_slice(part);
        let buffer = std::mem::take(&mut self.buffer);
        let mut at = 0;
        if self.form.is_none() {
            if buffer.len() < HEAD && !is_end {
                self.buffer = buffer;
                return;
            }
            at = if buffer.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
            let first = buffer[at..].iter().find(|byte| !byte.is_ascii_whitespace());
            self.form = Some(match (self.feed.format, first) {
                (Format::Csv, _) => Form::Rows,
                (_, Some(b'{')) => Form::Json,
                _ => Form::Text,
            });
            self.place.is_json = self.form == Some(Form::Json);
        }
        if self.is_ragged {
            let is_rows = self.form == Some(Form::Rows);
            let is_end_of_it = |byte: &u8| {
                *byte == b'\n' || (!is_rows && (byte.is_ascii_whitespace() || *byte == b','))
            };
            at = match buffer.iter().position(is_end_of_it) {
                Some(end) => {
                    self.is_ragged = false;
                    end + 1
                }
                None => buffer.len(),
            };
        }
        while at < buffer.len() {
            let rest = &buffer[at..];
            let read = match self.form {
                Some(Form::Rows) => self.row(rest, is_end, take),
                Some(Form::Json) => self.leaf(rest, is_end, take),
                _ => self.line(rest, is_end, take),
            };
            match read {
                0 => break,
                read => at += read,
            }
        }
        self.place.offset += at as u64;
        self.buffer = buffer;
        self.buffer.drain(..at);
    }

    /// Bytes of a line that can be read now, with its end; 0 when it is not whole.
    fn piece(&mut self, rest: &[u8], is_end: bool) -> usize {
        match memchr::memchr(b'\n', rest) {
            Some(end) if end < PIECE_MAX => end + 1,
            None if rest.len() < PIECE_MAX => {
                if is_end {
                    rest.len()
                } else {
                    0
                }
            }
            // Long lines are cut between words.
            _ => {
                let head = &rest[..PIECE_MAX.min(rest.len())];
                let is_end_of_word = |byte: &u8| {
                    byte.is_ascii_whitespace() || matches!(byte, b',' | b';' | b'<' | b'>')
                };
                match head.iter().rposition(is_end_of_word) {
                    Some(place) => place + 1,
                    None => {
                        self.place.is_skipping = true;
                        head.len()
                    }
                }
            }
        }
    }

    fn line(&mut self, rest: &[u8], is_end: bool, take: &mut impl FnMut(Found)) -> usize {
        let was_skipping = self.place.is_skipping;
        self.place.is_skipping = false;
        let length = self.piece(rest, is_end);
        if length == 0 {
            self.place.is_skipping = was_skipping;
            return 0;
        }
        if self.place.is_skipping {
            return length;
        }
        let text = String::from_utf8_lossy(&rest[..length]);
        let text = match was_skipping {
            // The end of a word whose beginning was passed over.
            true => text
                .split_once([' ', '\t', ',', ';', '<', '>', '\n'])
                .map_or("", |(_, rest)| rest)
                .trim(),
            false => text.trim(),
        };
        if self.feed.comments.as_ref().is_some_and(|mark| text.starts_with(mark.as_str())) {
            return length;
        }
        self.has_text |= !text.is_empty();
        self.text(text, take);
        length
    }

    fn text(&self, text: &str, take: &mut impl FnMut(Found)) {
        words(text, &mut |word| {
            let Some(typed) = resolve(word) else { return false };
            take(self.found(word, typed, &Facts::default()));
            true
        });
    }

    fn found(&self, word: &str, typed: Typed, facts: &Facts) -> Found {
        if self.excluded.as_ref().is_some_and(|excluded| excluded.is_match(word)) {
            return Found::Excluded;
        }
        let port = typed.port.or(facts.port);
        Found::Typed(typed, Box::new(Facts { raw: word.to_owned(), port, ..facts.clone() }))
    }

    /// The next text of a JSON document that is no key.
    fn leaf(&mut self, rest: &[u8], is_end: bool, take: &mut impl FnMut(Found)) -> usize {
        let end_of = |from: usize| {
            let mut at = from;
            loop {
                at += memchr::memchr2(b'"', b'\\', rest.get(at..)?)?;
                if rest[at] == b'"' {
                    return Some(at + 1);
                }
                at += 2;
            }
        };
        if self.place.is_skipping {
            return match end_of(0) {
                Some(end) => {
                    self.place.is_skipping = false;
                    end
                }
                // An escape may be cut at the end.
                None if rest.len() > 1 => rest.len() - usize::from(rest.ends_with(b"\\")),
                None if is_end => rest.len(),
                None => 0,
            };
        }
        let Some(begin) = memchr::memchr(b'"', rest) else { return rest.len() };
        let whole = end_of(begin + 1);
        let next =
            whole.and_then(|end| rest[end..].iter().find(|byte| !byte.is_ascii_whitespace()));
        let end = match (whole, next) {
            (Some(end), Some(_)) => end,
            (Some(end), None) if is_end => end,
            (None, _) if is_end => return rest.len(),
            // Wait for more, of a text that is not too long.
            _ if rest.len() - begin < PIECE_MAX => return begin,
            (Some(end), None) => end,
            (None, _) => {
                self.place.is_skipping = true;
                return begin + 1;
            }
        };
        if next != Some(&b':') && end - begin <= PIECE_MAX {
            self.has_text = true;
            let raw = &rest[begin..end];
            let text = serde_json::from_slice::<String>(raw)
                .unwrap_or_else(|_| String::from_utf8_lossy(&raw[1..raw.len() - 1]).into_owned());
            match resolve(&text) {
                Some(typed) => take(self.found(&text, typed, &Facts::default())),
                None => text.lines().for_each(|line| self.text(line, take)),
            }
        }
        end
    }

    fn row(&mut self, rest: &[u8], is_end: bool, take: &mut impl FnMut(Found)) -> usize {
        let delimiter = self.feed.delimiter().as_bytes();
        let (cells, length) = match row(rest, delimiter, is_end) {
            Row::Whole(cells, length) => (cells, length),
            Row::More if !is_end && rest.len() < PIECE_MAX => return 0,
            Row::More | Row::Malformed => {
                // A quote that is never closed, or a line without end: its first line without its quotes.
                let was_skipping = self.place.is_skipping;
                self.place.is_skipping = false;
                let length = self.piece(rest, is_end);
                if length == 0 || self.place.is_skipping || was_skipping {
                    return length;
                }
                (unquoted(&rest[..length], delimiter), length)
            }
        };
        let cells: Vec<&str> = cells.iter().map(|cell| bare(cell)).collect();
        let is_remark = cells[0].starts_with('#');
        self.has_remarks |= is_remark;
        if is_remark || cells.iter().all(|cell| cell.is_empty()) {
            return length;
        }
        let is_first = std::mem::take(&mut self.is_first_row);
        self.has_text |= !is_first || !self.has_remarks;
        let csv = &self.feed.settings.csv;
        let facts = Facts::of(&cells, &csv.more);
        let is_chosen = |place: &usize| csv.value.is_empty() || csv.value.contains(&(place + 1));
        for cell in (0..cells.len()).filter(is_chosen).map(|place| cells[place]) {
            if cell.is_empty() {
                continue;
            }
            match resolve(cell) {
                Some(typed) => take(self.found(cell, typed, &facts)),
                // A first row may be a header, and where all columns are read most say something else.
                None if is_first || csv.value.is_empty() => {}
                None => take(Found::Untyped(cell.chars().take(80).collect())),
            }
        }
        length
    }
}

/// A row of cells at the beginning of a text.
enum Row {
    /// It, and how many bytes it takes with its end.
    Whole(Vec<String>, usize),
    /// It may go on behind what is there.
    More,
    /// Its quotes do not stand as they should.
    Malformed,
}

fn row(text: &[u8], delimiter: &[u8], is_end: bool) -> Row {
    if text.starts_with(b"#") {
        return match memchr::memchr(b'\n', text) {
            Some(end) => Row::Whole(vec!["#".to_owned()], end + 1),
            None if is_end => Row::Whole(vec!["#".to_owned()], text.len()),
            None => Row::More,
        };
    }
    let (mut cells, mut at) = (Vec::new(), 0);
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t') && !delimiter.contains(&byte);
    loop {
        let begin = at + text[at..].iter().take_while(|byte| is_space(**byte)).count();
        let mut cell = Vec::new();
        if text.get(begin) == Some(&b'"') {
            at = begin + 1;
            loop {
                let Some(quote) = memchr::memchr(b'"', &text[at..]) else {
                    return if is_end { Row::Malformed } else { Row::More };
                };
                cell.extend_from_slice(&text[at..at + quote]);
                at += quote + 1;
                if text.get(at) == Some(&b'"') {
                    cell.push(b'"');
                    at += 1;
                } else {
                    break;
                }
            }
            at += text[at..].iter().take_while(|byte| is_space(**byte)).count();
            let rest = &text[at..];
            let is_closed = rest.is_empty()
                || rest.starts_with(delimiter)
                || rest.starts_with(b"\n")
                || rest.starts_with(b"\r\n");
            if rest.len() < delimiter.len().max(2) && !is_end && !rest.starts_with(b"\n") {
                return Row::More;
            }
            if !is_closed {
                return Row::Malformed;
            }
        }
        // The rest of the cell, which is all of it where there are no quotes.
        let rest = &text[at..];
        let line = memchr::memchr(b'\n', rest);
        let within = &rest[..line.unwrap_or(rest.len())];
        match memchr::memmem::find(within, delimiter) {
            Some(end) => {
                cell.extend_from_slice(&within[..end]);
                cells.push(String::from_utf8_lossy(&cell).into_owned());
                at += end + delimiter.len();
            }
            None if line.is_none() && !is_end => return Row::More,
            None => {
                cell.extend_from_slice(within);
                cells.push(String::from_utf8_lossy(&cell).into_owned());
                return Row::Whole(cells, at + within.len() + usize::from(line.is_some()));
            }
        }
    }
}

/// The cells of a line whose quotes mean nothing.
fn unquoted(line: &[u8], delimiter: &[u8]) -> Vec<String> {
    let (mut cells, mut rest) = (Vec::new(), line);
    while let Some(end) = memchr::memmem::find(rest, delimiter) {
        cells.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        rest = &rest[end + delimiter.len()..];
    }
    cells.push(String::from_utf8_lossy(rest).into_owned());
    cells
}

/// A cell without what stands around its text.
fn bare(cell: &str) -> &str {
    cell.trim_matches([' ', '\t', '\n', '\r', '\0', '\u{b}', '"', '\'', '\u{feff}', '\u{a0}'])
}

impl Facts {
    fn of(cells: &[&str], columns: &MoreColumns) -> Self {
        let cell = |column: Option<usize>| {
            let text = cells.get(column?.checked_sub(1)?).copied()?;
            // How lists say that they know nothing.
            let is_nothing =
                matches!(text.to_ascii_lowercase().as_str(), "" | "none" | "null" | "n/a" | "-");
            (!is_nothing).then_some(text)
        };
        let instant = |column| {
            cell(column)
                .and_then(|text| date::instant(text).or_else(|| date::parse(text, Some("en"))))
        };
        let tags = cell(columns.tags).unwrap_or_default().split([',', '|']);
        let tags = tags.map(|tag| short(tag.trim())).filter(|tag| !tag.is_empty());
        Self {
            raw: String::new(),
            first_seen: instant(columns.first_seen),
            last_seen: instant(columns.last_seen),
            malware: cell(columns.malware).map(short),
            tags: tags.take(TAGS_MAX).collect(),
            comment: cell(columns.comment).map(short),
            reference: cell(columns.reference).map(short),
            confidence: cell(columns.confidence)
                .and_then(|text| text.parse().ok())
                .filter(|score| *score <= 100),
            port: cell(columns.port).and_then(|text| text.parse().ok()).filter(|port| *port > 0),
        }
    }
}

/// Whether a body begins as a page for people does.
pub fn is_web_page(head: &[u8]) -> bool {
    const BEGINS: [&str; 8] =
        ["<!doctype html", "<html", "<head", "<title", "<body", "<script", "<meta", "<div"];
    let head = String::from_utf8_lossy(head.get(..HEAD).unwrap_or(head)).to_ascii_lowercase();
    let mut text = head.trim_start_matches('\u{feff}').trim_start();
    // What may stand before the page's own first word.
    while let Some(rest) = text
        .strip_prefix("<!--")
        .and_then(|rest| rest.split_once("-->"))
        .or_else(|| text.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")))
    {
        text = rest.1.trim_start();
    }
    BEGINS.iter().any(|begin| text.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::feeds::Feeds;

    fn feed(format: &str, more: &str) -> Feed {
        let text = format!(
            "[[feed]]\nid = \"a\"\nname = \"A\"\nurl = \"https://e.org/\"\nformat = \"{format}\"\n{more}"
        );
        Feeds::parse(&text, "a test").unwrap().into_all().remove(0)
    }

    /// What a body gives, whatever parts it comes in, also when it is read on from each of them.
    #[track_caller]
    fn read(feed: &Feed, body: &[u8]) -> Vec<String> {
        let mut all: Option<Vec<String>> = None;
        let small = if body.len() < 4_096 { 1 } else { 997 };
        for size in [small, 3 * small, 700, body.len().max(1)] {
            for resumes in [false, true] {
                let mut shown = Vec::new();
                let mut take = |found| {
                    shown.push(match found {
                        Found::Typed(typed, _) => format!("{} {}", typed.kind, typed.value),
                        Found::Excluded => "excluded".to_owned(),
                        Found::Untyped(cell) => format!("untyped {cell}"),
                    });
                };
                let mut reader = Reader::new(feed, Place::default()).unwrap();
                let mut at = 0;
                while at < body.len() {
                    let end = (at + size).min(body.len());
                    reader.push(&body[at..end], end == body.len(), &mut take);
                    at = end;
                    if resumes && end < body.len() && reader.place().offset > 0 {
                        at = reader.place().offset as usize;
                        reader = Reader::new(feed, reader.place()).unwrap();
                        reader.push(&body[at..end], false, &mut take);
                        at = end;
                    }
                }
                let all = all.get_or_insert_with(|| shown.clone());
                assert_eq!(all, &shown, "in parts of {size}, resumed: {resumes}");
            }
        }
        all.unwrap_or_default()
    }

    #[test]
    fn rows_are_read_by_misps_settings() {
        let third = |delimiter: &str| {
            feed("csv", &format!("settings.csv = {{ value = \"3\", delimiter = \"{delimiter}\" }}"))
        };
        for (feed, body, expected) in [
            (
                third(""),
                "\u{feff}# x\r\n# \"odd\r\nid,date,url\r\n1,2024,\"http://e.org/a,b\"\r\n2,2024, \"hxxp://e[.]net/\"\r\n3,x,none here\r\nragged\r\n",
                &["url http://e.org/a,b", "url http://e.net/", "untyped none here"][..],
            ),
            (third("|"), "  3303  |  SWISSCOM  |  1.2.3.4  | x\n", &["ip-dst 1.2.3.4"]),
            (third("\\\\t"), "a\tb\t1.2.3.4\n#a\tb\t5.6.7.8\n", &["ip-dst 1.2.3.4"]),
            (third("||"), "a||b|c||evil.com||d\n", &["domain evil.com"]),
            (
                third(","),
                "a,\"two\nlines, and \"\"quotes\"\"\",evil.com\nb,\"never closed,evil.net\nc,d,evil.org",
                &["domain evil.com", "domain evil.net", "domain evil.org"],
            ),
            (
                feed("csv", ""),
                "type,indicator\ndomain,claudfront[.]net\nIP,1.2.3.4\n2024-01-02,'evil.com'\n",
                &["domain claudfront.net", "ip-dst 1.2.3.4", "domain evil.com"],
            ),
            (
                feed(
                    "csv",
                    "settings.csv = { value = \"1,3\" }\nsettings.common = { excluderegex = \"/^#.*|Threatview.*/i\" }",
                ),
                "1.2.3.4,x,evil.com\n5.6.7.8,x,http://threatview.io/\n",
                &["ip-dst 1.2.3.4", "domain evil.com", "ip-dst 5.6.7.8", "excluded"],
            ),
        ] {
            assert_eq!(read(&feed, body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn free_text_and_json_are_read_word_by_word() {
        let long = "x".repeat(3 * PIECE_MAX);
        for (more, body, expected) in [
            ("", "seen: 1.2.3.4, hxxp://evil[.]com/a;\r\n# evil.net".to_owned(),
             &["ip-dst 1.2.3.4", "url http://evil.com/a", "domain evil.net"][..]),
            ("comments = \"#\"", " # evil.net\n1.2.3.4 # evil.org".to_owned(), &["ip-dst 1.2.3.4", "domain evil.org"]),
            ("", format!("1.2.3.4 {long} 5.6.7.8\n{long}.com\nevil.com"), &["ip-dst 1.2.3.4", "ip-dst 5.6.7.8", "domain evil.com"]),
            ("", format!("{} evil.com", "1.2.3.4 ".repeat(20_000)), &[]),
            ("", "\u{feff} {\"key.com\": \"evil.com\", \"n\": [1, true, \"two 1.2.3.4\\nand e\\u002enet \\\"x\\\"\", \"\"], \"a\\\"b.com\" : \"http://e.org/a,b\"}".to_owned(),
             &["domain evil.com", "ip-dst 1.2.3.4", "domain e.net", "url http://e.org/a,b"]),
            ("", format!("{{\"a\": \"{long}\\\" evil.net\", \"b\": \"evil.com\", \"c\": \"cut"), &["domain evil.com"]),
            ("", "no indicator at all".to_owned(), &[]),
        ] {
            let found = read(&feed("freetext", more), body.as_bytes());
            if body.starts_with("1.2.3.4 1.2") {
                assert_eq!(found.len(), 20_001);
                continue;
            }
            assert_eq!(found, expected, "{}", body.chars().take(80).collect::<String>());
        }
    }

    #[test]
    fn a_row_says_more_of_its_indicators() {
        let feed = feed(
            "csv",
            "settings.csv = { value = \"2\", more = { first_seen = 1, port = 3, malware = 4, tags = 5, confidence = 6 } }",
        );
        let mut facts = Vec::new();
        let mut reader = Reader::new(&feed, Place::default()).unwrap();
        let body = b"\"2024-01-02 03:04:05\",\"1.2.3.4\",\"443\",\"Emotet\",\"a, b\",75\nno date,5.6.7.8,x,None,,900\n";
        reader.push(body, true, &mut |found| match found {
            Found::Typed(_, of) => facts.push(*of),
            other => panic!("{other:?}"),
        });
        assert_eq!(facts[0].first_seen.unwrap().to_string(), "2024-01-02T03:04:05Z");
        assert_eq!((facts[0].port, facts[0].malware.as_deref()), (Some(443), Some("Emotet")));
        assert_eq!(
            (facts[0].tags.as_slice(), facts[0].confidence),
            (&["a".to_owned(), "b".to_owned()][..], Some(75))
        );
        assert_eq!(facts[1], Facts { raw: "5.6.7.8".to_owned(), ..Facts::default() });
    }

    #[test]
    fn a_page_is_told_from_a_list() {
        for page in [
            "\u{feff}\n<!DOCTYPE html>",
            "<HTML>",
            "<!-- x --> <html",
            "<?xml version='1.0'?><html>",
        ] {
            assert!(is_web_page(page.as_bytes()), "{page}");
        }
        for list in ["evil.com", "<pre>\nhttp://e.org/", "{\"a\": \"<html>\"}", ""] {
            assert!(!is_web_page(list.as_bytes()), "{list}");
        }
    }

    #[test]
    fn what_may_be_the_middle_of_something_is_not_read() {
        for (format, body, offset, expected) in [
            ("freetext", "evil.com\nevil.net\n", 9, &["domain evil.net"][..]),
            ("freetext", "evil.com\nevil.net a.evil.org\n", 10, &["hostname a.evil.org"]),
            ("csv", "evil.com,evil.org\nevil.net\n", 12, &["domain evil.net"]),
        ] {
            let feed = feed(format, "");
            let mut reader = Reader::new(&feed, Place { offset, ..Place::default() }).unwrap();
            reader.begin_ragged();
            let mut shown = Vec::new();
            reader.push(&body.as_bytes()[offset as usize - 1..], true, &mut |found| match found {
                Found::Typed(typed, _) => shown.push(format!("{} {}", typed.kind, typed.value)),
                other => panic!("{other:?}"),
            });
            assert_eq!(shown, expected, "{body}");
            assert_eq!(reader.place().offset, body.len() as u64);
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_alike_in_any_parts(body in "[a1.,\"\n\\\\{: #|\r]{0,80}", rows: bool) {
            read(&feed(if rows { "csv" } else { "freetext" }, ""), body.as_bytes());
        }
    }
}
