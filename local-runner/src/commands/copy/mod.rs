//! `copy`: from the folder of the embedded store to servers, or back, so that the other home goes on where this one stopped.
//!
//! Both sides are walked in the order of ids, and only what is missing or differs is written: a copy that was killed goes
//! on where it was, and one that is repeated writes nothing. Documents come before state, as a cursor stands for
//! documents that are stored.

use std::sync::Arc;
use std::time::Instant;

use base::{Error, Result};
use serde::Serialize;
use serde_json::json;
use stores::documents::{Documents, Elastic, Embedded, Index, Written};
use stores::state::{Moving as _, Postgres, Sqlite, State, Table};

use self::collection::{Collection, Indexed, PAGE, Rows, SourceRows};
use self::walk::{Differences, Step, Sum, Tally, Walk};
use crate::cli::{Cli, CopyArgs, Home};
use crate::home::settings;
use crate::out::{self, Outcome};
use crate::settings::Settings;

mod collection;
mod walk;

/// Documents between two lines of progress.
const PROGRESS: u64 = 2_000;

/// Letters of a hash that a table shows; `--json` has all.
const HASH_SHOWN: usize = 16;

/// Something to be copied, on both sides.
struct Part {
    name: &'static str,
    kind: Kind,
    source: Box<dyn Collection>,
    target: Box<dyn Collection>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Documents,
    State,
}

/// What was written.
#[derive(Default, Serialize)]
struct Writes {
    new: u64,
    changed: u64,
    /// Rows of the state that were at the target only.
    removed: u64,
    failed: u64,
    /// The first that the store refused, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// `local-runner copy`.
pub(crate) async fn copy(cli: &Cli, args: &CopyArgs) -> Outcome {
    if args.from == args.to {
        return Err(Error::config(format!("copy from {0} to {0}", args.from.name()))
            .hint("one side is `embedded`, the other `servers`"));
    }
    let began = Instant::now();
    let settings = settings(cli)?;
    let parts = parts(&settings, args).await?;
    nothing_under_way(&settings).await?;

    let mut tallies = Vec::with_capacity(parts.len());
    for part in &parts {
        // An empty target need not be compared.
        let is_empty = part.target.page(None).await?.is_empty();
        tallies.push(match is_empty {
            true => None,
            false => Some(Tally::of(part.source.as_ref(), part.target.as_ref()).await?),
        });
    }
    if !args.overwrite {
        refuse_to_replace(args.to, &parts, &tallies)?;
    }

    let mut rows = Vec::with_capacity(parts.len());
    let mut wrong = None;
    for (part, tally) in parts.iter().zip(tallies) {
        let (tally, writes) = match tally {
            Some(tally) if part.is_settled(&tally.differences) => (tally, Writes::default()),
            tally => {
                let only_there = tally.map_or(0, |tally| tally.differences.only_there);
                let writes = part.write(only_there > 0).await?;
                (Tally::of(part.source.as_ref(), part.target.as_ref()).await?, writes)
            }
        };
        wrong = wrong.or_else(|| part.fault(&tally, &writes));
        rows.push((part, tally, writes));
    }
    show(cli, args, &rows, began);
    match wrong {
        None => Ok(out::DONE),
        Some(error) => Err(error),
    }
}

/// Opens what is to be copied, on both sides.
async fn parts(settings: &Settings, args: &CopyArgs) -> Result<Vec<Part>> {
    let stores = &settings.config.stores;
    // Neither word stands for both.
    let (documents, state) = (args.documents || !args.state, args.state || !args.documents);
    let mut missing = Vec::new();
    if documents && stores.es_url.is_none() {
        missing.push(("documents", "ES_URL", "--state", "state"));
    }
    if state && stores.database_url.is_none() {
        missing.push(("state", "DATABASE_URL", "--documents", "documents"));
    }
    match missing.as_slice() {
        [] => {}
        [(what, setting, ..)] if args.documents || args.state => {
            return Err(Error::config(format!("copy the {what}: `{setting}` is not set"))
                .hint("it names the server on one side of the copy"));
        }
        [(what, setting, flag, other)] => {
            return Err(Error::config(format!("copy the {what}: `{setting}` is not set")).hint(
                format!("set it, or copy the {other} alone with `{flag}`; what is not copied stays where it is"),
            ));
        }
        _ => {
            return Err(Error::config("copy: neither `ES_URL` nor `DATABASE_URL` is set").hint(
                "they name the servers on one side; the other is the folder of `MINERVA_DATA_DIR`",
            ));
        }
    }
    let folder = &settings.data_dir;
    for (is_wanted, file) in [(documents, Embedded::FILE), (state, Sqlite::FILE)] {
        if args.from == Home::Embedded && is_wanted && !folder.join(file).exists() {
            return Err(Error::config(format!(
                "copy from `{}`: there is no `{file}`",
                folder.display()
            ))
            .hint("name the folder with `--data-dir` or `MINERVA_DATA_DIR`"));
        }
    }
    let mut parts = Vec::new();
    if documents {
        let embedded: Arc<dyn Documents> = Arc::new(Embedded::open(folder).await?);
        let server: Arc<dyn Documents> = Arc::new(Elastic::open(stores)?);
        parts.extend(Index::all().iter().map(|index| {
            let side = |store: &Arc<dyn Documents>| -> Box<dyn Collection> {
                Box::new(Indexed(Arc::clone(store), index))
            };
            Part::of(args, index.name, Kind::Documents, side(&embedded), side(&server))
        }));
    }
    if let Some(address) = stores.database_url.as_ref().filter(|_| state) {
        let embedded: Arc<dyn State> = Arc::new(Sqlite::open(folder).await?);
        let server: Arc<dyn State> = Arc::new(Postgres::open(address).await?);
        // Where documents are on no server, both sides share the embedded ones.
        let documents_here: Arc<dyn Documents> = Arc::new(Embedded::open(folder).await?);
        let documents_there: Arc<dyn Documents> = match &stores.es_url {
            Some(_) => Arc::new(Elastic::open(stores)?),
            None => Arc::clone(&documents_here),
        };
        parts.extend(Table::ALL.into_iter().map(|table| {
            let side =
                |state: &Arc<dyn State>, documents: &Arc<dyn Documents>| -> Box<dyn Collection> {
                    let rows = Rows(Arc::clone(state), table);
                    match table {
                        Table::Sources => {
                            Box::new(SourceRows { rows, documents: Arc::clone(documents) })
                        }
                        _ => Box::new(rows),
                    }
                };
            let here = side(&embedded, &documents_here);
            Part::of(args, table.name(), Kind::State, here, side(&server, &documents_there))
        }));
    }
    Ok(parts)
}

/// Refuses while anything runs, at either side: half of what it does would be copied.
async fn nothing_under_way(settings: &Settings) -> Result<()> {
    let mut held = Vec::new();
    if settings.data_dir.join(Sqlite::FILE).exists() {
        held.extend(Sqlite::open(&settings.data_dir).await?.under_way().await?);
    }
    if let Some(address) = &settings.config.stores.database_url {
        held.extend(Postgres::open(address).await?.under_way().await?);
    }
    let Some(first) = held.first() else { return Ok(()) };
    Err(Error::config(format!("copy while {} runs are under way: {first}", held.len())).hint(
        "end `local-runner serve` on both sides and wait for the runs to end; a run on servers whose process died is forgotten after 30 s",
    ))
}

/// Refuses, before anything is written, to write over what the source has not.
fn refuse_to_replace(to: Home, parts: &[Part], tallies: &[Option<Tally>]) -> Result<()> {
    let mut lost = Vec::new();
    for (part, tally) in parts.iter().zip(tallies) {
        let Some(Tally { differences, .. }) = tally else { continue };
        let (name, first) = (part.name, differences.first.as_deref().unwrap_or_default());
        if differences.differing > 0 {
            lost.push(format!(
                "`{name}` holds {} others under the same ids, {} of them of a later revision (look at `{first}`)",
                differences.differing, differences.later
            ));
        }
        if let Some(first) = &differences.first_only_there {
            let count = differences.only_there;
            lost.push(format!(
                "`{name}` holds {count} that the source has not (look at `{first}`)"
            ));
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    let error = format!("copy to the {}: nothing was written: {}", to.place(), lost.join("; "));
    Err(Error::config(error).hint(
        "that side was used by itself: perhaps the copy should go the other way; `--overwrite` replaces what differs, leaves documents that are only there, and makes its state the source's",
    ))
}

impl Part {
    fn of(
        args: &CopyArgs,
        name: &'static str,
        kind: Kind,
        embedded: Box<dyn Collection>,
        server: Box<dyn Collection>,
    ) -> Self {
        let (source, target) = match args.from {
            Home::Embedded => (embedded, server),
            Home::Servers => (server, embedded),
        };
        Self { name, kind, source, target }
    }

    /// Whether nothing is left to be done. Documents that are only at the target stay; rows would make it do other things.
    fn is_settled(&self, found: &Differences) -> bool {
        found.missing + found.differing == 0
            && (self.kind == Kind::Documents || found.only_there == 0)
    }

    /// Writes what is missing or differs at the target.
    async fn write(&self, has_others: bool) -> Result<Writes> {
        let (source, target) = (self.source.as_ref(), self.target.as_ref());
        let mut writes = Writes::default();
        if self.kind == Kind::State && has_others {
            // First, as two rows may not stand for one run.
            writes.removed = remove_others(source, target).await?;
        }
        let mut walk = Walk::of(source, target);
        let (mut batch, mut is_new) = (Vec::new(), Vec::new());
        let mut shown = 0;
        loop {
            let step = walk.next().await?;
            let is_last = step.is_none();
            match step {
                Some(Step::Missing(source)) => {
                    batch.push(source);
                    is_new.push(true);
                }
                Some(Step::Both(source, target)) if source.body != target.body => {
                    batch.push(source);
                    is_new.push(false);
                }
                Some(Step::Both(..) | Step::Extra(_)) | None => {}
            }
            if batch.len() >= PAGE as usize || (is_last && !batch.is_empty()) {
                let outcomes = target.put(&batch).await?;
                for ((document, is_new), outcome) in
                    batch.drain(..).zip(is_new.drain(..)).zip(outcomes)
                {
                    writes.note(&document.id, is_new, outcome);
                }
            }
            if (writes.new + writes.changed) / PROGRESS > shown {
                shown = (writes.new + writes.changed) / PROGRESS;
                out::note(&format!("{}: {} written", self.name, writes.new + writes.changed));
            }
            if is_last {
                return Ok(writes);
            }
        }
    }

    /// What is not as it should be after all is written.
    fn fault(&self, tally: &Tally, writes: &Writes) -> Option<Error> {
        let found = &tally.differences;
        if let Some(refused) = &writes.refused {
            let error = format!(
                "copy `{}`: {} were refused; the first: {refused}",
                self.name, writes.failed
            );
            return Some(Error::format(error).hint(
                "the rest is copied, and nothing is lost at the source; mend or delete it there, and copy again",
            ));
        }
        if self.is_settled(found) {
            return None;
        }
        let first = found.first.as_ref().or(found.first_only_there.as_ref());
        let error = format!(
            "copy `{}`: the sides still differ, at `{}` first ({} missing, {} not the same)",
            self.name,
            first.map_or("", String::as_str),
            found.missing,
            found.differing
        );
        Some(Error::format(error).hint(
            "one of them is being written to: end `local-runner serve` on both sides and copy again; what is copied is not written twice",
        ))
    }
}

async fn remove_others(source: &dyn Collection, target: &dyn Collection) -> Result<u64> {
    let mut walk = Walk::of(source, target);
    let (mut others, mut removed) = (Vec::new(), 0);
    loop {
        let step = walk.next().await?;
        let is_last = step.is_none();
        if let Some(Step::Extra(other)) = step {
            others.push(other.id);
        }
        if others.len() >= PAGE as usize || is_last {
            target.remove(&others).await?;
            removed += others.len() as u64;
            others.clear();
        }
        if is_last {
            return Ok(removed);
        }
    }
}

impl Writes {
    fn note(&mut self, id: &str, is_new: bool, outcome: Written) {
        match outcome {
            Written::Failed(why) | Written::Rejected(why) => {
                self.failed += 1;
                self.refused.get_or_insert_with(|| format!("`{id}`: {why}"));
            }
            Written::Unchanged | Written::Filtered => {}
            Written::New | Written::Changed if is_new => self.new += 1,
            Written::New | Written::Changed => self.changed += 1,
        }
    }
}

fn show(cli: &Cli, args: &CopyArgs, rows: &[(&Part, Tally, Writes)], began: Instant) {
    if cli.json {
        let sum = |sum: &Sum| json!({"count": sum.count, "hash": sum.hash()});
        let parts = rows.iter().map(|(part, tally, writes)| {
            json!({
                "name": part.name,
                "kind": part.kind,
                "source": sum(&tally.source),
                "target": sum(&tally.target),
                "written": writes,
                "differences": tally.differences,
            })
        });
        out::json(&json!({
            "from": args.from.name(),
            "to": args.to.name(),
            "parts": parts.collect::<Vec<_>>(),
            "seconds": began.elapsed().as_secs_f64(),
        }));
        return;
    }
    let short = |sum: &Sum| sum.hash().chars().take(HASH_SHOWN).collect::<String>();
    let table = rows.iter().map(|(part, tally, writes)| {
        vec![
            part.name.to_owned(),
            (writes.new + writes.changed + writes.removed).to_string(),
            tally.source.count.to_string(),
            short(&tally.source),
            tally.target.count.to_string(),
            short(&tally.target),
            tally.differences.only_there.to_string(),
        ]
    });
    out::table(
        &["WHAT", "WRITTEN", "SOURCE", "ITS HASH", "TARGET", "ITS HASH", "ONLY THERE"],
        table.collect(),
    );
}
