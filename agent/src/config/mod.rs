//! From arguments and environment to settings, all problems reported at once.
//!
//! Must not touch the network or start anything.

pub mod devices;
pub mod env;
pub mod launch;
pub mod variables;
