//! A family or an actor as files and the API have it, in Portuguese or English, read without minding its age: what should be
//! a list may be one string, null, or not there.

use serde_json::{Map, Value, json};
use stores::documents::Body;

use crate::bibtex::date;
use crate::settings::NAME;

/// What was read: a document's fields, and what links it to others.
#[derive(Clone, Debug)]
pub struct Record {
    /// The id by which Malpedia knows it, else its name.
    pub id: String,
    /// The name that people use.
    pub name: String,
    /// Ids of families, or names of actors, that it names itself.
    pub links: Vec<String>,
    /// The fields.
    pub fields: Body,
    /// The text that an enrichment added, if there is one: a record without it must not blank what another has.
    pub text: Option<String>,
}

/// One of a family's rules as it came. The splitter of rules takes them from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YaraRule {
    /// The rule's or its file's name.
    pub name: Option<String>,
    /// Who may see it.
    pub tlp: Option<String>,
    /// Where it is.
    pub url: Option<String>,
    /// Its text.
    pub content: Option<String>,
}

/// What tells a rule from an object of rules by file.
const RULE_KEYS: [&str; 6] = ["nome", "name", "url", "conteudo", "content", "rule"];
/// How deep lists and objects of rules may lie in each other.
const RULES_DEPTH_MAX: usize = 4;

/// Reads an object; `hint` is its file's name without extension, or its key in the API.
pub type Read = fn(&Map<String, Value>, &str) -> Result<Record, &'static str>;

/// Reads a family.
///
/// # Errors
/// What it lacks.
pub fn family(object: &Map<String, Value>, hint: &str) -> Result<Record, &'static str> {
    let given = first(object, &["name", "common_name"]);
    let url = first(object, &["url"]);
    let technical = [
        object.get("name").and_then(Value::as_str),
        url.as_deref().and_then(last_segment),
        Some(hint),
    ]
    .into_iter()
    .flatten()
    .map(str::trim)
    .find(|name| is_technical(name))
    .map(ToOwned::to_owned);
    let id = technical.clone().or_else(|| given.clone()).ok_or("it has no name")?;
    let aka = list(object, &["aka", "alt_names", "aliases"]);
    let name = given.clone().unwrap_or_else(|| id.clone());
    let common = first(object, &["common_name"])
        .or_else(|| given.filter(|name| !is_technical(name)))
        .or_else(|| aka.first().cloned())
        .unwrap_or_else(|| id.clone());
    let mut os = list(object, &["os", "platform"]);
    if os.is_empty() {
        os.extend(technical.as_deref().map(system));
    }
    let rules = yara_rules(object);
    let names: Vec<&str> = rules.iter().filter_map(|rule| rule.name.as_deref()).collect();
    let mut fields = base("malpedia_family");
    set(&mut fields, "family_id", json!(id));
    set(&mut fields, "name", json!(name));
    set(&mut fields, "common_name", json!(common));
    set(&mut fields, "names", json!(search_names([name.as_str(), &common, &id], &aka)));
    set(&mut fields, "url", json!(url));
    set(&mut fields, "os", json!(os));
    set(&mut fields, "aka", json!(aka));
    set(&mut fields, "description", json!(first(object, &["description"])));
    set(&mut fields, "referencias", references(object));
    set(&mut fields, "library_entries", json!(list(object, &["library_entries"])));
    set(&mut fields, "uuid", json!(first(object, &["uuid"])));
    set(&mut fields, "notes", json!(list(object, &["notes"])));
    set(&mut fields, "status", json!(first(object, &["status"])));
    set(&mut fields, "update", day(object, &["update", "updated"]));
    set(&mut fields, "yara_names", json!(names));
    let shown = |rule: &YaraRule| json!({"nome": rule.name, "tlp": rule.tlp, "url": rule.url, "conteudo": rule.content});
    set(&mut fields, "yara_rules", Value::Array(rules.iter().map(shown).collect()));
    let links = list(object, &["actors", "attribution"]);
    set(&mut fields, "actors", json!(links));
    let text = first(object, &["descricao", "explicacao"]);
    Ok(Record { id, name: common, links, fields, text })
}

/// Reads an actor.
///
/// # Errors
/// What it lacks.
pub fn actor(object: &Map<String, Value>, hint: &str) -> Result<Record, &'static str> {
    let empty = Map::new();
    let meta = object.get("meta").and_then(Value::as_object).unwrap_or(&empty);
    let name = first(object, &["name", "value", "common_name"]).ok_or("it has no name")?;
    let mut urls = list(object, &["urls", "url"]);
    for url in list(object, &["url"]) {
        push(&mut urls, url);
    }
    let known = urls
        .iter()
        .find_map(|url| url.split_once("/actor/"))
        .map(|(_, id)| id.trim_matches('/').to_owned());
    let is_key = object.contains_key("value") && !hint.is_empty();
    let id = known
        .filter(|id| !id.is_empty())
        .or_else(|| is_key.then(|| hint.to_owned()))
        .unwrap_or_else(|| name.to_lowercase().replace(' ', "_"));
    let mut aka = list(object, &["aka", "synonyms"]);
    for synonym in list(meta, &["synonyms"]) {
        push(&mut aka, synonym);
    }
    let mut families = list(object, &["families", "familias_relacionadas"]);
    if let Some(Value::Object(by_id)) = object.get("families") {
        families = by_id.keys().cloned().collect();
    }
    for family in list(object, &["familias_relacionadas"]) {
        push(&mut families, family);
    }
    let mut fields = base("malpedia_actor");
    set(&mut fields, "actor_id", json!(id));
    set(&mut fields, "name", json!(name));
    set(&mut fields, "names", json!(search_names([name.as_str(), &id, &id], &aka)));
    set(&mut fields, "url", json!(urls.first()));
    set(&mut fields, "urls", json!(urls));
    set(
        &mut fields,
        "country",
        json!(first(object, &["country", "atribuicao_pais"]).or_else(|| first(meta, &["country"]))),
    );
    set(&mut fields, "aka", json!(aka));
    set(&mut fields, "description", json!(first(object, &["description"])));
    let cited = if meta.contains_key("refs") {
        references_of(meta.get("refs"))
    } else {
        references(object)
    };
    set(&mut fields, "referencias", cited);
    set(&mut fields, "uuid", json!(first(object, &["uuid"])));
    set(&mut fields, "state_sponsor", json!(first(meta, &["cfr-suspected-state-sponsor"])));
    set(&mut fields, "victims", json!(list(meta, &["cfr-suspected-victims"])));
    set(&mut fields, "target_category", json!(list(meta, &["cfr-target-category"])));
    set(&mut fields, "incident_type", json!(list(meta, &["cfr-type-of-incident"])));
    set(&mut fields, "attribution_confidence", json!(first(meta, &["attribution-confidence"])));
    set(&mut fields, "erro", json!(first(object, &["erro"])));
    set(&mut fields, "families", json!(families));
    set(&mut fields, "familias_relacionadas", json!(families));
    let text = first(object, &["explicacao", "descricao"]);
    Ok(Record { id, name, links: families, fields, text })
}

/// The rules of a family: objects, bare texts, or `{tlp: {file: text}}`, in either language.
pub fn yara_rules(object: &Map<String, Value>) -> Vec<YaraRule> {
    let mut rules = Vec::new();
    if let Some(value) = object.get("yara_rules") {
        gather_rules(value, None, None, 0, &mut rules);
    }
    rules
}

fn gather_rules(
    value: &Value,
    name: Option<&str>,
    tlp: Option<&str>,
    depth: usize,
    rules: &mut Vec<YaraRule>,
) {
    let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
    match value {
        Value::String(text) if text.trim().is_empty() => {}
        Value::String(text) => {
            let is_link = text.starts_with("http://") || text.starts_with("https://");
            let (url, content) = if is_link { (Some(text), None) } else { (None, Some(text)) };
            let (url, content) = (url.cloned(), content.cloned());
            rules.push(YaraRule { name: owned(name), tlp: owned(tlp), url, content });
        }
        Value::Array(entries) if depth < RULES_DEPTH_MAX => {
            for entry in entries {
                gather_rules(entry, name, tlp, depth + 1, rules);
            }
        }
        Value::Object(rule) if RULE_KEYS.iter().any(|key| rule.contains_key(*key)) => {
            rules.push(YaraRule {
                name: first(rule, &["nome", "name"]).or_else(|| owned(name)),
                tlp: first(rule, &["tlp"]).or_else(|| owned(tlp)),
                url: first(rule, &["url"]),
                // Its text is kept to the letter.
                content: ["conteudo", "content", "rule"]
                    .iter()
                    .find_map(|key| rule.get(*key)?.as_str())
                    .map(ToOwned::to_owned),
            });
        }
        Value::Object(files) if depth < RULES_DEPTH_MAX => {
            for (key, entry) in files {
                let is_tlp = key.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("tlp"));
                let (name, tlp) = if is_tlp { (name, Some(&**key)) } else { (Some(&**key), tlp) };
                gather_rules(entry, name, tlp, depth + 1, rules);
            }
        }
        _ => {}
    }
}

/// The operating system that a family's id begins with; what is no system stays as it is.
pub fn system(id: &str) -> String {
    let prefix = id.split('.').next().unwrap_or_default();
    let name = match prefix {
        "win" => "Windows",
        "elf" => "Linux",
        "osx" => "macOS",
        "ios" => "iOS",
        "apk" => "Android",
        "aix" => "AIX",
        "symbian" => "Symbian",
        other => other,
    };
    name.to_owned()
}

fn base(source_type: &str) -> Body {
    let mut fields = Body::new();
    set(&mut fields, "source_family", json!(NAME));
    set(&mut fields, "source_type", json!(source_type));
    set(&mut fields, "source_name", json!("Malpedia"));
    set(&mut fields, "tlp", json!("clear"));
    set(&mut fields, "active", json!(true));
    fields
}

fn set(fields: &mut Body, name: &str, value: Value) {
    fields.insert(name.to_owned(), value);
}

fn clean(text: &str) -> Option<String> {
    let text = text.trim().replace('\0', "");
    (!text.is_empty()).then_some(text)
}

/// The first of these keys that holds text or a number; of a list, its first.
fn first(object: &Map<String, Value>, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| match object.get(*key)? {
        Value::String(text) => clean(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(list) => list.iter().find_map(Value::as_str).and_then(clean),
        _ => None,
    })
}

/// The strings under the first of these keys that holds any: a list, objects with a name, or one string with commas.
fn list(object: &Map<String, Value>, keys: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for key in keys {
        match object.get(*key) {
            Some(Value::String(text)) if text.contains("://") => found.extend(clean(text)),
            Some(Value::String(text)) => {
                for part in text.split(',').filter_map(clean) {
                    push(&mut found, part);
                }
            }
            Some(Value::Array(entries)) => {
                for entry in entries {
                    let text = match entry {
                        Value::String(text) => clean(text),
                        Value::Object(entry) => first(entry, &["name", "value", "id", "url"]),
                        _ => None,
                    };
                    if let Some(text) = text {
                        push(&mut found, text);
                    }
                }
            }
            _ => {}
        }
        if !found.is_empty() {
            break;
        }
    }
    found
}

fn push(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

fn references(object: &Map<String, Value>) -> Value {
    let key = ["referencias", "references", "urls"]
        .into_iter()
        .find(|key| object.get(*key).is_some_and(Value::is_array));
    references_of(key.and_then(|key| object.get(key)))
}

fn references_of(value: Option<&Value>) -> Value {
    let read = |entry: &Value| match entry {
        Value::String(text) if text.contains("://") => {
            Some(json!({"desc": null, "url": clean(text)}))
        }
        Value::String(text) => clean(text).map(|text| json!({"desc": text, "url": null})),
        Value::Object(entry) => Some(
            json!({"desc": first(entry, &["desc", "title", "name"]), "url": first(entry, &["url", "link"])}),
        ),
        _ => None,
    };
    Value::Array(value.and_then(Value::as_array).into_iter().flatten().filter_map(read).collect())
}

fn day(object: &Map<String, Value>, keys: &[&str]) -> Value {
    let text = first(object, keys).unwrap_or_default();
    let head = text.get(..10).unwrap_or(&text);
    date::read(head).map_or(Value::Null, |(date, _)| json!(date.to_string()))
}

fn last_segment(url: &str) -> Option<&str> {
    url.trim_end_matches('/').rsplit('/').next()
}

/// Whether a name is one of Malpedia's ids, such as `win.vidar`.
pub(crate) fn is_technical(name: &str) -> bool {
    let Some((system, rest)) = name.split_once('.') else { return false };
    let is_id = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| {
                byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || matches!(byte, b'_' | b'-' | b'.')
            })
    };
    (2..=8).contains(&system.len())
        && system.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && is_id(rest)
}

fn search_names(own: [&str; 3], aka: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    for name in own.into_iter().chain(aka.iter().map(String::as_str)) {
        push(&mut names, name.to_lowercase());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_family_is_read_in_both_languages_and_every_shape() {
        let read = family(
            &object(&json!({"name": " win.vidar ", "aka": "Vidar, Arkei fork", "actors": null, "descricao": "Ladrão", "update": "2024-03-09",
                "referencias": ["https://e.org/a", {"desc": "d", "url": null}, 7], "yara_rules": ["rule a {}", {"nome": "b", "conteudo": " rule b {}"}]})),
            "x",
        )
        .unwrap();
        assert_eq!(
            (read.id.as_str(), read.name.as_str(), read.text.as_deref()),
            ("win.vidar", "Vidar", Some("Ladrão"))
        );
        assert_eq!(
            (&read.fields["os"], &read.fields["update"]),
            (&json!(["Windows"]), &json!("2024-03-09"))
        );
        assert_eq!(
            read.fields["referencias"],
            json!([{"desc": null, "url": "https://e.org/a"}, {"desc": "d", "url": null}])
        );
        assert_eq!(read.fields["yara_rules"][1]["conteudo"], " rule b {}");
        let files =
            json!({"tlp_white": {"x.yar": "rule c {}"}, "tlp_amber": [{"y.yar": "rule d {}"}]});
        let rules = yara_rules(&object(&json!({"yara_rules": files})));
        let said: Vec<_> = rules
            .iter()
            .map(|rule| (rule.name.as_deref(), rule.tlp.as_deref(), rule.content.as_deref()))
            .collect();
        let (white, amber) = (Some("tlp_white"), Some("tlp_amber"));
        assert_eq!(
            said,
            [(Some("y.yar"), amber, Some("rule d {}")), (Some("x.yar"), white, Some("rule c {}"))]
        );
        let read = family(&object(&json!({"name": "IsaacWiper", "url": "https://m/details/win.isaac/", "explicacao": "x", "os": "Windows"})), "y").unwrap();
        assert_eq!((read.id.as_str(), read.name.as_str()), ("win.isaac", "IsaacWiper"));
        let read = family(
            &object(
                &json!({"common_name": "", "description": "d", "updated": "", "alt_names": []}),
            ),
            "apk.x",
        )
        .unwrap();
        assert_eq!(
            (read.id.as_str(), read.name.as_str(), &read.fields["os"]),
            ("apk.x", "apk.x", &json!(["Android"]))
        );
        assert!(family(&object(&json!({"name": null})), "no id").is_err());
    }

    #[test]
    fn an_actor_is_read_from_a_file_and_from_the_api() {
        let read = actor(&object(&json!({"name": "MuddyWater", "country": "IR", "synonyms": ["Seedworm"], "families": ["win.powerstats"],
            "urls": ["https://malpedia.test/actor/muddywater", "https://e.org"]})), "MuddyWater").unwrap();
        assert_eq!(
            (read.id.as_str(), &read.links),
            ("muddywater", &vec!["win.powerstats".to_owned()])
        );
        assert_eq!(read.fields["names"], json!(["muddywater", "seedworm"]));
        let read = actor(&object(&json!({"value": "APT28", "meta": {"country": "RU", "synonyms": ["Sofacy"], "cfr-type-of-incident": ["a", "b"], "refs": ["https://e.org"]},
            "families": {"win.x": {}}})), "sofacy").unwrap();
        assert_eq!(
            (read.id.as_str(), &read.fields["country"], &read.links),
            ("sofacy", &json!("RU"), &vec!["win.x".to_owned()])
        );
        assert_eq!(read.fields["incident_type"], json!(["a", "b"]));
    }
}
