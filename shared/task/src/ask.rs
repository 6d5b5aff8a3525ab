//! A visit's requests: conditional, counted, archived, replayed, and shared among the sources of a run.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use base::address::{masked, without_secrets};
use base::validators::Validators;
use fetch::{Failure, Fetched, Reason, Request, Response};
use url::Url;

use crate::answer::{Answer, SharedAnswer, remembered};
use crate::archive::{Archive, ArchivedResponse, Copy};
use crate::stop::Stop;
use crate::visit::{VALIDATORS_MAX, Visit, digest};

/// Whether an answer is for several sources of a run.
#[derive(Clone, Copy)]
enum Shared {
    Yes,
    No,
}

impl Visit<'_> {
    /// Asks once for an address, on condition that it changed since its last version was stored; gives nothing when it did not,
    /// and when this visit has had its answer already. In a replay of the archive it gives each archived response of the
    /// address instead, the oldest first.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn get(&mut self, request: Request<'_>) -> Result<Option<Answer>, Stop> {
        self.ask(request, Shared::No, true).await
    }

    /// As [`get`](Self::get), without condition: for what must be read again though it is known, such as a part of a whole.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn get_anyway(&mut self, request: Request<'_>) -> Result<Option<Answer>, Stop> {
        self.ask(request, Shared::No, false).await
    }

    /// As [`get_anyway`](Self::get_anyway), also where this visit has had an answer from the address: for a list that may have
    /// moved on while it was read.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn get_again(&mut self, request: Request<'_>) -> Result<Option<Answer>, Stop> {
        self.may_ask_again(request.url());
        self.get_anyway(request).await
    }

    /// As [`get`](Self::get), for an answer that other sources of this run read too: it is asked for once, and held until the
    /// run ends.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn get_shared(&mut self, request: Request<'_>) -> Result<Option<Answer>, Stop> {
        self.ask(request, Shared::Yes, true).await
    }

    async fn ask(
        &mut self,
        request: Request<'_>,
        shared: Shared,
        is_conditional: bool,
    ) -> Result<Option<Answer>, Stop> {
        // What outlives the request names the address without its secrets.
        let url = remembered(request.url());
        if let Some(archived) = &mut self.replay {
            let Some(path) = archived.get_mut(&url).and_then(VecDeque::pop_front) else {
                return Ok(None);
            };
            let archived = Archive::read(&path)?;
            self.report.bytes += archived.body.len() as u64;
            return Ok(Some(Answer::Archived(archived)));
        }
        if !self.asks_first(&url) {
            return Ok(None);
        }
        self.note_secrets(&request);
        let known = self.known_version(&url).filter(|_| is_conditional);
        if let Shared::Yes = shared {
            match self.ctx().shared_answer(&url) {
                // What another source of the run was told holds for this one, if it has the same version.
                Some(SharedAnswer::Unchanged(version)) if known.as_ref() == Some(&version) => {
                    self.note_not_modified(0);
                    return Ok(None);
                }
                Some(SharedAnswer::Body(response))
                    if known.as_ref() == Some(&response.validators) =>
                {
                    self.note_not_modified(0);
                    return Ok(None);
                }
                Some(SharedAnswer::Body(response)) => {
                    return self.answer(url, response, is_conditional).map(Some);
                }
                Some(SharedAnswer::Unchanged(_)) | None => {}
            }
        }
        let request = match &known {
            Some(validators) => request.validators(validators),
            None => request,
        };
        self.reading_since = None;
        match self.ctx().http.send(request).await {
            Ok(Fetched::NotModified(answer)) => {
                self.note_not_modified(answer.requests);
                if let (Shared::Yes, Some(version)) = (shared, known) {
                    self.ctx().share_answer(&url, SharedAnswer::Unchanged(version));
                }
                Ok(None)
            }
            Ok(Fetched::Body(response) | Fetched::Refused(response)) => {
                self.note_requests(response.requests);
                self.note_bytes(response.bytes_on_wire);
                let response = Arc::new(response);
                if let Shared::Yes = shared {
                    self.ctx().share_answer(&url, SharedAnswer::Body(Arc::clone(&response)));
                }
                self.answer(url, response, is_conditional).map(Some)
            }
            Err(failure) => Err(self.note_failure(failure)),
        }
    }

    /// Whether this visit has not had an answer from an address yet.
    pub(crate) fn asks_first(&mut self, url: &str) -> bool {
        self.answered.insert(digest(url))
    }

    /// Allows another request to an address that gave no answer.
    pub(crate) fn may_ask_again(&mut self, url: &Url) {
        self.answered.remove(&digest(&remembered(url)));
    }

    /// The version of an address that is stored.
    pub(crate) fn known_version(&self, url: &str) -> Option<Validators> {
        self.state.validators.get(url).filter(|known| !known.is_empty()).cloned()
    }

    /// The version of an address that will be stored when this visit ends well.
    pub(crate) fn note_version(&mut self, url: String, validators: Validators) {
        if self.pending.len() < VALIDATORS_MAX {
            self.pending.push((url, validators));
        } else {
            // Of a version that was read since, nothing may be asked by the one before.
            self.state.validators.remove(&url);
        }
    }

    pub(crate) fn note_body(&mut self) {
        self.bodies += 1;
        self.reading_since = Some(Instant::now());
    }

    pub(crate) fn note_requests(&mut self, requests: u32) {
        self.report.requests += u64::from(requests);
    }

    pub(crate) fn note_bytes(&mut self, on_wire: u64) {
        self.report.bytes += on_wire;
    }

    pub(crate) fn note_not_modified(&mut self, requests: u32) {
        self.note_requests(requests);
        self.not_modified += 1;
    }

    pub(crate) fn note_failure(&mut self, failure: Failure) -> Stop {
        self.note_requests(failure.requests);
        self.state.gone = failure.reason == Reason::Gone;
        failure.into()
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.replay.is_some()
    }

    /// Begins to archive a response whose body is still to come.
    pub(crate) fn begin_copy(&self, about: &ArchivedResponse) -> Result<Option<Copy>, Stop> {
        Ok(self.ctx().archive.begin(self.lease.name(), about)?)
    }

    fn answer(
        &mut self,
        url: String,
        response: Arc<Response>,
        is_conditional: bool,
    ) -> Result<Answer, Stop> {
        self.note_body();
        self.state.moved_to = response.moved_to.as_ref().map(masked);
        if let Some(moved) = self.state.moved_to.clone() {
            self.note(format!("it has moved for good to `{moved}`"));
        }
        let from = String::from(without_secrets(&response.final_url));
        let about = ArchivedResponse {
            asked: url.clone(),
            url: from.clone(),
            content_type: response.content_type.clone(),
            fetched: self.ctx().now(),
            body: Vec::new(),
        };
        self.ctx().archive.add(self.lease.name(), &about, &response.body)?;
        // What was cut off must be asked for again, and what is always asked for needs no version.
        if is_conditional && !response.truncated {
            self.note_version(url, response.validators.clone());
        }
        Ok(Answer::Fetched(response, from))
    }
}
