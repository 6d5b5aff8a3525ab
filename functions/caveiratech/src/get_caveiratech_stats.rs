//! Gets figures of what is stored of CaveiraTech, and how its crawl fares.
//!
//! Reads   `caveiratech_news`, and the state of the source.
//! Writes  nothing: the figures are the report's detail.
//! Twice   gives the same figures while nothing is synced in between.
//! Quirk   a post without a date counts under the month in which it was collected; `undated` says how many those are.

use base::Result;
use base::report::Report;
use serde_json::{Value, json};
use stores::documents::{Aggregation, Counts, Filter, Index, Per, Query, Sort};
use task::{Ctx, NoInput, Reaches, Task};

use crate::article::INDEX;
use crate::crawl::Cursor;
use crate::settings::{FEED, NAME, SOURCE};

/// Values that a list of the most frequent shows, and posts that the newest are.
const TOP: u32 = 25;
const NEWEST: u32 = 10;

pub(crate) struct GetCaveiratechStats;

impl Task for GetCaveiratechStats {
    const NAME: &'static str = "get_caveiratech_stats";
    const REACHES: &'static [Reaches] = &[];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        let index = Index::named(INDEX)?;
        let ours = || Filter::Terms("feed_name".to_owned(), vec![FEED.to_owned()]);
        let of = |more: Option<Filter>| Query {
            filters: std::iter::once(ours()).chain(more).collect(),
            ..Query::default()
        };
        let store = ctx.documents.as_ref();
        let count = async |more| store.count(index, &of(more)).await;
        let total = count(None).await?;
        let has = |field: &str| Some(Filter::Exists(field.to_owned()));
        let (with_text, with_cves) = (count(has("content")).await?, count(has("cves")).await?);
        let enriched = count(has("enriched_at")).await?;
        let collected = Filter::Terms("published_from".to_owned(), vec!["collected".to_owned()]);
        let undated = count(Some(collected)).await?;
        let months = Aggregation::Dates { field: "published".to_owned(), per: Per::Month };
        let months: Counts = store.aggregate(index, &of(None), &months).await?;
        let cves = Aggregation::Terms { field: "cves".to_owned(), size: TOP };
        let cves = store.aggregate(index, &of(None), &cves).await?;
        let sort = Some(Sort::Field { name: "published".to_owned(), descending: true });
        let newest = store.search(index, &Query { sort, limit: NEWEST, ..of(None) }).await?;
        let newest = newest.documents.iter().map(|post| {
            let field = |name: &str| post.body.get(name).cloned().unwrap_or_default();
            json!({"published": field("published"), "title": field("title"), "link": field("link")})
        });
        let state = ctx.ledger.source(&format!("{NAME}/{SOURCE}")).await?;
        let cursor: Cursor =
            state.cursor.and_then(|cursor| serde_json::from_value(cursor).ok()).unwrap_or_default();
        let mut detail = json!({
            "source": FEED,
            "total_articles": total,
            "oldest_article": months.first,
            "latest_article": months.last,
            "undated": undated,
            "with_text": with_text,
            "with_cves": with_cves,
            "enriched": enriched,
            "articles_by_month": months.buckets.iter().map(|one| json!({"month": one.key, "count": one.count})).collect::<Vec<Value>>(),
            "cves_most_named": cves.buckets,
            "newest": newest.collect::<Vec<Value>>(),
            "last_success": state.last_success,
            "last_error": state.last_error,
        });
        detail["crawl"] = cursor.shown();
        Ok(Report::of_detail(detail))
    }
}
