//! Stores a source's rules: verdicts only for what changed, and what left is marked once the whole was read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use base::report::Report;
use base::{Error, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use stores::documents::{Body, Filter, Index, Pages, Scan, Write};
use task::{Ctx, Present, Stop, Visit};
use tokio::sync::mpsc;

use super::document::{self, INDEX, OWNER, Origin, RuleContext};
use super::known::Needs;
use super::verdict::{Unit, Verdict};
use super::{Known, Rule, Split, about, split};

/// Rules that are written together.
const BATCH: usize = 256;
/// Stored documents that are read together.
const PAGE: u32 = 500;
/// Rules that one rule may stand on, itself included.
const NEEDED_MAX: usize = 200;

/// What a source says of a rule beside its text.
#[derive(Clone, Debug, Default)]
pub struct SourceClaims {
    /// The families that it gives the rule for, by id.
    pub families: BTreeSet<String>,
    /// Who may see the rule, in a word of `tlp`; what the rule says of itself may be stricter.
    pub tlp: Option<&'static str>,
}

impl SourceClaims {
    fn join(&mut self, other: &Self) {
        self.families.extend(other.families.iter().cloned());
        self.tlp = about::strictest([self.tlp, other.tlp]);
    }
}

/// The rules of a source as they were read.
#[derive(Debug, Default)]
pub struct Collected {
    files: Vec<(String, Split)>,
    /// Things in files that are no rules.
    rejects: Vec<String>,
    rejected: u64,
    /// Rules that are there but broken: they have not left.
    broken: HashSet<String>,
    merged: u64,
    names: HashMap<String, (usize, usize)>,
    claims: HashMap<String, SourceClaims>,
}

impl Collected {
    /// Adds a file, in the order that decides which of two rules of one name is kept.
    pub fn add(&mut self, path: &str, split: Split) {
        self.add_with_claims(path, split, &SourceClaims::default());
    }

    /// As [`Collected::add`], with what the source says of all rules of the file; of equal rules all that is said counts.
    pub fn add_with_claims(&mut self, path: &str, split: Split, claims: &SourceClaims) {
        let mut split = split;
        for reject in std::mem::take(&mut split.rejects) {
            self.reject(&format!("{path}: {}", reject.reason));
            self.broken.extend(reject.name);
        }
        let place = self.files.len();
        let mut kept = Vec::with_capacity(split.rules.len());
        for rule in std::mem::take(&mut split.rules) {
            match self.names.get(&rule.name) {
                None => {
                    self.claims.insert(rule.name.clone(), claims.clone());
                    self.names.insert(rule.name.clone(), (place, kept.len()));
                    kept.push(rule);
                }
                Some((file, number)) => {
                    let known = if *file == place {
                        (path, kept.get(*number))
                    } else {
                        let (path, split) = &self.files[*file];
                        (path.as_str(), split.rules.get(*number))
                    };
                    if known.1.is_some_and(|known| known.hash == rule.hash) {
                        self.claims.entry(rule.name).or_default().join(claims);
                        self.merged += 1;
                        continue;
                    }
                    let reason = format!(
                        "{path}: line {}: `{}` is the name of another rule in `{}`",
                        rule.line, rule.name, known.0
                    );
                    self.reject(&reason);
                }
            }
        }
        split.rules = kept;
        self.files.push((path.to_owned(), split));
    }

    /// Counts something that is no rule.
    pub fn reject(&mut self, reason: &str) {
        self.rejected += 1;
        if self.rejects.len() < Report::REJECTS_SHOWN {
            self.rejects.push(reason.to_owned());
        }
    }

    /// How many rules there are to store.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How many things were no rules.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Adds a rule as it is stored.
    fn restore(&mut self, body: &Body) {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let mut split = split(text("rule_content").unwrap_or_default().as_bytes());
        split.imports = texts(body.get("imports"));
        for rule in &mut split.rules {
            let line = body.get("source_line").and_then(Value::as_u64);
            rule.line = line.and_then(|line| line.try_into().ok()).unwrap_or(rule.line);
            rule.is_latin1 = text("rule_encoding") == Some("latin1");
        }
        let own = &body["owners"]["shared"]["families"][OWNER.name];
        let claims = SourceClaims {
            families: texts(Some(own)).into_iter().collect(),
            tlp: text("tlp").and_then(about::tlp),
        };
        self.add_with_claims(text("source_file").unwrap_or_default(), split, &claims);
    }

    fn rule(&self, name: &str) -> Option<(&str, &Rule)> {
        let (file, number) = self.names.get(name)?;
        let (path, split) = self.files.get(*file)?;
        Some((path, split.rules.get(*number)?))
    }
}

/// What is known of a stored rule without its text.
struct Stored {
    is_active: bool,
    name: String,
    file: String,
    depends_on: Vec<String>,
    key: Option<String>,
    verdict: Option<Verdict>,
}

/// What came of the rules beyond their counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Rules that were compiled, as no verdict was known.
    pub compiled: u64,
    /// Rules that are no longer there, and were marked.
    pub left: u64,
    /// Rules that do not compile.
    pub broken: u64,
}

impl Outcome {
    /// For a report.
    pub fn detail(self) -> Value {
        json!({ "compiled": self.compiled, "left": self.left, "broken": self.broken })
    }
}

/// Stores what was collected; `is_complete` says that all of the source was read, so that what is missing has left, where
/// it came in the same way.
///
/// # Errors
/// Why not all is stored.
pub async fn store(
    visit: &mut Visit<'_>,
    origin: &Origin,
    mut collected: Collected,
    is_complete: bool,
) -> Result<Outcome, Stop> {
    let (ctx, index) = (visit.ctx(), Index::named(INDEX)?);
    let stored = Arc::new(stored(ctx, index, origin.family).await?);
    if !is_complete {
        complete(ctx, index, &stored, &mut collected).await?;
    }
    visit.found(index, collected.len() as u64 + collected.rejected + collected.merged);
    visit.rejected(index, collected.rejected);
    visit.merged(index, collected.merged);
    collected.rejects.drain(..).for_each(|reason| visit.show_reject(reason));

    let (sender, mut batches) = mpsc::channel(1);
    let (work, known) = ((origin.clone(), ctx.now()), Arc::clone(&stored));
    let collected = Arc::new(collected);
    let rules = Arc::clone(&collected);
    tokio::task::spawn_blocking(move || write_all(&work.0, &rules, &known, work.1, &sender));
    let mut outcome = Outcome::default();
    let mut seen = 0;
    while let Some((writes, part)) = batches.recv().await {
        let (writes, part): (Vec<Write>, Outcome) = (writes, part);
        seen += writes.len();
        outcome.compiled += part.compiled;
        outcome.broken += part.broken;
        visit.store(index, &writes).await?;
    }
    if seen != collected.len() {
        return Err(Error::format("read the rules: the compiler's thread panicked")
            .hint("this is a bug: please report it with the task's name")
            .into());
    }
    if is_complete {
        let mut present = Present::default();
        // A broken rule is there all the same.
        for name in collected.names.keys().chain(&collected.broken) {
            present.add(&origin.id(name))?;
        }
        let of_source = [("source_family", origin.family), ("source_type", origin.source_type)];
        let among =
            of_source.map(|(field, value)| Filter::Terms(field.to_owned(), vec![value.to_owned()]));
        outcome.left = visit.retire(index, &OWNER, None, among.into(), present).await?.count;
    }
    Ok(outcome)
}

/// Adds what is stored to a part of a source: the rules that stand on those that came, and what all these stand on.
async fn complete(
    ctx: &Ctx,
    index: &'static Index,
    stored: &HashMap<String, Stored>,
    collected: &mut Collected,
) -> Result<()> {
    let stored: Vec<_> = stored.iter().filter(|(_, rule)| rule.is_active).collect();
    let mut known = Known::default();
    stored.iter().for_each(|(_, rule)| known.add(&rule.file, &rule.name));
    for (path, split) in &collected.files {
        split.rules.iter().for_each(|rule| known.add(path, &rule.name));
    }
    for is_upwards in [true, false] {
        loop {
            let rules = collected.files.iter().flat_map(|(path, split)| {
                split.rules.iter().map(move |rule| (path.as_str(), rule))
            });
            let needed: HashSet<String> = match is_upwards {
                true => HashSet::new(),
                false => rules.flat_map(|(path, rule)| known.needs(path, rule).rules).collect(),
            };
            let missing = stored.iter().filter(|(_, rule)| {
                let stands_on_it = |name: &String| collected.names.contains_key(name);
                !collected.names.contains_key(&rule.name)
                    && !collected.broken.contains(&rule.name)
                    && match is_upwards {
                        true => rule.depends_on.iter().any(stands_on_it),
                        false => needed.contains(&rule.name),
                    }
            });
            let missing: Vec<&str> = missing.map(|(id, _)| id.as_str()).collect();
            let before = collected.len();
            for id in missing {
                if let Some(body) = ctx.documents.get(index, id).await? {
                    collected.restore(&body);
                }
            }
            if collected.len() == before {
                break;
            }
        }
    }
    Ok(())
}

/// What is needed of a stored rule to tell whether it must be compiled again, and what stands on it.
const KNOWN_BY: [&str; 7] =
    ["active", "name", "source_file", "depends_on", "verdict", "verdict_error", "verdict_key"];

async fn stored(ctx: &Ctx, index: &'static Index, family: &str) -> Result<HashMap<String, Stored>> {
    let of_family = Filter::Terms("source_family".to_owned(), vec![family.to_owned()]);
    let fields = Some(KNOWN_BY.map(ToOwned::to_owned).into());
    let scan = Scan { filters: vec![of_family], fields, limit: PAGE, ..Scan::default() };
    let mut pages = Pages::new(ctx.documents.as_ref(), index, scan);
    let mut all = HashMap::new();
    while let Some(page) = pages.next().await? {
        for document in page {
            let text = |name: &str| document.body.get(name).and_then(Value::as_str);
            let known = Stored {
                is_active: document.body.get("active") == Some(&Value::Bool(true)),
                name: text("name").unwrap_or_default().to_owned(),
                file: text("source_file").unwrap_or_default().to_owned(),
                depends_on: texts(document.body.get("depends_on")),
                key: text("verdict_key").map(ToOwned::to_owned),
                verdict: text("verdict")
                    .and_then(|name| Verdict::read(name, text("verdict_error"))),
            };
            all.insert(document.id, known);
        }
    }
    Ok(all)
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let values = value.and_then(Value::as_array).into_iter().flatten();
    values.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

/// Makes every rule a document, in batches; ends early when nobody takes them any more.
fn write_all(
    origin: &Origin,
    collected: &Collected,
    stored: &HashMap<String, Stored>,
    now: Timestamp,
    batches: &mpsc::Sender<(Vec<Write>, Outcome)>,
) {
    let mut known = Known::default();
    for (path, split) in &collected.files {
        split.rules.iter().for_each(|rule| known.add(path, &rule.name));
    }
    let nothing = SourceClaims::default();
    let (mut writes, mut part) = (Vec::with_capacity(BATCH), Outcome::default());
    for (path, split) in &collected.files {
        for rule in &split.rules {
            let needs = known.needs(path, rule);
            let (verdict, key) = match unit(collected, &known, rule, &needs) {
                Err(reason) => (Verdict::Broken(reason), String::new()),
                Ok(unit) => {
                    let key = unit.key();
                    let before = stored.get(&origin.id(&rule.name));
                    let before = before
                        .filter(|before| before.key.as_ref() == Some(&key))
                        .and_then(|before| before.verdict.clone());
                    part.compiled += u64::from(before.is_none());
                    (before.unwrap_or_else(|| unit.check()), key)
                }
            };
            part.broken += u64::from(verdict.error().is_some());
            let claims = collected.claims.get(&rule.name).unwrap_or(&nothing);
            let context = RuleContext { file: path, imports: &split.imports, claims };
            writes.push(document::write(origin, context, rule, &needs, (&verdict, key), now));
            if writes.len() == BATCH {
                let full = std::mem::replace(&mut writes, Vec::with_capacity(BATCH));
                if batches.blocking_send((full, std::mem::take(&mut part))).is_err() {
                    return;
                }
            }
        }
    }
    // Nobody listens any more when the run has ended.
    let _ = batches.blocking_send((writes, part));
}

/// What the compiler is given for a rule: with all that it needs, however deep.
fn unit(collected: &Collected, known: &Known, rule: &Rule, needs: &Needs) -> Result<Unit, String> {
    if rule.is_latin1 {
        return Err("the rule is no UTF-8".to_owned());
    }
    let mut all = needs.clone();
    let mut before = Vec::new();
    let mut path = vec![rule.name.as_str()];
    for name in &needs.rules {
        gather(collected, known, name, &mut path, &mut before, &mut all)?;
    }
    let texts = before.iter().map(|(_, rule)| rule.text.as_str());
    Ok(Unit::new(all.modules.iter().map(String::as_str), texts, &rule.text, all.variables))
}

fn gather<'c>(
    collected: &'c Collected,
    known: &Known,
    name: &str,
    path: &mut Vec<&'c str>,
    before: &mut Vec<(&'c str, &'c Rule)>,
    all: &mut Needs,
) -> Result<(), String> {
    if path.contains(&name) {
        return Err(format!("it needs `{name}`, which needs it"));
    }
    if before.iter().any(|(_, rule)| rule.name == name) {
        return Ok(());
    }
    if path.len() + before.len() > NEEDED_MAX {
        return Err(format!("it needs more than `{NEEDED_MAX}` other rules"));
    }
    let (file, rule) =
        collected.rule(name).ok_or_else(|| format!("it needs `{name}`, which is not there"))?;
    if rule.is_latin1 {
        return Err(format!("it needs `{name}`, which is no UTF-8"));
    }
    let needs = known.needs(file, rule);
    path.push(&rule.name);
    for next in &needs.rules {
        gather(collected, known, next, path, before, all)?;
    }
    path.pop();
    before.push((file, rule));
    let modules = needs.modules.into_iter();
    for module in modules {
        if !all.modules.contains(&module) {
            all.modules.push(module);
        }
    }
    for variable in needs.variables {
        if all.variables.iter().all(|(known, _)| *known != variable.0) {
            all.variables.push(variable);
        }
    }
    Ok(())
}
