//! Moves of whole indices: a mapping that no server can change is built anew beside the old one, an index of the
//! predecessor becomes one of ours. What is closed to writers meanwhile is opened again, whatever happens.

use std::sync::{Mutex, PoisonError};

use base::config::Stores;
use base::{Error, Result};
use elasticsearch::http::Method;
use serde_json::{Map, Value, json};

use super::Elastic;
use super::ensure::refused;
use crate::documents::Index;

/// Refused documents that an error names.
const REFUSED_SHOWN: usize = 5;
/// Times that an index is gone through until a whole pass finds nothing left to do.
pub(super) const PASSES_MAX: u32 = 5;

/// Called after each page: what is being done, documents done, documents in all.
pub type Progress<'a> = &'a (dyn Fn(&str, u64, u64) + Send + Sync);

/// Moves of indices on a server.
pub struct Moves {
    pub(super) elastic: Elastic,
    /// What we closed to writers and have not opened again.
    closed: Mutex<Vec<String>>,
}

/// Documents that the new mapping does not take.
#[derive(Default)]
pub(super) struct Refusals {
    count: u64,
    first: Vec<String>,
}

impl Refusals {
    pub(super) fn add(&mut self, id: &str, why: &str) {
        self.count += 1;
        if self.first.len() < REFUSED_SHOWN {
            self.first.push(format!("`{id}`: {why}"));
        }
    }

    /// # Errors
    /// `Format`, naming the first of them, if there is any.
    pub(super) fn check(&self, from: &str, to: &str) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let (first, count) = (self.first.join("; "), self.count);
        Err(Error::format(format!("copy `{from}` to `{to}`: {count} documents are refused, as {first}"))
            .hint(format!("repair them in `{from}` or delete them there, then run it again; `{from}` is in use as before")))
    }
}

impl Moves {
    /// Prepares; the server is first asked when something is wanted of it.
    ///
    /// # Errors
    /// `Config`, when a setting cannot be used.
    pub fn open(stores: &Stores) -> Result<Self> {
        Ok(Self { elastic: Elastic::open(stores)?, closed: Mutex::default() })
    }

    /// The name under which tasks know an index on this server.
    pub fn alias(&self, index: &Index) -> String {
        self.elastic.alias(index)
    }

    /// Opens to writers again what a move closed and did not finish. Asked after an interruption; a move that fails has
    /// asked it itself.
    pub async fn release(&self) {
        let closed = std::mem::take(&mut *self.closed());
        for name in closed {
            if let Err(error) = self.set_closed(&name, false).await {
                tracing::warn!(
                    index = name,
                    error = error.chain(),
                    "it is still closed to writers"
                );
            }
        }
    }

    fn closed(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes an index to writers; returns when those that were at it have ended.
    pub(super) async fn close(&self, name: &str) -> Result<()> {
        self.closed().push(name.to_owned());
        self.set_closed(name, true).await
    }

    /// No longer our concern: it is deleted, or stays closed.
    pub(super) fn forget(&self, name: &str) {
        self.closed().retain(|closed| closed != name);
    }

    async fn set_closed(&self, name: &str, closed: bool) -> Result<()> {
        let client = &self.elastic.client;
        let answer = if closed {
            client.request(Method::Put, &format!("/{name}/_block/write"), &[], None).await?
        } else {
            let open = json!({"index.blocks.write": null});
            client.request(Method::Put, &format!("/{name}/_settings"), &[], Some(&open)).await?
        };
        if answer.is_good() || (!closed && answer.status == 404) {
            return Ok(());
        }
        let what = if closed { "close" } else { "open" };
        Err(refused(&format!("{what} `{name}` to writers"), &answer.json()))
    }

    /// What stands behind a name: physical indices with their aliases, mappings and settings. Empty when there is none.
    pub(super) async fn behind(&self, name: &str) -> Result<Map<String, Value>> {
        Ok(match self.elastic.found(name).await? {
            Some(Value::Object(found)) => found,
            _ => Map::new(),
        })
    }

    /// Carries out alias actions, all or none.
    pub(super) async fn swap(&self, actions: &[Value]) -> Result<()> {
        let body = json!({"actions": actions});
        let answer =
            self.elastic.client.request(Method::Post, "/_aliases", &[], Some(&body)).await?;
        if answer.is_good() {
            return Ok(());
        }
        Err(refused("swap the aliases", &answer.json()))
    }

    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        let path = format!("/{name}");
        let answer = self.elastic.client.request(Method::Delete, &path, &[], None).await?;
        if answer.is_good() || answer.status == 404 {
            return Ok(());
        }
        Err(refused(&format!("delete index `{name}`"), &answer.json()))
    }

    /// Makes the index that a copy goes to, or goes on with the one that an earlier try left.
    ///
    /// # Errors
    /// `Config`, when an index of that name is there that is no unfinished copy of `from`.
    pub(super) async fn begin(&self, index: &Index, from: &str, to: &str) -> Result<()> {
        use super::ensure::{Difference, compare};
        if let Some(found) = self.behind(to).await?.get(to) {
            let meta = &found["mappings"]["_meta"];
            let is_used = found["aliases"].as_object().is_some_and(|aliases| !aliases.is_empty());
            if is_used || meta["copy_of"] != from {
                return Err(Error::config(format!("copy `{from}` to `{to}`: there is an index of that name already"))
                    .hint(format!("it is no unfinished copy of `{from}`: look what it is, and delete it if nobody needs it")));
            }
            let fits = compare("", &index.mapping, &found["mappings"]) == Difference::None
                && meta["version"] == index.mapping["_meta"]["version"];
            if fits {
                return Ok(());
            }
            // An older version of this program began it.
            self.delete(to).await?;
        }
        self.elastic.build(index, to, &Map::new(), Some(from)).await
    }
}

/// An alias action that gives `to` an alias as it was defined elsewhere.
pub(super) fn add(to: &str, alias: &str, defined: &Value) -> Value {
    let mut add = json!({"index": to, "alias": alias});
    for (name, value) in defined.as_object().into_iter().flatten() {
        add[name] = value.clone();
    }
    json!({"add": add})
}
