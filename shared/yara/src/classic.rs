//! A rule as YARA reads it, where YARA-X does not: sets of rules, `with` as a name, escapes in an alphabet.

use std::collections::HashSet;

use boreal_parser::expression::{
    Expression, ExpressionKind, ForIterator, ForSelection, Identifier, IdentifierOperationType,
};
use boreal_parser::file::YaraFileComponent;
use boreal_parser::rule::MetadataValue;

use super::condition::{Meaning, Name};
use super::{Meta, Rule, split};

/// Reads a text that is one rule; its place is not known here.
pub(super) fn read(text: &str) -> Option<Rule> {
    let file = boreal_parser::parse(text).ok()?;
    let [YaraFileComponent::Rule(rule)] = <[_; 1]>::try_from(file.components).ok()? else {
        return None;
    };
    let mut names = Names::default();
    names.read(&rule.condition, Meaning::Bool);
    let value = |value: &MetadataValue| match value {
        MetadataValue::Bytes(bytes) => Meta::Text(String::from_utf8_lossy(bytes).into_owned()),
        MetadataValue::Integer(number) => Meta::Integer(*number),
        MetadataValue::Boolean(value) => Meta::Bool(*value),
    };
    Some(Rule {
        modifiers: split::modifiers(rule.is_private, rule.is_global),
        tags: rule.tags.iter().map(|tag| tag.tag.clone()).collect(),
        meta: rule.metadatas.iter().map(|meta| (meta.name.clone(), value(&meta.value))).collect(),
        strings: rule.variables.len(),
        names: names.of_others(),
        name: rule.name,
        ..Rule::default()
    })
}

/// The names of a condition.
#[derive(Default)]
struct Names<'e> {
    all: Vec<(&'e str, Meaning)>,
    /// The variables of `for`.
    own: HashSet<&'e str>,
}

impl<'e> Names<'e> {
    /// Those that the condition does not declare itself, each once, in order.
    fn of_others(self) -> Vec<Name> {
        let mut seen = self.own;
        let others = self.all.into_iter().filter(|(name, _)| seen.insert(name));
        others.map(|(name, meaning)| Name { name: name.to_owned(), meaning }).collect()
    }

    /// Adds those of an expression that is used as `meaning`.
    fn read(&mut self, expression: &'e Expression, meaning: Meaning) {
        use ExpressionKind as Kind;
        use Meaning::{Bool, Integer, Text};
        match &expression.expr {
            Kind::Filesize
            | Kind::Entrypoint
            | Kind::Integer(_)
            | Kind::Double(_)
            | Kind::Count(_)
            | Kind::Boolean(_)
            | Kind::Variable(_)
            | Kind::Bytes(_)
            | Kind::Regex(_) => {}
            Kind::Identifier(identifier) => self.identifier(identifier, meaning),
            Kind::And(all) | Kind::Or(all) => all.iter().for_each(|one| self.read(one, Bool)),
            Kind::Not(one) | Kind::Defined(one) => self.read(one, Bool),
            Kind::Neg(one)
            | Kind::BitwiseNot(one)
            | Kind::ReadInteger { addr: one, .. }
            | Kind::Offset { occurence_number: one, .. }
            | Kind::Length { occurence_number: one, .. }
            | Kind::VariableAt { offset: one, .. } => self.read(one, Integer),
            Kind::Eq(left, right) | Kind::NotEq(left, right) => {
                let is_text = |side: &Expression| matches!(side.expr, Kind::Bytes(_));
                let meaning = if is_text(left) || is_text(right) { Text } else { Integer };
                self.both(left, right, meaning);
            }
            Kind::Contains { haystack: left, needle: right, .. }
            | Kind::StartsWith { expr: left, prefix: right, .. }
            | Kind::EndsWith { expr: left, suffix: right, .. }
            | Kind::IEquals(left, right) => self.both(left, right, Text),
            Kind::Matches(one, _) => self.read(one, Text),
            Kind::Add(left, right)
            | Kind::Sub(left, right)
            | Kind::Mul(left, right)
            | Kind::Div(left, right)
            | Kind::Mod(left, right)
            | Kind::BitwiseXor(left, right)
            | Kind::BitwiseAnd(left, right)
            | Kind::BitwiseOr(left, right)
            | Kind::ShiftLeft(left, right)
            | Kind::ShiftRight(left, right)
            | Kind::Cmp { left, right, .. }
            | Kind::CountInRange { from: left, to: right, .. }
            | Kind::VariableIn { from: left, to: right, .. } => self.both(left, right, Integer),
            Kind::For { selection, body, .. } => {
                self.selection(selection);
                body.iter().for_each(|body| self.read(body, Bool));
            }
            Kind::ForIn { selection, from, to, .. } => {
                self.selection(selection);
                self.both(from, to, Integer);
            }
            Kind::ForAt { selection, offset, .. } => {
                self.selection(selection);
                self.read(offset, Integer);
            }
            Kind::ForRules { selection, set } => {
                self.selection(selection);
                for element in &set.elements {
                    let meaning = if element.is_wildcard { Meaning::Rules } else { Bool };
                    self.all.push((&element.name, meaning));
                }
            }
            Kind::ForIdentifiers { selection, identifiers, iterator, body, .. } => {
                self.selection(selection);
                self.own.extend(identifiers.iter().map(String::as_str));
                match iterator {
                    ForIterator::Identifier(identifier) => {
                        self.identifier(identifier, Meaning::Module);
                    }
                    ForIterator::Range { from, to } => self.both(from, to, Integer),
                    ForIterator::List(list) => list.iter().for_each(|one| self.read(one, Integer)),
                }
                self.read(body, Bool);
            }
        }
    }

    fn both(&mut self, left: &'e Expression, right: &'e Expression, meaning: Meaning) {
        self.read(left, meaning);
        self.read(right, meaning);
    }

    fn selection(&mut self, selection: &'e ForSelection) {
        if let ForSelection::Expr { expr, .. } = selection {
            self.read(expr, Meaning::Integer);
        }
    }

    fn identifier(&mut self, identifier: &'e Identifier, meaning: Meaning) {
        let is_plain = identifier.operations.is_empty();
        self.all.push((&identifier.name, if is_plain { meaning } else { Meaning::Module }));
        for operation in &identifier.operations {
            match &operation.op {
                IdentifierOperationType::Subfield(_) => {}
                IdentifierOperationType::Subscript(one) => self.read(one, Meaning::Integer),
                IdentifierOperationType::FunctionCall(all) => {
                    all.iter().for_each(|one| self.read(one, Meaning::Bool));
                }
            }
        }
    }
}
