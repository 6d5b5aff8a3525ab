//! The contract of a task: a name, an input whose default is the scheduled run, and one async function.

use std::pin::Pin;
use std::sync::Arc;

use base::clock::Deadline;
use base::config::Config;
use base::report::Report;
use base::{Error, Result};
use fetch::Http;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use stores::documents::Documents;
use stores::state::State;
use tokio::sync::Mutex;

use crate::archive::Archive;

/// What a task does with the world, which decides what the contract asks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Fetches from sources.
    Fetches,
    /// Reads files from a folder or a bucket.
    ReadsFiles,
    /// Works on what is stored.
    Computes,
}

/// One of the tasks.
pub trait Task {
    /// The name, the same everywhere: file, binary, function, timetable row, log field.
    const NAME: &'static str;
    /// What it does with the world.
    const KIND: Kind;
    /// What it can be asked; the default is the scheduled run. Derive it with `#[serde(default, deny_unknown_fields)]`.
    type Input: DeserializeOwned + Default + Send;

    /// Does the work once. Twice must be harmless.
    fn run(ctx: &Ctx, input: Self::Input) -> impl Future<Output = Result<Report>> + Send;
}

/// The input of a task that takes none.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoInput {}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Report>> + Send + 'a>>;

/// A task in its family's list.
#[derive(Clone, Copy)]
pub struct Registered {
    /// Its name.
    pub name: &'static str,
    /// What it does with the world.
    pub kind: Kind,
    check: fn(&Value) -> Result<()>,
    run: for<'a> fn(&'a Ctx, Value) -> Running<'a>,
}

impl Registered {
    /// The entry of a task.
    pub const fn of<T: Task>() -> Self {
        Self {
            name: T::NAME,
            kind: T::KIND,
            check: |input| read_input::<T>(input.clone()).map(drop),
            run: |ctx, input| Box::pin(async move { T::run(ctx, read_input::<T>(input)?).await }),
        }
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
        .hint("docs/TASKS.md shows each task's input"));
    }
    serde_json::from_value(input).map_err(|cause| {
        Error::config(format!("read the input of `{}`", T::NAME))
            .because(cause)
            .hint("docs/TASKS.md shows each task's input")
    })
}

/// A family's tasks, listed once in its `lib.rs`.
#[derive(Clone, Copy)]
pub struct Family {
    /// Its name, as in `functions/<name>`.
    pub name: &'static str,
    /// Its tasks.
    pub tasks: &'static [Registered],
}

/// The run at hand.
#[derive(Clone, Debug)]
pub struct Run {
    /// The task.
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

/// A task's only way to the world.
pub struct Ctx {
    /// The settings.
    pub config: Arc<Config>,
    /// Requests, with limits.
    pub http: Http,
    /// The document store.
    pub documents: Arc<dyn Documents>,
    /// Cursors, health, leases.
    pub state: Arc<dyn State>,
    /// Responses as they were fetched.
    pub archive: Archive,
    /// The run at hand.
    pub run: Run,
    /// When it must have answered.
    pub deadline: Deadline,
    left: Mutex<Option<Value>>,
}

impl Ctx {
    /// A context for one run.
    pub fn new(home: &crate::function::Home, run: Run, deadline: Deadline) -> Self {
        Self {
            config: Arc::clone(&home.config),
            http: home.http.clone(),
            documents: Arc::clone(&home.documents),
            state: Arc::clone(&home.state),
            archive: home.archive.clone(),
            run,
            deadline,
            left: Mutex::default(),
        }
    }

    /// The time, as the settings tell it.
    pub fn now(&self) -> Timestamp {
        self.config.behaviour.clock.now(self.run.slot)
    }

    /// Leaves the rest of the work to a continuation, which finds `checkpoint` in [`Run::checkpoint`].
    pub async fn leave(&self, checkpoint: Value) {
        *self.left.lock().await = Some(checkpoint);
    }

    /// What was left, once.
    pub(crate) async fn take_left(&self) -> Option<Value> {
        self.left.lock().await.take()
    }
}
