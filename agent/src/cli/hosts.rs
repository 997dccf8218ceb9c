//! `muster hosts`.

use clap::Args;

use super::HostArgs;
use crate::discovery::render::Format;

/// Flags of `muster hosts`.
#[derive(Debug, Args)]
#[command(
    about = "Resolve the hosts of the job once and print them",
    long_about = "Resolves the hosts of the job once and prints them, with where the list comes \
        from. Ends with 170 when a host has no address yet.\n\n\
        Without a flag, hosts come from the hostfile that the operator's variables name, \
        /etc/mpi/hostfile, or the lists of Volcano, SageMaker or Azure Batch; else this machine alone.",
    after_help = "Examples:\n  \
        muster hosts\n  \
        muster hosts --format openmpi > hostfile\n  \
        muster hosts --service pi --workers 4 --format json"
)]
pub struct HostsArgs {
    /// What to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub hosts: HostArgs,
}
