//! From an entry of the bibliography, or an item of the feed, to the document that `malpedia_library` holds.
//!
//! A reference is its canonical address, so that both ways meet in one document. The bibliography owns what it says. The
//! feed owns its summary only; the rest it sets where nothing stands yet, and the bibliography lays its own over it.

use std::net::IpAddr;

use base::date::seconds;
use feed::Entry as Item;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};
use stores::documents::{self, Body, Contributions, Owner, Write};
use url::Url;

use crate::bibtex::date::{self, Precision};
use crate::bibtex::{Entry, text};
use crate::settings::NAME;
use crate::wire::{ADDRESS_MAX, NAME_MAX};

/// The index that references go to.
pub const INDEX: &str = "malpedia_library";

/// The name that readers filter by, as the predecessor wrote it.
pub const FEED_NAME: &str = "Malpedia Library";

/// No report on malware is older; such a date is a slip, kept and marked.
const FIRST_YEAR: i16 = 1971;

/// Bytes of a title; the longest known has some 300.
pub const TITLE_MAX: usize = 4_096;

/// Bytes of a summary.
pub const SUMMARY_MAX: usize = 64 << 10;

/// Bytes of an address that is brought into one form; a longer one is taken as it stands.
const PARSED_MAX: usize = 64 << 10;

/// Keys of one reference that its document names.
pub const KEYS_MAX: usize = 1_000;

/// What the bibliography says of a reference. Field names that others read are those of the predecessor.
pub const OWNER: Owner = Owner {
    fields: &[
        "source_family",
        "source_type",
        "source_id",
        "source_name",
        "source_url",
        "feed_name",
        "feed_link",
        "feed_title",
        "feed_description",
        "category",
        "language",
        "language_name",
        "title",
        "link",
        "link_canonical",
        "bibtex_key",
        "bibtex_type",
        "author",
        "authors",
        "organization",
        "date",
        "date_precision",
        "date_suspect",
        "year",
        "kind",
        "urldate",
        "@timestamp",
        "published",
        "published_from",
        "tlp",
        "active",
        "content_hash",
    ],
    // Malpedia looks at an address again without the reference changing, and whether a date lies ahead changes by itself.
    unhashed: &[
        "source_name",
        "source_url",
        "feed_link",
        "feed_title",
        "feed_description",
        "urldate",
        "date_suspect",
        "content_hash",
    ],
    insert_only: &["collected_at", "first_seen"],
    fallback: &[("published", "collected_at"), ("@timestamp", "collected_at")],
    shared: &["tags", "bib_keys"],
    derived: DATED,
    derive: Some(published),
    ..Owner::named("malpedia_bibtex")
};

/// What the feed says of a reference.
pub const LATEST: Owner = Owner {
    fields: &["summary", "guid", "feed_published", "feed_published_from", "published_raw"],
    // A date is no reason for a write by itself: it never was, and documents of before have none.
    unhashed: &["feed_published", "feed_published_from", "published_raw"],
    insert_only: &[
        "source_family",
        "source_type",
        "source_id",
        "source_name",
        "source_url",
        "feed_name",
        "feed_link",
        "feed_title",
        "feed_description",
        "category",
        "title",
        "link",
        "link_canonical",
        "kind",
        "@timestamp",
        "year",
        "published",
        "published_from",
        "tlp",
        "active",
        "content_hash",
        "collected_at",
        "first_seen",
    ],
    fallback: &[("published", "collected_at"), ("@timestamp", "collected_at")],
    shared: &["tags"],
    derived: DATED,
    derive: Some(published),
    ..Owner::named("malpedia_rss")
};

/// What follows from the dates that both gave.
const DATED: &[&str] = &["published", "published_from", "@timestamp"];

/// The bibliography's date, else the feed's; without either, the store falls back to when it was collected.
fn published(given: &Contributions<'_>) -> Body {
    let by_bibliography = given.text("date").and_then(date::read).map(|(date, _)| midnight(date));
    let by_feed = given.text("feed_published").map(ToOwned::to_owned);
    let from = match (&by_bibliography, &by_feed) {
        (Some(_), _) => "source",
        (None, Some(_)) => given.text("feed_published_from").unwrap_or("source"),
        (None, None) => "collected",
    };
    let at = json!(by_bibliography.or(by_feed));
    let fields = [("published", at.clone()), ("@timestamp", at), ("published_from", json!(from))];
    fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

fn midnight(date: Date) -> String {
    format!("{date}T00:00:00Z")
}

/// Which families and actors a reference is about, by Malpedia's own word.
pub const LINKS: Owner = Owner {
    fields: &["family_ids", "family_names", "actor_ids", "actor_names"],
    ..Owner::named("malpedia_links")
};

/// The document's id: of its address, or of what stands for one.
pub fn id(natural: &str) -> String {
    documents::id(&[NAME, natural])
}

/// What makes an entry the same reference as another: its address in one form, else its key.
pub fn natural(entry: &Entry<'_>) -> String {
    match entry.field("url").map(str::trim).filter(|url| !url.is_empty()) {
        Some(url) => canonical(url),
        None => entry.key.to_owned(),
    }
}

/// An address in one form: https, without fragment, trailing slash and what only tracks the reader; `x.com` is `twitter.com`.
/// What an archive keeps is another reference than the original.
pub fn canonical(address: &str) -> String {
    let address = address.trim();
    if address.len() > PARSED_MAX {
        return address.to_owned();
    }
    let Ok(mut url) = Url::parse(address) else { return address.to_owned() };
    if !matches!(url.scheme(), "http" | "https") {
        return address.to_owned();
    }
    let is_route = url.fragment().is_some_and(|fragment| fragment.starts_with(['!', '/']));
    if !is_route {
        url.set_fragment(None);
    }
    let _ = url.set_scheme("https");
    if matches!(
        url.host_str(),
        Some("x.com" | "www.x.com" | "www.twitter.com" | "mobile.twitter.com")
    ) {
        // It was a host before, and is one after.
        let _ = url.set_host(Some("twitter.com"));
    }
    if url.query().is_some() {
        let pairs = url.query().unwrap_or_default().split('&').filter(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            !name.starts_with("utm_") && !matches!(name, "fbclid" | "gclid")
        });
        let kept = pairs.fold(None, |kept: Option<String>, pair| match kept {
            Some(kept) => Some(kept + "&" + pair),
            None => Some(pair.to_owned()),
        });
        url.set_query(kept.as_deref());
    }
    let mut text = String::from(url);
    if text.ends_with('/') {
        text.pop();
    }
    text
}

/// `tweet`, `code`, `video`, `report` or `blog`, by where it is published.
pub fn kind(is_report: bool, organization: Option<&str>, address: &str) -> &'static str {
    let original = original(address);
    let url = Url::parse(original).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let publisher = organization.unwrap_or_default().to_ascii_lowercase();
    let says = |names: &[&str]| {
        names.iter().any(|name| {
            publisher
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '(']))
        })
    };
    let is_at = |hosts: &[&str]| {
        hosts.iter().any(|known| {
            host.strip_suffix(known).is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
        }) && host.parse::<IpAddr>().is_err()
    };
    let is_pdf = url.as_ref().is_some_and(|url| {
        let path = url.path();
        path.len() > 4
            && path.is_char_boundary(path.len() - 4)
            && path[path.len() - 4..].eq_ignore_ascii_case(".pdf")
    });
    if is_at(&["twitter.com", "x.com"]) || (!is_report && says(&["twitter", "x"])) {
        "tweet"
    } else if is_at(&["youtube.com", "youtu.be", "vimeo.com"]) || says(&["youtube", "vimeo"]) {
        "video"
    } else if is_report || is_pdf {
        "report"
    } else if is_at(&["github.com", "githubusercontent.com", "gitlab.com", "bitbucket.org"])
        || says(&["github", "gitlab", "bitbucket"])
    {
        "code"
    } else {
        "blog"
    }
}

/// What an address of the Wayback Machine is a copy of; any other is itself.
fn original(address: &str) -> &str {
    let Some((_, rest)) = address.split_once("web.archive.org/web/") else { return address };
    rest.find("http").map_or(address, |at| &rest[at..])
}

/// The code that readers filter by, for the languages that were seen; another is kept as it is named.
fn language(name: &str) -> String {
    const CODES: [(&str, &str); 20] = [
        ("english", "en"),
        ("portuguese", "pt"),
        ("spanish", "es"),
        ("german", "de"),
        ("french", "fr"),
        ("italian", "it"),
        ("polish", "pl"),
        ("russian", "ru"),
        ("ukrainian", "uk"),
        ("chinese", "zh"),
        ("japanese", "ja"),
        ("korean", "ko"),
        ("dutch", "nl"),
        ("czech", "cs"),
        ("turkish", "tr"),
        ("arabic", "ar"),
        ("hebrew", "he"),
        ("persian", "fa"),
        ("vietnamese", "vi"),
        ("romanian", "ro"),
    ];
    let lower = name.to_lowercase();
    CODES
        .iter()
        .find(|(known, _)| *known == lower)
        .map_or(lower.clone(), |(_, code)| (*code).to_owned())
}

/// What every document of the library says.
fn common(base: &Url) -> Body {
    let library = format!("{}/library", base.as_str().trim_end_matches('/'));
    let mut fields = Body::new();
    for (name, value) in [
        ("source_family", NAME),
        ("source_type", INDEX),
        ("source_id", "library"),
        ("source_name", FEED_NAME),
        ("source_url", &library),
        ("feed_name", FEED_NAME),
        ("feed_link", &library),
        ("feed_title", FEED_NAME),
        ("feed_description", "References on malware and its actors, collected by Malpedia"),
        ("category", "malware_research"),
        ("tlp", "clear"),
    ] {
        fields.insert(name.to_owned(), json!(value));
    }
    fields.insert("active".to_owned(), json!(true));
    fields
}

fn text_of(value: Option<&str>) -> Option<String> {
    value.map(text::plain).filter(|text| !text.is_empty())
}

/// Cuts texts to their limits, and counts how many it cut.
#[derive(Default)]
struct Shears {
    cut: u64,
}

impl Shears {
    fn cut(&mut self, mut text: String, most: usize) -> String {
        if text.len() > most {
            text.truncate(text.floor_char_boundary(most));
            self.cut += 1;
        }
        text
    }

    fn name(&mut self, text: Option<String>) -> Option<String> {
        text.map(|text| self.cut(text, NAME_MAX))
    }
}

/// The document of an entry, and how many texts and lists were cut; `keys` are those of all entries that are this reference.
pub fn of_entry(
    base: &Url,
    entry: &Entry<'_>,
    keys: &[&str],
    id: String,
    now: Timestamp,
) -> (Write, u64) {
    let mut shears = Shears::default();
    let (dated, raw) = dated(entry);
    let organization = ["organization", "institution", "publisher"]
        .into_iter()
        .find_map(|name| text_of(entry.field(name)));
    let organization = shears.name(organization);
    let link =
        entry.field("url").or(entry.field("howpublished")).map(|url| url.trim().replace('\0', ""));
    let address = link.as_deref().map(|link| shears.cut(canonical(link), ADDRESS_MAX));
    let link = link.map(|link| shears.cut(link, ADDRESS_MAX));
    let (authors, left_out) = entry.field("author").map(text::authors).unwrap_or_default();
    let authors: Vec<String> =
        authors.into_iter().map(|author| shears.cut(author, NAME_MAX)).collect();
    let left_out = left_out + keys.len().saturating_sub(KEYS_MAX);
    shears.cut += left_out as u64;
    let kind_of = kind(
        entry.kind.eq_ignore_ascii_case("techreport") || entry.kind.eq_ignore_ascii_case("report"),
        organization.as_deref(),
        link.as_deref().unwrap_or_default(),
    );
    let language_name = shears.name(text_of(entry.field("language")));
    let published = dated.map(|(date, _)| midnight(date));
    let keys: Vec<String> =
        keys.iter().take(KEYS_MAX).map(|key| shears.cut((*key).to_owned(), NAME_MAX)).collect();
    let title = shears.cut(text_of(entry.field("title")).unwrap_or_default(), TITLE_MAX);

    let mut fields = common(base);
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    set("title", json!(title));
    set("link_canonical", json!(address));
    set("link", json!(link.unwrap_or_default()));
    set("bibtex_key", json!(shears.cut(entry.key.to_owned(), NAME_MAX)));
    set("bibtex_type", json!(shears.cut(entry.kind.to_ascii_lowercase(), NAME_MAX)));
    set("bib_keys", json!(keys));
    set("author", json!(authors.first()));
    set("authors", json!(authors));
    set("organization", json!(organization));
    set("date", json!(shears.name(raw)));
    set("date_precision", json!(dated.map(|(_, precision)| precision.name())));
    set("date_suspect", json!(dated.is_some_and(|(date, _)| is_suspect(date, now))));
    set("kind", json!(kind_of));
    set("language", json!(language_name.as_deref().map(language)));
    set("language_name", json!(language_name));
    set("urldate", json!(shears.name(text_of(entry.field("urldate")))));
    set("published_from", json!(if published.is_some() { "source" } else { "collected" }));
    set("@timestamp", json!(published));
    set("year", json!(published.as_deref().and_then(|published| published.get(..4))));
    set("published", json!(published));
    set("tags", json!(["malpedia", "malware", "research", "academic", "bibtex"]));
    set("collected_at", json!(seconds(now)));
    set("first_seen", json!(seconds(now)));
    (Write::of(id, &OWNER, fields), shears.cut)
}

/// The date of an entry and its text, malformed or not.
fn dated(entry: &Entry<'_>) -> (Option<(Date, Precision)>, Option<String>) {
    if let Some(text) = text_of(entry.field("date")) {
        return (date::read(&text), Some(text));
    }
    let Some(year) = text_of(entry.field("year")) else { return (None, None) };
    let (month, day) = (text_of(entry.field("month")), text_of(entry.field("day")));
    let dated = date::read_parts(&year, month.as_deref(), day.as_deref())
        .or_else(|| date::read_parts(&year, None, None));
    let shown = dated.map(|(date, precision)| match precision {
        Precision::Day => date.to_string(),
        Precision::Month => date.strftime("%Y-%m").to_string(),
        Precision::Year => date.strftime("%Y").to_string(),
    });
    (dated, shown.or(Some(year)))
}

/// Before there was malware, or after tomorrow.
fn is_suspect(date: Date, now: Timestamp) -> bool {
    let tomorrow = now.to_zoned(jiff::tz::TimeZone::UTC).date().tomorrow();
    date.year() < FIRST_YEAR || tomorrow.is_ok_and(|tomorrow| date > tomorrow)
}

/// An item of the feed on its way to the store.
pub struct LatestReference {
    /// Its document, under the id of its address.
    pub write: Write,
    /// Its address in one form.
    pub address: Option<String>,
    /// Its id in the feed, which is the key of the bibliography.
    pub guid: Option<String>,
    /// Texts that were cut.
    pub cut: u64,
}

/// The document of an item of the feed; none where nothing says which reference it is.
pub fn of_item(base: &Url, item: &Item, now: Timestamp) -> Option<LatestReference> {
    let mut shears = Shears::default();
    let trimmed = |text: &Option<String>| {
        text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(ToOwned::to_owned)
    };
    let (link, guid) = (trimmed(&item.link), trimmed(&item.guid));
    let address = link.as_deref().map(canonical);
    let natural = address.clone().or_else(|| guid.clone())?;
    let summary = item.summary_html.as_deref().map(feed::text::html_to_text).unwrap_or_default();
    let summary = summary.split_whitespace().collect::<Vec<_>>().join(" ");
    let published = item.published.or(item.updated).map(seconds);
    let from = match (item.published, item.updated) {
        (Some(_), _) => Some("source"),
        (None, updated) => updated.map(|_| "updated"),
    };
    let id = id(&natural);
    let (link, guid) = (link.map(|link| shears.cut(link, ADDRESS_MAX)), shears.name(guid));
    let address = address.map(|address| shears.cut(address, ADDRESS_MAX));
    let mut fields = common(base);
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    let title = text::plain(item.title.as_deref().unwrap_or_default());
    set("title", json!(shears.cut(title, TITLE_MAX)));
    set("kind", json!(kind(false, None, link.as_deref().unwrap_or_default())));
    set("link", json!(link.unwrap_or_default()));
    set("link_canonical", json!(address));
    let summary = shears.cut(summary, SUMMARY_MAX);
    set("summary", json!((!summary.is_empty()).then_some(summary)));
    set("guid", json!(guid));
    set("published_raw", json!(shears.name(item.published_raw.clone())));
    set("feed_published", json!(published));
    set("feed_published_from", json!(from));
    set("published_from", json!(from.unwrap_or("collected")));
    set("@timestamp", json!(published));
    set("published", json!(published));
    set("tags", json!(["malpedia", "malware", "research", "academic"]));
    set("collected_at", json!(seconds(now)));
    set("first_seen", json!(seconds(now)));
    let write = Write::of(id, &LATEST, fields);
    Some(LatestReference { write, address, guid, cut: shears.cut })
}

#[cfg(test)]
mod tests {
    use stores::documents::{Plan, plan};

    use super::*;
    use crate::bibtex::Reader;

    fn write(text: &str) -> Write {
        let entry = Reader::new(text).next().unwrap().unwrap();
        let base = Url::parse("https://malpedia.test/").unwrap();
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        of_entry(&base, &entry, &[entry.key], id(&natural(&entry)), now).0
    }

    fn document(text: &str) -> Body {
        write(text).parts.remove(0).fields
    }

    /// Whether the second of two entries changes what the first one stored.
    fn changes(one: &str, other: &str) -> bool {
        let Plan::Create(stored) = plan(None, &write(one)) else { panic!("nothing was there") };
        plan(Some(&stored), &write(other)) != Plan::Unchanged
    }

    #[test]
    fn one_reference_has_one_address() {
        for other in [
            "http://e.org/a",
            "https://E.org/a/",
            "https://e.org/a#top",
            " https://e.org/a?utm_source=x ",
            "https://e.org:443/a",
        ] {
            assert_eq!(canonical(other), "https://e.org/a", "{other}");
        }
        assert_eq!(canonical("https://x.com/u/status/1"), "https://twitter.com/u/status/1");
        assert_eq!(canonical("https://e.org/?p=1&utm_medium=y"), "https://e.org/?p=1");
        assert_ne!(canonical("https://e.org/#!/a"), canonical("https://e.org/#!/b"));
        assert_ne!(
            canonical("https://web.archive.org/web/2019/https://e.org/a"),
            canonical("https://e.org/a")
        );
        assert_eq!(canonical("no address"), "no address");
    }

    #[test]
    fn the_kind_is_where_it_is_published() {
        assert_eq!(kind(false, Some("Twitter (@x)"), "https://twitter.com/x/status/1"), "tweet");
        assert_eq!(
            kind(false, None, "https://web.archive.org/web/2020/https://twitter.com/x"),
            "tweet"
        );
        assert_eq!(kind(false, Some("Github (649)"), "https://github.com/649/x"), "code");
        assert_eq!(kind(false, Some("Youtube (x)"), "https://e.org"), "video");
        assert_eq!(kind(false, Some("Medium b.magnezi"), "https://b.github.io/x"), "blog");
        assert_eq!(kind(false, None, "https://github.com/a/b.PDF"), "report");
        assert_eq!(kind(true, Some("FireEye"), "https://e.org/x"), "report");
        assert_eq!(kind(false, Some("X-Force"), "https://netx.com/x"), "blog");
    }

    #[test]
    fn the_check_date_of_an_address_is_no_change() {
        let entry = |urldate: &str| {
            format!(
                "@online{{k, title={{{{T}}}}, date={{2016-09}}, url={{https://e.org}}, urldate={{{urldate}}}}}"
            )
        };
        let one = document(&entry("2020-01-01"));
        assert_eq!(
            (&one["published"], &one["date"], &one["date_precision"]),
            (&json!("2016-09-01T00:00:00Z"), &json!("2016-09"), &json!("month"))
        );
        assert!(!changes(&entry("2020-01-01"), &entry("2026-01-01")));
        assert!(changes(
            &entry("x"),
            "@online{k, title={{U}}, date={2016-09}, url={https://e.org}}"
        ));
    }

    #[test]
    fn a_bad_date_is_kept_and_a_strange_one_marked() {
        let bad = document("@online{k, date={soon}}");
        assert_eq!(
            (&bad["date"], &bad["published"], &bad["published_from"]),
            (&json!("soon"), &Value::Null, &json!("collected"))
        );
        assert_eq!(document("@online{k, date={1900-01-01}}")["date_suspect"], true);
        assert_eq!(document("@online{k, date={2031}}")["date_suspect"], true);
        assert_eq!(document("@misc{k, year=2019, month=jan # \"~7\"}")["date"], "2019-01-07");
        assert_eq!(document("@misc{k, year=2019, month=smarch}")["date"], "2019");
    }
}
