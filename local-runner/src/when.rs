//! Instants for people: the timetable's zone first, UTC beside it where it matters; and those that people type.

use base::{Error, Result};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// What a person typed for a day or an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A day, in UTC.
    Day(Date),
    Instant(Timestamp),
}

impl Moment {
    /// Reads `2026-03-01`, an instant of RFC 3339, or an age before `now`: `36h`, `7d`, `2w`.
    ///
    /// # Errors
    /// `Config`, with the forms there are.
    pub(crate) fn read(text: &str, now: Timestamp) -> Result<Self> {
        const FORMS: &str =
            "it is a day as 2026-03-01, an instant as 2026-03-01T12:00:00Z, or an age: 36h, 7d, 2w";
        let wrong = |why: &str| Error::config(format!("read the date `{text}`{why}")).hint(FORMS);
        let typed = text.trim();
        if let Some((number, hours)) = [("h", 1), ("d", 24), ("w", 7 * 24)]
            .iter()
            .find_map(|(unit, hours)| Some((typed.strip_suffix(unit)?, *hours)))
        {
            let hours = number.parse::<u32>().ok().and_then(|number| {
                now.checked_sub(SignedDuration::from_hours(i64::from(number) * hours)).ok()
            });
            return hours.map(Self::Instant).ok_or_else(|| wrong(""));
        }
        let is_day = typed.len() == "2026-03-01".len();
        match (typed.parse::<Date>(), typed.parse::<Timestamp>()) {
            (Ok(day), _) if is_day => Ok(Self::Day(day)),
            (_, Ok(instant)) => Ok(Self::Instant(instant)),
            (Ok(_), Err(_)) => Err(wrong(": it names no zone")),
            (Err(_), Err(_)) if is_day && typed.bytes().filter(u8::is_ascii_digit).count() == 8 => {
                Err(wrong(": there is no such day"))
            }
            (Err(_), Err(_)) => Err(wrong("")),
        }
    }

    /// Where it begins.
    pub(crate) fn start(self) -> Timestamp {
        match self {
            Self::Day(day) => midnight(day),
            Self::Instant(instant) => instant,
        }
    }

    /// Where a day is over; an instant itself.
    pub(crate) fn end(self) -> Timestamp {
        match self {
            Self::Day(day) => day.tomorrow().map_or(Timestamp::MAX, midnight),
            Self::Instant(instant) => instant,
        }
    }

    /// From where to where it goes: a day, or a second.
    pub(crate) fn span(self) -> (Timestamp, Timestamp) {
        let second = self.start().checked_add(SignedDuration::from_secs(1));
        (self.start(), self.end().max(second.unwrap_or(Timestamp::MAX)))
    }
}

fn midnight(day: Date) -> Timestamp {
    day.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |day| day.timestamp())
}

/// A slot, as `01 Mar 06:00 -03 (09:00Z)`; the zone's offset tells which day it is in UTC.
pub(crate) fn slot(instant: Timestamp, zone: &TimeZone) -> String {
    let local = instant.to_zoned(zone.clone());
    format!("{} ({})", local.strftime("%d %b %H:%M %Z"), instant.strftime("%H:%MZ"))
}

/// An instant to the second, as `2026-03-01 06:00:02 -03`.
pub(crate) fn second(instant: Timestamp, zone: &TimeZone) -> String {
    instant.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// An instant to the minute, as `2026-03-01 06:00 -03`.
pub(crate) fn minute(instant: Timestamp, zone: &TimeZone) -> String {
    instant.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string()
}

/// The day there, as `2026-03-01`.
pub(crate) fn day(instant: Timestamp, zone: &TimeZone) -> String {
    instant.to_zoned(zone.clone()).strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_an_instant_and_an_age_are_read_and_nothing_else() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let read = |text: &str| Moment::read(text, now).map(|moment| moment.start().to_string());
        for (typed, start) in [
            ("2026-02-28", "2026-02-28T00:00:00Z"),
            ("2026-03-01T01:00:00-03:00", "2026-03-01T04:00:00Z"),
            ("36h", "2026-02-28T00:00:00Z"),
            ("7d", "2026-02-22T12:00:00Z"),
            (" 2w ", "2026-02-15T12:00:00Z"),
            ("0d", "2026-03-01T12:00:00Z"),
        ] {
            assert_eq!(read(typed).unwrap(), start, "{typed}");
        }
        let day = Moment::read("2026-02-28", now).unwrap();
        assert_eq!(day.end().to_string(), "2026-03-01T00:00:00Z", "a day is there to its end");
        for (typed, word) in [
            ("2026-02-30", "no such day"),
            ("2026-03-01T12:00", "no zone"),
            ("yesterday", "an age"),
            ("7", "an age"),
            ("-7d", "an age"),
            ("5m", "an age"),
            ("99999999999d", "an age"),
            ("4000000000w", "an age"),
            ("2026-3-1", "2026-03-01"),
            ("01/03/2026", "2026-03-01"),
            ("", "an age"),
            ("d", "an age"),
        ] {
            let error = Moment::read(typed, now).unwrap_err();
            let said = format!("{error} {}", error.hint_text().unwrap_or_default());
            assert!(said.contains(word), "{typed}: {said}");
        }
    }

    #[test]
    fn the_zone_comes_first_and_utc_is_beside_it() {
        let zone = TimeZone::get("America/Sao_Paulo").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(slot(at("2026-03-01T09:00:00Z"), &zone), "01 Mar 06:00 -03 (09:00Z)");
        assert_eq!(slot(at("2026-03-01T01:00:00Z"), &zone), "28 Feb 22:00 -03 (01:00Z)");
        assert_eq!(second(at("2026-03-01T01:00:02.5Z"), &zone), "2026-02-28 22:00:02 -03");
        assert_eq!(minute(at("2026-03-01T01:00:02Z"), &zone), "2026-02-28 22:00 -03");
        assert_eq!(day(at("2026-03-01T01:00:02Z"), &zone), "2026-02-28");
    }
}
