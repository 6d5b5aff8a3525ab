//! The engine of the three syncs: one tarball, fetched once, for rules and indicators, which are a source each.

use std::collections::HashSet;

use base::report::{Reject, Report, SourceReport};
use base::{Error, Result};
use fetch::{Limits, Request};
use serde_json::{Value, json};
use stores::documents::{Filter, Index, Pages, Scan};
use task::Ctx;
use task::source::{Answer, Begun, Stop, Visit};
use url::Url;
use yara::document::{INDEX as RULES, Origin};
use yara::store::{self, Collected};
use yara::{about, link, split};

use crate::FAMILY;
use crate::indicator::{INDEX as IOCS, Indicators, OWNER};
use crate::iocs::{self, Layout};
use crate::tarball;

/// The rules' source, as reports and cursors name it.
const RULES_SOURCE: &str = "rules";
/// The indicators' source.
const IOCS_SOURCE: &str = "iocs";

/// Indicators that are written together.
const BATCH: usize = 512;

const ACCEPT: &str = "application/gzip, application/x-gzip, application/x-tar, */*;q=0.5";

/// What a sync is for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The rules.
    pub rules: bool,
    /// The indicators.
    pub iocs: bool,
}

impl Wanted {
    fn sources(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let rules = self.rules.then_some((RULES_SOURCE, RULES));
        rules.into_iter().chain(self.iocs.then_some((IOCS_SOURCE, IOCS)))
    }
}

/// Where the rules come from.
pub fn origin(version: Option<String>) -> Origin {
    Origin {
        family: FAMILY.name,
        source_type: "repository",
        source: "signature_base",
        name: "Neo23x0/signature-base",
        files_url: "https://github.com/Neo23x0/signature-base/blob/master/",
        license: |file| match file {
            "vendor/yara/airbnb_binaryalert.yar" => Some("Apache License 2.0 (Airbnb BinaryAlert)"),
            file if file.starts_with("vendor/") => None,
            _ => Some(
                "Detection Rule License 1.1 https://github.com/Neo23x0/signature-base/blob/master/LICENSE",
            ),
        },
        category: about::category,
        version,
    }
}

/// Syncs what is wanted; what time does not suffice for is left to a continuation, which begins anew.
pub async fn sync(ctx: &Ctx, wanted: Wanted) -> Result<Report> {
    for (_, index) in wanted.sources() {
        ctx.documents.ensure(Index::named(index)?).await?;
    }
    let url = Url::parse(&ctx.config.sources.signature_base).map_err(|cause| {
        Error::config(format!("read the address `{}`", ctx.config.sources.signature_base))
            .because(cause)
            .hint("`SIGNATURE_BASE_URL` is the address of a `.tar.gz`")
    })?;
    let work = Box::pin(visit(ctx, wanted, &url));
    match tokio::time::timeout_at(ctx.deadline.soft_end().into(), work).await {
        Ok(done) => done,
        Err(_late) => {
            ctx.leave(json!({ "again": true })).await;
            let deferred = wanted.sources().map(|(source, index)| SourceReport {
                outcome: "deferred".to_owned(),
                ..SourceReport::new(source, index)
            });
            Report::of_sources(deferred.collect(), Vec::new())
        }
    }
}

/// A source that can be visited, or the report of why it cannot.
type Door<'a> = Result<Box<Visit<'a>>, Option<SourceReport>>;

async fn begin<'a>(ctx: &'a Ctx, wanted: bool, id: &str, index: &str) -> Result<Door<'a>> {
    if !wanted {
        return Ok(Err(None));
    }
    Ok(match Visit::begin(ctx, FAMILY.name, id, Index::named(index)?).await? {
        Begun::Visit(visit) => Ok(visit),
        Begun::Not(report) => Err(Some(*report)),
    })
}

async fn visit(ctx: &Ctx, wanted: Wanted, url: &Url) -> Result<Report> {
    let mut rules = begin(ctx, wanted.rules, RULES_SOURCE, RULES).await?;
    let mut iocs = begin(ctx, wanted.iocs, IOCS_SOURCE, IOCS).await?;
    let mut done = Done::default();
    let (mut for_rules, mut for_iocs) = (Ok(()), Ok(()));
    loop {
        match ask(&mut rules, &mut iocs, url).await {
            Err(stop) => {
                for_iocs = for_iocs.and(Err(stop.again()));
                for_rules = for_rules.and(Err(stop));
                break;
            }
            Ok(None) => break,
            Ok(Some(answer)) => {
                let mut contents = unpack(answer, rules.is_ok(), iocs.is_ok()).await?;
                if let Ok(visit) = &mut rules {
                    let stored = store_rules(ctx, visit, &mut contents, &mut done).await;
                    // Before the cursor moves: a run that ends here links when it comes again.
                    for_rules = match for_rules.and(stored) {
                        Ok(()) => tie(ctx, &mut done).await.map_err(Stop::from),
                        failed => failed,
                    };
                }
                if let Ok(visit) = &mut iocs {
                    for_iocs = for_iocs.and(store_iocs(ctx, visit, &contents, &mut done).await);
                }
            }
        }
    }
    let mut reports = Vec::new();
    for (door, work) in [(rules, for_rules), (iocs, for_iocs)] {
        match door {
            Ok(visit) => reports.push(visit.end(work).await?),
            Err(report) => reports.extend(report),
        }
    }
    Ok(Report::of_sources(reports, done.rejects)?.with_detail(Value::Object(done.detail)))
}

/// Ties the rules to families.
async fn tie(ctx: &Ctx, done: &mut Done) -> Result<()> {
    done.detail.insert("linked".to_owned(), link::link(ctx).await?);
    Ok(())
}

/// What a run has to tell beside its counts.
#[derive(Default)]
struct Done {
    rejects: Vec<Reject>,
    detail: serde_json::Map<String, Value>,
}

/// One request, whoever it is for.
async fn ask(rules: &mut Door<'_>, iocs: &mut Door<'_>, url: &Url) -> Result<Option<Answer>, Stop> {
    let get = Request::get(url).accept(ACCEPT).limits(Limits::ARCHIVE);
    match (rules, iocs) {
        (Ok(rules), Ok(iocs)) => rules.next_with(iocs, get).await,
        (Ok(rules), Err(_)) => rules.next(get).await,
        (Err(_), Ok(iocs)) => iocs.next(get).await,
        (Err(_), Err(_)) => Ok(None),
    }
}

/// What a tarball holds.
struct Contents {
    rules: Collected,
    iocs: Indicators,
    ioc_rejects: Vec<String>,
    version: Option<String>,
    rejects: Vec<String>,
    url: String,
    /// Why it was not read to its end; what is missing has not left then.
    broken: Option<String>,
}

/// Reads the tarball on a thread of its own and lets go of it.
async fn unpack(answer: Answer, rules: bool, iocs: bool) -> Result<Contents> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut contents = read(answer.body(), rules, iocs);
        contents.url = answer.url().to_owned();
        if answer.is_truncated() {
            contents.broken = Some("the connection ended early".to_owned());
        }
        contents
    });
    reading.await.map_err(|cause| {
        Error::format("read the tarball: the parser panicked")
            .because(cause)
            .hint("this is a bug: please report it with the tarball's commit")
    })
}

fn read(body: &[u8], rules: bool, iocs: bool) -> Contents {
    let mut collected = Collected::default();
    let mut indicators = Indicators::default();
    let mut ioc_rejects = Vec::new();
    let wanted =
        |name: &str| (rules && tarball::is_rules(name)) || (iocs && Layout::of(name).is_some());
    let outcome = tarball::read(body, wanted, |name, bytes| {
        if let Some(layout) = Layout::of(name).filter(|_| iocs) {
            let parsed = iocs::parse(layout, &bytes);
            ioc_rejects.extend(parsed.rejects.iter().map(|reason| format!("{name}: {reason}")));
            parsed.lines.into_iter().for_each(|line| indicators.add(name, layout, line));
        } else {
            collected.add(RULES_SOURCE, name, split(&bytes));
        }
    });
    let nothing = outcome.entries == 0;
    Contents {
        rules: collected,
        iocs: indicators,
        ioc_rejects,
        version: outcome.version,
        rejects: outcome.rejects,
        url: String::new(),
        broken: outcome.broken.or_else(|| nothing.then(|| "it is empty".to_owned())),
    }
}

impl Contents {
    /// The failure of a tarball that was not read to its end.
    fn unread(&self) -> Option<Stop> {
        let why = self.broken.as_ref()?;
        let error = Error::format(format!("read the tarball at `{}`: {why}", self.url))
            .hint("`SIGNATURE_BASE_URL` is the address of a `.tar.gz`; what could be read is stored, and it is asked for again");
        Some(Stop::new("unreadable", error))
    }

    /// Whether every file of it was read.
    fn is_complete(&self) -> bool {
        self.broken.is_none() && self.rejects.is_empty()
    }

    /// A tarball without anything of a kind is not that of this repository.
    fn without(&self, what: &str) -> Stop {
        let error = Error::format(format!(
            "read the tarball at `{}`: it holds no {what}",
            self.url
        ))
        .hint(
            "look whether the repository was moved or renamed; nothing that is stored was touched",
        );
        Stop::new("empty", error)
    }
}

async fn store_rules(
    ctx: &Ctx,
    visit: &mut Visit<'_>,
    contents: &mut Contents,
    done: &mut Done,
) -> Result<(), Stop> {
    let mut collected = std::mem::take(&mut contents.rules);
    if !collected.is_empty() {
        contents.rejects.iter().for_each(|reason| collected.reject(RULES_SOURCE, reason));
        let origin = origin(contents.version.clone());
        let is_complete = contents.is_complete();
        let outcome =
            store::store(ctx, visit, &origin, collected, is_complete, &mut done.rejects).await?;
        done.detail.insert("rules".to_owned(), outcome.detail());
        done.detail.insert("version".to_owned(), json!(contents.version));
    } else if contents.broken.is_none() {
        return Err(contents.without("YARA rule"));
    }
    contents.unread().map_or(Ok(()), Err)
}

async fn store_iocs(
    ctx: &Ctx,
    visit: &mut Visit<'_>,
    contents: &Contents,
    done: &mut Done,
) -> Result<(), Stop> {
    let index = Index::named(IOCS)?;
    if contents.iocs.is_empty() {
        return Err(contents.unread().unwrap_or_else(|| contents.without("indicator")));
    }
    let reasons = || contents.ioc_rejects.iter().chain(&contents.rejects);
    let counts = &mut visit.report().counts;
    let rejected = reasons().count() as u64;
    counts.found += contents.iocs.len() as u64 + contents.iocs.merged + rejected;
    counts.merged += contents.iocs.merged;
    counts.rejected += rejected;
    let shown = reasons().take(Report::REJECTS_SHOWN);
    done.rejects.extend(
        shown.map(|reason| Reject {
            source: IOCS_SOURCE.to_owned(),
            reason: reason.replace('\0', ""),
        }),
    );
    done.rejects.truncate(Report::REJECTS_SHOWN);

    let score = ctx.config.sources.signature_base_score.min(100);
    let mut present = HashSet::with_capacity(contents.iocs.len());
    let mut writes = Vec::with_capacity(BATCH);
    for write in contents.iocs.writes(contents.version.as_deref(), score, ctx.now()) {
        present.insert(write.id.clone());
        writes.push(write);
        if writes.len() == BATCH {
            visit.store(&writes).await?;
            writes.clear();
        }
    }
    visit.store(&writes).await?;
    let mut left = 0;
    if contents.is_complete() {
        let gone = gone(ctx, index, &present).await?;
        let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
        left = store::leave(ctx, index, &OWNER, &gone).await?;
    }
    done.detail.insert("iocs".to_owned(), json!({ "left": left }));
    done.detail.insert("version".to_owned(), json!(contents.version));
    contents.unread().map_or(Ok(()), Err)
}

/// Active documents whose values are no longer there.
async fn gone(ctx: &Ctx, index: &'static Index, present: &HashSet<String>) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    let is_active = Filter::Terms("active".to_owned(), vec!["true".to_owned()]);
    let scan = Scan { filters: vec![is_active], ..Scan::of(&[]) };
    let mut pages = Pages::new(ctx.documents.as_ref(), index, scan);
    while let Some(page) = pages.next().await? {
        let ids = page.into_iter().map(|document| document.id);
        gone.extend(ids.filter(|id| !present.contains(id)));
    }
    Ok(gone)
}
