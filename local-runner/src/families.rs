//! The families that are linked in, listed once.

use shared::task::{Family, Registered};

/// Every family.
pub const FAMILIES: &[Family] = &[rss::FAMILY];

/// Every task, by family.
pub fn all_tasks() -> impl Iterator<Item = (&'static str, &'static Registered)> {
    FAMILIES.iter().flat_map(|family| family.tasks.iter().map(|task| (family.name, task)))
}
