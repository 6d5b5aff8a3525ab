//! The timetable at work: queue what is due, run what is queued, retry as Lambda does, keep what failed for good.

use std::sync::Arc;
use std::time::Duration;

use base::clock::is_believed;
use base::report::{Report, Status};
use base::{Class, Result};
use jiff::{SignedDuration, Timestamp};
use schedule::{CatchUp, Row, Timetable};
use stores::state::{Due, QueueState, State, Taken};
use task::events::scheduled;

use crate::lambda::Invoker;
use crate::runner;

/// How far back missed firings are made up for.
const CATCH_UP_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// A firing later than this was missed, and the row's catch-up policy decides.
const MISFIRE: SignedDuration = SignedDuration::from_secs(60);

/// The waits before Lambda's two further attempts at an asynchronous invocation.
const RETRIES: [SignedDuration; 2] =
    [SignedDuration::from_secs(60), SignedDuration::from_secs(120)];

/// The wall clock is read again this often at least, so that suspends and clock steps are seen.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What turns the timetable into runs.
#[derive(Clone)]
pub(crate) struct Scheduler {
    /// When what runs.
    pub(crate) timetable: Arc<Timetable>,
    /// Marks and queue.
    pub(crate) state: Arc<dyn State>,
    /// Who runs it.
    pub(crate) invoker: Invoker,
}

impl Scheduler {
    /// Queues everything that fell due up to `now`, and moves the marks.
    ///
    /// # Errors
    /// `Store`, when the queue cannot be written.
    pub(crate) async fn tick(&self, now: Timestamp) -> Result<()> {
        for row in self.timetable.rows().iter().filter(|row| row.built) {
            let mark = match self.state.mark(&row.name).await? {
                // No mark is ahead of the clock that set it: that clock was wrong, or this one is.
                Some(mark) if !is_believed(mark, now, MISFIRE) => {
                    if self.state.distrust(&row.name, mark, now).await? {
                        tracing::warn!(task = row.name, %mark, "the clock was set back: the timetable goes on from now");
                    }
                    continue;
                }
                mark => mark,
            };
            let due = match mark {
                // A row that was never seen starts now: nothing before its first sight was missed.
                None => Vec::new(),
                Some(mark) => self.due(row, mark, now),
            };
            if mark.is_none() || !due.is_empty() {
                self.state.fire(&row.name, mark, now, &due).await?;
            }
        }
        Ok(())
    }

    /// The firings of a row after its mark, by its catch-up policy.
    fn due(&self, row: &Row, mark: Timestamp, now: Timestamp) -> Vec<Due> {
        let Some(when) = &row.when else { return Vec::new() };
        let from = mark.max(now.checked_sub(CATCH_UP_WINDOW).unwrap_or(mark));
        let mut slots: Vec<Timestamp> = when
            .firings_after(from, self.timetable.zone())
            .take_while(|slot| *slot <= now)
            .collect();
        match row.catch_up {
            CatchUp::All => {}
            CatchUp::Once => drop(slots.drain(..slots.len().saturating_sub(1))),
            CatchUp::Skip => slots.retain(|slot| now.duration_since(*slot) <= MISFIRE),
        }
        slots.into_iter().map(|slot| due(&row.name, slot)).collect()
    }

    /// When the timetable fires next after `now`.
    pub(crate) fn next_firing(&self, now: Timestamp) -> Option<Timestamp> {
        let rows = self.timetable.rows().iter().filter(|row| row.built);
        rows.filter_map(|row| row.when.as_ref()?.next_after(now, self.timetable.zone())).min()
    }

    /// Runs one queued invocation and settles it.
    ///
    /// # Errors
    /// `Store`, when the queue cannot be written.
    pub(crate) async fn run(&self, taken: Taken, now: Timestamp) -> Result<Report> {
        let entry = &taken.entry;
        let report = runner::invoke(
            &self.invoker,
            self.state.as_ref(),
            &entry.task,
            &entry.event,
            &entry.request_id,
        )
        .await;
        let report = report
            .unwrap_or_else(|error| Report { task: entry.task.clone(), ..Report::failed(&error) });
        let (state, due) = match (&report.error, report.status) {
            (Some(problem), Status::Failed) => after_failure(problem.class, entry.attempts, now),
            _ => (QueueState::Done, None),
        };
        let error = report.error.as_ref().map(|problem| problem.message.as_str());
        self.state.settle(taken, state, due, error).await?;
        Ok(report)
    }
}

/// A scheduled run of a task, whose id is the same whoever queues it.
fn due(task: &str, slot: Timestamp) -> Due {
    let request_id = format!("{task}-{}", slot.strftime("%Y%m%dT%H%MZ"));
    Due { event: scheduled(task, &request_id, slot), request_id, task: task.to_owned(), due: slot }
}

/// Another attempt, or the dead letters: what a person or a developer must repair is not tried again.
fn after_failure(class: Class, attempts: u32, now: Timestamp) -> (QueueState, Option<Timestamp>) {
    let tried = usize::try_from(attempts).unwrap_or(usize::MAX).saturating_sub(1);
    match RETRIES.get(tried) {
        Some(wait) if class.is_retried() => (QueueState::Queued, now.checked_add(*wait).ok()),
        _ => (QueueState::Dead, None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use stores::state::{Claim, Identity, Queue as _, Sqlite};

    use super::*;
    use crate::lambda;

    /// A timetable of one row at work on a new state, without a function.
    async fn at_work(folder: &std::path::Path, when: &str) -> (lambda::Lambda, Scheduler) {
        let text = format!(
            "[defaults]\nmemory_mb = 256\ntimeout_s = 60\nzone = \"UTC\"\n\n[{TASK}]\ndoes = \"x\"\n{when}\n"
        );
        let lambda = lambda::Lambda::start(lambda::Config::new([])).await.unwrap();
        let scheduler = Scheduler {
            timetable: Arc::new(Timetable::parse(&text).unwrap()),
            state: Arc::new(Sqlite::open(folder).await.unwrap()),
            invoker: lambda.invoker(),
        };
        (lambda, scheduler)
    }

    const TASK: &str = "collect_all_rss_feeds";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The slot of the one invocation that is to be run, which is run as one that did it.
    async fn run_next(scheduler: &Scheduler, now: Timestamp) -> Option<Timestamp> {
        let state = &scheduler.state;
        let taken = state.take(now).await.unwrap()?;
        let slot = taken.entry.due;
        let identity = Identity::Slot(slot);
        let claim = state.begin(TASK, &identity, &Value::Null, &taken.entry.request_id, now).await;
        let Claim::Run(hold) = claim.unwrap() else { panic!("slot {slot} was run before") };
        let report = Report::of_sources(Vec::new(), Vec::new()).unwrap();
        state.finish(*hold, &report, now).await.unwrap();
        state.settle(taken, QueueState::Done, None, None).await.unwrap();
        Some(slot)
    }

    #[tokio::test]
    async fn a_clock_that_jumps_both_ways_costs_no_firing() {
        for ahead in ["2026-03-01T14:05:00Z", "2026-03-02T12:05:00Z", "2100-01-01T00:00:01Z"] {
            let folder = tempfile::tempdir().unwrap();
            let (_lambda, scheduler) =
                at_work(folder.path(), "when = \"cron(0 0/2 * * ? *)\"").await;
            let tick = async |now: &str| {
                scheduler.tick(at(now)).await.unwrap();
                run_next(&scheduler, at(now)).await
            };
            assert_eq!(tick("2026-03-01T11:59:00Z").await, None);
            assert_eq!(tick("2026-03-01T12:00:01Z").await, Some(at("2026-03-01T12:00:00Z")));
            // The clock is wrong for a while, and what it makes due is run.
            let early = tick(ahead).await;
            assert!(early.is_some_and(|slot| slot > at("2026-03-01T12:00:00Z")), "{early:?}");
            // It is right again: every slot fires when it is due, also the one that was run before its time.
            assert_eq!(tick("2026-03-01T12:06:00Z").await, None);
            for slot in ["14:00:00", "16:00:00", "18:00:00"] {
                let slot = at(&format!("2026-03-01T{slot}Z"));
                let now = slot + SignedDuration::from_secs(1);
                assert_eq!(tick(&now.to_string()).await, Some(slot), "after {ahead}");
            }
            // It is late for a while, and right again: what was run then is not run twice in the meantime.
            assert_eq!(tick("2026-03-01T15:00:00Z").await, None);
            assert_eq!(tick("2026-03-01T15:30:00Z").await, None);
            let now = "2026-03-01T18:10:00Z";
            assert!(tick(now).await.is_none_or(|slot| slot <= at(now)), "once, of what was missed");
            assert_eq!(tick("2026-03-01T20:00:00Z").await, Some(at("2026-03-01T20:00:00Z")));
            // A step of a few seconds is no jump: nothing fires twice.
            assert_eq!(tick("2026-03-01T19:59:55Z").await, None);
            assert_eq!(tick("2026-03-01T20:00:00Z").await, None);
        }
    }

    #[tokio::test]
    async fn an_invocation_that_was_queued_under_another_clock_is_due_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let state = Sqlite::open(folder.path()).await.unwrap();
        let now = at("2026-03-01T12:00:00Z");
        for (request_id, due) in
            [("soon", "2026-03-01T12:02:00Z"), ("late", "2100-01-01T00:00:00Z")]
        {
            let (request_id, task) = (request_id.to_owned(), TASK.to_owned());
            let due = Due { request_id, task, event: Value::Null, due: at(due) };
            state.enqueue(&due).await.unwrap();
        }
        assert_eq!(state.take(now).await.unwrap().unwrap().entry.request_id, "late");
        assert!(state.take(now).await.unwrap().is_none());
    }

    #[test]
    fn a_failure_is_tried_twice_more_unless_a_person_must_mend_it() {
        let now: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let later = |seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok();
        assert_eq!(after_failure(Class::Upstream, 1, now), (QueueState::Queued, later(60)));
        assert_eq!(after_failure(Class::Upstream, 2, now), (QueueState::Queued, later(120)));
        assert_eq!(after_failure(Class::Upstream, 3, now), (QueueState::Dead, None));
        assert_eq!(after_failure(Class::Config, 1, now), (QueueState::Dead, None));
    }
}
