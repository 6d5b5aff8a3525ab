//! PostgreSQL as Debian packages it, on loopback, a free port and a temporary folder. `TEST_DATABASE_URL` is used instead
//! where it is set, and is left as it was found but for the tests' own schemas.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base::config;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// Where Debian puts the server's programs, the newest last.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The user's password, so that a wrong one can be tried; its sign needs escaping in a URL.
pub const PASSWORD: &str = "correct/horse";

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

static SERVER: OnceLock<Result<Arc<Server>, String>> = OnceLock::new();

/// Where the tests' PostgreSQL is, started if need be; or why there is none.
///
/// # Errors
/// Why none can be had.
pub fn url() -> Result<String, &'static str> {
    match config::variable("TEST_DATABASE_URL") {
        Some(url) => Ok(url),
        None => server().map(|server| server.url()),
    }
}

/// The server that this process started; or why there is none.
///
/// # Errors
/// Why none can be had.
pub fn server() -> Result<Arc<Server>, &'static str> {
    SERVER
        .get_or_init(|| Server::start().map(Arc::new))
        .as_ref()
        .map(Arc::clone)
        .map_err(String::as_str)
}

pub(super) fn stop() {
    if let Some(Ok(server)) = SERVER.get() {
        server.stop(Signal::QUIT);
    }
}

/// `url` with its tables in `schema`.
pub fn in_schema(url: &str, schema: &str) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}options=-csearch_path%3D{schema}")
}

/// A server of the tests' own.
pub struct Server {
    folder: TempDir,
    programs: PathBuf,
    user: Option<u32>,
    port: u16,
    /// Its certificate, when it speaks TLS.
    certificate: Option<PathBuf>,
    running: Mutex<Option<Running>>,
}

/// The server's process, started and awaited by one thread, as the kernel ends the process when that thread ends.
struct Running {
    pid: Pid,
    thread: JoinHandle<()>,
}

impl Server {
    /// Makes a fresh database and starts a server on it.
    ///
    /// # Errors
    /// What is missing or went wrong.
    pub fn start() -> Result<Self, String> {
        Self::new(false)
    }

    /// The same, with TLS and a certificate for 127.0.0.1 that nobody knows.
    ///
    /// # Errors
    /// What is missing or went wrong.
    pub fn start_with_tls() -> Result<Self, String> {
        Self::new(true)
    }

    fn new(has_tls: bool) -> Result<Self, String> {
        let programs = programs().ok_or_else(|| {
            format!("no PostgreSQL in {VERSIONS}: `apt-get install postgresql`, or set TEST_DATABASE_URL")
        })?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        // The server refuses to be root.
        let user = if geteuid().is_root() { Some(other_user()?) } else { None };
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD).map_err(|error| error.to_string())?;
        let certificate = has_tls.then(|| certify(folder.path())).transpose()?;
        let key = certificate.as_ref().map(|_| folder.path().join("key.pem"));
        for path in [Some(folder.path()), Some(&password), key.as_deref()].into_iter().flatten() {
            chown(path, user, None).map_err(|error| error.to_string())?;
        }
        let port = free_port().map_err(|error| error.to_string())?;
        let server = Self { folder, programs, user, port, certificate, running: Mutex::default() };
        let made = server
            .command("initdb")
            .args([
                "-N",
                "-U",
                "minerva",
                "-A",
                "scram-sha-256",
                "-E",
                "UTF8",
                "--locale=C",
                "--pwfile",
            ])
            .arg(&password)
            .output()
            .map_err(|error| format!("initdb: {error}"))?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr).trim()));
        }
        server.run()?;
        Ok(server)
    }

    /// `postgres://user:password@127.0.0.1:PORT/postgres`.
    pub fn url(&self) -> String {
        let password = PASSWORD.replace('/', "%2F");
        format!("postgres://minerva:{password}@127.0.0.1:{}/postgres", self.port)
    }

    /// The file with its certificate.
    pub fn certificate(&self) -> Option<&Path> {
        self.certificate.as_deref()
    }

    /// Starts the server on what its folder holds, and waits until it answers.
    ///
    /// # Errors
    /// The end of its log.
    pub fn run(&self) -> Result<(), String> {
        let log =
            fs::File::create(self.folder.path().join("log")).map_err(|error| error.to_string())?;
        let mut command = self.command("postgres");
        command
            .args(["-p", &self.port.to_string(), "-k"])
            .arg(self.folder.path())
            // Trials run beside each other, and each process of theirs takes several.
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
                "-c",
                "max_connections=400",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(certificate) = &self.certificate {
            let key = self.folder.path().join("key.pem");
            command.args([
                "-c",
                "ssl=on",
                "-c",
                &format!("ssl_cert_file={}", certificate.display()),
            ]);
            command.args(["-c", &format!("ssl_key_file={}", key.display())]);
        }
        let (told, tells) = mpsc::channel();
        let thread = thread::spawn(move || match command.spawn() {
            Ok(mut child) => {
                let _ = told.send(Ok(child.id()));
                let _ = child.wait();
            }
            Err(error) => {
                let _ = told.send(Err(error.to_string()));
            }
        });
        let id = tells.recv().map_err(|error| error.to_string())??;
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or("a process id")?;
        let until = Instant::now() + PATIENCE;
        while !self.answers() {
            if thread.is_finished() || Instant::now() > until {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(format!("postgres does not start: {}", log.trim()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Running { pid, thread });
        Ok(())
    }

    /// Ends the server by a signal (`QUIT` is as good as a crash) and waits until it is gone.
    pub fn stop(&self, signal: Signal) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { pid, thread }) = running else { return };
        let _ = kill_process(pid, signal);
        let until = Instant::now() + PATIENCE;
        while !thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        if !thread.is_finished() {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = thread.join();
    }

    fn answers(&self) -> bool {
        // It listens before it has recovered, so it is asked.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
            && Command::new(self.programs.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()
                .is_ok_and(|status| status.success())
    }

    /// One of its programs on its folder, as the user that it runs as.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        // Ended with the thread that starts it, so that nothing is left of tests that were killed.
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=QUIT");
        if let Some(user) = self.user {
            command.args([&format!("--reuid={user}"), "--regid=65534", "--clear-groups"]);
        }
        command.arg("--").arg(program);
        command.arg("-D").arg(self.folder.path().join("data")).current_dir(self.folder.path());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Signal::QUIT);
    }
}

fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(Path::new(VERSIONS))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|programs| programs.join("postgres").exists() && programs.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

/// The id of the user that Debian made for the server, or of nobody.
fn other_user() -> Result<u32, String> {
    let users = fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    let id = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        line.split(':').nth(2)?.parse().ok()
    };
    id("postgres").or_else(|| id("nobody")).ok_or_else(|| "no user to run the server as".to_owned())
}

/// Makes a key and a certificate for it; Debian's server brings the program.
fn certify(folder: &Path) -> Result<PathBuf, String> {
    let certificate = folder.join("certificate.pem");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args([
            "-days",
            "2",
            "-subj",
            "/CN=minerva tests",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(&certificate)
        .output()
        .map_err(|error| format!("openssl: {error}"))?;
    if made.status.success() {
        Ok(certificate)
    } else {
        Err(format!("openssl: {}", String::from_utf8_lossy(&made.stderr).trim()))
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
