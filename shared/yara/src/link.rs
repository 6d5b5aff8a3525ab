//! Ties stored rules and malware families to each other, whichever source gave either.
//!
//! A rule names families by id, by a name or by an alias: in its meta, in a tag, or because its source gives it for them. A
//! name counts only where the whole value is one, whatever its case. What several families share links to each of them, up
//! to [`NAMESAKES_MAX`]; a name of more families links to none.
//!
//! The pass runs after each sync that read anything of either side. Where neither index saw a write since the last one,
//! nothing is read.

use std::collections::{BTreeSet, HashMap};

use base::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stores::documents::{Body, Index, MALWARE_FAMILIES, Owner, Pages, Scan, Write};
use task::{Ctx, Stop, Visit};

use super::document::{INDEX as RULES, OWNER};

/// Families that may bear one name and still all be meant.
pub const NAMESAKES_MAX: usize = 3;
/// Characters that a name must have at the least; shorter ones are abbreviations of anything.
const NAME_CHARS_MIN: usize = 3;
/// Families that one rule is linked to.
const LINKED_MAX: usize = 200;
/// Rules that a family's document lists; its count is of all.
const LISTED_MAX: usize = 2_000;
/// Stored documents that are read together.
const PAGE: u32 = 500;
/// Raised when all must be linked anew because links are made in another way.
const READER: u32 = 1;

/// What this pass gives to a rule: ids of families.
pub const OF_RULE: Owner = Owner { shared: &["families"], ..Owner::named("yara_links") };

/// What it gives to a family.
pub const OF_FAMILY: Owner = Owner {
    fields: &["yara_rule_ids", "yara_rule_names", "yara_rules_count"],
    shared: &[],
    ..OF_RULE
};

/// A stored family, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// Its document's id.
    pub id: String,
    /// The id that its source gives it.
    pub family_id: String,
    /// Its names and aliases.
    pub names: Vec<String>,
    /// Whether its source still has it.
    pub is_active: bool,
    /// What is written in it already.
    stored: Body,
}

/// A stored rule, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Its document's id.
    pub id: String,
    pub name: String,
    /// Whole values that may be names of families.
    pub words: Vec<String>,
    /// Whether its source still has it.
    pub is_active: bool,
    /// What is written in it already.
    stored: Value,
}

/// How far links were written.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cursor {
    reader: u32,
    families: u64,
    rules: u64,
}

/// The families that each rule is of, as places in `families`, purely.
pub fn links(families: &[Family], rules: &[Rule]) -> Vec<BTreeSet<usize>> {
    let mut by_id: HashMap<String, usize> = HashMap::new();
    let mut by_name: HashMap<String, BTreeSet<usize>> = HashMap::new();
    for (at, family) in families.iter().enumerate().filter(|(_, family)| family.is_active) {
        by_id.insert(family.family_id.to_lowercase(), at);
        for name in &family.names {
            by_name.entry(name.trim().to_lowercase()).or_default().insert(at);
        }
    }
    let meant = |word: &String| -> BTreeSet<usize> {
        let word = word.trim().to_lowercase();
        if let Some(at) = by_id.get(&word) {
            return BTreeSet::from([*at]);
        }
        let namesakes = by_name.get(&word).filter(|namesakes| {
            namesakes.len() <= NAMESAKES_MAX && word.chars().count() >= NAME_CHARS_MIN
        });
        namesakes.cloned().unwrap_or_default()
    };
    let of_rule = |rule: &Rule| {
        let words = rule.words.iter().filter(|_| rule.is_active);
        let mut linked = BTreeSet::new();
        for families in words.map(meant) {
            let left = LINKED_MAX.saturating_sub(linked.len());
            linked.extend(families.into_iter().take(left));
        }
        linked
    };
    rules.iter().map(of_rule).collect()
}

/// Writes the links that changed, and counts all that there are.
///
/// # Errors
/// `Store`, when documents can be neither read nor written.
pub async fn link(ctx: &Ctx) -> Result<Value> {
    let linked = ctx.pass("yara/links", &[MALWARE_FAMILIES, RULES], write_links).await?;
    Ok(linked.unwrap_or_else(|outcome| json!(outcome)))
}

async fn write_links(visit: &mut Visit<'_>) -> Result<Value, Stop> {
    let ctx = visit.ctx();
    let (family_index, rule_index) = (Index::named(MALWARE_FAMILIES)?, Index::named(RULES)?);
    let mut reached = Cursor {
        reader: READER,
        families: ctx.documents.sequence(family_index).await?,
        rules: ctx.documents.sequence(rule_index).await?,
    };
    if visit.cursor::<Cursor>().is_some_and(|before| before == reached) {
        return Ok(json!({ "written": 0 }));
    }
    let families: Vec<Family> = read(ctx, family_index, &FAMILY_FIELDS, family).await?;
    let rules: Vec<Rule> = read(ctx, rule_index, &RULE_FIELDS, rule).await?;
    let links = links(&families, &rules);
    let mut of_families: Vec<Vec<usize>> = vec![Vec::new(); families.len()];
    for (at, linked) in links.iter().enumerate() {
        linked.iter().for_each(|family| of_families[*family].push(at));
    }
    let mut detail = json!({
        "rules": links.iter().filter(|linked| !linked.is_empty()).count(),
        "families": of_families.iter().filter(|linked| !linked.is_empty()).count(),
    });
    let of_rules = rules.iter().zip(&links).filter_map(|(rule, linked)| {
        let mut ids: Vec<&str> =
            linked.iter().map(|family| families[*family].family_id.as_str()).collect();
        ids.sort_unstable();
        let part = if ids.is_empty() { Value::Null } else { json!(ids) };
        let fields = Body::from_iter([("families".to_owned(), part.clone())]);
        (part != rule.stored).then(|| Write::of(rule.id.clone(), &OF_RULE, fields))
    });
    let of_families = families.iter().zip(&of_families).filter_map(|(family, linked)| {
        let fields = fields(&rules, linked);
        let is_stored = fields
            .iter()
            .all(|(name, value)| family.stored.get(name).unwrap_or(&Value::Null) == value);
        // A family that never had a rule needs no count to say so.
        let is_bare = linked.is_empty() && family.stored.values().all(Value::is_null);
        (!is_stored && !is_bare).then(|| Write::of(family.id.clone(), &OF_FAMILY, fields))
    });
    // Counted from before the reading: what others write meanwhile is linked next time.
    let written_rules = visit.amend(rule_index, &of_rules.collect::<Vec<_>>()).await?;
    let written_families = visit.amend(family_index, &of_families.collect::<Vec<_>>()).await?;
    reached.rules += written_rules;
    reached.families += written_families;
    visit.reach(json!(reached));
    detail["written"] = json!(written_rules + written_families);
    Ok(detail)
}

/// What is read of a family.
const FAMILY_FIELDS: [&str; 9] = [
    "family_id",
    "name",
    "common_name",
    "names",
    "aka",
    "active",
    "yara_rule_ids",
    "yara_rule_names",
    "yara_rules_count",
];

/// What is read of a rule.
const RULE_FIELDS: [&str; 6] =
    ["name", "tags", "malpedia_family", "threat_name", "active", "owners"];

/// A family's own fields for these rules.
fn fields(rules: &[Rule], linked: &[usize]) -> Body {
    let mut linked: Vec<&Rule> = linked.iter().map(|at| &rules[*at]).collect();
    linked.sort_unstable_by_key(|rule| (&rule.name, &rule.id));
    let listed = &linked[..linked.len().min(LISTED_MAX)];
    let list = |of: fn(&Rule) -> &str| {
        let mut values: Vec<&str> = listed.iter().map(|rule| of(rule)).collect();
        values.dedup();
        if values.is_empty() { Value::Null } else { json!(values) }
    };
    Body::from_iter([
        ("yara_rule_ids".to_owned(), list(|rule| &rule.id)),
        ("yara_rule_names".to_owned(), list(|rule| &rule.name)),
        ("yara_rules_count".to_owned(), json!(linked.len())),
    ])
}

async fn read<T>(
    ctx: &Ctx,
    index: &'static Index,
    fields: &[&str],
    one: fn(String, &Body) -> T,
) -> Result<Vec<T>> {
    let fields = Some(fields.iter().map(|field| (*field).to_owned()).collect());
    let scan = Scan { fields, limit: PAGE, ..Scan::default() };
    let mut pages = Pages::new(ctx.documents.as_ref(), index, scan);
    let mut all = Vec::new();
    while let Some(page) = pages.next().await? {
        all.extend(page.into_iter().map(|document| one(document.id, &document.body)));
    }
    Ok(all)
}

fn text(body: &Body, field: &str) -> String {
    body.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts<'v>(value: Option<&'v Value>) -> impl Iterator<Item = String> + use<'v> {
    let values = value.and_then(Value::as_array).into_iter().flatten();
    values.filter_map(Value::as_str).map(ToOwned::to_owned)
}

fn family(id: String, body: &Body) -> Family {
    let names = texts(body.get("names")).chain(texts(body.get("aka")));
    let own = [text(body, "name"), text(body, "common_name")];
    let stored = OF_FAMILY.fields.iter().filter_map(|name| Some((*name, body.get(*name)?)));
    Family {
        id,
        family_id: text(body, "family_id"),
        names: names.chain(own).collect(),
        is_active: body.get("active") == Some(&Value::Bool(true)),
        stored: stored.map(|(name, value)| (name.to_owned(), value.clone())).collect(),
    }
}

fn rule(id: String, body: &Body) -> Rule {
    // What this pass added is not what the rule says.
    let parts = body.get("owners").and_then(|owners| owners.get("shared")?.get("families"));
    let part = |owner: &str| parts.and_then(|parts| parts.get(owner));
    let own = [text(body, "malpedia_family"), text(body, "threat_name")];
    let words = texts(part(OWNER.name)).chain(texts(body.get("tags")));
    Rule {
        id,
        name: text(body, "name"),
        words: words.chain(own).collect(),
        is_active: body.get("active") == Some(&Value::Bool(true)),
        stored: part(OF_RULE.name).cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(family_id: &str, names: &[&str]) -> Family {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Family { family_id: family_id.to_owned(), names, is_active: true, ..Family::default() }
    }

    fn of(families: &[Family], words: &[&str], is_active: bool) -> Vec<usize> {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let rule = Rule { words, is_active, ..Rule::default() };
        links(families, &[rule]).remove(0).into_iter().collect()
    }

    #[test]
    fn only_whole_names_link_and_namesakes_up_to_three() {
        let mut families = vec![
            family("win.vidar", &["Vidar", "Arkei Fork"]),
            family("win.two", &["Twins"]),
            family("elf.two", &["TWINS", "X"]),
            family("win.a", &["Loader"]),
            family("win.b", &["loader"]),
            family("win.c", &["Loader"]),
            family("win.d", &["Loader", "win.a"]),
        ];
        assert_eq!(of(&families, &["WIN.VIDAR"], true), [0]);
        assert_eq!(of(&families, &["arkei fork", " Vidar "], true), [0]);
        assert_eq!(of(&families, &["Vidar stealer", "arkei", ""], true), [0_usize; 0]);
        assert_eq!(of(&families, &["twins"], true), [1, 2], "an alias of two is both");
        assert_eq!(of(&families, &["loader"], true), [0_usize; 0], "one of four tells nothing");
        assert_eq!(of(&families, &["win.a"], true), [3], "an id goes before a name");
        assert_eq!(of(&families, &["x"], true), [0_usize; 0], "too short");
        assert_eq!(of(&families, &["win.vidar"], false), [0_usize; 0], "the rule has left");
        families[0].is_active = false;
        assert_eq!(of(&families, &["win.vidar"], true), [0_usize; 0], "the family has left");
    }
}
