//! What a host says of itself: its name and addresses, and a worker's hello.
//!
//! Must not guess: what cannot be found out is said to be unknown.

use super::host::{Roots, cpus, hostname, memory};
use super::{mpirun, net};
use crate::config::env::Environment;
use crate::plan::slots;
use crate::readiness::wait::OwnHost;
use crate::ssh::control::{Hello, MpiFound};

/// What tells this machine from others in a list of hosts.
#[must_use]
pub fn own_host() -> OwnHost {
    let addresses = net::addresses().unwrap_or_default();
    OwnHost {
        hostname: hostname(&Roots::default()).unwrap_or_else(|| "localhost".into()),
        addresses: addresses
            .into_iter()
            .filter(|address| !address.loopback)
            .map(|address| address.ip)
            .collect(),
    }
}

/// A worker's hello. Asks the mpirun on PATH who it is, so it may take a moment.
#[must_use]
pub fn hello(env: &Environment) -> Hello {
    let roots = Roots::default();
    let mpi = mpirun::find(None, env.get("PATH").map(AsRef::as_ref))
        .and_then(|path| mpirun::identify(&path))
        .inspect_err(|error| tracing::debug!(%error, "no MPI"))
        .ok()
        .map(|found| MpiFound {
            family: found.family,
            version: found.version,
            path: found.path.display().to_string(),
        });
    let cpus = cpus(&roots).map(|cpus| cpus.count);
    let (slots, slots_from) = slots::decide(None, None, cpus);
    Hello {
        version: crate::cli::VERSION.to_owned(),
        hostname: own_host().hostname,
        mpi,
        cpus: cpus.unwrap_or(1.0),
        memory_limit: memory(&roots).limit,
        slots,
        slots_from,
    }
}
