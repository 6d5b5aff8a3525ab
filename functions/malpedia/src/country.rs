//! The ISO 3166 code of a country, by its code or its name in English, Portuguese, Spanish, French or German.
//!
//! `countries.tsv` has the names of Unicode's CLDR 46 and of Debian's iso-codes, in small letters, without marks too.

use std::collections::HashMap;
use std::sync::LazyLock;

const COUNTRIES: &str = include_str!("countries.tsv");

/// Longer texts name no country.
const LENGTH_MAX: usize = 80;

static BY_NAME: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    let lines = COUNTRIES.lines().filter_map(|line| line.split_once('\t'));
    lines.flat_map(|(code, names)| names.split('\t').map(move |name| (name, code))).collect()
});

/// The codes of the countries that a text names, in its order: of the whole of it, else of its parts (`China, Vietnam`). None
/// where one part is no country.
pub(crate) fn codes(text: &str) -> Option<Vec<String>> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    if let Some(code) = code(text) {
        return Some(vec![code]);
    }
    let parts = text.split([',', ';', '/', '|']).flat_map(|part| part.split(" and "));
    let codes: Option<Vec<String>> = parts.map(code).collect();
    codes.filter(|codes| codes.len() > 1)
}

/// Two letters are a code, also of one that ISO leaves to its users (`XX`); but `UK` is Great Britain's in all but name.
fn code(text: &str) -> Option<String> {
    let words =
        text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join(" ").to_lowercase();
    match BY_NAME.get(name.as_str()) {
        Some(code) => Some((*code).to_owned()),
        None => is_code(text.trim()).then(|| text.trim().to_ascii_uppercase()),
    }
}

/// Whether a text has the form of a code.
pub(crate) fn is_code(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&[&str]>) {
        let expected = expected.map(|codes| codes.iter().map(ToString::to_string).collect());
        assert_eq!(codes(text), expected, "{text}");
    }

    #[test]
    fn a_country_is_known_by_its_code_and_by_its_names() {
        for (text, code) in [
            ("IR", "IR"),
            ("ir", "IR"),
            ("IRN", "IR"),
            ("Iran", "IR"),
            ("Iran (Islamic Republic of)", "IR"),
            ("Iran, Islamic Republic of", "IR"),
            ("Irã", "IR"),
            ("Russia", "RU"),
            ("Russian Federation", "RU"),
            ("Rússia", "RU"),
            ("RUSSIA ", "RU"),
            ("UK", "GB"),
            ("Korea (Democratic People's Republic of)", "KP"),
            ("North Korea", "KP"),
            ("Coreia do Norte", "KP"),
            ("South Korea", "KR"),
            ("U.S.A.", "US"),
            ("Côte d’Ivoire", "CI"),
            ("Trinidad and Tobago", "TT"),
            ("Vietnam", "VN"),
            ("XX", "XX"),
        ] {
            check(text, Some(&[code]));
        }
        check("China, Vietnam", Some(&["CN", "VN"]));
        check("Irã/Síria", Some(&["IR", "SY"]));
        for other in ["", "Atlantis", "China, Atlantis", "Middle East", "7", "unknown"] {
            check(other, None);
        }
    }
}
