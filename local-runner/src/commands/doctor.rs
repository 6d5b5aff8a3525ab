//! `doctor`: is everything as it should be, and if not, what to do. It looks and makes nothing, unless it is told to.

use std::cmp::Reverse;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use base::address::Address;
use base::clock::SKEW_MAX;
use base::{Error, Result};
use jiff::Timestamp;
use serde::Serialize;
use stores::documents::{self, Index};
use stores::folder;
use stores::state::{Health, Looked, Postgres, SourceState, Sqlite, State};
use task::function::now;

use crate::cli::Cli;
use crate::families::FAMILIES;
use crate::home::{open_documents, open_state, settings};
use crate::out::{self, Outcome};
use crate::runner;
use crate::settings::{self, Settings};

/// Sources that are named, the worst first.
const NAMED: usize = 3;

/// Letters of a source's error that are shown.
const ERROR_SHOWN: usize = 160;

/// The answer to one question.
#[derive(Serialize)]
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    ok: bool,
    /// What was found.
    pub(crate) says: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    #[serde(skip)]
    code: u8,
    /// What is wrong, where nothing can work with it.
    #[serde(skip)]
    pub(crate) stops: Option<Error>,
}

impl Finding {
    /// What was looked at; an error means that it cannot work.
    fn of(name: &'static str, result: Result<String>) -> Self {
        match result {
            Ok(says) => Self { name, ok: true, says, hint: None, code: out::DONE, stops: None },
            Err(error) => {
                let code = out::code_of(&error);
                Self { stops: Some(error.again()), ..Self::flaw(name, code, &error) }
            }
        }
    }

    /// Something that is wrong, and works nevertheless.
    fn flaw(name: &'static str, code: u8, error: &Error) -> Self {
        Self {
            name,
            ok: false,
            says: format!("failed to {}", error.chain()),
            hint: error.hint_text().map(ToOwned::to_owned),
            code,
            stops: None,
        }
    }

    /// Whether there is nothing to be done about it.
    pub(crate) fn is_ok(&self) -> bool {
        self.ok
    }
}

/// `local-runner doctor`.
pub(crate) async fn doctor(cli: &Cli, create: bool) -> Outcome {
    let settings = settings(cli);
    let mut checks = vec![Finding::of(
        "settings",
        settings.as_ref().map(|_| "all can be read".to_owned()).map_err(Error::again),
    )];
    match &settings {
        Ok(settings) => {
            checks.extend(look(cli, settings, create).await);
            checks.push(Finding::of("port 9000", Ok(port())));
        }
        Err(_) => checks.extend(names()),
    }
    if cli.json {
        out::json(&checks);
    } else {
        for check in &checks {
            out::line(&format!(
                "{} {:<10} {}",
                if check.ok { "✓" } else { "✗" },
                check.name,
                check.says
            ));
            if let Some(hint) = check.hint.as_ref().filter(|hint| !hint.is_empty()) {
                out::line(&format!("  hint: {hint}"));
            }
        }
    }
    Ok(checks.iter().map(|check| check.code).max().unwrap_or(out::DONE))
}

/// Looks at everything that these settings name; with `create` it first makes what the first run would make.
pub(crate) async fn look(cli: &Cli, settings: &Settings, create: bool) -> Vec<Finding> {
    let mut checks: Vec<Finding> = names().into_iter().collect();
    checks.push(Finding::of("timetable", timetable(cli)));
    checks.push(Finding::of("documents", documents(settings, create).await));
    let (says, state) = match state(settings, create).await {
        Ok((says, state)) => (Ok(says), Some(state)),
        Err(error) => (Err(error), None),
    };
    checks.push(Finding::of("state", says));
    // What cannot be opened is told under its own name.
    if let Some(state) = state {
        checks.extend(sources(settings, state.as_ref()).await);
    }
    checks.extend(families(settings).await);
    checks.push(Finding::of("archive", archive(settings)));
    checks.extend(network(settings));
    checks
}

/// Names that nothing reads: the misspelled ones are a finding.
fn names() -> Option<Finding> {
    let unknown = settings::unknown_names();
    if unknown.is_empty() {
        return None;
    }
    let said: Vec<String> = unknown.iter().map(ToString::to_string).collect();
    let says = said.join("; ");
    if unknown.iter().all(settings::UnknownName::is_foreign) {
        return Some(Finding::of("names", Ok(format!("not read by this program: {says}"))));
    }
    let error = Error::config(format!("know every name: {says}"))
        .hint("`local-runner help settings` lists every setting; a name that is none is not read");
    Some(Finding::of("names", Err(error)))
}

fn timetable(cli: &Cli) -> Result<String> {
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let zone = timetable.zone().iana_name().unwrap_or("a zone without a name").to_owned();
    let rows = timetable.rows().len();
    let disabled = timetable.rows().iter().filter(|row| !row.enabled).count();
    let disabled = if disabled > 0 { format!(", {disabled} disabled") } else { String::new() };
    Ok(format!("{rows} tasks{disabled}, in {zone} by {}", zone_rules()))
}

/// Which rules local times are computed by: a host without its own has those compiled in.
fn zone_rules() -> String {
    let text = std::fs::read_to_string("/usr/share/zoneinfo/tzdata.zi").unwrap_or_default();
    match text.lines().next().and_then(|line| line.strip_prefix("# version ")) {
        Some(version) => format!("the system's rules of {version}"),
        None => "the rules of the system, or those compiled in".to_owned(),
    }
}

async fn documents(settings: &Settings, create: bool) -> Result<String> {
    if create {
        let store = open_documents(settings).await?;
        for index in Index::all() {
            store.ensure(index).await?;
        }
    }
    let looked = documents::look(&settings.config).await?;
    let held: Vec<String> = looked
        .counts
        .iter()
        .filter_map(|(index, count)| count.filter(|count| *count > 0).map(|count| (index, count)))
        .map(|(index, count)| format!("{count} in {index}"))
        .collect();
    let missing = looked.counts.iter().filter(|(_, count)| count.is_none()).count();
    let mut says =
        vec![if held.is_empty() { "no document yet".to_owned() } else { held.join(", ") }];
    if missing > 0 && missing < looked.counts.len() {
        says.push(format!("{missing} indices are not there yet"));
    }
    Ok(format!("{}: {}", looked.place, says.join("; ")))
}

/// What the state is, and the state itself, to be read; an empty one where there is none yet.
async fn state(settings: &Settings, create: bool) -> Result<(String, Arc<dyn State>)> {
    if create {
        open_state(settings).await?;
    }
    let (place, looked): (String, Looked<Arc<dyn State>>) =
        match &settings.config.stores.database_url {
            Some(address) => postgres(address).await?,
            None => ("embedded".to_owned(), ready(Sqlite::look(&settings.data_dir).await?)),
        };
    let state = match looked {
        Looked::Ready(state) => state,
        Looked::Missing => {
            let says = format!("{place}; nothing is there yet, and the first run makes it");
            return Ok((says, Arc::new(Sqlite::empty().await?)));
        }
        Looked::Older => {
            let says =
                format!("{place}; of an earlier version, and the next run brings it up to date");
            return Ok((says, Arc::new(Sqlite::empty().await?)));
        }
    };
    let runs = state.runs(None, 1).await?;
    let last = runs.first().map_or_else(
        || "nothing ran yet".to_owned(),
        |run| format!("last run: {} {}", run.task, run.status),
    );
    Ok((format!("{place}; {last}"), state))
}

fn ready<T: State + 'static>(looked: Looked<T>) -> Looked<Arc<dyn State>> {
    match looked {
        Looked::Ready(state) => Looked::Ready(Arc::new(state)),
        Looked::Missing => Looked::Missing,
        Looked::Older => Looked::Older,
    }
}

/// Connects, and says what the server is and whether its clock and ours agree.
async fn postgres(address: &Address) -> Result<(String, Looked<Arc<dyn State>>)> {
    let state = match Postgres::look(address).await? {
        Looked::Ready(state) => state,
        other => return Ok((format!("PostgreSQL at `{}`", address.shown()), ready(other))),
    };
    let about = state.about().await?;
    if about.ahead.abs() > SKEW_MAX {
        let seconds = about.ahead.as_secs();
        return Err(Error::store(format!(
            "agree with PostgreSQL at `{}` on the time: its clock is {seconds} s ahead of this machine's",
            address.shown()
        ))
        .hint("set both by NTP; runs are due by this machine's clock, holds expire by the server's"));
    }
    let place = format!(
        "PostgreSQL {} at `{}`, {}, schema `{}` version {}",
        about.server,
        address.shown(),
        if about.is_encrypted { "encrypted" } else { "not encrypted" },
        about.schema,
        about.version
    );
    Ok((place, ready(Looked::Ready(state))))
}

/// A source that does not fare well.
struct BadSource {
    name: String,
    health: Health,
    state: SourceState,
}

impl BadSource {
    /// What is worst comes first: gone, failing for long, silent for long.
    fn rank(&self) -> (u8, Reverse<u32>, Option<Timestamp>) {
        let kind = match self.health {
            Health::Gone => 0,
            Health::Failing => 1,
            _ => 2,
        };
        (kind, Reverse(self.state.failures), self.state.last_new)
    }
}

impl std::fmt::Display for BadSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let day = |instant: Option<Timestamp>| {
            instant.map_or_else(|| "ever".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
        };
        let state = &self.state;
        match self.health {
            Health::Failing => {
                let error = state.last_error.as_deref().unwrap_or("for an unknown reason");
                let error: String = error.chars().take(ERROR_SHOWN).collect();
                let times = if state.failures == 1 { "once" } else { "times" };
                let count = if state.failures == 1 {
                    String::new()
                } else {
                    format!("{} ", state.failures)
                };
                write!(f, "`{}` failed {count}{times}: {error}", self.name)
            }
            Health::Gone => write!(f, "`{}` is gone since {}", self.name, day(state.last_attempt)),
            _ => write!(f, "`{}` has had nothing new since {}", self.name, day(state.last_new)),
        }
    }
}

/// How many sources there are, and how they fare.
async fn sources(settings: &Settings, state: &dyn State) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut counts, mut bad) = (Vec::new(), Vec::new());
    for family in FAMILIES {
        let listed = match (family.sources.list)(&settings.config, state).await {
            Ok(listed) => listed,
            Err(error) => {
                findings.push(Finding::of("sources", Err(error)));
                continue;
            }
        };
        let enabled: Vec<_> = listed.iter().filter(|source| source.enabled).collect();
        counts.push(format!("{} of {} ({} enabled)", listed.len(), family.name, enabled.len()));
        if enabled.is_empty() && family.sources.edit.is_some() {
            let what = format!("visit the sources of `{}`", family.name);
            let error = if listed.is_empty() {
                Error::config(format!("{what}: there are none"))
                    .hint("`local-runner sources add ADDRESS` adds one")
            } else {
                Error::config(format!("{what}: all {} are disabled", listed.len()))
                    .hint("`local-runner sources enable ID` enables one")
            };
            findings.push(Finding::flaw("sources", out::USAGE, &error));
        }
        for source in enabled {
            let name = format!("{}/{}", family.name, source.id);
            match state.source(&name).await {
                Ok(state) => {
                    let health = state.health(now(&settings.config));
                    if matches!(health, Health::Failing | Health::Quiet | Health::Gone) {
                        bad.push(BadSource { name, health, state });
                    }
                }
                Err(error) => {
                    findings.push(Finding::of("sources", Err(error)));
                    return findings;
                }
            }
        }
    }
    let counts = counts.join(", ");
    if bad.is_empty() {
        findings.push(Finding::of("sources", Ok(counts)));
        return findings;
    }
    bad.sort_by_key(BadSource::rank);
    let of = |health: Health| bad.iter().filter(|one| one.health == health).count();
    let fared: Vec<String> = [Health::Failing, Health::Quiet, Health::Gone]
        .into_iter()
        .filter(|health| of(*health) > 0)
        .map(|health| format!("{} {}", of(health), health.name()))
        .collect();
    let worst: Vec<String> = bad.iter().take(NAMED).map(ToString::to_string).collect();
    let error = Error::upstream(format!(
        "hear from every source: {}, of {counts}; the worst: {}",
        fared.join(", "),
        worst.join("; ")
    ))
    .hint("`local-runner sources list --health failing` (`quiet`, `gone`) shows them all; `sources test ID` tries one");
    findings.push(Finding::flaw("sources", out::FAILED, &error));
    findings
}

/// What each family has to look at under these settings.
async fn families(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for check in FAMILIES.iter().flat_map(|family| family.checks) {
        match (check.look)(&settings.config).await {
            Ok(None) => {}
            Ok(Some(says)) => findings.push(Finding::of(check.about, Ok(says))),
            Err(error) => findings.push(Finding::of(check.about, Err(error))),
        }
    }
    findings
}

fn archive(settings: &Settings) -> Result<String> {
    let Some(folder) = &settings.config.stores.archive else { return Ok("off".to_owned()) };
    folder::can_be_written(folder).map_err(|error| {
        error.hint("`MINERVA_ARCHIVE` names the folder; unset, nothing is archived")
    })?;
    Ok(format!("{}, kept for {} days", folder.display(), settings.config.stores.archive_days))
}

fn network(settings: &Settings) -> Vec<Finding> {
    let network = &settings.config.network;
    let mut findings = Vec::new();
    let wide = network.allow_nets.wide_open();
    if !wide.is_empty() {
        let error = Error::config(format!(
            "keep sources from private addresses: `MINERVA_ALLOW_NETS` excepts {}, wider than any private network: a source can make this machine ask whatever it reaches",
            wide.join(", ")
        ))
        .hint("name the one network or host that is meant, as `10.1.2.0/24` or `mirror.lan`");
        findings.push(Finding::flaw("network", out::USAGE, &error));
    }
    let mut says = vec![match &network.contact {
        Some(contact) => format!("sources see how to reach you: {contact}"),
        None => "set MINERVA_CONTACT so that sources know whom to write to".to_owned(),
    }];
    let excepted = network.allow_nets.shown();
    if !excepted.is_empty() {
        says.push(format!("excepted from the ban on private addresses: {excepted}"));
    }
    if network.proxy.is_some() {
        says.push(
            "behind a proxy: it resolves names, so only literal addresses can be checked here"
                .to_owned(),
        );
    }
    findings.push(Finding::of("network", Ok(says.join("; "))));
    findings
}

fn port() -> String {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, 9000)) {
        Ok(_) => "free".to_owned(),
        Err(cause) => {
            format!("taken ({cause}): a runner is serving, or choose another with `serve --port`")
        }
    }
}
