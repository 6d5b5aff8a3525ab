//! The document store: what a task writes, and what analysts search.
//!
//! Two traits over the embedded store and real servers: [`DocumentReader`], and [`Documents`], which writes as well. Every
//! write names its owners ([`Owner`]); [`plan`](plan()) decides, purely, what it changes, so that all stores agree to the letter.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use base::config::Config;
use base::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use crate::retention;

mod adopter;
mod batches;
mod canonical;
mod contributions;
mod document;
mod elastic;
mod embedded;
mod fit;
mod identity;
mod index;
mod owner;
mod plan;
mod scan;
mod words;

pub use adopter::{Adopter, Identify, Opening};
pub use canonical::{Fingerprint, id};
pub use contributions::Contributions;
pub use document::{Body, Document};
pub use elastic::{Adopted, Elastic, Moves, Progress, Reindexed};
pub use embedded::Embedded;
pub use fit::{Cap, Fitted, Misfit, Misfits, WRITE_BYTES_MAX, fit};
pub use identity::Identity;
pub use index::{FieldType, Index, MALWARE_FAMILIES};
pub use owner::Owner;
use plan::{ID, Intent};
pub use plan::{Part, Plan, Write, plan};
pub use scan::{Pages, Scan};

/// Bytes that one document may have as JSON; servers are set to take more in a request, and no real item comes near it.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;

/// What the store did with one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// There was no such document.
    New,
    /// There was one, and it differs now.
    Changed,
    /// There was one, and it is equal: nothing was written.
    Unchanged,
    /// It is older than what its index keeps (`MINERVA_KEEP_DAYS`): nothing was written.
    Filtered,
    /// The store will never take it as it is, for this reason: a value that its field does not take, too many bytes.
    Rejected(String),
    /// It could not be written now, for this reason; it may be tried again.
    Failed(String),
}

impl Written {
    /// Why it was not written, for now or for good.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Rejected(reason) | Self::Failed(reason) => Some(reason),
            Self::New | Self::Changed | Self::Unchanged | Self::Filtered => None,
        }
    }
}

/// How found documents are ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sort {
    /// By a field; documents without it come last.
    Field {
        /// The field's name.
        name: String,
        /// Largest first.
        descending: bool,
    },
    /// By how well the text matches.
    Relevance,
}

/// A condition that a document must meet.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// One of these values stands in the field.
    Terms(String, Vec<String>),
    /// The field is at least the first and below the second, as RFC 3339 instants.
    Range(String, Option<String>, Option<String>),
    /// The field has a value.
    Exists(String),
    /// The field has none.
    Missing(String),
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Words for the text fields: `"a phrase"`, `prefix*`, `-not`; any of the words will do.
    pub text: Option<String>,
    /// Conditions, all of which must hold.
    pub filters: Vec<Filter>,
    /// The order; newest first when not set and the index has a date to sort by.
    pub sort: Option<Sort>,
    /// How many to leave out at the start.
    pub offset: u32,
    /// How many to give, at most [`Query::LIMIT_MAX`].
    pub limit: u32,
}

impl Query {
    /// The most that one page can hold, as in the predecessor.
    pub const LIMIT_MAX: u32 = 10_000;
}

impl Default for Query {
    fn default() -> Self {
        Self { text: None, filters: Vec::new(), sort: None, offset: 0, limit: 10 }
    }
}

/// How found documents are grouped and counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// By the values of a field, the most frequent first, of equally frequent ones the smaller first. A list counts its
    /// document once for each of its distinct values. On a server with several shards such counts are approximate; an
    /// index of ours has one.
    Terms {
        /// The field's name.
        field: String,
        /// How many values to give, at most [`Query::LIMIT_MAX`].
        size: u32,
    },
    /// By the days, months or years of a date in UTC, in their order, those without documents left out.
    Dates {
        /// The field's name.
        field: String,
        /// How long each part is.
        per: Per,
    },
}

impl Aggregation {
    /// The most days, months or years that are counted at once, which is what servers allow unless set otherwise.
    pub const DATES_MAX: usize = 65_536;
}

/// A part of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// Its keys are `2026-03-01`.
    Day,
    /// Its keys are `2026-03`.
    Month,
    /// Its keys are `2026`.
    Year,
}

/// Found documents, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The values or dates with the number of their documents.
    pub buckets: Vec<Bucket>,
    /// The numbers of the values that are left out, together.
    pub others: u64,
    /// The first instant of a date, where dates were counted and there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// The last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// One value or date of [`Counts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// The value, or the date as [`Per`] writes it.
    pub key: String,
    /// How many documents have it.
    pub count: u64,
}

/// A page of found documents.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page {
    /// How many there are in all.
    pub total: u64,
    /// Those of this page.
    pub documents: Vec<Document>,
}

/// What counts for more when a word is found in it, as in the predecessor.
const BOOSTS: &[(&str, u32)] = &[("title", 3), ("summary", 2), ("name", 2)];

/// How much a word found in this text field counts.
fn boost(field: &str) -> u32 {
    BOOSTS.iter().find(|(boosted, _)| *boosted == field).map_or(1, |(_, boost)| *boost)
}

/// What is wrong with an aggregation, found before a store is asked.
fn countable(index: &Index, aggregation: &Aggregation) -> Result<()> {
    let (field, size) = match aggregation {
        Aggregation::Terms { field, size } => (field, *size),
        Aggregation::Dates { field, .. } => (field, 1),
    };
    let (name, kind) = index.field(field)?;
    index.exact(field)?;
    let is_right = match aggregation {
        Aggregation::Dates { .. } => *kind == FieldType::Date,
        Aggregation::Terms { .. } => {
            matches!(kind, FieldType::Text | FieldType::Keyword | FieldType::Plain)
        }
    };
    if !is_right {
        return Err(Error::config(format!("count documents of `{}` by `{name}`", index.name))
            .hint("values are counted of exact fields, days, months and years of dates"));
    }
    if !(1..=Query::LIMIT_MAX).contains(&size) {
        return Err(Error::config(format!("count `{size}` values of `{name}`"))
            .hint(format!("ask for 1 to {}", Query::LIMIT_MAX)));
    }
    Ok(())
}

/// Refuses a page that lies further on than servers go, whatever the store.
fn within_reach(query: &Query) -> Result<()> {
    let last = u64::from(query.offset) + u64::from(query.limit);
    if last <= u64::from(Query::LIMIT_MAX) {
        return Ok(());
    }
    Err(Error::config(format!("search for documents up to number `{last}`")).hint(format!(
        "a search goes up to {}; narrow it, or read all documents",
        Query::LIMIT_MAX
    )))
}

/// What is stored, to be read. A group of indices is read as one.
#[async_trait]
pub trait DocumentReader: Send + Sync {
    /// One document.
    async fn get(&self, index: &'static Index, id: &str) -> Result<Option<Body>>;

    /// The given fields of the documents of these ids, in order; `None` where there is no such document.
    async fn fields_of(
        &self,
        index: &'static Index,
        ids: &[&str],
        fields: &[&str],
    ) -> Result<Vec<Option<Body>>>;

    /// How many documents match.
    async fn count(&self, index: &'static Index, query: &Query) -> Result<u64>;

    /// A page of those that match.
    async fn search(&self, index: &'static Index, query: &Query) -> Result<Page>;

    /// Those that match, grouped and counted; the query's order and page do not matter.
    async fn aggregate(
        &self,
        index: &'static Index,
        query: &Query,
        aggregation: &Aggregation,
    ) -> Result<Counts>;

    /// Documents in the order of their ids, `scan.limit` at the most; [`Pages`] goes through all.
    async fn scan(&self, index: &'static Index, scan: &Scan) -> Result<Vec<Document>>;

    /// How many document writes the index has seen: the store's own count, not the tasks'.
    async fn sequence(&self, index: &'static Index) -> Result<u64>;

    /// Which store this is, and how far it is, to tell later whether it still is what it was. An index that was deleted
    /// meanwhile is made anew.
    async fn identity(&self, index: &'static Index) -> Result<Identity>;

    /// Where the store is, and what a person should know of it.
    ///
    /// Not asked by tasks: `doctor` does, and an error says what is wrong and what to do.
    async fn describe(&self) -> Result<String>;
}

/// A store of documents. A group of indices is not written to. Writes are safe to repeat, and safe beside those of other processes.
#[async_trait]
pub trait Documents: DocumentReader {
    /// Makes the index ready for writing, creating it where it is missing.
    async fn ensure(&self, index: &'static Index) -> Result<()>;

    /// Writes a batch; one outcome for each write, in order. Ids must be distinct within a batch.
    async fn upsert(&self, index: &'static Index, writes: &[Write]) -> Result<Vec<Written>>;

    /// Writes documents exactly as they are, in the place of whatever stands under their ids; one outcome for each, in
    /// order. Ids must be distinct within a batch.
    async fn restore(&self, index: &'static Index, documents: &[Document]) -> Result<Vec<Written>>;

    /// Makes an index that has lost documents another one than `lost`, so that every source that is stored in it learns of it,
    /// however much the others have written since; gives what it is now. A server does so by itself when it restores an index.
    async fn renew(&self, _index: &'static Index, lost: Identity) -> Result<Identity> {
        Ok(lost)
    }

    /// Deletes the documents of these ids, which must be distinct; gives how many were there.
    async fn delete(&self, index: &'static Index, ids: &[String]) -> Result<u64>;
}

/// Opens the store that the settings name: a server where `ES_URL` is set, else the embedded one.
///
/// # Errors
/// `Config` or `Store`, when it cannot be opened. A server is not asked yet.
pub async fn open(config: &Config) -> Result<Arc<dyn Documents>> {
    retention::check(&config.stores.keep_days)?;
    Ok(match &config.stores.es_url {
        Some(_) => Arc::new(Elastic::open(&config.stores)?),
        None => {
            let (folder, max_mb) = (config.data_dir()?, config.stores.data_max_mb);
            Arc::new(Embedded::open_within(&folder, max_mb).await?)
        }
    })
}

/// What a store holds, as one sees who makes nothing there.
#[derive(Clone, Debug, Default)]
pub struct LookedAt {
    /// Where the store is, and what a person should know of it.
    pub place: String,
    /// The documents of each index; `None` where there is no such index yet.
    pub counts: Vec<(&'static str, Option<u64>)>,
}

/// Looks at the store that the settings name, and makes nothing there: no folder, no file, no index.
///
/// # Errors
/// What would keep a task from using it.
pub async fn look(config: &Config) -> Result<LookedAt> {
    retention::check(&config.stores.keep_days)?;
    match &config.stores.es_url {
        Some(_) => Elastic::open(&config.stores)?.look().await,
        None => Embedded::look(&config.data_dir()?).await,
    }
}

/// Refuses to write to several indices as one.
fn writable(index: &Index) -> Result<()> {
    if index.several.is_empty() {
        return Ok(());
    }
    Err(Error::config(format!("write to `{}`, which is several indices", index.name))
        .hint(format!("write to one of them: {}", index.several.join(", "))))
}

/// Refuses a batch in which an id stands twice: which of the two should win is the task's to say.
fn distinct(batch: &[Intent<'_>]) -> Result<()> {
    let mut seen = HashSet::with_capacity(batch.len());
    match batch.iter().find(|intent| !seen.insert(intent.id())) {
        None => Ok(()),
        Some(twice) => {
            Err(Error::store(format!("write a batch that holds document `{}` twice", twice.id())))
        }
    }
}

/// A batch of owners' parts.
fn parts(writes: &[Write]) -> Result<Vec<Intent<'_>>> {
    let batch: Vec<_> = writes.iter().map(Intent::Write).collect();
    distinct(&batch).map(|()| batch)
}

/// A batch of documents that are to stand as they are.
fn wholes(documents: &[Document]) -> Result<Vec<Intent<'_>>> {
    // A server gives documents in the order of this field.
    let is_astray =
        |document: &&Document| document.body.get(ID).and_then(Value::as_str) != Some(&document.id);
    if let Some(astray) = documents.iter().find(is_astray) {
        return Err(Error::format(format!(
            "restore document `{}`: its field `{ID}` is not its id",
            astray.id
        ))
        .hint("something else wrote it: repair that field, or delete the document"));
    }
    let batch: Vec<_> = documents.iter().map(Intent::Whole).collect();
    distinct(&batch).map(|()| batch)
}

/// A batch of ids under which nothing is to stand.
fn nothings(ids: &[String]) -> Result<Vec<Intent<'_>>> {
    let batch: Vec<_> = ids.iter().map(|id| Intent::Nothing(id)).collect();
    distinct(&batch).map(|()| batch)
}

/// How many documents a batch of [`Intent::Nothing`] took away.
fn deleted(outcomes: &[Written]) -> u64 {
    outcomes.iter().filter(|outcome| **outcome == Written::Changed).count() as u64
}

/// Why a document of so many bytes is not written; `None` where it may be.
fn too_large(bytes: usize, body: &Body) -> Option<String> {
    if bytes <= DOCUMENT_BYTES_MAX {
        return None;
    }
    let size = |value: &Value| serde_json::to_string(value).map_or(0, |text| text.len());
    let sizes = body.iter().map(|(name, value)| (size(value), name));
    let (largest, name) = sizes.max().map_or((0, ""), |(size, name)| (size, name.as_str()));
    Some(format!(
        "the document of {bytes} bytes is larger than {DOCUMENT_BYTES_MAX}; its largest field, `{name}`, has {largest}"
    ))
}
