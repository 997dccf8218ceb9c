//! What this host has: CPUs and memory it may use, for now.
//!
//! Must not know the network or MPI.
