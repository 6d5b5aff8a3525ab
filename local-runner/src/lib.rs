//! Lambda and EventBridge for one machine: the timetable, its tasks and what they stored, on the command line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory as _;
use task::telemetry;

mod cli;
mod commands;
mod complete;
mod demo;
pub mod families;
mod figures;
mod home;
pub mod lambda;
mod logbook;
pub mod model_stand_in;
mod out;
mod page;
mod runner;
mod scheduler;
mod settings;
mod watch;
mod when;

pub use demo::StandIns;

/// The whole program, with this process's arguments.
pub fn main() -> ExitCode {
    if let Some(code) = yara::apart::serve() {
        return code;
    }
    // Asked by a shell for what could come next, it answers and ends.
    clap_complete::CompleteEnv::with_factory(cli::Cli::command).complete();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match cli::Cli::read(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Help that was asked for is no error.
            if error.use_stderr() && arguments.iter().any(|argument| argument == "--json") {
                let said = error.render().to_string();
                out::usage_json(
                    said.lines().next().unwrap_or_default().trim_start_matches("error: "),
                );
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(out::USAGE));
        }
    };
    out::set_style(&cli);
    // A function is a process of its own kind: it opens its own runtime and logs in Lambda's manner.
    if let cli::Command::Function { task } = &cli.command {
        return function(task);
    }
    telemetry::start(cli.log_filter());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return telemetry::complain(&format!("start the async runtime: {error}")),
    };
    match runtime.block_on(commands::run(&cli)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => out::complain(&cli, &error),
    }
}

fn function(task: &str) -> ExitCode {
    let family = families::FAMILIES
        .iter()
        .find(|family| family.tasks.iter().any(|known| known.name == task));
    match family {
        Some(family) => task::function::main_of(family, task),
        None => telemetry::complain(&format!("there is no task `{task}`")),
    }
}
