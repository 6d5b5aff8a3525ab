//! The Malpedia family: the library of references, malware families and actors, from disk, bucket or API.

use std::process::ExitCode;

use task::{Family, Registered};

pub mod adopt;
mod api;
pub mod bibtex;
pub mod catalogue;
mod check_malpedia_status;
mod get_malpedia_library_stats;
pub mod library;
pub mod links;
pub mod reference;
mod rules;
mod sync_malpedia_actors_to_es;
mod sync_malpedia_all_to_es;
mod sync_malpedia_families_to_es;
mod sync_malpedia_library_bibtex;
mod sync_malpedia_library_full;
mod sync_malpedia_library_rss;
pub mod wire;

/// The family and its tasks.
pub const FAMILY: Family = Family {
    name: "malpedia",
    tasks: &[
        Registered::of::<sync_malpedia_library_rss::SyncMalpediaLibraryRss>(),
        Registered::of::<sync_malpedia_library_bibtex::SyncMalpediaLibraryBibtex>(),
        Registered::of::<sync_malpedia_library_full::SyncMalpediaLibraryFull>(),
        Registered::of::<get_malpedia_library_stats::GetMalpediaLibraryStats>(),
        Registered::of::<check_malpedia_status::CheckMalpediaStatus>(),
        Registered::of::<sync_malpedia_families_to_es::SyncMalpediaFamiliesToEs>(),
        Registered::of::<sync_malpedia_actors_to_es::SyncMalpediaActorsToEs>(),
        Registered::of::<sync_malpedia_all_to_es::SyncMalpediaAllToEs>(),
    ],
};

/// The `main` of each of the family's binaries.
pub fn main_of(task: &str) -> ExitCode {
    task::function::main_of(FAMILY.tasks, task)
}
