//! What the tests of the whole stand on; the tests themselves are in `it/`.

pub mod example;
pub mod library;
pub mod many;
pub mod misp;
pub mod pypi;
pub mod services;
pub mod watch;
