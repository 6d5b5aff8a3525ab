//! What OTX knows of one indicator: which sections it has for which type, and what of their answers is kept.

use std::net::IpAddr;

use indicator::IndicatorKind;
use serde_json::{Map, Value, json};
use stores::documents::{Body, Contributions, Owner, Write};

use crate::wire::{names, text};

/// What an enrichment writes into an indicator, of whichever family; also when it was asked, where the answer is the same again,
/// as what is due is told by that.
pub const OWNER: Owner = Owner {
    fields: &[
        "enriched_at",
        "enrichment",
        "otx_found",
        "otx_pulse_count",
        "otx_country",
        "otx_asn",
        "otx_validation",
    ],
    ..Owner::named("otx_enrichment")
};

/// The tag of what OTX's own validation calls benign, beside the tags of the indicator's sources.
pub const TAGS: Owner = Owner {
    shared: &[ADDED],
    derived: &["tags"],
    derive: Some(tags),
    ..Owner::named("otx_validation")
};

const ADDED: &str = "added_tags";

/// What is known at OTX as harmless: on its whitelists, among the most visited, or reported as a false positive and confirmed.
const BENIGN: &str = "otx:benign";

/// Pulses whose words are gathered, and how many of each kind of thing are kept.
const PULSES: usize = 20;
const TAGS_MAX: usize = 30;
const SAMPLES: usize = 5;
const NAMES: usize = 5;
const RECORDS: usize = 10;

fn tags(all: &Contributions<'_>) -> Body {
    let mut derived = ioc::derive(all);
    derived.retain(|name, _| name == "tags");
    derived
}

/// What OTX calls a type in an address, and its sections, the first of which tells whether it knows the value; nothing for
/// types that it has no address for.
pub fn sections(kind: IndicatorKind) -> Option<(&'static str, &'static [&'static str])> {
    const ADDRESS: &[&str] = &[
        "general",
        "reputation",
        "geo",
        "malware",
        "url_list",
        "passive_dns",
        "http_scans",
        "nids_list",
    ];
    const NAME: &[&str] =
        &["general", "geo", "malware", "url_list", "passive_dns", "whois", "http_scans"];
    Some(match kind {
        IndicatorKind::Ipv4 => ("IPv4", ADDRESS),
        IndicatorKind::Ipv6 => ("IPv6", ADDRESS),
        IndicatorKind::Domain => ("domain", NAME),
        IndicatorKind::Hostname => ("hostname", NAME),
        IndicatorKind::Url => ("url", &["general", "url_list"]),
        IndicatorKind::Md5 | IndicatorKind::Sha1 | IndicatorKind::Sha256 => {
            ("file", &["general", "analysis"])
        }
        IndicatorKind::Cve => ("cve", &["general"]),
        _ => return None,
    })
}

/// The path of a section; the value is escaped whole, as one part of it.
pub fn path(slug: &str, value: &str, section: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("indicators/{slug}/{escaped}/{section}")
}

/// Whether an address is one that others can reach; of other kinds all are.
pub fn is_public(kind: IndicatorKind, value: &str) -> bool {
    if !matches!(kind, IndicatorKind::Ipv4 | IndicatorKind::Ipv6) {
        return true;
    }
    match value.parse() {
        Ok(IpAddr::V4(ip)) => {
            let [first, second, ..] = ip.octets();
            // 0/8, 100.64/10 and 240/4 are nobody's either.
            let is_other =
                first == 0 || (first == 100 && second & 0xc0 == 64) || first & 0xf0 == 240;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || is_other)
        }
        Ok(IpAddr::V6(ip)) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unique_local()
                || ip.is_unicast_link_local())
        }
        Err(_) => false,
    }
}

/// What an indicator came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Enrichment {
    /// Whether a pulse names it.
    pub found: bool,
    pub pulse_count: u64,
    pub country: Option<String>,
    pub asn: Option<String>,
    /// Names of the lists on which OTX has it as harmless.
    pub validation: Vec<String>,
    pub is_benign: bool,
    /// What is kept of all sections.
    pub kept: Map<String, Value>,
}

impl Enrichment {
    /// One that OTX has nothing on, or was not asked for, and why.
    pub fn none(why: Option<&str>) -> Self {
        let mut kept = Map::from_iter([("found".to_owned(), json!(false))]);
        if let Some(why) = why {
            kept.insert("why".to_owned(), json!(why));
        }
        Self { kept, ..Self::default() }
    }

    /// What the sections say that answered, and which did not.
    pub fn of(answers: &[(&str, Value)], failed: &[&str]) -> Self {
        let section = |name: &str| {
            answers.iter().find(|(known, _)| *known == name).map_or(&Value::Null, |(_, body)| body)
        };
        let general = section("general");
        let info = &general["pulse_info"];
        let pulses = list(&info["pulses"]);
        let pulse_count = info["count"].as_u64().unwrap_or(pulses.len() as u64);
        // Of addresses the place stands in `general` too.
        let geo = match section("geo") {
            Value::Object(_) => section("geo"),
            _ => general,
        };
        let country = text(&geo["country_code"]).or_else(|| text(&geo["country_code2"]));
        let validation = named(&general["validation"]);
        let confirmed = list(&general["false_positive"]).iter().any(|one| {
            one["assessment"].as_str().is_some_and(|word| word.eq_ignore_ascii_case("accepted"))
        });
        let mut kept = Map::new();
        let mut set = |name: &str, value: Value| {
            if !is_nothing(&value) {
                kept.insert(name.to_owned(), value);
            }
        };
        set("found", json!(pulse_count > 0));
        set("indicator", general["indicator"].clone());
        set("type", json!(text(&general["type"])));
        set("pulse_count", json!(pulse_count));
        // The list may be shorter than what it counts.
        set("pulses_listed", json!(pulses.len()));
        set("pulse_names", json!(gathered(pulses, &["name"], &[], NAMES)));
        set("references", json!(first(names(&info["references"], &[]), RECORDS)));
        set(
            "threat_intel",
            object([
                ("tags", json!(gathered(pulses, &["tags"], &["name"], TAGS_MAX))),
                ("adversaries", json!(gathered(pulses, &["adversary"], &[], TAGS_MAX))),
                ("attack_ids", json!(gathered(pulses, &["attack_ids"], &["id", "name"], TAGS_MAX))),
                (
                    "malware_families",
                    json!(gathered(
                        pulses,
                        &["malware_families"],
                        &["display_name", "id"],
                        TAGS_MAX
                    )),
                ),
                ("industries", json!(gathered(pulses, &["industries"], &["name"], TAGS_MAX))),
            ]),
        );
        let reputation = section("reputation");
        let reputation = match &reputation["reputation"] {
            Value::Object(_) => &reputation["reputation"],
            _ => reputation,
        };
        set(
            "reputation",
            object([
                ("threat_score", reputation["threat_score"].clone()),
                ("reputation_score", general["reputation"].clone()),
            ]),
        );
        set(
            "geo",
            object([
                ("country", json!(text(&geo["country_name"]))),
                ("country_code", json!(country)),
                ("city", json!(text(&geo["city"]))),
                ("asn", json!(text(&geo["asn"]))),
                ("continent", json!(text(&geo["continent_code"]))),
                ("latitude", geo["latitude"].clone()),
                ("longitude", geo["longitude"].clone()),
            ]),
        );
        let malware = section("malware");
        let samples = list(&malware["data"]);
        let sample = |one: &Value| {
            object([
                ("hash", json!(text(&one["hash"]))),
                ("date", json!(text(&one["date"]))),
                ("detections", one["detections"].clone()),
            ])
        };
        set(
            "malware",
            object([
                ("count", count(malware, &["count", "size"], samples.len())),
                ("samples", samples.iter().take(SAMPLES).map(sample).collect()),
            ]),
        );
        let dns = section("passive_dns");
        let records = list(&dns["passive_dns"]);
        let record = |one: &Value| {
            let keys = ["hostname", "address", "record_type", "first", "last", "asn"];
            object(keys.map(|key| (key, json!(text(&one[key])))))
        };
        set(
            "passive_dns",
            object([
                ("count", count(dns, &["count"], records.len())),
                ("records", records.iter().take(RECORDS).map(record).collect()),
            ]),
        );
        let urls = section("url_list");
        let listed = list(&urls["url_list"]);
        set(
            "url_list",
            object([
                ("count", count(urls, &["full_size", "actual_size"], listed.len())),
                ("urls", json!(gathered(listed, &["url"], &[], RECORDS))),
            ]),
        );
        let scans = list(&section("http_scans")["data"]);
        set("http_scans", object([("count", counted(scans.len()))]));
        let nids = section("nids_list");
        let rules = list(&nids["results"]);
        set(
            "nids",
            object([
                ("count", count(nids, &["count"], rules.len())),
                ("names", json!(gathered(rules, &["name"], &[], RECORDS))),
            ]),
        );
        set("whois", json!(text(&general["whois"]).or_else(|| text(&section("whois")["whois"]))));
        set("whois_records", {
            let records = list(&section("whois")["data"]).iter().take(RECORDS);
            let shown = |one: &Value| {
                object(["key", "name", "value"].map(|key| (key, json!(text(&one[key])))))
            };
            records.map(shown).collect()
        });
        let info = &section("analysis")["analysis"]["info"]["results"];
        set(
            "analysis",
            object([
                ("file_class", json!(text(&info["file_class"]))),
                ("file_type", json!(text(&info["file_type"]))),
                ("filesize", info["filesize"].clone()),
                ("md5", json!(text(&info["md5"]))),
                ("sha1", json!(text(&info["sha1"]))),
                ("sha256", json!(text(&info["sha256"]))),
            ]),
        );
        set("validation", json!(validation));
        set("failed_sections", json!(failed));
        Self {
            found: pulse_count > 0,
            pulse_count,
            country,
            asn: text(&geo["asn"]),
            is_benign: confirmed || !validation.is_empty(),
            validation,
            kept,
        }
    }

    /// It as a part of a document. The tag is set only where the document's sources tell its other tags.
    pub fn write(&self, id: &str, at: &str, can_be_tagged: bool, was_tagged: bool) -> Write {
        let fields = [
            ("enriched_at", json!(at)),
            ("enrichment", json!({ "otx": self.kept })),
            ("otx_found", json!(self.found)),
            ("otx_pulse_count", json!(self.pulse_count)),
            ("otx_country", json!(self.country)),
            ("otx_asn", json!(self.asn)),
            ("otx_validation", json!(self.validation)),
        ];
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let write = Write::of(id, &OWNER, fields);
        if !can_be_tagged || !(self.is_benign || was_tagged) {
            return write;
        }
        let tags: &[&str] = if self.is_benign { &[BENIGN] } else { &[] };
        write.and(&TAGS, Body::from_iter([(ADDED.to_owned(), json!(tags))]))
    }
}

/// Whether the tag stands in a document.
pub fn is_tagged(body: &Body) -> bool {
    list(body.get(ADDED).unwrap_or(&Value::Null)).contains(&json!(BENIGN))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The names of lists that a value is on, or where those are from.
fn named(validation: &Value) -> Vec<String> {
    let name = |one: &Value| text(&one["source"]).or_else(|| text(&one["name"]));
    let mut all: Vec<String> = list(validation).iter().filter_map(name).collect();
    all.sort();
    all.dedup();
    all
}

/// Distinct texts under a key of the first items, in order.
fn gathered(items: &[Value], key: &[&str; 1], within: &[&str], most: usize) -> Vec<String> {
    let mut all = Vec::new();
    for name in items.iter().take(PULSES).flat_map(|item| names(&item[key[0]], within)) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    first(all, most)
}

fn first(mut all: Vec<String>, most: usize) -> Vec<String> {
    all.truncate(most);
    all
}

fn counted(count: usize) -> Value {
    if count == 0 { Value::Null } else { json!(count) }
}

/// How many there are: as it says, else as came.
fn count(section: &Value, keys: &[&str], listed: usize) -> Value {
    let told = keys.iter().find_map(|key| section[*key].as_u64()).filter(|count| *count > 0);
    told.map_or_else(|| counted(listed), |count| json!(count))
}

/// An object of what is something; null where nothing is.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter().filter(|(_, value)| !is_nothing(value));
    let fields: Map<String, Value> = fields.map(|(name, value)| (name.to_owned(), value)).collect();
    if fields.is_empty() { Value::Null } else { Value::Object(fields) }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null()
        || value == &json!("")
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(Map::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_escaped_whole() {
        let url = "http://e.org/a b?x=1&y=%2F#z";
        assert_eq!(
            path("url", url, "general"),
            "indicators/url/http%3A%2F%2Fe.org%2Fa%20b%3Fx%3D1%26y%3D%252F%23z/general"
        );
    }

    #[test]
    fn types_without_an_address_at_otx_have_no_sections() {
        for kind in IndicatorKind::ALL {
            let has_none = matches!(
                kind,
                IndicatorKind::Email
                    | IndicatorKind::Cidr
                    | IndicatorKind::Mutex
                    | IndicatorKind::Filename
                    | IndicatorKind::Pehash
                    | IndicatorKind::Imphash
            );
            assert!(!has_none || sections(kind).is_none(), "{kind}");
        }
        assert_eq!(sections(IndicatorKind::Sha1), Some(("file", &["general", "analysis"][..])));
        assert_eq!(sections(IndicatorKind::Ipv6).unwrap().1.len(), 8);
    }

    #[test]
    fn addresses_of_nobody_are_not_asked_for() {
        let of = |value: &str| {
            is_public(
                if value.contains(':') { IndicatorKind::Ipv6 } else { IndicatorKind::Ipv4 },
                value,
            )
        };
        for own in [
            "192.168.113.98",
            "10.0.0.1",
            "127.0.0.1",
            "100.64.0.1",
            "240.0.0.1",
            "0.1.2.3",
            "fe80::1",
            "fd00::1",
            "::1",
        ] {
            assert!(!of(own), "{own}");
        }
        assert!(of("8.8.4.4") && of("2a00::1") && is_public(IndicatorKind::Domain, "evil.com"));
    }

    #[test]
    fn what_all_sections_say_is_kept_in_part() {
        let pulse = |name: &str| {
            json!({"name": name, "TLP": "white", "adversary": "A", "tags": ["t", name], "attack_ids":
            [{"id": "T1059", "name": "x"}], "malware_families": [{"id": "W", "display_name": "Whirl"}]})
        };
        let general = json!({"indicator": "8.8.4.4", "type": "IPv4", "country_code": "US", "country_name": "United States",
            "asn": "AS15169 GOOGLE", "city": null, "reputation": 0, "validation": [{"source": "alexa", "message": "m", "name": "n"}],
            "pulse_info": {"count": 90, "references": ["r"], "pulses": [pulse("a"), pulse("b")]}});
        let answers = [
            ("general", general),
            ("reputation", json!({"reputation": null})),
            (
                "malware",
                json!({"data": [{"hash": "h", "date": "d", "detections": {"avast": "x"}, "datetime_int": 1}], "count": 1}),
            ),
            (
                "passive_dns",
                json!({"passive_dns": [{"hostname": "h", "address": "a", "first": "f", "last": "l", "flag_title": "x"}], "count": 700}),
            ),
            ("url_list", json!({"url_list": [{"url": "u"}], "full_size": 3})),
            ("http_scans", json!({"Error": "No http scans record"})),
        ];
        let one = Enrichment::of(&answers, &["geo"]);
        assert_eq!((one.found, one.pulse_count, one.is_benign), (true, 90, true));
        assert_eq!(
            (one.country.as_deref(), one.asn.as_deref()),
            (Some("US"), Some("AS15169 GOOGLE"))
        );
        assert_eq!(one.validation, ["alexa"]);
        let kept = Value::Object(one.kept);
        assert_eq!(kept["pulses_listed"], 2);
        assert_eq!(
            kept["threat_intel"],
            json!({"tags": ["t", "a", "b"], "adversaries": ["A"], "attack_ids": ["T1059"], "malware_families": ["Whirl"]})
        );
        assert_eq!(kept["passive_dns"]["count"], 700);
        assert_eq!(kept["url_list"], json!({"count": 3, "urls": ["u"]}));
        assert_eq!(kept["malware"]["samples"][0]["detections"]["avast"], "x");
        assert_eq!((kept.get("http_scans"), &kept["failed_sections"]), (None, &json!(["geo"])));
    }

    #[test]
    fn bodies_of_any_shape_are_survived() {
        for odd in [
            json!(null),
            json!([]),
            json!("x"),
            json!({"pulse_info": [], "validation": "x"}),
            json!({"analysis": null}),
        ] {
            let names = [
                "general",
                "reputation",
                "geo",
                "malware",
                "url_list",
                "passive_dns",
                "http_scans",
                "nids_list",
                "whois",
                "analysis",
            ];
            let answers: Vec<(&str, Value)> = names.map(|name| (name, odd.clone())).into();
            assert!(!Enrichment::of(&answers, &[]).found);
        }
    }
}
