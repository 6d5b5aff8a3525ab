//! `search`: what was stored, by words, fields and dates, shown or counted.

use base::Result;
use serde_json::Value;
use stores::documents::{Aggregation, Body, Bucket, Counts, Index, Per, Query, Sort};
use task::function::now;

use super::selection;
use crate::cli::{self, Cli, SearchArgs};
use crate::home::{open_documents, settings};
use crate::out::{self, Outcome};

/// `local-runner search`.
pub(crate) async fn search(cli: &Cli, args: &SearchArgs) -> Outcome {
    let index = Index::named(&args.index)?;
    let settings = settings(cli)?;
    let query = Query {
        text: selection::text(&args.words),
        filters: selection::filters(index, &args.selection, now(&settings.config))?,
        sort: args.relevance.then_some(Sort::Relevance),
        offset: args.offset,
        limit: args.count,
    };
    let store = open_documents(&settings).await?;
    if let Some(aggregation) = aggregation(index, args)? {
        let counts = store.aggregate(index, &query, &aggregation).await?;
        if cli.json {
            out::json(&counts);
        } else {
            show_counts(&counts);
        }
        return Ok(out::DONE);
    }
    let page = store.search(index, &query).await?;
    if cli.json {
        out::json(&page);
        return Ok(out::DONE);
    }
    if page.total == 0 {
        let is_empty = store.count(index, &Query::default()).await? == 0;
        out::line(&if is_empty {
            format!("nothing found: `{}` holds no document yet", index.name)
        } else {
            "nothing found".to_owned()
        });
        return Ok(out::DONE);
    }
    for document in &page.documents {
        let body = &document.body;
        let tags = list(body, "cves")
            .into_iter()
            .chain(list(body, "tags"))
            .take(6)
            .collect::<Vec<_>>()
            .join(", ");
        let date = index.newest_by.as_deref().map_or("", |date| field(body, date));
        let title = first(body, &["title", "name", "value", "rule_name"]);
        let title = if title.is_empty() { "(no title)" } else { title };
        let lines = [
            format!("{date}  {title}"),
            format!(
                "    {} · {}{}{tags}",
                first(body, &["feed_name", "source_name", "source_family"]),
                first(body, &["category", "type", "os", "country"]),
                if tags.is_empty() { "" } else { " · " }
            ),
            format!("    {}", first(body, &["link", "url", "source_url"])),
        ];
        lines.iter().for_each(|line| out::line(&out::one_line(line)));
    }
    let shown = page.documents.len();
    out::line(&match args.offset {
        0 => format!("{shown} of {} found", page.total),
        offset => format!("{shown} of {} found, after the first {offset}", page.total),
    });
    Ok(out::DONE)
}

/// What is counted, if counting was asked for.
fn aggregation(index: &Index, args: &SearchArgs) -> Result<Option<Aggregation>> {
    if let Some(field) = &args.by {
        return Ok(Some(Aggregation::Terms { field: field.clone(), size: args.count }));
    }
    let Some(per) = args.per else { return Ok(None) };
    let per = match per {
        cli::Per::Day => Per::Day,
        cli::Per::Month => Per::Month,
        cli::Per::Year => Per::Year,
    };
    Ok(Some(Aggregation::Dates { field: selection::date(index)?.to_owned(), per }))
}

fn show_counts(counts: &Counts) {
    if counts.buckets.is_empty() {
        out::line("nothing found");
        return;
    }
    let row = |bucket: &Bucket| vec![bucket.count.to_string(), bucket.key.clone()];
    out::table(&["documents", "value"], counts.buckets.iter().map(row).collect());
    if counts.others > 0 {
        out::line(&format!("{} more with other values", counts.others));
    }
    if let (Some(first), Some(last)) = (&counts.first, &counts.last) {
        out::line(&format!("from {first} to {last}"));
    }
}

fn field<'a>(body: &'a Body, name: &str) -> &'a str {
    body.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The first of these fields that has text.
fn first<'a>(body: &'a Body, names: &[&str]) -> &'a str {
    names.iter().map(|name| field(body, name)).find(|text| !text.is_empty()).unwrap_or_default()
}

fn list<'a>(body: &'a Body, name: &str) -> Vec<&'a str> {
    body.get(name)
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}
