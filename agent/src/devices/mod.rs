//! What this host has: CPUs and memory it may use, its MPI launcher, for now.
//!
//! Must not know the network or start a job.

pub mod mpirun;
