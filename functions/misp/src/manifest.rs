//! A feed's manifest beside what is stored of it: which events are new, changed, missing or gone.
//!
//! A mark is kept for each event, its UUID and the timestamp under which it was stored: an event that was published late has
//! an old timestamp, so a high-water mark alone would pass over it. Twenty bytes an event: 50,000 take 1.4 MB of the state.

use std::collections::BTreeMap;

use base::json::Records;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::event::{Labels, number_in};
use crate::feeds::Rules;

/// Events of one feed; the largest public feed has some 30,000.
pub const EVENTS_MAX: usize = 200_000;

/// Seconds by which a server's clock may be ahead of ours.
const AHEAD_MAX_S: i64 = 86_400;

/// Bytes of one event's entry.
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// An event as its manifest tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub uuid: Uuid,
    /// Its key as it is spelt, of which its address is made.
    pub name: String,
    /// When it was last changed, in seconds since 1970.
    pub timestamp: u32,
    /// The SHA-256 of its file.
    pub sha256: Option<String>,
}

/// What a manifest says.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// Its events, each once.
    pub entries: Vec<Entry>,
    /// Events that the feed's rules leave out.
    pub unwanted: u64,
    /// Reasons of entries that are malformed.
    pub rejects: Vec<String>,
    /// Events beyond [`EVENTS_MAX`].
    pub left_out: u64,
}

/// Why a body is no manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoManifest {
    /// It is no JSON object.
    Other,
    /// It is malformed from this byte on.
    Broken(usize),
}

impl Manifest {
    /// Reads a manifest. One that ends too early is none: what it lacks would look as if it were gone.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(body: &[u8], rules: &Rules) -> Result<Self, NoManifest> {
        let (mut manifest, mut seen) = (Self::default(), BTreeMap::new());
        for record in Records::of(body).ok_or(NoManifest::Other)? {
            let record = record.map_err(|broken| NoManifest::Broken(broken.at))?;
            match entry(&record.key, record.text, rules) {
                Ok(Some(_)) if seen.len() >= EVENTS_MAX => manifest.left_out += 1,
                Ok(Some(entry)) => {
                    seen.insert(entry.uuid, entry);
                }
                Ok(None) => manifest.unwanted += 1,
                Err(reason) => {
                    let shown: String = record.key.chars().take(80).collect();
                    manifest.rejects.push(format!("manifest entry `{shown}`: {reason}"));
                }
            }
        }
        manifest.entries = seen.into_values().collect();
        Ok(manifest)
    }
}

fn entry(key: &str, text: &[u8], rules: &Rules) -> Result<Option<Entry>, String> {
    // An address is made of it, so it is nothing but a UUID.
    let uuid = match key.len() {
        36 => Uuid::try_parse(key).map_err(|_| "it is named by no UUID")?,
        _ => return Err("it is named by no UUID".to_owned()),
    };
    if text.len() > ENTRY_BYTES_MAX {
        return Err(format!("it has more than {ENTRY_BYTES_MAX} bytes"));
    }
    let (value, _) = base::json::bounded(text).map_err(|cause| cause.to_string())?;
    if !value.is_object() {
        return Err("it is no object".to_owned());
    }
    let timestamp = value.get("timestamp").and_then(number_in).unwrap_or_default();
    let timestamp = u32::try_from(timestamp.max(0)).unwrap_or(u32::MAX);
    if !rules.is_empty() {
        let mut labels = Labels::default();
        let tags = value.get("Tag").and_then(|tags| tags.as_array());
        tags.into_iter().flatten().for_each(|tag| {
            if let Some(name) = tag.get("name").unwrap_or(tag).as_str() {
                labels.tag(name);
            }
        });
        let organisation = value.get("Orgc").or_else(|| value.get("orgc"));
        let of = |name: &str| organisation.and_then(|org| org.get(name)?.as_str());
        if !rules.take(&labels.tags, [of("uuid"), of("name")]) {
            return Ok(None);
        }
    }
    let sha256 = value.get("integrity:sha256").and_then(|digest| digest.as_str());
    let sha256 = sha256.map(str::to_ascii_lowercase);
    Ok(Some(Entry { uuid, name: key.to_owned(), timestamp, sha256 }))
}

/// Which events are stored, and under which timestamp.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<Uuid, u32>);

impl Marks {
    /// The timestamp under which an event is stored.
    pub fn of(&self, uuid: &Uuid) -> Option<u32> {
        self.0.get(uuid).copied()
    }

    /// Notes that an event is stored.
    pub fn set(&mut self, uuid: Uuid, timestamp: u32) {
        self.0.insert(uuid, timestamp);
    }

    /// Forgets an event.
    pub fn forget(&mut self, uuid: &Uuid) {
        self.0.remove(uuid);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries that are not stored, or stored under an earlier timestamp, those that were changed longest ago first. A mark
    /// that lies ahead of `now` was set under a wrong clock, and any other timestamp is newer.
    pub fn new_in(&self, manifest: &Manifest, now: Timestamp) -> Vec<Entry> {
        let ahead = now.as_second() + AHEAD_MAX_S;
        let is_new = |entry: &&Entry| {
            self.of(&entry.uuid).is_none_or(|stored| {
                entry.timestamp > stored || (i64::from(stored) > ahead && entry.timestamp != stored)
            })
        };
        let mut new: Vec<Entry> = manifest.entries.iter().filter(is_new).cloned().collect();
        new.sort_by_key(|entry| (entry.timestamp, entry.uuid));
        new
    }

    /// Events that are stored and that the manifest no longer names.
    pub fn gone_from(&self, manifest: &Manifest) -> Vec<Uuid> {
        // Both are in the order of the UUIDs.
        let mut named = manifest.entries.iter().map(|entry| entry.uuid).peekable();
        let mut gone = Vec::new();
        for uuid in self.0.keys() {
            while named.next_if(|one| one < uuid).is_some() {}
            if named.peek() != Some(uuid) {
                gone.push(*uuid);
            }
        }
        gone
    }
}

/// Twenty bytes an event.
impl Serialize for Marks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.0.len() * 20);
        for (uuid, timestamp) in &self.0 {
            bytes.extend_from_slice(uuid.as_bytes());
            bytes.extend_from_slice(&timestamp.to_be_bytes());
        }
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Marks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(serde::de::Error::custom)?;
        let marks = bytes.chunks_exact(20).filter_map(|mark| {
            let (uuid, timestamp) = mark.split_at(16);
            let timestamp = u32::from_be_bytes(timestamp.try_into().ok()?);
            Some((Uuid::from_slice(uuid).ok()?, timestamp))
        });
        Ok(Self(marks.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuid(number: u32) -> Uuid {
        Uuid::from_u128(u128::from(number))
    }

    fn manifest(events: &[(u32, &str)]) -> Manifest {
        let events: Vec<String> = events
            .iter()
            .map(|(number, timestamp)| {
                format!("\"{}\": {{\"timestamp\": {timestamp}}}", uuid(*number))
            })
            .collect();
        Manifest::read(format!("{{{}}}", events.join(",")).as_bytes(), &Rules::default()).unwrap()
    }

    #[test]
    fn what_is_new_is_told_by_its_own_mark_and_comes_in_the_order_of_time() {
        let mut marks = Marks::default();
        for (number, timestamp) in [(1, 100), (2, 100), (3, 100), (9, 50)] {
            marks.set(uuid(number), timestamp);
        }
        // Numbers as texts; an equal timestamp; one that was published late; one that went back.
        let manifest = manifest(&[
            (3, "99"),
            (2, "\"101\""),
            (1, "\"100\""),
            (4, "7"),
            (5, "100"),
            (6, "101"),
        ]);
        let new: Vec<Uuid> = marks
            .new_in(&manifest, Timestamp::from_second(1_000_000).unwrap())
            .into_iter()
            .map(|entry| entry.uuid)
            .collect();
        assert_eq!(new, [4, 5, 2, 6].map(uuid));
        assert_eq!(marks.gone_from(&manifest), [uuid(9)]);
        marks.set(uuid(3), 4_000_000_000);
        let back = marks.new_in(&manifest, Timestamp::from_second(1_000_000).unwrap());
        assert!(back.iter().any(|entry| entry.uuid == uuid(3)), "its mark lies far ahead");
    }

    #[test]
    fn marks_are_read_as_they_were_written() {
        let mut marks = Marks::default();
        for number in 0..1_000 {
            marks.set(uuid(number * 7), number);
        }
        let text = serde_json::to_string(&marks).unwrap();
        assert!(text.len() < 27 * 1_000, "{}", text.len());
        assert_eq!(serde_json::from_str::<Marks>(&text).unwrap(), marks);
        assert!(serde_json::from_str::<Marks>("\"?\"").is_err());
    }

    #[test]
    fn a_malformed_entry_costs_itself_and_a_cut_manifest_is_none() {
        let good = format!("\"{}\": {{\"timestamp\": 1}}", uuid(1));
        let body =
            format!("{{\"../../x\": {{}}, \"{}\": 7, {good}, \"hashes.csv\": {{}}}}", uuid(2));
        let read = Manifest::read(body.as_bytes(), &Rules::default()).unwrap();
        assert_eq!((read.entries.len(), read.rejects.len()), (1, 3));
        let cut = &body[..body.len() - 3];
        assert!(matches!(
            Manifest::read(cut.as_bytes(), &Rules::default()),
            Err(NoManifest::Broken(_))
        ));
        for none in ["", "<html>", "[]"] {
            let read = Manifest::read(none.as_bytes(), &Rules::default());
            assert_eq!(read.unwrap_err(), NoManifest::Other, "{none}");
        }
    }
}
