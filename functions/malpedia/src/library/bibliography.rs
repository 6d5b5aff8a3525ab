//! The bibliography: the whole library, and what left it.

use std::sync::Arc;

use base::Error;
use base::report::Outcome;
use jiff::Timestamp;
use stores::documents::{Index, Write};
use task::{Stop, Visit};
use tokio::sync::mpsc;
use url::Url;

use super::stored::Identities;
use super::{AskedLinks, BATCH, Batch, Stored, head_of, read_references, store, unreadable};
use crate::api::{Api, panicked};
use crate::bibtex::Reader;
use crate::catalogue::note_cut;
use crate::links::Links;
use crate::reference::{self, LINKS, OWNER};
use crate::sources::Source;

/// Entries that are taken at most; the library has 17,600. What is above is counted and not stored.
pub const ENTRIES_MAX: usize = 500_000;

/// Entries that are read before it is asked whether anybody waits.
const STEP: u64 = 256;

/// Bytes of the text whose entries are written together, where there are fewer than [`BATCH`].
const BATCH_BYTES: usize = 1 << 20;

const ACCEPT: &str = "application/x-bibtex, text/plain;q=0.9, */*;q=0.5";

/// Stores the bibliography; `asked` is what the list of references says, if it was asked for in this step of the run.
pub(super) async fn read(
    visit: &mut Visit<'_>,
    api: &Api,
    index: &'static Index,
    asked: Option<AskedLinks>,
) -> Result<(), Stop> {
    let is_first = visit.is_first();
    // The list first, so that two large bodies are never held at once.
    let (links, is_changed) = match asked {
        Some(AskedLinks { links, since, is_changed }) => {
            let last =
                visit.ctx().ledger.source(&Source::LibraryBibtex.state()).await?.last_success;
            (links, is_changed || since > last)
        }
        // A continuation, or the list is in another run's hands.
        None => (read_references(visit, api).await?, true),
    };
    // Where the list changed, the entries are written anew though the bibliography is the same.
    let is_wanted_anyway = is_changed && links.is_some() && !is_first;
    let links = Arc::new(links);
    let url = api.url(Source::LibraryBibtex.path())?;
    loop {
        let request = api.get(&url).accept(ACCEPT);
        let answer = match is_wanted_anyway {
            true => visit.get_anyway(request).await?,
            false => visit.get(request).await?,
        };
        let Some(answer) = answer else { return Ok(()) };
        let is_truncated = answer.is_truncated();
        if is_truncated {
            visit.note("the connection ended early; what came is kept, and it is asked again");
        }
        let stored = Stored::read(visit.ctx().documents.as_ref(), index).await?;
        // Read on a thread of its own, batch by batch, while the store writes.
        let (sender, mut batches) = mpsc::channel(1);
        let (base, now, links) = (api.base.clone(), visit.ctx().now(), Arc::clone(&links));
        let (head, cutoff) = (head_of(&answer), visit.cutoff());
        let reading = tokio::task::spawn_blocking(move || {
            let text = String::from_utf8_lossy(answer.body());
            let links = links.as_ref().as_ref();
            let is_over = || cutoff.is_over();
            let take = |batch| sender.blocking_send(batch).is_ok();
            parse(&text, &base, links, &stored, now, is_over, take)
        });
        let mut cut = 0;
        while let Some(batch) = batches.recv().await {
            cut += batch.cut;
            store(visit, index, batch).await?;
        }
        let read = reading.await.map_err(|_| panicked(&url))?;
        note_cut(visit, cut);
        let counts = visit.counts(index);
        if counts.found == 0 {
            return Err(unreadable(&url, "it holds no entry", &head));
        }
        if read.malformed * 2 > counts.found {
            let error = Error::format(format!(
                "read `{url}`: {} of {} entries are malformed",
                read.malformed, counts.found
            ))
            .hint("the library may have changed its shape; the readable entries are stored");
            return Err(Stop::new(Outcome::Unreadable, error));
        }
        if read.is_whole && !is_truncated {
            retire(visit, index, &read.gone).await?;
        } else if !is_truncated {
            visit.note("it ends within an entry, or has too many: nothing is marked as gone");
        }
    }
}

/// Marks what left; nothing is deleted.
async fn retire(visit: &mut Visit<'_>, index: &'static Index, gone: &[String]) -> Result<(), Stop> {
    let now = visit.ctx().now();
    for gone in gone.chunks(BATCH) {
        let writes = gone.iter().map(|id| Write::retire(id, &OWNER, None, now));
        visit.amend(index, &writes.collect::<Vec<_>>()).await?;
    }
    if !gone.is_empty() {
        visit.note(format!("{} references left the bibliography and are marked", gone.len()));
    }
    Ok(())
}

/// What a bibliography came to, beside its documents.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadBibliography {
    /// Whether it was read to its end, and the end is none within an entry.
    pub is_whole: bool,
    /// Malformed entries.
    pub malformed: u64,
    /// The ids of documents that it gave once and gives no more.
    pub gone: Vec<String>,
}

/// Reads a bibliography into documents, batch by batch, until `take` says that nobody wants more, or `is_over` that nobody waits.
///
/// It is read twice: first for which entries are one reference, then for their documents. So no more of an entry is held than
/// where its reference begins.
pub fn parse(
    text: &str,
    base: &Url,
    links: Option<&Links>,
    stored: &Stored,
    now: Timestamp,
    is_over: impl Fn() -> bool,
    mut take: impl FnMut(Batch) -> bool,
) -> ReadBibliography {
    let cut_off =
        |malformed: u64| ReadBibliography { is_whole: false, malformed, gone: Vec::new() };
    let mut batch = Batch::default();
    let mut identities = Identities::among(stored);
    let mut references = References::default();
    let mut reader = Reader::new(text);
    let (mut place, mut malformed, mut has_more) = (0_u32, 0, false);
    for read in reader.by_ref() {
        batch.found += 1;
        if batch.found.is_multiple_of(STEP) && is_over() {
            return cut_off(malformed);
        }
        match read {
            Ok(_) if place as usize == ENTRIES_MAX => {
                has_more = true;
                batch.reject(|| format!("more than {ENTRIES_MAX} entries are not taken"));
            }
            Ok(entry) => {
                let id = reference::id(&reference::natural(&entry));
                batch.merged += u64::from(!references.add(identities.note(&id), place, entry.key));
                place += 1;
            }
            Err(reject) => {
                malformed += 1;
                reject.key.into_iter().for_each(|key| identities.keep(key));
                batch.reject(|| {
                    format!("line {}: {}: `{}`", reject.line, reject.reason, reject.head)
                });
            }
        }
    }
    batch.cut += reader.cut();
    let is_whole = !has_more && !reader.is_open_at_end();
    // Entries of one reference meet in the document of the first; the file is in the order of its keys.
    let mut firsts = references.firsts.iter().peekable();
    let mut reader = Reader::new(text);
    let (mut next, mut begin) = (0, 0);
    while firsts.peek().is_some() {
        let Some(read) = reader.next() else { break };
        let Ok(entry) = read else { continue };
        let place = next;
        next += 1;
        let Some(first) = firsts.next_if(|first| first.place == place) else { continue };
        let keys = references.keys(first, entry.key);
        let id = identities.resolve(reference::id(&reference::natural(&entry)), &keys);
        let about = links.map(|links| links.fields(entry.field("url"), &keys));
        let (write, cut) = reference::of_entry(base, &entry, &keys, id, now);
        batch.cut += cut;
        batch.writes.push(match about {
            Some(about) => write.and(&LINKS, about),
            None => write,
        });
        if batch.writes.len() >= BATCH || reader.position() - begin >= BATCH_BYTES {
            begin = reader.position();
            if !take(std::mem::take(&mut batch)) {
                return cut_off(malformed);
            }
        }
    }
    take(batch);
    let gone = if is_whole { identities.gone() } else { Vec::new() };
    ReadBibliography { is_whole, malformed, gone }
}

/// The references of a bibliography, in the order of their first entries.
#[derive(Default)]
struct References<'a> {
    firsts: Vec<First>,
    /// The keys of further entries of a reference, each with the place of the one before it.
    others: Vec<(&'a str, Option<u32>)>,
}

struct First {
    /// Which of the entries that could be read it is.
    place: u32,
    /// The last of the others.
    last: Option<u32>,
}

impl<'a> References<'a> {
    /// Takes an entry to the reference of this number; gives whether it is the first one.
    fn add(&mut self, number: u32, place: u32, key: &'a str) -> bool {
        match self.firsts.get_mut(number as usize) {
            Some(first) => {
                let at = u32::try_from(self.others.len()).ok();
                self.others.push((key, first.last));
                first.last = at;
                false
            }
            None => {
                self.firsts.push(First { place, last: None });
                true
            }
        }
    }

    /// The keys of all entries of a reference, in order.
    fn keys(&self, first: &First, key: &'a str) -> Vec<&'a str> {
        let mut keys = vec![key];
        let mut last = first.last;
        while let Some((key, before)) = last.and_then(|last| self.others.get(last as usize)) {
            keys.push(key);
            last = *before;
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found, written, merged, rejected, and the reasons of rejects.
    fn read(text: &str) -> (u64, usize, u64, u64, Vec<String>, ReadBibliography) {
        let base = Url::parse("https://malpedia.test/").unwrap();
        let (mut found, mut written, mut merged, mut rejected) = (0, 0, 0, 0);
        let mut reasons = Vec::new();
        let take = |batch: Batch| {
            found += batch.found;
            written += batch.writes.len();
            merged += batch.merged;
            rejected += batch.rejected;
            reasons.extend(batch.rejects);
            true
        };
        let now = Timestamp::UNIX_EPOCH;
        let read = parse(text, &base, None, &Stored::default(), now, || false, take);
        (found, written, merged, rejected, reasons, read)
    }

    #[test]
    fn above_the_limit_entries_are_counted_and_the_rest_is_kept() {
        let text = "@a{b}\n".repeat(ENTRIES_MAX + 2);
        let (found, written, merged, rejected, reasons, read) = read(&text);
        let most = ENTRIES_MAX as u64;
        assert_eq!((found, written, merged, rejected), (most + 2, 1, most - 1, 2));
        assert_eq!(reasons[0], "more than 500000 entries are not taken");
        assert_eq!((read.is_whole, read.malformed), (false, 0));
    }

    #[test]
    fn nobody_waits_and_it_stops() {
        let base = Url::parse("https://malpedia.test/").unwrap();
        let text = "@a{b}\n".repeat(10_000);
        let asked = std::cell::Cell::new(0);
        let is_over = || {
            asked.set(asked.get() + 1);
            asked.get() == 3
        };
        let read =
            parse(&text, &base, None, &Stored::default(), Timestamp::UNIX_EPOCH, is_over, |_| {
                panic!("nobody waits")
            });
        assert_eq!((read.is_whole, asked.get()), (false, 3));
    }

    #[test]
    fn entries_of_one_reference_are_one_document_with_all_keys() {
        let text = "@a{c, url={http://e.org/a/}}@a{b, url={https://e.org/a}}@a{d}@a{a, url={https://e.org/a#x}}@a{c, url={https://e.org/a}}";
        let base = Url::parse("https://malpedia.test/").unwrap();
        let mut keys = Vec::new();
        parse(
            text,
            &base,
            None,
            &Stored::default(),
            Timestamp::UNIX_EPOCH,
            || false,
            |batch| {
                keys.extend(
                    batch.writes.iter().map(|write| write.parts[0].fields["bib_keys"].clone()),
                );
                true
            },
        );
        assert_eq!(keys, [serde_json::json!(["a", "b", "c"]), serde_json::json!(["d"])]);
    }
}
