//! The first file of a zip archive, as it comes: a list in an archive is read like one without.
//!
//! Read from its front, as a stream has no end to look at: of the formats that a zip may hold, stored with its size and
//! deflated. Nothing in it is used as a path.

use flate2::{Decompress, FlushDecompress, Status};

/// What a zip archive begins with.
pub const MAGIC: [u8; 4] = *b"PK\x03\x04";

/// Bytes of the head of the first file before its name.
const HEAD: usize = 30;

/// Bytes that are decompressed at a time.
const STEP: usize = 32 << 10;

/// The first file of an archive that comes part by part.
#[derive(Default)]
pub struct Unzip {
    /// What came of the head.
    head: Vec<u8>,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Head,
    Stored {
        left: u64,
    },
    Deflated(Box<Decompress>),
    Over,
}

impl Unzip {
    /// Takes a part of the archive, and appends what it holds of the file to `out`; false when the file is over.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn push(&mut self, part: &[u8], out: &mut Vec<u8>) -> Result<bool, String> {
        let rest;
        let mut part = part;
        if let State::Head = self.state {
            self.head.extend_from_slice(part);
            let Some(begins) = self.open()? else { return Ok(true) };
            rest = self.head.split_off(begins);
            part = &rest;
        }
        match &mut self.state {
            State::Head | State::Over => {}
            State::Stored { left } => {
                let take = part.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                out.extend_from_slice(&part[..take]);
                *left -= take as u64;
                if *left == 0 {
                    self.state = State::Over;
                }
            }
            State::Deflated(inflater) => {
                let mut place = 0;
                loop {
                    out.reserve(STEP);
                    let (read, written) = (inflater.total_in(), inflater.total_out());
                    let status = inflater
                        .decompress_vec(&part[place..], out, FlushDecompress::None)
                        .map_err(|cause| format!("its compression is broken: {cause}"))?;
                    place += (inflater.total_in() - read) as usize;
                    if status == Status::StreamEnd {
                        self.state = State::Over;
                        break;
                    }
                    let stands_still =
                        inflater.total_in() == read && inflater.total_out() == written;
                    if stands_still || (place == part.len() && out.len() < out.capacity()) {
                        break;
                    }
                }
            }
        }
        Ok(!matches!(self.state, State::Over))
    }

    /// Whether the file came to its end.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Reads the head once it is whole; where the file begins.
    fn open(&mut self) -> Result<Option<usize>, String> {
        let head = &self.head;
        if head.len() < HEAD {
            return Ok(None);
        }
        if !head.starts_with(&MAGIC) {
            return Err("it is no archive, or an empty one".to_owned());
        }
        let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let long =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (flags, method) = (short(6), short(8));
        let begins = HEAD + usize::from(short(26)) + usize::from(short(28));
        if head.len() < begins {
            return Ok(None);
        }
        if flags & 1 != 0 {
            return Err("its first file is encrypted".to_owned());
        }
        let has_size = flags & 8 == 0;
        self.state = match method {
            0 if has_size => State::Stored { left: u64::from(long(18)) },
            8 => State::Deflated(Box::new(Decompress::new(false))),
            _ => {
                return Err(format!(
                    "its first file is compressed in a way that is not read (`{method}`)"
                ));
            }
        };
        Ok(Some(begins))
    }
}

/// The first file of a whole archive, of at most `max` bytes.
///
/// # Errors
/// Why it cannot be read.
pub fn unzip(body: &[u8], max: usize) -> Result<Vec<u8>, String> {
    let (mut unzip, mut out) = (Unzip::default(), Vec::new());
    for part in body.chunks(STEP) {
        if !unzip.push(part, &mut out)? {
            break;
        }
        if out.len() > max {
            return Err(format!("its first file has more than {max} bytes"));
        }
    }
    if unzip.is_over() { Ok(out) } else { Err("it is cut off".to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::*;

    /// An archive of one file.
    fn zip(content: &[u8], method: u16, flags: u16) -> Vec<u8> {
        let mut packed = content.to_vec();
        if method == 8 {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(content).unwrap();
            packed = encoder.finish().unwrap();
        }
        let mut archive = MAGIC.to_vec();
        archive.extend([20, 0]);
        archive.extend(flags.to_le_bytes());
        archive.extend(method.to_le_bytes());
        archive.extend([0; 8]);
        archive.extend((packed.len() as u32).to_le_bytes());
        archive.extend((content.len() as u32).to_le_bytes());
        archive.extend([3, 0, 0, 0]);
        archive.extend(b"a.b");
        archive.extend(packed);
        archive.extend(b"PK\x01\x02 what follows is not read");
        archive
    }

    #[test]
    fn the_first_file_comes_out_however_it_is_parted() {
        let content: Vec<u8> =
            (0..200_000_u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        for archive in [zip(&content, 8, 8), zip(&content, 8, 0), zip(&content, 0, 0)] {
            for size in [1_usize, 7, 4_096, usize::MAX] {
                let (mut unzip, mut out) = (Unzip::default(), Vec::new());
                for part in archive.chunks(size.min(archive.len())) {
                    if !unzip.push(part, &mut out).unwrap() {
                        break;
                    }
                }
                assert!(unzip.is_over() && out == content, "{size}");
            }
        }
        assert_eq!(unzip(&zip(b"", 8, 0), 10), Ok(Vec::new()));
        assert!(unzip(&zip(&content, 8, 0), 10).unwrap_err().contains("more than 10"));
        assert!(unzip(&zip(&content, 8, 0)[..500], 1 << 30).unwrap_err().contains("cut off"));
        assert!(unzip(&zip(b"x", 8, 1), 10).unwrap_err().contains("encrypted"));
        assert!(unzip(&zip(b"x", 12, 0), 10).unwrap_err().contains("not read"));
        assert!(unzip(b"PK\x05\x06                                 ", 10).is_err());
    }
}
