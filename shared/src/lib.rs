//! What every task stands on: its contract, the stores, the HTTP client, the schedule, the settings.
//!
//! This crate names no source. Families depend on it; it depends on none of them.

pub mod archive;
pub mod clock;
pub mod config;
pub mod documents;
pub mod error;
pub mod events;
pub mod files;
pub mod function;
pub mod http;
pub mod indicator;
pub mod report;
pub mod retention;
pub mod schedule;
pub mod source;
mod sqlite;
pub mod state;
pub mod task;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "yara")]
pub mod yara;

pub use error::{Class, Error, Result};
