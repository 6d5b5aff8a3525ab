//! An echo function through the runner's HTTP: warm over one connection, and cold with a process started each time.
//!
//! The floors beside it, in turns: axum echoing by itself, and the same program started and ended at its first line.
//! `cargo lambda watch`, where PyPI has it, answers the same function's events over the same kind of connection.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use local_runner::lambda::{Config, Function, Invoker, Lambda, Limits};

const ECHO: &str = env!("CARGO_BIN_EXE_echo");
const RIVAL: &str = "cargo-lambda==1.9.2";
const EVENT: &[u8] = br#"{"feed":"https://example.org/feed","n":1}"#;
const ROUNDS: usize = 5;
const WARM: usize = 1_000;
const COLD: usize = 40;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let start = |limits| {
        let config = Config { limits, ..Config::new([Function::new("echo", ECHO)]) };
        runtime.block_on(Lambda::start(config)).expect("loopback can be listened on")
    };

    let warm_lambda = start(Limits::default());
    let mut runner = Http::connect(warm_lambda.addresses()[0], "echo").expect("the runner listens");
    let mut floor = Http::connect(runtime.block_on(echo_server()), "echo").expect("axum listens");
    let watch = Watch::start();
    let mut watched = match &watch {
        Ok(watch) => {
            Some(Http::connect(watch.address, Watch::FUNCTION).expect("it listened before"))
        }
        Err(why) => {
            println!("without `cargo lambda watch`: {why}");
            None
        }
    };
    let (mut ours, mut bare, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for _ in 0..WARM {
            ours.push(timed(|| runner.invoke()));
        }
        for _ in 0..WARM {
            bare.push(timed(|| floor.invoke()));
        }
        if let Some(watched) = &mut watched {
            theirs.extend((0..WARM).map(|_| timed(|| watched.invoke())));
        }
    }
    let base = show("warm, minerva's runner", &mut ours, None);
    show("warm, axum echo (one hop)", &mut bare, Some(base));
    if !theirs.is_empty() {
        show("warm, cargo lambda watch", &mut theirs, Some(base));
    }
    drop(watch);

    let cold_lambda = start(Limits { keep_warm: Duration::from_millis(1), ..Limits::default() });
    let mut runner = Http::connect(cold_lambda.addresses()[0], "echo").expect("the runner listens");
    let invoker = cold_lambda.invoker();
    let (mut cold, mut spawned) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS * COLD {
        wait_until_cold(&invoker);
        cold.push(timed(|| runner.invoke()));
        spawned.push(timed(|| {
            let ended = Command::new(ECHO).env("ECHO_INIT", "exit").status();
            assert_eq!(ended.expect("the program is there").code(), Some(7));
        }));
    }
    let base = show("cold, minerva's runner", &mut cold, None);
    show("cold, a bare process", &mut spawned, Some(base));
}

fn timed(run: impl FnOnce()) -> Duration {
    let began = Instant::now();
    run();
    began.elapsed()
}

/// Prints the percentiles; `base` is our median, to which the ratio is.
fn show(name: &str, figures: &mut [Duration], base: Option<Duration>) -> Duration {
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

fn wait_until_cold(invoker: &Invoker) {
    let until = Instant::now() + Duration::from_secs(10);
    while !invoker.instances().is_empty() {
        assert!(Instant::now() < until, "the process does not end");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// What HTTP costs by itself on the server that the runner uses.
async fn echo_server() -> SocketAddr {
    let router = axum::Router::new().fallback(async |body: bytes::Bytes| body);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async { axum::serve(listener, router).await });
    address
}

/// One connection, kept alive.
struct Http {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Http {
    fn connect(address: SocketAddr, function: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut request = format!(
            "POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nhost: {address}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            EVENT.len()
        )
        .into_bytes();
        request.extend_from_slice(EVENT);
        Ok(Self { stream: BufReader::new(stream), request })
    }

    /// One event there and back, unchanged.
    fn invoke(&mut self) {
        let answer = self.exchange().expect("an answer");
        assert_eq!(answer, EVENT, "{}", String::from_utf8_lossy(&answer));
    }

    fn exchange(&mut self) -> io::Result<Vec<u8>> {
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

/// `cargo lambda watch` with only its APIs, and the function beside it, as it would have started it itself.
struct Watch {
    address: SocketAddr,
    children: Vec<Child>,
}

impl Watch {
    /// What it calls a function that it did not start.
    const FUNCTION: &str = "_";

    fn start() -> Result<Self, String> {
        let programs = tests::pypi::programs(Path::new(env!("CARGO_TARGET_TMPDIR")), &[RIVAL])?;
        let said = |cause: io::Error| cause.to_string();
        // It cannot choose a free port by itself.
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).map_err(said)?;
        let mut server = Command::new(programs.join("cargo-lambda"));
        server.args(["lambda", "watch", "--only-lambda-apis", "--invoke-address", "127.0.0.1"]);
        server.arg("--invoke-port").arg(address.port().to_string());
        server.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
        let mut watch = Self { address, children: vec![quiet(&mut server).map_err(said)?] };
        watch.wait(|| TcpStream::connect(address).is_ok())?;
        let mut function = Command::new(ECHO);
        function.env("AWS_LAMBDA_RUNTIME_API", format!("http://{address}/.rt"));
        function.env("AWS_LAMBDA_FUNCTION_NAME", Self::FUNCTION);
        function.env("AWS_LAMBDA_FUNCTION_VERSION", "1");
        function.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128");
        watch.children.push(quiet(&mut function).map_err(said)?);
        watch.wait(|| {
            Http::connect(address, Self::FUNCTION)
                .and_then(|mut http| http.exchange())
                .is_ok_and(|a| a == EVENT)
        })?;
        Ok(watch)
    }

    fn wait(&self, holds: impl Fn() -> bool) -> Result<(), String> {
        let until = Instant::now() + Duration::from_secs(10);
        while !holds() {
            if Instant::now() > until {
                return Err("it did not answer within 10 s".to_owned());
            }
            thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn quiet(command: &mut Command) -> io::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Drop for Watch {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
