//! `install --systemd`: the unit, the user, the folders and the file of settings, and what was done.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base::{Error, Result};
use serde_json::json;

use crate::cli::{Cli, InstallArgs};
use crate::out::{self, Outcome};

/// Where this program goes.
const PROGRAM: &str = "usr/local/bin/local-runner";

/// The files: where, with which rights, and what is in them. One that people edit is left where it is there already.
const FILES: [(&str, u32, bool, &str); 3] = [
    (
        "etc/systemd/system/minerva.service",
        0o644,
        false,
        include_str!("../../packaging/minerva.service"),
    ),
    ("etc/sysusers.d/minerva.conf", 0o644, false, include_str!("../../packaging/sysusers.conf")),
    ("etc/minerva/minerva.env", 0o600, true, include_str!("../../packaging/minerva.env")),
];

/// `local-runner install`.
pub(crate) fn install(cli: &Cli, args: &InstallArgs) -> Outcome {
    let mut steps = Vec::new();
    let own = std::env::current_exe()
        .map_err(|cause| Error::config("find this program's own file").because(cause))?;
    let program = args.root.join(PROGRAM);
    if own == program {
        steps.push(format!("keep `{}`", program.display()));
    } else {
        steps.push(format!("copy this program to `{}` (0755)", program.display()));
        if !args.dry_run {
            put(&program, 0o755, &fs::read(&own).map_err(|cause| failed(&own, cause))?)?;
        }
    }
    for (place, mode, is_edited, text) in FILES {
        let path = args.root.join(place);
        if is_edited && path.exists() {
            steps.push(format!("keep `{}`", path.display()));
            continue;
        }
        steps.push(format!("write `{}` ({mode:04o})", path.display()));
        if !args.dry_run {
            put(&path, mode, text.as_bytes())?;
        }
    }
    if args.root == Path::new("/") {
        for (program, arguments) in
            [("systemd-sysusers", &["minerva.conf"][..]), ("systemctl", &["daemon-reload"])]
        {
            steps.push(format!("run `{program} {}`", arguments.join(" ")));
            if !args.dry_run {
                run(program, arguments)?;
            }
        }
    }
    let next = "systemctl enable --now minerva";
    if cli.json {
        out::json(&json!({"dry_run": args.dry_run, "steps": steps, "next": next}));
        return Ok(out::DONE);
    }
    let would = if args.dry_run { "would " } else { "" };
    steps.iter().for_each(|step| out::line(&format!("{would}{step}")));
    out::line(&format!("then: edit /etc/minerva/minerva.env, and {next}"));
    Ok(out::DONE)
}

fn failed(path: &Path, cause: std::io::Error) -> Error {
    let error = Error::config(format!("install `{}`", path.display()));
    let hint = match cause.kind() {
        std::io::ErrorKind::PermissionDenied => "this needs root: use `sudo`",
        _ => "`--dry-run` shows what is written where",
    };
    error.because(cause).hint(hint)
}

/// Writes a file in one step, with its rights from the start.
fn put(path: &Path, mode: u32, body: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut new: PathBuf = path.to_path_buf();
    new.set_extension("new");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&new, []))
        .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(mode)))
        .and_then(|()| fs::write(&new, body))
        .and_then(|()| fs::rename(&new, path))
        .map_err(|cause| failed(path, cause))
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let wrong = || Error::config(format!("run `{program} {}`", arguments.join(" ")));
    let status =
        Command::new(program).args(arguments).status().map_err(|cause| wrong().because(cause))?;
    if status.success() { Ok(()) } else { Err(wrong().because(format!("it ended with {status}"))) }
}
