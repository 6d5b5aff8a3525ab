//! Rules of families beside those of another source: stored once, left when nobody has them, linked both ways, exported together.

use std::collections::BTreeMap;
use std::time::Duration;

use base::report::{Outcome, Report, Status};
use serde_json::{Value, json};
use stores::documents::Body;
use task::testing::{Answer, TestHome, Upstream};

use crate::documents::block_on;
use crate::malpedia_catalogue::{home, index, one, run, write};
use crate::yara::tarball_of;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("rules_of_families_come_stay_and_leave", rules_of_families_come_stay_and_leave),
    ("rules_and_families_of_two_sources_name_each_other", rules_and_families_name_each_other),
    ("the_api_gives_rules_in_one_call_and_only_when_it_grew", the_api_gives_rules_in_one_call),
];

const INDEX: &str = "cti_yara_rules";

async fn rules(home: &TestHome) -> BTreeMap<String, Body> {
    let documents = home.documents(index(INDEX)).await.expect("they are read");
    let name = |body: &Body| body["name"].as_str().unwrap_or_default().to_owned();
    documents.into_iter().map(|one| (name(&one.body), one.body)).collect()
}

async fn writes(home: &TestHome) -> u64 {
    let mut sum = 0;
    for name in [INDEX, "malpedia_families"] {
        sum += home.home.documents.sequence(index(name)).await.expect("it counts");
    }
    sum
}

fn source<'r>(report: &'r Report, name: &str) -> &'r base::report::SourceReport {
    report.sources.iter().find(|source| source.source == name).expect("it reports")
}

const AUTO: &str = "rule win_a_auto { meta: malpedia_license = \"CC BY-SA 4.0\" malpedia_sharing = \"TLP:WHITE\" date = \"2024-01-02\" condition: false }";
const BOTH: &str = "rule both { strings: $a = \"x\" condition: $a }";

fn rules_of_families_come_stay_and_leave() {
    block_on(async {
        let place = tempfile::tempdir().expect("a folder");
        let families = place.path().join("families_enriched");
        let family = |id: &str, rules: Value| {
            write(
                &families,
                &format!("{id}.json"),
                &json!({"name": id, "yara_rules": rules}).to_string(),
            );
        };
        family(
            "win.a",
            json!([{"name": "n", "tlp": "TLP:AMBER", "content": AUTO}, BOTH, "https://e.test/rule.yar"]),
        );
        family(
            "win.b",
            json!([BOTH, "rule broken { condition: $none }", "// nothing but a comment"]),
        );
        family(
            "win.c",
            json!([{"nome": "c", "tlp": "odd", "conteudo": "rule c { condition: true }"}]),
        );
        let home = home(&[("MALPEDIA_DIR", &place.path().to_string_lossy())]).await;
        let first = run(&home, "sync_malpedia_families_to_es").await;
        assert_eq!(first.status, Status::Complete, "{first:?}");
        let told = source(&first, "rules");
        assert_eq!(
            (told.index.as_str(), told.counts.found, told.counts.new, told.counts.merged),
            (INDEX, 6, 4, 1),
            "{told:?}"
        );
        assert_eq!(told.counts.rejected, 1, "{:?}", first.rejects);
        assert!(first.rejects[0].reason.starts_with("win.b: "), "{:?}", first.rejects);
        let stored = rules(&home).await;
        let auto = &stored["win_a_auto"];
        assert_eq!(
            (&auto["source"], &auto["families"], &auto["tlp"], &auto["license"]),
            (&json!("malpedia"), &json!(["win.a"]), &json!("amber"), &json!("CC BY-SA 4.0"))
        );
        assert_eq!(
            (&auto["source_file"], &auto["license_from"], &auto["verdict"], &auto["rule_content"]),
            (&json!("win.a"), &json!("rule"), &json!("compiles"), &json!(AUTO))
        );
        assert_eq!(stored["both"]["families"], json!(["win.a", "win.b"]));
        assert_eq!(stored["broken"]["verdict"], "broken");
        assert_eq!(stored["c"]["tlp"], "red", "a word that nobody knows opens nothing");

        // Nothing changed: no file is opened, nothing is written, every rule stays.
        let before = writes(&home).await;
        let second = run(&home, "sync_malpedia_families_to_es").await;
        assert_eq!((second.status, second.writes()), (Status::Complete, 0), "{second:?}");
        assert_eq!(second.detail["rules"]["left"], 0);
        assert_eq!(writes(&home).await, before);

        // One family is gone, one gives up a rule, one is as it was.
        std::fs::remove_file(families.join("win.b.json")).expect("it is removed");
        family("win.a", json!([BOTH]));
        let third = run(&home, "sync_malpedia_families_to_es").await;
        assert_eq!(third.detail["rules"]["left"], 2, "{third:?}");
        let stored = rules(&home).await;
        let active = |name: &str| stored[name]["active"] == true;
        assert_eq!(
            (active("win_a_auto"), active("broken"), active("both"), active("c")),
            (false, false, true, true)
        );
        assert_eq!(stored["both"]["families"], json!(["win.a"]));
        assert_eq!(stored["win_a_auto"]["rule_content"], AUTO, "what left is kept");
        let body = one(&home, "malpedia_families", "family_id", "win.a").await;
        assert_eq!(body["yara_rule_names"], json!(["both"]));
        let body = one(&home, "malpedia_families", "family_id", "win.b").await;
        assert_eq!((&body["yara_rule_ids"], &body["yara_rules_count"]), (&Value::Null, &json!(0)));

        // A folder without any file is no complete listing.
        std::fs::remove_dir_all(&families).expect("it is removed");
        let failed = run(&home, "sync_malpedia_families_to_es").await;
        assert_eq!(failed.status, Status::Failed, "{failed:?}");
        assert_eq!(rules(&home).await, stored);
    });
}

fn rules_and_families_name_each_other() {
    block_on(async {
        let place = tempfile::tempdir().expect("a folder");
        let families = place.path().join("families_enriched");
        write(
            &families,
            "win.a.json",
            &json!({"name": "win.a", "aka": ["Alias One", "Twins"], "yara_rules": [AUTO, "rule Equal { condition: true }"]}).to_string(),
        );
        write(&families, "win.b.json", r#"{"name": "win.b", "aka": ["Twins"]}"#);
        let upstream = Upstream::start().await;
        let tarball = tarball_of(&[(
            "yara/apt_x.yar",
            "rule Equal { condition: false }\n\
             rule By_Meta { meta: malware = \"ALIAS one\" condition: true }\n\
             rule By_Tag : twins { condition: true }\n\
             rule By_Id { meta: malpedia_family = \"win.b\" condition: true }\n\
             rule Not_Whole { meta: malware = \"Alias One stealer\" condition: true }",
        )]);
        upstream.put("/t.tar.gz", tarball);
        let home = home(&[
            ("MALPEDIA_DIR", &place.path().to_string_lossy()),
            ("SIGNATURE_BASE_URL", &format!("{}/t.tar.gz", upstream.origin())),
        ])
        .await;
        let sync = async || {
            let task = signature_base::FAMILY
                .tasks
                .iter()
                .find(|task| task.name == "sync_signature_base_yara");
            home.run(task.expect("a listed task"), Value::Null).await
        };
        let first = sync().await;
        assert_eq!(first.status, Status::Complete, "{first:?}");
        let report = run(&home, "sync_malpedia_families_to_es").await;
        assert_eq!(
            (&report.detail["linked_rules"]["rules"], &report.detail["linked_rules"]["families"]),
            (&json!(5), &json!(2)),
            "{}",
            report.detail
        );
        let a = one(&home, "malpedia_families", "family_id", "win.a").await;
        assert_eq!(
            (&a["yara_rule_names"], &a["yara_rules_count"]),
            (&json!(["By_Meta", "By_Tag", "Equal", "win_a_auto"]), &json!(4))
        );
        assert_eq!(a["yara_rule_ids"].as_array().map(Vec::len), Some(4));
        let b = one(&home, "malpedia_families", "family_id", "win.b").await;
        assert_eq!(b["yara_rule_names"], json!(["By_Id", "By_Tag"]));
        let stored = rules(&home).await;
        assert_eq!(stored["By_Meta"]["families"], json!(["ALIAS one", "win.a"]));
        assert_eq!(stored["By_Tag"]["families"], json!(["win.a", "win.b"]));
        assert_eq!(stored["Not_Whole"]["families"], json!(["Alias One stealer"]));

        // Both again, and a record that changed: the links stay, and equal ones are not written.
        let before = writes(&home).await;
        run(&home, "sync_malpedia_families_to_es").await;
        sync().await;
        assert_eq!(writes(&home).await, before);
        write(&families, "win.b.json", r#"{"name": "win.b", "aka": ["Twins"], "notes": "n"}"#);
        run(&home, "sync_malpedia_families_to_es").await;
        let b = one(&home, "malpedia_families", "family_id", "win.b").await;
        assert_eq!(
            (&b["yara_rule_names"], &b["notes"]),
            (&json!(["By_Id", "By_Tag"]), &json!(["n"]))
        );
        let stats = run(&home, "get_malpedia_library_stats").await;
        assert_eq!(stats.detail["families_with_rules"], 2);

        // Equal names of both sources are two documents.
        let documents = home.documents(index(INDEX)).await.expect("they are read");
        let equal = documents.iter().filter(|one| one.body["name"] == "Equal").count();
        assert_eq!((documents.len(), equal), (7, 2));
        // A rule that left its source is of no family any more.
        upstream
            .put("/t.tar.gz", tarball_of(&[("yara/apt_x.yar", "rule Equal { condition: false }")]));
        let report = sync().await;
        assert_eq!(report.detail["rules"]["left"], 4, "{report:?}");
        let b = one(&home, "malpedia_families", "family_id", "win.b").await;
        assert_eq!((&b["yara_rule_ids"], &b["yara_rules_count"]), (&Value::Null, &json!(0)));
        let by_meta = &rules(&home).await["By_Meta"];
        assert_eq!(
            (&by_meta["families"], &by_meta["active"]),
            (&json!(["ALIAS one"]), &json!(false))
        );
    });
}

fn the_api_gives_rules_in_one_call() {
    block_on(async {
        let upstream = Upstream::start().await;
        upstream.answer(Answer::Unconditional);
        let settings =
            [("MALPEDIA_URL", upstream.origin()), ("MINERVA_CLOCK", "2026-11-23T12:00:00Z")];
        let home = home(&settings).await;
        let version = |number: u32| {
            upstream.put("/api/get/version", json!({"version": number}).to_string());
        };
        let sync = async || {
            let asked = upstream.requests().len();
            let report = home
                .run_within(
                    crate::malpedia::task("sync_malpedia_families_to_es"),
                    Value::Null,
                    Duration::from_secs(60),
                )
                .await;
            (report, upstream.requests().len() - asked)
        };
        version(1);
        upstream.put(
            "/api/get/families",
            r#"{"win.a": {"common_name": "A"}, "win.b": {"common_name": "B"}}"#,
        );
        upstream.put(
            "/api/get/yara/after/1970-01-01",
            json!({"tlp_white": {"win.a_auto.yar": AUTO}, "tlp_amber": [{"win.b_w0.yar": BOTH}]})
                .to_string(),
        );
        let (first, asked) = sync().await;
        assert_eq!((first.status, asked), (Status::Complete, 3), "{first:?}");
        let stored = rules(&home).await;
        assert_eq!(
            (&stored["win_a_auto"]["families"], &stored["win_a_auto"]["tlp"]),
            (&json!(["win.a"]), &json!("clear"))
        );
        assert_eq!(
            (&stored["both"]["families"], &stored["both"]["tlp"]),
            (&json!(["win.b"]), &json!("amber"))
        );
        let a = one(&home, "malpedia_families", "family_id", "win.a").await;
        assert_eq!(a["yara_rule_names"], json!(["win_a_auto"]));

        // The same version: neither families nor rules are asked for.
        let (second, asked) = sync().await;
        assert_eq!((second.writes(), asked), (0, 1), "{second:?}");

        // It grew: what is new since then, and what is not named stays.
        version(2);
        let since = |body: &str| {
            upstream.put("/api/get/yara/after/2026-11-22", body.to_owned());
        };
        since(r#"[{"tlp_white": [{"win.b_auto.yar": "rule win_b_auto { condition: both }"}]}]"#);
        let (third, asked) = sync().await;
        let counts = source(&third, "rules").counts;
        assert_eq!((counts.new, counts.unchanged, asked), (1, 1, 3), "{third:?}");
        let stored = rules(&home).await;
        assert!(stored.values().all(|rule| rule["active"] == true));
        // It stands on one that came earlier, with which it is judged,
        let auto = &stored["win_b_auto"];
        assert_eq!(
            (&auto["verdict"], &auto["depends_on"], &auto["families"]),
            (&json!("compiles_with_rules"), &json!(["both"]), &json!(["win.b"]))
        );
        assert_eq!(stored["both"]["tlp"], "amber");
        // and is judged anew when that one changes.
        version(3);
        since(r#"{"tlp_amber": {"win.b_w0.yar": "rule both { condition: $gone }"}}"#);
        let (fourth, _) = sync().await;
        assert_eq!(source(&fourth, "rules").counts.changed, 2, "{fourth:?}");
        assert_eq!(rules(&home).await["win_b_auto"]["verdict"], "broken");

        // What is no rule at all is said, and touches nothing; it is asked for again.
        version(4);
        since(r#"{"detail": "Not found."}"#);
        for _ in 0..2 {
            let (failed, _) = sync().await;
            let told = source(&failed, "rules");
            assert_eq!(told.outcome, Outcome::Unreadable, "{failed:?}");
        }
        assert_eq!(rules(&home).await.len(), 3);

        // A folder does not miss what the API gave.
        let place = tempfile::tempdir().expect("a folder");
        let families = place.path().join("families_enriched");
        write(&families, "win.a.json", &json!({"name": "win.a", "yara_rules": [AUTO]}).to_string());
        let settings = [("MALPEDIA_DIR".to_owned(), place.path().to_string_lossy().into_owned())];
        let home = TestHome::open(home.folder, &settings, &[malpedia::FAMILY.settings])
            .await
            .expect("it opens");
        // Requests are told apart by their number, so this home's run has another task's name.
        let report = run(&home, "sync_malpedia_all_to_es").await;
        assert_eq!(report.detail["rules"]["left"], 0, "{report:?}");
        assert!(rules(&home).await.values().all(|rule| rule["active"] == true));
    });
}
