//! The family's sources, which are fixed, and what `doctor` asks of it.

use base::Result;
use base::config::Config;
use task::catalog::{Check, SourceCatalog, SourceEntry};

use crate::bulk_enrich_iocs::Enriching;
use crate::export_pulses_to_misp::Export;
use crate::settings::{FEED, Settings};
use crate::sync::Pulses;

/// The list for those who serve every family.
pub(crate) const CATALOG: SourceCatalog =
    SourceCatalog { list: |config, _| Box::pin(async move { list(config) }), edit: None };

fn list(config: &Config) -> Result<Vec<SourceEntry>> {
    let settings: Settings = config.of()?;
    let entry = |id: &str, path: &str| -> Result<SourceEntry> {
        Ok(SourceEntry {
            id: id.to_owned(),
            name: format!("{FEED}, {id}"),
            url: Some(settings.address(path)?),
            category: None,
            language: None,
            enabled: true,
        })
    };
    let mut all =
        vec![entry(Pulses::ID, "pulses/subscribed")?, entry(Enriching::ID, "indicators")?];
    if settings.misp_url.is_some() || settings.misp_export.is_some() {
        all.push(SourceEntry {
            id: Export::ID.to_owned(),
            name: "pulses, given out as MISP events".to_owned(),
            url: settings.misp_url.clone(),
            category: None,
            language: None,
            enabled: true,
        });
    }
    Ok(all)
}

/// What `doctor` asks.
pub(crate) const CHECKS: &[Check] =
    &[Check { about: "OTX's keys", look: |config| Box::pin(async { keys(config) }) }];

fn keys(config: &Config) -> Result<Option<String>> {
    let settings: Settings = config.of()?;
    let (base, count) = (settings.address("")?, settings.pool()?.ids().count());
    let base = base::address::shown(&base);
    Ok(Some(match count {
        0 => format!("`{base}`, no key: pulses are not synced until `OTX_API_KEY` is set"),
        count => format!("`{base}`, {count} of at most {} requests a day", settings.daily_limit),
    }))
}
