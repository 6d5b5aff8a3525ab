//! Callers that hang up, stops, what is left behind, and how fast the answers are.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use local_runner::lambda::{Limits, Options, Refused};
use serde_json::json;

use super::{Http, Runner, echo, echo_with, eventually, is_alive, pid_of, trials};

trials! {
    a_caller_that_hangs_up_does_not_stop_the_run
    nothing_is_left_behind
    a_stop_waits_for_the_runs_under_way
    answers_are_fast
}

pub(crate) fn a_caller_that_hangs_up_does_not_stop_the_run() {
    let runner = Runner::echo();
    let mut http = runner.http();
    http.send("POST", "/2015-03-31/functions/echo/invocations", &[], br#"{"do":"sleep","ms":150}"#);
    eventually(|| runner.invoker.instances().iter().any(|instance| instance.state == "busy"));
    drop(http);
    eventually(|| {
        runner.told.lines.lock().unwrap().iter().any(|(_, text)| text.starts_with("REPORT "))
    });
    eventually(|| runner.invoker.instances().iter().any(|instance| instance.state == "idle"));
}

pub(crate) fn nothing_is_left_behind() {
    for way in ["stop", "drop", "the async runtime ends"] {
        let mut runner = Runner::of([echo("echo"), echo_with("hang", "hang")], Limits::default());
        let orphan = runner.invoke("echo", &json!({"do": "orphan"}));
        let mut busy = runner.http();
        busy.send(
            "POST",
            "/2015-03-31/functions/echo/invocations",
            &[("x-amz-date", "x")],
            br#"{"do":"sleep","ms":60000}"#,
        );
        let mut starting = runner.http();
        starting.send(
            "POST",
            "/2015-03-31/functions/hang/invocations",
            &[("x-amz-date", "x")],
            b"{}",
        );
        eventually(|| {
            runner.pids().len() == 2
                && runner.invoker.instances().iter().any(|one| one.state == "busy")
        });
        let mut pids = runner.pids();
        pids.extend([pid_of(&orphan, "pid"), pid_of(&orphan, "own")]);
        let began = Instant::now();
        let lambda = runner.lambda.take().unwrap();
        match way {
            "stop" => {
                runner.runtime.block_on(lambda.stop(Duration::ZERO));
                assert_eq!(busy.receive().error_type(), "Runtime.ExitError");
                assert_eq!(starting.receive().error_type(), "Runtime.ExitError");
                assert!(runner.pids().is_empty());
                let after = runner.runtime.block_on(runner.invoker.invoke(
                    "echo",
                    Bytes::new(),
                    Options::default(),
                ));
                assert_eq!(after.unwrap_err(), Refused::Stopping);
            }
            "drop" => {
                drop(lambda);
                eventually(|| runner.pids().is_empty());
            }
            _ => {
                drop(runner);
                eventually(|| !pids.iter().any(|&pid| is_alive(pid)));
                drop(lambda);
            }
        }
        for pid in pids {
            eventually(|| !is_alive(pid));
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{way}: {:?}", began.elapsed());
    }
}

pub(crate) fn a_stop_waits_for_the_runs_under_way() {
    let mut runner = Runner::echo();
    let mut http = runner.http();
    http.send("POST", "/2015-03-31/functions/echo/invocations", &[], br#"{"do":"sleep","ms":300}"#);
    eventually(|| runner.invoker.instances().iter().any(|instance| instance.state == "busy"));
    let lambda = runner.lambda.take().unwrap();
    runner.runtime.block_on(lambda.stop(Duration::from_secs(10)));
    assert_eq!(http.receive().json(), json!({"slept": 300}));
}

/// Prints the figures; holds them to bars that also a debug build on a busy machine keeps. The bars of a release build
/// are in `docs`: warm 0.5 ms (p50) and 5 ms (p99), cold 15 ms (p50), 27 cold at once 250 ms.
#[expect(clippy::print_stdout, reason = "the figures are what one runs it for")]
pub(crate) fn answers_are_fast() {
    let names: Vec<String> = (0..27).map(|n| format!("f{n}")).collect();
    let limits = Limits { keep_warm: Duration::from_millis(1), ..Limits::default() };
    let measure = |figures: &mut Vec<Duration>, run: &mut dyn FnMut()| {
        let began = Instant::now();
        run();
        figures.push(began.elapsed());
    };
    let percentile = |figures: &mut Vec<Duration>, percent: usize| {
        figures.sort_unstable();
        figures[(figures.len() - 1) * percent / 100]
    };

    let runner = Runner::echo();
    let mut http = runner.http();
    let mut warm = Vec::new();
    http.invoke("echo", &[], b"{}");
    for _ in 0..1_000 {
        measure(&mut warm, &mut || assert_eq!(http.invoke("echo", &[], b"{}").status, 200));
    }
    let (warm_p50, warm_p99) = (percentile(&mut warm, 50), percentile(&mut warm, 99));
    drop(runner);

    let runner = Runner::of([echo("echo")], limits);
    let mut http = runner.http();
    let mut cold = Vec::new();
    for _ in 0..40 {
        eventually(|| runner.pids().is_empty());
        measure(&mut cold, &mut || assert_eq!(http.invoke("echo", &[], b"{}").status, 200));
    }
    let (cold_p50, cold_p95) = (percentile(&mut cold, 50), percentile(&mut cold, 95));

    let mut crash = Vec::new();
    for _ in 0..20 {
        eventually(|| runner.pids().is_empty());
        measure(&mut crash, &mut || {
            assert_eq!(http.invoke("echo", &[], br#"{"do":"exit"}"#).status, 500);
        });
    }
    let (crash_p50, crash_max) = (percentile(&mut crash, 50), percentile(&mut crash, 100));
    drop(runner);

    let mut together = Vec::new();
    for _ in 0..5 {
        let runner = Runner::of(names.iter().map(|name| echo(name)), Limits::default());
        let mut all: Vec<Http> = names.iter().map(|_| runner.http()).collect();
        measure(&mut together, &mut || {
            for (http, name) in all.iter_mut().zip(&names) {
                http.send("POST", &format!("/2015-03-31/functions/{name}/invocations"), &[], b"{}");
            }
            for http in &mut all {
                assert_eq!(http.receive().status, 200);
            }
        });
    }
    let together_p50 = percentile(&mut together, 50);
    println!(
        "warm p50 {warm_p50:?} p99 {warm_p99:?}; cold p50 {cold_p50:?} p95 {cold_p95:?}; crash, cold, p50 {crash_p50:?} \
         max {crash_max:?}; 27 cold at once p50 {together_p50:?} max {:?}",
        together.iter().max().unwrap()
    );
    assert!(warm_p50 < Duration::from_millis(5), "{warm_p50:?}");
    assert!(cold_p50 < Duration::from_millis(60), "{cold_p50:?}");
    assert!(crash_p50 < Duration::from_millis(100), "{crash_p50:?}");
    assert!(together_p50 < Duration::from_secs(1), "{together_p50:?}");
}
