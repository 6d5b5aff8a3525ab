//! Two writers in one document: what the RSS family and an enrichment may and may not do to each other.
//!
//! The enrichment here is a small one of the tests' own, with fields that a language model will fill one day.

use std::sync::Arc;

use feed::{Entry, Head, Kind};
use jiff::Timestamp;
use rss::sources::Source;
use rss::{article, sources};
use serde_json::json;

use crate::documents::block_on;
use stores::documents::{
    DocumentReader as _, Documents as _, Embedded, Index, Owner, Write, Written,
};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("an_enrichment_survives_every_collect", an_enrichment_survives_every_collect),
    ("either_may_come_first", either_may_come_first),
    ("two_at_once_lose_nothing", two_at_once_lose_nothing),
];

const ENRICHMENT: Owner = Owner {
    fields: &["enriched_summary", "enriched_at", "actors_mentioned", "families_mentioned"],
    unhashed: &["enriched_at"],
    shared: &["tags"],
    ..Owner::named("enrichment")
};

async fn store() -> (tempfile::TempDir, Arc<Embedded>, &'static Index) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Embedded::open(folder.path()).await.expect("a store");
    (folder, Arc::new(store), Index::named(sources::INDEX).expect("it is there"))
}

/// The article as RSS writes it, with this title and these tags.
fn collected(title: &str, tags: &[&str]) -> Write {
    let source = Source {
        id: "a".to_owned(),
        name: "A".to_owned(),
        url: "https://example.org/feed".parse().expect("a URL"),
        language: Some("en".to_owned()),
        category: "news".to_owned(),
        enabled: true,
    };
    let head = Head {
        kind: Kind::Rss,
        version: "2.0".to_owned(),
        title: None,
        description: None,
        link: None,
        language: None,
        encoding: "utf-8",
        repairs: Vec::new(),
    };
    let entry = Entry {
        guid: Some("1".to_owned()),
        title: Some(title.to_owned()),
        categories: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..Entry::default()
    };
    article::write(&source, &head, &entry, Timestamp::UNIX_EPOCH)
}

/// The same article as the enrichment writes it.
fn enriched(summary: &str, tags: &[&str]) -> Write {
    let fields =
        json!({"enriched_summary": summary, "enriched_at": "2026-01-01T00:00:00Z", "tags": tags});
    Write::of(collected("", &[]).id, &ENRICHMENT, fields.as_object().expect("an object").clone())
}

async fn write(store: &Embedded, index: &'static Index, write: Write) -> Written {
    store.upsert(index, &[write]).await.expect("it is written").remove(0)
}

fn an_enrichment_survives_every_collect() {
    block_on(async {
        let (_folder, store, index) = store().await;
        let id = collected("", &[]).id;
        assert_eq!(write(&store, index, collected("one", &["apt", "old"])).await, Written::New);
        assert_eq!(
            write(&store, index, enriched("s", &["apt", "ransomware"])).await,
            Written::Changed
        );
        assert_eq!(
            write(&store, index, collected("one", &["apt", "old"])).await,
            Written::Unchanged
        );
        assert_eq!(
            write(&store, index, enriched("s", &["apt", "ransomware"])).await,
            Written::Unchanged
        );

        // Upstream edits the title and takes a tag back; the enrichment's own tag and summary stay.
        assert_eq!(write(&store, index, collected("two", &["apt"])).await, Written::Changed);
        let body = store.get(index, &id).await.expect("it is read").expect("it is there");
        assert_eq!((&body["title"], &body["enriched_summary"]), (&json!("two"), &json!("s")));
        assert_eq!(body["tags"], json!(["apt", "ransomware"]));

        // Each takes back what it gave: nothing lingers.
        write(&store, index, enriched("s", &[])).await;
        write(&store, index, collected("two", &[])).await;
        let body = store.get(index, &id).await.expect("it is read").expect("it is there");
        assert_eq!(body["tags"], json!([]));
    });
}

fn either_may_come_first() {
    block_on(async {
        let mut ends = Vec::new();
        for order in [[0, 1], [1, 0]] {
            let (_folder, store, index) = store().await;
            for writer in order {
                match writer {
                    0 => write(&store, index, collected("one", &["x"])).await,
                    _ => write(&store, index, enriched("s", &["y"])).await,
                };
            }
            ends.push(store.get(index, &collected("", &[]).id).await.expect("it is read"));
        }
        assert_eq!(ends[0], ends[1]);
        assert_eq!(ends[0].as_ref().expect("it is there")["published"], "1970-01-01T00:00:00Z");
    });
}

fn two_at_once_lose_nothing() {
    const ROUNDS: usize = 500;
    block_on(async {
        let (folder, store, index) = store().await;
        // A second store on the same file stands for a second process.
        let other = Arc::new(Embedded::open(folder.path()).await.expect("a second one"));
        let collect = tokio::spawn({
            let store = Arc::clone(&store);
            async move {
                for round in 0..ROUNDS {
                    let tag = format!("rss-{round}");
                    write(&store, index, collected(&format!("title {round}"), &["both", &tag]))
                        .await;
                }
            }
        });
        let enrich = tokio::spawn(async move {
            for round in 0..ROUNDS {
                let tag = format!("enrichment-{round}");
                write(&other, index, enriched(&format!("summary {round}"), &["both", &tag])).await;
            }
        });
        collect.await.expect("no panic");
        enrich.await.expect("no panic");
        let body = store
            .get(index, &collected("", &[]).id)
            .await
            .expect("it is read")
            .expect("it is there");
        assert_eq!(
            (&body["title"], &body["enriched_summary"]),
            (&json!("title 499"), &json!("summary 499"))
        );
        assert_eq!(body["tags"], json!(["both", "enrichment-499", "rss-499"]));
        assert_eq!(body["revision"], json!(2 * ROUNDS), "each write was counted");
    });
}
