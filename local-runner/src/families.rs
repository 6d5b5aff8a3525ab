//! The families that are linked in, listed once.

use stores::documents::Adopter;
use task::{Family, Registered};

/// Every family.
pub const FAMILIES: &[Family] = &[malpedia::FAMILY, rss::FAMILY, signature_base::FAMILY];

/// How families know their own in the predecessor's indices; one that does not say keeps the ids that were.
pub const ADOPTERS: &[Adopter] =
    &[malpedia::adopt::FAMILIES, malpedia::adopt::ACTORS, malpedia::adopt::LIBRARY, rss::ADOPTER];

/// Every task, by family.
pub fn all_tasks() -> impl Iterator<Item = (&'static str, &'static Registered)> {
    FAMILIES.iter().flat_map(|family| family.tasks.iter().map(|task| (family.name, task)))
}
