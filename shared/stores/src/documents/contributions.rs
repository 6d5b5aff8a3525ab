//! What the writers of a document's shared fields gave, and what follows from all of it: unions, the earliest, the strictest.
//!
//! Nothing here depends on the order in which writers came, and everything is linear in the number of contributions: a
//! document may have tens of thousands.

use std::borrow::Cow;
use std::collections::HashSet;

use base::date;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::canonical::text_of;
use super::document::{Body, OWNERS};

/// In an object of a contribution: since when its contributor no longer gives it.
pub(super) const LEFT_AT: &str = "left_at";

/// The words of the Traffic Light Protocol, the mildest first.
const TLP: [&str; 5] = ["clear", "green", "amber", "amber+strict", "red"];

/// All contributions to the shared fields of one document.
#[derive(Clone, Copy, Debug)]
pub struct Contributions<'a> {
    /// By field, then by contributor.
    shared: Option<&'a Map<String, Value>>,
    body: &'a Body,
    is_present_only: bool,
}

impl<'a> Contributions<'a> {
    pub(super) fn of(body: &'a Body) -> Self {
        let shared = body.get(OWNERS).and_then(|owners| owners.get("shared")?.as_object());
        Self { shared, body, is_present_only: false }
    }

    /// Those that their contributors still give: without the objects that a [retirement](super::Write::retire) marked.
    #[must_use]
    pub fn present(self) -> Self {
        Self { is_present_only: true, ..self }
    }

    /// The text of a field that one owner set, as it stands in the document.
    pub fn text(&self, field: &str) -> Option<&'a str> {
        self.body.get(field)?.as_str()
    }

    /// The items of a shared field with their contributors, in the order of the contributors' names.
    pub fn items(&self, field: &str) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        let is_present_only = self.is_present_only;
        let parts = self.shared.and_then(|shared| shared.get(field)?.as_object());
        by_contributor(parts).filter(move |(_, item)| {
            !is_present_only || item.get(LEFT_AT).is_none_or(Value::is_null)
        })
    }

    /// What the items of a field hold under a key; of a list its parts.
    fn values<'k>(
        &self,
        field: &str,
        key: &'k str,
    ) -> impl Iterator<Item = &'a Value> + use<'a, 'k> {
        let held = self.items(field).filter_map(move |(_, item)| item.get(key));
        held.flat_map(|value| match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        })
    }

    /// The earliest RFC 3339 date or instant that an item of `field` holds under `key`, as it was given; dates are UTC,
    /// what is neither is passed over.
    pub fn earliest(&self, field: &str, key: &str) -> Option<&'a str> {
        self.instants(field, key).min().map(|(_, text)| text)
    }

    /// The latest one.
    pub fn latest(&self, field: &str, key: &str) -> Option<&'a str> {
        self.instants(field, key).max().map(|(_, text)| text)
    }

    fn instants<'k>(
        &self,
        field: &str,
        key: &'k str,
    ) -> impl Iterator<Item = (Timestamp, &'a str)> + use<'a, 'k> {
        self.values(field, key).filter_map(|value| {
            let text = value.as_str()?;
            Some((date::instant(text)?, text))
        })
    }

    /// The strictest word of the Traffic Light Protocol that an item holds; a word that is none of them counts as `red`,
    /// as nobody must be shown too much for a slip of the pen.
    pub fn strictest_tlp(&self, field: &str, key: &str) -> Option<&'static str> {
        let words = self.values(field, key).filter_map(Value::as_str);
        let rank = |word: &str| {
            let word = word.trim().to_ascii_lowercase();
            let word = word.strip_prefix("tlp:").unwrap_or(&word);
            let word = if word == "white" { "clear" } else { word };
            TLP.iter().position(|known| *known == word).unwrap_or(TLP.len() - 1)
        };
        words.map(rank).max().map(|rank| TLP[rank])
    }

    /// The highest number that an item holds.
    pub fn highest(&self, field: &str, key: &str) -> Option<&'a Value> {
        let numbers = self.values(field, key).filter(|value| value.is_number());
        numbers.max_by(|one, other| {
            let number = |value: &Value| value.as_f64().unwrap_or(f64::NEG_INFINITY);
            // Of `1` and `1.0` always the same.
            let by_text = || one.to_string().cmp(&other.to_string());
            number(one).total_cmp(&number(other)).then_with(by_text)
        })
    }

    /// Every distinct value that items hold, nulls apart, in the order of the contributors' names.
    pub fn distinct(&self, field: &str, key: &str) -> Vec<&'a Value> {
        distinct(self.values(field, key).filter(|value| !value.is_null()))
    }

    /// Every distinct text that items hold, in the order of the contributors' names.
    pub fn texts(&self, field: &str, key: &str) -> Vec<&'a str> {
        self.distinct(field, key).into_iter().filter_map(Value::as_str).collect()
    }
}

/// Every distinct value of all parts, in the order of the contributors' names.
pub(super) fn union(parts: &Map<String, Value>) -> Value {
    distinct(by_contributor(Some(parts)).map(|(_, item)| item)).into_iter().cloned().collect()
}

fn by_contributor(
    parts: Option<&Map<String, Value>>,
) -> impl Iterator<Item = (&str, &Value)> + use<'_> {
    // A map that keeps the order of insertion need not be in order.
    let in_order = parts.filter(|parts| parts.keys().is_sorted());
    let mut others: Vec<_> =
        if in_order.is_some() { None } else { parts }.into_iter().flatten().collect();
    others.sort_unstable_by_key(|(name, _)| *name);
    let contributors = in_order.into_iter().flatten().chain(others);
    contributors.flat_map(|(name, part)| {
        part.as_array().into_iter().flatten().map(move |item| {
            #[cfg(test)]
            steps::count(1);
            (name.as_str(), item)
        })
    })
}

fn distinct<'a>(mut values: impl Iterator<Item = &'a Value>) -> Vec<&'a Value> {
    let first = values.by_ref().next();
    let Some((first, second)) = first.and_then(|first| Some((first, values.next()?))) else {
        // Most documents have one contributor, and nothing to compare.
        return first.into_iter().collect();
    };
    let mut seen: HashSet<Form<'_>> = HashSet::new();
    let values = [first, second].into_iter().chain(values);
    values.filter(|value| seen.insert(Form::of(value))).collect()
}

/// What tells a value from all others, compared in one piece.
#[derive(Eq, Hash)]
#[cfg_attr(not(test), derive(PartialEq))]
enum Form<'a> {
    /// A text needs no other form.
    Text(&'a str),
    /// Anything else in its canonical form.
    Other(Cow<'a, str>),
}

impl<'a> Form<'a> {
    fn of(value: &'a Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            other => {
                let text = text_of(other);
                #[cfg(test)]
                steps::count(text.len());
                Self::Other(text.into())
            }
        }
    }
}

/// What the work costs, counted, as a clock would measure the machine.
#[cfg(test)]
mod steps {
    use std::cell::Cell;

    thread_local! { static STEPS: Cell<usize> = const { Cell::new(0) }; }

    pub(super) fn count(steps: usize) {
        STEPS.with(|all| all.set(all.get() + steps));
    }

    pub(super) fn of<T>(work: impl FnOnce() -> T) -> usize {
        let before = STEPS.with(Cell::get);
        work();
        STEPS.with(Cell::get) - before
    }
}

#[cfg(test)]
impl PartialEq for Form<'_> {
    fn eq(&self, other: &Self) -> bool {
        steps::count(1);
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one == other,
            (Self::Other(one), Self::Other(other)) => one == other,
            (Self::Text(_), Self::Other(_)) | (Self::Other(_), Self::Text(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::documents::{Owner, Plan, Write, plan};

    const FEEDS: Owner = Owner {
        shared: &["sources", "tags"],
        derived: &["first_seen", "last_seen", "tlp", "confidence", "campaigns", "active"],
        derive: Some(|all| {
            let now = all.present();
            Body::from_iter([
                ("first_seen".to_owned(), json!(all.earliest("sources", "seen"))),
                ("last_seen".to_owned(), json!(all.latest("sources", "seen"))),
                ("tlp".to_owned(), json!(all.strictest_tlp("sources", "tlp"))),
                ("confidence".to_owned(), json!(now.highest("sources", "confidence"))),
                ("campaigns".to_owned(), json!(now.distinct("sources", "campaigns"))),
                ("active".to_owned(), json!(now.items("sources").next().is_some())),
            ])
        }),
        ..Owner::named("feeds")
    };

    fn write(contributor: &str, fields: &Value) -> Write {
        Write::of("1", &FEEDS, fields.as_object().unwrap().clone()).by(contributor)
    }

    fn after(writes: &[Write]) -> Body {
        let mut stored = None;
        for write in writes {
            match plan(stored.as_ref(), write) {
                Plan::Create(body) | Plan::Update(body) => stored = Some(body),
                Plan::Unchanged | Plan::Delete => {}
            }
        }
        stored.unwrap_or_default()
    }

    #[test]
    fn what_follows_from_all_contributions_is_derived_and_follows_them_back() {
        let source = |seen: &str, tlp: &str, confidence: i32, campaign: &str| json!({"sources": [{"seen": seen, "tlp": tlp, "confidence": confidence, "campaigns": [campaign, "x"]}]});
        let one = write("a", &source("2026-01-02", "TLP:WHITE", 50, "one"));
        let other = write("b", &source("2026-01-02T00:30:00+01:00", "amber", 90, "two"));
        let both = after(&[one.clone(), other]);
        assert_eq!(both["first_seen"], "2026-01-02T00:30:00+01:00");
        assert_eq!((&both["last_seen"], &both["tlp"]), (&json!("2026-01-02"), &json!("amber")));
        assert_eq!(both["confidence"], 90);
        assert_eq!(both["campaigns"], json!(["one", "x", "two"]));

        let now = "2026-03-01T00:00:00Z".parse().unwrap();
        let leaves = Write::retire("1", &FEEDS, Some("b".to_owned()), now);
        let Plan::Update(left) = plan(Some(&both), &leaves) else { panic!("it has left") };
        assert_eq!(left["sources"][1]["left_at"], "2026-03-01T00:00:00Z");
        assert_eq!((&left["confidence"], &left["active"]), (&json!(50), &json!(true)));
        assert_eq!(left["tlp"], "amber", "what was said once is not opened by silence");
        let later = "2026-04-01T00:00:00Z".parse().unwrap();
        let again = Write::retire("1", &FEEDS, Some("b".to_owned()), later);
        assert_eq!(plan(Some(&left), &again), Plan::Unchanged, "it left when it left");
        let last = Write::retire("1", &FEEDS, Some("a".to_owned()), later);
        let Plan::Update(none) = plan(Some(&left), &last) else { panic!("it has left") };
        assert_eq!((&none["confidence"], &none["active"]), (&Value::Null, &json!(false)));
        let Plan::Update(back) = plan(Some(&none), &one) else { panic!("it is back") };
        assert_eq!((&back["confidence"], &back["active"]), (&json!(50), &json!(true)));
        assert_eq!(back["sources"][0].get(LEFT_AT), None);
        let unknown = Write::retire("1", &FEEDS, Some("c".to_owned()), later);
        assert_eq!(plan(Some(&both), &unknown), Plan::Unchanged);
    }

    #[test]
    fn a_word_that_nobody_knows_opens_nothing() {
        let word = |word: &str| after(&[write("a", &json!({"sources": [{"tlp": word}]}))]);
        assert_eq!(word("for friends")["tlp"], "red");
        assert_eq!(word(" Amber+Strict")["tlp"], "amber+strict");
        assert_eq!(
            after(&[write("a", &json!({"sources": [{"seen": "soon"}]}))])["first_seen"],
            Value::Null
        );
    }

    #[test]
    fn twenty_thousand_contributions_cost_twice_what_ten_thousand_do() {
        let document = |count: usize| {
            let parts = |part: fn(usize) -> Value| {
                Value::Object((0..count).map(|n| (format!("feed-{n:05}"), part(n))).collect())
            };
            let sources = parts(|n| {
                json!([{"seen": format!("2026-01-01T{:02}:{:02}:00Z", n / 60 % 24, n % 60), "tlp": "green",
                    "confidence": n % 100, "campaigns": [format!("campaign {n}")]}])
            });
            let tags = parts(|n| json!(["all", format!("tag {n}"), n]));
            let owners = json!({"owners": {"shared": {"sources": sources, "tags": tags}}});
            owners.as_object().unwrap().clone()
        };
        let steps = |count: usize| {
            let stored = document(count);
            let one_more =
                write("one more", &json!({"sources": [{"seen": "2025-12-31"}], "tags": ["all"]}));
            steps::of(|| {
                let Plan::Update(body) = plan(Some(&stored), &one_more) else {
                    panic!("it is new")
                };
                assert_eq!(body["first_seen"], "2025-12-31");
                assert_eq!(body["tags"].as_array().unwrap().len(), 2 * count + 1);
                assert_eq!(body["campaigns"].as_array().unwrap().len(), count);
            })
        };
        let (half, whole) = (steps(10_000), steps(20_000));
        assert!(half > 10_000 && whole < half * 21 / 10, "{half} steps, then {whole}");
    }

    #[test]
    fn a_write_with_twice_the_parts_costs_twice_as_much() {
        let of = |count: usize| {
            let part = |n: usize| {
                let value =
                    json!({"tags": [format!("tag {n}"), n], "sources": [{"confidence": n}]});
                value.as_object().unwrap().clone()
            };
            let all = Write::of("1", &FEEDS, part(0)).by("0");
            let all = (1..count).fold(all, |all, n| all.and(&FEEDS, part(n)).by(n.to_string()));
            steps::of(|| {
                let Plan::Create(body) = plan(None, &all) else { panic!("it is new") };
                assert_eq!(body["tags"].as_array().unwrap().len(), 2 * count);
                assert_eq!(body["confidence"], count - 1);
            })
        };
        let (half, whole) = (of(1_000), of(2_000));
        assert!(half > 1_000 && whole < half * 21 / 10, "{half} steps, then {whole}");
    }

    proptest! {
        #[test]
        fn the_order_of_writers_does_not_matter(
            given in proptest::collection::vec(
                ("[a-c]", "[0-3]", proptest::collection::vec(0_u8..6, 0..3), 0_u8..4), 1..7,
            ),
            order in any::<u64>(),
        ) {
            let now = "2026-03-01T00:00:00Z".parse().unwrap();
            // One write of each writer, which some take back.
            let mut writes = std::collections::BTreeMap::new();
            for (name, day, numbers, kind) in given {
                let items: Vec<Value> = numbers.iter().map(|number| json!({
                    "seen": format!("2026-01-0{}", day.parse::<u8>().unwrap() + 1), "confidence": number,
                    "tlp": TLP[usize::from(*number) % 5], "campaigns": [number, name],
                })).collect();
                let mut of_one = vec![write(&name, &json!({"sources": items, "tags": numbers}))];
                if kind == 0 {
                    of_one.push(Write::retire("1", &FEEDS, Some(name.clone()), now));
                }
                writes.insert(name, of_one);
            }
            let mut all: Vec<Vec<Write>> = writes.into_values().collect();
            let mut one = after(&all.concat());
            let mut seed = order;
            for place in (1..all.len()).rev() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                all.swap(place, usize::try_from(seed >> 33).unwrap() % (place + 1));
            }
            let mut other = after(&all.concat());
            for body in [&mut one, &mut other] {
                body.remove("revision");
            }
            prop_assert_eq!(one, other);
        }
    }
}
