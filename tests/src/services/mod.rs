//! Real servers that the tests start by themselves.
//!
//! Once a process, and only when a test wants one; an address in the environment is used instead. Each is stopped by its
//! process id when the tests end, however they end.

pub mod postgres;
pub mod search;

/// Stops everything that was started.
pub fn stop() {
    postgres::stop();
    search::stop_all();
}
