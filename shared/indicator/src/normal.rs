//! Checks one value and brings it into normal form.
//!
//! Normal forms are fixed points: parsing one again, with its kind, gives the same value.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::files::{Likeness, likeness};
use super::kind::IndicatorKind;
use super::letters::Visible;
use super::refang::refang;
use super::{Indicator, OTHER_TOP_LEVELS};

/// The longest value that is read, in bytes. The longest URL in the feeds at hand has 2,083.
pub const MAX_VALUE_BYTES: usize = 16 * 1024;

/// The longest name in DNS, RFC 1035 §2.3.4.
const MAX_HOST_BYTES: usize = 253;

/// Why a value is not an indicator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The kind that was asked for, if one was.
    pub kind: Option<IndicatorKind>,
    /// The head of the value as given.
    pub value: String,
}

impl Rejected {
    const SHOWN_CHARS: usize = 80;

    fn new(kind: Option<IndicatorKind>, value: &str) -> Self {
        Self { kind, value: value.chars().take(Self::SHOWN_CHARS).collect() }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => {
                write!(formatter, "read `{}` as an indicator of kind `{kind}`", self.value)
            }
            None => write!(formatter, "find the kind of indicator `{}`", self.value),
        }
    }
}

impl std::error::Error for Rejected {}

/// Reads one value, given plain or defanged, with or without its kind.
///
/// A kind that the value refines is refined: `domain` and `hostname` are told apart by the public suffix list, and of
/// `ipv4`, `ipv6` and `cidr` each is read as what it is (feeds mix them under one word). A wrong kind is a reject.
/// Without a kind the order is: address, hash, mail address, address with port, range, host (`setup.zip` is a file), URL,
/// CVE, AS, Bitcoin, registry path, file name.
pub fn parse(kind: Option<IndicatorKind>, value: &str) -> Result<Indicator, Rejected> {
    let reject = || Rejected::new(kind, value);
    if value.len() > MAX_VALUE_BYTES {
        return Err(reject());
    }
    let spaced = value.trim_matches(is_blank);
    let normal = match kind {
        None => any(spaced),
        Some(kind) => of_kind(kind, spaced),
    };
    let (kind, normal) = normal.ok_or_else(reject)?;
    Ok(Indicator { kind, value: normal, raw: value.to_owned() })
}

fn of_kind(kind: IndicatorKind, given: &str) -> Option<(IndicatorKind, String)> {
    let visible = Visible::of(given);
    let bare = unwrapped(&visible.text);
    let refanged = refang(bare);
    match kind {
        IndicatorKind::Ipv4 | IndicatorKind::Ipv6 | IndicatorKind::Cidr => {
            address(&refanged).or_else(|| range(&refanged))
        }
        IndicatorKind::IpPort => address_with_port(&refanged),
        IndicatorKind::Domain | IndicatorKind::Hostname => host(&refanged),
        IndicatorKind::Url => url(&refanged, true).map(|value| (kind, value)),
        IndicatorKind::Email => email(&refanged).map(|value| (kind, value)),
        IndicatorKind::Md5
        | IndicatorKind::Sha1
        | IndicatorKind::Sha224
        | IndicatorKind::Sha256
        | IndicatorKind::Sha384
        | IndicatorKind::Sha512 => hash(bare).filter(|(found, _)| *found == kind),
        IndicatorKind::Imphash | IndicatorKind::Ja3 => hash(bare)
            .filter(|(found, _)| *found == IndicatorKind::Md5)
            .map(|(_, value)| (kind, value)),
        IndicatorKind::Pehash => hash(bare)
            .filter(|(found, _)| *found == IndicatorKind::Sha1)
            .map(|(_, value)| (kind, value)),
        IndicatorKind::Ssdeep => is_ssdeep(bare).then(|| (kind, bare.to_owned())),
        IndicatorKind::Cve => cve(bare).map(|value| (kind, value)),
        IndicatorKind::Asn => {
            let digits = strip_prefix_ignoring_case(bare, "as").unwrap_or(bare);
            as_number(digits).map(|value| (kind, value))
        }
        IndicatorKind::Btc => bitcoin(bare).map(|value| (kind, value)),
        // Names are kept letter for letter: their case and their brackets carry meaning.
        IndicatorKind::Filename
        | IndicatorKind::FilenameRegex
        | IndicatorKind::Mutex
        | IndicatorKind::Regkey
        | IndicatorKind::Yara
        | IndicatorKind::Other => (!given.is_empty()).then(|| (kind, given.to_owned())),
    }
}

/// The kind of a value that came without one.
fn any(given: &str) -> Option<(IndicatorKind, String)> {
    let visible = Visible::of(given);
    let bare = unwrapped(&visible.text);
    if let Some(found) = address(bare).or_else(|| hash(bare)) {
        return Some(found);
    }
    if let Some((name, digest)) = bare.split_once('|')
        && name.contains('.')
        && let Some(found) = hash(digest)
    {
        return Some(found);
    }
    if is_ssdeep(bare) {
        return Some((IndicatorKind::Ssdeep, bare.to_owned()));
    }
    let refanged = refang(bare);
    let text = refanged.as_ref();
    if let Some(value) = email(text) {
        return Some((IndicatorKind::Email, value));
    }
    if let Some(found) = address(text).or_else(|| address_with_port(text)).or_else(|| range(text)) {
        return Some(found);
    }
    let without_port = match text.rsplit_once(':') {
        Some((name, digits)) if port(digits).is_some() => name,
        _ => text,
    };
    if let Some((kind, value)) = host(without_port) {
        let is_file = without_port.len() == text.len() && likeness(&value) == Likeness::MostlyFile;
        return Some(if is_file {
            (IndicatorKind::Filename, bare.to_owned())
        } else {
            (kind, value)
        });
    }
    if text.contains('/')
        && let Some(value) = url(text, false)
    {
        return Some((IndicatorKind::Url, value));
    }
    if let Some(value) = cve(bare) {
        return Some((IndicatorKind::Cve, value));
    }
    if let Some(value) = strip_prefix_ignoring_case(bare, "as").and_then(as_number) {
        return Some((IndicatorKind::Asn, value));
    }
    if let Some(value) = bitcoin(bare) {
        return Some((IndicatorKind::Btc, value));
    }
    if is_registry_path(bare) {
        return Some((IndicatorKind::Regkey, bare.to_owned()));
    }
    looks_like_file(bare).then(|| (IndicatorKind::Filename, bare.to_owned()))
}

/// An IPv4 or IPv6 address. Octets with leading zeros are refused: readers differ on whether they are octal.
pub(super) fn address(text: &str) -> Option<(IndicatorKind, String)> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    Some(show(ip(text).or_else(|| inner?.parse::<Ipv6Addr>().ok().map(IpAddr::V6))?))
}

fn ip(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.parse().ok()?;
    Some(ip.to_canonical())
}

fn show(ip: IpAddr) -> (IndicatorKind, String) {
    match ip {
        IpAddr::V4(ip) => (IndicatorKind::Ipv4, ip.to_string()),
        IpAddr::V6(ip) => (IndicatorKind::Ipv6, ip.to_string()),
    }
}

/// `192.0.2.1:443`, `192.0.2.1|443`, `[2001:db8::1]:443`, `2001:db8::1|443`.
pub(super) fn address_with_port(text: &str) -> Option<(IndicatorKind, String)> {
    let (host, digits) = text.rsplit_once('|').or_else(|| text.rsplit_once(':'))?;
    let by_colon = text.as_bytes().get(host.len()) == Some(&b':');
    let port = port(digits)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ip = match inner {
        Some(inner) => IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?).to_canonical(),
        None => host.parse::<IpAddr>().ok()?,
    };
    if ip.is_ipv6() && inner.is_none() && by_colon {
        return None;
    }
    let value = match ip.to_canonical() {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    };
    Some((IndicatorKind::IpPort, value))
}

/// An address range; its host bits are cleared.
pub(super) fn range(text: &str) -> Option<(IndicatorKind, String)> {
    let (base, digits) = text.split_once('/')?;
    if digits.is_empty() || digits.len() > 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let range = IpNet::new(base.parse().ok()?, digits.parse().ok()?).ok()?;
    Some((IndicatorKind::Cidr, range.trunc().to_string()))
}

fn port(digits: &str) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|port| *port != 0)
}

/// A name in DNS under a known suffix, in lower-case ASCII form.
pub(super) fn host(text: &str) -> Option<(IndicatorKind, String)> {
    let text = text.trim_end_matches('.');
    let name = ascii_name(text)?;
    let registrable = registrable(&name)?;
    let own = name.get(name.len() - registrable..)?;
    let first = own.split('.').next()?;
    if first.contains('_') || first.starts_with('-') || first.ends_with('-') {
        return None;
    }
    let kind =
        if own.len() == name.len() { IndicatorKind::Domain } else { IndicatorKind::Hostname };
    Some((kind, name))
}

/// Lower-case ASCII form of a name made of DNS labels.
fn ascii_name(text: &str) -> Option<String> {
    if text.len() > 4 * MAX_HOST_BYTES || !text.contains('.') {
        return None;
    }
    let mut name = text.to_ascii_lowercase();
    if !name.is_ascii() || name.starts_with("xn--") || name.contains(".xn--") {
        // The check of the allowed letters follows; this maps and verifies international labels. One that is malformed
        // resolves all the same.
        name = match idna::domain_to_ascii(&name) {
            Ok(mapped) => mapped,
            Err(_) if name.is_ascii() => name,
            Err(_) => return None,
        };
    }
    let labels_are_fine = name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    });
    (name.len() <= MAX_HOST_BYTES && labels_are_fine).then_some(name)
}

/// Length of the registrable end of `name`. None for a bare public suffix and for an unknown top level.
///
/// Private suffixes (`github.io`) count as suffixes below themselves and as domains when they stand alone.
fn registrable(name: &str) -> Option<usize> {
    let suffix = psl::suffix(name.as_bytes())?;
    let mut length = suffix.as_bytes().len();
    if !suffix.is_known() {
        let top = name.rsplit('.').next()?;
        if !OTHER_TOP_LEVELS.contains(&top) {
            return None;
        }
        length = top.len();
    }
    if length == name.len() {
        let private = suffix.is_known() && suffix.typ() == Some(psl::Type::Private);
        return private.then_some(length);
    }
    let before = name.get(..name.len() - length - 1)?;
    let label = before.rsplit('.').next()?;
    Some(length + 1 + label.len())
}

/// The parts of a name by the public suffix list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameParts<'n> {
    /// What somebody registered: one label below a public suffix, or a private suffix (`github.io`) that stands alone.
    pub registered_domain: &'n str,
    /// What stands above that: `com`, `co.uk`, `github.io`.
    pub top_level_domain: &'n str,
    /// What stands below it, if anything does: `www.mail`.
    pub subdomain: Option<&'n str>,
}

impl<'n> NameParts<'n> {
    /// Those of a name in normal form; none of an address, and of a name without a known suffix.
    pub fn of(name: &'n str) -> Option<Self> {
        let below = name.len().checked_sub(registrable(name)?)?;
        let registered_domain = name.get(below..)?;
        let (_, top_level_domain) = registered_domain.split_once('.')?;
        let subdomain = name.get(..below.saturating_sub(1)).filter(|below| !below.is_empty());
        Some(Self { registered_domain, top_level_domain, subdomain })
    }
}

/// A name in normal form as people read it: `m\u{fc}nchen.de` for `xn--mnchen-3ya.de`. One that is no right Punycode stays.
pub fn unicode_name(name: &str) -> Cow<'_, str> {
    if !name.starts_with("xn--") && !name.contains(".xn--") {
        return Cow::Borrowed(name);
    }
    match idna::domain_to_unicode(name) {
        (shown, Ok(())) => Cow::Owned(shown),
        (_, Err(_)) => Cow::Borrowed(name),
    }
}

/// The host of a URL in normal form, with or without a scheme; an IPv6 address stands in brackets.
pub fn host_of_url(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(name),
        _ => Some(host),
    }
}

/// A URL as browsers write it: scheme and host in lower case, no default port, `..` resolved, odd letters escaped.
///
/// The host is an address or a name under a known suffix; with a scheme and `loose`, any host that a URL may have.
/// A URL without a scheme stays without.
pub(super) fn url(text: &str, loose: bool) -> Option<String> {
    // Escaping and resolving can uncover what the next reading would change (`http:/\@…`); real URLs settle at once.
    const READINGS: usize = 3;
    let mut value = url_once(text, loose)?;
    for _ in 1..READINGS {
        let again = url_once(&refang(unwrapped(&value)), loose)?;
        if again == value {
            return Some(value);
        }
        value = again;
    }
    None
}

fn url_once(text: &str, loose: bool) -> Option<String> {
    // Refanging may have brought new ornament to the edge.
    let text = unwrapped(text);
    if text.contains(char::is_whitespace) {
        return None;
    }
    let Some((scheme, _)) = text.split_once("://") else {
        let value = checked(&format!("http://{text}"), false)?;
        let bare = value.strip_prefix("http://")?;
        // `name:80/x` would lose its port with the scheme that goes away again.
        let asked_port = text.split(['/', '?', '#']).next()?.ends_with(":80");
        let (host, path) = bare.split_at(bare.find('/')?);
        return Some(if asked_port { format!("{host}:80{path}") } else { bare.to_owned() });
    };
    if is_scheme(scheme) {
        return checked(text, loose);
    }
    // A redirect as a scheme-less URL's argument: `evil.com/?u=http://…`.
    let bare = text.get(..text.find(['/', '?'])?)?;
    if !bare.contains('.') || bare.contains("://") || bare.ends_with(':') {
        return None;
    }
    let value = checked(&format!("http://{text}"), false)?;
    value.strip_prefix("http://").map(str::to_owned)
}

/// Whether a URL's scheme names a way to a host (RFC 3986 §3.1); a letter alone is a drive.
fn is_scheme(scheme: &str) -> bool {
    const LONGEST: usize = 24;
    /// What runs or shows something by itself, or names no host.
    const OTHERS: [&str; 8] =
        ["javascript", "vbscript", "data", "about", "blob", "mailto", "chrome", "view-source"];
    (2..=LONGEST).contains(&scheme.len())
        && scheme.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        && !OTHERS.iter().any(|other| scheme.eq_ignore_ascii_case(other))
}

fn checked(text: &str, loose: bool) -> Option<String> {
    let parsed = url::Url::parse(text).ok()?;
    let host_is_fine = match parsed.host()? {
        url::Host::Domain(name) => {
            if loose {
                !name.is_empty()
            } else {
                host(name).is_some() || name.parse::<Ipv4Addr>().is_ok()
            }
        }
        url::Host::Ipv4(_) | url::Host::Ipv6(_) => true,
    };
    if !host_is_fine {
        return None;
    }
    if parsed.is_special() {
        return Some(parsed.into());
    }
    // Schemes that browsers do not know keep their host as it is written.
    let name = parsed.host_str()?;
    let plain = match host(name) {
        Some((_, plain)) => plain,
        None => name.to_ascii_lowercase(),
    };
    let mut lower = parsed.clone();
    lower.set_host(Some(&plain)).ok()?;
    Some(lower.into())
}

/// A mail address in lower case; providers that tell letters' case apart before the `@` are not known to exist.
pub(super) fn email(text: &str) -> Option<String> {
    let (local, domain) = text.rsplit_once('@')?;
    let local_is_fine = (1..=64).contains(&local.len())
        && local
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".!#$%&'*+-/=?^_`{|}~".contains(&byte))
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("//");
    if !local_is_fine {
        return None;
    }
    let (_, domain) = host(domain)?;
    Some(format!("{}@{domain}", local.to_ascii_lowercase()))
}

fn hash(text: &str) -> Option<(IndicatorKind, String)> {
    let kind = IndicatorKind::of_hash_length(text.len())?;
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| (kind, text.to_ascii_lowercase()))
}

/// `CVE-YYYY-NNNN` and longer, in upper case.
fn cve(text: &str) -> Option<String> {
    let rest = strip_prefix_ignoring_case(text, "cve")?;
    let (length, id) = super::extract::cve_after(rest.as_bytes())?;
    (length == rest.len()).then_some(id)
}

fn as_number(digits: &str) -> Option<String> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u32>().ok().map(|number| format!("AS{number}"))
}

/// A Bitcoin address by its shape. The checksum is not verified.
fn bitcoin(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if let Some(data) = lower.strip_prefix("bc1") {
        let one_case = text == lower || text == text.to_ascii_uppercase();
        let fine = (39..=59).contains(&data.len())
            && data.bytes().all(|byte| b"qpzry9x8gf2tvdw0s3jn54khce6mua7l".contains(&byte));
        return (one_case && fine).then_some(lower);
    }
    let base58 = text.bytes().all(|byte| byte.is_ascii_alphanumeric() && !b"0OIl".contains(&byte));
    let has = |test: fn(&u8) -> bool| text.as_bytes().iter().any(test);
    let mixed =
        has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    ((26..=35).contains(&text.len()) && text.starts_with(['1', '3']) && base58 && mixed)
        .then(|| text.to_owned())
}

/// `size:chunk:chunk` with at least one chunk that is not a number, so that `12:30:45` is a time.
fn is_ssdeep(text: &str) -> bool {
    let mut parts = text.splitn(3, ':');
    let (Some(size), Some(first), Some(second)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let base64 = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
    };
    size.parse::<u64>().is_ok()
        && !first.is_empty()
        && base64(first)
        && base64(second)
        && first.len() + second.len() >= 8
        && !(first.bytes().all(|byte| byte.is_ascii_hexdigit())
            && second.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_registry_path(text: &str) -> bool {
    const HIVES: [&str; 7] = ["HKLM", "HKCU", "HKCR", "HKU", "HKCC", "HKEY_", "\\REGISTRY\\"];
    text.contains('\\') && HIVES.iter().any(|hive| strip_prefix_ignoring_case(text, hive).is_some())
}

/// `name.ending` or `C:\…`, without line ends.
fn looks_like_file(text: &str) -> bool {
    if text.len() > 1024
        || text.contains(['\n', '\r', '\0', '|', '<', '>', '"', '*', '?'])
        || text.contains("://")
    {
        return false;
    }
    let bytes = text.as_bytes();
    if let [drive, b':', b'\\', _, ..] = bytes {
        return drive.is_ascii_alphabetic();
    }
    let name = text.rsplit(['/', '\\']).next().unwrap_or(text);
    name.rsplit_once('.').is_some_and(|(stem, ending)| {
        !stem.is_empty()
            && (1..=10).contains(&ending.len())
            && ending.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && ending.bytes().any(|byte| byte.is_ascii_alphabetic())
            && !name.starts_with(char::is_whitespace)
    })
}

fn strip_prefix_ignoring_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

/// Space of any sort, and letters nobody sees.
const fn is_blank(letter: char) -> bool {
    matches!(
        letter,
        '\0'..=' ' | '\u{7f}'..='\u{a0}' | '\u{ad}' | '\u{1680}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
            | '\u{205f}'..='\u{2064}' | '\u{3000}' | '\u{feff}'
    )
}

/// A value without what stands around it; a closing bracket stays if the value opens it: `…/wiki/A_(b)`.
fn unwrapped(text: &str) -> &str {
    let mut text = text.trim_start_matches(is_wrapping);
    let count = |bracket: u8| memchr::memchr_iter(bracket, text.as_bytes()).count();
    let (mut opened, mut closed) = (count(b'('), count(b')'));
    while let Some(last) = text.chars().next_back().filter(|last| is_wrapping(*last)) {
        match last {
            ')' if opened >= closed => break,
            ')' => closed -= 1,
            '(' => opened -= 1,
            _ => {}
        }
        text = text.get(..text.len() - last.len_utf8()).unwrap_or_default();
    }
    text
}

/// What stands around a value in prose and tables.
const fn is_wrapping(letter: char) -> bool {
    is_blank(letter)
        || matches!(letter, '\'' | '"' | '.' | ',' | ';' | '(' | ')' | '`' | '<' | '>')
        || matches!(letter, '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(kind: Option<IndicatorKind>, value: &str, expected: &str) {
        let shown = match parse(kind, value) {
            Ok(found) => {
                assert_eq!(found.raw, value);
                let again = parse(Some(found.kind), &found.value).unwrap();
                assert_eq!(
                    (again.kind, again.value),
                    (found.kind, found.value.clone()),
                    "a fixed point"
                );
                format!("{} {}", found.kind, found.value)
            }
            Err(_) => "nothing".to_owned(),
        };
        assert_eq!(shown, expected, "for `{value}`");
    }

    #[test]
    fn finds_the_kind_in_the_customary_order() {
        for (value, expected) in [
            ("(8.8.8.8).", "ipv4 8.8.8.8"),
            ("127.0.0.1:8080", "ip:port 127.0.0.1:8080"),
            ("[1fff:0:a88:85a3::ac1f]:8001", "ip:port [1fff:0:a88:85a3::ac1f]:8001"),
            ("fe80:0000:f2cd:7d80:3f37:52c6", "nothing"),
            ("2a00:1450:4005:80a::2003/128", "cidr 2a00:1450:4005:80a::2003/128"),
            ("example.com:80", "domain example.com"),
            ("example.example", "filename example.example"),
            ("test[at]example.com", "email test@example.com"),
            ("github.com/MISP/MISP", "url github.com/MISP/MISP"),
            ("https://github.com:443/MISP/MISP", "url https://github.com/MISP/MISP"),
            ("/var/log/example.txt.zip", "filename /var/log/example.txt.zip"),
            (
                "HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion",
                "regkey HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion",
            ),
            ("as0", "asn AS0"),
            ("2018-08-21", "nothing"),
            ("12:30:45", "nothing"),
            ("cK753n3MVw", "nothing"),
            ("háčkyčárky.cz", "domain xn--hkyrky-ptac70bc.cz"),
            ("xn--lbrs59br5a.xn--fiqs8s", "domain xn--lbrs59br5a.xn--fiqs8s"),
            ("a.exe|D41D8CD98F00B204E9800998ECF8427E", "md5 d41d8cd98f00b204e9800998ecf8427e"),
            ("cve\u{2011}2024\u{2013}12345", "cve CVE-2024-12345"),
            (
                "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
                "btc bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
            ),
            ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "btc 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
            ("C:\\ProgramData\\22492.jpg", "filename C:\\ProgramData\\22492.jpg"),
            (
                "96:s4Ud1Lj96tHHlZDrwciQmA+4uy1I0G4HYuL8N3TzS8QsO/wqWXLcMSx:sF1LjEtHHlZDrJzrhuyZvHYm8tKp/RWO",
                "ssdeep 96:s4Ud1Lj96tHHlZDrwciQmA+4uy1I0G4HYuL8N3TzS8QsO/wqWXLcMSx:sF1LjEtHHlZDrJzrhuyZvHYm8tKp/RWO",
            ),
            ("", "nothing"),
            ("...", "nothing"),
        ] {
            check(None, value, expected);
        }
    }

    #[test]
    fn normal_form_is_lower_case_ascii_without_ornament() {
        check(Some(IndicatorKind::Domain), "EXAMPLE[.]Com.", "domain example.com");
        check(Some(IndicatorKind::Domain), "www.example.co.uk", "hostname www.example.co.uk");
        check(Some(IndicatorKind::Hostname), "example.co.uk", "domain example.co.uk");
        check(Some(IndicatorKind::Domain), "_dmarc.example.com", "hostname _dmarc.example.com");
        check(
            Some(IndicatorKind::Domain),
            "XN--29s7inly9ib.ub66.com",
            "hostname xn--29s7inly9ib.ub66.com",
        );
        check(Some(IndicatorKind::Domain), "abc.onion", "domain abc.onion");
        check(Some(IndicatorKind::Domain), "cdn.evil.bazar", "hostname cdn.evil.bazar");
        check(Some(IndicatorKind::Email), "Eve(at)Example(dot)COM", "email eve@example.com");
        check(
            Some(IndicatorKind::Sha1),
            "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709",
            "sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709",
        );
        check(Some(IndicatorKind::Url), "hxxps[:]//Bücher[.]example/a b", "nothing");
        check(
            Some(IndicatorKind::Url),
            "HXXP://Bücher[.]Example:80/A",
            "url http://xn--bcher-kva.example/A",
        );
        check(Some(IndicatorKind::Url), "tcp://192.0.2.1:4444", "url tcp://192.0.2.1:4444");
        check(Some(IndicatorKind::Url), "(https://a.com/b_(c)).", "url https://a.com/b_(c)");
        check(Some(IndicatorKind::Url), "evil[.]com", "url evil.com/");
        check(Some(IndicatorKind::Url), "evil.com:80/x", "url evil.com:80/x");
        check(Some(IndicatorKind::Ipv4), "::ffff:192.0.2.1", "ipv4 192.0.2.1");
        check(Some(IndicatorKind::Ipv6), "2001:0DB8:0:0::1", "ipv6 2001:db8::1");
        check(Some(IndicatorKind::Ipv4), "192.0.2.77/24", "cidr 192.0.2.0/24");
        check(Some(IndicatorKind::Cidr), "0.0.0.0/0", "cidr 0.0.0.0/0");
        check(Some(IndicatorKind::IpPort), "192.0.2.1|443", "ip:port 192.0.2.1:443");
        check(Some(IndicatorKind::Asn), "as64496", "asn AS64496");
        check(Some(IndicatorKind::Mutex), " Global\\{A.B}. ", "mutex Global\\{A.B}.");
    }

    #[test]
    fn refuses_what_only_looks_alike() {
        for (kind, value) in [
            (IndicatorKind::Ipv4, "192.168.010.1"),
            (IndicatorKind::Ipv4, "256.1.1.1"),
            (IndicatorKind::Cidr, "10.0.0.0/33"),
            (IndicatorKind::IpPort, "192.0.2.1:0"),
            (IndicatorKind::IpPort, "192.0.2.1:70000"),
            (IndicatorKind::Domain, "co.uk"),
            (IndicatorKind::Domain, "com"),
            (IndicatorKind::Domain, "secur32[.]dll"),
            (IndicatorKind::Domain, "-a.com"),
            (IndicatorKind::Domain, "a..com"),
            (IndicatorKind::Email, "a b@example.com"),
            (IndicatorKind::Md5, "d41d8cd98f00b204e9800998ecf8427"),
            (IndicatorKind::Cve, "CVE-2024-123"),
            (IndicatorKind::Cve, "see CVE-2024-1234"),
            (IndicatorKind::Url, "javascript://x/y"),
            (IndicatorKind::Url, "\u{fe54}0"),
            (IndicatorKind::Url, "localhost/x"),
            (IndicatorKind::Asn, "AS4294967296"),
        ] {
            check(Some(kind), value, "nothing");
        }
    }

    #[test]
    fn a_reject_names_the_value() {
        let reject = parse(Some(IndicatorKind::Cve), "CVE-1").unwrap_err();
        assert_eq!(reject.to_string(), "read `CVE-1` as an indicator of kind `cve`");
    }

    proptest! {
        #[test]
        fn any_value_is_survived_and_normal_forms_stay(value in "\\PC{0,60}", index in 0..IndicatorKind::ALL.len()) {
            for kind in [None, Some(IndicatorKind::ALL[index])] {
                if let Ok(found) = parse(kind, &value) {
                    let again = parse(Some(found.kind), &found.value);
                    prop_assert_eq!(again.map(|again| (again.kind, again.value)), Ok((found.kind, found.value)));
                }
            }
        }

        #[test]
        fn what_looks_like_a_url_or_host_has_a_fixed_point(
            value in "(https?://|hxxp://|tcp://|)([A-Za-z0-9_-]{1,6}[.]|192[.]0[.]2[.]|\\[\\.\\]){0,3}(com|co[.]uk|1|7:80|ü[.]de|xn--p1ai)(:[0-9]{1,5}|)(/[ -~]{0,12}|)",
            index in 0..IndicatorKind::ALL.len(),
        ) {
            for kind in [None, Some(IndicatorKind::Url), Some(IndicatorKind::Domain), Some(IndicatorKind::ALL[index])] {
                if let Ok(found) = parse(kind, &value) {
                    let again = parse(Some(found.kind), &found.value);
                    prop_assert_eq!(again.map(|again| (again.kind, again.value)), Ok((found.kind, found.value)));
                }
            }
        }
    }
}
