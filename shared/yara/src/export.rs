//! Stored rules written out so that compilers take them as they are: what a rule needs before it, imports on top, equal
//! names made distinct, and each rule that cannot be exported named with its reason.
//!
//! Rules that need variables of a scanner go apart, as no compiler takes them before the variables are defined. That text
//! stands by itself: what its rules need of the others is in it once more, private and under a name of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use serde::Serialize;
use serde_json::{Value, json};
use stores::documents::Body;
use yara_x_parser::Parser;
use yara_x_parser::cst::{Event, SyntaxKind};

use super::{Meaning, Rule, portable, split};

/// Which rules are exported; an empty filter lets every rule through.
#[derive(Clone, Debug, Default)]
pub struct ExportFilter {
    /// Any of these categories.
    pub categories: Vec<String>,
    /// Any of these families, by Malpedia's id or by a name, whatever their case.
    pub families: Vec<String>,
    /// At least this score; a rule without one has none of it.
    pub score: Option<i64>,
    /// A licence that holds this text, whatever its case.
    pub license: Option<String>,
    /// Any of these verdicts.
    pub verdicts: Vec<String>,
}

/// A rule that is not exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Withheld {
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// Why.
    pub reason: String,
}

/// Modules that YARA and YARA-X have as they are installed: YARA 4.5 leaves out `macho`, `dex`, `magic` and `cuckoo` unless
/// it is built with them.
const MODULES: &[&str] = &["console", "dotnet", "elf", "hash", "math", "pe", "string", "time"];

/// Why a rule stayed behind that is as good as the others.
pub const NOT_ASKED_FOR: &str = "not asked for";

/// What goes out.
#[derive(Clone, Debug, Default)]
pub struct Export {
    /// The rules.
    pub texts: Texts,
    /// Rules in either text, copies not counted.
    pub exported: usize,
    /// Rules under another name than their own, and copies of rules, which have names of their own: source, own name, new
    /// name.
    pub renamed: Vec<(String, String, String)>,
    /// The others.
    pub withheld: Vec<Withheld>,
}

/// A stored rule, read again.
struct Stored {
    source: String,
    file: String,
    license: String,
    author: String,
    rule: Rule,
    depends_on: Vec<String>,
    /// Why it cannot go out, or was not asked for.
    barred: Option<String>,
    is_wanted: bool,
    /// The name it goes out under.
    name: String,
}

impl Stored {
    fn modules(&self) -> impl Iterator<Item = String> {
        let modules = self.rule.names.iter().filter(|name| name.meaning == Meaning::Module);
        modules.map(|name| name.name.clone())
    }

    fn variables(&self) -> impl Iterator<Item = (&str, Meaning)> {
        let outside = self.rule.names.iter().filter(|name| {
            !matches!(name.meaning, Meaning::Module | Meaning::Rules)
                && !self.depends_on.contains(&name.name)
        });
        outside.map(|name| (name.name.as_str(), name.meaning))
    }
}

/// Decides what goes out of active documents, and how; nothing but what is known of the compilers is asked.
pub fn export(documents: &[Body], filter: &ExportFilter) -> Export {
    Selection::of(documents, filter).export()
}

/// What a compiler says of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It takes them.
    Taken,
    /// It refuses them, for this reason.
    Refused(String),
    /// It could not be asked, or did not answer.
    Unknown(String),
}

/// The texts of an export, or of a part of it that stands by itself.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// Rules that compile as they are.
    pub plain: String,
    /// Rules that compile once `variables` are defined.
    pub with_variables: String,
    /// The variables, each with a value of the right kind.
    pub variables: BTreeMap<String, Value>,
}

/// Rules on their way out.
pub struct Selection {
    rules: Vec<Stored>,
    variables: BTreeMap<String, Value>,
    renamed: Vec<(String, String, String)>,
    unread: Vec<Withheld>,
}

impl Selection {
    /// Reads active documents.
    pub fn of(documents: &[Body], filter: &ExportFilter) -> Self {
        let (mut rules, mut unread) = (Vec::with_capacity(documents.len()), Vec::new());
        for body in documents {
            match read(body, filter) {
                Ok(stored) => rules.push(stored),
                Err(withheld) => unread.push(withheld),
            }
        }
        rules.sort_by(|one: &Stored, other| {
            (&one.source, &one.file, &one.rule.name).cmp(&(
                &other.source,
                &other.file,
                &other.rule.name,
            ))
        });
        let modules: BTreeSet<String> = rules.iter().flat_map(Stored::modules).collect();
        let mut variables = BTreeMap::new();
        agree_on_variables(&mut rules, &modules, &mut variables);
        let outside = variables.keys().chain(&modules).cloned().collect();
        let mut renamed = Vec::new();
        name_apart(&mut rules, &outside, &mut renamed);
        Self { rules, variables, renamed, unread }
    }

    /// Withholds each rule that a compiler refuses, whatever the reason: `ask` gives texts to the compilers.
    ///
    /// A refused text is halved until the rules in it are found that are refused by themselves, with what they need.
    /// # Errors
    /// Why nothing is proven: no answer, or the whole is refused although each part of it is taken.
    pub fn prove(&mut self, mut ask: impl FnMut(&Texts) -> Answer) -> Result<(), String> {
        let whole = self.order();
        if whole.is_empty() {
            return Ok(());
        }
        let mut open = vec![whole];
        let mut is_whole = true;
        while let Some(part) = open.pop() {
            // What needs a rule that was found meanwhile goes with it.
            let plan = Plan::of(&self.rules);
            let part: Vec<usize> =
                part.into_iter().filter(|at| plan.reasons[*at].is_none()).collect();
            if part.is_empty() {
                continue;
            }
            match ask(&self.write(&part, &mut Vec::new())) {
                Answer::Taken if is_whole => return Ok(()),
                Answer::Taken => {}
                Answer::Unknown(why) => return Err(why),
                Answer::Refused(reason) => match part.as_slice() {
                    [one] => self.rules[*one].barred = Some(reason),
                    _ => {
                        let (first, last) = part.split_at(part.len() / 2);
                        open.extend([last.to_vec(), first.to_vec()]);
                    }
                },
            }
            is_whole = false;
        }
        let whole = self.order();
        match ask(&self.write(&whole, &mut Vec::new())) {
            Answer::Taken => Ok(()),
            Answer::Refused(reason) => {
                Err(format!("each rule is taken by itself, but all together are refused: {reason}"))
            }
            Answer::Unknown(why) => Err(why),
        }
    }

    /// The rules that were asked for and what they need, each behind that.
    fn order(&self) -> Vec<usize> {
        let wanted = (0..self.rules.len()).filter(|at| self.rules[*at].is_wanted);
        Plan::of(&self.rules).order(wanted)
    }

    /// The texts of these rules and of all that they need.
    fn write(&self, wanted: &[usize], renamed: &mut Vec<(String, String, String)>) -> Texts {
        let plan = Plan::of(&self.rules);
        let order = plan.order(wanted.iter().copied());
        let mut texts = write(&self.rules, &plan, &order, &self.variables, renamed);
        let used: BTreeSet<&str> =
            order.iter().flat_map(|at| self.rules[*at].variables().map(|(name, _)| name)).collect();
        let variables = self.variables.iter().filter(|(name, _)| used.contains(name.as_str()));
        texts.variables = variables.map(|(name, value)| (name.clone(), value.clone())).collect();
        texts
    }

    /// What goes out, and what does not.
    pub fn export(&self) -> Export {
        let (plan, order) = (Plan::of(&self.rules), self.order());
        let is_put: BTreeSet<usize> = order.iter().copied().collect();
        let mut withheld = self.unread.clone();
        for (at, stored) in self.rules.iter().enumerate().filter(|(at, _)| !is_put.contains(at)) {
            withheld.push(Withheld {
                name: stored.rule.name.clone(),
                source: stored.source.clone(),
                reason: plan.reasons[at].clone().unwrap_or_else(|| NOT_ASKED_FOR.to_owned()),
            });
        }
        let out: BTreeSet<&str> = order.iter().map(|at| self.rules[*at].name.as_str()).collect();
        let mut renamed = self.renamed.clone();
        renamed.retain(|(_, _, name)| out.contains(name.as_str()));
        let texts = self.write(&order, &mut renamed);
        Export { texts, exported: order.len(), renamed, withheld }
    }
}

/// The fields of a stored rule that an export reads.
pub const FIELDS: &[&str] = &[
    "author",
    "category",
    "depends_on",
    "families",
    "license",
    "name",
    "rule_content",
    "rule_encoding",
    "score",
    "source",
    "source_file",
    "verdict",
    "verdict_error",
];

fn read(body: &Body, filter: &ExportFilter) -> Result<Stored, Withheld> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |name: &str| -> Vec<String> {
        let values = body.get(name).and_then(Value::as_array).into_iter().flatten();
        values.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
    };
    let (name, source) = (text("name"), text("source"));
    let withhold = |reason: &str| Withheld {
        name: name.clone(),
        source: source.clone(),
        reason: reason.to_owned(),
    };
    if !text("rule_encoding").is_empty() {
        return Err(withhold("it is no UTF-8"));
    }
    let mut split = split(text("rule_content").as_bytes());
    let rule = split.rules.pop().filter(|_| split.rules.is_empty() && split.rejects.is_empty());
    let Some(rule) = rule else { return Err(withhold("its stored text is not one rule")) };
    let mut modules =
        rule.names.iter().filter(|name| name.meaning == Meaning::Module).map(|name| &name.name);
    let barred = if text("verdict") == "broken" {
        Some(format!("it does not compile: {}", text("verdict_error")))
    } else if let Some(rare) = modules.find(|module| !MODULES.contains(&module.as_str())) {
        Some(format!("it needs the module `{rare}`, which not every YARA is built with"))
    } else if let Some(reason) = portable::refusal(&rule) {
        Some(reason)
    } else if rule.is("global") {
        Some("it is global: it would decide over all rules beside it".to_owned())
    } else {
        None
    };
    let is_in = |list: &[String], value: &str| {
        list.is_empty() || list.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let families = list("families");
    let is_of_family =
        filter.families.is_empty() || families.iter().any(|family| is_in(&filter.families, family));
    let score = body.get("score").and_then(Value::as_i64);
    let license = text("license");
    let is_licensed = filter
        .license
        .as_ref()
        .is_none_or(|wanted| license.to_lowercase().contains(&wanted.to_lowercase()));
    let is_wanted = is_in(&filter.categories, &text("category"))
        && is_of_family
        && filter.score.is_none_or(|least| score.is_some_and(|score| score >= least))
        && is_licensed
        && is_in(&filter.verdicts, &text("verdict"));
    Ok(Stored {
        file: text("source_file"),
        author: text("author"),
        depends_on: list("depends_on"),
        name: rule.name.clone(),
        source,
        license,
        rule,
        barred,
        is_wanted,
    })
}

/// Gives each variable the kind of its first use; a rule that uses it as another kind, or as what others use as a module,
/// cannot go out with the rest.
fn agree_on_variables(
    rules: &mut [Stored],
    modules: &BTreeSet<String>,
    variables: &mut BTreeMap<String, Value>,
) {
    let mut kinds: HashMap<String, Meaning> = HashMap::new();
    for stored in rules.iter_mut().filter(|stored| stored.barred.is_none()) {
        let used: Vec<(String, Meaning)> =
            stored.variables().map(|(name, kind)| (name.to_owned(), kind)).collect();
        for (name, kind) in used {
            if modules.contains(&name) {
                stored.barred = Some(format!("it uses the module `{name}` as a variable"));
                continue;
            }
            let known = *kinds.entry(name.clone()).or_insert(kind);
            if known != kind {
                stored.barred =
                    Some(format!("it uses the variable `{name}` as another kind than other rules"));
            }
            variables.insert(
                name,
                match known {
                    Meaning::Integer => json!(0),
                    Meaning::Bool | Meaning::Rules => json!(false),
                    Meaning::Text | Meaning::Module => json!(""),
                },
            );
        }
    }
}

/// Gives each rule a name of its own: the first of equal ones keeps its name; the others, and those named as something
/// `outside` of rules, get their source's behind it.
fn name_apart(
    rules: &mut [Stored],
    outside: &BTreeSet<String>,
    renamed: &mut Vec<(String, String, String)>,
) {
    let (mut seen, mut taken) = (outside.clone(), outside.clone());
    taken.extend(rules.iter().map(|stored| stored.rule.name.clone()));
    for stored in rules.iter_mut().filter(|stored| stored.barred.is_none()) {
        if seen.insert(stored.rule.name.clone()) {
            continue;
        }
        let suffix: String = stored
            .source
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' })
            .collect();
        stored.name = free_name(&format!("{}_{suffix}", stored.rule.name), &mut taken);
        renamed.push((stored.source.clone(), stored.rule.name.clone(), stored.name.clone()));
    }
}

fn free_name(wanted: &str, taken: &mut BTreeSet<String>) -> String {
    let mut name = wanted.to_owned();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{wanted}_{number}");
        number += 1;
    }
    name
}

/// Which rule needs which, and what follows from it. A chain of needs may be as long as there are rules.
struct Plan {
    needs: Vec<Vec<usize>>,
    /// Why a rule cannot go out, with all that it needs.
    reasons: Vec<Option<String>>,
    /// All rules, each behind all that it needs.
    order: Vec<usize>,
    /// Whether a rule, or what it needs, needs a variable.
    has_variables: Vec<bool>,
}

impl Plan {
    fn of(rules: &[Stored]) -> Self {
        let places: HashMap<(&str, &str), usize> = rules
            .iter()
            .enumerate()
            .map(|(at, stored)| ((stored.source.as_str(), stored.rule.name.as_str()), at))
            .collect();
        let needs = rules.iter().map(|stored| {
            let place = |name| places.get(&(stored.source.as_str(), name)).copied();
            stored.depends_on.iter().filter_map(|name| place(name.as_str())).collect()
        });
        let mut plan = Self {
            needs: needs.collect(),
            reasons: vec![None; rules.len()],
            order: Vec::with_capacity(rules.len()),
            has_variables: vec![false; rules.len()],
        };
        // The reason of the rule at the end of the chain, not of each between.
        let mut causes: Vec<Option<Rc<str>>> = vec![None; rules.len()];
        let mut is_begun = vec![false; rules.len()];
        let mut is_done = vec![false; rules.len()];
        for start in 0..rules.len() {
            let mut path = vec![start];
            while let Some(at) = path.last().copied() {
                if is_done[at] {
                    path.pop();
                    continue;
                }
                let open: Vec<usize> =
                    plan.needs[at].iter().copied().filter(|other| !is_done[*other]).collect();
                if !std::mem::replace(&mut is_begun[at], true) && !open.is_empty() {
                    path.extend(open.iter().rev());
                    continue;
                }
                is_done[at] = true;
                plan.order.push(at);
                let stored = &rules[at];
                plan.has_variables[at] = stored.variables().next().is_some()
                    || plan.needs[at].iter().any(|other| plan.has_variables[*other]);
                let name = |other: usize| &rules[other].rule.name;
                let missing = stored
                    .depends_on
                    .iter()
                    .find(|name| !places.contains_key(&(stored.source.as_str(), name.as_str())));
                let own = if let Some(reason) = &stored.barred {
                    Some(reason.clone())
                } else if let Some(other) = open.first() {
                    Some(format!("it needs `{}`, which needs it", name(*other)))
                } else {
                    missing.map(|name| format!("it needs `{name}`, which is not stored"))
                };
                let needed = plan.needs[at].iter().find_map(|other| {
                    causes[*other]
                        .clone()
                        .map(|cause| (format!("it needs `{}`: {cause}", name(*other)), cause))
                });
                (plan.reasons[at], causes[at]) = match (own, needed) {
                    (Some(own), _) => (Some(own.clone()), Some(own.into())),
                    (None, Some((reason, cause))) => (Some(reason), Some(cause)),
                    (None, None) => (None, None),
                };
            }
        }
        plan
    }

    /// Those of these rules that can go out with all that they need, each behind it.
    fn order(&self, wanted: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut is_put = vec![false; self.needs.len()];
        let mut open: Vec<usize> =
            wanted.into_iter().filter(|at| self.reasons[*at].is_none()).collect();
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut is_put[at], true) {
                open.extend(&self.needs[at]);
            }
        }
        self.order.iter().copied().filter(|at| is_put[*at]).collect()
    }
}

/// Writes rules, each behind what it needs, as two texts that stand by themselves.
fn write(
    rules: &[Stored],
    plan: &Plan,
    order: &[usize],
    variables: &BTreeMap<String, Value>,
    renamed: &mut Vec<(String, String, String)>,
) -> Texts {
    let mut taken: BTreeSet<String> =
        rules.iter().flat_map(|stored| [stored.rule.name.clone(), stored.name.clone()]).collect();
    taken.extend(variables.keys().cloned());
    // What the rules with variables need of the others.
    let mut is_copied = vec![false; rules.len()];
    for at in order.iter().rev().filter(|at| plan.has_variables[**at]) {
        plan.needs[*at].iter().for_each(|other| is_copied[*other] = !plan.has_variables[*other]);
    }
    for at in order.iter().rev() {
        if is_copied[*at] {
            plan.needs[*at].iter().for_each(|other| is_copied[*other] = true);
        }
    }
    let mut copies: HashMap<usize, String> = HashMap::new();
    let (mut plain, mut apart) = (Text::default(), Text::default());
    for at in order {
        let stored = &rules[*at];
        let names = |copies: Option<&HashMap<usize, String>>| {
            let new = |other: &usize| {
                let copy = copies.and_then(|copies| copies.get(other));
                (rules[*other].rule.name.clone(), copy.unwrap_or(&rules[*other].name).clone())
            };
            plan.needs[*at].iter().map(new).collect::<BTreeMap<_, _>>()
        };
        if plan.has_variables[*at] {
            apart.add(stored, &stored.name, &names(Some(&copies)), false);
            continue;
        }
        plain.add(stored, &stored.name, &names(None), false);
        if is_copied[*at] {
            let name = free_name(&format!("{}_copy", stored.name), &mut taken);
            apart.add(stored, &name, &names(Some(&copies)), true);
            renamed.push((stored.source.clone(), stored.rule.name.clone(), name.clone()));
            copies.insert(*at, name);
        }
    }
    Texts { plain: plain.whole(), with_variables: apart.whole(), variables: BTreeMap::new() }
}

/// A text of many rules.
#[derive(Default)]
struct Text {
    modules: BTreeSet<String>,
    body: String,
}

impl Text {
    fn add(
        &mut self,
        stored: &Stored,
        name: &str,
        names: &BTreeMap<String, String>,
        is_private: bool,
    ) {
        self.modules.extend(stored.modules());
        let license = if stored.license.is_empty() { "not stated" } else { &stored.license };
        let author = if stored.author.is_empty() { "not stated" } else { &stored.author };
        for line in [
            format!("{}: {}", stored.source, stored.file),
            format!("author: {author}; licence: {license}"),
        ] {
            // Nothing that a source says may end the comment.
            let line = line.replace(|letter: char| letter.is_control(), " ");
            let line = line.replace(['\u{2028}', '\u{2029}', '\u{85}'], " ");
            self.body.push_str("// ");
            self.body.push_str(line.trim_end_matches('\\'));
            self.body.push('\n');
        }
        if is_private && !stored.rule.is("private") {
            self.body.push_str("private ");
        }
        self.body.push_str(&rename(&stored.rule.text, name, names));
        self.body.push_str("\n\n");
    }

    fn whole(&self) -> String {
        let mut text = String::new();
        for module in &self.modules {
            text.push_str(&format!("import \"{module}\"\n"));
        }
        text.push('\n');
        text.push_str(&self.body);
        text
    }
}

/// The rule's text with its own name and the names in its condition replaced, and nothing else.
fn rename(text: &str, own: &str, names: &BTreeMap<String, String>) -> String {
    let mut renamed = String::with_capacity(text.len() + 32);
    let (mut at, mut in_condition, mut before) = (0, 0_usize, None);
    for event in Parser::new(text.as_bytes()) {
        let (kind, span) = match event {
            Event::Begin { kind: SyntaxKind::CONDITION_BLK, .. } => {
                in_condition += 1;
                continue;
            }
            Event::End { kind: SyntaxKind::CONDITION_BLK, .. } => {
                in_condition = in_condition.saturating_sub(1);
                continue;
            }
            Event::Token { kind, span } => (kind, span),
            Event::Begin { .. } | Event::End { .. } | Event::Error { .. } => continue,
        };
        if matches!(kind, SyntaxKind::WHITESPACE | SyntaxKind::NEWLINE | SyntaxKind::COMMENT) {
            continue;
        }
        let given = text.get(span.range()).unwrap_or_default();
        let new = match (kind, before) {
            (SyntaxKind::IDENT, Some(SyntaxKind::RULE_KW)) => Some(own),
            (SyntaxKind::IDENT, Some(SyntaxKind::DOT)) => None,
            (SyntaxKind::IDENT, _) if in_condition > 0 => names.get(given).map(String::as_str),
            _ => None,
        };
        if let Some(new) = new {
            renamed.push_str(text.get(at..span.start()).unwrap_or_default());
            renamed.push_str(new);
            at = span.end();
        }
        before = Some(kind);
    }
    renamed.push_str(text.get(at..).unwrap_or_default());
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(source: &str, text: &str, mut more: Value) -> Body {
        let name = split(text.as_bytes()).rules[0].name.clone();
        let mut body = json!({
            "source": source, "source_file": "f.yar", "name": name, "rule_content": text, "category": "apt",
            "verdict": "compiles", "license": "DRL", "author": "someone\nrule evil { condition: true }",
        });
        body.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
        body.as_object().unwrap().clone()
    }

    fn reasons(export: &Export) -> Vec<&str> {
        export.withheld.iter().map(|withheld| withheld.reason.as_str()).collect()
    }

    #[test]
    fn equal_names_of_two_sources_stay_two_rules_and_dependants_follow() {
        let documents = [
            stored("a", "rule Base { strings: $Base = \"Base\" condition: $Base }", json!({})),
            stored("b", "private rule Base { condition: pe.Base == 1 }", json!({})),
            stored(
                "b",
                "rule User { meta: a = \"Base\" condition: Base and pe.is_pe }",
                json!({ "depends_on": ["Base"] }),
            ),
        ];
        let export = export(&documents, &ExportFilter::default());
        assert_eq!((export.exported, export.withheld.len()), (3, 0), "{:?}", export.withheld);
        assert!(export.texts.plain.starts_with("import \"pe\"\n"));
        assert!(export.texts.plain.contains("private rule Base_b { condition: pe.Base == 1 }"));
        assert!(export.texts.plain.contains("a = \"Base\" condition: Base_b and pe.is_pe"));
        assert_eq!(split(export.texts.plain.as_bytes()).rules.len(), 3, "no author adds a rule");
    }

    #[test]
    fn a_rule_named_as_a_variable_or_module_gets_another_name() {
        let documents = [
            stored("a", "rule level { condition: true }", json!({})),
            stored("a", "rule pe { condition: level }", json!({ "depends_on": ["level"] })),
            stored("b", "rule User { condition: level == 3 and pe.is_pe }", json!({})),
            stored("b", "rule Odd { condition: pe == 3 }", json!({})),
        ];
        let export = export(&documents, &ExportFilter::default());
        assert_eq!(export.exported, 3);
        assert_eq!(reasons(&export), ["it uses the module `pe` as a variable"]);
        assert!(
            export.texts.plain.contains("rule level_a { condition: true }"),
            "{}",
            export.texts.plain
        );
        assert!(
            export.texts.plain.contains("rule pe_a { condition: level_a }"),
            "{}",
            export.texts.plain
        );
        assert!(
            export
                .texts
                .with_variables
                .contains("rule User { condition: level == 3 and pe.is_pe }")
        );
    }

    #[test]
    fn a_module_that_compilers_are_built_without_stays_behind() {
        let rule = "rule Mach { condition: macho.cputype == 7 }";
        let user = stored("a", "rule User { condition: Mach }", json!({ "depends_on": ["Mach"] }));
        let export = export(&[stored("a", rule, json!({})), user], &ExportFilter::default());
        assert_eq!(export.exported, 0);
        let [one, other] = reasons(&export)[..] else { panic!("{:?}", export.withheld) };
        assert!(one.contains("`macho`") && other.contains("`macho`"), "{one}, {other}");
    }

    #[test]
    fn what_needs_variables_stands_apart_and_by_itself() {
        let documents = [
            stored("a", "rule Base { condition: true }", json!({})),
            stored(
                "a",
                "rule Ext { condition: Base and filename contains \"x\" }",
                json!({ "depends_on": ["Base"] }),
            ),
            stored("a", "rule More { condition: Ext }", json!({ "depends_on": ["Ext"] })),
        ];
        let export = export(&documents, &ExportFilter::default());
        assert_eq!(export.exported, 3);
        assert_eq!(export.texts.variables, BTreeMap::from([("filename".to_owned(), json!(""))]));
        assert_eq!(split(export.texts.plain.as_bytes()).rules.len(), 1);
        assert!(export.texts.with_variables.contains("private rule Base_copy {"));
        let copy = ["a", "Base", "Base_copy"].map(ToOwned::to_owned);
        assert_eq!(export.renamed, [copy.into()], "its condition points to another name");
        assert!(export.texts.with_variables.contains("Base_copy and filename"));
        assert!(export.texts.with_variables.contains("rule More { condition: Ext }"));
    }

    #[test]
    fn every_rule_goes_out_or_has_a_reason() {
        let documents = [
            stored("a", "rule A { condition: B }", json!({ "depends_on": ["B"] })),
            stored("a", "rule B { condition: A }", json!({ "depends_on": ["A"] })),
            stored("a", "rule C { condition: X }", json!({ "depends_on": ["X"] })),
            stored("a", "global rule G { condition: true }", json!({})),
            stored("a", "rule H { condition: G }", json!({ "depends_on": ["G"] })),
            stored(
                "a",
                "rule K { condition: true }",
                json!({ "verdict": "broken", "verdict_error": "no" }),
            ),
            stored("a", "rule L { condition: true }", json!({ "category": "crime" })),
            stored("a", "rule M { condition: size > 1 }", json!({})),
            stored("a", "rule N { condition: size contains \"x\" }", json!({})),
            stored("a", "rule O { condition: L }", json!({ "depends_on": ["L"] })),
            stored("a", "rule P { condition: true }", json!({ "rule_encoding": "latin1" })),
        ];
        let filter = ExportFilter { categories: vec!["apt".to_owned()], ..ExportFilter::default() };
        let export = export(&documents, &filter);
        assert_eq!(export.exported + export.withheld.len(), documents.len());
        assert_eq!(export.exported, 3, "L goes along with O: {:?}", reasons(&export));
        for part in
            ["which needs it", "not stored", "global", "does not compile", "another kind", "UTF-8"]
        {
            assert!(reasons(&export).iter().any(|reason| reason.contains(part)), "{part}");
        }
    }

    #[test]
    fn what_is_refused_is_found_in_a_few_steps_and_goes_with_what_needs_it() {
        let mut documents: Vec<Body> = (0..1_000)
            .map(|at| stored("a", &format!("rule R{at} {{ condition: true }}"), json!({})))
            .collect();
        documents.push(stored(
            "a",
            "rule User { condition: R77 and R5 }",
            json!({ "depends_on": ["R77", "R5"] }),
        ));
        let mut selection = Selection::of(&documents, &ExportFilter::default());
        let mut asked = 0;
        let proof = selection.prove(|texts| {
            asked += 1;
            let bad = ["rule R77 ", "rule R500 "].iter().find(|bad| texts.plain.contains(**bad));
            bad.map_or(Answer::Taken, |bad| Answer::Refused(format!("no {bad}")))
        });
        assert_eq!(proof, Ok(()));
        let export = selection.export();
        assert_eq!(export.exported, 998);
        let reasons = reasons(&export);
        assert_eq!(reasons, ["no rule R500 ", "no rule R77 ", "it needs `R77`: no rule R77 "]);
        assert!(asked < 50, "{asked}");
    }

    #[test]
    fn without_an_answer_or_with_a_whole_that_is_refused_nothing_is_proven() {
        let rules = ["rule A { condition: true }", "rule B { condition: true }"];
        let documents = rules.map(|rule| stored("a", rule, json!({})));
        let mut selection = Selection::of(&documents, &ExportFilter::default());
        let unknown = selection.prove(|_| Answer::Unknown("no time".to_owned()));
        assert_eq!(unknown, Err("no time".to_owned()));
        let both = selection.prove(|texts| match split(texts.plain.as_bytes()).rules.len() {
            2 => Answer::Refused("too many".to_owned()),
            _ => Answer::Taken,
        });
        assert!(both.is_err_and(|why| why.contains("too many")));
        assert_eq!(selection.export().exported, 2);
    }

    #[test]
    fn a_long_chain_and_many_ways_to_one_rule_are_walked_once() {
        let rule = |at: usize| {
            let needs: Vec<String> =
                (at.saturating_sub(3)..at).map(|at| format!("R{at}")).collect();
            let condition = if at == 0 { "true".to_owned() } else { needs.join(" and ") };
            let text = format!("rule R{at} {{ condition: {condition} }}");
            stored("a", &text, json!({ "depends_on": needs }))
        };
        let documents: Vec<Body> = (0..20_000).map(rule).collect();
        let whole = export(&documents, &ExportFilter::default());
        assert_eq!((whole.exported, whole.withheld.len()), (20_000, 0));
        let rest = export(&documents[1..], &ExportFilter::default());
        assert_eq!(rest.withheld.len(), 19_999);
        assert!(reasons(&rest).iter().all(|reason| reason.len() < 80), "{}", reasons(&rest)[9_999]);
    }
}
