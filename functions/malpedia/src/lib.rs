//! The Malpedia family: the library of references, malware families and actors, from disk, bucket or API.

use std::process::ExitCode;

use shared::task::{Family, Registered};

mod api;
pub mod bibtex;
pub mod latest;
pub mod library;
pub mod links;
pub mod reference;
mod sync_malpedia_library_bibtex;
mod sync_malpedia_library_full;
mod sync_malpedia_library_rss;

/// The family and its tasks.
pub const FAMILY: Family = Family {
    name: "malpedia",
    tasks: &[
        Registered::of::<sync_malpedia_library_rss::SyncMalpediaLibraryRss>(),
        Registered::of::<sync_malpedia_library_bibtex::SyncMalpediaLibraryBibtex>(),
        Registered::of::<sync_malpedia_library_full::SyncMalpediaLibraryFull>(),
    ],
};

/// The `main` of each of the family's binaries.
pub fn main_of(task: &str) -> ExitCode {
    shared::function::main_of(FAMILY.tasks, task)
}
