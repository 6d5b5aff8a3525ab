//! Indicators of compromise: one vocabulary, validation, refanging, normal form, and finding them in free text.
//!
//! - [`IndicatorKind`] names what an indicator is, spelt as it is stored.
//! - [`parse`] reads one value of a feed, plain or defanged, and gives its normal form beside the value as given.
//! - [`refang()`] undoes defanging in a text.
//! - [`extract()`] finds the indicators and CVE numbers of an article; its module states what counts and what does not.
//! - [`InArticle`] is what all texts of an article name.
//! - [`NameParts`] are the parts of a name by the public suffix list, [`unicode_name`] is what people read.
//! - [`warninglist`] tells which are known and mostly harmless.
//!
//! Equal things get equal values whatever source they came from, so `(kind, value)` identifies an indicator.

mod article;
mod extract;
mod files;
mod kind;
mod letters;
mod normal;
mod refang;
mod triggers;
pub mod warninglist;

use serde::{Deserialize, Serialize};

pub use article::{CVES_MAX, IOCS_MAX, InArticle};
pub use extract::{Extraction, MAX_CVES, MAX_INDICATORS, extract};
pub use kind::{IndicatorKind, UnknownKind};
pub use normal::{MAX_VALUE_BYTES, NameParts, Rejected, host_of_url, parse, unicode_name};
pub use refang::refang;

/// Top levels outside the DNS root that malware uses: Tor, I2P, Namecoin, Emercoin, `OpenNIC`.
const OTHER_TOP_LEVELS: [&str; 8] = ["onion", "i2p", "bit", "bazar", "coin", "emc", "lib", "libre"];

/// One indicator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Indicator {
    /// What it is.
    pub kind: IndicatorKind,
    /// Its normal form.
    pub value: String,
    /// As it was given.
    pub raw: String,
}
