//! A STIX 2.1 bundle: an `indicator` each, a `vulnerability` for a CVE number, the markings that they use.
//!
//! <https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html>. Ids are UUIDs of version 5. A kind that STIX has no object for has no
//! pattern either, and is left out.

use std::collections::BTreeSet;

use base::Result;
use indicator::IndicatorKind;
use ioc::{Tlp, misp_feed};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::form::{Added, Form};
use super::output::Output;
use crate::commands::indicators::Stored;

/// Bytes of a description and of a pattern that is a rule; a consumer refuses an object of megabytes.
const TEXT_BYTES_MAX: usize = 64 << 10;

pub(super) struct Bundle {
    out: Output,
    maker: String,
    markings: BTreeSet<Tlp>,
    /// What the bundle's id follows from: the ids of all before, and how each is.
    chain: uuid::Uuid,
}

impl Bundle {
    pub(super) fn begin(out: Output) -> Result<Self> {
        let maker = format!("identity--{}", misp_feed::id(&["stix", "identity"]));
        let chain = misp_feed::id(&["stix", "bundle"]);
        let mut bundle = Self { out, maker, markings: BTreeSet::new(), chain };
        bundle.out.write("{\"type\":\"bundle\",\"objects\":[\n")?;
        let began = time(Timestamp::UNIX_EPOCH);
        let identity = json!({
            "type": "identity", "spec_version": "2.1", "id": bundle.maker, "created": began, "modified": began,
            "name": "Minerva", "identity_class": "system",
        });
        bundle.out.write(&identity.to_string())?;
        Ok(bundle)
    }

    fn object(&mut self, object: &Value) -> Result<()> {
        let text = object.to_string();
        self.chain = misp_feed::id(&["stix", &self.chain.to_string(), &text]);
        self.out.write(",\n")?;
        self.out.write(&text)
    }
}

impl Form for Bundle {
    fn add(&mut self, one: &Stored<'_>) -> Result<Added> {
        let kind = one.kind();
        let mut object = Map::new();
        let mut set = |name: &str, value: Value| {
            if !value.is_null() {
                object.insert(name.to_owned(), value);
            }
        };
        let name = if kind == IndicatorKind::Cve { "vulnerability" } else { "indicator" };
        let id = misp_feed::id(&["stix", one.id]);
        set("type", json!(name));
        set("spec_version", json!("2.1"));
        set("id", json!(format!("{name}--{id}")));
        set("created_by_ref", json!(self.maker));
        let (created, modified) = versions(one);
        set("created", json!(time(created)));
        set("modified", json!(time(modified)));
        set("name", json!(head(one.value(), TEXT_BYTES_MAX)));
        let description = head(one.text("description"), TEXT_BYTES_MAX);
        set("description", json!(Some(description).filter(|text| !text.is_empty())));
        let mut references: Vec<Value> = Vec::new();
        if kind == IndicatorKind::Cve {
            references.push(json!({ "source_name": "cve", "external_id": one.value() }));
        } else {
            let Some((language, pattern)) = pattern(one) else { return Ok(Added::NoForm) };
            set(
                "indicator_types",
                json!([if one.is_likely_harmless() { "benign" } else { "malicious-activity" }]),
            );
            set("pattern", json!(pattern));
            set("pattern_type", json!(language));
            let from = one.instant("first_seen").unwrap_or(created);
            set("valid_from", json!(time(from)));
            let until = [one.instant("expires_at"), one.instant("left_at")];
            let until = until.into_iter().flatten().filter(|until| *until > from).min();
            set("valid_until", json!(until.map(time)));
        }
        for url in [one.list("references"), one.list("reference")].concat() {
            if url::Url::parse(url).is_ok() {
                references.push(json!({ "source_name": one.feed(), "url": url }));
            }
        }
        set("external_references", json!(Some(references).filter(|list| !list.is_empty())));
        set("confidence", json!(confidence(one.text("confidence"))));
        let warnings = one.warnings().into_iter().map(|name| format!("warninglist:{name}"));
        let labels: Vec<String> =
            one.list("tags").into_iter().map(str::to_owned).chain(warnings).collect();
        set("labels", json!(Some(labels).filter(|list| !list.is_empty())));
        if let Some(tlp) = one.tlp() {
            self.markings.insert(tlp);
            set("object_marking_refs", json!([marking(tlp)]));
        }
        self.object(&Value::Object(object))?;
        Ok(Added::Written)
    }

    fn end(mut self: Box<Self>) -> Result<()> {
        for tlp in std::mem::take(&mut self.markings) {
            self.object(&definition(tlp))?;
        }
        let id = self.chain;
        self.out.write(&format!("\n],\"id\":\"bundle--{id}\"}}\n"))?;
        self.out.end()
    }
}

/// When it was made and when it was changed: each change of the document counts a millisecond, as some change no date.
fn versions(one: &Stored<'_>) -> (Timestamp, Timestamp) {
    let of = |names: &[&str]| names.iter().filter_map(|name| one.instant(name)).collect::<Vec<_>>();
    let first = of(&["collected_at", "first_seen"]).first().copied();
    let created = first.unwrap_or(Timestamp::UNIX_EPOCH);
    let latest = of(&["collected_at", "left_at"]).into_iter().max().unwrap_or(created).max(created);
    let changes = one.number("revision").unwrap_or(1).saturating_sub(1);
    let changes = SignedDuration::from_millis(i64::try_from(changes).unwrap_or(i64::MAX));
    (created, latest.checked_add(changes).unwrap_or(latest))
}

fn time(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn head(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The schema's words on the standard's scale (appendix A, "None / Low / Med / High").
fn confidence(word: &str) -> Option<u8> {
    match word {
        "None" => Some(0),
        "Low" => Some(15),
        "Medium" => Some(50),
        "High" => Some(85),
        _ => None,
    }
}

/// The pattern of an indicator with its language; none where there are no words for the kind.
fn pattern(one: &Stored<'_>) -> Option<(&'static str, String)> {
    let value = one.value();
    let is = |path: &str| format!("[{path} = {}]", literal(value));
    let pattern = match one.kind() {
        IndicatorKind::Ipv4 => is("ipv4-addr:value"),
        IndicatorKind::Ipv6 => is("ipv6-addr:value"),
        IndicatorKind::Cidr => {
            let version = if value.contains(':') { 6 } else { 4 };
            format!("[ipv{version}-addr:value ISSUBSET {}]", literal(value))
        }
        IndicatorKind::IpPort => {
            let (ip, port) = value.rsplit_once(':')?;
            let ip = ip.trim_matches(['[', ']']);
            let port: u16 = port.parse().ok()?;
            let version = if ip.contains(':') { 6 } else { 4 };
            format!(
                "[network-traffic:dst_ref.type = 'ipv{version}-addr' AND network-traffic:dst_ref.value = {} AND network-traffic:dst_port = {port}]",
                literal(ip)
            )
        }
        IndicatorKind::Domain | IndicatorKind::Hostname => is("domain-name:value"),
        IndicatorKind::Url => is("url:value"),
        IndicatorKind::Email => is("email-addr:value"),
        IndicatorKind::Md5 => is("file:hashes.MD5"),
        IndicatorKind::Sha1 => is("file:hashes.'SHA-1'"),
        IndicatorKind::Sha224 => is("file:hashes.'SHA-224'"),
        IndicatorKind::Sha256 => is("file:hashes.'SHA-256'"),
        IndicatorKind::Sha384 => is("file:hashes.'SHA-384'"),
        IndicatorKind::Sha512 => is("file:hashes.'SHA-512'"),
        IndicatorKind::Ssdeep => is("file:hashes.SSDEEP"),
        IndicatorKind::Imphash => is("file:extensions.'windows-pebinary-ext'.imphash"),
        IndicatorKind::Filename => is("file:name"),
        IndicatorKind::FilenameRegex => format!("[file:name MATCHES {}]", literal(value)),
        IndicatorKind::Mutex => is("mutex:name"),
        IndicatorKind::Regkey => is("windows-registry-key:key"),
        IndicatorKind::Asn => {
            let number: u32 = value
                .trim_start_matches(|letter: char| letter.is_ascii_alphabetic())
                .parse()
                .ok()?;
            format!("[autonomous-system:number = {number}]")
        }
        IndicatorKind::Yara => {
            let rule = [one.text("content"), value].into_iter().find(|text| text.contains('{'))?;
            return (rule.len() <= TEXT_BYTES_MAX).then(|| ("yara", rule.to_owned()));
        }
        IndicatorKind::Pehash
        | IndicatorKind::Cve
        | IndicatorKind::Btc
        | IndicatorKind::Ja3
        | IndicatorKind::Other => return None,
    };
    (!value.is_empty()).then_some(("stix", pattern))
}

/// A text within a pattern: a quote and a backslash are escaped (§9.2).
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The id of a marking's definition: four are the standard's own (§7.2.1.4), the fifth, which came with the protocol's second
/// version, is of OASIS's extension for it.
fn marking(tlp: Tlp) -> &'static str {
    match tlp {
        Tlp::Clear => "marking-definition--613f2e26-407d-48c7-9eca-b8e91df99dc9",
        Tlp::Green => "marking-definition--34098fce-860f-48ae-8e50-ebd3cc5e41da",
        Tlp::Amber => "marking-definition--f88d31f6-486f-44da-b317-01333bde0b82",
        Tlp::AmberStrict => "marking-definition--939a9414-2ddd-4d32-a0cd-375ea402b003",
        Tlp::Red => "marking-definition--5e57c739-391a-4eb3-b6be-7d15ca92d5ed",
    }
}

fn definition(tlp: Tlp) -> Value {
    if tlp == Tlp::AmberStrict {
        return json!({
            "type": "marking-definition", "spec_version": "2.1", "id": marking(tlp), "created": "2022-10-01T00:00:00.000Z",
            "name": "TLP:AMBER+STRICT",
            "extensions": { "extension-definition--60a3c5c5-0d10-413e-aab3-9e08dde9e88d": {
                "extension_type": "property-extension", "tlp_2_0": tlp.as_str(),
            } },
        });
    }
    // The standard calls it by its name of the first version.
    let level = if tlp == Tlp::Clear { "white" } else { tlp.as_str() };
    json!({
        "type": "marking-definition", "spec_version": "2.1", "id": marking(tlp), "created": "2017-01-20T00:00:00.000Z",
        "name": format!("TLP:{}", level.to_uppercase()), "definition_type": "tlp", "definition": { "tlp": level },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_end_its_pattern() {
        let body = json!({"type": "filename", "value": r"C:\it's] OR [a"});
        let body = body.as_object().unwrap();
        let (_, pattern) = pattern(&Stored::of("id", body)).unwrap();
        assert_eq!(pattern, r"[file:name = 'C:\\it\'s] OR [a']");
    }

    #[test]
    fn a_change_that_has_no_date_is_a_later_version() {
        let of = |revision: u64| {
            let body = json!({"collected_at": "2026-03-01T00:00:00Z", "first_seen": "2020-01-01T00:00:00Z", "revision": revision});
            let (created, modified) = versions(&Stored::of("id", body.as_object().unwrap()));
            format!("{} {}", time(created), time(modified))
        };
        assert_eq!(of(1), "2026-03-01T00:00:00.000Z 2026-03-01T00:00:00.000Z");
        assert_eq!(of(3), "2026-03-01T00:00:00.000Z 2026-03-01T00:00:00.002Z");
    }
}
