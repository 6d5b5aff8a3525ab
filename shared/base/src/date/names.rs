//! The names of months and weekdays in the languages of CLDR: `names.tsv` says which, from where, and under which licence.

use std::collections::HashMap;
use std::sync::OnceLock;

use jiff::civil::Weekday;

const TABLE: &str = include_str!("names.tsv");

/// The most words that one name has: `арван хоёрдугаар сар`.
pub(super) const WORDS_MAX: usize = 3;

/// What a name means in one language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// 1 to 12.
    Month(u32),
    Weekday(Weekday),
}

/// A meaning, and the place of its language in `Names`.
pub(super) type Reading = (usize, Meaning);

pub(super) struct Names {
    by_name: HashMap<&'static str, Vec<Reading>>,
    languages: Vec<&'static str>,
}

impl Names {
    pub(super) fn get() -> &'static Self {
        static NAMES: OnceLock<Names> = OnceLock::new();
        NAMES.get_or_init(Self::read)
    }

    fn read() -> Self {
        let mut names = Self { by_name: HashMap::with_capacity(4096), languages: Vec::new() };
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let mut parts = line.split('\t');
            let code = parts.next().unwrap_or_default();
            let known = names.languages.iter().position(|language| *language == code);
            let language = known.unwrap_or_else(|| {
                names.languages.push(code);
                names.languages.len() - 1
            });
            let months = parts.next().unwrap_or_default().split(',');
            for (month, spellings) in (1..).zip(months) {
                names.add(language, Meaning::Month(month), spellings);
            }
            let days = parts.next().unwrap_or_default().split(',');
            for (day, spellings) in Weekday::Monday.cycle_forward().zip(days) {
                names.add(language, Meaning::Weekday(day), spellings);
            }
        }
        names
    }

    fn add(&mut self, language: usize, meaning: Meaning, spellings: &'static str) {
        for name in spellings.split('|').filter(|name| !name.is_empty()) {
            self.by_name.entry(name).or_default().push((language, meaning));
        }
    }

    /// What `name` means, by language; in lower case, words parted by one blank, without full stops and apostrophes.
    pub(super) fn readings(&self, name: &str) -> &[Reading] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The place of a language by its tag: `pt-BR` is `pt`.
    pub(super) fn language(&self, tag: &str) -> Option<usize> {
        let code = tag.split(['-', '_']).next()?;
        self.languages.iter().position(|known| known.eq_ignore_ascii_case(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_twelve_months_and_seven_days() {
        let names = Names::get();
        for language in 0..names.languages.len() {
            let mut found = std::collections::HashSet::new();
            let readings = names.by_name.values().flatten();
            for (_, meaning) in readings.filter(|(at, _)| *at == language) {
                found.insert(format!("{meaning:?}"));
            }
            // Chinese, Japanese and Korean number their months.
            let numbered = ["ja", "ko", "mn", "yue"].contains(&names.languages[language]);
            let least = if numbered { 7 } else { 19 };
            assert!(found.len() >= least, "{} {found:?}", names.languages[language]);
        }
        assert!(names.languages.len() >= 70);
        let longest = names.by_name.keys().map(|name| name.split(' ').count()).max();
        assert_eq!(longest, Some(WORDS_MAX));
    }
}
