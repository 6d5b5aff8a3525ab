//! `serve`: the timetable at work until it is interrupted, and the Invoke API for those who want a run now.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::clock::Clock;
use base::report::{Report, Status};
use base::{Class, Error, Result};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sd_notify::NotifyState;
use serde_json::json;
use stores::state::{Lease, Sqlite, State};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::cli::{Cli, ServeArgs};
use crate::commands::doctor;
use crate::home::{interrupted, log_sink};
use crate::home::{open_state, settings};
use crate::lambda::{self, to_tracing};
use crate::logbook::LogBook;
use crate::out::{self, Outcome};
use crate::runner::{self, Attempts, Calls, Ledger};
use crate::scheduler::{LOOK_AGAIN, Scheduler};
use crate::settings::Settings;
use crate::watch::{self, Watch};
use crate::when;

/// How long running tasks may take to end after an interruption.
const GRACE: Duration = Duration::from_secs(5);

/// How long handing back what did not end may take then.
const HAND_BACK: Duration = Duration::from_secs(3);

/// How soon it is asked again whether another process queued something. What was asked for here is looked at at once.
const QUEUE_LOOK: Duration = Duration::from_secs(1);

/// How often runners that died are looked for on a server, where there may be several.
const DEAD_LOOK: SignedDuration = SignedDuration::from_secs(2);

/// How often this runner says that it lives.
const BEAT: SignedDuration = SignedDuration::from_secs(10);

/// How often the history is trimmed.
const TRIM: SignedDuration = SignedDuration::from_hours(1);

/// The wait after a store failed.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// Failing sources that a line names.
const FAILING_NAMED: usize = 10;

/// The hold that keeps a second `serve` from the same folder.
const ONLY_ONE: &str = "runner/serve";

/// `local-runner serve`.
pub(crate) async fn serve(cli: &Cli, args: &ServeArgs) -> Outcome {
    let settings = settings(cli)?;
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let functions = runner::functions(&settings, &timetable, args.functions.as_deref())?;
    if args.check {
        return check(cli, &settings).await.map(|()| out::DONE);
    }
    let code = check_apart().await?;
    if code != out::DONE {
        return Ok(code);
    }
    let state = open_state(&settings).await?;
    // On a server several runners share the timetable and the queue; a folder has one, which is easily started twice.
    let only = match &settings.config.stores.database_url {
        Some(_) => None,
        None => Some(only_one(state.as_ref(), &settings).await?),
    };
    let ledger = Arc::new(Ledger::new(Arc::clone(&state)));
    let timetable = Arc::new(timetable);
    let logs = LogBook::default();
    let watch = Arc::new(Watch::new(args.workers));
    let form = LogForm { is_json: cli.json, zone: timetable.zone().clone() };
    let calls = Calls {
        state: Arc::clone(&state),
        logs: logs.clone(),
        began: {
            let watch = Arc::clone(&watch);
            Box::new(move || watch.began())
        },
        ended: {
            let (watch, form) = (Arc::clone(&watch), form.clone());
            Box::new(move |task, report, took| {
                watch.ended(task, report.as_ref().ok(), took);
                form.tell(task, 1, report);
            })
        },
    };
    let config = lambda::Config {
        addresses: vec![
            SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, args.port)),
        ],
        queue: Some(Arc::clone(&ledger) as _),
        account: Some(Arc::new(calls) as _),
        events: Some(Arc::clone(&ledger) as _),
        logs: logs.sink(if cli.verbose { log_sink(true) } else { to_tracing() }),
        status: watch::routes(&watch, &state, &settings.config),
        ..lambda::Config::new(functions)
    };
    let lambda = start(config, args.port).await?;
    let attempts = Attempts::new(lambda.invoker(), Arc::clone(&state), logs);
    let scheduler = Scheduler { timetable, state, attempts };

    let put_back = scheduler.state.recover(now()).await?;
    scheduler.tick(now()).await?;
    scheduler.state.beat(&watch.beat(now())).await?;
    watch.ticked(now());
    announce(&scheduler, lambda.origin(), put_back);
    notify(&[NotifyState::Ready]);
    let server = Server { scheduler: scheduler.clone(), ledger, watch: Arc::clone(&watch), form };
    let mut running = JoinSet::new();
    let changes = Changes::of(&settings);
    let ended = tokio::select! {
        ended = server.run_what_is_due(args.workers, changes, &mut running) => ended,
        () = interrupted() => Ok(()),
    };
    notify(&[NotifyState::Stopping]);
    out::note("stopping; what was not finished goes on with the next start");
    scheduler.attempts.stop();
    // What ends in time is settled, and what is cut off then is handed back.
    let settled =
        timeout(GRACE + HAND_BACK, async { while running.join_next().await.is_some() {} });
    let ((), settled) = tokio::join!(lambda.stop(GRACE), settled);
    if settled.is_err() {
        out::note(
            "the store does not answer: what was not finished is taken over when its hold expires",
        );
    }
    // Whoever looks for it then sees that it did not die.
    if let Err(error) = scheduler.state.leave(watch.name()).await {
        tracing::warn!(error = error.chain(), "say that this runner ends");
    }
    drop(only);
    ended.map(|()| out::DONE)
}

/// Tells the service manager, where there is one.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "tell the service manager");
    }
}

/// Has a process of its own look at everything, which reads every list: its memory is gone when this one serves. Its exit code;
/// what is wrong it has told.
async fn check_apart() -> Result<u8> {
    let failed = |cause| Error::config("look whether everything can work").because(cause);
    let own = std::env::current_exe().map_err(failed)?;
    let mut looks = Command::new(own);
    looks.args(std::env::args_os().skip(1)).arg("--check").stdin(Stdio::null()).kill_on_drop(true);
    let code = looks.status().await.map_err(failed)?.code();
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(out::FAILED))
}

/// Looks at everything that `doctor` looks at: what cannot work is refused, what only should not be so is told.
async fn check(cli: &Cli, settings: &Settings) -> Result<()> {
    let mut stopped = None;
    for finding in doctor::look(cli, settings, false).await {
        if finding.is_ok() {
            continue;
        }
        match finding.stops {
            Some(error) if stopped.is_none() => stopped = Some(error),
            _ => {
                out::note(&format!("warning: {}: {}", finding.name, finding.says));
                if let Some(hint) = finding.hint {
                    out::note(&format!("hint: {hint}"));
                }
            }
        }
    }
    stopped.map_or(Ok(()), Err)
}

async fn only_one(state: &dyn State, settings: &Settings) -> Result<Lease> {
    state.lease(ONLY_ONE).await?.ok_or_else(|| {
        Error::config(format!("serve `{}`: another runner uses it", settings.data_dir.display()))
            .hint("stop the other one, or give this one a folder of its own with `--data-dir`")
    })
}

/// Starts the platform; a machine without IPv6 is served on IPv4 alone.
async fn start(config: lambda::Config, port: u16) -> Result<lambda::Lambda> {
    let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let addresses =
        config.addresses.into_iter().filter(|address| has_ipv6 || address.is_ipv4()).collect();
    runner::start(lambda::Config { addresses, ..config }).await.map_err(|error| {
        error.hint(format!("is another runner on port {port}? choose one with `--port`"))
    })
}

fn announce(scheduler: &Scheduler, origin: &str, put_back: u64) {
    let zone = scheduler.timetable.zone();
    out::note(&format!(
        "serving on {origin}: `cargo lambda invoke`, `aws lambda invoke --endpoint-url {origin}`"
    ));
    if put_back > 0 {
        out::note(&format!("{put_back} interrupted runs go on"));
    }
    if let Some(next) = scheduler.next_firing(now()) {
        let local = next.to_zoned(zone.clone());
        out::note(&format!("next run {}; stop with Ctrl-C", local.strftime("%a %H:%M %Z")));
    }
}

/// The timetable at work.
struct Server {
    scheduler: Scheduler,
    ledger: Arc<Ledger>,
    watch: Arc<Watch>,
    form: LogForm,
}

/// When something is to be done next.
struct Turns {
    tick: Timestamp,
    recover: Timestamp,
    beat: Timestamp,
    trim: Timestamp,
    /// When all was looked at last, and when something comes of itself: the next of the others, or what waits in the queue.
    looked: Timestamp,
    next: Timestamp,
}

impl Turns {
    fn is_due(&self, now: Timestamp) -> bool {
        now >= self.next || now < self.looked
    }
}

/// Whether other processes wrote to the state: of a file the log tells it for the price of a system call, of a server nothing.
struct Changes {
    log: Option<PathBuf>,
    seen: Option<(SystemTime, u64)>,
}

impl Changes {
    fn of(settings: &Settings) -> Self {
        let is_embedded = settings.config.stores.database_url.is_none();
        let log = is_embedded.then(|| Sqlite::log_in(&settings.data_dir));
        Self { log, seen: None }
    }

    /// Whether there may be something new since this was asked last.
    fn any(&mut self) -> bool {
        let Some(log) = &self.log else { return true };
        let file = fs::metadata(log).and_then(|file| Ok((file.modified()?, file.len()))).ok();
        let is_new = file.is_none() || file != self.seen;
        self.seen = file;
        is_new
    }

    /// How often what died is looked for: a folder has one runner, whose functions end with it.
    fn dead_look(&self) -> SignedDuration {
        if self.log.is_some() { BEAT } else { DEAD_LOOK }
    }
}

impl Server {
    /// Queues what the timetable says and runs what is queued, some at once. A store that fails is asked again: it may be
    /// starting anew, and what is queued waits there.
    async fn run_what_is_due(
        &self,
        workers: usize,
        mut changes: Changes,
        running: &mut JoinSet<()>,
    ) -> Result<()> {
        let places = Arc::new(Semaphore::new(workers.max(1)));
        let start = now();
        let mut turns = Turns {
            tick: start,
            recover: start,
            beat: start,
            trim: start,
            looked: start,
            next: start,
        };
        let mut is_woken = true;
        loop {
            let is_changed = changes.any();
            if !is_woken && !is_changed && !turns.is_due(now()) {
                is_woken = self.is_woken_within(QUEUE_LOOK.min(until(turns.next)), running).await;
                continue;
            }
            let every = changes.dead_look();
            match self.look(&places, running, &mut turns, every).await {
                Ok(()) => {
                    notify(&[NotifyState::Watchdog]);
                    let wait = QUEUE_LOOK.min(until(turns.next));
                    is_woken = self.is_woken_within(wait, running).await;
                }
                Err(error) if error.class() == Class::Store => {
                    self.watch.failed(&error.chain());
                    out::note(&format!("failed to {}", error.chain()));
                    tokio::time::sleep_until(Instant::now() + STORE_PAUSE).await;
                    is_woken = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits, at the most so long, for a run that ends, which frees a place, or for something that is queued here.
    async fn is_woken_within(&self, wait: Duration, running: &mut JoinSet<()>) -> bool {
        let woken = timeout(wait, async {
            tokio::select! {
                Some(_) = running.join_next() => {}
                () = self.ledger.queued() => {}
            }
        });
        let is_woken = woken.await.is_ok();
        while running.try_join_next().is_some() {}
        is_woken
    }

    /// Looks once: what fell due, what dead runners left, what waits while there are places.
    async fn look(
        &self,
        places: &Arc<Semaphore>,
        running: &mut JoinSet<()>,
        turns: &mut Turns,
        dead_look: SignedDuration,
    ) -> Result<()> {
        let scheduler = &self.scheduler;
        let state = &scheduler.state;
        turns.looked = now();
        // Read anew each time: clocks are set, and machines sleep.
        if is_turn(&mut turns.tick, now(), LOOK_AGAIN) {
            scheduler.tick(now()).await?;
            if let Some(next) = scheduler.next_firing(now()) {
                turns.tick = turns.tick.min(next);
            }
        }
        if is_turn(&mut turns.recover, now(), dead_look) {
            let put_back = state.recover(now()).await?;
            if put_back > 0 {
                out::note(&format!("{put_back} runs that another runner left go on here"));
            }
        }
        if is_turn(&mut turns.beat, now(), BEAT) {
            state.beat(&self.watch.beat(now())).await?;
        }
        if is_turn(&mut turns.trim, now(), TRIM) {
            state.trim_history(now()).await?;
        }
        self.watch.ticked(now());
        while let Ok(place) = Arc::clone(places).try_acquire_owned() {
            let Some(taken) = state.take(now()).await? else { break };
            let (scheduler, form) = (scheduler.clone(), self.form.clone());
            let watch = Arc::clone(&self.watch);
            running.spawn(async move {
                let began = Instant::now();
                watch.began();
                let (task, attempts) = (taken.entry.task.clone(), taken.entry.attempts);
                let report = scheduler.run(taken, now()).await;
                drop(place);
                watch.ended(&task, report.as_ref().ok(), began.elapsed());
                form.tell(&task, attempts, report);
            });
        }
        turns.next = turns.tick.min(turns.recover).min(turns.beat).min(turns.trim);
        if let Some(due) = state.next_due(turns.looked).await? {
            turns.next = turns.next.min(due);
        }
        Ok(())
    }
}

/// Whether something is to be done now; then its next turn is `every` later. A clock that was set back puts nothing off.
fn is_turn(turn: &mut Timestamp, now: Timestamp, every: SignedDuration) -> bool {
    let next = now.checked_add(every).unwrap_or(now);
    let is_due = *turn <= now || *turn > next;
    if is_due {
        *turn = next;
    }
    is_due
}

/// How a run is told: a line for people, or an object of JSON.
#[derive(Clone)]
struct LogForm {
    is_json: bool,
    zone: TimeZone,
}

impl LogForm {
    fn tell(&self, task: &str, attempt: u32, report: Result<Report>) {
        let at = now();
        let report = report
            .unwrap_or_else(|error| Report { task: task.to_owned(), ..Report::failed(&error) });
        if self.is_json {
            let line = json!({
                "time": at, "level": if report.status == Status::Failed { "error" } else { "info" },
                "task": task, "run_id": report.run_id, "slot": report.slot, "attempt": attempt,
                "status": report.status.name(), "found": report.counts.found, "new": report.counts.new,
                "changed": report.counts.changed, "unchanged": report.counts.unchanged,
                "failed": report.counts.failed, "took_ms": report.took_ms, "error": report.error,
                "failing_sources": failing(&report),
            });
            out::json_line(&line);
            return;
        }
        let at = when::second(at, &self.zone);
        if report.status == Status::Failed {
            let reason = report.reason.unwrap_or_default();
            out::note(&format!("{at} {task} failed (try {attempt}): {reason}"));
            return;
        }
        let failing = failing(&report);
        let failing = match failing.len() {
            0 => String::new(),
            count => format!("; {count} sources failed: {}", failing.join(", ")),
        };
        out::note(&format!(
            "{at} {} {}: {} new, {} changed, {} unchanged{failing}",
            report.task,
            report.status.name(),
            report.counts.new,
            report.counts.changed,
            report.counts.unchanged
        ));
    }
}

/// Sources that failed, some of them by name.
fn failing(report: &Report) -> Vec<&str> {
    let failed = report.sources.iter().filter(|source| source.problem.is_some());
    failed.map(|source| source.source.as_str()).take(FAILING_NAMED).collect()
}

fn until(instant: Timestamp) -> Duration {
    instant.duration_since(now()).try_into().unwrap_or(Duration::ZERO)
}

fn now() -> Timestamp {
    Clock::Machine.now(None)
}
