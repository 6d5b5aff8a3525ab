//! What a person or a script reads: JSON as one document, tables, errors with their hints, exit codes.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use base::report::{Problem, Report};
pub(crate) use base::shown::one_line;
use base::{Class, Error, config, shown};
use clap::ColorChoice;
use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::json;

use crate::cli::{Cli, Command};

/// Done: complete, skipped, or partial with nothing lost.
pub(crate) const DONE: u8 = 0;
/// It failed, or found something wrong.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage or settings.
pub(crate) const USAGE: u8 = 2;
/// A store is unreachable.
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

/// The name that was probably meant: one that is near, or begins nearly so, else one that what was typed is a part of.
pub(crate) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    let edits = |known: &str| strsim::levenshtein(&known.to_lowercase(), &typed);
    let is_part = |known: &str| typed.len() > 2 && known.to_lowercase().contains(&typed);
    // One letter that is wrong, missing or too much, in a word that is not whole.
    let begins = |known: &str| {
        let length = typed.chars().count();
        (length.saturating_sub(1)..=length + 1).any(|length| {
            let start: String = known.chars().take(length).collect();
            length > 3 && edits(&start) <= 1
        })
    };
    known
        .map(|known| (edits(known), known))
        .filter(|(edits, known)| {
            *edits <= 2.max(known.len() / 4) || is_part(known) || begins(known)
        })
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
pub(crate) fn quit() -> ! {
    std::process::exit(0)
}

/// Writes one JSON document.
pub(crate) fn json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("our own types are JSON");
    exact_line(&shown::json(&text));
}

/// Writes an object of JSON as one line of standard output.
pub(crate) fn json_line(value: &impl Serialize) {
    let text = serde_json::to_string(value).expect("our own types are JSON");
    exact_line(&shown::json(&text));
}

/// How tables are written.
#[derive(Clone, Copy, Default)]
struct Style {
    is_plain: bool,
    is_coloured: bool,
}

static STYLE: OnceLock<Style> = OnceLock::new();

/// Takes the style that the command line, the environment and the terminal ask for.
pub(crate) fn set_style(cli: &Cli) {
    let is_set =
        |name| config::variable(name).is_some_and(|value| !value.is_empty() && value != "0");
    let is_coloured = match cli.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto if is_set("NO_COLOR") => false,
        ColorChoice::Auto => is_set("CLICOLOR_FORCE") || io::stdout().is_terminal(),
    };
    let style = Style { is_plain: cli.plain, is_coloured: is_coloured && !cli.plain && !cli.json };
    // A second start in one process, as in tests, changes nothing.
    let _ = STYLE.set(style);
}

/// Words of states, and the colours of terminals that show them.
const COLOURS: [(&str, &[&str]); 3] = [
    ("31", &["failed", "dead", "failing", "gone", "missed", "interrupted"]),
    ("33", &["partial", "quiet", "continuing"]),
    ("32", &["complete", "ok"]),
];

/// A line of a table with the cells that are states in colour.
fn coloured(line: &str, cells: &[String]) -> String {
    let mut line = line.to_owned();
    for cell in cells {
        let colour = COLOURS.iter().find(|(_, words)| words.contains(&cell.as_str()));
        let Some((colour, _)) = colour else { continue };
        let whole = line.match_indices(cell.as_str()).find(|(at, word)| {
            let is_edge = |letter: Option<char>| letter.is_none_or(char::is_whitespace);
            is_edge(line[..*at].chars().next_back())
                && is_edge(line[at + word.len()..].chars().next())
        });
        if let Some((at, word)) = whole {
            let end = at + word.len();
            line = format!(
                "{}\u{1b}[{colour}m{}\u{1b}[0m{}",
                &line[..at],
                &line[at..end],
                &line[end..]
            );
        }
    }
    line
}

/// Writes a table without frames; in the plain style a line `NAME: value` a cell.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) {
    let style = STYLE.get().copied().unwrap_or_default();
    if style.is_plain {
        for row in rows {
            for (name, cell) in head.iter().zip(&row).filter(|(_, cell)| !cell.is_empty()) {
                line(&format!("{name}: {}", one_line(cell)));
            }
            line("");
        }
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.iter().copied());
    for row in &rows {
        table.add_row(row.iter().map(|cell| one_line(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    // A row that a terminal is too narrow for takes several lines, which are left as they are.
    let is_a_line_each = text.lines().count() == rows.len() + 1;
    for (place, text) in text.lines().enumerate() {
        let text = text.trim_end();
        match place.checked_sub(1).and_then(|place| rows.get(place)) {
            Some(cells) if style.is_coloured && is_a_line_each => {
                exact_line(&coloured(&shown::lines(text), cells));
            }
            _ => line(text),
        }
    }
}

/// Says what went wrong and what to do, and gives the exit code that goes with it: on standard error for people, as one JSON
/// document for a script that asked for it.
pub(crate) fn complain(cli: &Cli, error: &Error) -> ExitCode {
    if cli.json {
        match &cli.command {
            // A run answers with a report, whatever comes of it.
            Command::Run(args) => {
                json(&Report { task: args.task.clone(), ..Report::failed(error) });
            }
            Command::Reparse { task } => {
                json(&Report { task: task.clone(), ..Report::failed(error) });
            }
            // A stream of objects ends with one more.
            Command::Documents { .. } => {
                exact_line(&json!({"error": Problem::from(error)}).to_string());
            }
            _ => json(&json!({"error": Problem::from(error)})),
        }
    }
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "error: failed to {}", shown::indented(&error.chain()));
    if let Some(hint) = error.hint_text().filter(|hint| !hint.is_empty()) {
        let _ = writeln!(err, "hint: {}", shown::indented(hint));
    }
    ExitCode::from(code_of(error))
}

/// The exit code of an error.
pub(crate) fn code_of(error: &Error) -> u8 {
    match error.class() {
        Class::Config => USAGE,
        Class::Store if error.is_unreachable() => UNREACHABLE,
        Class::Store | Class::Upstream | Class::Format | Class::Deadline => FAILED,
    }
}

/// A command line that is none, as the JSON that it asked for.
pub(crate) fn usage_json(message: &str) {
    let error = Error::config(message.trim()).hint("`local-runner help` shows what can be asked");
    json(&json!({"error": Problem::from(&error)}));
}

/// A note on standard error, for what is not the command's answer.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", shown::indented(text));
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

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_word_that_is_near_or_not_whole_is_answered_and_no_other() {
        let known = ["collect_all_rss_feeds", "sync_otx_pulses", "status"];
        for (typed, expected) in [
            ("colect_all_rss_feeds", Some("collect_all_rss_feeds")),
            ("colect", Some("collect_all_rss_feeds")),
            ("pulses", Some("sync_otx_pulses")),
            ("Statsu", Some("status")),
            ("foo", None),
            ("zzz", None),
        ] {
            assert_eq!(nearest(typed, known.into_iter()), expected, "{typed}");
        }
    }
}
