//! Stores a source's rules: verdicts only for what changed, and what left is marked once the whole was read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use base::report::Report;
use base::{Error, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use stores::documents::{Body, Filter, Index, Pages, Scan, Write};
use task::{Ctx, Cutoff, Present, Stop, Visit};
use tokio::sync::mpsc;

use super::apart::{Compiler, STACK_BYTES, Unanswered};
use super::document::{self, INDEX, OWNER, Origin, RuleContext};
use super::known::{NEEDS_MAX, Needs};
use super::verdict::{Unit, Verdict};
use super::{KnownRules, Rule, Split, about, portable, split};

/// Rules that are written together.
const BATCH: usize = 256;
/// Stored documents that are read together.
const PAGE: u32 = 500;
/// Bytes of rules that are written together.
const BATCH_BYTES: usize = 1 << 20;
/// What each tag, name and value of meta counts as beside its text, in bytes.
const PART_BYTES: usize = 64;
/// Bytes of a file's name that its rules are stored with, whatever the name is; the longest published one has 60.
const PATH_BYTES_MAX: usize = 256;
/// Rules that one source may hold; signature-base has 4,312, all of Malpedia some 5,000.
pub const SOURCE_RULES_MAX: usize = 100_000;
/// Bytes of all rules of a source, and `PART_BYTES` for each of their parts; signature-base has 12 MB.
pub const SOURCE_BYTES_MAX: usize = 96 << 20;

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
    bytes: usize,
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
        let path = path.get(..path.floor_char_boundary(PATH_BYTES_MAX)).unwrap_or(path);
        let mut split = split;
        self.rejected += split.more_rejects;
        for reject in std::mem::take(&mut split.rejects) {
            self.reject(&format!("{path}: {}", reject.reason));
            self.broken.extend(reject.name);
        }
        let place = self.files.len();
        let mut kept = Vec::with_capacity(split.rules.len());
        for rule in std::mem::take(&mut split.rules) {
            match self.names.get(&rule.name) {
                None if self.names.len() >= SOURCE_RULES_MAX || self.bytes >= SOURCE_BYTES_MAX => {
                    let reason = format!(
                        "{path}: line {}: `{}` is beyond `{SOURCE_RULES_MAX}` rules or `{SOURCE_BYTES_MAX}` bytes of one source",
                        rule.line, rule.name
                    );
                    self.reject(&reason);
                    // It is there all the same.
                    self.broken.insert(rule.name);
                }
                None => {
                    self.bytes += rule.text.len() + PART_BYTES * rule.parts();
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
    hash: String,
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
    let (work, known) = ((origin.clone(), ctx.now(), visit.cutoff()), Arc::clone(&stored));
    let collected = Arc::new(collected);
    let rules = Arc::clone(&collected);
    std::thread::Builder::new()
        .name("rules".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || write_all(&work.0, &rules, &known, work.1, &work.2, &sender))
        .map_err(|cause| Error::format("start a thread that compiles rules").because(cause))?;
    let mut outcome = Outcome::default();
    let mut seen = 0;
    while let Some(batch) = batches.recv().await {
        let batch: Batch = batch;
        seen += batch.writes.len();
        outcome.compiled += batch.outcome.compiled;
        outcome.broken += batch.outcome.broken;
        batch.notes.into_iter().for_each(|note| visit.note(note));
        visit.store(index, &batch.writes).await?;
    }
    if visit.is_cut_off() {
        return Ok(outcome);
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

/// Adds what is stored to a part of a source: the rules that stand on those that came, and what all these stand on. Each is
/// looked at once, however long the chain is that it stands in.
async fn complete(
    ctx: &Ctx,
    index: &'static Index,
    stored: &HashMap<String, Stored>,
    collected: &mut Collected,
) -> Result<()> {
    let mut known = KnownRules::default();
    let (mut ids, mut dependants) = (HashMap::new(), HashMap::<&str, Vec<&str>>::new());
    for (id, rule) in stored.iter().filter(|(_, rule)| rule.is_active) {
        known.add(&rule.file, &rule.name);
        ids.insert(rule.name.as_str(), id.as_str());
        for name in &rule.depends_on {
            dependants.entry(name).or_default().push(&rule.name);
        }
    }
    for (path, split) in &collected.files {
        split.rules.iter().for_each(|rule| known.add(path, &rule.name));
    }
    for is_upwards in [true, false] {
        let mut open: Vec<String> = collected.names.keys().cloned().collect();
        while let Some(name) = open.pop() {
            let next: Vec<String> = if is_upwards {
                let next = dependants.get(name.as_str()).into_iter().flatten();
                next.map(|name| (*name).to_owned()).collect()
            } else {
                let rule = collected.rule(&name);
                rule.map(|(path, rule)| known.needs(path, rule).rules).unwrap_or_default()
            };
            for name in next {
                let is_here =
                    collected.names.contains_key(&name) || collected.broken.contains(&name);
                let Some(id) = ids.get(name.as_str()).filter(|_| !is_here) else { continue };
                if let Some(body) = ctx.documents.get(index, id).await? {
                    collected.restore(&body);
                    open.push(name);
                }
            }
        }
    }
    Ok(())
}

/// What is needed of a stored rule to tell whether it must be compiled again, and what stands on it.
const KNOWN_BY: [&str; 8] = [
    "active",
    "name",
    "source_file",
    "depends_on",
    "rule_hash",
    "verdict",
    "verdict_error",
    "verdict_key",
];

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
                hash: text("rule_hash").unwrap_or_default().to_owned(),
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

/// Rules that are written together, and what came of them.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    outcome: Outcome,
    notes: Vec<String>,
}

/// Makes every rule a document, in batches; ends early when nobody takes them any more.
fn write_all(
    origin: &Origin,
    collected: &Collected,
    stored: &HashMap<String, Stored>,
    now: Timestamp,
    cutoff: &Cutoff,
    batches: &mpsc::Sender<Batch>,
) {
    let mut known = KnownRules::default();
    for (path, split) in &collected.files {
        split.rules.iter().for_each(|rule| known.add(path, &rule.name));
    }
    let nothing = SourceClaims::default();
    let (compiler, done, notes) = (Compiler::new(), HashMap::new(), Vec::new());
    let mut verdicts = Verdicts { origin, collected, known, stored, compiler, done, notes };
    let (mut batch, mut bytes) = (Batch::default(), 0);
    for (path, split) in &collected.files {
        for rule in &split.rules {
            // Nobody waits for it when the run has ended.
            if cutoff.is_over() {
                return;
            }
            let Judged { verdict, key, is_new } = verdicts.of(path, rule);
            batch.outcome.compiled += u64::from(is_new);
            batch.outcome.broken += u64::from(verdict.error().is_some());
            let refusal = verdict.error().is_none().then(|| portable::refusal(rule)).flatten();
            let error = verdict.error().map(ToOwned::to_owned).or(refusal);
            let needs = verdicts.known.needs(path, rule);
            let claims = collected.claims.get(&rule.name).unwrap_or(&nothing);
            let context = RuleContext { file: path, imports: &split.imports, claims };
            let verdict = (verdict.name(), error, key);
            bytes += rule.text.len() + PART_BYTES * rule.parts();
            batch.writes.push(document::write(origin, context, rule, &needs, verdict, now));
            if batch.writes.len() == BATCH || bytes >= BATCH_BYTES {
                bytes = 0;
                batch.notes.append(&mut verdicts.notes);
                if batches.blocking_send(std::mem::take(&mut batch)).is_err() {
                    return;
                }
            }
        }
    }
    batch.notes.append(&mut verdicts.notes);
    // Nobody listens any more when the run has ended.
    let _ = batches.blocking_send(batch);
}

/// The verdict on a rule.
#[derive(Clone)]
struct Judged {
    verdict: Verdict,
    /// What it depends on; empty where no compiler was asked.
    key: String,
    /// Whether a compiler was asked just now.
    is_new: bool,
}

impl Judged {
    fn unasked(reason: String) -> Self {
        Self { verdict: Verdict::Broken(reason), key: String::new(), is_new: false }
    }
}

/// The verdicts on all rules, each made once and after those that it depends on.
struct Verdicts<'c> {
    origin: &'c Origin,
    collected: &'c Collected,
    known: KnownRules,
    stored: &'c HashMap<String, Stored>,
    compiler: Compiler,
    done: HashMap<&'c str, Judged>,
    /// Rules that ended the compiler.
    notes: Vec<String>,
}

impl<'c> Verdicts<'c> {
    fn of(&mut self, file: &'c str, rule: &'c Rule) -> Judged {
        let mut open = HashSet::new();
        let mut path = vec![(file, rule)];
        while let Some((file, rule)) = path.last().copied() {
            if self.done.contains_key(rule.name.as_str()) {
                path.pop();
                continue;
            }
            let needs = self.known.needs(file, rule);
            let unknown = needs.rules.iter().filter(|name| !self.done.contains_key(name.as_str()));
            let unknown: Vec<_> = unknown.filter_map(|name| self.collected.rule(name)).collect();
            // What is still unknown when a rule is looked at again needs this rule itself.
            if open.insert(rule.name.as_str()) && !unknown.is_empty() {
                path.extend(unknown);
                continue;
            }
            let judged = self.judge(file, rule, &needs);
            self.done.insert(&rule.name, judged);
        }
        self.done.get(rule.name.as_str()).cloned().unwrap_or_else(|| Judged::unasked(String::new()))
    }

    /// The verdict on a rule, all that it needs being judged.
    fn judge(&mut self, file: &str, rule: &Rule, needs: &Needs) -> Judged {
        if rule.is_latin1 {
            return Judged::unasked("the rule is no UTF-8".to_owned());
        }
        if needs.rules.len() > NEEDS_MAX {
            return Judged::unasked(format!("it needs more than `{NEEDS_MAX}` other rules"));
        }
        let mut rules = Vec::with_capacity(needs.rules.len());
        for name in &needs.rules {
            let why = match self.done.get(name.as_str()) {
                Some(Judged { verdict: Verdict::Broken(_), .. }) => "does not compile",
                Some(judged) => {
                    rules.push((name.as_str(), &judged.verdict));
                    continue;
                }
                None if self.collected.rule(name).is_some() => "needs it",
                None => "is not there",
            };
            return Judged::unasked(format!("it needs `{name}`, which {why}"));
        }
        // Which rules a set holds matters only where it holds none, which the compiler refuses and YARA does not.
        let sets: Vec<String> = needs.sets.iter().map(|set| format!("{set}_")).collect();
        rules.extend(sets.iter().map(|name| (name.as_str(), &Verdict::Alone)));
        let modules = needs.modules.iter().map(String::as_str);
        let unit = Unit::new(modules, rules, &rule.text, needs.variables.clone());
        let key = unit.key();
        let stored = self.stored;
        let before = stored.get(&self.origin.id(&rule.name));
        let known = before.filter(|before| before.key.as_ref() == Some(&key));
        if let Some(verdict) = known.and_then(|before| before.verdict.clone()) {
            return Judged { verdict, key, is_new: false };
        }
        let verdict = match self.compiler.check(&unit) {
            Ok(verdict) => verdict,
            Err(Unanswered::Unasked(why)) => return Judged::unasked(why),
            Err(Unanswered::Ended(why)) => {
                self.notes.push(format!("{file}: line {}: `{}`: {why}", rule.line, rule.name));
                Verdict::Broken(why)
            }
        };
        // A key of the form before is no reason to write a rule again.
        let kept = before
            .filter(|before| before.hash == rule.hash && before.verdict.as_ref() == Some(&verdict))
            .and_then(|before| before.key.clone())
            .filter(|before| {
                key.starts_with(Unit::NAMES_RULES) && !before.starts_with(Unit::NAMES_RULES)
            });
        Judged { verdict, key: kept.unwrap_or(key), is_new: true }
    }
}
