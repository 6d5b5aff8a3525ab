//! The names of indicator kinds, spelt as they are stored.
//!
//! One list for every source: what a feed calls `ip-dst`, `IPv4` or `FileHash-MD5` is translated to these words once,
//! in that family's own wire module. Nothing here knows a source.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an indicator is. The serialised form is [`IndicatorKind::as_str`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IndicatorKind {
    /// An IPv4 address; an IPv4-mapped IPv6 address is one too.
    Ipv4,
    /// An IPv6 address in the short form of RFC 5952.
    Ipv6,
    /// An address with a port: `192.0.2.1:443`, `[2001:db8::1]:443`.
    #[serde(rename = "ip:port")]
    IpPort,
    /// An address range with its host bits cleared: `192.0.2.0/24`.
    Cidr,
    /// A registrable name, one label below a public suffix.
    Domain,
    /// A name below a registrable one.
    Hostname,
    /// An address with a scheme, or a host with a path.
    Url,
    /// 32 hex digits.
    Md5,
    /// 40 hex digits.
    Sha1,
    /// 56 hex digits.
    Sha224,
    /// 64 hex digits.
    Sha256,
    /// 96 hex digits.
    Sha384,
    /// 128 hex digits.
    Sha512,
    /// A file's name or path, case kept.
    Filename,
    /// A pattern for file names; never to be exported as a name.
    FilenameRegex,
    /// A mail address, lower-case.
    Email,
    /// The name of a mutex, case kept.
    Mutex,
    /// A path in the Windows registry, case kept.
    Regkey,
    /// A vulnerability's number, upper-case.
    Cve,
    /// The text of a YARA rule.
    Yara,
    /// A Bitcoin address.
    Btc,
    /// A fuzzy hash.
    Ssdeep,
    /// The MD5 of a PE file's import table.
    Imphash,
    /// The SHA-1 of a PE file's structure.
    Pehash,
    /// The MD5 of a TLS client's greeting.
    Ja3,
    /// An autonomous system: `AS64496`.
    Asn,
    /// Anything a source calls an indicator and that is none of the above.
    Other,
}

impl IndicatorKind {
    /// Every kind, in the order of the declaration.
    pub const ALL: [Self; 27] = [
        Self::Ipv4,
        Self::Ipv6,
        Self::IpPort,
        Self::Cidr,
        Self::Domain,
        Self::Hostname,
        Self::Url,
        Self::Md5,
        Self::Sha1,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Filename,
        Self::FilenameRegex,
        Self::Email,
        Self::Mutex,
        Self::Regkey,
        Self::Cve,
        Self::Yara,
        Self::Btc,
        Self::Ssdeep,
        Self::Imphash,
        Self::Pehash,
        Self::Ja3,
        Self::Asn,
        Self::Other,
    ];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::IpPort => "ip:port",
            Self::Cidr => "cidr",
            Self::Domain => "domain",
            Self::Hostname => "hostname",
            Self::Url => "url",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Filename => "filename",
            Self::FilenameRegex => "filename-regex",
            Self::Email => "email",
            Self::Mutex => "mutex",
            Self::Regkey => "regkey",
            Self::Cve => "cve",
            Self::Yara => "yara",
            Self::Btc => "btc",
            Self::Ssdeep => "ssdeep",
            Self::Imphash => "imphash",
            Self::Pehash => "pehash",
            Self::Ja3 => "ja3",
            Self::Asn => "asn",
            Self::Other => "other",
        }
    }

    /// The plain file hash with this many hex digits.
    pub const fn of_hash_length(digits: usize) -> Option<Self> {
        match digits {
            32 => Some(Self::Md5),
            40 => Some(Self::Sha1),
            56 => Some(Self::Sha224),
            64 => Some(Self::Sha256),
            96 => Some(Self::Sha384),
            128 => Some(Self::Sha512),
            _ => None,
        }
    }
}

impl fmt::Display for IndicatorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for IndicatorKind {
    type Err = UnknownKind;

    /// Reads the stored spelling, and no other.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownKind)
    }
}

/// The text is not one of the stored spellings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKind;

impl fmt::Display for UnknownKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("recognise the kind of indicator")
    }
}

impl std::error::Error for UnknownKind {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_is_the_same_for_serde_display_and_reading() {
        for kind in IndicatorKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("IPv4".parse::<IndicatorKind>(), Err(UnknownKind));
    }
}
