//! The timetable's place, slots and attempts, and the runner's queue.

use std::sync::Arc;

use base::report::Status;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stores::state::{
    AttemptEnd, AttemptRow, Due, ENDED_MAX, Firings, HISTORY_KEPT, HistoryQuery, Identity,
    LOG_KEPT, Log, Missed, MissedSlot, Overlap, QueueLimit, QueueState, SlotRow, State,
};

use super::{Test, World, at, begin, by_name, due, eventually, held, noon, report};

pub(super) const SUITE: &[(&str, Test)] = by_name![
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
    what_waits_in_the_queue_is_limited_and_so_is_what_ended
    many_takers_take_each_invocation_once
];

/// When the next queued invocation is due.
async fn next_due(state: &dyn State) -> Option<Timestamp> {
    let queued = state.queue(QueueState::Queued, 1000).await.expect("the queue");
    queued.iter().map(|entry| entry.due).min()
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
