//! What a field takes: values of its type, and no more of them than its cap.
//!
//! A source's items are fitted before any store sees them. So one value never costs its item, a value that stands once in the
//! input fills no disk by standing in every document, and all stores hold the same. Texts are cut; an exact value is left out
//! whole, as a shorter one would be another value.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::LazyLock;

use base::date;
use serde_json::Value;

use super::batches::weight;
use super::document::Body;
use super::index::Index;
use super::plan::Write;

/// Bytes of the fields of one write together.
///
/// The largest fields are left out until they are no more. A document may have
/// [`DOCUMENT_BYTES_MAX`](super::DOCUMENT_BYTES_MAX), as it holds what its writers share twice.
pub const WRITE_BYTES_MAX: usize = 6 << 20;

/// How much a field takes from one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Bytes of its texts, or of its objects as JSON, together.
    pub bytes: usize,
    /// Values, where it is a list.
    pub values: usize,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// What words to search and exact values take, where their name has no cap of its own.
const TEXT: Cap = Cap { bytes: 64 * KIB, values: 1_000 };
/// What objects take, where their name has no cap of its own.
const OBJECTS: Cap = Cap { bytes: MIB, values: 10_000 };

/// The caps of fields by name; a name means the same wherever it stands. What a channel says of itself stands in each of its
/// items, so it is short.
const CAPS: &[(&str, Cap)] = &[
    ("attribute_uuids", Cap { bytes: MIB, values: 20_000 }),
    ("comments", Cap { bytes: 8 * KIB, values: 100 }),
    ("content", Cap { bytes: MIB, values: 1 }),
    ("cves", Cap { bytes: 256 * KIB, values: 10_000 }),
    ("descricao", Cap { bytes: 256 * KIB, values: 1 }),
    ("description", Cap { bytes: 256 * KIB, values: 1 }),
    ("event_uuids", Cap { bytes: MIB, values: 20_000 }),
    ("feed_description", Cap { bytes: 2 * KIB, values: 1 }),
    ("feed_link", Cap { bytes: 8 * KIB, values: 1 }),
    ("feed_title", Cap { bytes: KIB, values: 1 }),
    ("hashes", Cap { bytes: MIB, values: 10_000 }),
    ("library_entries", Cap { bytes: MIB, values: 10_000 }),
    ("pulse_ids", Cap { bytes: MIB, values: 20_000 }),
    ("raw", Cap { bytes: MIB, values: 10_000 }),
    ("references", Cap { bytes: MIB, values: 10_000 }),
    ("rule_content", Cap { bytes: 4 * MIB, values: 1 }),
    ("summary", Cap { bytes: 256 * KIB, values: 1 }),
    ("yara_rule_ids", Cap { bytes: MIB, values: 10_000 }),
    ("yara_rule_names", Cap { bytes: MIB, values: 10_000 }),
    ("yara_rules", Cap { bytes: 4 * MIB, values: 10_000 }),
];

/// A field as values are held against it.
struct Form {
    kind: Kind,
    cap: Cap,
}

enum Kind {
    Text,
    Keyword,
    Date,
    Boolean,
    Integer,
    Long,
    Float,
    Address,
    /// Objects with these fields.
    Objects(HashMap<String, Form>),
    /// Anything, kept and not indexed.
    Opaque,
    /// Another name of a field, which cannot be written to.
    Alias,
}

static FORMS: LazyLock<HashMap<&'static str, HashMap<String, Form>>> = LazyLock::new(|| {
    Index::all().iter().map(|index| (index.name, forms(&index.mapping["properties"]))).collect()
});

fn forms(fields: &Value) -> HashMap<String, Form> {
    let fields = fields.as_object().into_iter().flatten();
    fields.map(|(name, form)| (name.clone(), Form::of(name, form))).collect()
}

impl Form {
    fn of(name: &str, form: &Value) -> Self {
        let (kind, by_type) = match form["type"].as_str() {
            Some("text") => (Kind::Text, TEXT),
            Some("keyword") => (Kind::Keyword, TEXT),
            Some("date") => (Kind::Date, TEXT),
            Some("boolean") => (Kind::Boolean, TEXT),
            Some("integer") => (Kind::Integer, TEXT),
            Some("long") => (Kind::Long, TEXT),
            Some("float") => (Kind::Float, TEXT),
            Some("ip") => (Kind::Address, TEXT),
            Some("alias") => (Kind::Alias, TEXT),
            _ if form["properties"].is_object() => {
                (Kind::Objects(forms(&form["properties"])), OBJECTS)
            }
            _ => (Kind::Opaque, OBJECTS),
        };
        let named = CAPS.binary_search_by_key(&name, |(named, _)| *named);
        Self { kind, cap: named.map_or(by_type, |place| CAPS[place].1) }
    }

    /// Whether its type bounds a value of it.
    fn is_bounded(&self) -> bool {
        !matches!(self.kind, Kind::Text | Kind::Keyword | Kind::Objects(_) | Kind::Opaque)
    }
}

impl Index {
    /// How much one of its fields takes; nothing for a field whose type bounds it.
    pub fn cap(&self, field: &str) -> Option<Cap> {
        let form = FORMS.get(self.name)?.get(field)?;
        (!form.is_bounded()).then_some(form.cap)
    }
}

/// In how many writes a field was not kept as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misfit {
    /// It was more than its cap.
    pub too_large: u64,
    /// It was of another type.
    pub wrong_type: u64,
}

/// What was cut or left out, by field.
pub type Misfits = BTreeMap<String, Misfit>;

/// Writes as their index takes them.
pub struct Fitted<'a> {
    /// The writes, in their order.
    pub writes: Cow<'a, [Write]>,
    /// What they lost.
    pub misfits: Misfits,
    /// Bytes of what they hold.
    pub bytes: u64,
}

/// Makes writes fit their index.
pub fn fit<'a>(index: &Index, writes: &'a [Write]) -> Fitted<'a> {
    let (mut fitted, mut misfits, mut bytes) = (Cow::Borrowed(writes), Misfits::new(), 0);
    for (place, write) in writes.iter().enumerate() {
        for (number, part) in write.parts.iter().enumerate() {
            let (changes, size) = changes(index, &part.fields);
            bytes += size as u64;
            for (name, value, misfit) in changes {
                let all = misfits.entry(name.to_owned()).or_default();
                all.too_large += misfit.too_large;
                all.wrong_type += misfit.wrong_type;
                let fields = &mut fitted.to_mut()[place].parts[number].fields;
                fields.insert(name.to_owned(), value);
            }
        }
    }
    Fitted { writes: fitted, misfits, bytes }
}

/// A field that does not fit, what it becomes, and why.
type Change<'a> = (&'a str, Value, Misfit);

/// The fields that do not fit, and how many bytes all of them have then.
fn changes<'a>(index: &Index, fields: &'a Body) -> (Vec<Change<'a>>, usize) {
    let (mut changes, mut sizes, mut sum) = (Vec::new(), Vec::with_capacity(fields.len()), 0);
    let Some(forms) = FORMS.get(index.name) else { return (changes, sum) };
    for (name, value) in fields {
        let Some(form) = forms.get(name) else { continue };
        let mut fitting = Fitting::new(form.cap);
        let other = fitting.value(form, value);
        let size = form.cap.bytes - fitting.bytes;
        sum += size;
        sizes.push((size, name.as_str()));
        if let Some(other) = other {
            changes.push((name.as_str(), other, fitting.misfit));
        }
    }
    if sum > WRITE_BYTES_MAX {
        sizes.sort_unstable();
        while sum > WRITE_BYTES_MAX
            && let Some((size, name)) = sizes.pop()
        {
            sum -= size;
            changes.retain(|(changed, ..)| *changed != name);
            changes.push((name, Value::Null, Misfit { too_large: 1, wrong_type: 0 }));
        }
    }
    (changes, sum)
}

/// A field's values on their way through its cap.
struct Fitting {
    /// Bytes that still fit.
    bytes: usize,
    /// Values that still fit.
    values: usize,
    misfit: Misfit,
}

impl Fitting {
    fn new(cap: Cap) -> Self {
        Self { bytes: cap.bytes, values: cap.values, misfit: Misfit::default() }
    }

    /// What is kept of a value, null for nothing; or nothing is said where it fits as it is.
    fn value(&mut self, form: &Form, value: &Value) -> Option<Value> {
        match (value, &form.kind) {
            (Value::Null, _) => None,
            (Value::Array(items), _) => self.list(form, items),
            (Value::Object(fields), Kind::Objects(forms)) => self.object(forms, fields),
            (one, kind) => self.one(kind, one),
        }
    }

    fn list(&mut self, form: &Form, items: &[Value]) -> Option<Value> {
        let mut kept: Option<Vec<Value>> = None;
        for (place, item) in items.iter().enumerate() {
            let other = if self.values == 0 {
                self.too_large()
            } else {
                self.values -= 1;
                self.value(form, item)
            };
            match (other, &mut kept) {
                (None, None) | (Some(Value::Null), Some(_)) => {}
                (None, Some(kept)) => kept.push(item.clone()),
                (Some(Value::Null), None) => kept = Some(items[..place].to_vec()),
                (Some(other), kept) => {
                    kept.get_or_insert_with(|| items[..place].to_vec()).push(other);
                }
            }
        }
        kept.map(Value::Array)
    }

    fn object(&mut self, forms: &HashMap<String, Form>, fields: &Body) -> Option<Value> {
        // Servers take no such name, whether the mapping has it or not.
        let is_plain = |name: &str| !name.trim().is_empty() && !name.contains('.');
        let mut kept: Option<Body> = None;
        for (name, value) in fields {
            self.bytes = self.bytes.saturating_sub(name.len());
            let other = match forms.get(name) {
                Some(form) => {
                    // A field within takes what its type takes, and no more than is left of the whole.
                    let bytes = form.cap.bytes.min(self.bytes);
                    let mut within = Self { bytes, values: form.cap.values, misfit: self.misfit };
                    let other = within.value(form, value);
                    self.bytes -= bytes - within.bytes;
                    self.misfit = within.misfit;
                    other
                }
                None if !is_plain(name) => self.wrong_type(),
                None => self.whole(value),
            };
            if let Some(other) = other {
                kept.get_or_insert_with(|| fields.clone()).insert(name.clone(), other);
            }
        }
        let mut kept = kept?;
        kept.retain(|name, _| forms.contains_key(name) || is_plain(name));
        Some(Value::Object(kept))
    }

    /// A value that is no list.
    fn one(&mut self, kind: &Kind, value: &Value) -> Option<Value> {
        let is_of = match (kind, value) {
            (Kind::Text, Value::String(text)) => return self.text(text),
            (Kind::Text | Kind::Keyword, Value::Object(_))
            | (Kind::Objects(_) | Kind::Alias, _) => false,
            (Kind::Text | Kind::Keyword | Kind::Opaque, value) => return self.whole(value),
            (Kind::Date, Value::String(text)) => is_date(text),
            (Kind::Date | Kind::Long, Value::Number(number)) => number.is_i64(),
            (Kind::Boolean, Value::Bool(_)) => true,
            (Kind::Boolean, Value::String(text)) => matches!(text.as_str(), "true" | "false"),
            (Kind::Integer, Value::Number(number)) => {
                number.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
            }
            (Kind::Integer, Value::String(text)) => text.parse::<i32>().is_ok(),
            (Kind::Long, Value::String(text)) => text.parse::<i64>().is_ok(),
            (Kind::Float, Value::Number(number)) => {
                number.as_f64().is_some_and(|number| number.abs() <= f64::from(f32::MAX))
            }
            (Kind::Address, Value::String(text)) => text.parse::<IpAddr>().is_ok(),
            _ => false,
        };
        if is_of { None } else { self.wrong_type() }
    }

    /// As much of a text as fits.
    fn text(&mut self, text: &str) -> Option<Value> {
        if text.len() <= self.bytes {
            self.bytes -= text.len();
            return None;
        }
        let cut = &text[..text.floor_char_boundary(self.bytes)];
        self.bytes = 0;
        self.misfit.too_large = 1;
        Some(if cut.is_empty() { Value::Null } else { Value::String(cut.to_owned()) })
    }

    /// The whole value, or nothing of it.
    fn whole(&mut self, value: &Value) -> Option<Value> {
        let size = match value {
            Value::String(text) => text.len(),
            other => weight(other),
        };
        if size > self.bytes {
            return self.too_large();
        }
        self.bytes -= size;
        None
    }

    fn too_large(&mut self) -> Option<Value> {
        self.misfit.too_large = 1;
        Some(Value::Null)
    }

    fn wrong_type(&mut self) -> Option<Value> {
        self.misfit.wrong_type = 1;
        Some(Value::Null)
    }
}

/// Whether a text is a date as documents hold it: an instant in RFC 3339, a day, a month or a year.
fn is_date(text: &str) -> bool {
    let is_part =
        |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('-') {
        None => is_part(text, 4),
        Some((year, month)) if text.len() == 7 => {
            is_part(year, 4) && is_part(month, 2) && ("01"..="12").contains(&month)
        }
        Some(_) => date::instant(text).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::documents::Owner;

    const OWNER: Owner = Owner {
        fields: &[
            "title",
            "content",
            "summary",
            "published",
            "published_in_future",
            "feed_title",
            "link",
            "media",
            "iocs",
            "author",
            "tags",
        ],
        ..Owner::named("one")
    };

    fn fitted(fields: Value) -> (Value, Misfits) {
        let Value::Object(fields) = fields else { panic!("fields are an object") };
        let writes = [Write::of("1", &OWNER, fields)];
        let fitted = fit(Index::named("rss_articles").unwrap(), &writes);
        (Value::Object(fitted.writes[0].parts[0].fields.clone()), fitted.misfits)
    }

    const TOO_LARGE: Misfit = Misfit { too_large: 1, wrong_type: 0 };
    const WRONG: Misfit = Misfit { too_large: 0, wrong_type: 1 };

    #[test]
    fn what_fits_is_not_copied() {
        let writes = [Write::of("1", &OWNER, Body::new())];
        let fitted = fit(Index::named("rss_articles").unwrap(), &writes);
        assert!(matches!(fitted.writes, Cow::Borrowed(_)) && fitted.misfits.is_empty());
        let good = json!({
            "title": "t", "content": "c".repeat(MIB), "published": "2026-03-01T00:00:00Z", "tags": ["a", 1, null],
            "published_in_future": false, "iocs": [{"type": "ip", "value": "198.51.100.7", "raw": null}],
        });
        assert_eq!(fitted_alike(&good), Misfits::new());
        for date in ["2026", "2026-03", "2026-03-01", "2026-03-01T00:00:00.123+03:00"] {
            assert_eq!(fitted_alike(&json!({"published": date})), Misfits::new(), "{date}");
        }
    }

    fn fitted_alike(fields: &Value) -> Misfits {
        let (after, misfits) = fitted(fields.clone());
        assert_eq!(&after, fields);
        misfits
    }

    #[test]
    fn texts_are_cut_between_letters_and_exact_values_left_out() {
        let (after, misfits) = fitted(json!({
            "feed_title": "é".repeat(600), "link": "https://example.org/".repeat(4_000), "title": "t",
        }));
        assert_eq!(after["feed_title"], "é".repeat(512));
        assert_eq!((&after["link"], &after["title"]), (&Value::Null, &json!("t")));
        assert_eq!(
            misfits,
            BTreeMap::from([("feed_title".to_owned(), TOO_LARGE), ("link".to_owned(), TOO_LARGE)])
        );
    }

    #[test]
    fn a_list_keeps_its_first_values() {
        let tags: Vec<String> = (0..1_500).map(|number| format!("tag {number}")).collect();
        let (after, misfits) = fitted(json!({"tags": tags}));
        assert_eq!(after["tags"], json!(tags[..1_000]));
        assert_eq!(misfits["tags"], TOO_LARGE);
        let long = "x".repeat(60 * KIB);
        let (after, _) = fitted(json!({"tags": ["a", long, long, "b"]}));
        assert_eq!(after["tags"], json!(["a", long, "b"]));
        let ioc = json!({"type": "url", "value": "v".repeat(1_000), "raw": "r"});
        let (after, misfits) = fitted(json!({"iocs": vec![ioc; 2_000]}));
        assert!(weight(&after["iocs"]) < 2 * MIB, "{}", weight(&after["iocs"]));
        assert_eq!(misfits["iocs"], TOO_LARGE);
    }

    #[test]
    fn what_is_of_another_type_is_left_out_and_the_rest_stays() {
        for (field, wrong) in [
            ("published", json!("the day after tomorrow")),
            ("published", json!("2026-13")),
            ("published", json!({"a": 1})),
            ("published", json!(true)),
            ("published_in_future", json!("yes")),
            ("published_in_future", json!(1)),
            ("title", json!({"a": 1})),
            ("link", json!({"a": 1})),
            ("iocs", json!("198.51.100.7")),
        ] {
            let (after, misfits) = fitted(json!({field: wrong, "summary": "s"}));
            assert_eq!((&after[field], &after["summary"]), (&Value::Null, &json!("s")), "{field}");
            assert_eq!(misfits, BTreeMap::from([(field.to_owned(), WRONG)]));
        }
        let (after, _) = fitted(
            json!({"iocs": [{"": 1, "a.b": 2, "other": 3, "type": {"a": 1}, "value": "v"}, 7]}),
        );
        assert_eq!(after["iocs"], json!([{"other": 3, "type": null, "value": "v"}]));
    }

    #[test]
    fn the_fields_of_a_write_fit_together() {
        let media: Vec<String> = (0..10).map(|_| "m".repeat(100 * KIB)).collect();
        let (after, misfits) =
            fitted(json!({"content": "c".repeat(2 * MIB), "media": media, "author": "a"}));
        assert_eq!(after["content"], "c".repeat(MIB));
        assert_eq!(misfits.keys().collect::<Vec<_>>(), ["content"]);
        let index = Index::named("cti_yara_rules").unwrap();
        let fields = json!({"rule_content": "r".repeat(4 * MIB), "meta": "m".repeat(MIB)})
            .as_object()
            .unwrap()
            .clone();
        let (fitting, size) = changes(index, &fields);
        assert!(fitting.is_empty() && size >= 5 * MIB);
        let mut fields = fields;
        for name in ["description", "verdict_error"] {
            fields.insert(name.to_owned(), json!("d".repeat(256 * KIB)));
        }
        for name in ["hashes", "imports", "modules"] {
            fields.insert(name.to_owned(), json!(vec!["h".repeat(KIB); 1_000]));
        }
        let (fitting, size) = changes(index, &fields);
        assert!(size <= WRITE_BYTES_MAX, "{size}");
        let lost: Vec<&str> = fitting
            .iter()
            .filter(|(_, value, _)| value.is_null())
            .map(|(name, ..)| *name)
            .collect();
        assert_eq!(lost, ["rule_content"], "the largest goes");
    }

    #[test]
    fn every_cap_is_of_a_field_there_is() {
        for (name, _) in CAPS {
            let is_known = Index::all()
                .iter()
                .any(|index| index.cap(name).is_some() && index.fields.contains_key(*name));
            assert!(is_known, "`{name}`");
        }
        assert!(CAPS.is_sorted_by_key(|(name, _)| name));
    }
}
