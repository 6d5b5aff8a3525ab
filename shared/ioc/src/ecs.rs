//! An indicator in the words of the Elastic Common Schema, `threat.indicator.*`.

use indicator::IndicatorKind;
use serde_json::{Map, Value, json};

/// How sure a source is, in the schema's words; its table maps a scale of 0 to 100 to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confidence {
    Low,
    Medium,
    High,
}

impl Confidence {
    /// The word for 0 to 100: below 50, below 75, and the rest.
    pub const fn of(score: u8) -> Self {
        match score {
            0..50 => Self::Low,
            50..75 => Self::Medium,
            _ => Self::High,
        }
    }

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }
}

/// What every document of an indicator says of itself as an event.
pub(crate) fn event() -> Value {
    json!({ "kind": "enrichment", "category": ["threat"], "type": ["indicator"] })
}

/// What the value alone says. A pattern is no name, so it stands in none of the schema's fields.
pub(crate) fn of_value(kind: IndicatorKind, value: &str) -> Map<String, Value> {
    let mut of = Map::new();
    let word = match kind {
        IndicatorKind::Ipv4 | IndicatorKind::Ipv6 => {
            of.insert("ip".to_owned(), json!(value));
            if kind == IndicatorKind::Ipv4 { "ipv4-addr" } else { "ipv6-addr" }
        }
        IndicatorKind::IpPort => {
            let (ip, port) = value.rsplit_once(':').unwrap_or((value, ""));
            let ip = ip.trim_matches(['[', ']']);
            of.insert("ip".to_owned(), json!(ip));
            of.insert("port".to_owned(), json!(port.parse::<u16>().ok()));
            if ip.contains(':') { "ipv6-addr" } else { "ipv4-addr" }
        }
        IndicatorKind::Domain | IndicatorKind::Hostname => {
            of.insert("url".to_owned(), json!({ "domain": value }));
            "domain-name"
        }
        IndicatorKind::Url => {
            of.insert("url".to_owned(), url(value));
            "url"
        }
        IndicatorKind::Md5
        | IndicatorKind::Sha1
        | IndicatorKind::Sha256
        | IndicatorKind::Sha384
        | IndicatorKind::Sha512
        | IndicatorKind::Ssdeep => {
            let mut hash = Map::new();
            hash.insert(kind.as_str().to_owned(), json!(value));
            of.insert("file".to_owned(), json!({ "hash": hash }));
            "file"
        }
        IndicatorKind::Imphash | IndicatorKind::Pehash => {
            let mut pe = Map::new();
            pe.insert(kind.as_str().to_owned(), json!(value));
            of.insert("file".to_owned(), json!({ "pe": pe }));
            "file"
        }
        IndicatorKind::Filename => {
            of.insert("file".to_owned(), json!({ "name": value }));
            "file"
        }
        IndicatorKind::Sha224 | IndicatorKind::FilenameRegex => "file",
        IndicatorKind::Email => {
            of.insert("email".to_owned(), json!({ "address": value }));
            "email-addr"
        }
        IndicatorKind::Asn => {
            let number = value.strip_prefix("AS").and_then(|digits| digits.parse::<u32>().ok());
            of.insert("as".to_owned(), json!({ "number": number }));
            "autonomous-system"
        }
        IndicatorKind::Regkey => {
            of.insert("registry".to_owned(), json!({ "path": value }));
            "windows-registry-key"
        }
        IndicatorKind::Mutex => "mutex",
        _ => "unknown",
    };
    of.insert("type".to_owned(), json!(word));
    of
}

/// The parts of an address that are there.
fn url(value: &str) -> Value {
    let mut of = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() && value != json!("") {
            of.insert(name.to_owned(), value);
        }
    };
    set("full", json!(value));
    if let Ok(url) = url::Url::parse(value) {
        set("scheme", json!(url.scheme()));
        set("domain", json!(url.host_str().map(|host| host.trim_matches(['[', ']']))));
        set("port", json!(url.port_or_known_default()));
        set("path", json!(url.path()));
        set("query", json!(url.query()));
    }
    Value::Object(of)
}
