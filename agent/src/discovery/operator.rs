//! Which operator started this pod, told from its host name, environment and files.
//!
//! Must not ask the Kubernetes API and must not guess beyond the facts: every conclusion carries the
//! facts that told it, for the log. What each operator sets is listed in the operators' own sources
//! (mpi-operator v0.8, Trainer v2, JobSet, Volcano; read in August 2026).

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

/// What this pod is to the job, where the operator tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It starts mpirun.
    Launcher,
    /// It waits to be told.
    Worker,
}

/// Where we are and how we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Who created the pod.
    pub operator: Operator,
    /// What the pod is, where known.
    pub role: Option<Role>,
    /// The job's name, where the host name has it.
    pub job: Option<String>,
    /// The common part of the names of this pod and its peers, without `-<index>`, where the pod
    /// has an index.
    pub peers: Option<String>,
    /// What told it, e.g. `K_MPI_JOB_ROLE=launcher`; empty only without an operator.
    pub facts: Vec<String>,
}

impl fmt::Display for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operator)?;
        if !self.facts.is_empty() {
            write!(f, " ({})", self.facts.join(", "))?;
        }
        Ok(())
    }
}

/// Finds out where we are. The platform's own variables come before what names suggest.
#[must_use]
pub fn detect(machine: &Machine<'_>) -> Surroundings {
    let first_known = [mpi_operator, volcano, aws_batch, sage_maker, azure_batch, indexed]
        .into_iter()
        .find_map(|known| known(machine));
    first_known.unwrap_or(Surroundings {
        operator: Operator::None,
        role: None,
        job: None,
        peers: None,
        facts: Vec::new(),
    })
}

/// `NAME=value` where the variable is set and not empty.
fn fact(machine: &Machine<'_>, name: &str) -> Option<String> {
    machine.env.non_empty(name).map(|value| format!("{name}={value}"))
}

fn found(operator: Operator, role: Option<Role>, facts: Vec<String>) -> Surroundings {
    Surroundings { operator, role, job: None, peers: None, facts }
}

fn mpi_operator(machine: &Machine<'_>) -> Option<Surroundings> {
    let role = match machine.env.non_empty(variables::K_MPI_JOB_ROLE)? {
        "launcher" => Some(Role::Launcher),
        "worker" => Some(Role::Worker),
        _ => None,
    };
    let mut facts: Vec<String> = fact(machine, variables::K_MPI_JOB_ROLE).into_iter().collect();
    let job = match role {
        Some(Role::Launcher) => machine.hostname.strip_suffix("-launcher"),
        Some(Role::Worker) => {
            split_index(machine.hostname).and_then(|(prefix, _)| prefix.strip_suffix("-worker"))
        }
        None => None,
    };
    if job.is_some() {
        facts.push(format!("host name {}", machine.hostname));
    }
    let job = job.map(str::to_owned);
    Some(Surroundings { job, ..found(Operator::MpiOperator, role, facts) })
}

fn volcano(machine: &Machine<'_>) -> Option<Surroundings> {
    let index = fact(machine, variables::VC_TASK_INDEX);
    let tasks = machine.env.iter().map(|(name, _)| name);
    let task = tasks
        .filter(|name| variables::part(variables::VC_TASK_HOSTS, name).is_some())
        .map(str::to_owned)
        .next();
    let folder = machine.locate(Path::new(VOLCANO_FOLDER)).is_dir().then(|| VOLCANO_FOLDER.into());
    let facts: Vec<String> = [index, task, folder].into_iter().flatten().collect();
    // Only the mpi plugin's launching task is told the hosts.
    let role = machine.env.non_empty(variables::MPI_HOST).map(|_| Role::Launcher);
    (!facts.is_empty()).then(|| found(Operator::Volcano, role, facts))
}

fn aws_batch(machine: &Machine<'_>) -> Option<Surroundings> {
    let index = machine.env.non_empty(variables::AWS_BATCH_JOB_NODE_INDEX)?;
    let main = machine.env.non_empty(variables::AWS_BATCH_JOB_MAIN_NODE_INDEX);
    let role = main.map(|main| if main == index { Role::Launcher } else { Role::Worker });
    let facts = [variables::AWS_BATCH_JOB_NODE_INDEX, variables::AWS_BATCH_JOB_NUM_NODES];
    let facts = facts.into_iter().filter_map(|name| fact(machine, name)).collect();
    Some(found(Operator::AwsBatch, role, facts))
}

fn sage_maker(machine: &Machine<'_>) -> Option<Surroundings> {
    let facts = [variables::SM_HOSTS, variables::SM_CURRENT_HOST];
    let facts: Vec<String> = facts.into_iter().filter_map(|name| fact(machine, name)).collect();
    (!facts.is_empty()).then(|| found(Operator::SageMaker, None, facts))
}

fn azure_batch(machine: &Machine<'_>) -> Option<Surroundings> {
    let fact = fact(machine, variables::AZ_BATCH_HOST_LIST)?;
    Some(found(Operator::AzureBatch, None, vec![fact]))
}

/// Pods with a completion index. JobSet's are named `<set>-<job>-<job index>-<index>`, so two numbers
/// at the end; Trainer's MPI runtime calls its two jobs `launcher` and `node`. An Indexed Job that is
/// itself called so cannot be told apart, and needs not: names are made in the same way.
fn indexed(machine: &Machine<'_>) -> Option<Surroundings> {
    let index = machine.env.non_empty(variables::JOB_COMPLETION_INDEX)?;
    let mut facts: Vec<String> =
        fact(machine, variables::JOB_COMPLETION_INDEX).into_iter().collect();
    let peers =
        split_index(machine.hostname).filter(|(_, own)| *own == index).map(|(prefix, _)| prefix);
    let Some(peers) = peers else { return Some(found(Operator::IndexedJob, None, facts)) };
    facts.push(format!("host name {}", machine.hostname));

    let Some((set, _)) = split_index(peers) else {
        let (job, peers) = (Some(peers.to_owned()), Some(peers.to_owned()));
        return Some(Surroundings { job, peers, ..found(Operator::IndexedJob, None, facts) });
    };
    let launcher = set.strip_suffix("-launcher");
    let node = set.strip_suffix("-node");
    // With runLauncherAsNode the launcher is one of the nodes, and only the hostfile tells.
    let hostfile = machine.locate(Path::new(MPI_HOSTFILE)).is_file();
    let (operator, role, job) = match (launcher.or(node), hostfile) {
        (Some(job), true) => {
            facts.push(MPI_HOSTFILE.to_owned());
            (Operator::Trainer, Some(Role::Launcher), Some(job))
        }
        (Some(job), false) if node.is_some() => (Operator::Trainer, Some(Role::Worker), Some(job)),
        (_, _) => (Operator::JobSet, None, None),
    };
    let (job, peers) = (job.map(str::to_owned), Some(peers.to_owned()));
    Some(Surroundings { job, peers, ..found(operator, role, facts) })
}

/// `pi-worker` and `3` of `pi-worker-3`.
fn split_index(name: &str) -> Option<(&str, &str)> {
    let (prefix, index) = name.rsplit_once('-')?;
    let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !prefix.is_empty()).then_some((prefix, index))
}

#[cfg(test)]
mod tests;
