//! An event as MISP writes it, read in bounded memory: its head at once, its attributes one after the other.
//!
//! Nothing is expected to have one form: the wrapper has five, numbers come as texts and texts as numbers, and what stands first
//! may stand last. An attribute that is malformed costs itself. What attachments hold is never copied.

use std::borrow::Cow;

use base::date;
use base::json::{Broken, Elements, Records, bounded, plain};
use jiff::Timestamp;
use serde_json::Value;

/// Wrappers around an event at most.
const WRAPPERS_MAX: usize = 4;
/// Bytes of a comment, an event's title or another text beside a value.
pub const TEXT_MAX: usize = 4 << 10;
/// Tags of an event or an attribute.
pub const TAGS_MAX: usize = 200;
/// Bytes of an attribute's text without its attachment.
pub const ATTRIBUTE_BYTES_MAX: usize = 1 << 20;

/// What stands in an event beside its attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    pub uuid: String,
    pub info: String,
    /// The day that it is of, without a zone.
    pub date: Option<Timestamp>,
    /// When it was last changed.
    pub timestamp: Option<i64>,
    /// `high`, `medium`, `low` or `undefined`.
    pub threat_level: Option<&'static str>,
    /// Who made it.
    pub organisation: Option<String>,
    /// A tombstone: the event was taken back.
    pub is_deleted: bool,
    pub labels: Labels,
}

/// What tags and galaxies say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Names of tags, as they are.
    pub tags: Vec<String>,
    pub actors: Vec<String>,
    pub malware_families: Vec<String>,
    /// Techniques of ATT&CK: `T1059.001`.
    pub attack_ids: Vec<String>,
}

/// One attribute, of the event or of an object in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attribute {
    pub uuid: String,
    pub kind: String,
    pub category: String,
    pub value: String,
    pub comment: String,
    pub to_ids: bool,
    /// When it was last changed.
    pub timestamp: Option<Timestamp>,
    pub first_seen: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    /// When somebody reported that it is over.
    pub expires_at: Option<Timestamp>,
    /// When it was last sighted.
    pub sighted_at: Option<Timestamp>,
    /// A tombstone: it, or its object, was taken back.
    pub is_deleted: bool,
    pub labels: Labels,
    /// The template of the object that it lies in, as `file`.
    pub object: Option<String>,
    /// What it is in that object.
    pub relation: Option<String>,
}

/// Why a body holds no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoEvent {
    /// It is malformed from this byte on.
    Broken(usize),
    /// It is JSON, or something else, without an event in it.
    Other,
}

/// An event whose attributes are still text.
pub struct Event<'a> {
    pub head: Head,
    attributes: Vec<Place<'a>>,
    objects: Vec<Object>,
}

/// Where an attribute is.
#[derive(Clone, Copy)]
struct Place<'a> {
    text: &'a [u8],
    object: Option<u32>,
}

#[derive(Default)]
struct Object {
    name: String,
    is_deleted: bool,
    first_seen: Option<Timestamp>,
    last_seen: Option<Timestamp>,
}

impl<'a> Event<'a> {
    /// The event of a body, whatever it is wrapped in; of several the first.
    ///
    /// # Errors
    /// Why there is none. An event that ends too early is none: what it lacks would look as if it had been taken back.
    pub fn of(body: &'a [u8]) -> Result<Self, NoEvent> {
        Self::within(Records::of(body), Elements::of(body), WRAPPERS_MAX)
    }

    /// The event in what is an object or a list. Its attributes are gone through once here, and once more when they are read.
    fn within(
        object: Option<Records<'a>>,
        list: Option<Elements<'a>>,
        wrappers: usize,
    ) -> Result<Self, NoEvent> {
        let Some(mut records) = object else {
            let list = list.filter(|_| wrappers > 0).ok_or(NoEvent::Other)?;
            return Self::within(list.first_object(), list.first_list(), wrappers - 1);
        };
        let mut event = Self { head: Head::default(), attributes: Vec::new(), objects: Vec::new() };
        let mut is_bare = false;
        while let Some(key) = records.next_key() {
            let key = key.map_err(broken)?.to_ascii_lowercase();
            is_bare |= matches!(key.as_str(), "uuid" | "info" | "attribute" | "object");
            match key.as_str() {
                "event" | "response" if wrappers > 0 => {
                    return Self::within(records.object(), records.list(), wrappers - 1);
                }
                "attribute" => event.list(&mut records, None)?,
                "object" => each(&mut records, |text| event.object(text))?,
                key => event.head.read(key, records.text().map_err(broken)?),
            }
        }
        if is_bare { Ok(event) } else { Err(NoEvent::Other) }
    }

    fn list(&mut self, records: &mut Records<'a>, object: Option<u32>) -> Result<(), NoEvent> {
        each(records, |text| {
            self.attributes.push(Place { text, object });
            Ok(())
        })
    }

    fn object(&mut self, text: &'a [u8]) -> Result<(), NoEvent> {
        let place = u32::try_from(self.objects.len()).ok();
        let mut object = Object::default();
        let Some(mut records) = Records::of(text) else { return Ok(()) };
        while let Some(key) = records.next_key() {
            let key = key.map_err(broken)?;
            if key == "Attribute" {
                self.list(&mut records, place)?;
                continue;
            }
            let text = records.text().map_err(broken)?;
            match &*key {
                "name" => object.name = short(&text_of(text).unwrap_or_default()),
                "deleted" => object.is_deleted = truth(text).unwrap_or_default(),
                "first_seen" => object.first_seen = instant(text),
                "last_seen" => object.last_seen = instant(text),
                _ => {}
            }
        }
        self.objects.push(object);
        Ok(())
    }

    /// How many attributes there are, those of objects with them.
    pub fn len(&self) -> usize {
        self.attributes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// About how many bytes an attribute takes once it is read.
    pub fn weight(&self, place: usize) -> usize {
        size_of::<Attribute>() + self.attributes.get(place).map_or(0, |place| place.text.len())
    }

    /// Reads an attribute by its place.
    ///
    /// # Errors
    /// Why it is malformed.
    pub fn attribute(&self, place: usize) -> Result<Attribute, String> {
        let Some(Place { text, object }) = self.attributes.get(place).copied() else {
            return Err("it is not there".to_owned());
        };
        let object = object.and_then(|object| self.objects.get(object as usize));
        let mut attribute = Attribute::read(text)?;
        if let Some(object) = object {
            attribute.is_deleted |= object.is_deleted;
            attribute.first_seen = attribute.first_seen.or(object.first_seen);
            attribute.last_seen = attribute.last_seen.or(object.last_seen);
            attribute.object = (!object.name.is_empty()).then(|| object.name.clone());
        }
        Ok(attribute)
    }
}

impl Head {
    fn read(&mut self, key: &str, text: &[u8]) {
        match key {
            "uuid" => self.uuid = text_of(text).unwrap_or_default().trim().to_ascii_lowercase(),
            "info" => self.info = short(text_of(text).unwrap_or_default().trim()),
            "date" => self.date = instant(text),
            "timestamp" => self.timestamp = number(text),
            "deleted" => self.is_deleted = truth(text).unwrap_or_default(),
            "threat_level_id" => {
                self.threat_level = match number(text) {
                    Some(1) => Some("high"),
                    Some(2) => Some("medium"),
                    Some(3) => Some("low"),
                    Some(4) => Some("undefined"),
                    _ => None,
                }
            }
            "orgc" => {
                let name = |value: Value| value.get("name")?.as_str().map(short);
                self.organisation = value_of(text).and_then(name).filter(|name| !name.is_empty());
            }
            "tag" => self.labels.tags(text),
            "galaxy" => self.labels.galaxies(text),
            _ => {}
        }
    }
}

impl Attribute {
    fn read(text: &[u8]) -> Result<Self, String> {
        let mut attribute = Self::default();
        let (mut halves, mut bytes) = ([None, None], 0);
        for record in Records::of(text).ok_or("it is no JSON object")? {
            let record = record.map_err(|Broken { at }| format!("it is malformed at byte {at}"))?;
            if record.key == "data" {
                continue;
            }
            bytes += record.text.len();
            if bytes > ATTRIBUTE_BYTES_MAX {
                return Err(format!("it has more than {ATTRIBUTE_BYTES_MAX} bytes"));
            }
            let word = || short(text_of(record.text).unwrap_or_default().trim());
            match &*record.key {
                "uuid" => attribute.uuid = word(),
                "type" => attribute.kind = word(),
                "category" => attribute.category = word(),
                "value" => {
                    let value = text_of(record.text).ok_or("its value is malformed or no text")?;
                    attribute.value = value.into_owned();
                }
                "value1" => halves[0] = text_of(record.text),
                "value2" => halves[1] = text_of(record.text).filter(|half| !half.is_empty()),
                "comment" => attribute.comment = word(),
                "to_ids" => attribute.to_ids = truth(record.text).unwrap_or_default(),
                "timestamp" => attribute.timestamp = number(record.text).and_then(second),
                "first_seen" => attribute.first_seen = instant(record.text),
                "last_seen" => attribute.last_seen = instant(record.text),
                "deleted" => attribute.is_deleted = truth(record.text).unwrap_or_default(),
                "object_relation" => {
                    attribute.relation = text_of(record.text).map(|text| short(text.trim()));
                }
                "Tag" => attribute.labels.tags(record.text),
                "Galaxy" => attribute.labels.galaxies(record.text),
                "Sighting" => attribute.sightings(record.text),
                _ => {}
            }
        }
        if let ("", [Some(first), second]) = (attribute.value.as_str(), halves) {
            attribute.value = match second {
                Some(second) => format!("{first}|{second}"),
                None => first.into_owned(),
            };
        }
        if attribute.kind.is_empty() {
            return Err("it has no type".to_owned());
        }
        Ok(attribute)
    }

    fn sightings(&mut self, text: &[u8]) {
        for sighting in elements(text).flatten().filter_map(value_of) {
            let field = |name: &str| sighting.get(name).and_then(number_in);
            let at = field("date_sighting").and_then(second);
            match field("type") {
                Some(0) | None => self.sighted_at = self.sighted_at.max(at),
                Some(2) => self.expires_at = self.expires_at.max(at),
                // Somebody calls it a mistake; who is right is not for us to say.
                Some(_) => {}
            }
        }
    }
}

impl Labels {
    fn tags(&mut self, text: &[u8]) {
        for tag in elements(text).flatten().filter_map(value_of) {
            let name = tag.as_str().or_else(|| tag.get("name")?.as_str());
            if let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) {
                self.tag(name);
            }
        }
    }

    /// Adds a tag, and what it says of actors and malware.
    pub fn tag(&mut self, name: &str) {
        if let Some((kind, value)) = name.split_once('=').and_then(|(predicate, value)| {
            let (_, kind) = predicate.split_once("misp-galaxy:")?;
            Some((kind, value.trim().trim_matches('"')))
        }) {
            self.cluster(kind, value);
        } else if let Some((word, value)) = name.split_once([':', '=']) {
            let value = value.trim().trim_matches('"');
            match word.to_ascii_lowercase().as_str() {
                "malware" | "malware-family" | "family" => add(&mut self.malware_families, value),
                "actor" | "threat-actor" => add(&mut self.actors, value),
                _ => {}
            }
        }
        add(&mut self.tags, name);
    }

    fn galaxies(&mut self, text: &[u8]) {
        for galaxy in elements(text).flatten() {
            let mut kind = Cow::Borrowed("");
            let mut clusters = None;
            for record in Records::of(galaxy).into_iter().flatten().flatten() {
                match &*record.key {
                    "type" => kind = text_of(record.text).unwrap_or_default(),
                    "GalaxyCluster" => clusters = Some(record.text),
                    _ => {}
                }
            }
            for cluster in clusters.into_iter().flat_map(elements).flatten() {
                let (mut own, mut value) = (None, None);
                for record in Records::of(cluster).into_iter().flatten().flatten() {
                    match &*record.key {
                        "type" => own = text_of(record.text),
                        "value" => value = text_of(record.text),
                        _ => {}
                    }
                }
                let kind = own.as_deref().filter(|own| !own.is_empty()).unwrap_or(&kind);
                if let Some(value) = value {
                    self.cluster(kind, value.trim());
                }
            }
        }
    }

    /// A cluster of a galaxy: `APT28 - G0007` of `mitre-intrusion-set`.
    fn cluster(&mut self, kind: &str, value: &str) {
        const FAMILIES: [&str; 12] = [
            "malpedia",
            "ransomware",
            "rat",
            "banker",
            "stealer",
            "botnet",
            "backdoor",
            "exploit-kit",
            "tool",
            "android",
            "cryptominers",
            "malware",
        ];
        let kind = kind.to_ascii_lowercase();
        let (name, number) = match value.rsplit_once(" - ") {
            Some((name, number)) if is_attack_number(number) => (name, Some(number)),
            _ => (value, None),
        };
        if kind.contains("attack-pattern") {
            if let Some(number) = number {
                add(&mut self.attack_ids, number);
            }
        } else if ["threat-actor", "intrusion-set", "activity-group"]
            .iter()
            .any(|word| kind.contains(word))
        {
            add(&mut self.actors, name);
        } else if FAMILIES.contains(&kind.as_str())
            || kind.ends_with("-malware")
            || kind.ends_with("-tool")
        {
            add(&mut self.malware_families, name);
        }
    }

    /// Adds those of another.
    pub fn join(&mut self, other: &Self) {
        let lists = [
            (&mut self.tags, &other.tags),
            (&mut self.actors, &other.actors),
            (&mut self.malware_families, &other.malware_families),
            (&mut self.attack_ids, &other.attack_ids),
        ];
        for (mine, theirs) in lists {
            theirs.iter().for_each(|one| add(mine, one));
        }
    }
}

/// `T1059`, `T1059.001`, `G0007`, `S0154`.
fn is_attack_number(text: &str) -> bool {
    text.starts_with(['T', 'G', 'S', 'C', 'M'])
        && text.len() >= 5
        && text.bytes().skip(1).all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn add(list: &mut Vec<String>, text: &str) {
    let text = short(text.trim());
    if !text.is_empty() && list.len() < TAGS_MAX && !list.contains(&text) {
        list.push(text);
    }
}

fn broken(broken: Broken) -> NoEvent {
    NoEvent::Broken(broken.at)
}

/// The elements of a list; one object stands for a list of one, as some writers have it.
fn elements(text: &[u8]) -> impl Iterator<Item = Result<&[u8], Broken>> {
    let list = Elements::of(text);
    let one = (list.is_none() && Records::of(text).is_some()).then_some(Ok(text));
    list.into_iter().flatten().chain(one)
}

/// Each element of the value that `records` stand before; one object stands for a list of one. Where `take` finds one to be
/// broken it tells the byte in that element.
fn each<'a>(
    records: &mut Records<'a>,
    mut take: impl FnMut(&'a [u8]) -> Result<(), NoEvent>,
) -> Result<(), NoEvent> {
    let mut take = |text: &'a [u8], end: usize| {
        take(text).map_err(|why| match why {
            NoEvent::Broken(at) => NoEvent::Broken(end - text.len() + at),
            NoEvent::Other => NoEvent::Other,
        })
    };
    let Some(mut list) = records.list() else {
        let text = records.text().map_err(broken)?;
        return if Records::of(text).is_some() { take(text, records.at()) } else { Ok(()) };
    };
    while let Some(text) = list.next() {
        take(text.map_err(broken)?, list.at())?;
    }
    records.go_behind(&list);
    Ok(())
}

/// A small value; where bytes are no UTF-8 they are replaced.
fn value_of(text: &[u8]) -> Option<Value> {
    let value = bounded(text).or_else(|_| bounded(String::from_utf8_lossy(text).as_bytes()));
    value.ok().map(|(value, _)| value)
}

fn text_of(text: &[u8]) -> Option<Cow<'_, str>> {
    if let Some(text) = plain(text) {
        return Some(Cow::Borrowed(text));
    }
    match value_of(text)? {
        Value::String(text) => Some(Cow::Owned(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(truth) => Some(Cow::Owned(truth.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A whole number, written as one or as a text.
pub(crate) fn number_in(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| Some(number.as_f64()? as i64)),
        Value::String(text) => whole(text),
        _ => None,
    }
}

fn number(text: &[u8]) -> Option<i64> {
    plain(text).map_or_else(|| number_in(&value_of(text)?), whole)
}

fn whole(text: &str) -> Option<i64> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.split_once('.')?.0.parse().ok())
}

fn truth(text: &[u8]) -> Option<bool> {
    match text.trim_ascii() {
        b"true" => return Some(true),
        b"false" => return Some(false),
        _ => {}
    }
    match value_of(text)? {
        Value::Bool(truth) => Some(truth),
        Value::Number(number) => number.as_i64().map(|number| number != 0),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" => Some(true),
            "0" | "false" | "no" | "" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// An instant as a text with a zone, a day, or seconds since 1970.
fn instant(text: &[u8]) -> Option<Timestamp> {
    let value = match plain(text) {
        Some(text) => return date::instant(text.trim()).or_else(|| whole(text).and_then(second)),
        None => value_of(text)?,
    };
    let read = value.as_str().and_then(|text| date::instant(text.trim()));
    read.or_else(|| number_in(&value).and_then(second))
}

/// Seconds since 1970; 0 stands for none.
fn second(seconds: i64) -> Option<Timestamp> {
    if seconds > 0 { Timestamp::from_second(seconds).ok() } else { None }
}

/// A text of at most [`TEXT_MAX`] bytes.
pub(crate) fn short(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BARE: &str = r#"{"info": "X", "uuid": "AAAA", "timestamp": "17", "threat_level_id": 2,
        "Attribute": [{"type": "ip-dst", "value": "192.0.2.1", "to_ids": "1", "deleted": 0}],
        "Object": [{"name": "file", "Attribute": []}]}"#;

    #[test]
    fn an_event_is_found_in_each_of_its_wrappers() {
        for (before, after) in [
            ("", ""),
            ("{\"Event\":", "}"),
            ("\u{feff}{\"response\":[{\"Event\":", "}]}"),
            ("{\"response\":{\"Event\":", "}}"),
            ("[", "]"),
            ("[{\"Event\":", "}]"),
        ] {
            let body = format!("{before}{BARE}{after}");
            let event = Event::of(body.as_bytes()).unwrap();
            assert_eq!((event.head.uuid.as_str(), event.len()), ("aaaa", 1), "{before}");
            assert_eq!((event.head.timestamp, event.head.threat_level), (Some(17), Some("medium")));
            let attribute = event.attribute(0).unwrap();
            assert!(attribute.to_ids && !attribute.is_deleted);
            for end in 0..before.len() + BARE.len() {
                assert!(Event::of(&body.as_bytes()[..end]).is_err(), "{before} ends at {end}");
            }
        }
        for none in ["", "[]", "{}", "7", "<html>", "{\"errors\": \"x\"}", "[[[[[[{}]]]]]]"] {
            assert!(matches!(Event::of(none.as_bytes()), Err(NoEvent::Other)), "{none}");
        }
        let cut = &BARE[..BARE.len() - 4];
        assert!(matches!(Event::of(cut.as_bytes()), Err(NoEvent::Broken(_))));
    }

    #[test]
    fn where_an_event_is_broken_is_told_by_its_byte_in_the_body() {
        for body in [
            "{\"Event\": {\"info\" §1}}",
            "\u{feff}{\"Event\": {\"Object\": [{\"name\": \"a\"}, {\"name\" §1}]}}",
            "[{\"info\": \"a\", \"Object\": {\"name\": \"a\" §\"b\": 1}}]",
            "{\"info\": \"a\", \"Object\": [{\"Attribute\": [{}, {} §{}]}]}",
        ] {
            let at = body.find('§').unwrap();
            let why = Event::of(body.replace('§', "").as_bytes()).err();
            // It is told when the byte was read, or before.
            let told = [at, at + 1].map(|at| Some(NoEvent::Broken(at)));
            assert!(told.contains(&why), "{body}: {why:?}, not {at}");
        }
    }

    #[test]
    fn objects_tags_galaxies_sightings_and_tombstones_are_read() {
        let body = r#"{"Event": {
            "Object": [
                {"name": "file", "deleted": false, "first_seen": "2024-02-01T00:00:00.000000+02:00", "Attribute": [
                    {"type": "md5", "object_relation": "md5", "value": "d41d8cd98f00b204e9800998ecf8427e", "data": "AAAA"},
                    {"type": "filename", "value": "a.exe", "deleted": "1"}]},
                {"name": "url", "deleted": "1", "Attribute": {"type": "url", "value": "http://e.org/"}}],
            "Tag": [{"name": "tlp:amber", "local": false}, {"name": "misp-galaxy:threat-actor=\"APT28\""},
                    {"name": "capture"}, "family:emotet"],
            "Galaxy": [
                {"type": "malpedia", "GalaxyCluster": [{"value": "Emotet", "meta": {"x": []}}]},
                {"type": "mitre-attack-pattern", "GalaxyCluster": [{"value": "PowerShell - T1059.001"}]},
                {"type": "mitre-intrusion-set", "GalaxyCluster": [{"value": "APT28 - G0007"}]}],
            "orgc": {"name": "CIRCL"}, "date": "2024-02-03", "deleted": true,
            "Attribute": [
                {"type": "domain", "value": "\ud800", "comment": "x"},
                {"type": "ip-dst", "value": 7, "Sighting": [
                    {"type": "0", "date_sighting": "1700000000"}, {"type": "2", "date_sighting": 1800000000}],
                 "last_seen": null, "timestamp": 1600000000},
                {"value": "no type"}, 7]}}"#;
        let event = Event::of(body.as_bytes()).unwrap();
        let labels = &event.head.labels;
        assert_eq!(labels.actors, ["APT28"]);
        assert_eq!(labels.malware_families, ["emotet", "Emotet"]);
        assert_eq!(labels.attack_ids, ["T1059.001"]);
        assert_eq!(labels.tags[2], "capture");
        assert_eq!(event.head.organisation.as_deref(), Some("CIRCL"));
        assert!(event.head.is_deleted && event.head.date.is_some());
        assert_eq!(event.len(), 7);
        let md5 = event.attribute(0).unwrap();
        assert_eq!((md5.object.as_deref(), md5.relation.as_deref()), (Some("file"), Some("md5")));
        assert_eq!(md5.first_seen.unwrap().to_string(), "2024-01-31T22:00:00Z");
        assert!(!md5.is_deleted && event.attribute(1).unwrap().is_deleted);
        assert!(event.attribute(2).unwrap().is_deleted, "its object is");
        let sighted = event.attribute(4).unwrap();
        assert_eq!(sighted.value, "7");
        assert!(sighted.sighted_at < sighted.expires_at && sighted.last_seen.is_none());
        for bad in [3, 5, 6] {
            assert!(event.attribute(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in r#"[\[\]{}",:0-9a\\ ]{0,60}"#) {
            for body in [body.clone(), format!("{{\"Event\":{{\"uuid\":1,\"Attribute\":[{body}]}}}}")] {
                if let Ok(event) = Event::of(body.as_bytes()) {
                    for place in 0..event.len() {
                        let _ = event.attribute(place);
                    }
                }
            }
        }
    }
}
