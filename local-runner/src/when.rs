//! Instants for people: the timetable's zone first, UTC beside it where it matters.

use jiff::Timestamp;
use jiff::tz::TimeZone;

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
