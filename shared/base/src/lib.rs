//! What every other crate stands on: the error, the clock, the settings, the report of a run.
//!
//! Plain types: nothing here does I/O but [`config`], which reads the environment, and [`checks`], which look whether the
//! files that settings name are there; and nothing names a crate above.

pub mod address;
pub mod checks;
pub mod clock;
pub mod config;
pub mod date;
pub mod error;
pub mod json;
pub mod keep_days;
pub mod nets;
pub mod place;
pub mod report;
pub mod secrets;
pub mod shown;
pub mod validators;

pub use error::{Class, Error, Result};
