//! The timetable at work: queue what is due, run what is queued, retry as Lambda does, keep what failed for good.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use base::clock::is_believed;
use base::report::{Report, Status};
use base::{Class, Result};
use jiff::{SignedDuration, Timestamp};
use schedule::{CatchUp, Row, Timetable};
use stores::state::{
    ClaimedInvocation, Due, Firings, Identity, Missed, MissedSlot, Overlap, QueueEntry, QueueState,
    State,
};
use task::events::{Invocation, scheduled};

use crate::runner::{Attempt, Attempts, Made};

/// Slots of a row that are noted as missed at once, the newest: a row that fires each minute has as many in a week.
const MISSED_MAX: usize = 10_000;

/// Slots that were missed before are not noted.
const MISSED_FOR: SignedDuration = SignedDuration::from_hours(366 * 24);

/// A firing later than this was missed, and the row's catch-up policy decides.
const MISFIRE: SignedDuration = SignedDuration::from_secs(60);

/// The waits before Lambda's two further attempts at an asynchronous invocation.
const RETRIES: [SignedDuration; 2] =
    [SignedDuration::from_secs(60), SignedDuration::from_secs(120)];

/// The wait for another attempt that holds the same run: it may have died, and its hold is about to expire.
const HELD_WAIT: SignedDuration = SignedDuration::from_secs(1);

/// The wall clock is read again this often at least, so that suspends and clock steps are seen.
pub(crate) const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What turns the timetable into runs.
#[derive(Clone)]
pub(crate) struct Scheduler {
    /// When what runs.
    pub(crate) timetable: Arc<Timetable>,
    /// Marks and queue.
    pub(crate) state: Arc<dyn State>,
    /// How it is run.
    pub(crate) attempts: Attempts,
}

impl Scheduler {
    /// Queues everything that fell due up to `now`, and moves the marks.
    ///
    /// # Errors
    /// `Store`, when the queue cannot be written.
    pub(crate) async fn tick(&self, now: Timestamp) -> Result<()> {
        for row in self.timetable.rows().iter() {
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
            let firings = match mark {
                // A row that was never seen starts now: nothing before its first sight was missed.
                None => Firings::default(),
                Some(mark) => self.firings(row, mark, now),
            };
            if mark.is_none() || !firings.is_empty() {
                self.state.fire(&row.name, mark, now, &firings).await?;
            }
        }
        Ok(())
    }

    /// The slots of a row after its mark: those that are run by its catch-up policy, and those that are missed.
    fn firings(&self, row: &Row, mark: Timestamp, now: Timestamp) -> Firings {
        let Some(when) = &row.when else { return Firings::default() };
        let from = mark.max(now.checked_sub(MISSED_FOR).unwrap_or(mark));
        let window = SignedDuration::from_hours(row.catch_up_h.into());
        let mut slots = VecDeque::new();
        for slot in when.firings_after(from, self.timetable.zone()).take_while(|slot| *slot <= now)
        {
            slots.push_back(slot);
            if slots.len() > MISSED_MAX {
                slots.pop_front();
            }
        }
        let overlap = match row.overlap {
            schedule::Overlap::Queue => Overlap::Queue,
            schedule::Overlap::Skip => Overlap::Skip,
            schedule::Overlap::Allow => Overlap::Allow,
        };
        let mut firings = Firings { overlap, ..Firings::default() };
        let last = slots.back().copied();
        for slot in slots {
            let late = now.duration_since(slot);
            let reason = match row.catch_up {
                _ if late > window => Some(Missed::OutsideWindow),
                CatchUp::Once if Some(slot) != last => Some(Missed::Folded),
                CatchUp::Skip if late > MISFIRE => Some(Missed::Off),
                CatchUp::All | CatchUp::Once | CatchUp::Skip => None,
            };
            let due = due(&row.name, slot);
            match reason {
                None => firings.queued.push(due),
                Some(reason) => {
                    firings.missed.push(MissedSlot { request_id: due.request_id, slot, reason });
                }
            }
        }
        firings
    }

    /// When the timetable fires next after `now`.
    pub(crate) fn next_firing(&self, now: Timestamp) -> Option<Timestamp> {
        let rows = self.timetable.rows().iter();
        rows.filter_map(|row| row.when.as_ref()?.next_after(now, self.timetable.zone())).min()
    }

    /// Runs one queued invocation and settles it.
    ///
    /// # Errors
    /// `Store`, when the queue cannot be written.
    pub(crate) async fn run(&self, taken: ClaimedInvocation, now: Timestamp) -> Result<Report> {
        let began = Instant::now();
        let entry = &taken.entry;
        let attempt = Attempt {
            task: &entry.task,
            event: &entry.event,
            request_id: &entry.request_id,
            number: entry.attempts,
        };
        let made = self.attempts.make(&attempt).await;
        let now = now.checked_add(began.elapsed()).unwrap_or(now);
        let (report, is_cut_off) = match made {
            Ok(Made::Ended(report)) => (Ok(*report), false),
            Ok(Made::CutOff(error)) => (Err(error), true),
            Err(error) => (Err(error), false),
        };
        let report = report
            .unwrap_or_else(|error| Report { task: entry.task.clone(), ..Report::failed(&error) });
        // Handed back as it was: another runner goes on with it, or the next start.
        if is_cut_off {
            self.state.put_back(taken, now).await?;
            return Ok(report);
        }
        // What holds the run may be a process that died with another runner: the slot must not count as done before it is.
        if report.status == Status::Skipped && !self.is_done(&taken, &report).await? {
            let due = now.checked_add(HELD_WAIT).unwrap_or(now);
            self.state.put_back(taken, due).await?;
            return Ok(report);
        }
        let (state, due) = match (&report.error, report.status) {
            (Some(problem), Status::Failed) => after_failure(problem.class, entry.attempts, now),
            _ => (QueueState::Done, None),
        };
        let error = report.error.as_ref().map(|problem| problem.message.as_str());
        self.state.settle(taken, state, due, error).await?;
        Ok(report)
    }

    /// Whether the run that an invocation is about is over, or is none.
    async fn is_done(&self, taken: &ClaimedInvocation, report: &Report) -> Result<bool> {
        let QueueEntry { request_id, task, event, .. } = &taken.entry;
        match Invocation::read(event.clone()) {
            Ok(Invocation::Continued(of)) if of.task == *task => {
                self.state.is_step_done(&of.run_id, of.step).await
            }
            Ok(Invocation::Continued(_)) | Err(_) => Ok(true),
            Ok(Invocation::Scheduled(_) | Invocation::OnDemand(_)) => {
                // The function says which slot it took the event for.
                let of_request = || Identity::Request(request_id.clone());
                let identity = report.slot.map_or_else(of_request, Identity::Slot);
                self.state.is_done(task, &identity).await
            }
        }
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
    use serde_json::{Value, json};
    use stores::state::{Claim, HistoryQuery, Queue as _, Sqlite};

    use task::events::{CONTINUATION, SOURCE};
    use uuid::Uuid;

    use super::*;
    use crate::lambda;
    use crate::logbook::LogBook;

    /// A timetable of one row at work on a new state, without a function.
    async fn at_work(folder: &std::path::Path, when: &str) -> (lambda::Lambda, Scheduler) {
        let text = format!(
            "[defaults]\nmemory_mb = 256\ntimeout_s = 60\nzone = \"UTC\"\n\n[{TASK}]\ndoes = \"x\"\n{when}\n"
        );
        let lambda = lambda::Lambda::start(lambda::Config::new([])).await.unwrap();
        let state: Arc<dyn State> = Arc::new(Sqlite::open(folder).await.unwrap());
        let attempts = Attempts::new(lambda.invoker(), Arc::clone(&state), LogBook::default());
        let timetable = Arc::new(Timetable::parse(&text).unwrap());
        let scheduler = Scheduler { timetable, state, attempts };
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
    async fn a_machine_asleep_over_six_slots_says_what_became_of_each() {
        let asleep = |policy: &str| {
            let when = format!("when = \"cron(0 0/2 * * ? *)\"\n{policy}");
            async move {
                let folder = tempfile::tempdir().unwrap();
                let (_lambda, scheduler) = at_work(folder.path(), &when).await;
                scheduler.tick(at("2026-03-01T11:59:00Z")).await.unwrap();
                scheduler.tick(at("2026-03-01T22:30:00Z")).await.unwrap();
                let query = HistoryQuery { limit: 99, ..HistoryQuery::default() };
                let slots = scheduler.state.slots(&query).await.unwrap();
                let shown = slots.iter().rev().map(|slot| {
                    let reason = slot.reason.as_deref().unwrap_or("runs");
                    format!("{} {reason}", slot.slot.strftime("%H"))
                });
                shown.collect::<Vec<_>>().join(", ")
            }
        };
        for (policy, expected) in [
            ("", "12 folded, 14 folded, 16 folded, 18 folded, 20 folded, 22 runs"),
            ("catch_up = \"skip\"", "12 off, 14 off, 16 off, 18 off, 20 off, 22 off"),
            ("catch_up = \"all\"", "12 runs, 14 runs, 16 runs, 18 runs, 20 runs, 22 runs"),
            (
                "catch_up = \"all\"\ncatch_up_h = 5",
                "12 outside_window, 14 outside_window, 16 outside_window, 18 runs, 20 runs, 22 runs",
            ),
            (
                "catch_up = \"all\"\noverlap = \"skip\"",
                "12 runs, 14 overlapped, 16 overlapped, 18 overlapped, 20 overlapped, 22 overlapped",
            ),
        ] {
            assert_eq!(asleep(policy).await, expected, "{policy}");
        }
    }

    #[tokio::test]
    async fn what_is_skipped_is_done_when_its_run_is() {
        let folder = tempfile::tempdir().unwrap();
        let (_lambda, scheduler) = at_work(folder.path(), "").await;
        let (state, now) = (&scheduler.state, at("2026-03-01T12:00:00Z"));
        let slot = at("2026-03-01T10:00:00Z");
        let run_id = Uuid::new_v4().to_string();
        let continuation = |task: &str| json!({"source": SOURCE, "detail-type": CONTINUATION, "detail": {"task": task, "run_id": run_id, "step": 1}});
        for (name, event, slot, is_done) in [
            // Its process died between the hold on its run and the run's row.
            ("asked", json!({}), None, false),
            ("slot", scheduled(TASK, "slot", slot), Some(slot), false),
            ("unknown", continuation(TASK), None, true),
            ("another's", continuation("sync_otx_pulses"), None, true),
        ] {
            let (request_id, task) = (name.to_owned(), TASK.to_owned());
            state.enqueue(&Due { request_id, task, event, due: now }).await.unwrap();
            let taken = state.take(now).await.unwrap().unwrap();
            let report = Report { slot, ..Report::skipped("another attempt is running") };
            assert_eq!(scheduler.is_done(&taken, &report).await.unwrap(), is_done, "{name}");
            let identity = slot.map_or(Identity::Request(name.to_owned()), Identity::Slot);
            let claim = state.begin(TASK, &identity, &Value::Null, name, now).await.unwrap();
            let Claim::Run(hold) = claim else { panic!("nobody else runs it") };
            let ended = Report::of_sources(Vec::new(), Vec::new()).unwrap();
            state.finish(*hold, &ended, now).await.unwrap();
            assert!(scheduler.is_done(&taken, &report).await.unwrap(), "{name}");
            state.settle(taken, QueueState::Done, None, None).await.unwrap();
        }
    }

    /// The slots of a row that a runner fires in so many hours, looking at the clock each quarter of an hour.
    async fn fired(zone: &str, when: &str, from: &str, hours: i64) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[defaults]\nmemory_mb = 256\ntimeout_s = 60\nzone = \"{zone}\"\n\n[{TASK}]\ndoes = \"x\"\nwhen = \"{when}\"\n"
        );
        let (_lambda, scheduler) = at_work(folder.path(), "").await;
        let timetable = Arc::new(Timetable::parse(&text).unwrap());
        let scheduler = Scheduler { timetable, ..scheduler };
        scheduler.tick(at(from) - SignedDuration::from_secs(1)).await.unwrap();
        for quarter in 0..hours * 4 {
            scheduler.tick(at(from) + SignedDuration::from_mins(15 * quarter)).await.unwrap();
        }
        let query = HistoryQuery { limit: 99, ..HistoryQuery::default() };
        let rows = scheduler.state.slots(&query).await.unwrap();
        assert!(rows.iter().all(|row| row.outcome == "queued"), "{zone}: {rows:?}");
        rows.iter().rev().map(|row| row.slot.strftime("%m-%d %H:%M").to_string()).collect()
    }

    #[tokio::test]
    async fn a_day_of_23_or_25_hours_has_each_of_its_slots_once() {
        // The hours of a day and a half around each change of the clocks, as EventBridge Scheduler counts them.
        for (zone, from, hours, slots) in [
            ("America/New_York", "2026-03-08T05:00:00Z", 23, 23),
            ("America/New_York", "2026-11-01T04:00:00Z", 25, 24),
            ("Australia/Lord_Howe", "2026-04-04T13:00:00Z", 24, 24),
            ("America/Sao_Paulo", "2026-03-08T03:00:00Z", 24, 24),
        ] {
            let fired = fired(zone, "cron(0 * * * ? *)", from, hours).await;
            assert_eq!(fired.len(), slots, "{zone} from {from}: {fired:?}");
        }
    }

    #[tokio::test]
    async fn a_time_that_a_day_lacks_is_left_out_and_one_that_it_has_twice_fires_first() {
        // Three days around each change; the instants are worked out by hand from the zones' offsets.
        for (zone, when, from, slots) in [
            // 02:00 is 03:00: half past two is not there on the 8th.
            (
                "America/New_York",
                "cron(30 2 * * ? *)",
                "2026-03-07T05:00:00Z",
                &["03-07 07:30", "03-09 06:30"][..],
            ),
            // 02:00 is 01:00 again: half past one comes at -04:00 and at -05:00 on the 1st.
            (
                "America/New_York",
                "cron(30 1 * * ? *)",
                "2026-10-31T04:00:00Z",
                &["10-31 05:30", "11-01 05:30", "11-02 06:30"],
            ),
            // 02:00 is 02:30, from +10:30 to +11.
            (
                "Australia/Lord_Howe",
                "cron(15 2 * * ? *)",
                "2026-10-02T13:30:00Z",
                &["10-02 15:45", "10-04 15:15"],
            ),
            // 02:00 is 01:30 again.
            (
                "Australia/Lord_Howe",
                "cron(45 1 * * ? *)",
                "2026-04-03T13:00:00Z",
                &["04-03 14:45", "04-04 14:45", "04-05 15:15"],
            ),
        ] {
            assert_eq!(fired(zone, when, from, 72).await, slots, "{zone}: {when}");
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
