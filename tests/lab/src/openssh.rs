//! The real OpenSSH in hosts, for interoperation and comparison.
//!
//! Must not be needed by muster: a host has OpenSSH only with [`crate::HostSpec::openssh`].

use std::time::Duration;

use crate::command::Cmd;
use crate::error::{LabError, Result};
use crate::host::Host;
use crate::mpi::Install;
use crate::process::Proc;
use crate::spec::FileSpec;

/// How long sshd may take to listen.
const START: Duration = Duration::from_secs(20);

/// Options for `ssh` as images of MPI jobs set them: no questions, no known hosts.
pub const CLIENT: [&str; 8] = [
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "BatchMode=yes",
    "-o",
    "LogLevel=ERROR",
];

/// Where a host has [`agent`].
const AGENT: &str = "/usr/local/bin/agent";

/// The remote shell of [`mpirun`], for hosts whose servers listen on this port; it needs [`crate::HostSpec::openssh`].
pub fn agent(port: u16) -> FileSpec {
    let options = CLIENT.join(" ");
    let script = format!("#!/bin/sh\nexec /usr/bin/ssh {options} -p {port} \"$@\"\n");
    FileSpec::new(AGENT, script).mode(0o755)
}

/// mpirun with [`agent`] as its remote shell, as an image of an MPI job sets it up.
pub fn mpirun(install: Install) -> Cmd {
    let command = Cmd::new("mpirun");
    match install {
        Install::OpenMpi4 => command.env("OMPI_MCA_plm_rsh_agent", AGENT),
        Install::OpenMpi5 => command
            .env("PRTE_MCA_plm_ssh_agent", AGENT)
            .env("PRTE_MCA_prte_default_hostfile", "/etc/mpi/hostfile")
            .args(["--bind-to", "none"]),
        Install::Mpich4 | Install::Mpich5 => {
            command.env("HYDRA_LAUNCHER_EXEC", AGENT).env("HYDRA_IFACE", "eth0")
        }
        Install::IntelMpi => {
            command.env("I_MPI_HYDRA_BOOTSTRAP_EXEC", AGENT).env("I_MPI_HYDRA_IFACE", "eth0")
        }
    }
}

/// An sshd to be started: `Sshd::new()` is on port 22 with the files of /root/.ssh.
#[derive(Debug, Clone)]
pub struct Sshd {
    port: u16,
    host_key: String,
    authorized_keys: String,
    more: Vec<String>,
}

impl Default for Sshd {
    fn default() -> Self {
        Self::new()
    }
}

impl Sshd {
    /// Port 22, with the job's key in /root/.ssh as host key and as the one key let in.
    pub fn new() -> Self {
        Self {
            port: 22,
            host_key: "/root/.ssh/id_rsa".into(),
            authorized_keys: "/root/.ssh/authorized_keys".into(),
            more: Vec::new(),
        }
    }

    /// Another port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Another directory with `id_rsa` and `authorized_keys`.
    #[must_use]
    pub fn keys(mut self, dir: &str) -> Self {
        self.host_key = format!("{dir}/id_rsa");
        self.authorized_keys = format!("{dir}/authorized_keys");
        self
    }

    /// Another host key than the job's.
    #[must_use]
    pub fn host_key(mut self, path: impl Into<String>) -> Self {
        self.host_key = path.into();
        self
    }

    /// One more setting, such as `MaxSessions=1`; it wins over the lab's own.
    #[must_use]
    pub fn setting(mut self, setting: impl Into<String>) -> Self {
        self.more.push(setting.into());
        self
    }

    /// Starts it in a host that is up, as the host's user; returns when it listens.
    /// Sessions get the host's PATH and LD_LIBRARY_PATH, which OpenSSH alone would lose.
    pub fn start(&self, host: &Host) -> Result<Proc> {
        if host.run(Cmd::sh("test -x /usr/sbin/sshd").as_lab(), START)?.code() != 0 {
            return Err(LabError::Setup { missing: "/usr/sbin/sshd".into() });
        }
        // sshd as root wants this directory for its unprivileged half; packages make it, a private /run hides it.
        host.run(Cmd::new("mkdir").args(["-p", "/run/sshd"]).as_lab(), START)?;
        let paths = host
            .environment()
            .into_iter()
            .filter(|(name, _)| name == "PATH" || name == "LD_LIBRARY_PATH");
        let mut paths: Vec<_> = paths.collect();
        paths.reverse();
        paths.dedup_by(|later, earlier| later.0 == earlier.0);
        let paths: Vec<_> = paths.iter().map(|(name, value)| format!("{name}={value}")).collect();
        // sshd keeps the first value that it is given.
        let mut settings = self.more.clone();
        settings.extend([
            format!("Port={}", self.port),
            format!("HostKey={}", self.host_key),
            format!("AuthorizedKeysFile={}", self.authorized_keys),
            format!("SetEnv={}", paths.join(" ")),
            "PermitRootLogin=prohibit-password".into(),
            "StrictModes=no".into(),
            "UsePAM=no".into(),
            "PidFile=none".into(),
            "UseDNS=no".into(),
            // Launchers open many connections at once; the default drops some of them.
            "MaxStartups=1000".into(),
        ]);
        let options = settings.into_iter().flat_map(|setting| ["-o".to_owned(), setting]);
        let server = host.spawn(
            Cmd::new("/usr/sbin/sshd").args(["-D", "-e", "-f", "/dev/null"]).args(options),
        )?;
        server.wait_for_line("Server listening on", START)?;
        Ok(server)
    }
}
