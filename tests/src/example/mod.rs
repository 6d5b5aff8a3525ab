//! A family that exists for the contract alone: what a manifest of thousands, two indices in one visit, a body of gigabytes and
//! keys with a budget ask of a visit, before a real family does.
//!
//! `src/bin/example.rs` runs one of its tasks, or of the MISP family's, once, in a process of its own that a trial can kill.

use std::process::ExitCode;

use base::config::{Config, DeclaredSettings};
use task::{Family, Registered};

mod read_costly;
mod read_endless;
mod read_lines;
mod read_manifest;
mod read_two_indices;
mod source;
mod use_keys;

pub use self::read_costly::PARSING;
pub use self::read_endless::ITEMS_MAX;
pub use self::source::{INDICATORS, NAME, PULSES, Settings};

/// The family and its tasks.
pub const FAMILY: Family = Family {
    tasks: &[
        Registered::of::<read_manifest::ReadManifest>(NAME),
        Registered::of::<read_two_indices::ReadTwoIndices>(NAME),
        Registered::of::<read_lines::ReadLines>(NAME),
        Registered::of::<read_costly::ReadCostly>(NAME),
        Registered::of::<read_endless::ReadEndless>(NAME),
        Registered::of::<use_keys::UseKeys>(NAME),
    ],
    settings: DeclaredSettings::of::<Settings>(),
    ..Family::named(NAME)
};

/// Runs a task once: `example TASK MILLISECONDS EVENT REQUEST`, and prints its report and the continuations that it sent.
pub fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let [_, name, time, event, request] = words.as_slice() else { return ExitCode::from(2) };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let printed = runtime.expect("the runtime starts").block_on(async {
        let config = Config::from_env(&[FAMILY.settings, misp::FAMILY.settings])
            .expect("the trial's settings are right");
        let home = task::function::Home::open(config).await.expect("the stores open");
        let home = task::function::Home { events: task::events::Events::kept(), ..home };
        let mut tasks = FAMILY.tasks.iter().chain(misp::FAMILY.tasks);
        let task = tasks.find(|task| task.name == name).expect("it is listed");
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
