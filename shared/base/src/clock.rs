//! What time it is, and how much of it is left.
//!
//! A task never asks the machine: it asks `ctx.now()` and `ctx.deadline()`, so that a test or a replay of the timetable
//! can say what time it is.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// Where `now` comes from (`MINERVA_CLOCK`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    Machine,
    /// One instant that does not move.
    Fixed(Timestamp),
    /// The slot of the run at hand, or the machine's clock where a run has no slot: a replay.
    Slot,
}

impl Clock {
    /// Reads `machine`, `slot` or an RFC 3339 instant.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "machine" => Ok(Self::Machine),
            "slot" => Ok(Self::Slot),
            instant => instant
                .parse()
                .map(Self::Fixed)
                .map_err(|_| format!("`{instant}` is neither `machine`, `slot` nor an instant such as `2026-03-01T00:00:00Z`")),
        }
    }

    /// The time now, for a run that was scheduled for `slot`.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn now(self, slot: Option<Timestamp>) -> Timestamp {
        match (self, slot) {
            (Self::Fixed(instant), _) | (Self::Slot, Some(instant)) => instant,
            (Self::Machine, _) | (Self::Slot, None) => Timestamp::now(),
        }
    }
}

/// How far a server's clock may be from ours.
pub const SKEW_MAX: SignedDuration = SignedDuration::from_secs(5);

/// The longest that a source or a key may be left alone: a day, as servers are heeded that long, and the hour by which a day
/// can be longer. A wait that ends later was set under another clock.
pub const WAIT_MAX: SignedDuration = SignedDuration::from_hours(25);

/// Whether an instant that was stored may be in the future by so much; else the clock was wrong that set it, or is wrong now,
/// and the instant does not hold.
pub fn is_believed(stored: Timestamp, now: Timestamp, ahead: SignedDuration) -> bool {
    stored.duration_since(now) <= ahead
}

/// The moment at which the platform ends a run, on a clock that is never set back.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    reserve: Duration,
}

impl Deadline {
    /// The longest that is kept back for storing a checkpoint and answering.
    pub const RESERVE_MAX: Duration = Duration::from_secs(10);

    /// The least that is kept back, where there is as much: a checkpoint is a commit on a disk that may be busy.
    pub const RESERVE_MIN: Duration = Duration::from_secs(1);

    /// A deadline `left` from now; a tenth of it, within [`RESERVE_MIN`](Self::RESERVE_MIN) and
    /// [`RESERVE_MAX`](Self::RESERVE_MAX) and at most the half, is kept back.
    pub fn after(left: Duration) -> Self {
        let reserve = (left / 10).clamp(Self::RESERVE_MIN, Self::RESERVE_MAX).min(left / 2);
        Self { at: Instant::now() + left, reserve }
    }

    /// Time left for work, nothing when it is time to store a checkpoint.
    pub fn left(&self) -> Duration {
        (self.at - self.reserve).saturating_duration_since(Instant::now())
    }

    /// Whether a step may still begin.
    pub fn is_past(&self) -> bool {
        self.left().is_zero()
    }

    /// When a run that does not heed its deadline is cut off: half of the reserve is left to say so.
    pub fn cut_off(&self) -> Instant {
        self.at - self.reserve / 2
    }

    /// When work should stop so that the reserve is left.
    pub fn soft_end(&self) -> Instant {
        self.at - self.reserve
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_lives_at_the_slot() {
        let slot: Timestamp = "2026-03-01T05:00:00Z".parse().unwrap();
        assert_eq!(Clock::parse("slot").unwrap().now(Some(slot)), slot);
        assert_eq!(
            Clock::parse("2026-01-01T00:00:00Z").unwrap().now(Some(slot)).to_string(),
            "2026-01-01T00:00:00Z"
        );
        assert!(Clock::parse("yesterday").unwrap_err().contains("`yesterday`"));
    }

    #[test]
    fn a_deadline_keeps_a_reserve_for_the_checkpoint() {
        let deadline = Deadline::after(Duration::from_secs(300));
        assert!(deadline.left() <= Duration::from_secs(290));
        assert!(Deadline::after(Duration::ZERO).is_past());
    }
}
