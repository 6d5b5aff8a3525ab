//! The functions of this machine: each task as a Lambda function, invoked in a child over the real Runtime API.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::clock::Clock;
use base::report::{Problem, Report, Status};
use base::{Class, Error, Result};
use bytes::Bytes;
use jiff::Timestamp;
use schedule::{Row, Timetable};
use serde_json::Value;
use stores::state::{AttemptEnd, Due, Log, QueueLimit, State};
use task::events::{CONTINUATION, Continuation, SOURCE};
use task::function::CONTINUATIONS_MAX;
use tokio::sync::Notify;
use tokio::time::interval;

use crate::families::all_tasks;
use crate::lambda::{
    self, Entry, Function, FunctionError, Invocation, Invoker, Lambda, Options, Refused,
};
use crate::logbook::LogBook;
use crate::out;
use crate::settings::Settings;

/// The timetable, compiled in so that one file is all there is to copy.
const TIMETABLE: &str = include_str!("../../infra/schedule.toml");

/// Reads the timetable: the one compiled in, and over it what the file that is given changes.
///
/// # Errors
/// `Config`, with everything that is wrong with it.
pub(crate) fn timetable(file: Option<&Path>) -> Result<Timetable> {
    let Some(path) = file else {
        return Ok(
            Timetable::parse(TIMETABLE).expect("a unit test reads the timetable compiled in")
        );
    };
    let text = std::fs::read_to_string(path).map_err(|cause| {
        Error::config(format!("read the timetable `{}`", path.display())).because(cause)
    })?;
    Timetable::overlaid(TIMETABLE, &text)
        .map_err(|cause| Error::config(format!("use `{}`", path.display())).because(cause))
}

/// The row of a task.
///
/// # Errors
/// `Config`, when there is no such task or no family of this program has it, with the name that was probably meant.
pub(crate) fn row<'a>(timetable: &'a Timetable, task: &str) -> Result<&'a Row> {
    let Some(row) = timetable.row(task) else {
        let near = out::nearest(task, all_tasks().map(|(_, known)| known.name));
        let hint = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        return Err(Error::config(format!("find the task `{task}`"))
            .hint(format!("{hint}`local-runner tasks` lists them all")));
    };
    if all_tasks().all(|(_, known)| known.name != task) {
        return Err(Error::config(format!(
            "find the task `{task}` of the timetable: no family has it"
        ))
        .hint("`local-runner tasks` lists them all"));
    }
    Ok(row)
}

/// Every task as a function: a child of this executable, or of `folder` when binaries were built apart.
///
/// # Errors
/// `Config`, when a binary is missing.
pub(crate) fn functions(
    settings: &Settings,
    timetable: &Timetable,
    folder: Option<&Path>,
) -> Result<Vec<Function>> {
    let own = std::env::current_exe()
        .map_err(|cause| Error::config("find this program's own file").because(cause))?;
    let mut functions = Vec::new();
    for (_, task) in all_tasks() {
        let Some(row) = timetable.row(task.name) else { continue };
        let (program, args) = match folder {
            None => (own.clone(), vec!["function".to_owned(), task.name.to_owned()]),
            Some(folder) => (built_binary(folder, task.name)?, Vec::new()),
        };
        functions.push(Function {
            args,
            env: settings.environment(),
            memory_mb: row.memory_mb,
            timeout: Duration::from_secs(u64::from(row.timeout_s)),
            ..Function::new(task.name, program)
        });
    }
    Ok(functions)
}

/// `folder/<task>/bootstrap` as cargo-lambda builds it, or `folder/<task>` as cargo does.
fn built_binary(folder: &Path, task: &str) -> Result<PathBuf> {
    let candidates = [folder.join(task).join("bootstrap"), folder.join(task)];
    let found = candidates.iter().find(|path| path.is_file());
    found.and_then(|path| std::path::absolute(path).ok()).ok_or_else(|| {
        Error::config(format!("find the binary of `{task}` in `{}`", folder.display())).hint(
            "build them with `cargo build --release --bins` or `cargo lambda build --release`",
        )
    })
}

/// Starts the platform for one command, on any free port.
///
/// # Errors
/// `Config`, when it cannot listen.
pub(crate) async fn start(config: lambda::Config) -> Result<Lambda> {
    Lambda::start(config).await.map_err(|cause| {
        Error::config("start the functions' platform")
            .because(cause)
            .hint("another runner may be listening there: see `--port`")
    })
}

/// Continuations that functions sent, for a command that carries them out itself.
#[derive(Default)]
pub(crate) struct Continuations(Mutex<Vec<Value>>);

impl Continuations {
    /// Takes the oldest.
    pub(crate) fn take(&self) -> Option<Value> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!kept.is_empty()).then(|| kept.remove(0))
    }
}

#[async_trait]
impl lambda::Events for Continuations {
    async fn put(&self, entries: &[Entry]) -> Result<(), String> {
        let now = Clock::Machine.now(None);
        let events =
            entries.iter().filter(|entry| is_continuation(entry)).map(|entry| entry.envelope(now));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
        Ok(())
    }
}

fn is_continuation(entry: &Entry) -> bool {
    entry.source == SOURCE && entry.detail_type == CONTINUATION
}

/// What callers may have in the queue. Firings of the timetable do not count against it: a row has few at once.
pub(crate) const CALLERS_QUEUE: QueueLimit = QueueLimit { rows: 1_000, bytes: 64 * 1024 * 1024 };

/// What may be in the queue with continuations, which a full queue must not stop.
const WHOLE_QUEUE: QueueLimit = QueueLimit { rows: 2_000, bytes: 96 * 1024 * 1024 };

/// The durable queue behind asynchronous invocations and continuations.
pub(crate) struct Ledger {
    state: Arc<dyn State>,
    /// Held while an event is read and kept: as a value it takes many times its bytes.
    turn: tokio::sync::Mutex<()>,
    queued: Notify,
}

impl Ledger {
    pub(crate) fn new(state: Arc<dyn State>) -> Self {
        Self { state, turn: tokio::sync::Mutex::default(), queued: Notify::new() }
    }

    /// Waits until something was queued here.
    pub(crate) async fn queued(&self) {
        self.queued.notified().await;
    }

    async fn keep(&self, due: &Due, limit: QueueLimit) -> Result<(), String> {
        match self.state.enqueue_within(due, limit).await {
            Ok(true) => {
                self.queued.notify_one();
                Ok(())
            }
            Ok(false) => Err("the queue is full".to_owned()),
            Err(error) => Err(error.chain()),
        }
    }
}

#[async_trait]
impl lambda::Queue for Ledger {
    async fn enqueue(
        &self,
        function: &str,
        payload: Bytes,
        request_id: &str,
    ) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        let event = if payload.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&payload).map_err(|cause| cause.to_string())?
        };
        let due = Due {
            request_id: request_id.to_owned(),
            task: function.to_owned(),
            event,
            // In its turn among the timetable's firings.
            due: Clock::Machine.now(None),
        };
        self.keep(&due, CALLERS_QUEUE).await
    }

    async fn has_room(&self, payload: usize) -> bool {
        // A store that cannot be read says so when the invocation is queued.
        self.state.has_room(payload, CALLERS_QUEUE).await.unwrap_or(true)
    }
}

#[async_trait]
impl lambda::Events for Ledger {
    async fn put(&self, entries: &[Entry]) -> Result<(), String> {
        let now = Clock::Machine.now(None);
        let continuations: Result<Vec<_>, _> =
            entries.iter().filter(|entry| is_continuation(entry)).map(checked).collect();
        for (continuation, entry) in continuations? {
            let due = Due {
                // A doubled event has the same id, and is queued once.
                request_id: format!("{}-{}", continuation.run_id, continuation.step),
                task: continuation.task,
                event: entry.envelope(now),
                // Before all others: a run that has begun goes on.
                due: Timestamp::UNIX_EPOCH,
            };
            self.keep(&due, WHOLE_QUEUE).await?;
        }
        Ok(())
    }
}

/// A continuation as functions send them, and its event with nothing beside it. Whoever could choose the id of what is
/// queued could take the place of a firing to come.
fn checked(entry: &Entry) -> Result<(Continuation, Entry), String> {
    let continuation: Continuation =
        serde_json::from_value(entry.detail.clone()).map_err(|cause| cause.to_string())?;
    let Continuation { task, run_id, step } = &continuation;
    let is_ours = all_tasks().any(|(_, known)| known.name == task)
        && uuid::Uuid::try_parse(run_id).is_ok()
        && *step <= CONTINUATIONS_MAX;
    if !is_ours {
        return Err("this is no continuation of a run of ours".to_owned());
    }
    let detail = serde_json::json!(continuation);
    let (resources, bus) = (Vec::new(), None);
    let entry = Entry { detail, resources, bus, ..entry.clone() };
    Ok((continuation, entry))
}

/// How often the ledger gets what a running invocation logs.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Where attempts are made, and where they are noted.
#[derive(Clone)]
pub(crate) struct Attempts {
    invoker: Invoker,
    pub(crate) state: Arc<dyn State>,
    logs: LogBook,
    is_stopping: Arc<AtomicBool>,
}

/// One try at an invocation.
pub(crate) struct Attempt<'a> {
    pub(crate) task: &'a str,
    pub(crate) event: &'a Value,
    pub(crate) request_id: &'a str,
    /// From 1; the ledger has its row.
    pub(crate) number: u32,
}

/// What became of an attempt.
pub(crate) enum Made {
    /// It ended, well or badly.
    Ended(Box<Report>),
    /// This runner stopped before its end.
    CutOff(Error),
}

impl Made {
    /// The report.
    ///
    /// # Errors
    /// `Deadline`, when the runner stopped first.
    pub(crate) fn report(self) -> Result<Report> {
        match self {
            Self::Ended(report) => Ok(*report),
            Self::CutOff(error) => Err(error),
        }
    }
}

impl Attempts {
    pub(crate) fn new(invoker: Invoker, state: Arc<dyn State>, logs: LogBook) -> Self {
        Self { invoker, state, logs, is_stopping: Arc::default() }
    }

    /// From now on a process that is killed was killed by this runner, which stops.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// Invokes a task and gives its report, whatever came of it; notes how the attempt ended.
    ///
    /// # Errors
    /// `Config`, when the platform refuses; `Format`, when the answer is no report; `Store`, when that cannot be noted.
    pub(crate) async fn make(&self, attempt: &Attempt<'_>) -> Result<Made> {
        let Attempt { task, event, request_id, number } = *attempt;
        let payload = Bytes::from(event.to_string());
        let options = Options { request_id: Some(request_id.to_owned()), ..Options::default() };
        let notes = Notes { state: self.state.as_ref(), logs: &self.logs };
        let work = self.invoker.invoke(task, payload, options);
        let (invocation, log) = notes.follow(task, request_id, number, work).await;
        let is_cut_off = self.is_stopping.load(Ordering::Acquire)
            && match &invocation {
                Ok(invocation) => invocation.outcome.as_ref().is_err_and(FunctionError::is_exit),
                Err(refused) => *refused == Refused::Stopping,
            };
        if is_cut_off {
            let error = Error::deadline(format!("finish `{task}`: the runner stops"))
                .hint("nothing is lost: another runner or the next start goes on with it");
            let end = AttemptEnd {
                outcome: INTERRUPTED.to_owned(),
                error: Some(error.to_string()),
                log,
                ..AttemptEnd::default()
            };
            self.state.end_attempt(request_id, number, &end, Clock::Machine.now(None)).await?;
            return Ok(Made::CutOff(error));
        }
        let (report, peak_kb) = match invocation {
            Ok(invocation) => {
                (notes.report(task, request_id, &invocation).await, invocation.max_memory_kb)
            }
            Err(cause) => (Err(Error::config(format!("invoke `{task}`")).because(cause)), 0),
        };
        notes.end(request_id, number, &report, peak_kb, log).await?;
        report.map(|report| Made::Ended(Box::new(report)))
    }
}

/// How an attempt ended that had no end.
const INTERRUPTED: &str = "interrupted";

/// What is noted of attempts, whoever asked for them.
struct Notes<'a> {
    state: &'a dyn State,
    logs: &'a LogBook,
}

impl Notes<'_> {
    /// Does the work of an attempt and keeps its log meanwhile; gives what it came to, and the whole log.
    async fn follow<T>(
        &self,
        task: &str,
        request_id: &str,
        number: u32,
        work: impl Future<Output = T>,
    ) -> (T, Log) {
        self.logs.open(request_id);
        let mut work = pin!(work);
        let mut looks = interval(LOG_EVERY);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                _ = looks.tick() => {
                    if let Some(log) = self.logs.news(request_id)
                        && let Err(error) = self.state.keep_log(request_id, number, &log).await
                    {
                        tracing::warn!(task, request_id, error = error.chain(), "keep the log");
                    }
                }
            }
        };
        (done, self.logs.close(request_id))
    }

    /// The report of an invocation. What its process held is free, where that died: nobody need wait for it to expire.
    async fn report(
        &self,
        task: &str,
        request_id: &str,
        invocation: &Invocation,
    ) -> Result<Report> {
        if let Some(dead) = &invocation.dead
            && let Err(error) = self.state.release_dead(dead).await
        {
            tracing::warn!(task, request_id, error = error.chain(), "release what it held");
        }
        match &invocation.outcome {
            Ok(answer) => serde_json::from_slice(answer).map_err(|cause| {
                Error::format(format!("read the report of `{task}`")).because(cause)
            }),
            Err(error) => {
                // What the function stored before it failed says more than the error it posted.
                let stored = self.state.run_of(request_id).await.ok().flatten();
                Ok(match stored.and_then(|run| run.report) {
                    Some(report) if report.error.is_some() => report,
                    _ => failed(task, error),
                })
            }
        }
    }

    /// Notes how an attempt ended, and the peak memory of its process in KiB.
    async fn end(
        &self,
        request_id: &str,
        number: u32,
        report: &Result<Report>,
        peak_kb: u64,
        log: Log,
    ) -> Result<()> {
        let peak_kb = u32::try_from(peak_kb).unwrap_or(u32::MAX);
        let end = match report {
            Ok(report) => AttemptEnd {
                run_id: Some(report.run_id.clone()).filter(|id| !id.is_empty()),
                outcome: report.status.name().to_owned(),
                class: report.error.as_ref().map(|problem| word(problem.class)),
                error: match &report.error {
                    Some(problem) => Some(problem.message.clone()),
                    None => report.reason.clone(),
                },
                peak_kb,
                log,
            },
            Err(error) => AttemptEnd {
                outcome: Status::Failed.name().to_owned(),
                class: Some(word(error.class())),
                error: Some(error.chain()),
                peak_kb,
                log,
                ..AttemptEnd::default()
            },
        };
        self.state.end_attempt(request_id, number, &end, Clock::Machine.now(None)).await
    }
}

/// Told how a call of a task ended, and how long it took.
pub(crate) type Told = dyn Fn(&str, Result<Report>, Duration) + Send + Sync;

/// Notes the invocations whose callers wait for the answer: each is an attempt, as those from the queue are.
pub(crate) struct Calls {
    pub(crate) state: Arc<dyn State>,
    pub(crate) logs: LogBook,
    pub(crate) began: Box<dyn Fn() + Send + Sync>,
    pub(crate) ended: Box<Told>,
}

#[async_trait]
impl lambda::Account for Calls {
    async fn make(&self, task: &str, request_id: &str, run: lambda::Running) -> Invocation {
        let began = Instant::now();
        (self.began)();
        // An attempt that cannot be noted is made all the same: its caller waits.
        let unnoted = |error: Error| {
            tracing::warn!(
                task,
                request_id,
                error = error.chain(),
                "note a call of the Invoke API"
            );
        };
        let now = Clock::Machine.now(None);
        if let Err(error) = self.state.begin_attempt(task, request_id, 1, now).await {
            unnoted(error);
        }
        let notes = Notes { state: self.state.as_ref(), logs: &self.logs };
        let (invocation, log) = notes.follow(task, request_id, 1, run).await;
        let report = notes.report(task, request_id, &invocation).await;
        let noted = notes.end(request_id, 1, &report, invocation.max_memory_kb, log).await;
        noted.unwrap_or_else(unnoted);
        (self.ended)(task, report, began.elapsed());
        invocation
    }
}

/// The word of a class in reports.
fn word(class: Class) -> String {
    class.error_type().trim_start_matches("Function.").to_lowercase()
}

/// The report of a run of which only the platform's error is known.
fn failed(task: &str, error: &FunctionError) -> Report {
    let message = error.message();
    let (message, hint) = match message.split_once("\nhint: ") {
        Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
        None => (message, None),
    };
    let class =
        Class::of_error_type(&error.error_type).unwrap_or(match error.error_type.as_str() {
            // A process that was killed may have run out of memory, and a program may be built anew at this moment; Lambda
            // tries each of these again.
            "Sandbox.Timedout" | "Runtime.ExitError" | "Runtime.InvalidEntrypoint" => {
                Class::Deadline
            }
            _ => Class::Format,
        });
    let reason = message.lines().next().unwrap_or_default().to_owned();
    let unreachable = error.error_type == Class::UNREACHABLE;
    let problem = Problem { class, message, hint, unreachable };
    Report {
        task: task.to_owned(),
        reason: Some(reason),
        error: Some(problem),
        ..Report::failed(&Error::format(""))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_continuation_of_ours_is_queued_and_nothing_beside_it() {
        let run_id = "c4a8e0de-30f4-4b9c-9b4e-0c6d0f3b7d8e";
        let entry = |detail: Value| Entry {
            id: "e".to_owned(),
            source: SOURCE.to_owned(),
            detail_type: CONTINUATION.to_owned(),
            detail,
            time: None,
            resources: vec!["much".repeat(1_000)],
            bus: None,
        };
        let task = "collect_all_rss_feeds";
        let good = json!({"task": task, "run_id": run_id, "step": 1, "more": "x"});
        let (_, kept) = checked(&entry(good.clone())).unwrap();
        assert_eq!(kept.detail, json!({"task": task, "run_id": run_id, "step": 1}));
        assert!(kept.resources.is_empty());
        for (name, value) in [
            ("task", json!("no_task")),
            ("run_id", json!("collect_all_rss_feeds")),
            ("step", json!("20991231T0000Z")),
            ("step", json!(-1)),
            ("step", json!(CONTINUATIONS_MAX + 1)),
        ] {
            let mut detail = good.clone();
            detail[name] = value;
            assert!(checked(&entry(detail.clone())).is_err(), "{detail}");
        }
    }

    #[test]
    fn the_timetable_compiled_in_names_every_task_that_is_linked() {
        let timetable = timetable(None).unwrap();
        for (family, task) in all_tasks() {
            assert!(timetable.row(task.name).is_some(), "{family}: `{}` has no row", task.name);
        }
        let is_linked = |row: &Row| all_tasks().any(|(_, task)| task.name == row.name);
        assert!(timetable.rows().iter().all(is_linked), "a row has no task");
        assert_eq!(timetable.rows().len(), 27);
    }

    #[test]
    fn a_typo_is_answered_with_the_task_that_was_meant() {
        let timetable = timetable(None).unwrap();
        let error = row(&timetable, "colect_all_rss_feed").unwrap_err();
        assert!(error.hint_text().unwrap().contains("`collect_all_rss_feeds`"));
    }
}
