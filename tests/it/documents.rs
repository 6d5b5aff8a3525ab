//! What every document store owes, run by name on each: the embedded one, Elasticsearch 8 and 9, OpenSearch 2 and 3.
//!
//! Where stores differ, the test names the difference. What only a server can do wrong is in `servers.rs`.

use std::path::Path;
use std::sync::Arc;

use base::config::{Secret, Stores};
use base::keep_days::KeepDays;
use serde_json::{Value, json};
use stores::documents::{
    DOCUMENT_BYTES_MAX, Document, Documents, Elastic, Embedded, Filter, Fingerprint, Index, Owner,
    Page, Pages, Query, Scan, Sort, Write, Written, fit,
};
use stores::retention::prune;
use tests::services::search::{Kind, call, service};
use url::Url;

/// A test on one store.
pub(crate) type Check = fn(&mut Place);

pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("writes_only_what_changed_and_counts_its_writes", writes_only_what_changed),
    ("what_is_stored_is_left_alone_though_all_before_it_was_new", what_is_stored_after_what_is_new),
    ("finds_words_phrases_beginnings_and_newest_first", finds_words),
    ("finds_words_without_their_accents", finds_words_without_their_accents),
    ("filters_by_terms_and_dates_and_by_alias", filters),
    ("an_edited_text_is_found_by_its_new_words_only", an_edited_text),
    ("sorts_and_pages", sorts_and_pages),
    ("a_scan_goes_through_everything_in_the_order_of_ids", a_scan),
    ("a_scan_gives_what_matches_and_no_more_fields_than_are_wanted", a_scan_of_fields),
    ("a_value_of_the_wrong_type_is_told_apart", a_value_of_the_wrong_type),
    ("no_value_of_any_field_costs_its_document", no_value_costs_its_document),
    ("what_no_store_takes_is_rejected_by_name_and_its_neighbours_stored", what_no_store_takes),
    ("two_owners_in_one_write_are_one_document", two_owners_in_one_write),
    ("what_has_left_is_marked_and_comes_back", what_has_left),
    ("a_store_that_was_emptied_or_made_anew_is_another", a_store_made_anew),
    ("two_owners_at_once_lose_nothing", two_owners_at_once),
    ("an_id_stands_once_in_a_batch", an_id_stands_once),
    ("documents_are_restored_as_they_were_and_equal_ones_not_written", documents_are_restored),
    ("deleting_counts_what_was_there_and_writes_for_nothing_else", deleting_counts),
    ("what_is_too_old_is_found_by_its_date_and_pruned", what_is_too_old_is_pruned),
    ("a_second_collect_writes_nothing", a_second_collect_writes_nothing),
    ("entries_of_every_index_are_enriched", crate::enrich::entries_of_every_index_are_enriched),
];

pub(crate) const OWNER: Owner = Owner {
    fields: &["title", "content", "category", "feed_name", "published"],
    insert_only: &["collected_at"],
    shared: &["tags"],
    ..Owner::named("rss")
};

pub(crate) const ENRICHMENT: Owner = Owner {
    fields: &["enriched_summary", "enriched_at"],
    shared: &["tags"],
    ..Owner::named("enrichment")
};

/// A store of one test's own, taken away at the test's end.
pub(crate) struct Place {
    /// The server, if it is one.
    pub(crate) kind: Option<Kind>,
    /// What the settings say of it.
    pub(crate) stores: Stores,
    _folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new(kind: Option<Kind>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stores = Stores {
            data_dir: Some(folder.path().to_path_buf()),
            es_url: kind.map(|kind| Secret::new(vec![url(kind)])),
            es_index_prefix: format!("it-{}-", uuid::Uuid::new_v4().simple()),
            ..Stores::default()
        };
        Self { kind, stores, _folder: folder }
    }

    /// The store; called again it gives another, as in another process.
    pub(crate) async fn store(&self) -> Arc<dyn Documents> {
        open(&self.stores).await
    }

    /// Asks the server itself.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let kind = self.kind.expect("only servers are asked");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        call(&url(kind), method, path, &body).expect("the server answers").body
    }

    /// Asks the server itself, with several documents of JSON, one a line.
    pub(crate) fn ask_lines(&self, method: &str, path: &str, lines: &str) -> Value {
        let kind = self.kind.expect("only servers are asked");
        call(&url(kind), method, path, lines).expect("the server answers").body
    }

    /// An index's name on the server.
    pub(crate) fn named(&self, name: &str) -> String {
        format!("{}{name}", self.stores.es_index_prefix)
    }
}

/// The store of these settings.
pub(crate) async fn open(stores: &Stores) -> Arc<dyn Documents> {
    if stores.es_url.is_some() {
        return Arc::new(Elastic::open(stores).expect("its settings are right"));
    }
    let folder = stores.data_dir.as_ref().expect("it is set");
    Arc::new(Embedded::open(folder).await.expect("a store"))
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(kind) = self.kind else { return };
        // By name, as servers may refuse to delete what a star stands for.
        let listed = call(
            &url(kind),
            "GET",
            &format!("/_cat/indices/{}?h=index&format=json", self.named("*")),
            "",
        );
        let Ok(listed) = listed else { return };
        for index in listed.body.as_array().into_iter().flatten() {
            let path = format!("/{}", index["index"].as_str().unwrap_or("_"));
            let _ = call(&url(kind), "DELETE", &path, "");
        }
    }
}

pub(crate) fn cache() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn url(kind: Kind) -> Url {
    service(kind).url(cache()).unwrap_or_else(|why| panic!("{}: {why}", kind.name()))
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

pub(crate) fn articles() -> &'static Index {
    Index::named("rss_articles").expect("it is there")
}

pub(crate) fn write_of(id: &str, fields: &Value) -> Write {
    Write::of(id, &OWNER, fields.as_object().expect("fields are an object").clone())
}

/// A scan of everything at once.
pub(crate) fn all_of_them() -> Scan {
    Scan { limit: u32::MAX >> 1, ..Scan::default() }
}

fn after(id: &str, limit: u32) -> Scan {
    Scan { after: Some(id.to_owned()), limit, ..Scan::default() }
}

pub(crate) fn article(id: &str, title: &str, category: &str, published: &str) -> Write {
    write_of(
        id,
        &json!({
            "title": title, "category": category, "published": published, "tags": [category, "cti"],
            "feed_name": format!("Feed of {category}"), "collected_at": "2026-02-01T00:00:00Z",
        }),
    )
}

pub(crate) fn text(text: &str) -> Query {
    Query { text: Some(text.to_owned()), ..Query::default() }
}

pub(crate) fn filtered(filter: Filter) -> Query {
    Query { filters: vec![filter], ..Query::default() }
}

pub(crate) fn ids(page: &Page) -> Vec<&str> {
    page.documents.iter().map(|document| document.id.as_str()).collect()
}

async fn found(store: &dyn Documents, query: &Query) -> Vec<String> {
    let page = store.search(articles(), query).await.expect("it is searched");
    ids(&page).into_iter().map(ToOwned::to_owned).collect()
}

async fn put(store: &dyn Documents, batch: &[Write]) -> Vec<Written> {
    store.upsert(articles(), batch).await.expect("it is written")
}

fn writes_only_what_changed(place: &mut Place) {
    block_on(async {
        let (store, index) = (place.store().await, articles());
        let batch = [
            article("a", "one", "news", "2026-01-01T00:00:00Z"),
            article("b", "two", "news", "2026-01-02T00:00:00Z"),
        ];
        assert_eq!(put(&*store, &batch).await, [Written::New, Written::New]);
        let edited = [batch[0].clone(), article("b", "two!", "news", "2026-01-02T00:00:00Z")];
        assert_eq!(put(&*store, &edited).await, [Written::Unchanged, Written::Changed]);
        assert_eq!(store.sequence(index).await.expect("it counts"), 3);
        let body = store.get(index, "b").await.expect("it is read").expect("it is there");
        assert_eq!(
            (&body["title"], &body["id"], &body["revision"]),
            (&json!("two!"), &json!("b"), &json!(2))
        );
        assert_eq!(store.get(index, "c").await.expect("it is read"), None);
        // Another process sees the same.
        assert_eq!(
            put(&*place.store().await, &edited).await,
            [Written::Unchanged, Written::Unchanged]
        );
        assert_eq!(store.sequence(index).await.expect("it counts"), 3);
        assert_eq!(put(&*store, &[]).await, []);
    });
}

/// A store may send unread what is likely to be new.
fn what_is_stored_after_what_is_new(place: &mut Place) {
    block_on(async {
        let (store, index) = (place.store().await, articles());
        let one = |n: usize, title: &str| {
            article(&format!("{n:02}"), title, "news", "2026-01-01T00:00:00Z")
        };
        let first: Vec<Write> = (0..20).map(|n| one(n, "one")).collect();
        assert_eq!(put(&*store, &first).await, vec![Written::New; 20]);
        let now = "2026-03-01T00:00:00Z".parse().expect("an instant");
        let absent: Vec<Write> =
            (60..80).map(|n| Write::retire(n.to_string(), &OWNER, None, now)).collect();
        assert_eq!(put(&*store, &absent).await, vec![Written::Unchanged; 20], "nothing has left");
        let mixed: Vec<Write> =
            (10..40).map(|n| one(n, if n < 15 { "another" } else { "one" })).collect();
        let outcomes = put(&*store, &mixed).await;
        let expected = |n| match n {
            10..15 => Written::Changed,
            15..20 => Written::Unchanged,
            _ => Written::New,
        };
        assert_eq!(outcomes, (10..40).map(expected).collect::<Vec<_>>());
        assert_eq!(put(&*store, &mixed).await, vec![Written::Unchanged; 30]);
        assert_eq!(store.sequence(index).await.expect("it counts"), 20 + 5 + 20);
        let body = store.get(index, "12").await.expect("it is read").expect("it is there");
        assert_eq!((&body["title"], &body["revision"]), (&json!("another"), &json!(2)));
    });
}

fn finds_words(place: &mut Place) {
    block_on(async {
        let store = place.store().await;
        let batch = [
            article("a", "Segurança da informação", "brazil", "2026-01-01T00:00:00Z"),
            article("b", "Segurança ofensiva", "brazil", "2026-01-03T00:00:00Z"),
            article("c", "Something else", "news", "2026-01-02T00:00:00Z"),
        ];
        put(&*store, &batch).await;
        assert_eq!(found(&*store, &text("segurança")).await, ["b", "a"]);
        assert_eq!(found(&*store, &text("SEGURANÇA -ofensiva")).await, ["a"]);
        assert_eq!(found(&*store, &text("some* \"da informação\"")).await, ["c", "a"]);
        assert_eq!(found(&*store, &text("\"informação da\"")).await, Vec::<String>::new());
        assert_eq!(found(&*store, &text("")).await, ["b", "c", "a"]);
        let relevant = Query { sort: Some(Sort::Relevance), ..text("segurança ofensiva") };
        assert_eq!(found(&*store, &relevant).await, ["b", "a"]);
        for hostile in
            ["\"", "AND OR NOT", "a\"b(", "*", "-", "col:x", "' OR 1=1 --", "a\\", "~1|+(", "x~2^3"]
        {
            store
                .search(articles(), &text(hostile))
                .await
                .unwrap_or_else(|error| panic!("{hostile}: {}", error.chain()));
        }
    });
}

/// The difference: the Elasticsearch that tests have comes without `asciifolding`, and says so.
fn finds_words_without_their_accents(place: &mut Place) {
    block_on(async {
        let store = place.store().await;
        put(&*store, &[article("a", "Segurança", "brazil", "2026-01-01T00:00:00Z")]).await;
        let said = store.describe().await.expect("it is well");
        let folds = !said.contains("no `asciifolding`");
        if matches!(place.kind, None | Some(Kind::OpenSearch2 | Kind::OpenSearch3)) {
            assert!(folds, "{said}");
        }
        let expected: &[&str] = if folds { &["a"] } else { &[] };
        assert_eq!(found(&*store, &text("seguranca")).await, expected);
        assert_eq!(found(&*store, &text("segura*")).await, ["a"]);
    });
}

fn filters(place: &mut Place) {
    block_on(async {
        let (store, index) = (place.store().await, articles());
        let batch = [
            article("a", "one", "news", "2026-01-01T00:00:00Z"),
            article("b", "two", "blogs", "2026-01-02T00:00:00Z"),
            write_of("c", &json!({"title": "bare"})),
        ];
        put(&*store, &batch).await;
        let terms = |field: &str, value: &str| {
            filtered(Filter::Terms(field.to_owned(), vec![value.to_owned()]))
        };
        assert_eq!(found(&*store, &terms("category", "news")).await, ["a"]);
        assert_eq!(found(&*store, &terms("category.keyword", "news")).await, ["a"]);
        assert_eq!(found(&*store, &terms("title", "one")).await, ["a"], "text is compared whole");
        assert_eq!(store.count(index, &terms("tags", "cti")).await.expect("it counts"), 2);
        let range = |field: &str, from: Option<&str>, to: Option<&str>| {
            filtered(Filter::Range(field.to_owned(), from.map(Into::into), to.map(Into::into)))
        };
        let middle = "2026-01-02T00:00:00Z";
        assert_eq!(found(&*store, &range("published", Some(middle), None)).await, ["b"]);
        assert_eq!(found(&*store, &range("published", None, Some(middle))).await, ["a"]);
        let collected = range("created_at", Some("2026-01-31T00:00:00Z"), None);
        assert_eq!(store.count(index, &collected).await.expect("it counts"), 2);
        let exists = |field: &str| filtered(Filter::Exists(field.to_owned()));
        assert_eq!(store.count(index, &exists("published")).await.expect("it counts"), 2);
        assert_eq!(
            store.count(index, &exists("tags")).await.expect("it counts"),
            2,
            "an empty list is no value"
        );
        let both = Query { filters: vec![Filter::Exists("tags".to_owned())], ..text("one bare") };
        assert_eq!(found(&*store, &both).await, ["a"]);
        let error = store.search(index, &exists("no_such_field")).await.expect_err("there is none");
        assert!(error.chain().contains("`no_such_field`"));
    });
}

fn an_edited_text(place: &mut Place) {
    block_on(async {
        let (store, index) = (place.store().await, articles());
        for title in ["before", "after"] {
            put(&*store, &[article("a", title, "news", "2026-01-01T00:00:00Z")]).await;
        }
        assert_eq!(store.count(index, &text("before")).await.expect("it counts"), 0);
        assert_eq!(store.count(index, &text("after")).await.expect("it counts"), 1);
    });
}

fn sorts_and_pages(place: &mut Place) {
    block_on(async {
        let (store, index) = (place.store().await, articles());
        let batch = [
            article("a", "one", "news", "2026-01-01T00:00:00Z"),
            article("b", "three", "news", "2026-01-03T00:00:00Z"),
            article("c", "two", "news", "2026-01-03T00:00:00Z"),
            write_of("d", &json!({"content": "undated"})),
        ];
        put(&*store, &batch).await;
        let by = |name: &str, descending| Query {
            sort: Some(Sort::Field { name: name.to_owned(), descending }),
            ..Query::default()
        };
        assert_eq!(found(&*store, &Query::default()).await, ["b", "c", "a", "d"]);
        assert_eq!(found(&*store, &by("published", false)).await, ["a", "b", "c", "d"]);
        assert_eq!(found(&*store, &by("title", true)).await, ["c", "b", "a", "d"]);
        assert_eq!(found(&*store, &by("created_at", false)).await, ["a", "b", "c", "d"]);
        let second = Query { offset: 1, limit: 2, ..Query::default() };
        let page = store.search(index, &second).await.expect("it is searched");
        assert_eq!((ids(&page), page.total), (vec!["c", "a"], 4));
        let nothing = Query { limit: 0, ..Query::default() };
        assert_eq!(store.search(index, &nothing).await.expect("it is searched").total, 4);
        let too_many = Query { limit: Query::LIMIT_MAX + 1, ..Query::default() };
        assert!(store.search(index, &too_many).await.is_err());
    });
}

fn a_scan(place: &mut Place) {
    const COUNT: usize = 1_203;
    block_on(async {
        let (store, index) = (place.store().await, articles());
        let batch: Vec<Write> = (0..COUNT)
            .rev()
            .map(|number| article(&format!("id-{number:05}"), "x", "news", "2026-01-01T00:00:00Z"))
            .collect();
        assert!(put(&*store, &batch).await.iter().all(|written| *written == Written::New));
        let all = store.scan(index, &all_of_them()).await.expect("it is scanned");
        assert_eq!(all.len(), COUNT);
        assert!(all.is_sorted_by(|one, other| one.id < other.id));
        let some = store.scan(index, &after("id-00499", 600)).await.expect("it is scanned");
        assert_eq!((some.len(), some[0].id.as_str()), (600, "id-00500"));
        assert_eq!(store.scan(index, &after("id-01202", 10)).await.expect("it is scanned"), []);
        assert!(put(&*store, &batch).await.iter().all(|written| *written == Written::Unchanged));
        assert_eq!(store.sequence(index).await.expect("it counts"), COUNT as u64);
    });
}

/// The difference: the embedded store checks no types, a server refuses such a document, and only that one.
fn a_value_of_the_wrong_type(place: &mut Place) {
    block_on(async {
        let store = place.store().await;
        let mut batch: Vec<Write> = (0..300)
            .map(|number| article(&format!("{number:03}"), "x", "news", "2026-01-01T00:00:00Z"))
            .collect();
        for wrong in batch.iter_mut().step_by(100) {
            wrong.parts[0].fields.insert("title".to_owned(), json!({"no": "words"}));
        }
        let written = put(&*store, &batch).await;
        let failed: Vec<&Written> =
            written.iter().filter(|written| matches!(written, Written::Rejected(_))).collect();
        if place.kind.is_none() {
            assert!(failed.is_empty());
            return;
        }
        assert_eq!(failed.len(), 3);
        assert!(matches!(failed[0], Written::Rejected(why) if why.contains("title")), "{failed:?}");
        assert_eq!(written.iter().filter(|written| **written == Written::New).count(), 297);
        let there = store.count(articles(), &Query::default()).await.expect("it counts");
        assert_eq!(there, 297);
    });
}

fn a_scan_of_fields(place: &mut Place) {
    const COUNT: usize = 30;
    block_on(async {
        let (store, index) = (place.store().await, articles());
        let category = |number: usize| if number.is_multiple_of(3) { "blogs" } else { "news" };
        let batch: Vec<Write> = (0..COUNT)
            .map(|number| {
                let at = "2026-01-01T00:00:00Z";
                article(
                    &format!("id-{number:02}"),
                    &format!("title {number}"),
                    category(number),
                    at,
                )
            })
            .collect();
        put(&*store, &batch).await;
        let of_blogs = Filter::Terms("category".to_owned(), vec!["blogs".to_owned()]);
        let fields = ["title", "owners.shared.tags", "owners.hashes.none", "title.none", "absent"];
        let scan = Scan { filters: vec![of_blogs.clone()], limit: 4, ..Scan::of(&fields) };
        let mut pages = Pages::new(store.as_ref(), index, scan);
        let (mut sizes, mut found) = (Vec::new(), Vec::new());
        while let Some(page) = pages.next().await.expect("it is read") {
            sizes.push(page.len());
            found.extend(page);
        }
        assert_eq!(pages.next().await.expect("nothing is left"), None);
        assert_eq!(sizes, [4, 4, 2]);
        let expected = |number: usize| {
            json!({"_id": format!("id-{number:02}"), "title": format!("title {number}"),
                "owners": {"shared": {"tags": {"rss": ["blogs", "cti"]}}}})
        };
        let expected: Vec<Value> = (0..COUNT).step_by(3).map(expected).collect();
        assert_eq!(json!(found), json!(expected));
        let ids = Scan { filters: vec![of_blogs], ..Scan::of(&[]) };
        let ids = store.scan(index, &ids).await.expect("it is scanned");
        assert!(ids.len() == COUNT / 3 && ids.iter().all(|document| document.body.is_empty()));
        let fields = store.fields_of(index, &["id-03", "none", "id-01"], &["owners.shared.tags"]);
        let fields = fields.await.expect("they are read");
        let tags = |of: &str| json!({"owners": {"shared": {"tags": {"rss": [of, "cti"]}}}});
        assert_eq!(json!(fields), json!([tags("blogs"), null, tags("news")]));
        let words = Scan { text: Some("\"title 7\"".to_owned()), ..Scan::of(&[]) };
        let words = store.scan(index, &words).await.expect("it is scanned");
        assert_eq!(words.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["id-07"]);
        let unknown = Scan { filters: vec![Filter::Exists("none".to_owned())], ..Scan::default() };
        assert!(store.scan(index, &unknown).await.is_err());
    });
}

/// The difference: the embedded store checks no types, and takes what is not too large.
fn what_no_store_takes(place: &mut Place) {
    block_on(async {
        let (store, index) = (place.store().await, articles());
        store.ensure(index).await.expect("it is made");
        if place.kind.is_some() {
            // As a field is that does not pass long values over.
            let mut mapping = index.mapping["properties"]["category"].clone();
            mapping["fields"]["strict"] = json!({"type": "keyword", "ignore_above": i32::MAX});
            let path = format!("/{}/_mapping", place.named("rss_articles-v1"));
            place.ask("PUT", &path, &json!({"properties": {"category": mapping}}));
        }
        let at = "2026-01-01T00:00:00Z";
        let batch = [
            article("a", "before", "news", at),
            article("long", "x", &"x".repeat(40_000), at),
            article("b", "between", "news", at),
            write_of("untitled", &json!({"title": {"no": "words"}})),
            write_of(
                "large",
                &json!({"title": "x", "content": "x ".repeat(DOCUMENT_BYTES_MAX / 2)}),
            ),
            article("c", "after", "news", at),
        ];
        let written = put(&*store, &batch).await;
        let kept = |place: usize| matches!(written[place], Written::New);
        assert!(kept(0) && kept(2) && kept(5), "{written:?}");
        let expected: &[(usize, &str)] = match place.kind {
            None => &[(4, "`content`")],
            Some(_) => &[(1, "category"), (3, "title"), (4, "`content`")],
        };
        for (place, field) in expected {
            let Written::Rejected(why) = &written[*place] else { panic!("{:?}", written[*place]) };
            assert!(why.contains(field), "{why}");
        }
        let there = store.count(index, &Query::default()).await.expect("it counts");
        assert_eq!(there, 6 - expected.len() as u64);
        // As they are, too: what was stored elsewhere is no better for it.
        let body = json!({"id": "large", "content": "x ".repeat(DOCUMENT_BYTES_MAX / 2)});
        let large =
            Document { id: "large".to_owned(), body: body.as_object().expect("one").clone() };
        let restored = store.restore(index, &[large]).await.expect("an answer");
        assert!(matches!(&restored[..], [Written::Rejected(_)]), "{restored:?}");
    });
}

/// The paths of an index's fields that hold values, those within others too, with their types.
fn leaves(forms: &Value, path: &[&'static str], found: &mut Vec<(Vec<&'static str>, String)>) {
    for (name, form) in forms.as_object().into_iter().flatten() {
        let name: &'static str = Box::leak(name.clone().into_boxed_str());
        let path = [path, &[name]].concat();
        let kind = form["type"].as_str().unwrap_or("object").to_owned();
        if form["properties"].is_object() {
            leaves(&form["properties"], &path, found);
            found.push((path, kind));
        } else if kind != "alias" && !matches!(path[..], ["id" | "owners" | "revision"]) {
            found.push((path, kind));
        }
    }
}

/// Whatever stands in one field, of whatever length and type, the item is stored, on every store alike.
fn no_value_costs_its_document(place: &mut Place) {
    let values = [
        json!("x".repeat(40_000)),
        json!("漢".repeat(13_400)),
        json!(["y".repeat(40_000), "z", {"a": 1}, [["w".repeat(40_000)]], null]),
        json!("soon"),
        json!(""),
        json!("2026-02-30T25:61:61Z"),
        json!({"a": {"b": "c"}, "": 1, "d.e": 2}),
        json!(9_007_199_254_740_993_u64),
        json!(-1.5e300),
        json!(true),
    ];
    block_on(async {
        let store = place.store().await;
        for index in Index::all() {
            let mut paths = Vec::new();
            leaves(&index.mapping["properties"], &[], &mut paths);
            let mut fields: Vec<&'static str> = paths.iter().map(|(path, _)| path[0]).collect();
            fields.dedup();
            let owner: &'static Owner =
                Box::leak(Box::new(Owner { fields: fields.leak(), ..Owner::named("any") }));
            let write = |id: String, path: &[&str], value: &Value| {
                let value =
                    path[1..].iter().rev().fold(value.clone(), |value, name| json!({*name: value}));
                Write::of(id, owner, [(path[0].to_owned(), value)].into_iter().collect())
            };
            let (mut bare, mut raw) = (Vec::new(), Vec::new());
            for (path, kind) in &paths {
                for (number, value) in values.iter().enumerate() {
                    let id = format!("{}-{number}", path.join("."));
                    raw.push(write(id.clone(), path, value));
                    // The mapping alone takes what is too long.
                    if number < 2 && !matches!(kind.as_str(), "boolean" | "object") {
                        bare.push(write(format!("bare-{id}"), path, value));
                    }
                }
            }
            let fitted = fit(index, &raw);
            assert!(!fitted.misfits.is_empty());
            for (writes, from) in [(&bare[..], "as they are"), (&fitted.writes[..], "fitted")] {
                let written = store.upsert(index, writes).await.expect("it is written");
                for (write, written) in writes.iter().zip(&written) {
                    assert_eq!(written, &Written::New, "{} of {}, {from}", write.id, index.name);
                }
            }
            let there = store.count(index, &Query::default()).await.expect("it counts");
            assert_eq!(there, (bare.len() + raw.len()) as u64, "{}", index.name);
        }
        let whole =
            store.get(articles(), "title-0").await.expect("it is read").expect("it is there");
        assert_eq!(whole["title"], values[0], "what is within its cap stays whole");
        let whole =
            store.get(articles(), "link-1").await.expect("it is read").expect("it is there");
        assert_eq!(whole["link"], values[1]);
    });
}

fn two_owners_in_one_write(place: &mut Place) {
    block_on(async {
        let (store, index) = (place.store().await, articles());
        let enriched = |summary: &str| {
            let fields = json!({"enriched_summary": summary, "tags": ["ai"]});
            article("a", "one", "news", "2026-01-01T00:00:00Z")
                .and(&ENRICHMENT, fields.as_object().expect("an object").clone())
        };
        assert_eq!(put(&*store, &[enriched("s")]).await, [Written::New]);
        assert_eq!(put(&*store, &[enriched("s")]).await, [Written::Unchanged]);
        assert_eq!(put(&*store, &[enriched("t")]).await, [Written::Changed]);
        // A batch of many looks at hashes first.
        let mut many: Vec<Write> = (0..20)
            .map(|number| article(&format!("b-{number}"), "x", "news", "2026-01-01T00:00:00Z"))
            .collect();
        many.push(enriched("t"));
        assert_eq!(put(&*store, &many).await[20], Written::Unchanged);
        many[20] = enriched("u");
        let written = put(&*store, &many).await;
        assert!(written[..20].iter().all(|one| *one == Written::Unchanged), "{written:?}");
        assert_eq!(written[20], Written::Changed);
        let body = store.get(index, "a").await.expect("it is read").expect("it is there");
        assert_eq!(
            (&body["title"], &body["enriched_summary"], &body["revision"]),
            (&json!("one"), &json!("u"), &json!(3))
        );
        assert_eq!(body["tags"], json!(["ai", "news", "cti"]));
        assert_eq!(store.sequence(index).await.expect("it counts"), 23);
    });
}

/// An owner that marks what has left.
const SEEN: Owner = Owner {
    fields: &["title", "active", "left_at", "content_hash"],
    unhashed: &["left_at", "content_hash"],
    shared: &["tags"],
    ..Owner::named("seen")
};

fn what_has_left(place: &mut Place) {
    block_on(async {
        let (store, index) = (place.store().await, articles());
        let seen = |id: &str| {
            let fields = json!({"title": "t", "active": true, "left_at": null, "tags": ["x"]});
            Write::of(id, &SEEN, fields.as_object().expect("an object").clone())
        };
        let all: Vec<Write> = (0..20).map(|number| seen(&format!("{number:02}"))).collect();
        put(&*store, &all).await;
        let now = "2026-03-01T00:00:00Z".parse().expect("an instant");
        let leave = |id: &str| Write::retire(id, &SEEN, None, now);
        let leaving: Vec<Write> = (10..30).map(|number| leave(&format!("{number:02}"))).collect();
        let written = put(&*store, &leaving).await;
        assert_eq!(written[..10], vec![Written::Changed; 10]);
        assert_eq!(written[10..], vec![Written::Unchanged; 10], "there are none to mark");
        assert_eq!(put(&*store, &leaving).await, vec![Written::Unchanged; 20]);
        let body = store.get(index, "15").await.expect("it is read").expect("it is there");
        assert_eq!(
            (&body["active"], &body["left_at"], &body["title"], &body["tags"]),
            (&json!(false), &json!("2026-03-01T00:00:00Z"), &json!("t"), &json!(["x"]))
        );
        let written = put(&*store, &all).await;
        assert_eq!(written[..10], vec![Written::Unchanged; 10]);
        assert_eq!(written[10..], vec![Written::Changed; 10]);
        assert_eq!(store.count(index, &Query::default()).await.expect("it counts"), 20);
    });
}

fn a_store_made_anew(place: &mut Place) {
    block_on(async {
        let (store, index) = (place.store().await, articles());
        let identity = async |store: &dyn Documents| store.identity(index).await.expect("it says");
        let empty = identity(&*store).await;
        assert_eq!((empty.sequence, empty.documents), (0, 0));
        let batch = [
            article("a", "one", "news", "2026-01-01T00:00:00Z"),
            article("b", "two", "news", "2026-01-01T00:00:00Z"),
        ];
        put(&*store, &batch).await;
        let full = identity(&*store).await;
        assert_eq!((&full.store, full.sequence, full.documents), (&empty.store, 2, 2));
        assert!(!full.has_lost(&empty));
        assert_eq!(identity(&*place.store().await).await, full, "another process sees the same");
        let other = Index::named("malpedia_library").expect("it is there");
        assert_ne!(store.identity(other).await.expect("it says").store, full.store);
        let group = Index::named("minerva-articles").expect("it is there");
        let of_group = store.identity(group).await.expect("it says");
        assert!(of_group.store.contains(&full.store));
        assert_eq!((of_group.sequence, of_group.documents), (2, 2));

        let gone = ["a".to_owned(), "b".to_owned()];
        assert_eq!(store.delete(index, &gone).await.expect("it is deleted"), 2);
        let emptied = identity(&*store).await;
        assert_eq!((&emptied.store, emptied.documents), (&full.store, 0));
        assert!(emptied.has_lost(&full) && !emptied.has_lost(&empty));

        // Under the eyes of a process that has made it ready, and has no reason to look again.
        put(&*store, &batch).await;
        match place.kind {
            Some(_) => {
                let path = format!("/{}", place.named("rss_articles-v1"));
                place.ask("DELETE", &path, &Value::Null);
            }
            None => {
                let folder = place.stores.data_dir.clone().expect("it is set");
                let file = folder.join(Embedded::FILE);
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
                let pool = sqlx::SqlitePool::connect_with(options).await.expect("it opens");
                sqlx::raw_sql(
                    "DROP TABLE rss_articles; DROP TABLE rss_articles_text; DELETE FROM sequences",
                )
                .execute(&pool)
                .await
                .expect("they are dropped");
                pool.close().await;
            }
        }
        let anew = identity(&*store).await;
        assert_ne!(anew.store, full.store);
        assert_eq!((anew.sequence, anew.documents), (0, 0));
        assert!(anew.has_lost(&full));
        // With our mapping, not one that the server guesses.
        assert_eq!(put(&*store, &batch).await, [Written::New, Written::New]);
        assert_eq!(found(&*store, &text("two")).await, ["b"]);
        let category = filtered(Filter::Terms("category".to_owned(), vec!["news".to_owned()]));
        assert_eq!(store.count(index, &category).await.expect("it counts"), 2);
    });
}

fn two_owners_at_once(place: &mut Place) {
    const ROUNDS: usize = 1_000;
    block_on(async {
        let mut writers = Vec::new();
        for (owner, field, name) in
            [(&OWNER, "title", "rss"), (&ENRICHMENT, "enriched_summary", "enrichment")]
        {
            let store = place.store().await;
            writers.push(tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let fields = json!({field: format!("{name} {round}"), "tags": ["both", format!("{name}-{round}")]});
                    let write = Write::of("a", owner, fields.as_object().expect("an object").clone());
                    let written = store.upsert(articles(), &[write]).await.expect("it is written");
                    assert!(matches!(written[0], Written::New | Written::Changed), "{written:?}");
                }
            }));
        }
        for writer in writers {
            writer.await.expect("no panic");
        }
        let store = place.store().await;
        let body = store.get(articles(), "a").await.expect("it is read").expect("it is there");
        assert_eq!(
            (&body["title"], &body["enriched_summary"]),
            (&json!("rss 999"), &json!("enrichment 999"))
        );
        assert_eq!(body["tags"], json!(["both", "enrichment-999", "rss-999"]));
        assert_eq!(body["revision"], json!(2 * ROUNDS), "each write was counted");
        assert_eq!(store.sequence(articles()).await.expect("it counts"), 2 * ROUNDS as u64);
    });
}

fn an_id_stands_once(place: &mut Place) {
    block_on(async {
        let store = place.store().await;
        let twice = [write_of("a", &json!({"title": "1"})), write_of("a", &json!({"title": "2"}))];
        let error = store.upsert(articles(), &twice).await.expect_err("it is refused");
        assert!(error.chain().contains("twice"));
    });
}

/// The whole RSS family, twice, with nothing changed but the store's settings; the store's own count is the witness.
fn a_second_collect_writes_nothing(place: &mut Place) {
    let mut settings = vec![("ES_INDEX_PREFIX".to_owned(), place.stores.es_index_prefix.clone())];
    if let Some(urls) = &place.stores.es_url {
        settings.push(("ES_URL".to_owned(), urls.expose()[0].to_string()));
    }
    block_on(crate::contract::collected_twice(&settings));
}

fn documents_are_restored(place: &mut Place) {
    const COUNT: usize = 60;
    block_on(async {
        let (store, index) = (place.store().await, articles());
        let document = |number: usize| {
            let id = format!("id-{number:02}");
            let body = json!({
                "id": id, "title": format!("Title \u{0} {number}"), "revision": number, "tags": ["b", "a"],
                "published": "2026-01-01T00:00:00Z", "owners": {"hashes": {"rss": "x"}, "shared": {"tags": {}}},
                "media": [{"z": 0.1 + 0.2, "a": 5e-324, "m": 1.797_693_134_862_315_7e308, "o": 1.0}],
                "unmapped": [i64::MIN, u64::MAX, -0.0, 123_456_789.123_456_79, null, "1"],
            });
            let body = body.as_object().expect("it is an object").clone();
            Document { id, body }
        };
        let documents: Vec<Document> = (0..COUNT).map(document).collect();
        let restore = async |documents: &[Document]| {
            store.restore(index, documents).await.expect("it is written")
        };
        assert_eq!(restore(&documents).await, vec![Written::New; COUNT]);
        assert_eq!(restore(&documents).await, vec![Written::Unchanged; COUNT]);
        assert_eq!(restore(&documents[..3]).await, vec![Written::Unchanged; 3]);
        assert_eq!(store.sequence(index).await.expect("it counts"), COUNT as u64);
        let print = |documents: &[Document]| {
            let mut print = Fingerprint::default();
            documents.iter().for_each(|document| print.add(document));
            print.hex()
        };
        let all = store.scan(index, &all_of_them()).await.expect("it is scanned");
        assert_eq!(all, documents);
        assert_eq!(print(&all), print(&documents));

        let mut edited = documents.clone();
        edited[7].body.insert("revision".to_owned(), json!(1));
        edited[7].body.remove("owners");
        edited[7].body.insert("title".to_owned(), json!("restored"));
        let written = restore(&edited).await;
        let changed = |place: usize| if place == 7 { Written::Changed } else { Written::Unchanged };
        assert_eq!(written, (0..COUNT).map(changed).collect::<Vec<_>>());
        let body = store.get(index, "id-07").await.expect("it is read").expect("it is there");
        assert_eq!(body, edited[7].body, "nothing of the former document is left");
        assert_eq!(found(&*store, &text("restored")).await, ["id-07"]);

        let mut astray = documents[0].clone();
        astray.id = "other".to_owned();
        let error = store.restore(index, &[astray]).await.expect_err("it is refused");
        assert!(error.chain().contains("`other`"), "{}", error.chain());
        let twice = [documents[0].clone(), documents[0].clone()];
        assert!(store.restore(index, &twice).await.is_err());
        assert_eq!(restore(&[]).await, []);
    });
}

fn deleting_counts(place: &mut Place) {
    const COUNT: usize = 40;
    block_on(async {
        let (store, index) = (place.store().await, articles());
        let id = |number: usize| format!("id-{number:02}");
        let batch: Vec<Write> = (0..COUNT)
            .map(|number| article(&id(number), "gone soon", "news", "2026-01-01T00:00:00Z"))
            .collect();
        put(&*store, &batch).await;
        let ids: Vec<String> = (COUNT / 2..COUNT + 10).map(id).collect();
        let delete = async || store.delete(index, &ids).await.expect("it is deleted");
        assert_eq!(delete().await, COUNT as u64 / 2);
        let writes = store.sequence(index).await.expect("it counts");
        assert_eq!(writes, (COUNT + COUNT / 2) as u64);
        assert_eq!(delete().await, 0);
        assert_eq!(store.sequence(index).await.expect("it counts"), writes, "it wrote nothing");
        assert_eq!(store.count(index, &text("soon")).await.expect("it counts"), COUNT as u64 / 2);
        assert_eq!(store.get(index, &id(COUNT - 1)).await.expect("it is read"), None);
        // What was deleted can come again.
        assert_eq!(put(&*store, &batch[COUNT - 1..]).await, [Written::New]);
        assert_eq!(found(&*store, &Query { limit: 1, ..text("gone") }).await.len(), 1);
        assert!(store.delete(index, &[id(0), id(0)]).await.is_err());
        assert_eq!(store.delete(index, &[]).await.expect("nothing is done"), 0);
    });
}

fn what_is_too_old_is_pruned(place: &mut Place) {
    const OLD: usize = 1_100;
    block_on(async {
        let (store, index) = (place.store().await, articles());
        let mut batch: Vec<Write> = (0..OLD)
            .map(|number| article(&format!("old-{number:04}"), "x", "news", "2025-01-01T00:00:00Z"))
            .collect();
        batch.push(article("new", "x", "news", "2026-01-01T00:00:00Z"));
        batch.push(write_of("undated", &json!({"collected_at": "2026-02-01T00:00:00Z"})));
        batch.push(write_of("undated-old", &json!({"collected_at": "2025-01-31T12:00:00Z"})));
        batch.push(write_of("neither", &json!({"title": "x"})));
        put(&*store, &batch).await;
        let missing = filtered(Filter::Missing("published".to_owned()));
        assert_eq!(store.count(index, &missing).await.expect("it counts"), 3);

        let keep = KeepDays::parse("rss_articles=365").expect("it is read");
        let now = "2026-02-01T00:00:00Z".parse().expect("an instant");
        let pruned = async |is_trial| {
            let said = prune(&*store, &keep, index, now, is_trial).await.expect("it is pruned");
            (said.deleted, said.kept)
        };
        assert_eq!(pruned(true).await, (OLD as u64 + 1, 3));
        assert_eq!(pruned(false).await, (OLD as u64 + 1, 3));
        assert_eq!(pruned(false).await, (0, 3));
        let left = store.scan(index, &all_of_them()).await.expect("it is scanned");
        let left: Vec<&str> = left.iter().map(|document| document.id.as_str()).collect();
        assert_eq!(left, ["neither", "new", "undated"]);
    });
}
