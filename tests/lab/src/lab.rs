//! The lab: a switch, a DNS server, hosts; all of it gone when it is dropped, or when its process dies.
//!
//! Must not leave anything behind, whatever way it ends.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::cgroup;
use crate::dns::Dns;
use crate::error::{LabError, Result};
use crate::home::Home;
use crate::host::Host;
use crate::network::{self, Switch};
use crate::spec::HostSpec;
use crate::{mpi, namespace};

/// Hosts that boot at the same time; more only get in each other's way.
const AT_ONCE: usize = 8;

/// A cluster on one machine.
#[derive(Debug)]
pub struct Lab {
    hosts: Mutex<Vec<Host>>,
    site: Arc<Site>,
}

/// What all hosts of a lab share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) switch: Switch,
    pub(crate) dns: Dns,
    /// The machine's directories that every host sees, read-only.
    pub(crate) visible: Vec<PathBuf>,
    // Last, so that it is removed after everything that uses it.
    pub(crate) home: Home,
}

impl Lab {
    /// An empty lab on IPv4.
    pub fn new() -> Result<Self> {
        Self::with_ipv6(false)
    }

    /// An empty lab whose hosts also have an address in fd77::/64.
    pub fn with_ipv6(ipv6: bool) -> Result<Self> {
        namespace::require_root()?;
        let home = Home::new()?;
        let switch = Switch::new(ipv6)?;
        let dns = Dns::start(switch.net())?;
        let site = Site { switch, dns, visible: visible(), home };
        Ok(Self { hosts: Mutex::default(), site: Arc::new(site) })
    }

    pub(crate) fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// The DNS server.
    pub fn dns(&self) -> &Dns {
        &self.site.dns
    }

    /// A directory that every host can write to, at the same path in and outside hosts.
    pub fn shared_dir(&self) -> PathBuf {
        self.site.home.shared()
    }

    /// The lab's own directory: logs of all processes and more. Set `MUSTER_LAB_KEEP` to keep it.
    pub fn dir(&self) -> &Path {
        self.site.home.path()
    }

    /// Adds a host: plugged into the network, not booted.
    pub fn add(&self, spec: HostSpec) -> Result<Host> {
        let name = spec.name.clone();
        self.add_all([spec])?.pop().ok_or(LabError::Down { host: name })
    }

    /// Adds many hosts at once.
    pub fn add_all(&self, specs: impl IntoIterator<Item = HostSpec>) -> Result<Vec<Host>> {
        let specs: Vec<_> = specs.into_iter().collect();
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: HashSet<String> = hosts.iter().map(|host| host.name().to_owned()).collect();
        if let Some(twice) = specs.iter().find(|spec| !names.insert(spec.name.clone())) {
            return Err(LabError::Duplicate { host: twice.name.clone() });
        }
        let first = hosts.len();
        let wanted: Vec<_> = specs
            .iter()
            .enumerate()
            .map(|(offset, spec)| {
                (
                    first + offset,
                    spec.address.unwrap_or_else(|| network::address_of(first + offset)),
                )
            })
            .collect();
        let ports = self.site.switch.plug(&wanted)?;
        let made: Result<Vec<_>> = specs
            .into_iter()
            .zip(ports)
            .zip(first..)
            .map(|((spec, port), index)| {
                self.site.switch.add_interfaces(&port, &spec)?;
                Host::new(Arc::clone(&self.site), spec, index, port)
            })
            .collect();
        let made = made.inspect_err(|_| {
            // The next hosts get the same numbers, and a network namespace takes its devices away only after a while.
            wanted.iter().for_each(|&(index, _)| self.site.switch.forget(index));
        })?;
        hosts.extend(made.iter().cloned());
        Ok(made)
    }

    /// Adds hosts and boots them idle, several at a time.
    pub fn boot_idle(&self, specs: impl IntoIterator<Item = HostSpec>) -> Result<Vec<Host>> {
        let hosts = self.add_all(specs)?;
        each(&hosts, |host| host.boot_idle())?;
        Ok(hosts)
    }

    /// All hosts, in the order they were added.
    pub fn hosts(&self) -> Vec<Host> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Does something with every host, several at a time; the first error wins.
pub fn each<T: Send>(hosts: &[Host], work: impl Fn(&Host) -> Result<T> + Sync) -> Result<Vec<T>> {
    let mut results = Vec::with_capacity(hosts.len());
    for group in
        hosts.chunks(hosts.len().div_ceil(AT_ONCE).max(1)).collect::<Vec<_>>().chunks(AT_ONCE)
    {
        let work = &work;
        let done = thread::scope(|scope| {
            let running: Vec<_> = group
                .iter()
                .map(|part| scope.spawn(move || part.iter().map(work).collect::<Result<Vec<T>>>()))
                .collect();
            running.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        for part in done {
            match part {
                Ok(part) => results.extend(part?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    }
    Ok(results)
}

impl Drop for Lab {
    fn drop(&mut self) {
        let hosts = std::mem::take(self.hosts.get_mut().unwrap_or_else(PoisonError::into_inner));
        for host in &hosts {
            host.kill_soon();
        }
        for host in &hosts {
            // A host that does not die in 20 s is the kernel's to explain; the rest still goes.
            if let Err(error) = host.kill() {
                eprintln!("lab: failed to {error}");
            }
        }
        drop(hosts);
        cgroup::remove_lab(self.site.home.id(), Duration::from_secs(5));
    }
}

/// The checkout, the build directory of the running program, and the MPI installs, whichever exist.
fn visible() -> Vec<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_path_buf);
    let program = std::env::current_exe().ok();
    let build = program.and_then(|path| {
        // cargo marks its build directory with this file.
        let marked = path.ancestors().find(|above| above.join("CACHEDIR.TAG").exists());
        marked.or(path.parent()).map(Path::to_path_buf)
    });
    let mut paths: Vec<PathBuf> = [checkout, build, Some(mpi::cache())]
        .into_iter()
        .flatten()
        .filter(|path| path.exists())
        .collect();
    // The outer ones first, and none twice: a bind of the outer one would cover the inner.
    paths.sort();
    paths.dedup();
    paths
}
