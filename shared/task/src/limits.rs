//! How much a source may give in one visit, and all sources in one step of a run; and when a parser must stop.
//!
//! One source that somebody else controls may be endless. Over a limit what came is kept, the rest is counted and told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use base::clock::Deadline;

/// What one visit to a source may store; a batch that begins within it is stored whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisitLimits {
    /// Items.
    pub items: u64,
    /// Bytes of what they hold, as it is given to the store.
    pub bytes: u64,
}

impl VisitLimits {
    /// Those of a source that names none: twice what the largest of ours has.
    pub const DEFAULT: Self = Self { items: 50_000, bytes: 256 << 20 };
}

/// What one step of a run may store; sources beyond it are left to the continuation.
pub const STEP: VisitLimits = VisitLimits { items: 1_000_000, bytes: 2 << 30 };

/// For how long a source whose parser was cut off without result is left alone.
pub(crate) const TOO_COSTLY_WAIT: Duration = Duration::from_hours(24);

/// What was stored so far.
#[derive(Debug, Default)]
pub(crate) struct Used {
    items: AtomicU64,
    bytes: AtomicU64,
}

impl Used {
    pub(crate) fn add(&self, items: u64, bytes: u64) {
        self.items.fetch_add(items, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn is_full(&self, limits: VisitLimits) -> bool {
        self.items.load(Ordering::Relaxed) >= limits.items
            || self.bytes.load(Ordering::Relaxed) >= limits.bytes
    }
}

/// Tells a parser on a thread of its own whether somebody still waits for it. It asks between its steps.
#[derive(Clone, Debug)]
pub struct Cutoff {
    deadline: Deadline,
    visit: Weak<()>,
}

impl Cutoff {
    pub(crate) fn new(deadline: Deadline, visit: &Arc<()>) -> Self {
        Self { deadline, visit: Arc::downgrade(visit) }
    }

    /// Whether to stop: the visit is over, or the time for work is.
    pub fn is_over(&self) -> bool {
        self.deadline.is_past() || self.visit.strong_count() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parser_stops_with_its_visit_or_its_time() {
        let visit = Arc::new(());
        let cutoff = Cutoff::new(Deadline::after(Duration::from_secs(60)), &visit);
        assert!(!cutoff.is_over());
        assert!(Cutoff::new(Deadline::after(Duration::ZERO), &visit).is_over());
        drop(visit);
        assert!(cutoff.is_over());
    }

    #[test]
    fn either_limit_is_full_by_itself() {
        let used = Used::default();
        let limits = VisitLimits { items: 10, bytes: 100 };
        used.add(9, 99);
        assert!(!used.is_full(limits));
        used.add(0, 1);
        assert!(used.is_full(limits) && used.is_full(VisitLimits { items: 9, ..limits }));
    }
}
