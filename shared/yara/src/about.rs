//! What a rule's meta means: a multimap that each author fills in their own way, read into the fields that analysts ask by.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use jiff::civil::Date;

use super::{Meta, Rule, date};

/// Hashes that one document holds; a published rule has 31.
pub const HASHES_MAX: usize = 1000;
/// Authors, references, families, actors and techniques that one document holds, of each kind.
pub const LISTED_MAX: usize = 200;
/// Bytes of a value that is a name, a date, a version; what is longer is cut.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Bytes of a description, a reference, a licence, and of the authors as they are written.
pub const TEXT_BYTES_MAX: usize = 16 << 10;

/// Under which names authors write what, as seen in published rules; the order of names decides.
static KEYS: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("meta_keys.json")).expect("a unit test reads it")
});

/// The names for one meaning.
fn keys(meaning: &str) -> &'static [String] {
    KEYS.get(meaning).map(Vec::as_slice).unwrap_or_default()
}

/// What a rule says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// Every description, on lines of their own.
    pub description: Option<String>,
    /// Each author by themselves.
    pub authors: Vec<String>,
    /// The authors as they are written.
    pub author: Option<String>,
    /// Where the rule comes from.
    pub references: Vec<String>,
    /// The day that the rule is of.
    pub date: Option<Date>,
    /// As it is written.
    pub date_raw: Option<String>,
    /// The day of its last change.
    pub modified: Option<Date>,
    /// How bad a match is, from 0 to 100.
    pub score: Option<i64>,
    /// Under what it may be used, when it says so itself.
    pub license: Option<String>,
    /// MD5, SHA-1, SHA-256 and longer, lower-case, each once.
    pub hashes: Vec<String>,
    /// The id of the family in the library of families that rules cite.
    pub family_id: Option<String>,
    /// Names of malware.
    pub families: Vec<String>,
    /// Names of actors.
    pub actors: Vec<String>,
    /// Techniques of ATT&CK.
    pub techniques: Vec<String>,
    /// `clear`, `green`, `amber`, `amber+strict` or `red`.
    pub tlp: Option<&'static str>,
    /// The rule's own version.
    pub version: Option<String>,
    /// How bad a match is, in the rule's own words.
    pub severity: Option<String>,
}

impl About {
    /// Reads a rule's meta and tags.
    pub fn of(rule: &Rule) -> Self {
        let first = |meaning: &str| text_under(rule, keys(meaning));
        let every = |meaning: &str, bytes: usize| -> Vec<String> {
            let (names, mut list) = (keys(meaning), Listed::of(LISTED_MAX, bytes));
            rule.texts(move |key| is_one_of(key, names)).for_each(|text| list.push(text));
            list.all
        };
        let descriptions = every("description", TEXT_BYTES_MAX);
        let authors_raw = every("author", TEXT_BYTES_MAX);
        let date_raw = first("date");
        let family_id = first("family_id").or_else(|| family_page(&first("family_page")?));
        let mut families = every("families", NAME_BYTES_MAX);
        families.extend(family_id.clone().filter(|family| !families.contains(family)));
        Self {
            description: joined(&descriptions, "\n"),
            authors: authors(&authors_raw),
            author: joined(&authors_raw, ", "),
            references: references(rule),
            date: date_raw.as_deref().and_then(date::read),
            date_raw,
            modified: first("modified").as_deref().and_then(date::read),
            score: first("score")
                .and_then(|score| score.parse().ok())
                .filter(|score| (0..=100).contains(score)),
            license: joined(&every("license", TEXT_BYTES_MAX), ", "),
            hashes: hashes(rule),
            family_id,
            families,
            actors: every("actors", NAME_BYTES_MAX),
            techniques: techniques(rule),
            tlp: first("tlp").as_deref().and_then(tlp),
            version: first("version"),
            severity: first("severity"),
        }
    }
}

fn is_one_of(key: &str, names: &[impl AsRef<str>]) -> bool {
    names.iter().any(|name| key.eq_ignore_ascii_case(name.as_ref()))
}

/// The first value under one of these names, numbers as they are written; the names' order decides.
fn text_under(rule: &Rule, names: &[String]) -> Option<String> {
    names.iter().find_map(|name| {
        let mut values = rule.meta.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.find_map(|(_, value)| match value {
            Meta::Text(text) if text.trim().is_empty() => None,
            Meta::Text(text) => Some(cut(text.trim(), NAME_BYTES_MAX).to_owned()),
            Meta::Integer(number) => Some(number.to_string()),
            Meta::Float(number) => Some(number.to_string()),
            Meta::Bool(_) => None,
        })
    })
}

/// No more than `bytes` of a text, and whole letters.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// Values in order, each once, up to a limit.
struct Listed {
    all: Vec<String>,
    seen: HashSet<String>,
    most: usize,
    bytes: usize,
}

impl Listed {
    fn of(most: usize, bytes: usize) -> Self {
        Self { all: Vec::new(), seen: HashSet::new(), most, bytes }
    }

    fn push(&mut self, text: &str) {
        let text = cut(text.trim(), self.bytes);
        if self.all.len() < self.most && !text.is_empty() && self.seen.insert(text.to_owned()) {
            self.all.push(text.to_owned());
        }
    }
}

/// All of them up to [`TEXT_BYTES_MAX`].
fn joined(list: &[String], between: &str) -> Option<String> {
    let mut all = String::new();
    for text in list {
        if !all.is_empty() {
            all.push_str(between);
        }
        all.push_str(text);
        if all.len() > TEXT_BYTES_MAX {
            break;
        }
    }
    all.truncate(all.floor_char_boundary(TEXT_BYTES_MAX));
    (!all.is_empty()).then_some(all)
}

/// `Florian Roth (Nextron Systems), Jane Doe & John Doe`: cut outside brackets only.
fn authors(raw: &[String]) -> Vec<String> {
    const BETWEEN: [&str; 6] = [", ", " / ", " & ", " and ", ";", " | "];
    let mut list = Listed::of(LISTED_MAX, NAME_BYTES_MAX);
    for text in raw {
        let (mut start, mut brackets) = (0, 0_i32);
        let mut skip = 0;
        for (at, letter) in text.char_indices().filter(|(_, letter)| letter.is_ascii()) {
            brackets += i32::from(letter == '(') - i32::from(letter == ')');
            let rest = text.get(at..).unwrap_or_default();
            let between = BETWEEN.iter().find(|cut| at >= skip && rest.starts_with(**cut));
            if let Some(cut) = between {
                skip = at + cut.len();
                if brackets <= 0 {
                    list.push(text.get(start..at).unwrap_or_default());
                    (start, brackets) = (skip, 0);
                }
            }
        }
        list.push(text.get(start..).unwrap_or_default());
    }
    list.all
}

fn references(rule: &Rule) -> Vec<String> {
    const STARTS: [&str; 6] = ["reference", "ref", "report", "url", "link", "yt_reference"];
    let is_reference = |key: &str| {
        let stem = key.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '_');
        is_one_of(stem, &STARTS) || is_one_of(stem, &["references"])
    };
    let mut list = Listed::of(LISTED_MAX, TEXT_BYTES_MAX);
    rule.texts(is_reference).for_each(|text| list.push(text));
    list.all
}

/// Every hash under any name, but those that stand in prose or in addresses.
fn hashes(rule: &Rule) -> Vec<String> {
    let may_hold = |key: &str| {
        let key = key.to_ascii_lowercase();
        !["desc", "ref", "url", "link", "report"].iter().any(|start| key.starts_with(start))
    };
    let mut list = Listed::of(HASHES_MAX, NAME_BYTES_MAX);
    for text in rule.texts(may_hold).filter(|text| !text.contains("://")) {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
        let is_hash = |word: &&str| {
            matches!(word.len(), 32 | 40 | 64 | 96 | 128)
                && word.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        words.filter(is_hash).for_each(|word| list.push(&word.to_ascii_lowercase()));
    }
    list.all
}

/// `T1059` and `T1059.001`, from the tags and from what meta says of ATT&CK.
fn techniques(rule: &Rule) -> Vec<String> {
    let speaks_of_it = |key: &str| {
        let key = key.to_ascii_lowercase();
        ["mitre", "att&ck", "attack", "technique"].iter().any(|word| key.contains(word))
    };
    let mut list = Listed::of(LISTED_MAX, NAME_BYTES_MAX);
    let tags = rule.tags.iter().map(String::as_str);
    for text in tags.chain(rule.texts(speaks_of_it)) {
        let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '.'));
        words.filter(|word| is_technique(word)).for_each(|word| list.push(word));
    }
    list.all
}

fn is_technique(word: &str) -> bool {
    let digits = |text: &str, many: usize| {
        text.len() == many && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    match word.strip_prefix('T').map(|rest| rest.split_once('.').unwrap_or((rest, ""))) {
        Some((number, part)) => digits(number, 4) && (part.is_empty() || digits(part, 3)),
        None => false,
    }
}

/// The family whose page an address is: `…/details/win.vidar`.
fn family_page(address: &str) -> Option<String> {
    let (_, id) = address.split_once("/details/")?;
    let id = id.trim_end_matches('/');
    (!id.is_empty() && !id.contains(['/', '?', '#', ' '])).then(|| id.to_owned())
}

/// A word of the Traffic Light Protocol, however it is written: `TLP:WHITE`, `tlp_white`, `clear`.
pub fn tlp(text: &str) -> Option<&'static str> {
    let word = text.trim().to_ascii_lowercase();
    match word
        .strip_prefix("tlp")
        .map_or(word.as_str(), |rest| rest.trim_start_matches([':', ' ', '_', '-']))
    {
        "white" | "clear" => Some("clear"),
        "green" => Some("green"),
        "amber" => Some("amber"),
        "amber+strict" => Some("amber+strict"),
        "red" => Some("red"),
        _ => None,
    }
}

/// The strictest of these words of the Traffic Light Protocol.
pub fn strictest(words: impl IntoIterator<Item = Option<&'static str>>) -> Option<&'static str> {
    const ORDER: [&str; 5] = ["clear", "green", "amber", "amber+strict", "red"];
    let rank = |word: &&str| ORDER.iter().position(|known| known == word);
    words.into_iter().flatten().max_by_key(rank)
}
