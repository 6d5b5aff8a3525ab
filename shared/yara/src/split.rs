//! Takes a file apart into its rules, each to its exact text, whatever stands around it.
//!
//! Tokens tell where each statement ends; a parser reads one at a time, so an error stays within its rule. What YARA-X's
//! parser refuses is read as YARA does: a rule that either of them takes is kept.
//! A byte that is no UTF-8 must not change a text: a file with one is read as Latin-1, in which each byte is one letter,
//! and a rule gets its own bytes back.

use sha2::{Digest, Sha256};
use yara_x_parser::Parser;
use yara_x_parser::ast::{AST, Item, MetaValue, RuleFlags};

use super::classic;
use super::condition::{self, Name};
use super::scan::{self, Kind, Statement};

/// The longest rule that is kept, in bytes; the longest published one has 38 kB.
pub const RULE_BYTES_MAX: usize = 1 << 20;
/// Words and signs of one rule, spaces and comments not counted; twice what the longest published one has. A parser makes up
/// to 700 bytes of each.
pub const RULE_TOKENS_MAX: usize = 32_000;
/// How high a rule's tree may be; the highest published one has 16.
///
/// It grows by brackets in brackets, and by each operator of a chain, which stands on the one before. Parsers, the compiler and
/// the destructors of their trees recurse on it.
pub const HEIGHT_MAX: usize = 400;
/// How deep calls may stand within calls; every rule of signature-base stays below it.
///
/// The parser tries each of them several times for each that it stands within: twelve take seconds, a hundred never end.
pub const CALLS_MAX: usize = 5;
/// Rules that one file may hold; the most published in one is 624.
pub const RULES_MAX: usize = 20_000;
/// Tags, values of meta and names in conditions that the rules of one file may have; those of signature-base's largest
/// are 8,000.
const PARTS_MAX: usize = 200_000;
/// Modules, and other files, that one file may name; YARA-X has 18 modules.
const IMPORTS_MAX: usize = 32;
/// The longest name of a module or a file.
const IMPORT_BYTES_MAX: usize = 255;
/// Rejects of one file that are told one by one.
pub const REJECTS_MAX: usize = 1_000;
/// How much of the parser's words a reject repeats.
const REASON_CHARS: usize = 200;

/// A value of a rule's meta, as its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Meta {
    /// Text, its escapes resolved.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// True or false.
    Bool(bool),
}

/// One rule.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Its name; case matters.
    pub name: String,
    /// `private`, `global`, in the order of that list.
    pub modifiers: Vec<&'static str>,
    /// Its tags, in order.
    pub tags: Vec<String>,
    /// Its meta, in order and with repeats.
    pub meta: Vec<(String, Meta)>,
    /// How many strings it declares.
    pub strings: usize,
    /// The exact text, from the first modifier or `rule` to the closing brace.
    pub text: String,
    /// Whether `text` is Latin-1: each of its letters stands for one byte, as the rule is no UTF-8.
    pub is_latin1: bool,
    /// Hex SHA-256 of the exact bytes.
    pub hash: String,
    /// The line of its first character, from 1.
    pub line: usize,
    /// The line of its closing brace.
    pub end_line: usize,
    /// Names in its condition that are neither its strings nor its own variables.
    pub names: Vec<Name>,
    /// Why YARA-X does not read it, where only YARA does.
    pub refused: Option<String>,
}

/// The lines of a rule in its file.
#[derive(Clone, Copy, Debug)]
struct Place {
    line: usize,
    end_line: usize,
}

/// Something in a file that is no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The name of the rule that is broken, where that much can be read.
    pub name: Option<String>,
    /// The line where it begins.
    pub line: usize,
    /// What is wrong, and on which line.
    pub reason: String,
}

/// A file taken apart.
#[derive(Clone, Debug, Default)]
pub struct Split {
    /// Modules it imports, each once, in order, wherever the statement stands.
    pub imports: Vec<String>,
    /// Files it includes. Nothing is ever read for them.
    pub includes: Vec<String>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
    /// What is broken, in order, up to [`REJECTS_MAX`].
    pub rejects: Vec<Reject>,
    /// How many more there are.
    pub more_rejects: u64,
}

impl Split {
    fn reject(&mut self, name: Option<&str>, line: usize, reason: String) {
        if self.rejects.len() < REJECTS_MAX {
            let name = name.map(ToOwned::to_owned);
            self.rejects.push(Reject { name, line, reason });
        } else {
            self.more_rejects += 1;
        }
    }
}

/// Takes a file apart. Any bytes are survived.
pub fn split(bytes: &[u8]) -> Split {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => split_text(text),
        Err(_) => split_latin1(bytes),
    }
}

fn split_latin1(bytes: &[u8]) -> Split {
    let text: String = bytes.iter().copied().map(char::from).collect();
    let mut split = split_text(&text);
    for rule in &mut split.rules {
        let own = latin1_bytes(&rule.text);
        match String::from_utf8(own) {
            // The bytes that are no UTF-8 stand elsewhere in the file.
            Ok(text) => {
                let (line, lines) = (rule.line, rule.end_line - rule.line);
                if let Some(mut plain) = split_text(&text).rules.pop() {
                    plain.line = line;
                    plain.end_line = line + lines;
                    *rule = plain;
                }
            }
            Err(error) => {
                rule.hash = hex::encode(Sha256::digest(error.as_bytes()));
                rule.is_latin1 = true;
            }
        }
    }
    split
}

/// The bytes that a Latin-1 text stands for.
pub(super) fn latin1_bytes(text: &str) -> Vec<u8> {
    text.chars().map(|letter| u8::try_from(letter).unwrap_or(b'?')).collect()
}

impl Rule {
    /// With its text and lines.
    fn at(self, own: &str, Place { line, end_line }: Place) -> Self {
        let hash = hex::encode(Sha256::digest(own.as_bytes()));
        Self { text: own.to_owned(), hash, line, end_line, ..self }
    }

    /// The exact bytes.
    pub fn bytes(&self) -> Vec<u8> {
        if self.is_latin1 { latin1_bytes(&self.text) } else { self.text.clone().into_bytes() }
    }

    /// How many tags, values of meta and names it has.
    pub fn parts(&self) -> usize {
        self.tags.len() + self.meta.len() + self.names.len()
    }

    /// Whether it has that modifier.
    pub fn is(&self, modifier: &str) -> bool {
        self.modifiers.contains(&modifier)
    }

    /// The texts of its meta under names that `wanted` picks, in order.
    pub fn texts<'a>(
        &'a self,
        wanted: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = &'a str> + 'a {
        self.meta.iter().filter_map(move |(key, value)| match value {
            Meta::Text(text) if wanted(key) => Some(text.as_str()),
            Meta::Text(_) | Meta::Integer(_) | Meta::Float(_) | Meta::Bool(_) => None,
        })
    }
}

fn split_text(text: &str) -> Split {
    let lines = Lines { text, at: 0, line: 1 };
    let mut reader = Reader { text, split: Split::default(), lines, parts: 0 };
    scan::statements(text, |statement| reader.read(&statement));
    reader.split
}

/// A message of a parser, and where in its statement it belongs.
type Complaint = (String, usize);

/// A file on its way into its parts.
struct Reader<'t> {
    text: &'t str,
    split: Split,
    lines: Lines<'t>,
    parts: usize,
}

impl Reader<'_> {
    fn read(&mut self, statement: &Statement) {
        let own = self.text.get(statement.range.clone()).unwrap_or_default();
        let name = statement.name.clone().and_then(|name| self.text.get(name));
        let line = self.lines.at(statement.range.start);
        let end_line = self.lines.line_of(statement.range.end.saturating_sub(1));
        let place = Place { line, end_line };
        match self.part(statement, own, place) {
            Ok(()) => {}
            Err((message, at)) => {
                let head: String = message.chars().take(REASON_CHARS).collect();
                let line = self.lines.line_of(statement.range.start + at);
                let reason = format!("line {line}: {head}");
                self.split.reject(name, place.line, reason);
            }
        }
    }

    fn part(&mut self, statement: &Statement, own: &str, place: Place) -> Result<(), Complaint> {
        let too = |message: String| Err((message, 0));
        match statement.kind {
            Kind::Other => too("no rule, `import` or `include` begins here".to_owned()),
            Kind::Import | Kind::Include => {
                let name = named(own)?;
                let (list, what) = match statement.kind {
                    Kind::Import => (&mut self.split.imports, "modules"),
                    _ => (&mut self.split.includes, "files"),
                };
                if list.contains(&name) {
                    return Ok(());
                }
                if list.len() >= IMPORTS_MAX || name.len() > IMPORT_BYTES_MAX {
                    return too(format!(
                        "the file names more than `{IMPORTS_MAX}` {what}, or one of more than `{IMPORT_BYTES_MAX}` bytes"
                    ));
                }
                list.push(name);
                Ok(())
            }
            Kind::Rule if own.len() > RULE_BYTES_MAX => {
                too(format!("the rule holds `{}` bytes, more than {RULE_BYTES_MAX}", own.len()))
            }
            Kind::Rule if statement.tokens > RULE_TOKENS_MAX => too(format!(
                "the rule holds `{}` words and signs, more than {RULE_TOKENS_MAX}",
                statement.tokens
            )),
            Kind::Rule if statement.height > HEIGHT_MAX => too(format!(
                "the rule is nested too deeply, or an expression has more than `{HEIGHT_MAX}` operators"
            )),
            Kind::Rule if statement.calls > CALLS_MAX => too(format!(
                "calls stand `{}` deep within calls, more than {CALLS_MAX}",
                statement.calls
            )),
            Kind::Rule if self.split.rules.len() >= RULES_MAX => {
                too(format!("the file holds more than `{RULES_MAX}` rules"))
            }
            Kind::Rule => {
                let rule = read_rule(own, place)?;
                self.parts += rule.parts();
                if self.parts > PARTS_MAX {
                    return too(format!(
                        "the file holds more than `{PARTS_MAX}` tags, values of meta and names"
                    ));
                }
                self.split.rules.push(rule);
                Ok(())
            }
        }
    }
}

/// The first thing that YARA-X's parser found wrong with a statement, if there is no tree of it.
fn tree(own: &str) -> Result<Item<'_>, Complaint> {
    let tree = AST::from(Parser::new(own.as_bytes()));
    if let Some(error) = tree.errors().first() {
        return Err(complaint(error));
    }
    let nothing = |_| ("no rule can be read here".to_owned(), 0);
    let [item] = <[Item<'_>; 1]>::try_from(tree.items).map_err(nothing)?;
    Ok(item)
}

/// What an `import` or `include` names.
fn named(own: &str) -> Result<String, Complaint> {
    match tree(own)? {
        Item::Import(import) => Ok(import.module_name.to_owned()),
        Item::Include(include) => Ok(include.file_name.to_owned()),
        Item::Rule(rule) => Ok(rule.identifier.name.to_owned()),
    }
}

/// Reads a rule as YARA-X does, else as YARA does: each takes some that the other refuses.
fn read_rule(own: &str, place: Place) -> Result<Rule, Complaint> {
    let refused = match tree(own) {
        Ok(Item::Rule(rule)) => return Ok(of_tree(own, &rule, place)),
        Ok(Item::Import(_) | Item::Include(_)) => ("no rule can be read here".to_owned(), 0),
        Err(complaint) => complaint,
    };
    match classic::read(own) {
        Some(rule) => Ok(Rule { refused: Some(refused.0), ..rule.at(own, place) }),
        None => Err(refused),
    }
}

fn of_tree(own: &str, rule: &yara_x_parser::ast::Rule<'_>, place: Place) -> Rule {
    let meta = rule.meta.iter().flatten();
    let rule = Rule {
        name: rule.identifier.name.to_owned(),
        modifiers: modifiers(
            rule.flags.contains(RuleFlags::Private),
            rule.flags.contains(RuleFlags::Global),
        ),
        tags: rule.tags.iter().flatten().map(|tag| tag.name.to_owned()).collect(),
        meta: meta.map(|meta| (meta.identifier.name.to_owned(), value(&meta.value))).collect(),
        strings: rule.patterns.as_ref().map_or(0, Vec::len),
        names: condition::names(&rule.condition),
        ..Rule::default()
    };
    rule.at(own, place)
}

pub(super) fn modifiers(is_private: bool, is_global: bool) -> Vec<&'static str> {
    is_private.then_some("private").into_iter().chain(is_global.then_some("global")).collect()
}

fn value(value: &MetaValue<'_>) -> Meta {
    match value {
        MetaValue::Bool((value, _)) => Meta::Bool(*value),
        MetaValue::Integer((value, _)) => Meta::Integer(*value),
        MetaValue::Float((value, _)) => Meta::Float(*value),
        MetaValue::String((value, _)) => Meta::Text((*value).to_owned()),
        // `\xff` may name bytes that are no text; the rule's own text keeps them.
        MetaValue::Bytes((value, _)) => Meta::Text(String::from_utf8_lossy(value).into_owned()),
    }
}

fn complaint(error: &yara_x_parser::ast::Error) -> Complaint {
    use yara_x_parser::ast::Error;
    match error {
        Error::SyntaxError { message, span }
        | Error::InvalidInteger { message, span }
        | Error::InvalidFloat { message, span }
        | Error::InvalidRegexpModifier { message, span }
        | Error::InvalidEscapeSequence { message, span } => (message.clone(), span.start()),
        Error::InvalidUTF8(span) => ("not UTF-8".to_owned(), span.start()),
        Error::UnexpectedEscapeSequence(span) => {
            ("an escape sequence that is not allowed here".to_owned(), span.start())
        }
    }
}

/// Counts lines from where it last was, so that a file is counted once.
struct Lines<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl Lines<'_> {
    /// The line of an offset, from which the next count goes on.
    fn at(&mut self, offset: usize) -> usize {
        if offset >= self.at {
            self.line = self.line_of(offset);
            self.at = offset;
        }
        self.line
    }

    fn line_of(&self, offset: usize) -> usize {
        let bytes = self.text.as_bytes();
        let end = offset.min(bytes.len());
        let new = bytes.get(self.at.min(end)..end).unwrap_or_default();
        self.line + memchr::memchr_iter(b'\n', new).count()
    }
}
