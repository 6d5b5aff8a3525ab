//! What holds for every form of an expression.

use std::ops::RangeInclusive;

/// The years of the grammar; outside of them nothing fires.
pub(crate) const YEARS: RangeInclusive<i16> = 1970..=2199;

/// The longest expression that both APIs take (`ScheduleExpression`, length at most 256).
pub(crate) const MAX_LENGTH: usize = 256;

/// Whose rules an expression must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Rules of `EventBridge`: UTC, no `at`, `rate` in strict form. What they take, Scheduler takes too.
    Rule,
    /// Its Scheduler: any zone, `at`, and `rate` in either number.
    Scheduler,
}
