//! What is deployed: the executables that `infra package` lays out, their machine, C library, size and start.
//!
//! A build of all 27 takes seven minutes, so it is asked for: `MINERVA_PACKAGE=x86_64` or `arm64`; `.ci/run` does it last.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tests::watch;

use super::platform::Platform;
use super::tasks::timetable;
use crate::documents::cache;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("what_would_not_start_is_not_packaged", what_would_not_start_is_not_packaged),
    ("artefacts_are_small_and_start_in_the_cloud", artefacts_are_small_and_start_in_the_cloud),
];

/// The largest archive that we want, in bytes. Lambda takes 50 MB directly.
const ZIP_BAR: u64 = 10_000_000;

/// The C library of `provided.al2023`.
const GLIBC: (u32, u32) = (2, 34);

/// How soon a function asks for its first event.
const NEXT_BAR: Duration = Duration::from_millis(40);

/// The architecture that is asked for, if one is.
fn architecture() -> Option<String> {
    base::config::variable("MINERVA_PACKAGE")
}

/// Why artefacts are not built here, if they are not.
pub(crate) fn unavailable() -> Option<String> {
    match architecture() {
        None => Some("`MINERVA_PACKAGE` names no architecture".to_owned()),
        Some(_) => builder().err(),
    }
}

/// The folder of `cargo-lambda` and of the Python that has zig.
fn builder() -> Result<PathBuf, String> {
    tests::pypi::programs(cache(), &[watch::PACKAGE, "ziglang"])
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn package(arguments: &[&str], path: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloud"))
        .args(["--json", "package"])
        .args(arguments)
        .current_dir(root())
        .env("PATH", path)
        .output()
        .unwrap()
}

fn what_would_not_start_is_not_packaged() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("lambda"), place.path().join("dist"));
    let small = fs::canonicalize("/bin/true").unwrap();
    for row in timetable().rows() {
        fs::create_dir_all(from.join(&row.name)).unwrap();
        symlink(&small, from.join(&row.name).join("bootstrap")).unwrap();
    }
    let folders = ["--from", from.to_str().unwrap(), "--out", to.to_str().unwrap()];
    let packaged =
        |arch: &str| package(&[&["--no-build", "--arch", arch][..], &folders].concat(), "");
    let (own, other) = match std::env::consts::ARCH {
        "aarch64" => ("arm64", "x86_64"),
        _ => ("x86_64", "arm64"),
    };
    let refused = packaged(other);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(!refused.status.success() && said.contains("another machine"), "{refused:?}");
    assert!(!to.exists(), "half a set was laid out");

    let whole = packaged(own);
    let artefacts: Value =
        serde_json::from_slice(&whole.stdout).unwrap_or_else(|_| panic!("{whole:?}"));
    assert_eq!(listed(&artefacts).len(), 27, "{artefacts}");
    let laid_out = || fs::read_dir(to.join(own)).unwrap().count();
    assert_eq!(laid_out(), 27);

    let missing = from.join("sync_otx_pulses/bootstrap");
    fs::remove_file(&missing).unwrap();
    let refused = packaged(own);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(!refused.status.success() && said.contains("sync_otx_pulses"), "{refused:?}");
    fs::write(&missing, "#!/bin/sh\n").unwrap();
    assert!(!packaged(own).status.success(), "a script is no executable");
    assert_eq!(laid_out(), 27, "what was laid out before stays");
}

/// The artefacts of an answer.
fn listed(answer: &Value) -> Vec<&Value> {
    let list = answer.as_array().or_else(|| answer["artefacts"].as_array());
    list.unwrap_or_else(|| panic!("{answer}")).iter().collect()
}

/// What an archive of an artefact is made of: its bytes, its mode and its age.
fn contents(folder: &Path) -> BTreeMap<String, (String, u32, SystemTime)> {
    use std::os::unix::fs::PermissionsExt as _;
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let read = |path: &Path| {
        let about = fs::metadata(path).unwrap();
        let sum = hex::encode(Sha256::digest(fs::read(path).unwrap()));
        (sum, about.permissions().mode(), about.modified().unwrap())
    };
    entries
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), read(&entry.path().join("bootstrap")))
        })
        .collect()
}

#[expect(clippy::print_stdout, reason = "the figures are what one runs it for")]
fn artefacts_are_small_and_start_in_the_cloud() {
    let architecture = architecture().expect("this test is skipped where none is asked for");
    let builder = builder().expect("this test is skipped where there is none");
    let variable = |name: &str| base::config::variable(name).unwrap_or_default();
    let path = format!("{}:{}", builder.display(), variable("PATH"));
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("dist");
    let arguments = ["--arch", &architecture, "--out", out.to_str().unwrap()];
    let build = || {
        let built = package(&arguments, &path);
        serde_json::from_slice::<Value>(&built.stdout).unwrap_or_else(|_| panic!("{built:?}"))
    };
    let answer = build();
    let dist = out.join(&architecture);
    let before = contents(&dist);
    for artefact in listed(&answer) {
        let task = artefact["task"].as_str().unwrap();
        let number = |name: &str| artefact[name].as_u64().unwrap();
        let glibc = artefact["glibc"].as_str().unwrap();
        println!(
            "{task:<30} {:>5.1} MB, zipped {:>4.1} MB, GLIBC {glibc}",
            number("bytes") as f64 / 1e6,
            number("zipped_bytes") as f64 / 1e6
        );
        assert!(number("zipped_bytes") <= ZIP_BAR, "{artefact}");
        let (major, minor) = glibc.split_once('.').unwrap();
        assert!((major.parse().unwrap(), minor.parse().unwrap()) <= GLIBC, "{artefact}");
        let machine = match architecture.as_str() {
            "arm64" => 0xB7,
            _ => 0x3E,
        };
        let head = fs::read(dist.join(task).join("bootstrap")).unwrap();
        assert_eq!((&head[..4], head[18]), (&b"\x7fELF"[..], machine), "{task}");
    }
    assert_eq!(before.len(), 27);

    // The same source, compiled again: one family of each kind, as all would take as long once more.
    let touched = root().join("functions/rss/src/lib.rs");
    let file = fs::File::options().append(true).open(touched).unwrap();
    #[expect(clippy::disallowed_methods, reason = "cargo goes by the machine's clock")]
    file.set_modified(SystemTime::now()).unwrap();
    build();
    assert_eq!(contents(&dist), before, "equal source, another archive");

    if architecture == "arm64" && std::env::consts::ARCH != "aarch64" {
        return;
    }
    let platform = Platform::start(&dist, &[]);
    for row in timetable().rows() {
        let figures = [(); 5].map(|()| platform.cold(&row.name));
        // The fastest of five, since the machine may be busy with something else.
        let fastest = figures.into_iter().min().unwrap();
        println!("{:<30} {:>5.1} ms to the first `next`", row.name, fastest.as_secs_f64() * 1e3);
        assert!(fastest <= NEXT_BAR, "{}: {figures:?}", row.name);
    }
}
