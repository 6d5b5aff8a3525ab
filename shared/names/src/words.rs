//! A text as words: runs of letters and digits, with what stands between them.

/// One word.
#[derive(Clone, Debug)]
pub(crate) struct Word<'t> {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// As it stands.
    pub(crate) text: &'t str,
    /// In lower case.
    pub(crate) lower: String,
    /// It is part of an address, so nothing in it is a name.
    pub(crate) is_in_address: bool,
}

impl Word<'_> {
    pub(crate) fn is_capitalised(&self) -> bool {
        self.text.chars().next().is_some_and(char::is_uppercase)
    }

    pub(crate) fn has_capital(&self) -> bool {
        self.text.chars().any(char::is_uppercase)
    }

    fn has_letter(&self) -> bool {
        self.text.chars().any(char::is_alphabetic)
    }
}

/// How a text writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// As sentences are: a capital says something.
    Sentence,
    /// Most Words Begin With a Capital.
    Title,
    /// All small or all capitals: case says nothing.
    None,
}

/// A text taken apart.
pub(crate) struct Text<'t> {
    pub(crate) whole: &'t str,
    pub(crate) words: Vec<Word<'t>>,
    pub(crate) case: Case,
    pub(crate) is_portuguese: bool,
}

/// Words that only one of both languages has, and that most sentences have.
const PORTUGUESE: [&str; 24] = [
    "o", "os", "de", "do", "da", "dos", "das", "em", "na", "nas", "nos", "um", "uma", "que",
    "para", "com", "por", "e", "é", "ao", "à", "são", "mais", "novo",
];
const ENGLISH: [&str; 18] = [
    "the", "of", "in", "to", "and", "for", "with", "on", "by", "is", "from", "at", "an", "are",
    "was", "its", "new", "how",
];
/// Letters of a word from which on its capital says how a title writes.
const LONG: usize = 4;
/// Top levels and endings after which a dotted name is an address or a file; a detection's name ends otherwise.
const ENDINGS: [&str; 24] = [
    "com", "net", "org", "io", "ru", "br", "cn", "info", "biz", "gov", "edu", "co", "uk", "de",
    "exe", "dll", "js", "py", "zip", "pdf", "doc", "docx", "html", "php",
];

impl<'t> Text<'t> {
    pub(crate) fn of(whole: &'t str) -> Self {
        let whole = &whole[..whole.floor_char_boundary(crate::TEXT_MAX)];
        let mut words = Vec::new();
        let mut start = None;
        for (at, letter) in whole.char_indices() {
            match (letter.is_alphanumeric(), start) {
                (true, None) => start = Some(at),
                (false, Some(begun)) => {
                    words.push(word(whole, begun, at));
                    start = None;
                }
                _ => {}
            }
        }
        if let Some(begun) = start {
            words.push(word(whole, begun, whole.len()));
        }
        mark_addresses(whole, &mut words);
        let case = case_of(&words);
        let count = |known: &[&str]| {
            words.iter().filter(|word| known.contains(&word.lower.as_str())).count()
        };
        let is_portuguese = whole.contains(['ã', 'õ', 'ç']) || count(&PORTUGUESE) > count(&ENGLISH);
        Self { whole, words, case, is_portuguese }
    }

    /// What stands between a word and the next.
    pub(crate) fn gap(&self, before: usize) -> &'t str {
        let end = self.words[before].end;
        let start = self.words.get(before + 1).map_or(self.whole.len(), |next| next.start);
        &self.whole[end..start]
    }

    /// Whether a word begins a sentence, by what stands before it.
    pub(crate) fn begins_sentence(&self, at: usize) -> bool {
        at == 0
            || self.gap(at - 1).contains(['.', '!', '?', ':', '\n', '"', '“', '–', '—', '|', '•'])
    }

    /// Whether two words stand in one phrase.
    pub(crate) fn is_joined(&self, before: usize) -> bool {
        let gap = self.gap(before);
        before + 1 < self.words.len()
            && gap.chars().all(|letter| " -_'’\"“”‘()[]\u{a0}".contains(letter))
    }
}

fn word(whole: &str, start: usize, end: usize) -> Word<'_> {
    let text = &whole[start..end];
    Word { start, end, text, lower: text.to_lowercase(), is_in_address: false }
}

/// Marks the words of URLs, of mail addresses and handles, and of names that end as hosts and files do.
fn mark_addresses(whole: &str, words: &mut [Word<'_>]) {
    let bytes = whole.as_bytes();
    let mut until = 0;
    for at in 0..words.len() {
        let (start, end) = (words[at].start, words[at].end);
        if whole[end..].starts_with("://") {
            let rest = &whole[end..];
            until = end + rest.find(char::is_whitespace).unwrap_or(rest.len());
        }
        let is_handle = start > 0 && bytes[start - 1] == b'@';
        let is_mail = bytes.get(end) == Some(&b'@')
            && bytes.get(end + 1).is_some_and(|b| !b.is_ascii_whitespace());
        let next = words.get(at + 1).filter(|next| next.start == end + 1 && bytes[end] == b'.');
        let ends =
            next.is_some_and(|next| ENDINGS.contains(&next.lower.as_str()) && !next.has_capital());
        words[at].is_in_address = start < until || is_handle || is_mail || ends;
    }
}

fn case_of(words: &[Word<'_>]) -> Case {
    let lettered = || words.iter().filter(|word| word.has_letter());
    let (all, capitals) =
        (lettered().count(), lettered().filter(|word| word.has_capital()).count());
    let shouted = lettered().filter(|word| word.text == word.text.to_uppercase()).count();
    if capitals == 0 || (all > 2 && shouted * 10 >= all * 9) {
        return Case::None;
    }
    let long = || lettered().filter(|word| word.text.chars().count() >= LONG);
    let (long_words, risen) = (long().count(), long().filter(|word| word.is_capitalised()).count());
    if long_words >= LONG && risen * 4 >= long_words * 3 { Case::Title } else { Case::Sentence }
}
