//! Finds indicators and CVE numbers in the text of an article.
//!
//! News pages link dozens of harmless sites; authors defang what they mean as an indicator. So:
//!
//! - **Hashes**: always, when a run of hex digits is exactly 32, 40, 64 or 128 long and no letter or digit adjoins it
//!   (`0x…` is an Ethereum address). Not: decimal digits only, letters only, fewer than six different digits, a part of
//!   a UUID or trace id (another hex group follows or precedes after `-`), a Git commit (`commit `, `/commit/`, `/blob/`,
//!   `/tree/` or `@` in front of 40 digits).
//! - **CVE numbers**: always, any case, any dash; kept apart from the other indicators, in upper case.
//! - **URLs, names, mail addresses**: only where the scheme or the host is defanged (for mail addresses: the `@` or the
//!   host). The name must end in a public suffix or in a top level used by malware. A URL stands for its host too. A
//!   name with a path but no scheme is a URL without scheme. A port after a name is dropped. A comma ends a URL, as
//!   tables put one between cells.
//! - **IPv4**: defanged always; plain only if it could be reached over the Internet (ranges for documentation count,
//!   they are how examples are written) and is no version number. It is taken for one after words such as "version",
//!   "firmware", `v`; before "and earlier"; within `name-1.2.3.4.tar`; in the path of a URL; after a name like "Chrome"
//!   when no part is above 31; and when it continues a list that began so.
//! - **IPv6**: defanged always; plain only global unicast (`2000::/3`).
//! - An address with a port is `ip:port`, with a prefix length `cidr`; neither is repeated as an address.
//!
//! Each byte is looked at a bounded number of times: a place that was looked at is not looked at again, and a word
//! longer than [`MAX_WORD_BYTES`] is read in pieces.

mod addresses;
mod ids;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashSet;

use super::kind::IndicatorKind;
use super::refang::{Copy, ends_in_defanged_scheme, may_open};
use super::{Indicator, triggers};

/// The most indicators taken from one text; the appendix of a long report lists some hundreds.
pub const MAX_INDICATORS: usize = 1_000;

/// The most CVE numbers taken from one text; a monthly patch overview names about 200.
pub const MAX_CVES: usize = 1_000;

/// The longest run without a space that is read as one.
const MAX_WORD_BYTES: usize = 4_096;

/// What was found in a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extraction {
    /// Indicators in order of first appearance, each (kind, value) once; no CVE numbers.
    pub indicators: Vec<Indicator>,
    /// CVE numbers in order of first appearance, each once.
    pub cves: Vec<String>,
    /// Whether a limit left something out: [`MAX_INDICATORS`], [`MAX_CVES`], or that of a word's length.
    pub cut: bool,
}

/// Finds indicators and CVE numbers by the policy of this module.
pub fn extract(text: &str) -> Extraction {
    let bytes = text.as_bytes();
    // Offsets are kept in 32 bits; no article comes near that.
    let Ok(_) = u32::try_from(bytes.len()) else {
        return Extraction { cut: true, ..Extraction::default() };
    };
    let mut search = Search::new(text);
    triggers::each(bytes, |at| search.look_at(at));
    search.finish()
}

/// Finds CVE numbers only.
pub fn cves(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let mut search = Search::new(text);
    for at in memchr::memchr2_iter(b'v', b'V', bytes) {
        search.cve(at + 1);
    }
    search.cves
}

struct Search<'t> {
    text: &'t str,
    bytes: &'t [u8],
    /// With where each begins: a plain address may be seen before the word around it.
    found: Vec<(usize, Indicator)>,
    seen: HashSet<(IndicatorKind, String)>,
    cves: Vec<String>,
    seen_cves: HashSet<String>,
    cut: bool,
    word: Copy,
    /// Ends of what was looked at, by what it was looked at for.
    words_done: usize,
    dots_done: usize,
    colons_done: usize,
    hex_done: usize,
    /// End of the last indicator taken, and of its host if it is a URL: a hash in a path counts.
    claimed: usize,
    host_claimed: usize,
    address_end: usize,
    /// End of the last version number, and whether its smallness was all that told it.
    last_version: Option<(usize, bool)>,
}

impl<'t> Search<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            found: Vec::new(),
            seen: HashSet::new(),
            cves: Vec::new(),
            seen_cves: HashSet::new(),
            cut: false,
            word: Copy::with_places(),
            words_done: 0,
            dots_done: 0,
            colons_done: 0,
            hex_done: 0,
            claimed: 0,
            host_claimed: 0,
            address_end: 0,
            last_version: None,
        }
    }

    fn finish(mut self) -> Extraction {
        if !self.found.is_sorted_by_key(|(at, _)| *at) {
            self.found.sort_by_key(|(at, _)| *at);
        }
        let indicators = self.found.into_iter().map(|(_, indicator)| indicator).collect();
        Extraction { indicators, cves: self.cves, cut: self.cut }
    }

    fn look_at(&mut self, at: usize) {
        match self.byte(at) {
            b'[' | b'(' | b'{' | b'\\' if at >= self.words_done && may_open(self.bytes, at) => {
                self.word(at);
            }
            b'.' if self.byte(at + 1) == b']' => {
                let between_letters =
                    at > 0 && is_word(self.byte(at - 1)) && is_word(self.byte(at + 2));
                if at >= self.words_done && between_letters {
                    self.word(at);
                }
            }
            b'.' => self.ipv4(at),
            b':' => {
                if matches!(self.bytes.get(at + 1..at + 3), Some(b"//" | b"\\\\")) {
                    if at >= self.words_done && ends_in_defanged_scheme(self.before(at)) {
                        self.word(at);
                    }
                } else {
                    self.ipv6(at);
                }
            }
            b'e' | b'E' if at > 0 && self.byte(at - 1) | 0x20 == b'v' => {
                self.cve(at);
                if self.byte(at).is_ascii_hexdigit() {
                    self.hash(at);
                }
            }
            byte if byte.is_ascii_hexdigit() => self.hash(at),
            _ => {}
        }
    }

    /// The byte at `at`; a space beyond the end.
    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(b' ')
    }

    fn before(&self, at: usize) -> &'t [u8] {
        self.bytes.get(..at).unwrap_or_default()
    }

    fn after(&self, at: usize) -> &'t [u8] {
        self.bytes.get(at..).unwrap_or_default()
    }

    fn slice(&self, from: usize, to: usize) -> &'t str {
        self.text.get(from..to).unwrap_or_default()
    }

    fn add(&mut self, from: usize, to: usize, kind: IndicatorKind, value: String) {
        self.claimed = self.claimed.max(to);
        if self.seen.contains(&(kind, value.clone())) {
            return;
        }
        if self.found.len() == MAX_INDICATORS {
            self.cut = true;
            return;
        }
        self.seen.insert((kind, value.clone()));
        self.found.push((from, Indicator { kind, value, raw: self.slice(from, to).to_owned() }));
    }

    /// A label of a host is no hash, be it found already or not yet.
    fn claim_host(&mut self, from: usize, to: usize) {
        self.host_claimed = self.host_claimed.max(to);
        while let Some((_, label)) = self.found.pop_if(|(at, last)| {
            (from..to).contains(at)
                && IndicatorKind::of_hash_length(last.value.len()) == Some(last.kind)
        }) {
            self.seen.remove(&(label.kind, label.value));
        }
    }
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take(20).take_while(|byte| byte.is_ascii_digit()).count()
}

/// What ends a word: space, control letters, quotes, angle brackets, comma, bar.
const fn is_separator(byte: u8) -> bool {
    byte <= b' ' || matches!(byte, b'<' | b'>' | b'"' | b'\'' | b'`' | b',' | b'|' | 0x7f)
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

const fn is_host_byte(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'.' | b'-' | b'_')
}

/// Letters of scripts written without spaces: next to ASCII letters they are another word.
const fn is_wide(letter: char) -> bool {
    matches!(letter, '\u{0e00}'..='\u{0eff}' | '\u{1100}'..='\u{11ff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
}
