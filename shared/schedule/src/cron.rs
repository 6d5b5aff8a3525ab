//! `cron(minutes hours day-of-month month day-of-week year)`: AWS's grammar, read into sets and searched by month.
//!
//! The search works on local time in whole numbers: year, month, the days of that month as 31 bits, then hour and
//! minute. A year has twelve steps, so an expression that never fires is known after 2,760 of them.
//! No crate has this grammar: croner, the nearest, has no `FRI-MON`, no `L-3` and moves times out of a gap.

use std::ops::RangeInclusive;

use jiff::civil::{DateTime, date, time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::error::{Field, Piece, ScheduleError, nearest};
use super::grammar::YEARS;
use super::undecided;
use super::{FieldDays, Fields};

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
pub(super) const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const SATURDAY: i16 = 7;

/// What a field may hold, and the words for saying so.
struct FieldGrammar {
    field: Field,
    values: RangeInclusive<i16>,
    one: &'static str,
    rule: &'static str,
    names: &'static [&'static str],
    wraps: bool,
}

const MINUTES: FieldGrammar = FieldGrammar {
    field: Field::Minutes,
    values: 0..=59,
    one: "a minute",
    rule: "minutes are 0-59",
    names: &[],
    wraps: true,
};
const HOURS: FieldGrammar = FieldGrammar {
    field: Field::Hours,
    values: 0..=23,
    one: "an hour",
    rule: "hours are 0-23",
    names: &[],
    wraps: true,
};
const DAYS_OF_MONTH: FieldGrammar = FieldGrammar {
    field: Field::DayOfMonth,
    values: 1..=31,
    one: "a day of the month",
    rule: "days are 1-31, `L`, `L-3`, `15W` or `LW`",
    names: &[],
    wraps: true,
};
const MONTHS_OF_YEAR: FieldGrammar = FieldGrammar {
    field: Field::Month,
    values: 1..=12,
    one: "a month",
    rule: "months are 1-12 or JAN-DEC",
    names: &MONTHS,
    wraps: true,
};
const DAYS_OF_WEEK: FieldGrammar = FieldGrammar {
    field: Field::DayOfWeek,
    values: 1..=SATURDAY,
    one: "a day of the week",
    rule: "days are 1-7 or SUN-SAT with 1 = SUN, `6L` or `6#3`",
    names: &WEEKDAYS,
    wraps: true,
};
/// The one field whose ranges do not wrap: after 2199 there is no 1970.
const YEARS_OF_CRON: FieldGrammar = FieldGrammar {
    field: Field::Year,
    values: YEARS,
    one: "a year",
    rule: "years are 1970-2199",
    names: &[],
    wraps: false,
};

/// A cron expression, ready to be searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: Set,
    hours: Set,
    days: Days,
    months: Set,
    years: Set,
}

impl Cron {
    /// Reads what stands between the brackets.
    pub(super) fn parse(inside: Piece<'_>) -> Result<Self, ScheduleError> {
        let words: Vec<Piece<'_>> = inside.words().collect();
        let Ok(fields) = <[Piece<'_>; 6]>::try_from(words.as_slice()) else {
            return Err(wrong_number_of_fields(inside, words.len()));
        };
        let [minutes, hours, day_of_month, month, day_of_week, year] = fields;
        // Fields first and the rule about both day fields last, so that a typing slip is reported as what it is.
        let minutes = Set::parse(minutes, &MINUTES)?;
        let hours = Set::parse(hours, &HOURS)?;
        let by_month =
            if day_of_month.text == "?" { None } else { Some(DaysOfMonth::parse(day_of_month)?) };
        let months = Set::parse(month, &MONTHS_OF_YEAR)?;
        let by_week =
            if day_of_week.text == "?" { None } else { Some(DaysOfWeek::parse(day_of_week)?) };
        let years = Set::parse(year, &YEARS_OF_CRON)?;
        let days = match (by_month, by_week) {
            (Some(days), None) => Days::OfMonth(days),
            (None, Some(days)) => Days::OfWeek(days),
            (Some(_), Some(_)) => return Err(both_day_fields(&fields)),
            (None, None) => {
                let problem = "`?` stands in both day fields: one of them has to say which days";
                let error = day_of_week.error(Field::DayOfWeek, problem);
                return Err(error.hinting(format!("for every day, `{}`", wrapped(&fields, 2, "*"))));
            }
        };
        Ok(Self { minutes, hours, days, months, years })
    }

    /// What the fields hold, as plain lists.
    pub(super) fn fields(&self) -> Fields {
        let list = |set: &Set| set.iter().collect();
        let days = match &self.days {
            Days::OfMonth(days) if days.is_plain() => FieldDays::OfMonth(list(&days.days)),
            Days::OfWeek(days) if days.is_plain() => FieldDays::OfWeek(list(&days.days)),
            Days::OfMonth(_) | Days::OfWeek(_) => FieldDays::ByCalendar,
        };
        let (minutes, hours) = (list(&self.minutes), list(&self.hours));
        Fields { minutes, hours, days, months: list(&self.months), years: list(&self.years) }
    }

    /// The first firing strictly after `instant`.
    pub(super) fn next_after(&self, instant: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let now = zone.to_datetime(instant);
        let mut from = next_minute(now.date().to_datetime(time(now.hour(), now.minute(), 0, 0)))?;
        // More than one turn only where clocks change: in a gap no local time exists, and inside the second pass of a
        // repeated hour the candidates lie in the first, before `instant`.
        loop {
            let local = self.next_local(from)?;
            match undecided::instant_of(local, zone) {
                Some(firing) if firing > instant => return Some(firing),
                _ => from = next_minute(local)?,
            }
        }
    }

    /// The first matching local time at or after `from`.
    fn next_local(&self, from: DateTime) -> Option<DateTime> {
        let mut year = self.years.at_or_after(from.year())?;
        let mut month = if year == from.year() { from.month().into() } else { 1 };
        loop {
            let Some(found) = self.months.at_or_after(month) else {
                year = self.years.at_or_after(year + 1)?;
                month = 1;
                continue;
            };
            let same_month = (year, found) == (from.year(), from.month().into());
            let mut days = self.days.in_month(year, found);
            if same_month {
                days &= u32::MAX << from.day();
            }
            while days != 0 {
                let day = days.trailing_zeros() as i8;
                days &= days - 1;
                let same_day = same_month && day == from.day();
                let earliest = if same_day { (from.hour(), from.minute()) } else { (0, 0) };
                if let Some((hour, minute)) = self.next_time(earliest) {
                    return Some(date(year, found as i8, day).at(hour as i8, minute as i8, 0, 0));
                }
            }
            month = found + 1;
        }
    }

    /// The first matching hour and minute at or after these, on the same day.
    fn next_time(&self, (hour, minute): (i8, i8)) -> Option<(i16, i16)> {
        let found = self.hours.at_or_after(hour.into())?;
        if found == i16::from(hour)
            && let Some(minute) = self.minutes.at_or_after(minute.into())
        {
            return Some((found, minute));
        }
        let later =
            if found == i16::from(hour) { self.hours.at_or_after(found + 1)? } else { found };
        Some((later, self.minutes.at_or_after(0)?))
    }
}

fn next_minute(local: DateTime) -> Option<DateTime> {
    local.checked_add(Span::new().minutes(1)).ok()
}

/// Which days fire: one of the two day fields says so, the other is `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Days {
    OfMonth(DaysOfMonth),
    OfWeek(DaysOfWeek),
}

impl Days {
    /// The days of one month, day `n` as bit `n`.
    fn in_month(&self, year: i16, month: i16) -> u32 {
        let first = date(year, month as i8, 1);
        let month = Month {
            length: first.days_in_month().into(),
            starts_on: first.weekday().to_sunday_one_offset().into(),
        };
        match self {
            Days::OfMonth(days) => days.in_month(month),
            Days::OfWeek(days) => days.in_month(month),
        }
    }
}

/// The two numbers that a month's calendar follows from.
#[derive(Clone, Copy)]
struct Month {
    length: i16,
    /// The weekday of the first, 1 = SUN.
    starts_on: i16,
}

impl Month {
    /// The weekday of a day, 1 = SUN.
    fn weekday(self, day: i16) -> i16 {
        (self.starts_on - 1 + day - 1) % 7 + 1
    }

    /// The Monday to Friday nearest to `day` that lies inside the month.
    fn nearest_weekday(self, day: i16) -> i16 {
        match self.weekday(day) {
            1 if day == self.length => day - 2,
            1 => day + 1,
            SATURDAY if day == 1 => day + 2,
            SATURDAY => day - 1,
            _ => day,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct DaysOfMonth {
    days: Set,
    /// `nW`.
    nearest: Set,
    /// `L` as 0, `L-n` as n.
    before_last: Set,
    /// `LW`.
    last_weekday: bool,
}

impl DaysOfMonth {
    fn parse(field: Piece<'_>) -> Result<Self, ScheduleError> {
        let grammar = &DAYS_OF_MONTH;
        let empty = Set::empty(grammar);
        let mut all = Self {
            days: empty,
            nearest: empty,
            before_last: Set { least: 0, ..empty },
            last_weekday: false,
        };
        let several = field.text.contains(',');
        for item in items(field, grammar) {
            let item = item?;
            let upper = upper(item.text);
            let special = upper.contains(['L', 'W']);
            if special && several && !undecided::LAST_AND_WEEKDAY_IN_LISTS {
                return Err(item.error(
                    grammar.field,
                    format!("{} stands in a list: it must stand alone", item.quoted()),
                ));
            }
            if upper == "LW" {
                all.last_weekday = true;
            } else if upper == "L" {
                all.before_last.insert(0);
            } else if upper.starts_with("L-") {
                let back = item.part(2..item.text.len());
                match number(back.text) {
                    Some(days @ 1..=30) => all.before_last.insert(days),
                    _ => {
                        let problem = format!(
                            "{} is not a day before the last: `L-1` to `L-30` are",
                            item.quoted()
                        );
                        return Err(back.error(grammar.field, problem));
                    }
                }
            } else if special && upper.ends_with('W') {
                all.nearest.insert(value(item.part(0..item.text.len() - 1), grammar)?);
            } else if special {
                let error = item.error(grammar.field, not_a_value(item, grammar));
                return Err(error.or_hint(|| {
                    let of_week = upper.strip_suffix('L')?;
                    Some(format!("`{of_week}L`, a last weekday, belongs in the day-of-week field"))
                }));
            } else {
                all.days.insert_item(item, grammar)?;
            }
        }
        Ok(all)
    }

    /// Whether the days are numbers alone.
    fn is_plain(&self) -> bool {
        let is_empty = |set: &Set| set.iter().next().is_none();
        is_empty(&self.nearest) && is_empty(&self.before_last) && !self.last_weekday
    }

    fn in_month(&self, month: Month) -> u32 {
        let bit = |day: i16| 1_u32 << day;
        let mut days = (self.days.low_bits() << 1) & (u32::MAX >> (31 - month.length));
        for day in self.nearest.iter() {
            if day <= month.length || undecided::MISSING_DAY_MOVES_TO_THE_LAST {
                days |= bit(month.nearest_weekday(day.min(month.length)));
            }
        }
        for back in self.before_last.iter().take_while(|back| *back < month.length) {
            days |= bit(month.length - back);
        }
        if self.last_weekday {
            days |= bit(month.nearest_weekday(month.length));
        }
        days
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct DaysOfWeek {
    days: Set,
    /// `nL`.
    last: Set,
    /// `d#k`: the weekday and its place in the month.
    nth: Option<(i16, i16)>,
}

impl DaysOfWeek {
    fn parse(field: Piece<'_>) -> Result<Self, ScheduleError> {
        let grammar = &DAYS_OF_WEEK;
        let mut all = Self { days: Set::empty(grammar), last: Set::empty(grammar), nth: None };
        let several = field.text.contains(',');
        for item in items(field, grammar) {
            let item = item?;
            let upper = upper(item.text);
            if let Some((day, place)) = item.split_once('#') {
                if several {
                    let problem = format!(
                        "{} stands in a list: `#` must stand alone in its field",
                        item.quoted()
                    );
                    return Err(item
                        .error(grammar.field, problem)
                        .hinting("for both, make two schedules"));
                }
                let day = value(day, grammar)?;
                let Some(place @ 1..=5) = number(place.text) else {
                    let problem =
                        format!("{} is not a place in the month: `#1` to `#5` are", place.quoted());
                    return Err(place.error(grammar.field, problem));
                };
                all.nth = Some((day, place));
            } else if upper == "L" {
                all.days.insert(SATURDAY);
            } else if upper.ends_with('L') {
                if several && !undecided::LAST_AND_WEEKDAY_IN_LISTS {
                    let problem =
                        format!("{} stands in a list: it must stand alone", item.quoted());
                    return Err(item.error(grammar.field, problem));
                }
                all.last.insert(value(item.part(0..item.text.len() - 1), grammar)?);
            } else if item.text.contains('/') && !undecided::STEPS_IN_DAY_OF_WEEK {
                let problem =
                    format!("{} has a step: AWS has none for days of the week", item.quoted());
                return Err(item
                    .error(grammar.field, problem)
                    .hinting("list the days, as in `MON,WED,FRI`"));
            } else {
                all.days.insert_item(item, grammar)?;
            }
        }
        Ok(all)
    }

    /// Whether the days are weekdays alone.
    fn is_plain(&self) -> bool {
        self.last.iter().next().is_none() && self.nth.is_none()
    }

    fn in_month(&self, month: Month) -> u32 {
        let mut days = 0;
        for day in 1..=month.length {
            let weekday = month.weekday(day);
            let fires = self.days.contains(weekday)
                || (day + 7 > month.length && self.last.contains(weekday))
                || self.nth == Some((weekday, (day - 1) / 7 + 1));
            days |= u32::from(fires) << day;
        }
        days
    }
}

/// Numbers of one field; the widest, year, has 230.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Set {
    least: i16,
    bits: [u64; 4],
}

impl Set {
    fn empty(grammar: &FieldGrammar) -> Self {
        Self { least: *grammar.values.start(), bits: [0; 4] }
    }

    fn parse(field: Piece<'_>, grammar: &FieldGrammar) -> Result<Self, ScheduleError> {
        let mut set = Self::empty(grammar);
        for item in items(field, grammar) {
            set.insert_item(item?, grammar)?;
        }
        Ok(set)
    }

    /// Reads one item of a list: `5`, `1-5`, `*`, and each of them with a step.
    fn insert_item(
        &mut self,
        item: Piece<'_>,
        grammar: &FieldGrammar,
    ) -> Result<(), ScheduleError> {
        let (base, step) = match item.split_once('/') {
            Some((base, step)) => (base, Some(step)),
            None => (item, None),
        };
        let (least, most) = (*grammar.values.start(), *grammar.values.end());
        let (from, to) = if base.text == "*" {
            (least, most)
        } else if let Some((from, to)) = base.split_once('-') {
            (value(from, grammar)?, value(to, grammar)?)
        } else {
            let from = value(base, grammar)?;
            (from, if step.is_some() { most } else { from })
        };
        let longest =
            if undecided::STEPS_BEYOND_THE_FIELD { i16::MAX } else { most.min(most - least + 1) };
        let step = match step.map(|step| (step, number(step.text))) {
            None => 1,
            Some((_, Some(number))) if (1..=longest).contains(&number) => number,
            Some((step, _)) => {
                let problem =
                    format!("{} is not a step: steps here are 1-{longest}", step.quoted());
                return Err(step.error(grammar.field, problem));
            }
        };
        if from > to && !grammar.wraps {
            let problem = format!(
                "{} runs backwards: {} and do not wrap around",
                base.quoted(),
                grammar.rule
            );
            return Err(base.error(grammar.field, problem).hinting(format!("`{to}-{from}`")));
        }
        // `20-2` goes past the end of the field and on from its start; the step counts on across the seam.
        let width = most - least + 1;
        let end = if from > to { to + width } else { to };
        let mut at = from;
        while at <= end {
            self.insert(if at > most { at - width } else { at });
            let Some(next) = at.checked_add(step) else { break };
            at = next;
        }
        Ok(())
    }

    fn insert(&mut self, value: i16) {
        let index = (value - self.least) as usize;
        self.bits[index / 64] |= 1 << (index % 64);
    }

    fn contains(&self, value: i16) -> bool {
        self.at_or_after(value) == Some(value)
    }

    fn at_or_after(&self, value: i16) -> Option<i16> {
        let index = usize::try_from(value.saturating_sub(self.least)).unwrap_or(0);
        let (first, skipped) = (index / 64, index % 64);
        for (word, bits) in self.bits.iter().enumerate().skip(first) {
            let bits = if word == first { bits & u64::MAX << skipped } else { *bits };
            if bits != 0 {
                return Some(self.least + (word * 64) as i16 + bits.trailing_zeros() as i16);
            }
        }
        None
    }

    fn iter(&self) -> impl Iterator<Item = i16> {
        let first = self.at_or_after(self.least);
        std::iter::successors(first, |value| self.at_or_after(value + 1))
    }

    fn low_bits(&self) -> u32 {
        self.bits[0] as u32
    }
}

/// The items of a comma-separated field, none of them empty.
fn items<'a>(
    field: Piece<'a>,
    grammar: &FieldGrammar,
) -> impl Iterator<Item = Result<Piece<'a>, ScheduleError>> {
    field.split(',').map(move |item| {
        if item.text == "?" {
            let only = match grammar.field {
                Field::DayOfMonth | Field::DayOfWeek => "`?` must stand alone in its field",
                _ => "`?` belongs to the two day fields only",
            };
            return Err(item
                .error(grammar.field, only)
                .or_hint(|| (item.text == field.text).then(|| "`*` means every".into())));
        }
        if item.text.is_empty() {
            let problem =
                format!("{} has an item missing beside a comma: {}", field.quoted(), grammar.rule);
            return Err(item.error(grammar.field, problem));
        }
        Ok(item)
    })
}

/// One number or name.
fn value(piece: Piece<'_>, grammar: &FieldGrammar) -> Result<i16, ScheduleError> {
    let named = grammar.names.iter().position(|name| *name == upper(piece.text));
    let found = match named {
        Some(index) => Some(*grammar.values.start() + index as i16),
        None => number(piece.text).filter(|number| grammar.values.contains(number)),
    };
    found.ok_or_else(|| {
        let error = piece.error(grammar.field, not_a_value(piece, grammar));
        error.or_hint(|| match (grammar.field, number(piece.text)) {
            (Field::DayOfWeek, Some(0)) => {
                Some("AWS counts from 1: Sunday is `1` or `SUN`".to_owned())
            }
            _ => {
                let start = piece.text.get(..3).unwrap_or(piece.text);
                nearest(start, grammar.names.iter().copied()).map(|name| format!("`{name}`?"))
            }
        })
    })
}

fn not_a_value(piece: Piece<'_>, grammar: &FieldGrammar) -> String {
    format!("{} is not {}: {}", piece.quoted(), grammar.one, grammar.rule)
}

/// Digits only: `parse` alone would also take `+5`.
fn number(text: &str) -> Option<i16> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn upper(text: &str) -> String {
    if undecided::LOWER_CASE_NAMES { text.to_ascii_uppercase() } else { text.to_owned() }
}

/// The expression with one field replaced.
fn wrapped(fields: &[Piece<'_>; 6], replaced: usize, by: &str) -> String {
    let words: Vec<&str> = fields
        .iter()
        .enumerate()
        .map(|(i, field)| if i == replaced { by } else { field.text })
        .collect();
    format!("cron({})", words.join(" "))
}

fn both_day_fields(fields: &[Piece<'_>; 6]) -> ScheduleError {
    let [_, _, day_of_month, _, day_of_week, _] = fields;
    let problem = format!(
        "day-of-month {} and day-of-week {} are both set: one of them must be `?`",
        day_of_month.quoted(),
        day_of_week.quoted()
    );
    let hint = match (day_of_month.text, day_of_week.text) {
        (_, "*") => format!("`{}`", wrapped(fields, 4, "?")),
        ("*", _) => format!("`{}`", wrapped(fields, 2, "?")),
        _ => "for both, make two schedules".to_owned(),
    };
    day_of_week.error(Field::DayOfWeek, problem).hinting(hint)
}

fn wrong_number_of_fields(inside: Piece<'_>, count: usize) -> ScheduleError {
    let s = if count == 1 { "" } else { "s" };
    let problem =
        format!("{count} field{s} instead of 6: minutes hours day-of-month month day-of-week year");
    inside.error(Field::Expression, problem)
}

#[cfg(test)]
mod tests {
    use jiff::civil::{Date, DateTime, Weekday};
    use jiff::tz::TimeZone;
    use jiff::{Timestamp, ToSpan};

    use super::{Cron, Days, undecided};

    impl Cron {
        /// The slow way to the next firing: each local day in turn, its minutes tried one by one, the calendar left to
        /// jiff. Looks as far as `expected`, or for four hundred days where none is expected.
        pub(in super::super) fn next_by_looking(
            &self,
            after: Timestamp,
            zone: &TimeZone,
            expected: Option<Timestamp>,
        ) -> Option<Timestamp> {
            let end = expected.unwrap_or(after + (400 * 24).hours());
            // A day before and a day after: a zone may skip or repeat a whole one.
            let mut day = zone.to_datetime(after).date().yesterday().unwrap();
            let last = zone.to_datetime(end).date().tomorrow().unwrap();
            while day <= last {
                if self.day_fires(day) {
                    let local = |hour: i16, minute: i16| -> DateTime {
                        day.at(hour as i8, minute as i8, 0, 0)
                    };
                    let times = self.hours.iter().flat_map(|hour| {
                        self.minutes.iter().map(move |minute| local(hour, minute))
                    });
                    let found = times
                        .filter_map(|local| undecided::instant_of(local, zone))
                        .find(|at| *at > after);
                    if found.is_some() {
                        return found;
                    }
                }
                day = day.tomorrow().unwrap();
            }
            None
        }

        fn day_fires(&self, day: Date) -> bool {
            let nearest = |wanted: Date| {
                let inside = |days: i32| {
                    wanted.checked_add(days.days()).ok().filter(|d| d.month() == wanted.month())
                };
                match wanted.weekday() {
                    Weekday::Saturday => inside(-1).or_else(|| inside(2)).unwrap(),
                    Weekday::Sunday => inside(1).or_else(|| inside(-2)).unwrap(),
                    _ => wanted,
                }
            };
            let number = |weekday: Weekday| i16::from(weekday.to_sunday_one_offset());
            let is_nth =
                |n: i8| day.nth_weekday_of_month(n, day.weekday()).is_ok_and(|found| found == day);
            let today = number(day.weekday());
            let last = day.last_of_month();
            self.years.contains(day.year())
                && self.months.contains(day.month().into())
                && match &self.days {
                    Days::OfMonth(days) => {
                        let all = |n: i16| Date::new(day.year(), day.month(), n as i8).ok();
                        days.days.contains(day.day().into())
                            || days
                                .before_last
                                .iter()
                                .any(|n| last.checked_sub(n.days()).is_ok_and(|found| found == day))
                            || days
                                .nearest
                                .iter()
                                .filter_map(all)
                                .any(|wanted| nearest(wanted) == day)
                            || (days.last_weekday && nearest(last) == day)
                    }
                    Days::OfWeek(days) => {
                        days.days.contains(today)
                            || (days.last.contains(today) && is_nth(-1))
                            || days.nth.is_some_and(|(weekday, place)| {
                                weekday == today && is_nth(place as i8)
                            })
                    }
                }
        }
    }
}
