//! Invocations over HTTP by hand, as little of a client as there can be, and the rivals that answer them.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tests::watch::{self, Watch};

pub(crate) const ECHO: &str = env!("CARGO_BIN_EXE_echo");
pub(crate) const EVENT: &[u8] = br#"{"feed":"https://example.org/feed","n":1}"#;

pub(crate) fn timed(run: impl FnOnce()) -> Duration {
    let began = Instant::now();
    run();
    began.elapsed()
}

/// Prints the percentiles; `base` is our median, to which the ratio is.
pub(crate) fn show(name: &str, figures: &mut [Duration], base: Option<Duration>) -> Duration {
    figures.sort_unstable();
    let at = |percent: usize| figures[(figures.len() - 1) * percent / 100];
    let ratio = base.map_or(1.0, |base| at(50).as_secs_f64() / base.as_secs_f64());
    println!(
        "{name:<28} p50 {:>7.3} ms  p99 {:>7.3} ms  n {:>5}  p50 to ours {ratio:.2}",
        at(50).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3,
        figures.len()
    );
    at(50)
}

/// One connection, kept alive.
pub(crate) struct Http {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Http {
    pub(crate) fn connect(address: SocketAddr, function: &str) -> io::Result<Self> {
        let mut request = format!(
            "POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nhost: {address}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            EVENT.len()
        )
        .into_bytes();
        request.extend_from_slice(EVENT);
        Ok(Self { address, stream: opened(address)?, request })
    }

    /// One event there and back, unchanged; over a new connection where the old one was closed after its answer.
    pub(crate) fn invoke(&mut self) {
        let answer = self.exchange().or_else(|_| {
            self.stream = opened(self.address)?;
            self.exchange()
        });
        let answer = answer.expect("an answer");
        assert_eq!(answer, EVENT, "{}", String::from_utf8_lossy(&answer));
    }

    pub(crate) fn exchange(&mut self) -> io::Result<Vec<u8>> {
        self.stream.get_mut().write_all(&self.request)?;
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }
}

fn opened(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(BufReader::new(stream))
}

/// An emulator of Lambda that answers for [`ECHO`], with what it started; all of it ends with this.
pub(crate) struct Rival {
    pub(crate) address: SocketAddr,
    /// What it calls the function.
    pub(crate) function: &'static str,
    children: Vec<Child>,
    _watch: Option<Watch>,
}

impl Rival {
    /// `cargo lambda watch` with only its APIs, and the function beside it, as it would have started it itself.
    ///
    /// # Errors
    /// Why it cannot be had, for people.
    pub(crate) fn watch() -> Result<Self, String> {
        let programs = tests::pypi::programs(cache(), &[watch::PACKAGE])?;
        let mut server = Watch::start(&programs)?;
        let added = server.add(Watch::FUNCTION, &mut Command::new(ECHO));
        added.map_err(|cause| cause.to_string())?;
        let address = server.address;
        let function = Watch::FUNCTION;
        let watch = Self { address, function, children: Vec::new(), _watch: Some(server) };
        wait(|| watch.connect().and_then(|mut http| http.exchange()).is_ok_and(|a| a == EVENT))?;
        Ok(watch)
    }

    /// The Runtime Interface Emulator of AWS, which is one function's, as aws-sam-cli carries it. It has not started its
    /// function yet.
    ///
    /// # Errors
    /// Why it cannot be had, for people.
    pub(crate) fn rie() -> Result<Self, String> {
        let programs = tests::pypi::programs(cache(), &["--no-deps", "aws-sam-cli==1.170.0"])?;
        let python = fs::read_dir(programs.join("../lib")).map_err(|cause| cause.to_string())?;
        let place =
            format!("site-packages/samcli/local/rapid/aws-lambda-rie-{}", std::env::consts::ARCH);
        let mut found = python.map_while(Result::ok).map(|python| python.path().join(&place));
        let program = found.find(|path| path.is_file()).ok_or("it has none for this processor")?;
        let mut server = Command::new(program);
        let (address, api) = (free()?, free()?);
        server.args(["--log-level", "error", "--runtime-interface-emulator-address"]);
        server.arg(address.to_string()).arg("--runtime-api-address").arg(api.to_string()).arg(ECHO);
        let rie = Self {
            address,
            function: "function",
            children: vec![quiet(&mut server)?],
            _watch: None,
        };
        wait(|| TcpStream::connect(address).is_ok())?;
        Ok(rie)
    }

    pub(crate) fn connect(&self) -> io::Result<Http> {
        Http::connect(self.address, self.function)
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An address that nothing listens on: neither of them can choose one by itself.
fn free() -> Result<SocketAddr, String> {
    let one = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr());
    one.map_err(|cause| cause.to_string())
}

fn wait(holds: impl Fn() -> bool) -> Result<(), String> {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        if Instant::now() > until {
            return Err("it did not answer within 10 s".to_owned());
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

fn quiet(command: &mut Command) -> Result<Child, String> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|cause| cause.to_string())
}

pub(crate) fn cache() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
