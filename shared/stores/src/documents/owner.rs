//! Who writes a document, and which of its fields.

use std::collections::BTreeSet;

use super::contributions::Contributions;
use super::document::Body;

/// Who writes, and what belongs to it. Field names are top-level.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The writer's name, stable for ever: it stands in stored documents.
    pub name: &'static str,
    /// Fields of its own. What a write leaves out becomes null, so nothing removed upstream lingers. `content_hash`, where
    /// it stands here or among `insert_only`, is set by [`plan`](super::plan()).
    pub fields: &'static [&'static str],
    /// Fields of its own that may differ without the document counting as changed (fetch times, counters, feed titles).
    /// They are written when something else changes.
    pub unhashed: &'static [&'static str],
    /// Fields of its own that the hash leaves out while they are null: those that were added after documents had been stored,
    /// which keep their hashes so.
    pub optional: &'static [&'static str],
    /// Owners of the same fields that write in its place, such as another way to the same source. What one of them gave stays
    /// while this one has nothing (null, an empty text or list) to say of it, and the other way round.
    pub alternatives: &'static [&'static str],
    /// Fields that the first write sets for good.
    pub insert_only: &'static [&'static str],
    /// Fields that, when the write has null, take the value of another field of the document.
    pub fallback: &'static [(&'static str, &'static str)],
    /// Lists that several writers share.
    pub shared: &'static [&'static str],
    /// Keys of contributed objects that, when the write has null, stay as they stand, and at first take the value of a field of
    /// this write: since when a source gives what it does not date.
    pub kept: &'static [(&'static str, &'static str)],
    /// Fields that follow from all contributions to shared lists, of whichever writer.
    pub derived: &'static [&'static str],
    /// How they follow, purely; what it leaves out becomes null. Asked after each change that this owner makes.
    pub derive: Option<fn(&Contributions<'_>) -> Body>,
}

impl Owner {
    /// An owner of nothing, for the rest of a declaration.
    pub const fn named(name: &'static str) -> Self {
        Self {
            name,
            fields: &[],
            unhashed: &[],
            optional: &[],
            alternatives: &[],
            insert_only: &[],
            fallback: &[],
            shared: &[],
            kept: &[],
            derived: &[],
            derive: None,
        }
    }

    /// Every field that it may set.
    pub fn declared(&self) -> BTreeSet<&'static str> {
        let lists = [self.fields, self.insert_only, self.shared, self.derived];
        let fallback = self.fallback.iter().map(|(name, _)| *name);
        lists.into_iter().flatten().copied().chain(fallback).collect()
    }

    /// Every field that it may set, without a list of them.
    pub(super) fn declares(&self, name: &str) -> bool {
        [self.fields, self.insert_only, self.shared, self.derived]
            .iter()
            .any(|list| list.contains(&name))
            || self.fallback.iter().any(|(target, _)| *target == name)
    }
}
