//! What the family is called and given, and its keys as a pool.

use base::config::Secret;
use base::{Error, Result};
use jiff::tz::TimeZone;
use task::KeyPool;
use url::Url;

/// The family's name, in ids of documents and sources too.
pub(crate) const NAME: &str = "otx";

/// What the feed is called.
pub(crate) const FEED: &str = "AlienVault OTX";

/// The header that a key is sent in.
const HEADER: &str = "x-otx-api-key";

/// The zone whose midnight begins a day of the keys: that of the timetable, by which `reset_otx_daily_usage` runs.
pub const ZONE: &str = "America/Sao_Paulo";

base::settings! {
    /// Where OTX is, and what it is asked with.
    pub struct Settings {
        /// OTX, or a mirror of it.
        url: Option<Url> = "https://otx.alienvault.com", "OTX_URL";
        /// Keys for OTX's API, several separated by commas; they are used in turn, the least used first.
        keys: Option<Secret<String>> = "", "OTX_API_KEY", keys;
        /// Requests that each key may make in a day; OTX allows about 10,000.
        daily_limit: u32 = "9000", "OTX_DAILY_LIMIT";
        /// A MISP server that pulses are exported to, as `https://misp.example.org`; `MISP_KEY` belongs to it.
        misp_url: Option<Url> = "", "MISP_URL";
        /// Key of a user of that server who may add events.
        misp_key: Option<Secret<String>> = "", "MISP_KEY", key;
        /// Folder, or `s3://bucket/prefix`, in which exported pulses stand as a feed that MISP reads.
        misp_export: Option<String> = "", "MISP_EXPORT", folder_or_bucket;
        /// Whom the server shows exported events: 0 the organisation, 1 its community, 2 connected ones, 3 all.
        misp_distribution: u32 = "0", "MISP_DISTRIBUTION", distribution;
        /// Indicators that one run of `bulk_enrich_iocs` asks for; each takes up to eight requests.
        enrich_limit: u32 = "200", "OTX_ENRICH_LIMIT";
        /// Days before an indicator is asked for again, whether OTX had something on it or not; 0 asks each time.
        enrich_days: u32 = "7", "OTX_ENRICH_DAYS";
    }
}

impl Settings {
    /// The address of a path of the API's first version.
    ///
    /// # Errors
    /// `Config`, where there is none.
    pub(crate) fn address(&self, path: &str) -> Result<Url> {
        let base = self.url.as_ref().ok_or_else(|| {
            Error::config("find OTX: `OTX_URL` is empty").hint("leave it unset for the public one")
        })?;
        let text = format!("{}/api/v1/{path}", base.as_str().trim_end_matches('/'));
        Url::parse(&text)
            .map_err(|cause| Error::config(format!("build the address `{text}`")).because(cause))
    }

    /// The keys, each once, in the order in which they were given.
    fn secrets(&self) -> Vec<Secret<String>> {
        let all = self.keys.as_ref().map(|keys| keys.expose().as_str()).unwrap_or_default();
        let mut keys: Vec<&str> = Vec::new();
        for key in all.split(',').map(str::trim).filter(|key| !key.is_empty()) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys.into_iter().map(|key| Secret::new(key.to_owned())).collect()
    }

    /// The keys as a pool, which is empty where none is set.
    ///
    /// # Errors
    /// `Config`, where the zone of its days is unknown.
    pub(crate) fn pool(&self) -> Result<KeyPool> {
        let zone = TimeZone::get(ZONE)
            .map_err(|cause| Error::config(format!("find the zone `{ZONE}`")).because(cause))?;
        Ok(KeyPool::new(NAME, HEADER, self.secrets(), self.daily_limit, zone))
    }

    /// The keys as a pool that has one at least.
    ///
    /// # Errors
    /// `Config`, where none is set.
    pub(crate) fn pool_of_some(&self) -> Result<KeyPool> {
        if self.secrets().is_empty() {
            return Err(Error::config("ask OTX: `OTX_API_KEY` is unset").hint(
                "set it to the key of your account, which otx.alienvault.com/api shows; several are separated by commas",
            ));
        }
        self.pool()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_apart_and_each_counts_once() {
        let of = |text: &str| {
            let keys = Some(Secret::new(text.to_owned()));
            let settings = Settings { keys, ..Settings::default() };
            settings.secrets().iter().map(|key| key.expose().clone()).collect::<Vec<_>>()
        };
        assert_eq!(of("a, b,,a,"), ["a", "b"]);
        assert!(of(" , ").is_empty());
    }

    #[test]
    fn no_key_is_a_setting_to_set() {
        let error = Settings::default().pool_of_some().err().expect("there is no key");
        assert_eq!(error.class(), base::Class::Config);
        assert!(error.to_string().contains("OTX_API_KEY"), "{error}");
    }
}
