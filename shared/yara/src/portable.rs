//! What YARA or YARA-X refuses in a rule that the compiler of the verdicts takes. One such rule would cost a scanner the
//! whole file that it is exported in.
//!
//! Found by giving some 400,000 made-up rules to yara-python 4.5.4, yara-x 1.23 and boreal 1.4. It is a list of known ways:
//! only the compilers themselves prove a file.

use yara_x_parser::Parser;
use yara_x_parser::cst::{Event, SyntaxKind};

use super::Rule;
use super::expression::{self, TEXT_BYTES_MAX};

/// The longest name that YARA reads; the names of strings have no such limit.
const NAME_BYTES_MAX: usize = 128;
/// Strings that YARA takes in one rule.
const STRINGS_MAX: usize = 10_000;
/// Loops that YARA takes within each other.
const LOOPS_MAX: usize = 4;

/// Fields that are true or false in YARA-X, and numbers in YARA.
const TRUE_FIELDS: [&str; 6] =
    ["abstract", "is_dotnet", "is_pe", "is_signed", "sealed", "verified"];
/// Functions of that kind; `imports` is one when it is asked for one function.
const TRUE_FUNCTIONS: [&str; 11] = [
    "exports", "hex", "imports", "in_range", "is_32bit", "is_64bit", "is_dll", "language",
    "locale", "log", "valid_on",
];

/// Fields that YARA has and YARA-X has not.
const UNKNOWN_TO_YARA_X: [&str; 31] = [
    "IMAGE_DEBUG_TYPE_BORLAND",
    "IMAGE_DEBUG_TYPE_CLSID",
    "IMAGE_DEBUG_TYPE_CODEVIEW",
    "IMAGE_DEBUG_TYPE_COFF",
    "IMAGE_DEBUG_TYPE_EXCEPTION",
    "IMAGE_DEBUG_TYPE_FIXUP",
    "IMAGE_DEBUG_TYPE_FPO",
    "IMAGE_DEBUG_TYPE_ILTCG",
    "IMAGE_DEBUG_TYPE_MISC",
    "IMAGE_DEBUG_TYPE_MPX",
    "IMAGE_DEBUG_TYPE_OMAP_FROM_SRC",
    "IMAGE_DEBUG_TYPE_OMAP_TO_SRC",
    "IMAGE_DEBUG_TYPE_POGO",
    "IMAGE_DEBUG_TYPE_REPRO",
    "IMAGE_DEBUG_TYPE_RESERVED10",
    "IMAGE_DEBUG_TYPE_UNKNOWN",
    "IMAGE_DEBUG_TYPE_VC_FEATURE",
    "MACHINE_CEE",
    "MACHINE_CEF",
    "MACHINE_SH3E",
    "MACHINE_TARGET_HOST",
    "MACHINE_TRICORE",
    "SECTION_MEM_16BIT",
    "SECTION_MEM_FARDATA",
    "SECTION_MEM_LOCKED",
    "SECTION_MEM_PRELOAD",
    "SECTION_MEM_PURGEABLE",
    "SHF_ALLOC",
    "SHF_EXECINSTR",
    "SHF_WRITE",
    "version_data",
];

type Token<'t> = (SyntaxKind, &'t str);

/// Why one of the two refuses the rule.
pub(super) fn refusal(rule: &Rule) -> Option<String> {
    match &rule.refused {
        Some(reason) => Some(format!("YARA-X does not read it: {reason}")),
        None if rule.strings > STRINGS_MAX => Some("YARA refuses so many strings".to_owned()),
        None => of_text(&rule.text),
    }
}

fn of_text(rule: &str) -> Option<String> {
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
    let (declared, condition) = tokens.split_at(condition?);
    too_long(&tokens).or_else(|| in_patterns(declared)).or_else(|| in_condition(condition))
}

/// Names and texts that YARA's reader has no room for.
fn too_long(tokens: &[Token<'_>]) -> Option<String> {
    tokens.iter().find_map(|(kind, text)| {
        let shown: String = text.chars().take(30).collect();
        match kind {
            SyntaxKind::IDENT if text.len() > NAME_BYTES_MAX => {
                Some(format!("YARA refuses so long a name as `{shown}…`"))
            }
            SyntaxKind::STRING_LIT
                if text.len() > TEXT_BYTES_MAX && letters(text) > TEXT_BYTES_MAX =>
            {
                Some(format!("YARA refuses so long a text as `{shown}…`"))
            }
            SyntaxKind::STRING_LIT if text.starts_with("\"\"\"") => {
                Some("YARA knows no text of several lines".to_owned())
            }
            _ => None,
        }
    })
}

fn in_patterns(tokens: &[Token<'_>]) -> Option<String> {
    let mut text = "";
    for pair in tokens.windows(2) {
        match pair {
            [(_, "="), (SyntaxKind::STRING_LIT, literal)] => text = literal,
            [(_, "="), (SyntaxKind::REGEXP, literal)] => {
                if let Some(reason) = expression::refusal(literal, true) {
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
    if let Some(reason) = in_loops(tokens) {
        return Some(reason.to_owned());
    }
    for (at, (kind, text)) in tokens.iter().enumerate() {
        let next = |count: usize| tokens.get(at + count).map_or("", |(_, text)| *text);
        let number = |count: usize| tokens.get(at + count).and_then(integer);
        let reason = match (kind, *text) {
            (SyntaxKind::ENTRYPOINT_KW, _) => "YARA-X no longer knows `entrypoint`",
            (SyntaxKind::REGEXP, literal) => match expression::refusal(literal, false) {
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
            (_, "<<" | ">>") if next(1) == "-" => "YARA and YARA-X refuse to shift by less than 0",
            (SyntaxKind::IDENT, name) if at > 0 && tokens[at - 1].1 == "." => {
                if UNKNOWN_TO_YARA_X.binary_search(&name).is_ok() {
                    return Some(format!("YARA-X does not know `{name}`"));
                }
                let truths = if next(1) == "(" { &TRUE_FUNCTIONS[..] } else { &TRUE_FIELDS[..] };
                if truths.contains(&name) && is_reckoned(tokens, at) {
                    return Some(format!(
                        "YARA-X does not reckon with `{name}`, which is true or false"
                    ));
                }
                continue;
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

/// Loops that YARA does not take, and `$`, `#`, `@` and `!` where there is no loop over strings.
fn in_loops(tokens: &[Token<'_>]) -> Option<&'static str> {
    // The loops that are open: whether it is over strings, and the bracket that closes it.
    let mut loops: Vec<(bool, usize)> = Vec::new();
    let mut depth = 0_usize;
    // A loop whose body has not begun: the brackets around it, and whether it is over strings where that is known.
    let mut begun: Option<(usize, Option<bool>)> = None;
    for (at, (kind, text)) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1).map_or("", |(_, text)| *text);
        match (kind, *text) {
            (SyntaxKind::FOR_KW, _) => begun = Some((depth, None)),
            (SyntaxKind::OF_KW | SyntaxKind::IN_KW, _) => {
                if let Some((around, None)) = begun
                    && around == depth
                {
                    let is_of = *kind == SyntaxKind::OF_KW;
                    if is_of && at > 0 && tokens[at - 1].1 == "%" {
                        return Some("YARA has no `for` with a percentage");
                    }
                    begun = Some((around, Some(is_of)));
                }
            }
            (_, "(") => {
                if let Some((around, Some(is_of))) = begun
                    && around == depth
                    && at > 0
                    && tokens[at - 1].1 == ":"
                {
                    if is_of && loops.iter().any(|(is_of, _)| *is_of) {
                        return Some("YARA refuses a loop over strings in another one");
                    }
                    loops.push((is_of, depth));
                    begun = None;
                    if loops.len() > LOOPS_MAX {
                        return Some("YARA refuses so many loops in each other");
                    }
                }
                depth += 1;
            }
            (_, ")") => {
                depth = depth.saturating_sub(1);
                loops.pop_if(|(_, around)| *around == depth);
            }
            (_, "$" | "#" | "@" | "!") if next != "*" && loops.iter().all(|(is_of, _)| !is_of) => {
                return Some("a `$` without a name stands outside of a loop over strings");
            }
            _ => {}
        }
    }
    None
}

/// Whether the field or function at `at`, which is true or false in YARA-X, is used as a number; YARA-X takes it as
/// equal to whole numbers all the same.
fn is_reckoned(tokens: &[Token<'_>], at: usize) -> bool {
    let text = |at: usize| tokens.get(at).map_or("", |(_, text)| *text);
    let mut end = at + 1;
    if text(end) == "(" {
        let arguments = end;
        end = closing(tokens, end);
        if text(at) == "imports" {
            let inner = tokens.get(arguments..end).unwrap_or_default();
            let is_whole = |(kind, _): &Token<'_>| *kind == SyntaxKind::REGEXP;
            if inner.iter().any(is_whole) || inner.iter().all(|(_, text)| *text != ",") {
                return false;
            }
        }
    }
    // Back over the path that it ends.
    let mut start = at;
    while start > 1 && text(start - 1) == "." {
        start -= 2;
        while matches!(text(start), "]" | ")") {
            start = opening(tokens, start).saturating_sub(1);
        }
    }
    let is_call =
        |open: usize| open > 0 && matches!(tokens.get(open - 1), Some((SyntaxKind::IDENT, _)));
    // Out of brackets that hold nothing else.
    while start > 0 && text(start - 1) == "(" && text(end) == ")" && !is_call(start - 1) {
        start -= 1;
        end += 1;
    }
    let is_number = |at: usize| matches!(tokens.get(at), Some((SyntaxKind::INTEGER_LIT, _)));
    let is_end = |at: usize| matches!(text(at), ")" | "and" | "or" | "}" | "");
    let is_begin = |at: usize| {
        matches!(text(at), "and" | "or" | "not" | "defined" | ":")
            || (text(at) == "(" && !is_call(at))
    };
    let before = start > 0
        && (is_begin(start - 1) || {
            start > 2 && text(start - 1) == "==" && is_number(start - 2) && is_begin(start - 3)
        });
    let behind = is_end(end) || (text(end) == "==" && is_number(end + 1) && is_end(end + 2));
    !(before && behind)
}

/// The place behind the bracket that closes the one at `open`.
fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, (_, text)) in tokens.iter().enumerate().skip(open) {
        match *text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The place of the bracket that the one at `close` closes.
fn opening(tokens: &[Token<'_>], close: usize) -> usize {
    let mut depth = 0_usize;
    for at in (0..=close).rev() {
        match tokens.get(at).map_or("", |(_, text)| *text) {
            ")" | "]" => depth += 1,
            "(" | "[" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    0
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

#[cfg(test)]
mod tests {
    use super::of_text;

    fn refused(body: &str) -> Option<String> {
        of_text(&format!("rule A {{ {body} }}"))
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
            "strings: $a = /abc.*?def.*ghi/ condition: $a",
            "condition: \"a\" matches /a{2}{3}/",
            r"strings: $a = /\b{2}abc/ condition: $a",
            "strings: $a = \"x\" condition: for 50% of them : ($)",
            "strings: $a = \"x\" condition: $a and $ at 1",
            "strings: $a = \"x\" condition: $a and # > 1",
            "strings: $a = \"x\" condition: for any of them : ($ and for all of them : ($))",
            "condition: 1 << -1 > 0",
            "condition: pe.MACHINE_CEF == pe.machine",
            "condition: pe.exports(\"a\") & pe.characteristics",
            "condition: pe.imports(\"a\", \"b\") > 3",
            "condition: 1 + pe.is_dll() > 1",
            "condition: (pe.signatures[0].verified) * 2 == 2",
            "condition: pe.is_signed == 1.5",
            "condition: pe.is_signed != 0",
            "condition: math.in_range(1.0, 2.0, 3.0) < 1",
            "condition: uint8(pe.is_dll()) == 1",
            "condition: for any i in (0..pe.is_dll()) : (i == 1)",
        ] {
            assert!(refused(body).is_some(), "{body}");
        }
    }

    #[test]
    fn what_is_too_long_or_too_much_for_yara_is_told() {
        let long = |length: usize| "x".repeat(length);
        let loops = |count: usize| {
            let open: String =
                (0..count).map(|at| format!("for any i{at} in (0..1) : (")).collect();
            format!("condition: {open}true{}", ")".repeat(count))
        };
        let branches = |count: usize| vec!["ab"; count].join("|");
        for (body, is_refused) in [
            (format!("condition: {}", long(128)), false),
            (format!("condition: {}", long(129)), true),
            (format!("meta: {} = 1 condition: true", long(129)), true),
            (format!("meta: a = \"{}\" condition: true", long(8_190)), false),
            (format!("meta: a = \"{}\" condition: true", long(8_191)), true),
            (format!("strings: $a = \"{}\" condition: $a", "\\x41".repeat(8_190)), false),
            (format!("strings: $a = \"{}\" condition: $a", "\\x41".repeat(8_191)), true),
            (format!("strings: $a = /{}/ condition: $a", long(8_191)), true),
            (format!("strings: $a = /{}/ condition: $a", branches(129)), false),
            (format!("strings: $a = /{}/ condition: $a", branches(130)), true),
            (format!("strings: $a = /ab({}){{2,5}}/ condition: $a", "a?b".repeat(42)), false),
            (format!("strings: $a = /ab({}){{2,5}}/ condition: $a", "a?b".repeat(43)), true),
            (format!("strings: $a = /ab{}/ condition: $a", ".{2,5}b".repeat(500)), false),
            (loops(4), false),
            (loops(5), true),
        ] {
            let reason = refused(&body);
            assert_eq!(reason.is_some(), is_refused, "{reason:?}: {}", body.len());
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
            "condition: pe.is_dll() and not pe.is_pe or (pe.exports(\"a\")) and pe.is_signed == 1",
            "condition: 1 == pe.is_dll() and pe.imports(\"a\") > 3 and pe.imports(/a/, /b/) > 3",
            "condition: pe.signatures[uint8(0)].verified and not (pe.signatures[0].verified)",
            "condition: pe.resources[0].language == \"x\" or pe.resources[0].language > 3",
            "condition: for any s in pe.signatures : (s.verified) and console.log(\"x\", pe.machine)",
            "strings: $a = \"x\" condition: for any of ($*) : ($ at 0 and for any i in (1..#) : (@[i] > 1))",
            "condition: \"a\" matches /a{2}(b{3}){4}c+?/",
            "strings: $a = /abc{2}(b{3}){4}c+/ condition: $a",
        ] {
            assert_eq!(refused(body), None, "{body}");
        }
    }
}
