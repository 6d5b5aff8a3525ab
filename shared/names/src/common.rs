//! Names that are words, phrases or abbreviations of their own, and phrases in which nothing counts.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// What a name takes to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needs {
    /// Nothing: it is no word.
    #[default]
    Nothing,
    /// Capitalised, and something in the text speaks of malware.
    Within,
    /// Capitalised, and a word for malware or actors stands beside it.
    Beside,
    /// The text says that it is a name.
    Named,
}

/// A name of the list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Common {
    pub(crate) needs: Needs,
    /// It is a place, a person or a company: an attack on it is not one by it.
    pub(crate) is_somebody: bool,
}

/// Letters of an abbreviation, which needs its exact capitals and context.
pub(crate) const SHORT: usize = 3;

/// A name as it is looked up: its letters and digits in lower case.
pub(crate) fn key(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn rows(file: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    file.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

static COMMON: LazyLock<HashMap<String, Common>> = LazyLock::new(|| {
    let read = |row: Vec<&str>| {
        let needs = match row[1] {
            "within" => Needs::Within,
            "beside" => Needs::Beside,
            _ => Needs::Named,
        };
        let is_somebody = row[2].starts_with("a place")
            || row[2].contains("person")
            || row[2].contains("company");
        (key(row[0]), Common { needs, is_somebody })
    };
    rows(include_str!("../data/common.tsv")).map(read).collect()
});

static PHRASES: LazyLock<HashSet<String>> =
    LazyLock::new(|| rows(include_str!("../data/phrases.tsv")).map(|row| key(row[0])).collect());

/// What is known of a name by its key.
pub(crate) fn common(key: &str) -> Common {
    let short = || {
        let is_short = key.chars().count() <= SHORT;
        Common { needs: if is_short { Needs::Beside } else { Needs::Nothing }, is_somebody: false }
    };
    COMMON.get(key).copied().unwrap_or_else(short)
}

/// Whether a run of words is a phrase in which nothing counts.
pub(crate) fn is_phrase(key: &str) -> bool {
    PHRASES.contains(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_a_need_and_a_reason() {
        for row in rows(include_str!("../data/common.tsv")) {
            assert!(row.len() == 3 && matches!(row[1], "within" | "beside" | "named"), "{row:?}");
            assert!(!key(row[0]).is_empty() && row[2].len() > 4, "{row:?}");
        }
        for row in rows(include_str!("../data/phrases.tsv")) {
            assert!(row.len() == 2 && row[0].contains(' ') && !row[1].is_empty(), "{row:?}");
        }
    }
}
