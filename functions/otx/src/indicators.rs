//! An indicator as the document that `otx_indicators` holds: one for each value of a type, to which every pulse adds its own.

use base::date::seconds;
use ioc::{Observation, SourceName, Tlp, Warned};
use jiff::Timestamp;
use serde_json::{Value, json};
use stores::documents::{Body, Contributions, Owner, Write};

use indicator::{Indicator, IndicatorKind};

use crate::pulse::page;
use crate::settings::{FEED, NAME};
use crate::wire::{Pulse, PulseIndicator};

/// The index that indicators go to.
pub const INDEX: &str = "otx_indicators";

const PULSES: &str = "pulses";

/// What follows from the pulses, beside what follows for every family; the key of `pulses` that each is gathered from.
const GATHERED: [(&str, &str); 5] = [
    ("pulse_ids", "id"),
    ("attack_ids", "attack_ids"),
    ("industries", "industries"),
    ("targeted_countries", "targeted_countries"),
    ("role", "role"),
];

const FIELDS: [&str; ioc::FIELDS.len() + 1] = joined(ioc::FIELDS, &["content"]);
const SHARED: [&str; ioc::SHARED.len() + 1] = joined(ioc::SHARED, &[PULSES]);
const DERIVED: [&str; ioc::DERIVED.len() + 6] = joined(
    ioc::DERIVED,
    &["pulse_ids", "attack_ids", "industries", "targeted_countries", "role", "pulses_count"],
);

/// What the sync writes into an indicator; a contributor is a pulse.
pub const OWNER: Owner = Owner {
    fields: &FIELDS,
    shared: &SHARED,
    derived: &DERIVED,
    derive: Some(derive),
    ..ioc::owner("otx")
};

/// Both lists one after the other.
const fn joined<const N: usize>(one: &[&'static str], other: &[&'static str]) -> [&'static str; N] {
    let mut all = [""; N];
    let mut place = 0;
    while place < N {
        all[place] = if place < one.len() { one[place] } else { other[place - one.len()] };
        place += 1;
    }
    all
}

fn derive(all: &Contributions<'_>) -> Body {
    let mut fields = ioc::derive(all);
    let present = all.present();
    for (field, key) in GATHERED {
        let values = present.distinct(PULSES, key).into_iter().cloned().collect();
        fields.insert(field.to_owned(), values);
    }
    let count = present.distinct(PULSES, "id").len();
    fields.insert("pulses_count".to_owned(), json!(count));
    fields
}

/// What a pulse says of one indicator, which it may name several times; nothing where it says nothing.
pub fn write(
    pulse: &Pulse,
    tlp: Option<Tlp>,
    named: &[PulseIndicator],
    warned: &[Warned],
    now: Timestamp,
) -> Option<Write> {
    let Indicator { kind, value, .. } = &named.first()?.indicator;
    let id = ioc::id(NAME, *kind, value);
    let observations: Vec<Observation> =
        named.iter().map(|one| observation(pulse, tlp, one)).collect();
    let content = named.iter().find(|one| one.indicator.kind == IndicatorKind::Yara);
    let content = content.and_then(|one| one.content.as_deref());
    let own = Body::from_iter([
        ("content".to_owned(), json!(content)),
        (
            PULSES.to_owned(),
            Value::Array(named.iter().map(|one| of_pulse(pulse, tlp, one)).collect()),
        ),
    ]);
    ioc::write(&OWNER, id, &pulse.id, observations, warned, now, own)
}

fn observation(pulse: &Pulse, tlp: Option<Tlp>, one: &PulseIndicator) -> Observation {
    Observation {
        indicator: one.indicator.clone(),
        type_original: one.type_original.clone(),
        source: SourceName {
            id: NAME.to_owned(),
            name: FEED.to_owned(),
            reference: Some(page(&pulse.id)),
        },
        event: Some(pulse.id.clone()),
        first_seen: one.created.or(pulse.created),
        last_seen: one.created.or(pulse.created),
        tlp,
        confidence: None,
        expires_at: one.expiration,
        is_listed: false,
        to_ids: None,
        tags: pulse.tags.clone(),
        references: pulse.references.clone(),
        malware_families: pulse.malware_families.clone(),
        actors: pulse.adversary.iter().cloned().collect(),
        comment: one.description.clone().or_else(|| one.title.clone()),
        more: vec![("left_at", json!(left_at(pulse, one).map(seconds)))],
    }
}

/// Since when a pulse says that an indicator no longer holds; OTX gives no date of that but its end.
fn left_at(pulse: &Pulse, one: &PulseIndicator) -> Option<Timestamp> {
    if one.is_active {
        return None;
    }
    one.expiration.or(one.created).or(pulse.created).or(Some(Timestamp::UNIX_EPOCH))
}

/// An item of `pulses`.
fn of_pulse(pulse: &Pulse, tlp: Option<Tlp>, one: &PulseIndicator) -> Value {
    let mut item = Body::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() && value != json!([]) {
            item.insert(name.to_owned(), value);
        }
    };
    set("id", json!(pulse.id));
    set("name", json!(pulse.name));
    set("author_name", json!(pulse.author_name));
    set("public", json!(pulse.public));
    set("tlp", json!(tlp));
    set("role", json!(one.role));
    set("title", json!(one.title));
    set("description", json!(one.description));
    set("is_active", json!(one.is_active));
    set("created", json!(one.created.map(seconds)));
    set("expiration", json!(one.expiration.map(seconds)));
    set("attack_ids", json!(pulse.attack_ids));
    set("industries", json!(pulse.industries));
    set("targeted_countries", json!(pulse.targeted_countries));
    set("left_at", json!(left_at(pulse, one).map(seconds)));
    Value::Object(item)
}
