//! Processes: the guarding parent, spawning and reaping, trees of descendants, wait statuses.
//!
//! Must not know SSH connections or how MPI is started. Two names cross that line, because they are
//! facts of a process: a signal's name on the SSH wire (`status`) and the rank in its environment
//! (`ranks`).

pub mod background;
pub mod carry;
pub mod disposition;
pub mod end;
pub mod guard;
pub mod interrupt;
pub mod limits;
pub mod pidfd;
pub mod ranks;
pub mod reaper;
pub mod resident;
pub mod scope;
pub mod spawn;
pub mod status;
pub mod tree;
pub mod usage;
