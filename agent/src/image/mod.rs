//! What makes an image one of muster's: the names under which it is called, and the checks of what
//! an image must have.
//!
//! Must not start a job, or need one; it works in a build.

pub mod install;
pub mod lint;
