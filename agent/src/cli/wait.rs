//! `muster wait`.

use clap::Args;

use super::{HostArgs, ReachArgs};

/// Flags of `muster wait`.
#[derive(Debug, Args)]
#[command(
    about = "Wait until every worker is ready, and nothing else",
    long_about = "Waits until every worker is ready, and nothing else: for an init container before \
        an unchanged launcher. Ready means that the name resolves, the port answers, both ends have \
        proved that they hold the job's key, and the worker has said hello.\n\n\
        DNS is asked for the workers' headless Service rather than for names that are not there yet, \
        whose absence a cache would keep.\n\n\
        Without a flag, hosts come from the hostfile that the operator's variables name, \
        /etc/mpi/hostfile, or the lists of Volcano, SageMaker or Azure Batch; else it is an error.",
    after_help = "Examples:\n  \
        muster wait\n  \
        muster wait --wait-timeout 2m --service pi --workers 4"
)]
pub struct WaitArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub hosts: HostArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub reach: ReachArgs,
}
