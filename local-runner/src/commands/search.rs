//! `search`: what was stored, by words, fields and dates, shown or counted.

use base::{Error, Result};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;
use stores::documents::{Aggregation, Body, Bucket, Counts, Filter, Index, Per, Query, Sort};

use crate::cli::{self, Cli, SearchArgs};
use crate::home::{open_documents, settings};
use crate::out::{self, Outcome};

/// `local-runner search`.
pub(crate) async fn search(cli: &Cli, args: &SearchArgs) -> Outcome {
    let index = Index::named(&args.index)?;
    let store = open_documents(&settings(cli)?).await?;
    let text = args.text.join(" ");
    let query = Query {
        text: Some(text).filter(|text| !text.trim().is_empty()),
        filters: filters(index, args)?,
        sort: args.relevance.then_some(Sort::Relevance),
        offset: 0,
        limit: args.count,
    };
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
        out::line("nothing found");
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
        out::line(&format!("{date}  {}", if title.is_empty() { "(no title)" } else { title }));
        out::line(&format!(
            "    {} · {}{}{tags}",
            first(body, &["feed_name", "source_name", "source_family"]),
            first(body, &["category", "type", "os", "country"]),
            if tags.is_empty() { "" } else { " · " }
        ));
        out::line(&format!("    {}", first(body, &["link", "url", "source_url"])));
    }
    out::line(&format!("{} of {} found", page.documents.len(), page.total));
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
    Ok(Some(Aggregation::Dates { field: date(index)?.to_owned(), per }))
}

/// The date that says how new a document is.
fn date(index: &Index) -> Result<&str> {
    index.newest_by.as_deref().ok_or_else(|| {
        Error::config(format!("tell what is new in `{}`", index.name))
            .hint("its documents have no date to go by; leave out `--since` and `--per`")
    })
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

fn filters(index: &Index, args: &SearchArgs) -> Result<Vec<Filter>> {
    let mut filters = Vec::new();
    for filter in &args.filters {
        let (field, value) = filter.split_once('=').ok_or_else(|| {
            Error::config(format!("read the condition `{filter}`"))
                .hint("it is FIELD=VALUE, as `category=brazil`")
        })?;
        filters.push(Filter::Terms(field.to_owned(), vec![value.to_owned()]));
    }
    if let Some(since) = &args.since {
        filters.push(Filter::Range(date(index)?.to_owned(), Some(instant(since)?), None));
    }
    Ok(filters)
}

/// A day or an instant, in the form in which documents hold theirs.
fn instant(text: &str) -> Result<String> {
    let day = text
        .parse::<Date>()
        .ok()
        .and_then(|day| day.to_zoned(TimeZone::UTC).ok())
        .map(|day| day.timestamp());
    let instant = day
        .filter(|_| text.len() == 10)
        .or_else(|| text.parse::<Timestamp>().ok())
        .ok_or_else(|| {
            Error::config(format!("read the date `{text}`"))
                .hint("it is a day as 2026-03-01 or an instant as 2026-03-01T12:00:00Z")
        })?;
    Ok(instant.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
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
