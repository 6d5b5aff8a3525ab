//! `rate(5 minutes)`: a fixed number of seconds apart, whatever clocks on the wall do.

use jiff::Timestamp;

use super::error::{Field, Piece, ScheduleError};
use super::grammar::Api;
use super::undecided;

const UNITS: [(&str, &str, u32); 3] =
    [("minute", "minutes", 60), ("hour", "hours", 3_600), ("day", "days", 86_400)];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rate {
    period_s: u64,
}

impl Rate {
    /// Reads what stands between the brackets: a number, one space, a unit.
    pub(super) fn parse(inside: Piece<'_>, api: Api) -> Result<Self, ScheduleError> {
        let shape = "a rate is a whole number, one space, and minutes, hours or days";
        let fail = |piece: Piece<'_>, problem: String| Err(piece.error(Field::Expression, problem));
        if inside.text.is_empty() {
            return Err(inside
                .error(Field::Expression, format!("`rate()` is empty: {shape}"))
                .hinting("`rate(5 minutes)`"));
        }
        let Some((number, unit)) = inside.split_once(' ') else {
            return fail(inside, format!("{} is not a rate: {shape}", inside.quoted()));
        };
        if number.text.is_empty() || unit.text.starts_with(' ') || unit.text.ends_with(' ') {
            let error = inside.error(
                Field::Expression,
                format!("{} has too many spaces: {shape}", inside.quoted()),
            );
            return Err(
                error.hinting("AWS takes exactly one space, between the number and the unit")
            );
        }
        let digits = number.text.bytes().all(|b| b.is_ascii_digit());
        let count = match number.text.parse::<u32>() {
            Ok(count) if digits && count > 0 => count,
            _ => {
                return fail(
                    number,
                    format!("{} is not a count: a rate is 1 or more, in digits", number.quoted()),
                );
            }
        };
        for (one, many, seconds) in UNITS {
            let right = if count == 1 { one } else { many };
            if unit.text == right
                || (api == Api::Scheduler
                    && undecided::SCHEDULER_TAKES_EITHER_NUMBER
                    && [one, many].contains(&unit.text))
            {
                return Ok(Self { period_s: u64::from(count) * u64::from(seconds) });
            }
            if unit.text.eq_ignore_ascii_case(one) || unit.text.eq_ignore_ascii_case(many) {
                let number = if count == 1 {
                    "1 takes the singular"
                } else {
                    "more than 1 takes the plural"
                };
                let problem =
                    format!("{} is not the unit here: {number}, in lower case", unit.quoted());
                return Err(unit
                    .error(Field::Expression, problem)
                    .hinting(format!("`rate({count} {right})`")));
            }
        }
        let error = unit.error(
            Field::Expression,
            format!("{} is not a unit: units are minutes, hours and days", unit.quoted()),
        );
        Err(error.or_hint(|| match unit.text {
            "week" | "weeks" => Some(format!("`rate({} days)`", u64::from(count) * 7)),
            "second" | "seconds" => Some("the shortest rate is `rate(1 minute)`".to_owned()),
            _ => None,
        }))
    }

    pub(super) fn period_s(&self) -> u64 {
        self.period_s
    }

    pub(super) fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let start = undecided::RATE_START;
        if instant < start {
            return Some(start);
        }
        let period = i128::from(self.period_s) * 1_000_000_000;
        let since = instant.as_nanosecond() - start.as_nanosecond();
        Timestamp::from_nanosecond(start.as_nanosecond() + (since / period + 1) * period).ok()
    }
}
