//! `muster rsh`.

use std::ffi::OsString;

use clap::Args;

/// Arguments of `muster rsh`: ssh's own grammar, which clap does not speak.
#[derive(Debug, Args)]
#[command(
    about = "Run a command on a host: the remote-shell agent of mpirun",
    long_about = "Runs a command on a host, as ssh would: the remote-shell agent of mpirun.\n\n\
        Inside a launch the command goes over the connection that muster holds to the host already, \
        unless its port, key or HostName is another one; elsewhere it makes one, to a muster worker or to a stock OpenSSH server. Ends with the \
        command's exit code, 128 + n when signal n killed it, or 255 when the host could not be \
        reached.\n\nTakes ssh's options. Those with no meaning here are ignored, those that would \
        change the meaning (forwarding, proxies, ttys for shells) are refused. Under the names ssh, \
        rsh and remsh, which `muster install` makes, muster does this without being asked.\n\n\
        Elsewhere than inside a launch ~/.ssh/config and /etc/ssh/ssh_config (or -F FILE) give Port, \
        User, HostName, IdentityFile, ConnectTimeout, ConnectionAttempts and the rest of what -o \
        takes, by blocks of Host and Match. The port is that of -p or -o, of the configuration, of \
        $MUSTER_PORT, else 2222 and, where nothing listens there, 22. Whose host key is believed \
        says $MUSTER_HOST_KEY: job (the job's own key), known-hosts or any.",
    override_usage = "muster rsh [ssh options] [user@]host command [argument ...]",
    after_help = "Examples:\n  \
        muster rsh worker-0 hostname\n  \
        muster rsh -p 2222 -o ConnectTimeout=5 worker-1 'ulimit -l; env'\n  \
        tar c data | muster rsh worker-2 'tar x -C /scratch'\n  \
        mpirun --mca plm_rsh_agent 'muster rsh' -H worker-0,worker-1 ./app      # Open MPI 4\n  \
        mpirun --prtemca plm_ssh_agent 'muster rsh' -H worker-0,worker-1 ./app  # Open MPI 5"
)]
pub struct RshArgs {
    /// Options, host and command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub arguments: Vec<OsString>,
}
