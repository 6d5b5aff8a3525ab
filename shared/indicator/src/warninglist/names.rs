//! Names and whole values of all lists in one table, compactly: a list may have a million.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use super::Subject;

/// No further list has the text.
const LAST: u32 = u32::MAX;

/// A text of one list.
#[derive(Clone, Copy, Debug)]
struct Name {
    start: u32,
    bytes: u16,
    list: u16,
    /// Whether what is below it is meant too.
    is_suffix: bool,
    /// The same text in another list.
    next: u32,
}

/// Which lists have a text.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    all: Vec<Name>,
    /// The newest of each text.
    table: HashTable<u32>,
    /// Keyed anew in each process, so that nobody can make texts that meet.
    hasher: RandomState,
}

impl Names {
    /// Adds a text of a list, at most 64 KiB long.
    pub(super) fn add(&mut self, text: &str, list: u16, is_suffix: bool) {
        let Self { text: texts, all, table, hasher } = self;
        let (Ok(start), Ok(bytes), Ok(place)) =
            (u32::try_from(texts.len()), u16::try_from(text.len()), u32::try_from(all.len()))
        else {
            return;
        };
        let of = |place: u32| all.get(place as usize).map_or("", |name| shown(texts, *name));
        let hash = hasher.hash_one(text);
        let found = table.find_mut(hash, |known| of(*known) == text);
        let mut name = Name { start, bytes, list, is_suffix, next: LAST };
        match found {
            Some(newest) => {
                if let Some(known) = all.get(*newest as usize) {
                    if known.list == list && known.is_suffix == is_suffix {
                        return;
                    }
                    name.start = known.start;
                }
                name.next = std::mem::replace(newest, place);
            }
            None => {
                table.insert_unique(hash, place, |known| hasher.hash_one(of(*known)));
                texts.push_str(text);
            }
        }
        all.push(name);
    }

    /// Calls `take` with each list that has the value, its host, or a name above its host.
    pub(super) fn find(&self, subject: &Subject<'_>, mut take: impl FnMut(u16)) {
        self.get(&subject.text, |name| take(name.list));
        let Some(host) = &subject.host else { return };
        if *host != subject.text {
            self.get(host, |name| take(name.list));
        }
        // No name is longer (RFC 1035 §2.3.4); each label costs a look at all that is above it.
        const NAME_BYTES_MAX: usize = 253;
        if subject.range.is_some() || host.len() > NAME_BYTES_MAX {
            return;
        }
        let mut rest = host.as_ref();
        while let Some((_, above)) = rest.split_once('.') {
            self.get(above, |name| {
                if name.is_suffix {
                    take(name.list);
                }
            });
            rest = above;
        }
    }

    fn get(&self, text: &str, mut take: impl FnMut(&Name)) {
        let of =
            |place: u32| self.all.get(place as usize).map_or("", |name| shown(&self.text, *name));
        let found = self.table.find(self.hasher.hash_one(text), |known| of(*known) == text);
        let mut next = found.copied().unwrap_or(LAST);
        while let Some(name) = self.all.get(next as usize) {
            take(name);
            next = name.next;
        }
    }
}

fn shown(texts: &str, name: Name) -> &str {
    let start = name.start as usize;
    texts.get(start..start + usize::from(name.bytes)).unwrap_or_default()
}
