//! What the site puts before titles.

use page::one_line;

/// A title or summary without the marks that the site puts before it: `🔹 🔸 ▪️ •`, variation selectors, blanks.
pub(crate) fn without_marks(text: &str) -> String {
    let is_mark = |letter: char| {
        letter.is_whitespace()
            || matches!(
                letter,
                '🔹' | '🔸'
                    | '🔷'
                    | '🔶'
                    | '▪'
                    | '▫'
                    | '◾'
                    | '◽'
                    | '■'
                    | '□'
                    | '●'
                    | '•'
                    | '‣'
                    | '·'
                    | '►'
                    | '▶'
                    | '\u{fe0e}'
                    | '\u{fe0f}'
                    | '\u{a0}'
                    | '\u{200b}'..='\u{200d}' | '\u{feff}'
            )
    };
    one_line(text.trim_matches(is_mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_before_a_title_are_no_part_of_it() {
        assert_eq!(
            without_marks("🔹\u{fe0f}\u{a0} Título —  com ▪ marca "),
            "Título — com ▪ marca"
        );
        assert_eq!(without_marks("▪️ 🔸"), "");
    }
}
