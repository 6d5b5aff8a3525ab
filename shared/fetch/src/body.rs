//! Reads a body under caps: bytes on the wire, bytes after decompression, time between chunks, memory of the process.
//!
//! Decompression is done here and not by reqwest, for four reasons: reqwest hides the bytes on the wire, it knows nothing of
//! gzip that was not announced, it accepts zstd windows of 128 MiB and brotli windows of 1 GiB, and its output cannot be
//! stopped while memory is waited for.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Cursor, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_compression::tokio::bufread::{
    BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder,
};
use async_compression::zstd::DParameter;
use futures_util::stream;
use reqwest::header::CONTENT_ENCODING;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::io::StreamReader;

use super::call::Limits;
use super::failure::{Limit, Phase, Progress, Reason};

/// What is read of the body of a refusal, in bytes: for the wait it asks for, and for [`Fetched::Refused`](super::Fetched::Refused).
pub const REFUSAL_MAX: u64 = 4 << 10;
/// How long the body of a refusal is read.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);
/// A body up to this size takes no part in the count of large ones; most feeds are smaller. 1 MiB was measured first: 60
/// sources that all send without end then took 128 MB.
pub const SMALL_BODY: u64 = 512 << 10;
/// What all large bodies of a process may hold together: two feeds at their cap, or one body of any size.
pub const LARGE_BODIES: u64 = 40 << 20;
/// A large body that comes more slowly than this, in bytes a second, gives way when others wait for its memory.
const LARGE_BODY_RATE: u64 = 1 << 20;
/// For how long a large body may be slow.
pub(super) const SLOW_FOR: Duration = Duration::from_secs(5);
/// The encodings that are read.
pub(super) const ACCEPT_ENCODING: &str = "gzip, deflate, br, zstd";

/// Encodings of one body at most, as browsers have it.
const ENCODINGS_MAX: usize = 5;
/// More on the wire than after decompression is absurd, but for headers and bodies that do not compress.
const WIRE_SLACK: u64 = 64 << 10;
/// Decompressed at a time.
const STEP: usize = 32 << 10;
/// RFC 9659's limit for zstd as a content encoding: 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;
/// Room for a large body. glibc gives blocks above 32 MiB back to the system at once and may keep smaller ones: with them,
/// 60 mixed sources took 115 MB, with these 72 MB.
const LEAST_ROOM: u64 = 33 << 20;
/// What is set aside at most before it is needed.
const MOST_ROOM: u64 = 128 << 20;
const KIB: u64 = 1 << 10;

/// Memory for large bodies, shared by every call of a process.
pub(super) struct Memory {
    free: Arc<Semaphore>,
    waiting: AtomicU64,
    slow_for: Duration,
}

impl Memory {
    pub(super) fn new(slow_for: Duration) -> Self {
        let free = Arc::new(Semaphore::new(LARGE_BODIES.div_ceil(KIB) as usize));
        Self { free, waiting: AtomicU64::new(0), slow_for }
    }

    /// Waits, in order, for `bytes`; more than there is at all means all of it.
    pub(super) async fn take(&self, bytes: u64) -> OwnedSemaphorePermit {
        let share = bytes.min(LARGE_BODIES).div_ceil(KIB) as u32;
        let _waiter = Waiter::of(&self.waiting);
        Arc::clone(&self.free)
            .acquire_many_owned(share)
            .await
            .expect("the semaphore is never closed")
    }

    /// Whether a body that got `bytes` since `since` has to give way, or two slow sources would starve all others.
    fn is_wanted_back(&self, since: Instant, bytes: u64) -> bool {
        let held = since.elapsed();
        held > self.slow_for
            && self.waiting.load(Ordering::Relaxed) > 0
            && u128::from(bytes) * 1000 < u128::from(LARGE_BODY_RATE) * held.as_millis()
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> u64 {
        self.free.available_permits() as u64 * KIB
    }
}

/// Counts one who waits, until dropped.
struct Waiter<'a>(&'a AtomicU64);

impl<'a> Waiter<'a> {
    fn of(waiting: &'a AtomicU64) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) truncated: bool,
    pub(super) on_wire: u64,
    /// The share of [`LARGE_BODIES`] that the bytes take, if they are many.
    pub(super) share: Option<OwnedSemaphorePermit>,
}

pub(super) async fn read(
    response: reqwest::Response,
    limits: &Limits,
    memory: &Memory,
    progress: &mut Progress,
) -> Result<Body, Reason> {
    let cap = limits.max_body;
    let announced = response.content_length();
    let OpenBody { mut decoder, is_plain, on_wire } = open(response, limits, false).await?;

    let mut bytes = Vec::new();
    let mut share = None;
    let mut large_since = Instant::now();
    let mut truncated = false;
    let mut step = vec![0; STEP];
    loop {
        let read = match decoder.read(&mut step).await {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => match reason(&error, limits) {
                // What came before the break is whole up to there; the parser may be able to save it.
                Reason::Reset | Reason::Undecodable(_) if !bytes.is_empty() => {
                    truncated = true;
                    break;
                }
                reason => return Err(reason),
            },
        };
        let size = (bytes.len() + read) as u64;
        if size > cap {
            return Err(Reason::TooLarge { cap });
        }
        if size > SMALL_BODY && share.is_none() {
            let expected = announced.filter(|_| is_plain).unwrap_or(cap).max(size);
            progress.phase = Phase::Memory;
            share = Some(memory.take(expected).await);
            progress.phase = Phase::Body;
            large_since = Instant::now();
            // At once, so that growing never holds the bytes twice; pages count only once they are written.
            let room = expected.clamp(LEAST_ROOM, MOST_ROOM) as usize;
            bytes.reserve_exact(room - bytes.len());
        }
        bytes.extend_from_slice(&step[..read]);
        if share.is_some() && memory.is_wanted_back(large_since, size - SMALL_BODY) {
            return Err(Reason::TimedOut { limit: Limit::LargeBody, after: large_since.elapsed() });
        }
        // One chunk can decompress to the whole cap: others get their turn, and the deadline is looked at.
        tokio::task::coop::consume_budget().await;
    }
    Ok(Body { bytes, truncated, on_wire: on_wire.load(Ordering::Relaxed), share })
}

/// A body whose encoding is known.
pub(super) struct OpenBody {
    pub(super) decoder: Box<dyn AsyncRead + Unpin + Send>,
    /// It is not compressed.
    pub(super) is_plain: bool,
    pub(super) on_wire: Arc<AtomicU64>,
}

/// Reads the body's first bytes; a part of a body is taken as it is, whatever it begins with.
pub(super) async fn open(
    response: reqwest::Response,
    limits: &Limits,
    is_part: bool,
) -> Result<OpenBody, Reason> {
    let cap = limits.max_body;
    if response.content_length().is_some_and(|length| length > cap) {
        return Err(Reason::TooLarge { cap });
    }
    let encodings = encodings(&response);
    let on_wire = Arc::new(AtomicU64::new(0));
    let wire =
        wire(response, limits.idle_timeout, cap.saturating_add(WIRE_SLACK), Arc::clone(&on_wire));
    if is_part {
        if encodings.is_empty() {
            return Ok(OpenBody { decoder: Box::new(wire), is_plain: true, on_wire });
        }
        return Err(Reason::Malformed("a part of a body that is compressed".into()));
    }
    let (decoder, is_plain) =
        decoder(wire, &encodings, cap).await.map_err(|error| reason(&error, limits))?;
    Ok(OpenBody { decoder, is_plain, on_wire })
}

/// Reads what a refusal says, up to its caps on size and time; what is missing is nobody's failure.
pub(super) async fn read_refusal(response: reqwest::Response) -> Body {
    let (cap, timeout) = (REFUSAL_MAX, REFUSAL_TIMEOUT);
    let encodings = encodings(&response);
    let on_wire = Arc::new(AtomicU64::new(0));
    let wire = wire(response, timeout, cap.saturating_add(WIRE_SLACK), Arc::clone(&on_wire));
    let mut bytes = Vec::new();
    let reading = async {
        let (decoder, _) = decoder(wire, &encodings, cap).await?;
        decoder.take(cap + 1).read_to_end(&mut bytes).await
    };
    let is_read = tokio::time::timeout(timeout, reading).await.is_ok_and(|read| read.is_ok());
    let truncated = !is_read || bytes.len() as u64 > cap;
    bytes.truncate(cap as usize);
    Body { bytes, truncated, on_wire: on_wire.load(Ordering::Relaxed), share: None }
}

/// The encodings of a body in the order in which they were applied, over all headers; RFC 9110 section 8.4 has a list.
fn encodings(response: &reqwest::Response) -> Vec<String> {
    let headers = response.headers().get_all(CONTENT_ENCODING).iter();
    let names = headers.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let names = names.map(|name| name.trim().to_ascii_lowercase());
    names.filter(|name| !matches!(name.as_str(), "" | "identity")).collect()
}

/// The body as it arrives, with the limits that hold there.
fn wire(
    response: reqwest::Response,
    idle_timeout: Duration,
    cap: u64,
    count: Arc<AtomicU64>,
) -> impl AsyncBufRead + Unpin + Send {
    let chunks = stream::unfold(response, move |mut response| {
        let count = Arc::clone(&count);
        async move {
            let chunk = match timeout(idle_timeout, response.chunk()).await {
                Err(_) => Err(Stop::Idle),
                Ok(Err(_)) => Err(Stop::Broken),
                Ok(Ok(None)) => return None,
                Ok(Ok(Some(chunk))) => {
                    let before = count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    if before + chunk.len() as u64 > cap { Err(Stop::TooLarge) } else { Ok(chunk) }
                }
            };
            Some((chunk.map_err(io::Error::other), response))
        }
    });
    StreamReader::new(Box::pin(chunks))
}

/// Undoes every encoding, the last one first. What is between two of them has the caps of the wire.
async fn decoder<'w>(
    wire: impl AsyncBufRead + Unpin + Send + 'w,
    encodings: &[String],
    cap: u64,
) -> io::Result<(Box<dyn AsyncRead + Unpin + Send + 'w>, bool)> {
    if encodings.len() > ENCODINGS_MAX {
        let why = format!("{} encodings in one another", encodings.len());
        return Err(io::Error::new(ErrorKind::InvalidData, why));
    }
    let mut encodings = encodings.iter().rev().map(String::as_str);
    let (mut outer, mut is_plain) = layer(wire, encodings.next().unwrap_or_default()).await?;
    for encoding in encodings {
        let between = BufReader::new(outer.take(cap.saturating_add(WIRE_SLACK)));
        let (inner, inner_is_plain) = layer(between, encoding).await?;
        (outer, is_plain) = (inner, is_plain && inner_is_plain);
    }
    Ok((outer, is_plain))
}

/// Chooses by what the body begins with where that is certain, and by its header otherwise.
///
/// Gzip goes by its magic number alone: it comes without being announced, and is announced without being there.
async fn layer<'w>(
    mut wire: impl AsyncBufRead + Unpin + Send + 'w,
    encoding: &str,
) -> io::Result<(Box<dyn AsyncRead + Unpin + Send + 'w>, bool)> {
    let mut start = Vec::with_capacity(2);
    (&mut wire).take(2).read_to_end(&mut start).await?;
    let is_gzip = start == [0x1f, 0x8b];
    let is_large_brotli = start.first().is_some_and(|first| first & 0x7f == 0x11);
    let is_zlib =
        matches!(start[..], [a, b] if a & 0x0f == 8 && u16::from_be_bytes([a, b]) % 31 == 0);
    let is_empty = start.is_empty();
    let whole = Cursor::new(start).chain(wire);
    Ok(match encoding {
        _ if is_empty => (Box::new(whole), true),
        _ if is_gzip => {
            let mut gzip = GzipDecoder::new(whole);
            gzip.multiple_members(true);
            (Box::new(gzip), false)
        }
        // These bits ask for a window of up to 1 GiB, which no browser accepts.
        "br" if is_large_brotli => {
            return Err(io::Error::new(ErrorKind::InvalidData, "brotli with a large window"));
        }
        "br" => (Box::new(BrotliDecoder::new(whole)), false),
        "zstd" => (
            Box::new(ZstdDecoder::with_params(
                whole,
                &[DParameter::window_log_max(ZSTD_WINDOW_LOG)],
            )),
            false,
        ),
        // The name means zlib, and some servers send the raw form.
        "deflate" if is_zlib => (Box::new(ZlibDecoder::new(whole)), false),
        "deflate" => (Box::new(DeflateDecoder::new(whole)), false),
        _ => (Box::new(whole), true),
    })
}

/// Why the wire gave no further chunk; passes through the decoders inside an `io::Error`.
#[derive(Debug)]
enum Stop {
    Idle,
    Broken,
    TooLarge,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl StdError for Stop {}

/// What an error of the decoder or of the wire behind it means.
pub(super) fn reason(error: &io::Error, limits: &Limits) -> Reason {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Stop>()) {
        Some(Stop::Idle) => Reason::TimedOut { limit: Limit::Idle, after: limits.idle_timeout },
        Some(Stop::Broken) => Reason::Reset,
        Some(Stop::TooLarge) => Reason::TooLarge { cap: limits.max_body },
        None => Reason::Undecodable(error.to_string()),
    }
}
