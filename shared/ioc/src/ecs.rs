//! An indicator in the words of the Elastic Common Schema, `threat.indicator.*`.

use std::borrow::Cow;

use indicator::{IndicatorKind, NameParts, host_of_url, unicode_name};
use serde_json::{Map, Value, json};
use url::Url;

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
    let mut set = |name: &str, value: Value| {
        of.insert(name.to_owned(), value);
    };
    let word = match kind {
        IndicatorKind::Ipv4 | IndicatorKind::Ipv6 => {
            set("ip", json!(value));
            address_word(value)
        }
        IndicatorKind::IpPort => {
            let (ip, port) = value.rsplit_once(':').unwrap_or((value, ""));
            let ip = ip.trim_matches(['[', ']']);
            set("ip", json!(ip));
            set("port", json!(port.parse::<u16>().ok()));
            address_word(ip)
        }
        // A range is no address, so no rule that compares one finds it; its name tells it.
        IndicatorKind::Cidr => address_word(value),
        IndicatorKind::Domain | IndicatorKind::Hostname => {
            set("url", Value::Object(host(value)));
            "domain-name"
        }
        IndicatorKind::Url => {
            set("url", url(value));
            "url"
        }
        IndicatorKind::Md5
        | IndicatorKind::Sha1
        | IndicatorKind::Sha256
        | IndicatorKind::Sha384
        | IndicatorKind::Sha512
        | IndicatorKind::Ssdeep => {
            set("file", json!({ "hash": { kind.as_str(): value } }));
            "file"
        }
        IndicatorKind::Imphash | IndicatorKind::Pehash => {
            set("file", json!({ "pe": { kind.as_str(): value } }));
            "file"
        }
        IndicatorKind::Filename => {
            set("file", file(value));
            "file"
        }
        IndicatorKind::Sha224 | IndicatorKind::FilenameRegex | IndicatorKind::Yara => "file",
        IndicatorKind::Email => {
            set("email", json!({ "address": value }));
            "email-addr"
        }
        IndicatorKind::Asn => {
            let number = value.strip_prefix("AS").and_then(|digits| digits.parse::<u32>().ok());
            set("as", json!({ "number": number }));
            "autonomous-system"
        }
        IndicatorKind::Regkey => {
            set("registry", registry(value));
            "windows-registry-key"
        }
        IndicatorKind::Mutex => "mutex",
        IndicatorKind::Cve | IndicatorKind::Btc | IndicatorKind::Ja3 | IndicatorKind::Other => {
            "unknown"
        }
    };
    set("type", json!(word));
    if !matches!(kind, IndicatorKind::FilenameRegex | IndicatorKind::Yara) {
        set("name", json!(shown(kind, value)));
    }
    of
}

fn address_word(address: &str) -> &'static str {
    if address.contains(':') { "ipv6-addr" } else { "ipv4-addr" }
}

/// The value as people read it: names in Unicode.
fn shown(kind: IndicatorKind, value: &str) -> Cow<'_, str> {
    let name = match kind {
        IndicatorKind::Domain | IndicatorKind::Hostname => value,
        IndicatorKind::Email => value.rsplit_once('@').map_or("", |(_, domain)| domain),
        IndicatorKind::Url => host_of_url(value).unwrap_or_default(),
        _ => "",
    };
    match unicode_name(name) {
        Cow::Owned(unicode) => Cow::Owned(value.replacen(name, &unicode, 1)),
        Cow::Borrowed(_) => Cow::Borrowed(value),
    }
}

/// A host: a name and its parts, or an address.
fn host(name: &str) -> Map<String, Value> {
    let mut of = Map::from_iter([("domain".to_owned(), json!(name))]);
    if let Some(parts) = NameParts::of(name) {
        of.insert("registered_domain".to_owned(), json!(parts.registered_domain));
        of.insert("top_level_domain".to_owned(), json!(parts.top_level_domain));
        if let Some(subdomain) = parts.subdomain {
            of.insert("subdomain".to_owned(), json!(subdomain));
        }
    }
    of
}

/// The parts of an address that are there. An address of IPv6 keeps its brackets, as the schema asks. One without a scheme says
/// neither scheme nor port; of user and password nothing is said.
fn url(value: &str) -> Value {
    let has_scheme = value.contains("://");
    let read = match has_scheme {
        true => Url::parse(value),
        false => Url::parse(&format!("http://{value}")),
    };
    let Ok(url) = read else { return json!({ "full": value }) };
    let mut of = url.host_str().map(host).unwrap_or_default();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() && value != json!("") {
            of.insert(name.to_owned(), value);
        }
    };
    set("full", json!(value));
    set("scheme", json!(has_scheme.then(|| url.scheme())));
    set("port", json!(if has_scheme { url.port_or_known_default() } else { url.port() }));
    set("path", json!(url.path()));
    set("query", json!(url.query()));
    set("fragment", json!(url.fragment()));
    Value::Object(of)
}

/// A file by its name, and by its path where one is given.
fn file(value: &str) -> Value {
    match value.rsplit_once(['/', '\\']) {
        Some((_, name)) if !name.is_empty() => json!({ "name": name, "path": value }),
        Some(_) => json!({ "path": value }),
        None => json!({ "name": value }),
    }
}

/// A path in the registry, by the hives' short names.
fn registry(value: &str) -> Value {
    const HIVES: [(&str, &str); 12] = [
        ("HKEY_LOCAL_MACHINE", "HKLM"),
        ("HKLM", "HKLM"),
        ("\\REGISTRY\\MACHINE", "HKLM"),
        ("HKEY_CURRENT_USER", "HKCU"),
        ("HKCU", "HKCU"),
        ("HKEY_CLASSES_ROOT", "HKCR"),
        ("HKCR", "HKCR"),
        ("HKEY_USERS", "HKU"),
        ("HKU", "HKU"),
        ("\\REGISTRY\\USER", "HKU"),
        ("HKEY_CURRENT_CONFIG", "HKCC"),
        ("HKCC", "HKCC"),
    ];
    let found = HIVES.iter().find_map(|(long, short)| {
        let (hive, rest) = value.split_at_checked(long.len())?;
        let key = rest.trim_start_matches([':', '\\']);
        let is_it = hive.eq_ignore_ascii_case(long) && (rest.is_empty() || key.len() < rest.len());
        is_it.then_some((*short, key))
    });
    match found {
        Some((hive, "")) => json!({ "path": value, "hive": hive }),
        Some((hive, key)) => json!({ "path": value, "hive": hive, "key": key }),
        None => json!({ "path": value }),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_value_stands_in_the_fields_of_its_parts() {
        use IndicatorKind as Kind;
        let given = [
            (None, "[2001:db8::1]:8443"),
            (None, "198.51.100.0/24"),
            (None, "www.mail.M\u{fc}nchen.co.uk"),
            (None, "github.io"),
            (None, "http://u:p@www.example.com:8080/a/b.php?q=1&r=//#top"),
            (None, "https://[2001:db8::1]/"),
            (None, "xn--mnchen-3ya.de/login"),
            (None, "Bad@M\u{fc}nchen.de"),
            (None, "HKEY_LOCAL_MACHINE\\SOFTWARE\\Run"),
            (Some(Kind::Regkey), "SOFTWARE\\Run"),
            (Some(Kind::Regkey), "HKLMX\\Run"),
            (Some(Kind::Filename), "C:\\Temp\\a.exe"),
            (Some(Kind::FilenameRegex), "a.*\\.exe"),
            (None, "AS15169"),
            (Some(Kind::Imphash), "d41d8cd98f00b204e9800998ecf8427e"),
            (Some(Kind::Sha224), "d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f"),
        ];
        let shown = given.map(|(kind, value)| {
            let found = indicator::parse(kind, value).unwrap();
            let of = of_value(found.kind, &found.value);
            format!("{} {}\n", found.kind, Value::Object(of))
        });
        let expected = expect![[r#"
            ip:port {"ip":"2001:db8::1","name":"[2001:db8::1]:8443","port":8443,"type":"ipv6-addr"}
            cidr {"name":"198.51.100.0/24","type":"ipv4-addr"}
            hostname {"name":"www.mail.münchen.co.uk","type":"domain-name","url":{"domain":"www.mail.xn--mnchen-3ya.co.uk","registered_domain":"xn--mnchen-3ya.co.uk","subdomain":"www.mail","top_level_domain":"co.uk"}}
            domain {"name":"github.io","type":"domain-name","url":{"domain":"github.io","registered_domain":"github.io","top_level_domain":"io"}}
            url {"name":"http://u:p@www.example.com:8080/a/b.php?q=1&r=//#top","type":"url","url":{"domain":"www.example.com","fragment":"top","full":"http://u:p@www.example.com:8080/a/b.php?q=1&r=//#top","path":"/a/b.php","port":8080,"query":"q=1&r=//","registered_domain":"example.com","scheme":"http","subdomain":"www","top_level_domain":"com"}}
            url {"name":"https://[2001:db8::1]/","type":"url","url":{"domain":"[2001:db8::1]","full":"https://[2001:db8::1]/","path":"/","port":443,"scheme":"https"}}
            url {"name":"münchen.de/login","type":"url","url":{"domain":"xn--mnchen-3ya.de","full":"xn--mnchen-3ya.de/login","path":"/login","registered_domain":"xn--mnchen-3ya.de","top_level_domain":"de"}}
            email {"email":{"address":"bad@xn--mnchen-3ya.de"},"name":"bad@münchen.de","type":"email-addr"}
            regkey {"name":"HKEY_LOCAL_MACHINE\\SOFTWARE\\Run","registry":{"hive":"HKLM","key":"SOFTWARE\\Run","path":"HKEY_LOCAL_MACHINE\\SOFTWARE\\Run"},"type":"windows-registry-key"}
            regkey {"name":"SOFTWARE\\Run","registry":{"path":"SOFTWARE\\Run"},"type":"windows-registry-key"}
            regkey {"name":"HKLMX\\Run","registry":{"path":"HKLMX\\Run"},"type":"windows-registry-key"}
            filename {"file":{"name":"a.exe","path":"C:\\Temp\\a.exe"},"name":"C:\\Temp\\a.exe","type":"file"}
            filename-regex {"type":"file"}
            asn {"as":{"number":15169},"name":"AS15169","type":"autonomous-system"}
            imphash {"file":{"pe":{"imphash":"d41d8cd98f00b204e9800998ecf8427e"}},"name":"d41d8cd98f00b204e9800998ecf8427e","type":"file"}
            sha224 {"name":"d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f","type":"file"}
        "#]];
        expected.assert_eq(&shown.concat());
    }
}
