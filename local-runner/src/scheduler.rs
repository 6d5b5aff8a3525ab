//! The timetable at work: queue what is due, run what is queued, retry as Lambda does, keep what failed for good.

use std::sync::Arc;
use std::time::Duration;

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
            let mark = self.state.mark(&row.name).await?;
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
    use super::*;

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
