//! Counts what `malpedia_library` holds: by year, organisation, kind, language and type, and who is cited most.
//!
//! Reads   `malpedia_library`, page by page, how many families have rules, and the ledger's last syncs for their rejects.
//! Writes  nothing.
//! Twice   gives the same while nothing changes.
//! Quirk   a year is counted where the date is known; what took the day of its collection for want of one is counted apart.

use std::collections::BTreeMap;

use base::Result;
use base::report::Report;
use serde_json::{Value, json};
use stores::documents::{Body, Filter, Index, Pages, Query, Scan};
use task::{Ctx, NoInput, Reaches, Task};

use crate::reference::{FEED_NAME, INDEX};
use crate::sources::Source;

/// Values that a list of the most frequent shows, and documents that the newest are.
const TOP: usize = 25;
const NEWEST: usize = 10;

pub(crate) struct GetMalpediaLibraryStats;

impl Task for GetMalpediaLibraryStats {
    const NAME: &'static str = "get_malpedia_library_stats";
    const REACHES: &'static [Reaches] = &[];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        let index = Index::named(INDEX)?;
        let mut tally = Tally::default();
        let mut pages = Pages::new(ctx.documents.as_ref(), index, Scan::of(&FIELDS));
        while let Some(page) = pages.next().await? {
            page.iter().for_each(|document| tally.add(&document.body));
        }
        let mut rejects = serde_json::Map::new();
        for name in [
            "sync_malpedia_library_rss",
            "sync_malpedia_library_bibtex",
            "sync_malpedia_library_full",
        ] {
            if let Some(report) =
                ctx.ledger.runs(Some(name), 1).await?.into_iter().find_map(|run| run.report)
            {
                rejects.insert(
                    name.to_owned(),
                    json!({"rejected": report.counts.rejected, "first": report.rejects}),
                );
            }
        }
        let mut detail = tally.detail();
        detail["rejects"] = Value::Object(rejects);
        let families = Source::Families.index()?;
        let has_rules = Filter::Exists("yara_rule_ids".to_owned());
        let query = Query { filters: vec![has_rules], ..Query::default() };
        detail["families_with_rules"] = json!(ctx.documents.count(families, &query).await?);
        Ok(Report::of_detail(detail))
    }
}

type Counted = BTreeMap<String, u64>;

#[derive(Default)]
struct Tally {
    total: u64,
    undated: u64,
    suspect: u64,
    by: BTreeMap<&'static str, Counted>,
    oldest: Option<String>,
    /// The newest so far: published, title, link.
    newest: Vec<(String, String, String)>,
}

const BY: [(&str, &str); 7] = [
    ("year", "year"),
    ("organization", "organization"),
    ("kind", "kind"),
    ("language", "language"),
    ("type", "bibtex_type"),
    ("family", "family_ids"),
    ("actor", "actor_ids"),
];

/// What is read of a document.
const FIELDS: [&str; 12] = [
    "year",
    "organization",
    "kind",
    "language",
    "bibtex_type",
    "family_ids",
    "actor_ids",
    "date_suspect",
    "published",
    "published_from",
    "title",
    "link",
];

impl Tally {
    fn add(&mut self, body: &Body) {
        let text =
            |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        self.total += 1;
        for (name, field) in BY {
            let values = match body.get(field) {
                Some(Value::Array(values)) => values.as_slice(),
                Some(one @ Value::String(_)) => std::slice::from_ref(one),
                _ => &[],
            };
            for value in values.iter().filter_map(Value::as_str) {
                *self.by.entry(name).or_default().entry(value.to_owned()).or_default() += 1;
            }
        }
        self.suspect += u64::from(body.get("date_suspect") == Some(&json!(true)));
        if text("published_from") != "source" {
            self.undated += 1;
            return;
        }
        let published = text("published");
        if self.oldest.as_ref().is_none_or(|oldest| published < *oldest) {
            self.oldest = Some(published.clone());
        }
        self.newest.push((published, text("title"), text("link")));
        self.newest.sort_by(|one, other| other.cmp(one));
        self.newest.truncate(NEWEST);
    }

    /// The most frequent values, most of them first.
    fn top(&self, name: &str, key: &str) -> Value {
        let mut counted: Vec<_> = self.by.get(name).into_iter().flatten().collect();
        counted.sort_by(|one, other| other.1.cmp(one.1).then_with(|| one.0.cmp(other.0)));
        counted
            .into_iter()
            .take(TOP)
            .map(|(value, count)| json!({key: value, "count": count}))
            .collect()
    }

    fn detail(&self) -> Value {
        let years = self.by.get("year").into_iter().flatten().rev();
        let newest = self.newest.iter().map(|(published, title, link)| json!({"published": published, "title": title, "link": link}));
        json!({
            "source": FEED_NAME,
            "total_articles": self.total,
            "latest_article": self.newest.first().map(|(published, ..)| published),
            "oldest_article": self.oldest,
            "undated": self.undated,
            "suspect_dates": self.suspect,
            "articles_by_year": years.map(|(year, count)| json!({"year": year, "count": count})).collect::<Vec<_>>(),
            "articles_by_type": self.top("type", "type"),
            "articles_by_kind": self.top("kind", "kind"),
            "articles_by_language": self.top("language", "language"),
            "articles_by_organization": self.top("organization", "organization"),
            "families_most_cited": self.top("family", "family"),
            "actors_most_cited": self.top("actor", "actor"),
            "newest": newest.collect::<Vec<_>>(),
        })
    }
}
