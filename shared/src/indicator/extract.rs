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

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::kind::Kind;
use super::normal;
use super::refang::{Copy, ends_in_defanged_scheme, may_open, space_is_inside};
use super::{Indicator, OTHER_TOP_LEVELS, triggers};

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
    seen: HashSet<(Kind, String)>,
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

    fn add(&mut self, from: usize, to: usize, kind: Kind, value: String) {
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
            (from..to).contains(at) && Kind::of_hash_length(last.value.len()) == Some(last.kind)
        }) {
            self.seen.remove(&(label.kind, label.value));
        }
    }

    // --- CVE numbers and hashes

    /// `at` is the `E` of a possible `CVE-`.
    fn cve(&mut self, at: usize) {
        let Some(start) = at.checked_sub(2) else { return };
        if !self.bytes.get(start..=at).is_some_and(|word| word.eq_ignore_ascii_case(b"cve")) {
            return;
        }
        // Markup that was taken away leaves words glued together: `flawCVE-2024-1234`.
        let glued = start > 0 && self.byte(start - 1).is_ascii_alphanumeric();
        let glued_by_markup =
            glued && self.byte(start - 1).is_ascii_lowercase() && self.byte(start) == b'C';
        if glued && !glued_by_markup {
            return;
        }
        let Some(year_at) = self.dash(at + 1) else { return };
        let Some(number_at) = self.dash(year_at + 4) else { return };
        let (year, number) = (self.slice(year_at, year_at + 4), digits(self.after(number_at)));
        let in_time =
            year.bytes().all(|byte| byte.is_ascii_digit()) && ("1999"..="2099").contains(&year);
        // The scheme of CVE records allows 19 digits; 9 is more than was ever given out and keeps out glued dates.
        if !in_time || !(4..=9).contains(&number) {
            return;
        }
        let id = format!("CVE-{year}-{}", self.slice(number_at, number_at + number));
        if self.seen_cves.contains(&id) {
            return;
        }
        if self.cves.len() == MAX_CVES {
            self.cut = true;
            return;
        }
        self.seen_cves.insert(id.clone());
        self.cves.push(id);
    }

    /// The place after the dash at `at`; U+2010 to U+2015 and U+2212 are dashes too.
    fn dash(&self, at: usize) -> Option<usize> {
        match self.after(at) {
            [b'-', ..] => Some(at + 1),
            [0xe2, 0x80, 0x90..=0x95, ..] | [0xe2, 0x88, 0x92, ..] => Some(at + 3),
            _ => None,
        }
    }

    fn hash(&mut self, at: usize) {
        if at < self.hex_done {
            return;
        }
        let start =
            at - self.before(at).iter().rev().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let end = at + self.after(at).iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        self.hex_done = end;
        let Some(kind) = Kind::of_hash_length(end - start) else { return };
        let free = !self.before(start).last().is_some_and(u8::is_ascii_alphanumeric)
            && !self.byte(end).is_ascii_alphanumeric();
        if !free
            || !matches!(kind, Kind::Md5 | Kind::Sha1 | Kind::Sha256 | Kind::Sha512)
            || start < self.host_claimed
            || !is_hash(self.slice(start, end))
            || self.is_part_of_longer_id(start, end)
            || (kind == Kind::Sha1 && self.follows_commit(start))
        {
            return;
        }
        let value = self.slice(start, end).to_ascii_lowercase();
        let claimed = self.claimed;
        self.add(start, end, kind, value);
        self.claimed = claimed;
    }

    /// Whether a group of hex digits adjoins after a hyphen, as in a UUID.
    fn is_part_of_longer_id(&self, start: usize, end: usize) -> bool {
        let is_group = |length: usize, neighbour: u8| {
            (2..=16).contains(&length) && !neighbour.is_ascii_alphanumeric()
        };
        let left = self.before(start).strip_suffix(b"-").is_some_and(|before| {
            let length =
                before.iter().rev().take(17).take_while(|byte| byte.is_ascii_hexdigit()).count();
            is_group(
                length,
                before.get(before.len().wrapping_sub(length + 1)).copied().unwrap_or(b' '),
            )
        });
        let right = self.after(end).strip_prefix(b"-").is_some_and(|after| {
            let length = after.iter().take(17).take_while(|byte| byte.is_ascii_hexdigit()).count();
            is_group(length, after.get(length).copied().unwrap_or(b' '))
        });
        left || right
    }

    fn follows_commit(&self, start: usize) -> bool {
        const MARKS: [&[u8]; 8] =
            [b"commit/", b"commits/", b"commit ", b"commit: ", b"blob/", b"tree/", b"raw/", b"@"];
        let before = self.before(start);
        MARKS.iter().any(|mark| {
            before
                .len()
                .checked_sub(mark.len())
                .and_then(|from| before.get(from..))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(mark))
        })
    }

    // --- plain addresses

    fn ipv4(&mut self, at: usize) {
        if at < self.dots_done {
            return;
        }
        let inside = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
        let limit = self.dots_done;
        let start = at
            - self
                .before(at)
                .get(limit..)
                .unwrap_or_default()
                .iter()
                .rev()
                .take_while(inside)
                .count();
        let mut end = at + self.after(at).iter().take_while(inside).count();
        self.dots_done = end;
        while end > start && self.byte(end - 1) == b'.' {
            end -= 1;
        }
        if start < self.claimed || end - start > "255.255.255.255".len() {
            return;
        }
        let Ok(ip) = self.slice(start, end).parse::<Ipv4Addr>() else { return };
        if !self.stands_free(start, end) {
            return;
        }
        if let Some(by_smallness) = self.version(ip, start, end) {
            self.last_version = Some((end, by_smallness));
            return;
        }
        if !is_public_v4(ip) {
            return;
        }
        let (kind, to) = self.with_suffix(end);
        self.address_end = to;
        self.add_address(kind, start, to, IpAddr::V4(ip));
    }

    /// Whether a dotted quad is a word of its own, or the host of a URL.
    fn stands_free(&self, start: usize, end: usize) -> bool {
        let after = self.byte(end);
        let after_is_free = match after {
            b'_' => false,
            b'.' => !is_word(self.byte(end + 1)),
            b'-' => !self.byte(end + 1).is_ascii_alphabetic(),
            b'[' | b'(' | b'{' | b'\\' => !may_open(self.bytes, end),
            _ => !after.is_ascii_alphanumeric(),
        };
        let before = self.before(start);
        let before_is_free = match before {
            [.., b'_' | b'\\' | b'.'] => false,
            // A range continues an address; `tool-1.2.3.4` is a version.
            [.., byte, b'-'] => !byte.is_ascii_alphanumeric() || self.address_end == start - 1,
            [.., byte, b'/'] => *byte == b'/' || !self.is_in_path(start),
            [.., byte] => !byte.is_ascii_alphanumeric(),
            [] => true,
        };
        after_is_free && before_is_free
    }

    /// Whether the slash before `start` belongs to a URL's or file's path.
    fn is_in_path(&self, start: usize) -> bool {
        const LOOK_BACK: usize = 128;
        let before = self.before(start);
        let near = before.get(before.len().saturating_sub(LOOK_BACK)..).unwrap_or_default();
        let word = near
            .iter()
            .rposition(u8::is_ascii_whitespace)
            .map_or(near, |space| near.get(space + 1..).unwrap_or_default());
        word.iter().any(u8::is_ascii_alphabetic)
    }

    /// Whether a dotted quad is a version number (some), and whether only a random address's improbability says so.
    fn version(&self, ip: Ipv4Addr, start: usize, end: usize) -> Option<bool> {
        const ALWAYS: [&str; 22] = [
            "v", "ver", "version", "versions", "versão", "versao", "versões", "versión",
            "firmware", "build", "builds", "release", "releases", "revision", "update", "updated",
            "upgrade", "patch", "hotfix", "sdk", "api", "driver",
        ];
        const IF_SMALL: [&str; 12] = [
            "before", "through", "until", "below", "prior", "than", "since", "section", "chapter",
            "table", "oid", "step",
        ];
        const LATER: [&str; 11] = [
            "and earlier",
            "or earlier",
            "and later",
            "or later",
            "and below",
            "and prior",
            "or prior",
            "and older",
            "or newer",
            "and newer",
            "or higher",
        ];
        const ADDRESS: [&str; 16] = [
            "ip",
            "ips",
            "ipv4",
            "address",
            "addresses",
            "server",
            "servers",
            "host",
            "hosts",
            "dns",
            "c2",
            "c&c",
            "c2s",
            "resolver",
            "gateway",
            "endereço",
        ];
        // A random address has four parts below 32 once in four thousand times.
        let small = ip.octets().iter().all(|octet| *octet <= 31);
        // A list of versions: `7.0.1.2, 7.0.1.3 and 7.1.0.1`.
        if let Some((last, by_smallness)) = self.last_version
            && (small || !by_smallness)
            && start.checked_sub(last).is_some_and(|gap| gap <= 10)
        {
            let mut joints = self.slice(last, start).split([' ', ',', '-', '/', '\u{2013}']);
            if joints.all(|joint| {
                matches!(joint, "" | "and" | "or" | "to" | "through" | "until" | "e" | "y" | "ou")
            }) {
                return Some(by_smallness);
            }
        }
        let after = self.after(end).strip_prefix(b" ").unwrap_or_default();
        if LATER.iter().any(|word| {
            after.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes()))
        }) {
            return Some(false);
        }
        let word = self.word_before(start)?;
        let lower = word.to_lowercase();
        let lower = lower.trim_matches(['.', ':', '(', ')', '<', '>', '=', '"', '\'']);
        if ALWAYS.contains(&lower) {
            return Some(false);
        }
        // `package:2.19.1.0`, `tool=2.19.1.0`, `Chrome 11.0.0.5`
        let joined = matches!(self.byte(start - 1), b':' | b'=');
        let named = word.starts_with(char::is_uppercase) && !word.ends_with(':');
        let is_version =
            small && !ADDRESS.contains(&lower) && (joined || named || IF_SMALL.contains(&lower));
        is_version.then_some(true)
    }

    /// The word before `start` in the same line, with the marks that adjoin it.
    fn word_before(&self, start: usize) -> Option<&'t str> {
        const LONGEST: usize = 24;
        let before = self.before(start);
        let near = before.get(before.len().saturating_sub(LONGEST)..)?;
        let end = near.iter().rposition(|byte| !matches!(byte, b' ' | b'\t' | b'(' | b'"'))? + 1;
        let begin =
            near.get(..end)?.iter().rposition(u8::is_ascii_whitespace).map_or(0, |space| space + 1);
        let offset = before.len() - near.len();
        if begin == end {
            return None;
        }
        self.text.get(offset + begin..offset + end)
    }

    /// Kind and end of an address with what may follow it: a port or a prefix length.
    fn with_suffix(&self, end: usize) -> (Option<Kind>, usize) {
        let sign = self.byte(end);
        let length = digits(self.after(end + 1));
        let to = end + 1 + length;
        let next = self.byte(to);
        let ends = !next.is_ascii_alphanumeric()
            && next != b'_'
            && !(matches!(next, b'.' | b':') && self.byte(to + 1).is_ascii_alphanumeric());
        match sign {
            b':' if (1..=5).contains(&length) && ends => (Some(Kind::IpPort), to),
            b'/' if (1..=3).contains(&length) && ends && next != b'/' => (Some(Kind::Cidr), to),
            _ => (None, end),
        }
    }

    fn add_address(&mut self, kind: Option<Kind>, from: usize, to: usize, ip: IpAddr) {
        let text = self.slice(from, to);
        let read = match kind {
            Some(Kind::IpPort) => normal::address_with_port(text),
            Some(_) => normal::range(text).filter(|(_, value)| !value.ends_with("/0")),
            None => None,
        };
        match read {
            Some((kind, value)) => self.add(from, to, kind, value),
            None => {
                let length = text.len()
                    - text.trim_start_matches(|letter: char| letter != ':' && letter != '/').len();
                let to = if kind.is_some() && ip.is_ipv4() { from + length } else { to };
                if let Some((kind, value)) = normal::address(&ip.to_string()) {
                    self.add(from, to, kind, value);
                }
            }
        }
    }

    fn ipv6(&mut self, at: usize) {
        if at < self.colons_done {
            return;
        }
        let inside = |byte: &&u8| byte.is_ascii_hexdigit() || matches!(**byte, b':' | b'.');
        let limit = self.colons_done;
        let mut start = at
            - self
                .before(at)
                .get(limit..)
                .unwrap_or_default()
                .iter()
                .rev()
                .take_while(inside)
                .count();
        let mut end = at + self.after(at).iter().take_while(inside).count();
        self.colons_done = end;
        // `address:2001:db8::1`: the first colon ends a word.
        if self.before(start).last().is_some_and(|byte| is_word(*byte)) {
            start = at + 1;
        } else if self.byte(start) == b':' && self.byte(start + 1) != b':' {
            start += 1;
        }
        while end > start
            && (self.byte(end - 1) == b'.'
                || (self.byte(end - 1) == b':' && self.byte(end - 2) != b':'))
        {
            end -= 1;
        }
        if end < start + 3 || end - start > 45 || start < self.claimed {
            return;
        }
        let neighbours_are_free = !is_word(self.byte(end))
            && self.byte(end) != b'_'
            && !self.before(start).last().is_some_and(|byte| is_word(*byte) || *byte == b'_');
        let Ok(ip) = self.slice(start, end).parse::<Ipv6Addr>() else { return };
        let public = match ip.to_canonical() {
            IpAddr::V4(ip) => is_public_v4(ip),
            IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
        };
        if !neighbours_are_free || !public {
            return;
        }
        if self.before(start).last() == Some(&b'[') && self.byte(end) == b']' {
            if let (Some(Kind::IpPort), to) = self.with_suffix(end + 1) {
                return self.add_address(Some(Kind::IpPort), start - 1, to, IpAddr::V6(ip));
            }
        } else if let (Some(Kind::Cidr), to) = self.with_suffix(end) {
            return self.add_address(Some(Kind::Cidr), start, to, IpAddr::V6(ip));
        }
        self.add_address(None, start, end, ip.to_canonical());
    }

    // --- defanged words

    /// Reads the word around `at`, which holds a defanged spelling.
    fn word(&mut self, at: usize) {
        let start = self.word_start(at);
        let mut word = std::mem::take(&mut self.word);
        word.clear();
        let end = self.copy_word(start, &mut word);
        self.words_done = end.max(at + 1);
        if word.any_fanged
            && let Ok(text) = std::str::from_utf8(&word.out)
        {
            self.read_word(&Word { text, copy: &word, end });
            // A word read in pieces: what ends at the seam may go on behind it.
            if end >= start + MAX_WORD_BYTES
                && let Some((_, halved)) =
                    self.found.pop_if(|(at, last)| *at + last.raw.len() == end)
            {
                self.seen.remove(&(halved.kind, halved.value));
                self.cut = true;
            }
        }
        self.word = word;
    }

    fn word_start(&self, at: usize) -> usize {
        let floor = self.words_done.max(at.saturating_sub(MAX_WORD_BYTES));
        let mut start = at;
        // `name [dot] com`: the first such bracket is the first place looked at.
        if start > floor && self.byte(start - 1) == b' ' && space_is_inside(self.bytes, start - 1) {
            start -= 1;
        }
        let mut next = self.byte(start);
        let mut next_letter = char::from(next);
        while start > floor {
            let byte = self.byte(start - 1);
            if byte.is_ascii() {
                if is_separator(byte) || (is_wide(next_letter) && byte.is_ascii_alphanumeric()) {
                    break;
                }
                start -= 1;
                (next, next_letter) = (byte, char::from(byte));
            } else {
                let Some(letter) = self.text.get(..start).and_then(|text| text.chars().next_back())
                else {
                    break;
                };
                if !letter.is_alphanumeric() || (is_wide(letter) && next.is_ascii_alphanumeric()) {
                    break;
                }
                if start - letter.len_utf8() < floor {
                    break;
                }
                start -= letter.len_utf8();
                (next, next_letter) = (byte, letter);
            }
        }
        start
    }

    /// Copies the word at `start`, refanged; answers where it ends.
    fn copy_word(&self, start: usize, word: &mut Copy) -> usize {
        let mut at = start;
        let mut last = ' ';
        let limit = start + MAX_WORD_BYTES;
        while at < limit && at < self.bytes.len() {
            let byte = self.byte(at);
            if byte.is_ascii() {
                let inner_space = byte == b' ' && space_is_inside(self.bytes, at);
                if (is_separator(byte) && !inner_space)
                    || (is_wide(last) && byte.is_ascii_alphanumeric())
                {
                    break;
                }
                let place = u32::try_from(at).unwrap_or(u32::MAX);
                at += 1 + word.push(byte, place, false, self.after(at + 1));
                last = char::from(byte);
            } else {
                let Some(letter) = self.text.get(at..).and_then(|text| text.chars().next()) else {
                    break;
                };
                if !letter.is_alphanumeric() || (is_wide(letter) && last.is_ascii_alphanumeric()) {
                    break;
                }
                for offset in 0..letter.len_utf8() {
                    let place = u32::try_from(at + offset).unwrap_or(u32::MAX);
                    word.push(self.byte(at + offset), place, false, &[]);
                }
                at += letter.len_utf8();
                last = letter;
            }
        }
        at
    }

    fn read_word(&mut self, word: &Word<'_>) {
        // Each attempt reads to the end of the word; a list of URLs succeeds, only nonsense fails often.
        const MAX_FAILURES: usize = 8;
        let mut failures = 0;
        let mut done = 0;
        while failures < MAX_FAILURES
            && let Some(colon) =
                word.text.get(done..).and_then(|text| text.find("://")).map(|at| done + at)
        {
            let scheme = word.scheme_start(colon).max(done);
            let authority = colon + 3;
            let authority_end = word.find_from(authority, &['/', '?', '#', '\\']);
            if !word.is_fanged(scheme, authority_end) {
                self.read_names(word, done, scheme);
                done = authority_end;
                continue;
            }
            self.read_names(word, done, scheme);
            let end = word.url_end(scheme, authority_end);
            match word.text.get(scheme..end).and_then(|text| normal::url(text, false)) {
                Some(value) => {
                    self.claim_host(word.place(scheme), word.place(authority_end.min(end)));
                    self.add(word.place(scheme), word.place(end), Kind::Url, value);
                    done = end.max(authority);
                }
                // What follows the scheme may still be a name with something odd behind it.
                None => {
                    failures += 1;
                    done = authority;
                }
            }
        }
        self.read_names(word, done, word.text.len());
    }

    /// Reads the names, addresses and mail addresses in a part of a word that has no scheme.
    fn read_names(&mut self, word: &Word<'_>, from: usize, to: usize) {
        let mut done = from;
        while let Some(fanged) = word.next_fanged(done, to) {
            done = match word.byte(fanged) {
                b'@' => self.read_name(word, fanged + 1, done, to),
                b':' => self.read_fanged_colon(word, fanged, done, to),
                _ => self.read_name(word, fanged, done, to),
            }
            .max(fanged + 1);
        }
    }

    fn read_fanged_colon(
        &mut self,
        word: &Word<'_>,
        colon: usize,
        from: usize,
        to: usize,
    ) -> usize {
        const LONGEST: usize = 45;
        let inside = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        let start = word.back_while(colon, from.max(colon.saturating_sub(LONGEST)), inside);
        let mut end = word.on_while(colon, to.min(colon + LONGEST), inside);
        while end > start && word.byte(end - 1) == b'.' {
            end -= 1;
        }
        if let Some((kind, value)) = word.text.get(start..end).and_then(normal::address) {
            self.add(word.place(start), word.place(end), kind, value);
            return end;
        }
        // `192.0.2.1[:]443`, `evil.com[:]8080`
        let host = word.back_while(colon, from, is_host_byte);
        if host < colon && word.byte(colon + 1).is_ascii_digit() {
            return self.read_name(word, colon - 1, from, to);
        }
        colon + 1
    }

    /// Reads the name around `at`; answers where it and what belongs to it end.
    fn read_name(&mut self, word: &Word<'_>, at: usize, from: usize, to: usize) -> usize {
        let run = (word.back_while(at, from, is_host_byte), word.on_while(at, to, is_host_byte));
        self.read_run(word, run, from, to).unwrap_or(run.1)
    }

    fn read_run(
        &mut self,
        word: &Word<'_>,
        run: (usize, usize),
        from: usize,
        to: usize,
    ) -> Option<usize> {
        let name = word.text.get(run.0..run.1)?;
        let head = name.len() - name.trim_start_matches(['.', '-', '_']).len();
        let (start, mut end) =
            (run.0 + head, run.0 + head + name.trim_matches(['.', '-', '_']).len());
        let name = word.text.get(start..end)?;
        if name.rsplit('.').next()?.bytes().all(|byte| byte.is_ascii_digit()) {
            let address = name.parse::<Ipv4Addr>().ok()?;
            return Some(self.add_with_tail(word, Kind::Ipv4, address.to_string(), start, end, to));
        }
        let (kind, value) = match normal::host(name) {
            Some(found) => found,
            None => {
                let shorter = without_glued_tail(name)?;
                end = start + shorter.len();
                normal::host(shorter)?
            }
        };
        if start > from && word.byte(start - 1) == b'@' {
            let local = word.back_while(start - 1, from, |byte| {
                byte.is_ascii_alphanumeric() || b"._%+-".contains(&byte)
            });
            if let Some(value) = word
                .text
                .get(local..end)
                .and_then(|text| normal::email(text.trim_start_matches('.')))
            {
                self.add(word.place(local), word.place(end), Kind::Email, value);
                return Some(end);
            }
        }
        if end < start + name.len() {
            self.add(word.place(start), word.place(end), kind, value);
            return Some(end);
        }
        Some(self.add_with_tail(word, kind, value, start, end, to))
    }

    /// Adds a host with the port, prefix length or path after it.
    fn add_with_tail(
        &mut self,
        word: &Word<'_>,
        kind: Kind,
        value: String,
        start: usize,
        end: usize,
        to: usize,
    ) -> usize {
        let mut tail = end;
        if word.byte(end) == b':' {
            let length = word.text.as_bytes().get(end + 1..to).map_or(0, digits);
            if (1..=5).contains(&length) {
                tail = end + 1 + length;
            }
        }
        if word.byte(tail) == b'/' && tail < to {
            let length = word.text.as_bytes().get(tail + 1..to).map_or(0, digits);
            let after = tail + 1 + length;
            if kind == Kind::Ipv4
                && tail == end
                && (1..=2).contains(&length)
                && !matches!(word.byte(after), b'/' | b'_')
                && !word.byte(after).is_ascii_alphanumeric()
                && let Some((kind, value)) = word.text.get(start..after).and_then(normal::range)
            {
                self.add(word.place(start), word.place(after), kind, value);
                return after;
            }
            let url_end = word.url_end(start, tail).min(to);
            if url_end > tail + 1
                && !word.path_begins_with_name(tail + 1, url_end)
                && let Some(value) =
                    word.text.get(start..url_end).and_then(|text| normal::url(text, false))
            {
                self.claim_host(word.place(start), word.place(tail));
                self.add(word.place(start), word.place(url_end), Kind::Url, value);
                return url_end;
            }
        }
        if kind == Kind::Ipv4
            && tail > end
            && let Some((kind, value)) =
                word.text.get(start..tail).and_then(normal::address_with_port)
        {
            self.add(word.place(start), word.place(tail), kind, value);
            return tail;
        }
        self.claim_host(word.place(start), word.place(end));
        self.add(word.place(start), word.place(end), kind, value);
        end
    }
}

/// A refanged word and where its letters came from.
struct Word<'w> {
    text: &'w str,
    copy: &'w Copy,
    /// End of the original.
    end: usize,
}

impl Word<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(b' ')
    }

    /// Where in the original the byte at `at` begins.
    fn place(&self, at: usize) -> usize {
        self.copy.at.get(at).map_or(self.end, |place| usize::try_from(*place).unwrap_or(self.end))
    }

    fn is_fanged(&self, from: usize, to: usize) -> bool {
        self.copy.fanged.get(from..to).is_some_and(|range| range.contains(&true))
    }

    /// The next place that was defanged and may be within a name.
    fn next_fanged(&self, from: usize, to: usize) -> Option<usize> {
        let fanged = self.copy.fanged.get(from..to)?;
        fanged
            .iter()
            .enumerate()
            .find(|(index, fanged)| {
                **fanged && matches!(self.byte(from + index), b'.' | b'@' | b':')
            })
            .map(|(index, _)| from + index)
    }

    fn scheme_start(&self, colon: usize) -> usize {
        const SCHEMES: [&str; 10] =
            ["https", "http", "sftp", "ftps", "ftp", "wss", "ws", "tcp", "udp", "smb"];
        let before = self.text.as_bytes().get(..colon).unwrap_or_default();
        let length = SCHEMES
            .iter()
            .find(|scheme| {
                before
                    .len()
                    .checked_sub(scheme.len())
                    .and_then(|from| before.get(from..))
                    .is_some_and(|tail| tail.eq_ignore_ascii_case(scheme.as_bytes()))
            })
            .map_or(0, |scheme| scheme.len());
        colon - length
    }

    fn find_from(&self, from: usize, letters: &[char]) -> usize {
        self.text
            .get(from..)
            .and_then(|rest| rest.find(letters))
            .map_or(self.text.len(), |at| from + at)
    }

    /// The end of a URL without the punctuation of the sentence around it.
    fn url_end(&self, start: usize, authority_end: usize) -> usize {
        // A backslash is no part of a URL's path; it opens what was `\n` to the program that wrote the text.
        let mut end = self.find_from(authority_end, &['\\']);
        let mut from = authority_end;
        // `…/a;hxxp://…`: the next URL of a list.
        while let Some(colon) =
            self.text.get(from..end).and_then(|rest| rest.find("://")).map(|at| from + at)
        {
            let scheme = self.scheme_start(colon);
            if scheme > from
                && matches!(self.byte(scheme - 1), b';' | b')' | b']' | b'}')
                && self.is_fanged(scheme, colon + 3)
            {
                end = scheme - 1;
                break;
            }
            from = colon + 3;
        }
        let Some(mut text) = self.text.get(start..end) else { return end };
        let count = |letter: u8| memchr::memchr_iter(letter, text.as_bytes()).count();
        let mut surplus = [(b'(', b')'), (b'[', b']'), (b'{', b'}')]
            .map(|(open, close)| (char::from(close), count(close).saturating_sub(count(open))));
        while let Some(last) = text.chars().next_back() {
            let closing = surplus.iter_mut().find(|(close, left)| *close == last && *left > 0);
            match closing {
                Some((_, left)) => *left -= 1,
                None if matches!(
                    last,
                    '.' | ',' | ';' | ':' | '!' | '?' | '*' | '\\' | '(' | '[' | '{' | '='
                ) && last != '=' => {}
                None => break,
            }
            text = text.get(..text.len() - last.len_utf8()).unwrap_or_default();
        }
        start + text.len()
    }

    /// Whether the path's first part is itself a defanged name: `a[.]com/b[.]com` is a list.
    fn path_begins_with_name(&self, from: usize, to: usize) -> bool {
        let end = self.find_from(from, &['/']).min(to);
        self.is_fanged(from, end)
            && self.text.get(from..end).is_some_and(|part| {
                normal::host(part).is_some() || part.parse::<Ipv4Addr>().is_ok()
            })
    }

    fn back_while(&self, at: usize, floor: usize, inside: impl Fn(u8) -> bool) -> usize {
        let before = self.text.as_bytes().get(floor..at).unwrap_or_default();
        at - before.iter().rev().take_while(|byte| inside(**byte)).count()
    }

    fn on_while(&self, at: usize, limit: usize, inside: impl Fn(u8) -> bool) -> usize {
        let after = self.text.as_bytes().get(at..limit).unwrap_or_default();
        at + after.iter().take_while(|byte| inside(**byte)).count()
    }
}

/// The name in `evil.com-based` and, where markup glued words, in `evil.comThe`.
fn without_glued_tail(name: &str) -> Option<&str> {
    let top_at = name.rfind('.')? + 1;
    let top = name.get(top_at..)?;
    let hyphen = top.find('-');
    let capital = top
        .as_bytes()
        .windows(2)
        .position(|pair| matches!(pair, [before, after] if before.is_ascii_lowercase() && after.is_ascii_uppercase()))
        .map(|at| at + 1);
    let length = hyphen.or(capital)?;
    let short = name.get(..top_at + length)?;
    let top = short.get(top_at..)?;
    (top.len() >= 2 || OTHER_TOP_LEVELS.contains(&top)).then_some(short)
}

/// Whether hex digits are varied enough to be a hash.
fn is_hash(digits: &str) -> bool {
    let mut seen = 0_u16;
    for digit in digits.chars().filter_map(|letter| letter.to_digit(16)) {
        seen |= 1 << digit;
    }
    let (decimal, letters) = (seen & 0x3ff, seen & 0xfc00);
    // A random MD5 has fewer than six different digits once in 10^12 times.
    decimal != 0 && letters != 0 && seen.count_ones() >= 6
}

/// Whether an address could be reached over the Internet; ranges for documentation count.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [first, second, third, _] = ip.octets();
    let shared = first == 100 && second & 0xc0 == 64;
    let benchmark = first == 198 && second & 0xfe == 18;
    let protocol = first == 192 && second == 0 && third == 0;
    !(first == 0
        || first >= 224
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || shared
        || benchmark
        || protocol)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::indicator::{parse, refang};

    fn shown(text: &str) -> Vec<String> {
        let found = extract(text);
        for indicator in &found.indicators {
            assert!(text.contains(&indicator.raw), "raw is a part of the text: {indicator:?}");
            let again = parse(Some(indicator.kind), &indicator.value).unwrap();
            assert_eq!(
                (again.kind, &again.value),
                (indicator.kind, &indicator.value),
                "a fixed point"
            );
        }
        let indicators = found
            .indicators
            .iter()
            .map(|indicator| format!("{} {}", indicator.kind, indicator.value));
        indicators.chain(found.cves).collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(shown(text), expected, "in `{text}`");
    }

    #[test]
    fn finds_defanged_names_and_urls_in_prose() {
        check(
            "It calls evil[.]com, then cdn.evil[.]co.uk.",
            &["domain evil.com", "hostname cdn.evil.co.uk"],
        );
        check("(hxxp://evil.com/a.php?x=1).", &["url http://evil.com/a.php?x=1"]);
        check("hxxps[://]evil[.]com/(a)/b) and", &["url https://evil.com/(a)/b"]);
        check("http://evil[.]com:8080", &["url http://evil.com:8080/"]);
        check(
            "evil [dot] com and eve (at) evil (dot) com",
            &["domain evil.com", "email eve@evil.com"],
        );
        check("eve@evil[.]com or eve[@]good.com", &["email eve@evil.com", "email eve@good.com"]);
        check(
            "evil[.]com/gate[.]php a[.]com/b[.]org",
            &["url evil.com/gate.php", "domain a.com", "domain b.org"],
        );
        check("evil[.]com:443 www[.]evil[.]com/", &["domain evil.com", "hostname www.evil.com"]);
        check(
            "Markdown: evil\\[.\\]com, evil\\.com, cmctt.]com, a[.com",
            &["domain evil.com", "domain cmctt.com", "domain a.com"],
        );
        check(
            "an evil[.]com-based kit; evil[.]netThe end",
            &["domain evil.com", "domain evil.net"],
        );
        check(
            "hxxp://a.com/x,2018-07-02 hxxp://b.com/y;hxxp://c.com/z",
            &["url http://a.com/x", "url http://b.com/y", "url http://c.com/z"],
        );
        check(
            "攻击者使用evil[.]com进行，例え[.]com。",
            &["domain evil.com", "domain xn--r8jz45g.com"],
        );
        check("пример[.]рф “b[.]org”", &["domain xn--e1afmkfd.xn--p1ai", "domain b.org"]);
        check("https://www.google.com/url?q=evil[.]com", &["domain evil.com"]);
        check(
            "*.evil[.]com http[:]//192.0.2[.]1/x 192.0.2[.]2/y",
            &["domain evil.com", "url http://192.0.2.1/x", "url 192.0.2.2/y"],
        );
    }

    #[test]
    fn ends_a_url_where_its_sentence_goes_on() {
        check(
            "hxxp://evil[.]com/a_(b) sftp://192.0.2[.]4/x",
            &["url http://evil.com/a_(b)", "url sftp://192.0.2.4/x"],
        );
        check(
            "hxxp://evil[.]com/a\\r\\nhxxp://b[.]com",
            &["url http://evil.com/a", "url http://b.com/"],
        );
    }

    #[test]
    fn leaves_plain_names_and_lookalikes_alone() {
        for text in [
            "See https://example.com/a?b=c, example.com, eve@example.com or http://docs.rs/x.",
            "secur32[.]dll, payload[.]exe, a[.]b[.]c, [.]com, x[.] y, [.], hxxp, hxxp://, hxxp://localhost/",
            "array[0].name(at) f(.x) s[i].y [1]. see [dot] files; std::vec::Vec a::b dead::beef",
            "regex [.]+ (.)* \\.rs C:\\.ssh\\config",
            "12:30:45 00:1a:2b:3c:4d:5e 12:34:56:78:9a:bc:de:f0 fe80::1 ::1 fd00::1",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn finds_plain_addresses_that_are_public_and_no_versions() {
        check(
            "C2 at 203.0.113.7, 45.9.148.3:8080 and 45.9.148.0/24.",
            &["ipv4 203.0.113.7", "ip:port 45.9.148.3:8080", "cidr 45.9.148.0/24"],
        );
        check("8.8.8.8", &["ipv4 8.8.8.8"]);
        check("the IP address 8.8.8.8. Next", &["ipv4 8.8.8.8"]);
        check("45.9.148.3-45.9.148.9", &["ipv4 45.9.148.3", "ipv4 45.9.148.9"]);
        check(
            "http://45.9.148.3/a.sh https://45.9.148.4:81/b",
            &["ipv4 45.9.148.3", "ip:port 45.9.148.4:81"],
        );
        check(
            "2001:db8::1 [2001:db8::2]:443 address:2001:db8::3, 2001:db8::/32",
            &[
                "ipv6 2001:db8::1",
                "ip:port [2001:db8::2]:443",
                "ipv6 2001:db8::3",
                "cidr 2001:db8::/32",
            ],
        );
        check(
            "::ffff:45.9.148.3 2001[:]db8[:][:]5 2001:db8[::]6",
            &["ipv4 45.9.148.3", "ipv6 2001:db8::5", "ipv6 2001:db8::6"],
        );
        check(
            "10[.]0.0.1 192.168[.]0[.]1:80 127(.)0(.)0(.)1 185.178.209[.]193[:]443",
            &[
                "ipv4 10.0.0.1",
                "ip:port 192.168.0.1:80",
                "ipv4 127.0.0.1",
                "ip:port 185.178.209.193:443",
            ],
        );
        check(
            "IP:8.8.8.8 and DNS: 8.8.4.4 Mail: 9.9.9.9",
            &["ipv4 8.8.8.8", "ipv4 8.8.4.4", "ipv4 9.9.9.9"],
        );
        check("[::]:9000 0.0.0.0:80", &[]);
        check("OpenSSL 1.1.1.1, 1.1.1.2 and 45.9.148.3", &["ipv4 45.9.148.3"]);
        check("从8.8.8.8下载", &["ipv4 8.8.8.8"]);
        for text in [
            "10.0.0.1 127.0.0.1 192.168.1.1 172.16.9.9 169.254.1.1 0.0.0.0 255.255.255.0 224.0.0.1 100.64.0.1",
            "version 45.9.148.3, v45.9.148.3 firmware 45.9.148.3 (build 45.9.148.3) 45.9.148.3 and earlier",
            "versions 45.9.148.3, 45.9.148.4 and 45.9.148.5",
            "org.runner:2.19.1.0 tool==2.19.1.0 Chrome 11.0.0.5 is out; before 12.2.1.4; Chrome 120.0.6099.109",
            "1.3.6.1.4.1.311 1.2.3 tool-45.9.148.3.tar.gz 45.9.148.3.exe 45.9.148.3-beta 45.9.148.3_x",
            "https://example.com/tool/45.9.148.3/x 045.9.148.3 45.9.148.300",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn finds_hashes_of_the_usual_lengths_only() {
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        let sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        let sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        check(
            &format!("md5:{md5} ({}) {sha1}.exe", md5.to_uppercase()),
            &[&format!("md5 {md5}"), &format!("sha1 {sha1}")],
        );
        check(
            &format!("https://www.virustotal.com/gui/file/{sha256}"),
            &[&format!("sha256 {sha256}")],
        );
        check(
            &format!("hxxp://a.com/{md5}.bin"),
            &[&format!("url http://a.com/{md5}.bin"), &format!("md5 {md5}")],
        );
        check(&format!("{md5}.a[.]com"), &[&format!("hostname {md5}.a.com")]);
        check(&format!("{sha256}{sha256}"), &[&format!("sha512 {sha256}{sha256}")]);
        for text in [
            format!("{md5}0 x{md5} 0x{sha1} {md5}g"),
            "1".repeat(32),
            "12345678901234567890123456789012".to_owned(),
            "deadbeefdeadbeefdeadbeefdeadbeef".to_owned(),
            "123e4567-e89b-12d3-a456-426614174000".to_owned(),
            format!("00-{md5}-b7ad6b7169203331-01"),
            format!("https://github.com/a/b/commit/{sha1} commit {sha1} actions/checkout@{sha1}"),
        ] {
            check(&text, &[]);
        }
    }

    #[test]
    fn finds_cve_numbers_in_any_dress() {
        check(
            "CVE-2024-1234, cve-2023-12345; CVE\u{2011}2021\u{2013}44228 (Cve-2024-1234) flawCVE-2020-0001now",
            &["CVE-2024-1234", "CVE-2023-12345", "CVE-2021-44228", "CVE-2020-0001"],
        );
        check(
            "CVE-2024-123 CVE-2024-XXXX CVE-3024-1234 XCVE-2024-1234 CVE-2024-1234567890 CVE 2024",
            &[],
        );
        check("https://nvd.nist.gov/vuln/detail/CVE-2024-1234", &["CVE-2024-1234"]);
    }

    #[test]
    fn keeps_the_order_of_the_text_and_each_value_once() {
        let text = "b[.]org 45.9.148.3 a[.]org B[.]ORG 45.9.148.3 x[.]com/45.9.148.4";
        check(text, &["domain b.org", "ipv4 45.9.148.3", "domain a.org", "url x.com/45.9.148.4"]);
        assert_eq!(extract(text).indicators[0].raw, "b[.]org");
    }

    #[test]
    fn stops_at_the_limit_and_says_so() {
        let text: String = (0..=MAX_INDICATORS)
            .map(|number| format!("a{number}[.]com CVE-2024-{}\n", 10_000 + number))
            .collect();
        let found = extract(&text);
        assert_eq!(
            (found.indicators.len(), found.cves.len(), found.cut),
            (MAX_INDICATORS, MAX_CVES, true)
        );
        assert!(!extract("a[.]com").cut);
    }

    /// Longer than any sane text, and made to be looked at again and again.
    #[test]
    fn hostile_text_takes_linear_time() {
        for part in [
            "[.]",
            "1.",
            "a",
            "0f",
            ":",
            "::",
            "[",
            "hxxp://",
            "1.1.1.1/",
            "(dot)",
            "a[.]",
            "é[.]",
            "2001:",
            "ve-",
            " [dot] ",
            "\\",
            "[[[.",
            "@[.]a.com",
        ] {
            let text = part.repeat(400_000 / part.len());
            assert!(extract(&text).indicators.len() <= 2, "{part}");
            refang(&text);
        }
    }

    fn defanged() -> impl Strategy<Value = (Kind, String, String)> {
        let dot = prop_oneof![
            Just("[.]"),
            Just("(.)"),
            Just("{.}"),
            Just("[dot]"),
            Just("(DOT)"),
            Just("[ dot ]"),
            Just(" [dot] "),
            Just("\\.")
        ];
        let scheme = prop_oneof![
            Just("hxxp://"),
            Just("hXXp://"),
            Just("hxxp[:]//"),
            Just("http[://]"),
            Just("meow://"),
            Just("h**p://"),
            Just("[hxxp://]")
        ];
        let label = "[a-z][a-z0-9]{0,8}";
        let top = prop_oneof![Just("com"), Just("org"), Just("ru"), Just("onion"), Just("xyz")];
        let name = (proptest::collection::vec(label, 1..4), top, dot.clone());
        prop_oneof![
            name.clone().prop_map(|(labels, top, dot)| {
                let plain = format!("{}.{top}", labels.join("."));
                // `us.com` is a public suffix too.
                let (kind, _) = normal::host(&plain).unwrap();
                (kind, format!("{}{dot}{top}", labels.join(".")), plain)
            }),
            (name, scheme, "(/[a-z0-9]{1,6}){0,3}").prop_map(
                |((labels, top, dot), scheme, path)| {
                    let host = labels.join(dot);
                    let plain = format!(
                        "http://{}.{top}{}",
                        labels.join("."),
                        if path.is_empty() { "/" } else { &path }
                    );
                    (Kind::Url, format!("{scheme}{host}{dot}{top}{path}"), plain)
                }
            ),
            (any::<[u8; 4]>(), dot).prop_map(|([a, b, c, d], dot)| (
                Kind::Ipv4,
                format!("{a}.{b}{dot}{c}.{d}"),
                format!("{a}.{b}.{c}.{d}")
            )),
            "[0-9a-f]{64}".prop_filter("varied", |digits| is_hash(digits)).prop_map(|digits| (
                Kind::Sha256,
                digits.to_uppercase(),
                digits
            )),
        ]
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,300}") {
            shown(&text);
        }

        #[test]
        fn mixed_pieces_are_survived(parts in proptest::collection::vec(prop_oneof![
            Just("[.]"), Just("1.2.3.4"), Just("hxxp://"), Just("http://"), Just(":80"), Just("/24"), Just("a.com"), Just("com"),
            Just(" "), Just("["), Just("]"), Just("é"), Just("例"), Just("@"), Just("::"), Just("2001:db8"), Just("\\."), Just(" [dot] "),
            Just("-"), Just("d41d8cd98f00b204e9800998ecf8427e"), Just("CVE-2024-1234"), Just("/x?y=("), Just(")"), Just(";"), Just(","),
        ], 0..30)) {
            shown(&parts.concat());
        }

        #[test]
        fn what_was_defanged_is_found_in_prose(
            (kind, defanged, plain) in defanged(),
            before in prop_oneof![Just(""), Just("The server "), Just("(see "), Just("“"), Just("C2: "), Just("\n- "), Just("使用")],
            after in prop_oneof![Just(""), Just("."), Just(", which"), Just(") is"), Just("”"), Just("\r\n"), Just(" and then."), Just("进行")],
        ) {
            let text = format!("{before}{defanged}{after}");
            let found = extract(&text);
            let values: Vec<_> = found.indicators.iter().map(|found| (found.kind, found.value.as_str())).collect();
            prop_assert_eq!(values, [(kind, plain.as_str())], "in {}", text);
        }
    }
}
