//! The Traffic Light Protocol: how far what was said may be passed on.

use serde::{Deserialize, Serialize};

/// A marking of version 2.0 of the protocol; the milder ones are smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tlp {
    /// For everyone; `white` in version 1.
    Clear,
    /// Within the community.
    Green,
    /// Within the organisation and its clients.
    Amber,
    /// Within the organisation.
    #[serde(rename = "amber+strict")]
    AmberStrict,
    /// For the recipients alone.
    Red,
}

impl Tlp {
    /// Every marking, the mildest first.
    pub const ALL: [Self; 5] =
        [Self::Clear, Self::Green, Self::Amber, Self::AmberStrict, Self::Red];

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Green => "green",
            Self::Amber => "amber",
            Self::AmberStrict => "amber+strict",
            Self::Red => "red",
        }
    }

    /// As the Elastic Common Schema spells it.
    pub const fn ecs(self) -> &'static str {
        match self {
            Self::Clear => "CLEAR",
            Self::Green => "GREEN",
            Self::Amber => "AMBER",
            Self::AmberStrict => "AMBER+STRICT",
            Self::Red => "RED",
        }
    }

    /// Reads a marking as sources write it: `TLP:White`, `tlp:amber+strict`, `clear`. A word behind `tlp:` that is none is the
    /// strictest, as nobody must be shown too much for a slip of the pen; any other text is no marking.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let (word, is_marking) = match text.strip_prefix("tlp:") {
            Some(word) => (word.trim_matches([' ', '"']), true),
            None => (text.as_str(), false),
        };
        let word = match word {
            "white" => "clear",
            // Names of MISP's taxonomy for the same marking and for its exercises.
            "amber-strict" | "amber strict" => "amber+strict",
            word => word,
        };
        let known = Self::ALL.into_iter().find(|tlp| tlp.as_str() == word);
        known.or_else(|| is_marking.then_some(Self::Red))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_the_protocol_are_read_and_no_slip_opens_anything() {
        for tlp in Tlp::ALL {
            assert_eq!(serde_json::to_value(tlp).unwrap(), tlp.as_str());
            assert_eq!(Tlp::read(&format!(" TLP:{}", tlp.ecs())), Some(tlp));
        }
        assert_eq!(Tlp::read("white"), Some(Tlp::Clear));
        assert_eq!(Tlp::read("tlp:amber-strict"), Some(Tlp::AmberStrict));
        assert_eq!(Tlp::read("tlp:ambre"), Some(Tlp::Red));
        assert_eq!(Tlp::read("misp-galaxy:tool"), None);
        assert_eq!(Tlp::read(""), None);
    }
}
