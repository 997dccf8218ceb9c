//! What a worker says of its host to a launcher.
//!
//! Must not guess: what cannot be found out is said to be unknown.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::env::Environment;
use crate::config::variables::POD_NAME;
use crate::devices::host::{Roots, cpus};
use crate::devices::mca_params;
use crate::devices::mpirun;
use crate::devices::own::own_host;
use crate::devices::report::Report;
use crate::devices::units::Units;
use crate::fabric;
use crate::plan::slots;
use crate::ssh::control::Hello;

/// Bytes of a variable that a hello tells.
const LONGEST: usize = 4096;

/// A worker's hello, but for its clock, its devices and what follows from these. Asks the mpirun on PATH
/// who it is, so it may take a moment.
#[must_use]
pub fn hello(env: &Environment) -> Hello {
    let roots = Roots::default();
    let mpi = mpirun::found(env.get("PATH").map(AsRef::as_ref));
    let network = network(env, mpi.as_ref().map(|mpi| Path::new(&mpi.path)));
    let cpus = cpus(&roots).map(|cpus| cpus.count);
    let (slots, slots_from) = slots::offered(None, cpus);
    Hello {
        version: crate::VERSION.to_owned(),
        hostname: own_host().hostname,
        pod: env.non_empty(POD_NAME).map(str::to_owned),
        muster: std::env::current_exe().ok().and_then(|path| path.to_str().map(str::to_owned)),
        mpi,
        cpus: cpus.unwrap_or(1.0),
        slots,
        slots_from,
        clock: None,
        network,
        devices: None,
    }
}

/// The hello with the devices of this host, and the slots that they make.
#[must_use]
pub fn complete(hello: &Hello, devices: Option<Report>) -> Hello {
    let mut hello = hello.clone();
    let gpus = devices.as_ref().and_then(Units::of).and_then(|units| units.counted());
    if gpus.is_some() {
        (hello.slots, hello.slots_from) = slots::offered(gpus, None);
    }
    hello.devices = devices.map(|report| Report { mpi: hello.mpi.clone(), ..report });
    hello
}

/// What this environment, or a file of Open MPI's, sets of all that concerns networks: ranks that are
/// started here will have it.
fn network(env: &Environment, mpirun: Option<&Path>) -> BTreeMap<String, String> {
    let files = mca_params::interfaces(mpirun, env.non_empty("HOME").map(Path::new));
    let set = |name: &&str| {
        let value = env.get(name).or_else(|| files.get(*name).map(String::as_str))?;
        Some(((*name).to_owned(), value.to_owned()))
    };
    let short = |(_, value): &(String, String)| value.len() <= LONGEST;
    fabric::NAMES.iter().filter_map(set).filter(short).collect()
}
