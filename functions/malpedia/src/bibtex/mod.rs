//! BibTeX in one pass: entries that borrow from the text, and a reject for each that is malformed.
//!
//! The lexer is our own. `serde_bibtex` was tried: where a value has one brace too many, it ends the entry there and gives
//! it without the fields that follow, and nobody is warned; an entry that never closes takes the next one with it. Here both
//! are rejects, and reading goes on at the next line that starts with `@word{`. Such a line ends a value wherever it
//! stands, so that any text is read in one pass.
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
pub struct Reject {
    /// The line it begins on, from 1.
    pub line: usize,
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
    unclosed: u32,
    /// A place and its line, so that lines are counted once.
    line: (usize, usize),
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
        Self { text, at, macros: HashMap::new(), unclosed: 0, line: (0, 1) }
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
                self.macros.insert(name.to_ascii_lowercase(), value.into_owned());
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
            return Err("it has no key");
        }
        let mut fields = Vec::with_capacity(8);
        loop {
            self.skip(|byte| byte.is_ascii_whitespace() || byte == b',');
            match self.peek() {
                Some(byte) if byte == head.close => break,
                _ => fields.extend(self.assignment()?),
            }
        }
        self.close(head)?;
        Ok(Some(Entry { kind: head.word, key, fields }))
    }

    /// The end of an entry. What follows must not look as if it belonged to it still.
    fn close(&mut self, head: &Head<'_>) -> Lexed<()> {
        self.skip(|byte| byte.is_ascii_whitespace() || byte == b',');
        if self.peek() != Some(head.close) {
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
            return Err("`name = value` was expected");
        }
        self.at += 1;
        let value = self.value()?;
        Ok((!value.is_empty()).then_some((name, value)))
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
            whole.to_mut().push_str(&part);
        }
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
                let known = self.macros.get(&word.to_ascii_lowercase());
                Ok(match known {
                    Some(value) => Cow::Owned(value.clone()),
                    None => Cow::Borrowed(date::month_name(word).unwrap_or(word)),
                })
            }
        }
    }

    fn braced(&mut self) -> Lexed<&'a str> {
        let (bytes, from) = (self.bytes(), self.at + 1);
        let (mut depth, mut place) = (1, from);
        while let Some(found) = memchr3(b'{', b'}', b'\n', &bytes[place..]) {
            place += found + 1;
            match bytes[place - 1] {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ if starts_entry(&bytes[place..]) => break,
                _ => {}
            }
            if depth == 0 {
                self.at = place;
                return Ok(&self.text[from..place - 1]);
            }
        }
        Err("a brace is never closed")
    }

    fn quoted(&mut self) -> Lexed<&'a str> {
        let (bytes, from) = (self.bytes(), self.at + 1);
        let mut depth = 0;
        for (place, byte) in bytes.iter().enumerate().skip(from) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                b'"' if depth == 0 => {
                    self.at = place + 1;
                    return Ok(&self.text[from..place]);
                }
                b'\n' if starts_entry(&bytes[place + 1..]) => break,
                _ => {}
            }
        }
        Err("a quotation mark is never closed")
    }

    fn reject(&mut self, start: usize, reason: &'static str) -> Reject {
        let (known, line) = self.line;
        let line = line + memchr_iter(b'\n', &self.bytes()[known..start]).count();
        self.line = (start, line);
        let head = self.text[start..]
            .chars()
            .take(SHOWN)
            .map(|letter| if letter.is_control() { ' ' } else { letter });
        Reject { line, reason, head: head.collect() }
    }

    /// Goes to the next line that starts an entry.
    fn resume(&mut self, after: usize) {
        let bytes = self.bytes();
        let next = memchr_iter(b'\n', &bytes[after..]).map(|found| after + found + 1);
        self.at = { next }.find(|place| starts_entry(&bytes[*place..])).unwrap_or(bytes.len());
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Entry<'a>, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let head = self.head()?;
            match self.entry(&head) {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => {}
                Err(reason) => {
                    let reject = self.reject(head.start, reason);
                    self.resume(head.start);
                    return Some(Err(reject));
                }
            }
        }
    }
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
