//! JSON of others, read in bounded memory: an object record by record and a list element by element, so that a malformed one
//! costs itself, and each record without what no record needs.
//!
//! `serde_json` reads a whole body or nothing: half a surrogate pair, `1E400` or a hundred brackets in one record lose all.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use memchr::memchr2;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Bytes of one record of an answer; the largest family known has 784 references, about 200 kB.
pub const RECORD_BYTES_MAX: usize = 4 << 20;

/// Lists and objects that lie in each other; what is deeper becomes null.
pub const DEPTH_MAX: usize = 16;

/// Values of one record, in whatever lists and objects; what comes after them is left out.
pub const VALUES_MAX: usize = 50_000;

/// The records of `{key: record, …}`, one after the other.
///
/// A long value need not be gone through twice: after [`Self::next_key`], [`Self::object`] and [`Self::list`] read it where it
/// stands, without knowing its end.
pub struct Records<'a> {
    body: &'a [u8],
    at: usize,
    state: State,
    /// Whether it lies in another, so that something may follow.
    is_nested: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    First,
    Next,
    Over,
}

/// One record of an object.
#[derive(Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    /// Its key; what is malformed in it is replaced.
    pub key: Cow<'a, str>,
    /// Its text, which may be malformed.
    pub text: &'a [u8],
}

/// Where an object is malformed between its records, or ends too early: no record follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The byte, from 0.
    pub at: usize,
}

impl<'a> Records<'a> {
    /// Reads an object; nothing where the body is none.
    pub fn of(body: &'a [u8]) -> Option<Self> {
        let mut records = Self::over(body);
        (records.token()? == b'{').then_some(records)
    }

    /// Stands at the first byte behind a byte order mark.
    fn over(body: &'a [u8]) -> Self {
        let at = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Self { body, at, state: State::First, is_nested: false }
    }

    /// The key of the next record, whose value is then read by one of [`Self::text`], [`Self::object`] and [`Self::list`].
    pub fn next_key(&mut self) -> Option<Result<Cow<'a, str>, Broken>> {
        if self.state == State::Over {
            return None;
        }
        match self.key() {
            Some(Some(key)) => Some(Ok(key)),
            Some(None) => {
                self.state = State::Over;
                None
            }
            None => Some(Err(self.broken())),
        }
    }

    /// The text of the value, which may be malformed.
    ///
    /// # Errors
    /// Where the body ends before the value does.
    pub fn text(&mut self) -> Result<&'a [u8], Broken> {
        let from = self.at;
        match self.value() {
            Some(()) => Ok(&self.body[from..self.at]),
            None => Err(self.broken()),
        }
    }

    /// The value as an object; nothing where it is none. These records stay before it.
    pub fn object(&self) -> Option<Self> {
        let mut inner = Self { state: State::First, is_nested: true, ..*self };
        (inner.token()? == b'{').then_some(inner)
    }

    /// The value as a list; nothing where it is none. These records stay before it until [`Self::go_behind`].
    pub fn list(&self) -> Option<Elements<'a>> {
        let mut inner = Self { state: State::First, is_nested: true, ..*self };
        (inner.token()? == b'[').then_some(Elements(inner))
    }

    /// Goes on behind the value, a list that was read to its end.
    pub fn go_behind(&mut self, list: &Elements<'a>) {
        self.at = list.0.at;
    }

    /// The byte behind what was read last, from 0.
    pub fn at(&self) -> usize {
        self.at
    }

    fn broken(&mut self) -> Broken {
        self.state = State::Over;
        Broken { at: self.at.min(self.body.len()) }
    }

    fn skip_space(&mut self) {
        while self.body.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    /// The next byte that is no white space.
    fn token(&mut self) -> Option<u8> {
        self.skip_space();
        let byte = self.body.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    /// Goes to the end of a string whose opening quote was read.
    fn string(&mut self) -> Option<()> {
        loop {
            self.at += memchr2(b'"', b'\\', self.body.get(self.at..)?)? + 1;
            if self.body[self.at - 1] == b'"' {
                return Some(());
            }
            self.at += 1;
        }
    }

    /// Goes to the end of a value, whatever it is.
    fn value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        self.skip_space();
        loop {
            let is_mark = |byte: &u8| matches!(byte, b'"' | b',' | b'{' | b'}' | b'[' | b']');
            self.at += self.body.get(self.at..)?.iter().position(is_mark)?;
            match self.body[self.at] {
                b'"' => {
                    self.at += 1;
                    self.string()?;
                    if depth == 0 {
                        return Some(());
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    // The end of the object around it.
                    if depth == 0 {
                        return Some(());
                    }
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Some(());
                    }
                }
                b',' if depth == 0 => return Some(()),
                _ => {}
            }
            self.at += 1;
        }
    }

    fn key(&mut self) -> Option<Option<Cow<'a, str>>> {
        match (self.token()?, self.state) {
            (b'}', _) => {
                return self.is_end().then_some(None);
            }
            (b'"', State::First) => {}
            (b',', State::Next) if self.token()? == b'"' => {}
            _ => return None,
        }
        self.state = State::Next;
        let from = self.at - 1;
        self.string()?;
        let raw = &self.body[from..self.at];
        let key = match plain(raw) {
            Some(key) => Cow::Borrowed(key),
            None => serde_json::from_slice(raw)
                .map_or_else(|_| String::from_utf8_lossy(&raw[1..raw.len() - 1]), Cow::Owned),
        };
        (self.token()? == b':').then_some(Some(key))
    }

    /// Behind its end: whether nothing follows, or it is another's.
    fn is_end(&mut self) -> bool {
        self.skip_space();
        self.is_nested || self.at == self.body.len()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Raw<'a>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.next_key()?;
        Some(key.and_then(|key| Ok(Raw { key, text: self.text()? })))
    }
}

/// The elements of `[element, …]`, one after the other: each its text, which may be malformed.
pub struct Elements<'a>(Records<'a>);

impl<'a> Elements<'a> {
    /// Reads a list; nothing where the body is none.
    pub fn of(body: &'a [u8]) -> Option<Self> {
        let mut list = Records::over(body);
        (list.token()? == b'[').then_some(Self(list))
    }

    /// The byte behind what was read last, from 0.
    pub fn at(&self) -> usize {
        self.0.at
    }

    /// The first element as an object; nothing where it is none.
    pub fn first_object(&self) -> Option<Records<'a>> {
        self.0.object()
    }

    /// The first element as a list; nothing where it is none.
    pub fn first_list(&self) -> Option<Self> {
        self.0.list()
    }

    fn element(&mut self) -> Option<Option<&'a [u8]>> {
        let list = &mut self.0;
        list.skip_space();
        match (list.body.get(list.at)?, list.state) {
            (b']', _) => {
                list.at += 1;
                return list.is_end().then_some(None);
            }
            (b',', State::Next) => list.at += 1,
            (_, State::First) => {}
            _ => return None,
        }
        list.state = State::Next;
        let from = list.at;
        list.value()?;
        let text = &list.body[from..list.at];
        (!text.trim_ascii().is_empty()).then_some(Some(text))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<&'a [u8], Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.state == State::Over {
            return None;
        }
        match self.element() {
            Some(Some(element)) => Some(Ok(element)),
            end => {
                self.0.state = State::Over;
                end.is_none().then(|| Err(self.0.broken()))
            }
        }
    }
}

/// A string in which nothing is escaped, without a copy; nothing where it is another or no string.
pub fn plain(text: &[u8]) -> Option<&str> {
    let inner = text.trim_ascii().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    // A fold without an early end is a few vectors; most texts are short and hold none of these.
    let is_special = |byte: u8| (byte == b'"') | (byte == b'\\') | (byte < b' ');
    let has_special = inner.iter().fold(false, |any, byte| any | is_special(*byte));
    if has_special { None } else { std::str::from_utf8(inner).ok() }
}

/// Reads a value within this module's limits; the number is of the values that were left out.
///
/// # Errors
/// Why it is no JSON.
pub fn bounded(text: &[u8]) -> serde_json::Result<(Value, u64)> {
    let (left, cut) = (Cell::new(VALUES_MAX), Cell::new(0));
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Bounded { depth: 0, left: &left, cut: &cut }.deserialize(&mut reader)?;
    reader.end()?;
    Ok((value.unwrap_or_default(), cut.get()))
}

#[derive(Clone, Copy)]
struct Bounded<'c> {
    depth: usize,
    left: &'c Cell<usize>,
    cut: &'c Cell<u64>,
}

impl Bounded<'_> {
    fn is_left_out(&self) -> bool {
        let is_left_out = self.left.get() == 0 || self.depth > DEPTH_MAX;
        match is_left_out {
            true => self.cut.set(self.cut.get() + 1),
            false => self.left.set(self.left.get() - 1),
        }
        is_left_out
    }
}

/// Gives nothing for what is left out.
impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        if self.is_left_out() {
            return reader.deserialize_ignored_any(IgnoredAny).map(|_| None);
        }
        reader.deserialize_any(self).map(Some)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("no number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let below = Self { depth: self.depth + 1, ..self };
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(below)? {
            values.extend(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let below = Self { depth: self.depth + 1, ..self };
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if let Some(value) = map.next_value_seed(below)? {
                values.insert(key, value);
            }
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Keys with texts, and the byte where it broke.
    fn read(body: &str) -> (Vec<(String, String)>, Option<usize>) {
        let mut broken = None;
        let records = Records::of(body.as_bytes()).into_iter().flatten();
        let records = records.filter_map(|record| match record {
            Ok(raw) => {
                Some((raw.key.into_owned(), String::from_utf8_lossy(raw.text).trim().to_owned()))
            }
            Err(Broken { at }) => {
                broken = Some(at);
                None
            }
        });
        (records.collect(), broken)
    }

    #[test]
    fn an_object_is_parted_whatever_its_records_hold() {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
                .collect::<Vec<_>>()
        };
        for (body, expected, broken) in [
            ("{}", pairs(&[]), None),
            (
                "\u{feff} {\"a\": {\"x\": [1, \"}\\\"]\"]} , \"b\\u00e9\" :7, \"c\":\"s\"}\r\n",
                pairs(&[("a", "{\"x\": [1, \"}\\\"]\"]}"), ("bé", "7"), ("c", "\"s\"")]),
                None,
            ),
            (
                r#"{"a":{"x":"\ud800"},"b":1E400,"\ud800":[]}"#,
                pairs(&[("a", r#"{"x":"\ud800"}"#), ("b", "1E400"), (r"\ud800", "[]")]),
                None,
            ),
            (r#"{"a":{},"b":{"x"#, pairs(&[("a", "{}")]), Some(14)),
            (r#"{"a":{}} x"#, pairs(&[("a", "{}")]), Some(9)),
            (r#"{"a":{} "b":{}}"#, pairs(&[("a", "{}")]), Some(9)),
            (r#"{"a":1,}"#, pairs(&[("a", "1")]), Some(8)),
        ] {
            assert_eq!(read(body), (expected, broken), "{body}");
        }
        for none in ["", "[]", "<html>", "7"] {
            assert!(Records::of(none.as_bytes()).is_none(), "{none}");
        }
    }

    #[test]
    fn a_list_is_parted_whatever_its_elements_hold() {
        let read = |body: &'static str| {
            let elements = Elements::of(body.as_bytes()).unwrap();
            elements
                .map(|element| element.map(|text| std::str::from_utf8(text).unwrap().trim()))
                .collect::<Result<Vec<_>, _>>()
        };
        assert_eq!(read(" [ ] "), Ok(Vec::new()));
        assert_eq!(
            read(r#"[{"a": [1, "]"]}, "\ud800" ,7, [[]]]"#),
            Ok(vec![r#"{"a": [1, "]"]}"#, r#""\ud800""#, "7", "[[]]"])
        );
        for (broken, at) in [("[1", 2), ("[1,]", 3), ("[1] x", 4), ("[,1]", 1), ("[1 2]", 4)] {
            let ends = read(broken);
            assert!(ends.is_err() || broken == "[1 2]", "{broken}: {ends:?} {at}");
        }
        assert!(Elements::of(b"{}").is_none());
    }

    #[test]
    fn what_is_too_deep_or_too_much_is_left_out() {
        let deep = format!("{{\"a\": 1, \"b\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let (value, cut) = bounded(deep.as_bytes()).unwrap();
        assert_eq!((&value["a"], cut), (&json!(1), 1));
        let long = format!("{{\"a\": [{}1], \"b\": 2}}", "1,".repeat(2 * VALUES_MAX));
        let (value, cut) = bounded(long.as_bytes()).unwrap();
        assert_eq!(value["a"].as_array().unwrap().len(), VALUES_MAX - 2);
        assert_eq!((cut, value.get("b")), (VALUES_MAX as u64 + 4, None));
        for bad in [r#"{"a":"\ud800"}"#, "1E400", "{} x", "{", ""] {
            assert!(bounded(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_string_is_what_serde_borrows(text in r#"[ \t]?"?[a\u{e9}"\\n\u{1}\u{7f}]{0,6}"?[ \t]?"#) {
            prop_assert_eq!(plain(text.as_bytes()), serde_json::from_str::<&str>(&text).ok());
        }

        #[test]
        fn whatever_serde_reads_is_read_alike(text in r#"[\[\]{}",:0-9a\\ ]{0,40}"#) {
            let body = format!("{{\"k\":{text}}}");
            if let Ok(Value::Object(whole)) = serde_json::from_str(&body) {
                let mut records = Map::new();
                for raw in Records::of(body.as_bytes()).unwrap() {
                    let raw = raw.unwrap();
                    records.insert(raw.key.into_owned(), bounded(raw.text).unwrap().0);
                }
                prop_assert_eq!(&records, &whole);
                // A list is the same where it stands, and what follows it is found.
                let mut outer = Records::of(body.as_bytes()).unwrap();
                while let Some(key) = outer.next_key() {
                    let key = key.unwrap();
                    let Some(mut list) = outer.list() else {
                        outer.text().unwrap();
                        continue;
                    };
                    let here = list.by_ref().map(|text| bounded(text.unwrap()).unwrap().0);
                    let here = Value::Array(here.collect());
                    outer.go_behind(&list);
                    // Of two with one key the last holds.
                    let later = body.matches(&format!("\"{key}\":")).count() > 1;
                    prop_assert!(later || here == whole[&*key], "{}", here);
                }
            } else {
                Records::of(body.as_bytes()).unwrap().for_each(drop);
            }
        }
    }
}
