//! From a feed's entry to the document that `rss_articles` holds: ids, links, text, CVEs and indicators.

use std::fmt::Write as _;

use base::address::masked;
use feed::text::html_to_text;
use feed::{Entry, Head};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stores::documents::{self, Body, Owner, Write};
use url::Url;

use crate::sources::{NAME, Source};

/// An item dated further in the future than this is marked: the date is wrong, or the item is a trick to stay on top.
const FUTURE: SignedDuration = SignedDuration::from_hours(48);

/// What the RSS family writes into an article. Field names that others read are those of the predecessor.
pub const OWNER: Owner = Owner {
    fields: &[
        "source_family",
        "source_type",
        "source_id",
        "source_name",
        "source_url",
        "feed_name",
        "feed_url",
        "feed_link",
        "feed_title",
        "feed_description",
        "category",
        "language",
        "title",
        "link",
        "link_canonical",
        "guid",
        "author",
        "authors",
        "summary",
        "content",
        "media",
        "cves",
        "iocs",
        "@timestamp",
        "published",
        "published_from",
        "published_raw",
        "published_in_future",
        "updated",
        "last_seen",
        "tlp",
        "active",
        "content_hash",
    ],
    // What the feed says of itself changes without any article changing, and whether a date lies ahead changes by itself.
    unhashed: &[
        "source_name",
        "feed_name",
        "feed_link",
        "feed_title",
        "feed_description",
        "published_in_future",
        "content_hash",
        "@timestamp",
        "last_seen",
    ],
    insert_only: &["id", "collected_at", "first_seen"],
    fallback: &[("published", "collected_at"), ("@timestamp", "collected_at")],
    shared: &["tags"],
    ..Owner::named("rss")
};

/// The document's id: the family, the source and the item's own id, which is unique within its feed only.
pub fn id(source: &Source, entry: &Entry) -> String {
    let natural = match (&entry.guid, address(entry)) {
        (Some(guid), _) => guid.clone(),
        (None, Some(link)) => canonical_link(link),
        (None, None) => fingerprint(entry),
    };
    documents::id(&[NAME, &source.id, &natural])
}

/// The id of an article that is known by its link only: one that was adopted, as the predecessor kept no guid.
pub fn id_of_link(source: &Source, link: &str) -> String {
    documents::id(&[NAME, &source.id, &canonical_link(link)])
}

/// Where the article really is: behind `FeedBurner`'s redirect, if it goes through one.
fn address(entry: &Entry) -> Option<&str> {
    entry.original_link.as_deref().or(entry.link.as_deref())
}

/// What tells an item without id and link from others: its title and date, or whatever else it has.
fn fingerprint(entry: &Entry) -> String {
    let date = entry
        .published
        .map(|date| date.to_string())
        .or_else(|| entry.published_raw.clone())
        .unwrap_or_default();
    let title = entry.title.as_deref().unwrap_or_default();
    if !title.is_empty() || !date.is_empty() {
        return documents::id(&[title, &date]);
    }
    let mut rest = String::new();
    let _ = write!(
        rest,
        "{:?}{:?}{:?}{:?}{:?}{:?}",
        entry.summary_html,
        entry.content_html,
        entry.authors,
        entry.categories,
        entry.media,
        entry.updated
    );
    documents::id(&[&rest])
}

/// A link without its fragment and without what only tracks the reader.
pub fn canonical_link(link: &str) -> String {
    let Ok(mut url) = Url::parse(link) else { return link.trim().to_owned() };
    url.set_fragment(None);
    if url.query().is_some() {
        let is_tracking =
            |name: &str| name.starts_with("utm_") || matches!(name, "fbclid" | "gclid" | "ref");
        let kept: Vec<String> = url
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !is_tracking(pair.split('=').next().unwrap_or_default()))
            .map(ToOwned::to_owned)
            .collect();
        url.set_query((!kept.is_empty()).then(|| kept.join("&")).as_deref());
    }
    url.into()
}

/// An instant as documents hold it: whole seconds, so that text order is time order.
fn seconds(instant: Timestamp) -> Value {
    Value::String(instant.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn text(value: Option<&str>) -> Value {
    value.map_or(Value::Null, |value| Value::String(value.to_owned()))
}

/// The document of an entry.
pub fn write(source: &Source, head: &Head, entry: &Entry, now: Timestamp) -> Write {
    let id = id(source, entry);
    let content = entry.content_html.as_deref().map(html_to_text);
    let summary = entry
        .summary_html
        .as_deref()
        .map(html_to_text)
        .or_else(|| content.clone())
        .unwrap_or_default();
    let title = entry.title.as_deref().unwrap_or_default();
    let found = indicators(title, &summary, content.as_deref());
    let last_seen = entry.updated.max(entry.published);

    let mut fields = Body::new();
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    set("id", json!(id));
    set("source_family", json!(NAME));
    set("source_type", json!("rss_feed"));
    set("source_id", json!(source.id));
    set("source_name", json!(source.name));
    set("source_url", json!(masked(&source.url)));
    set("feed_name", json!(source.name));
    set("feed_url", json!(masked(&source.url)));
    set("feed_link", text(head.link.as_deref()));
    set("feed_title", text(head.title.as_deref()));
    set("feed_description", text(head.description.as_deref()));
    set("category", json!(source.category));
    set("language", text(source.language.as_deref().or(head.language.as_deref())));
    set("title", json!(title));
    set("link", json!(entry.link.as_deref().unwrap_or_default()));
    set("link_canonical", address(entry).map_or(Value::Null, |link| json!(canonical_link(link))));
    set("guid", text(entry.guid.as_deref()));
    set("author", text(entry.authors.first().map(String::as_str)));
    set("authors", json!(entry.authors));
    set("summary", json!(summary));
    set("content", text(content.as_deref()));
    set(
        "media",
        Value::Array(
            entry.media.iter().map(|media| json!({"url": media.url, "type": media.mime})).collect(),
        ),
    );
    set("tags", json!(distinct(&entry.categories)));
    set("cves", json!(found.cves));
    set("iocs", Value::Array(found.iocs));
    set("published", entry.published.map_or(Value::Null, seconds));
    set("@timestamp", entry.published.map_or(Value::Null, seconds));
    set("published_from", json!(if entry.published.is_some() { "source" } else { "collected" }));
    set("published_raw", text(entry.published_raw.as_deref()));
    set(
        "published_in_future",
        json!(entry.published.is_some_and(|date| date.duration_since(now) > FUTURE)),
    );
    set("updated", entry.updated.map_or(Value::Null, seconds));
    set("last_seen", last_seen.map_or(Value::Null, seconds));
    set("tlp", json!("clear"));
    set("active", json!(true));
    set("collected_at", seconds(now));
    set("first_seen", seconds(now));
    for value in fields.values_mut() {
        // JSON may write one, PostgreSQL stores none, and no text means one.
        if let Value::String(text) = value
            && text.contains('\0')
        {
            text.retain(|letter| letter != '\0');
        }
    }
    Write::of(id, &OWNER, fields)
}

struct Found {
    cves: Vec<String>,
    iocs: Vec<Value>,
}

/// CVEs and indicators of the title and the longest text, in the order in which they appear.
fn indicators(title: &str, summary: &str, content: Option<&str>) -> Found {
    let mut found = Found { cves: Vec::new(), iocs: Vec::new() };
    let mut seen = Vec::new();
    for text in [Some(title), Some(summary), content.filter(|content| *content != summary)]
        .into_iter()
        .flatten()
    {
        let extraction = indicator::extract(text);
        for cve in extraction.cves {
            if !found.cves.contains(&cve) {
                found.cves.push(cve);
            }
        }
        for indicator in extraction.indicators {
            let key = (indicator.kind, indicator.value.clone());
            if !seen.contains(&key) {
                seen.push(key);
                found.iocs.push(
                    json!({"type": indicator.kind, "value": indicator.value, "raw": indicator.raw}),
                );
            }
        }
    }
    found
}

fn distinct(values: &[String]) -> Vec<&str> {
    let mut distinct: Vec<&str> = Vec::new();
    for value in values {
        if !value.is_empty() && !distinct.contains(&value.as_str()) {
            distinct.push(value);
        }
    }
    distinct
}
