//! Processes: the PID-1 parent, spawning and reaping, groups and trees, what a wait status means.
//!
//! Must not know MPI or SSH.
