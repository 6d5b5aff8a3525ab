//! What a word of a list is: the order of types in which MISP reads free text and cells of tables, described and built anew.
//!
//! Types are MISP's words and values stand as the list has them but refanged; `wire` makes our kinds and normal forms of both.
//! Where MISP's reading would store a wrong value, this one differs, and says so. Each byte is looked at a bounded number of
//! times.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use indicator::{IndicatorKind, MAX_VALUE_BYTES, parse, refang};

/// Bytes of a text in quotes that is tried as a whole.
const QUOTED_MAX: usize = 4 << 10;

/// Names of vendors whose pages are reports on an indicator, not one: a link to them by https.
const REPORTS: [&str; 14] = [
    "virustotal.com",
    "hybrid-analysis.com",
    "any.run",
    "abuseipdb.com",
    "bazaar.abuse.ch",
    "threatfox.abuse.ch",
    "urlhaus.abuse.ch",
    "joesandbox.com",
    "malpedia.caad.fkie.fraunhofer.de",
    "otx.alienvault.com",
    "securelist.com",
    "tria.ge",
    "unit42.paloaltonetworks.com",
    "urlscan.io",
];

/// A word and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// MISP's name of the type.
    pub kind: &'static str,
    /// The value in MISP's form: refanged, a composite's parts parted by `|`.
    pub value: String,
    /// The port that stood behind it and is no part of the value.
    pub port: Option<u16>,
}

impl Typed {
    fn new(kind: &'static str, value: impl Into<String>) -> Self {
        Self { kind, value: value.into(), port: None }
    }

    /// The category that MISP gives it.
    pub fn category(&self) -> &'static str {
        match self.kind {
            "ip-dst" | "ip-dst|port" | "domain" | "domain|ip" | "hostname" | "url" | "AS" => {
                "Network activity"
            }
            "vulnerability" | "link" => "External analysis",
            "btc" => "Financial fraud",
            "regkey" => "Persistence mechanism",
            "phone-number" => "Other",
            _ => "Payload delivery",
        }
    }

    /// Whether MISP means it for detection.
    pub fn to_ids(&self) -> bool {
        !matches!(self.kind, "vulnerability" | "link" | "AS" | "phone-number")
    }
}

/// Hands on each word of a line. Where a text in quotes is taken as a whole, its words are not handed on: MISP reads both, and
/// makes of `"http://e.org/a,b"` a second, wrong address.
pub fn words(line: &str, take: &mut impl FnMut(&str) -> bool) {
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('"') {
        plain_words(before, take);
        let Some((quoted, behind)) = after.split_once('"') else {
            rest = after;
            break;
        };
        // Of a text with spaces only a path is one thing; `see evil.com and e.net` is a sentence.
        let is_whole = quoted.len() <= QUOTED_MAX
            && quoted.contains(is_separator)
            && (quoted.contains('\\') || !quoted.contains(char::is_whitespace));
        if !is_whole || !take(quoted) {
            plain_words(quoted, take);
        }
        rest = behind;
    }
    plain_words(rest, take);
}

fn plain_words(text: &str, take: &mut impl FnMut(&str) -> bool) {
    for word in text.split(is_separator).map(trimmed).filter(|word| !word.is_empty()) {
        take(word);
    }
}

/// What parts two words. Letters that nobody sees do not: the second half of a name is another name.
fn is_separator(letter: char) -> bool {
    matches!(letter, ',' | '<' | '>' | ';' | '\u{e000}'..='\u{f8ff}')
        || letter.is_whitespace()
        || letter.is_control()
}

/// A word without what stands around it in prose.
pub fn trimmed(word: &str) -> &str {
    let is_around = |letter: char| {
        matches!(
            letter,
            '\'' | '"' | '.' | ',' | '(' | ')' | '`' | '\u{2018}'..='\u{201f}' | '«' | '»'
        ) || letter.is_whitespace()
            || letter.is_control()
    };
    word.trim_matches(is_around).trim_end_matches(':')
}

/// The type of a word, if it has one.
pub fn resolve(word: &str) -> Option<Typed> {
    let word = trimmed(word);
    if word.is_empty() || word.len() > MAX_VALUE_BYTES {
        return None;
    }
    if word.parse::<IpAddr>().is_ok() {
        return Some(Typed::new("ip-dst", word));
    }
    if let Some(found) = pair(word).or_else(|| hash(word).map(|kind| Typed::new(kind, word))) {
        return Some(found);
    }
    let plain = plain(word);
    let text = plain.as_ref();
    if text.is_empty() {
        return None;
    }
    if let Some(found) = mail(text) {
        return Some(found);
    }
    let (without_port, port) = parted(text);
    address(text, without_port, port)
        .or_else(|| {
            let (kind, name) = host(without_port)?;
            Some(Typed { port, ..Typed::new(kind, name) })
        })
        .or_else(|| url(text))
        // A name that was defanged is that of no file.
        .or_else(|| if text == word { file_or_key(word) } else { None })
        .or_else(|| number(word))
}

/// A word as it was before it was defanged.
fn plain(word: &str) -> Cow<'_, str> {
    let refanged = refang(word);
    if !refanged.contains('[') {
        return match refanged {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim_end_matches('.')),
            Cow::Owned(text) => Cow::Owned(trimmed(&text).to_owned()),
        };
    }
    // Any letter in brackets of its own: `exa[m]ple.com`.
    let mut plain = String::with_capacity(refanged.len());
    let mut letters = refanged.chars().peekable();
    while let Some(letter) = letters.next() {
        let mut ahead = letters.clone();
        match (letter, ahead.next(), ahead.next()) {
            ('[', Some(inner), Some(']')) if inner != ']' => {
                plain.push(inner);
                letters = ahead;
            }
            _ => plain.push(letter),
        }
    }
    Cow::Owned(plain.trim_end_matches('.').to_owned())
}

/// `name|hash`, `address|port`, `name|address`.
fn pair(word: &str) -> Option<Typed> {
    let (left, right) = word.split_once('|')?;
    if let Some(hash) = hash(right)
        && is_file(left)
    {
        let kind = match hash {
            "md5" => "filename|md5",
            "sha1" => "filename|sha1",
            "sha224" => "filename|sha224",
            "sha256" => "filename|sha256",
            "sha384" => "filename|sha384",
            "sha512" => "filename|sha512",
            _ => "filename|ssdeep",
        };
        return Some(Typed::new(kind, word));
    }
    let (left, right) = (plain(left), plain(right));
    let value = || format!("{left}|{right}");
    if left.parse::<IpAddr>().is_ok() && port_of(&right).is_some() {
        return Some(Typed::new("ip-dst|port", value()));
    }
    (right.parse::<IpAddr>().is_ok() && host(&left).is_some())
        .then(|| Typed::new("domain|ip", value()))
}

fn hash(text: &str) -> Option<&'static str> {
    if let Some(kind) = IndicatorKind::of_hash_length(text.len())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return Some(kind.as_str());
    }
    let is_fuzzy = text.starts_with(|first: char| first.is_ascii_digit())
        && text.contains(':')
        && parse(Some(IndicatorKind::Ssdeep), text).is_ok();
    is_fuzzy.then_some("ssdeep")
}

fn mail(text: &str) -> Option<Typed> {
    if !text.contains('@') {
        return None;
    }
    let address = match text.split_once(':') {
        Some((scheme, address)) if scheme.eq_ignore_ascii_case("mailto") => address,
        _ => text,
    };
    parse(Some(IndicatorKind::Email), address).ok()?;
    Some(Typed::new("email-src", address))
}

/// A text without the port behind it: two to five digits.
fn parted(text: &str) -> (&str, Option<u16>) {
    match text.rsplit_once(':') {
        Some((head, digits)) if digits.len() >= 2 && !head.is_empty() => match port_of(digits) {
            Some(port) => (head, Some(port)),
            None => (text, None),
        },
        _ => (text, None),
    }
}

fn port_of(digits: &str) -> Option<u16> {
    let is_number =
        (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse().ok().filter(|port| *port > 0) } else { None }
}

fn address(text: &str, without_port: &str, port: Option<u16>) -> Option<Typed> {
    // What looks like a port may be the end of an address.
    if text.parse::<IpAddr>().is_ok() {
        return Some(Typed::new("ip-dst", text));
    }
    let inner = without_port.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let bare = match inner {
        Some(inner) if port.is_none() || inner.parse::<Ipv6Addr>().is_ok() => inner,
        _ => without_port,
    };
    if bare.parse::<IpAddr>().is_ok() {
        return Some(match port {
            Some(port) => Typed::new("ip-dst|port", format!("{bare}|{port}")),
            None => Typed::new("ip-dst", bare),
        });
    }
    let is_range = text.contains('/') && parse(Some(IndicatorKind::Cidr), text).is_ok();
    is_range.then(|| Typed::new("ip-dst", text))
}

/// A name in DNS under a known top level, without a wildcard before it: a domain, or a host where it has more than two labels.
fn host(text: &str) -> Option<(&'static str, &str)> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_of_label = |letter: char| {
        matches!(letter, '.' | '-') || letter.is_alphanumeric() || !letter.is_ascii()
    };
    if !name.contains('.') || !name.chars().all(is_of_label) {
        return None;
    }
    parse(Some(IndicatorKind::Domain), name).ok()?;
    Some((if name.split('.').count() <= 2 { "domain" } else { "hostname" }, name))
}

fn url(text: &str) -> Option<Typed> {
    if !text.contains('/') {
        return None;
    }
    let host_of = |text: &str| -> Option<String> {
        let authority = text.split(['/', '?', '#', '\\']).next()?;
        let host = authority.rsplit('@').next()?;
        Some(parted(host).0.to_owned())
    };
    let scheme_and_rest = text.split_once("://");
    if scheme_and_rest.is_none() {
        let name = host_of(text)?;
        // `12/2021` and `and/or` are none.
        if name.parse::<Ipv4Addr>().is_err() && host(&name).is_none() {
            return None;
        }
    }
    parse(Some(IndicatorKind::Url), text).ok()?;
    let is_report = scheme_and_rest.is_some_and(|(scheme, rest)| {
        scheme.eq_ignore_ascii_case("https")
            && host_of(rest).is_some_and(|host| {
                let host = host.to_ascii_lowercase();
                REPORTS.iter().any(|name| {
                    host.strip_suffix(name)
                        .is_some_and(|before| before.is_empty() || before == "www.")
                })
            })
    });
    Some(Typed::new(if is_report { "link" } else { "url" }, text))
}

/// Whether a text is the name of a file: its last part has an ending that is no number.
fn is_file(text: &str) -> bool {
    const ENDING_MAX: usize = 16;
    let name = text.rsplit(['/', '\\']).next().unwrap_or(text);
    name.rsplit_once('.').is_some_and(|(stem, ending)| {
        !stem.is_empty()
            && (1..=ENDING_MAX).contains(&ending.len())
            && ending.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && ending.bytes().any(|byte| byte.is_ascii_alphabetic())
    })
}

fn file_or_key(word: &str) -> Option<Typed> {
    if word.contains("://") || word.contains(['\n', '\r', '|', '@']) {
        return None;
    }
    let is_on_drive =
        matches!(word.as_bytes(), [drive, b':', b'\\', _, ..] if drive.is_ascii_alphabetic());
    if is_on_drive || is_file(word) {
        return Some(Typed::new("filename", word));
    }
    let first = word.split('\\').next().unwrap_or_default();
    let is_key = word.contains('\\')
        && (!first.is_empty() || word.to_ascii_uppercase().starts_with("\\REGISTRY\\"));
    is_key.then(|| Typed::new("regkey", word))
}

/// What is told by digits: a vulnerability, an autonomous system, a wallet, a telephone.
fn number(word: &str) -> Option<Typed> {
    if let Ok(found) = parse(Some(IndicatorKind::Cve), word) {
        return Some(Typed::new("vulnerability", found.value));
    }
    let is_as = word.get(..2).is_some_and(|head| head.eq_ignore_ascii_case("as"));
    if is_as && let Ok(found) = parse(Some(IndicatorKind::Asn), word) {
        return Some(Typed::new("AS", found.value));
    }
    if let Ok(found) = parse(Some(IndicatorKind::Btc), word) {
        return Some(Typed::new("btc", found.value));
    }
    is_telephone(word).then(|| Typed::new("phone-number", word))
}

/// `+49…`, or digits in groups that dashes part; a date has a form of its own.
fn is_telephone(word: &str) -> bool {
    const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let (international, rest) = match word.strip_prefix('+') {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let groups: Vec<&str> = rest.split('-').take(8).collect();
    let is_date =
        groups.len() == 3 && (groups[0].len() == 4 || groups[2].len() == 4) && groups[1].len() <= 2;
    DIGITS.contains(&digits)
        && rest.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'/'))
        && rest.ends_with(|last: char| last.is_ascii_digit())
        && (international || (groups.len() >= 3 && groups.iter().all(|group| !group.is_empty())))
        && !is_date
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `kind value` of each word that has a type, each value once.
    fn read(text: &str) -> Vec<String> {
        let mut found: Vec<Typed> = Vec::new();
        for line in text.lines() {
            words(line, &mut |word| {
                let typed = resolve(word);
                let is_taken = typed.is_some();
                found
                    .extend(typed.filter(|one| found.iter().all(|other| other.value != one.value)));
                is_taken
            });
        }
        found.into_iter().map(|one| format!("{} {}", one.kind, one.value)).collect()
    }

    /// The table of MISP's own parser, word for word.
    #[test]
    fn types_are_those_of_misp() {
        for (text, expected) in [
            ("we also saw an IP address (8.8.8.8).", &["ip-dst 8.8.8.8"][..]),
            ("127.0.0.1:8080", &["ip-dst|port 127.0.0.1|8080"]),
            ("[1fff:0:a88:85a3::ac1f]:8001", &["ip-dst|port 1fff:0:a88:85a3::ac1f|8001"]),
            ("fe80:0000:f2cd:7d80:3f37:52c6", &[]),
            ("2a00:1450:4005:80a::2003/128", &["ip-dst 2a00:1450:4005:80a::2003/128"]),
            ("example.com:80", &["domain example.com"]),
            ("example.example", &["filename example.example"]),
            ("test[at]example.com", &["email-src test@example.com"]),
            ("github.com/MISP/MISP", &["url github.com/MISP/MISP"]),
            ("https://github.com:443/MISP/MISP", &["url https://github.com:443/MISP/MISP"]),
            ("/var/log/example.txt.zip", &["filename /var/log/example.txt.zip"]),
            (
                "HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion",
                &["regkey HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion"],
            ),
            ("as0 AS0", &["AS AS0"]),
            ("2018-08-21", &[]),
            ("cK753n3MVw", &[]),
            ("127.0.0.1\u{a0}\u{a0}127.0.0.2", &["ip-dst 127.0.0.1", "ip-dst 127.0.0.2"]),
            ("háčkyčárky.cz", &["domain háčkyčárky.cz"]),
            ("xn--lbrs59br5a.xn--fiqs8s", &["domain xn--lbrs59br5a.xn--fiqs8s"]),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn each_rule_has_its_kind() {
        let md5 = "D41D8CD98F00B204E9800998ECF8427E";
        for (text, expected) in [
            (md5, &["md5 D41D8CD98F00B204E9800998ECF8427E"][..]),
            (&format!("a.exe|{md5}"), &["filename|md5 a.exe|D41D8CD98F00B204E9800998ECF8427E"]),
            (&"ab".repeat(28), &[&format!("sha224 {}", "ab".repeat(28))]),
            (&"ab".repeat(64), &[&format!("sha512 {}", "ab".repeat(64))]),
            ("12:30:45 10:20", &[]),
            (
                "hxxp://evil[.]com/a HXXPS[:]//evil(dot)com/b",
                &["url http://evil.com/a", "url https://evil.com/b"],
            ),
            (
                "meow://evil.com/x [hxxp://]evil.net/y",
                &["url http://evil.com/x", "url http://evil.net/y"],
            ),
            ("exa[m]ple.com. EXAMPLE.COM", &["domain example.com", "domain EXAMPLE.COM"]),
            ("192.0.2.1[:]8080 192.0.2[.]2", &["ip-dst|port 192.0.2.1|8080", "ip-dst 192.0.2.2"]),
            ("192.0.2.0/24 192.0.2.0/99", &["ip-dst 192.0.2.0/24", "url 192.0.2.0/99"]),
            (
                "192.0.2.1|443 evil.com|192.0.2.1",
                &["ip-dst|port 192.0.2.1|443", "domain|ip evil.com|192.0.2.1"],
            ),
            ("2001:db8::8080", &["ip-dst 2001:db8::8080"]),
            ("a.b.example.com *.example.org", &["hostname a.b.example.com", "domain example.org"]),
            ("evil\u{200b}.example.com", &["hostname evil.example.com"]),
            ("http://192.0.2.1:8080", &["url http://192.0.2.1:8080"]),
            ("12/2021 and/or n/a 08/21/2018", &[]),
            ("https://www.virustotal.com/gui/x", &["link https://www.virustotal.com/gui/x"]),
            ("http://virustotal.com/x", &["url http://virustotal.com/x"]),
            ("C:\\ProgramData\\x HKCU\\Run", &["filename C:\\ProgramData\\x", "regkey HKCU\\Run"]),
            ("evil[.]unknowntop", &[]),
            ("cve-2024-12345", &["vulnerability CVE-2024-12345"]),
            (
                "+49-30-123456 030-1234-567",
                &["phone-number +49-30-123456", "phone-number 030-1234-567"],
            ),
            ("21-08-2018 2018-08-21 1234567890", &[]),
            ("as64496", &["AS AS64496"]),
            ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", &["btc 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"]),
            (
                "{\"x\": \"http://e.org/a,b\"} \"see evil.com and e.net\" 5\" evil.org",
                &["url http://e.org/a,b", "domain evil.com", "domain e.net", "domain evil.org"],
            ),
            ("mailto:Eve@Example.com", &["email-src Eve@Example.com"]),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert_eq!(resolve("example.com:8443").unwrap().port, Some(8443));
    }

    proptest! {
        #[test]
        fn any_line_is_survived_and_every_value_is_found_again(line in "\\PC{0,80}") {
            words(&line, &mut |word| {
                if let Some(typed) = resolve(word) {
                    assert!(!typed.value.is_empty());
                    assert!(!typed.value.contains("hxxp://"), "{}", typed.value);
                }
                false
            });
        }
    }
}
