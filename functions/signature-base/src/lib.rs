//! The signature-base family: Neo23x0's YARA rules into `cti_yara_rules`, and the indicators beside them into
//! `signature_base_iocs`. One tarball holds both.

use std::process::ExitCode;

use base::config::DeclaredSettings;
use task::catalog::{SourceCatalog, SourceEntry};
use task::{Family, Registered, Source as _};
use url::Url;

mod category;
mod get_signature_base_stats;
pub mod indicator;
pub mod iocs;
mod settings;
pub mod sync;
mod sync_signature_base_all;
mod sync_signature_base_iocs;
mod sync_signature_base_yara;

use settings::NAME;

/// The family and its tasks.
pub const FAMILY: Family = Family {
    tasks: &[
        Registered::of::<sync_signature_base_yara::SyncSignatureBaseYara>(NAME),
        Registered::of::<sync_signature_base_iocs::SyncSignatureBaseIocs>(NAME),
        Registered::of::<sync_signature_base_all::SyncSignatureBaseAll>(NAME),
        Registered::of::<get_signature_base_stats::GetSignatureBaseStats>(NAME),
    ],
    settings: DeclaredSettings::of::<settings::Settings>(),
    owners: &[
        (indicator::INDEX, &indicator::OWNER),
        (yara::document::INDEX, &yara::document::OWNER),
        (yara::document::INDEX, &yara::link::OF_RULE),
    ],
    sources: SourceCatalog {
        list: |config, _| {
            Box::pin(async move {
                let url = Url::parse(&config.of::<settings::Settings>()?.url).ok();
                let entry = |part: sync::Part| SourceEntry {
                    id: part.id().to_owned(),
                    name: format!("Neo23x0/signature-base, {}", part.id()),
                    url: url.clone(),
                    category: None,
                    language: None,
                    enabled: true,
                };
                Ok(sync::Part::ALL.map(entry).into())
            })
        },
        edit: None,
    },
    ..Family::named(NAME)
};

/// The `main` of each of the family's binaries.
pub fn main_of(task: &str) -> ExitCode {
    yara::apart::serve().unwrap_or_else(|| task::function::main_of(&FAMILY, task))
}
