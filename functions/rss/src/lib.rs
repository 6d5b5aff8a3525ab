//! The RSS family: security news from feeds of every age and make into `rss_articles`.

use std::process::ExitCode;

use task::{Family, Registered};

pub use adopt::ADOPTER;

mod adopt;
pub mod article;
pub mod collect;
mod collect_all_rss_feeds;
mod collect_category;
mod collect_specific_sources;
pub mod sources;

/// The family and its tasks.
pub const FAMILY: Family = Family {
    name: "rss",
    tasks: &[
        Registered::of::<collect_all_rss_feeds::CollectAllRssFeeds>(),
        Registered::of::<collect_category::CollectCategory>(),
        Registered::of::<collect_specific_sources::CollectSpecificSources>(),
    ],
};

/// The `main` of each of the family's binaries.
pub fn main_of(task: &str) -> ExitCode {
    task::function::main_of(FAMILY.tasks, task)
}
