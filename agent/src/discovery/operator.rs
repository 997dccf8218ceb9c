//! Which operator started this pod, told from its host name, environment and files.
//!
//! Must not ask the Kubernetes API and must not guess beyond the facts. What each operator sets is listed
//! in the operators' own sources (mpi-operator v0.8, Trainer v2, JobSet, Volcano; read in August 2026).

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::env::Environment;
use crate::config::variables;

/// Where Volcano's svc plugin mounts one list of hosts a task.
pub const VOLCANO_FOLDER: &str = "/etc/volcano";
/// Where mpi-operator and Trainer mount the hostfile: on the launcher only.
pub const MPI_HOSTFILE: &str = "/etc/mpi/hostfile";

/// What tells a machine where it is; a value, so that tests need no machine.
#[derive(Debug, Clone)]
pub struct Machine<'m> {
    /// The environment.
    pub env: &'m Environment,
    /// The host name, without a domain.
    pub hostname: &'m str,
    /// What stands for `/` when an absolute path is looked up; `/` outside tests.
    pub root: &'m Path,
}

impl Machine<'_> {
    /// The path to open for a path as it is written: below the root where it is absolute.
    #[must_use]
    pub fn locate(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/") {
            Ok(below) => self.root.join(below),
            Err(_) => path.to_owned(),
        }
    }
}

/// What created the pods of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Kubeflow mpi-operator (MPIJob v2beta1).
    MpiOperator,
    /// Kubeflow Trainer v2 (TrainJob, MPI runtime), which runs on JobSet.
    Trainer,
    /// JobSet without Trainer.
    JobSet,
    /// Volcano.
    Volcano,
    /// A Kubernetes Job with completion mode Indexed.
    IndexedJob,
    /// AWS Batch, multi-node parallel job.
    AwsBatch,
    /// Amazon SageMaker.
    SageMaker,
    /// Azure Batch.
    AzureBatch,
    /// Nothing that we know.
    None,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::MpiOperator => "mpi-operator",
            Self::Trainer => "Kubeflow Trainer",
            Self::JobSet => "JobSet",
            Self::Volcano => "Volcano",
            Self::IndexedJob => "Indexed Job",
            Self::AwsBatch => "AWS Batch",
            Self::SageMaker => "SageMaker",
            Self::AzureBatch => "Azure Batch",
            Self::None => "no known operator",
        })
    }
}

/// Where we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Who created the pod.
    pub operator: Operator,
    /// The job's name, where the host name has it.
    pub job: Option<String>,
    /// The common part of the names of this pod and its peers, without `-<index>`, where the pod
    /// has an index.
    pub peers: Option<String>,
}

impl From<Operator> for Surroundings {
    fn from(operator: Operator) -> Self {
        Self { operator, job: None, peers: None }
    }
}

/// Finds out where we are. The platform's own variables come before what names suggest.
#[must_use]
pub fn detect(machine: &Machine<'_>) -> Surroundings {
    let env = machine.env;
    let set = |name: &str| env.non_empty(name).is_some();
    if let Some(role) = env.non_empty(variables::K_MPI_JOB_ROLE) {
        return mpi_operator(role, machine.hostname);
    }
    if is_volcano(machine) {
        return Operator::Volcano.into();
    }
    if set(variables::AWS_BATCH_JOB_NODE_INDEX) {
        return Operator::AwsBatch.into();
    }
    if set(variables::SM_HOSTS) || set(variables::SM_CURRENT_HOST) {
        return Operator::SageMaker.into();
    }
    if set(variables::AZ_BATCH_HOST_LIST) {
        return Operator::AzureBatch.into();
    }
    match env.non_empty(variables::JOB_COMPLETION_INDEX) {
        Some(index) => indexed(index, machine),
        None => Operator::None.into(),
    }
}

/// The launcher is named `<job>-launcher`, the workers `<job>-worker-<index>`.
fn mpi_operator(role: &str, hostname: &str) -> Surroundings {
    let job = match role {
        "launcher" => hostname.strip_suffix("-launcher"),
        "worker" => split_index(hostname).and_then(|(prefix, _)| prefix.strip_suffix("-worker")),
        _ => None,
    };
    Surroundings { job: job.map(str::to_owned), ..Operator::MpiOperator.into() }
}

/// Whether its plugins left a trace: env, svc, or the lists of hosts of a task.
fn is_volcano(machine: &Machine<'_>) -> bool {
    let list = |name| variables::part(variables::VC_TASK_HOSTS, name).is_some();
    machine.env.non_empty(variables::VC_TASK_INDEX).is_some()
        || machine.env.iter().any(|(name, _)| list(name))
        || machine.locate(Path::new(VOLCANO_FOLDER)).is_dir()
}

/// Pods with a completion index. JobSet's are named `<set>-<job>-<job index>-<index>`, so two numbers
/// at the end; Trainer's MPI runtime calls its two jobs `launcher` and `node`. An Indexed Job that is
/// itself called so cannot be told apart, and needs not: names are made in the same way.
fn indexed(index: &str, machine: &Machine<'_>) -> Surroundings {
    let peers =
        split_index(machine.hostname).filter(|(_, own)| *own == index).map(|(prefix, _)| prefix);
    let Some(peers) = peers else { return Operator::IndexedJob.into() };
    let named = |operator, job: Option<&str>| Surroundings {
        operator,
        job: job.map(str::to_owned),
        peers: Some(peers.to_owned()),
    };
    let Some((set, _)) = split_index(peers) else {
        return named(Operator::IndexedJob, Some(peers));
    };
    // A launcher has the hostfile; a set of another kind may have a job called so and has none.
    let hostfile = machine.locate(Path::new(MPI_HOSTFILE)).is_file();
    let launcher = set.strip_suffix("-launcher").filter(|_| hostfile);
    match launcher.or_else(|| set.strip_suffix("-node")) {
        Some(job) => named(Operator::Trainer, Some(job)),
        None => named(Operator::JobSet, None),
    }
}

/// `pi-worker` and `3` of `pi-worker-3`.
fn split_index(name: &str) -> Option<(&str, &str)> {
    let (prefix, index) = name.rsplit_once('-')?;
    let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !prefix.is_empty()).then_some((prefix, index))
}

#[cfg(test)]
mod tests;
