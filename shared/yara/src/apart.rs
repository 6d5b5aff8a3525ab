//! Compiling in a process of its own: a rule that ends the compiler, or takes it too long or too much memory, costs itself
//! and neither the task nor the rules beside it.
//!
//! The process is this program started once more, with one argument that tells it so. A program takes part by asking
//! [`serve`] first thing in its `main`; in one that does not, rules are compiled in it, on a thread with the same stack.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use super::verdict::{Unit, Verdict};

/// The stack that a compiler has. A tree of [`super::HEIGHT_MAX`] takes less than an eighth of it.
pub const STACK_BYTES: usize = 32 << 20;
/// How long one rule may be compiled.
const COMPILE: Duration = Duration::from_secs(20);
/// Memory of the process, in bytes, its stack included. All of signature-base takes 43 MB, and a Lambda function of 256 MB
/// has room for it beside the task.
const MEMORY_BYTES: u64 = 128 << 20;
/// Times that the process is started again in one run. What is left then has no verdict, and is compiled in the next run.
const ENDS_MAX: usize = 20;
/// What tells a program to compile and do nothing else.
const ARGUMENT: &str = "compile-rules-of-standard-input";

static IS_SERVED: AtomicBool = AtomicBool::new(false);

/// Compiles what this program's parent asks, if that is what it was started for.
pub fn serve() -> Option<ExitCode> {
    IS_SERVED.store(true, Ordering::Relaxed);
    if std::env::args_os().nth(1).is_none_or(|argument| argument != ARGUMENT) {
        return None;
    }
    end_with_parent();
    let work = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(answer);
    let ended = work.ok().and_then(|work| work.join().ok());
    Some(if ended.is_some_and(|ended| ended.is_ok()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// One unit a line in, one verdict a line out.
fn answer() -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let unit: Unit = serde_json::from_str(&line?)?;
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &unit.check())?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn end_with_parent() {
    use rustix::process::{Signal, set_parent_process_death_signal};
    // Without it, the end of standard input ends it all the same, after the rule that is being compiled.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent() {}

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The rule ended the compiler: it never compiles.
    Ended(String),
    /// The compiler was not asked.
    Unasked(String),
}

/// A compiler, wherever it runs.
pub(super) struct Compiler {
    /// The program that compiles, and its argument; none compiles here.
    program: Option<PathBuf>,
    process: Option<Process>,
    ends: usize,
    limit: Duration,
}

struct Process {
    child: Child,
    units: ChildStdin,
    verdicts: Receiver<String>,
}

impl Compiler {
    pub(super) fn new() -> Self {
        let own = IS_SERVED.load(Ordering::Relaxed).then(std::env::current_exe);
        Self::of(own.and_then(Result::ok), COMPILE)
    }

    fn of(program: Option<PathBuf>, limit: Duration) -> Self {
        Self { program, process: None, ends: 0, limit }
    }

    /// Compiles a unit.
    pub(super) fn check(&mut self, unit: &Unit) -> Result<Verdict, Unanswered> {
        let Some(program) = &self.program else { return Ok(unit.check()) };
        if self.ends >= ENDS_MAX {
            let why = format!("rules before it ended the compiler `{ENDS_MAX}` times in this run");
            return Err(Unanswered::Unasked(why));
        }
        let running = self.process.take().map_or_else(|| Process::start(program), Ok);
        let Ok(mut process) = running else {
            // The program was replaced while it ran, or the system has no room for another process.
            self.program = None;
            return Ok(unit.check());
        };
        match process.ask(unit, self.limit) {
            Ok(verdict) => {
                self.process = Some(process);
                Ok(verdict)
            }
            Err(why) => {
                self.ends += 1;
                Err(Unanswered::Ended(why))
            }
        }
    }
}

impl Process {
    fn start(program: &PathBuf) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(ARGUMENT).env_clear().stderr(Stdio::null());
        // `restrict` counts what may be written to, and mimalloc takes a gigabyte at once that may: where the limit came after it,
        // every rule ended the compiler. Now it asks for each piece when it has something to put there.
        command.env("MIMALLOC_ARENA_EAGER_COMMIT", "0");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        restrict(&child);
        let (Some(units), Some(out)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("it has no pipes"));
        };
        let (sender, verdicts) = sync_channel(1);
        std::thread::spawn(move || {
            let mut lines = BufReader::new(out).lines().map_while(Result::ok);
            // Ends with the process, or with the compiler that asks.
            while lines.next().is_some_and(|line| sender.send(line).is_ok()) {}
        });
        Ok(Self { child, units, verdicts })
    }

    /// The verdict, or how the unit ended the process.
    fn ask(&mut self, unit: &Unit, limit: Duration) -> Result<Verdict, String> {
        let mut line = serde_json::to_vec(unit).map_err(|cause| cause.to_string())?;
        line.push(b'\n');
        let sent = self.units.write_all(&line).and_then(|()| self.units.flush());
        let answer = match sent {
            Ok(()) => self.verdicts.recv_timeout(limit),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        match answer {
            Ok(line) => serde_json::from_str(&line).map_err(|cause| cause.to_string()),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("compiling it takes more than `{}` s", limit.as_secs()))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().map(|status| status.to_string());
                Err(format!("it ends the compiler: {}", status.unwrap_or_default()))
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be at work, or over already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Limits the memory of the process, where the kernel can do it from outside.
#[cfg(target_os = "linux")]
fn restrict(child: &Child) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let limit = Rlimit { current: Some(MEMORY_BYTES), maximum: Some(MEMORY_BYTES) };
    // Where it cannot be set, the process has the memory of the task.
    let _ = prlimit(Some(Pid::from_child(child)), Resource::Data, limit);
}

#[cfg(not(target_os = "linux"))]
fn restrict(_: &Child) {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn unit(rule: &str) -> Unit {
        Unit::new([], [], rule, Vec::new())
    }

    #[test]
    fn a_rule_that_ends_the_compiler_costs_itself() {
        let place = std::env::temp_dir().join(format!("minerva-compiler-{}", std::process::id()));
        let program = "#!/bin/sh\nwhile read -r line; do case $line in \
            *Deadly*) kill -ABRT $$;; *Slow*) sleep 60;; *) echo '\"Alone\"';; esac; done\n";
        std::fs::write(&place, program).unwrap();
        std::fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).unwrap();
        let mut compiler = Compiler::of(Some(place.clone()), Duration::from_secs(1));
        assert_eq!(compiler.check(&unit("rule A")), Ok(Verdict::Alone));
        for (rule, why) in [("rule Deadly", "signal: 6"), ("rule Slow", "more than `1` s")] {
            let answer = compiler.check(&unit(rule));
            let Err(Unanswered::Ended(reason)) = &answer else { panic!("{rule}: {answer:?}") };
            assert!(reason.contains(why), "{reason}");
            assert_eq!(compiler.check(&unit("rule B")), Ok(Verdict::Alone), "after {rule}");
        }
        for _ in 2..ENDS_MAX {
            assert!(matches!(compiler.check(&unit("rule Deadly")), Err(Unanswered::Ended(_))));
        }
        assert!(matches!(compiler.check(&unit("rule C")), Err(Unanswered::Unasked(_))));
        std::fs::remove_file(place).unwrap();
    }

    #[test]
    fn without_a_process_it_compiles_here() {
        let mut compiler = Compiler::of(None, COMPILE);
        let answer = compiler.check(&unit("rule A { condition: true }"));
        assert_eq!(answer, Ok(Verdict::Alone));
        let mut gone = Compiler::of(Some("/nowhere".into()), COMPILE);
        assert_eq!(gone.check(&unit("rule A { condition: true }")), Ok(Verdict::Alone));
    }
}
