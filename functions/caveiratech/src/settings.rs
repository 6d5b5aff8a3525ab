//! What the family is called and given, and its one source for those who serve every family.

use base::config::Config;
use base::{Error, Result};
use task::catalog::{Check, SourceCatalog, SourceEntry};
use url::Url;

/// The family's name, in ids of documents and sources too.
pub(crate) const NAME: &str = "caveiratech";

/// What the site is called.
pub(crate) const FEED: &str = "CaveiraTech";

/// The id of the one source.
pub(crate) const SOURCE: &str = "posts";

base::settings! {
    /// Where CaveiraTech is, and how often it is asked.
    pub struct Settings {
        /// CaveiraTech, or a mirror of it.
        url: Option<Url> = "https://caveiratech.com", "CAVEIRATECH_URL";
        /// Milliseconds between two requests, which `robots.txt` may lengthen; less than 1000 is for a mirror of your own.
        gap_ms: u32 = "1000", "CAVEIRATECH_GAP_MS";
    }
}

impl Settings {
    /// The address of the home page, which ends in a slash.
    ///
    /// # Errors
    /// `Config`, where there is none.
    pub(crate) fn home(&self) -> Result<Url> {
        let mut url = self.url.clone().ok_or_else(|| {
            Error::config("find CaveiraTech: `CAVEIRATECH_URL` is empty")
                .hint("leave it unset for the public site")
        })?;
        url.set_fragment(None);
        url.set_query(None);
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(url)
    }
}

/// The list for those who serve every family.
pub(crate) const CATALOG: SourceCatalog =
    SourceCatalog { list: |config, _| Box::pin(async move { list(config) }), edit: None };

fn list(config: &Config) -> Result<Vec<SourceEntry>> {
    let settings: Settings = config.of()?;
    Ok(vec![SourceEntry {
        id: SOURCE.to_owned(),
        name: format!("{FEED}, posts"),
        url: Some(settings.home()?),
        category: None,
        language: Some("pt".to_owned()),
        enabled: true,
    }])
}

/// What `doctor` asks.
pub(crate) const CHECKS: &[Check] =
    &[Check { about: "CaveiraTech", look: |config| Box::pin(async { look(config) }) }];

fn look(config: &Config) -> Result<Option<String>> {
    let settings: Settings = config.of()?;
    let home = base::address::shown(&settings.home()?);
    let pace = if settings.gap_ms < 1000 {
        ", which is for a mirror of your own: the public site gets one a second"
    } else {
        ""
    };
    Ok(Some(format!("`{home}`, a request every {} ms at most{pace}", settings.gap_ms)))
}
