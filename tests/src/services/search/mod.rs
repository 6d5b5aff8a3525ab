//! Elasticsearch and OpenSearch, without containers: their parts from Maven, started when first wanted, stopped at the end.
//!
//! A server whose address stands in the environment is used instead, and only what a test made there is removed.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, io};

use url::Url;

mod call;
mod elasticsearch;
mod opensearch;

pub use call::{ServerAnswer, call};

/// From a server's start to its first answer; the slowest seen was 40 s, beside a compiler.
const START_MAX: Duration = Duration::from_secs(180);
/// From being asked to end to being killed.
const STOP_MAX: Duration = Duration::from_secs(20);
/// The user of servers that have users.
pub const USER: &str = "elastic";
/// The password of that user.
pub const PASSWORD: &str = "minerva-it-secret";

/// The servers that tests are run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Elasticsearch 8, without security.
    Elasticsearch8,
    /// Elasticsearch 9, with a user and a password.
    Elasticsearch9,
    /// OpenSearch 2.
    OpenSearch2,
    /// OpenSearch 3.
    OpenSearch3,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Elasticsearch8, Self::Elasticsearch9, Self::OpenSearch2, Self::OpenSearch3];

    /// The word for it in the names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Elasticsearch8 => "elasticsearch8",
            Self::Elasticsearch9 => "elasticsearch9",
            Self::OpenSearch2 => "opensearch2",
            Self::OpenSearch3 => "opensearch3",
        }
    }

    /// Whether CI may do without it: Debian 12 has no Java that is new enough.
    pub fn is_optional(self) -> bool {
        matches!(self, Self::Elasticsearch9 | Self::OpenSearch3)
    }

    /// The setting with the address of one that is there already.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Elasticsearch8 => "TEST_ES_URL",
            Self::Elasticsearch9 => "TEST_ES9_URL",
            Self::OpenSearch2 => "TEST_OPENSEARCH_URL",
            Self::OpenSearch3 => "TEST_OPENSEARCH3_URL",
        }
    }
}

/// A server's parts, ready to be started: its command but for ports and folders.
enum Parts {
    External(Url),
    Own(PathBuf),
}

/// One server, its parts had once and its process started once.
pub struct Service {
    kind: Kind,
    parts: Mutex<Option<Result<PathBuf, String>>>,
    running: Mutex<Option<Result<Server, String>>>,
}

static SERVICES: [Service; 4] = [
    Service::new(Kind::Elasticsearch8),
    Service::new(Kind::Elasticsearch9),
    Service::new(Kind::OpenSearch2),
    Service::new(Kind::OpenSearch3),
];

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The one service of a kind.
pub fn service(kind: Kind) -> &'static Service {
    SERVICES.iter().find(|service| service.kind == kind).expect("each kind has one")
}

/// Ends every server that was started. Servers that were found are left alone.
pub fn stop_all() {
    for service in &SERVICES {
        drop(lock(&service.running).take());
    }
}

impl Service {
    const fn new(kind: Kind) -> Self {
        Self { kind, parts: Mutex::new(None), running: Mutex::new(None) }
    }

    /// Why there is no such server here, if there is none. Gets its parts where they are missing, into `cache`.
    pub fn unavailable(&self, cache: &Path) -> Option<String> {
        self.parts(cache).err()
    }

    fn parts(&self, cache: &Path) -> Result<Parts, String> {
        if let Some(given) =
            base::config::variable(self.kind.setting()).filter(|url| !url.is_empty())
        {
            let url = given.parse().map_err(|error| format!("{}: {error}", self.kind.setting()))?;
            return Ok(Parts::External(url));
        }
        self.own_parts(cache).map(Parts::Own)
    }

    fn own_parts(&self, cache: &Path) -> Result<PathBuf, String> {
        let mut parts = lock(&self.parts);
        let found = parts.get_or_insert_with(|| {
            let cache = open_to_all(cache);
            match self.kind {
                Kind::Elasticsearch8 => elasticsearch::parts(&cache, elasticsearch::EIGHT),
                Kind::Elasticsearch9 => elasticsearch::parts(&cache, elasticsearch::NINE),
                Kind::OpenSearch2 => opensearch::parts(&cache, opensearch::TWO),
                Kind::OpenSearch3 => opensearch::parts(&cache, opensearch::THREE),
            }
        });
        found.clone()
    }

    /// Why no server of this kind can be started here, whatever is there already.
    pub fn cannot_start(&self, cache: &Path) -> Option<String> {
        self.own_parts(cache).err()
    }

    /// Starts a server of the caller's own, which it may kill.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn start(&self, cache: &Path) -> Result<Server, String> {
        Server::start(self.kind, self.own_parts(cache)?)
    }

    /// The server's address, with user and password where it has them; started when first asked.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn url(&self, cache: &Path) -> Result<Url, String> {
        let home = match self.parts(cache)? {
            Parts::External(url) => return Ok(url),
            Parts::Own(home) => home,
        };
        let mut running = lock(&self.running);
        let started = running.get_or_insert_with(|| Server::start(self.kind, home));
        started.as_ref().map(Server::url).map_err(Clone::clone)
    }
}

/// A folder that the user `nobody` can reach, as Elasticsearch refuses to run as root.
fn open_to_all(cache: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let is_open = cache.ancestors().all(|folder| {
        fs::metadata(folder).map_or(true, |meta| meta.permissions().mode() & 0o001 != 0)
    });
    if !is_root() || is_open {
        cache.join("services")
    } else {
        std::env::temp_dir().join("minerva-services")
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn free_ports() -> io::Result<(u16, u16)> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}

/// A server with its port and data, which may be killed and started again.
pub struct Server {
    kind: Kind,
    home: PathBuf,
    data: PathBuf,
    ports: (u16, u16),
    running: Mutex<Option<Running>>,
}

/// A started process: how to end it, and the thread that waits for it.
struct Running {
    end: Sender<End>,
    thread: JoinHandle<()>,
}

/// How a process is ended.
enum End {
    Asked,
    Killed,
}

impl Server {
    fn start(kind: Kind, home: PathBuf) -> Result<Self, String> {
        let ports = free_ports().map_err(|error| format!("find free ports: {error}"))?;
        let data = home.join(format!("run-{}", uuid::Uuid::new_v4()));
        let server = Self { kind, home, data, ports, running: Mutex::default() };
        server.run()?;
        Ok(server)
    }

    /// Its address, with user and password where it has them.
    pub fn url(&self) -> Url {
        let mut url: Url = format!("http://127.0.0.1:{}", self.ports.0).parse().expect("it is one");
        if self.kind == Kind::Elasticsearch9 {
            let _ = url.set_username(USER).and_then(|()| url.set_password(Some(PASSWORD)));
        }
        url
    }

    /// Starts it on its port and what its folder holds, and waits until it answers.
    ///
    /// The thread that starts it lives as long as it does: the kernel ends the server when that thread is gone, also when
    /// this process is killed.
    ///
    /// # Errors
    /// The end of its log.
    pub fn run(&self) -> Result<(), String> {
        let (end, ends) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let (kind, home, data, ports) =
            (self.kind, self.home.clone(), self.data.clone(), self.ports);
        let thread = thread::spawn(move || {
            let spawned = prepare(kind, &home, &data, ports).and_then(|mut command| {
                command.spawn().map_err(|error| format!("{command:?}: {error}"))
            });
            match spawned {
                Ok(mut child) => {
                    let stdin = child.stdin.take();
                    let _ = tell.send(Ok(()));
                    match ends.recv() {
                        Ok(End::Killed) => kill(&mut child),
                        Ok(End::Asked) | Err(_) => stop(&mut child, stdin),
                    }
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
            }
        });
        told.recv().map_err(|_| "its thread ended".to_owned())??;
        *lock(&self.running) = Some(Running { end, thread });
        let until = Instant::now() + START_MAX;
        loop {
            let said =
                call(&self.url(), "GET", "/_cluster/health?wait_for_status=yellow&timeout=1s", "");
            if said.as_ref().is_ok_and(|said| said.status == 200) {
                return Ok(());
            }
            if Instant::now() > until {
                let log = log_of(&self.data);
                self.end(End::Asked);
                let kind = self.kind.name();
                return Err(format!(
                    "{kind} does not answer within {START_MAX:?}: {said:?}\n{log}"
                ));
            }
            thread::park_timeout(Duration::from_millis(200));
        }
    }

    /// Kills it, as a crash does, and waits until it is gone.
    pub fn kill(&self) {
        self.end(End::Killed);
    }

    fn end(&self, how: End) {
        if let Some(Running { end, thread }) = lock(&self.running).take() {
            let _ = end.send(how);
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(End::Asked);
        let _ = fs::remove_dir_all(&self.data);
    }
}

fn prepare(kind: Kind, home: &Path, data: &Path, ports: (u16, u16)) -> Result<Command, String> {
    fs::create_dir_all(data).map_err(|error| format!("{}: {error}", data.display()))?;
    let log = fs::File::create(data.join("out.log")).map_err(|error| error.to_string())?;
    let again = log.try_clone().map_err(|error| error.to_string())?;
    let mut command = match kind {
        Kind::Elasticsearch8 => elasticsearch::command(home, data, ports, elasticsearch::EIGHT)?,
        Kind::Elasticsearch9 => elasticsearch::command(home, data, ports, elasticsearch::NINE)?,
        Kind::OpenSearch2 => opensearch::command(home, data, ports, opensearch::TWO)?,
        Kind::OpenSearch3 => opensearch::command(home, data, ports, opensearch::THREE)?,
    };
    // A group of its own: Elasticsearch's launcher starts the server as a further process, and both are killed.
    command.process_group(0);
    command.stdin(Stdio::piped()).stdout(log).stderr(again).current_dir(data);
    Ok(command)
}

fn log_of(data: &Path) -> String {
    let log = fs::read_to_string(data.join("out.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Asks the process to end, waits, then kills it.
fn stop(child: &mut Child, stdin: Option<ChildStdin>) {
    drop(stdin);
    let id = rustix::process::Pid::from_child(child);
    let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    let until = Instant::now() + STOP_MAX;
    while Instant::now() < until {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::park_timeout(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Kills the process and those that it started.
fn kill(child: &mut Child) {
    let id = rustix::process::Pid::from_child(child);
    let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
    let _ = child.wait();
}

/// Runs a command to its end.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let _ = io::stderr().write_all(&output.stdout);
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A Java of at least this version.
fn java(least: u32) -> Result<PathBuf, String> {
    let mut homes: Vec<PathBuf> = fs::read_dir("/usr/lib/jvm")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|home| home.join("bin/java").exists())
        .collect();
    homes.extend(base::config::variable("JAVA_HOME").map(PathBuf::from));
    let version = |home: &PathBuf| -> Option<u32> {
        let release = fs::read_to_string(home.join("release")).ok()?;
        let line = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION=\""))?;
        line.split(['.', '"']).next()?.parse().ok()
    };
    let fitting = homes.into_iter().filter_map(|home| Some((version(&home)?, home)));
    // The oldest that will do is the one that was tried.
    fitting
        .filter(|(version, _)| *version >= least)
        .min()
        .map(|(_, home)| home)
        .ok_or_else(|| format!("there is no Java {least} or newer in /usr/lib/jvm"))
}
