//! MISP's event format as it goes out: an event, its entry in a feed's `manifest.json`, its lines in `hashes.csv`.
//!
//! Ids are UUIDs of version 5, so what is given out twice is an edit and no second event. The format is that of `PyMISP`'s and
//! of `POST /events/add`, <https://www.misp-project.org/openapi/>.

use indicator::IndicatorKind;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use serde_json::{Map, Value, json};
use uuid::{Uuid, uuid};

/// The file that lists a feed's events.
pub const MANIFEST: &str = "manifest.json";
/// The file that lists the MD5 of each value with its event.
pub const HASHES: &str = "hashes.csv";

/// Under which names become ids.
const NAMESPACE: Uuid = uuid!("0c8ae4b9-5c3d-4f0e-9a35-61f1d7b5e2aa");

/// Who is told as the maker of events.
const MAKER: &str = "Minerva";

/// The id of what these parts name: the same for ever.
pub fn id(parts: &[&str]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, parts.join("\u{241f}").as_bytes())
}

/// An event with its attributes.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its id.
    pub uuid: Uuid,
    /// Its title.
    pub info: String,
    /// The day it tells of, as `2026-03-01`.
    pub date: String,
    /// Its version: a reader that has this second or a later one does not read it again.
    pub timestamp: i64,
    /// Whether it is told as published.
    pub is_published: bool,
    /// 1 high, 2 medium, 3 low, 4 undefined.
    pub threat_level: u8,
    /// Whom a server shows it: 0 the organisation, 1 this community, 2 connected ones, 3 all. A feed says nothing of it.
    pub distribution: Option<u8>,
    /// Its tags, each once.
    pub tags: Vec<String>,
    /// What it holds.
    pub attributes: Vec<Attribute>,
}

/// A value of an event.
#[derive(Clone, Debug)]
pub struct Attribute {
    /// Its id.
    pub uuid: Uuid,
    /// MISP's word for what it is.
    pub kind: &'static str,
    /// MISP's word for what it is part of.
    pub category: &'static str,
    /// As MISP writes it.
    pub value: String,
    /// Whether to look for it.
    pub to_ids: bool,
    /// What is said of it.
    pub comment: String,
    /// Its version, in seconds.
    pub timestamp: i64,
    /// When it was seen first.
    pub first_seen: Option<Timestamp>,
    /// When it was seen last.
    pub last_seen: Option<Timestamp>,
    /// Its tags, each once.
    pub tags: Vec<String>,
}

/// MISP's type and default category of a kind, and whether it is looked for unless something else is said.
pub const fn attribute_type(kind: IndicatorKind) -> (&'static str, &'static str, bool) {
    const NETWORK: &str = "Network activity";
    const PAYLOAD: &str = "Payload delivery";
    match kind {
        IndicatorKind::Ipv4 | IndicatorKind::Ipv6 | IndicatorKind::Cidr => {
            ("ip-dst", NETWORK, true)
        }
        IndicatorKind::IpPort => ("ip-dst|port", NETWORK, true),
        IndicatorKind::Domain => ("domain", NETWORK, true),
        IndicatorKind::Hostname => ("hostname", NETWORK, true),
        IndicatorKind::Url => ("url", NETWORK, true),
        IndicatorKind::Md5 => ("md5", PAYLOAD, true),
        IndicatorKind::Sha1 => ("sha1", PAYLOAD, true),
        IndicatorKind::Sha224 => ("sha224", PAYLOAD, true),
        IndicatorKind::Sha256 => ("sha256", PAYLOAD, true),
        IndicatorKind::Sha384 => ("sha384", PAYLOAD, true),
        IndicatorKind::Sha512 => ("sha512", PAYLOAD, true),
        IndicatorKind::Ssdeep => ("ssdeep", PAYLOAD, true),
        IndicatorKind::Imphash => ("imphash", PAYLOAD, true),
        IndicatorKind::Pehash => ("pehash", PAYLOAD, true),
        IndicatorKind::Filename => ("filename", PAYLOAD, true),
        IndicatorKind::FilenameRegex => ("filename-pattern", "Payload installation", true),
        IndicatorKind::Email => ("email-src", PAYLOAD, true),
        IndicatorKind::Mutex => ("mutex", "Artifacts dropped", true),
        IndicatorKind::Regkey => ("regkey", "Persistence mechanism", true),
        IndicatorKind::Cve => ("vulnerability", "External analysis", false),
        IndicatorKind::Yara => ("yara", "Payload installation", true),
        IndicatorKind::Btc => ("btc", "Financial fraud", true),
        IndicatorKind::Ja3 => ("ja3-fingerprint-md5", NETWORK, true),
        IndicatorKind::Asn => ("AS", NETWORK, false),
        IndicatorKind::Other => ("other", "Other", false),
    }
}

impl Attribute {
    /// An indicator of an event, with MISP's defaults for its kind; its id is that of the event's value of that kind.
    pub fn of(event: Uuid, kind: IndicatorKind, value: &str) -> Self {
        let (name, category, to_ids) = attribute_type(kind);
        let value = match kind {
            IndicatorKind::IpPort => value.rsplit_once(':').map_or_else(
                || value.to_owned(),
                |(ip, port)| format!("{}|{port}", ip.trim_matches(['[', ']'])),
            ),
            _ => value.to_owned(),
        };
        Self { to_ids, ..Self::plain(event, name, category, &value) }
    }

    /// A value that is no indicator, not to be looked for.
    pub fn plain(event: Uuid, kind: &'static str, category: &'static str, value: &str) -> Self {
        Self {
            uuid: id(&["attribute", &event.to_string(), kind, value]),
            kind,
            category,
            value: value.to_owned(),
            to_ids: false,
            comment: String::new(),
            timestamp: 0,
            first_seen: None,
            last_seen: None,
            tags: Vec::new(),
        }
    }

    /// Its line or lines in `hashes.csv`: of a composite value each part by itself.
    pub fn hash_lines(&self, event: Uuid) -> Vec<String> {
        let parts: Vec<&str> = match self.kind.contains('|') {
            true => self.value.split('|').collect(),
            false => vec![&self.value],
        };
        parts
            .into_iter()
            .map(|part| format!("{},{event}", hex::encode(Md5::digest(part.as_bytes()))))
            .collect()
    }

    fn json(&self) -> Value {
        let seen = |instant: Option<Timestamp>| {
            instant.map(|instant| instant.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string())
        };
        let mut of = Map::new();
        of.insert("uuid".to_owned(), json!(self.uuid.to_string()));
        of.insert("type".to_owned(), json!(self.kind));
        of.insert("category".to_owned(), json!(self.category));
        of.insert("value".to_owned(), json!(self.value));
        of.insert("to_ids".to_owned(), json!(self.to_ids));
        of.insert("comment".to_owned(), json!(self.comment));
        of.insert("timestamp".to_owned(), json!(self.timestamp.to_string()));
        of.insert("disable_correlation".to_owned(), json!(false));
        of.insert("deleted".to_owned(), json!(false));
        // MISP refuses an end before its beginning.
        let last = self.last_seen.filter(|last| self.first_seen.is_none_or(|first| first <= *last));
        for (name, instant) in [("first_seen", self.first_seen), ("last_seen", last)] {
            if let Some(text) = seen(instant) {
                of.insert(name.to_owned(), json!(text));
            }
        }
        if !self.tags.is_empty() {
            of.insert("Tag".to_owned(), tags(&self.tags));
        }
        Value::Object(of)
    }
}

impl Event {
    /// What `<uuid>.json` of a feed holds, and what a server is sent.
    pub fn json(&self) -> Value {
        let mut of = Map::new();
        of.insert("uuid".to_owned(), json!(self.uuid.to_string()));
        of.insert("info".to_owned(), json!(self.info));
        of.insert("date".to_owned(), json!(self.date));
        of.insert("analysis".to_owned(), json!("2"));
        of.insert("threat_level_id".to_owned(), json!(self.threat_level.to_string()));
        of.insert("timestamp".to_owned(), json!(self.timestamp.to_string()));
        of.insert("published".to_owned(), json!(self.is_published));
        if let Some(distribution) = self.distribution {
            of.insert("distribution".to_owned(), json!(distribution.to_string()));
        }
        of.insert("Orgc".to_owned(), maker());
        of.insert("Tag".to_owned(), tags(&self.tags));
        let attributes = self.attributes.iter().map(Attribute::json);
        of.insert("Attribute".to_owned(), Value::Array(attributes.collect()));
        json!({ "Event": of })
    }

    /// Its entry in a feed's manifest, under its id.
    pub fn manifest_entry(&self) -> Value {
        json!({
            "Orgc": maker(), "Tag": tags(&self.tags), "info": self.info, "date": self.date, "analysis": 2,
            "threat_level_id": self.threat_level, "timestamp": self.timestamp,
        })
    }

    /// Its lines in `hashes.csv`.
    pub fn hash_lines(&self) -> impl Iterator<Item = String> {
        self.attributes.iter().flat_map(|attribute| attribute.hash_lines(self.uuid))
    }
}

fn maker() -> Value {
    json!({ "name": MAKER, "uuid": id(&["organisation", MAKER]).to_string() })
}

fn tags(names: &[String]) -> Value {
    let tag = |name: &String| {
        let colour = match name.as_str() {
            "tlp:white" | "tlp:clear" => "#ffffff",
            "tlp:green" => "#33ff00",
            "tlp:amber" | "tlp:amber+strict" => "#ffc000",
            "tlp:red" => "#ff2b2b",
            _ => return json!({ "name": name }),
        };
        json!({ "name": name, "colour": colour })
    };
    Value::Array(names.iter().map(tag).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let uuid = id(&["event", "a"]);
        let attributes = vec![
            Attribute::of(uuid, IndicatorKind::IpPort, "[2001:db8::1]:443"),
            Attribute::of(uuid, IndicatorKind::Domain, "evil.example"),
        ];
        Event {
            uuid,
            info: "An event".to_owned(),
            date: "2026-03-01".to_owned(),
            timestamp: 1_772_323_200,
            is_published: false,
            threat_level: 4,
            distribution: None,
            tags: vec!["tlp:amber+strict".to_owned(), "otx:x".to_owned()],
            attributes,
        }
    }

    #[test]
    fn ids_are_the_same_for_ever_and_differ_by_event() {
        assert_eq!(id(&["event", "a"]).to_string(), "8d2f7675-59a5-5421-b1c6-4462ba061b91");
        let (one, other) = (id(&["event", "a"]), id(&["event", "b"]));
        let of = |event| Attribute::of(event, IndicatorKind::Domain, "evil.example").uuid;
        assert_eq!(of(one), of(one));
        assert_ne!(of(one), of(other));
        assert_ne!(id(&["a", "bc"]), id(&["ab", "c"]));
    }

    #[test]
    fn a_composite_value_is_written_and_hashed_by_its_parts() {
        let event = event();
        let value = &event.json()["Event"]["Attribute"][0]["value"];
        assert_eq!(value, "2001:db8::1|443");
        let lines: Vec<String> = event.hash_lines().collect();
        assert_eq!(lines.len(), 3);
        // `printf evil.example | md5sum`
        assert_eq!(lines[2], format!("96119eb3210daa472225fbad69fa9770,{}", event.uuid));
    }

    #[test]
    fn the_manifest_says_what_the_event_says() {
        let event = event();
        let (whole, entry) = (event.json(), event.manifest_entry());
        for name in ["info", "date", "Orgc", "Tag"] {
            assert_eq!(whole["Event"][name], entry[name], "{name}");
        }
        assert_eq!(whole["Event"]["timestamp"], entry["timestamp"].to_string());
        assert_eq!(entry["Tag"][0], json!({"name": "tlp:amber+strict", "colour": "#ffc000"}));
        assert_eq!(entry["Tag"][1], json!({"name": "otx:x"}));
    }
}
