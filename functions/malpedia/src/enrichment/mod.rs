//! The engine of the enrichment: which entries need a question, many questions at once, answers stored a few at a time.
//!
//! The checkpoint is the document: it says under which version and from which text it was enriched. So a run that is killed loses
//! no more than the answers that were on their way, and a run goes through all there is by ids, without a window.
//!
//! Nobody who asks waits for the store: entries are read in chunks ahead of those who ask, and answers are written while others
//! are on their way.

mod pages;
mod prompt;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::date::seconds;
use base::report::Outcome;
use base::{Error, Result};
use futures_util::future::{Either, select};
use futures_util::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use llm::{Model, Refusal};
use names::{Linked, Names};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stores::documents::{Body, DocumentReader, Index, Owner, Pages, Scan, Write};
use task::{Ctx, Stop, Visit, VisitLimits};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

use crate::reference::INDEX as LIBRARY;
use crate::settings::Settings;
pub(crate) use pages::PageReader;
use prompt::{Believed, Entry};

/// What the enrichment says of an entry, whichever index it is of. No sync writes these fields.
pub(crate) const OWNER: Owner = Owner {
    fields: &[
        "enriched_summary",
        "actors_mentioned",
        "families_mentioned",
        "enriched_at",
        "enrichment_version",
        "enriched_from",
        "enrichment_model",
    ],
    unhashed: &["enriched_at"],
    ..Owner::named("enrichment")
};

/// The indices that may be named, the library first.
pub(crate) const INDICES: [&str; 4] = base::checks::ARTICLE_INDICES;

/// Documents that are looked at together.
const PAGE: u32 = 200;
/// Entries that one run asks for at the most; the next run goes on.
const ENTRIES_MAX: usize = 40_000;
/// Times that an entry is tried before it rests until its text or the question changes.
const TRIES: u32 = 3;
/// Entries in a row without a usable answer after which it is the model and not they: none of them is charged for it.
const FAILURES_MAX: usize = 20;
/// Entries that are about to be asked for, asked for or not stored yet, for each question that the model may have at once: while
/// one is stored the next is there, so the model is not left waiting. It bounds what a killed run has asked for in vain.
const AHEAD: usize = 2;
/// Entries that are read together, ahead of those who ask.
const READ: usize = 32;
/// Such chunks that are read at the same time.
const READS_AHEAD: usize = 2;
/// The longest that an answer waits for others to be written with it. Half as many as the model may have at once are enough.
const GATHER: Duration = Duration::from_millis(250);
/// How often the progress is told to whoever looks at it meanwhile.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The source: a language model, asked about entries.
pub(crate) struct Enrichment {
    pub(crate) model: Model,
    pub(crate) settings: Settings,
    /// Reads pages, where the settings say so.
    pub(crate) pages: Option<PageReader>,
}

impl Enrichment {
    /// Its id.
    pub(crate) const ID: &str = "enrichment";
}

/// The indices that the settings name.
pub(crate) fn indices(settings: &Settings) -> impl Iterator<Item = &'static str> {
    INDICES
        .into_iter()
        .filter(|index| settings.enrich_indices.split(',').any(|named| named.trim() == *index))
}

/// The version under which entries are asked now.
pub(crate) fn version(settings: &Settings) -> String {
    prompt::version(&settings.enrich_language)
}

impl task::Source for Enrichment {
    fn id(&self) -> &str {
        Self::ID
    }

    fn indices(&self) -> &'static [&'static str] {
        if indices(&self.settings).eq([LIBRARY]) { &INDICES[..1] } else { &INDICES }
    }

    fn limits(&self) -> VisitLimits {
        VisitLimits { items: ENTRIES_MAX as u64 * 2, ..VisitLimits::DEFAULT }
    }
}

/// How far the enrichment is, for people: it decides nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Progress {
    /// The run that it is of; its continuations go on counting.
    pub(crate) run: String,
    pub(crate) started: Option<Timestamp>,
    pub(crate) updated: Option<Timestamp>,
    pub(crate) model: String,
    pub(crate) version: String,
    /// Entries that needed a question when the run began.
    pub(crate) needed: u64,
    pub(crate) enriched: u64,
    /// Entries without a usable answer, by what was wrong.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Entries that rest after so many tries.
    pub(crate) resting: u64,
    /// Names that were dropped as they are not stored, or as the entry says nothing of them.
    pub(crate) invented: u64,
    pub(crate) unsaid: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    /// By the prices of the settings.
    pub(crate) cost: Option<f64>,
}

impl Progress {
    /// Adds tokens of a prompt and of its answer.
    fn add(&mut self, (prompt, completion): (u64, u64)) {
        self.prompt_tokens += prompt;
        self.completion_tokens += completion;
    }
}

/// An entry that needs a question.
struct Need {
    index: &'static Index,
    id: String,
    /// By what it stands in the ledger: itself, its text and the version.
    key: String,
    /// The older, the earlier: when it was enriched, if ever, then when it came.
    since: String,
}

/// An entry that was read to be asked for.
struct Ready {
    need: Need,
    /// Nothing where it is there no longer.
    entry: Option<(Entry, Linked)>,
}

/// What came of one entry.
enum Came {
    Enriched {
        need: Need,
        from: String,
        believed: Believed,
        tokens: (u64, u64),
    },
    /// It has no usable answer.
    Failed {
        need: Need,
        kind: &'static str,
        reason: String,
        tokens: (u64, u64),
    },
    /// It is there no longer.
    Gone(Need),
    /// Nothing more can be asked now.
    Stopped {
        kind: &'static str,
        stop: Stop,
    },
    /// It was not asked for any more.
    Left,
}

/// Enriches what needs it, the oldest need first.
pub(crate) async fn enrich(visit: &mut Visit<'_>, source: &Enrichment) -> Result<(), Stop> {
    let ctx = visit.ctx();
    let version = version(&source.settings);
    let before = visit.cursor::<Progress>().filter(|one| one.run == ctx.run.run_id);
    let mut progress = before.unwrap_or_else(|| Progress {
        run: ctx.run.run_id.clone(),
        started: Some(ctx.now()),
        ..Progress::default()
    });
    progress.model = source.model.name().to_owned();
    progress.version.clone_from(&version);
    let needs = needs(visit, source, &version, &mut progress).await?;
    progress.needed = progress.enriched + needs.len() as u64;
    if needs.is_empty() {
        return Ok(());
    }
    let names = Arc::new(Names::read(ctx.documents.as_ref()).await?);
    let is_over = Cell::new(false);
    let ahead = AHEAD * source.model.concurrency();
    let unstored = Semaphore::new(ahead);
    let is_wanted = || !is_over.get() && !ctx.deadline.is_past();
    let chunks = chunks(needs).take_while(|_| is_wanted());
    let read = |chunk| read(Arc::clone(&ctx.documents), Arc::clone(&names), chunk);
    let ready = stream::iter(chunks).map(read).buffered(READS_AHEAD).flat_map(stream::iter);
    let ask_in_turn = async |ready: Result<Ready>| {
        let held = unstored.acquire().await.expect("the semaphore is never closed");
        let came = match ready {
            Err(error) => Came::Stopped { kind: "store", stop: error.into() },
            Ok(_) if !is_wanted() => Came::Left,
            Ok(ready) => ask(ctx, source, &names, ready).await,
        };
        (came, held)
    };
    let asking = ready.map(ask_in_turn).buffer_unordered(ahead);
    let mut keeper = Keeper {
        source,
        version: &version,
        progress,
        uncharged: Vec::new(),
        saved: None,
        is_over: &is_over,
        stop: None,
    };
    let kept = keep_all(visit, &mut keeper, pin!(asking)).await;
    source.model.hand_back(ctx).await?;
    kept?;
    keeper.charge(visit).await?;
    keeper.save(visit).await?;
    tell(visit, &keeper.progress);
    if let Some((read, unread)) = source.pages.as_ref().map(PageReader::counts) {
        visit.note(format!("{read} pages were read for their entries, {unread} could not be"));
    }
    // Those who are not asked now are deferred where time or the budget ran out.
    match keeper.stop {
        Some(stop) => Err(stop),
        None => {
            visit.is_late();
            Ok(())
        }
    }
}

/// Stores answers while others are on their way: the model is never left waiting for the store.
async fn keep_all<'s, S: Stream<Item = (Came, SemaphorePermit<'s>)> + Unpin>(
    visit: &mut Visit<'_>,
    keeper: &mut Keeper<'_>,
    mut asking: S,
) -> Result<(), Stop> {
    let enough = (keeper.source.model.concurrency() / 2).max(1);
    let (mut came, mut is_open) = (Vec::new(), true);
    loop {
        let wait = || tokio::time::Instant::now() + GATHER;
        let mut until = (!came.is_empty()).then(wait);
        while is_open && came.len() < enough {
            let next = match until {
                None => asking.next().await,
                Some(until) => match timeout_at(until, asking.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            match next {
                Some(one) => came.push(one),
                None => is_open = false,
            }
            until = until.or_else(|| Some(wait()));
        }
        if came.is_empty() {
            return Ok(());
        }
        let (batch, _held): (Vec<_>, Vec<_>) = std::mem::take(&mut came).into_iter().unzip();
        let mut storing = pin!(keeper.keep(visit, batch));
        loop {
            if !is_open {
                storing.await?;
                break;
            }
            match select(&mut storing, asking.next()).await {
                Either::Left((stored, _)) => {
                    stored?;
                    break;
                }
                Either::Right((Some(one), _)) => came.push(one),
                Either::Right((None, _)) => is_open = false,
            }
        }
    }
}

/// The needs in their order, a few together.
fn chunks(needs: Vec<Need>) -> impl Iterator<Item = Vec<Need>> {
    let mut needs = needs.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<Need> = needs.by_ref().take(READ).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Reads entries and whom they mean, in a task of its own: it goes on while nobody waits for it.
async fn read(
    documents: Arc<dyn DocumentReader>,
    names: Arc<Names>,
    chunk: Vec<Need>,
) -> Vec<Result<Ready>> {
    let reading = tokio::spawn(async move {
        let mut ready = Vec::with_capacity(chunk.len());
        let mut by_index: BTreeMap<&'static str, Vec<Need>> = BTreeMap::new();
        for need in chunk {
            by_index.entry(need.index.name).or_default().push(need);
        }
        for needs in by_index.into_values() {
            let ids: Vec<&str> = needs.iter().map(|need| need.id.as_str()).collect();
            let bodies = documents.fields_of(needs[0].index, &ids, &prompt::FIELDS).await?;
            ready.extend(needs.into_iter().zip(bodies).map(|(need, body)| {
                let entry = body.as_ref().and_then(Entry::of);
                let entry = entry.map(|entry| {
                    let linked = entry.linked(&names);
                    (entry, linked)
                });
                Ready { need, entry }
            }));
        }
        Ok::<_, Error>(ready)
    });
    match reading.await {
        Ok(Ok(ready)) => ready.into_iter().map(Ok).collect(),
        Ok(Err(error)) => vec![Err(error)],
        Err(cause) => vec![Err(Error::store("read entries to be asked for").because(cause))],
    }
}

/// The entries that need a question: never enriched, by another version, or of another text; what failed too often rests.
async fn needs(
    visit: &mut Visit<'_>,
    source: &Enrichment,
    version: &str,
    progress: &mut Progress,
) -> Result<Vec<Need>, Stop> {
    let noted = visit.noted().await?;
    let tries: HashMap<&str, u32> =
        noted.iter().map(|one| (one.id.as_str(), one.attempts)).collect();
    let mut all = Vec::new();
    progress.resting = 0;
    for name in indices(&source.settings) {
        let index = Index::named(name)?;
        let mut fields = prompt::FIELDS.to_vec();
        fields.extend(["enriched_at", "collected_at"]);
        let scan = Scan { limit: PAGE, ..Scan::of(&fields) };
        let mut pages = Pages::new(visit.ctx().documents.as_ref(), index, scan);
        while let Some(page) = pages.next().await? {
            visit.found(index, page.len() as u64);
            for document in page {
                let text = |name: &str| {
                    document.body.get(name).and_then(Value::as_str).unwrap_or_default()
                };
                let Some(entry) = Entry::of(&document.body) else {
                    visit.filtered(index, 1);
                    continue;
                };
                let digest = entry.digest();
                if text("enrichment_version") == version && text("enriched_from") == digest {
                    visit.unchanged(index, 1);
                    continue;
                }
                let key = format!("{}/{} {version} {digest}", index.name, document.id);
                if tries.get(key.as_str()).is_some_and(|tries| *tries >= TRIES) {
                    progress.resting += 1;
                    visit.filtered(index, 1);
                    continue;
                }
                let since = format!("{} {}", text("enriched_at"), text("collected_at"));
                all.push(Need { index, id: document.id, key, since });
            }
            if visit.is_late() {
                return Ok(Vec::new());
            }
        }
    }
    all.sort_by(|one, other| (&one.since, &one.id).cmp(&(&other.since, &other.id)));
    all.truncate(ENTRIES_MAX);
    Ok(all)
}

async fn ask(ctx: &Ctx, source: &Enrichment, names: &Names, ready: Ready) -> Came {
    let Ready { need, entry } = ready;
    let Some((mut entry, mut linked)) = entry else { return Came::Gone(need) };
    let from = entry.digest();
    if let (Some(pages), Some(url)) = (&source.pages, entry.page_to_read()) {
        entry.page = pages.text(ctx, &url).await;
        if entry.page.is_some() {
            linked = entry.linked(names);
        }
    }
    let question = prompt::question(&entry, &linked, names, &source.settings.enrich_language);
    let stopped = |outcome, reason: String| {
        let what = format!("ask the language model: {reason}");
        Stop::new(outcome, Error::upstream(what))
    };
    match source.model.ask(ctx, &question).await {
        Ok(answer) => match prompt::believe(&answer.value, &linked, names) {
            Ok(believed) => Came::Enriched {
                need,
                from,
                believed,
                tokens: (answer.prompt_tokens, answer.completion_tokens),
            },
            Err(reason) => {
                let tokens = (answer.prompt_tokens, answer.completion_tokens);
                Came::Failed { need, kind: "malformed", reason, tokens }
            }
        },
        Err(Refusal::Malformed { reason, prompt_tokens, completion_tokens }) => {
            let tokens = (prompt_tokens, completion_tokens);
            Came::Failed { need, kind: "malformed", reason, tokens }
        }
        Err(Refusal::Refused { reason }) => {
            Came::Failed { need, kind: "refused", reason, tokens: (0, 0) }
        }
        Err(Refusal::Budget { used_up, until }) => Came::Stopped {
            kind: "budget",
            stop: stopped(
                Outcome::BudgetSpent,
                format!("the day's {used_up} are used up until {until}"),
            ),
        },
        Err(Refusal::Busy { retry_after, reason }) => {
            let stop = stopped(Outcome::RateLimited, reason);
            let stop = match retry_after.try_into() {
                Ok(wait) => stop.retry_after(wait),
                Err(_) => stop,
            };
            Came::Stopped { kind: "busy", stop }
        }
        Err(Refusal::Unreachable { error }) => {
            Came::Stopped { kind: "unreachable", stop: error.into() }
        }
    }
}

/// What is done with what came.
struct Keeper<'k> {
    source: &'k Enrichment,
    version: &'k str,
    progress: Progress,
    /// Entries in a row without a usable answer, as the ledger knows them, and what was wrong: theirs, if others get one.
    uncharged: Vec<(String, String)>,
    /// When the progress was saved.
    saved: Option<Instant>,
    /// No more questions.
    is_over: &'k Cell<bool>,
    stop: Option<Stop>,
}

impl Keeper<'_> {
    async fn keep(&mut self, visit: &mut Visit<'_>, came: Vec<Came>) -> Result<(), Stop> {
        let at = seconds(visit.ctx().now());
        let mut writes: BTreeMap<&'static str, Vec<Write>> = BTreeMap::new();
        for one in came {
            match one {
                Came::Enriched { need, from, believed, tokens } => {
                    self.charge(visit).await?;
                    let progress = &mut self.progress;
                    progress.enriched += 1;
                    progress.invented += believed.invented;
                    progress.unsaid += believed.unsaid;
                    progress.add(tokens);
                    let write = self.write(need.id, &from, &at, &believed);
                    writes.entry(need.index.name).or_default().push(write);
                }
                Came::Failed { need, kind, reason, tokens } => {
                    self.progress.add(tokens);
                    *self.progress.errors.entry(kind.to_owned()).or_default() += 1;
                    visit.reject(need.index, format!("document {}: {reason}", need.id));
                    // Once it is the model, those that were on their way are not charged either.
                    if self.stop.is_none() {
                        self.uncharged.push((need.key, format!("{kind}: {reason}")));
                    }
                    if self.uncharged.len() >= FAILURES_MAX {
                        self.uncharged.clear();
                        let what = format!(
                            "use the model's answers: {FAILURES_MAX} in a row are none: {reason}"
                        );
                        let error = Error::format(what)
                            .hint("look at `LLM_MODEL`: a larger model keeps to the form");
                        self.end(Stop::new(Outcome::Unreadable, error));
                    }
                }
                Came::Gone(need) => visit.filtered(need.index, 1),
                Came::Stopped { kind, stop } => {
                    *self.progress.errors.entry(kind.to_owned()).or_default() += 1;
                    self.end(stop);
                }
                Came::Left => {}
            }
        }
        for (index, writes) in writes {
            // In a task of its own, so that what it plans holds up nobody who asks.
            let storing = visit.begin_to_store(Index::named(index)?, writes);
            visit.stored(storing).await?;
        }
        match self.saved {
            Some(saved) if saved.elapsed() < PROGRESS_EVERY => Ok(()),
            _ => self.save(visit).await,
        }
    }

    /// Charges entries for having no usable answer, as it was not the model.
    async fn charge(&mut self, visit: &Visit<'_>) -> Result<(), Stop> {
        for (key, reason) in self.uncharged.drain(..) {
            visit.note_refused(key, reason).await?;
        }
        Ok(())
    }

    async fn save(&mut self, visit: &mut Visit<'_>) -> Result<(), Stop> {
        let progress = &mut self.progress;
        progress.cost = self.source.model.cost(progress.prompt_tokens, progress.completion_tokens);
        progress.updated = Some(visit.ctx().now());
        self.saved = Some(Instant::now());
        visit.save(json!(progress)).await
    }

    /// Asks nothing more; the first reason is told.
    fn end(&mut self, stop: Stop) {
        self.is_over.set(true);
        self.stop.get_or_insert(stop);
    }

    fn write(&self, id: String, from: &str, at: &str, believed: &Believed) -> Write {
        let fields = [
            ("enriched_summary", json!(believed.summary)),
            ("actors_mentioned", json!(believed.actors)),
            ("families_mentioned", json!(believed.families)),
            ("enriched_at", json!(at)),
            ("enrichment_version", json!(self.version)),
            ("enriched_from", json!(from)),
            ("enrichment_model", json!(self.source.model.name())),
        ];
        Write::of(
            id,
            &OWNER,
            fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<Body>(),
        )
    }
}

/// Tells what the numbers of the report do not.
fn tell(visit: &mut Visit<'_>, progress: &Progress) {
    let cost = progress
        .cost
        .map_or_else(String::new, |cost| format!(", about {cost:.4} by the prices that are set"));
    visit.note(format!(
        "{} enriched of {} that needed it, {} prompt and {} completion tokens{cost}",
        progress.enriched, progress.needed, progress.prompt_tokens, progress.completion_tokens
    ));
    if progress.invented + progress.unsaid > 0 {
        visit.note(format!(
            "{} names of answers are dropped as nobody stored bears them, {} as their entry does not name them",
            progress.invented, progress.unsaid
        ));
    }
    if progress.resting > 0 {
        visit.note(format!(
            "{} entries rest after {TRIES} tries, until their text or the question changes",
            progress.resting
        ));
    }
}
