//! What the end-to-end tests stand on: a runner with a folder of its own, and sources on loopback that answer as told.
//!
//! The runner is the real binary in a clean environment; its functions are real children. Nothing here is asynchronous:
//! a test reads as what a person would do at a terminal.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
pub(crate) use tests::misp::peak_kb;

/// The instant at which runs under `--clock` live.
pub(crate) const CLOCK: &str = "2026-03-01T12:00:00Z";

/// The task that most tests run.
pub(crate) const ALL: &str = "collect_all_rss_feeds";

/// A real feed of `tests/fixtures/feeds`.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/feeds").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An RSS feed with the items given as `(guid, title, date)`; an item without date has none.
pub(crate) fn feed(items: &[(&str, &str, Option<&str>)]) -> Vec<u8> {
    let mut text = "<rss version=\"2.0\"><channel><title>A feed</title>".to_owned();
    for (guid, title, date) in items {
        let date = date.map(|date| format!("<pubDate>{date}</pubDate>")).unwrap_or_default();
        let _ = write!(
            text,
            "<item><guid>{guid}</guid><title>{title}</title><link>https://example.org/{guid}</link>{date}</item>"
        );
    }
    text.push_str("</channel></rss>");
    text.into_bytes()
}

/// A feed of so many items, all of them its own.
pub(crate) fn numbered(feed_number: usize, items: usize) -> Vec<u8> {
    let titles: Vec<(String, String)> = (0..items)
        .map(|item| (format!("{feed_number}-{item}"), format!("Item {item} of feed {feed_number}")))
        .collect();
    let items: Vec<_> = titles
        .iter()
        .map(|(guid, title)| (guid.as_str(), title.as_str(), Some("Sun, 01 Mar 2026 08:00:00 GMT")))
        .collect();
    feed(&items)
}

// The sources.

/// What a source is asked.
pub(crate) struct Asked {
    /// The header, in lower case.
    pub(crate) header: String,
}

type Answer = Arc<dyn Fn(&Asked, &mut TcpStream) + Send + Sync>;

#[derive(Default)]
struct Sources {
    answers: Mutex<BTreeMap<String, Answer>>,
    asked: Mutex<Vec<String>>,
}

/// Sources on loopback: each path answers as it was told, on one of several ports, since a host is asked two things at once.
pub(crate) struct Upstream {
    hosts: Vec<SocketAddr>,
    sources: Arc<Sources>,
}

impl Upstream {
    pub(crate) fn start(hosts: usize) -> Self {
        let sources = Arc::new(Sources::default());
        let listen = |_| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let sources = Arc::clone(&sources);
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let sources = Arc::clone(&sources);
                    thread::spawn(move || serve(&sources, stream));
                }
            });
            address
        };
        Self { hosts: (0..hosts).map(listen).collect(), sources }
    }

    /// Lets a path answer like this from now on, and gives its address.
    pub(crate) fn serve(
        &self,
        path: &str,
        answer: impl Fn(&Asked, &mut TcpStream) + Send + Sync + 'static,
    ) -> String {
        let mut answers = self.sources.answers.lock().unwrap();
        answers.insert(path.to_owned(), Arc::new(answer));
        let place = path.bytes().fold(0_usize, |sum, byte| sum * 31 % 65_521 + usize::from(byte));
        format!("http://{}/{path}", self.hosts[place % self.hosts.len()])
    }

    /// Lets a path answer with this body, without validators.
    pub(crate) fn body(&self, path: &str, body: impl Into<Vec<u8>>) -> String {
        let body = body.into();
        self.serve(path, move |_, stream| respond(stream, "200 OK", "", &body))
    }

    /// Lets a path answer with this body and an `ETag`, and with 304 to who has it.
    pub(crate) fn tagged(
        &self,
        path: &str,
        etag: &'static str,
        body: impl Into<Vec<u8>>,
    ) -> String {
        let body = body.into();
        self.serve(path, move |asked, stream| {
            if asked.header.contains(&format!("if-none-match: \"{etag}\"")) {
                respond(stream, "304 Not Modified", "", b"");
            } else {
                respond(stream, "200 OK", &format!("etag: \"{etag}\"\r\n"), &body);
            }
        })
    }

    /// Lets a path answer with a status and further header lines.
    pub(crate) fn status(&self, path: &str, status: &'static str, header: &str) -> String {
        let header = header.to_owned();
        self.serve(path, move |_, stream| respond(stream, status, &header, b""))
    }

    /// Lets a path answer with this body after a while.
    pub(crate) fn slow(&self, path: &str, wait: Duration, body: impl Into<Vec<u8>>) -> String {
        let body = body.into();
        self.serve(path, move |_, stream| {
            thread::sleep(wait);
            respond(stream, "200 OK", "", &body);
        })
    }

    /// The first of its hosts.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.hosts[0])
    }

    /// How often a path was asked.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.sources.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }
}

/// A source of its own that does what it likes with each connection, unread as it is.
pub(crate) fn raw(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            thread::spawn(move || answer(stream));
        }
    });
    format!("http://{address}/")
}

fn serve(sources: &Sources, mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let header =
        lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase() + "\n").collect();
    sources.asked.lock().unwrap().push(path.clone());
    let answers = sources.answers.lock().unwrap();
    // A path stands for all that is asked of it, unless one of its questions has an answer of its own.
    let of_path = || path.split('?').next().and_then(|path| answers.get(path));
    let answer = answers.get(&path).or_else(of_path).cloned();
    drop(answers);
    match answer {
        Some(answer) => answer(&Asked { header }, &mut stream),
        None => respond(&mut stream, "404 Not Found", "", b""),
    }
}

/// Answers and closes; who hung up meanwhile is of no interest.
pub(crate) fn respond(stream: &mut TcpStream, status: &str, header: &str, body: &[u8]) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{header}\r\n"
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

// The runner.

/// A folder with a store, a list of sources, and all that a runner is told.
pub(crate) struct Home {
    folder: TempDir,
    further: Vec<(String, String)>,
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The answer, which must be one JSON document and nothing else.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn ends_with(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Standard error names all of these.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.err.contains(word), "{word}: {self:?}");
        }
    }
}

impl Home {
    /// A folder with these sources, all of category `news`.
    pub(crate) fn of(sources: &[(&str, String)]) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap(), further: Vec::new() };
        let list = sources.iter().fold(String::new(), |mut text, (id, url)| {
            let _ = write!(
                text,
                "[[source]]\nid = {id:?}\nname = \"Source {id}\"\nurl = {url:?}\ncategory = \"news\"\n\n"
            );
            text
        });
        home.list(&list);
        home
    }

    /// Replaces the list of sources.
    pub(crate) fn list(&self, text: &str) {
        fs::write(self.path("sources.toml"), text).unwrap();
    }

    /// Sets a further variable of the environment.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.further.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The runner with these arguments, in this home and in nothing else of this process's environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .envs(self.settings())
            .stdin(Stdio::null());
        command
    }

    /// All settings of this home; of one that was set twice, the last counts.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let path = |name| self.path(name).to_str().unwrap().to_owned();
        let mut settings = vec![
            ("MINERVA_DATA_DIR".to_owned(), path("data")),
            ("RSS_SOURCES".to_owned(), path("sources.toml")),
            ("MINERVA_ALLOW_NETS".to_owned(), "127.0.0.0/8".to_owned()),
        ];
        settings.extend(self.further.iter().cloned());
        settings
    }

    /// Starts the runner and leaves it running.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        self.spawn_with(&[], arguments)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.spawn(arguments).end()
    }

    /// As [`spawn`](Self::spawn), with further variables of the environment.
    pub(crate) fn spawn_with(&self, further: &[(String, String)], arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.envs(further.iter().map(|(name, value)| (name, value)));
        Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// As [`run`](Self::run), with further variables of the environment.
    pub(crate) fn run_with(&self, further: &[(String, String)], arguments: &[&str]) -> Ran {
        self.spawn_with(further, arguments).end()
    }

    /// Every process that works in this home: runners and functions, whoever is their parent by now.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let folder = self.folder.path().to_str().unwrap().as_bytes();
        let works_here = |pid: &u32| {
            // What is dead and not yet reaped has no environment any more.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.windows(folder.len()).any(|part| part == folder)
        };
        let entries = fs::read_dir("/proc").unwrap().map_while(Result::ok);
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(works_here)
            .collect()
    }

    /// Runs a task under the clock and gives its report.
    #[track_caller]
    pub(crate) fn report(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[&["run", "--json", "--clock", CLOCK], arguments].concat());
        ran.json()
    }

    /// Every stored article, one a line, in the order of their ids.
    #[track_caller]
    pub(crate) fn documents(&self) -> String {
        self.documents_of("rss_articles")
    }

    /// Every document of an index, one a line, in the order of their ids.
    #[track_caller]
    pub(crate) fn documents_of(&self, index: &str) -> String {
        self.run(&["documents", index]).ends_with(0).out.clone()
    }

    /// Every stored article.
    #[track_caller]
    pub(crate) fn articles(&self) -> Vec<Value> {
        self.documents().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A runner that was started; it ends with the test that started it.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let mut err = self.0.stderr.take().unwrap();
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            err.read_to_end(&mut text).map(|_| text)
        });
        let mut out = Vec::new();
        self.0.stdout.take().unwrap().read_to_end(&mut out).unwrap();
        let code = self.0.wait().unwrap().code();
        let err = errors.join().unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code, out: text(out), err: text(err) }
    }

    /// Standard error, to be read while it runs.
    pub(crate) fn errors(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.0.stderr.take().unwrap()).lines().map_while(Result::ok)
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        signal(self.pid(), rustix::process::Signal::INT);
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        signal(self.pid(), rustix::process::Signal::TERM);
    }

    /// Waits for its end, whatever it still prints; `None` when it does not come in time.
    pub(crate) fn ended_within(&mut self, time: Duration) -> Option<std::process::ExitStatus> {
        let mut status = None;
        eventually_within(time, || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// Processes.

pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // A process that is gone already is what most callers want.
    let _ = rustix::process::kill_process(pid, signal);
}

/// Whether any thread of a process, itself alive or not, is still there.
pub(crate) fn has_threads(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.map_while(Result::ok).any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    })
}

/// What a thread of a trial came to; its panic is the trial's.
pub(crate) fn joined<T>(thread: thread::JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Waits until it is so; `false` when it never was.
pub(crate) fn eventually_within(time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
