//! The families that are linked in, listed once.

use base::config::DeclaredSettings;
use stores::documents::Adopter;
use task::{Family, Registered};

/// Every family.
pub const FAMILIES: &[Family] = &[
    caveiratech::FAMILY,
    malpedia::FAMILY,
    misp::FAMILY,
    otx::FAMILY,
    rss::FAMILY,
    signature_base::FAMILY,
];

/// Every task, by family.
pub fn all_tasks() -> impl Iterator<Item = (&'static str, &'static Registered)> {
    FAMILIES.iter().flat_map(|family| family.tasks.iter().map(|task| (family.name, task)))
}

/// The settings that the families declare.
pub fn declared() -> Vec<DeclaredSettings> {
    FAMILIES.iter().map(|family| family.settings).collect()
}

/// How families know their own in the predecessor's indices; one that does not say keeps the ids that were.
pub fn adopters() -> impl Iterator<Item = &'static Adopter> {
    FAMILIES.iter().flat_map(|family| family.adopters)
}
