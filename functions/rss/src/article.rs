//! From a feed's entry to the document that `rss_articles` holds: ids, links, text, CVEs and indicators.

use std::collections::{BTreeMap, HashSet};

use base::address::masked;
use base::date::seconds;
use feed::text::html_to_text;
use feed::{Entry, Head};
use indicator::InArticle;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stores::documents::{Body, Owner, Write};

use crate::identity::{self, address, canonical_link};
use crate::sources::{NAME, Source};

/// An item dated further in the future than this is marked: the date is wrong, or the item is a trick to stay on top.
const FUTURE: SignedDuration = SignedDuration::from_hours(48);

// What a field holds at most, in bytes, and a list in entries. What is longer is cut, a link is left out, and a note says so.
// What a feed says once stands in each of its articles, so there it is less.
pub const TITLE_MAX: usize = 4 << 10;
pub const SUMMARY_MAX: usize = 64 << 10;
pub const CONTENT_MAX: usize = 1 << 20;
/// A keyword that Lucene takes has 32,766 bytes, and a letter four of them.
pub const LINK_MAX: usize = 8191;
pub const GUID_MAX: usize = 8191;
pub const DATE_MAX: usize = 256;
pub const AUTHOR_MAX: usize = 256;
pub const AUTHORS_MAX: usize = 64;
pub const TAG_MAX: usize = 256;
pub const TAGS_MAX: usize = 128;
pub const MEDIA_MAX: usize = 32;
pub const MEDIA_TYPE_MAX: usize = 128;
pub use indicator::{CVES_MAX, IOCS_MAX};
pub const LANGUAGE_MAX: usize = 64;
pub const FEED_TITLE_MAX: usize = 512;
pub const FEED_DESCRIPTION_MAX: usize = 1024;
pub const FEED_LINK_MAX: usize = 1024;

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

fn text(value: Option<&str>) -> Value {
    value.map_or(Value::Null, |value| Value::String(value.to_owned()))
}

/// Fields that were cut to their caps, and in how many articles.
#[derive(Debug, Default)]
pub(crate) struct Cuts(BTreeMap<&'static str, u64>);

impl Cuts {
    /// What a report says of them.
    pub(crate) fn note(&self) -> Option<String> {
        let fields: Vec<String> =
            self.0.iter().map(|(field, items)| format!("`{field}` of {items}")).collect();
        (!fields.is_empty()).then(|| format!("cut to what a field may hold: {}", fields.join(", ")))
    }

    fn add(&mut self, field: &'static str) {
        *self.0.entry(field).or_default() += 1;
    }

    /// The beginning of a text, of so many bytes at most.
    fn text<'t>(&mut self, field: &'static str, text: &'t str, max: usize) -> &'t str {
        if text.len() <= max {
            return text;
        }
        self.add(field);
        &text[..text.floor_char_boundary(max)]
    }

    /// A text that means something else when it is cut, or none.
    fn whole<'t>(
        &mut self,
        field: &'static str,
        text: Option<&'t str>,
        max: usize,
    ) -> Option<&'t str> {
        if text.is_some_and(|text| text.len() > max) {
            self.add(field);
            return None;
        }
        text
    }

    /// The first entries of a list.
    fn list<T>(&mut self, field: &'static str, list: &mut Vec<T>, max: usize) {
        if list.len() > max {
            self.add(field);
            list.truncate(max);
        }
    }

    /// Texts that differ, each cut, and none of them empty.
    fn texts(
        &mut self,
        field: &'static str,
        texts: &[String],
        max: usize,
        longest: usize,
    ) -> Vec<String> {
        let mut seen = HashSet::new();
        let mut distinct: Vec<String> = texts
            .iter()
            .filter(|text| !text.is_empty() && seen.insert(text.as_str()))
            .take(max + 1)
            .map(|text| self.text(field, text, longest).to_owned())
            .collect();
        self.list(field, &mut distinct, max);
        distinct
    }
}

/// The document of an entry whose id no other one has.
pub fn write(source: &Source, head: &Head, entry: &Entry, now: Timestamp) -> Write {
    let id = identity::of_alone(source, entry).id;
    write_as(id, source, head, entry, now, &mut Cuts::default())
}

/// The document of an entry under this id.
pub(crate) fn write_as(
    id: String,
    source: &Source,
    head: &Head,
    entry: &Entry,
    now: Timestamp,
    cuts: &mut Cuts,
) -> Write {
    let content = entry.content_html.as_deref().map(html_to_text);
    let summary = entry.summary_html.as_deref().map(html_to_text);
    let title = entry.title.as_deref().unwrap_or_default();
    let found = InArticle::of(&[
        title,
        summary.as_deref().unwrap_or_default(),
        content.as_deref().unwrap_or_default(),
    ]);
    found.cut.iter().for_each(|field| cuts.add(field));
    // What is read of a text is read of all of it, whatever is kept.
    let content = content.as_deref().map(|content| cuts.text("content", content, CONTENT_MAX));
    let summary = match &summary {
        Some(summary) => cuts.text("summary", summary, SUMMARY_MAX),
        None => content.map_or("", |content| &content[..content.floor_char_boundary(SUMMARY_MAX)]),
    };
    let link = cuts.whole("link", entry.link.as_deref(), LINK_MAX);
    let authors = cuts.texts("authors", &entry.authors, AUTHORS_MAX, AUTHOR_MAX);
    let mut media: Vec<Value> = Vec::new();
    for one in entry.media.iter().take(MEDIA_MAX) {
        let mime = cuts.whole("media", one.mime.as_deref(), MEDIA_TYPE_MAX);
        if let Some(url) = cuts.whole("media", Some(&one.url), LINK_MAX) {
            media.push(json!({"url": url, "type": mime}));
        }
    }
    if entry.media.len() > MEDIA_MAX {
        cuts.add("media");
    }
    let last_seen = entry.updated.max(entry.published);
    let (published, published_from) = match (entry.published, entry.updated) {
        (Some(published), _) => (Some(published), "source"),
        (None, Some(updated)) => (Some(updated), "updated"),
        (None, None) => (None, "collected"),
    };
    let shown_url = masked(&source.url);

    let mut fields = Body::new();
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    set("id", json!(id));
    set("source_family", json!(NAME));
    set("source_type", json!("rss_feed"));
    set("source_id", json!(source.id));
    set("source_name", json!(source.name));
    set("source_url", json!(shown_url));
    set("feed_name", json!(source.name));
    set("feed_url", json!(shown_url));
    set("feed_link", text(cuts.whole("feed_link", head.link.as_deref(), FEED_LINK_MAX)));
    let mut of_feed = |field: &'static str, of: &Option<String>, max: usize| {
        text(of.as_deref().map(|of| cuts.text(field, of, max)))
    };
    set("feed_title", of_feed("feed_title", &head.title, FEED_TITLE_MAX));
    let description = of_feed("feed_description", &head.description, FEED_DESCRIPTION_MAX);
    set("feed_description", description);
    set("category", json!(source.category));
    let language = cuts.whole("language", head.language.as_deref(), LANGUAGE_MAX);
    set("language", text(source.language.as_deref().or(language)));
    set("title", json!(cuts.text("title", title, TITLE_MAX)));
    set("link", json!(link.unwrap_or_default()));
    let canonical = address(entry).map(canonical_link);
    let canonical = cuts.whole("link_canonical", canonical.as_deref(), LINK_MAX);
    set("link_canonical", text(canonical));
    set("guid", text(entry.guid.as_deref().map(|guid| cuts.text("guid", guid, GUID_MAX))));
    set("author", text(authors.first().map(String::as_str)));
    set("authors", json!(authors));
    set("summary", json!(summary));
    set("content", text(content));
    set("media", Value::Array(media));
    set("tags", json!(cuts.texts("tags", &entry.categories, TAGS_MAX, TAG_MAX)));
    set("cves", json!(found.cves));
    set("iocs", found.iocs());
    set("published", json!(published.map(seconds)));
    set("@timestamp", json!(published.map(seconds)));
    set("published_from", json!(published_from));
    let raw = entry.published_raw.as_deref();
    set("published_raw", text(raw.map(|raw| cuts.text("published_raw", raw, DATE_MAX))));
    set(
        "published_in_future",
        json!(published.is_some_and(|date| date.duration_since(now) > FUTURE)),
    );
    set("updated", json!(entry.updated.map(seconds)));
    set("last_seen", json!(last_seen.map(seconds)));
    set("tlp", json!("clear"));
    set("active", json!(true));
    set("collected_at", json!(seconds(now)));
    set("first_seen", json!(seconds(now)));
    Write::of(id, &OWNER, fields)
}

#[cfg(test)]
mod tests {
    use feed::{Kind, Media};
    use indicator::MAX_INDICATORS;

    use super::*;

    #[test]
    fn every_field_that_a_feed_fills_has_a_cap() {
        let long = |letter: &str| Some(letter.repeat(2 << 20));
        let link = || Some(format!("https://a.example/{}", "a".repeat(2 << 20)));
        let many: Vec<String> = (0..5000).map(|n| format!("{n} {}", "é".repeat(400))).collect();
        let media = Media { url: "https://a.example/x".to_owned(), mime: long("m") };
        let addresses: String = (0..5000)
            .map(|n| format!("8[.]{}[.]{}[.]1 CVE-2024-{:05} ", n / 250, n % 250, n + 10_000))
            .collect();
        let entry = Entry {
            guid: long("g"),
            title: long("t"),
            link: link(),
            authors: many.clone(),
            published_raw: long("d"),
            summary_html: long("s "),
            content_html: Some(format!("{addresses} {}", "c ".repeat(1 << 20))),
            categories: many,
            media: vec![media; 500],
            ..Entry::default()
        };
        let head = Head {
            kind: Kind::Rss,
            version: String::new(),
            title: long("t"),
            description: long("d"),
            link: link(),
            language: long("l"),
            encoding: "utf-8",
            repairs: Vec::new(),
        };
        let source = Source {
            id: "a".to_owned(),
            name: "A".to_owned(),
            url: "https://a.example/feed".parse().unwrap(),
            language: None,
            category: "news".to_owned(),
            enabled: true,
        };
        let mut cuts = Cuts::default();
        let write =
            write_as("1".to_owned(), &source, &head, &entry, Timestamp::UNIX_EPOCH, &mut cuts);
        let fields = &write.parts[0].fields;
        let lengths = |name: &str| match &fields[name] {
            Value::String(text) => (text.len(), 0),
            Value::Array(list) => {
                let longest = list.iter().filter_map(Value::as_str).map(str::len).max();
                (longest.unwrap_or_default(), list.len())
            }
            _ => (0, 0),
        };
        for (name, longest, most) in [
            ("title", TITLE_MAX, 0),
            ("guid", GUID_MAX, 0),
            ("published_raw", DATE_MAX, 0),
            ("summary", SUMMARY_MAX, 0),
            ("content", CONTENT_MAX, 0),
            ("feed_title", FEED_TITLE_MAX, 0),
            ("feed_description", FEED_DESCRIPTION_MAX, 0),
            ("authors", AUTHOR_MAX, AUTHORS_MAX),
            ("tags", TAG_MAX, TAGS_MAX),
            ("media", 0, MEDIA_MAX),
            ("cves", 14, CVES_MAX),
            ("iocs", 0, MAX_INDICATORS),
        ] {
            let (long, many) = lengths(name);
            // A letter of two bytes may not fit.
            assert!(long <= longest && long + 1 >= longest, "{name}: {long} bytes");
            assert_eq!(many, most, "{name}");
            assert!(
                cuts.note().unwrap().contains(&format!("`{name}`")),
                "{name}: {:?}",
                cuts.note()
            );
        }
        for (name, left_out) in [
            ("link", json!("")),
            ("link_canonical", Value::Null),
            ("feed_link", Value::Null),
            ("language", Value::Null),
        ] {
            assert_eq!(fields[name], left_out, "{name}");
            assert!(cuts.note().unwrap().contains(&format!("`{name}`")), "{name}");
        }
    }
}
