//! Expressions as PCRE writes them, matched in linear time: delimiters and flags are translated, what backtracks is refused.

use regex::{Regex, RegexBuilder};

/// Bytes of a compiled expression.
const SIZE_MAX: usize = 1 << 20;

/// Reads `/…/i`, `#…#`, `{…}`, or an expression without delimiters.
///
/// # Errors
/// Why it is none that is matched in linear time.
pub(crate) fn linear(text: &str) -> Result<Regex, String> {
    let text = text.trim();
    let (pattern, flags) = parted(text).unwrap_or((text, ""));
    let mut anchored = false;
    let mut builder_flags = Vec::new();
    for flag in flags.chars() {
        match flag {
            'i' | 'm' | 's' | 'x' | 'U' => builder_flags.push(flag),
            'A' => anchored = true,
            // Unicode, end at the very end, study, duplicate names: nothing that changes a match here.
            'u' | 'D' | 'S' | 'J' | '\n' | '\r' | ' ' => {}
            other => return Err(format!("`{other}` is no flag")),
        }
    }
    let pattern = translated(pattern);
    let pattern = if anchored { format!(r"\A(?:{pattern})") } else { pattern };
    let has = |flag: char| builder_flags.contains(&flag);
    RegexBuilder::new(&pattern)
        .case_insensitive(has('i'))
        .multi_line(has('m'))
        .dot_matches_new_line(has('s'))
        .ignore_whitespace(has('x'))
        .swap_greed(has('U'))
        .size_limit(SIZE_MAX)
        .build()
        .map_err(|cause| {
            cause.to_string().lines().last().unwrap_or("it is no expression").trim().to_owned()
        })
}

/// The pattern and the flags behind it, where a text has delimiters.
fn parted(text: &str) -> Option<(&str, &str)> {
    let open = text.chars().next().filter(|first| {
        first.is_ascii_punctuation()
            && !matches!(first, '\\' | '^' | '.' | '$' | '*' | '+' | '?' | '|')
    })?;
    let close = match open {
        '(' => ')',
        '{' => '}',
        '[' => ']',
        '<' => '>',
        other => other,
    };
    let (pattern, flags) = text[1..].rsplit_once(close)?;
    flags
        .bytes()
        .all(|byte| byte.is_ascii_alphabetic() || byte.is_ascii_whitespace())
        .then_some((pattern, flags))
}

/// What the two dialects write differently.
fn translated(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len());
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            translated.push(letter);
            continue;
        }
        match letters.next() {
            Some('h') => translated.push_str(r"[\t\x{20}\x{a0}]"),
            Some('R') => translated.push_str(r"(?:\r\n|[\n\x0b\x0c\r])"),
            Some('Z') => translated.push_str(r"\z"),
            // Escapes of what is none, as `\_` and `\/`: PCRE takes them for themselves.
            Some(other) if !other.is_ascii_alphanumeric() => {
                translated.push_str(&regex::escape(other.encode_utf8(&mut [0; 4])));
            }
            Some(other) => {
                translated.push('\\');
                translated.push(other);
            }
            None => translated.push('\\'),
        }
    }
    translated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_pcre_match_as_they_do_there() {
        for (expression, matches, others) in [
            (
                r"/^http:\/\/www.phishtank.com/i",
                "HTTP://www.phishtank.com/x",
                "http://e.org/http://www",
            ),
            ("/^#.*|Threatview.*/i", "by threatview.io", "e.org"),
            ("#^a/b#", "a/b", "A/b"),
            ("{^a{2}$}", "aa", "a"),
            ("~é~iu", "É", "e"),
            ("^plain$", "plain", "plainer"),
            ("/b/A", "bc", "ab"),
            (r"/^a\_b\hc\-d/", "a_b\tc-d", "a_bc-d"),
            (r"/[\/\-]x/", "-x", "x"),
        ] {
            let regex = linear(expression).unwrap_or_else(|why| panic!("{expression}: {why}"));
            assert!(regex.is_match(matches) && !regex.is_match(others), "{expression}");
        }
        for refused in ["/(?=a)b/", r"/(a)\1/", "/a/e", "/(/", "/(?>a)/"] {
            assert!(linear(refused).is_err(), "{refused}");
        }
        assert!(linear(&format!("/{}/", "(a{1000}){1000}")).is_err());
    }
}
