//! What this host has: its name and addresses, CPUs and memory, network, RDMA devices, GPUs, its MPI.
//!
//! Must not know SSH or start anything of the job.

mod cgroup;
pub mod clock;
pub mod collect;
pub mod compare;
pub mod gpu;
pub mod host;
mod interfaces;
mod kernel;
pub mod mca_params;
pub mod mpirun;
pub mod net;
mod node;
pub mod own;
mod pci;
#[cfg(test)]
pub(crate) mod planted;
pub mod rdma;
mod read;
pub mod render;
pub mod report;
pub mod require;
pub mod trouble;
pub mod units;
mod warnings;
