//! Whom a reference means: what is known of it beside its texts, then the names in them.

use std::collections::BTreeSet;

use crate::index::{Names, SubjectKind};

/// What a library says of a reference by itself: ids and names of families and actors.
#[derive(Clone, Debug, Default)]
pub struct KnownSubjects<'a> {
    /// Of families.
    pub families: Vec<&'a str>,
    /// Of actors.
    pub actors: Vec<&'a str>,
}

/// Whom a reference means; places in [`Names::subjects`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Linked {
    /// By what is known, or by a name that counts.
    pub meant: BTreeSet<u32>,
    /// By a name that may be the word: for whoever reads the text to decide.
    pub possible: BTreeSet<u32>,
}

impl Names {
    /// Whom a reference means, by what is known of it and by its texts, each looked at by itself.
    pub fn link(&self, known: &KnownSubjects<'_>, texts: &[&str]) -> Linked {
        let mut linked = Linked::default();
        for name in &known.families {
            linked.meant.extend(self.named(SubjectKind::Family, name));
        }
        for name in &known.actors {
            linked.meant.extend(self.named(SubjectKind::Actor, name));
        }
        let found: Vec<_> = texts.iter().flat_map(|text| self.find(text)).collect();
        for one in found.iter().filter(|one| one.counts) {
            // What is known tells namesakes apart.
            let is_known = one.subjects.iter().any(|subject| linked.meant.contains(subject));
            if !is_known {
                linked.meant.extend(&one.subjects);
            }
        }
        for one in found.iter().filter(|one| !one.counts) {
            linked
                .possible
                .extend(one.subjects.iter().filter(|subject| !linked.meant.contains(subject)));
        }
        linked
    }

    /// The names of these, as documents have them, sorted and each once.
    pub fn names_of<'a>(
        &'a self,
        kind: SubjectKind,
        subjects: impl IntoIterator<Item = &'a u32>,
    ) -> Vec<&'a str> {
        let of_kind = subjects
            .into_iter()
            .map(|at| &self.subjects()[*at as usize])
            .filter(|one| one.kind == kind);
        let names: BTreeSet<&str> = of_kind.map(|one| one.name.as_str()).collect();
        names.into_iter().collect()
    }
}
