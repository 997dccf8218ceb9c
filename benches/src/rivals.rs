//! What muster is compared with: OpenSSH as fast as it can be, OpenSSH as images have it, dropbear.
//!
//! Must not be slower than a user who took care could have it; the operator's set-up is what it is.

use lab::openssh::Sshd;

/// A rival's way to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ssh {
    /// OpenSSH as fast as it can fairly be made.
    Fast,
    /// As mpi-operator's images have it: the job's P-521 key, Debian's configuration.
    Stock,
}

impl Ssh {
    /// Its name in a table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fast => "OpenSSH, fastest",
            Self::Stock => "OpenSSH, operator's",
        }
    }

    /// The options that select it.
    pub(crate) fn options(self) -> &'static str {
        match self {
            Self::Fast => "-F /etc/bench/fast",
            Self::Stock => "-F /etc/bench/stock",
        }
    }

    /// Its server.
    pub(crate) fn server(self) -> Sshd {
        match self {
            // The login shell of the user `fast` is /bin/sh, which starts faster than bash.
            Self::Fast => Sshd::new().keys("/etc/bench").setting("PrintLastLog=no"),
            Self::Stock => {
                ["UsePAM=yes", "X11Forwarding=yes", "PrintMotd=no", "AcceptEnv=LANG LC_*"]
                    .into_iter()
                    .fold(Sshd::new().port(2022), Sshd::setting)
            }
        }
    }
}

/// The client's configuration: Ed25519 and the cheapest key exchange and cipher that both ends have; no questions that cost a round trip.
pub(crate) const FAST: &str = "Host *
    User fast
    IdentityFile /etc/bench/id_rsa
    IdentitiesOnly yes
    PreferredAuthentications publickey
    GSSAPIAuthentication no
    KexAlgorithms curve25519-sha256
    Ciphers aes128-gcm@openssh.com
    AddressFamily inet
    BatchMode yes
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    GlobalKnownHostsFile /dev/null
    LogLevel ERROR
";

/// Debian's /etc/ssh/ssh_config with what mpi-operator's base image changes.
pub(crate) const STOCK: &str = "Host *
    Port 2022
    SendEnv LANG LC_*
    HashKnownHosts yes
    GSSAPIAuthentication yes
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
";

/// A line that gives dropbear the fastest OpenSSH's key, and one that serves with it.
pub(crate) const DROPBEAR: &str =
    "dropbearconvert openssh dropbear /etc/bench/id_rsa /etc/bench/dropbear 2>/dev/null
    exec dropbear -F -E -s -m -p 2023 -P /run/dropbear.pid -r /etc/bench/dropbear";

/// dropbear's client, before the host's name.
pub(crate) const DBCLIENT: &str = "dbclient -y -y -T -p 2023 -l fast -i /etc/bench/dropbear";
