//! A MISP-format feed in a folder or a bucket, changed event by event: `<uuid>.json` first, then what lists it.

use std::collections::HashSet;
use std::fmt::Write as _;

use base::Result;
use base::config::Config;
use ioc::misp_feed::{Event, HASHES, MANIFEST};
use serde_json::{Map, Value};
use task::files::Outbox;
use uuid::Uuid;

/// Bytes of a manifest: 100,000 events have 60 MiB.
const MANIFEST_MAX: u64 = 64 << 20;
/// Bytes of `hashes.csv`, a million lines; MISP does without it, and asks for the events.
const HASHES_MAX: u64 = 72 << 20;

/// A feed while it is changed.
pub(crate) struct Feed {
    place: Outbox,
    manifest: Map<String, Value>,
    /// Lines of `hashes.csv` that are new.
    hashes: String,
    /// Events whose lines of before no longer hold.
    changed: HashSet<String>,
}

impl Feed {
    /// Opens the feed at a folder or `s3://bucket/prefix`; a place that holds none is an empty one.
    ///
    /// # Errors
    /// `Config` or `Upstream`, when it cannot be read; `Format`, when its manifest is none: it is not written over.
    pub(crate) async fn open(place: &str, config: &Config) -> Result<Self> {
        let place = Outbox::at(place, config)?;
        let manifest = match place.read(MANIFEST, MANIFEST_MAX).await? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|cause| {
                base::Error::format(format!("read `{MANIFEST}` of `{}`", place.place()))
                    .because(cause)
                    .hint("`MISP_EXPORT` names a place of its own; move away what lies there")
            })?,
            None => Map::new(),
        };
        Ok(Self { place, manifest, hashes: String::new(), changed: HashSet::new() })
    }

    /// The version of an event that is in the feed.
    pub(crate) fn version(&self, event: Uuid) -> Option<i64> {
        self.manifest.get(&event.to_string())?["timestamp"].as_i64()
    }

    /// Puts an event in the place of its earlier version.
    ///
    /// # Errors
    /// `Config` or `Upstream`, when it cannot be written.
    pub(crate) async fn put(&mut self, event: &Event) -> Result<()> {
        let id = event.uuid.to_string();
        self.place.put(&format!("{id}.json"), event.json().to_string().into_bytes()).await?;
        for line in event.hash_lines() {
            let _ = writeln!(self.hashes, "{line}");
        }
        self.manifest.insert(id.clone(), event.manifest_entry());
        self.changed.insert(id);
        Ok(())
    }

    /// Takes an event out, if it is there: first of the list, so that nobody is sent to what is gone.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub(crate) async fn remove(&mut self, event: Uuid) -> Result<()> {
        let id = event.to_string();
        if self.manifest.remove(&id).is_none() {
            return Ok(());
        }
        self.changed.insert(id.clone());
        self.write_manifest().await?;
        self.place.remove(&format!("{id}.json")).await
    }

    /// Writes what lists the events, if one was changed; gives a note where something is left away.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub(crate) async fn close(mut self) -> Result<Option<String>> {
        if self.changed.is_empty() {
            return Ok(None);
        }
        let before = match self.place.read(HASHES, HASHES_MAX).await {
            Ok(before) => before.unwrap_or_default(),
            Err(error) if error.class() == base::Class::Format => {
                self.place.remove(HASHES).await?;
                self.write_manifest().await?;
                return Ok(Some(format!(
                    "`{HASHES}` of the feed would be too large and is left away"
                )));
            }
            Err(error) => return Err(error),
        };
        let before = String::from_utf8_lossy(&before);
        let is_kept = |line: &&str| {
            line.rsplit_once(',')
                .is_some_and(|(_, id)| !self.changed.contains(id) && self.manifest.contains_key(id))
        };
        let mut all: String =
            before.lines().filter(is_kept).flat_map(|line| [line, "\n"]).collect();
        all.push_str(&self.hashes);
        self.place.put(HASHES, all.into_bytes()).await?;
        self.write_manifest().await?;
        self.changed.clear();
        Ok(None)
    }

    async fn write_manifest(&self) -> Result<()> {
        let text = serde_json::to_string(&self.manifest).expect("plain JSON");
        self.place.put(MANIFEST, text.into_bytes()).await
    }
}
