//! `muster install`.

use std::path::PathBuf;

use clap::Args;

/// Flags of `muster install`.
#[derive(Debug, Args)]
#[command(
    about = "Link muster under the names ssh, rsh and sshd, in place of OpenSSH",
    long_about = "Links this binary under the names of OpenSSH, for a line in a Dockerfile. Under the \
        names ssh and rsh it does what `muster rsh` does: mpirun, pdsh, rsync and horovodrun find it on \
        PATH. Under the name sshd it does what `muster sshd` does: operators start it as \
        /usr/sbin/sshd -De.\n\n\
        Links that are there stay; a program that is there (a real OpenSSH) stays too and is an \
        error, unless --force replaces it. Where one name cannot be linked, none is.",
    after_help = "Examples:\n  \
        muster install                  # ssh and rsh in /usr/local/bin, sshd in /usr/sbin\n  \
        muster install --ssh            # a launcher's image alone\n  \
        muster install --sshd --force   # over the sshd of the base image"
)]
pub struct InstallArgs {
    /// Directory for ssh and rsh; must stand on PATH
    #[arg(long, value_name = "DIR", default_value = "/usr/local/bin")]
    pub dir: PathBuf,
    /// Directory for sshd
    #[arg(long, value_name = "DIR", default_value = "/usr/sbin")]
    pub sshd_dir: PathBuf,
    /// Only ssh and rsh (and sshd, where --sshd is given too)
    #[arg(long)]
    pub ssh: bool,
    /// Only sshd (and ssh and rsh, where --ssh is given too)
    #[arg(long)]
    pub sshd: bool,
    /// Replace other programs of these names
    #[arg(long)]
    pub force: bool,
}
