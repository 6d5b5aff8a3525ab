//! A value a line.

use base::Result;

use super::form::{Added, Form};
use super::output::Output;
use crate::commands::indicators::Stored;

pub(super) struct Text {
    out: Output,
}

impl Text {
    pub(super) fn begin(out: Output) -> Self {
        Self { out }
    }
}

impl Form for Text {
    fn add(&mut self, one: &Stored<'_>) -> Result<Added> {
        // The text of a rule has lines of its own.
        if one.value().is_empty() || one.value().contains(char::is_control) {
            return Ok(Added::NoForm);
        }
        self.out.write(one.value())?;
        self.out.write("\n")?;
        Ok(Added::Written)
    }

    fn end(self: Box<Self>) -> Result<()> {
        self.out.end()
    }
}
