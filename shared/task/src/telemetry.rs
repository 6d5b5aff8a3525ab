//! Logs: one line of JSON each on standard error, one `info` a run.

use std::io::{self, Write};
use std::process::ExitCode;

use base::report::{Report, Status};
use base::shown;
use log as _; // For its feature that leaves it out; see the workspace's manifest.
use tracing_subscriber::EnvFilter;

/// Starts logging at the given filter; what cannot be read falls back to `info`.
pub fn start(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    // A second start in one process, as in tests, changes nothing.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(|| HarmlessLog)
        .try_init();
}

/// Standard error, on which what upstream says is written so that it steers no terminal.
struct HarmlessLog;

impl Write for HarmlessLog {
    /// Takes a whole line of JSON, as the subscriber writes one event at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        io::stderr().lock().write_all(shown::json(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Logs what a run did.
pub fn report(report: &Report) {
    let line = serde_json::to_string(report).unwrap_or_default();
    match report.status {
        Status::Failed => {
            tracing::error!(
                task = report.task,
                run_id = report.run_id,
                report = line,
                "run failed"
            );
        }
        Status::Complete | Status::Partial | Status::Skipped => {
            tracing::info!(
                task = report.task,
                run_id = report.run_id,
                report = line,
                "run {}",
                report.status.name()
            );
        }
    }
}

/// Says on standard error why a process cannot start.
pub fn complain(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {}", shown::indented(message));
    ExitCode::FAILURE
}
