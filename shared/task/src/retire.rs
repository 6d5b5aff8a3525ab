//! What a complete reading no longer holds, found in bounded memory: the ids that are there, sorted, beside the store's.
//!
//! Ids are digests in hexadecimal, and every store gives documents in the order of their ids. So the first half of each
//! digest is kept, in memory up to a limit and beyond it in sorted runs of one file without a name, and one walk over both
//! tells what is missing: 10 million values take 2 MiB and 160 MB of a temporary disk.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use base::{Error, Result};
use stores::documents::{Filter, Index, Owner, Pages, Scan, Write};

use crate::stop::Stop;
use crate::visit::Visit;

/// The first half of a SHA-256: of ten million ids two are alike with a chance of one in 10^24.
type Key = [u8; 16];

/// Keys held in memory before they are written to a file: 1 MiB.
const KEYS_MAX: usize = 1 << 16;

/// Keys of a run that are read back together: 4 KiB.
const READ: usize = 256;

/// Stored documents that are read together; they come without fields.
const PAGE: u32 = 2_000;

/// Documents that are marked together.
const BATCH: usize = 256;

/// Ids of marked documents that are named.
const NAMED_MAX: usize = 10;

/// The ids of all documents that a complete reading holds.
#[derive(Default)]
pub struct Present {
    keys: Vec<Key>,
    /// Ids that are no digests: those of documents that were adopted under their old ids.
    others: BTreeSet<String>,
    file: Option<File>,
    /// The bytes of each run in the file.
    runs: Vec<Range<u64>>,
}

/// What was marked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// How many documents.
    pub count: u64,
    /// The ids of the first of them.
    pub first: Vec<String>,
}

impl Present {
    /// Adds an id; twice is harmless.
    ///
    /// # Errors
    /// `Store`, when the temporary disk is full.
    pub fn add(&mut self, id: &str) -> Result<()> {
        let Some(key) = key(id) else {
            self.others.insert(id.to_owned());
            return Ok(());
        };
        self.keys.push(key);
        if self.keys.len() >= KEYS_MAX { self.spill().map_err(failed) } else { Ok(()) }
    }

    fn sort(&mut self) {
        self.keys.sort_unstable();
        self.keys.dedup();
    }

    fn spill(&mut self) -> std::io::Result<()> {
        self.sort();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        let bytes = self.keys.as_flattened();
        file.write_all(bytes)?;
        let from = self.runs.last().map_or(0, |run| run.end);
        self.runs.push(from..from + bytes.len() as u64);
        self.keys.clear();
        Ok(())
    }

    fn sorted(mut self) -> Result<Sorted> {
        self.sort();
        let memory = Run { keys: self.keys, place: 0, rest: 0..0 };
        let runs = self.runs.into_iter().map(|rest| Run { keys: Vec::new(), place: 0, rest });
        let mut sorted = Sorted {
            runs: std::iter::once(memory).chain(runs).collect(),
            file: self.file,
            heads: BinaryHeap::new(),
            others: self.others,
        };
        for run in 0..sorted.runs.len() {
            sorted.advance(run)?;
        }
        Ok(sorted)
    }
}

/// Keys in their order, a few at a time in memory.
struct Run {
    keys: Vec<Key>,
    place: usize,
    /// The bytes of the file that are still to be read.
    rest: Range<u64>,
}

/// Keys in their order, out of several runs.
struct Sorted {
    runs: Vec<Run>,
    file: Option<File>,
    heads: BinaryHeap<Reverse<(Key, usize)>>,
    others: BTreeSet<String>,
}

impl Sorted {
    /// Puts the next key of a run among the heads.
    fn advance(&mut self, number: usize) -> Result<()> {
        let run = &mut self.runs[number];
        if run.place == run.keys.len()
            && let Some(file) = &self.file
        {
            let left = usize::try_from(run.rest.end - run.rest.start).unwrap_or(usize::MAX);
            run.keys.resize(READ.min(left / size_of::<Key>()), Key::default());
            let bytes = run.keys.as_flattened_mut();
            file.read_exact_at(bytes, run.rest.start).map_err(failed)?;
            run.rest.start += bytes.len() as u64;
            run.place = 0;
        }
        if let Some(key) = run.keys.get(run.place) {
            run.place += 1;
            self.heads.push(Reverse((*key, number)));
        }
        Ok(())
    }

    /// Whether an id is among them; ids must be asked for in their order.
    fn has(&mut self, id: &str) -> Result<bool> {
        let Some(key) = key(id) else { return Ok(self.others.contains(id)) };
        while let Some(Reverse((head, run))) = self.heads.peek().copied() {
            if head >= key {
                return Ok(head == key);
            }
            self.heads.pop();
            self.advance(run)?;
        }
        Ok(false)
    }
}

fn key(id: &str) -> Option<Key> {
    let is_digest =
        id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_digest {
        return None;
    }
    let mut key = Key::default();
    for (place, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(id.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(key)
}

fn failed(cause: std::io::Error) -> Error {
    Error::store("sort the ids of what is there in the temporary folder")
        .because(cause)
        .hint("free some space there; what left the source is marked by the next run")
}

impl Visit<'_> {
    /// Marks the documents of `owner` that a complete reading no longer holds: those that `among` selects, are active, and are
    /// not `present`. Nothing is deleted. Gives how many were marked, and the ids of the first of them.
    ///
    /// # Errors
    /// `Store`, when documents can be neither read nor written.
    pub async fn retire(
        &mut self,
        index: &'static Index,
        owner: &'static Owner,
        contributor: Option<&str>,
        among: Vec<Filter>,
        present: Present,
    ) -> Result<Retired, Stop> {
        let mut present = present.sorted()?;
        let mut filters = among;
        filters.push(Filter::Terms("active".to_owned(), vec!["true".to_owned()]));
        let ctx = self.ctx();
        let scan = Scan { filters, fields: Some(Vec::new()), limit: PAGE, ..Scan::default() };
        let mut pages = Pages::new(ctx.documents.as_ref(), index, scan);
        let mut retired = Retired::default();
        let mut batch: Vec<Write> = Vec::with_capacity(BATCH);
        loop {
            let page = pages.next().await?;
            let is_last = page.is_none();
            for document in page.unwrap_or_default() {
                if !present.has(&document.id)? {
                    if retired.first.len() < NAMED_MAX {
                        retired.first.push(document.id.clone());
                    }
                    let contributor = contributor.map(ToOwned::to_owned);
                    batch.push(Write::retire(document.id, owner, contributor, ctx.now()));
                }
            }
            if batch.len() >= BATCH || (is_last && !batch.is_empty()) {
                retired.count += self.amend(index, &batch).await?;
                batch.clear();
            }
            if is_last {
                return Ok(retired);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> String {
        stores::documents::id(&["test", &number.to_string()])
    }

    #[test]
    fn what_is_present_is_found_in_memory_and_in_files() {
        let mut present = Present::default();
        let mut ids: Vec<String> = (0..900).map(id).collect();
        for (place, id) in ids.iter().enumerate() {
            present.add(id).unwrap();
            present.add(id).unwrap();
            // Runs that are read in several parts, and one in one.
            if [700, 750].contains(&place) {
                present.spill().unwrap();
            }
        }
        present.add("an old id").unwrap();
        ids.extend((900..1_000).map(id));
        ids.sort_unstable();
        let mut sorted = present.sorted().unwrap();
        let missing = ids.iter().filter(|id| !sorted.has(id).unwrap()).count();
        assert_eq!(missing, 100);
        assert!(sorted.has("an old id").unwrap() && !sorted.has("another").unwrap());
    }
}
