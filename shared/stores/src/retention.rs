//! Retention (`MINERVA_KEEP_DAYS`): what is older than its index keeps is neither written nor left lying.
//!
//! Both halves look at the same date of a document. Were old items only deleted, a feed that still lists them would bring
//! them back as new at each visit.

use std::collections::BTreeSet;

use base::Result;
use base::config::Config;
use base::date::{instant, seconds};
use base::keep_days::KeepDays;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::documents::{Body, Document, Documents, Filter, Index, Query, Sort, Write};

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
    instant(value.as_str()?)
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
    let before = seconds(before);
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

/// Whether a write is about something older than its index keeps; what has no date is not.
pub fn is_too_old(keep: &KeepDays, index: &Index, write: &Write, now: Timestamp) -> bool {
    let Some(limit) = limit(keep, index, now) else { return false };
    write.parts.iter().find_map(|part| date(index, &part.fields)).is_some_and(|date| date < limit)
}

#[cfg(test)]
mod tests {
    use base::Error;
    use serde_json::json;

    use super::*;
    use crate::documents::Owner;

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
    fn a_write_is_too_old_by_the_date_of_whichever_part_has_one() {
        const DATED: Owner = Owner { fields: &["published"], ..Owner::named("dated") };
        const OTHER: Owner = Owner { fields: &["title"], ..Owner::named("other") };
        let body = |fields: serde_json::Value| fields.as_object().unwrap().clone();
        let now = "2026-03-01T00:00:00Z".parse().unwrap();
        let keep = KeepDays::parse("rss_articles=30").unwrap();
        let is_old = |write: Write| is_too_old(&keep, articles(), &write, now);
        let undated = || Write::of("a", &OTHER, body(json!({"title": "t"})));
        let dated = |day: &str| undated().and(&DATED, body(json!({"published": day})));
        assert!(is_old(dated("2026-01-01")));
        assert!(!is_old(dated("2026-02-20")) && !is_old(undated()));
        assert!(!is_old(Write::retire("a", &DATED, None, now)));
        assert!(!is_too_old(&KeepDays::default(), articles(), &dated("1999-01-01"), now));
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
