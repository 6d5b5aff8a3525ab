//! `search`: what was stored, by words, fields and dates.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;
use shared::documents::{Body, Filter, Index, Query, Sort};
use shared::{Error, Result};

use super::{open_documents, settings};
use crate::cli::{Cli, SearchArgs};
use crate::out::{self, Outcome};

/// `local-runner search`.
pub(crate) async fn search(cli: &Cli, args: &SearchArgs) -> Outcome {
    let index = Index::named(&args.index)?;
    let store = open_documents(&settings(cli)?).await?;
    let text = args.text.join(" ");
    let query = Query {
        text: Some(text).filter(|text| !text.trim().is_empty()),
        filters: filters(args)?,
        sort: args.relevance.then_some(Sort::Relevance),
        offset: 0,
        limit: args.count,
    };
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
        let title = field(body, "title");
        out::line(&format!(
            "{}  {}",
            field(body, "published"),
            if title.is_empty() { "(no title)" } else { title }
        ));
        out::line(&format!(
            "    {} · {}{}{tags}",
            field(body, "feed_name"),
            field(body, "category"),
            if tags.is_empty() { "" } else { " · " }
        ));
        out::line(&format!("    {}", field(body, "link")));
    }
    out::line(&format!("{} of {} found", page.documents.len(), page.total));
    Ok(out::DONE)
}

fn filters(args: &SearchArgs) -> Result<Vec<Filter>> {
    let mut filters = Vec::new();
    for filter in &args.filters {
        let (field, value) = filter.split_once('=').ok_or_else(|| {
            Error::config(format!("read the condition `{filter}`"))
                .hint("it is FIELD=VALUE, as `category=brazil`")
        })?;
        filters.push(Filter::Terms(field.to_owned(), vec![value.to_owned()]));
    }
    if let Some(since) = &args.since {
        filters.push(Filter::Range("published".to_owned(), Some(instant(since)?), None));
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

fn list<'a>(body: &'a Body, name: &str) -> Vec<&'a str> {
    body.get(name)
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}
