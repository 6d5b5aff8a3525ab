//! An echo function through the runner's HTTP: warm over one connection, and cold with a process started each time.
//!
//! The floors beside it, in turns: axum echoing by itself, and the same program started and ended at its first line.
//! `cargo lambda watch`, where PyPI has it, answers the same function's events over the same kind of connection.
//!
//! Then each of the 27 functions, as `infra package --arch x86_64` left them in `target/lambda` or where `MINERVA_FUNCTIONS`
//! says: from the start of its process to its first `next`, and the memory it takes by then.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use local_runner::lambda::{Config, Function, Invoker, Lambda, Limits};
use tests::watch::{self, Watch};

const ECHO: &str = env!("CARGO_BIN_EXE_echo");
const EVENT: &[u8] = br#"{"feed":"https://example.org/feed","n":1}"#;
const ROUNDS: usize = 5;
const WARM: usize = 1_000;
const COLD: usize = 40;
/// Starts of each function.
const STARTS: usize = 20;

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
    let watch = watched();
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
    first_next();
}

/// `cargo lambda watch` with the echo function, once that answers.
fn watched() -> Result<Watch, String> {
    let programs =
        tests::pypi::programs(Path::new(env!("CARGO_TARGET_TMPDIR")), &[watch::PACKAGE])?;
    let mut watch = Watch::start(&programs)?;
    watch.add(Watch::FUNCTION, &mut Command::new(ECHO)).map_err(|cause| cause.to_string())?;
    let until = Instant::now() + Duration::from_secs(10);
    let answers = || {
        let mut http = Http::connect(watch.address, Watch::FUNCTION)?;
        http.exchange()
    };
    while !answers().is_ok_and(|answer| answer == EVENT) {
        if Instant::now() > until {
            return Err("it did not answer within 10 s".to_owned());
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    Ok(watch)
}

/// A row for each function, and for the echo function, which has nothing to set up.
fn first_next() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it lies in the workspace");
    let folder = base::config::variable("MINERVA_FUNCTIONS")
        .map_or_else(|| root.join("target/lambda"), Into::into);
    let timetable = schedule::Timetable::parse(infra::TIMETABLE).expect("it can be read");
    let mut programs = vec![("echo, nothing to set up".to_owned(), ECHO.into())];
    for row in timetable.rows() {
        let program = folder.join(&row.name).join("bootstrap");
        if !program.is_file() {
            println!("without the functions: {} is not there", program.display());
            return;
        }
        programs.push((row.name.clone(), program));
    }
    let mut figures = vec![(Vec::new(), 0); programs.len()];
    for _ in 0..STARTS {
        for ((_, program), (times, peak)) in programs.iter().zip(&mut figures) {
            let (time, kb) = start(program).expect("it asks for an event");
            times.push(time);
            *peak = kb.max(*peak);
        }
    }
    println!("to the first `next`, {STARTS} starts of each in turns:");
    let mut floor = None;
    for ((name, _), (times, peak)) in programs.iter().zip(&mut figures) {
        times.sort_unstable();
        let ms = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        let floor = *floor.get_or_insert(ms(50));
        println!(
            "{name:<30} p50 {:>6.2} ms  max {:>6.2} ms  {:>5.1} MB  p50 to echo's {:.2}",
            ms(50),
            ms(100),
            f64::from(*peak) / 1024.0,
            ms(50) / floor
        );
    }
}

/// Starts a function; the time until it asks for an event, and the peak of its memory in KiB.
fn start(program: &Path) -> io::Result<(Duration, u32)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut command = Command::new(program);
    command.env_clear().env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string());
    for (name, value) in [("NAME", "f"), ("VERSION", "1"), ("MEMORY_SIZE", "256")] {
        command.env(format!("AWS_LAMBDA_FUNCTION_{name}"), value);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let mut child = command.spawn()?;
    let asked = listener.accept().and_then(|(stream, _)| {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).map(|_| line)
    });
    let time = began.elapsed();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    child.kill()?;
    child.wait()?;
    let line = asked?;
    if !line.starts_with("GET /2018-06-01/runtime/invocation/next ") {
        return Err(io::Error::other(line));
    }
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|text| text.split_whitespace().next()?.parse().ok());
    Ok((time, peak.unwrap_or_default()))
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
