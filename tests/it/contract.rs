//! The contract that each listed task owes, by its kind: what it does with an empty answer, a failing source, garbage,
//! a second run, a source that never answers, a body without end.
//!
//! A new task brings `fixtures/contract/<task>.toml` and owes all of it on the day it is listed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::Class;
use base::report::{Report, Status};
use local_runner::families::all_tasks;
use serde::Deserialize;
use serde_json::Value;
use stores::documents::{Document, FieldType, Index};
use task::testing::{Answer, TestHome, Upstream};
use task::{Kind, Registered};

pub(crate) const TRIALS: &[crate::Case] = &[
    (
        "an_empty_answer_writes_nothing_and_deletes_nothing",
        an_empty_answer_writes_nothing_and_deletes_nothing,
    ),
    ("status_500_is_upstream", status_500_is_upstream),
    ("garbage_is_format", garbage_is_format),
    ("a_second_run_writes_nothing_new", a_second_run_writes_nothing_new),
    ("time_run_out_is_a_checkpoint", time_run_out_is_a_checkpoint),
    ("no_body_passes_its_limit", no_body_passes_its_limit),
    ("every_stored_field_is_mapped", every_stored_field_is_mapped),
    ("an_unknown_input_field_is_refused", an_unknown_input_field_is_refused),
];

/// What a task's fixture says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    #[serde(default)]
    input: Option<Value>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    upstream: BTreeMap<String, String>,
}

/// A task in a home of its own, with an upstream that serves its fixture.
pub(crate) struct Subject {
    task: &'static Registered,
    input: Value,
    pub(crate) home: TestHome,
    upstream: Upstream,
}

impl Subject {
    async fn new(task: &'static Registered) -> Self {
        Self::with(task, &[]).await
    }

    /// As [`Subject::new`], with these settings above the fixture's.
    pub(crate) async fn with(task: &'static Registered, above: &[(String, String)]) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let text = std::fs::read_to_string(fixture(task.name)).unwrap_or_else(|error| {
            panic!("`{}` owes {}: {error}", task.name, fixture(task.name).display())
        });
        let fixture: Fixture =
            toml::from_str(&text).unwrap_or_else(|error| panic!("`{}`: {error}", task.name));
        let upstream = Upstream::start().await;
        for (path, file) in &fixture.upstream {
            upstream.put(
                path,
                std::fs::read(fixtures.join(file))
                    .unwrap_or_else(|error| panic!("{file}: {error}")),
            );
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().to_string_lossy().into_owned();
        let fill =
            |text: &str| text.replace("{upstream}", upstream.origin()).replace("{folder}", &place);
        for (name, text) in &fixture.files {
            let path = folder.path().join(name);
            let parent = path.parent().expect("it lies in the folder");
            std::fs::create_dir_all(parent).expect("the folder is writable");
            std::fs::write(path, fill(text)).expect("the folder is writable");
        }
        let mut settings = above.to_vec();
        settings.extend(fixture.settings.iter().map(|(name, value)| (name.clone(), fill(value))));
        let home =
            TestHome::open(folder, &settings).await.expect("the fixture's settings are right");
        Self { task, input: fixture.input.unwrap_or(Value::Null), home, upstream }
    }

    pub(crate) async fn run(&self) -> Report {
        self.home.run(self.task, self.input.clone()).await
    }

    pub(crate) async fn everything(&self) -> Vec<(&'static str, u64, Vec<Document>)> {
        let mut all = Vec::new();
        for index in Index::all() {
            let documents = self.home.documents(index).await.expect("the store can be read");
            let writes =
                self.home.home.documents.sequence(index).await.expect("the store can be read");
            all.push((index.name, writes, documents));
        }
        all
    }
}

pub(crate) fn fixture(task: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/contract/{task}.toml"))
}

/// Every task that fetches, twice, on the store of these settings: the second time the store counts no write.
pub(crate) async fn collected_twice(settings: &[(String, String)]) {
    for (_, task) in all_tasks().filter(|(_, task)| task.kind == Kind::Fetches) {
        let subject = Subject::with(task, settings).await;
        let first = subject.run().await;
        assert!(first.error.is_none(), "{first:?}");
        let before = subject.everything().await;
        let written: usize = before.iter().map(|(_, _, documents)| documents.len()).sum();
        assert!(written > 0, "`{}` wrote nothing", task.name);
        subject.upstream.answer(Answer::Unconditional);
        let second = subject.run().await;
        assert!(second.error.is_none(), "{second:?}");
        assert_eq!(subject.everything().await, before, "`{}` wrote again", task.name);
    }
}

/// Every task that fetches, twice, on the store of these settings: where all sources say that nothing changed, the store is
/// asked nothing. `asked` gives what it was asked since it was last called.
pub(crate) async fn told_that_nothing_changed(
    settings: &[(String, String)],
    asked: impl Fn() -> Vec<String>,
) {
    let mut told = 0;
    for (_, task) in all_tasks().filter(|(_, task)| task.kind == Kind::Fetches) {
        let subject = Subject::with(task, settings).await;
        let first = subject.run().await;
        assert!(first.error.is_none(), "{first:?}");
        assert!(!asked().is_empty(), "`{}` asked the store nothing at first", task.name);
        let second = subject.run().await;
        assert!(second.error.is_none(), "{second:?}");
        let asked = asked();
        if second.sources.iter().all(|source| source.outcome == "not_modified") {
            assert_eq!(asked, [""; 0], "`{}`", task.name);
            told += 1;
        }
    }
    assert!(told > 0, "no source said that nothing changed");
}

/// Does something with each task of these kinds.
fn each(kinds: &[Kind], what: impl AsyncFn(Subject)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for (_, task) in all_tasks().filter(|(_, task)| kinds.contains(&task.kind)) {
        runtime.block_on(async { what(Subject::new(task).await).await });
    }
}

fn an_empty_answer_writes_nothing_and_deletes_nothing() {
    each(&[Kind::Fetches], async |subject| {
        let name = subject.task.name;
        assert_eq!(subject.run().await.status, Status::Complete, "{name}");
        let before = subject.everything().await;
        assert!(
            before.iter().any(|(_, _, documents)| !documents.is_empty()),
            "{name} stored nothing of its fixture"
        );
        subject.upstream.answer(Answer::Empty);
        let report = subject.run().await;
        assert_eq!(report.writes(), 0, "{name}: {report:?}");
        assert_eq!(subject.everything().await, before, "{name}");
    });
}

fn status_500_is_upstream() {
    each(&[Kind::Fetches], async |subject| {
        subject.upstream.answer(Answer::Status(500));
        check_failure(&subject, Class::Upstream).await;
    });
}

fn garbage_is_format() {
    each(&[Kind::Fetches], async |subject| {
        subject.upstream.answer(Answer::Garbage);
        check_failure(&subject, Class::Format).await;
    });
}

async fn check_failure(subject: &Subject, class: Class) {
    let report = subject.run().await;
    let problem = report
        .error
        .clone()
        .unwrap_or_else(|| panic!("{} did not fail: {report:?}", subject.task.name));
    assert_eq!(
        (report.status, problem.class),
        (Status::Failed, class),
        "{}: {}",
        subject.task.name,
        problem.message
    );
    assert_eq!(report.writes(), 0, "{}", subject.task.name);
}

fn a_second_run_writes_nothing_new() {
    each(&[Kind::Fetches, Kind::ReadsFiles], async |subject| {
        let name = subject.task.name;
        let first = subject.run().await;
        assert!(first.writes() > 0, "{name} stored nothing of its fixture: {first:?}");
        let before = subject.everything().await;
        for answer in [Answer::Good, Answer::Unconditional] {
            subject.upstream.answer(answer);
            let report = subject.run().await;
            assert_eq!(
                (report.status, report.writes()),
                (Status::Complete, 0),
                "{name}: {report:?}"
            );
        }
        assert_eq!(subject.everything().await, before, "{name}");
    });
}

fn time_run_out_is_a_checkpoint() {
    each(&[Kind::Fetches], async |subject| {
        let name = subject.task.name;
        subject.upstream.answer(Answer::Silence);
        let started = Instant::now();
        let report = subject
            .home
            .run_within(subject.task, subject.input.clone(), Duration::from_secs(2))
            .await;
        assert!(started.elapsed() < Duration::from_secs(3), "{name} did not heed its deadline");
        assert_eq!(report.status, Status::Partial, "{name}: {report:?}");
        assert_eq!(report.continues, Some(1), "{name}");

        // The continuation finishes it, once.
        subject.upstream.answer(Answer::Good);
        let sent = subject.home.continuations();
        let event = serde_json::json!({
            "source": "minerva", "detail-type": "Minerva Task Continuation", "detail": sent.last().expect("one was sent"),
        });
        let done = subject.home.run(subject.task, event.clone()).await;
        assert_eq!(done.status, Status::Complete, "{name}: {done:?}");
        assert!(done.writes() > 0 && done.run_id == report.run_id, "{name}: {done:?}");
        assert_eq!(
            subject.home.run(subject.task, event).await.status,
            Status::Skipped,
            "{name}: a doubled continuation"
        );
    });
}

fn no_body_passes_its_limit() {
    each(&[Kind::Fetches], async |subject| {
        subject.upstream.answer(Answer::Endless);
        check_failure(&subject, Class::Upstream).await;
    });
}

fn every_stored_field_is_mapped() {
    each(&[Kind::Fetches, Kind::ReadsFiles], async |subject| {
        subject.run().await;
        for (index, _, documents) in subject.everything().await {
            let index = Index::named(index).expect("it was listed");
            for field in documents.iter().flat_map(|document| document.body.keys()) {
                // A server refuses a document with a value in a field that is another's name.
                assert!(
                    !matches!(index.fields.get(field), None | Some(FieldType::Alias(_))),
                    "{} stores `{field}`, which {} does not map as a field of its own",
                    subject.task.name,
                    index.name
                );
            }
        }
    });
}

fn an_unknown_input_field_is_refused() {
    for (_, task) in all_tasks() {
        let error =
            task.check_input(&serde_json::json!({"no_such_field": 1})).expect_err("it is refused");
        assert_eq!(error.class(), Class::Config, "{}", task.name);
        assert!(error.chain().contains("`no_such_field`"), "{}: {}", task.name, error.chain());
    }
}
