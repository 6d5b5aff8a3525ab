//! JSON Feed: finds the items without reading the whole document as one value, so that a cut or broken one costs only itself.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use url::Url;

use super::decode::without_controls;
use super::entry::{FeedError, Head};
use super::value::{Markup, looks_like_html, person, resolved};
use super::values::{Values, When, from_values};
use super::walk::MANY_MAX;

/// Authors of the feed that its items get, and bytes of a name: what stands once is in every item then.
const FEED_AUTHORS_MAX: usize = 16;
const FEED_AUTHOR_MAX: usize = 256;

/// One item's values, or why there are none and its text.
pub(super) type Item<'t> = Result<Box<Values<'static>>, (String, &'t str)>;

pub(super) struct Items {
    pub(super) at: usize,
    base: Option<Url>,
    authors: Vec<Cow<'static, str>>,
    language: Option<String>,
    pub(super) cut: bool,
    /// Texts of items were malformed and are repaired.
    pub(super) repaired: bool,
}

/// Reads everything but the items into `head`.
pub(super) fn open(text: &str, base: Option<Url>, head: &mut Head) -> Result<Items, FeedError> {
    let Some(items) = items_start(text) else { return Err(not_a_feed(text)) };
    let end = array_end(text, items);
    let without = [&text[..items], &text[end.unwrap_or(text.len())..]].concat();
    let fields = match object(&without) {
        Ok((fields, _)) => fields,
        // Cut off inside the items: what stood before them is still good.
        Err(_) => object(&format!("{}]}}", &text[..items])).unwrap_or_default().0,
    };
    let version = string(&fields, "version").unwrap_or_default();
    head.version = version.rsplit('/').next().unwrap_or_default().to_owned();
    head.language = string(&fields, "language");
    let base_of = base.as_ref();
    let values = Values {
        title: string(&fields, "title").map(guessed),
        summary: string(&fields, "description").map(|text| markup(text, false)),
        link: string(&fields, "home_page_url").map(|link| resolved(Cow::Owned(link), base_of)),
        ..Values::default()
    };
    from_values(values, head);
    let mut authors = authors(&fields);
    authors.retain(|name| name.len() <= FEED_AUTHOR_MAX);
    authors.truncate(FEED_AUTHORS_MAX);
    let language = head.language.clone();
    Ok(Items { at: items, base, authors, language, cut: false, repaired: false })
}

impl Items {
    pub(super) fn next<'t>(&mut self, text: &'t str) -> Option<Item<'t>> {
        let bytes = text.as_bytes();
        while bytes.get(self.at).is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b',') {
            self.at += 1;
        }
        let from = self.at;
        match bytes.get(from) {
            Some(b']') => return None,
            None => {
                self.cut = true;
                return None;
            }
            Some(_) => {}
        }
        let Some(end) = value_end(text, from) else {
            self.at = text.len();
            return Some(Err(("cut off inside the item".to_owned(), &text[from..])));
        };
        // A bracket too many is an item of one byte, or reading would never go on.
        let end = if end > from { end } else { from + 1 };
        self.at = end;
        let raw = &text[from..end];
        Some(match object(raw) {
            Ok((fields, is_repaired)) => {
                self.repaired |= is_repaired;
                Ok(Box::new(self.values(&fields)))
            }
            Err(error) => Err((error.to_string(), raw)),
        })
    }

    fn values(&self, fields: &Map<String, Value>) -> Values<'static> {
        let base = self.base.as_ref();
        let link = |name: &str| string(fields, name).map(|link| resolved(Cow::Owned(link), base));
        let when = |name: &str| {
            string(fields, name)
                .map_or_else(When::default, |text| When::of(text.trim(), self.language.as_deref()))
        };
        let own = authors(fields);
        let html = string(fields, "content_html").map(|text| markup(text, true));
        let plain = string(fields, "content_text").map(|text| markup(text, false));
        let summary = string(fields, "summary").map(|text| markup(text, false));
        let (content, summary) = match (html, plain, summary) {
            (Some(html), plain, summary) => (Some(html), summary.or(plain)),
            (None, plain, summary) => (plain, summary),
        };
        let attachments = fields
            .get("attachments")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
            .take(MANY_MAX);
        Values {
            id: string(fields, "id").map(Cow::Owned),
            title: string(fields, "title").map(guessed),
            link: link("url").or_else(|| link("external_url")),
            original: link("external_url").filter(|_| fields.contains_key("url")),
            authors: if own.is_empty() { self.authors.clone() } else { own },
            categories: strings(fields.get("tags")),
            media: attachments
                .filter_map(|fields| {
                    let url = resolved(Cow::Owned(string(fields, "url")?), base);
                    Some((url, string(fields, "mime_type").map(Cow::Owned)))
                })
                .collect(),
            published: when("date_published"),
            updated: when("date_modified"),
            summary,
            content,
            second_summary: None,
        }
    }
}

/// An object and whether its texts had to be repaired for it to be read.
fn object(text: &str) -> Result<(Map<String, Value>, bool), serde_json::Error> {
    let read = |text: &str| match serde_json::from_str(text)? {
        Bounded(Value::Object(fields)) => Ok(fields),
        _ => Err(serde::de::Error::custom("not an object")),
    };
    match read(text) {
        Ok(fields) => Ok((fields, false)),
        Err(error) => match read(&with_whole_texts(text)) {
            Ok(fields) => Ok((fields, true)),
            Err(_) => Err(error),
        },
    }
}

/// The fields that are read, of feed, item, author and attachment.
const FIELDS: [&str; 19] = [
    "attachments",
    "author",
    "authors",
    "content_html",
    "content_text",
    "date_modified",
    "date_published",
    "description",
    "external_url",
    "home_page_url",
    "id",
    "language",
    "mime_type",
    "name",
    "summary",
    "tags",
    "title",
    "url",
    "version",
];

/// A value without the fields that nobody reads and with [`MANY_MAX`] entries of a list: a tree of all of them takes fifty
/// times the room of its text.
struct Bounded(Value);

impl<'de> Deserialize<'de> for Bounded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BoundedVisitor).map(Self)
    }
}

struct BoundedVisitor;

impl<'de> Visitor<'de> for BoundedVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while list.len() < MANY_MAX {
            match entries.next_element::<Bounded>()? {
                Some(Bounded(value)) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
        while entries.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = entries.next_key::<Cow<'_, str>>()? {
            if FIELDS.contains(&&*name) {
                fields.insert(name.into_owned(), entries.next_value::<Bounded>()?.0);
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Value::Object(fields))
    }
}

/// The same JSON with texts that JSON allows: half of a surrogate pair is U+FFFD, a line break or tab within a text is
/// escaped, and a backslash before a sign that needs none goes.
fn with_whole_texts(json: &str) -> String {
    let bytes = json.as_bytes();
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 6).filter(|unit| unit.starts_with(b"\\u"))?;
        u32::from_str_radix(std::str::from_utf8(&digits[2..]).ok()?, 16).ok()
    };
    let mut out = String::with_capacity(json.len() + json.len() / 8);
    let (mut at, mut from, mut within) = (0, 0, false);
    while let Some(byte) = bytes.get(at) {
        // What is put in place of how many bytes.
        let (instead, length) = match (byte, within) {
            (b'"', _) => {
                within = !within;
                at += 1;
                continue;
            }
            (b'\\', true) => match (bytes.get(at + 1), unit(at)) {
                (_, Some(0xd800..=0xdbff)) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => {
                    at += 12;
                    continue;
                }
                (_, Some(0xd800..=0xdfff)) => ("\u{fffd}", 6),
                (_, Some(_)) => {
                    at += 6;
                    continue;
                }
                (Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't'), None) => {
                    at += 2;
                    continue;
                }
                _ => ("", 1),
            },
            (b'\n', true) => ("\\n", 1),
            (b'\r', true) => ("\\r", 1),
            (b'\t', true) => ("\\t", 1),
            _ => {
                at += 1;
                continue;
            }
        };
        out.push_str(&json[from..at]);
        out.push_str(instead);
        at += length;
        from = at;
    }
    out.push_str(json.get(from..).unwrap_or_default());
    out
}

/// A text without the control characters that JSON may hold as escapes, as little wanted as in XML.
fn clean(text: &str) -> String {
    without_controls(Cow::Borrowed(text.trim())).trim().to_owned()
}

fn not_a_feed(text: &str) -> FeedError {
    let error = serde_json::from_str::<Value>(text).ok().and_then(|value| {
        let found =
            ["error", "message", "detail", "errors"].iter().find_map(|name| value.get(*name))?;
        Some(found.as_str().map_or_else(|| found.to_string(), str::to_owned))
    });
    FeedError::not_a_feed(
        &error.map_or_else(|| text.to_owned(), |message| format!("{{ error: {message} }}")),
    )
}

/// Titles are to be plain text, and have HTML in them as RSS titles do.
fn guessed(title: String) -> Markup<'static> {
    let html = looks_like_html(&title);
    markup(title, html)
}

fn markup(text: String, html: bool) -> Markup<'static> {
    Markup { text: Cow::Owned(text), html }
}

/// A string, or a number as one: ids are sometimes numbers.
fn string(fields: &Map<String, Value>, name: &str) -> Option<String> {
    let text = match fields.get(name)? {
        Value::String(text) => clean(text),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn strings(value: Option<&Value>) -> Vec<Cow<'static, str>> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str)
        .map(clean)
        .filter(|text| !text.is_empty())
        .take(MANY_MAX)
        .map(Cow::Owned)
        .collect()
}

fn authors(fields: &Map<String, Value>) -> Vec<Cow<'static, str>> {
    let listed = fields
        .get("authors")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .chain(fields.get("author"));
    let mut names = Vec::new();
    for author in listed.take(MANY_MAX) {
        let name = author
            .as_object()
            .and_then(|author| string(author, "name"))
            .or_else(|| author.as_str().map(clean));
        if let Some(name) =
            name.map(|name| person(Cow::Owned(name))).filter(|name| !names.contains(name))
        {
            names.push(name);
        }
    }
    names
}

/// Behind the `[` of the outermost object's `items`.
fn items_start(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    if bytes.first() != Some(&b'{') {
        return None;
    }
    loop {
        at = skip(bytes, at, b',');
        if bytes.get(at) != Some(&b'"') {
            return None;
        }
        let end = string_end(bytes, at)?;
        let key = &text[at + 1..end - 1];
        at = skip(bytes, end, b':');
        if key == "items" && bytes.get(at) == Some(&b'[') {
            return Some(at + 1);
        }
        at = value_end(text, at)?;
    }
}

fn skip(bytes: &[u8], from: usize, also: u8) -> usize {
    let wanted = |byte: &u8| !byte.is_ascii_whitespace() && *byte != also;
    bytes
        .get(from..)
        .and_then(|rest| rest.iter().position(wanted))
        .map_or(bytes.len(), |at| from + at)
}

/// Where the array whose inside starts at `from` is closed.
fn array_end(text: &str, from: usize) -> Option<usize> {
    value_end(text, from.checked_sub(1)?).map(|end| end - 1)
}

/// Behind the value that starts at `from`; brackets are counted, not matched by kind.
fn value_end(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = from;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at)?;
                if depth == 0 {
                    return Some(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return Some(at + usize::from(depth == 1)),
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 && at > from => return Some(at),
            _ => {}
        }
        at += 1;
    }
}

fn string_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}
