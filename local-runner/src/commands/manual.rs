//! `completions` and `man`: what shells and `man` read, made of the command line itself.

use std::io::Write as _;
use std::path::Path;

use base::{Error, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_complete::env::Shells;
use serde_json::json;

use crate::cli::Cli;
use crate::out::{self, Outcome};

/// The variable by which a script asks this program.
const ASKS: &str = "COMPLETE";

/// `local-runner completions`.
pub(crate) fn completions(shell: Shell) -> Outcome {
    let shell = shell.to_string();
    let name = Cli::command().get_name().to_owned();
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let known = shells.completer(&shell).ok_or_else(|| {
        Error::config(format!("write completions for `{shell}`"))
            .hint("bash, zsh and fish are known")
    })?;
    known
        .write_registration(ASKS, &name, &name, &name, &mut script)
        .map_err(|cause| Error::config("write completions").because(cause))?;
    let mut out = std::io::stdout().lock();
    if out.write_all(&script).and_then(|()| out.flush()).is_err() {
        out::quit();
    }
    Ok(out::DONE)
}

/// `local-runner man`.
pub(crate) fn pages(cli: &Cli, to: &Path) -> Outcome {
    let written = write(to).map_err(|cause| {
        Error::config(format!("write the manual pages into `{}`", to.display())).because(cause)
    })?;
    if cli.json {
        out::json(&json!({"to": to, "pages": written}));
    } else {
        out::line(&format!("{written} pages in `{}`: `man local-runner`", to.display()));
    }
    Ok(out::DONE)
}

fn write(to: &Path) -> Result<usize, std::io::Error> {
    std::fs::create_dir_all(to)?;
    clap_mangen::generate_to(Cli::command(), to)?;
    Ok(std::fs::read_dir(to)?.count())
}
