//! The environment variables of users and operators: what muster reads of them, what it sets of the
//! network and of GPUs, and what for; `muster man` prints it. What a plan sets beside these to drive one
//! MPI family is in `plan`, and `--dry-run` shows it; what names a rank is in `process::ranks`.
//!
//! Must not read the environment. Discovery names variables by the constants made here, and no flag has a
//! variable that is not here, so that none of these can be used without being documented.

/// What muster does with a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Looks at it, never changes it.
    Reads,
    /// Sets it for what it starts, unless it is set already.
    Sets,
}

impl Use {
    /// One word for the reference page.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Sets => "sets",
        }
    }
}

/// One environment variable, or one family of them where the name has a `<PART>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// As it stands in the environment; `<PART>` stands for any text.
    pub name: &'static str,
    /// Who usually sets it.
    pub set_by: &'static str,
    /// What muster does with it.
    pub usage: Use,
    /// What muster uses it for: one phrase, no full stop.
    pub purpose: &'static str,
}

/// Stands before an abstract name in [`MUSTER_RANK_SOCKET`], as in the output of ss(8).
pub const ABSTRACT: char = '@';

macro_rules! variables {
    ($($ident:ident = $name:literal, $usage:ident, $set_by:literal, $purpose:literal;)+) => {
        $(#[doc = concat!("`", $name, "`: ", $purpose, ".")] pub const $ident: &str = $name;)+

        /// Every variable, in the order of the reference page.
        pub const ALL: &[Variable] = &[$(Variable {
            name: $name,
            set_by: $set_by,
            usage: Use::$usage,
            purpose: $purpose,
        },)+];
    };
}

variables! {
    // muster's own
    MUSTER_SOCKET = "MUSTER_SOCKET", Sets, "muster launch",
        "the engine's unix socket, through which `muster rsh` opens its channels";
    MUSTER_RANK_SOCKET = "MUSTER_RANK_SOCKET", Sets, "muster launch, muster worker",
        "the unix socket to which `muster rank` sends lines and reports; `@` begins an abstract name";
    MUSTER_JOB = "MUSTER_JOB", Reads, "the user",
        "the job's name in JSON lines and templates, where `--job` does not say; else the operator's or the batch \
         system's, else one of the launch's own";
    MUSTER_GPU_BIND = "MUSTER_GPU_BIND", Reads, "the user",
        "how ranks are bound to GPUs where `--gpu-bind` does not say: auto, none, round-robin or numa";
    MUSTER_PORT = "MUSTER_PORT", Reads, "the user",
        "the port of the workers, of `muster rsh` (ssh) and of a worker or sshd that is told none";
    MUSTER_KEY_DIR = "MUSTER_KEY_DIR", Reads, "the user",
        "the directory of the job's key, instead of `~/.ssh`, `/root/.ssh` and `/home/mpiuser/.ssh`";
    MUSTER_HOST_KEY = "MUSTER_HOST_KEY", Reads, "the user",
        "whose host key is believed: `job`, `known-hosts` or `any`";
    MUSTER_MPIRUN = "MUSTER_MPIRUN", Reads, "the user",
        "the mpirun to be used, where `--mpirun` does not say";
    MUSTER_FABRIC = "MUSTER_FABRIC", Reads, "the user",
        "which network the job uses, where `--fabric` does not say: auto, tcp, rdma or none";
    MUSTER_REQUIRE = "MUSTER_REQUIRE", Reads, "the user",
        "what every host must have, where `--require` does not say";
    MUSTER_WAIT_TIMEOUT = "MUSTER_WAIT_TIMEOUT", Reads, "the user",
        "how long workers are waited for";
    MUSTER_ORPHAN_GRACE = "MUSTER_ORPHAN_GRACE", Reads, "the user",
        "how long a worker lets the commands of a launcher run that has vanished";
    MUSTER_RUN_DIR = "MUSTER_RUN_DIR", Reads, "the user",
        "where a launch makes its private directory, before `$TMPDIR`, `/tmp` and `/dev/shm`";
    MUSTER_LOG = "MUSTER_LOG", Reads, "the user",
        "how much muster says of its own steps: error, warn, info, debug or trace";
    MUSTER_SESSION = "MUSTER_SESSION", Sets, "muster worker",
        "marks what a worker started, so that nothing of it is left behind";
    MUSTER_HEARTBEAT = "MUSTER_HEARTBEAT", Reads, "the user",
        "between two signs of life of a worker; the same for launcher and workers";
    MUSTER_HEARTBEAT_MISSES = "MUSTER_HEARTBEAT_MISSES", Reads, "the user",
        "signs of life that may be missing before the other end counts as lost";
    MUSTER_GRACE = "MUSTER_GRACE", Reads, "the user",
        "between SIGTERM and SIGKILL for the ranks of a job that ends";
    MUSTER_TERMINATION_LOG = "MUSTER_TERMINATION_LOG", Reads, "the user",
        "the file that Kubernetes reads the termination message from";
    TORCHELASTIC_ERROR_FILE = "TORCHELASTIC_ERROR_FILE", Reads, "the user, torchrun",
        "a file in which a rank leaves its exception as JSON; read when it has failed";

    // GPUs of a rank
    CUDA_VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES", Sets, "the user, batch systems",
        "the GPUs or the MIG instance of a rank, by UUID";
    ROCR_VISIBLE_DEVICES = "ROCR_VISIBLE_DEVICES", Sets, "the user, batch systems",
        "the AMD GPUs of a rank, by UUID";
    HIP_VISIBLE_DEVICES = "HIP_VISIBLE_DEVICES", Reads, "the user",
        "says that GPUs are chosen already, and so ranks are not bound to any";
    GPU_DEVICE_ORDINAL = "GPU_DEVICE_ORDINAL", Reads, "the user",
        "the same, for HIP and OpenCL";

    // who and where we are
    POD_NAME = "POD_NAME", Reads, "the user (downward API)",
        "this pod's name, which a verdict names beside the host; Jobs and JobSets make it other than the \
         host name";
    K_MPI_JOB_ROLE = "K_MPI_JOB_ROLE", Reads, "mpi-operator",
        "`launcher` or `worker`: this pod belongs to an MPIJob";
    JOB_COMPLETION_INDEX = "JOB_COMPLETION_INDEX", Reads, "Kubernetes (Indexed Job), JobSet",
        "this pod's index in its Job; the host name without it is the prefix of its peers";
    VC_TASK_INDEX = "VC_TASK_INDEX", Reads, "Volcano",
        "this pod's index in its task: we run under Volcano";
    AWS_BATCH_JOB_NODE_INDEX = "AWS_BATCH_JOB_NODE_INDEX", Reads, "AWS Batch",
        "this node's index in a multi-node job";
    AWS_BATCH_JOB_NUM_NODES = "AWS_BATCH_JOB_NUM_NODES", Reads, "AWS Batch",
        "how many nodes the job has; AWS Batch gives no list of them";
    SM_CURRENT_HOST = "SM_CURRENT_HOST", Reads, "SageMaker",
        "this host's name in `SM_HOSTS`: we run under SageMaker";

    // the list of hosts, in the order in which they are asked
    OMPI_DEFAULT_HOSTFILE = "OMPI_MCA_orte_default_hostfile", Reads, "mpi-operator, Trainer",
        "path of the hostfile for Open MPI up to 4; `none` counts as unset";
    PRTE_DEFAULT_HOSTFILE = "PRTE_MCA_prte_default_hostfile", Reads, "the user",
        "path of the hostfile for Open MPI 5; `none` counts as unset";
    I_MPI_HYDRA_HOST_FILE = "I_MPI_HYDRA_HOST_FILE", Reads, "mpi-operator",
        "path of the hostfile for Intel MPI";
    HYDRA_HOST_FILE = "HYDRA_HOST_FILE", Reads, "mpi-operator",
        "path of the hostfile for MPICH";
    MPI_HOST = "MPI_HOST", Reads, "Volcano (mpi plugin, launching task only)",
        "the workers, separated by commas; read only where Volcano left other traces";
    VC_TASK_HOSTS = "VC_<TASK>_HOSTS", Reads, "Volcano",
        "the hosts of a task, separated by commas; the task whose name ends in `worker` counts";
    SM_HOSTS = "SM_HOSTS", Reads, "SageMaker",
        "all hosts of the job, as a JSON list";
    AZ_BATCH_HOST_LIST = "AZ_BATCH_HOST_LIST", Reads, "Azure Batch",
        "all nodes of the task, separated by commas";

    // the network, by `--fabric`
    OMPI_BTL_TCP_IF_INCLUDE = "OMPI_MCA_btl_tcp_if_include", Sets, "the user",
        "the interface, or the networks, of Open MPI's messages";
    OMPI_BTL_TCP_IF_EXCLUDE = "OMPI_MCA_btl_tcp_if_exclude", Reads, "the user",
        "stands against `OMPI_MCA_btl_tcp_if_include`";
    OMPI_OOB_TCP_IF_INCLUDE = "OMPI_MCA_oob_tcp_if_include", Sets, "the user",
        "the interface, or the networks, of Open MPI 4's daemons";
    OMPI_OOB_TCP_IF_EXCLUDE = "OMPI_MCA_oob_tcp_if_exclude", Reads, "the user",
        "stands against `OMPI_MCA_oob_tcp_if_include`";
    OMPI_OOB_TCP_INCLUDE = "OMPI_MCA_oob_tcp_include", Reads, "the user",
        "older name of `OMPI_MCA_oob_tcp_if_include`";
    OMPI_OOB_TCP_EXCLUDE = "OMPI_MCA_oob_tcp_exclude", Reads, "the user",
        "older name of `OMPI_MCA_oob_tcp_if_exclude`";
    PRTE_IF_INCLUDE = "PRTE_MCA_prte_if_include", Sets, "the user",
        "the interface, or the networks, of Open MPI 5's daemons";
    PRTE_IF_EXCLUDE = "PRTE_MCA_prte_if_exclude", Reads, "the user",
        "stands against `PRTE_MCA_prte_if_include`";
    PRTE_OOB_TCP_IF_INCLUDE = "PRTE_MCA_oob_tcp_if_include", Reads, "the user",
        "older name of `PRTE_MCA_prte_if_include`";
    PRTE_OOB_TCP_IF_EXCLUDE = "PRTE_MCA_oob_tcp_if_exclude", Reads, "the user",
        "older name of `PRTE_MCA_prte_if_exclude`";
    OMPI_PML = "OMPI_MCA_pml", Sets, "the user",
        "Open MPI's point-to-point layer: `ob1` for TCP, `ucx` or `cm` for RDMA";
    OMPI_BTL = "OMPI_MCA_btl", Sets, "the user",
        "Open MPI's transports below `ob1`, those of RDMA left out";
    OMPI_MTL = "OMPI_MCA_mtl", Reads, "the user",
        "stands against `OMPI_MCA_pml`";
    OMPI_PML_UCX_DEVICES = "OMPI_MCA_pml_ucx_devices", Sets, "the user",
        "for which drivers Open MPI takes UCX by itself";
    OMPI_COMMON_UCX_DEVICES = "OMPI_MCA_opal_common_ucx_devices", Reads, "the user",
        "other name of `OMPI_MCA_pml_ucx_devices`";
    UCX_NET_DEVICES = "UCX_NET_DEVICES", Sets, "the user",
        "the devices and interfaces of UCX";
    FI_PROVIDER = "FI_PROVIDER", Sets, "the user",
        "libfabric's provider";
    FI_TCP_IFACE = "FI_TCP_IFACE", Sets, "the user",
        "the interface of libfabric's tcp provider";
    MPICH_OFI_PROVIDER = "MPIR_CVAR_OFI_USE_PROVIDER", Reads, "the user",
        "stands against `FI_PROVIDER`";
    I_MPI_OFI_PROVIDER = "I_MPI_OFI_PROVIDER", Sets, "the user",
        "libfabric's provider for Intel MPI";
    NCCL_SOCKET_IFNAME = "NCCL_SOCKET_IFNAME", Sets, "the user",
        "the interface of NCCL and RCCL, with a `=` for its whole name";
    NCCL_IB_HCA = "NCCL_IB_HCA", Sets, "the user",
        "the RDMA ports of NCCL and RCCL, with a `=` for their whole names";
    NCCL_IB_DISABLE = "NCCL_IB_DISABLE", Sets, "the user",
        "`1` where NCCL must not take RDMA that others lack";
    NCCL_IB_GID_INDEX = "NCCL_IB_GID_INDEX", Sets, "the user",
        "the index of the RoCE v2 address, where it is the same on all hosts";
    NCCL_NET = "NCCL_NET", Reads, "the user",
        "stands against `NCCL_IB_DISABLE`";
    NCCL_IB_ADDR_RANGE = "NCCL_IB_ADDR_RANGE", Reads, "the user",
        "stands against `NCCL_IB_GID_INDEX`";
}

/// Whether the table has the variable, by its name or as a member of a family.
#[cfg(test)]
pub(crate) fn is_known(name: &str) -> bool {
    ALL.iter().any(|variable| variable.name == name || part(variable.name, name).is_some())
}

/// The `<PART>` of a family that a name has: `WORKER` of `VC_WORKER_HOSTS`.
#[must_use]
pub fn part<'n>(family: &str, name: &'n str) -> Option<&'n str> {
    let (prefix, rest) = family.split_once('<')?;
    let (_, suffix) = rest.split_once('>')?;
    name.strip_prefix(prefix)?.strip_suffix(suffix).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{ALL, VC_TASK_HOSTS, is_known, part};

    #[test]
    fn no_name_stands_twice_and_every_row_says_something() {
        let names: BTreeSet<&str> = ALL.iter().map(|variable| variable.name).collect();
        assert_eq!(names.len(), ALL.len());
        for variable in ALL {
            assert!(!variable.set_by.is_empty() && !variable.purpose.is_empty(), "{variable:?}");
            assert!(!variable.purpose.ends_with('.') && !variable.purpose.contains('|'));
        }
    }

    #[test]
    fn families_are_matched_by_their_part() {
        for (name, expected) in [
            ("VC_WORKER_HOSTS", Some("WORKER")),
            ("VC_MPI_WORKER_HOSTS", Some("MPI_WORKER")),
            ("VC__HOSTS", None),
            ("VC_HOSTS", None),
            ("VC_WORKER_NUM", None),
        ] {
            assert_eq!(part(VC_TASK_HOSTS, name), expected, "{name}");
            assert_eq!(is_known(name), expected.is_some(), "{name}");
        }
        assert!(is_known("HYDRA_HOST_FILE") && !is_known("HOME"));
    }

    /// Words in capitals that no stage may spell out: they look like a variable's name.
    fn spelled_out(source: &str) -> Vec<String> {
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let code: String =
            code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        code.split('"')
            .skip(1)
            .step_by(2)
            .filter(|word| word.contains('_') && word.len() > 3)
            .filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()))
            .filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
            .map(str::to_owned)
            .collect()
    }

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_variable_that_discovery_names_is_in_the_table() {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/discovery"), &mut files);
        assert!(files.len() > 5, "{files:?}");
        for file in files {
            for name in spelled_out(&fs::read_to_string(&file).unwrap()) {
                assert!(is_known(&name), "{name} in {} is not in the table", file.display());
            }
        }
        assert_eq!(spelled_out(r#"env.get("NOT_IN_TABLE")"#), ["NOT_IN_TABLE"]);
    }
}
