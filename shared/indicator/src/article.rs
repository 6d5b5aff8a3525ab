//! What an article names: CVE numbers and indicators of all its texts together, in the form of documents.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Value, json};

use crate::{Indicator, MAX_CVES, MAX_INDICATORS, extract};

/// CVE numbers of an article at most.
pub const CVES_MAX: usize = 1000;
/// Indicators of an article at most.
pub const IOCS_MAX: usize = 2000;
/// Longer values are no indicators that a keyword takes.
const VALUE_MAX: usize = 8191;

/// CVE numbers and indicators, each once, in the order in which they appear.
#[derive(Debug, Default)]
pub struct InArticle {
    pub cves: Vec<String>,
    pub indicators: Vec<Indicator>,
    /// Which lists are not whole: `cves`, `iocs`.
    pub cut: BTreeSet<&'static str>,
}

impl InArticle {
    /// Those of the texts; one that stands twice is read once.
    pub fn of(texts: &[&str]) -> Self {
        let mut found = Self::default();
        let (mut seen_cves, mut seen) = (HashSet::new(), HashSet::new());
        for (place, text) in texts.iter().enumerate() {
            if text.is_empty() || texts[..place].contains(text) {
                continue;
            }
            let extraction = extract(text);
            if extraction.left_out > 0 {
                found.cut.extend((extraction.cves.len() == MAX_CVES).then_some("cves"));
                found.cut.extend((extraction.indicators.len() == MAX_INDICATORS).then_some("iocs"));
            }
            for cve in extraction.cves {
                if seen_cves.contains(&cve) {
                    continue;
                }
                if found.cves.len() == CVES_MAX {
                    found.cut.insert("cves");
                    break;
                }
                seen_cves.insert(cve.clone());
                found.cves.push(cve);
            }
            for indicator in extraction.indicators {
                let key = (indicator.kind, indicator.value.clone());
                if seen.contains(&key) {
                    continue;
                }
                let is_long = indicator.raw.len().max(indicator.value.len()) > VALUE_MAX;
                if is_long || found.indicators.len() == IOCS_MAX {
                    found.cut.insert("iocs");
                    continue;
                }
                seen.insert(key);
                found.indicators.push(indicator);
            }
        }
        found
    }

    /// The indicators as a document's `iocs`.
    pub fn iocs(&self) -> Value {
        let shown = |one: &Indicator| json!({"type": one.kind, "value": one.value, "raw": one.raw});
        self.indicators.iter().map(shown).collect()
    }
}
