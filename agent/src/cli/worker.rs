//! `muster worker`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::reach::{HeartbeatArgs, time};
use crate::ssh::wire::PORT;

/// A port to listen on.
fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "expected a port from 0 to 65535".to_owned())
}

/// What launchers and their users set for ranks; nothing that changes what is run.
const ACCEPTED: [&str; 14] = [
    "LANG", "LC_*", "TZ", "OMPI_*", "PMIX_*", "PRTE_*", "MPICH_*", "HYDRA_*", "I_MPI_*", "UCX_*",
    "FI_*", "NCCL_*", "OMP_*", "MUSTER_*",
];

/// Flags of `muster worker`.
#[derive(Debug, Args)]
#[command(
    about = "Serve on a worker, in place of sshd",
    long_about = "Serves on a worker, in place of sshd: runs what the holder of the job's key asks \
        for, as this user, with this container's environment, and leaves nothing behind when its \
        launcher is gone.\n\nNeeds no root, no passwd entry, no capability and no writable file. \
        Prints one line that begins with READY when it serves.",
    after_help = "Examples:\n  \
        muster worker                              # port 2222 on every address\n  \
        muster worker --port 0 --listen 127.0.0.1  # any free port; READY says which\n  \
        muster worker --key-dir /etc/mpi-key\n  \
        ssh -p 2222 worker-0 hostname              # OpenSSH with the same key reaches it too"
)]
pub struct WorkerArgs {
    /// Port to listen on; 0 picks a free one
    #[arg(short, long, env = "MUSTER_PORT", default_value_t = PORT, value_name = "PORT",
          value_parser = port)]
    pub port: u16,
    /// Address to listen on, may be given again [default: every address]
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub listen: Vec<IpAddr>,
    /// Directory of the job's SSH key [default: $MUSTER_KEY_DIR, ~/.ssh, /root/.ssh,
    /// /home/mpiuser/.ssh, the first that holds one]
    #[arg(long, value_name = "DIR")]
    pub key_dir: Option<PathBuf>,
    /// How long commands may take to end when the platform stops this worker (SIGTERM)
    #[arg(long, env = "MUSTER_GRACE", default_value = "10s", value_name = "TIME",
          value_parser = time)]
    pub grace: Duration,
    /// How long commands live on when the connection that started them is lost
    #[arg(long, env = "MUSTER_ORPHAN_GRACE", default_value = "3s", value_name = "TIME",
          value_parser = time)]
    pub orphan_grace: Duration,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub heartbeat: HeartbeatArgs,
    /// Variables that a client may set for its commands (SetEnv), separated by commas, in place of the
    /// default; a trailing * matches any rest
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_values = ACCEPTED
    )]
    pub accept_env: Vec<String>,
}
