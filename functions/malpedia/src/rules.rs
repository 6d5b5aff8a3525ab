//! YARA rules of families into `cti_yara_rules`: those that stored families carry, or the API's own.
//!
//! Files bring rules inside of families, so the stored families are what is read: an unchanged file stays closed, what it
//! gave is there still, and a rule has left when no family that is there has it any more. Where no file changed since,
//! nothing is read. The API gives the rules of all families since a day in one answer; it does not say what left, so
//! nothing is marked by it, and rules that it gave are not missed in files.

use base::report::{Counts, Reject, SourceReport};
use base::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use stores::documents::{Filter, Index, Pages, Query, Scan};
use task::Ctx;
use task::source::{Begun, Stop, Visit};
use yara::document::{INDEX, Origin};
use yara::store::{self, Collected, Given};
use yara::{About, about, split};

use crate::FAMILY;
use crate::api::Api;
use crate::reference::id;
use crate::wire;

/// The source, as reports and cursors name it.
const SOURCE: &str = "rules";
/// The source's word in documents.
const NAME: &str = "malpedia";
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
        family: FAMILY.name,
        source_type,
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
struct Cursor {
    reader: u32,
    /// The digest of the files that families were stored from.
    files: String,
    /// Rules of the source in the store.
    held: u64,
    /// What the rules came to, which is so still where nothing changed.
    counts: Counts,
    rejects: Vec<Reject>,
    detail: Value,
}

/// Stores the rules once families are stored, up to where `families`, their cursor, says.
pub(crate) async fn visit(
    ctx: &Ctx,
    families: Option<Value>,
    rejects: &mut Vec<Reject>,
    detail: &mut Map<String, Value>,
) -> Result<SourceReport> {
    let index = Index::named(INDEX)?;
    ctx.documents.ensure(index).await?;
    let mut visit = match Visit::begin(ctx, FAMILY.name, SOURCE, index).await? {
        Begun::Visit(visit) => visit,
        Begun::Not(report) => return Ok(*report),
    };
    let work = match &ctx.config.sources.malpedia_dir {
        Some(_) => {
            let files = id(&json!(families).to_string());
            from_families(ctx, &mut visit, files, rejects, detail).await
        }
        None => {
            let api = Api::of(&ctx.config)?;
            let version = families.and_then(|families| families["version"].as_i64());
            let work = from_api(ctx, &api, &mut visit, version, rejects, detail).await;
            work.map_err(|stop| api.explain(stop))
        }
    };
    visit.end(work).await
}

async fn from_families(
    ctx: &Ctx,
    visit: &mut Visit<'_>,
    files: String,
    rejects: &mut Vec<Reject>,
    detail: &mut Map<String, Value>,
) -> Result<(), Stop> {
    // Where the store holds less than was stored, it is another store, and all is read.
    let held = held(ctx).await?;
    let before = visit.cursor().and_then(|cursor| Cursor::deserialize(cursor).ok());
    if let Some(before) = before.filter(|before| before.is_at(&files, held)) {
        visit.report().counts = before.counts;
        rejects.extend(before.rejects);
        detail.insert(SOURCE.to_owned(), before.detail);
        return Ok(());
    }
    let index = Index::named("malpedia_families")?;
    let mut collected = Collected::default();
    let mut families = 0_u64;
    let scan = Scan { limit: PAGE, ..Scan::of(&["family_id", "active", "yara_rules"]) };
    let mut pages = Pages::new(ctx.documents.as_ref(), index, scan);
    while let Some(page) = pages.next().await? {
        for document in page {
            let body = document.body;
            let id = body.get("family_id").and_then(Value::as_str);
            let (Some(id), Some(Value::Bool(true))) = (id, body.get("active")) else { continue };
            let before = collected.len();
            for rule in wire::yara_rules(&body) {
                if let Some(text) = rule.content.as_deref().filter(|text| !is_link(text)) {
                    add(&mut collected, Some(id), id, rule.tlp.as_deref(), text);
                }
            }
            families += u64::from(collected.len() > before);
        }
    }
    let known = rejects.len();
    // Families are here only after a whole listing, and what one no longer has is not among its rules.
    let origin = origin("files");
    let outcome = store::store(ctx, visit, &origin, collected, true, rejects).await?;
    let mut told = outcome.detail();
    told["families"] = json!(families);
    detail.insert(SOURCE.to_owned(), told.clone());
    let counts = visit.report().counts;
    let reached = Cursor {
        reader: READER,
        files,
        held: self::held(ctx).await?,
        counts: Counts {
            new: 0,
            changed: 0,
            unchanged: counts.new + counts.changed + counts.unchanged,
            ..counts
        },
        rejects: rejects.get(known..).unwrap_or_default().to_vec(),
        detail: json!({ "compiled": 0, "left": 0, "broken": outcome.broken, "families": families }),
    };
    visit.reach(json!(reached));
    Ok(())
}

impl Cursor {
    fn is_at(&self, files: &str, held: u64) -> bool {
        self.reader == READER && self.files == files && held >= self.held
    }
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
        collected.reject(SOURCE, &format!("{path}: it holds no rule"));
        return;
    }
    let named = || About::of(split.rules.first()?).malpedia_family;
    let family = family.map(ToOwned::to_owned).or_else(named).or_else(|| of_file(path));
    // A word that nobody knows must not open a rule to all.
    let tlp = tlp.map(|word| about::tlp(word).unwrap_or("red"));
    let given = Given { families: family.iter().cloned().collect(), tlp };
    let path = family.as_deref().unwrap_or(path);
    collected.add_given(SOURCE, path, split, &given);
}

/// The family in a file's name: `win.vidar` of `win.vidar_auto.yar`.
fn of_file(name: &str) -> Option<String> {
    let stem = name.strip_suffix(".yar").or_else(|| name.strip_suffix(".yara")).unwrap_or(name);
    let (family, _) = stem.rsplit_once('_')?;
    wire::is_technical(family).then(|| family.to_owned())
}

async fn from_api(
    ctx: &Ctx,
    api: &Api,
    visit: &mut Visit<'_>,
    version: Option<i64>,
    rejects: &mut Vec<Reject>,
    detail: &mut Map<String, Value>,
) -> Result<(), Stop> {
    // Where the store holds less than was stored, it is another store, and all is asked for.
    let held = held(ctx).await?;
    let is_this = |cursor: &&Value| cursor["held"].as_u64().is_some_and(|once| once <= held);
    let cursor = visit.cursor().filter(is_this).cloned().unwrap_or_default();
    if version.is_some() && cursor["version"].as_i64() >= version {
        let note = format!("version {} is stored already", version.unwrap_or_default());
        visit.report().notes.push(note);
        return Ok(());
    }
    // A day that begins elsewhere earlier or later is asked for again.
    let today = ctx.now().strftime("%Y-%m-%d").to_string();
    let day = cursor["day"].as_str().unwrap_or(FIRST_DAY);
    let url = api.url(&format!("api/get/yara/after/{day}"))?;
    let Some(answer) = visit.next(api.get(&url).accept("application/json")).await? else {
        return Ok(());
    };
    if answer.is_truncated() {
        return Err(Error::upstream(format!("read `{url}`: the body ended early")).into());
    }
    let read = tokio::task::spawn_blocking(move || parse(answer.body()));
    let collected = read
        .await
        .map_err(|_| Error::format(format!("read `{url}`: the reader panicked")))?
        .map_err(|cause| {
            Error::format(format!("read `{url}`: it is no JSON"))
                .because(cause)
                .hint("look at the address in a browser")
        })?;
    if collected.is_empty() && collected.rejected() > 0 {
        let error = Error::format(format!("read `{url}`: it holds no YARA rule"));
        return Err(error.hint("look at the address in a browser").into());
    }
    let outcome = store::store(ctx, visit, &origin("api"), collected, false, rejects).await?;
    detail.insert(SOURCE.to_owned(), outcome.detail());
    let before = ctx.now().checked_sub(jiff::SignedDuration::from_hours(24));
    let day = before.map_or(today, |day| day.strftime("%Y-%m-%d").to_string());
    visit.reach(json!({ "version": version, "day": day, "held": self::held(ctx).await? }));
    Ok(())
}

/// How many of the source's rules are stored.
async fn held(ctx: &Ctx) -> Result<u64> {
    let of_ours = Filter::Terms("source".to_owned(), vec![NAME.to_owned()]);
    let query = Query { filters: vec![of_ours], ..Query::default() };
    ctx.documents.count(Index::named(INDEX)?, &query).await
}

/// Reads `{tlp: {file: text}}`, also where objects stand in lists or lists in objects.
fn parse(body: &[u8]) -> serde_json::Result<Collected> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let answer: Value = serde_json::from_slice(body)?;
    let mut collected = Collected::default();
    walk(&mut collected, "", &answer, None, 0);
    Ok(collected)
}

fn walk(collected: &mut Collected, name: &str, value: &Value, tlp: Option<&str>, depth: usize) {
    match value {
        _ if depth > DEPTH_MAX => collected.reject(SOURCE, &format!("`{name}` lies too deep")),
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
            collected.reject(SOURCE, &format!("`{name}` is no rule"));
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
    }

    #[test]
    fn a_family_is_told_by_a_file_that_bears_its_id() {
        assert_eq!(of_file("win.vidar_auto.yar").as_deref(), Some("win.vidar"));
        assert_eq!(of_file("elf.wellmess_w0.yara").as_deref(), Some("elf.wellmess"));
        assert_eq!(of_file("vidar_auto.yar"), None);
    }
}
