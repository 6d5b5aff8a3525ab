//! What the readers of the predecessor's indices ask, each by name, of every store; and on servers, word for word.
//!
//! Beyond it, what those questions stand on: counting by values and dates, and several indices searched as one.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stores::documents::{
    Aggregation, Counts, Documents, Filter, Index, Owner, Page, Per, Query, Scan, Sort, Write,
    Written,
};

use crate::documents::{Check, Place, block_on, filtered, ids, text};

pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("values_and_dates_are_counted_alike", values_and_dates),
    ("several_indices_are_read_as_one", several_indices),
    ("hostile_text_in_addresses_and_dates_rejects_nothing", hostile_text),
    ("each_reader_of_articles_finds_its_fields", readers_of_articles),
    ("readers_of_families_and_actors_find_theirs", readers_of_families),
];

/// Only servers are asked past the trait.
pub(crate) const SERVER_CHECKS: &[(&str, Check)] =
    &[("what_readers_send_a_server_is_answered", what_readers_send)];

/// Writes whatever these tests store.
const OWNER: Owner = Owner {
    fields: &[
        "@timestamp",
        "actors",
        "aka",
        "authors",
        "bibtex_type",
        "category",
        "content",
        "country",
        "descricao",
        "enriched_at",
        "explicacao",
        "expires_at",
        "familias_relacionadas",
        "feed_name",
        "first_seen",
        "language",
        "link",
        "name",
        "organization",
        "os",
        "published",
        "score",
        "sentiment",
        "source_type",
        "summary",
        "tags",
        "technical_id",
        "threat",
        "title",
        "to_ids",
        "type",
        "update",
        "value",
        "year",
        "yara_rules",
    ],
    insert_only: &["collected_at"],
    ..Owner::named("any")
};

fn index(name: &str) -> &'static Index {
    Index::named(name).expect("it is there")
}

async fn put(store: &dyn Documents, name: &str, documents: &Value) {
    let documents = documents.as_object().expect("documents by id");
    let fields = |fields: &Value| fields.as_object().expect("an object").clone();
    let writes: Vec<Write> =
        documents.iter().map(|(id, one)| Write::of(id, &OWNER, fields(one))).collect();
    let written = store.upsert(index(name), &writes).await.expect("it is written");
    assert!(written.iter().all(|written| *written == Written::New), "{written:?}");
}

async fn found(store: &dyn Documents, name: &str, query: &Query) -> Page {
    store.search(index(name), query).await.unwrap_or_else(|error| panic!("{}", error.chain()))
}

async fn counted(
    store: &dyn Documents,
    name: &str,
    query: &Query,
    aggregation: &Aggregation,
) -> Counts {
    let counts = store.aggregate(index(name), query, aggregation).await;
    counts.unwrap_or_else(|error| panic!("{aggregation:?}: {}", error.chain()))
}

fn values(field: &str, size: u32) -> Aggregation {
    Aggregation::Terms { field: field.to_owned(), size }
}

fn dates(field: &str, per: Per) -> Aggregation {
    Aggregation::Dates { field: field.to_owned(), per }
}

fn terms(field: &str, values: &[&str]) -> Filter {
    Filter::Terms(field.to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
}

fn range(field: &str, from: Option<&str>, to: Option<&str>) -> Filter {
    Filter::Range(field.to_owned(), from.map(Into::into), to.map(Into::into))
}

fn exists(field: &str) -> Filter {
    Filter::Exists(field.to_owned())
}

fn by(field: &str, descending: bool) -> Query {
    Query { sort: Some(Sort::Field { name: field.to_owned(), descending }), ..Query::default() }
}

fn shown(counts: &Counts) -> String {
    let buckets: Vec<String> =
        counts.buckets.iter().map(|bucket| format!("{} {}", bucket.key, bucket.count)).collect();
    let others = if counts.others > 0 { format!(" +{}", counts.others) } else { String::new() };
    format!("{}{others}", buckets.join(", "))
}

fn values_and_dates(place: &mut Place) {
    let long = "x".repeat(300);
    block_on(async {
        let store = place.store().await;
        put(&*store, "rss_articles", &json!({
            "a": {"title": "One", "tags": ["x", "y", "x"], "category": "b", "published": "2025-12-31T23:59:59Z"},
            "b": {"title": "Two", "tags": ["x", ""], "category": "a", "published": "2026-01-01T00:00:00Z"},
            "c": {"title": "Two", "tags": [], "category": "c", "published": "2026-01-01T23:00:00Z"},
            "d": {"title": long, "category": "a", "published": null},
            "e": {"tags": "z", "category": "Ábc", "published": "1969-07-20T20:17:40Z"},
        }))
        .await;
        let all = Query::default();
        let store = &*store;
        let count = async |query: &Query, aggregation: &Aggregation| {
            shown(&counted(store, "rss_articles", query, aggregation).await)
        };
        assert_eq!(count(&all, &values("tags", 10)).await, "x 2,  1, y 1, z 1");
        assert_eq!(count(&all, &values("tags.keyword", 1)).await, "x 2 +3");
        assert_eq!(count(&all, &values("category", 3)).await, "a 2, b 1, c 1 +1");
        assert_eq!(count(&all, &values("title", 10)).await, "Two 2, One 1", "not what is too long");
        assert_eq!(count(&all, &values("revision", 10)).await, "1 5");
        let some = Query { filters: vec![terms("title", &["Two"])], limit: 1, ..text("one two") };
        assert_eq!(count(&some, &values("category", 10)).await, "a 1, c 1");
        assert_eq!(count(&text("nothing"), &values("category", 10)).await, "");
        assert_eq!(
            count(&all, &dates("published", Per::Day)).await,
            "1969-07-20 1, 2025-12-31 1, 2026-01-01 2"
        );
        assert_eq!(
            count(&all, &dates("published", Per::Month)).await,
            "1969-07 1, 2025-12 1, 2026-01 2"
        );
        assert_eq!(count(&all, &dates("published", Per::Year)).await, "1969 1, 2025 1, 2026 2");
        assert_eq!(count(&text("nothing"), &dates("published", Per::Day)).await, "");

        let edges = async |query: &Query| {
            let counts =
                counted(store, "rss_articles", query, &dates("published", Per::Year)).await;
            (counts.first, counts.last)
        };
        assert_eq!(
            edges(&all).await,
            (Some("1969-07-20T20:17:40Z".to_owned()), Some("2026-01-01T23:00:00Z".to_owned()))
        );
        assert_eq!(edges(&text("nothing")).await, (None, None));

        for wrong in [
            values("content", 10),
            values("published", 10),
            values("media", 10),
            values("category", 0),
            values("category", 10_001),
            values("no_such_field", 10),
            dates("category", Per::Day),
        ] {
            let error = store.aggregate(index("rss_articles"), &all, &wrong).await;
            let error = error.expect_err("it is refused");
            assert_eq!(error.class(), base::Class::Config, "{wrong:?}: {}", error.chain());
            assert!(error.hint_text().is_some_and(|hint| !hint.is_empty()), "{wrong:?}");
        }
    });
}

fn several_indices(place: &mut Place) {
    block_on(async {
        let store = place.store().await;
        let store = &*store;
        put(store, "rss_articles", &json!({
            "a": {"title": "A loader", "feed_name": "Feed", "published": "2026-01-02T00:00:00Z"},
            "b": {"title": "Another", "feed_name": "Feed", "published": "2026-01-04T00:00:00Z"},
        }))
        .await;
        put(store, "malpedia_library", &json!({
            "c": {"title": "The loader", "feed_name": "Malpedia Library", "year": "2025", "published": "2025-01-03T00:00:00Z"},
        }))
        .await;
        put(store, "caveiratech_news", &json!({
            "d": {"title": "loader loader", "feed_name": "CaveiraTech", "published": "2026-01-03T00:00:00Z"},
        }))
        .await;
        let name = "minerva-articles";
        let list = async |query: &Query| ids(&found(store, name, query).await).join(" ");
        assert_eq!(list(&Query::default()).await, "b d a c");
        assert_eq!(list(&text("loader -another")).await, "d a c");
        assert_eq!(list(&by("feed_name", false)).await, "d a b c");
        assert_eq!(list(&by("year", true)).await, "c a b d", "two of three have no such field");
        assert_eq!(list(&filtered(terms("year.keyword", &["2025"]))).await, "c");
        let relevant = Query { sort: Some(Sort::Relevance), ..text("loader") };
        assert_eq!(found(store, name, &relevant).await.total, 3);
        let second = Query { offset: 1, limit: 2, ..Query::default() };
        assert_eq!(list(&second).await, "d a");
        let group = index(name);
        assert_eq!(store.count(group, &text("loader")).await.expect("it counts"), 3);
        let feeds = counted(store, name, &Query::default(), &values("feed_name", 10)).await;
        assert_eq!(shown(&feeds), "Feed 2, CaveiraTech 1, Malpedia Library 1");
        let years = counted(store, name, &Query::default(), &dates("published", Per::Year)).await;
        assert_eq!(shown(&years), "2025 1, 2026 3");
        let body = store.get(group, "c").await.expect("it is read").expect("it is there");
        assert_eq!(body["title"], "The loader");
        assert_eq!(store.get(group, "z").await.expect("it is read"), None);
        let all = store
            .scan(group, &Scan { after: Some("a".to_owned()), limit: 10, ..Scan::default() })
            .await
            .expect("it is scanned");
        assert_eq!(all.iter().map(|document| document.id.as_str()).collect::<String>(), "bcd");
        assert_eq!(store.sequence(group).await.expect("it counts"), 4);
        let error = store.upsert(group, &[]).await.expect_err("it is refused");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("rss_articles")));
    });
}

/// The embedded store checks no types; a server ignores what is no address or date, and keeps it in the document.
fn hostile_text(place: &mut Place) {
    block_on(async {
        let store = place.store().await;
        let store = &*store;
        let long = "a".repeat(40_000);
        let indicator = |ip: &str, seen: &str, value: &str| {
            json!({
                "type": "ipv4", "value": value, "first_seen": seen, "expires_at": seen, "tags": [value],
                "to_ids": true, "threat": {"indicator": {"type": "ipv4-addr", "ip": ip, "port": ip}},
            })
        };
        for name in ["cti_misp_iocs", "otx_indicators", "signature_base_iocs"] {
            put(store, name, &json!({
                format!("{name} a"): indicator("192.0.2.1", "2026-01-01T00:00:00Z", "192.0.2.1"),
                format!("{name} b"): indicator("999.0.2.1/'\"", "yesterday\u{202e}", &long),
            }))
            .await;
        }
        put(store, "otx_pulses", &json!({"p": {"name": "PlugX\tthreat", "tags": [long]}})).await;
        let group = "minerva-indicators";
        let exact = filtered(terms("value", &["192.0.2.1"]));
        assert_eq!(found(store, group, &exact).await.total, 3);
        let kept = store.get(index(group), "otx_indicators b").await.expect("it is read");
        assert_eq!(kept.expect("it is there")["threat"]["indicator"]["ip"], "999.0.2.1/'\"");
        let days = counted(store, group, &Query::default(), &dates("first_seen", Per::Day)).await;
        assert_eq!(shown(&days), "2026-01-01 3");
        let meant = counted(store, group, &Query::default(), &values("to_ids", 5)).await;
        assert_eq!(shown(&meant), "true 6");
        assert_eq!(found(store, group, &filtered(terms("to_ids", &["true"]))).await.total, 6);
        let tags = counted(store, group, &Query::default(), &values("tags", 5)).await;
        assert_eq!(shown(&tags), "192.0.2.1 3", "what is too long to be compared is kept");
    });
}

/// Articles of all three indices, as their readers find them.
async fn put_articles(store: &dyn Documents) {
    put(store, "rss_articles", &json!({
        "a1": {
            "title": "Ransomware in hospitals", "summary": "a quiet loader", "tags": ["ransomware", "cti"],
            "feed_name": "Feed of news", "category": "news", "link": "https://news.example/1", "sentiment": "negative",
            "published": "2026-01-01T08:00:00Z", "collected_at": "2026-02-01T00:00:00Z",
        },
        "a2": {
            "title": "Loader returns", "summary": "ransomware again", "content": "long text", "tags": ["cti"],
            "feed_name": "Feed of blogs", "category": "blogs", "link": "https://blogs.example/2",
            "published": "2026-01-02T08:00:00Z", "collected_at": "2026-02-02T00:00:00Z",
        },
    }))
    .await;
    put(store, "malpedia_library", &json!({
        "l1": {
            "title": "Hunting a loader", "summary": "Authors: A", "tags": ["malpedia", "cti"], "source_type": "malpedia_library",
            "feed_name": "Malpedia Library", "category": "malware_research", "year": "2025", "bibtex_type": "online",
            "organization": "Vendor", "enriched_at": "2026-02-03T00:00:00Z",
            "published": "2025-06-01T00:00:00Z", "collected_at": "2026-02-01T00:00:00Z",
        },
        "l2": {
            "title": "An older paper", "tags": ["malpedia"], "source_type": "malpedia_library",
            "feed_name": "Malpedia Library", "category": "malware_research", "year": "2024", "bibtex_type": "article",
            "organization": "Vendor", "published": "2024-01-01T00:00:00Z", "collected_at": "2026-02-01T00:00:00Z",
        },
    }))
    .await;
    put(store, "caveiratech_news", &json!({
        "c1": {
            "title": "Segurança em foco", "summary": "resumo", "tags": ["brasil", "cti"], "feed_name": "CaveiraTech",
            "category": "cybersecurity", "source_type": "crawler", "language": "pt",
            "published": "2026-01-03T00:00:00Z", "collected_at": "2026-02-01T00:00:00Z",
        },
    }))
    .await;
}

fn readers_of_articles(place: &mut Place) {
    block_on(async {
        let store = place.store().await;
        let store = &*store;
        put_articles(store).await;
        let name = "minerva-articles";
        let list = async |query: &Query| ids(&found(store, name, query).await).join(" ");
        let count = async |filters: Vec<Filter>, aggregation: &Aggregation| {
            let query = Query { filters, ..Query::default() };
            shown(&counted(store, name, &query, aggregation).await)
        };

        // The search page: words with title before summary, conditions, three orders, 10,000 at once.
        let relevant = Query { sort: Some(Sort::Relevance), ..text("ransomware") };
        assert_eq!(list(&relevant).await, "a1 a2", "a word in the title counts for more");
        for suffix in ["", ".keyword"] {
            for (field, value, expected) in [
                ("category", "news", "a1"),
                ("feed_name", "Malpedia Library", "l1 l2"),
                ("tags", "cti", "c1 a2 a1 l1"),
            ] {
                let filter = terms(&format!("{field}{suffix}"), &[value, "no such"]);
                assert_eq!(list(&filtered(filter)).await, expected, "{field}{suffix}");
            }
        }
        assert_eq!(list(&filtered(terms("sentiment", &["negative"]))).await, "a1");
        let january =
            range("published", Some("2026-01-01T00:00:00Z"), Some("2026-02-01T00:00:00Z"));
        assert_eq!(list(&filtered(january.clone())).await, "c1 a2 a1");
        assert_eq!(list(&by("published", false)).await, "l2 l1 a1 a2 c1");
        assert_eq!(list(&by("collected_at", true)).await, "a2 a1 c1 l1 l2");
        assert_eq!(list(&by("title", false)).await, "l2 l1 a2 a1 c1");
        let most = Query { limit: Query::LIMIT_MAX, ..Query::default() };
        assert_eq!(found(store, name, &most).await.documents.len(), 5);
        assert_eq!(
            count(vec![], &values("category.keyword", 20)).await,
            "malware_research 2, blogs 1, cybersecurity 1, news 1"
        );
        assert_eq!(
            count(vec![], &values("feed_name.keyword", 50)).await,
            "Malpedia Library 2, CaveiraTech 1, Feed of blogs 1, Feed of news 1"
        );
        assert_eq!(count(vec![], &values("tags.keyword", 2)).await, "cti 4, malpedia 2 +2");
        assert_eq!(
            count(vec![january], &dates("published", Per::Day)).await,
            "2026-01-01 1, 2026-01-02 1, 2026-01-03 1"
        );

        // The MCP server: fields without `.keyword`, `created_at`, and how many have an `article_id`.
        assert_eq!(
            list(&filtered(range("created_at", Some("2026-02-02T00:00:00Z"), None))).await,
            "a2"
        );
        assert_eq!(count(vec![], &values("feed_name", 1)).await, "Malpedia Library 2 +3");
        let numbered = filtered(exists("article_id"));
        assert_eq!(store.count(index(name), &numbered).await.expect("it counts"), 5);
        assert_eq!(list(&filtered(terms("article_id", &["l2"]))).await, "l2");

        // Statistics of the library: years, kinds, organisations, the first and the last.
        let library = || vec![terms("source_type", &["malpedia_library"])];
        assert_eq!(count(library(), &values("year.keyword", 20)).await, "2024 1, 2025 1");
        assert_eq!(
            count(library(), &values("bibtex_type.keyword", 20)).await,
            "article 1, online 1"
        );
        assert_eq!(count(library(), &values("organization.keyword", 20)).await, "Vendor 2");
        assert_eq!(count(library(), &dates("published", Per::Year)).await, "2024 1, 2025 1");

        // CaveiraTech: the first and the last, by month.
        let caveira =
            Query { filters: vec![terms("feed_name", &["CaveiraTech"])], ..Query::default() };
        let months = counted(store, name, &caveira, &dates("published", Per::Month)).await;
        assert_eq!(shown(&months), "2026-01 1");
        assert_eq!(
            (months.first.as_deref(), months.first == months.last),
            (Some("2026-01-03T00:00:00Z"), true)
        );

        // The language model: what it has seen.
        let seen = Query {
            filters: vec![terms("feed_name", &["Malpedia Library"]), exists("enriched_at")],
            ..by("published", true)
        };
        assert_eq!(list(&seen).await, "l1");
    });
}

fn readers_of_families(place: &mut Place) {
    block_on(async {
        let store = place.store().await;
        put(&*store, "malpedia_families", &json!({
            "f1": {
                "name": "QuietHeron", "technical_id": "win.quiet_heron", "os": "Windows", "aka": ["QHeron", "Grey Bird"], "actors": ["PAPER FALCON"],
                "descricao": "Loader that waits", "update": "2024-03-09T00:00:00Z", "yara_rules": [{"nome": "q", "conteudo": "rule q { condition: false }"}],
            },
            "f2": {"name": "Loader", "technical_id": "elf.loader", "os": "Linux", "aka": null, "update": ""},
        }))
        .await;
        put(&*store, "malpedia_actors", &json!({
            "x": {"name": "PAPER FALCON", "country": "XX", "aka": ["PF-1", "G9999"], "explicacao": "Group that flies", "familias_relacionadas": ["win.quiet_heron"]},
            "y": {"name": "ALPHA", "explicacao": "Another", "aka": "Falcon"},
        }))
        .await;
        let store = &*store;
        let list =
            async |name: &str, query: &Query| ids(&found(store, name, query).await).join(" ");
        let relevant = |words: &str| Query { sort: Some(Sort::Relevance), ..text(words) };
        assert_eq!(
            list("malpedia_families", &relevant("loader")).await,
            "f2 f1",
            "a name counts for more"
        );
        assert_eq!(
            list("malpedia_families", &text("bird")).await,
            "f1",
            "another name is searched"
        );
        assert_eq!(list("malpedia_families", &by("name.keyword", false)).await, "f2 f1");
        assert_eq!(
            list("malpedia_families", &filtered(terms("name.keyword", &["QuietHeron"]))).await,
            "f1"
        );
        assert_eq!(
            list("malpedia_families", &filtered(terms("os.keyword", &["Linux"]))).await,
            "f2"
        );
        assert_eq!(
            list("malpedia_families", &filtered(terms("actors", &["PAPER FALCON"]))).await,
            "f1"
        );
        let systems =
            counted(store, "malpedia_families", &Query::default(), &values("os.keyword", 20)).await;
        assert_eq!(shown(&systems), "Linux 1, Windows 1");
        assert_eq!(list("malpedia_actors", &text("falcon")).await, "x y");
        assert_eq!(list("malpedia_actors", &by("name.keyword", false)).await, "y x");
        assert_eq!(list("malpedia_actors", &filtered(terms("aka.keyword", &["G9999"]))).await, "x");
        let related = filtered(terms("familias_relacionadas.keyword", &["win.quiet_heron"]));
        assert_eq!(list("malpedia_actors", &related).await, "x");
        let countries =
            counted(store, "malpedia_actors", &Query::default(), &values("country", 20)).await;
        assert_eq!(shown(&countries), "XX 1");
    });
}

/// The bodies that readers send a server themselves, over the alias of all articles and the Malpedia indices.
fn what_readers_send(place: &mut Place) {
    block_on(async {
        let store = place.store().await;
        put_articles(&*store).await;
        put(&*store, "malpedia_families", &json!({
            "f1": {"name": "QuietHeron", "os": "Windows", "aka": ["QHeron"], "descricao": "Loader", "yara_rules": [{"nome": "q", "conteudo": "rule q"}]},
        }))
        .await;
        put(&*store, "malpedia_actors", &json!({
            "x": {"name": "PAPER FALCON", "aka": ["PF-1"], "familias_relacionadas": ["win.quiet_heron"], "country": "XX"},
        }))
        .await;
        for name in ["minerva-articles", "malpedia_families", "malpedia_actors"] {
            // A count makes what was written visible.
            store.count(index(name), &Query::default()).await.expect("it counts");
        }
    });
    let ask = |name: &str, body: &Value| {
        let said = place.ask("POST", &format!("/{}/_search", place.named(name)), body);
        assert!(said["error"].is_null() && said["_shards"]["failed"] == 0, "{body}: {said}");
        said
    };
    let found = |name: &str, body: &Value| {
        let said = ask(name, body);
        let hits = said["hits"]["hits"].as_array().expect("hits").clone();
        hits.iter()
            .map(|hit| hit["_id"].as_str().expect("an id").to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let aggregated = |said: &Value| {
        let aggregations = said["aggregations"].as_object().expect("they were asked for");
        aggregations
            .iter()
            .map(|(name, said)| {
                let size = said["buckets"].as_array().map(|buckets| json!(buckets.len()));
                (name.clone(), size.unwrap_or_else(|| said["value"].clone()))
            })
            .collect::<BTreeMap<_, _>>()
    };
    let words = |typed: &str| {
        json!({
            "query": {"bool": {"must": [{"simple_query_string": {
                "query": typed, "fields": ["title^3", "summary^2", "feed_description", "content", "tags"],
                "default_operator": "or", "analyze_wildcard": true, "flags": "ALL",
            }}]}},
            "sort": [{"_score": "desc"}, {"published": {"order": "desc"}}],
        })
    };
    let articles = "minerva-articles";
    assert_eq!(found(articles, &words("ransomware")), "a1 a2");
    assert_eq!(found(articles, &words("ransomwere~1")), "a1 a2", "fuzzy");
    assert_eq!(found(articles, &words("hosp*")), "a1", "the beginning of a word");
    assert_eq!(found(articles, &words("\"loader returns\" | foco")), "a2 c1");
    assert_eq!(found(articles, &words("loader + -returns")), "l1 a1");
    let wild = json!({"query": {"wildcard": {"title.keyword": {"value": "*loader*", "case_insensitive": true}}}, "sort": [{"published": "desc"}]});
    assert_eq!(found(articles, &wild), "a2 l1");
    let fuzzy = json!({"query": {"multi_match": {"query": "ransomwere", "fields": ["title^3", "summary^2"], "fuzziness": "AUTO"}}});
    assert_eq!(found(articles, &fuzzy), "a1 a2");

    // `POST /api/v1/rss/articles/search`
    let said = ask(
        articles,
        &json!({
            "query": {"bool": {"must": [{"match_all": {}}], "filter": [
                {"terms": {"category": ["news", "blogs", "cybersecurity"]}},
                {"range": {"published": {"gte": "2026-01-01", "lte": "2026-12-31T23:59:59"}}},
            ]}},
            "from": 0, "size": 10_000, "sort": [{"collected_at": {"order": "desc"}}], "track_total_hits": true,
            "aggs": {
                "categories": {"terms": {"field": "category.keyword", "size": 20}},
                "sources": {"terms": {"field": "feed_name.keyword", "size": 50}},
                "tags": {"terms": {"field": "tags.keyword", "size": 30}},
                "timeline": {"date_histogram": {"field": "published", "calendar_interval": "day", "format": "yyyy-MM-dd"}},
            },
        }),
    );
    assert_eq!(said["hits"]["total"]["value"], 3);
    let expected = [("categories", 3), ("sources", 3), ("tags", 3), ("timeline", 3)];
    assert_eq!(
        aggregated(&said),
        expected.map(|(name, count)| (name.to_owned(), json!(count))).into()
    );
    for hit in said["hits"]["hits"].as_array().expect("hits") {
        for field in ["title", "published", "feed_name", "category", "collected_at"] {
            assert!(hit["_source"][field].is_string(), "readers need `{field}`: {hit}");
        }
    }

    // The MCP server's statistics, and those of the library.
    let said = ask(
        articles,
        &json!({
            "size": 0,
            "query": {"range": {"created_at": {"gte": "2026-01-01"}}},
            "aggs": {
                "total": {"value_count": {"field": "article_id"}},
                "categories": {"terms": {"field": "category", "size": 50}},
                "feeds": {"terms": {"field": "feed_name", "size": 50, "order": {"_key": "asc"}}},
                "tags": {"terms": {"field": "tags", "size": 50}},
                "hashes": {"value_count": {"field": "content_hash"}},
                "oldest": {"min": {"field": "published"}},
                "newest": {"max": {"field": "published"}},
                "span": {"stats": {"field": "published"}},
                "years": {"terms": {"field": "year.keyword", "size": 200}},
                "by_year": {"date_histogram": {"field": "published", "calendar_interval": "year"}},
                "kinds": {"terms": {"field": "bibtex_type.keyword"}},
                "organizations": {"terms": {"field": "organization.keyword", "size": 20}},
            },
        }),
    );
    let counts = aggregated(&said);
    for (name, expected) in [
        ("total", json!(5)),
        ("categories", json!(4)),
        ("feeds", json!(4)),
        ("tags", json!(4)),
        ("years", json!(2)),
        ("by_year", json!(3)),
        ("kinds", json!(2)),
        ("organizations", json!(1)),
    ] {
        let is = counts[name].as_f64();
        assert_eq!(is, expected.as_f64(), "{name}: {said}");
    }
    assert_eq!(said["aggregations"]["span"]["count"], 5);

    // The language model's page, and what it has done.
    let pipeline = json!({
        "query": {"bool": {"must": [{"term": {"feed_name": "Malpedia Library"}}], "must_not": [{"exists": {"field": "enriched_at"}}]}},
        "sort": [{"published": {"order": "desc"}}], "from": 0, "size": 50,
    });
    assert_eq!(found(articles, &pipeline), "l2");

    // `GET /api/v1/cti/actors` and `/families`
    let actors = json!({
        "query": {"multi_match": {"query": "falcon", "fields": ["name^2", "aka", "explicacao"], "fuzziness": "AUTO"}},
        "sort": [{"name.keyword": "asc"}], "_source": ["name", "aka", "explicacao", "familias_relacionadas", "url", "referencias"],
    });
    assert_eq!(found("malpedia_actors", &actors), "x");
    assert_eq!(
        found("malpedia_actors", &json!({"query": {"term": {"name.keyword": "PAPER FALCON"}}})),
        "x"
    );
    let related = json!({"query": {"term": {"familias_relacionadas.keyword": "win.quiet_heron"}}});
    assert_eq!(found("malpedia_actors", &related), "x");
    let said = ask(
        "malpedia_families",
        &json!({
            "query": {"bool": {"must": [{"multi_match": {"query": "qheron", "fields": ["name^2", "aka", "descricao"]}}], "filter": [{"term": {"os.keyword": "Windows"}}]}},
            "_source": {"excludes": ["yara_rules.conteudo"]},
            "aggs": {"os": {"terms": {"field": "os.keyword", "size": 50}}},
        }),
    );
    assert_eq!(said["hits"]["hits"][0]["_source"]["yara_rules"], json!([{"nome": "q"}]));
    assert_eq!(aggregated(&said), [("os".to_owned(), json!(1))].into());
}
