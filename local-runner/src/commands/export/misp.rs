//! A folder that MISP and `PyMISP` read as a feed: an event for what a feed holds at one TLP, in parts of bounded size.
//!
//! Which event an indicator is in follows from its feed, its TLP and the head of its id, so that a new one changes one event
//! and not all behind it. What belongs to an event is gathered in a file of its own before the event is written.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use base::{Error, Result};
use ioc::Tlp;
use ioc::misp_feed::{self, Attribute, Event, HASHES, MANIFEST};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::form::{Added, Form};
use super::output::unwritable;
use crate::commands::indicators::Stored;

/// Indicators of an event, about: MISP shows and sends an event as one.
const EVENT_MAX: u64 = 5_000;
/// Bytes that are kept until they are written to the files of their events.
const GATHERED_MAX: usize = 1 << 20;
/// Letters of a comment.
const COMMENT_MAX: usize = 1_000;
/// Where the parts of events lie meanwhile.
const PARTS: &str = ".parts";

/// The names of a feed and a level, which have their events together.
type Key = (String, String, String);

pub(super) struct Feed {
    folder: PathBuf,
    groups: BTreeMap<Key, Group>,
    gathered: usize,
}

#[derive(Default)]
struct Group {
    /// The number of its file.
    number: usize,
    lines: String,
    count: u64,
    /// The latest instant of its documents, and how often they were changed, also of those that are left out.
    latest: i64,
    changes: u64,
}

/// What is kept of an indicator until its event is written.
#[derive(Serialize, Deserialize)]
struct Line {
    id: String,
    kind: indicator::IndicatorKind,
    value: String,
    to_ids: Option<bool>,
    comment: String,
    timestamp: i64,
    first_seen: Option<Timestamp>,
    last_seen: Option<Timestamp>,
    tags: Vec<String>,
}

impl Feed {
    pub(super) fn begin(folder: &Path) -> Result<Self> {
        let parts = folder.join(PARTS);
        remove(&parts)?;
        fs::create_dir_all(&parts).map_err(|cause| unwritable(folder, cause))?;
        Ok(Self { folder: folder.to_owned(), groups: BTreeMap::new(), gathered: 0 })
    }

    fn group(&mut self, one: &Stored<'_>) -> &mut Group {
        let number = self.groups.len();
        let tlp = one.tlp().map_or("", Tlp::as_str);
        let key = (one.text("source_family").to_owned(), one.feed().to_owned(), tlp.to_owned());
        let group = self.groups.entry(key).or_insert_with(|| Group { number, ..Group::default() });
        group.changes += one.number("revision").unwrap_or(1).saturating_sub(1);
        group.latest = group.latest.max(latest(one));
        group
    }

    fn part(&self, number: usize) -> PathBuf {
        self.folder.join(PARTS).join(number.to_string())
    }

    /// Writes what is gathered to the files of its events.
    fn flush(&mut self) -> Result<()> {
        self.gathered = 0;
        let mut groups = std::mem::take(&mut self.groups);
        for group in groups.values_mut().filter(|group| !group.lines.is_empty()) {
            let path = self.part(group.number);
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .and_then(|mut file| file.write_all(group.lines.as_bytes()))
                .map_err(|cause| unwritable(&path, cause))?;
            group.lines = String::new();
        }
        self.groups = groups;
        Ok(())
    }
}

/// The latest instant that a document knows of itself, in seconds.
fn latest(one: &Stored<'_>) -> i64 {
    let known = ["collected_at", "left_at"].iter().filter_map(|name| one.instant(name)).max();
    known.or_else(|| one.instant("first_seen")).map_or(0, Timestamp::as_second)
}

impl Form for Feed {
    fn add(&mut self, one: &Stored<'_>) -> Result<Added> {
        let kind = one.kind();
        let value = match kind {
            // The value of a rule may be its hash.
            indicator::IndicatorKind::Yara if !one.text("content").is_empty() => {
                one.text("content")
            }
            _ => one.value(),
        };
        if value.is_empty() {
            return Ok(Added::NoForm);
        }
        let comment: String = one.text("description").chars().take(COMMENT_MAX).collect();
        let named = |name: &str, tag: &str| {
            one.list(name).into_iter().map(|value| format!("{tag}{value}")).collect::<Vec<_>>()
        };
        let mut tags = one.list("tags").into_iter().map(str::to_owned).collect::<Vec<_>>();
        tags.extend(named("malware_family", "malware:"));
        tags.extend(named("threat_actor", "actor:"));
        tags.extend(named("warninglist_hits", "warninglist:"));
        tags.sort_unstable();
        tags.dedup();
        // The event has its own.
        tags.retain(|tag| !tag.to_ascii_lowercase().starts_with("tlp:"));
        let changes = one.number("revision").unwrap_or(1).saturating_sub(1);
        let line = Line {
            id: one.id.to_owned(),
            kind,
            value: value.to_owned(),
            to_ids: one.flag("to_ids"),
            comment,
            timestamp: latest(one).saturating_add_unsigned(changes),
            first_seen: one.instant("first_seen"),
            last_seen: one.instant("last_seen"),
            tags,
        };
        let text = serde_json::to_string(&line).expect("our own types are JSON") + "\n";
        self.gathered += text.len();
        let group = self.group(one);
        group.count += 1;
        group.lines.push_str(&text);
        if self.gathered > GATHERED_MAX {
            self.flush()?;
        }
        Ok(Added::Written)
    }

    fn leave_out(&mut self, one: &Stored<'_>) {
        self.group(one);
    }

    fn end(mut self: Box<Self>) -> Result<()> {
        self.flush()?;
        let earlier = manifest_of(&self.folder);
        let mut manifest = Map::new();
        let hashes = self.folder.join(PARTS).join(HASHES);
        let file = File::create(&hashes).map_err(|cause| unwritable(&hashes, cause))?;
        let mut writer = Writer {
            folder: self.folder.clone(),
            manifest: &mut manifest,
            hashes: BufWriter::new(file),
        };
        for (key, group) in self.groups.iter().filter(|(_, group)| group.count > 0) {
            write_group(&mut writer, key, group, &self.part(group.number))?;
        }
        writer.hashes.flush().map_err(|cause| unwritable(&hashes, cause))?;
        fs::rename(&hashes, self.folder.join(HASHES))
            .map_err(|cause| unwritable(&hashes, cause))?;
        write(&self.folder.join(MANIFEST), &manifest)?;
        // What only an earlier manifest listed is an event no longer.
        for id in earlier.keys().filter(|id| !manifest.contains_key(*id)) {
            if id.parse::<uuid::Uuid>().is_ok() {
                remove(&self.folder.join(format!("{id}.json")))?;
            }
        }
        remove(&self.folder.join(PARTS))
    }
}

struct Writer<'a> {
    folder: PathBuf,
    manifest: &'a mut Map<String, Value>,
    hashes: BufWriter<File>,
}

impl Writer<'_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        let path = self.folder.join(format!("{}.json", event.uuid));
        write(&path, &event.json())?;
        for line in event.hash_lines() {
            writeln!(self.hashes, "{line}").map_err(|cause| unwritable(&self.folder, cause))?;
        }
        self.manifest.insert(event.uuid.to_string(), event.manifest_entry());
        Ok(())
    }
}

/// Cuts a group, which is in the order of ids, where the heads of ids change.
fn write_group(writer: &mut Writer<'_>, key: &Key, group: &Group, path: &Path) -> Result<()> {
    let digits = (0..).find(|digits| group.count >> (4 * digits) <= EVENT_MAX).unwrap_or_default();
    let file = File::open(path).map_err(|cause| unwritable(path, cause))?;
    let mut part: Option<(String, Event)> = None;
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|cause| unwritable(path, cause))?;
        let line: Line = serde_json::from_str(&line)
            .map_err(|cause| Error::format("read a part of an event").because(cause))?;
        let head = line.id.get(..digits).unwrap_or_default();
        if part.as_ref().is_none_or(|(of, _)| of != head) {
            if let Some((_, event)) = part.take() {
                writer.event(&event)?;
            }
            part = Some((head.to_owned(), begin_event(key, group, head)));
        }
        if let Some((_, event)) = &mut part {
            let uuid = event.uuid;
            let made = Attribute::of(uuid, line.kind, &line.value);
            event.attributes.push(Attribute {
                to_ids: line.to_ids.unwrap_or(made.to_ids),
                comment: line.comment,
                timestamp: line.timestamp,
                first_seen: line.first_seen,
                last_seen: line.last_seen,
                tags: line.tags,
                ..made
            });
        }
    }
    part.map_or(Ok(()), |(_, event)| writer.event(&event))
}

fn begin_event((family, feed, tlp): &Key, group: &Group, head: &str) -> Event {
    let timestamp = group.latest.saturating_add_unsigned(group.changes);
    let day = Timestamp::from_second(group.latest).unwrap_or(Timestamp::UNIX_EPOCH);
    let part = if head.is_empty() { String::new() } else { format!(", part {head}") };
    let tag = Some(format!("tlp:{tlp}")).filter(|_| !tlp.is_empty());
    Event {
        uuid: misp_feed::id(&["export", family, feed, tlp, head]),
        info: format!("Minerva: indicators of {feed}{part}"),
        date: day.strftime("%Y-%m-%d").to_string(),
        timestamp,
        is_published: true,
        threat_level: 4,
        distribution: None,
        tags: tag.into_iter().collect(),
        attributes: Vec::new(),
    }
}

/// The manifest that lies in a folder; empty where there is none.
fn manifest_of(folder: &Path) -> Map<String, Value> {
    let text = fs::read(folder.join(MANIFEST)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Writes a file whole or not at all: a feed may be read at any time.
fn write(path: &Path, json: &impl Serialize) -> Result<()> {
    let part = path.with_extension("part");
    let whole = || {
        let mut file = BufWriter::new(File::create(&part)?);
        serde_json::to_writer(&mut file, json)?;
        file.flush()?;
        fs::rename(&part, path)
    };
    whole().map_err(|cause| unwritable(path, cause))
}

/// Removes a file, or a folder of ours; one that is not there is fine.
fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(unwritable(path, cause)),
        _ => Ok(()),
    }
}
