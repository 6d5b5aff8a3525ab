//! Retention (`MINERVA_KEEP_DAYS`): what is older than its index keeps is neither written nor left lying.
//!
//! Both halves look at the same date of a document. Were old items only deleted, a feed that still lists them would bring
//! them back as new at each visit.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use base::config::Config;
use base::keep_days::KeepDays;
use base::{Error, Result};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::documents::{
    Aggregation, Body, Counts, Document, Documents, Filter, Index, Owner, Page, Query, Sort, Write,
    Written,
};

/// Documents looked at, and deleted, at once.
const PAGE: u32 = 500;

/// The date of documents that have not the one by which their index is sorted.
const COLLECTED: &str = "collected_at";

/// Refuses names that no index has, and an index whose days are said twice.
///
/// # Errors
/// `Config`, as for any setting that cannot be read.
pub fn check(keep: &KeepDays) -> Result<()> {
    let refused = |problem: &str| Config::refused(&[format!("`MINERVA_KEEP_DAYS`: {problem}")]);
    let mut seen = BTreeSet::new();
    for named in &keep.named {
        let index = Index::named(&named.index).map_err(|error| {
            refused(&format!("{error}; {}", error.hint_text().unwrap_or_default()))
        })?;
        for member in index.members() {
            if !seen.insert(member.name) {
                return Err(refused(&KeepDays::said_again(&named.text)));
            }
        }
    }
    Ok(())
}

/// For how many days an index keeps its documents; `None` for ever. Works of reference do not age, so what is said of
/// all is not said of them.
pub fn days(keep: &KeepDays, index: &Index) -> Option<u32> {
    let names = |name: &str| {
        Index::named(name)
            .is_ok_and(|found| found.members().iter().any(|one| one.name == index.name))
    };
    match keep.named.iter().find(|named| names(&named.index)) {
        Some(named) => named.days,
        None => keep.others.filter(|_| !index.is_reference),
    }
}

/// The instant before which an index keeps nothing.
pub fn limit(keep: &KeepDays, index: &Index, now: Timestamp) -> Option<Timestamp> {
    now.checked_sub(SignedDuration::from_hours(24 * i64::from(days(keep, index)?))).ok()
}

/// The date by which a document ages; one without is kept.
fn date(index: &Index, body: &Body) -> Option<Timestamp> {
    let newest_by = index.newest_by.as_deref().and_then(|field| body.get(field));
    let value = newest_by.filter(|value| !value.is_null()).or_else(|| body.get(COLLECTED))?;
    let text = value.as_str()?;
    // A day without a time, and a time without a zone, are UTC, as servers read them.
    let civil = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    text.parse().ok().or_else(|| civil().map(|zoned| zoned.timestamp()))
}

/// The fields by which an index ages, the first before the second.
pub fn dates(index: &Index) -> Vec<&str> {
    let collected = index.fields.contains_key(COLLECTED).then_some(COLLECTED);
    let mut dates: Vec<&str> = index.newest_by.as_deref().into_iter().chain(collected).collect();
    dates.dedup();
    dates
}

/// The searches that find what is older than `before`.
fn searches(index: &Index, before: Timestamp) -> Vec<Query> {
    let before = before.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let dates = dates(index);
    let search = |place: usize| {
        let missing = dates[..place].iter().map(|field| Filter::Missing((*field).to_owned()));
        let old = Filter::Range(dates[place].to_owned(), None, Some(before.clone()));
        Query {
            filters: missing.chain([old]).collect(),
            sort: Some(Sort::Field { name: dates[place].to_owned(), descending: false }),
            limit: PAGE,
            ..Query::default()
        }
    };
    (0..dates.len()).map(search).collect()
}

/// What came of one index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// The index.
    pub index: &'static str,
    /// For how many days it keeps its documents; all of them when not set.
    pub days: Option<u32>,
    /// The instant before which it keeps nothing.
    pub before: Option<Timestamp>,
    /// The fields by which that was decided, the first before the second.
    pub by: Vec<String>,
    /// Documents that were deleted, or would be.
    pub deleted: u64,
    /// Documents that are left.
    pub kept: u64,
}

/// Deletes what an index has beyond its days; or counts it only.
///
/// # Errors
/// `Store`, when it cannot be read or written. What was deleted before that stays deleted.
pub async fn prune(
    documents: &dyn Documents,
    keep: &KeepDays,
    index: &'static Index,
    now: Timestamp,
    is_trial: bool,
) -> Result<Pruned> {
    let before = limit(keep, index, now);
    let mut deleted = 0;
    match before {
        None => {}
        Some(before) if is_trial => {
            for search in searches(index, before) {
                deleted += documents.count(index, &search).await?;
            }
        }
        Some(before) => deleted = delete(documents, index, before, u64::MAX).await?,
    }
    let there = documents.count(index, &Query::default()).await?;
    Ok(Pruned {
        index: index.name,
        days: days(keep, index),
        before,
        by: dates(index).into_iter().map(ToOwned::to_owned).collect(),
        deleted,
        kept: if is_trial { there.saturating_sub(deleted) } else { there },
    })
}

/// Deletes documents older than `before`, the oldest first, about `count_max` at the most; gives how many.
///
/// # Errors
/// `Store`, when it cannot be read or written. What was deleted before that stays deleted.
pub async fn delete(
    documents: &dyn Documents,
    index: &'static Index,
    before: Timestamp,
    count_max: u64,
) -> Result<u64> {
    let mut deleted = 0;
    for mut search in searches(index, before) {
        while deleted < count_max && search.offset + search.limit <= Query::LIMIT_MAX {
            let found = documents.search(index, &search).await?.documents;
            let is_old = |document: &&Document| {
                date(index, &document.body).is_some_and(|date| date < before)
            };
            let old: Vec<String> =
                found.iter().filter(is_old).map(|document| document.id.clone()).collect();
            // What the store takes for old and we do not is passed over.
            search.offset += u32::try_from(found.len() - old.len()).unwrap_or(search.limit);
            let gone = if old.is_empty() { 0 } else { documents.delete(index, &old).await? };
            deleted += gone;
            // A user who may not refresh the index is shown again what is gone.
            if found.is_empty() || (gone == 0 && !old.is_empty()) {
                break;
            }
        }
    }
    Ok(deleted)
}

/// A store that takes nothing which is too old for it.
pub struct Keeping {
    documents: Arc<dyn Documents>,
    keep: KeepDays,
    now: Timestamp,
}

impl Keeping {
    /// The store for one run, which lives at `now`.
    pub fn over(
        documents: &Arc<dyn Documents>,
        keep: &KeepDays,
        now: Timestamp,
    ) -> Arc<dyn Documents> {
        let documents = Arc::clone(documents);
        if keep.is_nothing() {
            return documents;
        }
        Arc::new(Self { documents, keep: keep.clone(), now })
    }
}

#[async_trait]
impl Documents for Keeping {
    async fn ensure(&self, index: &'static Index) -> Result<()> {
        self.documents.ensure(index).await
    }

    async fn upsert(
        &self,
        index: &'static Index,
        owner: &Owner,
        writes: &[Write],
    ) -> Result<Vec<Written>> {
        let limit = limit(&self.keep, index, self.now);
        let is_old = |write: &Write| limit.is_some() && date(index, &write.fields) < limit;
        let is_kept = |write: &&Write| date(index, &write.fields).is_none() || !is_old(write);
        if writes.iter().all(|write| is_kept(&write)) {
            return self.documents.upsert(index, owner, writes).await;
        }
        let kept: Vec<Write> = writes.iter().filter(is_kept).cloned().collect();
        let mut outcomes = self.documents.upsert(index, owner, &kept).await?.into_iter();
        let missing = || Error::store("write documents: fewer outcomes than documents");
        writes
            .iter()
            .map(|write| match is_kept(&write) {
                true => outcomes.next().ok_or_else(missing),
                false => Ok(Written::Filtered),
            })
            .collect()
    }

    async fn restore(&self, index: &'static Index, documents: &[Document]) -> Result<Vec<Written>> {
        self.documents.restore(index, documents).await
    }

    async fn delete(&self, index: &'static Index, ids: &[String]) -> Result<u64> {
        self.documents.delete(index, ids).await
    }

    async fn get(&self, index: &'static Index, id: &str) -> Result<Option<Body>> {
        self.documents.get(index, id).await
    }

    async fn fields_of(
        &self,
        index: &'static Index,
        ids: &[&str],
        fields: &[&str],
    ) -> Result<Vec<Option<Body>>> {
        self.documents.fields_of(index, ids, fields).await
    }

    async fn count(&self, index: &'static Index, query: &Query) -> Result<u64> {
        self.documents.count(index, query).await
    }

    async fn aggregate(
        &self,
        index: &'static Index,
        query: &Query,
        aggregation: &Aggregation,
    ) -> Result<Counts> {
        self.documents.aggregate(index, query, aggregation).await
    }

    async fn search(&self, index: &'static Index, query: &Query) -> Result<Page> {
        self.documents.search(index, query).await
    }

    async fn scan(
        &self,
        index: &'static Index,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>> {
        self.documents.scan(index, after, limit).await
    }

    async fn sequence(&self, index: &'static Index) -> Result<u64> {
        self.documents.sequence(index).await
    }

    async fn describe(&self) -> Result<String> {
        self.documents.describe().await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn articles() -> &'static Index {
        Index::named("rss_articles").unwrap()
    }

    #[test]
    fn a_number_is_for_all_and_a_name_for_one() {
        let read = |text: &str| {
            let keep = KeepDays::parse(text).map_err(Error::config)?;
            check(&keep).map(|()| keep)
        };
        let days = |text: &str| days(&read(text).unwrap(), articles());
        assert_eq!(days(""), None);
        assert_eq!(days("0"), None);
        assert_eq!(days("365"), Some(365));
        assert_eq!(days("365, rss_articles=30"), Some(30));
        assert_eq!(days("rss_articles=0,365"), None);
        assert_eq!(days("minerva-articles=30"), Some(30));
        let families = Index::named("malpedia_families").unwrap();
        assert_eq!(super::days(&read("365").unwrap(), families), None);
        assert_eq!(super::days(&read("malpedia_families=365").unwrap(), families), Some(365));
        assert!(read("minerva-articles=30,rss_articles=9").is_err());
        for wrong in ["soon", "-1", "36501", "rss_article=3", "rss_articles=", "1,2", "=3"] {
            read(wrong).expect_err(wrong);
        }
        assert!(read("rss=1").unwrap_err().to_string().contains("rss_articles"));
    }

    #[test]
    fn a_document_ages_by_its_own_date_and_then_by_its_collection() {
        let date = |body: serde_json::Value| {
            date(articles(), body.as_object().unwrap()).map(|date| date.to_string())
        };
        let collected = "2026-03-01T00:00:00Z";
        assert_eq!(
            date(json!({"published": "2025-01-01T03:00:00+03:00", "collected_at": collected})),
            Some("2025-01-01T00:00:00Z".to_owned())
        );
        assert_eq!(
            date(json!({"published": null, "collected_at": collected})).as_deref(),
            Some(collected)
        );
        assert_eq!(
            date(json!({"published": "2025-01-01"})).as_deref(),
            Some("2025-01-01T00:00:00Z")
        );
        assert_eq!(date(json!({"published": "soon", "collected_at": collected})), None);
        assert_eq!(date(json!({})), None);
    }
}
