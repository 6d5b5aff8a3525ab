//! Two owners and a list that they share, on the same documents, from two processes at once.
//!
//! The processes are this very program, told by its arguments to write and nothing else.

use std::process::{Child, Command, ExitCode, Stdio};

use base::config::{Secret, Stores};
use serde_json::{Map, Value, json};
use stores::documents::{Owner, Write, Written};
use tests::services::search::Kind;

use super::{runtime, sequence};
use crate::documents::{ENRICHMENT, OWNER, Place, all_of_them, articles, open};

/// The argument that makes this program a writer.
const WRITER: &str = "write-as";

/// Documents that both write, in one batch: one at a time, a server would mostly wait for its disk.
const DOCUMENTS: usize = 40;

/// Batches of each; with two writers that makes ten thousand writes.
const ROUNDS: usize = 125;

/// Rounds after which a writer looks at what the other left of its work.
const LOOK: usize = 25;

/// The owners, and the field of each that tells its last write.
const OWNERS: [(&Owner, &str); 2] = [(&OWNER, "title"), (&ENRICHMENT, "enriched_summary")];

pub(super) fn on_server(kind: Kind) {
    on(&Place::new(Some(kind)));
}

pub(super) fn on_files() {
    on(&Place::new(None));
}

/// Be a writer, if the arguments say so: `write-as OWNER FOLDER PREFIX [URL]`.
pub(crate) fn writer() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, word, owner, folder, prefix, url @ ..] = arguments.as_slice() else { return None };
    if word != WRITER {
        return None;
    }
    let stores = Stores {
        data_dir: Some(folder.into()),
        es_url: url.first().map(|url| Secret::new(vec![url.parse().unwrap()])),
        es_index_prefix: prefix.clone(),
        ..Stores::default()
    };
    let (owner, field) = OWNERS.into_iter().find(|(known, _)| known.name == owner).unwrap();
    runtime().block_on(write(&stores, owner, field));
    Some(ExitCode::SUCCESS)
}

fn id(document: usize) -> String {
    format!("document-{document}")
}

fn tag(owner: &Owner, round: usize) -> String {
    format!("{}-{round}", owner.name)
}

async fn write(stores: &Stores, owner: &'static Owner, field: &str) {
    let store = open(stores).await;
    for round in 0..ROUNDS {
        let fields = json!({field: format!("{round}"), "tags": ["both", tag(owner, round)]});
        let fields = fields.as_object().unwrap();
        let batch: Vec<Write> =
            (0..DOCUMENTS).map(|document| Write::of(id(document), owner, fields.clone())).collect();
        let written = store.upsert(articles(), &batch).await.unwrap();
        assert!(
            written.iter().all(|one| matches!(one, Written::New | Written::Changed)),
            "{written:?}"
        );
        if round % LOOK == 0 {
            let body = store.get(articles(), &id(0)).await.unwrap().unwrap();
            let tags = body["tags"].as_array().unwrap();
            assert!(tags.contains(&json!(tag(owner, round))), "an erased list: {tags:?}");
            assert_eq!(body[field], json!(format!("{round}")), "a lost update");
        }
    }
}

fn on(place: &Place) {
    let spawn = |(owner, _): (&Owner, &str)| -> Child {
        let folder = place.stores.data_dir.as_ref().unwrap();
        let url = place.stores.es_url.as_ref().map(|urls| urls.expose()[0].to_string());
        Command::new(std::env::current_exe().unwrap())
            .args([WRITER, owner.name])
            .arg(folder)
            .arg(&place.stores.es_index_prefix)
            .args(url)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let writers = OWNERS.map(spawn);
    for mut writer in writers {
        assert!(writer.wait().unwrap().success(), "a writer failed; it says why above");
    }

    runtime().block_on(async {
        let store = place.store().await;
        let all = store.scan(articles(), &all_of_them()).await.unwrap();
        assert_eq!(all.len(), DOCUMENTS);
        let [last, other] = OWNERS.map(|(owner, _)| tag(owner, ROUNDS - 1));
        for document in &all {
            let body = &document.body;
            for (_, field) in OWNERS {
                assert_eq!(body[field], json!(format!("{}", ROUNDS - 1)), "{body:?}");
            }
            assert_eq!(body["tags"], json!(["both", other, last]), "{body:?}");
            assert_eq!(body["revision"], json!(2 * ROUNDS), "a lost update: {body:?}");
            // Each has its own entry and nothing else lingers.
            let whole = Value::Object(body.clone());
            let keys = |path: &str| -> Vec<&str> {
                let found = whole.pointer(path).and_then(Value::as_object);
                found.into_iter().flat_map(Map::keys).map(String::as_str).collect()
            };
            for path in ["/owners/hashes", "/owners/shared/tags"] {
                assert_eq!(keys(path), ["enrichment", "rss"], "{path}: {body:?}");
            }
            assert_eq!(keys("/owners/shared"), ["tags"]);
        }
        let writes = (2 * DOCUMENTS * ROUNDS) as u64;
        assert_eq!(store.sequence(articles()).await.unwrap(), writes);
        if place.kind.is_some() {
            assert_eq!(sequence(place), i64::try_from(writes).unwrap());
        }
    });
}
