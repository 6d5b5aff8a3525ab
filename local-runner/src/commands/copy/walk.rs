//! Two collections side by side, in the order of their ids: what is equal, what differs, what only one has.

use std::cmp::Ordering;
use std::collections::VecDeque;

use base::{Error, Result};
use serde::Serialize;
use stores::documents::{Body, Document, Fingerprint};

use super::collection::Collection;

/// One collection, read page by page.
struct Reader<'a> {
    collection: &'a dyn Collection,
    waiting: VecDeque<Document>,
    after: Option<String>,
    is_over: bool,
}

impl<'a> Reader<'a> {
    fn of(collection: &'a dyn Collection) -> Self {
        Self { collection, waiting: VecDeque::new(), after: None, is_over: false }
    }

    async fn first(&mut self) -> Result<Option<&Document>> {
        if self.waiting.is_empty() && !self.is_over {
            let page = self.collection.page(self.after.as_deref()).await?;
            for document in &page {
                // Else a pair could be missed, and a page come again for ever.
                if self.after.as_ref().is_some_and(|after| *after >= document.id) {
                    return Err(Error::format(format!(
                        "read in the order of ids: `{}` comes after `{}`",
                        document.id,
                        self.after.as_deref().unwrap_or_default()
                    ))
                    .hint("something else wrote this document: its field `id` must be its id"));
                }
                self.after = Some(document.id.clone());
            }
            self.is_over = page.is_empty();
            self.waiting = page.into();
        }
        Ok(self.waiting.front())
    }
}

/// What stands under an id.
pub(super) enum Step {
    /// Something on both sides, the source's first.
    Both(Document, Document),
    /// Something at the source only.
    Missing(Document),
    /// Something at the target only.
    Extra(Document),
}

/// A walk over two collections.
pub(super) struct Walk<'a> {
    source: Reader<'a>,
    target: Reader<'a>,
}

impl<'a> Walk<'a> {
    pub(super) fn of(source: &'a dyn Collection, target: &'a dyn Collection) -> Self {
        Self { source: Reader::of(source), target: Reader::of(target) }
    }

    /// What stands under the next id.
    pub(super) async fn next(&mut self) -> Result<Option<Step>> {
        let order = match (self.source.first().await?, self.target.first().await?) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(source), Some(target)) => source.id.cmp(&target.id),
        };
        let source = if order.is_le() { self.source.waiting.pop_front() } else { None };
        let target = if order.is_ge() { self.target.waiting.pop_front() } else { None };
        Ok(match (source, target) {
            (Some(source), Some(target)) => Some(Step::Both(source, target)),
            (Some(source), None) => Some(Step::Missing(source)),
            (None, Some(target)) => Some(Step::Extra(target)),
            (None, None) => None,
        })
    }
}

/// How many, and a hash over them.
#[derive(Default)]
pub(super) struct Sum {
    pub(super) count: u64,
    print: Fingerprint,
}

impl Sum {
    fn add(&mut self, document: &Document) {
        self.count += 1;
        self.print.add(document);
    }

    pub(super) fn hash(&self) -> String {
        self.print.hex()
    }
}

/// How two collections compare.
#[derive(Default)]
pub(super) struct Tally {
    /// All of the source.
    pub(super) source: Sum,
    /// Those of the target whose ids the source has.
    pub(super) target: Sum,
    /// What they do not agree on.
    pub(super) differences: Differences,
}

/// What two collections do not agree on.
#[derive(Default, Serialize)]
pub(super) struct Differences {
    /// At the source only.
    pub(super) missing: u64,
    /// On both sides, and not the same.
    pub(super) differing: u64,
    /// Of those, with more revisions at the target.
    pub(super) later: u64,
    /// At the target only.
    pub(super) only_there: u64,
    /// The first id of those that are missing or differ.
    pub(super) first: Option<String>,
    /// The first id of those that are at the target only.
    pub(super) first_only_there: Option<String>,
}

impl Tally {
    /// Walks over both.
    ///
    /// # Errors
    /// What the stores say.
    pub(super) async fn of(source: &dyn Collection, target: &dyn Collection) -> Result<Self> {
        let mut tally = Self::default();
        let mut walk = Walk::of(source, target);
        while let Some(step) = walk.next().await? {
            tally.add(&step);
        }
        Ok(tally)
    }

    fn add(&mut self, step: &Step) {
        let found = &mut self.differences;
        match step {
            Step::Both(source, target) => {
                self.source.add(source);
                self.target.add(target);
                if source.body != target.body {
                    found.differing += 1;
                    found.later += u64::from(revision(&source.body) < revision(&target.body));
                    found.first.get_or_insert_with(|| source.id.clone());
                }
            }
            Step::Missing(source) => {
                self.source.add(source);
                found.missing += 1;
                found.first.get_or_insert_with(|| source.id.clone());
            }
            Step::Extra(target) => {
                found.only_there += 1;
                found.first_only_there.get_or_insert_with(|| target.id.clone());
            }
        }
    }
}

fn revision(body: &Body) -> Option<u64> {
    body.get("revision")?.as_u64()
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use serde_json::json;
    use stores::documents::Written;

    use super::*;

    /// Pages of two.
    struct Listed(Vec<Document>);

    #[async_trait]
    impl Collection for Listed {
        async fn page(&self, after: Option<&str>) -> Result<Vec<Document>> {
            let later =
                |document: &&Document| after.is_none_or(|after| document.id.as_str() > after);
            Ok(self.0.iter().filter(later).take(2).cloned().collect())
        }

        async fn put(&self, _: &[Document]) -> Result<Vec<Written>> {
            Err(Error::store("write to a list of a test"))
        }

        async fn remove(&self, _: &[String]) -> Result<()> {
            Err(Error::store("delete from a list of a test"))
        }
    }

    fn listed(documents: &[(&str, u64)]) -> Listed {
        let document = |(id, revision): &(&str, u64)| Document {
            id: (*id).to_owned(),
            body: Body::from_iter([("revision".to_owned(), json!(revision))]),
        };
        Listed(documents.iter().map(document).collect())
    }

    #[tokio::test]
    async fn what_differs_is_told_apart_and_named() {
        let source = listed(&[("a", 1), ("b", 1), ("c", 2), ("e", 1), ("f", 1)]);
        let target = listed(&[("A", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 2), ("g", 1)]);
        let tally = Tally::of(&source, &target).await.unwrap();
        let found = tally.differences;
        assert_eq!((found.missing, found.differing, found.later, found.only_there), (2, 2, 1, 3));
        assert_eq!(
            (found.first.as_deref(), found.first_only_there.as_deref()),
            (Some("a"), Some("A"))
        );
        assert_eq!((tally.source.count, tally.target.count), (5, 3));
        assert_ne!(tally.source.hash(), tally.target.hash());
    }

    #[tokio::test]
    async fn equal_sides_have_equal_hashes_and_disorder_is_refused() {
        let one = listed(&[("a", 1), ("b", 1), ("c", 2)]);
        let tally = Tally::of(&one, &listed(&[("a", 1), ("b", 1), ("c", 2)])).await.unwrap();
        assert_eq!(tally.source.hash(), tally.target.hash());
        let wrong = Tally::of(&one, &listed(&[("b", 1), ("a", 1)])).await.err().unwrap();
        assert!(wrong.to_string().contains("`a` comes after `b`"), "{wrong}");
    }
}
