//! Programs from PyPI that tests and benchmarks run beside ours, each set in a virtual environment of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of programs, Python among them, of an environment that holds `packages` and what they depend on.
///
/// A package is `name==version`, or an option of pip. It is made once under `cache`, whoever asks at the same time.
///
/// # Errors
/// Why it cannot be had, for people.
pub fn programs(cache: &Path, packages: &[&str]) -> Result<PathBuf, String> {
    let name = packages.join("-").replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let folder = cache.join("pypi").join(name);
    let said = |cause: std::io::Error| format!("{}: {cause}", folder.display());
    fs::create_dir_all(&folder).map_err(said)?;
    let lock = File::create(folder.join("lock")).map_err(said)?;
    lock.lock().map_err(said)?;
    let (made, whole) = (folder.join("made"), folder.join("whole"));
    let programs = made.join("bin");
    if whole.exists() {
        return Ok(programs);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&made))?;
    let mut pip = Command::new(programs.join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    run(pip.args(packages))?;
    fs::write(whole, packages.join(" ")).map_err(said)?;
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
    let said = [output.stdout, output.stderr].concat();
    Err(format!("`{shown}` failed: {}", String::from_utf8_lossy(&said).trim()))
}
