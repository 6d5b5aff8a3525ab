//! What can be copied: documents of an index, rows of a table; both in the order of their ids, a page at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use base::Result;
use serde_json::{Value, json};
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

/// The states of sources. Each says which document store it belongs to, by index, and what is copied belongs to the store that the
/// documents were copied to: so the two sides differ in that without differing.
pub(super) struct SourceRows {
    pub(super) rows: Rows,
    /// The documents beside these states.
    pub(super) documents: Arc<dyn Documents>,
}

/// Stands for the identity of whatever store the state is beside.
const HERE: &str = "here";

#[async_trait]
impl Collection for SourceRows {
    async fn page(&self, after: Option<&str>) -> Result<Vec<Document>> {
        let mut page = self.rows.page(after).await?;
        page.iter_mut().for_each(|row| each_store(row, |_| json!(HERE)));
        Ok(page)
    }

    async fn put(&self, documents: &[Document]) -> Result<Vec<Written>> {
        let mut identities = BTreeMap::new();
        for index in Index::all() {
            identities.insert(index.name, json!(self.documents.identity(index).await?));
        }
        let mut rows = documents.to_vec();
        for row in &mut rows {
            each_store(row, |index| identities.get(index).cloned().unwrap_or_default());
        }
        self.rows.put(&rows).await
    }

    async fn remove(&self, ids: &[String]) -> Result<()> {
        self.rows.remove(ids).await
    }
}

/// Gives each store that a source's state names another value, by its index.
fn each_store(row: &mut Document, identity: impl Fn(&str) -> Value) {
    let text = row.body.get("state").and_then(Value::as_str);
    let Some(mut state) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return;
    };
    for (index, value) in state["stores"].as_object_mut().into_iter().flatten() {
        *value = identity(index);
    }
    row.body.insert("state".to_owned(), json!(state.to_string()));
}
