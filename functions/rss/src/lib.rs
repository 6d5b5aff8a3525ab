//! The RSS family: security news from feeds of every age and make into `rss_articles`.

use std::process::ExitCode;

use base::config::DeclaredSettings;
use task::catalog::{SourceCatalog, SourceEditor};
use task::{Family, Registered};

mod adopt;
pub mod article;
pub mod collect;
mod collect_all_rss_feeds;
mod collect_category;
mod collect_specific_sources;
pub mod identity;
mod known;
pub mod sources;

use sources::NAME;

/// The family and its tasks.
pub const FAMILY: Family = Family {
    tasks: &[
        Registered::of::<collect_all_rss_feeds::CollectAllRssFeeds>(NAME),
        Registered::of::<collect_category::CollectCategory>(NAME),
        Registered::of::<collect_specific_sources::CollectSpecificSources>(NAME),
    ],
    settings: DeclaredSettings::of::<sources::Settings>(),
    owners: &[(sources::INDEX, &article::OWNER)],
    adopters: &[adopt::ADOPTER],
    sources: SourceCatalog {
        list: |config, state| Box::pin(sources::list(config, state)),
        edit: Some(SourceEditor {
            check: sources::check,
            define: sources::define,
            preview: collect::preview,
            categories: sources::CATEGORIES,
            form: sources::FORM,
        }),
    },
    ..Family::named(NAME)
};

/// The `main` of each of the family's binaries.
pub fn main_of(task: &str) -> ExitCode {
    task::function::main_of(&FAMILY, task)
}
