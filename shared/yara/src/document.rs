//! From a rule to the document that `cti_yara_rules` holds.

use base::date::seconds;
use serde_json::{Value, json};
use stores::documents::{self, Body, Owner, Write};

use super::known::Needs;
use super::store::SourceClaims;
use super::verdict;
use super::{About, Meta, Rule, about};
use jiff::Timestamp;

/// The index that rules go to.
pub const INDEX: &str = "cti_yara_rules";

/// What a family writes of its rules. Ids hold the family, so two families never write one document.
pub const OWNER: Owner = Owner {
    fields: &[
        "source_family",
        "source_type",
        "source",
        "source_name",
        "source_url",
        "source_file",
        "source_line",
        "source_version",
        "name",
        "modifiers",
        "tags",
        "meta",
        "rule_content",
        "rule_encoding",
        "rule_hash",
        "imports",
        "modules",
        "depends_on",
        "external_variables",
        "strings_count",
        "category",
        "description",
        "author",
        "authors",
        "reference",
        "date",
        "date_raw",
        "modified",
        "last_seen",
        "score",
        "severity",
        "license",
        "license_from",
        "hashes",
        "malpedia_family",
        "threat_name",
        "threat_actor",
        "mitre_attack",
        "tlp",
        "version",
        "verdict",
        "verdict_error",
        "verdict_by",
        "verdict_key",
        "active",
        "left_at",
        "content_hash",
    ],
    // A rule moves down its file, and the repository on, without the rule changing.
    unhashed: &["source_line", "source_version", "left_at", "content_hash"],
    insert_only: &["collected_at", "first_seen"],
    // Names and ids as the rule and its source give them; `link` adds the ids of families that bear such a name.
    shared: &["families"],
    ..Owner::named("yara")
};

/// Where rules come from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The family, as in ids.
    pub family: &'static str,
    /// How the rules come; a whole reading by one way does not miss what came by another.
    pub source_type: &'static str,
    /// The predecessor's word for it.
    pub source: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// What the address of a file begins with.
    pub files_url: &'static str,
    /// Under what a file's rules may be used when they do not say so themselves.
    pub license: fn(file: &str) -> Option<&'static str>,
    /// What kind of rules a file holds.
    pub category: fn(file: &str) -> &'static str,
    /// The version of the whole, such as a commit.
    pub version: Option<String>,
}

impl Origin {
    /// The id of a rule's document. Names differ by case, and two sources may use one name.
    pub fn id(&self, rule: &str) -> String {
        documents::id(&[self.family, rule])
    }
}

/// The file that one rule is in, and what its source says of it.
#[derive(Clone, Copy, Debug)]
pub struct RuleContext<'a> {
    /// The file's path in its repository.
    pub file: &'a str,
    /// What the file imports.
    pub imports: &'a [String],
    /// What the source says of the rule.
    pub claims: &'a SourceClaims,
}

fn list<T: serde::Serialize>(list: &[T]) -> Value {
    json!(list)
}

/// The document of a rule.
pub fn write(
    origin: &Origin,
    context: RuleContext<'_>,
    rule: &Rule,
    needs: &Needs,
    verdict: (&'static str, Option<String>, String),
    now: Timestamp,
) -> Write {
    let about = About::of(rule);
    let claimed = &context.claims.families;
    let mut families = about.families;
    for family in claimed.iter().take(about::LISTED_MAX) {
        if !families.contains(family) {
            families.push(family.clone());
        }
    }
    let own_license = about.license.is_some();
    let license = about.license.or_else(|| (origin.license)(context.file).map(ToOwned::to_owned));
    let license_from = license.as_ref().map(|_| if own_license { "rule" } else { "repository" });
    let meta: Vec<Value> = rule.meta.iter().map(|(key, value)| json!([key, meta(value)])).collect();
    let variables: Vec<&str> = needs.variables.iter().map(|(name, _)| name.as_str()).collect();
    let (verdict, verdict_error, key) = verdict;

    let mut fields = Body::new();
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    set("source_family", json!(origin.family));
    set("source_type", json!(origin.source_type));
    set("source", json!(origin.source));
    set("source_name", json!(origin.name));
    set("source_url", json!(format!("{}{}", origin.files_url, context.file)));
    set("source_file", json!(context.file));
    set("source_line", json!(rule.line));
    set("source_version", json!(origin.version));
    set("name", json!(rule.name));
    set("modifiers", list(&rule.modifiers));
    set("tags", list(&rule.tags));
    set("meta", Value::Array(meta));
    set("rule_content", json!(rule.text));
    set("rule_encoding", json!(rule.is_latin1.then_some("latin1")));
    set("rule_hash", json!(rule.hash));
    set("imports", list(context.imports));
    set("modules", list(&needs.modules));
    let sets = needs.sets.iter().map(|set| format!("{set}*"));
    set("depends_on", list(&needs.rules.iter().cloned().chain(sets).collect::<Vec<_>>()));
    set("external_variables", list(&variables));
    set("strings_count", json!(rule.strings));
    set("category", json!((origin.category)(context.file)));
    set("description", json!(about.description));
    set("author", json!(about.author));
    set("authors", list(&about.authors));
    set("reference", list(&about.references));
    set("date", json!(about.date));
    set("date_raw", json!(about.date_raw));
    set("modified", json!(about.modified));
    set("last_seen", json!(about.modified.max(about.date)));
    set("score", json!(about.score));
    set("severity", json!(about.severity.or_else(|| about.score.map(|score| score.to_string()))));
    set("license", json!(license));
    set("license_from", json!(license_from));
    set("hashes", list(&about.hashes));
    set("malpedia_family", json!(about.family_id.as_ref().or_else(|| claimed.first())));
    set("threat_name", json!(families.first()));
    set("families", list(&families));
    set("threat_actor", json!(about.actors.first()));
    set("mitre_attack", list(&about.techniques));
    // What is published for all is for all, unless the rule or its source says otherwise.
    set("tlp", json!(about::strictest([about.tlp, context.claims.tlp]).unwrap_or("clear")));
    set("version", json!(about.version));
    set("verdict", json!(verdict));
    set("verdict_error", json!(verdict_error));
    set("verdict_by", json!(verdict::COMPILER));
    set("verdict_key", json!(key));
    set("active", json!(true));
    set("left_at", Value::Null);
    set("collected_at", json!(seconds(now)));
    set("first_seen", json!(seconds(now)));
    Write::of(origin.id(&rule.name), &OWNER, fields)
}

fn meta(value: &Meta) -> Value {
    match value {
        Meta::Text(text) => json!(text),
        Meta::Integer(number) => json!(number),
        Meta::Float(number) => json!(number),
        Meta::Bool(value) => json!(value),
    }
}
