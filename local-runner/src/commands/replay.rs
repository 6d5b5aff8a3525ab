//! `replay`: a stretch of the timetable in a store of its own, each run at its slot.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::clock::Clock;
use base::{Error, Result};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::cli::{Cli, ReplayArgs};
use crate::home::{interrupted, log_sink, open_state, settings_with};
use crate::lambda;
use crate::logbook::LogBook;
use crate::out::{self, Outcome};
use crate::runner::{self, Attempts, Ledger};
use crate::scheduler::Scheduler;
use crate::when::{self, Moment};

/// Where a replay keeps its store when no folder is named.
const FOLDER: &str = "minerva-replay";

/// Marks a folder whose contents a replay made.
const MARKER: &str = "made-by-a-replay";

/// Runs of one slot at once, as many as `serve` makes by default.
const WORKERS: usize = 4;

/// How long running tasks may take to end after an interruption.
const GRACE: Duration = Duration::from_secs(1);

/// The folder of the replay's store.
pub(crate) fn own_folder(cli: &Cli) -> Option<PathBuf> {
    Some(cli.data_dir.clone().unwrap_or_else(|| PathBuf::from(FOLDER)))
}

/// `local-runner replay`.
pub(crate) async fn replay(cli: &Cli, args: &ReplayArgs) -> Outcome {
    let now = Clock::Machine.now(None);
    let from = Moment::read(&args.from, now)?.start();
    let to = args.to.as_deref().map_or(Ok(now), |to| Moment::read(to, now).map(Moment::end))?;
    if to <= from {
        return Err(Error::config(format!(
            "replay from {from} to {to}: that is no stretch of time"
        )));
    }
    let folder = own_folder(cli).unwrap_or_default();
    prepare(&folder)?;
    let settings = settings_with(
        cli,
        vec![
            ("MINERVA_DATA_DIR", folder.to_string_lossy().into_owned()),
            ("MINERVA_CLOCK", "slot".to_owned()),
            // It never writes to a server.
            ("ES_URL", String::new()),
            ("DATABASE_URL", String::new()),
        ],
    )?;
    let whole = runner::timetable(cli.timetable.as_deref())?;
    for task in &args.tasks {
        runner::row(&whole, task)?;
    }
    let functions = runner::functions(&settings, &whole, None)?;
    let is_asked = |name: &String| args.tasks.is_empty() || args.tasks.contains(name);
    let timetable = Arc::new(whole.only(|row| is_asked(&row.name)));
    let state = open_state(&settings).await?;
    let logs = LogBook::default();
    let config = lambda::Config {
        events: Some(Arc::new(Ledger::new(Arc::clone(&state))) as _),
        logs: logs.sink(log_sink(cli.verbose)),
        ..lambda::Config::new(functions)
    };
    let lambda = runner::start(config).await?;
    let attempts = Attempts::new(lambda.invoker(), Arc::clone(&state), logs);
    let scheduler = Scheduler { timetable: Arc::clone(&timetable), state, attempts };
    let began = Instant::now();
    let done = tokio::select! {
        done = slots(&scheduler, from, to, args.speed) => done,
        () = interrupted() => Err(Error::deadline("replay: interrupted").hint("the same command goes on from here")),
    };
    lambda.stop(GRACE).await;
    let runs = done?;
    let counts = scheduler.state.slot_counts(from).await?;
    let took = began.elapsed().as_secs_f64();
    if cli.json {
        out::json(&json!({
            "from": from, "to": to, "runs": runs, "slots": counts, "seconds": took, "data_dir": settings.data_dir,
        }));
        return Ok(out::DONE);
    }
    let counts: Vec<String> =
        counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    out::line(&format!(
        "{} to {}: {} runs in {took:.1} s; slots: {}",
        when::minute(from, timetable.zone()),
        when::minute(to, timetable.zone()),
        runs.values().sum::<u32>(),
        counts.join(", ")
    ));
    out::line(&format!("look at it: local-runner --data-dir {} slots", folder.display()));
    Ok(out::DONE)
}

/// Takes a folder that is new or empty, or one that a replay made.
fn prepare(folder: &std::path::Path) -> Result<()> {
    let failed = |cause: std::io::Error| {
        Error::config(format!("prepare the folder `{}`", folder.display())).because(cause)
    };
    if folder.join(MARKER).exists() {
        return Ok(());
    }
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::config(format!(
            "replay into `{}`: the folder holds something else",
            folder.display()
        ))
        .hint("name an empty one with `--data-dir`"));
    }
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(folder.join(MARKER), b""))
        .map_err(failed)
}

/// Runs every slot after those that were done before; gives the runs by status.
async fn slots(
    scheduler: &Scheduler,
    from: Timestamp,
    to: Timestamp,
    speed: Option<u32>,
) -> Result<BTreeMap<&'static str, u32>> {
    let (timetable, state) = (&scheduler.timetable, &scheduler.state);
    // One second before, so that a slot at the first instant belongs to it.
    let mut start = from.checked_sub(SignedDuration::from_secs(1)).unwrap_or(from);
    for row in timetable.rows() {
        if let Some(mark) = state.mark(&row.name).await? {
            start = start.max(mark);
        }
    }
    let began = tokio::time::Instant::now();
    let mut runs = BTreeMap::new();
    let firings: std::collections::BTreeSet<Timestamp> =
        timetable.firings(start, to).map(|firing| firing.at).collect();
    // What an earlier replay left is done first.
    for slot in std::iter::once(start).chain(firings) {
        if let Some(speed) = speed {
            let ahead = Duration::try_from(slot.duration_since(start)).unwrap_or_default();
            sleep_until(began + ahead / speed).await;
        }
        state.recover(slot).await?;
        scheduler.tick(slot).await?;
        // A retry is made at once: it would be due before the next slot in any case.
        let later = slot.checked_add(SignedDuration::from_mins(5)).unwrap_or(slot);
        let mut running = JoinSet::new();
        loop {
            while running.len() < WORKERS
                && let Some(taken) = state.take(later).await?
            {
                let scheduler = scheduler.clone();
                running.spawn(async move { scheduler.run(taken, slot).await });
            }
            let Some(ended) = running.join_next().await else { break };
            let report =
                ended.unwrap_or_else(|cause| Err(Error::format("replay a slot").because(cause)))?;
            *runs.entry(report.status.name()).or_default() += 1;
            let line = format!("{} {} {}", slot, report.task, report.status.name());
            out::progress(&line);
        }
    }
    out::progress("");
    Ok(runs)
}
