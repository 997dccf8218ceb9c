//! What the black-box tests share: the binary, and a job whose hosts all run muster.
//!
//! Must not look inside muster; it is run as an image would run it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lab::{Cmd, Host, HostSpec, Lab, MpiJob, Proc};

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
        let up = || -> Result<Self, lab::LabError> {
            let lab = Lab::new()?;
            let specs = job.all_workers().into_iter().map(&change);
            let workers = lab.add_all(specs)?;
            let mut servers = Vec::with_capacity(workers.len());
            for worker in &workers {
                servers.push(worker.boot(run_muster(["worker"]))?);
            }
            for (worker, server) in workers.iter().zip(&servers) {
                server.wait_for_line("READY", LONG)?;
                worker.publish()?;
            }
            let launcher = lab.boot_idle([change(job.launcher())])?.remove(0);
            launcher.publish()?;
            Ok(Self { lab, workers, launcher, servers })
        };
        match up() {
            Ok(cluster) => cluster,
            Err(error) => panic!("the lab did not come up: {error}"),
        }
    }
}
