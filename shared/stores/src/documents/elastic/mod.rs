//! Documents on Elasticsearch 8 and 9 and OpenSearch 2 and 3, through the `elasticsearch` crate.
//!
//! A name is an alias (`<prefix>rss_articles`) of a physical index (`<prefix>rss_articles-v1`). Everything asked of the
//! server is a word that all of them know: no scripts, no by-query calls, no point in time.
//!
//! A read that counts or searches asks for a refresh first, so that what was written is found, as in the embedded store.
//! Writes never do: a refresh for each batch would cost more than the batch.

use std::collections::HashSet;
use std::sync::{Mutex as Lock, MutexGuard, PoisonError};

use async_trait::async_trait;
use base::clock::{Clock, SKEW_MAX};
use base::config::Stores;
use base::{Error, Result};
use elasticsearch::http::Method;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::{
    Aggregation, Body, Counts, Document, DocumentReader, Documents, Identity, Index, LookedAt,
    Page, Query, Scan, Write, Written, countable, deleted, nothings, parts, wholes, within_reach,
};

use self::client::{Client, read_only};
use self::ensure::{fitting, refused};

mod adopt;
mod bulk;
mod client;
mod copy;
mod ensure;
mod look_up;
mod moves;
mod query;
mod reindex;

pub use adopt::Adopted;
pub use moves::{Moves, Progress};
pub use reindex::Reindexed;

/// Documents read at once by a scan.
const SCAN_PAGE: u32 = 500;
/// Letters that a prefix may hold; more than that is refused by one server or the other.
const PREFIX_LETTERS: &str = "abcdefghijklmnopqrstuvwxyz0123456789-_.";

/// The document store on a server.
pub struct Elastic {
    client: Client,
    prefix: String,
    ensured: Mutex<HashSet<&'static str>>,
    /// Indices in which nothing of the last batch was stored before.
    unstored: Lock<HashSet<&'static str>>,
}

#[derive(Deserialize)]
struct Answered {
    hits: Hits,
    #[serde(default)]
    aggregations: Value,
}

#[derive(Deserialize)]
struct Hits {
    total: Option<Total>,
    #[serde(default)]
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Total {
    value: u64,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_source", default)]
    body: Body,
}

impl Elastic {
    /// Prepares the store; the server is first asked when something is wanted of it.
    ///
    /// # Errors
    /// `Config`, when a setting cannot be used.
    pub fn open(stores: &Stores) -> Result<Self> {
        let prefix = stores.es_index_prefix.clone();
        if !prefix.chars().all(|letter| PREFIX_LETTERS.contains(letter))
            || prefix.starts_with(['-', '_', '.'])
        {
            return Err(Error::config(format!("name indices with `ES_INDEX_PREFIX` `{prefix}`"))
                .hint("small letters, digits, `-`, `_` and `.`, the first a letter or a digit"));
        }
        Ok(Self {
            client: Client::new(stores)?,
            prefix,
            ensured: Mutex::default(),
            unstored: Lock::default(),
        })
    }

    fn unstored(&self) -> MutexGuard<'_, HashSet<&'static str>> {
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server holds of ours; nothing is made.
    ///
    /// # Errors
    /// What would keep a task from using it.
    pub async fn look(&self) -> Result<LookedAt> {
        let mut looked = LookedAt::default();
        for index in Index::all() {
            let alias = self.alias(index);
            let count = match self.found(&alias).await? {
                None => None,
                Some(found) => {
                    fitting(index, &alias, &found)?;
                    let path = format!("/{alias}/_count");
                    let answer = self.client.request(Method::Get, &path, &[], None).await?;
                    let said = answer.json();
                    let refused = || refused(&format!("count in `{alias}`"), &said);
                    Some(said["count"].as_u64().ok_or_else(refused)?)
                }
            };
            looked.counts.push((index.name, count));
        }
        looked.place = self.describe().await?;
        Ok(looked)
    }

    /// Makes what was written visible to searches; a user who may not ask for it sees it a second later.
    async fn refresh(&self, alias: &str) -> Result<()> {
        match self.client.request(Method::Post, &format!("/{alias}/_refresh"), &[], None).await {
            Err(error) if error.class() != base::Class::Config => Err(error),
            _ => Ok(()),
        }
    }

    async fn ask(&self, alias: &str, body: &Value) -> Result<Answered> {
        let path = format!("/{alias}/_search");
        let answer = self.client.request(Method::Post, &path, &[], Some(body)).await?;
        if !answer.is_good() {
            return Err(refused(&format!("search `{alias}`"), &answer.json()));
        }
        serde_json::from_slice(&answer.body).map_err(|cause| {
            Error::store(format!("read what the search of `{alias}` found")).because(cause)
        })
    }

    /// An index that was deleted meanwhile is made ready again when it is next asked of.
    async fn forget(&self, index: &'static Index) {
        let mut ensured = self.ensured.lock().await;
        ensured.retain(|name| index.members().iter().all(|member| member.name != *name));
    }

    /// Of the physical indices behind a name: what they are, how many writes they saw and how many documents they hold.
    async fn figures(&self, index: &Index) -> Result<Value> {
        let alias = self.alias(index);
        let query = [
            ("level", "shards"),
            (
                "filter_path",
                "error,indices.*.uuid,indices.*.primaries.docs.count,indices.*.shards.*.routing.primary,indices.*.shards.*.seq_no",
            ),
        ];
        let path = format!("/{alias}/_stats/docs");
        Ok(self.client.request(Method::Get, &path, &query, None).await?.json())
    }

    /// The physical indices of an answer's figures.
    fn figures_of<'s>(&self, index: &Index, said: &'s Value) -> Result<&'s Map<String, Value>> {
        let refused = || refused(&format!("count the writes of `{}`", self.alias(index)), said);
        said["indices"].as_object().ok_or_else(refused)
    }

    /// What `path` answers, null when it is refused: the user may lack the right to see it.
    async fn glance(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        match self.client.request(Method::Get, path, query, None).await {
            Ok(answer) if answer.is_good() => Ok(answer.json()),
            Ok(_) => Ok(Value::Null),
            Err(error) if error.chain().contains("`403`") => Ok(Value::Null),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Documents for Elastic {
    async fn ensure(&self, index: &'static Index) -> Result<()> {
        let mut ensured = self.ensured.lock().await;
        for index in index.members() {
            if !ensured.contains(index.name) {
                self.make(index).await?;
                ensured.insert(index.name);
            }
        }
        Ok(())
    }

    async fn upsert(&self, index: &'static Index, writes: &[Write]) -> Result<Vec<Written>> {
        self.write(index, &parts(writes)?).await
    }

    async fn restore(&self, index: &'static Index, documents: &[Document]) -> Result<Vec<Written>> {
        self.write(index, &wholes(documents)?).await
    }

    async fn delete(&self, index: &'static Index, ids: &[String]) -> Result<u64> {
        let outcomes = self.write(index, &nothings(ids)?).await?;
        match outcomes.iter().zip(ids).find_map(|(outcome, id)| match outcome {
            Written::Failed(why) | Written::Rejected(why) => Some((id, why)),
            _ => None,
        }) {
            None => Ok(deleted(&outcomes)),
            Some((id, why)) => Err(Error::store(format!("delete document `{id}`: {why}"))),
        }
    }
}

#[async_trait]
impl DocumentReader for Elastic {
    async fn get(&self, index: &'static Index, id: &str) -> Result<Option<Body>> {
        self.ensure(index).await?;
        for index in index.members() {
            let mut found = self.look_up(&self.alias(index), &[id], None).await?;
            if let Some(body) = found.pop().and_then(|found| found.source) {
                return Ok(Some(body));
            }
        }
        Ok(None)
    }

    async fn fields_of(
        &self,
        index: &'static Index,
        ids: &[&str],
        fields: &[&str],
    ) -> Result<Vec<Option<Body>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.ensure(index).await?;
        let found = self.look_up(&self.alias(index), ids, Some(&fields.join(","))).await?;
        Ok(found.into_iter().map(|found| found.source).collect())
    }

    async fn count(&self, index: &'static Index, query: &Query) -> Result<u64> {
        self.ensure(index).await?;
        let alias = self.alias(index);
        let body = json!({"query": query::conditions(index, query)?});
        self.refresh(&alias).await?;
        let path = format!("/{alias}/_count");
        let answer = self.client.request(Method::Post, &path, &[], Some(&body)).await?;
        let said = answer.json();
        said["count"].as_u64().ok_or_else(|| refused(&format!("count in `{alias}`"), &said))
    }

    async fn search(&self, index: &'static Index, query: &Query) -> Result<Page> {
        within_reach(query)?;
        self.ensure(index).await?;
        let alias = self.alias(index);
        let body = json!({
            "query": query::conditions(index, query)?,
            "sort": query::order(index, query)?,
            "from": query.offset,
            "size": query.limit,
            "track_total_hits": true,
        });
        self.refresh(&alias).await?;
        let found = self.ask(&alias, &body).await?.hits;
        let total = found.total.map_or(0, |total| total.value);
        Ok(Page { total, documents: found.hits.into_iter().map(document).collect() })
    }

    async fn aggregate(
        &self,
        index: &'static Index,
        query: &Query,
        aggregation: &Aggregation,
    ) -> Result<Counts> {
        countable(index, aggregation)?;
        self.ensure(index).await?;
        let alias = self.alias(index);
        let body = json!({
            "query": query::conditions(index, query)?,
            "size": 0,
            "track_total_hits": false,
            "aggs": query::aggregations(index, aggregation)?,
        });
        self.refresh(&alias).await?;
        let said = self.ask(&alias, &body).await?.aggregations;
        query::counts(&said).ok_or_else(|| refused(&format!("count values of `{alias}`"), &said))
    }

    async fn scan(&self, index: &'static Index, scan: &Scan) -> Result<Vec<Document>> {
        self.ensure(index).await?;
        let alias = self.alias(index);
        if scan.after.is_none() {
            self.refresh(&alias).await?;
        }
        // By the field, as a server may be set not to sort by `_id`.
        let mut body = json!({"sort": [{"id": "asc"}], "track_total_hits": false});
        if scan.text.is_some() || !scan.filters.is_empty() {
            let query = Query {
                text: scan.text.clone(),
                filters: scan.filters.clone(),
                ..Query::default()
            };
            body["query"] = query::conditions(index, &query)?;
        }
        if let Some(fields) = &scan.fields {
            // A server takes an empty list for all fields.
            body["_source"] = if fields.is_empty() { json!(false) } else { json!(fields) };
        }
        let limit = scan.limit as usize;
        let mut after = scan.after.clone();
        let mut documents: Vec<Document> = Vec::new();
        while documents.len() < limit {
            let left = (limit - documents.len()).min(SCAN_PAGE as usize);
            body["size"] = json!(left);
            if let Some(after) = &after {
                body["search_after"] = json!([after]);
            }
            let found = self.ask(&alias, &body).await?.hits.hits;
            let is_last = found.len() < left;
            documents.extend(found.into_iter().map(document));
            if is_last {
                break;
            }
            after = documents.last().map(|document| document.id.clone());
        }
        Ok(documents)
    }

    async fn sequence(&self, index: &'static Index) -> Result<u64> {
        self.ensure(index).await?;
        let said = self.figures(index).await?;
        let indices = self.figures_of(index, &said)?;
        Ok(indices.values().map(writes_of).sum())
    }

    async fn identity(&self, index: &'static Index) -> Result<Identity> {
        self.ensure(index).await?;
        let alias = self.alias(index);
        self.refresh(&alias).await?;
        let mut said = self.figures(index).await?;
        if said["indices"].as_object().is_none_or(|found| found.len() < index.members().len()) {
            // Another has deleted what this process made ready.
            self.forget(index).await;
            self.ensure(index).await?;
            said = self.figures(index).await?;
        }
        let indices = self.figures_of(index, &said)?;
        let stores: Vec<&str> =
            indices.values().filter_map(|index| index["uuid"].as_str()).collect();
        if stores.is_empty() || stores.len() != indices.len() {
            return Err(refused(&format!("read which index `{alias}` is"), &said));
        }
        Ok(Identity {
            store: stores.join(","),
            sequence: indices.values().map(writes_of).sum(),
            documents: indices
                .values()
                .filter_map(|index| index["primaries"]["docs"]["count"].as_u64())
                .sum(),
        })
    }

    async fn describe(&self) -> Result<String> {
        let health = self.glance("/_cluster/health", &[]).await?;
        let nodes = self.glance("/_cat/nodes", &[("h", "version"), ("format", "json")]).await?;
        let mut says = format!("on the server at {}", self.client.shown());
        if let Some(version) = nodes[0]["version"].as_str() {
            says.push_str(&format!(", version {version}"));
        }
        if let Some(status) = health["status"].as_str() {
            says.push_str(&format!(", its health {status}"));
        }
        // The machine that answers tells its time with its figures.
        let asked = Clock::Machine.now(None);
        let figures = [("filter_path", "nodes.*.timestamp")];
        let figures = self.glance("/_nodes/_local/stats/os", &figures).await?;
        let theirs = figures["nodes"].as_object().and_then(|nodes| nodes.values().next());
        if let Some(theirs) = theirs.and_then(|node| node["timestamp"].as_i64()) {
            agree(asked, theirs)?;
        }
        if !self.prefix.is_empty() {
            says.push_str(&format!(", indices `{}…`", self.prefix));
        }
        let all: Vec<String> = Index::all().iter().map(|index| self.alias(index)).collect();
        let all = all.join(",");
        let there = [("ignore_unavailable", "true")];
        let settings = self.glance(&format!("/{all}/_settings"), &there).await?;
        for (name, index) in settings.as_object().into_iter().flatten() {
            let blocks = &index["settings"]["index"]["blocks"];
            for block in ["read_only_allow_delete", "read_only", "write"] {
                if blocks[block] == "true" {
                    return Err(read_only(&format!("`{name}` has the block `{block}`")));
                }
            }
        }
        let mapping = self.glance(&format!("/{all}/_mapping"), &there).await?;
        let unfolded: Vec<String> = mapping
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, index)| index["mappings"]["_meta"]["folds_accents"] == false)
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        if !unfolded.is_empty() {
            says.push_str(&format!(
                "; words are found only with their accents, as the server has no `asciifolding`, in {}",
                if unfolded.len() < Index::all().len() { unfolded.join(", ") } else { "every index".to_owned() }
            ));
        }
        for silent in self.client.silent().await {
            says.push_str(&format!("; one address does not answer: {silent}"));
        }
        Ok(says)
    }
}

/// How many writes a physical index has seen.
fn writes_of(index: &Value) -> u64 {
    let shards = index["shards"].as_object().into_iter().flat_map(Map::values);
    shards
        .filter_map(Value::as_array)
        .flatten()
        .filter(|copy| copy["routing"]["primary"] == true)
        // The number of the last write of a shard; -1 where there was none.
        .filter_map(|copy| copy["seq_no"]["max_seq_no"].as_i64())
        .map(|last| (last + 1).max(0).cast_unsigned())
        .sum()
}

/// Refuses a server whose clock, in milliseconds since 1970, is not ours.
fn agree(ours: Timestamp, theirs: i64) -> Result<()> {
    let ahead = SignedDuration::from_millis(theirs.saturating_sub(ours.as_millisecond()));
    if ahead.abs() <= SKEW_MAX {
        return Ok(());
    }
    Err(Error::store(format!(
        "agree with the document server on the time: its clock is {} s ahead of this machine's",
        ahead.as_secs()
    ))
    .hint("set both by NTP; readers who ask for the last hour ask by the server's clock"))
}

fn document(hit: Hit) -> Document {
    Document { id: hit.id, body: hit.body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_not_ours_is_told() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let theirs = now.as_millisecond();
        agree(now, theirs + 4_000).unwrap();
        assert!(agree(now, theirs + 90_000).unwrap_err().chain().contains("is 90 s ahead"));
        assert!(agree(now, theirs - 7_200_000).unwrap_err().chain().contains("is -7200 s ahead"));
    }
}
