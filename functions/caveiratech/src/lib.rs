//! The CaveiraTech family: Brazilian security news, crawled politely into `caveiratech_news`.

use std::process::ExitCode;

use base::config::DeclaredSettings;
use task::{Family, Registered};

mod adopt;
pub mod article;
mod crawl;
mod full_sync_caveiratech;
mod get_caveiratech_stats;
pub mod listing;
mod marks;
pub mod post;
mod settings;
mod site;
mod sync_caveiratech;
pub mod ways;
mod when;

use settings::NAME;

/// The family and its tasks.
pub const FAMILY: Family = Family {
    tasks: &[
        Registered::of::<sync_caveiratech::SyncCaveiratech>(NAME),
        Registered::of::<full_sync_caveiratech::FullSyncCaveiratech>(NAME),
        Registered::of::<get_caveiratech_stats::GetCaveiratechStats>(NAME),
    ],
    settings: DeclaredSettings::of::<settings::Settings>(),
    owners: &[(article::INDEX, &article::OWNER)],
    adopters: &[adopt::ADOPTER],
    sources: settings::CATALOG,
    checks: settings::CHECKS,
    ..Family::named(NAME)
};

/// The `main` of each of the family's binaries.
pub fn main_of(task: &str) -> ExitCode {
    task::function::main_of(&FAMILY, task)
}
