//! The one engine for many sources: order, lease, lateness, checkpoint, orphans' rest, the quiet list, one report.
//!
//! A run visits the sources that its input chooses. When time runs short, those that were not begun and those that were cut
//! off are left to a continuation, in a checkpoint that names them. A run that adopts the checkpoint of an orphaned one visits
//! its sources too: no other run does.

use std::collections::BTreeSet;

use base::report::{Outcome, Report, SourceReport, offline};
use base::{Error, Result};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stores::documents::Index;
use stores::state::Health;
use tokio::time::timeout_at;

use crate::contract::Ctx;
use crate::limits::VisitLimits;
use crate::stop::Stop;
use crate::visit::{Begun, Ended, Visit};

/// One upstream of a family, as the engine needs to know it.
pub trait Source {
    /// Its id within the family: stable for ever, as state and documents are named after it.
    fn id(&self) -> &str;
    /// The indices that its items are stored in; the first is the one that reports name.
    fn indices(&self) -> &'static [&'static str];
    /// What one visit to it may store.
    fn limits(&self) -> VisitLimits {
        VisitLimits::DEFAULT
    }
    /// Whether it is visited unless it is asked for by name.
    fn is_enabled(&self) -> bool {
        true
    }
}

/// The sources of a family, and those of them that a run is for.
pub struct Chosen<S> {
    all: Vec<S>,
    ids: BTreeSet<String>,
}

impl<S: Source> Chosen<S> {
    /// Every source, in the order in which they are visited.
    pub fn every(all: Vec<S>) -> Self {
        let ids = all.iter().map(|source| source.id().to_owned()).collect();
        Self { all, ids }
    }

    /// Those of `all` that have one of these ids.
    pub fn these(all: Vec<S>, ids: impl IntoIterator<Item = String>) -> Self {
        Self { all, ids: ids.into_iter().collect() }
    }

    /// The sources of this step: all that were chosen, an orphan's first; in a continuation what was left.
    fn of_step(&self, step: u32, remaining: &[String]) -> Vec<&S> {
        let is_left = |source: &&S| remaining.iter().any(|id| id == source.id());
        if step > 0 {
            return self.all.iter().filter(is_left).collect();
        }
        let is_mine = |source: &&S| self.ids.contains(source.id());
        let orphans = self.all.iter().filter(is_left);
        let orphans = orphans.filter(|one| one.is_enabled() || is_mine(one));
        orphans.chain(self.all.iter().filter(is_mine).filter(|one| !is_left(one))).collect()
    }
}

/// What a run leaves to its continuation: the ids of sources, in their order.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Checkpoint {
    remaining: Vec<String>,
    /// Those of them that time ran out on before anything new came of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stuck: Vec<String>,
}

/// What came of one source.
enum Done {
    Over(Ended),
    /// Time ran out before it was begun or while it was visited.
    Left {
        id: String,
        is_stuck: bool,
        ended: Ended,
    },
}

impl Ctx {
    /// Visits sources, `at_once` of them together, each held, read and stored by itself by `work`, and reports on all. One that
    /// fails is an outcome of its own.
    ///
    /// # Errors
    /// `Store`, when an index cannot be written or the state cannot be read or written.
    pub async fn each<S, W>(&self, sources: Chosen<S>, at_once: usize, work: W) -> Result<Report>
    where
        S: Source,
        W: AsyncFn(&mut Visit<'_>, &S) -> Result<(), Stop>,
    {
        let checkpoint = self.run.checkpoint.clone().map(serde_json::from_value::<Checkpoint>);
        let checkpoint = checkpoint
            .transpose()
            .map_err(|cause| Error::format("read the checkpoint of a run").because(cause))?;
        let Checkpoint { remaining, stuck } = checkpoint.unwrap_or_default();
        let step = sources.of_step(self.run.step, &remaining);
        if step.is_empty() && self.run.step == 0 {
            return Err(nothing_to_visit(self.family, &sources.all));
        }
        // Before anything is fetched: a store that cannot be written is a matter of the run, not of sixty sources.
        let names: BTreeSet<&str> = step.iter().flat_map(|one| one.indices()).copied().collect();
        for name in names {
            self.store.ensure(Index::named(name)?).await?;
        }
        let order: Vec<&str> = step.iter().map(|source| source.id()).collect();
        let visits = step.iter().map(|source| self.visit_or_leave(*source, &stuck, &work));
        let mut visits = stream::iter(visits).buffer_unordered(at_once);
        let (mut reports, mut rejects, mut left) = (Vec::new(), Vec::new(), Checkpoint::default());
        let mut unsettled = Vec::new();
        while let Some(done) = visits.next().await {
            let ended = match done? {
                Done::Over(ended) => ended,
                Done::Left { id, is_stuck, ended } => {
                    if is_stuck {
                        left.stuck.push(id.clone());
                    }
                    left.remaining.push(id);
                    ended
                }
            };
            reports.push(ended.report);
            rejects.extend(ended.rejects);
            unsettled.extend(ended.unsettled);
        }
        drop(visits);
        let is_offline = offline(&reports).is_some();
        for source in unsettled {
            source.settle(self, is_offline).await?;
        }
        if !left.remaining.is_empty() {
            left.remaining.sort_by_key(|id| order.iter().position(|one| one == id));
            self.leave(json!(left));
        }
        // As the list has them when they come one by one; by name when that is as good as chance.
        reports.sort_by(|one: &SourceReport, other| match at_once {
            1 => place(&order, &one.source).cmp(&place(&order, &other.source)),
            _ => one.source.cmp(&other.source),
        });
        let quiet = self.quiet(&sources.all).await?;
        Ok(Report::of_sources(reports, rejects)?.with_detail(json!({ "quiet": quiet })))
    }

    /// Runs one pass over what is stored under the lease of `name` (`owner/pass`), such as the links between two indices. It has
    /// a cursor like a source and no report of its own; where it did not come to its end, the outcome says why: another run is at
    /// it, or time ran out, and the next pass does it.
    ///
    /// # Errors
    /// What the pass could not do.
    pub async fn pass<T, W>(
        &self,
        name: &str,
        indices: &[&'static str],
        work: W,
    ) -> Result<Result<T, Outcome>>
    where
        W: AsyncFnOnce(&mut Visit<'_>) -> Result<T, Stop>,
    {
        let indices: Vec<_> =
            indices.iter().map(|name| Index::named(name)).collect::<Result<_>>()?;
        for index in &indices {
            self.store.ensure(index).await?;
        }
        let mut visit = match Visit::begin(self, name, indices).await? {
            Begun::Visit(visit) => visit,
            Begun::Not(report) => return Ok(Err(report.outcome)),
        };
        let end = self.deadline.soft_end().into();
        match timeout_at(end, Box::pin(work(&mut visit))).await {
            Ok(Ok(result)) if !visit.is_cut_off() => {
                visit.end(Ok(())).await?;
                Ok(Ok(result))
            }
            Ok(Err(stop)) => {
                let error = stop.error.again();
                if let Some(unsettled) = visit.end(Err(stop)).await?.unsettled {
                    unsettled.settle(self, false).await?;
                }
                Err(error)
            }
            Ok(Ok(_)) | Err(_) => {
                visit.end(Err(Stop::deferred())).await?;
                Ok(Err(Outcome::Deferred))
            }
        }
    }

    async fn visit_or_leave<S, W>(&self, source: &S, stuck: &[String], work: &W) -> Result<Done>
    where
        S: Source,
        W: AsyncFn(&mut Visit<'_>, &S) -> Result<(), Stop>,
    {
        let id = source.id();
        let indices = source.indices();
        if self.deadline.is_past() || self.is_full() {
            let outcome = Outcome::Deferred;
            let index = indices.first().copied().unwrap_or_default();
            let report = SourceReport { outcome, ..SourceReport::new(id, index) };
            let ended = Ended::unbegun(report);
            let is_stuck = stuck.iter().any(|one| one == id);
            return Ok(Done::Left { id: id.to_owned(), is_stuck, ended });
        }
        let indices = indices.iter().map(|name| Index::named(name)).collect::<Result<_>>()?;
        let name = format!("{}/{id}", self.family);
        let mut visit = match Visit::begin(self, &name, indices).await? {
            Begun::Visit(visit) => visit,
            Begun::Not(report) => return Ok(Done::Over(Ended::unbegun(*report))),
        };
        visit.limit_to(source.limits());
        let end = self.deadline.soft_end().into();
        let worked = timeout_at(end, Box::pin(work(&mut visit, source))).await;
        let is_late = worked.is_err() || visit.is_cut_off();
        // What brought nothing in a whole step will bring nothing in the next.
        let read_for = visit.has_read_for().filter(|_| is_late && !visit.has_progressed());
        let is_stuck = read_for.is_some();
        if let Some(time) = read_for
            && (time * 2 >= self.time_for_work() || stuck.iter().any(|one| one == id))
        {
            return Ok(Done::Over(visit.end(Err(Stop::too_costly(time))).await?));
        }
        let worked = worked.unwrap_or_else(|_late| Ok(()));
        match worked {
            Ok(()) if is_late => {
                let ended = visit.end(Err(Stop::deferred())).await?;
                Ok(Done::Left { id: id.to_owned(), is_stuck, ended })
            }
            worked => Ok(Done::Over(visit.end(worked).await?)),
        }
    }

    /// Enabled sources that answer but have had nothing new for much longer than is usual for them.
    async fn quiet<S: Source>(&self, all: &[S]) -> Result<Vec<Value>> {
        let now = self.now();
        let known = self.state.sources(self.family).await?;
        let is_quiet = |id: &str| all.iter().any(|one| one.is_enabled() && one.id() == id);
        let quiet = known
            .into_iter()
            .filter(|(id, state)| is_quiet(id) && state.health(now) == Health::Quiet);
        let shown = quiet.map(|(id, state)| {
            json!({"source": id, "last_new": state.last_new, "usual_gap_s": state.usual_gap_s})
        });
        Ok(shown.collect())
    }
}

/// The error of a run that is for no source.
fn nothing_to_visit<S: Source>(family: &str, all: &[S]) -> Error {
    let what = format!("visit the sources of `{family}`");
    if all.is_empty() {
        return Error::config(format!("{what}: there are none"))
            .hint("`local-runner sources add ADDRESS` adds one; `local-runner help sources` shows the form of the list");
    }
    let why = match all.iter().filter(|source| source.is_enabled()).count() {
        0 => format!("all {} are disabled", all.len()),
        enabled => format!("none that is asked for is enabled ({enabled} others are)"),
    };
    Error::config(format!("{what}: {why}"))
        .hint("`local-runner sources enable ID` enables one; `sources list --health disabled` shows which are not")
}

fn place(order: &[&str], id: &str) -> Option<usize> {
    order.iter().position(|one| *one == id)
}
