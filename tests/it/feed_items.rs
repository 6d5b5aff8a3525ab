//! Which document an item of a feed is, in whole runs by the real runner: none is lost to another, and none doubles.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use feed::{Entry, Hints};
use jiff::Timestamp;
use rss::article;
use rss::identity::{canonical_link, id_of_link};
use rss::sources::{INDEX, Source};
use serde_json::{Value, json};
use stores::documents::{Documents as _, Embedded, Index, Write};

use crate::home::{ALL, Home, Upstream};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("items_with_one_id_are_documents_of_their_own", items_with_one_id_are_documents_of_their_own),
    ("equal_items_are_one_document", equal_items_are_one_document),
    (
        "a_shared_id_is_remembered_and_no_known_item_doubles",
        a_shared_id_is_remembered_and_no_known_item_doubles,
    ),
    (
        "items_of_earlier_versions_are_found_under_their_ids",
        items_of_earlier_versions_are_found_under_their_ids,
    ),
    ("what_was_last_edited_serves_as_published", what_was_last_edited_serves_as_published),
    (
        "an_address_with_secrets_is_asked_as_it_is_and_stored_without_them",
        an_address_with_secrets_is_asked_as_it_is_and_stored_without_them,
    ),
];

fn rss(items: &str) -> String {
    format!("<rss version='2.0'><channel><title>T</title>{items}</channel></rss>")
}

fn item(guid: &str, title: &str, link: &str) -> String {
    let element = |name: &str, text: &str| match text {
        "" => String::new(),
        text => format!("<{name}>{text}</{name}>"),
    };
    format!(
        "<item>{}{}{}</item>",
        element("guid", guid),
        element("title", title),
        element("link", link)
    )
}

fn titles(home: &Home) -> Vec<String> {
    let mut titles: Vec<String> = home
        .articles()
        .iter()
        .map(|article| article["title"].as_str().unwrap().to_owned())
        .collect();
    titles.sort();
    titles
}

fn new_and_changed(report: &Value) -> [u64; 2] {
    ["new", "changed"].map(|name| report[name].as_u64().unwrap())
}

fn items_with_one_id_are_documents_of_their_own() {
    let page = "https://a.example/";
    let of = |texts: [&str; 3], make: &dyn Fn(usize, &str) -> String| -> String {
        texts.iter().enumerate().map(|(place, text)| make(place, text)).collect()
    };
    let three = ["one", "two", "three"];
    let feeds: Vec<(&str, String)> = vec![
        ("guid", of(three, &|_, text| item("N/A", text, &format!("{page}{text}")))),
        ("guid-and-title", of(three, &|_, text| item("0", "Advisory", &format!("{page}{text}")))),
        ("guid-and-link", of(three, &|_, text| item("null", text, page))),
        ("guid-without-link", of(three, &|_, text| item("-", text, ""))),
        ("link", of(three, &|_, text| item("", text, page))),
        ("fragment", of(three, &|_, text| item("", "Release", &format!("{page}log#{text}")))),
        ("ref", of(three, &|_, text| item("", "Release", &format!("{page}log?ref={text}")))),
        (
            "enclosure",
            of(three, &|_, text| {
                format!(
                    "<item><title>Daily</title><pubDate>Sun, 01 Mar 2026 08:00:00 GMT</pubDate><enclosure url='{page}{text}.mp3'/></item>"
                )
            }),
        ),
        (
            "text",
            of(three, &|_, text| {
                format!("<item><title>Daily</title><description>{text}</description></item>")
            }),
        ),
        (
            "only-text",
            of(three, &|_, text| format!("<item><description>{text}</description></item>")),
        ),
    ];
    let upstream = Upstream::start(4);
    let sources: Vec<(&str, String)> =
        feeds.iter().map(|(id, items)| (*id, upstream.body(id, rss(items)))).collect();
    let home = Home::of(&sources);
    let report = home.report(&[ALL]);
    let articles = home.articles();
    for (id, _) in &feeds {
        let stored = articles.iter().filter(|article| article["source_id"] == **id).count();
        assert_eq!(stored, 3, "{id}: {report}");
    }
    let source = report["sources"].as_array().unwrap().iter().find(|of| of["source"] == "guid");
    let notes = source.unwrap()["notes"].to_string();
    assert!(notes.contains("the id `N/A` is that of 3 items"), "{notes}");
    assert_eq!(new_and_changed(&home.report(&[ALL])), [0, 0], "the second run wrote");
}

fn equal_items_are_one_document() {
    let link = "https://a.example/1";
    let tracked = format!("{link}?utm_source=feed");
    let items = [
        item("g", "one", link),
        item("g", "one", link),
        item("g", "one", &tracked),
        item("", "two", link),
        item("", "two", &tracked),
        item("", "three", ""),
        item("", "three", ""),
    ];
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", rss(&items.concat())))]);
    let report = home.report(&[ALL]);
    assert_eq!((&report["new"], &report["merged"]), (&json!(3), &json!(4)), "{report}");
    assert_eq!(titles(&home), ["one", "three", "two"]);
}

fn a_shared_id_is_remembered_and_no_known_item_doubles() {
    let of = |names: &[&str]| {
        let items =
            names.iter().map(|name| item("N/A", name, &format!("https://a.example/{name}")));
        rss(&items.collect::<String>())
    };
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", of(&["one"])))]);
    home.report(&[ALL]);
    let first = home.articles()[0]["id"].clone();
    // What was stored under the id before it turned out to be shared stays in its document.
    for (fetched, counts, stored) in [
        (vec!["two", "one"], [1, 0], vec!["one", "two"]),
        (vec!["two", "one"], [0, 0], vec!["one", "two"]),
        (vec!["three", "two"], [1, 0], vec!["one", "three", "two"]),
        // Alone in its feed it is the one that it was, and a new one takes no other's place.
        (vec!["three"], [0, 0], vec!["one", "three", "two"]),
        (vec!["four"], [1, 0], vec!["four", "one", "three", "two"]),
        (vec!["one"], [0, 0], vec!["four", "one", "three", "two"]),
    ] {
        upstream.body("a", of(&fetched));
        let report = home.report(&[ALL]);
        assert_eq!(new_and_changed(&report), counts, "{fetched:?}: {report}");
        assert_eq!(titles(&home), stored, "{fetched:?}");
    }
    let articles = home.articles();
    let one = articles.iter().find(|article| article["title"] == "one").unwrap();
    assert_eq!(one["id"], first);
    // An edited title is the same item as long as its link tells.
    upstream.body(
        "a",
        rss(&[
            item("N/A", "five", "https://a.example/5"),
            item("N/A", "uno", "https://a.example/one"),
        ]
        .concat()),
    );
    assert_eq!(new_and_changed(&home.report(&[ALL])), [1, 1]);
    assert_eq!(titles(&home), ["five", "four", "three", "two", "uno"]);
}

/// Articles of a feed as the version before stored them: a link without its fragment and `ref` was an id, and of several
/// items with one id the first was stored.
fn store_as_before(home: &Home, source: &Source, body: &str) {
    let mut reader =
        feed::open(body.as_bytes(), &Hints { content_type: None, url: source.url.as_str() })
            .unwrap();
    let mut writes: Vec<Write> = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        for entry in &chunk.entries {
            let id = match entry {
                Entry { guid: Some(guid), .. } => stores::documents::id(&["rss", &source.id, guid]),
                Entry { link: Some(link), .. } => id_of_link(source, &canonical_link(link)),
                _ => article::write(source, reader.head(), entry, Timestamp::UNIX_EPOCH).id,
            };
            if writes.iter().all(|write| write.id != id) {
                let mut write = article::write(source, reader.head(), entry, Timestamp::UNIX_EPOCH);
                write.parts[0].fields.insert("id".to_owned(), json!(id));
                write.id = id;
                writes.push(write);
            }
        }
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Embedded::open(&home.path("data")).await.unwrap();
        store.upsert(Index::named(INDEX).unwrap(), &writes).await.unwrap();
    });
}

fn items_of_earlier_versions_are_found_under_their_ids() {
    let log = "https://a.example/log";
    let fragments = |names: &[&str]| -> String {
        names.iter().map(|name| item("", name, &format!("{log}#{name}"))).collect()
    };
    for (stored, fetched, counts) in [
        // One item of three was stored, the others are new.
        (fragments(&["v3", "v2", "v1"]), fragments(&["v4", "v3", "v2", "v1"]), [3, 0]),
        (fragments(&["v1"]), fragments(&["v1"]), [0, 0]),
        (
            item("", "One", &format!("{log}?ref=feed")),
            item("", "Edited", &format!("{log}?ref=feed")),
            [0, 1],
        ),
        (item("", "One", log), item("", "One", log), [0, 0]),
        (item("g", "One", log), item("g", "Edited", &format!("{log}/moved")), [0, 1]),
        (
            item("N/A", "One", "https://a.example/1") + &item("N/A", "Two", "https://a.example/2"),
            item("N/A", "Two", "https://a.example/2") + &item("N/A", "One", "https://a.example/1"),
            [1, 0],
        ),
        (
            item("N/A", "One", "https://a.example/1") + &item("N/A", "Two", "https://a.example/2"),
            item("N/A", "Two", "https://a.example/2")
                + &item("N/A", "Edited", "https://a.example/1"),
            [1, 1],
        ),
        (
            item("", "One", log) + &item("", "Two", log),
            item("", "Two", log) + &item("", "One", log),
            [1, 0],
        ),
    ] {
        let upstream = Upstream::start(1);
        let url = upstream.body("a", rss(&fetched));
        let home = Home::of(&[("a", url.clone())]);
        let source = Source {
            id: "a".to_owned(),
            name: "Source a".to_owned(),
            url: url.parse().unwrap(),
            language: None,
            category: "news".to_owned(),
            enabled: true,
        };
        store_as_before(&home, &source, &rss(&stored));
        let report = home.report(&[ALL]);
        assert_eq!(new_and_changed(&report), counts, "{stored} then {fetched}: {report}");
        assert_eq!(new_and_changed(&home.report(&[ALL])), [0, 0], "{stored} then {fetched}, again");
    }
}

fn what_was_last_edited_serves_as_published() {
    let date = "2024-05-02T09:00:00Z";
    let written = "Thu, 02 May 2024 09:00:00 GMT";
    let feeds = [
        (
            "atom",
            format!(
                "<feed xmlns='http://www.w3.org/2005/Atom'><entry><id>1</id><updated>{date}</updated></entry></feed>"
            ),
        ),
        (
            "json",
            format!(
                r#"{{"version":"https://jsonfeed.org/version/1.1","items":[{{"id":"1","date_modified":"{date}"}}]}}"#
            ),
        ),
        (
            "atom-in-rss",
            rss(&format!("<item><guid>1</guid><atom:updated>{date}</atom:updated></item>")),
        ),
        (
            "terms",
            rss(&format!("<item><guid>1</guid><dcterms:modified>{date}</dcterms:modified></item>")),
        ),
        (
            "cdf",
            format!(
                "<CHANNEL HREF='http://a.example/'><ITEM HREF='http://a.example/1' LASTMOD='{date}'><TITLE>x</TITLE></ITEM></CHANNEL>"
            ),
        ),
        (
            "malformed",
            rss(&format!(
                "<item><guid>1</guid><pubDate>mar. 20 nov. 2024</pubDate><atom:updated>{date}</atom:updated></item>"
            )),
        ),
        ("source", rss(&format!("<item><guid>1</guid><pubDate>{written}</pubDate></item>"))),
        (
            "none",
            rss("<item><guid>1</guid><pubDate>Mon, 01 Jan 0001 00:00:00 +0000</pubDate></item>"),
        ),
    ];
    let upstream = Upstream::start(4);
    let sources: Vec<(&str, String)> =
        feeds.iter().map(|(id, body)| (*id, upstream.body(id, body.clone()))).collect();
    let home = Home::of(&sources);
    home.report(&[ALL]);
    let articles = home.articles();
    for (id, _) in &feeds {
        let article = articles.iter().find(|article| article["source_id"] == **id).unwrap();
        let (published, from) = match *id {
            "source" => (date, "source"),
            "none" => (crate::home::CLOCK, "collected"),
            _ => (date, "updated"),
        };
        assert_eq!(
            (&article["published"], &article["published_from"]),
            (&json!(published), &json!(from)),
            "{id}"
        );
        let raw = match *id {
            "malformed" => json!("mar. 20 nov. 2024"),
            "none" => json!("Mon, 01 Jan 0001 00:00:00 +0000"),
            _ => Value::Null,
        };
        assert_eq!(article["published_raw"], raw, "{id}");
    }
}

fn an_address_with_secrets_is_asked_as_it_is_and_stored_without_them() {
    let upstream = Upstream::start(1);
    let url = upstream.body(
        "feed?key=hunter2&page=1",
        rss("<link>/home</link><item><title>x</title><link>/1</link></item><item><title>y</title><link>#y</link></item>"),
    );
    let home = Home::of(&[("a", url.replace("http://", "http://someone:hunter3@"))]);
    let report = home.report(&[ALL]);
    assert_eq!(report["new"], 2, "{report}");
    let documents = home.documents();
    assert!(!documents.contains("hunter") && !documents.contains("someone"), "{documents}");
    let article = &home.articles()[0];
    let shown = url.replace("http://", "http://***@").replace("hunter2", "***");
    assert_eq!((&article["feed_url"], &article["source_url"]), (&json!(shown), &json!(shown)));
}
