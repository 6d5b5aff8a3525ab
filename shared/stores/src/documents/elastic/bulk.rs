//! Change-only writes: read what is stored, let [`plan`](crate::documents::plan()) decide, write the rest in bulk.
//!
//! A write is a `create`, or an `index` that holds only if the document is as it was read. So nothing is lost to another
//! writer, and what was sent twice is stored once: whatever is not settled is read again and planned again. Deleting goes
//! the same way, so that what is not there costs no write.
//!
//! Where nothing of the last batch was stored, as in the first sync of a feed, the next one is sent unread: a `create` of what
//! is there is refused, and then it is read as ever.

use std::collections::BTreeSet;

use base::{Error, Result};
use elasticsearch::http::Method;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Elastic;
use super::client::{Trouble, is_block, read_only, reason};
use super::ensure::refused;
use super::look_up::Found;
use crate::documents::batches::{batches, weight};
use crate::documents::document::OWNERS;
use crate::documents::plan::{ID, Intent, Part, Plan};
use crate::documents::{Body, Documents as _, Index, Owner, Written, too_large, writable};

/// Documents looked up, and written, at once.
pub(super) const BATCH_COUNT: usize = 2_500;
/// Bytes of documents looked up, and of one bulk request. A single larger document goes alone.
pub(super) const BATCH_BYTES: usize = 5 << 20;
/// Stored documents read whole at once, for those writes that change one.
const WHOLE_COUNT: usize = 200;
/// About how many bytes writes and what is stored of them have that are read whole at once.
const WHOLE_BYTES: usize = 1 << 20;
/// So few are read whole at once, whether they differ or not: a second question would cost more than their bytes.
const WHOLE_AT_ONCE: usize = 8;
/// Batches under way at once.
const IN_FLIGHT: usize = 2;
/// Errors by which a server says that it will not take a document as it is. Others pass, or are a matter of the index.
const REJECTIONS: &[&str] = &[
    "document_parsing_exception",
    "mapper_parsing_exception",
    "illegal_argument_exception",
    "strict_dynamic_mapping_exception",
    "parsing_exception",
    "x_content_parse_exception",
    "json_parse_exception",
    "max_bytes_length_exceeded_exception",
];
/// Times that a write may lose against other writers of the same document.
const CONFLICTS_MAX: u32 = 100;

/// What is done to a document, as the server reads it.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Action<'a> {
    Create {
        #[serde(rename = "_id")]
        id: &'a str,
    },
    /// Holds only if the document is still of this version.
    Index {
        #[serde(rename = "_id")]
        id: &'a str,
        if_seq_no: u64,
        if_primary_term: u64,
    },
    Delete {
        #[serde(rename = "_id")]
        id: &'a str,
    },
}

/// What the server says to a bulk request.
#[derive(Default, Deserialize)]
struct BulkAnswer {
    items: Vec<ActionAnswer>,
}

/// What it says to one action, under that action's name.
#[derive(Deserialize)]
struct ActionAnswer {
    #[serde(alias = "create", alias = "delete")]
    index: Settled,
}

#[derive(Deserialize)]
struct Settled {
    #[serde(default)]
    status: u16,
    #[serde(default)]
    error: Value,
}

/// One bulk request in the making.
#[derive(Default)]
struct Bulk {
    lines: Vec<u8>,
    /// Where each action ends in `lines`, which write it is, and what it will have been.
    actions: Vec<(usize, usize, Written)>,
}

impl Bulk {
    /// Adds an action; or says why its document is not written.
    fn add(
        &mut self,
        place: usize,
        action: &Action<'_>,
        body: Option<&Body>,
        outcome: Written,
    ) -> Result<(), Written> {
        let start = self.lines.len();
        serde_json::to_writer(&mut self.lines, action).expect("JSON is written to memory");
        self.lines.push(b'\n');
        if let Some(body) = body {
            let from = self.lines.len();
            serde_json::to_writer(&mut self.lines, body).expect("JSON is written to memory");
            if let Some(why) = too_large(self.lines.len() - from, body) {
                self.lines.truncate(start);
                return Err(Written::Rejected(why));
            }
            self.lines.push(b'\n');
        }
        self.actions.push((self.lines.len(), place, outcome));
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= BATCH_BYTES || self.actions.len() >= BATCH_COUNT
    }
}

/// A batch, all of one kind: what is known of each of its writes.
struct Batch<'a> {
    elastic: &'a Elastic,
    index: &'static Index,
    alias: String,
    writes: &'a [Intent<'a>],
    settled: Vec<Option<Written>>,
    /// What a write would have been whose answer was lost.
    perhaps: Vec<Option<Written>>,
    conflicts: Vec<u32>,
    /// What kept a request of this round from being carried out.
    trouble: Option<Trouble>,
}

impl Elastic {
    pub(super) async fn write(
        &self,
        index: &'static Index,
        writes: &[Intent<'_>],
    ) -> Result<Vec<Written>> {
        writable(index)?;
        self.ensure(index).await?;
        let batches: Vec<_> = batches(writes, Intent::weight, BATCH_COUNT, BATCH_BYTES)
            .map(|writes| {
                let batch = Batch {
                    elastic: self,
                    index,
                    alias: self.alias(index),
                    writes,
                    settled: vec![None; writes.len()],
                    perhaps: vec![None; writes.len()],
                    conflicts: vec![0; writes.len()],
                    trouble: None,
                };
                batch.write().boxed()
            })
            .collect();
        stream::iter(batches).buffered(IN_FLIGHT).try_concat().await
    }
}

impl Batch<'_> {
    async fn write(mut self) -> Result<Vec<Written>> {
        let mut patience = self.elastic.client.patience();
        if self.is_expected_to_be_new() {
            self.create_unread().await?;
        }
        loop {
            let pending: Vec<usize> =
                (0..self.writes.len()).filter(|place| self.settled[*place].is_none()).collect();
            if pending.is_empty() {
                return Ok(self.settled.into_iter().flatten().collect());
            }
            if self.trouble.is_none() {
                self.round(&pending).await?;
            }
            let left = self.settled.iter().filter(|outcome| outcome.is_none()).count();
            if left < pending.len() {
                patience = self.elastic.client.patience();
            }
            match self.trouble.take() {
                Some(Trouble::Final(error)) => return Err(error),
                Some(trouble) => {
                    let asked = match &trouble {
                        Trouble::Overloaded(_, asked) => *asked,
                        _ => None,
                    };
                    if !patience.wait(asked).await {
                        return Err(trouble.into_error());
                    }
                }
                None => {}
            }
        }
    }

    /// Whether none of it is likely to be stored, and each would be created if it is not.
    fn is_expected_to_be_new(&self) -> bool {
        let creates = |intent: &Intent<'_>| match intent {
            Intent::Write(write) => write.parts.iter().all(|part| part.retired_at.is_none()),
            Intent::Whole(_) => true,
            Intent::Nothing(_) => false,
        };
        self.writes.len() > WHOLE_AT_ONCE
            && self.elastic.unstored().contains(self.index.name)
            && self.writes.iter().all(creates)
    }

    /// Sends everything as new. What the server has already is refused, and stays to be read.
    async fn create_unread(&mut self) -> Result<()> {
        let mut bulk = Bulk::default();
        for place in 0..self.writes.len() {
            self.plan_one(&mut bulk, place, &Found::nothing());
            self.send_if_full(&mut bulk).await?;
        }
        self.send(bulk).await
    }

    /// Reads, plans and sends what is not settled, once.
    async fn round(&mut self, pending: &[usize]) -> Result<()> {
        let fields = telling(pending.iter().map(|place| &self.writes[*place]));
        let is_whole = pending.len() <= WHOLE_AT_ONCE;
        let known = self.look_up(pending, Some(fields.as_str()).filter(|_| !is_whole)).await?;
        if !is_whole {
            let name = self.index.name;
            match known.iter().all(|known| known.source.is_none()) {
                true => self.elastic.unstored().insert(name),
                false => self.elastic.unstored().remove(name),
            };
        }
        let mut bulk = Bulk::default();
        let mut differing = Vec::new();
        for (place, known) in pending.iter().copied().zip(known) {
            let write = &self.writes[place];
            match &known.source {
                Some(stored) if write.is_unchanged(stored) => {
                    let outcome = self.perhaps[place].take().unwrap_or(Written::Unchanged);
                    self.settled[place] = Some(outcome);
                }
                Some(stored) if !is_whole && !matches!(write, Intent::Nothing(_)) => {
                    // What writers share stands in the document twice.
                    let shared: usize = stored.values().map(weight).sum();
                    differing.push((place, write.weight() + 2 * shared));
                }
                _ => {
                    self.plan_one(&mut bulk, place, &known);
                    self.send_if_full(&mut bulk).await?;
                }
            }
        }
        for group in batches(&differing, |(_, bytes)| *bytes, WHOLE_COUNT, WHOLE_BYTES) {
            let group: Vec<usize> = group.iter().map(|(place, _)| *place).collect();
            let known = self.look_up(&group, None).await?;
            for (place, known) in group.into_iter().zip(known) {
                self.plan_one(&mut bulk, place, &known);
                self.send_if_full(&mut bulk).await?;
            }
        }
        self.send(bulk).await
    }

    fn plan_one(&mut self, bulk: &mut Bulk, place: usize, known: &Found) {
        let write = &self.writes[place];
        let id = write.id();
        let added = match write.plan(known.source.as_ref()) {
            Plan::Create(body) => {
                bulk.add(place, &Action::Create { id }, Some(&body), Written::New)
            }
            Plan::Update(body) => {
                let (if_seq_no, if_primary_term) = (known.seq_no, known.primary_term);
                let action = Action::Index { id, if_seq_no, if_primary_term };
                bulk.add(place, &action, Some(&body), Written::Changed)
            }
            Plan::Delete => bulk.add(place, &Action::Delete { id }, None, Written::Changed),
            Plan::Unchanged => Err(self.perhaps[place].take().unwrap_or(Written::Unchanged)),
        };
        if let Err(settled) = added {
            self.settled[place] = Some(settled);
        }
    }

    /// What is stored of these writes: the given fields, or everything.
    async fn look_up(&self, places: &[usize], fields: Option<&str>) -> Result<Vec<Found>> {
        let ids: Vec<&str> = places.iter().map(|place| self.writes[*place].id()).collect();
        self.elastic.look_up(&self.alias, &ids, fields).await
    }

    async fn send_if_full(&mut self, bulk: &mut Bulk) -> Result<()> {
        if bulk.is_full() { self.send(std::mem::take(bulk)).await } else { Ok(()) }
    }

    /// Sends a bulk request, in halves where it is too large for the server, and notes what became of each action.
    async fn send(&mut self, bulk: Bulk) -> Result<()> {
        let lines = Bytes::from(bulk.lines);
        let mut waiting = vec![(0, bulk.actions.as_slice())];
        while let Some((start, actions)) = waiting.pop() {
            let Some((end, place, _)) = actions.last() else { continue };
            if self.trouble.is_some() {
                return Ok(());
            }
            let body = lines.slice(start..*end);
            let query = [
                // Without this, an alias that was taken away becomes an index with a guessed mapping.
                ("require_alias", "true"),
                ("filter_path", "errors,error,items.*.status,items.*.error"),
                ("refresh", "false"),
            ];
            let path = format!("/{}/_bulk", self.alias);
            match self.elastic.client.send(Method::Post, &path, &query, Some(body)).await {
                Ok(answer) if answer.is_good() => {
                    self.note(actions, serde_json::from_slice(&answer.body).unwrap_or_default())?;
                }
                Ok(answer) if answer.status == 413 => match actions.len() {
                    1 => {
                        let size = end - start;
                        self.settled[*place] = Some(Written::Rejected(format!(
                            "the document of {size} bytes is larger than the server takes"
                        )));
                    }
                    count => {
                        let (first, second) = actions.split_at(count / 2);
                        let middle = first.last().map_or(start, |(end, ..)| *end);
                        waiting.push((middle, second));
                        waiting.push((start, first));
                    }
                },
                Ok(answer) => {
                    return Err(refused(&format!("write to `{}`", self.alias), &answer.json()));
                }
                Err(trouble) => {
                    // A lost answer leaves open what was done; so does a gateway that stands in between.
                    for (_, place, outcome) in actions {
                        self.perhaps[*place] = Some(outcome.clone());
                    }
                    self.trouble = Some(trouble);
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, actions: &[(usize, usize, Written)], said: BulkAnswer) -> Result<()> {
        if said.items.len() != actions.len() {
            return Err(Error::store(format!(
                "write to `{}`: {} answers to {} actions",
                self.alias,
                said.items.len(),
                actions.len()
            )));
        }
        for ((_, place, outcome), ActionAnswer { index: Settled { status, error } }) in
            actions.iter().zip(said.items)
        {
            if matches!(status, 200 | 201) {
                self.settled[*place] = Some(outcome.clone());
                continue;
            }
            let item = json!({"error": error});
            let why = || reason(&item).trim_start_matches([':', ' ']).to_owned();
            match status {
                409 => {
                    self.conflicts[*place] += 1;
                    if self.conflicts[*place] > CONFLICTS_MAX {
                        self.settled[*place] = Some(Written::Failed(format!(
                            "other writers came first {CONFLICTS_MAX} times"
                        )));
                    }
                }
                403 | 429 if is_block(&item["error"]) => return Err(read_only(&why())),
                429 | 503 => {
                    let error = Error::store(format!("write to `{}`: {}", self.alias, why()))
                        .hint("the server has too much to do; the next tick tries again");
                    self.trouble.get_or_insert(Trouble::Overloaded(error, None));
                }
                // Another has deleted it.
                404 if item["error"].is_null() => {
                    let outcome = self.perhaps[*place].take().unwrap_or(Written::Unchanged);
                    self.settled[*place] = Some(outcome);
                }
                404 => return Err(refused(&format!("write to `{}`", self.alias), &item)),
                _ => {
                    let kind = item["error"]["type"].as_str().unwrap_or_default();
                    let is_for_good = REJECTIONS.contains(&kind);
                    let settled = if is_for_good { Written::Rejected } else { Written::Failed };
                    self.settled[*place] = Some(settled(why()));
                }
            }
        }
        Ok(())
    }
}

/// The fields of stored documents that tell whether they are unchanged, or at least that they are there.
fn telling<'a>(writes: impl Iterator<Item = &'a Intent<'a>>) -> String {
    // Few owners write many documents.
    let mut owners: Vec<&Owner> = Vec::new();
    for write in writes {
        let Intent::Write(write) = write else { continue };
        for Part { owner, .. } in &write.parts {
            if owners.iter().all(|known| known.name != owner.name) {
                owners.push(owner);
            }
        }
    }
    if owners.is_empty() {
        return ID.to_owned();
    }
    let hash = |owner: &&Owner| format!("{OWNERS}.hashes.{}", owner.name);
    let mut fields: BTreeSet<String> = owners.iter().map(hash).collect();
    if owners.iter().any(|owner| !owner.shared.is_empty()) {
        fields.insert(format!("{OWNERS}.shared"));
    }
    fields.into_iter().collect::<Vec<_>>().join(",")
}
