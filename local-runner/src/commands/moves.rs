//! `reindex` and `adopt`: whole indices of a server built anew, or taken over from the predecessor.

use std::sync::atomic::{AtomicU64, Ordering};

use base::{Error, Result};
use serde_json::json;
use stores::documents::{Adopted, Index, Moves, Reindexed};
use stores::state::{Lease, State};

use crate::cli::{AdoptArgs, Cli, ReindexArgs};
use crate::families::adopters;
use crate::home::{interrupted, open_state, settings};
use crate::out::{self, Outcome};

/// Lines of progress where there is no terminal.
const LINES: u64 = 10;

/// `local-runner reindex`.
pub(crate) async fn reindex(cli: &Cli, args: &ReindexArgs) -> Outcome {
    let indices: Vec<&'static Index> = match &args.index {
        Some(name) => vec![Index::named(name)?],
        None if args.all => Index::all().iter().collect(),
        None => {
            let names: Vec<&str> = Index::all().iter().map(|index| index.name).collect();
            return Err(Error::config("build an index anew: none is named").hint(format!(
                "`--all` looks at each, `--dry-run` only looks; there is: {}",
                names.join(", ")
            )));
        }
    };
    let settings = settings(cli)?;
    if settings.config.stores.es_url.is_none() {
        if cli.json {
            out::json(&json!({"indices": []}));
        } else {
            out::line(
                "the embedded store needs none: its documents have no mapping that could stop fitting",
            );
        }
        return Ok(out::DONE);
    }
    let moves = Moves::open(&settings.config.stores)?;
    let state = open_state(&settings).await?;
    let mut all: Vec<Reindexed> = Vec::with_capacity(indices.len());
    for index in indices {
        let _lease = hold(state.as_ref(), index).await?;
        let progress = ProgressLines::default();
        let tell = |what: &str, done, total| progress.show(what, index.name, done, total);
        let work = moves.reindex(index, args.drop_old, args.dry_run, &tell);
        let done = until_interrupted(&moves, work).await?;
        if !cli.json {
            for line in said(&done) {
                out::line(&line);
            }
        }
        all.push(done);
    }
    if cli.json {
        out::json(&json!({"indices": all}));
    }
    Ok(out::DONE)
}

/// `local-runner adopt`.
pub(crate) async fn adopt(cli: &Cli, args: &AdoptArgs) -> Outcome {
    let settings = settings(cli)?;
    let stores = &settings.config.stores;
    if stores.es_url.is_none() {
        return Err(Error::config(format!(
            "adopt `{}`: the embedded store holds nothing of the predecessor",
            args.from
        ))
        .hint("`ES_URL` names the server on which its indices are"));
    }
    let own = args.from.strip_prefix(&stores.es_index_prefix).unwrap_or(&args.from);
    let index =
        Index::named(args.index.as_deref().unwrap_or(own)).map_err(|error| match &args.index {
            Some(_) => error,
            None => error.hint("`--as` says which of our indices it becomes"),
        })?;
    let state = open_state(&settings).await?;
    let _lease = hold(state.as_ref(), index).await?;
    let adopter = adopters().find(|adopter| adopter.index == index.name);
    let identify = match adopter {
        None => None,
        Some(adopter) => Some((adopter.open)(&settings.config, state.as_ref()).await?),
    };
    let shared = adopter.map_or(&[][..], |adopter| adopter.shared);
    let moves = Moves::open(stores)?;
    let progress = ProgressLines::default();
    let tell = |what: &str, done, total| progress.show(what, &args.from, done, total);
    let work = moves.adopt(index, &args.from, identify.as_ref(), shared, args.keep, &tell);
    let done = until_interrupted(&moves, work).await?;
    if cli.json {
        out::json(&done);
        return Ok(out::DONE);
    }
    for line in took_over(&args.from, &done) {
        out::line(&line);
    }
    Ok(out::DONE)
}

/// One run at a time moves an index, as far as those go that share a state.
async fn hold(state: &dyn State, index: &Index) -> Result<Lease> {
    let lease = state.lease(&format!("indices/{}", index.name)).await?;
    lease.ok_or_else(|| {
        Error::config(format!("move index `{}`: another run holds it", index.name))
            .hint("wait until it has ended")
    })
}

async fn until_interrupted<T>(moves: &Moves, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = work => {
            out::progress("");
            done
        }
        () = interrupted() => {
            moves.release().await;
            out::progress("");
            Err(Error::deadline("finish: interrupted")
                .hint("the old index is in use as before; run it again and it goes on"))
        }
    }
}

/// Progress: one line that changes on a terminal, a few that stay elsewhere.
#[derive(Default)]
struct ProgressLines {
    steps: AtomicU64,
}

impl ProgressLines {
    fn show(&self, what: &str, name: &str, done: u64, total: u64) {
        let text = format!("{what} `{name}`: {done} of {total} documents");
        if out::is_terminal() {
            return out::progress(&text);
        }
        let step = (done * LINES).checked_div(total).unwrap_or(LINES);
        if self.steps.swap(step, Ordering::Relaxed) != step {
            out::note(&text);
        }
    }
}

fn said(done: &Reindexed) -> Vec<String> {
    let (from, to) =
        (done.from.as_deref().unwrap_or_default(), done.to.as_deref().unwrap_or_default());
    let why = done.why.as_deref().unwrap_or_default();
    let mut lines = vec![match done.state {
        "missing" => format!("{}: not there yet; the first write makes it", done.index),
        "fits" => format!("{}: `{from}` fits, {} documents", done.index, done.documents),
        "needed" => format!(
            "{}: `{from}` does not fit ({why}); its {} documents would be copied to `{to}`",
            done.index, done.documents
        ),
        _ => format!(
            "{}: {} documents are in `{to}` now, {} written; tasks could not write for {} ms",
            done.index, done.documents, done.written, done.closed_ms
        ),
    }];
    if done.state == "rebuilt" && !done.dropped.iter().any(|name| name == from) {
        lines.push(format!("  `{from}` stays, closed to writers, until `--drop-old`"));
    }
    lines.extend(done.dropped.iter().map(|name| format!("  `{name}` is deleted")));
    lines
}

fn took_over(from: &str, done: &Adopted) -> Vec<String> {
    if done.state == "ours" {
        return vec![format!("`{from}` is one of ours already, as `{}`: nothing to do", done.to)];
    }
    let mut lines = vec![
        format!(
            "{}: {} documents of `{from}` are in `{}` now",
            done.index, done.documents, done.to
        ),
        format!(
            "  {} will be met when they are collected again, {} keep the id they had, {} met one of ours",
            done.renamed, done.kept_id, done.met
        ),
    ];
    if done.dates_repaired + done.dates_unread + done.set_aside > 0 {
        lines.push(format!(
            "  {} dates were written anew, {} cannot be read, {} other values do not fit; as they were under `owners.adopted.raw`",
            done.dates_repaired, done.dates_unread, done.set_aside
        ));
    }
    lines.push(if done.removed {
        format!("  the old index is removed; `{from}` leads to ours")
    } else {
        format!("  `{from}` stays as it was")
    });
    lines
}
