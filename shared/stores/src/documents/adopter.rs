//! From a document of the predecessor to one of ours, purely: its id, values that our mapping takes, and what it had
//! beside that, which is kept whole.

use std::pin::Pin;

use base::config::Config;
use base::{Result, date};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::fmt::rfc2822;
use serde_json::{Map, Value, json};

use super::contributions::union;
use super::document::OWNERS;
use super::plan::{ID, child};
use super::{Body, Index};
use crate::state::State;

/// Where a document says that it was adopted, and under which name its lists are contributed.
pub(super) const ADOPTED: &str = "adopted";
/// Lists that several writers share: what the predecessor put into them stays in the union.
const SHARED: &[&str] = &["tags", "actors_mentioned", "families_mentioned"];

/// The id that the family gives to what this document is about; `None` when the document does not tell.
pub type Identify = Box<dyn Fn(&Body) -> Option<String> + Send + Sync>;

/// An [`Identify`] in the making.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Identify>> + Send + 'a>>;

/// How a family knows its own in an index of the predecessor.
#[derive(Clone, Copy)]
pub struct Adopter {
    /// The index of ours.
    pub index: &'static str,
    /// Lists that its owners share, beside those that articles have.
    pub shared: &'static [&'static str],
    /// Reads what is needed to tell ids.
    pub open: for<'a> fn(&'a Config, &'a dyn State) -> Opening<'a>,
}

/// What had to be changed in a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Repaired {
    /// Dates that were written anew in a form that servers read.
    pub(super) dates: u64,
    /// Dates that cannot be read.
    pub(super) unread: u64,
    /// Other values that the field's type does not take.
    pub(super) others: u64,
}

/// Makes a document fit the mapping. What does not fit stands under `owners.adopted.raw` as it was.
pub(super) fn adopt(
    index: &Index,
    from: &str,
    old_id: &str,
    shared: &[&str],
    mut body: Body,
) -> (Body, Repaired) {
    let (mut raw, mut repaired) = (Map::new(), Repaired::default());
    // Ours to write; what stands there under the same name meant something else.
    for name in [OWNERS, ID] {
        if let Some(value) = body.remove(name) {
            raw.insert(name.to_owned(), value);
        }
    }
    let forms = &index.mapping["properties"];
    let names: Vec<String> =
        body.keys().filter(|name| forms.get(name.as_str()).is_some()).cloned().collect();
    for name in names {
        let form = &forms[&name];
        let value = &body[&name];
        if value.is_null() {
            continue;
        }
        if form["type"] == "date" {
            let Some(text) = value.as_str() else {
                if !value.is_i64() {
                    set_aside(&mut body, &mut raw, &name);
                    repaired.unread += 1;
                }
                continue;
            };
            if is_plain(text) {
                continue;
            }
            let (text, read) = (text.to_owned(), instant(text));
            set_aside(&mut body, &mut raw, &name);
            let beside = format!("{name}_raw");
            if forms.get(&beside).is_some() && body.get(&beside).is_none_or(Value::is_null) {
                body.insert(beside, Value::String(text));
            }
            match read {
                Some(instant) => {
                    body.insert(name, Value::String(date::seconds(instant)));
                    repaired.dates += 1;
                }
                None => repaired.unread += 1,
            }
        } else if !takes(form, value) {
            if let (Some(target), Some(value)) = (form["path"].as_str(), body.get(&name).cloned()) {
                // Another name of a field cannot be written to.
                if target != ID && body.get(target).is_none_or(Value::is_null) {
                    body.insert(target.to_owned(), value);
                }
            }
            set_aside(&mut body, &mut raw, &name);
            repaired.others += 1;
        }
    }
    let mut origin = json!({"index": from, "id": old_id});
    if !raw.is_empty() {
        origin["raw"] = Value::Object(raw);
    }
    let mut owners = json!({ADOPTED: origin});
    for name in SHARED.iter().chain(shared) {
        let part = match body.get(*name) {
            Some(Value::Array(values)) if !values.is_empty() => Value::Array(values.clone()),
            Some(Value::String(value)) => json!([value]),
            _ => continue,
        };
        owners["shared"][*name][ADOPTED] = part;
    }
    body.insert(OWNERS.to_owned(), owners);
    body.entry("revision").or_insert(json!(1));
    (body, repaired)
}

/// Adds to a document of ours what only the adopted one of the same thing has.
pub(super) fn meet(stored: &Body, adopted: &Body) -> Body {
    let mut body = stored.clone();
    for (name, value) in adopted {
        let is_empty = body
            .get(name)
            .is_none_or(|known| known.is_null() || known == &json!([]) || known == &json!(""));
        if is_empty {
            body.insert(name.clone(), value.clone());
        }
    }
    let theirs = &adopted[OWNERS];
    child(&mut body, OWNERS).insert(ADOPTED.to_owned(), theirs[ADOPTED].clone());
    for (name, parts) in theirs["shared"].as_object().into_iter().flatten() {
        let union = {
            let all = child(child(child(&mut body, OWNERS), "shared"), name);
            all.insert(ADOPTED.to_owned(), parts[ADOPTED].clone());
            union(all)
        };
        body.insert(name.clone(), union);
    }
    body
}

/// Which document of the predecessor this one was: the index and the id.
pub(super) fn origin(body: &Body) -> Option<(&str, &str)> {
    let origin = body.get(OWNERS)?.get(ADOPTED)?;
    Some((origin.get("index")?.as_str()?, origin.get("id")?.as_str()?))
}

fn set_aside(body: &mut Body, raw: &mut Map<String, Value>, name: &str) {
    if let Some(value) = body.remove(name) {
        raw.insert(name.to_owned(), value);
    }
}

/// Whether a field of this form takes the value, as far as that can be known without the server.
fn takes(form: &Value, value: &Value) -> bool {
    let each = |fits: &dyn Fn(&Value) -> bool| match value {
        Value::Array(items) => items.iter().all(|item| item.is_null() || fits(item)),
        one => fits(one),
    };
    match form["type"].as_str() {
        Some("alias") => false,
        Some("keyword" | "text") => each(&|item| !item.is_object() && !item.is_array()),
        Some("integer") => {
            each(&|item| item.as_i64().is_some_and(|number| i32::try_from(number).is_ok()))
        }
        Some("long") => each(&Value::is_i64),
        Some("boolean") => each(&Value::is_boolean),
        Some("object" | "nested") | None if form["enabled"] != false => each(&Value::is_object),
        _ => true,
    }
}

/// Whether every server reads this date: `2026-03-01`, or an instant with `T` and, if at all, `Z` or `±hh:mm`.
fn is_plain(text: &str) -> bool {
    if text.len() == 10 {
        return text.parse::<Date>().is_ok();
    }
    let has_seconds =
        text.len() >= 19 && text.as_bytes()[10] == b'T' && text.as_bytes()[16] == b':';
    let rest = text.get(19..).unwrap_or_default();
    let zone = rest.trim_start_matches(|letter: char| letter == '.' || letter.is_ascii_digit());
    has_seconds
        && (zone.is_empty() || zone == "Z" || (zone.len() == 6 && zone.as_bytes()[3] == b':'))
        && (text.parse::<Timestamp>().is_ok()
            || (zone.is_empty() && text.parse::<DateTime>().is_ok()))
}

/// The instant that a date of another form means; one without a zone is taken for UTC.
fn instant(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let in_full = date::instant(text).or_else(|| Some(rfc2822::parse(text).ok()?.timestamp()));
    if in_full.is_some() {
        return in_full;
    }
    // A year, or a year and a month.
    let whole = match text.len() {
        4 => format!("{text}-01-01"),
        7 => format!("{text}-01"),
        _ => return None,
    };
    date::instant(&whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adopted(body: Value) -> (Value, Repaired) {
        let Value::Object(body) = body else { panic!("a document is an object") };
        let index = Index::named("rss_articles").unwrap();
        let (body, repaired) = adopt(index, "old", "1", &[], body);
        (Value::Object(body), repaired)
    }

    #[test]
    fn dates_are_read_where_they_can_be_and_kept_as_they_were() {
        for (text, expected) in [
            ("Tue, 10 Mar 2026 09:00:00 +0100", Some("2026-03-10T08:00:00Z")),
            ("2026-03-10 08:00:00", Some("2026-03-10T08:00:00Z")),
            ("2026-03", Some("2026-03-01T00:00:00Z")),
            ("2026", Some("2026-01-01T00:00:00Z")),
            ("the day before", None),
            ("0", None),
        ] {
            let (body, repaired) = adopted(json!({"published": text}));
            assert_eq!(body["published"].as_str(), expected, "{text}");
            assert_eq!(
                (&body["published_raw"], repaired.dates + repaired.unread),
                (&json!(text), 1)
            );
            assert_eq!(body["owners"]["adopted"]["raw"]["published"], text);
        }
        for plain in [
            "2026-03-10",
            "2026-03-10T08:00:00",
            "2026-03-10T08:00:00.123456+00:00",
            "2026-03-10T08:00:00Z",
        ] {
            let (body, repaired) = adopted(json!({"published": plain}));
            assert_eq!((&body["published"], repaired), (&json!(plain), Repaired::default()));
        }
    }

    #[test]
    fn what_a_field_does_not_take_is_set_aside_and_nothing_is_lost() {
        let (body, repaired) = adopted(json!({
            "id": 7, "owners": "me", "category": {"name": "x"}, "created_at": "2026-01-01", "article_id": "a",
            "language": "a".repeat(40_000), "entities": {"kept": [1]}, "tags": ["t"], "revision": "two",
        }));
        let raw = &body["owners"]["adopted"]["raw"];
        assert_eq!(
            (&raw["id"], &raw["owners"], &raw["category"]),
            (&json!(7), &json!("me"), &json!({"name": "x"}))
        );
        assert_eq!(
            (&body["collected_at"], &raw["article_id"]),
            (&json!("2026-01-01"), &json!("a"))
        );
        assert_eq!(body["language"].as_str().unwrap().len(), 40_000, "kept, and not indexed");
        assert_eq!((&body["entities"], &body["revision"]), (&json!({"kept": [1]}), &json!(1)));
        assert_eq!(body["owners"]["shared"]["tags"]["adopted"], json!(["t"]));
        assert_eq!(repaired.others, 4);
    }

    #[test]
    fn a_document_of_ours_takes_what_it_lacks() {
        let (old, _) =
            adopted(json!({"title": "theirs", "enriched_summary": "s", "tags": ["t", "u"]}));
        let ours = json!({"title": "ours", "enriched_summary": null, "tags": ["u"],
            "owners": {"hashes": {"rss": "h"}, "shared": {"tags": {"rss": ["u"]}}}});
        let met = meet(ours.as_object().unwrap(), old.as_object().unwrap());
        assert_eq!((&met["title"], &met["enriched_summary"]), (&json!("ours"), &json!("s")));
        assert_eq!((&met["tags"], origin(&met)), (&json!(["t", "u"]), Some(("old", "1"))));
        assert_eq!(met["owners"]["hashes"]["rss"], "h");
    }
}
