//! What follows from everything that was said of an indicator.

use base::date::{self, seconds};
use indicator::IndicatorKind;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stores::documents::{Body, Contributions};

use crate::ecs::{self, Confidence};
use crate::tlp::Tlp;

/// Fields that follow from all contributions.
pub const DERIVED: &[&str] = &[
    "active",
    "confidence",
    "description",
    "event",
    "event_uuids",
    "expires_at",
    "feed_name",
    "first_seen",
    "first_source",
    "last_seen",
    "lead_days",
    "left_at",
    "malware_family",
    "provider",
    "references",
    "sources_count",
    "tags",
    "threat",
    "threat_actor",
    "tlp",
    "to_ids",
    "type_original",
    "value_raw",
];

const SOURCES: &str = "sources";

/// The tags of those who are no source of the indicator and know something of it.
const ADDED_TAGS: &str = "added_tags";

/// What follows from all contributions to `sources`, and from the document's `type` and `value`. There is no clock in it: an
/// indicator that has expired is one whose `expires_at` is past.
pub fn derive(all: &Contributions<'_>) -> Body {
    let now = all.present();
    let kind = all.text("type").and_then(|kind| kind.parse::<IndicatorKind>().ok());
    let is_active = now.items(SOURCES).next().is_some();
    // Of what nobody gives any more, what was said last is shown.
    let shown = if is_active { now } else { *all };
    let texts = |key: &str| shown.texts(SOURCES, key);
    let instant = |text: Option<&str>| text.and_then(date::instant).map(seconds);
    let (first_seen, last_seen) =
        (instant(all.earliest(SOURCES, "first_seen")), instant(all.latest(SOURCES, "last_seen")));
    let tlp = all.strictest_tlp(SOURCES, "tlp");
    let confidence = shown.highest(SOURCES, "confidence").and_then(Value::as_u64);
    let confidence = confidence.and_then(|score| u8::try_from(score.min(100)).ok());
    let confidence = confidence.map(|score| Confidence::of(score).as_str());
    let mut tags = texts("tags");
    for (_, tag) in all.items(ADDED_TAGS).filter_map(|(who, tag)| Some((who, tag.as_str()?))) {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    let (names, references, comments) = (texts("name"), texts("references"), texts("comment"));
    let to_ids = shown.distinct(SOURCES, "to_ids");
    let description = Some(comments.join("\n")).filter(|text| !text.is_empty());

    let mut threat = kind.map_or_else(Default::default, |kind| {
        ecs::of_value(kind, all.text("value").unwrap_or_default())
    });
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            threat.insert(name.to_owned(), value);
        }
    };
    set("provider", json!(names.first()));
    set("first_seen", json!(first_seen));
    set("last_seen", json!(last_seen));
    set("confidence", json!(confidence));
    set("reference", json!(references.first()));
    set("description", json!(description));
    let marking = tlp.and_then(Tlp::read).map(|tlp| json!({ "tlp": tlp.ecs() }));
    set("marking", json!(marking));
    let page = texts("reference");
    let feed = json!({ "name": names.first(), "reference": page.first() });

    let first = first_source(all);
    // As one of them writes it, and the same one whoever was read first.
    let said = |key: &str| shown.items(SOURCES).next()?.1.get(key)?.as_str();
    let fields = [
        ("active", json!(is_active)),
        ("confidence", json!(confidence)),
        ("description", json!(description)),
        ("event", ecs::event()),
        ("event_uuids", json!(texts("event"))),
        ("expires_at", json!(expires_at(&shown, kind).map(seconds))),
        ("feed_name", json!(names)),
        ("first_seen", json!(first_seen)),
        ("first_source", json!(first.map(|(id, _)| id))),
        ("last_seen", json!(last_seen)),
        ("lead_days", json!(first.and_then(|(_, days)| days))),
        ("left_at", json!(all.latest(SOURCES, "left_at").filter(|_| !is_active))),
        ("malware_family", json!(texts("malware_families"))),
        ("provider", json!(names.first())),
        ("references", json!(references)),
        ("sources_count", json!(all.texts(SOURCES, "id").len())),
        ("tags", json!(tags)),
        ("threat", json!({ "indicator": threat, "feed": feed })),
        ("threat_actor", json!(texts("actors"))),
        ("tlp", json!(tlp)),
        (
            "to_ids",
            json!(if to_ids.is_empty() {
                None
            } else {
                Some(to_ids.contains(&&Value::Bool(true)))
            }),
        ),
        ("type_original", json!(said("type"))),
        ("value_raw", json!(said("raw").or_else(|| all.text("value")))),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The id of the source that had it first, by dates, and by how many whole days before the next one; that of a list that
/// gives no date is when it came.
fn first_source<'a>(all: &Contributions<'a>) -> Option<(&'a str, Option<i64>)> {
    let text = |item: &'a Value, key: &str| item.get(key).and_then(Value::as_str);
    let dated = all.items(SOURCES).filter_map(|(_, item)| {
        Some((date::instant(text(item, "first_seen")?)?, text(item, "id")?))
    });
    let dated: Vec<(Timestamp, &str)> = dated.collect();
    let (at, first) = *dated.iter().min()?;
    let others = dated.iter().filter(|(_, id)| *id != first);
    let next = others.map(|(at, _)| at).min();
    Some((first, next.map(|next| next.duration_since(at).as_hours() / 24)))
}

/// When the last of those who say something of it stops meaning it; never while one lists it without an end.
fn expires_at(shown: &Contributions<'_>, kind: Option<IndicatorKind>) -> Option<Timestamp> {
    let mut latest = None;
    for (_, item) in shown.items(SOURCES) {
        latest = Some(latest.unwrap_or(Timestamp::MIN).max(end_of(item, kind)?));
    }
    latest
}

/// When one contributor stops meaning it: what it says, else a life from its last date, or from when it left a list.
fn end_of(item: &Value, kind: Option<IndicatorKind>) -> Option<Timestamp> {
    let instant = |key: &str| item.get(key)?.as_str().and_then(date::instant);
    if let Some(told) = instant("expires_at") {
        return Some(told);
    }
    let is_listed = item.get("is_listed").and_then(Value::as_bool).unwrap_or(false);
    let from = match instant("left_at") {
        Some(left_at) => left_at,
        None if is_listed => return None,
        None => instant("last_seen").or_else(|| instant("first_seen"))?,
    };
    from.checked_add(life(kind?)?).ok()
}

/// Days for which an address means something after it was last seen. What others use, and why these, is in
/// `docs/decisions/0009-a-life-for-each-type.md`.
const ADDRESS_LIFE_DAYS: i64 = 60;
/// Days for which a name, or what stands under one, does.
const NAME_LIFE_DAYS: i64 = 180;

/// For how long an indicator means something after it was last seen; nothing where it does for ever.
fn life(kind: IndicatorKind) -> Option<SignedDuration> {
    let days = match kind {
        IndicatorKind::Ipv4 | IndicatorKind::Ipv6 | IndicatorKind::IpPort | IndicatorKind::Cidr => {
            ADDRESS_LIFE_DAYS
        }
        IndicatorKind::Url
        | IndicatorKind::Domain
        | IndicatorKind::Hostname
        | IndicatorKind::Email => NAME_LIFE_DAYS,
        _ => return None,
    };
    Some(SignedDuration::from_hours(24 * days))
}

#[cfg(test)]
mod tests {
    use stores::documents::{Owner, Plan, Write, plan};

    use super::*;
    use crate::{Observation, SourceName, owner, write};

    const OWNER: Owner = owner("test");

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn seen(feed: &str, value: &str) -> Observation {
        Observation {
            indicator: indicator::parse(None, value).unwrap(),
            type_original: "word".to_owned(),
            source: SourceName { id: feed.to_owned(), name: feed.to_uppercase(), reference: None },
            event: None,
            first_seen: None,
            last_seen: None,
            tlp: None,
            confidence: None,
            expires_at: None,
            is_listed: true,
            to_ids: None,
            tags: Vec::new(),
            references: Vec::new(),
            malware_families: Vec::new(),
            actors: Vec::new(),
            comment: None,
            more: Vec::new(),
        }
    }

    fn by(contributor: &str, observations: &[Observation], now: &str) -> Write {
        let indicator = &observations[0].indicator;
        let id = crate::id(OWNER.name, indicator.kind, &indicator.value);
        write(&OWNER, id, contributor, observations.to_vec(), &[], at(now), Body::new()).unwrap()
    }

    fn laid(stored: Option<&Body>, write: &Write) -> Body {
        match plan(stored, write) {
            Plan::Create(body) | Plan::Update(body) => body,
            Plan::Unchanged | Plan::Delete => panic!("nothing to write"),
        }
    }

    #[test]
    fn two_feeds_corroborate_one_value_and_each_keeps_its_word() {
        let green = Observation {
            tlp: Some(Tlp::Green),
            confidence: Some(80),
            to_ids: Some(true),
            tags: vec!["c2".to_owned()],
            first_seen: Some(at("2025-05-01T00:00:00Z")),
            ..seen("a", "192.0.2.1")
        };
        let one = laid(None, &by("a", &[green], "2026-01-01T00:00:00Z"));
        let strict = Observation { tlp: Some(Tlp::AmberStrict), ..seen("b", "192.0.2[.]1") };
        let strict = by("b", &[strict], "2026-01-02T00:00:00Z");
        let both = laid(Some(&one), &strict);
        assert_eq!(both["sources_count"], 2);
        assert_eq!(both["tlp"], "amber+strict");
        assert_eq!(both["sources"][0]["tlp"], "green");
        assert_eq!(both["sources"][1]["first_seen"], "2026-01-02T00:00:00Z", "when it came");
        assert_eq!(both["first_seen"], "2025-05-01T00:00:00Z");
        assert_eq!((&both["first_source"], &both["lead_days"]), (&json!("a"), &json!(246)));
        assert_eq!(one["lead_days"], Value::Null, "there is no other");
        assert_eq!((&both["to_ids"], &both["confidence"]), (&json!(true), &json!("High")));
        assert_eq!(both["threat"]["indicator"]["marking"]["tlp"], "AMBER+STRICT");
        assert_eq!(both["threat"]["indicator"]["ip"], "192.0.2.1");
        assert_eq!(both["value_raw"], "192.0.2.1", "as the first of them by name gives it");
        assert_eq!(both["sources"][1]["raw"], "192.0.2[.]1");
        assert_eq!(plan(Some(&both), &strict), Plan::Unchanged);
    }

    #[test]
    fn what_is_listed_holds_and_what_left_or_is_dated_ages() {
        let listed = by("a", &[seen("a", "192.0.2.1")], "2026-01-01T00:00:00Z");
        let one = laid(None, &listed);
        assert_eq!((&one["expires_at"], &one["active"]), (&Value::Null, &json!(true)));
        let leaves =
            Write::retire(one_id(), &OWNER, Some("a".to_owned()), at("2026-02-01T00:00:00Z"));
        let left = laid(Some(&one), &leaves);
        assert_eq!(
            (&left["left_at"], &left["active"]),
            (&json!("2026-02-01T00:00:00Z"), &json!(false))
        );
        assert_eq!(left["expires_at"], "2026-04-02T00:00:00Z");
        assert_eq!(left["feed_name"], json!(["A"]), "what was said last stays readable");
        let back = laid(Some(&left), &listed);
        assert_eq!((&back["left_at"], &back["active"]), (&Value::Null, &json!(true)));
        let dated = Observation {
            is_listed: false,
            last_seen: Some(at("2026-01-10T12:00:00Z")),
            ..seen("e", "192.0.2.1")
        };
        let dated = laid(None, &by("e/1", std::slice::from_ref(&dated), "2026-05-01T00:00:00Z"));
        assert_eq!(dated["expires_at"], "2026-03-11T12:00:00Z");
    }

    #[test]
    fn addresses_and_names_age_and_what_names_content_does_not() {
        for (value, end) in [
            ("192.0.2.1", Some("2026-03-02T00:00:00Z")),
            ("192.0.2.1:443", Some("2026-03-02T00:00:00Z")),
            ("2001:db8::1", Some("2026-03-02T00:00:00Z")),
            ("192.0.2.0/24", Some("2026-03-02T00:00:00Z")),
            ("evil.example.org", Some("2026-06-30T00:00:00Z")),
            ("http://evil.example.org/a", Some("2026-06-30T00:00:00Z")),
            ("a@evil.example.org", Some("2026-06-30T00:00:00Z")),
            ("d41d8cd98f00b204e9800998ecf8427e", None),
            ("CVE-2026-0001", None),
        ] {
            let last_seen = Some(at("2026-01-01T00:00:00Z"));
            let dated = Observation { is_listed: false, last_seen, ..seen("a", value) };
            let body = laid(None, &by("a", &[dated], "2026-05-01T00:00:00Z"));
            assert_eq!(body["expires_at"], json!(end), "{value}");
        }
    }

    fn one_id() -> String {
        crate::id("test", IndicatorKind::Ipv4, "192.0.2.1")
    }
}
