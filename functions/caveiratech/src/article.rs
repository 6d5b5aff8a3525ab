//! A post as the document that `caveiratech_news` holds, in the fields that the predecessor's readers ask for.

use base::date::seconds;
use indicator::InArticle;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stores::documents::{self, Body, Owner, Write};
use url::Url;

use crate::listing::Teaser;
use crate::post::Post;
use crate::settings::{FEED, NAME, SOURCE};

/// The index of the posts.
pub const INDEX: &str = "caveiratech_news";

/// A post dated further in the future than this is marked.
const FUTURE: SignedDuration = SignedDuration::from_hours(48);

/// Letters of the text that stand for a summary where there is none.
const SUMMARY_BYTES: usize = 1_000;

/// What the predecessor says of the feed in each article, and its tags.
const FEED_TITLE: &str = "CaveiraTech";
const FEED_DESCRIPTION: &str = "Notícias de cibersegurança do Brasil";
const TAGS: [&str; 4] = ["ciberseguranca", "hacking", "tecnologia", "brasil"];

/// What the family writes into an article.
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
        "post_id",
        "slug",
        "author",
        "authors",
        "summary",
        "content",
        "references",
        "cves",
        "iocs",
        "@timestamp",
        "published",
        "published_from",
        "published_in_future",
        "updated",
        "last_seen",
        "tlp",
        "active",
        "content_hash",
    ],
    unhashed: &["published_in_future", "content_hash", "@timestamp", "last_seen"],
    insert_only: &["id", "collected_at", "first_seen"],
    fallback: &[("published", "collected_at"), ("@timestamp", "collected_at")],
    shared: &["tags"],
    ..Owner::named(NAME)
};

/// The document's id: that of the post's digits, so that a slug that changes is the same post.
pub fn id(post: u64) -> String {
    documents::id(&[NAME, &post.to_string()])
}

/// The document of a post. What its own page says goes before what a list says, so that it is the same however it was found;
/// without a page it is what the list says.
pub fn write(teaser: &Teaser, post: Option<&Post>, home: &Url, now: Timestamp) -> Write {
    let none = Post::default();
    let post = post.unwrap_or(&none);
    let first = |own: &str, listed: &str| match own.is_empty() {
        true => listed.to_owned(),
        false => own.to_owned(),
    };
    let title = first(&post.title, &teaser.title);
    let mut summary = first(&post.summary, &teaser.summary);
    if summary.is_empty() {
        summary = post.content[..post.content.floor_char_boundary(SUMMARY_BYTES)].to_owned();
    }
    let found = InArticle::of(&[&title, &summary, &post.content, &post.tooltips]);
    let published = post.published.or(teaser.date).map(|when| when.at);
    let link = teaser.link.as_str();
    let slug = teaser.link.path().rsplit('/').next().unwrap_or_default();
    let home = base::address::masked(home);

    let mut fields = Body::new();
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    set("id", json!(id(teaser.id)));
    set("source_family", json!(NAME));
    set("source_type", json!("crawler"));
    set("source_id", json!(SOURCE));
    set("source_name", json!(FEED));
    set("source_url", json!(home));
    set("feed_name", json!(FEED));
    set("feed_url", json!(home));
    set("feed_link", json!(home));
    set("feed_title", json!(FEED_TITLE));
    set("feed_description", json!(FEED_DESCRIPTION));
    set("category", json!("cybersecurity"));
    set("language", json!("pt"));
    set("title", json!(title));
    set("link", json!(link));
    set("link_canonical", json!(link));
    set("post_id", json!(teaser.id.to_string()));
    set("slug", json!(slug));
    set("author", json!(post.authors.first()));
    set("authors", json!(post.authors));
    set("summary", json!(summary));
    set("content", if post.content.is_empty() { Value::Null } else { json!(post.content) });
    set("references", json!(post.references));
    set("cves", json!(found.cves));
    set("iocs", found.iocs());
    set("tags", json!(TAGS));
    set("published", json!(published.map(seconds)));
    set("@timestamp", json!(published.map(seconds)));
    set("published_from", json!(if published.is_some() { "source" } else { "collected" }));
    let is_ahead = published.is_some_and(|date| date.duration_since(now) > FUTURE);
    set("published_in_future", json!(is_ahead));
    set("updated", json!(post.updated.map(seconds)));
    set("last_seen", json!(post.updated.max(published).map(seconds)));
    set("tlp", json!("clear"));
    set("active", json!(true));
    set("collected_at", json!(seconds(now)));
    set("first_seen", json!(seconds(now)));
    Write::of(id(teaser.id), &OWNER, fields)
}
