//! The signature-base family: Neo23x0's YARA rules into `cti_yara_rules`, and the indicators beside them into
//! `signature_base_iocs`. One tarball holds both.

use std::process::ExitCode;

use task::{Family, Registered};

mod get_signature_base_stats;
pub mod indicator;
pub mod iocs;
pub mod sync;
mod sync_signature_base_all;
mod sync_signature_base_iocs;
mod sync_signature_base_yara;
pub mod tarball;

/// The family and its tasks.
pub const FAMILY: Family = Family {
    name: "signature-base",
    tasks: &[
        Registered::of::<sync_signature_base_yara::SyncSignatureBaseYara>(),
        Registered::of::<sync_signature_base_iocs::SyncSignatureBaseIocs>(),
        Registered::of::<sync_signature_base_all::SyncSignatureBaseAll>(),
        Registered::of::<get_signature_base_stats::GetSignatureBaseStats>(),
    ],
};

/// The `main` of each of the family's binaries.
pub fn main_of(task: &str) -> ExitCode {
    task::function::main_of(FAMILY.tasks, task)
}
