//! The command line of `infra`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Makes the cloud keep the timetable: EventBridge and Lambda as infra/schedule.toml says.
#[derive(Debug, Parser)]
#[command(name = "infra", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 it failed or found something wrong, 2 wrong usage or settings, 3 AWS is unreachable.\n\
    Credentials and the Region are found as the AWS CLI finds them. docs/CLOUD.md is the guide."
)]
pub(crate) struct Cli {
    /// Answer with one JSON document
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Another timetable than the one compiled in
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) timetable: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the template and timetable.json
    Render(RenderArgs),
    /// Build every function once and lay the artefacts out as the template names them
    Package(PackageArgs),
    /// Show what a month costs at list price
    Cost {
        #[arg(long, default_value = "arm64")]
        arch: Arch,
    },
    /// Show what `apply` would change; nothing is changed
    Plan(RulesArgs),
    /// Make the rules, their targets and permissions as the timetable says, for functions that are there already
    ///
    /// For those who do not use the template. Only rules with the tag `managed-by=minerva-infra` are changed; one that a
    /// person stopped stays stopped. Interrupted, it is carried on by running it again.
    Apply(RulesArgs),
    /// Take away every rule that carries our tag, with its targets and permissions
    Destroy {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    /// What starts the functions by time: rules, which know UTC alone, or Scheduler, which knows zones
    #[arg(long, default_value = "rules")]
    pub(crate) target: Target,
    /// What the functions are built for
    #[arg(long, default_value = "arm64")]
    pub(crate) arch: Arch,
    /// Where the files go
    #[arg(long, value_name = "FOLDER", default_value = "infra")]
    pub(crate) out: PathBuf,
    /// Write nothing; end with 1 where a file there is stale
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PackageArgs {
    /// What the functions are built for
    #[arg(long, default_value = "arm64")]
    pub(crate) arch: Arch,
    /// Take what lies in `--from` instead of building it
    #[arg(long)]
    pub(crate) no_build: bool,
    /// Where `cargo lambda` puts each function's `bootstrap`
    #[arg(long, value_name = "FOLDER", default_value = "target/lambda")]
    pub(crate) from: PathBuf,
    /// Where the artefacts go: beside the template
    #[arg(long, value_name = "FOLDER", default_value = "infra/dist")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    /// ARN of the queue that takes what could not be delivered; it must let EventBridge send to it
    #[arg(long, value_name = "ARN")]
    pub(crate) dead_letters: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Target {
    Rules,
    Scheduler,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Arch {
    #[value(name = "arm64")]
    Arm64,
    #[value(name = "x86_64")]
    X86,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
