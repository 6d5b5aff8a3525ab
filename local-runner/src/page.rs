//! The page on which a person looks at what was stored: indicators with their sources and TLP, articles, newest first, a search
//! box, no script.
//!
//! Everything shown comes from hostile feeds: maud escapes it, letters that turn text around are replaced, links open
//! without referrer and only where they are http. No other page can frame it or read it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query as Parameters, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base::shown;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use serde_json::Value;
use stores::documents::{Body, Documents, Filter, Index, Page, Query, Sort};

use crate::when;

const INDEX: &str = "rss_articles";

/// What a search for indicators reads.
const INDICATORS: &str = "minerva-indicators";

/// Indicators on one page.
const INDICATORS_SHOWN: u32 = 12;

/// Articles on one page.
const SHOWN: u32 = 50;

/// Characters of a summary that are shown.
const SUMMARY: usize = 280;

const STYLE: &str = "
body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; background: #fff }
header { display: flex; gap: 1rem; align-items: baseline; flex-wrap: wrap } h1 { font-size: 1.3rem; margin: 0 }
form { flex: 1; display: flex; gap: .5rem } input { flex: 1; font: inherit; padding: .3rem .6rem }
button { font: inherit; padding: .3rem .9rem }
table { border-collapse: collapse; width: 100%; font-size: .87rem } th { text-align: left; font-weight: 600 }
th, td { padding: .15rem .6rem .15rem 0; vertical-align: top } td.value { font-family: ui-monospace, monospace; overflow-wrap: anywhere }
article { padding: .9rem 0; border-bottom: 1px solid #dde3ea } h2 { font-size: 1.05rem; margin: 0 }
p { margin: .2rem 0 } .meta { color: #5b6878; font-size: .87rem } .tag { background: #eef2f7; border-radius: 3px; padding: 0 .35rem }
.cve { background: #fde8e6; color: #8c1d12 } .ioc { background: #fff3d6; color: #6b4a00 } a { color: #0b57a4; text-decoration: none }
a:hover { text-decoration: underline }
@media (prefers-color-scheme: dark) { body { color: #dbe2ea; background: #12171e } .tag { background: #222b36 }
  a { color: #7db7f5 } article { border-color: #28323e } .cve { background: #4a1d1a; color: #ffb9b0 } .ioc { background: #40330f; color: #ffdf8a } }
";

/// What the page may load: its own style, nothing else. What may show it: nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What a browser may do with the page.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    q: String,
    category: String,
}

/// `GET /`, with times in `zone`.
pub(crate) fn routes(documents: Arc<dyn Documents>, zone: TimeZone) -> Router {
    Router::new().route("/", get(show)).with_state((documents, zone))
}

async fn show(
    State((documents, zone)): State<(Arc<dyn Documents>, TimeZone)>,
    Parameters(asked): Parameters<PageQuery>,
) -> Response {
    let query = Query {
        text: Some(asked.q.clone()).filter(|text| !text.trim().is_empty()),
        filters: Some(asked.category.clone())
            .filter(|category| !category.is_empty())
            .map(|category| Filter::Terms("category".to_owned(), vec![category]))
            .into_iter()
            .collect(),
        limit: SHOWN,
        ..Query::default()
    };
    let found = match Index::named(INDEX) {
        Ok(index) => documents.search(index, &query).await,
        Err(error) => Err(error),
    };
    let indicators = indicators(documents.as_ref(), &asked).await;
    let shown =
        found.and_then(|found| Ok(PageContent { articles: found, indicators: indicators? }));
    let markup = page(&asked, shown.as_ref().map_err(base::Error::chain), &zone);
    (HEADERS, markup).into_response()
}

/// What one page shows.
struct PageContent {
    articles: Page,
    indicators: Page,
}

/// The indicators to what was asked: of a value its own, of words those that mention them, else those that most sources name.
async fn indicators(documents: &dyn Documents, asked: &PageQuery) -> base::Result<Page> {
    let index = Index::named(INDICATORS)?;
    let newest = Query { limit: INDICATORS_SHOWN, ..Query::default() };
    let words = asked.q.trim();
    if words.is_empty() {
        let sort = Sort::Field { name: "sources_count".to_owned(), descending: true };
        return documents.search(index, &Query { sort: Some(sort), ..newest }).await;
    }
    if let Ok(indicator) = indicator::parse(None, words) {
        let filters = vec![Filter::Terms("value".to_owned(), vec![indicator.value])];
        let found = documents.search(index, &Query { filters, ..newest.clone() }).await?;
        if found.total > 0 {
            return Ok(found);
        }
    }
    documents.search(index, &Query { text: Some(words.to_owned()), ..newest }).await
}

fn page(asked: &PageQuery, found: Result<&PageContent, String>, zone: &TimeZone) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Minerva: threat intelligence" }
                style { (maud::PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { a href="/" { "Minerva" } }
                    form action="/" {
                        input type="search" name="q" value=(shown::lines(&asked.q)) placeholder="CVE-2021, seguran*, \"a phrase\", -not" autofocus;
                        button { "Search" }
                    }
                }
                @match found {
                    Err(problem) => p { "The store could not be read: " (shown::lines(&problem)) },
                    Ok(PageContent { articles: page, indicators }) => {
                        @if !indicators.documents.is_empty() { (table(indicators)) }
                        p.meta {
                            (page.total) @if page.total == 1 { " article" } @else { " articles" }
                            @if !asked.category.is_empty() { " in " bdi { (shown::lines(&asked.category)) } }
                            @if page.total > u64::from(SHOWN) { ", the first " (SHOWN) " shown" }
                        }
                        @for document in &page.documents { (article(&document.body, zone)) }
                    }
                }
            }
        }
    }
}

/// Indicators as rows; one that is on a list of known values says so, one that left its sources is struck through.
fn table(found: &Page) -> Markup {
    html! {
        p.meta {
            (found.total) @if found.total == 1 { " indicator" } @else { " indicators" }
            @if found.total > u64::from(INDICATORS_SHOWN) { ", the first " (INDICATORS_SHOWN) " shown" }
        }
        table {
            tr { th { "type" } th { "value" } th { "TLP" } th { "sources" } th { "tags" } }
            @for document in &found.documents {
                @let body = &document.body;
                @let has_left = body.get("active") == Some(&Value::Bool(false));
                tr {
                    td { (text(body, "type")) }
                    td.value { @if has_left { s { (text(body, "value")) } } @else { (text(body, "value")) } }
                    td { (text(body, "tlp")) }
                    td { bdi { (sources(body)) } }
                    td {
                        @for list in list(body, "warninglist_hits") { span.tag.cve { (list) } " " }
                        @for tag in list(body, "malware_family").into_iter().chain(list(body, "tags")).take(5) { bdi.tag { (tag) } " " }
                    }
                }
            }
        }
    }
}

/// Who names an indicator.
fn sources(body: &Body) -> String {
    let names = list(body, "feed_name");
    if names.is_empty() { text(body, "source_name") } else { names.join(", ") }
}

fn article(body: &Body, zone: &TimeZone) -> Markup {
    let title = Some(text(body, "title")).filter(|title| !title.is_empty());
    let title = title.unwrap_or_else(|| "(no title)".to_owned());
    let link = Some(text(body, "link"))
        .filter(|link| link.starts_with("https://") || link.starts_with("http://"));
    let category = text(body, "category");
    html! {
        article lang=(text(body, "language")) {
            h2 dir="auto" { @if let Some(link) = link { a href=(link) rel="noreferrer noopener nofollow" { (title) } } @else { (title) } }
            p.meta {
                (published(&text(body, "published"), zone)) " · " bdi { (text(body, "feed_name")) } " · "
                a href={ "/?category=" (category) } { bdi { (category) } }
                @for cve in list(body, "cves") { " " span.tag.cve { (cve) } }
                @let iocs = body.get("iocs").and_then(Value::as_array).map_or(0, Vec::len);
                @if iocs > 0 { " " span.tag.ioc { (iocs) " indicators" } }
                @for tag in list(body, "tags").into_iter().take(5) { " " bdi.tag { (tag) } }
            }
            p dir="auto" { (shortened(&text(body, "summary"))) }
        }
    }
}

/// When it was published, in the zone, with UTC for who points at it; a date without a time as it is.
fn published(date: &str, zone: &TimeZone) -> Markup {
    match date.parse::<Timestamp>() {
        Ok(instant) => {
            html! { time datetime=(date) title=(date) { (when::minute(instant, zone)) } }
        }
        Err(_) => html! { (date.get(..10).unwrap_or_default()) },
    }
}

fn shortened(summary: &str) -> String {
    match summary.char_indices().nth(SUMMARY) {
        Some((end, _)) => format!("{}…", &summary[..end]),
        None => summary.to_owned(),
    }
}

fn text(body: &Body, name: &str) -> String {
    body.get(name).and_then(Value::as_str).map(shown::lines).unwrap_or_default()
}

fn list(body: &Body, name: &str) -> Vec<String> {
    body.get(name)
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).map(shown::lines).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stores::documents::Document;

    use super::*;

    #[test]
    fn what_a_feed_sends_is_shown_and_never_run() {
        let body = json!({"title": "<script>alert(1)</script>", "link": "javascript:alert(1)", "summary": "a\" onload=\"x"});
        let shown = article(body.as_object().unwrap(), &TimeZone::UTC).into_string();
        assert!(
            !shown.contains("<script>")
                && !shown.contains("javascript:")
                && !shown.contains("\" onload"),
            "{shown}"
        );
    }

    #[test]
    fn letters_that_turn_text_around_are_not_shown() {
        const STEERING: &str =
            "\u{1b}[2J\u{7f}\u{85}\u{9b}\u{61c}\u{200e}\u{200f}\u{2028}\u{202e}\u{2066}\0";
        let mut body = Body::new();
        for name in ["title", "link", "feed_name", "category", "summary", "published", "language"] {
            body.insert(name.to_owned(), json!(format!("https://a/{STEERING}")));
        }
        body.insert("tags".to_owned(), json!([STEERING]));
        body.insert("cves".to_owned(), json!([STEERING]));
        let asked = PageQuery { q: STEERING.to_owned(), category: STEERING.to_owned() };
        let none = Page { documents: Vec::new(), total: 0 };
        for name in ["type", "value", "tlp", "source_name"] {
            body.insert(name.to_owned(), json!(STEERING));
        }
        body.insert("warninglist_hits".to_owned(), json!([STEERING]));
        let one = Document { id: "1".to_owned(), body: body.clone() };
        let found =
            PageContent { articles: none, indicators: Page { documents: vec![one], total: 1 } };
        let shown = article(&body, &TimeZone::UTC).into_string()
            + &page(&asked, Ok(&found), &TimeZone::UTC).into_string()
            + &page(&asked, Err(STEERING.to_owned()), &TimeZone::UTC).into_string();
        let is_steering = |letter: &char| {
            *letter != '\n' && STEERING.contains(*letter) && !"[2J".contains(*letter)
        };
        assert_eq!(shown.chars().find(is_steering), None, "{shown}");
        assert!(shown.contains("\u{fffd}"));
    }

    #[test]
    fn a_date_is_shown_in_the_zone_and_keeps_utc_beside_it() {
        let zone = TimeZone::get("America/Sao_Paulo").unwrap();
        let shown = |date: &str| published(date, &zone).into_string();
        assert_eq!(
            shown("2026-03-01T01:00:00Z"),
            r#"<time datetime="2026-03-01T01:00:00Z" title="2026-03-01T01:00:00Z">2026-02-28 22:00 -03</time>"#
        );
        assert_eq!(shown("2026-03-01"), "2026-03-01");
        assert_eq!(shown(""), "");
    }
}
