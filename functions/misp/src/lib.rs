//! The MISP family: threat feeds in MISP's format, tables and free text into `cti_misp_iocs`.

use std::process::ExitCode;

use base::config::DeclaredSettings;
use task::catalog::{Check, SourceCatalog, SourceEditor};
use task::{Family, Registered};

mod adopt;
pub mod event;
mod events;
pub mod feeds;
pub mod flat;
pub mod freetext;
pub mod indicators;
mod lists;
pub mod manifest;
mod pcre;
mod quick_sync_all_feeds;
mod sync;
mod sync_all_misp_feeds;
mod sync_single_feed;
pub mod unzip;
pub mod wire;

use feeds::{INDEX, NAME};

/// The family and its tasks.
pub const FAMILY: Family = Family {
    tasks: &[
        Registered::of::<sync_all_misp_feeds::SyncAllMispFeeds>(NAME),
        Registered::of::<sync_single_feed::SyncSingleFeed>(NAME),
        Registered::of::<quick_sync_all_feeds::QuickSyncAllFeeds>(NAME),
    ],
    settings: DeclaredSettings::of::<feeds::Settings>(),
    owners: &[(INDEX, &indicators::OWNER)],
    adopters: &[adopt::ADOPTER],
    sources: SourceCatalog {
        list: |config, state| Box::pin(feeds::list(config, state)),
        edit: Some(SourceEditor {
            check: feeds::check,
            define: feeds::define,
            preview: sync::preview,
            categories: feeds::FORMATS,
            form: feeds::FORM,
        }),
    },
    checks: &[Check { about: "MISP's feeds", look: |config| Box::pin(feeds::look(config)) }],
    ..Family::named(NAME)
};

/// The `main` of each of the family's binaries.
pub fn main_of(task: &str) -> ExitCode {
    task::function::main_of(&FAMILY, task)
}
