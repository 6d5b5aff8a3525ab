//! Stand-ins for the sources of all families at once, and the settings under which all 27 tasks read them.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::fmt::Write as _;

use local_runner::StandIns;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::contract::{Fixture, fixture};
use crate::home::Upstream;

/// The feed that `sync_single_feed` is asked for.
pub(crate) const FEED: &str = "emotet";

/// What the demo has not, by the contract's fixtures of these: all of OTX, as indicators are asked about singly there, and
/// Malpedia's feed and library.
const BY_FIXTURES: [&str; 4] = [
    "bulk_enrich_iocs",
    "check_malpedia_status",
    "sync_malpedia_library_full",
    "test_otx_connection",
];

/// The demo's sources, and beside them those of the fixtures.
pub(crate) struct Sources {
    bundled: StandIns,
    folder: TempDir,
    _further: Upstream,
    settings: Vec<(String, String)>,
    // Last, as the others are served by it.
    _runtime: Runtime,
}

impl Sources {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let bundled = runtime.block_on(StandIns::start(folder.path())).unwrap();
        let further = Upstream::start(1);
        for task in BY_FIXTURES {
            for (path, body) in Fixture::read(&fixture(task)).bodies() {
                further.body(path.trim_start_matches('/'), body);
            }
        }
        let moved = ["OTX_URL", "MALPEDIA_URL"];
        let mut settings: Vec<(String, String)> = bundled
            .settings()
            .iter()
            .filter(|(name, _)| !moved.contains(name))
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        settings.extend(moved.map(|name| (name.to_owned(), further.origin())));
        // Each costs a pause, and few tell as much as many.
        settings.push(("OTX_ENRICH_LIMIT".to_owned(), "10".to_owned()));
        Self { bundled, folder, _further: further, settings, _runtime: runtime }
    }

    /// Adds feeds to the list of sources.
    pub(crate) fn add_feeds(&self, feeds: &[(String, String)]) {
        let path = self.folder.path().join("sources.toml");
        let list = std::fs::read_to_string(&path).unwrap();
        let list = feeds.iter().fold(list, |mut list, (id, url)| {
            let _ = write!(
                list,
                "[[source]]\nid = {id:?}\nname = {id:?}\nurl = {url:?}\ncategory = \"news\"\n\n"
            );
            list
        });
        std::fs::write(path, list).unwrap();
    }

    /// The settings of a home that has these of its own; what is exported goes to `export`.
    pub(crate) fn settings(
        &self,
        export: &std::path::Path,
        own: &[(String, String)],
    ) -> Vec<(String, String)> {
        let export = ("MISP_EXPORT".to_owned(), export.to_str().unwrap().to_owned());
        [self.settings.clone(), vec![export], own.to_vec()].concat()
    }

    /// Lets them live on to a slot of their day, of which it has twelve.
    pub(crate) fn advance(&self, slot: usize) {
        self.bundled.advance(slot);
    }
}
