//! A family or an actor as files and the API have it, in Portuguese or English, read without minding its age: what should be
//! a list may be one string, null, or not there.
//!
//! Each text and each list has a limit, far above what Malpedia has; a record counts what was cut.

use std::cell::Cell;
use std::collections::HashSet;

use base::json;
use serde_json::{Map, Value, json};
use stores::documents::Body;

use crate::bibtex::date;
use crate::country;
use crate::settings::NAME;

/// Records that are written together.
pub(crate) const BATCH: usize = 250;

/// Bytes of JSON whose records are written together.
pub(crate) const BATCH_BYTES: usize = 4 << 20;

/// Bytes of a name, an id or another short text.
pub const NAME_MAX: usize = 512;

/// Bytes of an address.
pub const ADDRESS_MAX: usize = 8_191;

/// Bytes of a description, and of each note; the longest known has 8,068 letters.
pub const TEXT_MAX: usize = 64 << 10;

/// Names, addresses or notes in one list; the longest known has some 200.
pub const LIST_MAX: usize = 1_000;

/// References of one record; the largest known family has 784.
pub const REFERENCES_MAX: usize = 2_000;

/// Rules of one family.
pub const RULES_MAX: usize = 1_000;

/// Bytes of all that is kept under `extra`, as JSON.
pub const EXTRA_BYTES_MAX: usize = 32 << 10;

/// Bytes of a word such as a rule's TLP.
const WORD_MAX: usize = 32;

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
    /// Texts and lists that were cut.
    pub cut: u64,
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

/// Keys of families and of actors that have fields of their own; what stands under others goes to `extra`.
const FAMILY_KEYS: [&str; 27] = [
    "name",
    "common_name",
    "url",
    "aka",
    "alt_names",
    "aliases",
    "os",
    "platform",
    "description",
    "descricao",
    "explicacao",
    "referencias",
    "references",
    "urls",
    "library_entries",
    "uuid",
    "notes",
    "status",
    "update",
    "updated",
    "yara_rules",
    "actors",
    "attribution",
    // Fields of our own, in documents that are adopted.
    "id",
    "family_id",
    "content_hash",
    "extra",
];
const ACTOR_KEYS: [&str; 28] = [
    "name",
    "value",
    "common_name",
    "url",
    "urls",
    "aka",
    "synonyms",
    "families",
    "familias_relacionadas",
    "country",
    "description",
    "descricao",
    "explicacao",
    "referencias",
    "references",
    "uuid",
    "erro",
    "meta",
    "mitre_ids",
    "mitre_aliases",
    "familias_nomes",
    "last_activity",
    "atribuicao_pais",
    "atribuicao_organizacao",
    "id",
    "actor_id",
    "content_hash",
    "extra",
];
const META_KEYS: [&str; 8] = [
    "synonyms",
    "country",
    "refs",
    "cfr-suspected-state-sponsor",
    "cfr-suspected-victims",
    "cfr-target-category",
    "cfr-type-of-incident",
    "attribution-confidence",
];

/// Fields of actors' files that are kept as they are called: lists, and texts.
const ACTOR_LISTS: [&str; 3] = ["mitre_ids", "mitre_aliases", "familias_nomes"];
const ACTOR_TEXTS: [&str; 3] = ["last_activity", "atribuicao_pais", "atribuicao_organizacao"];

/// A record's object, whose texts and lists are read within their limits.
struct Source<'a> {
    object: &'a Map<String, Value>,
    cut: &'a Cell<u64>,
}

/// Reads an object; `hint` is its file's name without extension, or its key in the API.
pub type Read = fn(&Map<String, Value>, &str) -> Result<Record, &'static str>;

/// Reads a family.
///
/// # Errors
/// What it lacks.
pub fn family(object: &Map<String, Value>, hint: &str) -> Result<Record, &'static str> {
    let cut = Cell::new(0);
    let source = Source { object, cut: &cut };
    let given = source.name(&["name", "common_name"]);
    let url = source.text(&["url"], ADDRESS_MAX);
    let technical = [
        object.get("name").and_then(Value::as_str),
        url.as_deref().and_then(last_segment),
        Some(hint),
    ]
    .into_iter()
    .flatten()
    .map(str::trim)
    .find(|name| name.len() <= NAME_MAX && is_technical(name))
    .map(ToOwned::to_owned);
    let id = technical.clone().or_else(|| given.clone()).ok_or("it has no name")?;
    let aka = source.list(&["aka", "alt_names", "aliases"]);
    let name = given.clone().unwrap_or_else(|| id.clone());
    let common = source
        .name(&["common_name"])
        .or_else(|| given.filter(|name| !is_technical(name)))
        // `Vidar` is what people call `win.vidar`; another alias is one of many, and the first of them no better.
        .or_else(|| aka.iter().find(|alias| is_name_of(alias, &id)).cloned())
        .unwrap_or_else(|| id.clone());
    let mut os = source.list(&["os", "platform"]);
    if os.is_empty() {
        os.extend(technical.as_deref().map(system));
    }
    let rules = source.rules();
    let names: Vec<&str> = rules.iter().filter_map(|rule| rule.name.as_deref()).collect();
    let mut fields = base("malpedia_family");
    set(&mut fields, "family_id", json!(id));
    set(&mut fields, "name", json!(name));
    set(&mut fields, "common_name", json!(common));
    set(&mut fields, "names", json!(search_names([name.as_str(), &common, &id], &aka)));
    set(&mut fields, "url", json!(url));
    set(&mut fields, "os", json!(os));
    set(&mut fields, "aka", json!(aka));
    set(&mut fields, "description", json!(source.text(&["description"], TEXT_MAX)));
    set(&mut fields, "referencias", source.references(&["referencias", "references", "urls"]));
    set(&mut fields, "library_entries", json!(source.list(&["library_entries"])));
    set(&mut fields, "uuid", json!(source.name(&["uuid"])));
    set(&mut fields, "notes", json!(source.list_of(&["notes"], TEXT_MAX)));
    set(&mut fields, "status", json!(source.name(&["status"])));
    set(&mut fields, "update", source.day(&["update", "updated"]));
    set(&mut fields, "yara_names", json!(names));
    let shown = |rule: &YaraRule| json!({"nome": rule.name, "tlp": rule.tlp, "url": rule.url, "conteudo": rule.content});
    set(&mut fields, "yara_rules", Value::Array(rules.iter().map(shown).collect()));
    set(&mut fields, "extra", source.extra(&FAMILY_KEYS, None));
    let links = source.list(&["actors", "attribution"]);
    set(&mut fields, "actors", json!(links));
    let text = source.text(&["descricao", "explicacao"], TEXT_MAX);
    Ok(Record { id, name: common, links, fields, text, cut: cut.get() })
}

/// Reads an actor.
///
/// # Errors
/// What it lacks.
pub fn actor(object: &Map<String, Value>, hint: &str) -> Result<Record, &'static str> {
    let cut = Cell::new(0);
    let source = Source { object, cut: &cut };
    let empty = Map::new();
    let meta = object.get("meta").and_then(Value::as_object).unwrap_or(&empty);
    let meta = Source { object: meta, cut: &cut };
    let name = source.name(&["name", "value", "common_name"]).ok_or("it has no name")?;
    let mut urls = Names::of(source.list_of(&["urls", "url"], ADDRESS_MAX));
    urls.extend(source.list_of(&["url"], ADDRESS_MAX));
    let urls = urls.list;
    let known = urls
        .iter()
        .find_map(|url| url.split_once("/actor/"))
        .map(|(_, id)| id.trim_matches('/').to_owned());
    let is_key = object.contains_key("value") && !hint.is_empty() && hint.len() <= NAME_MAX;
    let id = known
        .filter(|id| !id.is_empty() && id.len() <= NAME_MAX)
        .or_else(|| is_key.then(|| hint.to_owned()))
        .unwrap_or_else(|| name.to_lowercase().replace(' ', "_"));
    let mut aka = Names::of(source.list(&["aka", "synonyms"]));
    aka.extend(meta.list(&["synonyms"]));
    let aka = aka.list;
    let mut families = match object.get("families") {
        Some(Value::Object(by_id)) => {
            Names::of(by_id.keys().filter_map(|id| source.clean(id, NAME_MAX)).collect())
        }
        _ => Names::of(source.list(&["families", "familias_relacionadas"])),
    };
    families.extend(source.list(&["familias_relacionadas"]));
    let mut families = families.list;
    if families.len() > LIST_MAX {
        source.note_cut();
        families.truncate(LIST_MAX);
    }
    let mut countries = source.countries(&["country", "atribuicao_pais"]);
    if countries.is_empty() {
        countries = meta.countries(&["country"]);
    }
    let mut fields = base("malpedia_actor");
    set(&mut fields, "actor_id", json!(id));
    set(&mut fields, "name", json!(name));
    set(&mut fields, "names", json!(search_names([name.as_str(), &id, &id], &aka)));
    set(&mut fields, "url", json!(urls.first()));
    set(&mut fields, "urls", json!(urls));
    set_countries(&mut fields, &countries);
    set(&mut fields, "aka", json!(aka));
    set(&mut fields, "description", json!(source.text(&["description"], TEXT_MAX)));
    let cited = if meta.object.contains_key("refs") {
        meta.references(&["refs"])
    } else {
        source.references(&["referencias", "references", "urls"])
    };
    set(&mut fields, "referencias", cited);
    set(&mut fields, "uuid", json!(source.name(&["uuid"])));
    set(&mut fields, "state_sponsor", json!(meta.name(&["cfr-suspected-state-sponsor"])));
    set(&mut fields, "victims", json!(meta.list(&["cfr-suspected-victims"])));
    set(&mut fields, "target_category", json!(meta.list(&["cfr-target-category"])));
    set(&mut fields, "incident_type", json!(meta.list(&["cfr-type-of-incident"])));
    set(&mut fields, "attribution_confidence", json!(meta.name(&["attribution-confidence"])));
    set(&mut fields, "erro", json!(source.text(&["erro"], TEXT_MAX)));
    for key in ACTOR_LISTS {
        let list = source.list(&[key]);
        set(&mut fields, key, if list.is_empty() { Value::Null } else { json!(list) });
    }
    for key in ACTOR_TEXTS {
        set(&mut fields, key, json!(source.name(&[key])));
    }
    set(&mut fields, "extra", source.extra(&ACTOR_KEYS, Some(meta.object)));
    set(&mut fields, "families", json!(families));
    set(&mut fields, "familias_relacionadas", json!(families));
    let text = source.text(&["explicacao", "descricao"], TEXT_MAX);
    Ok(Record { id, name, links: families, fields, text, cut: cut.get() })
}

/// The ISO codes, and beside them what was given where that is no code. One stands by itself, several are a list.
fn set_countries(fields: &mut Body, given: &[String]) {
    let one_or_all = |mut values: Vec<String>| match values.len() {
        0 | 1 => json!(values.pop()),
        _ => json!(values),
    };
    let codes = Names::of(given.iter().filter_map(|text| country::codes(text)).flatten().collect());
    let names = given.iter().filter(|text| !country::is_code(text)).cloned().collect();
    set(fields, "country", one_or_all(codes.list));
    set(fields, "country_name", one_or_all(names));
}

/// A record with its key, or why it is none; or the byte at which no record can be read any more.
pub type Item = Result<(String, Result<Record, String>), usize>;

/// Reads `{id: record}` record by record into batches, until `take` says that nobody wants more, or `is_over` that nobody waits.
/// Gives whether it is an object at all.
pub fn read_all(
    read: Read,
    body: &[u8],
    is_over: impl Fn() -> bool,
    mut take: impl FnMut(Vec<Item>) -> bool,
) -> bool {
    let Some(records) = json::Records::of(body) else { return false };
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for raw in records {
        if is_over() {
            return true;
        }
        batch.push(raw.map_err(|broken| broken.at).map(|raw| {
            bytes += raw.text.len();
            let record = record(read, &raw);
            (raw.key.into_owned(), record)
        }));
        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
            bytes = 0;
            if !take(std::mem::take(&mut batch)) {
                return true;
            }
        }
    }
    if !batch.is_empty() {
        take(batch);
    }
    true
}

fn record(read: Read, raw: &json::Raw<'_>) -> Result<Record, String> {
    if raw.text.len() > json::RECORD_BYTES_MAX {
        return Err(format!(
            "it has {} bytes, more than the {} that are read",
            raw.text.len(),
            json::RECORD_BYTES_MAX
        ));
    }
    let (value, cut) =
        json::bounded(raw.text).map_err(|cause| format!("it is no JSON: {cause}"))?;
    let object = value.as_object().ok_or("it is no object")?;
    let mut record = read(object, &raw.key)?;
    record.cut += cut;
    Ok(record)
}

/// The rules of a family: objects, bare texts, or `{tlp: {file: text}}`, in either language.
pub fn yara_rules(object: &Map<String, Value>) -> Vec<YaraRule> {
    Source { object, cut: &Cell::new(0) }.rules()
}

impl Source<'_> {
    fn note_cut(&self) {
        self.cut.set(self.cut.get() + 1);
    }

    fn rules(&self) -> Vec<YaraRule> {
        let mut rules = Vec::new();
        if let Some(value) = self.object.get("yara_rules") {
            self.gather_rules(value, None, None, 0, &mut rules);
        }
        rules
    }

    fn gather_rules(
        &self,
        value: &Value,
        name: Option<&str>,
        tlp: Option<&str>,
        depth: usize,
        rules: &mut Vec<YaraRule>,
    ) {
        if rules.len() >= RULES_MAX {
            return self.note_cut();
        }
        let name = name.and_then(|name| self.clean(name, NAME_MAX));
        let tlp = tlp.and_then(|tlp| self.clean(tlp, WORD_MAX));
        match value {
            Value::String(text) if text.trim().is_empty() => {}
            Value::String(text) => {
                let is_link = text.starts_with("http://") || text.starts_with("https://");
                let (url, content) = match is_link {
                    true => (self.clean(text, ADDRESS_MAX), None),
                    false => (None, Some(text.clone())),
                };
                rules.push(YaraRule { name, tlp, url, content });
            }
            Value::Array(entries) if depth < RULES_DEPTH_MAX => {
                // The name of a file of many rules is none of theirs.
                let name = name.filter(|_| entries.len() == 1);
                for entry in entries {
                    self.gather_rules(entry, name.as_deref(), tlp.as_deref(), depth + 1, rules);
                }
            }
            Value::Object(rule) if RULE_KEYS.iter().any(|key| rule.contains_key(*key)) => {
                let rule = Source { object: rule, cut: self.cut };
                rules.push(YaraRule {
                    name: rule.name(&["nome", "name"]).or(name),
                    tlp: rule.text(&["tlp"], WORD_MAX).or(tlp),
                    url: rule.text(&["url"], ADDRESS_MAX),
                    // Its text is kept to the letter.
                    content: ["conteudo", "content", "rule"]
                        .iter()
                        .find_map(|key| rule.object.get(*key)?.as_str())
                        .map(ToOwned::to_owned),
                });
            }
            Value::Object(files) if depth < RULES_DEPTH_MAX => {
                for (key, entry) in files {
                    let is_tlp =
                        key.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("tlp"));
                    let (name, tlp) = if is_tlp {
                        (name.as_deref(), Some(&**key))
                    } else {
                        (Some(&**key), tlp.as_deref())
                    };
                    self.gather_rules(entry, name, tlp, depth + 1, rules);
                }
            }
            _ => {}
        }
    }

    /// A text without NUL and white space around it, cut to so many bytes.
    fn clean(&self, text: &str, most: usize) -> Option<String> {
        let whole = text.trim();
        let text = &whole[..whole.floor_char_boundary(most)];
        if text.len() < whole.len() {
            self.note_cut();
        }
        let text = text.replace('\0', "");
        (!text.is_empty()).then_some(text)
    }

    fn name(&self, keys: &[&str]) -> Option<String> {
        self.text(keys, NAME_MAX)
    }

    /// The first of these keys that holds text or a number; of a list, its first.
    fn text(&self, keys: &[&str], most: usize) -> Option<String> {
        keys.iter().find_map(|key| match self.object.get(*key)? {
            Value::String(text) => self.clean(text, most),
            Value::Number(number) => Some(number.to_string()),
            Value::Array(list) => {
                list.iter().find_map(Value::as_str).and_then(|text| self.clean(text, most))
            }
            _ => None,
        })
    }

    fn list(&self, keys: &[&str]) -> Vec<String> {
        self.list_of(keys, NAME_MAX)
    }

    /// The strings under the first of these keys that holds any: a list, objects with a name, or one string with commas.
    fn list_of(&self, keys: &[&str], most: usize) -> Vec<String> {
        let mut found = Names::default();
        for key in keys {
            match self.object.get(*key) {
                Some(Value::String(text)) if text.contains("://") => {
                    found.extend(self.clean(text, most));
                }
                Some(Value::String(text)) => {
                    self.take(
                        &mut found,
                        text.split(',').filter_map(|part| self.clean(part, most)),
                    );
                }
                Some(Value::Array(entries)) => {
                    let texts = entries.iter().filter_map(|entry| match entry {
                        Value::String(text) => self.clean(text, most),
                        Value::Object(entry) => Source { object: entry, cut: self.cut }
                            .text(&["name", "value", "id", "url"], most),
                        _ => None,
                    });
                    self.take(&mut found, texts);
                }
                _ => {}
            }
            if !found.list.is_empty() {
                break;
            }
        }
        found.list
    }

    fn take(&self, found: &mut Names, mut texts: impl Iterator<Item = String>) {
        found.extend(texts.by_ref().take(LIST_MAX));
        if texts.next().is_some() {
            self.note_cut();
        }
    }

    /// The whole text, or each of a list.
    fn countries(&self, keys: &[&str]) -> Vec<String> {
        keys.iter()
            .map(|key| match self.object.get(*key) {
                Some(Value::String(text)) => self.clean(text, NAME_MAX).into_iter().collect(),
                _ => self.list(&[key]),
            })
            .find(|given| !given.is_empty())
            .unwrap_or_default()
    }

    fn references(&self, keys: &[&str]) -> Value {
        let list = keys.iter().find_map(|key| self.object.get(*key)?.as_array());
        let read = |entry: &Value| match entry {
            Value::String(text) if text.contains("://") => {
                Some(json!({"desc": null, "url": self.clean(text, ADDRESS_MAX)}))
            }
            Value::String(text) => {
                self.clean(text, ADDRESS_MAX).map(|text| json!({"desc": text, "url": null}))
            }
            Value::Object(entry) => {
                let entry = Source { object: entry, cut: self.cut };
                let desc = entry.text(&["desc", "title", "name"], ADDRESS_MAX);
                Some(json!({"desc": desc, "url": entry.text(&["url", "link"], ADDRESS_MAX)}))
            }
            _ => None,
        };
        let mut entries = list.into_iter().flatten();
        let cited = entries.by_ref().filter_map(read).take(REFERENCES_MAX).collect();
        if entries.next().is_some() {
            self.note_cut();
        }
        Value::Array(cited)
    }

    fn day(&self, keys: &[&str]) -> Value {
        let text = self.name(keys).unwrap_or_default();
        let head = text.get(..10).unwrap_or(&text);
        date::read(head).map_or(Value::Null, |(date, _)| json!(date.to_string()))
    }

    /// What stands under keys that have no field, those of `meta` under it; null where there is none.
    fn extra(&self, known: &[&str], meta: Option<&Map<String, Value>>) -> Value {
        let mut left = EXTRA_BYTES_MAX;
        let mut extra = self.unknown(self.object, known, &mut left);
        let meta = meta.map(|meta| self.unknown(meta, &META_KEYS, &mut left)).unwrap_or_default();
        if !meta.is_empty() {
            extra.insert("meta".to_owned(), Value::Object(meta));
        }
        if extra.is_empty() { Value::Null } else { Value::Object(extra) }
    }

    fn unknown(&self, object: &Map<String, Value>, known: &[&str], left: &mut usize) -> Body {
        let mut unknown = Body::new();
        for (key, value) in object {
            if known.contains(&&**key) || value.is_null() {
                continue;
            }
            let bytes = key.len() + value.to_string().len();
            if bytes > *left {
                self.note_cut();
                continue;
            }
            *left -= bytes;
            unknown.insert(key.clone(), value.clone());
        }
        unknown
    }
}

/// Texts in their order, each once.
#[derive(Default)]
struct Names {
    list: Vec<String>,
    seen: HashSet<String>,
}

impl Names {
    fn of(texts: Vec<String>) -> Self {
        let mut names = Self::default();
        names.extend(texts);
        names
    }

    fn extend(&mut self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            if self.seen.insert(text.clone()) {
                self.list.push(text);
            }
        }
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

/// Whether an alias is the last part of an id as people write it: `Brass Stealer` of `win.brass_stealer`.
fn is_name_of(alias: &str, id: &str) -> bool {
    let letters = |text: &str| {
        text.chars()
            .filter(|letter| letter.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect::<String>()
    };
    id.split_once('.').is_some_and(|(_, name)| letters(name) == letters(alias))
}

fn search_names(own: [&str; 3], aka: &[String]) -> Vec<String> {
    let names = own.into_iter().chain(aka.iter().map(String::as_str));
    Names::of(names.map(str::to_lowercase).collect()).list
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
