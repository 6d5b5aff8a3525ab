//! What YARA or YARA-X refuses in a rule that the compiler of the verdicts takes. One such rule would cost a scanner the
//! whole file that it is exported in.
//!
//! Found by giving the same rules to yara-python 4.5.4, yara-x 1.23 and boreal 1.4.

use regex_syntax::ast::parse::ParserBuilder;
use regex_syntax::ast::{Ast, RepetitionKind, RepetitionRange, Visitor, visit};
use regex_syntax::hir::translate::TranslatorBuilder;
use yara_x_parser::Parser;
use yara_x_parser::cst::{Event, SyntaxKind};

/// The most times that YARA repeats a part of an expression.
const REPEAT_MAX: u32 = 32_767;

type Token<'t> = (SyntaxKind, &'t str);

/// Why one of the two refuses the rule.
pub(super) fn refusal(rule: &str) -> Option<String> {
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut condition = None;
    for event in Parser::new(rule.as_bytes()) {
        let Event::Token { kind, span } = event else { continue };
        match kind {
            SyntaxKind::WHITESPACE | SyntaxKind::NEWLINE | SyntaxKind::COMMENT => continue,
            SyntaxKind::CONDITION_KW => condition = Some(tokens.len()),
            _ => {}
        }
        tokens.push((kind, rule.get(span.range()).unwrap_or_default()));
    }
    let (patterns, condition) = tokens.split_at(condition?);
    in_patterns(patterns).or_else(|| in_condition(condition))
}

fn in_patterns(tokens: &[Token<'_>]) -> Option<String> {
    let mut text = "";
    for pair in tokens.windows(2) {
        match pair {
            [(_, "="), (SyntaxKind::STRING_LIT, literal)] => text = literal,
            [(_, "="), (SyntaxKind::REGEXP, literal)] => {
                if let Some(reason) = expression(literal, true) {
                    return Some(reason);
                }
            }
            [_, (SyntaxKind::BASE64_KW | SyntaxKind::BASE64WIDE_KW, _)] if letters(text) < 3 => {
                return Some(format!("YARA-X refuses `base64` of the short text `{text}`"));
            }
            _ => {}
        }
    }
    None
}

fn in_condition(tokens: &[Token<'_>]) -> Option<String> {
    for (at, (kind, text)) in tokens.iter().enumerate() {
        let next = |count: usize| tokens.get(at + count).map_or("", |(_, text)| *text);
        let number = |count: usize| tokens.get(at + count).and_then(integer);
        let reason = match (kind, *text) {
            (SyntaxKind::ENTRYPOINT_KW, _) => "YARA-X no longer knows `entrypoint`",
            (SyntaxKind::REGEXP, literal) => match expression(literal, false) {
                Some(reason) => return Some(reason),
                None => continue,
            },
            (SyntaxKind::PATTERN_OFFSET | SyntaxKind::PATTERN_LENGTH, _)
                if next(1) == "[" && (number(2) == Some(0) || next(2) == "-") =>
            {
                "YARA-X counts the places of a string from 1"
            }
            (_, "at" | "[") if next(1) == "-" && number(2).is_some() => {
                "YARA-X refuses a negative place"
            }
            (_, "-") if number(1).is_some() && next(2) == "of" => "no less than none can match",
            (SyntaxKind::INTEGER_LIT, _) if overflows(number(0), next(1), number(2)) => {
                "a number is too large"
            }
            (_, "\\" | "%") if number(1) == Some(0) => "YARA refuses to divide by zero",
            (SyntaxKind::INTEGER_LIT, _)
                if next(1) == "%"
                    && next(2) == "of"
                    && number(0).is_some_and(|most| !(1..=100).contains(&most)) =>
            {
                "a percentage is between 1 and 100"
            }
            (_, "(")
                if next(2) == "." && next(3) == "." && number(1) > number(4).or(Some(u64::MAX)) =>
            {
                "a range ends before it begins"
            }
            _ => continue,
        };
        return Some(reason.to_owned());
    }
    None
}

fn overflows(one: Option<u64>, sign: &str, other: Option<u64>) -> bool {
    let signed = |number: Option<u64>| i64::try_from(number?).ok();
    let (Some(one), Some(other)) = (signed(one), signed(other)) else { return false };
    match sign {
        "+" => one.checked_add(other).is_none(),
        "*" => one.checked_mul(other).is_none(),
        _ => false,
    }
}

/// The value of a number, which may be hexadecimal or octal and have a unit.
fn integer((kind, text): &Token<'_>) -> Option<u64> {
    if *kind != SyntaxKind::INTEGER_LIT {
        return None;
    }
    let (digits, unit) = match text.strip_suffix("KB") {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix("MB").map_or((*text, 1), |digits| (digits, 1 << 20)),
    };
    let value = if let Some(digits) = digits.strip_prefix("0x") {
        u64::from_str_radix(digits, 16)
    } else if let Some(digits) = digits.strip_prefix("0o") {
        u64::from_str_radix(digits, 8)
    } else {
        digits.parse()
    };
    Some(value.ok()?.saturating_mul(unit))
}

/// Bytes that a text between quotes stands for.
fn letters(literal: &str) -> usize {
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or_default();
    let escapes = inner.replace("\\\\", "_");
    let hex = escapes.matches("\\x").count();
    let escapes_of_one = escapes.matches('\\').count() - hex;
    escapes.len().saturating_sub(3 * hex + escapes_of_one)
}

/// Why an expression is refused: YARA-X reads it with this crate, and takes none as a string that can match an empty text.
fn expression(literal: &str, is_string: bool) -> Option<String> {
    let source = literal.strip_prefix('/')?;
    let source = source.get(..source.rfind('/')?)?.replace("\\/", "/");
    let refused = |why: &str| Some(format!("YARA-X refuses the expression `{literal}`: {why}"));
    let tree = match ParserBuilder::new().empty_min_range(true).build().parse(&source) {
        Ok(tree) => tree,
        Err(error) => return refused(&error.kind().to_string()),
    };
    if let Err(reason) = visit(&tree, Limits) {
        return Some(format!("YARA refuses the expression `{literal}`: {reason}"));
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

/// What YARA's own expressions leave out of those that parse.
struct Limits;

impl Visitor for Limits {
    type Output = ();
    type Err = &'static str;

    fn finish(self) -> Result<(), Self::Err> {
        Ok(())
    }

    fn visit_pre(&mut self, part: &Ast) -> Result<(), Self::Err> {
        let is_empty = |part: &Ast| matches!(part, Ast::Empty(_));
        match part {
            Ast::Group(group) if is_empty(&group.ast) => Err("a group is empty"),
            Ast::Alternation(branches) if branches.asts.first().is_some_and(is_empty) => {
                Err("its first branch is empty")
            }
            Ast::Repetition(repetition) => match &repetition.op.kind {
                RepetitionKind::Range(
                    RepetitionRange::Exactly(most)
                    | RepetitionRange::AtLeast(most)
                    | RepetitionRange::Bounded(_, most),
                ) if *most > REPEAT_MAX => Err("it repeats a part too often"),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::refusal;

    fn refused(body: &str) -> Option<String> {
        refusal(&format!("rule A {{ {body} }}"))
    }

    #[test]
    fn what_one_compiler_refuses_is_told() {
        for body in [
            r#"strings: $a = "ab" base64 condition: $a"#,
            r#"strings: $a = "\x41\\" wide base64wide condition: $a"#,
            r"strings: $a = /a\Rb/ condition: $a",
            "strings: $a = /a{/ condition: $a",
            "strings: $a = /a||b/ condition: $a",
            "strings: $a = /.*/s condition: $a",
            r"strings: $a = /[\w-z]/ condition: $a",
            r"strings: $a = /\1/ condition: $a",
            "strings: $a = /a{1000,70000}/ condition: $a",
            r#"condition: "a" matches /\e/i"#,
            "strings: $a = \"x\" condition: @a[-1] > 0",
            "strings: $a = \"x\" condition: !a[0] > 0",
            "strings: $a = \"x\" condition: $a at -1",
            "condition: pe.sections[-1].name == \"x\"",
            "strings: $a = \"x\" condition: $a in (10..0)",
            "condition: for all i in (3..1) : (true)",
            "condition: 1 \\ 0 == 1",
            "condition: 1 % 0x0 == 1",
            "strings: $a = \"x\" condition: 101% of them",
            "strings: $a = \"x\" condition: -1 of them",
            "condition: entrypoint == 1",
            "condition: 9223372036854775807 + 1 > 0",
            "strings: $a = /a()b/ condition: $a",
            "condition: \"a\" matches /(|a)/",
        ] {
            assert!(refused(body).is_some(), "{body}");
        }
    }

    #[test]
    fn what_both_take_is_let_through() {
        for body in [
            r#"strings: $a = "abc" base64("!@#$%^&*(){}[].,|ABCDEFGHIJ0LMNOPQRSTUVWXYZabcdefghijklmnopqrstu") condition: $a"#,
            r#"strings: $b = "x" $a = "abcd" base64 wide condition: any of them"#,
            r"strings: $a = /[]a(|-]\/\d{3,}[^\x00]\t?x/is condition: $a",
            r"strings: $a = /a{,5}b[[:alpha:]]\<\_}/ condition: $a",
            "strings: $a = { 41 [-] 42 [0-] 43 } condition: $a at 0",
            "condition: \"a\" matches /.*/",
            "strings: $a = \"x\" condition: @a[1] > 0 and 50% of them and $a in (0..10)",
            "condition: for any i in (0..#a - 1) : (true)",
            "condition: 5 % 2 == 1 and 10 \\ 5 == 2 and -1 < 0 and 3 - 1 == 2",
            "condition: for any i in (0x10..1KB) : (uint8(i) == -1)",
            "condition: for any i in (1, 2, 3) : (i == 1)",
        ] {
            assert_eq!(refused(body), None, "{body}");
        }
    }
}
