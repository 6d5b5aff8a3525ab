//! The feed of what is new in the library.

use std::collections::{BTreeMap, HashSet};

use base::Result;
use feed::{FeedError, Hints, Repair};
use jiff::Timestamp;
use serde_json::Value;
use stores::documents::{Filter, Index, Pages, Scan};
use task::{Answer, Stop, Visit};
use url::Url;

use super::{Batch, head_of, store, unreadable};
use crate::api::{Api, panicked};
use crate::catalogue::note_cut;
use crate::reference::{self, LatestReference};
use crate::sources::Source;

const ACCEPT: &str = "application/rss+xml, application/xml;q=0.9, */*;q=0.5";

/// Items that are taken of the feed; it has some 50.
const ITEMS_MAX: usize = 5_000;

/// Addresses or keys that one request to the store asks for.
const ASKED: usize = 500;

pub(super) async fn read(
    visit: &mut Visit<'_>,
    api: &Api,
    index: &'static Index,
) -> Result<(), Stop> {
    let url = api.url(Source::LibraryRss.path())?;
    while let Some(answer) = visit.get(api.get(&url).accept(ACCEPT)).await? {
        let (head, base, now) = (head_of(&answer), api.base.clone(), visit.ctx().now());
        let is_truncated = answer.is_truncated();
        let cutoff = visit.cutoff();
        let reading =
            tokio::task::spawn_blocking(move || parse(&answer, &base, now, || cutoff.is_over()));
        let mut latest = reading
            .await
            .map_err(|_| panicked(&url))?
            .map_err(|error| unreadable(&url, &format!("it is no RSS feed: {error}"), &head))?;
        if visit.is_cut_off() {
            return Ok(());
        }
        for repair in &latest.repairs {
            visit.note(format!("repaired: {}", repair.name()));
        }
        if is_truncated {
            visit.note("the connection ended early; what came is kept, and it is asked again");
        }
        note_cut(visit, latest.batch.cut);
        meet_bibliography(visit, index, &mut latest.items).await?;
        let mut seen = HashSet::new();
        for LatestReference { write, .. } in latest.items {
            match seen.insert(write.id.clone()) {
                true => latest.batch.writes.push(write),
                false => latest.batch.merged += 1,
            }
        }
        store(visit, index, latest.batch).await?;
        visit.learn_habit(latest.dates);
    }
    Ok(())
}

/// What the feed of new references holds.
struct LatestReferences {
    /// Counts and rejects.
    batch: Batch,
    items: Vec<LatestReference>,
    dates: Vec<Timestamp>,
    repairs: Vec<Repair>,
}

fn parse(
    answer: &Answer,
    base: &Url,
    now: Timestamp,
    is_over: impl Fn() -> bool,
) -> Result<LatestReferences, FeedError> {
    let hints = Hints { content_type: answer.content_type(), url: answer.url() };
    let mut reader = feed::open(answer.body(), &hints)?;
    let (mut batch, mut dates, mut items) = (Batch::default(), Vec::new(), Vec::new());
    while !is_over()
        && let Some(chunk) = reader.next_chunk()?
    {
        batch.found += (chunk.entries.len() + chunk.rejects.len()) as u64;
        for reject in &chunk.rejects {
            batch.reject(|| {
                format!("item {}: {}: `{}`", reject.index + 1, reject.reason, reject.head)
            });
        }
        for entry in &chunk.entries {
            if items.len() == ITEMS_MAX {
                batch.reject(|| format!("more than {ITEMS_MAX} items are not taken"));
                continue;
            }
            dates.extend(entry.published.or(entry.updated));
            match reference::of_item(base, entry, now) {
                None => batch.reject(|| {
                    let title = entry.title.as_deref().unwrap_or_default();
                    let shown = title.chars().take(super::HEAD_CHARS).collect::<String>();
                    format!("item {}: it has neither link nor id: `{shown}`", entry.index + 1)
                }),
                Some(item) => {
                    batch.cut += item.cut;
                    items.push(item);
                }
            }
        }
    }
    Ok(LatestReferences { batch, items, dates, repairs: reader.head().repairs.clone() })
}

/// Gives each item the document that the bibliography has of it: one whose address changed keeps its first id.
async fn meet_bibliography(
    visit: &Visit<'_>,
    index: &'static Index,
    items: &mut [LatestReference],
) -> Result<()> {
    let all = |field: &str, of: fn(&LatestReference) -> &Option<String>| {
        let values: Vec<String> = items.iter().filter_map(|item| of(item).clone()).collect();
        (field.to_owned(), values)
    };
    let asked = [all("link_canonical", |item| &item.address), all("bib_keys", |item| &item.guid)];
    let mut known: [BTreeMap<String, String>; 2] = Default::default();
    for ((field, values), known) in asked.into_iter().zip(&mut known) {
        for values in values.chunks(ASKED) {
            let filters = vec![
                Filter::Terms(field.clone(), values.to_vec()),
                Filter::Exists("bib_keys".to_owned()),
            ];
            let scan = Scan { filters, ..Scan::of(&["link_canonical", "bib_keys"]) };
            let mut pages = Pages::new(visit.ctx().documents.as_ref(), index, scan);
            while let Some(page) = pages.next().await? {
                for document in page {
                    let under = match document.body.get(&field) {
                        Some(Value::Array(values)) => values.as_slice(),
                        Some(value) => std::slice::from_ref(value),
                        None => &[],
                    };
                    for value in under.iter().filter_map(Value::as_str) {
                        known.insert(value.to_owned(), document.id.clone());
                    }
                }
            }
        }
    }
    let [by_address, by_key] = known;
    for item in items {
        let by_address = item.address.as_ref().and_then(|address| by_address.get(address));
        let by_key = || item.guid.as_ref().and_then(|guid| by_key.get(guid));
        if let Some(id) = by_address.or_else(by_key) {
            item.write.id.clone_from(id);
        }
    }
    Ok(())
}
