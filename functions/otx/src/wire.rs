//! What OTX calls things, in every shape that its endpoints and years have given them; after this module they are ours.
//!
//! A field of another type than expected is as good as absent: it costs itself and not its pulse, and a pulse that cannot be
//! read costs itself and not its page.

use std::collections::{BTreeMap, HashSet};

use base::date;
use indicator::{Indicator, IndicatorKind};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use stores::documents::Body;

/// A page of a list: `{"count": 50, "next": "https://…", "results": […]}`, and fields of no use.
#[derive(Debug)]
pub struct Page<'a> {
    /// How many there are in all pages, if it says so.
    pub count: Option<u64>,
    /// The address of the page behind it.
    pub next: Option<String>,
    /// What it holds, each still as text.
    pub results: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    count: Value,
    #[serde(default)]
    next: Value,
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}

impl<'a> Page<'a> {
    /// Reads a page.
    ///
    /// # Errors
    /// What `serde_json` says of a body that is no page.
    pub fn read(body: &'a [u8]) -> serde_json::Result<Self> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let Envelope { count, next, results } = serde_json::from_slice(body)?;
        Ok(Self { count: count.as_u64(), next: text(&next), results })
    }
}

/// A pulse without its indicators.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pulse {
    /// 24 hex digits.
    pub id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub author_name: Option<String>,
    pub author_id: Option<String>,
    pub created: Option<Timestamp>,
    pub modified: Option<Timestamp>,
    pub revision: Option<i64>,
    /// As it came: `white`, `green`, `amber`, `red`, and whatever comes after them.
    pub tlp: Option<String>,
    pub public: Option<bool>,
    pub adversary: Option<String>,
    pub tags: Vec<String>,
    pub references: Vec<String>,
    pub industries: Vec<String>,
    /// Names of countries, as OTX writes them.
    pub targeted_countries: Vec<String>,
    pub malware_families: Vec<String>,
    /// `T1059` and the like.
    pub attack_ids: Vec<String>,
    pub groups: Vec<String>,
    /// Whether it has indicators beyond those that came with it.
    pub more_indicators: bool,
    /// How many it says that it has.
    pub indicator_count: Option<u64>,
    /// It as it came, without its indicators, without what changes from call to call and without what is empty.
    pub raw: Body,
}

/// Fields of a pulse that change without its being edited, or depend on who asks.
const VOLATILE: [&str; 21] = [
    "clone_count",
    "cloned_from",
    "comment_count",
    "downvotes_count",
    "export_count",
    "follower_count",
    "in_group",
    "is_author",
    "is_following",
    "is_modified",
    "is_subscribed",
    "is_subscribing",
    "locked",
    "modified_text",
    "related_indicator_is_active",
    "subscriber_count",
    "threat_hunter_has_agents",
    "threat_hunter_scannable",
    "upvotes_count",
    "validator_count",
    "vote",
];

/// Reads a pulse, and gives its indicators as text; `None` where it has no list of them at all.
///
/// # Errors
/// Why it is none.
pub fn pulse(raw: &RawValue) -> Result<(Pulse, Option<Vec<&RawValue>>), String> {
    let parts: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get())
        .map_err(|_| format!("a pulse is no JSON object: `{}`", head(raw.get())))?;
    let indicators = parts.get("indicators").and_then(|list| list_of(list));
    let mut fields: Body = parts
        .iter()
        .filter(|(name, _)| *name != "indicators")
        .filter_map(|(name, value)| Some((name.clone(), serde_json::from_str(value.get()).ok()?)))
        .collect();
    let get = |name: &str| fields.get(name).unwrap_or(&Value::Null);
    let id = text(get("id")).or_else(|| text(get("_id"))).map(|id| id.to_ascii_lowercase());
    let is_id = |id: &String| id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = id.filter(is_id).ok_or_else(|| {
        format!("a pulse has no id of 24 hexadecimal digits: `{}`", head(raw.get()))
    })?;
    let author = get("author");
    let pulse = Pulse {
        name: text(get("name")),
        description: text(get("description")),
        author_name: text(get("author_name")).or_else(|| text(&author["username"])),
        author_id: text(&author["id"]),
        created: instant(get("created")),
        modified: instant(get("modified")),
        revision: number(get("revision")),
        tlp: text(get("tlp")).or_else(|| text(get("TLP"))),
        public: flag(get("public")),
        adversary: text(get("adversary")),
        tags: names(get("tags"), &["name"]),
        references: names(get("references"), &["url"]),
        industries: names(get("industries"), &["name"]),
        targeted_countries: names(get("targeted_countries"), &["name"]),
        malware_families: names(get("malware_families"), &["display_name", "id"]),
        attack_ids: names(get("attack_ids"), &["id", "name"]),
        groups: names(get("groups"), &["name", "id"]),
        more_indicators: flag(get("more_indicators")).unwrap_or(false),
        indicator_count: number(get("indicator_count")).and_then(|count| u64::try_from(count).ok()),
        raw: Body::new(),
        id,
    };
    fields.retain(|name, value| !VOLATILE.contains(&name.as_str()) && !is_empty(value));
    Ok((Pulse { raw: fields, ..pulse }, indicators))
}

fn list_of(raw: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw.get()).ok()
}

/// An indicator of a pulse.
#[derive(Clone, Debug, PartialEq)]
pub struct PulseIndicator {
    pub indicator: Indicator,
    /// OTX's word for its type.
    pub type_original: String,
    pub title: Option<String>,
    pub description: Option<String>,
    /// The text of a YARA rule.
    pub content: Option<String>,
    pub role: Option<String>,
    pub created: Option<Timestamp>,
    pub expiration: Option<Timestamp>,
    /// What OTX says; where it says nothing, it is.
    pub is_active: bool,
}

/// Reads an indicator of a pulse.
///
/// # Errors
/// Why it is none.
pub fn pulse_indicator(raw: &RawValue) -> Result<PulseIndicator, String> {
    let fields: Body = serde_json::from_str(raw.get())
        .map_err(|_| format!("an indicator is no JSON object: `{}`", head(raw.get())))?;
    let get = |name: &str| fields.get(name).unwrap_or(&Value::Null);
    let Value::String(value) = get("indicator") else {
        return Err(format!("an indicator has no value: `{}`", head(raw.get())));
    };
    let type_original = text(get("type")).unwrap_or_default();
    let content = text(get("content"));
    Ok(PulseIndicator {
        indicator: indicator_of(&type_original, value, content.as_deref())?,
        type_original,
        title: text(get("title")),
        description: text(get("description")),
        content,
        role: text(get("role")),
        created: instant(get("created")),
        expiration: instant(get("expiration")),
        is_active: flag(get("is_active")).unwrap_or(true),
    })
}

/// OTX's types in our words; `None` for one that is not known.
pub fn kind_of(type_original: &str) -> Option<IndicatorKind> {
    let word = type_original.trim().to_ascii_lowercase();
    let word = word.strip_prefix("filehash-").unwrap_or(&word);
    Some(match word {
        "ipv4" => IndicatorKind::Ipv4,
        "ipv6" => IndicatorKind::Ipv6,
        "cidr" => IndicatorKind::Cidr,
        "domain" => IndicatorKind::Domain,
        "hostname" => IndicatorKind::Hostname,
        "url" | "uri" => IndicatorKind::Url,
        "email" => IndicatorKind::Email,
        "md5" => IndicatorKind::Md5,
        "sha1" => IndicatorKind::Sha1,
        "sha256" => IndicatorKind::Sha256,
        "sha512" => IndicatorKind::Sha512,
        "pehash" => IndicatorKind::Pehash,
        "imphash" => IndicatorKind::Imphash,
        "ssdeep" => IndicatorKind::Ssdeep,
        "ja3" => IndicatorKind::Ja3,
        "filepath" | "filename" => IndicatorKind::Filename,
        "mutex" => IndicatorKind::Mutex,
        "cve" => IndicatorKind::Cve,
        "yara" => IndicatorKind::Yara,
        "bitcoinaddress" | "btc" => IndicatorKind::Btc,
        _ => return None,
    })
}

/// Kinds that a value shows by itself, whatever type it came under.
const EVIDENT: [IndicatorKind; 9] = [
    IndicatorKind::Ipv4,
    IndicatorKind::Ipv6,
    IndicatorKind::IpPort,
    IndicatorKind::Cidr,
    IndicatorKind::Domain,
    IndicatorKind::Hostname,
    IndicatorKind::Url,
    IndicatorKind::Email,
    IndicatorKind::Cve,
];

/// Kinds that a value shows where it is a file's hash of another length; digits of an unknown type may be of anything, as of a
/// certificate.
const HASHES: [IndicatorKind; 4] =
    [IndicatorKind::Md5, IndicatorKind::Sha1, IndicatorKind::Sha256, IndicatorKind::Sha512];

/// The indicator of a value under OTX's type: as that type, else as what it evidently is. What is of no type of ours, and a
/// path that came as URI, is kept as `other`.
pub(crate) fn indicator_of(
    type_original: &str,
    value: &str,
    content: Option<&str>,
) -> Result<Indicator, String> {
    let kind = kind_of(type_original);
    if kind == Some(IndicatorKind::Yara) {
        return yara(value, content);
    }
    if let Some(kind) = kind
        && let Ok(indicator) = indicator::parse(Some(kind), value)
    {
        return Ok(indicator);
    }
    let found = indicator::parse(None, value).ok();
    let is_evident = |found: &Indicator| {
        EVIDENT.contains(&found.kind) || (kind.is_some() && HASHES.contains(&found.kind))
    };
    if let Some(evident) = found.filter(is_evident) {
        return Ok(evident);
    }
    match kind {
        // `/gate.php?id=` names no host.
        None | Some(IndicatorKind::Url) => indicator::parse(Some(IndicatorKind::Other), value),
        Some(kind) => indicator::parse(Some(kind), value),
    }
    .map_err(|rejected| format!("type `{type_original}`: {rejected}"))
}

/// A rule is its text, which stands in `content`; `indicator` is the SHA-1 of it. One that is too long for a value goes by
/// that, and one without text is none.
fn yara(sha1: &str, content: Option<&str>) -> Result<Indicator, String> {
    let named = |kind| {
        indicator::parse(Some(kind), sha1).map_err(|rejected| format!("type `YARA`: {rejected}"))
    };
    let Some(content) = content else { return named(IndicatorKind::Other) };
    match indicator::parse(Some(IndicatorKind::Yara), content) {
        Ok(rule) => Ok(Indicator { raw: sha1.to_owned(), ..rule }),
        Err(_) => named(IndicatorKind::Yara),
    }
}

/// Something that happened to what an account is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `subscribe`, `unsubscribe`, `delete`.
    pub action: String,
    /// `pulse`, `user`, `group`.
    pub object_type: String,
    /// A pulse's id, a user's name or id.
    pub object_id: String,
    pub created: Option<Timestamp>,
}

/// Reads an event; `None` where it is none.
pub fn event(raw: &RawValue) -> Option<Event> {
    let fields: Body = serde_json::from_str(raw.get()).ok()?;
    let of = |name: &str| fields.get(name).and_then(text);
    Some(Event {
        action: of("action")?.to_ascii_lowercase(),
        object_type: of("object_type")?.to_ascii_lowercase(),
        object_id: of("object_id")?,
        created: fields.get("created").and_then(instant),
    })
}

/// Letters of what is malformed that a reason shows.
const HEAD_LETTERS: usize = 80;

fn head(text: &str) -> String {
    text.chars().take(HEAD_LETTERS).collect()
}

/// A text that is not empty; a number counts as one.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// `true`, `1`, `"1"`, `"true"` and their opposites.
fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => number.as_f64().map(|number| number != 0.0),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Dates without a zone are UTC.
fn instant(value: &Value) -> Option<Timestamp> {
    date::instant(value.as_str()?.trim())
}

/// Each distinct text of a list, or the first of `keys` that its objects have.
pub(crate) fn names(value: &Value, keys: &[&str]) -> Vec<String> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let name = |item: &Value| match item {
        Value::Object(fields) => keys.iter().find_map(|key| text(fields.get(*key)?)),
        other => text(other),
    };
    let mut seen = HashSet::new();
    items.iter().filter_map(name).filter(|name| seen.insert(name.clone())).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).unwrap()
    }

    fn read(value: &Value) -> Pulse {
        pulse(&raw(value)).unwrap().0
    }

    const ID: &str = "5b435a647ea69841f53c5bba";

    #[test]
    fn a_page_is_read_whatever_stands_beside_its_results() {
        let body = br#"{"count":2,"next":null,"previous":null,"t":0.1,"t2":[],"prefetch_pulse_ids":false,"results":[{"a":1},7]}"#;
        let page = Page::read(body).unwrap();
        assert_eq!((page.count, page.next, page.results.len()), (Some(2), None, 2));
        let odd = Page::read(br#"{"count":"two","next":"u","results":[]}"#).unwrap();
        assert_eq!((odd.count, odd.next.as_deref()), (None, Some("u")));
        for other in ["", "[]", "{}", r#"{"results":{}}"#, "<html>"] {
            assert!(Page::read(other.as_bytes()).is_err(), "{other}");
        }
    }

    #[test]
    fn the_shapes_of_all_endpoints_and_years_are_one_pulse() {
        let subscribed = read(&json!({
            "id": ID, "name": "n", "description": "", "author_name": "AlienVault", "tlp": "green", "public": 1,
            "revision": 2, "adversary": "", "tags": ["a", "a", ""], "references": [], "attack_ids": ["T1059"],
            "malware_families": ["WHIRLPOOL"], "targeted_countries": ["Korea, Republic of"], "more_indicators": false,
            "created": "2018-07-09T12:51:47.792000", "modified": "2018-07-09T12:51:06",
        }));
        let details = read(&json!({
            "id": ID.to_uppercase(), "name": "n", "description": null, "TLP": "green", "public": true, "revision": "2",
            "adversary": null, "author": {"username": "AlienVault", "id": "7"}, "tags": ["a"], "attack_ids":
            [{"id": "T1059", "name": "x", "display_name": "T1059 - x"}], "malware_families":
            [{"id": "WHIRLPOOL", "display_name": "WHIRLPOOL", "target": null}], "more_indicators": 0,
            "targeted_countries": ["Korea, Republic of"],
            "created": "2018-07-09T12:51:47.792Z", "modified": "2018-07-09T12:51:06+00:00", "export_count": 9,
        }));
        assert_eq!(subscribed.modified.unwrap().to_string(), "2018-07-09T12:51:06Z");
        assert_eq!(details.author_id.as_deref(), Some("7"));
        assert!(!details.raw.contains_key("export_count"), "{:?}", details.raw);
        let plain = |pulse: Pulse| Pulse { raw: Body::new(), author_id: None, ..pulse };
        assert_eq!(plain(subscribed), plain(details));
        let private = read(&json!({"_id": ID, "public": false}));
        assert_eq!((private.public, private.tlp), (Some(false), None));
    }

    #[test]
    fn a_field_of_another_type_costs_itself_and_a_pulse_without_id_itself() {
        let odd = read(
            &json!({"id": ID, "tags": {"name": "a"}, "created": 7, "tlp": [], "public": "maybe", "references": "u"}),
        );
        assert_eq!(
            (odd.tags, odd.created, odd.tlp, odd.public),
            (vec!["a".into()], None, None, None)
        );
        assert_eq!(odd.references, ["u"]);
        for value in [json!(7), json!({"id": "x"}), json!({}), json!({"id": null})] {
            pulse(&raw(&value)).expect_err("it is none");
        }
        let (_, none) =
            pulse(&raw(&json!({"id": ID}))).map(|(one, list)| (one, list.is_none())).unwrap();
        assert!(none, "its indicators are elsewhere");
    }

    #[track_caller]
    fn kind(type_original: &str, value: &str, expected: &str) {
        let one = raw(&json!({"indicator": value, "type": type_original, "content": ""}));
        let shown = match pulse_indicator(&one) {
            Ok(one) => format!("{} {}", one.indicator.kind, one.indicator.value),
            Err(_) => "rejected".to_owned(),
        };
        assert_eq!(shown, expected, "{type_original} {value}");
    }

    #[test]
    fn each_type_of_otx_is_one_of_ours() {
        kind("IPv4", "192.168.113.98", "ipv4 192.168.113.98");
        kind("IPv6", "2001:DB8::1", "ipv6 2001:db8::1");
        kind("CIDR", "192.0.2.7/24", "cidr 192.0.2.0/24");
        kind("domain", "Evil.Com", "domain evil.com");
        kind("Domain", "www.evil.com", "hostname www.evil.com");
        kind("hostname", "www.evil.com", "hostname www.evil.com");
        kind("email", "A@evil.com", "email a@evil.com");
        kind("URL", "http://evil.com/x", "url http://evil.com/x");
        kind("URI", "http://evil.com/x", "url http://evil.com/x");
        kind("URI", "/gate.php?id=1", "other /gate.php?id=1");
        kind("URL", "evil.com", "url evil.com/");
        let md5 = "6c0c7ee1f783a1465d1fcad1b227aa43";
        let sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        kind("FileHash-MD5", &md5.to_uppercase(), &format!("md5 {md5}"));
        kind("MD5", md5, &format!("md5 {md5}"));
        kind("FileHash-MD5", sha1, &format!("sha1 {sha1}"));
        kind("FileHash-IMPHASH", md5, &format!("imphash {md5}"));
        kind("FileHash-PEHASH", sha1, &format!("pehash {sha1}"));
        kind("JA3", md5, &format!("ja3 {md5}"));
        kind("FilePath", r"C:\Windows\Temp\a.exe", r"filename C:\Windows\Temp\a.exe");
        kind("Mutex", r"Global\A.b", r"mutex Global\A.b");
        kind("CVE", "cve-2017-0144", "cve CVE-2017-0144");
        kind(
            "BitcoinAddress",
            "1BoatSLRHtKNngkdXEeobR76b53LETtpyT",
            "btc 1BoatSLRHtKNngkdXEeobR76b53LETtpyT",
        );
    }

    #[test]
    fn an_unknown_type_is_kept_and_a_malformed_value_is_a_reject() {
        let sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        // Of a certificate, not of a file.
        kind("SSLCertFingerprint", sha1, &format!("other {sha1}"));
        kind("NewThing", "some text", "other some text");
        kind("NewThing", "192.0.2.1", "ipv4 192.0.2.1");
        kind("FileHash-MD5", "6c0c", "rejected");
        kind("IPv4", "300.1.1.1", "rejected");
        kind("IPv4", "", "rejected");
        assert!(pulse_indicator(&raw(&json!({"type": "IPv4"}))).is_err());
    }

    #[test]
    fn a_yara_rule_is_its_text() {
        let sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        let of = |content: &str| {
            pulse_indicator(&raw(&json!({"indicator": sha1, "type": "YARA", "content": content})))
                .unwrap()
                .indicator
        };
        let text = "rule a { condition: true }";
        assert_eq!(
            (of(text).kind, of(text).value.as_str(), of(text).raw.as_str()),
            (IndicatorKind::Yara, text, sha1)
        );
        let long = format!("rule a {{ condition: true }} // {}", "x".repeat(20_000));
        assert_eq!((of(&long).kind, of(&long).value.as_str()), (IndicatorKind::Yara, sha1));
        assert_eq!(of("").kind, IndicatorKind::Other);
    }

    #[test]
    fn activity_of_an_indicator_comes_in_three_forms() {
        let of = |active: Value| {
            pulse_indicator(&raw(
                &json!({"indicator": "192.0.2.1", "type": "IPv4", "is_active": active}),
            ))
            .unwrap()
            .is_active
        };
        assert!(of(json!(1)) && of(json!(true)) && of(Value::Null));
        assert!(!of(json!(0)) && !of(json!(false)));
    }

    #[test]
    fn events_name_what_was_done_to_what() {
        let of = |value: Value| event(&raw(&value));
        let deleted = of(json!({"id": 1, "action": "delete", "object_type": "pulse", "object_id": ID, "created": "2018-07-09T12:51:06"})).unwrap();
        assert_eq!((deleted.action.as_str(), deleted.object_id.as_str()), ("delete", ID));
        assert_eq!(of(json!({"action": "delete"})), None);
    }

    proptest! {
        #[test]
        fn readers_survive_any_bytes(body in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,60}") {
            let _ = Page::read(&body);
            let value = json!({"id": ID, "indicator": text, "type": text, "indicators": [text]});
            let value = raw(&value);
            let _ = pulse(&value);
            let _ = pulse_indicator(&value);
            let _ = event(&value);
        }
    }
}
