//! The contract of a task, and what runs one: as a Lambda function, over the stores, with its upstream's answers archived.
//!
//! This crate names no source. Families depend on it; it depends on none of them.

mod allowance;
mod answer;
pub mod archive;
mod ask;
pub mod catalog;
mod contract;
mod each;
pub mod events;
pub mod files;
pub mod function;
mod keys;
mod limits;
mod retention;
mod retire;
pub mod secrets;
mod stop;
mod stream;
pub mod tarball;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod visit;

pub use allowance::{Allowance, Reservation};
pub use answer::Answer;
pub use contract::{Ctx, Family, NoInput, Reaches, Registered, Run, Task};
pub use each::{Chosen, Source};
pub use keys::KeyPool;
pub use limits::{Cutoff, STEP, VisitLimits};
pub use retire::{Present, Retired};
pub use stop::Stop;
pub use stream::{BodyStream, Position};
pub use visit::{Storing, Visit};

/// Documents are trees of small texts: of the time from an event of MISP to its documents, two fifths were glibc's `malloc`
/// and `free`; with this one it takes six tenths.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
