//! What AWS leaves unsaid about schedules, decided here and nowhere else.
//!
//! Neither the user guides nor the recorded answers of AWS settle these points, and nobody here could ask the real
//! service. Each is one name, so that a person who learns the truth changes one line and the test beside its use.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// The instant at which a local time fires, if it does.
///
/// The Scheduler guide says that a time which daylight saving leaves out is skipped and a repeated one runs once. It
/// does not say so of `at(...)` in a gap: skipped as well, as an `at` is a local time like any other.
pub(super) fn instant_of(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let offset = match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Gap { .. } => return None,
        AmbiguousOffset::Fold { before, after } => pass_of_a_repeated_time(before, after),
    };
    offset.to_timestamp(local).ok()
}

/// Which pass a repeated local time fires in: the first, for fixed times and wildcards alike, so `0/15` rests during
/// the second pass. Evaluation relies on it: with the first pass, later local times are later instants.
fn pass_of_a_repeated_time(first: Offset, _second: Offset) -> Offset {
    first
}

/// Scheduler's guide lists `minute | minutes` without a rule, where rules are known to refuse `rate(1 minutes)`.
pub(super) const SCHEDULER_TAKES_EITHER_NUMBER: bool = true;

/// `mon`, `jan` and `l` are read as `MON`, `JAN` and `L`, as Quartz does, whose grammar AWS took over.
pub(super) const LOWER_CASE_NAMES: bool = true;

/// `2W,16` and `L,15` are lists like any other. Only `#` must stand alone, and that AWS does say.
pub(super) const LAST_AND_WEEKDAY_IN_LISTS: bool = true;

/// `31W` in a month of 30 days: the month is passed over (as in Quartz and the public suites), not moved to the 30th.
pub(super) const MISSING_DAY_MOVES_TO_THE_LAST: bool = false;

/// `MON/2`: AWS's table of wildcards does not list `/` for the day of the week. Quartz takes it; refusing is safer,
/// as the other mistake would be seen only when the schedule is made in the cloud.
pub(super) const STEPS_IN_DAY_OF_WEEK: bool = false;

/// `0/90` in minutes: refused, as Quartz does. No firing is lost: it would mean `0`.
pub(super) const STEPS_BEYOND_THE_FIELD: bool = false;

/// A rate counts from the moment a rule is made or from Scheduler's start date. Where neither is known it counts from
/// here, so that two homes and two starts of the runner agree.
pub(super) const RATE_START: Timestamp = Timestamp::UNIX_EPOCH;
