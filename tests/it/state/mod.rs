//! One suite for every store of state, under the same names: `state::sqlite::…` and `state::postgres::…`. What only a
//! server can suffer is in `state_postgres.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base::address::Address;
use base::report::{Report, Status};
use base::validators::Validators;
use jiff::{SignedDuration, Timestamp};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection, PgConnection};
use stores::documents::Document;
use stores::state::{
    BudgetKey, Claim, Due, Firings, Hold, Identity, LEDGER_MAX, LedgerItem, LedgerKind, Override,
    Postgres, QueueState, Retry, SourceDay, SourceState, Sqlite, State, Table, Timing, VisitSum,
};
use tests::services;
use tokio::runtime::Runtime;
use tokio::time::{interval, timeout};
use uuid::Uuid;

use crate::trial::trial;
use crate::{slots, state_postgres, upgrade};

pub(crate) mod contended;
mod schedule;

/// A test of the suite.
pub(crate) type Test = fn(Arc<World>) -> Pin<Box<dyn Future<Output = ()>>>;

/// Tests by the names of their functions.
macro_rules! by_name {
    ($($name:ident)*) => { &[$((stringify!($name), |world| Box::pin($name(world)))),*] };
}
pub(crate) use by_name;

const SUITE: &[(&str, Test)] = by_name![
    two_at_once_one_runs_and_one_is_skipped
    a_failed_slot_runs_again_and_so_does_one_whose_holder_died
    a_former_holder_cannot_write_over_its_successor
    a_doubled_continuation_does_nothing
    a_continuation_is_claimed_once_by_many
    the_next_run_adopts_an_orphaned_checkpoint
    a_source_has_one_holder_and_its_state_is_fenced
    sources_come_in_order_and_by_family
    overrides_are_set_and_forgotten
    the_days_of_a_source_are_summed
    the_retry_ledger_holds_what_still_fails
    a_ledger_is_bounded_and_keeps_what_is_tried_again
    a_source_is_reset_unless_it_is_held
    a_run_keeps_what_it_was_asked_for
    a_state_of_the_version_before_is_opened
    what_a_source_sends_can_be_kept
    rows_move_as_they_are_in_the_order_of_bytes
    what_is_under_way_is_told
];

/// The suite on each store, and what is peculiar to servers.
pub(crate) fn trials() -> Vec<Trial> {
    let on = |place: &str, name: &str, work: fn(Test), test: Test| {
        trial(format!("state::{place}::{name}"), move || work(test))
    };
    let mut trials = Vec::new();
    for (name, test) in [SUITE, schedule::SUITE, contended::SUITE].into_iter().flatten() {
        trials.push(on("sqlite", name, on_sqlite, *test));
        trials.push(on("postgres", name, on_postgres, *test));
    }
    let on_postgres_alone = [state_postgres::ANY_SERVER, upgrade::ON_POSTGRES, slots::ON_POSTGRES];
    for (name, test) in on_postgres_alone.into_iter().flatten() {
        trials.push(on("postgres", name, on_postgres, *test));
    }
    for (name, test) in state_postgres::OWN_SERVER {
        trials.push(on("postgres_server", name, on_own_server, *test));
    }
    trials
}

/// A store of a test's own, which can be opened several times as by several processes.
pub(crate) enum World {
    Sqlite(tempfile::TempDir),
    /// A schema: the address without it, and its name.
    Postgres {
        url: String,
        schema: String,
    },
}

fn runtime() -> Runtime {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime")
}

fn on_sqlite(test: Test) {
    let world = Arc::new(World::Sqlite(tempfile::tempdir().expect("a temporary folder")));
    runtime().block_on(test(world));
}

fn on_postgres(test: Test) {
    in_schema(services::postgres::url().expect("this test is skipped where there is none"), test);
}

fn on_own_server(test: Test) {
    let server = services::postgres::server().expect("this test is skipped where there is none");
    in_schema(server.url(), test);
}

/// Runs a test in a fresh schema, which goes when the test ends, however it does.
fn in_schema(url: String, test: Test) {
    let schema = format!("minerva_test_{}", Uuid::new_v4().simple());
    let world = Arc::new(World::Postgres { url, schema: schema.clone() });
    let runtime = runtime();
    runtime.block_on(world.execute(&format!("CREATE SCHEMA {schema}")));
    let work = || runtime.block_on(test(Arc::clone(&world)));
    let ended = catch_unwind(AssertUnwindSafe(work));
    runtime.block_on(world.execute(&format!("DROP SCHEMA {schema} CASCADE")));
    if let Err(failure) = ended {
        resume_unwind(failure);
    }
}

impl World {
    /// The store as one more process opens it.
    pub(crate) async fn open(&self) -> Arc<dyn State> {
        match self {
            Self::Sqlite(folder) => Arc::new(Sqlite::open(folder.path()).await.expect("it opens")),
            Self::Postgres { .. } => Arc::new(self.postgres(Timing::default()).await),
        }
    }

    /// The store on PostgreSQL, with a heartbeat of the test's own.
    pub(crate) async fn postgres(&self, timing: Timing) -> Postgres {
        let address = Address::parse(&self.url()).expect("an address");
        Postgres::open_with(&address, timing).await.expect("it opens")
    }

    /// The value of `DATABASE_URL`.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(_) => String::new(),
            Self::Postgres { url, schema } => services::postgres::in_schema(url, schema),
        }
    }

    /// Where it is, for another process.
    fn place(&self) -> String {
        match self {
            Self::Sqlite(folder) => folder.path().display().to_string(),
            Self::Postgres { .. } => self.url(),
        }
    }

    /// Carries out a statement beside the store.
    pub(crate) async fn execute(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.url()).await.expect("the server answers");
        let done =
            sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
        connection.close().await.expect("it closes");
    }

    /// A schema of its own beside this one.
    pub(crate) fn beside(&self, runtime: &Runtime) -> Self {
        let Self::Postgres { url, .. } = self else { panic!("only a server has schemas") };
        let schema = format!("minerva_test_{}", Uuid::new_v4().simple());
        let world = Self::Postgres { url: url.clone(), schema: schema.clone() };
        runtime.block_on(world.execute(&format!("CREATE SCHEMA {schema}")));
        world
    }

    /// Ends it, with all that is in it.
    pub(crate) fn drop_it(&self, runtime: &Runtime) {
        if let Self::Postgres { schema, .. } = self {
            runtime.block_on(self.execute(&format!("DROP SCHEMA {schema} CASCADE")));
        }
    }

    /// One number from beside the store.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        let mut connection = PgConnection::connect(&self.url()).await.expect("the server answers");
        let found =
            sqlx::query_as(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await;
        let (number,): (i64,) = found.unwrap_or_else(|error| panic!("{query}: {error}"));
        number
    }

    /// Brings about what a process finds that was paused for long: others may take what it held.
    async fn lose_holds(&self) {
        match self {
            Self::Sqlite(folder) => {
                std::fs::remove_dir_all(folder.path().join("locks")).expect("there are locks");
            }
            Self::Postgres { .. } => self.execute("UPDATE holds SET expires = '-infinity'").await,
        }
    }

    /// How many of something a test tries: a file has one writer, and each of its commits is synced.
    fn many(&self, on_a_server: u32) -> u32 {
        match self {
            Self::Sqlite(_) => on_a_server / 10,
            Self::Postgres { .. } => on_a_server,
        }
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

pub(crate) fn noon() -> Timestamp {
    at("2026-03-01T12:00:00Z")
}

pub(crate) async fn begin(state: &dyn State, slot: Timestamp) -> Claim {
    state
        .begin("collect", &Identity::Slot(slot), &Value::Null, "r", noon())
        .await
        .expect("an answer")
}

#[track_caller]
pub(crate) fn held(claim: Claim) -> Hold {
    match claim {
        Claim::Run(hold) => *hold,
        Claim::Skip(reason) => panic!("skipped: {reason}"),
    }
}

#[track_caller]
fn skipped(claim: Claim) -> String {
    match claim {
        Claim::Skip(reason) => reason,
        Claim::Run(hold) => panic!("claimed as attempt {}", hold.attempt),
    }
}

pub(crate) fn report(status: Status) -> Report {
    Report { status, ..Report::of_detail(Value::Null) }
}

pub(crate) fn due(id: &str) -> Due {
    Due {
        request_id: id.to_owned(),
        task: "collect".to_owned(),
        event: json!({}),
        due: Timestamp::UNIX_EPOCH,
    }
}

/// Waits until something is there.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let mut looks = interval(Duration::from_millis(20));
    let found = timeout(Duration::from_secs(30), async {
        loop {
            looks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what}: not in 30 s"))
}

fn key(id: &str, limit: u32) -> BudgetKey {
    BudgetKey { id: id.to_owned(), limit }
}

async fn two_at_once_one_runs_and_one_is_skipped(world: Arc<World>) {
    let (one, other) = (world.open().await, world.open().await);
    let hold = held(begin(&*one, noon()).await);
    assert!(skipped(begin(&*one, noon()).await).contains("is running"));
    assert!(skipped(begin(&*other, noon()).await).contains("is running"));
    one.finish(hold, &report(Status::Complete), noon()).await.expect("it is finished");
    assert!(skipped(begin(&*one, noon()).await).contains("complete already"));
    assert!(skipped(begin(&*other, noon()).await).contains("complete already"));
}

async fn a_failed_slot_runs_again_and_so_does_one_whose_holder_died(world: Arc<World>) {
    let state = world.open().await;
    let first = held(begin(&*state, noon()).await);
    state.finish(first, &report(Status::Failed), noon()).await.expect("it is finished");
    let second = held(begin(&*state, noon()).await);
    assert_eq!((second.attempt, second.fence), (2, 2));
    drop(second);
    assert_eq!(held(begin(&*state, noon()).await).attempt, 3);
}

async fn a_former_holder_cannot_write_over_its_successor(world: Arc<World>) {
    let (one, other) = (world.open().await, world.open().await);
    let former = held(begin(&*one, noon()).await);
    world.lose_holds().await;
    let later = held(begin(&*other, noon()).await);
    let refused = one.finish(former, &report(Status::Failed), noon()).await;
    assert!(refused.expect_err("it was succeeded").to_string().contains("taken it over"));
    other.finish(later, &report(Status::Complete), noon()).await.expect("it is finished");
    let runs = one.runs(None, 9).await.expect("runs");
    assert_eq!((runs.len(), runs[0].status.as_str(), runs[0].attempt), (1, "complete", 2));
    assert_eq!(one.run_of("r").await.expect("a run").as_ref(), runs.first());
}

async fn a_doubled_continuation_does_nothing(world: Arc<World>) {
    let state = world.open().await;
    let hold = held(begin(&*state, noon()).await);
    let run_id = hold.run_id.clone();
    let left = json!({"remaining": ["a"]});
    let step = state.suspend(hold, &left, &report(Status::Partial), noon()).await.expect("a step");
    // By another process, at once: the hold is gone when `suspend` answers.
    let other = world.open().await;
    let resume = async || other.resume(&run_id, step, "r", noon()).await.expect("an answer");
    let resumed = held(resume().await);
    assert_eq!(resumed.checkpoint, Some(left));
    assert!(skipped(resume().await).contains("is running"));
    other.finish(resumed, &report(Status::Complete), noon()).await.expect("it is finished");
    assert!(skipped(resume().await).contains("done already"));
}

async fn a_continuation_is_claimed_once_by_many(world: Arc<World>) {
    let state = world.open().await;
    for round in 0..world.many(50) {
        let slot = noon() + SignedDuration::from_mins(round.into());
        let hold = held(begin(&*state, slot).await);
        let run_id = hold.run_id.clone();
        let step = state
            .suspend(hold, &json!(round), &report(Status::Partial), noon())
            .await
            .expect("a step");
        let tries = (0..4).map(|_| {
            let (state, run_id) = (Arc::clone(&state), run_id.clone());
            tokio::spawn(async move { state.resume(&run_id, step, "r", noon()).await })
        });
        let mut holds = Vec::new();
        for claim in tries.collect::<Vec<_>>() {
            if let Claim::Run(hold) = claim.await.expect("no panic").expect("an answer") {
                holds.push(*hold);
            }
        }
        assert_eq!(holds.len(), 1, "round {round}");
        let hold = holds.remove(0);
        state.finish(hold, &report(Status::Complete), noon()).await.expect("it is finished");
    }
}

async fn the_next_run_adopts_an_orphaned_checkpoint(world: Arc<World>) {
    let state = world.open().await;
    let hold = held(begin(&*state, noon()).await);
    let run_id = hold.run_id.clone();
    let step = state
        .suspend(hold, &json!(["late"]), &report(Status::Partial), noon())
        .await
        .expect("a step");
    let next = held(begin(&*state, at("2026-03-01T14:00:00Z")).await);
    assert_eq!(next.checkpoint, Some(json!(["late"])));
    let late = state.resume(&run_id, step, "r", noon()).await.expect("an answer");
    assert!(skipped(late).contains("done already"));
}

async fn a_source_has_one_holder_and_its_state_is_fenced(world: Arc<World>) {
    let (one, other) = (world.open().await, world.open().await);
    let former = one.lease("rss/a").await.expect("an answer").expect("it is free");
    assert!(one.lease("rss/a").await.expect("an answer").is_none());
    assert!(other.lease("rss/a").await.expect("an answer").is_none());
    world.lose_holds().await;
    let later = other.lease("rss/a").await.expect("an answer").expect("it is free again");
    let news = SourceState { failures: 1, ..SourceState::default() };
    assert!(one.save_source(&former, &news).await.is_err());
    assert!(one.note_items(&former, &[failed("1", "late")], true, noon()).await.is_err());
    other.save_source(&later, &news).await.expect("it is stored");
    assert_eq!(one.source("rss/a").await.expect("a state"), news);
    assert_eq!(one.source("rss/b").await.expect("a state"), SourceState::default());
    assert_eq!(one.ledger("rss/a", LedgerKind::Failed, 9).await.expect("a ledger"), []);
    drop(later);
    eventually("it is released", async || one.lease("rss/a").await.expect("an answer")).await;
}

async fn sources_come_in_order_and_by_family(world: Arc<World>) {
    let state = world.open().await;
    let known = SourceState { failures: 2, ..SourceState::default() };
    for name in ["rss/b", "rss/B", "rss/á", "rss/a-1", "rss/a", "misp/a"] {
        let lease = state.lease(name).await.expect("an answer").expect("it is free");
        state.save_source(&lease, &known).await.expect("it is stored");
        state.save_source(&lease, &known).await.expect("it is stored again");
    }
    let found = state.sources("rss").await.expect("states");
    let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["B", "a", "a-1", "b", "á"]);
    assert!(found.iter().all(|(_, state)| *state == known));
}

async fn overrides_are_set_and_forgotten(world: Arc<World>) {
    let state = world.open().await;
    let word = |enabled| Override {
        enabled: Some(enabled),
        definition: Some(json!({"id": "a"})),
        removed: false,
    };
    state.set_override("rss", "b", &word(true)).await.expect("it is set");
    state.set_override("rss", "a", &word(true)).await.expect("it is set");
    state.set_override("rss", "a", &word(false)).await.expect("it is set");
    state.set_override("rss", "b", &Override::default()).await.expect("it is forgotten");
    let found = state.overrides("rss").await.expect("overrides");
    assert_eq!(found, [("a".to_owned(), word(false))]);
    assert_eq!(state.overrides("misp").await.expect("overrides"), []);
}

async fn the_days_of_a_source_are_summed(world: Arc<World>) {
    let state = world.open().await;
    for (hours, failed) in [(0, false), (1, true), (13, false)] {
        let sum = VisitSum { failed, new: 2, bytes: 3_000_000_000 };
        let now = noon() + SignedDuration::from_hours(hours);
        state.note_visit("rss/a", sum, now).await.expect("it is noted");
    }
    let days = state.source_days(Some("rss/a"), noon()).await.expect("days");
    let day = |day: &str, visits, failures, new, bytes| SourceDay {
        source: "rss/a".to_owned(),
        day: day.to_owned(),
        visits,
        failures,
        new,
        bytes,
    };
    let expected =
        [day("2026-03-01", 2, 1, 4, 6_000_000_000), day("2026-03-02", 1, 0, 2, 3_000_000_000)];
    assert_eq!(days, expected);
    assert_eq!(
        state.source_days(None, noon() + SignedDuration::from_hours(24)).await.expect("days"),
        expected[1..]
    );
    assert_eq!(state.source_days(Some("rss/b"), noon()).await.expect("days"), []);
}

pub(crate) fn failed(id: &str, reason: &str) -> LedgerItem {
    LedgerItem { id: id.to_owned(), reason: reason.to_owned(), kind: LedgerKind::Failed }
}

fn rejected(id: &str, reason: &str) -> LedgerItem {
    LedgerItem { kind: LedgerKind::Rejected, ..failed(id, reason) }
}

async fn the_retry_ledger_holds_what_still_fails(world: Arc<World>) {
    let state = world.open().await;
    let lease = state.lease("rss/a").await.expect("an answer").expect("it is free");
    let later = at("2026-03-01T14:00:00Z");
    let note = async |items: &[LedgerItem], is_whole| {
        state.note_items(&lease, items, is_whole, later).await.expect("it is noted");
    };
    let ledger =
        async |kind| state.ledger("rss/a", kind, LEDGER_MAX as u32).await.expect("a ledger");
    let both = [failed("1", "mapping"), failed("2", "mapping")];
    state.note_items(&lease, &both, true, noon()).await.expect("it is noted");
    // Twice in one visit it is one item.
    note(&[failed("2", "first"), failed("2", "mapping")], true).await;
    let retry = Retry {
        id: "2".to_owned(),
        reason: "mapping".to_owned(),
        attempts: 2,
        kind: LedgerKind::Failed,
        at: Some(later),
    };
    let expected = [retry.clone()];
    assert_eq!(ledger(LedgerKind::Failed).await, expected);
    assert_eq!(ledger(LedgerKind::Rejected).await, []);
    // A visit that came to nothing says nothing of them.
    note(&[], false).await;
    assert_eq!(ledger(LedgerKind::Failed).await, expected);
    note(&[], true).await;
    assert_eq!(ledger(LedgerKind::Failed).await, []);

    // What is refused for good is told apart, and goes by the same rule.
    note(&[failed("1", "busy"), rejected("2", "too long"), rejected("3", "too long")], true).await;
    let ids = async |kind| ledger(kind).await.into_iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(ids(LedgerKind::Failed).await, ["1"]);
    assert_eq!(ids(LedgerKind::Rejected).await, ["2", "3"]);
    note(&[rejected("1", "too long"), rejected("3", "too long")], true).await;
    assert_eq!(ids(LedgerKind::Failed).await, [""; 0]);
    assert_eq!(ids(LedgerKind::Rejected).await, ["1", "3"]);
    let of = async |family| state.ledgers(family, LedgerKind::Rejected).await.expect("ledgers");
    let other = state.lease("misp/b").await.expect("an answer").expect("it is free");
    state.note_items(&other, &[rejected("9", "x")], true, noon()).await.expect("it is noted");
    assert_eq!(of(Some("rss")).await, [("rss/a".to_owned(), 2)]);
    assert_eq!(of(None).await, [("misp/b".to_owned(), 1), ("rss/a".to_owned(), 2)]);
    assert_eq!(state.forget("rss/a", LedgerKind::Failed).await.expect("an answer"), 0);
    assert_eq!(state.forget("rss/a", LedgerKind::Rejected).await.expect("an answer"), 2);
    assert_eq!(of(None).await, [("misp/b".to_owned(), 1)]);
}

async fn a_ledger_is_bounded_and_keeps_what_is_tried_again(world: Arc<World>) {
    let state = world.open().await;
    let lease = state.lease("rss/a").await.expect("an answer").expect("it is free");
    let mut items: Vec<LedgerItem> =
        (0..LEDGER_MAX + 700).map(|number| rejected(&format!("{number:06}"), "x")).collect();
    items.push(failed("zzz", "busy"));
    let counts = async || {
        let count = async |kind| {
            let ledgers = state.ledgers(None, kind).await.expect("ledgers");
            ledgers.first().map_or(0, |(_, count)| *count)
        };
        [count(LedgerKind::Failed).await, count(LedgerKind::Rejected).await]
    };
    state.note_items(&lease, &items, true, noon()).await.expect("it is noted");
    assert_eq!(counts().await, [1, LEDGER_MAX as u32 - 1]);
    // Again, and what has no room yet still has none; a row that is there is counted once more.
    state.note_items(&lease, &items, false, noon()).await.expect("it is noted");
    assert_eq!(counts().await, [1, LEDGER_MAX as u32 - 1]);
    let first = state.ledger("rss/a", LedgerKind::Rejected, 1).await.expect("a ledger");
    assert_eq!((first.len(), first[0].id.as_str(), first[0].attempts), (1, "000000", 2));
    state.note_items(&lease, &items[..1], true, noon()).await.expect("it is noted");
    assert_eq!(counts().await, [0, 1]);
}

async fn a_source_is_reset_unless_it_is_held(world: Arc<World>) {
    let state = world.open().await;
    let lease = state.lease("rss/a").await.expect("an answer").expect("it is free");
    let mut known = SourceState { failures: 2, ..SourceState::default() };
    let validators = Validators { etag: Some("\"1\"".to_owned()), last_modified: None };
    known.validators.insert("https://a.example/".to_owned(), validators);
    known.cursor = Some(json!(7));
    known.next_allowed = Some(noon());
    state.save_source(&lease, &known).await.expect("it is stored");
    assert_eq!(state.source("rss/a").await.expect("a state"), known);
    let refused = state.reset_source("rss/a").await.expect_err("it is held");
    assert!(refused.to_string().contains("a run holds it"), "{}", refused.chain());
    drop(lease);
    eventually("it is free", async || state.reset_source("rss/a").await.ok()).await;
    let expected = SourceState { failures: 2, ..SourceState::default() };
    assert_eq!(state.source("rss/a").await.expect("a state"), expected);
    assert!(state.lease("rss/a").await.expect("an answer").is_some(), "it is free at once");
    state.reset_source("rss/b").await.expect("there is nothing to reset");
    assert_eq!(state.sources("rss").await.expect("states").len(), 1);
}

async fn a_run_keeps_what_it_was_asked_for(world: Arc<World>) {
    let state = world.open().await;
    let request = |id: &str| Identity::Request(id.to_owned());
    let begin = async |id: &str, input: &Value| {
        held(state.begin("collect", &request(id), input, "r", noon()).await.expect("an answer"))
    };
    let asked = json!({"categories": ["malware"], "nul": "\u{0}"});
    let hold = begin("one", &asked).await;
    assert_eq!(hold.input, asked);
    let run_id = hold.run_id.clone();
    let suspended = state.suspend(hold, &json!(1), &report(Status::Partial), noon()).await;
    let resumed = state.resume(&run_id, suspended.expect("a step"), "r", noon()).await;
    let resumed = held(resumed.expect("an answer"));
    assert_eq!(resumed.input, asked);
    // Its process dies. The next run goes on from its checkpoint, with an input of its own.
    drop(resumed);
    let other = json!({"categories": ["news"]});
    let next = eventually("it is adopted", async || {
        match state.begin("collect", &request("two"), &other, "r", noon()).await.expect("an answer")
        {
            Claim::Run(hold) => Some(hold),
            Claim::Skip(_) => None,
        }
    })
    .await;
    assert_eq!((&next.input, &next.checkpoint), (&other, &Some(json!(1))));
    // Also in its next attempt, and when it is an orphan itself.
    state.finish(*next, &report(Status::Failed), noon()).await.expect("it is finished");
    let again = begin("two", &other).await;
    assert_eq!((&again.input, &again.checkpoint), (&other, &Some(json!(1))));
    drop(again);
    let third = begin("three", &Value::Null).await;
    assert_eq!((&third.input, &third.checkpoint), (&Value::Null, &Some(json!(1))));
    let run_id = third.run_id.clone();
    let step = state.suspend(third, &json!(2), &report(Status::Partial), noon()).await;
    let third = state.resume(&run_id, step.expect("a step"), "r", noon()).await;
    let third = held(third.expect("an answer"));
    assert_eq!(third.checkpoint, Some(json!(2)));
    drop(third);
    let last = begin("four", &other).await;
    assert_eq!(last.checkpoint, Some(json!(2)));
    let runs = state.runs(None, 9).await.expect("runs");
    let inputs: std::collections::BTreeSet<String> =
        runs.iter().map(|run| run.input.to_string()).collect();
    assert_eq!(inputs.len(), 3, "{inputs:?}");
}

/// What the version before wrote: its tables, and a row in each that has changed since.
const BEFORE: &str = r#"
INSERT INTO runs (run_id, task, identity, request_id, status, fence, attempt, step, checkpoint, started_ms)
    VALUES ('r1', 'collect', 'request one', 'r', 'continuing', 1, 1, 1, '["left"]', 0);
INSERT INTO retries (source, id, reason, attempts) VALUES ('rss/a', '1', 'mapping', 3);
INSERT INTO sources (name, state) VALUES
    ('rss/a', '{"etag":"\"1\"","last_modified":"then","url":"https://a.example/","moved_to":null,"cursor":{"at":1},"last_attempt":null,"last_success":null,"last_new":null,"usual_gap_s":60,"failures":2,"next_allowed":null,"gone":false,"last_outcome":"stored","last_error":null}'),
    ('rss/b', '{"etag":null,"last_modified":null,"url":"https://b.example/","failures":0,"gone":false}');
"#;

async fn a_state_of_the_version_before_is_opened(world: Arc<World>) {
    match &*world {
        World::Sqlite(folder) => {
            let first = include_str!("../../../shared/stores/src/state/migrations/sqlite/0001.sql");
            let options = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(folder.path().join(Sqlite::FILE))
                .create_if_missing(true);
            let mut file = options.connect().await.expect("a file");
            let sql = format!("{first}; {BEFORE}; PRAGMA user_version = 1");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut file).await.expect("it is written");
            file.close().await.expect("it closes");
        }
        World::Postgres { .. } => {
            let first =
                include_str!("../../../shared/stores/src/state/migrations/postgres/0001.sql");
            world.execute(first).await;
            world.execute("CREATE TABLE minerva_schema (version BIGINT NOT NULL)").await;
            world.execute("INSERT INTO minerva_schema VALUES (1)").await;
            world.execute(BEFORE).await;
        }
    }
    for _ in 0..2 {
        let state = world.open().await;
        let ledger = state.ledger("rss/a", LedgerKind::Failed, 9).await.expect("a ledger");
        let kept = Retry {
            id: "1".to_owned(),
            reason: "mapping".to_owned(),
            attempts: 3,
            kind: LedgerKind::Failed,
            at: None,
        };
        assert_eq!(ledger, [kept]);
        let known = state.source("rss/a").await.expect("a state");
        let validators =
            Validators { etag: Some("\"1\"".to_owned()), last_modified: Some("then".to_owned()) };
        assert_eq!(known.validators, [("https://a.example/".to_owned(), validators)].into());
        assert_eq!((known.cursor, known.usual_gap_s), (Some(json!({"at": 1})), Some(60)));
        let b = state.source("rss/b").await.expect("a state");
        assert_eq!(b, SourceState::default());
        let runs = state.runs(None, 9).await.expect("runs");
        assert_eq!((runs.len(), &runs[0].input), (1, &Value::Null));
    }
    // Its run goes on, with what its next attempt is asked for, as it kept nothing itself.
    let state = world.open().await;
    let resumed = held(state.resume("r1", 1, "r", noon()).await.expect("an answer"));
    assert_eq!((resumed.checkpoint, resumed.input), (Some(json!(["left"])), Value::Null));
}

async fn what_a_source_sends_can_be_kept(world: Arc<World>) {
    let state = world.open().await;
    // NUL, a quote, a lone escape: PostgreSQL's text has no place for the first.
    let nasty = "a\0b'c\\d\u{1f980}";
    let lease = state.lease("rss/a").await.expect("an answer").expect("it is free");
    let news = SourceState {
        last_error: Some(nasty.to_owned()),
        cursor: Some(json!({"seen": nasty})),
        ..SourceState::default()
    };
    state.save_source(&lease, &news).await.expect("it is stored");
    assert_eq!(state.source("rss/a").await.expect("a state"), news);
    state.note_items(&lease, &[failed(nasty, nasty)], true, noon()).await.expect("it is noted");
    state
        .note_items(&lease, &[failed(nasty, nasty)], true, noon())
        .await
        .expect("it is noted again");
    let ledger = state.ledger("rss/a", LedgerKind::Failed, 9).await.expect("a ledger");
    assert_eq!((ledger.len(), ledger[0].attempts), (1, 2));
    state.enqueue(&Due { event: json!(nasty), ..due("r") }).await.expect("it is queued");
    let taken = state.take(noon()).await.expect("an answer").expect("it is due");
    assert_eq!(taken.entry.event, json!(nasty));
    state.settle(taken, QueueState::Dead, None, Some(nasty)).await.expect("it is settled");
}

async fn rows_move_as_they_are_in_the_order_of_bytes(world: Arc<World>) {
    let state = world.open().await;
    let names = ["rss/B", "rss/a", "rss/a-1", "rss/b", "rss/\u{e1}"];
    for name in names.iter().rev() {
        let lease = state.lease(name).await.expect("an answer").expect("it is free");
        let cursor = Some(json!({"at": 0.1, "text": "nul \u{0}"}));
        let known = SourceState { cursor, ..SourceState::default() };
        state.save_source(&lease, &known).await.expect("it is stored");
        let items = [failed("2", "nul \u{0}"), rejected("1", "x")];
        state.note_items(&lease, &items, true, noon()).await.expect("it is stored");
    }
    let hold = held(begin(&*state, noon()).await);
    state.finish(hold, &report(Status::Complete), noon()).await.expect("it is finished");
    state
        .set_override("rss", "a", &Override { enabled: Some(true), ..Override::default() })
        .await
        .expect("it is set");
    state
        .fire("collect", None, noon(), &Firings::of(&[due("1"), due("2")]))
        .await
        .expect("it is queued");
    for window in ["2026-03-01", "2026-03-02"] {
        let keys = [key("a", 1), key("b", 1)];
        state.spend("otx", window, &keys, noon()).await.expect("it is counted");
    }
    state.block("otx", "b", noon(), "status `429`").await.expect("it is blocked");
    state.begin_attempt("collect", "0", 1, noon()).await.expect("it is noted");
    let sum = VisitSum { failed: true, new: 1, bytes: 2 };
    state.note_visit("rss/a", sum, noon()).await.expect("it is noted");

    let mut all = Vec::new();
    for table in Table::ALL {
        let rows = state.rows(table, None, 100).await.expect("rows");
        assert!(rows.is_sorted_by(|one, other| one.id < other.id), "{table:?}: {rows:?}");
        // A page at a time it is the same.
        let mut paged = Vec::new();
        loop {
            let after = paged.last().map(|row: &Document| row.id.clone());
            let page = state.rows(table, after.as_deref(), 2).await.expect("rows");
            assert!(page.len() <= 2);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, rows, "{table:?}");
        all.push((table, rows));
    }
    let counts: Vec<usize> = all.iter().map(|(_, rows)| rows.len()).collect();
    assert_eq!(counts, [1, 1, 1, 10, 1, 5, 4, 1, 2, 2, 1]);
    let ids: Vec<&str> = all[5].1.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, names);
    assert_eq!(all[3].1[1].body["reason"], "nul \u{fffd}");

    for (table, rows) in &all {
        let keys: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        state.put_rows(*table, &keys, &[]).await.expect("they are taken away");
        assert_eq!(state.rows(*table, None, 9).await.expect("rows"), [], "{table:?}");
        for _ in 0..2 {
            state.put_rows(*table, &[], rows).await.expect("they are written");
            assert_eq!(&state.rows(*table, None, 100).await.expect("rows"), rows, "{table:?}");
        }
        let mut edited = rows.clone();
        let (name, _) = edited[0]
            .body
            .iter()
            .find(|(name, value)| value.is_number() && *name != "attempt")
            .map_or(("", &Value::Null), |(name, value)| (name.as_str(), value));
        if !name.is_empty() {
            let name = name.to_owned();
            edited[0].body.insert(name, json!(7));
            state.put_rows(*table, &keys[..0], &edited[..1]).await.expect("it is replaced");
            assert_eq!(state.rows(*table, None, 1).await.expect("rows"), edited[..1], "{table:?}");
            state.put_rows(*table, &keys[..1], &rows[..1]).await.expect("both together");
        }
    }
    // It works on with them.
    assert!(skipped(begin(&*state, noon()).await).contains("complete already"));
    assert_eq!(state.mark("collect").await.expect("a mark"), Some(noon()));
    assert_eq!(
        state.take(noon()).await.expect("an answer").expect("it is due").entry.task,
        "collect"
    );
}

async fn what_is_under_way_is_told(world: Arc<World>) {
    let (state, other) = (world.open().await, world.open().await);
    let under_way = async || other.under_way().await.expect("an answer");
    assert_eq!(under_way().await, Vec::<String>::new());
    let hold = held(begin(&*state, noon()).await);
    state.enqueue(&due("1")).await.expect("it is queued");
    let taken = state.take(noon()).await.expect("an answer").expect("it is due");
    let told = under_way().await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().any(|one| one.contains("collect") && one.contains("slot")), "{told:?}");
    state.settle(taken, QueueState::Done, None, None).await.expect("it is settled");
    // As if its process had died.
    drop(hold);
    eventually("nothing is held", async || under_way().await.is_empty().then_some(())).await;
}
