//! What can be copied: documents of an index, rows of a table; both in the order of their ids, a page at a time.

use std::sync::Arc;

use async_trait::async_trait;
use base::Result;
use stores::documents::{Document, Documents, Index, Scan, Written};
use stores::state::{State, Table};

/// Documents or rows that are in memory at once, on each side.
pub(super) const PAGE: u32 = 200;

/// One collection in one home.
#[async_trait]
pub(super) trait Collection: Send + Sync {
    /// The next page after an id.
    async fn page(&self, after: Option<&str>) -> Result<Vec<Document>>;

    /// Writes as they are; one outcome for each, in order.
    async fn put(&self, documents: &[Document]) -> Result<Vec<Written>>;

    /// Takes away.
    async fn remove(&self, ids: &[String]) -> Result<()>;
}

/// An index of a document store.
pub(super) struct Indexed(pub(super) Arc<dyn Documents>, pub(super) &'static Index);

#[async_trait]
impl Collection for Indexed {
    async fn page(&self, after: Option<&str>) -> Result<Vec<Document>> {
        let after = after.map(ToOwned::to_owned);
        self.0.scan(self.1, &Scan { after, limit: PAGE, ..Scan::default() }).await
    }

    async fn put(&self, documents: &[Document]) -> Result<Vec<Written>> {
        self.0.restore(self.1, documents).await
    }

    async fn remove(&self, ids: &[String]) -> Result<()> {
        self.0.delete(self.1, ids).await.map(drop)
    }
}

/// A table of the state.
pub(super) struct Rows(pub(super) Arc<dyn State>, pub(super) Table);

#[async_trait]
impl Collection for Rows {
    async fn page(&self, after: Option<&str>) -> Result<Vec<Document>> {
        self.0.rows(self.1, after, PAGE).await
    }

    async fn put(&self, documents: &[Document]) -> Result<Vec<Written>> {
        self.0.put_rows(self.1, &[], documents).await?;
        Ok(vec![Written::Changed; documents.len()])
    }

    async fn remove(&self, ids: &[String]) -> Result<()> {
        self.0.put_rows(self.1, ids, &[]).await
    }
}
