//! What a person typed to search for, taken apart once for all stores: `"a phrase"`, `prefix*`, `-not`, `-"not this"`; any of
//! the words will do. Nothing else typed is syntax.

/// One word or phrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Without quotes and stars.
    pub(super) text: String,
    /// Whether more letters may follow.
    pub(super) is_prefix: bool,
}

/// What should be found, and what should not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) wanted: Vec<Word>,
    pub(super) unwanted: Vec<Word>,
}

impl Words {
    /// Nothing to look for gives nothing.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut words = Self::default();
        let mut is_unwanted = false;
        for (place, part) in text.split('"').enumerate() {
            let parts: Vec<&str> =
                if place % 2 == 1 { vec![part.trim()] } else { part.split_whitespace().collect() };
            for word in parts {
                let (word, list) = match word.strip_prefix('-') {
                    Some(rest) if place % 2 == 0 => (rest, &mut words.unwanted),
                    _ if place % 2 == 1 && is_unwanted => (word, &mut words.unwanted),
                    _ => (word, &mut words.wanted),
                };
                let (word, is_prefix) =
                    word.strip_suffix('*').map_or((word, false), |stem| (stem, true));
                if word.chars().any(char::is_alphanumeric) {
                    list.push(Word { text: word.to_owned(), is_prefix });
                }
            }
            // Of the phrase that follows.
            is_unwanted = part.split_whitespace().next_back() == Some("-") && part.ends_with('-');
        }
        Some(words).filter(|words| *words != Self::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_phrases_prefixes_and_refusals_apart() {
        let words = Words::read(r#"some* "da informacao" -ofensiva * -"#).unwrap();
        let word = |text: &str, is_prefix| Word { text: text.to_owned(), is_prefix };
        assert_eq!(words.wanted, [word("some", true), word("da informacao", false)]);
        assert_eq!(words.unwanted, [word("ofensiva", false)]);
        let words = Words::read(r#"-"not this" this -"nor*" a- "that" - "and this""#).unwrap();
        assert_eq!(words.unwanted, [word("not this", false), word("nor", true)]);
        let wanted = ["this", "a-", "that", "and this"].map(|text| word(text, false));
        assert_eq!(words.wanted, wanted);
        let words = Words::read("-only").unwrap();
        assert_eq!((words.wanted, words.unwanted), (vec![], vec![word("only", false)]));
        assert_eq!(Words::read("- * \"\""), None);
    }
}
