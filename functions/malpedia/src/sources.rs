//! The family's sources, which are fixed, and what `doctor` asks of them.

use base::Result;
use base::config::Config;
use stores::documents::{Index, MALWARE_FAMILIES};
use task::Source as _;
use task::catalog::{Check, SourceCatalog, SourceEntry};
use task::files::{Files, Found};
use url::Url;
use yara::document::INDEX as RULES;

use crate::api::Api;
use crate::reference::INDEX as LIBRARY;
use crate::settings::{NAME, Settings};

/// Where actors are stored.
pub(crate) const ACTORS: &str = "malpedia_actors";

/// Where files of families are, below `MALPEDIA_DIR`.
pub(crate) const FAMILIES_FOLDER: &str = "families_enriched";
/// Where files of actors are.
pub(crate) const ACTORS_FOLDER: &str = "actors_enriched";

/// A source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The feed of what is new in the library.
    LibraryRss,
    /// What references are about: read for the bibliography, which comes next.
    References,
    /// The bibliography: the whole library.
    LibraryBibtex,
    /// Malware families.
    Families,
    /// Their YARA rules, out of the families that are stored or from the API.
    Rules,
    /// Actors.
    Actors,
}

impl Source {
    const ALL: [Self; 6] = [
        Self::LibraryRss,
        Self::References,
        Self::LibraryBibtex,
        Self::Families,
        Self::Rules,
        Self::Actors,
    ];

    /// The name of its state.
    pub(crate) fn state(self) -> String {
        format!("{NAME}/{}", self.id())
    }

    pub(crate) fn index(self) -> Result<&'static Index> {
        Index::named(self.indices()[0])
    }

    /// The path of its address below `MALPEDIA_URL`; of rules, a day follows.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::LibraryRss => "feeds/rss/latest",
            Self::References => "api/get/references",
            Self::LibraryBibtex => "library/download",
            Self::Families => "api/get/families",
            Self::Rules => "api/get/yara/after",
            Self::Actors => "api/get/actors",
        }
    }

    /// The folder of its files below `MALPEDIA_DIR`, where it can come from there.
    fn folder(self) -> Option<&'static str> {
        match self {
            Self::LibraryRss | Self::References | Self::LibraryBibtex => None,
            Self::Families | Self::Rules => Some(FAMILIES_FOLDER),
            Self::Actors => Some(ACTORS_FOLDER),
        }
    }

    /// Its files, whatever else lies beside them; none where it cannot come from there.
    pub(crate) async fn files(self, files: &Files) -> Result<Vec<Found>> {
        let Some(folder) = self.folder() else { return Ok(Vec::new()) };
        let mut listing = files.list(folder).await?;
        listing.retain(|file| file.name.to_ascii_lowercase().ends_with(".json"));
        Ok(listing)
    }
}

/// Where records come from.
pub(crate) enum CatalogueOrigin {
    /// A folder or bucket.
    Files(String),
    Api(Api),
}

impl CatalogueOrigin {
    pub(crate) fn of(settings: Settings) -> Result<Self> {
        Ok(match settings.dir {
            Some(place) => Self::Files(place),
            None => Self::Api(Api::of(&settings)?),
        })
    }
}

impl task::Source for Source {
    fn id(&self) -> &str {
        match self {
            Self::LibraryRss => "library_rss",
            Self::References => "references",
            Self::LibraryBibtex => "library_bibtex",
            Self::Families => "families",
            Self::Rules => "rules",
            Self::Actors => "actors",
        }
    }

    fn indices(&self) -> &'static [&'static str] {
        match self {
            Self::LibraryRss | Self::References | Self::LibraryBibtex => &[LIBRARY],
            Self::Families => &[MALWARE_FAMILIES],
            Self::Rules => &[RULES],
            Self::Actors => &[ACTORS],
        }
    }
}

/// The list for those who serve every family.
pub(crate) const CATALOG: SourceCatalog =
    SourceCatalog { list: |config, _| Box::pin(async move { list(config) }), edit: None };

fn list(config: &Config) -> Result<Vec<SourceEntry>> {
    let settings: Settings = config.of()?;
    let api = Api::of(&settings)?;
    let entry = |source: Source| {
        Ok(SourceEntry {
            id: source.id().to_owned(),
            name: format!("Malpedia, {}", source.id().replace('_', " ")),
            // A folder of this machine has no address.
            url: match (&settings.dir, source.folder()) {
                (Some(place), Some(folder)) => Url::parse(&format!("{place}/{folder}")).ok(),
                _ => Some(api.url(source.path())?),
            },
            category: None,
            language: None,
            enabled: true,
        })
    };
    Source::ALL.into_iter().map(entry).collect()
}

/// What `doctor` asks.
pub(crate) const CHECKS: &[Check] = &[
    Check { about: "Malpedia's API", look: |config| Box::pin(async { api(config) }) },
    Check { about: "Malpedia's files", look: |config| Box::pin(files(config)) },
    llm::CHECK,
];

fn api(config: &Config) -> Result<Option<String>> {
    let api = Api::of(&config.of()?)?;
    let token = if api.has_token() { "with a token" } else { "without a token" };
    Ok(Some(format!("`{}`, {token}", base::address::shown(&api.base))))
}

async fn files(config: &Config) -> Result<Option<String>> {
    let Some(place) = config.of::<Settings>()?.dir else { return Ok(None) };
    let files = Files::at(&place, config)?;
    let families = Source::Families.files(&files).await?.len();
    let actors = Source::Actors.files(&files).await?.len();
    Ok(Some(format!("`{place}`: {families} families, {actors} actors")))
}
