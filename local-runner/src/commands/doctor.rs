//! `doctor`: is everything as it should be, and if not, what to do.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use base::address::Address;
use base::clock::SKEW_MAX;
use base::{Class, Error, Result};
use serde::Serialize;
use stores::documents::Index;
use stores::state::{Postgres, State};
use task::function::Home;

use crate::cli::Cli;
use crate::families::FAMILIES;
use crate::home::{open_documents, open_state, settings};
use crate::out::{self, Outcome};
use crate::runner;
use crate::settings::Settings;

#[derive(Serialize)]
struct Finding {
    name: &'static str,
    ok: bool,
    /// What was found.
    says: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip)]
    code: u8,
}

impl Finding {
    fn of(name: &'static str, result: Result<String>) -> Self {
        match result {
            Ok(says) => Self { name, ok: true, says, hint: None, code: out::DONE },
            Err(error) => Self {
                name,
                ok: false,
                says: format!("failed to {}", error.chain()),
                hint: error.hint_text().map(ToOwned::to_owned),
                code: if error.class() == Class::Store { out::UNREACHABLE } else { out::USAGE },
            },
        }
    }
}

/// `local-runner doctor`.
pub(crate) async fn doctor(cli: &Cli) -> Outcome {
    let settings = settings(cli);
    let mut checks = vec![Finding::of(
        "settings",
        settings.as_ref().map(|_| "all can be read".to_owned()).map_err(same),
    )];
    checks.push(Finding::of("timetable", timetable(cli)));
    if let Ok(settings) = &settings {
        checks.push(Finding::of("documents", documents(settings).await));
        checks.push(Finding::of("state", state(settings).await));
        checks.push(Finding::of("sources", sources(settings).await));
        checks.extend(families(settings).await);
        checks.push(Finding::of("archive", archive(settings)));
        checks.push(Finding::of("network", Ok(network(settings))));
        checks.push(Finding::of("port 9000", port()));
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

fn same(error: &Error) -> Error {
    Error::config(error.chain()).hint(error.hint_text().unwrap_or_default())
}

fn timetable(cli: &Cli) -> Result<String> {
    let timetable = runner::timetable(cli.timetable.as_deref())?;
    let built = timetable.rows().iter().filter(|row| row.built).count();
    let zone = timetable.zone().iana_name().unwrap_or("a zone without a name").to_owned();
    let rows = timetable.rows().len();
    let disabled = timetable.rows().iter().filter(|row| !row.enabled).count();
    let disabled = if disabled > 0 { format!(", {disabled} disabled") } else { String::new() };
    Ok(format!("{rows} tasks, {built} of them built{disabled}, in {zone} by {}", zone_rules()))
}

/// Which rules local times are computed by: a host without its own has those compiled in.
fn zone_rules() -> String {
    let text = std::fs::read_to_string("/usr/share/zoneinfo/tzdata.zi").unwrap_or_default();
    match text.lines().next().and_then(|line| line.strip_prefix("# version ")) {
        Some(version) => format!("the system's rules of {version}"),
        None => "the rules of the system, or those compiled in".to_owned(),
    }
}

async fn documents(settings: &Settings) -> Result<String> {
    let store = open_documents(settings).await?;
    for index in Index::all() {
        store.ensure(index).await?;
    }
    let place = store.describe().await?;
    let mut counts = Vec::new();
    for index in Index::all() {
        let count = store.count(index, &stores::documents::Query::default()).await?;
        if count > 0 {
            counts.push(format!("{count} in {}", index.name));
        }
    }
    if counts.is_empty() {
        counts.push("no document yet".to_owned());
    }
    Ok(format!("{place}: {}", counts.join(", ")))
}

async fn state(settings: &Settings) -> Result<String> {
    let (place, state) = match &settings.config.stores.database_url {
        Some(address) => postgres(address).await?,
        None => ("embedded".to_owned(), open_state(settings).await?),
    };
    let runs = state.runs(None, 1).await?;
    let last = runs.first().map_or_else(
        || "nothing ran yet".to_owned(),
        |run| format!("last run: {} {}", run.task, run.status),
    );
    Ok(format!("{place}; {last}"))
}

/// Connects, and says what the server is and whether its clock and ours agree.
async fn postgres(address: &Address) -> Result<(String, Arc<dyn State>)> {
    let state = Postgres::open(address).await?;
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
    Ok((place, Arc::new(state)))
}

async fn sources(settings: &Settings) -> Result<String> {
    let state = open_state(settings).await?;
    let mut counts = Vec::new();
    for family in FAMILIES {
        let sources = (family.sources.list)(&settings.config, state.as_ref()).await?;
        let enabled = sources.iter().filter(|source| source.enabled).count();
        counts.push(format!("{} of {} ({enabled} enabled)", sources.len(), family.name));
    }
    Ok(counts.join(", "))
}

/// What each family has to look at under these settings.
async fn families(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    if FAMILIES.iter().all(|family| family.checks.is_empty()) {
        return findings;
    }
    // What cannot be opened is reported under its own name.
    let Ok(home) = Home::open(settings.config.clone()).await else { return findings };
    for check in FAMILIES.iter().flat_map(|family| family.checks) {
        match (check.look)(&home).await {
            Ok(None) => {}
            Ok(Some(says)) => findings.push(Finding::of(check.about, Ok(says))),
            Err(error) => findings.push(Finding::of(check.about, Err(error))),
        }
    }
    findings
}

fn archive(settings: &Settings) -> Result<String> {
    let Some(folder) = &settings.config.stores.archive else { return Ok("off".to_owned()) };
    let trial = folder.join(".doctor");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&trial, b""))
        .and_then(|()| std::fs::remove_file(&trial))
        .map_err(|cause| {
            Error::store(format!("write the archive `{}`", folder.display())).because(cause)
        })?;
    Ok(format!("{}, kept for {} days", folder.display(), settings.config.stores.archive_days))
}

fn network(settings: &Settings) -> String {
    let network = &settings.config.network;
    let mut says = Vec::new();
    says.push(match &network.contact {
        Some(contact) => format!("sources see how to reach you: {contact}"),
        None => "set MINERVA_CONTACT so that sources know whom to write to".to_owned(),
    });
    if network.proxy.is_some() {
        says.push(
            "behind a proxy: it resolves names, so only literal addresses can be checked here"
                .to_owned(),
        );
    }
    says.join("; ")
}

fn port() -> Result<String> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, 9000)) {
        Ok(_) => Ok("free".to_owned()),
        Err(cause) => Ok(format!(
            "taken ({cause}): a runner is serving, or choose another with `serve --port`"
        )),
    }
}
