//! Values of the Malpedia family that went wrong once: dates, identities, what left, what one way says and the other does not.

use base::report::{Outcome, Report, Status};
use malpedia::FAMILY;
use malpedia::reference::INDEX;
use serde_json::{Value, json};
use stores::documents::{Owner, Write};
use task::testing::{Answer, TestHome, Upstream};

use crate::documents::block_on;
use crate::malpedia::{BIB, LATEST, REFERENCES, fixture, malpedia, run};
use crate::malpedia_catalogue::{home, index, one, write};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("bibtex_of_other_hands_has_right_values", bibtex_of_other_hands_has_right_values),
    ("an_undated_entry_keeps_the_feeds_date", an_undated_entry_keeps_the_feeds_date),
    ("dates_of_the_feed_are_read_or_kept_as_given", dates_of_the_feed_are_read_or_kept_as_given),
    ("a_feed_cut_within_a_text_is_told", a_feed_cut_within_a_text_is_told),
    (
        "a_reference_whose_address_changes_stays_one_document",
        a_reference_whose_address_changes_stays_one_document,
    ),
    ("what_left_the_bibliography_is_marked", what_left_the_bibliography_is_marked),
    ("without_the_bibliography_the_run_has_failed", without_the_bibliography_the_run_has_failed),
    (
        "a_changed_list_of_references_is_joined_to_an_unchanged_bibliography",
        a_changed_list_of_references_is_joined_to_an_unchanged_bibliography,
    ),
    ("each_new_reference_is_written_once", each_new_reference_is_written_once),
    ("no_field_is_lost_between_files_and_api", no_field_is_lost_between_files_and_api),
    ("a_malformed_record_costs_itself", a_malformed_record_costs_itself),
    ("above_a_limit_records_are_counted", above_a_limit_records_are_counted),
    ("names_addresses_and_countries_are_right", names_addresses_and_countries_are_right),
];

/// What the enrichment by a language model owns.
const ENRICHMENT: Owner =
    Owner { fields: &["enriched_summary"], ..Owner::named("malpedia_enrichment") };

async fn library(home: &TestHome) -> Vec<Value> {
    let documents = home.documents(index(INDEX)).await.expect("it is read");
    documents.into_iter().map(|document| Value::Object(document.body)).collect()
}

async fn by_key(home: &TestHome, key: &str) -> Value {
    let found = library(home).await.into_iter().find(|body| body["bibtex_key"] == key);
    found.unwrap_or_else(|| panic!("no `{key}`"))
}

fn feed(items: &str) -> String {
    format!(
        r#"<?xml version="1.0"?><rss version="2.0"><channel><title>t</title><link>https://malpedia.example/</link>{items}</channel></rss>"#
    )
}

fn item(link: &str, guid: &str, date: &str) -> String {
    format!(
        "<item><title>One</title><link>{link}</link><guid>{guid}</guid><pubDate>{date}</pubDate><description>d</description></item>"
    )
}

fn bibtex_of_other_hands_has_right_values() {
    block_on(async {
        let bib = r#"@online{a1, author = {Ana Lima AND Bo Chen And Cy Dahl and others}, title = {{Conjunctions}}, date = {2024-01-01}, url = {https://e.example/1}}
@misc{m1, title={May third}, year={1995}, month=may # "~3", url={https://e.example/2}, }
@misc{m2, title={Ninth of December}, year=2011, month = "9~" # dec, url={https://e.example/3}}
@misc{m3, title={A range}, year = "2019", month = "5 " # jan # {--} # "7 " # dec, url={https://e.example/4}}
@misc{m4, title={Braced}, year={2016}, month={Sep}, url={https://e.example/5}}
@misc{m5, title={Bare upper}, year=2022, month = Apr, url={https://e.example/6}}
@misc{m6, title={Bare joined}, year=2020, month = Jan#"~5", url={https://e.example/7}}
@misc{m7, title={Slash}, year=2020, month = jan/feb, url={https://e.example/8}}
@misc{m8, title={Dashes
@online{and a line} like an entry's first}, year=2020, month = {January--February}, url={https://e.example/9}}
@misc{m9, author = {Lima {and} Chen and {Barnes AND Noble}}, title={Braced and}, year=2020, month = {dezembro}, url={https://e.example/10}}
@misc{m10, title={Days}, year=2020, month = "5--7~" # feb, url={https://e.example/11}}
@misc{m11, title={Day by itself}, year=2020, month = 3, day = 9, url={https://e.example/12}}
"#;
        let (_upstream, home) = malpedia(bib).await;
        let report = run(&home, "sync_malpedia_library_bibtex").await;
        assert_eq!((report.counts.new, report.counts.rejected), (12, 0), "{report:?}");
        for (key, published, precision) in [
            ("m1", "1995-05-03", "day"),
            ("m2", "2011-12-09", "day"),
            ("m3", "2019-01-05", "day"),
            ("m4", "2016-09-01", "month"),
            ("m5", "2022-04-01", "month"),
            ("m6", "2020-01-05", "day"),
            ("m7", "2020-01-01", "month"),
            ("m8", "2020-01-01", "month"),
            ("m9", "2020-12-01", "month"),
            ("m10", "2020-02-05", "day"),
            ("m11", "2020-03-09", "day"),
        ] {
            let body = by_key(&home, key).await;
            assert_eq!(
                (&body["published"], &body["date_precision"], &body["published_from"]),
                (&json!(format!("{published}T00:00:00Z")), &json!(precision), &json!("source")),
                "{key}"
            );
        }
        for (key, authors) in [
            ("a1", json!(["Ana Lima", "Bo Chen", "Cy Dahl"])),
            ("m9", json!(["Lima and Chen", "Barnes AND Noble"])),
        ] {
            assert_eq!(by_key(&home, key).await["authors"], authors, "{key}");
        }
        let title = "Dashes @onlineand a line like an entry's first";
        assert_eq!(by_key(&home, "m8").await["title"], title);
    });
}

fn an_undated_entry_keeps_the_feeds_date() {
    block_on(async {
        let bib = "@online{k:1, title={{One}}, url={https://e.example/one}}\n@online{k:2, title={{Two}}, date={soon}, url={https://e.example/two}}";
        for order in [["rss", "bibtex"], ["bibtex", "rss"]] {
            let (upstream, home) = malpedia(bib).await;
            upstream.put(
                LATEST,
                feed(&item("http://e.example/one/", "g", "Mon, 08 Apr 2024 10:00:00 GMT")),
            );
            for way in order {
                run(&home, &format!("sync_malpedia_library_{way}")).await;
            }
            let one = by_key(&home, "k:1").await;
            assert_eq!(
                (&one["published"], &one["published_from"], &one["@timestamp"]),
                (&json!("2024-04-08T10:00:00Z"), &json!("source"), &json!("2024-04-08T10:00:00Z")),
                "{order:?}"
            );
            let two = by_key(&home, "k:2").await;
            assert_eq!(
                (&two["published"], &two["published_from"], &two["date"]),
                (&two["collected_at"], &json!("collected"), &json!("soon"))
            );
            // Its date comes, and goes again.
            upstream.put(BIB, bib.replace("{{One}}", "{{One}}, date={2024-04-03}"));
            run(&home, "sync_malpedia_library_bibtex").await;
            assert_eq!(by_key(&home, "k:1").await["published"], "2024-04-03T00:00:00Z");
            upstream.put(BIB, bib);
            run(&home, "sync_malpedia_library_bibtex").await;
            assert_eq!(by_key(&home, "k:1").await["published"], "2024-04-08T10:00:00Z");
        }
    });
}

fn dates_of_the_feed_are_read_or_kept_as_given() {
    block_on(async {
        let (upstream, home) = malpedia(fixture("library.bib")).await;
        let dates = [
            ("2024-04-08 10:00:00", Some("2024-04-08T10:00:00Z")),
            ("Mon, 08 Apr 2024 10:00:00", Some("2024-04-08T10:00:00Z")),
            ("2024-04-08T10:00:00", Some("2024-04-08T10:00:00Z")),
            ("2024-04-08", Some("2024-04-08T00:00:00Z")),
            ("soon, perhaps", None),
        ];
        let items = dates
            .iter()
            .enumerate()
            .map(|(n, (date, _))| item(&format!("https://e.example/{n}"), &format!("g{n}"), date));
        upstream.put(LATEST, feed(&items.collect::<String>()));
        let report = run(&home, "sync_malpedia_library_rss").await;
        assert_eq!(report.counts.new, 5, "{report:?}");
        for (n, (given, published)) in dates.iter().enumerate() {
            let body = one(&home, INDEX, "guid", &format!("g{n}")).await;
            match published {
                Some(published) => assert_eq!(
                    (&body["published"], &body["published_from"], &body["published_raw"]),
                    (&json!(published), &json!("source"), &Value::Null),
                    "{given}"
                ),
                None => assert_eq!(
                    (&body["published"], &body["published_from"], &body["published_raw"]),
                    (&body["collected_at"], &json!("collected"), &json!(given))
                ),
            }
        }
    });
}

fn a_feed_cut_within_a_text_is_told() {
    block_on(async {
        let whole = feed(
            &(item("https://e.example/1", "g1", "2024-04-08")
                + &item("https://e.example/2", "g2", "2024-04-08")),
        );
        for cut_at in
            ["<description>d", "pubDate>2024", "<title>One</title><link>https://e.example/2</link>"]
        {
            let (upstream, home) = malpedia(fixture("library.bib")).await;
            let at = whole.rfind(cut_at).expect("it is there") + cut_at.len();
            upstream.put(LATEST, whole[..at].to_owned());
            let report = run(&home, "sync_malpedia_library_rss").await;
            let told = report.sources[0].notes.iter().any(|note| note == "repaired: truncated");
            assert!(told && report.counts.new >= 1, "{cut_at}: {report:?}");
        }
    });
}

fn a_reference_whose_address_changes_stays_one_document() {
    block_on(async {
        let bib = |address: &str| {
            format!(
                "@online{{k:1, title={{{{One}}}}, date={{2024}}, url={{{address}}}}}\n@online{{k:2, title={{{{Two}}}}, url={{https://e.example/two}}}}"
            )
        };
        let (upstream, home) = malpedia(bib("https://e.example/old")).await;
        upstream.put(LATEST, feed(""));
        run(&home, "sync_malpedia_library_bibtex").await;
        let before = by_key(&home, "k:1").await;
        let id = before["id"].as_str().expect("an id").to_owned();
        let summary = json!({"enriched_summary": "about one"}).as_object().expect("fields").clone();
        let enrichment = Write::of(id.clone(), &ENRICHMENT, summary);
        home.home.documents.upsert(index(INDEX), &[enrichment]).await.expect("it is written");
        for address in ["https://moved.example/new", "https://moved.example/newer"] {
            upstream.put(BIB, bib(address));
            let report = run(&home, "sync_malpedia_library_bibtex").await;
            assert_eq!((report.counts.new, report.counts.changed), (0, 1), "{report:?}");
            let one = by_key(&home, "k:1").await;
            assert_eq!(
                (
                    &one["link"],
                    &one["link_canonical"],
                    &one["id"],
                    &one["enriched_summary"],
                    &one["active"]
                ),
                (&json!(address), &json!(address), &json!(id), &json!("about one"), &json!(true))
            );
            assert_eq!(library(&home).await.len(), 2);
            let again = run(&home, "sync_malpedia_library_bibtex").await;
            assert_eq!(again.writes(), 0, "{again:?}");
        }
        // The feed meets it under its new address, and by its key where it has a newer one.
        for (address, new) in [
            ("https://moved.example/newer", 0),
            ("https://moved.example/newest", 0),
            ("https://e.example/three", 1),
        ] {
            let guid = if new == 0 { "k:1" } else { "k:3" };
            upstream.put(LATEST, feed(&item(address, guid, "2024-04-08")));
            let report = run(&home, "sync_malpedia_library_rss").await;
            assert_eq!(report.counts.new, new, "{address}: {report:?}");
        }
        assert_eq!(library(&home).await.len(), 3);
        // An address that another reference takes over is that one's.
        upstream.put(BIB, "@online{k:1, title={{One}}, date={2024}, url={https://e.example/two}}\n@online{k:2, title={{Two}}, url={https://e.example/four}}");
        run(&home, "sync_malpedia_library_bibtex").await;
        let active: Vec<Value> = library(&home)
            .await
            .into_iter()
            .filter(|body| body["active"] == true && !body["bibtex_key"].is_null())
            .map(|body| json!([body["bibtex_key"], body["link"]]))
            .collect();
        assert_eq!(active.len(), 2, "{active:?}");
        for pair in
            [json!(["k:1", "https://e.example/two"]), json!(["k:2", "https://e.example/four"])]
        {
            assert!(active.contains(&pair), "{active:?}");
        }
    });
}

fn what_left_the_bibliography_is_marked() {
    block_on(async {
        let entry = |n: u32| {
            format!(
                "@online{{k:{n}, title={{{{T{n}}}}}, date={{2024}}, url={{https://e.example/{n}}}}}\n"
            )
        };
        let all: String = (1..=6).map(entry).collect();
        let (upstream, home) = malpedia(all.clone()).await;
        run(&home, "sync_malpedia_library_full").await;
        let active = async |home: &TestHome| {
            let mut keys: Vec<String> = library(home)
                .await
                .iter()
                .filter(|body| body["active"] == true)
                .filter_map(|body| body["bibtex_key"].as_str().map(ToOwned::to_owned))
                .collect();
            keys.sort();
            keys.join(" ")
        };
        assert_eq!(active(&home).await, "k:1 k:2 k:3 k:4 k:5 k:6");
        // One left, one is malformed, which is there still.
        upstream.put(BIB, all.replace(&entry(2), "").replace("{{T3}}", "{{T3}"));
        let report = run(&home, "sync_malpedia_library_bibtex").await;
        assert_eq!((report.counts.rejected, report.counts.changed), (1, 0), "{report:?}");
        assert_eq!(active(&home).await, "k:1 k:3 k:4 k:5 k:6");
        // It comes back; a text that was cut off marks nothing.
        upstream.put(BIB, all.clone());
        run(&home, "sync_malpedia_library_bibtex").await;
        assert_eq!(active(&home).await, "k:1 k:2 k:3 k:4 k:5 k:6");
        upstream.put(BIB, all[..all.find("T5").expect("it is there")].to_owned());
        let report = run(&home, "sync_malpedia_library_bibtex").await;
        assert!(
            report
                .sources
                .iter()
                .any(|one| one.notes.iter().any(|note| note.contains("nothing is marked"))),
            "{report:?}"
        );
        assert_eq!(active(&home).await, "k:1 k:2 k:3 k:4 k:5 k:6");
        // What the feed alone gave never was in it.
        assert_eq!(library(&home).await.iter().filter(|body| body["active"] == true).count(), 8);
    });
}

fn without_the_bibliography_the_run_has_failed() {
    block_on(async {
        let upstream = Upstream::start().await;
        upstream.put(REFERENCES, fixture("references.json"));
        upstream.put(LATEST, fixture("latest.xml"));
        upstream.lack(BIB);
        let home = crate::malpedia::home(upstream.origin(), &[]).await;
        let report = run(&home, "sync_malpedia_library_bibtex").await;
        assert_eq!(
            (report.status, report.sources[1].outcome),
            (Status::Failed, Outcome::NotFound),
            "{report:?}"
        );
        assert!(report.error.is_some());
        // The feed was read and stored.
        let report = run(&home, "sync_malpedia_library_full").await;
        assert_eq!((report.status, report.counts.new), (Status::Partial, 2), "{report:?}");
    });
}

fn a_changed_list_of_references_is_joined_to_an_unchanged_bibliography() {
    block_on(async {
        let (upstream, home) =
            malpedia("@online{k:1, title={{One}}, date={2024}, url={https://e.example/one}}").await;
        upstream.answer(Answer::Good);
        let cites = |id: &str| {
            format!(
                r#"{{"https://e.example/one": [{{"type":"family","id":"{id}","common_name":"X"}}]}}"#
            )
        };
        upstream.put(REFERENCES, cites("win.a"));
        for (id, changed) in [("win.a", 0), ("win.b", 1), ("win.b", 0), ("win.c", 1)] {
            upstream.put(REFERENCES, cites(id));
            let report = run(&home, "sync_malpedia_library_bibtex").await;
            let is_first = report.counts.new == 1;
            assert_eq!(
                (report.status, report.counts.changed),
                (Status::Complete, if is_first { 0 } else { changed }),
                "{id}: {report:?}"
            );
            assert_eq!(by_key(&home, "k:1").await["family_ids"], json!([id]));
        }
        let report = run(&home, "sync_malpedia_library_bibtex").await;
        assert_eq!(report.sources[1].outcome, Outcome::NotModified, "{report:?}");
        // Where the bibliography could not be had when the list changed, the next run joins them.
        upstream.put(REFERENCES, cites("win.d"));
        upstream.put(BIB, "<html>not now</html>");
        let report = run(&home, "sync_malpedia_library_bibtex").await;
        assert_eq!(report.status, Status::Failed, "{report:?}");
        upstream.put(BIB, "@online{k:1, title={{One}}, date={2024}, url={https://e.example/one}}");
        run(&home, "sync_malpedia_library_bibtex").await;
        assert_eq!(by_key(&home, "k:1").await["family_ids"], json!(["win.d"]));
    });
}

fn each_new_reference_is_written_once() {
    block_on(async {
        let (upstream, home) = malpedia(fixture("library.bib")).await;
        upstream.put(LATEST, feed(&item("https://e.example/new", "g", "2024-04-08")));
        let report = run(&home, "sync_malpedia_library_full").await;
        assert_eq!((report.counts.new, report.counts.changed), (22, 0), "{report:?}");
        for body in library(&home).await {
            assert_eq!(body["revision"], 1, "{body:?}");
        }
        assert_eq!(home.home.documents.sequence(index(INDEX)).await.expect("it counts"), 22);
    });
}

/// The home's folder with its families and actors from this upstream.
async fn by_api(home: TestHome, upstream: &Upstream) -> TestHome {
    reopened(
        home,
        &[("MALPEDIA_URL", upstream.origin()), ("MINERVA_CLOCK", "2026-11-23T12:00:00Z")],
    )
    .await
}

async fn reopened(home: TestHome, settings: &[(&str, &str)]) -> TestHome {
    let settings: Vec<_> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let families = [FAMILY.settings, signature_base::FAMILY.settings];
    TestHome::open(home.folder, &settings, &families).await.expect("it opens")
}

/// Runs a task under the next request that the home has not seen: those of a home that is opened again begin anew.
async fn run_anew(home: &TestHome, name: &str) -> Report {
    loop {
        let report = run(home, name).await;
        if report.status != Status::Skipped {
            return report;
        }
    }
}

async fn api(families: &str, actors: &str, version: u32) -> Upstream {
    let upstream = Upstream::start().await;
    upstream.answer(Answer::Unconditional);
    upstream.put("/api/get/version", format!(r#"{{"version": {version}}}"#));
    upstream.put("/api/get/families", families.to_owned());
    upstream.put("/api/get/actors", actors.to_owned());
    for day in ["1970-01-01", "2026-11-22"] {
        upstream.put(&format!("/api/get/yara/after/{day}"), r#"{"tlp_white": {}}"#);
    }
    upstream
}

fn no_field_is_lost_between_files_and_api() {
    block_on(async {
        let place = tempfile::tempdir().expect("a folder");
        let (families, actors) =
            (place.path().join("families_enriched"), place.path().join("actors_enriched"));
        write(
            &families,
            "win.vidar.json",
            r#"{"name": "win.vidar", "url": "https://m.example/details/win.vidar", "aka": ["Arkei fork"], "description": "by file",
            "referencias": [{"desc": "A", "url": "https://e.example/a"}], "descricao": "Ladrão", "status": "unpacked", "library_entries": ["k:1"]}"#,
        );
        write(
            &actors,
            "x.json",
            r#"{"name": "Mud", "urls": ["https://m.example/actor/mud", "https://e.example"], "country": "Iran", "synonyms": ["Seed"], "mitre_ids": ["G1"]}"#,
        );
        let settings = place.path().to_string_lossy().into_owned();
        let with_files = home(&[("MALPEDIA_DIR", &settings)]).await;
        run(&with_files, "sync_malpedia_all_to_es").await;
        let first = (
            one(&with_files, "malpedia_families", "family_id", "win.vidar").await,
            one(&with_files, "malpedia_actors", "actor_id", "mud").await,
        );

        let upstream = api(
            r#"{"win.vidar": {"common_name": "Vidar", "alt_names": [], "description": "by API", "urls": [], "updated": ""}}"#,
            r#"{"mud": {"value": "Mud", "description": "by API", "meta": {}, "families": {}}}"#,
            1,
        ).await;
        let home = by_api(with_files, &upstream).await;
        let report = run_anew(&home, "sync_malpedia_all_to_es").await;
        assert_eq!(report.status, Status::Complete, "{report:?}");
        let family = one(&home, "malpedia_families", "family_id", "win.vidar").await;
        for field in ["url", "aka", "referencias", "descricao", "status", "library_entries"] {
            assert_eq!(family[field], first.0[field], "{field}");
        }
        assert_eq!(
            (&family["common_name"], &family["description"]),
            (&json!("Vidar"), &json!("by API"))
        );
        let actor = one(&home, "malpedia_actors", "actor_id", "mud").await;
        for field in ["url", "urls", "country", "country_name", "aka", "mitre_ids"] {
            assert_eq!(actor[field], first.1[field], "{field}");
        }
        let again = run_anew(&home, "sync_malpedia_all_to_es").await;
        assert_eq!(again.writes(), 0, "{again:?}");
        // What the API says and then says no more is gone.
        upstream.put("/api/get/version", r#"{"version": 2}"#);
        upstream.put(
            "/api/get/families",
            r#"{"win.vidar": {"common_name": "Vidar", "alt_names": [], "urls": []}}"#,
        );
        run_anew(&home, "sync_malpedia_all_to_es").await;
        let family = one(&home, "malpedia_families", "family_id", "win.vidar").await;
        assert_eq!((&family["aka"], &family["description"]), (&first.0["aka"], &Value::Null));
        // Back to the files, which did not change: they say what they said.
        let folder = [("MALPEDIA_DIR".to_owned(), settings.clone())];
        let families_settings = [FAMILY.settings, signature_base::FAMILY.settings];
        let home =
            TestHome::open(home.folder, &folder, &families_settings).await.expect("it opens");
        run_anew(&home, "sync_malpedia_all_to_es").await;
        let family = one(&home, "malpedia_families", "family_id", "win.vidar").await;
        for field in [
            "url",
            "aka",
            "referencias",
            "descricao",
            "status",
            "library_entries",
            "common_name",
            "description",
        ] {
            assert_eq!(family[field], first.0[field], "{field}");
        }
        let again = run_anew(&home, "sync_malpedia_all_to_es").await;
        assert_eq!(again.writes(), 0, "{again:?}");
    });
}

fn a_malformed_record_costs_itself() {
    block_on(async {
        let deep =
            format!(r#"{{"description": "d", "odd": {}{}}}"#, "[".repeat(500), "]".repeat(500));
        let upstream = api(
            r#"{"win.a": {"description": "a"}, "win.b": {"description": "b"}, "win.c": {"description": "c"}}"#,
            r#"{"mud": {"value": "Mud"}}"#,
            1,
        ).await;
        let home = by_api(home(&[]).await, &upstream).await;
        run(&home, "sync_malpedia_all_to_es").await;
        for (n, odd) in [
            "7",
            "null",
            r#"{"description": "\ud800"}"#,
            r#"{"n": 1E400}"#,
            r#"{"description": x}"#,
        ]
        .iter()
        .enumerate()
        {
            upstream.put("/api/get/version", format!(r#"{{"version": {}}}"#, n + 2));
            // One record is malformed, one is new, one deep, and one left.
            upstream.put(
                "/api/get/families",
                format!(
                    r#"{{"win.b": {odd}, "win.deep": {deep}, "win.c": {{"description": "{n}"}}}}"#
                ),
            );
            let report = run(&home, "sync_malpedia_families_to_es").await;
            assert_eq!((report.counts.found, report.counts.rejected), (3, 1), "{odd}: {report:?}");
            assert!(report.rejects[0].reason.starts_with("win.b: "), "{report:?}");
            for (id, is_active) in
                [("win.a", false), ("win.b", true), ("win.c", true), ("win.deep", true)]
            {
                let body = one(&home, "malpedia_families", "family_id", id).await;
                assert_eq!(body["active"], is_active, "{odd}: {id}");
            }
            assert_eq!(
                one(&home, "malpedia_families", "family_id", "win.c").await["description"],
                n.to_string()
            );
        }
        // A body that is cut off keeps what came, says so, and marks nothing.
        upstream.put("/api/get/version", r#"{"version": 99}"#);
        upstream.put("/api/get/families", r#"{"win.new": {"description": "n"}, "win.c": {"descr"#);
        let report = run(&home, "sync_malpedia_families_to_es").await;
        assert_eq!(
            (report.counts.new, report.sources[0].outcome),
            (1, Outcome::Truncated),
            "{report:?}"
        );
        assert_eq!(one(&home, "malpedia_families", "family_id", "win.c").await["active"], true);
    });
}

fn above_a_limit_records_are_counted() {
    block_on(async {
        let (most, more) = (50_000, 10_000);
        let families = (0..most + more).map(|n| format!(r#""win.f{n}":{{}},"#)).collect::<String>();
        let upstream = api(&format!(r#"{{{families}"win.last":7}}"#), "{}", 1).await;
        let home = by_api(home(&[]).await, &upstream).await;
        let sync = crate::malpedia::task("sync_malpedia_families_to_es");
        let time = std::time::Duration::from_secs(300);
        let counts = home.run_within(sync, Value::Null, time).await.counts;
        assert_eq!((counts.found, counts.new, counts.rejected), (most + more + 1, most, more + 1));
    });
}

fn names_addresses_and_countries_are_right() {
    block_on(async {
        let upstream = api(
            r#"{"win.vidar": {"common_name": "", "alt_names": ["First", "Vidar"], "sources": ["s"]}, "win.x-y": {"common_name": "", "alt_names": ["Other", "Another"]}}"#,
            r#"{"sofacy": {"value": "APT28", "meta": {"country": "RU", "origin:Earth Vetala": "o"}, "related": [{"dest-uuid": "u"}]},
                "mud": {"value": "Mud", "meta": {"country": "Iran (Islamic Republic of)"}}, "none": {"value": "None", "meta": {"country": "Atlantis"}},
                "two": {"value": "Two", "meta": {"country": "China, Coreia do Norte"}}}"#,
            1,
        ).await;
        let home = by_api(home(&[]).await, &upstream).await;
        run(&home, "sync_malpedia_all_to_es").await;
        let page = |path: &str| json!(format!("{}/{path}", upstream.origin()));
        let family = one(&home, "malpedia_families", "family_id", "win.vidar").await;
        assert_eq!(
            (&family["common_name"], &family["url"], &family["extra"]),
            (&json!("Vidar"), &page("details/win.vidar"), &json!({"sources": ["s"]}))
        );
        let family = one(&home, "malpedia_families", "family_id", "win.x-y").await;
        assert_eq!(
            (&family["common_name"], &family["url"]),
            (&json!("win.x-y"), &page("details/win.x-y"))
        );
        for (id, country, name) in [
            ("sofacy", json!("RU"), Value::Null),
            ("mud", json!("IR"), json!("Iran (Islamic Republic of)")),
            ("none", Value::Null, json!("Atlantis")),
            ("two", json!(["CN", "KP"]), json!("China, Coreia do Norte")),
        ] {
            let actor = one(&home, "malpedia_actors", "actor_id", id).await;
            assert_eq!(
                (&actor["country"], &actor["country_name"], &actor["url"]),
                (&country, &name, &page(&format!("actor/{id}"))),
                "{id}"
            );
        }
        let actor = one(&home, "malpedia_actors", "actor_id", "sofacy").await;
        assert_eq!(
            actor["extra"],
            json!({"related": [{"dest-uuid": "u"}], "meta": {"origin:Earth Vetala": "o"}})
        );

        let place = tempfile::tempdir().expect("a folder");
        write(
            &place.path().join("actors_enriched"),
            "a.json",
            r#"{"name": "Bear", "atribuicao_pais": "Rússia", "mitre_ids": ["G0016"], "last_activity": "2024-05",
            "ferramentas": {"uso": ["a"]}, "risco": 7}"#,
        );
        let settings = place.path().to_string_lossy().into_owned();
        let home = crate::malpedia_catalogue::home(&[("MALPEDIA_DIR", &settings)]).await;
        run(&home, "sync_malpedia_actors_to_es").await;
        let actor = one(&home, "malpedia_actors", "actor_id", "bear").await;
        for (field, value) in [
            ("country", json!("RU")),
            ("country_name", json!("Rússia")),
            ("atribuicao_pais", json!("Rússia")),
            ("mitre_ids", json!(["G0016"])),
            ("last_activity", json!("2024-05")),
            ("extra", json!({"ferramentas": {"uso": ["a"]}, "risco": 7})),
        ] {
            assert_eq!(actor[field], value, "{field}");
        }
    });
}
