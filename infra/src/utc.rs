//! A row of the timetable as expressions of rules, which know UTC alone: shifted by its fields, proven by its firings.
//!
//! The shift is a guess from the fields: the time of day moves by the zone's offset, and with it the day where it crosses
//! midnight. Nothing is believed of it: what is given back fired at the same instants as the row, and what does not is
//! refused with the first instant that differs. `L`, `W` and `#` have no neighbour that a rule can name, and a zone whose
//! clocks change has no shift: such rows are Scheduler's.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::successors;

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use schedule::{Api, FieldDays, Fields, Schedule};

/// From when on a rule must fire as its row does: a constant, so that equal timetables give equal bytes.
pub const FROM: Timestamp = Timestamp::constant(1_767_225_600, 0); // 2026-01-01T00:00:00Z

/// How many firings in a row are compared from there.
pub const FIRINGS: usize = 1_000;

/// Beyond it nothing is compared: the grammar's years end at 2199, at home and in UTC at another midnight.
pub const END: Timestamp = Timestamp::constant(6_942_585_600, 0); // 2190-01-01T00:00:00Z

/// How far ahead months and changes of clocks are looked at: weekdays and leap years come round in 28 years.
const YEARS: i64 = 30;

/// Days of which each midnight is looked at, local and UTC.
const MIDNIGHTS: i64 = 366;

/// Rules that one row may need.
pub const RULES_MAX: usize = 5;

/// Changes of clocks after which firings are walked through: the next four years, of a zone that changes twice a year.
const CHANGES: usize = 8;

/// Firings that are walked through there: more than a day of a row that fires each minute.
const DAY_FIRINGS: usize = 1_500;

/// Firings that are walked through in search of the first that differs.
const WALK_MAX: usize = 200_000;

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 86_400;
const DAY_MINUTES: i32 = 1_440;

/// Why a row has no rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The first instant at which the nearest rule fires and the row does not, or the other way round; none for a row that
    /// no rule is near to.
    pub differs_at: Option<Timestamp>,
    pub why: String,
}

/// The expressions of the rules that together fire when `when` does in `zone`.
///
/// # Errors
/// Where no such rules are found.
pub fn rules(when: &Schedule, zone: &TimeZone) -> Result<Vec<String>, Refused> {
    let refused = |why: &str| Refused { differs_at: None, why: why.to_owned() };
    let Some(first) = when.next_after(before(FROM), zone) else {
        return Err(refused("it never fires again"));
    };
    let Some(fields) = when.fields() else {
        let of_rate = when.period_s().and_then(of_rate).ok_or_else(|| {
            refused("a rule's rate counts from when the rule is made, and no cron has this period")
        })?;
        return proven(when, zone, &[vec![of_rate]], "its period is no part of a day");
    };
    let words: Vec<&str> = inside(when.text()).split_ascii_whitespace().collect();
    let own = DayPart::of(&words);
    let offset = zone.to_offset(first);
    let times = shifted_times(&fields, offset);
    let unmoved = |_| Some(vec![own.clone()]);
    let moved = |days: i32| match days {
        0 => Some(vec![own.clone()]),
        _ => moved_days(&fields, days),
    };
    let candidates: Vec<Vec<String>> =
        [Some(vec![when.text().to_owned()]), written(&times, moved), written(&times, unmoved)]
            .into_iter()
            .flatten()
            .collect();
    let crosses = times.keys().any(|days| *days != 0);
    let why = match fields.days {
        FieldDays::ByCalendar if crosses => {
            "it fires on another day in UTC, and `L`, `W` and `#` name no neighbouring day"
        }
        FieldDays::OfWeek(_) if crosses && has_one_offset(zone, first) => {
            "it fires on another day in UTC, and weekdays of some months or years have no neighbours that a rule can name"
        }
        _ if !has_one_offset(zone, first) => "the zone's clocks change, and a rule knows UTC alone",
        _ => "no few rules fire when it does",
    };
    proven(when, zone, &candidates, why)
}

/// Whether the zone keeps the offset that it has at `first`.
fn has_one_offset(zone: &TimeZone, first: Timestamp) -> bool {
    let offset = zone.to_offset(first);
    zone.following(first)
        .take_while(|change| {
            change.timestamp() < first + SignedDuration::from_hours(24 * 365 * YEARS)
        })
        .all(|change| change.offset() == offset)
}

/// The first of the candidates that fires when the row does.
fn proven(
    when: &Schedule,
    zone: &TimeZone,
    candidates: &[Vec<String>],
    why: &str,
) -> Result<Vec<String>, Refused> {
    let probes = probes(when, zone);
    let (mut nearest, mut own) = (None, None);
    for (n, texts) in candidates.iter().enumerate().filter(|(_, texts)| texts.len() <= RULES_MAX) {
        let parsed: Result<Vec<Schedule>, _> =
            texts.iter().map(|text| Schedule::parse(text, Api::Rule)).collect();
        // A list that outgrows what an expression may hold is one of the reasons to refuse.
        let Ok(parsed) = parsed else { continue };
        match first_difference(when, zone, &parsed, &probes) {
            None => return Ok(texts.clone()),
            // The row's own text, read in UTC, is near to it where nothing else is.
            differs if n == 0 => own = differs,
            differs => nearest = nearest.max(differs),
        }
    }
    Err(Refused { differs_at: nearest.or(own), why: why.to_owned() })
}

fn before(instant: Timestamp) -> Timestamp {
    instant - SignedDuration::from_secs(1)
}

/// The first firing of several rules after an instant.
pub fn next_of(rules: &[Schedule], after: Timestamp) -> Option<Timestamp> {
    rules.iter().filter_map(|rule| rule.next_after(after, &TimeZone::UTC)).min()
}

/// The first instant at which either fires without the other.
fn first_difference(
    when: &Schedule,
    zone: &TimeZone,
    rules: &[Schedule],
    probes: &BTreeSet<Timestamp>,
) -> Option<Timestamp> {
    if let Err(differs) = walk(when, zone, rules, before(FROM), FIRINGS) {
        return Some(differs);
    }
    let mut equal = before(FROM);
    for probe in probes {
        if walk(when, zone, rules, *probe, 2).is_err() {
            return walk(when, zone, rules, equal, WALK_MAX)
                .and_then(|()| walk(when, zone, rules, *probe, 2))
                .err();
        }
        equal = *probe;
    }
    // Under each offset more than a day of the densest row: hours that differ there differ on its first days.
    let changes = zone.following(FROM).take(CHANGES);
    changes
        .map(|change| before(change.timestamp()))
        .find_map(|change| walk(when, zone, rules, change, DAY_FIRINGS).err())
}

/// Compares so many firings in a row; an error is the first instant that differs.
fn walk(
    when: &Schedule,
    zone: &TimeZone,
    rules: &[Schedule],
    from: Timestamp,
    count: usize,
) -> Result<(), Timestamp> {
    let mut after = from;
    for _ in 0..count {
        let coming = |at: &Timestamp| *at < END;
        let local = when.next_after(after, zone).filter(coming);
        let rule = next_of(rules, after).filter(coming);
        match (local, rule) {
            (None, None) => break,
            (Some(local), Some(rule)) if local == rule => after = local,
            (local, rule) => return Err(local.into_iter().chain(rule).min().unwrap_or(after)),
        }
    }
    Ok(())
}

/// Instants from which both are looked at: where a day, a month, a year or an offset begins, and the hours of some days.
fn probes(when: &Schedule, zone: &TimeZone) -> BTreeSet<Timestamp> {
    let Some(first) = when.next_after(before(FROM), zone) else { return BTreeSet::new() };
    let mut seconds: Vec<i64> = Vec::new();
    let around = |second: i64, hours: &[i64], seconds: &mut Vec<i64>| {
        seconds.extend(hours.iter().map(|hour| second + hour * HOUR_S - 1));
    };
    let offset = i64::from(zone.to_offset(first).seconds());
    let day = first.as_second().div_euclid(DAY_S) * DAY_S;
    for n in -1..MIDNIGHTS {
        let midnight = day + n * DAY_S;
        seconds.extend([midnight - 1, midnight - offset - 1]);
    }
    let start = first.to_zoned(TimeZone::UTC).date().first_of_month();
    let months =
        successors(Some(start), |month| month.checked_add(jiff::Span::new().months(1)).ok());
    for month in months.take(YEARS as usize * 12) {
        if let Ok(begin) = month.to_zoned(TimeZone::UTC) {
            around(begin.timestamp().as_second(), &[-48, -24, -12, 0, 12, 24], &mut seconds);
        }
    }
    let end = first.as_second() + YEARS * 365 * DAY_S;
    for change in zone.following(FROM).take_while(|change| change.timestamp().as_second() < end) {
        around(change.timestamp().as_second(), &[-24, -2, -1, 0, 1, 2], &mut seconds);
    }
    let mut firing = Some(first);
    for _ in 0..3 {
        let Some(instant) = firing else { break };
        let day = instant.as_second().div_euclid(HOUR_S) * HOUR_S;
        (-1..=25).for_each(|hour| seconds.push(day + hour * HOUR_S - 1));
        firing = when.next_after(instant + SignedDuration::from_hours(24), zone);
    }
    seconds.into_iter().filter_map(|second| Timestamp::from_second(second).ok()).collect()
}

/// What stands between the brackets.
fn inside(text: &str) -> &str {
    text.split_once('(').map_or("", |(_, rest)| rest.trim_end_matches(')'))
}

/// A rate that counts from 1970, as the runner's does, as the cron that fires then; none where its period is no part of an
/// hour or a day.
fn of_rate(period_s: u64) -> Option<String> {
    let minutes = period_s / 60;
    match minutes {
        1 => Some("cron(* * * * ? *)".to_owned()),
        2..60 if 60_u64.is_multiple_of(minutes) => Some(format!("cron(0/{minutes} * * * ? *)")),
        60 => Some("cron(0 * * * ? *)".to_owned()),
        61..1_440 if minutes.is_multiple_of(60) && 1_440_u64.is_multiple_of(minutes) => {
            Some(format!("cron(0 0/{} * * ? *)", minutes / 60))
        }
        1_440 => Some("cron(0 0 * * ? *)".to_owned()),
        _ => None,
    }
}

/// The four fields of a rule that say which days.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DayPart {
    of_month: String,
    months: String,
    of_week: String,
    years: String,
}

impl DayPart {
    fn of(words: &[&str]) -> Self {
        let word = |at: usize| words.get(at).copied().unwrap_or("*").to_owned();
        Self { of_month: word(2), months: word(3), of_week: word(4), years: word(5) }
    }
}

/// Times of day, in UTC, by how many days later than at home they are: hours with their minutes.
type Times = BTreeMap<i32, BTreeMap<i16, BTreeSet<i16>>>;

fn shifted_times(fields: &Fields, offset: Offset) -> Times {
    let offset = offset.seconds().div_euclid(60);
    let mut times = Times::new();
    for hour in &fields.hours {
        for minute in &fields.minutes {
            let utc = i32::from(*hour) * 60 + i32::from(*minute) - offset;
            let time = utc.rem_euclid(DAY_MINUTES) as i16;
            let of_day = times.entry(utc.div_euclid(DAY_MINUTES)).or_default();
            of_day.entry(time / 60).or_default().insert(time % 60);
        }
    }
    times
}

/// One expression for each rectangle of hours and minutes of each part; none where days cannot be moved.
fn written(times: &Times, days: impl Fn(i32) -> Option<Vec<DayPart>>) -> Option<Vec<String>> {
    // Hours of different shifts meet again where their days are the same: `*` moved is `*`.
    let mut by_part: BTreeMap<DayPart, BTreeMap<i16, BTreeSet<i16>>> = BTreeMap::new();
    for (shift, hours) in times {
        for part in days(*shift)? {
            let known = by_part.entry(part).or_default();
            for (hour, minutes) in hours {
                known.entry(*hour).or_default().extend(minutes);
            }
        }
    }
    let mut texts = Vec::new();
    for (part, hours) in by_part {
        let mut rectangles: BTreeMap<BTreeSet<i16>, Vec<i16>> = BTreeMap::new();
        for (hour, minutes) in hours {
            rectangles.entry(minutes).or_default().push(hour);
        }
        for (minutes, hours) in rectangles {
            let minutes: Vec<i16> = minutes.into_iter().collect();
            let DayPart { of_month, months, of_week, years } = &part;
            let (minutes, hours) = (list(&minutes, 0, 59), list(&hours, 0, 23));
            texts.push(format!("cron({minutes} {hours} {of_month} {months} {of_week} {years})"));
        }
    }
    Some(texts)
}

/// A field's values in few letters: `*`, `1/2`, `9,21`, `2-5`.
fn list(values: &[i16], least: i16, most: i16) -> String {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return String::new() };
    if values.len() == usize::from((most - least + 1).unsigned_abs()) {
        return "*".to_owned();
    }
    if values.len() > 2 {
        let step = values[1] - first;
        let is_even = values.windows(2).all(|pair| pair[1] - pair[0] == step);
        if step > 1 && is_even && last + step > most {
            return format!("{first}/{step}");
        }
    }
    let mut runs: Vec<(i16, i16)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == *value => *end = *value,
            _ => runs.push((*value, *value)),
        }
    }
    let run = |(from, to): (i16, i16)| match to - from {
        0 => from.to_string(),
        1 => format!("{from},{to}"),
        _ => format!("{from}-{to}"),
    };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

const ALL_MONTHS: usize = 12;
/// The years of the grammar.
const FIRST_YEAR: i16 = 1970;
const LAST_YEAR: i16 = 2199;
/// Years before this one are over and need no rule.
const THIS_YEAR: i16 = 2026;

/// The days of a row, so many days later; none where they have no names.
fn moved_days(fields: &Fields, shift: i32) -> Option<Vec<DayPart>> {
    let shift = i16::try_from(shift).ok().filter(|shift| shift.abs() == 1)?;
    let all_years = list(&fields.years, FIRST_YEAR, LAST_YEAR) == "*";
    match &fields.days {
        FieldDays::ByCalendar => None,
        FieldDays::OfWeek(days) if days.len() < 7 => {
            (all_years && fields.months.len() == ALL_MONTHS).then(|| {
                let mut moved: Vec<i16> =
                    days.iter().map(|day| (day - 1 + shift).rem_euclid(7) + 1).collect();
                moved.sort_unstable();
                let star = || "*".to_owned();
                let of_week = list(&moved, 1, 7);
                vec![DayPart { of_month: "?".to_owned(), months: star(), of_week, years: star() }]
            })
        }
        FieldDays::OfWeek(_) => {
            Some(moved_dates(fields, &(1..=31).collect::<Vec<i16>>(), shift, all_years))
        }
        FieldDays::OfMonth(days) => Some(moved_dates(fields, days, shift, all_years)),
    }
}

/// Which years a date is fired in: all of the row's, or those with or without a 29 February.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum YearKind {
    Any,
    Common,
    Leap,
}

fn is_leap(year: i16) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn length(month: i16, leap: bool) -> i16 {
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Dates, as a set of month and day with the year's distance from the row's own.
type Dates = BTreeSet<(i16, i16, i16)>;

fn moved_in(fields: &Fields, days: &[i16], shift: i16, leap: bool) -> Dates {
    let mut dates = Dates::new();
    for month in &fields.months {
        for day in days.iter().filter(|day| **day <= length(*month, leap)) {
            let moved = day + shift;
            dates.insert(if moved > length(*month, leap) {
                if *month == 12 { (1, 1, 1) } else { (0, month + 1, 1) }
            } else if moved < 1 {
                if *month == 1 { (-1, 12, 31) } else { (0, month - 1, length(month - 1, leap)) }
            } else {
                (0, *month, moved)
            });
        }
    }
    dates
}

fn moved_dates(fields: &Fields, days: &[i16], shift: i16, all_years: bool) -> Vec<DayPart> {
    let common = moved_in(fields, days, shift, false);
    let leap = moved_in(fields, days, shift, true);
    // By the years that they hold in, then by month: the days of a month in words.
    let mut months: BTreeMap<(YearKind, i16, String), Vec<i16>> = BTreeMap::new();
    let years: BTreeSet<i16> = common.iter().chain(&leap).map(|(year, ..)| *year).collect();
    // With every year there is nothing that the year's distance could change.
    let distances: Vec<Vec<i16>> = match all_years {
        true => vec![years.into_iter().collect()],
        false => years.into_iter().map(|year| vec![year]).collect(),
    };
    for distance in distances {
        for month in 1..=12 {
            let of = |dates: &Dates| -> Vec<i16> {
                let days =
                    dates.iter().filter(|(year, of, _)| distance.contains(year) && *of == month);
                days.map(|(.., day)| *day).collect::<BTreeSet<_>>().into_iter().collect()
            };
            for (kind, days) in month_in_words(month, &of(&common), &of(&leap)) {
                months.entry((kind, distance[0], days)).or_default().push(month);
            }
        }
    }
    months
        .into_iter()
        .map(|((kind, distance, of_month), months)| DayPart {
            of_month,
            months: list(&months, 1, 12),
            of_week: "?".to_owned(),
            years: years_in_words(fields, kind, distance, all_years),
        })
        .collect()
}

/// The days of one month in common and in leap years, as few fields as may be.
fn month_in_words(month: i16, common: &[i16], leap: &[i16]) -> Vec<(YearKind, String)> {
    let words = |days: &[i16], last: i16| -> String {
        if days.len() == usize::from(last.unsigned_abs()) {
            return "*".to_owned();
        }
        // `L` is the same word in every month, where 28, 29, 30 and 31 are not.
        match days.split_last() {
            Some((day, [])) if *day == last => "L".to_owned(),
            Some((day, rest)) if *day == last => format!("{},L", list(rest, 1, 31)),
            _ => list(days, 1, 31),
        }
    };
    let (of_common, of_leap) =
        (words(common, length(month, false)), words(leap, length(month, true)));
    let both = |text: String| vec![(YearKind::Any, text)];
    if common.is_empty() && leap.is_empty() {
        return Vec::new();
    }
    if of_common == of_leap {
        return both(of_common);
    }
    // A 29 February exists in leap years alone, so its rule need not name them.
    let without = |day: i16| leap.iter().copied().filter(|one| *one != day).collect::<Vec<i16>>();
    if month == 2 && without(29) == common {
        return both(list(leap, 1, 31));
    }
    // `L` beside the 28th: the same day in a common year.
    if month == 2 && leap.contains(&29) && common.last() == Some(&28) {
        let rest = without(29);
        if rest
            .iter()
            .copied()
            .filter(|day| *day != 28)
            .eq(common.iter().copied().filter(|day| *day != 28))
        {
            return both(format!("{},L", list(&rest, 1, 31)));
        }
    }
    let mut parts = Vec::new();
    if !common.is_empty() {
        parts.push((YearKind::Common, of_common));
    }
    if !leap.is_empty() {
        parts.push((YearKind::Leap, of_leap));
    }
    parts
}

fn years_in_words(fields: &Fields, kind: YearKind, distance: i16, all_years: bool) -> String {
    match (kind, all_years) {
        (YearKind::Any, true) => "*".to_owned(),
        // Each fourth year, and what the century changes of it; a list of ranges would be too long for an expression.
        (YearKind::Common, true) => "2025/4,2026/4,2027/4,2100".to_owned(),
        (YearKind::Leap, true) => "2028-2096/4,2104-2196/4".to_owned(),
        (_, false) => {
            let years: Vec<i16> = fields
                .years
                .iter()
                .filter(|year| match kind {
                    YearKind::Any => true,
                    YearKind::Common => !is_leap(**year),
                    YearKind::Leap => is_leap(**year),
                })
                .map(|year| year + distance)
                .filter(|year| (THIS_YEAR..=LAST_YEAR).contains(year))
                .collect();
            match list(&years, FIRST_YEAR, LAST_YEAR) {
                // None of them is to come: any that is over will do.
                text if text.is_empty() => FIRST_YEAR.to_string(),
                text => text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, zone: &str, expected: &[&str]) {
        let when = Schedule::parse(text, Api::Rule).expect("it is one");
        let zone = schedule::zone(zone).expect("it is one");
        let found = match rules(&when, &zone) {
            Ok(texts) => texts,
            Err(refused) => {
                vec![format!(
                    "{} {}",
                    refused.differs_at.map_or("-".to_owned(), |at| at.to_string()),
                    refused.why
                )]
            }
        };
        assert_eq!(found, expected, "{text}");
    }

    const SAO_PAULO: &str = "America/Sao_Paulo";

    #[test]
    fn hours_move_and_meet_again_where_days_are_all() {
        check("cron(0 0/2 * * ? *)", SAO_PAULO, &["cron(0 1/2 * * ? *)"]);
        check("cron(0 9,21 * * ? *)", SAO_PAULO, &["cron(0 0,12 * * ? *)"]);
        check("cron(30 5 * * ? *)", SAO_PAULO, &["cron(30 8 * * ? *)"]);
        check("cron(0 22 * * ? *)", SAO_PAULO, &["cron(0 1 * * ? *)"]);
        check("cron(0 22 L * ? *)", "UTC", &["cron(0 22 L * ? *)"]);
    }

    #[test]
    fn days_move_where_they_have_neighbours() {
        check("cron(0 22 ? * MON-FRI *)", SAO_PAULO, &["cron(0 1 ? * 3-7 *)"]);
        check("cron(0 20,22 ? * SAT *)", SAO_PAULO, &["cron(0 1 ? * 1 *)", "cron(0 23 ? * SAT *)"]);
        check("cron(0 22 15 * ? *)", SAO_PAULO, &["cron(0 1 16 * ? *)"]);
        check("cron(0 22 31 * ? *)", SAO_PAULO, &["cron(0 1 1 1,2,4,6,8,9,11 ? *)"]);
        check("cron(0 22 31 12 ? 2029)", SAO_PAULO, &["cron(0 1 1 1 ? 2030)"]);
        check("cron(0 8 1 * ? *)", "Asia/Tokyo", &["cron(0 23 L * ? *)"]);
        check("cron(0 8 1 1 ? *)", "Asia/Tokyo", &["cron(0 23 L 12 ? *)"]);
    }

    #[test]
    fn the_last_of_february_needs_the_kinds_of_years() {
        check(
            "cron(0 22 28 2 ? *)",
            SAO_PAULO,
            &["cron(0 1 1 3 ? 2025/4,2026/4,2027/4,2100)", "cron(0 1 29 2 ? *)"],
        );
        check("cron(0 22 29 2 ? *)", SAO_PAULO, &["cron(0 1 1 3 ? 2028-2096/4,2104-2196/4)"]);
    }

    #[test]
    fn half_hours_take_a_rule_for_each_part() {
        check(
            "cron(0/20 9 * * ? *)",
            "Asia/Kolkata",
            &["cron(10 4 * * ? *)", "cron(30,50 3 * * ? *)"],
        );
    }

    #[test]
    fn what_has_no_neighbour_is_refused_with_the_first_instant_that_differs() {
        let why = "it fires on another day in UTC, and `L`, `W` and `#` name no neighbouring day";
        check("cron(0 22 L * ? *)", SAO_PAULO, &[&format!("2026-01-01T01:00:00Z {why}")]);
        check("cron(0 22 15W * ? *)", SAO_PAULO, &[&format!("2026-01-15T01:00:00Z {why}")]);
        check("cron(0 22 ? * 2#1 *)", SAO_PAULO, &[&format!("2026-01-05T01:00:00Z {why}")]);
        check("cron(0 9 L * ? *)", SAO_PAULO, &["cron(0 12 L * ? *)"]);
    }

    #[test]
    fn clocks_that_change_are_refused() {
        let why = "the zone's clocks change, and a rule knows UTC alone";
        // In the midst of the day alone, and months after the first thousand firings.
        let differs = format!("2026-03-09T03:58:00Z {why}");
        check("cron(58/39 0-22,5,*/12 ? JAN-7 * *)", "America/New_York", &[&differs]);
        check("cron(0 9 * * ? *)", "America/New_York", &[&format!("2026-03-08T13:00:00Z {why}")]);
        check("cron(0 9 5 1 ? *)", "America/New_York", &["cron(0 14 5 1 ? *)"]);
        check("cron(* * * * ? *)", "America/New_York", &[&format!("2026-11-01T06:00:00Z {why}")]);
    }

    #[test]
    fn rates_become_crons_of_the_same_instants() {
        check("rate(2 hours)", SAO_PAULO, &["cron(0 0/2 * * ? *)"]);
        check("rate(1 minute)", SAO_PAULO, &["cron(* * * * ? *)"]);
        check(
            "rate(7 minutes)",
            SAO_PAULO,
            &["- a rule's rate counts from when the rule is made, and no cron has this period"],
        );
    }

    #[test]
    fn what_never_fires_is_refused() {
        check("cron(0 9 30 2 ? *)", SAO_PAULO, &["- it never fires again"]);
        check("cron(0 9 * * ? 2020)", SAO_PAULO, &["- it never fires again"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_list_is_read_as_its_values(values in prop::collection::btree_set(0_i16..60, 1..60)) {
            let values: Vec<i16> = values.into_iter().collect();
            let text = format!("cron({} 0 * * ? *)", list(&values, 0, 59));
            let fields = Schedule::parse(&text, Api::Rule).unwrap().fields().unwrap();
            prop_assert_eq!(fields.minutes, values);
        }
    }
}
