//! What watches a runner: its health, and its figures as Prometheus reads them
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, extract};
use base::clock::Clock;
use base::config::Config;
use base::report::Report;
use base::{Error, Result};
use jiff::Timestamp;
use serde_json::json;
use stores::state::{HistoryQuery, QueueState, RUNNER_GONE, RunnerRow, SourceState, State};

use crate::families::{FAMILIES, all_tasks};

/// What a Prometheus server is told of the form.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A runner as it sees itself.
pub(crate) struct Watch {
    name: String,
    workers: usize,
    started: Timestamp,
    seen: Mutex<RunnerState>,
    busy: AtomicU64,
}

#[derive(Default)]
struct RunnerState {
    /// When everything that is due was last looked at, the store included.
    ticked: Option<Timestamp>,
    /// What kept it from that since.
    problem: Option<String>,
    /// By task and status.
    ended: BTreeMap<(String, &'static str), Sum>,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    attempts: u64,
    seconds: f64,
    new: u64,
}

impl Watch {
    pub(crate) fn new(workers: usize) -> Self {
        let system = rustix::system::uname();
        Self {
            name: format!("{}, pid {}", system.nodename().to_string_lossy(), std::process::id()),
            workers,
            started: Clock::Machine.now(None),
            seen: Mutex::default(),
            busy: AtomicU64::default(),
        }
    }

    /// Host and process id.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// This runner as others see it.
    pub(crate) fn beat(&self, now: Timestamp) -> RunnerRow {
        RunnerRow {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            workers: u32::try_from(self.workers).unwrap_or(u32::MAX),
            started: self.started,
            ticked: now,
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, RunnerState> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All is looked at, and the store answered.
    pub(crate) fn ticked(&self, now: Timestamp) {
        let mut seen = self.seen();
        seen.ticked = Some(now);
        seen.problem = None;
    }

    /// The store did not answer.
    pub(crate) fn failed(&self, problem: &str) {
        self.seen().problem = Some(problem.to_owned());
    }

    pub(crate) fn began(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an attempt that ended; without a report it failed.
    pub(crate) fn ended(&self, task: &str, report: Option<&Report>, took: Duration) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
        let status = report.map_or("failed", |report| report.status.name());
        let mut seen = self.seen();
        let sum = seen.ended.entry((task.to_owned(), status)).or_default();
        sum.attempts += 1;
        sum.seconds += took.as_secs_f64();
        sum.new += report.map_or(0, |report| report.counts.new);
    }

    /// 200 while the timetable is looked at and the store answers, else 503.
    fn health(&self, now: Timestamp) -> Response {
        let seen = self.seen();
        let age = seen.ticked.map(|ticked| now.duration_since(ticked));
        let is_ready = seen.problem.is_none() && age.is_some_and(|age| age <= RUNNER_GONE);
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = json!({
            "live": true,
            "ready": is_ready,
            "last_tick": seen.ticked,
            "last_tick_age_s": age.map(|age| age.as_secs()),
            "problem": seen.problem,
            "busy": self.busy.load(Ordering::Relaxed),
            "workers": self.workers,
            "started": self.started,
            "version": env!("CARGO_PKG_VERSION"),
        });
        (status, axum::Json(body)).into_response()
    }
}

/// What the routes answer from.
type Watched = (Arc<Watch>, Arc<dyn State>, Arc<Config>);

/// `GET /-/health` and `GET /-/metrics`.
pub(crate) fn routes(watch: &Arc<Watch>, state: &Arc<dyn State>, config: &Config) -> Router {
    Router::new()
        .route("/-/health", get(show_health))
        .route("/-/metrics", get(show_metrics))
        .with_state((Arc::clone(watch), Arc::clone(state), Arc::new(config.clone())))
}

async fn show_health(extract::State((watch, ..)): extract::State<Watched>) -> Response {
    watch.health(Clock::Machine.now(None))
}

async fn show_metrics(extract::State((watch, state, config)): extract::State<Watched>) -> Response {
    match metrics(&watch, &state, &config).await {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.chain()).into_response(),
    }
}

/// The figures in Prometheus' text.
async fn metrics(watch: &Watch, state: &Arc<dyn State>, config: &Arc<Config>) -> Result<String> {
    let now = Clock::Machine.now(None);
    let mut text = Text::default();
    text.family("minerva_build_info", "gauge", "The version of this program.");
    text.sample("minerva_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    text.family("minerva_start_time_seconds", "gauge", "When this runner started.");
    text.sample("minerva_start_time_seconds", &[], seconds(watch.started));
    text.family("minerva_workers", "gauge", "Runs that this runner makes at once.");
    text.sample("minerva_workers", &[], watch.workers as f64);
    text.family("minerva_workers_busy", "gauge", "Runs that this runner makes now.");
    text.sample("minerva_workers_busy", &[], watch.busy.load(Ordering::Relaxed) as f64);
    let (ticked, ended) = {
        let seen = watch.seen();
        (seen.ticked, seen.ended.clone())
    };
    text.family("minerva_last_tick_seconds", "gauge", "When the timetable was last looked at.");
    text.sample("minerva_last_tick_seconds", &[], ticked.map_or(0.0, seconds));

    type Counter = fn(&Sum) -> f64;
    let counters: [(_, _, Counter); 3] = [
        ("minerva_attempts_total", "Attempts that ended here.", |sum| sum.attempts as f64),
        ("minerva_attempt_seconds_total", "Seconds that they took.", |sum| sum.seconds),
        ("minerva_new_documents_total", "Documents that were new.", |sum| sum.new as f64),
    ];
    for (name, about, value) in counters {
        text.family(name, "counter", about);
        for ((task, status), sum) in &ended {
            text.sample(name, &[("task", task), ("status", status)], value(sum));
        }
    }

    let last = "minerva_task_last_success_seconds";
    text.family(last, "gauge", "When an attempt at the task last ended well; 0 for never.");
    for (_, task) in all_tasks() {
        let query = HistoryQuery {
            task: Some(task.name),
            outcome: Some("complete"),
            limit: 1,
            ..HistoryQuery::default()
        };
        let ended = state.attempts(&query).await?.first().and_then(|attempt| attempt.ended);
        text.sample(last, &[("task", task.name)], ended.map_or(0.0, seconds));
    }

    text.family("minerva_queue", "gauge", "Invocations by state; of dead letters those kept.");
    for waits in [QueueState::Queued, QueueState::Running, QueueState::Dead] {
        let count = state.queue_length(waits).await?;
        text.sample("minerva_queue", &[("state", waits.name())], f64::from(count));
    }

    let health = "minerva_source_health";
    text.family(health, "gauge", "1 for the health that a source has.");
    let mut success = Vec::new();
    for (name, source) in enabled_sources(state, config).await? {
        let word = source.health(now).name();
        text.sample(health, &[("source", &name), ("health", word)], 1.0);
        success.push((name, source.last_success.map_or(0.0, seconds)));
    }
    let last = "minerva_source_last_success_seconds";
    text.family(last, "gauge", "When the source last answered as it should; 0 for never.");
    for (name, at) in success {
        text.sample(last, &[("source", &name)], at);
    }
    Ok(text.0)
}

/// The sources that are enabled, and what is known of each.
pub(crate) async fn enabled_sources(
    state: &Arc<dyn State>,
    config: &Arc<Config>,
) -> Result<Vec<(String, SourceState)>> {
    let (state, config) = (Arc::clone(state), Arc::clone(config));
    let runtime = tokio::runtime::Handle::current();
    // A family's list is read on one thread, as commands do; a server's work may move between several.
    let listed = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            let mut all = Vec::new();
            for family in FAMILIES {
                let known: BTreeMap<_, _> = state.sources(family.name).await?.into_iter().collect();
                for source in (family.sources.list)(&config, state.as_ref()).await? {
                    if source.enabled {
                        let name = format!("{}/{}", family.name, source.id);
                        all.push((name, known.get(&source.id).cloned().unwrap_or_default()));
                    }
                }
            }
            Ok(all)
        })
    });
    listed.await.unwrap_or_else(|cause| Err(Error::store("list the sources").because(cause)))
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// The text form of metrics.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, about: &str) {
        let _ = writeln!(self.0, "# HELP {name} {about}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| {
                let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n");
                format!("{label}=\"{value}\"")
            })
            .collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_label_holds_cannot_end_it() {
        let mut text = Text::default();
        text.sample("m", &[("source", "a\"b\\c\nd")], 1.5);
        assert_eq!(text.0, "m{source=\"a\\\"b\\\\c\\nd\"} 1.5\n");
    }
}
