//! What every task stands on: its contract, the stores, the HTTP client, the schedule, the settings.
//!
//! This crate names no source. Families depend on it; it depends on none of them.

pub mod clock;
pub mod config;
pub mod documents;
pub mod error;
pub mod http;
pub mod indicator;
pub mod report;
pub mod schedule;
mod sqlite;
pub mod state;

pub use error::{Class, Error, Result};
