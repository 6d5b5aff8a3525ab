//! What the family is called and given.

use base::config::Secret;
use url::Url;

/// The family's name, in ids of documents and sources too.
pub(crate) const NAME: &str = "malpedia";

base::settings! {
    /// Where Malpedia is, and what it is asked with.
    pub struct Settings {
        /// Malpedia, or a mirror of it.
        url: Option<Url> = "https://malpedia.caad.fkie.fraunhofer.de", "MALPEDIA_URL";
        /// Folder, or `s3://bucket/prefix`, that holds `families_enriched` and `actors_enriched`; Malpedia's API when unset.
        dir: Option<String> = "", "MALPEDIA_DIR", folder_or_bucket;
        /// Token for Malpedia's API. None is needed, and a wrong one is refused everywhere.
        token: Option<Secret<String>> = "", "MALPEDIA_API_TOKEN", key;
        /// Indices whose entries a language model enriches, separated by commas: `malpedia_library`, `rss_articles`, `caveiratech_news`, `otx_pulses`.
        enrich_indices: String = "malpedia_library", "ENRICH_INDICES", article_indices;
        /// Language of the summaries: `pt-BR` or `English`.
        enrich_language: String = "pt-BR", "ENRICH_LANGUAGE", summary_language;
        /// Whether the page of an entry that has little text is read for the model: `true` or `false`. What is enriched already stays.
        enrich_fetch: bool = "false", "ENRICH_FETCH";
    }
}
