//! Whole indices moved, on each kind of server: the predecessor's become ours, ours are built anew; queries before and
//! after, writers meanwhile, interruptions, documents that are refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stores::documents::{DocumentReader as _, Documents, Identify, Index, Moves, Query, Written};
use tests::services::search::call;
use tokio::sync::Notify;

use crate::documents::{Check, Place, article, articles, block_on};
use crate::home::{ALL, Home, Upstream, feed};
use crate::servers::{address, batch, changed, elastic};

pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("an_adopted_index_answers_as_before", an_adopted_index_answers_as_before),
    ("an_adopted_article_meets_its_feed_and_stays_enriched", an_adopted_article_meets_its_feed),
    ("any_index_is_adopted_whole_and_under_another_name", any_index_is_adopted_whole),
    ("an_adoption_goes_on_after_an_interruption", an_adoption_goes_on),
    ("the_command_is_interrupted_and_killed_and_goes_on", the_command_is_interrupted),
    ("an_adoption_into_an_index_in_use_loses_neither", an_adoption_into_an_index_in_use),
    ("an_alias_over_several_indices_is_adopted_as_one", an_alias_over_several_indices),
    ("what_cannot_be_adopted_is_left_alone", what_cannot_be_adopted),
    ("an_index_is_built_anew_while_tasks_write", an_index_is_built_anew),
    ("a_rebuild_goes_on_after_an_interruption", a_rebuild_goes_on),
    ("a_rebuild_stops_at_a_refused_document", a_rebuild_stops_at_a_refused_document),
    ("a_rebuild_takes_all_aliases_along", a_rebuild_takes_all_aliases_along),
];

/// Documents of the predecessor's index.
const COUNT: usize = 700;

fn moves(place: &Place) -> Moves {
    Moves::open(&place.stores).expect("its settings are right")
}

fn silent(_what: &str, _done: u64, _total: u64) {}

/// Writes documents as the predecessor does: by bulk `create`, into an index that nobody made.
pub(crate) fn fill(place: &Place, index: &str, documents: &[Value]) {
    let mut lines = String::new();
    for document in documents {
        lines += &format!("{}\n{document}\n", json!({"create": {"_id": document["content_hash"]}}));
    }
    let said = call(
        &address(place),
        "POST",
        &format!("/{index}/_bulk?refresh=true&filter_path=errors,items.*.error"),
        &lines,
    );
    let said = said.expect("the server answers").body;
    assert_eq!(said["errors"], false, "{said}");
}

/// Articles as the predecessor stored them, odd ones among them.
fn old_articles() -> Vec<Value> {
    let old = |number: usize| {
        let mut document = json!({
            "title": format!("Ransomware report {number} on exploits"),
            "link": format!("https://blog{}.example/{number}", number % 7),
            "summary": format!("<p>A summary of number {number}: phishing, loader{}</p>", number % 3),
            "published": format!("2025-{:02}-{:02}T08:00:00+00:00", 1 + number % 11, 1 + number % 28),
            "collected_at": "2025-12-01T10:00:00.123456",
            "feed_name": format!("Blog {}", number % 7), "feed_link": format!("https://blog{}.example", number % 7),
            "feed_description": "News of security", "category": format!("category {}", number % 3),
            "source_type": "rss_feed", "tags": [format!("tag{}", number % 5), "cti"],
            "content_hash": format!("{number:032x}"), "sentiment": null,
        });
        document["@timestamp"] = document["published"].clone();
        match number % 50 {
            1 => document["published"] = Value::Null,
            2 => {
                document.as_object_mut().expect("an object").remove("published");
            }
            3 => document["tags"] = json!("alone"),
            4 => document["summary"] = json!("Segurança da informação 🔒 ".repeat(4_000)),
            5 => document["language"] = json!("x".repeat(40_000)),
            6 => document["category"] = json!(["two", "categories"]),
            7 => document["article_id"] = json!("older"),
            8 => document["created_at"] = json!("2025-01-01T00:00:00"),
            9 => document["id"] = json!(number),
            10 => document["link"] = json!("https://blog1.example/shared"),
            11 => {
                document["enriched_at"] = json!("2025-12-02T00:00:00Z");
                document["enriched_summary"] = json!(format!("What number {number} says"));
                document["actors_mentioned"] = json!(["APT 1"]);
                document["families_mentioned"] = json!(["win.emotet"]);
            }
            12 => document["link"] = Value::Null,
            13 => document["entities"] = json!({"deep": {"er": [1, 2]}, "x": {"y": [{"z": 2.5}]}}),
            14 => document["title"] = json!("\u{0}\u{202e}<script>'\";--"),
            _ => {}
        }
        document
    };
    (0..COUNT).map(old).collect()
}

/// What the predecessor's readers ask of the articles.
fn queries() -> Vec<Value> {
    let words = |text: &str| {
        json!({"simple_query_string": {
            "query": text, "fields": ["title^3", "summary^2", "feed_description"], "default_operator": "or",
        }})
    };
    let aggregations = json!({
        "categories": {"terms": {"field": "category.keyword", "size": 20}},
        "feeds": {"terms": {"field": "feed_name.keyword", "size": 50}},
        "tags": {"terms": {"field": "tags.keyword", "size": 30}},
        "days": {"date_histogram": {"field": "published", "calendar_interval": "day", "min_doc_count": 1}},
    });
    let found = [
        json!({"match_all": {}}),
        words("ransomware"),
        words("loader1 report"),
        words("loade* nothing"),
        words("ransomwara~1"),
        words("\"report 17\""),
        words("segurança"),
        json!({"bool": {"must": [words("phishing")], "filter": [
            {"terms": {"category.keyword": ["category 1", "two"]}}, {"terms": {"feed_name.keyword": ["Blog 1", "Blog 2"]}},
            {"range": {"published": {"gte": "2025-03-01", "lte": "2025-09-30"}}},
        ]}}),
        json!({"terms": {"tags.keyword": ["tag2", "alone"]}}),
        json!({"range": {"collected_at": {"gte": "2025-12-01T00:00:00Z"}}}),
        json!({"bool": {"filter": [{"exists": {"field": "enriched_at"}}, {"term": {"feed_name.keyword": "Blog 3"}}]}}),
        json!({"bool": {"must_not": [{"exists": {"field": "published"}}]}}),
        json!({"term": {"source_type": "rss_feed"}}),
    ];
    let ask = |query: &Value| {
        json!({
            "query": query, "size": 1000, "track_total_hits": true, "aggs": aggregations,
            "sort": [{"published": {"order": "desc"}}], "_source": ["content_hash", "published"],
        })
    };
    found.iter().map(ask).collect()
}

/// What a query finds: the documents by what the predecessor called them, the dates in their order, the buckets.
fn answer(place: &Place, index: &str, query: &Value) -> Value {
    let said = place.ask("POST", &format!("/{index}/_search"), query);
    let hits = said["hits"]["hits"].as_array().unwrap_or_else(|| panic!("{query}: {said}"));
    let mut found: Vec<&Value> = hits.iter().map(|hit| &hit["_source"]["content_hash"]).collect();
    found.sort_by_key(|hash| hash.as_str());
    let dates: Vec<&Value> = hits.iter().map(|hit| &hit["_source"]["published"]).collect();
    let buckets = |name: &str| said["aggregations"][name]["buckets"].clone();
    let names = ["categories", "feeds", "tags", "days"];
    json!([found, dates, names.map(buckets)])
}

fn answers(place: &Place, index: &str) -> Vec<Value> {
    queries().iter().map(|query| answer(place, index, query)).collect()
}

/// Every document of an index by its id.
pub(crate) fn everything(place: &Place, index: &str) -> BTreeMap<String, Value> {
    place.ask("POST", &format!("/{index}/_refresh"), &Value::Null);
    let said = place.ask("POST", &format!("/{index}/_search"), &json!({"size": 10_000}));
    let hits = said["hits"]["hits"].as_array().unwrap_or_else(|| panic!("{said}"));
    let id = |hit: &Value| hit["_id"].as_str().expect("an id").to_owned();
    hits.iter().map(|hit| (id(hit), hit["_source"].clone())).collect()
}

/// The physical indices behind a name.
fn behind(place: &Place, name: &str) -> Vec<String> {
    let said = place.ask("GET", &format!("/{name}"), &Value::Null);
    said.as_object()
        .expect("an answer")
        .keys()
        .filter(|key| *key != "error" && *key != "status")
        .cloned()
        .collect()
}

/// Ids by link, as a family would tell them.
fn by_link() -> Identify {
    Box::new(|body| Some(format!("link {}", body.get("link")?.as_str()?)))
}

fn an_adopted_index_answers_as_before(place: &mut Place) {
    let name = place.named("rss_articles");
    let old = old_articles();
    fill(place, &name, &old);
    let before = answers(place, &name);
    assert!(before[0][0].as_array().is_some_and(|all| all.len() == COUNT));
    assert!(before.iter().all(|answer| answer[0] != json!([])), "each query finds something");
    let identify = by_link();
    let done = block_on(async {
        moves(place).adopt(articles(), &name, Some(&identify), &[], false, &silent).await
    })
    .unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!(
        (done.state, done.documents, done.written, done.removed),
        ("adopted", 700, 700, true)
    );
    // Fourteen have no link, fourteen share one.
    assert_eq!((done.renamed, done.kept_id, done.met), (673, 27, 0));
    assert_eq!((done.dates_unread, done.set_aside), (0, 14 * 2));
    assert_eq!(behind(place, &name), [place.named("rss_articles-v1")]);
    assert_eq!(behind(place, &place.named("minerva-articles")), [place.named("rss_articles-v1")]);
    for ((query, before), after) in queries().iter().zip(before).zip(answers(place, &name)) {
        assert_eq!(after, before, "{query}");
    }
    // Nothing of any document is lost.
    let ours: BTreeMap<String, Value> = everything(place, &name)
        .into_iter()
        .map(|(id, body)| {
            assert_eq!(body["id"], id);
            (body["content_hash"].as_str().expect("a hash").to_owned(), body)
        })
        .collect();
    for document in &old {
        let body = &ours[document["content_hash"].as_str().expect("a hash")];
        for (field, value) in document.as_object().expect("an object") {
            let kept = if field == "id" { None } else { body.get(field) };
            let raw = || body["owners"]["adopted"]["raw"].get(field);
            assert_eq!(kept.or_else(raw), Some(value), "{field} of {body}");
        }
    }
    block_on(async {
        let store = elastic(place);
        let all = store.count(articles(), &Query::default()).await.expect("ours can be used");
        assert_eq!(all, 700);
        let again = moves(place).adopt(articles(), &name, None, &[], false, &silent).await;
        assert_eq!(again.expect("there is nothing to do").state, "ours");
    });
}

/// By the commands, as a person would: adopt, collect, collect again.
fn an_adopted_article_meets_its_feed(place: &mut Place) {
    let upstream = Upstream::start(1);
    let items = [
        ("one", "One, edited", Some("Sun, 01 Mar 2026 08:00:00 GMT")),
        ("two", "Two", Some("Sat, 28 Feb 2026 08:00:00 GMT")),
        ("new", "New", Some("Sun, 01 Mar 2026 09:00:00 GMT")),
    ];
    let home = Home::of(&[("a", upstream.body("a", feed(&items)))])
        .with("ES_URL", address(place).as_str())
        .with("ES_INDEX_PREFIX", &place.stores.es_index_prefix);
    let old = |hash: &str, link: &str, title: &str, published: &str| {
        json!({
            "content_hash": hash, "link": format!("https://example.org/{link}"), "title": title, "published": published,
            "collected_at": "2026-03-01T10:00:00", "feed_name": "Source A", "category": "news", "tags": ["kept"],
            "source_type": "rss_feed", "enriched_at": "2026-03-01T11:00:00", "enriched_summary": format!("About {title}"),
            "actors_mentioned": ["APT 1"], "families_mentioned": ["win.emotet"], "descricao": "em português",
        })
    };
    let name = place.named("rss_articles");
    fill(
        place,
        &name,
        &[
            old("1", "one", "One", "2026-03-01T08:00:00+00:00"),
            old("2", "two", "Two", "2025-01-01T00:00:00+00:00"),
            old("3", "gone", "No longer in the feed", "2025-01-01T00:00:00+00:00"),
        ],
    );
    // Ours will not write into it before that.
    assert!(home.run(&["run", ALL]).ends_with(2).out.contains("local-runner adopt"));
    let done = home.run(&["adopt", &name, "--json"]).ends_with(0).json();
    assert_eq!(
        (&done["state"], &done["renamed"], &done["removed"]),
        (&json!("adopted"), &json!(3), &json!(true))
    );
    let report = home.report(&[ALL]);
    assert_eq!((&report["new"], &report["changed"]), (&json!(1), &json!(2)), "{report}");
    let all = home.articles();
    assert_eq!(all.len(), 4, "nothing stands twice");
    for (title, guid) in [("One, edited", "one"), ("Two", "two")] {
        let met = all.iter().find(|body| body["guid"] == guid).unwrap_or_else(|| panic!("{all:?}"));
        assert_eq!((&met["title"], &met["source_id"]), (&json!(title), &json!("a")));
        assert!(
            met["enriched_summary"].as_str().is_some_and(|text| text.starts_with("About ")),
            "{met}"
        );
        assert_eq!(
            (&met["actors_mentioned"], &met["families_mentioned"]),
            (&json!(["APT 1"]), &json!(["win.emotet"]))
        );
        assert_eq!((&met["tags"], &met["descricao"]), (&json!(["kept"]), &json!("em português")));
        assert_eq!(met["collected_at"], "2026-03-01T10:00:00");
    }
    let again = home.report(&[ALL]);
    assert_eq!((&again["unchanged"], &again["found"]), (&json!(3), &json!(3)), "{again}");
    assert_eq!(home.articles(), all);
    assert!(home.run(&["adopt", &name]).ends_with(0).out.contains("nothing to do"));
    let fits = home.run(&["reindex", "--all", "--json"]).ends_with(0).json();
    let indices = fits["indices"].as_array().expect("a list");
    let articles = indices.iter().find(|index| index["index"] == "rss_articles");
    assert_eq!(articles.expect("it is listed")["state"], "fits");
    home.run(&["adopt", "no-such-index", "--as", "rss_articles"])
        .ends_with(2)
        .says(&["`no-such-index`"]);
    home.run(&["adopt", "no-such-index"]).ends_with(2).says(&["--as"]);
    home.run(&["reindex"]).ends_with(2).says(&["--all"]);
}

/// Families: fields of their own, dates as mails write them, an index that is kept under the name it has.
fn any_index_is_adopted_whole(place: &mut Place) {
    let index = Index::named("malpedia_families").expect("it is there");
    let families: Vec<Value> = (0..30)
        .map(|number| {
            let update = ["Tue, 10 Mar 2026 09:00:00 +0100", "2026-03-10", "soon"][number % 3];
            json!({
                "content_hash": format!("win.family{number}"), "name": format!("Family {number}"), "os": "Windows",
                "aka": null, "descricao": "Carregador que baixa", "update": update,
                "referencias": [{"desc": "Report", "url": null}],
                "yara_rules": [{"nome": "win_auto", "url": "https://malpedia.example", "conteudo": "rule a { condition: false }"}],
            })
        })
        .collect();
    let name = place.named("old-families");
    // Else the server would guess from the first document that all are dates.
    place.ask("PUT", &format!("/{name}"), &json!({"mappings": {"date_detection": false}}));
    fill(place, &name, &families);
    block_on(async {
        let done = moves(place).adopt(index, &name, None, &[], true, &silent).await;
        let done = done.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!((done.documents, done.kept_id, done.removed), (30, 30, false));
        assert_eq!((done.dates_repaired, done.dates_unread), (10, 10));
    });
    let ours = everything(place, &place.named("malpedia_families"));
    assert_eq!((ours.len(), everything(place, &name).len()), (30, 30));
    let repaired = &ours["win.family0"];
    assert_eq!(
        (&repaired["update"], &repaired["yara_rules"]),
        (&json!("2026-03-10T08:00:00Z"), &families[0]["yara_rules"])
    );
    assert_eq!(ours["win.family2"]["owners"]["adopted"]["raw"]["update"], "soon");
    let windows = json!({"query": {"term": {"os.keyword": "Windows"}}});
    let said =
        place.ask("POST", &format!("/{}/_search", place.named("malpedia_families")), &windows);
    assert_eq!(said["hits"]["total"]["value"], 30);
    // What is kept takes writes as before.
    fill(place, &name, &[json!({"content_hash": "later", "name": "Later"})]);
    block_on(async {
        let done = moves(place).adopt(index, &name, None, &[], false, &silent).await;
        let done = done.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!((done.documents, done.written, done.removed), (31, 1, true));
    });
    // Who still asks by the old name is answered by ours.
    assert_eq!(behind(place, &name), [place.named("malpedia_families-v1")]);
    assert_eq!(everything(place, &name).len(), 31);
}

/// Lets work run until its progress passes this many documents of this step, and drops it there, as a kill would.
async fn cut_short<T>(
    what: &'static str,
    at: u64,
    work: impl AsyncFnOnce(stores::documents::Progress<'_>) -> T,
) {
    let stop = Notify::new();
    let tell = |step: &str, done: u64, _total: u64| {
        if step == what && done >= at {
            stop.notify_one();
        }
    };
    tokio::select! {
        biased;
        () = stop.notified() => {}
        _ = work(&tell) => panic!("it ended before it was cut short"),
    }
}

fn an_adoption_goes_on(place: &mut Place) {
    let name = place.named("rss_articles");
    fill(place, &name, &old_articles());
    let identify = by_link();
    block_on(async {
        for (step, at) in [("adopting", 400), ("comparing", 200)] {
            let before = answers(place, &name);
            let moves = moves(place);
            cut_short(step, at, async |tell| {
                moves.adopt(articles(), &name, Some(&identify), &[], false, tell).await
            })
            .await;
            assert_eq!(
                behind(place, &name),
                std::slice::from_ref(&name),
                "the old one is in place"
            );
            assert_eq!(answers(place, &name), before);
            moves.release().await;
            let late = json!({"content_hash": format!("late {step}"), "title": "late", "link": format!("late {step}")});
            fill(place, &name, &[late]);
            let path = format!("/{name}/_update/{:032x}?refresh=true", 20);
            place.ask(
                "POST",
                &path,
                &json!({"doc": {"enriched_summary": format!("after {step}")}}),
            );
        }
        let done =
            moves(place).adopt(articles(), &name, Some(&identify), &[], false, &silent).await;
        let done = done.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!((done.documents, done.renamed, done.kept_id), (702, 675, 27));
        assert_eq!(done.written, 2, "the rest was there");
    });
    let all = everything(place, &name);
    assert_eq!(all.len(), 702);
    let since: Vec<&Value> = all
        .values()
        .map(|body| &body["enriched_summary"])
        .filter(|text| **text == "after comparing")
        .collect();
    assert_eq!(since.len(), 1, "what was added between two tries is there");
}

/// The real process, ended in the middle by a person and by force.
fn the_command_is_interrupted(place: &mut Place) {
    const MANY: usize = 6_000;
    let home = Home::of(&[])
        .with("ES_URL", address(place).as_str())
        .with("ES_INDEX_PREFIX", &place.stores.es_index_prefix);
    let name = place.named("rss_articles");
    let old = |number: usize| json!({"content_hash": format!("{number:06}"), "title": format!("Number {number}")});
    for part in (0..MANY).map(old).collect::<Vec<_>>().chunks(2_000) {
        fill(place, &name, part);
    }
    let count =
        |name: &str| place.ask("GET", &format!("/{name}/_count"), &Value::Null)["count"].clone();
    for is_killed in [false, true] {
        let mut running = home.spawn(&["adopt", &name]);
        let mut lines = running.errors();
        assert!(lines.any(|line| line.contains("adopting")), "it tells how far it is");
        if is_killed {
            running.kill();
        } else {
            running.interrupt();
        }
        let ended = running.ended_within(Duration::from_secs(60)).expect("it ends");
        assert_eq!(ended.code(), if is_killed { None } else { Some(1) });
        assert_eq!(behind(place, &name), std::slice::from_ref(&name), "the old one is in place");
        assert_eq!(count(&name), MANY);
        if !is_killed {
            fill(
                place,
                &name,
                &[json!({"content_hash": "late", "title": "It takes writes again"})],
            );
            place.ask("DELETE", &format!("/{name}/_doc/late?refresh=true"), &Value::Null);
        }
    }
    let done = home.run(&["adopt", &name, "--json"]).ends_with(0).json();
    assert_eq!((&done["documents"], &done["kept_id"]), (&json!(MANY), &json!(MANY)));
    assert!(done["written"].as_u64().is_some_and(|written| written < MANY as u64), "{done}");
    assert_eq!(behind(place, &name), [place.named("rss_articles-v1")]);
    assert_eq!(count(&name), MANY);
}

fn an_adoption_into_an_index_in_use(place: &mut Place) {
    let name = place.named("rss-articles");
    fill(
        place,
        &name,
        &[
            json!({"content_hash": "1", "link": "a", "title": "old a", "enriched_summary": "s", "tags": ["old"]}),
            json!({"content_hash": "2", "link": "b", "title": "old b"}),
        ],
    );
    block_on(async {
        let write = article("link a", "new a", "news", "2026-01-01T00:00:00Z");
        elastic(place)
            .upsert(articles(), std::slice::from_ref(&write))
            .await
            .expect("it is written");
        let identify = by_link();
        let done =
            moves(place).adopt(articles(), &name, Some(&identify), &[], false, &silent).await;
        let done = done.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!((done.documents, done.renamed, done.met), (2, 2, 1));
        let all = everything(place, &place.named("rss_articles"));
        assert_eq!(all.len(), 2);
        let met = &all["link a"];
        assert_eq!((&met["title"], &met["enriched_summary"]), (&json!("new a"), &json!("s")));
        assert_eq!(met["tags"], json!(["old", "news", "cti"]));
        let again = elastic(place).upsert(articles(), &[write]).await.expect("it is written");
        assert_eq!(again, [Written::Unchanged]);
    });
}

/// The predecessor's administrators could make it roll over; its alias may even have the name of ours.
fn an_alias_over_several_indices(place: &mut Place) {
    let name = place.named("rss_articles");
    let rolled = [place.named("rss_articles-000001"), place.named("rss_articles-000002")];
    for (number, index) in rolled.iter().enumerate() {
        fill(place, index, &[json!({"content_hash": format!("{number}"), "title": "x"})]);
        let alias = json!({"actions": [{"add": {"index": index, "alias": name}}]});
        place.ask("POST", "/_aliases", &alias);
    }
    block_on(async {
        let error = elastic(place).ensure(articles()).await.expect_err("it is not ours");
        assert_eq!(error.class(), base::Class::Config);
        let done = moves(place).adopt(articles(), &name, None, &[], false, &silent).await;
        let done = done.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!((done.from, done.documents), (rolled.to_vec(), 2));
        elastic(place).ensure(articles()).await.expect("it is ours");
    });
    assert_eq!(behind(place, &place.named("*")), [place.named("rss_articles-v1")]);
    assert_eq!(everything(place, &name).len(), 2);
}

fn what_cannot_be_adopted(place: &mut Place) {
    let name = place.named("rss_articles");
    fill(
        place,
        &name,
        &[json!({"content_hash": "1", "iocs": "none", "media": 1, "enriched_at": "2026-01-01"})],
    );
    let other = place.named("other");
    fill(place, &other, &[json!({"content_hash": "1", "title": "x"})]);
    block_on(async {
        let error = moves(place)
            .adopt(articles(), &name, None, &[], true, &silent)
            .await
            .expect_err("one name");
        assert!(error.hint_text().unwrap_or_default().contains("--keep"), "{}", error.chain());
        let error = moves(place)
            .adopt(articles(), &other, None, &[], false, &silent)
            .await
            .expect_err("in the way");
        assert!(
            error.hint_text().unwrap_or_default().contains("adopt that one first"),
            "{}",
            error.chain()
        );
        // A mapping that no document fits.
        let strict = changed(|mapping| mapping["properties"]["media"] = json!({"type": "ip"}));
        let error = moves(place)
            .adopt(strict, &name, None, &[], false, &silent)
            .await
            .expect_err("it is refused");
        assert!(
            error.chain().contains("`1`") && error.chain().contains("media"),
            "{}",
            error.chain()
        );
    });
    assert_eq!(behind(place, &name), std::slice::from_ref(&name));
    // Open to writers again, and adopted once the mapping is right.
    fill(place, &name, &[json!({"content_hash": "2"})]);
    block_on(async {
        let done = moves(place).adopt(articles(), &name, None, &[], false, &silent).await;
        assert_eq!(done.unwrap_or_else(|error| panic!("{}", error.chain())).documents, 2);
    });
}

/// The articles' index as a version before had it.
fn earlier() -> &'static Index {
    changed(|mapping| mapping["properties"]["category"] = json!({"type": "text"}))
}

fn an_index_is_built_anew(place: &mut Place) {
    let earlier = earlier();
    block_on(async {
        elastic(place).upsert(earlier, &batch(1_500)).await.expect("it is written");
        let error = elastic(place).ensure(articles()).await.expect_err("its type is another");
        assert!(
            error.hint_text().unwrap_or_default().contains("local-runner reindex rss_articles")
        );
        let dry = moves(place).reindex(articles(), false, true, &silent).await.expect("it looks");
        assert_eq!((dry.state, dry.documents), ("needed", 1_500));
        assert_eq!(behind(place, &place.named("rss_articles")), [place.named("rss_articles-v1")]);

        let (store, ended) = (elastic(place), Arc::new(AtomicBool::new(false)));
        let ends = Arc::clone(&ended);
        let writer = tokio::spawn(async move {
            let (mut rounds, mut refused) = (0, 0);
            while !ends.load(Ordering::SeqCst) {
                let new = article(&format!("new {rounds}"), "new", "news", "2026-01-01T00:00:00Z");
                let edited =
                    article("00007", &format!("edited {rounds}"), "news", "2026-01-01T00:00:00Z");
                match store.upsert(earlier, &[new, edited]).await {
                    Ok(written) => {
                        assert!(written.iter().all(|one| one.refusal().is_none()), "{written:?}");
                        rounds += 1;
                    }
                    Err(error) => {
                        assert!(error.class().is_retried(), "{}", error.chain());
                        assert!(
                            error.hint_text().unwrap_or_default().contains("reindex"),
                            "{}",
                            error.chain()
                        );
                        refused += 1;
                    }
                }
            }
            (rounds, refused)
        });
        let done = moves(place).reindex(articles(), true, false, &silent).await;
        let done = done.unwrap_or_else(|error| panic!("{}", error.chain()));
        ended.store(true, Ordering::SeqCst);
        let (rounds, refused) = writer.await.expect("no panic");
        assert!(rounds > 0 && done.closed_ms > 0, "{rounds} {refused} {done:?}");
        assert_eq!((done.state, &done.dropped), ("rebuilt", &vec![place.named("rss_articles-v1")]));
        assert_eq!(behind(place, &place.named("*")), [place.named("rss_articles-v2")]);
        let store = elastic(place);
        store.ensure(articles()).await.expect("it fits now");
        assert_eq!(
            store.count(articles(), &Query::default()).await.expect("it counts"),
            1_500 + rounds
        );
        let edited =
            store.get(articles(), "00007").await.expect("it is read").expect("it is there");
        assert_eq!(edited["title"], format!("edited {}", rounds - 1));
        let same = store.upsert(articles(), &batch(7)).await.expect("it is written");
        assert_eq!(same, vec![Written::Unchanged; 7]);
        let again =
            moves(place).reindex(articles(), false, false, &silent).await.expect("it looks");
        assert_eq!(again.state, "fits");
    });
}

fn a_rebuild_goes_on(place: &mut Place) {
    let earlier = earlier();
    block_on(async {
        elastic(place).upsert(earlier, &batch(1_000)).await.expect("it is written");
        let before = everything(place, &place.named("rss_articles"));
        for (step, at) in [("copying", 400), ("comparing", 200)] {
            let moves = moves(place);
            cut_short(step, at, async |tell| moves.reindex(articles(), false, false, tell).await)
                .await;
            assert_eq!(
                behind(place, &place.named("rss_articles")),
                [place.named("rss_articles-v1")]
            );
            assert_eq!(everything(place, &place.named("rss_articles")), before);
        }
        // Killed while it was closed: tasks are told, and the next try ends it.
        let write = [article("00001", "edited", "news", "2026-01-01T00:00:00Z")];
        let error = elastic(place).upsert(earlier, &write).await.expect_err("it is closed");
        assert!(error.hint_text().unwrap_or_default().contains("reindex"), "{}", error.chain());
        // One was taken away since.
        let v1 = place.named("rss_articles-v1");
        place.ask("PUT", &format!("/{v1}/_settings"), &json!({"index.blocks.write": null}));
        place.ask("DELETE", &format!("/{v1}/_doc/00000"), &Value::Null);
        let done = moves(place).reindex(articles(), false, false, &silent).await;
        let done = done.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!((done.state, done.written, done.documents), ("rebuilt", 0, 999));
        let mut expected = before;
        expected.remove("00000");
        assert_eq!(everything(place, &place.named("rss_articles")), expected);
        assert_eq!(behind(place, &v1), std::slice::from_ref(&v1), "it is kept");
        elastic(place).upsert(articles(), &write).await.expect("ours is open");
        let dropped =
            moves(place).reindex(articles(), true, false, &silent).await.expect("it looks");
        assert_eq!((dropped.state, dropped.dropped), ("fits", vec![v1]));
    });
}

fn a_rebuild_stops_at_a_refused_document(place: &mut Place) {
    let earlier = earlier();
    block_on(async {
        elastic(place).upsert(earlier, &batch(300)).await.expect("it is written");
        let numbers =
            changed(|mapping| mapping["properties"]["title"] = json!({"type": "integer"}));
        let error = moves(place)
            .reindex(numbers, false, false, &silent)
            .await
            .expect_err("`x` is no number");
        let told = error.chain();
        assert!(told.contains("300 documents are refused") && told.contains("`00000`"), "{told}");
        assert!(told.contains("title"), "{told}");
        assert_eq!(behind(place, &place.named("rss_articles")), [place.named("rss_articles-v1")]);
        let write = [article("00001", "edited", "news", "2026-01-01T00:00:00Z")];
        elastic(place).upsert(earlier, &write).await.expect("it is open as before");
        // What was begun with another mapping is begun anew.
        let done = moves(place).reindex(articles(), false, false, &silent).await;
        assert_eq!(done.unwrap_or_else(|error| panic!("{}", error.chain())).state, "rebuilt");
        elastic(place).ensure(articles()).await.expect("it fits");
    });
}

fn a_rebuild_takes_all_aliases_along(place: &mut Place) {
    let earlier = earlier();
    block_on(async {
        elastic(place).upsert(earlier, &batch(10)).await.expect("it is written");
        let (v1, v2) = (place.named("rss_articles-v1"), place.named("rss_articles-v2"));
        let news = json!({"actions": [{"add": {"index": v1, "alias": place.named("of-news"), "filter": {"term": {"title": "x"}}}}]});
        place.ask("POST", "/_aliases", &news);
        // An index of a stranger where the copy should go.
        place.ask("PUT", &format!("/{v2}"), &json!({}));
        let error =
            moves(place).reindex(articles(), false, false, &silent).await.expect_err("in the way");
        assert!(error.chain().contains("there is an index of that name"), "{}", error.chain());
        place.ask("DELETE", &format!("/{v2}"), &Value::Null);
        moves(place).reindex(articles(), false, false, &silent).await.expect("it is rebuilt");
        for alias in ["rss_articles", "minerva-articles", "of-news"] {
            assert_eq!(behind(place, &place.named(alias)), std::slice::from_ref(&v2), "{alias}");
        }
        let said =
            place.ask("GET", &format!("/{v2}/_alias/{}", place.named("of-news")), &Value::Null);
        let alias = &said[&v2]["aliases"][place.named("of-news")];
        assert_eq!(alias["filter"]["term"].get("title").map(Value::is_null), Some(false), "{said}");
    });
}
