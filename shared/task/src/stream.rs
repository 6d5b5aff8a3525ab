//! A body of any length within a visit: read line by line or part by part, in constant memory, and resumed after a run that
//! was cut off or killed in the middle.
//!
//! A body that is read in one piece is archived on its way, up to the largest that the archive gives back.

use base::address::without_secrets;
use base::validators::Validators;
use fetch::{Line, Request, Stream, Streamed};
use serde::{Deserialize, Serialize};

use crate::answer::remembered;
use crate::archive::{Archive, ArchivedResponse, Copy};
use crate::stop::Stop;
use crate::visit::Visit;

/// How far a stream was read, to be kept in the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Bytes of the decoded body that were read, whole lines where lines are read.
    pub offset: u64,
    /// Whether the server has the same bytes, so that a range of them can be asked for.
    pub is_plain: bool,
    /// What names the version that was read.
    #[serde(flatten)]
    pub version: Validators,
}

/// A body that is being read.
pub struct BodyStream {
    url: String,
    stream: Stream,
    /// What the archive gets of it.
    copy: Option<Copy>,
}

impl BodyStream {
    /// The next line into `line`, without its end; nothing when there is none. A line over the limit is cut and says so.
    ///
    /// # Errors
    /// Why the body cannot be read on; what came before it is good.
    pub async fn line(&mut self, line: &mut Vec<u8>) -> Result<Option<Line>, Stop> {
        let found = self.stream.line(line).await?;
        if found.is_some() {
            self.archive(line)?;
            self.archive(b"\n")?;
        }
        Ok(found)
    }

    /// The next part of the body, at most 64 KiB; nothing when there is none.
    ///
    /// # Errors
    /// Why the body cannot be read on; what came before it is good.
    pub async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, Stop> {
        let part = self.stream.chunk().await?;
        if let Some(part) = &part {
            self.archive(part)?;
        }
        Ok(part)
    }

    fn archive(&mut self, part: &[u8]) -> Result<(), Stop> {
        if let Some(copy) = &mut self.copy
            && !copy.write(part)?
        {
            self.copy = None;
        }
        Ok(())
    }

    /// How far it was read: what [`Visit::stream`] goes on from.
    pub fn position(&self) -> Position {
        let offset = self.stream.starts_at() + self.stream.offset();
        let is_plain = self.stream.is_plain();
        Position { offset, is_plain, version: self.stream.validators().clone() }
    }
}

impl Visit<'_> {
    /// Asks once for an address whose body may be of any length, on condition that it changed; gives nothing when it did not, when
    /// this visit has had it already. With `from`, the rest of the version that was begun is read, if the server still has it; of
    /// another version all is. In a replay of the archive it gives the archived response that came last.
    ///
    /// # Errors
    /// Why there is no body.
    pub async fn stream(
        &mut self,
        request: Request<'_>,
        from: Option<&Position>,
    ) -> Result<Option<BodyStream>, Stop> {
        let url = remembered(request.url());
        if let Some(archived) = &mut self.replay {
            let last = archived.remove(&url).and_then(|mut paths| paths.pop_back());
            let Some(path) = last else { return Ok(None) };
            let ArchivedResponse { body, .. } = Archive::read(&path)?;
            let stream = Stream::archived(request.url().clone(), body);
            return Ok(Some(BodyStream { url, stream, copy: None }));
        }
        if !self.asks_first(&url) {
            return Ok(None);
        }
        self.note_secrets(&request);
        let from = from.filter(|from| from.offset > 0 && !from.version.is_empty());
        let known = self.known_version(&url).filter(|_| from.is_none());
        let request = match (&known, from) {
            (Some(validators), _) => request.validators(validators),
            (None, Some(from)) if from.is_plain => {
                request.range(from.offset, from.version.for_range())
            }
            (None, _) => request,
        };
        self.reading_since = None;
        let mut stream = match self.ctx().http.stream(request).await {
            Ok(Streamed::NotModified(answer)) => {
                self.note_not_modified(answer.requests);
                return Ok(None);
            }
            Ok(Streamed::Open(stream)) => stream,
            Err(failure) => return Err(self.note_failure(failure)),
        };
        self.note_requests(stream.requests());
        // Its parts are still to come: what takes long here may be the source.
        self.bodies += 1;
        if stream.starts_at() > 0 {
            return Ok(Some(BodyStream { url, stream, copy: None }));
        }
        if let Some(from) = from.filter(|from| from.version == *stream.validators()) {
            stream.skip(from.offset).await?;
            return Ok(Some(BodyStream { url, stream, copy: None }));
        }
        let about = ArchivedResponse {
            asked: url.clone(),
            url: without_secrets(stream.final_url()).into(),
            content_type: stream.content_type().map(str::to_owned),
            fetched: self.ctx().now(),
            body: Vec::new(),
        };
        let copy = self.begin_copy(&about)?;
        Ok(Some(BodyStream { url, stream, copy }))
    }

    /// Asks again for an address that this visit has asked for: a version of which an earlier run read the beginning is seen whole
    /// only when it is read once more. Gives nothing when the server has the version again that was stored before.
    ///
    /// # Errors
    /// Why there is no body.
    pub async fn stream_again(&mut self, request: Request<'_>) -> Result<Option<BodyStream>, Stop> {
        self.may_ask_again(request.url());
        self.stream(request, None).await
    }

    /// Takes back a stream that was read to its end: the next visit asks whether there is another version.
    ///
    /// # Errors
    /// `Store`, when the archive cannot be written.
    pub fn close(&mut self, stream: BodyStream) -> Result<(), Stop> {
        if let Some(copy) = stream.copy {
            copy.finish()?;
        }
        self.note_bytes(stream.stream.bytes_on_wire());
        let validators = stream.stream.validators().clone();
        self.note_version(stream.url, validators);
        Ok(())
    }
}
