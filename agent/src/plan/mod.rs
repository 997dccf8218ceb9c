//! What mpirun is given: hostfile, argv and environment for each MPI family.
//!
//! Pure: must not read files, the process environment or the clock, and must not start anything.

mod build;
pub mod dialect;
pub mod error;
mod fabric;
pub mod family;
mod hydra;
mod job;
mod openmpi;
mod openmpi4;
mod openmpi5;
pub mod render;
mod settings;
pub mod slots;
#[cfg(test)]
mod tests;
pub mod work;
mod wrap;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

pub use build::build;
pub use error::PlanError;
pub use fabric::{Elsewhere, Fabric, Wish};

use crate::config::env::Environment;
use crate::ids::HostName;

/// An implementation of MPI's launcher, as far as its command line and environment differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Open MPI up to 4: ORTE, `orted`.
    OpenMpi4,
    /// Open MPI 5 and later: PRRTE, `prted`.
    OpenMpi5,
    /// MPICH and its kin with Hydra, `hydra_pmi_proxy`.
    Mpich,
    /// Intel MPI's Hydra, `hydra_bstrap_proxy`.
    IntelMpi,
}

/// The launcher command found on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mpirun {
    /// Absolute path.
    pub path: PathBuf,
    /// What it said it is.
    pub family: Family,
    /// Its version as printed, e.g. `5.0.11`.
    pub version: String,
}

/// What the user wants run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Form 1: a program and its arguments; muster writes the mpirun line.
    Program(Vec<OsString>),
    /// Form 2: the user's own mpirun line, `argv[0]` included; left as it is.
    MpirunLine(Vec<OsString>),
}

/// One ready host, its slots decided.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanHost {
    /// As the hostfile spells it.
    pub name: HostName,
    /// Ranks that it takes.
    pub slots: u32,
    /// Where that number comes from, e.g. `hostfile`, `--slots`, `4 GPUs`, `CPU limit of 4`.
    pub slots_from: String,
    /// CPUs that the worker may use (cgroup quota, cpuset), where known.
    pub cpus: Option<f64>,
}

/// Everything that a plan is made from.
#[derive(Debug, Clone)]
pub struct Request {
    /// In the order of the hostfile. Empty: this machine alone.
    pub hosts: Vec<PlanHost>,
    /// `-n`; none = all slots.
    pub ranks: Option<u32>,
    /// Program or mpirun line.
    pub work: Work,
    /// The launcher command.
    pub mpirun: Mpirun,
    /// The job's private directory, mode 0700, already there.
    pub run_dir: PathBuf,
    /// Absolute path of this binary.
    pub muster: PathBuf,
    /// The engine's socket, to be named by `MUSTER_SOCKET`.
    pub socket: PathBuf,
    /// The name of the socket for wrappers, to be named by `MUSTER_RANK_SOCKET`.
    pub rank_socket: Option<String>,
    /// What to put before the program of each rank; empty: nothing.
    pub wrapper: Vec<OsString>,
    /// The effective user.
    pub uid: u32,
    /// CPUs of this machine, for local use.
    pub local_cpus: u32,
    /// Ranks that this machine takes where none are asked for, and why, for local use.
    pub local_slots: (u32, String),
    /// The interface over which the workers were reached, e.g. `eth0`, where known.
    pub interface: Option<String>,
    /// The network that was chosen.
    pub fabric: Fabric,
    /// The hosts were named by a flag of muster, which outranks hostfile variables in the
    /// environment; otherwise the variables are where the hosts came from.
    pub hosts_from_flag: bool,
    /// What is set already; the user's settings win.
    pub env: Environment,
}

/// One environment variable of the launch and why it has its value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// E.g. `PRTE_MCA_plm_ssh_agent`.
    pub name: String,
    /// The value that mpirun will see.
    pub value: String,
    /// True where the user or operator had set it, and muster left it alone.
    pub kept: bool,
    /// One phrase for `--dry-run` and the log.
    pub reason: String,
}

/// What will be started, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// `argv[0]` is an absolute path.
    pub argv: Vec<OsString>,
    /// In the order of printing.
    pub env: Vec<Setting>,
    /// What the daemons' environment on other hosts needs, where mpirun does not carry its own there.
    pub daemon_env: Vec<(String, String)>,
    /// Which network was chosen and why.
    pub fabric: Option<String>,
    /// Files to write into the run directory, absolute path and content.
    pub files: Vec<(PathBuf, String)>,
    /// Links to make in the run directory: link, target.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Ranks that will start; none = the user's own line decides.
    pub ranks: Option<u32>,
    /// The hosts and their slots, in the order in which they are filled; empty: this machine alone.
    pub hosts: Vec<PlanHost>,
    /// Where the ranks must be found; none = the user's own line decides, all hosts allowed.
    pub placement: Option<BTreeMap<HostName, u32>>,
    /// mpirun calls muster for every remote command, so that no host is reached without us seeing.
    pub agent_is_ours: bool,
    /// What the reader should know before it runs, a sentence each.
    pub notes: Vec<String>,
}
