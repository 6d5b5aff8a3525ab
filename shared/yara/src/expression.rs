//! Regular expressions that YARA or YARA-X refuses, although they parse.

use regex_syntax::ast::parse::ParserBuilder;
use regex_syntax::ast::{Ast, RepetitionKind, RepetitionRange, Visitor, visit};
use regex_syntax::hir::translate::TranslatorBuilder;

/// The most times that YARA repeats a part of an expression.
const REPEAT_MAX: u32 = 32_767;
/// The longest expression and text that YARA reads, in bytes as they are meant.
pub(super) const TEXT_BYTES_MAX: usize = 8_190;
/// The most choices that YARA makes in one expression: branches, and repetitions of any kind.
const CHOICES_MAX: u32 = 128;

/// Why an expression is refused: YARA-X reads it with this crate, and takes none as a string that can match an empty text.
pub(super) fn refusal(literal: &str, is_string: bool) -> Option<String> {
    let source = literal.strip_prefix('/')?;
    let source = source.get(..source.rfind('/')?)?.replace("\\/", "/");
    let shown: String = literal.chars().take(100).collect();
    let refused = |why: &str| Some(format!("YARA-X refuses the expression `{shown}`: {why}"));
    let refused_by_yara = |why: &str| Some(format!("YARA refuses the expression `{shown}`: {why}"));
    if source.len() > TEXT_BYTES_MAX {
        return refused_by_yara("it is too long");
    }
    let tree = match ParserBuilder::new().empty_min_range(true).build().parse(&source) {
        Ok(tree) => tree,
        Err(error) => return refused(&error.kind().to_string()),
    };
    if let Err(reason) = visit(&tree, Limits { is_string, ..Limits::default() }) {
        return refused_by_yara(reason);
    }
    if choices(&tree) > CHOICES_MAX {
        return refused_by_yara("it has too many branches and repetitions");
    }
    let mut translator = TranslatorBuilder::new().unicode(false).utf8(false).build();
    match translator.translate(&source, &tree) {
        Err(error) => refused(&error.kind().to_string()),
        Ok(meaning) if is_string && meaning.properties().minimum_len() == Some(0) => {
            refused("it can match an empty text")
        }
        Ok(_) => None,
    }
}

/// The choices in what YARA makes of an expression; a part that is repeated from one number to another is in it up to three
/// times. Trees are no deeper than the parser's own limit.
fn choices(tree: &Ast) -> u32 {
    let sum = |parts: &[Ast]| parts.iter().map(choices).fold(0, u32::saturating_add);
    match tree {
        Ast::Group(group) => choices(&group.ast),
        Ast::Concat(parts) => sum(&parts.asts),
        Ast::Alternation(branches) => {
            let count = u32::try_from(branches.asts.len()).unwrap_or(u32::MAX);
            sum(&branches.asts).saturating_add(count.saturating_sub(1))
        }
        Ast::Repetition(repetition) => {
            let inner = choices(&repetition.ast);
            let (start, end) = match &repetition.op.kind {
                // It skips bytes, and makes no choice.
                RepetitionKind::Range(_) if matches!(*repetition.ast, Ast::Dot(_)) => return 0,
                RepetitionKind::Range(range) => bounds(range),
                RepetitionKind::ZeroOrOne
                | RepetitionKind::ZeroOrMore
                | RepetitionKind::OneOrMore => return inner.saturating_add(1),
            };
            let copies = u32::from(start > 0)
                + u32::from(end > start.saturating_add(1) || end > 2)
                + u32::from(end > start || end > 1);
            inner.saturating_mul(copies).saturating_add(u32::from(end > start))
        }
        Ast::Empty(_)
        | Ast::Flags(_)
        | Ast::Literal(_)
        | Ast::Dot(_)
        | Ast::Assertion(_)
        | Ast::ClassUnicode(_)
        | Ast::ClassPerl(_)
        | Ast::ClassBracketed(_) => 0,
    }
}

fn bounds(range: &RepetitionRange) -> (u32, u32) {
    match *range {
        RepetitionRange::Exactly(count) => (count, count),
        RepetitionRange::AtLeast(start) => (start, REPEAT_MAX),
        RepetitionRange::Bounded(start, end) => (start, end),
    }
}

/// What YARA's own expressions leave out of those that parse.
#[derive(Default)]
struct Limits {
    is_string: bool,
    is_greedy: bool,
    is_lazy: bool,
}

impl Visitor for Limits {
    type Output = ();
    type Err = &'static str;

    fn finish(self) -> Result<(), Self::Err> {
        if self.is_string && self.is_greedy && self.is_lazy {
            return Err("some of it repeats as much and some as little as it can");
        }
        Ok(())
    }

    fn visit_pre(&mut self, part: &Ast) -> Result<(), Self::Err> {
        let is_empty = |part: &Ast| matches!(part, Ast::Empty(_));
        match part {
            Ast::Group(group) if is_empty(&group.ast) => Err("a group is empty"),
            Ast::Alternation(branches) if branches.asts.first().is_some_and(is_empty) => {
                Err("its first branch is empty")
            }
            Ast::Repetition(repetition) => {
                self.is_greedy |= repetition.greedy;
                self.is_lazy |= !repetition.greedy;
                match &repetition.op.kind {
                    _ if matches!(*repetition.ast, Ast::Repetition(_)) => {
                        Err("a repetition is repeated")
                    }
                    RepetitionKind::Range(_) if matches!(*repetition.ast, Ast::Assertion(_)) => {
                        Err("a place is repeated")
                    }
                    RepetitionKind::Range(RepetitionRange::AtLeast(count))
                        if *count > REPEAT_MAX =>
                    {
                        Err("it repeats a part too often")
                    }
                    RepetitionKind::Range(range) if bounds(range).1 > REPEAT_MAX => {
                        Err("it repeats a part too often")
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
