//! What a function prints, line by line, and Lambda's own START, END and REPORT lines around it.
//!
//! Standard output and standard error share one pipe, so their order is kept. A line belongs to the invocation that the
//! process is working on. The last 4 KB of each invocation are kept for `X-Amz-Log-Type: Tail`. A function prints what
//! its sources say, so letters that steer a terminal are replaced.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::shown;
use rustix::io::Errno;
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep_until};

use super::lock::lock;

/// Lambda's figure for the log tail.
const TAIL: usize = 4 * 1024;
/// A longer line is cut into several; AWS's limit for one event of a log.
const LINE: usize = 256 * 1024;
/// One read; a pipe holds 64 KiB.
const CHUNK: usize = 16 * 1024;
/// Reads in one go; as many as a full pipe takes.
const READS: usize = 4;
/// How long the pipe of a function that prints without end is left alone after as many: its own printing waits, and who
/// has to write a line of Lambda's own gets at the log.
const REST: Duration = Duration::from_millis(20);

/// One line of log and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct LogLine<'a> {
    /// The function's name.
    pub function: &'a str,
    /// The invocation the process is working on, or that made it start.
    pub request_id: &'a str,
    /// Whether the function printed it; otherwise it is one of Lambda's own lines.
    pub printed: bool,
    /// The line, without its end.
    pub text: &'a str,
}

/// Takes each line as it comes; must not block.
pub type LogSink = Arc<dyn Fn(LogLine<'_>) + Send + Sync>;

/// The sink of a runner that names none: one `tracing` event a line.
pub fn to_tracing() -> LogSink {
    Arc::new(|line| {
        let LogLine { function, request_id, printed, text } = line;
        tracing::info!(target: "lambda", function, request_id, printed, "{text}");
    })
}

/// The log of one process.
pub(super) struct Log {
    function: String,
    sink: LogSink,
    pipe: pipe::Receiver,
    state: Mutex<State>,
}

struct State {
    request_id: String,
    partial: Vec<u8>,
    tail: Vec<u8>,
}

impl Log {
    pub(super) fn new(
        function: &str,
        request_id: &str,
        sink: LogSink,
        pipe: pipe::Receiver,
    ) -> Self {
        let state =
            State { request_id: request_id.to_owned(), partial: Vec::new(), tail: Vec::new() };
        Self { function: function.to_owned(), sink, pipe, state: Mutex::new(state) }
    }

    /// Carries lines from the pipe to the sink until the pipe is closed, and then waits for ever.
    pub(super) async fn pump(&self) {
        let mut chunk = vec![0; CHUNK];
        let mut reads = 0;
        while self.pipe.readable().await.is_ok() {
            match self.read(&mut chunk) {
                Ok(0) => break,
                Ok(_) => reads += 1,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => reads = 0,
                Err(_) => break,
            }
            if reads == READS {
                reads = 0;
                sleep_until(Instant::now() + REST).await;
            }
        }
        std::future::pending::<()>().await;
    }

    fn read(&self, chunk: &mut [u8]) -> std::io::Result<usize> {
        let mut state = lock(&self.state);
        let length = self.pipe.try_read(chunk)?;
        self.take(&mut state, &chunk[..length]);
        Ok(length)
    }

    /// Carries over what lies in the pipe now, past tokio's idea of its readiness: what a function printed before it
    /// answered is then in the log before the answer is. What comes meanwhile is left, or a function that never stops printing
    /// would hold its own answer back.
    pub(super) fn drain(&self) {
        let mut state = lock(&self.state);
        let mut chunk = [0; CHUNK];
        let mut left = rustix::io::ioctl_fionread(&self.pipe).unwrap_or_default();
        while left > 0 {
            match rustix::io::read(self.pipe.as_fd(), &mut chunk) {
                Ok(0) => break,
                Ok(length) => {
                    self.take(&mut state, &chunk[..length]);
                    left = left.saturating_sub(length as u64);
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
    }

    fn take(&self, state: &mut State, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            state.partial.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.end_line(state);
        }
        state.partial.extend_from_slice(bytes);
        if state.partial.len() >= LINE {
            self.end_line(state);
        }
    }

    fn end_line(&self, state: &mut State) {
        let line = std::mem::take(&mut state.partial);
        let text = String::from_utf8_lossy(&line);
        self.write(state, true, &shown::lines(text.trim_end_matches('\r')));
    }

    fn write(&self, state: &mut State, printed: bool, text: &str) {
        state.tail.extend_from_slice(text.as_bytes());
        state.tail.push(b'\n');
        if state.tail.len() > 4 * TAIL {
            let excess = state.tail.len() - TAIL;
            state.tail.drain(..excess);
        }
        (self.sink)(LogLine {
            function: &self.function,
            request_id: &state.request_id,
            printed,
            text,
        });
    }

    /// From here on the lines belong to another invocation.
    pub(super) fn begin(&self, request_id: &str) {
        self.drain();
        let mut state = lock(&self.state);
        if state.request_id != request_id {
            state.request_id = request_id.to_owned();
            state.tail.clear();
        }
        self.write(
            &mut state,
            false,
            &format!("START RequestId: {request_id} Version: {}", super::wire::VERSION),
        );
    }

    /// Writes one of Lambda's own lines.
    pub(super) fn platform(&self, text: &str) {
        self.write(&mut lock(&self.state), false, text);
    }

    /// Ends the invocation: the rest of the pipe, an unfinished line, END and REPORT; gives the tail.
    pub(super) fn end(&self, report: &Report<'_>) -> Vec<u8> {
        self.drain();
        let mut state = lock(&self.state);
        if !state.partial.is_empty() {
            self.end_line(&mut state);
        }
        let end = format!("END RequestId: {}", state.request_id);
        self.write(&mut state, false, &end);
        let report = report.line(&state.request_id);
        self.write(&mut state, false, &report);
        let tail = std::mem::take(&mut state.tail);
        let mut start = tail.len().saturating_sub(TAIL);
        // The cut must not fall inside a character, or a client that decodes the tail as UTF-8 fails.
        while start < tail.len() && tail[start] & 0b1100_0000 == 0b1000_0000 {
            start += 1;
        }
        tail[start..].to_vec()
    }
}

/// The figures of one invocation, as Lambda reports them.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) duration: Duration,
    pub(super) init: Option<Duration>,
    pub(super) memory_mb: u32,
    pub(super) max_memory_kb: u64,
    /// The error's type when the platform ended the invocation.
    pub(super) error_type: Option<&'a str>,
}

impl Report<'_> {
    fn line(&self, request_id: &str) -> String {
        let duration = millis(self.duration);
        let billed = duration.ceil();
        let (size, used) = (self.memory_mb, self.max_memory_kb.div_ceil(1024));
        let mut line = format!(
            "REPORT RequestId: {request_id}\tDuration: {duration:.2} ms\tBilled Duration: {billed} ms\t\
             Memory Size: {size} MB\tMax Memory Used: {used} MB"
        );
        if let Some(init) = self.init {
            line.push_str(&format!("\tInit Duration: {:.2} ms", millis(init)));
        }
        match self.error_type {
            Some("Sandbox.Timedout") => line.push_str("\tStatus: timeout"),
            Some(kind) => line.push_str(&format!("\tStatus: error\tError Type: {kind}")),
            None => {}
        }
        line
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_lambdas_does() {
        let report = Report {
            duration: Duration::from_micros(1_230),
            init: Some(Duration::from_micros(1_700)),
            memory_mb: 128,
            max_memory_kb: 8_300,
            error_type: None,
        };
        assert_eq!(
            report.line("r-1"),
            "REPORT RequestId: r-1\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\t\
             Max Memory Used: 9 MB\tInit Duration: 1.70 ms"
        );
    }

    #[tokio::test]
    async fn a_tail_is_the_last_4_kb_and_starts_with_a_whole_character() {
        let (_writer, reader) = std::io::pipe().map(|(reader, writer)| (writer, reader)).unwrap();
        let pipe = pipe::Receiver::from_owned_fd(reader.into()).unwrap();
        let log = Log::new("f", "r-1", Arc::new(|_| {}), pipe);
        log.begin("r-1");
        for _ in 0..2_000 {
            log.platform("não há");
        }
        let report = Report {
            duration: Duration::ZERO,
            init: None,
            memory_mb: 1,
            max_memory_kb: 0,
            error_type: None,
        };
        let tail = String::from_utf8(log.end(&report)).unwrap();
        assert!(tail.len() <= TAIL && tail.len() > TAIL - 4, "{}", tail.len());
        assert!(tail.contains("END RequestId: r-1\nREPORT RequestId: r-1\t"), "{tail}");
    }
}
