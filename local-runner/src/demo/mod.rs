//! `demo`: two days of the timetable in seconds, on bundled real feeds, events, lists, rules and pulses, an invented site and notes, with
//! the very processes that serve in earnest.
//!
//! Through day one the sources live: they gain items, edit and drop some, send undated and broken ones. On day two nothing
//! changes upstream, every slot is fresh, every run is executed, and nothing is written. With `--servers` that is shown on the
//! servers of the settings, in indices and a schema that nothing else is in.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::report::{Report, Status};
use base::{Error, Result, shown};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schedule::Row;
use serde::Serialize;
use serde_json::Value;
use stores::documents::{self, Documents, Index, Query, Sort};
use stores::state::{Looked, Postgres};
use task::events;

use crate::cli::{Cli, DemoArgs};
use crate::home;
use crate::lambda::{self, Options};
use crate::logbook::LogBook;
use crate::out::{self, Outcome};
use crate::page;
use crate::runner::{self, Attempts, Ledger};
use crate::scheduler::Scheduler;
use crate::settings::Settings;
use crate::when;

mod caveiratech;
mod malpedia;
mod stand_ins;
mod upstream;

pub use stand_ins::StandIns;

/// Where the demo keeps its store when no folder is named.
const FOLDER: &str = "minerva-demo";

/// Marks a folder whose contents a demo made and may make anew.
const MARKER: &str = "made-by-the-demo";

/// What the names of the demo's indices on a server have behind `ES_INDEX_PREFIX`.
const PREFIX: &str = "minerva-demo-";

/// The first midnight of the replay, São Paulo time.
const FIRST_DAY: &str = "2026-03-01T03:00:00Z";

/// What the demo fills, each with what one of its documents is called.
const INDICES: [(&str, &str); 10] = [
    ("rss_articles", "articles"),
    ("caveiratech_news", "posts of CaveiraTech"),
    ("cti_misp_iocs", "indicators of MISP feeds"),
    ("otx_pulses", "pulses"),
    ("otx_indicators", "indicators of pulses"),
    ("signature_base_iocs", "indicators of signature-base"),
    ("cti_yara_rules", "YARA rules"),
    ("malpedia_library", "references"),
    ("malpedia_families", "families"),
    ("malpedia_actors", "actors"),
];

/// Tasks that the demo has no upstream for: what an indicator is asked of OTX, and the MISP that pulses go to.
const LEFT_OUT: [&str; 2] = ["bulk_enrich_iocs", "export_pulses_to_misp"];

/// Indicators that the end shows.
const INDICATORS_SHOWN: u32 = 8;

#[derive(Debug, Default, Serialize)]
struct Summary {
    documents_stored: u64,
    /// The documents of each index.
    indices: BTreeMap<&'static str, u64>,
    writes_first_day: u64,
    writes_second_day: u64,
    runs_executed: u64,
    runs_skipped: u64,
    /// Visits by what came of them, over both days.
    sources: BTreeMap<String, u64>,
    seconds: f64,
    data_dir: PathBuf,
    /// What the indices of a server begin with, where documents are on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    es_index_prefix: Option<String>,
}

/// `local-runner demo`.
pub(crate) async fn demo(cli: &Cli, args: &DemoArgs) -> Outcome {
    let stores = if args.servers { servers().await? } else { no_servers() };
    let folder = folder(cli);
    prepare(&folder)?;
    let stand_ins = StandIns::start(&folder).await?;
    let mut overrides = vec![
        ("MINERVA_DATA_DIR", folder.to_string_lossy().into_owned()),
        ("MINERVA_CLOCK", "slot".to_owned()),
    ];
    overrides.extend_from_slice(stand_ins.settings());
    overrides.extend(stores);
    let settings = Settings::read(&overrides)?;
    let started = Instant::now();
    let summary = replay(cli, &settings, &stand_ins).await?;
    let stores = &settings.config.stores;
    let summary = Summary {
        seconds: started.elapsed().as_secs_f64(),
        data_dir: folder.clone(),
        es_index_prefix: stores.es_url.as_ref().map(|_| stores.es_index_prefix.clone()),
        ..summary
    };
    if cli.json {
        out::json(&summary);
    } else {
        show(&summary, &settings).await?;
    }
    if !args.exit {
        stay(&settings, args.port).await?;
    }
    Ok(out::DONE)
}

/// Settings by which nothing invented reaches a server.
fn no_servers() -> Vec<(&'static str, String)> {
    ["ES_URL", "DATABASE_URL"].map(|name| (name, String::new())).into()
}

/// Settings by which the operator's servers are used, apart from all else that is on them.
async fn servers() -> Result<Vec<(&'static str, String)>> {
    let own = Settings::read(&[])?.config.stores;
    if own.es_url.is_none() && own.database_url.is_none() {
        return Err(Error::config("demo on servers: neither `ES_URL` nor `DATABASE_URL` is set")
            .hint("without `--servers` it needs none"));
    }
    let prefix = vec![("ES_INDEX_PREFIX", format!("{}{PREFIX}", own.es_index_prefix))];
    let settings = Settings::read(&prefix)?;
    if own.es_url.is_some() {
        let looked = documents::look(&settings.config).await?;
        if let Some((name, _)) = looked.counts.iter().find(|(_, count)| count.is_some()) {
            let what = format!("demo on servers: there is an index `{}{name}`", prefix[0].1);
            let hint = format!(
                "delete what begins with `{}`, or set another `ES_INDEX_PREFIX`",
                prefix[0].1
            );
            return Err(Error::config(what).hint(hint));
        }
    }
    if let Some(address) = &own.database_url
        && !matches!(Postgres::look(address).await?, Looked::Missing)
    {
        let what = format!("demo on servers: the schema at `{}` is in use", address.shown());
        return Err(Error::config(what).hint(
            "`CREATE SCHEMA minerva_demo`, and `?options=-csearch_path%3Dminerva_demo` in `DATABASE_URL`",
        ));
    }
    Ok(prefix)
}

fn folder(cli: &Cli) -> PathBuf {
    cli.data_dir.clone().unwrap_or_else(|| PathBuf::from(FOLDER))
}

/// The folder of the demo's store, if a demo made it.
pub(crate) fn own_folder(cli: &Cli) -> Option<PathBuf> {
    Some(folder(cli)).filter(|folder| folder.join(MARKER).exists())
}

/// Makes the folder ready for a fresh replay; a folder that something else filled is left alone.
fn prepare(folder: &Path) -> Result<()> {
    let failed = |cause: std::io::Error| {
        Error::config(format!("prepare the folder `{}`", folder.display())).because(cause)
    };
    if folder.join(MARKER).exists() {
        std::fs::remove_dir_all(folder).map_err(failed)?;
    } else if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::config(format!(
            "demo in `{}`: the folder holds something else",
            folder.display()
        ))
        .hint("name an empty one with `--data-dir`"));
    }
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(folder.join(MARKER), b""))
        .map_err(failed)
}

/// Runs every slot of two days, and counts what the store itself says was written.
async fn replay(cli: &Cli, settings: &Settings, stand_ins: &StandIns) -> Result<Summary> {
    let is_served = |row: &Row| !LEFT_OUT.contains(&row.name.as_str());
    let timetable = Arc::new(runner::timetable(None)?.only(is_served));
    let state = home::open_state(settings).await?;
    let documents = home::open_documents(settings).await?;
    for (name, _) in INDICES {
        documents.ensure(Index::named(name)?).await?;
    }
    let logs = LogBook::default();
    let config = lambda::Config {
        events: Some(Arc::new(Ledger::new(Arc::clone(&state))) as _),
        logs: logs.sink(home::log_sink(cli.verbose)),
        ..lambda::Config::new(runner::functions(settings, &runner::timetable(None)?, None)?)
    };
    let lambda = runner::start(config).await?;
    let attempts = Attempts::new(lambda.invoker(), Arc::clone(&state), logs);
    let scheduler = Scheduler { timetable: Arc::clone(&timetable), state, attempts };

    let first: Timestamp = FIRST_DAY.parse().expect("a constant that a test reads");
    let day = SignedDuration::from_hours(24);
    // One second before midnight, so that the slot at midnight belongs to the day.
    let begin = first.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(first);
    let mut summary = Summary::default();
    for task in malpedia::FIRST {
        let event = events::scheduled(task, task, first).to_string();
        let ran = lambda.invoke(task, event.into(), Options::default()).await;
        let ran = ran.map_err(|cause| Error::config(format!("invoke `{task}`")).because(cause))?;
        let answer = ran.outcome.unwrap_or_else(|error| error.body);
        let report: Report = serde_json::from_slice(&answer).map_err(|cause| {
            let said = shown::one_line(&String::from_utf8_lossy(&answer));
            Error::format(format!("read the report of `{task}`: {said}")).because(cause)
        })?;
        count(&mut summary, &report);
        progress(cli, timetable.zone(), &report);
    }
    let set_up = sequence(documents.as_ref()).await?;
    scheduler.tick(begin).await?;
    for number in 0..2 {
        let from = begin.saturating_add(day * number).unwrap_or(begin);
        let to = from.saturating_add(day).unwrap_or(from);
        let before = sequence(documents.as_ref()).await?;
        let slots: std::collections::BTreeSet<Timestamp> =
            timetable.firings(from, to).map(|firing| firing.at).collect();
        for slot in slots {
            if number == 0 {
                let hours = slot.duration_since(from).as_hours();
                stand_ins.advance(usize::try_from(hours / 2).unwrap_or_default());
            }
            scheduler.tick(slot).await?;
            while let Some(taken) = scheduler.state.take(slot).await? {
                let report = scheduler.run(taken, slot).await?;
                count(&mut summary, &report);
                progress(cli, timetable.zone(), &report);
            }
        }
        let writes = sequence(documents.as_ref()).await? - before;
        if number == 0 {
            summary.writes_first_day = writes + set_up;
        } else {
            summary.writes_second_day = writes;
        }
    }
    for (name, _) in INDICES {
        let count = documents.count(Index::named(name)?, &Query::default()).await?;
        summary.indices.insert(name, count);
        summary.documents_stored += count;
    }
    lambda.stop(Duration::from_secs(1)).await;
    home::settle(&settings.data_dir).await;
    Ok(summary)
}

/// How many writes all indices of the demo have seen.
async fn sequence(documents: &dyn Documents) -> Result<u64> {
    let mut all = 0;
    for (name, _) in INDICES {
        all += documents.sequence(Index::named(name)?).await?;
    }
    Ok(all)
}

fn count(summary: &mut Summary, report: &Report) {
    match report.status {
        Status::Skipped => summary.runs_skipped += 1,
        Status::Complete | Status::Partial | Status::Failed => summary.runs_executed += 1,
    }
    for source in &report.sources {
        *summary.sources.entry(source.outcome.to_string()).or_default() += 1;
    }
}

/// A line for a run that found something or has something to say.
fn progress(cli: &Cli, zone: &TimeZone, report: &Report) {
    if cli.json {
        return;
    }
    let slot = report.slot.map_or_else(String::new, |slot| when::slot(slot, zone));
    let counts = &report.counts;
    let text = format!(
        "{slot}  {:<24}  {:<8} {:>3} new {:>3} changed {:>3} unchanged",
        report.task,
        report.status.name(),
        counts.new,
        counts.changed,
        counts.unchanged
    );
    let bad: Vec<String> = report
        .sources
        .iter()
        .filter(|source| source.problem.is_some() || !source.notes.is_empty())
        .map(|source| match source.notes.first() {
            Some(note) if source.problem.is_none() => format!("{}: {note}", source.source),
            _ => format!("{}: {}", source.source, source.outcome),
        })
        .collect();
    if bad.is_empty() {
        if counts.new + counts.changed > 0 {
            out::line(&text);
        }
    } else {
        out::line(&format!("{text}  ({})", bad.join("; ")));
    }
}

async fn show(summary: &Summary, settings: &Settings) -> Result<()> {
    out::line("");
    out::line("indicators, the best attested first:");
    indicators(settings).await?;
    out::line("");
    let stored =
        INDICES.map(|(name, what)| format!("{} {what}", summary.indices.get(name).unwrap_or(&0)));
    out::line(&stored.join(", "));
    out::line(&format!(
        "{} runs, {} skipped; {} writes on day one, {} on day two; {:.1} s",
        summary.runs_executed,
        summary.runs_skipped,
        summary.writes_first_day,
        summary.writes_second_day,
        summary.seconds
    ));
    let folder = summary.data_dir.display();
    let of_server = summary.es_index_prefix.as_ref();
    let of_server =
        of_server.map_or_else(String::new, |prefix| format!("ES_INDEX_PREFIX={prefix} "));
    out::line("look at it:");
    for command in [
        "lookup wordpress.agrupem.com",
        "search --index minerva-indicators --by tlp",
        "search --index cti_yara_rules proxynotshell",
        "search comite",
        "search --index malpedia_library --by families_mentioned",
        "runs",
    ] {
        out::line(&format!("  {of_server}local-runner --data-dir {folder} {command}"));
    }
    out::line(&format!(
        "  {of_server}RSS_SOURCES={folder}/sources.toml MISP_FEEDS={folder}/feeds.toml local-runner --data-dir {folder} sources list"
    ));
    Ok(())
}

/// A table of the indicators that most sources name.
async fn indicators(settings: &Settings) -> Result<()> {
    let documents = home::open_documents(settings).await?;
    let sort = Sort::Field { name: "sources_count".to_owned(), descending: true };
    let query = Query { sort: Some(sort), limit: INDICATORS_SHOWN, ..Query::default() };
    let found = documents.search(Index::named("cti_misp_iocs")?, &query).await?;
    let rows = found.documents.iter().map(|document| {
        let texts = |name: &str| match document.body.get(name) {
            Some(Value::String(text)) => shown::lines(text),
            Some(Value::Array(list)) => {
                let texts: Vec<String> =
                    list.iter().filter_map(Value::as_str).map(shown::lines).collect();
                texts.join(", ")
            }
            _ => String::new(),
        };
        ["type", "value", "tlp", "feed_name", "tags"].map(texts).to_vec()
    });
    out::table(&["type", "value", "TLP", "sources", "tags"], rows.collect());
    Ok(())
}

/// Keeps a page open on what was stored.
async fn stay(settings: &Settings, port: u16) -> Result<()> {
    let documents = home::open_documents(settings).await?;
    let config = lambda::Config {
        addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))],
        status: page::routes(documents, runner::timetable(None)?.zone().clone()),
        ..lambda::Config::new([])
    };
    let lambda = runner::start(config).await?;
    out::note(&format!("open {}/ in a browser; Ctrl-C ends the demo", lambda.origin()));
    home::interrupted().await;
    lambda.stop(Duration::from_secs(1)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_someone_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), b"x").unwrap();
        assert!(prepare(folder.path()).is_err());
        assert!(folder.path().join("thesis.tex").exists());
        assert!(FIRST_DAY.parse::<Timestamp>().is_ok());
    }
}
