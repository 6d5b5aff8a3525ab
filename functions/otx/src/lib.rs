//! The OTX family: pulses that the keys' accounts are subscribed to, their indicators, and what OTX knows of others.

use std::process::ExitCode;

use base::config::DeclaredSettings;
use task::{Family, Registered};

mod reset_otx_daily_usage;
mod settings;
mod test_otx_connection;

use settings::NAME;
pub use settings::{Settings, ZONE};

/// The family and its tasks.
pub const FAMILY: Family = Family {
    tasks: &[
        Registered::of::<reset_otx_daily_usage::ResetOtxDailyUsage>(NAME),
        Registered::of::<test_otx_connection::TestOtxConnection>(NAME),
    ],
    settings: DeclaredSettings::of::<Settings>(),
    ..Family::named(NAME)
};

/// The `main` of each of the family's binaries.
pub fn main_of(task: &str) -> ExitCode {
    task::function::main_of(&FAMILY, task)
}
