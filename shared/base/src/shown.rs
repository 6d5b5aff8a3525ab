//! What may stand where a person reads: text from upstream can hold letters that clear a terminal, turn a line around or begin
//! another one.

use std::fmt::Write as _;

/// Whether a letter does something where it is shown instead of being seen.
///
/// Control letters (C0, DEL, C1), marks that turn the direction of text (Unicode's `Bidi_Control`), and separators that some
/// readers take for the end of a line.
pub fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// The text with every such letter as U+FFFD but for the ends of its lines and tabs, which are ours.
pub fn lines(text: &str) -> String {
    text.replace(|letter| steers(letter) && !matches!(letter, '\n' | '\t'), "\u{fffd}")
}

/// The text with every line but its first indented, so that none of upstream's can be taken for one of ours.
pub fn indented(text: &str) -> String {
    lines(text).replace('\n', "\n  ")
}

/// The text on one line: ends of lines and tabs become spaces, every other such letter U+FFFD.
pub fn one_line(text: &str) -> String {
    lines(&text.replace("\r\n", " ")).replace(['\n', '\t'], " ")
}

/// JSON with such letters written as `\u009b`, which means the same.
///
/// They can stand in its strings only; what ends a line of it or indents it is left alone.
pub fn json(text: &str) -> String {
    let is_left = |letter: char| !steers(letter) || matches!(letter, '\n' | '\r' | '\t');
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_left(letter) {
            escaped.push(letter);
        } else {
            let _ = write!(escaped, "\\u{:04x}", u32::from(letter));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_is_shown_and_json_means_the_same() {
        let hostile: String = (0..0x2100).filter_map(char::from_u32).collect();
        for shown in [lines(&hostile), one_line(&hostile)] {
            assert!(!shown.contains(|letter| steers(letter) && !matches!(letter, '\n' | '\t')));
        }
        assert!(
            !one_line("a\nb\r\nc\td\u{2028}e\u{85}f")
                .contains(['\n', '\r', '\t', '\u{2028}', '\u{85}'])
        );
        assert_eq!(one_line("a\r\nb\tc"), "a b c");
        assert_eq!(indented("a\nhint: b\n\nc"), "a\n  hint: b\n  \n  c");
        let written = serde_json::to_string_pretty(&serde_json::json!({"text": hostile})).unwrap();
        let escaped = json(&written);
        assert!(!escaped.contains(|letter| steers(letter) && letter != '\n'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap()["text"], hostile);
        assert_eq!(lines("é ü 中 🦀 ﷺ"), "é ü 中 🦀 ﷺ");
    }
}
