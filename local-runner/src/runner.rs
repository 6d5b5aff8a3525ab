//! The functions of this machine: each task as a Lambda function, invoked in a child over the real Runtime API.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base::clock::Clock;
use base::report::{Problem, Report, Status};
use base::{Class, Error, Result};
use bytes::Bytes;
use jiff::Timestamp;
use schedule::{Row, Timetable};
use serde_json::Value;
use stores::state::{AttemptEnd, Due, QueueLimit, State};
use task::events::{CONTINUATION, Continuation, SOURCE};
use task::function::CONTINUATIONS_MAX;
use tokio::sync::Notify;
use tokio::time::interval;

use crate::families::all_tasks;
use crate::lambda::{self, Entry, Function, FunctionError, Invoker, Lambda, Options};
use crate::logbook::LogBook;
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
        let near = all_tasks()
            .map(|(_, known)| known.name)
            .min_by_key(|known| strsim::levenshtein(known, task));
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
    pub(crate) invoker: Invoker,
    pub(crate) state: Arc<dyn State>,
    pub(crate) logs: LogBook,
}

/// One try at an invocation.
pub(crate) struct Attempt<'a> {
    pub(crate) task: &'a str,
    pub(crate) event: &'a Value,
    pub(crate) request_id: &'a str,
    /// From 1; the ledger has its row.
    pub(crate) number: u32,
}

impl Attempts {
    /// Invokes a task and gives its report, whatever came of it; notes how the attempt ended.
    ///
    /// # Errors
    /// `Config`, when the platform refuses; `Format`, when the answer is no report; `Store`, when that cannot be noted.
    pub(crate) async fn make(&self, attempt: &Attempt<'_>) -> Result<Report> {
        let Attempt { task, request_id, number, .. } = *attempt;
        self.logs.open(request_id);
        let mut work = pin!(self.invoke(attempt));
        let mut looks = interval(LOG_EVERY);
        let (report, peak_kb) = loop {
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
        let log = self.logs.close(request_id);
        let end = match &report {
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
        self.state.end_attempt(request_id, number, &end, Clock::Machine.now(None)).await?;
        report
    }

    /// The report, and the peak memory of its process in KiB.
    async fn invoke(&self, attempt: &Attempt<'_>) -> (Result<Report>, u32) {
        let Attempt { task, event, request_id, .. } = *attempt;
        let payload = Bytes::from(event.to_string());
        let options = Options { request_id: Some(request_id.to_owned()), ..Options::default() };
        let invocation = match self.invoker.invoke(task, payload, options).await {
            Ok(invocation) => invocation,
            Err(cause) => {
                let refused = Error::config(format!("invoke `{task}`")).because(cause);
                return (Err(refused), 0);
            }
        };
        let report = match invocation.outcome {
            Ok(answer) => serde_json::from_slice(&answer).map_err(|cause| {
                Error::format(format!("read the report of `{task}`")).because(cause)
            }),
            Err(error) => {
                // What the function stored before it failed says more than the error it posted.
                let stored = self.state.run_of(request_id).await.ok().flatten();
                Ok(match stored.and_then(|run| run.report) {
                    Some(report) if report.error.is_some() => report,
                    _ => failed(task, &error),
                })
            }
        };
        (report, u32::try_from(invocation.max_memory_kb).unwrap_or(u32::MAX))
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
            // A process that was killed may have run out of memory; Lambda tries each of these again.
            "Sandbox.Timedout" | "Runtime.ExitError" => Class::Deadline,
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
