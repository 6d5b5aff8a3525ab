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

/// What stands between the beginning and the end of a range.
const RANGE_MARKS: [char; 6] = ['-', '\u{2013}', '\u{2014}', '/', ',', '&'];

/// Words that do so too.
const RANGE_WORDS: [&str; 5] = ["and", "to", "until", "through", "bis"];

/// What stands between a day's number and its month in several languages and in TeX.
const LINKS: [&str; 20] = [
    "st",
    "nd",
    "rd",
    "th",
    "er",
    "o",
    "of",
    "the",
    "de",
    "del",
    "do",
    "di",
    "le",
    "el",
    "den",
    "der",
    "am",
    "on",
    "nobreakspace",
    "",
];

const WEEKDAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Longer texts are no dates.
const LENGTH_MAX: usize = 200;

/// The month that BibTeX's macro of three letters stands for.
pub fn month_name(word: &str) -> Option<&'static str> {
    MONTHS.into_iter().find(|month| month[..3].eq_ignore_ascii_case(word))
}

/// Reads `2019-08-06`, `2019-08` or `2019`, also where a time of day or a mark of doubt (`~`, `?`, `%`) follows.
///
/// Of a range it reads the beginning. Else the words that people write, such as `6 August 2019`. The date given is the first day that it can mean.
pub fn read(text: &str) -> Option<(Date, Precision)> {
    let text = text.trim();
    if text.len() > LENGTH_MAX {
        return None;
    }
    let begin = text.split('/').next().unwrap_or_default();
    let begin = begin.split("--").next().unwrap_or_default().split('\u{2013}').next()?.trim();
    let day = begin.split(['T', ' ']).next().unwrap_or_default();
    if let Some(dated) = iso(day.trim_end_matches(['~', '?', '%'])) {
        return Some(dated);
    }
    if !text.chars().any(char::is_alphabetic) {
        return None;
    }
    let year = year_of(text)?;
    let dated = read_month(year, text)?;
    Some(dated)
}

fn iso(text: &str) -> Option<(Date, Precision)> {
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

/// Reads the `year`, `month` and `day` of older bibliographies.
///
/// A month is a name or a number, with or without a day beside it (`9~December`, `May~3`); of a range (`5--7 January`, `jan/feb`), its beginning. Where the day is in doubt there is none.
pub fn read_parts(year: &str, month: Option<&str>, day: Option<&str>) -> Option<(Date, Precision)> {
    let year = year_of(year)?;
    let Some(month) = month.map(str::trim) else {
        return Some((build(year, 1, 1)?, Precision::Year));
    };
    match (
        read_month(year, month)?,
        day.filter(|day| day.len() <= LENGTH_MAX).and_then(|day| Part::of(day).only_day()),
    ) {
        ((first, Precision::Month), Some(day)) => {
            Some((build(year, first.month().into(), day)?, Precision::Day))
        }
        (dated, _) => Some(dated),
    }
}

/// The first number of four digits.
fn year_of(text: &str) -> Option<i16> {
    text.split(|letter: char| !letter.is_ascii_digit()).find_map(|digits| number(digits, 4))
}

fn read_month(year: i16, text: &str) -> Option<(Date, Precision)> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    let parts: Vec<Part> = text
        .split(RANGE_MARKS)
        .flat_map(Part::split_at_words)
        .filter(Part::says_something)
        .collect();
    let first = parts.first()?;
    let named = parts.iter().find_map(|part| part.month);
    let (month, day) = match (first.month, named) {
        // `May~3`, `9~December`.
        (Some(month), _) => (month, first.only_day()),
        // `5--7 January`: the day stands in the first part, its month in a later one.
        (None, Some(month)) => (month, first.only_day()),
        // `3rd quarter` is no March.
        (None, None) if first.strangers == 0 => (*first.numbers.first()?, None),
        (None, None) => return None,
    };
    match day {
        Some(day) => Some((build(year, month, day)?, Precision::Day)),
        None => Some((build(year, month, 1)?, Precision::Month)),
    }
}

/// What stands on one side of a range's mark.
#[derive(Default)]
struct Part {
    month: Option<i16>,
    /// Numbers of one or two digits.
    numbers: Vec<i16>,
    /// Words that say nothing here; beside a number they may say that it is no day.
    strangers: usize,
}

impl Part {
    fn split_at_words(text: &str) -> Vec<Self> {
        let mut parts = vec![Self::default()];
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let is_alike = |other: char| {
                if letter.is_ascii_digit() {
                    other.is_ascii_digit()
                } else {
                    letter.is_alphabetic() && (other.is_alphabetic() || is_mark(other))
                }
            };
            let length = rest[letter.len_utf8()..].find(|other| !is_alike(other));
            let (word, after) =
                rest.split_at(length.map_or(rest.len(), |length| letter.len_utf8() + length));
            rest = after;
            let Some(part) = parts.last_mut() else { break };
            if letter.is_ascii_digit() {
                part.numbers.extend(word.parse::<i16>().ok().filter(|_| word.len() <= 2));
            } else if RANGE_WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)) {
                parts.push(Self::default());
            } else if part.month.is_none() && letter.is_alphabetic() {
                part.month = month_of(word);
                let is_stranger = part.month.is_none() && !is_beside_a_day(word);
                part.strangers += usize::from(is_stranger);
            }
        }
        parts
    }

    fn of(text: &str) -> Self {
        Self::split_at_words(text.split(RANGE_MARKS).next().unwrap_or_default())
            .into_iter()
            .next()
            .unwrap_or_default()
    }

    fn says_something(&self) -> bool {
        self.month.is_some() || !self.numbers.is_empty()
    }

    fn only_day(&self) -> Option<i16> {
        match self.numbers[..] {
            [day] if self.strangers == 0 => Some(day),
            _ => None,
        }
    }
}

/// Whether a word may stand beside the number of a day: a weekday, or what links it to the month.
fn is_beside_a_day(word: &str) -> bool {
    let lower = word.to_lowercase();
    // Braces are off already: `5\textsuperscript{th}`.
    LINKS.contains(&lower.strip_prefix("textsuperscript").unwrap_or(&lower))
        || (lower.len() >= 3 && WEEKDAYS.iter().any(|weekday| weekday.starts_with(&lower)))
}

/// Marks above letters, which are letters of their own where a text is decomposed.
fn is_mark(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}')
}

/// The month of a name, or of its beginning from three letters on; in other languages than English, what `base::date` knows.
fn month_of(word: &str) -> Option<i16> {
    let is_beginning = |full: &&str| {
        word.len() >= 3
            && full.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
    };
    if let Some(place) = MONTHS.iter().position(is_beginning) {
        return i16::try_from(place + 1).ok();
    }
    // It reads whole dates only.
    let whole = base::date::parse(&format!("15 {word} 2000"), None)?;
    Some(whole.to_zoned(jiff::tz::TimeZone::UTC).month().into())
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
        for range in ["2020-03-01/2020-04-02", "2020-03-01/..", "2020-03-01--2020-04-02"] {
            check(read(range), Some(("2020-03-01", Precision::Day)));
        }
        check(read("2019-08-06T10:00:00Z"), Some(("2019-08-06", Precision::Day)));
        check(read("2019-08~"), Some(("2019-08-01", Precision::Month)));
        check(read("6 August 2019"), Some(("2019-08-06", Precision::Day)));
        check(read("August 6, 2019"), Some(("2019-08-06", Precision::Day)));
        check(read("Dec. 2019"), Some(("2019-12-01", Precision::Month)));
        for nonsense in [
            "",
            "2019-13",
            "2019-02-30",
            "19-08-06",
            "soon",
            "2019-8-6",
            "2019-08-06-1",
            "soon in 2019",
        ] {
            check(read(nonsense), None);
        }
    }

    #[test]
    fn older_entries_have_year_and_month() {
        let parts = |year: &str, month: Option<&str>| read_parts(year, month, None);
        check(parts("2019", None), Some(("2019-01-01", Precision::Year)));
        check(parts("2018/2019", None), Some(("2018-01-01", Precision::Year)));
        for (month, date) in [
            ("January~1", "2019-01-01"),
            ("9~December", "2019-12-09"),
            ("dec. 9", "2019-12-09"),
            ("9. Dezember", "2019-12-09"),
            ("5 January--7 December", "2019-01-05"),
            ("5--7 January", "2019-01-05"),
            ("5-7 jan", "2019-01-05"),
            ("January 5--7", "2019-01-05"),
            ("30 Jan -- 2 Feb", "2019-01-30"),
            ("28 February/1 March", "2019-02-28"),
            ("5th and 6th May", "2019-05-05"),
            ("May 5th, 2019", "2019-05-05"),
            ("5\u{2013}7 June", "2019-06-05"),
            ("3 de março", "2019-03-03"),
            ("Mon 5 August", "2019-08-05"),
            ("the 5\\textsuperscriptth of August", "2019-08-05"),
        ] {
            check(parts("2019", Some(month)), Some((date, Precision::Day)));
        }
        for (month, date) in [
            ("sept.", "2019-09-01"),
            ("11", "2019-11-01"),
            ("09", "2019-09-01"),
            ("10/11", "2019-10-01"),
            ("January--February", "2019-01-01"),
            ("jan/feb", "2019-01-01"),
            ("January -- 7 February", "2019-01-01"),
            ("Jan\u{2013}Feb", "2019-01-01"),
            ("5 6 January", "2019-01-01"),
            ("2nd week of May", "2019-05-01"),
            ("Nov.-Dec.", "2019-11-01"),
            ("December 2019", "2019-12-01"),
            ("dezembro", "2019-12-01"),
            ("août", "2019-08-01"),
            ("März", "2019-03-01"),
        ] {
            check(parts("2019", Some(month)), Some((date, Precision::Month)));
        }
        for nonsense in ["Smarch", "June 31", "13", "", "--", "3rd quarter", "Q3", "Spring"] {
            check(parts("2019", Some(nonsense)), None);
        }
        check(read_parts("2019", Some("May"), Some("3")), Some(("2019-05-03", Precision::Day)));
        check(read_parts("2019", Some("May~4"), Some("3")), Some(("2019-05-04", Precision::Day)));
        check(read_parts("2019", Some("May"), Some("3--5")), Some(("2019-05-03", Precision::Day)));
    }
}
