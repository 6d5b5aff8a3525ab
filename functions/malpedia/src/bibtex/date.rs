//! Dates of a bibliography, with as much of them as the entry says: a year is no first of January.
//!
//! `base::date` reads instants, which these are not.

use jiff::civil::Date;

/// How much of a date is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// The day.
    Day,
    /// The month.
    Month,
    /// The year.
    Year,
}

impl Precision {
    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
        }
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The month that BibTeX's macro of three letters stands for.
pub fn month_name(word: &str) -> Option<&'static str> {
    MONTHS.into_iter().find(|month| month[..3].eq_ignore_ascii_case(word))
}

/// Reads `2019-08-06`, `2019-08` or `2019`; of a range, its beginning. The date given is the first day that it can mean.
pub fn read(text: &str) -> Option<(Date, Precision)> {
    let text = text.split('/').next().unwrap_or_default().trim();
    let mut parts = text.split('-');
    let year = number(parts.next()?, 4)?;
    let (month, day) = (parts.next(), parts.next());
    if parts.next().is_some() {
        return None;
    }
    let precision = match (month, day) {
        (Some(_), Some(_)) => Precision::Day,
        (Some(_), None) => Precision::Month,
        (None, _) => Precision::Year,
    };
    let two = |part: Option<&str>| part.map_or(Some(1), |part| number(part, 2));
    build(year, two(month)?, two(day)?).map(|date| (date, precision))
}

/// Reads the `year` and `month` of older bibliographies; a month may be a name, a number, or end in `~day`.
pub fn read_parts(year: &str, month: Option<&str>) -> Option<(Date, Precision)> {
    let year = number(year.trim(), 4)?;
    let Some(month) = month.map(str::trim) else {
        return Some((build(year, 1, 1)?, Precision::Year));
    };
    let mut words = month.split(|letter: char| letter == '~' || letter.is_whitespace());
    let name = words.next().unwrap_or_default().trim_end_matches('.');
    let known = |full: &&str| {
        name.len() >= 3 && name.is_ascii() && full[..3].eq_ignore_ascii_case(&name[..3])
    };
    let number = |text: &str| text.parse::<i16>().ok();
    let month = match MONTHS.iter().position(known) {
        Some(place) => i16::try_from(place + 1).ok()?,
        None => number(name)?,
    };
    match words.find_map(number) {
        Some(day) => Some((build(year, month, day)?, Precision::Day)),
        None => Some((build(year, month, 1)?, Precision::Month)),
    }
}

fn number(text: &str, digits: usize) -> Option<i16> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn build(year: i16, month: i16, day: i16) -> Option<Date> {
    Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(read: Option<(Date, Precision)>, expected: Option<(&str, Precision)>) {
        let read = read.map(|(date, precision)| (date.to_string(), precision));
        assert_eq!(read, expected.map(|(date, precision)| (date.to_owned(), precision)));
    }

    #[test]
    fn as_much_is_known_as_is_said() {
        check(read("2019-08-06"), Some(("2019-08-06", Precision::Day)));
        check(read(" 2016-09 "), Some(("2016-09-01", Precision::Month)));
        check(read("2022"), Some(("2022-01-01", Precision::Year)));
        check(read("2020-03-01/2020-04-02"), Some(("2020-03-01", Precision::Day)));
        for nonsense in
            ["", "2019-13", "2019-02-30", "19-08-06", "soon", "2019-8-6", "2019-08-06-1"]
        {
            check(read(nonsense), None);
        }
    }

    #[test]
    fn older_entries_have_year_and_month() {
        check(read_parts("2019", None), Some(("2019-01-01", Precision::Year)));
        check(read_parts("2019", Some("January~1")), Some(("2019-01-01", Precision::Day)));
        check(read_parts("2019", Some("sept.")), Some(("2019-09-01", Precision::Month)));
        check(read_parts("2019", Some("11")), Some(("2019-11-01", Precision::Month)));
        check(read_parts("2019", Some("Smarch")), None);
        check(read_parts("2019", Some("June 31")), None);
    }
}
