//! Responses as they were fetched, kept for a set number of days, and read back after a parser was repaired.
//!
//! `<archive>/<family>/<source>/<instant>.gz` holds the body, `….json` beside it what a parser must know of the response.
//! Names of sources are digested where they could mean something to a file system, or are longer than it takes.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base::address::without_secrets;
use base::config::Stores;
use base::{Error, Result};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use crate::answer::remembered_text;

/// The largest body that is read back, which no fetched one exceeds.
const BODY_MAX: u64 = 64 << 20;

/// Letters of a source's name that stand as they are; file systems take 255.
const NAME_MAX: usize = 100;

/// Where responses are kept, if they are.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    folder: Option<PathBuf>,
    days: u32,
}

/// A response as it was archived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedResponse {
    /// The address that was asked for, without its secrets; those of older versions do not say.
    #[serde(default)]
    pub asked: String,
    /// The address it came from in the end, without user, password and secret keys.
    pub url: String,
    /// Its `Content-Type`.
    pub content_type: Option<String>,
    /// When it was fetched.
    pub fetched: Timestamp,
    #[serde(skip)]
    pub body: Vec<u8>,
}

impl Archive {
    /// The archive that the settings name.
    pub fn new(stores: &Stores) -> Self {
        Self { folder: stores.archive.clone(), days: stores.archive_days }
    }

    /// The archive in `folder`, to read from.
    pub fn at(folder: &Path) -> Self {
        Self { folder: Some(folder.to_path_buf()), days: u32::MAX }
    }

    /// Keeps a response, and forgets those that are too old; nothing is done when there is no archive.
    ///
    /// # Errors
    /// `Store`, when the folder cannot be written.
    pub fn add(&self, source: &str, about: &ArchivedResponse, body: &[u8]) -> Result<()> {
        let Some(mut copy) = self.begin(source, about)? else { return Ok(()) };
        copy.write(body)?;
        copy.finish()
    }

    /// Begins to keep a response whose body is still to come; nothing when there is no archive.
    ///
    /// # Errors
    /// `Store`, when the folder cannot be written.
    pub(crate) fn begin(&self, source: &str, about: &ArchivedResponse) -> Result<Option<Copy>> {
        let Some(folder) = self.source_folder(source) else { return Ok(None) };
        // What a source sends its subscriber is nobody else's.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        let named = |at: Timestamp| folder.join(at.strftime("%Y%m%dT%H%M%S%.3fZ.part").to_string());
        // Of several within a millisecond each is kept, and so is one whose body is still to come.
        let mut at = about.fetched;
        while named(at).exists() || named(at).with_extension("gz").exists() {
            at += SignedDuration::from_millis(1);
        }
        let part = named(at);
        let file = made.and_then(|()| create(&part)).map_err(|cause| unwritten(&folder, cause))?;
        let encoder = GzEncoder::new(file, Compression::fast());
        Ok(Some(Copy {
            archive: self.clone(),
            about: about.clone(),
            folder,
            part,
            encoder,
            bytes: 0,
        }))
    }

    /// The kept responses of a source, oldest first.
    ///
    /// # Errors
    /// `Store`, when the folder cannot be read.
    pub fn kept(&self, source: &str) -> Result<Vec<PathBuf>> {
        let Some(folder) = self.source_folder(source) else { return Ok(Vec::new()) };
        let mut bodies = match fs::read_dir(&folder) {
            Ok(entries) => entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| is_body(path))
                .collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(cause) => {
                return Err(
                    Error::store(format!("read the archive `{}`", folder.display())).because(cause)
                );
            }
        };
        bodies.sort();
        Ok(bodies)
    }

    /// The archived responses of a source by the address that was asked for, oldest first. Those of older versions stand under
    /// the address that answered.
    ///
    /// # Errors
    /// `Store`, when the folder cannot be read.
    pub fn by_address(&self, source: &str) -> Result<HashMap<String, VecDeque<PathBuf>>> {
        let mut all: HashMap<String, VecDeque<PathBuf>> = HashMap::new();
        for path in self.kept(source)? {
            let about = Self::about(&path)?;
            let asked = if about.asked.is_empty() { about.url } else { about.asked };
            all.entry(remembered_text(asked)).or_default().push_back(path);
        }
        Ok(all)
    }

    /// Reads one kept response.
    ///
    /// # Errors
    /// `Store`, when it is damaged or gone.
    pub fn read(path: &Path) -> Result<ArchivedResponse> {
        let failed = |cause| unreadable(path, cause);
        let mut archived = Self::about(path)?;
        let body = GzDecoder::new(File::open(path).map_err(failed)?);
        body.take(BODY_MAX).read_to_end(&mut archived.body).map_err(failed)?;
        Ok(archived)
    }

    /// What is known of an archived response without its body.
    fn about(path: &Path) -> Result<ArchivedResponse> {
        let about =
            fs::read(path.with_extension("json")).map_err(|cause| unreadable(path, cause))?;
        let mut about: ArchivedResponse =
            serde_json::from_slice(&about).map_err(|cause| unreadable(path, cause.into()))?;
        // Older versions wrote it as it was.
        if let Ok(url) = Url::parse(&about.url) {
            about.url = without_secrets(&url).into();
        }
        Ok(about)
    }

    fn source_folder(&self, source: &str) -> Option<PathBuf> {
        let mut folder = self.folder.clone()?;
        for part in source.split('/') {
            let plain = (1..=NAME_MAX).contains(&part.len())
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
            folder.push(if plain {
                part.to_owned()
            } else {
                hex::encode(&Sha256::digest(part.as_bytes())[..16])
            });
        }
        Some(folder)
    }

    fn forget(&self, folder: &Path, now: Timestamp) -> std::io::Result<()> {
        let Ok(oldest) = now.checked_sub(SignedDuration::from_hours(24 * i64::from(self.days)))
        else {
            return Ok(());
        };
        let oldest = oldest.strftime("%Y%m%dT%H%M%S").to_string();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name < oldest.as_str())
            {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// A response on its way into the archive. One that is not finished leaves nothing there.
pub(crate) struct Copy {
    archive: Archive,
    about: ArchivedResponse,
    folder: PathBuf,
    part: PathBuf,
    encoder: GzEncoder<File>,
    bytes: u64,
}

impl Copy {
    /// Adds what came next; false where it is more than is read back.
    pub(crate) fn write(&mut self, part: &[u8]) -> Result<bool> {
        self.bytes += part.len() as u64;
        self.encoder.write_all(part).map_err(|cause| unwritten(&self.folder, cause))?;
        Ok(self.bytes <= BODY_MAX)
    }

    /// Keeps it, and forgets responses of its source that are too old.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.conclude().map_err(|cause| unwritten(&self.folder, cause))
    }

    fn conclude(&mut self) -> std::io::Result<()> {
        self.encoder.try_finish()?;
        self.encoder.get_ref().sync_all()?;
        let json = serde_json::to_vec(&self.about).expect("plain fields are JSON");
        create(&self.part.with_extension("json"))?.write_all(&json)?;
        // Last, so that a body is there only with what belongs to it.
        fs::rename(&self.part, self.part.with_extension("gz"))?;
        self.archive.forget(&self.folder, self.about.fetched)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Gone already where it was finished.
        let _ = fs::remove_file(&self.part);
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn unwritten(folder: &Path, cause: std::io::Error) -> Error {
    Error::store(format!("write the archive `{}`", folder.display()))
        .because(cause)
        .hint("check the folder of `MINERVA_ARCHIVE`")
}

fn unreadable(path: &Path, cause: std::io::Error) -> Error {
    Error::store(format!("read the archived response `{}`", path.display())).because(cause)
}

fn is_body(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(fetched: &str, body: &[u8]) -> ArchivedResponse {
        ArchivedResponse {
            asked: "https://example.org/feed".to_owned(),
            url: "https://example.org/feed".to_owned(),
            content_type: Some("application/rss+xml".to_owned()),
            fetched: fetched.parse().unwrap(),
            body: body.to_vec(),
        }
    }

    #[test]
    fn gives_back_what_was_kept_and_forgets_what_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive { folder: Some(folder.path().to_path_buf()), days: 30 };
        for day in ["2026-01-01T00:00:00Z", "2026-02-20T00:00:00Z", "2026-03-01T00:00:00Z"] {
            archive.add("rss/a", &kept(day, b""), day.as_bytes()).unwrap();
        }
        let bodies: Vec<ArchivedResponse> = archive
            .kept("rss/a")
            .unwrap()
            .iter()
            .map(|path| Archive::read(path).unwrap())
            .collect();
        assert_eq!(
            bodies,
            [
                kept("2026-02-20T00:00:00Z", b"2026-02-20T00:00:00Z"),
                kept("2026-03-01T00:00:00Z", b"2026-03-01T00:00:00Z")
            ]
        );
    }

    #[test]
    fn responses_of_one_instant_are_all_kept_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::at(folder.path());
        let bodies: Vec<Vec<u8>> = (0..12).map(|number: u32| number.to_string().into()).collect();
        for body in &bodies {
            archive.add("a/b", &kept("2026-01-01T00:00:00Z", b""), body).unwrap();
        }
        archive.add("a/b", &kept("2025-12-31T23:59:59Z", b""), b"earlier").unwrap();
        let all = archive.kept("a/b").unwrap();
        let read: Vec<Vec<u8>> = all.iter().map(|path| Archive::read(path).unwrap().body).collect();
        assert_eq!((&read[0][..], &read[1..]), (&b"earlier"[..], &bodies[..]));
    }

    #[test]
    fn a_hostile_name_stays_within_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::at(folder.path());
        archive.add("rss/../../etc", &kept("2026-01-01T00:00:00Z", b""), b"x").unwrap();
        let long = format!("long/{}", "n".repeat(300));
        archive.add(&long, &kept("2026-01-01T00:00:00Z", b""), b"x").unwrap();
        assert_eq!(archive.kept(&long).unwrap().len(), 1);
        assert_eq!(
            fs::read_dir(folder.path().join("rss")).unwrap().count(),
            1,
            "each `..` became a digest"
        );
    }
}
