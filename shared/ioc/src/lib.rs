//! An indicator as a document, the same for every family that stores some.
//!
//! - [`Observation`] is what one contributor (a feed's event, a flat feed, a pulse, a file) says of one indicator.
//! - [`write()`] makes the write of it: one document per type and value, to which every contributor adds its own.
//! - [`derive()`] tells purely what follows from all of them: dates, TLP, confidence, expiry, and the Elastic Common Schema's
//!   `threat.indicator.*`, so that a matching rule finds every family's indicators by the same fields.
//! - [`Lists`] are the warninglists that indicators are held against; [`Tagged`] holds stored ones against them when they change.
//! - [`misp_feed`] is MISP's event format, as indicators go out.
//!
//! [`owner`] is who writes such documents; one with more to say takes [`FIELDS`], [`SHARED`] and [`DERIVED`] and adds its own.

mod derive;
mod ecs;
mod lists;
pub mod misp_feed;
mod observation;
mod tagged;
mod tlp;

pub use derive::{DERIVED, derive};
pub use ecs::Confidence;
pub use lists::Lists;
pub use observation::{FIELDS, Observation, SHARED, SourceName, Warned, id, owner, write};
pub use tagged::{Renewed, Tagged};
pub use tlp::Tlp;
