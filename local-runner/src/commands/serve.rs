//! `serve`: the timetable at work until it is interrupted, and the Invoke API for those who want a run now.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::clock::Clock;
use base::report::{Report, Status};
use base::{Class, Error, Result};
use jiff::Timestamp;
use stores::state::{Lease, State};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cli::{Cli, ServeArgs};
use crate::commands::doctor;
use crate::home::{interrupted, log_sink};
use crate::home::{open_state, settings};
use crate::lambda::{self, to_tracing};
use crate::out::{self, Outcome};
use crate::runner::{self, Ledger};
use crate::scheduler::{LOOK_AGAIN, Scheduler};
use crate::settings::Settings;

/// How long running tasks may take to end after an interruption.
const GRACE: Duration = Duration::from_secs(5);

/// How soon the queue is looked at again: a run that was asked for over the Invoke API should not wait long.
const QUEUE_LOOK: Duration = Duration::from_millis(250);

/// The wait after a store failed.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// The hold that keeps a second `serve` from the same folder.
const ONLY_ONE: &str = "runner/serve";

/// `local-runner serve`.
pub(crate) async fn serve(cli: &Cli, args: &ServeArgs) -> Outcome {
    let settings = settings(cli)?;
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let functions = runner::functions(&settings, &timetable, args.functions.as_deref())?;
    check(cli, &settings).await?;
    let state = open_state(&settings).await?;
    // On a server several runners share the timetable and the queue; a folder has one, which is easily started twice.
    let only = match &settings.config.stores.database_url {
        Some(_) => None,
        None => Some(only_one(state.as_ref(), &settings).await?),
    };
    let ledger = Arc::new(Ledger::new(Arc::clone(&state)));
    let config = lambda::Config {
        addresses: vec![
            SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, args.port)),
        ],
        queue: Some(Arc::clone(&ledger) as _),
        events: Some(ledger as _),
        logs: if cli.verbose { log_sink(true) } else { to_tracing() },
        ..lambda::Config::new(functions)
    };
    let lambda = start(config, args.port).await?;
    let scheduler = Scheduler {
        timetable: Arc::new(timetable),
        state: Arc::clone(&state),
        invoker: lambda.invoker(),
    };

    let put_back = state.recover(now()).await?;
    scheduler.tick(now()).await?;
    announce(&scheduler, lambda.origin(), put_back);
    let ended = tokio::select! {
        ended = run_what_is_due(&scheduler, args.workers) => ended,
        () = interrupted() => Ok(()),
    };
    out::note("stopping; what was not finished goes on with the next start");
    lambda.stop(GRACE).await;
    drop(only);
    ended.map(|()| out::DONE)
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

/// Queues what the timetable says and runs what is queued, some at once. A store that fails is asked again: it may be
/// starting anew, and what is queued waits there.
async fn run_what_is_due(scheduler: &Scheduler, workers: usize) -> Result<()> {
    let places = Arc::new(Semaphore::new(workers.max(1)));
    let mut running = JoinSet::new();
    let mut recovered = now();
    loop {
        let looked = look(scheduler, &places, &mut running, &mut recovered).await;
        let wait = match &looked {
            Ok(()) => scheduler
                .next_firing(now())
                .map_or(LOOK_AGAIN, |next| until(next).min(LOOK_AGAIN))
                .min(QUEUE_LOOK),
            Err(error) if error.class() == Class::Store => {
                out::note(&format!("failed to {}", error.chain()));
                STORE_PAUSE
            }
            Err(_) => return looked,
        };
        while running.try_join_next().is_some() {}
        // A run that ends frees a place; nothing else needs to be waited for.
        let _ = timeout(wait, async {
            if looked.is_err() || running.join_next().await.is_none() {
                std::future::pending::<()>().await;
            }
        })
        .await;
    }
}

/// Looks once: what fell due, what dead runners left, what waits while there are places.
async fn look(
    scheduler: &Scheduler,
    places: &Arc<Semaphore>,
    running: &mut JoinSet<()>,
    recovered: &mut Timestamp,
) -> Result<()> {
    scheduler.tick(now()).await?;
    // A clock that was set back must not put this off either.
    if until(*recovered + LOOK_AGAIN).is_zero() || *recovered > now() {
        *recovered = now();
        let put_back = scheduler.state.recover(now()).await?;
        if put_back > 0 {
            out::note(&format!("{put_back} runs that another runner left go on here"));
        }
    }
    while let Ok(place) = Arc::clone(places).try_acquire_owned() {
        let Some(taken) = scheduler.state.take(now()).await? else { break };
        let scheduler = scheduler.clone();
        running.spawn(async move {
            let (task, attempts) = (taken.entry.task.clone(), taken.entry.attempts);
            let report = scheduler.run(taken, now()).await;
            drop(place);
            tell(&task, attempts, report);
        });
    }
    Ok(())
}

fn tell(task: &str, attempts: u32, report: Result<Report>) {
    match report {
        Ok(report) if report.status == Status::Failed => {
            let reason = report.reason.unwrap_or_default();
            out::note(&format!("{task} failed (try {attempts}): {reason}"));
        }
        Ok(report) => out::note(&format!(
            "{} {}: {} new, {} changed, {} unchanged",
            report.task,
            report.status.name(),
            report.counts.new,
            report.counts.changed,
            report.counts.unchanged
        )),
        Err(error) => out::note(&format!("{task}: failed to {}", error.chain())),
    }
}

fn until(instant: Timestamp) -> Duration {
    instant.duration_since(now()).try_into().unwrap_or(Duration::ZERO)
}

fn now() -> Timestamp {
    Clock::Machine.now(None)
}
