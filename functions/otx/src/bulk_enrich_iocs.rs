//! Adds what OTX knows to indicators of high priority, of whichever family.
//!
//! Reads   `minerva-indicators`, and of each indicator that is chosen the sections of `api/v1/indicators/<type>/<value>`.
//! Writes  `enriched_at`, `enrichment` and `otx_*` into every index that holds it, and the tag `otx:benign` where OTX's own
//!         validation calls it harmless.
//! Twice   is harmless: what was asked for within `OTX_ENRICH_DAYS` is not asked for again, whether OTX had something or not.
//! Quirk   high priority is the order of `RANKS`; a type without an address at OTX, and an address of nobody, cost no request.

use std::collections::HashSet;
use std::time::Duration;

use base::date::seconds;
use base::report::{Outcome, Report};
use base::{Error, Result};
use fetch::{Limits, Request};
use indicator::IndicatorKind;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stores::documents::{Body, Document, Filter, Index, Query, Sort, Write};
use task::{Chosen, Ctx, KeyPool, NoInput, Reaches, Stop, Task, Visit};

use crate::enrichment::{Enrichment, is_public, is_tagged, path, sections};
use crate::settings::Settings;

/// The index of all indicators.
const GROUP: &str = "minerva-indicators";
/// For how long an indicator is fresh after it was last seen.
const FRESH: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Values without an answer, one after the other, after which the visit ends: it is OTX and not they.
const FAILURES_MAX: usize = 5;
/// Documents of one value that are written to.
const DOCUMENTS_MAX: u32 = 16;

const LIMITS: Limits = Limits {
    max_body: 8 << 20,
    head_timeout: Duration::from_secs(60),
    idle_timeout: Duration::from_secs(20),
    total_timeout: Duration::from_secs(90),
};

/// What makes an indicator worth a question.
#[derive(Clone, Copy)]
enum Mark {
    /// A source means it for detection.
    ForDetection,
    /// Several sources have it.
    SeveralSources,
    /// Several pulses name it.
    SeveralPulses,
    /// It was seen within [`FRESH`].
    Fresh,
}

/// High priority, the highest first; within a rank those that were seen last come first. What is inactive, stands in a
/// warninglist or has no address at OTX is in none.
const RANKS: [&[Mark]; 8] = [
    &[Mark::ForDetection, Mark::SeveralSources, Mark::Fresh],
    &[Mark::ForDetection, Mark::Fresh],
    &[Mark::SeveralSources, Mark::Fresh],
    &[Mark::SeveralPulses, Mark::Fresh],
    &[Mark::Fresh],
    &[Mark::ForDetection],
    &[Mark::SeveralSources],
    &[],
];

pub(crate) struct BulkEnrichIocs;

impl Task for BulkEnrichIocs {
    const NAME: &'static str = "bulk_enrich_iocs";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        let settings: Settings = ctx.settings()?;
        let source = Enriching { pool: settings.pool_of_some()?, settings };
        ctx.each(Chosen::every(vec![source]), 1, enrich).await
    }
}

/// The source: what OTX knows of single values.
pub(crate) struct Enriching {
    settings: Settings,
    pool: KeyPool,
}

impl Enriching {
    /// Its id.
    pub(crate) const ID: &str = "enrichment";
}

impl task::Source for Enriching {
    fn id(&self) -> &str {
        Self::ID
    }

    fn indices(&self) -> &'static [&'static str] {
        Index::named(GROUP).map(|group| group.several).unwrap_or_default()
    }
}

/// How many a run has done, for its continuations.
#[derive(Default, Serialize, Deserialize)]
struct Cursor {
    run: String,
    done: usize,
}

/// A value that is asked for.
struct Candidate {
    kind: IndicatorKind,
    value: String,
}

async fn enrich(visit: &mut Visit<'_>, otx: &Enriching) -> Result<(), Stop> {
    let ctx = visit.ctx();
    let mut cursor = visit.cursor::<Cursor>().filter(|one| one.run == ctx.run.run_id);
    let mut cursor =
        cursor.take().unwrap_or_else(|| Cursor { run: ctx.run.run_id.clone(), done: 0 });
    let limit = otx.settings.enrich_limit as usize;
    let wanted = candidates(ctx, otx, limit.saturating_sub(cursor.done)).await?;
    let (mut failed, mut in_a_row, mut answered) = (Vec::new(), 0, 0);
    for candidate in wanted {
        if visit.is_late() {
            return Ok(());
        }
        let enrichment = match is_public(candidate.kind, &candidate.value) {
            true => ask(visit, otx, &candidate).await,
            false => Ok(Enrichment::none(Some("not public"))),
        };
        match enrichment {
            Ok(enrichment) => {
                answered += 1;
                in_a_row = 0;
                store(visit, &candidate, &enrichment).await?;
                cursor.done += 1;
                visit.save(json!(cursor)).await?;
            }
            Err(stop) if stop.outcome == Outcome::BudgetSpent => return Err(stop),
            Err(stop) => {
                in_a_row += 1;
                if in_a_row == FAILURES_MAX {
                    return Err(stop);
                }
                failed.push((candidate, stop));
            }
        }
    }
    if answered == 0
        && let Some((_, stop)) = failed.pop()
    {
        return Err(stop);
    }
    // Others were answered: it is the value, which is as good as unknown until its time comes again.
    for (candidate, stop) in failed {
        visit.note(format!("`{}` was not answered: {}", candidate.value, stop.error));
        store(visit, &candidate, &Enrichment::none(Some("not answered"))).await?;
    }
    Ok(())
}

/// Every document of the value, in whichever index, gets it.
async fn store(
    visit: &mut Visit<'_>,
    candidate: &Candidate,
    enrichment: &Enrichment,
) -> Result<(), Stop> {
    let ctx = visit.ctx();
    let filters = [("type", candidate.kind.as_str()), ("value", &candidate.value)]
        .map(|(name, value)| Filter::Terms(name.to_owned(), vec![value.to_owned()]));
    let query = Query { filters: filters.into(), limit: DOCUMENTS_MAX, ..Query::default() };
    let at = seconds(ctx.now());
    let has_sources = |body: &Body| {
        let shared = body.get("owners").and_then(|owners| owners.get("shared"));
        shared.is_some_and(|shared| shared["sources"].is_object())
    };
    for index in Index::named(GROUP)?.members() {
        let found = ctx.documents.search(index, &query).await?.documents;
        let write = |one: &Document| {
            enrichment.write(&one.id, &at, has_sources(&one.body), is_tagged(&one.body))
        };
        let writes: Vec<Write> = found.iter().map(write).collect();
        visit.found(index, writes.len() as u64);
        visit.store(index, &writes).await?;
    }
    Ok(())
}

/// Asks for each section of a value; what OTX does not know, costs one request.
async fn ask(
    visit: &mut Visit<'_>,
    otx: &Enriching,
    candidate: &Candidate,
) -> Result<Enrichment, Stop> {
    let Some((slug, all)) = sections(candidate.kind) else { return Ok(Enrichment::none(None)) };
    let mut answers: Vec<(&str, Value)> = Vec::with_capacity(all.len());
    let mut failed = Vec::new();
    for section in all {
        let is_first = answers.is_empty();
        if let Some((_, general)) = answers.first()
            && !is_worth(section, general)
        {
            continue;
        }
        match get(visit, otx, &path(slug, &candidate.value, section)).await {
            Ok(body) => {
                let is_known = body["pulse_info"]["count"].as_u64() != Some(0);
                answers.push((section, body));
                if is_first && !is_known {
                    break;
                }
            }
            Err(stop) if stop.outcome == Outcome::NotFound => {
                if is_first {
                    return Ok(Enrichment::none(None));
                }
            }
            Err(stop) if is_first || stop.outcome == Outcome::BudgetSpent => return Err(stop),
            Err(_) => failed.push(*section),
        }
    }
    Ok(Enrichment::of(&answers, &failed))
}

/// Whether a section has something that `general` does not tell.
fn is_worth(section: &str, general: &Value) -> bool {
    let has = general["sections"].as_array();
    let is_there =
        has.is_none_or(|names| names.is_empty() || names.iter().any(|one| one == section));
    is_there && (section != "geo" || general["country_code"].is_null())
}

async fn get(visit: &mut Visit<'_>, otx: &Enriching, path: &str) -> Result<Value, Stop> {
    let url = otx.settings.address(path)?;
    let request = Request::get(&url).accept("application/json").limits(LIMITS);
    let Some(answer) = visit.get_with_key(&otx.pool, request).await? else {
        return Err(Stop::skipped("the archive holds no more of it"));
    };
    let body = serde_json::from_slice(answer.body()).ok().filter(Value::is_object);
    body.ok_or_else(|| {
        let error =
            Error::format(format!("read `{}`: it is no JSON object", base::address::shown(&url)));
        Stop::from(error.hint("look at `OTX_URL`; what is there may be a proxy's page"))
    })
}

/// The values to ask for, by rank: those that were never asked for, then those whose time has come again.
async fn candidates(ctx: &Ctx, otx: &Enriching, most: usize) -> Result<Vec<Candidate>> {
    let group = Index::named(GROUP)?;
    let now = ctx.now();
    let days = SignedDuration::from_hours(24 * i64::from(otx.settings.enrich_days));
    let again = Filter::Range("enriched_at".to_owned(), None, Some(before(now, days)));
    let mut wanted: Vec<Candidate> = Vec::new();
    let mut seen: HashSet<(String, String)> = HashSet::new();
    for asked in [Filter::Missing("enriched_at".to_owned()), again] {
        for rank in RANKS {
            if wanted.len() >= most {
                return Ok(wanted);
            }
            // A value may stand in every index, and in a rank before.
            let room = (most + seen.len()) * group.several.len();
            let limit = u32::try_from(room).unwrap_or(u32::MAX).min(Query::LIMIT_MAX);
            let sort = Some(Sort::Field { name: "last_seen".to_owned(), descending: true });
            let query =
                Query { filters: filters(rank, &asked, now), sort, limit, ..Query::default() };
            for document in ctx.documents.search(group, &query).await?.documents {
                let text = |name: &str| document.body.get(name).and_then(Value::as_str);
                let (Some(kind), Some(value)) = (text("type"), text("value")) else { continue };
                let Ok(parsed) = kind.parse() else { continue };
                if wanted.len() < most && seen.insert((kind.to_owned(), value.to_owned())) {
                    wanted.push(Candidate { kind: parsed, value: value.to_owned() });
                }
            }
        }
    }
    Ok(wanted)
}

/// An instant so long before now; with no time at all, one behind now, as what happened now is before it.
fn before(now: Timestamp, time: SignedDuration) -> String {
    let time = if time.is_zero() { SignedDuration::from_secs(-1) } else { time };
    seconds(now.checked_sub(time).unwrap_or(now))
}

fn filters(rank: &[Mark], asked: &Filter, now: Timestamp) -> Vec<Filter> {
    let terms = |name: &str, values: Vec<String>| Filter::Terms(name.to_owned(), values);
    let several = |name: &str| terms(name, (2..=50).map(|count: u8| count.to_string()).collect());
    let kinds = IndicatorKind::ALL.into_iter().filter(|kind| sections(*kind).is_some());
    let mut all = vec![
        terms("active", vec!["true".to_owned()]),
        terms("type", kinds.map(|kind| kind.as_str().to_owned()).collect()),
        Filter::Missing("warninglist_hits".to_owned()),
        asked.clone(),
    ];
    all.extend(rank.iter().map(|mark| match mark {
        Mark::ForDetection => terms("to_ids", vec!["true".to_owned()]),
        Mark::SeveralSources => several("sources_count"),
        Mark::SeveralPulses => several("pulses_count"),
        Mark::Fresh => Filter::Range("last_seen".to_owned(), Some(before(now, FRESH)), None),
    }));
    all
}
