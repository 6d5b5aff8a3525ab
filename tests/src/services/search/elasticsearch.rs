//! Elasticsearch as its own project tests it: the real server with few modules, from Maven Central.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{PASSWORD, is_root, java, run};

/// A version and what it needs.
#[derive(Clone, Copy)]
pub(super) struct Version {
    number: &'static str,
    java: u32,
    has_users: bool,
}

pub(super) const EIGHT: Version = Version { number: "8.19.16", java: 17, has_users: false };
pub(super) const NINE: Version = Version { number: "9.3.2", java: 21, has_users: true };

/// The unpacked server, fetched and unpacked once.
pub(super) fn parts(cache: &Path, version: Version) -> Result<PathBuf, String> {
    java(version.java)?;
    let name = format!("elasticsearch-{}", version.number);
    let home = cache.join(&name);
    if home.join("bin/elasticsearch").exists() {
        return Ok(home);
    }
    fs::create_dir_all(cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let artifact = format!(
        "org.elasticsearch.distribution.integ-test-zip:elasticsearch:{}:zip",
        version.number
    );
    run(Command::new("mvn")
        .args(["-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"])
        .arg(format!("-Dartifact={artifact}"))
        .arg(format!("-DoutputDirectory={}", cache.display())))?;
    let zip = cache.join(format!("{name}.zip"));
    // Unpacked beside its place and moved there, so that half of it is never taken for the whole.
    let part = cache.join(format!("part-{}", uuid::Uuid::new_v4()));
    run(Command::new("unzip").arg("-q").arg(&zip).arg("-d").arg(&part))?;
    for entry in fs::read_dir(part.join(&name).join("bin")).into_iter().flatten().flatten() {
        run(Command::new("chmod").arg("+x").arg(entry.path()))?;
    }
    let java = java(version.java)?;
    if version.has_users {
        let keystore = |command: &str| {
            let mut program = Command::new(part.join(&name).join("bin/elasticsearch-keystore"));
            program.args(command.split(' ')).env("ES_JAVA_HOME", &java);
            program
        };
        run(&mut keystore("create"))?;
        let mut add = keystore("add -x bootstrap.password");
        let mut adding = add.stdin(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let mut stdin = adding.stdin.take().expect("it is piped");
        stdin.write_all(PASSWORD.as_bytes()).map_err(|error| error.to_string())?;
        drop(stdin);
        adding.wait().map_err(|error| error.to_string())?;
    }
    if is_root() {
        run(Command::new("chown").args(["-R", "nobody:nogroup"]).arg(part.join(&name)))?;
    }
    let moved = fs::rename(part.join(&name), &home);
    let _ = fs::remove_dir_all(&part);
    let _ = fs::remove_file(&zip);
    if home.join("bin/elasticsearch").exists() {
        Ok(home)
    } else {
        moved.map(|()| home).map_err(|error| error.to_string())
    }
}

pub(super) fn command(
    home: &Path,
    data: &Path,
    (http, transport): (u16, u16),
    version: Version,
) -> Result<Command, String> {
    // The kernel ends the server with the thread that started it; as root it is another user's.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    if is_root() {
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        run(Command::new("chown").arg("nobody:nogroup").arg(data))?;
    }
    command
        .arg(home.join("bin/elasticsearch"))
        .env("ES_JAVA_HOME", java(version.java)?)
        .env("ES_JAVA_OPTS", "-Xms512m -Xmx512m")
        .env("ES_TMPDIR", data)
        .env("HOME", data);
    let settings = [
        "discovery.type=single-node".to_owned(),
        format!("xpack.security.enabled={}", version.has_users),
        "http.host=127.0.0.1".to_owned(),
        format!("http.port={http}"),
        "transport.host=127.0.0.1".to_owned(),
        format!("transport.port={transport}"),
        format!("path.data={}", data.join("data").display()),
        format!("path.logs={}", data.join("logs").display()),
        "cluster.routing.allocation.disk.threshold_enabled=false".to_owned(),
        "node.processors=2".to_owned(),
    ];
    for setting in settings {
        command.arg("-E").arg(setting);
    }
    Ok(command)
}
