//! Families and actors of the Malpedia family: 3,604 and 864 files in every shape, then one changed, broken, too large,
//! removed; and the same straight from the API.

use std::path::Path;
use std::time::{Duration, Instant};

use base::report::{Outcome, Report, Status};
use malpedia::FAMILY;
use serde_json::{Value, json};
use stores::documents::{Body, Index};
use task::testing::{Answer, TestHome, Upstream};

use crate::documents::block_on;
use crate::malpedia::task;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("files_are_mirrored_and_every_change_is_told", files_are_mirrored_and_every_change_is_told),
    ("two_files_with_one_name_are_the_later_one", two_files_with_one_name_are_the_later_one),
    (
        "without_a_folder_the_api_is_read_and_blanks_nothing",
        without_a_folder_the_api_is_read_and_blanks_nothing,
    ),
    ("a_mirror_without_a_version_is_read", a_mirror_without_a_version_is_read),
    ("an_empty_folder_marks_nothing_as_gone", an_empty_folder_marks_nothing_as_gone),
];

const FAMILIES: usize = 3_604;
const ACTORS: usize = 864;

pub(crate) fn index(name: &str) -> &'static Index {
    Index::named(name).expect("it is there")
}

pub(crate) async fn home(settings: &[(&str, &str)]) -> TestHome {
    let settings: Vec<_> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let families = [FAMILY.settings, signature_base::FAMILY.settings];
    let folder = tempfile::tempdir().expect("a folder");
    TestHome::open(folder, &settings, &families).await.expect("it opens")
}

pub(crate) async fn run(home: &TestHome, name: &str) -> Report {
    home.run_within(task(name), Value::Null, Duration::from_secs(300)).await
}

pub(crate) async fn one(home: &TestHome, index_name: &str, field: &str, value: &str) -> Body {
    let documents = home.documents(index(index_name)).await.expect("it is read");
    let found = documents
        .into_iter()
        .find(|document| document.body.get(field).is_some_and(|known| known == value));
    found.unwrap_or_else(|| panic!("no `{value}`")).body
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join(name), text).expect("it is written");
}

/// A family in one of the shapes that such files have.
pub(crate) fn family(n: usize) -> String {
    let (url, rule) = (
        format!("https://malpedia.test/details/win.family_{n}"),
        format!("rule f_{n} {{ condition: false }}"),
    );
    let value = match n % 4 {
        0 => {
            json!({"name": format!("win.family_{n}"), "url": url, "os": "Windows", "aka": [format!("Family {n}")], "actors": [],
            "yara_rules": [{"nome": format!("f_{n}"), "url": null, "conteudo": rule}], "descricao": "Descrição\r\ncom acentos",
            "referencias": [{"desc": "A report", "url": "https://vendor.test/r"}, {"desc": "x", "url": null}], "update": "2024-03-09"})
        }
        1 => {
            json!({"name": format!("Family {n}"), "url": url, "os": null, "aka": null, "explicacao": "texto", "referencias": ["https://vendor.test/s"]})
        }
        2 => {
            json!({"name": format!(" win.family_{n} "), "aka": "One, Two", "yara_rules": [rule], "os": ["Windows"]})
        }
        _ => {
            json!({"common_name": format!("Family {n}"), "url": url, "alt_names": ["A", "B"], "description": "text"})
        }
    };
    let text = value.to_string();
    if n.is_multiple_of(7) { format!("\u{feff}{text}\r\n") } else { text }
}

pub(crate) fn actor(n: usize) -> String {
    json!({"name": format!("Actor {n}"), "country": "XX", "synonyms": [format!("G{n:04}")],
        "families": [format!("win.family_{}", n * 4), format!("win.family_{}", n * 4 + 1)],
        "urls": [format!("https://malpedia.test/actor/actor_{n}"), "https://e.test"]})
    .to_string()
}

fn files_are_mirrored_and_every_change_is_told() {
    block_on(async {
        let place = tempfile::tempdir().expect("a folder");
        let (families, actors) =
            (place.path().join("families_enriched"), place.path().join("actors_enriched"));
        for n in 0..FAMILIES {
            write(&families, &format!("family {n} [x].json"), &family(n));
        }
        for n in 0..ACTORS {
            write(&actors, &format!("Actor {n}.json"), &actor(n));
        }
        write(&families, ".hidden.json", "{");
        write(&families, "notes.txt", "no family");
        std::fs::create_dir(families.join("folder.json")).expect("a folder");
        let home = home(&[("MALPEDIA_DIR", &place.path().to_string_lossy())]).await;
        let first = run(&home, "sync_malpedia_all_to_es").await;
        assert_eq!(first.status, Status::Complete, "{:?}", first.error);
        assert_eq!(first.detail["families"]["files"], FAMILIES, "{}", first.detail);
        assert_eq!(
            (&first.detail["families"]["sent"], &first.detail["families"]["already_there"]),
            (&json!(FAMILIES), &json!(0))
        );
        assert_eq!(
            (&first.detail["actors"]["sent"], &first.detail["actors"]["errors"]),
            (&json!(ACTORS), &json!(0))
        );

        // Links go both ways, with ids and names.
        let body = one(&home, "malpedia_families", "family_id", "win.family_4").await;
        assert_eq!(
            (&body["actors"], &body["actor_ids"], &body["common_name"]),
            (&json!(["Actor 1"]), &json!(["actor_1"]), &json!("Family 4"))
        );
        assert_eq!(body["yara_rules"][0]["conteudo"], "rule f_4 { condition: false }");
        let body = one(&home, "malpedia_actors", "actor_id", "actor_1").await;
        assert_eq!(body["families"], json!(["win.family_4", "win.family_5"]));
        assert_eq!(
            body["familias_relacionadas"],
            json!(["win.family_4", "win.family_5", "Family 4", "Family 5"])
        );

        // The second run opens no file and writes nothing.
        let writes =
            home.home.documents.sequence(index("malpedia_families")).await.expect("it counts");
        let began = Instant::now();
        let second = run(&home, "sync_malpedia_all_to_es").await;
        let took = began.elapsed();
        assert_eq!((second.status, second.writes()), (Status::Complete, 0), "{second:?}");
        assert_eq!(second.detail["families"]["already_there"], FAMILIES);
        assert_eq!(
            home.home.documents.sequence(index("malpedia_families")).await.expect("it counts"),
            writes
        );
        assert!(took <= Duration::from_secs(2), "the second run took {took:?}");

        // One changed, one no JSON, one of 50 MB, one removed.
        write(&families, "family 8 [x].json", &family(8).replace("A report", "Another report"));
        write(&families, "family 9 [x].json", "{\"name\": \"win.family_9\",\n oops}");
        std::fs::File::create(families.join("family 10 [x].json"))
            .and_then(|file| file.set_len(50 << 20))
            .expect("it is made");
        std::fs::remove_file(families.join("family 12 [x].json")).expect("it is removed");
        let third = run(&home, "sync_malpedia_families_to_es").await;
        assert_eq!(third.status, Status::Complete, "{third:?}");
        let told = &third.detail["families"];
        assert_eq!(
            (&told["files"], &told["changed"], &told["errors"]),
            (&json!(FAMILIES - 1), &json!(1), &json!(2)),
            "{told}"
        );
        assert_eq!(
            (&told["new"], &told["vanished"], &told["gone"]),
            (&json!(0), &json!(1), &json!(["win.family_12"])),
            "{told}"
        );
        let reasons: Vec<&str> =
            third.rejects.iter().map(|reject| reject.reason.as_str()).collect();
        assert!(
            reasons
                .iter()
                .any(|reason| reason.starts_with("family 9 [x].json: byte 26: it is no JSON")),
            "{reasons:?}"
        );
        assert!(
            reasons
                .iter()
                .any(|reason| reason.starts_with("family 10 [x].json: it has 52428800 bytes")),
            "{reasons:?}"
        );
        assert_eq!(
            one(&home, "malpedia_families", "family_id", "win.family_12").await["active"],
            false
        );
        assert_eq!(
            one(&home, "malpedia_families", "family_id", "win.family_9").await["active"],
            true
        );
        // It comes back.
        write(&families, "family 12 [x].json", &family(12));
        let fourth = run(&home, "sync_malpedia_families_to_es").await;
        assert_eq!(fourth.detail["families"]["changed"], 1, "{}", fourth.detail);
        assert_eq!(
            one(&home, "malpedia_families", "family_id", "win.family_12").await["active"],
            true
        );
    });
}

fn two_files_with_one_name_are_the_later_one() {
    block_on(async {
        let place = tempfile::tempdir().expect("a folder");
        let families = place.path().join("families_enriched");
        write(&families, "a.json", r#"{"name": "win.x", "descricao": "later"}"#);
        write(&families, "b.json", r#"{"name": "win.x", "descricao": "earlier"}"#);
        let earlier = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let file =
            std::fs::File::options().write(true).open(families.join("b.json")).expect("it opens");
        file.set_modified(earlier).expect("its time is set");
        let home = home(&[("MALPEDIA_DIR", &place.path().to_string_lossy())]).await;
        for new in [1, 0] {
            let report = run(&home, "sync_malpedia_families_to_es").await;
            assert_eq!(
                (report.counts.new, report.counts.merged, report.counts.changed),
                (new, 1, 0),
                "{report:?}"
            );
            assert!(
                report.sources[0].notes[0].contains("`b.json` and `a.json` are both `win.x`"),
                "{report:?}"
            );
        }
        assert_eq!(
            one(&home, "malpedia_families", "family_id", "win.x").await["descricao"],
            "later"
        );
        // When the later one goes, the other is what is there.
        std::fs::remove_file(families.join("a.json")).expect("it is removed");
        let report = run(&home, "sync_malpedia_families_to_es").await;
        assert_eq!(
            (report.counts.changed, &report.detail["families"]["vanished"]),
            (1, &json!(0)),
            "{report:?}"
        );
        assert_eq!(
            one(&home, "malpedia_families", "family_id", "win.x").await["descricao"],
            "earlier"
        );
    });
}

fn without_a_folder_the_api_is_read_and_blanks_nothing() {
    block_on(async {
        let place = tempfile::tempdir().expect("a folder");
        write(
            &place.path().join("families_enriched"),
            "win.vidar.json",
            r#"{"name": "win.vidar", "descricao": "Ladrão", "yara_rules": ["rule a {}"]}"#,
        );
        let with_files = home(&[("MALPEDIA_DIR", &place.path().to_string_lossy())]).await;
        run(&with_files, "sync_malpedia_families_to_es").await;

        let upstream = Upstream::start().await;
        upstream.answer(Answer::Unconditional);
        upstream.put("/api/get/version", r#"{"version": 25472, "date": "2026-08-06"}"#);
        upstream.put("/api/get/families", r#"{"win.vidar": {"common_name": "Vidar", "alt_names": [], "description": "A fork of Arkei.",
            "attribution": ["MuddyWater"], "urls": ["https://e.test/a"], "library_entries": ["k:1"], "updated": "", "notes": []},
            "elf.mirai": {"common_name": "", "description": "d", "updated": "2024-10-31"}, "win.bad": 7}"#);
        upstream.put("/api/get/yara/after/1970-01-01", r#"{"tlp_white": {}}"#);
        upstream.put("/api/get/actors", r#"{"muddywater": {"value": "MuddyWater", "meta": {"country": "IR", "synonyms": ["Seedworm"]}, "families": {}}}"#);
        let settings = [("MALPEDIA_URL".to_owned(), upstream.origin().to_owned())];
        // Requests are told apart by their number, so the runs of this home have another task's name.
        let home = TestHome::open(with_files.folder, &settings, &[FAMILY.settings])
            .await
            .expect("it opens");
        let first = run(&home, "sync_malpedia_all_to_es").await;
        assert_eq!(first.status, Status::Complete, "{first:?}");
        assert_eq!(
            (first.counts.found, first.counts.new, first.counts.changed, first.counts.rejected),
            (4, 2, 1, 1),
            "{first:?}"
        );
        let body = one(&home, "malpedia_families", "family_id", "win.vidar").await;
        assert_eq!(
            (&body["descricao"], &body["description"], &body["yara_rules"][0]["conteudo"]),
            (&json!("Ladrão"), &json!("A fork of Arkei."), &json!("rule a {}"))
        );
        assert_eq!(
            (&body["actor_ids"], &body["os"]),
            (&json!(["muddywater"]), &json!(["Windows"]))
        );
        let body = one(&home, "malpedia_families", "family_id", "elf.mirai").await;
        assert_eq!(
            (&body["os"], &body["descricao"], &body["update"]),
            (&json!(["Linux"]), &json!("d"), &json!("2024-10-31"))
        );
        let body = one(&home, "malpedia_actors", "actor_id", "muddywater").await;
        assert_eq!((&body["families"], &body["country"]), (&json!(["win.vidar"]), &json!("IR")));
        let asked = upstream.requests().len();
        let second = run(&home, "sync_malpedia_all_to_es").await;
        assert_eq!((second.status, second.writes()), (Status::Complete, 0), "{second:?}");
        assert_eq!(
            upstream.requests().len() - asked,
            2,
            "the version, once for each: it did not grow"
        );

        // The status tells of it; the statistics count nothing yet.
        let status = run(&home, "check_malpedia_status").await;
        assert_eq!(
            (&status.detail["api"]["version"], &status.detail["status"], &status.detail["token"]),
            (&json!(25472), &json!("not_started"), &json!("not set"))
        );
        let stats = run(&home, "get_malpedia_library_stats").await;
        assert_eq!(stats.detail["total_articles"], 0);
    });
}

fn a_mirror_without_a_version_is_read() {
    block_on(async {
        let upstream = Upstream::start().await;
        upstream.put("/api/get/families", r#"{"win.a": {"common_name": "A"}}"#);
        for path in ["/api/get/version", "/api/get/yara/after/1970-01-01"] {
            upstream.lack(path);
        }
        let home = home(&[("MALPEDIA_URL", upstream.origin())]).await;
        let first = run(&home, "sync_malpedia_families_to_es").await;
        let families = &first.sources[0];
        assert_eq!((families.counts.new, first.status), (1, Status::Partial), "{first:?}");
        assert!(families.notes[0].ends_with("is not there: all is read"), "{families:?}");
        let second = run(&home, "sync_malpedia_families_to_es").await;
        assert_eq!((second.sources[0].outcome, second.writes()), (Outcome::NotModified, 0));
    });
}

fn an_empty_folder_marks_nothing_as_gone() {
    block_on(async {
        let place = tempfile::tempdir().expect("a folder");
        let families = place.path().join("families_enriched");
        write(&families, "win.x.json", r#"{"name": "win.x"}"#);
        let home = home(&[("MALPEDIA_DIR", &place.path().to_string_lossy())]).await;
        run(&home, "sync_malpedia_families_to_es").await;
        std::fs::remove_file(families.join("win.x.json")).expect("it is removed");
        for _ in 0..2 {
            let report = run(&home, "sync_malpedia_families_to_es").await;
            assert_eq!(
                (report.status, report.error.expect("it failed").class),
                (Status::Failed, base::Class::Config)
            );
            assert_eq!(one(&home, "malpedia_families", "family_id", "win.x").await["active"], true);
            let _ = std::fs::remove_dir(&families);
        }
    });
}
