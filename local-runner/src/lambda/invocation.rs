//! One invocation from its permit in the pool to its REPORT line.
//!
//! A warm process gets the event at once; else one is started, and what goes wrong until it asks for work is this
//! invocation's failure. After the answer the invocation waits a moment for the process to ask again: its last lines
//! are then in the log, its permit is free when the caller knows the result, and a caller in a loop meets a warm process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};

use super::function::{Function, Options};
use super::instance::{Event, HandedOver, Instance, InvocationResult};
use super::log::Report;
use super::pool::{InvocationPermit, Pool};
use super::wire::{FunctionError, function_arn};

/// How long the caller's result is held back for the process to ask for work again; 60 µs is usual.
const BACK: Duration = Duration::from_millis(20);
/// How often a working process's memory is looked at, so that one that crashes leaves a figure.
const SAMPLE: Duration = Duration::from_secs(1);

/// How an invocation went.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Lambda's id of the request.
    pub request_id: String,
    /// The function's answer, or why there is none.
    pub outcome: Result<Bytes, FunctionError>,
    /// The last 4 KB of its log.
    pub log_tail: Bytes,
    /// From the event's handing over to the answer.
    pub duration: Duration,
    /// What starting the process took, if one was started.
    pub init_duration: Option<Duration>,
    /// The process's peak resident memory; 0 where it ended before it could be looked at.
    pub max_memory_kb: u64,
    /// The log stream of the process, where that ended with the invocation.
    pub dead: Option<String>,
}

/// Runs one invocation to its end.
pub(super) async fn run(
    pool: Arc<Pool>,
    function: Arc<Function>,
    payload: Bytes,
    options: Options,
    permit: InvocationPermit,
) -> Invocation {
    let run = Run { pool, function, request_id: options.request_id(), payload, options };
    let mut permit = Some(permit);
    while let Some(instance) = run.pool.take_idle(&run.function.name) {
        if let Some(handed_over) = instance.hand_over(run.event()) {
            return run.finish(instance, handed_over, None, &mut permit).await;
        }
    }
    let began = Instant::now();
    let (instance, error) = match run.pool.start(&run.function, &run.request_id).await {
        Ok((instance, started)) => match timeout(run.pool.limits.init, started).await {
            Ok(Ok(Ok(init))) => match instance.hand_over(run.event()) {
                Some(handed_over) => {
                    return run.finish(instance, handed_over, Some(init), &mut permit).await;
                }
                None => (
                    Some(instance),
                    run.error("Runtime.ExitError", "Runtime exited without providing a reason"),
                ),
            },
            Ok(Ok(Err(error))) => (Some(instance), run.named(error)),
            Ok(Err(_ended)) => (
                Some(instance),
                run.error("Runtime.ExitError", "Runtime exited with error: signal: killed"),
            ),
            Err(_elapsed) => {
                let seconds = run.pool.limits.init.as_secs_f64();
                (
                    Some(instance),
                    FunctionError::timed_out(&run.request_id, "Initialization", seconds),
                )
            }
        },
        Err(error) => {
            let reason = format!("fork/exec {}: {error}", run.function.program.display());
            (None, run.error("Runtime.InvalidEntrypoint", &reason))
        }
    };
    run.fail_to_start(instance.as_deref(), error, began.elapsed())
}

struct Run {
    pool: Arc<Pool>,
    function: Arc<Function>,
    request_id: String,
    payload: Bytes,
    options: Options,
}

impl Run {
    fn timeout(&self) -> Duration {
        self.options.timeout.unwrap_or(self.function.timeout)
    }

    fn event(&self) -> Event {
        let timeout_ms = i64::try_from(self.timeout().as_millis()).unwrap_or(i64::MAX);
        Event {
            request_id: self.request_id.clone(),
            invocation_id: uuid::Uuid::new_v4().to_string(),
            deadline_ms: wall_clock().as_millisecond().saturating_add(timeout_ms),
            arn: function_arn(&self.function.name),
            trace_id: self.options.trace_id.clone().unwrap_or_else(trace_id),
            client_context: self.options.client_context.clone(),
            cognito_identity: self.options.cognito_identity.clone(),
            payload: self.payload.clone(),
        }
    }

    fn error(&self, kind: &str, reason: &str) -> FunctionError {
        FunctionError::platform(kind, &format!("RequestId: {} Error: {reason}", self.request_id))
    }

    /// A process that ended while it started did not know for which request.
    fn named(&self, error: FunctionError) -> FunctionError {
        if error.error_type == "Runtime.ExitError" {
            self.error("Runtime.ExitError", &error.message())
        } else {
            error
        }
    }

    /// Waits for the answer, the process's end, or the deadline, whichever is first.
    async fn finish(
        self,
        instance: Arc<Instance>,
        handed_over: HandedOver,
        init_duration: Option<Duration>,
        permit: &mut Option<InvocationPermit>,
    ) -> Invocation {
        let HandedOver { mut outcome, back } = handed_over;
        let began = Instant::now();
        let deadline = began + self.timeout();
        let outcome: InvocationResult = loop {
            let wake = deadline.min(Instant::now() + SAMPLE);
            match timeout_at(wake, &mut outcome).await {
                Ok(Ok(outcome)) => break outcome,
                Ok(Err(_ended)) => {
                    break Err(self
                        .error("Runtime.ExitError", "Runtime exited with error: signal: killed"));
                }
                Err(_) if wake < deadline => instance.sample_memory(),
                Err(_) => {
                    instance.log.drain();
                    instance.kill();
                    // The answer may have come between the deadline and the end.
                    break outcome.try_recv().unwrap_or_else(|_| Err(self.time_out(&instance)));
                }
            }
        };
        let duration = began.elapsed();
        instance.sample_memory();

        let mut back = back;
        let returned = timeout(BACK, &mut back).await;
        // The log is closed before anyone else can be given the process.
        let invocation = self.close(Some(&instance), outcome, duration, init_duration);
        match returned {
            Ok(Ok(())) => self.pool.put_idle(instance),
            Ok(Err(_ended)) => {}
            Err(_elapsed) => {
                let (pool, permit) = (self.pool, permit.take());
                tokio::spawn(async move {
                    match timeout_at(deadline, back).await {
                        Ok(Ok(())) => pool.put_idle(instance),
                        Ok(Err(_ended)) => {}
                        Err(_elapsed) => instance.kill(),
                    }
                    drop(permit);
                });
            }
        }
        invocation
    }

    fn time_out(&self, instance: &Instance) -> FunctionError {
        let seconds = self.timeout().as_secs_f64();
        instance.log.platform(&format!(
            "{:.3} {} Task timed out after {seconds:.2} seconds",
            wall_clock(),
            self.request_id
        ));
        FunctionError::timed_out(&self.request_id, "Task", seconds)
    }

    /// The end of an invocation whose process never asked for work.
    fn fail_to_start(
        &self,
        instance: Option<&Instance>,
        error: FunctionError,
        took: Duration,
    ) -> Invocation {
        if let Some(instance) = instance {
            instance.log.drain();
            instance.kill();
            instance.log.begin(&self.request_id);
        }
        self.close(instance, Err(error), took, None)
    }

    fn close(
        &self,
        instance: Option<&Instance>,
        outcome: InvocationResult,
        duration: Duration,
        init_duration: Option<Duration>,
    ) -> Invocation {
        let platform = outcome.as_ref().err().filter(|error| is_platforms(&error.error_type));
        let max_memory_kb = instance.map_or(0, Instance::peak_kb);
        let report = Report {
            duration,
            init: init_duration,
            memory_mb: self.function.memory_mb,
            max_memory_kb,
            error_type: platform.map(|error| error.error_type.as_str()),
        };
        let log_tail = instance.map_or_else(Vec::new, |instance| {
            if let Some(error) = platform.filter(|error| error.error_type != "Sandbox.Timedout") {
                instance.log.platform(&error.message());
            }
            instance.log.end(&report)
        });
        Invocation {
            request_id: self.request_id.clone(),
            outcome,
            log_tail: log_tail.into(),
            duration,
            init_duration,
            max_memory_kb,
            dead: instance
                .filter(|instance| instance.is_dead())
                .map(|instance| instance.id.clone()),
        }
    }
}

/// Whether Lambda, not the function, ended the invocation.
fn is_platforms(error_type: &str) -> bool {
    error_type.starts_with("Sandbox.")
        || error_type.starts_with("Runtime.")
        || error_type == "Function.ResponseSizeTooLarge"
}

/// A trace id of X-Ray's form; nothing is traced.
fn trace_id() -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    let seconds = wall_clock().as_second();
    format!("Root=1-{seconds:08x}-{};Parent={};Sampled=0", &random[..24], &random[16..])
}

/// The real time, also while a replay runs on a chosen clock: a function compares its deadline with its own clock.
#[expect(
    clippy::disallowed_methods,
    reason = "deadlines hold by the real clock, whatever the timetable's clock says"
)]
fn wall_clock() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
