//! YARA rules of families into `cti_yara_rules`: those that stored families carry, or the API's own.
//!
//! Files bring rules inside of families, so the stored families are what is read: an unchanged file stays closed, what it
//! gave is there still, and a rule has left when no family that is there has it any more. Where no file changed since,
//! nothing is read. The API gives the rules of all families since a day in one answer; it does not say what left, so
//! nothing is marked by it, and rules that it gave are not missed in files.

use base::json::{Records, bounded};
use base::report::{Counts, Outcome, Reject};
use base::{Error, Result};
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stores::documents::{Filter, Pages, Scan};
use task::{Ctx, Source as _, Stop, Visit};
use yara::document::Origin;
use yara::store::{self, Collected, SourceClaims};
use yara::{About, about, split};

use crate::api::{Api, read_json};
use crate::reference::id;
use crate::settings::NAME;
use crate::sources::{CatalogueOrigin, Source};
use crate::wire;

/// Raised when the rules of files must be read again because they are read in another way.
const READER: u32 = 1;
/// Stored families that are read together; they carry rules.
const PAGE: u32 = 200;
/// How deep lists and objects of an answer may lie in each other.
const DEPTH_MAX: usize = 5;
/// From where on rules are asked for when none is stored.
const FIRST_DAY: &str = "1970-01-01";

fn origin(source_type: &'static str) -> Origin {
    Origin {
        family: NAME,
        source_type,
        // The source's word in documents.
        source: NAME,
        name: "Malpedia",
        files_url: "https://malpedia.caad.fkie.fraunhofer.de/details/",
        // Each rule says it itself, or is somebody else's.
        license: |_| None,
        category: |_| "malware",
        version: None,
    }
}

/// The cursor of rules out of files.
#[derive(Debug, Serialize, Deserialize)]
struct FileCursor {
    reader: u32,
    /// The digest of the files that families were stored from.
    files: String,
    /// What the rules came to, which is so still where nothing changed.
    counts: Counts,
    rejects: Vec<Reject>,
    detail: Value,
}

/// The cursor of rules out of the API.
#[derive(Debug, Serialize, Deserialize)]
struct ApiCursor {
    version: Option<i64>,
    /// The day from which on rules are asked for.
    day: String,
}

/// Stores the rules of the families that are stored; gives what a report tells of them, where they were read.
pub(crate) async fn read(
    visit: &mut Visit<'_>,
    origin: &CatalogueOrigin,
) -> Result<Option<Value>, Stop> {
    let families = visit.ctx().ledger.source(&Source::Families.state()).await?;
    let outcome = families.last_outcome.map(|name| serde_json::from_value::<Outcome>(json!(name)));
    if !outcome.is_some_and(|outcome| outcome.is_ok_and(Outcome::is_read)) {
        return Err(Stop::skipped("families were not read"));
    }
    match origin {
        CatalogueOrigin::Files(_) => {
            let files = id(&json!(families.cursor).to_string());
            from_families(visit, files).await
        }
        CatalogueOrigin::Api(api) => {
            let version = families.cursor.and_then(|cursor| cursor["version"].as_i64());
            from_api(visit, api, version).await
        }
    }
}

async fn from_families(visit: &mut Visit<'_>, files: String) -> Result<Option<Value>, Stop> {
    let index = Source::Rules.index()?;
    let before = visit.cursor::<FileCursor>();
    if let Some(before) = before.filter(|before| before.reader == READER && before.files == files) {
        visit.recount(index, before.counts);
        before.rejects.into_iter().for_each(|reject| visit.show_reject(reject.reason));
        return Ok(Some(before.detail));
    }
    let (collected, families) = collect(visit.ctx()).await?;
    // Families are here only after a whole listing, and what one no longer has is not among its rules.
    let outcome = store::store(visit, &origin("files"), collected, true).await?;
    let counts = visit.counts(index);
    let source = Source::Rules.id().to_owned();
    let reject = |reason: &String| Reject { source: source.clone(), reason: reason.clone() };
    visit.reach(json!(FileCursor {
        reader: READER,
        files,
        counts: Counts {
            new: 0,
            changed: 0,
            unchanged: counts.new + counts.changed + counts.unchanged,
            ..counts
        },
        rejects: visit.rejects().iter().map(reject).collect(),
        detail: json!({ "compiled": 0, "left": 0, "broken": outcome.broken, "families": families }),
    }));
    let mut detail = outcome.detail();
    detail["families"] = json!(families);
    Ok(Some(detail))
}

/// The rules of stored families, and how many families have any.
async fn collect(ctx: &Ctx) -> Result<(Collected, u64)> {
    let mut collected = Collected::default();
    let mut families = 0;
    let scan = Scan {
        filters: vec![Filter::Terms("active".to_owned(), vec!["true".to_owned()])],
        limit: PAGE,
        ..Scan::of(&["family_id", "yara_rules"])
    };
    let mut pages = Pages::new(ctx.documents.as_ref(), Source::Families.index()?, scan);
    while let Some(page) = pages.next().await? {
        for document in page {
            let body = document.body;
            let Some(id) = body.get("family_id").and_then(Value::as_str) else { continue };
            let before = collected.len();
            for rule in wire::yara_rules(&body) {
                if let Some(text) = rule.content.as_deref().filter(|text| !is_link(text)) {
                    add(&mut collected, Some(id), id, rule.tlp.as_deref(), text);
                }
            }
            families += u64::from(collected.len() > before);
        }
    }
    Ok((collected, families))
}

/// Whether what should be a rule's text is the address of one.
fn is_link(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.starts_with("http://") || text.starts_with("https://")
}

/// Adds a text of rules; `family` is the id for which the source gives it, if it says so itself.
fn add(collected: &mut Collected, family: Option<&str>, path: &str, tlp: Option<&str>, text: &str) {
    let split = split(text.as_bytes());
    if split.rules.is_empty() && split.rejects.is_empty() {
        collected.reject(&format!("{path}: it holds no rule"));
        return;
    }
    let named = || About::of(split.rules.first()?).family_id;
    let family = family.map(ToOwned::to_owned).or_else(named).or_else(|| of_file(path));
    // A word that nobody knows must not open a rule to all.
    let tlp = tlp.map(|word| about::tlp(word).unwrap_or("red"));
    let claims = SourceClaims { families: family.iter().cloned().collect(), tlp };
    let path = family.as_deref().unwrap_or(path);
    collected.add_with_claims(path, split, &claims);
}

/// The family in a file's name: `win.vidar` of `win.vidar_auto.yar`.
fn of_file(name: &str) -> Option<String> {
    let stem = name.strip_suffix(".yar").or_else(|| name.strip_suffix(".yara")).unwrap_or(name);
    let (family, _) = stem.rsplit_once('_')?;
    wire::is_technical(family).then(|| family.to_owned())
}

async fn from_api(
    visit: &mut Visit<'_>,
    api: &Api,
    version: Option<i64>,
) -> Result<Option<Value>, Stop> {
    let before = visit.cursor::<ApiCursor>();
    if let (Some(version), Some(before)) = (version, &before)
        && before.version >= Some(version)
    {
        visit.note(format!("version {version} is stored already"));
        return Ok(None);
    }
    let day = before.map_or_else(|| FIRST_DAY.to_owned(), |before| before.day);
    let url = api.url(&format!("{}/{day}", Source::Rules.path()))?;
    let Some(answer) = visit.get(api.get_json(&url)).await? else { return Ok(None) };
    let collected = read_json(&url, answer, parse).await?;
    if collected.is_empty() && collected.rejected() > 0 {
        let error = Error::format(format!("read `{url}`: it holds no YARA rule"));
        return Err(error.hint("look at the address in a browser").into());
    }
    let outcome = store::store(visit, &origin("api"), collected, false).await?;
    // A day that begins elsewhere earlier or later is asked for again.
    let now = visit.ctx().now();
    let day = now.checked_sub(jiff::SignedDuration::from_hours(24)).unwrap_or(now);
    visit.reach(json!(ApiCursor { version, day: day.strftime("%Y-%m-%d").to_string() }));
    Ok(Some(outcome.detail()))
}

/// Reads `{tlp: {file: text}}`, also where objects stand in lists or lists in objects. A malformed file costs itself.
fn parse(body: &[u8]) -> serde_json::Result<Collected> {
    let mut collected = Collected::default();
    if Records::of(body).is_some() {
        part(&mut collected, "", body, None, 0)?;
    } else {
        let (answer, cut) = bounded(body)?;
        walk(&mut collected, "", &answer, None, 0);
        reject_cut(&mut collected, "", cut);
    }
    Ok(collected)
}

/// Parts the objects of words of the TLP and of files into their records, and reads each of these by itself.
fn part(
    collected: &mut Collected,
    name: &str,
    text: &[u8],
    tlp: Option<&str>,
    depth: usize,
) -> serde_json::Result<()> {
    match Records::of(text).filter(|_| depth <= 1) {
        Some(records) => {
            for raw in records {
                let raw = raw.map_err(|broken| {
                    serde_json::Error::custom(format!(
                        "it is malformed or cut off at byte {}",
                        broken.at
                    ))
                })?;
                let is_tlp =
                    raw.key.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("tlp"));
                let tlp = if is_tlp { Some(&*raw.key) } else { tlp };
                part(collected, &raw.key, raw.text, tlp, depth + 1)?;
            }
        }
        None => match bounded(text) {
            Ok((value, cut)) => {
                walk(collected, name, &value, tlp, depth);
                reject_cut(collected, name, cut);
            }
            Err(cause) => collected.reject(&format!("`{name}` is no JSON: {cause}")),
        },
    }
    Ok(())
}

fn reject_cut(collected: &mut Collected, name: &str, cut: u64) {
    if cut > 0 {
        collected.reject(&format!(
            "`{name}` is nested too deeply or has too many rules: {cut} are left out"
        ));
    }
}

fn walk(collected: &mut Collected, name: &str, value: &Value, tlp: Option<&str>, depth: usize) {
    match value {
        _ if depth > DEPTH_MAX => collected.reject(&format!("`{name}` is nested too deeply")),
        Value::Null => {}
        Value::String(text) => add(collected, None, name, tlp, text),
        Value::Array(list) => {
            list.iter().for_each(|one| walk(collected, name, one, tlp, depth + 1));
        }
        Value::Object(object) => {
            for (key, one) in object {
                let is_tlp = key.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("tlp"));
                walk(collected, key, one, if is_tlp { Some(key) } else { tlp }, depth + 1);
            }
        }
        Value::Bool(_) | Value::Number(_) => {
            collected.reject(&format!("`{name}` is no rule"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_of_an_answer_hold_the_same_rules() {
        let rule = "rule win_x_auto { condition: true }";
        for (answer, rules, rejected) in [
            (json!({"tlp_white": {"win.x_auto.yar": rule}}), 1, 0),
            (json!({"tlp_white": [{"win.x_auto.yar": rule}], "tlp_green": []}), 1, 0),
            (json!([{"tlp_white": {"win.x_auto.yar": rule}}]), 1, 0),
            (json!({"detail": "Not found."}), 0, 1),
            (json!({"tlp_white": {"win.x_auto.yar": 7}}), 0, 1),
            (json!([[[[[[[rule]]]]]]]), 0, 1),
            (json!({}), 0, 0),
        ] {
            let collected = parse(answer.to_string().as_bytes()).unwrap();
            assert_eq!((collected.len(), collected.rejected()), (rules, rejected), "{answer}");
        }
        assert!(parse(b"<html>").is_err());
        assert!(parse(br#"{"tlp_white": {"a"#).is_err());
    }

    #[test]
    fn a_malformed_file_costs_itself() {
        let rule = r#""rule win_x_auto { condition: true }""#;
        for odd in [r#""\ud800""#, "1E400", "x"] {
            let answer = format!(r#"{{"tlp_white": {{"odd": {odd}, "win.x_auto.yar": {rule}}}}}"#);
            let collected = parse(answer.as_bytes()).unwrap();
            assert_eq!((collected.len(), collected.rejected()), (1, 1), "{odd}");
        }
    }

    #[test]
    fn a_family_is_told_by_a_file_that_bears_its_id() {
        assert_eq!(of_file("win.vidar_auto.yar").as_deref(), Some("win.vidar"));
        assert_eq!(of_file("elf.wellmess_w0.yara").as_deref(), Some("elf.wellmess"));
        assert_eq!(of_file("vidar_auto.yar"), None);
    }
}
