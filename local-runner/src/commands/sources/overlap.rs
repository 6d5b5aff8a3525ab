//! `sources overlap`: feeds of indicators beside each other, counted by the store and not by reading documents.
//!
//! Feeds share what one document names several of: the value of one type within one family. What two families store of one value
//! are two documents, which `lookup` shows together.

use std::collections::BTreeMap;

use base::Result;
use serde_json::{Value, json};
use stores::documents::{Aggregation, DocumentReader, Filter, Index, Query};

use crate::cli::Cli;
use crate::commands::indicators::GROUP;
use crate::home::open_documents;
use crate::out::{self, Outcome};
use crate::settings::Settings;

/// Feeds that are compared; each costs six questions.
const FEEDS_MAX: u32 = 500;
/// Feeds that a line names of those that share most with it.
const SHOWN: usize = 3;

/// Where an indicator says which feeds hold it, how many those are, and which was first.
const FEED: &str = "sources.id";
const COUNT: &str = "sources_count";
const FIRST: &str = "first_source";
/// By how many days the first one had it before the next.
const LEAD: &str = "lead_days";

/// What one feed has.
struct FeedRow {
    id: String,
    /// Its indicators.
    size: u64,
    /// Those that no other feed has.
    alone: u64,
    /// Of those that others have too, how many it had first.
    first: u64,
    /// The median of the days by which it had these before the next feed; none where no dates tell.
    lead_days: Option<i64>,
    /// Those that a warninglist knows.
    warned: u64,
    /// How many it shares with each other feed, the most first.
    shared: Vec<(String, u64)>,
}

pub(super) async fn overlap(cli: &Cli, settings: &Settings) -> Outcome {
    let store = open_documents(settings).await?;
    let index = Index::named(GROUP)?;
    let ask = Asking { store: store.as_ref(), index };
    let sizes = ask.by(FEED, Vec::new(), FEEDS_MAX).await?;
    let mut rows = Vec::new();
    for (id, size) in sizes.of {
        rows.push(ask.feed(id, size).await?);
    }
    if cli.json {
        let rows = rows.iter().map(FeedRow::json);
        out::json(&json!({"feeds": rows.collect::<Vec<_>>(), "left_out": sizes.others}));
        return Ok(out::DONE);
    }
    if rows.is_empty() {
        out::line("no feed of indicators is stored yet");
        return Ok(out::DONE);
    }
    let head = [
        "FEED",
        "INDICATORS",
        "ONLY HERE",
        "SHARED",
        "FIRST OF SHARED",
        "WARNINGLISTED",
        "SHARES MOST WITH",
    ];
    out::table(&head, rows.iter().map(FeedRow::cells).collect());
    if sizes.others > 0 {
        out::line(&format!("only the {FEEDS_MAX} largest feeds are compared"));
    }
    Ok(out::DONE)
}

/// A store and what it is asked about.
struct Asking<'a> {
    store: &'a dyn DocumentReader,
    index: &'static Index,
}

/// Counts by value.
struct Counted {
    of: Vec<(String, u64)>,
    others: u64,
}

impl Asking<'_> {
    async fn by(&self, field: &str, filters: Vec<Filter>, size: u32) -> Result<Counted> {
        let query = Query { filters, ..Query::default() };
        let terms = Aggregation::Terms { field: field.to_owned(), size };
        let counts = self.store.aggregate(self.index, &query, &terms).await?;
        let of = counts.buckets.into_iter().map(|bucket| (bucket.key, bucket.count)).collect();
        Ok(Counted { of, others: counts.others })
    }

    async fn count(&self, filters: Vec<Filter>) -> Result<u64> {
        self.store.count(self.index, &Query { filters, ..Query::default() }).await
    }

    async fn feed(&self, id: String, size: u64) -> Result<FeedRow> {
        let is = |field: &str, value: &str| Filter::Terms(field.to_owned(), vec![value.to_owned()]);
        let has = || is(FEED, &id);
        let alone = self.count(vec![has(), is(COUNT, "1")]).await?;
        let alone_and_first = self.count(vec![is(FIRST, &id), has(), is(COUNT, "1")]).await?;
        let first = self.count(vec![is(FIRST, &id), has()]).await? - alone_and_first;
        let leads = self.by(LEAD, vec![is(FIRST, &id), has()], Query::LIMIT_MAX).await?.of;
        let warned = self.count(vec![has(), Filter::Exists("warninglist_hits".to_owned())]).await?;
        let mut shared = self.by(FEED, vec![has()], FEEDS_MAX).await?.of;
        shared.retain(|(other, _)| *other != id);
        Ok(FeedRow { id, size, alone, first, lead_days: median(leads), warned, shared })
    }
}

/// The middle one of numbers that are given by how often each is there; of an even count the lower of both in the middle.
fn median(counts: Vec<(String, u64)>) -> Option<i64> {
    let read = |(number, count): (String, u64)| Some((number.parse::<i64>().ok()?, count));
    let mut counts: Vec<(i64, u64)> = counts.into_iter().filter_map(read).collect();
    counts.sort_unstable();
    let mut left = counts.iter().map(|(_, count)| count).sum::<u64>().div_ceil(2);
    counts.into_iter().find_map(|(number, count)| {
        left = left.saturating_sub(count);
        (left == 0).then_some(number)
    })
}

impl FeedRow {
    fn json(&self) -> Value {
        let shared: BTreeMap<&str, u64> =
            self.shared.iter().map(|(id, count)| (id.as_str(), *count)).collect();
        json!({
            "feed": self.id, "indicators": self.size, "only_here": self.alone, "shared": self.size - self.alone,
            "first_of_shared": self.first, "median_lead_days": self.lead_days, "warninglisted": self.warned, "shared_with": shared,
        })
    }

    fn cells(&self) -> Vec<String> {
        let percent = |part: u64| match self.size {
            0 => part.to_string(),
            size => format!("{part} ({} %)", part * 100 / size),
        };
        let shared: Vec<String> =
            self.shared.iter().take(SHOWN).map(|(id, count)| format!("{id} {count}")).collect();
        vec![
            self.id.clone(),
            self.size.to_string(),
            percent(self.alone),
            percent(self.size - self.alone),
            match self.lead_days {
                Some(days) => format!("{} (median {days} d)", self.first),
                None => self.first.to_string(),
            },
            percent(self.warned),
            shared.join(", "),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_counted_numbers() {
        let of = |counts: &[(&str, u64)]| {
            median(counts.iter().map(|(number, count)| ((*number).to_owned(), *count)).collect())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("10", 1)]), Some(10));
        assert_eq!(of(&[("10", 1), ("9", 1), ("0", 1)]), Some(9), "by value and not by text");
        assert_eq!(of(&[("0", 3), ("100", 2)]), Some(0));
        assert_eq!(of(&[("0", 2), ("100", 2)]), Some(0));
        assert_eq!(of(&[("0", 2), ("100", 3)]), Some(100));
    }
}
