//! Why a visit ended early, and what that makes of its source.

use std::time::Duration;

use base::report::Outcome;
use base::{Class, Error};
use fetch::{Failure, Reason};
use jiff::SignedDuration;

use crate::limits::TOO_COSTLY_WAIT;

/// Why a visit ended before its source was read to the end.
#[derive(Debug)]
pub struct Stop {
    /// The outcome that the report shows.
    pub outcome: Outcome,
    /// What went wrong.
    pub error: Error,
    retry_after: Option<SignedDuration>,
}

impl Stop {
    /// An answer that is not what the source gives, under an outcome of its own.
    pub fn new(outcome: Outcome, error: Error) -> Self {
        Self { outcome, error, retry_after: None }
    }

    /// A source that is left out this time because of another one, which is no failure of its own.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::new(Outcome::Skipped, Error::upstream(reason.into()))
    }

    /// A source that time did not suffice for.
    pub(crate) fn deferred() -> Self {
        Self::new(Outcome::Deferred, Error::deadline("read the source: time ran out"))
    }

    /// A source whose parser was cut off and had brought nothing.
    pub(crate) fn too_costly(took: Duration) -> Self {
        let error = Error::deadline(format!(
            "read the source: in {} s nothing new came of what it sent",
            took.as_secs()
        ));
        let hint = "it is asked again tomorrow; disable it if it stays so, and report it with what it sends";
        let stop = Self::new(Outcome::TooCostly, error.hint(hint));
        Self { retry_after: TOO_COSTLY_WAIT.try_into().ok(), ..stop }
    }

    /// The same with its words put through `hide`.
    pub(crate) fn reworded(self, hide: impl Fn(&str) -> String) -> Self {
        Self { error: self.error.reworded(hide), ..self }
    }

    /// For how long the source asked to be left alone.
    pub(crate) fn wait(&self) -> Option<SignedDuration> {
        self.retry_after
    }

    /// The source is not asked again before this time has passed.
    #[must_use]
    pub fn retry_after(mut self, wait: SignedDuration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        let retry_after = match failure.reason {
            Reason::RateLimited { retry_after, .. } => retry_after,
            _ => None,
        };
        Self {
            outcome: failure.outcome(),
            retry_after: retry_after.and_then(|wait| wait.try_into().ok()),
            error: failure.into(),
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        let outcome = match error.class() {
            Class::Config => Outcome::Misconfigured,
            Class::Upstream => Outcome::Unreachable,
            Class::Format => Outcome::Unreadable,
            Class::Store => Outcome::NotStored,
            Class::Deadline => Outcome::OutOfTime,
        };
        Self::new(outcome, error)
    }
}
