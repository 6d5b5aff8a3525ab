//! Tells whether Malpedia answers, whether its token is valid, how far the enrichment is, and how the last syncs ended.
//!
//! Reads   `api/get/version` and, where a token is set, `api/check/apikey`; the ledger and the sources' state.
//! Writes  nothing.
//! Twice   is harmless.
//! Quirk   an API that does not answer is an answer of this task, not its failure.

use base::address::shown;
use base::json::bounded;
use base::report::Report;
use base::{Class, Error, Result};
use fetch::Request;
use serde_json::{Value, json};
use stores::documents::{Filter, Index, Query};
use stores::state::SourceState;
use task::{Ctx, NoInput, Reaches, Task};

use crate::FAMILY;
use crate::api::Api;
use crate::enrichment::{self, Enrichment, Progress};
use crate::settings::{NAME, Settings};

/// The task whose checkpoint is asked for.
const ENRICHMENT: &str = "enrich_malpedia_library";

pub(crate) struct CheckMalpediaStatus;

impl Task for CheckMalpediaStatus {
    const NAME: &'static str = "check_malpedia_status";
    const REACHES: &'static [Reaches] = &[Reaches::Network];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        let api = Api::of(&ctx.settings()?)?;
        let enrichment = ctx.ledger.source(&format!("{NAME}/{}", Enrichment::ID)).await?;
        let last = ctx.ledger.runs(Some(ENRICHMENT), 1).await?.pop();
        let status = match (&last, &enrichment.cursor) {
            (None, None) => "not_started",
            (Some(run), _) if run.status == "failed" => "error",
            _ => "in_progress",
        };
        let mut syncs = Vec::new();
        for task in FAMILY.tasks.iter().filter(|task| task.name.starts_with("sync_")) {
            if let Some(run) = ctx.ledger.runs(Some(task.name), 1).await?.pop() {
                let written = run.report.map(|report| report.writes());
                syncs.push(json!({"task": run.task, "status": run.status, "started": run.started, "finished": run.finished, "written": written}));
            }
        }
        let sources = ctx.ledger.sources(NAME).await?;
        let shown = |(id, state): (String, SourceState)| {
            let health = state.health(ctx.now()).name();
            json!({"source": id, "health": health, "last_success": state.last_success, "last_error": state.last_error})
        };
        Ok(Report::of_detail(json!({
            "status": status,
            "enrichment": progress(ctx, enrichment.cursor.as_ref()).await?,
            "checkpoint": enrichment.cursor,
            "message": last.map(|run| format!("{ENRICHMENT} ended as {}", run.status)),
            "api": reached(ctx, &api).await?,
            "token": token(ctx, &api).await?,
            "syncs": syncs,
            "sources": sources.into_iter().map(shown).collect::<Vec<_>>(),
        })))
    }
}

/// How far the enrichment is, by what is stored; how fast its last run was, and how long what is left takes at that speed.
async fn progress(ctx: &Ctx, cursor: Option<&Value>) -> Result<Value> {
    let settings: Settings = ctx.settings()?;
    let current =
        Filter::Terms("enrichment_version".to_owned(), vec![enrichment::version(&settings)]);
    let enriched = Filter::Exists("enriched_at".to_owned());
    let (mut total, mut now, mut ever) = (0, 0, 0);
    for name in enrichment::indices(&settings) {
        let index = Index::named(name)?;
        let with = |filter: &Filter| Query { filters: vec![filter.clone()], ..Query::default() };
        total += ctx.documents.count(index, &Query::default()).await?;
        now += ctx.documents.count(index, &with(&current)).await?;
        ever += ctx.documents.count(index, &with(&enriched)).await?;
    }
    let last: Option<Progress> =
        cursor.and_then(|cursor| serde_json::from_value(cursor.clone()).ok());
    let last = last.unwrap_or_default();
    let left = total.saturating_sub(now);
    let seconds = match (last.started, last.updated) {
        (Some(started), Some(updated)) => updated.duration_since(started).as_secs_f64(),
        _ => 0.0,
    };
    let speed = (seconds > 0.0 && last.enriched > 0).then(|| last.enriched as f64 / seconds);
    Ok(json!({
        "total": total,
        "enriched": now,
        "by_an_older_question": ever.saturating_sub(now),
        "left": left,
        "per_hour": speed.map(|speed| (speed * 3600.0).round()),
        "left_s": speed.map(|speed| (left as f64 / speed).ceil()),
        "errors": last.errors,
        "resting": last.resting,
        "names_dropped": last.invented + last.unsaid,
        "tokens": last.prompt_tokens + last.completion_tokens,
        "cost": last.cost,
    }))
}

async fn reached(ctx: &Ctx, api: &Api) -> Result<Value> {
    let url = api.url("api/get/version")?;
    Ok(match read(ctx, api.get_openly(&url)).await {
        Ok(body) => {
            json!({"reachable": true, "url": shown(&url), "version": body["version"], "date": body["date"]})
        }
        Err(error) => {
            json!({"reachable": false, "url": shown(&url), "problem": error.chain(), "hint": error.hint_text()})
        }
    })
}

async fn token(ctx: &Ctx, api: &Api) -> Result<Value> {
    if !api.has_token() {
        return Ok(json!("not set"));
    }
    let url = api.url("api/check/apikey")?;
    Ok(match read(ctx, api.get(&url)).await {
        Ok(_) => json!("valid"),
        Err(error) if error.class() == Class::Config => {
            json!("refused: unset MALPEDIA_API_TOKEN, or correct it")
        }
        Err(error) => json!(format!("unknown: {}", error.chain())),
    })
}

async fn read(ctx: &Ctx, request: Request<'_>) -> Result<Value> {
    let url = shown(request.url());
    let Some(response) = ctx.http.send(request).await?.body()? else { return Ok(Value::Null) };
    bounded(&response.body)
        .map(|(body, _)| body)
        .map_err(|cause| Error::format(format!("read `{url}`: it is no JSON")).because(cause))
}
