//! From named hosts to ready ones: dial, authenticate, hello; or each missing host with its reason.
//!
//! Must not start anything on a host.

pub mod callback;
mod dial;
pub mod gate;
mod lobby;
pub mod pace;
pub mod wait;
