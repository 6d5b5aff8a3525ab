//! `at(2026-12-25T08:30:00)`: one local time, once.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::error::{Field, Piece, ScheduleError};
use super::grammar::YEARS;
use super::undecided;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    local: DateTime,
}

impl At {
    /// Reads what stands between the brackets: `yyyy-mm-ddThh:mm:ss`, without fraction or zone.
    pub(super) fn parse(inside: Piece<'_>) -> Result<Self, ScheduleError> {
        let problem = format!("{} is not a time: times are yyyy-mm-ddThh:mm:ss", inside.quoted());
        let error = || inside.error(Field::Expression, problem.clone());
        if let Some(bare) = inside.text.strip_suffix(['Z', 'z'])
            && read(bare).is_some()
        {
            let hint =
                format!("leave `Z` out: the time is local to the schedule's zone, `at({bare})`");
            return Err(error().hinting(hint));
        }
        if inside.text.len() == "yyyy-mm-dd".len()
            && read(&format!("{}T00:00:00", inside.text)).is_some()
        {
            return Err(
                error().hinting(format!("a date needs a time too: `at({}T00:00:00)`", inside.text))
            );
        }
        let Some(local) = read(inside.text) else { return Err(error()) };
        if !YEARS.contains(&local.year()) {
            let year = inside.part(0..4);
            let problem = format!(
                "{} is not a year: years are {}-{}",
                year.quoted(),
                YEARS.start(),
                YEARS.end()
            );
            return Err(year.error(Field::Year, problem));
        }
        Ok(Self { local })
    }

    pub(super) fn next_after(&self, instant: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        undecided::instant_of(self.local, zone).filter(|firing| *firing > instant)
    }
}

/// The exact form only: jiff by itself would also take fractions, a space for the `T`, and a 60th second.
fn read(text: &str) -> Option<DateTime> {
    let form = "dddd-dd-ddTdd:dd:dd";
    let fits = |(c, f): (u8, u8)| if f == b'd' { c.is_ascii_digit() } else { c == f };
    let right = text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(fits)
        && !text.ends_with("60");
    if right { text.parse().ok() } else { None }
}
