//! Lists of values that are known and mostly harmless, in the format of MISP's warninglists: what is on one is tagged, and
//! never dropped for it.
//!
//! The five forms and what they match (misp-warninglists' `schema.json`, MISP's `Warninglist` model):
//!
//! - `cidr`: addresses and ranges; an address within one, a range that shares an address with one;
//! - `hostname`: a name and everything below it, with or without a dot before it; the host of a URL, the domain of a mail
//!   address;
//! - `string`: the whole value; also the host of a URL, the address before a port; with a dot before it as `hostname`;
//! - `substring`: anywhere in the value;
//! - `regex`: a pattern of PCRE, with or without delimiters, in time linear in the value.
//!
//! Letters' case never counts, but in a pattern that asks for it. A list is asked for the kinds that its
//! `matching_attributes` name and for no others. Its files are from elsewhere: each size and count has a limit, and what is
//! beyond one, or malformed, is told.

mod names;
mod wire;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};

use aho_corasick::AhoCorasick;
use flate2::read::GzDecoder;
use ipnet::IpNet;
use regex::bytes::{RegexBuilder, RegexSet, RegexSetBuilder};

use self::names::Names;
use self::wire::Header;
use super::kind::IndicatorKind;
use super::normal::host_of_url;

/// Bytes of one list's file; the largest published one, a million names, has 22 MB.
pub const LIST_BYTES_MAX: usize = 32 << 20;
/// Lists; some 120 are published.
pub const LISTS_MAX: usize = 1_000;
/// Entries of all lists together; the published ones have 2.5 million, of which two lists have a million each.
pub const ENTRIES_MAX: usize = 3_000_000;
/// Bytes of the entries of all lists together.
pub const TEXT_BYTES_MAX: usize = 64 << 20;
/// Bytes of an entry.
pub const ENTRY_BYTES_MAX: usize = 2_048;
/// Bytes of a list's name.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of the substrings of all lists together: an automaton takes some thirty times that while it is built.
pub const SUBSTRINGS_BYTES_MAX: usize = 1 << 20;
/// Lists of patterns.
pub const PATTERN_LISTS_MAX: usize = 32;
/// Patterns of a list.
pub const PATTERNS_MAX: usize = 500;
/// Bytes of the program that the patterns of a list become.
pub const PATTERNS_BYTES_MAX: usize = 2 << 20;
/// Bytes of a value that substrings and patterns are sought in; the longest URL in the feeds at hand has 2,083.
pub const SUBJECT_BYTES_MAX: usize = 4_096;
/// Rejects that are kept with their reasons; the others are counted.
pub const REJECTS_MAX: usize = 100;
/// Bytes that the set compiled in may have when it is decompressed.
const BUILT_IN_BYTES_MAX: u64 = 16 << 20;

/// A list a line, made by `tests/compare/make_warninglists.py`; see the README beside it.
const BUILT_IN: &[u8] = include_bytes!("../data/warninglists.jsonl.gz");

/// What it means to be on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// An indicator that is on it is probably none.
    FalsePositive,
    /// It is known what it is, which says nothing against it.
    Known,
}

impl Category {
    /// The word that is stored, MISP's own.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FalsePositive => "false_positive",
            Self::Known => "known",
        }
    }
}

/// How the entries of a list are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Cidr,
    Hostname,
    String,
    Substring,
    Regex,
}

/// A list, without its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its name, for people: `List of known sinkholes`.
    pub name: String,
    /// Its version, a number or a date as one: `20260811`; 0 where it says none.
    pub version: u64,
    /// What it means to be on it.
    pub category: Category,
    /// How many of its entries are asked.
    pub entries: usize,
}

/// A set of indicator kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kinds(u32);

impl Kinds {
    const fn of(kinds: &[IndicatorKind]) -> Self {
        let mut set = 0;
        let mut place = 0;
        while place < kinds.len() {
            set |= 1 << kinds[place] as u32;
            place += 1;
        }
        Self(set)
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, kind: IndicatorKind) -> bool {
        self.0 & (1 << kind as u32) != 0
    }

    /// Those that an attribute of MISP becomes here.
    ///
    /// A domain and a host are one to a list: which of the two a name is, is our distinction. Of a composite its parts count.
    fn of_attribute(attribute: &str) -> Self {
        use IndicatorKind as Kind;
        const ADDRESSES: Kinds = Kinds::of(&[Kind::Ipv4, Kind::Ipv6, Kind::Cidr, Kind::IpPort]);
        const HOSTS: Kinds = Kinds::of(&[Kind::Domain, Kind::Hostname]);
        let attribute = attribute.strip_prefix("filename|").unwrap_or(attribute);
        match attribute {
            "ip-src" | "ip-dst" | "ip-src|port" | "ip-dst|port" => ADDRESSES,
            "domain" | "hostname" | "hostname|port" => HOSTS,
            "domain|ip" => HOSTS.and(ADDRESSES),
            "url" | "uri" | "link" => Self::of(&[Kind::Url]),
            "email"
            | "email-src"
            | "email-dst"
            | "email-reply-to"
            | "target-email"
            | "whois-registrant-email"
            | "dns-soa-email" => Self::of(&[Kind::Email]),
            "filename" => Self::of(&[Kind::Filename]),
            "filename-pattern" => Self::of(&[Kind::FilenameRegex]),
            "AS" => Self::of(&[Kind::Asn]),
            "regkey" | "regkey|value" => Self::of(&[Kind::Regkey]),
            "vulnerability" => Self::of(&[Kind::Cve]),
            "ja3-fingerprint-md5" => Self::of(&[Kind::Ja3]),
            // The rest are called here as there.
            "md5" | "sha1" | "sha224" | "sha256" | "sha384" | "sha512" | "ssdeep" | "imphash"
            | "pehash" | "mutex" | "yara" | "btc" => {
                attribute.parse().map_or(Self::default(), |kind| Self::of(&[kind]))
            }
            _ => Self::default(),
        }
    }
}

/// The entries of a list, but for those that stand in the table of names.
#[derive(Debug)]
enum Matcher {
    Names,
    /// First and last addresses, ascending, apart from each other.
    Ranges(Vec<(IpAddr, IpAddr)>),
    Substrings(AhoCorasick),
    Patterns(RegexSet),
}

#[derive(Debug)]
struct Listed {
    list: List,
    kinds: Kinds,
    matcher: Matcher,
}

/// Lists that can be asked. Asking costs the lists of ranges, substrings and patterns one step each, all others together one.
#[derive(Debug)]
pub struct Warninglists {
    all: Vec<Listed>,
    names: Names,
    /// By kind, the places of the lists that are asked one by one.
    asked: Vec<Vec<u16>>,
}

impl Default for Warninglists {
    fn default() -> Self {
        Reader::default().finish().lists
    }
}

impl Warninglists {
    /// The lists that this indicator, in normal form, is on, in the order in which they were read.
    pub fn hits(&self, kind: IndicatorKind, value: &str) -> Vec<&List> {
        let subject = Subject::of(kind, value);
        let mut found = Vec::new();
        self.names.find(&subject, |place| {
            if self.all.get(usize::from(place)).is_some_and(|listed| listed.kinds.has(kind)) {
                found.push(place);
            }
        });
        let asked = self.asked.get(kind as usize).map_or(&[][..], Vec::as_slice);
        let is_on = |place: &&u16| {
            self.all.get(usize::from(**place)).is_some_and(|listed| listed.matcher.holds(&subject))
        };
        found.extend(asked.iter().filter(is_on));
        found.sort_unstable();
        found.dedup();
        found.iter().filter_map(|place| Some(&self.all.get(usize::from(*place))?.list)).collect()
    }

    /// Every list, in the order in which they were read.
    pub fn lists(&self) -> impl ExactSizeIterator<Item = &List> {
        self.all.iter().map(|listed| &listed.list)
    }

    /// The set that is compiled in.
    pub fn built_in() -> Read {
        let mut reader = Reader::default();
        let mut text = Vec::new();
        let read = GzDecoder::new(BUILT_IN).take(BUILT_IN_BYTES_MAX).read_to_end(&mut text);
        match read {
            Ok(_) => text
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .for_each(|line| reader.add("the set compiled in", line)),
            Err(cause) => reader.rejects.add(|| format!("the set compiled in: {cause}")),
        }
        reader.finish()
    }
}

/// What is asked of lists for one indicator.
struct Subject<'v> {
    /// The value, in lower case.
    text: Cow<'v, str>,
    /// As it is, for patterns.
    value: &'v str,
    /// The value's host or address, where it has one beside other things, and the value itself where it is one.
    host: Option<Cow<'v, str>>,
    /// Its first and last address.
    range: Option<(IpAddr, IpAddr)>,
}

impl<'v> Subject<'v> {
    fn of(kind: IndicatorKind, value: &'v str) -> Self {
        let host = match kind {
            IndicatorKind::Domain | IndicatorKind::Hostname => Some(value),
            IndicatorKind::Url => host_of_url(value),
            IndicatorKind::Email => value.rsplit_once('@').map(|(_, domain)| domain),
            _ => None,
        };
        let address = match kind {
            IndicatorKind::Ipv4 | IndicatorKind::Ipv6 => value.parse().ok(),
            IndicatorKind::IpPort => value.parse().ok().map(|socket: SocketAddr| socket.ip()),
            _ => host.and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok()),
        };
        let range = match (kind, address) {
            (IndicatorKind::Cidr, _) => range(value),
            (_, address) => address.map(|ip| (ip.to_canonical(), ip.to_canonical())),
        };
        let host = match address {
            Some(address) => Some(Cow::Owned(address.to_string())),
            None => host.map(lower),
        };
        Self { text: lower(value), value, host, range }
    }
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// The first and the last address of an address or range. An IPv4 address in IPv6's clothes is one of IPv4.
fn range(text: &str) -> Option<(IpAddr, IpAddr)> {
    const MAPPED_BITS: u8 = 96;
    let net = match text.parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip.to_canonical()),
        Err(_) => {
            let (base, bits) = text.split_once('/')?;
            let base: IpAddr = base.trim().parse().ok()?;
            let bits: u8 = bits.trim().parse().ok()?;
            let plain = base.to_canonical();
            let bits = if plain == base { bits } else { bits.checked_sub(MAPPED_BITS)? };
            IpNet::new(plain, bits).ok()?
        }
    };
    // Not the hosts alone: the first and the last address of a range are addresses too.
    Some((net.network(), net.broadcast()))
}

/// As much of a text as is looked at.
fn head(text: &str) -> &str {
    text.get(..text.floor_char_boundary(SUBJECT_BYTES_MAX)).unwrap_or(text)
}

impl Matcher {
    fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Names => false,
            Self::Ranges(ranges) => subject.range.is_some_and(|(first, last)| {
                let place = ranges.partition_point(|(_, end)| *end < first);
                ranges.get(place).is_some_and(|(start, _)| *start <= last)
            }),
            Self::Substrings(automaton) => automaton.is_match(head(&subject.text)),
            Self::Patterns(set) => set.is_match(head(subject.value).as_bytes()),
        }
    }
}

/// Lists as they were read.
#[derive(Debug)]
pub struct Read {
    /// What can be asked.
    pub lists: Warninglists,
    /// What is malformed or beyond a limit, the first [`REJECTS_MAX`].
    pub rejects: Vec<String>,
    /// How many rejects there are.
    pub rejected: u64,
    /// What tells these lists from others, in whatever order they were read.
    pub digest: u64,
}

#[derive(Debug, Default)]
struct Rejects {
    shown: Vec<String>,
    count: u64,
}

impl Rejects {
    fn add(&mut self, reason: impl FnOnce() -> String) {
        self.count += 1;
        if self.shown.len() < REJECTS_MAX {
            self.shown.push(reason());
        }
    }
}

/// Reads lists, one file after the other.
#[derive(Debug, Default)]
pub struct Reader {
    all: Vec<Listed>,
    names: Names,
    rejects: Rejects,
    entries: usize,
    text_bytes: usize,
    substrings_bytes: usize,
    pattern_lists: usize,
    digest: u64,
}

impl Reader {
    /// Adds a list: a `list.json` of MISP. `place` names its file for people. Any bytes are survived.
    ///
    /// A list for attributes that are no indicators here, such as telephone numbers, is left away.
    pub fn add(&mut self, place: &str, json: &[u8]) {
        // Another order of the files is no other set, and another release of Rust may give another digest.
        let mut hasher = DefaultHasher::new();
        hasher.write(json);
        self.digest = self.digest.wrapping_add(hasher.finish());
        if let Err(reason) = self.read(json) {
            self.rejects.add(|| format!("{place}: {reason}"));
        }
    }

    /// Counts a file that is no list.
    pub fn reject(&mut self, reason: impl Into<String>) {
        self.rejects.add(|| reason.into());
    }

    fn read(&mut self, json: &[u8]) -> Result<(), String> {
        if json.len() > LIST_BYTES_MAX {
            return Err(format!("`{}` bytes, more than {LIST_BYTES_MAX}", json.len()));
        }
        let json = std::str::from_utf8(json).map_err(|cause| cause.to_string())?;
        // The entries stand before what says how they are meant, so the file is read twice; they never stand in memory as one.
        let header: Header = serde_json::from_str(json).map_err(|cause| cause.to_string())?;
        if header.name.trim().is_empty() || header.name.len() > NAME_BYTES_MAX {
            return Err(format!("a name of `{}` bytes", header.name.len()));
        }
        if self.all.iter().any(|known| known.list.name == header.name) {
            return Err(format!("a second list called `{}`", header.name));
        }
        let place = u16::try_from(self.all.len()).ok().filter(|_| self.all.len() < LISTS_MAX);
        let Some(place) = place else { return Err(format!("more than `{LISTS_MAX}` lists")) };
        if header.kinds == Kinds::default() {
            return Ok(());
        }
        if header.form == Form::Regex {
            if self.pattern_lists == PATTERN_LISTS_MAX {
                return Err(format!("more than `{PATTERN_LISTS_MAX}` lists of patterns"));
            }
            self.pattern_lists += 1;
        }
        let mut entries = Entries { reader: self, place, form: header.form, of: Of::default() };
        // What was read until then is in the table of names already.
        let broken = wire::each_entry(json, &mut |entry| entries.add(entry)).err();
        let Of { count, ranges, substrings, patterns, refused, mut shown, tried: _ } = entries.of;
        shown.extend(broken.map(|cause| cause.to_string()));
        let matcher = match header.form {
            Form::Hostname | Form::String => Matcher::Names,
            Form::Cidr => Matcher::Ranges(apart(ranges)),
            Form::Substring => {
                let built = AhoCorasick::builder().ascii_case_insensitive(true).build(&substrings);
                Matcher::Substrings(built.map_err(|cause| cause.to_string())?)
            }
            Form::Regex => {
                let built = RegexSetBuilder::new(patterns)
                    .unicode(false)
                    .size_limit(PATTERNS_BYTES_MAX)
                    .dfa_size_limit(PATTERNS_BYTES_MAX)
                    .build();
                Matcher::Patterns(built.map_err(|cause| cause.to_string())?)
            }
        };
        for reason in shown {
            self.rejects.add(|| format!("`{}`: {reason}", header.name));
        }
        self.rejects.count += refused;
        let Header { name, version, category, kinds, form: _ } = header;
        let list = List { name, version, category, entries: count };
        self.all.push(Listed { list, kinds, matcher });
        Ok(())
    }

    /// What was read, to be asked.
    pub fn finish(self) -> Read {
        let mut asked = vec![Vec::new(); IndicatorKind::ALL.len()];
        for (place, listed) in (0_u16..).zip(&self.all) {
            if matches!(listed.matcher, Matcher::Names) {
                continue;
            }
            for kind in IndicatorKind::ALL.into_iter().filter(|kind| listed.kinds.has(*kind)) {
                asked[kind as usize].push(place);
            }
        }
        Read {
            lists: Warninglists { all: self.all, names: self.names, asked },
            rejects: self.rejects.shown,
            rejected: self.rejects.count,
            digest: self.digest,
        }
    }
}

/// The entries of one list on their way into what is asked.
struct Entries<'r> {
    reader: &'r mut Reader,
    place: u16,
    form: Form,
    of: Of,
}

#[derive(Default)]
struct Of {
    count: usize,
    ranges: Vec<(IpAddr, IpAddr)>,
    /// In lower case, each once: the automaton is quadratic in equal ones.
    substrings: BTreeSet<String>,
    patterns: Vec<String>,
    /// Patterns that were compiled.
    tried: usize,
    /// Refused ones beyond those that are shown.
    refused: u64,
    shown: Vec<String>,
}

impl Entries<'_> {
    /// Refused entries of one list that are shown.
    const SHOWN_MAX: usize = 3;

    fn add(&mut self, entry: &str) {
        match self.take(entry.trim()) {
            Ok(()) => self.of.count += 1,
            Err(reason) if self.of.shown.len() < Self::SHOWN_MAX => {
                let head: String = entry.chars().take(80).collect();
                self.of.shown.push(format!("`{head}`: {reason}"));
            }
            Err(_) => self.of.refused += 1,
        }
    }

    fn take(&mut self, entry: &str) -> Result<(), Cow<'static, str>> {
        if entry.is_empty() || entry.len() > ENTRY_BYTES_MAX {
            return Err("is empty or too long".into());
        }
        let reader = &mut *self.reader;
        if reader.entries == ENTRIES_MAX || reader.text_bytes + entry.len() > TEXT_BYTES_MAX {
            return Err("is beyond the limit of all lists together".into());
        }
        match self.form {
            Form::Cidr => {
                self.of.ranges.push(range(entry).ok_or("is no address and no range")?);
            }
            Form::Hostname => {
                let name = host(entry).ok_or("is no name")?;
                reader.names.add(&name, self.place, true);
            }
            Form::String => match entry.strip_prefix('.') {
                Some(name) => {
                    let name = host(name).ok_or("is no name")?;
                    reader.names.add(&name, self.place, true);
                }
                None => reader.names.add(&string(entry), self.place, false),
            },
            Form::Substring => {
                if reader.substrings_bytes + entry.len() > SUBSTRINGS_BYTES_MAX {
                    return Err("is beyond the limit of substrings".into());
                }
                reader.substrings_bytes += entry.len();
                self.of.substrings.insert(entry.to_ascii_lowercase());
            }
            Form::Regex => {
                // Those that are refused cost their compilation too.
                if self.of.tried == PATTERNS_MAX {
                    return Err("is beyond the limit of patterns".into());
                }
                self.of.tried += 1;
                self.of.patterns.push(pattern(entry)?);
            }
        }
        reader.entries += 1;
        reader.text_bytes += entry.len();
        Ok(())
    }
}

/// Ranges in order, those that touch or overlap as one.
fn apart(mut ranges: Vec<(IpAddr, IpAddr)>) -> Vec<(IpAddr, IpAddr)> {
    ranges.sort_unstable();
    let mut apart: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match apart.last_mut() {
            Some((_, last)) if start <= *last => *last = end.max(*last),
            _ => apart.push((start, end)),
        }
    }
    apart
}

/// A name of a list in the form in which hosts are asked: lower-case ASCII, without dots or a star at its ends.
fn host(entry: &str) -> Option<Cow<'_, str>> {
    let name = entry.strip_prefix("*.").unwrap_or(entry);
    let name = name.trim_start_matches('.').trim_end_matches('.');
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    if name.is_ascii() {
        return Some(lower(name));
    }
    idna::domain_to_ascii(name).ok().map(Cow::Owned)
}

/// A value of a list in the form in which values are asked.
fn string(entry: &str) -> Cow<'_, str> {
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Cow::Owned(address.to_canonical().to_string());
    }
    // Anything else in ASCII differs from its normal form by letters' case alone.
    let is_odd = entry.contains("://") || !entry.is_ascii();
    match is_odd.then(|| super::parse(None, entry)) {
        Some(Ok(found)) => Cow::Owned(found.value.to_ascii_lowercase()),
        _ => lower(entry),
    }
}

/// A pattern as this library reads it: PCRE's `/…/flags`, or the pattern alone. Bytes, as in PCRE, unless it asks for letters.
fn pattern(entry: &str) -> Result<String, Cow<'static, str>> {
    /// What may stand around a pattern, and not at the beginning of one.
    const DELIMITERS: [char; 6] = ['/', '#', '~', '@', '!', '%'];
    let delimited = entry.chars().next().filter(|first| DELIMITERS.contains(first));
    let delimited = delimited.and_then(|delimiter| {
        let (inner, flags) = entry.get(1..)?.rsplit_once(delimiter)?;
        flags.bytes().all(|flag| flag.is_ascii_alphabetic()).then_some((inner, flags))
    });
    let (inner, flags) = delimited.unwrap_or((entry, ""));
    let mut kept: String = flags.chars().filter(|flag| "imsx".contains(*flag)).collect();
    // `g` is JavaScript's, and says nothing here; others change what a pattern means.
    if let Some(other) = flags.chars().find(|flag| !"imsxugSUXJ".contains(*flag) || *flag == 'U') {
        return Err(format!("has the flag `{other}`").into());
    }
    if flags.contains('u') || !inner.is_ascii() {
        kept.push('u');
    }
    let text = if kept.is_empty() { inner.to_owned() } else { format!("(?{kept}){inner}") };
    let built = RegexBuilder::new(&text).unicode(false).size_limit(PATTERNS_BYTES_MAX).build();
    let built = built.map_err(|cause| {
        let said = cause.to_string();
        let last = said.lines().last().unwrap_or_default();
        format!("is no pattern here: {}", last.trim_start_matches("error: "))
    })?;
    if built.is_match(b"") {
        return Err("matches everything".into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
