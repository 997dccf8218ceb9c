//! `muster devices`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::reach::time_from;
use super::{HostArgs, ReachArgs};
use crate::devices::render::Format;

/// Flags of `muster devices`.
#[derive(Debug, Args)]
#[command(
    about = "Report what this container can really use: CPUs, memory, network, RDMA, GPUs",
    long_about = "Reports what this container can really use: CPUs and memory within its limits, \
        network interfaces, RDMA devices and GPUs, each with the reason where it cannot be used. \
        Asks NVML in a process of its own, for 5 seconds at most; without it, reads what the kernel's \
        files tell.\n\nWith --all-hosts, collects what every worker tells of its host, side by \
        side, and marks what differs from most: a GPU short, another driver or MPI, a port down, \
        another MTU.",
    after_help = "Examples:\n  \
        muster devices\n  \
        muster devices --format json | jq '.gpus.devices[].name'\n  \
        muster devices --watch 2s\n  \
        muster devices --all-hosts            # in the launcher: all workers, the odd one out marked\n  \
        muster devices --root /mnt/recorded   # the machine whose /proc, /sys and /dev lie there"
)]
pub struct DevicesArgs {
    /// What to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
    /// Print it again and again, with this long in between
    #[arg(long, value_name = "TIME", value_parser = pause)]
    pub watch: Option<Duration>,
    /// Read the files below this directory instead of this machine's
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Collect the reports of all hosts of the job, over the connections that a launch uses
    #[arg(long, conflicts_with_all = ["watch", "root"])]
    pub all_hosts: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub hosts: HostArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub reach: ReachArgs,
}

/// Long enough for the machine to do something else in between.
fn pause(text: &str) -> Result<Duration, String> {
    time_from(Duration::from_millis(100), text)
}
