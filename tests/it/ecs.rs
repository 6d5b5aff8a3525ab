//! Documents of indicators beside the Elastic Common Schema's own list of fields: no stranger under `threat.*` and `event.*`, types
//! and lists as it has them, and its words where it allows no others.
//!
//! The part of the list that it needs is always there; the whole where `MINERVA_CORPUS` names the folder that holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base::config;
use indicator::IndicatorKind;
use ioc::{Observation, SourceName, Tlp};
use jiff::Timestamp;
use serde_json::Value;
use stores::documents::{Body, Index, Owner, Plan, plan};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("documents_have_the_schemas_fields_and_no_others", documents_have_the_schemas_fields),
    ("mappings_have_the_schemas_fields_and_no_others", mappings_have_the_schemas_fields),
];

const OWNER: Owner = ioc::owner("ecs");

/// The words that the schema allows or expects: <https://www.elastic.co/docs/reference/ecs/ecs-allowed-values-event-kind>,
/// `…-category`, `…-type`, and the description of `threat.indicator.*`.
const WORDS: &[(&str, &[&str])] = &[
    (
        "event.kind",
        &["alert", "asset", "enrichment", "event", "metric", "state", "pipeline_error", "signal"],
    ),
    ("event.category", &["threat"]),
    ("event.type", &["indicator"]),
    ("threat.indicator.marking.tlp", &["WHITE", "CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED"]),
    ("threat.indicator.confidence", &["Not Specified", "None", "Low", "Medium", "High"]),
];

/// A field's type, and whether it is a list.
type Fields = BTreeMap<String, (String, bool)>;

/// The schema's list. Only the cells before the examples are read, and those never have quotes.
fn fields() -> Fields {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ecs/fields.csv");
    let whole = config::variable("MINERVA_CORPUS")
        .map(|folder| PathBuf::from(folder).join("ecs/fields.csv"));
    let path = whole.filter(|path| path.exists()).unwrap_or(own);
    let text = std::fs::read_to_string(path).expect("the list is there");
    let mut fields = Fields::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.splitn(8, ',').collect();
        if let [_, _, _, field, kind, "core" | "extended" | "custom", normalization, _] = cells[..]
        {
            fields.insert(field.to_owned(), (kind.to_owned(), normalization == "array"));
        }
    }
    assert!(fields.len() > 100, "{}", fields.len());
    fields
}

/// A value of each kind.
const VALUES: &[(IndicatorKind, &str)] = &[
    (IndicatorKind::Ipv4, "192.0.2.1"),
    (IndicatorKind::Ipv6, "2001:db8::1"),
    (IndicatorKind::IpPort, "[2001:db8::1]:443"),
    (IndicatorKind::Cidr, "198.51.100.0/24"),
    (IndicatorKind::Domain, "example.co.uk"),
    (IndicatorKind::Hostname, "a.b.m\u{fc}nchen.de"),
    (IndicatorKind::Url, "hxxps://u:p@www[.]example[.]com:8443/a/b.php?q=1#top"),
    (IndicatorKind::Md5, "d41d8cd98f00b204e9800998ecf8427e"),
    (IndicatorKind::Sha1, "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    (IndicatorKind::Sha224, "d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f"),
    (IndicatorKind::Sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (IndicatorKind::Ssdeep, "3:AXGBicFlgVNhBGcL6wCrFQEv:AXGHsNhxLsr2C"),
    (IndicatorKind::Imphash, "d41d8cd98f00b204e9800998ecf8427e"),
    (IndicatorKind::Pehash, "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    (IndicatorKind::Ja3, "d41d8cd98f00b204e9800998ecf8427e"),
    (IndicatorKind::Filename, "C:\\Temp\\a.exe"),
    (IndicatorKind::FilenameRegex, "\\\\svch.st\\.exe$"),
    (IndicatorKind::Email, "bad@example.com"),
    (IndicatorKind::Mutex, "Global\\abc"),
    (IndicatorKind::Regkey, "HKLM\\SOFTWARE\\Run"),
    (IndicatorKind::Cve, "CVE-2021-44228"),
    (IndicatorKind::Yara, "rule a { condition: true }"),
    (IndicatorKind::Btc, "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    (IndicatorKind::Asn, "AS15169"),
    (IndicatorKind::Other, "something"),
];

/// The document of a value of which everything is said that can be.
fn document(kind: IndicatorKind, value: &str) -> Body {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("an instant");
    let observation = Observation {
        indicator: indicator::parse(Some(kind), value).expect("it is one"),
        type_original: "word".to_owned(),
        source: SourceName {
            id: "feed".to_owned(),
            name: "A feed".to_owned(),
            reference: Some("https://example.org/".to_owned()),
        },
        event: Some("1".to_owned()),
        first_seen: Some(now),
        last_seen: Some(now),
        tlp: Some(Tlp::AmberStrict),
        confidence: Some(80),
        expires_at: Some(now),
        is_listed: true,
        to_ids: Some(true),
        tags: vec!["c2".to_owned()],
        references: vec!["https://example.org/report".to_owned()],
        malware_families: vec!["A family".to_owned()],
        actors: vec!["An actor".to_owned()],
        comment: Some("seen".to_owned()),
        more: Vec::new(),
    };
    let id = ioc::id(OWNER.name, observation.indicator.kind, &observation.indicator.value);
    let write = ioc::write(&OWNER, id, "feed", vec![observation], &[], now, Body::new());
    match plan(None, &write.expect("something is said")) {
        Plan::Create(body) => body,
        other => panic!("{other:?}"),
    }
}

/// Calls `take` with the path and the value of everything that is no object.
fn each_leaf(path: &str, value: &Value, take: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                each_leaf(&format!("{path}.{name}"), value, take);
            }
        }
        Value::Null => {}
        other => take(path, other),
    }
}

/// What is wrong with a value of a field, if anything is.
fn fault(fields: &Fields, path: &str, value: &Value) -> Option<String> {
    let Some((kind, is_list)) = fields.get(path) else { return Some("is no field".to_owned()) };
    let values = match value {
        Value::Array(values) if *is_list => values.as_slice(),
        Value::Array(_) => return Some("is a list".to_owned()),
        _ if *is_list => return Some("is no list".to_owned()),
        one => std::slice::from_ref(one),
    };
    let fits = |value: &Value| match kind.as_str() {
        "keyword" | "wildcard" | "match_only_text" => {
            value.as_str().is_some_and(|text| !text.is_empty())
        }
        "long" => value.is_i64(),
        "date" => value.as_str().is_some_and(|text| text.parse::<Timestamp>().is_ok()),
        "ip" => value.as_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok()),
        _ => false,
    };
    if !values.iter().all(fits) {
        return Some(format!("is no {kind}"));
    }
    let allowed = WORDS.iter().find(|(field, _)| *field == path).map(|(_, words)| *words)?;
    let is_allowed = |value: &Value| value.as_str().is_some_and(|word| allowed.contains(&word));
    (!values.iter().all(is_allowed)).then(|| format!("is none of {allowed:?}"))
}

fn documents_have_the_schemas_fields() {
    let fields = fields();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (kind, value) in VALUES {
        let body = document(*kind, value);
        for root in ["event", "threat"] {
            assert!(body[root].is_object(), "{kind}: {}", body[root]);
            each_leaf(root, &body[root], &mut |path, value| {
                seen.insert(path.to_owned());
                wrong.extend(
                    fault(&fields, path, value)
                        .map(|why| format!("{kind}: `{path}` {value} {why}")),
                );
            });
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    for needed in [
        "event.kind",
        "threat.feed.name",
        "threat.indicator.as.number",
        "threat.indicator.email.address",
        "threat.indicator.file.hash.sha256",
        "threat.indicator.first_seen",
        "threat.indicator.ip",
        "threat.indicator.marking.tlp",
        "threat.indicator.port",
        "threat.indicator.provider",
        "threat.indicator.registry.hive",
        "threat.indicator.url.registered_domain",
        "threat.indicator.url.top_level_domain",
    ] {
        assert!(seen.contains(needed), "no value of any kind sets `{needed}`");
    }
    // The trial finds what is wrong.
    for (path, value) in [
        ("threat.indicator.host", Value::from("a")),
        ("threat.indicator.port", Value::from("443")),
        ("threat.indicator.ip", Value::from("192.0.2.0/24")),
        ("event.kind", Value::from("indicator")),
        ("event.type", Value::from("indicator")),
        ("threat.indicator.marking.tlp", Value::from("clear")),
    ] {
        assert!(fault(&fields, path, &value).is_some(), "{path} {value}");
    }
}

/// Types that a server searches alike, the schema's and ours: it has no `wildcard` on OpenSearch 2, a port is no long number,
/// and a description is searched by its words.
const ALIKE: &[(&str, &str)] = &[("wildcard", "keyword"), ("long", "integer"), ("keyword", "text")];

fn mappings_have_the_schemas_fields() {
    let fields = fields();
    let mut wrong = Vec::new();
    for name in ["cti_misp_iocs", "otx_indicators", "signature_base_iocs"] {
        let index = Index::named(name).expect("it is there");
        let mut mapped = BTreeSet::new();
        for root in ["event", "threat"] {
            each_type(root, &index.mapping["properties"][root], &mut |path, ours| {
                mapped.insert(path.to_owned());
                let theirs = fields.get(path).map(|(kind, _)| kind.as_str());
                let is_alike =
                    theirs.is_some_and(|theirs| theirs == ours || ALIKE.contains(&(theirs, ours)));
                if !is_alike {
                    wrong.push(format!("{name}: `{path}` is {ours}, not {theirs:?}"));
                }
            });
        }
        for (kind, value) in VALUES {
            let body = document(*kind, value);
            for root in ["event", "threat"] {
                each_leaf(root, &body[root], &mut |path, _| {
                    if !mapped.contains(path) {
                        wrong.push(format!("{name}: `{path}` is not mapped"));
                    }
                });
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert_eq!(wrong, Vec::<String>::new());
}

fn each_type(path: &str, form: &Value, take: &mut dyn FnMut(&str, &str)) {
    if let Some(kind) = form["type"].as_str() {
        take(path, kind);
    }
    for (name, form) in form["properties"].as_object().into_iter().flatten() {
        each_type(&format!("{path}.{name}"), form, take);
    }
}
