//! The names in a rule's condition: what each is used as, which is all that tells a scanner's variable from a rule.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use yara_x_parser::ast::Expr;
use yara_x_parser::ast::dfs::{DFSContext, DFSEvent, DFSIter};

/// What a name is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Meaning {
    /// It has fields or functions.
    Module,
    /// It is compared with text.
    Text,
    /// It is compared or reckoned with numbers.
    Integer,
    /// It is true or false: a rule, or a variable.
    Bool,
    /// All rules before it in its file whose names begin with it.
    Rules,
}

/// A name that a condition takes from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As it stands there.
    pub name: String,
    /// What it is used as, at its first use.
    pub meaning: Meaning,
}

/// The names of a condition that it does not declare itself, each once, in order.
pub(super) fn names(condition: &Expr<'_>) -> Vec<Name> {
    let own = declared(condition);
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    let mut events = DFSIter::new(condition);
    while let Some(event) = events.next() {
        let DFSEvent::Enter(expression) = event else { continue };
        let Expr::Ident(ident) = expression else { continue };
        if own.contains(ident.name) {
            continue;
        }
        let meaning = match events.contexts().next() {
            Some(DFSContext::FuncSelf(_)) => Some(Meaning::Module),
            Some(DFSContext::Operand(parent)) => operand(parent, expression),
            _ => Some(Meaning::Bool),
        };
        if let Some(meaning) = meaning
            && seen.insert(ident.name)
        {
            names.push(Name { name: ident.name.to_owned(), meaning });
        }
    }
    names
}

/// What an operand of `parent` is used as; nothing for the name of a field.
fn operand(parent: &Expr<'_>, ident: &Expr<'_>) -> Option<Meaning> {
    Some(match parent {
        Expr::FieldAccess(path) if std::ptr::eq(path.first(), ident) => Meaning::Module,
        Expr::FieldAccess(_) => return None,
        Expr::Lookup(_) => Meaning::Module,
        Expr::Contains(_)
        | Expr::IContains(_)
        | Expr::StartsWith(_)
        | Expr::IStartsWith(_)
        | Expr::EndsWith(_)
        | Expr::IEndsWith(_)
        | Expr::IEquals(_)
        | Expr::Matches(_) => Meaning::Text,
        Expr::Eq(pair) | Expr::Ne(pair) => {
            let is_text = |side: &Expr<'_>| matches!(side, Expr::LiteralString(_));
            if is_text(&pair.lhs) || is_text(&pair.rhs) { Meaning::Text } else { Meaning::Integer }
        }
        Expr::And(_) | Expr::Or(_) | Expr::Not(_) | Expr::Defined(_) => Meaning::Bool,
        _ => Meaning::Integer,
    })
}

/// The variables of `for` and `with`.
fn declared<'e>(condition: &'e Expr<'e>) -> HashSet<&'e str> {
    let mut own = HashSet::new();
    for event in DFSIter::new(condition) {
        match event {
            DFSEvent::Enter(Expr::ForIn(each)) => {
                own.extend(each.variables.iter().map(|variable| variable.name));
            }
            DFSEvent::Enter(Expr::With(with)) => {
                own.extend(with.declarations.iter().map(|declared| declared.identifier.name));
            }
            DFSEvent::Enter(_) | DFSEvent::Leave(_) => {}
        }
    }
    own
}
