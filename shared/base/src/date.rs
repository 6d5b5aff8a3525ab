//! Instants as others write them, and none invented: what does not parse is `None`, never "now".
//!
//! W3CDTF and ISO 8601 of any precision, RFC 822 with all its decay, asctime, the 12-hour clock, the names that CLDR has in 72
//! languages, Chinese, Japanese and Korean forms, epoch seconds. A date without a zone is taken for UTC. [`relative()`] reads
//! what counts from now, in Portuguese.
//!
//! A date in doubt is no date: only whole known names are months, a weekday must be that of the date, and where several
//! readings are left there is none.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::Offset;

use self::names::{Meaning, Names, Reading};

mod names;
mod relative;

pub use self::relative::relative;

/// Longer texts are no dates.
const LENGTH_MAX: usize = 100;

/// An instant in RFC 3339, or a date and time of day without a zone, which is taken for UTC.
pub fn instant(text: &str) -> Option<Timestamp> {
    let civil = || Offset::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok();
    text.parse().ok().or_else(civil)
}

/// An instant as documents hold it: RFC 3339 in UTC, whole seconds, so that text order is time order.
pub fn seconds(instant: Timestamp) -> String {
    let at = Offset::UTC.to_datetime(instant);
    let (Ok(year), [month, day, hour, minute, second]) = (
        u16::try_from(at.year()),
        [at.month(), at.day(), at.hour(), at.minute(), at.second()].map(i8::unsigned_abs),
    ) else {
        return instant.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    };
    // Letter by letter, as a document has five of them and a format string is read anew for each.
    let mut text = String::with_capacity("2026-01-01T00:00:00Z".len());
    let mut put = |number: u8, after: &str| {
        text.push(char::from(b'0' + number / 10));
        text.push(char::from(b'0' + number % 10));
        text.push_str(after);
    };
    put((year / 100) as u8, "");
    put((year % 100) as u8, "-");
    put(month, "-");
    put(day, "T");
    put(hour, ":");
    put(minute, ":");
    put(second, "Z");
    text
}

/// An instant in any form that people write. The language of the text, a BCP 47 tag, settles which of several readings it is.
pub fn parse(text: &str, language: Option<&str>) -> Option<Timestamp> {
    let text = text.trim();
    if text.is_empty() || text.len() > LENGTH_MAX {
        return None;
    }
    let is_minus =
        |c: char| matches!(c, '\u{2212}' | '\u{2010}'..='\u{2015}' | '\u{fe63}' | '\u{ff0d}');
    let text =
        if text.is_ascii() { Cow::Borrowed(text) } else { text.replace(is_minus, "-").into() };
    rfc_822(text.as_bytes())
        .or_else(|| iso(&text))
        .or_else(|| loose(&text, language))
        .filter(|instant| !(-1..=0).contains(&instant.as_second()))
}

/// Where systems begin to count, which they show for a date that is unset: Unix, SQL Server (two), OLE, Windows files.
const ZEROS: [(i16, i8, i8); 5] =
    [(1970, 1, 1), (1900, 1, 1), (1753, 1, 1), (1899, 12, 30), (1601, 1, 1)];

/// Articles are younger; the years 0 and 1 are what several systems show for an unset date.
const YEAR_MIN: i32 = 1000;

fn at(date: Date, time: Time, offset_s: i32) -> Option<Timestamp> {
    if time == Time::midnight() && ZEROS.contains(&(date.year(), date.month(), date.day())) {
        return None;
    }
    let local = Offset::UTC.to_timestamp(DateTime::from_parts(date, time)).ok()?;
    local.checked_sub(jiff::SignedDuration::from_secs(i64::from(offset_s))).ok()
}

fn date(year: i32, month: u32, day: u32) -> Option<Date> {
    // A year 20023 is a typing error and not a date.
    if !(YEAR_MIN..=9999).contains(&year) {
        return None;
    }
    Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

fn time(hour: u32, minute: u32, second: u32, nanos: i32) -> Option<(Time, bool)> {
    // 24:00 is the next day's midnight, a leap second the second before.
    let next_day = hour == 24 && minute == 0 && second == 0;
    let hour = if next_day { 0 } else { hour };
    let second = if second == 60 { 59 } else { second };
    let small = |value: u32| i8::try_from(value).ok();
    Some((Time::new(small(hour)?, small(minute)?, small(second)?, nanos).ok()?, next_day))
}

/// `[Wed, ]16 Nov 2022 00:38:15 +0100|GMT`, the form of nearly all RSS dates, without a detour.
fn rfc_822(bytes: &[u8]) -> Option<Timestamp> {
    let (weekday, rest) = match bytes {
        [a, b, c, b',', b' ', rest @ ..] => (Some(english_weekday(&lower([*a, *b, *c]))?), rest),
        _ => (None, bytes),
    };
    let (day, rest) = match rest {
        [a, b, b' ', rest @ ..] => (digits(&[*a, *b])?, rest),
        [a, b' ', rest @ ..] => (digits(&[*a])?, rest),
        _ => return None,
    };
    let [a, b, c, b' ', y1, y2, y3, y4, b' ', h1, h2, b':', m1, m2, b':', s1, s2, b' ', zone @ ..] =
        rest
    else {
        return None;
    };
    let month = english_month(&lower([*a, *b, *c]))?;
    let date = date(i32::try_from(digits(&[*y1, *y2, *y3, *y4])?).ok()?, month, day)?;
    if weekday.is_some_and(|weekday| weekday != date.weekday()) {
        return None;
    }
    let (time, next_day) =
        time(digits(&[*h1, *h2])?, digits(&[*m1, *m2])?, digits(&[*s1, *s2])?, 0)?;
    let offset_s = match zone {
        b"GMT" | b"+0000" | b"UTC" | b"Z" | b"-0000" => 0,
        [b'+' | b'-', ..] => offset(std::str::from_utf8(zone).ok()?)?,
        _ => return None,
    };
    at(if next_day { date.tomorrow().ok()? } else { date }, time, offset_s)
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0_u32, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0'))
    })
}

fn lower(mut letters: [u8; 3]) -> [u8; 3] {
    letters.make_ascii_lowercase();
    letters
}

fn english_weekday(lower: &[u8; 3]) -> Option<Weekday> {
    Some(match lower {
        b"mon" => Weekday::Monday,
        b"tue" => Weekday::Tuesday,
        b"wed" => Weekday::Wednesday,
        b"thu" => Weekday::Thursday,
        b"fri" => Weekday::Friday,
        b"sat" => Weekday::Saturday,
        b"sun" => Weekday::Sunday,
        _ => return None,
    })
}

fn english_month(lower: &[u8; 3]) -> Option<u32> {
    Some(match lower {
        b"jan" => 1,
        b"feb" => 2,
        b"mar" => 3,
        b"apr" => 4,
        b"may" => 5,
        b"jun" => 6,
        b"jul" => 7,
        b"aug" => 8,
        b"sep" => 9,
        b"oct" => 10,
        b"nov" => 11,
        b"dec" => 12,
        _ => return None,
    })
}

/// `+0100`, `-05:30`, `+1`, `+09`.
fn offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = match rest.split_once(':') {
        Some((hours, minutes)) => (hours, minutes),
        None if rest.len() > 2 => rest.split_at_checked(rest.len() - 2)?,
        None => (rest, "0"),
    };
    let (hours, minutes) = (digits(hours.as_bytes())?, digits(minutes.as_bytes())?);
    if hours > 18 || minutes > 59 || rest.is_empty() {
        return None;
    }
    Some(sign * i32::try_from(hours * 3600 + minutes * 60).ok()?)
}

/// Everything that starts with a year: W3CDTF, ISO 8601 in its long, short, week and ordinal forms, SQL's blank for `T`.
fn iso(text: &str) -> Option<Timestamp> {
    if let Some(seconds) = epoch(text) {
        return Some(seconds);
    }
    let bytes = text.as_bytes();
    let year = i32::try_from(digits(bytes.get(..4)?)?).ok()?;
    let split = text.find(['T', 't', ' ', '_']).unwrap_or(text.len());
    let (day_part, clock) = (text.get(4..split)?, text.get(split + 1..).unwrap_or_default().trim());
    let day_part = day_part.trim_end_matches(['Z', 'z']);
    let date = match day_part.as_bytes() {
        [] => date(year, 1, 1)?,
        [b'-', m1, m2] => date(year, digits(&[*m1, *m2])?, 1)?,
        [b'-' | b'/', m1, m2, b'-' | b'/', d1, d2] => {
            date(year, digits(&[*m1, *m2])?, digits(&[*d1, *d2])?)?
        }
        [b'-' | b'/', m, b'-' | b'/', d1, d2] => date(year, digits(&[*m])?, digits(&[*d1, *d2])?)?,
        [b'-' | b'/', m1, m2, b'-' | b'/', d] => date(year, digits(&[*m1, *m2])?, digits(&[*d])?)?,
        [b'-' | b'/', m, b'-' | b'/', d] => date(year, digits(&[*m])?, digits(&[*d])?)?,
        [b'-', b'W' | b'w', w1, w2, rest @ ..] | [b'W' | b'w', w1, w2, rest @ ..] => {
            let day = match rest {
                [] => 1,
                [b'-', day] | [day] => digits(&[*day])?,
                _ => return None,
            };
            week(year, digits(&[*w1, *w2])?, day)?
        }
        [b'-', o1, o2, o3] | [o1, o2, o3] => ordinal(year, digits(&[*o1, *o2, *o3])?)?,
        [m1, m2, d1, d2] => date(year, digits(&[*m1, *m2])?, digits(&[*d1, *d2])?)?,
        _ => return None,
    };
    if clock.is_empty() {
        return at(date, Time::midnight(), 0);
    }
    let zone_at = clock.find(['+', '-', 'Z', 'z', ' ']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(zone_at);
    let zone = zone.trim();
    let offset_s = match zone {
        "" | "Z" | "z" => 0,
        _ => offset(zone).or_else(|| zone_name(&zone.to_ascii_lowercase()))?,
    };
    let (clock, nanos) = match clock.split_once(['.', ',']) {
        Some((clock, fraction)) => (clock, fraction_nanos(fraction)?),
        None => (clock, 0),
    };
    let mut parts = clock.split(':').map(|part| {
        Some(part)
            .filter(|part| (1..=2).contains(&part.len()))
            .and_then(|part| digits(part.as_bytes()))
    });
    let compact = clock.as_bytes();
    let (hour, minute, second) = match compact {
        [h1, h2, m1, m2] if !clock.contains(':') => (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?, 0),
        [h1, h2, m1, m2, s1, s2] if !clock.contains(':') => {
            (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?, digits(&[*s1, *s2])?)
        }
        _ => (parts.next()??, parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?),
    };
    let (time, next_day) = time(hour, minute, second, nanos)?;
    at(if next_day { date.tomorrow().ok()? } else { date }, time, offset_s)
}

fn fraction_nanos(fraction: &str) -> Option<i32> {
    let digits = digits(fraction.get(..fraction.len().min(9))?.as_bytes())?;
    i32::try_from(u64::from(digits) * 10_u64.pow(u32::try_from(9 - fraction.len().min(9)).ok()?))
        .ok()
}

/// Seconds (9 or 10 digits) or milliseconds (13) since 1970.
fn epoch(text: &str) -> Option<Timestamp> {
    if !matches!(text.len(), 9 | 10 | 13) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i64 = text.parse().ok()?;
    if text.len() == 13 {
        Timestamp::from_millisecond(number).ok()
    } else {
        Timestamp::from_second(number).ok()
    }
}

fn ordinal(year: i32, day: u32) -> Option<Date> {
    let date =
        date(year, 1, 1)?.checked_add(jiff::Span::new().try_days(i64::from(day) - 1).ok()?).ok()?;
    (day > 0 && i32::from(date.year()) == year).then_some(date)
}

fn week(year: i32, week: u32, day: u32) -> Option<Date> {
    let weekday = Weekday::from_monday_one_offset(i8::try_from(day).ok()?).ok()?;
    jiff::civil::ISOWeekDate::new(i16::try_from(year).ok()?, i8::try_from(week).ok()?, weekday)
        .ok()
        .map(jiff::civil::ISOWeekDate::date)
}

/// Whatever words and numbers there are, sorted by what they can only be.
fn loose(text: &str, language: Option<&str>) -> Option<Timestamp> {
    let lower: String = text
        .to_lowercase()
        .chars()
        // A dot above is what is left of a Turkish `İ`; an apostrophe (`d’abril`) is not always written.
        .filter(|c| !matches!(c, '\u{307}' | '\'' | '’' | 'ʼ' | 'ʻ' | '`' | '\u{ad}'))
        .collect();
    let tokens = tokens(&lower);
    let mut found = Found::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += match token.kind {
            TokenKind::Number => found.number(token, tokens.get(at + 1))?,
            TokenKind::Word => found.word(&tokens[at..]),
            TokenKind::Offset => {
                if found.hour.is_some() {
                    found.offset_s = Some(offset(token.text)?);
                    1
                } else {
                    // `2004-07-13`: the sign only parts the numbers.
                    found.number(&token.without_sign(), tokens.get(at + 1))?
                }
            }
        };
    }
    found.timestamp(language)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    /// Digits, with `:` if they are a time of day.
    Number,
    Word,
    /// Digits behind a sign.
    Offset,
}

#[derive(Debug, Clone, Copy)]
struct Token<'t> {
    kind: TokenKind,
    text: &'t str,
    /// What stands before and behind it.
    before: Option<char>,
    after: Option<char>,
}

impl Token<'_> {
    fn without_sign(mut self) -> Self {
        self.before = self.text.chars().next();
        self.text = &self.text[1..];
        self.kind = TokenKind::Number;
        self
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let digits = |from: usize| {
            let end = rest[from..].find(|c: char| !c.is_ascii_digit() && c != ':');
            end.map_or(rest.len(), |end| from + end)
        };
        let signed =
            matches!(first, '+' | '-') && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        let (kind, length) = if first.is_ascii_digit() {
            (TokenKind::Number, digits(0))
        } else if signed {
            (TokenKind::Offset, digits(1))
        } else if is_letter(first) {
            // `日` and its like belong to the number before them, whatever word follows.
            let is_mark = before.is_some_and(|c: char| c.is_ascii_digit()) && mark(first).is_some();
            let end = rest.find(|c: char| !is_letter(c)).unwrap_or(rest.len());
            (TokenKind::Word, if is_mark { first.len_utf8() } else { end })
        } else {
            before = Some(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (token, mut after) = rest.split_at(length);
        // Fractions of a second follow the clock at once.
        if kind == TokenKind::Number && token.contains(':') && after.starts_with(['.', ',']) {
            after = after[1..].trim_start_matches(|c: char| c.is_ascii_digit());
        }
        tokens.push(Token { kind, text: token, before, after: after.chars().next() });
        before = token.chars().next_back();
        rest = after;
    }
    tokens
}

/// A letter, or an accent that is written as a sign of its own.
fn is_letter(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '\u{300}'..='\u{36f}')
}

/// The parts of a date, as what stands behind a number in Chinese, Japanese and Korean names them.
#[derive(Debug, Clone, Copy)]
enum Mark {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

fn mark(sign: char) -> Option<Mark> {
    Some(match sign {
        '年' | '년' => Mark::Year,
        '月' | '월' => Mark::Month,
        '日' | '일' | '号' | '號' => Mark::Day,
        '時' | '时' | '點' | '点' | '시' => Mark::Hour,
        '分' | '분' => Mark::Minute,
        '秒' | '초' => Mark::Second,
        _ => return None,
    })
}

/// Known words of a date beyond this many make it no date.
const WORDS_MAX: usize = 8;

#[derive(Default)]
struct Found {
    numbers: [u32; 3],
    lengths: [usize; 3],
    /// What parts the second number from the first.
    between: Option<char>,
    count: usize,
    /// Numbers that say what they are.
    year: Option<u32>,
    month: Option<u32>,
    day: Option<u32>,
    /// What each known word may mean.
    words: Vec<&'static [Reading]>,
    hour: Option<(u32, u32, u32)>,
    afternoon: Option<bool>,
    offset_s: Option<i32>,
}

impl Found {
    /// Takes up a number; gives how many tokens that were.
    fn number(&mut self, token: &Token<'_>, next: Option<&Token<'_>>) -> Option<usize> {
        let text = token.text;
        if text.contains(':') {
            let mut parts = text.trim_end_matches(':').split(':').map(|part| {
                Some(part).filter(|part| part.len() <= 2).and_then(|part| digits(part.as_bytes()))
            });
            self.hour = Some((
                parts.next()??,
                parts.next().unwrap_or(Some(0))?,
                parts.next().unwrap_or(Some(0))?,
            ));
            return Some(1);
        }
        // Longer ones are no part of a date, and would not fit.
        let value = digits(text.get(..text.len().min(9))?.as_bytes())?;
        if let Some(mark) = token.after.and_then(mark) {
            let (hour, minute, second) = self.hour.unwrap_or_default();
            match mark {
                Mark::Year if text.len() == 4 => self.year = Some(value),
                // A year of an era.
                Mark::Year => return None,
                Mark::Month => self.month = Some(value),
                Mark::Day => self.day = Some(value),
                Mark::Hour => self.hour = Some((value, minute, second)),
                Mark::Minute => self.hour = Some((hour, value, second)),
                Mark::Second => self.hour = Some((hour, minute, value)),
            }
            return Some(2);
        }
        if self.hour.is_none() && next.is_some_and(|next| matches!(next.text, "am" | "pm")) {
            self.hour = Some((value, 0, 0));
            return Some(1);
        }
        // After the clock a zone may be written without a sign.
        if self.count == 3 {
            return self.hour.map(|_| 1);
        }
        if text.len() > 4 {
            return None;
        }
        if self.count == 1 {
            self.between = token.before;
        }
        (self.numbers[self.count], self.lengths[self.count]) = (value, text.len());
        self.count += 1;
        Some(1)
    }

    /// Takes up the longest name at the start of `tokens`, or a word that is none; gives how many tokens that were.
    fn word(&mut self, tokens: &[Token<'_>]) -> usize {
        let word = tokens[0].text;
        if let Some(afternoon) = half_of_day(word) {
            self.afternoon = Some(afternoon);
            return 1;
        }
        if let Some(offset_s) = zone_name(word).filter(|_| self.hour.is_some()) {
            self.offset_s.get_or_insert(offset_s);
            return 1;
        }
        for length in (1..=names::WORDS_MAX.min(tokens.len())).rev() {
            let parts: Vec<&str> = tokens[..length].iter().map(|token| token.text).collect();
            let readings = Names::get().readings(&parts.join(" "));
            if !readings.is_empty() {
                self.words.push(readings);
                return length;
            }
        }
        1
    }

    /// The only date that the words and numbers can mean; none if there are several, or none that its weekday fits.
    fn date(&self, language: Option<&str>) -> Option<Date> {
        if self.words.len() > WORDS_MAX {
            return None;
        }
        let names = Names::get();
        // The language of the text goes before English, and English before any other that has the same words.
        let own = language.and_then(|tag| names.language(tag));
        let rank = |at: usize| match at {
            _ if own == Some(at) => 2,
            _ if names.language("en") == Some(at) => 1,
            _ => 0,
        };
        let mut best = (0, 0);
        let mut found: Vec<Date> = Vec::new();
        // Those that know one of the words; without words it is no matter which.
        let mut languages: Vec<usize> =
            self.words.iter().flat_map(|word| word.iter().map(|(of, _)| *of)).collect();
        languages.sort_unstable();
        languages.dedup();
        if self.words.is_empty() {
            languages.push(usize::MAX);
        }
        for at in languages {
            let read = self.words.iter().filter(|word| word.iter().any(|(of, _)| *of == at));
            let place = (read.count(), rank(at));
            for month in self.months_in(at) {
                let dates = self.dates(month.or(self.month), language);
                if dates.is_empty() || place < best {
                    continue;
                }
                if place > best {
                    best = place;
                    found.clear();
                }
                found.extend(dates.into_iter().filter(|date| self.fits(at, month, *date)));
            }
        }
        found.sort_unstable();
        found.dedup();
        match found[..] {
            [date] => Some(date),
            _ => None,
        }
    }

    /// The months that the words may name in one language; `None` where they are weekdays, or nothing, and a number is the month.
    fn months_in(&self, language: usize) -> Vec<Option<u32>> {
        let (mut sure, mut possible) = (Vec::new(), Vec::new());
        for word in &self.words {
            let own = || word.iter().filter(|(of, _)| *of == language);
            let months = own().filter_map(|(_, meaning)| match meaning {
                Meaning::Month(month) => Some(*month),
                Meaning::Weekday(_) => None,
            });
            let may_be_a_day = own().any(|(_, meaning)| matches!(meaning, Meaning::Weekday(_)));
            if may_be_a_day { &mut possible } else { &mut sure }.extend(months);
        }
        sure.dedup();
        match (&sure[..], self.month) {
            ([], _) if possible.is_empty() => vec![None],
            // `mar 19 2024`, or `mar 19 11 2024`, where it is a weekday.
            ([], _) => possible.into_iter().map(Some).chain([None]).collect(),
            ([month], None) => vec![Some(*month)],
            _ => Vec::new(),
        }
    }

    /// Whether the words that are not the month are weekdays of this date, in the language or in English, or no names at all.
    fn fits(&self, language: usize, month: Option<u32>, date: Date) -> bool {
        let english = Names::get().language("en");
        self.words.iter().all(|word| {
            let in_language = |wanted: Option<usize>| {
                word.iter().filter(move |(of, _)| Some(*of) == wanted).map(|(_, meaning)| *meaning)
            };
            let means = |meaning: Meaning| match meaning {
                Meaning::Month(named) => Some(named) == month,
                Meaning::Weekday(day) => day == date.weekday(),
            };
            if in_language(Some(language)).next().is_some() {
                return in_language(Some(language)).any(means);
            }
            in_language(english).all(means)
        })
    }

    /// What the numbers can be, given the month or not.
    fn dates(&self, month: Option<u32>, language: Option<&str>) -> Vec<Date> {
        let year_of = |at: usize| match self.lengths[at] {
            4 => i32::try_from(self.numbers[at]).ok(),
            // RFC 822 has two digits; feeds began in 1997.
            2 => i32::try_from(self.numbers[at])
                .ok()
                .map(|year| if year < 90 { year + 2000 } else { year + 1900 }),
            _ => None,
        };
        let of = |year: Option<i32>, month: u32, day: u32| date(year?, month, day);
        let [first, second, third] = self.numbers;
        let marked_year = || self.year.and_then(|year| i32::try_from(year).ok());
        let found = match (month, self.count) {
            (Some(month), 0) => vec![of(marked_year(), month, self.day.unwrap_or(0))],
            (Some(month), 1) if self.year.is_some() => vec![of(marked_year(), month, first)],
            (Some(month), 1) => {
                vec![self.day.and_then(|day| of(year_of(0), month, day))]
            }
            (Some(month), 2) if self.lengths[0] == 4 => vec![of(year_of(0), month, second)],
            (Some(month), 2) => vec![of(year_of(1), month, first)],
            (None, 3) if self.lengths[0] == 4 => vec![of(year_of(0), second, third)],
            (None, 3) if self.lengths[2] == 4 => {
                let day_first = of(year_of(2), second, first);
                let month_first = of(year_of(2), first, second);
                // `16.11.2022` is day first, and so are other signs outside English, whose speakers do not agree.
                let is_english =
                    |tag: &str| tag.get(..2).is_some_and(|two| two.eq_ignore_ascii_case("en"));
                if self.between == Some('.') || language.is_some_and(|tag| !is_english(tag)) {
                    vec![day_first.or(month_first)]
                } else {
                    vec![day_first, month_first]
                }
            }
            // Of two digits in three places nobody can tell which are the year.
            _ => Vec::new(),
        };
        found.into_iter().flatten().collect()
    }

    fn timestamp(self, language: Option<&str>) -> Option<Timestamp> {
        let date = self.date(language)?;
        let (hour, minute, second) = self.hour.unwrap_or_default();
        let hour = match self.afternoon {
            Some(true) if hour < 12 => hour + 12,
            Some(false) if hour == 12 => 0,
            _ => hour,
        };
        let (time, next_day) = time(hour, minute, second, 0)?;
        let offset_s = self.offset_s.unwrap_or_default();
        at(if next_day { date.tomorrow().ok()? } else { date }, time, offset_s)
    }
}

/// Whether a word of the 12-hour clock means the afternoon.
fn half_of_day(word: &str) -> Option<bool> {
    Some(match word {
        "am" | "오전" | "上午" | "午前" => false,
        "pm" | "오후" | "下午" | "午後" => true,
        _ => return None,
    })
}

/// Hours from UTC of the names in use; one that is not here is no zone, and the date is then taken for UTC.
fn zone_name(lower: &str) -> Option<i32> {
    let quarters: i32 = match lower {
        "z" | "ut" | "utc" | "gmt" | "wet" => 0,
        "bst" | "cet" | "met" | "mez" | "west" | "ist.ie" => 4,
        "cest" | "mest" | "mesz" | "eet" | "sast" => 8,
        "msk" | "eest" => 12,
        "ist" => 22,
        "sgt" | "hkt" | "awst" => 32,
        "jst" | "kst" => 36,
        "aest" => 40,
        "aedt" => 44,
        "nzst" => 48,
        "nzdt" => 52,
        "adt" | "brt" => -12,
        "ast" | "at" | "edt" => -16,
        "est" | "et" | "cdt" => -20,
        "cst" | "ct" | "mdt" => -24,
        "mst" | "mt" | "pdt" => -28,
        "pst" | "pt" | "akdt" => -32,
        "akst" => -36,
        "hst" => -40,
        _ => return None,
    };
    Some(quarters * 900)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found =
            parse(text, None).map_or_else(|| "none".to_owned(), |timestamp| timestamp.to_string());
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn reads_rfc_822_and_its_decay() {
        check("Wed, 16 Nov 2022 00:38:15 +0100", "2022-11-15T23:38:15Z");
        check("16 Nov 2022 00:38:15 GMT", "2022-11-16T00:38:15Z");
        check("Thu, 01 Jan 04 19:48:21 GMT", "2004-01-01T19:48:21Z");
        check("Thurs, 1 January 2004 19:48 EST", "2004-01-02T00:48:00Z");
        check("Thu, 01 Jan 2004", "2004-01-01T00:00:00Z");
        check("Thu, Jan 01 2004 19:48:21 GMT", "2004-01-01T19:48:21Z");
        check("Thu Jan  1 19:48:21 2004", "2004-01-01T19:48:21Z");
        check("Thu Jan  1 19:48:21 PST 2004", "2004-01-02T03:48:21Z");
        check("Mon, 26 Jan 2004 16:31:00 GMT-05:00", "2004-01-26T21:31:00Z");
        check("Mon, 26 Jan 2004 16:31:00 Etc/GMT", "2004-01-26T16:31:00Z");
        check("31 Dec 2003 24:00:00 GMT", "2004-01-01T00:00:00Z");
    }

    #[test]
    fn reads_w3cdtf_and_iso_8601_of_any_precision() {
        check("2003", "2003-01-01T00:00:00Z");
        check("2003-12", "2003-12-01T00:00:00Z");
        check("2003-12-31T10:14:55.25-08:00", "2003-12-31T18:14:55.25Z");
        check("20031231", "2003-12-31T00:00:00Z");
        check("2003-335", "2003-12-01T00:00:00Z");
        check("2004-W53-6", "2005-01-01T00:00:00Z");
        check("2003-12-31 10:14:55", "2003-12-31T10:14:55Z");
        check("2003-12-31T10:14Z", "2003-12-31T10:14:00Z");
        check("20031231T101455Z", "2003-12-31T10:14:55Z");
        check("2003/12/31 10:14:55 EDT", "2003-12-31T14:14:55Z");
        check("1700000000", "2023-11-14T22:13:20Z");
    }

    #[test]
    fn reads_the_odd_forms_of_the_fixtures() {
        check("mer, 16 nov 2022 00:38:15 +0100", "2022-11-15T23:38:15Z");
        check("Sat, Dec 16 2023 02:02:33 PM", "2023-12-16T14:02:33Z");
        check("Fri, 2006/09/15 08:19:53 EDT", "2006-09-15T12:19:53Z");
        check("2004-július-13T9:15-05:00", "2004-07-13T14:15:00Z");
        check("Κυρ, 11 Ιούλ 2004 12:00:00 EST", "2004-07-11T17:00:00Z");
        check("2004년 05월 28일  01:31:15", "2004-05-28T01:31:15Z");
        check("2004-05-25 오후 11:23:17", "2004-05-25T23:23:17Z");
        check("3 août 2021 08:00", "2021-08-03T08:00:00Z");
        check("16.11.2022 07:30", "2022-11-16T07:30:00Z");
    }

    #[test]
    fn invents_nothing() {
        for text in [
            "",
            "0000-00-00",
            "0000-00-00 00:00:00",
            "yesterday",
            "2003-13-01",
            "31 Feb 2003 00:00:00 GMT",
            "12",
            "99999999999",
            "-",
            "::",
            "Z",
            "T",
        ] {
            check(text, "none");
        }
    }

    #[test]
    fn a_weekday_is_checked_against_the_date() {
        check("mar. 19 nov. 2024 08:26:00 +0100", "2024-11-19T07:26:00Z");
        check("mar. 20 nov. 2024 08:26:00 +0100", "none");
        check("lun, 19 nov 2024 08:26:00 +0100", "none");
        check("mar 19 2024", "2024-03-19T00:00:00Z");
        check("Mon, 19 Nov 2024 08:26:00 +0100", "none");
        check("Monday, 19 November 2024 08:26", "none");
        check("Mon, 19 novembre 2024", "none");
        check("Tue, 19 novembre 2024", "2024-11-19T00:00:00Z");
        check("周三, 4 12 2024", "2024-12-04T00:00:00Z");
        check("2024年12月4日 星期四", "none");
        check("Tue, 10/12/2024", "2024-12-10T00:00:00Z");
        check("Thu, 10/12/2024", "none");
        check("Sat, 10/12/2024", "2024-10-12T00:00:00Z");
    }

    #[test]
    fn only_whole_known_names_are_months() {
        for text in [
            "19 marzipan 2024",
            "19 novel 2024",
            "19 decade 2024",
            "19 janus 2024",
            "19 mayor 2024",
            "19 octopus 2024",
        ] {
            check(text, "none");
        }
        check("19 NOVEMBRO 2024", "2024-11-19T00:00:00Z");
        check("19 Kasım 2024 Salı", "2024-11-19T00:00:00Z");
        check("19 KASIM 2024", "2024-11-19T00:00:00Z");
        check("19 de MARÇO de 2024", "2024-03-19T00:00:00Z");
        check("19 d’abril del 2024", "2024-04-19T00:00:00Z");
        check("le 3 aout 2021 à 08:00", "2021-08-03T08:00:00Z");
    }

    #[test]
    fn of_several_readings_the_language_tells_or_none_is_left() {
        let date = |text, language| parse(text, language).map(|instant| instant.to_string());
        // Listopad is October in Croatia and November in Poland.
        assert_eq!(date("19 listopada 2024", None), None);
        assert_eq!(date("19 listopada 2024", Some("pl")).as_deref(), Some("2024-11-19T00:00:00Z"));
        assert_eq!(
            date("19 listopada 2024", Some("hr-HR")).as_deref(),
            Some("2024-10-19T00:00:00Z")
        );
        assert_eq!(
            date("wtorek, 19 listopada 2024", None).as_deref(),
            Some("2024-11-19T00:00:00Z")
        );
        assert_eq!(date("11/12/2022", None), None);
        assert_eq!(date("11/12/2022", Some("en-US")), None);
        assert_eq!(date("11/12/2022", Some("pt-BR")).as_deref(), Some("2022-12-11T00:00:00Z"));
        assert_eq!(date("11/16/2022", None).as_deref(), Some("2022-11-16T00:00:00Z"));
        assert_eq!(date("24/11/09", None), None);
    }

    #[test]
    fn every_dash_before_an_offset_is_a_minus() {
        for dash in ['\u{2212}', '\u{2010}', '\u{2013}', '\u{ff0d}', '-'] {
            check(&format!("Tue, 19 Nov 2024 08:26:00 {dash}0300"), "2024-11-19T11:26:00Z");
            check(&format!("2024-11-19T08:26:00{dash}03:00"), "2024-11-19T11:26:00Z");
            check(&format!("19 nov. 2024 08:26 {dash}03:00"), "2024-11-19T11:26:00Z");
        }
    }

    #[test]
    fn placeholders_are_no_dates() {
        for text in [
            "Mon, 01 Jan 0001 00:00:00 +0000",
            "0001-01-01T00:00:00Z",
            "0001-01-01T00:00:00+02:00",
            "Wed, 30 Nov -0001 00:00:00 +0000",
            "1970-01-01",
            "1970-01-01T00:00:00Z",
            "1970-01-01T00:00:00-05:00",
            "1970-01-01T01:00:00+01:00",
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Thu, 1 January 1970 00:00:00 GMT",
            "Wed, 31 Dec 1969 19:00:00 -0500",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "0000000000",
            "1899-12-30T00:00:00",
            "1900-01-01",
            "1601-01-01T00:00:00Z",
        ] {
            check(text, "none");
        }
        check("1970-01-01T12:00:00Z", "1970-01-01T12:00:00Z");
        check("1970-01-02", "1970-01-02T00:00:00Z");
    }

    #[test]
    fn an_instant_is_shown_as_its_format_says() {
        let format = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let step = 1_000_003 * 3_571;
        let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        for second in (first..=last).step_by(step).chain([-1, 0, 951_782_399, last]) {
            let at = Timestamp::new(second, if second < 0 { -1 } else { 999_999_999 });
            let at = at.or_else(|_| Timestamp::from_second(second)).unwrap();
            assert_eq!(seconds(at), format(at));
        }
    }

    /// Against ICU: no language's date is ever read as another day, and most are read.
    #[test]
    fn dates_of_all_languages_are_the_day_that_cldr_means_or_none() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/dates/cldr.tsv");
        let vectors = std::fs::read_to_string(path).unwrap();
        let mut read: std::collections::BTreeMap<(&str, &str), (u32, u32)> = Default::default();
        let mut wrong = Vec::new();
        for line in vectors.lines().filter(|line| !line.starts_with('#')) {
            let [language, style, day, text] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let expected = match style.starts_with("mail") {
                true => format!("{day}T07:26:00Z"),
                false => format!("{day}T00:00:00Z"),
            };
            for hint in [None, Some(language)] {
                let (all, right) = read.entry((language, style)).or_default();
                *all += 1;
                match parse(text, hint).map(|found| found.to_string()) {
                    Some(found) if found == expected => *right += 1,
                    Some(found) => wrong.push(format!("{line}: {found}")),
                    None => {}
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        for style in ["full", "long", "medium", "mail-short", "mail-long"] {
            let incomplete: Vec<_> = read
                .iter()
                .filter(|((_, of), (all, right))| *of == style && right < all)
                .map(|((language, _), (all, right))| format!("{language} {right}/{all}"))
                .collect();
            println!("{style}: incomplete {incomplete:?}");
            let whole =
                read.iter().filter(|((_, of), (all, right))| *of == style && right == all).count();
            assert!(whole >= 60, "{style}: {whole} languages; incomplete: {incomplete:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_date_or_none(text in "\\PC{0,30}", odd in "[-+0-9TZ:. WapmGjn/,]{0,24}") {
            let _ = (parse(&text, None), parse(&odd, Some("fr")), instant(&text), instant(&odd));
        }
    }
}
