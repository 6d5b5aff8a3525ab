//! What every form of an export is: it takes indicators one by one.

use base::Result;

use crate::commands::indicators::Stored;

/// A form in which indicators go out.
pub(super) trait Form {
    /// Writes one.
    ///
    /// # Errors
    /// Why it cannot go on writing.
    fn add(&mut self, one: &Stored<'_>) -> Result<Added>;

    /// Learns of one that matches and does not go out.
    fn leave_out(&mut self, _: &Stored<'_>) {}

    /// Writes what comes last.
    ///
    /// # Errors
    /// Why it is not whole.
    fn end(self: Box<Self>) -> Result<()>;
}

/// What became of an indicator.
pub(super) enum Added {
    Written,
    /// The form has no words for it.
    NoForm,
    /// The form holds no more.
    Full,
}
