//! What this host has: its name and addresses, CPUs and memory that it may use, its MPI.
//!
//! Must not know SSH or start anything of the job.

mod cgroup;
pub mod host;
pub mod mpirun;
pub mod net;
pub mod own;
pub mod trouble;
