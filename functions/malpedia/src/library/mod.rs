//! The engine of the library's tasks: the feed of what is new, and the whole bibliography with what its entries are about.

mod bibliography;
mod latest;
mod stored;

use std::cell::RefCell;

use base::report::{Outcome, Report, Status};
use base::{Error, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stores::documents::{Index, Write};
use task::{Answer, Chosen, Ctx, Source as _, Stop, Visit};
use url::Url;

use crate::api::{Api, read_json};
use crate::links::Links;
use crate::reference::INDEX;
use crate::sources::Source;

pub use self::bibliography::{ENTRIES_MAX, parse};
pub use self::stored::Stored;

/// References that are written together.
const BATCH: usize = 500;

/// Characters of an answer of another kind that an error shows, and the bytes in which they are looked for.
const HEAD_CHARS: usize = 60;
const HEAD_BYTES: usize = 240;

/// What came of asking for the list of references.
#[derive(Default)]
struct AskedLinks {
    /// What it says, where it could be read.
    links: Option<Links>,
    /// Since when it says so.
    since: Option<Timestamp>,
    /// Whether it said something else before.
    is_changed: bool,
}

/// How far the list of references is known: what it says, and since when.
#[derive(Serialize, Deserialize)]
struct LinksCursor {
    digest: String,
    since: Timestamp,
}

/// Syncs these sources of the library, one after the other.
pub(crate) async fn sync(ctx: &Ctx, sources: &[Source]) -> Result<Report> {
    let api = Api::of(&ctx.settings()?)?;
    let index = Index::named(INDEX)?;
    // Once the list of references was asked for.
    let asked = RefCell::new(None::<AskedLinks>);
    let work = async |visit: &mut Visit<'_>, source: &Source| {
        let work = match source {
            Source::LibraryRss => latest::read(visit, &api, index).await,
            Source::References => {
                asked.replace(Some(AskedLinks::default()));
                ask_for_links(visit, &api).await.map(|links| drop(asked.replace(Some(links))))
            }
            _ => {
                let asked = asked.take();
                bibliography::read(visit, &api, index, asked).await
            }
        };
        work.map_err(|stop| api.explain(stop))
    };
    let report = ctx.each(Chosen::every(sources.to_vec()), 1, work).await?;
    Ok(without_bibliography(report, sources))
}

/// A run that is for the bibliography and could not read it has failed: the list of references by itself is nothing.
fn without_bibliography(mut report: Report, sources: &[Source]) -> Report {
    let bibliography = report.sources.iter().find(|one| one.source == Source::LibraryBibtex.id());
    let problem = bibliography.and_then(|one| one.problem.clone());
    if let (Some(problem), Status::Partial, false) =
        (problem, report.status, sources.contains(&Source::LibraryRss))
        && report.counts.found == 0
    {
        report.status = Status::Failed;
        report.error = Some(problem);
    }
    report
}

async fn ask_for_links(visit: &mut Visit<'_>, api: &Api) -> Result<AskedLinks, Stop> {
    let links = read_references(visit, api).await?;
    let Some(digest) = links.as_ref().map(Links::digest) else { return Ok(AskedLinks::default()) };
    let before = visit.cursor::<LinksCursor>().filter(|before| before.digest == digest);
    let is_changed = before.is_none();
    let since = before.map_or_else(|| visit.ctx().now(), |before| before.since);
    visit.reach(json!(LinksCursor { digest, since }));
    Ok(AskedLinks { links, since: Some(since), is_changed })
}

/// Malpedia's list of what each address is about, and what stored families say of it. Without it the bibliography is stored all
/// the same, and what is stored of links stays. It is read each time: entries that are new need it, though it did not change.
async fn read_references(visit: &mut Visit<'_>, api: &Api) -> Result<Option<Links>, Stop> {
    let url = api.url(Source::References.path())?;
    let mut links = None;
    while let Some(answer) = visit.get_anyway(api.get(&url)).await? {
        links = Some(read_json(&url, answer, Links::read).await?);
    }
    if let Some(links) = &mut links {
        links.add_stored(visit.ctx().documents.as_ref()).await?;
    }
    Ok(links)
}

/// A part of the library on its way to the store.
#[derive(Debug, Default)]
pub struct Batch {
    /// Entries, readable or not.
    pub found: u64,
    /// Entries that went into another's document.
    pub merged: u64,
    /// Malformed entries, and those above a limit.
    pub rejected: u64,
    /// Why the first of those are.
    pub rejects: Vec<String>,
    /// Texts and lists that were cut.
    pub cut: u64,
    /// Documents.
    pub writes: Vec<Write>,
}

impl Batch {
    fn reject(&mut self, reason: impl FnOnce() -> String) {
        self.rejected += 1;
        if self.rejects.len() < Report::REJECTS_SHOWN {
            self.rejects.push(reason());
        }
    }
}

async fn store(visit: &mut Visit<'_>, index: &'static Index, batch: Batch) -> Result<(), Stop> {
    visit.found(index, batch.found);
    visit.merged(index, batch.merged);
    visit.rejected(index, batch.rejected);
    batch.rejects.into_iter().for_each(|reason| visit.show_reject(reason));
    for writes in batch.writes.chunks(BATCH) {
        visit.store(index, writes).await?;
    }
    Ok(())
}

/// The beginning of a body, to be shown.
fn head_of(answer: &Answer) -> String {
    let body = answer.body();
    let text = String::from_utf8_lossy(&body[..body.len().min(HEAD_BYTES)]);
    let shown = text.chars().take(HEAD_CHARS);
    let shown: String =
        shown.map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    shown.trim().to_owned()
}

/// An answer of another kind than was asked for, such as a page that wants a login.
fn unreadable(url: &Url, why: &str, head: &str) -> Stop {
    let error = Error::format(format!("read `{url}`: {why}: `{head}`"))
        .hint("look at the address in a browser: it may want a login, or the service moved");
    Stop::new(Outcome::Unreadable, error)
}
