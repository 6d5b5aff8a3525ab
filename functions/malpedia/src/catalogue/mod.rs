//! The engine of families and actors: from files that an enrichment wrote, or straight from the API.
//!
//! The cursor holds, for each file, its time and size, and what links it to others. So an unchanged file is not opened, one
//! that is gone is known by its absence from a complete listing, and links both ways need no second reading.

mod from_api;
mod from_files;
mod kind;
mod kinship;
mod owners;

use std::cell::RefCell;
use std::collections::BTreeSet;

use base::Result;
use base::report::{Counts, Outcome, Report};
use serde_json::{Map, Value, json};
use task::{Chosen, Ctx, Stop, Visit};
use yara::link as rule_link;

pub(crate) use self::kind::{ACTORS, FAMILIES, note_cut};
use self::kind::{RecordKind, SHOWN};
use crate::rules;
use crate::sources::{CatalogueOrigin, Source};

/// Syncs these sources, one after the other, and then links the records to each other and to rules.
pub(crate) async fn sync(ctx: &Ctx, sources: &[Source]) -> Result<Report> {
    let origin = CatalogueOrigin::of(ctx.settings()?)?;
    let detail = RefCell::new(Map::new());
    let work = async |visit: &mut Visit<'_>, source: &Source| {
        let (told, work) = match source {
            Source::Rules => match rules::read(visit, &origin).await {
                Ok(told) => (told, Ok(())),
                Err(stop) => (None, Err(stop)),
            },
            Source::Families => read(visit, &FAMILIES, &origin).await,
            _ => read(visit, &ACTORS, &origin).await,
        };
        detail.borrow_mut().extend(told.map(|told| (task::Source::id(source).to_owned(), told)));
        match &origin {
            CatalogueOrigin::Api(api) => work.map_err(|stop| api.explain(stop)),
            CatalogueOrigin::Files(_) => work,
        }
    };
    let report = ctx.each(Chosen::every(sources.to_vec()), 1, work).await?;
    let mut detail = detail.into_inner();
    if report.sources.iter().all(|source| source.outcome != Outcome::Deferred) {
        detail.insert("linked".to_owned(), kinship::link(ctx).await?);
        if sources.contains(&Source::Families) {
            detail.insert("linked_rules".to_owned(), rule_link::link(ctx).await?);
        }
    }
    Ok(report.with_detail(Value::Object(detail)))
}

/// Reads one kind of records; gives what a report tells of it, however it ends.
async fn read(
    visit: &mut Visit<'_>,
    kind: &'static RecordKind,
    origin: &CatalogueOrigin,
) -> (Option<Value>, Result<(), Stop>) {
    let read = match origin {
        CatalogueOrigin::Files(place) => from_files::read(visit, kind, place).await,
        CatalogueOrigin::Api(api) => from_api::read(visit, kind, api).await,
    };
    let counts = kind.source.index().map(|index| visit.counts(index)).unwrap_or_default();
    let (vanished, work) = match read {
        Ok(vanished) => (vanished, Ok(())),
        Err(stop) => (BTreeSet::new(), Err(stop)),
    };
    (Some(figures(counts, &vanished)), work)
}

fn figures(counts: Counts, vanished: &BTreeSet<String>) -> Value {
    json!({
        "files": counts.found, "already_there": counts.unchanged, "sent": counts.new + counts.changed, "new": counts.new,
        "changed": counts.changed, "doubled": counts.merged, "errors": counts.rejected + counts.failed,
        "vanished": vanished.len(), "gone": vanished.iter().take(SHOWN).collect::<Vec<_>>(),
    })
}
