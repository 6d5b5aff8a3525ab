//! One suite for every store of state, under the same names: `state::sqlite::…` and `state::postgres::…`. What only a
//! server can suffer is in `state_postgres.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, ExitCode, Stdio};
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
    AttemptEnd, AttemptRow, BUDGETS_KEPT, BudgetKey, BudgetRow, Claim, Due, ENDED_MAX, Firings,
    HISTORY_KEPT, HistoryQuery, Hold, Identity, LEDGER_MAX, LOG_KEPT, LedgerItem, LedgerKind, Log,
    Missed, MissedSlot, Overlap, Override, Postgres, QueueLimit, QueueState, Retry, SlotRow,
    SourceDay, SourceState, Sqlite, State, Table, Timing, VisitSum,
};
use tests::services;
use tokio::runtime::Runtime;
use tokio::time::{interval, timeout};
use uuid::Uuid;

use crate::trial::trial;
use crate::{slots, state_postgres, upgrade};

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
    the_timetable_moves_forward_once
    of_many_schedulers_one_fires
    what_a_live_runner_holds_is_not_put_back
    an_attempt_that_was_succeeded_cannot_settle
    a_run_that_is_held_is_not_done
    a_dead_run_is_claimed_while_others_end_it
    an_attempt_that_died_with_its_runner_is_interrupted
    a_retry_waits_for_its_time
    every_slot_and_every_attempt_is_a_row
    what_may_not_overlap_waits_or_is_missed
    the_days_of_a_source_are_summed
    many_takers_take_each_invocation_once
    what_waits_in_the_queue_is_limited_and_so_is_what_ended
    the_retry_ledger_holds_what_still_fails
    a_ledger_is_bounded_and_keeps_what_is_tried_again
    a_source_is_reset_unless_it_is_held
    a_run_keeps_what_it_was_asked_for
    a_state_of_the_version_before_is_opened
    a_budget_is_spent_evenly_and_never_beyond
    a_budget_holds_over_processes_and_no_key_is_idle
    what_a_source_sends_can_be_kept
    slots_are_claimed_exactly_once
    rows_move_as_they_are_in_the_order_of_bytes
    what_is_under_way_is_told
];

/// The suite on each store, and what is peculiar to servers.
pub(crate) fn trials() -> Vec<Trial> {
    let on = |place: &str, name: &str, work: fn(Test), test: Test| {
        trial(format!("state::{place}::{name}"), move || work(test))
    };
    let mut trials = Vec::new();
    for (name, test) in SUITE {
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

async fn the_timetable_moves_forward_once(world: Arc<World>) {
    let state = world.open().await;
    let later = at("2026-03-01T14:00:00Z");
    let due = Due { due: later, ..due("r1") };
    let fire = async |seen, until, firings: &[Due]| {
        state.fire("collect", seen, until, &Firings::of(firings)).await.expect("an answer")
    };
    assert!(!fire(Some(noon()), later, &[]).await, "a mark that was never set");
    assert_eq!(state.mark("collect").await.expect("an answer"), None);
    assert!(fire(None, noon(), &[]).await);
    assert!(!fire(None, later, std::slice::from_ref(&due)).await, "another runner was first");
    assert!(fire(Some(noon()), later, std::slice::from_ref(&due)).await);
    assert!(!fire(Some(later), noon(), &[due]).await, "the clock was set back");
    assert_eq!(state.mark("collect").await.expect("an answer"), Some(later));
    assert_eq!(next_due(&*state).await, Some(later));
    assert!(state.take(noon()).await.expect("an answer").is_none());
    let taken = state.take(later).await.expect("an answer").expect("it is due");
    assert_eq!((taken.entry.request_id.as_str(), taken.entry.attempts), ("r1", 1));
    assert!(state.take(later).await.expect("an answer").is_none());
    // Its runner dies.
    drop(taken);
    assert_eq!(state.recover(later).await.expect("an answer"), 1);
    let again = state.take(later).await.expect("an answer").expect("it was put back");
    state.settle(again, QueueState::Dead, None, Some("status `500`")).await.expect("it is settled");
    let dead = state.queue(QueueState::Dead, 9).await.expect("the dead letters");
    assert_eq!((dead.len(), dead[0].attempts), (1, 2));
    assert_eq!(dead[0].error.as_deref(), Some("status `500`"));
    assert_eq!(next_due(&*state).await, None);
}

async fn of_many_schedulers_one_fires(world: Arc<World>) {
    let states = [world.open().await, world.open().await, world.open().await];
    let mut mark = None;
    for round in 1..=world.many(100) {
        // Their clocks differ, so each would move the mark somewhere else.
        let tries = states.iter().cloned().zip(0..).map(|(state, ahead)| {
            let until = noon() + SignedDuration::from_secs(i64::from(round) * 10 + ahead);
            let due = due(&format!("{round}-{ahead}"));
            tokio::spawn(
                async move { state.fire("collect", mark, until, &Firings::of(&[due])).await },
            )
        });
        let mut fired = 0;
        for fire in tries.collect::<Vec<_>>() {
            fired += u32::from(fire.await.expect("no panic").expect("an answer"));
        }
        assert_eq!(fired, 1, "round {round}");
        mark = states[0].mark("collect").await.expect("an answer");
    }
    let queued = states[0].queue(QueueState::Queued, 1000).await.expect("the queue");
    assert_eq!(queued.len(), world.many(100) as usize);
}

async fn what_a_live_runner_holds_is_not_put_back(world: Arc<World>) {
    let (one, other) = (world.open().await, world.open().await);
    for id in ["a", "b", "c"] {
        one.enqueue(&due(id)).await.expect("it is queued");
        one.enqueue(&due(id)).await.expect("it is known already");
    }
    let a = one.take(noon()).await.expect("an answer").expect("one is due");
    let b = other.take(noon()).await.expect("an answer").expect("one is due");
    assert_eq!((a.entry.request_id.as_str(), b.entry.request_id.as_str()), ("a", "b"));
    assert_eq!(one.recover(noon()).await.expect("an answer"), 0);
    drop(a);
    let put_back = eventually("it is put back", async || {
        Some(other.recover(noon()).await.expect("an answer")).filter(|count| *count > 0)
    });
    assert_eq!(put_back.await, 1);
    other.settle(b, QueueState::Done, None, None).await.expect("it is settled");
    let queued = one.queue(QueueState::Queued, 9).await.expect("the queue");
    let ids: Vec<&str> = queued.iter().map(|entry| entry.request_id.as_str()).collect();
    // The newest first: it has its old place, before what fell due after it.
    assert_eq!(ids, ["c", "a"]);
}

async fn an_attempt_that_was_succeeded_cannot_settle(world: Arc<World>) {
    let (one, other) = (world.open().await, world.open().await);
    one.enqueue(&due("a")).await.expect("it is queued");
    let former = one.take(noon()).await.expect("an answer").expect("it is due");
    world.lose_holds().await;
    assert_eq!(other.recover(noon()).await.expect("an answer"), 1);
    let later = other.take(noon()).await.expect("an answer").expect("it was put back");
    assert!(one.settle(former, QueueState::Dead, None, None).await.is_err());
    other.settle(later, QueueState::Done, None, None).await.expect("it is settled");
    assert_eq!(one.queue(QueueState::Done, 9).await.expect("the queue")[0].attempts, 2);
}

/// Who is told that another holds a run may mean one that died before it noted it.
async fn a_run_that_is_held_is_not_done(world: Arc<World>) {
    let state = world.open().await;
    let identities = [Identity::Slot(noon()), Identity::Request("r".to_owned())];
    for identity in identities {
        let is_done = async || state.is_done("collect", &identity).await.expect("an answer");
        let begin = async || {
            let claim = state.begin("collect", &identity, &Value::Null, "r", noon()).await;
            held(claim.expect("an answer"))
        };
        assert!(!is_done().await, "nobody has begun it");
        let run = begin().await;
        assert!(!is_done().await, "it runs");
        state.finish(run, &report(Status::Failed), noon()).await.expect("it ends");
        assert!(!is_done().await, "it is tried again");
        let run = begin().await;
        let (id, left) = (run.run_id.clone(), report(Status::Partial));
        let step = state.suspend(run, &json!({}), &left, noon()).await.expect("it is suspended");
        let is_step_done = async |step| state.is_step_done(&id, step).await.expect("an answer");
        assert!(!is_done().await && !is_step_done(step).await, "it goes on");
        assert!(is_step_done(step - 1).await);
        let run = held(state.resume(&id, step, "r", noon()).await.expect("an answer"));
        state.finish(run, &report(Status::Complete), noon()).await.expect("it ends");
        assert!(is_done().await && is_step_done(step).await);
    }
    assert!(state.is_step_done("no run", 1).await.expect("an answer"));
}

/// A dead run's next attempt and other runs of the task, which end it as nobody's, may come at the same moment: told then that
/// another was at it, the attempt would count as made.
async fn a_dead_run_is_claimed_while_others_end_it(world: Arc<World>) {
    let states = [world.open().await, world.open().await, world.open().await];
    for round in 0..world.many(60) {
        let slot = |minute: u32| noon() + SignedDuration::from_mins((round * 4 + minute).into());
        let dead = held(begin(&*states[0], slot(0)).await);
        world.lose_holds().await;
        drop(dead);
        let tries = (0..4).map(|minute| {
            let (state, slot) = (Arc::clone(&states[minute as usize % 3]), slot(minute));
            tokio::spawn(async move { begin(&*state, slot).await })
        });
        for (minute, claim) in tries.collect::<Vec<_>>().into_iter().enumerate() {
            let hold = held(claim.await.expect("no panic"));
            assert_eq!(hold.attempt, if minute == 0 { 2 } else { 1 }, "round {round}");
            let ended = report(Status::Complete);
            states[0].finish(hold, &ended, noon()).await.expect("it is finished");
        }
    }
}

/// Of an attempt that no queue knows of, such as one of the command `run`.
async fn an_attempt_that_died_with_its_runner_is_interrupted(world: Arc<World>) {
    let state = world.open().await;
    let query = |outcome| HistoryQuery { outcome, limit: 9, ..HistoryQuery::default() };
    let outcomes = async |outcome| {
        let mut rows = state.attempts(&query(outcome)).await.expect("attempts");
        rows.sort_by(|one, other| one.request_id.cmp(&other.request_id));
        let shown = |row: AttemptRow| format!("{} {}", row.request_id, row.outcome);
        rows.into_iter().map(shown).collect::<Vec<_>>()
    };
    // Each of a task of its own: the next run of the same one would end it as nobody's.
    for id in ["dies", "ends", "lives", "never-began"] {
        state.begin_attempt(id, id, 1, noon()).await.expect("it is noted");
    }
    let begin = async |id: &str| {
        let identity = Identity::Request(id.to_owned());
        let claim = state.begin(id, &identity, &Value::Null, id, noon()).await;
        held(claim.expect("an answer"))
    };
    let (dies, ends) = (begin("dies").await, begin("ends").await);
    state.finish(ends, &report(Status::Complete), noon()).await.expect("it is finished");
    world.lose_holds().await;
    drop(dies);
    let lives = begin("lives").await;

    // It is told at once; what only was not noted yet has a minute.
    let told = ["dies interrupted", "ends running", "lives running", "never-began running"];
    assert_eq!(outcomes(None).await, told);
    assert_eq!(outcomes(Some("running")).await, told[1..]);
    state.end_interrupted(noon()).await.expect("it is noted");
    assert_eq!(outcomes(Some("interrupted")).await, told[..1]);
    let later = noon() + SignedDuration::from_secs(61);
    state.recover(later).await.expect("an answer");
    let told = ["dies interrupted", "ends interrupted", "lives running", "never-began interrupted"];
    assert_eq!(outcomes(None).await, told);
    let rows = state.attempts(&query(Some("interrupted"))).await.expect("attempts");
    assert!(rows.iter().all(|row| row.ended.is_some()), "{rows:?}");
    drop(lives);
}

async fn a_retry_waits_for_its_time(world: Arc<World>) {
    let state = world.open().await;
    state.enqueue(&due("a")).await.expect("it is queued");
    let taken = state.take(noon()).await.expect("an answer").expect("it is due");
    let later = noon() + SignedDuration::from_mins(1);
    state
        .settle(taken, QueueState::Queued, Some(later), Some("busy"))
        .await
        .expect("it is settled");
    assert!(state.take(noon()).await.expect("an answer").is_none());
    assert_eq!(next_due(&*state).await, Some(later));
    let again = state.take(later).await.expect("an answer").expect("it is due again");
    assert_eq!((again.entry.attempts, again.entry.error.as_deref()), (2, Some("busy")));
}

async fn every_slot_and_every_attempt_is_a_row(world: Arc<World>) {
    let state = world.open().await;
    let missed = |request_id: &str, slot, reason| MissedSlot {
        request_id: request_id.to_owned(),
        slot: at(slot),
        reason,
    };
    let firings = Firings {
        queued: vec![Due { due: noon(), ..due("ran") }],
        missed: vec![
            missed("long-ago", "2026-02-01T12:00:00Z", Missed::OutsideWindow),
            missed("before", "2026-03-01T10:00:00Z", Missed::Folded),
        ],
        ..Firings::default()
    };
    state.fire("collect", None, noon(), &firings).await.expect("it is queued");
    let slots = async || {
        let query = HistoryQuery { limit: 9, ..HistoryQuery::default() };
        let rows = state.slots(&query).await.expect("slots");
        let shown = |row: SlotRow| format!("{} {} {:?}", row.request_id, row.outcome, row.reason);
        rows.into_iter().map(shown).collect::<Vec<_>>()
    };
    let [folded, outside] =
        ["before missed Some(\"folded\")", "long-ago missed Some(\"outside_window\")"];
    assert_eq!(slots().await, ["ran queued None", folded, outside]);

    // An attempt has its row from before its process starts; of one whose runner dies it says so.
    let taken = state.take(noon()).await.expect("an answer").expect("it is due");
    assert_eq!(slots().await[0], "ran running None");
    let attempts = async |query| state.attempts(&query).await.expect("attempts");
    let all = HistoryQuery { limit: 9, ..HistoryQuery::default() };
    let begun = attempts(all.clone()).await;
    assert_eq!((begun.len(), begun[0].outcome.as_str(), begun[0].attempt), (1, "running", 1));
    drop(taken);
    let later = noon() + SignedDuration::from_mins(1);
    eventually("it is put back", async || {
        Some(state.recover(later).await.expect("an answer")).filter(|count| *count > 0)
    })
    .await;
    let taken = state.take(later).await.expect("an answer").expect("it was put back");
    let log = Log { text: "a line\n".to_owned(), bytes: 7 };
    state.keep_log("ran", 2, &log).await.expect("it is kept");
    assert_eq!(state.log("ran", 2).await.expect("an answer"), Some(log.clone()));
    let end = AttemptEnd {
        run_id: Some("r".to_owned()),
        outcome: "failed".to_owned(),
        class: Some("upstream".to_owned()),
        error: Some("status `500`".to_owned()),
        peak_kb: 9_000,
        log,
    };
    state.end_attempt("ran", 2, &end, later).await.expect("it is noted");
    state.settle(taken, QueueState::Dead, None, Some("status `500`")).await.expect("it is settled");
    assert_eq!(slots().await, ["ran dead None", folded, outside]);
    let outcomes: Vec<_> =
        attempts(all).await.into_iter().map(|row| (row.attempt, row.outcome)).collect();
    assert_eq!(outcomes, [(2, "failed".to_owned()), (1, "interrupted".to_owned())]);
    let of_run =
        attempts(HistoryQuery { run_id: Some("r"), limit: 9, ..HistoryQuery::default() }).await;
    assert_eq!((of_run.len(), of_run[0].peak_kb, of_run[0].log_bytes), (1, Some(9_000), 7));

    // A dead letter that is sent again, and done.
    assert!(!state.redrive("before", later).await.expect("an answer"), "it is none");
    assert!(state.redrive("ran", later).await.expect("an answer"));
    assert_eq!(slots().await[0], "ran queued None");
    let taken = state.take(later).await.expect("an answer").expect("it is due");
    let hold = held(begin(&*state, noon()).await);
    state.finish(hold, &report(Status::Partial), later).await.expect("it is finished");
    state.settle(taken, QueueState::Done, None, None).await.expect("it is settled");
    assert_eq!(slots().await[0], "ran partial None", "as its run ended");
    let counts = state.slot_counts(at("2026-02-15T00:00:00Z")).await.expect("counts");
    assert_eq!(counts, [("missed".to_owned(), 1), ("partial".to_owned(), 1)].into());

    // Logs go after their time, rows after theirs.
    state
        .trim_history(noon() + LOG_KEPT + SignedDuration::from_hours(1))
        .await
        .expect("it is trimmed");
    assert_eq!(state.log("ran", 2).await.expect("an answer"), None);
    assert_eq!(slots().await.len(), 3);
    state
        .trim_history(noon() + HISTORY_KEPT + SignedDuration::from_hours(1))
        .await
        .expect("it is trimmed");
    assert_eq!(slots().await, Vec::<String>::new());
}

async fn what_may_not_overlap_waits_or_is_missed(world: Arc<World>) {
    let state = world.open().await;
    let fire = async |seen, minute: i64, overlap| {
        let until = noon() + SignedDuration::from_mins(minute);
        let queued = vec![Due { due: until, ..due(&minute.to_string()) }];
        let firings = Firings { queued, overlap, ..Firings::default() };
        assert!(state.fire("collect", seen, until, &firings).await.expect("an answer"));
        Some(until)
    };
    let late = noon() + SignedDuration::from_hours(1);
    let mark = fire(None, 1, Overlap::Queue).await;
    let mark = fire(mark, 2, Overlap::Queue).await;
    let mark = fire(mark, 3, Overlap::Skip).await;
    let first = state.take(late).await.expect("an answer").expect("it is due");
    assert!(state.take(late).await.expect("an answer").is_none(), "the second waits");
    // One that was asked for does not.
    state.enqueue(&due("asked")).await.expect("it is queued");
    let asked = state.take(late).await.expect("an answer").expect("it is due");
    state.settle(asked, QueueState::Done, None, None).await.expect("it is settled");
    fire(mark, 4, Overlap::Allow).await;
    let beside = state.take(late).await.expect("an answer").expect("it may overlap");
    assert_eq!(beside.entry.request_id, "4");
    state.settle(beside, QueueState::Done, None, None).await.expect("it is settled");
    state.settle(first, QueueState::Done, None, None).await.expect("it is settled");
    let second = state.take(late).await.expect("an answer").expect("its turn has come");
    assert_eq!(second.entry.request_id, "2");
    let query = HistoryQuery { outcome: Some("missed"), limit: 9, ..HistoryQuery::default() };
    let missed = state.slots(&query).await.expect("slots");
    assert_eq!((missed.len(), missed[0].reason.as_deref()), (1, Some("overlapped")));
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

async fn what_waits_in_the_queue_is_limited_and_so_is_what_ended(world: Arc<World>) {
    let state = world.open().await;
    let of = |id: &str, bytes: usize| Due { event: json!("x".repeat(bytes - 2)), ..due(id) };
    let limit = QueueLimit { rows: 3, bytes: 100 };
    let queue = async |due: Due| state.enqueue_within(&due, limit).await.expect("an answer");
    assert!(queue(of("a", 60)).await);
    assert!(!queue(of("b", 41)).await, "too many bytes");
    assert!(queue(of("b", 40)).await);
    assert!(queue(of("a", 60)).await, "a doubled event is queued already");
    assert!(!state.has_room(1, limit).await.expect("an answer"));
    assert!(state.has_room(0, limit).await.expect("an answer"));
    // What is run counts still, what has ended does not.
    let a = state.take(noon()).await.expect("an answer").expect("it is due");
    assert!(!queue(of("c", 60)).await);
    state.settle(a, QueueState::Done, None, None).await.expect("it is settled");
    assert!(queue(of("c", 30)).await && queue(of("d", 3)).await);
    assert!(!queue(of("e", 3)).await, "too many rows");
    state.enqueue(&due("firing")).await.expect("the timetable's own are queued in any case");
    while let Some(taken) = state.take(noon()).await.expect("an answer") {
        state.settle(taken, QueueState::Done, None, None).await.expect("it is settled");
    }

    // Of what ended, the newest are kept.
    const EVENT: usize = 1024 * 1024;
    let kept = ENDED_MAX.bytes as usize / EVENT;
    for state_after in [QueueState::Dead, QueueState::Done] {
        for number in 0..kept + 3 {
            let id = format!("{}-{number}", state_after.name());
            state.enqueue(&of(&id, EVENT)).await.expect("it is queued");
            let taken = state.take(noon()).await.expect("an answer").expect("it is due");
            state.settle(taken, state_after, None, None).await.expect("it is settled");
        }
        let ended = state.queue(state_after, 1000).await.expect("the queue");
        assert_eq!(ended.len(), kept);
        assert_eq!(ended[0].request_id, format!("{}-{}", state_after.name(), kept + 2));
    }
}

async fn many_takers_take_each_invocation_once(world: Arc<World>) {
    let states = [world.open().await, world.open().await];
    let count = world.many(500);
    for number in 0..count {
        states[0].enqueue(&due(&number.to_string())).await.expect("it is queued");
    }
    let takers = (0..4).map(|taker| {
        let state = Arc::clone(&states[taker % 2]);
        tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Some(next) = state.take(noon()).await.expect("an answer") {
                taken.push(next.entry.request_id.clone());
                state.settle(next, QueueState::Done, None, None).await.expect("it is settled");
            }
            taken
        })
    });
    let mut taken = Vec::new();
    for taker in takers.collect::<Vec<_>>() {
        taken.extend(taker.await.expect("no panic"));
    }
    assert_eq!(taken.len(), count as usize);
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), count as usize, "none twice");
    let done = states[1].queue(QueueState::Done, 1000).await.expect("the queue");
    assert!(done.iter().all(|entry| entry.attempts == 1));
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

/// When the next queued invocation is due.
async fn next_due(state: &dyn State) -> Option<Timestamp> {
    let queued = state.queue(QueueState::Queued, 1000).await.expect("the queue");
    queued.iter().map(|entry| entry.due).min()
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
            let first = include_str!("../../shared/stores/src/state/migrations/sqlite/0001.sql");
            let options = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(folder.path().join(Sqlite::FILE))
                .create_if_missing(true);
            let mut file = options.connect().await.expect("a file");
            let sql = format!("{first}; {BEFORE}; PRAGMA user_version = 1");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut file).await.expect("it is written");
            file.close().await.expect("it closes");
        }
        World::Postgres { .. } => {
            let first = include_str!("../../shared/stores/src/state/migrations/postgres/0001.sql");
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

fn key(id: &str, limit: u32) -> BudgetKey {
    BudgetKey { id: id.to_owned(), limit }
}

async fn a_budget_is_spent_evenly_and_never_beyond(world: Arc<World>) {
    let state = world.open().await;
    let keys = [key("b", 2), key("a", 2)];
    let spend =
        async |window: &str, now| state.spend("otx", window, &keys, now).await.expect("an answer");
    let day = "2026-03-01";
    for expected in [Some(0), Some(1), Some(0), Some(1), None, None] {
        assert_eq!(spend(day, noon()).await, expected);
    }
    let budgets = async || {
        let rows = state.budgets("otx").await.expect("budgets");
        let told = |row: BudgetRow| {
            let blocked = row.reason.zip(row.blocked_until).is_some();
            (row.id, row.window.unwrap_or_default(), row.spent, blocked)
        };
        rows.into_iter().map(told).collect::<Vec<_>>()
    };
    let row =
        |id: &str, window: &str, spent, blocked| (id.to_owned(), window.to_owned(), spent, blocked);
    assert_eq!(budgets().await, [row("a", day, 2, false), row("b", day, 2, false)]);
    assert_eq!(state.spend("misp", day, &keys[..1], noon()).await.expect("an answer"), Some(0));
    // The next window starts at zero, and one that is counted by another clock is not forgotten.
    let next = "2026-03-02";
    assert_eq!(spend(next, noon()).await, Some(0));
    assert_eq!(spend(day, noon()).await, None);
    // A blocked key leaves its uses to the other, for as long as it is blocked.
    let later = noon() + SignedDuration::from_hours(1);
    state.block("otx", "a", later, "status `429`").await.expect("it is blocked");
    assert_eq!(spend(next, noon()).await, Some(0));
    assert_eq!(spend(next, noon()).await, None);
    assert_eq!(spend(next, later).await, Some(1));
    let expected = [
        row("a", day, 2, true),
        row("a", next, 1, true),
        row("b", day, 2, false),
        row("b", next, 2, false),
    ];
    assert_eq!(budgets().await, expected);
    assert_eq!(state.reset_budgets("otx", next).await.expect("an answer"), 2);
    assert_eq!(spend(next, later).await, Some(0));
    // Windows of long ago are forgotten.
    let far = noon() + BUDGETS_KEPT + SignedDuration::from_hours(2);
    assert_eq!(spend("2026-03-09", far).await, Some(0));
    assert_eq!(
        budgets().await,
        [row("a", "2026-03-09", 0, true), row("b", "2026-03-09", 1, false)]
    );
    state.block("otx", "c", far, "never used").await.expect("it is blocked");
    assert!(budgets().await.contains(&row("c", "", 0, true)));
    assert_eq!(state.spend("otx", "x", &[], far).await.expect("an answer"), None);
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

/// Two processes with two claimants each.
async fn slots_are_claimed_exactly_once(world: Arc<World>) {
    let count = world.many(10_000);
    let arguments = [CLAIMER, &count.to_string(), &world.place()];
    let processes = [spawn(&arguments), spawn(&arguments)];
    let won: Vec<u32> = processes.into_iter().flat_map(numbers).collect();
    assert_eq!((won.len(), won.iter().sum::<u32>()), (4, count), "won: {won:?}");
    let runs = world.open().await.runs(None, count + 1).await.expect("runs");
    assert_eq!(runs.len(), count as usize);
    // A slot that was claimed once more would be in its second attempt.
    assert!(runs.iter().all(|run| run.attempt == 1 && run.status == "complete"));
}

/// Four processes on two keys, of which one is blocked for some of the time by one that says so.
async fn a_budget_holds_over_processes_and_no_key_is_idle(world: Arc<World>) {
    const LIMIT: u32 = 100;
    let state = world.open().await;
    // All of the first window's uses are of the second key while the first is blocked.
    state.block("otx", "one", noon() + SignedDuration::from_hours(1), "429").await.expect("done");
    for (window, expected) in [("first", [0, LIMIT]), ("second", [LIMIT, LIMIT])] {
        if window == "second" {
            state.block("otx", "one", noon(), "it works again").await.expect("it is unblocked");
        }
        let arguments = [SPENDER, &LIMIT.to_string(), &world.place(), window];
        let processes =
            [spawn(&arguments), spawn(&arguments), spawn(&arguments), spawn(&arguments)];
        let mut got = [0, 0];
        for process in processes {
            let won = numbers(process);
            got = [got[0] + won[0], got[1] + won[1]];
        }
        assert_eq!(got, expected, "{window}");
        let rows = state.budgets("otx").await.expect("budgets");
        let spent: Vec<u32> = rows
            .iter()
            .filter(|row| row.window.as_deref() == Some(window))
            .map(|row| row.spent)
            .collect();
        assert_eq!(spent, expected, "{window}");
    }
}

/// This binary as a process with these arguments.
fn spawn(arguments: &[&str]) -> Child {
    Command::new(std::env::current_exe().expect("this file"))
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// What such a process says.
#[track_caller]
fn numbers(process: Child) -> Vec<u32> {
    let ended = process.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "a process failed; it says why above");
    let said = String::from_utf8(ended.stdout).expect("numbers");
    said.split_whitespace().map(|one| one.parse().expect("a number")).collect()
}

/// The words by which this binary becomes one of those processes.
const CLAIMER: &str = "claim-slots";
const SPENDER: &str = "spend-budget";

/// The end of this process, where it was started to claim slots or to spend a budget: it says how many each of its claimants
/// got, or how often it got each key.
#[expect(clippy::print_stdout, reason = "its parent reads it")]
pub(crate) fn claimer() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, word, count, place, rest @ ..] = arguments.as_slice() else { return None };
    let (is_claimer, is_spender) = (word == CLAIMER, word == SPENDER);
    if !is_claimer && !is_spender {
        return None;
    }
    let count: u32 = count.parse().expect("a number");
    runtime().block_on(async {
        if is_spender {
            let [one, two] = spend_all(&*open_at(place).await, count, &rest[0]).await;
            println!("{one} {two}");
            return;
        }
        // From both ends, so that they meet and also race for each slot.
        let claimants = [false, true].map(|is_backwards| {
            let place = place.clone();
            tokio::spawn(
                async move { claim_all(&*open_at(&place).await, count, is_backwards).await },
            )
        });
        for claimant in claimants {
            println!("{}", claimant.await.expect("no panic"));
        }
    });
    Some(ExitCode::SUCCESS)
}

/// Spends until nothing is left; gives how often it got each key.
async fn spend_all(state: &dyn State, limit: u32, window: &str) -> [u32; 2] {
    let keys = [key("one", limit), key("two", limit)];
    let mut got = [0, 0];
    while let Some(place) = state.spend("otx", window, &keys, noon()).await.expect("an answer") {
        got[place] += 1;
    }
    got
}

/// Takes every slot that is to be had, and finishes it; gives how many it got.
async fn claim_all(state: &dyn State, count: u32, is_backwards: bool) -> u32 {
    let mut won = 0;
    for number in 0..count {
        let number = if is_backwards { count - 1 - number } else { number };
        let slot = noon() + SignedDuration::from_mins(number.into());
        if let Claim::Run(hold) = begin(state, slot).await {
            won += 1;
            state.finish(*hold, &report(Status::Complete), noon()).await.expect("it is finished");
        }
    }
    won
}

/// The store in a folder, or at an address.
async fn open_at(place: &str) -> Arc<dyn State> {
    if place.contains("://") {
        let address = Address::parse(place).expect("an address");
        return Arc::new(Postgres::open(&address).await.expect("it opens"));
    }
    Arc::new(Sqlite::open(Path::new(place)).await.expect("it opens"))
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
