//! A task as a Lambda function: what is opened once, how a run is claimed, done, reported and, where needed, carried on.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::clock::{Clock, Deadline, SKEW_MAX};
use base::config::{Config, variable};
use base::report::{Problem, Report, Status};
use base::{Class, Error, Result};
use fetch::Http;
use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use schedule::{Api, Schedule};
use serde_json::Value;
use stores::documents::{self, Documents};
use stores::state::{self, Claim, Hold, Identity, State};
use tokio::sync::OnceCell;

use crate::archive::Archive;
use crate::events::{Continuation, Events, Invocation};
use crate::limits::STEP;
use crate::{Ctx, Family, Registered, Run};
use crate::{retention, secrets, telemetry};

/// Continuations a run may have; more than any normal run needs, few enough to end a runaway within hours. Lambda's recursion
/// detection ends a chain of 16, should it ever come to know this bus.
pub const CONTINUATIONS_MAX: u32 = 15;

/// The longest input that a run may be asked for with, in bytes of its JSON: it is kept with the run. EventBridge
/// Scheduler's own limit.
const INPUT_MAX: usize = 256 * 1024;

/// What a process opens once and all its runs use.
pub struct Home {
    /// The settings.
    pub config: Arc<Config>,
    /// Requests, with limits.
    pub http: Http,
    /// The document store.
    pub documents: Arc<dyn Documents>,
    /// Cursors, health, leases, runs.
    pub state: Arc<dyn State>,
    /// Responses as they were fetched.
    pub archive: Archive,
    /// The event bus.
    pub events: Events,
}

impl Home {
    /// Opens the stores that the settings name.
    ///
    /// # Errors
    /// `Config` or `Store`, when they cannot be opened.
    pub async fn open(config: Config) -> Result<Self> {
        if config.behaviour.redis.is_some() {
            tracing::info!("`REDIS_URL` is set and not used: there is no broker any more");
        }
        let clock = config.behaviour.clock;
        Ok(Self {
            http: Http::new(&config.network, move || clock.now(None))?,
            documents: documents::open(&config).await?,
            state: state::open(&config).await?,
            archive: Archive::new(&config.stores),
            events: Events::default(),
            config: Arc::new(config),
        })
    }
}

/// The whole of a function's `main`: serves the task of that name until the platform ends the process.
///
/// Plain and not generic, so that it is compiled here once and not in each of the binaries.
pub fn main_of(family: &'static Family, name: &str) -> ExitCode {
    let Some(task) = family.tasks.iter().find(|task| task.name == name) else {
        return telemetry::complain(&format!("there is no task `{name}`"));
    };
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return telemetry::complain(&format!("start the async runtime: {error}")),
        };
    match runtime.block_on(serve(family, task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => telemetry::complain(&format!("serve `{name}`: {error}")),
    }
}

/// Serves a task over the Lambda Runtime API.
///
/// # Errors
/// When the Runtime API is gone.
async fn serve(family: &Family, task: &'static Registered) -> Result<(), lambda_runtime::Error> {
    // What no secret is needed for; what is wrong with the rest is told by the first invocation.
    let behaviour = Config::check(&variable, &[]).0.behaviour;
    telemetry::start(&behaviour.log);
    if behaviour.under_runner.is_some() {
        end_with_parent();
    }
    let config = OnceCell::<Config>::new();
    if let Err(error) = config.get_or_try_init(|| secrets::config(from_ref(&family.settings))).await
    {
        tracing::warn!(
            error = error.chain(),
            "the settings are read again when the function is called"
        );
    }
    let (config, home) = (Arc::new(config), Arc::new(OnceCell::<Home>::new()));
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| {
        let (config, home) = (Arc::clone(&config), Arc::clone(&home));
        async move {
            let (payload, context) = event.into_parts();
            let opened = home.get_or_try_init(|| async {
                let read = || secrets::config(from_ref(&family.settings));
                let config = config.get_or_try_init(read).await?;
                Box::pin(Home::open(config.clone())).await
            });
            let report = match opened.await {
                Ok(home) => {
                    let left = left(context.deadline, Clock::Machine.now(None));
                    let deadline = Deadline::after(left);
                    Box::pin(invoke(home, task, payload, &context.request_id, deadline)).await
                }
                Err(error) => named(Report::failed(&error), task.name),
            };
            telemetry::report(&report);
            match &report.error {
                Some(problem) if report.status == Status::Failed => {
                    let unreachable = problem.unreachable.then_some(Class::UNREACHABLE);
                    let error_type = unreachable.unwrap_or(problem.class.error_type());
                    Err(Failed(error_type, failure_text(&report)))
                }
                _ => Ok(report),
            }
        }
    }))
    .await
}

/// Asks the kernel to end this process when its parent dies: nothing may outlive `local-runner`.
fn end_with_parent() {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let parent = getppid();
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        tracing::warn!(%error, "ask to be ended with the runner");
    }
    // The runner may have died before the call: then the Runtime API is gone too and the next poll ends this process.
    if parent != getppid() {
        tracing::warn!("the runner is gone");
    }
}

/// The longest that Lambda lets a function run.
const TIMEOUT_MAX: Duration = Duration::from_secs(15 * 60);

/// The platform's deadline, given in milliseconds of the epoch, as time that is left at `now`.
///
/// `cargo lambda watch` 1.9.2 gives the time that is left itself: always `600000`, which would be ten past midnight in 1970.
fn left(deadline: u64, now: Timestamp) -> Duration {
    let given = Duration::from_millis(deadline);
    if given <= TIMEOUT_MAX {
        return given;
    }
    given.saturating_sub(Duration::from_millis(u64::try_from(now.as_millisecond()).unwrap_or(0)))
}

/// A failed run in the form that Lambda reports.
#[derive(Debug)]
struct Failed(&'static str, String);

impl From<Failed> for Diagnostic {
    fn from(failed: Failed) -> Self {
        Self { error_type: failed.0.to_owned(), error_message: failed.1 }
    }
}

fn failure_text(report: &Report) -> String {
    let Some(problem) = &report.error else { return "failed".to_owned() };
    match &problem.hint {
        Some(hint) => format!("{}\nhint: {hint}", problem.message),
        None => problem.message.clone(),
    }
}

fn named(report: Report, task: &str) -> Report {
    Report { task: task.to_owned(), ..report }
}

/// Runs one invocation of a task, whatever comes of it.
pub async fn invoke(
    home: &Home,
    task: &Registered,
    payload: Value,
    request_id: &str,
    deadline: Deadline,
) -> Report {
    match Box::pin(claim_and_run(home, task, payload, request_id, deadline)).await {
        Ok(report) => report,
        Err(error) => named(Report::failed(&error), task.name),
    }
}

/// The slot of an event of this time: its row's last firing at or before it, as a rule's event may come late; its minute,
/// where the row is not told.
fn slot(row: Option<&str>, time: Timestamp) -> Result<Timestamp> {
    let Some(row) = row else { return Ok(time) };
    let wrong = |cause: schedule::ScheduleError| {
        Error::config(format!("read `MINERVA_WHEN`: `{row}`"))
            .because(cause)
            .hint("it is a zone and an expression, as `America/Sao_Paulo cron(0 2 * * ? *)`")
    };
    let (zone, expression) = row.split_once(' ').unwrap_or((row, ""));
    let zone = schedule::zone(zone).map_err(wrong)?;
    let schedule = Schedule::parse(expression, Api::Scheduler).map_err(wrong)?;
    Ok(schedule.last_at_or_before(time, &zone).unwrap_or(time))
}

async fn claim_and_run(
    home: &Home,
    task: &Registered,
    payload: Value,
    request_id: &str,
    deadline: Deadline,
) -> Result<Report> {
    let clock = home.config.behaviour.clock;
    let (claim, slot) = match Invocation::read(payload)? {
        Invocation::Scheduled(time) => {
            let slot = slot(home.config.behaviour.when.as_deref(), time)?;
            let (identity, now) = (Identity::Slot(slot), clock.now(Some(slot)));
            // The runner that fires has this very clock; EventBridge has another.
            let is_alone = home.config.behaviour.under_runner.is_none();
            let ahead = if is_alone { SKEW_MAX } else { SignedDuration::ZERO };
            if slot.duration_since(now) > ahead {
                return Err(Error::config(format!("claim the slot `{slot}`: it is in the future"))
                    .hint(
                        "its own firing would find it done; ask for a run now with the bare input",
                    ));
            }
            let claim =
                home.state.begin(task.name, &identity, &Value::Null, request_id, now).await?;
            (claim, Some(slot))
        }
        Invocation::OnDemand(input) => {
            let bytes = input.to_string().len();
            if bytes > INPUT_MAX {
                return Err(Error::config(format!("take an input of {bytes} bytes"))
                    .hint(format!("an input has at most {INPUT_MAX}: ask for less at once")));
            }
            task.check_input(&input)?;
            let (identity, now) = (Identity::Request(request_id.to_owned()), clock.now(None));
            (home.state.begin(task.name, &identity, &input, request_id, now).await?, None)
        }
        Invocation::Continued(Continuation { task: meant, run_id, step }) => {
            if meant != task.name {
                return Ok(named(
                    Report::skipped(format!("the continuation is for `{meant}`")),
                    task.name,
                ));
            }
            (home.state.resume(&run_id, step, request_id, clock.now(None)).await?, None)
        }
    };
    let hold = match claim {
        Claim::Run(hold) => *hold,
        Claim::Skip(reason) => {
            return Ok(Report { slot, ..named(Report::skipped(reason), task.name) });
        }
    };
    let run = Run {
        task: task.name.to_owned(),
        run_id: hold.run_id.clone(),
        slot: hold.slot,
        attempt: hold.attempt,
        step: hold.step,
        checkpoint: hold.checkpoint.clone(),
    };
    let ctx = Ctx::new(home, task.family, run, deadline);
    // That of the run's first attempt: a continuation knows what its run was asked for.
    let input = hold.input.clone();
    let started = Instant::now();
    let report = attempt(task, &ctx, input).await.unwrap_or_else(|error| Report::failed(&error));
    let report = Report {
        task: task.name.to_owned(),
        run_id: hold.run_id.clone(),
        slot: hold.slot,
        attempt: hold.attempt,
        took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        ..report
    };
    conclude(home, &ctx, hold, report).await
}

/// Runs the task within its time, and turns a panic into an error.
async fn attempt(task: &Registered, ctx: &Ctx, input: Value) -> Result<Report> {
    let work = AssertUnwindSafe(task.run(ctx, input)).catch_unwind();
    match tokio::time::timeout_at(ctx.deadline.cut_off().into(), work).await {
        Ok(Ok(result)) => result,
        Ok(Err(_panic)) => Err(Error::format(format!("run `{}`: it panicked", task.name))
            .hint("this is a bug: the log has the place; please report it with the input")),
        Err(_late) => Err(Error::deadline(format!("run `{}`: its time ran out", task.name))
            .hint("raise its `timeout_s` in infra/schedule.toml, or ask for less at once")),
    }
}

/// Stores how the attempt ended, and sends a continuation when it left something.
async fn conclude(home: &Home, ctx: &Ctx, hold: Hold, report: Report) -> Result<Report> {
    let now = ctx.now();
    let identity = (report.task.clone(), hold.run_id.clone(), hold.slot, hold.attempt);
    let whole = match hold.earlier.clone() {
        // Sources that all failed in this step are judged beside those of the earlier ones.
        Some(earlier) if report.status != Status::Failed || !report.sources.is_empty() => {
            let (task, run_id, slot, attempt) = identity;
            Report { task, run_id, slot, attempt, ..report.after(earlier)? }
        }
        _ => report,
    };
    let Some(checkpoint) = ctx.take_left().filter(|_| whole.status != Status::Failed) else {
        let whole = retention::after_run(ctx, whole).await;
        home.state.finish(hold, &whole, now).await?;
        return Ok(whole);
    };
    if hold.step >= CONTINUATIONS_MAX {
        let reason = format!(
            "gave up after {CONTINUATIONS_MAX} continuations; the rest is left for the next run"
        );
        let ended = if whole.has_read() {
            Report { status: Status::Partial, reason: Some(reason), ..whole }
        } else {
            let error = Error::deadline(format!("read any source: {reason}"))
                .hint("raise its `timeout_s` in infra/schedule.toml, or ask for less at once");
            let error = Some(Problem::from(&error));
            Report { status: Status::Failed, reason: Some(reason), error, ..whole }
        };
        home.state.finish(hold, &ended, now).await?;
        return Ok(ended);
    }
    let (task, run_id, next) = (whole.task.clone(), hold.run_id.clone(), hold.step + 1);
    let reason = whole.reason.clone().unwrap_or_else(|| {
        let why = match ctx.is_full() {
            true => format!(
                "a step stores {} items or {} GiB at the most",
                STEP.items,
                STEP.bytes >> 30
            ),
            false => "time ran out".to_owned(),
        };
        format!("{why}; a continuation carries on")
    });
    let suspended =
        Report { status: Status::Partial, reason: Some(reason), continues: Some(next), ..whole };
    let step = home.state.suspend(hold, &checkpoint, &suspended, now).await?;
    if let Err(error) = home.events.send(&Continuation { task, run_id, step }).await {
        tracing::warn!(
            error = error.chain(),
            "the checkpoint is kept and the task's next run adopts it"
        );
    }
    Ok(suspended)
}

/// The time now of a process without a run.
pub fn now(config: &Config) -> Timestamp {
    config.behaviour.clock.now(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_an_instant_or_what_cargo_lambda_gives() {
        let now: Timestamp = "2026-03-01T05:00:00Z".parse().unwrap();
        let at = u64::try_from(now.as_millisecond()).unwrap();
        assert_eq!(left(at + 300_000, now), Duration::from_secs(300));
        assert_eq!(left(at - 1, now), Duration::ZERO);
        assert_eq!(left(600_000, now), Duration::from_secs(600));
    }

    #[test]
    fn a_late_event_has_the_slot_of_its_row() {
        let time: Timestamp = "2026-03-01T05:01:00Z".parse().unwrap();
        let row = "America/Sao_Paulo cron(0 0/2 * * ? *)";
        assert_eq!(slot(Some(row), time).unwrap().to_string(), "2026-03-01T05:00:00Z");
        assert_eq!(slot(None, time).unwrap(), time);
        for wrong in ["daily", "Mars/Olympus cron(0 2 * * ? *)", "UTC cron(0 25 * * ? *)"] {
            let error = slot(Some(wrong), time).unwrap_err();
            assert!(error.to_string().contains("MINERVA_WHEN"), "{error}");
        }
    }
}
