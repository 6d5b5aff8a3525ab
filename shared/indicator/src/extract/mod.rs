//! Finds indicators and CVE numbers in the text of an article.
//!
//! News pages link dozens of harmless sites; authors defang what they mean as an indicator. So:
//!
//! The text is read as its reader sees it ([`crate::letters`]): `evil.exam<zero width space>ple.com` is one name. What is
//! in doubt is left out, as an innocent parent, a version or a file's name is worse than an indicator missed.
//!
//! - **Hashes**: always, when a run of hex digits is exactly 32, 40, 64 or 128 long and no letter or digit adjoins it
//!   (`0x…` is an Ethereum address). Not: decimal digits only, letters only, fewer than six different digits, a part of
//!   a UUID or trace id (another hex group follows or precedes after `-`), a Git commit (`commit `, `/commit/`, `/blob/`,
//!   `/tree/` or `@` in front of 40 digits).
//! - **CVE numbers**: always, any case, any dash, also with `_`, `:` or a space before the year; kept apart from the other
//!   indicators, in upper case.
//! - **URLs, names, mail addresses**: only where the scheme or the host is defanged (for mail addresses: any part). The
//!   name must end in a public suffix or in a top level used by malware. A URL stands for its host too, and keeps its
//!   scheme, whatever that is. A name with a path but no scheme is a URL without scheme. A port after a name is dropped.
//!   A comma ends a URL, as tables put one between cells. Not: what remains of a masked, cut or broken name
//!   (`goo**e[.]com`, `...evil[.]com`), of a URL or mail address that is none; file names (`run[.]sh`, [`crate::files`]).
//! - **IPv4**: defanged always; plain only if it could be reached over the Internet (ranges for documentation count,
//!   they are how examples are written) and is no version number ([`versions`]).
//! - **IPv6**: defanged always; plain only global unicast (`2000::/3`).
//! - An address with a port is `ip:port`, with a prefix length `cidr`; neither is repeated as an address.
//!
//! Each byte is looked at a bounded number of times: a place that was looked at is not looked at again, and a word
//! longer than [`MAX_WORD_BYTES`] is read in pieces.

mod addresses;
mod ids;
#[cfg(test)]
mod tests;
mod versions;
mod vocabulary;
mod words;

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::kind::IndicatorKind;
use super::letters::{self, Visible};
use super::refang::{Copy, ends_in_defanged_scheme, may_open};
use super::{Indicator, triggers};

pub(super) use ids::cve_after;

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
    /// How often [`MAX_INDICATORS`] or [`MAX_CVES`] left something out; what stands twice beyond them counts twice.
    pub left_out: usize,
}

/// Finds indicators and CVE numbers by the policy of this module.
pub fn extract(text: &str) -> Extraction {
    let bytes = text.as_bytes();
    // Offsets are kept in 32 bits; no article comes near that.
    let Ok(_) = u32::try_from(bytes.len()) else {
        return Extraction { cut: true, ..Extraction::default() };
    };
    let mut search = Search::new(text);
    if triggers::each(bytes, |at| search.look_at(at)).is_continue() {
        return search.finish(None);
    }
    let visible = Visible::of(text);
    let mut search = Search { is_visible: true, ..Search::new(&visible.text) };
    let read = triggers::each(visible.text.as_bytes(), |at| search.look_at(at));
    debug_assert!(read.is_continue(), "nothing is hidden in what is visible");
    search.finish(Some((&visible, text)))
}

/// What stands from one offset to another.
struct Found {
    from: usize,
    to: usize,
    kind: IndicatorKind,
    value: String,
}

struct Search<'t> {
    text: &'t str,
    bytes: &'t [u8],
    /// Whether hidden letters are taken out already.
    is_visible: bool,
    /// A plain address may be seen before the word around it.
    found: Vec<Found>,
    seen: HashSet<(IndicatorKind, String)>,
    cves: Vec<String>,
    seen_cves: HashSet<String>,
    cut: bool,
    left_out: usize,
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
            is_visible: false,
            found: Vec::new(),
            seen: HashSet::new(),
            cves: Vec::new(),
            seen_cves: HashSet::new(),
            cut: false,
            left_out: 0,
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

    /// The indicators with what the original has in their place.
    fn finish(mut self, read: Option<(&Visible<'_>, &str)>) -> Extraction {
        if !self.found.is_sorted_by_key(|found| found.from) {
            self.found.sort_by_key(|found| found.from);
        }
        let text = self.text;
        let indicators = self.found.into_iter().map(|Found { from, to, kind, value }| {
            let (original, (from, to)) = match read {
                Some((visible, original)) => (original, visible.original(from, to)),
                None => (text, (from, to)),
            };
            Indicator { kind, value, raw: original.get(from..to).unwrap_or_default().to_owned() }
        });
        Extraction {
            indicators: indicators.collect(),
            cves: self.cves,
            cut: self.cut || self.left_out > 0,
            left_out: self.left_out,
        }
    }

    /// Looks at a place of [`triggers`]; breaks where the text must be read without hidden letters.
    fn look_at(&mut self, at: usize) -> ControlFlow<()> {
        match self.byte(at) {
            b'[' | b'(' | b'{' | b'\\' if at >= self.words_done && may_open(self.bytes, at) => {
                self.word(at);
            }
            b'.' if at >= self.words_done && self.closes_a_pile(at) => self.word(at),
            b'.' if self.byte(at + 1).is_ascii_digit() => self.ipv4(at),
            b':' => {
                if matches!(self.bytes.get(at + 1..at + 3), Some(b"//" | b"\\\\")) {
                    if at >= self.words_done && ends_in_defanged_scheme(self.before(at)) {
                        self.word(at);
                    }
                } else {
                    self.ipv6(at);
                }
            }
            b'v' | b'V' => self.cve(at),
            b'&' | b'%' | 0x80.. if !self.is_visible && letters::hides_something(self.text, at) => {
                return ControlFlow::Break(());
            }
            byte if byte.is_ascii_hexdigit() => self.hash(at),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// Whether `.]` or `.]]` at `at` stands between letters, `.)` between digits.
    fn closes_a_pile(&self, at: usize) -> bool {
        const LONGEST: usize = 8;
        let pile = self.after(at + 1).iter().take(LONGEST);
        let length = pile.take_while(|byte| matches!(byte, b']' | b')' | b'}')).count();
        if length == 0 {
            return false;
        }
        let (before, after) = (self.before(at).last(), self.byte(at + 1 + length));
        before.is_some_and(|byte| is_word(*byte) || matches!(byte, b'[' | b'(' | b'{' | b'.'))
            && is_word(after)
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
            self.left_out += 1;
            return;
        }
        self.seen.insert((kind, value.clone()));
        self.found.push(Found { from, to, kind, value });
    }

    /// A label of a host is no hash, be it found already or not yet.
    fn claim_host(&mut self, from: usize, to: usize) {
        self.host_claimed = self.host_claimed.max(to);
        while let Some(label) = self.found.pop_if(|last| {
            (from..to).contains(&last.from)
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

/// A mark on a letter, or a letter of a script whose signs Rust's `is_alphanumeric` leaves out in part.
const fn is_mark(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{487}' | '\u{591}'..='\u{5bd}' | '\u{64b}'..='\u{65f}'
        | '\u{900}'..='\u{963}' | '\u{966}'..='\u{109f}' | '\u{1780}'..='\u{17d3}' | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{3099}' | '\u{309a}' | '\u{fe20}'..='\u{fe2f}')
}

const fn is_host_byte(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'.' | b'-' | b'_')
}

/// Letters of scripts written without spaces: next to ASCII letters they are another word.
const fn is_wide(letter: char) -> bool {
    matches!(letter, '\u{0e00}'..='\u{0eff}' | '\u{1100}'..='\u{11ff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
}
