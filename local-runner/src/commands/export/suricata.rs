//! Rules for Suricata 5 and later, which Snort does not read.
//!
//! An address is looked for in what the home network talks to; a name in DNS, TLS and HTTP, a registrable one with all names
//! below it; a URL in HTTP, by its host and its path as they are sent. What other kinds need lies in files of their own
//! (`filemd5`) or in none. <https://docs.suricata.io/en/latest/rules/>

use std::collections::HashSet;
use std::fmt::Write as _;

use base::Result;
use indicator::IndicatorKind;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::form::{Added, Form};
use super::output::Output;
use crate::commands::indicators::Stored;

/// Rules that a file holds; a sensor takes a minute and a gigabyte to load so many.
pub(super) const RULES_MAX: usize = 1_000_000;
/// Bytes of a URL's path that a rule asks for: the line of a rule has 8,191 in all, and a byte takes up to four.
const PATH_BYTES_MAX: usize = 1_000;
/// Letters of a value that a message shows.
const SHOWN_MAX: usize = 120;

/// The numbers of rules lie from here to the largest that every tool takes as a number of 32 bits; nobody is given them:
/// <https://sidallocation.org/>.
const SID_FROM: u32 = 1_000_000_000;
const SID_END: u32 = 1 << 31;

pub(super) struct Rules {
    out: Output,
    sids: HashSet<u32>,
}

impl Rules {
    pub(super) fn begin(mut out: Output) -> Result<Self> {
        out.write("# Indicators that Minerva stores. Numbers follow from the value, so a rule keeps its own.\n")?;
        Ok(Self { out, sids: HashSet::new() })
    }
}

impl Form for Rules {
    fn add(&mut self, one: &Stored<'_>) -> Result<Added> {
        let matches = matches(one.kind(), one.value());
        if matches.is_empty() {
            return Ok(Added::NoForm);
        }
        if self.sids.len() + matches.len() > RULES_MAX {
            return Ok(Added::Full);
        }
        for (place, conditions) in matches {
            let sid = sid(&mut self.sids, place, one.kind(), one.value());
            self.out.write(&rule(one, place, &conditions, sid))?;
        }
        Ok(Added::Written)
    }

    fn end(self: Box<Self>) -> Result<()> {
        self.out.end()
    }
}

/// The head of a rule up to its options, and its own options; none where Suricata has no words for the kind.
fn matches(kind: IndicatorKind, value: &str) -> Vec<(&'static str, Match)> {
    match kind {
        IndicatorKind::Ipv4 | IndicatorKind::Ipv6 | IndicatorKind::Cidr => {
            let is_address = value
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'/'));
            let all = value.ends_with("/0");
            let found = (is_address && !all && !value.is_empty()).then(|| {
                (
                    "ip",
                    Match {
                        head: format!("ip $HOME_NET any -> [{value}] any"),
                        options: String::new(),
                    },
                )
            });
            found.into_iter().collect()
        }
        IndicatorKind::IpPort => {
            let Some((ip, port)) = value.rsplit_once(':') else { return Vec::new() };
            let ip = ip.trim_matches(['[', ']']);
            let (Ok(ip), Ok(port)) = (ip.parse::<std::net::IpAddr>(), port.parse::<u16>()) else {
                return Vec::new();
            };
            let of = |protocol: &'static str| {
                (
                    protocol,
                    Match {
                        head: format!("{protocol} $HOME_NET any -> [{ip}] {port}"),
                        options: String::new(),
                    },
                )
            };
            vec![of("tcp"), of("udp")]
        }
        IndicatorKind::Domain | IndicatorKind::Hostname => {
            let name = value.to_ascii_lowercase();
            let content = match kind {
                IndicatorKind::Domain => {
                    format!("dotprefix; content:\"{}\"; ", content(&format!(".{name}")))
                }
                _ => format!("content:\"{}\"; startswith; ", content(&name)),
            };
            let of = |protocol: &'static str, buffer: &str, case: &str| {
                (
                    protocol,
                    Match {
                        head: format!("{protocol} $HOME_NET any -> any any"),
                        options: format!("{buffer}; {content}{case}endswith; "),
                    },
                )
            };
            // Suricata keeps the host of HTTP in lower case, and refuses to be told to pass over it.
            vec![
                of("dns", "dns.query", "nocase; "),
                of("tls", "tls.sni", "nocase; "),
                of("http", "http.host", ""),
            ]
        }
        IndicatorKind::Url => url(value).into_iter().map(|found| ("http", found)).collect(),
        _ => Vec::new(),
    }
}

struct Match {
    head: String,
    options: String,
}

/// A URL in HTTP. Of one that is fetched under TLS the sensor sees what is decrypted for it.
fn url(value: &str) -> Option<Match> {
    let whole = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let url = Url::parse(&whole).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let host = url.host_str()?.to_ascii_lowercase();
    let mut path = url.path().to_owned();
    if let Some(query) = url.query() {
        let _ = write!(path, "?{query}");
    }
    if path.len() > PATH_BYTES_MAX {
        return None;
    }
    let ports = url.port().map_or_else(|| "any".to_owned(), |port| port.to_string());
    Some(Match {
        head: format!("http $HOME_NET any -> any {ports}"),
        options: format!(
            "http.host; content:\"{}\"; startswith; endswith; http.uri.raw; content:\"{}\"; startswith; endswith; ",
            content(&host),
            content(&path)
        ),
    })
}

/// Bytes as a rule writes them: what has no meaning in it as itself, all else in hexadecimal.
fn content(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut is_hex = false;
    for byte in text.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/');
        if is_hex == is_plain {
            written.push('|');
        } else if is_hex {
            written.push(' ');
        }
        is_hex = !is_plain;
        if is_plain {
            written.push(char::from(byte));
        } else {
            let _ = write!(written, "{byte:02x}");
        }
    }
    if is_hex {
        written.push('|');
    }
    written
}

/// A text for people within a rule: letters that mean something there, or are none of ASCII, are `_`.
fn shown(text: &str, most: usize) -> String {
    let is_plain =
        |letter: char| letter.is_ascii_alphanumeric() || " .-_/:+@?=&%#,()[]".contains(letter);
    text.chars().take(most).map(|letter| if is_plain(letter) { letter } else { '_' }).collect()
}

fn rule(one: &Stored<'_>, place: &str, found: &Match, sid: u32) -> String {
    let word = |text: &str| shown(text, SHOWN_MAX).replace([' ', ',', ':'], "_");
    let mut metadata = format!("minerva_id {}", word(one.id));
    for (name, value) in [
        ("tlp", one.text("tlp")),
        ("confidence", one.text("confidence")),
        ("first_seen", one.text("first_seen").get(..10).unwrap_or_default()),
        ("malware_family", one.list("malware_family").first().copied().unwrap_or_default()),
    ] {
        if !value.is_empty() {
            let _ = write!(metadata, ", {name} {}", word(value));
        }
    }
    let revision =
        one.number("revision").filter(|revision| (1..=u64::from(u32::MAX)).contains(revision));
    format!(
        "alert {} (msg:\"MINERVA {} {} in {place} [{}]\"; {}classtype:trojan-activity; sid:{sid}; rev:{}; metadata:{metadata};)\n",
        found.head,
        one.kind(),
        shown(one.value(), SHOWN_MAX),
        shown(one.feed(), SHOWN_MAX),
        found.options,
        revision.unwrap_or(1),
    )
}

/// The number of a rule: it follows from what the rule looks for, and from others only where two would have the same.
fn sid(taken: &mut HashSet<u32>, place: &str, kind: IndicatorKind, value: &str) -> u32 {
    for turn in 0_u32.. {
        let mut hash = Sha256::new();
        for part in [place, kind.as_str(), value] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.update(turn.to_be_bytes());
        let head: [u8; 4] = hash.finalize()[..4].try_into().expect("a digest is longer");
        let sid = SID_FROM + u32::from_be_bytes(head) % (SID_END - SID_FROM);
        if taken.insert(sid) {
            return sid;
        }
    }
    unreachable!("a file holds far fewer rules than there are numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_rule_is_written_in_hexadecimal() {
        for (text, expected) in [
            ("evil.example", "evil.example"),
            ("a\"b;c", "a|22|b|3b|c"),
            ("a|b\\", "a|7c|b|5c|"),
            (":;", "|3a 3b|"),
            ("é", "|c3 a9|"),
            ("/a?b=c&d", "/a|3f|b|3d|c|26|d"),
        ] {
            assert_eq!(content(text), expected, "{text}");
        }
        assert_eq!(shown("a\";\\\n(é)", 9), "a____(_)");
    }

    #[test]
    fn a_number_that_is_taken_is_not_given_twice() {
        let mut taken = HashSet::new();
        let of =
            |taken: &mut HashSet<u32>| sid(taken, "dns", IndicatorKind::Domain, "evil.example");
        let (first, second) = (of(&mut taken), of(&mut taken));
        assert_ne!(first, second);
        assert_eq!(of(&mut HashSet::new()), first, "it follows from the value alone");
        assert_ne!(sid(&mut HashSet::new(), "tls", IndicatorKind::Domain, "evil.example"), first);
        assert!((SID_FROM..SID_END).contains(&first) && (SID_FROM..SID_END).contains(&second));
    }

    #[test]
    fn what_cannot_be_looked_for_has_no_rule() {
        for (kind, value, rules) in [
            (IndicatorKind::Domain, "evil.example", 3),
            (IndicatorKind::Ipv4, "192.0.2.1", 1),
            (IndicatorKind::Cidr, "0.0.0.0/0", 0),
            (IndicatorKind::Ipv4, "192.0.2.1] any (msg:", 0),
            (IndicatorKind::IpPort, "[2001:db8::1]:443", 2),
            (IndicatorKind::IpPort, "nonsense", 0),
            (IndicatorKind::Url, "https://evil.example/a", 1),
            (IndicatorKind::Url, "evil.example/a", 1),
            (IndicatorKind::Url, "ftp://evil.example/a", 0),
            (IndicatorKind::Sha256, "00", 0),
        ] {
            assert_eq!(matches(kind, value).len(), rules, "{kind} {value}");
        }
        let long = format!("http://evil.example/{}", "a".repeat(PATH_BYTES_MAX));
        assert!(matches(IndicatorKind::Url, &long).is_empty());
    }
}
