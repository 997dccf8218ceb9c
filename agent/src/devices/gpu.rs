//! GPUs: NVIDIA's as NVML tells in a process of its own, else as the kernel's files tell; AMD's and
//! Intel's from the kernel's files.
//!
//! Must not choose among them; what is here says of each GPU whether it can be used.

use std::collections::BTreeMap;
use std::path::Path;

use muster_nvml::{Answer, Gpu, Level, MAX_ENTRIES, MAX_GPUS, Peer, Vendor, Xid};

use super::host::Roots;
use super::report::{Access, Gpus, RdmaDevice};
use super::{pci, read};
use crate::config::env::Environment;

mod amd;
pub mod helper;
mod intel;
mod nvidia;
mod visible;
mod xid;

pub use nvidia::{NoAnswer, whether_to_ask};

/// What the kernel's files tell, before NVML has answered.
pub(super) struct Seen {
    bus: Vec<pci::Device>,
    nvidia: Vec<Gpu>,
    others: Vec<Gpu>,
    driver: Option<String>,
    xids: BTreeMap<String, Xid>,
}

/// Reads the kernel's files.
pub(super) fn look(roots: &Roots) -> Seen {
    let bus = pci::devices(roots);
    let nvidia = nvidia::gpus(roots, &bus);
    let mut others = amd::gpus(roots, &bus);
    others.extend(intel::gpus(roots, &bus));
    let xids = if nvidia.is_empty() { BTreeMap::new() } else { xid::recent(roots) };
    Seen { bus, nvidia, others, driver: nvidia::driver(roots), xids }
}

/// All GPUs, with what NVML said, or why it said nothing.
pub(super) fn settle(
    seen: Seen,
    nvml: Result<Answer, NoAnswer>,
    env: &Environment,
    rdma: &[RdmaDevice],
) -> Gpus {
    let mut gpus =
        Gpus { driver: seen.driver, variables: visible::variables(env), ..Gpus::default() };
    let nvidia = match nvml {
        Ok(answer) => {
            gpus.nvml = true;
            gpus.driver = answer.driver.or(gpus.driver);
            gpus.cuda = answer.cuda;
            gpus.why_no_nvml = Some(answer.problems.join("; ")).filter(|words| !words.is_empty());
            answer.gpus
        }
        Err(NoAnswer::Blinded(why)) => {
            gpus.why_none = Some(why);
            Vec::new()
        }
        Err(NoAnswer::Nobody) => seen.nvidia,
        Err(NoAnswer::Unable(why)) => {
            // Nothing is missed where there is nothing to ask about: images bring the library along.
            let missed = !seen.nvidia.is_empty() || gpus.driver.is_some();
            gpus.why_no_nvml = Some(why).filter(|_| missed);
            seen.nvidia
        }
        Err(NoAnswer::Failed(why)) => {
            gpus.why_no_nvml = Some(why);
            seen.nvidia
        }
    };
    gpus.devices = nvidia.into_iter().chain(seen.others).collect();
    gpus.devices.truncate(MAX_GPUS);
    for gpu in &mut gpus.devices {
        if let Some(xid) = gpu.pci.as_ref().and_then(|pci| seen.xids.get(pci)) {
            gpu.xid = Some(xid.clone());
        }
    }
    place(&mut gpus.devices, &seen.bus, rdma);
    visible::apply(&mut gpus.devices, env);
    gpus
}

/// What the drivers' own files tell at a glance, without NVML and without the PCI bus: for a rank that
/// starts. Costs next to nothing where there is no driver.
#[must_use]
pub fn at_a_glance(roots: &Roots, env: &Environment) -> Gpus {
    let mut devices = nvidia::gpus(roots, &[]);
    devices.extend(amd::gpus(roots, &[]));
    devices.truncate(MAX_GPUS);
    visible::apply(&mut devices, env);
    Gpus { devices, ..Gpus::default() }
}

/// Fills in NUMA nodes and distances, where the bus tells them.
fn place(gpus: &mut [Gpu], bus: &[pci::Device], rdma: &[RdmaDevice]) {
    let of = |address: Option<&String>| {
        let address = address?;
        bus.iter().map(|device| &device.place).find(|place| place.address.as_ref() == Some(address))
    };
    let nics: Vec<(&str, &pci::Place)> = rdma
        .iter()
        .filter_map(|device| Some((device.name.as_str(), of(device.pci.as_ref())?)))
        .collect();
    let places: Vec<Option<&pci::Place>> = gpus.iter().map(|gpu| of(gpu.pci.as_ref())).collect();
    let known: Vec<(u32, Vendor)> = gpus.iter().map(|gpu| (gpu.index, gpu.vendor)).collect();
    for (at, gpu) in gpus.iter_mut().enumerate() {
        let Some(own) = places[at] else { continue };
        gpu.numa = own.numa.or(gpu.numa);
        let near = |(name, place): &(&str, &pci::Place)| {
            pci::level(own, place).map(|level| ((*name).to_owned(), level))
        };
        gpu.nics = nics.iter().filter_map(near).collect();
        for (other, place) in places.iter().enumerate() {
            let (index, vendor) = known[other];
            if other == at || vendor != gpu.vendor {
                continue;
            }
            let level = place.and_then(|place| pci::level(own, place));
            note_peer(gpu, index, level);
        }
    }
}

/// Adds a distance to a peer, unless the vendor's own word for it is there.
fn note_peer(gpu: &mut Gpu, index: u32, level: Option<Level>) {
    if let Some(peer) = gpu.peers.iter_mut().find(|peer| peer.index == index) {
        peer.level = peer.level.or(level);
    } else if level.is_some() && gpu.peers.len() < MAX_ENTRIES {
        gpu.peers.push(Peer { index, links: 0, level });
        gpu.peers.sort_by_key(|peer| peer.index);
    }
}

/// The number of the render node of a PCI device: its `/dev/dri/renderD*`.
fn render_node(device: &Path) -> Option<u32> {
    let names = read::names(&device.join("drm"));
    names.iter().find_map(|name| name.strip_prefix("renderD")?.parse().ok())
}

/// Why a GPU whose node this is cannot be used.
fn refused(node: &str, access: Access) -> Option<String> {
    match access {
        Access::Open | Access::Unknown => None,
        Access::Absent => {
            Some(format!("/dev/{node} is not in this container: it was not given it"))
        }
        Access::Refused => Some(format!("/dev/{node} does not open for this user")),
    }
}
