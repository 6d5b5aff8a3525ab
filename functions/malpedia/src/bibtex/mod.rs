//! BibTeX in one pass: entries that borrow from the text, and a reject for each that is malformed.
//!
//! The lexer is our own. `serde_bibtex` was tried: where a value has one brace too many, it ends the entry there and gives
//! it without the fields that follow, and nobody is warned; an entry that never closes takes the next one with it. Here both
//! are rejects, and reading goes on at the next line that starts with `@word{`. Where such a line stands within a value, the
//! value goes on behind it if it is closed soon and its entry goes on as one would; else the line is the next entry, and the
//! value was never closed. How often and how far is looked ahead has a limit, so that any text is read in one pass.
//!
//! What macros add to a text has limits too: a text may hold few bytes and name gigabytes.
//!
//! Nothing is taken for TeX but braces: the library's values are raw text in which `%`, `#`, `&` and `\` mean themselves.

use std::borrow::Cow;
use std::collections::HashMap;

use memchr::{memchr, memchr_iter, memchr2, memchr3};

pub mod date;
pub mod text;

/// How far the end of an `@comment{…}` is looked for; what is not closed by then is a comment of one line.
const COMMENT_MAX: usize = 16 << 10;

/// Comments that may turn out not to be closed; after these, a comment is one line. It bounds the time of a hostile file.
const UNCLOSED_MAX: u32 = 32;

/// How far behind a line like an entry's first one the end of a value that holds it is looked for.
const VALUE_AHEAD_MAX: usize = 16 << 10;

/// Values that may turn out not to go on behind such a line; after these, the line always is the next entry.
const VALUES_AHEAD_MAX: u32 = 32;

/// Fields that are kept of an entry; the library's have nine.
pub const FIELDS_MAX: usize = 64;

/// Macros that are kept, and bytes of all their values.
pub const MACROS_MAX: usize = 4_096;
/// See [`MACROS_MAX`].
pub const MACRO_BYTES_MAX: usize = 1 << 20;

/// Bytes of a value that is joined by `#` or stands for a macro; a value that stands in the text has no limit but the text's.
pub const JOINED_MAX: usize = 16 << 10;

/// Bytes that macros and joined parts may add up to in all values, where the text has fewer itself.
const EXPANDED_MIN: usize = 64 << 10;

/// Characters of a bad entry that a reject shows.
const SHOWN: usize = 60;

/// One entry, its values as they stand, without their outer delimiters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The word after `@`, as it stands.
    pub kind: &'a str,
    /// The citation key.
    pub key: &'a str,
    fields: Vec<(&'a str, Cow<'a, str>)>,
}

impl Entry<'_> {
    /// A field's value; the first where it stands twice. Names have no case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_ref())
    }
}

/// A malformed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject<'a> {
    /// The line it begins on, from 1.
    pub line: usize,
    /// Its key, where it could be read.
    pub key: Option<&'a str>,
    /// What is wrong with it.
    pub reason: &'static str,
    /// Its first characters.
    pub head: String,
}

/// Gives the entries of a bibliography, in order.
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    macros: HashMap<String, String>,
    macro_bytes: usize,
    /// Bytes that macros and joined parts may add still.
    expandable: usize,
    unclosed: u32,
    ahead_in_vain: u32,
    /// Whether a value of the entry that is read holds a line like an entry's first.
    went_ahead: bool,
    /// The key of the entry that is read.
    key: Option<&'a str>,
    /// A place and its line, so that lines are counted once.
    line: (usize, usize),
    cut: u64,
    is_open_at_end: bool,
}

/// What `@word{` opens.
struct Head<'a> {
    word: &'a str,
    close: u8,
    start: usize,
}

type Lexed<T> = Result<T, &'static str>;

impl<'a> Reader<'a> {
    /// Reads `text`; a byte-order mark is passed over.
    pub fn new(text: &'a str) -> Self {
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Self {
            text,
            at,
            macros: HashMap::new(),
            macro_bytes: 0,
            expandable: text.len().max(EXPANDED_MIN),
            unclosed: 0,
            ahead_in_vain: 0,
            went_ahead: false,
            key: None,
            line: (0, 1),
            cut: 0,
            is_open_at_end: false,
        }
    }

    /// Values and macros so far that were longer or more than their limits, and lost what was above them.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Whether the text ended within an entry: there may have been more of it.
    pub fn is_open_at_end(&self) -> bool {
        self.is_open_at_end
    }

    /// How many bytes were read.
    pub fn position(&self) -> usize {
        self.at
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn skip(&mut self, is_wanted: impl Fn(u8) -> bool) -> &'a str {
        let from = self.at;
        while self.peek().is_some_and(&is_wanted) {
            self.at += 1;
        }
        &self.text[from..self.at]
    }

    /// The next `@word{` or `@word(`; everything before it is a comment, as in BibTeX.
    fn head(&mut self) -> Option<Head<'a>> {
        loop {
            let start = self.at + memchr(b'@', &self.bytes()[self.at..])?;
            self.at = start + 1;
            let word = self.skip(is_word);
            self.skip_space();
            let close = match self.peek() {
                Some(b'{') => b'}',
                Some(b'(') => b')',
                _ => continue,
            };
            if !word.is_empty() {
                self.at += 1;
                return Some(Head { word, close, start });
            }
        }
    }

    fn entry(&mut self, head: &Head<'a>) -> Lexed<Option<Entry<'a>>> {
        if head.word.eq_ignore_ascii_case("comment") {
            self.skip_comment();
            return Ok(None);
        }
        if head.word.eq_ignore_ascii_case("preamble") {
            self.value()?;
            return self.close(head).map(|()| None);
        }
        if head.word.eq_ignore_ascii_case("string") {
            if let Some((name, value)) = self.assignment()? {
                self.define(name, &value);
            }
            return self.close(head).map(|()| None);
        }
        self.skip_space();
        let key = self
            .skip(|byte| {
                !matches!(byte, b',' | b'{' | b'}' | b'"' | b'=' | b'\n') && byte != head.close
            })
            .trim_end();
        if key.is_empty()
            || !matches!(self.peek(), Some(byte) if byte == b',' || byte == head.close || byte == b'\n')
        {
            self.is_open_at_end = self.peek().is_none();
            return Err("it has no key");
        }
        self.key = Some(key);
        let mut fields = Vec::with_capacity(8);
        loop {
            self.skip(|byte| byte.is_ascii_whitespace() || byte == b',');
            match self.peek() {
                Some(byte) if byte == head.close => break,
                _ => match self.assignment()? {
                    Some(_) if fields.len() == FIELDS_MAX => self.cut += 1,
                    field => fields.extend(field),
                },
            }
        }
        self.close(head)?;
        Ok(Some(Entry { kind: head.word, key, fields }))
    }

    /// The end of an entry. What follows must not look as if it belonged to it still.
    fn close(&mut self, head: &Head<'_>) -> Lexed<()> {
        self.skip(|byte| byte.is_ascii_whitespace() || byte == b',');
        if self.peek() != Some(head.close) {
            self.is_open_at_end = self.peek().is_none();
            return Err("it does not end: a brace or a comma is missing or one too many");
        }
        self.at += 1;
        let rest = &self.bytes()[self.at..];
        let next = rest.iter().find(|byte| !byte.is_ascii_whitespace());
        if matches!(next, Some(b',' | b'}')) {
            return Err("it ends too early: a value has one closing brace too many");
        }
        Ok(())
    }

    fn skip_comment(&mut self) {
        let rest = &self.bytes()[self.at..];
        let far = if self.unclosed < UNCLOSED_MAX { COMMENT_MAX } else { 0 };
        let near = &rest[..rest.len().min(far)];
        let (mut depth, mut place) = (1, 0);
        while let Some(found) = memchr2(b'{', b'}', &near[place..]) {
            place += found + 1;
            depth += if near[place - 1] == b'{' { 1 } else { -1 };
            if depth == 0 {
                self.at += place;
                return;
            }
        }
        self.unclosed += 1;
        self.at += memchr(b'\n', rest).unwrap_or(rest.len());
    }

    /// `name = value`; nothing where the value is empty.
    fn assignment(&mut self) -> Lexed<Option<(&'a str, Cow<'a, str>)>> {
        self.skip_space();
        let name = self.skip(|byte| is_word(byte) || matches!(byte, b':' | b'.' | b'+' | b'/'));
        self.skip_space();
        if name.is_empty() || self.peek() != Some(b'=') {
            self.is_open_at_end = self.peek().is_none();
            return Err("`name = value` was expected");
        }
        self.at += 1;
        let value = self.value()?;
        Ok((!value.is_empty()).then_some((name, value)))
    }

    /// Keeps a macro, unless there are too many.
    fn define(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        let before = self.macros.get(&name).map_or(0, String::len);
        let bytes = self.macro_bytes - before + value.len();
        let is_new = before == 0 && !self.macros.contains_key(&name);
        if bytes > MACRO_BYTES_MAX || (is_new && self.macros.len() == MACROS_MAX) {
            self.cut += 1;
            return;
        }
        self.macro_bytes = bytes;
        self.macros.insert(name, value.to_owned());
    }

    /// Parts joined by `#`: `{…}`, `"…"`, numbers, macros.
    fn value(&mut self) -> Lexed<Cow<'a, str>> {
        let mut whole = self.part()?;
        loop {
            self.skip_space();
            if self.peek() != Some(b'#') {
                return Ok(whole);
            }
            self.at += 1;
            let part = self.part()?;
            if part.is_empty() {
                continue;
            }
            if let Cow::Borrowed(first) = whole {
                whole = Cow::Owned(share(first, 0, self.expandable).to_owned());
                self.note_share(first.len(), whole.len());
            }
            let taken = share(&part, whole.len(), self.expandable);
            whole.to_mut().push_str(taken);
            self.note_share(part.len(), taken.len());
        }
    }

    fn note_share(&mut self, length: usize, taken: usize) {
        self.cut += u64::from(taken < length);
        self.expandable -= taken;
    }

    fn part(&mut self) -> Lexed<Cow<'a, str>> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.braced().map(Cow::Borrowed),
            Some(b'"') => self.quoted().map(Cow::Borrowed),
            _ => {
                let word = self.skip(|byte| {
                    !byte.is_ascii_whitespace()
                        && !matches!(byte, b',' | b'#' | b'{' | b'}' | b'(' | b')' | b'"')
                });
                if let Some(value) = self.macros.get(&word.to_ascii_lowercase()) {
                    let (length, taken) =
                        (value.len(), share(value, 0, self.expandable).to_owned());
                    self.note_share(length, taken.len());
                    return Ok(Cow::Owned(taken));
                }
                Ok(Cow::Borrowed(date::month_name(word).unwrap_or(word)))
            }
        }
    }

    fn braced(&mut self) -> Lexed<&'a str> {
        let (bytes, from) = (self.bytes(), self.at + 1);
        let (mut depth, mut place, mut end) = (1, from, bytes.len());
        while let Some(found) = memchr3(b'{', b'}', b'\n', &bytes[place..end]) {
            place += found + 1;
            match bytes[place - 1] {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ if end == bytes.len() && starts_entry(&bytes[place..]) => {
                    end = self.ahead(place);
                }
                _ => {}
            }
            if depth == 0 {
                return self.closed(from, place, end);
            }
        }
        self.never_closed(end, "a brace is never closed")
    }

    fn quoted(&mut self) -> Lexed<&'a str> {
        let (bytes, from) = (self.bytes(), self.at + 1);
        let (mut depth, mut place, mut end) = (0_usize, from, bytes.len());
        while place < end {
            let byte = bytes[place];
            place += 1;
            match byte {
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                b'"' if depth == 0 => return self.closed(from, place, end),
                b'\n' if end == bytes.len() && starts_entry(&bytes[place..]) => {
                    end = self.ahead(place);
                }
                _ => {}
            }
        }
        self.never_closed(end, "a quotation mark is never closed")
    }

    /// How far a value may go on behind a line that looks like an entry's first one.
    fn ahead(&self, place: usize) -> usize {
        match self.ahead_in_vain < VALUES_AHEAD_MAX {
            // Never the text's end, which means that no such line was met.
            true => (place + VALUE_AHEAD_MAX).min(self.text.len().saturating_sub(1)).max(place),
            false => place,
        }
    }

    /// A value that ends before `place`. One that holds a line like an entry's first must be followed by what an entry goes on
    /// with: else the line was one.
    fn closed(&mut self, from: usize, place: usize, end: usize) -> Lexed<&'a str> {
        let goes_on = || {
            let rest = self.bytes()[place..].iter().take(VALUE_AHEAD_MAX);
            let next = { rest }.find(|byte| !byte.is_ascii_whitespace());
            matches!(next, Some(b',' | b'}' | b')' | b'#'))
        };
        if end < self.text.len() && !goes_on() {
            return self.never_closed(end, "a brace or a quotation mark is never closed");
        }
        self.went_ahead |= end < self.text.len();
        self.at = place;
        Ok(&self.text[from..place - 1])
    }

    fn never_closed<T>(&mut self, end: usize, reason: &'static str) -> Lexed<T> {
        let has_met_line = end < self.text.len();
        self.went_ahead |= has_met_line;
        self.is_open_at_end = !has_met_line;
        Err(reason)
    }

    fn reject(&mut self, start: usize, reason: &'static str) -> Reject<'a> {
        let (known, line) = self.line;
        let line = line + memchr_iter(b'\n', &self.bytes()[known..start]).count();
        self.line = (start, line);
        let head = self.text[start..]
            .chars()
            .take(SHOWN)
            .map(|letter| if letter.is_control() { ' ' } else { letter });
        Reject { line, key: self.key, reason, head: head.collect() }
    }

    /// Goes to the next line that starts an entry.
    fn resume(&mut self, after: usize) {
        let bytes = self.bytes();
        let next = memchr_iter(b'\n', &bytes[after..]).map(|found| after + found + 1);
        self.at = { next }.find(|place| starts_entry(&bytes[*place..])).unwrap_or(bytes.len());
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Entry<'a>, Reject<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let head = self.head()?;
            (self.key, self.went_ahead) = (None, false);
            match self.entry(&head) {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => {}
                Err(reason) => {
                    self.ahead_in_vain += u32::from(self.went_ahead);
                    let reject = self.reject(head.start, reason);
                    self.resume(head.start);
                    // What a malformed entry ran into is no end of the text where others follow.
                    self.is_open_at_end &= self.at == self.text.len();
                    return Some(Err(reject));
                }
            }
        }
    }
}

/// What of a part may be added to a value of `length` bytes, where so many may be added in all.
fn share(part: &str, length: usize, expandable: usize) -> &str {
    &part[..part.floor_char_boundary(JOINED_MAX.saturating_sub(length).min(expandable))]
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Whether a line starts with `@word{`, blanks before it apart.
fn starts_entry(line: &[u8]) -> bool {
    let blanks = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let Some((b'@', rest)) = line[blanks..].split_first() else { return false };
    let word = rest.iter().take_while(|byte| is_word(**byte)).count();
    word > 0 && rest.get(word) == Some(&b'{')
}

#[cfg(test)]
mod tests;
