//! A family that exists for the contract alone: what a manifest of thousands, two indices in one visit, a body of gigabytes and
//! keys with a budget ask of a visit, before a real family does.
//!
//! `src/bin/example.rs` runs one of its tasks once, in a process of its own that a trial can kill.

use std::process::ExitCode;

use base::config::{Config, DeclaredSettings};
use stores::documents::Owner;
use task::{Family, Registered};

mod read_lines;
mod read_manifest;
mod read_two_indices;
mod use_keys;

/// The family's name, in ids of documents and sources too.
pub const NAME: &str = "example";

/// The family and its tasks.
pub const FAMILY: Family = Family {
    tasks: &[
        Registered::of::<read_manifest::ReadManifest>(NAME),
        Registered::of::<read_two_indices::ReadTwoIndices>(NAME),
        Registered::of::<read_lines::ReadLines>(NAME),
        Registered::of::<use_keys::UseKeys>(NAME),
    ],
    settings: DeclaredSettings::of::<Settings>(),
    ..Family::named(NAME)
};

base::settings! {
    /// What the family is given.
    pub struct Settings {
        /// Where its upstream is.
        url: Option<url::Url> = "", "EXAMPLE_URL";
    }
}

/// The index of children, pulses and pages.
pub const PULSES: &str = "otx_pulses";

/// The index of what stands in them.
pub const INDICATORS: &str = "otx_indicators";

/// What the family writes into a pulse.
const PULSE: Owner = Owner {
    name: "example_pulse",
    fields: &["name", "description", "active"],
    unhashed: &[],
    insert_only: &[],
    fallback: &[],
    shared: &[],
    derived: &[],
    derive: None,
};

/// What it writes into an indicator.
const INDICATOR: Owner = Owner { name: "example_indicator", fields: &["value", "active"], ..PULSE };

/// The one source of each of its tasks.
#[derive(Clone, Copy)]
struct Only {
    id: &'static str,
    indices: &'static [&'static str],
}

impl task::Source for Only {
    fn id(&self) -> &str {
        self.id
    }

    fn indices(&self) -> &'static [&'static str] {
        self.indices
    }
}

fn url(ctx: &task::Ctx, path: &str) -> base::Result<url::Url> {
    let base = ctx.settings::<Settings>()?.url;
    let base =
        base.ok_or_else(|| base::Error::config("find the upstream: `EXAMPLE_URL` is unset"))?;
    base.join(path)
        .map_err(|cause| base::Error::config(format!("build the address `{path}`")).because(cause))
}

/// Runs a task once: `example TASK MILLISECONDS EVENT REQUEST`, and prints its report and the continuations that it sent.
pub fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let [_, name, time, event, request] = words.as_slice() else { return ExitCode::from(2) };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let printed = runtime.expect("the runtime starts").block_on(async {
        let config = Config::from_env(&[FAMILY.settings]).expect("the trial's settings are right");
        let home = task::function::Home::open(config).await.expect("the stores open");
        let home = task::function::Home { events: task::events::Events::kept(), ..home };
        let task = FAMILY.tasks.iter().find(|task| task.name == name).expect("it is listed");
        let time = std::time::Duration::from_millis(time.parse().expect("a number"));
        let event = serde_json::from_str(event).expect("the event is JSON");
        let deadline = base::clock::Deadline::after(time);
        let report = task::function::invoke(&home, task, event, request, deadline).await;
        serde_json::json!({ "report": report, "continuations": home.events.sent() })
    });
    print(&printed.to_string());
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "the trial reads it")]
fn print(text: &str) {
    println!("{text}");
}
