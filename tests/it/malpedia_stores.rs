//! Malpedia's syncs on real servers, held against the embedded store; and documents of the predecessor, which meet them.

use std::collections::BTreeMap;

use base::report::{Report, Status};
use serde_json::{Value, json};
use stores::documents::{Body, Index, Pages, Scan};
use task::testing::{Answer, TestHome, Upstream};

use crate::adopt::fill;
use crate::documents::{Check, Place, block_on};
use crate::home::Home;
use crate::malpedia::{BIB, LATEST, REFERENCES, fixture, task};
use crate::malpedia_catalogue::{actor, family, write};
use crate::servers::address;

pub(crate) const SERVER_CHECKS: &[(&str, Check)] = &[
    ("malpedia_is_stored_as_in_the_embedded_store", malpedia_is_stored_alike),
    ("adopted_malpedia_meets_its_syncs_and_stays_enriched", adopted_malpedia_meets_its_syncs),
];

/// Each sync, with the documents that it finds new: the library twice finds one of the feed's in the bibliography.
const SYNCS: [(&str, u64); 3] = [
    ("sync_malpedia_library_full", 22),
    // Each other family brings a rule.
    ("sync_malpedia_families_to_es", 36),
    ("sync_malpedia_actors_to_es", 6),
];

const INDICES: [&str; 4] =
    ["malpedia_library", "malpedia_families", "malpedia_actors", "cti_yara_rules"];

/// Documents read at a time.
const PAGE: u32 = 100;

fn index(name: &str) -> &'static Index {
    Index::named(name).expect("it is there")
}

async fn home(settings: &[(&str, &str)], more: &[(&str, String)]) -> TestHome {
    let settings: Vec<(String, String)> = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .chain(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    TestHome::open(folder, &settings, &[malpedia::FAMILY.settings]).await.expect("it opens")
}

async fn run(home: &TestHome, name: &str) -> Report {
    home.run(task(name), Value::Null).await
}

/// Every document of these indices, and how often each index was written to.
pub(crate) async fn everything(
    home: &TestHome,
    names: &[&'static str],
) -> BTreeMap<&'static str, (u64, Vec<Body>)> {
    let mut all = BTreeMap::new();
    for name in names.iter().copied() {
        let store = &home.home.documents;
        let mut bodies = Vec::new();
        let scan = Scan { limit: PAGE, ..Scan::default() };
        let mut pages = Pages::new(store.as_ref(), index(name), scan);
        while let Some(page) = pages.next().await.expect("it is read") {
            bodies.extend(page.into_iter().map(|document| document.body));
        }
        let writes = store.sequence(index(name)).await.expect("it counts");
        all.insert(name, (writes, bodies));
    }
    all
}

fn malpedia_is_stored_alike(place: &mut Place) {
    let folder = tempfile::tempdir().expect("a folder");
    for n in 0..24 {
        let families = folder.path().join("families_enriched");
        write(&families, &format!("family {n}.json"), &family(n));
    }
    for n in 0..6 {
        write(&folder.path().join("actors_enriched"), &format!("Actor {n}.json"), &actor(n));
    }
    block_on(async {
        let upstream = Upstream::start().await;
        upstream.answer(Answer::Unconditional);
        for (path, name) in
            [(BIB, "library.bib"), (REFERENCES, "references.json"), (LATEST, "latest.xml")]
        {
            upstream.put(path, fixture(name));
        }
        let files = folder.path().to_string_lossy();
        let settings = [
            ("MALPEDIA_URL", upstream.origin()),
            ("MALPEDIA_DIR", &*files),
            ("MINERVA_CLOCK", "2026-11-23T12:00:00Z"),
        ];
        let server = [
            ("ES_URL", address(place).to_string()),
            ("ES_INDEX_PREFIX", place.stores.es_index_prefix.clone()),
        ];
        let (embedded, server) = (home(&settings, &[]).await, home(&settings, &server).await);
        let mut before = BTreeMap::new();
        for round in 0..2 {
            for (name, new) in SYNCS {
                let (ours, theirs) = (run(&embedded, name).await, run(&server, name).await);
                let counts = theirs.counts;
                assert_eq!((theirs.status, counts), (Status::Complete, ours.counts), "{theirs:?}");
                assert_eq!(
                    (counts.new, counts.rejected, counts.failed),
                    (if round == 0 { new } else { 0 }, 0, 0),
                    "{name}: {theirs:?}"
                );
                assert!(round == 0 || theirs.writes() == 0, "{name}: {theirs:?}");
            }
            let all = everything(&server, &INDICES).await;
            for (name, (_, bodies)) in everything(&embedded, &INDICES).await {
                assert_eq!(all[name].1, bodies, "{name} in round {round}");
            }
            if round == 1 {
                assert_eq!(all, before, "the second round wrote nothing");
            }
            before = all;
        }
        let sizes = INDICES.map(|name| before[name].1.len());
        assert_eq!(sizes, [22, 24, 6, 12]);
    });
}

/// By the commands, as a person would: adopt, sync, sync again.
fn adopted_malpedia_meets_its_syncs(place: &mut Place) {
    let folder = tempfile::tempdir().expect("a folder");
    let (families, actors) =
        (folder.path().join("families_enriched"), folder.path().join("actors_enriched"));
    write(
        &families,
        "GlassHeron.json",
        r#"{"name": "GlassHeron", "url": "https://m.example/details/win.glass_heron", "os": "Windows", "actors": ["PAPER FALCON"]}"#,
    );
    write(&families, "b.json", r#"{"name": "win.brass", "description": "A stealer."}"#);
    write(&families, "c.json", r#"{"name": "win.fresh"}"#);
    write(
        &actors,
        "a.json",
        r#"{"name": "PAPER FALCON", "urls": ["https://m.example/actor/paper_falcon"], "families": ["win.brass"]}"#,
    );
    let bib = "@online{k:2024:one:1, title={{One}}, date={2024}, url={https://e.example/one/}}\n\
               @online{k:2024:two:2, title={{Two}}, date={2024}}\n\
               @online{k:2024:new:3, title={{New}}, date={2024}, url={https://e.example/new}}\n";
    let upstream = crate::home::Upstream::start(1);
    let library = upstream.body("library/download", bib);
    upstream.body("api/get/references", "{}");
    let base = library.strip_suffix("/library/download").expect("it ends so");
    let home = Home::of(&[])
        .with("ES_URL", address(place).as_str())
        .with("ES_INDEX_PREFIX", &place.stores.es_index_prefix)
        .with("MALPEDIA_URL", base)
        .with("MALPEDIA_DIR", folder.path().to_string_lossy());
    let old = [
        (
            "malpedia_families",
            vec![
                json!({"content_hash": "f1", "name": "GlassHeron", "url": "https://m.example/details/win.glass_heron",
                    "descricao": "Carregador", "actors": ["Old Owl"], "os": "Windows", "aka": null}),
                json!({"content_hash": "f2", "name": "win.brass", "descricao": "Ladrão", "actors": []}),
                json!({"content_hash": "f3", "name": "Gone", "descricao": "Não está mais"}),
            ],
        ),
        (
            "malpedia_actors",
            vec![
                json!({"content_hash": "a1", "name": "PAPER FALCON", "url": "https://m.example/actor/paper_falcon",
                "explicacao": "Grupo", "familias_relacionadas": ["win.old"]}),
            ],
        ),
        (
            "malpedia_library",
            vec![
                json!({"content_hash": "l1", "title": "One", "link": "http://e.example/one", "bibtex_key": "k:2024:one:1",
                    "enriched_summary": "About one", "enriched_at": "2026-03-01T00:00:00Z", "enrichment_version": "1.0",
                    "actors_mentioned": ["Paper Falcon"], "families_mentioned": ["win.brass"], "tags": ["kept"]}),
                json!({"content_hash": "l2", "title": "Two", "link": format!("{base}/library"), "bibtex_key": "k:2024:two:2",
                    "enriched_summary": "About two", "enriched_at": "2026-03-01T00:00:00Z"}),
            ],
        ),
    ];
    for (name, documents) in &old {
        fill(place, &place.named(name), documents);
        let done = home.run(&["adopt", &place.named(name), "--json"]).ends_with(0).json();
        assert_eq!(
            (&done["state"], &done["renamed"]),
            (&json!("adopted"), &json!(documents.len())),
            "{done}"
        );
    }
    for (name, new, changed) in [
        ("sync_malpedia_families_to_es", 1, 2),
        ("sync_malpedia_actors_to_es", 0, 1),
        ("sync_malpedia_library_bibtex", 1, 2),
    ] {
        let report = home.report(&[name]);
        assert_eq!(
            (&report["status"], &report["new"], &report["changed"]),
            (&json!("complete"), &json!(new), &json!(changed)),
            "{name}: {report}"
        );
    }
    let all = |name: &str| crate::adopt::everything(place, &place.named(name));
    let one = |name: &str, field: &str, value: &str| {
        let found = all(name).into_values().find(|body| body[field] == value);
        found.unwrap_or_else(|| panic!("no `{value}` in {name}"))
    };
    let sizes = INDICES.map(|name| all(name).len());
    assert_eq!(sizes, [3, 4, 1, 0], "nothing stands twice");
    let heron = one("malpedia_families", "family_id", "win.glass_heron");
    assert_eq!((&heron["descricao"], &heron["active"]), (&json!("Carregador"), &json!(true)));
    let mut named: Vec<&str> =
        heron["actors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    named.sort_unstable();
    assert_eq!(named, ["Old Owl", "PAPER FALCON"]);
    let brass = one("malpedia_families", "family_id", "win.brass");
    assert_eq!(
        (&brass["descricao"], &brass["description"]),
        (&json!("Ladrão"), &json!("A stealer."))
    );
    assert_eq!(one("malpedia_families", "name", "Gone")["descricao"], "Não está mais");
    let falcon = one("malpedia_actors", "actor_id", "paper_falcon");
    assert_eq!(
        (&falcon["explicacao"], &falcon["families"]),
        (&json!("Grupo"), &json!(["win.brass", "win.glass_heron"]))
    );
    assert!(
        falcon["familias_relacionadas"]
            .as_array()
            .is_some_and(|all| all.contains(&json!("win.old"))),
        "{falcon}"
    );
    let met = one("malpedia_library", "bibtex_key", "k:2024:one:1");
    for (field, value) in [
        ("enriched_summary", json!("About one")),
        ("enriched_at", json!("2026-03-01T00:00:00Z")),
        ("enrichment_version", json!("1.0")),
        ("actors_mentioned", json!(["Paper Falcon"])),
        ("families_mentioned", json!(["win.brass"])),
        ("link", json!("https://e.example/one/")),
    ] {
        assert_eq!(met[field], value, "{field}: {met}");
    }
    assert!(met["tags"].as_array().is_some_and(|tags| tags.contains(&json!("kept"))), "{met}");
    let two = one("malpedia_library", "bibtex_key", "k:2024:two:2");
    assert_eq!((&two["enriched_summary"], &two["date"]), (&json!("About two"), &json!("2024")));
    let before = INDICES.map(all);
    for name in ["sync_malpedia_all_to_es", "sync_malpedia_library_bibtex"] {
        let report = home.report(&[name]);
        assert_eq!((&report["new"], &report["changed"]), (&json!(0), &json!(0)), "{report}");
    }
    assert_eq!(INDICES.map(all), before);
}
