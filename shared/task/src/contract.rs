//! The contract of a task: a name, what it reaches, an input whose default is the scheduled run, and one async function.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::clock::Deadline;
use base::config::{Config, DeclaredSettings, Settings};
use base::report::Report;
use base::{Error, Result};
use fetch::Http;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use stores::documents::{Adopter, DocumentReader, Documents, Identity, Index, Owner};
use stores::state::{State, StateReader};

use crate::answer::SharedAnswer;
use crate::archive::Archive;
use crate::catalog::{Check, SourceCatalog};
use crate::limits::{STEP, Used};

/// A part of the world that a task reaches, which decides what the contract asks of it. A task names every one it may use, under
/// whatever settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaches {
    /// Upstream servers, over the network.
    Network,
    /// Files of a folder or a bucket.
    Files,
    /// Servers, folders and buckets that it gives to.
    Destinations,
    /// Documents and state, to write.
    Stores,
}

/// One of the tasks.
pub trait Task {
    /// The name, the same everywhere: file, binary, function, timetable row, log field.
    const NAME: &'static str;
    /// What it reaches; a task that names nothing computes on what is stored.
    const REACHES: &'static [Reaches];
    /// What it can be asked; the default is the scheduled run. Derive it with `#[serde(default, deny_unknown_fields)]`.
    type Input: DeserializeOwned + Default;

    /// Does the work once. Twice must be harmless.
    fn run(ctx: &Ctx, input: Self::Input) -> impl Future<Output = Result<Report>>;
}

/// The input of a task that takes none.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoInput {}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Report>> + 'a>>;

/// A task in its family's list.
#[derive(Clone, Copy)]
pub struct Registered {
    pub name: &'static str,
    pub family: &'static str,
    /// What it reaches.
    pub reaches: &'static [Reaches],
    check: fn(&Value) -> Result<()>,
    run: for<'a> fn(&'a Ctx, Value) -> Running<'a>,
}

impl Registered {
    /// The entry of a task of this family.
    pub const fn of<T: Task>(family: &'static str) -> Self {
        Self {
            name: T::NAME,
            family,
            reaches: T::REACHES,
            check: |input| read_input::<T>(input.clone()).map(drop),
            run: |ctx, input| Box::pin(async move { T::run(ctx, read_input::<T>(input)?).await }),
        }
    }

    /// Whether it may reach this part of the world.
    pub fn may_reach(&self, part: Reaches) -> bool {
        self.reaches.contains(&part)
    }

    /// Refuses an input that the task does not understand.
    ///
    /// # Errors
    /// `Config`, naming the field and those it knows.
    pub fn check_input(&self, input: &Value) -> Result<()> {
        (self.check)(input)
    }

    /// Runs the task.
    ///
    /// # Errors
    /// What the task could not do.
    pub async fn run(&self, ctx: &Ctx, input: Value) -> Result<Report> {
        (self.run)(ctx, input).await
    }
}

fn read_input<T: Task>(input: Value) -> Result<T::Input> {
    if input.is_null() {
        return Ok(T::Input::default());
    }
    // serde would also read a struct's fields from a list, by their order.
    if !input.is_object() {
        return Err(Error::config(format!(
            "read the input of `{}`: it is no JSON object",
            T::NAME
        ))
        .hint(format!("`local-runner help tasks {}` shows its input", T::NAME)));
    }
    serde_json::from_value(input).map_err(|cause| {
        Error::config(format!("read the input of `{}`", T::NAME))
            .because(cause)
            .hint(format!("`local-runner help tasks {}` shows its input", T::NAME))
    })
}

/// A family: everything that the command line, `doctor`, the demo and the tests need to serve it without knowing it.
#[derive(Clone, Copy)]
pub struct Family {
    /// Its name, as in `functions/<name>`.
    pub name: &'static str,
    pub tasks: &'static [Registered],
    /// The settings that it declares.
    pub settings: DeclaredSettings,
    /// Who writes into which index; an owner stands once for each of its indices.
    pub owners: &'static [(&'static str, &'static Owner)],
    /// How it knows its own in indices of the predecessor.
    pub adopters: &'static [Adopter],
    /// Its sources, for listing, trying and changing them.
    pub sources: SourceCatalog,
    /// What `doctor` asks of it.
    pub checks: &'static [Check],
}

impl Family {
    /// A family of that name with nothing in it yet.
    pub const fn named(name: &'static str) -> Self {
        Self {
            name,
            tasks: &[],
            settings: DeclaredSettings::NONE,
            owners: &[],
            adopters: &[],
            sources: SourceCatalog::NONE,
            checks: &[],
        }
    }
}

/// The current run.
#[derive(Clone, Debug)]
pub struct Run {
    pub task: String,
    /// The run's id, the same over attempts and continuations.
    pub run_id: String,
    /// The instant it was scheduled for; none on demand.
    pub slot: Option<Timestamp>,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// How many continuations came before this one.
    pub step: u32,
    /// Where an earlier step, or an orphan, left off.
    pub checkpoint: Option<Value>,
}

/// A task's only way to the world, each part of it a narrow view: a task reads documents and state here, and writes through a
/// visit. It cannot delete, finish a run or settle another's row.
pub struct Ctx {
    /// The settings.
    pub config: Arc<Config>,
    /// The family that the task is of.
    pub family: &'static str,
    /// Requests, with limits.
    pub http: Http,
    /// What is stored.
    pub documents: Arc<dyn DocumentReader>,
    /// How sources fare, and how runs ended.
    pub ledger: Arc<dyn StateReader>,
    /// The current run.
    pub run: Run,
    /// When it must have answered.
    pub deadline: Deadline,
    pub(crate) store: Arc<dyn Documents>,
    pub(crate) state: Arc<dyn State>,
    pub(crate) archive: Archive,
    /// What this step of the run has given to the stores.
    pub(crate) given: Used,
    begun: Instant,
    left: Mutex<Option<Value>>,
    identities: tokio::sync::Mutex<HashMap<&'static str, Identity>>,
    shared_answers: Mutex<HashMap<String, SharedAnswer>>,
}

impl Ctx {
    /// A context for one run of a family's task.
    pub fn new(
        home: &crate::function::Home,
        family: &'static str,
        run: Run,
        deadline: Deadline,
    ) -> Self {
        Self {
            config: Arc::clone(&home.config),
            family,
            http: home.http.clone(),
            documents: Arc::clone(&home.documents) as Arc<dyn DocumentReader>,
            ledger: Arc::clone(&home.state) as Arc<dyn StateReader>,
            run,
            deadline,
            store: Arc::clone(&home.documents),
            state: Arc::clone(&home.state),
            archive: home.archive.clone(),
            given: Used::default(),
            begun: Instant::now(),
            left: Mutex::default(),
            identities: tokio::sync::Mutex::default(),
            shared_answers: Mutex::default(),
        }
    }

    /// The time, as the settings tell it.
    pub fn now(&self) -> Timestamp {
        self.config.behaviour.clock.now(self.run.slot)
    }

    /// The family's own settings.
    ///
    /// # Errors
    /// `Config`, with all problems in one message.
    pub fn settings<T: Settings>(&self) -> Result<T> {
        self.config.of()
    }

    /// Whether this step of the run has stored as much as it may.
    pub(crate) fn is_full(&self) -> bool {
        self.given.is_full(STEP)
    }

    /// How long this step of the run may work, from its begin.
    pub(crate) fn time_for_work(&self) -> Duration {
        self.deadline.soft_end().saturating_duration_since(self.begun)
    }

    /// Leaves the rest of the work to a continuation, which finds `checkpoint` in [`Run::checkpoint`].
    pub(crate) fn leave(&self, checkpoint: Value) {
        *locked(&self.left) = Some(checkpoint);
    }

    /// What was left, once.
    pub(crate) fn take_left(&self) -> Option<Value> {
        locked(&self.left).take()
    }

    /// Which store an index is in, asked once a run; and whether it has lost what stood there at `earlier`, by what a source
    /// remembers.
    pub(crate) async fn identity(
        &self,
        index: &'static Index,
        earlier: Option<&Identity>,
    ) -> Result<(Identity, bool)> {
        let mut known = self.identities.lock().await;
        let mut identity = match known.get(index.name) {
            Some(identity) => identity.clone(),
            None => self.store.identity(index).await?,
        };
        let has_lost =
            |identity: &Identity| earlier.is_some_and(|earlier| identity.has_lost(earlier));
        let mut is_lost = has_lost(&identity);
        if is_lost && earlier.is_some_and(|earlier| identity.store == earlier.store) {
            // Another run may have written since this one began.
            identity = self.store.identity(index).await?;
            is_lost = has_lost(&identity);
            if is_lost {
                // Once this source is read again, the index would look like one that lost nothing.
                identity = self.store.renew(index, identity).await?;
            }
        }
        known.insert(index.name, identity.clone());
        Ok((identity, is_lost))
    }

    /// An answer that an earlier visit of this run shares.
    pub(crate) fn shared_answer(&self, url: &str) -> Option<SharedAnswer> {
        locked(&self.shared_answers).get(url).cloned()
    }

    pub(crate) fn share_answer(&self, url: &str, answer: SharedAnswer) {
        locked(&self.shared_answers).insert(url.to_owned(), answer);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
