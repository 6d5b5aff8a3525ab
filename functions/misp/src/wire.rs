//! What MISP calls things, and what we call them: each of its types as our kinds, composites in their parts.

use indicator::{Indicator, IndicatorKind, parse};

/// What an attribute's type means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// One indicator.
    One(IndicatorKind),
    /// Two parts, parted by the first `|`; one that is no indicator has no kind.
    Pair(IndicatorKind, Option<IndicatorKind>),
    /// An address and a port.
    AddressPort,
    /// A name and a port, which is no part of our value.
    HostPort,
    /// An address of a report, unless it is meant for detection.
    Link,
    /// A remark, a number or a name of a person, unless it is meant for detection.
    Remark,
}

fn meaning(kind: &str) -> Meaning {
    use IndicatorKind as Kind;
    use Meaning::{One, Pair};
    if let Some(hash) = kind.strip_prefix("filename|") {
        return Pair(Kind::Filename, Some(hash_kind(hash)));
    }
    match kind {
        "ip-src" | "ip-dst" => One(Kind::Ipv4),
        "domain" | "hostname" => One(Kind::Domain),
        "domain|ip" => Pair(Kind::Domain, Some(Kind::Ipv4)),
        "ip-src|port" | "ip-dst|port" => Meaning::AddressPort,
        "hostname|port" => Meaning::HostPort,
        "url" | "uri" => One(Kind::Url),
        "link" => Meaning::Link,
        "email"
        | "email-src"
        | "email-dst"
        | "email-reply-to"
        | "target-email"
        | "dns-soa-email"
        | "whois-registrant-email" => One(Kind::Email),
        "filename" | "attachment" | "email-attachment" => One(Kind::Filename),
        "malware-sample" => Pair(Kind::Filename, Some(Kind::Md5)),
        "mutex" => One(Kind::Mutex),
        "regkey" => One(Kind::Regkey),
        "regkey|value" => Pair(Kind::Regkey, None),
        "vulnerability" => One(Kind::Cve),
        "yara" => One(Kind::Yara),
        "btc" => One(Kind::Btc),
        "AS" => One(Kind::Asn),
        "comment" | "text" | "other" | "datetime" | "counter" | "float" | "integer" | "boolean"
        | "size-in-bytes" | "internal reference" | "anonymised" | "threat-actor"
        | "campaign-name" | "campaign-id" => Meaning::Remark,
        other => One(hash_kind(other)),
    }
}

/// A hash's kind by MISP's name; those that no other source has are of no kind of their own.
fn hash_kind(name: &str) -> IndicatorKind {
    match name {
        "md5" => IndicatorKind::Md5,
        "sha1" => IndicatorKind::Sha1,
        "sha224" => IndicatorKind::Sha224,
        "sha256" => IndicatorKind::Sha256,
        "sha384" => IndicatorKind::Sha384,
        "sha512" => IndicatorKind::Sha512,
        "ssdeep" => IndicatorKind::Ssdeep,
        "imphash" => IndicatorKind::Imphash,
        "pehash" => IndicatorKind::Pehash,
        "ja3-fingerprint-md5" => IndicatorKind::Ja3,
        _ => IndicatorKind::Other,
    }
}

/// What became of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It is this.
    Indicator(Indicator),
    /// It is none, and was not meant as one, for this reason.
    Filtered(&'static str),
    /// It is none, though it was meant as one.
    Rejected(String),
}

/// The indicators of a value under one of MISP's types: one part, or two of a composite.
pub fn parts(kind: &str, category: &str, to_ids: bool, value: &str) -> Vec<Part> {
    let is_meant = |reason| if to_ids { None } else { Some(vec![Part::Filtered(reason)]) };
    let one = |kind: IndicatorKind| vec![part(kind, value)];
    if category == "Person" {
        return vec![Part::Filtered("a person's particulars")];
    }
    match meaning(kind) {
        Meaning::One(IndicatorKind::Cve) => vec![match part(IndicatorKind::Cve, value) {
            // Other numbering authorities have numbers too.
            Part::Rejected(_) => part(IndicatorKind::Other, value),
            found => found,
        }],
        Meaning::One(kind) => one(kind),
        Meaning::AddressPort => one(IndicatorKind::IpPort),
        Meaning::HostPort => {
            vec![part(IndicatorKind::Domain, value.split_once('|').map_or(value, |(name, _)| name))]
        }
        Meaning::Link => is_meant("a reference").unwrap_or_else(|| one(IndicatorKind::Url)),
        Meaning::Remark => is_meant("a remark").unwrap_or_else(|| one(IndicatorKind::Other)),
        Meaning::Pair(first, second) => match (value.split_once('|'), second) {
            (Some((left, right)), Some(second)) => vec![part(first, left), part(second, right)],
            (Some((left, _)), None) => vec![part(first, left)],
            // A composite without its second half is its first.
            (None, _) => one(first),
        },
    }
}

fn part(kind: IndicatorKind, value: &str) -> Part {
    match parse(Some(kind), value).or_else(|error| misfiled(kind, value).ok_or(error)) {
        Ok(found) => Part::Indicator(found),
        Err(error) => Part::Rejected(error.to_string()),
    }
}

/// A value under another type of its sort: an address under `hostname`, a SHA-1 under `md5`. It says itself what it is.
fn misfiled(kind: IndicatorKind, value: &str) -> Option<Indicator> {
    use IndicatorKind as Kind;
    let sort = |kind| match kind {
        Kind::Ipv4
        | Kind::Ipv6
        | Kind::IpPort
        | Kind::Cidr
        | Kind::Domain
        | Kind::Hostname
        | Kind::Url
        | Kind::Email => 1,
        Kind::Md5 | Kind::Sha1 | Kind::Sha224 | Kind::Sha256 | Kind::Sha384 | Kind::Sha512 => 2,
        _ => 0,
    };
    let found = parse(None, value).ok()?;
    (sort(kind) > 0 && sort(kind) == sort(found.kind)).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, to_ids: bool, value: &str) -> Vec<String> {
        let parts = parts(kind, "Network activity", to_ids, value);
        let shown = parts.into_iter().map(|part| match part {
            Part::Indicator(found) => format!("{} {}", found.kind, found.value),
            Part::Filtered(reason) => format!("filtered: {reason}"),
            Part::Rejected(_) => "rejected".to_owned(),
        });
        shown.collect()
    }

    #[test]
    fn each_type_is_its_kinds() {
        let md5 = "D41D8CD98F00B204E9800998ECF8427E";
        let lower = "md5 d41d8cd98f00b204e9800998ecf8427e";
        for (kind, value, expected) in [
            ("ip-dst", "2001:DB8::1", &["ipv6 2001:db8::1"][..]),
            ("ip-src", "192.0.2.0/24", &["cidr 192.0.2.0/24"]),
            ("ip-dst|port", "2001:db8::1|443", &["ip:port [2001:db8::1]:443"]),
            ("domain|ip", "evil.com|192.0.2.1", &["domain evil.com", "ipv4 192.0.2.1"]),
            ("hostname", "admin.mikifox.com ", &["hostname admin.mikifox.com"]),
            ("hostname|port", "a.evil.com|8080", &["hostname a.evil.com"]),
            ("url", "hXXps://ecole-artcom.com/wdown/ ", &["url https://ecole-artcom.com/wdown/"]),
            ("malware-sample", &format!("a b.exe|{md5}"), &["filename a b.exe", lower]),
            ("filename|tlsh", "a.exe|T1ABC", &["filename a.exe", "other T1ABC"]),
            ("regkey|value", "HKLM\\X|a|b", &["regkey HKLM\\X"]),
            ("imphash", md5, &["imphash d41d8cd98f00b204e9800998ecf8427e"]),
            ("sha1", md5, &[lower]),
            ("hostname", "192.0.2.7", &["ipv4 192.0.2.7"]),
            ("md5", "192.0.2.7", &["rejected"]),
            ("vulnerability", "GHSA-x", &["other GHSA-x"]),
            ("an-unheard-of-type", "x y", &["other x y"]),
        ] {
            assert_eq!(read(kind, true, value), expected, "{kind} {value}");
        }
        assert_eq!(read("link", false, "https://e.org/"), ["filtered: a reference"]);
        assert_eq!(read("link", true, "https://e.org/"), ["url https://e.org/"]);
        assert_eq!(read("comment", false, "x"), ["filtered: a remark"]);
        assert_eq!(read("text", true, "x"), ["other x"]);
        assert!(matches!(parts("email-src", "Person", true, "a@e.org")[..], [Part::Filtered(_)]));
    }
}
