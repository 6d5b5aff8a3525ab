//! Stored rules written out so that compilers take them as they are: what a rule needs before it, imports on top, equal
//! names made distinct, and each rule that cannot be exported named with its reason.
//!
//! Rules that need variables of a scanner go apart, as no compiler takes them before the variables are defined. That text
//! stands by itself: what its rules need of the others is in it once more, private and under a name of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    /// Rules that compile as they are.
    pub plain: String,
    /// Rules that compile once `variables` are defined.
    pub with_variables: String,
    /// The variables, each with a value of the right kind.
    pub variables: BTreeMap<String, Value>,
    /// Rules in either text, copies not counted.
    pub exported: usize,
    /// Rules under another name than their own: source, own name, new name.
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
            name.meaning != Meaning::Module && !self.depends_on.contains(&name.name)
        });
        outside.map(|name| (name.name.as_str(), name.meaning))
    }
}

/// Decides what goes out of active documents, and how.
pub fn export(documents: &[Body], filter: &ExportFilter) -> Export {
    let mut export = Export::default();
    let mut rules = Vec::with_capacity(documents.len());
    for body in documents {
        match read(body, filter) {
            Ok(stored) => rules.push(stored),
            Err(withheld) => export.withheld.push(withheld),
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
    agree_on_variables(&mut rules, &modules, &mut export.variables);
    let outside = export.variables.keys().chain(&modules).cloned().collect();
    name_apart(&mut rules, &outside, &mut export.renamed);
    let mut plan = Plan::of(&rules);
    let wanted: Vec<usize> = (0..rules.len()).filter(|at| rules[*at].is_wanted).collect();
    let mut order = Vec::new();
    for at in wanted {
        if plan.can(at, &mut Vec::new()).is_ok() {
            plan.put(at, &mut order);
        }
    }
    for (at, stored) in rules.iter().enumerate() {
        if plan.is_put[at] {
            continue;
        }
        let reason = plan.can(at, &mut Vec::new()).err();
        export.withheld.push(Withheld {
            name: stored.rule.name.clone(),
            source: stored.source.clone(),
            reason: reason.unwrap_or_else(|| NOT_ASKED_FOR.to_owned()),
        });
    }
    export.exported = order.len();
    let needs_variables: Vec<bool> = (0..rules.len()).map(|at| plan.has_variables(at)).collect();
    write(&rules, &plan, &order, &needs_variables, &mut export);
    let used: BTreeSet<&str> =
        order.iter().flat_map(|at| rules[*at].variables().map(|(name, _)| name)).collect();
    export.variables.retain(|name, _| used.contains(name.as_str()));
    export
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
    } else if let Some(reason) = portable::refusal(&rule.text) {
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
                    Meaning::Bool => json!(false),
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

/// Which rule needs which.
struct Plan<'r> {
    rules: &'r [Stored],
    needs: Vec<Vec<Result<usize, String>>>,
    is_put: Vec<bool>,
}

impl<'r> Plan<'r> {
    fn of(rules: &'r [Stored]) -> Self {
        let mut places: HashMap<(&str, &str), usize> = HashMap::new();
        for (at, stored) in rules.iter().enumerate() {
            places.insert((&stored.source, &stored.rule.name), at);
        }
        let needs = rules.iter().map(|stored| {
            let one = |name: &String| {
                places.get(&(stored.source.as_str(), name.as_str())).copied().ok_or(name.clone())
            };
            stored.depends_on.iter().map(one).collect()
        });
        Self { rules, needs: needs.collect(), is_put: vec![false; rules.len()] }
    }

    /// Why a rule cannot go out, with all that it needs.
    fn can(&self, at: usize, path: &mut Vec<usize>) -> Result<(), String> {
        if self.is_put[at] {
            return Ok(());
        }
        if let Some(reason) = &self.rules[at].barred {
            return Err(reason.clone());
        }
        if path.contains(&at) {
            return Err(format!("it needs `{}`, which needs it", self.rules[at].rule.name));
        }
        path.push(at);
        for need in &self.needs[at] {
            match need {
                Err(name) => return Err(format!("it needs `{name}`, which is not stored")),
                Ok(other) => self.can(*other, path).map_err(|reason| {
                    format!("it needs `{}`: {reason}", self.rules[*other].rule.name)
                })?,
            }
        }
        path.pop();
        Ok(())
    }

    /// Puts a rule behind all that it needs.
    fn put(&mut self, at: usize, order: &mut Vec<usize>) {
        if std::mem::replace(&mut self.is_put[at], true) {
            return;
        }
        for other in self.needs(at) {
            self.put(other, order);
        }
        order.push(at);
    }

    fn needs(&self, at: usize) -> Vec<usize> {
        self.needs[at].iter().filter_map(|need| need.as_ref().ok().copied()).collect()
    }

    /// Whether it, or what it needs, needs a variable; of rules that need each other in a circle none goes out.
    fn has_variables(&self, at: usize) -> bool {
        let mut seen = BTreeSet::from([at]);
        let mut open = vec![at];
        while let Some(at) = open.pop() {
            if self.rules[at].variables().next().is_some() {
                return true;
            }
            open.extend(self.needs(at).into_iter().filter(|other| seen.insert(*other)));
        }
        false
    }
}

fn write(
    rules: &[Stored],
    plan: &Plan<'_>,
    order: &[usize],
    needs_variables: &[bool],
    export: &mut Export,
) {
    let mut taken: BTreeSet<String> =
        rules.iter().flat_map(|stored| [stored.rule.name.clone(), stored.name.clone()]).collect();
    taken.extend(export.variables.keys().cloned());
    let mut copies: BTreeMap<usize, String> = BTreeMap::new();
    let (mut plain, mut apart) = (Text::default(), Text::default());
    for at in order {
        let stored = &rules[*at];
        let to = if needs_variables[*at] { &mut apart } else { &mut plain };
        let mut names = BTreeMap::new();
        for other in plan.needs(*at) {
            let mut name = rules[other].name.clone();
            if needs_variables[*at] && !needs_variables[other] {
                copy(rules, plan, other, &mut copies, &mut taken, to);
                name.clone_from(&copies[&other]);
            }
            names.insert(rules[other].rule.name.clone(), name);
        }
        to.add(stored, &stored.name, &names, false);
    }
    export.plain = plain.whole();
    export.with_variables = apart.whole();
}

/// Writes a rule once more, private and under another name, behind copies of what it needs.
fn copy(
    rules: &[Stored],
    plan: &Plan<'_>,
    at: usize,
    copies: &mut BTreeMap<usize, String>,
    taken: &mut BTreeSet<String>,
    to: &mut Text,
) {
    if copies.contains_key(&at) {
        return;
    }
    let mut names = BTreeMap::new();
    for other in plan.needs(at) {
        copy(rules, plan, other, copies, taken, to);
        names.insert(rules[other].rule.name.clone(), copies[&other].clone());
    }
    let name = free_name(&format!("{}_copy", rules[at].name), taken);
    to.add(&rules[at], &name, &names, true);
    copies.insert(at, name);
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
        assert!(export.plain.starts_with("import \"pe\"\n"));
        assert!(export.plain.contains("private rule Base_b { condition: pe.Base == 1 }"));
        assert!(export.plain.contains("a = \"Base\" condition: Base_b and pe.is_pe"));
        assert_eq!(split(export.plain.as_bytes()).rules.len(), 3, "no author adds a rule");
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
        assert!(export.plain.contains("rule level_a { condition: true }"), "{}", export.plain);
        assert!(export.plain.contains("rule pe_a { condition: level_a }"), "{}", export.plain);
        assert!(export.with_variables.contains("rule User { condition: level == 3 and pe.is_pe }"));
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
        assert_eq!(export.variables, BTreeMap::from([("filename".to_owned(), json!(""))]));
        assert_eq!(split(export.plain.as_bytes()).rules.len(), 1);
        assert!(export.with_variables.contains("private rule Base_copy {"));
        assert!(export.with_variables.contains("Base_copy and filename"));
        assert!(export.with_variables.contains("rule More { condition: Ext }"));
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
}
