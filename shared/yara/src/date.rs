//! Dates as authors of rules write them, in nine spellings and more, as a calendar day.
//!
//! They are days of 2000 to 2099 without a time, and the day comes before the month; `base::date` reads instants.

use jiff::civil::Date;

/// The first and last year that is believed: YARA is of 2007.
const YEARS: std::ops::RangeInclusive<i16> = 2000..=2099;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Reads a date. Of two numbers that can both be the day, the first is: `01.06.2014` and `01/06/2014` are of June.
/// After a four-digit year comes the month. Nothing is guessed from anything else.
pub fn read(text: &str) -> Option<Date> {
    let text = text.trim();
    // A time of day may follow: `2019-08-06T10:00:00`, `2019-08-06 10:00`.
    let day = text.split_once('T').filter(|(day, _)| day.len() >= 8).map_or(text, |(day, _)| day);
    let mut parts = day.split(['-', '/', '.', ',', ' ']).filter(|part| !part.is_empty());
    let (first, second, third) = (parts.next()?, parts.next(), parts.next());
    let (Some(second), Some(third)) = (second, third) else { return compact(first, second) };
    if parts.next().is_some_and(|rest| !rest.contains(':')) {
        return None;
    }
    if first.len() == 4 && is_number(first) {
        return valid(first.parse().ok()?, month(second)?, number(third)?);
    }
    let year = year(third)?;
    if !is_number(first) {
        return valid(year, month(first)?, number(second)?);
    }
    let (one, other) = (number(first)?, month(second));
    match other {
        Some(month) => valid(year, month, one),
        // `01/31/2023`: the second number can only be the day.
        None => valid(year, one, number(second)?),
    }
}

/// `20190806`, and nothing else of one part.
fn compact(text: &str, rest: Option<&str>) -> Option<Date> {
    if text.len() != 8 || !is_number(text) || rest.is_some_and(|rest| !rest.contains(':')) {
        return None;
    }
    valid(text.get(..4)?.parse().ok()?, number(text.get(4..6)?)?, number(text.get(6..)?)?)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A day or a month: one or two digits, perhaps as `3rd`.
fn number(text: &str) -> Option<i8> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    (digits.len() <= 2 && is_number(digits)).then(|| digits.parse().ok())?
}

fn month(text: &str) -> Option<i8> {
    if is_number(text) {
        return number(text).filter(|month| (1..=12).contains(month));
    }
    let head = text.get(..3)?.to_ascii_lowercase();
    let place = MONTHS.iter().position(|name| *name == head)?;
    i8::try_from(place + 1).ok()
}

/// A year of four digits, or of two in this century.
fn year(text: &str) -> Option<i16> {
    match (text.len(), is_number(text)) {
        (4, true) => text.parse().ok(),
        (2, true) => Some(2000 + text.parse::<i16>().ok()?),
        _ => None,
    }
}

fn valid(year: i16, month: i8, day: i8) -> Option<Date> {
    Date::new(year, month, day).ok().filter(|_| YEARS.contains(&year))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_spelling_and_guesses_nothing() {
        for (text, expected) in [
            ("2019-08-06", Some("2019-08-06")),
            ("2017/02/12", Some("2017-02-12")),
            ("2023.01.01", Some("2023-01-01")),
            ("14.07.15", Some("2015-07-14")),
            ("23.11.2015", Some("2015-11-23")),
            ("01.06.2014", Some("2014-06-01")),
            ("12/04/2014", Some("2014-04-12")),
            ("01/31/2023", Some("2023-01-31")),
            ("5/10/2015", Some("2015-10-05")),
            ("08-03-2018", Some("2018-03-08")),
            ("13-Apr-17", Some("2017-04-13")),
            ("9 Nov 2015", Some("2015-11-09")),
            ("November 9, 2015", Some("2015-11-09")),
            ("20190806", Some("2019-08-06")),
            ("2019-08-06T10:00:00Z", Some("2019-08-06")),
            ("2019-08-06 10:00", Some("2019-08-06")),
            ("31.02.2015", None),
            ("1894-01-01", None),
            ("2019", None),
            ("99/99/9999", None),
            ("soon", None),
            ("", None),
        ] {
            let date = read(text).map(|date| date.to_string());
            assert_eq!(date.as_deref(), expected, "`{text}`");
        }
    }
}
