//! One text for each value, whatever order its keys are kept in, and what is made of it: hashes, ids, fingerprints.
//!
//! Two values never share a text. Hashes are stored in documents for ever, so a text that changes has a version: a stored
//! hash says by `2:` that it is of this form, and one without that is compared by the form before it.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::document::{Body, Document};
use super::owner::Owner;

/// The field that shows the hash of an owner's fields to readers; owners that declare it get it set.
pub(super) const CONTENT_HASH: &str = "content_hash";

/// What a hash begins with where it is stored.
const VERSION: &str = "2:";

/// Ends a key, a field's name and a part of an id.
const UNIT: char = '\u{1f}';
/// Ends a field.
const RECORD: char = '\u{1e}';
/// Stands before what would end a part of an id, and before itself.
const ESCAPE: char = '\u{1b}';

/// Hex SHA-256 over parts: equal lists of parts have equal ids, and no two others do.
pub fn id(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    if parts.is_empty() {
        // No list begins with this alone, so it is not the id of one empty part.
        hasher.update([ESCAPE as u8]);
    }
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            hasher.update([UNIT as u8]);
        }
        if part.contains([UNIT, ESCAPE]) {
            let mut escaped = String::with_capacity(part.len() + 8);
            escape(part, [UNIT, ESCAPE], ESCAPE, &mut escaped);
            hasher.update(escaped);
        } else {
            hasher.update(part);
        }
    }
    hexadecimal(hasher)
}

/// A digest in hexadecimal, made in one piece: `hex::encode` pushes letter by letter, a twentieth of what a write costs.
fn hexadecimal(hasher: Sha256) -> String {
    let mut letters = [0; 64];
    hex::encode_to_slice(hasher.finalize(), &mut letters).expect("two letters for each byte");
    String::from_utf8_lossy(&letters).into_owned()
}

/// Hex SHA-256 over the meaning of an owner's fields: those of `fields` that are not `unhashed`, absent ones as null, `optional`
/// ones not at all.
pub(super) fn hash(owner: &Owner, fields: &Body) -> String {
    hash_by(write_value, owner, fields)
}

/// A hash as documents hold it.
pub(super) fn versioned(hash: &str) -> String {
    [VERSION, hash].concat()
}

/// Whether a stored hash is that of these fields, which is `hash` in today's form.
pub(super) fn is_hash_of(stored: &str, owner: &Owner, fields: &Body, hash: &str) -> bool {
    match stored.strip_prefix(VERSION) {
        Some(stored) => stored == hash,
        None => stored == hash_by(write_value_1, owner, fields),
    }
}

fn hash_by(write: fn(&Value, &mut String), owner: &Owner, fields: &Body) -> String {
    let mut text = String::with_capacity(1024);
    let hashed = |name: &&&str| !owner.unhashed.contains(*name) && **name != CONTENT_HASH;
    for name in owner.fields.iter().filter(hashed) {
        let value = fields.get(*name).unwrap_or(&Value::Null);
        if value.is_null() && owner.optional.contains(name) {
            continue;
        }
        text.push_str(name);
        text.push(UNIT);
        write(value, &mut text);
        text.push(RECORD);
    }
    hexadecimal(Sha256::new_with_prefix(text))
}

/// A hash over documents, given in the order of their ids: equal documents have equal ones whatever store they are read from.
#[derive(Clone, Default)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// Takes in the next document.
    pub fn add(&mut self, document: &Document) {
        let mut text = String::with_capacity(2048);
        write_key(&document.id, &mut text);
        write_object(&document.body, &mut text);
        text.push(RECORD);
        self.0.update(text.as_bytes());
    }

    /// The hash of all that was given, in hexadecimal.
    pub fn hex(&self) -> String {
        hexadecimal(self.0.clone())
    }
}

/// The text of a value.
pub(super) fn text_of(value: &Value) -> String {
    let mut text = String::new();
    write_value(value, &mut text);
    text
}

/// JSON with the keys of objects in order. Every string, list and object says where it ends, whatever stands in it.
fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_value(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(map) => write_object(map, out),
        // A quote tells the string `1` from the number 1.
        Value::String(text) => {
            out.push('"');
            escape(text, ['"', '\\'], '\\', out);
            out.push('"');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => write_plain(value, out),
    }
}

/// Writes null, a boolean or a number as JSON does.
fn write_plain(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        other => out.push_str(&other.to_string()),
    }
}

fn write_object(map: &Map<String, Value>, out: &mut String) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    out.push('{');
    for (key, item) in entries {
        // Where a key may begin, this would end the object: `{"a": {"},b": 1}, "c": 2}` is not `{"a": {}, "b": 1, "},c": 2}`.
        if key.starts_with('}') {
            out.push('\\');
        }
        write_key(key, out);
        write_value(item, out);
        out.push(',');
    }
    out.push('}');
}

fn write_key(key: &str, out: &mut String) {
    escape(key, ['\\', UNIT], '\\', out);
    out.push(UNIT);
}

/// Writes a text with `by` before each of two letters of ASCII.
fn escape(text: &str, special: [char; 2], by: char, out: &mut String) {
    let [one, other] = special.map(|letter| letter as u8);
    // Most texts are short and hold neither: a fold without an early end is a few vectors, a call of memchr costs more.
    let is_special = |byte: u8| (byte == one) | (byte == other);
    if !text.bytes().fold(false, |any, byte| any | is_special(byte)) {
        return out.push_str(text);
    }
    let mut written = 0;
    for (place, _) in text.bytes().enumerate().filter(|(_, byte)| is_special(*byte)) {
        out.push_str(&text[written..place]);
        out.push(by);
        written = place;
    }
    out.push_str(&text[written..]);
}

/// The first form, without escapes, by which hashes without a version were made.
fn write_value_1(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_value_1(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (key, item) in entries {
                out.push_str(key);
                out.push(UNIT);
                write_value_1(item, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::String(text) => {
            out.push('"');
            out.push_str(text);
            out.push('"');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => write_plain(value, out),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const TITLED: Owner = Owner { fields: &["title", CONTENT_HASH], ..Owner::named("titled") };

    fn titled(title: &Value) -> Body {
        Body::from_iter([("title".to_owned(), title.clone())])
    }

    #[test]
    fn a_fingerprint_tells_a_value_a_name_and_a_boundary_from_another() {
        let print = |documents: &[Value]| {
            let mut print = Fingerprint::default();
            for body in documents {
                let body = body.as_object().unwrap().clone();
                print.add(&Document { id: "1".to_owned(), body });
            }
            print.hex()
        };
        let one = print(&[json!({"a": 1, "b": [2.5]})]);
        assert_eq!(one, print(&[serde_json::from_str(r#"{"b":[2.5],"a":1}"#).unwrap()]));
        for other in [
            &[json!({"a": "1", "b": [2.5]})][..],
            &[json!({"a": 1, "b": 2.5})],
            &[json!({"a": 1}), json!({"b": [2.5]})],
            &[],
        ] {
            assert_ne!(one, print(other), "{other:?}");
        }
    }

    #[test]
    fn values_that_once_shared_a_text_have_their_own() {
        for (one, other) in [
            (json!(["a", "b"]), json!(["a\",\"b"])),
            (json!({"a": {"},b": 1}, "c": 2}), json!({"a": {}, "b": 1, "},c": 2})),
            (json!({"a\u{1f}\"b\",c": 1}), json!({"a": "b", "c": 1})),
            (json!("\\\""), json!("\\\\\"")),
        ] {
            assert_ne!(text_of(&one), text_of(&other));
        }
        let old = |value: &Value| {
            let mut text = String::new();
            write_value_1(value, &mut text);
            text
        };
        assert_eq!(old(&json!(["a", "b"])), old(&json!(["a\",\"b"])));
        let plain = json!({"a": [1, -0.5, null, true, {"b {c}": "d, [e]"}], "é": ""});
        assert_eq!(text_of(&plain), old(&plain), "hashes of plain values stay what they were");
    }

    #[test]
    fn a_hash_without_a_version_is_compared_by_the_form_it_was_made_in() {
        for title in [json!("plain"), json!("she said \"a\\b\""), json!(["a\",\"b"]), json!(1)] {
            let fields = titled(&title);
            let (first, now) = (hash_by(write_value_1, &TITLED, &fields), hash(&TITLED, &fields));
            assert!(is_hash_of(&first, &TITLED, &fields, &now), "{title}");
            assert!(is_hash_of(&versioned(&now), &TITLED, &fields, &now), "{title}");
            let other = titled(&json!("other"));
            let hash = hash(&TITLED, &other);
            assert!(!is_hash_of(&first, &TITLED, &other, &hash), "{title}");
            assert!(!is_hash_of(&versioned(&now), &TITLED, &other, &hash), "{title}");
        }
        // What the version before stored for it.
        assert_eq!(
            hash(&TITLED, &titled(&json!("a"))),
            hex::encode(Sha256::digest("title\u{1f}\"a\"\u{1e}"))
        );
    }

    #[test]
    fn ids_are_those_of_before_and_a_separator_in_a_part_is_none() {
        assert_eq!(id(&["rss", "a", "b"]), hex::encode(Sha256::digest("rss\u{1f}a\u{1f}b")));
        assert_eq!(id(&["a"]), hex::encode(Sha256::digest("a")));
        let lists: [&[&str]; 9] = [
            &[],
            &[""],
            &["", ""],
            &["\u{1b}"],
            &["a", "b"],
            &["a\u{1f}b"],
            &["a\u{1b}", "b"],
            &["a\u{1b}\u{1f}b"],
            &["a\u{1b}\u{1b}", "b"],
        ];
        for (place, one) in lists.iter().enumerate() {
            for other in &lists[..place] {
                assert_ne!(id(one), id(other), "{one:?} {other:?}");
            }
        }
    }

    /// Values of few letters, those with a meaning among them, so that texts are nearly alike.
    fn values() -> impl Strategy<Value = Value> {
        let letters = "[a,\"\\\\{}\\[\\]1\u{1f}\u{1e}]{0,4}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-2_i64..12).prop_map(Value::from),
            prop_oneof![Just(1.0_f64), Just(0.1), Just(1e30)].prop_map(Value::from),
            letters.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::vec((letters, inner), 0..3)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    /// Reads a text back, which is possible when no two values share one.
    fn read(text: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Value {
        fn escaped(text: &mut std::iter::Peekable<std::str::Chars<'_>>, end: char) -> String {
            let mut out = String::new();
            loop {
                match text.next().unwrap() {
                    '\\' => out.push(text.next().unwrap()),
                    letter if letter == end => return out,
                    letter => out.push(letter),
                }
            }
        }
        match text.next().unwrap() {
            '"' => Value::String(escaped(text, '"')),
            '[' => {
                let mut items = Vec::new();
                while text.peek() != Some(&']') {
                    items.push(read(text));
                    assert_eq!(text.next(), Some(','));
                }
                text.next();
                Value::Array(items)
            }
            '{' => {
                let mut map = Map::new();
                while text.peek() != Some(&'}') {
                    let key = escaped(text, UNIT);
                    map.insert(key, read(text));
                    assert_eq!(text.next(), Some(','));
                }
                text.next();
                Value::Object(map)
            }
            first => {
                let mut plain = String::from(first);
                while let Some(letter) = text.next_if(|letter| !",]}\u{1e}".contains(*letter)) {
                    plain.push(letter);
                }
                serde_json::from_str(&plain).unwrap()
            }
        }
    }

    proptest! {
        #[test]
        fn no_two_values_share_a_text(one in values(), other in values()) {
            let (first, second) = (text_of(&one), text_of(&other));
            prop_assert_eq!(one == other, first == second, "{} {}", one, other);
            // Where every text can be read back, none is shared, generated or not.
            prop_assert_eq!(read(&mut first.chars().peekable()), one);
        }

        #[test]
        fn no_two_lists_share_an_id(
            one in proptest::collection::vec("[a\u{1b}\u{1f}]{0,3}", 0..4),
            other in proptest::collection::vec("[a\u{1b}\u{1f}]{0,3}", 0..4),
        ) {
            let of = |parts: &[String]| id(&parts.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(one == other, of(&one) == of(&other));
        }
    }
}
