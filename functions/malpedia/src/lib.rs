//! The Malpedia family: the library of references, malware families and actors, from disk, bucket or API.

use std::process::ExitCode;

use base::config::DeclaredSettings;
use task::{Family, Registered};

mod adopt;
mod api;
pub mod bibtex;
mod catalogue;
mod check_malpedia_status;
mod country;
mod enrich_malpedia_library;
mod enrichment;
mod get_malpedia_library_stats;
pub mod library;
pub mod links;
pub mod reference;
mod rules;
mod settings;
mod sources;
mod sync_malpedia_actors_to_es;
mod sync_malpedia_all_to_es;
mod sync_malpedia_families_to_es;
mod sync_malpedia_library_bibtex;
mod sync_malpedia_library_full;
mod sync_malpedia_library_rss;
pub mod wire;

use settings::NAME;

/// The family and its tasks.
pub const FAMILY: Family = Family {
    tasks: &[
        Registered::of::<sync_malpedia_library_rss::SyncMalpediaLibraryRss>(NAME),
        Registered::of::<sync_malpedia_library_bibtex::SyncMalpediaLibraryBibtex>(NAME),
        Registered::of::<sync_malpedia_library_full::SyncMalpediaLibraryFull>(NAME),
        Registered::of::<enrich_malpedia_library::EnrichMalpediaLibrary>(NAME),
        Registered::of::<get_malpedia_library_stats::GetMalpediaLibraryStats>(NAME),
        Registered::of::<check_malpedia_status::CheckMalpediaStatus>(NAME),
        Registered::of::<sync_malpedia_families_to_es::SyncMalpediaFamiliesToEs>(NAME),
        Registered::of::<sync_malpedia_actors_to_es::SyncMalpediaActorsToEs>(NAME),
        Registered::of::<sync_malpedia_all_to_es::SyncMalpediaAllToEs>(NAME),
    ],
    settings: DeclaredSettings::of::<settings::Settings>(),
    owners: &[
        (reference::INDEX, &reference::OWNER),
        (reference::INDEX, &reference::LATEST),
        (reference::INDEX, &reference::LINKS),
        (enrichment::INDICES[0], &enrichment::OWNER),
        (enrichment::INDICES[1], &enrichment::OWNER),
        (enrichment::INDICES[2], &enrichment::OWNER),
        (enrichment::INDICES[3], &enrichment::OWNER),
        (catalogue::FAMILIES.index, catalogue::FAMILIES.of_files),
        (catalogue::FAMILIES.index, catalogue::FAMILIES.of_api),
        (catalogue::FAMILIES.index, catalogue::FAMILIES.of_text),
        (catalogue::FAMILIES.index, catalogue::FAMILIES.of_links),
        (catalogue::ACTORS.index, catalogue::ACTORS.of_files),
        (catalogue::ACTORS.index, catalogue::ACTORS.of_api),
        (catalogue::ACTORS.index, catalogue::ACTORS.of_text),
        (catalogue::ACTORS.index, catalogue::ACTORS.of_links),
        (yara::document::INDEX, &yara::document::OWNER),
        (yara::document::INDEX, &yara::link::OF_RULE),
        (stores::documents::MALWARE_FAMILIES, &yara::link::OF_FAMILY),
    ],
    adopters: &[adopt::FAMILIES, adopt::ACTORS, adopt::LIBRARY],
    sources: sources::CATALOG,
    checks: sources::CHECKS,
    ..Family::named(NAME)
};

/// The `main` of each of the family's binaries.
pub fn main_of(task: &str) -> ExitCode {
    yara::apart::serve().unwrap_or_else(|| task::function::main_of(&FAMILY, task))
}
