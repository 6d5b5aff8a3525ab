//! Which store this is, and how far it is: what a task remembers of a source holds only while the store holds what was
//! written to it.

use serde::{Deserialize, Serialize};

/// An index as it is in one store at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Another one when the index, or the file it is in, was made anew.
    pub store: String,
    /// How many writes the index has seen.
    pub sequence: u64,
    /// How many documents it holds.
    pub documents: u64,
}

impl Identity {
    /// Whether what stood there at `earlier` stands there no longer: the index was made anew, an older state of it was
    /// brought back, or it was emptied.
    pub fn has_lost(&self, earlier: &Self) -> bool {
        self.store != earlier.store
            || self.sequence < earlier.sequence
            || (self.documents == 0 && earlier.documents > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_lost_when_it_is_another_an_older_or_an_empty_one() {
        let at = |store: &str, sequence, documents| Identity {
            store: store.to_owned(),
            sequence,
            documents,
        };
        let earlier = at("a", 10, 5);
        for (now, expected) in [
            (at("a", 10, 5), false),
            (at("a", 12, 4), false),
            (at("b", 10, 5), true),
            (at("a", 9, 5), true),
            (at("a", 15, 0), true),
        ] {
            assert_eq!(now.has_lost(&earlier), expected, "{now:?}");
        }
        assert!(!at("a", 0, 0).has_lost(&at("a", 0, 0)));
    }
}
