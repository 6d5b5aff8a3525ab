//! What copying a whole index stands on: a view that does not move while it is read, and bulk requests that may be sent
//! again. Neither needs `_reindex` or scripts, which not every server has.

use base::{Error, Result};
use elasticsearch::http::Method;
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bulk::{BATCH_BYTES, BATCH_COUNT};
use super::client::{Trouble, is_block, read_only, reason};
use super::ensure::refused;
use super::{Elastic, Total};
use crate::documents::Body;
use crate::documents::batches::batches;

/// Documents of one page of a view; with what is stored of each, this bounds the memory of a copy.
const PAGE: u32 = 200;
/// How long the server keeps a view between two pages.
const KEPT: &str = "5m";

/// A document of a view.
pub(super) struct ScrolledDocument {
    pub(super) id: String,
    pub(super) body: Body,
}

#[derive(Deserialize)]
struct ScrollAnswer {
    #[serde(rename = "_scroll_id")]
    scroll: String,
    #[serde(rename = "_shards")]
    shards: Shards,
    hits: Hits,
}

#[derive(Deserialize)]
struct Shards {
    failed: u64,
}

#[derive(Deserialize)]
struct Hits {
    total: Option<Total>,
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_source")]
    body: Option<Body>,
}

/// An index as it was at one moment, page by page.
pub(super) struct View<'a> {
    elastic: &'a Elastic,
    of: String,
    scroll: String,
    next: Vec<Hit>,
    read: u64,
    /// How many documents there are.
    pub(super) total: u64,
}

impl View<'_> {
    /// The next page; `None` when all was seen.
    ///
    /// # Errors
    /// `Store`, also when the server gave fewer documents than there were: an answer that is lost takes its page with it.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<ScrolledDocument>>> {
        if self.next.is_empty() {
            let ids = json!({"scroll_id": [&self.scroll]});
            let path = "/_search/scroll";
            // What is not taken away ends by itself.
            let _ = self.elastic.client.request(Method::Delete, path, &[], Some(&ids)).await;
            if self.read == self.total {
                return Ok(None);
            }
            return Err(Error::store(format!(
                "read `{}`: {} of {} documents came",
                self.of, self.read, self.total
            ))
            .hint("run it again: what was copied is kept"));
        }
        let page = std::mem::take(&mut self.next);
        self.read += page.len() as u64;
        let body = json!({"scroll": KEPT, "scroll_id": self.scroll});
        let path = "/_search/scroll";
        let answer = self.elastic.client.request(Method::Post, path, &[], Some(&body)).await?;
        let answered = read(&self.of, answer.is_good(), &answer.body)?;
        self.scroll = answered.scroll;
        self.next = answered.hits.hits;
        page.into_iter()
            .map(|hit| {
                let body = hit.body.ok_or_else(|| {
                    Error::config(format!("copy `{}`: it keeps no `_source`", self.of))
                        .hint("what was written to it cannot be read back from it")
                })?;
                Ok(ScrolledDocument { id: hit.id, body })
            })
            .collect::<Result<_>>()
            .map(Some)
    }
}

fn read(of: &str, is_good: bool, body: &[u8]) -> Result<ScrollAnswer> {
    let failed = |said: &Value| refused(&format!("read a page of `{of}`"), said);
    if !is_good {
        return Err(failed(&serde_json::from_slice(body).unwrap_or_default()));
    }
    let answered: ScrollAnswer =
        serde_json::from_slice(body).map_err(|cause| failed(&Value::Null).because(cause))?;
    if answered.shards.failed > 0 {
        return Err(failed(&json!({"error": "a part of the index did not answer"})));
    }
    Ok(answered)
}

/// One action of a bulk request, as its lines.
pub(super) struct Action(Bytes);

impl Action {
    /// Puts a document under an id; `operation` is what a bulk request says of it.
    pub(super) fn put(operation: &Value, body: &Body) -> Self {
        let mut lines = operation.to_string().into_bytes();
        lines.push(b'\n');
        serde_json::to_writer(&mut lines, body).expect("JSON is written to memory");
        lines.push(b'\n');
        Self(lines.into())
    }

    /// Takes a document away.
    pub(super) fn delete(id: &str) -> Self {
        Self(format!("{}\n", json!({"delete": {"_id": id}})).into())
    }
}

/// What became of an action.
pub(super) enum Put {
    Done,
    /// Another document, or another version of it, is there: read again.
    Taken,
    /// The server will not have it.
    Refused(String),
}

impl Elastic {
    /// A view of those documents of `of` that match.
    pub(super) async fn view(&self, of: &str, query: &Value) -> Result<View<'_>> {
        self.refresh(of).await?;
        let path = format!("/{of}/_search");
        let body =
            json!({"size": PAGE, "query": query, "sort": ["_doc"], "track_total_hits": true});
        let answer =
            self.client.request(Method::Post, &path, &[("scroll", KEPT)], Some(&body)).await?;
        let answered = read(of, answer.is_good(), &answer.body)?;
        Ok(View {
            elastic: self,
            of: of.to_owned(),
            scroll: answered.scroll,
            read: 0,
            total: answered.hits.total.map_or(0, |total| total.value),
            next: answered.hits.hits,
        })
    }

    /// How many documents a physical index holds.
    pub(super) async fn count_in(&self, of: &str) -> Result<u64> {
        self.refresh(of).await?;
        let answer = self.client.request(Method::Get, &format!("/{of}/_count"), &[], None).await?;
        let said = answer.json();
        said["count"].as_u64().ok_or_else(|| refused(&format!("count in `{of}`"), &said))
    }

    /// Sends actions to a physical index until each is settled.
    pub(super) async fn put(&self, to: &str, actions: &[Action]) -> Result<Vec<Put>> {
        let mut settled: Vec<Option<Put>> = actions.iter().map(|_| None).collect();
        let mut patience = self.client.patience();
        loop {
            let pending: Vec<usize> =
                (0..actions.len()).filter(|place| settled[*place].is_none()).collect();
            if pending.is_empty() {
                return Ok(settled.into_iter().flatten().collect());
            }
            let mut trouble = None;
            let mut waiting: Vec<&[usize]> =
                batches(&pending, |place| actions[*place].0.len(), BATCH_COUNT, BATCH_BYTES)
                    .collect();
            while let (Some(part), None) = (waiting.pop(), &trouble) {
                let mut body = Vec::new();
                part.iter().for_each(|place| body.extend_from_slice(&actions[*place].0));
                let query = [("filter_path", "errors,error,items.*.status,items.*.error")];
                let path = format!("/{to}/_bulk");
                match self.client.send(Method::Post, &path, &query, Some(body.into())).await {
                    Ok(answer) if answer.is_good() => {
                        trouble = note(to, part, &answer.json(), &mut settled)?;
                    }
                    Ok(answer) if answer.status == 413 => match part {
                        [place] => {
                            let why = "the document is larger than the server takes".to_owned();
                            settled[*place] = Some(Put::Refused(why));
                        }
                        _ => waiting.extend(<[_; 2]>::from(part.split_at(part.len() / 2))),
                    },
                    Ok(answer) => {
                        return Err(refused(&format!("write to `{to}`"), &answer.json()));
                    }
                    Err(error) => trouble = Some(error),
                }
            }
            let asked = match trouble {
                None => continue,
                Some(Trouble::Final(error)) => return Err(error),
                Some(Trouble::Overloaded(_, asked)) => asked,
                Some(Trouble::Lost(_)) => None,
            };
            if settled.iter().filter(|put| put.is_none()).count() < pending.len() {
                patience = self.client.patience();
            }
            if !patience.wait(asked).await {
                return Err(Error::store(format!(
                    "write to `{to}`: the server had no time for it"
                ))
                .hint("run it again: what was copied is kept"));
            }
        }
    }
}

fn note(
    to: &str,
    part: &[usize],
    said: &Value,
    settled: &mut [Option<Put>],
) -> Result<Option<Trouble>> {
    let items = said["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.len() != part.len() {
        return Err(Error::store(format!(
            "write to `{to}`: {} answers to {} actions",
            items.len(),
            part.len()
        )));
    }
    let mut trouble = None;
    for (place, item) in part.iter().zip(items) {
        let item = item.as_object().and_then(|item| item.values().next()).unwrap_or(&Value::Null);
        let why = || reason(item).trim_start_matches([':', ' ']).to_owned();
        settled[*place] = match item["status"].as_u64().unwrap_or(0) {
            // What was to be taken away may be away already.
            200 | 201 => Some(Put::Done),
            404 if item["error"].is_null() => Some(Put::Done),
            409 => Some(Put::Taken),
            403 | 429 if is_block(&item["error"]) => return Err(read_only(&why())),
            429 | 503 => {
                let error = Error::store(format!("write to `{to}`: {}", why()));
                trouble = Some(Trouble::Overloaded(error, None));
                None
            }
            _ => Some(Put::Refused(why())),
        };
    }
    Ok(trouble)
}
