//! The hosts of a benchmark: each worker serves muster and OpenSSH in two set-ups, so that contenders take
//! turns on the same hosts.
//!
//! Must not favour anybody: what a contender is given is what its users can have.

use std::time::{Duration, Instant};

use lab::{
    Cmd, FileSpec, Host, HostSpec, Install, KeyKind, KeyPair, Lab, LabError, MpiJob, Output,
};

use crate::at_once::ELAPSED;
use crate::measure::Turn;
use crate::rivals::{DROPBEAR, FAST, STOCK, Ssh};
use crate::{Common, Result, floor, own_path};

/// No turn takes longer, unless it hangs.
const LIMIT: Duration = Duration::from_secs(45);

/// For a host to start, on a busy machine.
const START: Duration = Duration::from_secs(60);

/// How long what a turn left running may take to end.
const SETTLE: Duration = Duration::from_secs(2);

/// Turns of which each may hang before a contender is given up.
const ATTEMPTS: usize = 4;

/// Parts of the command lines of what a hung mpirun leaves on workers.
const DAEMONS: [&str; 4] = ["orted", "prted", "hydra_", " generate "];

/// Options for `muster rsh` that lead to the second worker.
pub(crate) const SECOND_WORKER: &str = "-p 2224 -i /etc/bench/id_rsa";

/// A job's hosts, up and idle.
pub(crate) struct Site {
    /// Their MPI.
    pub(crate) install: Install,
    /// In the order of the hostfile.
    pub(crate) workers: Vec<Host>,
    /// Where contenders run.
    pub(crate) launcher: Host,
    /// Turns that never ended and were repeated.
    pub(crate) hung: std::cell::Cell<usize>,
    muster: String,
    mpirun: &'static str,
    // Last: the hosts end with it.
    lab: Lab,
}

impl Site {
    /// Boots the workers with their servers, and a launcher; these files are on all of them.
    pub(crate) fn up(
        common: &Common,
        install: Install,
        workers: usize,
        slots: usize,
        files: &[FileSpec],
    ) -> Result<Self> {
        install.check()?;
        let muster = common.muster()?;
        let job = MpiJob::new("pi", install, workers)?.slots(slots);
        let key = KeyPair::generate(KeyKind::Ed25519)?;
        let passwd = std::fs::read_to_string("/etc/passwd")? + "fast:x:0:0::/root:/bin/sh\n";
        let both = format!("{}{}", job.key_pair().public, key.public);
        let add = |spec: HostSpec| {
            spec.openssh()
                .files(key.files("/etc/bench", 0o600))
                .file(FileSpec::new("/root/.ssh/authorized_keys", both.as_str()).mode(0o600))
                .file(FileSpec::new("/etc/bench/fast", FAST))
                .file(FileSpec::new("/etc/bench/stock", STOCK))
                .file(FileSpec::new("/etc/passwd", passwd.as_str()))
                .files(files.iter().cloned())
        };
        let lab = Lab::new()?;
        let workers = lab.add_all(job.all_workers().into_iter().map(add))?;
        lab::each(&workers, |host| {
            let server = host.boot(Cmd::new(muster.as_str()).arg("worker"))?;
            server.wait_for_line("READY", START)?;
            Ssh::Fast.server().start(host)?;
            Ssh::Stock.server().start(host)?;
            host.publish()
        })?;
        let launcher = lab.boot_idle([add(job.launcher())])?.remove(0);
        launcher.publish()?;
        // Shorter hostfiles, for fewer hosts.
        let heads = "for n in $(seq $(wc -l </etc/mpi/hostfile)); do
            head -n $n /etc/mpi/hostfile >/etc/bench/hostfile-$n; done";
        launcher.run(Cmd::sh(heads), START)?;
        // The launcher's dbclient reads the key in dropbear's own format.
        launcher.run(Cmd::sh(DROPBEAR.lines().next().unwrap_or_default()), START)?;
        Ok(Self { install, workers, launcher, hung: 0.into(), muster, mpirun: "mpirun", lab })
    }

    /// Has [`Site::mpirun`] call this instead of the mpirun on PATH.
    pub(crate) fn with_mpirun(mut self, mpirun: &'static str) -> Self {
        self.mpirun = mpirun;
        self
    }

    /// Starts dropbear on every worker, on port 2023 with the same key as the fastest OpenSSH.
    pub(crate) fn start_dropbear(&self) -> Result<()> {
        lab::each(&self.workers, |host| {
            host.spawn(Cmd::sh(DROPBEAR))?.wait_for_line("Not backgrounding", START)
        })?;
        Ok(())
    }

    /// Starts the server of [`floor`] on every worker, and puts its agent everywhere.
    pub(crate) fn start_floor(&self) -> Result<()> {
        let link = format!("ln -s {} /etc/bench/{}", own_path(), floor::AGENT);
        self.launcher.run(Cmd::sh(&link), START)?;
        let dir = self.lab.shared_dir();
        lab::each(&self.workers, |host| {
            host.run(Cmd::sh(&link), START)?;
            // A remote shell starts in the home directory; with Intel MPI, workers start others.
            let serve = Cmd::new(own_path()).arg("floor-serve").arg(dir.display().to_string());
            let serve = serve.cwd("/root").env(floor::SOCKETS, dir.display().to_string());
            host.spawn(serve)?.wait_for_line("READY", START)
        })?;
        Ok(())
    }

    /// `$MPIRUN` with the agent of [`floor`].
    pub(crate) fn mpirun_on_floor(&self, line: &str) -> Cmd {
        let agent = format!("/etc/bench/{}", floor::AGENT);
        self.mpirun(&agent, "-o ConnectionAttempts=10", line)
    }

    /// The command with a hostfile of the first workers only.
    pub(crate) fn on_first(&self, hosts: usize, cmd: Cmd) -> Cmd {
        let names = [
            "OMPI_MCA_orte_default_hostfile",
            "PRTE_MCA_prte_default_hostfile",
            "HYDRA_HOST_FILE",
            "I_MPI_HYDRA_HOST_FILE",
        ];
        cmd.envs(names.map(|name| (name, format!("/etc/bench/hostfile-{hosts}"))))
    }

    /// Starts a second `muster worker` on every worker, with the same key as the fastest OpenSSH.
    pub(crate) fn start_second_worker(&self) -> Result<()> {
        let muster = self.muster.as_str();
        lab::each(&self.workers, |host| {
            let words = ["worker", "--port", "2224", "--key-dir", "/etc/bench"];
            host.spawn(Cmd::new(muster).args(words))?.wait_for_line("READY", START)
        })?;
        Ok(())
    }

    /// The DNS server that all of them ask.
    pub(crate) fn dns(&self) -> &lab::dns::Dns {
        self.lab.dns()
    }

    /// A shell's line for [`Site::turn`]; `$MUSTER` and `$BENCH` are the two binaries.
    pub(crate) fn line(&self, line: &str) -> Cmd {
        self.with_names(Cmd::new(own_path()).args(["at-once", "--", "sh", "-c", line]))
    }

    /// The same for a line that tells its time itself.
    pub(crate) fn bare(&self, line: &str) -> Cmd {
        self.with_names(Cmd::sh(line))
    }

    fn with_names(&self, cmd: Cmd) -> Cmd {
        cmd.env("MUSTER", &self.muster)
            .env("BENCH", own_path())
            .env(floor::SOCKETS, self.lab.shared_dir().display().to_string())
    }

    /// The same, with `$MPIRUN` that uses this agent, with options for it.
    pub(crate) fn mpirun(&self, agent: &str, options: &str, line: &str) -> Cmd {
        let cmd = self.line(line).env("MPIRUN", self.mpirun);
        match self.install {
            Install::OpenMpi4 => {
                cmd.env("OMPI_MCA_plm_rsh_agent", agent).env("OMPI_MCA_plm_rsh_args", options)
            }
            Install::OpenMpi5 => cmd
                .env("PRTE_MCA_plm_ssh_agent", agent)
                .env("PRTE_MCA_plm_ssh_args", options)
                .env("PRTE_MCA_prte_default_hostfile", "/etc/mpi/hostfile")
                .env("MPIRUN", format!("{} --bind-to none", self.mpirun)),
            Install::Mpich4 | Install::Mpich5 => cmd
                .env("HYDRA_LAUNCHER_EXEC", agent)
                .env("HYDRA_LAUNCHER_EXTRA_ARGS", options)
                .env("HYDRA_IFACE", "eth0"),
            Install::IntelMpi => cmd
                .env("I_MPI_HYDRA_BOOTSTRAP_EXEC", agent)
                .env("I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS", options)
                .env("I_MPI_HYDRA_IFACE", "eth0")
                // Beyond 16 hosts workers would start others, to which they have no way.
                .env("I_MPI_HYDRA_BRANCH_COUNT", "0"),
        }
    }

    /// Runs a command that ends with [`ELAPSED`] on the launcher. One that hangs, as some MPIs do now and
    /// then, is ended and tried again.
    pub(crate) fn turn(&self, cmd: &Cmd) -> Result<(Turn, Output)> {
        let turn = self.try_turn(cmd, LIMIT, ATTEMPTS)?;
        turn.ok_or_else(|| format!("{cmd:?}: hung {ATTEMPTS} times").into())
    }

    /// The same; none where it takes longer than `limit` in each of the attempts.
    pub(crate) fn try_turn(
        &self,
        cmd: &Cmd,
        limit: Duration,
        attempts: usize,
    ) -> Result<Option<(Turn, Output)>> {
        for _ in 0..attempts {
            let before = self.cpu()?;
            match self.launcher.run(cmd.clone(), limit) {
                Ok(output) => {
                    let wall =
                        output.stderr.lines().rev().find_map(|line| line.strip_prefix(ELAPSED));
                    let (Some(wall), true) = (wall, output.success()) else {
                        return Err(format!("{cmd:?}: {output:?}").into());
                    };
                    let cpu = (self.settled()? - before).as_secs_f64();
                    return Ok(Some((Turn { wall: wall.parse()?, cpu }, output)));
                }
                Err(LabError::Deadline { .. }) => {
                    self.hung.set(self.hung.get() + 1);
                    for host in self.workers.iter().chain([&self.launcher]) {
                        for part in DAEMONS {
                            host.kill_matching(part, lab::Signal::SIGKILL);
                        }
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// CPU time of all hosts so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let hosts = self.workers.iter().chain([&self.launcher]);
        hosts.map(Host::cpu_time).sum::<Option<_>>().ok_or_else(|| "no CPU accounting here".into())
    }

    /// The same when servers have done with what has just ended: the kernel tells nobody, so this looks.
    fn settled(&self) -> Result<Duration> {
        let until = Instant::now() + SETTLE;
        let mut last = self.cpu()?;
        loop {
            std::thread::sleep(Duration::from_millis(30));
            let now = self.cpu()?;
            if now - last < Duration::from_millis(1) || Instant::now() > until {
                return Ok(now);
            }
            last = now;
        }
    }
}
