//! Dates as the site writes them: in Portuguese, and where no zone is named in that of São Paulo.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use regex::Regex;

/// The site's zone, without summer time since 2019.
const ZONE: &str = "America/Sao_Paulo";

/// Letters of a text that a date is looked for in.
const WITHIN: usize = 2_000;

/// A date that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    pub at: Timestamp,
    /// It was said from now on (`há 2 horas`), so that it is said differently tomorrow.
    pub is_relative: bool,
}

fn zone() -> TimeZone {
    TimeZone::get(ZONE).unwrap_or_else(|_| TimeZone::fixed(Offset::constant(-3)))
}

static ZONED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)[0-9](\s*(z|utc|gmt|[a-z]{3})|\s*[+-][0-9]{2}:?[0-9]{2})$")
        .expect("it compiles")
});

/// What can be a date within a longer text; the first group is the date.
static DATES: LazyLock<[Regex; 3]> = LazyLock::new(|| {
    let of = |expression: &str| Regex::new(expression).expect("it compiles");
    [
        of(
            r"(?:^|[^0-9])((?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?)(?:[^0-9]|$)",
        ),
        of(
            r"(?:^|[^0-9/])([0-9]{1,2}/[0-9]{1,2}/(?:19|20)[0-9]{2}(?:,? (?:às )?[0-9]{1,2}[h:][0-9]{2})?)(?:[^0-9]|$)",
        ),
        of(
            r"(?i)(?:^|[^0-9])([0-9]{1,2}[º°]?(?: de)? \p{L}{3,9}\.?(?: de|,)? (?:19|20)[0-9]{2}(?:,? (?:às )?[0-9]{1,2}[h:][0-9]{2})?)(?:[^0-9]|$)",
        ),
    ]
});

/// Reads a text that is a date and nothing else.
pub(crate) fn read(text: &str, now: Timestamp) -> Option<When> {
    let text = text.trim();
    if let Some(at) = base::date::relative(text, now, &zone()) {
        return Some(When { at, is_relative: true });
    }
    // Portuguese writes `14h30` and `1º de maio`.
    let plain: String = text.replace(['º', '°'], "").replace(" às ", " ");
    let plain = CLOCK.replace(&plain, "$1:$2");
    let at = base::date::parse(&plain, Some("pt"))?;
    let at = if ZONED.is_match(&plain) { at } else { local(at)? };
    Some(When { at, is_relative: false })
}

static CLOCK: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("([0-9]{1,2})h([0-9]{2})").expect("it compiles"));

/// The instant at which clocks in São Paulo show what UTC shows at this one.
fn local(utc: Timestamp) -> Option<Timestamp> {
    let shown: DateTime = Offset::UTC.to_datetime(utc);
    Some(shown.to_zoned(zone()).ok()?.timestamp())
}

/// The first whole date within a text. What is said from now on counts only where the text is nothing else: `ontem` is a word of
/// many summaries.
pub(crate) fn find(text: &str, now: Timestamp) -> Option<When> {
    let text = text.trim();
    if let Some(when) = read(text, now) {
        return Some(when);
    }
    let within = &text[..text.floor_char_boundary(WITHIN)];
    DATES.iter().find_map(|form| read(form.captures(within)?.get(1)?.as_str(), now))
}

/// An instant of an interface that gives UTC without saying so.
pub(crate) fn utc(text: &str) -> Option<Timestamp> {
    base::date::instant(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_sao_paulo() {
        let now: Timestamp = "2025-03-13T15:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2025-03-12", Some("2025-03-12T03:00:00Z")),
            ("📅 2025-03-12 · Redação", Some("2025-03-12T03:00:00Z")),
            ("12/03/2025", Some("2025-03-12T03:00:00Z")),
            ("Publicado em 12/03/2025 às 14h30", Some("2025-03-12T17:30:00Z")),
            ("12 de março de 2025", Some("2025-03-12T03:00:00Z")),
            ("por Fulano em 1º de maio de 2024", Some("2024-05-01T03:00:00Z")),
            ("3 fev 2019", Some("2019-02-03T02:00:00Z")),
            ("2025-03-12T14:30:00-03:00", Some("2025-03-12T17:30:00Z")),
            ("2025-03-12T14:30:00Z", Some("2025-03-12T14:30:00Z")),
            ("Wed, 12 Mar 2025 14:30:00 GMT", Some("2025-03-12T14:30:00Z")),
            ("2025-03-12T14:30:00", Some("2025-03-12T17:30:00Z")),
            ("há 2 horas", Some("2025-03-13T13:00:00Z")),
            ("Ontem", Some("2025-03-12T03:00:00Z")),
            ("O ataque de ontem", None),
            ("CVE-2025-03012 e 10.12.2025.1", None),
            ("", None),
        ] {
            let found = find(text, now).map(|when| when.at.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        assert!(find("há 2 horas", now).unwrap().is_relative);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,300}") {
            let _ = find(&text, Timestamp::UNIX_EPOCH);
        }
    }
}
