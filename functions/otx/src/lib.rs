//! The OTX family: pulses that the keys' accounts are subscribed to, their indicators, and what OTX knows of others.

use std::process::ExitCode;

use base::config::DeclaredSettings;
use task::{Family, Registered};

mod adopt;
mod bulk_enrich_iocs;
pub mod enrichment;
mod export_pulses_to_misp;
pub mod indicators;
mod misp_feed_folder;
mod misp_server;
pub mod pulse;
mod reset_otx_daily_usage;
mod settings;
mod sources;
mod sync;
mod sync_otx_pulses;
mod test_otx_connection;
pub mod wire;

use settings::NAME;
pub use settings::{Settings, ZONE};

/// The family and its tasks.
pub const FAMILY: Family = Family {
    tasks: &[
        Registered::of::<sync_otx_pulses::SyncOtxPulses>(NAME),
        Registered::of::<bulk_enrich_iocs::BulkEnrichIocs>(NAME),
        Registered::of::<reset_otx_daily_usage::ResetOtxDailyUsage>(NAME),
        Registered::of::<test_otx_connection::TestOtxConnection>(NAME),
        Registered::of::<export_pulses_to_misp::ExportPulsesToMisp>(NAME),
    ],
    settings: DeclaredSettings::of::<Settings>(),
    owners: &[
        (pulse::INDEX, &pulse::OWNER),
        (pulse::INDEX, &export_pulses_to_misp::OWNER),
        (indicators::INDEX, &indicators::OWNER),
        (indicators::INDEX, &enrichment::OWNER),
        (indicators::INDEX, &enrichment::TAGS),
        ("cti_misp_iocs", &enrichment::OWNER),
        ("cti_misp_iocs", &enrichment::TAGS),
        ("signature_base_iocs", &enrichment::OWNER),
        ("signature_base_iocs", &enrichment::TAGS),
    ],
    adopters: &[adopt::PULSES, adopt::INDICATORS],
    sources: sources::CATALOG,
    checks: sources::CHECKS,
    ..Family::named(NAME)
};

/// The `main` of each of the family's binaries.
pub fn main_of(task: &str) -> ExitCode {
    task::function::main_of(&FAMILY, task)
}
