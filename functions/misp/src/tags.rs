//! The warninglists of what a feed gave before: where they are others than those that its documents were held against, each
//! document is looked at again, though the feed sends nothing new. What a look finds unchanged is not written, and one that
//! time cuts off goes on behind the last document it came to.

use ioc::{Lists, retagged};
use serde::{Deserialize, Serialize};
use stores::documents::{Filter, Index, Pages, Scan, Write};
use task::{Stop, Visit};

use crate::feeds::Feed;
use crate::indicators::OWNER;

/// Documents that are looked at together.
const PAGE: u32 = 1_000;

/// Which warninglists a feed's documents were held against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tagged {
    /// What tells them from others.
    digest: Option<u64>,
    /// The last document of a look that is not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// What came of [`renew`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// There was nothing to look at.
    Nothing,
    /// Every document was.
    All,
    /// Time ran out before that.
    Cut,
}

/// The lists that indicators are held against, read once a run.
pub(crate) async fn warninglists(visit: &mut Visit<'_>) -> base::Result<Lists> {
    let lists = Lists::load(visit.ctx()).await?;
    if let Some(note) = lists.note() {
        visit.note(note);
    }
    Ok(lists)
}

/// Tags a feed's documents anew where the warninglists changed. Of a feed that is not `is_begun` nothing is stored.
pub(crate) async fn renew(
    visit: &mut Visit<'_>,
    feed: &Feed,
    index: &'static Index,
    is_begun: bool,
    tagged: &mut Tagged,
) -> Result<Renewed, Stop> {
    let lists = warninglists(visit).await?;
    let digest = Some(lists.digest());
    if tagged.digest == digest && tagged.after.is_none() {
        return Ok(Renewed::Nothing);
    }
    // A look that began with other lists is of no use.
    let after = tagged.after.take().filter(|_| tagged.digest == digest);
    tagged.digest = digest;
    if !is_begun {
        return Ok(Renewed::Nothing);
    }
    let ctx = visit.ctx();
    let fields = ["source_family", "type", "value", "warninglist_hits", "owners.shared.sources"];
    let of_feed = Filter::Terms("sources.id".to_owned(), vec![feed.id.clone()]);
    let scan = Scan { filters: vec![of_feed], after, limit: PAGE, ..Scan::of(&fields) };
    let mut pages = Pages::new(ctx.documents.as_ref(), index, scan);
    let mut count = 0;
    while let Some(page) = pages.next().await? {
        if visit.is_late() {
            // The first page may be late already.
            tagged.after.get_or_insert_default();
            return Ok(Renewed::Cut);
        }
        let writes = page.iter().filter_map(|one| retagged(&OWNER, &one.id, &one.body, &lists));
        let writes: Vec<Write> = writes.collect();
        visit.found(index, writes.len() as u64);
        visit.store(index, &writes).await?;
        count += writes.len();
        tagged.after = page.last().map(|last| last.id.clone());
    }
    tagged.after = None;
    if count > 0 {
        visit.note(format!("the warninglists changed: {count} indicators are tagged anew"));
    }
    Ok(Renewed::All)
}
