//! One process of a function, and what it is doing: starting, idle, busy, answered, dead.
//!
//! The process drives the changes by what it asks of the Runtime API; an invocation hands an event over to an idle
//! instance and learns how it ended. `Answered` lies between a function's answer and its next request for work: the
//! caller may have its result, but the process cannot take an event yet. Whoever ends an instance moves it to `Dead`
//! first, so an answer that comes late finds nobody waiting.

use std::os::unix::fs::MetadataExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use super::body::BodySpace;
use super::extensions::Extensions;
use super::function::Function;
use super::lock::lock;
use super::log::Log;
use super::wire::{FunctionError, MAX_ERROR, MAX_RESPONSE};

/// How long a process with an extension has after SIGTERM; AWS's figure for internal extensions.
const GRACE: Duration = Duration::from_millis(500);

/// The bodies that one process has on the way together: its answer, and what its extensions send.
const MAX_BODIES: usize = MAX_RESPONSE + 2 * MAX_ERROR;

/// What a function made of an event.
pub(super) type InvocationResult = Result<Bytes, FunctionError>;

/// An event as the Runtime API's `next` gives it.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) request_id: String,
    /// Names this attempt; a new one for each process that is handed the same request.
    pub(super) invocation_id: String,
    pub(super) deadline_ms: i64,
    pub(super) arn: String,
    pub(super) trace_id: String,
    pub(super) client_context: Option<String>,
    pub(super) cognito_identity: Option<String>,
    pub(super) payload: Bytes,
}

/// What an invocation waits for once its event is handed over.
pub(super) struct HandedOver {
    pub(super) outcome: oneshot::Receiver<InvocationResult>,
    /// Fires when the process asks for work again.
    pub(super) back: oneshot::Receiver<()>,
}

struct Attempt {
    request_id: String,
    invocation_id: String,
    outcome: oneshot::Sender<InvocationResult>,
    back: oneshot::Sender<()>,
}

enum Phase {
    Starting { started: oneshot::Sender<Result<Duration, FunctionError>> },
    Idle { next: oneshot::Sender<Event> },
    Busy(Attempt),
    Answered { request_id: String, back: oneshot::Sender<()> },
    Dead,
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Starting { .. } => "starting",
            Self::Idle { .. } => "idle",
            Self::Busy(_) => "busy",
            Self::Answered { .. } => "answered",
            Self::Dead => "dead",
        }
    }
}

/// Why the Runtime API refuses a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The call does not fit what the instance is doing.
    State(&'static str),
    /// No invocation of this id was ever here.
    UnknownRequest,
    /// The attempt is over: it timed out, or was answered before.
    Gone,
}

/// What an instance looks like from outside, for status pages.
#[derive(Clone, Debug)]
pub struct InstanceStatus {
    /// The function's name.
    pub function: String,
    /// The instance's id, which is also its log stream's.
    pub id: String,
    /// The process.
    pub pid: Option<i32>,
    /// starting, idle, busy, answered or dead.
    pub state: &'static str,
    /// The invocation it is working on.
    pub request_id: Option<String>,
    /// How long it has been in this state.
    pub since: Duration,
}

pub(super) struct Instance {
    pub(super) id: String,
    pub(super) function: Arc<Function>,
    pub(super) log: Log,
    pub(super) extensions: Mutex<Extensions>,
    pub(super) bodies: BodySpace,
    program: Option<ProgramFile>,
    began: Instant,
    phase: Mutex<(Phase, Instant)>,
    /// The process group, until the process is reaped; the number may be someone else's afterwards.
    group: Mutex<Option<Pid>>,
    peak_kb: AtomicU64,
    reaped: watch::Sender<bool>,
}

/// Learns whether and how fast a process starts.
pub(super) type Started = oneshot::Receiver<Result<Duration, FunctionError>>;

impl Instance {
    pub(super) fn new(id: String, function: Arc<Function>, log: Log) -> (Arc<Self>, Started) {
        let (started, receiver) = oneshot::channel();
        let began = Instant::now();
        let instance = Self {
            id,
            log,
            extensions: Mutex::default(),
            bodies: BodySpace::of(MAX_BODIES),
            program: program_file(&function),
            function,
            began,
            phase: Mutex::new((Phase::Starting { started }, began)),
            group: Mutex::new(None),
            peak_kb: AtomicU64::new(0),
            reaped: watch::Sender::new(false),
        };
        (Arc::new(instance), receiver)
    }

    /// Changes the phase: `step` gets the present one and gives the next one and its own result.
    fn step<T>(&self, step: impl FnOnce(Phase) -> (Phase, T)) -> T {
        let mut phase = lock(&self.phase);
        let present = std::mem::replace(&mut phase.0, Phase::Dead);
        let name = present.name();
        let (next, result) = step(present);
        if next.name() != name {
            phase.1 = Instant::now();
        }
        phase.0 = next;
        result
    }

    /// The process asks for work; the receiver gives it the next event, whenever that is.
    pub(super) fn next(&self) -> Result<oneshot::Receiver<Event>, Refusal> {
        let (next, event) = oneshot::channel();
        self.step(|phase| match phase {
            Phase::Starting { started } => {
                // A receiver that is gone means that the starter gave up; the process is ended then.
                let _ = started.send(Ok(self.began.elapsed()));
                (Phase::Idle { next }, Ok(event))
            }
            Phase::Answered { back, .. } => {
                let _ = back.send(());
                (Phase::Idle { next }, Ok(event))
            }
            Phase::Idle { .. } => (Phase::Idle { next }, Ok(event)),
            Phase::Busy(attempt) => {
                (Phase::Busy(attempt), Err(Refusal::State("the event at hand is not answered yet")))
            }
            // Its end came first: an event that never comes.
            Phase::Dead => (Phase::Dead, Ok(event)),
        })
    }

    /// Gives the process an event, if it waits for one.
    pub(super) fn hand_over(&self, event: Event) -> Option<HandedOver> {
        if self.peak_kb() == 0 {
            self.sample_memory();
        }
        self.log.begin(&event.request_id);
        let (sender, outcome) = oneshot::channel();
        let (back_sender, back) = oneshot::channel();
        let attempt = Attempt {
            request_id: event.request_id.clone(),
            invocation_id: event.invocation_id.clone(),
            outcome: sender,
            back: back_sender,
        };
        lock(&self.extensions).invoked(&event);
        let taken = self.step(|phase| match phase {
            Phase::Idle { next } => match next.send(event) {
                Ok(()) => (Phase::Busy(attempt), true),
                // It asked for work and hung up: whatever it is now, it is no working runtime.
                Err(_) => (Phase::Dead, false),
            },
            other => (other, false),
        });
        if !taken {
            self.kill();
        }
        taken.then_some(HandedOver { outcome, back })
    }

    /// Whether an answer to `request_id` would be taken now. `invocation_id` is what `next` sent along; runtimes older
    /// than that header do not echo it.
    pub(super) fn expects(
        &self,
        request_id: &str,
        invocation_id: Option<&str>,
    ) -> Result<(), Refusal> {
        match &lock(&self.phase).0 {
            Phase::Busy(attempt) if attempt.request_id == request_id => match invocation_id {
                Some(id) if id != attempt.invocation_id => Err(Refusal::Gone),
                _ => Ok(()),
            },
            Phase::Answered { request_id: last, .. } if last == request_id => Err(Refusal::Gone),
            Phase::Dead => Err(Refusal::Gone),
            _ => Err(Refusal::UnknownRequest),
        }
    }

    /// Takes the function's answer, if it is still wanted.
    pub(super) fn answer(
        &self,
        request_id: &str,
        invocation_id: Option<&str>,
        outcome: InvocationResult,
    ) -> Result<(), Refusal> {
        self.log.drain();
        // Between this look and the step below only the deadline can come, and that is looked at again.
        self.expects(request_id, invocation_id)?;
        self.step(|phase| match phase {
            Phase::Busy(attempt) if attempt.request_id == request_id => {
                let _ = attempt.outcome.send(outcome);
                (Phase::Answered { request_id: attempt.request_id, back: attempt.back }, Ok(()))
            }
            other => (other, Err(Refusal::Gone)),
        })
    }

    /// Takes the process's word that it cannot start.
    pub(super) fn fail_to_start(&self, error: FunctionError) -> Result<(), Refusal> {
        self.log.drain();
        self.step(|phase| match phase {
            Phase::Starting { started } => {
                let _ = started.send(Err(error));
                (Phase::Dead, Ok(()))
            }
            other => (other, Err(Refusal::State("the process has started already"))),
        })
    }

    /// Whether the process has not asked for work yet.
    pub(super) fn is_starting(&self) -> bool {
        matches!(lock(&self.phase).0, Phase::Starting { .. })
    }

    /// Whether the process has ended, or is being ended.
    pub(super) fn is_dead(&self) -> bool {
        matches!(lock(&self.phase).0, Phase::Dead)
    }

    /// How long the instance has been waiting for work, if it is.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        let phase = lock(&self.phase);
        matches!(phase.0, Phase::Idle { .. }).then(|| phase.1.elapsed())
    }

    /// Whether the process runs the program that is there now, not one that was built over; while a build has taken the file
    /// away, it does.
    pub(super) fn is_current(&self) -> bool {
        program_file(&self.function).is_none_or(|file| self.program == Some(file))
    }

    /// The process is there.
    pub(super) fn spawned(&self, pid: Option<u32>) {
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        *lock(&self.group) = pid;
        // It may have been ended while it was being started.
        if matches!(lock(&self.phase).0, Phase::Dead) {
            self.kill();
        }
    }

    /// The process has ended: everything it left behind is ended too, and whoever waits for it is notified at once.
    pub(super) fn exited(&self, status: Option<ExitStatus>) {
        self.signal(Signal::KILL);
        *lock(&self.group) = None;
        self.log.drain();
        let reason = reason(status);
        self.step(|phase| {
            match phase {
                Phase::Starting { started } => {
                    let _ = started.send(Err(exit_error(None, &reason)));
                }
                Phase::Busy(attempt) => {
                    let _ =
                        attempt.outcome.send(Err(exit_error(Some(&attempt.request_id), &reason)));
                }
                Phase::Idle { .. } | Phase::Answered { .. } | Phase::Dead => {}
            }
            (Phase::Dead, ())
        });
        self.reaped.send_replace(true);
    }

    /// Ends the process and all of its children now.
    pub(super) fn kill(&self) {
        self.sample_memory();
        self.step(|_| (Phase::Dead, ()));
        self.signal(Signal::KILL);
    }

    /// Ends the process as Lambda ends an environment: with a warning only where an extension asked for one.
    pub(super) async fn end(&self) {
        self.step(|_| (Phase::Dead, ()));
        if lock(&self.extensions).is_registered() {
            self.signal(Signal::TERM);
            // Time run out and a process that is gone are both answered by the SIGKILL that follows.
            let _ = timeout(GRACE, self.reaped()).await;
        }
        self.signal(Signal::KILL);
    }

    /// Waits until the process is gone.
    pub(super) async fn reaped(&self) {
        let mut reaped = self.reaped.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = reaped.wait_for(|&reaped| reaped).await;
    }

    fn signal(&self, signal: Signal) {
        let group = lock(&self.group);
        if let Some(pid) = *group {
            // ESRCH: everyone in the group is gone, which is what is wanted.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Looks at the process's peak memory; nothing is left to look at once it has ended.
    pub(super) fn sample_memory(&self) {
        let Some(pid) = *lock(&self.group) else { return };
        let path = format!("/proc/{}/status", pid.as_raw_nonzero());
        let Ok(text) = std::fs::read_to_string(path) else { return };
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        self.peak_kb.fetch_max(peak.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn peak_kb(&self) -> u64 {
        self.peak_kb.load(Ordering::Relaxed)
    }

    pub(super) fn status(&self) -> InstanceStatus {
        let phase = lock(&self.phase);
        let request_id = match &phase.0 {
            Phase::Busy(attempt) => Some(attempt.request_id.clone()),
            Phase::Answered { request_id, .. } => Some(request_id.clone()),
            Phase::Starting { .. } | Phase::Idle { .. } | Phase::Dead => None,
        };
        InstanceStatus {
            function: self.function.name.clone(),
            id: self.id.clone(),
            pid: lock(&self.group).map(|pid| pid.as_raw_nonzero().get()),
            state: phase.0.name(),
            request_id,
            since: phase.1.elapsed(),
        }
    }
}

/// Device, inode and time of change: a build makes a new file or changes the old one.
type ProgramFile = (u64, u64, i64, i64);

fn program_file(function: &Function) -> Option<ProgramFile> {
    let file = std::fs::metadata(&function.program).ok()?;
    Some((file.dev(), file.ino(), file.mtime(), file.mtime_nsec()))
}

/// The end of a process in Lambda's words.
fn reason(status: Option<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;

    let Some(status) = status else { return "Runtime exited for an unknown reason".to_owned() };
    match (status.code(), status.signal()) {
        (Some(0), _) => "Runtime exited without providing a reason".to_owned(),
        (Some(code), _) => format!("Runtime exited with error: exit status {code}"),
        (None, Some(signal)) => {
            format!("Runtime exited with error: signal: {}", signal_name(signal))
        }
        (None, None) => "Runtime exited for an unknown reason".to_owned(),
    }
}

/// Signals as AWS names them, whose emulator is written in Go.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        15 => "terminated",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

/// A process that ended by itself. While it starts the request's id is not known here: the invocation adds it.
fn exit_error(request_id: Option<&str>, reason: &str) -> FunctionError {
    match request_id {
        Some(id) => FunctionError::platform(
            "Runtime.ExitError",
            &format!("RequestId: {id} Error: {reason}"),
        ),
        None => FunctionError::platform("Runtime.ExitError", reason),
    }
}
