//! One suite for every store of state, under the same names: `state::sqlite::…` and `state::postgres::…`. What only a
//! server can suffer is in `state_postgres.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base::address::Address;
use base::report::{Report, Status};
use jiff::{SignedDuration, Timestamp};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use stores::documents::Document;
use stores::state::{
    Claim, Due, Hold, Identity, Override, Postgres, QueueState, Retry, SourceState, Sqlite, State,
    Table, Timing,
};
use tests::services;
use tokio::runtime::Runtime;
use tokio::time::{interval, timeout};
use uuid::Uuid;

use crate::{state_postgres, upgrade};

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
    a_retry_waits_for_its_time
    many_takers_take_each_invocation_once
    the_retry_ledger_holds_what_still_fails
    what_a_source_sends_can_be_kept
    slots_are_claimed_exactly_once
    rows_move_as_they_are_in_the_order_of_bytes
    what_is_under_way_is_told
];

/// The suite on each store, and what is peculiar to servers.
pub(crate) fn trials() -> Vec<Trial> {
    let trial = |place: &str, name: &str, work: fn(Test), test: Test| {
        Trial::test(format!("state::{place}::{name}"), move || {
            work(test);
            Ok(())
        })
    };
    let mut trials = Vec::new();
    for (name, test) in SUITE {
        trials.push(trial("sqlite", name, on_sqlite, *test));
        trials.push(trial("postgres", name, on_postgres, *test));
    }
    for (name, test) in state_postgres::ANY_SERVER.iter().chain(upgrade::ON_POSTGRES) {
        trials.push(trial("postgres", name, on_postgres, *test));
    }
    for (name, test) in state_postgres::OWN_SERVER {
        trials.push(trial("postgres_server", name, on_own_server, *test));
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

    /// Carries out a statement beside the store.
    pub(crate) async fn execute(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.url()).await.expect("the server answers");
        let done =
            sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
        connection.close().await.expect("it closes");
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
    state.begin("collect", &Identity::Slot(slot), "r", noon()).await.expect("an answer")
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
    let news = SourceState { etag: Some("\"1\"".to_owned()), ..SourceState::default() };
    assert!(one.save_source(&former, &news).await.is_err());
    assert!(one.note_failed(&former, &[("1".to_owned(), "late".to_owned())], true).await.is_err());
    other.save_source(&later, &news).await.expect("it is stored");
    assert_eq!(one.source("rss/a").await.expect("a state"), news);
    assert_eq!(one.source("rss/b").await.expect("a state"), SourceState::default());
    assert_eq!(one.retries("rss/a").await.expect("a ledger"), []);
    drop(later);
    eventually("it is let go of", async || one.lease("rss/a").await.expect("an answer")).await;
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
    let word = |enabled| Override { enabled: Some(enabled), definition: Some(json!({"id": "a"})) };
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
        state.fire("collect", seen, until, firings).await.expect("an answer")
    };
    assert!(!fire(Some(noon()), later, &[]).await, "a mark that was never set");
    assert_eq!(state.mark("collect").await.expect("an answer"), None);
    assert!(fire(None, noon(), &[]).await);
    assert!(!fire(None, later, std::slice::from_ref(&due)).await, "another runner was first");
    assert!(fire(Some(noon()), later, std::slice::from_ref(&due)).await);
    assert!(!fire(Some(later), noon(), &[due]).await, "the clock was set back");
    assert_eq!(state.mark("collect").await.expect("an answer"), Some(later));
    assert_eq!(state.next_due().await.expect("an answer"), Some(later));
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
    assert_eq!(state.next_due().await.expect("an answer"), None);
}

async fn of_many_schedulers_one_fires(world: Arc<World>) {
    let states = [world.open().await, world.open().await, world.open().await];
    let mut mark = None;
    for round in 1..=world.many(100) {
        // Their clocks differ, so each would move the mark somewhere else.
        let tries = states.iter().cloned().zip(0..).map(|(state, ahead)| {
            let until = noon() + SignedDuration::from_secs(i64::from(round) * 10 + ahead);
            let due = due(&format!("{round}-{ahead}"));
            tokio::spawn(async move { state.fire("collect", mark, until, &[due]).await })
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
    assert_eq!(ids, ["a", "c"]);
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
    assert_eq!(state.next_due().await.expect("an answer"), Some(later));
    let again = state.take(later).await.expect("an answer").expect("it is due again");
    assert_eq!((again.entry.attempts, again.entry.error.as_deref()), (2, Some("busy")));
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

async fn the_retry_ledger_holds_what_still_fails(world: Arc<World>) {
    let state = world.open().await;
    let lease = state.lease("rss/a").await.expect("an answer").expect("it is free");
    let item = |id: &str| (id.to_owned(), "mapping".to_owned());
    state.note_failed(&lease, &[item("1"), item("2")], true).await.expect("it is noted");
    state.note_failed(&lease, &[item("2")], true).await.expect("it is noted");
    let expected = [Retry { id: "2".to_owned(), reason: "mapping".to_owned(), attempts: 2 }];
    assert_eq!(state.retries("rss/a").await.expect("a ledger"), expected);
    // A visit that came to nothing says nothing of them.
    state.note_failed(&lease, &[], false).await.expect("it is noted");
    assert_eq!(state.retries("rss/a").await.expect("a ledger"), expected);
    state.note_failed(&lease, &[], true).await.expect("it is noted");
    assert_eq!(state.retries("rss/a").await.expect("a ledger"), []);
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
    state
        .note_failed(&lease, &[(nasty.to_owned(), nasty.to_owned())], true)
        .await
        .expect("it is noted");
    assert_eq!(state.retries("rss/a").await.expect("a ledger").len(), 1);
    state.enqueue(&Due { event: json!(nasty), ..due("r") }).await.expect("it is queued");
    let taken = state.take(noon()).await.expect("an answer").expect("it is due");
    assert_eq!(taken.entry.event, json!(nasty));
    state.settle(taken, QueueState::Dead, None, Some(nasty)).await.expect("it is settled");
}

/// Two processes with two claimants each.
async fn slots_are_claimed_exactly_once(world: Arc<World>) {
    let count = world.many(10_000);
    let place = match &*world {
        World::Sqlite(folder) => folder.path().display().to_string(),
        World::Postgres { .. } => world.url(),
    };
    let spawn = || {
        Command::new(std::env::current_exe().expect("this file"))
            .args([CLAIMER, &count.to_string(), &place])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts")
    };
    let mut won = Vec::new();
    for process in [spawn(), spawn()] {
        let ended = process.wait_with_output().expect("it ends");
        assert!(ended.status.success(), "a claimant failed; it says why above");
        let said = String::from_utf8(ended.stdout).expect("two numbers");
        won.extend(said.split_whitespace().map(|one| one.parse::<u32>().expect("a number")));
    }
    assert_eq!((won.len(), won.iter().sum::<u32>()), (4, count), "won: {won:?}");
    let runs = world.open().await.runs(None, count + 1).await.expect("runs");
    assert_eq!(runs.len(), count as usize);
    // A slot that was claimed once more would be in its second attempt.
    assert!(runs.iter().all(|run| run.attempt == 1 && run.status == "complete"));
}

/// The word by which this binary becomes one of those processes.
const CLAIMER: &str = "claim-slots";

/// The end of this process, where it was started to claim slots: it says how many each of its claimants got.
#[expect(clippy::print_stdout, reason = "its parent reads it")]
pub(crate) fn claimer() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, word, count, place] = arguments.as_slice() else { return None };
    if word != CLAIMER {
        return None;
    }
    let count: u32 = count.parse().expect("a number");
    runtime().block_on(async {
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
        let failed = [("2".to_owned(), "nul \u{0}".to_owned()), ("1".to_owned(), "x".to_owned())];
        state.note_failed(&lease, &failed, true).await.expect("it is stored");
    }
    let hold = held(begin(&*state, noon()).await);
    state.finish(hold, &report(Status::Complete), noon()).await.expect("it is finished");
    state
        .set_override("rss", "a", &Override { enabled: Some(true), definition: None })
        .await
        .expect("it is set");
    state.fire("collect", None, noon(), &[due("1"), due("2")]).await.expect("it is queued");

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
    assert_eq!(counts, [1, 10, 1, 5, 2, 1]);
    let ids: Vec<&str> = all[3].1.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, names);
    assert_eq!(all[1].1[1].body["reason"], "nul \u{fffd}");

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
            .find(|(_, value)| value.is_number())
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
