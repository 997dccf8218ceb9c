//! `muster sshd`.

use std::ffi::OsString;

use clap::Args;

/// Arguments of `muster sshd`: sshd's own grammar, which clap does not speak.
#[derive(Debug, Args)]
#[command(
    about = "Serve on a worker by sshd's command line; the name sshd does the same",
    long_about = "Serves on a worker as `muster worker` does, by the command line and the \
        configuration of OpenSSH's sshd: for images and manifests that call sshd. Under the name \
        sshd, which `muster install` makes, muster does this without being asked.\n\n\
        Honoured are -4 -6 -D -d -e -f -h -o -p -q -t -V, and of the configuration (default: \
        /etc/ssh/sshd_config, where there is one) Port, ListenAddress, AddressFamily, HostKey, \
        AuthorizedKeysFile, RequiredRSASize, PidFile, AcceptEnv, SetEnv, LogLevel and Include. What \
        asks for nothing that a worker does otherwise is ignored, with one line that lists it. What \
        would shut somebody out or have something else run (AllowUsers, ForceCommand, Match and the like) is \
        refused, and so is what would let somebody in without a key.\n\n\
        Without a HostKey the worker shows the job's key. Without a port it listens on $MUSTER_PORT, \
        else on 22, where ssh looks for it, and 2222, where muster does; one of them is enough. Who \
        may enter is in AuthorizedKeysFile (default: ~/.ssh/authorized_keys, else the job's key). \
        Without -D it goes on in the background, and returns when it serves.",
    override_usage = "muster sshd [sshd options]",
    after_help = "Examples:\n  \
        muster sshd -De -f /home/mpiuser/.sshd_config\n  \
        muster sshd -D -p 2222 -o AuthorizedKeysFile=/etc/mpi-key/authorized_keys\n  \
        muster sshd -t                                 # is the configuration fine?\n  \
        ln -s /usr/local/bin/muster /usr/sbin/sshd     # what muster install --sshd does"
)]
pub struct SshdArgs {
    /// Options of sshd
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub arguments: Vec<OsString>,
}
