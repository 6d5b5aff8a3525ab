//! The contract of a task, and what runs one: as a Lambda function, over the stores, with its upstream's answers archived.
//!
//! This crate names no source. Families depend on it; it depends on none of them.

pub mod archive;
mod contract;
pub mod events;
pub mod files;
pub mod function;
mod retention;
pub mod source;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

pub use contract::{Ctx, Family, Kind, NoInput, Registered, Run, Task};
