//! What a person or a script reads: JSON as one document, tables, errors with their hints, exit codes.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

pub(crate) use base::shown::one_line;
use base::{Class, Error, shown};
use comfy_table::{Table, presets};
use serde::Serialize;

/// Done: complete, partial or skipped.
pub(crate) const DONE: u8 = 0;
/// The run failed.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage or settings.
pub(crate) const USAGE: u8 = 2;
/// A service is unreachable.
pub(crate) const UNREACHABLE: u8 = 3;

/// How a command ended: an exit code, or an error to print.
pub(crate) type Outcome = base::Result<u8>;

/// Writes a line for people, or several of ours; what upstream says in them goes through [`one_line`] first.
pub(crate) fn line(text: &str) {
    exact_line(&shown::lines(text));
}

/// Writes a line; a reader that went away (`| head`) ends the process quietly, as it would end `cat`.
fn exact_line(text: &str) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        quit();
    }
}

/// The name that was probably meant, if one is near.
pub(crate) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    known
        .map(|known| (strsim::levenshtein(&known.to_lowercase(), &typed), known))
        .filter(|(edits, known)| *edits <= 2.max(known.len() / 4))
        .min()
        .map(|(_, known)| known)
}

/// Writes many lines with one flush at the end.
pub(crate) fn lines(texts: impl Iterator<Item = String>) {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for text in texts {
        if writeln!(out, "{text}").is_err() {
            quit();
        }
    }
    if out.flush().is_err() {
        quit();
    }
}

#[expect(clippy::exit, reason = "nobody reads any more, so there is nothing left to do")]
fn quit() -> ! {
    std::process::exit(0)
}

/// Writes one JSON document.
pub(crate) fn json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("our own types are JSON");
    exact_line(&shown::json(&text));
}

/// Writes a table without frames.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for text in table.to_string().lines() {
        line(text.trim_end());
    }
}

/// Says on standard error what went wrong and what to do, and gives the exit code that goes with it.
pub(crate) fn complain(error: &Error) -> ExitCode {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "error: failed to {}", shown::lines(&error.chain()));
    if let Some(hint) = error.hint_text().filter(|hint| !hint.is_empty()) {
        let _ = writeln!(err, "hint: {}", shown::lines(hint));
    }
    ExitCode::from(code_of(error))
}

/// The exit code of an error.
pub(crate) fn code_of(error: &Error) -> u8 {
    match error.class() {
        Class::Config => USAGE,
        Class::Store => UNREACHABLE,
        Class::Upstream | Class::Format | Class::Deadline => FAILED,
    }
}

/// A note on standard error, for what is not the command's answer.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", shown::lines(text));
}

/// Whether notes are read at a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// A note that takes the place of the one before it, on a terminal; an empty one clears the line.
pub(crate) fn progress(text: &str) {
    if is_terminal() {
        let mut err = io::stderr().lock();
        let _ = write!(err, "\r{}\u{1b}[K", shown::lines(text)).and_then(|()| err.flush());
    }
}
