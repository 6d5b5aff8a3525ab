//! Everything that the timetable reads, on loopback, and the settings that name it: for the demo, and for measuring a replay.

use std::path::Path;
use std::time::Duration;

use base::{Error, Result};

use super::malpedia;
use super::upstream::Upstream;
use crate::model_stand_in::{Behaviour, ModelStandIn};

/// Settings by which an operator's own model, library or proxy would be asked.
const KEYS: [&str; 6] = [
    "LLM_API_KEY",
    "OPENAI_API_KEY",
    "DATABRICKS_HOST",
    "DATABRICKS_TOKEN",
    "ANTHROPIC_API_KEY",
    "MALPEDIA_API_TOKEN",
];

/// The bundled sources, the library and a language model, served for as long as this lives.
pub struct StandIns {
    upstream: Upstream,
    _model: ModelStandIn,
    settings: Vec<(&'static str, String)>,
}

impl StandIns {
    /// Serves them on free ports, and writes the lists that name them into `folder`.
    ///
    /// # Errors
    /// `Config`, when loopback or the folder cannot be used.
    pub async fn start(folder: &Path) -> Result<Self> {
        let upstream = Upstream::start()
            .await
            .map_err(|cause| Error::config("serve the bundled feeds on loopback").because(cause))?;
        let model = ModelStandIn::start(Behaviour::Good(Duration::ZERO))
            .await
            .map_err(|cause| Error::config("play a language model on loopback").because(cause))?;
        let list = |name: &str, text: String| -> Result<String> {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|cause| {
                Error::config(format!("write `{}`", path.display())).because(cause)
            })?;
            Ok(absolute(&path))
        };
        let library = folder.join("malpedia");
        malpedia::write(&library)?;
        let mut settings = vec![
            ("RSS_SOURCES", list("sources.toml", upstream.rss_sources())?),
            ("MISP_FEEDS", list("feeds.toml", upstream.misp_feeds())?),
            ("SIGNATURE_BASE_URL", upstream.url("signature-base.tar.gz")),
            ("OTX_URL", upstream.url("")),
            ("OTX_API_KEY", "demo".to_owned()),
            ("CAVEIRATECH_URL", upstream.url("caveiratech/")),
            ("CAVEIRATECH_GAP_MS", "0".to_owned()),
            ("MALPEDIA_URL", upstream.url("malpedia/")),
            ("MALPEDIA_DIR", absolute(&library)),
            ("LLM_PROVIDER", "compatible".to_owned()),
            ("LLM_URL", model.url()),
            ("LLM_MODEL", "stand-in".to_owned()),
            ("MINERVA_ALLOW_NETS", "127.0.0.0/8".to_owned()),
            ("MINERVA_ARCHIVE", String::new()),
        ];
        // Nor does it spend an operator's key.
        settings.extend(KEYS.map(|name| (name, String::new())));
        Ok(Self { upstream, _model: model, settings })
    }

    /// The settings under which tasks read nothing else; an empty one is unset. Where they store is for the caller to say.
    pub fn settings(&self) -> &[(&'static str, String)] {
        &self.settings
    }

    /// Lets the sources live on to a slot of the demo's first day, 0 to 11.
    pub fn advance(&self, slot: usize) {
        self.upstream.advance(slot);
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).to_string_lossy().into_owned()
}
