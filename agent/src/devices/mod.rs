//! What this host has: CPUs, memory and network addresses that it may use.
//!
//! Must not know SSH or start anything of the job.

mod cgroup;
pub mod host;
pub mod net;
