//! A body of any length as it comes: chunks or lines, in constant memory.
//!
//! Nothing is read ahead of the reader but one chunk, what the connection holds and what a decoder needs: who stops reading
//! stops the server. A stream holds its turn at the host, and no share of [`LARGE_BODIES`](super::LARGE_BODIES).

use std::fmt;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::body;
use super::call::{Headers, Limits, NotModified};
use super::failure::{Failure, Limit, Phase, Reason};
use super::pace::Turn;
use base::address::shown;
use base::validators::Validators;

/// The longest line that [`Stream::line`] hands out, without its end.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// The longest chunk that [`Stream::chunk`] hands out, and what is read at a time.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;

/// An answer to be read as it comes.
#[derive(Debug)]
pub enum Streamed {
    /// The server still has what the validators name.
    NotModified(NotModified),
    /// A body begins.
    Open(Stream),
}

/// Whether a line was handed out as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// All of it.
    Whole,
    /// Its first [`LINE_BYTES_MAX`] bytes; the rest was skipped.
    Cut,
}

/// A body as it comes. Once a read has failed, each further one fails alike.
///
/// Every read may be dropped before it is ready: nothing is lost, and the next one goes on.
pub struct Stream {
    head: Box<Head>,
    source: Box<Source>,
    /// Decoded bytes that were read and not handed out.
    pub(super) buffer: BytesMut,
    /// So much of the buffer's beginning holds no end of a line.
    searched: usize,
    /// Bytes of the line that the buffer begins with, which were cut off behind its first [`LINE_BYTES_MAX`].
    cut_off: u64,
    /// Decoded bytes that were handed out or skipped.
    offset: u64,
    state: State,
}

/// What comes before a body.
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) final_url: Url,
    pub(super) moved_to: Option<Url>,
    pub(super) validators: Validators,
    pub(super) content_type: Option<String>,
    pub(super) headers: Headers,
    pub(super) requests: u32,
    pub(super) starts_at: u64,
}

/// Where a stream's bytes come from, and within what limits.
pub(super) struct Source {
    pub(super) decoder: Box<dyn AsyncRead + Unpin + Send>,
    pub(super) is_plain: bool,
    pub(super) on_wire: Arc<AtomicU64>,
    /// The URL that was asked for.
    pub(super) url: Url,
    pub(super) limits: Limits,
    pub(super) deadline: Instant,
    /// Where the body ends, as `Content-Range` says.
    pub(super) ends_at: Option<u64>,
    pub(super) _turn: Turn,
}

#[derive(Clone)]
enum State {
    Open,
    Ended,
    Failed(Reason),
}

impl Stream {
    pub(super) fn new(head: Head, source: Source) -> Self {
        Self {
            head: Box::new(head),
            source: Box::new(source),
            buffer: BytesMut::new(),
            searched: 0,
            cut_off: 0,
            offset: 0,
            state: State::Open,
        }
    }

    /// A body that `url` gave once, to be read as it was then.
    pub fn archived(url: Url, body: Vec<u8>) -> Self {
        let head = Head {
            status: 200,
            final_url: url.clone(),
            moved_to: None,
            validators: Validators::default(),
            content_type: None,
            headers: Headers::default(),
            requests: 0,
            starts_at: 0,
        };
        let limits = Limits::STREAM;
        let source = Source {
            on_wire: Arc::new(AtomicU64::new(body.len() as u64)),
            decoder: Box::new(Cursor::new(body)),
            is_plain: false,
            url,
            limits,
            deadline: Instant::now() + limits.total_timeout,
            ends_at: None,
            _turn: Turn::FREE,
        };
        Self::new(head, source)
    }

    /// A status of the 2xx range.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The URL that answered.
    pub fn final_url(&self) -> &Url {
        &self.head.final_url
    }

    /// The URL to use from now on, when every hop was permanent (301 or 308).
    pub fn moved_to(&self) -> Option<&Url> {
        self.head.moved_to.as_ref()
    }

    /// What names this version. Store them as the source's only after the last byte was stored.
    pub fn validators(&self) -> &Validators {
        &self.head.validators
    }

    /// `Content-Type` as it came.
    pub fn content_type(&self) -> Option<&str> {
        self.head.content_type.as_deref()
    }

    /// Every header field.
    pub fn headers(&self) -> &Headers {
        &self.head.headers
    }

    /// Requests that were sent, redirects and second tries included.
    pub fn requests(&self) -> u32 {
        self.head.requests
    }

    /// The next decoded bytes, at least one and [`CHUNK_BYTES_MAX`] at most; `None` at the end of the body.
    ///
    /// # Errors
    /// Why no more comes.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        self.check()?;
        if self.buffer.is_empty() && !self.fill().await? {
            return Ok(None);
        }
        let length = self.buffer.len().min(CHUNK_BYTES_MAX);
        self.pass_over(length);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Replaces the buffer's content by the next line, without its `\n` or `\r\n`; `None` at the end of the body.
    ///
    /// The end of the body also ends a line. Where the connection breaks, the part of a line before it is not handed out.
    ///
    /// # Errors
    /// Why no more comes.
    pub async fn line(&mut self, line: &mut Vec<u8>) -> Result<Option<Line>, Failure> {
        line.clear();
        self.check()?;
        let (content, end) = loop {
            if let Some(found) = memchr(b'\n', &self.buffer[self.searched..]) {
                let content = self.searched + found;
                break (content, content + 1);
            }
            // One more than the longest line may be the `\r` of its end.
            if self.buffer.len() > LINE_BYTES_MAX + 1 {
                self.cut_off += (self.buffer.len() - LINE_BYTES_MAX) as u64;
                self.buffer.truncate(LINE_BYTES_MAX);
            }
            self.searched = self.buffer.len();
            if !self.fill().await? {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                break (self.buffer.len(), self.buffer.len());
            }
        };
        let mut content = &self.buffer[..content];
        if self.cut_off == 0 {
            content = content.strip_suffix(b"\r").unwrap_or(content);
        }
        let is_cut = self.cut_off > 0 || content.len() > LINE_BYTES_MAX;
        line.extend_from_slice(&content[..content.len().min(LINE_BYTES_MAX)]);
        self.pass_over(end);
        self.buffer.advance(end);
        Ok(Some(if is_cut { Line::Cut } else { Line::Whole }))
    }

    /// Passes over so many decoded bytes, to go on where an earlier reading ended and the server gives no ranges.
    ///
    /// # Errors
    /// Why they do not come; a body that ends before them is truncated.
    pub async fn skip(&mut self, bytes: u64) -> Result<(), Failure> {
        self.check()?;
        let goal = self.offset.saturating_add(bytes);
        while self.offset < goal {
            if self.buffer.is_empty() && !self.fill().await? {
                return Err(self.fail(Reason::Truncated));
            }
            let step = usize::try_from(goal - self.offset).unwrap_or(usize::MAX);
            let step = step.min(self.buffer.len());
            self.pass_over(step);
            self.buffer.advance(step);
        }
        Ok(())
    }

    /// Decoded bytes that this stream has handed out or skipped; after a line, all up to the beginning of the next one.
    ///
    /// With [`Stream::starts_at`] added it is the place in the body from which to go on later: with
    /// [`Request::range`](super::Request::range) where the body [`is_plain`](Stream::is_plain), else with [`Stream::skip`].
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Where in the body the stream began: what was asked for with [`Request::range`](super::Request::range), or 0 where the
    /// server gave all.
    pub fn starts_at(&self) -> u64 {
        self.head.starts_at
    }

    /// Whether the body came without compression, so that an offset counts the bytes that the server has.
    pub fn is_plain(&self) -> bool {
        self.source.is_plain
    }

    /// Bytes of the body that arrived, before decompression.
    pub fn bytes_on_wire(&self) -> u64 {
        self.source.on_wire.load(Ordering::Relaxed)
    }

    /// Counts bytes at the buffer's beginning, and what was cut off behind them, as handed out.
    fn pass_over(&mut self, bytes: usize) {
        self.offset += bytes as u64 + std::mem::take(&mut self.cut_off);
        self.searched = 0;
    }

    /// Reads on behind what the buffer holds; false at the end of the body.
    async fn fill(&mut self) -> Result<bool, Failure> {
        if matches!(self.state, State::Ended) {
            return Ok(false);
        }
        match self.read().await {
            Ok(0) => {
                self.state = State::Ended;
                Ok(false)
            }
            Ok(_) => Ok(true),
            Err(reason) => Err(self.fail(reason)),
        }
    }

    async fn read(&mut self) -> Result<usize, Reason> {
        let Source { decoder, limits, deadline, ends_at, .. } = &mut *self.source;
        let late =
            Reason::TimedOut { limit: Limit::Total(Phase::Body), after: limits.total_timeout };
        // A body that never makes anybody wait would otherwise outrun the deadline.
        if Instant::now() >= *deadline {
            return Err(late);
        }
        tokio::task::coop::consume_budget().await;
        self.buffer.reserve(CHUNK_BYTES_MAX);
        let mut room = (&mut self.buffer).limit(CHUNK_BYTES_MAX);
        let read = match timeout_at(*deadline, decoder.read_buf(&mut room)).await {
            Ok(read) => read.map_err(|error| body::reason(&error, limits))?,
            Err(_) => return Err(late),
        };
        let place = self.head.starts_at + self.offset + self.cut_off + self.buffer.len() as u64;
        match *ends_at {
            Some(end) if place > end => {
                Err(Reason::Malformed("more bytes than `Content-Range` says".into()))
            }
            Some(end) if read == 0 && place < end => Err(Reason::Truncated),
            _ if place > limits.max_body => Err(Reason::TooLarge { cap: limits.max_body }),
            _ => Ok(read),
        }
    }

    /// Fails where a read before has failed: what it may have left in the buffer is not to be handed out.
    fn check(&self) -> Result<(), Failure> {
        match &self.state {
            State::Failed(reason) => Err(self.failure(reason.clone())),
            State::Open | State::Ended => Ok(()),
        }
    }

    fn fail(&mut self, reason: Reason) -> Failure {
        self.state = State::Failed(reason.clone());
        self.failure(reason)
    }

    fn failure(&self, reason: Reason) -> Failure {
        Failure::new(reason, self.head.requests, &self.source.url, Some(&self.head.final_url))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("status", &self.head.status)
            .field("final_url", &shown(&self.head.final_url))
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}
