//! Lambda and EventBridge for one machine.

pub mod lambda;
