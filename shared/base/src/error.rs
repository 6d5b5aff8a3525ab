//! What can go wrong, in two parts: a class for the program, a sentence for the person.
//!
//! The class says what happens next (see [`Class`]); the message is a lowercase fragment that fits "failed to …" and holds
//! the offending value in backticks; the hint says what to do about it. [`Display`](fmt::Display) never includes the
//! source of an error: the chain is printed once, by [`Error::chain`], where the failure is handled.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What happens next after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A setting or an input is missing or wrong: a person, now; no retry.
    Config,
    /// The source is down, slow or refusing: the next tick is the retry.
    Upstream,
    /// The source changed its shape: a developer; no retry.
    Format,
    /// A store failed: the next tick, and an alarm at once.
    Store,
    /// Time ran out: fewer per run, or a longer limit.
    Deadline,
}

impl Class {
    /// Every class, in the order of the table in `docs/STYLE.md`.
    pub const ALL: [Self; 5] =
        [Self::Config, Self::Upstream, Self::Format, Self::Store, Self::Deadline];

    /// The name that Lambda sees as `errorType`, which must read `Function.Name`.
    pub fn error_type(self) -> &'static str {
        match self {
            Self::Config => "Function.Config",
            Self::Upstream => "Function.Upstream",
            Self::Format => "Function.Format",
            Self::Store => "Function.Store",
            Self::Deadline => "Function.Deadline",
        }
    }

    /// The `errorType` of a store that could not be asked at all.
    pub const UNREACHABLE: &str = "Function.Unreachable";

    /// The class behind an `errorType`, if it is one of ours.
    pub fn of_error_type(error_type: &str) -> Option<Self> {
        if error_type == Self::UNREACHABLE {
            return Some(Self::Store);
        }
        Self::ALL.into_iter().find(|class| class.error_type() == error_type)
    }

    /// Whether the same invocation may succeed when it is tried again.
    pub fn is_retried(self) -> bool {
        !matches!(self, Self::Config | Self::Format)
    }
}

/// The one error type: a [`Class`], a sentence, perhaps a hint and a cause.
#[derive(Debug)]
pub struct Error {
    class: Class,
    message: String,
    hint: Option<String>,
    is_unreachable: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None, is_unreachable: false, source: None }
    }

    /// A setting or an input that a person has to mend.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Class::Config, message)
    }

    /// A source that is down, slow or refusing.
    pub fn upstream(message: impl Into<String>) -> Self {
        Self::new(Class::Upstream, message)
    }

    /// A source whose answer no longer has the shape we know.
    pub fn format(message: impl Into<String>) -> Self {
        Self::new(Class::Format, message)
    }

    /// A store that did not do what it was asked.
    pub fn store(message: impl Into<String>) -> Self {
        Self::new(Class::Store, message)
    }

    /// A store that could not be asked at all, which is another matter than one that refuses.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { is_unreachable: true, ..Self::new(Class::Store, message) }
    }

    /// Time that ran out.
    pub fn deadline(message: impl Into<String>) -> Self {
        Self::new(Class::Deadline, message)
    }

    /// Says what to do about it; printed on its own line.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps the cause, which [`Error::chain`] prints.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error once more, its causes in words: one failure can be that of two sources.
    pub fn again(&self) -> Self {
        let (message, hint) = (self.chain(), self.hint.clone());
        Self { class: self.class, message, hint, is_unreachable: self.is_unreachable, source: None }
    }

    /// What happens next.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Whether it is a store that could not be asked at all.
    pub fn is_unreachable(&self) -> bool {
        self.is_unreachable
    }

    /// What to do about it, if that is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The same error with its words put through `reword`, its causes among them.
    #[must_use]
    pub fn reworded(&self, reword: impl Fn(&str) -> String) -> Self {
        let again = self.again();
        let (message, hint) = (reword(&again.message), again.hint.as_deref().map(reword));
        Self { message, hint, ..again }
    }

    /// The whole story on one line: the message and each cause behind it, without the hint.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            // Some libraries print their own cause already.
            let message = error.to_string();
            if !text.ends_with(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_every_cause_once() {
        let cause = std::io::Error::other("no space left on device");
        let error = Error::store("write `documents.db`").because(cause).hint("free some space");
        assert_eq!(error.to_string(), "write `documents.db`");
        assert_eq!(error.chain(), "write `documents.db`: no space left on device");
    }

    #[test]
    fn an_error_type_leads_back_to_its_class() {
        for class in Class::ALL {
            assert_eq!(Class::of_error_type(class.error_type()), Some(class));
        }
    }
}
