//! Takes a file apart into its rules, each to its exact text, whatever stands around it.
//!
//! One pass of the parser gives its events; those of one rule make that rule's tree, so an error stays within its rule.
//! A byte that is no UTF-8 must not change a text: a file with one is read as Latin-1, in which each byte is one letter,
//! and a rule gets its own bytes back.

use std::ops::Range;

use sha2::{Digest, Sha256};
use yara_x_parser::ast::{AST, Item, MetaValue, RuleFlags};
use yara_x_parser::cst::{Event, SyntaxKind};
use yara_x_parser::{Parser, Span};

use super::condition::{self, Name};

/// The longest rule that is kept, in bytes; the longest published one has 38 kB.
pub const RULE_BYTES_MAX: usize = 1 << 20;
/// Rules that one file may hold; the most published in one is 624.
pub const RULES_MAX: usize = 20_000;
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
#[derive(Clone, Debug)]
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
    /// What is broken, in order.
    pub rejects: Vec<Reject>,
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
    /// The exact bytes.
    pub fn bytes(&self) -> Vec<u8> {
        if self.is_latin1 { latin1_bytes(&self.text) } else { self.text.clone().into_bytes() }
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

/// Times that a file is begun anew within a broken rule; what is broken beyond that is one reject.
const RESYNCS_MAX: usize = 200;

fn split_text(text: &str) -> Split {
    let lines = Lines { text, at: 0, line: 1 };
    let mut reader = Reader { text, split: Split::default(), lines, resyncs: 0 };
    reader.read(0..text.len());
    reader.split
}

/// A message of the parser and where it belongs.
type Complaint = (String, Span);

/// A file on its way into its parts.
struct Reader<'t> {
    text: &'t str,
    split: Split,
    lines: Lines<'t>,
    resyncs: usize,
}

impl<'t> Reader<'t> {
    /// Reads a part of the file as if it were one.
    fn read(&mut self, part: Range<usize>) {
        let text = self.text;
        let source = text.get(part.clone()).unwrap_or_default();
        let mut depth = 0_usize;
        let mut events = Vec::new();
        // What is wrong with a statement is reported before its end, behind it, or before it.
        let mut complaints: Vec<Complaint> = Vec::new();
        for event in Parser::new(source.as_bytes()) {
            match event {
                Event::Begin { kind: SyntaxKind::SOURCE_FILE, .. }
                | Event::End { kind: SyntaxKind::SOURCE_FILE, .. } => continue,
                Event::Error { message, span } => {
                    complaints.push((message, span));
                    continue;
                }
                Event::Begin { .. } => {
                    if depth == 0 {
                        self.settle(
                            source,
                            part.start,
                            std::mem::take(&mut events),
                            &mut complaints,
                        );
                    }
                    depth += 1;
                }
                Event::End { .. } => depth = depth.saturating_sub(1),
                Event::Token { .. } if depth == 0 => continue,
                Event::Token { .. } => {}
            }
            events.push(event);
        }
        self.settle(source, part.start, events, &mut complaints);
        for (message, span) in complaints {
            self.reject(None, part.start + span.start(), part.start + span.start(), &message);
        }
    }

    /// Reads the events of one statement of `source`, which stands at `base` in the file.
    fn settle(
        &mut self,
        source: &str,
        base: usize,
        events: Vec<Event>,
        complaints: &mut Vec<Complaint>,
    ) {
        let Some(Event::Begin { kind, span }) = events.first() else { return };
        let (kind, range) = (*kind, span.range());
        let is_last = source.get(range.end..).is_none_or(|rest| rest.trim_start().is_empty());
        let later = complaints.extract_if(.., |(_, span)| is_last || span.start() < range.end);
        let (own, before): (Vec<Complaint>, Vec<Complaint>) =
            later.partition(|(_, span)| span.start() >= range.start);
        for (message, span) in before {
            self.reject(None, base + span.start(), base + span.start(), &message);
        }
        let is_error =
            |event: &Event| matches!(event, Event::Begin { kind: SyntaxKind::ERROR, .. });
        let is_broken = !own.is_empty() || events.iter().any(is_error);
        let start = base + range.start;
        if is_broken {
            let (message, at) = own.into_iter().next().map_or_else(
                || ("no rule can be read here".to_owned(), start),
                |(message, span)| (message, base + span.start()),
            );
            self.reject(declared_name(source, &events), start, at, &message);
            if let Some(next) = second_rule(&events).filter(|_| self.resyncs < RESYNCS_MAX) {
                self.resyncs += 1;
                self.read(base + next..base + range.end);
            }
            return;
        }
        let name = declared_name(source, &events);
        if kind == SyntaxKind::RULE_DECL && range.len() > RULE_BYTES_MAX {
            let message = format!("the rule holds `{}` bytes", range.len());
            return self.reject(name, start, start, &message);
        }
        let line = self.lines.at(start);
        let end_line = self.lines.line_of((base + range.end).saturating_sub(1));
        let own = source.get(range.clone()).unwrap_or_default();
        let ast = AST::new(source.as_bytes(), within_a_file(events, &range));
        if let Some(error) = ast.errors().first() {
            return self.reject(name, start, start, &ast_error(error));
        }
        for item in ast.items {
            match item {
                Item::Import(import) => push_once(&mut self.split.imports, import.module_name),
                Item::Include(include) => push_once(&mut self.split.includes, include.file_name),
                Item::Rule(rule) if self.split.rules.len() >= RULES_MAX => {
                    let name = Some(rule.identifier.name.to_owned());
                    let message = format!("the file holds more than `{RULES_MAX}` rules");
                    self.reject(name, start, start, &message);
                }
                Item::Rule(rule) => {
                    self.split.rules.push(read_rule(own, &rule, line, end_line));
                }
            }
        }
    }

    /// Something that begins at `start` is broken at `at`.
    fn reject(&mut self, name: Option<String>, start: usize, at: usize, message: &str) {
        let line = self.lines.at(start);
        let head: String = message.chars().take(REASON_CHARS).collect();
        let reason = format!("line {}: {head}", self.lines.line_of(at));
        self.split.rejects.push(Reject { name, line, reason });
    }
}

/// Where a second rule begins in what was taken for one: its brace is missing.
fn second_rule(events: &[Event]) -> Option<usize> {
    let mut rules = 0;
    let mut modifier = None;
    for event in events {
        let Event::Token { kind, span } = event else { continue };
        match kind {
            SyntaxKind::RULE_KW => {
                rules += 1;
                if rules == 2 {
                    return Some(modifier.unwrap_or(span.start()));
                }
            }
            SyntaxKind::PRIVATE_KW | SyntaxKind::GLOBAL_KW => {
                modifier = modifier.or(Some(span.start()));
            }
            SyntaxKind::WHITESPACE | SyntaxKind::NEWLINE | SyntaxKind::COMMENT => {}
            _ => modifier = None,
        }
    }
    None
}

/// The events of one statement as those of a file that holds nothing else.
fn within_a_file(events: Vec<Event>, range: &Range<usize>) -> impl Iterator<Item = Event> {
    let kind = SyntaxKind::SOURCE_FILE;
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    let span = Span(offset(range.start)..offset(range.end));
    std::iter::once(Event::Begin { kind, span: span.clone() })
        .chain(events)
        .chain(std::iter::once(Event::End { kind, span }))
}

fn read_rule(own: &str, rule: &yara_x_parser::ast::Rule<'_>, line: usize, end_line: usize) -> Rule {
    let is_private = rule.flags.contains(RuleFlags::Private);
    let is_global = rule.flags.contains(RuleFlags::Global);
    let modifiers =
        is_private.then_some("private").into_iter().chain(is_global.then_some("global")).collect();
    let meta = rule.meta.iter().flatten();
    Rule {
        name: rule.identifier.name.to_owned(),
        modifiers,
        tags: rule.tags.iter().flatten().map(|tag| tag.name.to_owned()).collect(),
        meta: meta.map(|meta| (meta.identifier.name.to_owned(), value(&meta.value))).collect(),
        strings: rule.patterns.as_ref().map_or(0, Vec::len),
        text: own.to_owned(),
        is_latin1: false,
        hash: hex::encode(Sha256::digest(own.as_bytes())),
        line,
        end_line,
        names: condition::names(&rule.condition),
    }
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

/// What the tree's builder found wrong: mostly numbers that are too large.
fn ast_error(error: &yara_x_parser::ast::Error) -> String {
    use yara_x_parser::ast::Error;
    match error {
        Error::SyntaxError { message, .. }
        | Error::InvalidInteger { message, .. }
        | Error::InvalidFloat { message, .. }
        | Error::InvalidRegexpModifier { message, .. }
        | Error::InvalidEscapeSequence { message, .. } => message.clone(),
        Error::InvalidUTF8(_) => "not UTF-8".to_owned(),
        Error::UnexpectedEscapeSequence(_) => "an escape sequence that is none".to_owned(),
    }
}

/// The name after `rule`, in a rule that may be broken.
fn declared_name(text: &str, events: &[Event]) -> Option<String> {
    let mut is_next = false;
    for event in events {
        if let Event::Token { kind, span } = event {
            match kind {
                SyntaxKind::RULE_KW => is_next = true,
                SyntaxKind::IDENT if is_next => {
                    return text.get(span.range()).map(ToOwned::to_owned);
                }
                SyntaxKind::WHITESPACE | SyntaxKind::NEWLINE | SyntaxKind::COMMENT => {}
                _ => is_next = false,
            }
        }
    }
    None
}

fn push_once(list: &mut Vec<String>, name: &str) {
    if list.iter().all(|known| known != name) {
        list.push(name.to_owned());
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
