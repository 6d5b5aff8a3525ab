//! State in one folder: claims, holds, continuations, the timetable's marks and the queue.

use serde_json::json;

use super::*;
use crate::report::Status;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn noon() -> Timestamp {
    at("2026-03-01T12:00:00Z")
}

async fn state() -> (tempfile::TempDir, Sqlite) {
    let folder = tempfile::tempdir().unwrap();
    let state = Sqlite::open(folder.path()).await.unwrap();
    (folder, state)
}

async fn begin(state: &Sqlite, slot: Timestamp) -> Claim {
    state.begin("collect", &Identity::Slot(slot), "r", noon()).await.unwrap()
}

#[track_caller]
fn held(claim: Claim) -> Hold {
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

fn report(status: Status) -> Report {
    Report { status, ..Report::of_detail(Value::Null) }
}

#[tokio::test]
async fn two_at_once_one_runs_and_one_is_skipped() {
    let (_folder, state) = state().await;
    let hold = held(begin(&state, noon()).await);
    assert!(skipped(begin(&state, noon()).await).contains("is running"));
    state.finish(hold, &report(Status::Complete), noon()).await.unwrap();
    assert!(skipped(begin(&state, noon()).await).contains("complete already"));
}

#[tokio::test]
async fn a_failed_slot_runs_again_and_so_does_one_whose_holder_died() {
    let (_folder, state) = state().await;
    let first = held(begin(&state, noon()).await);
    state.finish(first, &report(Status::Failed), noon()).await.unwrap();
    let second = held(begin(&state, noon()).await);
    assert_eq!((second.attempt, second.fence), (2, 2));
    drop(second);
    assert_eq!(held(begin(&state, noon()).await).attempt, 3);
}

#[tokio::test]
async fn a_former_holder_cannot_write_over_its_successor() {
    let (_folder, state) = state().await;
    let former = held(begin(&state, noon()).await);
    // What a paused process would find: its lock file was lost and another took over.
    std::fs::remove_dir_all(&state.locks).unwrap();
    let later = held(begin(&state, noon()).await);
    assert!(state.finish(former, &report(Status::Failed), noon()).await.is_err());
    state.finish(later, &report(Status::Complete), noon()).await.unwrap();
    assert_eq!(state.runs(None, 9).await.unwrap()[0].status, "complete");
}

#[tokio::test]
async fn a_doubled_continuation_does_nothing() {
    let (_folder, state) = state().await;
    let hold = held(begin(&state, noon()).await);
    let run_id = hold.run_id.clone();
    let step = state
        .suspend(hold, &json!({"remaining": ["a"]}), &report(Status::Partial), noon())
        .await
        .unwrap();
    let resumed = held(state.resume(&run_id, step, "r", noon()).await.unwrap());
    assert_eq!(resumed.checkpoint, Some(json!({"remaining": ["a"]})));
    assert!(
        skipped(state.resume(&run_id, step, "r", noon()).await.unwrap()).contains("is running")
    );
    state.finish(resumed, &report(Status::Complete), noon()).await.unwrap();
    assert!(
        skipped(state.resume(&run_id, step, "r", noon()).await.unwrap()).contains("done already")
    );
}

#[tokio::test]
async fn the_next_run_adopts_an_orphaned_checkpoint() {
    let (_folder, state) = state().await;
    let hold = held(begin(&state, noon()).await);
    let run_id = hold.run_id.clone();
    let step =
        state.suspend(hold, &json!(["late"]), &report(Status::Partial), noon()).await.unwrap();
    let next = held(begin(&state, at("2026-03-01T14:00:00Z")).await);
    assert_eq!(next.checkpoint, Some(json!(["late"])));
    assert!(
        skipped(state.resume(&run_id, step, "r", noon()).await.unwrap()).contains("done already")
    );
}

#[tokio::test]
async fn a_source_has_one_holder_and_its_state_is_fenced() {
    let (_folder, state) = state().await;
    let former = state.lease("rss/a").await.unwrap().unwrap();
    assert!(state.lease("rss/a").await.unwrap().is_none());
    std::fs::remove_dir_all(&state.locks).unwrap();
    let later = state.lease("rss/a").await.unwrap().unwrap();
    let news = SourceState { etag: Some("\"1\"".to_owned()), ..SourceState::default() };
    assert!(state.save_source(&former, &news).await.is_err());
    state.save_source(&later, &news).await.unwrap();
    assert_eq!(state.source("rss/a").await.unwrap(), news);
    assert_eq!(state.sources("rss").await.unwrap(), [("a".to_owned(), news)]);
}

#[tokio::test]
async fn the_timetable_moves_forward_once() {
    let (_folder, state) = state().await;
    let later = at("2026-03-01T14:00:00Z");
    let due = Due {
        request_id: "r1".to_owned(),
        task: "collect".to_owned(),
        event: json!({}),
        due: later,
    };
    assert!(state.fire("collect", None, noon(), &[]).await.unwrap());
    assert!(
        !state.fire("collect", None, later, std::slice::from_ref(&due)).await.unwrap(),
        "another runner was first"
    );
    assert!(state.fire("collect", Some(noon()), later, &[due]).await.unwrap());
    assert!(
        !state.fire("collect", Some(later), noon(), &[]).await.unwrap(),
        "the clock was set back"
    );
    assert_eq!(state.next_due().await.unwrap(), Some(later));
    assert_eq!(state.take(noon()).await.unwrap(), None);
    let taken = state.take(later).await.unwrap().unwrap();
    assert_eq!(
        (taken.request_id.as_str(), taken.attempts, state.take(later).await.unwrap()),
        ("r1", 1, None)
    );
    assert_eq!(state.recover(later).await.unwrap(), 1);
    let again = state.take(later).await.unwrap().unwrap();
    state.settle(&again.request_id, QueueState::Dead, None, Some("status `500`")).await.unwrap();
    assert_eq!(state.queue(QueueState::Dead, 9).await.unwrap()[0].attempts, 2);
}

#[tokio::test]
async fn the_retry_ledger_holds_what_still_fails() {
    let (_folder, state) = state().await;
    let lease = state.lease("rss/a").await.unwrap().unwrap();
    let item = |id: &str| (id.to_owned(), "mapping".to_owned());
    state.note_failed(&lease, &[item("1"), item("2")]).await.unwrap();
    state.note_failed(&lease, &[item("2")]).await.unwrap();
    let ledger = state.retries("rss/a").await.unwrap();
    assert_eq!(ledger, [Retry { id: "2".to_owned(), reason: "mapping".to_owned(), attempts: 2 }]);
}
