//! What is wrong with a schedule, said so that a person can correct it at once.
//!
//! The first line names the value and what is allowed, the next two point at it, `hint:` offers a way out:
//!
//! ```text
//! read `cron(0 25 * * ? *)`: `25` is not an hour: hours are 0-23
//!   cron(0 25 * * ? *)
//!          ^^ hours
//! ```

use std::fmt;
use std::ops::Range;

/// The part of a schedule that an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Minutes,
    Hours,
    DayOfMonth,
    Month,
    DayOfWeek,
    Year,
    /// The whole: the wrapper, the number of fields, or what stands inside `rate` and `at`.
    Expression,
    Zone,
}

impl Field {
    pub fn name(self) -> &'static str {
        match self {
            Field::Minutes => "minutes",
            Field::Hours => "hours",
            Field::DayOfMonth => "day-of-month",
            Field::Month => "month",
            Field::DayOfWeek => "day-of-week",
            Field::Year => "year",
            Field::Expression => "expression",
            Field::Zone => "zone",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A schedule or zone name that cannot be read: which part, why, and what would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleError {
    text: String,
    field: Field,
    span: Range<usize>,
    problem: String,
    hint: Option<String>,
}

impl ScheduleError {
    /// The schedule (or zone name) as given; one over the limit keeps its head only.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn field(&self) -> Field {
        self.field
    }

    /// The offending part of [`text`](Self::text), empty where something is missing.
    pub fn value(&self) -> &str {
        &self.text[self.span.clone()]
    }

    /// The columns of [`value`](Self::value), in characters from 0.
    pub fn columns(&self) -> Range<usize> {
        let start = self.text[..self.span.start].chars().count();
        start..start + self.value().chars().count()
    }

    pub(super) fn or_hint(mut self, hint: impl FnOnce() -> Option<String>) -> Self {
        self.hint = self.hint.or_else(hint);
        self
    }

    pub(super) fn hinting(self, hint: impl Into<String>) -> Self {
        self.or_hint(|| Some(hint.into()))
    }
}

impl std::error::Error for ScheduleError {}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = one_line(&self.text);
        let what = if self.field == Field::Zone { "zone " } else { "" };
        write!(f, "read {what}`{shown}`: {}", self.problem)?;
        if self.span != (0..self.text.len()) {
            let columns = self.columns();
            let carets = "^".repeat(columns.len().max(1));
            write!(f, "\n  {shown}\n  {:2$}{carets} {}", "", self.field, columns.start)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// A part of a schedule that knows where it stands, so that an error can point at it.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    whole: &'a str,
    start: usize,
    pub(super) text: &'a str,
}

impl<'a> Piece<'a> {
    pub(super) fn whole(text: &'a str) -> Self {
        Self { whole: text, start: 0, text }
    }

    pub(super) fn part(self, range: Range<usize>) -> Self {
        Self { start: self.start + range.start, text: &self.text[range], ..self }
    }

    pub(super) fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let at = self.text.find(separator)?;
        Some((self.part(0..at), self.part(at + separator.len_utf8()..self.text.len())))
    }

    pub(super) fn split(self, separator: char) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let here = rest?;
            let (head, tail) = match here.split_once(separator) {
                Some((head, tail)) => (head, Some(tail)),
                None => (here, None),
            };
            rest = tail;
            Some(head)
        })
    }

    pub(super) fn words(self) -> impl Iterator<Item = Self> {
        self.text.split_ascii_whitespace().map(move |word| {
            let start = word.as_ptr() as usize - self.text.as_ptr() as usize;
            self.part(start..start + word.len())
        })
    }

    /// This part in backticks, fit for one line; of an empty part, the word for it.
    pub(super) fn quoted(self) -> String {
        if self.text.is_empty() {
            "nothing".to_owned()
        } else {
            format!("`{}`", one_line(self.text))
        }
    }

    pub(super) fn error(self, field: Field, problem: impl Into<String>) -> ScheduleError {
        ScheduleError {
            text: self.whole.to_owned(),
            field,
            span: self.start..self.start + self.text.len(),
            problem: problem.into(),
            hint: None,
        }
    }
}

/// Keeps each character's column: a control character becomes a space.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The candidate that `text` was most likely meant to be, if one is near: case apart, at most two edits (one in short
/// words).
pub(super) fn nearest<'a>(
    text: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let text = text.to_lowercase();
    let limit = if text.chars().count() < 5 { 1 } else { 2 };
    candidates
        .map(|candidate| (strsim::levenshtein(&text, &candidate.to_lowercase()), candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_the_word_that_was_meant() {
        let words = ["memory_mb", "timeout_s", "when", "does"];
        assert_eq!(nearest("timeout", words.into_iter()), Some("timeout_s"));
        assert_eq!(nearest("When", words.into_iter()), Some("when"));
        assert_eq!(nearest("where", words.into_iter()), Some("when"));
        assert_eq!(nearest("zone", words.into_iter()), None);
    }
}
