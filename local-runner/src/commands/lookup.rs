//! `lookup`: which of these values are stored, from where, since when, and whether they still hold.
//!
//! A stored indicator's id follows from its family, kind and value, so values are asked for by id, thousands at once, and
//! never searched for.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;

use base::{Class, Error, Result};
use indicator::IndicatorKind;
use ioc::Lists;
use jiff::Timestamp;
use serde_json::{Value, json};
use stores::documents::{Body, DocumentReader, Index};
use task::function::now;

use super::indicators::{FIELDS, HOMES, Stored};
use crate::cli::Cli;
use crate::home::{open_documents, settings};
use crate::out::{self, Outcome};
use crate::settings::Settings;

/// Bytes of a list or a report that are read from standard input.
const INPUT_MAX: u64 = 64 << 20;
/// Values that are looked up at once; a list of all indicators is compared by `export`.
const VALUES_MAX: usize = 200_000;
/// Ids that a store is asked for in one request.
const IDS_AT_ONCE: usize = 1_000;
/// Bytes of text that are read as one; what is defanged stands within a few lines.
const TEXT_BYTES: usize = 256 << 10;
/// Parts of a line that may be values of their own.
const PARTS_MAX: usize = 64;
/// Values that could not be read and are shown.
const UNREAD_SHOWN: usize = 20;

/// What is read of each document beside what every command reads.
const FURTHER_FIELDS: &[&str] = &["first_source", "sources.event"];

/// `local-runner lookup`.
pub(super) async fn lookup(cli: &Cli, values: &[String]) -> Outcome {
    let settings = settings(cli)?;
    let now = now(&settings.config);
    let asked = read(values)?;
    let store = open_documents(&settings).await?;
    let mut found = find(store.as_ref(), &asked.values).await?;
    if asked.values.iter().any(|value| !found.is_known(value)) {
        found.lists = warninglists(&settings).await?;
    }
    let known = asked.values.iter().filter(|value| found.is_known(value)).count();
    let is_all = known == asked.values.len() && asked.unread.is_empty() && asked.left_out == 0;
    let code = if is_all { out::DONE } else { out::FAILED };
    if cli.json {
        let rows = asked.values.iter().map(|value| found.json(value, now));
        out::json(&json!({
            "known": known, "unknown": asked.values.len() - known, "values": rows.collect::<Vec<_>>(),
            "unread": asked.unread, "left_out": asked.left_out,
        }));
        return Ok(code);
    }
    let rows: Vec<Vec<String>> =
        asked.values.iter().flat_map(|value| found.rows(value, now)).collect();
    if !rows.is_empty() {
        out::table(&["VALUE", "TYPE", "KNOWN", "FROM", "SINCE", "TLP", "WARNINGLISTS"], rows);
    }
    for text in asked.unread.iter().take(UNREAD_SHOWN) {
        out::line(&format!("no indicator: {}", out::one_line(text)));
    }
    if asked.unread.len() > UNREAD_SHOWN {
        out::line(&format!("… and {} more", asked.unread.len() - UNREAD_SHOWN));
    }
    if asked.left_out > 0 {
        out::line(&format!("{} left out, beyond what is looked up at once", asked.left_out));
    }
    out::line(&format!("{known} of {} known", asked.values.len()));
    Ok(code)
}

/// The warninglists that are set, as the tasks use them; none, which is told, where their address does not answer.
async fn warninglists(settings: &Settings) -> Result<Option<Lists>> {
    match Lists::read(&settings.config).await {
        Ok(lists) => Ok(Some(lists)),
        Err(error) if error.class() == Class::Upstream => {
            out::note(&format!("unknown values are held against no warninglist: {error}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A value that is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AskedValue {
    kind: IndicatorKind,
    value: String,
    /// As it was given.
    given: String,
}

/// What is looked up.
#[derive(Debug, Default)]
struct AskedValues {
    /// Each value once, in the order in which they were given.
    values: Vec<AskedValue>,
    seen: HashSet<(IndicatorKind, String)>,
    /// Arguments in which no indicator is found.
    unread: Vec<String>,
    /// Values beyond [`VALUES_MAX`], and what reading a text left out.
    left_out: usize,
}

fn read(values: &[String]) -> Result<AskedValues> {
    let mut asked = AskedValues::default();
    for value in values {
        if value != "-" {
            if !asked.line(value) && asked.text(value) == 0 {
                asked.unread.push(value.clone());
            }
            continue;
        }
        let mut bytes = Vec::new();
        let failed = |cause| Error::config("read standard input").because(cause);
        std::io::stdin().lock().take(INPUT_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > INPUT_MAX {
            return Err(Error::config(format!("look up more than {INPUT_MAX} bytes at once"))
                .hint("split the list"));
        }
        asked.report(&String::from_utf8_lossy(&bytes));
    }
    if asked.values.is_empty() && asked.unread.is_empty() {
        return Err(Error::config("look up values: no indicator is in what was given")
            .hint("give values, or `-` for a list or a report on standard input"));
    }
    Ok(asked)
}

impl AskedValues {
    /// A list, a value or several a line, or a report: a line that is all values is a line of a list, and what stands between
    /// such lines is text.
    fn report(&mut self, text: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut prose = String::new();
        for line in text.lines() {
            if self.line(line) {
                continue;
            }
            if prose.len() + line.len() > TEXT_BYTES {
                self.text(&std::mem::take(&mut prose));
            }
            prose.push_str(line);
            prose.push('\n');
        }
        self.text(&prose);
    }

    /// Takes a line if it is a value, or nothing but values.
    fn line(&mut self, line: &str) -> bool {
        let line = unadorned(line);
        if line.is_empty() {
            return false;
        }
        // A bare word, as `README.md` or `e.g.`, may be a file's name in a text and is one only where it stands alone.
        if let Ok(one) = indicator::parse(None, line)
            && !(one.kind == IndicatorKind::Filename && line.contains(' '))
        {
            self.take(one.kind, one.value, line);
            return true;
        }
        let parts = line.split(|letter: char| letter.is_whitespace() || ",;|\"'".contains(letter));
        let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).take(PARTS_MAX + 1).collect();
        if parts.len() < 2 || parts.len() > PARTS_MAX {
            return false;
        }
        let read = |part: &&str| {
            let one = indicator::parse(None, part).ok();
            one.filter(|one| one.kind != IndicatorKind::Filename)
        };
        let Some(all) = parts.iter().map(read).collect::<Option<Vec<_>>>() else { return false };
        for one in all {
            self.take(one.kind, one.value, &one.raw);
        }
        true
    }

    /// Takes what is found in a text; gives how many that are.
    fn text(&mut self, text: &str) -> usize {
        let found = indicator::extract(text);
        self.left_out += found.left_out;
        let count = found.indicators.len() + found.cves.len();
        for one in found.indicators {
            self.take(one.kind, one.value, &one.raw);
        }
        for cve in found.cves {
            self.take(IndicatorKind::Cve, cve.clone(), &cve);
        }
        count
    }

    fn take(&mut self, kind: IndicatorKind, value: String, given: &str) {
        if !self.seen.insert((kind, value.clone())) {
            return;
        }
        if self.values.len() == VALUES_MAX {
            self.left_out += 1;
            return;
        }
        self.values.push(AskedValue { kind, value, given: given.to_owned() });
    }
}

/// A line of a list without its bullet, the label in front of its value, and the comment behind it.
fn unadorned(line: &str) -> &str {
    const LABEL_MAX: usize = 30;
    let line = line.split_once(" #").map_or(line, |(value, _)| value);
    let is_bullet = |letter: char| letter.is_whitespace() || "-*•·>–".contains(letter);
    let line = line.trim().trim_start_matches(is_bullet);
    let is_of_label = |letter: char| letter.is_alphanumeric() || " -_/()".contains(letter);
    match line.split_once(": ") {
        Some((label, value)) if label.len() <= LABEL_MAX && label.chars().all(is_of_label) => {
            value.trim()
        }
        _ => line,
    }
}

/// The kinds under which a source may have named a value: digits alone do not tell what was hashed.
fn kinds(kind: IndicatorKind) -> Vec<IndicatorKind> {
    match kind {
        IndicatorKind::Md5 => vec![kind, IndicatorKind::Imphash, IndicatorKind::Ja3],
        IndicatorKind::Sha1 => vec![kind, IndicatorKind::Pehash],
        IndicatorKind::Filename => vec![kind, IndicatorKind::FilenameRegex],
        _ => vec![kind],
    }
}

/// What a value leads to where it is not known itself: the host of a URL, the address of an address with a port.
fn part_of(asked: &AskedValue) -> Option<(IndicatorKind, String)> {
    let host = match asked.kind {
        IndicatorKind::IpPort => asked.value.rsplit_once(':')?.0.to_owned(),
        IndicatorKind::Url => {
            let behind =
                asked.value.split_once("://").map_or(asked.value.as_str(), |(_, rest)| rest);
            let host = behind.split(['/', '?', '#']).next()?;
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            host.rsplit_once(':')
                .filter(|(_, port)| is_port(port))
                .map_or(host, |(host, _)| host)
                .to_owned()
        }
        _ => return None,
    };
    indicator::parse(None, &host).ok().map(|one| (one.kind, one.value))
}

/// A document with its index and its id.
type Located = (&'static str, String, Body);

/// What the store has of the values that were asked for.
#[derive(Default)]
struct Found {
    /// Documents by kind and value.
    documents: HashMap<(IndicatorKind, String), Vec<Located>>,
    /// The lists that are set, for values that no document has; none where each has one.
    lists: Option<Lists>,
}

async fn find(store: &dyn DocumentReader, values: &[AskedValue]) -> Result<Found> {
    let mut wanted: Vec<(IndicatorKind, String)> = Vec::new();
    let mut seen = HashSet::new();
    for asked in values {
        let own = kinds(asked.kind).into_iter().map(|kind| (kind, asked.value.clone()));
        wanted.extend(own.chain(part_of(asked)).filter(|one| seen.insert(one.clone())));
    }
    let mut found = Found::default();
    let fields = [FIELDS, FURTHER_FIELDS].concat();
    for (name, family) in HOMES {
        let index = Index::named(name)?;
        for some in wanted.chunks(IDS_AT_ONCE) {
            let ids: Vec<String> =
                some.iter().map(|(kind, value)| ioc::id(family, *kind, value)).collect();
            let borrowed: Vec<&str> = ids.iter().map(String::as_str).collect();
            let bodies = store.fields_of(index, &borrowed, &fields).await?;
            for ((one, id), body) in some.iter().zip(&ids).zip(bodies) {
                if let Some(body) = body {
                    let of = found.documents.entry(one.clone()).or_default();
                    of.push((index.name, id.clone(), body));
                }
            }
        }
    }
    Ok(found)
}

impl Found {
    fn of(&self, asked: &AskedValue) -> impl Iterator<Item = &(&'static str, String, Body)> {
        let own = kinds(asked.kind).into_iter().map(|kind| (kind, asked.value.clone()));
        own.filter_map(|one| self.documents.get(&one)).flatten()
    }

    fn is_known(&self, asked: &AskedValue) -> bool {
        self.of(asked).next().is_some()
    }

    /// The warninglists that know a value of which nothing is stored.
    fn warnings(&self, asked: &AskedValue) -> Vec<String> {
        let hits = self.lists.iter().flat_map(|lists| lists.hits(asked.kind, &asked.value));
        hits.map(|list| list.name).collect()
    }

    /// A known part of a value that is not known itself.
    fn part(&self, asked: &AskedValue) -> Option<(IndicatorKind, String)> {
        part_of(asked).filter(|part| self.documents.contains_key(part))
    }

    fn json(&self, asked: &AskedValue, now: Timestamp) -> Value {
        let documents: Vec<Value> = self
            .of(asked)
            .map(|(index, id, body)| {
                let one = Stored::of(id, body);
                let sources = body.get("sources").cloned().unwrap_or_default();
                json!({
                    "index": index, "id": id, "family": one.text("source_family"), "type": one.text("type"),
                    "feed": one.feed(), "sources": sources, "sources_count": one.number("sources_count"),
                    "first_source": body.get("first_source"),
                    "first_seen": body.get("first_seen"), "last_seen": body.get("last_seen"),
                    "tlp": body.get("tlp"), "confidence": body.get("confidence"), "to_ids": one.flag("to_ids"),
                    "active": one.is_active(), "left_at": body.get("left_at"),
                    "expires_at": body.get("expires_at"), "expired": one.is_expired(now),
                    "warninglists": one.warnings(), "malware_family": one.list("malware_family"),
                    "threat_actor": one.list("threat_actor"), "tags": one.list("tags"),
                })
            })
            .collect();
        let part = self.part(asked).map(|(kind, value)| json!({"type": kind, "value": value}));
        let warnings = if documents.is_empty() { self.warnings(asked) } else { Vec::new() };
        json!({
            "given": asked.given, "type": asked.kind, "value": asked.value, "known": !documents.is_empty(),
            "documents": documents, "known_part": part,
            "warninglists": warnings,
        })
    }

    /// A line for each family that has it, or one that says that none has.
    fn rows(&self, asked: &AskedValue, now: Timestamp) -> Vec<Vec<String>> {
        let mut rows: Vec<Vec<String>> = self
            .of(asked)
            .map(|(_, id, body)| {
                let one = Stored::of(id, body);
                let state = if !one.is_active() {
                    "left"
                } else if one.is_expired(now) {
                    "expired"
                } else {
                    "yes"
                };
                let day = |name: &str| one.text(name).get(..10).unwrap_or_default().to_owned();
                vec![
                    asked.value.clone(),
                    one.text("type").to_owned(),
                    match (state, day("left_at"), day("expires_at")) {
                        ("left", at, _) | ("expired", _, at) if !at.is_empty() => {
                            format!("{state} {at}")
                        }
                        _ => state.to_owned(),
                    },
                    several(&one.sources()),
                    day("first_seen"),
                    one.text("tlp").to_owned(),
                    several(&one.warnings()),
                ]
            })
            .collect();
        if rows.is_empty() {
            let part = self.part(asked);
            let known =
                part.map_or_else(|| "no".to_owned(), |(_, value)| format!("no, but {value}"));
            let mut row = vec![asked.value.clone(), asked.kind.to_string(), known];
            row.resize(6, String::new());
            let warnings = self.warnings(asked);
            row.push(several(&warnings.iter().map(String::as_str).collect::<Vec<_>>()));
            rows.push(row);
        }
        rows
    }
}

/// The first few of many names.
fn several(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let mut shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        shown.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> String {
        let mut asked = AskedValues::default();
        asked.report(text);
        let shown = asked.values.iter().map(|one| format!("{} {}", one.kind, one.value));
        shown.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_list_and_a_report_are_read() {
        for (text, expected) in [
            (
                "192.0.2.1\nevil.com\r\n\n# c2\nhxxp://evil[.]com/a\n",
                "ipv4 192.0.2.1, domain evil.com, url http://evil.com/a",
            ),
            ("192.0.2.1, evil.com; evil.com", "ipv4 192.0.2.1, domain evil.com"),
            ("\u{feff}\"evil.com\",\"192.0.2.1\"", "domain evil.com, ipv4 192.0.2.1"),
            (
                "It calls evil[.]com and exploits cve-2026-1234, see example.org for more.",
                "domain evil.com, cve CVE-2026-1234",
            ),
            (
                "The loader is new.\nevil.com\nIt was seen at 185[.]220[.]101[.]7:443.",
                "domain evil.com, ip:port 185.220.101.7:443",
            ),
            (
                " - evil.com\n* hxxp://evil[.]net/\n\u{2022} Domain: evil.org # c2\nSHA-1: no hash",
                "domain evil.com, url http://evil.net/, domain evil.org",
            ),
            ("", ""),
        ] {
            assert_eq!(values(text), expected, "{text}");
        }
    }

    #[test]
    fn a_value_leads_to_its_host() {
        let part = |text: &str| {
            let one = indicator::parse(None, text).unwrap();
            let asked = AskedValue { kind: one.kind, value: one.value, given: String::new() };
            part_of(&asked).map(|(_, value)| value)
        };
        for (value, host) in [
            ("http://evil.com:8080/a?b=http://x.org/", Some("evil.com")),
            ("evil.com/a", Some("evil.com")),
            ("http://u:p@evil.com/", Some("evil.com")),
            ("http://[2001:db8::1]:80/a", Some("2001:db8::1")),
            ("http://192.0.2.1/a", Some("192.0.2.1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("192.0.2.1:443", Some("192.0.2.1")),
            ("evil.com", None),
        ] {
            assert_eq!(part(value).as_deref(), host, "{value}");
        }
    }
}
