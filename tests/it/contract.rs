//! The contract that each listed task owes, by what it reaches: what it does with an empty answer, a failing source, garbage,
//! a second run, a source that never answers, a body without end.
//!
//! A new task brings `fixtures/contract/<task>.toml` and owes all of it on the day it is listed. Where settings decide what a
//! task reaches, it brings a fixture for each: `<task>.<what>.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::Class;
use base::report::{Outcome, Report, Status};
use local_runner::families::{FAMILIES, all_tasks, declared};
use serde::Deserialize;
use serde_json::Value;
use stores::documents::{Document, FieldType, Index};
use task::testing::{Answer, TestHome, Upstream};
use task::{Reaches, Registered};

pub(crate) const TRIALS: &[crate::Case] = &[
    (
        "an_empty_answer_writes_nothing_and_deletes_nothing",
        an_empty_answer_writes_nothing_and_deletes_nothing,
    ),
    ("status_500_is_upstream", status_500_is_upstream),
    ("garbage_is_format", garbage_is_format),
    ("a_second_run_writes_nothing_new", a_second_run_writes_nothing_new),
    ("what_a_task_reaches_its_fixtures_reach", what_a_task_reaches_its_fixtures_reach),
    ("a_task_that_only_asks_answers_whatever_comes", a_task_that_only_asks_answers_whatever_comes),
    ("time_run_out_is_a_checkpoint", time_run_out_is_a_checkpoint),
    ("a_cut_run_goes_on_where_it_was", a_cut_run_goes_on_where_it_was),
    ("a_store_that_was_emptied_is_filled_again", a_store_that_was_emptied_is_filled_again),
    (
        "owners_mappings_and_documents_name_the_same_fields",
        owners_mappings_and_documents_name_the_same_fields,
    ),
    ("no_body_passes_its_limit", no_body_passes_its_limit),
    ("every_stored_field_is_mapped", every_stored_field_is_mapped),
    ("an_unknown_input_field_is_refused", an_unknown_input_field_is_refused),
];

/// What a task's fixture says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fixture {
    /// What the task reaches under these settings, beside the stores; the network unless it says otherwise.
    #[serde(default = "network")]
    reaches: Vec<String>,
    #[serde(default)]
    input: Option<Value>,
    /// Tasks that bring what this one works on: they run before each of its runs.
    #[serde(default)]
    pub(crate) after: Vec<String>,
    /// It asks for each stored item once, and counts against that item what is no answer.
    #[serde(default)]
    by_item: bool,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// By path a file of `fixtures`, or the body itself, which begins with a brace.
    #[serde(default)]
    upstream: BTreeMap<String, String>,
    /// By path a larger file of `MINERVA_CORPUS`, for trials that take it.
    #[serde(default)]
    pub(crate) corpus: BTreeMap<String, String>,
}

fn network() -> Vec<String> {
    vec!["network".to_owned()]
}

impl Fixture {
    pub(crate) fn read(path: &Path) -> Self {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("a listed task owes {shown}: {error}"));
        toml::from_str(&text).unwrap_or_else(|error| panic!("{shown}: {error}"))
    }

    /// What its upstream serves, by path.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        self.upstream.iter().map(move |(path, file)| {
            let body = match file.starts_with('{') {
                true => file.clone().into_bytes(),
                false => std::fs::read(fixtures.join(file))
                    .unwrap_or_else(|error| panic!("{file}: {error}")),
            };
            (path.as_str(), body)
        })
    }

    /// Writes its files into `folder`, and gives its settings, as they are with this upstream.
    pub(crate) fn set_up(&self, origin: &str, folder: &Path) -> Vec<(String, String)> {
        let place = folder.to_string_lossy();
        let fill = |text: &str| text.replace("{upstream}", origin).replace("{folder}", &place);
        for (name, text) in &self.files {
            let path = folder.join(name);
            let parent = path.parent().expect("it lies in the folder");
            std::fs::create_dir_all(parent).expect("the folder is writable");
            std::fs::write(path, fill(text)).expect("the folder is writable");
        }
        self.settings.iter().map(|(name, value)| (name.clone(), fill(value))).collect()
    }

    fn reaches(&self, part: Reaches) -> bool {
        let name = match part {
            Reaches::Network => "network",
            Reaches::Files => "files",
            Reaches::Destinations => "destinations",
            Reaches::Stores => "stores",
        };
        self.reaches.iter().any(|known| known == name)
    }
}

/// The fixtures of a task: its own, and those beside it for other settings.
fn fixtures(task: &str) -> Vec<PathBuf> {
    let own = fixture(task);
    let folder = own.parent().expect("it lies in a folder");
    let others = std::fs::read_dir(folder).expect("the folder is there").filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?;
        (name.starts_with(&format!("{task}.")) && path != own).then_some(path)
    });
    let mut all: Vec<PathBuf> = others.collect();
    all.sort();
    all.insert(0, own);
    all
}

/// A task in a home of its own, with an upstream that serves its fixture.
pub(crate) struct Subject {
    task: &'static Registered,
    /// Those that bring what it works on.
    after: Vec<&'static Registered>,
    fixture: PathBuf,
    input: Value,
    pub(crate) home: TestHome,
    upstream: Upstream,
}

impl Subject {
    /// A task with its own fixture, and with these settings above the fixture's.
    pub(crate) async fn with(task: &'static Registered, above: &[(String, String)]) -> Self {
        Self::of(task, &fixture(task.name), above).await
    }

    async fn of(task: &'static Registered, fixture: &Path, above: &[(String, String)]) -> Self {
        let place_of_fixture = fixture.to_path_buf();
        let fixture = Fixture::read(fixture);
        let upstream = Upstream::start().await;
        fixture.bodies().for_each(|(path, body)| upstream.put(path, body));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut settings = above.to_vec();
        settings.extend(fixture.set_up(upstream.origin(), folder.path()));
        let home = TestHome::open(folder, &settings, &declared())
            .await
            .expect("the fixture's settings are right");
        let known = |name: &String| {
            let task = all_tasks().find(|(_, task)| task.name == name);
            task.unwrap_or_else(|| panic!("{name} is not listed")).1
        };
        let subject = Self {
            task,
            after: fixture.after.iter().map(known).collect(),
            fixture: place_of_fixture,
            input: fixture.input.unwrap_or(Value::Null),
            home,
            upstream,
        };
        subject.bring().await;
        subject
    }

    async fn bring(&self) {
        for task in &self.after {
            self.home.run(task, Value::Null).await;
        }
    }

    pub(crate) async fn run(&self) -> Report {
        self.bring().await;
        self.home.run(self.task, self.input.clone()).await
    }

    /// The event of the last continuation that was sent.
    fn continuation(&self) -> Value {
        let sent = self.home.continuations();
        serde_json::json!({
            "source": "minerva", "detail-type": "Minerva Task Continuation", "detail": sent.last().expect("one was sent"),
        })
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

/// Whether a task works on what it brings itself. What works on the documents of others, asks for those that another task's trial
/// left in the same store.
pub(crate) fn stands_alone(task: &Registered) -> bool {
    Fixture::read(&fixture(task.name)).after.is_empty()
}

/// Every task that fetches, twice, on the store of these settings: the second time the store counts no write.
pub(crate) async fn collected_twice(settings: &[(String, String)]) {
    for (_, task) in fetching().filter(|(_, task)| stands_alone(task)) {
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
    for (_, task) in fetching().filter(|(_, task)| stands_alone(task)) {
        let subject = Subject::with(task, settings).await;
        let first = subject.run().await;
        assert!(first.error.is_none(), "{first:?}");
        assert!(!asked().is_empty(), "`{}` asked the store nothing at first", task.name);
        let second = subject.run().await;
        assert!(second.error.is_none(), "{second:?}");
        let asked = asked();
        if second.sources.iter().all(|source| source.outcome == Outcome::NotModified) {
            // Whether it is the same store is asked once an index and run, whatever the number of sources.
            let is_identity =
                |line: &String| line.contains("/_refresh") || line.contains("/_stats");
            let others: Vec<&String> = asked.iter().filter(|line| !is_identity(line)).collect();
            assert_eq!(others, [""; 0], "`{}`", task.name);
            let indices: BTreeSet<&str> =
                second.sources.iter().map(|source| source.index.as_str()).collect();
            assert!(asked.len() <= 2 * indices.len(), "`{}`: {asked:?}", task.name);
            told += 1;
        }
    }
    assert!(told > 0, "no source said that nothing changed");
}

/// Every task that fetches and stores under its own fixture.
fn fetching() -> impl Iterator<Item = (&'static str, &'static Registered)> {
    all_tasks().filter(|(_, task)| {
        task.may_reach(Reaches::Stores)
            && Fixture::read(&fixture(task.name)).reaches(Reaches::Network)
    })
}

/// Does something with each task that stores, under each of its fixtures that reaches one of these.
fn each(parts: &[Reaches], what: impl AsyncFn(Subject)) {
    each_of(
        all_tasks().map(|(_, task)| task).filter(|task| task.may_reach(Reaches::Stores)),
        parts,
        what,
    );
}

fn each_of(
    tasks: impl Iterator<Item = &'static Registered>,
    parts: &[Reaches],
    what: impl AsyncFn(Subject),
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut held = 0;
    for task in tasks {
        for path in fixtures(task.name) {
            let fixture = Fixture::read(&path);
            if parts.iter().any(|part| fixture.reaches(*part)) {
                runtime.block_on(async { what(Subject::of(task, &path, &[]).await).await });
                held += 1;
            }
        }
    }
    assert!(held > 0, "no task was held to it");
}

fn what_a_task_reaches_its_fixtures_reach() {
    for (_, task) in all_tasks() {
        let fixtures: Vec<Fixture> =
            fixtures(task.name).iter().map(|path| Fixture::read(path)).collect();
        for part in [Reaches::Network, Reaches::Files, Reaches::Destinations] {
            assert_eq!(
                fixtures.iter().any(|fixture| fixture.reaches(part)),
                task.may_reach(part),
                "`{}` and its fixtures disagree on {part:?}",
                task.name
            );
        }
    }
}

/// A task that stores nothing tells what it found, whatever that is, or that its time ran out.
fn a_task_that_only_asks_answers_whatever_comes() {
    let asking = all_tasks().map(|(_, task)| task).filter(|task| !task.may_reach(Reaches::Stores));
    each_of(asking, &[Reaches::Network], async |subject| {
        for answer in [Answer::Good, Answer::Empty, Answer::Status(500), Answer::Garbage] {
            subject.upstream.answer(answer);
            let report = subject.run().await;
            assert_eq!(report.status, Status::Complete, "{}: {report:?}", subject.task.name);
        }
        assert!(!subject.upstream.requests().is_empty(), "{} asked nobody", subject.task.name);
        subject.upstream.answer(Answer::Silence);
        let time = Duration::from_secs(2);
        let report = subject.home.run_within(subject.task, subject.input.clone(), time).await;
        let class = report.error.as_ref().map(|problem| problem.class);
        assert_eq!(class, Some(Class::Deadline), "{}: {report:?}", subject.task.name);
    });
}

fn an_empty_answer_writes_nothing_and_deletes_nothing() {
    each(&[Reaches::Network], async |subject| {
        let name = subject.task.name;
        assert_eq!(subject.run().await.status, Status::Complete, "{name}");
        let before = subject.everything().await;
        assert!(
            before.iter().any(|(_, _, documents)| !documents.is_empty()),
            "{name} stored nothing of its fixture"
        );
        subject.upstream.answer(Answer::Empty);
        let report = subject.run().await;
        if Fixture::read(&subject.fixture).by_item {
            // It has every answer, and asks for none.
            assert_eq!(
                (report.status, report.requests),
                (Status::Complete, 0),
                "{name}: {report:?}"
            );
            assert_eq!(subject.everything().await, before, "{name}");
            return;
        }
        // Nothing is not what a source gives: it is told, and the next run asks again.
        let class = report.error.as_ref().map(|problem| problem.class);
        assert_eq!(
            (report.status, class),
            (Status::Failed, Some(Class::Format)),
            "{name}: {report:?}"
        );
        assert_eq!(report.writes(), 0, "{name}: {report:?}");
        assert_eq!(subject.everything().await, before, "{name}");
    });
}

fn status_500_is_upstream() {
    each(&[Reaches::Network], async |subject| {
        subject.upstream.answer(Answer::Status(500));
        check_failure(&subject, Class::Upstream).await;
    });
}

fn garbage_is_format() {
    each(&[Reaches::Network], async |subject| {
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
    each(&[Reaches::Network, Reaches::Files], async |subject| {
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
    each(&[Reaches::Network], async |subject| {
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
        let event = subject.continuation();
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

/// Cut at its last request, a run has stored what came before, and its continuation does not do that again.
fn a_cut_run_goes_on_where_it_was() {
    let count = std::cell::Cell::new(0);
    each(&[Reaches::Network], async |subject| {
        let name = subject.task.name;
        let whole = subject.run().await;
        let requests = subject.upstream.requests().len();
        if requests < 2 || whole.sources.iter().filter(|source| source.requests > 0).count() < 2 {
            return;
        }
        count.set(count.get() + 1);
        let cut = Subject::of(subject.task, &subject.fixture, &[]).await;
        cut.upstream.answer_then_fall_silent(requests - 1);
        let time = Duration::from_secs(4);
        let report = cut.home.run_within(cut.task, cut.input.clone(), time).await;
        assert_eq!(report.status, Status::Partial, "{name}: {report:?}");
        let over: Vec<&str> = report
            .sources
            .iter()
            .filter(|source| source.outcome.is_read() && source.requests > 0)
            .map(|source| source.source.as_str())
            .collect();
        assert!(!over.is_empty(), "{name} came nowhere: {report:?}");
        let stored = cut.everything().await;
        cut.upstream.answer(Answer::Good);
        let done = cut.home.run(cut.task, cut.continuation()).await;
        assert_eq!(done.status, Status::Complete, "{name}: {done:?}");
        for source in over {
            let of = |report: &Report| {
                report.sources.iter().find(|one| one.source == source).map(|one| one.requests)
            };
            assert_eq!(of(&report), of(&done), "{name} asked `{source}` again");
        }
        for ((index, before, _), (_, after, _)) in stored.iter().zip(cut.everything().await) {
            assert!(after >= *before, "{name} lost writes of {index}");
        }
    });
    assert!(count.get() > 0, "no task has several sources of its own");
}

/// The documents of every index, without what counts writes.
async fn meaning(subject: &Subject) -> BTreeMap<(&'static str, String), Value> {
    let mut all = BTreeMap::new();
    for (index, _, documents) in subject.everything().await {
        for document in documents {
            let mut body = document.body;
            body.remove("revision");
            all.insert((index, document.id), Value::Object(body));
        }
    }
    all
}

/// Emptied under a running home, though every source says that nothing changed and every cursor is at its end.
fn a_store_that_was_emptied_is_filled_again() {
    let clock = ("MINERVA_CLOCK".to_owned(), "2026-03-01T12:00:00Z".to_owned());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (_, task) in all_tasks().filter(|(_, task)| task.may_reach(Reaches::Stores)) {
        for path in fixtures(task.name) {
            runtime.block_on(async {
                let subject = Subject::of(task, &path, std::slice::from_ref(&clock)).await;
                let first = subject.run().await;
                assert!(first.writes() > 0, "{}: {first:?}", task.name);
                // Links are written by the run after the one that stored what they tie.
                subject.run().await;
                let before = meaning(&subject).await;
                for (index, _, documents) in subject.everything().await {
                    let index = Index::named(index).expect("it was listed");
                    let ids: Vec<String> = documents.into_iter().map(|one| one.id).collect();
                    if !ids.is_empty() {
                        subject.home.home.documents.delete(index, &ids).await.expect("they go");
                    }
                }
                let again = subject.run().await;
                assert_eq!(again.status, Status::Complete, "{}: {again:?}", task.name);
                let noted = again.sources.iter().flat_map(|source| &source.notes);
                assert!(
                    noted.into_iter().any(|note| note.contains("emptied or replaced")),
                    "{}: {again:?}",
                    task.name
                );
                subject.run().await;
                assert_eq!(meaning(&subject).await, before, "{}", task.name);
            });
        }
    }
}

/// Fields that no owner sets, as the store does.
const OF_NO_OWNER: [&str; 3] = ["id", "owners", "revision"];

/// What a task sets, what its owner declares and what the mapping names are one list.
fn owners_mappings_and_documents_name_the_same_fields() {
    let mut declared_in: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (index, owner) in FAMILIES.iter().flat_map(|family| family.owners) {
        let fields = owner.declared();
        let mapping = Index::named(index).expect("owners write into indices that there are");
        for field in &fields {
            assert!(
                !matches!(mapping.fields.get(*field), None | Some(FieldType::Alias(_))),
                "`{}` declares `{field}`, which {index} does not map as a field of its own",
                owner.name
            );
        }
        declared_in.entry(index).or_default().extend(fields);
    }
    each(&[Reaches::Network, Reaches::Files], async |subject| {
        subject.run().await;
        for (index, _, documents) in subject.everything().await {
            let Some(declared) = declared_in.get(index) else {
                assert!(
                    documents.is_empty(),
                    "{} writes into {index}, of which no owner is listed",
                    subject.task.name
                );
                continue;
            };
            let mut owners: BTreeSet<&str> = BTreeSet::new();
            for document in &documents {
                for field in
                    document.body.keys().filter(|field| !OF_NO_OWNER.contains(&field.as_str()))
                {
                    assert!(
                        declared.contains(field.as_str()),
                        "{index}: nobody declares `{field}`"
                    );
                }
                let hashes =
                    document.body["owners"]["hashes"].as_object().expect("each has owners");
                owners.extend(hashes.keys().map(String::as_str));
            }
            // An owner's own fields stand in every document that it wrote, if only as null.
            for (_, owner) in FAMILIES
                .iter()
                .flat_map(|family| family.owners)
                .filter(|(at, owner)| *at == index && owners.contains(owner.name))
            {
                let wrote = |document: &&Document| {
                    document.body["owners"]["hashes"].get(owner.name).is_some()
                };
                for document in documents.iter().filter(wrote) {
                    for field in owner.declared() {
                        assert!(
                            document.body.contains_key(field),
                            "{index}: `{}` left out `{field}`",
                            owner.name
                        );
                    }
                }
            }
        }
    });
}

fn no_body_passes_its_limit() {
    each(&[Reaches::Network], async |subject| {
        subject.upstream.answer(Answer::Endless);
        let class = match Fixture::read(&subject.fixture).by_item {
            true => Class::Format,
            false => Class::Upstream,
        };
        check_failure(&subject, class).await;
    });
}

fn every_stored_field_is_mapped() {
    each(&[Reaches::Network, Reaches::Files], async |subject| {
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
