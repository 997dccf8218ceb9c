//! What the black-box tests share: the binary, and a job whose hosts all run muster.
//!
//! Must not look inside muster; it is run as an image would run it.

#![expect(clippy::panic, reason = "a fixture fails its test by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lab::openssh::Sshd;
use lab::{
    Cmd, Host, HostSpec, KeyKind, KeyPair, Lab, LabError, MpiJob, Output, Proc, ProcessInfo,
};

/// Longer than any of these steps takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// The static binary: `$MUSTER_BIN`, else the release build.
///
/// # Panics
/// Where it was not built.
#[must_use]
pub fn muster() -> PathBuf {
    let default =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../target/x86_64-unknown-linux-musl/release/muster");
    let path = std::env::var_os("MUSTER_BIN").map_or_else(|| PathBuf::from(default), PathBuf::from);
    match path.canonicalize() {
        Ok(path) => path,
        Err(error) => panic!("{}: {error}\nhint: run tests/run, which builds it", path.display()),
    }
}

/// `muster` with these arguments.
#[must_use]
pub fn run_muster<const N: usize>(arguments: [&str; N]) -> Cmd {
    Cmd::new(muster().display().to_string()).args(arguments)
}

/// Compiles the stub of NVML (`programs/nvml_stub.c`) into a directory, where the loader looks for the library.
///
/// # Panics
/// Where it does not compile.
pub fn compile_nvml_stub(home: &Path, flags: &[&str]) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/nvml_stub.c");
    let library = home.join("libnvidia-ml.so.1");
    let strict = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"];
    let mut gcc = Command::new("gcc");
    match gcc.args(strict).arg(library).arg(source).args(flags).output() {
        Ok(compiled) => assert!(compiled.status.success(), "{compiled:?}"),
        Err(error) => panic!("gcc: {error}"),
    }
}

/// A lab in which every worker of a job runs `muster worker` as PID 1.
pub struct Cluster {
    /// The network and its DNS.
    pub lab: Lab,
    /// In the order of the hostfile.
    pub workers: Vec<Host>,
    /// Idle, with the operator's environment.
    pub launcher: Host,
    /// The workers' PID 1.
    pub servers: Vec<Arc<Proc>>,
}

impl Cluster {
    /// Boots the job's workers and its launcher, and waits until all are ready and named.
    ///
    /// # Panics
    /// Where the lab does not come up.
    #[must_use]
    pub fn start(job: &MpiJob) -> Self {
        Self::start_with(job, |spec| spec)
    }

    /// The same, with each host changed by `change`.
    ///
    /// # Panics
    /// Where the lab does not come up.
    #[must_use]
    pub fn start_with(job: &MpiJob, change: impl Fn(HostSpec) -> HostSpec) -> Self {
        let workers = job.all_workers().into_iter().map(&change).collect();
        Self::of(workers, change(job.launcher()))
    }

    /// A cluster of these hosts.
    ///
    /// # Panics
    /// Where the lab does not come up.
    #[must_use]
    pub fn of(workers: Vec<HostSpec>, launcher: HostSpec) -> Self {
        let up = || -> Result<Self, LabError> {
            let lab = Lab::new()?;
            let workers = lab.add_all(workers)?;
            let mut servers = Vec::with_capacity(workers.len());
            for worker in &workers {
                servers.push(worker.boot(run_muster(["worker"]))?);
            }
            for (worker, server) in workers.iter().zip(&servers) {
                server.wait_for_line("READY", LONG)?;
                worker.publish()?;
            }
            let launcher = lab.boot_idle([launcher])?.remove(0);
            launcher.publish()?;
            Ok(Self { lab, workers, launcher, servers })
        };
        match up() {
            Ok(cluster) => cluster,
            Err(error) => panic!("the lab did not come up: {error}"),
        }
    }
}

/// A job whose workers run the real sshd: its lab, its workers and its launcher, whose name is not in DNS yet.
///
/// # Panics
/// Where the lab does not come up.
#[must_use]
pub fn over_sshd(job: &MpiJob) -> (Lab, Vec<Host>, Host) {
    let up = || -> Result<_, LabError> {
        let lab = Lab::new()?;
        let workers = lab.boot_idle(job.all_workers().into_iter().map(HostSpec::openssh))?;
        lab::each(&workers, |host| {
            host.publish()?;
            Sshd::new().port(2222).start(host)
        })?;
        let launcher = lab.boot_idle([job.launcher()])?.remove(0);
        Ok((lab, workers, launcher))
    };
    up().unwrap_or_else(|error| panic!("the lab did not come up: {error}"))
}

/// Ranks by the short name of the host that they say they run on, from what `ranks` prints.
///
/// # Panics
/// Where a rank is missing or there twice.
#[must_use]
pub fn ranks_by_host(stdout: &str, size: usize) -> BTreeMap<String, Vec<usize>> {
    let mut hosts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for line in stdout.lines().filter(|line| line.contains(&format!(" of {size} on "))) {
        let mut words = line.split_whitespace().skip_while(|word| *word != "rank").skip(1);
        let rank = words.next().and_then(|word| word.parse().ok());
        let host = words.last().and_then(|word| word.split('.').next());
        match (rank, host) {
            (Some(rank), Some(host)) => hosts.entry(host.to_owned()).or_default().push(rank),
            _ => panic!("no rank and host in {line:?}"),
        }
    }
    let mut all: Vec<usize> = hosts.values().flatten().copied().collect();
    all.sort_unstable();
    assert_eq!(all, (0..size).collect::<Vec<_>>(), "each rank once:\n{stdout}");
    hosts
}

/// Whether these processes of a host are its own, PID 1 and the worker below it, and none is a job's.
#[must_use]
pub fn nothing_of_a_job(found: &[ProcessInfo]) -> bool {
    found.iter().all(|info| info.pid == 1 || info.cmdline.ends_with("muster worker"))
}

/// A worker that nobody has launched anything on, and a host with OpenSSH from which to reach it.
pub struct Pair {
    /// The network and its DNS.
    pub lab: Lab,
    /// Idle, with the job's key, named `client`.
    pub client: Host,
    /// Runs `muster worker`; other hosts know it as `w0.pi`.
    pub worker: Host,
    /// The worker's PID 1.
    pub server: Arc<Proc>,
}

/// The name of the worker of a [`Pair`].
pub const WORKER: &str = "w0.pi";

impl Pair {
    /// Boots both with a new key of this kind, and waits until the worker is ready.
    ///
    /// # Panics
    /// Where the lab does not come up.
    #[must_use]
    pub fn start(kind: KeyKind) -> Self {
        let up = || -> Result<Self, lab::LabError> {
            let key = KeyPair::generate(kind)?;
            let spec = |name: &str| {
                let domain = "pi.default.svc.cluster.local";
                HostSpec::new(name).domain(domain).files(key.files("/root/.ssh", 0o600))
            };
            let lab = Lab::new()?;
            let client = lab.boot_idle([spec("client").openssh()])?.remove(0);
            let worker = lab.add(spec("w0"))?;
            let server = worker.boot(run_muster(["worker"]))?;
            server.wait_for_line("READY", LONG)?;
            worker.publish()?;
            Ok(Self { lab, client, worker, server })
        };
        match up() {
            Ok(pair) => pair,
            Err(error) => panic!("the lab did not come up: {error}"),
        }
    }

    /// Runs a shell line on the client, in which `ssh` and `rsh` reach the worker by the first word
    /// of their arguments that is no option.
    ///
    /// # Panics
    /// Where it does not end in time.
    #[must_use]
    pub fn sh(&self, line: &str) -> Output {
        match self.client.run(self.line(line), LONG) {
            Ok(output) => output,
            Err(error) => panic!("{error}"),
        }
    }

    /// The command of [`Pair::sh`].
    #[must_use]
    pub fn line(&self, line: &str) -> Cmd {
        let client = lab::openssh::CLIENT.join(" ");
        let muster = muster().display().to_string();
        Cmd::sh(format!(
            "ssh() {{ command ssh {client} -p 2222 \"$@\"; }}\n\
             rsh() {{ {muster} rsh \"$@\"; }}\nw={WORKER}\n{line}"
        ))
    }
}
