//! Comma-separated values by RFC 4180, with a header, for spreadsheets and scripts.
//!
//! Spreadsheets calculate a cell that begins with `=`, `+`, `-`, `@`, a tab or a return, and what a feed says can begin so. Such
//! a cell gets a `'` in front, by the advice of OWASP (<https://owasp.org/www-community/attacks/CSV_Injection>); the full-width
//! forms count too, as East Asian versions read them alike.

use base::Result;

use super::form::{Added, Form};
use super::output::Output;
use crate::commands::indicators::Stored;

/// Lists stand in one cell, with this between their parts.
const BETWEEN: &str = " | ";

const COLUMNS: [&str; 20] = [
    "type",
    "value",
    "tlp",
    "confidence",
    "active",
    "first_seen",
    "last_seen",
    "left_at",
    "expires_at",
    "to_ids",
    "family",
    "feed",
    "sources_count",
    "sources",
    "malware_family",
    "threat_actor",
    "tags",
    "warninglists",
    "references",
    "description",
];

pub(super) struct Csv {
    out: Output,
}

impl Csv {
    pub(super) fn begin(mut out: Output) -> Result<Self> {
        out.write(&line(COLUMNS.map(str::to_owned).as_slice()))?;
        Ok(Self { out })
    }
}

impl Form for Csv {
    fn add(&mut self, one: &Stored<'_>) -> Result<Added> {
        let text = |name: &str| one.text(name).to_owned();
        let list = |names: Vec<&str>| names.join(BETWEEN);
        let flag = |flag: Option<bool>| flag.map(|flag| flag.to_string()).unwrap_or_default();
        let sources = one.sources();
        let count =
            one.number("sources_count").map_or(sources.len().to_string(), |n| n.to_string());
        let references = [one.list("references"), one.list("reference")].concat();
        let cells = [
            text("type"),
            text("value"),
            text("tlp"),
            text("confidence"),
            flag(Some(one.is_active())),
            text("first_seen"),
            text("last_seen"),
            text("left_at"),
            text("expires_at"),
            flag(one.flag("to_ids")),
            text("source_family"),
            one.feed().to_owned(),
            count,
            list(sources),
            list(one.list("malware_family")),
            list(one.list("threat_actor")),
            list(one.list("tags")),
            list(one.warnings()),
            list(references),
            text("description"),
        ];
        debug_assert_eq!(cells.len(), COLUMNS.len());
        self.out.write(&line(&cells))?;
        Ok(Added::Written)
    }

    fn end(self: Box<Self>) -> Result<()> {
        self.out.end()
    }
}

fn line(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
    cells.join(",") + "\r\n"
}

/// A cell as it is written: harmless in a spreadsheet, in quotes where it holds what separates cells.
fn cell(text: &str) -> String {
    // NUL ends the text for many a reader.
    let text = text.replace('\0', "");
    let is_formula = |letter: char| "=+-@\t\r\u{ff1d}\u{ff0b}\u{ff0d}\u{ff20}".contains(letter);
    // Behind a line feed or a space some readers begin anew.
    let begins = text.trim_start_matches([' ', '\n', '\u{a0}', '\u{feff}']);
    let text = if begins.starts_with(is_formula) { format!("'{text}") } else { text };
    if text.contains([',', '"', '\r', '\n', ';', '\t', '\'']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_begins_as_a_formula() {
        for (text, expected) in [
            ("evil.example", "evil.example"),
            ("=1+1", "\"'=1+1\""),
            ("+49 30", "\"'+49 30\""),
            ("-x", "\"'-x\""),
            ("@sum(a)", "\"'@sum(a)\""),
            (" =1", "\"' =1\""),
            ("\n=1", "\"'\n=1\""),
            ("\t=1", "\"'\t=1\""),
            ("\r=1", "\"'\r=1\""),
            ("\u{ff1d}1", "\"'\u{ff1d}1\""),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a;=1", "\"a;=1\""),
            ("a\0b", "ab"),
            ("\0=1", "\"'=1\""),
            ("", ""),
        ] {
            assert_eq!(cell(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_line_has_a_cell_a_column_and_ends_as_the_standard_says() {
        assert_eq!(line(&["a".to_owned(), "b,c".to_owned()]), "a,\"b,c\"\r\n");
    }
}
