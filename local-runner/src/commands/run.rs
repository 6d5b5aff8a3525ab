//! `run` and `reparse`: one task, now, in a child over the Runtime API, continuations included.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base::clock::Clock;
use base::report::{Report, Status};
use base::{Error, Result};
use serde_json::{Value, json};
use stores::state::{Due, State};
use tokio::time::{Instant, interval_at};
use uuid::Uuid;

use crate::cli::{Cli, RunArgs};
use crate::families::{FAMILIES, all_tasks};
use crate::figures;
use crate::home::{interrupted, log_sink, open_state, settings_with};
use crate::lambda;
use crate::logbook::LogBook;
use crate::out::{self, Outcome};
use crate::runner::{self, Attempt, Attempts, Continuations};
use crate::settings::Settings;

/// How long a run that was interrupted may take to end.
const GRACE: Duration = Duration::from_millis(500);

/// After this long a person is told what a run waits for …
const TOLD_AFTER: Duration = Duration::from_secs(3);
/// … and again at this interval.
const TOLD_AGAIN: Duration = Duration::from_secs(30);

/// Sources that are named when they keep a run waiting.
const WAITED_FOR: usize = 5;

/// `local-runner run`.
pub(crate) async fn run(cli: &Cli, args: &RunArgs) -> Outcome {
    let overrides = args.clock.iter().map(|clock| ("MINERVA_CLOCK", clock.clone())).collect();
    let settings = settings_with(cli, overrides)?;
    one(cli, args, settings).await
}

/// `local-runner reparse`.
pub(crate) async fn reparse(cli: &Cli, task: &str) -> Outcome {
    let settings = settings_with(cli, Vec::new())?;
    let archive = settings.config.stores.archive.clone().ok_or_else(|| {
        Error::config("reparse: no archive is set")
            .hint("`MINERVA_ARCHIVE` names the folder in which responses are kept")
    })?;
    let settings =
        settings_with(cli, vec![("MINERVA_REPARSE", archive.to_string_lossy().into_owned())])?;
    let args = RunArgs {
        task: task.to_owned(),
        sources: Vec::new(),
        only_failed: false,
        detach: false,
        input: None,
        clock: None,
        strict: false,
        timeout: None,
        functions: None,
    };
    one(cli, &args, settings).await
}

/// Tasks that take sources by name, by family: the key of their input, and whether that is a list.
const BY_SOURCE: [(&str, &str, &str, bool); 2] = [
    ("rss", "collect_specific_sources", "sources", true),
    ("misp", "sync_single_feed", "feed", false),
];

/// The task and the input that read these sources of a task's family alone.
///
/// # Errors
/// `Config`, where the family has no such task, or it takes one source at a time.
fn of_sources(task: &str, sources: &[String]) -> Result<(String, Value)> {
    let family = all_tasks().find(|(_, known)| known.name == task).map(|(family, _)| family);
    let found = BY_SOURCE.iter().find(|(known, ..)| Some(*known) == family);
    let Some((_, by_source, key, is_list)) = found else {
        return Err(Error::config(format!(
            "run `{task}` for some sources: it always reads all of its own"
        )));
    };
    // What `sources list` shows may have the family before it.
    let ids: Vec<&str> =
        sources.iter().map(|id| id.split_once('/').map_or(id.as_str(), |(_, id)| id)).collect();
    let value = match (is_list, ids.as_slice()) {
        (true, ids) => json!(ids),
        (false, [id]) => json!(id),
        (false, ids) => {
            return Err(Error::config(format!("run `{by_source}` for {} sources", ids.len()))
                .hint(format!("it takes one at a time: {}", ids.join(", "))));
        }
    };
    Ok(((*by_source).to_owned(), json!({*key: value})))
}

/// The sources that failed in the last run of a task.
///
/// # Errors
/// `Config`, where there was no run, or none failed.
async fn failed_sources(state: &dyn State, task: &str) -> Result<Vec<String>> {
    let last = state.runs(Some(task), 1).await?.pop().and_then(|run| run.report);
    let sources = last.map(|report| report.sources).unwrap_or_default();
    let failed = sources.into_iter().filter(|source| source.problem.is_some());
    let failed: Vec<String> = failed.map(|source| source.source).collect();
    if failed.is_empty() {
        return Err(Error::config(format!(
            "run what failed of `{task}`: no source failed in its last run"
        )));
    }
    Ok(failed)
}

/// Leaves a run to the runner that serves.
async fn detach(cli: &Cli, state: &dyn State, task: &str, input: Value) -> Outcome {
    let now = Clock::Machine.now(None);
    let request_id = Uuid::new_v4().to_string();
    let due = Due { request_id: request_id.clone(), task: task.to_owned(), event: input, due: now };
    if !state.enqueue_within(&due, runner::CALLERS_QUEUE).await? {
        return Err(Error::store("queue the run: the queue is full")
            .hint("`local-runner active` shows what runs"));
    }
    let is_served = state.runners(now).await?.iter().any(|runner| runner.is_on(now));
    if cli.json {
        out::json(&json!({"request_id": request_id, "task": task, "runner_is_on": is_served}));
    } else {
        out::line(&format!(
            "queued as {request_id}; `local-runner logs {request_id} -f` follows it"
        ));
    }
    if !is_served {
        out::note("no runner is on: it waits for `local-runner serve`");
    }
    Ok(out::DONE)
}

async fn one(cli: &Cli, args: &RunArgs, settings: Settings) -> Outcome {
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    runner::row(&timetable, &args.task)?;
    let mut task = args.task.clone();
    let mut input = match &args.input {
        None => Value::Null,
        Some(text) => serde_json::from_str(text).map_err(|cause| {
            Error::config(format!("read the input `{text}`"))
                .because(cause)
                .hint("it must be JSON, as '{\"categories\":[\"malware\"]}'")
        })?,
    };
    let mut functions = runner::functions(&settings, &timetable, args.functions.as_deref())?;
    if let Some(seconds) = args.timeout {
        for function in &mut functions {
            function.timeout = Duration::from_secs(seconds);
        }
    }
    let place = match &settings.config.stores.database_url {
        Some(address) => format!("PostgreSQL at `{}`", address.shown()),
        None => format!("the state in `{}`", settings.data_dir.display()),
    };
    let state = meanwhile(open_state(&settings), async || place.clone()).await?;
    let mut sources = args.sources.clone();
    if args.only_failed {
        sources = failed_sources(state.as_ref(), &task).await?;
    }
    if !sources.is_empty() {
        (task, input) = of_sources(&task, &sources)?;
    }
    if args.detach {
        return detach(cli, state.as_ref(), &task, input).await;
    }
    state.end_interrupted(Clock::Machine.now(None)).await?;
    let continuations = Arc::new(Continuations::default());
    let events: Arc<dyn lambda::Events> = Arc::clone(&continuations) as _;
    let logs = LogBook::default();
    let config = lambda::Config {
        events: Some(events),
        logs: logs.sink(log_sink(cli.verbose)),
        ..lambda::Config::new(functions)
    };
    let lambda = runner::start(config).await?;
    let attempts = Attempts::new(lambda.invoker(), Arc::clone(&state), logs);

    let work = async {
        let mut event = input;
        let mut request_id = Uuid::new_v4().to_string();
        loop {
            let (task, request) = (task.as_str(), request_id.as_str());
            attempts.state.begin_attempt(task, request, 1, Clock::Machine.now(None)).await?;
            let attempt = Attempt { task, event: &event, request_id: request, number: 1 };
            let report = attempts.make(&attempt).await?.report()?;
            match continuations.take() {
                Some(continuation) if report.continues.is_some() => event = continuation,
                _ => return Ok(report),
            }
            request_id = Uuid::new_v4().to_string();
        }
    };
    let waits_for = async || waited_for(&settings, state.as_ref(), &task).await;
    let report: Result<Report> = tokio::select! {
        report = meanwhile(work, waits_for) => report,
        () = interrupted() => {
            let error = Error::deadline("finish: interrupted").hint("nothing is lost: the next run goes on");
            Ok(Report { task: task.clone(), ..Report::failed(&error) })
        }
    };
    lambda.stop(GRACE).await;
    let report = report?;
    if cli.json {
        out::json(&report);
    } else {
        show(&report);
    }
    Ok(code(&report, args.strict))
}

/// A failed run is 1; one that failed for its settings is a matter of usage, and one whose store could not be asked has its
/// own code. A part that failed is no failure while something was read and nothing that was read is lost.
fn code(report: &Report, is_strict: bool) -> u8 {
    match (&report.error, report.status) {
        (Some(problem), Status::Failed) if problem.unreachable => out::UNREACHABLE,
        (Some(problem), Status::Failed)
            if problem.class == base::Class::Config && report.sources.is_empty() =>
        {
            out::USAGE
        }
        (_, Status::Failed) => out::FAILED,
        (_, Status::Partial) if !report.has_read() || report.counts.failed > 0 => out::FAILED,
        _ if is_strict && report.has_failures() => out::FAILED,
        _ => out::DONE,
    }
}

/// Does some work, and tells a person what it waits for when it takes long.
async fn meanwhile<T>(work: impl Future<Output = T>, what: impl AsyncFn() -> String) -> T {
    let began = Instant::now();
    let mut told = interval_at(began + TOLD_AFTER, TOLD_AGAIN);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = told.tick() => {
                let what = what().await;
                out::note(&format!("waiting for {what} ({} s so far)", began.elapsed().as_secs()));
            }
        }
    }
}

/// The sources of the task's family that are being read now.
pub(crate) async fn sources_at_hand(
    settings: &Settings,
    state: &dyn State,
    task: &str,
) -> Result<Vec<String>> {
    let family = FAMILIES.iter().find(|family| family.tasks.iter().any(|one| one.name == task));
    let Some(family) = family else { return Ok(Vec::new()) };
    let listed = (family.sources.list)(&settings.config, state).await?;
    let names: Vec<String> =
        listed.iter().map(|source| format!("{}/{}", family.name, source.id)).collect();
    state.held(&names).await
}

/// What a run is waiting for: the sources that are being read.
async fn waited_for(settings: &Settings, state: &dyn State, task: &str) -> String {
    let held = sources_at_hand(settings, state, task);
    let held = held.await.unwrap_or_default();
    let named: Vec<&str> = held.iter().take(WAITED_FOR).map(String::as_str).collect();
    match held.len().saturating_sub(WAITED_FOR) {
        _ if held.is_empty() => {
            format!("`{task}`, which reads no source now: its store, or its own work")
        }
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// The report for a person.
pub(crate) fn show(report: &Report) {
    let seconds = Duration::from_millis(report.took_ms).as_secs_f64();
    out::line(&format!("{}: {} in {seconds:.1} s", report.task, report.status.name()));
    // Without sources the error is all there is to show, so its causes are shown too.
    let whole = report.error.as_ref().filter(|_| report.sources.is_empty());
    if let Some(reason) = whole.map(|problem| &problem.message).or(report.reason.as_ref()) {
        for line in reason.trim_end().lines() {
            out::line(&format!("  {line}"));
        }
    }
    if let Some(hint) = report.error.as_ref().and_then(|problem| problem.hint.as_ref()) {
        out::line(&format!("  hint: {hint}"));
    }
    let counts = &report.counts;
    let only_figures = report.sources.is_empty() && report.detail.is_object();
    let silent = report.error.is_some() || report.status == Status::Skipped || only_figures;
    if counts.found > 0 || !silent {
        let parts = [
            (counts.new, "new"),
            (counts.changed, "changed"),
            (counts.unchanged, "unchanged"),
            (counts.merged, "merged"),
            (counts.filtered, "filtered"),
            (counts.rejected, "rejected"),
            (counts.failed, "failed"),
            (counts.deferred, "deferred"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| format!("{count} {name}"))
            .collect();
        let parts = if parts.is_empty() { "nothing to store".to_owned() } else { parts.join(", ") };
        out::line(&format!("  {} items found: {parts}", counts.found));
    }
    if report.pruned > 0 {
        out::line(&format!("  {} documents deleted: older than their index keeps", report.pruned));
    }
    if !report.sources.is_empty() {
        let outcomes: Vec<String> =
            report.outcomes().iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        out::line(&format!("  {} sources: {}", report.sources.len(), outcomes.join(", ")));
    }
    let mut hints: BTreeSet<&str> =
        report.error.iter().filter_map(|problem| problem.hint.as_deref()).collect();
    for source in &report.sources {
        if let Some(problem) = &source.problem {
            let message = out::one_line(&problem.message);
            out::line(&format!("  ✗ {} ({}): {message}", source.source, source.outcome));
            // What many have in common is said once.
            if let Some(hint) = problem.hint.as_deref().filter(|hint| hints.insert(hint)) {
                out::line(&format!("    hint: {hint}"));
            }
        }
        for note in &source.notes {
            out::line(&format!("  · {}: {}", source.source, out::one_line(note)));
        }
    }
    for reject in &report.rejects {
        out::line(&format!("  reject from {}: {}", reject.source, out::one_line(&reject.reason)));
    }
    let mut detail = report.detail.as_object().cloned().unwrap_or_default();
    if let Some(Value::Array(quiet)) = detail.remove("quiet")
        && !quiet.is_empty()
    {
        let names: Vec<&str> = quiet.iter().filter_map(|one| one["source"].as_str()).collect();
        out::line(&format!("  quiet for longer than usual: {}", names.join(", ")));
    }
    figures::lines(&detail).iter().for_each(|line| out::line(&out::one_line(line)));
}
