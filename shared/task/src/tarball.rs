//! A repository as one tarball, read as a stream: nothing is unpacked, and no name in it is used as a path.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

/// Entries of any kind that a tarball may hold; signature-base's has about 1,500.
pub const ENTRIES_MAX: usize = 20_000;
/// Bytes of all entries together, whether they are wanted or not; signature-base's holds 12 MB, that of misp-warninglists 100.
pub const TOTAL_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a path in the tarball; it may stand in documents. The longest in signature-base has 60.
pub const NAME_BYTES_MAX: usize = 256;
/// What ends a tarball: two blocks of zeros.
const END: usize = 1024;

/// How far a tarball could be read.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The commit that it is of, in the word of its first header.
    pub version: Option<String>,
    /// Files that were passed over, with reasons.
    pub rejects: Vec<String>,
    /// Why it could not be read to its end, if it could not.
    pub broken: Option<String>,
    /// How many entries there were.
    pub entries: usize,
}

/// Hands each wanted file of at most `file_bytes_max` bytes to `take`, under its name without the first folder, whatever that
/// is called.
///
/// What is compressed is decompressed on the way.
pub fn read(
    body: &[u8],
    file_bytes_max: u64,
    wanted: impl Fn(&str) -> bool,
    take: impl FnMut(&str, Vec<u8>),
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut files = Files { file_bytes_max, wanted, take };
    let end = if body.starts_with(&[0x1f, 0x8b]) {
        let mut decoder = MultiGzDecoder::new(body);
        let read = files.read(&mut decoder, &mut outcome);
        // The checksum stands behind the last entry.
        read.and_then(|()| drain(&mut decoder))
    } else {
        let read = files.read(body, &mut outcome);
        let ends = body.len() >= END && body[body.len() - END..].iter().all(|byte| *byte == 0);
        read.and_then(|()| if ends { Ok(()) } else { Err("it is cut off".to_owned()) })
    };
    outcome.broken = end.err();
    outcome
}

fn drain(reader: &mut impl Read) -> Result<(), String> {
    let rest = std::io::copy(&mut reader.take(TOTAL_BYTES_MAX), &mut std::io::sink());
    rest.map(drop).map_err(|cause| cause.to_string())
}

/// What is asked of a tarball.
struct Files<W, T> {
    file_bytes_max: u64,
    wanted: W,
    take: T,
}

impl<W: Fn(&str) -> bool, T: FnMut(&str, Vec<u8>)> Files<W, T> {
    fn read(&mut self, reader: impl Read, outcome: &mut Outcome) -> Result<(), String> {
        let mut archive = Archive::new(reader.take(TOTAL_BYTES_MAX));
        let mut total = 0_u64;
        for entry in archive.entries().map_err(|cause| cause.to_string())? {
            let mut entry = entry.map_err(|cause| cause.to_string())?;
            outcome.entries += 1;
            if outcome.entries > ENTRIES_MAX {
                return Err(format!("it holds more than `{ENTRIES_MAX}` entries"));
            }
            total = total.saturating_add(entry.size());
            if total > TOTAL_BYTES_MAX {
                return Err(format!("it holds more than `{TOTAL_BYTES_MAX}` bytes"));
            }
            match entry.header().entry_type() {
                EntryType::XGlobalHeader => {
                    outcome.version = outcome.version.take().or_else(|| comment(&mut entry));
                }
                EntryType::Regular | EntryType::Continuous => {
                    self.read_file(&mut entry, outcome)?;
                }
                // Folders and links hold nothing.
                _ => {}
            }
        }
        Ok(())
    }

    fn read_file(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // The first folder is called after the branch, the tag or the commit.
        let name = name.trim_start_matches("./").split_once('/').map_or("", |(_, rest)| rest);
        if !(self.wanted)(name) {
            return Ok(());
        }
        let shown: String = name.chars().take(120).collect();
        let is_odd = name.len() > NAME_BYTES_MAX
            || name.contains(char::is_control)
            || name.split('/').any(|part| part == "..");
        if is_odd {
            outcome.rejects.push(format!("`{shown}` is no name of a file here"));
            return Ok(());
        }
        let most = self.file_bytes_max;
        if entry.size() > most {
            outcome
                .rejects
                .push(format!("`{shown}` holds `{}` bytes, more than {most}", entry.size()));
            return Ok(());
        }
        let mut bytes = Vec::new();
        entry.take(most).read_to_end(&mut bytes).map_err(|cause| format!("`{shown}`: {cause}"))?;
        (self.take)(name, bytes);
        Ok(())
    }
}

/// What the global header says under `comment`: git writes the commit there.
fn comment(entry: &mut Entry<'_, impl Read>) -> Option<String> {
    let extensions = entry.pax_extensions().ok()??;
    let comment = extensions.flatten().find(|extension| extension.key() == Ok("comment"))?;
    let text = comment.value().ok()?;
    let is_commit =
        (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| text.to_owned())
}
