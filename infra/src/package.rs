//! The artefacts: the executables that `cargo lambda` built, checked and laid out as the template names them.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use base::{Error, Result};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;

use crate::families::FAMILIES;
use crate::template::Architecture;

/// The version of the C library in `provided.al2023`.
const GLIBC: (u32, u32) = (2, 34);

/// The largest archive that Lambda takes directly, in bytes. Source: Lambda quotas.
const ZIP_MAX: usize = 50 << 20;

/// Bytes of an ELF header that are looked at: its mark, class, byte order and machine.
const ELF_HEAD: usize = 20;

/// One function as it is deployed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Artefact {
    pub task: String,
    /// Size of the executable.
    pub bytes: usize,
    /// Size of its archive, about as SAM makes it.
    pub zipped_bytes: usize,
    /// The oldest C library that it starts with; none where it asks for no version.
    pub glibc: Option<String>,
}

/// Builds every function in one call of `cargo lambda`.
///
/// # Errors
/// `Config`, when it cannot be started or the build fails.
pub fn build(architecture: Architecture, into: &Path) -> Result<()> {
    let target = format!("{}-unknown-linux-gnu.{}.{}", machine(architecture).0, GLIBC.0, GLIBC.1);
    let mut command = Command::new("cargo");
    command.args(["lambda", "build", "--profile", "lambda", "--target", &target]);
    command.arg("--lambda-dir").arg(into);
    for family in FAMILIES {
        command.args(["-p", family.name]);
    }
    // What it prints is for people; our own answer may be JSON.
    let status = command
        .stdout(Stdio::null())
        .status()
        .map_err(|cause| Error::config("start `cargo lambda build`").because(cause))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::config(format!("build the functions: `cargo lambda build` ended with {status}"))
        .hint("`pip install cargo-lambda ziglang` in an activated virtual environment and `rustup target add` provide what it needs"))
}

/// Lays out `from/TASK/bootstrap` as `to/ARCH/TASK/bootstrap`, and takes away what is no task's.
///
/// What is equal is left as it is, and every file has one age, so that equal executables make equal archives.
///
/// # Errors
/// `Config`: an executable is missing, was built for something else, or cannot be written.
pub fn package(
    tasks: &[&str],
    architecture: Architecture,
    from: &Path,
    to: &Path,
) -> Result<Vec<Artefact>> {
    let folder = to.join(architecture.name());
    let mut artefacts = Vec::new();
    let read = |task: &str| -> Result<(PathBuf, Vec<u8>)> {
        let path = from.join(task).join("bootstrap");
        let body = fs::read(&path).map_err(|cause| {
            Error::config(format!("read `{}`", path.display()))
                .because(cause)
                .hint("`infra package` without `--no-build` builds it")
        })?;
        Ok((path, body))
    };
    // All are looked at before one is laid out: half a set is never deployed. Together they would take half a gigabyte, so
    // that each is read again.
    for task in tasks {
        let (path, body) = read(task)?;
        let glibc = check(&body, architecture).map_err(|says| {
            Error::config(format!("package `{}`: {says}", path.display()))
                .hint("`infra package` without `--no-build` builds it anew")
        })?;
        let zipped = zipped(&body);
        if zipped > ZIP_MAX {
            return Err(Error::config(format!(
                "package `{task}`: its archive has {zipped} bytes, and Lambda takes {ZIP_MAX}"
            )));
        }
        artefacts.push(Artefact {
            task: (*task).to_owned(),
            bytes: body.len(),
            zipped_bytes: zipped,
            glibc: glibc.map(|(major, minor)| format!("{major}.{minor}")),
        });
    }
    let failed = |path: &Path| {
        let text = format!("write `{}`", path.display());
        move |cause: std::io::Error| Error::config(text).because(cause)
    };
    for task in tasks {
        let (folder, (_, body)) = (folder.join(task), read(task)?);
        let path = folder.join("bootstrap");
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        place(&path, &body).map_err(failed(&path))?;
    }
    let entries = fs::read_dir(&folder).map_err(failed(&folder))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !tasks.iter().any(|task| name == **task) {
            fs::remove_dir_all(entry.path()).map_err(failed(&entry.path()))?;
        }
    }
    Ok(artefacts)
}

fn place(path: &Path, body: &[u8]) -> std::io::Result<()> {
    if fs::read(path).is_ok_and(|stored| stored == body) {
        return Ok(());
    }
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(body)?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    // An archive begins its years in 1980; this is 2000-01-01.
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800))?;
    fs::rename(new, path)
}

/// The name of the machine in a target, and its number in an ELF header.
fn machine(architecture: Architecture) -> (&'static str, u16) {
    match architecture {
        Architecture::Arm64 => ("aarch64", 0xB7),
        Architecture::X86 => ("x86_64", 0x3E),
    }
}

/// The oldest C library that an executable starts with.
fn check(body: &[u8], architecture: Architecture) -> Result<Option<(u32, u32)>, String> {
    let (name, number) = machine(architecture);
    let head = body.get(..ELF_HEAD).filter(|head| head.starts_with(b"\x7fELF\x02\x01"));
    let Some(head) = head else { return Err("it is no executable for Linux".to_owned()) };
    if u16::from_le_bytes([head[18], head[19]]) != number {
        return Err(format!("it is built for another machine than {name}"));
    }
    let needed = glibc(body);
    match needed {
        Some(version) if version > GLIBC => Err(format!(
            "it needs GLIBC {}.{}, and `provided.al2023` has {}.{}",
            version.0, version.1, GLIBC.0, GLIBC.1
        )),
        _ => Ok(needed),
    }
}

/// The highest version of the C library whose symbols are named.
fn glibc(body: &[u8]) -> Option<(u32, u32)> {
    const MARK: &[u8] = b"\0GLIBC_";
    let version = |at: usize| {
        let rest = &body[at + MARK.len()..];
        let end = rest.iter().take(12).position(|byte| *byte == 0)?;
        let text = std::str::from_utf8(&rest[..end]).ok()?;
        let (major, minor) = text.split_once('.')?;
        let minor = minor.split('.').next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    memchr::memmem::find_iter(body, MARK).filter_map(version).max()
}

fn zipped(body: &[u8]) -> usize {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    // A list of bytes takes everything.
    let _ = encoder.write_all(body);
    encoder.finish().map_or(0, |all| all.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16, versions: &[&str]) -> Vec<u8> {
        let mut body = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".to_vec();
        body.extend(machine.to_le_bytes());
        for version in versions {
            body.extend([b"\0GLIBC_", version.as_bytes()].concat());
        }
        body.push(0);
        body
    }

    #[test]
    fn what_would_not_start_is_refused() {
        let arm = |versions: &[&str]| check(&elf(0xB7, versions), Architecture::Arm64);
        assert_eq!(arm(&["2.17", "2.30", "2.2.5"]), Ok(Some((2, 30))));
        assert_eq!(arm(&[]), Ok(None));
        assert_eq!(arm(&["2.34", "PRIVATE"]), Ok(Some((2, 34))));
        assert!(arm(&["2.17", "2.36"]).unwrap_err().contains("2.36"));
        assert!(check(&elf(0x3E, &[]), Architecture::Arm64).unwrap_err().contains("aarch64"));
        for body in [&b""[..], b"#!/bin/sh", b"\x7fELF\x01\x01"] {
            check(body, Architecture::X86).unwrap_err();
        }
    }

    #[test]
    fn a_stale_one_stops_the_whole_and_strangers_go() {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("lambda"), place.path().join("dist"));
        let put = |task: &str, body: &[u8]| {
            fs::create_dir_all(from.join(task)).unwrap();
            fs::write(from.join(task).join("bootstrap"), body).unwrap();
        };
        put("a", &elf(0xB7, &["2.17"]));
        put("b", &elf(0x3E, &[]));
        let run = || package(&["a", "b"], Architecture::Arm64, &from, &to);
        let error = run().unwrap_err().to_string();
        assert!(error.contains("b/bootstrap") && !to.exists(), "{error}");
        put("b", &elf(0xB7, &[]));
        fs::create_dir_all(to.join("arm64/gone")).unwrap();
        let first = run().unwrap();
        let stat = || fs::metadata(to.join("arm64/a/bootstrap")).unwrap();
        let age = stat().modified().unwrap();
        assert_eq!((first.len(), stat().permissions().mode() & 0o777), (2, 0o755));
        assert!(!to.join("arm64/gone").exists());
        put("a", &elf(0xB7, &["2.30"]));
        assert_eq!(run().unwrap()[0].glibc.as_deref(), Some("2.30"));
        assert_eq!(stat().modified().unwrap(), age);
    }
}
