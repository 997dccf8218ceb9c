//! `muster launch`.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;

use super::reach::count;
use super::{BindArgs, HostArgs, OutputArgs, ReachArgs, VerdictArgs, WatchArgs};
use crate::devices::require::Requirements;
use crate::fabric::Wanted;

/// Flags of `muster launch`.
#[derive(Debug, Args)]
#[command(
    about = "Run an MPI job over the workers, or on this machine alone",
    long_about = "Finds the workers, waits until every one is ready, and runs an MPI job on them.\n\n\
        Given a program, muster writes the mpirun line. Given an mpirun line, it leaves the line as \
        it is and sets the environment: hostfile, remote-shell agent and launch options of the MPI \
        that is found. What you have set stays, unless a flag of yours says otherwise or it \
        cannot reach a host (an agent `sh`); --dry-run shows every variable and why.\n\n\
        Without a flag, hosts come from the hostfile that the operator's variables name, \
        /etc/mpi/hostfile, or the lists of Volcano, SageMaker or Azure Batch; else this machine alone.\n\n\
        Unlike ssh, it reads no ssh_config and does not try port 22. Where the workers listen elsewhere \
        than on 2222, set MUSTER_PORT in the job's environment: --port tells this launch alone, \
        not the ssh of a rank.",
    after_help = "Examples:\n  \
        muster launch -- ./train                      # one rank a slot, on all hosts\n  \
        muster launch -n 8 --hosts a:4,b:4 -- ./app\n  \
        muster launch --service pi --workers 4 -- ./app\n  \
        muster launch -- mpirun -np 8 --map-by node ./app\n  \
        muster launch --dry-run -- ./app              # hostfile, argv and variables, with reasons\n  \
        muster launch --fabric tcp -- ./app           # although there is RDMA\n  \
        muster launch --require gpus=8,rdma=1,shm=1Gi,memlock=unlimited -- ./train\n  \
        muster launch --tag=json --output=pod -- ./app\n  \
        muster launch --ranks 0 --log-dir /logs -- ./app\n  \
        muster launch --gpu-bind=none -- ./app        # every rank sees all GPUs of its host\n  \
        muster launch -n 4 -- ./app                   # no hosts named anywhere: this machine alone"
)]
pub struct LaunchArgs {
    /// Ranks to start [default: all slots]
    #[arg(short = 'n', long = "np", value_name = "N", value_parser = count)]
    pub ranks: Option<NonZeroU32>,
    /// Slots of each host whose hostfile line says nothing [default: one for each of its GPUs or MIG
    /// instances, else one for each CPU of its limit]
    #[arg(long, value_name = "N", value_parser = count)]
    pub slots: Option<NonZeroU32>,
    /// The MPI launcher to use [default: mpirun or mpiexec on PATH]
    #[arg(long, env = "MUSTER_MPIRUN", value_name = "PATH")]
    pub mpirun: Option<PathBuf>,
    /// The job's network
    #[arg(long, env = "MUSTER_FABRIC", value_enum, default_value = "auto")]
    pub fabric: Wanted,
    /// What every host must have, or nothing is started: gpus=8,rdma=1,cpus=4,memory=16Gi,shm=1Gi,
    /// memlock=unlimited
    #[arg(long, env = "MUSTER_REQUIRE", value_name = "LIST")]
    pub require: Option<Requirements>,
    /// Print hostfile, argv and environment with reasons, and start nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print --dry-run as JSON
    #[arg(long, requires = "dry_run")]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub hosts: HostArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub reach: ReachArgs,
    #[command(flatten, next_help_heading = "Output of ranks")]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub output: OutputArgs,
    #[command(flatten, next_help_heading = "Devices")]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub bind: BindArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub watch: WatchArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub verdict: VerdictArgs,
    /// The program and its arguments, or a whole mpirun line
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub command: Vec<OsString>,
}
