//! An echo function through the runner's HTTP: warm over one connection, and cold with a process started each time.
//!
//! The floors beside it, in turns: axum echoing by itself, and the same program started and ended at its first line.
//! `cargo lambda watch` and AWS's Runtime Interface Emulator, where PyPI has them, answer the same function's events over the
//! same kind of connection.
//!
//! Then one event for each of 27 functions at once, all cold: beside as many bare processes, and as many emulators.
//!
//! Then each of the 27 functions, as `infra package --arch x86_64` left them in `target/lambda` or where `MINERVA_FUNCTIONS`
//! says: from the start of its process to its first `next`, and the memory it takes by then.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::io::{self, BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lambda_client::{ECHO, Http, Rival, show, timed};
use local_runner::lambda::{Config, Function, Invoker, Lambda, Limits};

mod lambda_client;

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

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
    let rivals = [("cargo lambda watch", Rival::watch()), ("aws-lambda-rie", Rival::rie())];
    let mut rivals: Vec<_> = rivals
        .iter()
        .filter_map(|(name, rival)| match rival {
            Ok(rival) => Some((name, rival.connect().expect("it listened before"), Vec::new())),
            Err(why) => {
                println!("without {name}: {why}");
                None
            }
        })
        .collect();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for _ in 0..WARM {
            ours.push(timed(|| runner.invoke()));
        }
        for _ in 0..WARM {
            bare.push(timed(|| floor.invoke()));
        }
        for (_, http, theirs) in &mut rivals {
            theirs.extend((0..WARM).map(|_| timed(|| http.invoke())));
        }
    }
    let base = show("warm, minerva's runner", &mut ours, None);
    show("warm, axum echo (one hop)", &mut bare, Some(base));
    for (name, _, theirs) in &mut rivals {
        show(&format!("warm, {name}"), theirs, Some(base));
    }

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
    let mut cold = Vec::new();
    for _ in 0..COLD {
        // One function a process of its own: its cold start is its first event.
        let Ok(rie) = Rival::rie() else { break };
        let mut http = rie.connect().expect("it listened before");
        cold.push(timed(|| http.invoke()));
    }
    if !cold.is_empty() {
        show("cold, aws-lambda-rie", &mut cold, Some(base));
    }
    at_once();
    first_next();
}

/// Until the last of many that begin together has ended.
fn together<T: Send>(all: &mut [T], run: impl Fn(&mut T) + Sync) -> Duration {
    let run = &run;
    timed(|| thread::scope(|scope| all.iter_mut().for_each(|one| drop(scope.spawn(|| run(one))))))
}

/// An event for each of the 27 functions of a runner that serves, none of which has a process.
fn at_once() {
    let timetable = schedule::Timetable::parse(infra::TIMETABLE).expect("it can be read");
    let names: Vec<&str> = timetable.rows().iter().map(|row| row.name.as_str()).collect();
    let (mut cold, mut spawned, mut emulated) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let folder = tempfile::tempdir().expect("a folder");
        for name in &names {
            std::os::unix::fs::symlink(ECHO, folder.path().join(name)).expect("a link");
        }
        let port = free_port().expect("one is free");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut serve = Command::new(RUNNER);
        serve.args(["serve", "--port", &port.to_string(), "--functions"]).arg(folder.path());
        serve.env_clear().env("MINERVA_DATA_DIR", folder.path().join("data"));
        serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = serve.spawn().expect("it starts");
        wait_until("it listens", || Http::connect(address, names[0]).is_ok());
        let connect = |name: &&str| Http::connect(address, name).expect("the runner listens");
        cold.push(together(&mut names.iter().map(connect).collect::<Vec<_>>(), Http::invoke));
        server.kill().expect("it was started");
        server.wait().expect("it was started");

        spawned.push(together(&mut vec![(); names.len()], |()| {
            let ended = Command::new(ECHO).env("ECHO_INIT", "exit").status();
            assert_eq!(ended.expect("the program is there").code(), Some(7));
        }));

        // One function a process of its own.
        let emulators: Result<Vec<Rival>, String> = names.iter().map(|_| Rival::rie()).collect();
        let Ok(emulators) = emulators else { continue };
        let connect = |one: &Rival| one.connect().expect("it listened before");
        emulated
            .push(together(&mut emulators.iter().map(connect).collect::<Vec<_>>(), Http::invoke));
    }
    let base = show("27 cold at once, ours", &mut cold, None);
    show("27 bare processes at once", &mut spawned, Some(base));
    if !emulated.is_empty() {
        show("27 aws-lambda-rie at once", &mut emulated, Some(base));
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
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

fn wait_until_cold(invoker: &Invoker) {
    wait_until("its process ended", || invoker.instances().is_empty());
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < until, "not in 10 s: {what}");
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
