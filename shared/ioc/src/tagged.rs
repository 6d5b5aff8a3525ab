//! The warninglists of what a source gave before: where they are others than those that its documents were held against, each
//! document is looked at again, though the source sends nothing new. What a look finds unchanged is not written, and one that
//! time cuts off goes on behind the last document it came to.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stores::documents::{Body, Filter, Index, Owner, Pages, Scan, Write};
use task::{Stop, Visit};

use crate::lists::Lists;
use crate::observation::{Warned, names};

/// Documents that are looked at together.
const PAGE: u32 = 1_000;

/// Which warninglists a source's documents were held against: a part of its cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tagged {
    /// What tells them from others.
    digest: Option<u64>,
    /// The last document of a look that is not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// What came of [`Tagged::renew`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// There was nothing to look at.
    Nothing,
    /// Every document was.
    All,
    /// Time ran out before that.
    Cut,
}

impl Tagged {
    /// Tags the documents of `index` that `filters` pass anew where the warninglists changed. The cursor is to be saved after it,
    /// unless it is [`Renewed::Nothing`]. Of a source that is not `is_begun` nothing is stored.
    ///
    /// # Errors
    /// As [`Lists::of_visit`], and what the store says.
    pub async fn renew(
        &mut self,
        visit: &mut Visit<'_>,
        owner: &'static Owner,
        index: &'static Index,
        filters: Vec<Filter>,
        is_begun: bool,
    ) -> Result<Renewed, Stop> {
        let lists = Lists::of_visit(visit).await?;
        let digest = Some(lists.digest());
        if self.digest == digest && self.after.is_none() {
            return Ok(Renewed::Nothing);
        }
        // A look that began with other lists is of no use.
        let after = self.after.take().filter(|_| self.digest == digest);
        self.digest = digest;
        if !is_begun {
            return Ok(Renewed::Nothing);
        }
        let ctx = visit.ctx();
        let shared: Vec<String> = owner.shared.iter().map(|name| contributions(name)).collect();
        let fields = owner.fields.iter().copied().chain(shared.iter().map(String::as_str));
        let fields: Vec<&str> = fields.collect();
        let scan = Scan { filters, after, limit: PAGE, ..Scan::of(&fields) };
        let mut pages = Pages::new(ctx.documents.as_ref(), index, scan);
        let mut count = 0;
        while let Some(page) = pages.next().await? {
            if visit.is_late() {
                // The first page may be late already.
                self.after.get_or_insert_default();
                return Ok(Renewed::Cut);
            }
            let writes = page.iter().filter_map(|one| retagged(owner, &one.id, &one.body, &lists));
            let writes: Vec<Write> = writes.collect();
            visit.found(index, writes.len() as u64);
            visit.store(index, &writes).await?;
            count += writes.len();
            self.after = page.last().map(|last| last.id.clone());
        }
        self.after = None;
        if count > 0 {
            visit.note(format!("the warninglists changed: {count} indicators are tagged anew"));
        }
        Ok(Renewed::All)
    }
}

/// Where a document keeps what its contributors say of a shared field.
fn contributions(name: &str) -> String {
    format!("owners.shared.{name}")
}

/// The write that tags a stored document by `lists`, and says of all else what the owner says already.
///
/// Nothing where it is tagged so, or nobody gave it. `stored` needs the owner's fields, and the contributions to what it shares.
fn retagged(owner: &'static Owner, id: &str, stored: &Body, lists: &Lists) -> Option<Write> {
    let text = |name: &str| stored.get(name)?.as_str();
    let warned = lists.hits(text("type")?.parse().ok()?, text("value")?);
    let names = names(&warned);
    let before = stored.get("warninglist_hits").filter(|before| !before.is_null());
    if before.map_or(warned.is_empty(), |before| *before == names) {
        return None;
    }
    let shared = stored.get("owners")?.get("shared")?;
    let contributor = shared.get("sources")?.as_object()?.keys().next()?;
    let own = owner.fields.iter().filter_map(|name| Some((*name, stored.get(*name)?.clone())));
    let said = owner
        .shared
        .iter()
        .filter_map(|name| Some((*name, shared.get(*name)?.get(contributor)?.clone())));
    let mut fields: Body = own.chain(said).map(|(name, value)| (name.to_owned(), value)).collect();
    fields.insert("warninglist_hits".to_owned(), names);
    let items: Value = warned.iter().map(Warned::item).collect();
    fields.insert("warninglists".to_owned(), items);
    Some(Write::of(id, owner, fields).by(contributor))
}
